"""The first ledger: instances, series, studies, results, deliveries, leases, events."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward; there is no way back but a rebuild from the spool."""
    op.create_table(
        "associations",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("calling_ae", sa.Text(), server_default="", nullable=False),
        sa.Column("outcome", sa.Text(), server_default="open", nullable=False),
        sa.Column("files", sa.Integer(), server_default="0", nullable=False),
        sa.Column("filed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=("pk_associations")),
    )
    op.create_table(
        "destinations",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("paused_by", sa.Text(), server_default="", nullable=False),
        sa.Column("paused_why", sa.Text(), server_default="", nullable=False),
        sa.Column("paused_at", sa.BigInteger(), nullable=True),
        sa.Column("breaker_until", sa.BigInteger(), nullable=True),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("name", name=("pk_destinations")),
    )
    op.create_table(
        "incoming",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("filed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=("pk_incoming")),
    )
    op.create_table(
        "studies",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("study_uid", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("change_no", sa.Integer(), server_default="0", nullable=False),
        sa.Column("revision", sa.Integer(), server_default="0", nullable=False),
        sa.Column("outcome", sa.Text(), server_default="", nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("chosen_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("priority", sa.Integer(), server_default="1", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=True),
        sa.Column("current_key", sa.Text(), nullable=True),
        sa.Column("requeue_by", sa.Text(), server_default="", nullable=False),
        sa.Column("requeue_why", sa.Text(), server_default="", nullable=False),
        sa.Column("by_person", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("to_withdraw", sa.Text(), server_default="", nullable=False),
        sa.Column("withdraw_attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("withdraw_not_before", sa.BigInteger(), nullable=True),
        sa.Column("identity_chosen", sa.Text(), server_default="", nullable=False),
        sa.Column("used_numbers", sa.Integer(), server_default="0", nullable=False),
        sa.Column("folder", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("number", name=("pk_studies")),
        sa.UniqueConstraint("study_uid", name=("uq_studies_study_uid")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_studies_folder", "studies", ["folder"], unique=False)
    op.create_index("ix_studies_queue", "studies", ["state", "priority", "chosen_at"], unique=False)
    op.create_table(
        "task_leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), server_default="", nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=("pk_task_leases")),
    )
    op.create_table(
        "tombstones",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sop_uid", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column("patient_id", sa.Text(), server_default="", nullable=False),
        sa.Column("issuer", sa.Text(), server_default="", nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("birth_date", sa.Text(), server_default="", nullable=False),
        sa.Column("sex", sa.Text(), server_default="", nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name=("pk_tombstones")),
        sa.UniqueConstraint("sop_uid", "code", "note", name=("uq_tombstones_sop_uid_code_note")),
    )
    op.create_table(
        "accessions",
        sa.Column("accession", sa.Text(), nullable=False),
        sa.Column("study_number", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_number"], ["studies.number"], name=("fk_accessions_study_number"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("accession", "study_number", name=("pk_accessions")),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("study_number", sa.Integer(), nullable=True),
        sa.Column("series_id", sa.Integer(), nullable=True),
        sa.Column("who", sa.Text(), server_default="", nullable=False),
        sa.Column("what", sa.Text(), server_default="", nullable=False),
        sa.Column("from_state", sa.Text(), server_default="", nullable=False),
        sa.Column("to_state", sa.Text(), server_default="", nullable=False),
        sa.Column("why", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["study_number"], ["studies.number"], name=("fk_events_study_number"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=("pk_events")),
    )
    op.create_index("ix_events_study_number", "events", ["study_number", "id"], unique=False)
    op.create_table(
        "holds",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_number", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), server_default="", nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["study_number"], ["studies.number"], name=("fk_holds_study_number"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=("pk_holds")),
        sa.UniqueConstraint("study_number", "reason", "text", name=("uq_holds_study_number_reason_text")),
    )
    op.create_table(
        "identities",
        sa.Column("study_number", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("patient_id", sa.Text(), server_default="", nullable=False),
        sa.Column("issuer", sa.Text(), server_default="", nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("birth_date", sa.Text(), server_default="", nullable=False),
        sa.Column("sex", sa.Text(), server_default="", nullable=False),
        sa.Column("source", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["study_number"], ["studies.number"], name=("fk_identities_study_number"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("study_number", "key", name=("pk_identities")),
    )
    op.create_table(
        "results",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("study_number", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="", nullable=False),
        sa.Column("folder", sa.Text(), server_default="", nullable=False),
        sa.Column("previous_key", sa.Text(), server_default="", nullable=False),
        sa.Column("choice_digest", sa.Text(), server_default="", nullable=False),
        sa.Column("identity_key", sa.Text(), server_default="", nullable=False),
        sa.Column("committed_at", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.Text(), server_default="", nullable=False),
        sa.Column("journalled", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("gone", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_number"], ["studies.number"], name=("fk_results_study_number"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("number", name=("pk_results")),
        sa.UniqueConstraint("key", name=("uq_results_key")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_results_study_number", "results", ["study_number"], unique=False)
    op.create_table(
        "series",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_number", sa.Integer(), nullable=False),
        sa.Column("series_uid", sa.Text(), nullable=False),
        sa.Column("modality", sa.Text(), server_default="", nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), server_default="", nullable=False),
        sa.Column("reason_code", sa.Text(), server_default="", nullable=False),
        sa.Column("reason_text", sa.Text(), server_default="", nullable=False),
        sa.Column("evidence", sa.Text(), server_default="", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("found", sa.Text(), server_default="", nullable=False),
        sa.Column("found_digest", sa.Text(), server_default="", nullable=False),
        sa.Column("version", sa.Integer(), server_default="0", nullable=False),
        sa.Column("quiet_only", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_number"], ["studies.number"], name=("fk_series_study_number"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=("pk_series")),
        sa.UniqueConstraint("study_number", "series_uid", "kind", name=("uq_series_study_number_series_uid_kind")),
    )
    op.create_table(
        "deliveries",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("study_number", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("result_key", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("files", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("last_error", sa.Text(), server_default="", nullable=False),
        sa.Column("after", sa.Text(), server_default="", nullable=False),
        sa.Column("after_state", sa.Text(), server_default="", nullable=False),
        sa.Column("wait_until", sa.BigInteger(), nullable=True),
        sa.Column("first_connected_at", sa.BigInteger(), nullable=True),
        sa.Column("connected_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("withdrawal", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("control_id", sa.Text(), server_default="", nullable=False),
        sa.Column("priority", sa.Integer(), server_default="1", nullable=False),
        sa.Column("identity_key", sa.Text(), server_default="", nullable=False),
        sa.Column("commit_asked", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("may_have", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("withdrawn_by", sa.Text(), server_default="", nullable=False),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.Column("owner", sa.Text(), server_default="", nullable=False),
        sa.Column("token", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["result_key"], ["results.key"], name=("fk_deliveries_result_key"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["study_number"], ["studies.number"], name=("fk_deliveries_study_number"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("number", name=("pk_deliveries")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_deliveries_due", "deliveries", ["destination", "state", "priority", "number"], unique=False)
    op.create_index("ix_deliveries_study_number", "deliveries", ["study_number"], unique=False)
    op.create_table(
        "instances",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_number", sa.Integer(), nullable=False),
        sa.Column("series_id", sa.Integer(), nullable=False),
        sa.Column("sop_uid", sa.Text(), nullable=False),
        sa.Column("sop_class_uid", sa.Text(), nullable=False),
        sa.Column("transfer_syntax_uid", sa.Text(), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("header", sa.Text(), server_default="", nullable=False),
        sa.Column("pixel_sha256", sa.Text(), server_default="", nullable=False),
        sa.Column("identity_key", sa.Text(), server_default="", nullable=False),
        sa.Column("copy", sa.Integer(), nullable=False),
        sa.Column("withdrawn", sa.Text(), server_default="", nullable=False),
        sa.Column("withdrawn_note", sa.Text(), server_default="", nullable=False),
        sa.Column("filed_as", sa.Text(), server_default="", nullable=False),
        sa.Column("gone", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("arrived_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=("fk_instances_series_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["study_number"], ["studies.number"], name=("fk_instances_study_number"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=("pk_instances")),
        sa.UniqueConstraint("study_number", "sop_uid", "copy", name=("uq_instances_study_number_sop_uid_copy")),
    )
    op.create_index("ix_instances_series_id", "instances", ["series_id"], unique=False)
    op.create_index("ix_instances_sop_uid", "instances", ["sop_uid"], unique=False)
    op.create_table(
        "series_associations",
        sa.Column("series_id", sa.Integer(), nullable=False),
        sa.Column("association", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["association"], ["associations.name"], name=("fk_series_associations_association"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["series_id"], ["series.id"], name=("fk_series_associations_series_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("series_id", "association", name=("pk_series_associations")),
    )
    op.create_table(
        "study_leases",
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("study_number", sa.Integer(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), server_default="", nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("series_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=("fk_study_leases_series_id"), ondelete="SET NULL"),
        sa.ForeignKeyConstraint(
            ["study_number"], ["studies.number"], name=("fk_study_leases_study_number"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("token", name=("pk_study_leases")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_study_leases_live",
        "study_leases",
        ["study_number"],
        unique=True,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "delivery_waits",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("waits_for", sa.Integer(), nullable=False),
        sa.Column("until_state", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["number"], ["deliveries.number"], name=("fk_delivery_waits_number"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["waits_for"], ["deliveries.number"], name=("fk_delivery_waits_waits_for"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("number", "waits_for", name=("pk_delivery_waits")),
    )
