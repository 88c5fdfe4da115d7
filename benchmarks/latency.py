"""From the rename into the inbox to the KSeF number in NAME.ksef.json, beyond what KSeF itself takes.

KSeF's own time is the sandbox's latency setting plus one send and one status call as a bare client makes them, in the
same run. Invoices go one at a time, at irregular moments, into a session that is open already; the first one, which
also logs in and opens the session, is told apart. Sockets and processes are real.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import stage
from ksefbuffer import config, worker
from ksefbuffer.invoice.forms import FA3
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.limits import LIMITS, NO_LIMIT, Limit, Limiter
from tests.samples import invoice

LATENCY_S = 0.3
WARM_UP = 10


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--invoices", type=int, default=40)
    count = options.parse_args().invoices
    with stage.folder() as place, stage.sandbox(LATENCY_S) as base_url:
        send_s, status_s = bare_calls(base_url)
        own_s = LATENCY_S + send_s + status_s
        with stage.buffer(place, base_url):
            chance = random.Random(7)
            times = []
            for number in range(WARM_UP + count):
                times.append(to_number(place, number))
                time.sleep(chance.uniform(0.2, 0.7))
    added = sorted(taken - own_s for taken in times[WARM_UP:])
    first = f"the first invoice, with login and session, {_ms(times[0] - own_s)}"
    median, p95 = statistics.median(added), added[int(len(added) * 0.95)]
    print(
        f"latency: {(own_s + median) / own_s:.2f} × KSeF's own time (median); added {_ms(median)} median, "
        f"{_ms(p95)} p95 over {len(added)} invoices; KSeF's own {_ms(own_s)} = setting {_ms(LATENCY_S)} + bare send "
        f"{_ms(send_s)} + bare status {_ms(status_s)}; {first}"
    )


def to_number(place: Path, number: int) -> float:
    """Seconds from the rename to a KSeF number in the answer."""
    content = invoice(f"FV/{number}/2026", stage.NIP, stage.today(), seed=number)
    partial, answer = place / "inbox" / f"f{number}.xml.part", place / "outbox" / f"f{number}.ksef.json"
    partial.write_bytes(content)
    began = time.perf_counter()
    partial.rename(partial.with_suffix(""))
    while time.perf_counter() - began < 60:
        if answer.exists():
            now = time.perf_counter()
            told = json.loads(answer.read_bytes())
            if told["ksef_number"]:
                return now - began
            if told["status"] == "error":
                raise SystemExit(f"refused: {told['errors']}")
        time.sleep(0.002)
    raise SystemExit("no number within a minute")


def bare_calls(base_url: str) -> tuple[float, float]:
    """Median seconds of one send and one status, by a client that does nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.toml"
        file.write_text(f'nip = "{stage.NIP}"\nenvironment = "sandbox"\n[ksef]\nbase_url = "{base_url}"\n')
        settings = config.load(file, {})
        ksef = Ksef(
            base_url=base_url,
            context_nip=stage.NIP,
            login=worker.login_of(settings, now=datetime.now(UTC)),
            limiter=Limiter(dict.fromkeys(LIMITS, Limit(NO_LIMIT, NO_LIMIT, NO_LIMIT))),
            clock=lambda: datetime.now(UTC),
            sleep=time.sleep,
        )
        session = ksef.open_session(FA3)
        sends, statuses = [], []
        for number in range(20):
            content = invoice(f"BARE/{number}/2026", stage.NIP, stage.today(), seed=number)
            began = time.perf_counter()
            reference = ksef.send(session, content)
            sent = time.perf_counter()
            ksef.invoice(session.reference, reference)
            sends.append(sent - began)
            statuses.append(time.perf_counter() - sent)
        ksef.close_session(session.reference)
        ksef.close()
    return statistics.median(sends), statistics.median(statuses)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


if __name__ == "__main__":
    main()
