"""Fixtures for peers that are not ours. A missing program skips at a desk and fails in CI; see `tools.py` for what
each offers.

Validators are functions that answer with the errors left, so that a test reads `assert dciodvfy(path) == []`.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import pytest

from tests.conftest import missing
from tests.peers import tools

Made = TypeVar("Made")


def _or_missing(make: Callable[[], Made]) -> Made:
    try:
        return make()
    except tools.PeerMissing as error:
        missing(str(error))
        raise


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[tools.Orthanc]:
    """An empty PACS. `orthanc.set_node(ae, port)` tells it where the node is, before `store_to("node", ...)`."""
    with _or_missing(lambda: tools.Orthanc(tmp_path / "orthanc")) as pacs:
        yield pacs


@pytest.fixture
def storescp(tmp_path: Path) -> Iterator[Callable[..., tools.StoreScp]]:
    """`storescp(*options)` starts another DCMTK receiver; all are stopped at the end."""
    with ExitStack() as stack:

        def start(*options: str, ae_title: str = "STORESCP") -> tools.StoreScp:
            folder = tmp_path / f"storescp-{tools.free_port()}"
            return stack.enter_context(_or_missing(lambda: tools.StoreScp(folder, *options, ae_title=ae_title)))

        yield start


@pytest.fixture
def mllp_receiver(tmp_path: Path) -> Iterator[Callable[..., tools.MllpReceiver]]:
    """`mllp_receiver("AE", "AA")` starts another receiver with these answers, the last one for all that follow."""
    with ExitStack() as stack:

        def start(*answers: str) -> tools.MllpReceiver:
            folder = tmp_path / f"ehr-{tools.free_port()}"
            return stack.enter_context(_or_missing(lambda: tools.MllpReceiver(folder, *answers)))

        yield start


@pytest.fixture(scope="session")
def hl7_parse() -> Callable[[bytes], tools.ParsedMessage]:
    """`hl7_parse(message)`: python-hl7's reading of it."""
    return lambda message: _or_missing(lambda: tools.hl7_parse(message))


@pytest.fixture(scope="session")
def dciodvfy() -> Callable[[Path], list[str]]:
    """`dciodvfy(path)`: IOD errors of dicom3tools."""
    return lambda path: _or_missing(lambda: tools.dciodvfy(path))


@pytest.fixture(scope="session")
def dcentvfy() -> Callable[[list[Path]], list[str]]:
    """`dcentvfy(paths)`: disagreements between objects of one study."""
    return lambda paths: _or_missing(lambda: tools.dcentvfy(paths))


@pytest.fixture(scope="session")
def dsrdump() -> Callable[[Path], list[str]]:
    """`dsrdump(path)`: what DCMTK cannot read in an SR."""
    return lambda path: _or_missing(lambda: tools.dsrdump(path))


@pytest.fixture(scope="session")
def pixelmed() -> Callable[[Path], list[str]]:
    """`pixelmed(path)`: TID 1500 content errors; 6 s a file."""
    return lambda path: _or_missing(lambda: tools.pixelmed(path))
