"""Notices to people: what was told, where it still has to go, and the questions by which news are found.

A notice's key and level are written once in a life, so nothing is told twice. Functions take an open transaction and
never commit.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, delete, exists, func, insert, select, tuple_, update

from ksefbuffer.queue.db import insert_or, log_after_commit
from ksefbuffer.queue.documents import HAS_TERM, NEVER_SENT
from ksefbuffer.queue.models import arrivals, credentials, deliveries, documents, events, incoming
from ksefbuffer.queue.notice_models import notice_deliveries, notices
from ksefbuffer.queue.states import State

log = logging.getLogger(__name__)

_AT_ONCE = 300
# A transaction that began before may still write an event with a smaller key than those already seen.
_STILL_COMING = timedelta(seconds=10)
_NAMED = 10
_LOOKED_INTO = 500


# Telling


@dataclass(frozen=True)
class NewNotice:
    """``key`` names the thing (≤ 160 characters), ``level`` how far it has got; ``weight``: info, warning, failure. A
    ``silent`` one is only remembered as told."""

    key: str
    level: int
    event: str
    weight: str
    subject: str
    body: str
    silent: bool = False


def unknown(tx: Connection, candidates: Sequence[NewNotice]) -> list[NewNotice]:
    """Those of them that were never told."""
    known: set[tuple[str, int]] = set()
    for start in range(0, len(candidates), _AT_ONCE):
        pairs = [(one.key, one.level) for one in candidates[start : start + _AT_ONCE]]
        rows = tx.execute(
            select(notices.c.key, notices.c.level).where(tuple_(notices.c.key, notices.c.level).in_(pairs))
        )
        known |= {(row.key, row.level) for row in rows}
    return [one for one in candidates if (one.key, one.level) not in known]


def tell(tx: Connection, new: Sequence[NewNotice], places: Sequence[str], *, at: datetime) -> int:
    """Writes notices down and makes them due at every place; those told before are passed over. Returns how many are
    on their way."""
    told = 0
    for one in new:
        row = {
            "key": one.key,
            "level": one.level,
            "event": one.event,
            "weight": one.weight,
            "subject": one.subject,
            "body": one.body,
            "at": at,
        }
        statement = insert_or(tx, notices).values(**row).on_conflict_do_nothing().returning(notices.c.id)
        made = tx.execute(statement).scalar()
        if made is None or one.silent:
            continue
        told += 1
        if places:
            ways = [{"notice": made, "place": place, "due_at": at} for place in places]
            tx.execute(insert(notice_deliveries), ways)
        log_after_commit(tx, log, "notice=%s event=%s key=%s level=%s", made, one.event, one.key, one.level)
    return told


@dataclass(frozen=True)
class Pending:
    """A notice on its way to one place; ``id`` is the delivery's key."""

    id: int
    event: str
    weight: str
    subject: str
    body: str
    at: datetime
    attempts: int


def due_place(tx: Connection, now: datetime) -> str | None:
    """The place whose notice has waited longest, of those due."""
    query = (
        select(notice_deliveries.c.place)
        .where(notice_deliveries.c.due_at <= now)
        .order_by(notice_deliveries.c.due_at, notice_deliveries.c.id)
        .limit(1)
    )
    place: str | None = tx.execute(query).scalar()
    return place


def pending(tx: Connection, place: str, *, limit: int) -> list[Pending]:
    """What has not reached a place, due or not, the oldest first."""
    query = (
        select(
            notice_deliveries.c.id,
            notices.c.event,
            notices.c.weight,
            notices.c.subject,
            notices.c.body,
            notices.c.at,
            notice_deliveries.c.attempts,
        )
        .join(notices, notices.c.id == notice_deliveries.c.notice)
        .where(notice_deliveries.c.due_at.is_not(None), notice_deliveries.c.place == place)
        .order_by(notice_deliveries.c.id)
        .limit(limit)
    )
    return [Pending(*row) for row in tx.execute(query)]


def sent(tx: Connection, ids: Sequence[int], *, at: datetime) -> None:
    tx.execute(
        update(notice_deliveries)
        .where(notice_deliveries.c.id.in_(ids))
        .values(sent_at=at, due_at=None, attempts=notice_deliveries.c.attempts + 1, last_error=None)
    )


def not_sent(tx: Connection, place: str, *, error: str, again_at: datetime) -> None:
    """The place could not be reached: all that waits for it waits on."""
    tx.execute(
        update(notice_deliveries)
        .where(notice_deliveries.c.due_at.is_not(None), notice_deliveries.c.place == place)
        .values(due_at=again_at, attempts=notice_deliveries.c.attempts + 1, last_error=error)
    )


def give_up(tx: Connection, *, before: datetime, of_events: Collection[str] | None = None) -> int:
    """Notices made before then, of these events or all, go nowhere any more; returns how many ways that ends."""
    old = select(notices.c.id).where(notices.c.at < before)
    if of_events is not None:
        old = old.where(notices.c.event.in_(of_events))
    ended = update(notice_deliveries).where(
        notice_deliveries.c.due_at.is_not(None), notice_deliveries.c.notice.in_(old)
    )
    return tx.execute(ended.values(due_at=None)).rowcount


def keep_places(tx: Connection, places: Collection[str]) -> int:
    """Nothing goes to any other place any more: its address is no longer in the settings."""
    ended = update(notice_deliveries).where(
        notice_deliveries.c.due_at.is_not(None), notice_deliveries.c.place.not_in(places)
    )
    return tx.execute(ended.values(due_at=None)).rowcount


def next_due(tx: Connection) -> datetime | None:
    due: datetime | None = tx.execute(
        select(func.min(notice_deliveries.c.due_at)).where(notice_deliveries.c.due_at.is_not(None))
    ).scalar_one()
    return due


def waiting(tx: Connection) -> dict[str, int]:
    """By place: how many notices have not reached it."""
    query = (
        select(notice_deliveries.c.place, func.count().label("waiting"))
        .where(notice_deliveries.c.due_at.is_not(None))
        .group_by(notice_deliveries.c.place)
    )
    return {row.place: row.waiting for row in tx.execute(query)}


def last_error(tx: Connection, place: str) -> str | None:
    """Why the last attempt at a place failed; None when it went well, or when there was none."""
    query = (
        select(notice_deliveries.c.last_error)
        .where(notice_deliveries.c.place == place, notice_deliveries.c.attempts > 0)
        .order_by(notice_deliveries.c.id.desc())
        .limit(1)
    )
    error: str | None = tx.execute(query).scalar()
    return error


def forget(tx: Connection, *, before: datetime, of_events: Collection[str]) -> int:
    """Notices of these events told before then, whose keys cannot come again; returns how many."""
    old = select(notices.c.id).where(notices.c.at < before, notices.c.event.in_(of_events))
    tx.execute(delete(notice_deliveries).where(notice_deliveries.c.notice.in_(old)))
    gone = delete(notices).where(notices.c.at < before, notices.c.event.in_(of_events))
    return tx.execute(gone).rowcount


# What there is to tell of


@dataclass(frozen=True)
class Refused:
    """A refused document as people are told of it: by its number, or by the file or row it came from."""

    number: str | None
    place: str | None
    codes: tuple[str, ...]
    by_ksef: bool


@dataclass(frozen=True)
class Refusals:
    """Documents refused after a mark and still in error; ``upto`` is the mark behind them, ``named`` the newest ones.
    ``codes``: how often each was the reason, among the newest."""

    count: int
    oldest: datetime | None
    upto: int
    by_ksef: int = 0
    named: tuple[Refused, ...] = ()
    codes: tuple[tuple[str, int], ...] = ()


def event_mark(tx: Connection) -> int:
    """The newest move of a document."""
    return int(tx.execute(select(func.coalesce(func.max(events.c.id), 0))).scalar_one())


def refused_since(tx: Connection, mark: int, since: datetime) -> datetime | None:
    """When the first document after ``mark`` and ``since`` was refused."""
    into_error = and_(events.c.id > mark, events.c.to_state == str(State.ERROR), events.c.at > since)
    at: datetime | None = tx.execute(select(func.min(events.c.at)).where(into_error)).scalar_one()
    return at


def refusals(tx: Connection, mark: int, now: datetime, *, since: datetime) -> Refusals:
    """What was refused after ``mark`` and ``since``; the last seconds are left for the next look."""
    settled = events.c.at <= now - _STILL_COMING
    upto = tx.execute(select(func.max(events.c.id)).where(events.c.id > mark, settled)).scalar_one()
    if upto is None:
        return Refusals(0, None, mark)
    into_error = and_(
        events.c.id > mark,
        events.c.id <= upto,
        events.c.to_state == str(State.ERROR),
        events.c.at > since,
        documents.c.state == str(State.ERROR),
    )
    both = events.join(documents, documents.c.id == events.c.document)
    count, oldest = tx.execute(
        select(func.count(documents.c.id.distinct()), func.min(events.c.at)).select_from(both).where(into_error)
    ).one()
    if not count:
        return Refusals(0, None, int(upto))
    place = (
        select(arrivals.c.place)
        .where(arrivals.c.document == documents.c.id)
        .order_by(arrivals.c.id)
        .limit(1)
        .scalar_subquery()
    )
    query = (
        select(documents.c.id, documents.c.invoice_number, place, documents.c.errors, documents.c.judged_by_ksef)
        .select_from(both)
        .where(into_error)
        .order_by(events.c.id.desc())
        .limit(_LOOKED_INTO)
    )
    newest: dict[int, Refused] = {}
    for row_id, number, came_as, errors, by_ksef in tx.execute(query):
        codes = tuple(dict.fromkeys(str(error.get("code", "")) for error in errors))
        newest.setdefault(row_id, Refused(number, came_as, codes, by_ksef))
    tally: dict[str, int] = {}
    for one in newest.values():
        for code in one.codes:
            tally[code] = tally.get(code, 0) + 1
    return Refusals(
        count=count,
        oldest=oldest,
        upto=int(upto),
        by_ksef=sum(one.by_ksef for one in newest.values()),
        named=tuple(newest.values())[:_NAMED],
        codes=tuple(sorted(tally.items(), key=lambda pair: (-pair[1], pair[0]))),
    )


@dataclass(frozen=True, repr=False)
class Doubtful:
    """A received invoice that wants a person's eye."""

    invoice_number: str
    seller_name: str
    seller_nip: str
    verdict: str
    folder: str


@dataclass(frozen=True, repr=False)
class Arrived:
    """Invoices received after a mark; ``upto`` is the mark behind them, ``named`` the first doubtful ones."""

    count: int
    oldest: datetime | None
    upto: int
    folders: tuple[tuple[str, int], ...] = ()
    doubtful: int = 0
    named: tuple[Doubtful, ...] = ()


def incoming_mark(tx: Connection) -> int:
    """The newest received invoice."""
    return int(tx.execute(select(func.coalesce(func.max(incoming.c.id), 0))).scalar_one())


def arrived_since(tx: Connection, mark: int) -> datetime | None:
    """When the first invoice after ``mark`` was stored."""
    first = select(incoming.c.received_at).where(incoming.c.id > mark).order_by(incoming.c.id).limit(1)
    at: datetime | None = tx.execute(first).scalar()
    return at


def arrived(tx: Connection, mark: int, *, since: datetime) -> Arrived:
    """What was received after ``mark`` and ``since``."""
    upto = incoming_mark(tx)
    new = and_(incoming.c.id > mark, incoming.c.id <= upto, incoming.c.received_at > since)
    by_folder = select(incoming.c.folder, func.count(), func.min(incoming.c.received_at)).where(new)
    rows = list(tx.execute(by_folder.group_by(incoming.c.folder)))
    if not rows:
        return Arrived(0, None, max(mark, upto))
    odd = and_(new, incoming.c.verdict != "zasadna")
    named = select(
        incoming.c.invoice_number,
        incoming.c.seller_name,
        incoming.c.seller_nip,
        incoming.c.verdict,
        incoming.c.folder,
    ).where(odd)
    return Arrived(
        count=sum(count for _, count, _ in rows),
        oldest=min(oldest for _, _, oldest in rows),
        upto=upto,
        folders=tuple(sorted(((folder, count) for folder, count, _ in rows), key=lambda pair: (-pair[1], pair[0]))),
        doubtful=int(tx.execute(select(func.count()).select_from(incoming).where(odd)).scalar_one()),
        named=tuple(Doubtful(*row) for row in tx.execute(named.order_by(incoming.c.id).limit(_NAMED))),
    )


@dataclass(frozen=True)
class Term:
    """Documents issued offline that have no number yet and share the end of a term; ``refused`` of them by KSeF."""

    ends: datetime
    count: int
    refused: int


def terms_before(tx: Connection, moment: datetime) -> list[Term]:
    """Terms that end before ``moment``, the earliest first. What a person has withdrawn, or a technical correction has
    taken over, has none."""
    corrections = documents.alias("corrections")
    taken_over = exists().where(
        corrections.c.corrects_sha256 == documents.c.sha256,
        corrections.c.state.not_in([str(State.ERROR), str(State.CANCELLED)]),
    )
    query = (
        select(
            documents.c.offline_deadline,
            func.count(),
            func.count().filter(documents.c.state == str(State.ERROR)),
        )
        .where(
            *HAS_TERM,
            documents.c.offline_deadline <= moment,
            documents.c.offline_mode != NEVER_SENT,
            documents.c.state != str(State.CANCELLED),
            ~and_(documents.c.state == str(State.ERROR), taken_over),
        )
        .group_by(documents.c.offline_deadline)
        .order_by(documents.c.offline_deadline)
    )
    return [Term(*row) for row in tx.execute(query)]


@dataclass(frozen=True)
class KeptCertificate:
    """How long a certificate of the database lasts. ``revoked_at`` is set only where no other one serves its purpose
    ("auth", "offline")."""

    purpose: str
    source: str
    fingerprint: str
    ends_at: datetime
    revoked_at: datetime | None


def certificates(tx: Connection) -> list[KeptCertificate]:
    """The certificate in use for each purpose, or the one whose revocation left none."""
    query = (
        select(
            credentials.c.purpose,
            credentials.c.source,
            credentials.c.fingerprint,
            credentials.c.valid_to,
            credentials.c.ended_at,
            credentials.c.state,
        )
        .where(credentials.c.state.in_(["active", "revoked"]), credentials.c.valid_to.is_not(None))
        .order_by(credentials.c.state, credentials.c.id.desc())
    )
    found: dict[str, KeptCertificate] = {}
    for row in tx.execute(query):
        revoked_at = row.ended_at if row.state == "revoked" else None
        one = KeptCertificate(row.purpose, row.source, row.fingerprint, row.valid_to, revoked_at)
        found.setdefault(row.purpose, one)
    return list(found.values())


@dataclass(frozen=True)
class Undelivered:
    """Answers that could not be delivered at least once."""

    count: int
    last_error: str | None = field(repr=False, default=None)


def answers_failing(tx: Connection) -> Undelivered:
    """Answers to the ERP that wait after a failed attempt."""
    failing: Any = and_(deliveries.c.told < deliveries.c.wanted, deliveries.c.attempts > 0)
    count, error = tx.execute(select(func.count(), func.max(deliveries.c.last_error)).where(failing)).one()
    return Undelivered(int(count), error)


def unjudged(tx: Connection, handed_before: datetime) -> int:
    """Documents handed to KSeF before then that it has not judged."""
    late = and_(documents.c.state == str(State.PROCESSING), documents.c.handed_at < handed_before)
    return int(tx.execute(select(func.count()).select_from(documents).where(late)).scalar_one())
