"""Grades of nodules by weights from a file."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from config.catalogue import Entry, find_entry
from inference.chain import build_part
from inference.device import choose_device
from inference.errors import ModelRefused
from inference.features import NAMES
from inference.findings import MaskCrop, Nodule
from inference.grade import FeatureGrader, texture_of
from inference.measure import measure_nodule
from inference.scoring import TARGETS, Linear, Score, to_arrays
from tests.unit.inference.balls import all_lung, chest

N = len(NAMES)


def on(feature: str, centre: float, slope: float, threshold: float = 0.5) -> Score:
    """A score that grows with one feature."""
    place = NAMES.index(feature)
    middle = np.zeros(N)
    middle[place] = centre
    return Score(0.0, Linear(middle, np.ones(N), np.eye(N)[place] * slope), None, 1.0, 0.0, threshold)


SCORES = {
    "malignancy": on("diameter", float(np.log(10)), 3.0),
    "not_solid": on("hu_median", -300.0, -1.0),
    "non_solid": on("hu_p90", -300.0, -1.0),
    "spiculation": on("rim_sd", 100.0, 0.1),
    "lobulation": on("lobes", 0.05, 1.0),
    "calcified": on("calcium_share", 0.3, 10.0),
}


def grader(folder: Path) -> FeatureGrader:
    assert set(SCORES) == set(TARGETS)
    save_file(dict(to_arrays(SCORES)), folder / "grade-made.safetensors")
    return FeatureGrader(entry(folder))


def entry(folder: Path) -> Entry:
    file = folder / "grade-made.safetensors"
    return Entry(
        name="grade-made", version="1.0", task="grader", kind="features", licence="Apache-2.0", validation="demonstration",
        text="Made by a test.", sha256=hashlib.sha256(file.read_bytes()).hexdigest(), weights=file.name, folder=folder,
    )  # fmt: skip


def nodules(*balls: tuple[float, float]) -> tuple[object, list[Nodule]]:
    """A chest with balls of (diameter mm, HU) in the right lung, each with its own outline."""
    centres = [(70.0, 84.0, 40.0 + 28 * n) for n in range(len(balls))]
    volume = chest([(centre, *ball) for centre, ball in zip(centres, balls, strict=True)], noise_hu=0)
    found = []
    for number, (centre, (diameter_mm, _)) in enumerate(zip(centres, balls, strict=True), start=1):
        z, y, x = np.ogrid[: volume.hu.shape[0], : volume.hu.shape[1], : volume.hu.shape[2]]
        distance = np.sqrt((x * 1.5 - centre[0]) ** 2 + (y * 1.5 - centre[1]) ** 2 + (z * 2.0 - centre[2]) ** 2)
        places = np.argwhere(distance < diameter_mm / 2)
        low, high = places.min(axis=0), places.max(axis=0) + 1
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        k, j, i = (int(at) for at in low)
        mask = MaskCrop((k, j, i), (distance < diameter_mm / 2)[box])
        found.append(measure_nodule(volume, mask, number, all_lung(volume)))
    return volume, found


def silent(stage: str, done: int, total: int) -> None:
    """Nobody watches."""


def test_grades_are_filled_in_and_nothing_else_is_changed(tmp_path: Path) -> None:
    volume, found = nodules((16.0, 30.0), (8.0, -600.0), (8.0, 600.0))
    large, faint, bright = grader(tmp_path).grade(volume, found, silent)  # type: ignore[arg-type]
    assert large.malignancy is not None
    assert faint.malignancy is not None
    assert large.malignancy > 0.5 > faint.malignancy
    assert [n.texture for n in (large, faint, bright)] == ["solid", "non-solid", "solid"]
    assert [n.calcified for n in (large, faint, bright)] == [False, False, True]
    grades = ("malignancy", "texture", "spiculation", "lobulation", "calcified", "grounds")
    for before, after in zip(found, (large, faint, bright), strict=True):
        assert dataclasses.replace(after, **{name: getattr(before, name) for name in grades}) == before
        for name in ("malignancy", "spiculation", "lobulation"):
            value = getattr(after, name)
            assert 0 <= value <= 1
            assert value == round(value, 3)


def test_a_nodule_too_small_to_measure_keeps_its_empty_grades(tmp_path: Path) -> None:
    """Never a guess."""
    volume, found = nodules((3.5, 30.0), (12.0, 30.0))
    tiny, large = grader(tmp_path).grade(volume, found, silent)  # type: ignore[arg-type]
    assert tiny == found[0]
    assert tiny.malignancy is tiny.texture is tiny.calcified is None
    assert large.texture == "solid"


def test_the_same_nodule_gets_the_same_grades_whatever_lies_beside_it(tmp_path: Path) -> None:
    volume, found = nodules((10.0, 30.0), (12.0, -500.0))
    part = grader(tmp_path)
    assert part.grade(volume, found, silent)[1] == part.grade(volume, found[1:], silent)[0]  # type: ignore[arg-type]
    assert part.grade(volume, [], silent) == []  # type: ignore[arg-type]


def test_two_calls_make_one_word() -> None:
    assert [texture_of(*calls) for calls in ((False, False), (True, False), (True, True), (False, True))] == [
        "solid", "part-solid", "non-solid", "non-solid",
    ]  # fmt: skip


def test_other_weights_than_the_catalogue_s_are_refused(tmp_path: Path) -> None:
    grader(tmp_path)
    known = entry(tmp_path)
    save_file(dict(to_arrays(SCORES | {"malignancy": SCORES["calcified"]})), tmp_path / "grade-made.safetensors")
    with pytest.raises(ModelRefused, match="grade-made"):
        FeatureGrader(known)


def test_the_grounds_of_a_grade_add_up_to_its_score(tmp_path: Path) -> None:
    volume, found = nodules((16.0, 30.0))
    (nodule,) = grader(tmp_path).grade(volume, found, silent)  # type: ignore[arg-type]
    assert [ground.grade for ground in nodule.grounds] == list(SCORES)
    for ground in nodule.grounds:
        odds = ground.base + sum(part for _, _, part in ground.parts) + ground.rest
        assert 1 / (1 + np.exp(-odds)) == pytest.approx(ground.score, abs=0.002)
    (feature, value, part), *_ = nodule.grounds[0].parts
    assert (feature, value) == ("diameter", pytest.approx(np.log(16), abs=0.1))
    assert part > 0
    assert nodule.grounds[0].score == nodule.malignancy


def test_the_shipped_grader_grades_a_large_ball_higher_than_a_small_one_and_calcium_as_calcium() -> None:
    """Loaded as a chain loads it, after its digest."""
    part = build_part(find_entry("grade-features", "grader"), choose_device("cpu"))
    volume, found = nodules((22.0, 30.0), (7.0, 30.0), (7.0, 700.0))
    large, small, dense = part.grade(volume, found, silent)
    assert large.malignancy > small.malignancy
    assert (large.calcified, dense.calcified) == (False, True)
    assert large.texture == dense.texture == "solid"
