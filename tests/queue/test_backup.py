"""A backup is the whole buffer at one moment, in one file, whatever goes on meanwhile; and the way back from it."""

from __future__ import annotations

import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from ksefbuffer.errors import ConfigurationFault, NoSuchThing
from ksefbuffer.queue import backup, documents, facts, pauses, schema
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.models import metadata
from ksefbuffer.queue.pauses import Lane
from ksefbuffer.queue.states import Event
from tests.queue.builders import move, new
from tests.samples import NIP, NOW

OWN = (backup.BACKUP, backup.RESTORED)


@pytest.fixture
def filled(database: Database) -> Database:
    with database.transaction() as tx:
        schema.bind(tx, NIP, "sandbox", at=NOW)
        for _ in range(3):
            documents.insert_document(tx, new(warnings=[{"code": "ż"}]), at=NOW, actor="test")
        sent = documents.insert_document(tx, new(), at=NOW, actor="test")
        move(tx, move(tx, sent, Event.BIND), Event.NUMBER)
        facts.put(tx, "ksef", {"ok": True, "message": None}, at=NOW)
    return database


def content(database: Database) -> dict[str, list[Any]]:
    with database.reading() as tx:
        found = {
            table.name: [tuple(row) for row in tx.execute(select(table).order_by(*table.primary_key))]
            for table in metadata.sorted_tables
        }
    found["facts"] = [row for row in found["facts"] if row[0] not in OWN]
    found["pauses"] = [row for row in found["pauses"] if row[0] != backup.RESTORED]
    return found


def put_back(database: Database, file: Path, tmp_path: Path, **changes: Any) -> backup.Restored:
    values: dict[str, Any] = {"nip": NIP, "environment": "sandbox", "aside": tmp_path / "before.db", "at": NOW}
    return backup.restore(database, file, **{**values, **changes})


def test_what_is_restored_is_what_was_backed_up(filled: Database, tmp_path: Path) -> None:
    file = tmp_path / "kopia.db"
    backup.back_up(filled, file, at=NOW)
    then = content(filled)
    with filled.transaction() as tx:
        documents.insert_document(tx, new(), at=NOW, actor="test")
        facts.put(tx, "ksef", {"ok": False}, at=NOW)
    restored = put_back(filled, file, tmp_path, at=NOW + timedelta(days=1))
    assert content(filled) == then
    assert (restored.made_at, restored.documents) == (NOW, 4)


def test_after_a_restore_every_lane_waits(filled: Database, tmp_path: Path) -> None:
    backup.back_up(filled, tmp_path / "kopia.db", at=NOW)
    put_back(filled, tmp_path / "kopia.db", tmp_path)
    with filled.reading() as tx:
        for lane in Lane:
            held = pauses.active(tx, NOW + timedelta(days=400), lane)
            assert held is not None
            assert held.scope == backup.RESTORED


def test_what_was_there_before_is_set_aside_whole(filled: Database, tmp_path: Path) -> None:
    backup.back_up(filled, tmp_path / "kopia.db", at=NOW)
    with filled.transaction() as tx:
        documents.insert_document(tx, new(), at=NOW, actor="test")
    then = content(filled)
    restored = put_back(filled, tmp_path / "kopia.db", tmp_path)
    assert restored.set_aside is not None
    aside = Database.in_file(restored.set_aside)
    assert content(aside) == then
    aside.close()


def test_new_rows_go_on_after_the_restored_ones(filled: Database, tmp_path: Path) -> None:
    backup.back_up(filled, tmp_path / "kopia.db", at=NOW)
    put_back(filled, tmp_path / "kopia.db", tmp_path)
    with filled.transaction() as tx:
        documents.insert_document(tx, new(), at=NOW, actor="test")
        assert len(documents.listing(tx)) == 5


def test_events_stay_append_only_after_a_restore(filled: Database, tmp_path: Path) -> None:
    backup.back_up(filled, tmp_path / "kopia.db", at=NOW)
    put_back(filled, tmp_path / "kopia.db", tmp_path)
    events = metadata.tables["events"]
    with pytest.raises(Exception, match="append-only"), filled.transaction() as tx:
        tx.execute(events.delete())


def test_a_backup_of_one_kind_of_database_goes_into_the_other(
    sqlite_database: Database, postgres_database: Database, tmp_path: Path
) -> None:
    for source, target in ((sqlite_database, postgres_database), (postgres_database, sqlite_database)):
        with source.transaction() as tx:
            schema.bind(tx, NIP, "sandbox", at=NOW)
            documents.insert_document(tx, new(), at=NOW, actor="test")
        file = tmp_path / f"{source.engine.dialect.name}.db"
        backup.back_up(source, file, at=NOW)
        then = content(source)
        put_back(target, file, tmp_path, aside=tmp_path / f"{target.engine.dialect.name}-before.db")
        assert content(target) == then


def test_a_backup_is_one_moment_though_the_worker_goes_on(filled: Database, tmp_path: Path) -> None:
    stop = threading.Event()
    with filled.transaction() as tx:
        for _ in range(300):
            documents.insert_document(tx, new(content=b"x" * 20_000), at=NOW, actor="test")

    def work() -> None:
        while not stop.is_set():
            with filled.transaction() as tx:
                for _ in range(3):
                    documents.insert_document(tx, new(content=b"y" * 20_000), at=NOW, actor="test")

    worker = threading.Thread(target=work)
    worker.start()
    told: list[tuple[int, int]] = []
    try:
        for round_ in range(3):
            backup.back_up(filled, tmp_path / f"{round_}.db", at=NOW, progress=lambda *so_far: told.append(so_far))
    finally:
        stop.set()
        worker.join()
    for round_ in range(3):
        copy = Database.in_file(tmp_path / f"{round_}.db")
        with copy.reading() as tx:
            found = documents.listing(tx, limit=100_000)
            assert (len(found) - 304) % 3 == 0, "half a transaction of the worker's"
            assert all(len(documents.history(tx, document.id)) >= 1 for document in found)
        copy.close()
    assert told
    assert all(done <= whole for done, whole in told)


def test_a_backup_is_for_its_owner_alone_and_leaves_nothing_beside_it(filled: Database, tmp_path: Path) -> None:
    folder = tmp_path / "kopie"
    folder.mkdir()
    for _ in range(2):
        backup.back_up(filled, folder / "ko pia.db", at=NOW)
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def other_file(path: Path) -> None:
    path.write_text("list zakupów")


def other_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.execute("CREATE TABLE zakupy (co TEXT)")


@pytest.mark.parametrize("make", [other_file, other_database])
def test_a_file_that_is_no_backup_is_neither_replaced_nor_restored(
    make: Callable[[Path], None], filled: Database, tmp_path: Path
) -> None:
    file = tmp_path / "inny"
    make(file)
    before = file.read_bytes()
    with pytest.raises(ConfigurationFault, match="nie jest kopią"):
        backup.back_up(filled, file, at=NOW)
    then = content(filled)
    with pytest.raises(ConfigurationFault, match="nie jest kopią"):
        put_back(filled, file, tmp_path)
    assert file.read_bytes() == before
    assert content(filled) == then


def test_a_damaged_backup_is_refused(filled: Database, tmp_path: Path) -> None:
    file = tmp_path / "kopia.db"
    backup.back_up(filled, file, at=NOW)
    whole = bytearray(file.read_bytes())
    whole[5_000:60_000] = b"\x00" * 55_000
    file.write_bytes(whole)
    with pytest.raises(ConfigurationFault, match="uszkodzony"):
        put_back(filled, file, tmp_path)


@pytest.mark.parametrize(("key", "value"), [("nip", "1111111111"), ("environment", "production")])
def test_another_buffers_backup_is_refused(key: str, value: str, filled: Database, tmp_path: Path) -> None:
    backup.back_up(filled, tmp_path / "kopia.db", at=NOW)
    then = content(filled)
    with pytest.raises(ConfigurationFault):
        put_back(filled, tmp_path / "kopia.db", tmp_path, **{key: value})
    assert content(filled) == then


def test_a_missing_backup_is_told(filled: Database, tmp_path: Path) -> None:
    with pytest.raises(NoSuchThing):
        put_back(filled, tmp_path / "nie ma.db", tmp_path)


def test_a_full_disk_leaves_no_half_backup(filled: Database, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationFault):
        backup.back_up(filled, tmp_path / "nie ma" / "kopia.db", at=NOW)
    assert not list(tmp_path.glob("**/kopia.db*"))


def test_a_bare_copy_of_the_file_counts_from_the_last_thing_it_knows(sqlite_database: Database, tmp_path: Path) -> None:
    later = NOW + timedelta(hours=5)
    with sqlite_database.transaction() as tx:
        schema.bind(tx, NIP, "sandbox", at=NOW)
        documents.insert_document(tx, new(), at=later, actor="test")
    backup.back_up(sqlite_database, tmp_path / "kopia.db", at=NOW)
    copy = Database.in_file(tmp_path / "kopia.db")
    with copy.transaction() as tx:
        facts.forget(tx, backup.BACKUP)
    copy.close()
    assert put_back(sqlite_database, tmp_path / "kopia.db", tmp_path).made_at == later


def test_a_restore_makes_a_database_where_there_was_none(filled: Database, tmp_path: Path) -> None:
    backup.back_up(filled, tmp_path / "kopia.db", at=NOW)
    empty = Database.in_file(tmp_path / "nowa" / "baza.db")
    restored = put_back(empty, tmp_path / "kopia.db", tmp_path)
    assert restored.set_aside is None
    assert content(empty) == content(filled)
    empty.close()


def test_what_stood_in_the_log_of_the_old_database_does_not_come_back(
    sqlite_database: Database, tmp_path: Path
) -> None:
    with sqlite_database.transaction() as tx:
        schema.bind(tx, NIP, "sandbox", at=NOW)
    backup.back_up(sqlite_database, tmp_path / "kopia.db", at=NOW)
    # A reader keeps the log from being folded in.
    held = sqlite_database.engine.connect().execution_options(ksefbuffer_reading=True)
    held.exec_driver_sql("SELECT count(*) FROM buffer")
    with sqlite_database.transaction() as tx:
        documents.insert_document(tx, new(), at=NOW, actor="test")
    put_back(sqlite_database, tmp_path / "kopia.db", tmp_path)
    held.close()
    with sqlite_database.reading() as tx:
        assert documents.listing(tx) == []
