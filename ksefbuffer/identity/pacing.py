"""When to come again, and what to say meanwhile. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from ksefbuffer.errors import BufferFault, CallFault

RENEW_BEFORE = timedelta(days=30)
# A renewal that came to nothing has cost quota; it is not tried again for so long.
RENEW_AGAIN_AFTER = timedelta(days=7)
# A renewal that could not even begin has cost nothing.
BEGIN_AGAIN_AFTER = timedelta(hours=6)
# A request still on the wire arrives sooner than this, or never.
ARRIVES_WITHIN = timedelta(minutes=10)
GIVE_UP_FINDING_AFTER = timedelta(days=7)
CHECK_EVERY = timedelta(hours=24)
REFUSED_PAUSE = timedelta(hours=1)
PAUSES = tuple(timedelta(seconds=s) for s in (2, 2, 3, 5, 10, 30, 60, 300, 900, 3600))
FIND_PAUSES = tuple(timedelta(seconds=s) for s in (10, 30, 60, 300, 900, 3600, 6 * 3600))
TURN_PAUSES = FIND_PAUSES[:5]


def said(fault: BufferFault) -> str:
    """A fault for the row's note, with what KSeF itself said."""
    details = fault.details if isinstance(fault, CallFault) else ()
    told = [detail for detail in details if detail not in fault.message]
    return f"{fault} ({'; '.join(told)})" if told else str(fault)


def asked_pause(fault: BufferFault) -> timedelta:
    """The pause that KSeF asked for, or none."""
    asked_s = fault.retry_after_s if isinstance(fault, CallFault) else None
    return timedelta(seconds=asked_s or 0)


def nth(pauses: Sequence[timedelta], number: int) -> timedelta:
    """The pause after so many tries; the last one goes on for ever."""
    return pauses[min(number, len(pauses) - 1)]
