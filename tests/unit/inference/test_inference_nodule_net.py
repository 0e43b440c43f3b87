"""The detector of two stages: what it ranks, that it turns with the volume, that a mass is one finding, which weights it takes."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from config.catalogue import Entry, find_entry
from inference.errors import ModelRefused
from inference.nodule_net import NoduleNet, NoduleNetDetector, without_parts
from inference.reader import Spot
from inference.volume import Volume

from .balls import affine_of, all_lung, chest, volume_of

BALLS = [((70.0, 80.0, 60.0), 12.0, 40.0), ((170.0, 80.0, 80.0), 8.0, 40.0), ((165.0, 95.0, 50.0), 20.0, 40.0)]


def entry(**parameters: float) -> Entry:
    kept = {
        **find_entry("hessian-dot", "detector").parameters,
        "places_max": 12,
        "faint_hu_max": -450.0,
        "faint_scale_mm_min": 3.0,
        "faint_max": 4,
        "candidates_max": 12,
        "batch": 5,
        "closer_max": 12,
    }
    kept |= {"response_weight": 0.5, "response_usual": 60.0}
    kept |= {"confidence_min": 0.5, "confidence_min_large": 0.5, "large_mm": 15.0, **parameters}
    return find_entry("hessian-dot", "detector").model_copy(update={"parameters": kept})


def some_weights() -> Mapping[str, torch.Tensor]:
    """Weights that nobody trained."""
    torch.manual_seed(4)
    net = NoduleNet()
    return {name: value.half() for name, value in net.state_dict().items() if not name.endswith("batches_tracked")}


def detector(**parameters: float) -> NoduleNetDetector:
    return NoduleNetDetector(entry(**parameters), torch.device("cpu"), some_weights())


def spots_in(volume: Volume, **parameters: float) -> list[Spot]:
    return list(detector(**parameters).detect(volume, all_lung(volume), lambda stage, done, total: None))


def test_every_place_has_a_confidence_and_the_most_confident_come_first() -> None:
    spots = spots_in(chest(BALLS))
    confidences = [spot.confidence for spot in spots]
    assert 3 <= len(spots) <= 12
    assert all(c is not None and 0 < c < 1 for c in confidences)
    assert confidences == sorted(confidences, reverse=True)  # type: ignore[type-var]


def test_no_more_weak_candidates_than_the_entry_names() -> None:
    never = {"confidence_min": 2.0, "confidence_min_large": 2.0}
    every = spots_in(chest(BALLS), **never)
    assert spots_in(chest(BALLS), candidates_max=2, **never) == every[:2]


def test_strong_places_are_never_cut() -> None:
    always = {"confidence_min": 0.0, "confidence_min_large": 0.0}
    assert len(spots_in(chest(BALLS), **always)) > 1
    assert spots_in(chest(BALLS), candidates_max=1, **always) == spots_in(chest(BALLS), **always)


def test_rows_and_columns_may_change_places() -> None:
    volume = chest(BALLS)
    swapped = volume_of(np.ascontiguousarray(volume.hu.transpose(0, 2, 1)), volume.affine @ np.eye(4)[:, [0, 2, 1, 3]])
    never = {"confidence_min": 2.0, "confidence_min_large": 2.0}
    ours = {tuple(np.round(s.centre, 1)): s.confidence or 0 for s in spots_in(volume, **never)}
    theirs = spots_in(swapped, **never)
    assert len(theirs) == len(ours)
    for spot in theirs:
        k, j, i = spot.centre
        nearest = min(ours, key=lambda c: float(np.linalg.norm(np.subtract(c, (k, i, j)))))
        assert np.linalg.norm(np.subtract(nearest, (k, i, j))) < 0.3
        assert ours[nearest] == pytest.approx(spot.confidence, abs=0.01)


def test_the_same_volume_gives_the_same_places_whatever_the_batch() -> None:
    one, other = spots_in(chest(BALLS), batch=5), spots_in(chest(BALLS), batch=12)
    assert [s.centre for s in one] == [s.centre for s in other]
    assert np.allclose([s.confidence or 0 for s in one], [s.confidence or 0 for s in other], atol=2e-2)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flipped_volume_has_the_same_places_flipped(axis: int) -> None:
    volume = chest(BALLS)
    flipped = volume_of(np.ascontiguousarray(np.flip(volume.hu, axis)), volume.affine)
    never = {"confidence_min": 2.0, "confidence_min_large": 2.0}
    ours = {tuple(np.round(s.centre, 1)): s.confidence or 0 for s in spots_in(volume, **never)}
    for spot in spots_in(flipped, **never):
        centre = list(spot.centre)
        centre[axis] = volume.hu.shape[axis] - 1 - centre[axis]
        nearest = min(ours, key=lambda c: float(np.linalg.norm(np.subtract(c, centre))))
        assert np.linalg.norm(np.subtract(nearest, centre)) < 0.3
        assert ours[nearest] == pytest.approx(spot.confidence, abs=0.03)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_order_in_which_a_volume_is_stored_changes_no_score_where_few_places_get_all_flips(axis: int) -> None:
    volume = chest(BALLS)
    back = np.eye(4)
    back[axis, axis], back[axis, 3] = -1, volume.hu.shape[axis] - 1
    stored = volume_of(np.ascontiguousarray(np.flip(volume.hu, axis)), volume.affine @ back)
    few = {"confidence_min": 2.0, "confidence_min_large": 2.0, "closer_max": 1}
    ours, theirs = spots_in(volume, **few), spots_in(stored, **few)
    assert len(ours) == len(theirs) > 1
    for spot, same in zip(ours, theirs, strict=True):
        centre = list(same.centre)
        centre[axis] = volume.hu.shape[axis] - 1 - centre[axis]
        assert spot.centre == pytest.approx(tuple(centre), abs=0.05)
        assert spot.confidence == pytest.approx(same.confidence, abs=0.003)


def test_only_what_reaches_the_operating_point_may_be_reported() -> None:
    spots = spots_in(chest(BALLS))
    middle = sorted(s.confidence or 0 for s in spots)[len(spots) // 2]
    strict = detector(confidence_min=middle, confidence_min_large=middle)
    assert {strict.is_strong(s) for s in spots} == {True, False}
    assert not strict.is_strong(Spot((1.0, 1.0, 1.0), 500.0, 8.0))  # a response alone is no confidence


def test_large_places_have_an_operating_point_of_their_own() -> None:
    ours = detector(confidence_min=0.9, confidence_min_large=0.7, large_mm=15.0)
    assert ours.is_strong(Spot((1.0, 1.0, 1.0), 80.0, 16.0, 0.8))
    assert not ours.is_strong(Spot((1.0, 1.0, 1.0), 80.0, 14.0, 0.8))


def test_the_smaller_a_place_the_more_the_network_must_say_up_to_the_size_that_is_large() -> None:
    spots = spots_in(chest(BALLS), confidence_min=2.0, confidence_min_large=2.0, large_mm=15.0)
    weighed = spots_in(chest(BALLS), confidence_min=2.0, confidence_min_large=2.0, large_mm=15.0, size_weight=1.0)
    plain = {spot.centre: spot.confidence or 0 for spot in spots}
    sizes = [spot.scale_mm for spot in weighed]
    assert min(sizes) < 15 <= max(sizes)
    for spot in weighed:
        odds, before = ((c / (1 - c)) for c in (spot.confidence or 0, plain[spot.centre]))
        assert odds / before == pytest.approx(min(spot.scale_mm / 15, 1), rel=0.05)


def test_an_entry_says_how_much_of_a_place_its_outline_must_fill() -> None:
    assert {spot.body_mm_min for spot in spots_in(chest(BALLS))} == {0.0}  # entries from before know no such share
    assert all(s.body_mm_min == 0.5 * s.scale_mm for s in spots_in(chest(BALLS), whole_share=0.5))


def test_several_strong_places_on_one_mass_are_one_finding_of_the_best_confidence() -> None:
    hu = np.full((60, 60, 60), -850, np.int16)
    k, j, i = np.ogrid[:60, :60, :60]
    hu[(k - 30) ** 2 + (j - 30) ** 2 + ((i - 30) / 1.6) ** 2 < 15**2] = 40
    volume = volume_of(hu, affine_of((1.0, 1.0, 1.0)))
    mass = [
        Spot((30.0, 30.0, 17.0), 90.0, 24.0, 0.8),
        Spot((30.0, 30.0, 44.0), 80.0, 24.0, 0.7),  # the other half: nothing but soft tissue between
        Spot((24.0, 30.0, 20.0), 40.0, 5.0, 0.95),  # a bump inside
    ]
    apart = [Spot((5.0, 5.0, 5.0), 60.0, 8.0, 0.6), Spot((30.0, 55.0, 30.0), 20.0, 5.0, 0.1)]
    left = without_parts(volume, [*mass, *apart], lambda spot: (spot.confidence or 0) > 0.5)
    assert [(s.centre, s.confidence) for s in left] == [
        (mass[0].centre, 0.95),
        (apart[0].centre, 0.6),
        (apart[1].centre, 0.1),
    ]


def test_large_neighbours_with_lung_between_stay_two() -> None:
    hu = np.full((60, 60, 60), -850, np.int16)
    volume = volume_of(hu, affine_of((1.0, 1.0, 1.0)))
    two = [Spot((30.0, 30.0, 17.0), 90.0, 24.0, 0.8), Spot((30.0, 30.0, 44.0), 80.0, 24.0, 0.7)]
    assert without_parts(volume, two, lambda spot: True) == two


def test_weights_of_another_network_are_refused() -> None:
    weights = dict(some_weights())
    weights["head.0.weight"] = torch.zeros(3, 3)
    with pytest.raises(ModelRefused, match="not of this network"):
        NoduleNetDetector(entry(), torch.device("cpu"), weights)
    weights.pop("head.0.weight")
    with pytest.raises(ModelRefused, match=r"head\.0\.weight"):
        NoduleNetDetector(entry(), torch.device("cpu"), weights)
