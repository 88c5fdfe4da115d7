"""Outgoing documents over HTTP: handed in, asked for, retried, withdrawn. Source: CONTRACT §6."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import zxingcpp
from PIL import Image

from ksefbuffer.erp.submit import Offer, Options, Source, submit
from ksefbuffer.invoice.precheck import CheckContext
from ksefbuffer.queue import documents
from ksefbuffer.queue.db import StorageFault
from ksefbuffer.queue.states import Event, State
from ksefbuffer.web.site import Site
from tests.conftest import Clock
from tests.offline.printed_pages import text_of
from tests.queue.builders import document_in, move
from tests.samples import NIP, invoice
from tests.web.calling import INVOICES, XML, Till, is_problem


@pytest.fixture
def till(client: httpx.Client, api_key: Callable[..., str]) -> Till:
    return Till(client, api_key("send", "read", name="kasa-1"))


def stored(site: Site, document_id: str) -> documents.Document:
    with site.database.reading() as tx:
        return documents.find(tx, document_id)


def read_qr(picture: bytes) -> str:
    (code,) = zxingcpp.read_barcodes(Image.open(BytesIO(picture)))
    return str(code.text)


# Handing in


def test_an_invoice_is_taken_as_it_is_and_answered_with_its_document(till: Till, site: Site) -> None:
    content = invoice()
    answer = till.send(content, reference="paragon/17", name="Żółty paragon #1.xml", priority="urgent")

    assert answer.status_code == 202
    document = answer.json()
    assert answer.headers["location"] == document["links"]["self"]
    assert (document["status"], document["status_pl"]) == ("queued", "oczekuje")
    assert (document["reference"], document["source"]) == ("paragon/17", "Żółty paragon #1.xml")
    assert document["invoice_number"] == "FV/1/2026"
    kept = stored(site, document["document_id"])
    assert kept.urgent
    with site.database.reading() as tx:
        assert documents.content(tx, kept.id) == content
        (event,) = documents.history(tx, kept.id)
    assert event["actor"] == "key:kasa-1"


def test_the_object_is_that_of_the_contract_and_links(till: Till) -> None:
    document = till.send().json()
    assert list(document) == [
        *("document_id", "source", "reference", "sha256", "size", "invoice_number", "issue_date", "form"),
        *("invoice_type", "status", "status_pl", "ksef_number", "accepted_at", "invoicing_mode", "session"),
        *("upo_file", "offline", "verification_url", "certificate_url", "jpk_marker", "waits_for", "warnings"),
        *("errors", "attempts", "next_attempt_at", "received_at", "updated_at", "links"),
    ]
    assert till.get(document["links"]["self"]).json() == document


def test_without_a_name_the_source_is_named_by_its_hash(till: Till) -> None:
    document = till.send().json()
    assert document["source"] == f"{document['sha256']}.xml"


def test_the_same_bytes_are_the_same_document(till: Till) -> None:
    first, again = till.send(reference="a"), till.send(reference="b")
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["document_id"] == first.json()["document_id"]
    assert len(till.get(INVOICES).json()["items"]) == 1


def test_bytes_that_came_by_a_folder_before_are_answered_under_this_request_s_names(till: Till, site: Site) -> None:
    content = invoice()
    offer = Offer(content, Source("folder", "stara.xml", "stara"), Options(reference="folder"))
    submit(site.database, offer, CheckContext(NIP, "sandbox", site.clock()), actor="folder")
    known = till.send(content, name="nowa.xml", reference="kasa")
    assert known.status_code == 200
    assert (known.json()["source"], known.json()["reference"]) == ("nowa.xml", "kasa")


def test_text_xml_with_a_charset_is_xml_too(till: Till) -> None:
    assert till.send(headers={"Content-Type": "Text/XML; charset=utf-8"}).status_code == 202


def test_what_the_check_refuses_is_told_with_findings_and_recorded(till: Till, site: Site) -> None:
    refused = till.send(invoice(nip="1111111111"))

    told = is_problem(refused, 422, "invoice-refused")
    assert told["findings"]
    assert told["detail"] == told["findings"][0]["message"]
    assert told["document"]["status"] == "error"
    assert stored(site, told["document"]["document_id"]).state is State.ERROR
    assert till.get(told["document"]["links"]["self"]).json()["errors"] == told["findings"]
    # And again, as it is no better the second time.
    is_problem(till.send(invoice(nip="1111111111")), 422, "invoice-refused")


def test_what_is_no_xml_is_refused_by_the_check(till: Till) -> None:
    told = is_problem(till.send(b"paragon"), 422, "invoice-refused")
    assert told["document"]["form"] is None


@pytest.mark.parametrize(
    ("headers", "content", "status", "slug"),
    [
        ({"Content-Type": "application/json"}, b"{}", 415, "type"),
        ({"Content-Type": ""}, b"<a/>", 415, "type"),
        ({}, b"", 400, "empty"),
        ({}, b"<" * 3_000_001, 413, "size"),
        ({}, b"<" * 4_500_000, 413, "size"),
    ],
)
def test_what_is_no_invoice_at_all_leaves_no_trace(
    till: Till, headers: dict[str, str], content: bytes, status: int, slug: str
) -> None:
    is_problem(till.send(content, headers), status, slug)
    assert till.get(INVOICES).json()["items"] == []


def test_a_body_that_grows_too_large_on_the_way_is_cut_off(till: Till) -> None:
    def endless() -> Any:
        for _ in range(10_000):
            yield b"<" * 10_000

    with httpx.Client(base_url=till.client.base_url) as other:
        try:
            answer = other.post(INVOICES, content=endless(), headers={**till.headers, **XML})
        except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
            # The server had its fill before the client was done.
            pass
        else:
            is_problem(answer, 413, "size")
    assert till.get(INVOICES).json()["items"] == []


def test_a_body_that_stops_half_way_is_no_invoice(till: Till, live: str) -> None:
    content = invoice()
    address = urlsplit(live)
    with socket.create_connection((address.hostname, address.port)) as half:
        head = f"POST {INVOICES} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: {len(content)}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in {**till.headers, **XML}.items())
        half.sendall(head.encode() + b"\r\n" + content[:1000])
    assert till.get(INVOICES).json()["items"] == []


def test_a_body_that_does_not_come_is_not_waited_for_for_ever(
    till: Till, live: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ksefbuffer.web.guard.BODY_WITHIN_S", 0.3)
    address = urlsplit(live)
    with socket.create_connection((address.hostname, address.port), timeout=20) as slow:
        head = f"POST {INVOICES} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: 5000\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in {**till.headers, **XML}.items())
        slow.sendall(head.encode() + b"\r\n<Faktura>")
        told = slow.recv(65_536).decode()
    assert told.startswith("HTTP/1.1 408 ")
    assert "application/problem+json" in told
    assert till.get(INVOICES).json()["items"] == []


def test_an_address_with_a_nul_is_refused(till: Till) -> None:
    is_problem(till.send(reference="a\x00b"), 400, "bad-request")
    assert till.get(INVOICES).json()["items"] == []


@pytest.mark.parametrize(
    "options",
    [
        {"corrects_sha256": "abc"},
        {"callback_url": "ftp://erp"},
        {"callback_url": "javascript:alert(1)"},
        {"reference": "x" * 257},
    ],
)
def test_options_that_nobody_could_follow_are_refused_before_anything_is_kept(till: Till, options: Any) -> None:
    is_problem(till.send(**options), 400, "options")
    assert till.get(INVOICES).json()["items"] == []


@pytest.mark.parametrize(
    "options",
    [
        {"priority": "high"},
        {"offline": "tak"},
        {"wait": 61},
        {"wait": -1},
        {"wait": "a"},
        {"name": "../x.xml"},
        {"name": ""},
    ],
)
def test_parameters_of_another_shape_are_refused(till: Till, options: Any) -> None:
    is_problem(till.send(**options), 422, "invalid")


def test_a_misspelt_option_is_not_lost_silently(till: Till) -> None:
    told = is_problem(till.send(priorty="urgent"), 400, "parameter")
    assert "priorty" in told["detail"]
    assert "priority" in told["hint"]


# Once and only once


def test_a_key_used_again_for_the_same_request_gives_the_same_document(till: Till) -> None:
    key = {"Idempotency-Key": "paragon-17"}
    first, again = till.send(headers=key), till.send(headers=key)
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json() == again.json()


@pytest.mark.parametrize("change", ["body", "options"])
def test_a_key_used_again_for_another_request_is_refused(till: Till, change: str) -> None:
    key = {"Idempotency-Key": "paragon-17"}
    till.send(invoice("A/1"), key)
    other = till.send(invoice("A/2"), key) if change == "body" else till.send(invoice("A/1"), key, priority="urgent")
    is_problem(other, 422, "idempotency-key")
    assert len(till.get(INVOICES).json()["items"]) == 1


def test_two_programs_may_use_the_same_word_as_their_key(
    till: Till, client: httpx.Client, api_key: Callable[..., str]
) -> None:
    key = {"Idempotency-Key": "1"}
    assert till.send(invoice("A/1"), key).status_code == 202
    assert Till(client, api_key("send")).send(invoice("A/2"), key).status_code == 202


def test_a_key_is_forgotten_after_a_week(till: Till, clock: Clock) -> None:
    key = {"Idempotency-Key": "1"}
    till.send(invoice("A/1"), key)
    clock.now += timedelta(days=7, seconds=1)
    assert till.send(invoice("A/2", issue_date=clock.now.date()), key).status_code == 202


def test_a_key_that_is_no_word_is_refused(till: Till) -> None:
    is_problem(till.send(headers={"Idempotency-Key": "a b"}), 422, "invalid")


def test_duplicates_at_the_same_moment_are_one_document(till: Till, live: str, site: Site) -> None:
    content, key = invoice(), {"Idempotency-Key": "raz"}
    start = threading.Barrier(8)

    def once(_number: int) -> httpx.Response:
        with httpx.Client(base_url=live, timeout=30) as mine:
            start.wait(10)
            return Till(mine, till.headers["Authorization"].removeprefix("Bearer ")).send(content, key)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(once, range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [202]
    assert len({answer.json()["document_id"] for answer in answers}) == 1
    assert len(till.get(INVOICES).json()["items"]) == 1


def test_one_key_for_two_invoices_at_the_same_moment_lets_one_in(till: Till, live: str) -> None:
    start = threading.Barrier(6)

    def once(number: int) -> int:
        with httpx.Client(base_url=live, timeout=30) as mine:
            start.wait(10)
            other = Till(mine, till.headers["Authorization"].removeprefix("Bearer "))
            return other.send(invoice(f"A/{number}"), {"Idempotency-Key": "raz"}).status_code

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(once, range(6))) == [202, *[422] * 5]
    assert len(till.get(INVOICES).json()["items"]) == 1


# Asking


def test_the_list_is_given_in_pages_newest_first(till: Till) -> None:
    sent = [till.send(invoice(f"A/{number}")).json()["document_id"] for number in range(7)]
    seen: list[str] = []
    page = till.get(INVOICES, limit=3).json()
    seen += [one["document_id"] for one in page["items"]]
    while page["next_cursor"]:
        page = till.get(INVOICES, limit=3, cursor=page["next_cursor"]).json()
        seen += [one["document_id"] for one in page["items"]]
    assert seen == sent[::-1]


def test_the_list_can_be_narrowed_by_state_and_time(till: Till, site: Site, clock: Clock) -> None:
    with site.database.transaction() as tx:
        for state in State:
            document_in(tx, state, at=clock.now - timedelta(hours=2))
    new = till.send().json()["document_id"]

    def ids(**asked: Any) -> list[str]:
        return [one["document_id"] for one in till.get(INVOICES, **asked).json()["items"]]

    assert len(ids()) == len(State) + 1
    assert {one["status"] for one in till.get(INVOICES, status=["error", "sent"]).json()["items"]} == {"error", "sent"}
    assert ids(since="2026-11-20T10:00:00Z") == [new]
    assert ids(since="2026-11-20T11:00:00+01:00") == [new]
    assert len(ids(since="2026-11-20")) == len(State) + 1
    assert ids(since="2026-11-21") == []


@pytest.mark.parametrize(
    ("asked", "status", "slug"),
    [
        ({"cursor": "x"}, 400, "cursor"),
        ({"cursor": "ż"}, 400, "cursor"),
        ({"cursor": "WyJpbmNvbWluZyIsIDFd"}, 400, "cursor"),
        ({"since": "wczoraj"}, 400, "moment"),
        ({"since": "2026-11-20T10:00:00"}, 400, "moment"),
        ({"since": "1763600000"}, 400, "moment"),
        ({"status": "nowa"}, 422, "invalid"),
        ({"limit": 0}, 422, "invalid"),
        ({"limit": 201}, 422, "invalid"),
        ({"stauts": "sent"}, 400, "parameter"),
    ],
)
def test_a_list_asked_for_wrongly_says_so(till: Till, asked: Any, status: int, slug: str) -> None:
    is_problem(till.get(INVOICES, **asked), status, slug)


@pytest.mark.parametrize("document_id", ["nic", "0" * 36, "01936b2f-6c1e-7d55-9f0a-2f3b8f0c9a11", "01936b2f"])
def test_what_is_not_there_is_404(till: Till, document_id: str) -> None:
    for path in ("", "/xml", "/upo", "/qr/1", "/qr/2", "/pdf", "/events"):
        is_problem(till.get(f"{INVOICES}/{document_id}{path}"), 404, "not-found")
    for path in ("/retry", "/cancel"):
        is_problem(till.post(f"{INVOICES}/{document_id}{path}"), 404, "not-found")


def test_the_beginning_of_an_id_is_no_id(till: Till) -> None:
    document_id = till.send().json()["document_id"]
    is_problem(till.get(f"{INVOICES}/{document_id[:20]}"), 404, "not-found")


def test_the_bytes_come_back_as_they_were_under_any_name(till: Till) -> None:
    content = invoice()
    links = till.send(content, name='fakt"ura; ż.xml').json()["links"]
    answer = till.get(links["xml"])
    assert answer.content == content
    assert answer.headers["content-type"] == "application/xml"
    assert answer.headers["content-disposition"] == (
        "attachment; filename=\"fakt_ura_ _.xml\"; filename*=UTF-8''fakt%22ura%3B%20%C5%BC.xml"
    )


def sent_with_upo(site: Site, till: Till) -> dict[str, Any]:
    """A document that KSeF has numbered, with its UPO."""
    document_id = till.send().json()["document_id"]
    with site.database.transaction() as tx:
        document = documents.find(tx, document_id)
        for event in (Event.BIND, Event.NUMBER):
            document = move(tx, document, event)
        documents.change(tx, document.id, upo=b"<UPO/>")
    told: dict[str, Any] = till.get(f"{INVOICES}/{document_id}").json()
    return told


def test_a_sent_document_has_its_upo_its_code_and_its_page(till: Till, site: Site) -> None:
    document = sent_with_upo(site, till)
    links = document["links"]

    assert document["status"] == "sent"
    assert till.get(links["upo"]).content == b"<UPO/>"
    assert f'filename="{document["upo_file"]}"' in till.get(links["upo"]).headers["content-disposition"]
    assert read_qr(till.get(links["qr1"]).content) == document["verification_url"]
    drawn = till.get(links["qr1"], format="svg")
    assert drawn.headers["content-type"] == "image/svg+xml"
    assert document["ksef_number"] in drawn.text
    page = till.get(links["pdf"])
    assert page.headers["content-type"] == "application/pdf"
    assert document["ksef_number"] in text_of(page.content)
    assert links["qr2"] is None


def test_what_is_not_there_yet_says_why(till: Till) -> None:
    document = till.send().json()
    assert (document["links"]["upo"], document["links"]["qr1"], document["links"]["qr2"]) == (None, None, None)
    here = document["links"]["self"]
    is_problem(till.get(f"{here}/upo"), 404, "no-upo")
    is_problem(till.get(f"{here}/qr/1"), 404, "no-qr")
    is_problem(till.get(f"{here}/qr/2"), 404, "no-qr")


def test_an_offline_document_has_both_codes_and_says_offline(till: Till, site: Site) -> None:
    document_id = till.send().json()["document_id"]
    link = "https://qr-test.ksef.mf.gov.pl/certificate/Nip/5265877635/5265877635/0123456789ABCDEF/abc/def"
    with site.database.transaction() as tx:
        document = documents.find(tx, document_id)
        documents.change(tx, document.id, offline=True, offline_mode="offline24", certificate_url=link)
    links = till.get(f"{INVOICES}/{document_id}").json()["links"]
    assert "OFFLINE" in till.get(links["qr1"], format="svg").text
    assert read_qr(till.get(links["qr2"]).content) == link
    assert "CERTYFIKAT" in till.get(links["qr2"], format="svg").text
    assert NIP in read_qr(till.get(links["qr1"]).content)


def test_what_cannot_be_printed_says_so(till: Till) -> None:
    refused = till.send(b"paragon").json()
    is_problem(till.get(refused["document"]["links"]["pdf"]), 409, "not-printable")


def test_the_story_of_a_document_is_told_from_its_beginning(till: Till, site: Site) -> None:
    document = sent_with_upo(site, till)
    events = till.get(document["links"]["events"]).json()["items"]
    assert [event["to_state"] for event in events] == ["queued", "processing", "sent"]
    assert events[0]["from_state"] is None
    assert events[0]["at"] == "2026-11-20T10:15:00.000Z"


# A word on it


def test_a_document_is_withdrawn_before_ksef_has_it(till: Till, site: Site) -> None:
    here = till.send().json()["links"]["self"]
    cancelled = till.post(f"{here}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    is_problem(till.post(f"{here}/cancel"), 409, "state")
    is_problem(till.post(f"{here}/retry"), 409, "state")


def test_a_failed_document_is_tried_at_once_on_demand(till: Till, site: Site) -> None:
    document_id = till.send().json()["document_id"]
    with site.database.transaction() as tx:
        move(tx, documents.find(tx, document_id), Event.FAIL)
    assert till.get(f"{INVOICES}/{document_id}").json()["next_attempt_at"]
    assert till.post(f"{INVOICES}/{document_id}/retry").json()["status"] == "queued"


def test_a_document_refused_by_the_check_is_checked_anew(till: Till, clock: Clock) -> None:
    tomorrow = invoice(issue_date=clock.now.date() + timedelta(days=1))
    document = is_problem(till.send(tomorrow), 422, "invoice-refused")["document"]
    retry = f"{document['links']['self']}/retry"
    is_problem(till.post(retry), 422, "invoice-refused")
    clock.now += timedelta(days=1)
    assert till.post(retry).json()["status"] == "queued"


# The rest of HTTP


def test_head_is_get_without_a_body(till: Till) -> None:
    here = till.send().json()["links"]["self"]
    for path in (INVOICES, here, f"{here}/xml"):
        asked, head = till.get(path), till.client.head(path, headers=till.headers)
        assert head.status_code == 200
        assert head.content == b""
        assert head.headers["content-length"] == asked.headers["content-length"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", INVOICES, {"GET", "HEAD", "POST"}),
        ("PUT", f"{INVOICES}/1", {"GET", "HEAD"}),
        ("GET", f"{INVOICES}/1/cancel", {"POST"}),
    ],
)
def test_a_method_nobody_offers_is_405_and_says_which_are(
    till: Till, method: str, path: str, allowed: set[str]
) -> None:
    answer = till.client.request(method, path, headers=till.headers)
    is_problem(answer, 405, "method")
    assert set(answer.headers["allow"].split(", ")) == allowed


def test_an_unknown_path_of_the_api_is_a_problem_too(till: Till) -> None:
    is_problem(till.get("/api/v1/faktury"), 404, "not-found")


def test_a_database_that_cannot_be_written_is_503_and_nothing_is_said_to_be_taken(
    till: Till, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise StorageFault("Baza danych jest teraz niedostępna: disk is full.", action="Sprawdź dysk.")

    monkeypatch.setattr(site.database, "transaction", full)
    told = is_problem(till.send(), 503, "unavailable")
    assert told["hint"] == "Sprawdź dysk."
    monkeypatch.undo()
    assert till.get(INVOICES).json()["items"] == []


def test_answers_are_kept_by_nobody(till: Till) -> None:
    assert till.send().headers["cache-control"] == "no-store"
