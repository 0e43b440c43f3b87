"""What a model that is offered says of itself: entry files, metadata of bundles, headers of weights. Read, bounded, never run."""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from safetensors import SafetensorError, safe_open

from config.catalogue import shipped
from config.settings import Read
from dicom_node.errors import Precondition, UsageFault

BUNDLE: Final = "monai-bundle"
ENTRY_BYTES_MAX: Final = 64 * 2**10
METADATA_BYTES_MAX: Final = 4 * 2**20
BUNDLE_FILES: Final = ("configs/inference.json", "configs/metadata.json", "models/model.pt")
BUNDLE_PARAMETERS: Final[Mapping[str, float]] = {
    "score_min": 0.5,
    "candidates_max": 100,
    "cpu_window_voxels_max": 4_000_000,
}
"""For a bundle without an entry file: a start, not an operating point that anybody measured."""
SHOWN: Final = "docs/models.md shows an entry file"


def require_bundle(root: Path) -> None:
    """That a folder has the layout of a MONAI bundle. Raises Precondition."""
    for name in BUNDLE_FILES:
        if not (root / name).is_file():
            raise Precondition(f"no MONAI bundle: {name} is missing", root.name, "take the bundle as it was published")


def bundle_fields(root: Path, name: str) -> dict[str, Any] | None:
    """An entry for a MONAI bundle that was published without one, from its metadata; None where it is none.

    Args:
        name: for one whose metadata give none.
    Raises:
        Precondition: files of a bundle are missing, or the metadata can't be read.
    """
    if not (root / "configs").is_dir():
        return None
    require_bundle(root)
    metadata = json_fields(small_file(root / BUNDLE_FILES[1], METADATA_BYTES_MAX) or b"", "metadata.json")
    said = {
        key: " ".join(str(metadata.get(key, "")).split()) for key in ("name", "version", "copyright", "data_source")
    }
    chain = shipped()[Read().detector]
    published = said["name"] or name
    return {
        "name": re.sub(r"[^a-z0-9]+", "-", published.lower()).strip("-")[:32].strip("-"),
        "version": said["version"][:16] or "unknown",
        "task": "detector",
        "kind": BUNDLE,
        "licence": said["copyright"] or "see the bundle's LICENSE",
        "text": f"The MONAI bundle {published} {said['version']}, installed at this site without an entry of its own.",
        "training": f"As its publisher says: {said['data_source']}" if said["data_source"] else "",
        "parameters": dict(BUNDLE_PARAMETERS),
        "lungs": chain.lungs,
        "outliner": chain.outliner,
        "grader": chain.grader,
    }


def is_url(text: str) -> bool:
    """Whether it is to be fetched; file: and a path are not."""
    return text.startswith(("http://", "https://"))


def path_of(text: str) -> Path:
    """A local path, also one written as file:///... Raises UsageFault for another scheme."""
    parts = urlsplit(text)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    if "://" in text:
        raise UsageFault(f"{parts.scheme} is no way to fetch a model", text, "https, http, file, or a path")
    return Path(text)


def local_path(text: str) -> Path:
    """The file or folder that is there. Raises UsageFault: there is none."""
    path = path_of(text).resolve()
    if not path.exists():
        raise UsageFault("no such file or folder", str(path), "name a file, a folder or an address")
    return path


def small_file(path: Path, bytes_max: int) -> bytes | None:
    """A small file as a whole; None where there is none. Raises Precondition: it is larger."""
    try:
        with path.open("rb") as file:
            content = file.read(bytes_max + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if len(content) > bytes_max:
        raise Precondition(f"more than {bytes_max} bytes", path.name, "is it the right file?")
    return content


def is_zip(path: Path) -> bool:
    """Whether a file begins as a zip does."""
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def toml_fields(content: bytes, which: str) -> dict[str, Any]:
    """The fields of an entry file: at its top, or as the one [[entry]] of a catalogue. Raises Precondition."""
    try:
        table = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise Precondition(f"no TOML: {str(error)[:200]}", which, SHOWN) from error
    entries = table.get("entry")
    if isinstance(entries, list) and len(table) == 1:
        if len(entries) != 1 or not isinstance(entries[0], dict):
            raise Precondition(f"{len(entries)} entries", which, "a model has one")
        return dict(entries[0])
    return table


def json_fields(content: bytes, which: str) -> dict[str, Any]:
    """The fields of a JSON object. Raises Precondition: it is none."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Precondition(f"no JSON: {str(error)[:200]}", which) from error
    if not isinstance(value, dict):
        raise Precondition("no JSON object", which)
    return value


def require_safetensors(file: Path) -> None:
    """That a file is what it says, by its header; no array is read. Raises Precondition."""
    try:
        with safe_open(file, framework="numpy") as tensors:
            if not list(tensors.keys()):
                raise Precondition("no arrays in it", file.name)
    except (SafetensorError, OSError) as error:
        raise Precondition(
            f"no safetensors file: {error}", file.name, "other formats can hold code, and are not taken"
        ) from error
