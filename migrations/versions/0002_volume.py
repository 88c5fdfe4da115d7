"""Volume: batch sessions, invoices with attachments, the calls of the last hour, urgent answers first."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # As plain SQL: recreating the table, as SQLite's batch mode would, breaks the documents that refer to it.
    op.execute(
        "ALTER TABLE sessions ADD COLUMN kind VARCHAR(8) DEFAULT 'online' NOT NULL "
        "CONSTRAINT ck_sessions_kind CHECK (kind IN ('batch', 'online'))"
    )
    op.add_column("sessions", sa.Column("offline", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("documents", sa.Column("attachment", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("documents", sa.Column("batch_failures", sa.Integer(), server_default="0", nullable=False))
    op.add_column("deliveries", sa.Column("urgent", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.drop_index("ix_deliveries_due", "deliveries")
    op.create_index(
        "ix_deliveries_due",
        "deliveries",
        ["urgent", "due_at"],
        sqlite_where=sa.text("told < wanted"),
        postgresql_where=sa.text("told < wanted"),
    )
    op.create_table(
        "calls",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("grp", sa.String(length=64), nullable=False),
        sa.Column("blocked_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calls")),
    )
    op.create_index("ix_calls_at", "calls", ["at"])
