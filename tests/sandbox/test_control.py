from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import pytest
from cryptography.x509.oid import NameOID

from ksefbuffer.sandbox import Sandbox
from tests.samples import NIP, invoice
from tests.sandbox.client import Client, FakeClock, codes, signer


@pytest.fixture
def logged(client: Client) -> Client:
    client.troubled = True
    return client.login()


def order(client: Client, method: str, path: str, body: Any = None) -> httpx.Response:
    with httpx.Client(transport=client.sandbox.transport(), base_url="http://ksef.sandbox/sandbox") as http:
        return http.request(method, path, json=body) if body is not None else http.request(method, path)


def test_faults_by_control(logged: Client) -> None:
    fault = {"operation": "rateLimits", "kind": "status", "status": 502, "times": None}
    assert order(logged, "POST", "/faults", fault).status_code == 201
    assert logged.call("GET", "/rate-limits").status_code == 502
    (listed,) = order(logged, "GET", "/faults").json()
    assert (listed["operation"], listed["struck"], listed["left"]) == ("rateLimits", 1, None)
    assert order(logged, "DELETE", "/faults").status_code == 204
    assert logged.call("GET", "/rate-limits").status_code == 200


@pytest.mark.parametrize(
    "wrong",
    [{"kind": "x"}, {"operation": "x"}, {"kinds": "status"}, {"times": "two"}, [], {"kind": "delay", "seconds": "x"},
     {"kind": 1}, {"details": 3}],
)  # fmt: skip
def test_wrong_faults_are_400(logged: Client, wrong: Any) -> None:
    answer = order(logged, "POST", "/faults", wrong)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_keys_tokens_sessions_and_grants(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    before = logged.public_key("SymmetricKeyEncryption")["publicKeyId"]
    assert order(logged, "POST", "/keys/rotate").status_code == 204
    assert logged.public_key("SymmetricKeyEncryption")["publicKeyId"] != before
    assert order(logged, "POST", "/keys/rotate", {"keepOld": "yes"}).status_code == 400

    token = order(logged, "POST", "/tokens", {"nip": NIP}).json()["token"]
    logged.login_by_token(token)
    assert order(logged, "POST", "/tokens/revoke", {"token": token}).status_code == 204
    assert order(logged, "POST", "/tokens/revoke", {"token": "x"}).status_code == 404
    assert codes(logged.call("POST", "/auth/token/refresh", token=logged.refresh_token)) == [21301]
    assert order(logged, "POST", "/tokens", {"nip": "123"}).status_code == 400
    assert order(logged, "POST", "/tokens/expire").status_code == 204
    assert logged.call("GET", "/rate-limits").status_code == 401

    grant = {"nip": NIP, "subjectType": "Nip", "subjectValue": "1111111111"}
    assert order(logged, "POST", "/grants", grant).status_code == 201
    assert order(logged, "POST", "/grants", {**grant, "subjectType": "Any"}).status_code == 400
    other = Client(sandbox, clock).login(signer({NameOID.ORGANIZATION_IDENTIFIER: "VATPL-1111111111"}), NIP)

    session = other.open()
    assert order(logged, "POST", f"/sessions/{session.reference}/kill", {"code": 415}).status_code == 204
    assert other.session(session)["status"]["code"] == 415
    assert order(logged, "POST", "/sessions/unknown/kill").status_code == 404
    assert order(logged, "POST", f"/sessions/{session.reference}/kill", {"code": 200}).status_code == 400


def test_what_was_handed_in_and_the_deviations(logged: Client, sandbox: Sandbox) -> None:
    session = logged.open()
    logged.verdict(session, invoice("FV/ą"))
    (item,) = order(logged, "GET", "/invoices").json()
    assert item["ksefNumber"] == sandbox.accepted()[0].ksef_number
    assert item["invoiceNumber"] == "FV/ą"
    assert item["status"] == 200
    logged.call("GET", "/rate-limits", content=b"x")
    assert [note["name"] for note in order(logged, "GET", "/deviations").json()] == ["unexpected-body"]
    assert order(logged, "DELETE", "/deviations").status_code == 204
    assert order(logged, "GET", "/deviations").json() == []
    assert order(logged, "GET", "/calls").json()["sendInvoice"] == 1


def test_settings_release_and_outage(logged: Client, clock: FakeClock) -> None:
    assert order(logged, "POST", "/settings", {"latencySeconds": 60}).json() == {"latencySeconds": 60}
    session = logged.open()
    order(logged, "POST", "/faults", {"operation": "sendInvoice", "kind": "stuck"})
    reference = logged.sent(session, invoice())
    clock.forward(seconds=61)
    assert order(logged, "POST", "/release").json() == {"released": 1}
    assert logged.invoice(session, reference)["status"]["code"] == 200
    for wrong in ({"latencySeconds": -1}, {"latencySeconds": "1"}, {}):
        assert order(logged, "POST", "/settings", wrong).status_code == 400
    assert order(logged, "POST", "/outage", {"style": "503", "seconds": 10}).status_code == 204
    assert logged.call("GET", "/rate-limits").status_code == 503
    assert order(logged, "DELETE", "/outage").status_code == 204
    assert order(logged, "POST", "/outage", {"style": "x"}).status_code == 400
    assert order(logged, "POST", "/outage", {"seconds": 0}).status_code == 400
    assert logged.call("GET", "/rate-limits").status_code == 200


def test_unknown_controls_name_the_known_ones(logged: Client) -> None:
    answer = order(logged, "GET", "/nothing")
    assert answer.status_code == 404
    assert "POST /sandbox/faults" in answer.json()["controls"]
    with httpx.Client(transport=logged.sandbox.transport()) as http:
        assert http.post("http://ksef.sandbox/sandbox/faults", content=b"{").status_code == 400


def test_identities_by_control(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    until = (clock.now + timedelta(hours=1)).isoformat()
    body = {"nip": NIP, "permissions": ["InvoiceRead"], "validUntil": until}
    token = order(logged, "POST", "/tokens", body).json()["token"]
    reader = Client(sandbox, clock).login_by_token(token)
    assert reader.call("GET", "/sessions?sessionType=Online").status_code == 403
    assert order(logged, "POST", "/tokens/end", {"token": token}).status_code == 204
    assert codes(reader.call("POST", "/auth/token/refresh", token=reader.refresh_token)) == [21301]
    assert order(logged, "POST", "/tokens/end", {"token": "x"}).status_code == 404
    for wrong in ({"permissions": ["All"]}, {"permissions": "InvoiceRead"}, {"validUntil": "soon"}, {"scope": 1}):
        assert order(logged, "POST", "/tokens", {"nip": NIP, **wrong}).status_code == 400

    grant = {"nip": NIP, "subjectType": "Nip", "subjectValue": "1111111111", "permissions": ["InvoiceRead"]}
    assert order(logged, "POST", "/grants", grant).status_code == 201
    other = Client(sandbox, clock).login(signer({NameOID.ORGANIZATION_IDENTIFIER: "VATPL-1111111111"}), NIP)
    assert other.call("GET", "/sessions?sessionType=Online").status_code == 403
    assert order(logged, "DELETE", "/grants", grant).status_code == 204
    assert order(logged, "DELETE", "/grants", grant).status_code == 404


def test_certificates_by_control(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    made = order(logged, "POST", "/certificates", {"type": "Offline", "subjectValue": NIP, "key": "rsa"})
    assert made.status_code == 201
    serial = made.json()["serial"]
    assert made.json()["privateKey"].startswith("-----BEGIN PRIVATE KEY-----")
    (item,) = order(logged, "GET", "/certificates").json()
    assert (item["serial"], item["type"], item["status"]) == (serial, "Offline", "Active")
    assert order(logged, "GET", "/certificates/authority").text.startswith("-----BEGIN CERTIFICATE-----")
    assert order(logged, "POST", "/certificates/revoke", {"serial": serial}).status_code == 204
    assert order(logged, "POST", "/certificates/revoke", {"serial": serial}).status_code == 400
    assert order(logged, "POST", "/certificates/revoke", {"serial": "0" * 16}).status_code == 404
    person = {"type": "Authentication", "subjectType": "Pesel", "subjectValue": "90010112345"}
    serial = order(logged, "POST", "/certificates", person).json()["serial"]
    assert order(logged, "POST", "/certificates/expire", {"serial": serial}).status_code == 204
    assert [item["status"] for item in order(logged, "GET", "/certificates").json()] == ["Blocked", "Expired"]
    clock.forward(seconds=2)
    assert order(logged, "GET", "/certificates").json()[0]["status"] == "Revoked"
    for wrong in ({"type": "Both"}, {"subjectType": "Any"}, {"key": "dsa"}, {"validFrom": 5}, {"name": "x"}):
        assert order(logged, "POST", "/certificates", {**person, **wrong}).status_code == 400

    assert order(logged, "POST", "/certificates/limits", {"enrollments": 3, "seconds": 60}).status_code == 204
    told = logged.call("GET", "/certificates/limits").json()
    assert (told["enrollment"]["limit"], told["certificate"]["limit"]) == (3, 100)
    assert sandbox.enrollment_s == 60
    assert order(logged, "POST", "/certificates/limits", {}).status_code == 204
    assert logged.call("GET", "/certificates/limits").json()["enrollment"]["limit"] == 300
    assert sandbox.enrollment_s is None
    for wrong in ({"enrollments": -1}, {"enrollments": "3"}, {"seconds": -1}, {"limit": 5}):
        assert order(logged, "POST", "/certificates/limits", wrong).status_code == 400


def test_a_cut_line_by_control(logged: Client) -> None:
    latarnia = "http://ksef.sandbox/latarnia/status"
    assert order(logged, "POST", "/outage", {"style": "503"}).status_code == 204
    assert logged.http.get(latarnia).status_code == 200
    assert order(logged, "POST", "/outage", {"style": "503", "everything": True}).status_code == 204
    assert logged.http.get(latarnia).status_code == 503
    assert order(logged, "POST", "/outage", {"everything": "yes"}).status_code == 400
