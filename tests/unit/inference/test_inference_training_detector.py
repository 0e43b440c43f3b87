"""The detector's training: who is held out reaches nothing, a stopped training goes on, what planting puts where."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from config.catalogue import Entry, find_entry
from inference.nodule_net import network_of
from inference.training import places
from inference.training.augment import NoiseBank, augmented, thick
from inference.training.crops import load_cubes, load_native
from inference.training.detector import fold_patients, looking_entry, train
from inference.training.drawn import drawn_distractor, drawn_nodule, drawn_opacity, reader_diameters_mm
from inference.training.patch_sampler import load_sampler
from inference.training.patients import read_patients
from inference.training.places import Places, kept_from, load_places, made_from, save_places
from inference.training.plan import Plan
from inference.training.planting import Shape, centred, plant, resized, shape_of
from tests.made_data import write_nodules

OUT = "P-6"
ENTRY = find_entry("nodule-net", "detector")
TABLE = "patient,diam_mm_mean\nP-0,8.0\nP-6,77.0\nP-9,5.0\n"


def places_of(patient: str, complete: bool = True) -> Places:
    """Lung with noise, and balls where there is something."""
    draw = np.random.default_rng(2)

    def views(count: int, ball_hu: float) -> tuple[np.ndarray, np.ndarray]:
        found = []
        for size, mm in ((40, 1.0), (26, 3.0)):
            at = (np.arange(size) - (size - 1) / 2) * mm
            z, y, x = np.meshgrid(at, at, at, indexing="ij")
            hu = np.where(z**2 + y**2 + x**2 < 5**2, ball_hu, -850) + draw.normal(0, 20, (count, size, size, size))
            found.append(hu.astype(np.int16))
        return found[0], found[1]

    return Places("name", patient, complete, 20.0, views(2, 40), views(6, -800), views(6, -850))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder: crops, sizes, and two scans whose places were found before; one of them is of the patient held out."""
    folder = tmp_path / "data"
    write_nodules(folder)
    (folder / "tables").mkdir()
    (folder / "tables" / "lidc_clusters.csv").write_text(TABLE)
    for name, patient in (("one", "P-1"), ("other", OUT)):
        (folder / "ct" / name).mkdir(parents=True)
        (folder / "ct" / name / "truth.json").write_text(json.dumps({"patient_id": patient, "nodules": []}))
        (tmp_path / "cache").mkdir(exist_ok=True)
        made = made_from(ENTRY, folder / "ct" / name)
        save_places(tmp_path / "cache" / f"{name}.npz", places_of(patient), made)
    return folder


def silent(line: str) -> None:
    """Nobody listens."""


def plan(data: Path, output: Path, **more: object) -> Plan:
    recipe = {"cache": str(data.parent / "cache"), "steps": 2, **more.pop("recipe", {})}  # type: ignore[dict-item]
    return Plan("detector", data, output, more.pop("minutes_max", None), 3, recipe=recipe, **more)  # type: ignore[arg-type]


def test_nothing_of_a_patient_held_out_reaches_the_sampler(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.training.patch_sampler.DRAWN", 4)
    monkeypatch.setattr("inference.training.patch_sampler.DISTRACTORS", 2)
    assert OUT in load_sampler(data, (), data.parent / "cache", ENTRY, 1, silent).patients
    (data.parent / "cache" / "other.npz").write_bytes(b"poison: opening this fails")
    with pytest.raises(ValueError, match=r"pickled|npz|npy"):
        load_sampler(data, (), data.parent / "cache", ENTRY, 1, silent)
    sampler = load_sampler(data, {OUT.lower()}, data.parent / "cache", ENTRY, 1, silent)
    assert OUT not in sampler.patients
    assert [p.patient for p in sampler.places] == ["P-1"]
    assert OUT not in {s.patient for s in (*sampler.shapes, *sampler.resized, *sampler.drawn)}
    assert max(reader_diameters_mm(data, {OUT})) < 10


@dataclass(frozen=True)
class MadeScan:
    """What is asked of a scan whose places are found by a test."""

    name: str
    truth: tuple[str, ...] = ("a nodule",)
    volume: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(spacing_mm=(1.0, 1.0, 1.0)))


def test_kept_places_are_used_while_they_are_those_that_would_be_found(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another filter, another truth, and a file that does not say what it was made from: nothing stale is ever used."""
    found: list[str] = []

    def find(scan: MadeScan, entry: Entry) -> Places:
        found.append(f"{scan.name} {entry.number('places_max'):g}")
        return places_of("P-1")

    monkeypatch.setattr(places, "load_scan", lambda folder: MadeScan(folder.name))
    monkeypatch.setattr(places, "find_places", find)
    cache, said = data.parent / "cache", []

    def load(entry: Entry = ENTRY) -> list[str]:
        found.clear()
        said.clear()
        assert len(load_places(data, (), cache, entry, said.append)) == 2
        return [*found]

    assert load() == []
    other = looking_entry({"entry": "of-a-site", "places_max": 20})
    assert load(other) == ["one 20", "other 20"]
    assert "made otherwise" in said[0]
    assert load(other) == []
    assert load() == ["one 200", "other 200"]
    (data / "ct" / "one" / "truth.json").write_text(json.dumps({"patient_id": "P-1", "nodules": [], "more": 1}))
    assert load() == ["one 200"]
    with np.load(cache / "other.npz") as held:
        np.savez(cache / "other.npz", **{name: held[name] for name in held if name != "made"})
    assert kept_from(cache / "other.npz") == ""
    assert load() == ["other 200"]
    (cache / "other.npz").unlink()
    assert load() == ["other 200"]
    assert said == ["places of other"]


def test_a_training_looks_at_the_places_of_the_detector_that_it_makes_weights_for(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Entry] = []

    def sampler(data: Path, held_out: object, cache: Path, entry: Entry, *rest: object) -> None:
        asked.append(entry)
        raise InterruptedError

    monkeypatch.setattr("inference.training.detector.load_sampler", sampler)
    for recipe in ({}, {"entry": "of-a-site"}, {"scales_mm": [1.5, 2.2], "faint_max": 7}):
        with pytest.raises(InterruptedError):
            train(plan(data, tmp_path, recipe=recipe), silent)
    assert asked[0] == asked[1] == ENTRY
    assert (asked[2].numbers("scales_mm"), asked[2].number("faint_max")) == ((1.5, 2.2), 7)
    assert asked[2].number("places_max") == ENTRY.number("places_max")


def test_a_fold_is_all_its_patients_and_the_nameless_fold_those_without_crops(data: Path, tmp_path: Path) -> None:
    (data / "ct" / "third").mkdir()
    (data / "ct" / "third" / "truth.json").write_text(json.dumps({"patient_id": "Q-1", "nodules": []}))
    of = {fold: fold_patients(plan(data, tmp_path, fold=fold, folds="fold")) for fold in (1, 5, None)}
    assert of[1] == {f"P-{n}" for n in range(1, 40, 5)}
    assert of[5] == {"Q-1"}
    assert of[None] == frozenset()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little of everything, so that two steps are enough to see."""
    for name, count in (("DRAWN", 4), ("DISTRACTORS", 2), ("GROWN", 1), ("SHRUNK", 2)):
        monkeypatch.setattr(f"inference.training.patch_sampler.{name}", count)
    torch.set_num_threads(2)


def test_a_stopped_training_goes_on_to_the_same_weights(data: Path, tmp_path: Path, few: None) -> None:
    whole = train(plan(data, tmp_path / "whole", held_out=frozenset({OUT})), silent)
    said: list[str] = []
    halves = plan(data, tmp_path / "halves", held_out=frozenset({OUT}), minutes_max=0.0)
    first = train(halves, said.append)
    assert not first.finished
    assert first.weights is None
    assert "goes on" in said[-1]
    second = train(plan(data, tmp_path / "halves", held_out=frozenset({OUT})), silent)
    assert second.finished
    assert whole.weights is not None
    assert second.weights is not None
    ours, theirs = load_file(whole.weights), load_file(second.weights)
    assert all(torch.allclose(ours[name].float(), theirs[name].float(), atol=1e-2) for name in ours)
    network_of(ours, "made")  # they are weights that the reading takes
    known = read_patients(second.weights.with_name("nodule-net.patients.json"))
    assert "P-1" in known
    assert OUT not in known
    assert OUT not in second.weights.with_name("nodule-net.patients.json").read_text()


def test_a_checkpoint_of_another_recipe_is_not_gone_on_with(data: Path, tmp_path: Path, few: None) -> None:
    recipe = {"steps": 2, "cycle": 2, "cache": str(tmp_path / "cache")}
    said: list[str] = []
    for changes in ({}, {"rate": 1e-3}, {"rate": 1e-3, "checkpoint_s": 1.0, "steps": 3}):
        train(Plan("detector", data, tmp_path / "out", None, 1, recipe=recipe | changes), said.append)
        said.append("--")
    first, other, longer = "\n".join(said).split("--")[:3]
    assert "anew" not in first
    assert "starts anew" in other
    assert "goes on at step 2" in longer  # more cycles of the same


def test_a_planted_nodule_lies_where_it_should_with_the_noise_of_its_place(data: Path) -> None:
    shape = shape_of(load_cubes(data)[0])
    assert shape is not None
    draw = np.random.default_rng(1)
    near = np.full((32, 32, 32), -850, np.float32)
    wide = np.full((24, 24, 24), -850, np.float32)
    noise = NoiseBank(0).piece(draw, 72)
    at = np.array([6, -5, 4])
    in_near, in_wide = plant(near, wide, shape, at, noise, 40.0)
    body = np.argwhere(in_near > -400)
    assert np.allclose(body.mean(axis=0) - 16, at, atol=1.0)
    assert np.allclose((np.argwhere(in_wide > -600).mean(axis=0) - 11.5) * 3, at, atol=2.0)
    inner = in_near[tuple(slice(16 + a - 1, 16 + a + 2) for a in at)]
    assert 10 < float(inner.std()) < 90
    assert np.array_equal(in_near[:, :, 0], near[:, :, 0])


def test_pleura_in_front_of_a_solid_nodule_stays() -> None:
    shape = drawn_nodule(np.random.default_rng(1), 10.0)
    assert shape.texture == "solid"
    near = np.full((32, 32, 32), -850, np.float32)
    near[:16] = 300
    planted, _ = plant(near, near[:24, :24, :24], shape, np.zeros(3, int), np.zeros((72, 72, 72), np.float32), 0.0)
    assert np.array_equal(planted[:14], near[:14])
    assert (planted[18:20, 15:17, 15:17] > -400).all()


@pytest.mark.parametrize("diameter_mm", [4.0, 9.0, 25.0, 50.0])
def test_a_drawn_nodule_has_about_its_size(diameter_mm: float) -> None:
    for seed in range(4):
        shape = drawn_nodule(np.random.default_rng(seed), diameter_mm)
        volume = float((shape.filled > 0.5).sum())
        assert 0.6 * diameter_mm < (6 / np.pi * volume) ** (1 / 3) < 1.5 * diameter_mm
        assert shape.nodule
        assert not shape.patient


def test_a_distractor_is_no_nodule_and_thin() -> None:
    for seed in range(5):
        shape = drawn_distractor(np.random.default_rng(seed))
        assert not shape.nodule
        assert 0.001 < float((shape.filled > 0.5).mean()) < 0.3


def test_a_patch_of_disease_has_its_middle_in_one_and_is_no_ball_alone() -> None:
    for seed in range(3):
        shape = drawn_opacity(np.random.default_rng(seed))
        middle = shape.filled.shape[0] // 2
        assert not shape.nodule
        assert shape.filled[middle, middle, middle] > 0.5
        assert 0.03 < float((shape.filled > 0.5).mean()) < 0.6
        ball = np.linalg.norm(np.indices(shape.filled.shape) - middle, axis=0) < 8
        assert (shape.filled[~ball] > 0.5).any()  # there is more than what a nodule of 16 mm would be


def test_late_batches_have_ill_lungs_that_are_no_nodules(data: Path, tmp_path: Path) -> None:
    sampler = load_sampler(data, [], tmp_path / "cache", ENTRY, 1, print)
    shape = drawn_opacity(np.random.default_rng(3))
    sampler.draw_opacities = lambda: [shape]
    (early, _), _, healthy = sampler.batch(10)
    (late, _), labels, which = sampler.batch(5000)
    assert early.shape == late.shape
    assert np.count_nonzero(healthy >= 0) - np.count_nonzero(which >= 0) == sampler.mix.opacities
    ill = late[(labels == 0) & (which < 0)][: sampler.mix.opacities]
    healthy_lung = late[which >= 0]
    assert all((one > -750).mean() > (healthy_lung > -750).mean() + 0.05 for one in ill)


def test_disease_beside_a_nodule_reaches_to_the_end_of_both_views(data: Path, tmp_path: Path) -> None:
    sampler = load_sampler(data, [], tmp_path / "cache", ENTRY, 1, print)
    size = drawn_opacity(np.random.default_rng(3)).filled.shape
    everywhere = Shape(np.ones(size, np.float32), np.full(size, -200, np.float32), 0.0, nodule=False)
    sampler.draw_opacities = lambda: [everywhere]
    healthy = Shape(np.full((3, 3, 3), 1e-6, np.float32), np.full((3, 3, 3), -200, np.float32), 1.0)
    ill = [sampler._planted(np.random.default_rng(seed), [healthy], ill=True) for seed in range(30)]
    ill = [(near, wide) for near, wide in ill if np.median(near) > -500]
    assert ill
    assert all((near > -700).mean() > 0.99 and (wide > -700).mean() > 0.99 for near, wide in ill)


def test_resizing_keeps_the_shape_and_its_middle(data: Path) -> None:
    shape = shape_of(load_native(data)[0])
    assert shape is not None
    large = resized(shape, 3 * shape.diameter_mm)
    assert float(large.filled.sum()) == pytest.approx(27 * float(shape.filled.sum()), rel=0.25)
    assert centred(large).filled.shape == large.filled.shape
    assert large.patient == shape.patient


def test_thick_slices_blur_along_k_alone_and_keep_the_mean() -> None:
    draw = np.random.default_rng(5)
    values = np.random.default_rng(1).normal(0, 100, (32, 32, 32)).astype(np.float32)
    after = thick(values, draw)
    assert after.shape == values.shape
    assert np.diff(after, axis=0).std() < 0.7 * np.diff(values, axis=0).std()
    flat = np.full((32, 32, 32), -700, np.float32)
    assert np.allclose(thick(flat, draw), -700, atol=0.5)


def test_changes_of_the_scanner_keep_a_nodule_in_the_middle() -> None:
    places = places_of("P")
    near = places.positive[0][0][4:36, 4:36, 4:36].astype(np.float32)
    wide = places.positive[1][0][1:25, 1:25, 1:25].astype(np.float32)
    bank = NoiseBank(1)
    for seed in range(12):
        changed, around = augmented(near, wide, np.random.default_rng(seed), bank)
        assert changed.shape == near.shape
        assert around.shape == wide.shape
        assert float(changed[14:18, 14:18, 14:18].mean()) > float(changed[:4].mean()) + 300
