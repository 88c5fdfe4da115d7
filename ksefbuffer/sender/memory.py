"""KSeF's limits remembered over a restart: every limited call is a row, written before the call leaves (FACTS §6)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from ksefbuffer.ksef.limits import Limit, Limiter
from ksefbuffer.queue import calls, facts
from ksefbuffer.queue.db import Database

_WINDOW = timedelta(hours=1)
_FACT = "rate_limits"
# Their windows of a second are over before a new process could ask.
_OVER_AT_ONCE = frozenset({"anonymous", "global"})


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
        taken: dict[str, list[list[int]]] = {}
        blocked: dict[str, list[int]] = {}
        for call in known:
            if call.blocked_until is None:
                taken.setdefault(call.group, []).append([_ms(call.at), 1])
            else:
                blocked[call.group] = [_ms(call.at), _ms(call.blocked_until)]
        self.restore({"taken": taken, "blocked": blocked}, now)

    def remember_figures(self, limits: Mapping[str, Limit], now: datetime) -> None:
        """KSeF's own figures, for the next start."""
        figures = {group: [one.per_second, one.per_minute, one.per_hour] for group, one in limits.items()}
        with self._database.transaction() as tx:
            facts.put(tx, _FACT, figures, at=now)

    def reserve(self, group: str, now: datetime, *, share: float = 1.0) -> float:
        wait = super().reserve(group, now, share=share)
        if wait == 0 and group not in _OVER_AT_ONCE:
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


def _ms(moment: datetime) -> int:
    # Rounded up, as the limiter itself does: a call counts a moment longer rather than shorter.
    return -int(-moment.timestamp() * 1000 // 1)
