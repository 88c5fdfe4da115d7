"""Exports taken and opened by hand for the tests: no code of ksefbuffer.ksef."""

from __future__ import annotations

import io
import json
import os
import tarfile
import zipfile
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.x509.oid import NameOID

from ksefbuffer.sandbox import Sandbox
from tests.samples import NOW
from tests.sandbox.client import Client, FakeClock, Session, digest, signer

BUYER = "1111111111"


def logged_in(sandbox: Sandbox, clock: FakeClock | None, nip: str = BUYER) -> Client:
    now = clock.now if clock else sandbox.clock()
    subject = {NameOID.ORGANIZATION_IDENTIFIER: f"VATPL-{nip}"}
    return Client(sandbox, clock).login(signer(subject, now=now), nip)


def period(**more: Any) -> dict[str, Any]:
    return {"dateType": "PermanentStorage", "from": (NOW - timedelta(days=1)).isoformat(), **more}


def filters(subject: str = "Subject2", **more: Any) -> dict[str, Any]:
    return {"subjectType": subject, "dateRange": period(), **more}


def query(client: Client, subject: str = "Subject2", *, params: Any = None, **more: Any) -> httpx.Response:
    return client.call("POST", "/invoices/query/metadata", json=filters(subject, **more), params=params)


def numbers(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["ksefNumber"] for item in answer.json()["invoices"]]


@dataclass
class Export(Session):
    """An export asked for; ``status`` is the last answer about it."""

    status: dict[str, Any] = field(default_factory=dict)

    @property
    def code(self) -> int:
        return int(self.status["status"]["code"])

    @property
    def package(self) -> dict[str, Any]:
        return dict(self.status["package"])


def order_body(client: Client, export: Export, subject: str = "Subject2", **more: Any) -> dict[str, Any]:
    pad = {"pad": more.pop("pad")} if "pad" in more else {}
    top: dict[str, Any] = {name: more.pop(name) for name in ("onlyMetadata", "compressionType") if name in more}
    encryption = client.opening(export.key, export.iv, **pad)["encryption"]
    return {"encryption": encryption, "filters": filters(subject, **more), **top}


def order(client: Client, subject: str = "Subject2", **more: Any) -> httpx.Response:
    export = Export("", os.urandom(32), os.urandom(16))
    return client.call("POST", "/invoices/exports", json=order_body(client, export, subject, **more))


def start(client: Client, subject: str = "Subject2", **more: Any) -> Export:
    export = Export("", os.urandom(32), os.urandom(16))
    answer = client.call("POST", "/invoices/exports", json=order_body(client, export, subject, **more))
    assert answer.status_code == 201, answer.text
    export.reference = answer.json()["referenceNumber"]
    return export


def ask(client: Client, export: Export) -> Export:
    answer = client.call("GET", f"/invoices/exports/{export.reference}")
    assert answer.status_code == 200, answer.text
    export.status = answer.json()
    return export


def finished(client: Client, subject: str = "Subject2", **more: Any) -> Export:
    export = start(client, subject, **more)
    client.settle()
    return ask(client, export)


def decrypted(content: bytes, export: Export) -> bytes:
    decryptor = Cipher(algorithms.AES256(export.key), modes.CBC(export.iv)).decryptor()
    unpadder = padding.PKCS7(128).unpadder()
    return unpadder.update(decryptor.update(content) + decryptor.finalize()) + unpadder.finalize()


def fetch(client: Client, part: dict[str, Any], **more: Any) -> httpx.Response:
    return client.http.request(part["method"], part["url"], **more)


def archive(client: Client, export: Export) -> bytes:
    """The plain archive; every one of a part's four figures is checked."""
    whole = b""
    for place, part in enumerate(export.package["parts"], 1):
        assert part["ordinalNumber"] == place
        answer = fetch(client, part)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-ms-meta-hash"] == part["encryptedPartHash"] == digest(answer.content)
        assert part["encryptedPartSize"] == len(answer.content)
        plain = decrypted(answer.content, export)
        assert (part["partSize"], part["partHash"]) == (len(plain), digest(plain))
        whole += plain
    assert export.package["size"] == len(whole)
    return whole


def opened(content: bytes, compression: str) -> list[tuple[str, bytes]]:
    """Names and contents, in the archive's order."""
    if not content:
        return []
    if compression == "Zip":
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            return [(name, packed.read(name)) for name in packed.namelist()]
    with tarfile.open(fileobj=io.BytesIO(content)) as tarred:
        return [(entry.name, tarred.extractfile(entry).read()) for entry in tarred]  # type: ignore[union-attr]


def taken(client: Client, export: Export) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """The invoices by KSeF number, in order, and the metadata; nothing else may be in the package."""
    files = opened(archive(client, export), export.package["compressionType"])
    assert len(dict(files)) == len(files)
    metadata = json.loads(dict(files).pop("_metadata.json"))["invoices"] if files else []
    return {name.removesuffix(".xml"): content for name, content in files if name != "_metadata.json"}, metadata
