"""What holds the whole sender back. A destination's trouble is one row here, not an attempt of each document."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from sqlalchemy import Connection, delete, not_, select, update

from ksefbuffer.queue import deliveries
from ksefbuffer.queue.db import insert_or, log_after_commit
from ksefbuffer.queue.models import pauses

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pause:
    """``step`` counts the failures in a row; ``message`` and ``action`` are Polish."""

    scope: str
    since: datetime
    until: datetime
    step: int
    code: str
    message: str
    action: str


def pause(tx: Connection, scope: str, *, at: datetime, until: datetime, code: str, message: str, action: str) -> None:
    """Holds the sender until ``until``; the first row of a scope also tells every queued document's owner."""
    values = {"until": until, "code": code, "message": message, "action": action}
    first = insert_or(tx, pauses).values(scope=scope, since=at, step=1, **values).on_conflict_do_nothing()
    if tx.execute(first.returning(pauses.c.scope)).first() is not None:
        if scope != INCOMING:
            deliveries.want_for_queued(tx, at)
    else:
        tx.execute(update(pauses).where(pauses.c.scope == scope).values(step=pauses.c.step + 1, **values))
    log_after_commit(tx, log, "pause scope=%s until=%s code=%s", scope, until.isoformat(timespec="seconds"), code)


# Of a pause that ends when its work is done, not by the clock.
UNTIL_DONE = datetime(9999, 1, 1, tzinfo=UTC)
# The end of a scope that holds back ordinary singles alone.
ORDINARY = ":ordinary"
# The beginning of a scope that holds back batches alone.
BATCH = "batch"
# What holds back pulling alone; no document waits for it.
INCOMING = "incoming"
_FORGOTTEN_AFTER = timedelta(minutes=10)


class Lane(StrEnum):
    """Who asks whether it may go on: each is held back by its own limits, and by trouble with KSeF as a whole."""

    URGENT = "urgent"
    SINGLE = "single"
    BATCH = "batch"


def active(tx: Connection, now: datetime, lane: Lane | None = None) -> Pause | None:
    """The pause that lasts longest, of those that hold back a lane, or of all."""
    holding = (pauses.c.until > now, pauses.c.scope != INCOMING)
    query = select(pauses).where(*holding).order_by(pauses.c.until.desc()).limit(1)
    limits = pauses.c.scope.startswith("limit:")
    match lane:
        case Lane.URGENT:
            query = query.where(not_(pauses.c.scope.startswith(BATCH)), not_(pauses.c.scope.endswith(ORDINARY)))
        case Lane.SINGLE:
            query = query.where(not_(pauses.c.scope.startswith(BATCH)))
        case Lane.BATCH:
            query = query.where(not_(limits))
        case None:
            pass
    row = tx.execute(query).first()
    return Pause(**row._mapping) if row else None


def known(tx: Connection, scope: str) -> Pause | None:
    row = tx.execute(select(pauses).where(pauses.c.scope == scope)).first()
    return Pause(**row._mapping) if row else None


def over(tx: Connection, *scopes: str) -> None:
    """What held the sender back is gone."""
    gone = tx.execute(delete(pauses).where(pauses.c.scope.in_(scopes)))
    if gone.rowcount:
        log_after_commit(tx, log, "pause over scopes=%s", ",".join(scopes))


def expired(tx: Connection, now: datetime) -> list[str]:
    """Scopes to forget: limits whose time has come, and trouble with batches that nobody has tried again.

    Trouble with KSeF itself stays known until a send succeeds.
    """
    query = select(pauses.c.scope, pauses.c.until).where(pauses.c.until <= now)
    return [
        row.scope
        for row in tx.execute(query)
        if row.scope.startswith("limit:") or (row.scope.startswith(BATCH) and row.until <= now - _FORGOTTEN_AFTER)
    ]
