"""The outliner's model card: what it was made of and what was measured of it, from the folds that lie in the output folder."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from inference.training.outliner_dice import Row, figures

_SIZES_MM: Final = ((0.0, 8.0), (8.0, 15.0), (15.0, 100.0))
_SETS: Final = {
    "native": "crops on their own grid against the voxels that half of the readers marked (slices of the crop only)",
    "cubes": "cubes of 51 mm at 1 mm with all that is around, against one reader's outline (generous: 1.3 times the volume)",
}


def measured(output: Path, entry: str) -> Mapping[str, Any]:
    """The figures of all folds in a folder, each nodule by weights that never saw its patient."""
    rows: dict[str, list[Row]] = {name: [] for name in _SETS}
    folds = []
    for file in sorted((output / entry).glob(f"{entry}.[0-9].dice.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        folds.append(content["fold"])
        for name in _SETS:
            rows[name] += [Row(**row) for row in content[name]]
    found: dict[str, Any] = {"mode": "cross_fit", "folds": folds}
    for name, part in rows.items():
        found[name] = {**figures(part), "by_size": _by_size(part)}
    return found


def write_card(output: Path, entry: str, recipe: Mapping[str, Any]) -> Path:
    """Write card and metrics of an entry; returns the card."""
    found = measured(output, entry)
    (output / f"{entry}.metrics.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    card = output / f"{entry}.md"
    card.write_text("\n".join(_lines(entry, recipe, found)) + "\n", encoding="utf-8")
    return card


def _by_size(rows: Sequence[Row]) -> list[Mapping[str, Any]]:
    parts: list[Mapping[str, Any]] = []
    for low, high in _SIZES_MM:
        dice = [row.dice for row in rows if low <= row.size_mm < high]
        mean = round(float(np.mean(dice)), 4) if dice else None
        parts.append({"size_mm": [low, high], "mean": mean, "n": len(dice)})
    return parts


def _lines(entry: str, recipe: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    dimensions = "a 2.5-D U-Net" if recipe["dimensions"] == 2 else "MONAI's 3-D U-Net"
    lines = [
        f"# {entry} {recipe['version']}",
        "",
        f"Outlines a nodule at a point: {dimensions}. Research software, not for diagnosis.",
        "",
        "## Data",
        "Nodules of LIDC-IDRI (Armato et al. 2011, CC BY 3.0, doi 10.7937/K9/TCIA.2015.LO9QL9SX): 722 crops of 394 patients on their",
        "own grid and 82 cubes, one a patient. What shipped weights have seen is in the hashes beside them.",
        "",
        "## Use and limits",
        "One point in or near the nodule, from the detector. Nodules of 5 to 45 mm were learned from; what is larger is looked at on a",
        "coarser grid, where it looks like those. Native crops end with the nodule along the patient: where a nodule ends there",
        "was learned from the cubes and from lung of other patients planted beyond. Readers' marks, not pathology.",
        "",
        "## Measured",
        f"Cross-fit, patients apart, folds {', '.join(map(str, found['folds'])) or 'none yet'}; the point moved by up to 3 mm, one expected",
        "size for all, native crops continued along the patient by their end slices; `continued` also counts what was marked there, on",
        "slices that do not exist. 95 % intervals by bootstrap over patients, of the mean.",
        "",
        "| set | n (patients) | mean Dice | continued | median | volume error, median (absolute) |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, text in _SETS.items():
        part = found[name]
        if not part["dice"]["n"]:
            continue
        dice, volume = part["dice"], part["volume_error"]
        lines.append(
            f"| {text} | {dice['n']} ({part['n_patients']}) | {dice['mean']:.3f} [{dice['ci'][0]:.3f}-{dice['ci'][1]:.3f}] "
            f"| {dice['mean_continued']:.3f} | {dice['median']:.3f} | {volume['median']:+.1%} ({volume['median_absolute']:.1%}) |"
        )
        sizes = "; ".join(
            f"{size['size_mm'][0]:.0f}-{size['size_mm'][1]:.0f} mm: {size['mean']:.3f} (n {size['n']})"
            for size in part["by_size"]
            if size["n"]
        )
        lines.append(f"| by size | | {sizes} | | | |")
    lines += [
        "",
        "## Made by",
        "`dicom-node train outliner`, one call for each fold and one without; recipe:",
        "",
        "```",
        *[f"{name} = {value}" for name, value in recipe.items()],
        "```",
    ]
    return lines
