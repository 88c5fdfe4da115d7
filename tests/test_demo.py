"""``ksefbuffer demo`` as a newcomer starts it: a process of its own, real sockets, a folder."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ksefbuffer import demo
from ksefbuffer.invoice.precheck import CheckContext, check

pytestmark = pytest.mark.process

PROGRAM = Path(sys.executable).with_name("ksefbuffer")
WITHIN_S = 120
GOOD = {"1-kilka-stawek", "2-uproszczona", "3-w-euro", "6-ten-sam-plik", "8-korekta"}
BAD = {"4-bledna-kwota": "C03", "5-data-przyszla": "D04", "7-numer-zajety": "D05"}


def environment(**more: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("KSEFBUFFER_")}
    return {**own, **more}


def finished(*arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, "demo", "--no-browser", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=WITHIN_S,
        env=environment(**environ),
    )


@contextmanager
def running(folder: Path, waits_for: str) -> Iterator[subprocess.Popen[str]]:
    """A demo that goes on until it is ended, once it has printed ``waits_for``."""
    with subprocess.Popen(
        [PROGRAM, "demo", "--no-browser", "--dir", folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        guard = threading.Timer(WITHIN_S, process.kill)
        guard.start()
        try:
            assert process.stdout is not None
            assert any(waits_for in line for line in process.stdout), "it ended without saying it"
            yield process
        finally:
            process.kill()
            guard.cancel()


def answers(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        path.name.removesuffix(".ksef.json"): json.loads(path.read_bytes())
        for path in (folder / "outbox").glob("*.ksef.json")
    }


def test_the_demo_ends_well_and_every_example_has_its_answer(tmp_path: Path) -> None:
    # Given a shell whose settings belong to a real buffer
    done = finished("--once", "--dir", tmp_path, KSEFBUFFER_ENVIRONMENT="production", KSEFBUFFER_NIP="1111111111")

    assert (done.returncode, done.stderr) == (0, "")
    told = answers(tmp_path)
    assert {name for name, answer in told.items() if answer["status"] == "sent"} == GOOD
    assert {name: answer["errors"][0]["code"] for name, answer in told.items() if answer["errors"]} == BAD
    for name in GOOD:
        assert told[name]["warnings"] == []
        assert told[name]["ksef_number"] in done.stdout
        assert told[name]["upo_file"] == f"{name}.upo.xml"
        assert told[name]["ksef_number"].encode() in (tmp_path / "outbox" / f"{name}.upo.xml").read_bytes()
    for name in BAD:
        assert told[name]["errors"][0]["message"] in done.stdout
    assert told["6-ten-sam-plik"]["ksef_number"] == told["1-kilka-stawek"]["ksef_number"]
    assert len({told[name]["ksef_number"] for name in GOOD}) == len(GOOD) - 1
    assert list((tmp_path / "inbox").iterdir()) == []
    assert str(tmp_path / "inbox") in done.stdout


def test_a_later_demo_in_the_same_folder_goes_on_with_it(tmp_path: Path) -> None:
    assert finished("--once", "--dir", tmp_path).returncode == 0
    before = answers(tmp_path)

    again = finished("--once", "--dir", tmp_path)

    assert (again.returncode, again.stderr) == (0, "")
    after = answers(tmp_path)
    assert {name: after[name] for name in before} == before
    numbers = {answer["ksef_number"] for answer in after.values()} - {None}
    assert len(numbers) == 2 * (len(GOOD) - 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_without_a_traceback(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path, "1-kilka-stawek.xml") as process:
        process.send_signal(number)
        rest, complaints = process.communicate(timeout=WITHIN_S)

    assert (process.returncode, complaints) == (0, "")
    assert str(tmp_path) in rest
    assert "Traceback" not in rest + (tmp_path / "demo.log").read_text(encoding="utf-8")


def test_an_invoice_of_ones_own_is_sent_too(tmp_path: Path) -> None:
    with running(tmp_path, "1-kilka-stawek.xml") as process:
        partial = tmp_path / "inbox" / "moja.xml.part"
        partial.write_bytes(_example(number="MOJA/1"))
        partial.rename(tmp_path / "inbox" / "moja.xml")
        assert process.stdout is not None
        assert any(re.search(r"moja\.xml .*MOJA/1 → 5265877635-", line) for line in process.stdout)


def test_a_second_demo_in_the_same_folder_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    with running(tmp_path, "1-kilka-stawek.xml") as process:
        second = finished("--once", "--dir", tmp_path)
        assert second.returncode == 2
        assert "pracuje już inny proces" in second.stderr
        assert "Traceback" not in second.stderr
        assert process.stdout is not None
        assert any("8-korekta.xml" in line and "UPO" in line for line in process.stdout)


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = finished("--once", "--dir", tmp_path, "--port", str(port))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"Port {port} jest zajęty" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = finished("--once", "--dir", tmp_path / "file" / "below")
    assert (done.returncode, done.stdout) == (2, "")
    assert "nie można użyć" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_folder_of_a_real_buffer_is_left_alone(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('nip = "5265877635"\n')
    done = finished("--once", "--dir", tmp_path)
    assert done.returncode == 2
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]
    assert config.read_text() == 'nip = "5265877635"\n'


def test_without_a_folder_a_temporary_one_is_made_and_named(tmp_path: Path) -> None:
    done = finished("--once", TMPDIR=str(tmp_path))
    assert done.returncode == 0
    (made,) = tmp_path.iterdir()
    assert str(made) in done.stdout
    assert answers(made).keys() == GOOD | BAD.keys()


def _example(number: str) -> bytes:
    now = datetime.now(UTC)
    content = demo._invoice(
        number, now.astimezone(ZoneInfo("Europe/Warsaw")).date(), [demo._Row("Młynek", "szt.", 1, "99.00", "23")]
    )
    report = check(content, CheckContext(nip=demo.NIP, environment="production", now=now))
    assert report.findings == ()
    return content
