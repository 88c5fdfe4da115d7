"""What the page asks the worker to do, as it has neither keys nor KSeF.

::

    waiting ──take──► working ──finish──► done
       └──────── fail / expire ─────────► failed

The payload is sealed for the worker's letterbox and is gone once the order has ended.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from ksefbuffer.queue.db import log_after_commit
from ksefbuffer.queue.models import cursors
from ksefbuffer.queue.web_models import orders

log = logging.getLogger(__name__)

# Nobody looks at the page for longer; a worker that starts later must not surprise people by what they gave up.
TAKEN_WITHIN = timedelta(minutes=2)
KEPT_FOR = timedelta(days=30)
_NOT_TAKEN = {
    "message": "Bufor nie odebrał tego polecenia: prawdopodobnie nie pracuje.",
    "action": "Sprawdź, czy działa usługa ksefbuffer (ksefbuffer status), i powtórz polecenie.",
}


@dataclass(frozen=True)
class Order:
    """``state``: waiting, working, done, failed. ``result`` of a failed one: ``message`` and ``action`` in Polish; of
    one at work, what is known so far. ``payload`` is sealed, and None once it has ended."""

    id: int
    at: datetime
    kind: str
    payload: bytes | None = field(repr=False)
    state: str
    result: dict[str, Any] | None = field(repr=False)
    actor: str
    done_at: datetime | None

    @property
    def ended(self) -> bool:
        return self.state in ("done", "failed")


def place(tx: Connection, kind: str, payload: bytes, *, actor: str, at: datetime) -> int:
    """A new order; returns its number."""
    values = {"at": at, "kind": kind, "payload": payload, "state": "waiting", "actor": actor}
    made = int(tx.execute(insert(orders).values(**values).returning(orders.c.id)).scalar_one())
    log_after_commit(tx, log, "order=%s kind=%s actor=%s placed", made, kind, actor)
    return made


def order(tx: Connection, number: int) -> Order | None:
    row = tx.execute(select(orders).where(orders.c.id == number)).first()
    return Order(**row._mapping) if row else None


def latest(tx: Connection, kind: str, *, actor: str | None = None) -> Order | None:
    """The newest order of a kind, whatever became of it; with ``actor`` the newest of theirs."""
    query = select(orders).where(orders.c.kind == kind).order_by(orders.c.id.desc()).limit(1)
    row = tx.execute(query if actor is None else query.where(orders.c.actor == actor)).first()
    return Order(**row._mapping) if row else None


def unfinished(tx: Connection) -> list[Order]:
    """The oldest first."""
    query = select(orders).where(orders.c.state.in_(["waiting", "working"])).order_by(orders.c.id)
    return [Order(**row._mapping) for row in tx.execute(query)]


def take(tx: Connection, number: int) -> bool:
    """The worker begins with it; False when it is not waiting any more."""
    return _move(tx, number, ("waiting",), state="working")


def progress(tx: Connection, number: int, result: dict[str, Any]) -> bool:
    """What is known of an order at work."""
    return _move(tx, number, ("working",), result=result)


def finish(tx: Connection, number: int, result: dict[str, Any], *, at: datetime) -> bool:
    log_after_commit(tx, log, "order=%s done", number)
    return _move(tx, number, ("working",), state="done", result=result, payload=None, done_at=at)


def fail(tx: Connection, number: int, message: str, action: str, *, at: datetime) -> bool:
    """``message`` and ``action`` are Polish: what happened, what to do."""
    log_after_commit(tx, log, "order=%s failed", number)
    told = {"message": message, "action": action}
    return _move(tx, number, ("waiting", "working"), state="failed", result=told, payload=None, done_at=at)


def expire(tx: Connection, now: datetime) -> int:
    """Orders that no worker took in time come to nothing, and their payloads are gone; old ones are forgotten."""
    late = (orders.c.state == "waiting", orders.c.at < now - TAKEN_WITHIN)
    ended = tx.execute(
        update(orders).where(*late).values(state="failed", result=_NOT_TAKEN, payload=None, done_at=now)
    ).rowcount
    tx.execute(delete(orders).where(orders.c.state.in_(["done", "failed"]), orders.c.done_at < now - KEPT_FOR))
    return ended


def any_late(tx: Connection, now: datetime) -> bool:
    """Whether ``expire`` has something to end."""
    query = select(orders.c.id).where(orders.c.state == "waiting", orders.c.at < now - TAKEN_WITHIN).limit(1)
    return tx.execute(query).first() is not None


def wipe(tx: Connection, number: int, key: str) -> None:
    """Forgets one part of a result that was for one look."""
    row = tx.execute(select(orders.c.result).where(orders.c.id == number)).first()
    if row is not None and row.result is not None and key in row.result:
        rest = {name: value for name, value in row.result.items() if name != key}
        tx.execute(update(orders).where(orders.c.id == number).values(result=rest))


def want_rescan(tx: Connection) -> None:
    """Every rescan of received invoices is due at once."""
    tx.execute(update(cursors).values(rescans={}))


def _move(tx: Connection, number: int, states: tuple[str, ...], **values: Any) -> bool:
    here = (orders.c.id == number, orders.c.state.in_(states))
    return tx.execute(update(orders).where(*here).values(**values)).rowcount == 1
