"""Pages from templates: autoescaped, with what every page shows."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any
from zoneinfo import ZoneInfo

from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response

from ksefbuffer.web.site import site_of

NOTICE_COOKIE = "ksb_notice"
POLISH_TIME = ZoneInfo("Europe/Warsaw")

_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
_ENVIRONMENTS = {"sandbox": "SANDBOX", "test": "TEST", "demo": "DEMO", "production": "PRODUKCJA"}


@cache
def static_files() -> Mapping[str, tuple[bytes, str, str]]:
    """Every file that ``/static/`` serves: name → (content, media type, version)."""
    folder = resources.files("ksefbuffer.web") / "static"
    found = {}
    for file in folder.iterdir():
        ending = file.name.rpartition(".")[2]
        if ending in _TYPES:
            content = file.read_bytes()
            found[file.name] = (content, _TYPES[ending], hashlib.sha256(content).hexdigest()[:16])
    return found


@cache
def templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("ksefbuffer.web", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals["static"] = _static
    environment.filters.update(moment=moment, day=day, amount=amount, size=size, since=since)
    return environment


def _static(name: str) -> str:
    return f"/static/{name}?v={static_files()[name][2]}"


def render(request: Request, template: str, /, *, status_code: int = 200, **context: Any) -> HTMLResponse:
    """The page of this template. Beside ``context`` it knows ``who`` (the Caller or None), ``csrf`` (the token of the
    session), ``now``, ``nip``, ``environment`` and its Polish mark, ``path``, and the ``notice`` that ``redirect``
    left."""
    site = site_of(request)
    notice = _notice(request.cookies.get(NOTICE_COOKIE, ""))
    whole = {
        "who": getattr(request.state, "caller", None),
        "csrf": getattr(request.state, "csrf", ""),
        "now": site.clock(),
        "nip": site.config.nip,
        "environment": site.config.environment,
        "environment_pl": _ENVIRONMENTS[site.config.environment],
        "path": request.url.path,
        "notice": notice,
        **context,
    }
    response = HTMLResponse(templates().get_template(template).render(whole), status_code)
    if notice is not None:
        response.delete_cookie(NOTICE_COOKIE, path="/", httponly=True, samesite="strict")
    return response


def redirect(url: str, notice: str = "", *, kind: str = "ok") -> Response:
    """After a form: 303 to ``url``, which shows ``notice`` once. ``kind``: "ok", "warning" or "error"."""
    response = RedirectResponse(url, status_code=303)
    if notice:
        packed = base64.urlsafe_b64encode(json.dumps([kind, notice[:600]]).encode()).decode()
        response.set_cookie(NOTICE_COOKIE, packed, max_age=60, path="/", httponly=True, samesite="strict")
    return response


def _notice(packed: str) -> tuple[str, str] | None:
    try:
        kind, text = json.loads(base64.urlsafe_b64decode(packed.encode())) if packed else ("", "")
    except (ValueError, TypeError):
        return None
    return (kind, text) if kind in ("ok", "warning", "error") and isinstance(text, str) else None


def moment(value: datetime | None, *, seconds: bool = False) -> str:
    """A time as people in Poland read it; "" for None."""
    if value is None:
        return ""
    return value.astimezone(POLISH_TIME).strftime("%d.%m.%Y %H:%M:%S" if seconds else "%d.%m.%Y %H:%M")


def day(value: Any) -> str:
    """A date, or the day of a time in Poland."""
    if value is None:
        return ""
    return (value.astimezone(POLISH_TIME) if isinstance(value, datetime) else value).strftime("%d.%m.%Y")


def amount(value: Any, currency: str = "") -> str:
    """1 234,56 PLN: with hard spaces; "" for None."""
    if value is None:
        return ""
    text = f"{value:,.2f}".replace(",", "\u00a0").replace(".", ",")
    return f"{text}\u00a0{currency}" if currency else text


def size(value: int) -> str:
    """Bytes as people read them."""
    if value < 1000:
        return f"{value}\u00a0B"
    if value < 1_000_000:
        return f"{value / 1000:.1f}\u00a0kB".replace(".", ",")
    return f"{value / 1_000_000:.1f}\u00a0MB".replace(".", ",")


def since(value: datetime | None, now: datetime) -> str:
    """How long ago, roughly: "12 s", "5 min", "3 godz.", "2 dni"."""
    if value is None:
        return ""
    seconds = max(0, int((now - value).total_seconds()))
    if seconds < 60:
        return f"{seconds}\u00a0s"
    if seconds < 3600:
        return f"{seconds // 60}\u00a0min"
    if seconds < 48 * 3600:
        return f"{seconds // 3600}\u00a0godz."
    return f"{seconds // 86400}\u00a0dni"
