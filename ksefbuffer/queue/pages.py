"""Printed pages (PDF) still to be made: beside answers, and beside the files of received invoices.

Both follow what they lie beside, so a row says only that a page is due. Functions take an open transaction and never
commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, literal, select, update

from ksefbuffer.queue.db import insert_or
from ksefbuffer.queue.deliveries import Arrival
from ksefbuffer.queue.incoming import FileDue
from ksefbuffer.queue.models import UtcTime, answer_pages, arrivals, deliveries, incoming, incoming_pages

_AT_ONCE = 300


# Beside answers


@dataclass(frozen=True)
class AnswerPage:
    """A page to be printed now; ``asked`` counts how often it was asked for, by which a later wish is known."""

    arrival: Arrival
    asked: int
    attempts: int


def want_for_answer(tx: Connection, arrival: int, *, at: datetime) -> None:
    """An answer was told, and its page is due (again). It is as urgent as its answer."""
    urgent = select(deliveries.c.urgent).where(deliveries.c.arrival == arrival).scalar_subquery()
    statement = insert_or(tx, answer_pages).values(arrival=arrival, due_at=at, urgent=urgent, asked=1)
    again = {"due_at": at, "asked": answer_pages.c.asked + 1, "attempts": 0}
    tx.execute(statement.on_conflict_do_update(index_elements=[answer_pages.c.arrival], set_=again))


def none_for_answer(tx: Connection, arrival: int) -> None:
    """There is nothing to print any more, and nothing lies there."""
    tx.execute(
        update(answer_pages)
        .where(answer_pages.c.arrival == arrival)
        .values(due_at=None, sha256=None, asked=answer_pages.c.asked + 1)
    )


def answer_due(tx: Connection, now: datetime) -> AnswerPage | None:
    """The page that has waited longest, of all that may be printed now; urgent ones first."""
    columns = [arrivals.c[name] for name in Arrival.__dataclass_fields__]
    query = (
        select(answer_pages.c.asked, answer_pages.c.attempts, *columns)
        .join(arrivals, answer_pages.c.arrival == arrivals.c.id)
        .where(answer_pages.c.due_at <= now)
        .order_by(answer_pages.c.due_at, answer_pages.c.arrival)
        .limit(1)
    )
    # Two questions in the order of the index, as for the answers.
    for urgent in (True, False):
        row = tx.execute(query.where(answer_pages.c.urgent.is_(urgent))).first()
        if row is not None:
            values = dict(row._mapping)
            return AnswerPage(asked=values.pop("asked"), attempts=values.pop("attempts"), arrival=Arrival(**values))
    return None


def is_still_asked(tx: Connection, page: AnswerPage) -> bool:
    """Whether nothing was told since, and its answer has the name it had."""
    query = (
        select(answer_pages.c.arrival)
        .join(arrivals, answer_pages.c.arrival == arrivals.c.id)
        .where(
            answer_pages.c.arrival == page.arrival.id,
            answer_pages.c.asked == page.asked,
            arrivals.c.answer_name == page.arrival.answer_name,
        )
    )
    return tx.execute(query).first() is not None


def answer_printed(tx: Connection, page: AnswerPage, sha256: str | None) -> None:
    """The page lies there (its SHA-256), or there cannot be one. To be told only while ``is_still_asked`` holds."""
    here = answer_pages.c.arrival == page.arrival.id
    tx.execute(update(answer_pages).where(here).values(due_at=None, attempts=0, sha256=sha256))


def answer_not_printed(tx: Connection, page: AnswerPage, *, again: datetime) -> None:
    """To be tried again then; a later wish stays due at once."""
    tx.execute(
        update(answer_pages)
        .where(answer_pages.c.arrival == page.arrival.id, answer_pages.c.asked == page.asked)
        .values(due_at=again, attempts=page.attempts + 1)
    )


def printed(tx: Connection, arrival: int) -> str | None:
    """The SHA-256 of the page that was last written beside this answer."""
    found: str | None = tx.execute(
        select(answer_pages.c.sha256).where(answer_pages.c.arrival == arrival)
    ).scalar_one_or_none()
    return found


def any_printed(tx: Connection) -> bool:
    """Whether pages were ever asked for beside answers."""
    return tx.execute(select(answer_pages.c.arrival).limit(1)).first() is not None


def next_answer(tx: Connection) -> datetime | None:
    """When the next page beside an answer is due."""
    due: datetime | None = tx.execute(
        select(func.min(answer_pages.c.due_at)).where(answer_pages.c.due_at.is_not(None))
    ).scalar_one()
    return due


# Beside the files of received invoices


@dataclass(frozen=True, repr=False)
class IncomingPage:
    """A page to be made, or to be removed, beside the file at ``facts.path``."""

    facts: FileDue
    attempts: int


def want_for_incoming(tx: Connection, row_ids: Iterable[int], *, at: datetime) -> None:
    """Pages of these invoices are due."""
    rows = [{"incoming": row_id, "due_at": at} for row_id in row_ids]
    if rows:
        statement = insert_or(tx, incoming_pages)
        again = {"due_at": statement.excluded.due_at, "attempts": 0}
        tx.execute(statement.on_conflict_do_update(index_elements=[incoming_pages.c.incoming], set_=again), rows)


def want_for_all_incoming(tx: Connection, *, at: datetime) -> None:
    """Printing was switched on, or off: every invoice with a file gets its page, or loses it."""
    tx.execute(delete(incoming_pages))
    filed = select(incoming.c.id, literal(at, UtcTime), literal(0)).where(incoming.c.path.is_not(None))
    tx.execute(insert(incoming_pages).from_select(["incoming", "due_at", "attempts"], filed))


def incoming_due(tx: Connection, now: datetime, *, limit: int, most_bytes: int) -> list[IncomingPage]:
    """The pages due first: up to ``limit``, and fewer (one at least) where the invoices' bytes are many."""
    columns = incoming.c
    first = (
        select(incoming_pages.c.incoming, columns.size)
        .join(incoming, incoming_pages.c.incoming == columns.id)
        .where(incoming_pages.c.due_at <= now)
        .order_by(incoming_pages.c.due_at, incoming_pages.c.incoming)
        .limit(limit)
    )
    keys: list[int] = []
    size = 0
    for row in tx.execute(first):
        if keys and size + row.size > most_bytes:
            break
        keys.append(row.incoming)
        size += row.size
    query = (
        select(
            columns.id,
            columns.ksef_number,
            columns.seller_nip,
            columns.invoice_number,
            columns.issue_date,
            columns.folder,
            columns.path,
            columns.content,
            columns.acquired_at,
            columns.mode,
            incoming_pages.c.attempts,
        )
        .join(incoming_pages, incoming_pages.c.incoming == columns.id)
        .where(columns.id.in_(keys))
        .order_by(incoming_pages.c.due_at, columns.id)
    )
    found = []
    for one in tx.execute(query):
        values: dict[str, Any] = dict(one._mapping)
        attempts = values.pop("attempts")
        found.append(IncomingPage(FileDue(**values), attempts))
    return found


def incoming_done(tx: Connection, row_ids: Iterable[int]) -> None:
    """These pages are as they should be, or cannot be made at all."""
    keys = list(row_ids)
    for start in range(0, len(keys), _AT_ONCE):
        tx.execute(delete(incoming_pages).where(incoming_pages.c.incoming.in_(keys[start : start + _AT_ONCE])))


def incoming_failed(tx: Connection, again: Mapping[int, datetime]) -> None:
    """By key: when to try again."""
    if again:
        statement = update(incoming_pages).where(incoming_pages.c.incoming == bindparam("its_id"))
        statement = statement.values(due_at=bindparam("its_due"), attempts=incoming_pages.c.attempts + 1)
        tx.execute(statement, [{"its_id": row_id, "its_due": due} for row_id, due in again.items()])


def next_incoming(tx: Connection) -> datetime | None:
    """When the next page beside a file is due."""
    due: datetime | None = tx.execute(select(func.min(incoming_pages.c.due_at))).scalar_one()
    return due
