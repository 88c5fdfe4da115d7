"""First schema: the buffer, its documents, KSeF sessions, arrivals, answers, events, pauses and facts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# The event log takes new rows and nothing else.
APPEND_ONLY = {
    "sqlite": (
        "CREATE TRIGGER events_no_update BEFORE UPDATE ON events "
        "BEGIN SELECT RAISE(ABORT, 'events are append-only'); END",
        "CREATE TRIGGER events_no_delete BEFORE DELETE ON events "
        "BEGIN SELECT RAISE(ABORT, 'events are append-only'); END",
    ),
    "postgresql": (
        "CREATE FUNCTION events_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'events are append-only'; END $$",
        "CREATE TRIGGER events_no_change BEFORE UPDATE OR DELETE ON events "
        "FOR EACH ROW EXECUTE FUNCTION events_append_only()",
    ),
}


def upgrade() -> None:
    op.create_table(
        "buffer",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("nip", sa.String(length=10), nullable=False),
        sa.Column("environment", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_buffer_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_buffer")),
    )
    op.create_table(
        "calls",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("grp", sa.String(length=64), nullable=False),
        sa.Column("blocked_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calls")),
    )
    op.create_index("ix_calls_at", "calls", ["at"], unique=False)

    op.create_table(
        "facts",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_facts")),
    )
    op.create_table(
        "pauses",
        sa.Column("scope", sa.String(length=32), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("code", sa.String(length=32), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("scope", name=op.f("pk_pauses")),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("reference", sa.String(length=64), nullable=True),
        sa.Column("kind", sa.String(length=8), server_default="online", nullable=False),
        sa.Column("form", sa.String(length=16), nullable=False),
        sa.Column("offline", sa.Boolean(), server_default=sa.text("(false)"), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("valid_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sends", sa.Integer(), server_default="0", nullable=False),
        sa.Column("closing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_look_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("looks", sa.Integer(), server_default="0", nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.CheckConstraint("kind IN ('batch', 'online')", name=op.f("ck_sessions_kind")),
        sa.CheckConstraint("state IN ('closing', 'done', 'open', 'opening')", name=op.f("ck_sessions_state")),
        sa.CheckConstraint("state IN ('opening', 'done') OR reference IS NOT NULL", name=op.f("ck_sessions_reference")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
        sa.UniqueConstraint("reference", name=op.f("uq_sessions_reference")),
    )
    op.create_index(
        "ix_sessions_unfinished",
        "sessions",
        ["state", "next_look_at"],
        unique=False,
        sqlite_where=sa.text("state <> 'done'"),
        postgresql_where=sa.text("state <> 'done'"),
    )

    op.create_table(
        "documents",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("document_id", sa.String(length=36), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=True),
        sa.Column("form", sa.String(length=32), nullable=True),
        sa.Column("invoice_number", sa.Text(), nullable=True),
        sa.Column("invoice_type", sa.String(length=32), nullable=True),
        sa.Column("issue_date", sa.Date(), nullable=True),
        sa.Column("seller_nip", sa.String(length=16), nullable=True),
        sa.Column("business_key", sa.Text(), nullable=True),
        sa.Column("corrects", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("urgent", sa.Boolean(), nullable=False),
        sa.Column("offline", sa.Boolean(), nullable=False),
        sa.Column("corrects_sha256", sa.String(length=64), nullable=True),
        sa.Column("judged_by_ksef", sa.Boolean(), server_default=sa.text("(false)"), nullable=False),
        sa.Column("session_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("invoice_reference", sa.String(length=64), nullable=True),
        sa.Column("handed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ksef_number", sa.String(length=40), nullable=True),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("invoicing_mode", sa.String(length=16), nullable=True),
        sa.Column("adopted_session", sa.String(length=64), nullable=True),
        sa.Column("upo", sa.LargeBinary(), nullable=True),
        sa.Column("upo_due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("upo_attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("verdict", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("resends", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attachment", sa.Boolean(), server_default=sa.text("(false)"), nullable=False),
        sa.Column("batch_failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_poll_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("polls", sa.Integer(), server_default="0", nullable=False),
        sa.Column("waits_for", sa.Text(), nullable=True),
        sa.Column("errors", sa.JSON(), nullable=False),
        sa.Column("warnings", sa.JSON(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("(state = 'sent') = (ksef_number IS NOT NULL)", name=op.f("ck_documents_sent_has_number")),
        sa.CheckConstraint(
            "state <> 'failed' OR next_attempt_at IS NOT NULL", name=op.f("ck_documents_failed_has_next")
        ),
        sa.CheckConstraint(
            "state <> 'processing' OR session_id IS NOT NULL", name=op.f("ck_documents_processing_in_session")
        ),
        sa.CheckConstraint(
            "state IN ('cancelled', 'error', 'failed', 'processing', 'queued', 'sent')", name=op.f("ck_documents_state")
        ),
        sa.CheckConstraint(
            "state IN ('error', 'cancelled') OR content IS NOT NULL", name=op.f("ck_documents_bytes_kept")
        ),
        sa.CheckConstraint(
            "state NOT IN ('queued', 'failed') OR session_id IS NULL", name=op.f("ck_documents_waiting_unbound")
        ),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name=op.f("fk_documents_session_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_documents")),
        sa.UniqueConstraint("document_id", name=op.f("uq_documents_document_id")),
        sa.UniqueConstraint("ksef_number", name=op.f("uq_documents_ksef_number")),
        sa.UniqueConstraint("sha256", name=op.f("uq_documents_sha256")),
    )
    op.create_index("ix_documents_invoice_number", "documents", ["seller_nip", "invoice_number"], unique=False)
    op.create_index(
        "ix_documents_processing",
        "documents",
        ["session_id", "next_poll_at"],
        unique=False,
        sqlite_where=sa.text("state = 'processing'"),
        postgresql_where=sa.text("state = 'processing'"),
    )
    op.create_index("ix_documents_state", "documents", ["state", "id"], unique=False)
    op.create_index(
        "ix_documents_upo_due",
        "documents",
        ["upo_due_at"],
        unique=False,
        sqlite_where=sa.text("upo_due_at IS NOT NULL"),
        postgresql_where=sa.text("upo_due_at IS NOT NULL"),
    )
    op.create_index(
        "ix_documents_waiting",
        "documents",
        ["urgent", "id"],
        unique=False,
        sqlite_where=sa.text("state IN ('failed', 'queued')"),
        postgresql_where=sa.text("state IN ('failed', 'queued')"),
    )
    op.create_index(
        "uq_documents_business_key",
        "documents",
        ["business_key"],
        unique=True,
        sqlite_where=sa.text("state IN ('failed', 'processing', 'queued', 'sent')"),
        postgresql_where=sa.text("state IN ('failed', 'processing', 'queued', 'sent')"),
    )

    op.create_table(
        "arrivals",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("document", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("connector", sa.String(length=8), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("answer_name", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("callback_url", sa.Text(), nullable=True),
        sa.Column("arrived_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("connector IN ('folder', 'http', 'table')", name=op.f("ck_arrivals_connector")),
        sa.ForeignKeyConstraint(["document"], ["documents.id"], name=op.f("fk_arrivals_document")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_arrivals")),
    )
    op.create_index("ix_arrivals_document", "arrivals", ["document"], unique=False)
    op.create_index("uq_arrivals_answer_name", "arrivals", ["connector", "answer_name"], unique=True)

    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("document", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event", sa.String(length=16), nullable=False),
        sa.Column("from_state", sa.String(length=12), nullable=True),
        sa.Column("to_state", sa.String(length=12), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["document"], ["documents.id"], name=op.f("fk_events_document")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.create_index("ix_events_document", "events", ["document", "id"], unique=False)

    op.create_table(
        "deliveries",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("arrival", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("told", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("urgent", sa.Boolean(), server_default=sa.text("(false)"), nullable=False),
        sa.CheckConstraint("told <= wanted", name=op.f("ck_deliveries_not_ahead")),
        sa.ForeignKeyConstraint(["arrival"], ["arrivals.id"], name=op.f("fk_deliveries_arrival")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint("arrival", name=op.f("uq_deliveries_arrival")),
    )
    op.create_index(
        "ix_deliveries_due",
        "deliveries",
        ["urgent", "due_at"],
        unique=False,
        sqlite_where=sa.text("told < wanted"),
        postgresql_where=sa.text("told < wanted"),
    )
    for statement in APPEND_ONLY[op.get_bind().dialect.name]:
        op.execute(statement)
