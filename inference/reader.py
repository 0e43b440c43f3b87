"""The chain that reads a CT volume: lungs, candidates, outlines, grades; each a Protocol, each named by its catalogue entry.

`read` makes the `Reading`: it judges whether the lungs are whole, ranks, measures, and says what was odd. It knows no
method; `inference/chain.py` alone does. Same volume, same chain, same device: same reading.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from inference.findings import Algorithm, Candidate, MaskCrop, Nodule, Reading, Reason, Status
from inference.gate import flags
from inference.gate import limits as limits_of
from inference.lungs import Lungs, judge_wholeness
from inference.measure import measure_nodule, sphere_diameter_mm, to_lps_mm
from inference.volume import Volume

Progress = Callable[[str, int, int], None]
"""Called with stage (`lungs`, `detect`, `outline`, `grade`), how many parts of it are done, and of how many."""


@dataclass(frozen=True)
class Spot:
    """A place where a nodule may be: `centre` (k, j, i) in voxels of the source grid, the detector's `response`, the
    diameter `scale_mm` that answered best, and the `confidence`, a score of 0 to 1, of a detector that was trained. `parts`
    are places that were taken for pieces of it: they count by themselves where it turns out to be no nodule. An outline
    narrower than `body_mm_min` is not of what answered there."""

    centre: tuple[float, float, float]
    response: float
    scale_mm: float
    confidence: float | None = None
    parts: tuple["Spot", ...] = ()
    body_mm_min: float = 0.0


class LungSegmenter(Protocol):
    """Where the lungs are. Same volume, same answer."""

    @property
    def algorithm(self) -> Algorithm: ...

    def segment(self, volume: Volume) -> Lungs:
        """Raises NoLung when there is none."""


class Detector(Protocol):
    """Places in the lungs where a nodule may be, strongest first, at most the number that its entry names."""

    @property
    def algorithm(self) -> Algorithm: ...

    def detect(self, volume: Volume, lungs: Lungs, progress: Progress) -> Sequence[Spot]: ...

    def is_strong(self, spot: Spot) -> bool:
        """Whether a place may go into the result; a weaker one stays a candidate."""


class Outliner(Protocol):
    """How far a nodule reaches."""

    @property
    def algorithm(self) -> Algorithm: ...

    @property
    def diameter_mm_min(self) -> float:
        """What is smaller has no outline: it would be noise and vessels."""

    def outline(
        self, volume: Volume, lungs: Lungs, spots: Sequence[Spot], progress: Progress
    ) -> Sequence[MaskCrop | None]:
        """A mask for each spot, or None where nothing nodule-like lies there. Masks don't overlap and stay inside the lungs;
        of several spots on one body the first has the mask, the others None."""


class Grader(Protocol):
    """What a nodule is like: fills in confidence, malignancy, texture and the like; changes no geometry."""

    @property
    def algorithm(self) -> Algorithm: ...

    def grade(self, volume: Volume, nodules: Sequence[Nodule], progress: Progress) -> Sequence[Nodule]: ...


@dataclass(frozen=True)
class Chain:
    """The parts of one way to read a CT, and how many nodules a result of it may hold at most."""

    lungs: LungSegmenter
    detector: Detector
    outliner: Outliner
    grader: Grader | None = None
    findings_max: int = 30

    @property
    def algorithms(self) -> tuple[Algorithm, ...]:
        """Who made the reading, in the order of work."""
        parts = (self.lungs, self.detector, self.outliner, self.grader)
        return tuple(part.algorithm for part in parts if part is not None)


@dataclass(frozen=True)
class ReadLimits:
    """What a site allows. `cut_may_wait`: more slices may still come, so lungs that are cut at an end of the stack raise
    `LungsMayComplete` in place of a judgement."""

    nodules_max: int = 30
    cut_may_wait: bool = False


class _Stopwatch:
    """Seconds by stage, by somebody else's clock; none without one."""

    def __init__(self, timer: Callable[[], float] | None) -> None:
        self._timer = timer
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        before = self._timer() if self._timer else 0.0
        yield
        if self._timer:
            self.seconds[name] = round(self._timer() - before, 3)


def _silent(stage: str, done: int, total: int) -> None:
    """Nobody watches."""


def read(
    volume: Volume,
    chain: Chain,
    limits: ReadLimits,
    progress: Progress = _silent,
    *,
    timer: Callable[[], float] | None = None,
) -> Reading:
    """Read one CT volume.

    Args:
        volume: HU [k, j, i] with its affine to LPS mm.
        progress: called from time to time, never more than some seconds apart; see `Progress`.
        timer: a monotonic clock in s for `Reading.seconds` (`lungs`, `detect`, `outline`, `grade`).
    Returns:
        Nodules numbered from 1 by rank, with no tracking UID; all ranked candidates, those that were reported marked.
        Status PARTIAL, with its reason, when the lungs are cut or slices are missing.
    Raises:
        NoLung: nothing in it is a lung: not for us.
        LungsCut: more than a quarter of the largest cross-section lies on an end slice: ours, but not to be read.
        LungsMayComplete: the lungs are cut at an end, and `limits.cut_may_wait`.
    """
    watch = _Stopwatch(timer)
    with watch.stage("lungs"):
        progress("lungs", 0, 1)
        lungs = chain.lungs.segment(volume)
        cut = judge_wholeness(lungs, may_wait=limits.cut_may_wait)
        progress("lungs", 1, 1)
    with watch.stage("detect"):
        spots = tuple(chain.detector.detect(volume, lungs, progress))
    with watch.stage("outline"):
        spots, strong, masks = outlined(volume, lungs, chain, spots, progress)
        found = [(place, mask) for place, mask in zip(strong, masks, strict=True) if mask is not None]
        nodules_max = min(limits.nodules_max, chain.findings_max)
        shown = found[:nodules_max]
        nodules = tuple(
            replace(measure_nodule(volume, mask, number, lungs), confidence=_rounded(spots[place].confidence))
            for number, (place, mask) in enumerate(shown, start=1)
        )
    if chain.grader is not None:
        with watch.stage("grade"):
            nodules = tuple(chain.grader.grade(volume, nodules, progress))
    reasons = [cut] if cut else []
    reasons += [Reason(odd.code, odd.text) for odd in volume.odd if odd.code == "gap"]
    return Reading(
        series_instance_uid=volume.series_instance_uid,
        modality=volume.modality,
        status=Status.PARTIAL if reasons else Status.COMPLETED,
        reason=Reason(reasons[0].code, "; ".join(reason.text for reason in reasons)) if reasons else None,
        nodules=nodules,
        findings=None,
        algorithms=chain.algorithms,
        slices_read=tuple(volume.sop_instance_uids),
        slices_left_out=tuple(volume.left_out),
        quality=_quality(volume, lungs, more=len(found) - len(shown), nodules_max=nodules_max),
        smallest_mm=chain.outliner.diameter_mm_min,
        candidates=_candidates(volume, spots, reported=frozenset(place for place, _ in shown)),
        seconds=watch.seconds,
        series_number=volume.series_number,
        series_description=volume.description,
        frames_read=volume.frame_numbers,
        limited=len(found) > len(shown) or limits_of(volume, lungs),
    )


def _candidates(volume: Volume, spots: Sequence[Spot], reported: frozenset[int]) -> tuple[Candidate, ...]:
    """The spots as findings, ranked as the detector gave them; `reported` are places in that order."""
    return tuple(
        Candidate(
            rank=place + 1,
            centre_lps_mm=to_lps_mm(volume.affine, spot.centre),
            response=round(spot.response, 3),
            scale_mm=round(spot.scale_mm, 1),
            reported=place in reported,
        )
        for place, spot in enumerate(spots)
    )


def _rounded(score: float | None) -> float | None:
    return None if score is None else round(score, 3)


def outlined(
    volume: Volume, lungs: Lungs, chain: Chain, spots: tuple[Spot, ...], progress: Progress
) -> tuple[tuple[Spot, ...], list[int], Sequence[MaskCrop | None]]:
    """The spots, which of them are strong, and a mask or None for each of these.

    A spot without an outline gives way to its parts: the hilum must not take a nodule beside it with it. So does one whose outline
    is too narrow for what answered there. A score must reach the operating point of the size that was outlined too: a small
    vessel in a large place must do for a small one.
    """
    too_small: set[Spot] = set()
    while True:
        strong = [p for p, spot in enumerate(spots) if spot not in too_small and chain.detector.is_strong(spot)]
        masks = chain.outliner.outline(volume, lungs, [spots[place] for place in strong], progress)
        small = {
            place
            for place, mask in zip(strong, masks, strict=True)
            if mask is not None and not _is_strong_at_its_size(spots[place], mask, volume, chain.detector)
        }
        none = {place for place, mask in zip(strong, masks, strict=True) if mask is None} | small
        wholes = {place for place in none if spots[place].parts}
        if not wholes and not small:
            return spots, strong, masks
        too_small |= {spots[place] for place in small - wholes}
        spots = tuple(s for place, spot in enumerate(spots) for s in (_parts(spot) if place in wholes else (spot,)))


def _parts(spot: Spot) -> list[Spot]:
    """The likeliest first: of several on one body it has the outline."""
    return sorted(spot.parts, key=lambda part: -(part.confidence or 0.0))


def _is_strong_at_its_size(spot: Spot, mask: MaskCrop, volume: Volume, detector: Detector) -> bool:
    diameter_mm = sphere_diameter_mm(mask.voxels, volume.spacing_mm)
    if spot.confidence is None or diameter_mm >= spot.scale_mm:
        return True
    return diameter_mm >= spot.body_mm_min and detector.is_strong(replace(spot, scale_mm=diameter_mm))


def _quality(volume: Volume, lungs: Lungs, *, more: int, nodules_max: int) -> tuple[str, ...]:
    """What a reader of the result must know besides: what was odd about geometry and scan, and what was not shown."""
    said = [*(odd.text for odd in volume.odd if odd.code != "gap"), *flags(volume, lungs)]
    if more > 0:
        said.append(
            f"{more} further place{'s' if more > 1 else ''} answered the detector; only the {nodules_max} strongest are shown"
        )
    return tuple(said)
