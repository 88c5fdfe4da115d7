"""The pure decisions, by table: wording, terms, certificates, what is remembered."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from ksefbuffer.notify import ending
from ksefbuffer.notify.deciding import decide
from ksefbuffer.notify.duty import message
from ksefbuffer.notify.shapes import Ending, Episode, Memory, Seen, Trouble, memory_of
from ksefbuffer.notify.wording import counted, quoted, size
from ksefbuffer.queue.notices import Pending
from tests.notify.post import EVENTS
from tests.samples import NOW


@pytest.mark.parametrize(
    ("count", "told"),
    [(1, "1 faktura"), (2, "2 faktury"), (5, "5 faktur"), (12, "12 faktur"), (22, "22 faktury"), (112, "112 faktur")],
)
def test_numbers_carry_the_right_form(count: int, told: str) -> None:
    assert counted(count, "faktura", "faktury", "faktur") == told


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Dąb sp. z o.o.", "Dąb sp. z o.o."),
        ("Firma\r\nBcc: ktos", "Firma Bcc: ktos"),
        ("http://zlodziej.example", "http: zlodziej.example"),
        ("@everyone", "(at) everyone"),
        ("a\u202eb\u200bc\x00d", "a b c d"),
        ("x" * 100, "x" * 59 + "…"),
        ("   ", ""),
    ],
)
def test_a_strangers_text_is_made_harmless(text: str, shown: str) -> None:
    assert quoted(text) == shown


@pytest.mark.parametrize(("count", "told"), [(10**9, "1,0 GB"), (2_345_000_000, "2,3 GB"), (150_000_000, "150 MB")])
def test_space_is_told_for_people(count: int, told: str) -> None:
    assert size(count) == told


@dataclass(frozen=True)
class Group:
    ends: datetime
    count: int = 1
    refused: int = 0


def test_terms_of_one_polish_day_are_one_notice_with_the_earliest() -> None:
    # The same UTC day, but two days in Warsaw.
    first = datetime(2026, 11, 20, 22, 59, 59, tzinfo=UTC)
    other = datetime(2026, 11, 20, 23, 30, tzinfo=UTC)
    found = ending.terms([Group(first, 2), Group(first - timedelta(hours=9), 3), Group(other)], NOW, first_look=False)
    assert [(one.key, one.level) for one in found] == [("deadline:2026-11-20", 2), ("deadline:2026-11-21", 1)]
    assert "5 faktur wystawionych offline nie ma jeszcze numeru" in found[0].body
    assert "Najbliższy termin: 20.11.2026 14:59" in found[0].body


@pytest.mark.parametrize(
    ("left", "level"),
    [
        (timedelta(days=31), 0),
        (timedelta(days=30), 1),
        (timedelta(days=14), 2),
        (timedelta(days=7), 3),
        (timedelta(days=3), 4),
        (timedelta(days=1), 5),
        (timedelta(hours=1), 5),
        (-timedelta(seconds=1), 6),
    ],
)
def test_each_step_of_a_certificate_is_a_level(left: timedelta, level: int) -> None:
    found = ending.certificates([Ending("a", "certyfikat", NOW + left)], NOW, first_look=False)
    assert [one.level for one in found] == ([level] if level else [])


def test_the_end_of_tokens_is_counted_in_polish_days() -> None:
    end = datetime(2026, 12, 31, 22, 59, 59, tzinfo=UTC)
    (found,) = ending.certificates([Ending("token", "token KSeF", end)], end - timedelta(hours=1), first_look=False)
    assert found.subject == "token KSeF: wygasa dziś"


def test_what_is_remembered_survives_being_kept() -> None:
    whole = Memory(
        frozenset(EVENTS),
        7,
        NOW,
        8,
        NOW + timedelta(seconds=1),
        {"ksef": Episode(NOW, True, NOW + timedelta(minutes=1), "a", "b"), "mode x": Episode(NOW)},
        NOW,
    )
    assert memory_of(json.loads(json.dumps(whole.as_json()))) == whole
    assert memory_of(json.loads(json.dumps(Memory().as_json()))) == memory_of(None) == Memory()


def test_trouble_that_lasts_is_told_also_to_who_comes_later() -> None:
    seen = Seen(5, 6, troubles=(Trouble("ksef", "KSeF", "Nie odpowiada."),))
    due, memory = decide(seen, Memory(), EVENTS, NOW)
    assert due == []
    assert (memory.error_mark, memory.incoming_mark) == (5, 6)
    due, _ = decide(seen, memory, EVENTS, NOW + timedelta(minutes=10))
    assert [one.subject for one in due] == ["KSeF"]


def test_an_outage_has_the_same_key_whoever_asks() -> None:
    seen = Seen(0, 0, troubles=(Trouble("ksef", "KSeF", "Nie odpowiada."),))
    _, memory = decide(seen, Memory(), EVENTS, NOW)
    later = NOW + timedelta(minutes=11)
    first, _ = decide(seen, memory, EVENTS, later)
    second, _ = decide(seen, memory_of(memory.as_json()), EVENTS, later + timedelta(minutes=5))
    assert (first[0].key, first[0].level) == (second[0].key, second[0].level)
    assert len(first[0].key) <= 160


def test_a_single_notice_is_its_own_message() -> None:
    one = Pending(1, "disk", "failure", "mało miejsca", "Treść.", NOW, 0)
    assert message([one], "ksefbuffer") == ("ksefbuffer: mało miejsca", "Treść.\n\n20.11.2026 11:15", "failure")
