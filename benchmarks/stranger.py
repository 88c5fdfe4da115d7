"""The third-party ``ksef-client`` against the buffer: the same sandbox, the same invoices, singly, each to its number.

The stranger's online workflow runs in one process that stores nothing: log in, open a session, send an invoice, ask
until it has its number, the next one; and, as its other way, send all and ask for each afterwards. The buffer finds the
invoices in its database, sends them one by one too (no batches), and keeps everything it learns. Both log in within the
time measured. KSeF is a process, without limits.

    python -m benchmarks.stranger [--invoices 100] [--latency 0.3]
"""

from __future__ import annotations

import argparse
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from ksef_client import KsefClient, KsefClientOptions
from ksef_client.models import FormCode
from ksef_client.services.workflows import AuthCoordinator, OnlineSessionWorkflow

from benchmarks import drain, stage
from tests.samples import invoice
from tests.sandbox.test_stranger import key_pair

PAUSE_S = 0.05
LINES = 5
NUMBERED, WITH_UPO = "ksef_number IS NOT NULL", "upo IS NOT NULL"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--invoices", type=int, default=100)
    options.add_argument("--latency", type=float, default=0.3, help="the sandbox's, in seconds")
    asked = options.parse_args()
    count = asked.invoices
    with stage.folder() as place, stage.sandbox(asked.latency) as base_url:
        turns = stranger(base_url, contents("A", count), together=False)
        together = stranger(base_url, contents("B", count), together=True)
        shop = place / "shop"
        drain.waiting(shop, count, LINES)
        numbered, receipts = ours(shop, base_url, count)
        deviations = stage.told(base_url, "deviations")
    print(
        f"stranger: the buffer needs {numbered / turns:.2f} × the time of ksef-client that waits for each number, "
        f"{numbered / together:.2f} × that of ksef-client that asks afterwards; {count} invoices in {numbered:.1f} s "
        f"(with every UPO {receipts:.1f} s) against {turns:.1f} s and {together:.1f} s; deviations: {deviations}"
    )


def contents(series: str, count: int) -> list[bytes]:
    return [invoice(f"{series}/{n}/2026", stage.NIP, stage.today(), LINES, seed=n) for n in range(count)]


def stranger(base_url: str, invoices: Sequence[bytes], *, together: bool) -> float:
    """Seconds from the login to the last number; ``together``: all are sent before the first status is asked for."""
    options = KsefClientOptions(
        base_url=base_url, strict_presigned_url_validation=False, allow_private_network_presigned_urls=True
    )
    pair = key_pair("ec")
    began = time.monotonic()
    with KsefClient(options) as client:
        token = (
            AuthCoordinator(client.auth)
            .authenticate_with_xades_key_pair(
                key_pair=pair,
                subject_identifier_type="certificateSubject",
                context_identifier_type="nip",
                context_identifier_value=stage.NIP,
                poll_interval_seconds=PAUSE_S,
                max_attempts=500,
            )
            .access_token
        )
        key = client.security.get_public_key_certificate("SymmetricKeyEncryption")
        session = OnlineSessionWorkflow(client.sessions).open_session(
            form_code=FormCode(system_code="FA (3)", schema_version="1-0E", value="FA"),
            public_certificate=key.certificate,
            public_key_id=key.public_key_id,
            access_token=token,
        )

        def number_of(reference: str) -> None:
            while True:
                status = client.sessions.get_session_invoice_status(
                    session.reference_number, reference, access_token=token
                )
                if status.status.code >= 200:
                    break
                time.sleep(PAUSE_S)
            if not status.ksef_number:
                raise SystemExit(f"refused: {status.status}")

        sent = []
        for content in invoices:
            sent.append(session.send_invoice(content).reference_number)
            if not together:
                number_of(sent[-1])
        if together:
            for reference in sent:
                number_of(reference)
        took = time.monotonic() - began
        session.close()
    return took


def ours(shop: Path, base_url: str, count: int) -> tuple[float, float]:
    """Seconds from the buffer's being ready to the last number, and to the last UPO."""
    config = stage.settings(shop, base_url)
    config.write_text(config.read_text() + "batch_from = 0\n")
    file = shop / "data" / "ksefbuffer.db"
    with stage.running(config), closing(sqlite3.connect(file, timeout=60)) as connection:
        began = time.monotonic()
        took = []
        for what in (NUMBERED, WITH_UPO):
            while connection.execute(f"SELECT count(*) FROM documents WHERE {what}").fetchone()[0] < count:
                if time.monotonic() - began > 600:
                    raise SystemExit("the buffer did not send them all")
                time.sleep(0.02)
            took.append(time.monotonic() - began)
    return took[0], took[1]


if __name__ == "__main__":
    main()
