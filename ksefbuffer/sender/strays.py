"""Sessions that KSeF opened for us although its answer was lost: found once after a start, and closed while empty.

Only a session that holds nothing and was opened at the moment of one of our own failed openings is taken for ours:
another program of the same firm may have sessions open too, and those are none of our business.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from ksefbuffer.errors import CallFault
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.queue import sessions
from ksefbuffer.queue.db import Database
from ksefbuffer.sender.pace import growing

log = logging.getLogger(__name__)

_OPEN = 100
_LIVES = timedelta(hours=12)
_SAME_MOMENT = timedelta(minutes=2)
_TRIES = 5


@dataclass
class Strays:
    """One thread calls ``step``; it has something to do at most once after a start."""

    database: Database
    ksef: Ksef
    clock: Callable[[], datetime]
    next_due: datetime | None = None
    _tries: int = 0
    _done: bool = False

    def step(self) -> bool:
        """Looks once; a failure is tried again later, a few times. Never true: there is no more to do at once."""
        now = self.clock()
        if self._done or (self.next_due is not None and now < self.next_due):
            return False
        with self.database.reading() as tx:
            lost = sessions.openings_lost(tx, since=now - _LIVES)
            known = sessions.references(tx, since=now - _LIVES)
        if not lost:
            self._done, self.next_due = True, None
            return False
        try:
            for session in self.ksef.own_sessions(kind="Online", since=now - _LIVES):
                ours = any(abs(session.created_at - opened_at) <= _SAME_MOMENT for opened_at in lost)
                if session.code == _OPEN and not session.total and ours and session.reference not in known:
                    self.ksef.close_session(session.reference)
                    log.info("stray session closed reference=%s", session.reference)
        except CallFault as fault:
            self._tries += 1
            self._done = self._tries >= _TRIES
            self.next_due = None if self._done else growing(now, self._tries, first_s=30, longest_s=600)
            log.info("stray sessions not looked for (%s)", fault.message)
            return False
        self._done, self.next_due = True, None
        return False
