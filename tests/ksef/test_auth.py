from __future__ import annotations

import base64
import threading
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import xmlsec
from cryptography.hazmat.primitives import serialization
from lxml import etree
from signxml.exceptions import SignXMLException
from signxml.xades.xades import XAdESSignatureConfiguration, XAdESVerifier

from ksefbuffer.errors import Blocked, OutcomeUnknown, RateLimited, Unauthorised, Unavailable, Unreachable
from ksefbuffer.identity.material import Credential, load_credential
from ksefbuffer.identity.selfsigned import make_selfsigned
from ksefbuffer.invoice.forms import FA3
from ksefbuffer.ksef.auth import CertificateLogin, TokenLogin
from ksefbuffer.ksef.xades import login_document, sign
from tests.ksef.fake import NIP, START, TOKEN, Clock, FakeKsef, problem

SHARED = Path(__file__).parents[2] / ".." / "shared" / "ksef"
DS = "{http://www.w3.org/2000/09/xmldsig#}"


def credential(tmp_path: Path, **kind: str) -> Credential:
    certificate, key = make_selfsigned(NIP, now=START, **kind)  # type: ignore[arg-type]
    (tmp_path / "a.crt").write_bytes(certificate)
    (tmp_path / "a.key").write_bytes(key)
    return load_credential(certificate=tmp_path / "a.crt", private_key=tmp_path / "a.key", pkcs12=None, password=None)


@pytest.mark.parametrize("key", ["ec", "rsa"])
@pytest.mark.parametrize("kind", ["seal", "person"])
@pytest.mark.stranger
def test_the_signed_login_is_verified_by_strangers_and_tampering_is_caught(tmp_path: Path, kind: str, key: str) -> None:
    mine = credential(tmp_path, kind=kind, key=key)
    signed = sign(login_document("20261120-CR-1", "Nip", NIP, "certificate_subject"), mine, START)

    def strangers(document: bytes) -> None:
        root = etree.fromstring(document)
        for element in root.iter():
            if "Id" in element.attrib:
                xmlsec.tree.add_ids(element, ["Id"])
        context = xmlsec.SignatureContext()
        context.key = xmlsec.Key.from_memory(
            mine.certificate.public_bytes(serialization.Encoding.PEM), xmlsec.KeyFormat.CERT_PEM
        )
        context.verify(root.find(f"{DS}Signature"))
        settings = XAdESSignatureConfiguration(expect_references=3, verification_time=START)
        XAdESVerifier().verify(document, x509_cert=mine.certificate, expect_config=settings)

    strangers(signed)
    for before, after in (
        (NIP.encode(), b"1111111111"),
        (b"11:59:00Z", b"11:58:00Z"),
        (b"certificateSubject", b"certificateFingerprint"),
    ):
        assert before in signed
        with pytest.raises((xmlsec.Error, SignXMLException)):
            strangers(signed.replace(before, after))


@pytest.mark.parametrize("key", ["ec", "rsa"])
def test_the_signature_has_the_form_that_ksef_takes(tmp_path: Path, key: str) -> None:
    mine = credential(tmp_path, key=key)
    root = etree.fromstring(sign(login_document("C", "Nip", NIP, "certificate_fingerprint"), mine, START))
    value = base64.b64decode(root.findtext(f".//{DS}SignatureValue"))
    assert len(value) == (64 if key == "ec" else 256), "ECDSA as raw R||S"
    assert root.find(f".//{DS}KeyValue") is None
    assert root.find(f".//{DS}CanonicalizationMethod").get("Algorithm").endswith("REC-xml-c14n-20010315")
    types = {one.get("Type") for one in root.iter(f"{DS}Reference")}
    assert "http://uri.etsi.org/01903#SignedProperties" in types
    times = [one.text for one in root.iter("{http://uri.etsi.org/01903/v1.3.2#}SigningTime")]
    assert times == ["2026-11-20T11:59:00Z"], "a minute before now, by the given clock"
    assert len(list(root.iter("{http://uri.etsi.org/01903/v1.3.2#}SigningCertificateV2"))) == 1


@pytest.mark.parametrize("version", ["2-0", "2-1"])
def test_the_login_document_fits_its_schema(version: str) -> None:
    path = SHARED / "schemas" / f"schemat_auth_v{version}.xsd"
    if not path.is_file():
        pytest.skip("no ../shared/ksef/schemas here")
    text = path.read_text(encoding="utf-8")
    if "auth/token/2.0" not in text:
        text = text.replace("auth/token/2.1", "auth/token/2.0")
    tree = etree.fromstring(text.encode())
    for pattern in list(tree.iter("{http://www.w3.org/2001/XMLSchema}pattern")):
        # Some patterns are not W3C's (FACTS §2.3): "^" and "$" are characters there.
        if pattern.get("value", "").startswith("^"):
            pattern.getparent().remove(pattern)
    schema = etree.XMLSchema(tree)
    schema.assertValid(login_document("20261120-CR-0123456789-0123456789-AB", "Nip", NIP, "certificate_subject"))


def test_login_by_certificate(fake: FakeKsef, tmp_path: Path) -> None:
    fake.client(login=CertificateLogin(credential(tmp_path))).login_now()
    request = fake.last("POST /auth/xades-signature")
    root = etree.fromstring(request.content)
    assert root.findtext("{*}Challenge") == "20261120-CR-0000000000-AAAAAAAAAA-BB"
    assert root.findtext("{*}ContextIdentifier/{*}Nip") == NIP
    assert "authorization" not in request.headers
    assert fake.last("GET /auth/20261120-AU-1").headers["authorization"] == "Bearer authentication"
    assert fake.last("POST /auth/token/redeem").headers["authorization"] == "Bearer authentication"


def test_a_branch_logs_in_to_its_own_context(fake: FakeKsef, tmp_path: Path) -> None:
    fake.client(login=CertificateLogin(credential(tmp_path)), internal_id="6824515772-12343").login_now()
    root = etree.fromstring(fake.last("POST /auth/xades-signature").content)
    assert root.findtext("{*}ContextIdentifier/{*}InternalId") == "6824515772-12343"


def test_login_by_token_sends_the_whole_token_and_the_time_of_the_challenge(fake: FakeKsef) -> None:
    fake.client(login=TokenLogin(TOKEN)).login_now()
    assert fake.tokens_seen == [f"{TOKEN}|{int(START.timestamp() * 1000)}"]


def test_credentials_are_not_shown(tmp_path: Path) -> None:
    assert TOKEN not in repr(TokenLogin(TOKEN))
    assert "private" not in repr(CertificateLogin(credential(tmp_path))).lower()


def test_access_is_refreshed_two_minutes_before_its_end(fake: FakeKsef, clock: Clock) -> None:
    ksef = fake.client()
    ksef.open_session(FA3)
    clock.now += timedelta(minutes=12, seconds=59)
    ksef.open_session(FA3)
    assert fake.refreshes == 0
    clock.now += timedelta(seconds=2)
    ksef.open_session(FA3)
    assert (fake.logins, fake.refreshes) == (1, 1)
    assert fake.last("POST /auth/token/refresh").headers["authorization"] == "Bearer refresh-1-0"
    assert fake.last("POST /sessions/online").headers["authorization"] == "Bearer access-1-1"


def test_a_401_is_followed_by_one_refresh_and_one_repetition(fake: FakeKsef) -> None:
    ksef = fake.client()
    session = ksef.open_session(FA3)
    fake.expire_tokens()
    assert ksef.send(session, b"<Faktura/>") == "20261120-EE-1"
    assert (fake.logins, fake.refreshes, len(fake.received)) == (1, 1, 1)


def test_a_second_401_is_the_end(fake: FakeKsef) -> None:
    ksef = fake.client()
    fake.plan("POST /sessions/online", problem(401), problem(401))
    with pytest.raises(Unauthorised):
        ksef.open_session(FA3)
    assert fake.count("POST /sessions/online") == 2


@pytest.mark.parametrize("answer", [problem(400, 21301), problem(400, 21304), problem(401), problem(404), problem(403)])
def test_whatever_refuses_a_refresh_leads_to_a_new_login(fake: FakeKsef, clock: Clock, answer: httpx.Response) -> None:
    ksef = fake.client()
    ksef.login_now()
    clock.now += timedelta(minutes=14)
    fake.plan("POST /auth/token/refresh", answer)
    ksef.open_session(FA3)
    assert fake.logins == 2


def test_an_expired_refresh_token_is_not_even_tried(fake: FakeKsef, clock: Clock) -> None:
    ksef = fake.client()
    ksef.login_now()
    clock.now += timedelta(days=7)
    ksef.open_session(FA3)
    assert (fake.logins, fake.refreshes) == (2, 0)


def test_a_lost_answer_to_redeem_starts_again_from_the_challenge(fake: FakeKsef) -> None:
    fake.plan("POST /auth/token/redeem", httpx.ReadTimeout("x"))
    fake.client().login_now()
    assert fake.count("POST /auth/token/redeem") == 2
    assert fake.count("POST /auth/challenge") == 2


def test_tokens_redeemed_already_mean_a_new_login(fake: FakeKsef) -> None:
    fake.plan("POST /auth/token/redeem", problem(400, 21301))
    fake.client().login_now()
    assert fake.count("POST /auth/challenge") == 2


def test_a_spent_challenge_is_replaced(fake: FakeKsef) -> None:
    fake.plan("POST /auth/ksef-token", problem(400, 21111))
    fake.client().login_now()
    assert fake.count("POST /auth/challenge") == 2


def test_a_withdrawn_key_is_replaced_at_login(fake: FakeKsef) -> None:
    fake.plan("POST /auth/ksef-token", problem(400, 21470))
    fake.client().login_now()
    assert fake.count("GET /security/public-key-certificates") == 2


def test_polling_waits_longer_and_longer(fake: FakeKsef, clock: Clock) -> None:
    fake.auth_statuses.extend([(100, "w toku", [])] * 6)
    fake.client().login_now()
    assert clock.slept == sorted(clock.slept)
    assert len(clock.slept) == 6


def test_a_login_that_never_ends_is_given_up_after_five_minutes(fake: FakeKsef, clock: Clock) -> None:
    fake.auth_statuses.extend([(100, "w toku", [])] * 1000)
    with pytest.raises(OutcomeUnknown):
        fake.client().login_now()
    assert 240 <= sum(clock.slept) <= 360
    assert fake.count("POST /auth/challenge") == 1


@pytest.mark.parametrize(
    ("code", "details", "fault", "tries"),
    [
        (415, ["Brak przypisanych uprawnień"], Unauthorised, 1),
        (450, ["Nieprawidłowy token"], Unauthorised, 1),
        (450, ["Token unieważniony"], Unauthorised, 1),
        (450, ["Token nie może być użyty w kontekście 1"], Unauthorised, 1),
        (450, ["Nieprawidłowe szyfrowanie tokena"], Unauthorised, 3),
        (450, ["Nieprawidłowy czas tokena"], Unauthorised, 3),
        (450, ["Nieprawidłowe wyzwanie autoryzacyjne"], Unauthorised, 3),
        (460, ["Nieważny certyfikat"], Unauthorised, 1),
        (460, ["Niezaufany łańcuch certyfikatów"], Unauthorised, 1),
        (460, ["Błąd weryfikacji łańcucha certyfikatów"], Unauthorised, 3),
        (470, [], Unauthorised, 1),
        (480, ["Podejrzenie incydentu"], Unauthorised, 1),
        (499, [], Unauthorised, 1),
        (425, [], Unauthorised, 3),
        (500, [], Unavailable, 3),
        (550, [], Unavailable, 3),
    ],
)
def test_every_login_status_has_its_consequence(
    fake: FakeKsef, code: int, details: list[str], fault: type[Exception], tries: int
) -> None:
    fake.auth_statuses.extend([(code, "Uwierzytelnianie zakończone niepowodzeniem", details)] * 10)
    with pytest.raises(fault) as caught:
        fake.client().login_now()
    assert type(caught.value) is fault
    assert caught.value.code == str(code)  # type: ignore[attr-defined]
    assert caught.value.action  # type: ignore[attr-defined]
    assert fake.count("POST /auth/challenge") == tries


def test_a_login_that_failed_for_a_moment_succeeds_at_the_next_try(fake: FakeKsef) -> None:
    fake.auth_statuses.extend([(500, "Nieznany błąd", []), (200, "OK", [])])
    fake.client().login_now()
    assert fake.logins == 1


def test_bad_encryption_makes_us_fetch_the_keys_anew(fake: FakeKsef) -> None:
    fake.auth_statuses.extend([(450, "błąd", ["Nieprawidłowe szyfrowanie tokena"])])
    fake.client().login_now()
    assert fake.count("GET /security/public-key-certificates") == 2


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (problem(400, 9105), Unauthorised),
        (problem(400, 21115), Unauthorised),
        (problem(400, 21117), Unauthorised),
        (problem(400, 21405), Unauthorised),
        (problem(403, reasonCode="auth-method-not-allowed"), Unauthorised),
        (httpx.Response(403, text="<html>"), Blocked),
        (httpx.Response(429, headers={"Retry-After": "7"}), RateLimited),
        (problem(400, 21184), Unavailable),
    ],
)
def test_a_refused_login_is_not_hammered(fake: FakeKsef, answer: httpx.Response, fault: type[Exception]) -> None:
    fake.plan("POST /auth/ksef-token", answer)
    with pytest.raises(fault) as caught:
        fake.client().login_now()
    assert type(caught.value) is fault
    assert fake.count("POST /auth/ksef-token") == 1


def test_no_network_at_login_is_unreachable(fake: FakeKsef) -> None:
    fake.plan("POST /auth/challenge", *[httpx.ConnectError("x")] * 100)
    with pytest.raises(Unreachable):
        fake.client().login_now()


class CountingLock:
    """A lock that tells when so many threads have come to it."""

    def __init__(self, awaited: int) -> None:
        self._lock = threading.Lock()
        self._count = threading.Semaphore(0)
        self._awaited = awaited

    def __enter__(self) -> None:
        self._count.release()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def all_here(self) -> bool:
        return all(self._count.acquire(timeout=10) for _ in range(self._awaited))


@pytest.mark.parametrize("refused", [False, True])
def test_many_threads_share_one_refresh_and_its_failure(fake: FakeKsef, clock: Clock, refused: bool) -> None:
    # Given access that has just become stale
    ksef = fake.client()
    ksef.login_now()
    clock.now += timedelta(minutes=14)
    entered, go = threading.Event(), threading.Event()
    lock = CountingLock(8)
    ksef._access._lock = lock  # type: ignore[assignment]

    def held(request: httpx.Request) -> httpx.Response:
        entered.set()
        assert go.wait(10)
        return problem(400, 21301) if refused else fake._ordinary(request)

    fake.plan("POST /auth/token/refresh", held)
    if refused:
        fake.plan("POST /auth/ksef-token", problem(400, 21115))
    outcomes: list[str] = []

    def work() -> None:
        try:
            outcomes.append(ksef.open_session(FA3).reference)
        except Unauthorised as fault:
            outcomes.append(fault.code)

    # When eight threads want it at once
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert entered.wait(10)
    assert lock.all_here()
    go.set()
    for thread in threads:
        thread.join(10)
    # Then one asked, and all have what it got
    assert len(outcomes) == 8
    assert fake.count("POST /auth/token/refresh") == 1
    if refused:
        assert outcomes == ["21115"] * 8
        assert fake.count("POST /auth/ksef-token") == 2
    else:
        assert fake.logins == 1


def test_a_clock_far_ahead_does_not_mean_a_login_per_call(fake: FakeKsef, clock: Clock) -> None:
    """Every token looks expired to such a clock."""
    fake.token_lives = timedelta(hours=-5)
    ksef = fake.client()
    for _ in range(5):
        ksef.open_session(FA3)
    assert (fake.logins, fake.refreshes) == (1, 0)
    clock.now += timedelta(minutes=1)
    ksef.open_session(FA3)
    assert (fake.logins, fake.refreshes) == (1, 1)
