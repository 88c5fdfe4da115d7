"""What the sandbox remembers: one SQLite database, a file when a state path is given, else memory.

Every answer is given after a commit, so what was answered survives a ``kill -9`` of the sandbox.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .numbers import reference

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS keys (
    position INTEGER PRIMARY KEY, public_key_id TEXT NOT NULL UNIQUE, usage TEXT NOT NULL, private_pem BLOB NOT NULL,
    certificate BLOB NOT NULL, valid_from TEXT NOT NULL, valid_to TEXT NOT NULL, withdrawn INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS challenges (
    challenge TEXT PRIMARY KEY, milliseconds INTEGER NOT NULL, issued_at TEXT NOT NULL,
    used INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS logins (
    reference TEXT PRIMARY KEY, seq INTEGER NOT NULL, context_type TEXT NOT NULL, context_value TEXT NOT NULL,
    method TEXT NOT NULL, proof TEXT NOT NULL, started_at TEXT NOT NULL, due_at TEXT NOT NULL,
    verdict INTEGER NOT NULL, detail TEXT, redeemed INTEGER NOT NULL DEFAULT 0, revoked INTEGER NOT NULL DEFAULT 0,
    refreshed_at TEXT, refresh_until TEXT, allowed_ips TEXT NOT NULL DEFAULT '[]');
CREATE TABLE IF NOT EXISTS tokens (
    reference TEXT PRIMARY KEY, sha256 TEXT NOT NULL UNIQUE, nip TEXT NOT NULL, revoked INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS grants (
    nip TEXT NOT NULL, subject_type TEXT NOT NULL, subject_value TEXT NOT NULL,
    PRIMARY KEY (nip, subject_type, subject_value)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessions (
    seq INTEGER PRIMARY KEY, reference TEXT NOT NULL UNIQUE, context_type TEXT NOT NULL, context_value TEXT NOT NULL,
    login TEXT NOT NULL, system_code TEXT NOT NULL, aes_key BLOB, iv BLOB NOT NULL, created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL, valid_until TEXT NOT NULL, closed_at TEXT, settles_at TEXT, code INTEGER NOT NULL,
    details TEXT NOT NULL DEFAULT '[]', forced INTEGER, upo_reference TEXT, upo BLOB);
CREATE INDEX IF NOT EXISTS sessions_unsettled ON sessions (code) WHERE code < 200;
CREATE TABLE IF NOT EXISTS batches (
    session TEXT PRIMARY KEY REFERENCES sessions (reference), file_size INTEGER NOT NULL, file_hash TEXT NOT NULL,
    compression TEXT NOT NULL, offline INTEGER NOT NULL, upload_until TEXT NOT NULL,
    examined INTEGER NOT NULL DEFAULT 0, stuck INTEGER NOT NULL DEFAULT 0, wrong_original INTEGER NOT NULL DEFAULT 0,
    ordered TEXT NOT NULL DEFAULT '[]') WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS parts (
    session TEXT NOT NULL REFERENCES batches (session), ordinal INTEGER NOT NULL, size INTEGER NOT NULL,
    sha256 TEXT NOT NULL, uploaded INTEGER, PRIMARY KEY (session, ordinal)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS invoices (
    seq INTEGER PRIMARY KEY, reference TEXT NOT NULL UNIQUE, session TEXT NOT NULL REFERENCES sessions (reference),
    ordinal INTEGER NOT NULL, sha256 TEXT NOT NULL, offline INTEGER NOT NULL, corrects TEXT, invoicing_at TEXT NOT NULL,
    due_at TEXT NOT NULL, code INTEGER NOT NULL, details TEXT NOT NULL DEFAULT '[]', extensions TEXT, content BLOB,
    facts TEXT NOT NULL, seller TEXT NOT NULL, number TEXT NOT NULL, business_key TEXT,
    finding INTEGER NOT NULL, finding_details TEXT NOT NULL, stuck INTEGER NOT NULL DEFAULT 0, forced INTEGER,
    ksef_number TEXT UNIQUE, acquired_at TEXT, permanent_at TEXT, mode TEXT, upo BLOB, file_name TEXT,
    UNIQUE (session, ordinal));
CREATE INDEX IF NOT EXISTS invoices_pending ON invoices (due_at) WHERE code < 200;
CREATE INDEX IF NOT EXISTS invoices_by_verdict ON invoices (session, code);
CREATE INDEX IF NOT EXISTS invoices_by_hash ON invoices (sha256);
CREATE UNIQUE INDEX IF NOT EXISTS invoices_accepted ON invoices (business_key) WHERE ksef_number IS NOT NULL;
CREATE TABLE IF NOT EXISTS repository (
    seq INTEGER PRIMARY KEY, ksef_number TEXT NOT NULL UNIQUE, visible_at INTEGER NOT NULL,
    permanent_at INTEGER NOT NULL, invoicing_at INTEGER NOT NULL, issued_at INTEGER NOT NULL, number TEXT NOT NULL,
    seller TEXT NOT NULL, buyer_kind TEXT NOT NULL, buyer_value TEXT NOT NULL, currency TEXT NOT NULL,
    mode TEXT NOT NULL, kind TEXT NOT NULL, form TEXT NOT NULL, self_invoicing INTEGER NOT NULL,
    attachment INTEGER NOT NULL, net REAL NOT NULL, vat REAL NOT NULL, gross REAL NOT NULL, listed INTEGER NOT NULL,
    metadata TEXT NOT NULL, content BLOB);
CREATE TABLE IF NOT EXISTS invoice_parties (
    subject TEXT NOT NULL, nip TEXT NOT NULL, permanent_at INTEGER NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (subject, nip, permanent_at, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS exports (
    reference TEXT PRIMARY KEY, context_type TEXT NOT NULL, context_value TEXT NOT NULL,
    aes_key BLOB, iv BLOB NOT NULL, compression TEXT NOT NULL, only_metadata INTEGER NOT NULL, date_type TEXT NOT NULL,
    hwm INTEGER, created_at TEXT NOT NULL, due_at TEXT NOT NULL, code INTEGER NOT NULL,
    details TEXT NOT NULL DEFAULT '[]', stuck INTEGER NOT NULL, metadata_first INTEGER NOT NULL,
    wrong_figures TEXT NOT NULL, wrong_invoices TEXT NOT NULL, polled_at TEXT, ready_at TEXT,
    cleared INTEGER NOT NULL DEFAULT 0, count INTEGER NOT NULL DEFAULT 0, size INTEGER NOT NULL DEFAULT 0,
    last_date TEXT, truncated INTEGER NOT NULL, chosen TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS exports_running ON exports (due_at) WHERE ready_at IS NULL;
CREATE INDEX IF NOT EXISTS exports_kept ON exports (ready_at) WHERE NOT cleared;
CREATE TABLE IF NOT EXISTS export_parts (
    export TEXT NOT NULL REFERENCES exports (reference), ordinal INTEGER NOT NULL, name TEXT NOT NULL,
    size INTEGER NOT NULL, sha256 TEXT NOT NULL, encrypted_size INTEGER NOT NULL, encrypted_sha256 TEXT NOT NULL,
    PRIMARY KEY (export, ordinal)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS deviations (
    id INTEGER PRIMARY KEY, at TEXT NOT NULL, operation TEXT NOT NULL, name TEXT NOT NULL, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS enrollments (
    seq INTEGER PRIMARY KEY, reference TEXT NOT NULL UNIQUE, subject_type TEXT NOT NULL, subject_value TEXT NOT NULL,
    name TEXT NOT NULL, kind TEXT NOT NULL, csr BLOB NOT NULL, data TEXT NOT NULL, valid_from TEXT,
    requested_at TEXT NOT NULL, due_at TEXT NOT NULL, code INTEGER NOT NULL DEFAULT 100,
    details TEXT NOT NULL DEFAULT '[]', stuck INTEGER NOT NULL DEFAULT 0, forced INTEGER, serial TEXT);
CREATE INDEX IF NOT EXISTS enrollments_pending ON enrollments (due_at) WHERE code = 100;
CREATE TABLE IF NOT EXISTS certificates (
    seq INTEGER PRIMARY KEY, serial TEXT NOT NULL UNIQUE, subject_type TEXT NOT NULL, subject_value TEXT NOT NULL,
    name TEXT NOT NULL, kind TEXT NOT NULL, der BLOB NOT NULL, spki TEXT NOT NULL, common_name TEXT NOT NULL,
    requested_at TEXT NOT NULL, valid_from TEXT NOT NULL, valid_to TEXT NOT NULL, revoked_at TEXT, gone_at TEXT,
    used_at TEXT);
CREATE INDEX IF NOT EXISTS certificates_by_subject ON certificates (subject_type, subject_value);
CREATE TABLE IF NOT EXISTS notices (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL, event INTEGER NOT NULL, version INTEGER NOT NULL,
    category TEXT NOT NULL, kind TEXT NOT NULL, title TEXT NOT NULL, text TEXT NOT NULL, starts_at TEXT NOT NULL,
    ends_at TEXT, published_at TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS invoices_correcting ON invoices (corrects) WHERE corrects IS NOT NULL;
"""

# Columns that came later than their table, for state files from before.
_LATER = (
    ("invoices", "file_name", "TEXT"),
    ("logins", "subject_type", "TEXT NOT NULL DEFAULT ''"),
    ("logins", "subject_value", "TEXT NOT NULL DEFAULT ''"),
    ("logins", "certificate", "BLOB"),
    ("tokens", "context_type", "TEXT NOT NULL DEFAULT 'Nip'"),
    ("tokens", "context_value", "TEXT NOT NULL DEFAULT ''"),
    ("tokens", "permissions", "TEXT NOT NULL DEFAULT ''"),
    ("tokens", "description", "TEXT NOT NULL DEFAULT ''"),
    ("tokens", "author_type", "TEXT NOT NULL DEFAULT 'Nip'"),
    ("tokens", "author_value", "TEXT NOT NULL DEFAULT ''"),
    ("tokens", "created_at", "TEXT NOT NULL DEFAULT ''"),
    ("tokens", "active_at", "TEXT NOT NULL DEFAULT ''"),
    ("tokens", "used_at", "TEXT"),
    ("tokens", "valid_until", "TEXT"),
    ("tokens", "revoked_at", "TEXT"),
    ("tokens", "failed", "INTEGER NOT NULL DEFAULT 0"),
    ("grants", "permissions", "TEXT NOT NULL DEFAULT ''"),
    ("grants", "granted_at", "TEXT NOT NULL DEFAULT ''"),
)


def stored(moment: datetime) -> str:
    """A moment as kept in the database: UTC, fixed width, so that text order is time order."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f+00:00")


def restored(text: str) -> datetime:
    return datetime.fromisoformat(text)


class Store:
    """The database and the counters in it. Not thread-safe: the sandbox's lock guards it."""

    def __init__(self, path: Path | None, seed: int | None) -> None:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self.db = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
        self.db.row_factory = sqlite3.Row
        if path is not None:
            self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = NORMAL")
        self.db.executescript(_SCHEMA)
        for table, column, kind in _LATER:
            if not self.all("SELECT 1 FROM pragma_table_info(?) WHERE name = ?", table, column):
                self.db.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
        # What came before contexts had types of their own.
        self.db.execute("UPDATE tokens SET context_value = nip WHERE context_value = ''")
        with self.transaction():
            # The seed is kept: a restarted sandbox must not hand out the same numbers again.
            self._seed = self.setting("seed", "" if seed is None else f"seed-{seed}") or self._new_seed()
            self._counter = int(self.setting("counter", "0"))

    def _new_seed(self) -> str:
        seed = secrets.token_hex(16)
        self.keep("seed", seed)
        return seed

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; commits at the end, rolls back when an exception leaves the block. Nests by joining."""
        if self.db.in_transaction:
            yield self.db
            return
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield self.db
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")

    def setting(self, key: str, default: str) -> str:
        """The kept value of ``key``; keeps ``default`` (unless empty) when there is none."""
        row = self.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        if row is not None:
            return str(row["value"])
        if default:
            self.keep(key, default)
        return default

    def keep(self, key: str, value: str) -> None:
        self.db.execute(
            "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (key, value),
        )

    def one(self, sql: str, *arguments: Any) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self.db.execute(sql, arguments).fetchone()
        return row

    def all(self, sql: str, *arguments: Any) -> list[sqlite3.Row]:
        return self.db.execute(sql, arguments).fetchall()

    def run(self, sql: str, *arguments: Any) -> int:
        """Executes and returns the number of rows changed."""
        return self.db.execute(sql, arguments).rowcount

    def entropy(self, digits: int) -> str:
        """Upper-case hex digits, never the same twice; repeatable when the sandbox has a seed."""
        self._counter += 1
        self.keep("counter", str(self._counter))
        return self._drawn(self._counter)[:digits]

    def entropies(self, count: int) -> list[str]:
        """So many times twelve digits of entropy, at once."""
        first = self._counter + 1
        self._counter += count
        self.keep("counter", str(self._counter))
        return [self._drawn(number)[:12] for number in range(first, first + count)]

    def _drawn(self, number: int) -> str:
        return hmac.new(self._seed.encode(), str(number).encode(), hashlib.sha256).hexdigest().upper()

    def secret(self, name: str) -> bytes:
        """A key for signing tokens or links, made once."""
        return bytes.fromhex(self.setting(f"secret-{name}", secrets.token_hex(32)))

    def new_reference(self, kind: str, at: datetime) -> str:
        return reference(kind, at, self.entropy(20))

    def close(self) -> None:
        self.db.close()
