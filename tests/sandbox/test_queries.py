from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from cryptography.x509.oid import NameOID

from ksefbuffer.sandbox import Sandbox
from tests.samples import NIP, NOW, invoice
from tests.sandbox.client import Client, FakeClock, codes, digest, signer

BUYER = "1111111111"


@pytest.fixture
def logged(client: Client) -> Client:
    return client.login()


def hand_in(client: Client, *contents: bytes) -> list[dict[str, Any]]:
    """Accepted and in the repository."""
    session = client.open()
    found = [client.verdict(session, content) for content in contents]
    client.settle()
    return found


def query(client: Client, **more: Any) -> Any:
    params = more.pop("params", None)
    body = {
        "subjectType": "Subject1",
        "dateRange": {"dateType": "Invoicing", "from": (NOW - timedelta(days=1)).isoformat()},
        **more,
    }
    return client.call("POST", "/invoices/query/metadata", json=body, params=params)


def numbers(answer: Any) -> list[str]:
    return [item["invoiceNumber"] for item in answer.json()["invoices"]]


def buyer(sandbox: Sandbox, clock: FakeClock, nip: str = BUYER) -> Client:
    return Client(sandbox, clock).login(signer({NameOID.ORGANIZATION_IDENTIFIER: f"VATPL-{nip}"}), nip)


def test_metadata_tells_what_the_invoice_says(logged: Client) -> None:
    content = invoice("FV/1", buyer_nip=BUYER, buyer_name="Sklep")
    status = hand_in(logged, content)[0]
    (found,) = query(logged).json()["invoices"]
    assert found["ksefNumber"] == status["ksefNumber"]
    assert found["invoiceHash"] == digest(content)
    assert found["seller"] == {"nip": NIP, "name": "Hurtownia Pod Dębem sp. z o.o."}
    assert found["buyer"] == {"identifier": {"type": "Nip", "value": BUYER}, "name": "Sklep"}
    assert found["issueDate"] == "2026-11-20"
    assert found["invoiceType"] == "Vat"
    assert found["grossAmount"] == pytest.approx(found["netAmount"] + found["vatAmount"])
    assert found["grossAmount"] > 0


def test_invoices_are_found_by_number_seller_and_date(logged: Client) -> None:
    first, _ = hand_in(logged, invoice("FV/1"), invoice("FV/2"))
    assert numbers(query(logged)) == ["FV/1", "FV/2"]
    assert numbers(query(logged, params={"sortOrder": "Desc"})) == ["FV/2", "FV/1"]
    assert numbers(query(logged, invoiceNumber="FV/2")) == ["FV/2"]
    assert numbers(query(logged, ksefNumber=first["ksefNumber"])) == ["FV/1"]
    assert numbers(query(logged, sellerNip=BUYER)) == []
    assert numbers(query(logged, invoicingMode="Offline")) == []
    assert numbers(query(logged, invoiceTypes=["Kor"])) == []
    assert numbers(query(logged, currencyCodes=["PLN"])) == ["FV/1", "FV/2"]
    assert numbers(query(logged, amount={"type": "Brutto", "from": 10_000_000})) == []
    period = {"dateType": "Issue", "from": "2026-11-20T00:00:00+01:00", "to": "2026-11-20T00:00:00+01:00"}
    assert numbers(query(logged, dateRange=period)) == ["FV/1", "FV/2"]
    assert (
        numbers(query(logged, dateRange={**period, "from": "2026-11-19T00:00:00", "to": "2026-11-19T23:00:00"})) == []
    )


def test_each_party_sees_the_invoice_in_its_role_only(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    hand_in(logged, invoice("FV/1", buyer_nip=BUYER))
    other = buyer(sandbox, clock)
    assert numbers(query(other, subjectType="Subject2")) == ["FV/1"]
    assert numbers(query(other)) == []
    assert numbers(query(logged, subjectType="Subject2")) == []


def test_metadata_come_in_pages(logged: Client) -> None:
    hand_in(logged, *[invoice(f"FV/{number}") for number in range(12)])
    first = query(logged).json()
    assert (len(first["invoices"]), first["hasMore"], first["isTruncated"]) == (10, True, False)
    second = query(logged, params={"pageOffset": 1}).json()
    assert (len(second["invoices"]), second["hasMore"]) == (2, False)
    assert len(query(logged, params={"pageSize": 250}).json()["invoices"]) == 12


def test_an_invoice_appears_only_when_permanently_stored(logged: Client) -> None:
    session = logged.open()
    status = logged.verdict(session, invoice("FV/1"))
    assert numbers(query(logged)) == []
    assert codes(logged.xml(f"/invoices/ksef/{status['ksefNumber']}")) == [21165]
    logged.settle()
    assert numbers(query(logged)) == ["FV/1"]
    assert logged.xml(f"/invoices/ksef/{status['ksefNumber']}").status_code == 200


def test_queries_are_validated(logged: Client, clock: FakeClock) -> None:
    assert codes(query(logged, subjectType="Seller")) == [21405]
    assert codes(query(logged, dateRange={"dateType": "Issue"})) == [21405]
    assert codes(query(logged, ksefNumber="x")) == [21405]
    assert codes(query(logged, params={"pageSize": 251})) == [21405]
    assert codes(query(logged, params={"sortOrder": "Up"})) == [21405]

    def period(**changes: object) -> dict[str, object]:
        return {"dateType": "PermanentStorage", "from": clock.now.isoformat(), **changes}

    hundred = (clock.now - timedelta(days=100)).isoformat()
    assert query(logged, dateRange=period(**{"from": hundred})).status_code == 200
    longer = (clock.now - timedelta(days=100, seconds=1)).isoformat()
    assert codes(query(logged, dateRange=period(**{"from": longer}))) == [21405]
    future = (clock.now + timedelta(seconds=1)).isoformat()
    assert codes(query(logged, dateRange=period(to=future))) == [21405]
    late = period(**{"from": future, "restrictToPermanentStorageHwmDate": True})
    assert codes(query(logged, dateRange=late)) == [21183]


def test_only_parties_download_an_invoice(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    content = invoice("FV/1", buyer_nip=BUYER)
    number = hand_in(logged, content)[0]["ksefNumber"]
    path = f"/invoices/ksef/{number}"
    for client in (logged, buyer(sandbox, clock)):
        answer = client.xml(path)
        assert answer.content == content
        assert answer.headers["x-ms-meta-hash"] == digest(content)
    assert codes(buyer(sandbox, clock, "2222222222").xml(path)) == [21164]
    assert codes(logged.xml("/invoices/ksef/5265877635-20250826-0100001AF629-AF")) == [21164]
    assert codes(logged.xml("/invoices/ksef/x")) == [21405]
    assert logged.call("GET", path, headers={"Accept": "application/json"}).status_code == 406


def test_limits_are_told(logged: Client) -> None:
    assert logged.call("GET", "/limits/context").json()["onlineSession"]["maxInvoices"] == 10_000
    assert logged.call("GET", "/rate-limits").json()["invoiceSend"] == {
        "perSecond": -1, "perMinute": -1, "perHour": -1,
    }  # fmt: skip
    told = Client(Sandbox(clock=FakeClock(), latency_s=0)).login().call("GET", "/rate-limits").json()
    assert told["invoiceSend"] == {"perSecond": 10, "perMinute": 30, "perHour": 180}
