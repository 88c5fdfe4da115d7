"""What must never happen is refused by the database itself, whoever asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, delete, insert, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from ksefbuffer.queue import deliveries, documents, schema, sessions
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.documents import Clash
from ksefbuffer.queue.models import arrivals, buffer, events
from ksefbuffer.queue.models import deliveries as delivery_rows
from ksefbuffer.queue.models import documents as document_rows
from ksefbuffer.queue.models import sessions as session_rows
from ksefbuffer.queue.states import HOLDS_NUMBER, Event, State
from tests.queue.builders import arrival, document_in, ksef_number, move, new, open_session
from tests.samples import NIP, NOW

Crime = Callable[[Connection], Any]


def a_document(tx: Connection, was: State, **values: Any) -> Any:
    document = document_in(tx, was)
    return lambda: tx.execute(update(document_rows).where(document_rows.c.id == document.id).values(**values))


def same(tx: Connection, column: str, state: State = State.QUEUED) -> Any:
    first, second = document_in(tx, state), document_in(tx, state)
    value = getattr(first, column)
    return lambda: tx.execute(update(document_rows).where(document_rows.c.id == second.id).values({column: value}))


def two_answer_names(tx: Connection) -> Any:
    arrival(tx, document_in(tx, State.QUEUED), "a.xml")
    other = arrival(tx, document_in(tx, State.QUEUED), "b.xml")
    return lambda: tx.execute(update(arrivals).where(arrivals.c.id == other.id).values(answer_name="a"))


def two_deliveries(tx: Connection) -> Any:
    one = arrival(tx, document_in(tx, State.QUEUED))
    return lambda: tx.execute(insert(delivery_rows).values(arrival=one.id, wanted=1, told=0, due_at=NOW))


def told_ahead(tx: Connection) -> Any:
    arrival(tx, document_in(tx, State.QUEUED))
    return lambda: tx.execute(update(delivery_rows).values(told=2))


def unknown_connector(tx: Connection) -> Any:
    arrival(tx, document_in(tx, State.QUEUED))
    return lambda: tx.execute(update(arrivals).values(connector="ftp"))


def session_state(tx: Connection, **values: Any) -> Any:
    session = open_session(tx)
    return lambda: tx.execute(update(session_rows).where(session_rows.c.id == session).values(**values))


def same_session(tx: Connection) -> Any:
    first, second = open_session(tx), open_session(tx)
    reference = sessions.get(tx, first).reference
    return lambda: tx.execute(update(session_rows).where(session_rows.c.id == second).values(reference=reference))


def second_owner(tx: Connection) -> Any:
    schema.bind(tx, NIP, "sandbox", at=NOW)
    return lambda: tx.execute(insert(buffer).values(id=2, nip=NIP, environment="sandbox", created_at=NOW))


def document_of_nobody(tx: Connection) -> Any:
    one = arrival(tx, document_in(tx, State.QUEUED))
    return lambda: tx.execute(update(arrivals).where(arrivals.c.id == one.id).values(document=999_999))


CRIMES: dict[str, Crime] = {
    "an unknown state": lambda tx: a_document(tx, State.QUEUED, state="lost"),
    "sent without a number": lambda tx: a_document(tx, State.SENT, ksef_number=None),
    "a number without sent": lambda tx: a_document(tx, State.QUEUED, ksef_number=ksef_number()),
    "processing in no session": lambda tx: a_document(tx, State.PROCESSING, session_id=None),
    "queued, yet bound": lambda tx: a_document(tx, State.QUEUED, session_id=open_session(tx)),
    "failed, yet bound": lambda tx: a_document(tx, State.FAILED, session_id=open_session(tx)),
    "failed for ever": lambda tx: a_document(tx, State.FAILED, next_attempt_at=None),
    "queued without bytes": lambda tx: a_document(tx, State.QUEUED, content=None),
    "sent without bytes": lambda tx: a_document(tx, State.SENT, content=None),
    "in a session that is not there": lambda tx: a_document(tx, State.PROCESSING, session_id=999_999),
    "the same bytes twice": lambda tx: same(tx, "sha256"),
    "the same id twice": lambda tx: same(tx, "document_id"),
    "one KSeF number for two": lambda tx: same(tx, "ksef_number", State.SENT),
    "an answer name twice": two_answer_names,
    "two outbox rows for an arrival": two_deliveries,
    "told more than wanted": told_ahead,
    "an unknown connector": unknown_connector,
    "an arrival of no document": document_of_nobody,
    "an unknown session state": lambda tx: session_state(tx, state="gone"),
    "an open session without a reference": lambda tx: session_state(tx, reference=None),
    "a closing session without a reference": lambda tx: session_state(tx, state="closing", reference=None),
    "a session reference twice": same_session,
    "a second owner": second_owner,
}


@pytest.mark.parametrize("crime", CRIMES.values(), ids=CRIMES.keys())
def test_the_database_refuses(database: Database, crime: Crime) -> None:
    with pytest.raises(IntegrityError), database.transaction() as tx:
        attempt = crime(tx)
        attempt()


@pytest.mark.parametrize("state", sorted(HOLDS_NUMBER), ids=str)
def test_a_number_held_is_not_given_to_another(database: Database, state: State) -> None:
    with database.transaction() as tx:
        held = document_in(tx, state)
    with pytest.raises(Clash), database.transaction() as tx:
        documents.insert_document(tx, new(business_key=held.business_key), at=NOW, actor="test")
    with database.reading() as tx:
        assert documents.listing(tx) == [held]


@pytest.mark.parametrize("state", [State.ERROR, State.CANCELLED], ids=str)
def test_a_number_let_go_may_be_taken_by_another(database: Database, state: State) -> None:
    with database.transaction() as tx:
        old = document_in(tx, state)
        documents.insert_document(tx, new(business_key=old.business_key), at=NOW, actor="test")
        assert documents.holder_of_number(tx, str(old.business_key)) is not None


def test_a_retry_whose_number_was_taken_meanwhile_is_refused(database: Database) -> None:
    with database.transaction() as tx:
        old = document_in(tx, State.ERROR)
        document_in(tx, State.QUEUED, business_key=old.business_key)
    with pytest.raises(Clash), database.transaction() as tx:
        move(tx, old, Event.RETRY)
    with database.reading() as tx:
        assert documents.get(tx, old.id).state is State.ERROR


def test_events_can_be_neither_changed_nor_removed(database: Database) -> None:
    with database.transaction() as tx:
        document = document_in(tx, State.SENT)
    for crime in (
        update(events).values(note="inaczej"),
        update(events).where(events.c.document == document.id).values(to_state="sent"),
        delete(events),
    ):
        with pytest.raises(DBAPIError, match="append-only"), database.transaction() as tx:
            tx.execute(crime)
    with database.reading() as tx:
        assert [event["event"] for event in documents.history(tx, document.id)] == ["accepted", "bind", "number"]


def test_times_without_a_zone_do_not_reach_the_database(database: Database) -> None:
    with pytest.raises(Exception, match="without a zone"), database.transaction() as tx:
        schema.bind(tx, NIP, "sandbox", at=NOW.replace(tzinfo=None))


def test_times_come_back_as_they_went_in(database: Database) -> None:
    exact = NOW.replace(microsecond=123_456)
    with database.transaction() as tx:
        document = document_in(tx, State.QUEUED, at=exact)
        arrived = arrival(tx, document, at=exact)
    with database.reading() as tx:
        assert documents.get(tx, document.id).received_at == exact
        due = deliveries.due(tx, exact)
        assert due is not None
        assert due.arrival == arrived
