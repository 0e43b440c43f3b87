"""How well an outliner outlines: Dice and volume error on the crops, the point moved by up to 3 mm, the crop's shape unused.

The points are those of the training's own figures (`outliner_dice`): they hang on the nodule's key and the seed alone. Native
crops end with the nodule along the patient, which flatters every method alike; the cubes have all that is around. Beside them
the nodules of whole scans, at the detector's spots (`outlining_scans`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from inference.chain import build_part
from inference.device import choose_device
from inference.evaluation.outlining import OutlineCase, outlining_metrics
from inference.evaluation.outlining_scans import OutlinedScans, outlined_scans
from inference.evaluation.page import figure, gallery, heading, paragraph, shown, table
from inference.evaluation.pictures import FOUND, TRUTH, patch
from inference.evaluation.report import Written, strata_tables, write
from inference.evaluation.request import IN_SAMPLE, Request, described, fold_entry, in_sample, need_column
from inference.evaluation.strata import size_group, slice_group, texture_class
from inference.lungs import RIGHT, Lungs
from inference.measure import sphere_diameter_mm
from inference.reader import Outliner, Spot
from inference.training.crops import Crop, load_cubes, load_native, volume_of
from inference.training.outliner_dice import MOVED_MM, judge
from inference.training.plan import Progress

WORST_SHOWN: Final = 40
_TOLD_EVERY: Final = 50


@dataclass
class _AtPoint:
    """An outliner at a point of a crop that is all lung; remembers its last mask."""

    outliner: Outliner
    last: npt.NDArray[np.bool_] | None = None

    def at(
        self,
        hu: npt.NDArray[np.int16],
        spacing_mm: tuple[float, float, float],
        centre: tuple[float, float, float],
        size_mm: float,
    ) -> tuple[tuple[slice, slice, slice], npt.NDArray[np.bool_]] | None:
        """The body there: its box and its voxels in it."""
        self.last = np.zeros(hu.shape, bool)
        crop = Crop("", "", 0, hu, spacing_mm, self.last, self.last.astype(np.uint8), {})
        lungs = Lungs(np.full(hu.shape, RIGHT, np.uint8), 0.0, (0.0, 0.0), 1.0, 0.0)
        (mask,) = self.outliner.outline(volume_of(crop), lungs, [Spot(centre, 0.0, size_mm)], _silent)
        if mask is None:
            return None
        k, j, i = (slice(at, at + n) for at, n in zip(mask.start, mask.voxels.shape, strict=True))
        self.last[k, j, i] = mask.voxels
        return (k, j, i), mask.voxels


def _silent(stage: str, done: int, total: int) -> None:
    """Nobody watches."""


@dataclass(frozen=True, eq=False)
class _Outlined:
    case: OutlineCase
    crop: Crop
    mask: npt.NDArray[np.bool_]


def evaluate(request: Request, say: Progress) -> Written:
    """Measure an outliner on the crops of a data folder; writes metrics.json and report.html.

    Raises:
        NoSuchData: the crops or the column of folds are missing.
        InSample, ModelRefused: see `request`.
    """
    need_column(request)
    entries = request.entries()
    entry = entries["outliner"]
    sets = {"native": load_native(request.data), "cubes": load_cubes(request.data)}
    crops = [crop for part in sets.values() for crop in part]
    seen = 0 if request.folds else in_sample(request, [entry], {crop.patient for crop in crops})
    parts = {}
    for fold in sorted({crop.fold for crop in crops}) if request.folds else ():
        patients = {crop.patient for crop in crops if crop.fold == fold}
        parts[fold] = build_part(fold_entry(request, entry, fold, patients, say), choose_device(request.device))
    shipped = None if parts else build_part(entry, choose_device(request.device))
    outlined = {
        name: [
            _outlined(crop, parts.get(crop.fold, shipped), request.seed, f"{name} {place} of {len(part)}", say)
            for place, crop in enumerate(part, start=1)
            if crop.mask.any()
        ]
        for name, part in sets.items()
    }
    scans = outlined_scans(request, entries, crops, say)
    seen = max(seen, len(scans.seen))
    stamp = IN_SAMPLE if seen else ""
    figures: dict[str, Any] = {
        **outlining_metrics([one.case for one in outlined["native"]]),
        "cubes": outlining_metrics([one.case for one in outlined["cubes"]]),
        "prompt_moved_mm_max": MOVED_MM,
        "scans": scans.figures,
    }
    used = [entry, *([entries["detector"], entries["lungs"]] if scans.rows else [])]
    return write(
        request, figures, described(used), seen, stamp, lambda: [*_body(figures, outlined, stamp), *_scans(scans)]
    )


def _outlined(crop: Crop, outliner: Outliner | None, seed: int, where: str, say: Progress) -> _Outlined:
    assert outliner is not None
    finder = _AtPoint(outliner)
    (row,) = judge(finder, [crop], seed)
    if int(where.split()[1]) % _TOLD_EVERY == 0:
        say(where)
    assert finder.last is not None
    case = OutlineCase(
        key=crop.key,
        patient=crop.patient,
        dice=row.dice,
        volume_error=row.volume_error,
        outlined=bool(finder.last.any()),
        groups={
            "size_mm": size_group(sphere_diameter_mm(crop.mask, crop.spacing_mm)),
            "texture": texture_class(crop.ratings.get("texture")),
            "slice_mm": slice_group(crop.spacing_mm[0]),
        },
    )
    beyond = (len(finder.last) - len(crop.mask)) // 2  # slices by which the crop was continued at either end
    return _Outlined(case, crop, finder.last[beyond : beyond + len(crop.mask)])


def _body(figures: Mapping[str, Any], outlined: Mapping[str, Sequence[_Outlined]], stamp: str) -> list[str]:
    from inference.evaluation.plots import histogram_plot

    body = []
    titles = {
        "native": "Crops on their own grid, against half of the readers",
        "cubes": "Cubes of 51 mm, against one reader",
    }
    for name, part in outlined.items():
        if not part:
            continue
        found = figures if name == "native" else figures[name]
        dice, error = found["dice"], found["volume_error"]
        rows = [
            ("Dice, mean", dice["n"], shown(dice["mean"], dice["ci"])),
            ("Dice, median", dice["n"], shown(dice["median"], dice["median_ci"])),
            ("volume error, mean", error["n"], shown(error["mean"], error["ci"])),
            ("volume error, median", error["n"], shown(error["median"], error["median_ci"])),
            ("volume error, mean of its size", error["n"], shown(error["mean_absolute"], error["mean_absolute_ci"])),
            (
                "share with an outline",
                found["outlined"]["n"],
                shown(found["outlined"]["share"], found["outlined"]["ci"]),
            ),
        ]
        body += [heading(titles[name]), table(["figure", "n", "value [95 %]"], rows)]
        cases = [one.case for one in part]
        body.append(figure(histogram_plot([c.dice for c in cases], "Dice", stamp, (0, 1)), f"Dice, n = {len(cases)}"))
        errors = [c.volume_error for c in cases]
        label = "volume error (2 = 2 and more)"
        body.append(figure(histogram_plot(errors, label, stamp, (-1, 2)), "(found - true) / true"))
        body += strata_tables(found["strata"], "mean", "ci", "mean Dice")
        worst = sorted(part, key=lambda one: one.case.dice)[:WORST_SHOWN]
        body += [
            heading(f"The {len(worst)} worst", 3),
            paragraph(
                "Blue: the readers. Orange: the outline. The slice where the readers' area is largest; 50 mm wide."
            ),
            gallery((_picture(one), f"{one.case.key}: Dice {one.case.dice:.2f}") for one in worst),
        ]
    return body


def _scans(scans: OutlinedScans) -> list[str]:
    """A line for each nodule of the whole scans."""
    if not scans.rows and not scans.left_out:
        return []
    rows = [
        (f"{row.scan} nodule {row.number}", row.size_mm, "yes" if row.spotted else "no", row.dice, row.volume_error)
        for row in scans.rows
    ]
    left_out = [paragraph(f"{name} was not read: {why}.") for name, why in scans.left_out]
    return [
        heading("Nodules of whole scans, at the detector's spots"),
        paragraph(
            "Dice 0: there was a spot, but no outline or one beside the nodule. A dash: no spot, or no mask to compare with."
        ),
        table(["nodule", "diameter, mm", "spot", "Dice", "volume error"], rows),
        *left_out,
    ]


def _picture(one: _Outlined) -> bytes:
    key = int(one.crop.mask.sum(axis=(1, 2)).argmax())
    rows, columns = np.nonzero(one.crop.mask[key])
    return patch(
        one.crop.hu[key],
        one.crop.spacing_mm[1:],
        (float(rows.mean()), float(columns.mean())),
        [(one.crop.mask[key], TRUTH), (one.mask[key], FOUND)],
    )
