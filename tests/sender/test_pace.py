"""How often KSeF is asked, and how long it is left alone after trouble."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ksefbuffer.errors import Blocked, CallFault, OutcomeUnknown, RateLimited, Unauthorised, Unreachable
from ksefbuffer.sender.pace import LONGEST, Pace, growing
from ksefbuffer.sender.trouble import length

NOW = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)


def test_a_stuck_invoice_is_asked_about_ever_more_seldom() -> None:
    pace, moment, polls = Pace(), NOW, 0
    while moment < NOW + timedelta(hours=1):
        polls += 1
        moment = pace.next_poll(moment, polls)
    assert polls < 80
    assert pace.next_poll(NOW, 500) - NOW == LONGEST


def test_the_first_question_learns_how_long_ksef_takes() -> None:
    """Given KSeF that takes 2 s: the first question soon comes about then, and seldom in vain."""
    pace, in_vain = Pace(), 0
    for round_number in range(60):
        polls, asked_at = 0, pace.first_poll(NOW)
        while asked_at < NOW + timedelta(seconds=2):
            polls += 1
            asked_at = pace.next_poll(asked_at, polls)
        in_vain += polls if round_number >= 30 else 0
        pace.learn(polls)
    assert 1.4 < pace.expected_s < 2.8
    assert in_vain <= 30


def test_quick_ksef_is_asked_quickly() -> None:
    pace = Pace()
    for _ in range(40):
        pace.learn(0)
    assert pace.expected_s < 0.1


@pytest.mark.parametrize(
    ("fault", "failures", "seconds"),
    [
        (Unreachable("x"), 1, 2),
        (Unreachable("x"), 3, 8),
        (OutcomeUnknown("x"), 50, 120),
        (OutcomeUnknown("x", retry_after_s=300), 1, 300),
        (RateLimited("x", retry_after_s=1801), 1, 1801),
        (RateLimited("x", retry_after_s=3), 9, 3),
        (Unauthorised("x"), 1, 60),
        (Unauthorised("x"), 50, 1800),
        (Blocked("x"), 1, 120),
        (CallFault("x"), 2, 4),
    ],
)
def test_length_of_a_pause(fault: CallFault, failures: int, seconds: float) -> None:
    assert length(fault, failures) == timedelta(seconds=seconds)


def test_growing_pauses_end_somewhere() -> None:
    assert growing(NOW, 0) == NOW + timedelta(seconds=1)
    assert growing(NOW, 100) == NOW + timedelta(seconds=300)
