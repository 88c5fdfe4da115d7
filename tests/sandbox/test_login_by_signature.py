from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from lxml import etree

from ksefbuffer.sandbox import Sandbox
from tests.samples import NIP, NOW
from tests.sandbox.client import DS, INC, Client, FakeClock, Signer, Xades, auth_request, codes, sign, signer

MORE = "http://www.w3.org/2001/04/xmldsig-more#"
MORE7 = "http://www.w3.org/2007/05/xmldsig-more#"
OTHER_NIP = "1111111111"
RSA = rsa.generate_private_key(65537, 2048)


def attempt(client: Client, how: Xades | None = None, by: Signer | None = None, **request: str) -> object:
    document = auth_request(client.challenge()["challenge"], **request)
    return client.hand_in(sign(document, by or signer(), how, now=client.now))


@pytest.mark.parametrize(
    ("by", "how"),
    [
        (signer(), Xades()),
        (signer(key=RSA), Xades()),
        (signer(), Xades(c14n=INC, transforms=(DS + "enveloped-signature", INC))),
        (signer(), Xades(binding="v2")),
        (signer(), Xades(binding="key_info")),
        (signer(key=RSA), Xades(signature_method=MORE7 + "sha256-rsa-MGF1")),
        (signer(key=RSA), Xades(signature_method=MORE + "rsa-sha512", sha=hashes.SHA512())),
        (
            signer(key=ec.generate_private_key(ec.SECP384R1())),
            Xades(signature_method=MORE + "ecdsa-sha384", sha=hashes.SHA384()),
        ),
        (signer(usage=None), Xades()),
    ],
    ids=["ec", "rsa", "inclusive", "v2", "signed KeyInfo", "pss", "rsa-sha512", "p384", "no keyUsage"],
)
def test_good_signatures_of_every_kind_log_in(client: Client, by: Signer, how: Xades) -> None:
    answer = attempt(client, how, by)
    assert answer.status_code == 202, answer.text
    client.redeem(answer.json())


@pytest.mark.parametrize(
    ("how", "by"),
    [
        (Xades(der_ecdsa=True), signer()),
        (Xades(binding="none"), signer()),
        (Xades(digest_of=b"another certificate"), signer()),
        (Xades(certificate=signer().der), signer()),
        (Xades(serial="1"), signer()),
        (Xades(issuer="/C=PL/CN=Hurtownia"), signer()),
        (Xades(signing_time=NOW + timedelta(seconds=1)), signer()),
        (Xades(properties_type="http://uri.etsi.org/01903/v1.3.2#SignedProperties"), signer()),
        (Xades(transforms=(INC,)), signer()),
        (Xades(transforms=(DS + "enveloped-signature", "http://www.w3.org/TR/1999/REC-xslt-19991116")), signer()),
        (Xades(uri="https://example.com/document.xml"), signer()),
        (Xades(signature_method=MORE + "rsa-sha256"), signer()),
        (Xades(), signer(key=rsa.generate_private_key(65537, 1024))),
        (Xades(), signer(key=ec.generate_private_key(ec.SECP224R1()))),
    ],
    ids=[
        "DER instead of R||S", "certificate not bound", "wrong CertDigest", "other certificate in KeyInfo",
        "hex serial", "OpenSSL issuer", "future SigningTime", "wrong Type", "no enveloped transform",
        "forbidden transform", "detached", "method of the other key", "RSA 1024", "P-224",
    ],
)  # fmt: skip
def test_bad_signatures_are_refused(client: Client, how: Xades, by: Signer) -> None:
    assert codes(attempt(client, how, by)) == [9105]


@pytest.mark.parametrize(
    "tamper",
    [
        lambda document: document.replace(NIP.encode(), OTHER_NIP.encode()),
        lambda document: document.replace(b"\n  <Context", b"\n <Context"),
        lambda document: document.replace(b":00Z</xades:SigningTime>", b":01Z</xades:SigningTime>"),
    ],
    ids=["another NIP", "reformatted", "another SigningTime"],
)
def test_a_document_changed_after_signing_is_refused(client: Client, tamper: Callable[[bytes], bytes]) -> None:
    document = sign(auth_request(client.challenge()["challenge"]), signer())
    changed = tamper(document)
    assert changed != document
    assert codes(client.hand_in(changed)) == [9105]


def test_a_comment_added_after_signing_is_not_part_of_what_is_signed(client: Client) -> None:
    document = sign(auth_request(client.challenge()["challenge"]), signer())
    changed = document.replace(b"  <SubjectIdentifierType>", b"  <!-- x --><SubjectIdentifierType>")
    assert client.hand_in(changed).status_code == 202


def test_a_challenge_is_known_single_use_and_lives_ten_minutes(client: Client, clock: FakeClock) -> None:
    unknown = "20261120-CR-0123456789-0123456789-AB"
    assert codes(client.hand_in(sign(auth_request(unknown), signer()))) == [21111]

    challenge = client.challenge()["challenge"]
    assert client.hand_in(sign(auth_request(challenge), signer())).status_code == 202
    assert codes(client.hand_in(sign(auth_request(challenge), signer()))) == [21111]

    late = client.challenge()["challenge"]
    clock.forward(minutes=10)
    assert client.hand_in(sign(auth_request(late), signer(), now=clock.now)).status_code == 202
    later = client.challenge()["challenge"]
    clock.forward(minutes=10, seconds=1)
    assert codes(client.hand_in(sign(auth_request(later), signer(), now=clock.now))) == [21111]


def test_a_refused_document_does_not_use_up_its_challenge(client: Client) -> None:
    challenge = client.challenge()["challenge"]
    assert codes(client.hand_in(sign(auth_request(challenge), signer(), Xades(der_ecdsa=True)))) == [9105]
    assert client.hand_in(sign(auth_request(challenge), signer())).status_code == 202


def test_no_signature_and_two_signatures(client: Client) -> None:
    document = auth_request(client.challenge()["challenge"])
    assert codes(client.hand_in(document.encode())) == [9102]
    once = sign(document, signer())
    root = etree.fromstring(once)
    root.append(etree.fromstring(etree.tostring(root[-1])))
    assert codes(client.hand_in(etree.tostring(root))) == [9103]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("<Challenge>", "<Challenge>X"),
        lambda text: text.replace("<Nip>", "<Nip>0"),
        lambda text: text.replace("<Nip>", "<NIP>").replace("</Nip>", "</NIP>"),
        lambda text: text.replace("certificateSubject", "CertificateSubject"),
        lambda text: text.replace("</AuthTokenRequest>", "<More/></AuthTokenRequest>"),
        lambda text: text.replace("<AuthTokenRequest ", '<AuthTokenRequest version="1" '),
        lambda text: text.replace("  <SubjectIdentifierType>", "x<SubjectIdentifierType>"),
        lambda text: text.replace(
            "  <SubjectIdentifierType>certificateSubject</SubjectIdentifierType>\n", ""
        ).replace("  <Challenge>", "<SubjectIdentifierType>certificateSubject</SubjectIdentifierType><Challenge>"),
        lambda text: text.replace("</AuthTokenRequest>", "<AuthorizationPolicy/></AuthTokenRequest>"),
        lambda text: text.replace(
            "</AuthTokenRequest>",
            "<AuthorizationPolicy><AllowedIps><Ip4Mask>10.0.0.0/8</Ip4Mask><Ip4Address>10.0.0.1</Ip4Address>"
            "</AllowedIps></AuthorizationPolicy></AuthTokenRequest>",
        ),
        lambda text: text.replace(
            "</AuthTokenRequest>",
            "<AuthorizationPolicy><AllowedIps><Ip4Address>10.0.0.256</Ip4Address>"
            "</AllowedIps></AuthorizationPolicy></AuthTokenRequest>",
        ),
    ],
)  # fmt: skip
def test_a_document_off_its_schema_is_refused(client: Client, change: Callable[[str], str]) -> None:
    text = auth_request(client.challenge()["challenge"])
    changed = change(text)
    assert changed != text
    assert codes(client.hand_in(sign(changed, signer()))) == [21401]


def test_what_is_no_login_document_at_all(client: Client) -> None:
    assert codes(client.hand_in(b"<a")) == [21001]
    assert codes(client.hand_in(b"<a/>")) == [9101]
    assert codes(client.hand_in("<a>ą</a>".encode("iso-8859-2"))) == [21217]
    assert codes(client.hand_in(b'<?xml version="1.0" encoding="iso-8859-2"?><a/>')) == [21217]
    bomb = b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><a>&x;</a>'
    assert codes(client.hand_in(bomb)) == [9101]


def test_only_application_xml_is_taken(client: Client) -> None:
    document = sign(auth_request(client.challenge()["challenge"]), signer())
    for content_type in ("text/xml", "application/json", ""):
        assert client.hand_in(document, content_type).status_code == 415
    assert client.hand_in(document, "application/xml; charset=utf-8").status_code == 202


def test_certificates_that_cannot_log_in(client: Client, clock: FakeClock) -> None:
    def refused(by: Signer) -> list[int]:
        return codes(attempt(client, by=by))

    assert refused(signer(now=NOW - timedelta(days=400))) == [21115]
    assert refused(signer(now=NOW + timedelta(days=3))) == [21115]
    assert refused(signer(usage=(False, True))) == [21115]
    assert refused(signer({NameOID.COMMON_NAME: "nobody"})) == [21115]
    both = {NameOID.ORGANIZATION_IDENTIFIER: f"VATPL-{NIP}", NameOID.GIVEN_NAME: "Jan", NameOID.SURNAME: "Nowak"}
    assert refused(signer(both)) == [21115]


@pytest.mark.parametrize(
    ("subject", "missing"),
    [
        ({NameOID.ORGANIZATION_IDENTIFIER: f"VATPL-{NIP}"}, "commonName, countryName, organizationName"),
        ({NameOID.SERIAL_NUMBER: f"TINPL-{NIP}", NameOID.COUNTRY_NAME: "PL"}, "commonName, givenName, surname"),
    ],
    ids=["seal", "signature"],
)
def test_a_subject_must_be_whole(client: Client, subject: dict[object, str], missing: str) -> None:
    answer = attempt(client, by=signer(subject, bare=True))
    assert codes(answer) == [21115]
    assert missing in answer.text


@pytest.mark.parametrize(
    "subject",
    [
        {NameOID.ORGANIZATION_IDENTIFIER: NIP},
        {NameOID.ORGANIZATION_IDENTIFIER: f"NTRPL-{NIP}"},
        {NameOID.SERIAL_NUMBER: f"IDCPL-{NIP}", NameOID.GIVEN_NAME: "Jan", NameOID.SURNAME: "Nowak"},
        {NameOID.SERIAL_NUMBER: "PNODE-90010112345", NameOID.GIVEN_NAME: "Jan", NameOID.SURNAME: "Nowak"},
    ],
)
def test_an_identifier_must_say_what_it_is(client: Client, subject: dict[object, str]) -> None:
    assert codes(attempt(client, by=signer(subject))) == [21115]


PERSON = {NameOID.GIVEN_NAME: "Jan", NameOID.SURNAME: "Nowak", NameOID.COMMON_NAME: "Jan Nowak"}


def outcome(client: Client, by: Signer, **request: str) -> dict[str, object]:
    started = attempt(client, by=by, **request).json()
    client.settle()
    token = started["authenticationToken"]["token"]
    return client.call("GET", f"/auth/{started['referenceNumber']}", token=token).json()["status"]


def test_a_subject_without_rights_in_the_context_ends_with_415(client: Client) -> None:
    assert outcome(client, signer(), nip=OTHER_NIP)["code"] == 415
    stranger = signer({**PERSON, NameOID.SERIAL_NUMBER: "PNOPL-90010112345"})
    assert outcome(client, stranger) == {
        "code": 415,
        "description": "Uwierzytelnianie zakończone niepowodzeniem",
        "details": ["Brak przypisanych uprawnień"],
    }


def test_a_person_named_by_the_same_nip_logs_in(client: Client) -> None:
    for number in (f"TINPL-{NIP}", f"NIP-{NIP}"):
        assert outcome(client, signer({**PERSON, NameOID.SERIAL_NUMBER: number}))["code"] == 200


def test_grants_open_the_context_to_others(client: Client, sandbox: Sandbox) -> None:
    person = signer({**PERSON, NameOID.SERIAL_NUMBER: "PNOPL-90010112345"})
    sandbox.grant(NIP, "Pesel", "90010112345")
    assert outcome(client, person)["code"] == 200

    nameless = signer({NameOID.COMMON_NAME: "kasa 1"})
    assert outcome(client, nameless, subject="certificateFingerprint")["code"] == 415
    fingerprint = nameless.certificate.fingerprint(hashes.SHA256()).hex()
    sandbox.grant(NIP, "Fingerprint", fingerprint)
    assert outcome(client, nameless, subject="certificateFingerprint")["code"] == 200

    sandbox.grant(OTHER_NIP, "Nip", NIP)
    assert outcome(client, signer(), nip=OTHER_NIP)["code"] == 200


def test_a_branch_is_its_companys_context(client: Client) -> None:
    assert outcome(client, signer(), context=f"<InternalId>{NIP}-12343</InternalId>")["code"] == 200


def test_a_login_may_be_bound_to_addresses(client: Client) -> None:
    policy = "<AuthorizationPolicy><AllowedIps>{}</AllowedIps></AuthorizationPolicy>".format
    for good in (
        "<Ip4Address>127.0.0.1</Ip4Address>",
        "<Ip4Range>127.0.0.0-127.0.0.9</Ip4Range>",
        "<Ip4Mask>127.0.0.0/8</Ip4Mask>",
    ):
        assert client.login(policy=policy(good)).call("GET", "/rate-limits").status_code == 200
    refused = client.login(policy=policy("<Ip4Address>10.0.0.1</Ip4Address>")).call("GET", "/rate-limits")
    assert refused.status_code == 403
    assert refused.json()["reasonCode"] == "ip-not-allowed"
