"""The engine, and the only place that commits.

``with database.transaction() as tx`` is the unit of durability: on return the change survives power loss. HTTP and
file effects never stand inside it; ``inside_transaction()`` lets tests prove that.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, NoSuchModuleError, OperationalError
from sqlalchemy.pool import NullPool

from ksefbuffer.errors import BufferFault, ConfigurationFault

log = logging.getLogger(__name__)

_LEADER_LOCK = 0x6B736566  # PostgreSQL advisory lock: "ksef"
_AFTER_COMMIT = "ksefbuffer_after_commit"
_LOCK_TRIES, _LOCK_PAUSE_S = 10, 0.05
_here = threading.local()


class StorageFault(BufferFault):
    """The database cannot be used now (disk full, file locked, server away); nothing was changed."""

    exit_code = 3


class Database:
    """One buffer's database, by SQLAlchemy URL. Safe for many threads; each transaction has its own connection."""

    def __init__(self, url: str | URL) -> None:
        try:
            parsed = make_url(url)
            # A statement's parameters are invoices: they have no place in an exception's text.
            options: dict[str, Any] = {"hide_parameters": True}
            if parsed.get_backend_name() != "sqlite":
                options["pool_pre_ping"] = True
            if parsed.get_backend_name() == "sqlite" and parsed.database:
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            self.engine: Engine = create_engine(parsed, **options)
        except (NoSuchModuleError, ModuleNotFoundError) as error:
            raise ConfigurationFault(
                f"Nie ma sterownika bazy danych dla {str(url).split(':', 1)[0]}.",
                action="Użyj sqlite:///… albo postgresql+psycopg://… w [database] url.",
            ) from error
        except OSError as error:
            raise ConfigurationFault(
                f"Nie można utworzyć folderu bazy danych: {error.strerror}.",
                action="Sprawdź [database] url i prawa zapisu.",
            ) from error
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
            self.engine.dialect.statement_compiler = _Hinting

    @classmethod
    def in_file(cls, path: Path) -> Database:
        """A SQLite database in this file, whatever its name holds."""
        return cls(URL.create("sqlite", database=str(path)))

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A writing transaction; leaving the block commits, an exception undoes everything.

        Raises StorageFault when the database cannot take it (full disk, lock, server away).
        """
        if inside_transaction():
            raise RuntimeError("a transaction inside a transaction")
        with self._translated(), self.engine.connect() as tx:
            tx.info[_AFTER_COMMIT] = []
            try:
                with tx.begin() as unit:
                    _here.open = True
                    try:
                        yield tx
                    finally:
                        _here.open = False
                    self._commit(unit)
                notes = tx.info[_AFTER_COMMIT]
            finally:
                tx.info.pop(_AFTER_COMMIT, None)
        for logger, message, values in notes:
            logger.info(message, *values)

    def _commit(self, unit: Any) -> None:
        """Its own method so that a test can stand between a step and its durability."""
        unit.commit()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A consistent view that takes no write lock. Raises StorageFault."""
        with self._translated(), self.engine.connect().execution_options(ksefbuffer_reading=True) as tx, tx.begin():
            yield tx

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            # SQLite tells of a file that is no database, or a damaged one, by the bare DatabaseError.
            if not isinstance(error, OperationalError | InterfaceError) and type(error) is not DatabaseError:
                raise
            raise StorageFault(
                f"Baza danych jest teraz niedostępna: {_first_line(error)}.",
                action="Sprawdź miejsce na dysku, prawa do pliku bazy i działanie serwera; praca zostanie ponowiona.",
            ) from error

    def close(self) -> None:
        self.engine.dispose()

    def sole_worker(self, *, wait: threading.Event | None = None) -> WorkerLock:
        """Admits one worker. On SQLite a second one is refused (ConfigurationFault); on PostgreSQL it stands by until
        the leader is gone, or until ``wait`` is set."""
        return _FileLock(self) if self.is_sqlite else _AdvisoryLock(self, wait or threading.Event())


class _Hinting(SQLiteCompiler):
    """Renders ``with_hint(table, "INDEXED BY …", "sqlite")``, which SQLAlchemy's own leaves out."""

    def get_from_hint_text(self, table: Any, text: str | None) -> str | None:
        return text


class WorkerLock:
    """Held while this process is the worker of its database."""

    def __enter__(self) -> WorkerLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def held(self) -> bool:
        return True

    def release(self) -> None:
        raise NotImplementedError


class _FileLock(WorkerLock):
    def __init__(self, database: Database) -> None:
        path = lock_path(database)
        self._file: IO[str] | None = None
        if path is None:
            return
        try:
            self._file = path.open("a+")
        except OSError as error:
            raise ConfigurationFault(
                f"Nie można otworzyć {path}: {error.strerror}.",
                action="Sprawdź [database] url i prawa do folderu bazy.",
            ) from error
        try:
            _lock_patiently(self._file)
        except OSError as error:
            self._file.seek(0)
            who = self._file.read().strip() or "?"
            self._file.close()
            raise ConfigurationFault(
                f"Na tej bazie pracuje już inny proces ksefbuffer (PID {who}): {path.with_suffix('')}.",
                action="Zatrzymaj tamten proces albo wskaż inną bazę w [database] url.",
            ) from error
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class _AdvisoryLock(WorkerLock):
    def __init__(self, database: Database, stop: threading.Event) -> None:
        # A connection of its own, outside the pool: the lock lives exactly as long as the connection does.
        # Over a broken network the server lets go of the lock; we must notice no later.
        self._engine = create_engine(
            database.engine.url,
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args={"keepalives_idle": 5, "keepalives_interval": 2, "tcp_user_timeout": 10_000},
        )
        self._connection: Connection | None = None
        said = False
        while not stop.is_set():
            with database._translated():
                if self._connection is None:
                    self._connection = self._engine.connect()
                taken = self._connection.execute(
                    text("SELECT pg_try_advisory_lock(:key)"), {"key": _LEADER_LOCK}
                ).scalar()
            if taken:
                return
            if not said:
                log.info("another node of this buffer leads; standing by")
                said = True
            stop.wait(1.0)

    def held(self) -> bool:
        if self._connection is None:
            return False
        try:
            self._connection.execute(text("SELECT 1"))
        except DBAPIError:
            return False
        return True

    def release(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._engine.dispose()


def lock_path(database: Database) -> Path | None:
    """Where the worker's lock of a SQLite database lies; None for a database in memory or on a server."""
    name = database.engine.url.database
    if not database.is_sqlite or not name or name == ":memory:":
        return None
    return Path(name + ".lock")


def worker_is_running(database: Database) -> bool:
    """Whether some process holds the worker's lock. Asks without taking it for longer than the question."""
    if database.is_sqlite:
        path = lock_path(database)
        if path is None or not path.exists():
            return False
        try:
            file = path.open("rb")
        except OSError as error:
            raise StorageFault(
                f"Nie można odczytać {path}: {error.strerror}.", action="Sprawdź prawa do folderu bazy."
            ) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
            return False
    with database.reading() as tx:
        found = tx.execute(
            text(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = :key AND granted "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            ),
            {"key": _LEADER_LOCK},
        ).scalar_one()
    return bool(found)


def _lock_patiently(file: IO[str]) -> None:
    """Takes the lock; who merely asks whether a worker runs holds it for a moment, and must not keep one from starting.

    Raises OSError when somebody keeps it.
    """
    for _ in range(_LOCK_TRIES - 1):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            threading.Event().wait(_LOCK_PAUSE_S)
        else:
            return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def inside_transaction() -> bool:
    """Whether this thread stands inside ``transaction()``."""
    return bool(getattr(_here, "open", False))


def insert_or(tx: Connection, table: Table) -> Any:
    """An INSERT that may say what to do ON CONFLICT: two threads may tell the same thing first."""
    return sqlite.insert(table) if tx.dialect.name == "sqlite" else postgresql.insert(table)


def log_after_commit(tx: Connection, logger: logging.Logger, message: str, *values: object) -> None:
    """Logs once the change is durable; a move that was undone leaves no line."""
    tx.info[_AFTER_COMMIT].append((logger, message, values))


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # The driver must not open transactions of its own: its deferred BEGIN loses updates (see _begin_sqlite).
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout = 10000")
    cursor.execute("PRAGMA journal_mode = WAL")
    # NORMAL may lose the last commits at power loss; an accepted invoice must not vanish.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A deferred writer that read first fails with "database is locked" whatever the timeout; IMMEDIATE queues instead.
    reading = connection.get_execution_options().get("ksefbuffer_reading")
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().split("\n", 1)[0] if error.orig else "brak połączenia"
