"""KSeF's limits remembered over a restart: every limited call is a row, written before the call leaves (FACTS §6)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from ksefbuffer.ksef.limits import NO_LIMIT, Limit, Limiter
from ksefbuffer.queue import calls, facts
from ksefbuffer.queue.db import Database

_WINDOW = timedelta(hours=1)
_FACT = "rate_limits"


class RememberedLimiter(Limiter):
    """A limiter whose count outlives the process. Call ``recall`` once the schema is there."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database
        self._forgotten_until: datetime | None = None

    def recall(self, now: datetime) -> None:
        """Counts what the process before us called within the hour, and keeps the pauses KSeF gave it."""
        with self._database.reading() as tx:
            known = calls.since(tx, now - _WINDOW)
            figures = facts.get(tx, _FACT)
        if figures is not None:
            super().adopt({group: Limit(*numbers) for group, numbers in figures[0].items()})
        for call in known:
            if call.blocked_until is None:
                self.count(call.group, call.at)
            elif call.blocked_until > now:
                super().penalise(call.group, now, (call.blocked_until - now).total_seconds())

    def remember_figures(self, limits: Mapping[str, Limit], now: datetime) -> None:
        """KSeF's own figures, for the next start."""
        figures = {group: [one.per_second, one.per_minute, one.per_hour] for group, one in limits.items()}
        with self._database.transaction() as tx:
            facts.put(tx, _FACT, figures, at=now)

    def reserve(self, group: str, now: datetime, **how: Any) -> float:
        wait = super().reserve(group, now, **how)
        if wait == 0 and self._counts_for_long(group):
            with self._database.transaction() as tx:
                calls.note(tx, group, at=now)
                if self._forgotten_until is None or now - self._forgotten_until > _WINDOW:
                    calls.forget_before(tx, now - _WINDOW)
                    self._forgotten_until = now
        return wait

    def penalise(self, group: str, now: datetime, retry_after_s: float) -> None:
        super().penalise(group, now, retry_after_s)
        with self._database.transaction() as tx:
            calls.note(tx, group, at=now, blocked_until=now + timedelta(seconds=retry_after_s))

    def _counts_for_long(self, group: str) -> bool:
        """A window of a second is over before a new process asks; only longer ones are worth a row."""
        limit = self.limit(group)
        return limit.per_minute != NO_LIMIT or limit.per_hour != NO_LIMIT
