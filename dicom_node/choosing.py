"""From what the ledger holds of a study to what should be read of it, and whether that differs from what was.

The rules are `inference.selection.choose`; here headers are taken from the ledger, other people's instances are left out, and
the choice gets a digest: equal digests mean that the same instances of the same person would be read with the same outcome.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from config.settings import Settings
from inference.findings import LeftOut, NotRead, Reading, Reason
from inference.headers import Header
from inference.selection import Choice, Found, SeriesView, choose
from storage.rows import InstanceRow, SeriesRow, SeriesVerdict, StudyView
from storage.states import Outcome, SeriesState

MODELS: Final = frozenset({"nodule"})  # what can be read with what is installed; the radiograph model comes later
IDENTITY: Final = Reason("identity", "images of another patient than the one released")


@dataclass(frozen=True)
class Chosen:
    """What should become of each series, what is to be read, and the digest of it."""

    choice: Choice
    verdicts: tuple[SeriesVerdict, ...]
    digest: str
    identity_key: str
    live: dict[str, tuple[InstanceRow, ...]]  # series UID -> instances that take part

    @property
    def not_read(self) -> tuple[NotRead, ...]:
        """The series of the study that are not read, for the report."""
        modality = {uid: instances[0] for uid, instances in self.live.items() if instances}
        return tuple(
            NotRead(
                v.series_instance_uid,
                header_of(modality[v.series_instance_uid]).modality if v.series_instance_uid in modality else "",
                v.outcome,
                v.reason or Reason("", ""),
                str(
                    header_of(modality[v.series_instance_uid]).series_number
                    if v.series_instance_uid in modality
                    else ""
                ),
            )
            for v in self.choice.verdicts
            if v.outcome in ("passed_over", "declined", "failed")
        )


def header_of(instance: InstanceRow) -> Header:
    """The header that the indexer filed with an instance."""
    return Header.from_json(json.loads(instance.header))


def instances_digest(instances: Sequence[InstanceRow]) -> str:
    """SHA-256 over the sorted (SOP Instance UID, digest of the stored file)."""
    return hashlib.sha256(json.dumps(sorted((i.sop_uid, i.sha256) for i in instances)).encode()).hexdigest()


def found_in(row: SeriesRow, instances: Sequence[InstanceRow]) -> dict[str, str]:
    """What a worker found in these very instances; empty when they changed since."""
    found: dict[str, str] = json.loads(row.found) if row.found else {}
    return found if found.get("instances") == instances_digest(instances) else {}


def found_json(instances: Sequence[InstanceRow], outcome: str, code: str, text: str) -> str:
    """What `found_in` reads."""
    return json.dumps({"instances": instances_digest(instances), "outcome": outcome, "code": code, "text": text})


def chosen_of(view: StudyView, settings: Settings, *, judge_age: bool = True) -> Chosen:
    """The choice for a study as it stands in the ledger; the same ledger and settings give the same choice."""
    identity_key = view.study.identity_chosen or _first_identity(view)
    age = judge_age and settings.select.age_h_max > 0 and not view.study.requeue_by
    series, live, others = [], {}, []
    for row in view.series:
        if row.kind != "image":
            continue
        mine = tuple(i for i in row.instances if i.identity_key == identity_key or not view.study.identity_chosen)
        live[row.series_uid] = mine
        if not mine:
            if row.instances:
                others.append(row)
            continue
        found = found_in(row, mine)
        series.append(
            SeriesView(
                series_instance_uid=row.series_uid,
                headers=tuple(header_of(i) for i in mine),
                received_at=row.first_at if age else None,
                found=Found(found["outcome"], Reason(found["code"], found["text"])) if found else None,
            )
        )
    choice = choose(series, settings.select, models=MODELS, zone=ZoneInfo(settings.site.timezone))
    by_uid = {row.series_uid: row for row in view.series}
    verdicts = [
        SeriesVerdict(
            by_uid[v.series_instance_uid].id,
            Outcome(v.outcome),
            v.reason.code if v.reason else "",
            v.reason.text if v.reason else "",
        )
        for v in choice.verdicts
    ]
    verdicts += [
        SeriesVerdict(row.id, Outcome.PASSED_OVER, IDENTITY.code, IDENTITY.text)
        for row in others
        if row.state is not SeriesState.WITHDRAWN
    ]
    return Chosen(choice, tuple(verdicts), _digest(choice, live, identity_key), identity_key, live)


def left_out_of(choice: Choice, series_uid: str) -> tuple[LeftOut, ...]:
    """Images of a chosen series that are not read (localizers, repeats, lateral views); frames are the decoder's business."""
    left_out = next((v.left_out for v in choice.verdicts if v.series_instance_uid == series_uid), ())
    return tuple(left for left in left_out if left.frame is None)


def with_left_out(reading: Reading, left_out: tuple[LeftOut, ...]) -> Reading:
    """The reading with the images that the choice left out beside those that the volume did."""
    return replace(reading, slices_left_out=(*reading.slices_left_out, *left_out))


def to_read_now(choice: Choice) -> tuple[str, ...]:
    """The series of this result: the best of a CT study, every frontal one of radiographs."""
    return choice.to_read[:1] if choice.kind == "ct" else choice.to_read


def held_by_limits(view: StudyView, settings: Settings, now: datetime) -> tuple[str, str] | None:
    """The hold of a change that no person asked for, past `study.revisions_max` results or too long after the first."""
    rules, results = settings.study, [r for r in view.results if r.kind == "result"]
    if not results or view.study.by_person:
        return None
    if len(results) >= rules.revisions_max:
        return "revisions", f"changed after study.revisions_max ({rules.revisions_max}) results"
    hours = (now - results[0].committed_at).total_seconds() / 3600
    if hours > rules.revision_h_max:
        return "late_change", f"changed more than study.revision_h_max ({rules.revision_h_max:g} h) after the first result"
    return None


def _first_identity(view: StudyView) -> str:
    return min((i.key for i in view.identities), key=lambda k: int(k[1:]), default="")


def _digest(choice: Choice, live: dict[str, tuple[InstanceRow, ...]], identity_key: str) -> str:
    reads = to_read_now(choice)
    parts: list[list[str]]
    if reads:
        parts = [[uid, instances_digest(live[uid])] for uid in sorted(reads)]
    else:
        parts = sorted(
            [v.series_instance_uid, v.outcome, v.reason.code if v.reason else ""]
            for v in choice.verdicts
            if v.outcome != "passed_over"
        )
    return hashlib.sha256(json.dumps([identity_key, parts, choice.report]).encode()).hexdigest()
