"""The same through batches: a kill at every commit, HTTP and file boundary of building, opening, uploading and handing
in a package, alone and in pairs, with lost answers and closes that nevertheless happened: none lost, none twice.
"""

from __future__ import annotations

import itertools

import pytest

from ksefbuffer.ksef.client import Ksef
from ksefbuffer.queue import documents, sessions
from ksefbuffer.queue.states import Event, State
from ksefbuffer.sender import handin, reconcile
from tests.crash.harness import Fate
from tests.crash.playing import LOST, PAIR_STRIDE, LostThenKilled, Scenario, calls, failures, some_failures

pytestmark = pytest.mark.crash

BATCH = True


def test_the_course_goes_through_a_batch(course: list[str]) -> None:
    whole = " ".join(course)
    assert "before POST /v2/sessions/batch" in whole
    assert "before PUT /storage" in whole
    assert "before POST /v2/sessions/online" in whole, "the urgent one goes singly beside it"


def test_a_kill_at_every_boundary_loses_and_doubles_nothing(scenario: Scenario, course: list[str]) -> None:
    assert failures(scenario, ([Fate(at)] for at in range(1, len(course) + 1))) == []


@pytest.mark.parametrize("how", LOST)
def test_an_answer_lost_at_every_call_loses_and_doubles_nothing(
    scenario: Scenario, course: list[str], how: str
) -> None:
    """Among them the ambiguous closes: 503 or silence on a close that nevertheless processed the package."""
    kind = "after" if how in ("lost", "503") else "before"
    chosen = [at for at in calls(course) if course[at - 1].startswith(kind)]
    assert chosen
    assert failures(scenario, ([Fate(at, how)] for at in chosen)) == []


def test_pairs_of_kills_lose_and_double_nothing(scenario: Scenario, course: list[str]) -> None:
    pairs = list(itertools.product(range(1, len(course) + 1), repeat=2))[:: PAIR_STRIDE * 17]
    assert len(pairs) > 50
    assert failures(scenario, ([Fate(first), Fate(second)] for first, second in pairs)) == []


def test_a_lost_answer_and_then_a_kill_lose_and_double_nothing(scenario: Scenario, course: list[str]) -> None:
    chosen = [at for at in calls(course) if course[at - 1].startswith("before") and "batch" in course[at - 1]]
    plans = [(at, how, after) for at in chosen for how in ("never", "late:1000") for after in (1, 3, 7, 12, 20)]
    assert len(plans) >= 20
    assert failures(scenario, ([LostThenKilled(at, how, after), Fate()] for at, how, after in plans)) == []


def _closes(course: list[str], when: str) -> list[int]:
    return [at for at in calls(course) if course[at - 1].startswith(when) and course[at - 1].endswith("/close")]


def test_control_giving_a_batch_back_after_a_lost_close_sends_twice(
    scenario: Scenario, course: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A close whose answer was lost did hand the package in: taking it for not handed in sends everything again."""

    def naive(self: handin.BatchSender) -> None:
        now = self.clock()
        with self.database.transaction() as tx:
            for session in sessions.unfinished(tx, "opening", "open", "closing", kind="batch"):
                documents.apply_all(
                    tx,
                    documents.keys_in_session(tx, session.id),
                    [State.PROCESSING],
                    Event.NOT_AT_KSEF,
                    at=now,
                    actor="naive",
                )
                sessions.done(tx, session.id, status_code=None)

    monkeypatch.setattr(handin.BatchSender, "recover", naive)
    assert some_failures(scenario, ([Fate(at)] for at in _closes(course, "after")))


def test_control_closing_before_the_intent_is_committed_sends_twice(
    scenario: Scenario, course: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The close sent while the row still says "open": a kill right after it gives the documents back."""
    original = sessions.stop_using

    def hasty(self: handin.BatchSender, *arguments: object) -> None:
        upload(self, *arguments)
        with self.database.reading() as tx:
            (session,) = sessions.unfinished(tx, "open", kind="batch")
        assert session.reference is not None
        self.ksef.close_batch(session.reference)

    upload = handin.BatchSender._upload
    monkeypatch.setattr(handin.BatchSender, "_upload", hasty)
    assert original is sessions.stop_using
    assert some_failures(scenario, ([Fate(at)] for at in range(_closes(course, "after")[0] - 4, len(course))))


def test_control_absence_believed_before_the_batch_is_final_sends_twice(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing is empty until the package is processed (FACTS §5.7)."""
    monkeypatch.setattr(reconcile, "session_final", lambda code: True)
    monkeypatch.setattr(Ksef, "close_session", lambda self, reference, **_: None)
    assert some_failures(scenario, iter([[Fate()]]))
