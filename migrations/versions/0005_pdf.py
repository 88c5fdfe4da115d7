"""Printed pages still to be made, beside answers and beside the files of received invoices."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "answer_pages",
        sa.Column("arrival", _KEY, nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("urgent", sa.Boolean(), nullable=False),
        sa.Column("asked", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(["arrival"], ["arrivals.id"], name=op.f("fk_answer_pages_arrival")),
        sa.PrimaryKeyConstraint("arrival", name=op.f("pk_answer_pages")),
    )
    where = sa.text("due_at IS NOT NULL")
    op.create_index(
        "ix_answer_pages_due", "answer_pages", ["urgent", "due_at"], sqlite_where=where, postgresql_where=where
    )
    op.create_table(
        "incoming_pages",
        sa.Column("incoming", _KEY, nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["incoming"], ["incoming.id"], name=op.f("fk_incoming_pages_incoming")),
        sa.PrimaryKeyConstraint("incoming", name=op.f("pk_incoming_pages")),
    )
    op.create_index("ix_incoming_pages_due", "incoming_pages", ["due_at", "incoming"])
