"""A rejected offline invoice, corrected and accepted: the door, the sender and a strict KSeF together."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ksefbuffer.errors import Refused
from ksefbuffer.invoice.forms import FA3
from ksefbuffer.invoice.identifiers import sha256_hex
from ksefbuffer.ksef.statuses import hint_for
from ksefbuffer.offline.qr import verification_url
from ksefbuffer.queue import documents
from ksefbuffer.queue.documents import Document
from ksefbuffer.queue.states import State
from ksefbuffer.sandbox import Fault
from tests.conftest import Shop
from tests.samples import ISSUE_DATE, NIP, invoice

ORIGINAL = invoice("FV/1/2026", seed=1)


def mended(content: bytes = ORIGINAL, program: str = "kasa 2") -> bytes:
    """The same invoice in another file."""
    changed = content.replace(b"<SystemInfo>ksefbuffer<", f"<SystemInfo>{program}<".encode())
    assert changed != content
    return changed


class Counter:
    """A shop that issues offline, its KSeF, and what customers hold: the links of their QR codes."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.sandbox = shop.sandbox

    def drop(self, name: str, content: bytes, **options: Any) -> None:
        (self.shop.inbox / f"{name}.json").write_text(json.dumps(options))
        (self.shop.inbox / f"{name}.xml.part").write_bytes(content)
        (self.shop.inbox / f"{name}.xml.part").rename(self.shop.inbox / f"{name}.xml")

    def work(self) -> None:
        """Until all is told, batches too."""
        buffer = self.shop.buffer
        idle = 0
        while idle < 80:
            busy = [self.shop._steps(), buffer.batches.step(), buffer.settle_batches.step()]
            idle = 0 if any(busy) else idle + 1
            self.shop.clock.forward(1.0)

    def correct(self, name: str, content: bytes, original: bytes = ORIGINAL) -> dict[str, Any]:
        self.drop(name, content, corrects_sha256=sha256_hex(original))
        self.work()
        return self.shop.answer(name)

    def document(self, content: bytes) -> Document:
        with self.shop.database.reading() as tx:
            found = documents.by_sha256(tx, sha256_hex(content))
        assert found is not None
        return found

    def scan(self, content: bytes) -> dict[str, Any]:
        """KOD I as it was printed for the customer."""
        return self.sandbox.follow_link(verification_url(self.sandbox.qr_url, NIP, ISSUE_DATE, sha256_hex(content)))


@pytest.fixture(params=["online", "batch"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def make_counter(make_shop: Callable[..., Shop], folder: Path, *, batch: bool) -> Counter:
    files = {name: folder / f"offline.{name}" for name in ("crt", "key")}
    shop = make_shop(
        '[ksef]\nbase_url = "http://ksef.sandbox/v2"\nqr_url = "http://ksef.sandbox/qr"\n'
        f'[offline]\ncertificate = "{files["crt"]}"\nprivate_key = "{files["key"]}"\n'
        f"[sending]\nbatch_from = {2 if batch else 0}\n"
    )
    shop.buffer.batches.pace.batch_s = 0.0
    issued = shop.sandbox.issue_certificate("Offline", NIP)
    files["crt"].write_bytes(issued.certificate)
    files["key"].write_bytes(issued.private_key)
    return Counter(shop)


@pytest.fixture
def counter(make_shop: Callable[..., Shop], tmp_path: Path) -> Counter:
    return make_counter(make_shop, tmp_path, batch=False)


def rejected(counter: Counter, code: int = 450) -> dict[str, Any]:
    counter.sandbox.faults.add(Fault("sendInvoice", "invoice_status", code=code))
    counter.drop("kasa", ORIGINAL, offline=True)
    counter.work()
    answer = counter.shop.answer("kasa")
    assert (answer["status"], answer["errors"][0]["code"]) == ("error", str(code))
    return answer


def test_a_rejected_offline_invoice_is_corrected_and_both_codes_still_lead_somewhere(
    make_shop: Callable[..., Shop], tmp_path: Path, way: str
) -> None:
    counter = make_counter(make_shop, tmp_path, batch=way == "batch")
    other = invoice("FV/2/2026", seed=2)
    if way == "batch":
        counter.sandbox.faults.add(Fault("closeBatch", "invoice_status", code=450, ordinal=1))
        counter.drop("inna", other, offline=True)
    else:
        counter.sandbox.faults.add(Fault("sendInvoice", "invoice_status", code=450))
    counter.drop("kasa", ORIGINAL, offline=True)
    counter.work()
    assert counter.sandbox.calls["openBatch"] == (1 if way == "batch" else 0)
    refused = ORIGINAL if counter.shop.answer("kasa")["status"] == "error" else other
    assert counter.document(refused).state is State.ERROR
    held = counter.document(refused).certificate_url
    assert held is not None
    assert counter.scan(refused)["state"] == "unknown"

    batches = counter.sandbox.calls["openBatch"]
    answer = counter.correct("poprawka", mended(refused), refused)
    assert answer["status"] == "sent"
    assert answer["invoicing_mode"] == "offline"
    assert counter.sandbox.calls["openBatch"] == batches, "interactively only"
    seen = counter.scan(refused)
    assert (seen["state"], seen["ksefNumber"]) == ("corrected", answer["ksef_number"])
    assert counter.scan(mended(refused))["state"] == "found"
    signed = counter.sandbox.follow_link(held)
    assert signed["valid"] is True
    assert signed["invoice"]["ksefNumber"] == answer["ksef_number"]
    assert answer["certificate_url"] == held, "the code that the customer has"
    assert counter.sandbox.deviations == []
    first = counter.document(refused)
    assert [error["code"] for error in first.errors] == ["450", "K11"]
    assert (counter.document(mended(refused)).offline_mode, first.offline_mode) == ("offline24", "offline24")


def test_the_term_goes_on_with_the_correction(counter: Counter) -> None:
    answer = rejected(counter)
    counter.sandbox.outage()
    corrected = counter.correct("poprawka", mended())
    assert corrected["status"] in ("queued", "failed")
    assert corrected["offline"] == answer["offline"]
    assert corrected["offline"]["deadline"] is not None


def test_a_changed_amount_never_reaches_ksef(counter: Counter) -> None:
    rejected(counter)
    sent = counter.sandbox.calls["sendInvoice"]
    answer = counter.correct("poprawka", ORIGINAL.replace(b"<P_15>", b"<P_15>1"))
    assert answer["status"] == "error"
    (error,) = [error for error in answer["errors"] if error["code"] == "K05"]
    assert (error["field"], error["source"]) == ("Fa/P_15", "buffer")
    assert counter.sandbox.calls["sendInvoice"] == sent


def test_a_correction_refused_too_is_corrected_again(counter: Counter) -> None:
    rejected(counter)
    counter.sandbox.faults.add(Fault("sendInvoice", "invoice_status", code=430))
    first = counter.correct("poprawka", mended())
    assert first["errors"][0]["code"] == "430"
    second = counter.correct("poprawka2", mended(program="kasa 3"), mended())
    assert second["status"] == "sent"
    assert counter.scan(ORIGINAL)["state"] == "corrected"
    assert counter.sandbox.deviations == []


def test_a_refused_duplicate_gets_a_number_of_its_own(counter: Counter) -> None:
    elsewhere = counter.shop.buffer.ksef
    session = elsewhere.open_session(FA3)
    elsewhere.send(session, invoice("FV/1/2026", seed=7))
    counter.shop.clock.forward(5)
    counter.drop("kasa", ORIGINAL, offline=True)
    counter.work()
    assert counter.shop.answer("kasa")["errors"][0]["code"] == "440"
    answer = counter.correct("poprawka", ORIGINAL.replace(b"<P_2>FV/1/2026<", b"<P_2>FV/1/2026/bis<"))
    assert answer["status"] == "sent"
    assert counter.scan(ORIGINAL)["ksefNumber"] == answer["ksef_number"]


def test_a_retry_of_the_original_does_not_race_its_correction(counter: Counter) -> None:
    from ksefbuffer.erp.submit import retry
    from ksefbuffer.errors import NotAllowedNow
    from ksefbuffer.invoice.precheck import CheckContext

    answer = rejected(counter)
    assert counter.correct("poprawka", mended())["status"] == "sent"
    context = CheckContext(nip=NIP, environment="sandbox", now=counter.shop.clock())
    with pytest.raises(NotAllowedNow, match="ma numer KSeF"):
        retry(counter.shop.database, answer["document_id"], context, actor="test")


# --- what KSeF itself refuses


def refusal(counter: Counter, content: bytes, original: bytes) -> Refused:
    ksef = counter.shop.buffer.ksef
    session = ksef.open_session(FA3)
    with pytest.raises(Refused) as caught:
        ksef.send(session, content, offline=True, corrects_sha256=sha256_hex(original))
    return caught.value


def test_ksef_refuses_a_second_correction_and_one_of_an_accepted_invoice(counter: Counter) -> None:
    rejected(counter)
    counter.correct("poprawka", mended())
    again = refusal(counter, mended(program="kasa 3"), ORIGINAL)
    assert again.code == "21166"
    assert "Nie wysyłaj jej ponownie" in again.action
    counter.drop("dobra", invoice("FV/9/2026", seed=9), offline=True)
    counter.work()
    accepted = refusal(counter, mended(invoice("FV/9/2026", seed=9)), invoice("FV/9/2026", seed=9))
    assert accepted.code == "21167"
    assert "faktura korygująca" in accepted.action
    assert refusal(counter, mended(), b"never sent").code == "21405"


def test_a_correction_that_another_program_was_quicker_with_is_explained(counter: Counter) -> None:
    rejected(counter)
    ksef = counter.shop.buffer.ksef
    session = ksef.open_session(FA3)
    ksef.send(session, mended(program="inny program"), offline=True, corrects_sha256=sha256_hex(ORIGINAL))
    counter.shop.clock.forward(timedelta(seconds=5).total_seconds())
    answer = counter.correct("poprawka", mended())
    assert answer["status"] == "error"
    (error,) = answer["errors"]
    assert error["code"] == "21166"
    assert "być może z innego programu" in error["hint"]


@pytest.mark.parametrize("code", [430, 440, 450])
def test_the_hint_of_a_refused_offline_invoice_names_the_way(code: int) -> None:
    assert "corrects_sha256" in hint_for(code, offline=True)
    assert "corrects_sha256" not in hint_for(code)


def test_a_matter_of_rights_is_no_matter_of_files() -> None:
    assert hint_for(410, offline=True) == hint_for(410)
