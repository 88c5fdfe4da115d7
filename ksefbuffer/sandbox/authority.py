"""The sandbox's own certification authority, in the place of KSeF's: one key, made when first needed.

Source: FACTS §1.1 (the issuer's name), §9 (key usage, serial numbers, validity).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from .keys import AUTHORITY
from .store import Store

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
NAME = "TEST CCK KSeF"
"""The issuer's CN; KSeF's DEMO calls itself TEST too, so a name does not tell environments apart [#330, #437]."""
UNIT = "ksefbuffer sandbox"

_LIFE = timedelta(days=3650)


def certificate(store: Store, now: datetime) -> x509.Certificate:
    """The authority's own certificate."""
    pem = store.setting("authority-certificate", "")
    return _read_certificate(pem or _establish(store, now))


def issue(
    store: Store, subject: x509.Name, key: PublicKey, *, offline: bool, serial: str, since: datetime, until: datetime,
    now: datetime,
) -> bytes:  # fmt: skip
    """A certificate (DER). ``serial``: 16 hex digits; ``offline``: for signing links (nonRepudiation alone) instead of
    logins (digitalSignature alone)."""
    own = certificate(store, now)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(own.subject)
        .public_key(key)
        .serial_number(int(serial, 16))
        .not_valid_before(_whole(since))
        .not_valid_after(_whole(until))
        .add_extension(_usage(digital_signature=not offline, content_commitment=offline), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(_key_identifier(own), critical=False)
        .sign(_key(store), hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


def names_itself(issued: x509.Certificate) -> bool:
    """Whether a certificate claims to come from a KSeF authority, this one or another."""
    return any(attribute.value == NAME for attribute in issued.issuer.get_attributes_for_oid(NameOID.COMMON_NAME))


def _establish(store: Store, now: datetime) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "PL"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, AUTHORITY),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, UNIT),
            x509.NameAttribute(NameOID.COMMON_NAME, NAME),
        ]
    )
    own = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_whole(now - timedelta(days=1)))
        .not_valid_after(_whole(now + _LIFE))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    store.keep("authority-key", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())
    pem = own.public_bytes(Encoding.PEM).decode()
    store.keep("authority-certificate", pem)
    return pem


def _key(store: Store) -> ec.EllipticCurvePrivateKey:
    return _read_key(store.setting("authority-key", ""))


@lru_cache(maxsize=8)
def _read_key(pem: str) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(pem.encode(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("the state file holds an authority key that is not EC")
    return key


@lru_cache(maxsize=8)
def _read_certificate(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def _key_identifier(own: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    mine = own.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(mine)


def _usage(
    *, digital_signature: bool = False, content_commitment: bool = False, key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:  # fmt: skip
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=content_commitment,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _whole(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(microsecond=0)
