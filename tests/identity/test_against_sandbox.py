"""Every way in and every certificate, end to end against the project's strict KSeF, which shares no code with ours."""

from __future__ import annotations

import hashlib
import logging
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from lxml import etree

from ksefbuffer.errors import CredentialFault, NotAllowedNow, Refused, Unauthorised
from ksefbuffer.identity.chosen import standing, unsealed
from ksefbuffer.identity.enrolment import Enrolment
from ksefbuffer.identity.examining import Purpose, examine
from ksefbuffer.identity.importing import bring_in
from ksefbuffer.identity.material import Credential, load_files
from ksefbuffer.identity.pacing import RENEW_BEFORE
from ksefbuffer.identity.recognition import Kind, recognise
from ksefbuffer.identity.revocation import revoke
from ksefbuffer.identity.selfsigned import make_selfsigned
from ksefbuffer.identity.vault import Vault
from ksefbuffer.invoice.forms import FA3
from ksefbuffer.ksef.auth import CertificateLogin, Login, NoLogin, TokenLogin
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.limits import LIMITS, Limit, Limiter
from ksefbuffer.ksef.xades import sign
from ksefbuffer.queue import credentials
from ksefbuffer.queue.credentials import Kept
from ksefbuffer.queue.db import Database
from ksefbuffer.sandbox import Fault, Sandbox
from tests import samples
from tests.identity.authority import OIDS, USAGES
from tests.ksef.fake import Clock

NIP = samples.NIP
PESEL = "44051401359"
PERSON = {"commonName": "Jan Łoś", "countryName": "PL", "givenName": "Jan", "surname": "Łoś"}


class Shop:
    """A buffer's certificates and its KSeF, on one clock."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database, self.folder = database, folder
        self.clock = Clock(samples.NOW)
        self.sandbox = Sandbox(clock=self.clock, latency_s=2.0, limits="none", seed=1)
        self.vault = Vault(b"m" * 32)
        self.opened: list[Ksef] = []

    def client(self, login: Login, **options: str) -> Ksef:
        ksef = Ksef(
            base_url=self.sandbox.base_url,
            context_nip=NIP,
            login=login,
            limiter=Limiter(dict.fromkeys(LIMITS, Limit(-1, -1, -1))),
            clock=self.clock,
            sleep=self.clock.sleep,
            transport=self.sandbox.transport(),
            **options,
        )
        self.opened.append(ksef)
        return ksef

    def enrolment(self, ksef: Ksef) -> Enrolment:
        def log_in_with(credential: Credential) -> None:
            ksef.adopt(CertificateLogin(credential))

        return Enrolment(self.database, credentials, ksef, self.vault, self.clock, log_in_with=log_in_with)

    def work(self, enrolment: Enrolment, span: timedelta = timedelta(minutes=5)) -> None:
        end = self.clock.now + span
        while True:
            while enrolment.step():
                pass
            due = enrolment.next_due
            if due is None or due >= end:
                break
            self.clock.sleep(max(0.1, (due - self.clock.now).total_seconds()))
        self.clock.now = max(end, self.clock.now)

    def rows(self) -> list[Kept]:
        with self.database.reading() as tx:
            return credentials.all_kept(tx)

    def active(self, purpose: str) -> Kept:
        with self.database.reading() as tx:
            row = credentials.active(tx, purpose)
        assert row is not None
        return row

    def seal(self, nip: str = NIP, key: str = "ec") -> Credential:
        certificate, private = make_selfsigned(nip, now=self.clock(), key=key)  # type: ignore[arg-type]
        return self.loaded(certificate + private)

    def person(self, **subject: str) -> Credential:
        """A natural person's certificate, self-signed as on TEST."""
        key = ec.generate_private_key(ec.SECP256R1())
        told = {**PERSON, **subject}
        name = x509.Name([x509.NameAttribute(x509.ObjectIdentifier(OIDS[part]), value) for part, value in told.items()])
        usage = x509.KeyUsage(**{one: one == "digital_signature" for one in USAGES})
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.clock() - timedelta(days=1))
            .not_valid_after(self.clock() + timedelta(days=3000))
            .add_extension(usage, critical=True)
            .sign(key, hashes.SHA256())
        )
        plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return self.loaded(certificate.public_bytes(Encoding.PEM) + plain)

    def loaded(self, pem: bytes) -> Credential:
        (self.folder / "a.pem").write_bytes(pem)
        return load_files(self.folder / "a.pem", None, None)


@pytest.fixture
def shop(sqlite_database: Database, tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(sqlite_database, tmp_path)
    yield shop
    for ksef in shop.opened:
        ksef.close()
    shop.sandbox.close()


@pytest.mark.parametrize("seal_key", ["ec", "rsa"])
@pytest.mark.parametrize("key", ["ec", "rsa"])
def test_both_certificates_are_got_with_a_seal_and_serve(shop: Shop, seal_key: str, key: str) -> None:
    enrolment = shop.enrolment(shop.client(CertificateLogin(shop.seal(key=seal_key))))
    for purpose in ("auth", "offline"):
        enrolment.start(purpose, key)  # type: ignore[arg-type]
    shop.work(enrolment)
    assert shop.sandbox.deviations == []
    assert {row.purpose: row.state for row in shop.rows()} == {"auth": "active", "offline": "active"}

    login, offline = (unsealed(shop.active(purpose), shop.vault) for purpose in ("auth", "offline"))
    assert recognise(login.certificate).kind is Kind.KSEF_AUTHENTICATION
    assert recognise(offline.certificate).kind is Kind.KSEF_OFFLINE
    for credential, purpose in ((login, "auth"), (offline, "offline")):
        examined = examine(credential, purpose, environment="test", nip=NIP, now=shop.clock())  # type: ignore[arg-type]
        assert examined.hints == ()
    assert standing(shop.active("auth"), shop.clock()).status == "połączenie aktywne"

    ksef = shop.client(CertificateLogin(login))
    session = ksef.open_session(FA3)
    assert ksef.send(session, samples.invoice())
    with pytest.raises(Unauthorised):
        shop.client(CertificateLogin(offline)).login_now()


@pytest.mark.parametrize("key", ["ec", "rsa"])
def test_kod_ii_signed_with_an_enrolled_certificate_is_verified_by_ksef(shop: Shop, key: str) -> None:
    enrolment = shop.enrolment(shop.client(CertificateLogin(shop.seal())))
    enrolment.start("offline", key)  # type: ignore[arg-type]
    shop.work(enrolment)
    credential = unsealed(shop.active("offline"), shop.vault)
    mark = urlsafe_b64encode(hashlib.sha256(b"<Faktura/>").digest()).rstrip(b"=").decode()
    host = httpx.URL(shop.sandbox.base_url).host
    text = f"{host}/qr/certificate/Nip/{NIP}/{NIP}/{credential.serial_hex}/{mark}"
    signature = urlsafe_b64encode(credential.sign_code(text.encode())).rstrip(b"=").decode()
    with httpx.Client(transport=shop.sandbox.transport(), headers={"Accept": "application/json"}) as browser:
        told = browser.get(f"http://{text}/{signature}").json()
        assert told["valid"] is True, told
        spoilt = ("A" if signature[0] != "A" else "B") + signature[1:]
        assert browser.get(f"http://{text}/{spoilt}").json()["valid"] is False


# --- the first login, signed elsewhere


@pytest.mark.parametrize(
    ("subject", "grant"),
    [
        ({"serialNumber": f"TINPL-{NIP}"}, None),
        ({"serialNumber": f"PNOPL-{PESEL}"}, ("Pesel", PESEL)),
        ({}, ("Fingerprint", "")),
    ],
    ids=["a person with the NIP", "a person with a PESEL", "a person with neither"],
)
def test_the_first_login_by_a_signature_leads_to_certificates(shop: Shop, subject, grant) -> None:  # type: ignore[no-untyped-def]
    signer = shop.person(**subject)
    identifier = "certificate_subject"
    if grant is not None:
        kind, value = grant
        if kind == "Fingerprint":
            identifier, value = "certificate_fingerprint", signer.sha256_hex
        shop.sandbox.grant(NIP, kind, value)
    ksef = shop.client(NoLogin())
    request = ksef.auth_request(identifier)  # type: ignore[arg-type]
    document = sign(etree.fromstring(request.document()), signer, shop.clock())
    shop.clock.sleep(500)
    ksef.auth_submit(request, document)

    made = ksef.make_token("Bufor sklepu")
    assert ksef.token(made.reference).status == "Pending"
    shop.clock.sleep(3)
    shop.client(TokenLogin(made.token)).login_now()

    enrolment = shop.enrolment(ksef)
    enrolment.start("offline")
    shop.work(enrolment)
    assert shop.active("offline").state == "active"
    assert shop.sandbox.deviations == []


def test_a_signature_may_be_for_a_branch(shop: Shop) -> None:
    ksef = shop.client(NoLogin(), internal_id=f"{NIP}-00019")
    request = ksef.auth_request()
    ksef.auth_submit(request, sign(etree.fromstring(request.document()), shop.seal(), shop.clock()))
    assert ksef.certificate_limits().may_request


def test_a_person_without_rights_is_told_so(shop: Shop) -> None:
    ksef = shop.client(NoLogin())
    request = ksef.auth_request()
    signer = shop.person(serialNumber=f"PNOPL-{PESEL}")
    with pytest.raises(Unauthorised) as caught:
        ksef.auth_submit(request, sign(etree.fromstring(request.document()), signer, shop.clock()))
    assert caught.value.code == "415"
    assert "uprawnienia" in caught.value.action


def test_a_document_changed_after_signing_is_refused_with_words(shop: Shop) -> None:
    ksef = shop.client(NoLogin())
    request = ksef.auth_request()
    document = sign(etree.fromstring(request.document()), shop.seal(), shop.clock())
    broken = document.replace(b"<SubjectIdentifierType>", b"\n  <SubjectIdentifierType>")
    with pytest.raises(Unauthorised) as caught:
        ksef.auth_submit(request, broken)
    assert "niczego w pliku nie zmieniaj" in caught.value.action


def test_a_document_is_good_for_one_login(shop: Shop) -> None:
    ksef = shop.client(NoLogin())
    request = ksef.auth_request()
    document = sign(etree.fromstring(request.document()), shop.seal(), shop.clock())
    ksef.auth_submit(request, document)
    with pytest.raises(Unauthorised) as caught:
        ksef.auth_submit(request, document)
    assert "cert auth-request" in caught.value.action
    shop.clock.sleep(600)
    with pytest.raises(CredentialFault, match="Minęło 10 minut"):
        ksef.auth_submit(request, document)


# --- limits, faults, renewal


def test_a_token_cannot_enrol_and_the_way_out_is_told(shop: Shop) -> None:
    ksef = shop.client(TokenLogin(shop.sandbox.issue_token(NIP)))
    with pytest.raises(NotAllowedNow, match="nie pozwala") as caught:
        shop.enrolment(ksef).start("auth")
    assert "podpisem lub certyfikatem" in caught.value.action
    with pytest.raises(Refused) as refused:
        ksef.enrolment_data()
    assert "auth-request" in refused.value.action


def test_limits_of_ksef_are_kept(shop: Shop) -> None:
    shop.sandbox.certificate_limits(enrollments=1)
    enrolment = shop.enrolment(shop.client(CertificateLogin(shop.seal())))
    enrolment.start("auth")
    shop.work(enrolment)
    with pytest.raises(NotAllowedNow, match="limit wniosków"):
        enrolment.start("offline")


@pytest.mark.parametrize("kind", ["cut_after", "status_after", "cut_before", "timeout", "html", "html_403", "status"])
def test_one_request_gives_one_certificate_whatever_becomes_of_its_answer(shop: Shop, kind: str) -> None:
    enrolment = shop.enrolment(shop.client(CertificateLogin(shop.seal())))
    enrolment.start("auth")
    shop.sandbox.faults.add(Fault("enrollCertificate", kind))
    shop.work(enrolment, timedelta(hours=2))
    assert shop.active("auth")
    assert len(shop.sandbox.certificates()) == 1


@pytest.mark.parametrize("code", [400, 500, 550])
def test_a_request_that_ends_badly_says_so(shop: Shop, code: int) -> None:
    enrolment = shop.enrolment(shop.client(CertificateLogin(shop.seal())))
    enrolment.start("auth")
    shop.sandbox.faults.add(Fault("enrollCertificate", "enrollment_status", code=code))
    shop.work(enrolment, timedelta(hours=2))
    (row,) = shop.rows()
    assert row.state == "rejected"
    assert str(code) in (row.note or "")
    assert standing(row, shop.clock()).status == "wniosek odrzucony"


def test_renewal_of_both_while_working_and_the_old_one_revoked_afterwards(shop: Shop) -> None:
    ksef = shop.client(CertificateLogin(shop.seal()))
    enrolment = shop.enrolment(ksef)
    for purpose in ("auth", "offline"):
        enrolment.start(purpose)  # type: ignore[arg-type]
    shop.work(enrolment)
    first = {purpose: shop.active(purpose) for purpose in ("auth", "offline")}
    valid_to = first["auth"].valid_to
    assert valid_to is not None
    shop.clock.now = valid_to - RENEW_BEFORE
    shop.work(enrolment, timedelta(hours=1))
    for purpose, old in first.items():
        assert shop.active(purpose).id != old.id
    assert {row.state for row in shop.rows() if row.id in {old.id for old in first.values()}} == {"replaced"}
    assert {one.status for one in shop.sandbox.certificates()} == {"Active"}, "nothing is revoked by itself"

    revoke(
        shop.database,
        credentials,
        ksef,
        first["auth"].id,
        "Superseded",
        now=shop.clock(),
        still_waits=lambda _: True,
    )
    shop.clock.sleep(20 * 60)
    assert ksef.certificate_limits().may_request, "the running client has the new one"
    assert sorted(one.status for one in shop.sandbox.certificates()) == ["Active", "Active", "Active", "Revoked"]


def test_a_revoked_certificate_is_noticed_and_named(shop: Shop) -> None:
    ksef = shop.client(CertificateLogin(shop.seal()))
    enrolment = shop.enrolment(ksef)
    enrolment.start("offline")
    shop.work(enrolment)
    shop.sandbox.revoke(shop.active("offline").serial or "")
    shop.work(enrolment, timedelta(hours=25))
    assert [standing(row, shop.clock()).status for row in shop.rows()] == ["odwołany"]


@pytest.mark.parametrize("key", ["ec", "rsa"])
@pytest.mark.parametrize("kind", ["Authentication", "Offline"])
def test_a_certificate_downloaded_from_ksef_is_imported_and_used(shop: Shop, kind: str, key: str) -> None:
    made = shop.sandbox.issue_certificate(kind, NIP, key=key)
    credential = shop.loaded(made.private_key + made.certificate)
    purpose: Purpose = "auth" if kind == "Authentication" else "offline"
    other: Purpose = "offline" if purpose == "auth" else "auth"
    examine(credential, purpose, environment="sandbox", nip=NIP, now=shop.clock())
    with pytest.raises(CredentialFault, match="To jest certyfikat typu"):
        examine(credential, other, environment="sandbox", nip=NIP, now=shop.clock())

    bring_in(shop.database, credentials, shop.vault, credential, purpose, now=shop.clock())
    ksef = shop.client(CertificateLogin(credential) if purpose == "auth" else CertificateLogin(shop.seal()))
    shop.work(shop.enrolment(ksef))
    assert shop.active(purpose).serial == made.serial


def test_an_imported_certificate_that_was_revoked_does_not_push_out_the_good_one(shop: Shop) -> None:
    good = shop.loaded(_pem(shop.sandbox.issue_certificate("Authentication", NIP)))
    ksef = shop.client(CertificateLogin(good))
    enrolment = shop.enrolment(ksef)
    bring_in(shop.database, credentials, shop.vault, good, "auth", now=shop.clock())
    shop.work(enrolment)
    made = shop.sandbox.issue_certificate("Authentication", NIP)
    shop.sandbox.revoke(made.serial)
    shop.clock.sleep(10)
    bring_in(shop.database, credentials, shop.vault, shop.loaded(_pem(made)), "auth", now=shop.clock())
    shop.work(enrolment, timedelta(hours=1))
    assert shop.active("auth").serial == good.serial_hex
    assert "Certyfikat odwołany" in next(row.note or "" for row in shop.rows() if row.state == "pending")
    ksef.login_now()


def _pem(made) -> bytes:  # type: ignore[no-untyped-def]
    whole: bytes = made.certificate + made.private_key
    return whole


def test_a_token_is_made_listed_used_and_revoked(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    ksef = shop.client(CertificateLogin(shop.seal()))
    made = [ksef.make_token(f"Bufor sklepu {number}") for number in range(3)]
    shop.clock.sleep(3)
    assert {one.status for one in ksef.tokens()} == {"Active"}
    assert [one.reference for one in ksef.tokens()] == [one.reference for one in reversed(made)]
    by_token = shop.client(TokenLogin(made[0].token))
    by_token.login_now()
    by_token.open_session(FA3)

    ksef.revoke_token(made[0].reference)
    shop.clock.sleep(3)
    assert ksef.token(made[0].reference).status == "Revoked"
    with pytest.raises(Unauthorised):
        by_token.login_now()
    assert not [one for one in made if one.token in caplog.text]
    assert shop.sandbox.deviations == []


def test_a_token_gets_no_right_to_manage(shop: Shop) -> None:
    ksef = shop.client(CertificateLogin(shop.seal()))
    made = ksef.make_token("Bufor sklepu")
    shop.clock.sleep(3)
    by_token = shop.client(TokenLogin(made.token))
    other = ksef.make_token("Inny program")
    with pytest.raises((Refused, Unauthorised)):
        by_token.revoke_token(other.reference)
