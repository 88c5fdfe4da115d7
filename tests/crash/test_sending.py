"""A kill at every commit, HTTP and file boundary of sending online, alone and in pairs, with lost answers and late
requests: none lost, none sent twice, every answer delivered. And controls: the same, with one guard taken away, fails.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from ksefbuffer.erp import delivery
from ksefbuffer.erp.folder import FolderConnector
from ksefbuffer.errors import Unreachable
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.queue import deliveries, documents, sessions
from ksefbuffer.queue.states import Event
from ksefbuffer.sender import dispatch, reconcile
from tests.crash.harness import Fate
from tests.crash.playing import LOST, PAIR_STRIDE, LostThenKilled, Scenario, calls, failures, some_failures

pytestmark = pytest.mark.crash


def test_the_course_has_every_kind_of_boundary(course: list[str]) -> None:
    kinds = {" ".join(what.split()[:2]) for what in course}
    assert {
        "before commit",
        "after commit",
        "before POST",
        "after GET",
        "before write_whole",
        "before _rename_new",
    } <= kinds
    assert len(course) > 100


def test_a_kill_at_every_boundary_loses_and_doubles_nothing(scenario: Scenario, course: list[str]) -> None:
    assert failures(scenario, ([Fate(at)] for at in range(1, len(course) + 1))) == []


@pytest.mark.parametrize("how", LOST)
def test_an_answer_lost_at_every_call_loses_and_doubles_nothing(
    scenario: Scenario, course: list[str], how: str
) -> None:
    kind = "after" if how in ("lost", "503") else "before"
    chosen = [at for at in calls(course) if course[at - 1].startswith(kind)]
    assert chosen
    assert failures(scenario, ([Fate(at, how)] for at in chosen)) == []


def test_pairs_of_kills_lose_and_double_nothing(scenario: Scenario, course: list[str]) -> None:
    pairs = list(itertools.product(range(1, len(course) + 1), repeat=2))[:: PAIR_STRIDE * 23]
    assert len(pairs) > 50
    assert failures(scenario, ([Fate(first), Fate(second)] for first, second in pairs)) == []


def test_a_lost_answer_and_then_a_kill_lose_and_double_nothing(scenario: Scenario, course: list[str]) -> None:
    """The first life loses an answer and is killed a little later; the second finds what is left."""
    before = [at for at in calls(course) if course[at - 1].startswith("before")]
    plans = [(at, how, after) for at in before for how in ("never", "late:1000") for after in (1, 3, 7, 12, 20)]
    chosen = plans[:: max(1, PAIR_STRIDE // 3)]
    assert len(chosen) > 40
    assert failures(scenario, ([LostThenKilled(at, how, after), Fate()] for at, how, after in chosen)) == []


# Controls: each takes one guard away. A guard whose absence no scenario notices would prove nothing.


def test_control_without_the_fence_an_invoice_goes_twice(
    scenario: Scenario, course: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Absence is believed although the session was never closed: the late request then lands beside its repetition."""
    monkeypatch.setattr(Ksef, "close_session", lambda self, reference: None)
    monkeypatch.setattr(reconcile, "session_final", lambda code: True)
    sends = [
        at for at in calls(course) if course[at - 1].startswith("before POST") and course[at - 1].endswith("/invoices")
    ]
    assert some_failures(scenario, ([Fate(at, how)] for at in sends for how in ("late:4", "late:1000")))


def test_control_taking_a_lost_answer_for_not_taken_sends_twice(
    scenario: Scenario, course: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Ksef.send

    def believing(self: Ksef, *arguments: Any, **options: Any) -> str:
        try:
            return original(self, *arguments, **options)
        except Exception as error:
            raise Unreachable("wierzymy, że nie dotarło") from error

    monkeypatch.setattr(Ksef, "send", believing)
    sends = [
        at for at in calls(course) if course[at - 1].startswith("after POST") and course[at - 1].endswith("/invoices")
    ]
    assert some_failures(scenario, ([Fate(at, "lost")] for at in sends))


def test_control_queueing_anew_after_a_restart_sends_twice(
    scenario: Scenario, course: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def naive(self: dispatch.Dispatch) -> None:
        now = self.clock()
        with self.database.transaction() as tx:
            for session in sessions.unfinished(tx, "opening", "open", "closing"):
                for document in documents.in_session(tx, session.id):
                    documents.apply(tx, document, Event.NOT_AT_KSEF, at=now, actor="naive")
                sessions.done(tx, session.id, status_code=None)

    monkeypatch.setattr(dispatch.Dispatch, "recover", naive)
    sends = [
        at for at in calls(course) if course[at - 1].startswith("after POST") and course[at - 1].endswith("/invoices")
    ]
    assert some_failures(scenario, ([Fate(at)] for at in sends))


def test_control_moving_a_file_before_the_commit_loses_it(
    scenario: Scenario, course: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = FolderConnector._take

    def eager(self: FolderConnector, ready: list[Any], now: Any) -> bool:
        for found in ready:
            self._put_away(found, refused=False, now=now)
        return original(self, ready, now)

    monkeypatch.setattr(FolderConnector, "_take", eager)
    assert some_failures(scenario, ([Fate(at)] for at in range(1, 40)))


def test_control_answers_forgotten_on_delivery_failure_are_missed(
    scenario: Scenario, course: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outbox row marked as told before the file is written: a kill in between leaves the ERP without its answer."""
    original = delivery.Deliver.step

    def hasty(self: delivery.Deliver, now: Any) -> bool:
        with self.database.reading() as tx:
            due = deliveries.due(tx, now)
        if due is not None:
            with self.database.transaction() as tx:
                deliveries.told(tx, due)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(deliveries, "due", lambda tx, now: due)
                original(self, now)
        return due is not None

    monkeypatch.setattr(delivery.Deliver, "step", hasty)
    writes = [at for at, what in enumerate(course, 1) if what == "before write_whole"]
    assert some_failures(scenario, ([Fate(at + shift)] for at in writes for shift in (0, 1, 2)))
