"""A private PostgreSQL for the tests that want the real one: a server per test process, a database per test.

Without PostgreSQL's programs such tests skip, saying so; where ``CI`` is set they fail instead.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest

_numbers = count(1)


def _programs() -> Path:
    def version(folder: Path) -> float:
        try:
            return float(folder.parent.name)
        except ValueError:
            return 0.0

    folders = [folder.parent for folder in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    on_path = shutil.which("initdb")
    if folders:
        return max(folders, key=version)
    if on_path:
        return Path(on_path).parent
    message = "PostgreSQL's programs (initdb, pg_ctl) are absent: install Debian's package postgresql"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def _run(*command: str | Path) -> None:
    # initdb and postgres refuse to run as root.
    as_user = ("runuser", "-u", "postgres", "--") if os.geteuid() == 0 else ()
    done = subprocess.run(
        [*as_user, *map(str, command)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout.decode(errors='replace')}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a running server's maintenance database, without the leading driver name."""
    programs = _programs()
    # Not below pytest's own folder: a socket's path may have 107 bytes, and the server's user must reach it.
    home = Path(tempfile.mkdtemp(prefix="ksefbuffer-pg-"))
    try:
        home.chmod(0o755)
        data = home / "data"
        data.mkdir()
        if os.geteuid() == 0:
            shutil.chown(home, "postgres")
            shutil.chown(data, "postgres")
        _run(
            programs / "initdb",
            *("-D", data, "-U", "ksefbuffer", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"),
        )
        port = _started(programs, home, data)
        try:
            yield f"ksefbuffer@127.0.0.1:{port}/postgres"
        finally:
            _run(programs / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _started(programs: Path, home: Path, data: Path) -> int:
    for attempt in range(5):
        port = _free_port()
        options = (
            f"-p {port} -k {home} -c listen_addresses=127.0.0.1 -c fsync=off -c synchronous_commit=off "
            "-c full_page_writes=off -c shared_buffers=16MB -c max_connections=50"
        )
        try:
            _run(programs / "pg_ctl", "-D", data, "-l", home / "log", "-o", options, "-w", "-t", "60", "start")
        except RuntimeError:
            # Somebody may have taken the port meanwhile.
            if attempt == 4:
                log = home / "log"
                raise RuntimeError(log.read_text(errors="replace") if log.exists() else "no log") from None
            continue
        return port
    raise AssertionError("unreachable")


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """A fresh, empty database: ``postgresql+psycopg://…``; dropped after the test, connections or not."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(f"postgresql://{postgres_server}", autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
    yield f"postgresql+psycopg://{postgres_server.rpartition('/')[0]}/{name}"
    with psycopg.connect(f"postgresql://{postgres_server}", autocommit=True) as admin:
        admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
