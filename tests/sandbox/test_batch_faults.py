"""Trouble to order with batch sessions: FACTS §5 (6) and pitfalls 4 to 13."""

from __future__ import annotations

from contextlib import suppress

import httpx
import pytest

from ksefbuffer.sandbox import Fault, Sandbox
from tests.samples import invoice
from tests.sandbox.client import Client, FakeClock, codes
from tests.sandbox.packing import Batch, close_batch, hand_in, listed, open_batch, put, zipped

FILES = {f"{number}.xml": invoice(f"FV/{number}") for number in (1, 2, 3)}


@pytest.fixture
def logged(client: Client) -> Client:
    client.troubled = True
    return client.login()


@pytest.fixture
def uploaded(logged: Client) -> Batch:
    batch = open_batch(logged, zipped(FILES))
    assert put(logged, batch).status_code == 201
    return batch


def code(client: Client, batch: Batch) -> int:
    return int(client.session(batch)["status"]["code"])


@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_close_answered_with_an_error_that_was_nevertheless_obeyed(
    logged: Client, uploaded: Batch, sandbox: Sandbox, status: int
) -> None:
    sandbox.faults.add(Fault("closeBatch", "status_after", status=status))
    assert close_batch(logged, uploaded).status_code == status
    again = close_batch(logged, uploaded)
    assert codes(again) == [21180]
    assert "(150)" in again.text
    logged.settle()
    assert code(logged, uploaded) == 200
    assert len(sandbox.accepted()) == 3


def test_a_close_whose_answer_was_cut_off(logged: Client, uploaded: Batch, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("closeBatch", "cut_after"))
    with pytest.raises(httpx.RemoteProtocolError):
        close_batch(logged, uploaded)
    assert code(logged, uploaded) == 150


def test_a_close_that_never_arrived(logged: Client, uploaded: Batch, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("closeBatch", "status", status=504))
    assert close_batch(logged, uploaded).status_code == 504
    logged.settle()
    assert code(logged, uploaded) == 100
    assert close_batch(logged, uploaded).status_code == 204


def test_an_opening_whose_answer_was_cut_off_is_found_in_the_list(logged: Client, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("openBatch", "cut_after"))
    with pytest.raises(httpx.RemoteProtocolError):
        open_batch(logged, zipped(FILES))
    found = logged.call("GET", "/sessions", params={"sessionType": "Batch"}).json()["sessions"]
    assert [item["status"]["code"] for item in found] == [100]


def test_a_storage_that_lags_behind(logged: Client, uploaded: Batch, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("closeBatch", "storage_lag", times=2))
    for _ in range(2):
        assert codes(close_batch(logged, uploaded)) == [21205]
        assert code(logged, uploaded) == 100
    assert close_batch(logged, uploaded).status_code == 204


def test_a_session_denied_at_random(logged: Client, uploaded: Batch, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("closeBatch", "session_unknown"))
    sandbox.faults.add(Fault("sessionStatus", "session_unknown", skip=1))
    assert codes(close_batch(logged, uploaded)) == [21173]
    assert code(logged, uploaded) == 100
    assert codes(logged.call("GET", f"/sessions/{uploaded.reference}")) == [21173]
    assert close_batch(logged, uploaded).status_code == 204
    assert code(logged, uploaded) == 150


def test_a_denied_session_is_no_matter_of_other_operations(logged: Client, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("*", "session_unknown"))
    batch = open_batch(logged, zipped(FILES))
    assert put(logged, batch).status_code == 201
    assert codes(close_batch(logged, batch)) == [21173]


@pytest.mark.parametrize("status", [405, 415, 420, 430, 435, 440, 445, 500])
@pytest.mark.parametrize("operation", ["openBatch", "uploadPart", "closeBatch"])
def test_an_ordered_end_of_a_batch_session(logged: Client, sandbox: Sandbox, status: int, operation: str) -> None:
    sandbox.faults.add(Fault(operation, "session_status", code=status, details=("na zamówienie",)))
    batch = hand_in(logged, FILES)
    assert code(logged, batch) == 150
    logged.settle()
    told = logged.session(batch)["status"]
    assert (told["code"], told["details"]) == (status, ["na zamówienie"])
    assert sandbox.invoices() == []
    assert listed(logged, batch) == []
    # The same again goes well.
    second = hand_in(logged, FILES)
    logged.settle()
    assert code(logged, second) == 200


def test_a_stuck_session_waits_until_released(
    logged: Client, uploaded: Batch, sandbox: Sandbox, clock: FakeClock
) -> None:
    sandbox.faults.add(Fault("closeBatch", "stuck"))
    assert close_batch(logged, uploaded).status_code == 204
    clock.forward(days=2)
    logged.login()
    assert code(logged, uploaded) == 150
    assert (listed(logged, uploaded), sandbox.invoices()) == ([], [])
    assert sandbox.release() == 1
    assert code(logged, uploaded) == 200
    # Processed now, not two days ago.
    acquired = listed(logged, uploaded)[0]["acquisitionDate"]
    assert acquired.startswith(clock.now.isoformat()[:19])
    assert sandbox.release() == 0


def test_a_part_answered_by_the_firewall_is_not_stored(logged: Client, sandbox: Sandbox) -> None:
    batch = open_batch(logged, zipped(FILES))
    sandbox.faults.add(Fault("uploadPart", "html"))
    page = put(logged, batch)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html")
    assert codes(close_batch(logged, batch)) == [21205]
    assert put(logged, batch).status_code == 201


@pytest.mark.parametrize(("kind", "stored"), [("cut_before", False), ("cut_after", True), ("cut_body", True)])
def test_an_upload_that_was_cut(logged: Client, sandbox: Sandbox, kind: str, stored: bool) -> None:
    batch = open_batch(logged, zipped(FILES))
    sandbox.faults.add(Fault("uploadPart", kind))
    with suppress(httpx.TransportError):
        put(logged, batch)
    closed = close_batch(logged, batch)
    assert (closed.status_code == 204) is stored


def test_nothing_is_left_of_uploads_that_were_not_stored(logged: Client, sandbox: Sandbox) -> None:
    batch = open_batch(logged, zipped(FILES))
    sandbox.faults.add(Fault("uploadPart", "status", times=3))
    for _ in range(3):
        assert put(logged, batch).status_code == 503
    folder = sandbox._world.shelf.folder
    assert list(folder.iterdir()) == []
    put(logged, batch)
    assert len(list(folder.iterdir())) == 1
    close_batch(logged, batch)
    logged.settle()
    assert code(logged, batch) == 200
    assert list(folder.iterdir()) == []


def test_an_ordered_verdict_on_one_invoice_of_a_package(logged: Client, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("closeBatch", "invoice_status", code=435, ordinal=2, details=("na zamówienie",)))
    sandbox.faults.add(Fault("closeBatch", "invoice_status", code=500, ordinal=3))
    batch = hand_in(logged, FILES)
    logged.settle()
    assert [item["status"]["code"] for item in listed(logged, batch)] == [200, 435, 500]
    assert listed(logged, batch)[1]["status"]["details"] == ["na zamówienie"]
    second = hand_in(logged, FILES)
    logged.settle()
    assert [item["status"]["code"] for item in listed(logged, second)] == [440, 200, 200]


def test_an_ordered_verdict_on_a_whole_package(logged: Client, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("closeBatch", "invoice_status", code=550, ordinal=None))
    batch = hand_in(logged, FILES)
    logged.settle()
    assert {item["status"]["code"] for item in listed(logged, batch)} == {550}
    assert code(logged, batch) == 445


def test_duplicates_that_name_the_wrong_original_session(logged: Client, sandbox: Sandbox) -> None:
    first = hand_in(logged, FILES)
    logged.settle()
    sandbox.faults.add(Fault("closeBatch", "wrong_original_session"))
    numbers = [item["ksefNumber"] for item in listed(logged, first)]
    for batch, named in ((hand_in(logged, FILES), "own"), (hand_in(logged, FILES), "original")):
        logged.settle()
        told = [item["status"]["extensions"] for item in listed(logged, batch)]
        assert [item["originalKsefNumber"] for item in told] == numbers
        expected = batch if named == "own" else first
        assert {item["originalSessionReferenceNumber"] for item in told} == {expected.reference}


def test_a_killed_batch_brings_nothing(logged: Client, sandbox: Sandbox) -> None:
    batch = hand_in(logged, FILES)
    sandbox.kill_session(batch.reference, 500)
    logged.settle()
    assert code(logged, batch) == 500
    assert sandbox.invoices() == []


def test_faults_of_batches_by_the_control_interface(logged: Client, sandbox: Sandbox) -> None:
    order = {"operation": "closeBatch", "kind": "invoice_status", "code": 450, "ordinal": 3}
    assert logged.http.post("http://ksef.sandbox/sandbox/faults", json=order).status_code == 201
    batch = hand_in(logged, FILES)
    logged.settle()
    assert [item["status"]["code"] for item in listed(logged, batch)] == [200, 200, 450]
