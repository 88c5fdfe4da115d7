"""When to ask for a status: soon enough to be quick, seldom enough to be polite. Pure but for its own memory.

The first question comes when an answer has lately been there; each further one after a growing pause. What is left of
the status budget (120 a minute, 1,200 an hour) is the limiter's business. Source: FACTS §4.3, §6.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

SHORTEST_S, LONGEST_FIRST_S = 0.03, 3.0
LONGEST = timedelta(seconds=60)
GROWTH = 1.6
FIRST_LOOKS = timedelta(milliseconds=100)


@dataclass
class Pace:
    """``expected_s``: how long KSeF has lately taken from a send to a verdict; ``batch_s``: a batch, opening to end."""

    expected_s: float = 0.3
    batch_s: float = 10.0

    def first_poll(self, handed_at: datetime) -> datetime:
        return handed_at + timedelta(seconds=self.expected_s)

    def learn(self, polls: int) -> None:
        """``polls`` questions were in vain before the verdict came: too early when any, perhaps too late when none."""
        factor = 0.85 if polls == 0 else 1.15
        self.expected_s = min(max(self.expected_s * factor, SHORTEST_S), LONGEST_FIRST_S)

    def learn_batch(self, seconds: float) -> None:
        """A batch took so long; halfway towards it, so that one stuck batch does not end batching."""
        self.batch_s = min((self.batch_s + seconds) / 2, 120.0)

    def next_look(self, now: datetime, since: datetime, *, behind: bool = False) -> datetime:
        """When to look again at a batch handed in at ``since``: after a tenth of what it has taken so far.

        ``behind``: an older one is still at KSeF, and this one is looked at more seldom.
        """
        return now + min(max((now - since) / (2 if behind else 10), FIRST_LOOKS), LONGEST)

    def next_poll(self, now: datetime, polls: int) -> datetime:
        """After the ``polls``-th question in vain (from 1): soon after one that just missed, then ever later."""
        pause = timedelta(seconds=max(self.expected_s / 8, SHORTEST_S) * GROWTH ** min(polls - 1, 30))
        return now + min(pause, LONGEST)


def growing(now: datetime, tries: int, *, first_s: float = 1.0, longest_s: float = 300.0) -> datetime:
    """The moment of the next try after ``tries`` in vain (from 0)."""
    return now + timedelta(seconds=min(first_s * 2 ** min(tries, 20), longest_s))
