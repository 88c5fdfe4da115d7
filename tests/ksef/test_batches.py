"""Packages handed in: opening, sending the parts, closing, and what is known after every kind of trouble."""

from __future__ import annotations

import hashlib
import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from ksefbuffer.errors import (
    Blocked,
    CallFault,
    OutcomeUnknown,
    RateLimited,
    Refused,
    SessionUnusable,
    Unauthorised,
    Unavailable,
    Unreachable,
)
from ksefbuffer.invoice.forms import FA3, FA_RR
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.limits import LIMITS, Limit, Limiter
from ksefbuffer.ksef.packages import Package, build_package
from ksefbuffer.ksef.shapes import BatchSession, InvoiceStatus, SessionLimits
from ksefbuffer.ksef.wire import READ_ATTEMPTS
from tests.ksef.fake import Clock, Handler
from tests.ksef.fake_batch import SIGNED, STORAGE, FakeBatches, digest
from tests.ksef.test_failures import BROKEN, HTML, _name, classic, page, problem
from tests.ksef.test_sessions import entry, listing

INVOICES = [(hashlib.sha256(text).hexdigest(), text) for text in (b"<a/>" * 900, b"<b/>", "<ż/>".encode() * 7)]
OPEN = "POST /sessions/batch"
REFERENCE = "20261120-SB-0"
CLOSE = f"POST /sessions/batch/{REFERENCE}/close"
PUT = f"PUT /storage/00/{REFERENCE}/1"
AZURE = (
    '\ufeff<?xml version="1.0" encoding="utf-8"?><Error><Code>AuthenticationFailed</Code><Message>Server failed to '
    "authenticate the request.</Message><AuthenticationErrorDetail>Signature sig=SECRET not valid"
    "</AuthenticationErrorDetail></Error>"
)


@pytest.fixture
def fake(clock: Clock) -> FakeBatches:
    return FakeBatches(clock)


@pytest.fixture
def ksef(fake: FakeBatches) -> Ksef:
    return fake.client()


@pytest.fixture
def package(ksef: Ksef, tmp_path: Path) -> Package:
    return build_package(INVOICES, tmp_path / "package", ksef.new_batch_key(), part_bytes=200)


def azure(status: int) -> httpx.Response:
    return httpx.Response(status, text=AZURE, headers={"content-type": "application/xml"})


def opened(ksef: Ksef, package: Package) -> BatchSession:
    return ksef.open_batch(FA3, package, package.key)


def uploaded(ksef: Ksef, package: Package) -> BatchSession:
    session = opened(ksef, package)
    for upload, part in zip(session.uploads, package.parts, strict=True):
        ksef.upload_part(upload, part)
    return session


# --- the whole way


@pytest.mark.parametrize("compression", ["TarGz", "Zip"])
def test_a_package_arrives_as_it_was(fake: FakeBatches, ksef: Ksef, tmp_path: Path, compression: str) -> None:
    key = ksef.new_batch_key()
    package = build_package(INVOICES, tmp_path, key, compression=compression, part_bytes=100)  # type: ignore[arg-type]
    assert len(package.parts) > 1
    session = ksef.open_batch(FA_RR, package, key, offline=True)
    # In any order, and once more for good measure.
    for n in (*reversed(range(len(package.parts))), 0):
        ksef.upload_part(session.uploads[n], package.parts[n])
    ksef.close_batch(session.reference)
    assert fake.handed_in == [[(f"{sha}.xml", content) for sha, content in INVOICES]]
    body = fake.batches[session.reference].body
    assert body["offlineMode"] is True
    assert body["formCode"] == {"systemCode": "FA_RR (1)", "schemaVersion": "1-1E", "value": "FA_RR"}
    assert (fake.batches[REFERENCE].key, fake.batches[REFERENCE].iv) == (key.key, key.iv)


def test_every_package_has_a_key_of_its_own(ksef: Ksef) -> None:
    first, second = ksef.new_batch_key(), ksef.new_batch_key()
    assert first.key != second.key
    assert first.iv != second.iv


def test_nothing_is_handed_in_before_the_close(fake: FakeBatches, ksef: Ksef, package: Package) -> None:
    uploaded(ksef, package)
    assert fake.handed_in == []
    assert fake.count(CLOSE) == 0


# --- opening


def test_the_figures_declared_are_those_of_the_package(fake: FakeBatches, ksef: Ksef, package: Package) -> None:
    session = opened(ksef, package)
    body = json.loads(fake.last(OPEN).content)
    assert body["batchFile"] == {
        "fileSize": package.plain_size,
        "fileHash": package.plain_sha256_b64,
        "compressionType": "TarGz",
        "fileParts": [
            {"ordinalNumber": n, "fileSize": part.path.stat().st_size, "fileHash": digest(part.path.read_bytes())}
            for n, part in enumerate(package.parts, 1)
        ],
    }
    assert body["offlineMode"] is False
    assert [upload.ordinal for upload in session.uploads] == [part.ordinal for part in package.parts]
    assert session.upload_until == fake.clock.now + timedelta(minutes=20) * len(package.parts)
    assert session.valid_until is None


def test_a_withdrawn_key_is_fetched_anew_and_the_package_key_wrapped_again(
    fake: FakeBatches, ksef: Ksef, package: Package
) -> None:
    opened(ksef, package)
    fake.key_names = ("key-2",)
    fake.plan(OPEN, problem(400, 21470))
    session = opened(ksef, package)
    assert fake.batches[session.reference].key == package.key.key
    assert fake.count("GET /security/public-key-certificates") == 2
    fake.plan(OPEN, problem(400, 21470), problem(400, 21470))
    with pytest.raises(Refused):
        opened(ksef, package)
    assert fake.count(OPEN) == 5


def test_a_package_under_another_key_is_not_even_declared(fake: FakeBatches, ksef: Ksef, package: Package) -> None:
    with pytest.raises(ValueError, match="another key"):
        ksef.open_batch(FA3, package, ksef.new_batch_key())
    assert fake.requests == []


UPLOADS = [
    {"ordinalNumber": n, "method": "PUT", "url": f"{STORAGE}/S/{n}", "headers": {"x-ms-blob-type": "BlockBlob"}}
    for n in range(1, 10)
]


@pytest.mark.parametrize(
    "changed",
    [
        {"partUploadRequests": None},
        {"partUploadRequests": []},
        {"partUploadRequests": UPLOADS[1:]},
        {"partUploadRequests": [UPLOADS[0], UPLOADS[0], *UPLOADS[2:]]},
        {"partUploadRequests": [{**UPLOADS[0], "url": "file:///etc/passwd"}, *UPLOADS[1:]]},
        {"partUploadRequests": [{**UPLOADS[0], "headers": {"a": "b\nc: d"}}, *UPLOADS[1:]]},
        {"partUploadRequests": [{**UPLOADS[0], "method": ""}, *UPLOADS[1:]]},
        {"referenceNumber": None},
    ],
    ids=str,
)
def test_an_opening_that_cannot_be_followed_is_no_session(
    fake: FakeBatches, ksef: Ksef, package: Package, changed: dict[str, object]
) -> None:
    whole = {"referenceNumber": "S", "partUploadRequests": UPLOADS[: len(package.parts)]}
    fake.plan(OPEN, httpx.Response(201, json=whole))
    assert opened(ksef, package).reference == "S"
    fake.plan(OPEN, httpx.Response(201, json={**whole, **changed}))
    with pytest.raises(OutcomeUnknown):
        opened(ksef, package)


OPENED = [
    *BROKEN,
    *[(httpx.Response(status), OutcomeUnknown) for status in (500, 502, 503, 504)],
    (page(200), OutcomeUnknown),
    (httpx.Response(429), RateLimited),
    (page(403), Blocked),
    (problem(403, reasonCode="missing-permissions"), Unauthorised),
    (problem(400, 21184), Unavailable),
    *[(problem(400, code), Refused) for code in (21157, 21161, 21405)],
    (classic(21161), Refused),
]


@pytest.mark.parametrize(("trouble", "known"), OPENED, ids=_name)
def test_opening_a_batch_is_made_once_and_says_what_is_known(
    fake: FakeBatches, ksef: Ksef, package: Package, trouble: Exception | httpx.Response, known: type[CallFault]
) -> None:
    fake.plan(OPEN, trouble)
    with pytest.raises(CallFault) as caught:
        opened(ksef, package)
    assert type(caught.value) is known
    assert caught.value.operation == "open_batch"
    assert fake.count(OPEN) == 1


# --- sending the parts


def test_a_part_goes_by_exactly_the_returned_words_and_nothing_of_ours(
    fake: FakeBatches, ksef: Ksef, package: Package
) -> None:
    fake.headers = {"x-ms-blob-type": "BlockBlob", "X-Custom": "a b", "content-length": "1", "x-odd": None}
    session = uploaded(ksef, package)
    first = fake.puts[0]
    assert str(first.url) == f"{STORAGE}/{REFERENCE}/1?{SIGNED}"
    assert first.headers["x-custom"] == "a b"
    # Both set cookies and are one host: the API's come back to the API alone, the storage's to nobody.
    ksef.close_batch(session.reference)
    assert fake.last(CLOSE).headers["cookie"] == "visid_incap=2"
    assert all(fake.batches[REFERENCE].parts[part.ordinal] == part.path.read_bytes() for part in package.parts)


PASSING = [
    *[trouble for trouble, _ in BROKEN if not isinstance(trouble, httpx.InvalidURL)],
    *[httpx.Response(status) for status in (200, 202, 204, 302, 408, 500, 502, 503, 504)],
    page(200),
    page(503),
    httpx.Response(200, json={"ok": True}),
]


@pytest.mark.parametrize("trouble", PASSING, ids=_name)
def test_a_part_is_sent_again_until_the_storage_says_created(
    fake: FakeBatches, ksef: Ksef, package: Package, trouble: Exception | httpx.Response
) -> None:
    session = opened(ksef, package)
    fake.plan(PUT, trouble, trouble)
    ksef.upload_part(session.uploads[0], package.parts[0])
    assert fake.count(PUT) == 3
    assert fake.batches[REFERENCE].parts[1] == package.parts[0].path.read_bytes(), "whole, also the third time"


@pytest.mark.parametrize("trouble", PASSING, ids=_name)
def test_a_part_is_given_up_after_a_few_tries(
    fake: FakeBatches, ksef: Ksef, package: Package, trouble: Exception | httpx.Response
) -> None:
    session = opened(ksef, package)
    fake.plan(PUT, *[trouble] * 10)
    with pytest.raises((OutcomeUnknown, Unreachable)) as caught:
        ksef.upload_part(session.uploads[0], package.parts[0])
    assert caught.value.operation == "upload_part"
    assert fake.count(PUT) == READ_ATTEMPTS


@pytest.mark.parametrize(
    ("answer", "known"),
    [
        *[(azure(status), Refused) for status in (400, 401, 403, 404, 409, 410, 412, 413)],
        (httpx.Response(403), Refused),
        (page(403), Blocked),
        (page(400), Blocked),
        (httpx.Response(403, json={"title": "Request blocked", "security": {"incidentId": "7"}}), Blocked),
        (httpx.Response(429), RateLimited),
    ],
    ids=_name,
)
def test_a_refused_part_is_not_sent_again(
    fake: FakeBatches, ksef: Ksef, package: Package, answer: httpx.Response, known: type[CallFault]
) -> None:
    session = opened(ksef, package)
    fake.plan(PUT, answer)
    with pytest.raises(CallFault) as caught:
        ksef.upload_part(session.uploads[0], package.parts[0])
    assert type(caught.value) is known
    assert caught.value.action
    assert fake.count(PUT) == 1
    if answer.content.startswith("\ufeff<?xml".encode()):
        assert caught.value.details == ("AuthenticationFailed",)


def test_the_link_and_what_the_storage_says_of_it_stay_secret(
    fake: FakeBatches, ksef: Ksef, package: Package, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    session = opened(ksef, package)
    said = repr(session)
    for answer in (azure(403), page(200), httpx.ReadError(f"cut {STORAGE}?{SIGNED}"), httpx.ConnectTimeout(SIGNED)):
        fake.plan(PUT, *[answer] * READ_ATTEMPTS)
        with pytest.raises(CallFault) as caught:
            ksef.upload_part(session.uploads[0], package.parts[0])
        said += f"{caught.value} {caught.value!r} {caught.value.details}"
    for record in caplog.records:
        said += record.getMessage()
    assert "/storage/00" not in said
    assert "sig=" not in said
    assert "SECRET" not in said


def test_an_upload_takes_only_its_own_part(fake: FakeBatches, ksef: Ksef, package: Package) -> None:
    session = opened(ksef, package)
    with pytest.raises(ValueError, match="another part"):
        ksef.upload_part(session.uploads[0], package.parts[1])
    assert fake.puts == []


def test_a_part_that_is_gone_from_the_disk_says_so(fake: FakeBatches, ksef: Ksef, package: Package) -> None:
    session = opened(ksef, package)
    package.discard()
    with pytest.raises(FileNotFoundError):
        ksef.upload_part(session.uploads[0], package.parts[0])
    assert fake.puts == []


def test_parts_count_against_no_limit(clock: Clock, tmp_path: Path) -> None:
    fake = FakeBatches(clock)
    limiter = Limiter({**LIMITS, "global": Limit(10, 15, 15)})
    ksef = fake.client(limiter=limiter)
    package = build_package(INVOICES, tmp_path, ksef.new_batch_key(), part_bytes=10)
    before = limiter.snapshot(clock.now)["global"]
    assert len(package.parts) > 15
    session = opened(ksef, package)
    used = limiter.snapshot(clock.now)["global"].per_hour
    for upload, part in zip(session.uploads, package.parts, strict=True):
        ksef.upload_part(upload, part)
    assert limiter.snapshot(clock.now)["global"].per_hour == used > before.per_hour


# --- closing


@pytest.mark.parametrize("code", [150, 200, 405, 435, 440, 445])
def test_a_batch_past_closing_counts_as_closed(fake: FakeBatches, ksef: Ksef, code: int) -> None:
    fake.plan(CLOSE, problem(400, 21180, f"Status sesji {code} uniemożliwia jej zamknięcie."))
    ksef.close_batch(REFERENCE)
    assert fake.count(CLOSE) == 1


def test_closing_twice_is_closing_once(fake: FakeBatches, ksef: Ksef, package: Package) -> None:
    session = uploaded(ksef, package)
    ksef.close_batch(session.reference)
    ksef.close_batch(session.reference)
    assert len(fake.handed_in) == 1


def test_a_close_forbidden_without_a_reason_is_judged_by_the_session(fake: FakeBatches, ksef: Ksef) -> None:
    fake.plan(CLOSE, problem(400, 21180), problem(400, 21180))
    fake.plan(
        f"GET /sessions/{REFERENCE}",
        httpx.Response(200, json={"status": {"code": 100, "description": "x"}}),
        httpx.Response(200, json={"status": {"code": 150, "description": "x"}}),
    )
    with pytest.raises(SessionUnusable):
        ksef.close_batch(REFERENCE)
    ksef.close_batch(REFERENCE)


def test_a_part_that_the_storage_shows_late_delays_the_close(
    fake: FakeBatches, ksef: Ksef, package: Package, clock: Clock
) -> None:
    session = uploaded(ksef, package)
    fake.plan(CLOSE, *[problem(400, 21205, "Nie przesłano zadeklarowanej '1' części pliku.")] * 3)
    ksef.close_batch(session.reference)
    assert clock.slept == [2, 4, 8]
    assert len(fake.handed_in) == 1


def test_a_part_that_never_shows_is_not_now(fake: FakeBatches, ksef: Ksef, package: Package, clock: Clock) -> None:
    session = opened(ksef, package)
    with pytest.raises(Unavailable) as caught:
        ksef.close_batch(session.reference)
    assert (caught.value.code, caught.value.http_status) == ("21205", 400)
    assert any("'1'" in detail for detail in caught.value.details)
    assert clock.slept == [2, 4, 8]
    assert fake.count(CLOSE) == 4


def test_a_session_that_ksef_forgot_for_a_moment_is_closed_in_the_end(
    fake: FakeBatches, ksef: Ksef, package: Package
) -> None:
    session = uploaded(ksef, package)
    fake.plan(CLOSE, problem(400, 21173), problem(400, 21205), problem(400, 21173), problem(400, 21173))
    ksef.close_batch(session.reference)
    assert fake.count(CLOSE) == 5
    assert len(fake.handed_in) == 1


def test_a_session_that_ksef_never_knows_is_refused(fake: FakeBatches, ksef: Ksef) -> None:
    with pytest.raises(Refused) as caught:
        ksef.close_batch("20261120-SB-9")
    assert caught.value.code == "21173"
    assert fake.count("POST /sessions/batch/20261120-SB-9/close") == 4


@pytest.mark.parametrize("answer", [problem(400, 21208, "Sesja anulowana."), classic(21208)], ids=_name)
def test_a_batch_whose_time_was_over_needs_another_session(
    fake: FakeBatches, ksef: Ksef, answer: httpx.Response
) -> None:
    fake.plan(CLOSE, answer)
    # The session is at its end, but not because it was handed in.
    fake.plan(f"GET /sessions/{REFERENCE}", httpx.Response(200, json={"status": {"code": 440, "description": "x"}}))
    with pytest.raises(SessionUnusable) as caught:
        ksef.close_batch(REFERENCE)
    assert caught.value.code == "21208"
    assert fake.count(CLOSE) == 1


CLOSED = [
    *BROKEN,
    *[(httpx.Response(status), OutcomeUnknown) for status in (500, 502, 503, 504, 408, 302)],
    *[(page(status), OutcomeUnknown) for status in (200, 202, 502)],
    (httpx.Response(500, json={"exception": {"exceptionDetailList": []}}), OutcomeUnknown),
    (httpx.Response(429, headers={"Retry-After": "30"}), RateLimited),
    (page(403), Blocked),
    (problem(403, reasonCode="missing-permissions"), Unauthorised),
    (problem(400, 21157), Refused),
    (problem(400, 21184), Unavailable),
]


@pytest.mark.parametrize(("trouble", "known"), CLOSED, ids=_name)
def test_a_close_is_made_once_and_says_what_is_known(
    fake: FakeBatches, ksef: Ksef, trouble: Exception | httpx.Response, known: type[CallFault]
) -> None:
    fake.plan(CLOSE, trouble)
    with pytest.raises(CallFault) as caught:
        ksef.close_batch(REFERENCE)
    assert type(caught.value) is known
    assert caught.value.operation == "close_batch"
    assert fake.count(CLOSE) == 1


def test_a_close_that_worked_though_its_answer_was_lost_can_be_made_again(
    fake: FakeBatches, ksef: Ksef, package: Package
) -> None:
    session = uploaded(ksef, package)

    def lost(request: httpx.Request) -> httpx.Response:
        fake._ordinary(request)
        return httpx.Response(504, text=HTML)

    fake.plan(CLOSE, lost)
    with pytest.raises(OutcomeUnknown):
        ksef.close_batch(session.reference)
    assert len(fake.handed_in) == 1
    ksef.close_batch(session.reference)
    assert len(fake.handed_in) == 1


# --- results


def pages_of(count: int) -> Handler:
    """Pages of 1,000, the token in the body going back in the header."""

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.params["pageSize"] == "1000"
        start = int(request.headers.get("x-continuation-token", "0"))
        # The page repeats the last row of the one before, as a listing does that grows while it is read.
        entries = [
            entry(n + 1, invoiceHash=digest(str(n).encode()), invoiceFileName=f"{n}.xml")
            for n in range(max(start - 1, 0), min(start + 1000, count))
        ]
        return listing(*entries, token=str(start + 1000) if start + 1000 < count else None)

    return answer


def test_ten_thousand_results_are_read_page_by_page_each_once(fake: FakeBatches, ksef: Ksef) -> None:
    fake.plan("GET /sessions/S/invoices", *[pages_of(10_000)] * 10)
    found: list[InvoiceStatus] = list(ksef.invoices("S"))
    assert [(status.file_name, status.sha256_hex) for status in found] == [
        (f"{n}.xml", hashlib.sha256(str(n).encode()).hexdigest()) for n in range(10_000)
    ]
    assert fake.count("GET /sessions/S/invoices") == 10


def test_failed_invoices_are_a_listing_of_their_own(fake: FakeBatches, ksef: Ksef) -> None:
    fake.plan(
        "GET /sessions/S/invoices/failed",
        listing(entry(1, 440, invoiceFileName="a.xml"), token="next"),
        problem(400, 21418),
        listing(entry(1, 440), token="again"),
        listing(entry(2, 450)),
    )
    found = list(ksef.failed_invoices("S"))
    assert [(status.reference, status.code, status.file_name) for status in found] == [
        ("E1", 440, "a.xml"),
        ("E2", 450, ""),
    ]
    assert fake.last("GET /sessions/S/invoices/failed").headers["x-continuation-token"] == "again"


def test_own_sessions_are_listed_by_kind_and_date(fake: FakeBatches, ksef: Ksef) -> None:
    def session(n: int, **changes: object) -> dict[str, object]:
        return {
            "referenceNumber": f"S{n}",
            "status": {"code": 100, "description": "Sesja otwarta"},
            "dateCreated": "2026-11-20T11:00:00.1234567+00:00",
            "dateUpdated": "2026-11-20T11:00:00+00:00",
            "totalInvoiceCount": 5,
            "successfulInvoiceCount": 3,
            "failedInvoiceCount": 2,
            "nowe": {},
            **changes,
        }

    fake.plan(
        "GET /sessions",
        httpx.Response(200, json={"sessions": [session(2, validUntil=None)], "continuationToken": "t"}),
        httpx.Response(
            200, json={"sessions": [session(1, validUntil="2026-11-20T23:00:00Z")], "continuationToken": ""}
        ),
    )
    since = datetime(2026, 11, 19, 23, 30, tzinfo=UTC)
    second, first = ksef.own_sessions(kind="Batch", since=since)
    params = fake.last("GET /sessions").url.params
    assert dict(params) == {"sessionType": "Batch", "dateCreatedFrom": "2026-11-19T23:30:00Z", "pageSize": "1000"}
    assert fake.last("GET /sessions").headers["x-continuation-token"] == "t"
    assert (second.reference, second.code, second.total, second.successful, second.failed) == ("S2", 100, 5, 3, 2)
    assert first.created_at == datetime(2026, 11, 20, 11, 0, 0, 123456, tzinfo=UTC)
    assert (first.valid_until, second.valid_until) == (datetime(2026, 11, 20, 23, tzinfo=UTC), None)


def test_the_limits_of_sessions_are_in_bytes(fake: FakeBatches, ksef: Ksef) -> None:
    figures = {"maxInvoiceSizeInMB": 1, "maxInvoiceWithAttachmentSizeInMB": 3, "maxInvoices": 10000}
    body = {"onlineSession": figures, "batchSession": {**figures, "maxInvoices": 20}, "nowe": 1}
    fake.plan("GET /limits/context", httpx.Response(200, json=body))
    assert ksef.session_limits() == {
        "onlineSession": SessionLimits(1_000_000, 3_000_000, 10_000),
        "batchSession": SessionLimits(1_000_000, 3_000_000, 20),
    }
    fake.plan("GET /limits/context", *[httpx.Response(200, json={"onlineSession": figures})] * READ_ATTEMPTS)
    with pytest.raises(OutcomeUnknown):
        ksef.session_limits()


def test_rate_limits_of_a_shape_unknown_to_us_are_left_out(fake: FakeBatches, ksef: Ksef) -> None:
    figures = {"perSecond": 1, "perMinute": 2}
    fake.plan(
        "GET /rate-limits",
        httpx.Response(
            200, json={"a": figures, "b": {"perSecond": "many"}, "c": 5, "d": {"perHour": None, "perMinute": -7}}
        ),
    )
    assert ksef.rate_limits() == {"a": Limit(1, 2, -1), "d": Limit(-1, -1, -1)}


# --- limits


def test_an_ordinary_share_leaves_room_for_the_urgent(fake: FakeBatches, clock: Clock) -> None:
    ksef = fake.client(limiter=Limiter())
    session = ksef.open_session(FA3)
    for _ in range(27):
        ksef.send(session, b"<Faktura/>", share=0.9)
        clock.now += timedelta(seconds=1)
    with pytest.raises(RateLimited):
        ksef.send(session, b"<Faktura/>", share=0.9)
    for _ in range(3):
        ksef.send(session, b"<Faktura/>")
    with pytest.raises(RateLimited):
        ksef.send(session, b"<Faktura/>")
    assert len(fake.received) == 30


def test_a_429_that_our_count_cannot_explain_is_somebody_elses(fake: FakeBatches, clock: Clock) -> None:
    limiter = Limiter()
    ksef = fake.client(limiter=limiter)
    ksef.login_now()
    fake.plan(CLOSE, httpx.Response(429, headers={"Retry-After": "30"}))
    with pytest.raises(RateLimited):
        ksef.close_batch(REFERENCE)
    foreign = limiter.foreign("batchSessionClose")
    assert foreign is not None
    assert foreign.since == clock.now
    assert limiter.foreign("batchSession") is None
    assert limiter.snapshot(clock.now)["batchSessionClose"].foreign_since == clock.now


def test_a_call_counts_from_its_answer_not_from_its_departure(clock: Clock) -> None:
    fake = FakeBatches(clock)
    limiter = Limiter({**LIMITS, "sessionMisc": Limit(1, 100, 100)})
    ksef = fake.client(limiter=limiter)
    ksef.login_now()
    arrived: list[datetime] = []

    def slow(request: httpx.Request) -> httpx.Response:
        if not arrived:
            clock.now += timedelta(seconds=0.8)
        arrived.append(clock.now)
        return fake._ordinary(request)

    fake.plan("GET /sessions/S", slow, slow)
    ksef.session("S")
    ksef.session("S")
    assert arrived[1] - arrived[0] >= timedelta(seconds=1)
