"""Programs that are not ours, as small classes: on free loopback ports, stopped by SIGTERM to their own process.

Used by the fixtures of this folder and by the acceptance script. Each raises `PeerMissing` where its program is not
installed. They are set up for Orthanc 1.10, DCMTK 3.6.7 and python-hl7 0.4.5 (Debian's packages).
"""

import json
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydicom import Dataset, dcmread

START_S_MAX = 30.0
STOP_S_MAX = 15.0
SYSTEM_FOLDERS = "/usr/bin:/usr/sbin:/bin:/sbin:/usr/local/bin"


class PeerMissing(RuntimeError):
    """A program that is not ours is not installed here."""


def program(name: str) -> str:
    """Path of a program. The system's folders come first: pynetdicom puts programs of DCMTK's names into our
    environment.
    """
    path = shutil.which(name, path=SYSTEM_FOLDERS) or shutil.which(name)
    if path is None:
        raise PeerMissing(f"the program {name} is not installed")
    return path


def free_port() -> int:
    """A port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(
    condition: Callable[[], Any], what: str, timeout_s: float = START_S_MAX, story: Callable[[], str] = str
) -> Any:
    """The first true answer of `condition`; after `timeout_s` AssertionError with `what` was waited for and the
    `story`.
    """
    end = time.monotonic() + timeout_s
    pause_s = 0.01
    while True:
        if answer := condition():
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout_s:g} s for {what}\n{story()}")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.25)


class Peer:
    """A process of its own, with all that it said."""

    def __init__(self, command: Sequence[str], **environment: str) -> None:
        self._said: list[str] = []
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **environment},
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._said.append(line.rstrip("\n"))
            self._lines.put(line.rstrip("\n"))

    def story(self) -> str:
        """The last of what it said."""
        return "\n".join(self._said[-40:])

    def line(self, wanted: Callable[[str], bool], what: str, timeout_s: float = START_S_MAX) -> str:
        """The next line that is `wanted`; lines before it are passed over."""
        end = time.monotonic() + timeout_s
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"waited {timeout_s:g} s for {what}\n{self.story()}") from None
            if wanted(line):
                return line

    def stop(self) -> None:
        """SIGTERM to this process; SIGKILL when it does not listen."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._listener.join(STOP_S_MAX)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Orthanc(Peer):
    """A PACS: its DICOM and REST ports are free ones of the loopback, its database a folder of the caller's.

    Args:
        folder: an empty folder, for the database.
        node: (AE title, port) of the one to whom it may send, known to it as the modality `node`.
    """

    def __init__(
        self, folder: Path, ae_title: str = "TESTPACS", node: tuple[str, int] = ("DICOMNODE", 11112), **options: Any
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.ae_title, self.port, self.http_port = ae_title, free_port(), free_port()
        settings = {
            "Name": ae_title,
            "StorageDirectory": str(folder / "db"),
            "IndexDirectory": str(folder / "db"),
            "TemporaryDirectory": str(folder),
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomServerEnabled": True,
            "DicomAet": ae_title,
            "DicomPort": self.port,
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True,
            "UnknownSopClassAccepted": True,
            "OverwriteInstances": True,
            "StorageCommitmentReportsSize": 100,
            "DicomAssociationCloseDelay": 1,
            "ConcurrentJobs": 4,
            "DicomModalities": {
                "node": {"AET": node[0], "Host": "127.0.0.1", "Port": node[1], "AllowStorageCommitment": True}
            },
            **options,
        }
        plugin = next(Path("/usr").glob("*/orthanc/plugins/libOrthancDicomWeb.so"), None)
        if plugin:
            settings |= {"Plugins": [str(plugin)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}}
        configuration = folder / "orthanc.json"
        configuration.write_text(json.dumps(settings), encoding="utf-8")
        # Nagle and delayed acknowledgements together cost 45 to 80 ms an image
        super().__init__([program("Orthanc"), str(configuration)], TCP_NODELAY="1")
        try:
            self.line(lambda line: "Orthanc has started" in line, "Orthanc to start")
        except AssertionError:
            self.stop()
            raise

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One REST call; `body` bytes as they are, anything else as JSON. JSON answers are decoded, other ones are
        bytes.

        Raises:
            urllib.error.HTTPError: with Orthanc's own words in its `msg`.
        """
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", data=data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                content, kind = answer.read(), answer.headers.get("Content-Type", "")
        except urllib.error.HTTPError as error:
            error.msg += " " + error.read().decode(errors="replace")
            raise
        return json.loads(content) if "json" in kind else content

    def put(self, *paths: Path) -> list[dict[str, str]]:
        """Store files; one answer each, with ID, ParentSeries and ParentStudy (Orthanc's own IDs)."""
        return [self.call("POST", "/instances", path.read_bytes()) for path in paths]

    def set_node(self, ae_title: str, port: int) -> None:
        """Tell it where the modality `node` is now."""
        self.call(
            "PUT",
            "/modalities/node",
            {"AET": ae_title, "Host": "127.0.0.1", "Port": port, "AllowStorageCommitment": True},
        )

    def store_to(self, modality: str, *resources: str, permissive: bool = False) -> dict[str, Any]:
        """C-STORE of its resources (instances, series, studies by its own IDs) to a modality; its answer has the
        counts.
        """
        answer: dict[str, Any] = self.call(
            "POST",
            f"/modalities/{modality}/store",
            {"Resources": list(resources), "Synchronous": True, "Permissive": permissive},
        )
        return answer

    def find(self, level: str, **query: str) -> list[dict[str, Any]]:
        """Resources at a level (Study, Series, Instance) by DICOM keywords, expanded."""
        found: list[dict[str, Any]] = self.call("POST", "/tools/find", {"Level": level, "Query": query, "Expand": True})
        return found

    def uids(self, level: str, **query: str) -> set[str]:
        """The UIDs of what `find` finds."""
        keyword = {"Study": "StudyInstanceUID", "Series": "SeriesInstanceUID", "Instance": "SOPInstanceUID"}[level]
        return {str(found["MainDicomTags"][keyword]) for found in self.find(level, **query)}

    def fetch(self, sop_instance_uid: str) -> bytes:
        """The Part 10 file of an instance. Its file meta is rewritten by Orthanc: compare datasets, not bytes."""
        found = self.find("Instance", SOPInstanceUID=sop_instance_uid)
        if not found:
            raise KeyError(sop_instance_uid)
        content: bytes = self.call("GET", f"/instances/{found[0]['ID']}/file")
        return content

    def delete_all(self) -> None:
        """An empty PACS again."""
        for patient in self.call("GET", "/patients"):
            self.call("DELETE", f"/patients/{patient}")


class StoreScp(Peer):
    """DCMTK's receiver; what it got lies in `folder` (named by modality prefix and SOP Instance UID), bit by bit as
    it came.
    """

    def __init__(self, folder: Path, *options: str, ae_title: str = "STORESCP") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.ae_title, self.port, self.folder = ae_title, free_port(), folder
        super().__init__(
            [
                program("storescp"),
                "-v",
                "--fork",
                "+B",
                "+xa",
                "-aet",
                ae_title,
                "-od",
                str(folder),
                *options,
                str(self.port),
            ],
            TCP_NODELAY="1",
        )
        until(self._listens, f"storescp to listen on {self.port}", story=self.story)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def files(self) -> list[Path]:
        """What it holds now."""
        return sorted(path for path in self.folder.iterdir() if path.is_file())


@dataclass(frozen=True)
class Received:
    """One message that the receiver took; `content` are its bytes as they came, without the frame."""

    n: int
    answer: str
    control_id: str
    content: bytes


class MllpReceiver(Peer):
    """python-hl7's MLLP server in a process of its own. `answers` as in `python_hl7.py`: one a message, the last one
    stays.
    """

    def __init__(self, folder: Path, *answers: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__([*_debian_python(), "receive", str(folder), ",".join(answers or ("AA",))])
        self.port = int(json.loads(self.line(_is_event("listening"), "the MLLP receiver to listen"))["port"])

    def message(self, timeout_s: float = START_S_MAX) -> Received:
        """The next message; waits for it."""
        fact = json.loads(self.line(_is_event("message"), "a message", timeout_s))
        return Received(fact["n"], fact["answer"], fact["control_id"], Path(fact["file"]).read_bytes())


def _is_event(name: str) -> Callable[[str], bool]:
    return lambda line: line.startswith("{") and json.loads(line).get("event") == name


def _debian_python() -> list[str]:
    """Debian's Python with python3-hl7, isolated: our package of the same name must not be on its path."""
    python = Path("/usr/bin/python3")
    if (
        not python.exists()
        or subprocess.run([str(python), "-I", "-c", "import hl7.mllp"], capture_output=True).returncode
    ):
        raise PeerMissing("Debian's package python3-hl7 (for /usr/bin/python3) is not installed")
    return [str(python), "-I", str(Path(__file__).with_name("python_hl7.py"))]


class ParsedMessage:
    """A message as python-hl7 sees it, text unescaped. Fields, repetitions, components and subcomponents count from
    1, as HL7 does.
    """

    def __init__(self, parsed: dict[str, Any]) -> None:
        self.segments: list[dict[str, Any]] = parsed["segments"]

    def names(self) -> list[str]:
        """Segment names in order."""
        return [segment["name"] for segment in self.segments]

    def all(self, name: str) -> list[dict[str, Any]]:
        """All segments of a name."""
        return [segment for segment in self.segments if segment["name"] == name]

    def get(self, name: str, n: int, field: int, component: int = 1, subcomponent: int = 1, repetition: int = 1) -> str:
        """Text of the n-th segment of a name; "" where there is none."""
        try:
            text: str = self.all(name)[n - 1]["fields"][field][repetition - 1][component - 1][subcomponent - 1]
        except IndexError:
            return ""
        return text

    def raw(self, name: str, n: int, field: int) -> str:
        """A whole field as it came, escapes kept; "" where there is none."""
        try:
            text: str = self.all(name)[n - 1]["raw"][field]
        except IndexError:
            return ""
        return text


def hl7_parse(message: bytes) -> ParsedMessage:
    """Read a message (no frame) with python-hl7, in a process of its own.

    Raises:
        ValueError: python-hl7 could not; its last line says why.
    """
    done = subprocess.run([*_debian_python(), "parse"], input=message, capture_output=True)
    if done.returncode:
        raise ValueError(done.stderr.decode(errors="replace").strip().splitlines()[-1])
    return ParsedMessage(json.loads(done.stdout))


# Validators. Each answers with the error lines that are left; an empty list is what a test wants.


@dataclass(frozen=True)
class FalseAlarm:
    """A complaint that a validator makes of a right object: lines of `tool` that match `pattern`, and why they are
    wrong; only for objects that fulfil `when`.
    """

    tool: str
    pattern: str
    why: str
    when: Callable[[Path], bool] = lambda path: True


def _one_planar_group(path: Path) -> bool:
    """Whether a report has exactly one group of TID 1410."""

    def groups(item: Dataset) -> int:
        template = item.get("ContentTemplateSequence") or [Dataset()]
        own = int(template[0].get("TemplateIdentifier") == "1410")
        return own + sum(groups(child) for child in item.get("ContentSequence") or ())

    return groups(dcmread(path, stop_before_pixels=True)) == 1


_ONE_PLANAR_GROUP = (
    "with exactly one planar group PixelMed 2022 checks the volumetric group (1.9.1) against TID 1410 too"
)
FALSE_ALARMS = (
    FalseAlarm(
        "dcentvfy",
        r"^Warning - Different information entities for attribute - Element=<AccessionNumber> IE ?[=]?<(Series|Study)> versus <(Series|Study)>",
        "files the accession number of SR and KO under the study and that of images under the series; the values agree",
    ),
    FalseAlarm(
        "dcentvfy",
        r"^Warning - Attribute present in one instance but not the other - Element=<(LastMenstrualDate|EthnicGroup|Occupation|SmokingStatus|"
        r"PregnancyStatus|PatientComments|PatientSize|PatientWeight|AdditionalPatientHistory|AdmittingDiagnosesDescription|"
        r"DeidentificationMethodCodeSequence|ProcedureCodeSequence)>",
        "optional (type 3) attributes of patient and study: a result carries no more of a person than it is filed under",
    ),
    FalseAlarm(
        "dsrdump", r"^W: Check for template constraints not yet supported$", "says only that it does not check TID 2010"
    ),
    FalseAlarm(
        "pixelmed",
        r"^Error: Template 1410 .*SCOORD \(111030,DCM,\"Image Region\"\): within 1\.9\.1: .*Missing conditional",
        f"{_ONE_PLANAR_GROUP}; that one has a segment in place of a region",
        _one_planar_group,
    ),
    FalseAlarm(
        "pixelmed",
        r"^Error: Template 1410 .*\"Referenced Segmentation Frame\"\): within 1\.9\.1: .*Missing conditional",
        f"{_ONE_PLANAR_GROUP}; that one references a segment, not a frame",
        _one_planar_group,
    ),
    FalseAlarm(
        "pixelmed",
        r"^Error: Template 1410 .*\"Source image for segmentation\"\): within 1\.9\.1: .*condition not satisfied$",
        f"{_ONE_PLANAR_GROUP}; TID 1411 asks for the source images of a segment",
        _one_planar_group,
    ),
)


def _left(tool: str, lines: Iterable[str], path: Path | None = None) -> list[str]:
    """The lines that no false alarm explains; `path` is the object that they are about, where it is one."""

    def explained(line: str, alarm: FalseAlarm) -> bool:
        return bool(re.search(alarm.pattern, line)) and (path is None or alarm.when(path))

    alarms = [alarm for alarm in FALSE_ALARMS if alarm.tool == tool]
    return [line for line in lines if not any(explained(line, alarm) for alarm in alarms)]


def _lines(command: Sequence[str], **environment: str) -> list[str]:
    done = subprocess.run(list(command), capture_output=True, env={**os.environ, **environment})
    text = (done.stdout + b"\n" + done.stderr).decode(errors="replace")
    return [line.strip() for line in text.splitlines() if line.strip()]


def dciodvfy(path: Path) -> list[str]:
    """Errors of dicom3tools' IOD validator."""
    return _left(
        "dciodvfy",
        (line for line in _lines([program("dciodvfy"), "-new", str(path)]) if line.startswith(("Error", "Abort"))),
    )


def dcentvfy(paths: Iterable[Path]) -> list[str]:
    """All complaints of dicom3tools' check that objects of one study agree; it is silent when they do."""
    return _left("dcentvfy", _lines([program("dcentvfy"), *map(str, paths)]))


def dsrdump(path: Path) -> list[str]:
    """Errors and warnings of DCMTK's SR reader, which stops at the first thing it can't read."""
    return _left(
        "dsrdump",
        (line for line in _lines([program("dsrdump"), "-Ee", str(path)]) if line.startswith(("E:", "W:", "F:"))),
    )


def pixelmed(path: Path) -> list[str]:
    """Errors of PixelMed's DicomSRValidator, which knows the content of TID 1500. 6 s a file; warnings are not
    errors.
    """
    # Its XPath expressions exceed Java's default limits; it always exits with 0
    limits = " ".join(f"-Djdk.xml.xpath{name}Limit=0" for name in ("ExprOp", "ExprGrp", "TotalOp"))
    lines = _lines([program("DicomSRValidator"), str(path)], JAVA_TOOL_OPTIONS=limits)
    if not any("validation complete" in line for line in lines):
        return [f"Error: the validator did not come to its end: {line}" for line in lines[-3:]]
    errors = [line for line in lines if line.startswith(("Error", "SEVERE", "IOD (SOP Class) unrecognized"))]
    return _left("pixelmed", errors, path)
