"""Where the lungs are, and whether they are whole.

The lungs are the large bodies of air inside the patient that are lung by their HU; airways are taken out, each lung is
closed over what lies on its pleura. Worked out on cells of about 1.6 mm, which also keeps the noise of sharp kernels down.
What holds no air (consolidation, effusion) is outside, unless the closing reaches over it; `gate.py` says where a lung lacks it.
"""

from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.ndimage as ndi
import torch

from config.catalogue import Entry
from inference.airways import Air, Spacing, find_airways
from inference.device import CPU, on_device
from inference.errors import LungBase, LungsCut, LungsMayComplete, NoLung
from inference.findings import Algorithm, Reason
from inference.grids import distance_mm, in_threads, on, smoothed
from inference.masks import IN_PLANE, Mask, box_of, by_slabs, dilated, eroded, opened
from inference.pleura import fill_dents
from inference.volume import Volume

RIGHT: Final = 1
LEFT: Final = 2

END_CM2_MAX: Final = 5.0
"""More lung than this on an end slice: lungs are cut, the reading is partial."""
END_SHARE_MAX: Final = 0.25
"""More of the largest cross-section than this on an end slice: too little lung to read."""
BASE_SHARE_MAX: Final = 1 / 3
"""Lung in less of the stack than this, at one end: the scan is of something else."""
BEYOND_MM_MIN: Final = 150.0
"""As much stack without lung, so that it is a scan of its own."""
EDGE_SHARE_MAX: Final = 0.05
"""More of the lungs' border than this on the edge of the field of view: partial."""

_CELL_MM: Final = (2.0, 1.6, 1.6)
_COARSE_MM: Final = 3.2  # sides and closing need no finer grid
_OUTSIDE_HU: Final = -940.0  # the air around the patient is darker on average, lungs are not
_LUNG_HU: Final = (-950.0, -500.0)  # bowel gas and trapped air have little between, also at their rims
_LUNG_SHARE_MIN: Final = 0.35
_TISSUE_HU_MIN: Final = -300.0  # fat, too; noise of sharp kernels moves the cells' means by a fifth of what is between
_ENCLOSED_MIN: Final = 0.3  # of a body: whole lungs have 1, lungs in a narrow field a third, foam below a patient nothing
_CELLS_AT_ONCE: Final = 32  # slices of cells: bounds what is copied of a volume
_NECKS_MM: Final = (0.0, 2.0, 4.0, 6.0, 9.0, 12.0, 15.0)  # lungs that touch come apart where so much is taken off them
_AXIAL_MIN: Final = 0.8  # of the patient's left that lies in the slices' plane
_SLICE: Final = ndi.generate_binary_structure(3, 1) & np.array([False, True, False])[:, None, None]


@dataclass(frozen=True, eq=False)
class Lungs:
    """The lungs of a volume.

    `labels` uint8 [k, j, i], read-only: 0 outside, 1 the patient's right lung, 2 the left; vessels, nodules and tumours on
    the pleura are inside, airways outside. `end_cm2`: lung on the first and the last slice (of k). `largest_cm2`: on the
    slice that has most. `edge_share`: part of the lungs' border that lies on the edge of the field of view, 0 to 1.
    `stack_mm`: how much of the stack has lung, and the whole of it.
    """

    labels: npt.NDArray[np.uint8]
    volume_ml: float
    end_cm2: tuple[float, float]
    largest_cm2: float
    edge_share: float
    stack_mm: tuple[float, float] = (0.0, 0.0)


def judge_wholeness(lungs: Lungs, *, may_wait: bool) -> Reason | None:
    """Are these whole lungs? None: yes; a Reason: in part, and why.

    Args:
        may_wait: more slices may still come.
    Raises:
        LungsCut: too little of them is there.
        LungBase: too little, in a stack that is mostly of something else.
        LungsMayComplete: they are cut at an end, and `may_wait`.
    """
    cut_cm2 = max(lungs.end_cm2)
    end = "first" if lungs.end_cm2[0] >= lungs.end_cm2[1] else "last"
    said = f"lungs are cut: {cut_cm2:.0f} cm2 of lung on the {end} slice, {lungs.largest_cm2:.0f} cm2 on the largest"
    if cut_cm2 > END_CM2_MAX and may_wait:
        raise LungsMayComplete(said)
    if cut_cm2 > END_SHARE_MAX * lungs.largest_cm2 and _of_something_else(lungs):
        with_lung, whole = lungs.stack_mm
        raise LungBase(
            f"only {with_lung:.0f} of {whole:.0f} mm, at one end of the scan, have lung: no scan of the chest"
        )
    if cut_cm2 > END_SHARE_MAX * lungs.largest_cm2:
        raise LungsCut(said, do="send the missing slices; the series is then read again")
    if cut_cm2 > END_CM2_MAX:
        return Reason("lungs_cut", said)
    if lungs.edge_share > EDGE_SHARE_MAX:
        said = f"{lungs.edge_share:.0%} of the lungs' border lies on the edge of the field of view"
        return Reason("field_of_view", said)
    return None


def _of_something_else(lungs: Lungs) -> bool:
    """Lung at one end alone, in the smaller part of the stack, and beyond it as much as a scan of something else has."""
    with_lung, whole = lungs.stack_mm
    return min(lungs.end_cm2) == 0 and with_lung < BASE_SHARE_MAX * whole and whole - with_lung >= BEYOND_MM_MIN


class AirLungs:
    """Lungs by their air; parameters of the catalogue: `air_hu_max`, `lung_ml_min`, `closing_mm`, and `rib_mm`, from
    the inside of the chest wall to the nearest rib (see `pleura.py`)."""

    def __init__(self, entry: Entry, device: torch.device = CPU) -> None:
        self.algorithm = Algorithm(entry.task, entry.name, entry.version, entry.sha256, entry.validation)
        self._air_hu_max = entry.number("air_hu_max")
        self._lung_ml_min = entry.number("lung_ml_min")
        self._closing_mm = entry.number("closing_mm")
        self._rib_mm = entry.number("rib_mm")
        self._device = device

    def segment(self, volume: Volume) -> Lungs:
        """The lungs of a CT volume whose slices are axial.

        Raises:
            NoLung: nothing in it is a lung.
        """
        cell_mm, factors = _cell_of(volume)
        cells, air = on_device(partial(_cells, volume, factors), self._device)
        edge = _field_edge(volume, cells.shape, factors)
        inside = _inside_air(air, edge, self._air_hu_max)
        lung = self._large_lungs(air, inside, cell_mm)
        headwards = 1 if volume.affine[2, 0] >= 0 else -1
        airways = find_airways(air, inside, lung, cell_mm, headwards)
        lung = opened(lung & ~dilated(airways))
        if not lung.any():
            raise NoLung("only airways hold air", volume.series_instance_uid)
        labels = np.zeros(lung.shape, np.uint8)
        box = box_of(lung)  # a closing stays inside it
        sides = _sides(lung, box, cell_mm, volume.affine, self._device)
        labels[box] = _closed(sides, cell_mm, self._closing_mm, self._device)
        labels = _without_dents(labels, cells, cell_mm, volume.affine, self._rib_mm, self._device)
        labels[airways] = 0
        cm2 = lung.sum(axis=(1, 2)) * (cell_mm[1] * cell_mm[2] / 100)
        return Lungs(
            labels=_on_grid(labels, factors, volume.hu.shape),
            volume_ml=float(lung.sum() * np.prod(cell_mm) / 1000),
            end_cm2=(float(cm2[0]), float(cm2[-1])),
            largest_cm2=float(cm2.max()),
            edge_share=_edge_share(lung, edge),
            stack_mm=(float(np.count_nonzero(cm2) * cell_mm[0]), float(len(cm2) * cell_mm[0])),
        )

    def _large_lungs(self, air: Air, inside: Mask, cell_mm: Spacing) -> Mask:
        """The bodies of air that are large enough, have the HU of lung and lie within the patient."""
        box = box_of(inside)
        bodies, count = ndi.label(inside[box])
        enclosed = _enclosed(air, cell_mm)[box]
        ml = np.bincount(bodies[inside[box]], minlength=count + 1) * (np.prod(cell_mm) / 1000)
        kept = np.zeros(count + 1, bool)
        places = ndi.find_objects(bodies) if count else []
        for body in 1 + np.flatnonzero(ml[1:] >= self._lung_ml_min):
            place = places[body - 1]
            here = bodies[place] == body
            hu = air[box][place][here]
            lung_like = np.mean((hu > _LUNG_HU[0]) & (hu < _LUNG_HU[1])) >= _LUNG_SHARE_MIN
            kept[body] = lung_like and np.mean(enclosed[place][here]) >= _ENCLOSED_MIN
        if not kept.any():
            raise NoLung(
                f"no body of air of {self._lung_ml_min:.0f} ml or more within the patient has the density of lung"
            )
        large = np.zeros_like(inside)
        large[box] = kept[bodies]
        return large


def _cell_of(volume: Volume) -> tuple[Spacing, tuple[int, int, int]]:
    """The size of a cell of about 1.6 mm: in mm, and in voxels."""
    k, j, i = (
        max(1, min(round(cell / mm), length))
        for cell, mm, length in zip(_CELL_MM, volume.spacing_mm, volume.hu.shape, strict=True)
    )
    size = [float(mm * factor) for mm, factor in zip(volume.spacing_mm, (k, j, i), strict=True)]
    return (size[0], size[1], size[2]), (k, j, i)


def _cells(volume: Volume, factors: tuple[int, int, int], device: torch.device) -> tuple[Air, Air]:
    """Mean HU of the cells, clipped so that padding and metal don't weigh; and the same slightly smoothed.

    Voxels beyond the last whole cell are left out; `_on_grid` extends the last cells over them.
    """
    shape = tuple(length // factor for length, factor in zip(volume.hu.shape, factors, strict=True))
    cells = torch.zeros(shape, device=device)
    for first in range(0, shape[0], _CELLS_AT_ONCE):
        slab = cells[first : first + _CELLS_AT_ONCE]
        hu = on(device, volume.hu[first * factors[0] : (first + len(slab)) * factors[0]])
        for offset in np.ndindex(*factors):
            part = tuple(slice(o, n * f, f) for o, n, f in zip(offset, slab.shape, factors, strict=True))
            slab += hu[part].clamp(-1024, 400)
    cells /= torch.tensor(float(np.prod(factors)), device=device)  # a GPU multiplies by the inverse of a plain number
    return cells.cpu().numpy(), smoothed(cells, (0.5, 0.6, 0.6)).cpu().numpy()


def _on_grid(
    labels: npt.NDArray[np.uint8], factors: tuple[int, int, int], shape: tuple[int, ...]
) -> npt.NDArray[np.uint8]:
    """Labels of cells on the source grid, read-only."""
    k, j, i = (
        np.minimum(np.arange(length) // factor, cells - 1)
        for factor, length, cells in zip(factors, shape, labels.shape, strict=True)
    )
    grid = np.empty(shape, np.uint8)

    def work(slab: slice) -> None:
        np.take(labels[k[slab]].take(j, axis=1), i, axis=2, out=grid[slab], mode="clip")

    by_slabs(work, shape[0])
    grid.flags.writeable = False
    return grid


def _touching(mask: Mask, where: Mask) -> tuple[npt.NDArray[np.signedinteger], Mask]:
    """In-plane components of a mask, and which of them touch `where`."""
    parts, count = ndi.label(mask, _SLICE)
    touch = np.zeros(count + 1, bool)
    touch[np.unique(parts[where & mask])] = True
    touch[0] = False
    return parts, touch


def _field_edge(volume: Volume, shape: tuple[int, ...], factors: tuple[int, int, int]) -> Mask:
    """Cells at the edge of what was imaged: the frame, and around the padding of a round field.

    Padding has no value of its own in a header one can trust: it is what equals the least value (or lies below any HU)
    and reaches the frame. Widened by two cells, so that the half-filled ones at its border don't pass for lung.
    """
    middle = tuple(slice(f // 2, n * f, f) for f, n in zip(factors, shape, strict=True))
    sample = volume.hu[middle]
    least = int(sample.min())
    frame = np.zeros(shape, bool)
    frame[:, [0, -1]] = True
    frame[:, :, [0, -1]] = True
    padding = sample <= max(least, -1500) if least < -1100 else sample == least
    reached = np.empty(shape, bool)

    def work(slab: slice) -> None:
        parts, touch = _touching(padding[slab], frame[slab])
        reached[slab] = touch[parts]

    by_slabs(work, shape[0])
    return frame | dilated(reached, IN_PLANE, times=2)


def _inside_air(air: Air, edge: Mask, air_hu_max: float) -> Mask:
    """Air that is not the air around the patient.

    What touches the field's edge in its slice and is as dark as room air at its core, or has no core (a rim of skin), is
    outside. What is left of the touching may be lung that the field of view cuts, or foam of the table; `_enclosed` tells them apart.
    """
    dark = (air < air_hu_max) & ~edge
    beside_edge = dilated(edge, IN_PLANE)
    cores = eroded(dark, IN_PLANE, times=3)
    inside = np.empty_like(dark)

    def work(slab: slice) -> None:
        parts, touch = _touching(dark[slab], beside_edge[slab])
        core = cores[slab] & touch[parts]
        count = np.bincount(parts[core], minlength=len(touch))
        total = np.bincount(parts[core], weights=air[slab][core], minlength=len(touch))
        outside = touch & ~((count > 0) & (total > _OUTSIDE_HU * count))
        inside[slab] = dark[slab] & ~outside[parts]

    by_slabs(work, len(dark))
    return inside


def _enclosed(air: Air, cell_mm: Spacing) -> Mask:
    """Cells with tissue of the patient on three of four sides in their slice: the field of view may cut off one.

    Foam of a table, whatever its HU and noise, has the patient on one side; shells and covers are too thin to be tissue.
    """
    steps = _steps(cell_mm)
    tissue = opened(air[:: steps[0], :: steps[1], :: steps[2]] > _TISSUE_HU_MIN, IN_PLANE)
    sides = np.zeros(tissue.shape, np.uint8)
    for axis in (1, 2):
        sides += np.logical_or.accumulate(tissue, axis=axis)
        sides += np.flip(np.logical_or.accumulate(np.flip(tissue, axis), axis=axis), axis)
    around: Mask = _on_grid((sides >= 3).astype(np.uint8), steps, air.shape) > 0
    return around


def _steps(cell_mm: Spacing) -> tuple[int, int, int]:
    """Every how many cells there is one of the coarse grid."""
    k, j, i = (max(1, round(_COARSE_MM / mm)) for mm in cell_mm)
    return k, j, i


def _sides(
    lungs: Mask, box: tuple[slice, ...], cell_mm: Spacing, affine: npt.NDArray[np.float64], device: torch.device
) -> npt.NDArray[np.uint8]:
    """The lungs' box, cells labelled right and left by LPS x. Lungs that touch are parted where they are thinnest: two
    cores are sought by eroding, and every cell goes to the nearer one. One lung alone takes the side of the field where
    it lies.
    """
    lung = lungs[box]
    steps = _steps(cell_mm)
    coarse, mm = lung[:: steps[0], :: steps[1], :: steps[2]], tuple(np.multiply(cell_mm, steps))
    leftwards = affine[0, :3] / np.linalg.norm(affine[0, :3])  # LPS x grows to the patient's left
    depth = distance_mm(~coarse, mm, device, _NECKS_MM[-1] + max(mm))
    for radius in _NECKS_MM:
        parts, count = ndi.label(depth > radius)
        sizes = np.bincount(parts.ravel(), minlength=count + 1)
        sizes[0] = 0
        if count < 2:
            continue
        first, second = np.argsort(sizes)[:-3:-1]
        if sizes[second] < 0.15 * sizes[first]:
            continue
        centres = np.array(ndi.center_of_mass(depth > radius, parts, [first, second])) * mm
        across = float((centres[1] - centres[0]) @ leftwards)
        if abs(across) < 50:
            continue
        left, right = (second, first) if across > 0 else (first, second)
        cores = (parts == left, parts == right)
        to_left, to_right = in_threads(lambda core: distance_mm(core, mm, device), cores)
        labels = np.where(to_right <= to_left, RIGHT, LEFT).astype(np.uint8)
        return np.where(lung, _on_grid(labels, steps, lung.shape), 0).astype(np.uint8)
    centre = np.argwhere(lungs).mean(axis=0) - (np.array(lungs.shape) - 1) / 2
    side = LEFT if float((centre * cell_mm) @ leftwards) > 0 else RIGHT
    return lung.astype(np.uint8) * np.uint8(side)


def _closed(
    labels: npt.NDArray[np.uint8], cell_mm: Spacing, radius_mm: float, device: torch.device
) -> npt.NDArray[np.uint8]:
    """Each lung closed by a ball, so that vessels, nodules and tumours on the pleura are inside; where both lungs reach,
    the nearer has it."""
    steps = _steps(cell_mm)
    mm = tuple(np.multiply(cell_mm, steps))

    def closed_box(side: int) -> tuple[Air, Mask]:
        """How far each cell of a lung's box is from it, and the closed lung, which stays in that box."""
        lung = labels[:: steps[0], :: steps[1], :: steps[2]] == side
        near, hull = np.full(lung.shape, np.inf, np.float32), np.zeros(lung.shape, bool)
        box = box_of(lung)
        margin = tuple((int(np.ceil(radius_mm / size)) + 1,) * 2 for size in mm)
        reach_mm = radius_mm + max(mm)
        if lung.any():
            distance = distance_mm(np.pad(lung[box], margin), mm, device, reach_mm)
            closed = distance_mm(distance > radius_mm, mm, device, reach_mm) > radius_mm
            within = tuple(slice(low, -high) for low, high in margin)
            near[box], hull[box] = distance[within], closed[within] | lung[box]
        return near, hull

    near, hulls = zip(*in_threads(closed_box, (RIGHT, LEFT)), strict=True)
    coarse = np.where(hulls[0] & (~hulls[1] | (near[0] <= near[1])), RIGHT, np.where(hulls[1], LEFT, 0))
    closed = _on_grid(coarse.astype(np.uint8), steps, labels.shape)
    return np.where(labels > 0, labels, closed).astype(np.uint8)


def _without_dents(
    labels: npt.NDArray[np.uint8],
    cells: Air,
    cell_mm: Spacing,
    affine: npt.NDArray[np.float64],
    rib_mm: float,
    device: torch.device,
) -> npt.NDArray[np.uint8]:
    """The lungs with broad dents of the chest wall filled, found on the coarse grid; of slices that are not axial none are."""
    leftwards = affine[0, 1:3] / np.linalg.norm(affine[0, :3])
    if np.linalg.norm(leftwards) < _AXIAL_MIN:
        return labels
    steps = _steps(cell_mm)
    coarse = labels[:: steps[0], :: steps[1], :: steps[2]]
    mm = (cell_mm[0] * steps[0], cell_mm[1] * steps[1], cell_mm[2] * steps[2])
    left = leftwards / np.linalg.norm(leftwards)
    headwards = 1 if affine[2, 0] >= 0 else -1
    filled = fill_dents(coarse, cells[:: steps[0], :: steps[1], :: steps[2]], mm, left, headwards, rib_mm, device)
    added = np.where(coarse == 0, filled, 0).astype(np.uint8)
    return np.where(labels > 0, labels, _on_grid(added, steps, labels.shape)).astype(np.uint8)


def _edge_share(lung: Mask, edge: Mask) -> float:
    """Part of the lungs' border, slice by slice, that lies on the field's edge."""
    border = lung & ~eroded(lung, IN_PLANE)
    at_edge = border & dilated(edge, IN_PLANE, times=2)
    return float(at_edge.sum() / max(1, border.sum()))
