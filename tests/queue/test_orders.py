"""Orders to the worker and settings changed on the page, on both databases."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ksefbuffer.queue import orders, overrides
from ksefbuffer.queue.db import Database
from tests.samples import NOW

SEALED = b"\x00\xff sealed"


def placed(database: Database, kind: str = "pull", actor: str = "user:anna") -> int:
    with database.transaction() as tx:
        return orders.place(tx, kind, SEALED, actor=actor, at=NOW)


def looked_at(database: Database, number: int) -> orders.Order:
    with database.reading() as tx:
        found = orders.order(tx, number)
    assert found is not None
    return found


def test_an_order_goes_its_way_once_and_its_payload_is_gone_at_the_end(database: Database) -> None:
    number, later = placed(database), placed(database, "token-list")
    with database.transaction() as tx:
        assert [one.id for one in orders.unfinished(tx)] == [number, later]
        assert not orders.finish(tx, number, {}, at=NOW), "nobody has begun with it"
        assert orders.take(tx, number)
        assert not orders.take(tx, number), "it is taken once"
        assert orders.progress(tx, number, {"krok": "żółty"})
    assert looked_at(database, number).payload == SEALED
    with database.transaction() as tx:
        assert orders.finish(tx, number, {"faktur": 3, "sealed": "x"}, at=NOW + timedelta(seconds=5))
        assert not orders.fail(tx, number, "za późno", "", at=NOW), "what has ended stays so"
        assert [one.id for one in orders.unfinished(tx)] == [later]
        orders.wipe(tx, number, "sealed")
        orders.wipe(tx, number, "sealed")
    done = looked_at(database, number)
    assert (done.state, done.ended, done.payload, done.result) == ("done", True, None, {"faktur": 3})
    assert (done.at, done.done_at, done.actor) == (NOW, NOW + timedelta(seconds=5), "user:anna")


def test_what_no_worker_takes_in_time_fails_and_old_ones_are_forgotten(database: Database) -> None:
    late = placed(database)
    just_in_time = NOW + orders.TAKEN_WITHIN
    with database.transaction() as tx:
        assert not orders.any_late(tx, just_in_time)
        assert orders.expire(tx, just_in_time) == 0
        passed = just_in_time + timedelta(seconds=1)
        assert orders.any_late(tx, passed)
        assert orders.expire(tx, passed) == 1
        assert not orders.take(tx, late)
    told = looked_at(database, late)
    assert (told.state, told.payload, sorted(told.result or {})) == ("failed", None, ["action", "message"])
    with database.transaction() as tx:
        orders.expire(tx, passed + orders.KEPT_FOR + timedelta(seconds=1))
        assert orders.order(tx, late) is None


def test_the_newest_order_of_a_kind_is_told_by_whom_it_was_asked(database: Database) -> None:
    hers, his = placed(database, "auth-request"), placed(database, "auth-request", "user:jan")
    placed(database, "pull")
    with database.reading() as tx:
        for actor, number in (("user:anna", hers), ("user:jan", his)):
            newest = orders.latest(tx, "auth-request", actor=actor)
            assert newest is not None
            assert newest.id == number
        assert orders.latest(tx, "auth-request", actor="user:ann") is None
        assert orders.latest(tx, "rescan", actor="user:anna") is None


@pytest.mark.parametrize(
    "value",
    [7, 2.5, True, False, None, "", "żółć", [], ["2026-12-24"], ["json", "xml"], {"sealed": "AAAA"}],
    ids=repr,
)
def test_a_changed_setting_is_kept_as_it_was_typed_until_it_is_taken_back(database: Database, value: Any) -> None:
    with database.transaction() as tx:
        overrides.put(tx, {"sending.batch_from": 1, "offline.mode": "off"}, actor="user:jan", at=NOW)
        later = NOW + timedelta(hours=1)
        overrides.put(tx, {"sending.batch_from": value}, actor="user:anna", at=later)
    with database.reading() as tx:
        assert overrides.values(tx) == {"sending.batch_from": value, "offline.mode": "off"}
        changed = overrides.listed(tx)["sending.batch_from"]
    assert type(changed.value) is type(value)
    assert (changed.actor, changed.at) == ("user:anna", later)
    with database.transaction() as tx:
        overrides.forget(tx, ["sending.batch_from", "nie.ma"])
        overrides.forget(tx, [])
        assert overrides.values(tx) == {"offline.mode": "off"}
