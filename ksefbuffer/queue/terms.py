"""Offline modes in the database: notices, a person's word, and the documents that were issued offline.

``offline`` of a document says how it is to be sent; ``offline_mode`` that it was issued in a mode, has a term and may
carry KOD II ("stamped"). What the modes and terms are is decided elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Connection, bindparam, case, func, insert, not_, select, update

from ksefbuffer.queue import deliveries, facts
from ksefbuffer.queue.corrections import is_replaced
from ksefbuffer.queue.db import insert_or, log_after_commit
from ksefbuffer.queue.documents import HAS_TERM, NEVER_SENT
from ksefbuffer.queue.models import announcements, declarations, documents
from ksefbuffer.queue.states import WAITING, State

log = logging.getLogger(__name__)

MODE = "mode"
"""The fact that says which mode is in force."""

_UNNUMBERED = sorted([*WAITING, State.PROCESSING])


class Notice(Protocol):
    """One of Latarnia's messages; moments are aware or None."""

    @property
    def id(self) -> str: ...
    @property
    def event_id(self) -> int: ...
    @property
    def category(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def start(self) -> datetime | None: ...
    @property
    def end(self) -> datetime | None: ...
    @property
    def version(self) -> int: ...
    @property
    def published(self) -> datetime | None: ...


@dataclass(frozen=True)
class KeptNotice:
    """A message as it was kept."""

    id: str
    event_id: int
    category: str
    type: str
    title: str
    text: str
    start: datetime | None
    end: datetime | None
    version: int
    published: datetime | None


def keep(tx: Connection, notices: Iterable[Notice], *, at: datetime) -> int:
    """Keeps notices that are new; returns how many were."""
    new = 0
    for one in notices:
        values = {
            "message_id": one.id,
            "event_id": one.event_id,
            "category": one.category,
            "type": one.type,
            "title": one.title,
            "text": one.text,
            "start": one.start,
            "end": one.end,
            "version": one.version,
            "published": one.published,
        }
        digest = hashlib.sha256(json.dumps(values, default=str, sort_keys=True).encode()).hexdigest()
        row = insert_or(tx, announcements).values(digest=digest, seen_at=at, **values).on_conflict_do_nothing()
        if tx.execute(row.returning(announcements.c.id)).first() is not None:
            new += 1
            log_after_commit(tx, log, "notice event=%s category=%s type=%s", one.event_id, one.category, one.type)
    return new


def kept(tx: Connection) -> list[KeptNotice]:
    """Every notice there ever was."""
    c = announcements.c
    query = select(
        c.message_id.label("id"),
        c.event_id,
        c.category,
        c.type,
        c.title,
        c.text,
        c.start,
        c.end,
        c.version,
        c.published,
    ).order_by(c.id)
    return [KeptNotice(**row._mapping) for row in tx.execute(query)]


@dataclass(frozen=True)
class Declared:
    """A person's word: from ``since`` on ``mode`` is in force, or with None that none is."""

    id: int
    mode: str | None
    since: datetime
    at: datetime
    actor: str
    note: str


def declare(tx: Connection, mode: str | None, *, since: datetime, at: datetime, actor: str, note: str = "") -> None:
    tx.execute(insert(declarations).values(mode=mode, since=since, at=at, actor=actor, note=note))
    log_after_commit(tx, log, "offline mode declared mode=%s actor=%s", mode, actor)


def declared(tx: Connection) -> list[Declared]:
    """Every word, oldest first."""
    return [Declared(**row._mapping) for row in tx.execute(select(declarations).order_by(declarations.c.id))]


@dataclass(frozen=True)
class Unstamped:
    """A document to be stamped."""

    id: int
    sha256: str
    seller_nip: str | None
    issue_date: date | None
    state: State
    received_at: datetime


def _unnumbered() -> ColumnElement[bool]:
    return documents.c.state.in_([str(state) for state in _UNNUMBERED])


def to_stamp(tx: Connection, *, all_waiting: bool, since: datetime | None = None, limit: int) -> list[Unstamped]:
    """Documents without a mode that are to get one: those meant to be issued offline, and with ``all_waiting`` every
    one that has no number (``since``: only those that came before), but for those whose ERP refuses it."""
    c = documents.c
    wanted: ColumnElement[bool] = c.offline.is_(True)
    if all_waiting:
        late = c.received_at <= since if since is not None else c.id.is_not(None)
        wanted = wanted | (c.online_only.is_(False) & late)
    query = (
        select(c.id, c.sha256, c.seller_nip, c.issue_date, c.state, c.received_at)
        .where(_unnumbered(), c.offline_mode.is_(None), wanted)
        .order_by(c.id)
        .limit(limit)
    )
    return [Unstamped(**{**row._mapping, "state": State(row.state)}) for row in tx.execute(query)]


def to_sign(tx: Connection, *, limit: int) -> list[Unstamped]:
    """Documents issued offline without KOD II, in a mode that has one: there was no certificate then."""
    c = documents.c
    query = (
        select(c.id, c.sha256, c.seller_nip, c.issue_date, c.state, c.received_at)
        .where(
            *HAS_TERM,
            _unnumbered(),
            c.certificate_url.is_(None),
            c.offline_mode != NEVER_SENT,
            c.seller_nip.is_not(None),
            c.issue_date.is_not(None),
        )
        .order_by(c.offline_deadline, c.id)
        .limit(limit)
    )
    return [Unstamped(**{**row._mapping, "state": State(row.state)}) for row in tx.execute(query)]


def sign(tx: Connection, signed: Sequence[tuple[int, str]], *, at: datetime) -> None:
    """KOD II (key, link) of documents that have none yet; their answers become due."""
    if not signed:
        return
    tx.execute(
        update(documents)
        .where(documents.c.id == bindparam("row_id"), documents.c.certificate_url.is_(None))
        .values(certificate_url=bindparam("link"), updated_at=at),
        [{"row_id": row, "link": link} for row, link in signed],
    )
    deliveries.want_all(tx, select(documents.c.id).where(documents.c.id.in_([row for row, _ in signed])), at)


@dataclass(frozen=True)
class Stamp:
    """What a document is issued with. ``event`` is what the mode came from, as evidence; ``term`` is for people."""

    id: int
    mode: str
    event: dict[str, Any] | None
    deadline: datetime | None
    term: str
    certificate_url: str | None
    waits_for: str | None = None


def stamp_all(tx: Connection, stamps: Sequence[Stamp], *, at: datetime) -> int:
    """Stamps documents that still have neither a mode nor a number; returns how many. Their answers become due."""
    stamped: list[int] = []
    for one in stamps:
        values: dict[str, Any] = {
            "offline": True,
            "offline_mode": one.mode,
            "offline_since": at,
            "offline_event": one.event,
            "offline_deadline": one.deadline,
            "offline_term": one.term,
            "certificate_url": one.certificate_url,
            "updated_at": at,
        }
        if one.waits_for is not None:
            values["waits_for"] = case(
                (documents.c.state == str(State.QUEUED), one.waits_for), else_=documents.c.waits_for
            )
        changed = tx.execute(
            update(documents)
            .where(documents.c.id == one.id, _unnumbered(), documents.c.offline_mode.is_(None))
            .values(**values)
        )
        if changed.rowcount:
            stamped.append(one.id)
    if stamped:
        deliveries.want_all(tx, select(documents.c.id).where(documents.c.id.in_(stamped)), at)
        log_after_commit(tx, log, "documents=%s issued offline mode=%s", len(stamped), stamps[0].mode)
    return len(stamped)


def unstamp(tx: Connection, row_id: int, *, at: datetime) -> None:
    """A person wants it sent after all: it has no mode any more (an invoice of a total failure)."""
    tx.execute(
        update(documents)
        .where(documents.c.id == row_id, documents.c.ksef_number.is_(None))
        .values(
            offline_mode=None,
            offline_deadline=None,
            offline_term=None,
            offline_event=None,
            waits_for=None,
            updated_at=at,
        )
    )
    deliveries.want(tx, row_id, at)


@dataclass(frozen=True)
class Stamped:
    """A document issued offline that has no number yet."""

    id: int
    mode: str
    since: datetime
    event: dict[str, Any] | None
    issue_date: date | None
    deadline: datetime | None
    term: str | None


def stamped(tx: Connection, *, after: int = 0, limit: int = 500) -> list[Stamped]:
    """Documents with a term, by key; refused ones too, since their duty goes on until they are corrected."""
    c = documents.c
    query = (
        select(c.id, c.offline_mode, c.offline_since, c.offline_event, c.issue_date, c.offline_deadline, c.offline_term)
        .where(*HAS_TERM, c.state != str(State.CANCELLED), not_(is_replaced()), c.id > after)
        .order_by(c.id)
        .limit(limit)
    )
    return [Stamped(*row) for row in tx.execute(query)]


def shift(tx: Connection, terms: Sequence[tuple[int, datetime | None, str]], *, at: datetime) -> None:
    """New terms (key, end, words) of documents issued offline; their answers become due."""
    if not terms:
        return
    tx.execute(
        update(documents)
        .where(documents.c.id == bindparam("row_id"), documents.c.ksef_number.is_(None))
        .values(offline_deadline=bindparam("ends"), offline_term=bindparam("words"), updated_at=at),
        [{"row_id": row, "ends": ends, "words": words} for row, ends, words in terms],
    )
    deliveries.want_all(tx, select(documents.c.id).where(documents.c.id.in_([row for row, _, _ in terms])), at)


@dataclass(frozen=True)
class Term:
    """Documents that share a mode and the end of a term (None: it has none yet, or there is no duty)."""

    mode: str
    deadline: datetime | None
    term: str
    count: int
    refused: int


def summary(tx: Connection) -> list[Term]:
    """What was issued offline and has no number, by the end of its term; the nearest first, those without last."""
    c = documents.c
    refused = func.sum(case((c.state == str(State.ERROR), 1), else_=0))
    query = (
        select(c.offline_mode, c.offline_deadline, func.min(c.offline_term), func.count(), refused)
        .where(*HAS_TERM, c.state != str(State.CANCELLED), not_(is_replaced()))
        .group_by(c.offline_mode, c.offline_deadline)
    )
    found = [Term(mode, ends, words or "", count, refused) for mode, ends, words, count, refused in tx.execute(query)]
    return sorted(found, key=lambda one: (one.deadline is None, one.deadline.timestamp() if one.deadline else 0.0))


def unanswered_since(tx: Connection) -> datetime | None:
    """Since when KSeF owes a number for a single send that it took."""
    query = select(func.min(documents.c.handed_at)).where(
        documents.c.state == str(State.PROCESSING),
        documents.c.verdict.is_(None),
        documents.c.invoice_reference.is_not(None),
    )
    since: datetime | None = tx.execute(query).scalar_one()
    return since


def told(tx: Connection) -> dict[str, Any] | None:
    """The mode in force, as the worker last told it."""
    known = facts.get(tx, MODE)
    return known[0] if known and isinstance(known[0], dict) else None
