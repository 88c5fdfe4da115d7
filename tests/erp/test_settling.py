"""When is a file finished? By table, then with real writers."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ksefbuffer.erp.folder import looks_cut
from ksefbuffer.erp.settling import Look, Settling
from tests.conftest import Intake
from tests.samples import invoice

START = datetime(2026, 11, 20, 10, 15, tzinfo=UTC)
A, B = Look(1, 100, 5, 5), Look(1, 200, 6, 6)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


# (seconds, what is seen, ready to be read?), settle 1 s
STORIES: dict[str, list[tuple[float, Look, bool]]] = {
    "unchanged for the settle time": [(0, A, False), (0.5, A, False), (1, A, True)],
    "growing starts the wait anew": [(0, A, False), (0.9, B, False), (1.5, B, False), (1.9, B, True)],
    "another file in its place": [(0, A, False), (0.9, Look(2, 100, 5, 5), False), (1.8, Look(2, 100, 5, 5), False)],
    "touched, same size": [(0, A, False), (0.9, Look(1, 100, 9, 9), False), (1.8, Look(1, 100, 9, 9), False)],
    "same size and mtime, but rewritten": [(0, A, False), (0.9, Look(1, 100, 5, 7), False)],
    "an mtime in the future": [(0, Look(1, 9, 10**19, 5), False), (1, Look(1, 9, 10**19, 5), True)],
    "the clock set back": [(0, A, False), (-3600, A, False), (-3599.5, A, False), (-3599, A, True)],
    "seen seldom": [(0, A, False), (30, A, True)],
    "changed at every look": [(n, Look(1, n, n, n), False) for n in range(20)],
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES.keys())
def test_quiet(story: list[tuple[float, Look, bool]]) -> None:
    settling = Settling(timedelta(seconds=1), timedelta(seconds=5))

    assert [settling.is_quiet("a.xml", look, at(seconds)) for seconds, look, _ in story] == [s[2] for s in story]


def test_a_rename_into_place_needs_no_wait_and_counts_once() -> None:
    settling = Settling(timedelta(seconds=1), timedelta(seconds=5))
    settling.renamed_into_place("a.xml")
    assert settling.is_quiet("a.xml", A, at(0))
    assert settling.is_given_up_on("a.xml", A, at(0))
    settling.forget("a.xml")
    assert not settling.is_quiet("a.xml", A, at(0))


def test_what_looks_unfinished_gets_the_grace() -> None:
    settling = Settling(timedelta(seconds=1), timedelta(seconds=5))
    assert [settling.is_given_up_on("a.xml", A, at(s)) for s in (0, 1, 4.9, 5)] == [False, False, False, True]


def test_files_that_are_gone_are_forgotten() -> None:
    settling = Settling(timedelta(seconds=1), timedelta(seconds=5))
    settling.is_quiet("a.xml", A, at(0))
    settling.renamed_into_place("b.xml")
    settling.keep_only(set())
    assert settling.next_ripe(at(0)) is None
    assert not settling.is_quiet("a.xml", A, at(2))


def test_the_next_look_is_when_something_may_be_ripe() -> None:
    settling = Settling(timedelta(seconds=1), timedelta(seconds=5))
    assert settling.next_ripe(at(0)) is None
    settling.is_quiet("a.xml", A, at(0))
    assert settling.next_ripe(at(0)) == at(1)
    assert settling.next_ripe(at(1)) == at(5)
    assert settling.next_ripe(at(5)) is None


CUT = {
    b"<a>": True,
    b"<a><b>1</b>": False,  # no way to tell from the end alone; the pre-check will
    b"<a>1</a": True,
    b"<a>1</a>": False,
    b"<a>1</a>\r\n \t": False,
    b"<a>1</a ><!-- koniec -->\n<!---->": False,
    b"<a>1</a><!-- koniec --": True,
    b"<a>1</a><!-- koniec": True,
    b"<a>1</a>x": True,
    b"\xef\xbb\xbf<a>1</a>": False,
    b"\xef\xbb\xbf<a>1": True,
    b"%PDF-1.7": False,
    b"": False,
    b"</": True,
    b"<a>tekst > ": True,
    b"<a>" + b"</b>" * 2000 + b"x": True,
    b"<a></a>" + b"<!---->" * 500 + b"x": True,
    b"<a></a>" + b"<!--" * 900: True,
    b"<a></a>" + b" " * 5000: False,
    b"<a></a>" + b"\n<!-- " + b"-" * 6000 + b" -->": False,
}


@pytest.mark.parametrize(("content", "cut"), CUT.items(), ids=[str(number) for number in range(len(CUT))])
def test_a_file_cut_before_its_closing_tag_is_seen_at_once(content: bytes, cut: bool) -> None:
    assert looks_cut(content) is cut


def test_a_half_copied_file_waits(intake: Intake) -> None:
    whole = invoice()
    path = intake.inbox / "a.xml"
    for end in range(500, len(whole), 500):
        path.write_bytes(whole[:end])
        assert not intake.scan()
        intake.clock.forward(1.5)
        assert not intake.scan()
        assert path.exists()
    path.write_bytes(whole)
    intake.take_in()

    assert intake.filed("processed") == {"a.xml": whole}


def test_a_writer_that_closes_and_opens_again_is_waited_for(intake: Intake) -> None:
    whole = invoice()
    path = intake.inbox / "a.xml"
    with path.open("wb") as file:
        file.write(whole[:1000])
    for _ in range(3):
        intake.clock.forward(1.4)
        assert not intake.scan()
    with path.open("ab") as file:
        file.write(whole[1000:])
    intake.take_in()

    assert intake.filed("processed") == {"a.xml": whole}


def test_a_writer_that_holds_the_file_open_is_waited_for_even_if_it_looks_whole(intake: Intake) -> None:
    path = intake.inbox / "a.xml"
    with path.open("wb") as file:
        file.write(invoice())
        file.flush()
        intake.scan()
        intake.clock.forward(3)
        assert not intake.scan()
        assert path.exists()
        file.write(b"<!-- i jeszcze to -->")
    intake.take_in()

    assert intake.filed("processed") == {"a.xml": invoice() + b"<!-- i jeszcze to -->"}


def test_an_empty_file_filled_later_is_waited_for(intake: Intake) -> None:
    path = intake.inbox / "a.xml"
    path.touch()
    intake.scan()
    intake.clock.forward(4)
    assert not intake.scan()
    path.write_bytes(invoice())
    intake.take_in()

    assert intake.filed("processed") == {"a.xml": invoice()}
    assert intake.filed("rejected") == {}


def test_times_of_the_file_system_do_not_matter(intake: Intake) -> None:
    for name, moment in (("past.xml", 0), ("future.xml", 4_000_000_000)):
        path = intake.inbox / name
        path.write_bytes(invoice(number=name))
        os.utime(path, (moment, moment))
    assert not intake.scan()
    intake.clock.forward(1)
    assert intake.scan()

    assert sorted(intake.filed("processed")) == ["future.xml", "past.xml"]


def test_a_clock_set_back_delays_and_loses_nothing(intake: Intake) -> None:
    (intake.inbox / "a.xml").write_bytes(invoice())
    intake.scan()
    intake.clock.forward(-7200)
    assert not intake.scan()
    intake.clock.forward(0.9)
    assert not intake.scan()
    intake.clock.forward(0.1)
    assert intake.scan()

    assert intake.filed("processed") == {"a.xml": invoice()}


@pytest.mark.parametrize(
    "name",
    [
        "a.xml.part",
        "a.xml.tmp",
        "a.xml.filepart",
        "a.xml.crdownload",
        "a.xml~",
        ".a.xml",
        ".xml",
        "a.txt",
        "xml",
        "a.xm",
    ],
)
def test_names_of_files_still_being_written_are_not_looked_at(intake: Intake, name: str) -> None:
    (intake.inbox / name).write_bytes(invoice())
    intake.take_in()

    assert (intake.inbox / name).exists()
    assert intake.connector.next_scan(intake.clock()) is None
    assert intake.connector.passed_over == {}


def test_a_part_file_renamed_into_place_is_taken(intake: Intake) -> None:
    part = intake.inbox / "a.xml.part"
    part.write_bytes(invoice())
    intake.take_in()
    assert part.exists()
    part.rename(intake.inbox / "a.xml")
    intake.take_in()

    assert intake.filed("processed") == {"a.xml": invoice()}


@pytest.mark.parametrize("kind", ["symlink", "fifo", "unreadable directory"])
def test_something_renamed_into_place_that_cannot_be_taken_does_not_keep_the_intake_spinning(
    intake: Intake, tmp_path: Path, kind: str
) -> None:
    path = intake.inbox / "a.xml"
    if kind == "symlink":
        path.symlink_to(tmp_path / "elsewhere.xml")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    intake.connector._settling.renamed_into_place("a.xml")
    intake.scan()

    due = intake.connector.next_scan(intake.clock())
    assert due is None or due > intake.clock()
