"""A folder of DICOM files to results in a folder: the reading and its objects, without sockets and without a ledger.

The same choice, reading and results as the node's. The age of a study is not judged, and the result says so.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from config.settings import Settings
from dicom_node.choosing import MODELS, left_out_of, to_read_now, with_left_out
from dicom_node.errors import ReaderFailed, TurnedAway, UnreadableHeader
from dicom_node.header_child import HeaderChild
from dicom_node.identity import differences
from dicom_node.net.conformance import is_read
from dicom_node.publishing import Published, Request, Source, publish
from dicom_node.reading import ReadingRoom, weights_of
from dicom_node.results.context import Device, is_ours
from dicom_node.results.picture import draw_key_slices
from dicom_node.summary import SCHEMA_VERSION, candidates_json, grades_json, series_entry, status_of
from inference.decoder import open_volume
from inference.findings import NotRead, Reading, Reason
from inference.selection import Choice, Found, SeriesView, choose
from storage.disk import file_digest

AGE_NOT_JUDGED: Final = "The age of the study was not judged"


@dataclass
class _Series:
    uid: str
    modality: str
    kind: str
    sources: list[Source] = field(default_factory=list)
    found: Found | None = None
    left_out: list[str] = field(default_factory=list)


@dataclass
class Analysis:
    """What came of a folder: the summary's entries, candidates by series, pictures, and how many files were no DICOM."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    candidates: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    grades: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    pictures: list[Path] = field(default_factory=list)
    published: list[Published] = field(default_factory=list)
    not_dicom: int = 0

    @property
    def failed(self) -> bool:
        """Whether anything failed or was held: exit 1."""
        return any(e["status"] in ("failed", "held") for e in self.entries)

    def summary(self) -> dict[str, Any]:
        """summary.json."""
        return {"schema_version": SCHEMA_VERSION, "series": self.entries}


def analyse(
    files: Iterable[Path],
    output: Path,
    settings: Settings,
    device: Device,
    now: datetime,
    *,
    say: Callable[[str], None] = lambda text: None,
) -> Analysis:
    """Read every study of these files; write objects, pictures, candidates and summary below `output`."""
    analysis = Analysis()
    studies = _sorted(files, settings, analysis, say)
    room = ReadingRoom(
        settings,
        output / ".scratch",
        progress=lambda stage, done, total: say(f"{stage} {done}/{total}") if done == total else None,
    )
    try:
        for number, (study_uid, series) in enumerate(sorted(studies.items()), 1):
            say(f"study {number} of {len(studies)}: {len(series)} series")
            _study(study_uid, series, number, output, settings, device, now, room, analysis, say)
    finally:
        room.close()
        _remove_scratch(output / ".scratch")
    (output / "debug").mkdir(parents=True, exist_ok=True)
    (output / "debug" / "candidates.json").write_text(json.dumps(analysis.candidates, indent=1))
    (output / "debug" / "grades.json").write_text(json.dumps(analysis.grades, indent=1))
    (output / "summary.json").write_text(json.dumps(analysis.summary(), indent=1))
    return analysis


def _remove_scratch(folder: Path) -> None:
    for path in sorted(folder.glob("**/*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    if folder.exists():
        folder.rmdir()


def _sorted(
    files: Iterable[Path], settings: Settings, analysis: Analysis, say: Callable[[str], None]
) -> dict[str, dict[str, _Series]]:
    """Files by study and series; a second copy of an instance is left out, with what differs."""
    studies: dict[str, dict[str, _Series]] = {}
    child = HeaderChild(settings.index.header_timeout_s)
    try:
        for path in files:
            try:
                header = child.read(path)
            except UnreadableHeader as unreadable:
                analysis.not_dicom += 1
                say(f"{path.name}: {unreadable.text}")
                continue
            kind = "image" if is_read(header.sop_class_uid) and not is_ours(header.model) else "set_aside"
            series = studies.setdefault(header.study_instance_uid, {}).setdefault(
                header.series_instance_uid, _Series(header.series_instance_uid, header.modality, kind)
            )
            first = next((s for s in series.sources if s.header.sop_instance_uid == header.sop_instance_uid), None)
            if first is not None:
                series.left_out.append(", ".join(differences(first.header, header)) or "a duplicate")
                continue
            series.sources.append(Source(header, path, file_digest(path)))
    finally:
        child.close()
    return studies


def _study(
    study_uid: str,
    series: dict[str, _Series],
    number: int,
    output: Path,
    settings: Settings,
    device: Device,
    now: datetime,
    room: ReadingRoom,
    analysis: Analysis,
    say: Callable[[str], None],
) -> None:
    images = {uid: s for uid, s in series.items() if s.kind == "image"}
    objects = output / "objects" / f"study-{number}"
    objects.mkdir(parents=True, exist_ok=True)

    def picture(folder: Path, reading: Reading) -> None:
        path = objects / "key-slices.png"
        draw_key_slices(reading, open_volume(folder), path)
        analysis.pictures.append(path)

    choice, readings = _read(images, settings, objects, room, picture, say)
    read = {r.series_instance_uid: r for r in readings}
    published = None
    if readings or choice.report:
        published = publish(_request(study_uid, images, choice, readings, settings, device, now), objects, settings)
        analysis.published.append(published)
        read = {r.series_instance_uid: r for r in published.report.readings}
    verdicts = {v.series_instance_uid: v for v in choice.verdicts}
    best = next(iter(read), choice.best)
    for uid, one in series.items():
        verdict = verdicts.get(uid)
        reading = read.get(uid)
        outcome = "read" if reading else verdict.outcome if verdict else "set_aside"
        results = (
            [
                {
                    "kind": o["kind"],
                    "sop_instance_uid": o.get("sop_instance_uid", ""),
                    "file": str((objects / o["path"]).relative_to(output)),
                }
                for o in published.manifest["objects"]
            ]
            if published and uid == best
            else []
        )
        reason = (
            reading.reason
            if reading
            else verdict.reason
            if verdict
            else Reason("class", "an object of a class that is not read")
        )
        analysis.entries.append(
            series_entry(
                study_uid=study_uid,
                series_uid=uid,
                modality=one.modality,
                status=status_of(outcome, reading),
                reason=reason,
                evidence="a folder of files",
                reading=reading,
                results=results,
                assessment=published.report.assessment if published and uid == best else None,
            )
        )
        if reading is not None:
            analysis.candidates[uid] = candidates_json(reading.candidates)
            analysis.grades[uid] = grades_json(reading)


def _read(
    images: dict[str, _Series],
    settings: Settings,
    objects: Path,
    room: ReadingRoom,
    picture: Callable[[Path, Reading], None],
    say: Callable[[str], None],
) -> tuple[Choice, tuple[Reading, ...]]:
    """Choose and read until the choice stands."""
    while True:
        views = [
            SeriesView(
                series_instance_uid=uid, headers=tuple(s.header for s in one.sources), received_at=None, found=one.found
            )
            for uid, one in images.items()
        ]
        choice = choose(views, settings.select, models=MODELS, zone=ZoneInfo(settings.site.timezone))
        readings = []
        for uid in to_read_now(choice):
            one = images[uid]
            say(f"reading series {one.sources[0].header.series_number} ({len(one.sources)} images)")
            out = objects / "reading.json"
            try:
                left_out = left_out_of(choice, uid)
                unread = {left.sop_instance_uid for left in left_out}
                files = [s.path for s in one.sources if s.header.sop_instance_uid not in unread]
                readings.append(with_left_out(room.read(files, out, on_volume=picture), left_out))
            except TurnedAway as away:
                one.found = Found(away.outcome, Reason(away.code, away.text))
            except ReaderFailed as failed:
                one.found = Found("failed", Reason("attempts", str(failed)))
            finally:
                out.unlink(missing_ok=True)
            if one.found is not None:
                say(one.found.reason.text)
                break
        else:
            return choice, tuple(readings)


def _request(
    study_uid: str,
    images: dict[str, _Series],
    choice: Choice,
    readings: tuple[Reading, ...],
    settings: Settings,
    device: Device,
    now: datetime,
) -> Request:
    read = [r.series_instance_uid for r in readings]
    concerned = (
        read or [v.series_instance_uid for v in choice.verdicts if v.outcome in ("declined", "failed")] or list(images)
    )
    not_read = tuple(
        NotRead(
            v.series_instance_uid,
            images[v.series_instance_uid].modality,
            v.outcome,
            v.reason or Reason("", ""),
            images[v.series_instance_uid].sources[0].header.series_number,
        )
        for v in choice.verdicts
        if v.outcome in ("passed_over", "declined", "failed")
    )
    left_out = [text for one in images.values() for text in one.left_out if text != "a duplicate"]
    notes = (
        AGE_NOT_JUDGED,
        *(choice.notes if readings else ()),
        *([f"{len(left_out)} second copies of images differ and were left out"] if left_out else []),
    )
    return Request(
        study_instance_uid=study_uid,
        readings=readings,
        not_read=not_read,
        reason=None if readings else choice.reason or Reason("nothing", "no series of the study can be read"),
        sources=[s for uid in concerned for s in images[uid].sources],
        weights=weights_of(settings),
        identity_key="p1",
        choice_digest="",
        content_at=now,
        revision=1,
        previous=None,
        notes=notes,
        device=device,
    )
