from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from ksefbuffer.ksef.shapes import Period
from ksefbuffer.receiver import instants, schedule
from ksefbuffer.receiver.schedule import Export, Listing, Reached, Wait, Waits

NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
FREE = Waits(0.0, 0.0)
HWM = "2026-11-20T08:59:59.1234567+00:00"


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("2026-11-20T10:00:00.1234567+00:00", "2026-11-20T10:00:00.1234568+00:00"),
        ("2026-11-20T10:00:00.123456+00:00", "2026-11-20T10:00:00.1234561+00:00"),
        ("2026-11-20T10:00:00+00:00", "2026-11-20T10:00:00.0000001Z"),
        ("2026-11-20T11:00:00.5+01:00", "2026-11-20T10:00:00.6+00:00"),
        ("2026-11-20T10:00:00.09Z", "2026-11-20T10:00:00.1Z"),
        ("2026-11-20T10:59:59.9999999", "2026-11-20T10:00:00Z"),
    ],
)
def test_moments_compare_by_all_of_their_digits(earlier: str, later: str) -> None:
    assert instants.order(earlier) < instants.order(later)
    assert instants.earliest(later, "", earlier) == earlier
    assert instants.latest(earlier, "kiedyś", later) == later
    assert instants.floor(earlier) <= instants.floor(later)


def test_the_same_moment_written_in_two_ways_is_one() -> None:
    assert instants.order("2026-11-20T11:00:00.10+01:00") == instants.order("2026-11-20T10:00:00.1Z")


def test_a_moment_is_rounded_down_never_up() -> None:
    assert instants.floor("2026-11-20T10:00:00.1234569+00:00").microsecond == 123456


@pytest.mark.parametrize(
    ("text", "following"),
    [
        ("2026-11-20T11:00:00.1234567+01:00", "2026-11-20T10:00:00.1234568+00:00"),
        ("2026-12-31T23:59:59.9999999Z", "2027-01-01T00:00:00.0000000+00:00"),
        ("2026-11-20T10:00:00Z", "2026-11-20T10:00:00.0000001+00:00"),
    ],
)
def test_the_moment_after_is_one_step_of_ksef_later(text: str, following: str) -> None:
    assert instants.after(text) == following


@pytest.mark.parametrize("text", ["", "2026-11-20", "2026-13-20T10:00:00Z", "10:00", "2026-11-20T10:00:00,Z", "x" * 40])
def test_what_is_no_moment_is_said_to_be_none(text: str) -> None:
    assert not instants.is_moment(text)


def test_a_polish_day_begins_at_its_own_midnight() -> None:
    assert instants.midnight(date(2026, 2, 1)) == "2026-02-01T00:00:00+01:00"
    assert instants.midnight(date(2026, 7, 1)) == "2026-07-01T00:00:00+02:00"


def test_a_recent_cursor_asks_for_all_up_to_the_mark() -> None:
    position = "2026-11-19T10:00:00.1234567+00:00"
    assert schedule.window(position, NOW) == Period("PermanentStorage", position, restrict_to_hwm=True)


def test_an_old_cursor_asks_for_ninety_days_and_names_their_end() -> None:
    period = schedule.window("2026-02-01T00:00:00+01:00", NOW)
    assert period == Period("PermanentStorage", "2026-02-01T00:00:00+01:00", "2026-05-01T23:00:00.000000+00:00")


def test_no_window_is_longer_than_ninety_one_days_and_a_named_end_lies_a_day_back() -> None:
    position = "2026-02-01T00:00:00+01:00"
    while True:
        period = schedule.window(position, NOW)
        end = instants.floor(period.end) if period.end else NOW
        assert end - instants.floor(position) <= timedelta(days=91)
        if not period.end:
            break
        assert end <= NOW - timedelta(days=1)
        position = period.end


START = "2026-11-20T08:00:00+00:00"
LIVE = Period("PermanentStorage", START, restrict_to_hwm=True)
PAST = Period("PermanentStorage", START, "2026-11-20T08:30:00+00:00")
LAST = "2026-11-20T08:10:00.7654321+00:00"


@pytest.mark.parametrize(
    ("period", "truncated", "last", "hwm", "expected"),
    [
        pytest.param(LIVE, False, "", HWM, Reached(HWM, True), id="up to the mark, its text untouched"),
        pytest.param(LIVE, True, LAST, HWM, Reached(LAST, False), id="truncated: the last one's date"),
        pytest.param(LIVE, False, "", "", Reached(START, True), id="no mark told: the cursor stays"),
        pytest.param(LIVE, False, "", "2026-11-20T07:00:00Z", Reached(START, True), id="a mark going back"),
        pytest.param(LIVE, False, "", START, Reached(START, True), id="a mark that stands"),
        pytest.param(PAST, False, "", HWM, Reached(PAST.end, False), id="the window's end"),
        pytest.param(PAST, False, "", "", Reached(PAST.end, False), id="the window's end, no mark told"),
        pytest.param(PAST, False, "", LAST, Reached(LAST, False), id="a mark within the window"),
        pytest.param(PAST, True, LAST, HWM, Reached(LAST, False), id="truncated within the window"),
        pytest.param(
            LIVE, True, START, HWM, Reached("2026-11-20T08:00:00.0000001+00:00", False, stuck=True), id="one moment"
        ),
    ],
)
def test_how_far_a_package_takes_the_cursor(
    period: Period, truncated: bool, last: str, hwm: str, expected: Reached
) -> None:
    assert schedule.reached(period, truncated=truncated, last=last, hwm=hwm) == expected


def test_truncated_without_a_date_leads_nowhere() -> None:
    with pytest.raises(ValueError):
        schedule.reached(LIVE, truncated=True, last="", hwm=HWM)


@pytest.mark.parametrize(
    ("facts", "waits", "expected"),
    [
        ({}, FREE, Listing()),
        ({"brought": 8}, FREE, Listing()),
        ({"brought": 9}, FREE, Export()),
        ({"first": True}, FREE, Export()),
        ({"behind": True}, FREE, Export()),
        ({"first": True, "behind": True, "seldom": True}, FREE, Listing()),
        ({"seldom": True, "many": True}, FREE, Export()),
        ({"many": True}, FREE, Export()),
        ({}, Waits(30.0, 0.0), Export()),
        ({}, Waits(30.0, 90.0), Wait(30.0)),
        ({"brought": 500}, Waits(0.0, 90.0), Wait(90.0)),
    ],
)
def test_the_way_is_chosen_by_numbers(
    facts: dict[str, object], waits: Waits, expected: Listing | Export | Wait
) -> None:
    usual = {"brought": 0, "first": False, "behind": False, "seldom": False, "many": False}
    assert schedule.choose(**{**usual, **facts}, waits=waits) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("count", "downloads_s", "export_s", "worth"),
    [(8, 2, 0, True), (9, 60, 0, False), (20, 60, 900, True), (30, 60, 900, False), (8, 600, 0, False)],
)
def test_few_are_downloaded_one_by_one_when_that_is_sooner(
    count: int, downloads_s: float, export_s: float, worth: bool
) -> None:
    assert schedule.worth_downloading(count, downloads_s, export_s) is worth


def test_a_large_backlog_leaves_half_of_the_exports_to_the_day() -> None:
    night = NOW.replace(hour=20)
    assert schedule.export_share(10_000, behind=True, now=NOW) == schedule.BACKFILL_SHARE_BY_DAY
    assert schedule.export_share(10_000, behind=True, now=night) == schedule.EXPORT_SHARE
    assert schedule.export_share(100, behind=True, now=NOW) == schedule.EXPORT_SHARE
    assert schedule.export_share(10_000, behind=False, now=NOW) == schedule.EXPORT_SHARE


@pytest.mark.parametrize(
    ("hour", "night"), [(18, False), (19, True), (23, True), (3, True), (4, True), (5, False)]
)  # fmt: skip
def test_the_night_is_warsaws(hour: int, night: bool) -> None:
    assert schedule.is_night(datetime(2026, 11, 20, hour, 30, tzinfo=UTC)) is night


def test_roles_that_rarely_get_anything_are_probed_every_hour() -> None:
    quarter = timedelta(minutes=15)
    assert schedule.next_pull("buyer", NOW, quarter, 0) == NOW + quarter
    assert schedule.next_pull("third", NOW, quarter, 3) == NOW + quarter
    assert schedule.next_pull("third", NOW, quarter, 0) == NOW + timedelta(hours=1)
    assert schedule.next_pull("authorized", NOW, timedelta(hours=6), 0) == NOW + timedelta(hours=6)


def test_a_running_export_is_asked_about_ever_less_often() -> None:
    pauses = [(schedule.next_look(NOW, looks) - NOW).total_seconds() for looks in range(30)]
    assert pauses[0] == 5
    assert pauses == sorted(pauses)
    assert pauses[-1] == 60


def test_failures_wait_longer_up_to_an_hour() -> None:
    waits = [schedule.retry(NOW, failures) - NOW for failures in range(1, 40)]
    assert waits[0] == timedelta(seconds=30)
    assert waits == sorted(waits)
    assert waits[-1] == timedelta(hours=1)


def test_rescans_are_due_daily_and_weekly() -> None:
    assert schedule.due_rescans({}, NOW) == ["daily", "weekly"]
    told = {"daily": NOW.isoformat(), "weekly": NOW.isoformat()}
    assert schedule.due_rescans(told, NOW + timedelta(hours=23)) == []
    assert schedule.next_rescan(told, NOW) == NOW + timedelta(days=1)
    assert schedule.due_rescans(told, NOW + timedelta(days=1)) == ["daily"]
    assert schedule.due_rescans(told, NOW + timedelta(days=7)) == ["daily", "weekly"]


def test_a_backfill_is_estimated_by_its_pace() -> None:
    began, began_at = "2026-02-01T00:00:00+00:00", NOW - timedelta(hours=1)
    assert schedule.estimate(began, NOW, began_position=began, began_at=began_at) is None
    half = instants.written(instants.floor(began) + (NOW - instants.floor(began)) / 2)
    told = schedule.estimate(half, NOW, began_position=began, began_at=began_at)
    assert told is not None
    assert abs(told - (NOW + timedelta(hours=1))) < timedelta(minutes=1)
