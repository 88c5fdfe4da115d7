"""A package as handed in: the declared parts checked, decrypted one by one, and put together again.

Source: FACTS §3.2, §4.2 (405, 435), §5 (1-3).
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from .archives import Unusable

_CHUNK = 1_000_000


@dataclass(frozen=True)
class PartHandedIn:
    """An encrypted part and what was declared of it (bytes, SHA-256 in Base64)."""

    ordinal: int
    file: Path
    size: int
    sha256: str


def put_together(
    parts: Sequence[PartHandedIn], *, key: bytes, iv: bytes, size: int, sha256: str, into: Path
) -> None:  # fmt: skip
    """Writes the plain archive; ``size`` and ``sha256`` are declared of it. Raises Unusable: 405 when something is not
    as declared, 435 when a part does not open."""
    whole = hashlib.sha256()
    length = 0
    with into.open("wb") as out:
        for part in parts:
            seen = hashlib.sha256()
            decryptor = Cipher(algorithms.AES256(key), modes.CBC(iv)).decryptor()
            unpadder = padding.PKCS7(128).unpadder()
            with part.file.open("rb") as source:
                while chunk := source.read(_CHUNK):
                    seen.update(chunk)
                    plain = unpadder.update(decryptor.update(chunk))
                    whole.update(plain)
                    length += out.write(plain)
            if part.file.stat().st_size != part.size or _encoded(seen) != part.sha256:
                raise Unusable(405, f"Rozmiar lub skrót części {part.ordinal} nie zgadza się z zadeklarowanym.")
            try:
                last = unpadder.update(decryptor.finalize()) + unpadder.finalize()
            except ValueError:
                raise Unusable(435, f"Nie można odszyfrować części {part.ordinal}.") from None
            whole.update(last)
            length += out.write(last)
    if (length, _encoded(whole)) != (size, sha256):
        raise Unusable(405, "Rozmiar lub skrót paczki nie zgadza się z zadeklarowanym.")


def begins_with_iv(part: PartHandedIn, iv: bytes) -> bool:
    """Whether the IV was sent before the ciphertext, as older documents wrongly told (FACTS §3.1)."""
    with part.file.open("rb") as source:
        return source.read(len(iv)) == iv


def _encoded(digest: hashlib._Hash) -> str:
    return b64encode(digest.digest()).decode()
