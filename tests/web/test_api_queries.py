"""What the API asks of either kind of database."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ksefbuffer.queue import documents, idempotency, listing, people, watched
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.models import incoming
from ksefbuffer.queue.states import State
from tests.queue.builders import arrival, document_in
from tests.queue.test_incoming import put
from tests.samples import NOW

FOLDERS = ("sklepy", "sklepy/1", "sklepy/1/2026", "sklepy/10", "sklepy_1", "sklepy/%", "Sklepy/1", "łąka", "łąka/ż", "")


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (("sklepy/1",), {"sklepy/1", "sklepy/1/2026"}),
        (("sklepy",), {"sklepy", "sklepy/1", "sklepy/1/2026", "sklepy/10", "sklepy/%"}),
        (("sklepy/%",), {"sklepy/%"}),
        (("sklepy_1",), {"sklepy_1"}),
        (("łąka",), {"łąka", "łąka/ż"}),
        (("sklepy/10", "łąka/ż"), {"sklepy/10", "łąka/ż"}),
        (("nic",), set()),
        ((), set()),
        (("",), set(FOLDERS)),
        (None, set(FOLDERS)),
    ],
)
def test_folders_are_taken_with_what_lies_below_and_nothing_beside(
    database: Database, asked: tuple[str, ...] | None, found: set[str]
) -> None:
    with database.transaction() as tx:
        for folder in FOLDERS:
            put(tx, folder=folder)
        assert {one.folder for one in listing.received(tx, folders=asked, limit=100)} == found


def test_received_invoices_come_in_the_order_of_storing_and_page_by_page(database: Database) -> None:
    with database.transaction() as tx:
        ids = [put(tx, folder=f"sklepy/{number % 2}").id for number in range(9)]
        seen: list[int] = []
        while page := listing.received(tx, folders=("sklepy/0",), limit=2, after=seen[-1] if seen else 0):
            seen += [one.id for one in page]
    assert seen == ids[::2]


def test_since_finds_the_first_one_whatever_the_moment(database: Database) -> None:
    with database.transaction() as tx:
        ids = [put(tx).id for _ in range(12)]
        for number, row_id in enumerate(ids):
            tx.execute(
                incoming.update().where(incoming.c.id == row_id).values(received_at=NOW + timedelta(minutes=number))
            )
        for number in range(13):
            found = listing.received(tx, folders=None, since=NOW + timedelta(minutes=number), limit=100)
            assert [one.id for one in found] == ids[number:]


def test_outgoing_documents_come_with_how_they_first_came(database: Database) -> None:
    with database.transaction() as tx:
        first = document_in(tx, State.SENT)
        arrival(tx, first, "a.xml", reference="pierwszy")
        arrival(tx, first, "b.xml", reference="drugi")
        second = document_in(tx, State.ERROR)
        found = listing.outgoing(tx, limit=10)
        assert [(one.document.id, one.arrival.reference if one.arrival else None) for one in found] == [
            (second.id, None),
            (first.id, "pierwszy"),
        ]
        assert [one.document.id for one in listing.outgoing(tx, limit=10, before=second.id)] == [first.id]
        assert [one.document.id for one in listing.outgoing(tx, states=[State.ERROR], limit=10)] == [second.id]
        assert listing.outgoing(tx, since=NOW + timedelta(seconds=1), limit=10) == []


def test_a_glimpse_says_what_somebody_who_waits_needs(database: Database) -> None:
    with database.transaction() as tx:
        failed, queued = document_in(tx, State.FAILED), document_in(tx, State.QUEUED)
        documents.want_offline(tx, queued.id, at=NOW)
        seen = listing.glimpses(tx, [failed.id, queued.id, queued.id + 100])
    assert seen.keys() == {failed.id, queued.id}
    assert (seen[failed.id].state, seen[failed.id].next_attempt_at) == (State.FAILED, failed.next_attempt_at)
    assert (seen[queued.id].offline, seen[queued.id].offline_mode) == (True, None)


def test_asking_for_offline_makes_the_answers_due(database: Database) -> None:
    from ksefbuffer.queue import deliveries
    from tests.queue.builders import tell_everything

    with database.transaction() as tx:
        document = document_in(tx, State.QUEUED)
        arrival(tx, document)
        tell_everything(tx)
        assert deliveries.next_due(tx) is None
        documents.want_offline(tx, document.id, at=NOW)
        assert deliveries.next_due(tx) == NOW


def test_a_key_stands_for_one_request_for_a_week(database: Database) -> None:
    with database.transaction() as tx:
        one, _ = people.add_key(tx, "a", ["send"], at=NOW)
        other, _ = people.add_key(tx, "b", ["send"], at=NOW)
        assert idempotency.reserve(tx, one.id, "k", "h1", at=NOW)
        assert idempotency.reserve(tx, one.id, "k", "h1", at=NOW)
        assert not idempotency.reserve(tx, one.id, "k", "h2", at=NOW)
        assert idempotency.reserve(tx, other.id, "k", "h2", at=NOW)
        assert idempotency.reserve(tx, one.id, "k", "h2", at=NOW + timedelta(days=7, seconds=1))


def test_what_is_watched_passes_over_what_is_done(database: Database) -> None:
    with database.transaction() as tx:
        assert watched.watched(tx) == watched.Watched(None, 0, 0)
        for hours, state in enumerate((State.SENT, State.CANCELLED, State.PROCESSING, State.QUEUED, State.ERROR), 1):
            document = document_in(tx, state)
            documents.change(tx, document.id, offline_mode="offline24", offline_deadline=NOW + timedelta(hours=hours))
        put(tx, folder=watched.UNASSIGNED)
        put(tx)
        assert watched.watched(tx) == watched.Watched(NOW + timedelta(hours=3), 3, 1)


def test_what_no_rule_placed_has_the_name_the_rules_give_it() -> None:
    from ksefbuffer.receiver.shapes import UNMATCHED

    assert watched.UNASSIGNED == UNMATCHED
