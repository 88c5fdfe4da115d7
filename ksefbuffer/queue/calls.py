"""The calls of the last hour, so that KSeF's limits hold over a restart. Source: FACTS §6."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from ksefbuffer.queue.models import calls


@dataclass(frozen=True)
class Call:
    """A limited call; ``blocked_until`` instead marks a 429 and the end of its Retry-After."""

    group: str
    at: datetime
    blocked_until: datetime | None


def note(tx: Connection, group: str, *, at: datetime, blocked_until: datetime | None = None) -> None:
    tx.execute(insert(calls).values(at=at, grp=group, blocked_until=blocked_until))


def since(tx: Connection, at: datetime) -> list[Call]:
    """What still counts: calls from ``at`` on, and 429s whose time is not over then."""
    query = select(calls.c.grp, calls.c.at, calls.c.blocked_until).order_by(calls.c.id)
    return [Call(*row) for row in tx.execute(query) if row.at >= at or (row.blocked_until or at) > at]


def forget_before(tx: Connection, at: datetime) -> None:
    tx.execute(delete(calls).where(calls.c.at < at, calls.c.blocked_until.is_(None) | (calls.c.blocked_until < at)))
