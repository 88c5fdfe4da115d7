"""What people make of received invoices: comments, tags, attachments, marks for the books, and who has opened which.

Rights are asked by the caller, who has the invoice; these functions take its key.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, delete, exists, func, insert, literal, select
from sqlalchemy.types import BigInteger

from ksefbuffer.errors import NoSuchThing, NotAllowedNow
from ksefbuffer.queue import facts
from ksefbuffer.queue.db import insert_or
from ksefbuffer.queue.folders import NARROW, Asked, allowed, keys
from ksefbuffer.queue.models import UtcTime, incoming
from ksefbuffer.queue.web_models import attachments, markings, reads, remarks

MAX_COMMENT = 4_000
MAX_TAG = 60
MAX_TAGS = 50
MAX_ATTACHMENT_BYTES = 10_000_000
MAX_ATTACHMENTS = 50
MAX_NAME = 200
_AT_ONCE = 500
_MOST_READ_AT_ONCE = 50_000


@dataclass(frozen=True)
class Remark:
    """``kind``: comment or tag."""

    id: int
    at: datetime
    actor: str
    kind: str
    text: str


@dataclass(frozen=True)
class Attachment:
    """A file that a person added; ``media_type`` is what their browser called it, and proves nothing."""

    id: int
    name: str
    media_type: str
    size: int
    at: datetime
    actor: str


@dataclass(frozen=True)
class Booked:
    """In the books for ``period`` (RRRR-MM)."""

    period: str
    at: datetime
    by: str = field(repr=False)


# Comments and tags


def comment(tx: Connection, row_id: int, text: str, *, at: datetime, actor: str) -> None:
    """Raises ValueError for one that is empty or longer than MAX_COMMENT characters."""
    text = text.strip()
    if not text or len(text) > MAX_COMMENT:
        raise ValueError("no comment of a length that is kept")
    tx.execute(insert(remarks).values(incoming=row_id, at=at, actor=actor, kind="comment", text=text))


def tag(tx: Connection, row_id: int, text: str, *, at: datetime, actor: str) -> bool:
    """Gives a tag; False when it was there. Raises ValueError for one that is empty or longer than MAX_TAG characters,
    NotAllowedNow when there are MAX_TAGS."""
    text = " ".join(text.split())
    if not text or len(text) > MAX_TAG:
        raise ValueError("no tag of a length that is kept")
    known = tags(tx, [row_id]).get(row_id, [])
    if text in known:
        return False
    if len(known) >= MAX_TAGS:
        raise NotAllowedNow(f"Faktura ma już {MAX_TAGS} etykiet.", action="Usuń niepotrzebne.")
    tx.execute(insert(remarks).values(incoming=row_id, at=at, actor=actor, kind="tag", text=text))
    return True


def untag(tx: Connection, row_id: int, text: str) -> bool:
    """Takes a tag away; False when it was not there."""
    here = (remarks.c.incoming == row_id, remarks.c.kind == "tag", remarks.c.text == text)
    return tx.execute(delete(remarks).where(*here)).rowcount > 0


def tags(tx: Connection, row_ids: Sequence[int]) -> dict[int, list[str]]:
    """People's tags of these invoices, in the order in which they were given."""
    found: dict[int, list[str]] = {}
    query = select(remarks.c.incoming, remarks.c.text).where(remarks.c.incoming.in_(row_ids), remarks.c.kind == "tag")
    for row in tx.execute(query.order_by(remarks.c.id)):
        found.setdefault(row.incoming, []).append(row.text)
    return found


def known_tags(tx: Connection, within: tuple[str, ...] | None, *, most: int = 100) -> list[str]:
    """Tags in use on invoices in these folders, to choose from."""
    query = (
        select(remarks.c.text)
        .join(incoming, incoming.c.id == remarks.c.incoming)
        .with_hint(incoming, NARROW, "sqlite")
        .where(remarks.c.kind == "tag", *allowed(within))
    )
    return list(tx.execute(query.distinct().order_by(remarks.c.text).limit(most)).scalars())


def comments(tx: Connection, row_id: int) -> list[Remark]:
    """The oldest first."""
    columns = (remarks.c.id, remarks.c.at, remarks.c.actor, remarks.c.kind, remarks.c.text)
    query = select(*columns).where(remarks.c.incoming == row_id, remarks.c.kind == "comment").order_by(remarks.c.id)
    return [Remark(**row._mapping) for row in tx.execute(query)]


# Attachments


_SHOWN = [column for column in attachments.c if column.name not in ("incoming", "content")]


def attach(tx: Connection, row_id: int, name: str, media_type: str, content: bytes, *, at: datetime, actor: str) -> int:
    """Keeps a file with an invoice; its key. Raises ValueError for one that is empty or too large, NotAllowedNow when
    there are MAX_ATTACHMENTS."""
    if not content or len(content) > MAX_ATTACHMENT_BYTES:
        raise ValueError("no attachment of a size that is kept")
    there = select(func.count()).select_from(attachments).where(attachments.c.incoming == row_id)
    if tx.execute(there).scalar_one() >= MAX_ATTACHMENTS:
        raise NotAllowedNow(f"Faktura ma już {MAX_ATTACHMENTS} załączników.", action="Usuń niepotrzebne.")
    values = {
        "incoming": row_id,
        "name": plain_name(name),
        "media_type": media_type[:100],
        "size": len(content),
        "content": content,
        "at": at,
        "actor": actor,
    }
    return int(tx.execute(insert(attachments).values(**values).returning(attachments.c.id)).scalar_one())


def plain_name(name: str) -> str:
    """A file's name as it may be kept and offered: its last part, without what cannot be seen, not too long."""
    last = name.replace("\\", "/").rpartition("/")[2]
    seen = "".join(sign if sign.isprintable() else "_" for sign in last).strip(" .")
    if len(seen) > MAX_NAME:
        stem, dot, ending = seen.rpartition(".")
        seen = f"{stem[: MAX_NAME - len(ending) - 1]}.{ending}" if dot and len(ending) <= 10 else seen[:MAX_NAME]
    return seen or "plik"


def attached(tx: Connection, row_id: int) -> list[Attachment]:
    """An invoice's files without their bytes, the oldest first."""
    query = select(*_SHOWN).where(attachments.c.incoming == row_id).order_by(attachments.c.id)
    return [Attachment(**row._mapping) for row in tx.execute(query)]


def attachment(tx: Connection, row_id: int, attachment_id: int) -> tuple[Attachment, bytes]:
    """A file of that invoice, with its bytes. Raises NoSuchThing, also for a file of another invoice."""
    query = select(*_SHOWN, attachments.c.content).where(
        attachments.c.incoming == row_id, attachments.c.id == attachment_id
    )
    row = tx.execute(query).first()
    if row is None:
        raise NoSuchThing("Nie ma takiego załącznika.")
    values = dict(row._mapping)
    content: bytes = values.pop("content")
    return Attachment(**values), content


def detach(tx: Connection, row_id: int, attachment_id: int) -> str:
    """Removes a file of that invoice; its name. Raises NoSuchThing."""
    here = (attachments.c.incoming == row_id, attachments.c.id == attachment_id)
    name: str | None = tx.execute(delete(attachments).where(*here).returning(attachments.c.name)).scalar()
    if name is None:
        raise NoSuchThing("Nie ma takiego załącznika.")
    return name


# Marks for the books


def book(tx: Connection, row_ids: Iterable[int], period: str, *, at: datetime, actor: str) -> None:
    """Marks invoices as taken into the books of a month; one that is marked gets the new month."""
    rows = [{"incoming": row_id, "period": period, "booked_at": at, "booked_by": actor} for row_id in row_ids]
    if not rows:
        return
    statement = insert_or(tx, markings)
    statement = statement.on_conflict_do_update(
        index_elements=[markings.c.incoming],
        set_={name: statement.excluded[name] for name in ("period", "booked_at", "booked_by")},
    )
    tx.execute(statement, rows)


def unbook(tx: Connection, row_id: int) -> bool:
    """Takes the mark away; False when there was none."""
    return tx.execute(delete(markings).where(markings.c.incoming == row_id)).rowcount > 0


def booked(tx: Connection, row_ids: Sequence[int]) -> dict[int, Booked]:
    query = select(markings).where(markings.c.incoming.in_(row_ids))
    return {row.incoming: Booked(row.period, row.booked_at, row.booked_by) for row in tx.execute(query)}


# Who has read what


def read_up_to(tx: Connection, user_id: int) -> int:
    """The user's watermark: everything up to that key counts as read; 0 when none was set."""
    told = facts.get(tx, _watermark(user_id))
    return int(told[0]["up_to"]) if told else 0


def _watermark(user_id: int) -> str:
    return f"read:{user_id}"


def opened(tx: Connection, user_id: int, row_id: int, *, at: datetime) -> None:
    """The user has it before them."""
    if row_id > read_up_to(tx, user_id):
        values = {"user_id": user_id, "incoming": row_id, "at": at}
        tx.execute(insert_or(tx, reads).values(**values).on_conflict_do_nothing())


def is_read(tx: Connection, user_id: int, row_id: int) -> bool:
    return row_id not in unread_among(tx, user_id, [row_id])


def unread_among(tx: Connection, user_id: int, row_ids: Sequence[int]) -> set[int]:
    """Those of these that the user has not opened."""
    mark = read_up_to(tx, user_id)
    query = select(reads.c.incoming).where(reads.c.user_id == user_id, reads.c.incoming.in_(row_ids))
    return {row_id for row_id in row_ids if row_id > mark} - set(tx.execute(query).scalars())


def read_all(tx: Connection, user_id: int, *, at: datetime) -> None:
    """Everything that is here now counts as read: one mark, however many invoices there are."""
    newest = int(tx.execute(select(func.coalesce(func.max(incoming.c.id), 0))).scalar_one())
    facts.put(tx, _watermark(user_id), {"up_to": newest}, at=at)
    tx.execute(delete(reads).where(reads.c.user_id == user_id, reads.c.incoming <= newest))


def read_these(tx: Connection, user_id: int, asked: Asked, *, at: datetime) -> int:
    """What is asked for counts as read, as many as one transaction should take; returns how many there were."""
    found = keys(tx, asked, limit=_MOST_READ_AT_ONCE)
    for start in range(0, len(found), _AT_ONCE):
        some = found[start : start + _AT_ONCE]
        new = select(literal(user_id, BigInteger), incoming.c.id, literal(at, UtcTime)).where(
            incoming.c.id.in_(some),
            ~exists().where(reads.c.user_id == user_id, reads.c.incoming == incoming.c.id),
        )
        tx.execute(insert(reads).from_select(["user_id", "incoming", "at"], new))
    return len(found)
