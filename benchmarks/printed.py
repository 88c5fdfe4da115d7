"""How many invoices a second are printed, on one core: generated FA(3) of few, of ten and of many rows, with KOD I.

The process binds itself to one core. Each size is printed in rounds; the best is told, with the memory held at the end.

    python -m benchmarks.printed [--seconds 5]
"""

from __future__ import annotations

import argparse
import os
import time
from datetime import UTC, datetime
from pathlib import Path

from ksefbuffer.offline.printed import Code, render
from tests.samples import invoice

AIM = 10
NUMBER = "5265877635-20261120-0100001AF629-AF"
LINK = "https://qr-test.ksef.mf.gov.pl/invoice/5265877635/20-11-2026/"
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


def resident_mb() -> int:
    """What the process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1_000_000


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    arguments.add_argument("--seconds", type=float, default=5.0)
    asked = arguments.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for rows in (3, 10, 50, 200, 1_000):
        speed, size = a_second(rows, asked.seconds)
        verdict = "" if rows > 50 else " reached" if speed >= AIM else " MISSED"
        print(f"{rows:>5} rows: {speed:6.1f}/s, {size / 1000:.0f} kB each, {resident_mb()} MB held{verdict}")


if __name__ == "__main__":
    main()
