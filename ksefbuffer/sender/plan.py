"""What to do next with waiting documents and open sessions. Pure: rows in, one decision out.

Interactive sessions: one session serves many invoices of a form; it is closed when idle, when full, or well before its
12 hours end. Source: FACTS §4.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

INVOICES_IN_SESSION = 10_000
# An invoice sent in a session's last moments could meet a session that KSeF has just closed itself.
BEFORE_THE_END = timedelta(minutes=10)


@dataclass(frozen=True)
class Candidate:
    """A waiting document, in sending order. ``held``: it waits for another document."""

    id: int
    form: str
    held: bool = False


@dataclass(frozen=True)
class Opened:
    """A session that takes invoices; ``usable`` is False when its key is not in this process's memory."""

    id: int
    form: str
    sends: int
    last_used_at: datetime
    valid_until: datetime
    usable: bool = True


@dataclass(frozen=True)
class Send:
    document: int
    session: int


@dataclass(frozen=True)
class Open:
    form: str
    document: int


@dataclass(frozen=True)
class Close:
    session: int
    reason: str


@dataclass(frozen=True)
class Rest:
    """Nothing to do until ``until`` (None: until something new comes)."""

    until: datetime | None


Decision = Send | Open | Close | Rest


def plan(
    waiting: Sequence[Candidate],
    opened: Sequence[Opened],
    now: datetime,
    *,
    idle: timedelta,
    paused_until: datetime | None,
) -> Decision:
    """The next decision. Sessions past their use are closed first: that is what brings their invoices a final word."""
    for session in opened:
        reason = _why_close(session, now, idle, needed=any(c.form == session.form and not c.held for c in waiting))
        if reason:
            return Close(session.id, reason)
    candidate = next((c for c in waiting if not c.held), None)
    if candidate is None or (paused_until is not None and paused_until > now):
        ends = [session.last_used_at + idle for session in opened]
        if candidate is not None and paused_until is not None:
            ends.append(paused_until)
        return Rest(min(ends, default=None))
    session_id = next((session.id for session in opened if session.form == candidate.form), None)
    return Open(candidate.form, candidate.id) if session_id is None else Send(candidate.id, session_id)


def _why_close(session: Opened, now: datetime, idle: timedelta, *, needed: bool) -> str | None:
    if not session.usable:
        return "key lost"
    if session.sends >= INVOICES_IN_SESSION:
        return "full"
    if now >= session.valid_until - BEFORE_THE_END:
        return "near its end"
    if not needed and now >= session.last_used_at + idle:
        return "idle"
    return None
