"""Offline modes: what a document was issued in and until when it must be sent; notices and a person's word."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    for column in (
        sa.Column("online_only", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("offline_mode", sa.String(length=20), nullable=True),
        sa.Column("offline_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("offline_event", sa.JSON(), nullable=True),
        sa.Column("offline_deadline", sa.DateTime(timezone=True), nullable=True),
        sa.Column("offline_term", sa.Text(), nullable=True),
        sa.Column("certificate_url", sa.Text(), nullable=True),
    ):
        op.add_column("documents", column)
    for name, column, where in (
        ("ix_documents_deadline", "offline_deadline", "offline_mode IS NOT NULL AND ksef_number IS NULL"),
        ("ix_documents_corrects_sha256", "corrects_sha256", "corrects_sha256 IS NOT NULL"),
    ):
        op.create_index(name, "documents", [column], sqlite_where=sa.text(where), postgresql_where=sa.text(where))
    op.create_table(
        "announcements",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("message_id", sa.String(length=100), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("category", sa.String(length=50), nullable=False),
        sa.Column("type", sa.String(length=50), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("start", sa.DateTime(timezone=True), nullable=True),
        sa.Column("end", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("published", sa.DateTime(timezone=True), nullable=True),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_announcements")),
        sa.UniqueConstraint("digest", name=op.f("uq_announcements_digest")),
    )
    op.create_table(
        "declarations",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("mode", sa.String(length=20), nullable=True),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_declarations")),
    )
