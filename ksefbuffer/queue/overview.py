"""The one read model for the command line, and later for the page and the metrics. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, select

from ksefbuffer.queue import facts, terms
from ksefbuffer.queue.models import deliveries, documents, incoming, pauses, sessions
from ksefbuffer.queue.pauses import Pause
from ksefbuffer.queue.states import State
from ksefbuffer.queue.terms import Term

# KSeF takes seconds; what it has not judged by then is worth a person's knowledge, but never a second send (§4.3).
STUCK_AFTER = timedelta(minutes=30)


@dataclass(frozen=True)
class Overview:
    """One screen's worth. ``counts`` has every state; times are aware UTC; ``ksef`` is the last contact's outcome."""

    counts: dict[str, int]
    oldest_waiting: datetime | None
    next_attempt: datetime | None
    pauses: list[Pause]
    open_sessions: int
    stuck: int
    stuck_since: datetime | None
    answers_due: int
    answers_failing: int
    last_answer_error: str | None
    upos_due: int
    ksef: tuple[Any, datetime] | None
    passed_over: tuple[Any, datetime] | None
    table: tuple[Any, datetime] | None
    limits: tuple[Any, datetime] | None
    pull: tuple[Any, datetime] | None
    incoming_trouble: tuple[Any, datetime] | None
    recount: tuple[Any, datetime] | None
    hand_over: tuple[Any, datetime] | None
    filing: tuple[Any, datetime] | None
    notify: tuple[Any, datetime] | None
    mode: dict[str, Any] | None
    terms: list[Term]
    files_due: int
    file_error: str | None


def overview(tx: Connection, now: datetime) -> Overview:
    counts = dict.fromkeys(map(str, State), 0)
    for state, count in tx.execute(select(documents.c.state, func.count()).group_by(documents.c.state)):
        counts[state] = count
    waiting = documents.c.state.in_([str(State.QUEUED), str(State.FAILED), str(State.PROCESSING)])
    due = deliveries.c.told < deliveries.c.wanted
    stuck = (documents.c.state == str(State.PROCESSING)) & (documents.c.handed_at < now - STUCK_AFTER)
    return Overview(
        counts=counts,
        oldest_waiting=tx.execute(select(func.min(documents.c.received_at)).where(waiting)).scalar_one(),
        next_attempt=tx.execute(
            select(func.min(documents.c.next_attempt_at)).where(documents.c.state == str(State.FAILED))
        ).scalar_one(),
        pauses=[Pause(**row._mapping) for row in tx.execute(select(pauses).order_by(pauses.c.until.desc()))],
        open_sessions=tx.execute(select(func.count()).where(sessions.c.state == "open")).scalar_one(),
        stuck=tx.execute(select(func.count()).where(stuck)).scalar_one(),
        stuck_since=tx.execute(select(func.min(documents.c.handed_at)).where(stuck)).scalar_one(),
        answers_due=tx.execute(select(func.count()).where(due)).scalar_one(),
        answers_failing=tx.execute(select(func.count()).where(due, deliveries.c.attempts > 0)).scalar_one(),
        last_answer_error=tx.execute(
            select(deliveries.c.last_error)
            .where(due, deliveries.c.attempts > 0)
            .order_by(deliveries.c.id.desc())
            .limit(1)
            # SQLite would rather walk back through every delivery there is than sort the few that are due.
            .with_hint(deliveries, "INDEXED BY ix_deliveries_due", "sqlite")
        ).scalar(),
        upos_due=tx.execute(select(func.count()).where(documents.c.upo_due_at.is_not(None))).scalar_one(),
        ksef=facts.get(tx, "ksef"),
        passed_over=facts.get(tx, "passed_over"),
        table=facts.get(tx, "table"),
        limits=facts.get(tx, "limits"),
        pull=facts.get(tx, "pull"),
        incoming_trouble=facts.get(tx, "incoming_trouble"),
        recount=facts.get(tx, "recount"),
        hand_over=facts.get(tx, "hand_over"),
        filing=facts.get(tx, "filing_trouble"),
        notify=facts.get(tx, "notify"),
        mode=terms.told(tx),
        terms=terms.summary(tx),
        files_due=tx.execute(
            select(func.count()).select_from(incoming).where(incoming.c.file_due_at.is_not(None))
        ).scalar_one(),
        file_error=tx.execute(
            select(incoming.c.file_error)
            .where(incoming.c.file_due_at.is_not(None), incoming.c.file_attempts > 0)
            .order_by(incoming.c.file_due_at, incoming.c.id)
            .limit(1)
        ).scalar(),
    )
