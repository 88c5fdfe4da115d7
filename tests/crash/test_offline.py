"""A kill at every boundary while KSeF is away and invoices are issued offline: none lost, none sent twice, none without
its codes and its term, all sent as offline. And controls that fail.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from ksefbuffer.queue import documents, terms
from ksefbuffer.sender import dispatch
from tests.crash.harness import Fate
from tests.crash.playing import LOST, PAIR_STRIDE, Scenario, calls, failures, some_failures

pytestmark = pytest.mark.crash
OFFLINE = True


def test_a_kill_at_every_boundary_loses_no_invoice_and_no_code(scenario: Scenario, course: list[str]) -> None:
    assert len(course) > 100
    assert failures(scenario, ([Fate(at)] for at in range(1, len(course) + 1))) == []


def test_an_answer_lost_at_every_call_doubles_nothing(scenario: Scenario, course: list[str]) -> None:
    chosen = [(at, how) for at in calls(course) for how in LOST if course[at - 1].startswith(_kind(how))]
    assert failures(scenario, ([Fate(at, how)] for at, how in chosen[::3])) == []


def _kind(how: str) -> str:
    return "after" if how in ("lost", "503") else "before"


def test_pairs_of_kills_lose_and_double_nothing(scenario: Scenario, course: list[str]) -> None:
    pairs = list(itertools.product(range(1, len(course) + 1), repeat=2))[:: PAIR_STRIDE * 99]
    assert len(pairs) > 10
    assert failures(scenario, ([Fate(first), Fate(second)] for first, second in pairs)) == []


def test_control_a_flag_that_is_not_sent_shows(
    scenario: Scenario, course: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = dispatch.documents.apply

    def forgetting(*args: Any, **changes: Any) -> documents.Document:
        from dataclasses import replace

        return replace(apply(*args, **changes), offline=False)

    monkeypatch.setattr(dispatch.documents, "apply", forgetting)
    assert some_failures(scenario, iter([[Fate()]]))


def test_control_a_stamp_without_its_answer_shows(
    scenario: Scenario, course: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stamping that does not make the answers due, and a number that comes without one either: the code is not told."""
    monkeypatch.setattr(terms.deliveries, "want_all", lambda *_: None)
    monkeypatch.setattr(documents.deliveries, "want", lambda *_: None)
    assert some_failures(scenario, iter([[Fate()]]))
