"""A selection of received invoices in one ZIP, with a list for a spreadsheet."""

from __future__ import annotations

import csv
import io
import os
import random
import shutil
import subprocess
import tracemalloc
import zipfile
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksefbuffer.queue import incoming
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.incoming import Wanted
from ksefbuffer.receiver import bundle, ziparchive
from ksefbuffer.receiver.bundle import HEADINGS, as_text, write_bundle
from ksefbuffer.receiver.filing import Filing
from ksefbuffer.receiver.ziparchive import ZipArchive
from tests.receiver.stored import again, content_of, put
from tests.samples import NOW


def opened(path: Path) -> zipfile.ZipFile:
    archive = zipfile.ZipFile(path)
    assert archive.testzip() is None
    return archive


def listed(path: Path) -> list[dict[str, str]]:
    with opened(path) as archive:
        raw = archive.read("spis.csv")
    assert raw.startswith(b"\xef\xbb\xbf")
    return list(csv.DictReader(io.StringIO(raw.decode("utf-8-sig"), newline=""), delimiter=";"))


def test_the_bundle_holds_every_invoice_as_it_is_filed(database: Database, tmp_path: Path) -> None:
    ones = [put(database, folder) for folder in ("sklepy/7", "sklepy/8 Gdańsk", "inne")]
    assert Filing(database, tmp_path / "incoming", lambda _: None).step(NOW)
    told: list[tuple[int, int]] = []

    count = write_bundle(database, Wanted(), tmp_path / "faktury.zip", progress=lambda *at: told.append(at))

    assert count == 3
    assert told[-1] == (3, 3)
    with opened(tmp_path / "faktury.zip") as archive:
        filed = {str(again(database, one).path): content_of(database, one) for one in ones}
        assert {name: archive.read(name) for name in archive.namelist() if name != "spis.csv"} == filed
    assert [row["Plik"] for row in listed(tmp_path / "faktury.zip")] == list(filed)


def test_the_list_says_what_a_person_needs(database: Database, tmp_path: Path) -> None:
    one = put(
        database,
        "sklepy/7",
        invoice_number="FV/1;„x”",
        seller_name="Żółw sp. z o.o.",
        gross=Decimal("-1234.5"),
        acquired_at=datetime(2026, 11, 20, 23, 30, tzinfo=UTC),
    )
    with database.transaction() as tx:
        incoming.decide(tx, one, "rejected", "nie nasza\nwcale", at=NOW, actor="Anna", row=False)

    write_bundle(database, Wanted(), tmp_path / "x.zip")

    (row,) = listed(tmp_path / "x.zip")
    assert tuple(row) == HEADINGS
    assert row == {
        "Numer KSeF": one.ksef_number,
        "Numer faktury": "FV/1;„x”",
        "Rodzaj": "VAT",
        "Data wystawienia": "2026-11-20",
        "Data przyjęcia w KSeF": "2026-11-21 00:30:00",
        "NIP sprzedawcy": "1111111111",
        "Sprzedawca": "Żółw sp. z o.o.",
        "Kwota brutto": "-1234,50",
        "Waluta": "PLN",
        "Katalog": "sklepy/7",
        "Etykiety": "pilne, karta",
        "Ocena": "zasadna",
        "Decyzja": "odrzucona",
        "Komentarz": "nie nasza\nwcale",
        "Plik": row["Plik"],
    }


def test_only_the_selection_is_in_it(database: Database, tmp_path: Path) -> None:
    put(database, "a", issue_date=date(2026, 10, 31))
    put(database, "b", issue_date=date(2026, 11, 1))
    wanted = Wanted(since=date(2026, 11, 1))
    assert write_bundle(database, wanted, tmp_path / "x.zip") == 1
    assert [row["Katalog"] for row in listed(tmp_path / "x.zip")] == ["b"]
    assert write_bundle(database, Wanted(folder="nie ma"), tmp_path / "y.zip") == 0
    assert listed(tmp_path / "y.zip") == []


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+48", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "＝1+1", '=HYPERLINK("http://x";"y")'],
)
def test_no_cell_is_a_formula(sqlite_database: Database, tmp_path: Path, text: str) -> None:
    one = put(sqlite_database, "a", invoice_number=text, seller_name=text)
    with sqlite_database.transaction() as tx:
        incoming.decide(tx, one, "scam", text, at=NOW, actor="a", row=False)
    write_bundle(sqlite_database, Wanted(), tmp_path / "x.zip")
    (row,) = listed(tmp_path / "x.zip")
    assert (row["Numer faktury"], row["Sprzedawca"], row["Komentarz"]) == ("'" + text,) * 3


@given(st.text(max_size=30))
def test_a_guarded_cell_starts_with_nothing_that_counts(text: str) -> None:
    cell = as_text(text)
    assert cell.lstrip()[:1] not in tuple("=+-@")
    assert cell in (text.replace("\0", ""), "'" + text.replace("\0", ""))


def test_the_same_invoices_give_the_same_bytes(sqlite_database: Database, tmp_path: Path) -> None:
    for number in range(5):
        put(sqlite_database, f"a/{number}")
    for name in ("x.zip", "y.zip"):
        write_bundle(sqlite_database, Wanted(), tmp_path / name)
    assert (tmp_path / "x.zip").read_bytes() == (tmp_path / "y.zip").read_bytes()


def test_a_failure_leaves_the_file_that_was_there_and_nothing_else(
    sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "wyniki"
    place.mkdir()
    (place / "x.zip").write_bytes(b"poprzedni")
    put(sqlite_database)
    for name in ("finish", "add", "add_stream"):
        with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
            patch.setattr(ZipArchive, name, full)
            write_bundle(sqlite_database, Wanted(), place / "x.zip")
        assert {path.name: path.read_bytes() for path in place.iterdir()} == {"x.zip": b"poprzedni"}


def full(*_: Any) -> None:
    raise OSError(28, "No space left on device")


def test_the_file_gets_its_name_only_when_it_is_durable(
    sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(sqlite_database)
    path = tmp_path / "x.zip"
    there: list[bool] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (there.append(path.exists()), real(descriptor))[1])
    write_bundle(sqlite_database, Wanted(), path)
    assert there == [False, True], "the contents before the name, the name after it"


def test_refiled_and_arriving_meanwhile_is_neither_lost_nor_doubled(
    sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "_KEYS_AT_ONCE", 2)
    ones = [put(sqlite_database, "a") for _ in range(5)]

    def meanwhile(done: int, _total: int) -> None:
        put(sqlite_database, "a")
        with sqlite_database.transaction() as tx:
            incoming.file_all_again(tx, at=NOW)

    assert write_bundle(sqlite_database, Wanted(), tmp_path / "x.zip", progress=meanwhile) == 5
    assert [row["Numer KSeF"] for row in listed(tmp_path / "x.zip")] == [one.ksef_number for one in ones]


def test_memory_does_not_grow_with_the_number_of_invoices(sqlite_database: Database, tmp_path: Path) -> None:
    noise = random.Random(7)
    peaks = []
    for _ in range(2):
        for _ in range(1500):
            put(sqlite_database, "a", content=noise.randbytes(2000))
        tracemalloc.start()
        write_bundle(sqlite_database, Wanted(), tmp_path / "x.zip")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.2


def test_many_large_ones_are_read_few_at_a_time(
    sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(6):
        put(sqlite_database, content=b"x" * 1000)
    monkeypatch.setattr(bundle, "_BYTES_AT_ONCE", 2500)
    most: list[int] = []
    real = incoming.contents

    def contents(tx: Any, keys: Any) -> dict[int, bytes]:
        most.append(len(keys))
        return real(tx, keys)

    monkeypatch.setattr(incoming, "contents", contents)
    assert write_bundle(sqlite_database, Wanted(), tmp_path / "x.zip") == 6
    assert most == [2, 2, 2]


# The archive itself


def archive_of(path: Path, entries: dict[str, bytes]) -> None:
    with path.open("w+b") as out, path.with_suffix(".list").open("w+b") as names:
        archive = ZipArchive(out, names)
        for name, content in entries.items():
            archive.add(name, content, date(2026, 11, 20))
        archive.finish()


def test_more_entries_than_an_old_zip_could_hold(tmp_path: Path) -> None:
    entries = {f"ź/{number}.xml": b"%d" % number for number in range(70_000)}
    archive_of(tmp_path / "x.zip", entries)
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert len(archive.namelist()) == 70_000
        assert archive.read("ź/69999.xml") == b"69999"
        assert archive.getinfo("ź/0.xml").date_time == (2026, 11, 20, 0, 0, 0)


def test_an_archive_beyond_the_old_bounds_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the bounds moved down, so that no 4 GB need be written: readers take Zip64's own figures anyway."""
    path = tmp_path / "x.zip"
    with path.open("w+b") as out, (tmp_path / "list").open("w+b") as names:
        archive = ZipArchive(out, names)
        out.seek(2**32 + 5)
        archive.add("daleko.xml", b"<a/>", None)
        archive.add("dalej.xml", b"<b/>", None)
        archive.finish()
    with zipfile.ZipFile(path) as archive_:
        assert [archive_.read(name) for name in archive_.namelist()] == [b"<a/>", b"<b/>"]


def test_an_entry_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ziparchive, "_MAX_32", 10)
    with pytest.raises(ValueError, match="4 GB"):
        archive_of(tmp_path / "x.zip", {"a": b"x" * 11})


def test_other_programs_read_it(tmp_path: Path) -> None:
    if shutil.which("unzip") is None:
        pytest.skip("unzip is absent")
    archive_of(tmp_path / "x.zip", {"sklepy/Łódź/a.xml": b"<a/>", "pusty": b""})
    assert subprocess.run(["unzip", "-tq", tmp_path / "x.zip"], check=False).returncode == 0
