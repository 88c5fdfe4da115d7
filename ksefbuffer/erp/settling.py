"""When is a file finished? Pure: observations in, files ready to be read out. Source: CONTRACT §4, CHECKS-OUTGOING A03.

A rename into place is a finished file at once. Anything else must be unchanged for the settle time by our own clock
(a share's mtime is somebody else's). A file that nobody would call finished yet (empty, open for writing elsewhere,
cut before its closing tag) gets a longer grace: writers pause, and some close and reopen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta


@dataclass(frozen=True)
class Look:
    """What one look at a file saw."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int = 0


@dataclass
class _Seen:
    look: Look
    since: datetime


@dataclass
class Settling:
    """Remembers looks between scans. ``settle`` is the quiet time; ``grace`` that of a file that looks unfinished."""

    settle: timedelta
    grace: timedelta
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _renamed: set[str] = field(default_factory=set)

    def renamed_into_place(self, name: str) -> None:
        self._renamed.add(name)

    def is_quiet(self, name: str, look: Look, now: datetime) -> bool:
        """Whether the file may be read now: renamed into place, or unchanged for the settle time."""
        return self._quiet_for(name, look, now) >= self.settle or name in self._renamed

    def is_given_up_on(self, name: str, look: Look, now: datetime) -> bool:
        """Whether a file that looks unfinished has been so, unchanged, for the whole grace; it is then judged as is."""
        return self._quiet_for(name, look, now) >= self.grace or name in self._renamed

    def _quiet_for(self, name: str, look: Look, now: datetime) -> timedelta:
        seen = self._seen.get(name)
        if seen is None or seen.look != look or now < seen.since:
            # A clock set back starts the wait anew: too long is harmless, too short is half a file.
            if seen is not None and seen.look != look:
                # Written to after it was renamed into place: no longer the whole file that the rename promised.
                self._renamed.discard(name)
            self._seen[name] = _Seen(look, now)
            return timedelta(0)
        return now - seen.since

    def forget(self, name: str) -> None:
        self._seen.pop(name, None)
        self._renamed.discard(name)

    def keep_only(self, names: set[str]) -> None:
        """Forgets files that are gone."""
        for gone in self._seen.keys() - names:
            self.forget(gone)
        self._renamed &= names

    def next_ripe(self, now: datetime) -> datetime | None:
        """When the next watched file may be quiet enough; None when waiting alone changes nothing."""
        ripe = [
            moment
            for seen in self._seen.values()
            for moment in (seen.since + self.settle, seen.since + self.grace)
            if moment > now
        ]
        return min(ripe, default=None)
