"""The chain: what a Reading says, and when a series is not read. Small honest parts stand in for methods."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from config.errors import ConfigurationError
from inference.chain import build_chain
from inference.errors import LungsCut, LungsMayComplete, NoLung
from inference.findings import Algorithm, LeftOut, MaskCrop, Nodule, Status
from inference.lungs import Lungs
from inference.reader import Chain, Progress, ReadLimits, Spot, read
from inference.volume import Oddity, Volume

from .balls import all_lung, chest

BALLS = [((70.0, 80.0, 60.0), 12.0, 40.0), ((170.0, 80.0, 80.0), 8.0, 40.0), ((165.0, 95.0, 50.0), 20.0, 40.0)]
DEMONSTRATION = Algorithm("detector", "fixed", "1", "0" * 64, "demonstration")
LUNGS = dataclasses.replace(DEMONSTRATION, task="lungs")
OUTLINER = dataclasses.replace(DEMONSTRATION, task="outliner")
GRADER = dataclasses.replace(DEMONSTRATION, task="grader", validation="measured")


@dataclasses.dataclass(frozen=True)
class GivenLungs:
    """All is lung, cut as one says."""

    end_cm2: tuple[float, float] = (0.0, 0.0)
    edge_share: float = 0.0
    algorithm: Algorithm = LUNGS

    def segment(self, volume: Volume) -> Lungs:
        return dataclasses.replace(all_lung(volume), end_cm2=self.end_cm2, edge_share=self.edge_share)


@dataclasses.dataclass(frozen=True)
class GivenSpots:
    """Spots along a diagonal, weaker and weaker; strong above 50."""

    count: int = 12
    algorithm: Algorithm = DEMONSTRATION

    def detect(self, volume: Volume, lungs: Lungs, progress: Progress) -> Sequence[Spot]:
        progress("detect", 1, 1)
        return [Spot((5.0 * n + 3, 5.0 * n + 3, 5.0 * n + 3), 100.0 - 5 * n, 5.0) for n in range(self.count)]

    def is_strong(self, spot: Spot) -> bool:
        return spot.response > 50


@dataclasses.dataclass(frozen=True)
class Cubes:
    """A cube of 3 voxels around each spot, but for the second."""

    diameter_mm_min: float = 4.0
    algorithm: Algorithm = OUTLINER

    def outline(
        self, volume: Volume, lungs: Lungs, spots: Sequence[Spot], progress: Progress
    ) -> Sequence[MaskCrop | None]:
        cubes = [MaskCrop((int(s.centre[0]) - 1,) * 3, np.ones((3, 3, 3), bool)) for s in spots]
        return [None if n == 1 else cube for n, cube in enumerate(cubes)]


@dataclasses.dataclass(frozen=True)
class Certain:
    """Gives every nodule a confidence."""

    algorithm: Algorithm = GRADER

    def grade(self, volume: Volume, nodules: Sequence[Nodule], progress: Progress) -> Sequence[Nodule]:
        return [dataclasses.replace(n, confidence=0.5) for n in nodules]


def chain(**parts: object) -> Chain:
    return dataclasses.replace(Chain(GivenLungs(), GivenSpots(), Cubes()), **parts)  # type: ignore[arg-type]


def volume() -> Volume:
    return chest(shape=(72, 72, 72), noise_hu=0)


def test_strong_places_with_an_outline_are_numbered_by_rank() -> None:
    reading = read(volume(), chain(), ReadLimits())
    assert reading.status is Status.COMPLETED
    assert reading.reason is None
    assert reading.nodules is not None
    assert [n.number for n in reading.nodules] == list(range(1, 10))
    assert {n.tracking_uid for n in reading.nodules} == {""}
    assert {n.confidence for n in reading.nodules} == {None}  # a response is no probability
    assert [c.rank for c in reading.candidates] == list(range(1, 13))
    assert [c.rank for c in reading.candidates if c.reported] == [1, 3, 4, 5, 6, 7, 8, 9, 10]
    assert [a.task for a in reading.algorithms] == ["lungs", "detector", "outliner"]
    assert reading.slices_read == volume().sop_instance_uids
    assert reading.findings is None
    assert reading.smallest_mm == 4.0


def test_a_place_without_an_outline_gives_way_to_its_parts() -> None:
    inside = Spot((30.0, 30.0, 30.0), 60.0, 5.0, 0.9)

    class Swallowing(GivenSpots):
        def detect(self, volume: Volume, lungs: Lungs, progress: Progress) -> Sequence[Spot]:
            return [Spot((3.0, 3.0, 3.0), 99.0, 5.0), Spot((40.0, 40.0, 40.0), 98.0, 50.0, 0.9, (inside,))]

    class NothingLarge(Cubes):
        def outline(
            self, volume: Volume, lungs: Lungs, spots: Sequence[Spot], progress: Progress
        ) -> Sequence[MaskCrop | None]:
            masks = Cubes().outline(volume, lungs, [spots[0], spots[0], *spots[1:]], progress)
            return [None if s.scale_mm > 20 else m for s, m in zip(spots, [masks[0], *masks[2:]], strict=True)]

    reading = read(volume(), chain(detector=Swallowing(), outliner=NothingLarge()), ReadLimits())
    assert [c.scale_mm for c in reading.candidates] == [5.0, 5.0]
    assert [n.confidence for n in reading.nodules or ()] == [None, 0.9]


def test_a_score_must_do_for_the_size_that_was_outlined() -> None:
    class FewAreLarge(GivenSpots):
        """From 10 mm on a score of 0.8 is enough, below it takes 0.9."""

        def detect(self, volume: Volume, lungs: Lungs, progress: Progress) -> Sequence[Spot]:
            return [Spot((10.0 * n + 5,) * 3, 99.0, 11.0, score) for n, score in enumerate((0.95, 0.92, 0.85))]

        def is_strong(self, spot: Spot) -> bool:
            return (spot.confidence or 0.0) >= (0.8 if spot.scale_mm >= 10 else 0.9)

    @dataclasses.dataclass(frozen=True)
    class Sized(Cubes):
        side: int = 3

        def outline(
            self, volume: Volume, lungs: Lungs, spots: Sequence[Spot], progress: Progress
        ) -> Sequence[MaskCrop | None]:
            return [MaskCrop((int(s.centre[0]) - 2,) * 3, np.ones((self.side,) * 3, bool)) for s in spots]

    small, large = (read(volume(), chain(detector=FewAreLarge(), outliner=Sized(side=n)), ReadLimits()) for n in (3, 9))
    assert [n.confidence for n in small.nodules or ()] == [0.95, 0.92]
    assert [c.reported for c in small.candidates] == [True, True, False]
    assert [n.confidence for n in large.nodules or ()] == [0.95, 0.92, 0.85]


def test_a_body_too_narrow_for_what_answered_gives_way_to_the_parts_of_its_place() -> None:
    part = Spot((30.0, 30.0, 30.0), 60.0, 5.0, 0.9)

    class Hilum(GivenSpots):
        def detect(self, volume: Volume, lungs: Lungs, progress: Progress) -> Sequence[Spot]:
            return [Spot((40.0, 40.0, 40.0), 98.0, 16.0, 0.97, (part,), self.body_mm_min)]

        body_mm_min = 6.0

        def is_strong(self, spot: Spot) -> bool:
            return True

    class Strict(Hilum):
        body_mm_min = 6.5

    whole, pieces = (read(volume(), chain(detector=d), ReadLimits()).nodules or () for d in (Hilum(), Strict()))
    assert [n.confidence for n in whole] == [0.97]  # its body is as wide as a ball of 6.1 mm
    assert [n.confidence for n in pieces] == [0.9]


def test_a_place_that_is_too_small_for_its_score_leaves_the_body_to_the_others() -> None:
    """The likeliest part has the body; a whole that is turned away by its size gives way to its parts as well."""

    class Both(GivenSpots):
        def detect(self, volume: Volume, lungs: Lungs, progress: Progress) -> Sequence[Spot]:
            unsure, sure = (Spot((30.0, 30.0, 30.0), 60.0, mm, score) for mm, score in ((20.0, 0.85), (4.0, 0.97)))
            return [Spot((40.0, 40.0, 40.0), 98.0, 30.0, 0.86, (unsure, sure))]

        def is_strong(self, spot: Spot) -> bool:
            return (spot.confidence or 0.0) >= (0.8 if spot.scale_mm >= 10 else 0.9)

    class OneBody(Cubes):
        def outline(
            self, volume: Volume, lungs: Lungs, spots: Sequence[Spot], progress: Progress
        ) -> Sequence[MaskCrop | None]:
            cube = MaskCrop((29, 29, 29), np.ones((3, 3, 3), bool))
            return [cube if n == 0 else None for n in range(len(spots))]

    reading = read(volume(), chain(detector=Both(), outliner=OneBody()), ReadLimits())
    assert [n.confidence for n in reading.nodules or ()] == [0.97]
    assert [c.reported for c in reading.candidates] == [True, False]


def test_more_than_a_result_holds_is_said() -> None:
    reading = read(volume(), chain(), ReadLimits(nodules_max=2))
    assert reading.nodules is not None
    assert len(reading.nodules) == 2
    assert "7 further places answered the detector; only the 2 strongest are shown" in reading.quality
    assert sum(c.reported for c in reading.candidates) == 2


@dataclasses.dataclass(frozen=True)
class Confident(GivenSpots):
    """The same places, each with a score."""

    def detect(self, volume: Volume, lungs: Lungs, progress: Progress) -> Sequence[Spot]:
        spots = super().detect(volume, lungs, progress)
        return [dataclasses.replace(spot, confidence=0.98765 - 0.05 * n) for n, spot in enumerate(spots)]


def test_the_confidence_of_a_trained_detector_is_that_of_the_nodule() -> None:
    reading = read(volume(), chain(detector=Confident()), ReadLimits(nodules_max=3))
    assert reading.nodules is not None
    assert [n.confidence for n in reading.nodules] == [0.988, 0.888, 0.838]  # the second has no outline


def test_a_chain_may_hold_fewer_nodules_than_the_site_allows_and_never_more() -> None:
    few = read(volume(), chain(findings_max=3), ReadLimits(nodules_max=30))
    assert len(few.nodules or ()) == 3
    assert "6 further places answered the detector; only the 3 strongest are shown" in few.quality
    assert len(read(volume(), chain(findings_max=30), ReadLimits(nodules_max=2)).nodules or ()) == 2


def test_none_found_is_looked_and_none() -> None:
    assert read(volume(), chain(detector=GivenSpots(0)), ReadLimits()).nodules == ()


def test_a_grader_is_named_and_fills_in() -> None:
    reading = read(volume(), chain(grader=Certain()), ReadLimits())
    assert reading.nodules
    assert {n.confidence for n in reading.nodules} == {0.5}
    assert reading.algorithms[-1].task == "grader"


def test_cut_lungs_are_partial_declined_or_wait() -> None:
    little, much = chain(lungs=GivenLungs((0.0, 8.0))), chain(lungs=GivenLungs((30.0, 0.0)))
    reading = read(volume(), little, ReadLimits())
    assert reading.status is Status.PARTIAL
    assert reading.reason is not None
    assert reading.reason.code == "lungs_cut"
    assert "8 cm2 of lung on the last slice" in reading.reason.text
    with pytest.raises(LungsCut, match="30 cm2 of lung on the first slice"):
        read(volume(), much, ReadLimits())
    for parts in (little, much):
        with pytest.raises(LungsMayComplete):
            read(volume(), parts, ReadLimits(cut_may_wait=True))


def test_a_narrow_field_is_partial_and_waits_for_nothing() -> None:
    reading = read(volume(), chain(lungs=GivenLungs(edge_share=0.2)), ReadLimits(cut_may_wait=True))
    assert reading.status is Status.PARTIAL
    assert reading.reason is not None
    assert reading.reason.code == "field_of_view"


def test_missing_slices_and_oddities_are_passed_on() -> None:
    odd = (Oddity("gap", "32.5 mm are missing", 32.5), Oddity("frames", "a frame of reference per slice"))
    holed = dataclasses.replace(volume(), odd=odd, left_out=(LeftOut("1.9", "twice"),))
    reading = read(holed, chain(), ReadLimits())
    assert reading.status is Status.PARTIAL
    assert reading.reason is not None
    assert (reading.reason.code, reading.reason.text) == ("gap", "32.5 mm are missing")
    assert "a frame of reference per slice" in reading.quality
    assert reading.slices_left_out == (LeftOut("1.9", "twice"),)


def test_stages_are_timed_by_the_callers_clock_and_progress_is_told() -> None:
    ticks = iter(range(100))
    told: list[tuple[str, int, int]] = []
    reading = read(volume(), chain(), ReadLimits(), lambda *said: told.append(said), timer=lambda: float(next(ticks)))
    assert reading.seconds == {"lungs": 1.0, "detect": 1.0, "outline": 1.0}
    assert told[0] == ("lungs", 0, 1)
    assert ("detect", 1, 1) in told
    assert read(volume(), chain(), ReadLimits()).seconds == {}


def test_the_shipped_chain_finds_balls_at_their_place_and_size() -> None:
    reading = read(chest(BALLS), build_chain("hessian-dot", "cpu"), ReadLimits())
    assert reading.nodules is not None
    assert len(reading.nodules) == 3
    for centre, diameter_mm, _ in BALLS:
        nodule = min(reading.nodules, key=lambda n: float(np.linalg.norm(np.subtract(n.centre_lps_mm, centre))))
        assert nodule.centre_lps_mm == pytest.approx(centre, abs=0.5)
        assert nodule.size_error_mm is not None
        assert nodule.mean_diameter_mm == pytest.approx(diameter_mm, abs=nodule.size_error_mm)
        assert nodule.volume_mm3 == pytest.approx(np.pi / 6 * diameter_mm**3, rel=0.15)
        assert nodule.site == ("right lung" if centre[0] < 119 else "left lung")
    assert {a.task for a in reading.algorithms if a.validation == "demonstration"} == {"detector", "outliner"}


def test_the_shipped_chain_finds_nothing_in_empty_lungs() -> None:
    assert read(chest(), build_chain("hessian-dot", "cpu"), ReadLimits()).nodules == ()


def test_the_same_volume_gives_the_same_reading() -> None:
    parts = build_chain("hessian-dot", "cpu")
    one, other = (read(chest(BALLS), parts, ReadLimits()) for _ in range(2))
    assert one.candidates == other.candidates
    assert [n.mask.voxels.tobytes() for n in one.nodules or ()] == [
        n.mask.voxels.tobytes() for n in other.nodules or ()
    ]


def test_no_lung_is_not_for_us() -> None:
    flat = dataclasses.replace(volume(), hu=np.full((20, 40, 40), 40, np.int16))
    with pytest.raises(NoLung):
        read(flat, build_chain("hessian-dot", "cpu"), ReadLimits())


def test_an_unknown_entry_builds_no_chain() -> None:
    with pytest.raises(ConfigurationError, match="nearest is hessian-dot"):
        build_chain("hessian", "cpu")
