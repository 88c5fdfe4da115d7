"""Received invoices are read whatever state they come in; nothing raises, nothing is fetched, nothing leaks."""

from __future__ import annotations

import csv
import socket
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ksefbuffer.invoice.paths import PathFault, compile_path
from ksefbuffer.invoice.received import MAX_ATTACHMENT_METADATA, MAX_FOUND, Received, read_received
from ksefbuffer.invoice.tolerant import MAX_BYTES
from tests.samples import correction_of, invoice

SAMPLES = Path(__file__).parents[2] / ".." / "shared" / "ksef" / "invoices"
PLAIN = invoice("FV/7/2026", seed=3, order_number="4500012345", footer="Dziękujemy za zakupy", attachment=True)
PUBLIC = [
    name
    for name in dir(Received)
    if not name.startswith("_") and name not in ("values", "first", "rows", "has", "xpath", "find")
]


def everything(received: Received) -> list[object]:
    """All that can be asked of an invoice."""
    found = [getattr(received, name) for name in PUBLIC]
    found += [received.values("Fa/FaWiersz/P_7"), received.xpath("//FaWiersz/*"), received.xpath("//*[NIP]/Nazwa")]
    return [*found, [row.children() for row in received.rows("Fa/FaWiersz")], repr(received)]


def fa(inside: str = "", *, before: str = "", prefix: str = "") -> bytes:
    """A small FA(3), not valid, with ``inside`` in its Fa."""
    return (
        f'{before}<Faktura xmlns="http://crd.gov.pl/wzor/2025/06/25/13775/">'
        f"<Podmiot1><DaneIdentyfikacyjne><NIP>5265877635</NIP><Nazwa>Młyn</Nazwa></DaneIdentyfikacyjne></Podmiot1>"
        f"<Fa><P_2>F/1</P_2>{inside}</Fa></Faktura>"
    ).encode()


def test_the_head_of_an_invoice() -> None:
    received = read_received(PLAIN)
    assert received.form == "FA (3)"
    assert received.readable
    assert received.whole
    assert received.damage == ()
    assert received.invoice_number == "FV/7/2026"
    assert received.invoice_type == "VAT"
    assert received.issue_date == date(2026, 11, 20)
    assert received.sale_date == date(2026, 11, 20)
    assert received.currency == "PLN"
    assert received.gross == Decimal(received.first("Fa/P_15")) > 0
    assert received.seller.nip == "5265877635"
    assert received.seller.addresses[0].line2 == "02-777 Warszawa"
    assert received.orders == ("4500012345",)
    assert received.footers == ("Dziękujemy za zakupy",)
    assert received.attachment_metadata == (("Numer PPE", "590310600000000001"),)
    assert received.place_of_issue == "Warszawa"
    assert received.accounts == ("61109010140000071219812874",)
    assert not received.is_correction


def test_a_correction_names_what_it_corrects() -> None:
    received = read_received(correction_of(PLAIN, ksef_number="5265877635-20261120-0100001AF629-AF"))
    assert received.is_correction
    assert [(one.number, one.ksef_number, one.without_ksef) for one in received.corrected] == [
        ("FV/7/2026", "5265877635-20261120-0100001AF629-AF", False)
    ]


def test_a_number_of_ksef_1_loses_its_inner_hyphen() -> None:
    received = read_received(
        fa("<DaneFaKorygowanej><NrKSeFFaKorygowanej>5265877635-20230101-0100AB-1AF629-AF</NrKSeFFaKorygowanej>"
           "</DaneFaKorygowanej>")
    )  # fmt: skip
    assert received.corrected[0].ksef_number == "5265877635-20230101-0100AB1AF629-AF"


def test_prefixes_do_not_matter() -> None:
    text = PLAIN.decode().replace("</", "</tag0:").replace("<Fa", "<tag0:Fa")
    for name in ("Naglowek", "Podmiot", "Dane", "NIP", "Nazwa", "Adres", "P_", "Kod", "Rodzaj", "Wariant", "System"):
        text = text.replace(f"<{name}", f"<tag0:{name}")
    text = text.replace("xmlns=", "xmlns:tag0=")
    received = read_received(text.encode())
    assert received.form == "FA (3)"
    assert received.invoice_number == "FV/7/2026"
    assert received.seller.nip == "5265877635"


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "cp1250", "iso-8859-2"]
)
def test_other_encodings_are_read_and_said(encoding: str) -> None:
    declared = {"cp1250": "windows-1250", "iso-8859-2": "ISO-8859-2"}.get(encoding, "UTF-8")
    content = fa(before=f'<?xml version="1.0" encoding="{declared}"?>').decode().encode(encoding)
    received = read_received(content)
    assert received.seller.name == "Młyn"
    assert received.form == "FA (3)"
    assert len(received.damage) == 1


def test_single_windows_letters_among_utf_8_are_understood() -> None:
    received = read_received(fa().replace("Młyn".encode(), "Młyn ".encode() + "Łódź".encode("cp1250")))
    assert received.seller.name == "Młyn Łódź"
    assert received.damage == ("plik nie jest poprawnie zapisany w UTF-8",)


def test_doubly_encoded_letters_are_put_right() -> None:
    spoilt = "SAMOOBSŁUGA Żółć".encode().decode("latin-1").encode()
    received = read_received(fa().replace("Młyn".encode(), spoilt))
    assert received.seller.name == "SAMOOBSŁUGA Żółć"
    assert received.damage == ("polskie litery były podwójnie zakodowane",)


def test_good_letters_beside_garbled_ones_stay() -> None:
    received = read_received(fa().replace("Młyn".encode(), "SPÓŁKA Ĺ»ABKA".encode()))
    assert received.seller.name == "SPÓŁKA ŻABKA"


def test_sound_letters_are_never_touched() -> None:
    received = read_received(fa().replace("Młyn".encode(), "Äußere Ĺupča ŁÓDŹ".encode()))
    assert received.seller.name == "Äußere Ĺupča ŁÓDŹ"
    assert received.damage == ()


@pytest.mark.parametrize(
    "content",
    [
        fa("<WZ>A & B</WZ>"),
        fa("<WZ>A &nbsp; B</WZ>"),
        fa("<WZ>A &nieznana; B</WZ>"),
        fa("<WZ>A\x01 B</WZ>"),
        fa("<WZ>A&#x1F; B</WZ>"),
        fa("<WZ>A&#xD800; B</WZ>"),
        b"\r\n\r\n" + fa("<WZ>A B</WZ>", before='<?xml version="1.0"?>'),
        fa("<WZ>A B</WZ>", before='<?xml version="1.1" encoding="x-odd"?>'),
        b"smieci" + fa("<WZ>A B</WZ>"),
        fa("<WZ>A B</WZ>") + b"<Faktura/>",
        fa("<WZ>A B</WZ>")[:-20],
        fa("<WZ>A B</WZ><Adnotacje><P_16>2</Adnotacje>"),
    ],
)
def test_broken_xml_is_read_as_far_as_it_goes(content: bytes) -> None:
    received = read_received(content)
    assert received.readable
    assert received.form == "FA (3)"
    assert received.invoice_number == "F/1"
    assert received.seller.name == "Młyn"
    assert received.wz[0].startswith("A")
    assert received.wz[0].endswith("B")


def test_a_lost_end_tag_does_not_lose_the_rest() -> None:
    received = read_received(fa().replace(b"</DaneIdentyfikacyjne></Podmiot1>", b"</DaneIdentyfikacyjne>"))
    assert received.invoice_number == "F/1"
    assert not received.whole


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 50, b" \n", b"%PDF-1.7 \xff\xfe", b"<!doctype html><html></html>", b"<", b"{}"]
)
def test_what_is_no_invoice_is_unreadable_and_says_why(content: bytes) -> None:
    received = read_received(content)
    assert not received.readable
    assert received.damage
    assert received.form == ""
    assert everything(received)


def test_an_unknown_form_is_still_read() -> None:
    content = PLAIN.replace(b"2025/06/25/13775", b"2029/01/01/99999").replace(b"FA (3)", b"FA (9)")
    received = read_received(content)
    assert received.form == ""
    assert received.form_named == "FA (9)"
    assert received.invoice_number == "FV/7/2026"
    assert received.gross is not None


def test_a_missing_namespace_is_made_up_from_the_header() -> None:
    received = read_received(PLAIN.replace(b' xmlns="http://crd.gov.pl/wzor/2025/06/25/13775/"', b""))
    assert received.form == "FA (3)"
    assert "przestrzeni nazw" in received.damage[0]


def test_nothing_outside_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("TAJNE")
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("a socket was opened"))
    declaration = f'<!DOCTYPE F [<!ENTITY x SYSTEM "file://{secret}"><!ENTITY y SYSTEM "http://127.0.0.1:1/">]>'
    received = read_received(fa("<WZ>A&x;&y;B</WZ>", before=declaration))
    assert received.invoice_number == "F/1"
    assert "TAJNE" not in "".join(received.wz)
    assert any("DOCTYPE" in damage for damage in received.damage)


def test_entities_do_not_multiply() -> None:
    bomb = '<!DOCTYPE F [<!ENTITY a "aaaaaaaaaa">' + "".join(
        f'<!ENTITY a{n} "{f"&a{n - 1 if n else str()};" * 10}">' for n in range(9)
    )
    received = read_received(fa("<WZ>&a8;</WZ>", before=bomb + "]>"))
    assert all(len(text) < 1000 for text in received.wz)


def test_a_declaration_that_hides_its_end_is_no_declaration_either() -> None:
    declaration = '<!DOCTYPE F [<!ENTITY x "]"><!ENTITY y "ROZWINIĘTE">]>'
    assert read_received(fa("<WZ>A&y;B</WZ>", before=declaration)).wz == ("A&y;B",)


def test_a_forbidden_character_loses_nothing_but_itself() -> None:
    received = read_received(fa("<WZ>A\x01B</WZ>"))
    assert received.wz == ("AB",)
    assert received.whole
    assert received.damage == ("usunięto znaki niedozwolone w XML",)


def test_what_is_found_is_bounded() -> None:
    received = read_received(fa("<WZ>A</WZ>" * (MAX_FOUND + 10)))
    assert len(received.values("Fa/WZ")) == len(received.xpath("//WZ")) == MAX_FOUND
    assert len(received.rows("Fa/WZ")) == sum(1 for _ in received.rows("Fa")[0].below("WZ")) == MAX_FOUND


def test_many_unfinished_declarations_are_no_trap() -> None:
    assert not read_received(b"<!DOCTYPE [" * 100_000).whole


def test_a_huge_file_is_not_parsed() -> None:
    received = read_received(fa("<WZ>A</WZ>" + " " * MAX_BYTES))
    assert not received.readable
    assert "16 MB" in received.damage[0]


def test_deep_nesting_is_survived() -> None:
    received = read_received(fa("<a>" * 5000 + "</a>" * 5000))
    assert everything(received)


def test_an_attachments_metadata_is_bounded() -> None:
    block = b"<MetaDane><ZKlucz>K</ZKlucz><ZWartosc>W</ZWartosc></MetaDane>" * (MAX_ATTACHMENT_METADATA + 50)
    content = fa().replace(b"</Faktura>", b"<Zalacznik><BlokDanych>" + block + b"</BlokDanych></Zalacznik></Faktura>")
    assert len(read_received(content).attachment_metadata) == MAX_ATTACHMENT_METADATA


def test_contents_are_in_no_repr() -> None:
    received = read_received(PLAIN)
    shown = "".join(
        repr(thing)
        for thing in (
            received,
            received.seller,
            received.seller.addresses,
            received.rows("Fa/FaWiersz"),
            received.extra,
        )
    )
    assert "5265877635" not in shown
    assert "Warszawa" not in shown
    assert "Dębem" not in shown


def test_texts_are_collapsed_and_empty_ones_left_out() -> None:
    received = read_received(fa("<WZ>  A \n B </WZ><WZ/><WZ>  </WZ><WZ>C</WZ>"))
    assert received.values("Fa/WZ") == ["A B", "C"]
    assert len(received.rows("Fa/WZ")) == 4
    assert received.has("Fa/WZ")
    assert not received.has("Fa/Brak")
    assert received.first("Fa/Brak") == ""


def test_rows_answer_for_themselves() -> None:
    rows = read_received(fa("<FaWiersz><P_7>a</P_7></FaWiersz><FaWiersz><P_7>b</P_7></FaWiersz>")).rows("Fa/FaWiersz")
    assert [row.first("P_7") for row in rows] == ["a", "b"]


TREE = fa(
    "<DodatkowyOpis><Klucz>GLN</Klucz><Wartosc>1</Wartosc></DodatkowyOpis>"
    "<DodatkowyOpis><Klucz>Partia</Klucz><Wartosc>2</Wartosc></DodatkowyOpis>"
    '<FaWiersz><GTIN lp="7">590</GTIN></FaWiersz><FaWiersz><GTIN>591</GTIN></FaWiersz>'
)


@pytest.mark.parametrize(
    ("expression", "texts"),
    [
        ("//GTIN", ["590", "591"]),
        ("//FaWiersz/GTIN", ["590", "591"]),
        ("/Faktura/Fa/FaWiersz[2]/GTIN", ["591"]),
        ("Fa/DodatkowyOpis[Klucz='GLN']/Wartosc", ["1"]),
        ('Fa/DodatkowyOpis[ Klucz = "Partia" ]/Wartosc/text()', ["2"]),
        ("Fa/DodatkowyOpis[contains(Klucz, 'art')]/Wartosc", ["2"]),
        ("Fa/DodatkowyOpis[starts-with(Klucz,'GL')]/Wartosc", ["1"]),
        ("Fa/DodatkowyOpis[Wartosc]/Klucz", ["GLN", "Partia"]),
        ("Fa/DodatkowyOpis[Brak]/Klucz", []),
        ("Fa/*/Wartosc", ["1", "2"]),
        ("//GTIN/@lp", ["7"]),
        ("tns:Fa/tns:P_2", ["F/1"]),
    ],
)
def test_paths_find(expression: str, texts: list[str]) -> None:
    assert read_received(TREE).xpath(expression) == texts


@pytest.mark.parametrize(
    "expression",
    [
        "", "/", "//", "Fa/", "Fa//", "document('/etc/passwd')", "Fa[", "Fa[0]", "Fa/P_2 or 1", "Fa/..", "..",
        "count(//Fa)", "Fa[P_2=1]", "ancestor::Fa",
        "//a//b//c", "x" * 400, "/".join(["a"] * 30), "@id", "Fa[contains(P_2)]",
    ],
)  # fmt: skip
def test_paths_that_are_not_understood_are_refused(expression: str) -> None:
    with pytest.raises(PathFault):
        compile_path(expression)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400))
def test_no_bytes_make_it_raise(content: bytes) -> None:
    assert everything(read_received(content))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_no_damage_to_an_invoice_makes_it_raise(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from([PLAIN, TREE, correction_of(PLAIN)])))
    odd = st.sampled_from(
        [b"&nbsp;", b"&#xD800;", b"<!DOCTYPE a [", b"<![CDATA[", b"-->", b"</Fa>", b"\0", b"\xed\xa0\x80", b"<?p"]
    )
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(content)))
        length = data.draw(st.integers(0, 200))
        content[at : at + length] = data.draw(odd | st.binary(max_size=6))
    assert everything(read_received(bytes(content)))


def samples() -> list[dict[str, str]]:
    origins = SAMPLES / "ORIGINS.tsv"
    if not origins.is_file():
        return []
    with origins.open(encoding="utf-8", newline="") as rows:
        return list(csv.DictReader(rows, delimiter="\t"))


@pytest.mark.skipif(not samples(), reason="the third-party samples (../shared/ksef/invoices) are not there")
def test_every_sample_is_read() -> None:
    codes = {"FA(3)": "FA (3)", "FA(2)": "FA (2)", "FA_RR(1)": "FA_RR (1)", "PEF(3)": "PEF (3)"}
    for row in samples():
        received = read_received((SAMPLES / row["file"]).read_bytes())
        assert everything(received)
        assert received.readable, row["file"]
        assert received.form == codes[row["form"]], row["file"]
        if row["xsd"] == "ok":
            assert received.invoice_number, row["file"]
            assert received.issue_date, row["file"]
            assert received.gross is not None, row["file"]
            assert received.seller.nip, row["file"]
            assert received.seller.name, row["file"]
            if received.is_correction and row["file"] != "fa3__fop__OrderSectionTemplateTest_correction.xml":
                assert received.invoice_type == row["kind"], row["file"]


@pytest.mark.skipif(not samples(), reason="the third-party samples (../shared/ksef/invoices) are not there")
def test_a_farmers_and_a_peppol_sample() -> None:
    farmers = read_received((SAMPLES / "fa_rr1__fop__podstawowa_FA_RR_1_Przyklad_1.xml").read_bytes())
    assert farmers.is_farmers
    assert farmers.invoice_type == "VAT_RR"
    assert farmers.gross == Decimal("24600.00")
    assert farmers.line_texts
    assert farmers.accounts
    peppol = read_received((SAMPLES / "pef3__csharp__Templates_invoice-template-fa-3-pef.xml").read_bytes())
    assert peppol.is_ubl
    assert peppol.invoice_number == "80639"
    assert peppol.seller.nip == "3874600515"
    assert peppol.buyer.eu_vat == "SE4598375937"
    assert peppol.line_texts


UBL = """<Invoice xmlns="urn:oasis:names:specification:ubl:schema:xsd:Invoice-2"><ID>U/1</ID>
<InvoiceTypeCode>380</InvoiceTypeCode><OrderReference><ID>4500</ID></OrderReference>
<DespatchDocumentReference><ID>WZ 9</ID></DespatchDocumentReference>
<BillingReference><InvoiceDocumentReference><ID>U/0</ID></InvoiceDocumentReference></BillingReference>
<AccountingCustomerParty><Party><EndpointID schemeID="9945">5265877635</EndpointID>
<PartyIdentification><ID schemeID="0088">5901234123457</ID></PartyIdentification></Party></AccountingCustomerParty>
<Delivery><ActualDeliveryDate>2026-11-01</ActualDeliveryDate><DeliveryLocation><ID schemeID="0088">5900000000015</ID>
<Address><StreetName>Długa 5</StreetName><CityName>Łódź</CityName><PostalZone>90-001</PostalZone></Address>
</DeliveryLocation></Delivery></Invoice>"""


def test_a_peppol_invoice_says_where_goods_went() -> None:
    received = read_received(UBL.encode())
    assert received.form == "PEF (3)"
    assert received.orders == ("4500",)
    assert received.wz == ("WZ 9",)
    assert received.buyer.nip == "5265877635"
    assert received.buyer.gln == "5901234123457"
    assert received.corrected[0].number == "U/0"
    assert received.sale_date == date(2026, 11, 1)
    place = received.destinations[0]
    assert (place.gln, place.line1, place.line2) == ("5900000000015", "Długa 5", "90-001 Łódź")
