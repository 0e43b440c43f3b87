"""Where the weights of a catalogue entry lie, and whether they are those that the catalogue names.

Loads no torch, for commands ask too. A file of weights is known by its SHA-256, a bundle by the one of its folder.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from config.catalogue import Entry
from inference.bundle_digest import bundle_digest
from inference.errors import ModelRefused

SHIPPED: Final = Path(__file__).with_name("shipped")
AGAIN: Final = "install the model again; a changed file is never loaded"


def weights_file(entry: Entry) -> Path:
    """Where the weights of an entry lie, shipped or installed: a file, a folder for a bundle; need not exist."""
    return (entry.folder or SHIPPED) / entry.weights


def with_weights(entry: Entry, file: Path, parameters: Mapping[str, Any] | None = None) -> Entry:
    """An entry with other weights of its network, and with other parameters where these are given (lists become tuples).

    Raises:
        ModelRefused: the file can't be read.
    """
    other = entry.parameters if parameters is None else parameters
    return entry.model_copy(
        update={
            "folder": file.parent,
            "weights": file.name,
            "sha256": stored_digest(file),
            "size_bytes": stored_bytes(file),
            "parameters": {name: tuple(value) if isinstance(value, list) else value for name, value in other.items()},
        }
    )


def stored_digest(path: Path) -> str:
    """SHA-256 (hex) of a file of weights, or of a bundle's folder.

    Raises:
        ModelRefused: nothing is there, or it can't be read.
    """
    if path.is_dir():
        return bundle_digest(path)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelRefused(
            f"the weights can't be read: {error.strerror}", path.name, "install the model again"
        ) from error


def stored_bytes(path: Path) -> int:
    """Size of a file of weights, or of all files of a bundle's folder."""
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) if path.is_dir() else path.stat().st_size


def require_digest(entry: Entry, digest: str) -> None:
    """That these are the weights which the entry names.

    Raises:
        ModelRefused: another digest.
    """
    if digest != entry.sha256:
        raise ModelRefused(
            f"the SHA-256 of the weights is {digest[:16]}..., the catalogue says {entry.sha256[:16]}...",
            f"{entry.name}: {entry.weights}",
            AGAIN,
        )


def verify_weights(entry: Entry) -> None:
    """That the weights of an entry are here and are those of the catalogue; an entry without any passes.

    Raises:
        ModelRefused: they are not.
    """
    if entry.weights:
        require_digest(entry, stored_digest(weights_file(entry)))
