"""The exporting side of the fake KSeF. Its packages are made with the standard library and with AES used here alone."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.ksef.fake import BASE, NIP, Clock, FakeKsef, _key_material, oaep

STORAGE = f"{BASE.removesuffix('/v2')}/storage/01"
SIGNED = "sv=2025-01-05&se=2026-11-20T13%3A00%3A00Z&empty=&sig=x%2By%2Fz%3D+d~(e)"
FIRST = datetime(2026, 11, 1, tzinfo=UTC)
HWM = "2026-11-20T11:59:00.1234567+00:00"


def number(n: int) -> str:
    """A KSeF number of the right shape."""
    return f"{NIP}-20261101-{n:012X}-A1"


def moment(n: int) -> str:
    """When invoice ``n`` was stored: a second after the one before it, with seven digits and six by turns."""
    text = (FIRST + timedelta(seconds=n)).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.1234567+00:00" if n % 2 else f"{text}.123456+00:00"


def digest(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def content_of(n: int) -> bytes:
    return f"<Faktura><P_2>FV/{n}</P_2><Opis>Żółć {n * 7919}</Opis></Faktura>".encode()


def record(n: int, content: bytes | None = None, **changes: object) -> dict[str, Any]:
    """Metadata as KSeF writes them, with a field that nobody knows yet."""
    entry = {
        "ksefNumber": number(n),
        "invoiceNumber": f"FV/{n}",
        "issueDate": (FIRST + timedelta(seconds=n)).date().isoformat(),
        "invoicingDate": moment(n),
        "acquisitionDate": moment(n),
        "permanentStorageDate": moment(n),
        "seller": {"nip": "5555555555", "name": "Hurtownia Łąka"},
        "buyer": {"identifier": {"type": "Nip", "value": NIP}, "name": "Sklep Źródło"},
        "netAmount": 100.0,
        "grossAmount": 123.45,
        "vatAmount": 23.45,
        "currency": "PLN",
        "invoicingMode": "Online",
        "invoiceType": "Vat",
        "formCode": {"systemCode": "FA (3)", "schemaVersion": "1-0E", "value": "FA"},
        "isSelfInvoicing": False,
        "hasAttachment": False,
        "invoiceHash": digest(content_of(n) if content is None else content),
        "thirdSubjects": [],
        "nowe": {"pole": 1},
    }
    return {**entry, **changes}


def listing(records: Sequence[object]) -> bytes:
    return json.dumps({"invoices": list(records)}, ensure_ascii=False).encode()


def archive_of(
    entries: Sequence[tuple[str, bytes]], compression: str = "TarGz", tar_format: int = tarfile.PAX_FORMAT
) -> bytes:
    """An archive of any files, by the standard library."""
    whole = io.BytesIO()
    if compression == "Zip":
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as zipped:
            for name, content in entries:
                zipped.writestr(name, content)
        return whole.getvalue()
    with tarfile.open(fileobj=whole, mode="w:gz", format=tar_format) as tarred:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            # A fraction of a second is what makes Pax headers necessary, as .NET writes them.
            info.mtime = 1_700_000_000.25 if tar_format == tarfile.PAX_FORMAT else 1_700_000_000
            tarred.addfile(info, io.BytesIO(content))
    return whole.getvalue()


def seal(key: bytes, iv: bytes, plain: bytes) -> bytes:
    """AES-256-CBC, the padding put on by hand."""
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    missing = 16 - len(plain) % 16
    return encryptor.update(plain + bytes([missing]) * missing) + encryptor.finalize()


def declared(ordinal: int, plain: bytes, sealed: bytes, url: str) -> dict[str, Any]:
    return {
        "ordinalNumber": ordinal,
        "partName": f"20261120-EH-1-{ordinal:03d}.aes",
        "method": "GET",
        "url": url,
        "partSize": len(plain),
        "partHash": digest(plain),
        "encryptedPartSize": len(sealed),
        "encryptedPartHash": digest(sealed),
        "expirationDate": "2026-11-20T13:00:00+00:00",
        "nowe": 1,
    }


@dataclass
class Export:
    """One export: what was asked for, and its key."""

    body: dict[str, Any]
    key: bytes
    iv: bytes
    polls: int = 0
    stored: dict[str, bytes] = field(default_factory=dict)


class FakeExports(FakeKsef):
    """Holds invoices of ``records``; a query lists at most ``most``, an export packs all of them."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.exports: dict[str, Export] = {}
        self.records: list[dict[str, Any]] = []
        self.contents: dict[str, bytes] = {}
        self.most = 10_000
        self.part_bytes = 50_000_000
        self.running = 0
        self.package_changes: dict[str, object] = {}
        self.part_changes: dict[str, object] = {}
        self.served: list[httpx.Request] = []
        self.serve: Callable[[bytes], httpx.Response] = lambda sealed: httpx.Response(200, content=sealed)
        self.make: Callable[[list[tuple[str, bytes]], str], bytes] = archive_of
        self.queries: list[dict[str, Any]] = []

    def hold(self, *numbers: int) -> None:
        for n in numbers:
            self.records.append(record(n))
            self.contents[number(n)] = content_of(n)

    def _ordinary(self, request: httpx.Request) -> httpx.Response:
        if str(request.url).startswith(STORAGE):
            return self._storage(request)
        path = request.url.path.removeprefix("/v2")
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if path.startswith("/invoices") and bearer in self.live_tokens:
            if path == "/invoices/query/metadata":
                return self._query(request)
            if path == "/invoices/exports":
                return self._start(json.loads(request.content))
            return self._status(path.rpartition("/")[2])
        return super()._ordinary(request)

    def _query(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        self.queries.append(body)
        dates = body["dateRange"]
        field = {"PermanentStorage": "permanentStorageDate", "Invoicing": "invoicingDate", "Issue": "issueDate"}
        kind = field[dates["dateType"]]
        start = dates["from"] if kind != "issueDate" else dates["from"][:10]
        fit = [r for r in self.records if r[kind] is None or r[kind] >= start]
        size, page = int(request.url.params["pageSize"]), int(request.url.params["pageOffset"])
        assert 10 <= size <= 250
        shown = fit[: self.most]
        last = (page + 1) * size >= len(shown)
        return httpx.Response(
            200,
            json={
                "hasMore": not last or len(fit) > self.most,
                "isTruncated": last and len(fit) > self.most,
                "permanentStorageHwmDate": HWM,
                "invoices": shown[page * size : (page + 1) * size],
                "nowe": None,
            },
        )

    def _start(self, body: dict[str, Any]) -> httpx.Response:
        assert set(body) == {"encryption", "filters", "onlyMetadata", "compressionType"}
        encryption = body["encryption"]
        name = next(name for name in self.key_names if _key_material(name)[2] == encryption["publicKeyId"])
        key = oaep(_key_material(name)[0], encryption["encryptedSymmetricKey"])
        iv = base64.b64decode(encryption["initializationVector"], validate=True)
        assert (len(key), len(iv)) == (32, 16)
        reference = f"20261120-EH-{len(self.exports)}"
        self.exports[reference] = Export(body, key, iv)
        return httpx.Response(201, json={"referenceNumber": reference})

    def _status(self, reference: str) -> httpx.Response:
        export = self.exports[reference]
        export.polls += 1
        if export.polls <= self.running:
            return httpx.Response(200, json={"status": {"code": 100, "description": "Eksport faktur w toku"}})
        compression = export.body["compressionType"]
        files = [(f"{r['ksefNumber']}.xml", self.contents[r["ksefNumber"]]) for r in self.records]
        archive = self.make([("_metadata.json", listing(self.records)), *files], compression) if files else b""
        parts = []
        for ordinal, at in enumerate(range(0, len(archive), self.part_bytes), 1):
            plain = archive[at : at + self.part_bytes]
            sealed = seal(export.key, export.iv, plain)
            # A fresh link with every call.
            url = f"{STORAGE}/{reference}/{ordinal}?poll={export.polls}&{SIGNED}"
            export.stored[url] = sealed
            parts.append({**declared(ordinal, plain, sealed, url), **self.part_changes})
        package = {
            "invoiceCount": len(files),
            "size": len(archive),
            "parts": parts[::-1],
            "isTruncated": False,
            "permanentStorageHwmDate": HWM,
            "compressionType": compression,
            **self.package_changes,
        }
        body = {
            "status": {"code": 200, "description": "Eksport faktur zakończony sukcesem"},
            "completedDate": "2026-11-20T12:00:00.1234567+00:00",
            "packageExpirationDate": "2026-11-27T12:00:00.1234567+00:00",
            "package": package,
        }
        return httpx.Response(200, json=body, headers={"set-cookie": "visid_incap=2; path=/"})

    def _storage(self, request: httpx.Request) -> httpx.Response:
        self.served.append(request)
        assert request.method == "GET"
        assert not {"authorization", "cookie", "x-error-format"} & set(request.headers)
        reference = request.url.path.split("/")[3]
        return self.serve(self.exports[reference].stored[str(request.url)])
