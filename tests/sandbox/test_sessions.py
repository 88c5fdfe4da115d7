from __future__ import annotations

import os
from base64 import b64encode

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from ksefbuffer.sandbox import Sandbox
from tests.samples import invoice
from tests.sandbox.client import Client, FakeClock, Session, codes, digest, signer


@pytest.fixture
def logged(client: Client) -> Client:
    return client.login()


def open_with(client: Client, **changes: object) -> object:
    body = client.opening(os.urandom(32), os.urandom(16))
    for path, value in changes.items():
        target, *rest = path.split("__")
        if rest:
            body[target][rest[0]] = value
        else:
            body[target] = value
    return client.call("POST", "/sessions/online", json=body)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"formCode__systemCode": "FA(3)"}, "formCode"),
        ({"formCode__schemaVersion": "1-0"}, "formCode"),
        ({"formCode__value": "FA (3)"}, "formCode"),
        ({"formCode": None}, "formCode"),
        ({"encryption": "x"}, "encryption"),
        ({"encryption__initializationVector": b64encode(bytes(12)).decode()}, "encryption.initializationVector"),
        ({"encryption__initializationVector": "00" * 16}, "encryption.initializationVector"),
        ({"encryption__encryptedSymmetricKey": "_-_-"}, "encryption.encryptedSymmetricKey"),
        ({"encryption__publicKeyId": "short"}, "encryption.publicKeyId"),
    ],
)
def test_a_wrong_opening_names_its_field(logged: Client, changes: dict[str, object], field: str) -> None:
    answer = open_with(logged, **changes)
    assert 21405 in codes(answer)
    assert f"'{field}'" in answer.text
    logged.problem = False
    classic = open_with(logged, **changes)
    assert codes(classic) == [21405]
    assert f"'{field}'" in classic.text


def test_bodies_that_are_not_json(logged: Client) -> None:
    headers = {"Content-Type": "application/json"}
    for content in (b"", b"{", b"[]", b"\xff{}"):
        assert codes(logged.call("POST", "/sessions/online", content=content, headers=headers)) == [21001]
    assert logged.call("POST", "/sessions/online", data={"a": "b"}).status_code == 415


def test_forms_without_a_schema_at_hand_are_not_served(logged: Client, sandbox: Sandbox) -> None:
    form = {"systemCode": "FA_RR (1)", "schemaVersion": "1-1E", "value": "FA_RR"}
    assert open_with(logged, formCode=form).status_code == 501
    assert [item.name for item in sandbox.deviations] == ["unsupported-form"]


def test_withdrawn_and_unknown_keys(logged: Client, sandbox: Sandbox) -> None:
    old = logged.public_key("SymmetricKeyEncryption")["publicKeyId"]
    sandbox.rotate_keys()
    assert codes(open_with(logged, encryption__publicKeyId=old)) == [21470]
    wrong_use = logged.public_key("KsefTokenEncryption")["publicKeyId"]
    assert codes(open_with(logged, encryption__publicKeyId=wrong_use)) == [21470]


@pytest.mark.parametrize(
    "how",
    [
        {"pad": padding.PKCS1v15()},
        {"pad": padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)},
        {"pad": padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA256(), None)},
    ],
    ids=["PKCS#1 v1.5", "OAEP with SHA-1", "MGF1 with SHA-1"],
)
def test_a_key_that_does_not_open_fails_the_session_later(logged: Client, how: dict[str, object]) -> None:
    session = logged.open(**how)
    assert logged.session(session)["status"]["code"] == 100
    early = logged.sent(session, invoice())
    logged.settle()
    assert logged.session(session)["status"]["code"] == 415
    assert logged.invoice(session, early)["status"]["code"] == 405
    late = logged.send(session, invoice())
    assert codes(late) == [21180]
    assert "(415)" in late.text


def test_a_key_of_16_bytes_is_no_key(logged: Client) -> None:
    body = logged.opening(os.urandom(16), os.urandom(16))
    reference = logged.call("POST", "/sessions/online", json=body).json()["referenceNumber"]
    logged.settle()
    assert logged.session(Session(reference, b"", b""))["status"]["code"] == 415


def test_closing_ends_a_session_when_all_is_processed(logged: Client, clock: FakeClock) -> None:
    session = logged.open()
    logged.sent(session, invoice("FV/1"))
    logged.sent(session, invoice("FV/2"))
    assert logged.close(session).status_code == 204
    assert logged.session(session)["status"]["code"] == 170
    logged.settle()
    status = logged.session(session)
    assert status["status"]["code"] == 200
    assert (status["invoiceCount"], status["successfulInvoiceCount"], status["failedInvoiceCount"]) == (2, 2, 0)
    assert len(status["upo"]["pages"]) == 1


def test_the_closed_session_is_a_fence(logged: Client) -> None:
    session = logged.open()
    logged.close(session)
    refused = logged.send(session, invoice())
    assert codes(refused) == [21180]
    assert "(170)" in refused.text
    assert codes(logged.close(session)) == [21180]
    logged.settle()
    assert "(440)" in logged.send(session, invoice()).text


def test_a_session_without_invoices_and_one_without_good_ones(logged: Client) -> None:
    empty, bad = logged.open(), logged.open()
    logged.sent(bad, b"<a/>")
    logged.close(empty)
    logged.close(bad)
    logged.settle()
    assert logged.session(empty)["status"] == {
        "code": 440, "description": "Sesja anulowana", "details": ["Nie przesłano faktur"],
    }  # fmt: skip
    assert logged.session(bad)["status"]["code"] == 445
    assert "upo" not in logged.session(bad)


def test_a_session_closes_itself_after_twelve_hours(logged: Client, clock: FakeClock) -> None:
    session = logged.open()
    reference = logged.sent(session, invoice())
    clock.forward(hours=11, minutes=59)
    logged.login()
    assert logged.session(session)["status"]["code"] == 100
    clock.forward(minutes=1)
    assert codes(logged.send(session, invoice("FV/2"))) == [21180]
    clock.forward(seconds=2)
    assert logged.session(session)["status"]["code"] == 200
    assert logged.invoice(session, reference)["status"]["code"] == 200


def test_a_session_takes_ten_thousand_invoices(
    logged: Client, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ksefbuffer.sandbox.sessions.MAX_INVOICES", 2)
    session = logged.open()
    logged.sent(session, invoice("FV/1"))
    logged.sent(session, invoice("FV/2"))
    assert codes(logged.send(session, invoice("FV/3"))) == [21155]


def test_sessions_of_others_do_not_exist(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    session = logged.open()
    other = Client(sandbox, clock)
    from cryptography.x509.oid import NameOID

    other.login(signer({NameOID.ORGANIZATION_IDENTIFIER: "VATPL-1111111111"}), "1111111111")
    for answer in (
        other.call("GET", f"/sessions/{session.reference}"),
        other.send(session, invoice()),
        other.close(session),
    ):
        assert codes(answer) == [21173]
    assert codes(logged.call("GET", "/sessions/20261120-SO-0123456789-0123456789-AB")) == [21173]
    assert codes(logged.call("GET", "/sessions/short")) == [21405]


def test_what_is_declared_must_be_what_is_sent(logged: Client) -> None:
    session = logged.open()
    content = invoice()
    body = logged.sending(session, content)
    assert codes(logged.send(session, content, encryptedInvoiceSize=body["encryptedInvoiceSize"] + 16)) == [21402]
    assert codes(logged.send(session, content, encryptedInvoiceHash=digest(b""))) == [21403]
    assert codes(logged.send(session, content, invoiceHash="AAAA")) == [21405]
    assert codes(logged.send(session, content, invoiceHash=digest(b"").replace("=", ""))) == [21405]
    assert codes(logged.send(session, content, invoiceSize="1")) == [21405]
    assert codes(logged.send(session, content, invoiceSize=True)) == [21405]
    assert codes(logged.send(session, content, invoiceSize=1_000_001)) == [21405]
    assert codes(logged.send(session, content, offlineMode="false")) == [21405]
    assert codes(logged.send(session, content, hashOfCorrectedInvoice=digest(b""))) == [21405]
    missing = logged.call("POST", f"/sessions/online/{session.reference}/invoices", json={})
    assert codes(missing) == [21405] * 5
    assert logged.session(session)["invoiceCount"] == 0


def test_listings_page_by_a_token_that_cannot_be_forged(logged: Client) -> None:
    session = logged.open()
    other = logged.open()
    references = [logged.sent(session, invoice(f"FV/{number}")) for number in range(12)]
    bad = logged.sent(session, b"<a/>")
    logged.settle()

    def listed(path: str, **more: object) -> object:
        return logged.call("GET", path, **more)

    path = f"/sessions/{session.reference}/invoices"
    first = listed(path).json()
    token = first["continuationToken"]
    rest = listed(path, headers={"x-continuation-token": token}).json()
    found = [item["referenceNumber"] for item in first["invoices"] + rest["invoices"]]
    assert found == [*references, bad]
    assert [item["ordinalNumber"] for item in first["invoices"] + rest["invoices"]] == list(range(1, 14))
    assert "continuationToken" not in rest
    assert [i["referenceNumber"] for i in listed(f"{path}/failed").json()["invoices"]] == [bad]
    assert len(listed(path, params={"pageSize": 1000}).json()["invoices"]) == 13
    for size in (9, 1001, "x"):
        assert codes(listed(path, params={"pageSize": size})) == [21405]
    assert codes(listed(path, headers={"x-continuation-token": "MTA6eA=="})) == [21418]
    elsewhere = f"/sessions/{other.reference}/invoices"
    assert codes(listed(elsewhere, headers={"x-continuation-token": token})) == [21418]


def test_sessions_are_listed_newest_first(logged: Client, clock: FakeClock) -> None:
    first = logged.open()
    clock.forward(seconds=10)
    second = logged.open()
    logged.sent(second, invoice())
    logged.close(first)
    logged.settle()

    def listed(**params: object) -> list[str]:
        answer = logged.call("GET", "/sessions", params={"sessionType": "Online", **params})
        return [item["referenceNumber"] for item in answer.json()["sessions"]]

    assert listed() == [second.reference, first.reference]
    assert listed(statuses="Cancelled") == [first.reference]
    assert listed(statuses=["Cancelled", "InProgress"]) == [second.reference, first.reference]
    assert listed(referenceNumber=second.reference) == [second.reference]
    assert listed(dateCreatedFrom=(clock.now.isoformat())) == []
    assert listed(dateClosedTo=clock.now.isoformat()) == [first.reference]
    assert logged.call("GET", "/sessions", params={"sessionType": "Batch"}).json() == {"sessions": []}
    assert codes(logged.call("GET", "/sessions")) == [21405]
    assert codes(logged.call("GET", "/sessions", params={"sessionType": "Online", "statuses": "Open"})) == [21405]
    assert codes(logged.call("GET", "/sessions", params={"sessionType": "Online", "dateClosedTo": "x"})) == [21405]


def test_a_killed_session_cancels_what_it_had_not_judged(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    session = logged.open()
    done = logged.sent(session, invoice("FV/1"))
    logged.settle()
    waiting = logged.sent(session, invoice("FV/2"))
    sandbox.kill_session(session.reference)
    assert logged.session(session)["status"]["code"] == 500
    assert logged.invoice(session, done)["status"]["code"] == 200
    assert logged.invoice(session, waiting)["status"]["code"] == 405
    clock.forward(seconds=60)
    assert logged.invoice(session, waiting)["status"]["code"] == 405
    assert codes(logged.send(session, invoice("FV/3"))) == [21180]
    with pytest.raises(LookupError):
        sandbox.kill_session("20261120-SO-0123456789-0123456789-AB")
