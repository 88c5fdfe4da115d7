"""Every way of keeping a key that people have, and every mistake they make with it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from ksefbuffer.errors import CredentialFault
from ksefbuffer.identity.material import CredentialKind, load_credential
from ksefbuffer.identity.selfsigned import make_selfsigned

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
NIP = "5265877635"
PASSWORD = "zażółć gęślą"
PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER
PKCS8, TRADITIONAL = serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL
SEALED = serialization.BestAvailableEncryption(PASSWORD.encode())
PLAIN = serialization.NoEncryption()


def make(kind: str = "ec"):  # type: ignore[no-untyped-def]
    certificate, key = make_selfsigned(NIP, now=NOW, key=kind)  # type: ignore[arg-type]
    return x509.load_pem_x509_certificate(certificate), serialization.load_pem_private_key(key, None)


MADE = {kind: make(kind) for kind in ("ec", "rsa")}


def certificate_with(key, *, usage: tuple[str, ...] | None, not_before=NOW, days: int = 365):  # type: ignore[no-untyped-def]
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Test")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(0x1F20A5D352AE590)
        .not_valid_before(not_before)
        .not_valid_after(not_before + timedelta(days=days))
    )
    if usage is not None:
        names = [
            *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
            *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
        ]
        builder = builder.add_extension(x509.KeyUsage(**{name: name in usage for name in names}), critical=True)
    return builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def load(tmp_path: Path, certificate: bytes, key: bytes, password: str | None = None):  # type: ignore[no-untyped-def]
    (tmp_path / "a.crt").write_bytes(certificate)
    (tmp_path / "a.key").write_bytes(key)
    return load_credential(
        certificate=tmp_path / "a.crt", private_key=tmp_path / "a.key", pkcs12=None, password=password
    )


def refused(tmp_path: Path, certificate: bytes, key: bytes, password: str | None = None) -> str:
    with pytest.raises(CredentialFault) as caught:
        load(tmp_path, certificate, key, password)
    assert caught.value.action
    assert PASSWORD not in str(caught.value)
    return caught.value.message


@pytest.mark.parametrize("kind", ["ec", "rsa"])
@pytest.mark.parametrize("certificate_encoding", [PEM, DER])
@pytest.mark.parametrize(
    ("encoding", "form", "sealing"),
    [
        (PEM, PKCS8, PLAIN),
        (DER, PKCS8, PLAIN),
        (PEM, PKCS8, SEALED),
        (DER, PKCS8, SEALED),
        (PEM, TRADITIONAL, PLAIN),
        (DER, TRADITIONAL, PLAIN),
        (PEM, TRADITIONAL, SEALED),
    ],
)
def test_every_usual_form_is_read(tmp_path: Path, kind, certificate_encoding, encoding, form, sealing) -> None:  # type: ignore[no-untyped-def]
    certificate, key = MADE[kind]
    written = key.private_bytes(encoding, form, sealing)
    password = PASSWORD if sealing is SEALED else None
    read = load(tmp_path, certificate.public_bytes(certificate_encoding), written, password)
    assert read.certificate == certificate
    assert read.private_key.private_numbers() == key.private_numbers()
    assert read.kind is CredentialKind.AUTHENTICATION
    read.check_login(NOW)
    assert "private" not in repr(read).lower()


def test_a_superfluous_password_does_no_harm(tmp_path: Path) -> None:
    certificate, key = MADE["ec"]
    load(tmp_path, certificate.public_bytes(PEM), key.private_bytes(PEM, PKCS8, PLAIN), "po co")


def test_a_chain_in_any_order_gives_our_own_certificate(tmp_path: Path) -> None:
    certificate, key = MADE["ec"]
    chain = MADE["rsa"][0].public_bytes(PEM) + certificate.public_bytes(PEM)
    assert load(tmp_path, chain, key.private_bytes(PEM, PKCS8, PLAIN)).certificate == certificate


@pytest.mark.parametrize("kind", ["ec", "rsa"])
@pytest.mark.parametrize("password", [PASSWORD, None, ""])
def test_pkcs12_is_read(tmp_path: Path, kind: str, password: str | None) -> None:
    certificate, key = MADE[kind]
    sealing = PLAIN if not password else serialization.BestAvailableEncryption(password.encode())
    path = tmp_path / "a.p12"
    path.write_bytes(pkcs12.serialize_key_and_certificates(b"x", key, certificate, None, sealing))
    read = load_credential(certificate=None, private_key=None, pkcs12=path, password=password)
    assert read.certificate == certificate
    assert read.private_key.private_numbers() == key.private_numbers()


EC_PEM = MADE["ec"][0].public_bytes(PEM)
EC_KEY = MADE["ec"][1].private_bytes(PEM, PKCS8, PLAIN)
EC_SEALED = MADE["ec"][1].private_bytes(PEM, PKCS8, SEALED)
EC_SEALED_DER = MADE["ec"][1].private_bytes(DER, PKCS8, SEALED)
EC_SEALED_OLD = MADE["ec"][1].private_bytes(PEM, TRADITIONAL, SEALED)


@pytest.mark.parametrize("sealed", [EC_SEALED, EC_SEALED_DER, EC_SEALED_OLD])
def test_a_wrong_password_and_a_missing_one_are_told_apart(tmp_path: Path, sealed: bytes) -> None:
    assert "nie podano hasła" in refused(tmp_path, EC_PEM, sealed)
    assert "jest niewłaściwe" in refused(tmp_path, EC_PEM, sealed, "złe")
    assert "jest niewłaściwe" in refused(tmp_path, EC_PEM, sealed, PASSWORD + "\n")


@pytest.mark.parametrize("encoding", [PEM, DER])
def test_swapped_files_are_recognised(tmp_path: Path, encoding: serialization.Encoding) -> None:
    certificate, key = MADE["rsa"]
    for sealing in (PLAIN, SEALED):
        message = refused(tmp_path, key.private_bytes(encoding, PKCS8, sealing), certificate.public_bytes(encoding))
        assert "zamienione" in message


def test_two_files_of_one_kind_are_recognised(tmp_path: Path) -> None:
    assert "klucz prywatny zamiast certyfikatu" in refused(tmp_path, EC_KEY, EC_KEY)
    assert "certyfikat zamiast klucza" in refused(tmp_path, EC_PEM, EC_PEM)


def test_a_key_of_another_certificate_is_recognised(tmp_path: Path) -> None:
    assert "nie pasuje" in refused(tmp_path, EC_PEM, MADE["rsa"][1].private_bytes(PEM, PKCS8, PLAIN))
    assert "nie pasuje" in refused(tmp_path, EC_PEM, make()[1].private_bytes(PEM, PKCS8, PLAIN))


@pytest.mark.parametrize(
    "junk", [b"junk", b"\x30\x82\x01", b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"]
)
def test_damaged_files_are_recognised(tmp_path: Path, junk: bytes) -> None:
    assert "nie zawiera certyfikatu" in refused(tmp_path, junk, EC_KEY)
    assert "nie zawiera czytelnego klucza" in refused(tmp_path, EC_PEM, junk)
    broken = EC_KEY.replace(b"\n", b"\nAAAA", 2)
    assert "nie zawiera czytelnego klucza" in refused(tmp_path, EC_PEM, broken)


def test_empty_and_huge_files_are_recognised(tmp_path: Path) -> None:
    assert "jest pusty" in refused(tmp_path, b" \n", EC_KEY)
    assert "jest pusty" in refused(tmp_path, EC_PEM, b"")
    assert "za duży" in refused(tmp_path, EC_PEM, b"x" * 1_000_001)


def test_missing_files_folders_and_rights_are_recognised(tmp_path: Path) -> None:
    (tmp_path / "a.crt").write_bytes(EC_PEM)
    for path, said in (
        (tmp_path / "nie ma.key", "Nie ma pliku"),
        (tmp_path, "katalog"),
        (tmp_path / ("x" * 300), "Nie udało się"),
        (tmp_path / "a\0b", "Nie udało się"),
    ):
        with pytest.raises(CredentialFault) as caught:
            load_credential(certificate=tmp_path / "a.crt", private_key=path, pkcs12=None, password=None)
        assert said in caught.value.message


def test_an_unreadable_file_is_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    # Not by the file's mode: root may read everything.
    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(CredentialFault, match="Brak uprawnień"):
        load_credential(certificate=None, private_key=None, pkcs12=tmp_path / "a.p12", password=None)


def test_incomplete_and_contradictory_settings_are_recognised(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(EC_PEM)
    with pytest.raises(CredentialFault, match="brakuje ustawienia certificate"):
        load_credential(certificate=None, private_key=path, pkcs12=None, password=None)
    with pytest.raises(CredentialFault, match="brakuje ustawienia private_key"):
        load_credential(certificate=path, private_key=None, pkcs12=None, password=None)
    with pytest.raises(CredentialFault, match="jednocześnie"):
        load_credential(certificate=path, private_key=None, pkcs12=path, password=None)


def test_the_mistakes_with_pkcs12_are_recognised(tmp_path: Path) -> None:
    certificate, key = MADE["ec"]
    path = tmp_path / "a.p12"

    def refusal(content: bytes, password: str | None = None) -> str:
        path.write_bytes(content)
        with pytest.raises(CredentialFault) as caught:
            load_credential(certificate=None, private_key=None, pkcs12=path, password=password)
        return caught.value.message

    whole = pkcs12.serialize_key_and_certificates(b"x", key, certificate, None, SEALED)
    assert "nie podano hasła" in refusal(whole)
    assert "jest niewłaściwe" in refusal(whole, "złe")
    assert "nie zawiera klucza" in refusal(
        pkcs12.serialize_key_and_certificates(b"x", None, certificate, None, SEALED), PASSWORD
    )
    assert "nie zawiera certyfikatu" in refusal(
        pkcs12.serialize_key_and_certificates(b"x", key, None, None, SEALED), PASSWORD
    )
    assert "nie jest plikiem PKCS#12" in refusal(EC_PEM, PASSWORD)
    assert "nie jest plikiem PKCS#12" in refusal(EC_KEY)
    assert "nie da się odczytać" in refusal(b"junk", PASSWORD)


@pytest.mark.parametrize(
    "key",
    [
        ed25519.Ed25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP224R1()),
        rsa.generate_private_key(public_exponent=65537, key_size=1024),
    ],
    ids=["ed25519", "p224", "rsa1024"],
)
def test_keys_that_ksef_does_not_take_are_recognised(tmp_path: Path, key) -> None:  # type: ignore[no-untyped-def]
    certificate = certificate_with(key, usage=None)
    message = refused(tmp_path, certificate.public_bytes(PEM), key.private_bytes(PEM, PKCS8, PLAIN))
    assert "KSeF nie przyjmuje" in message


@pytest.mark.parametrize(
    ("usage", "kind", "login", "offline"),
    [
        (("digital_signature",), CredentialKind.AUTHENTICATION, True, False),
        (("digital_signature", "content_commitment"), CredentialKind.AUTHENTICATION, True, False),
        (("content_commitment",), CredentialKind.OFFLINE, False, True),
        (("key_encipherment",), CredentialKind.UNFIT, False, False),
        (None, CredentialKind.UNRESTRICTED, True, True),
    ],
)
def test_each_kind_of_certificate_serves_its_purpose_only(
    tmp_path: Path, usage: tuple[str, ...] | None, kind: CredentialKind, login: bool, offline: bool
) -> None:
    key = MADE["ec"][1]
    read = load(tmp_path, certificate_with(key, usage=usage).public_bytes(PEM), EC_KEY)
    assert read.kind is kind
    assert read.serial_hex == "01F20A5D352AE590"
    assert len(read.sha256_hex) == 64
    for check, allowed in ((read.check_login, login), (read.check_offline, offline)):
        if allowed:
            check(NOW)
        else:
            with pytest.raises(CredentialFault):
                check(NOW)


def test_a_certificate_is_good_only_in_its_time(tmp_path: Path) -> None:
    certificate = certificate_with(MADE["ec"][1], usage=("digital_signature",), not_before=NOW, days=10)
    read = load(tmp_path, certificate.public_bytes(PEM), EC_KEY)
    read.check_valid(NOW)
    read.check_valid(NOW + timedelta(days=10))
    with pytest.raises(CredentialFault, match="dopiero od 2026-11-20"):
        read.check_valid(NOW - timedelta(seconds=1))
    with pytest.raises(CredentialFault, match="stracił ważność 2026-11-30"):
        read.check_login(NOW + timedelta(days=10, seconds=1))


@pytest.mark.parametrize("key", ["ec", "rsa"])
@pytest.mark.parametrize(
    ("kind", "present", "absent"),
    [
        ("seal", {"2.5.4.97": f"VATPL-{NIP}"}, ("2.5.4.42", "2.5.4.4")),
        ("person", {"2.5.4.5": f"TINPL-{NIP}", "2.5.4.42": "Jan"}, ("2.5.4.97", "2.5.4.10")),
    ],
)
def test_a_selfmade_certificate_names_the_taxpayer(kind, key, present, absent) -> None:  # type: ignore[no-untyped-def]
    pem, _ = make_selfsigned(NIP, now=NOW, kind=kind, key=key)
    subject = x509.load_pem_x509_certificate(pem).subject
    values = {attribute.oid.dotted_string: attribute.value for attribute in subject}
    assert present.items() <= values.items()
    assert values["2.5.4.6"] == "PL"
    assert not set(absent) & set(values)
