"""Outgoing documents. Functions take an open transaction and never commit; ``apply`` is the one door for moves."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    case,
    func,
    insert,
    literal,
    literal_column,
    not_,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.exc import IntegrityError

from ksefbuffer.errors import NoSuchThing, NotAllowedNow
from ksefbuffer.queue import deliveries
from ksefbuffer.queue.db import log_after_commit
from ksefbuffer.queue.models import UtcTime, arrivals, documents, events, sessions
from ksefbuffer.queue.states import HOLDS_NUMBER, WAITING, Event, State, after

log = logging.getLogger(__name__)


class Clash(NotAllowedNow):
    """Somebody else stored the same bytes, or took the same invoice number, a moment before."""


@dataclass(frozen=True)
class NewDocument:
    """What the door hands over. ``content`` is None only for a refused file too large to be an invoice."""

    sha256: str
    size: int
    content: bytes | None
    form: str | None = None
    invoice_number: str | None = None
    invoice_type: str | None = None
    issue_date: date | None = None
    seller_nip: str | None = None
    business_key: str | None = None
    corrects: Sequence[dict[str, Any]] = ()
    urgent: bool = False
    offline: bool = False
    online_only: bool = False
    corrects_sha256: str | None = None
    attachment: bool = False
    errors: Sequence[dict[str, Any]] = ()
    warnings: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True)
class Document:
    """A document as its row says, without the bytes. ``session_reference`` is where KSeF judged it; ``offline`` is how
    it is to be sent, ``offline_mode`` in which mode it was issued (None: online)."""

    id: int
    document_id: str
    sha256: str
    size: int
    form: str | None
    invoice_number: str | None
    invoice_type: str | None
    issue_date: date | None
    seller_nip: str | None
    business_key: str | None
    corrects: list[dict[str, Any]]
    state: State
    urgent: bool
    offline: bool
    corrects_sha256: str | None
    judged_by_ksef: bool
    session_id: int | None
    session_reference: str | None
    invoice_reference: str | None
    handed_at: datetime | None
    ksef_number: str | None
    accepted_at: datetime | None
    invoicing_mode: str | None
    has_upo: bool
    upo_attempts: int
    verdict: dict[str, Any] | None
    attempts: int
    resends: int
    attachment: bool
    batch_failures: int
    next_attempt_at: datetime | None
    next_poll_at: datetime | None
    polls: int
    waits_for: str | None
    errors: list[dict[str, Any]]
    warnings: list[dict[str, Any]]
    received_at: datetime
    updated_at: datetime
    online_only: bool = False
    offline_mode: str | None = None
    offline_since: datetime | None = None
    offline_event: dict[str, Any] | None = None
    offline_deadline: datetime | None = None
    offline_term: str | None = None
    certificate_url: str | None = None


_columns = [column for column in documents.c if column.name not in ("content", "upo", "adopted_session")]
_session_reference = func.coalesce(documents.c.adopted_session, sessions.c.reference).label("session_reference")
_selection = select(*_columns, documents.c.upo.is_not(None).label("has_upo"), _session_reference).select_from(
    documents.outerjoin(sessions, documents.c.session_id == sessions.c.id)
)


def _in(states: Iterable[State]) -> ColumnElement[bool]:
    """In one of these states, written out as in the indexes over them: about parameters the database cannot know
    that such an index holds all that is asked for, and it would read every finished document."""
    return documents.c.state.in_([literal_column(f"'{state}'") for state in sorted(states)])


# As in the index over them: issued offline, and not numbered yet.
HAS_TERM = (documents.c.offline_mode.is_not(None), documents.c.ksef_number.is_(None))
_in_processing = documents.c.state == literal_column(f"'{State.PROCESSING}'")


def _by(query: Select[Any], index: str) -> Select[Any]:
    """The query by this index: SQLite, which keeps no figures of ours, takes that of the states for the better one."""
    return query.with_hint(documents, f"INDEXED BY {index}", "sqlite")


def _document(row: Any) -> Document:
    values = dict(row._mapping)
    values["state"] = State(values["state"])
    del values["upo_due_at"]
    return Document(**values)


def new_document_id(now: datetime) -> str:
    """A UUIDv7 (RFC 9562): sorts by time."""
    milliseconds = int(now.timestamp() * 1000)
    value = bytearray(milliseconds.to_bytes(6, "big") + os.urandom(10))
    value[6] = (value[6] & 0x0F) | 0x70
    value[8] = (value[8] & 0x3F) | 0x80
    text = value.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def insert_all(tx: Connection, new: Sequence[NewDocument], *, at: datetime, actor: str) -> list[Document]:
    """Stores documents, each into ``error`` when it carries errors, else into ``queued``; returns them in order.

    Raises Clash when the same bytes, or the same number in a state that holds it, came in meanwhile; the transaction
    is then good for nothing but undoing.
    """
    try:
        tx.execute(insert(documents), [_row(one, at) for one in new])
    except IntegrityError as error:
        raise Clash("Taki dokument właśnie przyjęto.") from error
    stored = by_sha256s(tx, [one.sha256 for one in new])
    found = [stored[one.sha256] for one in new]
    tx.execute(
        insert(events),
        [
            {
                "document": document.id,
                "at": at,
                "event": str(Event.TURNED_AWAY if document.errors else Event.ACCEPTED),
                "from_state": None,
                "to_state": str(document.state),
                "actor": actor,
                "note": ", ".join(dict.fromkeys(str(error["code"]) for error in document.errors)),
            }
            for document in found
        ],
    )
    for document in found:
        log_after_commit(tx, log, "document=%s →%s actor=%s", document.document_id, document.state, actor)
    return found


def insert_document(tx: Connection, new: NewDocument, *, at: datetime, actor: str) -> Document:
    """Stores one document, as ``insert_all``."""
    return insert_all(tx, [new], at=at, actor=actor)[0]


def _row(new: NewDocument, at: datetime) -> dict[str, Any]:
    return {
        "document_id": new_document_id(at),
        "sha256": new.sha256,
        "size": new.size,
        "content": new.content,
        "form": new.form,
        "invoice_number": new.invoice_number,
        "invoice_type": new.invoice_type,
        "issue_date": new.issue_date,
        "seller_nip": new.seller_nip,
        "business_key": new.business_key,
        "corrects": list(new.corrects),
        "state": str(State.ERROR if new.errors else State.QUEUED),
        "urgent": new.urgent,
        "offline": new.offline,
        "online_only": new.online_only,
        "corrects_sha256": new.corrects_sha256,
        "attachment": new.attachment,
        "errors": list(new.errors),
        "warnings": list(new.warnings),
        "received_at": at,
        "updated_at": at,
    }


def get(tx: Connection, row_id: int) -> Document:
    row = tx.execute(_selection.where(documents.c.id == row_id)).first()
    if row is None:
        raise NoSuchThing(f"Nie ma dokumentu o kluczu {row_id}.")
    return _document(row)


_FIRST_ID, _LAST_ID = ("-".join(digit * count for count in (8, 4, 4, 4, 12)) for digit in "0f")
_ID_SHAPE = "-".join(f"[0-9a-f]{{{count}}}" for count in (8, 4, 4, 4, 12))


def find(tx: Connection, document_id: str) -> Document:
    """By the public id, or by any unambiguous beginning of it (≥ 8 characters). Raises NoSuchThing."""
    known = document_id.lower()
    rows = []
    if len(known) >= 8 and re.fullmatch(_ID_SHAPE, known + _FIRST_ID[len(known) :]):
        # Not LIKE, for which no index would serve.
        within = documents.c.document_id.between(known + _FIRST_ID[len(known) :], known + _LAST_ID[len(known) :])
        rows = list(tx.execute(_selection.where(within).limit(2)))
    if len(rows) != 1:
        raise NoSuchThing(
            f"Nie ma dokumentu „{document_id}”."
            if not rows
            else f"Początek „{document_id}” pasuje do wielu dokumentów.",
            action="Lista: ksefbuffer queue list.",
        )
    return _document(rows[0])


def by_sha256(tx: Connection, sha256: str) -> Document | None:
    row = tx.execute(_selection.where(documents.c.sha256 == sha256)).first()
    return _document(row) if row else None


def by_sha256s(tx: Connection, sha256s: Sequence[str]) -> dict[str, Document]:
    """The documents known by these hashes, by hash."""
    rows = tx.execute(_selection.where(documents.c.sha256.in_(sha256s)))
    return {document.sha256: document for document in map(_document, rows)}


def any_in(tx: Connection, states: Sequence[State]) -> bool:
    """Whether a document is in one of these states."""
    found = select(documents.c.id).where(documents.c.state.in_([str(state) for state in states])).limit(1)
    return tx.execute(found).first() is not None


def unknown_ids(tx: Connection, document_ids: Sequence[str]) -> set[str]:
    """Which of these public ids are no document of ours."""
    query = select(documents.c.document_id).where(documents.c.document_id.in_(document_ids))
    return set(document_ids) - {str(known) for known in tx.execute(query).scalars()}


def by_ksef_number(tx: Connection, ksef_number: str) -> Document | None:
    row = tx.execute(_selection.where(documents.c.ksef_number == ksef_number)).first()
    return _document(row) if row else None


def holder_of_number(tx: Connection, business_key: str) -> Document | None:
    """The document that holds this seller + kind + number now (D05)."""
    row = tx.execute(_selection.where(documents.c.business_key == business_key, _in(HOLDS_NUMBER))).first()
    return _document(row) if row else None


def contents(tx: Connection, row_ids: Sequence[int]) -> dict[int, bytes]:
    """The bytes of documents that have them, by key."""
    query = select(documents.c.id, documents.c.content).where(
        documents.c.id.in_(row_ids), documents.c.content.is_not(None)
    )
    return {row.id: row.content for row in tx.execute(query)}


def keys_in_session(tx: Connection, session_id: int) -> list[int]:
    """Keys of a session's documents that have no verdict yet."""
    query = select(documents.c.id).where(
        _in_processing, documents.c.session_id == session_id, documents.c.verdict.is_(None)
    )
    return list(tx.execute(query).scalars())


def one_more_attempt() -> ColumnElement[int]:
    """For ``apply_all``: the count of attempts goes up by one."""
    return documents.c.attempts + 1


def one_less_attempt() -> ColumnElement[int]:
    """For ``apply_all``: an attempt that never reached KSeF is not counted."""
    return documents.c.attempts - 1


def one_more_batch_failure() -> ColumnElement[int]:
    """For ``apply_all``: a batch with the document in it failed as a whole."""
    return documents.c.batch_failures + 1


def numbers_held(tx: Connection, business_keys: Sequence[str]) -> set[str]:
    """Which of these are held now."""
    query = select(documents.c.business_key).where(documents.c.business_key.in_(business_keys), _in(HOLDS_NUMBER))
    return {str(key) for key in tx.execute(_by(query, "uq_documents_business_key")).scalars()}


def content(tx: Connection, row_id: int) -> bytes | None:
    """The bytes as they came; None only for a refused file that was too large."""
    found: bytes | None = tx.execute(select(documents.c.content).where(documents.c.id == row_id)).scalar_one()
    return found


def upo(tx: Connection, row_id: int) -> bytes | None:
    """The receipt as KSeF gave it, checked; None until it is there."""
    found: bytes | None = tx.execute(select(documents.c.upo).where(documents.c.id == row_id)).scalar_one()
    return found


def apply(
    tx: Connection, document: Document, event: Event, *, at: datetime, actor: str, note: str = "", **changes: Any
) -> Document:
    """Moves a document: compare-and-swap on the state it was read in, one event row, and the answers made due.

    ``changes`` are further columns of the same UPDATE. Raises NotAllowedNow when CONTRACT §1 does not allow the move,
    or when the document was moved by somebody else meanwhile; Clash when its invoice number is taken.
    """
    to_state = after(document.state, event)
    if to_state is None:
        raise NotAllowedNow(
            f"Dokument {document.document_id} jest w stanie „{document.state}” – tego nie można teraz zrobić."
        )
    values: dict[str, Any] = {
        "state": str(to_state),
        "updated_at": at,
        "waits_for": None,
        **_cleared(to_state),
        **changes,
    }
    try:
        moved = tx.execute(
            update(documents)
            .where(documents.c.id == document.id, documents.c.state == str(document.state))
            .values(**values)
        )
    except IntegrityError as error:
        raise Clash(f"Numer faktury dokumentu {document.document_id} zajął tymczasem inny dokument.") from error
    if moved.rowcount != 1:
        raise NotAllowedNow(f"Dokument {document.document_id} zmienił stan w międzyczasie; spróbuj jeszcze raz.")
    _write_event(tx, document.id, at, event, document.state, to_state, actor, note)
    deliveries.want(tx, document.id, at)
    log_after_commit(
        tx,
        log,
        "document=%s %s→%s event=%s actor=%s attempt=%s",
        document.document_id,
        document.state,
        to_state,
        event,
        actor,
        values.get("attempts", document.attempts),
    )
    return get(tx, document.id)


def _cleared(to_state: State) -> dict[str, Any]:
    """What a state never carries over from the one before."""
    cleared: dict[str, Any] = {"next_attempt_at": None, "next_poll_at": None, "polls": 0, "verdict": None}
    if to_state in WAITING:
        cleared |= {"session_id": None, "invoice_reference": None, "handed_at": None}
    if to_state not in (State.ERROR, State.FAILED):
        cleared["errors"] = []
    return cleared


_AT_ONCE = 500


def apply_all(
    tx: Connection,
    row_ids: Sequence[int],
    from_states: Sequence[State],
    event: Event,
    *,
    at: datetime,
    actor: str,
    note: str = "",
    **changes: Any,
) -> int:
    """Moves many documents the same way, as ``apply``; those in other states are left. Returns how many moved."""
    (to_state,) = {after(state, event) for state in from_states}
    if to_state is None:
        raise NotAllowedNow(f"Zdarzenie {event} nie jest dozwolone w stanach {', '.join(from_states)}.")
    values = {"state": str(to_state), "updated_at": at, "waits_for": None, **_cleared(to_state), **changes}
    moved = 0
    for start in range(0, len(row_ids), _AT_ONCE):
        movable = select(documents.c.id).where(
            documents.c.id.in_(row_ids[start : start + _AT_ONCE]),
            documents.c.state.in_([str(state) for state in from_states]),
        )
        # Locked first, so that the log tells exactly of the rows that move.
        locked = list(tx.execute(movable.with_for_update()).scalars())
        chosen = documents.c.id.in_(locked)
        logged = select(
            documents.c.id,
            literal(at, UtcTime),
            literal(str(event)),
            documents.c.state,
            literal(str(to_state)),
            literal(actor),
            literal(note),
        ).where(chosen)
        columns = ["document", "at", "event", "from_state", "to_state", "actor", "note"]
        tx.execute(insert(events).from_select(columns, logged))
        deliveries.want_all(tx, select(documents.c.id).where(chosen), at)
        moved += tx.execute(update(documents).where(chosen).values(**values)).rowcount
    log_after_commit(tx, log, "documents=%s →%s event=%s actor=%s", moved, to_state, event, actor)
    return moved


@dataclass(frozen=True)
class Numbered:
    """KSeF's acceptance of one document."""

    id: int
    ksef_number: str
    accepted_at: datetime
    invoicing_mode: str | None
    invoice_reference: str


def number_all(tx: Connection, accepted: Sequence[Numbered], *, at: datetime) -> None:
    """Many documents in ``processing`` got their numbers; each gets its own row in the log.

    Raises NotAllowedNow when one of them is in another state.
    """
    if not accepted:
        return
    numbering = (
        update(documents)
        .where(documents.c.id == bindparam("row_id"), _in_processing)
        .values(
            state=str(State.SENT),
            updated_at=at,
            waits_for=None,
            **_cleared(State.SENT),
            ksef_number=bindparam("number"),
            accepted_at=bindparam("since"),
            invoicing_mode=bindparam("mode"),
            upo_due_at=at,
            invoice_reference=bindparam("reference"),
        )
    )
    changed = tx.execute(
        numbering,
        [
            {
                "row_id": one.id,
                "number": one.ksef_number,
                "since": one.accepted_at,
                "mode": one.invoicing_mode,
                "reference": one.invoice_reference,
            }
            for one in accepted
        ],
    )
    if changed.rowcount != len(accepted):
        raise NotAllowedNow("Dokument zmienił stan w międzyczasie.")
    tx.execute(
        insert(events),
        [
            {
                "document": one.id,
                "at": at,
                "event": str(Event.NUMBER),
                "from_state": str(State.PROCESSING),
                "to_state": str(State.SENT),
                "actor": "ksef",
                "note": one.ksef_number,
            }
            for one in accepted
        ],
    )
    for start in range(0, len(accepted), _AT_ONCE):
        ids = [one.id for one in accepted[start : start + _AT_ONCE]]
        deliveries.want_all(tx, select(documents.c.id).where(documents.c.id.in_(ids)), at)
    log_after_commit(tx, log, "documents=%s processing→sent event=%s actor=ksef", len(accepted), Event.NUMBER)


def note_wait(tx: Connection, document: Document, waits_for: str | None, *, at: datetime) -> None:
    """Says what a queued document waits for; not a move, so no event."""
    if document.waits_for == waits_for:
        return
    changed = tx.execute(
        update(documents)
        .where(documents.c.id == document.id, documents.c.state == str(State.QUEUED))
        .values(waits_for=waits_for, updated_at=at)
    )
    if changed.rowcount:
        deliveries.want(tx, document.id, at)


def want_offline(tx: Connection, row_id: int, *, at: datetime) -> bool:
    """Somebody cannot wait for the number: the document is to be issued offline, unless its ERP refuses that, it is
    numbered, or refused. Whoever stamps it tells the term and the codes. Whether it was changed."""
    changed = tx.execute(
        update(documents)
        .where(
            documents.c.id == row_id,
            documents.c.offline.is_(False),
            documents.c.online_only.is_(False),
            _in([*WAITING, State.PROCESSING]),
        )
        .values(offline=True, updated_at=at)
    )
    if changed.rowcount:
        deliveries.want(tx, row_id, at)
    return changed.rowcount == 1


def tell(tx: Connection, row_id: int, *, at: datetime) -> None:
    """Makes the answers due after a change that is no move."""
    deliveries.want(tx, row_id, at)


def change(tx: Connection, row_id: int, **values: Any) -> None:
    """Bookkeeping columns that are no move (poll times, references, the UPO)."""
    tx.execute(update(documents).where(documents.c.id == row_id).values(**values))


# The mode whose invoices KSeF never gets (offline.modes.Mode.TOTAL).
NEVER_SENT = "awaria całkowita"
# Batches that failed as a whole before a document is sent singly: it may be the one that breaks them.
BATCH_TRIES = 2


def _waits(now: datetime) -> ColumnElement[bool]:
    return and_(
        _in(WAITING),
        # What was issued in a total failure is not sent (FACTS §10).
        or_(documents.c.offline_mode.is_(None), documents.c.offline_mode != NEVER_SENT),
        or_(documents.c.state == str(State.QUEUED), documents.c.next_attempt_at <= now),
    )


def _for_batches() -> ColumnElement[bool]:
    """What may go in a batch: no urgent ones, no technical corrections, none that wait for another document."""
    return and_(
        documents.c.urgent.is_(False),
        documents.c.corrects_sha256.is_(None),
        documents.c.waits_for.is_(None),
        or_(documents.c.batch_failures < BATCH_TRIES, documents.c.attachment.is_(True)),
    )


@dataclass(frozen=True)
class Heap:
    """Waiting documents that may share a batch; ``size`` in bytes, ``first_issue`` the earliest issue date."""

    form: str
    offline: bool
    count: int
    size: int
    oldest: datetime
    newest: datetime
    attachments: int


def heaps(tx: Connection, now: datetime) -> list[Heap]:
    """What waits, by what a batch must not mix: form, and offline or not."""
    attachments = func.sum(case((documents.c.attachment.is_(True), 1), else_=0))
    query = (
        select(
            documents.c.form,
            documents.c.offline,
            func.count(),
            func.sum(documents.c.size),
            func.min(documents.c.received_at),
            func.max(documents.c.received_at),
            attachments,
        )
        .where(_waits(now), _for_batches())
        .group_by(documents.c.form, documents.c.offline)
    )
    return [Heap(*row) for row in tx.execute(_by(query, "ix_documents_waiting"))]


@dataclass(frozen=True)
class Chosen:
    """A document for a batch; ``corrects``: it may have to wait for its original."""

    id: int
    corrects: bool


# Behind every term there is.
_NO_TERM = literal(datetime(9999, 1, 1, tzinfo=UTC), UtcTime)


def for_batch(tx: Connection, now: datetime, *, form: str, offline: bool, limit: int) -> list[Chosen]:
    """The oldest documents of a heap; of those issued offline the ones whose term ends first."""
    query = (
        select(documents.c.id, documents.c.corrects)
        .where(_waits(now), _for_batches(), documents.c.form == form, documents.c.offline.is_(offline))
        .order_by(*([func.coalesce(documents.c.offline_deadline, _NO_TERM)] if offline else []), documents.c.id)
        .limit(limit)
    )
    return [Chosen(row.id, bool(row.corrects)) for row in tx.execute(_by(query, "ix_documents_waiting"))]


def waiting(tx: Connection, now: datetime, *, limit: int, singly_only: bool = False) -> list[Document]:
    """Documents that may be sent singly now, in sending order: urgent first, then the oldest; before other ordinary
    ones those with a term, by its end.

    With ``singly_only`` what a batch will take is left to it; attachments always are.

    Those that wait for another document come last, so that many of them never hide the others.
    """
    may_go = _selection.where(_waits(now), documents.c.attachment.is_(False) | documents.c.corrects_sha256.is_not(None))
    if singly_only:
        may_go = may_go.where(not_(_for_batches()))
    ordinary = documents.c.urgent.is_(False)
    in_turn = _by(may_go, "ix_documents_waiting").order_by(documents.c.id)
    by_term = _by(may_go.where(*HAS_TERM), "ix_documents_deadline").order_by(
        documents.c.offline_deadline, documents.c.id
    )
    lanes = (
        in_turn.where(documents.c.urgent.is_(True)),
        by_term.where(ordinary),
        in_turn.where(ordinary, documents.c.offline_mode.is_(None)),
    )
    found: list[Document] = []
    # Each question in the order of an index; one for all would sort the whole queue, again for each document.
    for free in (documents.c.waits_for.is_(None), documents.c.waits_for.is_not(None)):
        for lane in lanes:
            if len(found) < limit:
                found += [_document(row) for row in tx.execute(lane.where(free).limit(limit - len(found)))]
    return found


def next_attempt(tx: Connection, now: datetime) -> datetime | None:
    """When the next failed document joins those that wait; what has joined them already wakes nobody."""
    due: datetime | None = tx.execute(
        select(func.min(documents.c.next_attempt_at)).where(
            documents.c.state == str(State.FAILED), documents.c.next_attempt_at > now
        )
    ).scalar_one()
    return due


def in_session(tx: Connection, session_id: int) -> list[Document]:
    """Documents of a session that have no verdict yet."""
    query = _selection.where(
        _in_processing, documents.c.session_id == session_id, documents.c.verdict.is_(None)
    ).order_by(documents.c.id)
    return [_document(row) for row in tx.execute(_by(query, "ix_documents_processing"))]


def hashes_in_session(tx: Connection, session_id: int) -> dict[str, int]:
    """The keys of a session's documents that have no verdict yet, by SHA-256, the oldest first."""
    query = select(documents.c.sha256, documents.c.id).where(
        _in_processing, documents.c.session_id == session_id, documents.c.verdict.is_(None)
    )
    found = tx.execute(_by(query, "ix_documents_processing").order_by(documents.c.id))
    return {str(row.sha256): int(row.id) for row in found}


def to_poll(tx: Connection, now: datetime, *, limit: int = 500) -> list[Document]:
    """Documents in an open session whose status is to be asked for now."""
    query = (
        _selection.where(
            _in_processing,
            documents.c.next_poll_at <= now,
            documents.c.verdict.is_(None),
            documents.c.invoice_reference.is_not(None),
            sessions.c.state == "open",
            sessions.c.kind == "online",
        )
        .order_by(documents.c.next_poll_at)
        .limit(limit)
    )
    return [_document(row) for row in tx.execute(_by(query, "ix_documents_processing"))]


def to_weigh(tx: Connection, now: datetime, kind: str) -> Document | None:
    """A document whose verdict (440, 500, 550) still needs to be weighed now."""
    query = _selection.where(
        _in_processing, documents.c.next_poll_at <= now, documents.c.verdict.is_not(None), sessions.c.kind == kind
    )
    row = tx.execute(_by(query, "ix_documents_processing").order_by(documents.c.next_poll_at).limit(1)).first()
    return _document(row) if row else None


def lacking_upo(tx: Connection, now: datetime, kind: str) -> Document | None:
    """A sent document of such a session ("online", "batch") whose UPO is to be fetched now."""
    row = tx.execute(
        _selection.where(documents.c.upo_due_at <= now, sessions.c.kind == kind)
        .order_by(documents.c.upo_due_at)
        .limit(1)
    ).first()
    return _document(row) if row else None


def lacking_upos(tx: Connection, session_id: int | None) -> list[tuple[int, str]]:
    """Key and hash of a session's sent documents whose UPO is still to be fetched."""
    query = select(documents.c.id, documents.c.sha256).where(
        documents.c.session_id == session_id, documents.c.upo_due_at.is_not(None)
    )
    return [(row.id, row.sha256) for row in tx.execute(query)]


def next_poll(tx: Connection, kind: str | None = None) -> datetime | None:
    """When the next status or UPO is to be asked for, in sessions of a kind or in all."""
    of_kind = true() if kind is None else sessions.c.kind == kind
    query = (
        select(func.min(documents.c.next_poll_at))
        .select_from(documents.join(sessions, documents.c.session_id == sessions.c.id))
        .where(
            _in_processing,
            documents.c.next_poll_at.is_not(None),
            or_(documents.c.verdict.is_not(None), sessions.c.state == "open"),
            of_kind,
        )
    )
    polls = tx.execute(_by(query, "ix_documents_processing")).scalar_one()
    upos = tx.execute(
        select(func.min(documents.c.upo_due_at))
        .select_from(documents.join(sessions, documents.c.session_id == sessions.c.id))
        .where(documents.c.upo_due_at.is_not(None), of_kind)
    ).scalar_one()
    return min((due for due in (polls, upos) if due is not None), default=None)


def originals_in_the_way(tx: Connection, corrections: Iterable[Document]) -> dict[int, Document]:
    """For each correction, the document of this buffer that it corrects and that has no number yet."""
    found: dict[int, Document] = {}
    for correction in corrections:
        for original in correction.corrects:
            if original.get("ksef_number"):
                continue
            row = tx.execute(
                _selection.where(
                    documents.c.seller_nip == correction.seller_nip,
                    documents.c.invoice_number == original["number"],
                    documents.c.id != correction.id,
                    documents.c.state.in_([str(s) for s in (State.QUEUED, State.PROCESSING, State.FAILED)]),
                )
            ).first()
            if row is not None:
                found[correction.id] = _document(row)
    return found


def history(tx: Connection, row_id: int) -> list[dict[str, Any]]:
    """The event log of a document, oldest first."""
    query = (
        select(events.c.at, events.c.event, events.c.from_state, events.c.to_state, events.c.actor, events.c.note)
        .where(events.c.document == row_id)
        .order_by(events.c.id)
    )
    return [dict(row._mapping) for row in tx.execute(query)]


def listing(
    tx: Connection, *, states: Sequence[State] = (), limit: int = 100, before: int | None = None
) -> list[Document]:
    """Newest first, each with the reference its first arrival gave."""
    query = _selection.order_by(documents.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(documents.c.id < before)
    if not states:
        return [_document(row) for row in tx.execute(query)]
    # One state at a time, in the order of the index; all together would sort every document there is.
    found = [row for state in set(states) for row in tx.execute(query.where(documents.c.state == str(state)))]
    return [_document(row) for row in sorted(found, key=lambda row: -row.id)[:limit]]


def places(tx: Connection, row_id: int) -> list[dict[str, Any]]:
    """Every arrival of a document, oldest first."""
    query = (
        select(
            arrivals.c.connector, arrivals.c.place, arrivals.c.answer_name, arrivals.c.reference, arrivals.c.arrived_at
        )
        .where(arrivals.c.document == row_id)
        .order_by(arrivals.c.id)
    )
    return [dict(row._mapping) for row in tx.execute(query)]


def _write_event(
    tx: Connection,
    row_id: int,
    at: datetime,
    event: Event,
    from_state: State | None,
    to_state: State,
    actor: str,
    note: str,
) -> None:
    tx.execute(
        insert(events).values(
            document=row_id,
            at=at,
            event=str(event),
            from_state=None if from_state is None else str(from_state),
            to_state=str(to_state),
            actor=actor,
            note=note,
        )
    )
