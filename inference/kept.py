"""A Reading as a synced file, so that a retry or the next revision need not read again; readings and reports as plain JSON.

Byte-stable: the same reading gives the same bytes. Floats survive exactly (shortest form that reads back). Masks are bits,
packed in C order, deflated, base64. The folder's own sync makes the name durable; a file is either whole or not there.
"""

import base64
import dataclasses
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from inference.errors import UnreadableReading
from inference.findings import (
    Algorithm,
    Assessment,
    Candidate,
    Finding,
    Ground,
    KeySlice,
    LeftOut,
    MaskCrop,
    Nodule,
    NotRead,
    Reading,
    Reason,
    Report,
    Status,
)

FORMAT: Final = 1


def save_reading(reading: Reading, path: Path) -> None:
    """Write a reading; when this returns, bytes and name are on disk. An older file of the name is replaced whole."""
    text = json.dumps({"format": FORMAT, "reading": reading_to_json(reading)}, sort_keys=True, separators=(",", ":"))
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("wb") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load_reading(path: Path) -> Reading:
    """Read what `save_reading` wrote.

    Raises:
        UnreadableReading: not such a file, or of another format; the series is to be read again.
    """
    try:
        kept = json.loads(path.read_bytes())
        if kept["format"] != FORMAT:
            raise UnreadableReading(
                f"format {kept['format']}, this software writes {FORMAT}", path.name, "read the series again"
            )
        return reading_from_json(kept["reading"])
    except (ValueError, KeyError, TypeError, zlib.error) as error:
        raise UnreadableReading(
            f"not a kept reading ({type(error).__name__})", path.name, "read the series again"
        ) from error


def reading_to_json(reading: Reading) -> dict[str, Any]:
    """A reading as plain JSON data, masks packed."""
    plain = {f.name: getattr(reading, f.name) for f in dataclasses.fields(reading)}
    plain["status"] = reading.status.value
    plain["reason"] = _plain(reading.reason)
    plain["nodules"] = None if reading.nodules is None else [_nodule_to_json(nodule) for nodule in reading.nodules]
    plain["findings"] = None if reading.findings is None else [_plain(finding) for finding in reading.findings]
    for name in ("algorithms", "slices_left_out", "candidates"):
        plain[name] = [_plain(item) for item in plain[name]]
    plain["seconds"] = dict(reading.seconds)
    for name in ("slices_read", "frames_read", "quality"):
        plain[name] = list(plain[name])
    return plain


def reading_from_json(plain: Mapping[str, Any]) -> Reading:
    """The reading of `reading_to_json`."""
    return Reading(
        **{
            **plain,
            "status": Status(plain["status"]),
            "reason": _reason(plain["reason"]),
            "nodules": None if plain["nodules"] is None else tuple(_nodule_from_json(n) for n in plain["nodules"]),
            "findings": None if plain["findings"] is None else tuple(Finding(**f) for f in plain["findings"]),
            "algorithms": tuple(Algorithm(**a) for a in plain["algorithms"]),
            "slices_read": tuple(plain["slices_read"]),
            "frames_read": tuple(plain.get("frames_read", ())),
            "slices_left_out": tuple(LeftOut(**left) for left in plain["slices_left_out"]),
            "quality": tuple(plain["quality"]),
            "candidates": tuple(
                Candidate(**{**c, "centre_lps_mm": tuple(c["centre_lps_mm"])}) for c in plain["candidates"]
            ),
        }
    )


def report_to_json(report: Report) -> dict[str, Any]:
    """A report as plain JSON data."""
    return {
        "study_instance_uid": report.study_instance_uid,
        "software": report.software,
        "readings": [reading_to_json(reading) for reading in report.readings],
        "not_read": [{**dataclasses.asdict(series)} for series in report.not_read],
        "reason": _plain(report.reason),
        "demonstration": report.demonstration,
        "notes": list(report.notes),
        "assessment": _plain(report.assessment),
    }


def report_from_json(plain: Mapping[str, Any]) -> Report:
    """The report of `report_to_json`."""
    return Report(
        **{
            **plain,
            "readings": tuple(reading_from_json(reading) for reading in plain["readings"]),
            "not_read": tuple(
                NotRead(**{**series, "reason": Reason(**series["reason"])}) for series in plain["not_read"]
            ),
            "reason": _reason(plain["reason"]),
            "notes": tuple(plain["notes"]),
            "assessment": _assessment(plain.get("assessment")),
        }
    )


def _plain(item: Any) -> Any:
    """A flat dataclass as JSON data; None stays."""
    if item is None:
        return None
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(item).items()
    }


def _reason(plain: Mapping[str, str] | None) -> Reason | None:
    return None if plain is None else Reason(**plain)


def _assessment(plain: Mapping[str, Any] | None) -> Assessment | None:
    if plain is None:
        return None
    known: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in plain.items()}
    return Assessment(**known)


def _nodule_to_json(nodule: Nodule) -> dict[str, Any]:
    plain = {f.name: getattr(nodule, f.name) for f in dataclasses.fields(nodule)}
    bits = zlib.compress(np.packbits(nodule.mask.voxels).tobytes(), 6)
    plain["mask"] = {
        "start": list(nodule.mask.start),
        "shape": list(nodule.mask.voxels.shape),
        "bits": base64.b64encode(bits).decode(),
    }
    plain["key_slice"] = _plain(nodule.key_slice)
    plain["centre_lps_mm"] = list(nodule.centre_lps_mm)
    plain["grounds"] = [
        {**dataclasses.asdict(ground), "parts": [list(part) for part in ground.parts]} for ground in nodule.grounds
    ]
    return plain


def _nodule_from_json(plain: Mapping[str, Any]) -> Nodule:
    shape = tuple(plain["mask"]["shape"])
    packed = np.frombuffer(zlib.decompress(base64.b64decode(plain["mask"]["bits"])), np.uint8)
    voxels = np.unpackbits(packed, count=int(np.prod(shape))).reshape(shape).astype(bool)
    voxels.flags.writeable = False
    key = plain["key_slice"]
    return Nodule(
        **{
            **plain,
            "centre_lps_mm": tuple(plain["centre_lps_mm"]),
            "mask": MaskCrop(tuple(plain["mask"]["start"]), voxels),
            "key_slice": KeySlice(**{**key, "centre_px": tuple(key["centre_px"])}),
            "grounds": tuple(
                Ground(**{**ground, "parts": tuple(tuple(part) for part in ground["parts"])})
                for ground in plain.get("grounds", ())
            ),
        }
    )
