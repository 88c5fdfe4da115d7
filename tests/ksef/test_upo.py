from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from ksefbuffer.ksef.shapes import Unreadable
from ksefbuffer.ksef.upo import check_upo, read_upo
from tests.ksef.fake import NIP
from tests.ksef.upo_maker import NUMBER, SESSION, signed, signed_elsewhere, unsigned

SHA = hashlib.sha256(b"<Faktura/>").hexdigest()
OTHER_SHA = hashlib.sha256(b"other").hexdigest()
EXAMPLES = Path(__file__).parents[2] / ".." / "shared" / "ksef" / "upo-examples"


def problems(xml: bytes, **changes: str) -> list[str]:
    expected = {
        "sha256_hex": SHA,
        "ksef_number": NUMBER,
        "session_reference": SESSION,
        "context_nip": NIP,
        "invoice_number": "FV/ŻÓŁĆ/1",
        "seller_nip": NIP,
        **changes,
    }
    return check_upo(xml, **expected)


def test_a_good_receipt_has_no_problems_and_reads_whole() -> None:
    xml = signed(unsigned(SHA))
    assert problems(xml) == []
    assert problems(xml, sha256_hex=SHA.upper(), session_reference="", invoice_number="", seller_nip="") == []
    upo = read_upo(xml)
    assert (upo.session_reference, upo.context_kind, upo.context_value) == (SESSION, "Nip", NIP)
    assert upo.authority.endswith("(TE)")
    assert (upo.page, upo.pages, upo.form_code) == (1, 1, "FA (3)")
    [document] = upo.documents
    assert document.sha256_hex == SHA
    assert document.issue_date == date(2026, 11, 20)
    assert document.accepted_at == datetime(2026, 11, 20, 12, 0, 1, 45000, tzinfo=UTC)
    assert document.mode == "Online"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sha256_hex": OTHER_SHA}, "Skrót"),
        ({"ksef_number": NUMBER.replace("AF629", "AF62A")}, "nie wymienia numeru"),
        ({"session_reference": "inna"}, "innej sesji"),
        ({"context_nip": "1111111111"}, "kontekście"),
        ({"invoice_number": "FV/2"}, "inny numer faktury"),
        ({"seller_nip": "1111111111"}, "innego sprzedawcę"),
    ],
)
def test_a_receipt_for_something_else_is_told_apart(changes: dict[str, str], said: str) -> None:
    found = problems(signed(unsigned(SHA)), **changes)
    assert len(found) == 1
    assert said in found[0]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (SESSION.encode(), b"20261120-SO-9999999999-ABCDEF0123-45"),
        (b"2026-11-20T13:00:01.045", b"2026-11-21T13:00:01.045"),
        ("ŻÓŁĆ".encode(), "ŻÓŁW".encode()),
        (b"<TrybWysylki>Online", b"<TrybWysylki>Offline"),
        (b"</Dokument>", b"</Dokument><Dokument/>"),
    ],
)
def test_a_receipt_changed_after_signing_is_caught(before: bytes, after: bytes) -> None:
    xml = signed(unsigned(SHA))
    assert before in xml
    tampered = xml.replace(before, after)
    assert any("naruszony" in problem for problem in problems(tampered, session_reference="", invoice_number=""))


def test_a_broken_signature_value_is_caught() -> None:
    xml = signed(unsigned(SHA))
    at = xml.index(b"SignatureValue>") + 30
    flipped = xml[:at] + (b"A" if xml[at : at + 1] != b"A" else b"B") + xml[at + 1 :]
    assert any("naruszony" in problem for problem in problems(flipped))


def test_a_signature_over_something_else_in_the_receipt_proves_nothing() -> None:
    assert any("naruszony" in problem for problem in problems(signed_elsewhere(unsigned(SHA))))


def test_a_receipt_without_signature_is_told() -> None:
    assert problems(unsigned(SHA)) == ["UPO nie ma podpisu."]


@pytest.mark.parametrize("who", [{"name": "Jan Kowalski"}, {"number": "VATPL-1111111111"}])
def test_a_receipt_signed_by_somebody_else_is_told(who: dict[str, str]) -> None:
    [problem] = problems(signed(unsigned(SHA), **who))
    assert "podpisał kto inny" in problem


@pytest.mark.parametrize(
    ("kind", "context"), [("IdWewnetrzny", f"{NIP}-12343"), ("IdZlozonyVatUE", f"{NIP}-ATU12345678")]
)
def test_a_branchs_context_belongs_to_its_company(kind: str, context: str) -> None:
    xml = signed(unsigned(SHA, kind=kind, context=context))
    assert problems(xml) == []
    assert any("kontekście" in problem for problem in problems(xml, context_nip="1111111111"))


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"<",
        b"<html><body>blocked</body></html>",
        b'{"a": 1}',
        b"\x00\x01",
        b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>',
        b'<Potwierdzenie xmlns="urn:other"/>',
    ],
)
def test_what_is_no_receipt_is_told_and_never_breaks(junk: bytes) -> None:
    assert problems(junk) == ["Plik UPO jest nieczytelny albo nie jest dokumentem UPO."]
    with pytest.raises(Unreadable):
        read_upo(junk)


def test_a_dtd_or_a_comment_in_a_receipt_is_refused() -> None:
    xml = unsigned(SHA)
    for odd in (
        b"<!DOCTYPE Potwierdzenie>" + xml,
        xml.replace(b"FA (3)", b"FA<!-- x --> (3)"),
        xml.replace(b"FA (3)", b"FA<?x y?>"),
    ):
        with pytest.raises(Unreadable):
            read_upo(odd)


def test_an_empty_receipt_reads_as_empty() -> None:
    upo = read_upo(b'<Potwierdzenie xmlns="http://upo.schematy.mf.gov.pl/KSeF/v4-2"/>')
    assert (upo.documents, upo.context_value, upo.pages) == ((), "", 1)


def test_the_published_examples_are_read() -> None:
    examples = sorted(EXAMPLES.glob("*.xml"))
    if not examples:
        pytest.skip("no ../shared/ksef/upo-examples here")
    for path in examples:
        upo = read_upo(path.read_bytes())
        assert upo.session_reference, path.name
        assert upo.context_kind in {"Nip", "InternalId", "NipVatUe"}, path.name
        assert upo.documents, path.name
        for document in upo.documents:
            assert len(document.sha256_hex) == 64
            assert document.ksef_number
            assert document.accepted_at is not None
