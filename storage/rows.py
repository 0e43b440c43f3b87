"""What the ledger takes and gives: frozen rows. Payloads (headers, findings, messages) are text that it does not
understand.

Times are aware UTC datetimes. A study's number is the ledger's own; UIDs stand only where a file or a peer needs them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Final, Literal

from storage.states import DeliveryState, Outcome, SeriesState, StudyState

Kind = Literal["image", "set_aside", "own", "note"]
IDENTITY: Final = (
    "identity"  # the reason of a hold that only `release` with an identity key clears; the code of what stays out
)
ATTEMPTS: Final = "attempts"  # the reason of a hold on a study past its attempts


class Priority(IntEnum):
    """Order of the queues, for studies and deliveries: lowest first."""

    URGENT = 0
    NEW = 1
    REQUEUED = 2
    OLD = 3


@dataclass(frozen=True)
class Identity:
    """A patient as the images name him, compared field by field."""

    patient_id: str = ""
    issuer: str = ""
    name: str = ""
    birth_date: str = ""
    sex: str = ""


@dataclass(frozen=True)
class Arrival:
    """One file on its way from `incoming/` into the ledger, as the indexer judged it.

    verdict: `new`; `duplicate` (nothing is stored; where the stored file is gone by retention, `file` is the one kept
    once more);
        `differs` (a further copy, kept beside the first); `rejected` (the rejected object itself: `code` says by which
        note, `file` lies in `withdrawn/`).
    identity_key: a known key of the study, or None: the equal identity is looked up, else the next `pN` is made.
    holds: reasons to hold the study, (reason, text).
    filled: new header JSON for the first live copy of this instance, "" for none.
    """

    incoming: str
    association: str
    calling_ae: str
    received_at: datetime
    study_uid: str
    series_uid: str
    sop_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    modality: str
    kind: Kind
    file: str
    size: int
    sha256: str
    header: str
    pixel_sha256: str = ""
    verdict: Literal["new", "duplicate", "differs", "rejected"] = "new"
    identity: Identity = Identity()
    identity_key: str | None = None
    identity_source: str = "images"
    holds: tuple[tuple[str, str], ...] = ()
    filled: str = ""
    accession: str = ""
    folder: str = ""
    code: str = ""
    why: str = ""


@dataclass(frozen=True)
class Filed:
    """What a batch did to one study."""

    study_number: int
    study_uid: str
    opened: bool  # the study is new
    changed: bool  # it left another state than open
    new: int  # new images
    duplicates: int
    held: tuple[str, ...]


@dataclass(frozen=True)
class InstanceRow:
    """A stored file. `copy` 1 is the first; `withdrawn` is the code of the rejection that took it, "" while it counts;
    `gone`: its file was removed after its retention."""

    id: int
    sop_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    series_uid: str
    file: str
    size: int
    sha256: str
    header: str
    pixel_sha256: str
    identity_key: str
    copy: int
    withdrawn: str
    arrived_at: datetime
    gone: bool = False


@dataclass(frozen=True)
class AssociationRow:
    """An association that brought something: `files` is the receiver's count once it has ended, `filed` is ours."""

    name: str
    calling_ae: str
    outcome: Literal["open", "released", "aborted"]
    files: int
    filed: int


@dataclass(frozen=True)
class SeriesRow:
    """A series. `instances` are the live first copies; `found` is what a worker found in exactly these ("" for
    nothing); `version` rises with every instance that comes or goes; `quiet_only`: a worker found it cut, only the
    quiet period completes it."""

    id: int
    series_uid: str
    modality: str
    kind: Kind
    state: SeriesState
    outcome: Outcome | None
    reason_code: str
    reason_text: str
    evidence: str
    attempts: int
    found: str
    digest: str
    version: int
    quiet_only: bool
    first_at: datetime
    last_at: datetime
    instances: tuple[InstanceRow, ...] = ()
    associations: tuple[AssociationRow, ...] = ()


@dataclass(frozen=True)
class StudyRow:
    """A study. `change_no` rises with every change; a choice is made against one. `by_person`: a person asked for the
    change that waits, so limits of revisions don't hold it. `to_withdraw`: what was sent must be taken back before it
    is chosen from again."""

    number: int
    study_uid: str
    state: StudyState
    change_no: int
    revision: int
    outcome: str
    first_at: datetime
    last_at: datetime
    changed_at: datetime
    chosen_at: datetime | None
    ended_at: datetime | None
    priority: int
    attempts: int
    not_before: datetime | None
    current_key: str | None
    requeue_by: str
    requeue_why: str
    by_person: bool
    to_withdraw: bool
    identity_chosen: str
    used_numbers: int
    folder: str


@dataclass(frozen=True)
class HoldRow:
    """One reason why a study is held."""

    reason: str
    text: str
    since: datetime
    by: str


@dataclass(frozen=True)
class IdentityRow:
    """A patient named in a study: `p1`, `p2`, ... by first arrival, never renumbered. `instances` counts live first
    copies."""

    key: str
    identity: Identity
    source: str
    instances: int


@dataclass(frozen=True)
class TombstoneRow:
    """A rejection note named this instance before it came."""

    sop_uid: str
    code: str
    identity: Identity
    at: datetime
    by: str


@dataclass(frozen=True)
class FileRef:
    """A file of a result, as written: path below the study's folder. UIDs are "" for a message."""

    path: str
    sha256: str
    kind: str = ""
    sop_class_uid: str = ""
    sop_instance_uid: str = ""


@dataclass(frozen=True)
class ResultRow:
    """A committed result or withdrawal, in order of `number`. `gone`: its files but the manifest were removed."""

    number: int
    key: str
    study_number: int
    revision: int
    kind: Literal["result", "withdrawal"]
    status: str
    folder: str
    previous_key: str
    choice_digest: str
    identity_key: str
    committed_at: datetime
    payload: str
    gone: bool = False


@dataclass(frozen=True)
class DeliveryRow:
    """A result's objects together, or one message, for one destination. `may_have`: the peer may have it (an attempt of
    unknown outcome counts). `withdrawn_by`: key of the withdrawal that takes it back."""

    number: int
    study_number: int
    revision: int
    result_key: str
    destination: str
    kind: Literal["dicom", "oru"]
    files: tuple[FileRef, ...]
    state: DeliveryState
    attempts: int
    next_at: datetime
    last_error: str
    after: tuple[str, ...]
    after_state: str
    wait_until: datetime | None
    first_connected_at: datetime | None
    ended_at: datetime | None
    created_at: datetime
    withdrawal: bool
    control_id: str
    priority: int
    identity_key: str
    may_have: bool
    withdrawn_by: str
    detail: str


@dataclass(frozen=True)
class EventRow:
    """Who or what moved what, from where to where, when, why."""

    at: datetime
    study_number: int | None
    series_id: int | None
    who: str
    what: str
    from_state: str
    to_state: str
    why: str


@dataclass(frozen=True)
class StudyView:
    """All that a choice or a story is made from, read in one transaction. `series` in order of arrival, every kind."""

    study: StudyRow
    series: tuple[SeriesRow, ...]
    holds: tuple[HoldRow, ...]
    identities: tuple[IdentityRow, ...]
    current: ResultRow | None
    results: tuple[ResultRow, ...]
    deliveries: tuple[DeliveryRow, ...]

    @property
    def previous_key(self) -> str:
        """Key of the study's last result or withdrawal: what the next result key is made over. "" before the first."""
        return self.results[-1].key if self.results else ""

    def may_be_as_before(self, choice_digest: str) -> bool:
        """Whether a choice of this digest (what is read, outcomes, identity) is that of the current result, so that the
        study goes on where it was: no requeue waits, and none of its deliveries was cancelled."""
        return (
            self.current is not None
            and self.current.choice_digest == choice_digest
            and not self.study.requeue_by
            and not any(
                one.state is DeliveryState.CANCELLED for one in self.deliveries if one.result_key == self.current.key
            )
        )


@dataclass(frozen=True)
class SeriesVerdict:
    """What a choice or a reading made of a series."""

    series_id: int
    outcome: Outcome
    reason_code: str = ""
    reason_text: str = ""


@dataclass(frozen=True)
class StudyClaim:
    """A worker's lease on a study: every later move carries the token."""

    study_number: int
    token: int
    change_no: int
    lease_until: datetime
    attempts: int


@dataclass(frozen=True)
class WithdrawalClaim:
    """A worker's lease on a withdrawal. `sent` are the deliveries that a peer may have and that must be taken back."""

    study_number: int
    token: int
    lease_until: datetime
    attempts: int
    sent: tuple[DeliveryRow, ...]


@dataclass(frozen=True)
class NewResult:
    """A result whose files lie synced in `folder` (below the study's folder). `used_numbers`: highest nodule number
    used so far."""

    key: str
    kind: Literal["result", "withdrawal"]
    status: str
    folder: str
    previous_key: str
    choice_digest: str
    identity_key: str
    payload: str
    used_numbers: int = 0


@dataclass(frozen=True)
class NewDelivery:
    """A row for the outbox. `after`: destinations of the same result that must have reached `after_state` first, at
    most until `wait_until`."""

    destination: str
    kind: Literal["dicom", "oru"]
    files: tuple[FileRef, ...]
    after: tuple[str, ...] = ()
    after_state: Literal["sent", "committed"] = "sent"
    wait_until: datetime | None = None
    control_id: str = ""


@dataclass(frozen=True)
class KeptResult:
    """A result as its manifest names it, for a rebuild of the ledger: the rows that its commit was made with."""

    result: NewResult
    deliveries: tuple[NewDelivery, ...]


@dataclass(frozen=True)
class DeliveryClaim:
    """A courier's lease on a delivery. `folder` is the study's; `overdue`: it waited in vain for a row that it was to
    follow."""

    delivery: DeliveryRow
    folder: str
    token: int
    lease_until: datetime
    overdue: bool


@dataclass(frozen=True)
class FileMove:
    """A file that a rejection took: to be moved (and its folder synced) by the caller; both below the study's
    folder."""

    sop_uid: str
    source: str
    target: str


@dataclass(frozen=True)
class Rejected:
    """What a rejection did. `left`: live image instances that remain; `unknown`: SOP UIDs that got a tombstone."""

    study_number: int | None
    folder: str
    moves: tuple[FileMove, ...]
    unknown: tuple[str, ...]
    left: int
    state: StudyState | None
    to_withdraw: bool


@dataclass(frozen=True)
class KnownFiles:
    """What rows name of a study's folder. `settled`: it is not open, queued or reading, so what none names is an
    orphan."""

    files: frozenset[str]
    result_folders: frozenset[str]
    settled: bool


@dataclass(frozen=True)
class DestinationRow:
    """A destination as the couriers see it: paused by a person, or its breaker open until a time."""

    name: str
    paused_by: str = ""
    paused_why: str = ""
    paused_at: datetime | None = None
    breaker_until: datetime | None = None
    failures: int = 0


@dataclass(frozen=True)
class Counts:
    """The ledger at a glance; for metrics and readiness. `oldest_waiting_at`: since when the longest waiting study
    waits."""

    studies: Mapping[StudyState, int] = field(default_factory=dict)
    deliveries: Mapping[DeliveryState, int] = field(default_factory=dict)
    held: int = 0
    failed_series: int = 0
    to_withdraw: int = 0
    oldest_waiting_at: datetime | None = None
    oldest_delivery_at: datetime | None = None
