"""Studies that a test sends, and the systems around the node: a small phantom is made once a session."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pydicom
import pytest

from dicom_node.demo.phantom import write_ct_phantom
from dicom_node.net.scu import Sender
from inference.phantom import ChestPhantom, NoduleWish, chest_phantom
from tests.peers import tools
from tests.peers.conftest import dcentvfy, dciodvfy, dsrdump, hl7_parse, mllp_receiver, orthanc, pixelmed, storescp  # noqa: F401
from tests.peers.tools import MllpReceiver, StoreScp
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

    @cached_property
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

    def write(
        salt: str = "a", companions: bool = False, change: Callable[[pydicom.Dataset], None] | None = None
    ) -> Study:
        files = write_ct_phantom(tmp_path / f"study-{salt}", datetime.now(UTC), chest, salt=salt, companions=companions)
        for file in files if change else ():
            dataset = pydicom.dcmread(file)
            assert change is not None
            change(dataset)
            dataset.save_as(file)
        return Study(str(pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID), tuple(files))

    return write


@dataclass
class Hospital:
    """A PACS (DCMTK) and an EHR (python-hl7), both not ours."""

    pacs: StoreScp
    ehr: MllpReceiver
    messages: list[bytes] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, Any]:
        """The tables of a node that sends there."""
        return {
            "pacs": [
                {"name": "pacs-main", "ae_title": self.pacs.ae_title, "host": "127.0.0.1", "port": self.pacs.port}
            ],
            "ehr": [{"name": "his-main", "host": "127.0.0.1", "port": self.ehr.port}],
            "oru": {"after": ["pacs-main"]},
        }

    def objects(self, modality: str) -> list[pydicom.Dataset]:
        """What the PACS holds of one modality, in order of arrival."""
        found = [pydicom.dcmread(f) for f in sorted(self.pacs.files(), key=lambda f: f.stat().st_mtime_ns)]
        return [d for d in found if d.Modality == modality]

    def next_message(self) -> bytes:
        """The next message that the EHR got."""
        self.messages.append(self.ehr.message().content)
        return self.messages[-1]


@pytest.fixture
def hospital(storescp: Callable[..., StoreScp], mllp_receiver: Callable[..., MllpReceiver]) -> Iterator[Hospital]:  # noqa: F811
    """Both started; at the end, no validator has an error on anything that the PACS got."""
    made = Hospital(storescp("-pm"), mllp_receiver())
    yield made
    for file in made.pacs.files():
        assert tools.dciodvfy(file) == []
        if pydicom.dcmread(file, stop_before_pixels=True).Modality in ("SR", "KO"):
            assert tools.dsrdump(file) == []


@pytest.fixture
def node(tmp_path: Path, hospital: Hospital) -> Iterator[RunningNode]:
    """A running node with that hospital around it."""
    with RunningNode(tmp_path / "node", **hospital.settings) as running:
        yield running
