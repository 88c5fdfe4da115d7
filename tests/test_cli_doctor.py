"""``doctor``: each trouble has its line, its way out and its exit code."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ksefbuffer.commands import doctor
from ksefbuffer.identity.selfsigned import make_selfsigned
from ksefbuffer.queue import overrides
from ksefbuffer.queue.db import Database
from tests.commanding import Run
from tests.process.running import Process, free_port, until
from tests.samples import NIP


@pytest.fixture(scope="module")
def ksef(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a sandbox that answers."""
    root, port = tmp_path_factory.mktemp("ksef"), free_port()
    process = Process("sandbox", "--port", str(port), cwd=root, log=root / "log")

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    until(answers, "the sandbox answers")
    yield port
    process.end()


def configured(root: Path, port: int, more: str = "", environment: str = "sandbox", web: int | None = None) -> None:
    (root / "config.toml").write_text(
        f'nip = "{NIP}"\nenvironment = "{environment}"\n[web]\nport = {web or free_port()}\n[ksef]\n'
        f'base_url = "http://127.0.0.1:{port}/v2"\nlatarnia_url = "http://127.0.0.1:{port}/latarnia"\n'
        f"timeout_seconds = 2\n{more}\n"
    )


def lines(run: Run) -> tuple[int, dict[str, dict[str, Any]]]:
    said = run("doctor", "--json")
    told = json.loads(said.out)
    assert told["healthy"] == (said.code == 0)
    return said.code, {one["about"].partition(" (")[0]: one for one in told["findings"]}


def test_a_sound_buffer_is_told_so(run: Run, tmp_path: Path, ksef: int) -> None:
    configured(tmp_path, ksef)
    assert run("init").code == 0
    (tmp_path / "incoming").mkdir()
    said = run("doctor")
    assert said.code == 0, said.out
    assert "✗" not in said.out
    for about in ("Baza danych: cała", "KSeF", "Latarnia: KSeF działa", "Zegar: różnica", "Folder inbox.path", "Dysk"):
        assert any(line.startswith("✓") and about in line for line in said.out.splitlines()), about
    assert not list((tmp_path / "inbox").iterdir()), "no probe is left behind"
    code, found = lines(run)
    assert code == 0
    assert found["Baza danych"]["mark"] == "ok"
    assert found["Usługa"]["mark"] == "warning", "nobody runs it"


def test_a_broken_configuration_is_the_first_and_only_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('nip = "123"\nenvironment = "sandbox"\n')
    code, found = lines(run)
    assert (code, list(found)) == (2, ["Konfiguracja"])
    assert "NIP" in found["Konfiguracja"]["told"]


def test_ksef_out_of_reach_is_exit_3(run: Run, tmp_path: Path) -> None:
    configured(tmp_path, free_port())
    run("init")
    code, found = lines(run)
    assert code == 3
    assert found["KSeF"]["mark"] == "error"
    assert found["KSeF"]["action"]
    assert found["Latarnia"]["mark"] == "warning"


def test_no_database_is_told_and_the_rest_goes_on(run: Run, tmp_path: Path, ksef: int) -> None:
    configured(tmp_path, ksef)
    code, found = lines(run)
    assert code == 1
    assert "ksefbuffer init" in found["Baza danych"]["action"]
    assert found["KSeF"]["mark"] == "ok"


def test_a_damaged_database_is_found(run: Run, tmp_path: Path, ksef: int) -> None:
    configured(tmp_path, ksef)
    run("init")
    file = tmp_path / "data" / "ksefbuffer.db"
    database = Database.in_file(file)
    with database.engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.exec_driver_sql("BEGIN")
    database.close()
    with file.open("r+b") as broken:
        size = file.stat().st_size
        broken.seek(size // 2)
        broken.write(b"\xff" * (size // 4))
    code, found = lines(run)
    assert code in (1, 3)
    assert found["Baza danych"]["mark"] == "error"


def test_another_companys_database_is_found(run: Run, tmp_path: Path, ksef: int) -> None:
    configured(tmp_path, ksef)
    run("init")
    text = (tmp_path / "config.toml").read_text()
    (tmp_path / "config.toml").write_text(text.replace(NIP, "7291836450"))
    code, found = lines(run)
    assert code == 1
    assert NIP in found["Baza danych"]["told"]


def test_certificates_decide_exit_4(run: Run, tmp_path: Path, ksef: int) -> None:
    configured(tmp_path, ksef, '[auth]\ncertificate = "a.crt"\nprivate_key = "a.key"')
    now = datetime.now(UTC)
    for made_at, code, mark, told in (
        (now - timedelta(days=4000), 4, "error", "wygasł"),
        (now, 0, "ok", "połączenie aktywne"),
    ):
        certificate, key = make_selfsigned(NIP, now=made_at)
        (tmp_path / "a.crt").write_bytes(certificate)
        (tmp_path / "a.key").write_bytes(key)
        (tmp_path / "a.key").chmod(0o644)
        run("init")
        (tmp_path / "incoming").mkdir(exist_ok=True)
        exit_code, found = lines(run)
        line = found["Certyfikat do logowania"]
        assert (exit_code, line["mark"]) == (code, mark), found
        assert told in line["told"]
        assert "chmod 600" in found["Klucz prywatny"]["action"]


def test_no_certificate_outside_the_sandbox_is_exit_4(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.toml").write_text(f'nip = "{NIP}"\nenvironment = "test"\n')
    run("init")
    monkeypatch.setattr(doctor, "_ksef", lambda *_: iter(()))
    monkeypatch.setattr(doctor, "_latarnia", lambda *_: iter(()))
    code, found = lines(run)
    assert (code, found["Certyfikat do logowania"]["mark"]) == (4, "error")
    assert "cert import" in found["Certyfikat do logowania"]["action"]


def test_a_folder_that_takes_no_files_is_found(run: Run, tmp_path: Path, ksef: int) -> None:
    configured(tmp_path, ksef)
    run("init")
    shutil.rmtree(tmp_path / "outbox")
    (tmp_path / "outbox").write_text("a file")
    code, found = lines(run)
    assert (code, found["Folder inbox.outbox"]["mark"]) == (1, "error")


def test_the_probe_leaves_nothing_where_it_cannot_finish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ksefbuffer.sender.probing import trouble_with

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left" in str(trouble_with(tmp_path))
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert trouble_with(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_found(run: Run, tmp_path: Path, ksef: int, monkeypatch: pytest.MonkeyPatch) -> None:
    configured(tmp_path, ksef)
    run("init")
    for free, mark, code in ((100_000_000, "error", 1), (1_000_000_000, "warning", 0)):
        usage = shutil.disk_usage(tmp_path)._replace(free=free)
        monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _place, usage=usage: usage)
        exit_code, found = lines(run)
        assert (exit_code, found["Dysk"]["mark"]) == (code, mark)


def test_a_clock_that_is_off_is_found(run: Run, tmp_path: Path, ksef: int) -> None:
    configured(tmp_path, ksef)
    run("init")
    for off, mark in ((timedelta(minutes=-10), "error"), (timedelta(seconds=45), "warning")):
        code, found = lines_at(tmp_path, off)
        assert found["Zegar"]["mark"] == mark
        assert code == (1 if mark == "error" else 0)


def lines_at(root: Path, off: timedelta) -> tuple[int, dict[str, Any]]:
    """What is found by a clock that is off."""
    from ksefbuffer.commands.base import Settings

    settings = Settings(root / "config.toml", "pl", lambda: datetime.now(UTC) + off)
    found = list(doctor.examined(settings))
    return max(one.exit_code for one in found), {
        one.about.partition(" (")[0]: {"mark": {"✓": "ok", "!": "warning", "✗": "error"}[one.mark]} for one in found
    }


def test_a_port_in_use_and_settings_from_the_page_are_told(run: Run, tmp_path: Path, ksef: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        configured(tmp_path, ksef, web=taken.getsockname()[1])
        run("init")
        database = Database.in_file(tmp_path / "data" / "ksefbuffer.db")
        with database.transaction() as tx:
            overrides.put(tx, {"sending.batch_from": 50}, actor="user:x", at=datetime.now(UTC))
        _, found = lines(run)
        assert "zajęty" in found["Strona"]["told"]
        assert found["Ustawienia ze strony"]["told"] == "sending.batch_from"
        with database.transaction() as tx:
            overrides.put(tx, {"sending.batch_from": -1}, actor="user:x", at=datetime.now(UTC))
        code, found = lines(run)
        database.close()
    assert (code, found["Ustawienia ze strony"]["mark"]) == (1, "error")


def test_a_machine_key_that_others_may_read_is_found(run: Run, tmp_path: Path, ksef: int) -> None:
    configured(tmp_path, ksef)
    run("init")
    (tmp_path / "data" / "machine.key").write_bytes(b"k" * 32)
    (tmp_path / "data" / "machine.key").chmod(0o644)
    code, found = lines(run)
    assert (code, found["Klucz maszyny"]["mark"]) == (4, "error")
    assert "chmod 600" in found["Klucz maszyny"]["action"]
