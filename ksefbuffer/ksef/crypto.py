"""Encryption for KSeF: session keys, invoices, wrapped secrets, and the choice of KSeF's public keys. No I/O.

Source: FACTS §3. AES-256-CBC with PKCS#7; the IV travels only as a field and is never put before the ciphertext (the
2.6 documentation was wrong, issue #839); RSA-OAEP with SHA-256 for both the hash and MGF1.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, padding, serialization
from cryptography.hazmat.primitives.asymmetric import padding as rsa_padding
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from ksefbuffer.ksef.shapes import SessionKey, Unreadable

BLOCK = 16
KEYS_LIVE = timedelta(hours=24)
FOR_TOKENS = "KsefTokenEncryption"
FOR_SESSIONS = "SymmetricKeyEncryption"


def b64(raw: bytes) -> str:
    """Standard padded Base64; hex, url-safe or unpadded values are refused by KSeF (21405)."""
    return base64.b64encode(raw).decode("ascii")


def unb64(text: str) -> bytes:
    """The bytes of standard Base64. Raises ValueError."""
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as fault:
        raise ValueError("not Base64") from fault


def sha256_b64(content: bytes) -> str:
    """SHA-256 as KSeF writes it: Base64 of the raw digest, 44 characters."""
    return b64(hashlib.sha256(content).digest())


def hex_of_b64_hash(text: str) -> str:
    """A Base64 SHA-256 as lower-case hex. Raises ValueError when it is not a SHA-256."""
    raw = unb64(text.strip())
    if len(raw) != hashlib.sha256().digest_size:
        raise ValueError("not a SHA-256")
    return raw.hex()


def new_session_key() -> SessionKey:
    """A fresh random key and IV for one session."""
    return SessionKey(key=secrets.token_bytes(32), iv=secrets.token_bytes(BLOCK))


class Sealing:
    """One unit (an invoice, a part of a package) on its way through encryption, piece by piece.

    ``plain_size`` and ``size`` are the bytes taken and given so far.
    """

    def __init__(self, session_key: SessionKey) -> None:
        self.plain_size = 0
        self.size = 0
        self._padder = padding.PKCS7(BLOCK * 8).padder()
        self._encryptor = Cipher(algorithms.AES256(session_key.key), modes.CBC(session_key.iv)).encryptor()

    def update(self, plain: bytes | memoryview) -> bytes:
        """The ciphertext that is ready."""
        self.plain_size += len(plain)
        return self._counted(self._encryptor.update(self._padder.update(plain)))

    def finish(self) -> bytes:
        """The last of it. Then ``size`` is ``(plain_size // 16 + 1) * 16``, which shows that no IV slipped in."""
        last = self._counted(self._encryptor.update(self._padder.finalize()) + self._encryptor.finalize())
        if self.size != (self.plain_size // BLOCK + 1) * BLOCK:
            raise AssertionError("ciphertext of an impossible size")
        return last

    def _counted(self, sealed: bytes) -> bytes:
        self.size += len(sealed)
        return sealed


def encrypt(session_key: SessionKey, plain: bytes) -> bytes:
    """The ciphertext alone: always ``(len(plain) // 16 + 1) * 16`` bytes."""
    sealing = Sealing(session_key)
    return sealing.update(plain) + sealing.finish()


class Unsealing:
    """The way back: one unit's ciphertext to its plain bytes, piece by piece. Source: FACTS §3.2."""

    def __init__(self, session_key: SessionKey) -> None:
        self._unpadder = padding.PKCS7(BLOCK * 8).unpadder()
        self._decryptor = Cipher(algorithms.AES256(session_key.key), modes.CBC(session_key.iv)).decryptor()

    def update(self, sealed: bytes) -> bytes:
        """The plain bytes that are ready."""
        return self._unpadder.update(self._decryptor.update(sealed))

    def finish(self) -> bytes:
        """The last of them. Raises ValueError for a wrong key, or bytes that are no whole ciphertext."""
        return self._unpadder.update(self._decryptor.finalize()) + self._unpadder.finalize()


@dataclass(frozen=True)
class PublicKey:
    """One of KSeF's keys. ``identifier`` is the publicKeyId that must go with everything encrypted by it."""

    identifier: str
    key: rsa.RSAPublicKey = field(repr=False)
    valid_from: datetime
    valid_to: datetime
    usage: frozenset[str]


def wrap(public_key: PublicKey, secret: bytes) -> str:
    """``secret`` (a session key, or "token|timestamp") encrypted for KSeF, in Base64."""
    oaep = rsa_padding.OAEP(mgf=rsa_padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
    return b64(public_key.key.encrypt(secret, oaep))


def read_public_keys(listing: object) -> tuple[PublicKey, ...]:
    """KSeF's list of public key certificates. An entry of a kind that we do not know is left out, as KSeF may add
    kinds; Unreadable when nothing usable remains."""
    if not isinstance(listing, Sequence) or isinstance(listing, str | bytes):
        raise Unreadable("not a list of public keys")
    keys = tuple(key for key in map(_public_key, listing) if key is not None)
    if not keys:
        raise Unreadable("no usable public key")
    return keys


def _public_key(entry: Any) -> PublicKey | None:
    if not isinstance(entry, Mapping):
        return None
    try:
        certificate = x509.load_der_x509_certificate(unb64(str(entry["certificate"])))
        key = certificate.public_key()
    except (KeyError, ValueError):
        return None
    if not isinstance(key, rsa.RSAPublicKey):
        return None
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    usage = entry.get("usage")
    return PublicKey(
        identifier=str(entry.get("publicKeyId") or sha256_b64(spki)),
        key=key,
        valid_from=_moment(entry.get("validFrom")) or certificate.not_valid_before_utc,
        valid_to=_moment(entry.get("validTo")) or certificate.not_valid_after_utc,
        usage=frozenset(map(str, usage)) if isinstance(usage, list) else frozenset(),
    )


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def choose(keys: Iterable[PublicKey], usage: str, now: datetime) -> PublicKey | None:
    """The key of this usage that is valid now and came last, or None."""
    fit = [key for key in keys if usage in key.usage and key.valid_from <= now <= key.valid_to]
    return max(fit, key=lambda key: key.valid_from, default=None)


class PublicKeys:
    """KSeF's public keys, fetched when needed and kept for 24 hours at most. Safe to share between threads."""

    def __init__(self, fetch: Callable[[], tuple[PublicKey, ...]], clock: Callable[[], datetime]) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: tuple[PublicKey, ...] = ()
        self._fetched_at: datetime | None = None

    def forget(self) -> None:
        """KSeF does not know our key (21470, or a session in status 415): fetch anew the next time."""
        with self._lock:
            self._fetched_at = None

    def of(self, usage: str) -> PublicKey | None:
        """The key to use now, or None when KSeF publishes none. Raises what the fetch raises."""
        with self._lock:
            now = self._clock()
            chosen = None
            if self._fetched_at is not None and abs(now - self._fetched_at) < KEYS_LIVE:
                chosen = choose(self._keys, usage, now)
            if chosen is None:
                self._keys = self._fetch()
                self._fetched_at = now
                chosen = choose(self._keys, usage, now)
            return chosen
