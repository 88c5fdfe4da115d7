"""Settings that staff changed on the page while the buffer runs; they go over the file's and the environment's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, select

from ksefbuffer.queue.db import insert_or
from ksefbuffer.queue.web_models import overrides


@dataclass(frozen=True)
class Override:
    """``key`` is "section.key"; ``value`` is as TOML would hold it, and may be a secret."""

    key: str
    value: Any = field(repr=False)
    at: datetime
    actor: str


def listed(tx: Connection) -> dict[str, Override]:
    """Every changed setting, by its key."""
    rows = tx.execute(select(overrides).order_by(overrides.c.key))
    return {row.key: Override(**row._mapping) for row in rows}


def values(tx: Connection) -> dict[str, Any]:
    """For ``config.with_overrides``."""
    return {key: one.value for key, one in listed(tx).items()}


def put(tx: Connection, changed: Mapping[str, Any], *, actor: str, at: datetime) -> None:
    """All of them in this commit; check them with ``config.with_overrides`` before."""
    for key, value in changed.items():
        new = {"value": value, "at": at, "actor": actor}
        statement = insert_or(tx, overrides).values(key=key, **new)
        tx.execute(statement.on_conflict_do_update(index_elements=[overrides.c.key], set_=new))


def forget(tx: Connection, keys: list[str]) -> None:
    """What the file and the environment say goes again."""
    tx.execute(delete(overrides).where(overrides.c.key.in_(keys)))
