from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksefbuffer.offline.calendar import WorkingDays, end_of_day, polish_day
from ksefbuffer.offline.deadlines import Deadline, Urgency, deadline
from ksefbuffer.offline.modes import Event, Mode

USUAL = WorkingDays()


def utc(year: int, month: int, day: int, hour: int = 12, minute: int = 0, second: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC)


def failure(
    start: datetime,
    end: datetime | None,
    event_id: int = 1,
    mode: Mode = Mode.FAILURE,
    announced: datetime | None = None,
) -> Event:
    return Event(event_id, mode, start, end, announced or start)


def due(issued: date, mode: Mode = Mode.OFFLINE24, event: Event | None = None, *later: Event) -> date | None:
    found = deadline(issued, mode, event, later, USUAL)
    assert found.at is None or found.at == end_of_day(polish_day(found.at)), "a term ends with a Polish day"
    return None if found.at is None else polish_day(found.at)


@pytest.mark.parametrize(
    ("issued", "at"),
    [
        (date(2026, 11, 18), utc(2026, 11, 19, 22, 59, 59)),
        (date(2026, 11, 20), utc(2026, 11, 23, 22, 59, 59)),  # Friday
        (date(2026, 11, 21), utc(2026, 11, 23, 22, 59, 59)),
        (date(2026, 11, 22), utc(2026, 11, 23, 22, 59, 59)),
        (date(2024, 12, 23), utc(2024, 12, 24, 22, 59, 59)),
        (date(2026, 12, 23), utc(2026, 12, 28, 22, 59, 59)),  # 24.12 is a holiday since 2025
        (date(2026, 12, 31), utc(2027, 1, 4, 22, 59, 59)),
        (date(2027, 1, 5), utc(2027, 1, 7, 22, 59, 59)),
        (date(2026, 4, 3), utc(2026, 4, 7, 21, 59, 59)),  # Easter, summer time
        (date(2026, 6, 3), utc(2026, 6, 5, 21, 59, 59)),  # Corpus Christi
        (date(2026, 4, 30), utc(2026, 5, 4, 21, 59, 59)),  # 1 to 3 May
        (date(2027, 4, 30), utc(2027, 5, 4, 21, 59, 59)),
        (date(2026, 3, 27), utc(2026, 3, 30, 21, 59, 59)),  # over the night of 23 hours
        (date(2026, 10, 23), utc(2026, 10, 26, 22, 59, 59)),  # over the night of 25 hours
    ],
)
def test_offline24_ends_with_the_next_working_day_after_the_issue_date(issued: date, at: datetime) -> None:
    found = deadline(issued, Mode.OFFLINE24, None, (), USUAL)
    assert (found.at, found.open_ended, found.duty) == (at, False, True)
    assert f"{issued:%d.%m.%Y}" in found.why_pl


@pytest.mark.parametrize(
    ("end", "last"),
    [
        (utc(2026, 7, 15), date(2026, 7, 16)),
        (utc(2026, 7, 17), date(2026, 7, 20)),
        (utc(2026, 7, 18), date(2026, 7, 20)),
        (utc(2026, 7, 15, 22, 30), date(2026, 7, 17)),  # half past midnight in Poland
        (utc(2026, 1, 14, 22, 30), date(2026, 1, 15)),  # still the same day in winter
        (utc(2026, 12, 23), date(2026, 12, 28)),
    ],
)
def test_unavailability_ends_with_the_next_working_day_after_it(end: datetime, last: date) -> None:
    planned = failure(end - timedelta(hours=6), end, mode=Mode.UNAVAILABILITY)
    assert due(polish_day(planned.start), Mode.UNAVAILABILITY, planned) == last


@pytest.mark.parametrize(
    ("end", "last"),
    [
        (utc(2025, 7, 12), date(2025, 7, 22)),  # the Ministry's own example
        (utc(2026, 7, 8, 22, 30), date(2026, 7, 20)),  # ended on the 9th by Polish time
        (utc(2026, 7, 8, 21, 30), date(2026, 7, 17)),
        (utc(2026, 4, 2), date(2026, 4, 14)),  # over Easter
        (utc(2026, 4, 29), date(2026, 5, 11)),  # 30.04, then 4 to 8 and 11 May
        (utc(2026, 5, 29), date(2026, 6, 10)),  # Corpus Christi
        (utc(2026, 12, 23), date(2027, 1, 7)),  # Christmas, the New Year, Epiphany
        (utc(2026, 3, 27), date(2026, 4, 8)),  # summer time and Easter
        (utc(2026, 10, 23), date(2026, 11, 3)),  # winter time; 1 November is a Sunday
    ],
)
def test_a_failure_gives_seven_working_days_after_its_end(end: datetime, last: date) -> None:
    event = failure(end - timedelta(days=1), end)
    assert due(polish_day(event.start), Mode.FAILURE, event) == last


def test_the_ministrys_example_of_a_failure_announced_while_an_offline24_invoice_waits() -> None:
    issued = date(2025, 7, 8)
    assert due(issued) == date(2025, 7, 9)
    lasting = failure(utc(2025, 7, 9, 8), None)
    waiting = deadline(issued, Mode.OFFLINE24, None, [lasting], USUAL)
    assert (waiting.at, waiting.open_ended) == (None, True)
    assert due(issued, Mode.OFFLINE24, None, failure(utc(2025, 7, 9, 8), utc(2025, 7, 12, 10))) == date(2025, 7, 22)


def test_a_failure_over_easter_and_a_second_one_shift_the_term() -> None:
    issued = date(2026, 4, 2)
    assert due(issued) == date(2026, 4, 3)
    first = failure(utc(2026, 4, 3, 9), utc(2026, 4, 5))
    assert due(issued, Mode.OFFLINE24, None, first) == date(2026, 4, 15)
    lasting = failure(utc(2026, 4, 14), None, 2)
    assert due(issued, Mode.OFFLINE24, None, first, lasting) is None
    second = failure(utc(2026, 4, 14), utc(2026, 4, 16), 2)
    assert due(issued, Mode.OFFLINE24, None, first, second) == date(2026, 4, 27)
    assert due(issued, Mode.OFFLINE24, None, second, first) == date(2026, 4, 27), "whatever the order they are given in"
    too_late = failure(utc(2026, 4, 28), utc(2026, 4, 29), 3)
    assert due(issued, Mode.OFFLINE24, None, first, second, too_late) == date(2026, 4, 27)
    assert due(issued, Mode.FAILURE, first, first, second) == date(2026, 4, 27)


def test_a_failure_announced_in_the_last_second_shifts_the_term_and_one_second_later_does_not() -> None:
    issued, last = date(2026, 11, 18), utc(2026, 11, 19, 22, 59, 59)
    end = utc(2026, 11, 20)
    assert due(issued, Mode.OFFLINE24, None, failure(last, end)) == date(2026, 12, 1)
    assert due(issued, Mode.OFFLINE24, None, failure(last + timedelta(seconds=1), end)) == date(2026, 11, 19)


def test_what_counts_is_when_a_failure_was_announced() -> None:
    began_in_time = failure(utc(2026, 11, 19), utc(2026, 11, 21), announced=utc(2026, 11, 20, 8))
    assert due(date(2026, 11, 18), Mode.OFFLINE24, None, began_in_time) == date(2026, 11, 19)


def test_a_failure_that_was_over_before_the_invoice_was_issued_changes_nothing() -> None:
    issued = date(2026, 11, 18)
    morning = failure(utc(2026, 11, 18, 6), utc(2026, 11, 18, 8))
    assert due(issued, Mode.OFFLINE24, None, morning) == date(2026, 11, 19)
    early = deadline(issued, Mode.OFFLINE24, None, [morning], USUAL, issued_at=utc(2026, 11, 18, 7))
    assert early.at == end_of_day(date(2026, 11, 27))


def test_a_failure_that_lasted_when_the_invoice_was_issued_counts() -> None:
    lasting = failure(utc(2026, 11, 17), utc(2026, 11, 19, 8))
    assert due(date(2026, 11, 18), Mode.OFFLINE24, None, lasting) == date(2026, 11, 30)


def test_while_it_lasts_the_term_has_no_end() -> None:
    for mode in (Mode.FAILURE, Mode.UNAVAILABILITY):
        for event in (None, failure(utc(2026, 11, 18), None, mode=mode)):
            found = deadline(date(2026, 11, 18), mode, event, (), USUAL)
            assert (found.at, found.open_ended, found.duty) == (None, True, True)


def test_the_newest_version_of_the_modes_own_event_is_taken() -> None:
    known_then = failure(utc(2026, 11, 18), None)
    known_now = failure(utc(2026, 11, 18), utc(2026, 11, 19))
    assert due(date(2026, 11, 18), Mode.FAILURE, known_then, known_now) == date(2026, 11, 30)


def test_the_modes_own_event_is_not_told_as_another_one() -> None:
    own = failure(utc(2026, 11, 18), utc(2026, 11, 19))
    alone = deadline(date(2026, 11, 18), Mode.FAILURE, own, (), USUAL)
    assert alone.why_pl == "Awaria KSeF: 7. dzień roboczy po jej końcu 19.11.2026."
    assert deadline(date(2026, 11, 18), Mode.FAILURE, own, [own], USUAL) == alone
    another = failure(utc(2026, 11, 20), utc(2026, 11, 21), 2)
    shifted = deadline(date(2026, 11, 18), Mode.FAILURE, own, [own, another], USUAL)
    assert shifted.why_pl.startswith("Zanim minął termin, ogłoszono awarię KSeF: 7. dzień roboczy")


def test_an_event_over_before_the_issue_date_prolongs_nothing() -> None:
    over = failure(utc(2026, 11, 10), utc(2026, 11, 17))
    for mode in (Mode.FAILURE, Mode.UNAVAILABILITY):
        assert due(date(2026, 11, 18), mode, over) == date(2026, 11, 19)


def test_overlapping_failures_count_from_the_end_of_the_last_to_end() -> None:
    long, short = failure(utc(2026, 11, 18), utc(2026, 11, 24), 1), failure(utc(2026, 11, 19), utc(2026, 11, 20), 2)
    assert due(date(2026, 11, 18), Mode.FAILURE, long, long, short) == due(date(2026, 11, 18), Mode.FAILURE, long)
    open_one = failure(utc(2026, 11, 18), None, 1)
    assert due(date(2026, 11, 18), Mode.FAILURE, open_one, open_one, short) is None
    assert due(date(2026, 11, 18), Mode.FAILURE, None, short) is None, "declared by a person and not ended"


def test_a_failure_never_shortens_the_term_of_an_unavailability() -> None:
    planned = failure(utc(2026, 11, 2), utc(2026, 11, 30), 1, Mode.UNAVAILABILITY)
    short = failure(utc(2026, 11, 3), utc(2026, 11, 4), 2)
    assert due(date(2026, 11, 2), Mode.UNAVAILABILITY, planned, short) == date(2026, 12, 1)
    without_end = failure(utc(2026, 11, 2), None, 1, Mode.UNAVAILABILITY)
    assert due(date(2026, 11, 2), Mode.UNAVAILABILITY, without_end, short) is None


def test_another_unavailability_shifts_nothing() -> None:
    planned = failure(utc(2026, 11, 19), utc(2026, 11, 25), mode=Mode.UNAVAILABILITY)
    assert due(date(2026, 11, 18), Mode.OFFLINE24, None, planned) == date(2026, 11, 19)


@pytest.mark.parametrize("mode", list(Mode))
def test_a_total_failure_announced_in_time_takes_the_duty_away(mode: Mode) -> None:
    own = failure(utc(2026, 11, 18), utc(2026, 11, 19, 3), mode=mode)
    total = failure(utc(2026, 11, 19), None, 2, Mode.TOTAL)
    found = deadline(date(2026, 11, 18), mode, own if mode is not Mode.OFFLINE24 else None, [own, total], USUAL)
    assert (found.at, found.open_ended, found.duty) == (None, False, False)
    assert "nie wysyła się" in found.why_pl


def test_a_total_failure_announced_after_the_term_leaves_the_duty() -> None:
    total = failure(utc(2026, 11, 20), None, 2, Mode.TOTAL)
    assert due(date(2026, 11, 18), Mode.OFFLINE24, None, total) == date(2026, 11, 19)


def test_a_failure_that_grew_into_a_total_one_takes_the_duty_away() -> None:
    then = failure(utc(2026, 11, 18), None)
    grown = failure(utc(2026, 11, 18), utc(2026, 11, 20), mode=Mode.TOTAL)
    assert not deadline(date(2026, 11, 18), Mode.FAILURE, then, [grown], USUAL).duty


def test_the_firms_own_free_day_moves_the_term() -> None:
    calendar = WorkingDays(extra_free={date(2026, 11, 19)})
    assert deadline(date(2026, 11, 18), Mode.OFFLINE24, None, (), calendar).at == end_of_day(date(2026, 11, 20))


moments = st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31), timezones=st.just(UTC))
failures = st.builds(
    lambda start, lasts, event_id: failure(start, start + lasts, event_id),
    moments,
    st.timedeltas(timedelta(minutes=1), timedelta(days=9)),
    st.integers(1, 1000),
)


@given(issued=moments, events=st.lists(failures, max_size=6))
def test_failures_only_ever_give_more_time(issued: datetime, events: list[Event]) -> None:
    day = polish_day(issued)
    plain = deadline(day, Mode.OFFLINE24, None, (), USUAL)
    found = deadline(day, Mode.OFFLINE24, None, events, USUAL)
    assert plain.at is not None
    assert found.at is not None
    assert found.at >= plain.at
    assert USUAL.is_working(polish_day(found.at))


# --- counting down

AT = utc(2026, 11, 20, 22, 59, 59)


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        (timedelta(days=1, hours=4, minutes=59), "został 1 dzień 4 h"),
        (timedelta(days=1), "został 1 dzień"),
        (timedelta(days=2, hours=1), "zostały 2 dni 1 h"),
        (timedelta(days=4), "zostały 4 dni"),
        (timedelta(days=5, hours=23), "zostało 5 dni 23 h"),
        (timedelta(days=12), "zostało 12 dni"),
        (timedelta(days=22), "zostały 22 dni"),
        (timedelta(hours=23, minutes=59, seconds=59), "zostały 23 h 59 min"),
        (timedelta(hours=1), "została 1 h"),
        (timedelta(hours=5, minutes=3), "zostało 5 h 3 min"),
        (timedelta(minutes=14), "zostało 14 min"),
        (timedelta(minutes=21), "zostało 21 min"),
        (timedelta(minutes=1, seconds=59), "została 1 min"),
        (timedelta(seconds=59), "została mniej niż minuta"),
        (timedelta(0), "została mniej niż minuta"),
        (-timedelta(seconds=1), "po terminie o mniej niż minutę"),
        (-timedelta(minutes=5), "po terminie o 5 min"),
        (-timedelta(days=1, hours=2), "po terminie o 1 dzień 2 h"),
        (-timedelta(days=3), "po terminie o 3 dni"),
    ],
)
def test_the_time_left_is_told_in_good_polish(rest: timedelta, words: str) -> None:
    assert Deadline(AT, "").left(AT - rest) == words


def test_without_a_term_there_is_nothing_to_count() -> None:
    assert Deadline(None, "", open_ended=True).left(AT) == "termin jeszcze nie biegnie"
    assert Deadline(None, "", duty=False).left(AT) == "bez obowiązku wysłania"
    assert Deadline(None, "", open_ended=True).urgency(AT) is Urgency.NONE


@pytest.mark.parametrize(
    ("rest", "level"),
    [
        (timedelta(hours=24, seconds=1), Urgency.NONE),
        (timedelta(hours=24), Urgency.WITHIN_24_H),
        (timedelta(hours=4, seconds=1), Urgency.WITHIN_24_H),
        (timedelta(hours=4), Urgency.WITHIN_4_H),
        (timedelta(0), Urgency.WITHIN_4_H),
        (-timedelta(seconds=1), Urgency.OVERDUE),
    ],
)
def test_the_nearer_the_term_the_louder(rest: timedelta, level: Urgency) -> None:
    assert Deadline(AT, "").urgency(AT - rest) is level


def test_the_hours_of_a_changed_clock_are_real_hours() -> None:
    # The night before 25.10.2026 has 25 hours.
    found = deadline(date(2026, 10, 23), Mode.OFFLINE24, None, (), USUAL)
    assert found.left(utc(2026, 10, 23, 21, 59, 59)) == "zostały 3 dni 1 h"
