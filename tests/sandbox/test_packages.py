"""What becomes of a package that was closed: verdicts on the whole, on every invoice, and the confirmations."""

from __future__ import annotations

import hashlib
import os
from base64 import b64decode
from datetime import timedelta
from typing import Any

import pytest
from lxml import etree

from ksefbuffer.sandbox import Sandbox
from tests.samples import ISSUE_DATE, NIP, invoice
from tests.sandbox.client import Client, FakeClock, digest, encrypt
from tests.sandbox.packing import (
    Batch,
    a_batch,
    batch_body,
    close_batch,
    hand_in,
    listed,
    open_batch,
    put,
    tarred,
    zipped,
)

UPO = "{http://upo.schematy.mf.gov.pl/KSeF/v4-3}"


@pytest.fixture
def logged(client: Client) -> Client:
    return client.login()


def three(prefix: str = "FV") -> dict[str, bytes]:
    return {f"{number}.xml": invoice(f"{prefix}/{number}", seed=number) for number in (1, 2, 3)}


def ended(client: Client, batch: Batch) -> tuple[int, list[str]]:
    """The status and its details, after processing."""
    client.settle()
    status = client.session(batch)["status"]
    return status["code"], status.get("details", [])


@pytest.mark.parametrize("compression", ["Zip", "TarGz"])
@pytest.mark.parametrize("parts", [1, 2, 7])
def test_every_invoice_of_a_package_gets_its_number(logged: Client, compression: str, parts: int) -> None:
    files = three()
    batch = hand_in(logged, files, compression=compression, parts=parts)
    assert ended(logged, batch)[0] == 200
    found = listed(logged, batch)
    assert [item["status"]["code"] for item in found] == [200, 200, 200]
    assert {item["invoiceFileName"]: item["invoiceHash"] for item in found} == {
        name: digest(content) for name, content in files.items()
    }
    assert [item["ordinalNumber"] for item in found] == [1, 2, 3]
    assert [item["invoiceNumber"] for item in found] == ["FV/1", "FV/2", "FV/3"]
    assert len({item["ksefNumber"] for item in found}) == 3
    assert [item.sha256 for item in logged.sandbox.accepted()] == [
        hashlib.sha256(content).hexdigest() for content in files.values()
    ]
    assert logged.sandbox.deviations == []


def test_what_was_handed_in_may_be_downloaded(logged: Client) -> None:
    files = three()
    batch = hand_in(logged, files)
    logged.settle()
    logged.settle()
    for item in listed(logged, batch):
        assert logged.xml(f"/invoices/ksef/{item['ksefNumber']}").content == files[item["invoiceFileName"]]


# --- the package as a whole


def unlike_declared(client: Client, *, compression: str = "Zip", **changes: Any) -> Batch:
    """A package whose opening lied; the parts are as they are."""
    batch = a_batch()
    body = batch_body(client, zipped(three()), batch, compression=compression, parts=2, **changes)
    answer = client.call("POST", "/sessions/batch", json=body)
    assert answer.status_code == 201, answer.text
    batch.reference, batch.uploads = answer.json()["referenceNumber"], answer.json()["partUploadRequests"]
    for ordinal in (1, 2):
        put(client, batch, ordinal)
    assert close_batch(client, batch).status_code == 204
    return batch


def test_a_part_with_another_hash_than_declared(logged: Client) -> None:
    batch = open_batch(logged, zipped(three()), parts=2)
    put(logged, batch, 1)
    put(logged, batch, 2, batch.parts[1][:-1] + bytes([batch.parts[1][-1] ^ 1]))
    assert close_batch(logged, batch).status_code == 204
    assert ended(logged, batch) == (405, ["Rozmiar lub skrót części 2 nie zgadza się z zadeklarowanym."])
    assert listed(logged, batch) == []


@pytest.mark.parametrize("changes", [{"fileHash": digest(b"")}, {"fileSize": 1}])
def test_a_whole_other_than_declared(logged: Client, changes: dict[str, Any]) -> None:
    batch = unlike_declared(logged, **changes)
    assert ended(logged, batch) == (405, ["Rozmiar lub skrót paczki nie zgadza się z zadeklarowanym."])


def test_parts_in_the_wrong_order(logged: Client) -> None:
    batch = open_batch(logged, os.urandom(1000), parts=2)
    batch.parts.reverse()
    for ordinal in (1, 2):
        put(logged, batch, ordinal)
    close_batch(logged, batch)
    assert ended(logged, batch)[0] == 405


@pytest.mark.parametrize("torn", [b"x" * 15, bytes(16), bytes(32)], ids=["half a block", "one block", "two blocks"])
def test_a_part_that_does_not_decrypt(logged: Client, torn: bytes) -> None:
    archive = zipped(three())
    # Not a random key: one in 256 would find something like padding.
    batch = Batch("", bytes(32), bytes(16))
    part = torn
    body = batch_body(
        logged, archive, batch, fileParts=[{"ordinalNumber": 1, "fileSize": len(part), "fileHash": digest(part)}]
    )
    answer = logged.call("POST", "/sessions/batch", json=body).json()
    batch.reference, batch.uploads, batch.parts = answer["referenceNumber"], answer["partUploadRequests"], [part]
    put(logged, batch)
    close_batch(logged, batch)
    code, details = ended(logged, batch)
    assert (code, details) == (435, ["Nie można odszyfrować części 1."])
    assert listed(logged, batch) == []


def test_an_iv_before_the_ciphertext_is_recognised(logged: Client, sandbox: Sandbox) -> None:
    archive = zipped(three())
    batch = a_batch()
    ciphertext = batch.iv + encrypt(archive, batch.key, batch.iv)
    part = {"ordinalNumber": 1, "fileSize": len(ciphertext), "fileHash": digest(ciphertext)}
    body = batch_body(logged, archive, batch, fileParts=[part])
    answer = logged.call("POST", "/sessions/batch", json=body).json()
    batch.reference, batch.uploads, batch.parts = answer["referenceNumber"], answer["partUploadRequests"], [ciphertext]
    put(logged, batch)
    close_batch(logged, batch)
    assert ended(logged, batch)[0] == 405
    assert [item.name for item in sandbox.deviations] == ["iv-prefixed"]


@pytest.mark.parametrize("compression", ["Zip", "TarGz"])
def test_an_archive_that_cannot_be_read(logged: Client, compression: str) -> None:
    whole = zipped(three()) if compression == "Zip" else tarred(three())
    for archive in (b"nonsense", whole[:-30], whole + b"rest" if compression == "TarGz" else whole[:-1]):
        batch = hand_in(logged, archive, compression=compression)
        assert ended(logged, batch)[0] == 430
        assert listed(logged, batch) == []
    assert logged.sandbox.invoices() == []


def test_the_compression_is_the_declared_one(logged: Client) -> None:
    assert ended(logged, hand_in(logged, tarred(three()), compression="Zip"))[0] == 430
    assert ended(logged, hand_in(logged, zipped(three()), compression="TarGz"))[0] == 430


def test_a_package_without_invoices(logged: Client) -> None:
    for archive, compression in ((zipped({}), "Zip"), (tarred({}), "TarGz")):
        batch = hand_in(logged, archive, compression=compression)
        assert ended(logged, batch) == (440, ["Nie przesłano faktur"])


@pytest.mark.parametrize("compression", ["Zip", "TarGz"])
def test_more_invoices_than_a_session_takes(
    logged: Client, monkeypatch: pytest.MonkeyPatch, compression: str, sandbox: Sandbox
) -> None:
    monkeypatch.setattr("ksefbuffer.sandbox.archives.MOST_FILES", 3)
    pack = zipped if compression == "Zip" else tarred
    full = hand_in(logged, pack(three()), compression=compression)
    assert ended(logged, full)[0] == 200
    over = hand_in(logged, pack({**three("FA"), "4.xml": invoice("FA/4")}), compression=compression)
    assert ended(logged, over)[0] == 420
    assert logged.session(over)["status"]["description"] == "Przekroczony limit faktur w sesji"
    assert (listed(logged, over), len(sandbox.invoices())) == ([], 3)


def test_a_package_without_a_good_invoice(logged: Client) -> None:
    batch = hand_in(logged, {"1.xml": b"<a/>", "2.xml": b"\xef\xbb\xbf<a/>"})
    assert ended(logged, batch)[0] == 445
    assert [item["status"]["code"] for item in listed(logged, batch)] == [450, 430]
    assert "upo" not in logged.session(batch)


# --- invoices judged one by one


def test_every_invoice_is_judged_by_itself(logged: Client) -> None:
    files = {
        "good.xml": invoice("FV/1"),
        "torn.xml": invoice("FV/2")[:-20],
        "bom.xml": b"\xef\xbb\xbf" + invoice("FV/3"),
        "schema.xml": invoice("FV/4").replace(b"<P_2>", b"<P_2X>").replace(b"</P_2>", b"</P_2X>"),
        "seller.xml": invoice("FV/5", nip="1111111111"),
        "future.xml": invoice("FV/6", issue_date=ISSUE_DATE + timedelta(days=1)),
        "empty.xml": b"",
        "last.xml": invoice("FV/7"),
    }
    batch = hand_in(logged, files)
    assert ended(logged, batch)[0] == 200
    verdicts = {item["invoiceFileName"]: item["status"]["code"] for item in listed(logged, batch)}
    assert verdicts == {
        "good.xml": 200, "torn.xml": 430, "bom.xml": 430, "schema.xml": 450, "seller.xml": 410, "future.xml": 450,
        "empty.xml": 430, "last.xml": 200,
    }  # fmt: skip
    status = logged.session(batch)
    assert (status["invoiceCount"], status["successfulInvoiceCount"], status["failedInvoiceCount"]) == (8, 2, 6)
    failed = listed(logged, batch, "invoices/failed")
    assert [item["invoiceFileName"] for item in failed] == [name for name in files if verdicts[name] != 200]
    first = listed(logged, batch)[0]
    assert logged.call("GET", f"/sessions/{batch.reference}/invoices/{first['referenceNumber']}").json() == first


def test_attachments_come_in_packages(logged: Client) -> None:
    attached = invoice("FV/1", attachment=True)

    def of_size(size: int, number: str) -> bytes:
        content = invoice(number, attachment=True)
        return content.replace(b"<Faktura ", b"<!--" + b"x" * (size - len(content) - 7) + b"--><Faktura ", 1)

    plain = invoice("FV/4").replace(b"<Faktura ", b"<!--" + b"x" * 1_000_000 + b"--><Faktura ", 1)
    most, over = of_size(3_000_000, "FV/2"), of_size(3_000_001, "FV/3")
    assert (len(most), len(over)) == (3_000_000, 3_000_001)
    batch = hand_in(logged, {"1.xml": attached, "2.xml": most, "3.xml": over, "4.xml": plain})
    logged.settle()
    assert [item["status"]["code"] for item in listed(logged, batch)] == [200, 200, 430, 430]


def test_duplicates_inside_and_outside_a_package(logged: Client, sandbox: Sandbox) -> None:
    online = logged.open()
    earlier = logged.verdict(online, invoice("FV/0"))
    files = {"1.xml": invoice("FV/1"), "2.xml": invoice("FV/1", seed=7), "3.xml": invoice("FV/0", seed=7)}
    batch = hand_in(logged, files)
    assert ended(logged, batch)[0] == 200
    first, inside, outside = listed(logged, batch)
    assert first["status"]["code"] == 200
    assert inside["status"]["code"] == outside["status"]["code"] == 440
    assert inside["status"]["extensions"] == {
        "originalSessionReferenceNumber": batch.reference,
        "originalKsefNumber": first["ksefNumber"],
    }
    assert outside["status"]["extensions"] == {
        "originalSessionReferenceNumber": online.reference,
        "originalKsefNumber": earlier["ksefNumber"],
    }
    assert "ksefNumber" not in inside
    again = logged.verdict(online, invoice("FV/1", seed=9))
    assert again["status"]["extensions"]["originalSessionReferenceNumber"] == batch.reference
    assert sandbox.deviations == []


def test_a_file_handed_in_again_is_noted(logged: Client, sandbox: Sandbox) -> None:
    online = logged.open()
    logged.verdict(online, invoice("FV/1"))
    waiting = invoice("FV/2")
    first = hand_in(logged, {"1.xml": waiting})
    logged.settle()
    hand_in(logged, {"1.xml": invoice("FV/1"), "2.xml": waiting, "3.xml": b"<a/>", "4.xml": b"<a/>"})
    logged.settle()
    assert [(item.operation, item.name) for item in sandbox.deviations] == [
        ("closeBatch", "resend-accepted"),
        ("closeBatch", "double-send"),
    ]
    assert "2 times" in sandbox.deviations[0].text
    assert ended(logged, first)[0] == 200


def test_invoices_count_from_the_opening_of_their_session(logged: Client, clock: FakeClock) -> None:
    clock.now = clock.now.replace(hour=22, minute=58)  # 23:58 in Poland
    logged.login()
    opened = clock.now
    files = {
        "today.xml": invoice("FV/1"),
        "earlier.xml": invoice("FV/2", issue_date=ISSUE_DATE - timedelta(days=1)),
        "tomorrow.xml": invoice("FV/3", issue_date=ISSUE_DATE + timedelta(days=1)),
    }
    batch = open_batch(logged, zipped(files))
    put(logged, batch)
    clock.forward(minutes=5)  # the next day
    assert close_batch(logged, batch).status_code == 204
    logged.settle()
    today, earlier, tomorrow = listed(logged, batch)
    assert (today["invoicingMode"], earlier["invoicingMode"]) == ("Online", "Offline")
    assert tomorrow["status"]["code"] == 450
    assert today["invoicingDate"][:19] == opened.isoformat()[:19]
    # The number is given when the package is processed, and says so.
    assert "-20261121-" in today["ksefNumber"]


def test_offline_is_declared_for_the_whole_package(logged: Client) -> None:
    batch = hand_in(logged, three(), offline=True)
    logged.settle()
    assert {item["invoicingMode"] for item in listed(logged, batch)} == {"Offline"}


def test_a_listing_has_pages_of_a_thousand(logged: Client) -> None:
    batch = hand_in(logged, {f"{number}.xml": b"<a/>" for number in range(1203)}, compression="TarGz")
    logged.settle()
    first = logged.call("GET", f"/sessions/{batch.reference}/invoices", params={"pageSize": 1000}).json()
    assert len(first["invoices"]) == 1000
    assert [item["ordinalNumber"] for item in listed(logged, batch)] == list(range(1, 1204))
    assert len(listed(logged, batch, "invoices/failed")) == 1203


# --- confirmations


def test_the_sessions_confirmation_lists_every_accepted_invoice(logged: Client) -> None:
    batch = hand_in(logged, {**three(), "bad.xml": b"<a/>"})
    assert ended(logged, batch)[0] == 200
    page = logged.session(batch)["upo"]["pages"][0]
    answer = logged.http.get(page["downloadUrl"])
    assert answer.headers["x-ms-meta-hash"] == digest(answer.content)
    assert logged.xml(f"/sessions/{batch.reference}/upo/{page['referenceNumber']}").content == answer.content
    root = etree.fromstring(answer.content)
    good = [item for item in listed(logged, batch) if item["status"]["code"] == 200]
    assert [found.text for found in root.iter(f"{UPO}NumerKSeFDokumentu")] == [item["ksefNumber"] for item in good]
    assert [found.text for found in root.iter(f"{UPO}SkrotDokumentu")] == [item["invoiceHash"] for item in good]
    assert root.findtext(f"{UPO}NumerReferencyjnySesji") == batch.reference
    assert root.findtext(f".//{UPO}CalkowitaLiczbaDokumentow") == "3"


def test_a_confirmation_for_each_invoice_too(logged: Client) -> None:
    batch = hand_in(logged, three())
    logged.settle()
    item = listed(logged, batch)[1]
    by_link = logged.http.get(item["upoDownloadUrl"]).content
    base = f"/sessions/{batch.reference}/invoices"
    assert logged.xml(f"{base}/{item['referenceNumber']}/upo").content == by_link
    assert logged.xml(f"{base}/ksef/{item['ksefNumber']}/upo").content == by_link
    root = etree.fromstring(by_link)
    assert root.findtext(f".//{UPO}NipSprzedawcy") == NIP
    assert b64decode(root.findtext(f".//{UPO}SkrotDokumentu")) == b64decode(item["invoiceHash"])
