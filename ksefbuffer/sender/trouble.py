"""Trouble with the destination, not with a document: one pause for the whole sender, growing with each failure.

It burns no document's attempts.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from ksefbuffer.errors import Blocked, CallFault, RateLimited, Unauthorised, Unreachable
from ksefbuffer.invoice.findings import Finding
from ksefbuffer.queue import facts, pauses
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.pauses import Lane

SCOPE = "ksef"

# (first pause, longest pause), by what is wrong: a firewall or a refused login is not mended by knocking often.
_LENGTHS: dict[type[CallFault], tuple[timedelta, timedelta]] = {
    Unauthorised: (timedelta(minutes=1), timedelta(minutes=30)),
    Blocked: (timedelta(minutes=2), timedelta(minutes=30)),
    CallFault: (timedelta(seconds=2), timedelta(minutes=2)),
}


def length(fault: CallFault, failures: int) -> timedelta:
    """How long to leave KSeF alone after the ``failures``-th failure in a row (from 1); Retry-After is kept in full."""
    if isinstance(fault, RateLimited) and fault.retry_after_s is not None:
        return timedelta(seconds=fault.retry_after_s)
    first, longest = next(_LENGTHS[kind] for kind in type(fault).__mro__ if kind in _LENGTHS)
    own: timedelta = min(first * 2 ** min(failures - 1, 20), longest)
    return max(own, timedelta(seconds=fault.retry_after_s or 0))


def hold_back(database: Database, fault: CallFault, now: datetime, lane: Lane = Lane.URGENT) -> datetime:
    """Pauses the sender, or only the lane that met the fault; returns until when. Raises StorageFault.

    When an ordinary single met our own count of a limit, urgent ones still have their share of it. What goes wrong
    with batches alone leaves singles going, and the other way round.
    """
    scope = _scope(fault, lane)
    with database.transaction() as tx:
        known = pauses.known(tx, scope)
        until = now + length(fault, 1 if known is None else known.step + 1)
        pauses.pause(
            tx,
            scope,
            at=now,
            until=until,
            code=fault.code or type(fault).__name__,
            message=_message(fault),
            action=fault.action,
        )
        facts.put(tx, "ksef", {"ok": False, "message": fault.message, "action": fault.action}, at=now)
    return until


def _scope(fault: CallFault, lane: Lane) -> str:
    general = isinstance(fault, Unreachable | Unauthorised | Blocked)
    if lane is Lane.BATCH and not general:
        return f"{pauses.BATCH}:{fault.operation}" if isinstance(fault, RateLimited) else pauses.BATCH
    if not isinstance(fault, RateLimited):
        return SCOPE
    ordinary = lane is Lane.SINGLE and fault.http_status is None
    return f"limit:{fault.operation or 'ksef'}{pauses.ORDINARY if ordinary else ''}"


def _message(fault: CallFault) -> str:
    if isinstance(fault, RateLimited):
        return "limit wywołań KSeF; wysyłka wstrzymana do zwolnienia limitu"
    return f"przerwa w wysyłce: {fault.message}"


def finding(fault: CallFault) -> Finding:
    """The fault as an entry of a document's ``errors``."""
    return Finding(
        code=fault.code or (str(fault.http_status) if fault.http_status else type(fault).__name__),
        source="ksef" if fault.code or fault.http_status else "buffer",
        message=fault.message,
        hint=fault.action,
        details=fault.details,
    )
