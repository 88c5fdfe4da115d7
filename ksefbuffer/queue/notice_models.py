"""The tables of notices: what people were told, and where it still has to go."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Integer, String, Table, Text, text

from ksefbuffer.queue.models import Key, UtcTime, metadata

# One row for each thing worth telling: a key names the thing, a level how far it has got. Told once in a life.
notices = Table(
    "notices",
    metadata,
    Column("id", Key, primary_key=True),
    Column("key", String(160), nullable=False),
    Column("level", Integer, nullable=False),
    Column("event", String(20), nullable=False),
    Column("weight", String(8), nullable=False),
    Column("subject", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    CheckConstraint("weight IN ('failure', 'info', 'warning')", name="weight"),
    Index("uq_notices_key", "key", "level", unique=True),
    Index("ix_notices_at", "at"),
)

# The way of a notice to one address. ``place`` never holds the address itself, which is a secret. Due while ``due_at``
# is set; over without ``sent_at``: given up.
notice_deliveries = Table(
    "notice_deliveries",
    metadata,
    Column("id", Key, primary_key=True),
    Column("notice", Key, ForeignKey("notices.id"), nullable=False),
    Column("place", String(120), nullable=False),
    Column("due_at", UtcTime),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("last_error", Text),
    Column("sent_at", UtcTime),
    CheckConstraint("sent_at IS NULL OR due_at IS NULL", name="over"),
    Index("uq_notice_deliveries_notice", "notice", "place", unique=True),
    Index(
        "ix_notice_deliveries_due",
        "due_at",
        sqlite_where=text("due_at IS NOT NULL"),
        postgresql_where=text("due_at IS NOT NULL"),
    ),
)
