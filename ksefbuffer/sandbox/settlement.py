"""What happens at KSeF while nobody looks: verdicts fall due, sessions end. Worked out at each call, from the clock.

Everything is dated when it fell due, not when it was noticed, so a rarely asked sandbox answers like a busy one.
"""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime, timedelta

from .bearer import Bearer
from .certificates import issue_due
from .instants import as_datetime
from .numbers import ksef_number
from .repository import add_sent, told_hwm
from .store import restored, stored
from .texts import UPLOAD_TIME_OVER
from .world import World

PACKAGE_LIFE = timedelta(days=7)
"""How long an export may be fetched, from when it was ready (FACTS §7.2)."""


def settle(world: World, now: datetime) -> None:
    """Brings invoices and sessions up to ``now``. Runs in the caller's transaction."""
    moment = stored(now)
    _fail_sessions(world, moment)
    _cancel_batches(world, moment)
    # Not the contents: a package's worth of them at once would fill the memory.
    for invoice in world.store.all(
        "SELECT reference, session, due_at, finding, finding_details, forced, details, business_key, seller"
        " FROM invoices WHERE code < 200 AND NOT stuck AND due_at <= ? ORDER BY due_at, seq",
        moment,
    ):
        _judge(world, invoice)
    _end_sessions(world, moment)
    _clear_exports(world, now)
    issue_due(world, now)


def _clear_exports(world: World, now: datetime) -> None:
    """The files of packages whose time is over go; what is known of them stays."""
    for export in world.store.all(
        "SELECT reference FROM exports WHERE NOT cleared AND ready_at <= ?", stored(now - PACKAGE_LIFE)
    ):
        world.shelf.clear(export["reference"])
        world.store.run("UPDATE exports SET cleared = 1 WHERE reference = ?", export["reference"])


def _fail_sessions(world: World, moment: str) -> None:
    """Sessions whose key did not open, or for which an end was ordered, end when they fall due."""
    for session in world.store.all(
        "SELECT * FROM sessions WHERE code < 200 AND (aes_key IS NULL OR forced IS NOT NULL) AND settles_at <= ?",
        moment,
    ):
        code, details = session["forced"] or 415, json.loads(session["details"])
        end_session(world, session["reference"], code, restored(session["settles_at"]), details)


def _cancel_batches(world: World, moment: str) -> None:
    """Batch sessions never closed: twelve hours are given, but only the upload time while a part is missing."""
    for session in world.store.all(
        "SELECT * FROM (SELECT s.reference, CASE WHEN EXISTS (SELECT 1 FROM parts p WHERE p.session = s.reference"
        " AND p.uploaded IS NULL) THEN min(b.upload_until, s.valid_until) ELSE s.valid_until END AS ends"
        " FROM batches b JOIN sessions s ON s.reference = b.session WHERE s.code = 100) WHERE ends <= ?",
        moment,
    ):
        end_session(world, session["reference"], 440, restored(session["ends"]), [UPLOAD_TIME_OVER])


def end_session(
    world: World, reference: str, code: int, at: datetime, details: list[str] | None = None
) -> None:  # fmt: skip
    """A session ends badly (or well, for 200 when ordered so): invoices not yet judged are cancelled with 405."""
    world.store.run(
        "UPDATE sessions SET code = ?, details = ?, updated_at = ?, forced = NULL WHERE reference = ?",
        code,
        json.dumps(details or [], ensure_ascii=False),
        stored(at),
        reference,
    )
    if code >= 400:
        world.store.run("UPDATE invoices SET code = 405 WHERE session = ? AND code < 200", reference)
    world.shelf.clear(reference)


def _judge(world: World, invoice: sqlite3.Row) -> None:
    code, details, extensions = int(invoice["finding"]), invoice["finding_details"], None
    original = None
    if invoice["forced"]:
        code, details = int(invoice["forced"]), invoice["details"]
    if code == 200:
        original = world.store.one(
            "SELECT session, ksef_number FROM invoices WHERE business_key = ? AND ksef_number IS NOT NULL",
            invoice["business_key"],
        )
    if original is not None:
        code = 440
        wrong = world.store.one("SELECT 1 FROM batches WHERE session = ? AND wrong_original", invoice["session"])
        details = json.dumps(
            [f"Duplikat faktury. Faktura o numerze KSeF: {original['ksef_number']} została już prawidłowo przesłana."],
            ensure_ascii=False,
        )
        extensions = json.dumps(
            {
                "originalSessionReferenceNumber": invoice["session"] if wrong else original["session"],
                "originalKsefNumber": original["ksef_number"],
            }
        )
    if code == 200:
        _accept(world, invoice)
    else:
        world.store.run(
            "UPDATE invoices SET code = ?, details = ?, extensions = ? WHERE reference = ?",
            code,
            details,
            extensions,
            invoice["reference"],
        )


def _accept(world: World, invoice: sqlite3.Row) -> None:
    acquired = restored(invoice["due_at"])
    # Written to the repository a moment after the number is given (FACTS §4.3), and never below a mark told.
    permanent = acquired + max(world.latency, timedelta(milliseconds=1))
    permanent = max(permanent, as_datetime(told_hwm(world)) + timedelta(microseconds=1))
    world.store.run(
        "UPDATE invoices SET code = 200, ksef_number = ?, acquired_at = ?, permanent_at = ? WHERE reference = ?",
        ksef_number(invoice["seller"], acquired, world.store.entropy(12)),
        stored(acquired),
        stored(permanent),
        invoice["reference"],
    )
    add_sent(world, invoice["reference"])


def _end_sessions(world: World, moment: str) -> None:
    # Batch sessions still at 100 by then were cancelled above.
    for session in world.store.all("SELECT * FROM sessions WHERE code = 100 AND valid_until <= ?", moment):
        close_session(world, session["reference"], restored(session["valid_until"]))
    for session in world.store.all(
        "SELECT * FROM sessions WHERE settles_at <= ? AND (code = 170 OR (code = 150"
        " AND reference IN (SELECT session FROM batches WHERE examined)))",
        moment,
    ):
        counts = world.store.one(
            "SELECT count(*) AS whole, coalesce(sum(code = 200), 0) AS good, coalesce(sum(code < 200), 0) AS pending,"
            " max(due_at) AS last FROM invoices WHERE session = ?",
            session["reference"],
        )
        if counts is None or counts["pending"]:
            continue
        code = 440 if not counts["whole"] else 200 if counts["good"] else 445
        at = restored(max(session["settles_at"], counts["last"] or ""))
        reference = world.store.new_reference("EU", at) if code == 200 else None
        world.store.run(
            "UPDATE sessions SET code = ?, updated_at = ?, upo_reference = ? WHERE reference = ?",
            code,
            stored(at),
            reference,
            session["reference"],
        )


def nip_of(session: sqlite3.Row) -> str:
    """The NIP behind a session's context."""
    bearer = Bearer("", "", session["context_type"], session["context_value"])
    return bearer.nip


def close_session(world: World, reference: str, at: datetime) -> None:
    """By request, or by itself when its twelve hours are over."""
    world.store.run(
        "UPDATE sessions SET code = 170, closed_at = ?, updated_at = ?, settles_at = ? WHERE reference = ?",
        stored(at),
        stored(at),
        stored(at + world.latency),
        reference,
    )


def release(world: World, now: datetime) -> int:
    """Lets stuck invoices, batch sessions, exports and enrolments go on, as of now; returns how many."""
    moment = stored(now)
    invoices = world.store.run(
        "UPDATE invoices SET stuck = 0, due_at = max(due_at, ?) WHERE stuck AND code < 200", moment
    )
    world.store.run(
        "UPDATE sessions SET settles_at = max(settles_at, ?) WHERE code = 150"
        " AND reference IN (SELECT session FROM batches WHERE stuck)",
        moment,
    )
    exports = world.store.run("UPDATE exports SET stuck = 0, due_at = max(due_at, ?) WHERE stuck", moment)
    exports += world.store.run("UPDATE enrollments SET stuck = 0, due_at = max(due_at, ?) WHERE stuck", moment)
    return invoices + exports + world.store.run("UPDATE batches SET stuck = 0 WHERE stuck")
