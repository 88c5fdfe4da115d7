"""Many writers at once lose nothing and do nothing twice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from ksefbuffer.errors import NotAllowedNow
from ksefbuffer.queue import deliveries, documents, facts, pauses
from ksefbuffer.queue.db import Database, StorageFault, inside_transaction
from ksefbuffer.queue.models import deliveries as delivery_rows
from ksefbuffer.queue.models import documents as document_rows
from ksefbuffer.queue.models import events
from ksefbuffer.queue.states import Event, State
from tests.queue.builders import arrival, document_in, move, new
from tests.samples import NOW

WRITERS = 6


def at_once(work: Callable[[int], object]) -> list[object]:
    """Runs ``work(n)`` in WRITERS threads that start together; exceptions come back as results."""
    gate = threading.Barrier(WRITERS)

    def one(number: int) -> object:
        gate.wait()
        try:
            return work(number)
        except Exception as fault:
            return fault

    with ThreadPoolExecutor(WRITERS) as pool:
        return list(pool.map(one, range(WRITERS)))


def test_writers_at_once_lose_no_document_and_no_event(database: Database) -> None:
    def write(number: int) -> None:
        for _ in range(10):
            with database.transaction() as tx:
                arrival(tx, document := document_in(tx, State.QUEUED), f"{number}-{document.id}.xml")
            with database.transaction() as tx:
                move(tx, document, Event.FAIL)

    assert at_once(write) == [None] * WRITERS
    with database.reading() as tx:
        assert tx.execute(select(func.count()).select_from(document_rows)).scalar_one() == WRITERS * 10
        assert tx.execute(select(func.count()).select_from(events)).scalar_one() == WRITERS * 20
        assert tx.execute(select(func.sum(delivery_rows.c.wanted))).scalar_one() == WRITERS * 20


def test_one_of_many_moves_a_document(database: Database) -> None:
    with database.transaction() as tx:
        document = document_in(tx, State.QUEUED)

    def bind(_: int) -> None:
        with database.transaction() as tx:
            move(tx, document, Event.BIND)

    results = at_once(bind)
    assert results.count(None) == 1
    assert all(result is None or isinstance(result, NotAllowedNow) for result in results)
    with database.reading() as tx:
        assert [event["event"] for event in documents.history(tx, document.id)] == ["accepted", "bind"]


def test_one_of_many_stores_the_same_bytes(database: Database) -> None:
    same = new()

    def store(_: int) -> None:
        with database.transaction() as tx:
            documents.insert_document(tx, same, at=NOW, actor="test")

    results = at_once(store)
    assert results.count(None) == 1
    assert all(result is None or isinstance(result, documents.Clash) for result in results)


def test_facts_told_at_once_leave_one_whole_fact(database: Database) -> None:
    def tell(number: int) -> None:
        for turn in range(5):
            with database.transaction() as tx:
                facts.put(tx, "ksef", {"who": number, "turn": turn}, at=NOW)

    assert at_once(tell) == [None] * WRITERS
    with database.reading() as tx:
        told = facts.get(tx, "ksef")
    assert told is not None
    assert told[0]["turn"] == 4


def test_writers_that_read_first_queue_and_lose_nothing(sqlite_database: Database) -> None:
    with sqlite_database.transaction() as tx:
        facts.put(tx, "count", 0, at=NOW)

    def count_on(_: int) -> None:
        for _turn in range(10):
            with sqlite_database.transaction() as tx:
                told = facts.get(tx, "count")
                assert told is not None
                facts.put(tx, "count", told[0] + 1, at=NOW)

    assert at_once(count_on) == [None] * WRITERS
    with sqlite_database.reading() as tx:
        assert facts.get(tx, "count") == (WRITERS * 10, NOW)


def test_pauses_at_once_are_one_pause_that_counts_every_failure(database: Database) -> None:
    def hold(number: int) -> None:
        with database.transaction() as tx:
            until = NOW + timedelta(minutes=number)
            pauses.pause(tx, "ksef", at=NOW, until=until, code="503", message="przerwa", action="")

    assert at_once(hold) == [None] * WRITERS
    with database.reading() as tx:
        known = pauses.known(tx, "ksef")
    assert known is not None
    assert known.step == WRITERS


def test_a_first_pause_tells_the_owners_of_what_waits_and_later_ones_do_not(database: Database) -> None:
    def due() -> bool:
        with database.reading() as tx:
            return deliveries.due(tx, NOW) is not None

    def pause() -> None:
        with database.transaction() as tx:
            pauses.pause(tx, "ksef", at=NOW, until=NOW, code="503", message="przerwa", action="")

    def told() -> None:
        with database.transaction() as tx:
            one = deliveries.due(tx, NOW)
            assert one is not None
            deliveries.told(tx, one)

    with database.transaction() as tx:
        arrival(tx, document_in(tx, State.QUEUED))
    told()
    pause()
    assert due()
    told()
    pause()
    assert not due()


def test_a_fact_that_arrives_while_telling_stays_due(database: Database) -> None:
    with database.transaction() as tx:
        document = document_in(tx, State.QUEUED)
        arrival(tx, document)
    with database.reading() as tx:
        telling = deliveries.due(tx, NOW)
    assert telling is not None
    with database.transaction() as tx:
        move(tx, document, Event.FAIL)
    with database.transaction() as tx:
        deliveries.told(tx, telling)

    with database.reading() as tx:
        again = deliveries.due(tx, NOW)
    assert again is not None
    assert again.wanted == telling.wanted + 1
    with database.transaction() as tx:
        deliveries.told(tx, again)
        assert deliveries.due(tx, NOW + timedelta(days=1)) is None


def test_a_fact_that_arrives_while_telling_fails_is_not_lost(database: Database) -> None:
    with database.transaction() as tx:
        document = document_in(tx, State.QUEUED)
        arrival(tx, document)
        telling = deliveries.due(tx, NOW)
        assert telling is not None
        move(tx, document, Event.FAIL)
        deliveries.not_told(tx, telling, error="folderu nie ma", again_at=NOW + timedelta(seconds=2))
        assert deliveries.due(tx, NOW + timedelta(seconds=1)) is None
        again = deliveries.due(tx, NOW + timedelta(seconds=2))
    assert again is not None
    assert (again.wanted, again.attempts) == (telling.wanted + 1, 1)


def test_what_is_undone_leaves_no_trace_not_even_in_the_log(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with pytest.raises(RuntimeError, match="power loss"), database.transaction() as tx:
        document_in(tx, State.QUEUED)
        raise RuntimeError("power loss")

    assert not inside_transaction()
    with database.reading() as tx:
        assert documents.listing(tx) == []
    assert "accepted" not in caplog.text
    with database.transaction() as tx:
        document = document_in(tx, State.QUEUED)
        assert inside_transaction()
        assert document.document_id not in caplog.text
    assert document.document_id in caplog.text


def test_a_transaction_inside_a_transaction_is_a_mistake_of_ours(sqlite_database: Database) -> None:
    with sqlite_database.transaction(), pytest.raises(RuntimeError), sqlite_database.transaction():
        pass


def test_a_full_disk_refuses_the_whole_transaction_and_nothing_else(sqlite_database: Database) -> None:
    with sqlite_database.transaction() as tx:
        kept = document_in(tx, State.QUEUED)
    with sqlite_database.transaction() as tx:
        pages = tx.exec_driver_sql("PRAGMA page_count").scalar_one()
        tx.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    content = b"x" * 200_000
    with pytest.raises(StorageFault, match="full"), sqlite_database.transaction() as tx:
        documents.insert_document(tx, new(content=content), at=NOW, actor="test")

    with sqlite_database.transaction() as tx:
        assert documents.listing(tx) == [kept]
        tx.exec_driver_sql("PRAGMA max_page_count = 1000000")
        documents.insert_document(tx, new(content=content), at=NOW, actor="test")
