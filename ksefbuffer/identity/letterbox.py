"""Putting a secret in where only the worker can take it out.

The page has no key: what staff upload is sealed here at once, in memory, for the worker's public key (X25519 with a
fresh key for each letter, HKDF-SHA256, AES-256-GCM). Opening is in ``letterbox_opening``. A secret that goes the other
way, for one person's eyes, is sealed under a reply key that came in such a letter.
"""

from __future__ import annotations

import hashlib
import secrets
from base64 import b64decode

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MARK = b"kbl1"
KEY_ID_BYTES = 8
PUBLIC_BYTES = 32
NONCE_BYTES = 12
REPLY_KEY_BYTES = 32


def order_purpose(kind: str) -> str:
    """What the payload of an order of this kind is sealed for."""
    return f"order/{kind}"


def setting_purpose(key: str) -> str:
    """What a secret setting, by its "section.key", is sealed for."""
    return f"override/{key}"


def seal(public: str, purpose: str, content: bytes) -> bytes:
    """The content for whoever has the private half of ``public`` (Base64, as the worker tells it).

    Layout: mark, the key's name, the fresh public key, ciphertext with its tag. ``purpose`` is bound to it: opened for
    another one it does not open. Raises ValueError when ``public`` is no such key.
    """
    raw = b64decode(public, validate=True)
    theirs = X25519PublicKey.from_public_bytes(raw)
    fresh = X25519PrivateKey.generate()
    ours = fresh.public_key().public_bytes_raw()
    head = MARK + key_id(raw) + ours
    # Each key seals one letter, so the nonce may stand still.
    return head + AESGCM(agreed_key(fresh.exchange(theirs), ours, raw)).encrypt(
        bytes(NONCE_BYTES), content, bound(head, purpose)
    )


def new_reply_key() -> bytes:
    """A key for one answer."""
    return secrets.token_bytes(REPLY_KEY_BYTES)


def seal_reply(reply_key: bytes, content: bytes) -> bytes:
    """The answer, for who has the reply key."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(reply_key).encrypt(nonce, content, b"reply")


def open_reply(reply_key: bytes, sealed: bytes) -> bytes | None:
    """The answer; None when it was sealed under another key, or damaged."""
    try:
        return AESGCM(reply_key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], b"reply")
    except (InvalidTag, ValueError):
        return None


def key_id(public: bytes) -> bytes:
    """A public key's name, in what is sealed for it."""
    return hashlib.sha256(b"ksefbuffer letterbox\0" + public).digest()[:KEY_ID_BYTES]


def agreed_key(shared: bytes, fresh_public: bytes, public: bytes) -> bytes:
    """The AES key of one letter. RFC 7748 §6.1: both public keys belong into its derivation."""
    info = b"ksefbuffer letterbox\0" + fresh_public + public
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(shared)


def bound(head: bytes, purpose: str) -> bytes:
    """What is authenticated besides the content."""
    return head + b"\0" + purpose.encode("utf-8")
