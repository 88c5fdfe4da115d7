"""Parts of a package over real sockets: as large as they are, and cut in the middle."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import random
import threading
import tracemalloc
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ksefbuffer.errors import OutcomeUnknown
from ksefbuffer.ksef.packages import Part
from ksefbuffer.ksef.shapes import Upload
from ksefbuffer.ksef.wire import READ_ATTEMPTS
from tests.ksef.test_wire_sockets import client

pytestmark = pytest.mark.process

LINK = "/storage/00/S/1?sig=a%2Bb%3D"


class Storage(HTTPServer):
    """Takes parts in small pieces and keeps only their hashes; cuts the first ``cuts`` connections half-way."""

    def __init__(self, cuts: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.cuts = cuts
        self.seen: list[tuple[str, dict[str, str], str]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Storage

    def do_PUT(self) -> None:
        left = int(self.headers["Content-Length"])
        if self.server.cuts:
            self.server.cuts -= 1
            self.rfile.read(left // 2)
            self.close_connection = True
            return
        digest = hashlib.sha256()
        while left:
            piece = self.rfile.read(min(left, 65536))
            digest.update(piece)
            left -= len(piece)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append((self.path, headers, base64.b64encode(digest.digest()).decode()))
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def storage(cuts: int = 0) -> Iterator[Storage]:
    server = Storage(cuts)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def part_of(path: Path, megabytes: int) -> Part:
    dice = random.Random(1)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(megabytes):
            piece = dice.randbytes(1_000_000)
            digest.update(piece)
            file.write(piece)
    size = path.stat().st_size
    return Part(1, path, size - 1, size, base64.b64encode(digest.digest()).decode())


def upload_to(server: Storage) -> Upload:
    url = f"http://127.0.0.1:{server.server_address[1]}{LINK}"
    return Upload(1, "PUT", url, {"x-ms-blob-type": "BlockBlob"})


def test_a_large_part_streams_from_the_disk_as_it_is(tmp_path: Path) -> None:
    part = part_of(tmp_path / "part", 60)
    with storage() as server, contextlib.closing(client("http://127.0.0.1:1/v2")) as ksef:
        tracemalloc.start()
        try:
            ksef.upload_part(upload_to(server), part)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    [(path, headers, sha256_b64)] = server.seen
    assert path == LINK
    assert sha256_b64 == part.sha256_b64
    assert headers["content-length"] == str(part.size)
    assert headers["x-ms-blob-type"] == "BlockBlob"
    assert not {"authorization", "cookie", "transfer-encoding"} & set(headers)
    assert peak < 10_000_000


def test_a_part_cut_half_way_is_sent_again_from_its_beginning(tmp_path: Path) -> None:
    part = part_of(tmp_path / "part", 3)
    with storage(cuts=READ_ATTEMPTS - 1) as server, contextlib.closing(client("http://127.0.0.1:1/v2")) as ksef:
        ksef.upload_part(upload_to(server), part)
    assert [sha256_b64 for _, _, sha256_b64 in server.seen] == [part.sha256_b64]


def test_a_part_cut_every_time_is_given_up(tmp_path: Path) -> None:
    part = part_of(tmp_path / "part", 3)
    with storage(cuts=READ_ATTEMPTS) as server, contextlib.closing(client("http://127.0.0.1:1/v2")) as ksef:
        with pytest.raises(OutcomeUnknown) as caught:
            ksef.upload_part(upload_to(server), part)
        assert (server.cuts, server.seen) == (0, [])
    assert "sig" not in f"{caught.value} {caught.value.details}"
