from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ksefbuffer.sandbox import Request, Sandbox
from tests.samples import NIP, invoice
from tests.sandbox.client import Client, FakeClock, codes
from tests.sandbox.packing import close_batch, hand_in, listed, open_batch, put, zipped


def test_everything_survives_a_restart(tmp_path: Path, clock: FakeClock) -> None:
    state = tmp_path / "new folder" / "state.db"
    before = Sandbox(state, clock=clock, latency_s=2, limits="none")
    client = Client(before, clock).login()
    session = client.open()
    accepted = client.verdict(session, invoice("FV/1"))
    pending = client.sent(session, invoice("FV/2"))
    token = before.issue_token(NIP)
    before.grant(NIP, "Nip", "1111111111")
    client.call("GET", "/rate-limits", content=b"x")
    evidence, deviations = before.invoices(), before.deviations
    keys = client.call("GET", "/security/public-key-certificates", token="").json()
    before.close()

    after = Sandbox(state, clock=clock, latency_s=2, limits="none")
    again = Client(after, clock)
    again.access, again.refresh_token = client.access, client.refresh_token
    assert after.invoices() == evidence
    assert after.deviations == deviations
    assert again.call("GET", "/security/public-key-certificates", token="").json() == keys
    assert again.invoice(session, accepted["referenceNumber"])["ksefNumber"] == accepted["ksefNumber"]
    clock.forward(seconds=2)
    assert again.invoice(session, pending)["status"]["code"] == 200
    assert again.sent(session, invoice("FV/3"))
    assert again.verdict(session, invoice("FV/1", seed=5))["status"]["code"] == 440
    assert again.call("POST", "/auth/token/refresh", token=client.refresh_token).status_code == 200
    assert again.login_by_token(token).close(session).status_code == 204
    after.close()


def test_a_package_survives_a_restart(tmp_path: Path, clock: FakeClock) -> None:
    state = tmp_path / "state.db"
    sandbox = Sandbox(state, clock=clock, latency_s=2, limits="none")
    client = Client(sandbox, clock).login()
    batch = open_batch(client, zipped({"1.xml": invoice("FV/1"), "2.xml": invoice("FV/2")}), parts=2)

    def restart() -> None:
        nonlocal sandbox
        sandbox.close()
        sandbox = Sandbox(state, clock=clock, latency_s=2, limits="none")
        client.http = Client(sandbox, clock).http

    put(client, batch, 1)
    restart()
    put(client, batch, 2)
    restart()
    assert close_batch(client, batch).status_code == 204
    restart()
    assert client.session(batch)["status"]["code"] == 150
    clock.forward(seconds=2)
    restart()
    assert [item["status"]["code"] for item in listed(client, batch)] == [200, 200]
    assert client.session(batch)["status"]["code"] == 200
    assert list((tmp_path / "state.db.parts").iterdir()) == []
    sandbox.close()


def test_an_upload_nobody_answered_for_is_forgotten(tmp_path: Path, clock: FakeClock) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionError

    sandbox = Sandbox(tmp_path / "state.db", clock=clock)
    with pytest.raises(ConnectionError):
        sandbox.receive(broken())
    left = sandbox.receive([b"never", b" handled"])
    assert list(left.parent.iterdir()) == [left]
    sandbox.close()
    Sandbox(tmp_path / "state.db", clock=clock).close()
    assert not left.exists()


def test_a_state_file_from_before_packages_is_read(tmp_path: Path, clock: FakeClock) -> None:
    state = tmp_path / "state.db"
    Sandbox(state, clock=clock).close()
    with closing(sqlite3.connect(state)) as old:
        old.execute("ALTER TABLE invoices DROP COLUMN file_name")
    sandbox = Sandbox(state, clock=clock, latency_s=0, limits="none")
    client = Client(sandbox, clock).login()
    batch = hand_in(client, {"1.xml": invoice()})
    assert listed(client, batch)[0]["invoiceFileName"] == "1.xml"
    sandbox.close()


def test_a_used_challenge_stays_used(tmp_path: Path, clock: FakeClock) -> None:
    from tests.sandbox.client import auth_request, sign, signer

    state = tmp_path / "state.db"
    before = Sandbox(state, clock=clock, limits="none")
    client = Client(before, clock)
    document = sign(auth_request(client.challenge()["challenge"]), signer())
    assert client.hand_in(document).status_code == 202
    before.close()
    after = Sandbox(state, clock=clock, limits="none")
    assert codes(Client(after, clock).hand_in(document)) == [21111]
    after.close()


def test_a_restarted_sandbox_with_a_seed_does_not_repeat_itself(tmp_path: Path, clock: FakeClock) -> None:
    challenges = set()
    for _ in range(3):
        sandbox = Sandbox(tmp_path / "state.db", clock=clock, seed=1)
        challenges.add(Client(sandbox, clock).challenge()["challenge"])
        sandbox.close()
    assert len(challenges) == 3


@pytest.mark.parametrize("address", ["10.1.2.3", "203.0.113.9", "::2", "nonsense"])
def test_control_is_for_this_machine_only(sandbox: Sandbox, address: str) -> None:
    assert sandbox.handle(Request("GET", "/sandbox/invoices", client_ip=address)).status == 403


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_control_from_this_machine(sandbox: Sandbox, address: str) -> None:
    assert sandbox.handle(Request("GET", "/sandbox/invoices", client_ip=address)).status == 200
