"""With ``inbox.pdf`` a printed page lies beside each answer that has something to print; no answer waits for it."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import zxingcpp

from ksefbuffer.erp import printing
from ksefbuffer.offline.printed import NotPrintable
from ksefbuffer.offline.printed import render as really_render
from ksefbuffer.queue import pages
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.documents import Document
from ksefbuffer.queue.states import Event, State
from tests.erp.test_offline_answers import KOD_II, OFFLINE, TOTAL, Till, kod_i
from tests.offline.printed_pages import links, picture, text_of
from tests.queue.builders import arrival, tell_everything
from tests.samples import NOW, invoice


@pytest.fixture
def till(tmp_path: Path, sqlite_database: Database) -> Till:
    return Till(sqlite_database, tmp_path, pdf=True)


def page(till: Till, name: str = "a") -> bytes:
    return (till.outbox / f"{name}.pdf").read_bytes()


def codes(pdf: bytes) -> set[str]:
    """Read from the page as it is seen."""
    return {code.text for code in zxingcpp.read_barcodes(picture(pdf, dots_per_inch=200))}


def due(till: Till, now: datetime = NOW) -> bool:
    with till.database.reading() as tx:
        return pages.answer_due(tx, now) is not None


def rendering(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Numbers of the pages that are set from now on."""
    made: list[str | None] = []

    def counted(content: bytes, **said: Any) -> bytes:
        made.append(said["ksef_number"])
        return really_render(content, **said)

    monkeypatch.setattr(printing, "render", counted)
    return made


CONTENT = invoice("FV/7/2026", seller_name="Łódzka Przędzalnia S.A.", buyer_name="Żabka Młyńska", lines=3)
GROSS = CONTENT.split(b"<P_15>")[1].split(b"<")[0].decode().replace(".", ",")


def test_an_offline_page_says_so_and_carries_both_codes(till: Till) -> None:
    document = till.issue(content=CONTENT, **OFFLINE)
    till.tell()
    till.print()

    pdf = page(till)
    said = text_of(pdf)
    for text in ("FV/7/2026", "Łódzka Przędzalnia S.A.", "Żabka Młyńska", "OFFLINE", "CERTYFIKAT", "offline24"):
        assert text in said
    assert GROSS in said.replace(" ", "")
    assert codes(pdf) == {kod_i(document), KOD_II}
    assert {kod_i(document), KOD_II} <= set(links(pdf))


def test_with_the_number_the_page_is_made_anew(till: Till) -> None:
    document = till.issue(State.PROCESSING, content=CONTENT, **OFFLINE)
    till.tell()
    till.print()
    before = page(till)
    sent = till.move(document, Event.NUMBER)
    till.tell()
    assert page(till) == before, "it stays until its successor is there"
    till.print()

    pdf = page(till)
    assert str(sent.ksef_number) in text_of(pdf)
    assert "OFFLINE" not in text_of(pdf)
    assert codes(pdf) == {kod_i(document), KOD_II}


def test_an_online_invoice_is_printed_once_it_has_its_number(till: Till) -> None:
    document = till.issue(State.PROCESSING, content=CONTENT)
    till.tell()
    assert not due(till)
    sent = till.move(document, Event.NUMBER)
    till.tell()
    till.print()
    assert codes(page(till)) == {kod_i(document)}
    assert str(sent.ksef_number) in text_of(page(till))
    assert GROSS in text_of(page(till)).replace(" ", "")


def test_in_a_total_failure_the_page_has_no_codes(till: Till) -> None:
    till.issue(content=CONTENT, **TOTAL, certificate_url=KOD_II)
    till.tell()
    till.print()
    pdf = page(till)
    assert codes(pdf) == set()
    assert "awaria całkowita" in text_of(pdf)
    assert "FV/7/2026" in text_of(pdf)


def test_not_asked_for_no_page_is_made_and_none_is_touched(tmp_path: Path, sqlite_database: Database) -> None:
    till = Till(sqlite_database, tmp_path)
    (till.outbox / "a.pdf").write_bytes(b"skan")
    till.issue(State.SENT)
    till.tell()
    assert not due(till)
    assert page(till) == b"skan"


def test_no_answer_is_delayed_by_a_page(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(printing, "render", lambda *_, **__: pytest.fail("printed while answers are due"))
    for number in range(5):
        till.issue(State.SENT, place=f"{number}.xml", content=invoice(f"FV/{number}"))
    till.tell()
    assert len([name for name in till.names() if name.endswith(".ksef.json")]) == 5


def test_answers_go_out_while_a_page_is_being_set(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    till.issue(State.SENT)
    till.tell()
    told: list[bool] = []

    def slow(content: bytes, **said: Any) -> bytes:
        till.issue(place="b.xml", content=invoice("FV/2"), **OFFLINE)
        till.tell()
        told.append((till.outbox / "b.ksef.json").exists() and (till.outbox / "b.qr2.png").exists())
        return really_render(content, **said)

    monkeypatch.setattr(printing, "render", slow)
    assert till.printing.step(NOW)
    assert told == [True]
    assert "a.pdf" in till.names()


def test_an_urgent_page_goes_first(till: Till) -> None:
    till.issue(State.SENT, place="a.xml")
    till.issue(State.SENT, place="b.xml", content=invoice("FV/2"))
    till.tell()
    with till.database.transaction() as tx:
        tx.exec_driver_sql("UPDATE answer_pages SET urgent = 1 WHERE arrival = (SELECT max(arrival) FROM answer_pages)")
    till.printing.step(NOW)
    assert {name for name in till.names() if name.endswith(".pdf")} == {"b.pdf"}


@pytest.mark.parametrize("event", [Event.REFUSE, Event.WITHDRAW])
def test_what_is_no_invoice_any_more_loses_its_page(till: Till, event: Event) -> None:
    document = till.issue(content=CONTENT, **OFFLINE)
    till.tell()
    till.print()
    assert "a.pdf" in till.names()
    till.move(document, event)
    till.tell()
    assert till.names() == {"a.ksef.json"}
    till.print()
    assert till.names() == {"a.ksef.json"}


def test_a_page_of_another_document_of_that_name_is_removed(till: Till) -> None:
    till.issue(State.SENT, content=CONTENT)
    till.tell()
    till.print()
    first = page(till)
    # It takes the name, and has something to print from the beginning.
    second = till.issue(place="a.xml", content=invoice("FV/2"), **OFFLINE)
    while till.told()["sha256"] != second.sha256:
        assert till.deliver.step(NOW)
    assert not (till.outbox / "a.pdf").exists(), "the other's page would lie beside this answer"
    till.tell()
    till.print()

    assert page(till, "a.2") == first
    assert "FV/2" in text_of(page(till))


def test_a_name_that_changes_hands_while_a_page_is_set_gets_no_wrong_page(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    till.issue(State.SENT, content=CONTENT)
    till.tell()

    def meanwhile(content: bytes, **said: Any) -> bytes:
        monkeypatch.setattr(printing, "render", really_render)
        till.issue(place="a.xml", content=invoice("FV/2"))
        till.tell()
        return really_render(content, **said)

    monkeypatch.setattr(printing, "render", meanwhile)
    till.printing.step(NOW)
    assert not (till.outbox / "a.pdf").exists()
    till.print()
    assert {name for name in till.names() if name.endswith(".pdf")} == {"a.2.pdf"}
    assert "FV/7/2026" in text_of(page(till, "a.2"))


def test_the_number_that_comes_while_a_page_is_set_is_on_the_next_one(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = till.issue(State.PROCESSING, content=CONTENT, **OFFLINE)
    till.tell()
    numbers: list[str | None] = []

    def meanwhile(content: bytes, **said: Any) -> bytes:
        monkeypatch.setattr(printing, "render", really_render)
        numbers.append(till.move(document, Event.NUMBER).ksef_number)
        till.tell()
        return really_render(content, **said)

    monkeypatch.setattr(printing, "render", meanwhile)
    till.print()
    assert str(numbers[0]) in text_of(page(till))
    assert not due(till)


def test_equal_pages_are_neither_set_nor_written_again(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    document = till.issue(State.SENT, content=CONTENT)
    made = rendering(monkeypatch)
    till.tell()
    till.print()
    inode = (till.outbox / "a.pdf").stat().st_ino
    # As when the receipt comes, a moment later.
    till.change(document)
    till.tell()
    till.print()
    assert len(made) == 1
    assert (till.outbox / "a.pdf").stat().st_ino == inode

    till.start()
    till.change(document)
    till.tell()
    assert (till.outbox / "a.pdf").stat().st_ino == inode, "after a start it is known for ours"
    till.print()
    assert (till.outbox / "a.pdf").stat().st_ino == inode
    assert not due(till)


def test_only_so_many_pages_are_kept_and_no_large_ones(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(printing, "_MOST_KEPT", 2)
    monkeypatch.setattr(printing, "render", lambda content, **_: b"%PDF" + content)
    for number in range(4):
        till.issue(State.SENT, place=f"{number}.xml", content=b"%d" % number)
    till.issue(State.SENT, place="long.xml", content=b"x" * 200_000)
    till.tell()
    till.print()
    assert sorted(till.printing._kept.values()) == [b"%PDF2", b"%PDF3"]
    assert len([name for name in till.names() if name.endswith(".pdf")]) == 5


def test_a_page_taken_away_comes_back_with_the_next_answer(till: Till) -> None:
    document = till.issue(State.SENT, content=CONTENT)
    till.tell()
    till.print()
    before = page(till)
    (till.outbox / "a.pdf").unlink()
    till.change(document)
    till.tell()
    till.print()
    assert page(till) == before


def test_what_cannot_be_printed_is_said_once_and_the_answer_goes_without(
    till: Till, caplog: pytest.LogCaptureFixture
) -> None:
    document = till.issue(State.SENT, content=b"tajny tekst, nie faktura")
    till.tell()
    with caplog.at_level(logging.WARNING):
        till.print()
    assert till.told()["status"] == "sent"
    assert till.names() == {"a.ksef.json", "a.qr1.png"}
    assert caplog.text.count(document.document_id) == 1
    assert "tajny" not in caplog.text
    for hours in (1, 24):
        assert not due(till, NOW + timedelta(hours=hours))


def test_a_page_that_cannot_be_printed_any_more_is_taken_away(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    document = till.issue(State.PROCESSING, content=CONTENT, **OFFLINE)
    till.tell()
    till.print()

    def refused(*_: Any, **__: Any) -> bytes:
        raise NotPrintable("Nie udało się złożyć wydruku faktury.")

    monkeypatch.setattr(printing, "render", refused)
    till.move(document, Event.NUMBER)
    till.tell()
    till.print()
    assert "a.pdf" not in till.names(), "one that says OFFLINE would be out of date"


def test_a_fault_with_one_page_pauses_that_one_alone(
    till: Till, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bad = till.issue(State.SENT, content=CONTENT)
    till.issue(State.SENT, place="b.xml", content=invoice("FV/2"))
    till.tell()

    def failing(content: bytes, **said: Any) -> bytes:
        if content == CONTENT:
            raise RuntimeError("program")
        return really_render(content, **said)

    monkeypatch.setattr(printing, "render", failing)
    till.print()
    assert {name for name in till.names() if name.endswith(".pdf")} == {"b.pdf"}
    again = till.printing.next_due()
    assert again == NOW + timedelta(seconds=5)
    monkeypatch.undo()
    till.print(again)
    assert "a.pdf" in till.names()
    assert till.printing.next_due() is None
    assert bad.document_id in caplog.text


def test_a_wish_that_comes_while_a_page_fails_does_not_wait_for_the_pause(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = till.issue(State.PROCESSING, content=CONTENT, **OFFLINE)
    till.tell()

    def failing(*_: Any, **__: Any) -> bytes:
        till.move(document, Event.NUMBER)
        till.tell()
        raise RuntimeError("program")

    monkeypatch.setattr(printing, "render", failing)
    till.printing.step(NOW)
    assert due(till)


def test_an_outbox_that_cannot_be_written_delays_the_page(till: Till) -> None:
    till.issue(State.SENT, content=CONTENT)
    till.tell()
    moved = till.outbox.with_name("away")
    till.outbox.rename(moved)
    till.outbox.touch()
    till.print()
    again = till.printing.next_due()
    assert again is not None
    assert again > NOW
    till.outbox.unlink()
    moved.rename(till.outbox)
    till.print(again)
    assert "a.pdf" in till.names()


class Killed(BaseException):
    """The process died here."""


@pytest.mark.parametrize("moment", ["before the answer is recorded", "before the page", "before it is recorded"])
def test_a_crash_loses_no_page(till: Till, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    till.issue(State.SENT, content=CONTENT)
    if moment != "before the answer is recorded":
        till.tell()

    def dying(*_: Any, **__: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patch:
        if moment == "before the page":
            patch.setattr(printing, "render", dying)
        else:
            patch.setattr(till.database, "_commit", dying)
        with pytest.raises(Killed):
            till.tell()
            till.print()
    till.start()
    till.tell()
    till.print()

    assert page(till).startswith(b"%PDF-")
    assert not due(till)
    till.tell()
    assert page(till).startswith(b"%PDF-")


def test_switched_off_pages_go_with_the_next_answer(till: Till, tmp_path: Path) -> None:
    document = till.issue(State.SENT, content=CONTENT)
    other = till.issue(State.SENT, place="b.xml", content=invoice("FV/2"))
    till.tell()
    till.print()
    till.change(other)
    till.tell()

    off = Till(till.database, tmp_path)
    off.print()
    off.change(document)
    off.tell()
    off.print()

    assert {name for name in off.names() if name.endswith(".pdf")} == {"b.pdf"}
    assert not due(off, NOW + timedelta(days=1))


def test_two_arrivals_of_a_document_get_a_page_each(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    document: Document = till.issue(State.SENT, content=CONTENT)
    with till.database.transaction() as tx:
        tell_everything(tx)
        arrival(tx, document, "b.xml")
    till.change(document)
    made = rendering(monkeypatch)
    till.tell()
    till.print()
    assert page(till, "a") == page(till, "b")
    assert len(made) == 1


def test_pages_are_kept_in_either_database(tmp_path: Path, database: Database) -> None:
    till = Till(database, tmp_path, pdf=True)
    document = till.issue(State.PROCESSING, content=CONTENT, **OFFLINE)
    till.tell()
    till.print()
    till.move(document, Event.NUMBER)
    till.tell()
    till.print()
    assert codes(page(till)) == {kod_i(document), KOD_II}
    with database.reading() as tx:
        assert pages.next_answer(tx) is None
        assert pages.printed(tx, 1) is not None
