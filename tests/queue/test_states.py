"""The states and moves of CONTRACT §1, as a table and in the database."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest
from sqlalchemy import func, select

from ksefbuffer.errors import NotAllowedNow
from ksefbuffer.queue import documents
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.models import events
from ksefbuffer.queue.states import FINAL, TRANSITIONS, Event, State, after
from tests.queue.builders import changes_for, document_in
from tests.samples import NOW

Q, P, S, E, F, C = State.QUEUED, State.PROCESSING, State.SENT, State.ERROR, State.FAILED, State.CANCELLED
# CONTRACT §1, read a second time, by hand.
ALLOWED = {
    Q: {P, E, F, C},
    P: {S, E, F, Q},
    F: {Q, P, S, E, C},
    E: {Q, C},
    S: set(),
    C: set(),
}


def test_the_moves_are_those_of_the_contract_and_no_others() -> None:
    moves = {state: {to for (start, _), to in TRANSITIONS.items() if start is state} for state in State}

    assert moves == ALLOWED
    assert frozenset(state for state, after in ALLOWED.items() if not after) == FINAL


def test_a_document_begins_queued_or_refused() -> None:
    assert {to for (start, _), to in TRANSITIONS.items() if start is None} == {Q, E}


def test_the_contract_itself_says_the_same() -> None:
    contract = Path(__file__).parents[2] / ".." / "shared" / "CONTRACT.md"
    if not contract.is_file():
        pytest.skip("the contract is not beside this checkout")
    text = re.sub(r"\([^)]*\)", "", contract.read_text(encoding="utf-8"))
    sentence = re.search(r"Allowed moves: (.*?)\. `sent`", text, re.DOTALL)
    assert sentence is not None
    told: dict[str, set[str]] = {str(state): set() for state in State}
    for clause in sentence[1].split(";"):
        start, _, ends = clause.partition("→")
        for one in start.split("|"):
            told[one.strip()] |= {end.strip() for end in ends.split("|")}

    assert told == {str(state): set(map(str, ends)) for state, ends in ALLOWED.items()}


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)), ids=str)
def test_every_pair_of_state_and_event_moves_or_is_refused(
    sqlite_database: Database, state: State, event: Event
) -> None:
    expected = after(state, event)
    with sqlite_database.transaction() as tx:
        document = document_in(tx, state)
        changes = changes_for(tx, event)
        before = tx.execute(select(func.count()).select_from(events)).scalar_one()
        if expected is None:
            with pytest.raises(NotAllowedNow):
                documents.apply(tx, document, event, at=NOW, actor="test", **changes)
            assert documents.get(tx, document.id) == document
            assert tx.execute(select(func.count()).select_from(events)).scalar_one() == before
        else:
            moved = documents.apply(tx, document, event, at=NOW, actor="kto", note="czemu", **changes)
            assert moved.state is expected
            assert expected in ALLOWED[state]
            last = documents.history(tx, document.id)[-1]
            assert last == {
                "at": NOW,
                "event": str(event),
                "from_state": str(state),
                "to_state": str(expected),
                "actor": "kto",
                "note": "czemu",
            }


def test_a_move_from_a_stale_reading_is_refused(database: Database) -> None:
    with database.transaction() as tx:
        stale = document_in(tx, State.QUEUED)
        documents.apply(tx, stale, Event.WITHDRAW, at=NOW, actor="test")
    with pytest.raises(NotAllowedNow), database.transaction() as tx:
        documents.apply(tx, stale, Event.BIND, at=NOW, actor="test", **changes_for(tx, Event.BIND))
    with database.reading() as tx:
        assert documents.get(tx, stale.id).state is State.CANCELLED


def test_waiting_again_forgets_the_session_and_what_went_wrong(database: Database) -> None:
    with database.transaction() as tx:
        document = document_in(tx, State.PROCESSING)
        documents.change(tx, document.id, invoice_reference="20261120-EE-1", polls=4, next_poll_at=NOW)
        document = documents.apply(
            tx, documents.get(tx, document.id), Event.NOT_AT_KSEF, at=NOW, actor="test", resends=1
        )

    assert (document.session_id, document.invoice_reference, document.handed_at) == (None, None, None)
    assert (document.polls, document.next_poll_at, document.errors, document.resends) == (0, None, [], 1)
