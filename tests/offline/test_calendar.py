from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksefbuffer.offline.calendar import WorkingDays, end_of_day, polish_day, public_holidays, told

USUAL = WorkingDays()
DAYS = st.dates(date(2024, 1, 1), date(2035, 12, 31))


@pytest.mark.parametrize(
    ("day", "following"),
    [
        (date(2026, 11, 18), date(2026, 11, 19)),
        (date(2026, 11, 20), date(2026, 11, 23)),  # over a weekend
        (date(2026, 11, 21), date(2026, 11, 23)),
        (date(2026, 11, 22), date(2026, 11, 23)),
        (date(2026, 11, 10), date(2026, 11, 12)),  # Independence Day
        (date(2024, 12, 23), date(2024, 12, 24)),  # Christmas Eve was worked on until 2024
        (date(2025, 12, 23), date(2025, 12, 29)),
        (date(2026, 12, 23), date(2026, 12, 28)),
        (date(2026, 12, 31), date(2027, 1, 4)),  # over the year's end and a weekend
        (date(2027, 1, 5), date(2027, 1, 7)),  # Epiphany
        (date(2026, 4, 3), date(2026, 4, 7)),  # Easter
        (date(2027, 3, 26), date(2027, 3, 30)),
        (date(2026, 6, 3), date(2026, 6, 5)),  # Corpus Christi
        (date(2026, 4, 30), date(2026, 5, 4)),  # 1 to 3 May, the 3rd a Sunday
        (date(2027, 4, 30), date(2027, 5, 4)),  # the 3rd a Monday
        (date(2028, 4, 28), date(2028, 5, 2)),  # the 2nd between them is worked on
        (date(2028, 5, 2), date(2028, 5, 4)),
        (date(2026, 5, 22), date(2026, 5, 25)),  # Pentecost is a Sunday
        (date(2025, 8, 14), date(2025, 8, 18)),  # 15 August, a Friday
        (date(2028, 2, 28), date(2028, 2, 29)),
    ],
)
def test_the_next_working_day_skips_weekends_and_holidays(day: date, following: date) -> None:
    assert USUAL.next_working_day(day) == following


def test_the_seventh_working_day_after_the_year_ends() -> None:
    assert USUAL.nth_working_day(date(2026, 12, 23), 7) == date(2027, 1, 7)
    assert USUAL.nth_working_day(date(2025, 7, 12), 7) == date(2025, 7, 22)


def test_days_are_counted_from_one() -> None:
    with pytest.raises(ValueError):
        USUAL.nth_working_day(date(2026, 11, 20), 0)


def test_a_firms_own_calendar_adds_and_takes_days() -> None:
    friday, saturday, monday = date(2026, 11, 20), date(2026, 11, 21), date(2026, 11, 23)
    assert WorkingDays(extra_working={saturday}).next_working_day(friday) == saturday
    assert WorkingDays(extra_free={monday}).next_working_day(friday) == date(2026, 11, 24)
    assert WorkingDays(extra_free={saturday}, extra_working={saturday}).next_working_day(friday) == monday
    assert WorkingDays(extra_working={date(2026, 12, 25)}).is_working(date(2026, 12, 25))


@given(day=DAYS, n=st.integers(1, 12))
def test_between_a_day_and_its_nth_working_day_lie_exactly_n(day: date, n: int) -> None:
    found = USUAL.nth_working_day(day, n)
    between = [day + timedelta(days=step) for step in range(1, (found - day).days + 1)]
    assert sum(map(USUAL.is_working, between)) == n
    assert USUAL.is_working(found)


def test_a_year_has_its_fourteen_holidays() -> None:
    assert len(public_holidays(2026)) == 14
    assert len(public_holidays(2024)) == 13


@pytest.mark.parametrize(
    ("day", "end"),
    [
        (date(2026, 1, 15), datetime(2026, 1, 15, 22, 59, 59, tzinfo=UTC)),
        (date(2026, 7, 15), datetime(2026, 7, 15, 21, 59, 59, tzinfo=UTC)),
        (date(2026, 3, 28), datetime(2026, 3, 28, 22, 59, 59, tzinfo=UTC)),  # summer time comes in the next night
        (date(2026, 3, 29), datetime(2026, 3, 29, 21, 59, 59, tzinfo=UTC)),
        (date(2026, 10, 24), datetime(2026, 10, 24, 21, 59, 59, tzinfo=UTC)),
        (date(2026, 10, 25), datetime(2026, 10, 25, 22, 59, 59, tzinfo=UTC)),
    ],
)
def test_a_day_ends_by_polish_time(day: date, end: datetime) -> None:
    assert end_of_day(day) == end
    assert end_of_day(day).utcoffset() == timedelta(0)
    assert polish_day(end) == day
    assert polish_day(end + timedelta(seconds=1)) == day + timedelta(days=1)


def test_a_naive_moment_belongs_to_no_day() -> None:
    with pytest.raises(ValueError):
        polish_day(datetime(2026, 11, 20, 12, 0))


def test_people_are_told_polish_time() -> None:
    assert told(datetime(2026, 7, 1, 22, 30, tzinfo=UTC)) == "02.07.2026 00:30"


def test_the_library_is_loaded_only_when_a_day_is_asked_for() -> None:
    code = "import sys, ksefbuffer.offline.deadlines; print('holidays' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
