"""How far each role's invoices were pulled from KSeF, the exports it is making for us, and the rulebooks.

A cursor is KSeF's own text and is never taken apart: its seventh digit counts (FACTS §7.3).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from ksefbuffer.queue.db import insert_or
from ksefbuffer.queue.models import cursors, exports, rulebooks


@dataclass(frozen=True)
class Cursor:
    """``subject``: buyer, third, authorized or seller. ``position``: everything before it is stored. ``due_at``: the
    next pull; ``caught_up_at``: when nothing more was to be had; ``brought``: how many the last pull brought;
    ``problem``: why it does not go on, in Polish; ``rescans``: when each kind of rescan was last finished (ISO)."""

    subject: str
    position: str
    due_at: datetime
    moved_at: datetime | None
    caught_up_at: datetime | None
    brought: int
    failures: int
    problem: str | None
    rescans: dict[str, str]


def _cursor(row: Any) -> Cursor:
    return Cursor(**row._mapping)


def begin(tx: Connection, subject: str, position: str, *, at: datetime) -> None:
    """A cursor for a role pulled for the first time; one that is there stays as it is."""
    statement = insert_or(tx, cursors).values(subject=subject, position=position, due_at=at, rescans={})
    tx.execute(statement.on_conflict_do_nothing())


def cursor(tx: Connection, subject: str) -> Cursor | None:
    row = tx.execute(select(cursors).where(cursors.c.subject == subject)).first()
    return _cursor(row) if row else None


def all_cursors(tx: Connection) -> list[Cursor]:
    return [_cursor(row) for row in tx.execute(select(cursors).order_by(cursors.c.subject))]


def move(
    tx: Connection, subject: str, position: str, *, at: datetime, due_at: datetime, brought: int, caught_up: bool
) -> None:
    """The cursor goes on: call it in the commit that stores the last of the invoices before ``position``."""
    values: dict[str, Any] = {
        "position": position,
        "moved_at": at,
        "due_at": due_at,
        "brought": brought,
        "failures": 0,
        "problem": None,
    }
    if caught_up:
        values["caught_up_at"] = at
    tx.execute(update(cursors).where(cursors.c.subject == subject).values(**values))


def postpone(
    tx: Connection, subject: str, *, due_at: datetime, problem: str | None = None, failed: bool = False
) -> None:
    """The next pull is due then. A pull that failed is counted, and ``problem`` says why."""
    values: dict[str, Any] = {"due_at": due_at, "problem": problem}
    values["failures"] = cursors.c.failures + 1 if failed else 0
    tx.execute(update(cursors).where(cursors.c.subject == subject).values(**values))


def hold(tx: Connection, subject: str, *, due_at: datetime, problem: str) -> None:
    """The next pull has to wait for something that is no failure; ``problem`` says for what."""
    tx.execute(update(cursors).where(cursors.c.subject == subject).values(due_at=due_at, problem=problem))


def make_due(tx: Connection, subjects: list[str], *, at: datetime) -> None:
    """Somebody wants a pull now."""
    tx.execute(update(cursors).where(cursors.c.subject.in_(subjects), cursors.c.due_at > at).values(due_at=at))


def rescanned(tx: Connection, subject: str, kind: str, *, at: datetime) -> None:
    row = tx.execute(select(cursors.c.rescans).where(cursors.c.subject == subject).with_for_update()).scalar_one()
    tx.execute(update(cursors).where(cursors.c.subject == subject).values(rescans={**row, kind: at.isoformat()}))


@dataclass(frozen=True)
class Export:
    """An export; ``state``: starting → running → done | given_up. ``secret`` is the package's key, 48 bytes."""

    id: int
    subject: str
    purpose: str
    date_type: str
    period_start: str
    period_end: str
    reference: str | None
    secret: bytes | None = field(repr=False)
    state: str
    started_at: datetime
    next_look_at: datetime
    looks: int
    brought: int
    note: str | None


def _export(row: Any) -> Export:
    return Export(**row._mapping)


def begin_export(
    tx: Connection,
    subject: str,
    purpose: str,
    *,
    date_type: str,
    start: str,
    end: str,
    secret: bytes,
    at: datetime,
) -> int:
    """Written before KSeF is asked, so that its key is never lost; returns the row's key."""
    row = {
        "subject": subject,
        "purpose": purpose,
        "date_type": date_type,
        "period_start": start,
        "period_end": end,
        "secret": secret,
        "state": "starting",
        "started_at": at,
        "next_look_at": at,
    }
    return int(tx.execute(insert(exports).values(**row).returning(exports.c.id)).scalar_one())


def started(tx: Connection, export_id: int, reference: str, *, next_look_at: datetime) -> None:
    tx.execute(
        update(exports)
        .where(exports.c.id == export_id, exports.c.state == "starting")
        .values(reference=reference, state="running", next_look_at=next_look_at)
    )


def look_again(tx: Connection, export_id: int, *, at: datetime, looks: int | None = None) -> None:
    values: dict[str, Any] = {"next_look_at": at}
    if looks is not None:
        values["looks"] = looks
    tx.execute(update(exports).where(exports.c.id == export_id).values(**values))


def finish(tx: Connection, export_id: int, *, brought: int) -> None:
    """Its invoices are stored; the key has no more use."""
    tx.execute(update(exports).where(exports.c.id == export_id).values(state="done", secret=None, brought=brought))


def give_up(tx: Connection, export_id: int, note: str) -> None:
    tx.execute(update(exports).where(exports.c.id == export_id).values(state="given_up", secret=None, note=note))


def unfinished(tx: Connection) -> list[Export]:
    query = select(exports).where(exports.c.state.in_(["starting", "running"])).order_by(exports.c.id)
    return [_export(row) for row in tx.execute(query)]


def unfinished_for(tx: Connection, subject: str, purpose: str) -> Export | None:
    query = select(exports).where(
        exports.c.state.in_(["starting", "running"]), exports.c.subject == subject, exports.c.purpose == purpose
    )
    row = tx.execute(query).first()
    return _export(row) if row else None


def forget_exports(tx: Connection, before: datetime) -> None:
    """Exports that ended, begun before."""
    ended = exports.c.state.in_(["done", "given_up"])
    tx.execute(delete(exports).where(ended, exports.c.started_at < before))


def given_up_since(tx: Connection, subject: str, since: datetime) -> int:
    """How many of a role's exports came to nothing lately."""
    query = (
        select(func.count())
        .select_from(exports)
        .where(exports.c.subject == subject, exports.c.state == "given_up", exports.c.started_at >= since)
    )
    return int(tx.execute(query).scalar_one())


@dataclass(frozen=True)
class KeptRulebook:
    version: int
    content: str
    at: datetime
    actor: str
    note: str


def rulebook(tx: Connection, version: int | None = None) -> KeptRulebook | None:
    """The one in force, or an older one; None when none was ever brought in."""
    query = select(rulebooks).order_by(rulebooks.c.version.desc()).limit(1)
    if version is not None:
        query = query.where(rulebooks.c.version == version)
    row = tx.execute(query).first()
    return KeptRulebook(**row._mapping) if row else None


def rulebook_version(tx: Connection) -> int:
    """0 while there is none."""
    return int(tx.execute(select(func.coalesce(func.max(rulebooks.c.version), 0))).scalar_one())


def keep_rulebook(tx: Connection, content: str, *, at: datetime, actor: str, note: str) -> int:
    """A new version, in force from this commit on."""
    version = rulebook_version(tx) + 1
    tx.execute(insert(rulebooks).values(version=version, content=content, at=at, actor=actor, note=note))
    return version
