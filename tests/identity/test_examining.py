"""What a certificate is and what it may serve for, in words."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from ksefbuffer.errors import CredentialFault
from ksefbuffer.identity.examining import Examined, Purpose, examine
from ksefbuffer.identity.material import Credential, credential_of, load_files, secret_of
from ksefbuffer.identity.recognition import Kind, facts_of, recognise
from ksefbuffer.identity.selfsigned import make_selfsigned
from tests.identity.authority import OIDS, certify
from tests.ksef.fake import NIP, START

KEY = ec.generate_private_key(ec.SECP256R1())
STATEMENTS = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.3")
# SEQUENCE of QcCompliance and QcType with esign (…6.1) or eseal (…6.2).
QC = "3021 3008 0606 0400 8e46 0101 3015 0606 0400 8e46 0106 300b 0607 0400 8e46 0106 0{}"
PERSON = {"givenName": "Żaneta", "surname": "Łęcka", "commonName": "Żaneta Łęcka", "countryName": "PL"}
COMPANY = {"organizationName": "Sklep Sp. z o.o.", "commonName": "Sklep Sp. z o.o.", "countryName": "PL"}


def qualified(kind: int) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(STATEMENTS, bytes.fromhex(QC.format(kind)))


def made(subject: dict[str, str], usage: str | None = "digital_signature", **options) -> Credential:  # type: ignore[no-untyped-def]
    name = x509.Name([x509.NameAttribute(x509.ObjectIdentifier(OIDS[key]), value) for key, value in subject.items()])
    settings = {"serial": 0x01F20A5D352AE590, "since": START, **options}
    certificate = certify(KEY.public_key(), name, usage=usage, **settings)
    return credential_of(certificate.public_bytes(Encoding.PEM).decode(), secret_of(KEY))


def selfsigned(kind: str = "seal") -> Credential:
    certificate, key = make_selfsigned(NIP, now=START, kind=kind)  # type: ignore[arg-type]
    secret = load_pem_private_key(key, None).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return credential_of(certificate.decode(), secret)


def company(**more: str) -> dict[str, str]:
    return {**COMPANY, "organizationIdentifier": f"VATPL-{NIP}", **more}


def examined(credential: Credential, purpose: Purpose = "auth", environment: str = "test") -> Examined:
    return examine(credential, purpose, environment=environment, nip=NIP, now=START + timedelta(days=1))


def refusal(credential: Credential, purpose: Purpose = "auth", environment: str = "test") -> str:
    with pytest.raises(CredentialFault) as caught:
        examined(credential, purpose, environment)
    assert caught.value.action
    return caught.value.message


@pytest.mark.parametrize(
    ("credential", "kind", "identifier", "words"),
    [
        (made(company()), Kind.KSEF_AUTHENTICATION, ("Nip", NIP), f"Sklep Sp. z o.o. (NIP {NIP})"),
        (made(company(), "content_commitment"), Kind.KSEF_OFFLINE, ("Nip", NIP), f"Sklep Sp. z o.o. (NIP {NIP})"),
        (
            made(company(commonName="Sklep (offline)"), "content_commitment", issuer="Nowy urząd"),
            Kind.KSEF_OFFLINE,
            ("Nip", NIP),
            f"Sklep Sp. z o.o. (NIP {NIP})",
        ),
        (
            made(
                {**PERSON, "serialNumber": "PNOPL-44051401359"},
                "content_commitment",
                issuer="CUZ",
                extension=qualified(1),
            ),
            Kind.QUALIFIED_SIGNATURE,
            ("Pesel", "44051401359"),
            "Żaneta Łęcka (PESEL ********359)",
        ),
        (
            made({**PERSON, "serialNumber": f"TINPL-{NIP}"}, issuer="CUZ", extension=qualified(1)),
            Kind.QUALIFIED_SIGNATURE,
            ("Nip", NIP),
            f"Żaneta Łęcka (NIP {NIP})",
        ),
        (
            made(company(), "content_commitment", issuer="CUZ", extension=qualified(2)),
            Kind.QUALIFIED_SEAL,
            ("Nip", NIP),
            f"Sklep Sp. z o.o. (NIP {NIP})",
        ),
        (
            made(PERSON, issuer="CUZ", extension=qualified(1)),
            Kind.QUALIFIED_SIGNATURE,
            ("Fingerprint", ""),
            "Żaneta Łęcka (bez NIP i PESEL)",
        ),
        (made(COMPANY, issuer="CUZ"), Kind.OTHER, ("Fingerprint", ""), "Sklep Sp. z o.o. (bez NIP i PESEL)"),
        (selfsigned(), Kind.SELF_SIGNED, ("Nip", NIP), f"Firma {NIP} (NIP {NIP})"),
        (selfsigned("person"), Kind.SELF_SIGNED, ("Nip", NIP), f"Jan Testowy (NIP {NIP})"),
    ],
)
def test_every_kind_is_recognised(credential: Credential, kind: Kind, identifier: tuple[str, str], words: str) -> None:
    found = recognise(credential.certificate)
    assert (found.kind, (found.identifier_kind, found.identifier), found.subject) == (kind, identifier, words)
    facts = facts_of(credential.certificate)
    assert facts.subject == words
    assert facts.serial == credential.serial_hex
    examined(credential, "offline" if kind is Kind.KSEF_OFFLINE else "auth")


def test_who_only_claims_to_have_signed_himself_is_not_selfsigned() -> None:
    certificate = made({"commonName": "TEST CCK KSeF"}).certificate
    assert certificate.issuer == certificate.subject
    assert recognise(certificate).kind is not Kind.SELF_SIGNED


def test_each_mix_up_has_its_own_message() -> None:
    offline, login = made(company(), "content_commitment"), made(company())
    assert "typu Offline (do kodów QR), a do logowania" in refusal(offline)
    assert "typu Uwierzytelnianie, a do kodów QR" in refusal(login, "offline")
    seal = made(company(), "content_commitment", issuer="CUZ", extension=qualified(2))
    assert "kwalifikowany certyfikat pieczęci" in refusal(seal, "offline")
    assert "nie służy do podpisywania" in refusal(made(company(), "key_encipherment"))


def test_the_environment_has_to_fit() -> None:
    for environment in ("sandbox", "test"):
        examined(selfsigned(), environment=environment)
    for environment in ("demo", "production"):
        assert "samopodpisany" in refusal(selfsigned(), environment=environment)
    test, production = made(company()), made(company(), issuer="CCK KSeF")
    for environment in ("sandbox", "test", "demo"):
        examined(test, environment=environment)
    assert "testowy KSeF" in refusal(test, environment="production")
    examined(production, environment="production")
    for environment in ("test", "demo"):
        assert "produkcyjny KSeF" in refusal(production, environment=environment)


def test_validity_is_judged_by_the_given_time() -> None:
    late = made(company(), since=START - timedelta(days=800))
    early = made(company(), since=START + timedelta(days=2))
    assert "stracił ważność" in refusal(late)
    assert "dopiero od" in refusal(early)


@pytest.mark.parametrize(
    ("subject", "said"),
    [
        (company(), None),
        ({**PERSON, "serialNumber": "PNOPL-44051401359"}, "ta osoba ma w KSeF uprawnienia"),
        ({**COMPANY, "organizationIdentifier": "VATPL-5260250274"}, "NIP 5260250274, a bufor pracuje dla NIP"),
        (PERSON, "certificate_fingerprint"),
        ({**PERSON, "organizationIdentifier": f"VATPL-{NIP}"}, "jednocześnie dane osoby"),
    ],
)
def test_what_only_ksef_can_judge_is_a_hint(subject: dict[str, str], said: str | None) -> None:
    hints = examined(made(subject)).hints
    if said is None:
        assert hints == ()
    else:
        assert [hint for hint in hints if said in hint]
    assert "44051401359" not in " ".join(hints)


def test_an_end_that_is_near_and_an_unknown_issuer_are_hints() -> None:
    assert "wygasa 2026-12-10 (zostało dni: 19)" in examined(made(company(), days=20)).hints[-1]
    assert "nie jest znany" in examined(made(company(), issuer="Inny")).hints[0]


# --- files as people have them


@pytest.mark.parametrize("order", ["certificate first", "key first", "with curve parameters"])
def test_one_pem_with_both_is_read(tmp_path: Path, order: str) -> None:
    certificate = made(company()).certificate.public_bytes(Encoding.PEM)
    key = KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    content = {
        "certificate first": certificate + key,
        "key first": key + certificate,
        "with curve parameters": parameters + key + certificate,
    }[order]
    (tmp_path / "a.pem").write_bytes(content)
    assert load_files(tmp_path / "a.pem", None, None).private_key.private_numbers() == KEY.private_numbers()


def test_half_of_a_pair_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "a.crt").write_bytes(made(company()).certificate.public_bytes(Encoding.DER))
    (tmp_path / "a.key").write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "junk").write_bytes(b"junk")
    for name, said in (("a.crt", "sam certyfikat"), ("a.key", "sam klucz prywatny"), ("junk", "nie da się odczytać")):
        with pytest.raises(CredentialFault, match=said) as caught:
            load_files(tmp_path / name, None, None)
        assert caught.value.action
    with pytest.raises(CredentialFault, match="zamienione"):
        load_files(tmp_path / "a.key", tmp_path / "a.crt", None)
    load_files(tmp_path / "a.crt", tmp_path / "a.key", None)


def test_a_kept_key_of_another_certificate_is_noticed() -> None:
    pem = made(company()).certificate.public_bytes(Encoding.PEM).decode()
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with pytest.raises(CredentialFault, match="nie pasuje"):
        credential_of(pem, secret_of(other))
    with pytest.raises(CredentialFault, match="nie da się odczytać"):
        credential_of(pem, b"junk")
