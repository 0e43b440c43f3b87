"""Scans with nodules or disease put into them: what lies where, and what stays as it was."""

from functools import cache

import numpy as np

from config.catalogue import find_entry
from inference.lungs import AirLungs, Lungs
from inference.phantom import chest_phantom
from inference.training.drawn import drawn_nodule
from inference.training.planted_scans import ill_scan, plant_scan
from inference.training.scans import Scan
from inference.volume import Volume


@cache
def scan() -> tuple[Scan, Lungs]:
    chest = chest_phantom(spacing_mm=(3.0, 1.6, 1.6), shape=(100, 240, 240))
    uids = tuple(f"1.2.3.{k + 1}" for k in range(len(chest.hu)))
    volume = Volume(chest.hu, chest.affine, "1.2.3", "CT", uids, thickness_mm=3.0)
    return Scan("made", "P-1", volume, (), True), AirLungs(find_entry("lungs-air", "lungs")).segment(volume)


def test_what_is_planted_lies_in_the_lungs_and_is_the_truth() -> None:
    there, lungs = scan()
    shapes = [drawn_nodule(np.random.default_rng(n), 10.0) for n in range(3)]
    after, planted = plant_scan(there, lungs, shapes, 3, np.random.default_rng(1))
    assert len(planted) == 3
    assert {p.place for p in planted} <= {"anywhere", "pleura", "vessel"}
    for truth in after.truth:
        assert truth.counts
        k, j, i = np.rint(np.linalg.inv(there.volume.affine) @ [*truth.centre_lps_mm, 1])[:3].astype(int)
        assert lungs.labels[k - 1 : k + 2, j - 4 : j + 5, i - 4 : i + 5].any()
    assert (after.volume.hu != there.volume.hu).mean() < 0.01


def test_disease_lies_in_the_lungs_alone_and_marks_nothing() -> None:
    there, lungs = scan()
    ill = ill_scan(there, lungs, np.random.default_rng(1))
    inside, before, after = lungs.labels > 0, there.volume.hu.astype(int), ill.volume.hu.astype(int)
    brighter = after > before + 150
    assert 0.02 < brighter[inside].mean() < 0.5
    assert brighter[~inside].sum() < 0.05 * brighter.sum()
    assert np.abs(after - before)[before > 300].max() <= 1  # bone is in front of it
    assert ill.truth == there.truth
    again = ill_scan(there, lungs, np.random.default_rng(1))
    assert np.array_equal(again.volume.hu, ill.volume.hu)
