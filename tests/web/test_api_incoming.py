"""Received invoices over HTTP: read without losing one, printed, decided on, pulled."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from ksefbuffer.queue import facts, incoming, people
from ksefbuffer.web.site import Site
from tests.conftest import Clock
from tests.offline.printed_pages import text_of
from tests.web.calling import INCOMING, Till, is_problem
from tests.web.received import an_invoice_received


@pytest.fixture
def erp(client: httpx.Client, api_key: Callable[..., str]) -> Till:
    return Till(client, api_key("incoming", "decide", name="erp"))


def received(site: Site, count: int, folder: str = "sklepy/7") -> list[str]:
    return [an_invoice_received(site, folder, number=f"FV/{folder}/{number}").ksef_number for number in range(count)]


def all_of(erp: Till, cursor: str | None = None, **asked: Any) -> tuple[list[str], str | None]:
    """Every invoice from a cursor on, page by page, and the last cursor."""
    found: list[str] = []
    more = True
    while more:
        page = erp.get(INCOMING, **asked, **({"cursor": cursor} if cursor else {})).json()
        found += [one["ksef_number"] for one in page["items"]]
        cursor, more = page["next_cursor"], page["more"]
    return found, cursor


def test_an_erp_that_keeps_its_cursor_gets_each_invoice_once(erp: Till, site: Site) -> None:
    first = received(site, 5)
    found, cursor = all_of(erp, limit=2)
    assert found == first
    assert all_of(erp, cursor, limit=2) == ([], cursor)
    later = received(site, 3, "koszty")
    found, cursor = all_of(erp, cursor, limit=2)
    assert found == later
    assert all_of(erp, cursor) == ([], cursor)


def test_before_anything_has_come_there_is_no_cursor(erp: Till) -> None:
    assert erp.get(INCOMING).json() == {"items": [], "next_cursor": None, "more": False}


def test_the_list_is_narrowed_by_folder_and_time_of_receipt(erp: Till, site: Site, clock: Clock) -> None:
    old = received(site, 4)
    clock.forward(3600)
    new = received(site, 2, "sklepy/70")
    assert all_of(erp, folder="sklepy/7")[0] == old
    assert all_of(erp, folder="sklepy")[0] == old + new
    assert all_of(erp, since="2026-11-20T11:00:00Z")[0] == new
    assert all_of(erp, since="2026-11-20")[0] == old + new
    assert all_of(erp, since="2026-11-21")[0] == []
    assert all_of(erp, since="2026-11-20T11:15:00Z", limit=1)[0] == new


def test_an_invoice_is_shown_with_why_it_lies_where_it_does(erp: Till, site: Site) -> None:
    one = an_invoice_received(site, seller_name="<script>alert(1)</script>")
    shown = erp.get(f"{INCOMING}/{one.ksef_number}").json()
    assert (shown["folder"], shown["verdict"]) == ("sklepy/7", "zasadna")
    assert shown["reasons"][0]["rule"] == "sklepy"
    assert shown["seller_name"] == "<script>alert(1)</script>"
    assert shown["gross"].count(".") == 1
    assert erp.get(shown["links"]["self"]).json() == shown


def test_its_bytes_and_its_page_can_be_had(erp: Till, site: Site) -> None:
    one = an_invoice_received(site)
    with site.database.reading() as tx:
        content = incoming.content(tx, one.id)
    asked = erp.get(f"{INCOMING}/{one.ksef_number}/xml")
    assert asked.content == content
    assert f'filename="{one.ksef_number}.xml"' in asked.headers["content-disposition"]
    page = erp.get(f"{INCOMING}/{one.ksef_number}/pdf")
    assert page.headers["content-type"] == "application/pdf"
    assert one.ksef_number in text_of(page.content)


def test_what_is_no_invoice_cannot_be_printed(erp: Till, site: Site) -> None:
    with site.database.transaction() as tx:
        from tests.queue.test_incoming import put

        one = put(tx, content=b"\x00\x01")
    is_problem(erp.get(f"{INCOMING}/{one.ksef_number}/pdf"), 409, "not-printable")


@pytest.mark.parametrize("number", ["nic", "%00", "..%2f", "1111111111-20261120-000000000000-00"])
def test_what_is_not_there_is_404(erp: Till, number: str) -> None:
    for path in ("", "/xml", "/pdf"):
        assert erp.get(f"{INCOMING}/{number}{path}").status_code == 404
    assert erp.post(f"{INCOMING}/{number}/decision", json={"decision": "scam"}).status_code == 404


@pytest.mark.parametrize("decision", ["accepted", "rejected", "scam"])
def test_a_decision_is_kept_with_its_comment_and_who_took_it(erp: Till, site: Site, decision: str) -> None:
    one = an_invoice_received(site)
    said = {"decision": decision, "comment": "Towar nie dotarł,\nzwrot"}
    shown = erp.post(f"{INCOMING}/{one.ksef_number}/decision", json=said).json()
    assert (shown["decision"], shown["comment"], shown["decided_by"]) == (decision, said["comment"], "key:erp")
    assert erp.get(f"{INCOMING}/{one.ksef_number}").json() == shown
    with site.database.reading() as tx:
        assert incoming.history(tx, one.id)[-1]["event"] == decision
        assert [(line.action, line.object) for line in people.noted(tx)] == [("incoming-decision", one.ksef_number)]


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"decision": "tak"},
        {"decision": "accepted", "komentarz": "x"},
        {"decision": "accepted", "comment": 7},
        {"decision": "accepted", "comment": "x" * 2001},
        {"decision": "accepted", "comment": "a\x00b"},
        [],
    ],
)
def test_a_decision_said_wrongly_changes_nothing(erp: Till, site: Site, said: Any) -> None:
    one = an_invoice_received(site)
    is_problem(erp.post(f"{INCOMING}/{one.ksef_number}/decision", json=said), 422, "invalid")
    assert erp.get(f"{INCOMING}/{one.ksef_number}").json()["decision"] is None


def test_a_decision_that_is_no_json_is_refused(erp: Till, site: Site) -> None:
    one = an_invoice_received(site)
    headers = {**erp.headers, "Content-Type": "application/json"}
    answer = erp.client.post(
        f"{INCOMING}/{one.ksef_number}/decision", content=b'{"decision": "\\ud800"', headers=headers
    )
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_pull_is_asked_of_the_running_buffer(erp: Till, site: Site) -> None:
    told = erp.post(f"{INCOMING}/pull")
    assert told.status_code == 202
    assert told.json() == {
        "subjects": ["buyer", "third", "authorized", "seller"],
        "worker_running": False,
        "last_pull": None,
    }
    with site.database.reading() as tx:
        wanted = facts.get(tx, "pull_wanted")
    assert wanted is not None
    assert wanted[0]["subjects"] == ["buyer", "third", "authorized", "seller"]


def test_what_the_api_asks_is_what_the_worker_heeds() -> None:
    from ksefbuffer.receiver import pull
    from ksefbuffer.web.api import incoming as api

    assert api._PULL_WANTED == pull.WANTED


def test_a_pull_that_is_switched_off_says_so(
    make_site: Callable[..., Site], serve: Callable[..., Any], clock: Clock
) -> None:
    site = make_site("[incoming]\nenabled = false")
    with site.database.transaction() as tx:
        _, secret = people.add_key(tx, "erp", ["incoming"], at=clock())
    with httpx.Client(base_url=serve(site).base_url) as client:
        is_problem(Till(client, secret).post(f"{INCOMING}/pull"), 409, "incoming-off")


def test_since_finds_its_place_among_many_without_an_index_over_the_time(site: Site, clock: Clock) -> None:
    from ksefbuffer.queue import listing

    marks = []
    for _ in range(40):
        marks.append((clock(), received(site, 1)[0]))
        clock.now += timedelta(minutes=1)
    with site.database.reading() as tx:
        for position, (moment, _) in enumerate(marks):
            found = [one.ksef_number for one in listing.received(tx, folders=None, since=moment, limit=100)]
            assert found == [number for _, number in marks[position:]]
        assert listing.received(tx, folders=None, since=clock(), limit=100) == []
        assert listing.received(tx, folders=(), limit=100) == []
