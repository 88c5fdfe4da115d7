"""25,000 invoices in packages cut short, pulled by a buffer that is killed again and again: each exactly once, with all
of its roles, its bytes as KSeF has them, in the folder where whoever made it says it belongs.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from ksefbuffer.invoice.identifiers import sha256_hex
from ksefbuffer.queue import incoming, recounts
from ksefbuffer.receiver import recount
from ksefbuffer.receiver.debts import FACT
from ksefbuffer.receiver.filing import Filing
from ksefbuffer.receiver.stock import bring_in
from ksefbuffer.sandbox import Fault, SeededInvoice
from tests.crash.harness import Fate, template_database
from tests.receiver.generator import many, rulebook_toml
from tests.receiver.world import World, with_roles
from tests.samples import NIP

pytestmark = pytest.mark.crash

COUNT = int(os.environ.get("PULL_COUNT", "25000"))
LIVES = 14
_ROLES = (
    ["buyer"], ["buyer"], ["buyer"], ["buyer", "third"], ["buyer"], ["third"], ["authorized"], ["buyer"],
    ["seller", "authorized"], ["buyer", "third", "authorized", "seller"],
)  # fmt: skip


def files(truth: dict[str, tuple[str, frozenset[str]]], folders: dict[str, str]) -> Iterator[SeededInvoice]:
    for place, made in enumerate(many(COUNT, 3)):
        roles = _ROLES[place % len(_ROLES)]
        truth[made.ksef_number] = sha256_hex(made.content), frozenset(roles)
        folders[made.ksef_number] = made.folder
        one = with_roles(made.content, roles)
        yield SeededInvoice(one.content, {**one.metadata, "ksefNumber": made.ksef_number})


def tree(root: Path) -> dict[str, tuple[str, str]]:
    """Folder and hash of every file, by the KSeF number in its name."""
    found = [(path.stem.rsplit("_", 1)[-1], path) for path in root.rglob("*.xml")]
    assert len({number for number, _ in found}) == len(found), "an invoice lies in two places"
    return {number: (str(path.parent.relative_to(root)), sha256_hex(path.read_bytes())) for number, path in found}


def test_a_large_backlog_over_many_deaths_comes_whole_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path / "world", template_database(tmp_path))
    receiver = world.receiver()
    at = world.clock.now
    bring_in(receiver.database, rulebook_toml(), nip=NIP, environment="sandbox", at=at, actor="test", note="")
    receiver.close()
    truth: dict[str, tuple[str, frozenset[str]]] = {}
    folders: dict[str, str] = {}
    world.sandbox.seed(files(truth, folders))
    world.seeded_at = world.clock.now
    world.sandbox.export_at_most(max(COUNT // 7, 1), part_bytes=2_000_000)
    world.sandbox.faults.add(Fault("startExport", "wrong_invoice", skip=2, ordinal=5))
    world.sandbox.faults.add(Fault("downloadPart", "html", skip=5, times=2))
    world.sandbox.faults.add(Fault("startExport", "wrong_figure", skip=5, details=("partHash",)))
    chance = random.Random(5)
    deaths = 0
    for _ in range(LIVES):
        if world.live(Fate(chance.randint(15, 60))):
            break
        deaths += 1
    else:
        assert world.live(Fate())
    assert deaths >= 8
    receiver = world.receiver()
    world.work_for(receiver, hours=1)
    with receiver.database.reading() as tx:
        stored = {one.ksef_number: one for one in incoming.listing(tx, limit=COUNT + 1)}
        rows = incoming.count(tx)
        events = tx.exec_driver_sql("SELECT count(*) FROM incoming_events WHERE event = 'stored'").scalar()
        lone = tx.exec_driver_sql("SELECT id, sha256, content FROM incoming")
        assert all(sha256_hex(content) == sha256 for _, sha256, content in lone)
        assert recounts.ours(tx, [sha256 for sha256, _ in truth.values()]) == set()
    assert (rows, events) == (COUNT, COUNT)
    assert {number: (one.sha256, one.roles) for number, one in stored.items()} == truth
    assert world.fact(FACT) is None
    for subject in world.subjects:
        told = world.fact(recount.FACT)[subject]
        expected = sum(subject in roles for _, roles in truth.values())
        assert (told["at_ksef"], told["here"], told["missing_count"]) == (expected, expected, 0)
    # What survives a crash is other tests' matter; here it would only take its time.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    filing = Filing(receiver.database, tmp_path / "incoming", lambda folder: None)
    filing.prepare(world.clock.now)
    while filing.step(world.clock()):
        pass
    filed = {number: (folders[number], sha256) for number, (sha256, _) in truth.items()}
    assert tree(tmp_path / "incoming") == filed
    receiver.close()
    world.sandbox.close()
