"""Fifty tills at once against real processes: KSeF's simulator, the worker, the page. Each gets its own number."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from tests.process.running import Process, Town, command, free_port, town, until
from tests.samples import invoice
from tests.web.calling import INVOICES, Till, bearer

pytestmark = pytest.mark.process

TILLS = 50


class Shop:
    """A town with a page."""

    def __init__(self, place: Town, port: int) -> None:
        self.place, self.url = place, f"http://127.0.0.1:{port}"
        self.secret = ""
        self.web: Process | None = None

    def start_web(self) -> None:
        self.web = Process("web", cwd=self.place.root, log=self.place.root / "web.log")
        until(lambda: self.answers("/health/live"), "the page answers")
        made = command("apikey", "add", "kasy", "--scope", "send", "--scope", "read", cwd=self.place.root)
        assert made.returncode == 0, made.stderr
        self.secret = next(word for word in made.stdout.split() if word.startswith("ksb_"))

    def answers(self, path: str) -> bool:
        try:
            return httpx.get(self.url + path).status_code == 200
        except httpx.HTTPError:
            return False

    def sell(self, number: int, wait_s: int) -> httpx.Response:
        today = datetime.now(UTC).astimezone(ZoneInfo("Europe/Warsaw")).date()
        content = invoice(f"P/{number}/2026", issue_date=today, seed=number)
        with httpx.Client(base_url=self.url, timeout=wait_s + 60) as client:
            key = {"Idempotency-Key": f"paragon-{number}"}
            return Till(client, self.secret).send(content, key, wait=wait_s, reference=str(number), priority="urgent")

    def end(self) -> None:
        if self.web is not None:
            self.web.end()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    port = free_port()
    with town(tmp_path, settings=f'[offline]\nmode = "off"\n[web]\nport = {port}') as place:
        place.start_ksef()
        place.start_buffer()
        made = Shop(place, port)
        try:
            made.start_web()
            yield made
        finally:
            made.end()


def has_its_own_number(answer: httpx.Response, number: int) -> dict[str, Any]:
    assert answer.status_code in (200, 202), answer.text
    document: dict[str, Any] = answer.json()
    assert (document["reference"], document["invoice_number"]) == (str(number), f"P/{number}/2026")
    assert document["status"] == "sent", document
    assert document["ksef_number"]
    return document


def nobody_was_sent_twice(shop: Shop, documents: list[dict[str, Any]]) -> None:
    at_ksef = shop.place.ask_ksef("invoices")
    assert sorted(one["ksef_number"] for one in documents) == sorted(one["ksefNumber"] for one in at_ksef)
    assert len({one["ksef_number"] for one in documents}) == len(documents) == TILLS


def test_fifty_tills_get_their_numbers_within_ten_seconds(shop: Shop) -> None:
    with ThreadPoolExecutor(TILLS) as pool:
        answers = list(pool.map(lambda number: shop.sell(number, 10), range(TILLS)))
    documents = [has_its_own_number(answer, number) for number, answer in enumerate(answers)]
    nobody_was_sent_twice(shop, documents)
    with httpx.Client(base_url=shop.url, headers=bearer(shop.secret)) as client:
        for one in documents[:3]:
            content = client.get(one["links"]["xml"]).content
            assert sha256(content).hexdigest() == one["sha256"]
        assert len(client.get(INVOICES, params={"limit": 200, "status": "sent"}).json()["items"]) == TILLS


def test_fifty_tills_get_their_numbers_although_the_worker_is_killed(shop: Shop) -> None:
    with ThreadPoolExecutor(TILLS) as pool:
        selling = [pool.submit(shop.sell, number, 60) for number in range(TILLS)]
        until(lambda: shop.place.ask_ksef("invoices"), "the first invoices are at KSeF")
        worker = shop.place.buffer
        assert worker is not None
        worker.kill()
        # The page takes invoices in without a worker, and says that nobody sends them.
        assert httpx.get(f"{shop.url}/health/ready").status_code == 503
        shop.place.start_buffer()
        answers = [one.result(180) for one in selling]
        again = list(pool.map(lambda number: shop.sell(number, 60), range(TILLS)))
    documents = [has_its_own_number(answer, number) for number, answer in enumerate(again)]
    nobody_was_sent_twice(shop, documents)
    # Those who waited through it were told the same.
    for number, answer in enumerate(answers):
        assert has_its_own_number(answer, number)["ksef_number"] == documents[number]["ksef_number"]


def test_the_page_takes_invoices_in_while_nobody_sends(shop: Shop) -> None:
    worker = shop.place.buffer
    assert worker is not None
    worker.terminate()
    document = shop.sell(1, 1).json()
    assert document["status"] == "queued"
    shop.place.start_buffer()
    has_its_own_number(shop.sell(1, 60), 1)
