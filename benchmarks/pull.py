"""How fast a package becomes stored, judged invoices and their files, against what nobody can go without.

The bare cost is taken in the same run, from the same package: fetched, decrypted, unpacked, hashed, compared with its
metadata, parsed by lxml, and every invoice written to a file and fsynced; nothing is stored in a database or judged.
The buffer does all of it by its own steps: one thread takes KSeF's package to the database (a commit for a
heap of invoices), another from there to folders, as in ``run``. KSeF is the sandbox in this process; the package is
ready before the clock starts.

    python -m benchmarks.pull [--invoices 10000] [--no-files] [--profile FILE]
"""

from __future__ import annotations

import argparse
import cProfile
import gzip
import hashlib
import io
import json
import os
import tarfile
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from lxml import etree

from benchmarks import stage
from ksefbuffer.ksef.auth import TokenLogin
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.limits import LIMITS, NO_LIMIT, Limit, Limiter
from ksefbuffer.ksef.shapes import ExportStatus
from ksefbuffer.queue import incoming, pulls, schema
from ksefbuffer.queue.db import Database
from ksefbuffer.receiver.exporting import Exports
from ksefbuffer.receiver.filing import Filing
from ksefbuffer.receiver.progress import Progress
from ksefbuffer.receiver.pull import Pull
from ksefbuffer.receiver.stock import Rules, Stock, bring_in
from ksefbuffer.sandbox import Sandbox, SeededInvoice
from tests.receiver.generator import OUR_NIP, many, rulebook_toml

AIM = 0.60
START = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += timedelta(microseconds=50)
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    options.add_argument("--invoices", type=int, default=10_000)
    options.add_argument("--no-files", action="store_true", help="to the database alone; the bare cost without files")
    options.add_argument("--profile", help="where to put a profile of the buffer's part")
    asked = options.parse_args()
    with stage.folder() as place:
        measure(place, asked.invoices, files=not asked.no_files, profile=asked.profile)


def measure(place: Path, count: int, *, files: bool, profile: str | None) -> None:
    clock = Clock()
    sandbox = Sandbox(place / "sandbox.db", clock=clock, latency_s=0.2, limits="none", seed=7)
    sandbox.seed(SeededInvoice(made.content, {"ksefNumber": made.ksef_number}) for made in many(count))
    database = Database.in_file(place / "buffer.db")
    schema.upgrade(database)
    bring_in(
        database, rulebook_toml(more_rules=95), nip=OUR_NIP, environment="sandbox", at=START, actor="b", note=""
    )  # fmt: skip
    limiter = Limiter(dict.fromkeys(LIMITS, Limit(NO_LIMIT, NO_LIMIT, NO_LIMIT)))
    ksef = Ksef(
        base_url=sandbox.base_url,
        context_nip=OUR_NIP,
        login=TokenLogin(sandbox.issue_token(OUR_NIP)),
        limiter=limiter,
        clock=clock,
        sleep=clock.sleep,
        transport=sandbox.transport(),
    )
    since = date(2026, 10, 1)
    stock = Stock(database, Rules(OUR_NIP, "sandbox"), since)
    progress = Progress(["buyer"])
    exports = Exports(database, ksef, clock, stock, place / "exports", progress)
    pull = Pull(database, ksef, limiter, clock, stock, exports, progress, ["buyer"], since, timedelta(minutes=15))
    filing = Filing(database, place / "incoming", lambda folder: None)
    filing.prepare(START)
    pull.recover()
    while not exports._parcels:
        if not pull.step():
            clock.now = pull.next_due or clock.now
    with database.reading() as tx:
        (export,) = pulls.unfinished(tx)
    assert export.secret is not None
    assert export.reference is not None

    status = ksef.export(export.reference)
    bare_s = timed(lambda: bare(sandbox, status, export.secret or b"", place / "bare", files=files))
    before = resident_mb()
    most = before
    pulled = threading.Event()

    def to_database() -> None:
        nonlocal most
        while exports._parcels:
            pull.step()
            most = max(most, resident_mb())

    def to_folders() -> None:
        # As in ``run``: a thread of its own, whose waits for the disk cost the other nothing.
        while True:
            last = pulled.is_set()
            if not filing.step(clock()) and last:
                return

    filer = threading.Thread(target=to_folders)
    profiler = cProfile.Profile() if profile else None
    started = time.perf_counter()
    if files:
        filer.start()
    if profiler:
        profiler.runcall(to_database)
        profiler.dump_stats(profile or "")
    else:
        to_database()
    database_s = time.perf_counter() - started
    pulled.set()
    if files:
        filer.join()
    whole_s = time.perf_counter() - started
    with database.reading() as tx:
        stored = incoming.count(tx)
    assert stored == count, stored
    print(f"{count} invoices; bare {count / bare_s:.0f}/s")
    print(
        f"in the database {count / database_s:.0f}/s" + (f", in folders too {count / whole_s:.0f}/s" if files else "")
    )
    print(f"{bare_s / whole_s:.0%} of the bare cost's pace (aim {AIM:.0%})")
    print(f"memory grew by {most - before:.0f} MB")


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def bare(sandbox: Sandbox, status: ExportStatus, secret: bytes, folder: Path, *, files: bool) -> None:
    """Decrypt, unpack, hash, parse, write: by the libraries, nothing of ours."""
    assert status.package is not None
    folder.mkdir()
    whole = io.BytesIO()
    with httpx.Client(transport=sandbox.transport()) as client:
        for part in status.package.parts:
            sealed = client.get(part.url).content
            assert hashlib.sha256(sealed).hexdigest() == part.encrypted_sha256_hex
            opening = Cipher(algorithms.AES256(secret[:32]), modes.CBC(secret[32:])).decryptor()
            padded = opening.update(sealed) + opening.finalize()
            unpadder = padding.PKCS7(128).unpadder()
            plain = unpadder.update(padded) + unpadder.finalize()
            assert hashlib.sha256(plain).hexdigest() == part.sha256_hex
            whole.write(plain)
    whole.seek(0)
    hashes: dict[str, str] = {}
    told: dict[str, str] = {}
    with gzip.GzipFile(fileobj=whole) as stream, tarfile.open(fileobj=stream, mode="r|") as packed:
        for entry in packed:
            file = packed.extractfile(entry)
            assert file is not None
            content = file.read()
            if entry.name == "_metadata.json":
                told = {one["ksefNumber"]: one["invoiceHash"] for one in json.loads(content)["invoices"]}
                continue
            hashes[entry.name.removesuffix(".xml")] = b64encode(hashlib.sha256(content).digest()).decode()
            etree.fromstring(content)
            if files:
                written(folder / entry.name, content)
    assert hashes == told


def written(path: Path, content: bytes) -> None:
    with path.open("wb") as target:
        target.write(content)
        target.flush()
        os.fsync(target.fileno())


if __name__ == "__main__":
    main()
