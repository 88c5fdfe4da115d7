"""Counting our calls against KSeF's limits, so that KSeF need not refuse them. Pure: the time is an argument.

Source: FACTS §6 (open-api 2.9.0). Windows slide (the last 1, 60 and 3600 seconds) and all hold at once. A group is a
key of ``LIMITS``; in "other" every endpoint has its own counter, so it is named "other:rate-limits".
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

NO_LIMIT = -1

# Requests meet with different delays on their way, so two sent a whole second apart may arrive closer together.
GUARD_S = 0.1


@dataclass(frozen=True)
class Limit:
    """Calls allowed in the last second, minute and hour; −1 is no limit."""

    per_second: int
    per_minute: int
    per_hour: int


@dataclass(frozen=True)
class Usage:
    """Calls counted in the last second, minute and hour; ``blocked_until`` is set while KSeF's 429 holds."""

    per_second: int
    per_minute: int
    per_hour: int
    blocked_until: datetime | None = None


LIMITS: Mapping[str, Limit] = {
    "onlineSession": Limit(10, 30, 120),
    "onlineSessionClose": Limit(20, 60, 240),
    "batchSession": Limit(10, 20, 60),
    "batchSessionClose": Limit(20, 40, 120),
    "invoiceSend": Limit(10, 30, 180),
    "invoiceStatus": Limit(30, 120, 1200),
    "sessionList": Limit(5, 10, 60),
    "sessionInvoiceList": Limit(10, 20, 200),
    "sessionMisc": Limit(10, 120, 1200),
    "invoiceMetadata": Limit(8, 16, 20),
    "invoiceExport": Limit(8, 16, 20),
    "invoiceExportStatus": Limit(10, 60, 600),
    "invoiceDownload": Limit(8, 16, 64),
    "collectiveIdentifier": Limit(20, 120, 240),
    "other": Limit(10, 30, 120),
    "anonymous": Limit(60, NO_LIMIT, NO_LIMIT),
    "global": Limit(75, NO_LIMIT, NO_LIMIT),
}

_HOUR = timedelta(hours=1)


def _windows(limit: Limit) -> tuple[tuple[int, timedelta], ...]:
    guard = timedelta(seconds=GUARD_S)
    return (
        (limit.per_second, timedelta(seconds=1) + guard),
        (limit.per_minute, timedelta(minutes=1) + guard),
        (limit.per_hour, _HOUR + guard),
    )


class Limiter:
    """Sliding windows per group, for one context behind one address. Safe to share between threads."""

    def __init__(self, limits: Mapping[str, Limit] = LIMITS) -> None:
        self._lock = threading.Lock()
        self._limits = dict(limits)
        self._taken: dict[str, deque[datetime]] = {}
        self._blocked: dict[str, datetime] = {}

    def adopt(self, limits: Mapping[str, Limit]) -> None:
        """Replace the limits of the groups named; the others and all counts stay."""
        with self._lock:
            self._limits.update(limits)

    def reserve(self, group: str, now: datetime) -> float:
        """Take one call now and return 0, or take nothing and return the seconds to wait before asking again."""
        with self._lock:
            keys = (group, "global")
            wait = max(self._wait(key, now) for key in keys)
            if wait > timedelta(0):
                return wait.total_seconds()
            for key in keys:
                taken = self._taken.setdefault(key, deque())
                taken.append(now)
                while taken and taken[0] <= now - _HOUR - timedelta(seconds=GUARD_S):
                    taken.popleft()
            return 0.0

    def penalise(self, group: str, now: datetime, retry_after_s: float) -> None:
        """KSeF answered 429: the group stays shut until ``now`` plus ``retry_after_s``, or longer if it already was."""
        until = now + timedelta(seconds=retry_after_s)
        with self._lock:
            self._blocked[group] = max(until, self._blocked.get(group, until))

    def snapshot(self, now: datetime) -> dict[str, Usage]:
        """What was taken of every known or used group, as of ``now``."""
        with self._lock:
            return {key: self._usage(key, now) for key in sorted({*self._limits, *self._taken, *self._blocked})}

    def _limit(self, key: str) -> Limit:
        family = key.partition(":")[0]
        return self._limits.get(key) or self._limits.get(family) or self._limits.get("other") or LIMITS["other"]

    def _wait(self, key: str, now: datetime) -> timedelta:
        wait = max(self._blocked.get(key, now) - now, timedelta(0))
        taken = self._taken.get(key, deque())
        for allowed, window in _windows(self._limit(key)):
            if allowed == NO_LIMIT:
                continue
            if allowed < 1:
                return max(wait, _HOUR)
            if len(taken) >= allowed:
                # The call that must leave the window before there is room again; a clock set back must not lengthen it.
                wait = max(wait, min(taken[-allowed] + window - now, window))
        return wait

    def _usage(self, key: str, now: datetime) -> Usage:
        counts = [
            sum(1 for at in self._taken.get(key, ()) if at > now - window) for _, window in _windows(Limit(1, 1, 1))
        ]
        until = self._blocked.get(key)
        return Usage(counts[0], counts[1], counts[2], until if until is not None and until > now else None)
