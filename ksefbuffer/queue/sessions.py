"""KSeF sessions as rows. A session's AES key is not here: it lives in the sender's memory and dies with it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, exists, func, insert, literal_column, select, update

from ksefbuffer.queue.db import log_after_commit
from ksefbuffer.queue.models import documents, sessions
from ksefbuffer.queue.states import State

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """``kind``: "online" or "batch"; ``state``: opening → open → closing → done; ``sends`` counts the invoices.

    A batch is "open" while its parts are uploaded; its close is what hands it in.
    """

    id: int
    reference: str | None
    kind: str
    form: str
    offline: bool
    state: str
    opened_at: datetime
    valid_until: datetime | None
    last_used_at: datetime
    sends: int
    closing_since: datetime | None
    closed_at: datetime | None
    next_look_at: datetime | None
    looks: int
    status_code: int | None
    note: str | None


# The condition of the index, written out: the database cannot infer it from a parameter, and would read every session.
_unfinished = sessions.c.state != literal_column("'done'")


def _session(row: Any) -> Session:
    return Session(**row._mapping)


def begin(tx: Connection, form: str, *, at: datetime, kind: str = "online", offline: bool = False) -> int:
    """A session about to be opened; returns its key."""
    row = {"kind": kind, "offline": offline, "form": form, "state": "opening", "opened_at": at, "last_used_at": at}
    return int(tx.execute(insert(sessions).values(**row).returning(sessions.c.id)).scalar_one())


def opened(tx: Connection, session_id: int, reference: str, valid_until: datetime, *, at: datetime) -> None:
    tx.execute(
        update(sessions)
        .where(sessions.c.id == session_id, sessions.c.state == "opening")
        .values(reference=reference, state="open", valid_until=valid_until, last_used_at=at)
    )
    log_after_commit(tx, log, "session=%s opened reference=%s", session_id, reference)


def abandon(tx: Connection, session_id: int, note: str) -> None:
    """Nothing was sent into it: it brought no reference, or it is a batch that was never closed."""
    tx.execute(
        update(sessions)
        .where(sessions.c.id == session_id, sessions.c.state.in_(["opening", "open"]))
        .values(state="done", note=note)
    )


def used(tx: Connection, session_id: int, *, at: datetime) -> None:
    tx.execute(update(sessions).where(sessions.c.id == session_id).values(last_used_at=at, sends=sessions.c.sends + 1))


def sent(tx: Connection, session_id: int, count: int) -> None:
    """How many invoices a batch holds."""
    tx.execute(update(sessions).where(sessions.c.id == session_id).values(sends=count))


def stop_using(tx: Connection, session_id: int, *, at: datetime, note: str) -> None:
    """No invoice goes into this session any more; it is to be closed at KSeF and reconciled."""
    changed = tx.execute(
        update(sessions)
        .where(sessions.c.id == session_id, sessions.c.state == "open")
        .values(state="closing", closing_since=at, next_look_at=at, looks=0, note=note)
    )
    if changed.rowcount:
        log_after_commit(tx, log, "session=%s closing reason=%s", session_id, note)


def closed(tx: Connection, session_id: int, *, at: datetime) -> None:
    tx.execute(update(sessions).where(sessions.c.id == session_id).values(closed_at=at, looks=0))


def look_again(tx: Connection, session_id: int, *, at: datetime, looks: int, status_code: int | None = None) -> None:
    values: dict[str, Any] = {"next_look_at": at, "looks": looks}
    if status_code is not None:
        values["status_code"] = status_code
    tx.execute(update(sessions).where(sessions.c.id == session_id).values(**values))


def look_at_next(tx: Connection, kind: str, *, at: datetime) -> None:
    """The oldest closing session is to be looked at now."""
    closing = unfinished(tx, "closing", kind=kind)
    if closing:
        tx.execute(update(sessions).where(sessions.c.id == closing[0].id).values(next_look_at=at))


def done(tx: Connection, session_id: int, *, status_code: int | None) -> None:
    tx.execute(
        update(sessions)
        .where(sessions.c.id == session_id)
        .values(state="done", next_look_at=None, status_code=status_code)
    )
    log_after_commit(tx, log, "session=%s done status=%s", session_id, status_code)


def get(tx: Connection, session_id: int) -> Session:
    return _session(tx.execute(select(sessions).where(sessions.c.id == session_id)).one())


def unfinished(tx: Connection, *states: str, kind: str | None = None) -> list[Session]:
    query = select(sessions).where(sessions.c.state.in_(states), _unfinished).order_by(sessions.c.id)
    if kind is not None:
        query = query.where(sessions.c.kind == kind)
    return [_session(row) for row in tx.execute(query)]


def to_close(tx: Connection, now: datetime, kind: str) -> Session | None:
    """A closing session that is to be looked at now."""
    row = tx.execute(
        select(sessions)
        .where(sessions.c.state == "closing", _unfinished, sessions.c.kind == kind, sessions.c.next_look_at <= now)
        .order_by(sessions.c.next_look_at)
        .limit(1)
    ).first()
    return _session(row) if row else None


def next_look(tx: Connection, kind: str) -> datetime | None:
    """When the next closing session is to be looked at."""
    due: datetime | None = tx.execute(
        select(func.min(sessions.c.next_look_at)).where(
            sessions.c.state == "closing", _unfinished, sessions.c.kind == kind
        )
    ).scalar_one()
    return due


def openings_lost(tx: Connection, *, since: datetime) -> list[datetime]:
    """When we asked for online sessions and never learned a reference."""
    query = select(sessions.c.opened_at).where(
        sessions.c.kind == "online",
        sessions.c.state == "done",
        sessions.c.reference.is_(None),
        sessions.c.opened_at >= since,
    )
    return list(tx.execute(query).scalars())


def references(tx: Connection, *, since: datetime) -> set[str]:
    """References of the sessions we know."""
    query = select(sessions.c.reference).where(sessions.c.reference.is_not(None), sessions.c.opened_at >= since)
    return {str(reference) for reference in tx.execute(query).scalars()}


def settled_references(tx: Connection) -> set[str]:
    """References of the sessions about which nothing is open any more."""
    query = select(sessions.c.reference).where(sessions.c.reference.is_not(None), sessions.c.state == "done")
    return {str(reference) for reference in tx.execute(query).scalars()}


def adopt(tx: Connection, reference: str, kind: str, form: str, *, opened_at: datetime) -> int:
    """The key of a session that KSeF told us of; one that we did not know is written down as done."""
    known: int | None = tx.execute(select(sessions.c.id).where(sessions.c.reference == reference)).scalar()
    if known is not None:
        return known
    row = {"kind": kind, "form": form, "state": "done", "opened_at": opened_at, "last_used_at": opened_at}
    note = "known from KSeF alone"
    query = insert(sessions).values(reference=reference, note=note, **row).returning(sessions.c.id)
    return int(tx.execute(query).scalar_one())


def has_unjudged(tx: Connection, session_id: int) -> bool:
    """Whether a document of the session still waits for KSeF's word."""
    return bool(
        tx.execute(
            select(
                exists().where(
                    documents.c.session_id == session_id,
                    documents.c.state == str(State.PROCESSING),
                    documents.c.verdict.is_(None),
                )
            )
        ).scalar_one()
    )
