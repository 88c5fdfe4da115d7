"""The book of invoices handed in, whichever way they came."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from datetime import datetime

from .examination import Examination
from .reading import InvoiceFacts
from .store import stored
from .world import World

OUT_OF_SIGHT = "9999-12-31T00:00:00.000000+00:00"
"""The due time of invoices whose package is still being examined: nobody sees them yet."""
IN_SIGHT = f"due_at < '{OUT_OF_SIGHT}'"


@dataclass(frozen=True)
class Verdict:
    """A status ordered by a fault, whatever the file is like."""

    code: int
    details: list[str]


def enter(
    world: World,
    examination: Examination | None,
    *,
    at: datetime,
    session: str,
    ordinal: int,
    sha256: str,
    offline: bool,
    invoicing_at: str,
    due_at: str,
    corrects: str | None = None,
    stuck: bool = False,
    forced: Verdict | None = None,
    file_name: str | None = None,
) -> str:
    """Enters an invoice and returns its reference. ``examination`` None: its session has no key to open it with.
    ``sha256`` is Base64; ``invoicing_at`` and ``due_at`` are as stored."""
    reference = world.store.new_reference("EE", at)
    facts = examination.facts if examination else InvoiceFacts()
    world.store.run(
        "INSERT INTO invoices (reference, session, ordinal, sha256, offline, corrects, invoicing_at, due_at, code,"
        " details, content, facts, seller, number, business_key, finding, finding_details, stuck, forced, mode,"
        " file_name) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 100, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        reference,
        session,
        ordinal,
        sha256,
        offline,
        corrects,
        invoicing_at,
        due_at,
        json.dumps(forced.details if forced else [], ensure_ascii=False),
        examination.content if examination else None,
        json.dumps(facts.as_dict(), ensure_ascii=False),
        facts.seller_nip,
        facts.number,
        examination.business_key if examination else None,
        examination.code if examination else 405,
        json.dumps(examination.details if examination else [], ensure_ascii=False),
        stuck,
        forced.code if forced else None,
        examination.mode if examination and examination.code == 200 else None,
        file_name,
    )
    return reference


def repetition(world: World, sha256: str) -> tuple[str, str] | None:
    """The deviation, if it is one, of handing in this file (hash in Base64) now: its name and a sentence."""
    row = world.store.one("SELECT max(code) AS code FROM invoices WHERE sha256 = ? AND code IN (100, 200)", sha256)
    if row is None or row["code"] is None:
        return None
    if row["code"] == 200:
        return "resend-accepted", "a file with this hash already has a KSeF number"
    return "double-send", "a file with this hash is still being processed"


def handed_in(world: World) -> list[sqlite3.Row]:
    """Everything in sight, in order."""
    return world.store.all(
        "SELECT i.ksef_number, i.sha256, i.seller, i.number, i.session, i.code, i.invoicing_at, s.context_value"  # noqa: S608
        f" FROM invoices i JOIN sessions s ON s.reference = i.session WHERE {IN_SIGHT} ORDER BY i.seq"
    )


def show(world: World, session: str, due_at: datetime) -> None:
    """The invoices of a package come into sight, to be judged when due."""
    world.store.run("UPDATE invoices SET due_at = ? WHERE session = ?", stored(due_at), session)


def strike_out(world: World, session: str) -> None:
    """Forgets what a package brought that was never judged."""
    world.store.run(f"DELETE FROM invoices WHERE session = ? AND NOT {IN_SIGHT}", session)  # noqa: S608 - our own text
