"""Rescans: what appeared below the mark is found, and both directions are counted."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ksefbuffer.invoice.identifiers import sha256_hex
from ksefbuffer.queue import facts
from ksefbuffer.receiver import recount, rescan
from ksefbuffer.receiver.debts import FACT
from ksefbuffer.sandbox import Fault, SeededInvoice
from tests.crash.harness import START
from tests.receiver.test_pull import pull_all
from tests.receiver.world import SUBJECTS, Receiver, World, bought, with_roles
from tests.samples import NIP, invoice


def late(world: World, count: int, first: int, at: Any = START - timedelta(hours=5)) -> list[str]:
    """Invoices that appear below a mark already told."""
    files = enumerate(bought(count, first=first))
    return world.seed([SeededInvoice(one, permanent_at=at + place * timedelta(seconds=1)) for place, one in files])


def told(world: World, subject: str = "buyer") -> dict[str, Any]:
    found: dict[str, Any] = world.fact(recount.FACT)[subject]
    return found


def test_rows_below_the_mark_are_healed_and_the_recount_proves_it(
    world: World, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    world.bought(20)
    pull_all(world, receiver)
    world.work_for(receiver, minutes=2)
    assert told(world)["healed"] == 0
    hidden = late(world, 3, 40)
    with caplog.at_level(logging.WARNING):
        world.work_for(receiver, hours=25)
    world.books()
    one = told(world)
    assert (one["at_ksef"], one["here"], one["healed"]) == (23, 23, 3)
    assert one["missing_at_ksef"] == []
    assert set(hidden) <= set(world.stored())
    assert sum("recount of buyer" in line for line in caplog.messages) == 1


def test_without_a_rescan_a_late_row_stays_unknown(world: World, receiver: Receiver) -> None:
    world.bought(2)
    pull_all(world, receiver)
    late(world, 1, 40)
    world.work_for(receiver, rescans=False, hours=25)
    with pytest.raises(AssertionError, match="missing"):
        world.books()


def test_a_row_three_weeks_late_is_found_by_the_weekly_rescan(world: World, receiver: Receiver) -> None:
    pull_all(world, receiver)
    world.work_for(receiver, minutes=2)
    late(world, 2, 40, START - timedelta(days=21))
    world.work_for(receiver, days=8)
    world.books()


def test_a_rescan_of_roles_grows_them(world: World, receiver: Receiver) -> None:
    """A role's own row came late: the invoice is known by another role."""
    files = bought(2)
    world.seed([with_roles(files[0], ["buyer", "third"])], ["buyer", "third"])
    world.sandbox.faults.add(Fault("queryMetadata", "late_row", times=1))
    pull_all(world, receiver)
    assert [one.roles for one in world.stored().values()] == [frozenset({"buyer"})]
    world.work_for(receiver, hours=25)
    world.books()


def test_overlapping_pages_count_each_invoice_once(world: World, receiver: Receiver) -> None:
    world.bought(300)
    world.sandbox.faults.add(Fault("queryMetadata", "overlap", times=None, ordinal=9))
    pull_all(world, receiver)
    world.work_for(receiver, minutes=5)
    world.books()
    assert (told(world)["at_ksef"], told(world)["here"], told(world)["missing_count"]) == (300, 300, 0)


@pytest.mark.parametrize("hidden", [3, 90])
def test_a_large_period_is_gone_through_by_export(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, hidden: int
) -> None:
    monkeypatch.setattr(rescan, "_FEW_KNOWN", 10)
    world.bought(40)
    pull_all(world, receiver)
    late(world, hidden, 100)
    world.sandbox.export_at_most(25)
    world.work_for(receiver, minutes=10)
    world.books()
    one = told(world)
    assert (one["at_ksef"], one["here"], one["healed"], one["missing_count"]) == (40 + hidden, 40 + hidden, hidden, 0)


def test_a_moment_with_more_than_a_package_holds_does_not_stop_a_rescan(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescan, "_FEW_KNOWN", 3)
    world.bought(5)
    pull_all(world, receiver)
    moment = (START - timedelta(hours=5)).isoformat()
    world.seed(
        [
            SeededInvoice(one, {"invoicingDate": f"2026-11-20T03:59:{place:02}.000000+00:00"}, permanent_at=moment)
            for place, one in enumerate(bought(9, first=50))
        ]
    )
    late(world, 1, 80)
    world.sandbox.export_at_most(4)
    world.work_for(receiver, hours=3)
    world.books()
    assert world.fact(FACT) is None


def test_many_missing_ones_come_by_export_and_not_one_by_one(world: World, receiver: Receiver) -> None:
    world.bought(5)
    pull_all(world, receiver)
    late(world, 60, 100)
    world.work_for(receiver, minutes=5)
    world.books()
    assert world.sandbox.calls["downloadInvoice"] == 0
    assert told(world)["healed"] == 60


@pytest.mark.parametrize(
    "fault",
    [
        Fault("startExport", "wrong_figure", details=("partHash",), times=2),
        Fault("startExport", "export_status", code=500, times=2),
        Fault("startExport", "wrong_invoice", times=2),
        Fault("startExport", "wrong_invoice", times=None),
        Fault("startExport", "stuck"),
        Fault("startExport", "cut_after", times=2),
        Fault("queryMetadata", "cut_before", times=9),
        Fault("downloadPart", "html", times=20),
    ],
    ids=lambda fault: f"{fault.operation}-{fault.kind}-{fault.times}",
)
def test_trouble_with_a_rescan_passes(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setattr(rescan, "_FEW_KNOWN", 3)
    world.bought(5)
    pull_all(world, receiver)
    late(world, 3, 100)
    world.sandbox.faults.add(fault)
    world.work_for(receiver, hours=6)
    world.books()
    assert world.fact(FACT) is None


def test_a_restart_in_the_middle_of_a_rescan_begins_it_anew(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescan, "_FEW_KNOWN", 3)
    world.bought(5)
    pull_all(world, receiver)
    late(world, 3, 100)
    world.work_for(receiver, seconds=3)
    again = world.receiver()
    again.pull.recover()
    world.work_for(again, minutes=5)
    world.books()
    again.close()


def test_rescans_keep_to_the_limits_and_leave_most_of_them(tmp_path: Path, template: Path) -> None:
    world = World(tmp_path / "w", template, limits="production")
    receiver = world.receiver()
    world.bought(20)
    world.work_for(receiver, hours=30)
    late(world, 45, 100)
    world.work_for(receiver, hours=30)
    world.books()
    assert world.sandbox.throttled.total() == 0
    receiver.close()


def test_sales_that_did_not_go_through_the_buffer_are_named_and_ours_are_not(world: World, receiver: Receiver) -> None:
    ours, foreign = (invoice(f"S/{n}", NIP, seed=n) for n in (1, 2))
    world.seed([ours], ["seller"])
    (number,) = world.seed([foreign], ["seller"])
    with receiver.database.transaction() as tx:
        insert_sent(tx, ours, next(n for n in world.given if n != number), START)
    pull_all(world, receiver)
    world.work_for(receiver, minutes=5)
    one = told(world, "seller")
    assert [sale["ksef_number"] for sale in one["foreign_sales"]] == [number]
    assert [sale["invoice_number"] for sale in one["foreign_sales"]] == ["S/2"]
    assert one["foreign_count"] == 1
    assert one["missing_at_ksef"] == []


def test_what_we_sent_and_ksef_does_not_list_is_named(world: World, receiver: Receiver) -> None:
    number = "5265877635-20261120-0100001AF629-AF"
    with receiver.database.transaction() as tx:
        insert_sent(tx, invoice("S/9", NIP), number, START - timedelta(hours=5))
        insert_sent(tx, invoice("S/10", NIP, seed=4), number[:-1] + "0", START - timedelta(minutes=2))
    pull_all(world, receiver)
    world.work_for(receiver, minutes=5)
    assert told(world, "seller")["missing_at_ksef"] == [number]


def test_an_invoice_that_ksef_no_longer_lists_is_named(world: World, receiver: Receiver) -> None:
    numbers = world.bought(4)
    pull_all(world, receiver)
    world.sandbox.faults.add(Fault("queryMetadata", "late_row", times=None, ordinal=2))
    world.work_for(receiver, minutes=5)
    assert told(world)["missing_at_ksef"] == [numbers[1]]
    assert told(world)["missing_count"] == 1


def test_at_most_fifty_are_named_and_all_are_counted() -> None:
    listed = [f"{n}" for n in range(100)]
    stored = [(f"x{n}", "2026-11-20T08:00:00Z") for n in range(70)]
    outside = [("y", "2026-11-20T10:00:00.0000001Z"), ("z", "?")]
    found = recount.missing_at_ksef(
        listed, [*stored, *outside], ["5", "w"], start="2026-11-20T07:00:00Z", end="2026-11-20T10:00:00Z"
    )
    assert len(found) == 71
    assert "w" in found


def test_every_role_is_recounted(world: World, receiver: Receiver) -> None:
    pull_all(world, receiver)
    world.work_for(receiver, minutes=5)
    assert set(world.fact(recount.FACT)) == set(SUBJECTS)


def insert_sent(tx: Any, content: bytes, number: str, accepted_at: Any) -> None:
    tx.exec_driver_sql(
        "INSERT INTO documents (document_id, sha256, size, content, invoice_number, corrects, state, urgent, offline,"
        " ksef_number, accepted_at, errors, warnings, received_at, updated_at)"
        " VALUES (?, ?, ?, ?, 'S', '[]', 'sent', 0, 0, ?, ?, '[]', '[]', ?, ?)",
        (number, sha256_hex(content), len(content), content, number, *[f"{accepted_at:%Y-%m-%d %H:%M:%S.%f}"] * 3),
    )
    facts.get(tx, "none")
