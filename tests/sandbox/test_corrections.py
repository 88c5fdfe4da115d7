"""Offline invoices and their technical corrections."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ksefbuffer.sandbox import Fault, Sandbox
from tests.samples import ISSUE_DATE, NIP, invoice
from tests.sandbox.client import Client, FakeClock, Session, codes, digest, signer
from tests.sandbox.packing import hand_in, listed

GOOD = invoice("FV/1")
BROKEN = GOOD.replace(b"<P_15>", b"<Uwagi/><P_15>")
"""The same invoice in a file off its schema."""


@pytest.fixture
def logged(client: Client) -> Client:
    return client.login()


@pytest.fixture
def session(logged: Client) -> Session:
    return logged.open()


def correct(client: Client, session: Session, content: bytes, original: bytes, **more: Any) -> dict[str, Any]:
    said = {"offlineMode": True, "hashOfCorrectedInvoice": digest(original), **more}
    return client.verdict(session, content, **said)


def refused(client: Client, session: Session, content: bytes, original: bytes, **more: Any) -> list[int]:
    said = {"offlineMode": True, "hashOfCorrectedInvoice": digest(original), **more}
    return codes(client.send(session, content, **said))


def rejected_offline(client: Client, session: Session, content: bytes = BROKEN) -> None:
    assert client.verdict(session, content, offlineMode=True)["status"]["code"] >= 400


def test_an_offline_package_is_offline_and_counts_from_its_opening(logged: Client, clock: FakeClock) -> None:
    declared = hand_in(logged, {"1.xml": invoice("FV/1")}, offline=True)
    # Opened before midnight of the day of issue, processed after it: still Online.
    clock.now = datetime(2026, 11, 20, 22, 59, 0, tzinfo=UTC)
    logged.login()
    clock.now = datetime(2026, 11, 20, 22, 59, 59, tzinfo=UTC)
    before = hand_in(logged, {"1.xml": invoice("FV/2")})
    clock.now = datetime(2026, 11, 20, 23, 0, 0, tzinfo=UTC)
    after = hand_in(logged, {"1.xml": invoice("FV/3"), "2.xml": invoice("FV/4", issue_date=ISSUE_DATE + timedelta(1))})
    logged.settle()
    logged.settle()
    modes = [[item["invoicingMode"] for item in listed(logged, batch)] for batch in (declared, before, after)]
    assert modes == [["Offline"], ["Online"], ["Offline", "Online"]]


def test_a_rejected_offline_invoice_is_corrected(logged: Client, session: Session) -> None:
    rejected_offline(logged, session)
    status = correct(logged, session, GOOD, BROKEN)
    assert status["status"]["code"] == 200
    assert status["invoicingMode"] == "Offline"
    logged.settle()
    period = {"dateType": "PermanentStorage", "from": logged.now.replace(hour=0).isoformat()}
    body = {"subjectType": "Subject1", "dateRange": period}
    (found,) = logged.call("POST", "/invoices/query/metadata", json=body).json()["invoices"]
    assert found["hashOfCorrectedInvoice"] == digest(BROKEN)


def test_a_correction_may_be_of_an_invoice_in_a_package(logged: Client, session: Session) -> None:
    batch = hand_in(logged, {"1.xml": BROKEN, "2.xml": invoice("FV/2")}, offline=True)
    logged.settle()
    assert [item["status"]["code"] for item in listed(logged, batch)] == [450, 200]
    assert correct(logged, session, GOOD, BROKEN)["status"]["code"] == 200


def test_a_correction_is_offline_by_its_nature(logged: Client, session: Session) -> None:
    rejected_offline(logged, session)
    assert refused(logged, session, GOOD, BROKEN, offlineMode=False) == [21405]


def test_an_accepted_invoice_is_not_corrected(logged: Client, session: Session) -> None:
    assert logged.verdict(session, GOOD, offlineMode=True)["status"]["code"] == 200
    assert refused(logged, session, invoice("FV/1", seed=2), GOOD) == [21167]


def test_an_invoice_is_corrected_once(logged: Client, session: Session) -> None:
    rejected_offline(logged, session)
    assert correct(logged, session, GOOD, BROKEN)["status"]["code"] == 200
    assert refused(logged, session, GOOD + b"\n", BROKEN) == [21166]


def test_a_correction_that_failed_may_be_corrected(logged: Client, session: Session) -> None:
    rejected_offline(logged, session)
    still = BROKEN.replace(b"<Uwagi/>", b"<Uwaga/>")
    assert correct(logged, session, still, BROKEN)["status"]["code"] == 450
    assert correct(logged, session, GOOD, still)["status"]["code"] == 200
    # The whole chain is settled by that.
    assert refused(logged, session, GOOD + b"\n", BROKEN) == [21166]


def test_what_has_no_verdict_yet_is_not_corrected(logged: Client, session: Session) -> None:
    logged.sent(session, BROKEN, offlineMode=True)
    assert refused(logged, session, GOOD, BROKEN) == [21167]


def test_an_unknown_original_is_named(logged: Client, session: Session, sandbox: Sandbox, clock: FakeClock) -> None:
    answer = logged.send(session, GOOD, offlineMode=True, hashOfCorrectedInvoice=digest(b"never sent"))
    assert codes(answer) == [21405]
    assert "hashOfCorrectedInvoice" in answer.text
    # Somebody else's is as unknown as any.
    rejected_offline(logged, session)
    from cryptography.x509.oid import NameOID

    by = signer({NameOID.ORGANIZATION_IDENTIFIER: "VATPL-1111111111"})
    other = Client(sandbox, clock).login(by, "1111111111")
    assert refused(other, other.open(), GOOD, BROKEN) == [21405]


def test_only_offline_invoices_have_technical_corrections(logged: Client, session: Session, clock: FakeClock) -> None:
    assert logged.verdict(session, BROKEN)["status"]["code"] == 450
    assert refused(logged, session, GOOD, BROKEN) == [21167]
    # Offline by the date alone will do.
    clock.forward(days=1)
    logged.login()
    session = logged.open()
    late = BROKEN.replace(b"FV/1", b"FV/9")
    assert logged.verdict(session, late)["status"]["code"] == 450
    assert correct(logged, session, GOOD.replace(b"FV/1", b"FV/9"), late)["status"]["code"] == 200


def test_missing_rights_are_no_technical_fault(logged: Client, session: Session) -> None:
    alien = invoice("FV/1", nip="1111111111")
    assert logged.verdict(session, alien, offlineMode=True)["status"]["code"] == 410
    assert refused(logged, session, GOOD, alien) == [21167]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda xml: xml.replace(b"<P_2>FV/1<", b"<P_2>FV/2<"), "P_2"),
        (lambda xml: xml.replace(b"<P_15>", b"<P_15>9"), "P_15"),
        (lambda xml: xml.replace(b"<P_1>2026-11-20<", b"<P_1>2026-11-19<"), "P_1"),
        (lambda xml: xml.replace(b"<RodzajFaktury>VAT<", b"<RodzajFaktury>UPR<"), "RodzajFaktury"),
    ],
)  # fmt: skip
def test_a_correction_changes_nothing_of_the_content(
    logged: Client, session: Session, sandbox: Sandbox, change: Any, field: str
) -> None:
    rejected_offline(logged, session)
    changed = change(GOOD)
    assert changed != GOOD
    status = correct(logged, session, changed, BROKEN)["status"]
    assert status["code"] == 450
    assert field in status["details"][0]
    assert [item.name for item in sandbox.deviations] == ["correction-changes-content"]


def test_another_buyer_is_another_invoice(logged: Client, session: Session) -> None:
    rejected_offline(logged, session)
    other = invoice("FV/1", buyer_nip="5260250274")
    details = correct(logged, session, other, BROKEN)["status"]["details"]
    assert "Podmiot2" in details[0]


def test_what_was_itself_the_fault_may_change(logged: Client, session: Session, clock: FakeClock) -> None:
    # A buyer's NIP that does not hold, a number already taken, a file that is no XML at all.
    wrong_nip = invoice("FV/1", buyer_nip="1234567890")
    rejected_offline(logged, session, wrong_nip)
    assert correct(logged, session, GOOD, wrong_nip)["status"]["code"] == 200
    taken = invoice("FV/1", seed=3)
    rejected_offline(logged, session, taken)
    assert correct(logged, session, invoice("FV/1/bis", seed=3), taken)["status"]["code"] == 200
    torn = invoice("FV/5")[:-30]
    rejected_offline(logged, session, torn)
    assert correct(logged, session, invoice("FV/5"), torn)["status"]["code"] == 200


def test_an_attachment_comes_interactively_in_a_correction_only(logged: Client, session: Session) -> None:
    content = invoice("FV/1", attachment=True)
    broken = content.replace(b"<P_15>", b"<Uwagi/><P_15>")
    rejected_offline(logged, session, broken)
    assert correct(logged, session, content, broken)["status"]["code"] == 200
    assert logged.verdict(session, invoice("FV/2", attachment=True), offlineMode=True)["status"]["code"] == 415


def test_a_system_fault_may_be_followed_by_a_correction(logged: Client, session: Session, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("sendInvoice", "invoice_status", code=550))
    rejected_offline(logged, session, GOOD)
    assert correct(logged, session, GOOD + b"\n", GOOD)["status"]["code"] == 200
    assert NIP in sandbox.accepted()[0].ksef_number
