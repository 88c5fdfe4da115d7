"""Figures for the first page: how the queue stands now, and what each of the last days brought. Changes nothing.

Nothing here goes through all the documents there are: what piles up for years is counted by index and within a range
of keys, what should be little is counted up to a bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, func, literal_column, select

from ksefbuffer.queue.finding import key_at
from ksefbuffer.queue.incoming import below
from ksefbuffer.queue.models import documents, incoming
from ksefbuffer.queue.states import State

# Beyond it a count says only "more".
MOST_COUNTED = 10_000


@dataclass(frozen=True)
class Standing:
    """The queue now. ``counts`` has every state but ``sent`` and stops at MOST_COUNTED; ``oldest`` and ``next_attempt``
    are aware; ``terms`` counts documents issued offline that KSeF does not have yet, ``first_term`` is when the
    first of their terms ends."""

    counts: dict[State, int]
    oldest: datetime | None
    oldest_id: str | None
    next_attempt: datetime | None
    terms: int
    first_term: datetime | None


def standing(tx: Connection) -> Standing:
    counts: dict[State, int] = {}
    for state in State:
        if state is not State.SENT:
            counts[state] = _capped(tx, _in(state))
    oldest: Any = None
    for state in (State.QUEUED, State.PROCESSING, State.FAILED):
        first = (
            select(documents.c.received_at, documents.c.document_id).where(_in(state)).order_by(documents.c.id).limit(1)
        )
        found = tx.execute(first).first()
        if found is not None and (oldest is None or found.received_at < oldest.received_at):
            oldest = found
    failing = select(documents.c.next_attempt_at).where(_in(State.FAILED)).limit(MOST_COUNTED).subquery()
    has_term = and_(documents.c.offline_mode.is_not(None), documents.c.ksef_number.is_(None))
    return Standing(
        counts=counts,
        oldest=oldest.received_at if oldest is not None else None,
        oldest_id=oldest.document_id if oldest is not None else None,
        next_attempt=tx.execute(select(func.min(failing.c.next_attempt_at))).scalar_one(),
        terms=_capped(tx, has_term, by="ix_documents_deadline"),
        first_term=tx.execute(
            select(documents.c.offline_deadline)
            .where(has_term, documents.c.offline_deadline.is_not(None))
            .order_by(documents.c.offline_deadline)
            .limit(1)
            .with_hint(documents, "INDEXED BY ix_documents_deadline", "sqlite")
        ).scalar(),
    )


def sent_between(tx: Connection, bounds: Sequence[datetime]) -> list[int]:
    """How many documents KSeF numbered from each bound to the next; one figure fewer than bounds, which ascend."""
    return [
        _count(tx, documents.c.accepted_at >= since, documents.c.accepted_at < until)
        for since, until in pairwise(bounds)
    ]


def still_refused(tx: Connection, bounds: Sequence[datetime]) -> list[int]:
    """Of the documents that came between the bounds: how many are in ``error`` now."""
    keys = [key_at(tx, documents, documents.c.received_at, bound) for bound in bounds]
    return [
        _count(tx, _in(State.ERROR), documents.c.id >= first, documents.c.id < last) for first, last in pairwise(keys)
    ]


def received_between(tx: Connection, bounds: Sequence[datetime], folders: Sequence[str] | None) -> list[int]:
    """How many invoices were received between the bounds, in these folders and below them; None means all. No folder
    may lie inside another."""
    keys = [key_at(tx, incoming, incoming.c.received_at, bound) for bound in bounds]
    if folders is None and keys[-1] - keys[0] <= _FEW:
        return [
            int(tx.execute(select(func.count()).select_from(incoming).where(*_within(first, last))).scalar_one())
            for first, last in pairwise(keys)
        ]
    of_days = [
        func.coalesce(func.sum(case((and_(*_within(first, last)), 1), else_=0)), 0) for first, last in pairwise(keys)
    ]
    counts = [0] * len(of_days)
    # The index of folders has the keys too: the invoices themselves need not be read. One range of it at a time, since
    # for "this or that" SQLite would go through all of it.
    for theirs in _in_folders(tx, folders):
        query = select(*of_days).where(theirs, *_within(keys[0], keys[-1]))
        row = tx.execute(query.with_hint(incoming, "INDEXED BY ix_incoming_folder", "sqlite")).one()
        counts = [count + int(more) for count, more in zip(counts, row, strict=True)]
    return counts


# So many rows are counted by key sooner than by a pass over all there are.
_FEW = 50_000


def _within(first: int, last: int) -> tuple[ColumnElement[bool], ...]:
    return incoming.c.id >= first, incoming.c.id < last


def _in_folders(tx: Connection, folders: Sequence[str] | None) -> list[ColumnElement[bool]]:
    """Conditions of which each invoice in the folders, or below, meets exactly one."""
    folder = incoming.c.folder
    if folders is None:
        return [folder >= ""]
    found: list[ColumnElement[bool]] = []
    for one in folders:
        found += [folder == one, below(tx, one)]
    return found


def _in(state: State) -> ColumnElement[bool]:
    return documents.c.state == literal_column(f"'{state}'")


def _count(tx: Connection, *conditions: ColumnElement[bool]) -> int:
    return int(tx.execute(select(func.count()).select_from(documents).where(*conditions)).scalar_one())


def _capped(tx: Connection, condition: ColumnElement[bool], *, by: str = "ix_documents_state") -> int:
    some = select(documents.c.id).where(condition).limit(MOST_COUNTED + 1)
    hinted = some.with_hint(documents, f"INDEXED BY {by}", "sqlite").subquery()
    return int(tx.execute(select(func.count()).select_from(hinted)).scalar_one())
