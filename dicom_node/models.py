"""Models that a site installs: fetched, verified, put in place, listed, marked as measured, removed. Nothing of them is run here.

    paths.state/models/NAME/entry.json        what it is: the fields of the catalogue, kept as they were when it was installed
                            weights           NAME.safetensors, or a bundle's folder
                            evaluation.json   what was measured of it here (`models verify NAME --record metrics.json`)

A model has its final name when all of it is there, synced, and has the digest that was promised. Weights are safetensors, which
hold arrays and no code, or a MONAI bundle, whose code a reader alone runs, after it has looked at the digest.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from config.catalogue import (
    ENTRY_FILE,
    EVALUATION_FILE,
    NAME_PATTERN,
    Entry,
    Evaluation,
    catalogue,
    chain_entries,
    entry_of,
    find_entry,
    installed_entry,
    models_folder,
    shipped,
)
from config.errors import ConfigurationError
from config.settings import Settings
from dicom_node.downloads import Bounds, Download, fetch_small, without_secrets
from dicom_node.errors import Precondition, UsageFault
from dicom_node.measured import measured_text
from dicom_node.offered import (
    BUNDLE,
    ENTRY_BYTES_MAX,
    SHOWN,
    bundle_fields,
    is_url,
    is_zip,
    json_fields,
    local_path,
    path_of,
    require_bundle,
    require_safetensors,
    small_file,
    toml_fields,
)
from dicom_node.unpacking import copy_folder, make_durable, package_root, unpack
from inference.errors import ModelRefused
from inference.methods import method_of
from inference.stored import stored_bytes, stored_digest, verify_weights
from storage.disk import disk_state, fsync_folder, make_folder, write_synced

BUNDLE_FOLDER: Final = "bundle"
MODEL_BYTES_MAX: Final = 4 * 2**30
METRICS_BYTES_MAX: Final = 256 * 2**20
NOT_KNOWN: Final = "0" * 64  # the digest of what was not built yet

Say = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Offer:
    """What is to be installed: `source` an address or a path; `sha256` of that file as somebody else gave it, or ""; `entry`
    an entry file's address or path, or ""; `name` in place of the entry's own, or ""."""

    source: str
    sha256: str = ""
    entry: str = ""
    name: str = ""


class Models:
    """The models folder of one site."""

    def __init__(self, settings: Settings, say: Say = lambda done, total: None, *, wait_s: float = 1.0) -> None:
        """`say`: progress of a download; `wait_s` between two attempts of one."""
        self._folder = models_folder(settings.paths.state)
        self._free_mib_min = settings.disk.free_mib_min
        self._detector = settings.read.detector
        self._say = say
        self._bounds = Bounds(MODEL_BYTES_MAX, self._require_room, wait_s=wait_s)

    @property
    def folder(self) -> Path:
        """Where installed models lie."""
        return self._folder

    # installing
    def install(self, offer: Offer) -> tuple[Entry, bool]:
        """Install what is offered; the entry, and whether it is new (False: the same model was here already).

        Raises:
            UsageFault: nothing is there, or its digest is given nowhere.
            Precondition: refused: another digest, a bad package or entry, a name that is taken, no room.
            NotReached, Refused: no network, no server, no such file.
        """
        for address in (offer.source, offer.entry):
            _require_address(address)
        with self._alone():
            fields = self._offered_entry(offer)
            if fields is not None and (here := self._require_name(self._entry(fields, offer))):
                return here, False
            stage = self._folder / f".new-{os.getpid()}"
            download = self._download(offer)
            try:
                stage.mkdir(mode=0o700)
                source = download.fetch() if download else local_path(offer.source)
                _require_sha256(source, offer.sha256)
                built = stage / "model"
                built.mkdir(mode=0o700)
                entry = self._build(source, fields, offer, stage / "package", built)
                here = self._require_name(entry)
                if here is None:
                    self._put_in_place(built, entry.name)
                if download:
                    download.discard()
            except Precondition:  # what came is of no use, or may be damaged: the next try fetches it anew
                if download:
                    download.discard()
                raise
            finally:
                shutil.rmtree(stage, ignore_errors=True)
            return installed_entry(self._folder / entry.name), here is None

    def _offered_entry(self, offer: Offer) -> dict[str, Any] | None:
        """The fields of the entry file that goes with what is offered, or of none."""
        beside = ""
        if not offer.entry and is_url(offer.source):
            path = urlsplit(offer.source).path
            if path.endswith(".safetensors") or not offer.sha256:
                beside = without_secrets(offer.source).removesuffix(Path(path).suffix) + ".toml"
        elif not offer.entry and offer.source.endswith(".safetensors"):
            beside = offer.source.removesuffix(".safetensors") + ".toml"
        where = offer.entry or beside
        if not where:
            return None
        read = fetch_small if is_url(where) else lambda path, most: small_file(path_of(path), most)
        content = read(where, ENTRY_BYTES_MAX)
        fields = toml_fields(content, Path(where).name) if content is not None else {}
        if fields and (fields.get("sha256") or offer.sha256 or not is_url(offer.source)):
            return fields
        if content is None and (offer.entry or offer.source.endswith(".safetensors")):
            raise UsageFault(
                "no entry file", without_secrets(where) if is_url(where) else where, "name one with --entry"
            )
        raise UsageFault(
            "no digest is given for it",
            without_secrets(offer.source),
            "say with --sha256 which file you expect (from its publisher), or give an entry file that says it (--entry)",
        )

    def _put_in_place(self, built: Path, name: str) -> None:
        """A finished model under its name, durably; a damaged one of the same name goes."""
        make_durable(built)
        if (self._folder / name).exists():
            os.rename(self._folder / name, self._folder / f".old-{name}")
        os.rename(built, self._folder / name)
        fsync_folder(self._folder)
        shutil.rmtree(self._folder / f".old-{name}", ignore_errors=True)

    def _download(self, offer: Offer) -> Download | None:
        if not is_url(offer.source):
            return None
        folder = self._folder / ".downloads"
        make_folder(folder)
        return Download(offer.source, folder, self._bounds, self._say)

    def _build(self, source: Path, fields: dict[str, Any] | None, offer: Offer, package: Path, built: Path) -> Entry:
        """The model's folder from a file, a zip or a folder, verified; `package` is room for what is unpacked."""
        if source.is_dir() or is_zip(source):
            package.mkdir(mode=0o700)
            take = copy_folder if source.is_dir() else unpack
            take(source, package, bytes_max=MODEL_BYTES_MAX, require_room=self._require_room)
            root = package_root(package)
            inside = root / "entry.toml"
            if inside.is_file():
                own = toml_fields(small_file(inside, ENTRY_BYTES_MAX) or b"", "entry.toml")
                fields = fields or own
                inside.unlink()
            fields = fields or bundle_fields(root, Path(urlsplit(offer.source).path).stem)
        else:
            root = source
            self._require_room(source.stat().st_size)
        if fields is None:
            raise UsageFault("no entry file goes with it", offer.source, "name one with --entry")
        weights = self._place(root, fields, built)
        entry = self._entry({**fields, "weights": weights.name, "size_bytes": stored_bytes(weights)}, offer)
        digest = stored_digest(weights)
        if fields.get("sha256") and digest != entry.sha256:
            raise Precondition(
                f"the SHA-256 of the weights is {digest}, its entry says {entry.sha256}",
                entry.name,
                "fetch it again, or ask its publisher; nothing was installed",
            )
        entry = entry.model_copy(update={"sha256": digest})
        if entry.kind != BUNDLE:
            require_safetensors(weights)
        self._require_chain(entry)
        write_synced(built / ENTRY_FILE, json.dumps(entry.model_dump(mode="json"), indent=1).encode())
        return entry

    def _place(self, root: Path, fields: Mapping[str, Any], built: Path) -> Path:
        """The weights in the model's folder: a bundle's files as they are, or the one file."""
        if fields.get("kind") == BUNDLE:
            if not root.is_dir():
                raise Precondition("no MONAI bundle: neither a folder nor a zip", root.name)
            require_bundle(root)
            return Path(shutil.move(root, built / BUNDLE_FOLDER))
        name = Path(str(fields.get("weights", ""))).name
        file = root / name if root.is_dir() else root
        if not name.endswith(".safetensors") or not file.is_file():
            raise Precondition(
                f"weights = '{name}' is no safetensors file of it",
                root.name,
                "other formats can hold code, and are not taken",
            )
        return Path(shutil.copyfile(file, built / name))

    def _entry(self, fields: Mapping[str, Any], offer: Offer) -> Entry:
        """An entry from what was offered; what it says of its own validation does not count here.

        Raises:
            Precondition: a field is wrong or unknown.
        """
        changes: dict[str, Any] = {"validation": "demonstration", "measured": ""}
        if offer.name:
            changes["name"] = offer.name
        if is_url(offer.source) and not fields.get("source_url"):
            changes["source_url"] = without_secrets(offer.source)
        table = {"sha256": NOT_KNOWN, "weights": BUNDLE_FOLDER, **fields, **changes}
        try:
            entry = entry_of(table, str(table.get("name", "entry")))
            method_of(entry)
        except ConfigurationError as fault:
            raise Precondition(f"its entry is refused: {fault.what}", fault.which, SHOWN) from fault
        texts = [value for value in entry.model_dump().values() if isinstance(value, str)]
        if not all(text.isprintable() for text in texts) or not entry.weights:
            raise Precondition("its entry is refused: control characters, or no weights", entry.name, SHOWN)
        return entry

    def _require_name(self, entry: Entry) -> Entry | None:
        """That the name is free, or what has it is damaged; the entry where this very model is here. Raises Precondition."""
        if entry.name in shipped():
            raise Precondition(
                "a model of this name came with the software", entry.name, "name it otherwise with --name"
            )
        if not (self._folder / entry.name).exists():
            return None
        try:
            here = installed_entry(self._folder / entry.name)
            verify_weights(here)
        except (ConfigurationError, ModelRefused):
            return None  # damaged: this one takes its place
        if (here.sha256, here.parameters) == (entry.sha256, entry.parameters):
            return here
        if entry.sha256 == NOT_KNOWN:
            return None  # asked again when it was built
        raise Precondition(
            f"another model of this name is installed (version {here.version}, SHA-256 {here.sha256[:16]}...)",
            entry.name,
            f"name this one otherwise with --name, or `dicom-node models remove {entry.name}` first",
        )

    def _require_chain(self, entry: Entry) -> None:
        """That the lungs, outliner and grader that a detector names are here. Raises Precondition."""
        if entry.task != "detector":
            return
        try:
            for task, name in (("lungs", entry.lungs), ("outliner", entry.outliner), ("grader", entry.grader)):
                if name or task != "grader":
                    find_entry(name, task, self._folder)
        except ConfigurationError as fault:
            raise Precondition(
                f"{fault.what}: {fault.which or '(none named)'}", entry.name, "install that first"
            ) from fault

    def _require_room(self, more: int) -> None:
        """That so many more bytes leave what the node needs. Raises Precondition."""
        free = disk_state(self._folder).free_mib
        if free - more / 2**20 < self._free_mib_min:
            raise Precondition(
                f"{free} MiB free, {max(more // 2**20, 1)} MiB more are needed",
                str(self._folder),
                f"free space on its disk: disk.free_mib_min ({self._free_mib_min} MiB) must stay",
            )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other command changes models meanwhile; what one that was killed has left is removed."""
        make_folder(self._folder)
        with (self._folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as taken:
                raise Precondition(
                    "another command installs or removes a model", str(self._folder), "wait for it"
                ) from taken
            for left in (*self._folder.glob(".new-*"), *self._folder.glob(".old-*")):
                shutil.rmtree(left, ignore_errors=True)
            yield

    # what is here
    def entry(self, name: str) -> Entry:
        """A shipped or installed entry. Raises UsageFault: there is none; ConfigurationError: it is damaged."""
        entry = shipped().get(name)
        if entry is None and re.fullmatch(NAME_PATTERN, name) and (self._folder / name).is_dir():
            entry = installed_entry(self._folder / name)
        if entry is None:
            raise UsageFault("no model of this name", name, f"there are: {', '.join(catalogue(self._folder))}")
        return entry

    def remove(self, name: str) -> None:
        """Remove an installed model.

        Raises:
            Precondition: it came with the software, or `read.detector` reads with it.
        """
        with self._alone():
            if name in shipped():
                raise Precondition("it came with the software", name, "it can't be removed")
            if not re.fullmatch(NAME_PATTERN, name) or not (self._folder / name).is_dir():
                raise UsageFault("no model of this name is installed", name, "`dicom-node models list` shows what is")
            if name in _used(self._detector, self._folder):
                raise Precondition("read.detector reads with it", name, "choose another detector first")
            aside = self._folder / f".old-{name}"
            os.rename(self._folder / name, aside)
            fsync_folder(self._folder)
            shutil.rmtree(aside)

    def record(self, name: str, metrics_file: Path) -> Entry:
        """Mark an installed model as measured, by the metrics.json of `dicom-node evaluate`.

        Raises:
            Precondition: the file is of another model, measured on patients that it was trained on, or has no figure of it.
        """
        with self._alone():
            entry = self.entry(name)
            if entry.folder is None:
                raise Precondition("it came with the software; its model card says what was measured", name)
            verify_weights(entry)
            content = small_file(metrics_file, METRICS_BYTES_MAX)
            if content is None:
                raise UsageFault("no such file", str(metrics_file), "`dicom-node evaluate` writes metrics.json")
            evaluation = Evaluation(
                digest=entry.digest(),
                measured=measured_text(entry, json_fields(content, metrics_file.name)),
                metrics_sha256=hashlib.sha256(content).hexdigest(),
            )
            write_synced(entry.folder / EVALUATION_FILE, evaluation.model_dump_json().encode())
            return installed_entry(entry.folder)


def _used(detector: str, folder: Path) -> set[str]:
    try:
        return {entry.name for entry in chain_entries(detector, folder)}
    except ConfigurationError:
        return {detector}


def _require_address(text: str) -> None:
    """Raises UsageFault where it looks like an address and is none."""
    try:
        if is_url(text):
            _ = urlsplit(text).port
    except ValueError as error:
        raise UsageFault(f"no address: {error}", text.rpartition("@")[2].split("?")[0][:80]) from error


def _require_sha256(source: Path, wanted: str) -> None:
    digest = stored_digest(source) if wanted else ""
    if digest != wanted.lower():
        raise Precondition(
            f"its SHA-256 is {digest}, --sha256 says {wanted.lower()}",
            "what was offered",
            "fetch it again, or ask its publisher; nothing was installed",
        )
