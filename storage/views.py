"""Questions to the ledger: rows out, nothing moved."""

import json
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any, Literal, TypeVar

import sqlalchemy as sa

from storage.errors import NotFound
from storage.moves import Transaction, digest_of, live_copies
from storage.rows import (
    AssociationRow,
    Counts,
    DeliveryRow,
    EventRow,
    FileRef,
    HoldRow,
    Identity,
    IdentityRow,
    InstanceRow,
    ResultRow,
    SeriesRow,
    StudyRow,
    StudyView,
)
from storage.states import DeliveryState, Outcome, SeriesState, StudyState
from storage.tables import (
    accessions,
    associations,
    deliveries,
    events,
    holds,
    identities,
    instances,
    results,
    series,
    series_associations,
    studies,
)

A = TypeVar("A")
NAMES_A_QUESTION = 500  # SQLite takes 999 parameters in its oldest form
WAITING = (StudyState.OPEN, StudyState.QUEUED, StudyState.READING)


def in_parts(names: Collection[A]) -> Iterator[Sequence[A]]:
    """The names in parts that a database takes in one question."""
    every = list(names)
    for start in range(0, len(every), NAMES_A_QUESTION):
        yield every[start : start + NAMES_A_QUESTION]


def instance(row: Any, series_uid: str, *, header: bool = True) -> InstanceRow:
    """An instance as the services see it."""
    return InstanceRow(
        id=row.id,
        sop_uid=row.sop_uid,
        sop_class_uid=row.sop_class_uid,
        transfer_syntax_uid=row.transfer_syntax_uid,
        series_uid=series_uid,
        file=row.file,
        size=row.size,
        sha256=row.sha256,
        header=row.header if header else "",
        pixel_sha256=row.pixel_sha256,
        identity_key=row.identity_key,
        copy=row.copy,
        withdrawn=row.withdrawn,
        arrived_at=row.arrived_at,
        gone=row.gone,
    )


def study(row: Any) -> StudyRow:
    """A study as the services see it."""
    return StudyRow(
        number=row.number,
        study_uid=row.study_uid,
        state=StudyState(row.state),
        change_no=row.change_no,
        revision=row.revision,
        outcome=row.outcome,
        first_at=row.first_at,
        last_at=row.last_at,
        changed_at=row.changed_at,
        chosen_at=row.chosen_at,
        ended_at=row.ended_at,
        priority=row.priority,
        attempts=row.attempts,
        not_before=row.not_before,
        current_key=row.current_key,
        requeue_by=row.requeue_by,
        requeue_why=row.requeue_why,
        by_person=row.by_person,
        to_withdraw=bool(row.to_withdraw),
        identity_chosen=row.identity_chosen,
        used_numbers=row.used_numbers,
        folder=row.folder,
    )


def delivery(row: Any) -> DeliveryRow:
    """A delivery as the services see it."""
    return DeliveryRow(
        number=row.number,
        study_number=row.study_number,
        revision=row.revision,
        result_key=row.result_key,
        destination=row.destination,
        kind=row.kind,
        files=tuple(FileRef(**one) for one in json.loads(row.files)),
        state=DeliveryState(row.state),
        attempts=row.attempts,
        next_at=row.next_at,
        last_error=row.last_error,
        after=tuple(json.loads(row.after or "[]")),
        after_state=row.after_state,
        wait_until=row.wait_until,
        first_connected_at=row.first_connected_at,
        ended_at=row.ended_at,
        created_at=row.created_at,
        withdrawal=row.withdrawal,
        control_id=row.control_id,
        priority=row.priority,
        identity_key=row.identity_key,
        may_have=row.may_have,
        withdrawn_by=row.withdrawn_by,
        detail=row.detail,
    )


def result(row: Any) -> ResultRow:
    """A result as the services see it."""
    return ResultRow(
        number=row.number,
        key=row.key,
        study_number=row.study_number,
        revision=row.revision,
        kind=row.kind,
        status=row.status,
        folder=row.folder,
        previous_key=row.previous_key,
        choice_digest=row.choice_digest,
        identity_key=row.identity_key,
        committed_at=row.committed_at,
        payload=row.payload,
        gone=row.gone,
    )


def view(tx: Transaction, study_number: int, *, headers: bool = True) -> StudyView:
    """All about one study."""
    row = tx.sql.execute(sa.select(studies).where(studies.c.number == study_number)).one_or_none()
    if row is None:
        raise NotFound(
            what="the ledger has no such study",
            which=f"study {study_number}",
            do="`dicom-node status` lists the studies",
        )
    done = tuple(
        result(one)
        for one in tx.sql.execute(
            sa.select(results).where(results.c.study_number == study_number).order_by(results.c.number)
        )
    )
    return StudyView(
        study=study(row),
        series=_series_of(tx, study_number, headers),
        holds=_holds_of(tx, study_number),
        identities=_identities(tx, study_number),
        current=next((one for one in done if one.key == row.current_key), None),
        results=done,
        deliveries=deliveries_of(tx, study_number=study_number),
    )


def _series_of(tx: Transaction, study_number: int, headers: bool) -> tuple[SeriesRow, ...]:
    rows = tx.sql.execute(sa.select(series).where(series.c.study_number == study_number).order_by(series.c.id)).all()
    live: dict[int, list[Any]] = {row.id: [] for row in rows}
    for row in live_copies(tx, instances.c.study_number == study_number):
        live[row.series_id].append(row)
    brought: dict[int, list[AssociationRow]] = {row.id: [] for row in rows}
    link, one = series_associations.c, associations.c
    joined = (
        sa.select(link.series_id, associations)
        .join(associations, one.name == link.association)
        .join(series, series.c.id == link.series_id)
    )
    for row in tx.sql.execute(joined.where(series.c.study_number == study_number).order_by(one.name)):
        brought[row.series_id].append(
            AssociationRow(row.name, row.calling_ae, _association_outcome(row.outcome), row.files, row.filed)
        )
    return tuple(_one_series(row, live[row.id], brought[row.id], headers) for row in rows)


def _one_series(row: Any, live: list[Any], brought: list[AssociationRow], headers: bool) -> SeriesRow:
    digest = digest_of(live)
    return SeriesRow(
        id=row.id,
        series_uid=row.series_uid,
        modality=row.modality,
        kind=row.kind,
        state=SeriesState(row.state),
        outcome=Outcome(row.outcome) if row.outcome else None,
        reason_code=row.reason_code,
        reason_text=row.reason_text,
        evidence=row.evidence,
        attempts=row.attempts,
        found=row.found if row.found_digest == digest else "",
        digest=digest,
        version=row.version,
        quiet_only=row.quiet_only,
        first_at=row.first_at,
        last_at=row.last_at,
        instances=tuple(instance(one, row.series_uid, header=headers) for one in live),
        associations=tuple(brought),
    )


def _association_outcome(text: str) -> Literal["open", "released", "aborted"]:
    return "released" if text == "released" else "aborted" if text == "aborted" else "open"


def _holds_of(tx: Transaction, study_number: int) -> tuple[HoldRow, ...]:
    rows = tx.sql.execute(sa.select(holds).where(holds.c.study_number == study_number).order_by(holds.c.id))
    return tuple(HoldRow(row.reason, row.text, row.since, row.by) for row in rows)


def all_holds(tx: Transaction) -> dict[int, tuple[str, ...]]:
    """Reasons of holds by study."""
    found: dict[int, tuple[str, ...]] = {}
    for row in tx.sql.execute(sa.select(holds.c.study_number, holds.c.reason).order_by(holds.c.id)):
        found[row.study_number] = (*found.get(row.study_number, ()), row.reason)
    return found


def _identities(tx: Transaction, study_number: int) -> tuple[IdentityRow, ...]:
    counted: dict[str, int] = {}
    for row in live_copies(tx, instances.c.study_number == study_number):
        counted[row.identity_key] = counted.get(row.identity_key, 0) + 1
    rows = tx.sql.execute(sa.select(identities).where(identities.c.study_number == study_number)).all()
    ordered = sorted(rows, key=lambda row: int(row.key[1:]) if row.key[1:].isdigit() else 0)
    return tuple(
        IdentityRow(
            row.key,
            Identity(row.patient_id, row.issuer, row.name, row.birth_date, row.sex),
            row.source,
            counted.get(row.key, 0),
        )
        for row in ordered
    )


def identities_of(tx: Transaction, study_uid: str) -> tuple[IdentityRow, ...]:
    """Identities of a study by its UID; none for an unknown one."""
    number = tx.sql.execute(sa.select(studies.c.number).where(studies.c.study_uid == study_uid)).scalar_one_or_none()
    return () if number is None else _identities(tx, number)


def copies(tx: Transaction, study_uid: str, sop_uids: Collection[str]) -> dict[str, list[InstanceRow]]:
    """All copies of these instances in the study."""
    found: dict[str, list[InstanceRow]] = {}
    for part in in_parts(sop_uids):
        asked = (
            sa.select(instances, series.c.series_uid)
            .join(studies, studies.c.number == instances.c.study_number)
            .join(series, series.c.id == instances.c.series_id)
            .where(studies.c.study_uid == study_uid, instances.c.sop_uid.in_(part))
            .order_by(instances.c.copy)
        )
        for row in tx.sql.execute(asked):
            found.setdefault(row.sop_uid, []).append(instance(row, row.series_uid))
    return found


def deliveries_of(
    tx: Transaction,
    *,
    destination: str | None = None,
    states: Collection[str] | None = None,
    study_number: int | None = None,
    limit: int = 1000,
) -> tuple[DeliveryRow, ...]:
    """Outbox rows, oldest first."""
    asked = sa.select(deliveries)
    if destination is not None:
        asked = asked.where(deliveries.c.destination == destination)
    if states is not None:
        asked = asked.where(deliveries.c.state.in_(list(states)))
    if study_number is not None:
        asked = asked.where(deliveries.c.study_number == study_number)
    return tuple(delivery(row) for row in tx.sql.execute(asked.order_by(deliveries.c.number).limit(limit)))


def resolve(tx: Transaction, text: str) -> list[StudyRow]:
    """Studies that a person may mean: by number, Study Instance UID or accession number."""
    s = studies.c
    meant = sa.or_(
        s.study_uid == text, s.number.in_(sa.select(accessions.c.study_number).where(accessions.c.accession == text))
    )
    if text.isascii() and text.isdigit() and len(text) < 10:
        meant = sa.or_(meant, s.number == int(text))
    return [study(row) for row in tx.sql.execute(sa.select(studies).where(meant).order_by(s.number))]


def events_of(tx: Transaction, study_number: int | None) -> tuple[EventRow, ...]:
    """The story of a study, or of the node itself (None)."""
    mine = events.c.study_number.is_(None) if study_number is None else events.c.study_number == study_number
    rows = tx.sql.execute(sa.select(events).where(mine).order_by(events.c.id))
    return tuple(
        EventRow(row.at, row.study_number, row.series_id, row.who, row.what, row.from_state, row.to_state, row.why)
        for row in rows
    )


def list_studies(tx: Transaction, limit: int, state: StudyState | None) -> list[StudyRow]:
    """Studies, latest arrival first."""
    asked = sa.select(studies)
    if state is not None:
        asked = asked.where(studies.c.state == state)
    return [
        study(row)
        for row in tx.sql.execute(asked.order_by(studies.c.last_at.desc(), studies.c.number.desc()).limit(limit))
    ]


def counts(tx: Transaction, now: datetime) -> Counts:
    """The ledger at a glance."""
    s, d = studies.c, deliveries.c
    by_state: dict[str, int] = dict(
        tx.sql.execute(sa.select(s.state, sa.func.count()).group_by(s.state)).tuples().all()
    )
    by_delivery: dict[str, int] = dict(
        tx.sql.execute(sa.select(d.state, sa.func.count()).group_by(d.state)).tuples().all()
    )

    def one(question: sa.Select[Any]) -> Any:
        return tx.sql.execute(question).scalar_one()

    return Counts(
        studies={state: by_state.get(state, 0) for state in StudyState},
        deliveries={state: by_delivery.get(state, 0) for state in DeliveryState},
        held=one(sa.select(sa.func.count(sa.distinct(holds.c.study_number)))),
        failed_series=one(sa.select(sa.func.count()).where(series.c.outcome == Outcome.FAILED)),
        to_withdraw=one(sa.select(sa.func.count()).where(s.to_withdraw != "")),
        oldest_waiting_at=one(sa.select(sa.func.min(s.changed_at)).where(s.state.in_(WAITING))),
        oldest_delivery_at=one(
            sa.select(sa.func.min(d.created_at)).where(d.state.in_([DeliveryState.PENDING, DeliveryState.SENDING]))
        ),
    )
