"""The outbox of webhooks: where documents are told of by HTTP, and what is still to be told there."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Integer, String, Table, Text, text

from ksefbuffer.queue.models import Key, UtcTime, metadata

# Addresses told of every document, as the settings name them; the worker keeps this in step.
webhook_targets = Table(
    "webhook_targets",
    metadata,
    Column("url_sha256", String(64), primary_key=True),
    Column("url", Text, nullable=False),
    Column("origin", String(300), nullable=False),
    Column("since", UtcTime, nullable=False),
)

# One row an arrival with a callback address, and one a document and address of the settings. Due while wanted > told.
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", Key, primary_key=True),
    Column("document", Key, ForeignKey("documents.id"), nullable=False),
    Column("arrival", Key, ForeignKey("arrivals.id")),  # NULL: an address of the settings
    Column("url", Text, nullable=False),
    Column("url_sha256", String(64), nullable=False),
    Column("origin", String(300), nullable=False),  # scheme, host and port: what is up or down as a whole
    Column("wanted", Integer, nullable=False),
    Column("told", Integer, nullable=False),
    Column("due_at", UtcTime, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("failing_since", UtcTime),
    Column("last_error", Text),
    Column("given_up_at", UtcTime),
    CheckConstraint("told <= wanted", name="not_ahead"),
    CheckConstraint("given_up_at IS NULL OR last_error IS NOT NULL", name="given_up_says_why"),
    Index(
        "uq_webhook_deliveries_arrival",
        "arrival",
        unique=True,
        sqlite_where=text("arrival IS NOT NULL"),
        postgresql_where=text("arrival IS NOT NULL"),
    ),
    Index(
        "uq_webhook_deliveries_target",
        "document",
        "url_sha256",
        unique=True,
        sqlite_where=text("arrival IS NULL"),
        postgresql_where=text("arrival IS NULL"),
    ),
    Index("ix_webhook_deliveries_document", "document"),
    Index(
        "ix_webhook_deliveries_due",
        "origin",
        "due_at",
        "id",
        sqlite_where=text("told < wanted AND given_up_at IS NULL"),
        postgresql_where=text("told < wanted AND given_up_at IS NULL"),
    ),
    Index(
        "ix_webhook_deliveries_given_up",
        "id",
        sqlite_where=text("given_up_at IS NOT NULL"),
        postgresql_where=text("given_up_at IS NOT NULL"),
    ),
)
