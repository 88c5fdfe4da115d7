"""Group D: what KSeF enforces beyond the XSD."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from ksefbuffer.invoice.findings import Severity
from ksefbuffer.invoice.precheck import CheckContext, check
from tests.samples import NIP, NOW, a_nip, invoice

CONTEXT = CheckContext(NIP, "test", NOW)
OTHER = a_nip(77)


def codes(content: bytes, context: CheckContext = CONTEXT) -> list[str]:
    return [finding.code for finding in check(content, context).findings]


def with_third_party(content: bytes, ids: str, role: str) -> bytes:
    party = (
        f"<Podmiot3><DaneIdentyfikacyjne>{ids}<Nazwa>Trzeci</Nazwa></DaneIdentyfikacyjne><Rola>{role}</Rola></Podmiot3>"
    )
    return content.replace(b"</Podmiot2>", b"</Podmiot2>" + party.encode())


def test_an_invoice_of_another_seller_is_refused() -> None:
    (finding,) = check(invoice(nip=OTHER), CONTEXT).findings
    assert finding.code == "D01"
    assert finding.severity is Severity.BLOCK
    assert OTHER in finding.message
    assert NIP in finding.message
    assert (finding.field, finding.line) == ("Podmiot1/DaneIdentyfikacyjne/NIP", 4)


def test_a_buyer_may_issue_for_his_seller() -> None:
    assert codes(invoice(nip=OTHER, buyer_nip=NIP, self_invoicing=True)) == []
    assert codes(invoice(nip=OTHER, buyer_nip=NIP)) == ["D01"]
    assert codes(invoice(nip=OTHER, self_invoicing=True)) == ["D01"]


def test_self_invoicing_from_the_sellers_own_buffer_is_refused() -> None:
    assert codes(invoice(self_invoicing=True)) == ["D07"]


@pytest.mark.parametrize(("role", "expected"), [("7", []), ("9", []), ("5", ["D01"]), ("2", ["D01"])])
def test_only_issuing_members_may_issue_for_another_seller(role: str, expected: list[str]) -> None:
    assert codes(with_third_party(invoice(nip=OTHER), f"<NIP>{NIP}</NIP>", role)) == expected


def test_an_authorised_entity_may_issue_for_another_seller() -> None:
    entity = (
        f"<PodmiotUpowazniony><DaneIdentyfikacyjne><NIP>{NIP}</NIP><Nazwa>Komornik</Nazwa></DaneIdentyfikacyjne>"
        "<Adres><KodKraju>PL</KodKraju><AdresL1>Rynek 1</AdresL1></Adres><RolaPU>2</RolaPU></PodmiotUpowazniony>"
    )
    content = invoice(nip=OTHER).replace(b"<Fa>", entity.encode() + b"<Fa>")
    assert codes(content) == []
    assert codes(content.replace(f"<NIP>{NIP}".encode(), b"<NIP>1234567890")) == ["D01", "D02"]


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (invoice(buyer_nip="1234567890"), "Podmiot2/DaneIdentyfikacyjne/NIP"),
        (with_third_party(invoice(), "<NIP>1234567890</NIP>", "2"), "Podmiot3/DaneIdentyfikacyjne/NIP"),
        (
            with_third_party(with_third_party(invoice(), "<NIP>1234567890</NIP>", "6"), f"<NIP>{OTHER}</NIP>", "6"),
            "Podmiot3[2]/DaneIdentyfikacyjne/NIP",
        ),
    ],
)
def test_a_nip_with_a_wrong_check_digit_is_refused_wherever_it_is(content: bytes, field: str) -> None:
    (finding,) = check(content, CONTEXT).findings
    assert (finding.code, finding.field) == ("D02", field)
    assert "1234567890" in finding.message


def test_an_internal_id_with_a_wrong_nip_is_refused_and_one_with_a_wrong_digit_doubted() -> None:
    assert codes(with_third_party(invoice(), "<IDWew>1234567890-12345</IDWew>", "6")) == ["D03"]
    assert codes(with_third_party(invoice(), "<IDWew>6824515772-12343</IDWew>", "6")) == []
    report = check(with_third_party(invoice(), "<IDWew>6824515772-12344</IDWew>", "6"), CONTEXT)
    assert [finding.code for finding in report.warnings] == ["E07"]
    assert report.ok


@pytest.mark.parametrize(
    ("now", "day", "expected"),
    [
        (datetime(2026, 11, 20, 22, 59, tzinfo=UTC), date(2026, 11, 20), []),
        (datetime(2026, 11, 20, 22, 59, tzinfo=UTC), date(2026, 11, 21), ["D04"]),
        (datetime(2026, 11, 20, 23, 1, tzinfo=UTC), date(2026, 11, 21), []),
        (datetime(2026, 11, 20, 23, 1, tzinfo=UTC), date(2026, 11, 20), ["D09"]),
        (datetime(2026, 7, 1, 22, 1, tzinfo=UTC), date(2026, 7, 2), []),
        (datetime(2026, 7, 1, 21, 59, tzinfo=UTC), date(2026, 7, 2), ["D04"]),
    ],
)
def test_the_day_is_that_of_warsaw(now: datetime, day: date, expected: list[str]) -> None:
    found = codes(invoice(issue_date=day), CheckContext(NIP, "test", now))
    assert [code for code in found if code != "E26"] == expected


def test_an_earlier_date_is_a_warning_unless_the_invoice_was_issued_offline() -> None:
    earlier = invoice(issue_date=date(2026, 11, 19))
    report = check(earlier, CONTEXT)
    assert report.ok
    assert [finding.code for finding in report.warnings] == ["D09"]
    assert codes(earlier, CheckContext(NIP, "test", NOW, offline=True)) == []
    assert codes(earlier, CheckContext(NIP, "test", NOW, correction=True)) == []


def test_an_attachment_needs_a_batch_unless_it_is_a_technical_correction() -> None:
    assert codes(invoice(attachment=True)) == ["D06"]
    assert codes(invoice(attachment=True), CheckContext(NIP, "test", NOW, correction=True)) == []


def test_made_up_nips_are_doubted_in_production_only() -> None:
    content = invoice(buyer_nip="1111111111")
    assert codes(content) == []
    assert codes(content, CheckContext(NIP, "production", NOW)) == ["F03"]
