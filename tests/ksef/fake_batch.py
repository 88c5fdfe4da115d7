"""The batch side of the fake KSeF: it keeps what is put into its storage and unpacks it with code of its own."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import zipfile
from dataclasses import dataclass, field

import httpx

from tests.ksef.fake import BASE, Clock, FakeKsef, _key_material, oaep, open_aes, problem

# On the host of the API, as KSeF has it, so that a client's cookies of the one would fit the other.
STORAGE = f"{BASE.removesuffix('/v2')}/storage/00"
# A link as Azure signs it: encoded signs, an empty value, a plus and a percent that must not change on the way.
SIGNED = "sv=2025-01-05&st=2026-11-20T12%3A00%3A00Z&empty=&sig=a%2Bb%2Fc%3D+d~(e)"


@dataclass
class Batch:
    """One session: what was declared, what arrived."""

    body: dict[str, object]
    key: bytes
    iv: bytes
    parts: dict[int, bytes] = field(default_factory=dict)
    closed: bool = False


def unpack(archive: bytes, compression: str) -> list[tuple[str, bytes]]:
    """Entries of an archive, read by the standard library."""
    if compression == "Zip":
        with zipfile.ZipFile(io.BytesIO(archive)) as unzipped:
            assert unzipped.testzip() is None
            return [(name, unzipped.read(name)) for name in unzipped.namelist()]
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as untarred:
        members = []
        for member in untarred:
            held = untarred.extractfile(member)
            assert held is not None
            members.append((member.name, held.read()))
        return members


class FakeBatches(FakeKsef):
    """Takes packages: PUT stores, the close checks every figure that was declared and unpacks."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.batches: dict[str, Batch] = {}
        self.handed_in: list[list[tuple[str, bytes]]] = []
        self.puts: list[httpx.Request] = []
        self.headers: dict[str, str | None] = {"x-ms-blob-type": "BlockBlob", "x-odd": None}

    def _ordinary(self, request: httpx.Request) -> httpx.Response:
        if str(request.url).startswith(STORAGE):
            return self._put(request)
        path = request.url.path.removeprefix("/v2")
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not path.startswith("/sessions/batch") or bearer not in self.live_tokens:
            return super()._ordinary(request)
        if path == "/sessions/batch":
            return self._open_batch(json.loads(request.content))
        return self._close_batch(path.split("/")[3])

    def _open_batch(self, body: dict) -> httpx.Response:  # type: ignore[type-arg]
        assert set(body) == {"formCode", "batchFile", "encryption", "offlineMode"}
        encryption = body["encryption"]
        name = next(name for name in self.key_names if _key_material(name)[2] == encryption["publicKeyId"])
        key = oaep(_key_material(name)[0], encryption["encryptedSymmetricKey"])
        reference = f"20261120-SB-{len(self.batches)}"
        iv = base64.b64decode(encryption["initializationVector"], validate=True)
        self.batches[reference] = Batch(body, key, iv)
        uploads = [
            {
                "ordinalNumber": part["ordinalNumber"],
                "method": "PUT",
                "url": f"{STORAGE}/{reference}/{part['ordinalNumber']}?{SIGNED}",
                "headers": self.headers,
                "nowe": 1,
            }
            for part in body["batchFile"]["fileParts"]
        ]
        body = {"referenceNumber": reference, "partUploadRequests": uploads[::-1]}
        return httpx.Response(201, json=body, headers={"set-cookie": "visid_incap=2; path=/"})

    def _put(self, request: httpx.Request) -> httpx.Response:
        self.puts.append(request)
        assert request.method == "PUT"
        assert request.url.raw_path.decode().endswith(f"?{SIGNED}"), "a signed link must not change"
        assert not {"authorization", "cookie", "transfer-encoding", "x-error-format", "x-odd"} & set(request.headers)
        assert request.headers["x-ms-blob-type"] == "BlockBlob"
        assert int(request.headers["content-length"]) == len(request.content)
        *_, reference, ordinal = request.url.path.split("/")
        self.batches[reference].parts[int(ordinal)] = request.content
        return httpx.Response(201, headers={"set-cookie": "storage=1; path=/"})

    def _close_batch(self, reference: str) -> httpx.Response:
        batch = self.batches.get(reference)
        if batch is None:
            return problem(400, 21173)
        if batch.closed:
            return problem(400, 21180, "Status sesji 150 uniemożliwia jej zamknięcie.")
        file = batch.body["batchFile"]
        assert isinstance(file, dict)
        whole = b""
        for n, declared in enumerate(file["fileParts"], 1):
            if n not in batch.parts:
                return problem(400, 21205, f"Nie przesłano zadeklarowanej '{n}' części pliku.")
            sealed = batch.parts[n]
            assert declared == {"ordinalNumber": n, "fileSize": len(sealed), "fileHash": digest(sealed)}
            whole += open_aes(batch.key, batch.iv, sealed)
        assert (file["fileSize"], file["fileHash"]) == (len(whole), digest(whole))
        batch.closed = True
        self.handed_in.append(unpack(whole, file["compressionType"]))
        return httpx.Response(204)


def digest(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()
