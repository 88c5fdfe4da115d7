"""What integrators copy from docs/integration.md works as it stands there."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ksefbuffer.erp.answers import STATUS_PL
from ksefbuffer.erp.webhook import signature
from ksefbuffer.queue import people
from ksefbuffer.web.access import SCOPES
from ksefbuffer.web.site import Site
from tests.commanding import Run
from tests.conftest import Clock, Shop
from tests.process.running import free_port
from tests.samples import invoice
from tests.web.calling import Till
from tests.web.received import an_invoice_received

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "integration.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The text below a heading, up to the next heading of any level."""
    return re.split(
        r"(?m)^#{1,3} (?!.*`)", re.split(rf"(?m)^#+ {re.escape(title)}\n", TEXT, maxsplit=1)[1], maxsplit=1
    )[0]


def blocks(kind: str, text: str = TEXT) -> list[str]:
    return re.findall(rf"(?ms)^```{kind}\n(.*?)^```$", text)


class Place:
    """A shop whose duties work in the background, and its page."""

    def __init__(self, shop: Shop, url: str, secret: str, root: Path) -> None:
        self.shop, self.url, self.secret, self.root = shop, url, secret, root
        self.environ = {**os.environ, "BUFFER": url, "KEY": secret, "LC_ALL": "C.UTF-8"}

    def run(self, *command: str, given: str = "") -> str:
        done = subprocess.run(
            command,
            input=given,
            cwd=self.root,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def place(
    make_shop: Callable[..., Shop], serve: Callable[[Site], Any], clock: Clock, tmp_path: Path
) -> Iterator[Place]:
    shop = make_shop('[offline]\nmode = "off"')
    site = Site(shop.config, shop.database, clock, {})
    with shop.database.transaction() as tx:
        _, secret = people.add_key(tx, "wszystko", SCOPES, at=clock())
    url = serve(site).base_url
    stop = threading.Event()

    def works() -> None:
        while not stop.wait(0.05):
            while shop._steps():
                pass
            # KSeF takes a moment for an invoice, by the clock that all of them share.
            clock.forward(0.2)

    thread = threading.Thread(target=works)
    thread.start()
    workplace = tmp_path / "erp"
    workplace.mkdir()
    (workplace / "FV-1.xml").write_bytes(invoice())
    try:
        yield Place(shop, url, secret, workplace)
    finally:
        stop.set()
        thread.join(20)


def test_the_object_is_the_one_that_comes_back(client: httpx.Client, api_key: Callable[..., str]) -> None:
    (told,) = blocks("json")
    document = Till(client, api_key("send")).send().json()
    del document["links"]
    assert list(json.loads(told)) == list(document)


def test_every_state_says_what_to_do() -> None:
    told = re.findall(r"(?m)^\| `(\w+)` \|", section("What to do in each state"))
    assert sorted(told) == sorted(["status", *STATUS_PL])


def test_every_shell_snippet_of_the_http_door_works(place: Place) -> None:
    an_invoice_received(Site(place.shop.config, place.shop.database, place.shop.clock, {}))
    script = "set -eu\n" + "\n".join(
        block for title in ("A till", "Asking", "Received invoices") for block in blocks("sh", section(title))
    )
    assert script.count("$BUFFER/api/v1/") >= 10
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    said = place.run("sh", given=script)

    assert said.splitlines()[0] == "202"
    answer = json.loads((place.root / "answer.json").read_bytes())
    assert (answer["status"], answer["reference"]) == ("sent", "paragon/17")
    assert (place.root / "copy.xml").read_bytes() == invoice()
    assert (place.root / "invoice.pdf").read_bytes().startswith(b"%PDF")
    assert answer["ksef_number"] in (place.root / "qr1.svg").read_text()
    (number,) = [one["ksef_number"] for one in json.loads((place.root / "page.json").read_bytes())["items"]]
    assert (place.root / f"{number}.xml").exists()
    assert "zgodna z dostawą" in said


def test_the_python_till_works_and_tells_of_a_refusal(place: Place) -> None:
    (till,) = blocks("python", section("Python"))
    (place.root / "till.py").write_text(till)
    said = place.run(sys.executable, "till.py", "FV-1.xml").split()
    assert said[0] == "sent"
    assert said[1].startswith("5265877635-")
    (place.root / "bad.xml").write_bytes(invoice(nip="1111111111"))
    done = subprocess.run(
        [sys.executable, "till.py", "bad.xml"],
        cwd=place.root,
        env=place.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "nie przeszła kontroli" in done.stderr


def test_the_folder_snippet_works(place: Place) -> None:
    (snippet,) = blocks("bash", section("Folder"))
    root = place.shop.root
    (root / "FV-1.xml").write_bytes(invoice())
    done = subprocess.run(
        ["bash", "-eu"], input=snippet, cwd=root, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["status"], answer["reference"]) == ("sent", "zam/17")


@pytest.mark.process
def test_the_sandbox_of_a_ci_starts_as_written(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    begin, ask = blocks("sh", section("Against the sandbox"))
    ksef, page = free_port(), free_port()
    program = tmp_path / "bin" / "ksefbuffer"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m ksefbuffer "$@"\n')
    program.chmod(0o755)
    script = (
        "\n".join(
            (
                "set -eu",
                "trap 'kill $(jobs -p); wait' EXIT",
                f"export KSEFBUFFER_WEB__PORT={page}",
                begin,
                'curl -sf -H "Authorization: Bearer $KEY" http://127.0.0.1:8080/api/v1/status > status.json',
                ask,
            )
        )
        .replace("8090", str(ksef))
        .replace("8080", str(page))
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("KSEFBUFFER_")}
    path = f"{program.parent}{os.pathsep}{clean['PATH']}"
    done = subprocess.run(
        ["bash"],
        input=script,
        cwd=tmp_path,
        env={**clean, "PATH": path, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    status = json.loads((tmp_path / "status.json").read_bytes())
    assert (status["nip"], status["environment"]) == ("5265877635", "sandbox")
    assert (tmp_path / "inbox").is_dir()
    assert "[]" in done.stdout


def test_the_sql_is_right_for_the_printed_tables(run: Run) -> None:
    (snippet,) = blocks("sql")
    with sqlite3.connect(":memory:") as erp:
        erp.executescript(run("table", "ddl", "--dialect", "sqlite").out)
        erp.executescript(snippet)
        assert erp.execute("SELECT id, reference FROM ksef_outgoing").fetchall() == [("FV/1/2026", "zam/17")]
    erp.close()


def test_the_signature_check_knows_the_buffer_from_others() -> None:
    (snippet,) = blocks("python", section("Webhooks"))
    ast.parse(snippet)
    known: dict[str, Any] = {}
    exec(compile(snippet, "integration.md", "exec"), known)
    body = '{"status": "sent", "łódź": 1}'.encode()
    assert known["is_from_the_buffer"](body, signature("sekret", body), "sekret")
    assert not known["is_from_the_buffer"](body + b" ", signature("sekret", body), "sekret")
    assert not known["is_from_the_buffer"](body, signature("inny", body), "sekret")


def test_every_figure_to_watch_is_told(client: httpx.Client) -> None:
    named = set(re.findall(r"ksefbuffer_(\w+)", section("Watching")))
    told = set(re.findall(r"(?m)^# TYPE ksefbuffer_(\w+)", client.get("/metrics").text))
    # Not told while there is nothing to tell of.
    assert named - told <= {"next_deadline_minutes", "last_pull_age_seconds"}
    assert len(named) >= 8


def test_every_door_and_link_inside_leads_somewhere() -> None:
    headings = {
        re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in re.findall(r"(?m)^#+ (.*)$", TEXT)
    }
    links = re.findall(r"\]\(#([^)]+)\)", TEXT)
    assert len(links) >= 3
    assert [link for link in links if link not in headings] == []
