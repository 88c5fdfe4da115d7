"""Pulling against the project's strict KSeF, which shares no code with it: what comes, and what goes wrong."""

from __future__ import annotations

import errno
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ksefbuffer.errors import Unreachable
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.shapes import Period, Subject
from ksefbuffer.queue import facts, pauses, pulls
from ksefbuffer.receiver import exporting, holding, instants, pull, schedule
from ksefbuffer.sandbox import Fault, SeededInvoice
from tests.crash.harness import START, Fate
from tests.receiver.world import SUBJECTS, Receiver, World, bought, caught_up, with_roles


def all_up(world: World, receiver: Receiver) -> Callable[[], bool]:
    return lambda: caught_up(receiver, world.seeded_at)


def pull_all(world: World, receiver: Receiver) -> None:
    world.work(receiver, all_up(world, receiver))


def test_every_role_brings_its_invoices_and_one_of_several_roles_is_stored_once(
    world: World, receiver: Receiver
) -> None:
    files = iter(bought(9))
    for roles in ([role] for role in SUBJECTS):
        world.seed([with_roles(next(files), roles)], roles)
    world.seed([with_roles(next(files), SUBJECTS)], SUBJECTS)
    world.seed([with_roles(next(files), ["buyer", "third"]) for _ in range(3)], ["buyer", "third"])
    world.sandbox.seed([with_roles(next(files), [])])
    pull_all(world, receiver)
    world.books()


def test_a_truncated_package_is_continued_from_its_last_date(world: World, receiver: Receiver) -> None:
    world.bought(25)
    world.sandbox.export_at_most(4, part_bytes=2000)
    pull_all(world, receiver)
    world.books()
    assert world.sandbox.calls["startExport"] >= 8


def test_a_cursor_is_the_mark_of_ksef_to_its_seventh_digit(world: World, receiver: Receiver) -> None:
    world.bought(2)
    mark = "2026-11-20T09:00:00.0000017+00:00"
    world.sandbox.hold_hwm(mark)
    pull_all(world, receiver)
    assert {world.cursor(subject).position for subject in SUBJECTS} == {mark}
    world.sandbox.release_hwm()
    world.clock.sleep(5)
    world.seed([SeededInvoice(bought(1, first=9)[0], permanent_at="2026-11-20T09:00:00.0000018+00:00")])
    world.work_for(receiver, minutes=20)
    world.books()


def test_control_a_cursor_rounded_up_loses_an_invoice(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = schedule.reached

    def rounded(period: Period, *, truncated: bool, last: str, hwm: str) -> Any:
        found = original(period, truncated=truncated, last=last, hwm=hwm)
        whole = instants.floor(found.position).replace(microsecond=0) + timedelta(seconds=1)
        return replace(found, position=instants.written(whole))

    monkeypatch.setattr(schedule, "reached", rounded)
    world.sandbox.hold_hwm("2026-11-20T09:00:00.0000017+00:00")
    pull_all(world, receiver)
    world.sandbox.release_hwm()
    world.clock.sleep(5)
    world.seed([SeededInvoice(bought(1)[0], permanent_at="2026-11-20T09:00:00.0000018+00:00")])
    world.work_for(receiver, rescans=False, minutes=20)
    with pytest.raises(AssertionError, match="missing"):
        world.books()


def test_a_backfill_goes_forward_in_windows_and_tells_its_end(tmp_path: Path, template: Path) -> None:
    world = World(tmp_path / "w", template, since=date(2026, 2, 1), limits="production")
    receiver = world.receiver()
    moments = [START - timedelta(days=days) for days in (290, 200, 199, 120, 60, 5, 1)]
    for place, moment in enumerate(moments):
        world.bought(2, first=place * 2, at=moment)
    told: list[Any] = []

    def up() -> bool:
        told.append(world.told())
        return caught_up(receiver, world.seeded_at)

    world.work(receiver, up)
    world.books()
    assert world.sandbox.throttled.total() == 0
    subjects = [one for fact in told if fact for one in fact["subjects"] if one["subject"] == "buyer"]
    positions = [instants.order(one["position"]) for one in subjects]
    assert positions == sorted(positions)
    assert any(one["estimate"] for one in subjects)
    assert {"preparing", "fetching", "storing", "waiting"} <= {one["phase"] for one in subjects}
    receiver.close()
    world.sandbox.close()


def test_four_roles_keep_to_the_limits_of_production_and_nothing_waits_long(tmp_path: Path, template: Path) -> None:
    world = World(tmp_path / "w", template, limits="production", since=date(2026, 11, 15))
    receiver = world.receiver()
    pull_all(world, receiver)
    for hour in range(4):
        world.bought(1 + hour * 6, first=hour * 100)
        files = bought(2, first=hour * 100 + 50)
        world.seed([with_roles(files[0], ["third"])], ["third"])
        world.seed([with_roles(files[1], ["seller"])], ["seller"])
        world.work_for(receiver, minutes=63)
        world.books()
    assert world.sandbox.throttled.total() == 0
    receiver.close()
    world.sandbox.close()


def test_a_few_invoices_come_by_metadata_without_an_export(world: World, receiver: Receiver) -> None:
    pull_all(world, receiver)
    exports = world.sandbox.calls["startExport"]
    world.bought(3)
    world.work_for(receiver, rescans=False, minutes=16)
    world.books()
    assert world.sandbox.calls["startExport"] == exports
    assert world.sandbox.calls["downloadInvoice"] == 3


def test_many_invoices_come_by_export_although_few_were_expected(world: World, receiver: Receiver) -> None:
    pull_all(world, receiver)
    exports = world.sandbox.calls["startExport"]
    world.bought(60)
    world.work_for(receiver, rescans=False, minutes=16)
    world.books()
    assert world.sandbox.calls["startExport"] == exports + 1
    assert world.sandbox.calls["downloadInvoice"] == 0


# Trouble with packages


@pytest.mark.parametrize("figure", ["partSize", "partHash", "encryptedPartSize", "encryptedPartHash"])
def test_a_part_that_is_not_what_ksef_says_never_moves_the_cursor(
    world: World, receiver: Receiver, figure: str
) -> None:
    world.bought(5)
    before = world.cursor("buyer").position
    world.sandbox.faults.add(Fault("startExport", "wrong_figure", details=(figure,)))
    world.work(receiver, lambda: world.cursor("buyer").failures == 1)
    assert world.cursor("buyer").position == before
    assert world.cursor("buyer").problem
    assert world.stored() == {}
    pull_all(world, receiver)
    world.books()


@pytest.mark.parametrize(
    "fault",
    [
        Fault("downloadPart", "html", times=2),
        Fault("downloadPart", "wrong_bytes", times=9),
        Fault("downloadPart", "short_body", times=3),
        Fault("downloadPart", "cut_body", times=6),
        Fault("downloadPart", "link_expired", times=2),
        Fault("downloadPart", "link_expired", times=12),
        Fault("downloadPart", "status", status=503, times=9),
        Fault("downloadPart", "html", times=40),
        Fault("exportStatus", "html", times=9),
        Fault("exportStatus", "status", status=500, times=9),
        Fault("exportStatus", "status", status=429, retry_after=90),
        Fault("startExport", "cut_after", times=3),
        Fault("startExport", "status_after", status=504, times=2),
        Fault("startExport", "status", status=503, times=2),
        Fault("startExport", "html_403"),
        Fault("startExport", "export_status", code=415),
        Fault("startExport", "export_status", code=420),
        Fault("startExport", "export_status", code=500, times=4),
        Fault("startExport", "export_status", code=550, times=2),
        Fault("startExport", "export_status", code=210),
        Fault("startExport", "stuck"),
        Fault("startExport", "wrong_invoice"),
        Fault("startExport", "wrong_invoice", times=None),
        Fault("queryMetadata", "cut_before", times=9),
        Fault("downloadInvoice", "status", status=500, times=7),
        Fault("downloadInvoice", "wrong_bytes", times=30),
    ],
    ids=lambda fault: f"{fault.operation}-{fault.kind}-{fault.code or fault.status}-{fault.times}",
)
def test_trouble_passes_and_nothing_is_lost(world: World, receiver: Receiver, fault: Fault) -> None:
    world.bought(5)
    files = bought(2, first=30)
    world.seed([with_roles(files[0], ["third", "seller"])], ["third", "seller"])
    world.sandbox.export_at_most(part_bytes=2000)
    world.sandbox.faults.add(fault)
    pull_all(world, receiver)
    world.work_for(receiver, rescans=False, hours=26)
    world.books()
    assert world.fact("incoming_trouble") is None


def test_control_without_comparing_hashes_wrong_bytes_are_stored(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Anything(str):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            return True

        def __ne__(self, other: object) -> bool:
            return False

        __hash__ = str.__hash__

    monkeypatch.setattr(exporting, "sha256_hex", lambda content: Anything())
    world.bought(5)
    world.sandbox.faults.add(Fault("startExport", "wrong_invoice", times=None))
    pull_all(world, receiver)
    with pytest.raises(AssertionError, match="is not what KSeF has"):
        world.books()


def test_a_wrong_invoice_stops_the_cursor_then_is_owed_and_had_by_a_single_download(
    world: World, receiver: Receiver
) -> None:
    numbers = world.bought(5)
    before = world.cursor("buyer").position
    world.sandbox.faults.add(Fault("startExport", "wrong_invoice", times=None, ordinal=2))
    world.work(receiver, lambda: world.cursor("buyer").failures == 2)
    assert world.cursor("buyer").position == before
    assert set(world.stored()) == {*numbers} - {numbers[1]}
    assert numbers[1] in (world.cursor("buyer").problem or "")
    world.work(receiver, lambda: world.cursor("buyer").position != before)
    (debt,) = world.fact("incoming_trouble")["invoices"]
    assert debt["ksef_number"] == numbers[1]
    assert "SHA-256" in debt["reason"]
    world.work_for(receiver, rescans=False, seconds=30)
    world.books()
    assert world.fact("incoming_trouble") is None


def test_what_cannot_be_had_at_all_is_owed_and_asked_for_every_day(world: World, receiver: Receiver) -> None:
    world.bought(3)
    false_hash = b64encode(bytes(32)).decode()
    (number,) = world.sandbox.seed([SeededInvoice(bought(1, first=9)[0], {"invoiceHash": false_hash})])
    world.bought(3, first=20)
    pull_all(world, receiver)
    world.work_for(receiver, rescans=False, seconds=30)
    world.books()
    (debt,) = world.fact("incoming_trouble")["invoices"]
    assert (debt["ksef_number"], debt["tries"]) == (number, 1)
    assert "SHA-256" in debt["reason"]
    tried = world.sandbox.calls["downloadInvoice"]
    world.work_for(receiver, rescans=False, hours=20)
    assert world.sandbox.calls["downloadInvoice"] == tried
    world.work_for(receiver, rescans=False, hours=29)
    assert world.sandbox.calls["downloadInvoice"] == tried + 2
    (debt,) = world.fact("incoming_trouble")["invoices"]
    assert debt["tries"] == 3


def test_a_single_download_that_is_not_what_ksef_lists_is_not_stored(world: World, receiver: Receiver) -> None:
    pull_all(world, receiver)
    before = world.cursor("buyer").position
    false_hash = b64encode(bytes(32)).decode()
    (number,) = world.sandbox.seed([SeededInvoice(bought(1, first=9)[0], {"invoiceHash": false_hash})])
    world.bought(2, first=20)
    world.work(receiver, lambda: world.cursor("buyer").failures == 2)
    assert world.cursor("buyer").position == before
    assert number in (world.cursor("buyer").problem or "")
    world.work_for(receiver, rescans=False, minutes=30)
    world.books()
    assert [debt["ksef_number"] for debt in world.fact("incoming_trouble")["invoices"]] == [number]
    assert world.cursor("buyer").problem is None


def test_an_invoice_without_metadata_is_owed_and_found_by_a_query(world: World, receiver: Receiver) -> None:
    files = bought(7)
    world.seed(files[:3])
    world.seed([SeededInvoice(files[3], listed=False)])
    world.seed(files[4:])
    pull_all(world, receiver)
    world.work_for(receiver, rescans=False, minutes=5)
    world.books()
    assert world.sandbox.calls["startExport"] >= 3


def test_a_package_wrong_as_a_whole_keeps_the_cursor(world: World, receiver: Receiver) -> None:
    world.bought(60)
    before = world.cursor("buyer").position
    world.sandbox.faults.add(Fault("startExport", "wrong_invoice", times=None, ordinal=None))
    world.work_for(receiver, rescans=False, hours=3)
    assert world.cursor("buyer").position == before
    assert world.fact("incoming_trouble") is None
    assert "SHA-256" in (world.cursor("buyer").problem or "")
    world.sandbox.faults.clear()
    pull_all(world, receiver)
    world.books()


def test_a_stuck_export_is_abandoned_after_an_hour(world: World, receiver: Receiver) -> None:
    world.bought(5)
    world.sandbox.faults.add(Fault("startExport", "stuck"))
    world.work_for(receiver, rescans=False, minutes=59)
    assert world.sandbox.calls["startExport"] == 2  # the buyer's and the seller's
    world.work_for(receiver, rescans=False, minutes=5)
    world.books()


def test_no_new_data_keeps_the_cursor_and_is_no_failure(world: World, receiver: Receiver) -> None:
    before = world.cursor("buyer").position
    world.sandbox.faults.add(Fault("startExport", "export_status", code=420))
    world.work(receiver, lambda: world.cursor("buyer").caught_up_at is not None)
    assert world.cursor("buyer").position == before
    assert world.cursor("buyer").failures == 0


def test_an_export_that_ksef_does_not_know_is_ordered_anew(world: World, receiver: Receiver) -> None:
    world.bought(5)

    def running() -> list[pulls.Export]:
        with receiver.database.reading() as tx:
            return [one for one in pulls.unfinished(tx) if one.subject == "buyer" and one.state == "running"]

    world.work(receiver, lambda: bool(running()))
    with receiver.database.transaction() as tx:
        tx.exec_driver_sql("UPDATE exports SET reference = '20261120-EH-1111111111-2222222222-33'")
    pull_all(world, receiver)
    world.books()
    with receiver.database.reading() as tx:
        assert pulls.given_up_since(tx, "buyer", START) == 1


def test_ten_running_exports_are_waited_for(world: World, receiver: Receiver) -> None:
    world.bought(5)
    world.sandbox.faults.add(Fault("startExport", "stuck", times=10))
    period = Period("PermanentStorage", "2026-11-19T00:00:00Z", restrict_to_hwm=True)
    for _ in range(10):
        receiver.ksef.start_export(Subject.SELLER, period, key=receiver.ksef.new_export_key())
    world.work_for(receiver, rescans=False, minutes=30)
    assert world.stored() == {}
    assert "21182" in (world.cursor("buyer").problem or "") or "eksport" in (world.cursor("buyer").problem or "")
    world.sandbox.release()
    pull_all(world, receiver)
    world.books()


def test_more_in_one_moment_than_a_package_holds_do_not_stop_the_cursor_and_are_sought_otherwise(
    world: World, receiver: Receiver
) -> None:
    moment = "2026-11-20T08:00:00.1234567+00:00"
    files = bought(9)
    world.seed(
        [
            SeededInvoice(file, {"invoicingDate": f"2026-11-20T07:5{place}:00.000000+00:00"}, permanent_at=moment)
            for place, file in enumerate(files[:8])
        ]
    )
    world.seed(files[8:])
    world.sandbox.export_at_most(3)
    pull_all(world, receiver)
    (seek,) = world.fact("incoming_trouble")["periods"]
    assert moment in seek["reason"]
    assert instants.order(world.cursor("buyer").position) > instants.order(moment)
    world.work_for(receiver, hours=2)
    world.books()
    assert world.fact("incoming_trouble") is None


# Trouble on the way


def test_an_outage_in_the_middle_holds_pulling_alone_and_it_goes_on_by_itself(world: World, receiver: Receiver) -> None:
    world.bought(30)
    world.sandbox.export_at_most(7, part_bytes=2000)
    world.work(receiver, lambda: len(world.stored()) >= 7)
    world.sandbox.outage(3 * 3600)
    world.work_for(receiver, rescans=False, hours=2)
    with receiver.database.reading() as tx:
        held = pauses.known(tx, pauses.INCOMING)
        assert held is not None
        assert held.message.startswith("przerwa w pobieraniu")
        assert pauses.active(tx, world.clock.now) is None
        assert all(pauses.active(tx, world.clock.now, lane) is None for lane in pauses.Lane)
    world.work_for(receiver, rescans=False, hours=2)
    world.books()
    with receiver.database.reading() as tx:
        assert pauses.known(tx, pauses.INCOMING) is None


def test_a_429_is_waited_out_in_full_and_told(world: World, receiver: Receiver) -> None:
    world.bought(5)
    world.sandbox.faults.add(Fault("startExport", "status", status=429, retry_after=1800))
    world.work_for(receiver, rescans=False, minutes=1)
    told = {one["subject"]: one for one in world.told()["subjects"]}
    assert told["buyer"]["problem"].startswith("wstrzymane do 10:30")
    orders = world.sandbox.calls["startExport"]
    world.work_for(receiver, rescans=False, minutes=28)
    assert world.sandbox.calls["startExport"] == orders
    pull_all(world, receiver)
    world.books()


def test_a_refused_login_holds_pulling_and_not_sending(world: World, receiver: Receiver) -> None:
    world.bought(1)
    world.sandbox.revoke_token(world.login.token)
    world.work_for(receiver, rescans=False, minutes=10)
    logins = world.sandbox.calls["loginToken"]
    assert 2 <= logins <= 6
    with receiver.database.reading() as tx:
        assert pauses.known(tx, pauses.INCOMING) is not None
        assert pauses.active(tx, world.clock.now) is None


def test_a_full_disk_is_told_and_the_package_fetched_once_there_is_room(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.bought(5)

    def full(*_: Any) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Ksef, "fetch_part", full)
    world.work_for(receiver, rescans=False, minutes=10)
    assert "No space left" in (world.cursor("buyer").problem or "")
    monkeypatch.undo()
    pull_all(world, receiver)
    world.books()
    assert world.cursor("buyer").problem is None


# What somebody wants


def want(receiver: Receiver, now: datetime, *subjects: str) -> None:
    with receiver.database.transaction() as tx:
        facts.put(tx, pull.WANTED, {"at": now.isoformat(), "subjects": list(subjects)}, at=now)


def test_a_wanted_pull_starts_at_once(world: World, receiver: Receiver) -> None:
    pull_all(world, receiver)
    world.clock.sleep(90)
    world.bought(1)
    want(receiver, world.clock.now)
    began = world.clock.now
    world.work(receiver, lambda: bool(world.stored()))
    assert world.clock.now - began < timedelta(seconds=10)
    assert world.fact(pull.WANTED) is None


def test_wanting_again_and_again_asks_ksef_once_a_minute_at_most(world: World, receiver: Receiver) -> None:
    pull_all(world, receiver)
    before = world.sandbox.calls.total()
    for _ in range(20):
        want(receiver, world.clock.now, "buyer")
        world.work_for(receiver, rescans=False, seconds=1)
    assert world.sandbox.calls.total() == before


def test_a_wanted_pull_tries_at_once_what_was_held_back_but_not_without_end(world: World, receiver: Receiver) -> None:
    world.sandbox.revoke_token(world.login.token)
    world.work_for(receiver, rescans=False, minutes=40)
    tried = world.sandbox.calls["loginToken"]
    for _ in range(30):
        want(receiver, world.clock.now)
        world.work_for(receiver, rescans=False, seconds=1)
    assert tried < world.sandbox.calls["loginToken"] <= tried + 2


def test_a_wanted_pull_of_one_role_leaves_the_others(world: World, receiver: Receiver) -> None:
    pull_all(world, receiver)
    world.clock.sleep(90)
    want(receiver, world.clock.now, "third")
    moved = {subject: world.cursor(subject).moved_at for subject in SUBJECTS}
    world.work_for(receiver, rescans=False, seconds=30)
    assert {s for s in SUBJECTS if world.cursor(s).moved_at != moved[s]} == {"third"}


# Restarts and secrets


def test_a_running_export_survives_a_restart_and_is_not_ordered_twice(world: World) -> None:
    world.bought(5)
    world.sandbox.export_s = 120
    first = world.receiver()

    def ordered() -> bool:
        with first.database.reading() as tx:
            return len([one for one in pulls.unfinished(tx) if one.state == "running"]) == 2

    world.work(first, ordered)
    first.close()
    assert world.live(Fate())
    world.books()
    assert world.sandbox.calls["startExport"] == 2


def test_the_key_of_a_package_goes_when_it_is_stored(world: World, receiver: Receiver) -> None:
    world.bought(2)
    pull_all(world, receiver)
    with receiver.database.reading() as tx:
        kept = list(tx.exec_driver_sql("SELECT state, secret, brought FROM exports"))
    assert sorted((state, secret) for state, secret, _ in kept) == [("done", None), ("done", None)]
    assert sum(brought for *_, brought in kept) == 2


def test_a_first_start_with_ksef_away_waits_and_begins_later(world: World, receiver: Receiver) -> None:
    world.sandbox.outage(600)
    world.bought(2)
    world.work_for(receiver, rescans=False, minutes=5)
    assert world.stored() == {}
    world.work_for(receiver, rescans=False, minutes=20)
    world.books()


def test_nothing_secret_is_shown(world: World, receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    world.bought(3)
    caplog.set_level("DEBUG")
    world.work(receiver, lambda: bool(receiver.exports._parcels))
    shown = repr(receiver.exports) + repr(receiver.pull)
    pull_all(world, receiver)
    for secret in ("Faktura", "sig=", "<?xml", "Bearer"):
        assert secret not in shown + caplog.text


def test_ksef_never_reached_says_so_by_its_class() -> None:
    fault = Unreachable("nie ma sieci")
    assert not holding.is_of_one(fault, tries=99)
    lengths = [holding.length(fault, failures).total_seconds() for failures in range(1, 12)]
    assert lengths == sorted(lengths)
    assert lengths[-1] == 300
