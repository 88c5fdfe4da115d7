"""Apprise over real sockets: an address that takes, one that refuses, one that is not there, and e-mail."""

from __future__ import annotations

import contextlib
import email
import email.policy
import logging
import socket
import threading
from collections.abc import Iterator

import pytest

from ksefbuffer.notify import sending
from tests.notify.post import SECRET, Message, Post

pytestmark = pytest.mark.process


def test_a_message_arrives_as_it_was_written(post: Post) -> None:
    body = "Zażółć gęślą jaźń\n- FV/1/2026 <b>&amp; *x* _y_\n\n\\n koniec"
    assert sending.send(post.url, "Temat: żółw", body, "warning") == ""
    assert post.taken == [Message("Temat: żółw", body, "warning")]


@pytest.mark.parametrize("status", [401, 404, 500])
def test_an_address_that_refuses_is_told_with_its_status(post: Post, status: int) -> None:
    post.answer = status
    assert sending.send(post.url, "a", "b", "info") == f"adres odmówił (HTTP {status})"


def test_an_address_that_is_not_there(unused_port: int) -> None:
    assert "nie udało się połączyć" in sending.send(f"json://u:{SECRET}@127.0.0.1:{unused_port}", "a", "b", "info")


@pytest.mark.parametrize("url", [f"nieznany://{SECRET}", "json://", f"slack://{SECRET}", f"mailto://{SECRET}"])
def test_an_address_that_is_none_is_told_without_it(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        reason = sending.send(url, "a", "b", "info")
    assert reason.startswith("nie rozpoznano adresu")
    assert SECRET not in reason + caplog.text


@pytest.fixture
def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextlib.contextmanager
def mail_server(received: list[bytes]) -> Iterator[int]:
    """A mail server for one message."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(20)

    def serve() -> None:
        connection, _ = listening.accept()
        with connection, connection.makefile("rwb") as talk:

            def say(line: bytes) -> None:
                talk.write(line + b"\r\n")
                talk.flush()

            say(b"220 poczta")
            while line := talk.readline():
                word = line.split()[0].upper()
                if word == b"DATA":
                    say(b"354 dalej")
                    lines = []
                    while (line := talk.readline()) != b".\r\n":
                        lines.append(line)
                    received.append(b"".join(lines))
                say(b"250 8BITMIME" if word == b"EHLO" else b"221 koniec" if word == b"QUIT" else b"250 dobrze")
                if word == b"QUIT":
                    return

    thread = threading.Thread(target=serve)
    thread.start()
    yield int(listening.getsockname()[1])
    thread.join()
    listening.close()


def test_an_e_mail_arrives_with_its_polish_signs() -> None:
    received: list[bytes] = []
    with mail_server(received) as port:
        url = f"mailto://127.0.0.1:{port}?from=bufor@sklep.example&to=szef@sklep.example&mode=insecure&format=text"
        assert sending.send(url, "ksefbuffer: 2 dokumenty w błędzie", "Zażółć:\n- FV/1", "warning") == ""
    mail = email.message_from_bytes(received[0], policy=email.policy.default)
    assert mail["Subject"] == "ksefbuffer: 2 dokumenty w błędzie"
    assert mail["To"] == "szef@sklep.example"
    text = mail.get_body(("plain",))
    assert text is not None
    assert text.get_content().replace("\r\n", "\n").strip() == "Zażółć:\n- FV/1"
