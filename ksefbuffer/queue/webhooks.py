"""The outbox of webhooks. Rows are made due in the commit of the fact they tell; functions never commit.

Like answers (``deliveries``), a webhook tells of the document as it stands when it is told, so one row a destination is
enough: ``wanted`` counts the facts, ``told`` those already told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import ColumnElement, Connection, Select, and_, case, delete, func, insert, literal, select, update

from ksefbuffer.queue.db import insert_or
from ksefbuffer.queue.models import UtcTime, arrivals, documents
from ksefbuffer.queue.webhook_models import webhook_deliveries, webhook_targets

_AT_ONCE = 500
_pending = and_(webhook_deliveries.c.told < webhook_deliveries.c.wanted, webhook_deliveries.c.given_up_at.is_(None))


@dataclass(frozen=True)
class Due:
    """One document to be told of at one address; ``arrival`` None: an address of the settings."""

    id: int
    document: int
    arrival: int | None
    url: str
    origin: str
    wanted: int
    attempts: int
    failing_since: datetime | None


_due = select(
    webhook_deliveries.c.id,
    webhook_deliveries.c.document,
    webhook_deliveries.c.arrival,
    webhook_deliveries.c.url,
    webhook_deliveries.c.origin,
    webhook_deliveries.c.wanted,
    webhook_deliveries.c.attempts,
    webhook_deliveries.c.failing_since,
)


def origin_of(url: str) -> str:
    """Scheme, host and port: what is up or down as a whole. Never holds a login, a path or a query; "?" for what is no
    address."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        # Kept all the same: an ERP's mistake in it must not keep its invoice out.
        return "?"
    return f"{parts.scheme}://{parts.hostname or '?'}:{port}"[:300]


def key_of(url: str) -> str:
    return sha256(url.encode()).hexdigest()


def set_targets(tx: Connection, urls: Sequence[str], *, at: datetime) -> None:
    """The addresses told of every document that arrives from now on; what one no longer named was owed is dropped."""
    wanted = {key_of(url): url for url in urls}
    known = set(tx.execute(select(webhook_targets.c.url_sha256)).scalars())
    gone = sorted(known - wanted.keys())
    if gone:
        tx.execute(delete(webhook_targets).where(webhook_targets.c.url_sha256.in_(gone)))
        tx.execute(
            delete(webhook_deliveries).where(
                webhook_deliveries.c.arrival.is_(None), webhook_deliveries.c.url_sha256.in_(gone)
            )
        )
    new = [
        {"url_sha256": key, "url": url, "origin": origin_of(url), "since": at}
        for key, url in wanted.items()
        if key not in known
    ]
    if new:
        tx.execute(insert_or(tx, webhook_targets).on_conflict_do_nothing(), new)


def arrived(tx: Connection, document: int, arrival: int, callback_url: str | None, *, at: datetime) -> None:
    """A document came in, or came again in the same way: its callback address is the one given last."""
    mine = webhook_deliveries.c.arrival == arrival
    if callback_url is None:
        tx.execute(delete(webhook_deliveries).where(mine))
    else:
        values = _row(document, arrival, callback_url, at)
        changed = {
            "url": values["url"],
            "url_sha256": values["url_sha256"],
            "origin": values["origin"],
            **_one_more(at),
        }
        if not tx.execute(update(webhook_deliveries).where(mine).values(**changed)).rowcount:
            tx.execute(insert(webhook_deliveries).values(**values))
    _tell_targets(tx, [document], at)


def arrived_all(tx: Connection, new: Iterable[tuple[int, int, str | None]], *, at: datetime) -> None:
    """First arrivals of new documents: keys of document and arrival, and the callback address."""
    came = list(new)
    rows = [_row(document, arrival, url, at) for document, arrival, url in came if url is not None]
    if rows:
        tx.execute(insert(webhook_deliveries), rows)
    _tell_targets(tx, [document for document, _, _ in came], at)


def _tell_targets(tx: Connection, came: Sequence[int], at: datetime) -> None:
    targets = tx.execute(select(webhook_targets.c.url)).scalars().all()
    rows = [_row(document, None, url, at) for url in targets for document in dict.fromkeys(came)]
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        tx.execute(insert_or(tx, webhook_deliveries).on_conflict_do_nothing(), some)
    if targets:
        # Those that were there already are told again, as a folder is.
        known = and_(webhook_deliveries.c.document.in_(came), webhook_deliveries.c.arrival.is_(None))
        tx.execute(
            update(webhook_deliveries)
            .where(known, webhook_deliveries.c.told == webhook_deliveries.c.wanted)
            .values(**_one_more(at))
        )


def _row(document: int, arrival: int | None, url: str, at: datetime) -> dict[str, Any]:
    return {
        "document": document,
        "arrival": arrival,
        "url": url,
        "url_sha256": key_of(url),
        "origin": origin_of(url),
        "wanted": 1,
        "told": 0,
        "due_at": at,
    }


def _one_more(at: datetime) -> Mapping[str, Any]:
    row = webhook_deliveries.c
    already = (row.told < row.wanted) & (row.due_at < at) & row.given_up_at.is_(None)
    afresh = row.given_up_at.is_not(None) | (row.told == row.wanted)

    def kept(column: ColumnElement[Any], otherwise: Any) -> ColumnElement[Any]:
        return case((afresh, otherwise), else_=column)

    return {
        "wanted": row.wanted + 1,
        # What is due already keeps its place.
        "due_at": case((already, row.due_at), else_=literal(at, UtcTime)),
        "attempts": kept(row.attempts, 0),
        "failing_since": kept(row.failing_since, None),
        # A new fact is worth a new beginning, also where the last one was given up.
        "given_up_at": None,
    }


def want(tx: Connection, document: int, at: datetime) -> None:
    """One more fact about a document."""
    tx.execute(update(webhook_deliveries).where(webhook_deliveries.c.document == document).values(**_one_more(at)))


def want_all(tx: Connection, chosen: Select[int], at: datetime) -> None:
    """One more fact about each of many documents; ``chosen`` selects their keys."""
    tx.execute(update(webhook_deliveries).where(webhook_deliveries.c.document.in_(chosen)).values(**_one_more(at)))


def next_origin(tx: Connection, after: str) -> str | None:
    """The next place that something is owed, in alphabetical order; None behind the last one."""
    found: str | None = tx.execute(
        select(func.min(webhook_deliveries.c.origin)).where(_pending, webhook_deliveries.c.origin > after)
    ).scalar_one()
    return found


def due(tx: Connection, origin: str, now: datetime) -> Due | None:
    """What has waited longest of all that may be told there now."""
    query = (
        _due.where(_pending, webhook_deliveries.c.origin == origin, webhook_deliveries.c.due_at <= now)
        .order_by(webhook_deliveries.c.due_at, webhook_deliveries.c.id)
        .limit(1)
    )
    row = tx.execute(query).first()
    return Due(**row._mapping) if row else None


def next_due(tx: Connection, origin: str) -> datetime | None:
    """When the next one is to be told there."""
    found: datetime | None = tx.execute(
        select(func.min(webhook_deliveries.c.due_at)).where(_pending, webhook_deliveries.c.origin == origin)
    ).scalar_one()
    return found


def told(tx: Connection, delivery: Due) -> None:
    """The facts up to ``wanted`` were told; one that came meanwhile stays due."""
    tx.execute(
        update(webhook_deliveries)
        .where(webhook_deliveries.c.id == delivery.id)
        .values(told=delivery.wanted, attempts=0, failing_since=None, last_error=None)
    )


def not_told(tx: Connection, delivery: Due, *, error: str, since: datetime, again_at: datetime) -> None:
    """``since``: of the first failure in a row."""
    tx.execute(
        update(webhook_deliveries)
        .where(webhook_deliveries.c.id == delivery.id)
        .values(attempts=delivery.attempts + 1, last_error=error, failing_since=since, due_at=again_at)
    )


def give_up(tx: Connection, delivery: Due, *, error: str, since: datetime, at: datetime) -> None:
    """Not tried again until there is something new to tell. A fact that came meanwhile stays due."""
    tx.execute(
        update(webhook_deliveries)
        .where(webhook_deliveries.c.id == delivery.id, webhook_deliveries.c.wanted == delivery.wanted)
        .values(attempts=delivery.attempts + 1, last_error=error, failing_since=since, given_up_at=at)
    )


@dataclass(frozen=True)
class Standing:
    """How webhooks stand. ``last_error`` is Polish; it names a place, never a whole address."""

    due: int
    failing: int
    given_up: int
    last_error: str | None


# Counting a queue that nobody takes from must not take long itself.
_COUNTED_AT_MOST = 100_000


def standing(tx: Connection) -> Standing:
    """Counts stop at 100,000."""

    def count(*conditions: ColumnElement[bool]) -> int:
        some = select(webhook_deliveries.c.id).where(*conditions).limit(_COUNTED_AT_MOST).subquery()
        return int(tx.execute(select(func.count()).select_from(some)).scalar_one())

    troubled = webhook_deliveries.c.attempts > 0
    last = select(webhook_deliveries.c.last_error).where(_pending, troubled)
    return Standing(
        due=count(_pending),
        failing=count(_pending, troubled),
        given_up=count(webhook_deliveries.c.given_up_at.is_not(None)),
        last_error=tx.execute(last.order_by(webhook_deliveries.c.id.desc()).limit(1)).scalar(),
    )


def of_document(tx: Connection, document: int) -> list[dict[str, Any]]:
    """Where a document is told of, for its page: origin, told, owed, the last error and when it was given up."""
    row = webhook_deliveries.c
    query = select(row.origin, row.arrival, row.wanted, row.told, row.attempts, row.last_error, row.given_up_at)
    return [dict(found._mapping) for found in tx.execute(query.where(row.document == document).order_by(row.id))]


def arrival_of(tx: Connection, delivery: Due) -> int | None:
    """The arrival whose source and reference the object names: its own, or the document's first."""
    if delivery.arrival is not None:
        return delivery.arrival
    found: int | None = tx.execute(
        select(func.min(arrivals.c.id)).where(arrivals.c.document == delivery.document)
    ).scalar_one()
    return found


_queued = select(documents.c.id).where(documents.c.state == "queued")


def want_for_queued(tx: Connection, at: datetime) -> None:
    """One more fact about every queued document: something now holds all of them back."""
    want_all(tx, _queued, at)
