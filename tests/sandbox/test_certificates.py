from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID

from ksefbuffer.sandbox import Fault, Sandbox
from tests.samples import NIP, invoice
from tests.sandbox.client import Client, FakeClock, Signer, auth_request, codes, sign, signer
from tests.sandbox.enrolling import Got, ask, csr, data, enrolled, fetch, outcome

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
OTHER_NIP = "1111111111"
PESEL = "90010112345"
PERSON = {
    NameOID.GIVEN_NAME: "Jan",
    NameOID.SURNAME: "Nowak",
    NameOID.COMMON_NAME: "Jan Nowak",
    NameOID.SERIAL_NUMBER: f"PESEL: {PESEL}",
}


@pytest.fixture
def logged(client: Client) -> Client:
    return client.login()


def login_status(client: Client, by: Signer, nip: str = NIP, subject: str = "certificateSubject") -> dict[str, Any]:
    answer = client.hand_in(sign(auth_request(client.challenge()["challenge"], nip, subject), by, now=client.now))
    assert answer.status_code == 202, answer.text
    client.settle()
    started = answer.json()
    bearer = started["authenticationToken"]["token"]
    return dict(client.call("GET", f"/auth/{started['referenceNumber']}", token=bearer).json())


def usage(certificate: x509.Certificate) -> x509.KeyUsage:
    return certificate.extensions.get_extension_for_class(x509.KeyUsage).value


@pytest.mark.parametrize("key", [EC, RSA], ids=["EC P-256", "RSA 2048"])
@pytest.mark.parametrize("kind", ["Authentication", "Offline"])
def test_a_certificate_is_enrolled_for_and_fetched(logged: Client, sandbox: Sandbox, kind: str, key: Any) -> None:
    got = enrolled(logged, kind, key=key)
    certificate = got.certificate
    assert len(got.serial) == 16
    assert got.serial == f"{certificate.serial_number:016X}"
    assert certificate.public_key() == key.public_key()
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(sandbox.authority))
    (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    ending = {"Authentication": "(uwierzytelnienie)", "Offline": "(offline)"}[kind]
    assert name.value == f"Hurtownia {ending}"
    assert usage(certificate).digital_signature == (kind == "Authentication")
    assert usage(certificate).content_commitment == (kind == "Offline")
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc <= timedelta(days=731)
    assert certificate.not_valid_before_utc <= logged.now


def test_an_enrolment_takes_its_time(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    sandbox.enrollment_s = 60
    answer = ask(logged, csr(data(logged), EC))
    path = f"/certificates/enrollments/{answer.json()['referenceNumber']}"
    clock.forward(seconds=59)
    pending = logged.call("GET", path).json()
    assert pending["status"]["code"] == 100
    assert "certificateSerialNumber" not in pending
    clock.forward(seconds=1)
    assert logged.call("GET", path).json()["status"]["code"] == 200


def test_identifiers_come_in_ksefs_spelling(client: Client, sandbox: Sandbox) -> None:
    sandbox.grant(NIP, "Pesel", PESEL)
    client.login(signer(PERSON))
    assert data(client) == {
        "countryName": "PL",
        "givenName": "Jan",
        "surname": "Nowak",
        "serialNumber": f"PNOPL-{PESEL}",
        "commonName": "Jan Nowak",
    }
    # Who copies the own certificate's spelling is refused [#187].
    assert codes(ask(client, csr({**data(client), "serialNumber": f"PESEL: {PESEL}"}, EC))) == [25003]
    assert enrolled(client).certificate.subject.get_attributes_for_oid(NameOID.GIVEN_NAME)[0].value == "Jan"


@pytest.mark.parametrize(
    "change",
    [
        lambda told: {**told, "commonName": "Hurtownia "},
        lambda told: {**told, "organizationIdentifier": NIP},
        lambda told: {name: value for name, value in told.items() if name != "countryName"},
        lambda told: {**told, "surname": "Nowak"},
        lambda told: {},
    ],
    ids=["space", "no prefix", "one less", "one more", "nothing"],
)
def test_a_request_must_hold_the_data_to_the_letter(
    logged: Client, change: Callable[[dict[str, str]], dict[str, str]]
) -> None:
    assert codes(ask(logged, csr(change(data(logged)), EC))) == [25003]
    # What is refused at once costs nothing.
    assert logged.call("GET", "/certificates/limits").json()["enrollment"] == {"remaining": 300, "limit": 300}


def test_the_order_of_the_data_does_not_matter(logged: Client) -> None:
    told = dict(reversed(data(logged).items()))
    assert outcome(logged, ask(logged, csr(told, EC)))["status"]["code"] == 200


def test_keys_and_signatures_of_requests(logged: Client) -> None:
    told = data(logged)

    def refused(request: bytes) -> list[int]:
        return codes(ask(logged, request))

    assert refused(csr(told, rsa.generate_private_key(65537, 3072))) == [25010]
    assert refused(csr(told, ec.generate_private_key(ec.SECP384R1()))) == [25010]
    ed = ed25519.Ed25519PrivateKey.generate()
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    from cryptography.hazmat.primitives.serialization import Encoding

    assert refused(builder.sign(ed, None).public_bytes(Encoding.DER)) == [25010]
    assert refused(csr(told, EC, sha=hashes.SHA3_256())) == [25011]
    assert refused(csr(told, RSA, sha=hashes.SHA224())) == [25011]
    good = csr(told, EC)
    assert refused(good[:-1] + bytes([good[-1] ^ 1])) == [25004]
    assert refused(b"x") == [25004]
    assert refused(b64encode(good)) == [25004]


@pytest.mark.parametrize(
    ("key", "how"),
    [
        (EC, {"sha": hashes.SHA512()}),
        (RSA, {"sha": hashes.SHA384()}),
        (RSA, {"rsa_padding": padding.PSS(padding.MGF1(hashes.SHA256()), 32)}),
    ],
    ids=["ECDSA SHA-512", "RSA SHA-384", "RSA-PSS"],
)
def test_signatures_that_are_allowed(logged: Client, key: Any, how: dict[str, Any]) -> None:
    assert outcome(logged, ask(logged, csr(data(logged), key, **how)))["status"]["code"] == 200


@pytest.mark.parametrize(
    "wrong",
    [{"certificateName": "abc"}, {"certificateName": "a" * 101}, {"certificateName": "Kasa/1"},
     {"certificateType": "offline"}, {"csr": "a_b-"}, {"validFrom": "jutro"}, {"csr": None}],
)  # fmt: skip
def test_what_an_enrolment_must_say(logged: Client, wrong: dict[str, Any]) -> None:
    answer = ask(logged, csr(data(logged), EC), **wrong)
    assert codes(answer) == [21405]
    assert next(iter(wrong)) in answer.text


def test_a_certificate_may_begin_later(logged: Client, clock: FakeClock) -> None:
    since = clock.now + timedelta(days=10)
    got = enrolled(logged, validFrom=since.isoformat())
    assert got.certificate.not_valid_before_utc == since.replace(microsecond=0)
    answer = logged.hand_in(sign(auth_request(logged.challenge()["challenge"]), got, now=logged.now))
    assert codes(answer) == [21115]
    clock.forward(days=11)
    assert login_status(logged, got)["status"]["code"] == 200


def test_nobody_enrols_by_token(client: Client, sandbox: Sandbox) -> None:
    client.login_by_token(sandbox.issue_token(NIP))
    assert codes(client.call("GET", "/certificates/enrollments/data")) == [25001]
    assert codes(ask(client, csr({"commonName": "x", "countryName": "PL"}, EC))) == [25002]
    assert client.call("GET", "/certificates/limits").json()["canRequest"] is False
    refused = client.call("POST", f"/certificates/{'0' * 16}/revoke", json={})
    assert refused.status_code == 403
    assert refused.json()["reasonCode"] == "auth-method-not-allowed"


def test_nobody_enrols_by_a_certificate_that_names_no_country(client: Client, sandbox: Sandbox) -> None:
    nameless = signer({NameOID.COMMON_NAME: "kasa 1"}, bare=True)
    sandbox.grant(NIP, "Fingerprint", nameless.certificate.fingerprint(hashes.SHA256()).hex())
    client.login(nameless, subject="certificateFingerprint")
    assert codes(client.call("GET", "/certificates/enrollments/data")) == [25001]


def test_limits_are_counted_by_subject_and_for_thirty_days(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    sandbox.certificate_limits(enrollments=2, certificates=5)
    first = enrolled(logged)
    sandbox.faults.add(Fault("enrollCertificate", "enrollment_status", code=550))
    failed = outcome(logged, ask(logged, csr(data(logged), EC)))["status"]
    assert failed["code"] == 550
    told = logged.call("GET", "/certificates/limits").json()
    # A failed one counts too [#224], and revoking gives nothing back [#580].
    assert told == {
        "canRequest": False,
        "enrollment": {"remaining": 0, "limit": 2},
        "certificate": {"remaining": 4, "limit": 5},
    }
    logged.call("POST", f"/certificates/{first.serial}/revoke", json={})
    assert codes(ask(logged, csr(data(logged), EC))) == [25006]
    assert logged.call("GET", "/certificates/limits").json()["certificate"] == {"remaining": 5, "limit": 5}
    clock.forward(days=30)
    logged.login()
    assert enrolled(logged)


def test_the_number_of_active_certificates_is_limited(logged: Client, sandbox: Sandbox) -> None:
    sandbox.certificate_limits(certificates=1)
    request = csr(data(logged), EC)
    early, late = ask(logged, request), ask(logged, request)
    assert outcome(logged, early)["status"]["code"] == 200
    assert outcome(logged, late)["status"] == {
        "code": 400,
        "description": "Wniosek odrzucony",
        "details": ["Osiągnięto dopuszczalny limit posiadanych certyfikatów."],
    }
    assert codes(ask(logged, request)) == [25007]
    sandbox.certificate_limits()
    assert outcome(logged, ask(logged, request))["status"]["code"] == 200


def test_a_person_has_fewer(client: Client, sandbox: Sandbox) -> None:
    sandbox.grant(NIP, "Pesel", PESEL)
    told = client.login(signer(PERSON)).call("GET", "/certificates/limits").json()
    assert (told["enrollment"]["limit"], told["certificate"]["limit"]) == (12, 6)


def test_a_key_belongs_to_one_subject(client: Client, sandbox: Sandbox) -> None:
    enrolled(client.login(), key=EC)
    client.login(signer({NameOID.ORGANIZATION_IDENTIFIER: f"VATPL-{OTHER_NIP}"}), OTHER_NIP)
    said = outcome(client, ask(client, csr(data(client), EC)))["status"]
    assert said["code"] == 400
    assert said["details"] == ["Klucz publiczny został już certyfikowany przez inny podmiot."]


@pytest.mark.parametrize("code", [400, 500, 550])
def test_an_enrolment_can_be_denied(logged: Client, sandbox: Sandbox, code: int) -> None:
    sandbox.faults.add(Fault("enrollCertificate", "enrollment_status", code=code, details=("Bo tak.",)))
    said = outcome(logged, ask(logged, csr(data(logged), EC)))
    assert (said["status"]["code"], said["status"]["details"]) == (code, ["Bo tak."])
    assert "certificateSerialNumber" not in said


def test_an_enrolment_can_be_stuck(logged: Client, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("enrollCertificate", "stuck"))
    answer = ask(logged, csr(data(logged), EC))
    assert outcome(logged, answer)["status"]["code"] == 100
    assert sandbox.release() == 1
    assert outcome(logged, answer)["status"]["code"] == 200


def test_an_enrolment_is_its_subjects_own_and_kept_thirty_days(
    logged: Client, sandbox: Sandbox, clock: FakeClock
) -> None:
    answer = ask(logged, csr(data(logged), EC))
    path = f"/certificates/enrollments/{answer.json()['referenceNumber']}"
    serial = outcome(logged, answer)["certificateSerialNumber"]
    sandbox.grant(NIP, "Pesel", PESEL)
    other = Client(sandbox, clock).login(signer(PERSON))
    assert codes(other.call("GET", path)) == [25005]
    assert fetch(other, serial) == []
    assert codes(other.call("POST", f"/certificates/{serial}/revoke", json={})) == [25008]
    assert codes(logged.call("GET", "/certificates/enrollments/20261120-CE-0123456789-0123456789-AB")) == [25005]
    clock.forward(days=30, seconds=1)
    assert logged.login().call("GET", path).status_code == 410


def test_an_issued_certificate_logs_in(logged: Client, sandbox: Sandbox) -> None:
    got = enrolled(logged)
    status = login_status(logged, got)
    assert status["status"]["code"] == 200
    assert status["authenticationMethod"] == "InternalCertificate"
    assert enrolled(logged.login(got), key=RSA).certificate.subject == got.certificate.subject
    session = logged.login(got).open()
    assert logged.verdict(session, invoice("FV/1"))["status"]["code"] == 200
    (item,) = [item for item in sandbox.certificates() if item.serial == got.serial]
    assert (item.kind, item.status, item.subject) == ("Authentication", "Active", ("Nip", NIP))


def test_a_certificate_identified_by_fingerprint_needs_a_grant(logged: Client, sandbox: Sandbox) -> None:
    got = enrolled(logged)
    assert login_status(logged, got, subject="certificateFingerprint")["status"]["code"] == 415
    sandbox.grant(NIP, "Fingerprint", got.certificate.fingerprint(hashes.SHA256()).hex())
    assert login_status(logged, got, subject="certificateFingerprint")["status"]["code"] == 200


def test_a_certificate_got_by_fingerprint_carries_that_fingerprint(client: Client, sandbox: Sandbox) -> None:
    nameless = signer({NameOID.COMMON_NAME: "kasa 1"})
    sandbox.grant(NIP, "Fingerprint", nameless.certificate.fingerprint(hashes.SHA256()).hex())
    got = enrolled(client.login(nameless, subject="certificateFingerprint"))
    assert login_status(client, got, subject="certificateFingerprint")["status"]["code"] == 200


def test_an_offline_certificate_does_not_log_in(logged: Client) -> None:
    got = enrolled(logged, "Offline")
    answer = logged.hand_in(sign(auth_request(logged.challenge()["challenge"]), got, now=logged.now))
    assert codes(answer) == [21115]


def test_revoked_and_expired_certificates_do_not_log_in(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    first, second, third = (enrolled(logged, key=ec.generate_private_key(ec.SECP256R1())) for _ in range(3))
    assert logged.call("POST", f"/certificates/{first.serial}/revoke").status_code == 204
    said = login_status(logged, first)["status"]
    assert (said["code"], said["details"]) == (460, ["Certyfikat zawieszony"])
    assert login_status(logged, first)["status"]["details"] == ["Certyfikat odwołany"]
    sandbox.expire(second.serial)
    said = login_status(logged, second)["status"]
    assert (said["code"], said["details"]) == (460, ["Nieważny certyfikat"])
    assert login_status(logged, third)["status"]["code"] == 200
    clock.forward(days=731)
    answer = logged.hand_in(sign(auth_request(logged.challenge()["challenge"]), third, now=logged.now))
    assert codes(answer) == [21115]


def test_another_environments_certificate_is_not_trusted(logged: Client, clock: FakeClock) -> None:
    elsewhere = Sandbox(clock=clock, latency_s=0, limits="none", seed=2)
    got = enrolled(Client(elsewhere, clock).login())
    elsewhere.close()
    said = login_status(logged, got)["status"]
    assert (said["code"], said["details"]) == (460, ["Niezaufany łańcuch certyfikatów"])


def test_a_serial_number_alone_proves_nothing(logged: Client, sandbox: Sandbox) -> None:
    got = enrolled(logged)
    forged = signer()
    same = (
        x509.CertificateBuilder()
        .subject_name(forged.certificate.subject)
        .issuer_name(forged.certificate.subject)
        .public_key(forged.key.public_key())
        .serial_number(got.certificate.serial_number)
        .not_valid_before(logged.now - timedelta(days=1))
        .not_valid_after(logged.now + timedelta(days=1))
        .sign(forged.key, hashes.SHA256())
    )
    sandbox.revoke(got.serial)
    status = login_status(logged, Signer(forged.key, same))
    assert (status["status"]["code"], status["authenticationMethod"]) == (200, "QualifiedSeal")


def test_revoking_leaves_the_sessions_alive(logged: Client, sandbox: Sandbox) -> None:
    got = enrolled(logged)
    logged.login(got)
    sandbox.revoke(got.serial)
    logged.settle()
    assert logged.call("POST", "/auth/token/refresh", token=logged.refresh_token).status_code == 200
    assert logged.call("GET", "/rate-limits").status_code == 200


def test_revoking_what_is_not_there_or_revoked(logged: Client, sandbox: Sandbox) -> None:
    got, other = enrolled(logged), enrolled(logged, "Offline")
    path = f"/certificates/{got.serial}/revoke"
    assert codes(logged.call("POST", path, json={"revocationReason": "Lost"})) == [21405]
    assert logged.call("POST", path, json={"revocationReason": "Superseded"}).status_code == 204
    assert codes(logged.call("POST", path, json={})) == [25009]
    logged.settle()
    assert codes(logged.call("POST", path, json={})) == [25009]
    sandbox.expire(other.serial)
    assert codes(logged.call("POST", f"/certificates/{other.serial}/revoke", json={})) == [25009]
    assert codes(logged.call("POST", f"/certificates/{'0' * 16}/revoke", json={})) == [25008]
    assert codes(logged.call("POST", "/certificates/abc/revoke", json={})) == [21405]


def listed(client: Client, query: str = "", **filters: Any) -> list[str]:
    answer = client.call("POST", f"/certificates/query{query}", json=filters)
    assert answer.status_code == 200, answer.text
    return [item["certificateSerialNumber"] for item in answer.json()["certificates"]]


def test_certificates_are_found_by_what_they_are(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    first = enrolled(logged, certificateName="Kasa północna")
    clock.forward(days=100)
    second = enrolled(logged.login(), "Offline", certificateName="Kasa południowa")
    third = enrolled(logged, "Offline", certificateName="Biuro")
    assert listed(logged) == [third.serial, second.serial, first.serial]
    assert listed(logged, type="Offline") == [third.serial, second.serial]
    assert listed(logged, name="Kasa", type="Offline") == [second.serial]
    assert listed(logged, certificateSerialNumber=first.serial) == [first.serial]
    later = first.certificate.not_valid_after_utc + timedelta(days=1)
    assert listed(logged, expiresAfter=later.isoformat()) == [third.serial, second.serial]
    sandbox.revoke(second.serial)
    assert listed(logged, status="Blocked") == [second.serial]
    logged.settle()
    assert listed(logged, status="Revoked") == [second.serial]
    sandbox.expire(third.serial)
    assert listed(logged, status="Expired") == [third.serial]
    assert listed(logged, status="Active") == [first.serial]
    assert logged.call("POST", "/certificates/query").status_code == 200
    assert codes(logged.call("POST", "/certificates/query", json={"status": "Dead"})) == [21405]


def test_certificates_are_listed_in_pages(logged: Client, sandbox: Sandbox) -> None:
    serials = [sandbox.issue_certificate("Offline", NIP).serial for _ in range(12)]
    first = logged.call("POST", "/certificates/query?pageSize=10", json={}).json()
    assert first["hasMore"] is True
    rest = logged.call("POST", "/certificates/query?pageSize=10&pageOffset=1", json={}).json()
    assert rest["hasMore"] is False
    shown = [item["certificateSerialNumber"] for item in first["certificates"] + rest["certificates"]]
    assert shown == serials[::-1]
    assert codes(logged.call("POST", "/certificates/query?pageSize=51", json={})) == [21405]


def test_retrieval_is_by_up_to_ten_serial_numbers(logged: Client, sandbox: Sandbox) -> None:
    got = enrolled(logged)
    (item,) = fetch(logged, got.serial, "0" * 16)
    assert (item["certificateName"], item["certificateType"]) == ("Kasa nr 1", "Authentication")
    for wrong in ([], ["abc"], [got.serial] * 11):
        answer = logged.call("POST", "/certificates/retrieve", json={"certificateSerialNumbers": wrong})
        assert codes(answer) == [21405]


def test_certificates_come_without_enrolment_too(client: Client, sandbox: Sandbox) -> None:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    for key in ("ec", "rsa"):
        issued = sandbox.issue_certificate("Authentication", NIP, key=key)
        certificate = x509.load_pem_x509_certificate(issued.certificate)
        by = Got(load_pem_private_key(issued.private_key, None), certificate, issued.serial)
        client.login(by)
        assert "PRIVATE" not in repr(issued)
    for wrong in (("Both", NIP), ("Offline", "123")):
        with pytest.raises(ValueError, match=r"must be|digits"):
            sandbox.issue_certificate(*wrong)


def test_certificates_survive_a_restart(tmp_path: Any, clock: FakeClock) -> None:
    state = tmp_path / "state.db"
    before = Sandbox(state, clock=clock, latency_s=2, limits="none")
    client = Client(before, clock).login()
    got = enrolled(client)
    pending = ask(client, csr(data(client), EC), "Offline").json()["referenceNumber"]
    before.certificate_limits(certificates=7)
    authority = before.authority
    before.close()
    after = Sandbox(state, clock=clock, latency_s=2, limits="none")
    again = Client(after, clock).login(got)
    assert after.authority == authority
    assert again.call("GET", f"/certificates/enrollments/{pending}").json()["status"]["code"] == 200
    assert again.call("GET", "/certificates/limits").json()["certificate"]["limit"] == 7
    after.close()
