"""The ledger's tables, constraints and indexes. `migrations/` leads to exactly this (a test compares).

Times are microseconds since 1970 UTC. Rules that two processes could break between them are constraints here: one live
lease a study, one row a copy, one key an identity, one result a key.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class UtcTime(sa.types.TypeDecorator[datetime]):
    """An aware datetime as whole microseconds since 1970 UTC: exact, ordered, the same in every database."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """To microseconds; a naive datetime is a mistake of the caller."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("the ledger takes aware datetimes only")
        return (value - EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """To UTC."""
        return None if value is None else EPOCH + timedelta(microseconds=int(value))


class Words(sa.types.TypeDecorator[str]):
    """Text from outside: what no database takes (lone surrogates, NUL) becomes U+FFFD."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Made storable."""
        return None if value is None else storable(value)


def storable(text: str) -> str:
    """Text that every database takes: lone surrogates and NUL become U+FFFD."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").replace("\0", "\ufffd")


NAMES: Final = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = sa.MetaData(naming_convention=NAMES)


def _text(name: str, default: str | None = "") -> "sa.Column[str]":
    return sa.Column(name, Words, nullable=False, server_default=default)


def _count(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.Integer, nullable=False, server_default="0")


def _flag(name: str) -> "sa.Column[bool]":
    return sa.Column(name, sa.Boolean(create_constraint=False), nullable=False, server_default=sa.false())


def _time(name: str, *, nullable: bool = False) -> "sa.Column[datetime]":
    return sa.Column(name, UtcTime, nullable=nullable)


def _number(name: str = "number") -> "sa.Column[int]":
    return sa.Column(name, sa.Integer, primary_key=True)


def _of_study(*, nullable: bool = False) -> "sa.Column[int]":
    return sa.Column("study_number", sa.Integer, sa.ForeignKey("studies.number", ondelete="CASCADE"), nullable=nullable)


# sqlite_autoincrement: a number that people, logs and tokens have seen means one row for ever.
studies = sa.Table(
    "studies",
    metadata,
    _number(),
    _text("study_uid", None),
    _text("state", None),
    _count("change_no"),
    _count("revision"),
    _text("outcome"),
    _time("first_at"),
    _time("last_at"),
    _time("changed_at"),
    _time("chosen_at", nullable=True),
    _time("ended_at", nullable=True),
    sa.Column("priority", sa.Integer, nullable=False, server_default="1"),
    _count("attempts"),
    _time("not_before", nullable=True),
    sa.Column("current_key", Words, nullable=True),
    _text("requeue_by"),
    _text("requeue_why"),
    _flag("by_person"),
    _text("to_withdraw"),  # "", "all" that was sent, or what was sent under another "identity" than the chosen one
    _count("withdraw_attempts"),
    _time("withdraw_not_before", nullable=True),
    _text("identity_chosen"),
    _count("used_numbers"),
    _text("folder"),
    sa.UniqueConstraint("study_uid"),
    sa.Index("ix_studies_folder", "folder"),
    sa.Index("ix_studies_queue", "state", "priority", "chosen_at"),
    sqlite_autoincrement=True,
)
series = sa.Table(
    "series",
    metadata,
    _number("id"),
    _of_study(),
    _text("series_uid", None),
    _text("modality"),
    _text("kind", None),
    _text("state", None),
    _text("outcome"),
    _text("reason_code"),
    _text("reason_text"),
    _text("evidence"),
    _count("attempts"),
    _text("found"),
    _text("found_digest"),
    _count("version"),
    _flag("quiet_only"),
    _time("first_at"),
    _time("last_at"),
    sa.UniqueConstraint("study_number", "series_uid", "kind"),
)
instances = sa.Table(
    "instances",
    metadata,
    _number("id"),
    _of_study(),
    sa.Column("series_id", sa.Integer, sa.ForeignKey("series.id", ondelete="CASCADE"), nullable=False),
    _text("sop_uid", None),
    _text("sop_class_uid", None),
    _text("transfer_syntax_uid", None),
    _text("file", None),
    sa.Column("size", sa.BigInteger, nullable=False),
    _text("sha256", None),
    _text("header"),
    _text("pixel_sha256"),
    _text("identity_key"),
    sa.Column("copy", sa.Integer, nullable=False),
    _text("withdrawn"),
    _text("withdrawn_note"),
    _text("filed_as"),
    _flag("gone"),
    _time("arrived_at"),
    sa.UniqueConstraint("study_number", "sop_uid", "copy"),
    sa.Index("ix_instances_series_id", "series_id"),
    sa.Index("ix_instances_sop_uid", "sop_uid"),
)
associations = sa.Table(
    "associations",
    metadata,
    sa.Column("name", Words, primary_key=True),
    _text("calling_ae"),
    _text("outcome", "open"),
    _count("files"),
    _count("filed"),
    _time("opened_at", nullable=True),
    _time("ended_at", nullable=True),
)
series_associations = sa.Table(
    "series_associations",
    metadata,
    sa.Column("series_id", sa.Integer, sa.ForeignKey("series.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("association", Words, sa.ForeignKey("associations.name", ondelete="CASCADE"), primary_key=True),
)
incoming = sa.Table("incoming", metadata, sa.Column("name", Words, primary_key=True), _time("filed_at"))
accessions = sa.Table(
    "accessions",
    metadata,
    sa.Column("accession", Words, primary_key=True),
    sa.Column("study_number", sa.Integer, sa.ForeignKey("studies.number", ondelete="CASCADE"), primary_key=True),
)
identities = sa.Table(
    "identities",
    metadata,
    sa.Column("study_number", sa.Integer, sa.ForeignKey("studies.number", ondelete="CASCADE"), primary_key=True),
    sa.Column("key", Words, primary_key=True),
    _text("patient_id"),
    _text("issuer"),
    _text("name"),
    _text("birth_date"),
    _text("sex"),
    _text("source"),
)
tombstones = sa.Table(
    "tombstones",
    metadata,
    _number("id"),
    _text("sop_uid", None),
    _text("code", None),
    _text("note"),
    _text("patient_id"),
    _text("issuer"),
    _text("name"),
    _text("birth_date"),
    _text("sex"),
    _time("at"),
    _text("by"),
    sa.UniqueConstraint("sop_uid", "code", "note"),
)
holds = sa.Table(
    "holds",
    metadata,
    _number("id"),
    _of_study(),
    _text("reason", None),
    _text("text"),
    _time("since"),
    _text("by"),
    sa.UniqueConstraint("study_number", "reason", "text"),
)
results = sa.Table(
    "results",
    metadata,
    _number(),
    _text("key", None),
    _of_study(),
    sa.Column("revision", sa.Integer, nullable=False),
    _text("kind", None),
    _text("status"),
    _text("folder"),
    _text("previous_key"),
    _text("choice_digest"),
    _text("identity_key"),
    _time("committed_at"),
    _text("payload"),
    _flag("journalled"),
    _flag("gone"),
    sa.UniqueConstraint("key"),
    sa.Index("ix_results_study_number", "study_number"),
    sqlite_autoincrement=True,
)
deliveries = sa.Table(
    "deliveries",
    metadata,
    _number(),
    _of_study(),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("result_key", Words, sa.ForeignKey("results.key", ondelete="CASCADE"), nullable=False),
    _text("destination", None),
    _text("kind", None),
    _text("files", None),
    _text("state", None),
    _count("attempts"),
    _time("next_at"),
    _text("last_error"),
    _text("after"),
    _text("after_state"),
    _time("wait_until", nullable=True),
    _time("first_connected_at", nullable=True),
    _time("connected_at", nullable=True),
    _time("ended_at", nullable=True),
    _time("created_at"),
    _flag("withdrawal"),
    _text("control_id"),
    sa.Column("priority", sa.Integer, nullable=False, server_default="1"),
    _text("identity_key"),
    _flag("commit_asked"),
    _flag("may_have"),
    _text("withdrawn_by"),
    _text("detail"),
    _text("owner"),
    _count("token"),
    _time("lease_until", nullable=True),
    sa.Index("ix_deliveries_due", "destination", "state", "priority", "number"),
    sa.Index("ix_deliveries_study_number", "study_number"),
    sqlite_autoincrement=True,
)
delivery_waits = sa.Table(
    "delivery_waits",
    metadata,
    sa.Column("number", sa.Integer, sa.ForeignKey("deliveries.number", ondelete="CASCADE"), primary_key=True),
    sa.Column("waits_for", sa.Integer, sa.ForeignKey("deliveries.number", ondelete="CASCADE"), primary_key=True),
    _text("until_state"),
)
destinations = sa.Table(
    "destinations",
    metadata,
    sa.Column("name", Words, primary_key=True),
    _text("paused_by"),
    _text("paused_why"),
    _time("paused_at", nullable=True),
    _time("breaker_until", nullable=True),
    _count("failures"),
)
study_leases = sa.Table(
    "study_leases",
    metadata,
    _number("token"),
    _of_study(),
    _text("purpose", None),
    _text("owner"),
    _time("started_at"),
    _time("until"),
    _time("ended_at", nullable=True),
    sa.Column("series_id", sa.Integer, sa.ForeignKey("series.id", ondelete="SET NULL"), nullable=True),
    sqlite_autoincrement=True,
)
one_live_lease = sa.Index(
    "uq_study_leases_live",
    study_leases.c.study_number,
    unique=True,
    sqlite_where=study_leases.c.ended_at.is_(None),
    postgresql_where=study_leases.c.ended_at.is_(None),
)
task_leases = sa.Table(
    "task_leases", metadata, sa.Column("name", Words, primary_key=True), _text("owner"), _time("until")
)
events = sa.Table(
    "events",
    metadata,
    _number("id"),
    _time("at"),
    _of_study(nullable=True),
    sa.Column("series_id", sa.Integer, nullable=True),
    _text("who"),
    _text("what"),
    _text("from_state"),
    _text("to_state"),
    _text("why"),
    sa.Index("ix_events_study_number", "study_number", "id"),
)
