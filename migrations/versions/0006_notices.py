"""Notices to people, each told once, and their ways to the configured addresses."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "notices",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("key", sa.String(length=160), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("event", sa.String(length=20), nullable=False),
        sa.Column("weight", sa.String(length=8), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("weight IN ('failure', 'info', 'warning')", name=op.f("ck_notices_weight")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notices")),
    )
    op.create_index("uq_notices_key", "notices", ["key", "level"], unique=True)
    op.create_index("ix_notices_at", "notices", ["at"])
    op.create_table(
        "notice_deliveries",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("notice", _KEY, nullable=False),
        sa.Column("place", sa.String(length=120), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("sent_at IS NULL OR due_at IS NULL", name=op.f("ck_notice_deliveries_over")),
        sa.ForeignKeyConstraint(["notice"], ["notices.id"], name=op.f("fk_notice_deliveries_notice")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notice_deliveries")),
    )
    op.create_index("uq_notice_deliveries_notice", "notice_deliveries", ["notice", "place"], unique=True)
    where = sa.text("due_at IS NOT NULL")
    op.create_index(
        "ix_notice_deliveries_due", "notice_deliveries", ["due_at"], sqlite_where=where, postgresql_where=where
    )
