"""Pulling by real processes: everything arrives once, whatever is killed; and on demand."""

from __future__ import annotations

import base64
import json
import random
import sqlite3
import time
from pathlib import Path

import httpx
import pytest

from ksefbuffer.erp.ddl import ddl
from tests.process.running import Town, command, town, until
from tests.receiver import generator
from tests.receiver.generator import Made

pytestmark = pytest.mark.process


def seed(place: Town, some: list[Made]) -> dict[str, Made]:
    """The KSeF numbers they got."""
    body = [base64.b64encode(one.content).decode() for one in some]
    answer = httpx.post(f"http://127.0.0.1:{place.port}/sandbox/seed", json=body, timeout=60).raise_for_status()
    return dict(zip(answer.json()["ksefNumbers"], some, strict=True))


def files(place: Town) -> dict[str, bytes]:
    found = sorted((place.root / "incoming").rglob("*.xml"))
    return {str(path.relative_to(place.root / "incoming")): path.read_bytes() for path in found}


def everything_is_filed(place: Town, given: dict[str, Made]) -> bool:
    return sorted(files(place).values()) == sorted(one.content for one in given.values())


def test_what_ksef_holds_for_us_arrives_once_though_the_daemon_is_killed_again_and_again(tmp_path: Path) -> None:
    chance = random.Random(4)
    with town(tmp_path, settings="[incoming]\ninterval_minutes = 1\n") as place:
        place.start_ksef()
        (tmp_path / "reguły.toml").write_text(generator.rulebook_toml(), encoding="utf-8")
        assert command("init", cwd=tmp_path).returncode == 0
        assert command("rules", "import", "reguły.toml", cwd=tmp_path).returncode == 0
        given = seed(place, list(generator.many(400, seed=8)))
        for _ in range(6):
            buffer = place.start_buffer()
            time.sleep(chance.uniform(0.2, 3.0))
            buffer.kill()
        buffer = place.start_buffer()
        until(lambda: everything_is_filed(place, given), "every invoice lies in its folder", patience_s=240)
        folders = {path.rsplit("_", 1)[1].removesuffix(".xml"): str(Path(path).parent) for path in files(place)}
        # Corrections name originals that the sandbox has numbered anew; all others are where they belong.
        wrong = {
            number: (folders[number], one.folder)
            for number, one in given.items()
            if not one.corrects and folders[number] != one.folder
        }
        assert wrong == {}
        assert place.ask_ksef("deviations") == []
        assert buffer.terminate() == 0


def test_a_pull_on_demand_asks_the_daemon_or_does_it_itself(tmp_path: Path) -> None:
    erp = tmp_path / "erp.db"
    with sqlite3.connect(erp) as connection:
        connection.executescript(ddl("sqlite"))
    settings = f'[table]\nenabled = true\nurl = "sqlite:///{erp}"\n'
    with town(tmp_path, settings=settings) as place:
        place.start_ksef()
        assert command("init", cwd=tmp_path).returncode == 0
        given = seed(place, list(generator.many(7, seed=1)))
        alone = command("incoming", "pull", "--json", cwd=tmp_path)
        assert (alone.returncode, alone.stderr.count("Traceback")) == (0, 0), alone.stderr
        assert json.loads(alone.stdout)["new"] == 7
        assert everything_is_filed(place, given)
        with sqlite3.connect(erp) as connection:
            rows = dict(connection.execute("SELECT ksef_number, invoice_xml FROM ksef_incoming"))
        assert set(rows) == set(given)
        place.start_buffer()
        given |= seed(place, list(generator.many(3, seed=2)))

        def pulled() -> bool:
            # One that was pulled within the minute is not asked for again.
            asked = command("incoming", "pull", "--json", "--subject", "buyer", cwd=tmp_path)
            assert asked.returncode == 0, asked.stderr
            return everything_is_filed(place, given)

        until(pulled, "the daemon pulls and files them", patience_s=150)
        assert place.status()["last_pull"] is not None


def test_without_ksef_a_pull_says_so(tmp_path: Path) -> None:
    with town(tmp_path) as place:
        assert command("init", cwd=tmp_path).returncode == 0
        said = command("incoming", "pull", cwd=place.root)
        assert said.returncode == 3
        assert "Traceback" not in said.stderr + said.stdout
        assert "KSeF" in said.stdout + said.stderr
