"""A buffer restored from a backup sends nothing until KSeF told it what it has: none lost, none twice."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from ksefbuffer.ksef.auth import CertificateLogin
from ksefbuffer.queue import backup, facts, pauses
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.states import State
from ksefbuffer.sandbox import Fault
from tests.crash.harness import Fate, World, no_limits
from tests.crash.playing import PAIR_STRIDE, calls, failures
from tests.samples import NIP, invoice
from tests.sender.conftest import Shop

LATER = timedelta(days=1)


@pytest.fixture(params=["online", "batch"])
def shop(request: pytest.FixtureRequest, tmp_path: Path, template: Path, login: CertificateLogin) -> Iterator[Shop]:
    world = World(tmp_path / "shop", template, good=0, batch=request.param == "batch")
    shop = Shop(world, login, no_limits())
    yield shop
    shop.buffer.close()
    shop.sandbox.close()


def drop(world: World, *numbers: int) -> None:
    for number in numbers:
        world.drop(f"f{number}.xml", invoice(number=f"FV/{number}/2026", seed=number))


def back_up(world: World) -> Path:
    database = Database(world.config.database.url)
    backup.back_up(database, world.folder / "kopia.db", at=world.clock.now)
    database.close()
    return world.folder / "kopia.db"


def restore(world: World) -> None:
    database = Database(world.config.database.url)
    aside = world.folder / "data" / f"before-{world.clock.now:%H%M%S%f}.db"
    backup.restore(database, world.folder / "kopia.db", nip=NIP, environment="sandbox", aside=aside, at=world.clock.now)
    database.close()


def restored(shop: Shop, login: CertificateLogin) -> Shop:
    shop.buffer.close()
    restore(shop.world)
    shop.sandbox.calls.clear()
    return Shop(shop.world, login, no_limits())


def sends(shop: Shop) -> int:
    return shop.sandbox.calls["sendInvoice"] + shop.sandbox.calls["closeBatch"]


def test_what_was_sent_since_the_backup_is_adopted_not_sent_again(shop: Shop, login: CertificateLogin) -> None:
    drop(shop.world, 1, 2)
    shop.work()
    drop(shop.world, 3, 4, 5)
    shop.work(until=lambda: not any((shop.world.folder / "inbox").glob("*.xml")))
    back_up(shop.world)
    shop.work()
    drop(shop.world, 6, 7, 8)
    shop.work()
    shop.clock.now += LATER
    again = restored(shop, login)
    again.work()
    assert sends(again) == 0
    again.world.books()
    again.buffer.close()


def test_what_was_never_sent_goes_out_after_the_reconciliation(shop: Shop, login: CertificateLogin) -> None:
    drop(shop.world, 1, 2)
    shop.work()
    back_up(shop.world)
    drop(shop.world, 3, 4)
    shop.work()
    shop.sandbox.outage(style="503")
    drop(shop.world, 5, 6)
    shop.work(until=lambda: not any((shop.world.folder / "inbox").glob("*.xml")))
    again = restored(shop, login)
    drop(again.world, 7, 8)
    again.work_for(minutes=20)
    assert {again.document(f"FV/{number}/2026").state for number in (3, 4, 5, 6, 7, 8)} == {State.QUEUED}
    assert "uzgadnia z KSeF" in str(again.answer("f7")["waits_for"])
    again.sandbox.stop_outage()
    again.work()
    again.world.books()
    again.buffer.close()


def test_without_the_pause_an_invoice_would_go_out_twice(shop: Shop, login: CertificateLogin) -> None:
    """The control of the two tests above."""
    drop(shop.world, 1, 2)
    shop.work(until=lambda: not any((shop.world.folder / "inbox").glob("*.xml")))
    back_up(shop.world)
    shop.work()
    shop.buffer.close()
    restore(shop.world)
    database = Database(shop.world.config.database.url)
    with database.transaction() as tx:
        pauses.over(tx, backup.RESTORED)
        facts.forget(tx, backup.RESTORED)
    database.close()
    shop.sandbox.calls.clear()
    again = Shop(shop.world, login, no_limits())
    again.work()
    with pytest.raises(AssertionError, match="sent again"):
        again.world.books()
    again.buffer.close()


def test_a_session_still_in_work_is_waited_for(shop: Shop, login: CertificateLogin) -> None:
    drop(shop.world, 1, 2)
    shop.work(until=lambda: not any((shop.world.folder / "inbox").glob("*.xml")))
    back_up(shop.world)
    stage = "closeBatch" if shop.world.batch else "sendInvoice"
    shop.sandbox.faults.add(Fault(operation=stage, kind="stuck"))
    shop.work(until=lambda: sends(shop) >= 1)
    shop.work_for(seconds=30)
    again = restored(shop, login)
    again.work_for(minutes=10)
    assert sends(again) == 0
    again.sandbox.release()
    again.work()
    assert sends(again) == 0
    again.world.books()
    again.buffer.close()


def test_nothing_is_lost_when_only_the_backup_is_left(shop: Shop, login: CertificateLogin) -> None:
    """A new machine: no folders, no old database. What KSeF has is adopted; the rest was in the backup."""
    drop(shop.world, 1, 2)
    shop.work(until=lambda: not any((shop.world.folder / "inbox").glob("*.xml")))
    back_up(shop.world)
    shop.work()
    shop.buffer.close()
    for name in ("processed", "outbox", "inbox"):
        shutil.rmtree(shop.world.folder / name)
    (shop.world.folder / "data" / "ksefbuffer.db").unlink()
    again = restored(shop, login)
    again.work()
    assert sends(again) == 0
    assert {again.document(f"FV/{number}/2026").state for number in (1, 2)} == {State.SENT}
    assert again.answer("f1")["ksef_number"]
    again.buffer.close()


def test_a_name_used_twice_is_answered_under_the_name_it_came_with(shop: Shop, login: CertificateLogin) -> None:
    drop(shop.world, 1)
    shop.work()
    back_up(shop.world)
    shop.world.good["f1 drugi.xml"] = invoice(number="FV/2/2026", seed=2)
    (shop.world.folder / "inbox" / "f1.xml").write_bytes(shop.world.good["f1 drugi.xml"])
    shop.work()
    assert shop.answer("f1")["invoice_number"] == "FV/2/2026"
    again = restored(shop, login)
    again.work()
    assert again.answer("f1")["invoice_number"] == "FV/2/2026"
    assert again.answer("f1")["status"] == "sent"
    again.buffer.close()


def test_a_session_that_ksef_will_not_list_does_not_hold_sending_back_for_ever(
    shop: Shop, login: CertificateLogin
) -> None:
    drop(shop.world, 1)
    shop.work()
    back_up(shop.world)
    drop(shop.world, 2)
    shop.work()
    again = restored(shop, login)
    drop(shop.world, 3)
    again.sandbox.faults.add(Fault(operation="sessionInvoices", kind="session_unknown", times=None))
    again.work(until=lambda: _sending_goes_on(again))
    again.sandbox.faults.clear()
    again.work()
    assert {again.document(f"FV/{number}/2026").state for number in (1, 2, 3)} == {State.SENT}
    assert len(again.sandbox.accepted()) == 3
    again.buffer.close()


def _sending_goes_on(shop: Shop) -> bool:
    with shop.buffer.database.reading() as tx:
        return pauses.known(tx, backup.RESTORED) is None


@pytest.mark.crash
@pytest.mark.parametrize("batch", [False, True])
def test_a_restored_buffer_may_die_anywhere(
    batch: bool, tmp_path_factory: pytest.TempPathFactory, template: Path, login: CertificateLogin
) -> None:
    def play(fates: Sequence[Fate]) -> World:
        world = World(tmp_path_factory.mktemp("world") / "shop", template, good=0, batch=batch)
        drop(world, 1, 2)
        first = Shop(world, login, no_limits())
        first.work(until=lambda: not any((world.folder / "inbox").glob("*.xml")))
        back_up(world)
        first.work()
        drop(world, 3, 4)
        first.work()
        world.sandbox.outage(style="503")
        drop(world, 5)
        first.work(until=lambda: not any((world.folder / "inbox").glob("*.xml")))
        world.sandbox.stop_outage()
        first.buffer.close()
        restore(world)
        for fate in (*fates, Fate()):
            world.live(fate, login)
        return world

    course = Fate()
    play([course]).books()
    kills: Iterator[Sequence[Fate]] = ([Fate(at)] for at in range(1, course.count + 1, 1 + PAIR_STRIDE // 3))
    assert failures(play, kills) == []
    lost: Iterator[Sequence[Fate]] = ([Fate(at, "lost")] for at in calls(course.seen)[:: 1 + PAIR_STRIDE // 3])
    assert failures(play, lost) == []
