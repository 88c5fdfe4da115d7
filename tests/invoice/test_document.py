from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksefbuffer.invoice.document import InvoiceHeader, read_header
from ksefbuffer.invoice.forms import FA2, FA3, FA_RR, PEF
from tests.samples import ISSUE_DATE, NIP, correction_of, invoice, sample_files


def test_the_header_of_an_invoice_is_read() -> None:
    header = read_header(
        invoice(number=" FV  7/2026", buyer_nip="5260250274", buyer_name="Sklep „Żabka”", lines=1, seed=3)
    )
    assert header.form is FA3
    assert header.invoice_number == "FV 7/2026"
    assert header.invoice_type == "VAT"
    assert header.issue_date == ISSUE_DATE
    assert header.seller_nip == NIP
    assert header.buyer_nip == "5260250274"
    assert header.buyer_name == "Sklep „Żabka”"
    assert header.currency == "PLN"
    assert header.gross is not None
    assert header.gross > 0
    assert not header.has_attachment
    assert not header.self_invoicing
    assert header.corrected == ()


def test_attachment_and_self_invoicing_are_noticed() -> None:
    header = read_header(invoice(attachment=True, self_invoicing=True))
    assert header.has_attachment
    assert header.self_invoicing


def test_a_correction_names_what_it_corrects() -> None:
    number = "5265877635-20250826-0100001AF629-AF"
    first, second = (
        read_header(correction_of(invoice("FV 1"), ksef_number=number)),
        read_header(correction_of(invoice())),
    )
    assert [(one.number, one.issue_date, one.ksef_number) for one in first.corrected] == [("FV 1", ISSUE_DATE, number)]
    assert second.corrected[0].ksef_number is None


def test_prefixes_do_not_matter() -> None:
    plain = invoice()
    prefixed = plain.replace(b"xmlns=", b"xmlns:tag0=").replace(b"</", b"\0").replace(b"<", b"<tag0:")
    prefixed = prefixed.replace(b"\0", b"</tag0:").replace(b"<tag0:?", b"<?")
    assert read_header(prefixed) == read_header(plain)


def test_text_around_a_comment_is_one_text() -> None:
    content = invoice("FV/1").replace(b"FV/1", b"FV<!-- nr -->/<![CDATA[1]]>")
    assert read_header(content).invoice_number == "FV/1"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nic",
        b"\0" * 5000,
        b"<a/>",
        b"<Faktura><Fa><P_15>wiele</P_15><P_1>2026-02-30</P_1></Fa></Faktura>",
        b"<!DOCTYPE a [<!ENTITY e 'x'>]><Faktura><Fa><P_2>&e;</P_2></Fa></Faktura>",
        b"<Faktura><Fa><P_15>1E+999999</P_15></Fa></Faktura>",
    ],
)
def test_what_cannot_be_read_is_none(content: bytes) -> None:
    assert read_header(content) == InvoiceHeader()


def test_a_cut_file_still_shows_its_number() -> None:
    assert read_header(invoice("FV/9/2026")[:-200]).invoice_number == "FV/9/2026"


@given(st.binary(max_size=300), st.integers(0, 2000), st.integers(0, 50))
def test_no_bytes_make_it_raise(junk: bytes, at: int, removed: int) -> None:
    content = invoice()
    read_header(junk)
    read_header(content[:at] + junk + content[at + removed :])


def test_a_header_does_not_show_the_invoice_in_logs() -> None:
    shown = repr(read_header(invoice("FV/TAJNE/1")))
    assert "TAJNE" not in shown
    assert NIP not in shown


def _sample(form: str) -> Path:
    files = sample_files(form)
    if not files:
        pytest.skip("../shared/ksef/invoices is not here")
    return files[0]


def test_headers_of_the_other_forms_are_read() -> None:
    older = read_header(_sample("FA(2)").read_bytes())
    assert (older.form, older.invoice_number, older.invoice_type) == (FA2, "FA/KUDYO-5316371561/05/2025", "VAT")
    farmer = read_header(_sample("FA_RR(1)").read_bytes())
    assert (farmer.form, farmer.invoice_number, farmer.gross) == (FA_RR, "5105600952", Decimal("24600.00"))
    assert (farmer.seller_nip, farmer.buyer_nip, farmer.issue_date) == ("5451824119", "7583893420", date(2026, 4, 27))
    peppol = read_header(_sample("PEF(3)").read_bytes())
    assert (peppol.form, peppol.invoice_number, peppol.currency) == (PEF, "80639", "EUR")
    assert (peppol.seller_nip, peppol.gross, peppol.invoice_type) == ("3874600515", Decimal("7125.00"), "380")


def test_every_sample_has_a_number_a_date_and_a_seller() -> None:
    files = [file for form in ("FA(3)", "FA(2)", "FA_RR(1)", "PEF(3)") for file in sample_files(form)]
    if not files:
        pytest.skip("../shared/ksef/invoices is not here")
    for file in files:
        header = read_header(file.read_bytes())
        assert header.form is not None, file.name
        assert header.invoice_number, file.name
        assert header.issue_date, file.name
        assert header.seller_nip, file.name
        assert header.gross is not None, file.name
