"""Sessions, invoices, listings and documents as the sender meets them."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, date, datetime
from decimal import Decimal

import httpx
import pytest

from ksefbuffer.errors import ConfigurationFault, OutcomeUnknown, Refused, SessionUnusable, Unavailable, Unreachable
from ksefbuffer.invoice.forms import FA3, FORMS, PEF
from ksefbuffer.ksef.limits import NO_LIMIT, Limit
from tests.ksef.fake import NIP, Clock, FakeKsef, problem

HASH = hashlib.sha256(b"<Faktura/>")
HASH_B64 = base64.b64encode(HASH.digest()).decode()
NUMBER = f"{NIP}-20261120-0100001AF629-AF"
CLOSE = "POST /sessions/online/S/close"
LIST = "GET /sessions/S/invoices"


def entry(n: int = 1, code: int | str = 200, **changes: object) -> dict[str, object]:
    return {
        "ordinalNumber": n,
        "referenceNumber": f"E{n}",
        "invoiceHash": HASH_B64,
        "invoicingDate": "2026-11-20T12:00:00.1234567+00:00",
        "status": {"code": code, "description": "Opis", "nowe": True},
        "nowePole": {"x": 1},
        **changes,
    }


def listing(*entries: object, token: str | None = None) -> httpx.Response:
    return httpx.Response(200, json={"continuationToken": token, "invoices": list(entries)})


# --- open and send


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.system_code)
def test_a_session_is_opened_for_its_form_with_a_fresh_key(fake: FakeKsef, form: object) -> None:
    ksef = fake.client()
    first, second = ksef.open_session(form), ksef.open_session(form)  # type: ignore[arg-type]
    body = json.loads(fake.last("POST /sessions/online").content)
    assert body["formCode"] == {
        "systemCode": form.system_code,  # type: ignore[attr-defined]
        "schemaVersion": form.schema_version,  # type: ignore[attr-defined]
        "value": form.value,  # type: ignore[attr-defined]
    }
    assert len(body["encryption"]["publicKeyId"]) == 44
    assert first.form is form
    assert first.valid_until == datetime(2026, 11, 21, 0, 0, 0, 123456, tzinfo=UTC)
    assert fake.session_keys[first.reference] == (first.key.key, first.key.iv)
    assert first.key.key != second.key.key
    assert fake.count("GET /security/public-key-certificates") == 1


def test_ksef_receives_the_very_bytes(fake: FakeKsef) -> None:
    ksef = fake.client()
    session = ksef.open_session(FA3)
    content = b"\xef\xbb\xbf<Faktura>\r\n\xc5\xbc\x00</Faktura>\n" * 3
    assert ksef.send(session, content) == "20261120-EE-1"
    assert fake.received == [content]
    body = json.loads(fake.last(f"POST /sessions/online/{session.reference}/invoices").content)
    assert body["offlineMode"] is False
    assert "hashOfCorrectedInvoice" not in body


def test_a_technical_correction_names_what_it_mends(fake: FakeKsef) -> None:
    ksef = fake.client()
    session = ksef.open_session(FA3)
    ksef.send(session, b"<Faktura/>", offline=True, corrects_sha256=HASH.hexdigest())
    body = json.loads(fake.last(f"POST /sessions/online/{session.reference}/invoices").content)
    assert body["offlineMode"] is True
    assert body["hashOfCorrectedInvoice"] == HASH_B64


def test_a_withdrawn_key_is_fetched_anew_and_opening_tried_once_more(fake: FakeKsef) -> None:
    ksef = fake.client()
    ksef.open_session(FA3)
    fake.key_names = ("key-2",)
    fake.plan("POST /sessions/online", problem(400, 21470))
    session = ksef.open_session(FA3)
    assert fake.session_keys[session.reference][0] == session.key.key
    assert fake.count("GET /security/public-key-certificates") == 2
    fake.plan("POST /sessions/online", problem(400, 21470), problem(400, 21470))
    with pytest.raises(Refused):
        ksef.open_session(FA3)
    assert fake.count("POST /sessions/online") == 5


def test_a_session_whose_key_ksef_could_not_read_makes_us_fetch_the_keys_anew(fake: FakeKsef) -> None:
    ksef = fake.client()
    ksef.open_session(FA3)
    fake.plan("GET /sessions/S", httpx.Response(200, json={"status": {"code": 415, "description": "x"}}))
    assert ksef.session("S").code == 415
    ksef.open_session(FA3)
    assert fake.count("GET /security/public-key-certificates") == 2


def test_unusable_keys_at_opening_are_known_to_have_opened_nothing(fake: FakeKsef) -> None:
    ksef = fake.client()
    ksef.login_now()
    fake.clock.now = fake.clock.now.replace(year=2028)
    with pytest.raises(Unavailable):
        ksef.open_session(FA3)
    fake.plan("GET /security/public-key-certificates", *[httpx.ReadTimeout("x")] * 10)
    with pytest.raises(Unavailable):
        ksef.open_session(FA3)
    assert fake.count("POST /sessions/online") == 0


def test_a_session_not_yet_known_to_ksef_is_tried_a_few_times(fake: FakeKsef, clock: Clock) -> None:
    ksef = fake.client()
    session = ksef.open_session(FA3)
    route = f"POST /sessions/online/{session.reference}/invoices"
    fake.plan(route, problem(400, 21173), problem(400, 21173))
    ksef.send(session, b"<Faktura/>")
    assert (fake.count(route), len(fake.received)) == (3, 1)
    fake.plan(route, *[problem(400, 21173)] * 10)
    with pytest.raises(SessionUnusable) as caught:
        ksef.send(session, b"<Faktura/>")
    assert caught.value.code == "21173"
    assert fake.count(route) == 7


def test_a_session_that_takes_no_more_says_in_which_status_it_is(fake: FakeKsef) -> None:
    ksef = fake.client()
    session = ksef.open_session(FA3)
    fake.plan(f"POST /sessions/online/{session.reference}/invoices", problem(400, 21180, "Status sesji (415)"))
    with pytest.raises(SessionUnusable) as caught:
        ksef.send(session, b"<Faktura/>")
    assert any("415" in detail for detail in caught.value.details)


# --- close


@pytest.mark.parametrize("said", ["(150)", "(170)", "(200)", "(440)", "Status: 415."])
def test_a_session_closed_already_counts_as_closed(fake: FakeKsef, said: str) -> None:
    fake.plan(CLOSE, problem(400, 21180, said))
    fake.client().close_session("S")
    assert fake.count("GET /sessions/S") == 0


def test_when_the_refusal_names_no_status_the_session_is_asked(fake: FakeKsef) -> None:
    fake.plan(CLOSE, problem(400, 21180))
    fake.client().close_session("S")
    assert fake.count("GET /sessions/S") == 1
    fake.plan(CLOSE, problem(400, 21180))
    fake.plan("GET /sessions/S", httpx.Response(200, json={"status": {"code": 100, "description": "otwarta"}}))
    with pytest.raises(SessionUnusable):
        fake.client().close_session("S")


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.ReadTimeout("x"),
        httpx.ConnectError("x"),
        httpx.Response(502),
        problem(400, 21173),
        httpx.Response(200, text="<html>blocked</html>"),
    ],
)
def test_closing_is_repeated_a_few_times_and_then_given_up(fake: FakeKsef, trouble: Exception | httpx.Response) -> None:
    fake.plan(CLOSE, trouble, trouble)
    fake.client().close_session("S")
    assert fake.count(CLOSE) == 3
    fake.plan(CLOSE, *[trouble] * 10)
    with pytest.raises((OutcomeUnknown, Unreachable, Refused)):
        fake.client().close_session("S")
    assert fake.count(CLOSE) == 7


def test_a_close_refused_for_another_reason_is_not_repeated(fake: FakeKsef) -> None:
    fake.plan(CLOSE, problem(400, 21405))
    with pytest.raises(Refused):
        fake.client().close_session("S")
    assert fake.count(CLOSE) == 1


def test_a_close_sends_no_body_and_no_content_type(fake: FakeKsef) -> None:
    fake.client().close_session("S")
    request = fake.last(CLOSE)
    assert request.content == b""
    assert "content-type" not in request.headers


# --- status and listing


def test_a_session_is_read_with_its_counts_and_upo_pages(fake: FakeKsef) -> None:
    body = {
        "status": {"code": "200", "description": "Przetworzona", "details": ["a", "b"]},
        "dateCreated": "2026-11-20T11:00:00Z",
        "invoiceCount": "3",
        "successfulInvoiceCount": 2,
        "failedInvoiceCount": 1,
        "upo": {"pages": [{"referenceNumber": "U1", "downloadUrl": "https://s.example/SECRET", "x": 1}]},
    }
    fake.plan("GET /sessions/S", httpx.Response(200, json=body))
    status = fake.client().session("S")
    assert (status.code, status.invoice_count, status.successful_count, status.failed_count) == (200, 3, 2, 1)
    assert status.details == ("a", "b")
    assert status.upo_pages[0].link == "https://s.example/SECRET"
    assert "SECRET" not in repr(status)
    assert status.valid_until is None


def test_an_accepted_invoice_is_read_whole(fake: FakeKsef) -> None:
    body = entry(
        7,
        ksefNumber=NUMBER,
        invoiceNumber="FV/1",
        acquisitionDate="2026-11-20T13:00:01+01:00",
        invoicingMode="Offline",
        upoDownloadUrl="https://s.example/SECRET",
        permanentStorageDate=None,
    )
    fake.plan("GET /sessions/S/invoices/E7", httpx.Response(200, json=body))
    status = fake.client().invoice("S", "E7")
    assert status.sha256_hex == HASH.hexdigest()
    assert (status.reference, status.ordinal, status.ksef_number, status.invoice_number) == ("E7", 7, NUMBER, "FV/1")
    assert status.accepted_at == datetime(2026, 11, 20, 12, 0, 1, tzinfo=UTC)
    assert status.invoicing_date == datetime(2026, 11, 20, 12, 0, 0, 123456, tzinfo=UTC)
    assert status.invoicing_mode == "Offline"
    assert "SECRET" not in repr(status)


def test_a_duplicate_names_its_original(fake: FakeKsef) -> None:
    extensions = {"originalKsefNumber": NUMBER, "originalSessionReferenceNumber": "S0", "inne": None}
    status = {"code": 440, "description": "Duplikat faktury", "details": ["x"], "extensions": extensions}
    fake.plan("GET /sessions/S/invoices/E1", httpx.Response(200, json=entry(status=status, ksefNumber=None)))
    read = fake.client().invoice("S", "E1")
    assert (read.ksef_number, read.original_ksef_number, read.original_session) == ("", NUMBER, "S0")


def test_all_pages_are_listed(fake: FakeKsef) -> None:
    fake.plan(LIST, listing(entry(1), entry(2), token="t1"), listing(entry(3), token="t2"), listing(token=None))
    assert [one.reference for one in fake.client().invoices("S")] == ["E1", "E2", "E3"]
    requests = [request for request in fake.requests if request.url.path.endswith("/invoices")]
    assert [request.headers.get("x-continuation-token") for request in requests] == [None, "t1", "t2"]
    assert {request.url.params["pageSize"] for request in requests} == {"1000"}


def test_a_spoilt_continuation_starts_the_listing_anew_and_gives_each_once(fake: FakeKsef) -> None:
    fake.plan(LIST, listing(entry(1), token="t1"), problem(400, 21418), listing(entry(1), token="t2"))
    fake.plan(LIST, listing(entry(2)))
    assert [one.reference for one in fake.client().invoices("S")] == ["E1", "E2"]
    fake.plan(LIST, *[listing(entry(1), token="t1"), problem(400, 21418)] * 9)
    with pytest.raises(Refused):
        list(fake.client().invoices("S"))


@pytest.mark.parametrize(
    "page",
    [
        {},
        {"invoices": None},
        {"invoices": {}},
        {"invoices": [None]},
        {"invoices": [entry(1, invoiceHash=None)]},
        {"invoices": [entry(1, invoiceHash="AAAA")]},
        {"invoices": [entry(1, referenceNumber="")]},
        {"invoices": [entry(1, status={})]},
        {"invoices": [entry(1, status={"code": "x"})]},
        {"invoices": [entry(1, status={"code": True})]},
    ],
)
def test_a_listing_that_cannot_be_read_whole_is_no_proof_of_absence(fake: FakeKsef, page: dict[str, object]) -> None:
    fake.plan(LIST, *[httpx.Response(200, json=page)] * 10)
    with pytest.raises(OutcomeUnknown):
        list(fake.client().invoices("S"))


def test_a_listing_that_goes_round_is_not_taken_for_complete(fake: FakeKsef) -> None:
    fake.plan(LIST, *[listing(entry(1), token="t1")] * 5)
    with pytest.raises(OutcomeUnknown):
        list(fake.client().invoices("S"))


def test_a_continuation_unfit_for_a_header_is_no_end_of_the_list(fake: FakeKsef) -> None:
    fake.plan(LIST, *[listing(entry(1), token="ł\n")] * 5)
    with pytest.raises(OutcomeUnknown):
        list(fake.client().invoices("S"))


@pytest.mark.parametrize("base_url", ["", "ksef.example/v2", "https://", "https://ksef.example:port/v2", "ftp://x/v2"])
def test_an_address_that_is_none_is_told_at_once(fake: FakeKsef, base_url: str) -> None:
    with pytest.raises(ConfigurationFault):
        fake.client(base_url=base_url)


def test_references_are_quoted_in_addresses(fake: FakeKsef) -> None:
    with pytest.raises(Refused):
        fake.client().invoice("a/b", "../c?d")
    assert fake.requests[-1].url.raw_path == b"/v2/sessions/a%2Fb/invoices/..%2Fc%3Fd"


# --- documents

UPO = b'<?xml version="1.0" encoding="utf-8"?><Potwierdzenie/>'
UPO_HASH = {"x-ms-meta-hash": base64.b64encode(hashlib.sha256(UPO).digest()).decode()}
LINK = "https://storage.example/storage/01/a%20b/upo.xml?sv=2025-01-05&st=2026-11-20T14%3A49%3A20Z&sig=R%2BX%2f3D%3D"


def test_a_link_is_followed_as_it_is_without_authorisation_or_cookies(fake: FakeKsef) -> None:
    ksef = fake.client()
    cookie = {"Set-Cookie": "incap_ses_1=abc; path=/"}
    fake.plan("GET /sessions/S", httpx.Response(200, json={"status": {"code": 100}}, headers=cookie))
    ksef.session("S")
    route = "GET /storage/01/a b/upo.xml"
    fake.plan(route, httpx.Response(200, content=UPO, headers={**UPO_HASH, **cookie}))
    fake.plan(route, httpx.Response(200, content=UPO, headers=UPO_HASH))
    assert ksef.upo_by_link(LINK) == UPO
    assert ksef.upo_by_link(LINK) == UPO
    for request in fake.requests[-2:]:
        assert str(request.url) == LINK
        assert "authorization" not in request.headers
        assert "cookie" not in request.headers
        assert "x-error-format" not in request.headers
    ksef.session("S")
    assert fake.requests[-1].headers["cookie"] == "incap_ses_1=abc"


@pytest.mark.parametrize(
    "spoilt",
    [
        httpx.Response(200, content=UPO[:-5], headers=UPO_HASH),
        httpx.Response(200, content=b"", headers=UPO_HASH),
        httpx.Response(200, content=b""),
        httpx.Response(200, text="<!DOCTYPE html><html>blocked</html>"),
        httpx.Response(200, text="  <HTML>blocked</html>"),
        httpx.Response(200, json={}),
        httpx.Response(503),
        httpx.ReadError("cut"),
    ],
)
def test_a_spoilt_document_is_asked_for_again_and_never_returned(
    fake: FakeKsef, spoilt: httpx.Response | Exception
) -> None:
    good = httpx.Response(200, content=UPO, headers=UPO_HASH)
    for route, ask in (
        ("GET /u", lambda ksef: ksef.upo_by_link("https://storage.example/u")),
        ("GET /invoices/ksef/N", lambda ksef: ksef.download("N")),
    ):
        fake.plan(route, spoilt, good)
        assert ask(fake.client()) == UPO
        fake.plan(route, *[spoilt] * 4)
        with pytest.raises(OutcomeUnknown):
            ask(fake.client())


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_an_expired_link_asks_for_a_fresh_one(fake: FakeKsef, status: int) -> None:
    fake.plan("GET /u", httpx.Response(status, text="<Error><Code>AuthenticationFailed</Code></Error>"))
    with pytest.raises(Refused) as caught:
        fake.client().upo_by_link("https://storage.example/u")
    assert fake.count("GET /u") == 1
    assert "odnośnik" in caught.value.action


@pytest.mark.parametrize("link", ["", "ftp://x/y", "not a link", "file:///etc/passwd", "https://x:y/z"])
def test_a_link_that_is_none_is_refused_without_a_call(fake: FakeKsef, link: str) -> None:
    with pytest.raises(Refused):
        fake.client().upo_by_link(link)
    assert fake.requests == []


def test_upos_and_invoices_are_asked_for_as_xml(fake: FakeKsef) -> None:
    ksef = fake.client()
    for path in (
        "/sessions/S/invoices/E1/upo",
        f"/sessions/S/invoices/ksef/{NUMBER}/upo",
        "/sessions/S/upo/U1",
        f"/invoices/ksef/{NUMBER}",
    ):
        fake.plan(f"GET {path}", httpx.Response(200, content=UPO, headers=UPO_HASH))
    assert ksef.invoice_upo("S", invoice_reference="E1") == UPO
    assert ksef.invoice_upo("S", ksef_number=NUMBER) == UPO
    assert ksef.session_upo("S", "U1") == UPO
    assert ksef.download(NUMBER) == UPO
    assert {request.headers["accept"] for request in fake.requests[-4:]} == {"application/xml"}
    with pytest.raises(ValueError):
        ksef.invoice_upo("S")
    with pytest.raises(ValueError):
        ksef.invoice_upo("S", invoice_reference="E1", ksef_number=NUMBER)


def test_a_document_not_there_yet_is_not_refused_for_ever(fake: FakeKsef) -> None:
    fake.plan(f"GET /invoices/ksef/{NUMBER}", problem(400, 21165), problem(400, 21164))
    fake.plan("GET /sessions/S/invoices/E1/upo", problem(400, 21178))
    with pytest.raises(Unavailable):
        fake.client().download(NUMBER)
    with pytest.raises(Refused) as caught:
        fake.client().download(NUMBER)
    assert caught.value.code == "21164"
    with pytest.raises(Unavailable):
        fake.client().invoice_upo("S", invoice_reference="E1")


# --- searching and the rest

META = {
    "ksefNumber": NUMBER,
    "invoiceNumber": "FV/1",
    "issueDate": "2026-11-20",
    "invoiceHash": HASH_B64,
    "seller": {"nip": NIP, "name": "Firma"},
    "buyer": {"identifier": {"type": "Nip", "value": "1111111111"}},
    "invoiceType": "Vat",
    "formCode": {"systemCode": "FA (3)"},
    "currency": "PLN",
    "invoicingMode": "Online",
    "acquisitionDate": "2026-11-20T12:00:01Z",
    "nowe": [],
}


def metadata(*entries: object, more: bool = False) -> httpx.Response:
    exact = json.dumps({"hasMore": more, "isTruncated": False, "invoices": list(entries)})
    # A double would lose the last digit.
    exact = exact.replace('"nowe"', '"grossAmount": 12345678901234567.89, "nowe"')
    return httpx.Response(200, text=exact, headers={"content-type": "application/json"})


QUERY = "POST /invoices/query/metadata"


def test_an_invoice_is_found_by_its_number_and_day(fake: FakeKsef) -> None:
    fake.plan(QUERY, metadata(META))
    [found] = fake.client().find(invoice_number="FV/1", seller_nip=NIP, issue_date=date(2026, 11, 20))
    assert found.sha256_hex == HASH.hexdigest()
    assert found.gross == Decimal("12345678901234567.89")
    assert found.issue_date == date(2026, 11, 20)
    request = fake.last(QUERY)
    assert json.loads(request.content) == {
        "subjectType": "Subject1",
        "dateRange": {"dateType": "Issue", "from": "2026-11-19T00:00:00Z"},
        "invoiceNumber": "FV/1",
        "sellerNip": NIP,
    }
    assert dict(request.url.params) == {"pageOffset": "0", "pageSize": "250", "sortOrder": "Asc"}


@pytest.mark.parametrize(
    ("wanted", "window"),
    [
        (
            {"ksef_number": f"{NIP}-20260310-0100001AF629-AF"},
            {"dateType": "Invoicing", "from": "2026-01-24T00:00:00Z", "to": "2026-04-24T00:00:00Z"},
        ),
        ({"ksef_number": NUMBER}, {"dateType": "Invoicing", "from": "2026-10-06T00:00:00Z"}),
        ({"ksef_number": f"{NIP}-20269999-X"}, {"dateType": "PermanentStorage", "from": "2026-08-22T12:00:00Z"}),
        ({"invoice_number": "FV/1"}, {"dateType": "PermanentStorage", "from": "2026-08-22T12:00:00Z"}),
        (
            {"issue_date": date(2026, 3, 1)},
            {"dateType": "Issue", "from": "2026-02-28T00:00:00Z", "to": "2026-03-03T00:00:00Z"},
        ),
    ],
)
def test_the_window_searched_is_never_too_long_nor_in_the_future(
    fake: FakeKsef, wanted: dict[str, object], window: dict[str, str]
) -> None:
    fake.plan(QUERY, metadata())
    assert fake.client().find(**wanted) == []  # type: ignore[arg-type]
    assert json.loads(fake.last(QUERY).content)["dateRange"] == window


def test_more_pages_are_read_and_each_invoice_given_once(fake: FakeKsef) -> None:
    other = {**META, "ksefNumber": NUMBER.replace("AF629", "AF62A")}
    fake.plan(QUERY, metadata(META, more=True), metadata(META, other))
    assert len(fake.client().find(invoice_number="FV/1")) == 2
    assert fake.last(QUERY).url.params["pageOffset"] == "1"


def test_the_limits_in_force_are_read(fake: FakeKsef) -> None:
    body = {
        "invoiceSend": {"perSecond": 10, "perMinute": "300", "perHour": -1},
        "brandNew": {"perSecond": 1},
        "odd": None,
    }
    fake.plan("GET /rate-limits", httpx.Response(200, json=body))
    assert fake.client().rate_limits() == {
        "invoiceSend": Limit(10, 300, NO_LIMIT),
        "brandNew": Limit(1, NO_LIMIT, NO_LIMIT),
    }


@pytest.mark.parametrize(
    ("answer", "reachable"),
    [
        (None, True),
        (httpx.Response(429), True),
        (httpx.Response(503), False),
        (httpx.Response(200, text="<html>"), False),
        (httpx.Response(403, text="<html>"), False),
        (httpx.ConnectError("x"), False),
    ],
)
def test_reachable_asks_once_and_without_login(
    fake: FakeKsef, answer: httpx.Response | Exception | None, reachable: bool
) -> None:
    if answer is not None:
        fake.plan("GET /security/public-key-certificates", answer)
    assert fake.client().reachable() is reachable
    assert len(fake.requests) == 1


def test_every_call_names_its_client_and_keeps_the_firewalls_cookies(fake: FakeKsef) -> None:
    fake.plan(
        "POST /auth/challenge",
        lambda request: httpx.Response(
            200,
            json={"challenge": "C", "timestamp": "2026-11-20T12:00:00+00:00", "timestampMs": "1"},
            headers={"Set-Cookie": "visid_incap_1=v; path=/"},
        ),
    )
    fake.client(user_agent="ksefbuffer/9").open_session(PEF)
    assert {request.headers["user-agent"] for request in fake.requests} == {"ksefbuffer/9"}
    assert fake.requests[-1].headers["cookie"] == "visid_incap_1=v"
    assert fake.requests[-1].headers["x-error-format"] == "problem-details"
    assert fake.tokens_seen[0].endswith("|1")
