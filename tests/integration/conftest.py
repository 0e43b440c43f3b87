"""Studies that a test sends, and the systems around the node: a small phantom is made once a session."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pydicom
import pytest

from dicom_node.demo.phantom import write_ct_phantom
from dicom_node.net.scu import Sender
from inference.phantom import ChestPhantom, NoduleWish, chest_phantom
from tests.running import RunningNode

SMALL = {"spacing_mm": (2.5, 1.45, 1.45), "shape": (122, 248, 248)}
WISHES = (NoduleWish("solid", 18.0), NoduleWish("solid", 12.0))


@dataclass(frozen=True)
class Called:
    """Whom a sender calls."""

    ae_title: str
    host: str
    port: int


@dataclass(frozen=True)
class Study:
    """Files of one study."""

    uid: str
    files: tuple[Path, ...]

    @property
    def sop_uids(self) -> list[str]:
        """Of the files, in their order."""
        return [str(pydicom.dcmread(f, stop_before_pixels=True).SOPInstanceUID) for f in self.files]


def send(files: Sequence[Path], node: RunningNode, calling: str = "MODALITY") -> int:
    """C-STORE over one association; how many the node took. Raises what `Sender` raises."""
    return len(Sender(calling, 30).store(list(files), Called(node.ae_title, "127.0.0.1", node.port)).instances)


@pytest.fixture(scope="session")
def chest() -> ChestPhantom:
    """A coarse chest with two nodules."""
    return chest_phantom(WISHES, seed=3, **SMALL)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def empty_chest() -> ChestPhantom:
    """A coarse chest without nodules."""
    return chest_phantom((), seed=3, **SMALL)  # type: ignore[arg-type]


@pytest.fixture
def ct_study(tmp_path: Path, chest: ChestPhantom) -> Callable[..., Study]:
    """`ct_study(salt, companions=False)` writes a CT study of its own."""

    def write(salt: str = "a", companions: bool = False, change: Callable[[pydicom.Dataset], None] | None = None) -> Study:
        files = write_ct_phantom(tmp_path / f"study-{salt}", datetime.now(UTC), chest, salt=salt, companions=companions)
        for file in files if change else ():
            dataset = pydicom.dcmread(file)
            assert change is not None
            change(dataset)
            dataset.save_as(file)
        return Study(str(pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID), tuple(files))

    return write


@pytest.fixture
def hospital(tmp_path: Path, storescp: Any, mllp_receiver: Any) -> dict[str, Any]:
    """A PACS and an EHR that are not ours, as settings of a node."""
    return {
        "pacs": [{"name": "pacs-main", "ae_title": storescp.ae_title, "host": "127.0.0.1", "port": storescp.port}],
        "ehr": [{"name": "his-main", "host": "127.0.0.1", "port": mllp_receiver.port}],
    }


@pytest.fixture
def node(tmp_path: Path, hospital: dict[str, Any]) -> Iterator[RunningNode]:
    """A running node with that hospital around it."""
    with RunningNode(tmp_path / "node", **hospital) as running:
        yield running


Starter = Callable[..., AbstractContextManager[RunningNode]]
