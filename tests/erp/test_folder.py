"""The folder connector: what goes in, where it ends up, what is said about it, and what is never lost."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ksefbuffer.erp import files, folder
from ksefbuffer.erp.folder import FolderConnector
from ksefbuffer.errors import BufferFault, ConfigurationFault
from ksefbuffer.queue import deliveries, documents, facts
from ksefbuffer.queue.db import Database, StorageFault
from ksefbuffer.queue.states import State
from ksefbuffer.worker import Worker
from tests.conftest import LONG_ENOUGH_S, Clock, Intake, Shop
from tests.samples import invoice

ODD_NAMES: dict[str, bytes] = {
    "spaces": b" faktura  nr 1 .xml",
    "diacritics": "zażółć gęślą jaźń.xml".encode(),
    "decomposed diacritics": "z\u0301o\u0142w.xml".encode(),
    "newline": b"dwa\nwiersze\r.xml",
    "tab and bell": b"tab\t\x07.xml",
    "255 bytes": b"a" * 251 + b".xml",
    "255 bytes of diacritics": "ą".encode() * 125 + b"a.xml",
    "dots": b"a..b...xml",
    "an ending within": b"FV.part.xml",
    "two endings": b"FV.xml.xml",
    "a leading dash": b"-rf.xml",
    "a tilde": b"~.xml",
    "not UTF-8": "łódź".encode("cp1250") + b".xml",
    "not UTF-8, 255 bytes": b"\xb3" * 251 + b".xml",
    "percent": b"100%25 %zz%.xml",
    "backslash": rb"w..\..\windows.xml",
    "a drive": b"C:faktura.xml",
    "shell": b"$(reboot);`id`|&*?'\"<>.xml",
    "upper case": b"FAKTURA.XML",
    "mixed case": b"Faktura.Xml",
    "emoji": "faktura 🧾.xml".encode(),
    "right to left": "fv\u202elmx.xml".encode(),
    "zero width": "f\u200bv.xml".encode(),
    "a like one of ours": b"x.ksef.json.xml",
    "a number": b"1.2.xml",
}


def drop(inbox: Path, name: str | bytes, content: bytes) -> Path:
    """Under another name and renamed, as it should be done."""
    part = inbox / ".part"
    part.write_bytes(content)
    target = inbox / os.fsdecode(name)
    part.rename(target)
    return target


def told_of(outbox: Path) -> dict[bytes, dict[str, Any]]:
    return {
        os.fsencode(path.name): json.loads(path.read_bytes()) for path in outbox.iterdir() if path.suffix == ".json"
    }


def only_document(database: Database) -> documents.Document:
    with database.reading() as tx:
        (document,) = documents.listing(tx)
    return document


# Names


def test_every_odd_name_goes_full_circle(shop: Shop) -> None:
    for number, name in enumerate(ODD_NAMES.values()):
        drop(shop.inbox, name, invoice(number=f"FV/{number}", seed=number))
    shop.work()

    assert [path.name for path in shop.inbox.iterdir()] == []
    processed = {os.fsencode(path.name) for path in shop.config.inbox.processed.glob("*/*")}
    assert processed == set(ODD_NAMES.values())
    answers = told_of(shop.outbox)
    assert {answer["status"] for answer in answers.values()} == {"sent"}
    by_number = {answer["invoice_number"]: (file, answer) for file, answer in answers.items()}
    for number, name in enumerate(ODD_NAMES.values()):
        file, answer = by_number[f"FV/{number}"]
        assert answer["source"] == name.decode("utf-8", "backslashreplace")
        stem = name[:-4]
        if len(stem) + len(".ksef.json") <= 255:
            assert file == stem + b".ksef.json"
        else:
            assert len(file) <= 255
            assert file[:200] == stem[:200] or b"\xb3" in stem
        # Each answer's own receipt and picture are beside it.
        upo = [p for p in shop.outbox.iterdir() if p.name.endswith(".upo.xml")]
        assert any(p.read_bytes().find(answer["ksef_number"].encode()) >= 0 for p in upo)
    assert len([p for p in shop.outbox.iterdir() if p.name.endswith(".upo.xml")]) == len(ODD_NAMES)
    assert len([p for p in shop.outbox.iterdir() if p.name.endswith(".qr1.png")]) == len(ODD_NAMES)
    assert shop.sandbox.deviations == []
    # Nothing was written outside the folders.
    assert {path.name for path in shop.root.iterdir()} == {
        *("config.toml", "data", "inbox", "incoming", "outbox", "processed", "rejected")
    }


def test_the_receipt_that_the_answer_names_is_there(shop: Shop) -> None:
    for number, key in enumerate(("255 bytes", "diacritics", "newline", "percent")):
        drop(shop.inbox, ODD_NAMES[key], invoice(number=f"FV/{number}", seed=number))
    shop.work()

    for answer in told_of(shop.outbox).values():
        assert answer["ksef_number"].encode() in (shop.outbox / answer["upo_file"]).read_bytes()


def test_a_name_in_two_cases_is_two_files(shop: Shop) -> None:
    drop(shop.inbox, "a.xml", invoice(number="1"))
    drop(shop.inbox, "a.XML", invoice(number="2"))
    shop.work()

    answers = told_of(shop.outbox)
    assert set(answers) == {b"a.ksef.json", b"a.2.ksef.json"}
    assert {answer["source"] for answer in answers.values()} == {"a.xml", "a.XML"}
    assert {answer["status"] for answer in answers.values()} == {"sent"}


# Things that are not files


def a_socket(path: Path) -> Any:
    kept = socket.socket(socket.AF_UNIX)
    # A socket's address may have 107 bytes, and a test's folder more.
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        kept.bind(path.name)
    finally:
        os.chdir(here)
    return kept


THINGS: dict[str, Callable[[Path], Any]] = {
    "directory": lambda path: path.mkdir(),
    "symlink to an invoice": lambda path: path.symlink_to(path.parent.parent / "elsewhere.xml"),
    "symlink to itself": lambda path: path.symlink_to(path),
    "fifo": os.mkfifo,
    "socket": a_socket,
}


@pytest.mark.parametrize("make", THINGS.values(), ids=THINGS.keys())
def test_what_is_no_regular_file_is_passed_over_and_said_once(
    intake: Intake, caplog: pytest.LogCaptureFixture, make: Callable[[Path], Any]
) -> None:
    (intake.root / "elsewhere.xml").write_bytes(invoice())
    kept = make(intake.inbox / "x.xml")
    (intake.inbox / "good.xml").write_bytes(invoice())
    intake.take_in()
    intake.take_in()

    assert intake.connector.passed_over == {"x.xml": "Pominięto x.xml: to nie jest zwykły plik."}
    assert caplog.text.count("to nie jest zwykły plik") == 1
    assert os.path.lexists(intake.inbox / "x.xml")
    assert sorted(intake.filed("processed")) == ["good.xml"]
    if kept is not None:
        kept.close()


def test_a_thing_passed_over_is_forgotten_once_it_is_gone(intake: Intake) -> None:
    (intake.inbox / "x.xml").mkdir()
    intake.take_in()
    (intake.inbox / "x.xml").rmdir()
    intake.take_in()

    assert intake.connector.passed_over == {}


def test_a_fifo_put_in_place_of_a_file_between_two_looks_does_not_hang_the_intake(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = intake.inbox / "a.xml"
    path.write_bytes(invoice())
    intake.scan()
    intake.clock.forward(LONG_ENOUGH_S)
    really_open = os.open

    def swapped(name: Any, flags: int, *rest: Any, **more: Any) -> int:
        if Path(name) == path and not stat_is_fifo(path):
            path.unlink()
            os.mkfifo(path)
        return really_open(name, flags, *rest, **more)

    def stat_is_fifo(path: Path) -> bool:
        return path.is_fifo()

    monkeypatch.setattr(os, "open", swapped)
    assert not intake.scan()
    monkeypatch.undo()
    intake.take_in()
    assert "to nie jest zwykły plik" in intake.connector.passed_over["a.xml"]


AS_NOBODY = """
import os, sys, json
from datetime import datetime, timedelta, UTC
from pathlib import Path
from ksefbuffer.erp.folder import FolderConnector, Folders
from ksefbuffer.invoice.precheck import CheckContext, check
from ksefbuffer.queue import schema
from ksefbuffer.queue.db import Database
root = Path(sys.argv[1])
now = datetime(2026, 11, 20, 10, 15, tzinfo=UTC)
# Whatever is loaded late must be loaded while it may be read: this checkout may belong to another user.
check((root / "inbox" / "tajna.xml").read_bytes(), CheckContext("5265877635", "sandbox", now))
database = Database(f"sqlite:///{root / 'own' / 'k.db'}")
schema.upgrade(database)
database.close()
for path in (root / "own").iterdir():
    os.chown(path, 65534, 65534)
os.setgroups([]); os.setgid(65534); os.setuid(65534)
folders = Folders(root / "inbox", root / "outbox", root / "processed", root / "rejected")
connector = FolderConnector(database, folders, settle=timedelta(seconds=1),
                            context=lambda now: CheckContext("5265877635", "sandbox", now))
connector.prepare()
def take():
    global now
    connector.take_in(now)
    now += timedelta(seconds=6)
    while connector.take_in(now): pass
take()
first = connector.passed_over
print(json.dumps(first), flush=True)
sys.stdin.readline()
take()
print(json.dumps(connector.passed_over), flush=True)
"""


@pytest.fixture
def public_root() -> Iterator[Path]:
    """A folder that another user can reach, unlike pytest's own."""
    root = Path(tempfile.mkdtemp(prefix="ksefbuffer-test-"))
    root.chmod(0o755)
    yield root
    shutil.rmtree(root)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not read a file")
def test_an_unreadable_file_waits_and_is_taken_once_it_may_be_read(public_root: Path) -> None:
    for name in ("inbox", "outbox", "processed", "rejected", "own"):
        (public_root / name).mkdir()
        os.chown(public_root / name, 65534, 65534)
    secret = public_root / "inbox" / "tajna.xml"
    secret.write_bytes(invoice())
    secret.chmod(0o600)
    with subprocess.Popen(
        [sys.executable, "-c", AS_NOBODY, str(public_root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert json.loads(child.stdout.readline()) == {
            "tajna.xml": "Brak prawa odczytu pliku tajna.xml. Nadaj prawa użytkownikowi usługi; plik czeka."
        }
        assert secret.exists()
        secret.chmod(0o644)
        child.stdin.write("\n")
        child.stdin.flush()
        assert json.loads(child.stdout.readline()) == {}
    assert child.returncode == 0
    assert not secret.exists()
    assert len(list((public_root / "processed").glob("*/tajna.xml"))) == 1


def test_a_folder_that_cannot_be_made_is_a_fault_of_the_configuration(tmp_path: Path, intake: Intake) -> None:
    (tmp_path / "file").touch()
    intake.folders = folder.Folders(*[tmp_path / "file" / name for name in ("a", "b", "c", "d")])
    with pytest.raises(ConfigurationFault, match=str(tmp_path / "file")):
        intake.started()


def test_an_inbox_that_goes_away_and_comes_back(intake: Intake) -> None:
    intake.inbox.rmdir()
    with pytest.raises(BufferFault, match="Nie ma folderu"):
        intake.scan()
    intake.inbox.mkdir()
    (intake.inbox / "a.xml").write_bytes(invoice())
    intake.take_in()

    assert sorted(intake.filed("processed")) == ["a.xml"]


# Names taken


def test_files_of_the_same_name_never_overwrite_one_another(intake: Intake) -> None:
    contents = [invoice(number=str(number)) for number in range(3)]
    for content in contents:
        drop(intake.inbox, "a.xml", content)
        intake.take_in()

    assert intake.filed("processed") == dict(
        zip(["a.2.xml", "a.3.xml", "a.xml"], [*contents[1:], contents[0]], strict=True)
    )


def test_rejected_files_of_the_same_name_never_overwrite_one_another(intake: Intake) -> None:
    for content in (b"<a></a>", b"<b></b>"):
        drop(intake.inbox, "a.xml", content)
        intake.take_in()

    assert intake.filed("rejected") == {"a.xml": b"<a></a>", "a.2.xml": b"<b></b>"}


def test_a_full_length_name_that_is_taken_is_shortened_not_lost(intake: Intake) -> None:
    for number in range(3):
        drop(intake.inbox, ODD_NAMES["255 bytes"], invoice(number=str(number)))
        intake.take_in()

    filed = intake.filed("processed")
    assert len(filed) == 3
    assert all(name.endswith(".xml") and len(os.fsencode(name)) <= 255 for name in filed)


def test_a_day_folder_that_is_a_file_is_said_and_nothing_is_lost(intake: Intake) -> None:
    blocked = intake.folders.processed / "2026-11-20"
    blocked.write_text("nie folder")
    drop(intake.inbox, "a.xml", invoice())
    intake.take_in()
    intake.scan()

    assert (intake.inbox / "a.xml").exists()
    assert "Przyjęto, ale nie można przenieść" in intake.connector.passed_over["a.xml"]
    blocked.unlink()
    intake.clock.forward(40)
    intake.take_in()
    assert sorted(intake.filed("processed")) == ["a.xml"]
    assert intake.connector.passed_over == {}
    with intake.database.reading() as tx:
        assert len(documents.listing(tx)) == 1


def test_the_day_of_the_folder_is_the_polish_one(intake: Intake) -> None:
    intake.clock.now = intake.clock.now.replace(hour=23, minute=30)
    drop(intake.inbox, "a.xml", invoice())
    intake.take_in()

    assert [path.parent.name for path in intake.folders.processed.glob("*/*")] == ["2026-11-21"]


# The same again


def test_the_same_bytes_again_are_answered_with_the_first_result_and_not_sent_again(shop: Shop) -> None:
    drop(shop.inbox, "a.xml", invoice())
    shop.work()
    first = shop.answer("a")
    (shop.outbox / "a.ksef.json").unlink()
    drop(shop.inbox, "a.xml", invoice())
    drop(shop.inbox, "b.xml", invoice())
    shop.work()

    assert shop.answer("a") == first
    assert shop.answer("b") == {**first, "source": "b.xml", "upo_file": "b.upo.xml"}
    assert (shop.outbox / "b.upo.xml").read_bytes() == (shop.outbox / "a.upo.xml").read_bytes()
    assert len(shop.sandbox.invoices()) == 1
    assert len(list(shop.config.inbox.processed.glob("*/*"))) == 3


def test_the_same_refused_bytes_again_are_refused_again(intake: Intake) -> None:
    for _ in range(2):
        drop(intake.inbox, "a.xml", b"<a></a>")
        intake.take_in()

    assert sorted(intake.filed("rejected")) == ["a.2.xml", "a.xml"]
    assert only_document(intake.database).state is State.ERROR


def test_bytes_refused_for_their_date_are_taken_once_the_day_has_come(intake: Intake) -> None:
    tomorrow = (intake.clock() + timedelta(days=1)).date()
    for _ in range(2):
        drop(intake.inbox, "a.xml", invoice(issue_date=tomorrow))
        intake.take_in()
        intake.clock.forward(86_400)

    assert sorted(intake.filed("rejected")) == ["a.xml"]
    assert sorted(intake.filed("processed")) == ["a.xml"]
    assert only_document(intake.database).state is State.QUEUED


def test_one_name_for_two_invoices_keeps_both_answers_and_mixes_nothing(shop: Shop) -> None:
    drop(shop.inbox, "a.xml", invoice(number="1"))
    shop.work()
    drop(shop.inbox, "a.xml", b"<to nie jest faktura")
    shop.work()

    assert shop.answer("a")["status"] == "error"
    # A receipt of the first invoice beside the refusal of the second would be taken for a success.
    assert not (shop.outbox / "a.upo.xml").exists()
    assert not (shop.outbox / "a.qr1.png").exists()
    assert shop.answer("a.2")["invoice_number"] == "1"
    assert shop.answer("a.2")["upo_file"] == "a.2.upo.xml"
    assert shop.answer("a.2")["ksef_number"].encode() in (shop.outbox / "a.2.upo.xml").read_bytes()


def test_one_name_while_the_first_is_on_its_way_is_answered_beside_it(shop: Shop) -> None:
    shop.sandbox.outage()
    drop(shop.inbox, "a.xml", invoice(number="1"))
    shop.buffer.folder.take_in(shop.clock())
    shop.clock.forward(2)
    shop.buffer.folder.take_in(shop.clock())
    drop(shop.inbox, "a.xml", invoice(number="2"))
    shop.sandbox.stop_outage()
    shop.work()

    assert (shop.answer("a")["invoice_number"], shop.answer("a")["status"]) == ("1", "sent")
    assert (shop.answer("a.2")["invoice_number"], shop.answer("a.2")["status"]) == ("2", "sent")


def test_a_number_used_for_other_bytes_is_refused_and_both_are_named(shop: Shop) -> None:
    drop(shop.inbox, "a.xml", invoice(number="1", seed=1))
    drop(shop.inbox, "b.xml", invoice(number="1", seed=2))
    shop.work()

    answers = [shop.answer("a"), shop.answer("b")]
    assert sorted(answer["status"] for answer in answers) == ["error", "sent"]
    refused = next(answer for answer in answers if answer["status"] == "error")
    sent = next(answer for answer in answers if answer["status"] == "sent")
    assert [error["code"] for error in refused["errors"]] == ["D05"]
    assert any(sent["document_id"] in detail for detail in refused["errors"][0]["details"])


# Races with the writer


def between_read_and_move(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """``act`` happens once, after the bytes are ours and before the file is moved."""
    really = folder.submit_all
    done: list[bool] = []

    def submit_then_act(*given: Any, **named: Any) -> Any:
        result = really(*given, **named)
        if not done:
            done.append(True)
            act()
        return result

    monkeypatch.setattr(folder, "submit_all", submit_then_act)


def test_a_file_replaced_between_read_and_move_is_read_too(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = invoice(number="1"), invoice(number="2")
    drop(intake.inbox, "a.xml", old)
    between_read_and_move(monkeypatch, lambda: drop(intake.inbox, "a.xml", new) and None)
    intake.take_in()
    intake.take_in()

    with intake.database.reading() as tx:
        assert {document.invoice_number for document in documents.listing(tx)} == {"1", "2"}
    assert new in intake.filed("processed").values()


def test_a_file_replaced_in_the_very_moment_of_the_move_is_put_back_and_read(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = invoice(number="2")
    drop(intake.inbox, "a.xml", invoice(number="1"))
    really, done = files._rename_new, []

    def just_before(source: Path, target: Path) -> None:
        if not done:
            done.append(True)
            drop(intake.inbox, "a.xml", new)
        really(source, target)

    monkeypatch.setattr(files, "_rename_new", just_before)
    intake.take_in()
    intake.take_in()

    with intake.database.reading() as tx:
        assert {document.invoice_number for document in documents.listing(tx)} == {"1", "2"}
    assert intake.filed("processed") == {"a.xml": new}


def test_a_file_written_on_between_read_and_move_is_read_again(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    path = drop(intake.inbox, "a.xml", invoice(number="1"))

    def append() -> None:
        with path.open("ab") as file:
            file.write(b"\n<!-- dopisek -->")

    between_read_and_move(monkeypatch, append)
    intake.take_in()
    assert path.exists()
    intake.take_in()

    with intake.database.reading() as tx:
        assert len(documents.listing(tx)) == 2
    assert not path.exists()


def test_a_file_deleted_between_read_and_move_is_ours_all_the_same(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = drop(intake.inbox, "a.xml", invoice())
    between_read_and_move(monkeypatch, path.unlink)
    intake.take_in()

    assert only_document(intake.database).state is State.QUEUED
    assert intake.filed("processed") == {}


def test_a_file_deleted_before_it_was_read_is_nobodys(intake: Intake) -> None:
    path = drop(intake.inbox, "a.xml", invoice())
    intake.scan()
    path.unlink()
    intake.take_in()

    with intake.database.reading() as tx:
        assert documents.listing(tx) == []


def test_a_crash_between_commit_and_move_is_healed_at_the_next_start(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(intake.inbox, "a.xml", invoice())

    def die() -> None:
        raise KeyboardInterrupt

    between_read_and_move(monkeypatch, die)
    with pytest.raises(KeyboardInterrupt):
        intake.take_in()
    assert (intake.inbox / "a.xml").exists()
    monkeypatch.undo()
    intake.started()
    intake.take_in()

    assert intake.filed("processed") == {"a.xml": invoice()}
    assert only_document(intake.database).state is State.QUEUED


def test_nothing_leaves_the_inbox_before_the_commit(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    drop(intake.inbox, "a.xml", invoice())
    seen: list[bool] = []

    def failing(_self: Database, _unit: Any) -> None:
        seen.append((intake.inbox / "a.xml").exists())
        raise StorageFault("dysk jest pełny")

    monkeypatch.setattr(Database, "_commit", failing)
    with pytest.raises(StorageFault):
        intake.take_in()
    assert seen == [True]
    assert (intake.inbox / "a.xml").read_bytes() == invoice()
    assert intake.filed("processed") == {}


def test_a_full_disk_leaves_the_file_in_the_inbox_and_room_lets_it_in(intake: Intake) -> None:
    with intake.database.transaction() as tx:
        pages = tx.exec_driver_sql("PRAGMA page_count").scalar_one()
        tx.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    big = invoice(lines=300)
    drop(intake.inbox, "a.xml", big)
    with pytest.raises(StorageFault, match="niedostępna") as fault:
        intake.take_in()
    assert "miejsce na dysku" in fault.value.action
    assert (intake.inbox / "a.xml").read_bytes() == big
    assert intake.filed("processed") == {}

    with intake.database.transaction() as tx:
        tx.exec_driver_sql("PRAGMA max_page_count = 1000000")
    intake.take_in()
    assert intake.filed("processed") == {"a.xml": big}


OPENED_WHILE_LEASED = '''
import fcntl, subprocess, sys
from ksefbuffer.erp import folder
really = fcntl.fcntl
opener = """
import os, sys
try: os.open(sys.argv[1], os.O_WRONLY | os.O_NONBLOCK)
except BlockingIOError: print('blocked')
"""
def opened_meanwhile(fd, command, *rest):
    result = really(fd, command, *rest)
    if command == fcntl.F_SETLEASE and rest == (fcntl.F_RDLCK,):
        done = subprocess.run([sys.executable, "-c", opener, sys.argv[1]], capture_output=True, text=True)
        assert done.stdout.strip() == "blocked", done
    return result
fcntl.fcntl = opened_meanwhile
with open(sys.argv[1], "rb") as file:
    print(folder._open_for_writing(file.fileno()))
'''


def test_a_writer_that_opens_the_file_in_the_moment_of_the_question_does_not_end_the_daemon(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(invoice())
    done = subprocess.run(
        [sys.executable, "-c", OPENED_WHILE_LEASED, str(path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


# Options


def test_options_beside_an_invoice_are_followed_and_filed_with_it(intake: Intake) -> None:
    (intake.inbox / "a.json").write_text(
        json.dumps({"priority": "urgent", "reference": "kasa 2 – zażółć", "callback_url": "https://erp.example/x"})
    )
    drop(intake.inbox, "a.xml", invoice())
    intake.take_in()

    assert sorted(intake.filed("processed")) == ["a.json", "a.xml"]
    assert only_document(intake.database).urgent
    with intake.database.reading() as tx:
        due = deliveries.due(tx, intake.clock())
    assert due is not None
    assert (due.arrival.reference, due.arrival.callback_url) == ("kasa 2 – zażółć", "https://erp.example/x")


BAD_OPTIONS: dict[str, bytes] = {
    "no JSON": b"{",
    "no object": b"[]",
    "an unknown key": b'{"prority": "urgent"}',
    "a wrong priority": b'{"priority": "asap"}',
    "offline is no boolean": b'{"offline": "tak"}',
    "no hash": b'{"corrects_sha256": "abc"}',
    "no address": b'{"callback_url": "ftp://x"}',
    "an address with a control character": b'{"callback_url": "https://x/\\u0000"}',
    "a long reference": b'{"reference": "' + b"x" * 300 + b'"}',
    "half a surrogate pair": b'{"reference": "\\ud800"}',
    "a NUL": b'{"reference": "a\\u0000b"}',
    "half a surrogate pair in a key": b'{"\\ud800": 1}',
    "not UTF-8": '{"reference": "łódź"}'.encode("cp1250"),
    "deeper than any parser": b"[" * 60_000,
    "a number of many digits": b'{"offline": ' + b"9" * 5000 + b"}",
    "too large": b'{"reference": "' + b" " * 70_000 + b'"}',
    "empty": b"",
}


@pytest.mark.parametrize("options", BAD_OPTIONS.values(), ids=BAD_OPTIONS.keys())
def test_bad_options_refuse_the_invoice_and_say_what_is_wrong(
    tmp_path: Path, database: Database, clock: Clock, options: bytes
) -> None:
    intake = Intake(tmp_path / "shop", database, clock)
    (intake.inbox / "a.json").write_bytes(options)
    drop(intake.inbox, "a.xml", invoice())
    intake.take_in()

    assert "a.xml" in intake.filed("rejected")
    (error,) = only_document(database).errors
    assert error["code"] == "OPCJE"
    assert error["message"].startswith("Opcje wysyłki są nieprawidłowe: ")


def test_options_mended_and_the_invoice_dropped_again_is_taken(intake: Intake) -> None:
    for options in ('{"priority": "asap"}', '{"priority": "urgent"}'):
        (intake.inbox / "a.json").write_text(options)
        drop(intake.inbox, "a.xml", invoice())
        intake.take_in()

    document = only_document(intake.database)
    assert (document.state, document.urgent, document.errors) == (State.QUEUED, True, [])


def test_options_that_come_late_change_nothing_and_stay(intake: Intake) -> None:
    drop(intake.inbox, "a.xml", invoice())
    intake.take_in()
    (intake.inbox / "a.json").write_text('{"priority": "urgent"}')
    intake.take_in()

    assert not only_document(intake.database).urgent
    assert (intake.inbox / "a.json").exists()


def test_options_that_are_a_symlink_are_not_followed(intake: Intake) -> None:
    (intake.root / "other.json").write_text('{"priority": "urgent"}')
    (intake.inbox / "a.json").symlink_to(intake.root / "other.json")
    drop(intake.inbox, "a.xml", invoice())
    intake.take_in()

    assert only_document(intake.database).state is State.ERROR


# Many and large


def test_five_thousand_files_at_once_all_come_in(intake: Intake) -> None:
    # Small and refused: what counts here is the folder, not the check.
    for number in range(5000):
        (intake.inbox / f"{number}.xml").write_bytes(b"<a>%d</a>" % number)
    intake.take_in()

    assert list(intake.inbox.iterdir()) == []
    assert len(intake.filed("rejected")) == 5000
    with intake.database.reading() as tx:
        assert len(documents.listing(tx, limit=10_000)) == 5000


def test_one_step_takes_one_commit_s_worth(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(150):
        (intake.inbox / f"{number:03}.xml").write_bytes(b"<a>%d</a>" % number)
    commits: list[int] = []
    really = Database._commit

    def counted(self: Database, unit: Any) -> None:
        commits.append(1)
        really(self, unit)

    monkeypatch.setattr(Database, "_commit", counted)
    intake.take_in()

    assert len(commits) == 3


def test_a_huge_file_is_refused_in_bounded_memory_and_its_bytes_are_kept_in_the_folder_only(intake: Intake) -> None:
    path = intake.inbox / "film.xml"
    with path.open("wb") as file:
        for _ in range(60):
            file.write(b"\0" * 1_000_000)
    tracemalloc.start()
    intake.take_in()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 20_000_000
    document = only_document(intake.database)
    assert [error["code"] for error in document.errors] == ["A06"]
    assert document.size == 60_000_000
    assert [path.stat().st_size for path in intake.folders.rejected.glob("*/*")] == [60_000_000]
    with intake.database.reading() as tx:
        assert documents.content(tx, document.id) is None


def test_a_move_to_another_file_system_copies_whole_and_then_removes(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    across(intake, monkeypatch)
    for content in (invoice(number="1"), invoice(number="2")):
        drop(intake.inbox, "a.xml", content)
        intake.take_in()

    assert intake.filed("processed") == {"a.xml": invoice(number="1"), "a.2.xml": invoice(number="2")}
    assert list(intake.inbox.iterdir()) == []


def across(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    """``processed`` lies on another file system."""
    really = files._rename_new

    def between_file_systems(source: Path, target: Path) -> None:
        if (intake.inbox in source.parents) != (intake.inbox in target.parents):
            raise OSError(18, "Invalid cross-device link")
        really(source, target)

    monkeypatch.setattr(files, "_rename_new", between_file_systems)


def test_a_crash_in_the_middle_of_a_move_between_file_systems_loses_no_unread_file(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst moment: the file set aside is a newer one, put in place of the one that was read."""
    across(intake, monkeypatch)
    drop(intake.inbox, "a.xml", invoice(number="1"))
    really, done = files._rename_new, []

    def dies_after_setting_aside(source: Path, target: Path) -> None:
        if target.name.startswith(files.ASIDE) and not done:
            done.append(True)
            drop(intake.inbox, "a.xml", invoice(number="2"))
            really(source, target)
            raise KeyboardInterrupt
        really(source, target)

    monkeypatch.setattr(files, "_rename_new", dies_after_setting_aside)
    with pytest.raises(KeyboardInterrupt):
        intake.take_in()
    monkeypatch.undo()
    intake.started()
    intake.take_in()

    with intake.database.reading() as tx:
        assert {document.invoice_number for document in documents.listing(tx)} == {"1", "2"}
    assert "a.xml" in intake.filed("processed")


@pytest.mark.parametrize("name", ["a.xml", "a.json", "x" * 251 + ".xml", os.fsdecode(b"\xb3" * 200 + b".xml")])
def test_a_file_set_aside_by_a_crash_gets_its_name_again(intake: Intake, name: str) -> None:
    aside = intake.inbox / files.fitting(files.ASIDE + name[: name.rindex(".")], name[name.rindex(".") :])
    aside.write_bytes(b"<a></a>")
    intake.started()

    (back,) = intake.inbox.iterdir()
    assert back.suffix == Path(name).suffix
    if len(os.fsencode(name)) < 200:
        assert back.name == name


def test_a_full_target_of_a_move_between_file_systems_puts_the_file_back(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    across(intake, monkeypatch)
    drop(intake.inbox, "a.xml", invoice())

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    intake.take_in()
    intake.scan()
    assert "No space left" in intake.connector.passed_over["a.xml"]
    assert (intake.inbox / "a.xml").read_bytes() == invoice()
    assert only_document(intake.database).state is State.QUEUED


def test_leftovers_of_a_crash_are_cleared_at_the_start(intake: Intake) -> None:
    leftover = intake.outbox / ".ksefbuffer-1-abc.part"
    leftover.touch()
    other = intake.outbox / ".somebody-else.part"
    other.touch()
    intake.started()

    assert not leftover.exists()
    assert other.exists()


# Events


def test_a_rename_into_place_is_noticed_and_taken_without_the_settle_time(intake: Intake) -> None:
    import threading

    woken = threading.Event()
    stop = intake.connector.watch(woken.set)
    try:
        for name in ("a.xml", os.fsdecode(ODD_NAMES["not UTF-8"])):
            woken.clear()
            drop(intake.inbox, name, invoice(number=name.encode("ascii", "replace").decode()))
            while woken.wait(10):
                woken.clear()
                if intake.scan():
                    break
            assert not (intake.inbox / name).exists()
    finally:
        stop()
    assert len(intake.filed("processed")) == 2


def test_without_file_events_scanning_alone_does(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoInotify:
        def schedule(self, *_: Any, **__: Any) -> None:
            raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(folder, "Observer", NoInotify)
    intake.connector.watch(lambda: None)()
    drop(intake.inbox, "a.xml", invoice())
    intake.take_in()
    assert sorted(intake.filed("processed")) == ["a.xml"]


# Answers


def test_all_spellings_are_written_json_last(shop: Shop, make_shop: Callable[..., Shop]) -> None:
    shop = make_shop('[inbox]\nresponses = ["json", "xml", "txt"]')
    drop(shop.inbox, "a.xml", invoice())
    shop.work()

    assert {path.name for path in shop.outbox.iterdir()} == {
        *("a.ksef.json", "a.ksef.xml", "a.ksef.txt", "a.upo.xml", "a.qr1.png")
    }
    number = shop.answer("a")["ksef_number"]
    assert f"<ksef_number>{number}</ksef_number>".encode() in (shop.outbox / "a.ksef.xml").read_bytes()
    assert f"KSEF_NUMBER={number}\n".encode() in (shop.outbox / "a.ksef.txt").read_bytes()


def test_an_outbox_that_cannot_be_written_delays_the_answers_and_says_so(shop: Shop) -> None:
    moved = shop.root / "away"
    shop.outbox.rename(moved)
    shop.outbox.touch()
    drop(shop.inbox, "a.xml", invoice())
    shop.work()
    with shop.database.reading() as tx:
        later = deliveries.next_due(tx)
        assert deliveries.due(tx, shop.clock() + timedelta(hours=1)) is not None
    assert later is not None
    assert later > shop.clock()
    assert len(shop.sandbox.accepted()) == 1

    shop.outbox.unlink()
    moved.rename(shop.outbox)
    shop.clock.forward(301)
    shop.work()
    assert shop.answer("a")["status"] == "sent"
    assert (shop.outbox / "a.upo.xml").exists()
    assert len(shop.sandbox.invoices()) == 1


def test_an_answer_that_nobody_foresaw_cannot_be_written_does_not_hold_up_the_others(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = FolderConnector.deliver

    def poisoned(self: FolderConnector, answer: Any) -> None:
        if answer.arrival.answer_name == "a":
            raise ValueError("poison")
        really(self, answer)

    monkeypatch.setattr(FolderConnector, "deliver", poisoned)
    drop(shop.inbox, "a.xml", invoice(number="1"))
    drop(shop.inbox, "b.xml", invoice(number="2"))
    shop.work()
    assert shop.answer("b")["status"] == "sent"
    assert not (shop.outbox / "a.ksef.json").exists()

    monkeypatch.undo()
    shop.clock.forward(301)
    shop.work()
    assert shop.answer("a")["status"] == "sent"


def test_answers_appear_whole_even_where_a_reader_looks_all_the_time(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = Path.replace
    torn: list[str] = []

    def looked_at(self: Path, target: Path) -> Path:
        # Just before the rename nothing half written may be visible under a final name.
        for path in shop.outbox.glob("*.ksef.json"):
            try:
                json.loads(path.read_bytes())
            except ValueError:
                torn.append(path.name)
        return really(self, target)

    monkeypatch.setattr(Path, "replace", looked_at)
    drop(shop.inbox, "a.xml", invoice())
    shop.work()
    assert torn == []
    assert [path.name for path in shop.outbox.iterdir() if path.name.startswith(".")] == []


def test_what_is_passed_over_is_shown_as_text_whatever_the_name(intake: Intake) -> None:
    (intake.inbox / os.fsdecode(ODD_NAMES["not UTF-8"])).mkdir()
    (intake.inbox / os.fsdecode(ODD_NAMES["newline"])).mkdir()
    intake.take_in()
    shown = intake.connector.passed_over
    assert len(shown) == 2
    assert all(name.isprintable() and reason.isprintable() for name, reason in shown.items())
    with intake.database.transaction() as tx:
        facts.put(tx, "passed_over", shown, at=intake.clock())


def test_what_an_earlier_life_passed_over_is_not_shown_for_ever(shop: Shop) -> None:
    with shop.database.transaction() as tx:
        facts.put(tx, "passed_over", {"x.xml": "Pominięto x.xml: to nie jest zwykły plik."}, at=shop.clock())
    Worker(shop.buffer)._take_files()
    with shop.database.reading() as tx:
        told = facts.get(tx, "passed_over")
    assert told is not None
    assert told[0] == {}


def test_what_comes_with_options_does_not_wait_behind_a_full_inbox(intake: Intake) -> None:
    for number in range(100):
        (intake.inbox / f"a{number:03}.xml").write_bytes(invoice(number=f"A/{number}", seed=number))
    (intake.inbox / "zzz.json").write_text('{"priority": "urgent"}')
    (intake.inbox / "zzz.xml").write_bytes(invoice(number="Z/1", seed=500))
    intake.scan()
    intake.clock.forward(LONG_ENOUGH_S)
    assert intake.scan()
    assert "zzz.xml" in intake.filed("processed")
    assert len(intake.filed("processed")) < 100
