"""A new key and the request (PKCS#10) for a certificate to it. Source: FACTS §9."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from ksefbuffer.errors import CredentialFault
from ksefbuffer.identity.material import PrivateKey

KeyKind = Literal["ec", "rsa"]

_RSA_BITS = 2048
# KSeF's names of the fields, in the order in which they stand in the subject.
_FIELDS = {
    "commonName": NameOID.COMMON_NAME,
    "countryName": NameOID.COUNTRY_NAME,
    "givenName": NameOID.GIVEN_NAME,
    "surname": NameOID.SURNAME,
    "serialNumber": NameOID.SERIAL_NUMBER,
    "uniqueIdentifier": NameOID.X500_UNIQUE_IDENTIFIER,
    "organizationName": NameOID.ORGANIZATION_NAME,
    "organizationIdentifier": NameOID.ORGANIZATION_IDENTIFIER,
}


def new_key(kind: KeyKind = "ec") -> PrivateKey:
    """EC P-256, or RSA of 2048 bits."""
    if kind == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
    return ec.generate_private_key(ec.SECP256R1())


def kind_of_key(certificate: x509.Certificate) -> KeyKind:
    return "rsa" if isinstance(certificate.public_key(), rsa.RSAPublicKey) else "ec"


def request_for(subject: Mapping[str, tuple[str, ...]], key: PrivateKey) -> bytes:
    """The request in DER. ``subject`` is what KSeF gave, copied to the letter: it refuses any difference (25003).

    Texts are UTF8String, country and serial number PrintableString, as in the example of open-api. Raises
    CredentialFault when KSeF names a field that is unknown here: leaving it out would be a difference.
    """
    unknown = sorted(subject.keys() - _FIELDS.keys())
    if unknown:
        raise CredentialFault(
            f"KSeF podaje we wniosku o certyfikat nieznane pola: {', '.join(unknown)}.",
            action="Zaktualizuj program; do tego czasu złóż wniosek w aplikacji KSeF i zaimportuj certyfikat.",
        )
    attributes = [_attribute(oid, value) for field, oid in _FIELDS.items() for value in subject.get(field, ()) if value]
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes)).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


def _attribute(oid: x509.ObjectIdentifier, value: str) -> x509.NameAttribute[str]:
    try:
        return x509.NameAttribute(oid, value)
    except ValueError:
        # A name longer than X.520's 64 bytes, as Polish ones are, must come back to KSeF as it was given.
        with warnings.catch_warnings(action="ignore"):
            return x509.NameAttribute(oid, value, _validate=False)
