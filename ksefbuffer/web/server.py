"""Serving the page: one process, threads for handlers, uvicorn in front of them.

Nothing here opens a key of KSeF's; the only private key it may be told of is that of its own HTTPS certificate.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import ssl
import threading
from asyncio import TimerHandle
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ksefbuffer.config import Config
from ksefbuffer.errors import ConfigurationFault
from ksefbuffer.queue.db import Database
from ksefbuffer.web.app import create_app
from ksefbuffer.web.guard import is_loopback
from ksefbuffer.web.links import base_url
from ksefbuffer.web.site import Site

log = logging.getLogger(__name__)

HEADERS_WITHIN_S = 15.0
_READ_WITHIN_S = 60.0
_KEEP_ALIVE_S = 30
_LARGEST_HEAD = 32_768
_CONNECTIONS = 400
_STOP_WITHIN_S = 5


class Impatient(H11Protocol):
    """Cuts who does not finish the head of a request in time, and who does not read the answer."""

    _head_timer: TimerHandle | None = None
    _read_timer: TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # h11 calls the other side idle until the head is whole.
        if self.conn.their_state.__name__ == "IDLE" and not self.transport.is_closing():
            self._expect_head()
        else:
            self._forget_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_head()
        self._forget_read()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._read_timer is None:
            self._read_timer = self.loop.call_later(_READ_WITHIN_S, self.transport.abort)

    def resume_writing(self) -> None:
        self._forget_read()
        super().resume_writing()

    def _expect_head(self) -> None:
        # The first piece sets the term; a byte now and then must not move it.
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEADERS_WITHIN_S, self.transport.abort)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _forget_read(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None


def server_of(site: Site) -> uvicorn.Server:
    """The server of this site, not started. Raises ConfigurationFault for a certificate that cannot be used."""
    web = site.config.web
    tls: dict[str, Any] = {}
    if web.tls_certificate is not None and web.tls_private_key is not None:
        tls = {"ssl_certfile": str(web.tls_certificate), "ssl_keyfile": str(web.tls_private_key)}
    config = uvicorn.Config(
        create_app(site),
        http=Impatient,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=web.proxy,
        forwarded_allow_ips=["127.0.0.1", "::1"],
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_STOP_WITHIN_S,
        h11_max_incomplete_event_size=_LARGEST_HEAD,
        **tls,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or type(error).__name__
        raise ConfigurationFault(
            f"Nie można użyć certyfikatu HTTPS strony ({web.tls_certificate}): {reason}.",
            action="Sprawdź w [web] tls_certificate i tls_private_key oraz prawa do tych plików.",
        ) from None
    return uvicorn.Server(config)


def check_exposure(config: Config) -> None:
    """Raises ConfigurationFault when passwords would go over a network in the clear."""
    web = config.web
    if not is_loopback(web.host) and web.tls_certificate is None and not web.proxy:
        raise ConfigurationFault(
            f"Strona pod adresem {web.host} byłaby dostępna z sieci bez szyfrowania.",
            action="W [web] podaj tls_certificate i tls_private_key, albo ustaw proxy = true, gdy stoi przed nią "
            'serwer z HTTPS, albo zostaw host = "127.0.0.1".',
        )


def listening_socket(config: Config) -> socket.socket:
    """Raises ConfigurationFault when the address cannot be taken."""
    web = config.web
    host = web.host.strip("[]")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, web.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, protocol)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
            made.listen(512)
        except OSError:
            made.close()
            raise
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigurationFault(
                f"Port {web.port} na {web.host} jest zajęty przez inny program.",
                action="Zatrzymaj tamten program albo podaj inny port w [web] port.",
            ) from None
        raise ConfigurationFault(
            f"Strona nie może słuchać na {web.host}:{web.port}: {error.strerror}.",
            action="Popraw [web] host i port.",
        ) from None
    return made


def serve(
    config: Config,
    *,
    environ: Mapping[str, str],
    clock: Callable[[], datetime],
    follow_stdin: bool = False,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """``ksefbuffer web``: blocks until SIGTERM or SIGINT; with ``follow_stdin`` also until stdin ends, which a parent's
    death brings. ``ready`` is called once the address is taken. Raises ConfigurationFault.
    """
    check_exposure(config)
    database = Database(config.database.url)
    server = server_of(Site(config, database, clock, environ))
    with listening_socket(config) as address:
        # The server restores these at its end and raises what it caught again: then it has done its work.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        if follow_stdin:
            threading.Thread(target=_stop_at_end_of_input, args=(server,), name="parent", daemon=True).start()
        log.info("page at %s", base_url(config))
        ready()
        server.run([address])
    database.close()
    log.info("page stopped")


def _stop_at_end_of_input(server: uvicorn.Server) -> None:
    # Not by sys.stdin, whose lock a thread must not hold when the interpreter ends.
    while os.read(0, 1024):
        pass
    server.should_exit = True
