"""Invoices that KSeF holds for us: each once by its number, with what was made of it. Functions take an open
transaction and never commit.

Files below the incoming folder and rows in the ERP's table are projections: ``file_due_at`` and ``row_due_at`` say that
one is to be made, or made anew.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    case,
    column,
    delete,
    false,
    func,
    insert,
    literal_column,
    or_,
    select,
    table,
    tuple_,
    update,
)

from ksefbuffer.errors import NoSuchThing
from ksefbuffer.invoice.folding import fold
from ksefbuffer.queue.db import insert_or, log_after_commit
from ksefbuffer.queue.models import UtcTime, incoming, incoming_events, incoming_keys, seller_accounts

log = logging.getLogger(__name__)

DECISIONS = ("accepted", "rejected", "scam")
_AT_ONCE = 300
_MOST_ANSWERS = 300
_SHORTEST_NUMBER = 8
_MOST_BYTES_AT_ONCE = 32_000_000


@dataclass(frozen=True, repr=False)
class NewIncoming:
    """An invoice as it came. ``meta`` is KSeF's metadata as JSON text; ``keys`` are pairs of a kind (account, advance,
    corrected, delivery, original) and a value; ``search`` its words, folded."""

    ksef_number: str
    sha256: str
    content: bytes
    meta: str
    roles: frozenset[str]
    form: str | None
    invoice_number: str
    number_key: str
    invoice_type: str
    issue_date: date | None
    seller_nip: str
    seller_name: str
    buyer_nip: str
    currency: str
    gross: Decimal | None
    invoiced_at: datetime | None
    acquired_at: datetime | None
    stored_at_ksef: str
    mode: str
    damage: Sequence[str]
    likeness: str
    search: str
    keys: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, repr=False)
class Judgement:
    """What was made of it: where it goes, why, by which rulebook, and whether it was rightly issued."""

    folder: str
    tags: Sequence[str]
    reasons: Sequence[Mapping[str, Any]]
    store: str
    rulebook: int
    verdict: str
    fired: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, repr=False)
class Incoming:
    """A stored invoice without its bytes. ``roles`` of buyer, third, authorized, seller; ``path`` is where its file
    lies below the incoming folder, None until it was written."""

    id: int
    ksef_number: str
    sha256: str
    size: int
    roles: frozenset[str]
    form: str | None
    invoice_number: str
    invoice_type: str
    issue_date: date | None
    seller_nip: str
    seller_name: str
    buyer_nip: str
    currency: str
    gross: Decimal | None
    invoiced_at: datetime | None
    acquired_at: datetime | None
    stored_at_ksef: str
    mode: str
    damage: list[str]
    store: str
    folder: str
    tags: list[str]
    reasons: list[dict[str, Any]]
    rulebook: int
    verdict: str
    fired: list[dict[str, Any]]
    decision: str | None
    comment: str | None
    decided_by: str | None
    decided_at: datetime | None
    path: str | None
    file_due_at: datetime | None
    file_attempts: int
    file_error: str | None
    row_due_at: datetime | None
    row_attempts: int
    row_error: str | None
    received_at: datetime
    updated_at: datetime


_LEFT_OUT = ("content", "meta", "search", "number_key", "likeness")
_selection = select(*(column for column in incoming.c if column.name not in _LEFT_OUT))


def _incoming(row: Any) -> Incoming:
    values = dict(row._mapping)
    values["roles"] = roles_of(values["roles"])
    return Incoming(**values)


def roles_of(joined: str) -> frozenset[str]:
    return frozenset(filter(None, joined.split(",")))


def _joined(roles: frozenset[str]) -> str:
    return ",".join(sorted(roles))


# Storing


def known(tx: Connection, ksef_numbers: Sequence[str]) -> dict[str, Incoming]:
    """Those of these numbers that are stored, by number."""
    found: dict[str, Incoming] = {}
    for start in range(0, len(ksef_numbers), _AT_ONCE):
        query = _selection.where(incoming.c.ksef_number.in_(ksef_numbers[start : start + _AT_ONCE]))
        found.update((one.ksef_number, one) for one in map(_incoming, tx.execute(query)))
    return found


def roles_known(tx: Connection, ksef_numbers: Sequence[str]) -> dict[str, frozenset[str]]:
    """Those of these numbers that are stored, with our roles in them."""
    found: dict[str, frozenset[str]] = {}
    for start in range(0, len(ksef_numbers), _AT_ONCE):
        some = ksef_numbers[start : start + _AT_ONCE]
        query = select(incoming.c.ksef_number, incoming.c.roles).where(incoming.c.ksef_number.in_(some))
        found.update((row.ksef_number, roles_of(row.roles)) for row in tx.execute(query))
    return found


def store(tx: Connection, new: Sequence[NewIncoming], *, at: datetime, actor: str) -> dict[str, int]:
    """Stores invoices, to be judged in the same transaction; keys by KSeF number. What is stored already (by another
    node of this buffer, a moment ago) is left as it is and not in the result."""
    if not new:
        return {}
    statement = insert_or(tx, incoming).on_conflict_do_nothing().returning(incoming.c.id, incoming.c.ksef_number)
    rows = tx.execute(statement, [_row(one, at) for one in new])
    stored = {row.ksef_number: row.id for row in rows}
    fresh = [one for one in new if one.ksef_number in stored]
    keys = [
        {"incoming": stored[one.ksef_number], "kind": kind, "value": value}
        for one in fresh
        for kind, value in sorted(one.keys)
    ]
    if keys:
        tx.execute(insert(incoming_keys), keys)
    _note_accounts(tx, fresh, at)
    _tell(tx, [(row_id, "stored", "") for row_id in stored.values()], at=at, actor=actor)
    log_after_commit(tx, log, "incoming stored=%s actor=%s", len(stored), actor)
    return stored


def _row(one: NewIncoming, at: datetime) -> dict[str, Any]:
    return {
        "ksef_number": one.ksef_number,
        "sha256": one.sha256,
        "size": len(one.content),
        "content": one.content,
        "meta": one.meta,
        "roles": _joined(one.roles),
        "form": one.form,
        "invoice_number": one.invoice_number,
        "number_key": one.number_key,
        "invoice_type": one.invoice_type,
        "issue_date": one.issue_date,
        "seller_nip": one.seller_nip,
        "seller_name": one.seller_name,
        "buyer_nip": one.buyer_nip,
        "currency": one.currency,
        "gross": one.gross,
        "invoiced_at": one.invoiced_at,
        "acquired_at": one.acquired_at,
        "stored_at_ksef": one.stored_at_ksef,
        "mode": one.mode,
        "damage": list(one.damage),
        "likeness": one.likeness,
        "search": one.search,
        "store": "",
        "folder": "",
        "tags": [],
        "reasons": [],
        "rulebook": 0,
        "verdict": "do wyjaśnienia",
        "fired": [],
        "received_at": at,
        "updated_at": at,
    }


def _note_accounts(tx: Connection, fresh: Sequence[NewIncoming], at: datetime) -> None:
    first: dict[tuple[str, str], datetime] = {}
    for one in fresh:
        moment = one.invoiced_at or at
        for kind, value in one.keys:
            if kind == "account":
                known = first.get((one.seller_nip, value))
                first[one.seller_nip, value] = moment if known is None else min(known, moment)
    if not first:
        return
    statement = insert_or(tx, seller_accounts)
    earlier = case(
        (statement.excluded.first_at < seller_accounts.c.first_at, statement.excluded.first_at),
        else_=seller_accounts.c.first_at,
    )
    statement = statement.on_conflict_do_update(
        index_elements=[seller_accounts.c.seller_nip, seller_accounts.c.account], set_={"first_at": earlier}
    )
    rows = [{"seller_nip": nip, "account": account, "first_at": at_} for (nip, account), at_ in sorted(first.items())]
    tx.execute(statement, rows)


def judge(
    tx: Connection, judged: Mapping[int, Judgement], *, at: datetime, actor: str, note: str = "", row: bool
) -> None:
    """Writes down what was made of invoices, by key, and makes their files due; with ``row`` their rows in the ERP's
    table too."""
    if not judged:
        return
    names = ("folder", "tags", "reasons", "store", "rulebook", "verdict", "fired")
    statement = (
        update(incoming)
        .where(incoming.c.id == bindparam("judged"))
        .values(updated_at=at, file_due_at=at, file_attempts=0, **{name: bindparam(f"its_{name}") for name in names})
    )
    if row:
        statement = statement.values(row_due_at=at, row_attempts=0)
    tx.execute(
        statement,
        [
            {
                "judged": row_id,
                "its_folder": one.folder,
                "its_tags": list(one.tags),
                "its_reasons": [dict(reason) for reason in one.reasons],
                "its_store": one.store,
                "its_rulebook": one.rulebook,
                "its_verdict": one.verdict,
                "its_fired": [dict(fired) for fired in one.fired],
            }
            for row_id, one in judged.items()
        ],
    )
    told = [(row_id, "filed", note or f"{one.folder} ({one.verdict})") for row_id, one in judged.items()]
    _tell(tx, told, at=at, actor=actor)


def add_roles(tx: Connection, one: Incoming, roles: frozenset[str], *, at: datetime, actor: str) -> frozenset[str]:
    """Our further roles in a stored invoice; returns all of them."""
    row = tx.execute(select(incoming.c.roles).where(incoming.c.id == one.id).with_for_update()).scalar_one()
    before = roles_of(row)
    after = before | roles
    if after != before:
        tx.execute(update(incoming).where(incoming.c.id == one.id).values(roles=_joined(after), updated_at=at))
        _tell(tx, [(one.id, "role", ", ".join(sorted(after - before)))], at=at, actor=actor)
    return after


def decide(tx: Connection, one: Incoming, decision: str, comment: str, *, at: datetime, actor: str, row: bool) -> None:
    """A person's word on it, kept here alone: KSeF knows no refusal of a received invoice."""
    if decision not in DECISIONS:
        raise ValueError(f"no decision: {decision}")
    values: dict[str, Any] = {
        "decision": decision,
        "comment": comment,
        "decided_by": actor,
        "decided_at": at,
        "updated_at": at,
    }
    if row:
        values |= {"row_due_at": at, "row_attempts": 0}
    tx.execute(update(incoming).where(incoming.c.id == one.id).values(**values))
    _reconsider_accounts(tx, one)
    _tell(tx, [(one.id, decision, comment)], at=at, actor=actor)


def _reconsider_accounts(tx: Connection, one: Incoming) -> None:
    """An account counts as known only from invoices that nobody has rejected."""
    query = select(incoming_keys.c.value).where(incoming_keys.c.incoming == one.id, incoming_keys.c.kind == "account")
    for account in list(tx.execute(query).scalars()):
        first = tx.execute(
            select(func.min(func.coalesce(incoming.c.invoiced_at, incoming.c.received_at, type_=UtcTime)))
            .join(incoming_keys, incoming_keys.c.incoming == incoming.c.id)
            .where(
                incoming_keys.c.kind == "account",
                incoming_keys.c.value == account,
                incoming.c.seller_nip == one.seller_nip,
                or_(incoming.c.decision.is_(None), incoming.c.decision == "accepted"),
            )
        ).scalar()
        tx.execute(
            delete(seller_accounts).where(
                seller_accounts.c.seller_nip == one.seller_nip, seller_accounts.c.account == account
            )
        )
        if first is not None:
            tx.execute(insert(seller_accounts).values(seller_nip=one.seller_nip, account=account, first_at=first))


def _tell(tx: Connection, told: Sequence[tuple[int, str, str]], *, at: datetime, actor: str) -> None:
    if told:
        tx.execute(
            insert(incoming_events),
            [
                {"incoming": row_id, "at": at, "event": event, "actor": actor, "note": note}
                for row_id, event, note in told
            ],
        )


# Reading


def find(tx: Connection, ksef_number: str) -> Incoming:
    """By its KSeF number (that of KSeF 1.0 with or without the inner hyphen). Raises NoSuchThing."""
    given = ksef_number.strip().upper()
    row = tx.execute(_selection.where(incoming.c.ksef_number.in_([given, canonical(given)]))).first()
    if row is None:
        raise NoSuchThing(f"Nie ma faktury przychodzącej „{ksef_number}”.", action="Lista: ksefbuffer incoming list.")
    return _incoming(row)


def canonical(ksef_number: str) -> str:
    """The number without the inner hyphen that KSeF 1.0 wrote."""
    number = ksef_number.strip().upper()
    return number[:26] + number[27:] if len(number) == 36 and number[26] == "-" else number


def get(tx: Connection, row_id: int) -> Incoming:
    return _incoming(tx.execute(_selection.where(incoming.c.id == row_id)).one())


def content(tx: Connection, row_id: int) -> bytes:
    """The bytes as KSeF gave them."""
    found: bytes = tx.execute(select(incoming.c.content).where(incoming.c.id == row_id)).scalar_one()
    return found


def contents(tx: Connection, row_ids: Sequence[int]) -> dict[int, bytes]:
    query = select(incoming.c.id, incoming.c.content).where(incoming.c.id.in_(row_ids))
    return {row.id: row.content for row in tx.execute(query)}


def metadata_of(tx: Connection, row_ids: Sequence[int]) -> dict[int, str]:
    """KSeF's metadata of each, as JSON text."""
    query = select(incoming.c.id, incoming.c.meta).where(incoming.c.id.in_(row_ids))
    return {row.id: row.meta for row in tx.execute(query)}


def history(tx: Connection, row_id: int) -> list[dict[str, Any]]:
    """Its story, oldest first."""
    columns = (incoming_events.c.at, incoming_events.c.event, incoming_events.c.actor, incoming_events.c.note)
    query = select(*columns).where(incoming_events.c.incoming == row_id).order_by(incoming_events.c.id)
    return [dict(row._mapping) for row in tx.execute(query)]


@dataclass(frozen=True)
class Wanted:
    """What to list. ``folder`` with its subfolders; ``since`` and ``until`` are issue dates; ``words`` may begin any
    word of the invoice: number, seller, NIP, amount, date, delivery, order; ``received_since`` is when we got it."""

    folder: str = ""
    since: date | None = None
    until: date | None = None
    received_since: datetime | None = None
    verdict: str = ""
    decision: str = ""
    role: str = ""
    words: str = ""


def listing(
    tx: Connection, wanted: Wanted = Wanted(), *, limit: int = 100, before: int | None = None
) -> list[Incoming]:
    """Newest first; ``before`` is the key of the last one already given."""
    query = _selection.where(*_conditions(tx, wanted))
    if before is not None:
        query = query.where(incoming.c.id < before)
    return [_incoming(row) for row in tx.execute(query.order_by(incoming.c.id.desc()).limit(limit))]


def keys_of(tx: Connection, wanted: Wanted = Wanted(), *, after: int = 0, limit: int = 1000) -> list[int]:
    """Keys in the order of storing, those after ``after``: to go through many without holding them."""
    query = select(incoming.c.id).where(*_conditions(tx, wanted), incoming.c.id > after).order_by(incoming.c.id)
    return list(tx.execute(query.limit(limit)).scalars())


def some(tx: Connection, row_ids: Sequence[int]) -> list[Incoming]:
    query = _selection.where(incoming.c.id.in_(row_ids)).order_by(incoming.c.id)
    return [_incoming(row) for row in tx.execute(query)]


def count(tx: Connection, wanted: Wanted = Wanted()) -> int:
    query = select(func.count()).select_from(incoming).where(*_conditions(tx, wanted))
    return int(tx.execute(query).scalar_one())


def below(tx: Connection, folder: str) -> ColumnElement[bool]:
    """An invoice lies below a folder, not in it: by the very letters, as rights hang on it (SQLite's LIKE takes no
    notice of case)."""
    prefix = f"{folder}/"
    if tx.dialect.name == "sqlite":
        # As a range, for which the index serves; "0" is what follows "/". Elsewhere texts have orders of their own.
        return and_(incoming.c.folder >= prefix, incoming.c.folder < f"{folder}0")
    return func.substr(incoming.c.folder, 1, len(prefix)) == prefix


def _conditions(tx: Connection, wanted: Wanted) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if wanted.folder:
        found.append(or_(incoming.c.folder == wanted.folder, below(tx, wanted.folder)))
    if wanted.since is not None:
        found.append(incoming.c.issue_date >= wanted.since)
    if wanted.until is not None:
        found.append(incoming.c.issue_date <= wanted.until)
    if wanted.received_since is not None:
        found.append(incoming.c.received_at >= wanted.received_since)
    if wanted.verdict:
        found.append(incoming.c.verdict == wanted.verdict)
    if wanted.decision:
        undecided = wanted.decision == "none"
        found.append(incoming.c.decision.is_(None) if undecided else incoming.c.decision == wanted.decision)
    if wanted.role:
        found.append(incoming.c.roles.contains(wanted.role, autoescape=True))
    words = search_words(wanted.words)
    if wanted.words and not words:
        return [false()]
    if words:
        found.append(_has_words(tx, words))
    return found


def search_words(text: str) -> list[str]:
    """The words of a text as they are stored and searched for: folded, letters and digits only."""
    return "".join(sign if sign.isalnum() else " " for sign in fold(text)).split()


def _has_words(tx: Connection, words: Sequence[str]) -> ColumnElement[bool]:
    if tx.dialect.name == "sqlite":
        index = table("incoming_search", column("rowid"), column("incoming_search"))
        asked = " AND ".join(f'"{word}"*' for word in words)
        return incoming.c.id.in_(select(index.c.rowid).where(index.c.incoming_search.op("MATCH")(asked)))
    # Written as in the index, or it would not be used.
    simple: ColumnElement[str] = literal_column("'simple'")
    asked = " & ".join(f"{word}:*" for word in words)
    return func.to_tsvector(simple, incoming.c.search).bool_op("@@")(func.to_tsquery(simple, asked))


# What the checks ask of the archive


@dataclass(frozen=True, repr=False)
class Found:
    """A stored invoice as another one's checks see it; ``keys`` are those of the asked keys that it has."""

    ksef_number: str
    seller_nip: str
    buyer_nip: str
    invoice_type: str
    invoice_number: str
    issue_date: date | None
    gross: Decimal | None
    currency: str
    invoiced_at: datetime | None
    keys: frozenset[str] = frozenset()


_found = select(
    incoming.c.ksef_number,
    incoming.c.seller_nip,
    incoming.c.buyer_nip,
    incoming.c.invoice_type,
    incoming.c.invoice_number,
    incoming.c.issue_date,
    incoming.c.gross,
    incoming.c.currency,
    incoming.c.invoiced_at,
)


def _as_found(row: Any, keys: frozenset[str] = frozenset()) -> Found:
    return Found(**{column.name: row._mapping[column.name] for column in _found.selected_columns}, keys=keys)


_CORRECTIONS = ("KOR", "KOR_ZAL", "KOR_ROZ", "KOR_VAT_RR")
_ADVANCES = ("ZAL",)


def numbered(tx: Connection, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], list[Found]]:
    """Invoices by seller and folded number (``keys``: that one), the latest first."""
    query = _found.add_columns(incoming.c.number_key).where(
        tuple_(incoming.c.seller_nip, incoming.c.number_key).in_(pairs)
    )
    found: dict[tuple[str, str], list[Found]] = {}
    for row in tx.execute(query.order_by(incoming.c.id.desc()).limit(_MOST_ANSWERS * len(pairs))):
        one = _as_found(row, frozenset((row.number_key,)))
        found.setdefault((one.seller_nip, row.number_key), []).append(one)
    return found


def numbers(tx: Connection, ksef_numbers: Sequence[str]) -> list[Found]:
    """Invoices by their KSeF numbers."""
    query = _latest(_found.where(incoming.c.ksef_number.in_(ksef_numbers)))
    return [_as_found(row) for row in tx.execute(query)]


def delivered(tx: Connection, seller_nip: str, keys: Sequence[str], since: date) -> list[Found]:
    """Plain invoices of a seller, issued since, that name one of these deliveries."""
    plain = and_(
        incoming.c.seller_nip == seller_nip,
        incoming.c.issue_date >= since,
        incoming.c.invoice_type.not_in((*_CORRECTIONS, *_ADVANCES)),
    )
    return _by_keys(tx, "delivery", keys, plain)


def alike(tx: Connection, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], list[Found]]:
    """Invoices by seller and likeness, the latest first."""
    query = _found.add_columns(incoming.c.likeness).where(tuple_(incoming.c.seller_nip, incoming.c.likeness).in_(pairs))
    found: dict[tuple[str, str], list[Found]] = {}
    for row in tx.execute(query.order_by(incoming.c.id.desc()).limit(_MOST_ANSWERS * len(pairs))):
        found.setdefault((row.seller_nip, row.likeness), []).append(_as_found(row))
    return found


def corrections(tx: Connection, ksef_number: str) -> list[Found]:
    """Corrections that name this invoice, and no other."""
    other = incoming_keys.alias("other")
    others = select(other.c.incoming).where(
        other.c.kind == "corrected", other.c.value != ksef_number, other.c.incoming == incoming.c.id
    )
    return _by_keys(tx, "corrected", [ksef_number], ~others.exists())


def settlements(tx: Connection, ksef_numbers: Sequence[str]) -> list[Found]:
    """Settlements of these advance invoices; ``keys``: the advances' numbers."""
    return _by_keys(tx, "advance", ksef_numbers, incoming.c.invoice_type == "ROZ")


def accounts(tx: Connection, seller_nips: Sequence[str]) -> dict[str, dict[str, datetime]]:
    """By seller: its accounts on invoices that nobody rejected, each with the earliest of those."""
    query = select(seller_accounts).where(seller_accounts.c.seller_nip.in_(seller_nips))
    found: dict[str, dict[str, datetime]] = {}
    for row in tx.execute(query):
        found.setdefault(row.seller_nip, {})[row.account] = row.first_at
    return found


def deliveries_named(tx: Connection, keys: Sequence[str]) -> frozenset[str]:
    """Which of these delivery keys more than one stored invoice names."""
    query = (
        select(incoming_keys.c.value)
        .where(incoming_keys.c.kind == "delivery", incoming_keys.c.value.in_(keys))
        .group_by(incoming_keys.c.value)
        .having(func.count() > 1)
    )
    return frozenset(tx.execute(query).scalars())


def _by_keys(tx: Connection, kind: str, values: Sequence[str], condition: ColumnElement[bool]) -> list[Found]:
    query = (
        _found.add_columns(incoming_keys.c.value)
        .join(incoming_keys, incoming_keys.c.incoming == incoming.c.id)
        .where(incoming_keys.c.kind == kind, incoming_keys.c.value.in_(values), condition)
    )
    keys: dict[str, set[str]] = {}
    rows: dict[str, Any] = {}
    for row in tx.execute(_latest(query)):
        rows[row.ksef_number] = row
        keys.setdefault(row.ksef_number, set()).add(row.value)
    return [_as_found(row, frozenset(keys[number])) for number, row in rows.items()]


def _latest(query: Any) -> Any:
    return query.order_by(incoming.c.id.desc()).limit(_MOST_ANSWERS)


def correcting(tx: Connection, ksef_numbers: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[Incoming]:
    """Stored corrections of these invoices: by KSeF number, or by seller and folded number; the earliest first."""
    if not ksef_numbers and not pairs:
        return []
    by_number = and_(incoming_keys.c.kind == "corrected", incoming_keys.c.value.in_(ksef_numbers))
    by_pair = and_(
        incoming_keys.c.kind == "original",
        incoming_keys.c.value.in_([key for _, key in pairs]),
        tuple_(incoming.c.seller_nip, incoming_keys.c.value).in_(pairs),
    )
    found = (
        select(incoming_keys.c.incoming)
        .join(incoming, incoming.c.id == incoming_keys.c.incoming)
        .where(or_(by_number, by_pair))
    )
    return [_incoming(row) for row in tx.execute(_selection.where(incoming.c.id.in_(found)).order_by(incoming.c.id))]


def folder_of(tx: Connection, ksef_numbers: Sequence[str], seller_nip: str, number_keys: Sequence[str]) -> str | None:
    """The folder of the first of these that is stored: by KSeF number, else by the seller's number."""
    if ksef_numbers:
        folder: str | None = tx.execute(
            select(incoming.c.folder).where(incoming.c.ksef_number.in_(ksef_numbers)).order_by(incoming.c.id).limit(1)
        ).scalar()
        if folder:
            return folder
    if not number_keys:
        return None
    query = select(incoming.c.folder).where(incoming.c.seller_nip == seller_nip, incoming.c.number_key.in_(number_keys))
    found: str | None = tx.execute(query.order_by(incoming.c.id).limit(1)).scalar()
    return found or None


# Projections


@dataclass(frozen=True, repr=False)
class FileDue:
    """An invoice whose file is to be written, or moved from ``path`` (None: it has none yet). ``due_at`` says since
    when, and by it whether it was filed anew meanwhile; ``acquired_at`` and ``mode`` are KSeF's."""

    id: int
    ksef_number: str
    seller_nip: str
    invoice_number: str
    issue_date: date | None
    folder: str
    path: str | None
    content: bytes = field(repr=False)
    attempts: int = 0
    due_at: datetime | None = None
    acquired_at: datetime | None = None
    mode: str = ""


def files_due(tx: Connection, now: datetime, *, limit: int, most_bytes: int = _MOST_BYTES_AT_ONCE) -> list[FileDue]:
    """The files due first: up to ``limit``, and fewer (one at least) where their bytes are many."""
    columns = incoming.c
    first = (
        select(columns.id, columns.size)
        .where(columns.file_due_at <= now)
        .order_by(columns.file_due_at, columns.id)
        .limit(limit)
    )
    keys = [key for key, before in _with_bytes_before(tx.execute(first)) if before < most_bytes]
    query = (
        select(
            columns.id,
            columns.ksef_number,
            columns.seller_nip,
            columns.invoice_number,
            columns.issue_date,
            columns.folder,
            columns.path,
            columns.content,
            columns.file_attempts,
            columns.file_due_at,
            columns.acquired_at,
            columns.mode,
        )
        .where(columns.id.in_(keys))
        .order_by(columns.file_due_at, columns.id)
    )
    rows: Iterable[Any] = tx.execute(query)
    return [FileDue(*row) for row in rows]


def _with_bytes_before(sizes: Iterable[Any]) -> Iterator[tuple[int, int]]:
    before = 0
    for row in sizes:
        yield row.id, before
        before += row.size


def filed(
    tx: Connection, done: Mapping[int, tuple[str, str]], *, due: Mapping[int, datetime | None] | None = None
) -> None:
    """By key: the folder it was written for, and the path. One that was filed anew meanwhile stays due. ``due`` (when
    each had been due) tells that also of one that stays in its folder, whose rights may have changed."""
    if not done:
        return
    rows = [
        {"its_id": row_id, "its_folder": folder, "its_path": path, "its_due": due[row_id] if due else None}
        for row_id, (folder, path) in done.items()
    ]
    here = incoming.c.id == bindparam("its_id")
    lies = update(incoming).where(here).values(path=bindparam("its_path"), file_error=None)
    same = update(incoming).where(here, incoming.c.folder == bindparam("its_folder"))
    if due is not None:
        same = same.where(incoming.c.file_due_at == bindparam("its_due"))
    tx.execute(lies, rows)
    tx.execute(same.values(file_due_at=None, file_attempts=0), rows)


def filing_failed(tx: Connection, row_id: int, reason: str, *, again: datetime, path: str | None = None) -> None:
    """``path``: where it was written all the same, if only for the time being."""
    values: dict[str, Any] = {
        "file_error": reason,
        "file_due_at": again,
        "file_attempts": incoming.c.file_attempts + 1,
    }
    if path is not None:
        values["path"] = path
    tx.execute(update(incoming).where(incoming.c.id == row_id).values(**values))


def file_all_again(tx: Connection, *, at: datetime) -> int:
    """Every file is to be written anew: the folder was lost, or somebody tidied it up."""
    return tx.execute(update(incoming).values(file_due_at=at, file_attempts=0)).rowcount


def rows_due(tx: Connection, now: datetime, *, limit: int) -> list[Incoming]:
    """Invoices whose row in the ERP's table is to be written."""
    query = _selection.where(incoming.c.row_due_at <= now).order_by(incoming.c.row_due_at, incoming.c.id).limit(limit)
    return [_incoming(row) for row in tx.execute(query)]


def row_written(tx: Connection, one: Incoming) -> None:
    """Its row says what ``one`` said; what changed since stays due."""
    tx.execute(
        update(incoming)
        .where(incoming.c.id == one.id, incoming.c.updated_at == one.updated_at)
        .values(row_due_at=None, row_attempts=0, row_error=None)
    )


def row_failed(tx: Connection, row_id: int, reason: str, *, again: datetime) -> None:
    tx.execute(
        update(incoming)
        .where(incoming.c.id == row_id)
        .values(row_error=reason, row_due_at=again, row_attempts=incoming.c.row_attempts + 1)
    )


def write_rows_for_all(tx: Connection, *, at: datetime) -> int:
    """The ERP's table was switched on, or emptied: every invoice is handed over (again)."""
    return tx.execute(update(incoming).values(row_due_at=at, row_attempts=0)).rowcount


def next_due(tx: Connection, projection: str) -> datetime | None:
    """When the next file ("file") or row ("row") is due."""
    moment = incoming.c[f"{projection}_due_at"]
    due: datetime | None = tx.execute(select(func.min(moment)).where(moment.is_not(None))).scalar_one()
    return due
