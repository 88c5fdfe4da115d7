"""The tables of the page and the API: who may come in, what they asked for, what they said of received invoices."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    event,
    text,
)

from ksefbuffer.queue import models
from ksefbuffer.queue.models import Key, UtcTime, metadata

# A person who works in a browser. Without a password hash nobody signs in; an invitation lets them set one.
users = Table(
    "users",
    metadata,
    Column("id", Key, primary_key=True),
    Column("login", String(64), nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("password_hash", Text),
    Column("admin", Boolean, nullable=False),
    Column("active", Boolean, nullable=False, server_default=text("true")),
    Column("must_change", Boolean, nullable=False, server_default=text("false")),
    Column("totp_secret", String(64)),
    Column("totp_last_step", BigInteger),  # a code is good once
    Column("created_at", UtcTime, nullable=False),
    Column("last_login_at", UtcTime),
    CheckConstraint("login = lower(login)", name="login_lower"),
)

# A shop, or a department: its grants are its members'.
groups = Table(
    "groups",
    metadata,
    Column("id", Key, primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("created_at", UtcTime, nullable=False),
)

group_members = Table(
    "group_members",
    metadata,
    Column("group_id", Key, ForeignKey("groups.id"), primary_key=True),
    Column("user_id", Key, ForeignKey("users.id"), primary_key=True),
    Index("ix_group_members_user_id", "user_id"),
)

# An integrator's key; the key itself is nowhere, only its hash.
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Key, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("prefix", String(16), nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("active", Boolean, nullable=False, server_default=text("true")),
    Column("created_at", UtcTime, nullable=False),
    Column("last_used_at", UtcTime),
)

# What a user, a group or a key may see, or see and handle. An empty folder means every folder.
grants = Table(
    "grants",
    metadata,
    Column("id", Key, primary_key=True),
    Column("user_id", Key, ForeignKey("users.id")),
    Column("group_id", Key, ForeignKey("groups.id")),
    Column("key_id", Key, ForeignKey("api_keys.id")),
    Column("kind", String(8), nullable=False),
    Column("folder", Text, nullable=False),
    Column("handle", Boolean, nullable=False),
    CheckConstraint("kind IN ('incoming', 'outgoing')", name="kind"),
    CheckConstraint("kind = 'incoming' OR folder = ''", name="folder"),
    CheckConstraint(
        "(user_id IS NOT NULL AND group_id IS NULL AND key_id IS NULL) "
        "OR (user_id IS NULL AND group_id IS NOT NULL AND key_id IS NULL) "
        "OR (user_id IS NULL AND group_id IS NULL AND key_id IS NOT NULL)",
        name="one_holder",
    ),
    Index("uq_grants_user_id", "user_id", "kind", "folder", unique=True),
    Index("uq_grants_group_id", "group_id", "kind", "folder", unique=True),
    Index("uq_grants_key_id", "key_id", "kind", "folder", unique=True),
)

# A browser that is signed in: the cookie's token is nowhere, only its hash. Revoking is deleting.
web_sessions = Table(
    "web_sessions",
    metadata,
    Column("token_sha256", String(64), primary_key=True),
    Column("user_id", Key, ForeignKey("users.id"), nullable=False),
    Column("csrf", String(64), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("last_seen_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("ip", String(64), nullable=False),
    Index("ix_web_sessions_user_id", "user_id"),
    Index("ix_web_sessions_expires_at", "expires_at"),
)

login_failures = Table(
    "login_failures",
    metadata,
    Column("ip", String(64), primary_key=True),
    Column("login", String(64), primary_key=True),
    Column("count", Integer, nullable=False),
    Column("last_at", UtcTime, nullable=False),
    Column("until", UtcTime),
    Index("ix_login_failures_last_at", "last_at"),
)

# A link by which a person sets their password, once.
invitations = Table(
    "invitations",
    metadata,
    Column("token_sha256", String(64), primary_key=True),
    Column("user_id", Key, ForeignKey("users.id"), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("used_at", UtcTime),
    Index("ix_invitations_user_id", "user_id"),
)

# The append-only log of what people and keys did.
audit = Table(
    "audit",
    metadata,
    Column("id", Key, primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", String(32), nullable=False),
    Column("object", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("ip", String(64), nullable=False),
    Index("ix_audit_at", "at", "id"),
    Index("ix_audit_actor", "actor", "id"),
    Index("ix_audit_action", "action", "id"),
)

# What an Idempotency-Key stood for.
idempotency = Table(
    "idempotency",
    metadata,
    Column("key_id", Key, ForeignKey("api_keys.id"), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("request_sha256", String(64), nullable=False),
    Column("document_id", String(36)),
    Column("at", UtcTime, nullable=False),
    Index("ix_idempotency_at", "at"),
)

# What the page asks the worker to do; the payload is gone once it was used.
orders = Table(
    "orders",
    metadata,
    Column("id", Key, primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("payload", LargeBinary),
    Column("state", String(8), nullable=False),
    Column("result", JSON(none_as_null=True)),
    Column("actor", Text, nullable=False),
    Column("done_at", UtcTime),
    CheckConstraint("state IN ('done', 'failed', 'waiting', 'working')", name="state"),
    CheckConstraint("(state IN ('done', 'failed')) = (done_at IS NOT NULL)", name="done"),
    CheckConstraint("state IN ('waiting', 'working') OR payload IS NULL", name="payload_gone"),
    Index(
        "ix_orders_open",
        "id",
        sqlite_where=text("state IN ('waiting', 'working')"),
        postgresql_where=text("state IN ('waiting', 'working')"),
    ),
    Index("ix_orders_kind", "kind", "id"),
)

# Settings changed while the buffer runs, over those of the file.
overrides = Table(
    "overrides",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", JSON, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("actor", Text, nullable=False),
)

# What people wrote at a received invoice.
remarks = Table(
    "remarks",
    metadata,
    Column("id", Key, primary_key=True),
    Column("incoming", Key, ForeignKey("incoming.id"), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("actor", Text, nullable=False),
    Column("kind", String(8), nullable=False),
    Column("text", Text, nullable=False),
    CheckConstraint("kind IN ('comment', 'tag')", name="kind"),
    Index("ix_remarks_incoming", "incoming", "id"),
    Index("ix_remarks_text", "text", sqlite_where=text("kind = 'tag'"), postgresql_where=text("kind = 'tag'")),
)

attachments = Table(
    "attachments",
    metadata,
    Column("id", Key, primary_key=True),
    Column("incoming", Key, ForeignKey("incoming.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("media_type", String(100), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("actor", Text, nullable=False),
    Index("ix_attachments_incoming", "incoming", "id"),
)

# Who has opened which received invoice.
reads = Table(
    "reads",
    metadata,
    Column("user_id", Key, ForeignKey("users.id"), primary_key=True),
    Column("incoming", Key, ForeignKey("incoming.id"), primary_key=True),
    Column("at", UtcTime, nullable=False),
)

# A received invoice that is in the books.
markings = Table(
    "markings",
    metadata,
    Column("incoming", Key, ForeignKey("incoming.id"), primary_key=True),
    Column("period", String(7), nullable=False),  # RRRR-MM
    Column("booked_at", UtcTime, nullable=False),
    Column("booked_by", Text, nullable=False),
    Index("ix_markings_period", "period", "incoming"),
)

# What lists of received invoices are filtered and sorted by: without it they would read through the invoices' bytes.
Index(
    "ix_incoming_narrow",
    models.incoming.c.id,
    models.incoming.c.folder,
    models.incoming.c.verdict,
    models.incoming.c.decision,
    models.incoming.c.issue_date,
    models.incoming.c.seller_nip,
)

event.listen(audit, "after_create", models._protect_events)
