"""Which name an answer gets: never one that another document still speaks through."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from ksefbuffer.queue import deliveries, documents
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.models import arrivals
from ksefbuffer.queue.states import State
from tests.queue.builders import arrival, document_in, tell_everything
from tests.samples import NOW


def names(tx: Any) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for row in tx.execute(select(arrivals.c.document, arrivals.c.answer_name).order_by(arrivals.c.id)):
        found.setdefault(row.document, []).append(row.answer_name)
    return found


def due_names(tx: Any) -> list[str]:
    found = []
    while (due := deliveries.due(tx, NOW)) is not None:
        found.append(due.arrival.answer_name)
        deliveries.told(tx, due)
    return found


def test_the_same_file_again_is_the_same_arrival_told_again(database: Database) -> None:
    with database.transaction() as tx:
        document = document_in(tx, State.QUEUED)
        first = arrival(tx, document, reference="kasa 1")
        tell_everything(tx)
        second = arrival(tx, document, reference="kasa 2", callback_url="https://erp.example/odp")

        assert second.id == first.id
        assert (second.reference, second.callback_url) == ("kasa 2", "https://erp.example/odp")
        assert due_names(tx) == ["a"]
        assert names(tx) == {document.id: ["a"]}


def test_the_same_bytes_under_two_names_are_answered_under_both(database: Database) -> None:
    with database.transaction() as tx:
        document = document_in(tx, State.QUEUED)
        arrival(tx, document, "a.xml")
        arrival(tx, document, "b.xml")

        assert names(tx) == {document.id: ["a", "b"]}
        assert due_names(tx) == ["a", "b"]
        documents.tell(tx, document.id, at=NOW)
        assert due_names(tx) == ["a", "b"]


@pytest.mark.parametrize("state", [State.QUEUED, State.PROCESSING, State.FAILED], ids=str)
def test_a_name_whose_document_is_on_its_way_is_not_taken_from_it(database: Database, state: State) -> None:
    with database.transaction() as tx:
        old = document_in(tx, state)
        arrival(tx, old)
        tell_everything(tx)
        newcomer = document_in(tx, State.QUEUED)
        arrival(tx, newcomer)

        assert names(tx) == {old.id: ["a"], newcomer.id: ["a.2"]}


@pytest.mark.parametrize("state", [State.SENT, State.ERROR, State.CANCELLED], ids=str)
def test_a_name_whose_document_rests_goes_to_the_newcomer_and_the_old_answers_move(
    database: Database, state: State
) -> None:
    with database.transaction() as tx:
        old = document_in(tx, state)
        arrival(tx, old)
        tell_everything(tx)
        newcomer = document_in(tx, State.QUEUED)
        arrival(tx, newcomer)

        assert names(tx) == {old.id: ["a.2"], newcomer.id: ["a"]}
        # What was told under the old name is told anew under the new one: the newcomer writes over those files.
        assert sorted(due_names(tx)) == ["a", "a.2"]


def test_a_name_is_kept_while_its_last_word_is_not_yet_told(database: Database) -> None:
    with database.transaction() as tx:
        old = document_in(tx, State.SENT)
        arrival(tx, old)
        newcomer = document_in(tx, State.QUEUED)
        arrival(tx, newcomer)

        assert names(tx) == {old.id: ["a"], newcomer.id: ["a.2"]}


def test_a_name_is_kept_while_its_receipt_is_still_to_come(database: Database) -> None:
    with database.transaction() as tx:
        old = document_in(tx, State.SENT)
        documents.change(tx, old.id, upo_due_at=NOW)
        arrival(tx, old)
        tell_everything(tx)
        newcomer = document_in(tx, State.QUEUED)
        arrival(tx, newcomer)

        assert names(tx) == {old.id: ["a"], newcomer.id: ["a.2"]}


def test_numbered_names_that_are_taken_are_passed_over(database: Database) -> None:
    with database.transaction() as tx:
        for place in ("a.xml", "a.2.xml", "a.3.xml"):
            arrival(tx, document_in(tx, State.QUEUED), place)
        newcomer = document_in(tx, State.QUEUED)

        assert arrival(tx, newcomer, "a.xml").answer_name == "a.4"


def test_a_file_dropped_again_gets_its_own_name_back_once_it_is_free(database: Database) -> None:
    with database.transaction() as tx:
        first = document_in(tx, State.SENT)
        arrival(tx, first)
        tell_everything(tx)
        second = document_in(tx, State.SENT)
        arrival(tx, second)
        tell_everything(tx)
        assert names(tx) == {first.id: ["a.2"], second.id: ["a"]}

        arrival(tx, first)

        assert names(tx) == {first.id: ["a"], second.id: ["a.3"]}


def test_connectors_do_not_share_names(database: Database) -> None:
    with database.transaction() as tx:
        for connector in ("folder", "table", "http"):
            one = arrival(tx, document_in(tx, State.QUEUED), "7", connector=connector)
            assert one.answer_name == "7"


def test_a_row_always_speaks_for_its_newest_document(database: Database) -> None:
    """A row's answer cannot be written beside it, as a file's can."""
    with database.transaction() as tx:
        old = document_in(tx, State.PROCESSING)
        arrival(tx, old, "7", connector="table")
        newcomer = document_in(tx, State.QUEUED)
        arrival(tx, newcomer, "7", connector="table")

        assert names(tx)[newcomer.id] == ["7"]
