"""Two threads want the same document: the batch and the single. Only one gets it, on both databases."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

from ksefbuffer.errors import NotAllowedNow
from ksefbuffer.queue import documents, sessions
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.documents import NewDocument
from ksefbuffer.queue.states import WAITING, Event, State

NOW = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)


def test_a_document_is_bound_to_a_batch_or_to_a_single_session_never_to_both(database: Database) -> None:
    with database.transaction() as tx:
        new = [NewDocument(f"{number:064x}", 3, b"abc", form="FA (3)") for number in range(40)]
        waiting = documents.insert_all(tx, new, at=NOW, actor="test")
        single = sessions.begin(tx, "FA (3)", at=NOW)
        batch = sessions.begin(tx, "FA (3)", at=NOW, kind="batch")
    started = threading.Barrier(2)
    singles: list[int] = []

    def send_singly() -> None:
        started.wait()
        for document in waiting:
            try:
                with database.transaction() as tx:
                    documents.apply(tx, document, Event.BIND, at=NOW, actor="single", session_id=single)
                singles.append(document.id)
            except NotAllowedNow:
                continue

    thread = threading.Thread(target=send_singly)
    thread.start()
    started.wait()
    with database.transaction() as tx:
        ids = [document.id for document in reversed(waiting)]
        moved = documents.apply_all(tx, ids, sorted(WAITING), Event.BIND, at=NOW, actor="batch", session_id=batch)
    thread.join()

    with database.reading() as tx:
        in_batch = [document.id for document in documents.in_session(tx, batch)]
        alone = [document.id for document in documents.in_session(tx, single)]
        bound = [
            sum(move["to_state"] == str(State.PROCESSING) for move in documents.history(tx, document.id))
            for document in waiting
        ]
    assert len(in_batch) == moved
    assert sorted(alone) == sorted(singles)
    assert sorted(in_batch + alone) == sorted(document.id for document in waiting)
    assert bound == [1] * len(waiting), "each was bound once, and the log says so once"
