"""The sandbox's own keys: two for what clients encrypt, one for signing confirmations. Source: FACTS §3.2, §4.5."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from .store import Store, restored, stored
from .wire import BadRequest, timestamp

SYMMETRIC = "SymmetricKeyEncryption"
TOKEN = "KsefTokenEncryption"  # noqa: S105 - the name of a key's use
SIGNING = "sandbox-signing"
AUTHORITY = "Ministerstwo Finansów"

_OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)


@dataclass(frozen=True)
class KeyPair:
    """A private key with its self-made certificate (DER)."""

    public_key_id: str
    private: rsa.RSAPrivateKey
    certificate: bytes


@lru_cache(maxsize=16)
def _fresh_key(slot: int) -> bytes:
    # Making an RSA key takes a tenth of a second; many sandboxes in one test run may share theirs.
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@lru_cache(maxsize=32)
def _loaded(pem: bytes) -> rsa.RSAPrivateKey:
    key = load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError("the state file holds a key that is not RSA")
    return key


class Keys:
    """Keys in the database. Guarded by the sandbox's lock."""

    def __init__(self, store: Store, now: datetime) -> None:
        self._store = store
        for usage in (SYMMETRIC, TOKEN, SIGNING):
            if self._store.one("SELECT 1 FROM keys WHERE usage = ?", usage) is None:
                self._make(usage, now - timedelta(days=1))

    def _make(self, usage: str, valid_from: datetime) -> None:
        row = self._store.one("SELECT coalesce(max(position), 0) + 1 AS next FROM keys")
        position = int(row["next"]) if row else 1
        pem = _fresh_key(position)
        private = _loaded(pem)
        valid_to = valid_from + timedelta(days=730)
        certificate = _self_made(private, usage, valid_from, valid_to)
        spki = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self._store.run(
            "INSERT INTO keys (position, public_key_id, usage, private_pem, certificate, valid_from, valid_to)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            position,
            b64encode(hashlib.sha256(spki).digest()).decode(),
            usage,
            pem,
            certificate,
            stored(valid_from),
            stored(valid_to),
        )

    def rotate(self, now: datetime, *, keep_old: bool) -> None:
        """New keys for clients; the old ones are withdrawn, or stay valid beside the new for an overlap."""
        if not keep_old:
            self._store.run("UPDATE keys SET withdrawn = 1 WHERE usage <> ?", SIGNING)
        for usage in (SYMMETRIC, TOKEN):
            self._make(usage, now)

    def published(self) -> list[dict[str, object]]:
        """The body of GET /security/public-key-certificates."""
        rows = self._store.all("SELECT * FROM keys WHERE usage <> ? AND NOT withdrawn ORDER BY position", SIGNING)
        return [
            {
                "certificate": b64encode(row["certificate"]).decode(),
                "certificateId": b64encode(hashlib.sha256(row["certificate"]).digest()).decode(),
                "publicKeyId": row["public_key_id"],
                "validFrom": timestamp(restored(row["valid_from"])),
                "validTo": timestamp(restored(row["valid_to"])),
                "usage": [row["usage"]],
            }
            for row in rows
        ]

    def unwrapping(self, usage: str, public_key_id: str | None) -> KeyPair:
        """The key a client says it used; without an id the oldest still valid one, as KSeF does while rotating
        [#802]. Raises 21470 for an id that is unknown, withdrawn or meant for another use."""
        if public_key_id is None:
            row = self._store.one("SELECT * FROM keys WHERE usage = ? AND NOT withdrawn ORDER BY position", usage)
        else:
            row = self._store.one(
                "SELECT * FROM keys WHERE usage = ? AND NOT withdrawn AND public_key_id = ?", usage, public_key_id
            )
        if row is None:
            raise BadRequest(
                21470,
                "Przesłany identyfikator klucza jest nieznany lub wskazuje na wycofany klucz.",
                [f"Klucz o identyfikatorze {public_key_id} nie jest wspierany."],
            )
        return KeyPair(row["public_key_id"], _loaded(row["private_pem"]), row["certificate"])

    def signing(self) -> KeyPair:
        """The key that signs confirmations (UPO)."""
        row = self._store.one("SELECT * FROM keys WHERE usage = ?", SIGNING)
        if row is None:
            raise LookupError("the state file holds no signing key")
        return KeyPair(row["public_key_id"], _loaded(row["private_pem"]), row["certificate"])


def unwrap(pair: KeyPair, wrapped: bytes) -> bytes | None:
    """RSA-OAEP (SHA-256, MGF1-SHA-256, empty label); None when it does not open."""
    try:
        return pair.private.decrypt(wrapped, _OAEP)
    except ValueError:
        return None


def _self_made(key: rsa.RSAPrivateKey, usage: str, valid_from: datetime, valid_to: datetime) -> bytes:
    signing = usage == SIGNING
    names = [x509.NameAttribute(NameOID.COUNTRY_NAME, "PL"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, AUTHORITY)]
    if signing:
        names.append(x509.NameAttribute(NameOID.ORGANIZATION_IDENTIFIER, "VATPL-5260250274"))
    names.append(x509.NameAttribute(NameOID.COMMON_NAME, AUTHORITY if signing else f"KSeF sandbox {usage}"))
    subject = x509.Name(names)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid_from)
        .not_valid_after(valid_to)
        .add_extension(
            x509.KeyUsage(
                digital_signature=signing,
                content_commitment=signing,
                key_encipherment=not signing,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=False,
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )
