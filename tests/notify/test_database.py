"""Both databases answer the same: every question of a look, and each key and level once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ksefbuffer.queue import notices
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.notices import NewNotice
from tests.conftest import Clock
from tests.notify.post import Post, Staff
from tests.notify.test_telling import certificate, failing, receive
from tests.samples import NOW

pytestmark = pytest.mark.process


def test_news_of_every_kind_are_found_in_either_database(database: Database, clock: Clock, post: Post) -> None:
    staff = Staff(database, clock, post.url)
    staff.look()
    staff.refuse(12, invoice_number=None, business_key=None)
    receive(staff, "sklepy/7", 3, verdict="do wyjaśnienia")
    staff.offline(clock() + timedelta(hours=2))
    certificate(staff, timedelta(days=2))
    staff.free = 10**8
    failing(staff, minutes=12)
    told = "\n".join(post.titles + [message.body for message in post.taken])
    for word in ("12 dokumentów", "3 do sprawdzenia", "termin za mniej niż 4 h", "za 2 dni", "mało miejsca", "KSeF"):
        assert word in told
    assert "440 × 12" in told


def a_notice(key: str = "a", level: int = 1) -> NewNotice:
    return NewNotice(key, level, "disk", "info", "temat", "treść")


def test_a_key_and_level_are_told_once_in_a_life(database: Database) -> None:
    for told in (3, 0):
        with database.transaction() as tx:
            some = [a_notice(), a_notice("a", 2), a_notice("b"), a_notice("b")]
            assert notices.tell(tx, some, ["x", "y"], at=NOW) == told
            assert notices.unknown(tx, [*some, a_notice("c")]) == [a_notice("c")]
            assert notices.waiting(tx) == {"x": 3, "y": 3}


def test_a_failed_place_waits_as_a_whole_and_a_sent_one_is_done(database: Database) -> None:
    with database.transaction() as tx:
        notices.tell(tx, [a_notice(), a_notice("b")], ["x", "y"], at=NOW)
        notices.not_sent(tx, "x", error="nie", again_at=NOW + timedelta(minutes=1))
        assert notices.due_place(tx, NOW) == "y"
        waiting = notices.pending(tx, "y", limit=1)
        notices.sent(tx, [one.id for one in waiting], at=NOW)
        assert len(notices.pending(tx, "y", limit=9)) == 1
        assert [one.attempts for one in notices.pending(tx, "x", limit=9)] == [1, 1]
        assert notices.give_up(tx, before=NOW + timedelta(seconds=1), of_events=("incoming",)) == 0
        assert notices.give_up(tx, before=NOW + timedelta(seconds=1)) == 3
        assert notices.next_due(tx) is None
        assert notices.forget(tx, before=NOW + timedelta(seconds=1), of_events=("disk",)) == 2
