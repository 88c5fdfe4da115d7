"""Incoming invoices: what was pulled, how far, by which rules it is filed; and when outgoing ones were accepted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# The story of an invoice takes new rows and nothing else; its words are kept in step by the database itself.
BY_HAND = {
    "sqlite": (
        "CREATE TRIGGER incoming_events_no_update BEFORE UPDATE ON incoming_events "
        "BEGIN SELECT RAISE(ABORT, 'events are append-only'); END",
        "CREATE TRIGGER incoming_events_no_delete BEFORE DELETE ON incoming_events "
        "BEGIN SELECT RAISE(ABORT, 'events are append-only'); END",
        "CREATE VIRTUAL TABLE incoming_search USING fts5(search, content='incoming', content_rowid='id', "
        "tokenize='unicode61 remove_diacritics 2', prefix='2 3 4')",
        "CREATE TRIGGER incoming_search_insert AFTER INSERT ON incoming BEGIN "
        "INSERT INTO incoming_search(rowid, search) VALUES (new.id, new.search); END",
        "CREATE TRIGGER incoming_search_update AFTER UPDATE OF search ON incoming BEGIN "
        "INSERT INTO incoming_search(incoming_search, rowid, search) VALUES ('delete', old.id, old.search); "
        "INSERT INTO incoming_search(rowid, search) VALUES (new.id, new.search); END",
    ),
    "postgresql": (
        "CREATE TRIGGER incoming_events_no_change BEFORE UPDATE OR DELETE ON incoming_events "
        "FOR EACH ROW EXECUTE FUNCTION events_append_only()",
        "CREATE INDEX ix_incoming_search ON incoming USING gin (to_tsvector('simple', search))",
    ),
}


def upgrade() -> None:
    op.create_table(
        "cursors",
        sa.Column("subject", sa.String(length=16), nullable=False),
        sa.Column("position", sa.Text(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("caught_up_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("brought", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("rescans", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_cursors")),
    )
    op.create_table(
        "exports",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("subject", sa.String(length=16), nullable=False),
        sa.Column("purpose", sa.String(length=8), nullable=False),
        sa.Column("date_type", sa.String(length=24), nullable=False),
        sa.Column("period_start", sa.Text(), nullable=False),
        sa.Column("period_end", sa.Text(), nullable=False),
        sa.Column("reference", sa.String(length=64), nullable=True),
        sa.Column("secret", sa.LargeBinary(), nullable=True),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_look_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("looks", sa.Integer(), server_default="0", nullable=False),
        sa.Column("brought", sa.Integer(), server_default="0", nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.CheckConstraint("purpose IN ('pull', 'rescan')", name=op.f("ck_exports_purpose")),
        sa.CheckConstraint("state IN ('done', 'given_up', 'running', 'starting')", name=op.f("ck_exports_state")),
        sa.CheckConstraint(
            "state IN ('starting', 'given_up') OR reference IS NOT NULL", name=op.f("ck_exports_reference")
        ),
        sa.CheckConstraint("state IN ('starting', 'running') OR secret IS NULL", name=op.f("ck_exports_secret")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exports")),
    )
    op.create_index(
        "uq_exports_running",
        "exports",
        ["subject", "purpose"],
        unique=True,
        sqlite_where=sa.text("state IN ('running', 'starting')"),
        postgresql_where=sa.text("state IN ('running', 'starting')"),
    )
    op.create_table(
        "incoming",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("ksef_number", sa.String(length=40), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("meta", sa.Text(), nullable=False),
        sa.Column("roles", sa.String(length=40), nullable=False),
        sa.Column("form", sa.String(length=32), nullable=True),
        sa.Column("invoice_number", sa.Text(), nullable=False),
        sa.Column("number_key", sa.Text(), nullable=False),
        sa.Column("invoice_type", sa.String(length=32), nullable=False),
        sa.Column("issue_date", sa.Date(), nullable=True),
        sa.Column("seller_nip", sa.String(length=16), nullable=False),
        sa.Column("seller_name", sa.Text(), nullable=False),
        sa.Column("buyer_nip", sa.String(length=16), nullable=False),
        sa.Column("currency", sa.String(length=8), nullable=False),
        sa.Column("gross", sa.BigInteger(), nullable=True),
        sa.Column("invoiced_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("acquired_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stored_at_ksef", sa.Text(), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("damage", sa.JSON(), nullable=False),
        sa.Column("likeness", sa.String(length=64), nullable=False),
        sa.Column("store", sa.Text(), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("rulebook", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("fired", sa.JSON(), nullable=False),
        sa.Column("decision", sa.String(length=12), nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("file_due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("file_attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("file_error", sa.Text(), nullable=True),
        sa.Column("row_due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("row_attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("row_error", sa.Text(), nullable=True),
        sa.Column("search", sa.Text(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("decision IN ('accepted', 'rejected', 'scam')", name=op.f("ck_incoming_decision")),
        sa.CheckConstraint("verdict IN ('do wyjaśnienia', 'niezasadna', 'zasadna')", name=op.f("ck_incoming_verdict")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incoming")),
        sa.UniqueConstraint("ksef_number", name=op.f("uq_incoming_ksef_number")),
    )
    op.create_index(
        "ix_incoming_file_due",
        "incoming",
        ["file_due_at", "id"],
        unique=False,
        sqlite_where=sa.text("file_due_at IS NOT NULL"),
        postgresql_where=sa.text("file_due_at IS NOT NULL"),
    )
    op.create_index("ix_incoming_folder", "incoming", ["folder", "id"], unique=False)
    op.create_index("ix_incoming_issue_date", "incoming", ["issue_date", "id"], unique=False)
    op.create_index("ix_incoming_likeness", "incoming", ["seller_nip", "likeness"], unique=False)
    op.create_index("ix_incoming_number", "incoming", ["seller_nip", "number_key"], unique=False)
    op.create_index(
        "ix_incoming_row_due",
        "incoming",
        ["row_due_at", "id"],
        unique=False,
        sqlite_where=sa.text("row_due_at IS NOT NULL"),
        postgresql_where=sa.text("row_due_at IS NOT NULL"),
    )
    op.create_index("ix_incoming_stored_at_ksef", "incoming", ["stored_at_ksef", "ksef_number", "roles"], unique=False)
    op.create_index("ix_incoming_sha256", "incoming", ["sha256"], unique=False)
    op.create_table(
        "rulebooks",
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_rulebooks")),
    )
    op.create_table(
        "incoming_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("incoming", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event", sa.String(length=16), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["incoming"], ["incoming.id"], name=op.f("fk_incoming_events_incoming")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incoming_events")),
    )
    op.create_index("ix_incoming_events_incoming", "incoming_events", ["incoming", "id"], unique=False)
    op.create_table(
        "incoming_keys",
        sa.Column("incoming", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('account', 'advance', 'corrected', 'delivery', 'original')", name=op.f("ck_incoming_keys_kind")
        ),
        sa.ForeignKeyConstraint(["incoming"], ["incoming.id"], name=op.f("fk_incoming_keys_incoming")),
        sa.PrimaryKeyConstraint("incoming", "kind", "value", name=op.f("pk_incoming_keys")),
    )
    op.create_index("ix_incoming_keys_value", "incoming_keys", ["kind", "value"], unique=False)
    op.create_table(
        "seller_accounts",
        sa.Column("seller_nip", sa.String(length=16), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("seller_nip", "account", name=op.f("pk_seller_accounts")),
    )
    op.create_index(
        "ix_documents_accepted",
        "documents",
        ["accepted_at"],
        unique=False,
        sqlite_where=sa.text("accepted_at IS NOT NULL"),
        postgresql_where=sa.text("accepted_at IS NOT NULL"),
    )
    for statement in BY_HAND[op.get_bind().dialect.name]:
        op.execute(sa.text(statement.replace(":", "\\:")))
