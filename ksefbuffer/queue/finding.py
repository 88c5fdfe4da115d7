"""Finding outgoing documents for people: lists with filters, page by page, and search by whatever they have in hand.

Lists go by key, newest first; nothing here counts or sorts all the documents there are. A day becomes a range of keys
first, because keys grow with the time of receiving.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Table, and_, func, literal_column, select

from ksefbuffer.queue.models import arrivals, deliveries, documents, sessions
from ksefbuffer.queue.states import State

# Found by a search at once; whoever finds more knows too little of what is looked for.
MOST_FOUND = 200
# Shorter pieces of a number are looked for at its beginning only: they are in every second one.
SHORTEST_PIECE = 3
_MOST_SELLERS = 50
_MANY = 5000
# An id, hash or KSeF number of which so much is given is nothing else.
_CERTAIN = 20
# Clocks of two nodes, and a clock that was set back, may differ by so much from the order of the keys.
_SLACK = timedelta(hours=1)
_AFTER_ANY = "\U0010ffff"
_ID_START = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f-]{0,27})?")
_HASH_START = re.compile(r"[0-9a-f]{8,64}")
_KSEF_NUMBER_START = re.compile(r"[0-9]{10}-[0-9A-Z-]{0,25}")
_HASH_IN_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{43}=?")


@dataclass(frozen=True)
class Wanted:
    """What to list: any of these states; ``kind`` as in the invoice ("VAT", "KOR"); ``connector`` that brought it at
    least once; received at or after ``since`` and before ``until``, aware."""

    states: tuple[State, ...] = ()
    kind: str = ""
    connector: str = ""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class Row:
    """A document as a list shows it. ``source`` and ``reference`` are those of its first arrival; ``problem`` is the
    first error as (code, message)."""

    id: int
    document_id: str
    state: State
    invoice_number: str | None
    invoice_type: str | None
    issue_date: date | None
    ksef_number: str | None
    accepted_at: datetime | None
    received_at: datetime
    updated_at: datetime
    next_attempt_at: datetime | None
    waits_for: str | None
    urgent: bool
    offline_mode: str | None
    offline_deadline: datetime | None
    errors: list[dict[str, Any]] = field(repr=False)
    warnings: list[dict[str, Any]] = field(repr=False)
    source: str = ""
    connector: str = ""
    reference: str | None = None


@dataclass(frozen=True)
class Page:
    """``older`` and ``newer`` are keys to go on from, None where there is nothing more that way."""

    rows: list[Row]
    older: int | None
    newer: int | None


_COLUMNS = [documents.c[name] for name in Row.__dataclass_fields__ if name in documents.c]


def page(
    tx: Connection, wanted: Wanted = Wanted(), *, before: int | None = None, after: int | None = None, limit: int = 50
) -> Page:
    """One page, newest first: what is older than the key ``before``, or next newer than ``after``, or the newest."""
    backwards = after is not None
    found = keys(tx, wanted, before=before, after=after, limit=limit + 1)
    more, found = len(found) > limit, found[:limit]
    if backwards:
        found.reverse()
    shown = rows(tx, found)
    if not shown:
        return Page([], None, None)
    older = shown[-1].id if more or backwards else None
    newer = shown[0].id if (more if backwards else before is not None) else None
    return Page(shown, older, newer)


def keys(
    tx: Connection, wanted: Wanted, *, before: int | None = None, after: int | None = None, limit: int = 50
) -> list[int]:
    """Keys of the page's documents: newest first, but oldest first when asked for those ``after`` a key."""
    first = key_at(tx, documents, documents.c.received_at, wanted.since - _SLACK) if wanted.since else None
    last = key_at(tx, documents, documents.c.received_at, wanted.until + _SLACK) if wanted.until else None
    ascending = after is not None

    def within(key: Any) -> list[ColumnElement[bool]]:
        bounds: list[ColumnElement[bool]] = []
        if before is not None:
            bounds.append(key < before)
        if after is not None:
            bounds.append(key > after)
        if first is not None:
            bounds.append(key >= first)
        if last is not None:
            bounds.append(key < last)
        return bounds

    timely: list[ColumnElement[bool]] = []
    if wanted.since is not None:
        timely.append(documents.c.received_at >= wanted.since)
    if wanted.until is not None:
        timely.append(documents.c.received_at < wanted.until)
    if wanted.kind:
        timely.append(documents.c.invoice_type == wanted.kind)

    def ordered(key: Any) -> Any:
        return key if ascending else key.desc()

    if wanted.connector and not _few(wanted.states):
        # From the arrivals: of a rare way in there may be one among a million documents.
        came = (
            select(arrivals.c.document)
            .select_from(arrivals.join(documents, arrivals.c.document == documents.c.id))
            .where(arrivals.c.connector == wanted.connector, *within(arrivals.c.document), *timely)
        )
        if wanted.states:
            came = came.where(documents.c.state.in_([str(state) for state in wanted.states]))
        if _many_came(tx, wanted.connector):
            came = came.with_hint(arrivals, "INDEXED BY ix_arrivals_document", "sqlite")
        return _distinct(tx, came, ascending=ascending, limit=limit)
    query = select(documents.c.id).where(*within(documents.c.id), *timely)
    if wanted.connector:
        came_so = select(arrivals.c.id).where(
            arrivals.c.document == documents.c.id, arrivals.c.connector == wanted.connector
        )
        query = query.where(came_so.exists())
    query = query.order_by(ordered(documents.c.id)).limit(limit)
    if not wanted.states and not wanted.kind:
        return list(tx.execute(query).scalars())
    # One state at a time, in the order of the index; all together would sort every document there is.
    found: list[int] = []
    for state in wanted.states or tuple(State):
        found += tx.execute(query.where(documents.c.state == literal_column(f"'{state}'"))).scalars()
    return sorted(found, reverse=not ascending)[:limit]


def _many_came(tx: Connection, connector: str) -> bool:
    """Whether so many came that way that going through all arrivals soon meets enough of them."""
    some = select(arrivals.c.id).where(arrivals.c.connector == connector).limit(_MANY).subquery()
    return int(tx.execute(select(func.count()).select_from(some)).scalar_one()) >= _MANY


def _distinct(tx: Connection, came: Select[Any], *, ascending: bool, limit: int) -> list[int]:
    """The first ``limit`` documents of arrivals: of one that came twice, once. DISTINCT would sort them all."""
    key = arrivals.c.document
    found: list[int] = []
    while True:
        asked = came.order_by(key if ascending else key.desc()).limit(limit)
        if found:
            asked = asked.where(key > found[-1] if ascending else key < found[-1])
        some = list(tx.execute(asked).scalars())
        found += dict.fromkeys(some)
        if len(found) >= limit or len(some) < limit:
            return found[:limit]


def _few(states: Sequence[State]) -> bool:
    """Whether only states are asked for in which documents do not pile up for years."""
    return bool(states) and State.SENT not in states


def rows(tx: Connection, row_ids: Sequence[int]) -> list[Row]:
    """Documents by key, in the order given, each with its first arrival."""
    if not row_ids:
        return []
    came: dict[int, Any] = {}
    first = (
        select(arrivals.c.document, arrivals.c.place, arrivals.c.connector, arrivals.c.reference)
        .where(arrivals.c.document.in_(row_ids))
        .order_by(arrivals.c.id)
    )
    for arrival in tx.execute(first):
        came.setdefault(arrival.document, arrival)
    found: dict[int, Row] = {}
    for row in tx.execute(select(*_COLUMNS).where(documents.c.id.in_(row_ids))):
        values = dict(row._mapping)
        values["state"] = State(values["state"])
        how = came.get(row.id)
        if how is not None:
            values |= {"source": how.place, "connector": how.connector, "reference": how.reference}
        found[row.id] = Row(**values)
    return [found[row_id] for row_id in row_ids if row_id in found]


def key_at(tx: Connection, table: Table, moment_column: Any, moment: datetime) -> int:
    """The first key of rows no older than ``moment``, for a table whose keys grow with that column; found by halving,
    since an index over the time would be one more to keep at every invoice."""
    key = table.c.id
    # Two questions: asked for both at once, SQLite would read every row.
    lowest = tx.execute(select(func.min(key))).scalar()
    highest = tx.execute(select(func.max(key))).scalar()
    if lowest is None or highest is None:
        return 0
    low, high = int(lowest), int(highest) + 1
    while low < high:
        middle = (low + high) // 2
        next_one = select(key, moment_column.label("at")).where(key >= middle).order_by(key).limit(1)
        row = tx.execute(next_one).first()
        if row is None or row.at >= moment:
            high = middle
        else:
            low = int(row.id) + 1
    return low


def search(tx: Connection, text: str, *, limit: int = MOST_FOUND) -> tuple[list[Row], bool]:
    """Documents by the beginning of an invoice number, a KSeF number, a hash (hex, or whole in base64 as KSeF shows
    it), our own id, a file's name or a reference; when there are none, by a piece of an invoice number. Newest first,
    and whether there are more."""
    wanted = text.strip()
    if not wanted:
        return [], False
    found: set[int] = set()
    for condition in _by_identity(wanted):
        found |= set(tx.execute(select(documents.c.id).where(condition).limit(limit + 1)).scalars())
    if not (found and len(wanted) >= _CERTAIN):
        found |= _by_arrival(tx, wanted, limit + 1)
        found |= _by_number(tx, wanted, limit + 1, piece=False)
    if not found and len(wanted) >= SHORTEST_PIECE:
        found = _by_number(tx, wanted, limit + 1, piece=True)
    newest = sorted(found, reverse=True)
    return rows(tx, newest[:limit]), len(newest) > limit


def _begins(column: Any, text: str) -> ColumnElement[bool]:
    """Begins with it: a range, for which any index serves, and exactly."""
    return and_(column >= text, column < text + _AFTER_ANY, column.startswith(text, autoescape=True))


def _by_identity(text: str) -> Iterable[ColumnElement[bool]]:
    lower, upper = text.lower(), text.upper()
    if _HASH_START.fullmatch(lower):
        yield documents.c.sha256 == lower if len(lower) == 64 else _begins(documents.c.sha256, lower)
    if _HASH_IN_BASE64.fullmatch(text):
        try:
            digest = b64decode(text.replace("-", "+").replace("_", "/").rstrip("=") + "=", validate=True)
        except binascii.Error:
            digest = b""
        if len(digest) == 32:
            yield documents.c.sha256 == digest.hex()
    if _ID_START.fullmatch(lower):
        yield documents.c.document_id == lower if len(lower) == 36 else _begins(documents.c.document_id, lower)
    if _KSEF_NUMBER_START.fullmatch(upper):
        yield documents.c.ksef_number == upper if len(upper) == 35 else _begins(documents.c.ksef_number, upper)


def _by_arrival(tx: Connection, text: str, limit: int) -> set[int]:
    """By the beginning of a source's name, with or without its ending, or of a reference."""
    stem = text[:-4] if text.lower().endswith(".xml") else text
    found: set[int] = set()
    for connector in ("folder", "table", "http"):
        named = select(arrivals.c.document).where(
            arrivals.c.connector == connector, _begins(arrivals.c.answer_name, stem)
        )
        found |= set(tx.execute(named.limit(limit)).scalars())
    referred = select(arrivals.c.document).where(arrivals.c.reference.is_not(None), _begins(arrivals.c.reference, text))
    return found | set(tx.execute(referred.limit(limit)).scalars())


def _by_number(tx: Connection, text: str, limit: int, *, piece: bool) -> set[int]:
    """By an invoice number's beginning, or by a piece of it; read off the index over numbers, no document is."""
    number = documents.c.invoice_number
    conditions = [_begins(number, spelled) for spelled in {text, text.upper(), text.lower()}]
    if piece:
        # SQLite's LIKE heeds no case as it is; folding both sides first would double the time.
        lite = tx.dialect.name == "sqlite"
        conditions = [(number.contains if lite else number.icontains)(text, autoescape=True)]
    found: set[int] = set()
    for seller in _sellers(tx):
        for condition in conditions:
            query = select(documents.c.id).where(documents.c.seller_nip == seller, condition).limit(limit)
            found |= set(tx.execute(query).scalars())
    return found


def _sellers(tx: Connection) -> list[str | None]:
    """The sellers there are: one as a rule, a few with self-billing; asked one after the other, not counted through.
    None stands for refused documents that name nobody."""
    found: list[str] = []
    while len(found) < _MOST_SELLERS:
        query = select(func.min(documents.c.seller_nip))
        if found:
            query = query.where(documents.c.seller_nip > found[-1])
        seller = tx.execute(query).scalar()
        if seller is None:
            break
        found.append(str(seller))
    return [*found, None]


@dataclass(frozen=True)
class SessionStory:
    """The KSeF session a document is or was in, as its own row says; times aware."""

    reference: str | None
    kind: str
    state: str
    offline: bool
    opened_at: datetime
    closed_at: datetime | None
    sends: int
    status_code: int | None
    note: str | None


@dataclass(frozen=True)
class AnswerStory:
    """One way in and what became of its answer: ``told`` of ``wanted`` facts; ``last_error`` while it cannot be
    delivered."""

    connector: str
    place: str
    answer_name: str
    reference: str | None
    arrived_at: datetime
    wanted: int
    told: int
    due_at: datetime | None
    attempts: int
    last_error: str | None


def session_of(tx: Connection, session_id: int | None) -> SessionStory | None:
    if session_id is None:
        return None
    columns = [sessions.c[name] for name in SessionStory.__dataclass_fields__]
    row = tx.execute(select(*columns).where(sessions.c.id == session_id)).first()
    return SessionStory(**row._mapping) if row else None


def answers_of(tx: Connection, row_id: int) -> list[AnswerStory]:
    """Every arrival of a document with its answer, oldest first."""
    query = (
        select(
            arrivals.c.connector,
            arrivals.c.place,
            arrivals.c.answer_name,
            arrivals.c.reference,
            arrivals.c.arrived_at,
            func.coalesce(deliveries.c.wanted, 0).label("wanted"),
            func.coalesce(deliveries.c.told, 0).label("told"),
            deliveries.c.due_at,
            func.coalesce(deliveries.c.attempts, 0).label("attempts"),
            deliveries.c.last_error,
        )
        .select_from(arrivals.outerjoin(deliveries, deliveries.c.arrival == arrivals.c.id))
        .where(arrivals.c.document == row_id)
        .order_by(arrivals.c.id)
    )
    return [AnswerStory(**row._mapping) for row in tx.execute(query)]
