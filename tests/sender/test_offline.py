"""Issuing offline: a shop goes on while KSeF is away, with both codes at once, and everything reaches KSeF in time."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ksefbuffer.erp import submit
from ksefbuffer.invoice.precheck import CheckContext
from ksefbuffer.queue import documents, pauses, terms
from ksefbuffer.queue.states import State
from ksefbuffer.sandbox import Fault
from ksefbuffer.sandbox.credentials import IssuedCertificate
from tests.conftest import Clock, Shop
from tests.samples import NIP, invoice

ANSWERED_WITHIN_S = 2.0


@pytest.fixture(params=["ec", "rsa"])
def key(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def offline_shop(make_shop: Callable[..., Shop], tmp_path: Path, key: str = "ec", settings: str = "") -> Shop:
    """A shop with an Offline certificate of its own sandbox, whose QR pages are the sandbox's."""
    files = {name: tmp_path / f"offline.{name}" for name in ("crt", "key")}
    shop = make_shop(
        f'[ksef]\nbase_url = "http://ksef.sandbox/v2"\nqr_url = "http://ksef.sandbox/qr"\n'
        f'[offline]\ncertificate = "{files["crt"]}"\nprivate_key = "{files["key"]}"\n{settings}'
    )
    issued: IssuedCertificate = shop.sandbox.issue_certificate("Offline", NIP, key=key)
    files["crt"].write_bytes(issued.certificate)
    files["key"].write_bytes(issued.private_key)
    return shop


def drop(shop: Shop, name: str, number: str, **options: Any) -> bytes:
    content = invoice(number=number, issue_date=options.pop("issue_date", shop.clock().date()))
    (shop.inbox / f"{name}.xml.part").write_bytes(content)
    (shop.inbox / f"{name}.xml.part").rename(shop.inbox / f"{name}.xml")
    return content


def let_time_pass(shop: Shop, seconds: float) -> None:
    end = shop.clock() + timedelta(seconds=seconds)
    while shop.clock() < end:
        while shop._steps():
            pass
        shop.clock.forward(0.25 if seconds <= 10 else 2.0)


def told_within(shop: Shop, name: str, seconds: float, ready: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The answer once it is ``ready``; fails when that takes longer."""
    end = shop.clock() + timedelta(seconds=seconds)
    while True:
        while shop._steps():
            pass
        path = shop.outbox / f"{name}.ksef.json"
        if path.exists() and ready(shop.answer(name)):
            return shop.answer(name)
        assert shop.clock() < end, f"not told within {seconds} s: {shop.answer(name) if path.exists() else 'nothing'}"
        shop.clock.forward(0.1)


def with_codes(answer: dict[str, Any]) -> bool:
    return bool(answer["offline"]["mode"] and answer["verification_url"] and answer["certificate_url"])


def documents_of(shop: Shop) -> list[documents.Document]:
    with shop.database.reading() as tx:
        return documents.listing(tx, limit=1000)


def polish(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}"


def test_a_day_without_ksef(make_shop: Callable[..., Shop], tmp_path: Path, clock: Clock, key: str) -> None:
    """The line is cut on Thursday at 10:00 Polish time and comes back on Friday at 9:30."""
    clock.now = datetime(2026, 11, 19, 8, 59, tzinfo=UTC)
    shop = offline_shop(make_shop, tmp_path, key)
    drop(shop, "przed", "FV/0")
    told_within(shop, "przed", 10, lambda answer: bool(answer["ksef_number"]))
    assert shop.answer("przed")["offline"] == {"mode": None, "deadline": None}

    shop.sandbox.outage(everything=True)
    contents = []
    for number in range(1, 26):
        contents.append(drop(shop, f"faktura-{number}", f"FV/{number}"))
        answer = told_within(shop, f"faktura-{number}", ANSWERED_WITHIN_S, with_codes)
        assert answer["offline"] == {"mode": "offline24", "deadline": "2026-11-20T22:59:59.000Z"}
        assert answer["jpk_marker"] == "OFF"
        assert answer["status"] in ("queued", "failed")
        assert answer["ksef_number"] is None
        let_time_pass(shop, 20)

    clock.now = datetime(2026, 11, 20, 8, 30, tzinfo=UTC)
    shop.sandbox.stop_outage()
    let_time_pass(shop, 180)
    for number, content in enumerate(contents, start=1):
        answer = shop.answer(f"faktura-{number}")
        assert answer["status"] == "sent", answer
        assert answer["invoicing_mode"] == "offline"
        assert answer["jpk_marker"] is None
        assert answer["offline"]["mode"] == "offline24"
        assert datetime.fromisoformat(answer["accepted_at"]) < datetime.fromisoformat(answer["offline"]["deadline"])
        # The sandbox works both codes out on its own: hash, serial number, signature, rights.
        page = shop.sandbox.follow_link(answer["verification_url"])
        assert page["ksefNumber"] == answer["ksef_number"], page
        assert shop.sandbox.follow_link(answer["certificate_url"])["valid"] is True
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        assert digest in answer["verification_url"]
        assert digest in answer["certificate_url"]
    assert len(shop.sandbox.accepted()) == 26
    assert shop.sandbox.deviations == []

    drop(shop, "po", "FV/99")
    answer = told_within(shop, "po", 10, lambda answer: bool(answer["ksef_number"]))
    assert answer["offline"]["mode"] is None
    assert answer["invoicing_mode"] == "online"


def test_an_announced_failure_over_easter_and_a_second_one(
    make_shop: Callable[..., Shop], tmp_path: Path, clock: Clock
) -> None:
    clock.now = datetime(2027, 3, 25, 9, 0, tzinfo=UTC)
    shop = offline_shop(make_shop, tmp_path)
    let_time_pass(shop, 5)
    first = shop.sandbox.latarnia("failure", title="Awaria KSeF")
    shop.sandbox.outage()
    let_time_pass(shop, 70)
    drop(shop, "w-awarii", "FV/1")
    answer = told_within(shop, "w-awarii", ANSWERED_WITHIN_S, with_codes)
    assert answer["offline"] == {"mode": "awaria", "deadline": None}
    assert "Ministerstwo ogłosiło awarię KSeF" in answer["waits_for"]

    clock.now = datetime(2027, 3, 27, 18, 0, tzinfo=UTC)
    shop.sandbox.latarnia("end", event=first)
    let_time_pass(shop, 130)
    # Easter Monday is the 29th; the clocks went forward on the 28th.
    assert shop.answer("w-awarii")["offline"] == {"mode": "awaria", "deadline": "2027-04-07T21:59:59.000Z"}
    with shop.database.reading() as tx:
        (document,) = documents.listing(tx)
    assert document.offline_event is not None
    assert document.offline_event["event_id"] == first

    clock.now = datetime(2027, 4, 6, 8, 0, tzinfo=UTC)
    second = shop.sandbox.latarnia("failure", title="Druga awaria")
    let_time_pass(shop, 70)
    assert shop.answer("w-awarii")["offline"]["deadline"] is None
    clock.now = datetime(2027, 4, 6, 12, 0, tzinfo=UTC)
    shop.sandbox.latarnia("end", event=second)
    shop.sandbox.stop_outage()
    let_time_pass(shop, 300)
    answer = shop.answer("w-awarii")
    assert answer["offline"]["deadline"] == "2027-04-15T21:59:59.000Z"
    assert answer["status"] == "sent"
    assert answer["invoicing_mode"] == "offline"


def test_an_invoice_of_a_total_failure_is_not_sent(
    make_shop: Callable[..., Shop], tmp_path: Path, clock: Clock
) -> None:
    shop = offline_shop(make_shop, tmp_path)
    let_time_pass(shop, 5)
    event = shop.sandbox.latarnia("total_failure")
    let_time_pass(shop, 70)
    drop(shop, "bez-ksef", "FV/1")
    answer = told_within(shop, "bez-ksef", ANSWERED_WITHIN_S, lambda told: bool(told["offline"]["mode"]))
    assert answer["offline"] == {"mode": "awaria całkowita", "deadline": None}
    assert answer["certificate_url"] is None
    assert answer["verification_url"] is None
    assert "art. 106ng" in answer["waits_for"]
    assert not list(shop.outbox.glob("*.png"))

    shop.sandbox.latarnia("end", event=event)
    let_time_pass(shop, 600)
    drop(shop, "potem", "FV/2")
    told_within(shop, "potem", 10, lambda told: bool(told["ksef_number"]))
    assert shop.answer("bez-ksef")["status"] == "queued"
    assert len(shop.sandbox.accepted()) == 1


def test_a_person_wants_an_invoice_of_a_total_failure_sent_after_it(
    make_shop: Callable[..., Shop], tmp_path: Path, clock: Clock
) -> None:
    shop = offline_shop(make_shop, tmp_path)
    with shop.database.transaction() as tx:
        terms.declare(tx, "awaria całkowita", since=clock(), at=clock(), actor="cli:anna")
    drop(shop, "bez-ksef", "FV/1")
    told_within(shop, "bez-ksef", ANSWERED_WITHIN_S, lambda told: told["offline"]["mode"] == "awaria całkowita")
    with shop.database.transaction() as tx:
        terms.declare(tx, None, since=clock(), at=clock(), actor="cli:anna")
    (document,) = documents_of(shop)
    context = CheckContext(nip=NIP, environment="sandbox", now=clock())
    submit.retry(shop.database, document.document_id, context, actor="cli:anna")
    answer = told_within(shop, "bez-ksef", 10, lambda told: bool(told["ksef_number"]))
    assert answer["invoicing_mode"] == "offline"


def test_a_mode_that_an_admin_declares_and_ends(make_shop: Callable[..., Shop], tmp_path: Path, clock: Clock) -> None:
    shop = offline_shop(make_shop, tmp_path, settings='mode = "manual"')
    shop.sandbox.outage()
    drop(shop, "cicho", "FV/1")
    let_time_pass(shop, 120)
    assert shop.answer("cicho")["offline"]["mode"] is None, "manual: nothing happens by itself"
    with shop.database.transaction() as tx:
        terms.declare(tx, "awaria", since=clock(), at=clock(), actor="cli:anna", note="komunikat BIP 7/2026")
    answer = told_within(shop, "cicho", ANSWERED_WITHIN_S, with_codes)
    assert answer["offline"] == {"mode": "awaria", "deadline": None}
    clock.now = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    with shop.database.transaction() as tx:
        terms.declare(tx, None, since=clock(), at=clock(), actor="cli:anna")
    ended = told_within(shop, "cicho", ANSWERED_WITHIN_S, lambda told: bool(told["offline"]["deadline"]))
    assert ended["offline"]["deadline"] == "2026-12-02T22:59:59.000Z"


def test_switched_off_nothing_is_issued_offline(make_shop: Callable[..., Shop], tmp_path: Path) -> None:
    shop = offline_shop(make_shop, tmp_path, settings='mode = "off"')
    shop.sandbox.outage()
    drop(shop, "czeka", "FV/1")
    let_time_pass(shop, 200)
    answer = shop.answer("czeka")
    assert answer["offline"] == {"mode": None, "deadline": None}
    assert answer["certificate_url"] is None
    assert answer["jpk_marker"] is None


def with_options(shop: Shop, name: str, options: str) -> None:
    (shop.inbox / f"{name}.json").write_text(options)


def test_an_erp_says_that_it_issued_offline(make_shop: Callable[..., Shop], tmp_path: Path) -> None:
    shop = offline_shop(make_shop, tmp_path)
    with_options(shop, "kasa", '{"offline": true}')
    drop(shop, "kasa", "FV/1")
    answer = told_within(shop, "kasa", 10, lambda told: bool(told["ksef_number"]))
    assert answer["offline"]["mode"] == "offline24"
    assert answer["invoicing_mode"] == "offline"
    assert answer["certificate_url"]


def test_an_erp_that_wants_no_offline_invoice_waits(make_shop: Callable[..., Shop], tmp_path: Path) -> None:
    shop = offline_shop(make_shop, tmp_path)
    shop.sandbox.outage()
    with_options(shop, "hurt", '{"offline": false}')
    drop(shop, "hurt", "FV/1")
    drop(shop, "kasa", "FV/2")
    told_within(shop, "kasa", 4, with_codes)
    let_time_pass(shop, 60)
    assert shop.answer("hurt")["offline"]["mode"] is None
    shop.sandbox.stop_outage()
    let_time_pass(shop, 200)
    assert shop.answer("hurt")["invoicing_mode"] == "online"


def test_without_an_offline_certificate_the_term_is_told_and_the_lack_too(
    make_shop: Callable[..., Shop], tmp_path: Path
) -> None:
    shop = make_shop()
    shop.sandbox.outage()
    drop(shop, "kasa", "FV/1")
    answer = told_within(shop, "kasa", 4, lambda told: bool(told["offline"]["mode"]))
    assert answer["offline"]["deadline"] == "2026-11-23T22:59:59.000Z"
    assert answer["certificate_url"] is None
    with shop.database.reading() as tx:
        mode = terms.told(tx)
    assert mode is not None
    assert "cert enroll" in mode["signing"]


def test_a_certificate_that_comes_later_signs_what_was_issued_without_one(
    make_shop: Callable[..., Shop], tmp_path: Path
) -> None:
    shop = offline_shop(make_shop, tmp_path)
    away = (tmp_path / "offline.crt").rename(tmp_path / "elsewhere.crt")
    shop.sandbox.outage()
    drop(shop, "kasa", "FV/1")
    answer = told_within(shop, "kasa", 4, lambda told: bool(told["offline"]["mode"]))
    assert answer["certificate_url"] is None
    away.rename(tmp_path / "offline.crt")
    answer = told_within(shop, "kasa", 10, with_codes)
    assert shop.sandbox.follow_link(answer["certificate_url"])["valid"] is True


def test_a_number_that_ksef_owes_too_long_turns_the_next_invoices_offline(
    make_shop: Callable[..., Shop], tmp_path: Path
) -> None:
    shop = offline_shop(make_shop, tmp_path, settings="auto_after_seconds = 20")
    shop.sandbox.latency_s = 300
    drop(shop, "pierwsza", "FV/1")
    let_time_pass(shop, 10)
    assert shop.answer("pierwsza")["offline"]["mode"] is None
    told_within(shop, "pierwsza", 25, with_codes)
    drop(shop, "druga", "FV/2")
    told_within(shop, "druga", ANSWERED_WITHIN_S + 1, with_codes)


def test_the_nearest_term_goes_first(make_shop: Callable[..., Shop], tmp_path: Path, clock: Clock) -> None:
    shop = offline_shop(make_shop, tmp_path, settings="[sending]\nbatch_from = 0")
    with shop.database.transaction() as tx:
        pauses.pause(tx, "ksef", at=clock(), until=clock() + timedelta(days=3), code="", message="-", action="")
        terms.declare(tx, "awaria", since=clock(), at=clock(), actor="cli:anna")
    drop(shop, "późna", "FV/1")
    told_within(shop, "późna", ANSWERED_WITHIN_S, with_codes)
    clock.now = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
    with shop.database.transaction() as tx:
        terms.declare(tx, "offline24", since=clock(), at=clock(), actor="cli:anna")
    drop(shop, "pilna", "FV/2")
    told_within(shop, "pilna", ANSWERED_WITHIN_S, with_codes)
    with shop.database.transaction() as tx:
        pauses.over(tx, "ksef")
    let_time_pass(shop, 30)
    assert [one.invoice_number for one in shop.sandbox.invoices()] == ["FV/2", "FV/1"]


def test_what_was_issued_before_ksef_went_away_is_found_and_not_sent_again(
    make_shop: Callable[..., Shop], tmp_path: Path
) -> None:
    """The answer to a send is lost and the line cut: it is issued offline, then its online number is found."""
    shop = offline_shop(make_shop, tmp_path)
    shop.sandbox.faults.add(Fault(operation="sendInvoice", kind="cut_after"))
    drop(shop, "kasa", "FV/1")
    let_time_pass(shop, 1.5)
    shop.sandbox.outage()
    told_within(shop, "kasa", 90, with_codes)
    shop.sandbox.stop_outage()
    answer = told_within(shop, "kasa", 300, lambda told: bool(told["ksef_number"]))
    assert answer["invoicing_mode"] == "online"
    assert answer["jpk_marker"] is None
    assert len(shop.sandbox.invoices()) == 1


def test_a_code_that_does_not_verify_never_leaves(
    make_shop: Callable[..., Shop], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = offline_shop(make_shop, tmp_path)
    from ksefbuffer.identity import material

    sign = material.sign_code
    monkeypatch.setattr(material, "sign_code", lambda key, text: sign(key, hashlib.sha256(text).digest()))
    shop.sandbox.outage()
    drop(shop, "kasa", "FV/1")
    answer = told_within(shop, "kasa", 4, lambda told: bool(told["offline"]["mode"]))
    assert answer["certificate_url"] is None


def test_a_document_in_any_state_is_stamped_once(make_shop: Callable[..., Shop], tmp_path: Path, clock: Clock) -> None:
    shop = offline_shop(make_shop, tmp_path)
    shop.sandbox.outage()
    drop(shop, "kasa", "FV/1")
    first = told_within(shop, "kasa", 4, with_codes)
    shop.started()
    let_time_pass(shop, 100)
    again = shop.answer("kasa")
    assert (again["certificate_url"], again["offline"]) == (first["certificate_url"], first["offline"])
    (document,) = documents_of(shop)
    assert document.state in (State.QUEUED, State.FAILED)
    assert document.offline
