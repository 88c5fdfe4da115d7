"""How many invoices a second are printed, on one core: generated FA(3) of few, of ten and of many rows, with KOD I.
Then the same by the duties that do it: pages beside offline answers, with both codes, and beside received invoices.

The process binds itself to one core. Of each size as many are printed as fit into the time given; the memory held is
told with them. The files go to a temporary folder, so its disk is measured too.

    python -m benchmarks.printed [--seconds 5] [--invoices 100]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ksefbuffer.erp.delivery import Deliver
from ksefbuffer.erp.folder import FolderConnector, Folders
from ksefbuffer.erp.printing import PrintAnswers
from ksefbuffer.invoice.precheck import CheckContext
from ksefbuffer.offline.printed import Code, render
from ksefbuffer.queue import documents, schema
from ksefbuffer.queue.db import Database
from ksefbuffer.receiver.filing import Filing
from ksefbuffer.receiver.printing import PrintedInvoice
from tests.receiver.stored import put
from tests.samples import NIP, NOW, invoice

AIM = 10
NUMBER = "5265877635-20261120-0100001AF629-AF"
QR = "https://qr-test.ksef.mf.gov.pl"
LINK = f"{QR}/invoice/5265877635/20-11-2026/"
ACCEPTED = datetime(2026, 11, 20, 10, 15, tzinfo=UTC)


def a_second(rows: int, seconds: float) -> tuple[float, int]:
    """(PDFs a second, bytes of the last one): every invoice is another one, every code too."""
    size, at = 0, 0
    started = time.perf_counter()
    while (spent := time.perf_counter() - started) < seconds:
        content = invoice(f"FV/{at}/{rows}", lines=rows, seed=at)
        code = Code(f"{LINK}{at:043}", NUMBER)
        size = len(render(content, ksef_number=NUMBER, accepted_at=ACCEPTED, codes=[code], mode=None))
        at += 1
    return at / spent, size


def beside_answers(place: Path, count: int) -> tuple[float, float]:
    """(answers a second, pages a second) of invoices issued offline: pictures, answers, then pages."""
    database = Database(f"sqlite:///{place / 'answers.db'}")
    schema.upgrade(database)
    folders = Folders(*(place / name for name in ("inbox", "outbox", "processed", "rejected")), pdf=True)
    connector = FolderConnector(
        database,
        folders,
        context=lambda now: CheckContext(nip=NIP, environment="sandbox", now=now),
        settle=timedelta(0),
    )
    connector.prepare()
    for at in range(count):
        part = folders.inbox / ".part"
        part.write_bytes(invoice(f"FV/{at}", lines=10, seed=at))
        part.rename(folders.inbox / f"{at}.xml")
    while connector.take_in(NOW):
        pass
    deliver = Deliver(database, {"folder": connector}, QR)
    with database.transaction() as tx:
        for document in documents.listing(tx, limit=count):
            # As long as a signature by RSA-2048 makes it.
            second = f"{QR}/certificate/Nip/{NIP}/{NIP}/01F20A5D352AE590/{document.sha256[:43]}/{document.id:0342}"
            documents.change(tx, document.id, offline_mode="offline24", offline_since=NOW, certificate_url=second)
    answers = _done(lambda: deliver.step(NOW), count)
    printing = PrintAnswers(deliver)
    printed = _done(lambda: printing.step(NOW), count)
    if len(list(folders.outbox.glob("*.pdf"))) != count:
        raise SystemExit("pages are missing")
    database.close()
    return answers, printed


def beside_received(place: Path, count: int) -> tuple[float, float]:
    """(files a second, pages a second) of received invoices: all files, then pages."""
    database = Database(f"sqlite:///{place / 'incoming.db'}")
    schema.upgrade(database)
    for at in range(count):
        put(database, f"sklepy/{at % 7}", content=invoice(f"FV/{at}", lines=10, seed=at))
    root = place / "incoming"
    filing = Filing(database, root, lambda _: None, page=PrintedInvoice(QR))
    filing.prepare(NOW)
    started = time.perf_counter()
    while len(list(root.rglob("*.xml"))) < count:
        filing.step(NOW)
    filed = count / (time.perf_counter() - started)
    printed = _done(lambda: filing.step(NOW), count)
    if len(list(root.rglob("*.pdf"))) != count:
        raise SystemExit("pages are missing")
    database.close()
    return filed, printed


def _done(step: Callable[[], bool], count: int) -> float:
    started = time.perf_counter()
    while step():
        pass
    return count / (time.perf_counter() - started)


def resident_mb() -> int:
    """What the process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1_000_000


def verdict(speed: float) -> str:
    return "reached" if speed >= AIM else "MISSED"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    arguments.add_argument("--seconds", type=float, default=5.0)
    arguments.add_argument("--invoices", type=int, default=100)
    asked = arguments.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for rows in (3, 10, 50, 200, 1_000):
        speed, size = a_second(rows, asked.seconds)
        judged = "" if rows > 50 else f" {verdict(speed)}"
        print(f"{rows:>5} rows: {speed:6.1f}/s, {size / 1000:.0f} kB each, {resident_mb()} MB held{judged}")
    with tempfile.TemporaryDirectory() as folder:
        answers, printed = beside_answers(Path(folder), asked.invoices)
        print(f"offline answers: {answers:6.1f}/s with both codes, then {printed:6.1f} pages/s {verdict(printed)}")
        filed, printed = beside_received(Path(folder), asked.invoices)
        print(f"received:        {filed:6.1f} files/s, then {printed:6.1f} pages/s {verdict(printed)}")


if __name__ == "__main__":
    main()
