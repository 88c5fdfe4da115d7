"""KSeF's own figures for our context: limits of calls, and what a session may hold. Read daily; until KSeF has told
them, or when it will not, the published ones hold. Source: FACTS §6.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from ksefbuffer.errors import CallFault
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.limits import Limiter
from ksefbuffer.ksef.shapes import SessionLimits
from ksefbuffer.queue import facts
from ksefbuffer.queue.db import Database
from ksefbuffer.sender.memory import RememberedLimiter

log = logging.getLogger(__name__)

T = TypeVar("T")

PUBLISHED = SessionLimits(invoice_bytes=1_000_000, invoice_with_attachment_bytes=3_000_000, invoices=10_000)
_READ_EVERY = timedelta(days=1)
_FACT = "session_limits"


@dataclass
class Figures:
    """``online`` and ``batch`` say what a session may hold now. Shared by the duties; each read replaces them whole."""

    database: Database
    ksef: Ksef
    limiter: Limiter
    online: SessionLimits = PUBLISHED
    batch: SessionLimits = PUBLISHED
    _read_at: datetime | None = field(default=None, repr=False)

    def recall(self, now: datetime) -> None:
        """What an earlier life was told, and the calls it made."""
        if isinstance(self.limiter, RememberedLimiter):
            self.limiter.recall(now)
        with self.database.reading() as tx:
            known = facts.get(tx, _FACT)
        if known is not None:
            self._take({name: SessionLimits(**figures) for name, figures in known[0].items()})

    def read_daily(self, now: datetime) -> None:
        """Asks KSeF when that is due; a failure costs nothing but the news. Raises StorageFault."""
        if self._read_at is not None and now - self._read_at < _READ_EVERY:
            return
        rates = self._asked(self.ksef.rate_limits)
        if rates is None:
            return
        self._read_at = now
        self.limiter.adopt(rates)
        if isinstance(self.limiter, RememberedLimiter):
            self.limiter.remember_figures(rates, now)
        holds = self._asked(self.ksef.session_limits)
        if holds is not None:
            self._take(holds)
            with self.database.transaction() as tx:
                facts.put(tx, _FACT, {name: asdict(figures) for name, figures in holds.items()}, at=now)

    @staticmethod
    def _asked(question: Callable[[], T]) -> T | None:
        try:
            return question()
        except CallFault as fault:
            log.info("limits not read, the known ones hold: %s", fault.message)
            return None

    def _take(self, holds: dict[str, SessionLimits]) -> None:
        online, batch = holds.get("onlineSession", self.online), holds.get("batchSession", self.batch)
        # Nothing sensible could be sent under it: rather a misreading than a limit.
        self.online = online if min(asdict(online).values()) > 0 else self.online
        self.batch = batch if min(asdict(batch).values()) > 0 else self.batch
