"""Received invoices as people go through them: by folder, with counts, filtered, searched, a page at a time.

Every question takes ``within``: the folders (each with its subfolders) that the asker may see. None is everything, ()
nothing; it is part of the SQL, so that what is not theirs is neither listed, counted, found nor told apart from what is
not there. All of them stay fast at a million invoices: they read ``ix_incoming_narrow`` or ``ix_incoming_folder`` alone
and never pass through the invoices' bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, and_, case, column, false, func, literal_column, or_, select, table

from ksefbuffer.queue import incoming as stored
from ksefbuffer.queue.incoming import Incoming
from ksefbuffer.queue.models import incoming, incoming_events
from ksefbuffer.queue.web_models import markings, reads, remarks

UNDECIDED = "none"
NARROW = "INDEXED BY ix_incoming_narrow"
"""SQLite's hint for queries on ``incoming`` that filter: its planner would pass through the bytes."""

_BY_FOLDER = "INDEXED BY ix_incoming_folder"
_FEW_FOLDERS = 500
_FEW = 20_000
_words = table("incoming_search", column("rowid"), column("incoming_search"))


@dataclass(frozen=True)
class Asked:
    """What to list. ``folder`` with its subfolders; ``since`` and ``until`` are issue dates; ``words`` may begin any
    word of the invoice; ``decision`` accepted, rejected, scam or UNDECIDED; ``supplier`` the seller's NIP; ``tag`` one
    that a person gave; ``unread_by`` the key of a user, whose watermark is ``read_up_to``."""

    within: tuple[str, ...] | None
    folder: str = ""
    words: str = ""
    since: date | None = None
    until: date | None = None
    verdict: str = ""
    decision: str = ""
    supplier: str = ""
    tag: str = ""
    booked: Literal["", "yes", "no"] = ""
    unread_by: int | None = None
    read_up_to: int = 0


def allowed(within: tuple[str, ...] | None) -> list[ColumnElement[bool]]:
    """Conditions on ``incoming`` that keep to those folders and what is below them."""
    if within is None or "" in within:
        return []
    return [or_(*map(_inside, within))] if within else [false()]


def _inside(folder: str) -> ColumnElement[bool]:
    # Not LIKE: SQLite's takes no notice of case, and a folder's right must not reach its namesake.
    prefix = folder + "/"
    return or_(incoming.c.folder == folder, func.substr(incoming.c.folder, 1, len(prefix)) == prefix)


def keys(tx: Connection, asked: Asked, *, limit: int, before: int | None = None, after: int | None = None) -> list[int]:
    """Keys, newest first. ``before``: those older than that key; ``after``: those next newer than it, oldest first."""
    query, key = _query(tx, asked)
    if query is None:
        return []
    if before is not None:
        query = query.where(key < before)
    if after is not None:
        query = query.where(key > after)
    query = query.order_by(key.desc() if after is None else key).limit(limit)
    return list(tx.execute(query).scalars())


def listing(tx: Connection, asked: Asked, *, limit: int, before: int | None = None) -> list[Incoming]:
    """Newest first; ``before`` is the key of the last one already given."""
    return in_order(tx, keys(tx, asked, limit=limit, before=before))


def in_order(tx: Connection, row_ids: Sequence[int]) -> list[Incoming]:
    """These invoices, in this order; a key that is not there is left out."""
    found = {one.id: one for one in stored.some(tx, row_ids)}
    return [found[row_id] for row_id in row_ids if row_id in found]


def count(tx: Connection, asked: Asked, *, most: int) -> int:
    """How many there are, counted no further than ``most`` + 1."""
    query, _ = _query(tx, asked)
    if query is None:
        return 0
    return int(tx.execute(select(func.count()).select_from(query.limit(most + 1).subquery())).scalar_one())


def neighbours(tx: Connection, asked: Asked, row_id: int) -> tuple[int | None, int | None]:
    """Keys of the one before it on the list (newer) and of the one behind it (older)."""
    newer = keys(tx, asked, limit=1, after=row_id)
    older = keys(tx, asked, limit=1, before=row_id)
    return (newer[0] if newer else None), (older[0] if older else None)


def permitted(tx: Connection, within: tuple[str, ...] | None, row_ids: Sequence[int]) -> list[int]:
    """Those of these keys that lie within the folders, newest first."""
    query = select(incoming.c.id).where(incoming.c.id.in_(row_ids), *allowed(within)).order_by(incoming.c.id.desc())
    return list(tx.execute(query).scalars())


def names(tx: Connection) -> list[str]:
    """Every folder that holds something: by leaps through the index, however many invoices there are."""
    lowest = select(func.min(incoming.c.folder)).with_hint(incoming, _BY_FOLDER, "sqlite")
    found = select(lowest.scalar_subquery().label("folder")).cte("found", recursive=True)
    following = lowest.where(incoming.c.folder > found.c.folder).scalar_subquery()
    found = found.union_all(select(following).where(found.c.folder.is_not(None)))
    return list(tx.execute(select(found.c.folder).where(found.c.folder.is_not(None))).scalars())


def _query(tx: Connection, asked: Asked) -> tuple[Any, Any]:
    """A SELECT of keys without order, and the column to order by; no SELECT when nothing can match."""
    words = stored.search_words(asked.words)
    if (asked.words and not words) or asked.within == ():
        return None, None
    query = select(incoming.c.id).with_hint(incoming, NARROW, "sqlite").where(*_conditions(asked))
    key: Any = incoming.c.id
    if words and tx.dialect.name == "sqlite":
        matches = " AND ".join(f'"{word}"*' for word in words)
        query = query.select_from(_words).join(incoming, incoming.c.id == _words.c.rowid)
        query = query.where(_words.c.incoming_search.op("MATCH")(matches), *_where(asked))
        key = _words.c.rowid
    elif words:
        # Written as in the index, or it would not be used.
        simple: ColumnElement[str] = literal_column("'simple'")
        matches = " & ".join(f"{word}:*" for word in words)
        found = func.to_tsvector(simple, incoming.c.search).bool_op("@@")(func.to_tsquery(simple, matches))
        query = query.where(found, *_where(asked))
    else:
        query = query.where(*_scope(tx, asked))
    return query, key


def _where(asked: Asked) -> list[ColumnElement[bool]]:
    """Conditions on the folder alone."""
    return [*allowed(asked.within), *([_inside(asked.folder)] if asked.folder else [])]


def _scope(tx: Connection, asked: Asked) -> list[ColumnElement[bool]]:
    """As ``_where``, but for a few folders with not too much in them: those by their own index, as the rest of a
    million invoices need not be passed."""
    conditions = _where(asked)
    if not conditions:
        return []
    theirs = [one for one in names(tx) if _lies_in(one, asked.folder) and _lies_within(one, asked.within)]
    if len(theirs) > _FEW_FOLDERS:
        return conditions
    inside = select(incoming.c.id).with_hint(incoming, _BY_FOLDER, "sqlite").where(incoming.c.folder.in_(theirs))
    size = tx.execute(select(func.count()).select_from(inside.limit(_FEW + 1).subquery())).scalar_one()
    return [incoming.c.id.in_(inside)] if size <= _FEW else [incoming.c.folder.in_(theirs)]


def _lies_in(folder: str, prefix: str) -> bool:
    return not prefix or folder == prefix or folder.startswith(prefix + "/")


def _lies_within(folder: str, within: tuple[str, ...] | None) -> bool:
    return within is None or any(_lies_in(folder, prefix) for prefix in within)


def _conditions(asked: Asked) -> list[ColumnElement[bool]]:
    """All conditions but those on the folder."""
    found: list[ColumnElement[bool]] = []
    if asked.since is not None:
        found.append(incoming.c.issue_date >= asked.since)
    if asked.until is not None:
        found.append(incoming.c.issue_date <= asked.until)
    if asked.verdict:
        found.append(incoming.c.verdict == asked.verdict)
    if asked.decision:
        undecided = asked.decision == UNDECIDED
        found.append(incoming.c.decision.is_(None) if undecided else incoming.c.decision == asked.decision)
    if asked.supplier:
        found.append(incoming.c.seller_nip == asked.supplier)
    if asked.tag:
        tagged = select(remarks.c.incoming).where(remarks.c.kind == "tag", remarks.c.text == asked.tag)
        found.append(incoming.c.id.in_(tagged))
    if asked.booked:
        marked = select(markings.c.incoming).where(markings.c.incoming == incoming.c.id).exists()
        found.append(marked if asked.booked == "yes" else ~marked)
    if asked.unread_by is not None:
        opened = select(reads.c.incoming).where(reads.c.user_id == asked.unread_by, reads.c.incoming == incoming.c.id)
        found.append(and_(incoming.c.id > asked.read_up_to, ~opened.exists()))
    return found


# The tree


@dataclass(frozen=True)
class Counted:
    """How many invoices lie in a folder, and how many of them a user has not opened."""

    total: int
    unread: int

    def __add__(self, other: Counted) -> Counted:
        return Counted(self.total + other.total, self.unread + other.unread)


NOTHING = Counted(0, 0)


def counts(
    tx: Connection, within: tuple[str, ...] | None, *, user_id: int | None = None, read_up_to: int = 0
) -> dict[str, Counted]:
    """Each folder that holds something, without its subfolders. Without ``user_id`` nothing is unread."""
    newer = func.sum(case((incoming.c.id > read_up_to, 1), else_=0))
    query = (
        select(incoming.c.folder, func.count(), newer)
        .with_hint(incoming, _BY_FOLDER, "sqlite")
        .where(*_by_name(tx, within))
        .group_by(incoming.c.folder)
    )
    rows = [(folder, total, unread) for folder, total, unread in tx.execute(query)]
    if user_id is None:
        return {folder: Counted(total, 0) for folder, total, _ in rows}
    opened = _opened(tx, within, user_id, read_up_to)
    return {folder: Counted(total, max(0, unread - opened.get(folder, 0))) for folder, total, unread in rows}


def _by_name(tx: Connection, within: tuple[str, ...] | None) -> list[ColumnElement[bool]]:
    """As ``allowed``, by the names of a few folders, which an index leads to."""
    conditions = allowed(within)
    theirs = [one for one in names(tx) if _lies_within(one, within)] if conditions else []
    return [incoming.c.folder.in_(theirs)] if conditions and len(theirs) <= _FEW_FOLDERS else conditions


def _opened(tx: Connection, within: tuple[str, ...] | None, user_id: int, read_up_to: int) -> dict[str, int]:
    query = (
        select(incoming.c.folder, func.count())
        .select_from(reads)
        .join(incoming, incoming.c.id == reads.c.incoming)
        .with_hint(incoming, NARROW, "sqlite")
        .where(reads.c.user_id == user_id, reads.c.incoming > read_up_to, *allowed(within))
        .group_by(incoming.c.folder)
    )
    return {row[0]: int(row[1]) for row in tx.execute(query)}


class CountedBefore:
    """Remembers ``counts`` for as long as nothing was stored, filed or opened: at a million invoices they are what
    costs a page most. Safe for many threads."""

    def __init__(self, most: int = 16) -> None:
        self._most = most
        self._known: dict[Any, tuple[Any, dict[str, Counted]]] = {}

    def of(
        self, tx: Connection, within: tuple[str, ...] | None, *, user_id: int, read_up_to: int
    ) -> dict[str, Counted]:
        """As ``counts``; not to be changed."""
        key = (within, user_id, read_up_to)
        # Storing and filing each write a line of an invoice's story.
        last_event = tx.execute(select(func.max(incoming_events.c.id))).scalar()
        opened = tx.execute(select(func.count()).where(reads.c.user_id == user_id)).scalar()
        stamp = (last_event, opened)
        known = self._known.get(key)
        if known is not None and known[0] == stamp:
            return known[1]
        found = counts(tx, within, user_id=user_id, read_up_to=read_up_to)
        while len(self._known) >= self._most:
            self._known.pop(next(iter(self._known), None), None)
        self._known[key] = (stamp, found)
        return found


@dataclass(frozen=True)
class Branch:
    """A folder of the tree: ``path`` from the top, ``name`` its last part, ``counted`` with everything below it.
    ``open`` when the one looked at is this one or below it; only then are there ``branches``."""

    path: str
    name: str
    counted: Counted
    chosen: bool
    open: bool
    foldable: bool
    branches: tuple[Branch, ...]


def grow(found: Mapping[str, Counted], *, chosen: str = "", also: Sequence[str] = ()) -> tuple[Branch, ...]:
    """The tree of these folders, opened as far as the one ``chosen``. ``also``: folders that are shown even when they
    hold nothing. Names are in the order of their numbers and letters."""
    sums: dict[str, Counted] = {}
    below: dict[str, set[str]] = {}
    for folder, counted in (*found.items(), *((folder, NOTHING) for folder in also if folder)):
        path = ""
        for part in folder.split("/"):
            parent, path = path, f"{path}/{part}" if path else part
            below.setdefault(parent, set()).add(path)
            sums[path] = sums.get(path, NOTHING) + counted
    return _branches("", sums, below, chosen)


def _branches(
    parent: str, sums: Mapping[str, Counted], below: Mapping[str, set[str]], chosen: str
) -> tuple[Branch, ...]:
    return tuple(
        Branch(
            path,
            path.rpartition("/")[2],
            sums[path],
            path == chosen,
            opened := path == chosen or chosen.startswith(path + "/"),
            path in below,
            _branches(path, sums, below, chosen) if opened else (),
        )
        for path in sorted(below.get(parent, ()), key=_natural)
    )


def _natural(path: str) -> tuple[tuple[int, int, str], ...]:
    """Folders named by numbers are in the order of these: 9 before 10."""
    name = path.rpartition("/")[2]
    number = int(name) if name.isdecimal() and len(name) < 16 else 0
    return ((0, number, name) if name.isdecimal() else (1, 0, name.casefold()),)
