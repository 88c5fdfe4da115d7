"""A till that waits: answered as soon as there is something to print, and never longer than it said."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest

from ksefbuffer.queue import documents
from ksefbuffer.queue.documents import Document
from ksefbuffer.queue.states import Event, State
from ksefbuffer.web.api.waiting import Lookout
from ksefbuffer.web.site import Site
from tests.process.running import until
from tests.queue.builders import AN_ERROR, move
from tests.samples import invoice
from tests.web.calling import INVOICES, Till

ONLINE_ALONE = '[offline]\nmode = "off"'


@pytest.fixture
def make_till(
    make_site: Callable[..., Site], serve: Callable[..., Any], clock: Any
) -> Iterator[Callable[..., tuple[Till, Site]]]:
    """``make_till(settings)``: a program with a key, and the site it calls."""
    from ksefbuffer.queue import people

    clients: list[httpx.Client] = []

    def make(settings: str = "") -> tuple[Till, Site]:
        site = make_site(settings)
        with site.database.transaction() as tx:
            _, secret = people.add_key(tx, "kasa", ["send", "read"], at=clock())
        clients.append(httpx.Client(base_url=serve(site).base_url, timeout=60))
        return Till(clients[-1], secret), site

    yield make
    for client in clients:
        client.close()


@contextmanager
def a_worker(site: Site, work: Callable[[Any, Document], None]) -> Iterator[None]:
    """Somebody who does ``work`` on every document that comes, once, in a transaction of its own each."""
    stop, done = threading.Event(), set[int]()

    def go() -> None:
        while not stop.wait(0.02):
            with site.database.reading() as tx:
                waiting = [one for one in documents.listing(tx) if one.id not in done]
            for document in waiting:
                with site.database.transaction() as tx:
                    work(tx, documents.get(tx, document.id))
                done.add(document.id)

    thread = threading.Thread(target=go)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
        assert not thread.is_alive()


def numbers(tx: Any, document: Document) -> None:
    move(tx, move(tx, document, Event.BIND), Event.NUMBER)


def refuses(tx: Any, document: Document) -> None:
    bound = move(tx, document, Event.BIND)
    documents.apply(
        tx, bound, Event.REFUSE, at=document.received_at, actor="ksef", errors=[AN_ERROR], judged_by_ksef=True
    )


def timed(call: Callable[[], httpx.Response]) -> tuple[dict[str, Any], float]:
    began = time.monotonic()
    answer = call()
    assert answer.status_code in (200, 202), answer.text
    return answer.json(), time.monotonic() - began


@pytest.mark.parametrize(("work", "status"), [(numbers, "sent"), (refuses, "error")])
def test_the_verdict_is_told_as_soon_as_it_is_there(
    make_till: Callable[..., tuple[Till, Site]], work: Callable[[Any, Document], None], status: str
) -> None:
    till, site = make_till()
    with a_worker(site, work):
        document, took = timed(lambda: till.send(wait=30))
    assert document["status"] == status
    assert bool(document["ksef_number"]) == (status == "sent")
    assert took < 15


def test_without_a_wait_the_answer_comes_at_once(make_till: Callable[..., tuple[Till, Site]]) -> None:
    till, _ = make_till()
    document, took = timed(till.send)
    assert document["status"] == "queued"
    assert took < 5


def test_a_wait_that_brings_nothing_ends_in_time_and_says_how_it_stands(
    make_till: Callable[..., tuple[Till, Site]],
) -> None:
    till, site = make_till(ONLINE_ALONE)
    document, took = timed(lambda: till.send(wait=2))
    assert document["status"] == "queued"
    assert 2 <= took < 10
    with site.database.reading() as tx:
        assert not documents.find(tx, document["document_id"]).offline


def test_a_failure_that_is_tried_again_later_than_the_wait_is_told_at_once(
    make_till: Callable[..., tuple[Till, Site]], clock: Any
) -> None:
    till, site = make_till(ONLINE_ALONE)
    with a_worker(site, lambda tx, document: _fails(tx, document, seconds=120)):
        document, took = timed(lambda: till.send(wait=30))
    assert (document["status"], document["errors"][0]["code"]) == ("failed", "C03")
    assert took < 15


def test_a_failure_that_is_tried_again_within_the_wait_is_waited_for(
    make_till: Callable[..., tuple[Till, Site]],
) -> None:
    till, site = make_till(ONLINE_ALONE)

    def fails_then_succeeds(tx: Any, document: Document) -> None:
        failed = _fails(tx, document, seconds=5)
        threading.Timer(1.0, lambda: succeed(failed.id)).start()

    def succeed(row_id: int) -> None:
        with site.database.transaction() as tx:
            numbers(tx, documents.get(tx, row_id))

    with a_worker(site, fails_then_succeeds):
        document, took = timed(lambda: till.send(wait=30))
    assert document["status"] == "sent"
    assert took < 15


def _fails(tx: Any, document: Document, *, seconds: float) -> Document:
    again = document.received_at + timedelta(seconds=seconds)
    return documents.apply(
        tx, document, Event.FAIL, at=document.received_at, actor="test", errors=[AN_ERROR], next_attempt_at=again
    )


def test_a_document_that_is_known_and_final_needs_no_wait(make_till: Callable[..., tuple[Till, Site]]) -> None:
    till, site = make_till()
    with a_worker(site, numbers):
        till.send(wait=30)
    document, took = timed(lambda: till.send(wait=30))
    assert document["status"] == "sent"
    assert took < 5


# The offline answer

KOD_II = "https://qr-test.ksef.mf.gov.pl/certificate/Nip/5265877635/5265877635/0123456789ABCDEF/abc/def"


@contextmanager
def states_the_mode(site: Site) -> Iterator[None]:
    """As the worker does for a document that is to be offline."""
    stop = threading.Event()

    def go() -> None:
        while not stop.wait(0.02):
            with site.database.reading() as tx:
                asked = [one for one in documents.listing(tx) if one.offline and one.offline_mode is None]
            for document in asked:
                with site.database.transaction() as tx:
                    at = document.received_at
                    documents.change(
                        tx,
                        document.id,
                        offline_mode="offline24",
                        offline_since=at,
                        offline_deadline=at + timedelta(days=1),
                        certificate_url=KOD_II,
                    )

    thread = threading.Thread(target=go)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)


def test_near_the_end_the_till_gets_the_offline_answer_with_both_codes(
    make_till: Callable[..., tuple[Till, Site]],
) -> None:
    till, site = make_till()
    with states_the_mode(site):
        document, took = timed(lambda: till.send(wait=4))
    assert document["status"] == "queued"
    assert took < 10
    links = document["links"]
    assert till.get(links["qr1"]).content.startswith(b"\x89PNG")
    assert till.get(links["qr2"]).content.startswith(b"\x89PNG")
    assert document["verification_url"]
    with site.database.reading() as tx:
        assert documents.find(tx, document["document_id"]).offline


def test_a_failure_leads_to_the_offline_answer_without_waiting_for_the_end(
    make_till: Callable[..., tuple[Till, Site]],
) -> None:
    till, site = make_till()
    with states_the_mode(site), a_worker(site, lambda tx, document: _fails(tx, document, seconds=120) and None):
        document, took = timed(lambda: till.send(wait=40))
    assert document["status"] == "failed"
    assert document["links"]["qr2"]
    assert took < 20


def test_a_number_that_comes_in_time_keeps_the_document_online(make_till: Callable[..., tuple[Till, Site]]) -> None:
    till, site = make_till()
    with states_the_mode(site), a_worker(site, numbers):
        document, _ = timed(lambda: till.send(wait=20))
    assert document["status"] == "sent"
    assert document["links"]["qr2"] is None


@pytest.mark.parametrize("why", ["settings", "document"])
def test_where_offline_is_not_allowed_nobody_asks_for_it(make_till: Callable[..., tuple[Till, Site]], why: str) -> None:
    till, site = make_till(ONLINE_ALONE if why == "settings" else "")

    def wants_no_offline(tx: Any, document: Document) -> None:
        documents.change(tx, document.id, online_only=True)

    with states_the_mode(site), a_worker(site, wants_no_offline if why == "document" else lambda *_: None):
        document, took = timed(lambda: till.send(wait=4))
    assert document["links"]["qr2"] is None
    assert 4 <= took < 12
    with site.database.reading() as tx:
        assert not documents.find(tx, document["document_id"]).offline


def test_an_invoice_issued_offline_is_answered_once_its_codes_are_known(
    make_till: Callable[..., tuple[Till, Site]],
) -> None:
    till, site = make_till()
    with states_the_mode(site):
        document, took = timed(lambda: till.send(wait=30, offline="true"))
    assert document["links"]["qr2"]
    assert took < 15


# Many at once


def test_many_waits_share_one_look_and_leave_the_page_free(
    make_till: Callable[..., tuple[Till, Site]], monkeypatch: pytest.MonkeyPatch
) -> None:
    till, site = make_till(ONLINE_ALONE)
    looks: list[int] = []
    real = Lookout._read

    def counted(self: Lookout, row_ids: list[int]) -> Any:
        looks.append(len(row_ids))
        return real(self, row_ids)

    monkeypatch.setattr(Lookout, "_read", counted)
    secret = till.headers["Authorization"].removeprefix("Bearer ")

    def wait(number: int) -> dict[str, Any]:
        with httpx.Client(base_url=till.client.base_url, timeout=90) as mine:
            answer: dict[str, Any] = Till(mine, secret).send(invoice(f"A/{number}"), wait=60).json()
            return answer

    with ThreadPoolExecutor(50) as pool:
        waiting = [pool.submit(wait, number) for number in range(50)]
        until(lambda: looks and looks[-1] == 50, "all of them wait")
        # More of them than there are threads for handlers, and still the others are served.
        _, took = timed(lambda: till.get(INVOICES, limit=1))
        assert took < 5
        began, count = time.monotonic(), len(looks)
        until(lambda: len(looks) > count + 4, "some more looks")
        assert len(looks) - count <= (time.monotonic() - began) / 0.25 + 2
        with a_worker(site, numbers):
            answers = [one.result(60) for one in waiting]
    assert {answer["status"] for answer in answers} == {"sent"}
    assert len({answer["ksef_number"] for answer in answers}) == 50
    # Nobody waits any more, so nobody looks.
    until(lambda: _is_quiet(looks), "no more looks")


def _is_quiet(looks: list[int]) -> bool:
    count = len(looks)
    time.sleep(0.6)
    return len(looks) == count


def test_every_state_is_either_waited_for_or_told() -> None:
    from ksefbuffer.queue.listing import Glimpse
    from ksefbuffer.web.api.invoices import _has_answer

    assert {state for state in State if _has_answer(Glimpse(state, None, False, False, None))} == {
        State.SENT,
        State.ERROR,
        State.CANCELLED,
    }
