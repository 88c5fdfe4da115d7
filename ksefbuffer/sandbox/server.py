"""The sandbox over real HTTP: keep-alive, one write per answer, real cuts of connections."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

from .wire import Request, Response

if TYPE_CHECKING:
    from .core import Sandbox

log = logging.getLogger("ksefbuffer.sandbox")

MAX_BODY_BYTES = 6_000_000
"""Room for an invoice with attachment (3,000,000 bytes) in Base64 and JSON."""

MAX_CONTROL_BYTES = 256_000_000
"""Room for some ten thousand invoices to be seeded."""

MAX_FILE_BYTES = 128_000_000
"""Room for a part of a package (100,000,016 bytes), and for one that is too large to be found out later."""

HANG_SECONDS = 3600.0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "ksef-sandbox"
    # Buffered and without Nagle: headers and body leave in one segment, else every answer waits for a delayed ACK.
    wbufsize = -1
    disable_nagle_algorithm = True

    def answer(self) -> None:
        server = cast("_HttpServer", self.server)
        path, _, query = self.path.partition("?")
        body, file = b"", None
        if server.sandbox.takes_file(self.command, path):
            file = self._file(server.sandbox)
            if file is None:
                return
        else:
            whole = self._body()
            if whole is None:
                return
            body = whole
        headers: dict[str, str] = {}
        for name, value in self.headers.items():
            known = headers.get(name.lower())
            headers[name.lower()] = value if known is None else f"{known}, {value}"
        request = Request(self.command, path, query, headers, body, str(self.client_address[0]), file)
        try:
            response = server.sandbox.handle(request)
        finally:
            if file:
                file.unlink(missing_ok=True)
        self._give(response)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = answer

    def _body(self) -> bytes | None:
        """The request's body; None when it was refused for its size (then the connection ends)."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return self._chunks()
        length = self.headers.get("Content-Length", "0")
        most = MAX_CONTROL_BYTES if self.path.startswith("/sandbox/") else MAX_BODY_BYTES
        if not length.isascii() or not length.isdecimal() or int(length) > most:
            self._too_large()
            return None
        return self.rfile.read(int(length))

    def _file(self, sandbox: Sandbox) -> Path | None:
        """A large body, put into a file; None when it was refused, or the client went away (then the connection
        ends)."""
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdecimal():
            self._refuse(Response(411, {"Content-Type": "text/plain"}, b"Length required"))
            return None
        if int(length) > MAX_FILE_BYTES:
            self._too_large()
            return None
        try:
            return sandbox.receive(self._pieces(int(length)))
        except ConnectionError:
            self.close_connection = True
            return None

    def _pieces(self, left: int) -> Iterator[bytes]:
        while left:
            piece = self.rfile.read(min(left, 262_144))
            if not piece:
                raise ConnectionAbortedError("the body ended before its length")
            left -= len(piece)
            yield piece

    def _chunks(self) -> bytes | None:
        whole = bytearray()
        while True:
            size = int(self.rfile.readline(100).split(b";")[0], 16)
            if size < 0 or len(whole) + size > MAX_BODY_BYTES:
                self._too_large()
                return None
            whole += self.rfile.read(size)
            self.rfile.readline(100)
            if size == 0:
                return bytes(whole)

    def _too_large(self) -> None:
        self._refuse(Response(413, {"Content-Type": "text/plain"}, b"Request body too large"))

    def _refuse(self, response: Response) -> None:
        """The body is not read, so the connection cannot go on."""
        self.close_connection = True
        response.headers["Connection"] = "close"
        self._give(response)

    def _give(self, response: Response) -> None:
        server = cast("_HttpServer", self.server)
        delay = HANG_SECONDS if response.cut == "timeout" else response.delay_s
        if delay:
            server.stopping.wait(delay)
        if response.cut in {"before", "refused"}:
            server.reset(self.connection)
        if response.cut not in {None, "body"}:
            self.close_connection = True
            return
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        if response.status != 204:
            self.send_header("Content-Length", str(response.length))
        self.end_headers()
        if self.command != "HEAD":
            torn = response.cut == "body"
            for piece in response.pieces(response.length // 2 if torn else response.length):
                self.wfile.write(piece)
            self.close_connection |= torn
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Calls are logged by the sandbox, by operation: paths and queries may hold signed links."""


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, sandbox: Sandbox, host: str, port: int) -> None:
        if ":" in host:
            self.address_family = socket.AF_INET6
        self.sandbox = sandbox
        self.stopping = threading.Event()
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        super().__init__((host, port), _Handler)

    def process_request(self, request: object, client_address: object) -> None:
        with self._guard:
            self._open.add(cast("socket.socket", request))
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def reset(self, connection: socket.socket) -> None:
        """The connection will end with RST, not in order."""
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def shutdown_request(self, request: object) -> None:
        connection = cast("socket.socket", request)
        with self._guard:
            self._open.discard(connection)
        lingering = struct.unpack("ii", connection.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))[0]
        if lingering:
            connection.close()
        else:
            super().shutdown_request(connection)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no error of ours."""
        log.debug("connection lost: %s", sys.exc_info()[0])

    def stop(self) -> None:
        self.stopping.set()
        self.shutdown()
        self.server_close()
        with self._guard:
            idle = list(self._open)
        for connection in idle:
            # Clients with a kept-alive connection must notice that the server is gone.
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                log.debug("connection was already closed")


class Server:
    """A running server; stops when its ``with`` block ends. ``base_url``: ``http://host:port/v2``."""

    def __init__(self, sandbox: Sandbox, host: str, port: int) -> None:
        self._server = _HttpServer(sandbox, host, port)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="sandbox", daemon=True)
        self._thread.start()
        shown = f"[{host}]" if ":" in host else "127.0.0.1" if host in {"", "0.0.0.0"} else host  # noqa: S104
        self.root = f"http://{shown}:{self._server.server_port}"
        self.base_url = sandbox.base_url = f"{self.root}/v2"

    def stop(self) -> None:
        """Ends every connection; the sandbox itself lives on and may be served again."""
        self._server.stop()
        self._thread.join()
        sandbox = self._server.sandbox
        if sandbox.base_url == self.base_url:
            sandbox.base_url = sandbox.in_process_url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def main(
    host: str, port: int, state: Path | None, latency_s: float, limits: str, time_scale: float = 1.0
) -> None:  # fmt: skip
    """What ``ksefbuffer sandbox`` runs: serves until SIGINT or SIGTERM. Prints one JSON line when ready; logs to
    standard error. Raises OSError when the address is taken."""
    from .core import Sandbox

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked.set())
    sandbox = Sandbox(state, latency_s=latency_s, limits=limits, time_scale=time_scale)
    with sandbox.serve(host, port) as server:
        ready = {
            "base_url": server.base_url,
            "latarnia_url": f"{server.root}/latarnia",
            "qr_url": f"{server.root}/qr",
            "control_url": f"{server.root}/sandbox",
        }
        sys.stdout.write(json.dumps(ready) + os.linesep)
        sys.stdout.flush()
        asked.wait()
    sandbox.close()
