"""The tables. The schema is the specification: what must never happen is a constraint here, not a hope elsewhere."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    Date,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    event,
    text,
)

from ksefbuffer.queue.states import HOLDS_NUMBER, State


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC time, in and out. SQLite keeps no zone, so it gets and gives the UTC wall time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone reached the database")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Money(TypeDecorator[Decimal]):
    """An exact amount, kept as an integer of hundredths; what no invoice can hold becomes NULL, not a rounded lie."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> int | None:
        if value is None:
            return None
        try:
            hundredths = int((value * 100).to_integral_value(ROUND_HALF_UP))
        except (InvalidOperation, ValueError, OverflowError):
            return None
        return hundredths if abs(hundredths) < 2**63 else None

    def process_result_value(self, value: int | None, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value).scaleb(-2)


# SQLite numbers rows by itself only for INTEGER PRIMARY KEY.
Key = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _among(column: str, values: Any) -> str:
    return f"{column} IN ({', '.join(repr(str(value)) for value in sorted(values))})"


# One row: whose database this is. A buffer is bound to one NIP and one environment for life (CONTRACT §8).
buffer = Table(
    "buffer",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("nip", String(10), nullable=False),
    Column("environment", String(16), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)

# A KSeF session: opening → open → closing → done. Its AES key lives in the sender's memory alone.
sessions = Table(
    "sessions",
    metadata,
    Column("id", Key, primary_key=True),
    Column("reference", String(64), unique=True),
    Column("kind", String(8), nullable=False, server_default="online"),
    Column("form", String(16), nullable=False),
    Column("offline", Boolean, nullable=False, server_default=text("false")),
    Column("state", String(8), nullable=False),
    Column("opened_at", UtcTime, nullable=False),
    Column("valid_until", UtcTime),
    Column("last_used_at", UtcTime, nullable=False),
    Column("sends", Integer, nullable=False, server_default="0"),
    Column("closing_since", UtcTime),
    Column("closed_at", UtcTime),
    Column("next_look_at", UtcTime),
    Column("looks", Integer, nullable=False, server_default="0"),
    Column("status_code", Integer),
    Column("note", Text),
    CheckConstraint(_among("state", ("opening", "open", "closing", "done")), name="state"),
    CheckConstraint(_among("kind", ("online", "batch")), name="kind"),
    CheckConstraint("state IN ('opening', 'done') OR reference IS NOT NULL", name="reference"),
    Index(
        "ix_sessions_unfinished",
        "state",
        "next_look_at",
        sqlite_where=text("state <> 'done'"),
        postgresql_where=text("state <> 'done'"),
    ),
)

# An outgoing document: its bytes are ours from the commit that inserts the row.
documents = Table(
    "documents",
    metadata,
    Column("id", Key, primary_key=True),
    Column("document_id", String(36), nullable=False, unique=True),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("size", BigInteger, nullable=False),
    Column("content", LargeBinary),  # absent only for a refused file too large to be an invoice
    Column("form", String(32)),
    Column("invoice_number", Text),
    Column("invoice_type", String(32)),
    Column("issue_date", Date),
    Column("seller_nip", String(16)),
    Column("business_key", Text),
    Column("corrects", JSON, nullable=False),
    Column("state", String(12), nullable=False),
    Column("urgent", Boolean, nullable=False),
    Column("offline", Boolean, nullable=False),  # to be sent with offlineMode
    Column("corrects_sha256", String(64)),
    Column("judged_by_ksef", Boolean, nullable=False, server_default=text("false")),
    Column("session_id", Key, ForeignKey("sessions.id")),
    Column("invoice_reference", String(64)),
    Column("handed_at", UtcTime),
    Column("ksef_number", String(40), unique=True),
    Column("accepted_at", UtcTime),
    Column("invoicing_mode", String(16)),
    Column("adopted_session", String(64)),
    Column("upo", LargeBinary),
    Column("upo_due_at", UtcTime),
    Column("upo_attempts", Integer, nullable=False, server_default="0"),
    Column("verdict", JSON(none_as_null=True)),  # KSeF's word that still needs to be weighed (440, 500, 550)
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("resends", Integer, nullable=False, server_default="0"),
    Column("attachment", Boolean, nullable=False, server_default=text("false")),
    Column("batch_failures", Integer, nullable=False, server_default="0"),
    Column("next_attempt_at", UtcTime),
    Column("next_poll_at", UtcTime),
    Column("polls", Integer, nullable=False, server_default="0"),
    Column("waits_for", Text),
    Column("errors", JSON, nullable=False),
    Column("warnings", JSON, nullable=False),
    Column("received_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("online_only", Boolean, nullable=False, server_default=text("false")),  # its ERP wants no offline mode
    Column("offline_mode", String(20)),  # in which it was issued; from then on it has a term
    Column("offline_since", UtcTime),
    Column("offline_event", JSON(none_as_null=True)),  # what the mode came from, as it was known then
    Column("offline_deadline", UtcTime),
    Column("offline_term", Text),
    Column("certificate_url", Text),
    CheckConstraint(_among("state", State), name="state"),
    CheckConstraint("(state = 'sent') = (ksef_number IS NOT NULL)", name="sent_has_number"),
    CheckConstraint("state <> 'processing' OR session_id IS NOT NULL", name="processing_in_session"),
    CheckConstraint("state NOT IN ('queued', 'failed') OR session_id IS NULL", name="waiting_unbound"),
    CheckConstraint("state IN ('error', 'cancelled') OR content IS NOT NULL", name="bytes_kept"),
    CheckConstraint("state <> 'failed' OR next_attempt_at IS NOT NULL", name="failed_has_next"),
    Index(
        "uq_documents_business_key",
        "business_key",
        unique=True,
        sqlite_where=text(_among("state", HOLDS_NUMBER)),
        postgresql_where=text(_among("state", HOLDS_NUMBER)),
    ),
    Index(
        "ix_documents_waiting",
        "urgent",
        "id",
        sqlite_where=text("state IN ('failed', 'queued')"),
        postgresql_where=text("state IN ('failed', 'queued')"),
    ),
    Index(
        "ix_documents_processing",
        "session_id",
        "next_poll_at",
        sqlite_where=text("state = 'processing'"),
        postgresql_where=text("state = 'processing'"),
    ),
    Index(
        "ix_documents_upo_due",
        "upo_due_at",
        sqlite_where=text("upo_due_at IS NOT NULL"),
        postgresql_where=text("upo_due_at IS NOT NULL"),
    ),
    Index(
        "ix_documents_accepted",
        "accepted_at",
        sqlite_where=text("accepted_at IS NOT NULL"),
        postgresql_where=text("accepted_at IS NOT NULL"),
    ),
    Index(
        "ix_documents_deadline",
        "offline_deadline",
        sqlite_where=text("offline_mode IS NOT NULL AND ksef_number IS NULL"),
        postgresql_where=text("offline_mode IS NOT NULL AND ksef_number IS NULL"),
    ),
    Index(
        "ix_documents_corrects_sha256",
        "corrects_sha256",
        sqlite_where=text("corrects_sha256 IS NOT NULL"),
        postgresql_where=text("corrects_sha256 IS NOT NULL"),
    ),
    Index("ix_documents_state", "state", "id"),
    Index("ix_documents_kind", "invoice_type", "state", "id"),
    Index("ix_documents_invoice_number", "seller_nip", "invoice_number"),
)

# One way a document came to us; each is answered in its own place. The newest holder of a name is "current".
arrivals = Table(
    "arrivals",
    metadata,
    Column("id", Key, primary_key=True),
    Column("document", Key, ForeignKey("documents.id"), nullable=False),
    Column("connector", String(8), nullable=False),
    Column("place", Text, nullable=False),  # file name or row key, as it came
    Column("answer_name", Text, nullable=False),  # the stem of the answer's files, or the row key
    Column("reference", Text),
    Column("callback_url", Text),
    Column("arrived_at", UtcTime, nullable=False),
    CheckConstraint(_among("connector", ("folder", "table", "http")), name="connector"),
    Index("uq_arrivals_answer_name", "connector", "answer_name", unique=True),
    Index("ix_arrivals_document", "document"),
    Index(
        "ix_arrivals_reference",
        "reference",
        sqlite_where=text("reference IS NOT NULL"),
        postgresql_where=text("reference IS NOT NULL"),
    ),
)

# The outbox: what is still to be told. A row is due while wanted > told.
deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Key, primary_key=True),
    Column("arrival", Key, ForeignKey("arrivals.id"), nullable=False, unique=True),
    Column("wanted", Integer, nullable=False),
    Column("told", Integer, nullable=False),
    Column("due_at", UtcTime, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("last_error", Text),
    Column("urgent", Boolean, nullable=False, server_default=text("false")),
    CheckConstraint("told <= wanted", name="not_ahead"),
    Index(
        "ix_deliveries_due",
        "urgent",
        "due_at",
        sqlite_where=text("told < wanted"),
        postgresql_where=text("told < wanted"),
    ),
)

# The append-only log: every move of a document is one row here, written in the same commit.
events = Table(
    "events",
    metadata,
    Column("id", Key, primary_key=True),
    Column("document", Key, ForeignKey("documents.id"), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("event", String(16), nullable=False),
    Column("from_state", String(12)),
    Column("to_state", String(12), nullable=False),
    Column("actor", Text, nullable=False),
    Column("note", Text, nullable=False),
    Index("ix_events_document", "document", "id"),
)

# What holds the whole sender back, and until when; one row a reason.
pauses = Table(
    "pauses",
    metadata,
    Column("scope", String(32), primary_key=True),
    Column("since", UtcTime, nullable=False),
    Column("until", UtcTime, nullable=False),
    Column("step", Integer, nullable=False),
    Column("code", String(32), nullable=False),
    Column("message", Text, nullable=False),
    Column("action", Text, nullable=False),
)

# Every limited call to KSeF of the last hour, written before the call: a restart forgets none (FACTS §6).
calls = Table(
    "calls",
    metadata,
    Column("id", Key, primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("grp", String(64), nullable=False),
    Column("blocked_until", UtcTime),  # KSeF's own 429
    Index("ix_calls_at", "at"),
)

# Small facts the processes tell each other (last contact with KSeF, files the intake passes over).
facts = Table(
    "facts",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", JSON, nullable=False),
    Column("at", UtcTime, nullable=False),
)

# Rulebooks (TOML) as they were brought in; the newest one is in force.
rulebooks = Table(
    "rulebooks",
    metadata,
    Column("version", Integer, primary_key=True),
    Column("content", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("actor", Text, nullable=False),
    Column("note", Text, nullable=False),
)

# How far each role's invoices were pulled; ``position`` is KSeF's own text, whose seventh digit counts (FACTS §7.3).
cursors = Table(
    "cursors",
    metadata,
    Column("subject", String(16), primary_key=True),
    Column("position", Text, nullable=False),
    Column("due_at", UtcTime, nullable=False),
    Column("moved_at", UtcTime),
    Column("caught_up_at", UtcTime),
    Column("brought", Integer, nullable=False, server_default="0"),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("problem", Text),
    Column("rescans", JSON, nullable=False),
)

# An export that KSeF makes for us: its key must outlive the process, or the package is lost.
exports = Table(
    "exports",
    metadata,
    Column("id", Key, primary_key=True),
    Column("subject", String(16), nullable=False),
    Column("purpose", String(8), nullable=False),
    Column("date_type", String(24), nullable=False),
    Column("period_start", Text, nullable=False),
    Column("period_end", Text, nullable=False),
    Column("reference", String(64)),
    Column("secret", LargeBinary),
    Column("state", String(8), nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("next_look_at", UtcTime, nullable=False),
    Column("looks", Integer, nullable=False, server_default="0"),
    Column("brought", Integer, nullable=False, server_default="0"),
    Column("note", Text),
    CheckConstraint(_among("state", ("starting", "running", "done", "given_up")), name="state"),
    CheckConstraint(_among("purpose", ("pull", "rescan")), name="purpose"),
    CheckConstraint("state IN ('starting', 'given_up') OR reference IS NOT NULL", name="reference"),
    # A secret has no use once its package was taken.
    CheckConstraint("state IN ('starting', 'running') OR secret IS NULL", name="secret"),
    Index(
        "uq_exports_running",
        "subject",
        "purpose",
        unique=True,
        sqlite_where=text("state IN ('running', 'starting')"),
        postgresql_where=text("state IN ('running', 'starting')"),
    ),
)

# An invoice that KSeF holds for us: once by its number, whatever our roles in it; its bytes untouched.
incoming = Table(
    "incoming",
    metadata,
    Column("id", Key, primary_key=True),
    Column("ksef_number", String(40), nullable=False, unique=True),
    Column("sha256", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("meta", Text, nullable=False),  # KSeF's metadata, the JSON as given
    Column("roles", String(40), nullable=False),  # sorted, joined by commas
    Column("form", String(32)),
    Column("invoice_number", Text, nullable=False),
    Column("number_key", Text, nullable=False),
    Column("invoice_type", String(32), nullable=False),
    Column("issue_date", Date),
    Column("seller_nip", String(16), nullable=False),
    Column("seller_name", Text, nullable=False),
    Column("buyer_nip", String(16), nullable=False),
    Column("currency", String(8), nullable=False),
    Column("gross", Money),
    Column("invoiced_at", UtcTime),
    Column("acquired_at", UtcTime),
    Column("stored_at_ksef", Text, nullable=False),  # permanentStorageDate, KSeF's own text
    Column("mode", String(16), nullable=False),
    Column("damage", JSON, nullable=False),
    Column("likeness", String(64), nullable=False),
    Column("store", Text, nullable=False),
    Column("folder", Text, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("reasons", JSON, nullable=False),
    Column("rulebook", Integer, nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("fired", JSON, nullable=False),
    Column("decision", String(12)),
    Column("comment", Text),
    Column("decided_by", Text),
    Column("decided_at", UtcTime),
    Column("path", Text),  # where the file lies, below the incoming folder
    Column("file_due_at", UtcTime),
    Column("file_attempts", Integer, nullable=False, server_default="0"),
    Column("file_error", Text),
    Column("row_due_at", UtcTime),
    Column("row_attempts", Integer, nullable=False, server_default="0"),
    Column("row_error", Text),
    Column("search", Text, nullable=False),
    Column("received_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    CheckConstraint("decision IN ('accepted', 'rejected', 'scam')", name="decision"),
    CheckConstraint(_among("verdict", ("zasadna", "do wyjaśnienia", "niezasadna")), name="verdict"),
    Index("ix_incoming_folder", "folder", "id"),
    Index("ix_incoming_number", "seller_nip", "number_key"),
    Index("ix_incoming_likeness", "seller_nip", "likeness"),
    Index("ix_incoming_issue_date", "issue_date", "id"),
    Index("ix_incoming_sha256", "sha256"),
    Index("ix_incoming_stored_at_ksef", "stored_at_ksef", "ksef_number", "roles"),
    Index(
        "ix_incoming_file_due",
        "file_due_at",
        "id",
        sqlite_where=text("file_due_at IS NOT NULL"),
        postgresql_where=text("file_due_at IS NOT NULL"),
    ),
    Index(
        "ix_incoming_row_due",
        "row_due_at",
        "id",
        sqlite_where=text("row_due_at IS NOT NULL"),
        postgresql_where=text("row_due_at IS NOT NULL"),
    ),
)

# What a stored invoice is found again by: deliveries, accounts, invoices it corrects (by KSeF number; by the seller's
# own number as "original"), advances it settles.
incoming_keys = Table(
    "incoming_keys",
    metadata,
    Column("incoming", Key, ForeignKey("incoming.id"), primary_key=True),
    Column("kind", String(12), primary_key=True),
    Column("value", Text, primary_key=True),
    CheckConstraint(_among("kind", ("account", "advance", "corrected", "delivery", "original")), name="kind"),
    Index("ix_incoming_keys_value", "kind", "value"),
)

# Accounts on a seller's invoices that nobody has rejected, with the earliest of those: a new one is worth a warning.
seller_accounts = Table(
    "seller_accounts",
    metadata,
    Column("seller_nip", String(16), primary_key=True),
    Column("account", Text, primary_key=True),
    Column("first_at", UtcTime, nullable=False),
)

# The append-only story of a stored invoice.
incoming_events = Table(
    "incoming_events",
    metadata,
    Column("id", Key, primary_key=True),
    Column("incoming", Key, ForeignKey("incoming.id"), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("event", String(16), nullable=False),
    Column("actor", Text, nullable=False),
    Column("note", Text, nullable=False),
    Index("ix_incoming_events_incoming", "incoming", "id"),
)

# A certificate with its key, or a request for one. Keys are sealed by the vault before they get here; a request's key
# is here before KSeF is asked, so that no certificate is ever issued for a key that we lost.
credentials = Table(
    "credentials",
    metadata,
    Column("id", Key, primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("purpose", String(8), nullable=False),
    Column("source", String(12), nullable=False),
    Column("state", String(8), nullable=False),
    Column("sealed_key", LargeBinary),
    Column("request", LargeBinary),  # PKCS#10, DER
    Column("asked_at", UtcTime),  # set before the call: from then on KSeF may have the request
    Column("quota", Integer),  # how many requests KSeF still allowed just before
    Column("reference", String(64)),
    Column("certificate", Text),  # PEM
    Column("serial", String(40)),
    Column("subject", Text),
    Column("issuer", Text),
    Column("fingerprint", String(64)),
    Column("valid_from", UtcTime),
    Column("valid_to", UtcTime),
    Column("made_at", UtcTime, nullable=False),
    Column("proven_at", UtcTime),
    Column("ended_at", UtcTime),
    Column("next_step_at", UtcTime),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("note", Text),
    CheckConstraint(_among("purpose", ("auth", "offline")), name="purpose"),
    CheckConstraint(_among("source", ("import", "enrolment", "sandbox")), name="source"),
    CheckConstraint(_among("state", ("pending", "active", "replaced", "revoked", "rejected")), name="state"),
    CheckConstraint("state NOT IN ('pending', 'active') OR sealed_key IS NOT NULL", name="key_kept"),
    CheckConstraint("state NOT IN ('revoked', 'rejected') OR sealed_key IS NULL", name="key_gone"),
    CheckConstraint("state IN ('pending', 'rejected') OR certificate IS NOT NULL", name="certificate"),
    CheckConstraint("reference IS NULL OR asked_at IS NOT NULL", name="asked"),
    CheckConstraint("(asked_at IS NULL) = (quota IS NULL)", name="quota"),
    CheckConstraint("(certificate IS NULL) = (fingerprint IS NULL)", name="fingerprint"),
    CheckConstraint("(certificate IS NULL) = (valid_to IS NULL)", name="valid_to"),
    Index(
        "uq_credentials_active",
        "purpose",
        unique=True,
        sqlite_where=text("state = 'active'"),
        postgresql_where=text("state = 'active'"),
    ),
    Index(
        "uq_credentials_pending",
        "purpose",
        unique=True,
        sqlite_where=text("state = 'pending'"),
        postgresql_where=text("state = 'pending'"),
    ),
)

# What Latarnia has told, each notice once and for ever: it takes old ones off its board, but terms rest on them.
announcements = Table(
    "announcements",
    metadata,
    Column("id", Key, primary_key=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("message_id", String(100), nullable=False),
    Column("event_id", BigInteger, nullable=False),
    Column("category", String(50), nullable=False),
    Column("type", String(50), nullable=False),
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("start", UtcTime),
    Column("end", UtcTime),
    Column("version", BigInteger, nullable=False),
    Column("published", UtcTime),
    Column("seen_at", UtcTime, nullable=False),
)

# A person's word on the offline mode; the newest one counts, the older ones are the events that terms rest on.
declarations = Table(
    "declarations",
    metadata,
    Column("id", Key, primary_key=True),
    Column("mode", String(20)),  # NULL: none is in force
    Column("since", UtcTime, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("actor", Text, nullable=False),
    Column("note", Text, nullable=False),
)

# A printed page (PDF) beside an answer: to be made while ``due_at`` is set; ``sha256`` is that of the last one written.
answer_pages = Table(
    "answer_pages",
    metadata,
    Column("arrival", Key, ForeignKey("arrivals.id"), primary_key=True),
    Column("due_at", UtcTime),
    Column("urgent", Boolean, nullable=False),
    Column("asked", Integer, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("sha256", String(64)),
    Index(
        "ix_answer_pages_due",
        "urgent",
        "due_at",
        sqlite_where=text("due_at IS NOT NULL"),
        postgresql_where=text("due_at IS NOT NULL"),
    ),
)

# A printed page beside the file of a received invoice: a row while it is still to be made, or to be removed.
incoming_pages = Table(
    "incoming_pages",
    metadata,
    Column("incoming", Key, ForeignKey("incoming.id"), primary_key=True),
    Column("due_at", UtcTime, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Index("ix_incoming_pages_due", "due_at", "incoming"),
)

_FUNCTION = (
    "CREATE OR REPLACE FUNCTION events_append_only() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'events are append-only'; END $$"
)


def _append_only(table: str) -> dict[str, tuple[str, ...]]:
    return {
        "sqlite": tuple(
            f"CREATE TRIGGER {table}_no_{word} BEFORE {word.upper()} ON {table} "
            "BEGIN SELECT RAISE(ABORT, 'events are append-only'); END"
            for word in ("update", "delete")
        ),
        "postgresql": (
            f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION events_append_only()",
        ),
    }


# Words of stored invoices, by which they are found; kept in step by the database itself.
_SEARCH = {
    "sqlite": (
        "CREATE VIRTUAL TABLE incoming_search USING fts5(search, content='incoming', content_rowid='id', "
        "tokenize='unicode61 remove_diacritics 2', prefix='2 3 4')",
        "CREATE TRIGGER incoming_search_insert AFTER INSERT ON incoming BEGIN "
        "INSERT INTO incoming_search(rowid, search) VALUES (new.id, new.search); END",
        "CREATE TRIGGER incoming_search_update AFTER UPDATE OF search ON incoming BEGIN "
        "INSERT INTO incoming_search(incoming_search, rowid, search) VALUES ('delete', old.id, old.search); "
        "INSERT INTO incoming_search(rowid, search) VALUES (new.id, new.search); END",
    ),
    "postgresql": ("CREATE INDEX ix_incoming_search ON incoming USING gin (to_tsvector('simple', search))",),
}


@event.listens_for(events, "after_create")
@event.listens_for(incoming_events, "after_create")
def _protect_events(target: Table, connection: Connection, **_: Any) -> None:
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(_FUNCTION)
    _run(connection, _append_only(target.name))


@event.listens_for(incoming, "after_create")
def _make_searchable(_target: Table, connection: Connection, **_: Any) -> None:
    _run(connection, _SEARCH)


def _run(connection: Connection, statements: dict[str, tuple[str, ...]]) -> None:
    for statement in statements.get(connection.dialect.name, ()):
        connection.exec_driver_sql(statement)
