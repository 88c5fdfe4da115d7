"""Pre-signed links to documents: no bearer, an expiry, a signature. Source: FACTS §1.1, §4.5."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from .store import restored
from .wire import Request, Response, timestamp
from .world import Call, World

LIFE = timedelta(days=3)
READ, WRITE = "r", "w"


def link(
    world: World, request: Request, path: str, now: datetime, *, life: timedelta = LIFE, right: str = READ
) -> tuple[str, str]:
    """A fresh link to ``/storage/<path>`` and when it expires, as KSeF writes it."""
    until = (now + life).astimezone(UTC).replace(microsecond=0)
    expiry = until.strftime("%Y-%m-%dT%H:%M:%SZ")
    signature = quote(_signature(world, f"/storage/{path}", expiry, right), safe="")
    terms = f"sv=2025-01-05&se={quote(expiry, safe='')}&sr=b&sp={right}"
    return f"{request.root}/storage/{path}?{terms}&sig={signature}", timestamp(until)


def refuse(world: World, call: Call, *, right: str = READ) -> Response | None:
    """The storage's own kind of refusal (XML), or None when the link is good for this. A bearer is a mistake."""
    request = call.request
    if request.header("authorization"):
        call.note("bearer-on-storage", "a pre-signed link was called with Authorization")
        return problem(403, "AuthenticationFailed", "Authorization header is not allowed with a signed link.")
    signature = request.arguments.get("sig", [""])[0]
    expiry = request.arguments.get("se", [""])[0]
    if not hmac.compare_digest(signature.encode(), _signature(world, request.path, expiry, right).encode()):
        return problem(403, "AuthenticationFailed", "Signature did not match.")
    if call.now > restored(expiry):
        return problem(403, "AuthenticationFailed", "Signed expiry time has passed.")
    return None


def problem(status: int, code: str, text: str) -> Response:
    body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{text}</Message></Error>'
    return Response(status, {"Content-Type": "application/xml", "x-ms-error-code": code}, body.encode())


def _signature(world: World, path: str, expiry: str, right: str) -> str:
    secret = world.store.secret("links")
    return b64encode(hmac.new(secret, f"{right}\n{path}\n{expiry}".encode(), hashlib.sha256).digest()).decode()
