"""One study's rows again, from its files, its manifests and its story in the journal."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from storage.filing import filled_identity, stored_identity
from storage.history import AT_REST, History, Journalled, Snapshot
from storage.moves import WITHDRAW_ALL, WITHDRAW_OTHER_IDENTITY, Transaction, digest_of, live_copies
from storage.restore_results import StudyFiles, restore_results
from storage.rows import IDENTITY, Identity, Priority
from storage.states import DeliveryState, SeriesState, StudyState
from storage.tables import (
    accessions,
    deliveries,
    holds,
    identities,
    instances,
    series,
    studies,
)

Doubt = Callable[[Identity, Identity], bool]
DIFFERS = "differs"


@dataclass(frozen=True)
class Restored:
    """How the study stands now."""

    open: bool
    held: bool
    pending: int
    results: int


def restore_study(tx: Transaction, files: StudyFiles, journalled: Journalled, now: datetime, doubt: Doubt) -> Restored:
    """Insert the study and all about it."""
    history = journalled.studies.get(files.uid, History())
    study = _Study(tx, files, history, now)
    study.insert(doubt, {stone.sop_uid: stone.code for stone in journalled.tombstones})
    study.insert_results()
    study.settle_state()
    return study.restored()


class _Study:
    """One study on its way back."""

    def __init__(self, tx: Transaction, files: StudyFiles, history: History, now: datetime) -> None:
        self.tx, self.files, self.history, self.now = tx, files, history, now
        self.number = 0
        self.held = False
        self.keys: list[str] = []

    # images, series, identities

    def insert(self, doubt: Doubt, stones: Mapping[str, str]) -> None:
        """The study's row, its series with what the journal knows of them, its instances, identities, holds, events."""
        times = [one.arrival.received_at for one in self.files.stored] or [
            self.history.snapshot.at if self.history.snapshot else self.now
        ]
        known_as = {} if self.history.number is None else {"number": self.history.number}
        made = self.tx.sql.execute(
            sa.insert(studies).values(
                **known_as,
                study_uid=self.files.uid,
                state=StudyState.OPEN,
                change_no=1,
                first_at=min(times),
                last_at=max(times),
                changed_at=self.now,
                folder=self.files.folder,
                priority=Priority.REQUEUED if self.history.requeue else Priority.NEW,
                identity_chosen=self.history.identity,
            )
        )
        assert made.inserted_primary_key is not None
        self.number = int(made.inserted_primary_key[0])
        keys = self._identities(doubt)
        self._instances(keys, stones)
        self._gone(self.history.listed)
        self._series_as_told(self.history.snapshot)
        self._holds(keys)
        for told in self.history.told:
            self.tx.event(told.what, told.at, study=self.number, why=told.why, who=told.who)
        for accession in sorted({one.arrival.accession for one in self.files.stored if one.arrival.accession}):
            self.tx.sql.execute(sa.insert(accessions).values(accession=accession, study_number=self.number))

    def _identities(self, doubt: Doubt) -> dict[str, str]:
        """`p1`, `p2`, ... by first arrival; the key of each file."""
        known: list[tuple[str, Identity]] = []
        keys: dict[str, str] = {}
        for one in self.files.stored:
            mine = stored_identity(one.arrival.identity)
            key = next((key for key, identity in known if not doubt(identity, mine)), "")
            if not key:
                key = f"p{len(known) + 1}"
                known.append((key, mine))
                self.tx.sql.execute(
                    sa.insert(identities).values(
                        study_number=self.number, key=key, source=one.arrival.identity_source, **asdict(mine)
                    )
                )
            else:
                place = [known_key for known_key, _ in known].index(key)
                both = filled_identity(known[place][1], mine)
                known[place] = key, both
                of_key = sa.and_(identities.c.study_number == self.number, identities.c.key == key)
                self.tx.sql.execute(sa.update(identities).where(of_key).values(**asdict(both)))
            keys[one.file] = key
        return keys

    def _instances(self, keys: dict[str, str], stones: Mapping[str, str]) -> None:
        taken = {one.target: one for one in self.history.taken}
        copies: dict[str, int] = {}
        self.rows: dict[tuple[str, str], int] = {}
        # withdrawn ones first: what lies in images/ came after them, or beside them
        for one in sorted(self.files.stored, key=lambda one: (not one.withdrawn, one.copy)):
            a = one.arrival
            copies[a.sop_uid] = copies.get(a.sop_uid, 0) + 1
            told = taken.get(one.file)
            self.tx.sql.execute(
                sa.insert(instances).values(
                    study_number=self.number,
                    series_id=self._series(a.series_uid, a.kind, a.modality, a.received_at),
                    sop_uid=a.sop_uid,
                    sop_class_uid=a.sop_class_uid,
                    transfer_syntax_uid=a.transfer_syntax_uid,
                    file=one.file,
                    size=a.size,
                    sha256=a.sha256,
                    header=a.header,
                    pixel_sha256=a.pixel_sha256,
                    identity_key=keys[one.file],
                    copy=copies[a.sop_uid],
                    withdrawn=(told.code if told else stones.get(a.sop_uid, "rejected")) if one.withdrawn else "",
                    withdrawn_note=told.note if told and one.withdrawn else "",
                    filed_as=told.source if told and one.withdrawn else "",
                    arrived_at=a.received_at,
                )
            )

    def _series(self, uid: str, kind: str, modality: str, at: datetime) -> int:
        if (uid, kind) not in self.rows:
            made = self.tx.sql.execute(
                sa.insert(series).values(
                    study_number=self.number,
                    series_uid=uid,
                    modality=modality,
                    kind=kind,
                    state=SeriesState.RECEIVING,
                    first_at=at,
                    last_at=at,
                )
            )
            assert made.inserted_primary_key is not None
            self.rows[(uid, kind)] = int(made.inserted_primary_key[0])
        number = self.rows[(uid, kind)]
        s = series.c
        self.tx.sql.execute(
            sa.update(series)
            .where(s.id == number)
            .values(
                first_at=sa.case((s.first_at > at, sa.literal(at, s.first_at.type)), else_=s.first_at),
                last_at=sa.case((s.last_at < at, sa.literal(at, s.last_at.type)), else_=s.last_at),
            )
        )
        return number

    def _gone(self, snapshot: Snapshot | None) -> None:
        """Images that went with their retention: the journal remembers their digests, so that a repeat is known as
        one."""
        if snapshot is None:
            return
        stored = {(one.arrival.sop_uid, one.arrival.sha256) for one in self.files.stored}
        taken = {(one.sop_uid, one.sha256) for one in self.history.taken}
        for one in snapshot.series:
            for sop, sha in one["instances"]:
                if (sop, sha) in stored or (sop, sha) in taken:
                    continue
                i = instances.c
                of_sop = sa.select(sa.func.max(i.copy)).where(i.study_number == self.number, i.sop_uid == sop)
                self.tx.sql.execute(
                    sa.insert(instances).values(
                        study_number=self.number,
                        series_id=self._series(one["uid"], one["kind"], one["modality"], snapshot.at),
                        sop_uid=sop,
                        sop_class_uid="",
                        transfer_syntax_uid="",
                        file="",
                        size=0,
                        sha256=sha,
                        copy=(self.tx.sql.execute(of_sop).scalar_one() or 0) + 1,
                        identity_key=self.history.identity or "p1",
                        gone=True,
                        arrived_at=snapshot.at,
                    )
                )

    def _series_as_told(self, snapshot: Snapshot | None) -> None:
        """Outcome, evidence and what was found, for series whose instances are those of the last line; others are
        receiving."""
        told = {(one["uid"], one["kind"]): one for one in snapshot.series} if snapshot else {}
        by_series = self._live()
        for key, number in self.rows.items():
            live = by_series.get(number, [])
            values: dict[str, Any] = {}
            one = told.get(key)
            if not live:
                values = {"state": SeriesState.WITHDRAWN}
            elif one is not None and digest_of(live) == one["digest"]:
                values = {
                    "state": SeriesState.COMPLETE,
                    "evidence": one["evidence"],
                    "outcome": one["outcome"],
                    "reason_code": one["code"],
                    "reason_text": one["text"],
                    "attempts": one["attempts"],
                    "found": one["found"],
                    "found_digest": one["found_digest"],
                }
                if self.history.requeue is not None:
                    values |= {"attempts": 0, "found": "", "found_digest": ""}
            if values:
                self.tx.sql.execute(sa.update(series).where(series.c.id == number).values(**values))

    def _live(self) -> dict[int, list[Any]]:
        """Live first copies by series."""
        found: dict[int, list[Any]] = {}
        for row in live_copies(self.tx, instances.c.study_number == self.number):
            found.setdefault(row.series_id, []).append(row)
        return found

    def _holds(self, keys: dict[str, str]) -> None:
        """Those that stand, and those that a doubt asks for which no person has cleared."""
        wanted = [(one.reason, one.text, one.since, one.by) for one in self.history.holds]
        if not self.history.released:
            reasons = {one[0] for one in wanted}
            live = [one for one in self.files.stored if not one.withdrawn and one.arrival.kind == "image"]
            if len({keys[one.file] for one in live}) > 1 and IDENTITY not in reasons:
                wanted.append((IDENTITY, "images of more than one patient, found by a rebuild", self.now, "rebuild"))
            if len({one.arrival.sop_uid for one in live}) < len(live) and DIFFERS not in reasons | {IDENTITY}:
                wanted.append((DIFFERS, "copies of one instance, found by a rebuild", self.now, "rebuild"))
        seen: set[tuple[str, str]] = set()
        for reason, text, since, by in wanted:
            if (reason, text) not in seen:
                seen.add((reason, text))
                self.tx.sql.execute(
                    sa.insert(holds).values(study_number=self.number, reason=reason, text=text, since=since, by=by)
                )
        self.held = bool(seen)

    def insert_results(self) -> None:
        """Committed results in their order, with their deliveries as they stand."""
        self.keys = restore_results(self.tx, self.number, self.files, self.history, self.now)

    # how it stands

    def settle_state(self) -> None:
        """At rest where nothing changed since the last commit or end, open otherwise."""
        snapshot = self.history.snapshot
        current = snapshot.current if snapshot is not None else ""
        values: dict[str, Any] = {"current_key": current if current in self.keys else None}
        by_series = self._live()
        images = {uid: number for (uid, kind), number in self.rows.items() if kind == "image"}
        live = {uid: digest_of(by_series[number]) for uid, number in images.items() if number in by_series}
        if images and not live:
            values |= {"state": StudyState.WITHDRAWN, "outcome": "withdrawn", "ended_at": self.now}
        elif (
            snapshot is not None and not self.history.asked and snapshot.state in AT_REST and self._same(snapshot, live)
        ):
            values |= self._at_rest(snapshot, current if current in self.keys else "")
        elif self.history.asked:
            values["by_person"] = True
        if self.history.requeue is not None and "state" not in values:
            values |= {"requeue_by": self.history.requeue[0], "requeue_why": self.history.requeue[1]}
        values["to_withdraw"] = self._to_withdraw(snapshot, values.get("state", StudyState.OPEN))
        self.tx.sql.execute(sa.update(studies).where(studies.c.number == self.number).values(**values))
        state = values.get("state", StudyState.OPEN)
        self.open = state == StudyState.OPEN
        told = f"{len(self.files.stored)} files, {len(self.keys)} results"
        self.tx.event("rebuilt", self.now, study=self.number, why=told, to_state=state)

    def _same(self, snapshot: Snapshot, live: Mapping[str, str]) -> bool:
        last = self.keys[-1] if self.keys else ""
        return snapshot.last == last and live == snapshot.images()

    def _at_rest(self, snapshot: Snapshot, current: str) -> dict[str, Any]:
        values: dict[str, Any] = {"outcome": snapshot.outcome, "changed_at": snapshot.at, "chosen_at": snapshot.at}
        states = list(
            self.tx.sql.execute(sa.select(deliveries.c.state).where(deliveries.c.result_key == current)).scalars()
        )
        if DeliveryState.PENDING in states:
            return {**values, "state": StudyState.DELIVERING}
        dead = DeliveryState.DEAD in states
        return {**values, "state": StudyState.UNDELIVERED if dead else StudyState.DONE, "ended_at": snapshot.at}

    def _to_withdraw(self, snapshot: Snapshot | None, state: str) -> str:
        """What was sent and must be taken back, where no withdrawal was committed yet."""
        d = deliveries.c
        sent = self.tx.sql.execute(
            sa.select(d.identity_key).where(
                d.study_number == self.number,
                d.withdrawal.is_(sa.false()),
                d.withdrawn_by == "",
                d.may_have.is_(sa.true()),
            )
        ).scalars()
        under: Sequence[str] = list(sent)
        if not under:
            return ""
        if state == StudyState.WITHDRAWN or (snapshot is not None and snapshot.to_withdraw == WITHDRAW_ALL):
            return WITHDRAW_ALL
        chosen = self.history.identity
        return WITHDRAW_OTHER_IDENTITY if chosen and any(key != chosen for key in under) else ""

    def restored(self) -> Restored:
        """What the summary counts."""
        pending = self.tx.sql.execute(
            sa.select(sa.func.count()).where(
                deliveries.c.study_number == self.number, deliveries.c.state == DeliveryState.PENDING
            )
        ).scalar_one()
        return Restored(self.open, self.held, int(pending), len(self.keys))
