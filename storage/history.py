"""The journal as the stories of studies: what a rebuild knows beside the files. Pure.

Lines come in the order of their moments. Only what a later line didn't take back counts.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from storage.journal import Entry
from storage.rows import Identity
from storage.states import DeliveryState, StudyState

DeliveryKey = tuple[str, str, str]  # result key, destination, kind
AT_REST: Final = frozenset({StudyState.DELIVERING, StudyState.DONE, StudyState.UNDELIVERED, StudyState.WITHDRAWN})


@dataclass(frozen=True)
class Told:
    """One line that an event is made of again."""

    at: datetime
    who: str
    what: str
    why: str


@dataclass(frozen=True)
class HoldTold:
    """A hold that no release has cleared."""

    reason: str
    text: str
    since: datetime
    by: str


@dataclass(frozen=True)
class Commit:
    """A committed result or withdrawal."""

    key: str
    folder: str
    kind: str
    status: str
    revision: int
    previous: str
    at: datetime
    withdraws: tuple[DeliveryKey, ...]


@dataclass
class DeliveryTold:
    """What is known of a delivery: `state` is its end, None while it had none."""

    state: DeliveryState | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    may_have: bool = False


@dataclass(frozen=True)
class Taken:
    """A file that a rejection took: its SOP UID, digest, and where it lay and lies, below the study's folder."""

    sop_uid: str
    sha256: str
    source: str
    target: str
    code: str
    note: str


@dataclass(frozen=True)
class Snapshot:
    """A study at a commit or an end: how it stood, and each series' outcome and instances."""

    at: datetime
    state: StudyState
    outcome: str
    current: str
    last: str
    to_withdraw: str
    series: tuple[Mapping[str, Any], ...]

    def images(self) -> dict[str, str]:
        """The digest of the live images of each series that has any."""
        return {one["uid"]: one["digest"] for one in self.series if one["kind"] == "image" and one["digest"]}


@dataclass
class History:
    """The story of one study. `number`: what people and logs knew it by."""

    number: int | None = None
    holds: list[HoldTold] = field(default_factory=list)
    released: bool = False  # a person cleared holds once: what was doubted was looked at
    identity: str = ""
    asked: bool = False  # a person asked for something after the last commit or end: a requeue, another identity
    requeue: tuple[str, str] | None = None
    commits: dict[str, Commit] = field(default_factory=dict)
    deliveries: dict[DeliveryKey, DeliveryTold] = field(default_factory=dict)
    taken: list[Taken] = field(default_factory=list)
    snapshot: Snapshot | None = None
    listed: Snapshot | None = None  # the last that lists the instances
    told: list[Told] = field(default_factory=list)


@dataclass(frozen=True)
class TombstoneTold:
    """An instance that a note named before it came."""

    sop_uid: str
    code: str
    note: str
    identity: Identity
    at: datetime
    by: str


@dataclass
class Journalled:
    """All that the journal tells."""

    studies: dict[str, History] = field(default_factory=dict)
    tombstones: list[TombstoneTold] = field(default_factory=list)
    paused: dict[str, tuple[str, str, datetime]] = field(default_factory=dict)


def read_history(entries: Iterable[Entry]) -> Journalled:
    """Lines in order of their moments; kinds that are not ours are stepped over."""
    told = Journalled()
    ours = [entry for entry in entries if entry.kind in _KINDS and entry.at]
    study_of = {entry.fields["result"]: entry.fields["study"] for entry in ours if entry.kind == "commit"}
    for entry in ours:
        study = entry.fields.get("study") or study_of.get(entry.fields.get("result", ""))
        history = told.studies.setdefault(study, History()) if study else History()
        history.number = entry.fields.get("number", history.number)
        _KINDS[entry.kind](told, history, entry, datetime.fromisoformat(entry.at))
    _one_number_each(told)
    return told


def _one_number_each(told: Journalled) -> None:
    """A line whose transaction then failed may have told a number that another study got: the other keeps it."""
    holders: dict[int, list[History]] = {}
    for history in told.studies.values():
        if history.number is not None:
            holders.setdefault(history.number, []).append(history)
    for several in holders.values():
        for history in sorted(several, key=lambda one: len(one.told))[:-1]:
            history.number = None


def _hold(told: Journalled, history: History, entry: Entry, at: datetime) -> None:
    f = entry.fields
    history.holds.append(HoldTold(f["reason"], f["text"], at, f["by"]))
    history.told.append(Told(at, f["by"], "held", f"{f['reason']}: {f['text']}"))


def _release(told: Journalled, history: History, entry: Entry, at: datetime) -> None:
    f = entry.fields
    history.holds.clear()
    history.released = True
    if f["identity"] and f["identity"] != history.identity:
        history.identity, history.asked = f["identity"], True
    history.told.append(Told(at, f["by"], "released", f["why"]))


def _requeue(told: Journalled, history: History, entry: Entry, at: datetime) -> None:
    f = entry.fields
    history.requeue, history.asked = (f["by"], f["why"]), True
    history.told.append(Told(at, f["by"], "requeue", f["why"]))


def _rejection(told: Journalled, history: History, entry: Entry, at: datetime) -> None:
    f = entry.fields
    history.taken += [Taken(sop, sha, source, to, f["code"], f["note"]) for sop, sha, source, to in f["taken"]]
    identity = Identity(**f["identity"])
    told.tombstones += [TombstoneTold(uid, f["code"], f["note"], identity, at, f["by"]) for uid in f["unknown"]]
    history.told.append(Told(at, f["by"], "rejected", f"code {f['code']}: {f['why']}"))


def _commit(told: Journalled, history: History, entry: Entry, at: datetime) -> None:
    f = entry.fields
    withdraws = tuple((key, destination, kind) for key, destination, kind in f["withdraws"])
    commit = Commit(
        f["result"], f["folder"], f["result_kind"], f["status"], f["revision"], f["previous"], at, withdraws
    )
    history.commits.setdefault(commit.key, commit)
    history.snapshot = Snapshot(
        at, StudyState(f["state"]), f["status"], f["current"], f["result"], "", tuple(f["series"])
    )
    history.asked, history.requeue = False, None
    history.told.append(Told(at, "", "written", f"revision {commit.revision}: {commit.status}"))


def _end(told: Journalled, history: History, entry: Entry, at: datetime) -> None:
    f = entry.fields
    history.snapshot = Snapshot(
        at, StudyState(f["state"]), f["outcome"], f["current"], f["last"], f["to_withdraw"], tuple(f["series"])
    )
    history.listed = history.snapshot
    history.asked, history.requeue = False, None
    history.told.append(Told(at, "", str(f["state"]), f["outcome"]))


def _delivery(history: History, entry: Entry) -> DeliveryTold:
    f = entry.fields
    return history.deliveries.setdefault((f["result"], f["destination"], f["delivery"]), DeliveryTold())


def _delivery_start(told: Journalled, history: History, entry: Entry, at: datetime) -> None:
    _delivery(history, entry).started_at = at


def _delivery_end(told: Journalled, history: History, entry: Entry, at: datetime) -> None:
    one = _delivery(history, entry)
    one.state, one.ended_at, one.may_have = DeliveryState(entry.fields["state"]), at, entry.fields["may_have"]
    history.told.append(Told(at, "", f"delivery {one.state}", entry.fields["destination"]))


def _replay(told: Journalled, history: History, entry: Entry, at: datetime) -> None:
    one = _delivery(history, entry)
    one.state, one.ended_at = None, None
    history.told.append(Told(at, entry.fields["by"], "replay", entry.fields["why"]))


def _pause(told: Journalled, history: History, entry: Entry, at: datetime) -> None:
    told.paused[entry.fields["destination"]] = (entry.fields["by"], entry.fields["why"], at)


def _resume(told: Journalled, history: History, entry: Entry, at: datetime) -> None:
    told.paused.pop(entry.fields["destination"], None)


def _opened(told: Journalled, history: History, entry: Entry, at: datetime) -> None:
    history.told.append(Told(at, "", "opened", ""))


_KINDS: Final = {
    "study-opened": _opened,
    "hold": _hold,
    "release": _release,
    "requeue": _requeue,
    "rejection": _rejection,
    "commit": _commit,
    "study-end": _end,
    "delivery-start": _delivery_start,
    "delivery-end": _delivery_end,
    "replay": _replay,
    "pause": _pause,
    "resume": _resume,
}
