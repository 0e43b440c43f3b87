"""The demonstration from end to end: hospital up, node up, images in, results out, a table at the end.

The node runs as it would anywhere: `dicom-node serve` in processes of its own, on SQLite, in OUTPUT/node; only its waits are short and its
detector may send. What came back lies in OUTPUT/pacs and OUTPUT/ehr.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from config.load import load
from config.settings import Settings
from dicom_node.demo import report
from dicom_node.demo.hospital import SCANNER_AE, Hospital
from dicom_node.demo.phantom import write_ct_phantom, write_radiograph
from dicom_node.errors import Precondition, ServiceError
from dicom_node.net.send import Address, Sent
from dicom_node.node import Node, open_node
from dicom_node.places import utc_now
from dicom_node.reading import ReadingRoom
from dicom_node.results.picture import draw_key_slices
from dicom_node.story import candidates_of, grades_of, result_of, series_entries
from dicom_node.summary import SCHEMA_VERSION
from inference.decoder import open_volume
from inference.phantom import PhantomNodule, chest_phantom, radiograph_phantom
from storage.rows import StudyView
from storage.states import StudyState

OURS: Final = ("input", "node", "pacs", "ehr", "debug", "pictures", "summary.json", "config.toml", "node.log")
ENDED: Final = (StudyState.DONE, StudyState.UNDELIVERED, StudyState.WITHDRAWN)
START_S_MAX, FILE_S_MAX, STUDY_S_MAX = 60.0, 300.0, 1800.0
AUTHORITY: Final = "DEMO"


class DemoFailed(ServiceError):
    """The node did not come up, or a study did not end; the log says why."""


@dataclass(frozen=True)
class Input:
    """What is sent; `truth` is None for anybody's own files."""

    files: Sequence[Path]
    truth: tuple[PhantomNodule, ...] | None


def run_demo(files: Sequence[Path] | None, output: Path) -> int:
    """The whole way; returns the exit code. Raises Precondition for a folder with other people's files in it, DemoFailed."""
    _clean(output)
    say = report.Progress()
    sent_from = _phantoms(output / "input", say) if files is None else Input(files, None)
    with Hospital(output, utc_now) as hospital:
        config = output / "config.toml"
        port = _free_port()
        config.write_text(_configuration(output, hospital, port, phantoms=files is None), encoding="utf-8")
        settings = load(config, {})
        say.step(f"node and hospital start on loopback (PACS {hospital.pacs.port}, EHR {hospital.ehr[1]}, node {port})")
        with _Serving(config, output / "node.log"):
            _wait_for_port(port, output / "node.log")
            target = Address(settings.receive.ae_title, "127.0.0.1", port)
            sent = hospital.send(
                sent_from.files, target, lambda done, total: say.count("C-STORE to the node", done, total)
            )
            say.step(
                f"{sent.stored} images sent by C-STORE, {sent.refused} refused, {sent.skipped} files were no DICOM"
            )
            node = open_node(settings, "demo")
            try:
                views = _follow(node, sent, say, output / "node.log")
                return _finish(node, views, hospital, sent_from, output, settings, say)
            finally:
                node.close()


def _clean(output: Path) -> None:
    """Make room for this run; only what a demonstration wrote before is removed."""
    output.mkdir(parents=True, exist_ok=True)
    strangers = [p.name for p in output.iterdir() if p.name not in OURS]
    if strangers:
        raise Precondition(
            f"the folder holds other files ({', '.join(sorted(strangers)[:3])})",
            str(output),
            "name another with --output",
        )
    for name in OURS:
        path = output / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _phantoms(folder: Path, say: report.Progress) -> Input:
    """A chest CT and a chest X-ray, made here and now."""
    say.step("making a chest CT phantom and a chest X-ray phantom")
    now = utc_now()
    salt = now.isoformat()
    chest = chest_phantom()
    files = write_ct_phantom(folder, now, chest, salt=salt)
    files += write_radiograph(folder, now, radiograph_phantom(), salt=salt)
    return Input(files, chest.nodules)


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _configuration(output: Path, hospital: Hospital, port: int, *, phantoms: bool) -> str:
    """Settings of the demonstration: short waits, delivery on, an assigning authority, old studies read too; phantoms only
    where it is the demonstration's own."""
    host, ehr_port = hospital.ehr
    tables: dict[str, dict[str, Any]] = {
        "site": {
            "timezone": "UTC",
            "name": "Demonstration",
            "assigning_authority": AUTHORITY,
            "allow_unvalidated": True,
        },
        "paths": {"state": str((output / "node").absolute())},
        "receive": {"ae_title": "DEMONODE", "host": "127.0.0.1", "port": port, "calling_ae_titles": [SCANNER_AE]},
        "index": {"poll_s": 0.1},
        "assembly": {
            "proof_quiet_s": 1.0,
            "quiet_s": 5.0,
            "aborted_quiet_s": 10.0,
            "wait_s_max": 120.0,
            "sweep_s": 0.3,
        },
        "study": {"quiet_s": 1.5},
        "select": {"age_h_max": 0.0, "phantoms": phantoms},
        "delivery": {
            "enabled": True,
            "intended_use": "demonstration",
            "poll_s": 0.2,
            "backoff_s_min": 1.0,
            "backoff_s_max": 5.0,
            "attempts_max": 3,
        },
        "oru": {"after": ["demo-pacs"], "processing_id": "D"},
        "disk": {"free_mib_min": 256, "used_max": 0.99, "alarm_used": 0.98, "reserve_mib": 64},
    }
    lines = ["# Written by `dicom-node demo`."]
    for name, values in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    lines += [
        "[[pacs]]",
        'name = "demo-pacs"',
        f'ae_title = "{hospital.pacs.ae_title}"',
        f'host = "{hospital.pacs.host}"',
        f"port = {hospital.pacs.port}",
    ]
    lines += ["[[ehr]]", 'name = "demo-ehr"', f'host = "{host}"', f"port = {ehr_port}"]
    return "\n".join(lines) + "\n"


class _Serving:
    """`dicom-node serve` in a process of its own, ended with the context."""

    def __init__(self, config: Path, log: Path) -> None:
        self._command = [sys.executable, "-m", "dicom_node", "--config", str(config), "serve"]
        self._log = log

    def __enter__(self) -> None:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def __exit__(self, *exception: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(40)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _wait_for_port(port: int, log: Path) -> None:
    import socket

    end = time.monotonic() + START_S_MAX
    while time.monotonic() < end:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise DemoFailed("the node does not listen", str(log), "the end of the log says why")


def _follow(node: Node, sent: Sent, say: report.Progress, log: Path) -> list[StudyView]:
    """Show how the studies move, until all that was sent is filed and every study has ended or is held."""
    started = time.monotonic()
    shown: dict[int, str] = {}
    while True:
        studies = node.ledger.studies(10_000)
        views = [node.ledger.view(s.number, headers=False) for s in studies]
        for view in views:
            stage = "held" if view.holds else str(view.study.state)
            if shown.get(view.study.number) != stage:
                shown[view.study.number] = stage
                say.step(f"study {view.study.number}: {stage}")
        say.wait()
        waiting = bool(node.spool.arrivals(1))
        if not waiting and views and all(v.study.state in ENDED or v.holds for v in views):
            return sorted(views, key=lambda v: v.study.number)
        if not waiting and not views and (not sent.stored or time.monotonic() - started > FILE_S_MAX):
            raise DemoFailed(
                "nothing that the node could file was sent", str(log), "name a folder of DICOM files with --input"
            )
        if time.monotonic() - started > STUDY_S_MAX:
            raise DemoFailed(f"not all studies ended in {STUDY_S_MAX:g} s", str(log), "the end of the log says why")
        time.sleep(0.2)


def _finish(
    node: Node,
    views: Sequence[StudyView],
    hospital: Hospital,
    sent_from: Input,
    output: Path,
    settings: Settings,
    say: report.Progress,
) -> int:
    """Summary, candidates, pictures, and the table."""
    entries = [
        entry for view in views for entry in series_entries(node.spool, view, node.ledger.events(view.study.number))
    ]
    (output / "summary.json").write_text(json.dumps({"schema_version": SCHEMA_VERSION, "series": entries}, indent=1))
    (output / "debug").mkdir()
    candidates = {uid: ranked for view in views for uid, ranked in candidates_of(node.spool, view).items()}
    (output / "debug" / "candidates.json").write_text(json.dumps(candidates, indent=1))
    grades = {uid: graded for view in views for uid, graded in grades_of(node.spool, view).items()}
    (output / "debug" / "grades.json").write_text(json.dumps(grades, indent=1))
    pictures = _pictures(node, views, output / "pictures", settings, say)
    messages = hospital.messages()
    report.show(entries, sent_from.truth, messages, _no_message(node, views), pictures, output)
    bad = any(e["status"] in ("failed", "held") for e in entries) or any(
        v.study.state is StudyState.UNDELIVERED for v in views
    )
    missed = sent_from.truth is not None and report.found_of(entries, sent_from.truth) < len(sent_from.truth)
    return 1 if bad or missed else 0


def _no_message(node: Node, views: Sequence[StudyView]) -> str:
    """Why the EHR got nothing, from the studies' own story."""
    reasons = [
        published.no_oru for v in views if (published := result_of(node.spool, v, v.current)) and published.no_oru
    ]
    return reasons[0] if reasons else "no study gave a report"


def _pictures(
    node: Node, views: Sequence[StudyView], folder: Path, settings: Settings, say: report.Progress
) -> list[Path]:
    """Key slices of every CT reading, from the images as they lie in the node's spool."""
    folder.mkdir()
    paths = []
    room = ReadingRoom(settings, folder / "scratch")
    for view in views:
        published = result_of(node.spool, view, view.current)
        for number, reading in enumerate(published.report.readings if published else (), 1):
            if reading.modality != "CT":
                continue
            say.step("drawing the key slices")
            study = node.spool.study_folder(view.study.study_uid)
            files = {i.sop_uid: study / i.file for s in view.series for i in s.instances}
            volume = folder / "scratch"
            volume.mkdir(exist_ok=True)
            room.decode([files[uid] for uid in dict.fromkeys(reading.slices_read)], volume)
            paths.append(folder / f"study-{view.study.number}-{number}.png")
            draw_key_slices(reading, open_volume(volume), paths[-1])
            shutil.rmtree(volume)
    return paths
