from __future__ import annotations

from tests.samples import invoice
from tests.sandbox.client import Client, digest


def test_an_invoice_gets_its_number_and_confirmations(client: Client) -> None:
    content = invoice("FV/1")
    session = client.login().open()
    reference = client.sent(session, content)
    assert client.invoice(session, reference)["status"]["code"] == 100
    client.settle()
    status = client.invoice(session, reference)
    assert status["status"]["code"] == 200, status
    upo = client.http.get(status["upoDownloadUrl"])
    assert upo.status_code == 200
    assert upo.headers["x-ms-meta-hash"] == digest(upo.content)
    assert client.close(session).status_code == 204
    assert client.session(session)["status"]["code"] == 170
    client.settle()
    done = client.session(session)
    assert done["status"]["code"] == 200
    page = client.http.get(done["upo"]["pages"][0]["downloadUrl"])
    assert page.status_code == 200
    assert status["ksefNumber"].encode() in page.content
    assert client.sandbox.deviations == []


def test_login_by_token(client: Client) -> None:
    client.login_by_token(client.sandbox.issue_token("5265877635"))
    assert client.call("GET", "/rate-limits").status_code == 200
