"""A consistent copy of a working buffer in one file, and the way back from it.

A backup is a SQLite file whatever the buffer's own database is, so it can be restored into either kind. What happened
after it was made is unknown to it, so a restored buffer carries the pause ``RESTORED``: nothing is sent until the
sender has asked KSeF what it has (``sender/restored.py``).
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, func, insert, select, text

from ksefbuffer.errors import ConfigurationFault, NoSuchThing
from ksefbuffer.queue import facts, pauses, schema, sessions
from ksefbuffer.queue.db import Database, StorageFault
from ksefbuffer.queue.models import buffer, documents, events, metadata

# The fact in a backup that says when it was made, and the one in a restored buffer that says what is to be made up.
BACKUP = "backup"
RESTORED = "restored"
_PAGES_AT_ONCE = 2_000
_ROWS_AT_ONCE = 500

Progress = Callable[[int, int], None]
"""Told (done, whole) as the copy grows."""


@dataclass(frozen=True)
class Restored:
    """``made_at``: when the backup was made; ``set_aside``: where the database before it lies, if there was one."""

    made_at: datetime
    documents: int
    set_aside: Path | None


def back_up(database: Database, path: Path, *, at: datetime, progress: Progress = lambda done, whole: None) -> int:
    """Writes the buffer as it stands now to ``path``, whole or not at all; the worker goes on meanwhile.

    An older backup under this name is replaced, any other file is not. Returns the size in bytes. Raises
    ConfigurationFault when the place cannot be used, StorageFault when the database cannot be read.
    """
    if path.exists() and not _is_backup(path):
        raise ConfigurationFault(
            f"Plik {path} już jest i nie jest kopią bufora.", action="Podaj inną nazwę; bufor go nie zastąpi."
        )
    part = path.with_name(path.name + ".part")
    with _writing(part):
        # Only its owner may read what holds every invoice.
        part.unlink(missing_ok=True)
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        if database.is_sqlite:
            _copy_pages(_file_of(database), part, progress)
        else:
            _copy_rows_out(database, part, progress)
        copy = Database.in_file(part)
        with copy.transaction() as tx:
            facts.put(tx, BACKUP, {"at": at.isoformat()}, at=at)
        copy.close()
        _seal(part)
        part.replace(path)
        _sync(path.parent)
        return path.stat().st_size


def restore(
    database: Database,
    path: Path,
    *,
    nip: str,
    environment: str,
    aside: Path,
    at: datetime,
    progress: Progress = lambda done, whole: None,
) -> Restored:
    """Puts a backup in the place of the buffer's database; the caller holds the worker's lock.

    What was there before is set aside in the file ``aside``. Raises NoSuchThing, ConfigurationFault (no backup of this
    buffer, or of a newer program), StorageFault.
    """
    if not path.is_file():
        raise NoSuchThing(f"Nie ma pliku {path}.", action="Podaj ścieżkę do kopii z ksefbuffer backup.")
    if not _is_backup(path):
        raise ConfigurationFault(
            f"{path} nie jest kopią bufora albo jest uszkodzony.", action="Podaj plik z ksefbuffer backup."
        )
    target = _file_of(database) if database.is_sqlite else aside
    part = target.with_name(target.name + ".restoring")
    with _writing(part):
        part.unlink(missing_ok=True)
        shutil.copyfile(path, part)
        part.chmod(0o600)
        made_at, count = _make_ready(part, nip=nip, environment=environment, at=at)
        if database.is_sqlite:
            set_aside = _replace_file(database, target, part, aside)
        else:
            set_aside = _replace_rows(database, part, aside, at=at, progress=progress)
            part.unlink()
    return Restored(made_at, count, set_aside)


@contextmanager
def _writing(part: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigurationFault(
            f"Nie można zapisać {part}: {error.strerror}.", action="Sprawdź folder, prawa i miejsce na dysku."
        ) from error
    except sqlite3.Error as error:
        raise StorageFault(
            f"Kopiowanie bazy nie udało się: {error}.", action="Sprawdź miejsce na dysku i spróbuj ponownie."
        ) from error
    finally:
        for leftover in (part, part.with_name(part.name + "-wal"), part.with_name(part.name + "-shm")):
            with suppress(OSError):
                leftover.unlink(missing_ok=True)


def _file_of(database: Database) -> Path:
    name = database.engine.url.database
    if not name or name == ":memory:":
        raise ConfigurationFault("Bazy w pamięci nie da się skopiować.", action="Popraw [database] url.")
    return Path(name)


def _open(path: Path, *, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None)


def _is_backup(path: Path) -> bool:
    """Whether the file is a sound SQLite database with a buffer in it."""
    try:
        with closing(_open(path, mode="ro")) as file:
            if file.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                return False
            return bool(file.execute("SELECT count(*) FROM buffer").fetchone() == (1,))
    except sqlite3.Error:
        return False


def _copy_pages(source: Path, part: Path, progress: Progress) -> None:
    with closing(_open(source, mode="rw")) as here, closing(_open(part, mode="rw")) as there:
        # Held open, this view keeps the copy from starting anew whenever the worker commits.
        here.execute("BEGIN")
        here.execute("SELECT count(*) FROM buffer").fetchone()
        here.backup(
            there, pages=_PAGES_AT_ONCE, progress=lambda _status, left, whole: progress(whole - left, whole), sleep=0
        )
        here.execute("ROLLBACK")


def _copy_rows_out(database: Database, part: Path, progress: Progress) -> None:
    copy = Database.in_file(part)
    schema.upgrade(copy)
    source = database.engine.connect().execution_options(isolation_level="REPEATABLE READ", yield_per=_ROWS_AT_ONCE)
    with source as here, here.begin(), copy.transaction() as there:
        _copy_tables(here, there, progress)
    copy.close()


def _copy_tables(here: Connection, there: Connection, progress: Progress) -> None:
    tables = metadata.sorted_tables
    whole = sum(here.execute(select(func.count()).select_from(table)).scalar_one() for table in tables)
    done = 0
    for table in tables:
        for rows in here.execute(select(table)).partitions(_ROWS_AT_ONCE):
            there.execute(insert(table), [dict(row._mapping) for row in rows])
            done += len(rows)
            progress(done, whole)


def _seal(part: Path) -> None:
    """Makes the file stand alone (no log beside it) and durable."""
    with closing(_open(part, mode="rw")) as file:
        file.execute("PRAGMA journal_mode = DELETE")
    with part.open("rb") as written:
        os.fsync(written.fileno())


def _make_ready(part: Path, *, nip: str, environment: str, at: datetime) -> tuple[datetime, int]:
    """Brings the copy to this program's schema and writes into it what the sender has to make up for."""
    copy = Database.in_file(part)
    try:
        schema.upgrade(copy)
        with copy.transaction() as tx:
            schema.bind(tx, nip, environment, at=at)
            made_at = _made_at(tx)
            facts.forget(tx, BACKUP)
            value = {
                "since": made_at.isoformat(),
                "restored_at": at.isoformat(),
                # They may have taken invoices after the backup; soon they will look as settled as any.
                "open_then": [session.reference for session in sessions.unfinished(tx, "open", "closing")],
                "listed": [],
                "adopted": 0,
            }
            facts.put(tx, RESTORED, value, at=at)
            pauses.over(tx, RESTORED)
            pauses.pause(
                tx,
                RESTORED,
                at=at,
                until=pauses.UNTIL_DONE,
                code=RESTORED,
                message=f"po odtworzeniu kopii z {made_at:%Y-%m-%d %H:%M} UTC bufor uzgadnia z KSeF, co wysłano potem",
                action="Wysyłka ruszy sama, gdy wszystko będzie uzgodnione.",
            )
            count = int(tx.execute(select(func.count()).select_from(documents)).scalar_one())
    finally:
        copy.close()
    _seal(part)
    return made_at, count


def _made_at(tx: Connection) -> datetime:
    """When the backup was made; of a bare copy of the file, the last thing that it knows of."""
    known = facts.get(tx, BACKUP)
    if known is not None:
        return datetime.fromisoformat(known[0]["at"]).astimezone(UTC)
    last: list[datetime | None] = [
        tx.execute(select(func.max(column))).scalar_one()
        for column in (events.c.at, documents.c.updated_at, buffer.c.created_at)
    ]
    return max(moment for moment in last if moment is not None)


def _replace_file(database: Database, target: Path, part: Path, aside: Path) -> Path | None:
    database.close()
    kept = None
    if target.exists():
        # The log's content goes into the file first: it must not be replayed into the restored one.
        with suppress(sqlite3.DatabaseError), closing(_open(target, mode="rw")) as old:
            old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            old.execute("PRAGMA journal_mode = DELETE")
        for ending in ("-wal", "-shm", "-journal"):
            beside = target.with_name(target.name + ending)
            if beside.exists():
                beside.rename(aside.with_name(aside.name + ending))
        try:
            os.link(target, aside)
        except OSError:
            shutil.copyfile(target, aside)
        kept = aside
    part.replace(target)
    _sync(target.parent)
    return kept


def _replace_rows(database: Database, part: Path, aside: Path, *, at: datetime, progress: Progress) -> Path | None:
    kept = None
    if schema.exists(database):
        back_up(database, aside, at=at)
        kept = aside
    schema.upgrade(database)
    copy = Database.in_file(part)
    with copy.reading() as here, database.transaction() as there:
        for table in reversed(metadata.sorted_tables):
            there.execute(text(f"ALTER TABLE {table.name} DISABLE TRIGGER USER"))
            there.execute(table.delete())
        _copy_tables(here, there, progress)
        for table in metadata.sorted_tables:
            there.execute(text(f"ALTER TABLE {table.name} ENABLE TRIGGER USER"))
            _number_on(there, table)
    copy.close()
    return kept


def _number_on(there: Connection, table: Table) -> None:
    """New rows get keys after the restored ones."""
    (key, *others) = table.primary_key.columns
    if others:
        return
    sequence = there.execute(
        text("SELECT pg_get_serial_sequence(:table, :column)"), {"table": table.name, "column": key.name}
    ).scalar_one()
    if sequence is not None:
        last: Any = there.execute(select(func.max(key))).scalar_one()
        there.execute(text("SELECT setval(:sequence, :last, :used)"), {
            "sequence": sequence, "last": last or 1, "used": last is not None,
        })  # fmt: skip


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
