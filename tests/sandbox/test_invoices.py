from __future__ import annotations

import hashlib
import os
from base64 import b64encode
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from ksefbuffer.sandbox import Sandbox
from tests.samples import ISSUE_DATE, NIP, as_ours, correction_of, invoice, sample_files
from tests.sandbox.client import Client, FakeClock, Session, digest, encrypt


@pytest.fixture
def logged(client: Client) -> Client:
    return client.login()


@pytest.fixture
def session(logged: Client) -> Session:
    return logged.open()


def test_a_good_invoice_is_accepted_after_the_latency(logged: Client, session: Session, clock: FakeClock) -> None:
    content = invoice("FV/1")
    reference = logged.sent(session, content)
    codes = [logged.invoice(session, reference)["status"]["code"]]
    clock.forward(seconds=1)
    codes.append(logged.invoice(session, reference)["status"]["code"])
    clock.forward(seconds=1)
    status = logged.invoice(session, reference)
    codes.append(status["status"]["code"])
    assert codes == [100, 150, 200]
    assert status["invoiceNumber"] == "FV/1"
    assert status["invoiceHash"] == digest(content)
    assert status["ksefNumber"].startswith(f"{NIP}-20261120-")
    assert status["invoicingMode"] == "Online"
    assert "permanentStorageDate" not in status
    clock.forward(seconds=2)
    assert "permanentStorageDate" in logged.invoice(session, reference)


# Valid by the schema, yet refused: made-up NIPs of third parties, and Polish letters mangled into control characters.
REFUSED_SAMPLES = {
    "fa3__fop__PodmiotTemplateTest_multiple_roles": 450,
    "fa3__fop__zalacznik_FA_3_Zalacznik_Przyklad_2": 430,
}


@pytest.mark.parametrize("path", sample_files(), ids=lambda path: path.stem)
def test_every_valid_sample_is_accepted(logged: Client, session: Session, path: Path) -> None:
    status = logged.verdict(session, as_ours(path.read_bytes()))
    assert status["status"]["code"] == REFUSED_SAMPLES.get(path.stem, 200), status


@pytest.mark.parametrize(
    ("change", "code", "word"),
    [
        (lambda xml: b"", 430, "XML"),
        (lambda xml: b"\xef\xbb\xbf" + xml, 430, "BOM"),
        (lambda xml: xml.decode().encode("utf-16"), 430, "UTF-8"),
        (lambda xml: xml.replace(b"UTF-8", b"windows-1250").replace(b"utf-8", b"windows-1250"), 430, "UTF-8"),
        (lambda xml: xml[:-20], 430, "XML"),
        (lambda xml: xml.replace(b"<Naglowek>", b"<?pi x?><Naglowek>"), 430, "przetwarzania"),
        (lambda xml: xml + b"<?pi x?>", 430, "przetwarzania"),
        (lambda xml: xml.replace(b"FV/1", "FV\u0084/1".encode()), 430, "znaki"),
        (lambda xml: xml.replace(b"FV/1", b"FV&#x9f;/1"), 430, "znaki"),
        (lambda xml: xml.replace(b"FV/1", "FV\U0001ffff/1".encode()), 430, "znaki"),
        (lambda xml: xml.replace(b"FA (3)", b"FA (3)&#x84;"), 430, "znaki"),
        (lambda xml: xml.replace(b"<Naglowek>", "<!-- \u0084 --><Naglowek>".encode()), 430, "znaki"),
        (lambda xml: xml.replace(b"<Faktura", b"<!DOCTYPE Faktura><Faktura", 1), 430, "DOCTYPE"),
        (lambda xml: xml.replace(b"2025/06/25/13775", b"2023/06/29/12648"), 450, "Przestrze"),
        (lambda xml: xml.replace(b"FA (3)", b"FA (2)"), 450, "KodFormularza"),
        (lambda xml: xml.replace(b"<P_2>", b"<P_X>").replace(b"</P_2>", b"</P_X>"), 450, "Wiersz"),
        (lambda xml: xml.replace(NIP.encode(), b"5265877636"), 450, "NIP"),
        (lambda xml: xml.replace(NIP.encode(), b"1111111111"), 410, "imieniu"),
    ],
)  # fmt: skip
def test_bad_files_are_refused_with_their_reason(
    logged: Client, session: Session, change: object, code: int, word: str
) -> None:
    content = invoice("FV/1")
    changed = change(content)
    assert changed != content
    if not changed:
        changed = b" "
    status = logged.verdict(session, changed)["status"]
    assert status["code"] == code
    assert word in " ".join(status["details"])


def test_u0085_and_nbsp_are_allowed(logged: Client, session: Session) -> None:
    content = invoice("FV/1").replace(b"Hurtownia Pod", "Hurtownia\u0085\u00a0Pod".encode())
    assert logged.verdict(session, content)["status"]["code"] == 200


def test_a_buyers_wrong_nip_is_found(logged: Client, session: Session) -> None:
    status = logged.verdict(session, invoice("FV/1", buyer_nip="1234567890"))["status"]
    assert status["code"] == 450
    assert status["details"] == ["Podmiot2: nieprawidłowy NIP."]


def test_an_attachment_does_not_belong_in_an_interactive_session(logged: Client, session: Session) -> None:
    assert logged.verdict(session, invoice("FV/1", attachment=True))["status"]["code"] == 415


def test_the_plain_file_must_be_what_was_declared(logged: Client, session: Session) -> None:
    content = invoice("FV/1")
    assert logged.verdict(session, content, invoiceHash=digest(b"x"))["status"]["code"] == 430
    assert logged.verdict(session, content, invoiceSize=len(content) + 1)["status"]["code"] == 430


def test_a_file_encrypted_with_another_key_cannot_be_read(logged: Client, session: Session) -> None:
    content = invoice("FV/1")
    for _ in range(3):
        ciphertext = encrypt(content, os.urandom(32), session.iv)
        status = logged.verdict(
            session,
            content,
            encryptedInvoiceContent=b64encode(ciphertext).decode(),
            encryptedInvoiceHash=digest(ciphertext),
        )
        # One key in 256 leaves bytes that look like padding; then the size is wrong.
        assert status["status"]["code"] in {435, 430}
        assert logged.verdict(session, content)["status"]["code"] in {200, 440}


def test_an_iv_before_the_ciphertext_is_noticed(logged: Client, session: Session, sandbox: Sandbox) -> None:
    content = invoice("FV/1")
    ciphertext = session.iv + encrypt(content, session.key, session.iv)
    status = logged.verdict(
        session,
        content,
        encryptedInvoiceContent=b64encode(ciphertext).decode(),
        encryptedInvoiceHash=digest(ciphertext),
        encryptedInvoiceSize=len(ciphertext),
    )
    assert status["status"]["code"] == 430
    assert [item.name for item in sandbox.deviations] == ["iv-prefixed"]


def test_the_issue_date_is_compared_in_polish_time(logged: Client, clock: FakeClock) -> None:
    clock.now = datetime(2026, 11, 20, 22, 59, 50, tzinfo=UTC)
    session = logged.login().open()
    tomorrow = ISSUE_DATE + timedelta(days=1)
    assert logged.verdict(session, invoice("FV/1", issue_date=tomorrow))["status"]["code"] == 450
    clock.now = datetime(2026, 11, 20, 23, 0, tzinfo=UTC)
    status = logged.verdict(session, invoice("FV/1", issue_date=tomorrow))
    assert status["status"]["code"] == 200
    assert status["invoicingMode"] == "Online"
    assert status["ksefNumber"].startswith(f"{NIP}-20261121-")
    assert logged.verdict(session, invoice("FV/2", issue_date=ISSUE_DATE))["invoicingMode"] == "Offline"


def test_a_declared_offline_invoice_is_offline(logged: Client, session: Session) -> None:
    assert logged.verdict(session, invoice("FV/1"), offlineMode=True)["invoicingMode"] == "Offline"


def test_the_same_number_is_a_duplicate_across_sessions_and_for_ever(
    logged: Client, session: Session, clock: FakeClock
) -> None:
    first = logged.verdict(session, invoice("FV/1", seed=1))
    clock.forward(days=900)
    logged.login()
    later = logged.open()
    second = logged.verdict(later, invoice("FV/1", seed=2))
    assert second["status"]["code"] == 440
    assert second["status"]["extensions"] == {
        "originalKsefNumber": first["ksefNumber"],
        "originalSessionReferenceNumber": session.reference,
    }
    assert "ksefNumber" not in second


def test_what_makes_a_duplicate(logged: Client, session: Session) -> None:
    original = invoice("FV/1")
    assert logged.verdict(session, original)["status"]["code"] == 200
    spaced = original.replace(b"<P_2>FV/1</P_2>", b"<P_2> FV/1 </P_2>")
    assert spaced != original
    assert logged.verdict(session, spaced)["status"]["code"] == 440
    assert logged.verdict(session, invoice("FV/1", type="ZAL"))["status"]["code"] == 200
    assert logged.verdict(session, invoice("FV/1a"))["status"]["code"] == 200


def test_a_refused_invoice_leaves_no_trace(logged: Client, session: Session) -> None:
    assert logged.verdict(session, invoice("FV/1", issue_date=date(2026, 12, 1)))["status"]["code"] == 450
    assert logged.verdict(session, invoice("FV/1"))["status"]["code"] == 200


def test_a_correction_is_taken(logged: Client, session: Session) -> None:
    first = invoice("FV/1")
    number = logged.verdict(session, first)["ksefNumber"]
    status = logged.verdict(session, correction_of(first, "KOR/1", ksef_number=number))
    assert status["status"]["code"] == 200, status


def test_sending_twice_is_noticed(logged: Client, session: Session, sandbox: Sandbox) -> None:
    content = invoice("FV/1")
    logged.sent(session, content)
    assert sandbox.deviations == []
    logged.sent(session, content)
    assert [item.name for item in sandbox.deviations] == ["double-send"]
    logged.settle()
    logged.sent(session, content)
    assert [item.name for item in sandbox.deviations] == ["double-send", "resend-accepted"]
    logged.settle()
    assert [item.status for item in sandbox.invoices()] == [200, 440, 440]
    assert len(sandbox.accepted()) == 1


def test_sending_a_refused_file_again_is_no_deviation(logged: Client, session: Session, sandbox: Sandbox) -> None:
    assert logged.verdict(session, b"<a/>")["status"]["code"] == 450
    logged.sent(session, b"<a/>")
    assert sandbox.deviations == []


def test_unknown_fields_are_tolerated_and_noted(logged: Client, session: Session, sandbox: Sandbox) -> None:
    logged.sent(session, invoice("FV/1"), fileName="a.xml")
    assert [(item.name, item.operation) for item in sandbox.deviations] == [("unknown-field", "sendInvoice")]
    assert "fileName" in sandbox.deviations[0].text


def test_the_evidence_of_what_was_handed_in(logged: Client, session: Session, sandbox: Sandbox) -> None:
    content = invoice("FV/1")
    logged.verdict(session, content)
    logged.sent(session, b"<a/>")
    good, bad = sandbox.invoices()
    assert (good.invoice_number, good.nip, good.session, good.status) == ("FV/1", NIP, session.reference, 200)
    assert good.sha256 == hashlib.sha256(content).hexdigest()
    assert (bad.ksef_number, bad.nip, bad.status) == (None, NIP, 100)
    assert sandbox.accepted() == [good]


def test_an_unknown_invoice_in_a_session(logged: Client, session: Session) -> None:
    answer = logged.call("GET", f"/sessions/{session.reference}/invoices/20261120-EE-0123456789-0123456789-AB")
    assert answer.status_code == 400
