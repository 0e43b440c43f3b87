"""Places of whole scans that training looks at: nodules, what the dot filter takes for one, and healthy lung to plant in.

For each scan once, kept as a file of its own by the scan's name, so that every fold opens those of its own scans and no
other; what was made otherwise, or nobody knows how, is made anew. What the filter takes for a nodule is sought three times:
in the scan as it is, with more noise, and with thicker slices; all that lies within 6 mm of any reader's mark is left out.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.ndimage as ndi

from config.catalogue import Entry, find_entry, parameters_digest
from inference.chain import build_part
from inference.device import choose_device
from inference.lungs import Lungs
from inference.measure import to_lps_mm
from inference.nodule_net import FIRST_STAGE, first_stage
from inference.patches import View, patch_at
from inference.reader import Spot
from inference.training.plan import Progress
from inference.training.scans import Scan, load_scan, scan_folders
from inference.volume import Volume

MARK_MM: Final = 6.0
SITE_MM: Final = 15.0
SITES: Final = 160
MARGIN: Final = 4  # mm that a place may be shifted in training
NEAR_LARGE: Final = View(40, 1.0, mean=False)
WIDE_LARGE: Final = View(26, 3.0, mean=True)
_UNSURE_RANKS: Final = 8  # the strongest places of a scan whose nodules are not all marked may be nodules
_NOISE_HU: Final = 70.0
_SLICE_MM_MAX: Final = 5.0
_CODE: Final = ("detect.py", "lungs.py", "patches.py", "pleura.py", "training/places.py")
"""Places are only as old as what made them."""

Array = npt.NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class Places:
    """Places of one scan. Views are HU int16, (n, 40, 40, 40) at 1 mm and (n, 26, 26, 26) at 3 mm. `positive` lie on its
    nodules, `negative` far from any mark, `site` in lung without any. `noise_hu` of the scan at 1 mm. `complete`: its
    nodules are all marked."""

    name: str
    patient: str
    complete: bool
    noise_hu: float
    positive: tuple[Array, Array]
    negative: tuple[Array, Array]
    site: tuple[Array, Array]


def load_places(data: Path, held_out: Iterable[str], cache: Path, entry: Entry, say: Progress) -> Sequence[Places]:
    """The places of every scan whose patient is not held out; of the others no file is opened but their truth.json.

    Args:
        cache: folder of what was found before.
        entry: of the detector whose first stage names the places, in the lungs that it looks for them in.
    """
    cache.mkdir(parents=True, exist_ok=True)
    found = []
    for folder in scan_folders(data, held_out):
        file, made = cache / f"{folder.name}.npz", made_from(entry, folder)
        if not file.exists() or kept_from(file) != made:
            scan = load_scan(folder)
            if not scan.truth or scan.volume.spacing_mm[0] > _SLICE_MM_MAX:
                continue
            say(f"places of {folder.name}{': those that are kept were made otherwise' if file.exists() else ''}")
            save_places(file, find_places(scan, entry), made)
        found.append(read_places(file))
    return found


def made_from(entry: Entry, folder: Path) -> str:
    """SHA-256 (hex) of what the places of a scan hang on: the filter's parameters, the lungs, the code, the scan's truth."""
    parameters = {name: entry.parameters[name] for name in FIRST_STAGE if name in entry.parameters}
    digest = hashlib.sha256((parameters_digest(parameters) + find_entry(entry.lungs, "lungs").digest()).encode())
    for file in (*(Path(__file__).parents[1] / name for name in _CODE), folder / "truth.json"):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def find_places(scan: Scan, entry: Entry, seed: int = 0) -> Places:
    """Look through one scan with the first stage of a detector."""
    rng = np.random.default_rng([seed, 5])
    where = choose_device("cpu")
    lungs: Lungs = build_part(find_entry(entry.lungs, "lungs"), where).segment(scan.volume)
    dots = first_stage(entry, where)
    positive: list[tuple[Volume, Sequence[float]]] = []
    negative: list[tuple[Volume, Sequence[float]]] = []
    for volume in (scan.volume, _noisier(scan.volume, rng), _thicker(scan.volume)):
        spots = dots.places(volume, lungs, lambda stage, done, total: None)
        positive += [(volume, spot.centre) for spot in spots if _on_nodule(scan, spot)]
        positive += [(volume, _voxel(scan, n.centre_lps_mm)) for n in scan.truth if n.counts]
        sure = spots if scan.complete or _read_by_four(scan) else spots[_UNSURE_RANKS:]
        negative += [
            (volume, spot.centre)
            for spot in sure
            if not scan.marks_within(to_lps_mm(scan.volume.affine, spot.centre), MARK_MM)
        ]
    sites = [(scan.volume, centre) for centre, _ in lung_sites(scan, lungs, rng)]
    return Places(
        name=scan.name,
        patient=scan.patient,
        complete=scan.complete or _read_by_four(scan),
        noise_hu=noise_hu(scan.volume, lungs),
        positive=_views(positive),
        negative=_views(negative),
        site=_views(sites),
    )


def noise_hu(volume: Volume, lungs: Lungs) -> float:
    """Standard deviation of the noise at 1 mm in soft tissue: of what a light smoothing takes away, a robust estimate."""
    slices = volume.hu[:: max(1, len(volume.hu) // 24)].astype(np.float32)
    factor = max(1, round(1.0 / volume.spacing_mm[1]))
    smooth = ndi.gaussian_filter(slices, (0, 1.5, 1.5))
    tissue = (smooth > 0) & (smooth < 90)
    rough = (slices - smooth)[tissue]
    sigma = 1.4826 * float(np.median(np.abs(rough))) if rough.size else 20.0
    return sigma * 0.8 / factor  # linear resampling to 1 mm takes part of it


def _read_by_four(scan: Scan) -> bool:
    return any(truth.readers is not None for truth in scan.truth)  # all marks are known, of whatever slices there are


def _on_nodule(scan: Scan, spot: Spot) -> bool:
    centre = to_lps_mm(scan.volume.affine, spot.centre)
    return any(truth.counts and scan.hits(truth, centre) for truth in scan.truth)


def _voxel(scan: Scan, lps_mm: Sequence[float]) -> Sequence[float]:
    k, j, i = (np.linalg.inv(scan.volume.affine) @ [*lps_mm, 1.0])[:3]
    return (float(k), float(j), float(i))


def _with_hu(volume: Volume, hu: npt.NDArray[np.float32]) -> Volume:
    return Volume(**{**volume.__dict__, "hu": np.clip(hu, -2000, 3000).astype(np.int16)})


def _noisier(volume: Volume, rng: np.random.Generator) -> Volume:
    """As a sharp kernel at a low dose gives it."""
    noise = ndi.gaussian_filter(rng.standard_normal(volume.hu.shape, np.float32), (0, 0.6, 0.6))
    return _with_hu(volume, volume.hu + _NOISE_HU / float(noise.std()) * noise)


def _thicker(volume: Volume) -> Volume:
    """As slices of half again the thickness and a soft kernel give it."""
    mm = volume.spacing_mm
    sigma = (0.6, 0.8 / mm[1], 0.8 / mm[2])
    return _with_hu(volume, ndi.gaussian_filter(volume.hu.astype(np.float32), sigma))


def lung_sites(scan: Scan, lungs: Lungs, rng: np.random.Generator) -> Sequence[tuple[tuple[float, float, float], str]]:
    """Places (k, j, i) in the lungs away from marks: half `anywhere`, a third on the `pleura`, the others beside a `vessel`."""
    inside = lungs.labels > 0
    coarse = inside[::2, ::4, ::4]
    mm = np.array(scan.volume.spacing_mm) * (2, 4, 4)
    depth = ndi.distance_transform_edt(coarse, sampling=mm)
    bright = ndi.gaussian_filter(scan.volume.hu[::2, ::4, ::4].astype(np.float32), 1) > -650
    kinds = {"anywhere": coarse, "pleura": coarse & (depth < 5), "vessel": coarse & bright & (depth > 8)}
    counts = (SITES // 2, SITES // 3, SITES - SITES // 2 - SITES // 3)
    found: list[tuple[tuple[float, float, float], str]] = []
    for (kind, where), count in zip(kinds.items(), counts, strict=True):
        places = np.argwhere(where) * (2, 4, 4)
        taken = 0
        for place in rng.permutation(places)[: 4 * count]:
            k, j, i = (float(at) for at in place)
            if not scan.marks_within(to_lps_mm(scan.volume.affine, (k, j, i)), SITE_MM):
                found.append(((k, j, i), kind))
                taken += 1
            if taken == count:
                break
    return found


def _views(places: Sequence[tuple[Volume, Sequence[float]]]) -> tuple[Array, Array]:
    """Both views of each place, with a margin to shift them."""
    views = []
    for view in (NEAR_LARGE, WIDE_LARGE):
        found = np.zeros((len(places), view.size, view.size, view.size), np.int16)
        for n, (volume, centre) in enumerate(places):
            found[n] = np.rint(patch_at(volume.hu, volume.spacing_mm, centre, view))
        views.append(found)
    return views[0], views[1]


def save_places(file: Path, places: Places, made: str) -> None:
    """Keep the places of one scan, whole or not at all, and what they were made from (`made_from`)."""
    arrays = {
        f"{kind}_{view}": getattr(places, kind)[n]
        for kind in ("positive", "negative", "site")
        for n, view in enumerate(("near", "wide"))
    }
    part = file.with_suffix(".part.npz")
    np.savez(
        part,
        made=made,
        name=places.name,
        patient=places.patient,
        complete=places.complete,
        noise_hu=places.noise_hu,
        **arrays,
    )
    part.replace(file)


def kept_from(file: Path) -> str:
    """What kept places were made from; "" where that was not kept."""
    with np.load(file) as held:
        return str(held["made"]) if "made" in held else ""


def read_places(file: Path) -> Places:
    """What was kept."""
    with np.load(file) as held:
        return Places(
            name=str(held["name"]),
            patient=str(held["patient"]),
            complete=bool(held["complete"]),
            noise_hu=float(held["noise_hu"]),
            positive=(held["positive_near"], held["positive_wide"]),
            negative=(held["negative_near"], held["negative_wide"]),
            site=(held["site_near"], held["site_wide"]),
        )
