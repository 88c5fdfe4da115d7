"""Fixtures for everybody: both databases, a settable clock, and a whole buffer against an in-process KSeF."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ksefbuffer import config as configuration
from ksefbuffer.erp.folder import FolderConnector, Folders
from ksefbuffer.invoice.precheck import CheckContext
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.latarnia import Latarnia
from ksefbuffer.ksef.limits import LIMITS, NO_LIMIT, Limit, Limiter
from ksefbuffer.queue import schema
from ksefbuffer.queue.db import Database
from ksefbuffer.sandbox import Sandbox
from ksefbuffer.worker import Buffer, assemble, login_of, prepare
from tests.samples import NIP, NOW

pytest_plugins = ["tests.postgres", "tests.commanding"]

# Longer than the grace of a file that looks unfinished (settle 1 s, grace 5 s).
LONG_ENOUGH_S = 6.0

_numbers = count(1)


class Clock:
    """Stands still until moved."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        """Also a ``sleep`` that costs no time."""
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite file, to be copied."""
    path = tmp_path_factory.mktemp("template") / "template.db"
    database = Database(f"sqlite:///{path}")
    schema.upgrade(database)
    with database.engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA journal_mode = DELETE")
        connection.exec_driver_sql("BEGIN")
    database.close()
    return path


@pytest.fixture
def sqlite_database(migrated_sqlite: Path, tmp_path: Path) -> Iterator[Database]:
    path = tmp_path / "data" / "ksefbuffer.db"
    path.parent.mkdir()
    shutil.copy(migrated_sqlite, path)
    database = Database(f"sqlite:///{path}")
    yield database
    database.close()


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: str) -> str:
    """The name of a migrated, empty PostgreSQL database, to be copied by the server."""
    name = f"migrated_{os.getpid()}"
    with psycopg.connect(f"postgresql://{postgres_server}", autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
    database = Database(f"postgresql+psycopg://{postgres_server.rpartition('/')[0]}/{name}")
    schema.upgrade(database)
    database.close()
    return name


@pytest.fixture
def postgres_database(postgres_server: str, migrated_postgres: str) -> Iterator[Database]:
    name = f"copy_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(f"postgresql://{postgres_server}", autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{migrated_postgres}"')
        database = Database(f"postgresql+psycopg://{postgres_server.rpartition('/')[0]}/{name}")
        yield database
        database.close()
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Database:
    """Fresh and migrated, once on each kind of database."""
    name = "sqlite_database" if request.param == "sqlite" else "postgres_database"
    found: Database = request.getfixturevalue(name)
    return found


class Intake:
    """The folder connector alone, over real folders and a real database."""

    def __init__(self, root: Path, database: Database, clock: Clock, responses: tuple[str, ...] = ("json",)) -> None:
        self.root, self.database, self.clock = root, database, clock
        self.folders = Folders(root / "inbox", root / "outbox", root / "processed", root / "rejected", responses)
        self.inbox, self.outbox = self.folders.inbox, self.folders.outbox
        self.connector = self.started()

    def started(self) -> FolderConnector:
        """A connector as after a start of the daemon: it remembers nothing."""
        self.connector = FolderConnector(
            self.database,
            self.folders,
            context=lambda now: CheckContext(nip=NIP, environment="sandbox", now=now),
            settle=timedelta(seconds=1),
        )
        self.connector.prepare()
        return self.connector

    def scan(self) -> bool:
        return self.connector.take_in(self.clock())

    def take_in(self) -> None:
        """Scans until every file there, finished or given up on, has been taken."""
        self.scan()
        self.clock.forward(LONG_ENOUGH_S)
        while self.scan():
            pass

    def filed(self, folder: str) -> dict[str, bytes]:
        """What lies in ``processed`` or ``rejected``, by name, whatever the day."""
        return {path.name: path.read_bytes() for path in sorted((self.root / folder).glob("*/*"))}


@pytest.fixture
def intake(tmp_path: Path, sqlite_database: Database, clock: Clock) -> Intake:
    return Intake(tmp_path, sqlite_database, clock)


class Shop:
    """A whole buffer in one thread: its folders, its database, and a KSeF of its own, all on one clock."""

    def __init__(self, root: Path, clock: Clock, config: configuration.Config, database: Database) -> None:
        self.root, self.clock, self.config, self.database = root, clock, config, database
        self.sandbox = Sandbox(clock=clock, latency_s=0.2, limits="none", seed=1)
        self.buffer = self.started()

    def started(self) -> Buffer:
        """The buffer as after a start of the daemon."""
        if hasattr(self, "buffer"):
            self.buffer.ksef.close()
            if self.buffer.rows is not None:
                self.buffer.rows.table.close()
        ksef = Ksef(
            base_url="http://ksef.sandbox/v2",
            context_nip=self.config.nip,
            login=login_of(self.config, now=self.clock()),
            limiter=Limiter(dict.fromkeys(LIMITS, Limit(NO_LIMIT, NO_LIMIT, NO_LIMIT))),
            clock=self.clock,
            sleep=self.clock.forward,
            transport=self.sandbox.transport(),
        )
        latarnia = Latarnia(
            "http://ksef.sandbox/latarnia", self.clock, self.clock.forward, transport=self.sandbox.transport()
        )
        self.buffer = assemble(
            self.config,
            clock=self.clock,
            sleep=self.clock.forward,
            database=self.database,
            ksef=ksef,
            latarnia=latarnia,
        )
        prepare(self.buffer)
        return self.buffer

    @property
    def inbox(self) -> Path:
        return self.config.inbox.path

    @property
    def outbox(self) -> Path:
        return self.config.inbox.outbox

    def work(self, rounds: int = 80) -> None:
        """Lets every duty do what it has, then the time pass, until nobody had anything to do for a while."""
        idle = 0
        for _ in range(rounds):
            busy = False
            while self._steps():
                busy = True
            idle = 0 if busy else idle + 1
            # Longer than any pause that a working KSeF causes; shorter than an idle session's life.
            if idle == 8:
                return
            self.clock.forward(1.0)
        raise AssertionError("the buffer does not come to rest")

    def _steps(self) -> bool:
        buffer, now = self.buffer, self.clock()
        done = [
            buffer.folder.take_in(now),
            buffer.rows.take_in(now) if buffer.rows is not None else False,
            buffer.lookout.step(),
            buffer.issuing.step(),
            buffer.dispatch.step(),
            buffer.reconcile.step(),
            buffer.deliver.step(self.clock()),
            buffer.printing.step(self.clock()),
        ]
        return any(done)

    def answer(self, name: str) -> dict[str, Any]:
        """The JSON answer to ``NAME.xml``."""
        told: dict[str, Any] = json.loads((self.outbox / f"{name}.ksef.json").read_bytes())
        return told

    def close(self) -> None:
        self.buffer.close()
        self.sandbox.close()


@pytest.fixture
def make_shop(tmp_path: Path, clock: Clock, migrated_sqlite: Path) -> Iterator[Callable[..., Shop]]:
    """``make_shop(settings="", database=None)``: ``settings`` is TOML to be added to the configuration."""
    made: list[Shop] = []

    def make(settings: str = "", database: Database | None = None) -> Shop:
        (tmp_path / "config.toml").write_text(f'nip = "{NIP}"\nenvironment = "sandbox"\n{settings}\n')
        config = configuration.load(tmp_path / "config.toml", {})
        if database is None:
            file = config.database.sqlite_file
            assert file is not None
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(migrated_sqlite, file)
            database = Database(config.database.url)
        made.append(Shop(tmp_path, clock, config, database))
        return made[-1]

    yield make
    for shop in made:
        shop.close()


@pytest.fixture
def shop(make_shop: Callable[..., Shop]) -> Shop:
    return make_shop()
