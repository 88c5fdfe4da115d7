"""Pages of listings by continuation token. Source: FACTS §1.2; 21418 for a token that is not ours."""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import TypeVar

from .wire import BadRequest, Request, invalid
from .world import Call, World

Row = TypeVar("Row")


def number_argument(request: Request, name: str, *, usual: int, least: int, most: int) -> int:
    """A whole number from the query. Raises 21405 naming it."""
    text = request.arguments.get(name, [str(usual)])[0]
    value = int(text) if text.isascii() and text.isdecimal() else -1
    if not least <= value <= most:
        raise invalid(f"Parametr '{name}' musi być liczbą od {least} do {most}.")
    return value


def page(
    world: World, call: Call, rows: Sequence[Row], *, scope: str, most: int
) -> tuple[Sequence[Row], dict[str, str]]:
    """The rows of the page asked for, and ``{"continuationToken": …}`` when there are more. ``scope`` ties the token
    to its listing."""
    size = number_argument(call.request, "pageSize", usual=10, least=10, most=most)
    secret = world.store.secret("paging")
    start = 0
    if token := call.request.header("x-continuation-token"):
        start = _opened(token, scope, secret)
    end = start + size
    return rows[start:end], {"continuationToken": _sealed(end, scope, secret)} if end < len(rows) else {}


def _sealed(offset: int, scope: str, secret: bytes) -> str:
    mark = hmac.new(secret, f"{scope}:{offset}".encode(), hashlib.sha256).hexdigest()[:16]
    return urlsafe_b64encode(f"{offset}:{mark}".encode()).decode()


def _opened(token: str, scope: str, secret: bytes) -> int:
    try:
        offset = int(urlsafe_b64decode(token.encode()).decode().partition(":")[0])
    except ValueError:
        offset = -1
    if offset < 0 or not hmac.compare_digest(token.encode(), _sealed(offset, scope, secret).encode()):
        raise BadRequest(21418, "Przekazany token kontynuacji ma nieprawidłowy format.")
    return offset
