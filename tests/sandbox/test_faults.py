from __future__ import annotations

import httpx
import pytest

from ksefbuffer.sandbox import Fault, Sandbox
from tests.samples import invoice
from tests.sandbox.client import Client, FakeClock, Session, codes


@pytest.fixture
def logged(client: Client) -> Client:
    client.troubled = True
    return client.login()


@pytest.fixture
def session(logged: Client) -> Session:
    return logged.open()


def handed_in(sandbox: Sandbox) -> int:
    return len(sandbox.invoices())


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_status_before_the_work(logged: Client, session: Session, sandbox: Sandbox, status: int) -> None:
    sandbox.faults.add(Fault("sendInvoice", "status", status=status, retry_after=7))
    answer = logged.send(session, invoice())
    assert (answer.status_code, answer.headers["retry-after"]) == (status, "7")
    assert handed_in(sandbox) == 0
    assert logged.send(session, invoice()).status_code == 202


def test_a_status_after_the_work(logged: Client, session: Session, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("sendInvoice", "status_after", status=504))
    assert logged.send(session, invoice()).status_code == 504
    assert handed_in(sandbox) == 1


def test_firewall_pages(logged: Client, session: Session, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("sendInvoice", "html"))
    sandbox.faults.add(Fault("sendInvoice", "html_403"))
    page, blocked = logged.send(session, invoice()), logged.send(session, invoice())
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html")
    assert blocked.status_code == 403
    assert "Request blocked" in blocked.text
    assert handed_in(sandbox) == 0


def test_a_cut_before_the_work(logged: Client, session: Session, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("sendInvoice", "cut_before"))
    with pytest.raises(httpx.ReadError):
        logged.send(session, invoice())
    assert handed_in(sandbox) == 0


def test_a_cut_after_the_work(logged: Client, session: Session, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("sendInvoice", "cut_after"))
    with pytest.raises(httpx.RemoteProtocolError):
        logged.send(session, invoice())
    assert handed_in(sandbox) == 1


def test_a_cut_in_the_middle_of_the_body(logged: Client, session: Session, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("sendInvoice", "cut_body"))
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete"):
        logged.send(session, invoice())
    assert handed_in(sandbox) == 1


def test_an_empty_answer_after_the_work(logged: Client, session: Session, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("sendInvoice", "empty"))
    answer = logged.send(session, invoice())
    assert (answer.status_code, answer.content) == (202, b"")
    assert handed_in(sandbox) == 1


def test_a_delay_longer_than_the_clients_patience(logged: Client, session: Session, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("sendInvoice", "delay", seconds=3600))
    with pytest.raises(httpx.ReadTimeout):
        logged.send(session, invoice())
    assert handed_in(sandbox) == 1


def test_a_short_delay_only_delays(logged: Client, session: Session, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("sendInvoice", "delay", seconds=0.001))
    assert logged.send(session, invoice()).status_code == 202


def test_times_and_skip(logged: Client, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("rateLimits", "status", times=2, skip=1))
    assert [logged.call("GET", "/rate-limits").status_code for _ in range(4)] == [200, 503, 503, 200]
    assert [(f["struck"], f["left"]) for f in sandbox.faults.listed()] == [(2, 0)]
    sandbox.faults.add(Fault("*", "status", times=None, status=500))
    assert {logged.call("GET", "/rate-limits").status_code for _ in range(5)} == {500}
    assert logged.call("GET", "/sessions", params={"sessionType": "Online"}).status_code == 500
    sandbox.faults.clear()
    assert logged.call("GET", "/rate-limits").status_code == 200


def test_one_wire_fault_per_call_in_the_order_they_were_added(logged: Client, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("rateLimits", "status", status=502))
    sandbox.faults.add(Fault("*", "status", status=503))
    assert [logged.call("GET", "/rate-limits").status_code for _ in range(3)] == [502, 503, 200]


def test_a_stuck_invoice_waits_until_released(
    logged: Client, session: Session, sandbox: Sandbox, clock: FakeClock
) -> None:
    sandbox.faults.add(Fault("sendInvoice", "stuck"))
    reference = logged.sent(session, invoice("FV/1"))
    logged.close(session)
    clock.forward(hours=3)
    logged.login()
    assert logged.invoice(session, reference)["status"]["code"] == 150
    assert logged.session(session)["status"]["code"] == 170
    assert sandbox.release() == 1
    status = logged.invoice(session, reference)
    assert status["status"]["code"] == 200
    assert status["acquisitionDate"].startswith("2026-11-20T13:15")
    logged.settle()
    assert logged.session(session)["status"]["code"] == 200


@pytest.mark.parametrize("code", [405, 435, 500, 550])
def test_an_ordered_verdict_on_the_next_invoice(logged: Client, session: Session, sandbox: Sandbox, code: int) -> None:
    sandbox.faults.add(Fault("*", "invoice_status", code=code, details=("na zamówienie",)))
    logged.call("GET", "/rate-limits")
    first = logged.verdict(session, invoice("FV/1"))
    assert first["status"]["code"] == code
    assert first["status"]["details"] == ["na zamówienie"]
    assert "ksefNumber" not in first
    assert logged.verdict(session, invoice("FV/1"))["status"]["code"] == 200


def test_an_ordered_end_of_a_session(logged: Client, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("openSession", "session_status", code=415))
    session = logged.open()
    reference = logged.sent(session, invoice())
    logged.settle()
    assert logged.session(session)["status"]["code"] == 415
    assert logged.invoice(session, reference)["status"]["code"] == 405

    sandbox.faults.add(Fault("closeSession", "session_status", code=445))
    second = logged.open()
    logged.close(second)
    assert logged.session(second)["status"]["code"] == 170
    logged.settle()
    assert logged.session(second)["status"]["code"] == 445

    sandbox.faults.add(Fault("sendInvoice", "session_status", code=500))
    third = logged.open()
    reference = logged.sent(third, invoice("FV/3"))
    logged.settle()
    assert logged.session(third)["status"]["code"] == 500
    assert logged.invoice(third, reference)["status"]["code"] == 405


def test_a_mark_and_a_wire_fault_strike_together(logged: Client, session: Session, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("sendInvoice", "stuck"))
    sandbox.faults.add(Fault("sendInvoice", "cut_after"))
    with pytest.raises(httpx.RemoteProtocolError):
        logged.send(session, invoice())
    logged.settle()
    assert [item.status for item in sandbox.invoices()] == [100]


@pytest.mark.parametrize(
    ("style", "met"), [("refused", httpx.ConnectError), ("timeout", httpx.ReadTimeout), ("503", 503), ("html", 200)]
)
def test_an_outage_serves_nobody(logged: Client, sandbox: Sandbox, clock: FakeClock, style: str, met: object) -> None:
    sandbox.outage(60, style=style)

    def call() -> object:
        try:
            return logged.call("GET", "/rate-limits").status_code
        except httpx.TransportError as fault:
            return type(fault)

    assert call() == met
    clock.forward(seconds=59)
    assert call() == met
    clock.forward(seconds=1)
    assert logged.call("GET", "/rate-limits").json()["global"]
    sandbox.outage(style=style)
    clock.forward(minutes=10)
    assert call() == met
    sandbox.stop_outage()
    assert logged.call("GET", "/rate-limits").json()["global"]


def test_processing_goes_on_during_an_outage(logged: Client, session: Session, sandbox: Sandbox) -> None:
    logged.sent(session, invoice())
    sandbox.outage()
    logged.settle()
    assert len(sandbox.accepted()) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "explode"}, {"times": 0}, {"skip": -1}, {"status": 200}, {"kind": "delay", "seconds": -1},
        {"kind": "invoice_status"}, {"kind": "session_status", "code": 100},
        {"kind": "stuck", "operation": "openSession"},
        {"kind": "session_status", "code": 415, "operation": "challenge"},
        {"kind": "storage_lag", "operation": "uploadPart"}, {"kind": "session_unknown", "operation": "openBatch"},
        {"kind": "wrong_original_session", "operation": "sendInvoice"},
        {"kind": "export_status"}, {"kind": "wrong_figure", "details": ["size"]},
        {"kind": "link_expired", "operation": "downloadUpo"}, {"kind": "overlap", "operation": "startExport"},
        {"kind": "delay", "ordinal": 0},
    ],
)  # fmt: skip
def test_faults_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Fault(**wrong)


def test_a_fault_for_an_operation_that_does_not_exist(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="sendInvoice"):
        sandbox.faults.add(Fault("send_invoice"))
    with pytest.raises(ValueError, match="refused"):
        sandbox.outage(style="quiet")


def test_calls_are_counted_by_operation_even_when_they_fail(logged: Client, session: Session, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("sendInvoice", "cut_before"))
    with pytest.raises(httpx.ReadError):
        logged.send(session, invoice())
    logged.send(session, invoice())
    assert sandbox.calls["sendInvoice"] == 2
    assert sandbox.calls["challenge"] == 1


def test_protocol_deviations_are_recorded(logged: Client, session: Session, sandbox: Sandbox) -> None:
    names: list[str] = []

    def noted() -> str:
        names.extend(item.name for item in sandbox.deviations[len(names) :])
        return names[-1] if names else ""

    request = logged.http.build_request("GET", "/rate-limits", headers={"Authorization": f"Bearer {logged.access}"})
    del request.headers["user-agent"]
    assert logged.http.send(request).status_code == 200
    assert noted() == "no-user-agent"
    assert logged.call("GET", "/rate-limits", content=b"x").status_code == 200
    assert noted() == "unexpected-body"
    form = logged.call("POST", "/auth/token/refresh", token=logged.refresh_token, data={"a": "b"})
    assert form.status_code == 415
    assert noted() == "wrong-content-type"
    for method, path, status in (
        ("POST", "/invoices/exports/x/y", 501), ("GET", "/peppol/query", 501), ("PUT", "/sessions", 501),
        ("GET", "/x", 404),
    ):  # fmt: skip
        count = len(sandbox.deviations)
        assert logged.call(method, path).status_code == status
        assert len(sandbox.deviations) == count + 1
        assert noted() == "unknown-operation"
    sandbox.forget_deviations()
    assert sandbox.deviations == []


def test_a_feature_header_is_no_deviation(logged: Client, sandbox: Sandbox) -> None:
    body = logged.opening(bytes(32), bytes(16))
    answer = logged.call("POST", "/sessions/online", json=body, headers={"X-KSeF-Feature": "upo-v4-3"})
    assert answer.status_code == 201
    assert sandbox.deviations == []


def test_a_seed_makes_numbers_repeat(clock: FakeClock) -> None:
    def numbers(seed: int) -> list[str | None]:
        sandbox = Sandbox(clock=FakeClock(), latency_s=1, limits="none", seed=seed)
        client = Client(sandbox, sandbox.clock).login()
        session = client.open()
        return [session.reference, client.verdict(session, invoice())["ksefNumber"]]

    assert numbers(1) == numbers(1)
    assert numbers(1) != numbers(2)


def test_problem_details_keep_mistakes_apart_and_the_classic_shape_lumps_them(logged: Client) -> None:
    apart = logged.call("POST", "/sessions/online", json={})
    assert codes(apart) == [21405, 21405]
    logged.problem = False
    lumped = logged.call("POST", "/sessions/online", json={})
    (item,) = lumped.json()["exception"]["exceptionDetailList"]
    assert len(item["details"]) == 2
