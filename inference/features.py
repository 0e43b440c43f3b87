"""What can be measured of a nodule on the node's own outline: size, density, shape, edge and surroundings, as numbers with names.

The thick of a nodule is its slices of at least half of the largest area. Shape, edge and surroundings are medians over these, each
brought to pixels of 0.6 mm, so that they mean the same at slices of 0.6 to 3 mm; what is named thick_ hangs on them alone, and not
on where an outline ends along the patient, the rest of the densities on all voxels of the mask. Nothing looks along the slices'
normal beyond the mask, nothing uses the place in the body, and no number hangs on how far the surroundings reach.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.ndimage as ndi

from inference.findings import MaskCrop
from inference.measure import axes_of

NAMES: Final = (
    "diameter",  # ln mm, of the ball of equal volume
    "area_diameter",  # ln mm, of the disc of equal area in the key slice
    "long_axis",  # ln mm
    "short_axis",  # ln mm
    "hu_mean",
    "hu_p10",
    "hu_median",
    "hu_p90",
    "hu_p99",
    "hu_sd",
    "calcium_share",  # of the mask above 200 HU
    "faint_share",  # of the mask below -300 HU
    "core_hu",  # mean of the inner half of a slice's area
    "core_rise",  # core_hu less the mean of the outer half
    "axis_ratio",  # short by long axis
    "roundness",  # 4 pi area / perimeter^2, 1 for a disc
    "filling",  # area by that of the convex hull
    "lobes",  # rms of harmonics 2 to 4 of the boundary's distance from the middle, by its mean
    "jags",  # rms of harmonics 5 to 10
    "edge_steepness",  # 1 / mm: gradient at the boundary by the contrast
    "edge_unevenness",  # sd of that gradient along the boundary by its mean
    "contrast",  # HU, mask less its surroundings
    "rim_hu",  # mean from 1 to 4 mm outside the boundary
    "rim_sd",
    "rim_dense_share",  # of the rim above -500 HU: strands, vessels, pleura
    "outer_dense_share",  # the same from 4 to 8 mm
    "thick_diameter",  # ln mm, of the ball whose thick part has this volume
    "thick_hu_mean",
    "thick_hu_p10",
    "thick_hu_median",
    "thick_hu_p90",
    "thick_hu_sd",
    "thick_calcium_share",
    "glass_share",  # of the thick, -750 to -300 HU
    "solid_share",  # of the thick, above -200 HU
    "inscribed",  # ln mm, diameter of the largest disc inside a slice
    "solid_diameter",  # ln mm, of the disc of as many pixels above -200 HU as a slice has
    "peak_hu",  # the largest mean of about 2 mm around a pixel inside
    "inner_hu",  # mean of the pixels deeper than two thirds of them
    "shell_hu",  # mean of the third next to the boundary
    "shell_sd",
)
"""In this order; a model names those that it uses."""

_HU: Final = (-1100.0, 1000.0)
_PIXEL_MM: Final = 0.6
_MARGIN_MM: Final = 9.0
_VOXELS_MIN: Final = 12
_AREA_PIXELS_MIN: Final = 6
_DIAMETER_MM_MIN: Final = 3.0
_CALCIUM_HU: Final = 200.0
_FAINT_HU: Final = -300.0
_GLASS_HU: Final = (-750.0, -300.0)
_SOLID_HU: Final = -200.0
_THICK_SHARE: Final = 1.25 / 2**0.5  # of a ball's volume lies in its slices of at least half of the largest area
_SOLID_MM_MIN: Final = 0.5  # stands for no solid pixel
_PEAK_SD_MM: Final = 0.9
_DENSE_HU: Final = -500.0
_RIM_MM: Final = (1.0, 4.0)
_OUTER_MM: Final = (4.0, 8.0)
_EDGE_MM: Final = 0.6  # a pixel on either side of the boundary
_SLICES_MAX: Final = 9
_ANGLES: Final = 64
_SMOOTHING_PX: Final = 1.0
_LOBES: Final = (2, 4)
_JAGS: Final = (5, 10)
_LAYERS_FROM: Final = 14  # of what is measured in each section

Plane = npt.NDArray[np.float64]
Area = npt.NDArray[np.bool_]


def measure_features(
    hu: npt.NDArray[np.int16], mask: MaskCrop, spacing_mm: tuple[float, float, float]
) -> npt.NDArray[np.float64] | None:
    """The features of one nodule.

    Args:
        hu: a volume or a part of it, [k, j, i].
        mask: the outline, on the grid of `hu`.
        spacing_mm: along (k, j, i).
    Returns:
        As many numbers as NAMES, all finite; None where the mask is too small to say anything of its shape.
    """
    count = int(mask.voxels.sum())
    areas = mask.voxels.sum(axis=(1, 2))
    volume_mm3 = count * float(np.prod(spacing_mm))
    diameter_mm = (6 / np.pi * volume_mm3) ** (1 / 3)
    if count < _VOXELS_MIN or areas.max() < _AREA_PIXELS_MIN or diameter_mm < _DIAMETER_MM_MIN:
        return None
    sections = [_section(hu, mask, k, spacing_mm[1:]) for k in _large_slices(areas)]
    inner = np.median(
        [
            np.concatenate([_core(*section), _shape(*section), _surroundings(*section), _layers(*section)])
            for section in sections
        ],
        axis=0,
    )
    box = tuple(slice(a, a + n) for a, n in zip(mask.start, mask.voxels.shape, strict=True))
    key = mask.voxels[_key_slice(areas)]
    thick = np.where((areas >= areas.max() / 2)[:, None, None], mask.voxels, False)
    values = np.concatenate(
        [
            _sizes(diameter_mm, key, spacing_mm[1:]),
            _densities(hu[box][mask.voxels]),
            inner[:_LAYERS_FROM],
            [np.log((6 / np.pi * thick.sum() * float(np.prod(spacing_mm)) / _THICK_SHARE) ** (1 / 3))],
            _thick_densities(hu[box][thick]),
            inner[_LAYERS_FROM:],
        ]
    )
    return values if np.isfinite(values).all() else None


def _large_slices(areas: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    """Slices of at least half of the largest area; of many a number evenly spread."""
    large = np.flatnonzero(areas >= max(areas.max() / 2, _AREA_PIXELS_MIN))
    return large[np.unique(np.linspace(0, len(large) - 1, min(len(large), _SLICES_MAX)).round().astype(np.intp))]


def _key_slice(areas: npt.NDArray[np.int64]) -> int:
    """The slice of largest area; of several the one nearest the mask's middle."""
    largest = np.flatnonzero(areas == areas.max())
    middle = float(np.average(np.arange(len(areas)), weights=areas))
    return int(largest[np.argmin(np.abs(largest - middle))])


def _section(hu: npt.NDArray[np.int16], mask: MaskCrop, k: int, spacing_mm: tuple[float, float]) -> tuple[Plane, Area]:
    """HU and mask of one slice of the mask with a margin; the last pixels go on beyond the edge of the field of view."""
    margin = [int(np.ceil(_MARGIN_MM / mm)) for mm in spacing_mm]
    rows = np.arange(mask.start[1] - margin[0], mask.start[1] + mask.voxels.shape[1] + margin[0])
    columns = np.arange(mask.start[2] - margin[1], mask.start[2] + mask.voxels.shape[2] + margin[1])
    taken = hu[mask.start[0] + k]
    plane = taken[np.ix_(np.clip(rows, 0, taken.shape[0] - 1), np.clip(columns, 0, taken.shape[1] - 1))]
    area = np.pad(mask.voxels[k], ((margin[0], margin[0]), (margin[1], margin[1])))
    return _at_pixels(np.clip(plane.astype(np.float64), *_HU), area, spacing_mm)


def _at_pixels(plane: Plane, area: Area, spacing_mm: tuple[float, float]) -> tuple[Plane, Area]:
    """Both at pixels of 0.6 mm, linear; the area's holes are filled."""
    middles = [(n - 1) / 2 for n in plane.shape]
    counts = [int((n - 1) * mm / _PIXEL_MM) + 1 for n, mm in zip(plane.shape, spacing_mm, strict=True)]
    at = [
        middle + (np.arange(count) - (count - 1) / 2) * _PIXEL_MM / mm
        for middle, count, mm in zip(middles, counts, spacing_mm, strict=True)
    ]
    grid = np.meshgrid(*at, indexing="ij")
    fine: Plane = ndi.map_coordinates(plane, grid, order=1, mode="nearest")
    share: Plane = ndi.map_coordinates(area.astype(np.float64), grid, order=1, mode="nearest")
    filled: Area = ndi.binary_fill_holes(share >= 0.5)
    return fine, filled


def _sizes(diameter_mm: float, area: Area, spacing_mm: tuple[float, float]) -> Plane:
    axes = axes_of(area, spacing_mm)
    area_mm = 2 * float(np.sqrt(area.sum() * spacing_mm[0] * spacing_mm[1] / np.pi))
    return np.log([diameter_mm, area_mm, axes.long_mm, max(axes.short_mm, 0.5)])


def _densities(inside: npt.NDArray[np.int16]) -> Plane:
    hu = np.clip(inside.astype(np.float64), *_HU)
    return np.array(
        [hu.mean(), *np.percentile(hu, (10, 50, 90, 99)), hu.std(), (hu > _CALCIUM_HU).mean(), (hu < _FAINT_HU).mean()]
    )


def _thick_densities(inside: npt.NDArray[np.int16]) -> Plane:
    hu = np.clip(inside.astype(np.float64), *_HU)
    glass = (hu >= _GLASS_HU[0]) & (hu <= _GLASS_HU[1])
    shares = [(hu > _CALCIUM_HU).mean(), glass.mean(), (hu > _SOLID_HU).mean()]
    return np.array([hu.mean(), *np.percentile(hu, (10, 50, 90)), hu.std(), *shares])


def _layers(plane: Plane, area: Area) -> Plane:
    """The largest disc inside, the solid part, the brightest place, and the HU of the inner and outer third of the area."""
    depth = ndi.distance_transform_edt(np.pad(area, 1))[1:-1, 1:-1]
    inside, hu = depth[area], plane[area]
    peak = float(ndi.gaussian_filter(plane, _PEAK_SD_MM / _PIXEL_MM)[area].max())
    low, high = np.percentile(inside, (100 / 3, 200 / 3))
    shell = hu[inside <= low]
    solid_mm = max(2 * _PIXEL_MM * float(np.sqrt((hu > _SOLID_HU).sum() / np.pi)), _SOLID_MM_MIN)
    sizes = np.log([2 * inside.max() * _PIXEL_MM, solid_mm])
    return np.array([*sizes, peak, hu[inside >= high].mean(), shell.mean(), shell.std()])


def _core(plane: Plane, area: Area) -> Plane:
    """The mean of the pixels farther from the boundary than half of them, and how much it is above that of the rest."""
    depth = ndi.distance_transform_edt(area)[area]
    hu = plane[area]
    inner = depth >= np.median(depth)
    outer = hu[~inner] if (~inner).any() else hu
    core = float(hu[inner].mean())
    return np.array([core, core - float(outer.mean())])


def _shape(plane: Plane, area: Area) -> Plane:
    """Of the area alone."""
    axes = axes_of(area, (_PIXEL_MM, _PIXEL_MM))
    smooth = ndi.gaussian_filter(area.astype(np.float64), _SMOOTHING_PX)
    perimeter = float(np.hypot(*np.gradient(smooth)).sum())  # the coarea formula: no staircase of pixels in it
    size = float(area.sum())
    lobes, jags = _boundary(area)
    return np.array(
        [axes.short_mm / axes.long_mm, 4 * np.pi * size / perimeter**2, size / _hull_pixels(area), lobes, jags]
    )


def _hull_pixels(area: Area) -> float:
    """The area of the convex hull, in pixels, from the extents in 64 directions (support function, Cauchy)."""
    places = np.argwhere(area ^ ndi.binary_erosion(area)).astype(np.float64)
    middle = places.mean(axis=0)
    angles = np.arange(_ANGLES) * 2 * np.pi / _ANGLES
    along = (places - middle) @ np.stack([np.sin(angles), np.cos(angles)])
    support = along.max(axis=0) + 0.5 * (np.abs(np.sin(angles)) + np.abs(np.cos(angles)))
    corners = _polygon(support, angles)
    x, y = corners[:, 0], corners[:, 1]
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def _polygon(support: Plane, angles: Plane) -> Plane:
    """Corners of the polygon whose sides touch the hull in the given directions."""
    following, turn = np.roll(support, -1), 2 * np.pi / len(angles)
    tangent = (following - support * np.cos(turn)) / np.sin(turn)
    return np.stack(
        [support * np.cos(angles) - tangent * np.sin(angles), support * np.sin(angles) + tangent * np.cos(angles)],
        axis=1,
    )


def _boundary(area: Area) -> tuple[float, float]:
    """How far the boundary's distance from the middle swings slowly (lobes) and quickly (jags), by its mean."""
    middle = np.argwhere(area).mean(axis=0)
    angles = np.arange(_ANGLES) * 2 * np.pi / _ANGLES
    steps = np.arange(0.0, float(np.hypot(*area.shape)), 0.25)
    smooth = ndi.gaussian_filter(area.astype(np.float64), _SMOOTHING_PX)
    at = middle[:, None, None] + np.stack([np.sin(angles), np.cos(angles)])[:, :, None] * steps
    inside = ndi.map_coordinates(smooth, at, order=1, mode="constant") >= 0.5
    radii = np.where(inside.any(axis=1), (inside.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)) * 0.25, 0.25)
    swings = np.abs(np.fft.rfft(radii)) / (len(radii) * radii.mean()) * np.sqrt(2)
    slow = float(np.sqrt(np.square(swings[_LOBES[0] : _LOBES[1] + 1]).sum()))
    quick = float(np.sqrt(np.square(swings[_JAGS[0] : _JAGS[1] + 1]).sum()))
    return slow, quick


def _surroundings(plane: Plane, area: Area) -> Plane:
    """The edge, the contrast, and what lies around."""
    outside = ndi.distance_transform_edt(~area) * _PIXEL_MM
    inside = ndi.distance_transform_edt(area) * _PIXEL_MM
    gradient = np.hypot(*np.gradient(plane, _PIXEL_MM))
    edge = gradient[(outside <= _EDGE_MM + 1e-6) & (inside <= _EDGE_MM + 1e-6)]
    rim = plane[(outside > _RIM_MM[0]) & (outside <= _RIM_MM[1])]
    outer = plane[(outside > _OUTER_MM[0]) & (outside <= _OUTER_MM[1])]
    contrast = float(plane[area].mean() - np.percentile(rim, 25))  # the quarter of the rim that is lung, not vessel
    steepness = float(edge.mean()) / max(contrast, 50.0)
    unevenness = float(edge.std() / max(edge.mean(), 1.0))
    dense = [float((part > _DENSE_HU).mean()) for part in (rim, outer)]
    return np.array([steepness, unevenness, contrast, rim.mean(), rim.std(), *dense])
