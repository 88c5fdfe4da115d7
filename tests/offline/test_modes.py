from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from ksefbuffer.ksef.latarnia import Message
from ksefbuffer.offline.modes import Declaration, Event, Mode, ModeNow, events_of, legal_basis, mode_now

NOON = datetime(2026, 11, 20, 11, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
FIVE_MINUTES = timedelta(minutes=5)


def message(
    event_id: int = 7,
    type: str = "FAILURE_START",
    category: str = "FAILURE",
    *,
    start: datetime | None = NOON,
    end: datetime | None = None,
    version: int = 1,
    published: datetime | None = NOON + FIVE_MINUTES,
    id: str = "K/2026/AWR/01",
    title: str = "Wystąpiła awaria",
) -> Message:
    return Message(id, event_id, category, type, title, "Trwa…", start, end, version, published)


def event(
    mode: Mode = Mode.FAILURE,
    start: datetime = NOON,
    end: datetime | None = None,
    event_id: int | None = 7,
    announced: datetime | None = None,
) -> Event:
    return Event(event_id, mode, start, end, announced or start, message_ids=("K/2026/AWR/01",))


@dataclass(frozen=True)
class Asked:
    """One question to ``mode_now``, with ordinary answers for what a test does not speak of."""

    events: tuple[Event, ...] = ()
    declared: Declaration | None = None
    trouble_since: datetime | None = None
    setting: str = "auto"
    now: datetime = NOON + HOUR
    heed: bool = True
    available: bool = False

    def answer(self) -> ModeNow:
        return mode_now(
            self.events,
            self.declared,
            self.trouble_since,
            FIVE_MINUTES,
            self.setting,
            self.now,
            heed_announcements=self.heed,
            said_available=self.available,
        )


# --- announcements into events


def test_a_failure_lasts_until_its_end_is_announced() -> None:
    [running] = events_of([message()])
    assert (running.mode, running.start, running.end) == (Mode.FAILURE, NOON, None)
    assert running.announced == NOON + FIVE_MINUTES
    assert running.lasts(NOON + 100 * HOUR)

    closing = message(type="FAILURE_END", end=NOON + 3 * HOUR, published=NOON + 4 * HOUR, id="K/2026/AWR/02")
    [over] = events_of([message(), closing])
    assert over.end == NOON + 3 * HOUR
    assert over.message_ids == ("K/2026/AWR/01", "K/2026/AWR/02")
    assert over.announced == NOON + FIVE_MINUTES
    assert over.title == "Wystąpiła awaria"
    assert (over.lasts(NOON + 3 * HOUR), over.lasts(NOON + 2 * HOUR), over.lasts(NOON - HOUR)) == (False, True, False)


def test_the_highest_version_of_each_kind_wins_whatever_the_order() -> None:
    told = [
        message(),
        message(version=2, start=NOON - HOUR, published=NOON + HOUR),
        message(type="FAILURE_END", end=NOON + 2 * HOUR, version=1, published=NOON + 2 * HOUR),
        message(type="FAILURE_END", end=NOON + 3 * HOUR, version=3, published=NOON + 3 * HOUR),
        message(type="FAILURE_END", end=NOON + 9 * HOUR, version=2, published=NOON + 5 * HOUR),
        message(event_id=8, start=NOON + 10 * HOUR, published=NOON + 10 * HOUR),
    ]
    expected = events_of(told)
    assert [(e.event_id, e.end) for e in expected] == [(7, NOON + 3 * HOUR), (8, None)]
    assert expected[0].start == NOON - HOUR
    assert expected[0].announced == NOON + FIVE_MINUTES, "made known by its first version"
    for seed in range(20):
        shuffled = [*told, *told]
        random.Random(seed).shuffle(shuffled)
        assert events_of(shuffled) == expected


def test_a_planned_unavailability_is_moved_by_a_newer_version() -> None:
    kind = {"type": "MAINTENANCE_ANNOUNCEMENT", "category": "MAINTENANCE", "id": "K/2026/NI/01"}
    first = message(**kind, start=NOON + HOUR, end=NOON + 3 * HOUR)
    moved = message(**kind, start=NOON + 5 * HOUR, end=NOON + 6 * HOUR, version=2)
    [planned] = events_of([moved, first])
    assert (planned.mode, planned.start, planned.end) == (Mode.UNAVAILABILITY, NOON + 5 * HOUR, NOON + 6 * HOUR)
    assert not planned.lasts(NOON + 2 * HOUR)


def test_an_end_alone_makes_a_whole_event() -> None:
    [over] = events_of([message(type="FAILURE_END", end=NOON + HOUR)])
    assert (over.start, over.end) == (NOON, NOON + HOUR)


def test_an_end_without_its_hour_ends_when_it_was_published() -> None:
    closing = message(type="FAILURE_END", end=None, published=NOON + 2 * HOUR)
    assert events_of([message(), closing])[0].end == NOON + 2 * HOUR


def test_a_failure_that_grew_into_a_total_one_is_total() -> None:
    told = [message(), message(category="TOTAL_FAILURE", version=2)]
    assert [e.mode for e in events_of(told)] == [Mode.TOTAL]
    ending = message(category="FAILURE", type="FAILURE_END", end=NOON + HOUR, version=3)
    assert [(e.mode, e.end) for e in events_of([message(category="TOTAL_FAILURE"), ending])] == [
        (Mode.TOTAL, NOON + HOUR)
    ]


def test_unknown_kinds_and_events_without_a_start_are_passed_over() -> None:
    strange = [
        message(category="EARTHQUAKE"),
        message(type="FAILURE_RUMOUR"),
        message(event_id=9, start=None, published=None),
    ]
    assert events_of(strange) == ()
    assert [e.start for e in events_of([message(start=None)])] == [NOON + FIVE_MINUTES]


# --- the mode in force


def test_all_is_well() -> None:
    assert Asked().answer() == ModeNow(None, None, None, "Faktury są wysyłane do KSeF na bieżąco.")


@pytest.mark.parametrize("mode", [Mode.UNAVAILABILITY, Mode.FAILURE, Mode.TOTAL])
def test_an_announced_event_sets_its_mode_while_it_lasts(mode: Mode) -> None:
    told = event(mode, end=NOON + 2 * HOUR)
    during = Asked((told,)).answer()
    assert (during.mode, during.event, during.since) == (mode, told, NOON)
    assert "20.11.2026 12:00" in during.why_pl
    assert "K/2026/AWR/01" in during.why_pl
    assert Asked((told,), now=NOON - HOUR).answer().mode is None
    assert Asked((told,), now=NOON + 2 * HOUR).answer().mode is None


def test_of_several_events_the_gravest_wins() -> None:
    events = (event(Mode.UNAVAILABILITY, event_id=1), event(Mode.TOTAL, event_id=2), event(Mode.FAILURE, event_id=3))
    assert Asked(events).answer().mode is Mode.TOTAL
    assert Asked(events, trouble_since=NOON - HOUR).answer().mode is Mode.TOTAL
    assert Asked(events[::2]).answer().mode is Mode.FAILURE


@pytest.mark.parametrize(
    ("waited", "mode"),
    [(FIVE_MINUTES - timedelta(seconds=1), None), (FIVE_MINUTES, Mode.OFFLINE24), (9 * HOUR, Mode.OFFLINE24)],
)
def test_our_own_trouble_makes_offline24_after_a_while_and_never_a_failure(
    waited: timedelta, mode: Mode | None
) -> None:
    found = Asked(trouble_since=NOON, now=NOON + waited).answer()
    assert found.mode is mode
    assert found.event is None
    assert found.since == (NOON + FIVE_MINUTES if mode else None)


def test_a_mock_is_not_heeded_where_told() -> None:
    mock = event(Mode.TOTAL)
    assert Asked((mock,), heed=False).answer().mode is None
    assert Asked((mock,), heed=False, trouble_since=NOON).answer().mode is Mode.OFFLINE24


def test_an_event_whose_end_was_never_announced_is_over_when_ksef_is_said_to_be_available() -> None:
    assert Asked((event(),)).answer().mode is Mode.FAILURE
    assert Asked((event(),), available=True).answer().mode is None
    planned = event(Mode.UNAVAILABILITY, end=NOON + 2 * HOUR)
    assert Asked((planned,), available=True).answer().mode is Mode.UNAVAILABILITY


@pytest.mark.parametrize("mode", list(Mode))
def test_a_persons_word_goes_before_announcements(mode: Mode) -> None:
    declared = Declaration(mode, NOON)
    found = Asked((event(Mode.UNAVAILABILITY),), declared, setting="manual").answer()
    assert (found.mode, found.since) == (mode, NOON)
    assert f"„{mode}”" in found.why_pl
    assert Asked((event(Mode.TOTAL),), declared).answer().mode is mode
    assert Asked((), declared, now=NOON - HOUR).answer().mode is None, "not before it was said"


def test_a_declared_failure_is_tied_to_the_announced_one() -> None:
    told = event()
    assert Asked((told,), Declaration(Mode.FAILURE, NOON)).answer().event == told
    own = event(event_id=None, start=NOON - HOUR)
    assert Asked((told,), Declaration(Mode.FAILURE, NOON, own)).answer().event == own
    assert Asked((told,), Declaration(Mode.OFFLINE24, NOON)).answer().event is None


def test_a_mode_ended_by_a_person_stays_ended_until_something_new() -> None:
    ended = Declaration(None, NOON + HOUR)
    later = NOON + 2 * HOUR
    found = Asked((event(),), ended, now=later).answer()
    assert found.mode is None
    assert "zakończył administrator" in found.why_pl
    newer = event(event_id=8, start=NOON + HOUR + FIVE_MINUTES)
    assert Asked((event(), newer), ended, now=later).answer().event == newer
    planned_before = event(Mode.UNAVAILABILITY, start=NOON + HOUR + FIVE_MINUTES, announced=NOON)
    assert Asked((planned_before,), ended, now=later).answer().mode is Mode.UNAVAILABILITY


def test_trouble_that_outlives_a_persons_word_counts_from_that_word() -> None:
    ended = Declaration(None, NOON + HOUR)
    soon, later = NOON + HOUR + FIVE_MINUTES / 2, NOON + HOUR + FIVE_MINUTES
    assert Asked(declared=ended, trouble_since=NOON, now=soon).answer().mode is None
    assert Asked(declared=ended, trouble_since=NOON, now=later).answer().mode is Mode.OFFLINE24


def test_manual_follows_nobody_but_a_person() -> None:
    found = Asked((event(),), trouble_since=NOON, setting="manual").answer()
    assert (found.mode, found.event) == (None, event())


def test_off_issues_nothing_offline_and_still_shows_the_event() -> None:
    found = Asked((event(),), Declaration(Mode.FAILURE, NOON), NOON, setting="off").answer()
    assert (found.mode, found.event) == (None, event())
    assert "wyłączone" in found.why_pl


def test_each_mode_names_its_article() -> None:
    assert [legal_basis(mode).split()[1] for mode in Mode] == ["106nda", "106nh", "106nf", "106ng"]
