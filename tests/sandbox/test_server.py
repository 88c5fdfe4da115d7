from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from ksefbuffer.sandbox import Fault, Sandbox, Server
from tests.samples import NIP, invoice
from tests.sandbox.client import Client, signer

pytestmark = pytest.mark.process
TODAY = datetime.now(UTC).date()


@pytest.fixture
def real() -> Iterator[Sandbox]:
    sandbox = Sandbox(latency_s=0, limits="none")
    yield sandbox
    sandbox.close()


@pytest.fixture
def server(real: Sandbox) -> Iterator[Server]:
    with real.serve() as server:
        yield server


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.base_url, timeout=20) as http:
        yield http


@pytest.fixture
def wired(real: Sandbox, http: httpx.Client) -> Client:
    return Client(real, http=http).login()


def test_the_whole_path_over_a_socket(wired: Client, real: Sandbox) -> None:
    session = wired.open()
    status = wired.verdict(session, invoice("FV/1", issue_date=TODAY))
    assert status["status"]["code"] == 200
    assert wired.http.get(status["upoDownloadUrl"]).status_code == 200
    assert wired.close(session).status_code == 204
    assert wired.session(session)["status"]["code"] == 200
    assert real.deviations == []


def test_connections_are_kept_alive(server: Server) -> None:
    host, _, port = server.root.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        reader = connection.makefile("rb")
        for _ in range(3):
            connection.sendall(
                b"POST /v2/auth/challenge HTTP/1.1\r\nHost: x\r\nUser-Agent: t\r\nContent-Length: 0\r\n\r\n"
            )
            assert reader.readline() == b"HTTP/1.1 200 OK\r\n"
            length = 0
            while (line := reader.readline()) != b"\r\n":
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            assert b"challenge" in reader.read(length)


def test_an_answer_leaves_in_one_piece(server: Server) -> None:
    host, _, port = server.root.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(b"GET /v2/nothing HTTP/1.1\r\nHost: x\r\nUser-Agent: t\r\n\r\n")
        whole = connection.recv(65536)
    head, _, body = whole.partition(b"\r\n\r\n")
    assert json.loads(body)["status"] == 404
    assert head.startswith(b"HTTP/1.1 404")


def test_chunked_bodies_are_read(wired: Client) -> None:
    body = json.dumps(wired.opening(bytes(32), bytes(16))).encode()
    answer = wired.call(
        "POST", "/sessions/online", content=iter([body[:10], body[10:]]), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize(
    "framing",
    [b"Content-Length: 6000001\r\n\r\n", b"Content-Length: x\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n5B8D81\r\n"],
)
def test_a_body_too_large_is_refused(server: Server, framing: bytes) -> None:
    host, _, port = server.root.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(b"POST /v2/sessions/online HTTP/1.1\r\nHost: x\r\n" + framing)
        assert connection.makefile("rb").readline() == b"HTTP/1.1 413 Request Entity Too Large\r\n"


@pytest.mark.parametrize(
    ("kind", "met", "handed_in"),
    [
        ("cut_before", httpx.ReadError, 0),
        ("cut_after", httpx.RemoteProtocolError, 1),
        ("cut_body", httpx.RemoteProtocolError, 1),
    ],
)
def test_cuts_over_a_socket_are_those_of_the_transport(
    wired: Client, real: Sandbox, kind: str, met: type[Exception], handed_in: int
) -> None:
    session = wired.open()
    real.faults.add(Fault("sendInvoice", kind))
    with pytest.raises(met):
        wired.send(session, invoice("FV/1", issue_date=TODAY))
    assert len(real.invoices()) == handed_in
    assert wired.call("GET", "/rate-limits").status_code == 200


def test_a_delay_meets_the_clients_timeout(wired: Client, real: Sandbox) -> None:
    real.faults.add(Fault("rateLimits", "delay", seconds=600))
    with pytest.raises(httpx.ReadTimeout):
        wired.call("GET", "/rate-limits", timeout=0.05)


def test_an_outage_ends_by_control_over_the_same_address(wired: Client, server: Server) -> None:
    control = f"{server.root}/sandbox/outage"
    assert httpx.post(control, json={"style": "refused"}).status_code == 204
    with pytest.raises(httpx.TransportError):
        wired.call("GET", "/rate-limits")
    assert httpx.delete(control).status_code == 204
    assert wired.call("GET", "/rate-limits").status_code == 200


def test_a_stopped_server_is_gone_even_for_kept_alive_clients(real: Sandbox) -> None:
    with real.serve() as server, httpx.Client(base_url=server.base_url) as http:
        assert http.post("/auth/challenge").status_code == 200
        assert real.base_url == server.base_url
        server.stop()
        with pytest.raises(httpx.TransportError):
            http.post("/auth/challenge")
    assert real.base_url == "http://ksef.sandbox/v2"
    with httpx.Client(base_url=real.base_url, transport=real.transport()) as again:
        assert again.post("/auth/challenge").status_code == 200


def test_many_clients_at_once_lose_nothing(server: Server, real: Sandbox) -> None:
    failures: list[BaseException] = []

    def work(worker: int) -> None:
        try:
            with httpx.Client(base_url=server.base_url, timeout=60) as http:
                client = Client(real, http=http).login(signer(now=datetime.now(UTC)))
                session = client.open()
                for number in range(5):
                    client.sent(session, invoice(f"FV/{worker}/{number}", issue_date=TODAY))
                client.close(session)
        except BaseException as fault:
            failures.append(fault)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    accepted = real.accepted()
    assert len({item.ksef_number for item in accepted}) == 30
    assert len({item.invoice_number for item in accepted}) == 30


# --- as a program


def start(tmp_path: Path, port: int = 0) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    code = (
        "from pathlib import Path; from ksefbuffer.sandbox import main; "
        f"main('127.0.0.1', {port}, Path({str(tmp_path / 'state.db')!r}), 0.0, 'none')"
    )
    with (tmp_path / "log").open("a") as log:
        program = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=log, text=True, cwd=Path(__file__).parents[2]
        )
    assert program.stdout
    return program, json.loads(program.stdout.readline())


def finish(program: subprocess.Popen[str], number: int) -> int:
    program.send_signal(number)
    code = program.wait(60)
    assert program.stdout
    rest = program.stdout.read()
    program.stdout.close()
    assert rest == ""
    return code


class Program:
    """Just enough of a Sandbox for the test client, when the sandbox runs elsewhere."""

    latency_s = 0.0

    @staticmethod
    def clock() -> datetime:
        return datetime.now(UTC)


def test_the_program_says_one_line_and_ends_on_sigterm(tmp_path: Path) -> None:
    program, ready = start(tmp_path)
    assert set(ready) == {"base_url", "latarnia_url", "qr_url", "control_url"}
    assert httpx.post(f"{ready['base_url']}/auth/challenge").status_code == 200
    assert finish(program, signal.SIGTERM) == 0


def test_what_was_answered_survives_kill_9(tmp_path: Path) -> None:
    program, ready = start(tmp_path)
    with httpx.Client(base_url=ready["base_url"], timeout=60) as http:
        client = Client(Program(), http=http).login(signer(now=datetime.now(UTC)))  # type: ignore[arg-type]
        session = client.open()
        status = client.verdict(session, invoice("FV/1", issue_date=TODAY))
        assert client.close(session).status_code == 204
        keys = client.call("GET", "/security/public-key-certificates", token="").json()
        upo = http.get(status["upoDownloadUrl"]).content
        assert finish(program, signal.SIGKILL) == -signal.SIGKILL

        program, again = start(tmp_path, port=httpx.URL(ready["base_url"]).port or 0)
        assert again == ready
        assert client.invoice(session, status["referenceNumber"])["ksefNumber"] == status["ksefNumber"]
        assert client.session(session)["status"]["code"] == 200
        assert client.call("GET", "/security/public-key-certificates", token="").json() == keys
        assert http.get(status["upoDownloadUrl"]).content == upo
        second = client.open()
        assert second.reference != session.reference
        assert client.verdict(second, invoice("FV/1", seed=3, issue_date=TODAY))["status"]["code"] == 440
        token = httpx.post(f"{again['control_url']}/tokens", json={"nip": NIP}).json()["token"]
        client.login_by_token(token)
        assert finish(program, signal.SIGINT) == 0
    log = (tmp_path / "log").read_text()
    assert "sendInvoice 202" in log
    for secret in (client.access, token, "sig="):
        assert secret not in log
