"""One worker a buffer: refused beside another on SQLite, standing by on PostgreSQL."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading

import pytest
from sqlalchemy import text

from ksefbuffer.errors import ConfigurationFault
from ksefbuffer.queue.db import Database, lock_path, worker_is_running

PATIENCE_S = 30


def test_a_second_worker_on_the_same_file_is_refused_and_told_who_works(sqlite_database: Database) -> None:
    other = Database(str(sqlite_database.engine.url))
    with sqlite_database.sole_worker(), pytest.raises(ConfigurationFault, match=f"PID {os.getpid()}") as fault:
        other.sole_worker()
    assert fault.value.exit_code == 2
    with other.sole_worker():
        pass
    other.close()


def test_the_lock_of_a_killed_process_is_free(sqlite_database: Database) -> None:
    script = (
        "import sys, os, signal; from ksefbuffer.queue.db import Database; "
        "lock = Database(sys.argv[1]).sole_worker(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(sqlite_database.engine.url)], check=False)
    assert done.returncode == -9

    assert not worker_is_running(sqlite_database)
    with sqlite_database.sole_worker():
        assert worker_is_running(sqlite_database)


def test_whoever_asks_whether_a_worker_runs_does_not_keep_one_from_starting(sqlite_database: Database) -> None:
    path = lock_path(sqlite_database)
    assert path is not None
    path.touch()
    with path.open("rb") as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        timer = threading.Timer(0.1, fcntl.flock, (asking, fcntl.LOCK_UN))
        timer.start()
        with sqlite_database.sole_worker() as lock:
            assert lock.held()
        timer.join()


def test_a_lock_file_that_cannot_be_opened_is_told_of(sqlite_database: Database) -> None:
    path = lock_path(sqlite_database)
    assert path is not None
    path.mkdir()
    with pytest.raises(ConfigurationFault, match=str(path)):
        sqlite_database.sole_worker()


def test_a_standby_takes_over_when_the_leader_lets_go(postgres_database: Database) -> None:
    standby = Database(postgres_database.engine.url.render_as_string(hide_password=False))
    leads, over = threading.Event(), threading.Event()

    def stand_by() -> None:
        with standby.sole_worker():
            leads.set()
            over.wait(PATIENCE_S)

    leader = postgres_database.sole_worker()
    assert worker_is_running(standby)
    thread = threading.Thread(target=stand_by)
    thread.start()
    assert not leads.wait(0.3)
    leader.release()
    assert leads.wait(PATIENCE_S)
    over.set()
    thread.join()
    assert not worker_is_running(postgres_database)
    standby.close()


def test_a_leader_cut_off_from_its_server_knows_that_it_leads_no_more(postgres_database: Database) -> None:
    with postgres_database.sole_worker() as lock:
        assert lock.held()
        with postgres_database.transaction() as tx:
            tx.execute(text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"))
        assert not lock.held()


def test_standing_by_ends_when_asked_to(postgres_database: Database) -> None:
    standby = Database(postgres_database.engine.url.render_as_string(hide_password=False))
    stop = threading.Event()
    with postgres_database.sole_worker():
        threading.Timer(0.1, stop.set).start()
        with standby.sole_worker(wait=stop) as lock:
            assert stop.is_set()
            assert lock is not None
    standby.close()


def test_workers_of_two_buffers_on_one_server_do_not_meet(postgres_database: Database, postgres_url: str) -> None:
    other = Database(postgres_url)
    with postgres_database.sole_worker(), other.sole_worker() as lock:
        assert lock.held()
    other.close()
