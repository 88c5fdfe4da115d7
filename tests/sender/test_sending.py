"""Sending, seen from outside: what KSeF got, what the outbox says, what the log remembers."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ksefbuffer.invoice.forms import FA3
from ksefbuffer.invoice.identifiers import sha256_hex
from ksefbuffer.ksef.auth import CertificateLogin
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.queue.states import State
from ksefbuffer.sandbox import Fault
from tests.crash.harness import World, no_limits
from tests.samples import as_ours, correction_of, invoice, sample_files
from tests.sender.conftest import Shop


def hand_in_elsewhere(shop: Shop, content: bytes) -> str:
    """Another program sends these bytes in our name; returns the KSeF number."""
    ksef = shop.buffer.ksef
    session = ksef.open_session(FA3)
    reference = ksef.send(session, content)
    shop.clock.sleep(5)
    number = ksef.invoice(session.reference, reference).ksef_number
    ksef.close_session(session.reference)
    assert number
    return number


def test_one_session_serves_many_invoices_and_is_closed_when_idle(shop: Shop) -> None:
    for number in range(1, 6):
        shop.drop(f"f{number}.xml", invoice(number=f"FV/{number}/2026", seed=number))
    shop.work()
    assert shop.sandbox.calls["openSession"] == 1
    assert shop.sandbox.calls["closeSession"] == 1
    assert len(shop.sandbox.accepted()) == 5
    assert shop.sandbox.deviations == []


def test_an_invoice_costs_few_calls(shop: Shop) -> None:
    """One send, and as the pace settles about one status and one receipt: nothing needless."""
    for number in range(1, 31):
        shop.drop(f"f{number}.xml", invoice(number=f"FV/{number}/2026", seed=number))
        shop.work_for(seconds=3)
    calls = shop.sandbox.calls
    assert calls["sendInvoice"] == 30
    assert calls["invoiceStatus"] <= 50
    assert calls["downloadUpo"] == 30
    assert calls["challenge"] == 1


def test_an_idle_buffer_calls_nobody(shop: Shop) -> None:
    shop.drop("f.xml", invoice())
    shop.work()
    before = shop.sandbox.calls.total()
    for _ in range(100):
        shop.clock.sleep(60)
        assert not shop.buffer.dispatch.step()
        assert not shop.buffer.reconcile.step()
    assert shop.sandbox.calls.total() == before


def test_urgent_invoices_go_first(shop: Shop) -> None:
    for number in range(1, 4):
        shop.drop(f"f{number}.xml", invoice(number=f"FV/{number}/2026", seed=number))
    shop.drop("pilna.xml", invoice(number="FV/PILNA", seed=9))
    (shop.world.folder / "inbox" / "pilna.json").write_text('{"priority": "urgent"}')
    shop.work()
    assert shop.sandbox.invoices()[0].invoice_number == "FV/PILNA"


def test_a_session_is_left_well_before_its_twelve_hours(shop: Shop) -> None:
    shop.buffer.dispatch.idle = timedelta(hours=13)
    shop.drop("f1.xml", invoice(number="FV/1", seed=1))
    shop.work_for(hours=11.9)
    shop.drop("f2.xml", invoice(number="FV/2", seed=2, issue_date=shop.clock.now.date()))
    shop.work(until=lambda: len(shop.sandbox.accepted()) == 2)
    assert shop.sandbox.calls["openSession"] == 2
    assert shop.sandbox.calls["closeSession"] >= 1


def test_a_refused_invoice_reaches_the_erp_with_its_reason(shop: Shop) -> None:
    """KSeF's own refusal (here: forced 450) is an error, never retried by itself; others go on."""
    shop.sandbox.faults.add(
        Fault(operation="sendInvoice", kind="invoice_status", code=450, details=("Nieprawidłowa data",))
    )
    shop.drop("1-zla.xml", invoice(number="FV/1", seed=1))
    shop.drop("2-dobra.xml", invoice(number="FV/2", seed=2))
    shop.work()
    shop.work_for(hours=2)
    told = shop.answer("1-zla")
    assert (told["status"], told["status_pl"]) == ("error", "błąd")
    (error,) = told["errors"]
    assert error["code"] == "450"
    assert error["source"] == "ksef"
    assert error["details"] == ["Nieprawidłowa data"]
    assert error["hint"]
    assert shop.answer("2-dobra")["status"] == "sent"
    assert shop.sandbox.calls["sendInvoice"] == 2


@pytest.mark.parametrize("code", [405, 435])
def test_an_invoice_ended_by_a_broken_session_goes_in_another_one(shop: Shop, code: int) -> None:
    shop.sandbox.faults.add(Fault(operation="sendInvoice", kind="invoice_status", code=code))
    shop.drop("f.xml", invoice())
    shop.work()
    assert shop.answer("f")["status"] == "sent"
    assert shop.sandbox.calls["openSession"] == 2
    assert len(shop.sandbox.accepted()) == 1


def test_a_decryption_error_that_returns_is_not_hammered(shop: Shop) -> None:
    shop.sandbox.faults.add(Fault(operation="sendInvoice", kind="invoice_status", code=435, times=None))
    shop.drop("f.xml", invoice())
    shop.work(until=lambda: shop.sandbox.calls["sendInvoice"] >= 2 and shop.document("FV/1/2026").state is State.FAILED)
    assert shop.answer("f")["status_pl"] in ("niepowodzenie", "w trakcie przetwarzania")
    before = shop.sandbox.calls["sendInvoice"]
    shop.work_for(seconds=50)
    assert shop.sandbox.calls["sendInvoice"] == before
    told = shop.answer("f")
    assert told["status"] == "failed"
    assert told["next_attempt_at"]
    assert told["errors"][0]["code"] == "435"
    shop.sandbox.faults.clear()
    shop.work()
    assert shop.answer("f")["status"] == "sent"


@pytest.mark.parametrize("code", [500, 550])
def test_a_doubtful_end_is_looked_up_before_it_is_sent_again(shop: Shop, code: int) -> None:
    shop.sandbox.faults.add(Fault(operation="sendInvoice", kind="invoice_status", code=code))
    shop.drop("f.xml", invoice())
    shop.work()
    assert shop.answer("f")["status"] == "sent"
    assert shop.sandbox.calls["queryMetadata"] >= 1
    assert len(shop.sandbox.accepted()) == 1


def test_an_invoice_stuck_at_150_is_watched_and_never_resent(shop: Shop) -> None:
    shop.sandbox.faults.add(Fault(operation="sendInvoice", kind="stuck"))
    shop.drop("f.xml", invoice())
    shop.work_for(hours=3)
    assert shop.answer("f")["status_pl"] == "w trakcie przetwarzania"
    assert shop.sandbox.calls["sendInvoice"] == 1
    asked = sum(shop.sandbox.calls[name] for name in ("invoiceStatus", "sessionStatus", "sessionInvoices"))
    assert asked < 3 * 200
    shop.sandbox.release()
    shop.work()
    assert shop.answer("f")["status"] == "sent"
    assert shop.sandbox.calls["sendInvoice"] == 1


def test_the_same_bytes_at_ksef_already_are_adopted(shop: Shop) -> None:
    """440 with our own hash behind it: somebody sent this very file before us, so its number is ours, and its UPO."""
    content = invoice()
    number = hand_in_elsewhere(shop, content)
    shop.drop("f.xml", content)
    shop.work()
    told = shop.answer("f")
    assert (told["status"], told["ksef_number"]) == ("sent", number)
    assert told["errors"] == []
    assert (shop.world.folder / "outbox" / "f.upo.xml").read_bytes()
    assert len(shop.sandbox.accepted()) == 1


def test_adoption_without_a_reachable_upo_goes_by_metadata(shop: Shop) -> None:
    content = invoice()
    number = hand_in_elsewhere(shop, content)
    shop.sandbox.faults.add(Fault(operation="invoiceUpoByKsefNumber", kind="status", status=404, times=1))
    shop.drop("f.xml", content)
    shop.work()
    assert shop.answer("f")["ksef_number"] == number


def test_other_bytes_under_the_number_are_a_reused_number(shop: Shop) -> None:
    number = hand_in_elsewhere(shop, invoice(number="FV/7/2026", seed=1))
    shop.drop("f.xml", invoice(number="FV/7/2026", seed=2))
    shop.work()
    told = shop.answer("f")
    assert (told["status"], told["ksef_number"]) == ("error", None)
    (error,) = told["errors"]
    assert error["code"] == "440"
    assert "użyty ponownie" in error["message"]
    assert number in " ".join(error["details"])
    assert told["document_id"] in " ".join(error["details"])


def test_a_correction_waits_for_its_original(shop: Shop) -> None:
    shop.sandbox.faults.add(Fault(operation="sendInvoice", kind="stuck"))
    original = invoice(number="FV/1/2026", seed=1)
    shop.drop("a.xml", original)
    shop.work_for(seconds=2)
    shop.drop("b.xml", correction_of(original, number="KOR/1/2026"))
    shop.work_for(minutes=2)
    told = shop.answer("b")
    assert told["status"] == "queued"
    assert "FV/1/2026" in told["waits_for"]
    shop.sandbox.release()
    shop.work()
    assert shop.answer("b")["status"] == "sent"
    assert shop.answer("b")["waits_for"] is None


def test_many_waiting_corrections_hide_no_invoice(shop: Shop) -> None:
    shop.sandbox.faults.add(Fault(operation="sendInvoice", kind="stuck"))
    original = invoice(number="FV/1/2026", seed=1)
    shop.drop("a.xml", original)
    shop.work_for(seconds=2)
    for number in range(60):
        shop.drop(f"k{number:02}.xml", correction_of(original, number=f"KOR/{number}/2026"))
    shop.work_for(seconds=5)
    shop.drop("zwykla.xml", invoice(number="FV/2/2026", seed=2))
    shop.work_for(seconds=30)
    assert shop.answer("zwykla")["status"] == "sent"
    assert shop.answer("k59")["status"] == "queued"


def test_an_invoice_adopted_from_nowhere_says_where_its_upo_is(shop: Shop) -> None:
    """440 without a word about the original: found by its number, but in no session that we could ask."""
    content = invoice()
    number = hand_in_elsewhere(shop, content)
    shop.sandbox.faults.add(Fault(operation="sendInvoice", kind="invoice_status", code=440))
    shop.drop("f.xml", content)
    shop.work()
    told = shop.answer("f")
    assert (told["status"], told["ksef_number"], told["upo_file"]) == ("sent", number, None)
    assert [warning["code"] for warning in told["warnings"]] == ["UPO"]


def test_keys_may_change_under_an_open_buffer(shop: Shop) -> None:
    shop.drop("a.xml", invoice(number="FV/1", seed=1))
    shop.work()
    shop.sandbox.rotate_keys()
    shop.drop("b.xml", invoice(number="FV/2", seed=2))
    shop.work()
    assert len(shop.sandbox.accepted()) == 2


def test_a_token_that_ends_in_the_middle_is_renewed(shop: Shop) -> None:
    shop.drop("a.xml", invoice(number="FV/1", seed=1))
    shop.work_for(seconds=5)
    shop.sandbox.expire_tokens()
    shop.drop("b.xml", invoice(number="FV/2", seed=2))
    shop.work()
    shop.sandbox.expire_tokens(refresh=True)
    shop.drop("c.xml", invoice(number="FV/3", seed=3))
    shop.work()
    assert len(shop.sandbox.accepted()) == 3
    assert {shop.answer(name)["attempts"] for name in "abc"} == {1}


def test_a_session_that_ksef_ends_is_replaced(shop: Shop) -> None:
    shop.drop("a.xml", invoice(number="FV/1", seed=1))
    shop.work(until=lambda: len(shop.sandbox.accepted()) == 1)
    shop.sandbox.kill_session(shop.sandbox.invoices()[0].session, 440)
    shop.drop("b.xml", invoice(number="FV/2", seed=2))
    shop.work()
    assert shop.answer("b")["status"] == "sent"
    assert shop.answer("b")["attempts"] == 1
    assert shop.sandbox.calls["openSession"] == 2


OUTAGES: dict[str, dict[str, Any]] = {
    "refused": {"style": "refused"},
    "503": {"style": "503"},
    "html": {"style": "html"},
    "timeout": {"style": "timeout"},
}


@pytest.mark.parametrize("style", OUTAGES)
def test_an_outage_pauses_the_sender_once_and_costs_nothing(shop: Shop, style: str) -> None:
    shop.sandbox.outage(None, **OUTAGES[style])
    for number in range(1, 4):
        shop.drop(f"f{number}.xml", invoice(number=f"FV/{number}/2026", seed=number))
    shop.work_for(minutes=10)
    asked = shop.sandbox.calls.total()
    assert asked < 150, "an absent KSeF is knocked at ever more seldom"
    first, second = shop.answer("f1"), shop.answer("f2")
    assert (first["status"], first["status_pl"]) == ("failed", "niepowodzenie")
    assert first["next_attempt_at"]
    assert first["errors"][0]["message"]
    assert first["errors"][0]["hint"]
    assert second["status"] == "queued"
    assert second["waits_for"]
    shop.sandbox.stop_outage()
    shop.work()
    for number in range(1, 4):
        told = shop.answer(f"f{number}")
        assert (told["status"], told["attempts"], told["errors"], told["waits_for"]) == ("sent", 1, [], None)
    assert len(shop.sandbox.accepted()) == 3


def test_an_outage_in_the_middle_of_sending_loses_and_doubles_nothing(shop: Shop) -> None:
    for number in range(1, 9):
        shop.drop(f"f{number}.xml", invoice(number=f"FV/{number}/2026", seed=number))
    shop.work(until=lambda: shop.sandbox.calls["sendInvoice"] == 4)
    shop.sandbox.outage(None, style="503")
    shop.work_for(minutes=20)
    shop.sandbox.stop_outage()
    shop.work()
    assert sorted(i.invoice_number for i in shop.sandbox.invoices()) == [f"FV/{n}/2026" for n in range(1, 9)]
    assert len(shop.sandbox.accepted()) == 8


def test_a_refused_login_names_the_person_to_act_and_heals_itself(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.sandbox.faults.add(Fault(operation="loginXades", kind="status", status=400, times=None))
    shop.drop("f.xml", invoice())
    shop.work_for(minutes=5)
    assert shop.answer("f")["status"] == "failed"
    assert shop.sandbox.calls["loginXades"] <= 12
    shop.sandbox.faults.clear()
    shop.work()
    assert shop.answer("f")["status"] == "sent"


def test_a_firewall_is_left_alone_for_minutes(shop: Shop) -> None:
    shop.sandbox.faults.add(Fault(operation="*", kind="html_403", times=None))
    shop.drop("f.xml", invoice())
    shop.work_for(minutes=9)
    assert shop.sandbox.calls.total() <= 6
    assert shop.answer("f")["status"] == "failed"
    shop.sandbox.faults.clear()
    shop.work()
    assert shop.answer("f")["status"] == "sent"


def test_retry_after_is_kept_in_full(shop: Shop) -> None:
    shop.sandbox.faults.add(Fault(operation="sendInvoice", kind="status", status=429, retry_after=1800))
    shop.drop("f.xml", invoice())
    shop.work_for(minutes=29)
    assert shop.sandbox.calls["sendInvoice"] == 1
    told = shop.answer("f")
    assert told["status"] == "failed"
    assert told["next_attempt_at"]
    shop.work()
    assert shop.answer("f")["status"] == "sent"
    assert shop.answer("f")["attempts"] == 1


def test_the_published_limits_are_kept_without_one_429(limited_shop: Shop) -> None:
    """35 at once: 25 in the first minute (a share stays for urgent ones), then the rest; KSeF never has to say no."""
    shop = limited_shop
    for number in range(1, 36):
        shop.drop(f"f{number:02}.xml", invoice(number=f"FV/{number}/2026", seed=number))
    started = shop.clock.now
    shop.work(until=lambda: len(shop.sandbox.accepted()) == 25)
    shop.work_for(seconds=5)
    assert len(shop.sandbox.accepted()) == 25
    waiting = [told for n in range(1, 36) if (told := shop.answer(f"f{n:02}"))["status"] in ("queued", "failed")]
    assert len(waiting) == 10
    shop.work()
    assert len(shop.sandbox.accepted()) == 35
    assert timedelta(seconds=60) <= shop.clock.now - started
    assert not [d for d in shop.sandbox.deviations if "limit" in d.name or "retry" in d.name]


def test_a_wrong_upo_is_not_taken(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receipt for another hash is neither stored nor delivered; the right one is, when it comes."""
    original = Ksef.upo_by_link
    wrong: list[int] = []

    def tampered(self: Ksef, link: str) -> bytes:
        upo = original(self, link)
        wrong.append(1)
        return re.sub(rb"(SkrotDokumentu>)[^<]+", rb"\g<1>" + b"A" * 43 + b"=", upo)

    monkeypatch.setattr(Ksef, "upo_by_link", tampered)
    shop.drop("f.xml", invoice())
    shop.work(until=lambda: bool(wrong))
    assert not (shop.world.folder / "outbox" / "f.upo.xml").exists()
    shop.work()
    assert (shop.world.folder / "outbox" / "f.upo.xml").exists()
    assert shop.document("FV/1/2026").has_upo


@pytest.mark.parametrize("kind", ["html", "cut_body", "empty", "status"])
def test_a_receipt_that_does_not_come_is_asked_for_again(shop: Shop, kind: str) -> None:
    shop.sandbox.faults.add(Fault(operation="downloadUpo", kind=kind, times=None))
    shop.drop("f.xml", invoice())
    shop.work()
    assert shop.document("FV/1/2026").has_upo


def test_a_restart_closes_what_was_open_and_asks_what_arrived(shop: Shop, login: Any) -> None:
    shop.drop("a.xml", invoice(number="FV/1", seed=1))
    shop.work(until=lambda: shop.sandbox.calls["sendInvoice"] == 1)
    shop.buffer.close()
    again = Shop(shop.world, login, shop.buffer.dispatch.figures.limiter)
    again.drop("b.xml", invoice(number="FV/2", seed=2))
    again.work()
    assert shop.sandbox.calls["openSession"] == 2
    assert shop.sandbox.calls["closeSession"] == 2
    assert len(shop.sandbox.accepted()) == 2
    again.buffer.close()


VALID = sample_files()
BROKEN = sample_files(valid=False)
_NEED_BATCH = "zalacznik"


@pytest.mark.skipif(not VALID, reason="the real-world samples (../shared) are not here")
def test_every_valid_sample_goes_the_full_path(shop: Shop) -> None:
    contents = {}
    for path in VALID:
        if _NEED_BATCH not in path.name:
            contents[path.stem] = as_ours(path.read_bytes())
            shop.drop(path.name, contents[path.stem])
    shop.work()
    accepted = {i.sha256 for i in shop.sandbox.accepted()}
    outcomes = {name: shop.answer(name) for name in contents}
    refused = {name: told["errors"][0] for name, told in outcomes.items() if told["status"] != "sent"}
    for name, error in refused.items():
        # A sample may repeat another's number, or carry a NIP that no one can have; nothing else may stop it.
        assert error["code"] in ("D05", "D02", "D03"), (name, error)
    sent = {name for name, told in outcomes.items() if told["status"] == "sent"}
    assert {sha256_hex(contents[name]) for name in sent} == accepted
    assert len(sent) >= 30
    for name in sent:
        assert (shop.world.folder / "outbox" / f"{name}.upo.xml").exists()


@pytest.mark.skipif(not BROKEN, reason="the real-world samples (../shared) are not here")
def test_every_broken_sample_is_refused_at_the_door(shop: Shop) -> None:
    for path in BROKEN:
        shop.drop(path.name, path.read_bytes())
    shop.work()
    for path in BROKEN:
        told = shop.answer(path.stem)
        assert told["status"] == "error", path.name
        assert all(error["message"] and error["hint"] for error in told["errors"])
    assert shop.sandbox.invoices() == []


def test_an_incoming_folder_that_is_away_keeps_nobody_from_sending(
    tmp_path: Path, template: Path, login: CertificateLogin
) -> None:
    world = World(tmp_path / "shop", template, good=0)
    (world.folder / "incoming").write_text("to nie jest folder")
    shop = Shop(world, login, no_limits())
    shop.drop("a.xml", invoice(number="FV/1/2026", seed=1))
    shop.work()
    assert shop.answer("a")["status"] == "sent"
    shop.buffer.close()
