"""One SHA-256 for a folder that holds a model: a MONAI bundle is configuration, code and weights, and all of it counts.

Covers every file by its path and its bytes, so that a file that is added, moved, removed or changed is seen, compiled
Python included. Nothing is left out and no link is followed.
"""

import hashlib
from pathlib import Path

from inference.errors import ModelRefused


def bundle_digest(folder: Path) -> str:
    """SHA-256 (hex) of the lines "<SHA-256 of the file>  <path in the folder with slashes>\\n", sorted by the path's bytes.

    The same as `find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum` there.

    Raises:
        ModelRefused: no such folder, no file in it, a file that can't be read, or something that is neither file nor
            folder (a link could lead to files that no digest covers).
    """
    digests: list[tuple[bytes, str]] = []
    try:
        for path in folder.rglob("*"):
            name = path.relative_to(folder).as_posix()
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise ModelRefused("neither a file nor a folder; links are not followed", f"{folder.name}: {name}")
            if path.is_file():
                with path.open("rb") as file:
                    digests.append((name.encode(), hashlib.file_digest(file, "sha256").hexdigest()))
    except OSError as error:
        raise ModelRefused(f"the bundle can't be read: {error.strerror}", folder.name) from error
    if not digests:
        raise ModelRefused("there is no bundle of this name", folder.name, "install the model")
    whole = hashlib.sha256()
    for encoded, digest in sorted(digests):
        whole.update(digest.encode() + b"  " + encoded + b"\n")
    return whole.hexdigest()
