"""Counting our calls against KSeF's limits, so that KSeF need not refuse them. Pure: the time is an argument.

Source: FACTS §6 (open-api 2.9.0). Windows slide (the last 1, 60 and 3600 seconds) and all hold at once. A group is a
key of ``LIMITS``; in "other" every endpoint has its own counter, so it is named "other:rate-limits".
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import repeat
from typing import Any, TypeGuard

NO_LIMIT = -1

# Requests meet with different delays on their way, so two sent a whole second apart may arrive closer together.
GUARD_S = 0.1
# Stands for "never" where a duration is due: a limit of 0 lets nothing through.
NEVER = timedelta(days=365)
FOREIGN_REMEMBERED = timedelta(hours=24)


@dataclass(frozen=True)
class Limit:
    """Calls allowed in the last second, minute and hour; −1 is no limit."""

    per_second: int
    per_minute: int
    per_hour: int


@dataclass(frozen=True)
class Foreign:
    """429s that our own count cannot explain, so somebody else calls in our context or from our address: the first,
    the last, and how many. A day without any ends the tale."""

    since: datetime
    last: datetime
    times: int


@dataclass(frozen=True)
class Usage:
    """Calls counted in the last second, minute and hour; ``blocked_until`` is set while KSeF's 429 holds;
    ``foreign_since`` when within a day KSeF refused what our own count cannot explain."""

    per_second: int
    per_minute: int
    per_hour: int
    blocked_until: datetime | None = None
    foreign_since: datetime | None = None


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

_GLOBAL = "global"
_GUARD = timedelta(seconds=GUARD_S)
_WINDOWS = (timedelta(seconds=1) + _GUARD, timedelta(minutes=1) + _GUARD, timedelta(hours=1) + _GUARD)
# KSeF may have counted a call a little earlier or later than we did.
_DOUBT = timedelta(seconds=1)
# A 429 this soon after a block is the same trouble going on, not a new one.
_AFTERMATH = timedelta(minutes=1)
_DUMPED = 1200
_MS = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class _Block:
    since: datetime
    until: datetime


class Limiter:
    """Sliding windows per group, for one context behind one address. Safe to share between threads.

    A ``share`` below 1 is the part of every window that the caller may fill, so that the rest stays for who asks with
    more; at least one call is always allowed. A clock set back never lengthens a wait beyond the window.
    """

    def __init__(self, limits: Mapping[str, Limit] = LIMITS) -> None:
        self._lock = threading.Lock()
        self._limits = dict(limits)
        # Sorted, the newest last, none older than an hour.
        self._taken: dict[str, deque[datetime]] = {}
        self._blocked: dict[str, _Block] = {}
        self._foreign: dict[str, Foreign] = {}

    def adopt(self, limits: Mapping[str, Limit]) -> None:
        """Replace the limits of the groups named; the others and all counts stay."""
        with self._lock:
            self._limits.update(limits)

    def limit(self, group: str) -> Limit:
        """The figures in force for a group."""
        with self._lock:
            return self._limit(group)

    def reserve(self, group: str, now: datetime, *, share: float = 1.0) -> float:
        """Take one call now and return 0, or take nothing and return the seconds to wait before asking again."""
        with self._lock:
            keys = (group, _GLOBAL)
            for key in keys:
                self._set_back(key, now)
            wait = max(self._wait(key, now, share) for key in keys)
            if wait > timedelta(0):
                return wait.total_seconds()
            for key in keys:
                taken = self._taken.setdefault(key, deque())
                taken.append(now)
                while taken[0] <= now - _WINDOWS[-1]:
                    taken.popleft()
            return 0.0

    def settle(self, group: str, reserved_at: datetime, now: datetime) -> None:
        """The call reserved at ``reserved_at`` has ended, so KSeF counted it at ``now`` at the latest.

        Without this a call that was slow to arrive (a new connection, a lost packet) would leave our window before it
        leaves KSeF's.
        """
        if now <= reserved_at:
            return
        with self._lock:
            for key in (group, _GLOBAL):
                _move(self._taken.get(key, deque()), reserved_at, now)

    def wait_for(self, group: str, now: datetime, calls: int = 1, share: float = 1.0) -> timedelta:
        """How long from ``now`` until so many calls, made as early as allowed, would have gone out; NEVER for a limit
        of 0. Takes nothing; others' calls in the meantime are not foreseen."""
        with self._lock:
            at = 0.0
            lanes: list[tuple[list[float], list[tuple[int, float]]]] = []
            for key in (group, _GLOBAL):
                windows = self._windows(key, share)
                if any(allowed < 1 for allowed, _ in windows):
                    return NEVER
                at = max(at, self._block_left(key, now).total_seconds())
                past = [min((moment - now).total_seconds(), 0.0) for moment in self._taken.get(key, ())]
                lanes.append((past, [(allowed, window.total_seconds()) for allowed, window in windows]))
        for _ in range(calls):
            for past, limits in lanes:
                for allowed, window_s in limits:
                    if len(past) >= allowed:
                        at = max(at, past[-allowed] + window_s)
            for past, _limits in lanes:
                past.append(at)
        return timedelta(seconds=at) if calls > 0 else timedelta(0)

    def penalise(self, group: str, now: datetime, retry_after_s: float) -> None:
        """KSeF answered 429: the group stays shut until ``now`` plus ``retry_after_s``, or longer if it already was.

        When our own count does not explain it, somebody else's calls do, and that is remembered. A count that was
        neither kept nor restored since our last calls would blame somebody for them.
        """
        block = _Block(now, now + timedelta(seconds=min(retry_after_s, NEVER.total_seconds())))
        with self._lock:
            for key in (group, _GLOBAL):
                self._set_back(key, now)
            before = self._blocked.get(group)
            if (before is None or before.until + _AFTERMATH <= now) and not self._explained(group, now):
                self._note_foreign(group, now)
            if before is None or before.until < block.until:
                self._blocked[group] = block

    def foreign(self, group: str) -> Foreign | None:
        """What somebody else's calls did to this group, as far as remembered."""
        with self._lock:
            return self._foreign.get(group)

    def snapshot(self, now: datetime) -> dict[str, Usage]:
        """What was taken of every known or used group, as of ``now``."""
        with self._lock:
            keys = {*self._limits, *self._taken, *self._blocked, *self._foreign}
            return {key: self._usage(key, now) for key in sorted(keys)}

    def dump(self, now: datetime) -> dict[str, Any]:
        """All that a restart must not forget, fit for JSON: times in milliseconds since 1970, rounded up, with how
        many calls were made then. At most 1,200 times a group: when there are more, neighbours become the later one."""
        with self._lock:
            taken = {
                group: _condensed(moment for moment in stamps if moment > now - _WINDOWS[-1])
                # The global count is the sum of the others, and is made anew from them.
                for group, stamps in self._taken.items()
                if group != _GLOBAL
            }
            return {
                "taken": {group: pairs for group, pairs in taken.items() if pairs},
                "blocked": {
                    # A beginning rounded up would lie ahead and shorten the block on restoring.
                    group: [_to_ms(block.since - _MS), _to_ms(block.until)]
                    for group, block in self._blocked.items()
                    if block.until > now
                },
                "foreign": {
                    group: [_to_ms(tale.since), _to_ms(tale.last), tale.times]
                    for group, tale in self._foreign.items()
                    if tale.last > now - FOREIGN_REMEMBERED
                },
            }

    def restore(self, state: object, now: datetime) -> None:
        """Take up what ``dump`` gave, beside what was counted since. What cannot be read is left out; times that lie
        ahead of ``now`` (a clock set back) count as now."""
        with self._lock:
            everything: list[datetime] = []
            for group, pairs in _entries(state, "taken"):
                moments = [moment for moment in _expanded(pairs) if moment > now - _WINDOWS[-1]]
                everything += moments
                self._taken[group] = deque(sorted([*self._taken.get(group, ()), *moments]))
            if everything:
                self._taken[_GLOBAL] = deque(sorted([*self._taken.get(_GLOBAL, ()), *everything]))
            for group, times in _entries(state, "blocked"):
                since, until = (_from_ms(time) for time in (*_list(times), None, None)[:2])
                if since is None or until is None:
                    continue
                since, lasts = min(since, now), min(until - since, NEVER)
                before = self._blocked.get(group)
                if since + lasts > (now if before is None else before.until):
                    self._blocked[group] = _Block(since, since + lasts)
            for group, times in _entries(state, "foreign"):
                since, last = (_from_ms(time) for time in (*_list(times), None, None)[:2])
                count = (*_list(times), None, None, None)[2]
                if since is not None and last is not None and since <= last and _is_count(count):
                    self._foreign.setdefault(group, Foreign(min(since, now), min(last, now), count))

    def _limit(self, key: str) -> Limit:
        family = key.partition(":")[0]
        return self._limits.get(key) or self._limits.get(family) or self._limits.get("other") or LIMITS["other"]

    def _windows(self, key: str, share: float = 1.0) -> list[tuple[int, timedelta]]:
        """Calls allowed in each window that has a limit."""
        limit = self._limit(key)
        figures = zip((limit.per_second, limit.per_minute, limit.per_hour), _WINDOWS, strict=True)
        return [(_shared(allowed, share), window) for allowed, window in figures if allowed > NO_LIMIT]

    def _wait(self, key: str, now: datetime, share: float) -> timedelta:
        wait = self._block_left(key, now)
        taken = self._taken.get(key, deque())
        for allowed, window in self._windows(key, share):
            if allowed < 1:
                return max(wait, _WINDOWS[-1])
            if len(taken) >= allowed:
                # The call that must leave the window before there is room again.
                wait = max(wait, taken[-allowed] + window - now)
        return wait

    def _block_left(self, key: str, now: datetime) -> timedelta:
        block = self._blocked.get(key)
        if block is None:
            return timedelta(0)
        return max(min(block.until - now, block.until - block.since), timedelta(0))

    def _set_back(self, key: str, now: datetime) -> None:
        """After the clock went back, what seems to lie ahead counts as now, or it would hold its place for long."""
        taken = self._taken.get(key)
        ahead = 0
        while taken and taken[-1] > now:
            taken.pop()
            ahead += 1
        if taken is not None:
            taken.extend(repeat(now, ahead))
        block = self._blocked.get(key)
        if block is not None and block.since > now:
            self._blocked[key] = _Block(now, now + (block.until - block.since))

    def _explained(self, group: str, now: datetime) -> bool:
        """Whether our own calls alone, the refused one among them, filled a window, give or take a moment."""
        return any(
            self._count(key, now - window - _DOUBT) >= allowed
            for key in (group, _GLOBAL)
            for allowed, window in self._windows(key)
        )

    def _note_foreign(self, group: str, now: datetime) -> None:
        tale = self._foreign.get(group)
        if tale is None or tale.last < now - FOREIGN_REMEMBERED:
            self._foreign[group] = Foreign(now, now, 1)
        else:
            self._foreign[group] = Foreign(min(tale.since, now), now, tale.times + 1)

    def _count(self, key: str, since: datetime) -> int:
        taken = self._taken.get(key, deque())
        return len(taken) - bisect_right(taken, since)

    def _usage(self, key: str, now: datetime) -> Usage:
        counts = [self._count(key, now - window) for window in _WINDOWS]
        left = self._block_left(key, now)
        tale = self._foreign.get(key)
        return Usage(
            counts[0],
            counts[1],
            counts[2],
            now + left if left > timedelta(0) else None,
            tale.since if tale is not None and tale.last > now - FOREIGN_REMEMBERED else None,
        )


def _shared(allowed: int, share: float) -> int:
    return min(allowed, max(int(allowed * share + 1e-9), 1))


def _move(taken: deque[datetime], before: datetime, after: datetime) -> None:
    """Give one call another, later time; only those made since need to be touched, which are few."""
    later: list[datetime] = []
    while taken and taken[-1] > before:
        later.append(taken.pop())
    if taken and taken[-1] == before:
        taken.pop()
        later.append(after)
    taken.extend(sorted(later))


def _to_ms(moment: datetime) -> int:
    return -((_EPOCH - moment) // _MS)


def _from_ms(time: object) -> datetime | None:
    if not _is_count(time):
        return None
    try:
        return _EPOCH + time * _MS
    except OverflowError:
        return None


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _condensed(stamps: Iterable[datetime]) -> list[list[int]]:
    times = [_to_ms(moment) for moment in stamps]
    width = 1
    while True:
        counts: dict[int, list[int]] = {}
        for time in times:
            entry = counts.setdefault(time // width, [time, 0])
            entry[0] = time
            entry[1] += 1
        if len(counts) <= _DUMPED:
            return list(counts.values())
        width *= 2


def _expanded(pairs: object) -> list[datetime]:
    moments: list[datetime] = []
    for pair in map(_list, _list(pairs)):
        moment = _from_ms(pair[0]) if len(pair) == 2 else None
        if moment is not None and _is_count(pair[1]) and pair[1] <= 1_000_000:
            moments += [moment] * pair[1]
    return moments


def _entries(state: object, name: str) -> list[tuple[str, object]]:
    part = state.get(name) if isinstance(state, Mapping) else None
    return [(key, value) for key, value in part.items() if isinstance(key, str)] if isinstance(part, Mapping) else []


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
