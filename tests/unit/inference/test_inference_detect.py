"""Candidates: balls before tubes, each once, in the lungs only, in order of strength."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from config.catalogue import Entry, find_entry, parameters_digest
from config.errors import ConfigurationError
from inference.detect import DotDetector, DotFilter, Faint, dot_response
from inference.grids import resampled_array
from inference.lungs import Lungs
from inference.reader import Spot
from inference.volume import Volume

from .balls import all_lung, chest, volume_of

SPACING = (1.5, 1.0, 1.0)


def detector() -> DotDetector:
    return DotDetector(find_entry("hessian-dot", "detector"), torch.device("cpu"))


def lung_with(*balls: tuple[tuple[float, float, float], float, float]) -> Volume:
    """A block of lung with balls (centre in LPS mm, diameter mm, HU)."""
    volume = chest(balls, shape=(40, 60, 60), spacing_mm=SPACING, noise_hu=0)
    hu = np.where((volume.hu == -1000) | (volume.hu == 40), -850, volume.hu)
    z, y, x = np.ogrid[:40, :60, :60]
    for centre, diameter_mm, ball_hu in balls:
        inside = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z * 1.5 - centre[2]) ** 2 < (diameter_mm / 2) ** 2
        hu[inside] = ball_hu
    noise = np.random.default_rng(3).normal(0, 15, hu.shape)
    return volume_of((hu + noise).astype(np.int16), volume.affine)


def spots_of(volume: Volume, lungs: Lungs | None = None) -> list[Spot]:
    return list(detector().detect(volume, lungs or all_lung(volume), lambda stage, done, total: None))


def place_of(volume: Volume, spot: Spot) -> tuple[float, ...]:
    return tuple(float(x) for x in (volume.affine @ [*spot.centre, 1.0])[:3])


@pytest.mark.parametrize("diameter_mm", [5.0, 7.0, 10.0, 16.0])
def test_a_ball_is_the_strongest_answer_at_its_place_and_about_its_size(diameter_mm: float) -> None:
    volume = lung_with(((31.3, 28.6, 30.2), diameter_mm, 40.0))
    first, *others = spots_of(volume)
    assert place_of(volume, first) == pytest.approx((31.3, 28.6, 30.2), abs=0.8)
    assert diameter_mm / 1.5 < first.scale_mm < diameter_mm * 1.5
    assert detector().is_strong(first)
    assert not any(detector().is_strong(spot) for spot in others)


def test_a_straight_vessel_is_no_candidate_for_a_result() -> None:
    volume = lung_with()
    hu = volume.hu.copy()
    z, y, x = np.ogrid[:40, :60, :60]
    hu[np.broadcast_to((x - 30) ** 2 + (y - 30) ** 2 < 3**2, hu.shape) & (z >= 0)] = 40
    vessel = volume_of(hu, volume.affine)
    inner = [s for s in spots_of(vessel) if 8 < s.centre[0] < 32]  # its ends are at the end of the volume
    assert not any(detector().is_strong(spot) for spot in inner)


def test_several_balls_are_all_found_and_ranked_by_strength() -> None:
    balls = [((15.0, 15.0, 15.0), 6.0, 40.0), ((45.0, 20.0, 40.0), 10.0, 0.0), ((20.0, 45.0, 35.0), 8.0, -500.0)]
    volume = lung_with(*balls)
    spots = spots_of(volume)
    for centre, *_ in balls:
        assert min(np.linalg.norm(np.subtract(place_of(volume, s), centre)) for s in spots[:3]) < 1.5
    assert [s.response for s in spots] == sorted((s.response for s in spots), reverse=True)
    assert len(spots) <= 40


def test_a_large_ball_is_one_candidate_and_not_many_on_its_surface() -> None:
    volume = lung_with(((30.0, 30.0, 30.0), 18.0, 40.0))
    near = [s for s in spots_of(volume) if np.linalg.norm(np.subtract(place_of(volume, s), 30.0)) < 10]
    assert len(near) == 1


def places_of(volume: Volume, lungs: Lungs, count: int, faint: Faint | None) -> list[Spot]:
    dots = DotFilter((2.2, 3.2, 4.7), count, torch.device("cpu"), faint)
    return dots.places(volume, lungs, lambda stage, done, total: None)


def test_a_nodule_that_lies_flat_on_the_pleura_is_seen_once_the_chest_wall_is_taken_away() -> None:
    volume = lung_with(((18.0, 30.0, 30.0), 7.0, 40.0))
    hu = volume.hu.copy()
    hu[:, :, :18] = 40
    walled = volume_of(hu, volume.affine)
    labels = all_lung(walled).labels.copy()
    labels[:, :, :17] = 0
    lungs = replace(all_lung(walled), labels=labels)
    strength = {}
    for name, faint in (("as it is", None), ("without walls", Faint(-450.0, 3.0, 0))):
        near = [
            s
            for s in places_of(walled, lungs, 5, faint)
            if np.linalg.norm(np.subtract(place_of(walled, s), (19.5, 30.0, 30.0))) < 3
        ]
        strength[name] = max((s.response for s in near), default=0.0)
    assert strength["without walls"] > 1.5 * strength["as it is"]
    assert strength["without walls"] > 60


def test_ground_glass_has_a_place_of_its_own_among_many_bright_dots() -> None:
    bright = [((x, y, 15.0), 6.0, 40.0) for x in (12.0, 30.0, 48.0) for y in (12.0, 30.0, 48.0)]
    volume = lung_with(*bright, ((30.0, 30.0, 42.0), 10.0, -650.0))

    def seen(faint: Faint | None) -> list[Spot]:
        spots = places_of(volume, all_lung(volume), len(bright), faint)
        return [s for s in spots if np.linalg.norm(np.subtract(place_of(volume, s), (30.0, 30.0, 42.0))) < 2]

    assert seen(None) == []
    (found,) = seen(Faint(-450.0, 3.0, 1))
    assert 6 < found.scale_mm < 16


def test_a_second_look_that_leaves_nothing_above_lung_is_refused_with_its_name() -> None:
    with pytest.raises(ConfigurationError, match="faint_hu_max -900"):
        Faint(-900.0, 3.0, 1)


def test_what_is_outside_the_lungs_is_no_candidate() -> None:
    volume = lung_with(((15.0, 30.0, 30.0), 8.0, 40.0), ((45.0, 30.0, 30.0), 8.0, 40.0))
    labels = all_lung(volume).labels.copy()
    labels[:, :, 30:] = 0
    spots = spots_of(volume, Lungs(labels, 100.0, (0.0, 0.0), 10.0, 0.0))
    assert spots
    assert all(spot.centre[2] < 30.5 for spot in spots)


def test_the_same_volume_gives_the_same_candidates() -> None:
    volume = lung_with(((31.0, 28.0, 30.0), 7.0, 40.0))
    assert spots_of(volume) == spots_of(volume)


def test_the_response_is_that_of_the_eigenvalues() -> None:
    smooth = np.random.default_rng(5).normal(0, 100, (12, 13, 14)).astype(np.float32)
    response = dot_response(torch.from_numpy(smooth), torch.ones(smooth.shape, dtype=torch.bool)).numpy()
    first = np.gradient(smooth.astype(float))
    for place in np.argwhere(response > 0)[:40]:
        k, j, i = place
        hessian = np.zeros((3, 3))
        for a in range(3):
            one = np.eye(3, dtype=int)[a]
            before, after = smooth[tuple(place - one)], smooth[tuple(place + one)]
            hessian[a, a] = float(before) - 2 * float(smooth[k, j, i]) + float(after)
            for b in range(a):
                other = np.eye(3, dtype=int)[b]
                hessian[a, b] = hessian[b, a] = (
                    (first[b][tuple(place + one)] - first[b][tuple(place - one)]) / 2
                    if (0 < place[b] < smooth.shape[b] - 1 and other.any())
                    else 0.0
                )
        values = np.linalg.eigvalsh(hessian)
        assert values[2] < 0
        assert response[k, j, i] == pytest.approx(values[2] ** 2 / -values[0], rel=2e-3, abs=0.05)
    assert not response[0].any()
    assert not response[:, :, -1].any()


def test_resampling_keeps_a_straight_line_straight_and_the_middle_in_place() -> None:
    ramp = np.broadcast_to(np.arange(11.0)[:, None, None] * 2.0, (11, 5, 7)).astype(np.int16)
    fine = resampled_array(ramp, (2.0, 1.0, 0.5), 1.0)
    assert fine.shape == (21, 5, 4)
    assert fine[:, 2, 2] == pytest.approx(np.arange(21.0))
    assert resampled_array(ramp[:1], (2.0, 1.0, 0.5), 1.0).shape == (1, 5, 4)


def test_an_entry_with_a_threshold_too_few_is_refused() -> None:
    entry = find_entry("hessian-dot", "detector")
    parameters = dict(entry.parameters) | {"responses_min": (100.0,)}
    broken = Entry(**entry.model_dump() | {"parameters": parameters, "sha256": parameters_digest(parameters)})
    with pytest.raises(ConfigurationError, match="responses_min"):
        DotDetector(broken, torch.device("cpu"))
