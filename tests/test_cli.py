"""The command line of CONTRACT §2: what it says, to people and to programs, and its exit codes."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest

from ksefbuffer import cli
from ksefbuffer.erp.ddl import DIALECTS
from ksefbuffer.erp.submit import Offer, Options, Source, submit
from ksefbuffer.invoice.precheck import CheckContext
from ksefbuffer.queue import documents, facts, pauses
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.documents import Document
from ksefbuffer.queue.states import Event, State
from tests.commanding import Run, Said
from tests.queue.builders import move
from tests.samples import ISSUE_DATE, NIP, a_nip, invoice

NOW = datetime.now(UTC)


@pytest.fixture
def made(run: Run, tmp_path: Path) -> Path:
    """A folder where ``init`` has run."""
    assert run("init").code == 0
    return tmp_path


@pytest.fixture
def database(made: Path) -> Database:
    return Database(f"sqlite:///{made / 'data' / 'ksefbuffer.db'}")


def put(database: Database, number: str = "FV/1", state: State = State.QUEUED, **options: Any) -> Document:
    content = invoice(number=number, nip=NIP if state is not State.ERROR else a_nip(4), issue_date=ISSUE_DATE)
    context = CheckContext(nip=NIP, environment="sandbox", now=datetime(2026, 11, 20, 10, 15, tzinfo=UTC))
    name = number.replace("/", "-")
    document = submit(
        database, Offer(content, Source("folder", f"{name}.xml", name), Options(**options)), context, actor="test"
    ).document
    ways = {State.PROCESSING: [Event.BIND], State.SENT: [Event.BIND, Event.NUMBER], State.FAILED: [Event.FAIL]}
    with database.transaction() as tx:
        for event in ways.get(state, []):
            document = move(tx, document, event, NOW)
    assert document.state is state
    return document


def commands() -> list[list[str]]:
    found: list[list[str]] = [[]]

    def below(group: click.Group, path: list[str]) -> None:
        for name, command in group.commands.items():
            found.append([*path, name])
            if isinstance(command, click.Group):
                below(command, [*path, name])

    below(cli.main, [])
    return found


# Help and usage


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_explains_itself(run: Run, command: list[str]) -> None:
    said = run(*command, "--help")
    assert said.code == 0
    assert said.out.startswith("Usage: ")
    explained = said.out.split("\n\n")[1].strip()
    assert len(explained) > 15
    assert run(*command, "-h").out == said.out


def test_the_commands_of_this_step_are_all_there() -> None:
    wanted = {"demo", "sandbox", "init", "run", "check", "status", "queue", "table", "db"}
    assert wanted <= {" ".join(command) for command in commands()}
    assert {"queue list", "queue show", "queue retry", "queue cancel", "table ddl", "db upgrade"} <= {
        " ".join(command) for command in commands()
    }


@pytest.mark.parametrize(
    "wrong",
    [
        ["nosuch"],
        ["queue", "nosuch"],
        ["queue", "show"],
        ["queue", "list", "--status", "lost"],
        ["queue", "list", "--limit", "0"],
        ["check"],
        ["table", "ddl"],
        ["table", "ddl", "--dialect", "oracle"],
        ["--lang", "de", "status"],
        ["sandbox", "--port", "70000"],
        ["--nosuch"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2(run: Run, wrong: list[str]) -> None:
    said = run(*wrong)
    assert said.code == 2
    assert said.err.strip()


def test_the_program_says_its_version(run: Run) -> None:
    assert re.fullmatch(r".*\d+\.\d+\.\d+\n", run("--version").out)


# init


def test_init_makes_everything_and_says_what_is_next(run: Run, tmp_path: Path) -> None:
    said = run("init")

    assert said.code == 0
    assert "ksefbuffer run" in said.out
    assert NIP in said.out
    assert {path.name for path in tmp_path.iterdir()} >= {
        "config.toml",
        "data",
        "inbox",
        "outbox",
        "processed",
        "rejected",
    }
    assert (tmp_path / "config.toml").read_text(encoding="utf-8").count("#") > 30
    assert (tmp_path / "data" / "sandbox-auth.key").stat().st_mode & 0o077 == 0


def test_init_twice_changes_nothing(run: Run, made: Path) -> None:
    (made / "config.toml").write_text((made / "config.toml").read_text() + "# moje\n")
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file() and ".db" not in path.suffix}
    said = run("init")

    assert said.code == 0
    assert "zostaje bez zmian" in said.out
    assert {path: path.read_bytes() for path in before} == before


def test_init_for_a_company(run: Run, tmp_path: Path) -> None:
    company = a_nip(3)
    assert run("init", "--nip", company, "--environment", "test").code == 0
    assert f'nip = "{company}"' in (tmp_path / "config.toml").read_text()
    other = run("init", "--nip", NIP)
    assert other.code == 2
    assert company in other.err


def test_init_with_a_wrong_nip_leaves_nothing(run: Run, tmp_path: Path) -> None:
    said = run("init", "--nip", "1234567890")
    assert said.code == 2
    assert "nip" in said.err
    assert list(tmp_path.iterdir()) == []


def test_init_over_a_database_of_another_company_is_refused(run: Run, made: Path) -> None:
    config = made / "config.toml"
    config.write_text(config.read_text().replace(NIP, a_nip(3)))
    said = run("init")
    assert said.code == 2
    assert NIP in said.err
    assert a_nip(3) in said.err


def test_init_where_folders_cannot_be_made_says_which(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    said = run("init")
    assert said.code == 2
    assert str(tmp_path / "data") in said.err

    (tmp_path / "data").unlink()
    (tmp_path / "inbox").touch()
    said = run("init")
    assert said.code == 2
    assert str(tmp_path / "inbox") in said.err


def test_init_where_the_configuration_cannot_be_written_says_so(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = run("--config", tmp_path / "file" / "config.toml", "init")
    assert said.code == 2
    assert "config.toml" in said.err


# Configuration


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nip = ", "TOML"),
        (f'nip = "{NIP}"\nenviroment = "sandbox"', "environment"),
        ('nip = "123"\nenvironment = "sandbox"', "nip"),
        (f'nip = "{NIP}"\nenvironment = "produkcja"', "environment"),
        (f'nip = "{NIP}"\nenvironment = "sandbox"\n[inbox]\npoll_second = 1', "poll_seconds"),
        (f'nip = "{NIP}"\nenvironment = "sandbox"\n[database]\nurl = "oracle://x"', "database.url"),
    ],
)
@pytest.mark.parametrize("command", [["status"], ["queue", "list"], ["db", "upgrade"], ["run"], ["check", "x.xml"]])
def test_a_broken_configuration_is_2_and_names_the_key(
    run: Run, tmp_path: Path, command: list[str], text: str, told: str
) -> None:
    (tmp_path / "config.toml").write_text(text)
    said = run(*command)
    assert said.code == 2
    assert told in said.err


@pytest.mark.parametrize("command", [["status"], ["queue", "list"], ["db", "upgrade"], ["run"]])
def test_a_missing_configuration_is_2_and_says_where_it_was_looked_for(run: Run, command: list[str]) -> None:
    said = run("--config", "nie-ma.toml", *command)
    assert said.code == 2
    assert "nie-ma.toml" in said.err


@pytest.mark.parametrize(
    "command", [["status"], ["queue", "list"], ["queue", "show", "12345678"], ["queue", "cancel", "1"]]
)
def test_a_missing_database_is_2_and_says_what_to_run(run: Run, tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "config.toml").write_text(f'nip = "{NIP}"\nenvironment = "sandbox"\n')
    said = run(*command)
    assert said.code == 2
    assert "ksefbuffer init" in said.err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("command", [["status"], ["queue", "list"], ["db", "upgrade"], ["run"]])
def test_a_file_that_is_no_database_is_told_of(run: Run, made: Path, command: list[str]) -> None:
    (made / "data" / "ksefbuffer.db").write_bytes(b"to nie jest baza " * 400)
    for extra in made.glob("data/*.db-*"):
        extra.unlink()
    said = run(*command)
    assert said.code == 3
    assert said.err.strip()


@pytest.mark.parametrize("command", [["status"], ["queue", "list"], ["db", "upgrade"], ["run"]])
def test_a_database_server_that_is_away_is_3(run: Run, made: Path, command: list[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("KSEFBUFFER_DATABASE__URL", "postgresql+psycopg://ksef:tajne@127.0.0.1:1/x")
    said = run(*command)
    assert said.code == 3
    assert "tajne" not in said.err + said.out


def test_a_database_of_an_older_schema_says_what_to_run(run: Run, made: Path) -> None:
    with sqlite3.connect(made / "data" / "ksefbuffer.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0000'")
    connection.close()
    said = run("status")
    assert said.code == 2
    assert "ksefbuffer db upgrade" in said.err


AS_NOBODY = """
import os, sys
from ksefbuffer import cli
# Elsewhere with all rights: whatever Python loads late must be loaded while it may be read.
os.mkdir(os.path.join(sys.argv[1], "warm"))
os.chdir(os.path.join(sys.argv[1], "warm"))
for warm in (["init"], ["status"], ["queue", "list"], ["db", "upgrade"]):
    try: cli.main(args=["--config", "config.toml", *warm])
    except SystemExit: pass
print("---", file=sys.stderr, flush=True)
os.chdir(sys.argv[1])
os.setgroups([]); os.setgid(65534); os.setuid(65534)
cli.main(args=sys.argv[2:])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without rights")
@pytest.mark.parametrize("command", [["init"], ["run"], ["status"], ["queue", "list"], ["db", "upgrade"]], ids=" ".join)
def test_somebody_without_rights_is_told_so(run: Run, command: list[str]) -> None:
    import shutil
    import tempfile

    root = Path(tempfile.mkdtemp(prefix="ksefbuffer-cli-"))
    try:
        root.chmod(0o755)
        assert run("--config", root / "config.toml", "init").code == 0
        if command == ["init"]:
            (root / "config.toml").unlink()
        for path in root.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, str(root), "--config", "config.toml", *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            cwd=Path(__file__).parents[1],
        )
        assert "Traceback" not in done.stderr, done.stderr
        told = done.stderr.partition("---")[2].strip()
        if command in (["init"], ["run"]):
            assert done.returncode in (2, 3), done.stdout
            assert told
        else:
            # Reading alone may be allowed, as far as SQLite itself can do without writing.
            assert bool(told) == (done.returncode in (2, 3)), done.stderr
    finally:
        shutil.rmtree(root)


# check


def today() -> Any:
    return datetime.now(UTC).date()


def test_a_good_invoice_is_0_and_a_bad_one_1(run: Run, made: Path) -> None:
    (made / "dobra.xml").write_bytes(invoice(issue_date=today()))
    (made / "zla.xml").write_bytes(invoice(nip=a_nip(3), issue_date=today() + timedelta(days=3)))

    assert run("check", "dobra.xml") == Said(0, "dobra.xml: poprawna\n", "")
    bad = run("check", "zla.xml")
    assert bad.code == 1
    assert "zla.xml: BŁĘDNA" in bad.out
    assert re.search(r"  błąd D01 \(wiersz \d+, pole Podmiot1/", bad.out)
    assert "D04" in bad.out
    assert "→" in bad.out
    assert run("check", "dobra.xml", "zla.xml").code == 1
    assert "INVALID" in run("--lang", "en", "check", "zla.xml").out
    assert run("--lang", "en", "check", "dobra.xml").out == "dobra.xml: valid\n"


def test_check_for_programs(run: Run, made: Path) -> None:
    (made / "dobra.xml").write_bytes(invoice(issue_date=today()))
    (made / "zla.xml").write_bytes(b"<a>")
    said = run("check", "--json", "dobra.xml", "zla.xml")

    assert said.code == 1
    good, bad = json.loads(said.out)
    assert (good["file"], good["ok"], good["invoice_number"], good["form"]) == (
        "dobra.xml",
        True,
        "FV/1/2026",
        "FA (3)",
    )
    assert (bad["ok"], bad["errors"][0]["code"]) == (False, "B04")
    assert set(bad["errors"][0]) == {"code", "source", "message", "hint", "line", "field", "details"}


def test_check_without_a_configuration_takes_the_seller_s_nip_for_ours(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_bytes(invoice(nip=a_nip(8), issue_date=today()))
    assert run("check", "a.xml").code == 0


def test_a_huge_file_is_judged_without_being_read(run: Run, made: Path) -> None:
    with (made / "film.xml").open("wb") as file:
        file.truncate(3_000_000_000)
    said = run("check", "film.xml")
    assert said.code == 1
    assert "A06" in said.out


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo"])
def test_what_is_no_file_to_check_is_2(run: Run, made: Path, kind: str) -> None:
    if kind == "directory":
        (made / "x.xml").mkdir()
    elif kind == "fifo":
        os.mkfifo(made / "x.xml")
    said = run("check", "x.xml")
    assert said.code == 2
    assert "x.xml" in said.err


@pytest.mark.parametrize("name", [b"\xb3\xf3d\xbc.xml", b"dwa\nwiersze.xml", "żółw.xml".encode()])
@pytest.mark.parametrize("how", [[], ["--json"]])
def test_check_of_an_odd_name(run: Run, made: Path, name: bytes, how: list[str]) -> None:
    path = made / os.fsdecode(name)
    path.write_bytes(invoice(issue_date=today()))
    said = run("check", *how, path.name)
    assert said.code == 0
    if how:
        assert len(json.loads(said.out)) == 1
    else:
        assert said.out.count("\n") == 1


def test_check_of_an_odd_name_for_a_program_goes_through_a_pipe(made: Path) -> None:
    name = os.fsdecode(b"\xb3.xml")
    (made / name).write_bytes(invoice(issue_date=today()))
    done = subprocess.run(
        [sys.executable, "-c", "from ksefbuffer.cli import main; main()", "check", "--json", name],
        capture_output=True,
        cwd=made,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout.decode("utf-8"))) == 1


# status


def test_status_without_a_daemon_is_1_and_says_so(run: Run, made: Path) -> None:
    said = run("status")
    assert said.code == 1
    assert "Pracuje" in said.out
    assert "ksefbuffer run" in said.out
    told = json.loads(run("status", "--json").out)
    assert told["healthy"] is False
    assert told["worker"] == {"running": False}
    assert told["queue"] == dict.fromkeys(map(str, State), 0)
    assert told["ksef"]["available"] is None


def test_status_with_a_daemon_is_0_and_shows_the_queue(run: Run, database: Database) -> None:
    put(database, "1")
    put(database, "2", State.FAILED)
    put(database, "3", State.SENT)
    with database.transaction() as tx:
        facts.put(tx, "ksef", {"ok": True, "message": "KSeF odpowiada", "action": ""}, at=NOW)
        facts.put(tx, "passed_over", {"x.xml": "Pominięto x.xml: to nie jest zwykły plik."}, at=NOW)
    with database.sole_worker():
        said = run("status")
        told = json.loads(run("status", "--json").out)
        english = run("--lang", "en", "status").out
    database.close()

    assert said.code == 0
    assert "dostępny" in said.out
    assert "oczekuje 1" in said.out
    assert "wysłano 1" in said.out
    assert "to nie jest zwykły plik" in said.out
    assert "available" in english
    assert "queued 1" in english
    assert told["queue"]["failed"] == 1
    assert told["oldest_waiting_at"] == "2026-11-20T10:15:00.000Z"
    assert told["next_attempt_at"]
    assert told["inbox"]["passed_over"]
    assert told["certificate"]["days_left"] > 0


def test_status_tells_of_a_pause_and_is_1(run: Run, database: Database) -> None:
    with database.transaction() as tx:
        pauses.pause(
            tx, "ksef", at=NOW, until=NOW + timedelta(hours=1), code="503", message="przerwa: KSeF", action="Czekaj."
        )
    with database.sole_worker():
        said = run("status")
        told = json.loads(run("status", "--json").out)
    database.close()
    assert said.code == 1
    assert "przerwa: KSeF" in said.out
    assert told["problems"] == ["przerwa: KSeF Czekaj."]
    assert told["pauses"][0]["code"] == "503"


def test_a_limit_used_up_is_shown_and_is_no_illness(run: Run, database: Database) -> None:
    with database.transaction() as tx:
        pauses.pause(tx, "limit:send", at=NOW, until=NOW + timedelta(hours=1), code="429", message="limit", action="")
    with database.sole_worker():
        said = run("status", "--json")
    database.close()
    assert said.code == 0
    assert json.loads(said.out)["pauses"][0]["scope"] == "limit:send"


# queue


def test_the_queue_is_listed_newest_first(run: Run, database: Database) -> None:
    assert "Nie ma" in run("queue", "list").out
    assert "No such" in run("--lang", "en", "queue", "list").out
    assert json.loads(run("queue", "list", "--json").out) == []
    made = [put(database, "1", reference="WZ/1"), put(database, "2", State.SENT), put(database, "3", State.ERROR)]
    database.close()

    lines = run("queue", "list").out.splitlines()
    assert [line.split()[0] for line in lines] == [document.document_id for document in reversed(made)]
    assert ["błąd" in lines[0], "wysłano" in lines[1], "oczekuje" in lines[2]] == [True] * 3
    assert str(made[1].ksef_number) in lines[1]
    assert "error" in run("--lang", "en", "queue", "list").out
    told = json.loads(run("queue", "list", "--json", "--status", "queued", "--status", "sent").out)
    assert [one["invoice_number"] for one in told] == ["2", "1"]
    assert told[1]["reference"] == "WZ/1"
    assert told[1]["source"] == "1.xml"
    assert told[1]["verification_url"] is None
    assert told[0]["verification_url"].startswith("https://")
    assert len(json.loads(run("queue", "list", "--json", "--limit", "1").out)) == 1


def test_one_document_is_shown_with_its_history(run: Run, database: Database) -> None:
    document = put(database, "1", State.SENT)
    refused = put(database, "2", State.ERROR)
    database.close()

    said = run("queue", "show", document.document_id)
    assert said.code == 0
    assert str(document.ksef_number) in said.out
    assert "queued → processing" in " ".join(said.out.split())
    told = json.loads(run("queue", "show", "--json", document.document_id).out)
    assert [event["event"] for event in told["events"]] == ["accepted", "bind", "number"]
    assert told["arrivals"][0]["place"] == "1.xml"
    assert "D01: " in run("queue", "show", refused.document_id).out


@pytest.mark.parametrize("wrong", ["00000000-0000-7000-8000-000000000000", "0192", "%%%%%%%%%%", "żółw-żółw"])
@pytest.mark.parametrize("command", ["show", "retry", "cancel"])
def test_a_document_that_is_not_there_is_1(run: Run, database: Database, command: str, wrong: str) -> None:
    put(database)
    database.close()
    said = run("queue", command, wrong)
    assert said.code == 1
    assert "Nie ma dokumentu" in said.err


@pytest.mark.parametrize(
    ("state", "retried", "cancelled"),
    [
        (State.QUEUED, 1, 0),
        (State.PROCESSING, 1, 1),
        (State.SENT, 1, 1),
        (State.FAILED, 0, 0),
        (State.ERROR, 1, 0),
    ],
    ids=str,
)
def test_what_may_be_retried_and_cancelled(
    run: Run, database: Database, state: State, retried: int, cancelled: int
) -> None:
    document = put(database, "1", state)
    retry = run("queue", "retry", document.document_id)
    assert retry.code == retried
    with database.reading() as tx:
        after = documents.get(tx, document.id).state
    assert after is (State.QUEUED if state is State.FAILED else state)
    if state is State.ERROR:
        assert "nadal błąd" in retry.out
        assert "D01" in retry.out
    elif retried:
        assert "nie można teraz zrobić" in retry.err

    cancel = run("queue", "cancel", document.document_id)
    assert cancel.code == cancelled
    with database.reading() as tx:
        found = documents.get(tx, document.id)
        who = documents.history(tx, document.id)[-1]["actor"]
    database.close()
    assert found.state is (State.CANCELLED if not cancelled else state)
    if not cancelled:
        assert "anulowano" in cancel.out
        assert who.startswith("cli:")
        assert run("queue", "cancel", document.document_id).code == 1


def test_an_error_mended_since_goes_again_on_request(run: Run, database: Database) -> None:
    context = CheckContext(nip=a_nip(2), environment="sandbox", now=NOW)
    content = invoice(issue_date=today())
    document = submit(database, Offer(content, Source("folder", "a.xml", "a"), Options()), context, actor="t").document
    database.close()
    assert document.state is State.ERROR

    said = run("queue", "retry", document.document_id)
    assert said == Said(0, f"{document.document_id}: oczekuje\n", "")


def test_several_are_retried_even_if_one_may_not_be(run: Run, database: Database) -> None:
    sent, failed = put(database, "1", State.SENT), put(database, "2", State.FAILED)
    said = run("queue", "retry", sent.document_id, failed.document_id)
    assert said.code == 1
    with database.reading() as tx:
        assert documents.get(tx, failed.id).state is State.QUEUED
    database.close()


@pytest.mark.parametrize("place", ["100%", "a%2", "50%zł"])
def test_keys_of_a_table_are_shown_as_they_are(run: Run, database: Database, place: str) -> None:
    from ksefbuffer.erp.files import name_as_text

    context = CheckContext(nip=NIP, environment="sandbox", now=NOW)
    key = name_as_text(place)
    submit(database, Offer(invoice(), Source("table", key, key), Options()), context, actor="test")
    database.close()
    said = run("queue", "list", "--json")
    assert said.code == 0
    assert json.loads(said.out)[0]["source"] == place


# table, db, sandbox


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_table_s_ddl_is_printed_with_or_without_a_configuration(run: Run, tmp_path: Path, dialect: str) -> None:
    assert "ksef_outgoing" in run("table", "ddl", "--dialect", dialect).out
    (tmp_path / "config.toml").write_text(
        f'nip = "{NIP}"\nenvironment = "sandbox"\n[table]\noutgoing = "moje_wychodzace"\n'
    )
    said = run("table", "ddl", "--dialect", dialect)
    assert said.code == 0
    assert "moje_wychodzace" in said.out
    if dialect == "sqlite":
        connection = sqlite3.connect(":memory:")
        connection.executescript(said.out)
        connection.close()


def test_a_broken_configuration_is_not_passed_over_by_the_ddl(run: Run, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("nip = ")
    assert run("table", "ddl", "--dialect", "sqlite").code == 2


def test_db_upgrade_says_what_it_did(run: Run, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(f'nip = "{NIP}"\nenvironment = "sandbox"\n')
    assert "brak →" in run("db", "upgrade").out
    assert "aktualny" in run("db", "upgrade").out
    assert "up to date" in run("--lang", "en", "db", "upgrade").out


def test_a_state_file_that_cannot_be_used_is_told_of(run: Run, tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"to nie jest baza " * 400)
    for state in (tmp_path / "state", tmp_path / "state" / "below"):
        said = run("sandbox", "--port", "0", "--state", state)
        assert said.code == 2
        assert str(state) in said.err


def test_a_reader_that_stops_reading_is_no_fault(made: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -c 'from ksefbuffer.cli import main; main()' table ddl --dialect mssql | true",
        shell=True,
        cwd=made,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr


def test_the_language_may_come_from_the_environment(run: Run, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSEFBUFFER_LANG", "en")
    assert "Running" in run("status").out


def test_a_backup_is_restored_and_says_what_comes_next(run: Run, tmp_path: Path) -> None:
    run("init")
    assert run("backup", "kopia.db").code == 0
    said = run("restore", "kopia.db")
    assert said.code == 0
    assert "uzgodni z KSeF" in said.out
    assert list((tmp_path / "data").glob("*.before-restore-*"))
    held = run("status", "--json")
    (pause,) = json.loads(held.out)["pauses"]
    assert (pause["scope"], pause["until"]) == ("restored", None)
    assert "Wstrzymane do" in run("status").out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("backup",), 2),
        (("backup", "nie/ma/folderu.db"), 2),
        (("backup", "config.toml"), 2),
        (("restore", "nie-ma.db"), 1),
        (("restore", "config.toml"), 2),
    ],
)
def test_what_cannot_be_backed_up_or_restored_is_told(run: Run, arguments: tuple[str, ...], code: int) -> None:
    run("init")
    said = run(*arguments)
    assert said.code == code
    assert said.err
