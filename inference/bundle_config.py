"""The parts of a MONAI bundle that read, taken from its configuration as it was published.

A configuration can evaluate code, and a bundle brings a package of its own: both run only after the digest of the whole
folder was found to be the catalogue's, and only in a reader's process. Weights are loaded with `weights_only`, which runs
none. Nothing is written into the folder.
"""

import importlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from monai.bundle.config_parser import ConfigParser

from config.catalogue import Entry
from inference.bundle_gaps import fill_gaps
from inference.bundle_world import World
from inference.errors import ModelRefused
from inference.stored import verify_weights, weights_file

CONFIGURATION: Final = "configs/inference.json"
METADATA: Final = "configs/metadata.json"
WEIGHTS: Final = "models/model.pt"

_LOADERS: Final = frozenset({"LoadImage", "EnsureChannelFirst", "AddChannel", "Orientation"})
"""Transforms that make an array in a known orientation of a file: the node does that itself, from its own volume."""
_RAW: Final = "whether_raw_luna16"  # "not resampled beforehand"; false as published, and true of every series of a PACS

Transform = Callable[[Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Bundle:
    """What a bundle reads with.

    `network` alone; `detector` with its boxes, whose window can be set; `inferer_of` makes the bundle's inferer anew for a
    window; `divisible`: sides of a window are multiples of it; `prepare` and `finish`: transforms before and after;
    `world`: which way its images and boxes run; `box_mode` of the boxes after `finish`.
    """

    network: Any
    detector: Any
    inferer_of: Callable[[Sequence[int]], Any]
    window: tuple[int, ...]
    overlap: float
    divisible: tuple[int, ...]
    prepare: Transform
    finish: Transform
    world: World
    box_mode: str


def open_bundle(entry: Entry) -> Bundle:
    """The bundle of an entry, on the CPU, after its digest was verified.

    Raises:
        ModelRefused: another digest than the catalogue's, a part of the layout is missing, weights that don't fit, or a
            configuration that can't be run.
    """
    verify_weights(entry)
    folder = weights_file(entry)
    for part in (CONFIGURATION, METADATA, WEIGHTS):
        if not (folder / part).is_file():
            raise ModelRefused(f"the bundle has no {part}", entry.name, "install a bundle of MONAI's layout")
    fill_gaps()
    try:
        with _importing_from(folder):
            return _parts(folder)
    except ModelRefused:
        raise
    except Exception as fault:
        said = str(fault).strip().splitlines() or [type(fault).__name__]
        raise ModelRefused(f"the bundle's configuration can't be run: {said[0][:300]}", entry.name) from fault


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Import packages that lie in the folder, and those of no other bundle; write no compiled Python into it."""
    names = {path.parent.name for path in folder.glob("*/__init__.py")}
    for module in [m for m in sys.modules if m.split(".")[0] in names]:
        del sys.modules[module]
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = before


def _parts(folder: Path) -> Bundle:
    parser = ConfigParser()
    parser.read_config(folder / CONFIGURATION)
    parser.read_meta(folder / METADATA)
    parser["bundle_root"] = str(folder)
    parser["device"] = "$torch.device('cpu')"  # where it computes is the node's to say
    if _RAW in parser:
        parser[_RAW] = True
    _run_imports(parser)
    before, after = (_enabled(parser, part) for part in ("preprocessing", "postprocessing"))
    world = _world(before, after)
    parser["preprocessing"]["transforms"] = [_light(t) for t in before if _kind(t) not in _LOADERS]
    parser.parse()
    network, detector = parser.get_parsed_content("network"), parser.get_parsed_content("detector")
    parser.get_parsed_content("detector_ops")
    network.load_state_dict(_weights(folder / WEIGHTS))
    network.eval()
    prepare, finish = parser.get_parsed_content("preprocessing"), parser.get_parsed_content("postprocessing")
    parser["detector"] = detector  # from here on this one, for every inferer that is made

    def inferer_of(window: Sequence[int]) -> Any:
        detector.inferer.roi_size = tuple(window)
        parser.parse()
        return parser.get_parsed_content("inferer")

    inferer_of(detector.inferer.roi_size)  # its code is imported now or never
    modes = [t.get("dst_mode", "xyzxyz") for t in after if _kind(t) == "ConvertBoxMode"]
    return Bundle(
        network=network,
        detector=detector,
        inferer_of=inferer_of,
        window=tuple(int(side) for side in detector.inferer.roi_size),
        overlap=float(detector.inferer.overlap),
        divisible=tuple(int(side) for side in detector.size_divisible),
        prepare=prepare,
        finish=finish,
        world=world,
        box_mode=str(modes[-1]) if modes else "xyzxyz",
    )


def _run_imports(parser: ConfigParser) -> None:
    """Expressions may use what the configuration imports."""
    parser.parse()
    if "imports" in parser:
        parser.get_parsed_content("imports")


def _enabled(parser: ConfigParser, part: str) -> list[dict[str, Any]]:
    """The transforms of a part that are not switched off, as they are configured."""
    listed = parser[part]["transforms"]
    return [
        transform
        for place, transform in enumerate(listed)
        if "_disabled_" not in transform or not parser.get_parsed_content(f"{part}::transforms::{place}::_disabled_")
    ]


def _light(transform: Mapping[str, Any]) -> dict[str, Any]:
    """A transform as it is configured, but for resampling in float32 where MONAI's default is float64: half the memory, and
    that grows with the chest."""
    more = {"dtype": "$torch.float32"} if _kind(transform) == "Spacing" and "dtype" not in transform else {}
    return {**transform, **more}


def _kind(transform: Mapping[str, Any]) -> str:
    """The name of a transform without its module and its ending for dictionaries: `LoadImaged` is a `LoadImage`."""
    return re.sub("(Dict|D|d)$", "", str(transform["_target_"]).rpartition(".")[2])


def _world(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> World:
    """Which way images and boxes run."""
    loader: Mapping[str, Any] = next((t for t in before if _kind(t) == "LoadImage"), {})
    axes = [str(t["axcodes"]) for t in before if _kind(t) == "Orientation"]
    boxes = [t for t in after if _kind(t) == "AffineBoxToWorldCoordinate"]
    if not boxes:
        raise ModelRefused("its boxes are not brought to the world: no AffineBoxToWorldCoordinated", CONFIGURATION)
    return World(
        axes=axes[-1] if axes else "",
        image_is_ras=bool(loader.get("affine_lps_to_ras", True)),  # as MONAI's readers have it
        boxes_turned=bool(boxes[-1].get("affine_lps_to_ras", False)),
    )


def _weights(file: Path) -> Mapping[str, torch.Tensor]:
    """The tensors of a checkpoint, either they alone or under `model`, without running any code of it."""
    try:
        stored = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as fault:
        raise ModelRefused("the weights are no plain tensors", WEIGHTS, "only what runs no code is loaded") from fault
    tensors: Mapping[str, torch.Tensor] = stored.get("model", stored)
    return tensors
