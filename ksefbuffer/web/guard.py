"""What stands before every request: whose address it names, how long and how large its body may be, whether the
database is there; and the security headers of every answer."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ksefbuffer.errors import BufferFault, ConfigurationFault
from ksefbuffer.queue import schema
from ksefbuffer.web.site import Site

log = logging.getLogger(__name__)

BODY_LIMIT = 4_000_000
# Where people may send more: their files beside a received invoice, several invoices at once, a store register.
LARGER_BODIES = {"/dokumenty": 12_000_000, "/wysylka": 32_000_000, "/reguly": 8_000_000}
# A body has this long, and longer only while it keeps coming at a modem's pace.
BODY_WITHIN_S = 30.0
_SLOWEST_BYTES_S = 32_000
_DRAIN_WITHIN_S, _DRAIN_BYTES = 5.0, 64_000_000
_CLOSE = {"Connection": "close"}

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # "no-referrer" would make browsers send "Origin: null" with our own forms.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cache-control": "no-store",
}
_NO_DATABASE_NEEDED = ("/static/", "/health/", "/api/v1/health/", "/metrics", "/api/v1/metrics", "/api/openapi.json")

Telling = Callable[[Request, int, str, str], Response]
"""Makes the answer that tells of an error: request, status, message, what to do."""


class Guard:
    """ASGI middleware; ``tell`` makes error pages."""

    def __init__(self, app: ASGIApp, site: Site, tell: Telling) -> None:
        self._app, self._site, self._tell = app, site, tell
        self._hosts = own_hosts(site)
        self._ready = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(raw=message["headers"])
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if scope["scheme"] == "https":
                    headers.setdefault("strict-transport-security", "max-age=31536000")
            await send(message)

        async def refuse(status: int, message: str = "", action: str = "", *, close: bool = False) -> None:
            answer = self._tell(Request(scope), status, message, action)
            if close:
                # What is still coming of the body is not read.
                answer.headers["connection"] = "close"
            await answer(scope, receive, send_with_headers)

        headers = Headers(scope=scope)
        if self._hosts and _host(headers) not in self._hosts:
            await refuse(400, "Pod tym adresem nie ma tej strony.", "Otwórz ją przez adres z konfiguracji bufora.")
            return
        limit = _body_limit(scope["path"])
        told = headers.get("content-length", "0")
        if not told.isdecimal() or int(told) > limit:
            if headers.get("expect", "").lower() != "100-continue":
                await _drain(receive)
            await refuse(413 if told.isdecimal() else 400, close=True)
            return
        # No text of ours holds it, and PostgreSQL takes none that does.
        if "\x00" in scope["path"] or b"%00" in scope["query_string"]:
            await refuse(404 if "\x00" in scope["path"] else 400)
            return
        if not self._ready and not scope["path"].startswith(_NO_DATABASE_NEEDED):
            fault = await run_in_threadpool(self._missing)
            if fault is not None:
                await refuse(503, fault.message, fault.action)
                return
        try:
            await self._app(scope, _measured(receive, limit), send_with_headers)
        except Exception:
            # Not the address as asked for: it may hold an invitation.
            route = getattr(scope.get("route"), "path", "?")
            log.exception("request failed: %s %s", scope["method"], route)
            if started:
                raise
            await refuse(500)

    def _missing(self) -> BufferFault | None:
        """Why the database cannot be used; asked until it once could."""
        database = self._site.database
        file = self._site.config.database.sqlite_file
        try:
            if file is not None and not file.exists():
                # Looking into it would make an empty one.
                raise ConfigurationFault(
                    "Nie ma jeszcze bazy danych bufora.", action="Uruchom: ksefbuffer init albo ksefbuffer run."
                )
            schema.require_current(database)
        except BufferFault as fault:
            return fault
        self._ready = True
        return None


def own_hosts(site: Site) -> frozenset[str]:
    """Names by which the page may be asked for; empty means any.

    On a loopback address without a proxy only its own: a stranger's name that leads there is DNS rebinding.
    """
    web = site.config.web
    if web.proxy or not is_loopback(web.host):
        return frozenset()
    names = {"localhost", "127.0.0.1", "::1", web.host.lower()}
    if web.public_url is not None:
        names.add(str(urlsplit(web.public_url).hostname))
    return frozenset(names)


def is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _host(headers: Headers) -> str:
    try:
        return urlsplit(f"//{headers.get('host', '')}").hostname or ""
    except ValueError:
        return ""


def _body_limit(path: str) -> int:
    for start, limit in LARGER_BODIES.items():
        if path.startswith(start + "/"):
            return limit
    return BODY_LIMIT


def _measured(receive: Receive, limit: int) -> Callable[[], Awaitable[Message]]:
    """Gives the body on, as long as it is neither too large nor too slow. Raises HTTPException 413, 408."""
    arrived, whole = 0, False
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def measured() -> Message:
        nonlocal arrived, whole
        if whole:
            # Only news that the other side is gone can come now; that takes as long as it takes.
            return await receive()
        try:
            async with asyncio.timeout_at(began + BODY_WITHIN_S + arrived / _SLOWEST_BYTES_S):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, headers=_CLOSE) from None
        if message["type"] == "http.request":
            arrived += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if arrived > limit:
                if not whole:
                    await _drain(receive)
                raise HTTPException(413, headers=_CLOSE)
        return message

    return measured


async def _drain(receive: Receive) -> None:
    """Reads what is still coming, for a while: closed upon, a client would lose the answer with the connection."""
    arrived, more = 0, True
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_WITHIN_S):
            while more and arrived < _DRAIN_BYTES:
                message = await receive()
                arrived += len(message.get("body", b""))
                more = message["type"] == "http.request" and message.get("more_body", False)
