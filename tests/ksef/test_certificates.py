"""Calls about certificates: what goes out, what comes back, and what each refusal tells people to do."""

from __future__ import annotations

import json

import httpx
import pytest

from ksefbuffer.errors import CallFault, OutcomeUnknown, RateLimited, Refused
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.limits import LIMITS, Limit, Limiter
from tests.identity.authority import CertifyingKsef
from tests.ksef.fake import Clock, problem

ENROL = "POST /certificates/enrollments"
NAME = "Bufor - sklep_1 żółw"
JUNK = [{}, [], {"canRequest": "tak"}, {"certificates": None}, {"status": {}}, {"referenceNumber": ""}]


@pytest.fixture
def fake() -> CertifyingKsef:
    return CertifyingKsef(Clock())


@pytest.fixture
def ksef(fake: CertifyingKsef) -> Ksef:
    return fake.client()


def test_limits_are_read(ksef: Ksef, fake: CertifyingKsef) -> None:
    fake.requests_left = 0
    limits = ksef.certificate_limits()
    assert (limits.may_request, limits.requests_left, limits.certificates_left) == (False, 0, 6)


def test_data_for_a_request_are_given_as_they_are_and_absent_fields_left_out(ksef: Ksef, fake: CertifyingKsef) -> None:
    fake.subject = {"commonName": " Jan  Łoś", "countryName": "PL", "givenName": ["Jan", "Maria"], "surname": None}
    assert ksef.enrolment_data() == {
        "commonName": (" Jan  Łoś",),
        "countryName": ("PL",),
        "givenName": ("Jan", "Maria"),
    }


@pytest.mark.parametrize("answer", [{}, {"commonName": "A"}, {"commonName": "", "countryName": "PL"}, []])
def test_data_without_a_name_or_a_country_are_not_taken(ksef: Ksef, fake: CertifyingKsef, answer: object) -> None:
    fake.plan("GET /certificates/enrollments/data", *(httpx.Response(200, json=answer) for _ in range(4)))
    with pytest.raises(OutcomeUnknown):
        ksef.enrolment_data()


def test_a_request_is_sent_once_and_never_repeated(ksef: Ksef, fake: CertifyingKsef) -> None:
    for trouble in (httpx.ReadTimeout("x"), httpx.Response(500), httpx.Response(202, json={}), httpx.Response(200)):
        before = fake.count(ENROL)
        fake.plan(ENROL, trouble)
        with pytest.raises(OutcomeUnknown):
            ksef.enrol(NAME, "Offline", b"csr")
        assert fake.count(ENROL) == before + 1
    assert json.loads(fake.last(ENROL).content) == {
        "certificateName": NAME,
        "certificateType": "Offline",
        "csr": "Y3Ny",
    }


def test_an_expired_access_costs_no_quota(ksef: Ksef, fake: CertifyingKsef) -> None:
    ksef.login_now()
    fake.expire_tokens()
    fake.plan(ENROL, httpx.Response(401), httpx.Response(202, json={"referenceNumber": "R", "timestamp": "x"}))
    assert ksef.enrol(NAME, "Authentication", b"csr") == "R"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (25001, "auth-request"),
        (25002, "nie tokenem"),
        (25003, "złóż wniosek jeszcze raz"),
        (25004, "błąd programu"),
        (25006, "limit wniosków"),
        (25007, "limit czynnych certyfikatów"),
        (25008, "numer seryjny"),
        (25009, "już unieważniony"),
        (25010, "EC P-256 albo RSA 2048"),
        (25011, "błąd programu"),
    ],
)
def test_each_refusal_says_what_to_do(ksef: Ksef, fake: CertifyingKsef, code: int, said: str) -> None:
    fake.plan(ENROL, problem(400, code, "szczegół"))
    with pytest.raises(Refused) as caught:
        ksef.enrol(NAME, "Offline", b"csr")
    assert caught.value.code == str(code)
    assert said in caught.value.action
    assert "wniosku o certyfikat" in caught.value.message


def test_an_unknown_refusal_is_still_one(ksef: Ksef, fake: CertifyingKsef) -> None:
    fake.plan(ENROL, problem(400, 25099))
    with pytest.raises(Refused) as caught:
        ksef.enrol(NAME, "Offline", b"csr")
    assert "Przeczytaj szczegóły" in caught.value.action


def test_a_status_that_is_done_names_its_certificate(ksef: Ksef, fake: CertifyingKsef) -> None:
    path = "/certificates/enrollments/R%2F1"
    done = {"requestDate": "x", "status": {"code": 200, "description": "OK"}, "certificateSerialNumber": "01AB"}
    fake.plan(f"GET {path.replace('%2F', '/')}", httpx.Response(200, json=done))
    assert ksef.enrolment("R/1").serial == "01AB"
    assert str(fake.requests[-1].url).endswith(path)

    half = {"status": {"code": 200, "description": "OK"}, "certificateSerialNumber": None}
    fake.plan("GET /certificates/enrollments/R", *(httpx.Response(200, json=half) for _ in range(4)))
    with pytest.raises(OutcomeUnknown):
        ksef.enrolment("R")


def test_a_status_rejected_has_its_reasons(ksef: Ksef, fake: CertifyingKsef) -> None:
    body = {"status": {"code": 400, "description": "Wniosek odrzucony", "details": ["limit", "klucz"]}}
    fake.plan("GET /certificates/enrollments/R", httpx.Response(200, json=body))
    status = ksef.enrolment("R")
    assert (status.code, status.description, status.serial) == (400, "Wniosek odrzucony: limit; klucz", "")


@pytest.mark.parametrize("count", [0, 11])
def test_one_to_ten_certificates_are_retrieved_at_once(ksef: Ksef, count: int) -> None:
    with pytest.raises(ValueError):
        ksef.retrieve_certificates(["0" * 16] * count)


def test_a_list_is_read_to_its_last_page(ksef: Ksef, fake: CertifyingKsef) -> None:
    for number in range(5):
        whole = {"certificateName": f"a{number}", "certificateType": "Offline"}
        fake.issued[f"{number:016X}"] = {"status": "Active", "whole": whole}
    fake.page = 2
    listed = list(ksef.certificates(name="a", kind="Offline"))
    assert [one.name for one in listed] == ["a4", "a3", "a2", "a1", "a0"]
    assert fake.count("POST /certificates/query") == 3
    assert json.loads(fake.last("POST /certificates/query").content) == {"name": "a", "type": "Offline"}


def test_a_list_cut_short_is_no_list(ksef: Ksef, fake: CertifyingKsef) -> None:
    entry = {"certificateSerialNumber": "0" * 16, "name": "a", "type": "Offline", "status": "Active"}
    fake.plan("POST /certificates/query", httpx.Response(200, json={"certificates": [entry], "hasMore": True}))
    fake.plan("POST /certificates/query", *(httpx.Response(200, json={"certificates": []}) for _ in range(4)))
    with pytest.raises(OutcomeUnknown):
        list(ksef.certificates())


def test_a_list_without_an_end_is_given_up(fake: CertifyingKsef) -> None:
    free = Limiter(dict.fromkeys(LIMITS, Limit(-1, -1, -1)))
    ksef = fake.client(limiter=free)
    body = {"certificates": [], "hasMore": True}
    fake.plan("POST /certificates/query", *(httpx.Response(200, json=body) for _ in range(500)))
    with pytest.raises(OutcomeUnknown, match="nie ma końca"):
        list(ksef.certificates())


def test_revocation_names_its_reason(ksef: Ksef, fake: CertifyingKsef) -> None:
    fake.issued["01F20A5D352AE590"] = {"status": "Active", "whole": {}}
    ksef.revoke_certificate("01F20A5D352AE590", "Superseded")
    last = fake.last("POST /certificates/01F20A5D352AE590/revoke")
    assert json.loads(last.content) == {"revocationReason": "Superseded"}
    with pytest.raises(Refused) as caught:
        ksef.revoke_certificate("01F20A5D352AE590")
    assert caught.value.code == "25009"


def test_each_call_has_its_own_count(ksef: Ksef, fake: CertifyingKsef) -> None:
    for _ in range(29):
        ksef.certificate_limits()
    ksef.enrolment_data()
    list(ksef.certificates())
    ksef.certificate_limits()
    with pytest.raises(RateLimited):
        for _ in range(100):
            ksef.certificate_limits()


@pytest.mark.parametrize("junk", JUNK)
def test_junk_is_never_taken_for_an_answer(ksef: Ksef, fake: CertifyingKsef, junk: object) -> None:
    for route, call in (
        ("GET /certificates/limits", ksef.certificate_limits),
        ("GET /certificates/enrollments/R", lambda: ksef.enrolment("R")),
        ("POST /certificates/retrieve", lambda: ksef.retrieve_certificates(["0" * 16])),
        ("POST /certificates/query", lambda: list(ksef.certificates())),
        (ENROL, lambda: ksef.enrol(NAME, "Offline", b"x")),
    ):
        fake.plan(route, *(httpx.Response(200, json=junk) for _ in range(4)))
        with pytest.raises(CallFault):
            call()
        fake.planned.clear()
