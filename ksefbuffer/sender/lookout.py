"""The duty of reading Latarnia: whatever it tells is kept for good, and nobody's answer waits for it.

Source: FACTS §10 (Latarnia).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from ksefbuffer.ksef.latarnia import CACHED_FOR, Latarnia, Status
from ksefbuffer.queue import facts, terms
from ksefbuffer.queue.db import Database

FACT = "latarnia"
_ASKED_EVERY = CACHED_FOR + timedelta(seconds=1)


@dataclass
class Lookout:
    """One thread calls ``step``; ``heeded`` False asks nobody (TEST and DEMO have a mock for a Latarnia, lat#15)."""

    database: Database
    latarnia: Latarnia
    clock: Callable[[], datetime]
    heeded: bool
    next_due: datetime | None = None
    _told: dict[str, str] | None = None

    def step(self) -> bool:
        """One look. True when it brought something new."""
        now = self.clock()
        # A clock that was set back must not stop the looking.
        due = self.next_due is None or not now < self.next_due <= now + _ASKED_EVERY
        if not self.heeded or not due:
            return False
        news = self.latarnia.news()
        self.next_due = now + _ASKED_EVERY
        told = {"status": str(news.status), "reason": news.reason}
        if news.status is Status.UNKNOWN and not news.reason and not news.messages:
            return False
        with self.database.transaction() as tx:
            new = terms.keep(tx, news.messages, at=now)
            if told != self._told:
                facts.put(tx, FACT, told, at=now)
        changed = new > 0 or told != self._told
        self._told = told
        return changed
