"""What the API's routes share: cursors, moments, bodies, files."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from ksefbuffer.web.api.problems import Problem

PREFIX = "/api/v1"
_WARSAW = ZoneInfo("Europe/Warsaw")
_LARGEST_KEY = 2**62
MOMENT: dict[str, Any] = {"anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}]}
"""What ``from_moment`` takes, as a schema."""


def reads(router: APIRouter, path: str, **told: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A route for GET, and the same for HEAD; ``told`` as of ``APIRouter.get``."""

    def route(handler: Callable[..., Any]) -> Callable[..., Any]:
        router.add_api_route(path, handler, methods=["GET"], response_model=None, **told)
        # The same checks come before it; only its description is left out.
        router.add_api_route(
            path,
            handler,
            methods=["HEAD"],
            response_model=None,
            include_in_schema=False,
            dependencies=told.get("dependencies"),
        )
        return handler

    return route


def as_cursor(kind: str, row_id: int) -> str:
    """An opaque cursor: where a list goes on."""
    return base64.urlsafe_b64encode(json.dumps([kind, row_id]).encode()).rstrip(b"=").decode()


def from_cursor(kind: str, cursor: str | None) -> int | None:
    """The key in a cursor of this kind. Raises Problem 400 for anything else."""
    if cursor is None:
        return None
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        found = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        found = None
    if isinstance(found, list) and len(found) == 2 and found[0] == kind:
        row_id = found[1]
        if type(row_id) is int and 0 <= row_id <= _LARGEST_KEY:
            return row_id
    raise Problem(
        400,
        "cursor",
        "Niepoprawny kursor",
        "Parametr cursor nie pochodzi z next_cursor tej listy.",
        hint="Podaj next_cursor z poprzedniej strony bez zmian albo zacznij bez parametru cursor.",
    )


def from_moment(text: str | None) -> datetime | None:
    """A day (from its Polish midnight) or a moment with its zone. Raises Problem 400."""
    if text is None:
        return None
    # An unescaped "+" of the zone arrives as a space.
    told = text.strip().replace(" ", "+") if "T" in text else text.strip()
    try:
        found = datetime.fromisoformat(told)
        if "T" not in told:
            found = found.replace(tzinfo=_WARSAW)
        if found.tzinfo is not None:
            return found.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise Problem(
        400,
        "moment",
        "Niepoprawny czas",
        "Parametr since to dzień (2026-11-20) albo chwila ze strefą (2026-11-20T10:15:00Z).",
    )


def known_parameters(*names: str) -> Callable[[Request], None]:
    """A dependency that refuses query parameters nobody would heed: a misspelt option must not be lost silently."""

    def check(request: Request) -> None:
        unknown = sorted(set(request.query_params) - set(names))
        if unknown:
            raise Problem(
                400,
                "parameter",
                "Nieznany parametr",
                f"Nieznane parametry: {', '.join(unknown)[:300]}.",
                hint=f"Dozwolone: {', '.join(names) or 'żadne'}.",
            )

    return check


async def whole_body(request: Request, most: int) -> bytes:
    """The body as sent. Raises Problem 413 as soon as it is longer than ``most`` bytes."""
    too_large = Problem(
        413,
        "size",
        "Za duży plik",
        f"Faktura może mieć najwyżej {most} bajtów.",
        hint="Tyle przyjmuje KSeF (z załącznikiem). Podziel fakturę albo usuń z niej załącznik.",
    )
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said) > most:
        raise too_large
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise too_large
        parts.append(part)
    return b"".join(parts)


def file(content: bytes, media_type: str, name: str, *, inline: bool = False) -> Response:
    """A file to download, under a name that may hold anything (RFC 5987, RFC 6266)."""
    plain = "".join(sign if sign.isascii() and (sign.isalnum() or sign in "-_. ") else "_" for sign in name) or "plik"
    how = "inline" if inline else "attachment"
    disposition = f"{how}; filename=\"{plain}\"; filename*=UTF-8''{quote(_encodable(name), safe='')}"
    return Response(content, media_type=media_type, headers={"Content-Disposition": disposition})


def _encodable(name: str) -> str:
    return name.encode("utf-8", "replace").decode()


def whole(value: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An object as the answer."""
    return JSONResponse(dict(value), status, dict(headers or {}))
