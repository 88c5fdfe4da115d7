"""The sandbox as one function: a request in, an answer out."""

from __future__ import annotations

import json
import logging
import threading
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from . import control, ledger, logins, operations, permissions, repository, sessions, settlement
from .backroom import Backroom
from .bearer import ACCESS, REFRESH, Tokens
from .credentials import Credentials
from .faults import OUTAGE_STYLES, Faults, Outage, after_work, before_work
from .incoming import Incoming
from .keys import Keys
from .limits import RateLimits
from .lookout import Lookout
from .operations import Operation
from .parcels import build, next_export
from .processing import examine, next_package
from .settlement import settle
from .shelf import Shelf
from .store import Store, restored
from .wire import BadRequest, Problem, Refusal, Request, Response, TooManyRequests, accepts_xml, invalid
from .world import Call, World

if TYPE_CHECKING:
    import httpx

    from .server import Server

log = logging.getLogger("ksefbuffer.sandbox")

# Parts of the real API that the sandbox does not serve; anything else is simply an address that does not exist.
_NOT_SERVED = {"certificates", "collective-identifiers", "invoices", "limits", "peppol", "permissions", "sessions",
               "testdata", "tokens", "auth"}  # fmt: skip


@dataclass(frozen=True)
class SandboxInvoice:
    """An invoice handed in. ``sha256`` is hex, of the plain file as declared; ``at`` is when it was taken (UTC)."""

    ksef_number: str | None
    sha256: str
    nip: str
    invoice_number: str
    session: str
    status: int
    at: datetime


@dataclass(frozen=True)
class Deviation:
    """The client did what KSeF's documents tell it not to. ``name`` is fixed, ``text`` explains."""

    at: datetime
    operation: str
    name: str
    text: str


class Sandbox(Credentials, Incoming, Lookout):
    """A strict local KSeF. Everything may be called from any thread.

    ``state``: a file that everything survives in, None for memory. ``clock``: aware UTC, the real one by default.
    ``limits``: "production" (FACTS §6), "test" (ten times that) or "none"; their windows and pauses pass
    ``time_scale`` times faster than KSeF's. ``seed``: the same seed gives the same references and KSeF numbers.
    ``base_url`` is for clients: the running server's, else one for ``transport()``. ``calls`` counts calls by
    operation, ``throttled`` those of them that a limit refused (429).

    With a ``clock`` of your own, packages are examined and exports built by the first call after they are due, so the
    clock alone decides what is seen; by the real clock threads do it while other calls are served.
    """

    def __init__(
        self,
        state: Path | None = None,
        *,
        clock: Callable[[], datetime] | None = None,
        latency_s: float = 0.2,
        limits: str = "production",
        seed: int | None = None,
        time_scale: float = 1.0,
    ) -> None:
        self.in_process_url = self.base_url = "http://ksef.sandbox/v2"
        self.clock = clock or (lambda: datetime.now(UTC))
        self.calls: Counter[str] = Counter()
        self.throttled: Counter[str] = Counter()
        self.faults = Faults(operations.NAMES)
        self._outage: Outage | None = None
        lock = threading.RLock()
        store = Store(state, seed)
        with store.transaction():
            keys = Keys(store, self.clock())
            rates = RateLimits(limits, time_scale)
            self._world = World(store, keys, Tokens(store), rates, Shelf(state), lock, latency_s, time_scale)
            repository.take_over(self._world)
            for name in ("paging", "links"):
                store.secret(name)
        self._examiner = Backroom(
            self._world, self.clock, name="sandbox-examiner", find=next_package, work=examine, on_call=clock is not None
        )
        self._exporter = Backroom(
            self._world, self.clock, name="sandbox-exporter", find=next_export, work=build, on_call=clock is not None
        )
        self._backrooms = (self._examiner, self._exporter)

    @contextmanager
    def _locked(self) -> Iterator[World]:
        """The state, brought up to now, in one transaction. What fell due stays done when the caller's work fails."""
        with self._world.lock:
            now = self.clock()
            for backroom in self._backrooms:
                backroom.attend(now)
            with self._world.store.transaction():
                settle(self._world, now)
            with self._world.store.transaction():
                yield self._world
            for backroom in self._backrooms:
                backroom.wake()

    # --- answering -------------------------------------------------------------------------------------------------

    def handle(self, request: Request) -> Response:
        """Answers one request, committing first. ``cut`` and ``delay_s`` of the answer are for the carrier to obey."""
        if request.path == "/sandbox" or request.path.startswith("/sandbox/"):
            return control.handle(self, request)
        now = self.clock()
        operation, arguments = operations.find(request.method, request.segments)
        name = operation.name if operation else "unknown"
        with self._world.lock:
            self.calls[name] += 1
            outage = self._current_outage(now)
            if outage and (outage.everything or name not in operations.ELSEWHERE):
                log.info("%s outage=%s", name, outage.style)
                return outage.answer()
            call = Call(request, name, now, arguments, faults=self.faults.strike(name))
        wire = next((fault for fault in call.faults if fault.on_wire), None)
        response = before_work(wire) if wire else None
        if response is None:
            response = self._served(operation, call)
            if wire:
                response = after_work(wire, response)
        log.info("%s %s%s", name, response.status, f" fault={wire.kind}" if wire else "")
        return response

    def _served(self, operation: Operation | None, call: Call) -> Response:
        try:
            if operation is None:
                raise self._unknown(call)
            self._admit(operation, call)
            if operation.prepare:
                call.prepared = operation.prepare(self._world, call)
            with self._locked() as world:
                response = operation.handle(world, call)
        except Refusal as refusal:
            if isinstance(refusal, TooManyRequests):
                self._count_throttled(call, refusal)
            response = refusal.render(call.request, call.now)
            if isinstance(refusal, BadRequest):
                log.info("%s refused code=%s %s", call.operation, refusal.code, " ".join(refusal.details))
        except Exception:
            log.exception("%s failed", call.operation)
            response = Problem(500, "Internal Server Error", "Nieoczekiwany błąd.").render(call.request, call.now)
        self._record(call)
        return response

    def _admit(self, operation: Operation, call: Call) -> None:
        """Everything that is checked before an operation's own rules: protocol, bearer, limits."""
        self._check_protocol(operation, call)
        with self._locked() as world:
            address = call.request.client_ip
            if operation.group:
                world.limits.admit("global", "", address, call.now)
            if operation.tokens:
                call.bearer = world.tokens.read(call.request.header("authorization"), operation.tokens, call.now)
            if ACCESS in operation.tokens:
                logins.check_address(world, call.caller, address)
            if operation.group == "anonymous":
                world.limits.admit("anonymous", "", address, call.now)
            elif operation.group:
                context = f"{call.caller.context_type}:{call.caller.context_value}"
                counter = f":{operation.name}" if operation.group == "other" else ""
                world.limits.admit(operation.group, context, address, call.now, counter=counter)
        permissions.demand(call, operation.needs)
        reference = call.arguments.get("reference")
        if reference is not None and operation.group and len(reference) != 36:
            raise invalid("Numer referencyjny musi mieć 36 znaków.")

    def _check_protocol(self, operation: Operation, call: Call) -> None:
        request = call.request
        if not request.header("user-agent"):
            call.note("no-user-agent", "the request has no User-Agent")
        if operation.body == "file":
            return
        expected = {"xml": "application/xml", "none": ""}.get(operation.body, "application/json")
        if operation.body == "json?" and not request.body:
            expected = ""
        if expected and request.content_type != expected:
            call.note("wrong-content-type", f"{request.content_type or 'no content type'} instead of {expected}")
            raise Problem(415, "Unsupported Media Type", f"Oczekiwano Content-Type: {expected}.")
        if not expected and request.body:
            call.note("unexpected-body", "the request has a body where none is expected")
        if not expected and request.content_type not in {"", "application/json"}:
            call.note("wrong-content-type", f"{request.content_type} on a request without a body")
            raise Problem(415, "Unsupported Media Type", "Żądanie nie może mieć treści tego rodzaju.")
        if operation.answers_xml and not accepts_xml(request):
            raise Problem(406, "Not Acceptable", "Odpowiedź jest dokumentem XML; nagłówek Accept go nie dopuszcza.")

    def _unknown(self, call: Call) -> Problem:
        method, segments = call.request.method, call.request.segments
        if len(segments) > 1 and segments[0] == "v2" and segments[1] in _NOT_SERVED:
            call.note("unknown-operation", f"the sandbox does not serve {method} /v2/{segments[1]}/…")
            return Problem(501, "Not Implemented", "Piaskownica nie obsługuje tej operacji.")
        if segments == ("latarnia",):
            return Problem(403, "Forbidden", "Brak dostępu.")
        if segments and segments[0] in {"v2", "api", "storage"}:
            call.note("unknown-operation", "no such address in the API")
        return Problem(404, "Not Found", "Nie ma takiego adresu.")

    def _count_throttled(self, call: Call, refusal: TooManyRequests) -> None:
        with self._world.lock:
            self.throttled[call.operation] += 1
        if refusal.during_pause:
            call.note("ignored-retry-after", "called again before the time given in Retry-After was over")

    def _record(self, call: Call) -> None:
        if not call.noted:
            return
        with self._world.lock, self._world.store.transaction():
            for name, text in call.noted:
                self._world.record(call.now, call.operation, name, text)

    def _current_outage(self, now: datetime) -> Outage | None:
        outage = self._outage
        if outage is not None and outage.until is not None and now >= outage.until:
            self._outage = None
        return self._outage

    def takes_file(self, method: str, path: str) -> bool:
        """Whether the body of such a request may be large, and goes into a file by ``receive``."""
        operation, _ = operations.find(method, Request(method, path).segments)
        return operation is not None and operation.body == "file"

    def receive(self, chunks: Iterable[bytes]) -> Path:
        """Puts a large body into a file for ``Request.file``; whoever calls deletes what ``handle`` leaves of it."""
        return self._world.shelf.receive(chunks)

    # --- carriers --------------------------------------------------------------------------------------------------

    def transport(self) -> httpx.BaseTransport:
        """For httpx clients in the same process: no socket, the same cuts."""
        from .transport import SandboxTransport

        return SandboxTransport(self)

    def serve(self, host: str = "127.0.0.1", port: int = 0) -> Server:
        """A real HTTP server; use as ``with sandbox.serve() as server: server.base_url``."""
        from .server import Server

        return Server(self, host, port)

    # --- control and evidence --------------------------------------------------------------------------------------

    def invoices(self) -> list[SandboxInvoice]:
        """Everything ever handed in, in order, refused ones too."""
        with self._locked() as world:
            rows = ledger.handed_in(world)
        return [
            SandboxInvoice(
                ksef_number=row["ksef_number"],
                sha256=b64decode(row["sha256"]).hex(),
                nip=row["seller"] or row["context_value"],
                invoice_number=row["number"],
                session=row["session"],
                status=row["code"],
                at=restored(row["invoicing_at"]),
            )
            for row in rows
        ]

    def accepted(self) -> list[SandboxInvoice]:
        """Those with a KSeF number."""
        return [invoice for invoice in self.invoices() if invoice.ksef_number]

    @property
    def deviations(self) -> list[Deviation]:
        """What the clients did against the protocol, in order."""
        with self._locked() as world:
            rows = world.store.all("SELECT * FROM deviations ORDER BY id")
        return [Deviation(restored(row["at"]), row["operation"], row["name"], row["text"]) for row in rows]

    def forget_deviations(self) -> None:
        with self._locked() as world:
            world.store.run("DELETE FROM deviations")

    def rotate_keys(self, *, keep_old: bool = False) -> None:
        """New public keys; the old ones are withdrawn (21470), or stay valid beside the new."""
        with self._locked() as world:
            world.keys.rotate(self.clock(), keep_old=keep_old)

    def expire_tokens(self, *, refresh: bool = False) -> None:
        """Every access token given so far is expired; with ``refresh`` the refresh tokens too."""
        with self._locked() as world:
            world.tokens.expire(ACCESS)
            if refresh:
                world.tokens.expire(REFRESH)

    def kill_session(self, reference: str, code: int = 500) -> None:
        """The session ends at once with this status; its invoices without verdict get 405. Raises LookupError."""
        with self._locked() as world:
            sessions.kill(world, reference, code)

    def release(self) -> int:
        """Lets stuck invoices, batch sessions and exports go on, as of now; returns how many."""
        with self._locked() as world:
            return settlement.release(world, self.clock())

    def outage(self, seconds: float | None = None, style: str = "refused", *, everything: bool = False) -> None:
        """The API serves nothing for ``seconds`` by the sandbox's clock (None: until ``stop_outage``).
        ``style``: refused, 503, html or timeout; ``everything``: as if the client's own line were cut, Latarnia and
        the pages behind QR codes are gone too."""
        if style not in OUTAGE_STYLES:
            raise ValueError(f"unknown style of outage {style!r}; one of: {', '.join(OUTAGE_STYLES)}")
        until = None if seconds is None else self.clock() + timedelta(seconds=seconds)
        with self._world.lock:
            self._outage = Outage(style, until, everything)

    def stop_outage(self) -> None:
        with self._world.lock:
            self._outage = None

    @property
    def latency_s(self) -> float:
        """How long processing takes, in seconds; may be changed at any time and holds for what comes later."""
        return self._world.latency_s

    @latency_s.setter
    def latency_s(self, seconds: float) -> None:
        if not 0 <= seconds <= 86_400:
            raise ValueError("latency must be 0 to 86400 seconds")
        self._world.latency_s = seconds

    def dump_invoices(self) -> str:
        """The invoices handed in, as JSON text for the control interface."""
        items = [
            {
                "ksefNumber": item.ksef_number,
                "sha256": item.sha256,
                "nip": item.nip,
                "invoiceNumber": item.invoice_number,
                "session": item.session,
                "status": item.status,
                "at": item.at.isoformat(),
            }
            for item in self.invoices()
        ]
        return json.dumps(items, ensure_ascii=False)

    def close(self) -> None:
        for backroom in self._backrooms:
            backroom.stop()
        with self._world.lock:
            self._world.store.close()
