from __future__ import annotations

import itertools
import json
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from ksefbuffer.sandbox import Fault, Sandbox, Server, processing
from ksefbuffer.sandbox.examination import examine_file
from tests.samples import NIP, invoice
from tests.sandbox.client import Client, codes, signer
from tests.sandbox.packing import Batch, close_batch, hand_in, listed, open_batch, put, zipped

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


# --- packages


def processed(client: Client, batch: Batch) -> dict[str, Any]:
    """The session's status when it is no longer being processed."""
    while (told := client.session(batch))["status"]["code"] == 150:
        pass
    return told


@pytest.mark.parametrize("compression", ["Zip", "TarGz"])
def test_a_package_over_a_socket(wired: Client, real: Sandbox, compression: str) -> None:
    files = {f"{number}.xml": invoice(f"FV/{number}", issue_date=TODAY) for number in range(150)}
    batch = hand_in(wired, files, compression=compression, parts=3)
    assert processed(wired, batch)["successfulInvoiceCount"] == 150
    assert len({item["ksefNumber"] for item in listed(wired, batch)}) == 150
    assert real.deviations == []


def test_parts_may_go_up_side_by_side(wired: Client, real: Sandbox) -> None:
    files = {f"{number}.xml": invoice(f"FV/{number}", issue_date=TODAY, seed=number) for number in range(50)}
    batch = open_batch(wired, zipped(files), parts=12)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda ordinal: put(wired, batch, ordinal).status_code, range(1, 13)))
    assert answers == [201] * 12
    assert close_batch(wired, batch).status_code == 204
    assert processed(wired, batch)["successfulInvoiceCount"] == 50


def test_only_parts_may_be_large(wired: Client, server: Server) -> None:
    batch = open_batch(wired, b"x")
    assert put(wired, batch, content=bytes(7_000_000)).status_code == 201
    upload = urlsplit(batch.uploads[0]["url"])
    host, _, port = server.root.removeprefix("http://").partition(":")
    for path, length, line in (
        (
            f"{upload.path}?{upload.query}",
            b"Content-Length: 128000001\r\n",
            b"HTTP/1.1 413 Request Entity Too Large\r\n",
        ),
        (f"{upload.path}?{upload.query}", b"Transfer-Encoding: chunked\r\n", b"HTTP/1.1 411 Length Required\r\n"),
        ("/storage/00/x", b"Content-Length: 7000000\r\n", b"HTTP/1.1 413 Request Entity Too Large\r\n"),
    ):
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(b"PUT " + path.encode() + b" HTTP/1.1\r\nHost: x\r\n" + length + b"\r\n")
            assert connection.makefile("rb").readline() == line


def test_half_an_upload_is_none(wired: Client, real: Sandbox, server: Server) -> None:
    batch = open_batch(wired, zipped({"1.xml": invoice(issue_date=TODAY)}))
    upload = urlsplit(batch.uploads[0]["url"])
    host, _, port = server.root.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        head = f"PUT {upload.path}?{upload.query} HTTP/1.1\r\nHost: x\r\nx-ms-blob-type: BlockBlob\r\n"
        connection.sendall(f"{head}Content-Length: {len(batch.parts[0])}\r\n\r\n".encode() + batch.parts[0][:-1])
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(10) == b""
    assert real.calls["uploadPart"] == 0
    assert list(real._world.shelf.folder.iterdir()) == []
    assert codes(close_batch(wired, batch)) == [21205]


@pytest.mark.parametrize(("kind", "met"), [("cut_before", httpx.ReadError), ("cut_after", httpx.RemoteProtocolError)])
def test_cuts_of_uploads(wired: Client, real: Sandbox, kind: str, met: type[Exception]) -> None:
    batch = open_batch(wired, zipped({"1.xml": invoice(issue_date=TODAY)}))
    real.faults.add(Fault("uploadPart", kind))
    with pytest.raises(met):
        put(wired, batch)
    assert len(list(real._world.shelf.folder.iterdir())) == (kind == "cut_after")
    assert put(wired, batch).status_code == 201
    assert close_batch(wired, batch).status_code == 204


def test_others_are_served_while_a_package_is_examined(wired: Client, real: Sandbox) -> None:
    wanted, entered = threading.Event(), threading.Event()

    def slowly(*arguments: Any, **more: Any) -> Any:
        entered.set()
        assert wanted.wait(60)
        return examine_file(*arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processing, "examine_file", slowly)
        batch = hand_in(wired, {"1.xml": invoice("FV/1", issue_date=TODAY)})
        assert entered.wait(60)
        session = wired.open()
        assert wired.verdict(session, invoice("FV/2", issue_date=TODAY))["status"]["code"] == 200
        assert wired.session(batch)["status"]["code"] == 150
        assert listed(wired, batch) == []
        assert len(real.invoices()) == 1
        wanted.set()
        assert processed(wired, batch)["status"]["code"] == 200


def test_a_session_killed_while_it_is_examined_brings_nothing(wired: Client, real: Sandbox) -> None:
    wanted, entered = threading.Event(), threading.Event()

    def slowly(*arguments: Any, **more: Any) -> Any:
        entered.set()
        assert wanted.wait(60)
        return examine_file(*arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processing, "examine_file", slowly)
        batch = hand_in(wired, {"1.xml": invoice("FV/1", issue_date=TODAY)})
        assert entered.wait(60)
        examiner = real._examiner._thread
        assert examiner is not None
        real.kill_session(batch.reference)
        wanted.set()
        examiner.join()
    assert wired.session(batch)["status"]["code"] == 500
    assert (real.invoices(), listed(wired, batch)) == ([], [])
    assert real._world.store.all("SELECT 1 FROM invoices") == []


def test_a_package_left_half_examined_is_begun_again(tmp_path: Path) -> None:
    reached, wanted = threading.Event(), threading.Event()
    files = {f"{number}.xml": invoice(f"FV/{number}", issue_date=TODAY) for number in range(5)}
    count = itertools.count(1)

    def stopping_at_the_third(*arguments: Any, **more: Any) -> Any:
        if next(count) == 3:
            reached.set()
            assert wanted.wait(60)
        return examine_file(*arguments, **more)

    sandbox = Sandbox(tmp_path / "state.db", latency_s=0, limits="none")
    client = Client(sandbox).login()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processing, "_FILES_AT_ONCE", 1)
        patch.setattr(processing, "examine_file", stopping_at_the_third)
        batch = hand_in(client, files)
        assert reached.wait(60)
        # Two are entered, and nobody sees them.
        assert sandbox._world.store.one("SELECT count(*) AS count FROM invoices")["count"] == 2  # type: ignore[index]
        assert (listed(client, batch), client.session(batch)["invoiceCount"], sandbox.invoices()) == ([], 0, [])
        sandbox._examiner._halt.set()
        wanted.set()
        sandbox.close()
    with closing(sqlite3.connect(tmp_path / "state.db")) as state:
        assert state.execute("SELECT count(*) FROM invoices").fetchone() == (2,)

    again = Sandbox(tmp_path / "state.db", latency_s=0, limits="none")
    client.http = Client(again).http
    assert processed(client, batch)["successfulInvoiceCount"] == 5
    assert [item["ordinalNumber"] for item in listed(client, batch)] == [1, 2, 3, 4, 5]
    assert again.deviations == []
    again.close()


def test_closing_the_sandbox_waits_for_the_examination(wired: Client, real: Sandbox) -> None:
    hand_in(wired, {f"{number}.xml": invoice(f"FV/{number}", issue_date=TODAY) for number in range(300)})
    real.close()
    assert not any(thread.name == "sandbox-examiner" for thread in threading.enumerate())


def test_a_fault_of_the_sandbox_itself_ends_the_session_with_500(wired: Client) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processing, "examine_file", None)
        batch = hand_in(wired, {"1.xml": invoice("FV/1", issue_date=TODAY)})
        assert processed(wired, batch)["status"]["code"] == 500
    again = hand_in(wired, {"1.xml": invoice("FV/1", issue_date=TODAY)})
    assert processed(wired, again)["status"]["code"] == 200


# --- as a program


def start(tmp_path: Path, port: int = 0) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    code = (
        "from pathlib import Path; from ksefbuffer.sandbox import main; "
        f"main('127.0.0.1', {port}, Path({str(tmp_path / 'state.db')!r}), 0.0, 'none', 60.0)"
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


def test_a_package_survives_kill_9_at_every_step(tmp_path: Path) -> None:
    program, ready = start(tmp_path)
    port = httpx.URL(ready["base_url"]).port or 0
    files = {f"{number}.xml": invoice(f"FV/{number}", issue_date=TODAY, seed=number) for number in range(1000)}

    def restart() -> None:
        nonlocal program
        assert finish(program, signal.SIGKILL) == -signal.SIGKILL
        program, _ = start(tmp_path, port)

    with httpx.Client(base_url=ready["base_url"], timeout=60) as http:
        client = Client(Program(), http=http).login(signer(now=datetime.now(UTC)))  # type: ignore[arg-type]
        batch = open_batch(client, zipped(files), parts=2)
        restart()
        assert put(client, batch, 1).status_code == 201
        restart()
        assert put(client, batch, 2).status_code == 201
        restart()
        assert close_batch(client, batch).status_code == 204
        # In the middle of the examination, most likely; wherever it is, nothing is lost or doubled.
        restart()
        restart()
        assert processed(client, batch)["successfulInvoiceCount"] == 1000
        numbers = {item["ksefNumber"] for item in listed(client, batch)}
        restart()
        assert {item["ksefNumber"] for item in listed(client, batch)} == numbers
        assert len(numbers) == 1000
        assert http.get(f"{ready['control_url']}/deviations").json() == []
    assert finish(program, signal.SIGTERM) == 0
    assert list((tmp_path / "state.db.parts").iterdir()) == []


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
