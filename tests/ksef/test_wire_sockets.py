"""The same troubles on real sockets, so that no library's idea of a fault stands in for the fault."""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from ksefbuffer.errors import OutcomeUnknown, Unreachable
from ksefbuffer.invoice.forms import FA3
from ksefbuffer.ksef.auth import TokenLogin
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.crypto import new_session_key
from ksefbuffer.ksef.limits import Limiter
from ksefbuffer.ksef.shapes import OpenSession
from tests.ksef.fake import NIP, START, Clock

pytestmark = pytest.mark.process

SESSION = OpenSession("S", START + timedelta(hours=12), FA3, new_session_key())


def client(base_url: str) -> Ksef:
    clock = Clock()
    ksef = Ksef(
        base_url=base_url,
        context_nip=NIP,
        login=TokenLogin("t"),
        limiter=Limiter(),
        clock=clock,
        sleep=clock.sleep,
        timeout_s=1,
    )
    # Access as after a login, so that the send itself meets the trouble.
    ksef._access.token = lambda: "t"  # type: ignore[method-assign]
    return ksef


@contextlib.contextmanager
def server(behave: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that reads one request whole and then behaves."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(10)
                received = b""
                while b"\r\n\r\n" not in received or not received.endswith(b"}"):
                    received += connection.recv(65536)
                behave(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v2"
    finally:
        listening.close()
        thread.join(10)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def silent(connection: socket.socket) -> None:
    """Answers nothing until the other side gives up."""
    connection.recv(1)


def says(answer: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(answer)


@pytest.mark.parametrize(
    "behave",
    [
        lambda _: None,
        reset,
        silent,
        says(b"HTTP/1.1 202 Accepted\r\nContent-Length: 50\r\n\r\n" + b'{"referenceNumber": "E'),
        says(b'HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n19\r\n{"referenceNumber": "E1"}'),
        says(b"HTTP/1.1 202 Acc"),
        says(b"\x16\x03\x01 garbage\r\n\r\n"),
        says(b"HTTP/1.1 202 Accepted\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\njunk"),
    ],
    ids=["closed", "reset", "silent", "half", "unfinished-chunk", "half-header", "garbage", "bad-gzip"],
)
def test_once_connected_nothing_is_known(behave: Callable[[socket.socket], None]) -> None:
    with server(behave) as base_url:
        ksef = client(base_url)
        with pytest.raises(OutcomeUnknown):
            ksef.send(SESSION, b"<Faktura/>")
        ksef.close()


def test_a_good_answer_is_read_and_nothing_of_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    answer = b'HTTP/1.1 202 Accepted\r\nSet-Cookie: a=SECRET\r\nContent-Length: 25\r\n\r\n{"referenceNumber": "E1"}'
    with server(says(answer)) as base_url:
        ksef = client(base_url)
        assert ksef.send(SESSION, b"<Faktura/>") == "E1"
        ksef.close()
    assert "operation=send" in caplog.text
    assert "SECRET" not in caplog.text


def test_a_closed_port_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    ksef = client(f"http://127.0.0.1:{port}/v2")
    with pytest.raises(Unreachable):
        ksef.send(SESSION, b"<Faktura/>")
    ksef.close()


def test_a_host_that_does_not_exist_is_unreachable() -> None:
    ksef = client("http://nie-ma-takiego-hosta.invalid/v2")
    with pytest.raises(Unreachable):
        ksef.send(SESSION, b"<Faktura/>")
    ksef.close()


def test_a_failed_tls_handshake_is_unreachable() -> None:
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    thread = threading.Thread(target=serve)
    thread.start()
    ksef = client(f"https://127.0.0.1:{listening.getsockname()[1]}/v2")
    with pytest.raises(Unreachable):
        ksef.send(SESSION, b"<Faktura/>")
    ksef.close()
    listening.close()
    thread.join(10)
