"""Which code is which method of the catalogue. Names only: nothing is imported, so that a command can ask as well."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from config.catalogue import Entry
from config.errors import ConfigurationError


class Method(NamedTuple):
    """A class of a module; `on_device`: it computes with torch, and is told where."""

    module: str
    part: str
    on_device: bool = False


METHODS: Final[Mapping[tuple[str, str], Method]] = {
    ("lungs", "air-bodies"): Method("inference.lungs", "AirLungs", on_device=True),
    ("detector", "dot-filter"): Method("inference.detect", "DotDetector", on_device=True),
    ("detector", "patch-cnn"): Method("inference.nodule_net", "NoduleNetDetector", on_device=True),
    ("detector", "monai-bundle"): Method("inference.bundle", "BundleDetector", on_device=True),
    ("outliner", "seeded-threshold"): Method("inference.outline", "SeededOutliner"),
    ("outliner", "unet"): Method("inference.outline_net", "NetOutliner", on_device=True),
    ("grader", "features"): Method("inference.grade", "FeatureGrader"),
}


def method_of(entry: Entry) -> Method:
    """The code of an entry's method.

    Raises:
        ConfigurationError: this software has none; names those that it has.
    """
    method = METHODS.get((entry.task, entry.kind))
    if method is None:
        known = ", ".join(kind for task, kind in METHODS if task == entry.task)
        raise ConfigurationError(
            f"kind = '{entry.kind}' is no method of this software for the task {entry.task}",
            entry.name,
            f"known are {known}",
        )
    return method
