"""How fast invoices that wait in the database get their numbers, under KSeF's production limits, in real time.

The optimum is what nobody can go without, done in the same run by a bare client that stores nothing: the same contents
read from the same database, packed, encrypted, uploaded and handed in as the same number of batches to a KSeF of its
own, whose processing is waited for, and whose listings are read until every invoice has its number. It keeps to the
same limits, so what they make it wait is part of the optimum. Buffer and KSeF are processes; the buffer's time begins
when it says that it is ready.

Meanwhile urgent invoices are dropped one after the other; what they take from the rename to the number is compared
with what they take in an empty buffer.

    python -m benchmarks.drain [--count 100000] [--urgent 10] [--latency 0.5]
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import stage
from ksefbuffer import config, worker
from ksefbuffer.erp.submit import Offer, Options, Source, submit_all
from ksefbuffer.invoice.forms import FA3
from ksefbuffer.invoice.precheck import CheckContext
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.limits import Limiter
from ksefbuffer.ksef.packages import build_package
from ksefbuffer.queue import schema
from ksefbuffer.queue.db import Database
from tests.samples import invoice

AIM, AIM_RESIDENT_MB = 1.25, 200
IN_BATCH, PAGE = 10_000, 1_000
AT_ONCE = 60
FINAL = 200


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--count", type=int, default=10_000)
    options.add_argument("--lines", type=int, default=5, help="rows of each invoice")
    options.add_argument("--urgent", type=int, default=10)
    options.add_argument("--latency", type=float, default=0.5, help="the sandbox's, in seconds")
    asked = options.parse_args()
    with stage.folder() as place:
        alone = in_an_empty_buffer(place / "empty", asked.latency, asked.urgent)
        shop = place / "shop"
        size = waiting(shop, asked.count, asked.lines)
        bare_before_s = bare(shop, asked.count, asked.latency)
        with stage.sandbox(asked.latency, "production") as base_url:
            run = Run(shop, base_url, asked.count, asked.urgent)
            refused, deviations = stage.told(base_url, "throttled"), stage.told(base_url, "deviations")
        # Once more: a machine that was busier or idler meanwhile shows.
        bare_after_s = bare(shop, asked.count, asked.latency)
        bare_s = (bare_before_s + bare_after_s) / 2
    ratio = run.drained_s / bare_s
    print(
        f"drain: {ratio:.2f} × the optimum (aim {AIM}): {asked.count} invoices of {size // asked.count} bytes in "
        f"{run.drained_s:.1f} s against {bare_before_s:.1f} s before and {bare_after_s:.1f} s after; "
        f"{run.batches} batches, {run.singles} singles, 429s: {sum(refused.values())}, deviations: {len(deviations)}; "
        f"{run.resident_mb} MB resident at most (aim {AIM_RESIDENT_MB})"
    )
    print(
        f"answers given by then: {run.answered}; urgent invoices, rename to number: {_spread(run.urgent_s)} meanwhile, "
        f"{_spread(alone)} in an empty buffer"
    )
    return 0 if ratio <= AIM and run.resident_mb <= AIM_RESIDENT_MB else 1


def waiting(shop: Path, count: int, lines: int) -> int:
    """A database in which so many invoices wait, taken in through the door. Returns their bytes."""
    shop.mkdir()
    database = Database(f"sqlite:///{_file(shop)}")
    schema.upgrade(database)
    began, size = time.monotonic(), 0
    for start in range(0, count, AT_ONCE):
        offers = []
        for number in range(start, min(start + AT_ONCE, count)):
            content = invoice(f"FV/{number}/2026", stage.NIP, stage.today(), lines, seed=number)
            size += len(content)
            offers.append(Offer(content, Source("folder", f"f{number}.xml", f"f{number}"), Options()))
        context = CheckContext(nip=stage.NIP, environment="sandbox", now=datetime.now(UTC))
        submit_all(database, offers, context, actor="benchmark")
    database.close()
    print(f"{count} invoices stored in {time.monotonic() - began:.0f} s", flush=True)
    return size


def bare(shop: Path, count: int, latency_s: float) -> float:
    """Seconds for the bare client, with a KSeF of its own."""
    with tempfile.TemporaryDirectory() as folder, stage.sandbox(latency_s, "production") as base_url:
        place = Path(folder)
        settings = config.load(stage.settings(place, base_url), {})
        limiter = Limiter()
        ksef = Ksef(
            base_url=base_url,
            context_nip=stage.NIP,
            login=worker.login_of(settings, now=datetime.now(UTC)),
            limiter=limiter,
            clock=lambda: datetime.now(UTC),
            sleep=time.sleep,
        )
        began = time.monotonic()
        references = []
        for first in range(1, count + 1, IN_BATCH):
            key = ksef.new_batch_key()
            package = build_package(_contents(shop, first), place / str(first), key)
            batch = ksef.open_batch(FA3, package, key)
            for upload, part in zip(batch.uploads, package.parts, strict=True):
                ksef.upload_part(upload, part)
            ksef.close_batch(batch.reference)
            references.append(batch.reference)
        numbers: set[str] = set()
        for reference in references:
            since = time.monotonic()
            while ksef.session(reference).code != FINAL:
                # A few per cent late at most, and within the limits however long it takes.
                time.sleep(max(0.2, (time.monotonic() - since) / 40))
            # A listing cut short by the limit would begin again.
            pages = -(-min(count, IN_BATCH) // PAGE)
            time.sleep(limiter.wait_for("sessionInvoiceList", datetime.now(UTC), calls=pages).total_seconds())
            numbers.update(row.ksef_number for row in ksef.invoices(reference) if row.ksef_number)
        took = time.monotonic() - began
        ksef.close()
    if len(numbers) != count:
        raise SystemExit(f"the bare client got {len(numbers)} numbers")
    return took


def _contents(shop: Path, first: int) -> Iterator[tuple[str, bytes]]:
    with closing(sqlite3.connect(_file(shop))) as connection:
        yield from connection.execute(
            "SELECT sha256, content FROM documents WHERE id BETWEEN ? AND ? AND NOT urgent ORDER BY id",
            (first, first + IN_BATCH - 1),
        )


class Run:
    """The buffer at work until everything has its number. ``urgent_s``: what each urgent invoice took."""

    def __init__(self, shop: Path, base_url: str, count: int, urgent: int) -> None:
        settings = stage.settings(shop, base_url)
        self.urgent_s: list[float] = []
        with stage.running(settings) as process, closing(sqlite3.connect(_file(shop), timeout=60)) as connection:
            began = time.monotonic()
            till = threading.Thread(target=self._sell, args=(shop, urgent), daemon=True)
            till.start()
            while _one(connection, "SELECT count(*) FROM documents WHERE state = 'sent' AND NOT urgent") < count:
                if process.poll() is not None or time.monotonic() - began > 3600:
                    raise SystemExit("the buffer did not drain it")
                time.sleep(0.1)
            self.drained_s = time.monotonic() - began
            self.answered = _one(
                connection,
                "SELECT count(*) FROM deliveries JOIN arrivals ON arrivals.id = arrival "
                "JOIN documents ON documents.id = document WHERE told = wanted AND state = 'sent'",
            )
            till.join(120)
            status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            self.resident_mb = int(next(line for line in status if line.startswith("VmHWM")).split()[1]) // 1024
            self.batches = _one(connection, "SELECT count(*) FROM sessions WHERE kind = 'batch' AND sends > 0")
            self.singles = _one(connection, "SELECT coalesce(sum(sends), 0) FROM sessions WHERE kind = 'online'")

    def _sell(self, shop: Path, urgent: int) -> None:
        for number in range(urgent):
            self.urgent_s.append(to_number(shop, number))


def in_an_empty_buffer(place: Path, latency_s: float, urgent: int) -> list[float]:
    place.mkdir()
    with stage.sandbox(latency_s, "production") as base_url, stage.buffer(place, base_url):
        return [to_number(place, number) for number in range(urgent)]


def to_number(place: Path, number: int) -> float:
    """Seconds from the rename of an urgent invoice to a number in its answer."""
    content = invoice(f"PILNA/{number}/2026", stage.NIP, stage.today(), seed=900_000 + number)
    partial, answer = place / "inbox" / f"p{number}.xml.part", place / "outbox" / f"p{number}.ksef.json"
    (place / "inbox" / f"p{number}.json").write_text('{"priority": "urgent"}')
    partial.write_bytes(content)
    began = time.monotonic()
    partial.rename(partial.with_suffix(""))
    while time.monotonic() - began < 300:
        if answer.exists():
            now = time.monotonic()
            if json.loads(answer.read_bytes())["ksef_number"]:
                return now - began
        time.sleep(0.005)
    raise SystemExit("no number for an urgent invoice")


def _spread(seconds: Sequence[float]) -> str:
    if not seconds:
        return "none"
    return f"{statistics.median(seconds):.2f} s median, {max(seconds):.2f} s slowest of {len(seconds)}"


def _one(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])


def _file(shop: Path) -> Path:
    (shop / "data").mkdir(exist_ok=True)
    return shop / "data" / "ksefbuffer.db"


if __name__ == "__main__":
    raise SystemExit(main())
