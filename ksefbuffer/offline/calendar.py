"""Polish days: which of them are worked on, and when they end. Pure.

A day is Warsaw's, a moment is UTC. Monday to Friday without public holidays count, so that the Ministry's own example
comes out; Saturday does not. The law's "dzień roboczy" is nowhere defined, so both ways the list can be changed.
Source: FACTS §10 (working days), §16.8.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

WARSAW = ZoneInfo("Europe/Warsaw")

_SATURDAY = 5
_LAST_SECOND = time(23, 59, 59)


@dataclass(frozen=True)
class WorkingDays:
    """The calendar of working days. ``extra_free`` are never worked on, ``extra_working`` always are; a day in both
    is free."""

    extra_free: Set[date] = frozenset()
    extra_working: Set[date] = frozenset()

    def is_working(self, day: date) -> bool:
        if day in self.extra_free:
            return False
        return day in self.extra_working or (day.weekday() < _SATURDAY and day not in public_holidays(day.year))

    def next_working_day(self, day: date) -> date:
        """The first working day after ``day``."""
        return self.nth_working_day(day, 1)

    def nth_working_day(self, day: date, n: int) -> date:
        """The ``n``-th working day after ``day``, which itself does not count. Raises ValueError for n below 1."""
        if n < 1:
            raise ValueError("working days are counted from 1")
        for _ in range(n):
            day += timedelta(days=1)
            while not self.is_working(day):
                day += timedelta(days=1)
        return day


@lru_cache(maxsize=64)
def public_holidays(year: int) -> frozenset[date]:
    """Poland's public holidays of a year, Sundays' own holidays included; 24 December since 2025."""
    # Importing the library costs a third of a second, which most commands never need.
    from holidays import country_holidays

    return frozenset(country_holidays("PL", years=year))


def polish_day(moment: datetime) -> date:
    """The day in Warsaw at an aware ``moment``. Raises ValueError for a naive one."""
    if moment.tzinfo is None:
        raise ValueError("a moment must be aware")
    return moment.astimezone(WARSAW).date()


def end_of_day(day: date) -> datetime:
    """The last second of a Polish day, 23:59:59, in UTC: 21:59:59 in summer, 22:59:59 in winter."""
    return datetime.combine(day, _LAST_SECOND, WARSAW).astimezone(UTC)


def told(moment: datetime) -> str:
    """An aware moment for people, in Warsaw's time: "20.11.2026 14:05"."""
    return f"{moment.astimezone(WARSAW):%d.%m.%Y %H:%M}"
