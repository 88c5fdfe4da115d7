"""The commands about the page: its users and keys, its process beside the worker's."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from ksefbuffer.queue import people
from ksefbuffer.queue.db import Database
from ksefbuffer.web import passwords
from tests.commanding import Run, Said
from tests.process.running import Process, Town, free_port, town, until

PASSWORD = "poprawny koń bateria"


@pytest.fixture
def made(run: Run, tmp_path: Path) -> Path:
    """A folder where ``init`` has run."""
    assert run("init").code == 0
    (tmp_path / "haslo.txt").write_text(PASSWORD + "\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def database(made: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{made / 'data' / 'ksefbuffer.db'}")
    yield opened
    opened.close()


def link_in(said: Said) -> str:
    found = re.search(r"http://127\.0\.0\.1:8080/zaproszenie/(\S{43})\n", said.out)
    assert found is not None, said
    return found[1]


def invited(database: Database, token: str) -> str | None:
    with database.reading() as tx:
        found = people.invited(tx, token, at=datetime.now(UTC))
    return found.login if found is not None else None


def user_of(database: Database, login: str) -> people.User:
    with database.reading() as tx:
        return people.user_of(tx, login)


# The first administrator


def test_init_makes_the_first_administrator_with_a_password(run: Run, tmp_path: Path) -> None:
    (tmp_path / "haslo.txt").write_text(PASSWORD, encoding="utf-8")
    said = run("init", "--admin", "Szef", "--password-file", "haslo.txt")
    assert said.code == 0
    assert "zaproszenie" not in said.out
    database = Database(f"sqlite:///{tmp_path / 'data' / 'ksefbuffer.db'}")
    szef = user_of(database, "szef")
    database.close()
    assert szef.admin
    assert passwords.verified(PASSWORD, szef.password_hash)
    assert PASSWORD not in said.out + said.err


def test_init_without_a_password_prints_a_link_and_does_it_once(run: Run, tmp_path: Path) -> None:
    said = run("init", "--admin", "szef")
    database = Database(f"sqlite:///{tmp_path / 'data' / 'ksefbuffer.db'}")
    assert invited(database, link_in(said)) == "szef"
    again = run("init", "--admin", "szef")
    assert again.code == 0
    assert "już jest" in again.out
    assert invited(database, link_in(said)) == "szef"
    database.close()


# Users


def test_a_user_gets_a_link_or_a_password(run: Run, made: Path, database: Database) -> None:
    said = run("user", "add", "Anna", "--name", "Anna Nowak")
    assert said.code == 0
    assert invited(database, link_in(said)) == "anna"
    assert not user_of(database, "anna").admin
    said = run("user", "add", "jan", "--admin", "--password-file", "haslo.txt")
    assert (said.code, "zaproszenie" in said.out) == (0, False)
    assert passwords.verified(PASSWORD, user_of(database, "jan").password_hash)

    said = run("user", "list", "--json")
    listed = {one["login"]: one for one in json.loads(said.out)}
    assert (listed["anna"]["name"], listed["anna"]["has_password"], listed["jan"]["admin"]) == (
        "Anna Nowak",
        False,
        True,
    )
    assert "hash" not in said.out
    assert "anna" in run("user", "list").out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("user", "add", "anna"), "już jest"),
        (("user", "add", "a b"), "Login może"),
        (("user", "add", "jan", "--password-file", "krotkie.txt"), "co najmniej 12"),
        (("user", "add", "jan", "--password-file", "brak.txt"), "Nie można odczytać"),
        (("user", "add", "jan", "--password-file", "puste.txt"), "jest pusty"),
        (("user", "password", "nikt"), "Nie ma użytkownika"),
        (("user", "disable", "nikt"), "Nie ma użytkownika"),
        (("user", "disable", "admin"), "ostatni czynny administrator"),
        (("apikey", "revoke", "nikt"), "Nie ma klucza"),
        (("apikey", "add", "a/b"), "Nazwa klucza"),
        (("apikey", "add", "kasa", "--scope", "incoming", "--folder", ""), "--folder jest puste"),
        (("apikey", "add", "kasa", "--folder", "sklepy/1", "--folder", " / "), "--folder jest puste"),
    ],
)
def test_what_cannot_be_is_told(run: Run, made: Path, arguments: tuple[str, ...], words: str) -> None:
    run("user", "add", "anna")
    (made / "krotkie.txt").write_text("krótkie")
    (made / "puste.txt").write_text("\n")
    said = run(*arguments)
    assert said.code in (1, 2)
    assert words in said.err


def test_a_password_is_set_anew_and_ends_sessions(run: Run, made: Path, database: Database) -> None:
    run("user", "add", "anna")
    now = datetime.now(UTC)
    with database.transaction() as tx:
        anna = people.user_of(tx, "anna")
        people.set_totp(tx, anna.id, "A" * 32)
        token = people.open_session(tx, anna.id, at=now, ip="")
    said = run("user", "password", "anna")
    assert invited(database, link_in(said)) == "anna"
    with database.reading() as tx:
        assert people.find_session(tx, token, at=now) is not None, "a link alone changes nothing yet"
    assert run("user", "password", "anna", "--password-file", "haslo.txt", "--reset-totp").code == 0
    with database.reading() as tx:
        assert people.find_session(tx, token, at=now) is None
    assert passwords.verified(PASSWORD, user_of(database, "anna").password_hash)
    assert user_of(database, "anna").totp_secret is None
    assert invited(database, link_in(said)) is None, "the link is void now"


def test_a_user_is_switched_off(run: Run, made: Path, database: Database) -> None:
    run("user", "add", "anna")
    assert run("user", "disable", "ANNA").code == 0
    assert not user_of(database, "anna").active


def test_a_key_is_printed_once_alone_on_its_line(run: Run, made: Path, database: Database) -> None:
    said = run("apikey", "add", "kasa-1", "--scope", "send", "--scope", "incoming", "--folder", "Sklep 1/")
    assert re.fullmatch(r"ksb_[\w-]{43}\n", said.out)
    secret = said.out.strip()
    with database.reading() as tx:
        key = people.find_key(tx, secret)
        assert key is not None
        assert people.own_grants(tx, key_id=key.id) == [("incoming", "Sklep 1", True)]
    said = run("apikey", "list", "--json")
    (listed,) = json.loads(said.out)
    assert (listed["name"], listed["scopes"], listed["folders"]) == ("kasa-1", ["incoming", "send"], ["Sklep 1"])
    assert secret not in said.out + run("apikey", "list").out
    assert run("apikey", "revoke", "kasa-1").code == 0
    with database.reading() as tx:
        assert people.find_key(tx, secret) is None
        assert [line.action for line in people.noted(tx)][:2] == ["key-revoke", "key-add"]
    assert run("apikey", "add", "kasa-1").code == 1, "a name stands for one key for ever"


def test_what_the_commands_did_is_in_the_log(run: Run, made: Path, database: Database) -> None:
    run("user", "add", "anna", "--password-file", "haslo.txt")
    run("user", "disable", "anna")
    with database.reading() as tx:
        lines = people.noted(tx)
    assert [(line.action, line.object) for line in lines][:2] == [("user-disable", "anna"), ("user-add", "anna")]
    assert all(line.actor.startswith("cli:") for line in lines)


def test_web_refuses_to_be_open_to_a_network_in_the_clear(run: Run, made: Path) -> None:
    config = made / "config.toml"
    config.write_text(config.read_text().replace('host = "127.0.0.1"\nport', 'host = "0.0.0.0"\nport'))
    said = run("web")
    assert said.code == 2
    assert "bez szyfrowania" in said.err


def test_web_says_that_its_port_is_taken(run: Run, made: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        config = made / "config.toml"
        config.write_text(config.read_text().replace("port = 8080", f"port = {other.getsockname()[1]}"))
        said = run("web")
    assert said.code == 2
    assert "jest zajęty" in said.err


# Processes


class Place:
    """A KSeF, a worker and its page."""

    def __init__(self, of: Town, port: int) -> None:
        self.town = of
        self.address = f"http://127.0.0.1:{port}"

    def start(self, **environ: str) -> Process:
        number = len(list(self.town.root.glob("run-*.log")))
        process = Process("run", cwd=self.town.root, log=self.town.root / f"run-{number}.log", env=environ)
        self.town.buffer = process
        until(lambda: not process.alive or " works" in process.text(), "the buffer works")
        assert process.alive, process.text()
        return process

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.address}/logowanie", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    port = free_port()
    with town(tmp_path, settings=f"[web]\nport = {port}") as made:
        made.start_ksef()
        yield Place(made, port)


def children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += map(int, task.read_text().split())
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.process
def test_the_page_runs_beside_the_worker_and_comes_back(place: Place) -> None:
    process = place.start(
        KSEFBUFFER_AUTH__PRIVATE_KEY_PASSWORD="bardzo-tajne",
        CREDENTIALS_DIRECTORY=str(place.town.root / "credentials"),
    )
    until(place.answers, "the page answers")
    (page,) = children(process.popen.pid)
    environ = Path(f"/proc/{page}/environ").read_bytes()
    assert b"bardzo-tajne" not in environ
    assert b"CREDENTIALS_DIRECTORY" not in environ
    opened = [str(one.readlink()) for one in Path(f"/proc/{page}/fd").iterdir()]
    assert [name for name in opened if name.endswith(".key")] == []

    os.kill(page, signal.SIGKILL)
    until(lambda: not is_alive(page), "the page is dead")
    until(place.answers, "the page came back")
    (second,) = children(process.popen.pid)
    assert second != page
    assert process.alive

    assert process.terminate() == 0
    until(lambda: not is_alive(second), "the page ended with the worker", patience_s=20)
    assert not place.answers()
    assert "Traceback" not in process.text()


@pytest.mark.process
def test_the_page_does_not_outlive_a_worker_that_was_killed(place: Place) -> None:
    process = place.start()
    until(place.answers, "the page answers")
    (page,) = children(process.popen.pid)
    process.kill()
    until(lambda: not is_alive(page), "the page noticed", patience_s=30)
    place.start()
    until(place.answers, "the next one has the port")


@pytest.mark.process
def test_a_taken_port_is_told_in_a_line_and_does_not_keep_the_worker(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with town(tmp_path, settings=f"[web]\nport = {port}") as made:
            made.start_ksef()
            process = Place(made, port).start()
            until(lambda: "zajęty" in process.text(), "it is told")
            assert process.alive
            assert "Traceback" not in process.text()
            assert process.terminate() == 0


@pytest.mark.process
def test_the_page_alone_starts_before_its_database(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "config.toml").write_text(
        f'nip = "5265877635"\nenvironment = "test"\n[auth]\nmethod = "token"\n[web]\nport = {port}\n'
    )
    page = Process("web", cwd=tmp_path, log=tmp_path / "web.log")
    try:
        address = f"http://127.0.0.1:{port}/logowanie"

        def status() -> int:
            try:
                return httpx.get(address, timeout=5).status_code
            except httpx.HTTPError:
                return 0

        assert until(status, "the page answers") == 503
        database = Process("db", "upgrade", cwd=tmp_path, log=tmp_path / "db.log", env={"KSEFBUFFER_AUTH__TOKEN": "x"})
        assert database.wait() == 0, database.text()
        until(lambda: status() == 200, "the page found its database")
        assert page.terminate() == 0
        assert "Traceback" not in page.text()
    finally:
        page.end()
