"""Exports by the real clock: threads, sockets, processes."""

from __future__ import annotations

import os
import signal
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from ksefbuffer.sandbox import Fault, Sandbox, Server, parcels
from tests.samples import NIP, a_nip, invoice
from tests.sandbox.client import Client, digest, signer
from tests.sandbox.taking import Export, archive, ask, decrypted, fetch, query, start, taken
from tests.sandbox.test_server import Program, finish
from tests.sandbox.test_server import start as run

pytestmark = pytest.mark.process


@pytest.fixture
def real() -> Iterator[Sandbox]:
    sandbox = Sandbox(latency_s=0, limits="none")
    yield sandbox
    sandbox.close()


@pytest.fixture
def server(real: Sandbox) -> Iterator[Server]:
    with real.serve() as server:
        yield server


@pytest.fixture
def wired(real: Sandbox, server: Server) -> Iterator[Client]:
    with httpx.Client(base_url=server.base_url, timeout=20) as http:
        yield Client(real, http=http).login()


def bought(count: int) -> list[bytes]:
    return [invoice(f"Z/{number}", a_nip(number), buyer_nip=NIP, seed=number) for number in range(count)]


def recently() -> dict[str, Any]:
    since = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    return {"dateType": "PermanentStorage", "from": since, "restrictToPermanentStorageHwmDate": True}


def ready(client: Client, export: Export) -> Export:
    deadline = time.monotonic() + 60
    while ask(client, export).code == 100:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert export.code == 200
    return export


def test_an_export_over_a_socket(wired: Client, real: Sandbox) -> None:
    contents = bought(200)
    real.export_at_most(part_bytes=50_000)
    given = real.seed(contents)
    for compression in ("Zip", "TarGz"):
        export = ready(wired, start(wired, dateRange=recently(), compressionType=compression))
        files, metadata = taken(wired, export)
        assert list(files.items()) == list(zip(given, contents, strict=True))
        assert len(metadata) == 200
    assert {item.name for item in real.deviations} <= {"hasty-polling"}


def test_parts_that_break_on_the_wire(wired: Client, real: Sandbox) -> None:
    # Larger than what one read of the file brings.
    real.seed([bought(1)[0].replace(b"</Faktura>", b"<!--" + os.urandom(500_000).hex().encode() + b"--></Faktura>")])
    export = ready(wired, start(wired, dateRange=recently()))
    (part,) = export.package["parts"]
    assert part["encryptedPartSize"] > 300_000
    for kind in ("cut_body", "short_body", "cut_after"):
        real.faults.add(Fault("downloadPart", kind))
    with pytest.raises(httpx.RemoteProtocolError):
        fetch(wired, part)
    assert len(fetch(wired, part).content) == part["encryptedPartSize"] // 2
    with pytest.raises(httpx.RemoteProtocolError):
        fetch(wired, part)
    assert len(archive(wired, export)) == export.package["size"]


def test_others_are_served_while_a_package_is_built(wired: Client, real: Sandbox) -> None:
    entered, wanted = threading.Event(), threading.Event()
    split = parcels._split

    def slowly(*arguments: Any) -> Any:
        entered.set()
        assert wanted.wait(60)
        return split(*arguments)

    real.seed(bought(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parcels, "_split", slowly)
        export = start(wired, dateRange=recently())
        assert entered.wait(60)
        assert ask(wired, export).code == 100
        assert len(query(wired, dateRange=recently()).json()["invoices"]) == 2
        wanted.set()
        assert len(taken(wired, ready(wired, export))[0]) == 2


def test_closing_waits_for_the_package_and_a_new_start_builds_it(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path / "state.db", latency_s=0, limits="none")
    client = Client(sandbox).login()
    contents = bought(3)
    sandbox.seed(contents)
    entered = threading.Event()
    rows = parcels._rows

    def stopped(world: Any, order: Any, halted: Any, **more: Any) -> Any:
        entered.set()
        assert sandbox._exporter._halt.wait(60)
        return rows(world, order, halted, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parcels, "_rows", stopped)
        export = start(client, dateRange=recently())
        assert entered.wait(60)
        sandbox.close()
    assert not any(thread.name == "sandbox-exporter" for thread in threading.enumerate())
    again = Sandbox(tmp_path / "state.db", latency_s=0, limits="none")
    client.http = Client(again).http
    assert list(taken(client, ready(client, export))[0].values()) == contents
    again.close()


def test_an_export_survives_kill_9_at_every_step(tmp_path: Path) -> None:
    program, told = run(tmp_path)
    port = httpx.URL(told["base_url"]).port or 0
    contents = bought(3000)

    def restart() -> None:
        nonlocal program
        assert finish(program, signal.SIGKILL) == -signal.SIGKILL
        program, _ = run(tmp_path, port)

    with httpx.Client(base_url=told["base_url"], timeout=60) as http:
        client = Client(Program(), http=http).login(signer(now=datetime.now(UTC)))  # type: ignore[arg-type]
        order = [b64encode(content).decode() for content in contents]
        given = http.post(f"{told['control_url']}/seed", json=order).json()["ksefNumbers"]
        restart()
        export = start(client, dateRange=recently())
        # In the middle of the packing, most likely; wherever it is, the package is whole.
        restart()
        restart()
        ready(client, export)
        restart()
        (part,) = ask(client, export).package["parts"]
        answer = fetch(client, part)
        restart()
        assert fetch(client, part).content == answer.content
        assert digest(decrypted(answer.content, export)) == part["partHash"]
        files, _ = taken(client, export)
        assert list(files.items()) == list(zip(given, contents, strict=True))
    assert finish(program, signal.SIGTERM) == 0


def test_a_mark_told_is_kept_while_invoices_come_from_everywhere(wired: Client, real: Sandbox) -> None:
    """What a query tells to be complete never changes afterwards."""
    stop = threading.Event()
    seeded: list[str] = []

    def seeding() -> None:
        content = bought(1)[0]
        while not stop.is_set():
            seeded.extend(real.seed([content]))

    def sending() -> None:
        client = Client(real).login()
        session = client.open()
        number = 0
        today = datetime.now(UTC).date()
        while not stop.is_set():
            number += 1
            client.send(session, invoice(f"FV/{number}", buyer_nip=NIP, issue_date=today))

    def everything(until: str) -> list[str]:
        found: list[str] = []
        page = 0
        while True:
            params = {"pageSize": 250, "pageOffset": page}
            answer = query(wired, dateRange={**recently(), "to": until}, params=params).json()
            found += [item["ksefNumber"] for item in answer["invoices"]]
            page += 1
            if not answer["hasMore"]:
                return found

    threads = [threading.Thread(target=work) for work in (seeding, sending)]
    for thread in threads:
        thread.start()
    views: dict[str, list[str]] = {}
    try:
        while len(views) < 40:
            mark = query(wired, dateRange=recently()).json()["permanentStorageHwmDate"]
            views[mark] = everything(mark)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert any(views.values())
    for mark, seen in views.items():
        assert everything(mark) == seen
    final = query(wired, dateRange=recently()).json()["permanentStorageHwmDate"]
    assert seeded
    assert set(seeded) <= set(everything(final))
