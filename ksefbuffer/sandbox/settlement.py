"""What happens at KSeF while nobody looks: verdicts fall due, sessions end. Worked out at each call, from the clock.

Everything is dated when it fell due, not when it was noticed, so a rarely asked sandbox answers like a busy one.
"""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime, timedelta

from .numbers import ksef_number
from .store import restored, stored
from .world import World


def settle(world: World, now: datetime) -> None:
    """Brings invoices and sessions up to ``now``. Runs in the caller's transaction."""
    moment = stored(now)
    _fail_sessions(world, moment)
    for invoice in world.store.all(
        "SELECT * FROM invoices WHERE code < 200 AND NOT stuck AND due_at <= ? ORDER BY due_at, seq", moment
    ):
        _judge(world, invoice)
    _end_sessions(world, moment)


def _fail_sessions(world: World, moment: str) -> None:
    """Sessions whose key did not open, or for which an end was ordered, end when they fall due."""
    for session in world.store.all(
        "SELECT * FROM sessions WHERE code < 200 AND (aes_key IS NULL OR forced IS NOT NULL) AND settles_at <= ?",
        moment,
    ):
        end_session(world, session["reference"], session["forced"] or 415, restored(session["settles_at"]))


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
        details = json.dumps(
            [f"Duplikat faktury. Faktura o numerze KSeF: {original['ksef_number']} została już prawidłowo przesłana."],
            ensure_ascii=False,
        )
        extensions = json.dumps(
            {
                "originalSessionReferenceNumber": original["session"],
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
    world.store.run(
        "UPDATE invoices SET code = 200, ksef_number = ?, acquired_at = ?, permanent_at = ? WHERE reference = ?",
        ksef_number(invoice["seller"], acquired, world.store.entropy(12)),
        stored(acquired),
        # Written to the repository a moment after the number is given (FACTS §4.3).
        stored(acquired + max(world.latency, timedelta(milliseconds=1))),
        invoice["reference"],
    )


def _end_sessions(world: World, moment: str) -> None:
    for session in world.store.all("SELECT * FROM sessions WHERE code = 100 AND valid_until <= ?", moment):
        close_session(world, session["reference"], restored(session["valid_until"]))
    for session in world.store.all("SELECT * FROM sessions WHERE code = 170 AND settles_at <= ?", moment):
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


def close_session(world: World, reference: str, at: datetime) -> None:
    """By request, or by itself when its twelve hours are over."""
    world.store.run(
        "UPDATE sessions SET code = 170, closed_at = ?, updated_at = ?, settles_at = ? WHERE reference = ?",
        stored(at),
        stored(at),
        stored(at + world.latency),
        reference,
    )
