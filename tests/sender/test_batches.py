"""Batches from outside: when they are made, what goes in them, and every way KSeF has been seen to spoil them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ksefbuffer.erp import submit
from ksefbuffer.invoice.precheck import CheckContext, Report, check
from ksefbuffer.ksef.auth import CertificateLogin
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.limits import Limiter
from ksefbuffer.ksef.shapes import SessionLimits
from ksefbuffer.queue.states import State
from ksefbuffer.sandbox import Fault
from ksefbuffer.sender.memory import RememberedLimiter
from ksefbuffer.sender.plan import HandIn, Heap, Rest, plan_batch
from tests.crash.harness import World
from tests.samples import correction_of, invoice
from tests.sender.conftest import Shop

NOW = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
NEAR_MIDNIGHT = datetime(2026, 11, 20, 22, 40, tzinfo=UTC)  # 23:40 in Poland


@pytest.fixture
def batch_shop(tmp_path: Path, template: Path, login: object) -> Shop:
    """A buffer for which a few invoices are worth a batch."""
    return Shop(World(tmp_path / "shop", template, good=0, batch=True), login, Limiter())  # type: ignore[arg-type]


def drop_many(shop: Shop, count: int, *, start: int = 1) -> None:
    for number in range(start, start + count):
        shop.drop(f"f{number:05}.xml", invoice(number=f"FV/{number}/2026", seed=number))


def heap(count: int, single_s: float, *, attachments: int = 0, form: str = "FA (3)", age: int = 0) -> Heap:
    return Heap(form, False, count, attachments, NOW - timedelta(minutes=age), single_s)


@pytest.mark.parametrize(
    ("name", "heaps", "now", "batch_from", "expected"),
    [
        ("nothing waits", [], NOW, 20, Rest(None)),
        ("singles are quick enough", [heap(25, 3)], NOW, 20, Rest(None)),
        ("singles would take minutes", [heap(35, 65)], NOW, 20, HandIn("FA (3)", False, 35)),
        ("too few for a batch", [heap(19, 900)], NOW, 20, Rest(None)),
        ("batches switched off", [heap(5_000, 99_999)], NOW, 0, Rest(None)),
        ("never more than KSeF takes", [heap(25_000, 99_999)], NOW, 20, HandIn("FA (3)", False, 10_000)),
        ("attachments go in batches only", [heap(1, 0.1, attachments=1)], NOW, 20, HandIn("FA (3)", False, 1)),
        ("attachments also when switched off", [heap(1, 0.1, attachments=1)], NOW, 0, HandIn("FA (3)", False, 1)),
        ("few, but midnight is near", [heap(15, 3_000)], NEAR_MIDNIGHT, 20, HandIn("FA (3)", False, 15)),
        ("few, and done before midnight", [heap(15, 600)], NEAR_MIDNIGHT, 20, Rest(None)),
        (
            "the oldest heap first",
            [heap(30, 99), heap(40, 99, form="FA (2)", age=9)],
            NOW,
            20,
            HandIn("FA (2)", False, 40),
        ),
    ],
)
def test_plan(name: str, heaps: list[Heap], now: datetime, batch_from: int, expected: object) -> None:
    assert plan_batch(heaps, now, batch_from=batch_from, batch_s=10, paused_until=None) == expected


def test_a_pause_holds_batches_back() -> None:
    until = NOW + timedelta(minutes=1)
    assert plan_batch([heap(35, 65)], NOW, batch_from=20, batch_s=10, paused_until=until) == Rest(until)


def test_many_go_as_one_batch_and_each_gets_number_upo_and_answer(batch_shop: Shop) -> None:
    shop = batch_shop
    drop_many(shop, 30)
    shop.work()
    assert shop.sandbox.calls["openBatch"] == 1
    assert shop.sandbox.calls["closeBatch"] == 1
    assert shop.sandbox.calls["sendInvoice"] == 0
    assert len(shop.sandbox.accepted()) == 30
    for number in range(1, 31):
        told = shop.answer(f"f{number:05}")
        assert (told["status"], told["attempts"]) == ("sent", 1)
        assert (shop.world.folder / "outbox" / f"f{number:05}.upo.xml").exists()
    assert shop.sandbox.calls["sessionInvoices"] <= 3
    assert shop.sandbox.deviations == []


def test_urgent_ones_go_singly_beside_a_batch(batch_shop: Shop) -> None:
    shop = batch_shop
    drop_many(shop, 30)
    for number in range(3):
        (shop.world.folder / "inbox" / f"pilna{number}.json").write_text('{"priority": "urgent"}')
        shop.drop(f"pilna{number}.xml", invoice(number=f"FV/PILNA/{number}", seed=100 + number))
    shop.work()
    assert shop.sandbox.calls["sendInvoice"] == 3
    assert len(shop.sandbox.accepted()) == 33


def test_offline_ones_do_not_share_a_batch_with_others(batch_shop: Shop) -> None:
    shop = batch_shop
    drop_many(shop, 5)
    for number in range(3):
        (shop.world.folder / "inbox" / f"off{number}.json").write_text('{"offline": true}')
        shop.drop(f"off{number}.xml", invoice(number=f"FV/OFF/{number}", seed=200 + number))
    shop.work()
    assert shop.sandbox.calls["openBatch"] == 2
    assert [shop.answer(f"off{number}")["invoicing_mode"] for number in range(3)] == ["offline"] * 3
    assert shop.answer("f00001")["invoicing_mode"] == "online"


def test_a_correction_is_not_in_its_originals_batch(batch_shop: Shop) -> None:
    shop = batch_shop
    drop_many(shop, 5)
    shop.drop("k.xml", correction_of(invoice(number="FV/1/2026", seed=1), number="KOR/1/2026"))
    shop.work(until=lambda: shop.sandbox.calls["openBatch"] == 1)
    assert shop.document("KOR/1/2026").state is State.QUEUED
    shop.work()
    assert shop.answer("k")["status"] == "sent"


def test_an_attachment_goes_in_a_batch(batch_shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The door still refuses attachments (D06: there is no setting yet that tells of the consent); past it they go
    in a batch, even a lone one."""

    def with_consent(content: bytes, context: CheckContext) -> Report:
        report = check(content, context)
        return replace(report, findings=tuple(f for f in report.findings if f.code != "D06"))

    monkeypatch.setattr(submit, "check", with_consent)
    shop = batch_shop
    shop.drop("z.xml", invoice(number="FV/Z", attachment=True))
    shop.work()
    assert shop.answer("z")["status"] == "sent"
    assert shop.sandbox.calls["openBatch"] == 1
    assert shop.sandbox.calls["sendInvoice"] == 0


def test_each_invoice_of_a_batch_is_judged_by_itself(batch_shop: Shop) -> None:
    """One refused, one whose number KSeF has for other bytes, one that KSeF has already: the rest is not held up."""
    shop = batch_shop
    shop.sandbox.faults.add(Fault(operation="closeBatch", kind="invoice_status", code=450))
    drop_many(shop, 6)
    shop.work()
    statuses = [shop.answer(f"f{number:05}")["status"] for number in range(1, 7)]
    assert sorted(statuses) == ["error", *["sent"] * 5]


@pytest.mark.parametrize("code", [405, 415, 430, 435, 500])
def test_a_batch_that_breaks_does_not_hold_its_documents_up(batch_shop: Shop, code: int) -> None:
    shop = batch_shop
    shop.sandbox.faults.add(Fault(operation="closeBatch", kind="session_status", code=code, times=None))
    drop_many(shop, 4)
    shop.work()
    assert {shop.answer(f"f{number:05}")["status"] for number in range(1, 5)} == {"sent"}
    # Singles go on while batches do not work; a document that two batches broke with is sent singly for good.
    assert 1 <= shop.sandbox.calls["openBatch"] <= 2
    assert shop.sandbox.calls["sendInvoice"] == 4
    assert len(shop.sandbox.accepted()) == 4


@pytest.mark.parametrize("kind", ["status_after", "cut_after"])
def test_a_close_that_failed_but_happened_sends_nothing_twice(batch_shop: Shop, kind: str) -> None:
    shop = batch_shop
    shop.sandbox.faults.add(Fault(operation="closeBatch", kind=kind, status=504, times=2))
    drop_many(shop, 5)
    shop.work()
    assert len(shop.sandbox.invoices()) == 5
    assert len(shop.sandbox.accepted()) == 5


@pytest.mark.parametrize("kind", ["html", "status", "cut_before", "cut_after"])
def test_a_part_that_did_not_arrive_is_sent_again(batch_shop: Shop, kind: str) -> None:
    """Only 201 is a success; a firewall's page with 200 is none (FACTS §15.19)."""
    shop = batch_shop
    shop.sandbox.faults.add(Fault(operation="uploadPart", kind=kind, status=503, times=2))
    drop_many(shop, 5)
    shop.work()
    assert len(shop.sandbox.accepted()) == 5


def test_an_upload_that_never_works_gives_the_documents_back(batch_shop: Shop) -> None:
    shop = batch_shop
    shop.sandbox.faults.add(Fault(operation="uploadPart", kind="status", status=403, times=None))
    drop_many(shop, 5)
    shop.work_for(minutes=5)
    assert shop.sandbox.calls["closeBatch"] == 0
    assert {shop.document(f"FV/{number}/2026").state for number in range(1, 6)} <= {State.QUEUED, State.FAILED}
    shop.sandbox.faults.clear()
    shop.work()
    assert len(shop.sandbox.accepted()) == 5
    assert not list((shop.world.folder / "data" / "batches").glob("*"))


def test_a_batch_stuck_at_ksef_is_watched_and_never_resent(batch_shop: Shop) -> None:
    shop = batch_shop
    shop.sandbox.faults.add(Fault(operation="closeBatch", kind="stuck"))
    drop_many(shop, 5)
    shop.work_for(hours=2)
    assert {shop.answer(f"f{number:05}")["status"] for number in range(1, 6)} == {"processing"}
    assert shop.sandbox.calls["openBatch"] == 1
    assert shop.sandbox.calls["sendInvoice"] == 0
    shop.sandbox.release()
    shop.work()
    assert len(shop.sandbox.accepted()) == 5


def test_links_to_receipts_that_expired_are_listed_anew_not_asked_for_one_by_one(batch_shop: Shop) -> None:
    shop = batch_shop
    drop_many(shop, 30)
    shop.work(until=lambda: shop.sandbox.calls["downloadUpo"] >= 1)
    shop.clock.now += timedelta(days=4)
    shop.work()
    assert all((shop.world.folder / "outbox" / f"f{number:05}.upo.xml").exists() for number in range(1, 31))
    assert shop.sandbox.calls["invoiceUpoByKsefNumber"] <= 2
    assert shop.sandbox.calls["sessionInvoices"] <= 4


def test_a_restart_forgets_no_call(batch_shop: Shop) -> None:
    """Thirty sends in a minute, a restart, and the thirty-first still waits for the minute to end."""
    shop = batch_shop
    first = RememberedLimiter(shop.buffer.database)
    now = shop.clock.now
    for _ in range(30):
        assert first.reserve("invoiceSend", now) == 0
        now += timedelta(seconds=0.2)
    assert first.reserve("invoiceSend", now) > 0
    first.penalise("openSession", now, 1800)
    second = RememberedLimiter(shop.buffer.database)
    assert second.reserve("invoiceSend", now) == 0, "without recalling it would go over"
    third = RememberedLimiter(shop.buffer.database)
    third.recall(now)
    assert third.reserve("invoiceSend", now) > 0
    assert third.reserve("openSession", now) > 1700


def test_a_context_with_limits_of_its_own_gets_batches_that_fit(
    batch_shop: Shop, login: CertificateLogin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GET /limits/context is believed, also after a restart that could not ask again."""
    shop = batch_shop
    told = SessionLimits(invoice_bytes=2_000_000, invoice_with_attachment_bytes=4_000_000, invoices=12)
    monkeypatch.setattr(Ksef, "session_limits", lambda self: {"batchSession": told, "onlineSession": told})
    drop_many(shop, 30)
    shop.work()
    assert shop.sandbox.calls["closeBatch"] == 3
    monkeypatch.undo()
    again = Shop(shop.world, login, Limiter())
    assert again.buffer.dispatch.figures.batch == told
    assert again.buffer.folder._context(NOW).max_bytes == 2_000_000
    again.buffer.close()


def test_a_session_limit_of_nothing_is_not_believed(batch_shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = SessionLimits(invoice_bytes=0, invoice_with_attachment_bytes=0, invoices=0)
    monkeypatch.setattr(Ksef, "session_limits", lambda self: {"batchSession": nothing, "onlineSession": nothing})
    drop_many(batch_shop, 30)
    batch_shop.work()
    assert len(batch_shop.sandbox.accepted()) == 30
