"""What a shipped file may not give away of the collections that were learned from: looked for in its bytes, numbers and arrays."""

import csv
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors.numpy import load

from dicom_node.net.conformance import IMPLEMENTATION_CLASS_UID

WEIGHTS_BYTES_MAX = 20_000_000
Place = tuple[float, float, float]

PATTERNS = {
    "a patient of LIDC-IDRI": rb"LIDC-IDRI-\d{4}",
    "a patient of QIN": rb"QIN[-_ ](LSC|LUNG)[-_ ]?\d",
    "a patient of Lung-PET-CT-Dx": rb"Lung_Dx-[A-Z]?\d{3}",
    "a patient of TCGA": rb"TCGA-\w\w-\w{4}",
    "a UID of TCIA": rb"1\.3\.6\.1\.4\.1\.(14519|9328)\.\d",
    "a UID of a scanner": rb"1\.(2\.840\.113\d{3}|3\.12\.2\.1107\.5|2\.392\.200036)(\.\d+){3,}",
    "a UID made from a number": rb"2\.25\.\d{20,}",
}
_TOKEN = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{5,}")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_PICKLED = (".pkl", ".pickle", ".pt", ".pth", ".joblib", ".npy", ".npz", ".ckpt", ".bin")


@dataclass(frozen=True)
class Secrets:
    """Names of patients and series, with their plain digests, and places of nodules (tenths of mm or of voxels, no signs)."""

    words: frozenset[bytes] = field(default_factory=frozenset)
    places: frozenset[Place] = field(default_factory=frozenset)

    @classmethod
    def of(cls, words: Iterable[str], places: Iterable[Iterable[float]]) -> "Secrets":
        named = {word for word in words if len(word) >= 6}
        plain = {
            digest(word.encode()).hexdigest()
            for word in named
            for digest in (hashlib.md5, hashlib.sha1, hashlib.sha256)
        }
        return cls(frozenset(word.encode() for word in named | plain), frozenset(_rounded(place) for place in places))


def _rounded(place: Iterable[float]) -> Place:
    x, y, z = (round(abs(float(value)), 1) for value in place)
    return x, y, z


def secrets_of(data: Path) -> Secrets:
    """From the tables and truths of the shared data folder."""
    words: set[str] = set()
    places: list[tuple[float, ...]] = []
    for file in sorted([*data.glob("tables/*.csv"), *data.glob("nodules/*.csv")]):
        with file.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                words |= {row[key] for key in ("patient", "series_uid", "seriesuid", "id") if row.get(key)}
                for keys in (
                    ("x_lps", "y_lps", "z_mm"),
                    ("coordX", "coordY", "coordZ"),
                    ("col_px", "row_px", "z_mm"),
                    ("xi", "yi", "zi"),
                ):
                    places += [tuple(float(row[key]) for key in keys)] if all(row.get(key) for key in keys) else []
    for file in sorted(data.glob("ct/*/truth.json")):
        truth = json.loads(file.read_text(encoding="utf-8"))
        words |= {truth[key] for key in ("patient_id", "series_instance_uid") if truth.get(key)}
        for nodule in truth.get("nodules", ()):
            places += [tuple(nodule[key]) for key in ("centre_lps_mm", "centre_index_xyz") if nodule.get(key)]
    return Secrets.of(words, places)


def offences(name: str, content: bytes, secrets: Secrets) -> Iterator[str]:
    """What a file of the wheel gives away, or holds that it should not."""
    content = content.replace(IMPLEMENTATION_CLASS_UID.encode(), b"")
    if name.endswith(".safetensors") and len(content) > WEIGHTS_BYTES_MAX:
        yield f"{name}: {len(content)} bytes; {WEIGHTS_BYTES_MAX} are allowed"
        return
    for what, pattern in PATTERNS.items():
        if found := re.search(pattern, content):
            yield f"{name}: {what}: {found.group()!r}"
    for token in secrets.words.intersection(_tokens(content)):
        yield f"{name}: {token!r}"
    if name.endswith(_PICKLED) or content.startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        yield f"{name}: a pickle, or a format that can hold one"
    if name.endswith(".safetensors"):
        for key, array in load(content).items():
            yield from (f"{name}: {key}: the place of a nodule {place}" for place in _places_in(array, secrets.places))
    else:
        numbers = np.array([float(found) for found in _NUMBER.findall(content.decode("utf-8", "replace"))])
        yield from (f"{name}: the place of a nodule {place}" for place in _places_in(numbers, secrets.places))


def _tokens(content: bytes) -> Iterator[bytes]:
    """Words as they stand, and without what may hang on either side of them."""
    for token in _TOKEN.findall(content):
        yield token
        yield token.rstrip(b"._-")
        yield from token.split(b"_")


def _places_in(array: "np.ndarray[tuple[int, ...], np.dtype[np.number]]", places: frozenset[Place]) -> set[Place]:
    """Three numbers after one another that are a place: in rows of an array, or in its columns."""
    found: set[Place] = set()
    lines = [array.reshape(-1)] + ([array.T.reshape(-1)] if array.ndim == 2 else [])
    for line in lines:
        if len(line) < 3 or not np.issubdtype(line.dtype, np.number):
            continue
        values = np.abs(line.astype(np.float64))
        likely = np.flatnonzero(values[:-2] + values[1:-1] + values[2:] > 20.0)  # no weight of a network is as large
        found |= {_rounded(values[at : at + 3]) for at in likely.tolist()} & places
    return {place for place in found if any(value != round(value) for value in place)}
