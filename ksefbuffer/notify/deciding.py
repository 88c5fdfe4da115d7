"""Which notices are due, from what is seen and what is remembered. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime

from ksefbuffer.notify import batched, ending, outages
from ksefbuffer.notify.shapes import (
    CERTIFICATE_EXPIRY,
    DEADLINE,
    DISK,
    DOCUMENT_ERROR,
    INCOMING,
    OUTAGE,
    Memory,
    Notice,
    Seen,
)


def decide(seen: Seen, memory: Memory, events: Collection[str], now: datetime) -> tuple[list[Notice], Memory]:
    """The notices due ``now`` (some may have been told before: key and level tell), and what to remember.

    An event that is watched for the first time, or again after a while without, starts from what there is now: no
    refused document and no received invoice of before is told, while a trouble that lasts is.
    """
    fresh = frozenset(events) - memory.watched
    memory = replace(
        memory,
        watched=frozenset(events),
        error_mark=seen.event_mark if DOCUMENT_ERROR in fresh else memory.error_mark,
        incoming_mark=seen.incoming_mark if INCOMING in fresh else memory.incoming_mark,
        episodes={} if OUTAGE in fresh or OUTAGE not in events else memory.episodes,
        disk_since=None if DISK in fresh or DISK not in events else memory.disk_since,
    )
    due: list[Notice] = []
    if DOCUMENT_ERROR in events and DOCUMENT_ERROR not in fresh:
        found, memory = batched.refused(seen, memory, now)
        due += found
    if INCOMING in events and INCOMING not in fresh:
        found, memory = batched.received(seen, memory, now)
        due += found
    if DEADLINE in events:
        due += ending.terms(seen.terms, now, first_look=DEADLINE in fresh)
    if CERTIFICATE_EXPIRY in events:
        due += ending.certificates(seen.endings, now, first_look=CERTIFICATE_EXPIRY in fresh)
    if OUTAGE in events:
        found, memory = outages.outages(seen, memory, now)
        due += found
    if DISK in events:
        found, memory = outages.disk(seen, memory, now)
        due += found
    return due, memory
