"""The real thing: processes, sockets, signals, and kill -9."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from ksefbuffer.queue.db import Database
from tests.process.running import Process, Town, command, town, until
from tests.samples import NIP, a_nip, invoice

pytestmark = pytest.mark.process


def everything_is_told(place: Town, names: list[str]) -> bool:
    return all(
        place.answer(name).get("status") == "sent"
        and place.answer(name).get("upo_file")
        and (place.root / "outbox" / f"{name}.upo.xml").exists()
        for name in names
    )


def settle_the_books(place: Town, contents: dict[str, bytes]) -> None:
    """Each invoice has one KSeF number, told in its answer and its receipt; nothing was sent twice."""
    names = list(contents)
    try:
        until(lambda: everything_is_told(place, names), "every invoice has its number and its receipt", patience_s=180)
    except AssertionError as fault:
        left = {name: place.answer(name).get("status") for name in names}
        raise AssertionError(f"{fault}: {Counter(left.values())}; log: {place.buffer.text()[-3000:]}") from None  # type: ignore[union-attr]
    handed_in = place.ask_ksef("invoices")
    accepted = [one for one in handed_in if one["ksefNumber"]]
    assert Counter(one["invoiceNumber"] for one in accepted) == Counter(f"FV/{name}" for name in names)
    # A second copy would have been refused as a duplicate, but it must not even have been sent.
    twice = [number for number, times in Counter(one["sha256"] for one in handed_in).items() if times > 1]
    assert twice == []
    numbers = {one["invoiceNumber"]: one["ksefNumber"] for one in accepted}
    for name in names:
        answer = place.answer(name)
        assert answer["ksef_number"] == numbers[f"FV/{name}"]
        assert answer["ksef_number"].encode() in (place.root / "outbox" / f"{name}.upo.xml").read_bytes()
    assert place.ask_ksef("deviations") == []
    assert list((place.root / "inbox").iterdir()) == []
    filed = sorted(path.read_bytes() for path in (place.root / "processed").glob("*/*.xml"))
    assert filed == sorted(contents.values())


def today_s_invoices(count: int) -> dict[str, bytes]:
    # The real clock runs here, and an invoice must not be of tomorrow.
    today = time.strftime("%Y-%m-%d", time.gmtime())
    from datetime import date

    return {
        f"{number:03}": invoice(number=f"FV/{number:03}", seed=number, issue_date=date.fromisoformat(today))
        for number in range(count)
    }


def test_a_stream_of_invoices_survives_a_daemon_killed_again_and_again(tmp_path: Path) -> None:
    chance = random.Random(20261120)
    contents = today_s_invoices(25)
    left = list(contents)
    with town(tmp_path) as place:
        place.start_ksef()
        for _ in range(6):
            buffer = place.start_buffer()
            for _ in range(4):
                name = left.pop(0)
                place.drop(name, contents[name])
                time.sleep(chance.uniform(0, 0.15))
            time.sleep(chance.uniform(0, 0.5))
            assert buffer.alive, buffer.text()
            buffer.kill()
        place.drop(left[0], contents[left[0]])
        place.start_buffer()
        settle_the_books(place, contents)
        assert place.buffer is not None
        assert place.buffer.terminate() == 0


def test_a_killed_ksef_loses_and_doubles_nothing(tmp_path: Path) -> None:
    chance = random.Random(7)
    contents = today_s_invoices(12)
    left = list(contents)
    with town(tmp_path) as place:
        place.start_ksef()
        place.start_buffer()
        for _ in range(3):
            for _ in range(4):
                name = left.pop(0)
                place.drop(name, contents[name])
                time.sleep(chance.uniform(0, 0.1))
            assert place.ksef is not None
            place.ksef.kill()
            time.sleep(chance.uniform(0, 0.3))
            place.start_ksef()
        settle_the_books(place, contents)


def test_both_killed_together_lose_and_double_nothing(tmp_path: Path) -> None:
    contents = today_s_invoices(8)
    with town(tmp_path) as place:
        place.start_ksef()
        buffer = place.start_buffer()
        for name, content in contents.items():
            place.drop(name, content)
        until(lambda: place.ask_ksef("invoices"), "the first invoice is at KSeF")
        assert place.ksef is not None
        buffer.kill()
        place.ksef.kill()
        place.start_ksef()
        place.start_buffer()
        settle_the_books(place, contents)


def test_a_buffer_restored_from_yesterdays_backup_loses_and_doubles_nothing(tmp_path: Path) -> None:
    contents = today_s_invoices(16)
    names = list(contents)
    with town(tmp_path) as place:
        place.start_ksef()
        buffer = place.start_buffer()
        for name in names[:4]:
            place.drop(name, contents[name])
        until(lambda: everything_is_told(place, names[:4]), "the first are sent")
        made = command("backup", "kopia.db", cwd=tmp_path)
        assert (made.returncode, made.stderr) == (0, "")
        for name in names[4:12]:
            place.drop(name, contents[name])
        until(lambda: place.answer(names[11]).get("status") == "sent", "some more are sent")
        refused = command("restore", "kopia.db", cwd=tmp_path)
        assert refused.returncode == 2
        assert "Bufor pracuje" in refused.stderr
        buffer.kill()
        restored = command("restore", "kopia.db", cwd=tmp_path)
        assert (restored.returncode, restored.stderr) == (0, ""), restored.stderr
        assert "4 dokument" in restored.stdout
        for name in names[12:]:
            place.drop(name, contents[name])
        place.start_buffer()
        settle_the_books(place, contents)


def test_ksef_away_at_the_start_files_are_taken_and_sent_once_it_is_back(tmp_path: Path) -> None:
    contents = today_s_invoices(3)
    with town(tmp_path) as place:
        place.start_buffer()
        for name, content in contents.items():
            place.drop(name, content)
        until(lambda: not list((tmp_path / "inbox").iterdir()), "the files are taken")
        until(lambda: all(place.answer(name) for name in contents), "the first answers are there")
        status = until(
            lambda: (told := place.status())["ksef"]["available"] is False and told, "status says that KSeF is away"
        )
        assert status["healthy"] is False
        assert status["worker"]["running"] is True
        assert sum(status["queue"][state] for state in ("queued", "failed", "processing")) == 3
        assert status["oldest_waiting_at"]
        assert any("KSeF" in problem for problem in status["problems"])
        place.start_ksef()
        settle_the_books(place, contents)
        until(lambda: place.status()["healthy"], "status says that all is well")


def test_sigterm_ends_the_daemon_soon_and_well(tmp_path: Path) -> None:
    with town(tmp_path) as place:
        place.start_ksef()
        buffer = place.start_buffer()
        contents = today_s_invoices(2)
        for name, content in contents.items():
            place.drop(name, content)
        began = time.monotonic()
        assert buffer.terminate() == 0
        assert time.monotonic() - began < 20
        assert "Traceback" not in buffer.text()
        place.start_buffer()
        settle_the_books(place, contents)
        log = "".join(path.read_text() for path in tmp_path.glob("run-*.log"))
        assert "Traceback" not in log
        # Neither what an invoice says nor any token or signed link is in a log.
        for secret in ("Podmiot1", "Hurtownia Pod", "eyJ", "sig=", "Bearer", "token="):
            assert secret not in log


def test_sigterm_while_ksef_hangs_ends_the_daemon_too(tmp_path: Path) -> None:
    with town(tmp_path) as place:
        place.start_ksef()
        buffer = place.start_buffer()
        place._control.post("/sandbox/outage", json={"style": "timeout"}).raise_for_status()
        (name, content), *_ = today_s_invoices(1).items()
        place.drop(name, content)
        until(lambda: (tmp_path / "processed").exists() and list((tmp_path / "processed").glob("*/*")), "taken")
        assert buffer.terminate(within_s=60) == 0


def test_a_second_daemon_is_refused_in_polish_and_the_first_works_on(tmp_path: Path) -> None:
    with town(tmp_path) as place:
        place.start_ksef()
        first = place.start_buffer()
        second = command("run", "--no-web", cwd=tmp_path)
        assert second.returncode == 2
        assert f"PID {first.popen.pid}" in second.stderr
        assert "pracuje już inny proces" in second.stderr
        assert "Traceback" not in second.stderr
        contents = today_s_invoices(1)
        for name, content in contents.items():
            place.drop(name, content)
        settle_the_books(place, contents)


def test_whoever_asks_for_the_status_does_not_keep_a_daemon_from_starting(tmp_path: Path) -> None:
    with town(tmp_path) as place:
        assert command("init", cwd=tmp_path).returncode == 0
        asking = [Process("status", "--json", cwd=tmp_path, log=tmp_path / f"status-{n}.log") for n in range(4)]
        place.start_buffer()
        for process in asking:
            assert process.wait() in (0, 1)


def test_a_database_of_another_nip_is_refused(tmp_path: Path) -> None:
    with town(tmp_path):
        assert command("init", cwd=tmp_path).returncode == 0
        other = command("run", "--no-web", cwd=tmp_path, env={"KSEFBUFFER_NIP": a_nip(9)})
        assert other.returncode == 2
        assert NIP in other.stderr
        assert a_nip(9) in other.stderr
        assert "Traceback" not in other.stderr


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("[inbox]\npol_seconds = 2", "poll_seconds"),
        ("[inbox]\npath = 7", "inbox.path"),
        ('[inbox]\noutbox = "inbox"', "inbox.outbox"),
        ('[auth]\nmethod = "token"', "token"),
        ('[database]\nurl = "mysql://x/y"', "database.url"),
        ("to nie jest TOML", "TOML"),
    ],
)
def test_mistakes_in_the_configuration_stop_the_start_with_exit_2(tmp_path: Path, settings: str, told: str) -> None:
    with town(tmp_path, settings=settings):
        done = command("run", "--no-web", cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert told in done.stderr
        assert "Traceback" not in done.stderr


def test_a_standby_node_takes_over_from_a_killed_leader(tmp_path: Path, postgres_url: str) -> None:
    contents = today_s_invoices(6)
    names = list(contents)
    with town(tmp_path, settings=f'[database]\nurl = "{postgres_url}"') as place:
        place.start_ksef()
        leader = place.start_buffer()
        standby = place.start_buffer(ready=False)
        until(lambda: "standing by" in standby.text(), "the second node stands by")
        for name in names[:3]:
            place.drop(name, contents[name])
        leader.kill()
        for name in names[3:]:
            place.drop(name, contents[name])
        until(lambda: " works" in standby.text(), "the second node leads")
        settle_the_books(place, contents)
        assert standby.terminate() == 0


def test_a_leader_whose_lock_is_gone_ends_itself(tmp_path: Path, postgres_url: str) -> None:
    with town(tmp_path, settings=f'[database]\nurl = "{postgres_url}"') as place:
        place.start_ksef()
        leader = place.start_buffer()
        database = Database(postgres_url)
        with database.transaction() as tx:
            tx.exec_driver_sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        database.close()
        assert leader.wait(60) == 3
        assert "Traceback" not in leader.text()


def test_the_sandbox_says_when_it_is_ready_in_one_line_of_json(tmp_path: Path) -> None:
    process = Process("sandbox", "--port", "0", cwd=tmp_path, log=tmp_path / "log")
    try:
        line = until(lambda: next((x for x in process.text().splitlines() if x.startswith("{")), ""), "the line")
        assert json.loads(line)["base_url"].endswith("/v2")
        port = json.loads(line)["base_url"].split(":")[2].split("/")[0]
        second = command("sandbox", "--port", port, cwd=tmp_path)
        assert second.returncode == 2
        assert port in second.stderr
        assert "Traceback" not in second.stderr
        assert process.terminate() == 0
    finally:
        process.end()
