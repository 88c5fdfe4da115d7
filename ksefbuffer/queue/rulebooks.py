"""Rulebooks beside the one in force (``pulls``): older versions, what an administrator is working on, and the wish to
have everything filed anew. Functions take an open transaction and never commit."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from ksefbuffer.queue import facts
from ksefbuffer.queue.models import rulebooks

REFILING = "refiling"


@dataclass(frozen=True)
class Version:
    """A version of the rules; ``size`` is that of its text, in characters."""

    version: int
    at: datetime
    actor: str
    note: str
    size: int


def history(tx: Connection, *, limit: int = 200) -> list[Version]:
    """The newest first."""
    columns = (rulebooks.c.version, rulebooks.c.at, rulebooks.c.actor, rulebooks.c.note)
    query = select(*columns, func.length(rulebooks.c.content).label("size"))
    return [Version(**row._mapping) for row in tx.execute(query.order_by(rulebooks.c.version.desc()).limit(limit))]


@dataclass(frozen=True)
class Draft:
    """Rules that somebody is working on and nobody's invoices are filed by: TOML, made from version ``base``."""

    base: int
    text: str = field(repr=False)
    at: datetime


def draft(tx: Connection, user_id: int) -> Draft | None:
    told = facts.get(tx, _name(user_id))
    return Draft(int(told[0]["base"]), str(told[0]["text"]), told[1]) if told else None


def keep_draft(tx: Connection, user_id: int, base: int, text: str, *, at: datetime) -> None:
    facts.put(tx, _name(user_id), {"base": base, "text": text}, at=at)


def drop_draft(tx: Connection, user_id: int) -> None:
    facts.forget(tx, _name(user_id))


def _name(user_id: int) -> str:
    return f"rulebook-draft:{user_id}"


# Filing everything anew


@dataclass(frozen=True)
class Refiling:
    """``after`` is the key of the last invoice looked at; ``done_at`` None while there is more to do."""

    wanted_at: str
    actor: str
    whole: int
    after: int = 0
    looked_at: int = 0
    changed: int = 0
    done_at: str | None = None


def want_refiling(tx: Connection, *, whole: int, at: datetime, actor: str) -> None:
    """Every received invoice is to be filed by the rules in force; one under way begins again."""
    keep_refiling(tx, Refiling(at.isoformat(), actor, whole), at=at)


def refiling(tx: Connection) -> Refiling | None:
    """What was wanted last, and how far it is."""
    told = facts.get(tx, REFILING)
    return Refiling(**_known(told[0])) if told else None


def keep_refiling(tx: Connection, one: Refiling, *, at: datetime) -> None:
    facts.put(tx, REFILING, one.__dict__, at=at)


def _known(told: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if name in Refiling.__dataclass_fields__}
