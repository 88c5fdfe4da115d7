"""Lists for programs: pages by the key of the last one given, so that the millionth is as quick as the first.

Functions take an open transaction and change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Table, func, or_, select

from ksefbuffer.queue import deliveries
from ksefbuffer.queue import incoming as stored
from ksefbuffer.queue.deliveries import Arrival
from ksefbuffer.queue.documents import Document
from ksefbuffer.queue.documents import listing as documents_listing
from ksefbuffer.queue.incoming import Incoming
from ksefbuffer.queue.models import documents, incoming
from ksefbuffer.queue.states import State


@dataclass(frozen=True)
class Listed:
    """An outgoing document and how it first came."""

    document: Document
    arrival: Arrival | None


def outgoing(
    tx: Connection,
    *,
    states: Sequence[State] = (),
    since: datetime | None = None,
    limit: int,
    before: int | None = None,
) -> list[Listed]:
    """Newest first, those received since; ``before`` is the key of the last one already given."""
    found = documents_listing(tx, states=states, limit=limit, before=before)
    if since is not None:
        found = [document for document in found if document.received_at >= since]
    came = deliveries.first_arrivals(tx, [document.id for document in found])
    return [Listed(document, came.get(document.id)) for document in found]


def received(
    tx: Connection,
    *,
    folders: Sequence[str] | None,
    since: datetime | None = None,
    limit: int,
    after: int = 0,
) -> list[Incoming]:
    """Received invoices in the order of storing, those stored since, after the key ``after``.

    ``folders``: only in these and below them; None: in all; (): none.
    """
    if folders is not None and not folders:
        return []
    if since is not None:
        after = max(after, _last_before(tx, incoming, since))
    # Keys alone first: the index over folders holds them, and the rows are wide.
    query = select(incoming.c.id).where(incoming.c.id > after).order_by(incoming.c.id).limit(limit)
    if folders is not None:
        query = query.where(or_(*(_lies_in(tx, folder) for folder in folders)))
    return stored.some(tx, list(tx.execute(query).scalars()))


def _lies_in(tx: Connection, folder: str) -> ColumnElement[bool]:
    """A received invoice lies in a folder or below it; "" is above everything."""
    if not folder:
        return incoming.c.folder.is_not(None)
    return or_(incoming.c.folder == folder, stored.below(tx, folder))


def _last_before(tx: Connection, table: Table, since: datetime) -> int:
    """The key of the last row received before ``since``, 0 when there is none. Keys grow with the time of receipt, so
    a score of looks finds it, and no index over the time is needed."""
    low, high = 0, int(tx.execute(select(func.coalesce(func.max(table.c.id), 0))).scalar_one())
    while low < high:
        middle = (low + high + 1) // 2
        row = tx.execute(
            select(table.c.id, table.c.received_at).where(table.c.id <= middle).order_by(table.c.id.desc()).limit(1)
        ).first()
        if row is None or row.received_at < since:
            low = middle
        else:
            high = row.id - 1
    return low


@dataclass(frozen=True)
class Glimpse:
    """As much of a document as somebody who waits for it needs."""

    state: State
    next_attempt_at: datetime | None
    offline: bool
    online_only: bool
    offline_mode: str | None


def glimpses(tx: Connection, row_ids: Sequence[int]) -> dict[int, Glimpse]:
    """By key; for many documents at once."""
    query = select(
        documents.c.id,
        documents.c.state,
        documents.c.next_attempt_at,
        documents.c.offline,
        documents.c.online_only,
        documents.c.offline_mode,
    ).where(documents.c.id.in_(row_ids))
    return {
        row.id: Glimpse(State(row.state), row.next_attempt_at, row.offline, row.online_only, row.offline_mode)
        for row in tx.execute(query)
    }
