"""Small facts that the buffer's processes tell each other; the last word wins."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, select

from ksefbuffer.queue.db import insert_or
from ksefbuffer.queue.models import facts


def put(tx: Connection, name: str, value: Any, *, at: datetime) -> None:
    statement = insert_or(tx, facts).values(name=name, value=value, at=at)
    tx.execute(statement.on_conflict_do_update(index_elements=[facts.c.name], set_={"value": value, "at": at}))


def get(tx: Connection, name: str) -> tuple[Any, datetime] | None:
    """The value and when it was told, or None."""
    row = tx.execute(select(facts.c.value, facts.c.at).where(facts.c.name == name)).first()
    return (row.value, row.at) if row else None


def forget(tx: Connection, name: str) -> None:
    tx.execute(delete(facts).where(facts.c.name == name))
