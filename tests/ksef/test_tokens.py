"""KSeF tokens: made with the least rights, listed, revoked, and shown to nobody."""

from __future__ import annotations

import json
import logging

import httpx
import pytest

from ksefbuffer.errors import OutcomeUnknown, Refused
from ksefbuffer.ksef.client import Ksef
from tests.identity.authority import CertifyingKsef
from tests.ksef.fake import Clock, problem


@pytest.fixture
def fake() -> CertifyingKsef:
    return CertifyingKsef(Clock())


@pytest.fixture
def ksef(fake: CertifyingKsef) -> Ksef:
    return fake.client()


def test_a_token_gets_no_more_rights_than_a_buffer_needs(
    ksef: Ksef, fake: CertifyingKsef, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    made = ksef.make_token("Bufor sklepu")
    body = json.loads(fake.last("POST /tokens").content)
    assert body == {"permissions": ["InvoiceRead", "InvoiceWrite"], "description": "Bufor sklepu"}
    assert made.token.endswith("|tajne")
    assert "tajne" not in repr(made) + caplog.text
    status = ksef.token(made.reference)
    assert (status.status, status.permissions) == ("Pending", ("InvoiceRead", "InvoiceWrite"))


def test_a_token_is_never_made_twice_after_an_unclear_answer(ksef: Ksef, fake: CertifyingKsef) -> None:
    fake.plan("POST /tokens", httpx.Response(504))
    with pytest.raises(OutcomeUnknown):
        ksef.make_token("Bufor sklepu")
    assert fake.count("POST /tokens") == 1


@pytest.mark.parametrize("description", ["abcd", "a" * 257])
def test_a_description_has_its_length(ksef: Ksef, description: str) -> None:
    with pytest.raises(ValueError):
        ksef.make_token(description)


@pytest.mark.parametrize(("code", "said"), [(26001, "mniej uprawnień"), (26002, "w kontekście firmy")])
def test_each_refusal_says_what_to_do(ksef: Ksef, fake: CertifyingKsef, code: int, said: str) -> None:
    fake.plan("POST /tokens", problem(400, code))
    with pytest.raises(Refused) as caught:
        ksef.make_token("Bufor sklepu")
    assert said in caught.value.action


def test_a_list_is_read_to_its_last_page(ksef: Ksef, fake: CertifyingKsef) -> None:
    references = [ksef.make_token(f"Bufor {number}").reference for number in range(5)]
    assert [one.reference for one in ksef.tokens()] == references
    assert fake.count("GET /tokens") == 3
    list(ksef.tokens("Active"))
    assert fake.last("GET /tokens").url.params["status"] == "Active"


def test_a_list_that_goes_round_is_given_up(ksef: Ksef, fake: CertifyingKsef) -> None:
    body = {"tokens": [], "continuationToken": "a"}
    fake.plan("GET /tokens", *(httpx.Response(200, json=body) for _ in range(3)))
    with pytest.raises(OutcomeUnknown, match="w kółko"):
        list(ksef.tokens())


def test_a_token_is_revoked(ksef: Ksef, fake: CertifyingKsef) -> None:
    reference = ksef.make_token("Bufor sklepu").reference
    ksef.revoke_token(reference)
    assert ksef.token(reference).status == "Revoking"


def test_what_ksef_adds_is_tolerated_and_what_it_omits_is_not(ksef: Ksef, fake: CertifyingKsef) -> None:
    odd = {"referenceNumber": "R", "status": "Sleeping", "statusDetails": ["x"], "nowe": 1}
    fake.plan("GET /tokens/R", httpx.Response(200, json=odd))
    status = ksef.token("R")
    assert (status.status, status.details, status.permissions, status.created_at) == ("Sleeping", ("x",), (), None)
    fake.plan("GET /tokens/R", *(httpx.Response(200, json={"referenceNumber": "R"}) for _ in range(4)))
    with pytest.raises(OutcomeUnknown):
        ksef.token("R")
