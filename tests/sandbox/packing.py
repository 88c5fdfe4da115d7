"""Packages made by hand for the tests of batch sessions: no code of ksefbuffer.ksef."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.sandbox.client import Client, Session, digest, encrypt


def zipped(files: Mapping[str, bytes], **more: Any) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, **more) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def tarred(files: Mapping[str, bytes], *, format: int = tarfile.PAX_FORMAT, mtime: float = 0.5) -> bytes:
    """A fractional ``mtime`` makes extended headers, as other platforms' writers always do."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), mtime
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(out.getvalue())


def pack(files: Mapping[str, bytes], compression: str) -> bytes:
    return zipped(files) if compression == "Zip" else tarred(files)


@dataclass
class Batch(Session):
    """An opened batch session; ``parts`` are encrypted, ``uploads`` is what KSeF asked for."""

    parts: list[bytes] = field(default_factory=list)
    uploads: list[dict[str, Any]] = field(default_factory=list)


def split(archive: bytes, count: int) -> list[bytes]:
    size = max(1, -(-len(archive) // count))
    return [archive[start : start + size] for start in range(0, len(archive), size)]


def batch_body(
    client: Client, archive: bytes, batch: Batch, *, compression: str | None = "Zip", parts: int = 1, **changes: Any
) -> dict[str, Any]:
    """The opening of a batch session; fills ``batch.parts``. ``changes`` go into batchFile."""
    batch.parts = [encrypt(part, batch.key, batch.iv) for part in split(archive, parts)]
    package = {
        "fileSize": len(archive),
        "fileHash": digest(archive),
        "compressionType": compression,
        "fileParts": [
            {"ordinalNumber": number, "fileSize": len(part), "fileHash": digest(part)}
            for number, part in enumerate(batch.parts, 1)
        ],
        **changes,
    }
    if compression is None:
        del package["compressionType"]
    return {**client.opening(batch.key, batch.iv), "batchFile": package}


def a_batch() -> Batch:
    return Batch("", os.urandom(32), os.urandom(16))


def open_batch(client: Client, archive: bytes, **more: Any) -> Batch:
    offline = more.pop("offline", None)
    batch = a_batch()
    body = batch_body(client, archive, batch, **more)
    if offline is not None:
        body["offlineMode"] = offline
    answer = client.call("POST", "/sessions/batch", json=body)
    assert answer.status_code == 201, answer.text
    batch.reference, batch.uploads = answer.json()["referenceNumber"], answer.json()["partUploadRequests"]
    return batch


def put(client: Client, batch: Batch, ordinal: int = 1, content: bytes | None = None, **more: Any) -> httpx.Response:
    """Uploads one part as asked; ``more`` overrules what goes to the request."""
    upload = batch.uploads[ordinal - 1]
    asked = {"headers": upload["headers"], "content": batch.parts[ordinal - 1] if content is None else content} | more
    return client.http.request(asked.pop("method", upload["method"]), asked.pop("url", upload["url"]), **asked)


def close_batch(client: Client, batch: Batch) -> httpx.Response:
    return client.call("POST", f"/sessions/batch/{batch.reference}/close")


def hand_in(client: Client, files: Mapping[str, bytes] | bytes, **more: Any) -> Batch:
    """Opened, uploaded, closed; ``files`` may be an archive already."""
    compression = more.get("compression", "Zip")
    archive = files if isinstance(files, bytes) else pack(files, compression or "Zip")
    batch = open_batch(client, archive, **more)
    for ordinal in range(1, len(batch.parts) + 1):
        assert put(client, batch, ordinal).status_code == 201
    closed = close_batch(client, batch)
    assert closed.status_code == 204, closed.text
    return batch


def listed(client: Client, batch: Batch, what: str = "invoices", size: int = 1000) -> list[dict[str, Any]]:
    """Every page of a listing."""
    found: list[dict[str, Any]] = []
    token = ""
    while True:
        headers = {"x-continuation-token": token} if token else {}
        answer = client.call(
            "GET", f"/sessions/{batch.reference}/{what}", params={"pageSize": size}, headers=headers
        ).json()
        found += answer["invoices"]
        token = answer.get("continuationToken", "")
        if not token:
            return found
