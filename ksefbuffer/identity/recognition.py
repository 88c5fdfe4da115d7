"""What a certificate is, in words that people know. Pure.

Source: FACTS §2.4 (subjects), §9 (KSeF's own certificates), §1.1 (issuers by environment); ETSI EN 319 412-5
(QcStatements of qualified certificates).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

_QC_STATEMENTS = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.3")
# DER of id-etsi-qct-eseal (0.4.0.1862.1.6.2) and of id-etsi-qcs-QcCompliance (0.4.0.1862.1.1).
_FOR_SEALS = bytes.fromhex("0607 0400 8e46 0106 02")
_QUALIFIED = bytes.fromhex("0606 0400 8e46 0101")
_KSEF_ISSUER = "cck ksef"

_PESEL = re.compile(r"(?:PNOPL|PESEL).*?(\d{11})", re.ASCII)
_PERSONS_NIP = re.compile(r"(?:TINPL|NIP).*?(\d{10})", re.ASCII)
_COMPANYS_NIP = re.compile(r"VATPL.*?(\d{10})", re.ASCII)


class Kind(StrEnum):
    """What a certificate is; its value is what people are told."""

    KSEF_AUTHENTICATION = "certyfikat KSeF typu Uwierzytelnianie"
    KSEF_OFFLINE = "certyfikat KSeF typu Offline"
    QUALIFIED_SIGNATURE = "kwalifikowany certyfikat podpisu osoby"
    QUALIFIED_SEAL = "kwalifikowany certyfikat pieczęci firmy"
    SELF_SIGNED = "certyfikat samopodpisany (tylko do testów)"
    OTHER = "certyfikat innego wystawcy"


@dataclass(frozen=True)
class Recognised:
    """``identifier_kind``: Nip, Pesel, or Fingerprint when the subject names neither; ``identifier`` is "" then.
    ``subject`` and ``issuer`` are for people: names and NIP; a PESEL shows its last three digits only.
    ``for_test``: KSeF's issuer of its TEST and DEMO environments; False: that of production; None: not KSeF's.
    ``mixed``: the subject has marks of a person and of a company at once, which KSeF refuses."""

    kind: Kind
    identifier_kind: str
    identifier: str
    subject: str
    issuer: str
    for_test: bool | None
    mixed: bool


def recognise(certificate: x509.Certificate) -> Recognised:
    """What the certificate says about itself; trusts nothing and never raises for what is missing in it."""
    subject = certificate.subject
    serial, organisation = _value(subject, NameOID.SERIAL_NUMBER), _value(subject, NameOID.ORGANIZATION_IDENTIFIER)
    person = bool(_value(subject, NameOID.GIVEN_NAME) or _value(subject, NameOID.SURNAME))
    issuer = _value(certificate.issuer, NameOID.COMMON_NAME) or _value(certificate.issuer, NameOID.ORGANIZATION_NAME)
    by_ksef = _KSEF_ISSUER in issuer.casefold()
    kind, value = _identifier(serial, organisation)
    return Recognised(
        kind=_kind(certificate, by_ksef=by_ksef, person=person),
        identifier_kind=kind,
        identifier=value,
        subject=_in_words(subject, kind, value),
        issuer=issuer or certificate.issuer.rfc4514_string(),
        for_test=("test" in issuer.casefold() or "demo" in issuer.casefold()) if by_ksef else None,
        mixed=person and _COMPANYS_NIP.search(organisation) is not None,
    )


@dataclass(frozen=True)
class CertificateFacts:
    """What is kept of a certificate: PEM; ``serial`` and ``fingerprint`` (SHA-256) in upper-case hex."""

    certificate: str
    serial: str
    subject: str
    issuer: str
    fingerprint: str
    valid_from: datetime
    valid_to: datetime


def facts_of(certificate: x509.Certificate) -> CertificateFacts:
    """The certificate as it is kept, its subject and issuer in words."""
    recognised = recognise(certificate)
    return CertificateFacts(
        certificate=certificate.public_bytes(Encoding.PEM).decode("ascii"),
        serial=f"{certificate.serial_number:016X}",
        subject=recognised.subject,
        issuer=recognised.issuer,
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex().upper(),
        valid_from=certificate.not_valid_before_utc,
        valid_to=certificate.not_valid_after_utc,
    )


def is_qualified(certificate: x509.Certificate) -> bool:
    """Whether it says that it is a qualified one (EU)."""
    return _QUALIFIED in _statements(certificate)


def is_self_signed(certificate: x509.Certificate) -> bool:
    """Whether its own key signed it."""
    if certificate.issuer != certificate.subject:
        return False
    try:
        certificate.verify_directly_issued_by(certificate)
    except (InvalidSignature, UnsupportedAlgorithm, TypeError, ValueError):
        return False
    return True


def _kind(certificate: x509.Certificate, *, by_ksef: bool, person: bool) -> Kind:
    if is_self_signed(certificate):
        return Kind.SELF_SIGNED
    signs, repudiates_not = key_usage(certificate)
    name = _value(certificate.subject, NameOID.COMMON_NAME)
    if by_ksef or name.endswith(("(uwierzytelnienie)", "(offline)")):
        return Kind.KSEF_OFFLINE if repudiates_not and not signs else Kind.KSEF_AUTHENTICATION
    if is_qualified(certificate):
        seal = _FOR_SEALS in _statements(certificate) or not person
        return Kind.QUALIFIED_SEAL if seal else Kind.QUALIFIED_SIGNATURE
    return Kind.OTHER


def key_usage(certificate: x509.Certificate) -> tuple[bool, bool]:
    """(digitalSignature, nonRepudiation); both True when the certificate does not restrict its key."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return True, True
    return usage.digital_signature, usage.content_commitment


def _statements(certificate: x509.Certificate) -> bytes:
    try:
        value = certificate.extensions.get_extension_for_oid(_QC_STATEMENTS).value
    except (x509.ExtensionNotFound, ValueError):
        return b""
    return value.public_bytes()


def _identifier(serial: str, organisation: str) -> tuple[str, str]:
    for kind, pattern, text in (
        ("Nip", _COMPANYS_NIP, organisation),
        ("Nip", _PERSONS_NIP, serial),
        ("Pesel", _PESEL, serial),
    ):
        found = pattern.search(text)
        if found:
            return kind, found[1]
    return "Fingerprint", ""


def _in_words(subject: x509.Name, kind: str, value: str) -> str:
    person = f"{_value(subject, NameOID.GIVEN_NAME)} {_value(subject, NameOID.SURNAME)}".strip()
    company = _value(subject, NameOID.ORGANIZATION_NAME)
    name = ", ".join(filter(None, (person, company))) or _value(subject, NameOID.COMMON_NAME) or "bez nazwy"
    known = {"Nip": f"NIP {value}", "Pesel": f"PESEL ********{value[-3:]}"}.get(kind, "bez NIP i PESEL")
    return f"{name} ({known})"


def _value(name: x509.Name, oid: x509.ObjectIdentifier) -> str:
    return " ".join(str(attribute.value) for attribute in name.get_attributes_for_oid(oid))
