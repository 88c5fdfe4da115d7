"""Timelines worked out by hand against the limiter."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from ksefbuffer.ksef.limits import GUARD_S, LIMITS, NO_LIMIT, Limit, Limiter, Usage
from tests.ksef.fake import START


def at(seconds: float):  # type: ignore[no-untyped-def]
    return START + timedelta(seconds=seconds)


def test_the_eleventh_call_in_a_second_waits_for_the_first_to_leave() -> None:
    limiter = Limiter()
    for n in range(10):
        assert limiter.reserve("onlineSession", at(n / 100)) == 0
    assert limiter.reserve("onlineSession", at(0.5)) == pytest.approx(0.5 + GUARD_S)
    # The first call left the window at 1 s; the second, made at 0.01 s, is the next to leave.
    assert limiter.reserve("onlineSession", at(1 + GUARD_S)) == 0
    assert limiter.reserve("onlineSession", at(1 + GUARD_S)) == pytest.approx(0.01)


def test_the_minute_window_slides_and_is_not_aligned() -> None:
    limiter = Limiter()
    for n in range(30):
        assert limiter.reserve("onlineSession", at(30 + n)) == 0
    assert limiter.reserve("onlineSession", at(60)) == pytest.approx(30 + GUARD_S)
    assert limiter.reserve("onlineSession", at(90.2)) == 0
    assert limiter.reserve("onlineSession", at(90.2)) == pytest.approx(0.9)


def test_the_hour_window_holds_too() -> None:
    limiter = Limiter()
    for n in range(20):
        assert limiter.reserve("invoiceMetadata", at(n * 60)) == 0
    assert limiter.reserve("invoiceMetadata", at(1200)) == pytest.approx(2400 + GUARD_S)
    assert limiter.reserve("invoiceMetadata", at(3600.2)) == 0
    assert limiter.reserve("invoiceMetadata", at(3600.2)) > 59


def test_a_call_that_has_to_wait_takes_nothing() -> None:
    limiter = Limiter({"g": Limit(1, 2, NO_LIMIT), "global": Limit(NO_LIMIT, NO_LIMIT, NO_LIMIT)})
    assert limiter.reserve("g", at(0)) == 0
    for _ in range(5):
        assert limiter.reserve("g", at(0.5)) > 0
    assert limiter.snapshot(at(0.5))["g"] == Usage(1, 1, 1)
    assert limiter.reserve("g", at(2)) == 0


def test_groups_do_not_hinder_each_other_but_all_count_as_global() -> None:
    limiter = Limiter({**LIMITS, "global": Limit(3, NO_LIMIT, NO_LIMIT)})
    assert limiter.reserve("invoiceSend", at(0)) == 0
    assert limiter.reserve("sessionMisc", at(0)) == 0
    assert limiter.reserve("anonymous", at(0)) == 0
    assert limiter.reserve("invoiceStatus", at(0.1)) == pytest.approx(0.9 + GUARD_S)


def test_every_endpoint_of_other_has_its_own_counter() -> None:
    limiter = Limiter()
    for _ in range(10):
        assert limiter.reserve("other:rate-limits", at(0)) == 0
    assert limiter.reserve("other:rate-limits", at(0)) > 0
    assert limiter.reserve("other:limits-context", at(0)) == 0


def test_a_group_that_nobody_knows_is_counted_as_other() -> None:
    limiter = Limiter()
    for _ in range(10):
        assert limiter.reserve("brandNew", at(0)) == 0
    assert limiter.reserve("brandNew", at(0)) > 0


def test_after_429_the_group_is_shut_for_the_time_asked_and_only_it() -> None:
    limiter = Limiter()
    limiter.penalise("invoiceSend", at(0), 31)
    limiter.penalise("invoiceSend", at(1), 5)
    assert limiter.reserve("invoiceSend", at(10)) == pytest.approx(21)
    assert limiter.reserve("invoiceStatus", at(10)) == 0
    assert limiter.snapshot(at(10))["invoiceSend"].blocked_until == at(31)
    assert limiter.snapshot(at(40))["invoiceSend"].blocked_until is None
    assert limiter.reserve("invoiceSend", at(31)) == 0


def test_minus_one_is_no_limit_and_adopting_keeps_the_counts() -> None:
    limiter = Limiter()
    for _ in range(60):
        assert limiter.reserve("anonymous", at(0)) == 0
    assert limiter.reserve("anonymous", at(0)) > 0
    limiter.adopt({"anonymous": Limit(NO_LIMIT, NO_LIMIT, NO_LIMIT), "global": Limit(NO_LIMIT, NO_LIMIT, NO_LIMIT)})
    for _ in range(200):
        assert limiter.reserve("anonymous", at(0)) == 0
    assert limiter.snapshot(at(0))["anonymous"].per_second == 260


def test_a_limit_of_nothing_lets_nothing_through() -> None:
    assert Limiter({"g": Limit(0, 5, 5)}).reserve("g", at(0)) >= 3600


def test_a_clock_set_back_does_not_lengthen_the_wait() -> None:
    limiter = Limiter()
    for _ in range(10):
        limiter.reserve("onlineSession", at(7200))
    assert limiter.reserve("onlineSession", at(0)) <= 1 + GUARD_S


def test_many_threads_never_take_more_than_allowed() -> None:
    limiter = Limiter({"g": Limit(50, NO_LIMIT, NO_LIMIT), "global": Limit(NO_LIMIT, NO_LIMIT, NO_LIMIT)})
    taken: list[float] = []

    def work() -> None:
        taken.extend(wait for wait in (limiter.reserve("g", at(0)) for _ in range(40)) if wait == 0)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 50


def test_memory_does_not_grow_for_ever() -> None:
    limiter = Limiter({"g": Limit(NO_LIMIT, NO_LIMIT, NO_LIMIT), "global": Limit(NO_LIMIT, NO_LIMIT, NO_LIMIT)})
    for hour in range(5):
        for n in range(100):
            limiter.reserve("g", at(hour * 4000 + n))
    assert limiter.snapshot(at(4 * 4000 + 100))["g"].per_hour == 100
    assert len(limiter._taken["g"]) == 100
