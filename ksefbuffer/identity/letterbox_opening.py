"""Taking out what the page put into the letterbox: for the worker alone, whose vault seals the private half."""

from __future__ import annotations

from base64 import b64decode, b64encode
from datetime import datetime
from typing import Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ksefbuffer.errors import CredentialFault
from ksefbuffer.identity.letterbox import KEY_ID_BYTES, MARK, NONCE_BYTES, PUBLIC_BYTES, agreed_key, bound, key_id
from ksefbuffer.identity.neighbours import Database
from ksefbuffer.identity.vault import Vault

PUBLIC_FACT = "letterbox"
PRIVATE_FACT = "letterbox_key"
_PURPOSE = "letterbox"
_SEND_AGAIN = "Prześlij pliki jeszcze raz."


class Facts(Protocol):
    """The database's small facts: ``queue.facts``, whose words these are."""

    def put(self, tx: Any, name: str, value: Any, *, at: datetime) -> None: ...
    def get(self, tx: Any, name: str) -> tuple[Any, datetime] | None: ...


class Letterbox:
    """A key pair for what only the worker may read."""

    def __init__(self, secret: bytes) -> None:
        self._key = X25519PrivateKey.from_private_bytes(secret)
        self._public = self._key.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"Letterbox({self.public})"

    def __reduce__(self) -> str:
        raise TypeError("a letterbox is not to be written anywhere")

    @classmethod
    def new(cls) -> Letterbox:
        return cls(X25519PrivateKey.generate().private_bytes_raw())

    @property
    def public(self) -> str:
        """The half that everybody may know, Base64."""
        return b64encode(self._public).decode("ascii")

    def secret(self) -> bytes:
        """The private half, 32 bytes, to be sealed at once."""
        return self._key.private_bytes_raw()

    def open(self, purpose: str, sealed: bytes) -> bytes:
        """Raises CredentialFault when it was sealed for another letterbox, another purpose, or is damaged."""
        size = len(MARK) + KEY_ID_BYTES + PUBLIC_BYTES
        head, rest = sealed[:size], sealed[size:]
        fresh = head[-PUBLIC_BYTES:]
        if len(head) != size or head[:-PUBLIC_BYTES] != MARK + key_id(self._public):
            raise CredentialFault("Przesłane dane są zaszyfrowane dla innego klucza bufora.", action=_SEND_AGAIN)
        try:
            shared = self._key.exchange(X25519PublicKey.from_public_bytes(fresh))
            key = agreed_key(shared, fresh, self._public)
            return AESGCM(key).decrypt(bytes(NONCE_BYTES), rest, bound(head, purpose))
        except (InvalidTag, ValueError):
            raise CredentialFault("Przesłane dane są uszkodzone.", action=_SEND_AGAIN) from None


def open_letterbox(database: Database, facts: Facts, vault: Vault, *, now: datetime) -> Letterbox:
    """The letterbox of this database, its public half told in a fact.

    One that does not open under the current machine key is replaced: what was sealed for it has to be sent again.
    Raises StorageFault.
    """
    with database.reading() as tx:
        told, kept = facts.get(tx, PUBLIC_FACT), facts.get(tx, PRIVATE_FACT)
    found = _opened(vault, kept[0]) if kept is not None else None
    if found is not None and told is not None and told[0].get("public") == found.public:
        return found
    made = found or Letterbox.new()
    sealed = b64encode(vault.seal(_PURPOSE, made.secret())).decode("ascii")
    with database.transaction() as tx:
        facts.put(tx, PRIVATE_FACT, {"sealed": sealed}, at=now)
        facts.put(tx, PUBLIC_FACT, {"public": made.public}, at=now)
    return made


def _opened(vault: Vault, kept: Any) -> Letterbox | None:
    sealed = b64decode(kept["sealed"])
    if not vault.is_current(sealed):
        return None
    try:
        return Letterbox(vault.open(_PURPOSE, sealed))
    except (CredentialFault, ValueError):
        return None
