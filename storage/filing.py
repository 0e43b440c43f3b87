"""Filing: a batch of arrivals into the ledger, in one transaction; associations and the names of `incoming/`.

The indexer has linked and synced the files and judged each arrival; here they become rows. A new image changes its
study; objects that are not read, our own and repeats move none that is not open. A name that is committed is stepped
over, so a batch can be told again.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from storage.moves import Transaction, change_study, study_row
from storage.rows import Arrival, Filed, Identity
from storage.states import SeriesState, StudyState
from storage.tables import (
    accessions,
    associations,
    holds,
    identities,
    incoming,
    instances,
    series,
    series_associations,
    storable,
    studies,
)
from storage.views import in_parts


@dataclass
class _Study:
    """What a batch does to one study, until it is told once at the end."""

    number: int
    uid: str
    opened: bool = False
    changed: bool = False
    new: int = 0
    duplicates: int = 0
    others: int = 0
    last_at: datetime | None = None
    held: list[str] = field(default_factory=list)
    rows: dict[tuple[str, str], int] = field(default_factory=dict)
    identities: dict[str, Identity] | None = None
    copies: dict[str, int] = field(default_factory=dict)
    linked: set[tuple[int, str]] = field(default_factory=set)


def committed(tx: Transaction, names: Collection[str]) -> set[str]:
    """Which names are filed."""
    found: set[str] = set()
    for part in in_parts(names):
        found.update(tx.sql.execute(sa.select(incoming.c.name).where(incoming.c.name.in_(part))).scalars())
    return found


def forget_incoming(tx: Transaction, names: Collection[str]) -> None:
    """Drop names that are unlinked."""
    for part in in_parts(names):
        tx.sql.execute(sa.delete(incoming).where(incoming.c.name.in_(part)))


def file_batch(tx: Transaction, arrivals: Sequence[Arrival], now: datetime) -> tuple[Filed, ...]:
    """Commit a batch; one entry per study, in order of arrival."""
    done = committed(tx, [arrival.incoming for arrival in arrivals])
    touched: dict[str, _Study] = {}
    for arrival in arrivals:
        if arrival.incoming in done:
            continue
        done.add(arrival.incoming)
        study = touched.get(arrival.study_uid) or touched.setdefault(arrival.study_uid, _open(tx, arrival, now))
        _file(tx, study, arrival, now)
    for study in touched.values():
        _tell(tx, study, now)
    return tuple(
        Filed(study.number, study.uid, study.opened, study.changed, study.new, study.duplicates, tuple(study.held))
        for study in touched.values()
    )


def _open(tx: Transaction, arrival: Arrival, now: datetime) -> _Study:
    number = tx.sql.execute(
        sa.select(studies.c.number).where(studies.c.study_uid == arrival.study_uid)
    ).scalar_one_or_none()
    if number is not None:
        return _Study(number, arrival.study_uid)
    made = tx.sql.execute(
        sa.insert(studies).values(
            study_uid=arrival.study_uid,
            state=StudyState.OPEN,
            first_at=arrival.received_at,
            last_at=arrival.received_at,
            changed_at=arrival.received_at,
            folder=arrival.folder,
        )
    )
    assert made.inserted_primary_key is not None
    number = int(made.inserted_primary_key[0])
    # people and logs know a study by its number: after a rebuild it must mean no other patient's
    tx.journal("study-opened", now, study=arrival.study_uid, number=number)
    return _Study(number, arrival.study_uid, opened=True)


def _file(tx: Transaction, study: _Study, arrival: Arrival, now: datetime) -> None:
    tx.sql.execute(sa.insert(incoming).values(name=arrival.incoming, filed_at=now))
    _bring(tx, arrival)
    series_id = _series(tx, study, arrival)
    _link(tx, study, series_id, arrival)
    if arrival.accession:
        _accession(tx, study.number, arrival.accession)
    if arrival.kind != "own" and (study.last_at is None or arrival.received_at > study.last_at):
        study.last_at = arrival.received_at
    if arrival.verdict == "duplicate":
        study.duplicates += 1
        _keep_again(tx, study, arrival)
    else:
        _instance(tx, study, series_id, arrival)
    new_image = arrival.kind == "image" and arrival.verdict == "new"
    _touch_series(tx, series_id, arrival, new_image)
    if new_image:
        study.new += 1
    elif arrival.verdict == "new":
        study.others += 1
    if arrival.verdict in ("differs", "rejected"):
        tx.event(
            f"a copy that {'differs' if arrival.verdict == 'differs' else 'was rejected'}",
            now,
            study=study.number,
            series=series_id,
            why=arrival.why,
        )
    if arrival.filled:
        _fill(tx, study, arrival, now)
    for reason, text in arrival.holds:
        if add_hold(tx, study.number, study.uid, reason, text, by=tx.who, now=now):
            study.held.append(reason)


def _bring(tx: Transaction, arrival: Arrival) -> None:
    """The association that brought it, with one more file filed."""
    counted = tx.sql.execute(
        sa.update(associations).where(associations.c.name == arrival.association).values(filed=associations.c.filed + 1)
    )
    if counted.rowcount == 0:
        tx.sql.execute(
            sa.insert(associations).values(
                name=arrival.association,
                calling_ae=arrival.calling_ae,
                outcome="open",
                filed=1,
                opened_at=arrival.received_at,
            )
        )


def _series(tx: Transaction, study: _Study, arrival: Arrival) -> int:
    key = (arrival.series_uid, arrival.kind)
    if key not in study.rows:
        found = tx.sql.execute(
            sa.select(series.c.id).where(
                series.c.study_number == study.number,
                series.c.series_uid == arrival.series_uid,
                series.c.kind == arrival.kind,
            )
        ).scalar_one_or_none()
        if found is None:
            made = tx.sql.execute(
                sa.insert(series).values(
                    study_number=study.number,
                    series_uid=arrival.series_uid,
                    modality=arrival.modality,
                    kind=arrival.kind,
                    state=SeriesState.WITHDRAWN if arrival.verdict == "rejected" else SeriesState.RECEIVING,
                    first_at=arrival.received_at,
                    last_at=arrival.received_at,
                )
            )
            assert made.inserted_primary_key is not None
            found = int(made.inserted_primary_key[0])
        study.rows[key] = int(found)
    return study.rows[key]


def _link(tx: Transaction, study: _Study, series_id: int, arrival: Arrival) -> None:
    key = (series_id, arrival.association)
    if key in study.linked:
        return
    study.linked.add(key)
    link = series_associations.c
    if (
        tx.sql.execute(
            sa.select(link.series_id).where(link.series_id == series_id, link.association == arrival.association)
        ).first()
        is None
    ):
        tx.sql.execute(sa.insert(series_associations).values(series_id=series_id, association=arrival.association))


def _accession(tx: Transaction, study_number: int, accession: str) -> None:
    known = accessions.c
    if (
        tx.sql.execute(
            sa.select(known.accession).where(known.accession == accession, known.study_number == study_number)
        ).first()
        is None
    ):
        tx.sql.execute(sa.insert(accessions).values(accession=accession, study_number=study_number))


def _instance(tx: Transaction, study: _Study, series_id: int, arrival: Arrival) -> None:
    if arrival.sop_uid not in study.copies:
        last = sa.select(sa.func.max(instances.c.copy)).where(
            instances.c.study_number == study.number, instances.c.sop_uid == arrival.sop_uid
        )
        study.copies[arrival.sop_uid] = tx.sql.execute(last).scalar_one() or 0
    study.copies[arrival.sop_uid] += 1
    tx.sql.execute(
        sa.insert(instances).values(
            study_number=study.number,
            series_id=series_id,
            sop_uid=arrival.sop_uid,
            sop_class_uid=arrival.sop_class_uid,
            transfer_syntax_uid=arrival.transfer_syntax_uid,
            file=arrival.file,
            size=arrival.size,
            sha256=arrival.sha256,
            header=arrival.header,
            pixel_sha256=arrival.pixel_sha256,
            identity_key=_identity(tx, study, arrival),
            copy=study.copies[arrival.sop_uid],
            withdrawn=arrival.code or "rejected" if arrival.verdict == "rejected" else "",
            arrived_at=arrival.received_at,
        )
    )


def _identity(tx: Transaction, study: _Study, arrival: Arrival) -> str:
    """The key that the indexer says (made where it is new), of an identity that says the same and maybe more, or the
    next one. What a known identity lacked is filled in."""
    if study.identities is None:
        rows = tx.sql.execute(sa.select(identities).where(identities.c.study_number == study.number))
        study.identities = {
            row.key: Identity(row.patient_id, row.issuer, row.name, row.birth_date, row.sex) for row in rows
        }
    known = study.identities
    mine = stored_identity(arrival.identity)
    key = arrival.identity_key
    if key is None:
        same = (one for one, identity in known.items() if filled_identity(mine, identity) == identity)
        key = next(same, f"p{len(known) + 1}")
    if key not in known:
        known[key] = mine
        tx.sql.execute(
            sa.insert(identities).values(
                study_number=study.number, key=key, source=arrival.identity_source, **asdict(mine)
            )
        )
    elif (both := filled_identity(known[key], mine)) != known[key]:
        known[key] = both
        of_key = sa.and_(identities.c.study_number == study.number, identities.c.key == key)
        tx.sql.execute(sa.update(identities).where(of_key).values(**asdict(both)))
    return key


def filled_identity(known: Identity, mine: Identity) -> Identity:
    """The known person with what it lacked, so that the next image is compared with all that is known of them."""
    return Identity(**{name: value or getattr(mine, name) for name, value in asdict(known).items()})


def stored_identity(identity: Identity) -> Identity:
    """The identity as a database gives it back, so that it compares equal."""
    return Identity(
        storable(identity.patient_id),
        storable(identity.issuer),
        storable(identity.name),
        storable(identity.birth_date),
        storable(identity.sex),
    )


def _touch_series(tx: Transaction, series_id: int, arrival: Arrival, new_image: bool) -> None:
    """A new instance makes the series unfinished, and what was found in it worthless."""
    later = sa.case(
        (series.c.last_at < arrival.received_at, sa.literal(arrival.received_at, series.c.last_at.type)),
        else_=series.c.last_at,
    )
    values: dict[str, Any] = {"last_at": later}
    if new_image or arrival.verdict in ("differs", "rejected") or arrival.kind != "image":
        values["version"] = series.c.version + 1
    if new_image:
        values |= {
            "state": SeriesState.RECEIVING,
            "evidence": "",
            "outcome": "",
            "reason_code": "",
            "reason_text": "",
            "attempts": 0,
        }
    tx.sql.execute(sa.update(series).where(series.c.id == series_id).values(**values))


def _first_live(tx: Transaction, study: _Study, sop_uid: str) -> sa.Row[Any] | None:
    i = instances.c
    return tx.sql.execute(
        sa.select(instances)
        .where(i.study_number == study.number, i.sop_uid == sop_uid, i.withdrawn == "")
        .order_by(i.copy)
        .limit(1)
    ).one_or_none()


def _keep_again(tx: Transaction, study: _Study, arrival: Arrival) -> None:
    """A repeat of an image whose file was removed after its retention is kept once more."""
    first = _first_live(tx, study, arrival.sop_uid)
    if first is not None and first.gone and arrival.file:
        tx.sql.execute(
            sa.update(instances)
            .where(instances.c.id == first.id)
            .values(file=arrival.file, size=arrival.size, sha256=arrival.sha256, gone=False)
        )


def _fill(tx: Transaction, study: _Study, arrival: Arrival, now: datetime) -> None:
    """What the stored copy lacks and this one has, for what is not yet sent."""
    first = _first_live(tx, study, arrival.sop_uid)
    if first is not None:
        tx.sql.execute(sa.update(instances).where(instances.c.id == first.id).values(header=arrival.filled))
        tx.event("filled in", now, study=study.number, series=first.series_id, why=arrival.why)


def add_hold(
    tx: Transaction, study_number: int, study_uid: str, reason: str, text: str, *, by: str, now: datetime
) -> bool:
    """One more reason, in ledger and journal; False where it stands already."""
    h = holds.c
    if (
        tx.sql.execute(
            sa.select(h.id).where(h.study_number == study_number, h.reason == reason, h.text == storable(text))
        ).first()
        is not None
    ):
        return False
    tx.sql.execute(sa.insert(holds).values(study_number=study_number, reason=reason, text=text, since=now, by=by))
    tx.event("held", now, study=study_number, why=f"{reason}: {text}", who=by)
    tx.journal("hold", now, study=study_uid, number=study_number, reason=reason, text=text, by=by)
    return True


def _tell(tx: Transaction, study: _Study, now: datetime) -> None:
    """The study's own moves and events, once for the batch."""
    row = study_row(tx, study.number)
    later = {"last_at": max(row.last_at, study.last_at)} if study.last_at else {}
    if study.opened:
        tx.event(
            "opened",
            now,
            study=study.number,
            why=f"{study.new} new images, {study.others} other objects",
            to_state=StudyState.OPEN,
        )
    if study.new and row.state != StudyState.OPEN:
        change_study(tx, row, now, why=f"{study.new} new images", **later)
        study.changed = True
    else:
        if study.new and not study.opened:
            later["change_no"] = row.change_no + 1  # a choice computed without these images must not match
        if later:
            tx.sql.execute(sa.update(studies).where(studies.c.number == study.number).values(**later))
    if study.duplicates:
        tx.event("repeats", now, study=study.number, why=f"{study.duplicates} instances that are stored already")


def association_seen(tx: Transaction, name: str, calling_ae: str, opened_at: datetime) -> None:
    """An open association."""
    known = tx.sql.execute(
        sa.update(associations)
        .where(associations.c.name == name)
        .values(calling_ae=calling_ae, opened_at=sa.func.coalesce(associations.c.opened_at, opened_at))
    )
    if known.rowcount == 0:
        tx.sql.execute(
            sa.insert(associations).values(name=name, calling_ae=calling_ae, outcome="open", opened_at=opened_at)
        )


def association_ended(tx: Transaction, name: str, outcome: str, files: int, at: datetime) -> None:
    """An association that has ended."""
    known = tx.sql.execute(
        sa.update(associations).where(associations.c.name == name).values(outcome=outcome, files=files, ended_at=at)
    )
    if known.rowcount == 0:
        tx.sql.execute(sa.insert(associations).values(name=name, outcome=outcome, files=files, ended_at=at))


def open_associations(tx: Transaction) -> tuple[str, ...]:
    """Names of those that have not ended."""
    return tuple(
        tx.sql.execute(
            sa.select(associations.c.name).where(associations.c.outcome == "open").order_by(associations.c.name)
        ).scalars()
    )
