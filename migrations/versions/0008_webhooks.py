"""Webhooks: addresses told of documents by HTTP, and their own outbox."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "webhook_targets",
        sa.Column("url_sha256", sa.String(length=64), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("origin", sa.String(length=300), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("url_sha256", name=op.f("pk_webhook_targets")),
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("document", _KEY, nullable=False),
        sa.Column("arrival", _KEY, nullable=True),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("url_sha256", sa.String(length=64), nullable=False),
        sa.Column("origin", sa.String(length=300), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("told", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("given_up_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("told <= wanted", name=op.f("ck_webhook_deliveries_not_ahead")),
        sa.CheckConstraint(
            "given_up_at IS NULL OR last_error IS NOT NULL", name=op.f("ck_webhook_deliveries_given_up_says_why")
        ),
        sa.ForeignKeyConstraint(["arrival"], ["arrivals.id"], name=op.f("fk_webhook_deliveries_arrival")),
        sa.ForeignKeyConstraint(["document"], ["documents.id"], name=op.f("fk_webhook_deliveries_document")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
    )
    for name, columns, unique, where in (
        ("uq_webhook_deliveries_arrival", ["arrival"], True, "arrival IS NOT NULL"),
        ("uq_webhook_deliveries_target", ["document", "url_sha256"], True, "arrival IS NULL"),
        ("ix_webhook_deliveries_document", ["document"], False, None),
        (
            "ix_webhook_deliveries_due",
            ["origin", "due_at", "id"],
            False,
            "told < wanted AND given_up_at IS NULL",
        ),
        ("ix_webhook_deliveries_given_up", ["id"], False, "given_up_at IS NOT NULL"),
    ):
        conditions = {f"{dialect}_where": sa.text(where) for dialect in ("sqlite", "postgresql")} if where else {}
        op.create_index(name, "webhook_deliveries", columns, unique=unique, **conditions)
