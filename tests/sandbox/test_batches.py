"""Opening, uploading and closing of batch sessions, and the time they are given."""

from __future__ import annotations

from base64 import b64encode
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import padding

from ksefbuffer.sandbox import Request, Sandbox
from tests.samples import invoice
from tests.sandbox.client import Client, FakeClock, codes, digest, signer
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

ARCHIVE = zipped({"1.xml": invoice("FV/1"), "2.xml": invoice("FV/2")})


@pytest.fixture
def logged(client: Client) -> Client:
    return client.login()


def opening(client: Client, **changes: Any) -> Any:
    """The answer to an opening; ``changes`` go into batchFile, "__" leads into the body itself."""
    body = batch_body(client, ARCHIVE, a_batch(), parts=2)
    for name, value in changes.items():
        target, _, inner = name.rpartition("__")
        (body[target] if target else body if name in body else body["batchFile"])[inner or name] = value
    return client.call("POST", "/sessions/batch", json=body)


def part(**changes: Any) -> dict[str, Any]:
    return {"ordinalNumber": 1, "fileSize": 16, "fileHash": digest(b"")} | changes


# --- opening


def test_an_opening_is_answered_with_a_link_for_every_part(logged: Client) -> None:
    batch = open_batch(logged, ARCHIVE, parts=3)
    assert "-SB-" in batch.reference
    assert [upload["ordinalNumber"] for upload in batch.uploads] == [1, 2, 3]
    for upload in batch.uploads:
        assert (upload["method"], upload["headers"]) == ("PUT", {"x-ms-blob-type": "BlockBlob"})
        assert urlsplit(upload["url"]).path.startswith("/storage/")
        assert "se=2026-11-20T11%3A15%3A02Z" in upload["url"]  # three parts, twenty minutes each
    status = logged.session(batch)
    assert status["status"] == {"code": 100, "description": "Sesja wsadowa rozpoczęta"}
    assert status["invoiceCount"] == 0
    assert listed(logged, batch) == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"batchFile": None}, "batchFile"),
        ({"batchFile": []}, "batchFile"),
        ({"fileSize": 0}, "batchFile.fileSize"),
        ({"fileSize": 5_000_000_001}, "batchFile.fileSize"),
        ({"fileSize": "1"}, "batchFile.fileSize"),
        ({"fileHash": digest(b"").rstrip("=")}, "batchFile.fileHash"),
        ({"fileHash": "00" * 32}, "batchFile.fileHash"),
        ({"compressionType": "zip"}, "batchFile.compressionType"),
        ({"fileParts": []}, "batchFile.fileParts"),
        ({"fileParts": None}, "batchFile.fileParts"),
        ({"fileParts": [1]}, "batchFile.fileParts"),
        ({"fileParts": [part(ordinalNumber=2)]}, "batchFile.fileParts"),
        ({"fileParts": [part(), part()]}, "batchFile.fileParts"),
        ({"fileParts": [part(fileSize=0)]}, "batchFile.fileParts[0].fileSize"),
        ({"fileParts": [part(), part(ordinalNumber=2, fileHash="")]}, "batchFile.fileParts[1].fileHash"),
        ({"offlineMode": "true"}, "offlineMode"),
        ({"formCode__systemCode": "PEF (3)"}, "formCode"),
        ({"formCode__schemaVersion": "1-1E"}, "formCode"),
        ({"encryption": None}, "encryption"),
        ({"encryption__initializationVector": b64encode(bytes(12)).decode()}, "encryption.initializationVector"),
    ],
)
def test_a_wrong_opening_names_its_field(logged: Client, changes: dict[str, Any], field: str) -> None:
    if "offlineMode" in changes:
        body = batch_body(logged, ARCHIVE, a_batch()) | changes
        answer = logged.call("POST", "/sessions/batch", json=body)
    else:
        answer = opening(logged, **changes)
    assert 21405 in codes(answer)
    assert f"'{field}'" in answer.text


def test_fifty_parts_and_not_one_more(logged: Client) -> None:
    parts = [part(ordinalNumber=number) for number in range(1, 52)]
    refused = opening(logged, fileParts=parts)
    assert codes(refused) == [21161]
    taken = opening(logged, fileParts=parts[:50])
    assert len(taken.json()["partUploadRequests"]) == 50


def test_a_hundred_million_bytes_in_a_part_before_encryption(logged: Client) -> None:
    assert codes(opening(logged, fileParts=[part(fileSize=100_000_017)])) == [21157]
    assert opening(logged, fileParts=[part(fileSize=100_000_016)], fileSize=5_000_000_000).status_code == 201


def test_zip_is_assumed_when_no_compression_is_named(logged: Client) -> None:
    batch = hand_in(logged, ARCHIVE, compression=None)
    logged.settle()
    assert logged.session(batch)["status"]["code"] == 200
    body = batch_body(logged, ARCHIVE, a_batch())
    body["batchFile"]["compressionType"] = None
    assert logged.call("POST", "/sessions/batch", json=body).status_code == 201


@pytest.mark.parametrize(
    ("system_code", "version", "value"), [("FA (2)", "1-0E", "FA"), ("FA_RR (1)", "1-1E", "FA_RR")]
)
def test_forms_without_a_schema_at_hand_are_not_served(
    logged: Client, sandbox: Sandbox, system_code: str, version: str, value: str
) -> None:
    form = {"systemCode": system_code, "schemaVersion": version, "value": value}
    assert opening(logged, formCode=form).status_code == 501
    assert [item.name for item in sandbox.deviations] == ["unsupported-form"]


def test_withdrawn_keys_and_bad_keys(logged: Client, sandbox: Sandbox) -> None:
    batch = a_batch()
    body = batch_body(logged, ARCHIVE, batch)
    body["encryption"] = logged.opening(batch.key, batch.iv, pad=padding.PKCS1v15())["encryption"]
    answer = logged.call("POST", "/sessions/batch", json=body).json()
    batch.reference, batch.uploads = answer["referenceNumber"], answer["partUploadRequests"]
    assert put(logged, batch).status_code == 201
    assert logged.session(batch)["status"]["code"] == 100
    logged.settle()
    assert logged.session(batch)["status"] == {"code": 415, "description": "Błąd odszyfrowania dostarczonego klucza"}
    refused = close_batch(logged, batch)
    assert codes(refused) == [21180]
    assert "(415)" in refused.text

    old = logged.public_key("SymmetricKeyEncryption")["publicKeyId"]
    sandbox.rotate_keys()
    assert codes(opening(logged, encryption__publicKeyId=old)) == [21470]


def test_unknown_fields_are_noted_wherever_they_are(logged: Client, sandbox: Sandbox) -> None:
    body = batch_body(logged, ARCHIVE, a_batch())
    body["batchFile"]["fileParts"][0]["fileName"] = "a"
    assert logged.call("POST", "/sessions/batch", json=body).status_code == 201
    assert "batchFile.fileParts[0].fileName" in sandbox.deviations[0].text


# --- uploading


def test_a_part_is_taken_with_201_and_may_be_sent_again(logged: Client, sandbox: Sandbox) -> None:
    batch = open_batch(logged, ARCHIVE)
    assert put(logged, batch, content=b"something else of another size").status_code == 201
    assert put(logged, batch).status_code == 201
    assert put(logged, batch).status_code == 201
    assert close_batch(logged, batch).status_code == 204
    logged.settle()
    assert logged.session(batch)["successfulInvoiceCount"] == 2
    assert sandbox.deviations == []


def refused_by_storage(answer: Any, status: int, code: str) -> bool:
    return (
        answer.status_code == status
        and answer.headers["x-ms-error-code"] == code
        and answer.content.startswith(b"<?xml")
        and f"<Code>{code}</Code>".encode() in answer.content
    )


def test_a_bearer_on_an_upload_is_refused_and_noted(logged: Client, sandbox: Sandbox) -> None:
    batch = open_batch(logged, ARCHIVE)
    headers = {**batch.uploads[0]["headers"], "Authorization": f"Bearer {logged.access}"}
    assert refused_by_storage(put(logged, batch, headers=headers), 403, "AuthenticationFailed")
    assert [item.name for item in sandbox.deviations] == ["bearer-on-storage"]
    assert codes(close_batch(logged, batch)) == [21205]


def test_links_are_good_for_one_part_one_method_and_one_use(logged: Client, sandbox: Sandbox) -> None:
    batch = open_batch(logged, ARCHIVE, parts=2)
    url = batch.uploads[0]["url"]
    for wrong in (
        url.replace("batch-parts/1", "batch-parts/2"),
        url.replace("sig=", "sig=x"),
        url.partition("?")[0],
        url.replace("T10%3A", "T19%3A"),
    ):
        assert wrong != url
        assert refused_by_storage(put(logged, batch, url=wrong), 403, "AuthenticationFailed")
    for method in ("POST", "GET", "DELETE"):
        assert put(logged, batch, method=method).status_code == 404
    # The link of a confirmation gives no right to write.
    done = hand_in(logged, zipped({"3.xml": invoice("FV/3")}))
    logged.settle()
    upo = logged.session(done)["upo"]["pages"][0]["downloadUrl"]
    assert logged.http.put(upo, content=b"x").status_code == 404
    assert codes(close_batch(logged, batch)) == [21205]


def test_the_header_that_was_given_must_come_back(logged: Client) -> None:
    batch = open_batch(logged, ARCHIVE)
    for headers in ({}, {"x-ms-blob-type": "PageBlob"}):
        assert refused_by_storage(put(logged, batch, headers=headers), 400, "MissingRequiredHeader")


def test_an_upload_tells_its_length(logged: Client) -> None:
    batch = open_batch(logged, ARCHIVE)
    unsized = put(logged, batch, content=iter([batch.parts[0]]))
    assert refused_by_storage(unsized, 411, "MissingContentLengthHeader")
    assert codes(close_batch(logged, batch)) == [21205]


def test_an_expired_link_is_refused(logged: Client, clock: FakeClock) -> None:
    batch = open_batch(logged, ARCHIVE, parts=2)
    assert put(logged, batch, 1).status_code == 201
    clock.forward(minutes=39, seconds=59)
    assert put(logged, batch, 1).status_code == 201
    clock.forward(seconds=2)
    assert refused_by_storage(put(logged, batch, 2), 403, "AuthenticationFailed")


def test_an_upload_after_closing_changes_nothing(logged: Client, sandbox: Sandbox) -> None:
    batch = open_batch(logged, ARCHIVE)
    put(logged, batch)
    close_batch(logged, batch)
    assert refused_by_storage(put(logged, batch, content=b"late"), 403, "AuthorizationFailure")
    assert [item.name for item in sandbox.deviations] == ["late-upload"]
    logged.settle()
    assert logged.session(batch)["status"]["code"] == 200


def test_an_upload_without_a_carrier(logged: Client, sandbox: Sandbox) -> None:
    batch = open_batch(logged, ARCHIVE)
    parts = urlsplit(batch.uploads[0]["url"])
    headers = {"x-ms-blob-type": "BlockBlob", "Content-Length": str(len(batch.parts[0])), "User-Agent": "t"}
    answer = sandbox.handle(Request("PUT", parts.path, parts.query, headers, batch.parts[0]))
    assert answer.status == 201
    assert close_batch(logged, batch).status_code == 204


# --- closing


def test_closing_starts_the_processing(logged: Client) -> None:
    batch = open_batch(logged, ARCHIVE)
    put(logged, batch)
    logged.settle()
    assert logged.session(batch)["status"]["code"] == 100
    assert listed(logged, batch) == []
    assert close_batch(logged, batch).status_code == 204
    status = logged.session(batch)
    assert status["status"] == {"code": 150, "description": "Trwa przetwarzanie"}
    assert (status["invoiceCount"], listed(logged, batch), listed(logged, batch, "invoices/failed")) == (0, [], [])
    logged.settle()
    status = logged.session(batch)
    assert status["status"] == {"code": 200, "description": "Sesja wsadowa przetworzona pomyślnie"}
    assert (status["invoiceCount"], status["successfulInvoiceCount"]) == (2, 2)


def test_a_part_that_was_not_uploaded(logged: Client) -> None:
    batch = open_batch(logged, ARCHIVE, parts=3)
    put(logged, batch, 1)
    put(logged, batch, 3)
    refused = close_batch(logged, batch)
    assert codes(refused) == [21205]
    assert "Nie przesłano zadeklarowanej '2' części pliku." in refused.text
    assert logged.session(batch)["status"]["code"] == 100
    put(logged, batch, 2)
    assert close_batch(logged, batch).status_code == 204


def test_a_part_of_another_size_than_declared(logged: Client) -> None:
    batch = open_batch(logged, ARCHIVE, parts=2)
    put(logged, batch, 1)
    put(logged, batch, 2, batch.parts[1] + bytes(16))
    refused = close_batch(logged, batch)
    assert codes(refused) == [21157]
    assert "'2'" in refused.text
    put(logged, batch, 2)
    assert close_batch(logged, batch).status_code == 204


def test_closing_twice_tells_the_status(logged: Client) -> None:
    batch = hand_in(logged, ARCHIVE)
    again = close_batch(logged, batch)
    assert codes(again) == [21180]
    assert "(150)" in again.text
    logged.settle()
    assert "(200)" in close_batch(logged, batch).text
    assert logged.session(batch)["invoiceCount"] == 2


def test_sessions_of_others_and_of_the_other_kind_do_not_exist(
    logged: Client, sandbox: Sandbox, clock: FakeClock
) -> None:
    from cryptography.x509.oid import NameOID

    batch, online = open_batch(logged, ARCHIVE), logged.open()
    other = Client(sandbox, clock).login(
        signer({NameOID.ORGANIZATION_IDENTIFIER: "VATPL-1111111111"}), "1111111111"
    )  # fmt: skip
    unknown = Batch("20261120-SB-0123456789-0123456789-AB", b"", b"")
    for answer in (
        close_batch(other, batch),
        close_batch(logged, unknown),
        close_batch(logged, Batch(online.reference, b"", b"")),
        logged.close(batch),
        logged.send(batch, invoice()),
        other.call("GET", f"/sessions/{batch.reference}/invoices"),
    ):
        assert codes(answer) == [21173]
    assert codes(close_batch(logged, Batch("short", b"", b""))) == [21405]


# --- time


def test_the_upload_time_over_with_a_part_missing_cancels(logged: Client, clock: FakeClock) -> None:
    batch = open_batch(logged, ARCHIVE, parts=2)
    put(logged, batch, 1)
    clock.forward(minutes=39)
    logged.login()
    assert codes(close_batch(logged, batch)) == [21205]
    clock.forward(minutes=1)
    for _ in range(2):
        refused = close_batch(logged, batch)
        assert codes(refused) == [21208]
        assert "Sesja anulowana, przekroczony czas wysyłki." in refused.text
    assert logged.session(batch)["status"] == {
        "code": 440, "description": "Sesja anulowana", "details": ["Przekroczono czas wysyłki"],
    }  # fmt: skip


def test_what_was_uploaded_in_time_may_be_closed_later(logged: Client, clock: FakeClock) -> None:
    batch = open_batch(logged, ARCHIVE)
    put(logged, batch)
    clock.forward(hours=11)
    logged.login()
    assert close_batch(logged, batch).status_code == 204
    logged.settle()
    assert logged.session(batch)["status"]["code"] == 200


def test_a_batch_never_closed_is_never_processed(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    batch = open_batch(logged, ARCHIVE)
    put(logged, batch)
    clock.forward(hours=12)
    logged.login()
    assert logged.session(batch)["status"] == {
        "code": 440, "description": "Sesja anulowana", "details": ["Przekroczono czas wysyłki"],
    }  # fmt: skip
    assert codes(close_batch(logged, batch)) == [21208]
    assert sandbox.invoices() == []


# --- listing


def test_batch_sessions_are_listed_apart(logged: Client, clock: FakeClock) -> None:
    online = logged.open()
    done = hand_in(logged, {"1.xml": invoice("FV/1"), "2.xml": b"<a/>"})
    logged.settle()
    clock.forward(seconds=60)
    left = open_batch(logged, ARCHIVE)
    broken = hand_in(logged, b"no archive at all")
    logged.settle()

    def found(**params: Any) -> list[str]:
        answer = logged.call("GET", "/sessions", params={"sessionType": "Batch", **params}).json()
        return [item["referenceNumber"] for item in answer["sessions"]]

    assert found() == [broken.reference, left.reference, done.reference]
    assert found(statuses="Succeeded") == [done.reference]
    assert found(statuses="Failed") == [broken.reference]
    assert found(statuses=["InProgress", "Failed"]) == [broken.reference, left.reference]
    assert found(referenceNumber=left.reference) == [left.reference]
    assert found(referenceNumber=online.reference) == []
    assert found(dateClosedFrom="2026-11-20T10:16:00+00:00") == [broken.reference]
    assert found(dateCreatedTo="2026-11-20T10:16:00+00:00") == [done.reference]
    assert found(dateModifiedFrom=clock.now.isoformat()) == [broken.reference]
    item = logged.call("GET", "/sessions", params={"sessionType": "Batch", "referenceNumber": done.reference}).json()
    counts = item["sessions"][0]
    assert (counts["totalInvoiceCount"], counts["successfulInvoiceCount"], counts["failedInvoiceCount"]) == (2, 1, 1)
    only_online = logged.call("GET", "/sessions", params={"sessionType": "Online"}).json()["sessions"]
    assert [item["referenceNumber"] for item in only_online] == [online.reference]


def test_the_list_of_batches_has_pages_of_its_own(logged: Client) -> None:
    archive = tarred({"1.xml": b"<a/>"})
    opened = [open_batch(logged, archive, compression="TarGz").reference for _ in range(12)]
    for _ in range(11):
        logged.open()

    def page(kind: str, token: str = "") -> Any:
        headers = {"x-continuation-token": token} if token else {}
        return logged.call("GET", "/sessions", params={"sessionType": kind}, headers=headers)

    first = page("Batch").json()
    rest = page("Batch", first["continuationToken"]).json()
    assert [item["referenceNumber"] for item in first["sessions"] + rest["sessions"]] == opened[::-1]
    assert codes(page("Online", first["continuationToken"])) == [21418]
