"""Trouble on the way to KSeF: pulling rests for a while, as a whole, longer with every failure. Sending goes on.

What only one group of limits refuses holds back nothing but what needs that group.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from ksefbuffer.errors import Blocked, CallFault, OutcomeUnknown, RateLimited, Refused, Unauthorised, Unavailable
from ksefbuffer.queue import pauses
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.pauses import INCOMING
from ksefbuffer.receiver.instants import WARSAW

# (first pause, longest pause): a firewall or a refused login is not mended by knocking often.
_LENGTHS: dict[type[CallFault], tuple[timedelta, timedelta]] = {
    Unauthorised: (timedelta(minutes=1), timedelta(minutes=30)),
    Blocked: (timedelta(minutes=2), timedelta(minutes=30)),
    CallFault: (timedelta(seconds=10), timedelta(minutes=5)),
}
# After so many answers that could not be used it is not the network.
DOUBTS = 3
_OF_ONE = frozenset({"21165", "21182"})
_UNTOLD_WAIT = timedelta(minutes=1)


def length(fault: CallFault, failures: int) -> timedelta:
    """How long to leave KSeF alone after the ``failures``-th failure in a row (from 1); Retry-After is kept in full."""
    first, longest = next(_LENGTHS[kind] for kind in type(fault).__mro__ if kind in _LENGTHS)
    own: timedelta = min(first * 2 ** min(failures - 1, 20), longest)
    return max(own, timedelta(seconds=fault.retry_after_s or 0))


def hold_back(database: Database, fault: CallFault, now: datetime) -> datetime:
    """Pauses all pulling; returns until when. Raises StorageFault."""
    with database.transaction() as tx:
        known = pauses.known(tx, INCOMING)
        until = now + length(fault, 1 if known is None else known.step + 1)
        pauses.pause(
            tx,
            INCOMING,
            at=now,
            until=until,
            code=fault.code or type(fault).__name__,
            message=f"przerwa w pobieraniu faktur: {fault.message}",
            action=fault.action,
        )
    return until


def over(tx: Any) -> None:
    """KSeF has answered."""
    if pauses.known(tx, INCOMING) is not None:
        pauses.over(tx, INCOMING)


def until(database: Database, now: datetime) -> datetime | None:
    """Until when pulling rests, if it does."""
    with database.reading() as tx:
        known = pauses.known(tx, INCOMING)
    return known.until if known is not None and known.until > now else None


def is_of_one(fault: CallFault, tries: int = 0) -> bool:
    """Whether it concerns what was asked for and not KSeF as a whole: refused, not there yet, too many exports; or an
    answer that could not be used, ``tries`` times in a row."""
    if isinstance(fault, Refused) or (isinstance(fault, Unavailable) and fault.code in _OF_ONE):
        return True
    return isinstance(fault, OutcomeUnknown) and tries >= DOUBTS


def wait_of(fault: RateLimited) -> timedelta:
    """How long KSeF, or our own count, wants us to wait."""
    return _UNTOLD_WAIT if fault.retry_after_s is None else timedelta(seconds=fault.retry_after_s)


def held_until(moment: datetime) -> str:
    """For people."""
    return f"wstrzymane do {moment.astimezone(WARSAW):%H:%M:%S} (limit wywołań KSeF)"
