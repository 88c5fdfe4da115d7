"""The certificates of logins: which are taken, and whom they name. Source: FACTS §2.3, §2.4 (subjects), §9.

Self-signed ones are taken only because this is a sandbox (as on TEST); their subjects must all the same be what a
qualified signature's or seal's would be.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from .wire import BadRequest

SIGNATURE, SEAL, INTERNAL = "QualifiedSignature", "QualifiedSeal", "InternalCertificate"

_PERSON = {NameOID.GIVEN_NAME: "givenName", NameOID.SURNAME: "surname"}
_EVERYBODY = {NameOID.COMMON_NAME: "commonName", NameOID.COUNTRY_NAME: "countryName"}
_SEAL = {NameOID.ORGANIZATION_NAME: "organizationName"}


@dataclass(frozen=True)
class Identity:
    """Whom the certificate names: ``Nip``, ``Pesel`` or ``Fingerprint`` (SHA-256 of the certificate, hex upper).
    ``method``: as KSeF tells it."""

    kind: str
    value: str
    method: str


def check_usable(certificate: x509.Certificate, now: datetime) -> None:
    """Raises 21115 for a certificate out of its time, or not meant for signing in."""
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise bad_certificate("Certyfikat jest poza okresem ważności.")
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not usage.digital_signature:
        raise bad_certificate("Certyfikat nie służy do uwierzytelniania (keyUsage bez digitalSignature).")


def bad_certificate(detail: str) -> BadRequest:
    return BadRequest(21115, "Nieprawidłowy certyfikat.", [detail])


def values(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> list[str]:
    """What the subject holds under this identifier, as far as it is text."""
    found = certificate.subject.get_attributes_for_oid(oid)
    return [attribute.value for attribute in found if isinstance(attribute.value, str)]


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate, hex upper."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest().upper()


def identity_of(certificate: x509.Certificate, subject: str) -> Identity:
    """``subject``: certificateSubject or certificateFingerprint. Raises 21115."""
    person = any(values(certificate, oid) for oid in _PERSON)
    organisation = values(certificate, NameOID.ORGANIZATION_IDENTIFIER)
    method = SIGNATURE if person or not organisation else SEAL
    if subject == "certificateFingerprint":
        return Identity("Fingerprint", fingerprint(certificate), method)
    if organisation and person:
        raise bad_certificate("Podmiot certyfikatu łączy dane osoby i organizacji.")
    found = _named(certificate, organisation)
    if found is None:
        raise bad_certificate("Podmiot certyfikatu nie zawiera identyfikatora NIP ani PESEL.")
    demanded = _EVERYBODY | (_SEAL if organisation else _PERSON)
    if missing := [name for oid, name in demanded.items() if not values(certificate, oid)]:
        raise bad_certificate(f"W podmiocie certyfikatu brak wymaganych atrybutów: {', '.join(missing)}.")
    return Identity(*found, method)


def _named(certificate: x509.Certificate, organisation: list[str]) -> tuple[str, str] | None:
    if organisation:
        match = re.search(r"VATPL.*?(\d{10})", organisation[0], re.ASCII)
        return ("Nip", match[1]) if match else None
    for serial in values(certificate, NameOID.SERIAL_NUMBER):
        if match := re.search(r"(?:PNOPL|PESEL).*?(\d{11})", serial, re.ASCII):
            return "Pesel", match[1]
        if match := re.search(r"(?:TINPL|NIP).*?(\d{10})", serial, re.ASCII):
            return "Nip", match[1]
    return None
