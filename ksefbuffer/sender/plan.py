"""What to do next with waiting documents and open sessions. Pure: rows in, one decision out.

Two planners share the facts: ``plan`` sends singly, ``plan_batch`` hands in what singles would be too slow for.

Interactive sessions: one session serves many invoices of a form; it is closed when idle, when full, or well before its
12 hours end. Source: FACTS §4.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

INVOICES_IN_SESSION = 10_000
# An invoice sent in a session's last moments could meet a session that KSeF has just closed itself.
BEFORE_THE_END = timedelta(minutes=10)


@dataclass(frozen=True)
class Candidate:
    """A waiting document, in sending order. ``held``: it waits for another document."""

    id: int
    form: str
    held: bool = False
    urgent: bool = False


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
    urgent_paused_until: datetime | None = None,
    session_holds: int = INVOICES_IN_SESSION,
) -> Decision:
    """The next decision. ``urgent_paused_until`` is for urgent documents what ``paused_until`` is for all;
    ``session_holds`` is how many invoices KSeF takes into one session of ours.

    Sessions past their use are closed first: that is what brings their invoices a final word.
    """
    needed = {c.form for c in waiting if not c.held}
    for session in opened:
        reason = _why_close(session, now, idle, session_holds, needed=session.form in needed)
        if reason:
            return Close(session.id, reason)
    free = [c for c in waiting if not c.held]
    ends = {True: urgent_paused_until, False: paused_until}
    candidate = next((c for c in free if (ends[c.urgent] or now) <= now), None)
    if candidate is None:
        # A session kept for what waits out a pause is past its idle time, and that moment must not wake anybody again.
        wakes = [s.valid_until - BEFORE_THE_END if s.form in needed else s.last_used_at + idle for s in opened]
        wakes += [end for c in free if (end := ends[c.urgent]) is not None]
        return Rest(min(wakes, default=None))
    session_id = next((session.id for session in opened if session.form == candidate.form), None)
    return Open(candidate.form, candidate.id) if session_id is None else Send(candidate.id, session_id)


BATCH_AT_MOST = 10_000
# More keep coming: a heap of thousands goes as one batch, not as one for every commit of the intake. Even when it never
# stops, a batch a minute is within KSeF's 60 openings an hour (FACTS §6).
GATHERED_AFTER = timedelta(seconds=2)
GATHERS_AT_MOST = timedelta(minutes=1)
# Two lanes: ordinary documents leave this share of every limit to urgent ones and to questions about them.
ORDINARY_SHARE = 0.85
_WARSAW = ZoneInfo("Europe/Warsaw")


@dataclass(frozen=True)
class Heap:
    """Waiting documents that may share a batch. ``single_s``: how long the limits would hold them up, sent singly;
    ``newest``: when the last of them came (None: long ago)."""

    form: str
    offline: bool
    count: int
    attachments: int
    oldest: datetime
    single_s: float
    newest: datetime | None = None


@dataclass(frozen=True)
class HandIn:
    """Hand in the oldest ``count`` of a heap as one batch."""

    form: str
    offline: bool
    count: int


def plan_batch(
    heaps: Sequence[Heap], now: datetime, *, batch_from: int, batch_s: float, paused_until: datetime | None
) -> HandIn | Rest:
    """Which heap goes as a batch now. ``batch_s``: what a batch of that size has lately taken, opening to numbers.

    A batch is worth it when singles would take longer than the batch; from ``batch_from`` documents on (0: never),
    or from any number when the singles would not be through before Polish midnight, since an invoice dated today and
    sent tomorrow becomes an offline one (FACTS §10); attachments go in batches only. The oldest heap goes first, once
    no more come to it.
    """
    worth = [heap for heap in heaps if _worth_a_batch(heap, now, batch_from=batch_from, batch_s=batch_s)]
    if not worth:
        return Rest(None)
    if paused_until is not None and paused_until > now:
        return Rest(paused_until)
    gathering = {id(heap): until for heap in worth if (until := _gathers_until(heap, now)) is not None}
    ready = [heap for heap in worth if id(heap) not in gathering]
    if not ready:
        return Rest(min(gathering.values()))
    heap = min(ready, key=lambda heap: heap.oldest)
    return HandIn(heap.form, heap.offline, min(heap.count, BATCH_AT_MOST))


def batch_takes(heaps: Sequence[Heap], now: datetime, *, batch_from: int, batch_s: float) -> bool:
    """Whether ordinary documents are left to a batch, so that singles do not spend the limits beside it."""
    return any(_worth_a_batch(heap, now, batch_from=batch_from, batch_s=batch_s) for heap in heaps)


def _worth_a_batch(heap: Heap, now: datetime, *, batch_from: int, batch_s: float) -> bool:
    if heap.attachments:
        return True
    if batch_from == 0 or heap.single_s <= batch_s:
        return False
    return heap.count >= batch_from or heap.single_s >= seconds_to_midnight(now) > batch_s


def _gathers_until(heap: Heap, now: datetime) -> datetime | None:
    """Until when to wait for more to come; None when it is time. A clock set back makes nobody wait."""
    if heap.newest is None or heap.count >= BATCH_AT_MOST or heap.newest > now:
        return None
    if seconds_to_midnight(now) <= 2 * GATHERS_AT_MOST.total_seconds():
        return None
    until = min(heap.newest + GATHERED_AFTER, heap.oldest + GATHERS_AT_MOST)
    return until if until > now else None


def seconds_to_midnight(now: datetime) -> float:
    """Until the day ends in Poland."""
    local = now.astimezone(_WARSAW)
    midnight = datetime.combine(local.date() + timedelta(days=1), time(), _WARSAW)
    return (midnight - now).total_seconds()


def _why_close(session: Opened, now: datetime, idle: timedelta, session_holds: int, *, needed: bool) -> str | None:
    if not session.usable:
        return "key lost"
    if session.sends >= min(session_holds, INVOICES_IN_SESSION):
        return "full"
    if now >= session.valid_until - BEFORE_THE_END:
        return "near its end"
    if not needed and now >= session.last_used_at + idle:
        return "idle"
    return None
