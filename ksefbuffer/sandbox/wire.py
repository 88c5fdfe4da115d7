"""What crosses the wire: requests, answers, refusals and the shapes of their bodies. Source: FACTS §1.2-1.4."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote

Cut = Literal["before", "after", "body", "refused", "timeout"]
"""How a connection breaks: reset before an answer, closed after the work without an answer, closed in the middle of the
body, refused as if nobody listened, or held open and never answered."""

_PIECE = 262_144

VALIDATION = (21405, "Błąd walidacji danych wejściowych.")
UNREADABLE = (21001, "Nieczytelna treść.")


@dataclass(frozen=True)
class Request:
    """One HTTP request. ``path`` is as sent (percent-encoded, with ``/v2``), ``query`` without the question mark.
    ``file``: where a large body was put instead of ``body``."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    client_ip: str = "127.0.0.1"
    file: Path | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "headers", {name.lower(): value for name, value in self.headers.items()})

    def header(self, name: str) -> str:
        """The header's value, "" when absent."""
        return self.headers.get(name.lower(), "").strip()

    @property
    def content_type(self) -> str:
        return self.header("content-type").partition(";")[0].strip().lower()

    @property
    def arguments(self) -> dict[str, list[str]]:
        """Query parameters, each with all its values."""
        found: dict[str, list[str]] = {}
        for name, value in parse_qsl(self.query, keep_blank_values=True):
            found.setdefault(name, []).append(value)
        return found

    @property
    def segments(self) -> tuple[str, ...]:
        """The path cut at slashes, each piece percent-decoded."""
        return tuple(unquote(piece) for piece in self.path.strip("/").split("/"))

    @property
    def root(self) -> str:
        """Where the client sees this server, for links to be given back: ``http://host:port``."""
        return f"http://{self.header('host') or 'ksef.sandbox'}"


@dataclass
class Response:
    """One HTTP answer; ``file`` holds a large body instead of ``body``. ``cut`` and ``delay_s`` are orders to whoever
    carries it to the client, ``short`` too: half of the body, as if that were all of it."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    cut: Cut | None = None
    delay_s: float = 0.0
    file: Path | None = None
    short: bool = False

    @property
    def length(self) -> int:
        """Bytes of the body as announced."""
        whole = self.file.stat().st_size if self.file else len(self.body)
        return whole // 2 if self.short else whole

    def pieces(self, most: int) -> Iterator[bytes]:
        """The first ``most`` bytes of the body, a bounded piece at a time."""
        if self.file is None:
            yield self.body[:most]
            return
        with self.file.open("rb") as source:
            while most and (piece := source.read(min(most, _PIECE))):
                most -= len(piece)
                yield piece


def timestamp(moment: datetime) -> str:
    """As KSeF writes times: UTC with offset and seven fractional digits. Source: FACTS §7.3 (5)."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0+00:00")


def as_json(status: int, content: object) -> Response:
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(status, {"Content-Type": "application/json; charset=utf-8"}, body)


def as_xml(content: bytes, digest: str) -> Response:
    """An XML document with its SHA-256 (Base64) in ``x-ms-meta-hash``."""
    return Response(200, {"Content-Type": "application/xml", "x-ms-meta-hash": digest}, content)


def nothing(status: int = 204) -> Response:
    return Response(status)


class Refusal(Exception):
    """A request refused; knows how to say so in the shape the client asked for."""

    status = 500

    def render(self, request: Request, now: datetime) -> Response:
        raise NotImplementedError


def _problem(status: int, title: str, detail: str, request: Request, now: datetime, more: dict[str, Any]) -> Response:
    body = {
        "title": title,
        "status": status,
        "instance": request.path,
        "detail": detail,
        **more,
        "timestamp": timestamp(now),
        "traceId": secrets.token_hex(16),
    }
    encoded = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(status, {"Content-Type": "application/problem+json; charset=utf-8"}, encoded)


def _wants_problem(request: Request) -> bool:
    return request.header("x-error-format").lower() == "problem-details"


class BadRequest(Refusal):
    """HTTP 400 with one or more of KSeF's numeric codes."""

    status = 400

    def __init__(self, code: int, description: str, details: Sequence[str] = ()) -> None:
        super().__init__(f"{code} {description}")
        self.code = code
        self.description = description
        self.details = list(details)

    def render(self, request: Request, now: datetime) -> Response:
        if _wants_problem(request):
            # Problem details keep failures apart, the classic shape lumps them together [#764].
            parts = [[detail] for detail in self.details] if self.code == VALIDATION[0] else [self.details]
            errors = [{"code": self.code, "description": self.description, "details": part} for part in (parts or [[]])]
            return _problem(400, "Bad Request", self.description, request, now, {"errors": errors})
        detail = {
            "exceptionCode": self.code,
            "exceptionDescription": self.description,
            "details": self.details,
        }
        service = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"
        exception = {"exceptionDetailList": [detail], "serviceCode": service, "timestamp": timestamp(now)}
        return as_json(400, {"exception": exception})


def invalid(*details: str) -> BadRequest:
    """21405: the input does not hold what it must; each detail names its field."""
    return BadRequest(*VALIDATION, details)


def unreadable(*details: str) -> BadRequest:
    """21001: the body cannot be read at all."""
    return BadRequest(*UNREADABLE, details)


class Problem(Refusal):
    """An answer that is always problem+json (401, 403, 404, 406, 410, 415 …)."""

    def __init__(self, status: int, title: str, detail: str, **more: Any) -> None:
        super().__init__(f"{status} {title}")
        self.status = status
        self.title = title
        self.detail = detail
        self.more = more

    def render(self, request: Request, now: datetime) -> Response:
        response = _problem(self.status, self.title, self.detail, request, now, self.more)
        if self.status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        return response


def unauthorised(detail: str) -> Problem:
    return Problem(401, "Unauthorized", detail)


class TooManyRequests(Refusal):
    """HTTP 429; the pause is in whole seconds, rounded up. ``during_pause``: the client did not keep an earlier one."""

    status = 429

    def __init__(self, retry_after_s: int, text: str, *, during_pause: bool = False) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s
        self.text = text
        self.during_pause = during_pause

    def render(self, request: Request, now: datetime) -> Response:
        if _wants_problem(request):
            response = _problem(429, "Too Many Requests", self.text, request, now, {})
        else:
            status = {"code": 429, "description": "Too Many Requests", "details": [self.text]}
            response = as_json(429, {"status": status})
        response.headers["Retry-After"] = str(self.retry_after_s)
        return response


def accepts_xml(request: Request) -> bool:
    """Whether Accept permits XML; a missing header permits anything. Source: FACTS §1.2, §7.4."""
    accept = request.header("accept")
    if not accept:
        return True
    offers = [piece.partition(";")[0].strip().lower() for piece in accept.split(",")]
    return any(offer in {"*/*", "application/*", "application/xml", "text/xml"} for offer in offers)
