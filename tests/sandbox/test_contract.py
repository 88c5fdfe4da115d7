"""Every operation once, every answer judged by the official OpenAPI document; and the judge itself is tested."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode

import pytest

from ksefbuffer.sandbox import Sandbox
from ksefbuffer.sandbox.operations import OPERATIONS
from tests.samples import ISSUE_DATE, NIP, NOW, invoice
from tests.sandbox import contract
from tests.sandbox.client import Client
from tests.sandbox.enrolling import enrolled
from tests.sandbox.packing import hand_in, listed
from tests.sandbox.taking import ask, finished, start, taken

pytestmark = pytest.mark.skipif(
    not contract.DOCUMENT.exists(), reason="the official open-api.json (shared/ksef) is not beside this checkout"
)


def go_through_everything(client: Client) -> None:
    client.login()
    client.login_by_token(client.sandbox.issue_token(NIP))
    client.call("POST", "/auth/token/refresh", token=client.refresh_token)
    client.call("GET", "/auth/sessions")
    session = client.open()
    contents = [invoice("FV/1"), invoice("FV/1", seed=2), b"<a/>", invoice("FV/2", type="ZAL", buyer_nip="1111111111")]
    verdicts = [client.verdict(session, content) for content in contents]
    client.settle()
    pending = client.sent(session, invoice("FV/3"))
    client.invoice(session, pending)
    base = f"/sessions/{session.reference}"
    for path in (base, f"{base}/invoices", f"{base}/invoices/failed", "/sessions?sessionType=Online", "/rate-limits",
                 "/limits/context"):  # fmt: skip
        assert client.call("GET", path).status_code == 200
    number = verdicts[0]["ksefNumber"]
    for path in (f"{base}/invoices/{verdicts[0]['referenceNumber']}/upo", f"{base}/invoices/ksef/{number}/upo",
                 f"/invoices/ksef/{number}"):  # fmt: skip
        assert client.xml(path).status_code == 200
    period = {"dateType": "PermanentStorage", "from": NOW.isoformat()}
    found = client.call("POST", "/invoices/query/metadata", json={"subjectType": "Subject1", "dateRange": period})
    assert len(found.json()["invoices"]) == 2
    export = finished(client, "Subject1", compressionType="TarGz")
    assert len(taken(client, export)[0]) == 2
    assert ask(client, start(client)).code == 100
    client.close(session)
    client.session(session)
    client.settle()
    done = client.session(session)
    page = done["upo"]["pages"][0]
    assert client.xml(f"{base}/upo/{page['referenceNumber']}").status_code == 200
    assert client.http.get(page["downloadUrl"]).status_code == 200
    batch = hand_in(client, {"1.xml": invoice("FV/4"), "2.xml": invoice("FV/4"), "3.xml": b"<a/>"})
    client.session(batch)
    client.settle()
    assert client.session(batch)["status"]["code"] == 200
    assert [item["status"]["code"] for item in listed(client, batch)] == [200, 440, 450]
    assert client.call("GET", "/sessions?sessionType=Batch").status_code == 200
    go_through_identities(client)
    go_through_codes(client, contents[0])
    client.login()
    reference = client.call("GET", "/auth/sessions").json()["items"][0]["referenceNumber"]
    assert client.call("DELETE", f"/auth/sessions/{reference}").status_code == 204
    client.login()
    assert client.call("DELETE", "/auth/sessions/current").status_code == 204


def go_through_identities(client: Client) -> None:
    client.login()
    assert client.call("GET", "/certificates/limits").status_code == 200
    got = enrolled(client)
    assert client.call("POST", "/certificates/query", json={"type": "Authentication"}).status_code == 200
    client.login(got)
    made = client.call("POST", "/tokens", json={"permissions": ["InvoiceWrite"], "description": "Kasa nr 1"}).json()
    assert client.call("GET", f"/tokens/{made['referenceNumber']}").json()["status"] == "Pending"
    client.settle()
    assert client.call("GET", "/tokens?status=Active&description=kasa").status_code == 200
    client.login_by_token(made["token"])
    assert client.call("GET", "/permissions/attachments/status").status_code == 403
    assert client.call("POST", "/permissions/query/personal/grants", json={}).status_code == 200
    assert client.login().call("GET", "/permissions/attachments/status").status_code == 200
    assert client.call("DELETE", f"/tokens/{made['referenceNumber']}").status_code == 204
    assert client.call("GET", f"/tokens/{made['referenceNumber']}").json()["status"] == "Revoking"
    assert client.call("POST", f"/certificates/{got.serial}/revoke").status_code == 204


def go_through_codes(client: Client, content: bytes) -> None:
    root = str(client.http.base_url).removesuffix("/v2/")
    for path in ("/latarnia/status", "/latarnia/messages"):
        assert client.http.get(root + path).status_code == 200
    mark = urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    assert client.http.get(f"{root}/qr/invoice/{NIP}/{ISSUE_DATE:%d-%m-%Y}/{mark}").status_code == 200
    link = f"{root}/qr/certificate/Nip/{NIP}/{NIP}/{'0' * 16}/{mark}/{mark}"
    assert client.http.get(link).status_code == 200


def test_every_operation_answers_as_the_official_document_says(client: Client, sandbox: Sandbox) -> None:
    go_through_everything(client)
    assert contract.complaints(client.seen) == []
    assert set(sandbox.calls) == {operation.name for operation in OPERATIONS}
    # The package held one file twice, to see its duplicate refused.
    assert [item.name for item in sandbox.deviations] == ["double-send"]


def test_classic_refusals_are_as_the_document_says(client: Client) -> None:
    client.login()
    client.problem = False
    for answer in (
        client.call("POST", "/sessions/online", json={}),
        client.call("GET", "/sessions/20261120-SO-0123456789-0123456789-AB"),
        client.call("GET", "/rate-limits", token="x"),
    ):
        assert answer.status_code in {400, 401}
    assert contract.complaints(client.seen) == []


def test_the_judge_notices(client: Client) -> None:
    client.challenge()
    answer = client.seen.pop()
    body = answer.json()
    for wrong in ({**body, "challenge": "short"}, {"challenge": body["challenge"]}, {**body, "timestamp": 5}):
        answer._content = json.dumps(wrong).encode()
        assert contract.complaints([answer])
    answer._content = json.dumps(body).encode()
    assert contract.complaints([answer]) == []
