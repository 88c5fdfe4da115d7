"""A day's outage of a chain: 10,000 invoices wait, KSeF's production limits hold, and the tills go on selling."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from pathlib import Path
from statistics import fmean

import pytest

from ksefbuffer.ksef.auth import CertificateLogin
from ksefbuffer.queue import documents
from ksefbuffer.queue.overview import overview
from ksefbuffer.queue.states import State
from ksefbuffer.worker import Buffer, prepare
from tests.crash.harness import World
from tests.samples import invoice
from tests.volume.driving import counts, drive, remembered, shop, watched

pytestmark = pytest.mark.crash

WAITING = 10_000
URGENT = 10
SAMPLE = 100  # receipts waited for


class Till:
    """Drops urgent invoices and notes on the buffer's clock how long each waits for its number."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.settle_s = world.config.inbox.settle_seconds
        self.dropped: dict[str, datetime] = {}
        self.waited: dict[str, float] = {}

    def sell(self) -> None:
        name = f"pilna{len(self.dropped):02}"
        (self.world.folder / "inbox" / f"{name}.json").write_text('{"priority": "urgent"}')
        self.world.drop(f"{name}.xml", invoice(number=f"FV/{name}", seed=900_000 + len(self.dropped)))
        self.dropped[name] = self.world.clock.now

    def look(self) -> None:
        for name in self.dropped.keys() - self.waited.keys():
            answer = self.world.folder / "outbox" / f"{name}.ksef.json"
            if answer.exists() and json.loads(answer.read_bytes())["ksef_number"]:
                waited = self.world.clock.now - self.dropped[name]
                self.waited[name] = waited.total_seconds() - self.settle_s

    def served(self) -> bool:
        return len(self.waited) == len(self.dropped)


def in_an_empty_shop(folder: Path, template: Path, login: CertificateLogin) -> dict[str, float]:
    """What each of ten urgent invoices waits for its number when nothing else is there, in seconds."""
    world = shop(folder, template)
    buffer = world.buffer(login, limiter=remembered(world))
    prepare(buffer)
    till = Till(world)
    for _ in range(URGENT):
        till.sell()
        drive(world, buffer, till.served, rounds=5_000, each=lambda _: till.look())
    buffer.close()
    world.sandbox.close()
    return till.waited


def store_all(world: World, buffer: Buffer) -> None:
    """The ordinary invoices lie in the database, and nothing has been sent yet."""
    for number in range(WAITING):
        content = invoice(number=f"FV/{number}/2026", lines=1, seed=number)
        (world.folder / "inbox" / f"f{number:05}.xml").write_bytes(content)
    buffer.folder.take_in(world.clock())
    world.clock.sleep(world.config.inbox.settle_seconds)
    while buffer.folder.take_in(world.clock()):
        pass
    assert counts(buffer)["queued"] == WAITING


def receipts(buffer: Buffer) -> int:
    """How many of those that have a number have their UPO too."""
    with buffer.database.reading() as tx:
        seen = overview(tx, buffer.clock())
    return seen.counts["sent"] - seen.upos_due


def test_ten_thousand_waiting_are_drained_and_the_tills_notice_nothing(
    tmp_path: Path, template: Path, login: CertificateLogin
) -> None:
    alone = in_an_empty_shop(tmp_path / "empty", template, login)
    world = shop(tmp_path / "shop", template)
    seen = watched(world)
    buffer = world.buffer(login, limiter=remembered(world))
    prepare(buffer)
    store_all(world, buffer)
    till = Till(world)

    def each(number: int) -> None:
        till.look()
        # From the very start on, through batch, processing, numbers and answers.
        if len(till.dropped) < URGENT and number % 50 == 0:
            till.sell()

    def done() -> bool:
        return len(till.waited) == URGENT and counts(buffer)["sent"] == WAITING + URGENT

    drive(world, buffer, done, rounds=20_000, each=each)
    drive(world, buffer, lambda: receipts(buffer) >= SAMPLE + URGENT, rounds=5_000)
    accepted, calls = world.sandbox.accepted(), world.sandbox.calls
    assert Counter(one.sha256 for one in accepted).most_common(1)[0][1] == 1
    assert len(accepted) == WAITING + URGENT
    assert seen.limited == []
    assert world.sandbox.deviations == []
    assert 1 <= calls["openBatch"] <= 2
    assert calls["closeBatch"] == calls["openBatch"]
    assert calls["sendInvoice"] == URGENT
    numbers = {one.sha256: one.ksef_number for one in accepted}
    with buffer.database.reading() as tx:
        ours = documents.listing(tx, states=[State.SENT], limit=WAITING + URGENT)
        assert {document.sha256: document.ksef_number for document in ours} == numbers
        confirmed = [document for document in ours if document.has_upo][:SAMPLE]
        for document in confirmed:
            assert str(document.ksef_number).encode() in (documents.upo(tx, document.id) or b"")
    assert len(confirmed) == SAMPLE
    # Seconds beyond the settling. One question about a status more or less is chance, in an empty shop too.
    late = {name: (waited, alone[name]) for name, waited in till.waited.items() if waited > 1.5 * alone[name]}
    assert late == {}
    assert fmean(till.waited.values()) <= 1.15 * fmean(alone.values())
    buffer.close()
    world.sandbox.close()
