"""A day's outage of a chain: 10,000 invoices wait, KSeF's production limits hold, and the tills go on selling."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest

from ksefbuffer.ksef.auth import CertificateLogin
from ksefbuffer.worker import Buffer, prepare
from tests.crash.harness import World
from tests.samples import invoice
from tests.volume.driving import counts, drive, remembered, shop, watched

pytestmark = pytest.mark.crash

WAITING = 1_000
URGENT = 10
UPOS_SEEN = 25


class Till:
    """Drops urgent invoices and notes on the buffer's clock how long each waits for its number."""

    def __init__(self, world: World) -> None:
        self.world = world
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
                self.waited[name] = (self.world.clock.now - self.dropped[name]).total_seconds()

    def served(self) -> bool:
        return len(self.waited) == len(self.dropped)


def in_an_empty_shop(folder: Path, template: Path, login: CertificateLogin) -> float:
    """What the slowest of ten urgent invoices waits for its number when nothing else is there, in seconds."""
    world = shop(folder, template)
    buffer = world.buffer(login, limiter=remembered(world))
    prepare(buffer)
    till = Till(world)
    for _ in range(URGENT):
        till.sell()
        drive(world, buffer, till.served, rounds=5_000, each=lambda _: till.look())
    buffer.close()
    world.sandbox.close()
    return max(till.waited.values())


def test_ten_thousand_waiting_are_drained_and_the_tills_notice_nothing(
    tmp_path: Path, template: Path, login: CertificateLogin
) -> None:
    alone_s = in_an_empty_shop(tmp_path / "empty", template, login)
    world = shop(tmp_path / "shop", template)
    seen = watched(world)
    inbox = world.folder / "inbox"
    for number in range(WAITING):
        (inbox / f"f{number:05}.xml").write_bytes(invoice(number=f"FV/{number}/2026", lines=1, seed=number))
    buffer = _daemon(world, login)
    till = Till(world)
    began = world.clock.now

    def each(number: int) -> None:
        till.look()
        # The first while the inbox is being emptied, the others through batch, numbers and answers.
        if len(till.dropped) < URGENT and number % 100 == 50:
            till.sell()

    def done() -> bool:
        import os, sys
        if os.environ.get("DBG"):
            print(world.clock.now, len(till.waited), len(till.dropped), counts(buffer), {k: v for k, v in world.sandbox.calls.items()}, file=sys.stderr)
        return len(till.waited) == URGENT and counts(buffer)["sent"] == WAITING + URGENT

    drive(world, buffer, done, rounds=60_000, each=each)
    drained_s = (world.clock.now - began).total_seconds()
    upos = list((world.folder / "outbox").glob("*.upo.xml"))
    drive(
        world,
        buffer,
        lambda: len(list((world.folder / "outbox").glob("f*.upo.xml"))) >= UPOS_SEEN,
        rounds=60_000,
    )
    buffer.close()
    accepted = world.sandbox.accepted()
    calls = world.sandbox.calls
    print(
        f"\ndrained in {drained_s:.0f} s of KSeF's time, {calls['openBatch']} batches; urgent {till.waited}; alone {alone_s}; {len(upos)} {calls}"
    )
    assert len(accepted) == WAITING + URGENT
    assert set(Counter(one.sha256 for one in accepted).values()) == {1}
    assert seen.limited == []
    assert world.sandbox.deviations == []
    assert 1 <= calls["closeBatch"] == calls["openBatch"] <= 2
    assert max(till.waited.values()) <= 1.5 * alone_s + 0.5, (till.waited, alone_s)
    world.sandbox.close()


def _daemon(world: World, login: CertificateLogin) -> Buffer:
    buffer = world.buffer(login, limiter=remembered(world))
    prepare(buffer)
    return buffer
