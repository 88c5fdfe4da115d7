"""The planner by table: rows in, one decision out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ksefbuffer.sender.plan import Candidate, Close, Open, Opened, Rest, Send, plan

NOW = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
IDLE = timedelta(seconds=60)
FA3, FA2 = "FA (3)", "FA (2)"


def opened(
    session: int = 1,
    form: str = FA3,
    *,
    used_ago: float = 0,
    ends_in_h: float = 11,
    sends: int = 1,
    usable: bool = True,
) -> Opened:
    return Opened(
        session, form, sends, NOW - timedelta(seconds=used_ago), NOW + timedelta(hours=ends_in_h), usable=usable
    )


CASES = {
    "nothing at all": ([], [], None, Rest(None)),
    "the first invoice opens a session": ([Candidate(7, FA3)], [], None, Open(FA3, 7)),
    "the next one goes into it": ([Candidate(8, FA3)], [opened()], None, Send(8, 1)),
    "an idle session waits for its time": ([], [opened(used_ago=20)], None, Rest(NOW + timedelta(seconds=40))),
    "and is closed then": ([], [opened(used_ago=60)], None, Close(1, "idle")),
    "but not when an invoice needs it": ([Candidate(8, FA3)], [opened(used_ago=600)], None, Send(8, 1)),
    "another form needs its own session": ([Candidate(8, FA2)], [opened(used_ago=5)], None, Open(FA2, 8)),
    "an idle one is closed beside another form": ([Candidate(8, FA2)], [opened(used_ago=61)], None, Close(1, "idle")),
    "a session near its end takes no more": (
        [Candidate(8, FA3)],
        [opened(ends_in_h=0.1)],
        None,
        Close(1, "near its end"),
    ),
    "a full one neither": ([Candidate(8, FA3)], [opened(sends=10_000)], None, Close(1, "full")),
    "a session whose key is gone is closed": ([Candidate(8, FA3)], [opened(usable=False)], None, Close(1, "key lost")),
    "a held correction lets others pass": (
        [Candidate(8, FA3, held=True), Candidate(9, FA3)],
        [opened()],
        None,
        Send(9, 1),
    ),
    "a held correction alone waits": ([Candidate(8, FA3, held=True)], [], None, Rest(None)),
    "a pause holds everything": ([Candidate(8, FA3)], [], NOW + timedelta(seconds=5), Rest(NOW + timedelta(seconds=5))),
    "a pause that is over holds nothing": ([Candidate(8, FA3)], [], NOW, Open(FA3, 8)),
    "a pause does not keep an idle session open": ([], [opened(used_ago=90)], NOW + IDLE, Close(1, "idle")),
}


@pytest.mark.parametrize("name", CASES)
def test_plan(name: str) -> None:
    waiting, sessions, paused_until, expected = CASES[name]
    assert plan(waiting, sessions, NOW, idle=IDLE, paused_until=paused_until) == expected
