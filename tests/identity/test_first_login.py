"""The first login, by a document signed elsewhere; and a way in that changes while we work."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from lxml import etree

from ksefbuffer.errors import CredentialFault, OutcomeUnknown, Unauthorised
from ksefbuffer.ksef.auth import CertificateLogin, NoLogin, TokenLogin
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.signed import LoginRequest
from ksefbuffer.ksef.xades import sign
from tests.identity.conftest import Office
from tests.ksef.fake import NIP, START, TOKEN, problem

SUBMIT = "POST /auth/xades-signature"


@pytest.fixture
def stranger(office: Office) -> Ksef:
    """A buffer that has neither certificate nor token."""
    return office.fake.client(login=NoLogin())


def signed(office: Office, document: bytes) -> bytes:
    """What a signing site gives back."""
    return sign(etree.fromstring(document), office.first(), office.clock())


def test_without_a_way_in_the_fault_says_how_to_get_one(office: Office, stranger: Ksef) -> None:
    with pytest.raises(Unauthorised, match="nie ma jeszcze certyfikatu") as caught:
        stranger.login_now()
    assert "cert auth-request" in caught.value.action
    assert not office.fake.requests


@pytest.mark.parametrize(
    ("options", "identifier", "context", "subject"),
    [
        ({}, "certificate_subject", ("Nip", NIP), "certificateSubject"),
        ({}, "certificate_fingerprint", ("Nip", NIP), "certificateFingerprint"),
        ({"internal_id": f"{NIP}-00019"}, "certificate_subject", ("InternalId", f"{NIP}-00019"), "certificateSubject"),
    ],
)
def test_the_document_names_the_context_and_the_subject(office: Office, options, identifier, context, subject) -> None:  # type: ignore[no-untyped-def]
    request = office.fake.client(login=NoLogin(), **options).auth_request(identifier)
    root = etree.fromstring(request.document())
    assert request.document().startswith(b"<?xml version='1.0' encoding='utf-8'?>")
    assert root.findtext("{*}Challenge") == request.challenge
    assert root.findtext(f"{{*}}ContextIdentifier/{{*}}{context[0]}") == context[1]
    assert root.findtext("{*}SubjectIdentifierType") == subject
    assert request.expires_at == START + timedelta(minutes=10)


def test_a_signed_document_logs_in_and_certificates_of_both_kinds_follow(office: Office, stranger: Ksef) -> None:
    request = LoginRequest.restored(json.loads(json.dumps(stranger.auth_request().kept())))
    document = signed(office, request.document())
    office.clock.sleep(599)
    stranger.auth_submit(request, document)
    assert office.fake.last(SUBMIT).content == document, "not a byte may change"

    enrolment = office.restarted(stranger)
    for purpose in ("auth", "offline"):
        enrolment.start(purpose)  # type: ignore[arg-type]
    office.work(0.2)
    assert {row.purpose: row.state for row in office.rows()} == {"auth": "active", "offline": "active"}
    assert stranger.make_token("Bufor sklepu").reference


def test_access_gained_so_is_refreshed_and_lasts_for_days(office: Office, stranger: Ksef) -> None:
    request = stranger.auth_request()
    stranger.auth_submit(request, signed(office, request.document()))
    office.clock.sleep(6 * 24 * 3600)
    stranger.certificate_limits()
    assert office.fake.refreshes == 1
    office.clock.sleep(24 * 3600)
    with pytest.raises(Unauthorised, match="nie ma jeszcze certyfikatu"):
        stranger.certificate_limits()


def refusal(office: Office, ksef: Ksef, request: LoginRequest, document: bytes) -> CredentialFault:
    before = office.fake.count(SUBMIT)
    with pytest.raises(CredentialFault) as caught:
        ksef.auth_submit(request, document)
    assert office.fake.count(SUBMIT) == before, "told of before it was sent"
    assert caught.value.action
    return caught.value


def test_a_late_document_is_refused_before_sending(office: Office, stranger: Ksef) -> None:
    request = stranger.auth_request()
    document = signed(office, request.document())
    office.clock.sleep(600)
    fault = refusal(office, stranger, request, document)
    assert "Minęło 10 minut" in fault.message
    assert "12:10:00 UTC" in fault.message


def test_every_wrong_file_is_told_apart(office: Office, stranger: Ksef) -> None:
    earlier = signed(office, stranger.auth_request().document())
    # The fake's challenges are numbered by logins.
    office.fake.logins += 1
    request = stranger.auth_request()
    good = signed(office, request.document())
    for document, said in (
        (request.document(), "nie jest podpisany"),
        (earlier, "inny dokument"),
        (good.replace(NIP.encode(), b"5260250274"), "innego podmiotu"),
        (b"%PDF-1.7", "nie jest dokumentem XML"),
        (b"", "nie jest dokumentem XML"),
        (b"<!DOCTYPE x [<!ENTITY y 'z'>]>" + good.split(b"?>", 1)[1], "nie jest dokumentem XML"),
        (b"<Faktura/>", "nie jest dokument"),
        (b" " * 1_000_001, "nie jest dokumentem XML"),
        (good.replace(b"</AuthTokenRequest>", good[good.index(b"<ds:Signature") :]), "więcej niż jeden"),
    ):
        assert said in refusal(office, stranger, request, document).message, said
    stranger.auth_submit(request, good)


def test_a_document_of_the_newer_namespace_or_inside_its_signature_is_taken(office: Office, stranger: Ksef) -> None:
    request = stranger.auth_request()
    plain = request.document().split(b"?>", 1)[1]
    ds = b'xmlns:ds="http://www.w3.org/2000/09/xmldsig#"'
    for document in (
        b"<ds:Signature " + ds + b"><ds:Object>" + plain + b"</ds:Object></ds:Signature>",
        plain.replace(b"token/2.0", b"token/2.1").replace(b"</Auth", b"<ds:Signature " + ds + b"/></Auth"),
    ):
        request.check(document, office.clock())


@pytest.mark.parametrize(
    ("code", "said"), [(21111, "cert auth-request"), (9105, "otoczonej"), (9102, "XAdES"), (21115, "datę ważności")]
)
def test_ksefs_own_refusal_says_what_to_do(office: Office, stranger: Ksef, code: int, said: str) -> None:
    request = stranger.auth_request()
    office.fake.plan(SUBMIT, problem(400, code))
    with pytest.raises(Unauthorised) as caught:
        stranger.auth_submit(request, signed(office, request.document()))
    assert said in caught.value.action
    assert office.fake.count(SUBMIT) == 1


def test_a_signature_without_rights_is_told_once(office: Office, stranger: Ksef) -> None:
    office.fake.auth_statuses.append((415, "Brak przypisanych uprawnień", []))
    request = stranger.auth_request()
    with pytest.raises(Unauthorised) as caught:
        stranger.auth_submit(request, signed(office, request.document()))
    assert caught.value.code == "415"
    assert office.fake.count(SUBMIT) == 1


def test_an_unclear_answer_is_not_sent_again(office: Office, stranger: Ksef) -> None:
    request = stranger.auth_request()
    office.fake.plan(SUBMIT, httpx.Response(502))
    with pytest.raises(OutcomeUnknown):
        stranger.auth_submit(request, signed(office, request.document()))
    assert office.fake.count(SUBMIT) == 1


def test_a_curable_failure_of_a_submitted_document_is_a_fault_with_words(office: Office, stranger: Ksef) -> None:
    office.fake.auth_statuses.append((550, "Anulowano", []))
    request = stranger.auth_request()
    with pytest.raises(Exception, match="Anulowano"):
        stranger.auth_submit(request, signed(office, request.document()))
    assert office.fake.count(SUBMIT) == 1


def test_what_is_kept_of_a_request_comes_back_the_same() -> None:
    at = datetime(2026, 11, 20, 12, 0, 0, 123000, tzinfo=UTC)
    for identifier in ("certificate_subject", "certificate_fingerprint"):
        request = LoginRequest("20261120-CR-1", at, "InternalId", f"{NIP}-00019", identifier)  # type: ignore[arg-type]
        assert LoginRequest.restored(request.kept()) == request
    assert "20261120-CR-1" not in repr(request)
    with pytest.raises((KeyError, ValueError)):
        LoginRequest.restored({"challenge": "x"})


# --- adopting another way in


def test_a_way_in_that_fails_leaves_the_old_one_in_force(office: Office) -> None:
    ksef = office.fake.client(login=TokenLogin(TOKEN))
    ksef.login_now()
    office.fake.auth_statuses.append((460, "Certyfikat odwołany", []))
    with pytest.raises(Unauthorised):
        ksef.adopt(CertificateLogin(office.first()))
    seen = len(office.fake.tokens_seen)
    ksef.login_now()
    assert len(office.fake.tokens_seen) == seen + 1, "by the token, as before"

    ksef.adopt(CertificateLogin(office.first()))
    ksef.login_now()
    assert len(office.fake.tokens_seen) == seen + 1
    assert office.fake.count(SUBMIT) == 3


def test_a_refused_new_way_in_does_not_disturb_who_has_access(office: Office) -> None:
    ksef = office.fake.client(login=TokenLogin(TOKEN))
    ksef.login_now()
    office.fake.auth_statuses.append((460, "Certyfikat odwołany", []))
    with pytest.raises(Unauthorised):
        ksef.adopt(CertificateLogin(office.first()))
    before = office.fake.logins
    ksef.certificate_limits()
    assert office.fake.logins == before


def test_neither_document_nor_access_is_logged(
    office: Office, stranger: Ksef, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    request = stranger.auth_request()
    document = signed(office, request.document())
    stranger.auth_submit(request, document)
    office.fake.plan(SUBMIT, problem(400, 9105))
    with pytest.raises(Unauthorised) as caught:
        stranger.auth_submit(request, document)
    said = caplog.text + str(caught.value) + repr(vars(caught.value)) + repr(request)
    for secret in (request.challenge, "SignatureValue", "refresh-1", "access-1"):
        assert secret not in said
