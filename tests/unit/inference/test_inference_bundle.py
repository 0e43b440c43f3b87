"""A MONAI bundle as a detector: what it finds, where that lies, and what is refused."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inference.bundle import BundleDetector, on_one_body, steps, windows
from inference.device import CPU
from inference.errors import ModelRefused
from inference.lungs import Lungs
from inference.reader import Spot
from inference.volume import Volume

from .balls import volume_of
from .made_bundle import ANCHOR_MM, SPACING_MM, configuration, entry_of, planted_weights, write_bundle

ROOT = Path(__file__).parents[3]
X, Y, Z = SPACING_MM
CENTRE = np.array([-30.0, 12.0, 140.0])
PLACES = (CENTRE + np.array([-11.0, 9, -8]), CENTRE + np.array([8.0, -11, 9]))
"""Two balls of 6 mm in LPS mm, on no grid."""
NEAR_MM = 1.5 * 4 * X
"""The network's finest cells are 4 voxels wide, and its boxes lie on their middles."""

AFFINES = {
    "as most scanners": np.diag([X, Y, Z]),
    "from head to feet": np.diag([X, Y, -Z]),
    "columns to the right": np.diag([-X, Y, Z]),
    "rows to the front": np.diag([X, -Y, Z]),
    "all turned": np.diag([-X, -Y, -Z]),
    "sagittal": np.array([[0, 0, 1.0], [0.8, 0, 0], [0, -0.8, 0]]),
}
"""Columns, rows and slices to LPS mm."""


@dataclass(frozen=True)
class Scene:
    volume: Volume
    lungs: Lungs


def scene(to_mm: np.ndarray, places: Sequence[np.ndarray] = PLACES) -> Scene:
    """A block of lung of 42 mm with balls of soft tissue in it, some noise, and a wall 5 mm thick on the patient's left."""
    spacing = np.linalg.norm(to_mm, axis=0)
    shape = tuple(round(float(42 / mm)) for mm in spacing[::-1])
    affine = np.eye(4)
    affine[:3, :3] = to_mm[:, ::-1]  # k, j, i
    affine[:3, 3] = CENTRE - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    at = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    hu = np.random.default_rng(3).normal(-850, 20, shape)
    for place in places:
        hu[((at - place) ** 2).sum(axis=-1) < 9] = 40
    wall = at[..., 0] > CENTRE[0] + 16
    hu[wall] = 40
    labels = np.where(wall, 0, 1).astype(np.uint8)
    return Scene(volume_of(hu.astype(np.int16), affine), Lungs(labels, 74.0, (0.0, 0.0), 17.6, 0.0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("models") / "bundle", planted_weights())


@pytest.fixture(scope="module")
def detector(folder: Path) -> Iterator[BundleDetector]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield BundleDetector(entry_of(folder), CPU)
    torch.set_num_threads(before)


def found(detector: BundleDetector, shown: Scene) -> list[Spot]:
    spots = detector.detect(shown.volume, shown.lungs, lambda *_: None)
    return [spot for spot in spots if detector.is_strong(spot)]


def lps(spots: Sequence[Spot], volume: Volume) -> list[np.ndarray]:
    return sorted((volume.affine[:3] @ (*spot.centre, 1.0) for spot in spots), key=lambda at: at[2])


@pytest.mark.parametrize("turned", ["from head to feet", "columns to the right", "rows to the front", "sagittal"])
def test_nodules_come_back_at_their_place_and_size_whichever_way_the_slices_run(
    detector: BundleDetector, turned: str
) -> None:
    shown = scene(AFFINES[turned])
    spots = found(detector, shown)
    at = lps(spots, shown.volume)
    assert len(at) == len(PLACES)
    assert [spot.scale_mm for spot in spots] == pytest.approx([np.prod(ANCHOR_MM) ** (1 / 3)] * 2, abs=0.01)
    assert max(np.abs(one - other).max() for one, other in zip(at, PLACES, strict=True)) < NEAR_MM


def test_lung_without_nodules_has_none(detector: BundleDetector) -> None:
    shown = scene(AFFINES["as most scanners"], places=())
    assert not detector.detect(shown.volume, shown.lungs, lambda *_: None)


def test_what_lies_outside_the_lungs_is_no_finding_and_what_lies_in_them_has_its_score(
    detector: BundleDetector,
) -> None:
    shown = scene(AFFINES["as most scanners"])
    labels = shown.lungs.labels.copy()
    labels[labels.shape[0] // 2 :] = 0
    (spot,) = found(detector, Scene(shown.volume, replace(shown.lungs, labels=labels)))
    assert spot.confidence == spot.response
    assert 0.5 <= spot.response <= 1


def test_two_runs_are_equal_to_the_last_bit_and_leave_the_bundle_as_it_was(
    detector: BundleDetector, folder: Path
) -> None:
    shown = scene(AFFINES["as most scanners"])
    first, again = (d.detect(shown.volume, shown.lungs, lambda *_: None) for d in (detector, detector))
    other = BundleDetector(entry_of(folder), CPU).detect(shown.volume, shown.lungs, lambda *_: None)
    assert first == again == other
    assert first
    assert entry_of(folder).sha256 == detector.algorithm.sha256


def test_windows_have_a_bound_and_are_told_as_progress(folder: Path) -> None:
    parameters = {"score_min": 0.5, "candidates_max": 20, "cpu_window_voxels_max": 140_000}
    detector = BundleDetector(entry_of(folder, parameters=parameters), CPU)
    voxels = _watch(detector)
    shown, told = scene(AFFINES["from head to feet"]), []
    spots = detector.detect(shown.volume, shown.lungs, lambda *said: told.append(said))
    assert len([spot for spot in spots if detector.is_strong(spot)]) == 2
    assert max(voxels) <= 140_000
    assert told[0] == ("detect", 0, len(voxels))
    assert told[-1] == ("detect", len(voxels), len(voxels))
    assert len(voxels) > 1


def test_out_of_memory_falls_back_to_smaller_windows_that_find_the_same(folder: Path) -> None:
    detector = BundleDetector(entry_of(folder), CPU)
    tried = _watch(detector, voxels_max=140_000)
    shown = scene(AFFINES["from head to feet"])
    assert len(found(detector, shown)) == 2
    assert tried[0] > 140_000
    assert tried[-1] <= 140_000


def _watch(detector: BundleDetector, voxels_max: int | None = None) -> list[int]:
    """The size of each window from now on; larger ones than `voxels_max` find no memory."""
    seen: list[int] = []

    def look(_: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        seen.append(given[0].numel())
        if voxels_max is not None and seen[-1] > voxels_max:
            raise torch.OutOfMemoryError("no memory for so large a window")

    detector._bundle.network.register_forward_pre_hook(look)
    return seen


def test_a_bundle_made_in_lps_gives_the_same_places(tmp_path: Path) -> None:
    config: dict[str, Any] = configuration()
    config["preprocessing"]["transforms"][1]["affine_lps_to_ras"] = False
    config["postprocessing"]["transforms"][1]["affine_lps_to_ras"] = False
    detector = BundleDetector(entry_of(write_bundle(tmp_path / "lps", planted_weights(), config)), CPU)
    shown = scene(AFFINES["columns to the right"])
    at = lps(found(detector, shown), shown.volume)
    assert max(np.abs(one - other).max() for one, other in zip(at, PLACES, strict=True)) < NEAR_MM


def test_a_bundle_runs_without_torchvision_nibabel_and_ignite(folder: Path) -> None:
    script = f"""
import sys
for name in ("torchvision", "nibabel", "ignite"):
    sys.modules[name] = None
from pathlib import Path
from tests.unit.inference.test_inference_bundle import AFFINES, entry_of, found, scene
from inference.bundle import BundleDetector
from inference.device import CPU
print(len(found(BundleDetector(entry_of(Path({str(folder)!r})), CPU), scene(AFFINES["all turned"]))))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["2"], done.stderr


def test_code_of_a_bundle_that_was_changed_never_runs(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle", {})
    entry = entry_of(folder)
    (folder / "scripts/__init__.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(ModelRefused, match="SHA-256"):
        BundleDetector(entry, CPU)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(ModelRefused):  # with its own digest it would run; then its weights don't fit
        BundleDetector(entry_of(folder), CPU)
    assert list(folder.rglob("*.pyc")) == []


class _Wish:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("a pickle ran",))


def test_weights_that_hold_code_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_bundle(tmp_path / "bundle", {"a": _Wish()})  # type: ignore[dict-item]
    with pytest.raises(ModelRefused, match="no plain tensors"):
        BundleDetector(entry_of(folder), CPU)
    assert "a pickle ran" not in capsys.readouterr().out


def test_weights_of_another_network_are_refused_by_name(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle", {"a": torch.zeros(1)})
    with pytest.raises(ModelRefused, match="RetinaNet"):
        BundleDetector(entry_of(folder), CPU)


def test_a_folder_that_lacks_a_part_of_the_layout_is_refused(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle", {})
    (folder / "configs/metadata.json").unlink()
    with pytest.raises(ModelRefused, match=r"no configs/metadata\.json"):
        BundleDetector(entry_of(folder), CPU)


def test_windows_halve_from_what_the_image_needs_to_the_smallest() -> None:
    ladder = windows((512, 512, 192), (430, 300, 500), (16, 16, 8))
    assert ladder[0] == (432, 304, 192)
    assert ladder[-1] == (64, 64, 32)
    assert all(side % d == 0 for window in ladder for side, d in zip(window, (16, 16, 8), strict=True))
    sizes = [np.prod(window) for window in ladder]
    assert all(0.4 < after / before < 1 for before, after in pairwise(sizes))
    assert windows((64, 64, 32), (20, 20, 20), (16, 16, 8)) == [(32, 32, 24)]


def test_windows_cover_a_length_with_their_overlap() -> None:
    assert [steps(length, 64, 0.25) for length in (1, 64, 65, 112, 113)] == [1, 1, 2, 2, 3]


def test_boxes_whose_bodies_would_overlap_are_of_one() -> None:
    one = np.array([0.0, 0, 0, 6, 6, 6])
    assert on_one_body(one, one + np.array([5, 0, 0, 0, 0, 0]))
    assert not on_one_body(one, one + np.array([6.5, 0, 0, 0, 0, 0]))
    assert on_one_body(one, np.array([12.0, 0, 0, 30, 30, 30]))
