"""The sandbox's bearer tokens: signed, self-contained, with the lifetimes of KSeF's. Source: FACTS §2.1."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from .store import Store
from .wire import timestamp, unauthorised

AUTHENTICATION, ACCESS, REFRESH = "AuthenticationToken", "AccessToken", "RefreshToken"
ALL = (
    "InvoiceRead",
    "InvoiceWrite",
    "CredentialsRead",
    "CredentialsManage",
    "SubunitManage",
    "EnforcementOperations",
    "Introspection",
    "CollectiveIdentifierManage",
)
"""Every permission: what an owner has, and what a KSeF token may be given (open-api.json TokenPermissionType)."""
LIFETIMES = {AUTHENTICATION: timedelta(minutes=45), ACCESS: timedelta(minutes=15), REFRESH: timedelta(days=7)}


@dataclass(frozen=True)
class Bearer:
    """Who calls: the login (reference), the context it was made for, and what the caller may do there: as it was when
    the token was issued, whatever was granted or taken back since [#424, #500]."""

    kind: str
    login: str
    context_type: str
    context_value: str
    permissions: tuple[str, ...] = ()

    @property
    def nip(self) -> str:
        """The NIP behind the context, "" for one that has none."""
        return self.context_value[:10] if self.context_type in {"Nip", "InternalId", "NipVatUe"} else ""


class Tokens:
    """Issues and reads bearer tokens. Guarded by the sandbox's lock."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._secret = store.secret("bearer")

    def issue(
        self, kind: str, login: str, context: tuple[str, str], now: datetime, permissions: tuple[str, ...] = ()
    ) -> dict[str, str]:  # fmt: skip
        """``{token, validUntil}``. Two issued in one second are the same string [#385]."""
        issued = now.astimezone(UTC).replace(microsecond=0)
        expires = issued + LIFETIMES[kind]
        payload = {
            "typ": kind,
            "sub": login,
            "ctx": list(context),
            "per": list(permissions),
            "iat": int(issued.timestamp()),
            "exp": int(expires.timestamp()),
            "gen": self._store.setting(f"generation-{kind}", "1"),
        }
        head = _encoded({"alg": "HS256", "typ": "JWT"}) + "." + _encoded(payload)
        return {"token": f"{head}.{self._sign(head)}", "validUntil": timestamp(expires)}

    def expire(self, kind: str) -> None:
        """Every token of this kind issued so far counts as expired from now on."""
        self._store.keep(f"generation-{kind}", str(int(self._store.setting(f"generation-{kind}", "1")) + 1))

    def read(self, header: str, kinds: tuple[str, ...], now: datetime) -> Bearer:
        """The caller behind an Authorization header. Raises 401 unless it is a living token of one of these kinds."""
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise unauthorised("Brak tokena w nagłówku Authorization.")
        head, _, signature = token.strip().rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(head).encode()):
            raise unauthorised("Nieprawidłowy token.")
        payload: dict[str, Any] = json.loads(_decoded(head.partition(".")[2]))
        kind: str = payload["typ"]
        if kind not in kinds:
            raise unauthorised(f"Nieprawidłowy rodzaj tokena: {kind}, oczekiwano {' lub '.join(kinds)}.")
        generation = self._store.setting(f"generation-{kind}", "1")
        if now.timestamp() >= payload["exp"] or payload["gen"] != generation:
            raise unauthorised("Token wygasł.")
        context_type, context_value = payload["ctx"]
        # A token from before permissions were in it bears all of them.
        return Bearer(kind, payload["sub"], context_type, context_value, tuple(payload.get("per", ALL)))

    def _sign(self, head: str) -> str:
        digest = hmac.new(self._secret, head.encode(), hashlib.sha256).digest()
        return urlsafe_b64encode(digest).decode().rstrip("=")


def _encoded(part: dict[str, Any]) -> str:
    return urlsafe_b64encode(json.dumps(part, separators=(",", ":")).encode()).decode().rstrip("=")


def _decoded(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))
