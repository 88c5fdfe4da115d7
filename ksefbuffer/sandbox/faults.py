"""Trouble to order: what shall go wrong, at which operation, how often."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from .wire import Cut, Response

KINDS = {
    "delay": "answers after `seconds`",
    "status": "answers `status` (with `retry_after`) before any work",
    "status_after": "does the work, then answers `status`",
    "html": "answers 200 with a firewall's HTML page before any work",
    "html_403": "answers 403 with a firewall's `Request blocked` page before any work",
    "cut_before": "resets the connection before any work",
    "cut_after": "does the work, then closes the connection without an answer",
    "cut_body": "does the work, then closes the connection in the middle of the body",
    "empty": "does the work, then answers with an empty body",
    "short_body": "does the work, then answers with half of the body, as if that were all of it",
    "wrong_bytes": "answers with one byte of the document changed",
    "link_expired": "answers 403, as if the time of the link were over",
    "timeout": "takes the request and never answers",
    "stuck": "the invoice or batch session stays at 150, the export or enrolment at 100, until released",
    "invoice_status": "the invoice (of a package: that with `ordinal`) ends with status `code`",
    "session_status": "the session ends with status `code`",
    "session_unknown": "answers 21173, though the session is there",
    "storage_lag": "answers 21205, as if the storage did not show the uploaded parts yet",
    "export_status": "the export ends with status `code`",
    "login_status": "the login ends with status `code`, such as 480",
    "enrollment_status": "the request for a certificate ends with status `code` (400, 500, 550)",
    "token_fails": "the KSeF token that is made never becomes active",
    "wrong_figure": "the size or hash of the export's part `ordinal` named in `details` (encryptedPartHash) is wrong",
    "wrong_invoice": "the invoice at place `ordinal` of the package is not what its hash says",
    "late_row": "the invoice at place `ordinal` of the result is left out, though below the high-water mark",
    "overlap": "pages after the first begin with the last `ordinal` rows of the page before; needs `times` null",
    "wrong_original_session": "duplicates in the package name their own session as that of the original",
}
_HAPPENS_AT = {
    "stuck": {"sendInvoice", "closeBatch", "startExport", "enrollCertificate"},
    "invoice_status": {"sendInvoice", "closeBatch"},
    "session_status": {"openSession", "sendInvoice", "closeSession", "openBatch", "uploadPart", "closeBatch"},
    "session_unknown": {
        *("sendInvoice", "closeSession", "closeBatch", "sessionStatus", "sessionInvoices", "failedInvoices"),
        *("invoiceStatus", "invoiceUpo", "invoiceUpoByKsefNumber", "sessionUpo"),
    },
    "storage_lag": {"closeBatch"},
    "wrong_original_session": {"closeBatch"},
    "link_expired": {"downloadPart"},
    "export_status": {"startExport"},
    "login_status": {"loginXades", "loginToken"},
    "enrollment_status": {"enrollCertificate"},
    "token_fails": {"createToken"},
    "wrong_figure": {"startExport", "exportStatus"},
    "wrong_invoice": {"startExport"},
    "late_row": {"startExport", "queryMetadata"},
    "overlap": {"queryMetadata"},
}
_FIGURES = {"partSize", "partHash", "encryptedPartSize", "encryptedPartHash"}
_ENDS = {"invoice_status", "session_status", "export_status", "login_status", "enrollment_status"}
"""Kinds that do not trouble the exchange itself, and the operations they belong to."""

BLOCKED_PAGE = (
    b"<html><head><title>Request blocked</title></head><body><h1>Request blocked</h1>"
    b"<p>Incident ID: 1234567890-0</p></body></html>"
)
FIREWALL_PAGE = (
    b'<html><head><META NAME="robots" CONTENT="noindex,nofollow"></head><body>One moment, please</body></html>'
)


@dataclass(frozen=True)
class Fault:
    """One ordered trouble. ``operation`` is a name from the operations' list or "*"; ``times`` None means for ever;
    the first ``skip`` matching calls pass unharmed. ``seconds`` is for delay, ``status`` and ``retry_after`` (seconds)
    for status and status_after, ``code`` and ``details`` for invoice_status and session_status; ``ordinal`` (from 1,
    None: every one) tells which invoice of a package an invoice_status at closeBatch is for, which part or invoice of
    an export is wrong, which row is late; ``details`` of a wrong_figure name the figure.
    Raises ValueError for a kind or a combination that does not exist."""

    operation: str = "*"
    kind: str = "status"
    times: int | None = 1
    skip: int = 0
    seconds: float = 0.0
    status: int = 503
    retry_after: int | None = None
    code: int = 0
    details: tuple[str, ...] = ()
    ordinal: int | None = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "details", tuple(self.details))
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind of fault {self.kind!r}; one of: {', '.join(KINDS)}")
        if self.times is not None and self.times < 1:
            raise ValueError("times must be at least 1, or null for ever")
        if self.skip < 0 or self.seconds < 0:
            raise ValueError("skip and seconds must not be negative")
        if not 400 <= self.status <= 599:
            raise ValueError("status must be an HTTP error, 400 to 599")
        if self.kind == "wrong_figure" and not _FIGURES.issuperset(self.details):
            raise ValueError(f"details of wrong_figure must be one of: {', '.join(sorted(_FIGURES))}")
        if self.kind in _ENDS and self.code < 200:
            raise ValueError(f"{self.kind} needs code, a final status such as 435")
        if self.ordinal is not None and self.ordinal < 1:
            raise ValueError("ordinal must be at least 1, or null for every invoice")
        where = _HAPPENS_AT.get(self.kind)
        if where is not None and self.operation not in {"*", *where}:
            raise ValueError(f"{self.kind} happens at {', '.join(sorted(where))} only")

    def strikes(self, operation: str) -> bool:
        """Whether this fault concerns a call of ``operation``."""
        return self.operation in {"*", operation} and operation in _HAPPENS_AT.get(self.kind, {operation})

    @property
    def on_wire(self) -> bool:
        """Whether it troubles the exchange itself, not what becomes of the invoice or session."""
        return self.kind not in _HAPPENS_AT


@dataclass
class _Ordered:
    fault: Fault
    skip: int
    left: int | None
    struck: int = 0


class Faults:
    """The faults now ordered; they live in memory only. May be used from any thread."""

    def __init__(self, operations: set[str]) -> None:
        self._operations = operations
        self._ordered: list[_Ordered] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        """Raises ValueError when the operation does not exist."""
        if fault.operation != "*" and fault.operation not in self._operations:
            known = ", ".join(sorted(self._operations))
            raise ValueError(f"unknown operation {fault.operation!r}; one of: *, {known}")
        with self._lock:
            self._ordered.append(_Ordered(fault, fault.skip, fault.times))

    def clear(self) -> None:
        with self._lock:
            self._ordered.clear()

    def listed(self) -> list[dict[str, Any]]:
        """Every fault ordered, with how often it has struck and how often it still will (None = for ever)."""
        with self._lock:
            return [{**asdict(item.fault), "struck": item.struck, "left": item.left} for item in self._ordered]

    def strike(self, operation: str) -> list[Fault]:
        """The faults that this call suffers: at most one on the wire, and any that mark the invoice or session."""
        with self._lock:
            return self._strike(operation)

    def _strike(self, operation: str) -> list[Fault]:
        struck: list[Fault] = []
        for item in self._ordered:
            if item.left == 0 or not item.fault.strikes(operation):
                continue
            if item.skip > 0:
                item.skip -= 1
                continue
            if item.fault.on_wire and any(fault.on_wire for fault in struck):
                continue
            item.left = None if item.left is None else item.left - 1
            item.struck += 1
            struck.append(item.fault)
        return struck


def before_work(fault: Fault) -> Response | None:
    """What a wire fault answers instead of doing the work; None when the work is done first."""
    if fault.kind == "cut_before":
        return Response(0, cut="before")
    if fault.kind == "timeout":
        return Response(0, cut="timeout")
    if fault.kind == "html":
        return Response(200, {"Content-Type": "text/html"}, FIREWALL_PAGE)
    if fault.kind == "html_403":
        return Response(403, {"Content-Type": "text/html"}, BLOCKED_PAGE)
    if fault.kind == "status":
        return _error_page(fault)
    return None


def after_work(fault: Fault, response: Response) -> Response:
    """What a wire fault makes of the answer to work already done."""
    if fault.kind == "delay":
        response.delay_s = fault.seconds
    elif fault.kind == "status_after":
        return _error_page(fault)
    elif fault.kind == "cut_after":
        response.cut = "after"
    elif fault.kind == "cut_body":
        response.cut = "body"
    elif fault.kind == "short_body":
        response.short = True
    elif fault.kind == "wrong_bytes":
        response.body, response.file = _spoilt(b"".join(response.pieces(response.length))), None
    elif fault.kind == "empty":
        response.body, response.file = b"", None
    return response


def _spoilt(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :] if body else body


def _error_page(fault: Fault) -> Response:
    headers = {"Content-Type": "text/html"}
    if fault.retry_after is not None:
        headers["Retry-After"] = str(fault.retry_after)
    if fault.status == 429:
        headers["Content-Type"] = "application/json"
        headers.setdefault("Retry-After", "1")
        return Response(429, headers, b'{"status":{"code":429,"description":"Too Many Requests","details":[]}}')
    page = f"<html><body><h1>{fault.status}</h1></body></html>"
    return Response(fault.status, headers, page.encode())


@dataclass
class Outage:
    """A total outage: no request to the API is served until it ends; with ``everything`` none at all."""

    style: str
    until: datetime | None = None
    everything: bool = False

    def answer(self) -> Response:
        cuts: dict[str, Cut] = {"refused": "refused", "timeout": "timeout"}
        if self.style in cuts:
            return Response(0, cut=cuts[self.style])
        if self.style == "html":
            return Response(200, {"Content-Type": "text/html"}, FIREWALL_PAGE)
        return Response(
            503, {"Content-Type": "text/html"}, b"<html><body><h1>503 Service Unavailable</h1></body></html>"
        )


OUTAGE_STYLES = ("refused", "503", "html", "timeout")
