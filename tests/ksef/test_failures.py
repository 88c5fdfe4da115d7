"""What is known after every kind of trouble, kind by kind."""

from __future__ import annotations

import logging

import httpx
import pytest

from ksefbuffer.errors import (
    Blocked,
    CallFault,
    NotTaken,
    OutcomeUnknown,
    RateLimited,
    Refused,
    SessionUnusable,
    Unauthorised,
    Unavailable,
    Unreachable,
)
from ksefbuffer.invoice.forms import FA3
from ksefbuffer.ksef.failures import read_problem
from ksefbuffer.ksef.limits import Limiter
from ksefbuffer.ksef.wire import READ_ATTEMPTS
from tests.ksef.fake import Clock, FakeKsef, problem

HTML = "<!DOCTYPE html><html><body>Request unsuccessful. Incapsula incident</body></html>"
WAF = {
    "title": "Request blocked",
    "status": 403,
    "detail": "x",
    "security": {"incidentId": "77", "clientIp": "1.2.3.4"},
}
CLASSIC_429 = {"status": {"code": 429, "description": "Too Many Requests", "details": ["Spróbuj po 30 sekundach."]}}


def classic(code: int | str, *details: str) -> httpx.Response:
    entry = {"exceptionCode": code, "exceptionDescription": f"Opis {code}", "details": list(details)}
    return httpx.Response(400, json={"exception": {"exceptionDetailList": [entry], "serviceCode": "00-aa-00"}})


def page(status: int) -> httpx.Response:
    return httpx.Response(status, text=HTML, headers={"content-type": "text/html"})


# What the connection did → what is known after a call that changes something.
BROKEN = [
    (httpx.ConnectError("Connection refused"), Unreachable),
    (httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED]"), Unreachable),
    (httpx.ConnectTimeout("slow"), Unreachable),
    (httpx.PoolTimeout("busy"), Unreachable),
    (httpx.ProxyError("407"), Unreachable),
    (httpx.UnsupportedProtocol("x"), Unreachable),
    (httpx.InvalidURL("x"), Unreachable),
    (httpx.WriteTimeout("slow"), OutcomeUnknown),
    (httpx.ReadTimeout("slow"), OutcomeUnknown),
    (httpx.WriteError("cut"), OutcomeUnknown),
    (httpx.ReadError("cut"), OutcomeUnknown),
    (httpx.CloseError("cut"), OutcomeUnknown),
    (httpx.RemoteProtocolError("peer closed connection without sending complete message body"), OutcomeUnknown),
    (httpx.LocalProtocolError("x"), OutcomeUnknown),
    (httpx.DecodingError("x"), OutcomeUnknown),
    (httpx.TooManyRedirects("x"), OutcomeUnknown),
]

# What was answered → what is known after a call that changes something.
ANSWERED = [
    *[(httpx.Response(status), OutcomeUnknown) for status in (500, 502, 503, 504, 599, 408, 302)],
    (page(500), OutcomeUnknown),
    (httpx.Response(500, json={"exception": {"exceptionDetailList": []}}), OutcomeUnknown),
    (page(200), OutcomeUnknown),
    (httpx.Response(202, content=b""), OutcomeUnknown),
    (httpx.Response(202, content=b'{"referenceNumber": "2026'), OutcomeUnknown),
    (httpx.Response(202, content=b"[" * 200_000), OutcomeUnknown),
    (httpx.Response(202, content=b"\xff\xfe\x00"), OutcomeUnknown),
    (httpx.Response(202, json=[]), OutcomeUnknown),
    (httpx.Response(202, json={"referenceNumber": None}), OutcomeUnknown),
    (httpx.Response(202, json={"something": "else"}), OutcomeUnknown),
    (httpx.Response(429, json=CLASSIC_429), RateLimited),
    (httpx.Response(429), RateLimited),
    (page(429), RateLimited),
    (httpx.Response(403, json=WAF), Blocked),
    (page(403), Blocked),
    (httpx.Response(403, content=b""), Blocked),
    (problem(403, reasonCode="security-service-blocked"), Blocked),
    (problem(403, reasonCode="missing-permissions"), Unauthorised),
    (problem(403, reasonCode="ip-not-allowed"), Unauthorised),
    (problem(403, reasonCode="auth-method-not-allowed"), Unauthorised),
    (problem(403, reasonCode="something-new"), Unauthorised),
    (problem(403), Unauthorised),
    (page(400), Blocked),
    (page(404), Blocked),
    (httpx.Response(404), Blocked),
    (httpx.Response(407), Blocked),
    (problem(400, 21184), Unavailable),
    (classic(21184), Unavailable),
    (problem(400, 21155), SessionUnusable),
    (problem(400, 21180, "Status sesji (415)"), SessionUnusable),
    (classic("21180", "(170)"), SessionUnusable),
    (problem(400, 21405), Refused),
    (classic(21405, "Pole X"), Refused),
    (problem(400, 21402), Refused),
    (problem(400, 29999), Refused),
    (problem(410), Refused),
    (problem(422), Refused),
    (httpx.Response(406), Refused),
    (httpx.Response(415), Refused),
    (problem(404), Refused),
]


def _name(value: object) -> str:
    if isinstance(value, httpx.Response):
        return f"{value.status_code}-{value.content[:30]!r}"
    return type(value).__name__ if isinstance(value, Exception) else getattr(value, "__name__", "")


@pytest.mark.parametrize(("trouble", "known"), [*BROKEN, *ANSWERED], ids=_name)
def test_a_send_is_made_once_and_says_what_is_known(
    fake: FakeKsef, trouble: Exception | httpx.Response, known: type[CallFault]
) -> None:
    ksef = fake.client()
    session = ksef.open_session(FA3)
    route = f"POST /sessions/online/{session.reference}/invoices"
    fake.plan(route, trouble)
    with pytest.raises(CallFault) as caught:
        ksef.send(session, b"<Faktura/>")
    assert type(caught.value) is known
    assert caught.value.message
    assert caught.value.action
    assert caught.value.operation == "send"
    assert fake.count(route) == 1, "a send is never repeated by itself"


@pytest.mark.parametrize(("trouble", "known"), [*BROKEN, *ANSWERED], ids=_name)
def test_opening_a_session_is_made_once_and_says_what_is_known(
    fake: FakeKsef, trouble: Exception | httpx.Response, known: type[CallFault]
) -> None:
    ksef = fake.client()
    fake.plan("POST /sessions/online", trouble)
    with pytest.raises(CallFault) as caught:
        ksef.open_session(FA3)
    assert type(caught.value) is known
    assert fake.count("POST /sessions/online") == 1


@pytest.mark.parametrize(("trouble", "known"), [*BROKEN, *ANSWERED[:16]], ids=_name)
def test_a_read_is_repeated_and_in_the_end_says_what_is_known(
    fake: FakeKsef, trouble: Exception | httpx.Response, known: type[CallFault]
) -> None:
    ksef = fake.client()
    fake.plan("GET /sessions/S", *[trouble] * READ_ATTEMPTS)
    with pytest.raises(CallFault) as caught:
        ksef.session("S")
    assert type(caught.value) is known
    assert fake.count("GET /sessions/S") == READ_ATTEMPTS


@pytest.mark.parametrize("trouble", [trouble for trouble, _ in BROKEN] + [httpx.Response(503), page(200)], ids=_name)
def test_a_read_outlives_a_passing_trouble(fake: FakeKsef, trouble: Exception | httpx.Response) -> None:
    ksef = fake.client()
    fake.plan("GET /sessions/S", trouble)
    assert ksef.session("S").code == 170


def test_every_exception_of_httpx_becomes_a_fault(fake: FakeKsef) -> None:
    def kinds(root: type[Exception]) -> set[type[Exception]]:
        return {root}.union(*(kinds(child) for child in root.__subclasses__()))

    ksef = fake.client()
    session = ksef.open_session(FA3)
    every = kinds(httpx.HTTPError) | kinds(httpx.StreamError) | {httpx.InvalidURL, httpx.CookieConflict}
    for kind in sorted(every, key=lambda kind: kind.__name__):
        fake.plan(f"POST /sessions/online/{session.reference}/invoices", kind.__new__(kind))
        with pytest.raises((Unreachable, OutcomeUnknown)):
            ksef.send(session, b"<Faktura/>")


@pytest.mark.parametrize(
    ("headers", "body", "pause_s"),
    [
        ({"Retry-After": "30"}, CLASSIC_429, 31.0),
        ({"Retry-After": "5"}, CLASSIC_429, 6.0),
        ({"Retry-After": "0"}, {}, 1.0),
        ({}, CLASSIC_429, 31.0),
        ({}, {}, 61.0),
        ({"Retry-After": "soon"}, {}, 61.0),
        ({"Retry-After": "Fri, 20 Nov 2026 12:00:40 GMT"}, {}, 41.0),
    ],
)
def test_the_pause_after_429_is_what_the_header_says_and_a_second(
    fake: FakeKsef, headers: dict[str, str], body: dict[str, object], pause_s: float
) -> None:
    limiter = Limiter()
    ksef = fake.client(limiter=limiter)
    ksef.login_now()
    fake.plan("GET /sessions/S", httpx.Response(429, json=body, headers=headers))
    with pytest.raises(RateLimited) as caught:
        ksef.session("S")
    assert caught.value.retry_after_s == pause_s
    assert fake.count("GET /sessions/S") == 1
    # And nobody calls again before that.
    if pause_s > 2:
        with pytest.raises(RateLimited) as local:
            ksef.session("S")
        assert local.value.retry_after_s == pause_s
        assert fake.count("GET /sessions/S") == 1
        assert local.value.http_status is None


def test_a_used_up_limit_stops_the_call_before_it_is_made(fake: FakeKsef) -> None:
    ksef = fake.client()
    for _ in range(30):
        ksef.open_session(FA3)
    with pytest.raises(RateLimited) as caught:
        ksef.open_session(FA3)
    assert fake.count("POST /sessions/online") == 30
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s > 2


def test_a_short_wait_for_our_own_limit_is_slept_through(fake: FakeKsef, clock: Clock) -> None:
    ksef = fake.client()
    for _ in range(11):
        ksef.open_session(FA3)
    assert fake.count("POST /sessions/online") == 11
    assert len(clock.slept) == 1
    assert 0.9 < clock.slept[0] <= 1.1


def test_a_clock_that_stands_still_does_not_hang_the_wait(fake: FakeKsef) -> None:
    ksef = fake.client(sleep=lambda _: None)
    for _ in range(10):
        ksef.open_session(FA3)
    with pytest.raises(RateLimited):
        ksef.open_session(FA3)


def test_a_long_retry_after_of_503_is_left_to_the_caller(fake: FakeKsef) -> None:
    ksef = fake.client()
    fake.plan("GET /sessions/S", httpx.Response(503, headers={"Retry-After": "120"}))
    with pytest.raises(OutcomeUnknown) as caught:
        ksef.session("S")
    assert caught.value.retry_after_s == 120
    assert fake.count("GET /sessions/S") == 1


def test_a_short_retry_after_of_503_is_waited_out(fake: FakeKsef, clock: Clock) -> None:
    ksef = fake.client()
    ksef.login_now()
    clock.slept.clear()
    fake.plan("GET /sessions/S", httpx.Response(503, headers={"Retry-After": "4"}))
    assert ksef.session("S").code == 170
    assert len(clock.slept) == 1
    assert clock.slept[0] >= 4


def test_all_that_ksef_says_is_kept(fake: FakeKsef) -> None:
    ksef = fake.client()
    body = {
        "title": "Bad Request",
        "status": 400,
        "detail": "Żądanie jest nieprawidłowe.",
        "errors": [
            {"code": 21405, "description": "Błąd walidacji", "details": ["Pole formCode"]},
            {"code": "21184", "description": "Sesja niedostępna"},
        ],
        "traceId": "t-1",
        "nowe": {"pole": 1},
    }
    fake.plan("POST /sessions/online", httpx.Response(400, json=body))
    with pytest.raises(Unavailable) as caught:
        ksef.open_session(FA3)
    assert caught.value.code == "21184"
    assert caught.value.http_status == 400
    assert caught.value.details == (
        "Błąd walidacji",
        "Pole formCode",
        "Sesja niedostępna",
        "Żądanie jest nieprawidłowe.",
    )


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"null", b"1", b'"x"', b"[]", b"{}", b"<html>", b"\xff", b"[" * 100_000),
        b'{"errors": 5, "exception": [], "status": "x"}',
        b'{"errors": [null, 7, {"code": null, "details": "x"}]}',
    ],
)
def test_no_error_body_is_too_odd_to_be_read(body: bytes) -> None:
    read_problem(body)


def test_nothing_secret_is_logged_or_raised(fake: FakeKsef, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    link = "https://storage.example/upo?sig=SECRETLINK"
    ksef = fake.client()
    session = ksef.open_session(FA3)
    said = [repr(session), repr(ksef)]
    fake.plan(f"POST /sessions/online/{session.reference}/invoices", httpx.ReadTimeout("SECRETLINK"))
    with pytest.raises(OutcomeUnknown) as caught:
        ksef.send(session, b"<Faktura>SECRETINVOICE</Faktura>")
    said += [repr(caught.value), str(caught.value), repr(caught.value.__cause__), repr(vars(caught.value))]
    fake.plan("GET /upo", httpx.Response(403), *[httpx.ReadError("SECRETLINK")] * READ_ATTEMPTS)
    for _ in range(2):
        with pytest.raises(CallFault) as caught_link:
            ksef.upo_by_link(link)
        said += [repr(caught_link.value), repr(vars(caught_link.value)), repr(caught_link.value.__cause__)]
    whole = "\n".join([caplog.text, *said])
    token = next(iter(fake.live_tokens))
    assert "operation=send" in whole
    for secret in ("SECRETLINK", "SECRETINVOICE", "c2VjcmV0", token, 'authentication"', "Bearer"):
        assert secret not in whole


def test_system_warnings_are_logged_with_their_codes(fake: FakeKsef, caplog: pytest.LogCaptureFixture) -> None:
    warning = "[xml-001]: Niedozwolone znaki | [sig-001]: Podpis"
    fake.plan(
        "GET /sessions/S", httpx.Response(200, json={"status": {"code": 100}}, headers={"X-System-Warning": warning})
    )
    fake.client().session("S")
    assert "xml-001,sig-001" in caplog.text


def test_an_absurdly_large_answer_is_not_swallowed(fake: FakeKsef) -> None:
    class Endless(httpx.SyncByteStream):
        sent = 0

        def __iter__(self):  # type: ignore[no-untyped-def]
            while True:
                self.sent += 1_000_000
                yield b"x" * 1_000_000

    ksef = fake.client()
    session = ksef.open_session(FA3)
    endless = Endless()
    fake.plan(f"POST /sessions/online/{session.reference}/invoices", httpx.Response(202, stream=endless))
    with pytest.raises(OutcomeUnknown):
        ksef.send(session, b"<Faktura/>")
    assert endless.sent < 100_000_000


def test_what_fails_before_the_send_is_known_not_to_have_been_sent(fake: FakeKsef, clock: Clock) -> None:
    """Login in the way of a send: a lost answer there says nothing bad about the invoice."""
    ksef = fake.client()
    session = ksef.open_session(FA3)
    fake.expire_tokens()
    clock.now = session.valid_until
    fake.plan("POST /auth/token/refresh", *[httpx.ReadTimeout("x")] * 50)
    fake.plan("POST /auth/challenge", *[httpx.ReadTimeout("x")] * 50)
    with pytest.raises(NotTaken):
        ksef.send(session, b"<Faktura/>")
    assert fake.received == []
