"""Groups E and F: each rule speaks when it should, and keeps still where the law leaves more than one way.

A case is a change of a sound invoice, and the codes that it brings (besides those, nothing may be said).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ksefbuffer.invoice.findings import Severity
from ksefbuffer.invoice.precheck import CheckContext, Report, check
from tests.samples import NIP, NOW, Line, a_nip, correction_of, invoice

CONTEXT = CheckContext(NIP, "test", NOW)
KSEF_NUMBER = "5265877635-20260916-0200A0D6723E-52"
BUYER = a_nip(1000)

PLAIN = [Line("Kawa", "szt.", Decimal(10), Decimal("12.50"))]
TWO = [*PLAIN, Line("Chleb", "szt.", Decimal(4), Decimal("6.20"), "5")]
EXEMPT = [Line("Porada lekarska", "usł.", Decimal(1), Decimal("200.00"), "zw")]


def report_of(content: bytes) -> Report:
    report = check(content, CONTEXT)
    assert not [finding for finding in report.errors if finding.code.startswith(("A", "B", "C"))], report.findings
    return report


def codes(content: bytes) -> list[str]:
    return [finding.code for finding in report_of(content).findings]


def edit(content: bytes, *changes: tuple[str, str]) -> bytes:
    for old, new in changes:
        assert old.encode() in content, old
        content = content.replace(old.encode(), new.encode(), 1)
    return content


def buyer_ids(ids: str, content: bytes | None = None) -> bytes:
    content = content or invoice(lines=PLAIN)
    return edit(content, (f"<NIP>{BUYER}</NIP>", ids))


def third(content: bytes, ids: str, rest: str) -> bytes:
    party = f"<Podmiot3><DaneIdentyfikacyjne>{ids}<Nazwa>Sklep nr 7</Nazwa></DaneIdentyfikacyjne>{rest}</Podmiot3>"
    return edit(content, ("</Podmiot2>", "</Podmiot2>" + party))


def correction(*changes: tuple[str, str], ksef_number: str | None = None) -> bytes:
    return edit(correction_of(invoice(lines=PLAIN), ksef_number=ksef_number), *changes)


VAT = invoice(lines=PLAIN)
LINK = "<LinkDoPlatnosci>{}://pay.example.pl/p?IPKSeF=123abcdefghij</LinkDoPlatnosci><IPKSeF>{}</IPKSeF></Platnosc>"

SPEAKS: list[tuple[str, Callable[[], bytes], list[str]]] = [
    # E01-E04: the buyer
    ("a NIP as a VAT-EU number", lambda: buyer_ids(f"<KodUE>PL</KodUE><NrVatUE>{BUYER}</NrVatUE>"), ["E01"]),
    ("a NIP with PL as an id", lambda: buyer_ids(f"<NrID>PL{BUYER}</NrID>"), ["E01"]),
    ("a Polish id that is no NIP", lambda: buyer_ids("<KodKraju>PL</KodKraju><NrID>ABC 123</NrID>"), ["E02"]),
    ("a company without NIP", lambda: _company(buyer_ids("<BrakID>1</BrakID>")), ["E02"]),
    (
        "no buyer's name",
        lambda: edit(VAT, _buyer_name()),
        ["E03"],
    ),
    ("the seller sells to itself", lambda: invoice(lines=PLAIN, buyer_nip=NIP), ["E04"]),
    # E05-E08: others
    ("JST without its unit", lambda: edit(VAT, ("<JST>2", "<JST>1")), ["E05"]),
    ("GV without its member", lambda: edit(VAT, ("<GV>2", "<GV>1")), ["E05"]),
    ("a JST unit without JST", lambda: third(VAT, f"<NIP>{a_nip(3)}</NIP>", "<Rola>8</Rola>"), ["E05"]),
    (
        "a share of one who is no buyer",
        lambda: third(VAT, f"<NIP>{a_nip(3)}</NIP>", "<Rola>6</Rola><Udzial>5</Udzial>"),
        ["E06"],
    ),
    (
        "shares of a hundred",
        lambda: third(VAT, f"<NIP>{a_nip(3)}</NIP>", "<Rola>4</Rola><Udzial>100</Udzial>"),
        ["E06"],
    ),
    ("an employee with a NIP", lambda: third(VAT, f"<NIP>{a_nip(3)}</NIP>", "<Rola>11</Rola>"), ["E06"]),
    (
        "the buyer again in another role",
        lambda: third(VAT, f"<NIP>{BUYER}</NIP>", "<RolaInna>1</RolaInna><OpisRoli>Dostawa</OpisRoli>"),
        ["E06"],
    ),
    ("a unit of somebody else", lambda: third(VAT, "<IDWew>6824515772-12343</IDWew>", "<Rola>2</Rola>"), ["E07"]),
    (
        "a NIP corrected",
        lambda: correction(
            ("</DaneFaKorygowanej>", "</DaneFaKorygowanej>" + _corrected_party("Podmiot2K", a_nip(9))),
        ),
        ["E08"],
    ),
    (
        "the seller's NIP corrected",
        lambda: correction(
            ("</DaneFaKorygowanej>", "</DaneFaKorygowanej>" + _corrected_party("Podmiot1K", a_nip(9))),
        ),
        ["E08"],
    ),
    # E09-E17: kinds
    ("a correction of nothing", lambda: _correction_of_nothing(), ["E09", "E11"]),
    ("a wrong KSeF number", lambda: correction(ksef_number=KSEF_NUMBER[:-2] + "00"), ["E09"]),
    (
        "a KSeF number of another seller",
        lambda: correction(ksef_number="7781464139-20230721-80B510-9675F7-B5"),
        ["E09"],
    ),
    (
        "a correction before its original",
        lambda: correction(("<DataWystFaKorygowanej>2026-11-20", "<DataWystFaKorygowanej>2026-11-21")),
        ["E09"],
    ),
    (
        "correction fields elsewhere",
        lambda: edit(correction(), ("<RodzajFaktury>KOR<", "<RodzajFaktury>ROZ<")),
        ["E10", "E13"],
    ),
    ("no type of correction", lambda: correction(("<TypKorekty>2</TypKorekty>", "")), ["E11"]),
    ("an advance without an order", lambda: _without(invoice(type="ZAL", lines=PLAIN), "Zamowienie"), ["E12"]),
    (
        "an order of another value",
        lambda: edit(invoice(type="ZAL", lines=PLAIN), ("<WartoscZamowienia>", "<WartoscZamowienia>1")),
        ["E12"],
    ),
    ("a settlement of nothing", lambda: _without(invoice(type="ROZ", lines=PLAIN), "FakturaZaliczkowa"), ["E13"]),
    (
        "a wrong number of an advance",
        lambda: edit(
            invoice(type="ROZ", lines=PLAIN),
            (
                "<NrKSeFZN>1</NrKSeFZN><NrFaZaliczkowej>ZAL/1/2026</NrFaZaliczkowej>",
                f"<NrKSeFFaZaliczkowej>{KSEF_NUMBER[:-2]}00</NrKSeFFaZaliczkowej>",
            ),
        ),
        ["E13"],
    ),
    (
        "a simplified invoice of 500 zł",
        lambda: invoice(type="UPR", lines=[Line("a", "szt", Decimal(1), Decimal(500))]),
        ["E14"],
    ),
    ("a simplified invoice for nobody", lambda: buyer_ids("<BrakID>1</BrakID>", _human(invoice(type="UPR"))), ["E14"]),
    ("no rows", lambda: _without(VAT, "FaWiersz"), ["E15"]),
    ("a row without a unit", lambda: edit(VAT, ("<P_8A>szt.</P_8A>", "")), ["E16"]),
    ("a row without a price", lambda: edit(VAT, ("<P_9A>12.50</P_9A>", "")), ["E16"]),
    ("a number twice", lambda: edit(invoice(lines=TWO), ("<NrWierszaFa>2", "<NrWierszaFa>1")), ["E17"]),
    # E18-E25: amounts
    ("a wrong value of a row", lambda: edit(VAT, ("<P_8B>10<", "<P_8B>11<")), ["E18"]),
    (
        "a wrong sum",
        lambda: edit(VAT, ("<P_13_1>125.00", "<P_13_1>126.00"), ("<P_15>153.75", "<P_15>154.75")),
        ["E19", "E20"],
    ),
    ("a wrong tax", lambda: edit(VAT, ("<P_14_1>28.75", "<P_14_1>28.77"), ("<P_15>153.75", "<P_15>153.77")), ["E20"]),
    ("a wrong total", lambda: edit(VAT, ("<P_15>153.75", "<P_15>153.77")), ["E21"]),
    ("a rate without its sum", lambda: edit(VAT, ("<P_12>23", "<P_12>8")), ["E22", "E22"]),
    ("reverse charge unsaid", lambda: _rate("oo", "P_13_10"), ["E22"]),
    ("services abroad to a Polish NIP", lambda: _rate("np II", "P_13_9"), ["E22"]),
    ("export to a Polish NIP", lambda: _rate("0 EX", "P_13_6_3"), ["E22"]),
    ("a delivery in the EU to a Polish NIP", lambda: _rate("0 WDT", "P_13_6_2"), ["E22", "E22"]),
    (
        "an exemption without its ground",
        lambda: edit(
            invoice(lines=EXEMPT),
            ("<P_19>1</P_19><P_19A>art. 43 ust. 1 pkt 29 ustawy o VAT</P_19A>", "<P_19N>1</P_19N>"),
        ),
        ["E23"],
    ),
    (
        "a ground without an exemption",
        lambda: edit(VAT, ("<P_19N>1</P_19N>", "<P_19>1</P_19><P_19A>art.</P_19A>")),
        ["E23"],
    ),
    (
        "split payment unsaid",
        lambda: edit(_costly(), ("<P_12>23</P_12>", "<P_12>23</P_12><P_12_Zal_15>1</P_12_Zal_15>")),
        ["E24"],
    ),
    ("no tax in złoty", lambda: edit(invoice(lines=PLAIN, currency="EUR"), ("<P_14_1W>122.19</P_14_1W>", "")), ["E25"]),
    ("tax in złoty twice", lambda: edit(VAT, ("</P_14_1>", "</P_14_1><P_14_1W>28.75</P_14_1W>")), ["E25"]),
    ("an advance's rate elsewhere", lambda: edit(VAT, ("</P_15>", "</P_15><KursWalutyZ>4.25</KursWalutyZ>")), ["E25"]),
    (
        "złoty as the agreed currency",
        lambda: edit(
            VAT,
            (
                "</Platnosc>",
                "</Platnosc><WarunkiTransakcji><KursUmowny>1</KursUmowny><WalutaUmowna>PLN</WalutaUmowna></WarunkiTransakcji>",
            ),
        ),
        ["E25"],
    ),
    # E26, E27: dates and marks
    ("two dates of sale", lambda: edit(VAT, ("<P_7>Kawa", "<P_6A>2026-11-20</P_6A><P_7>Kawa")), ["E26"]),
    ("issued too early", lambda: edit(VAT, ("<P_6>2026-11-20", "<P_6>2027-01-20")), ["E26"]),
    ("issued too late", lambda: edit(VAT, ("<P_6>2026-11-20", "<P_6>2026-09-30")), ["E26"]),
    (
        "a period backwards",
        lambda: edit(
            VAT, ("<P_6>2026-11-20</P_6>", "<OkresFa><P_6_Od>2026-11-30</P_6_Od><P_6_Do>2026-11-01</P_6_Do></OkresFa>")
        ),
        ["E26"],
    ),
    ("made in the future", lambda: edit(VAT, ("2026-11-19T22:00:00Z", "2026-11-20T10:30:00Z")), ["E26"]),
    ("made in no zone", lambda: edit(VAT, ("2026-11-19T22:00:00Z", "2026-11-19T22:00:00")), ["E26"]),
    ("made in too many digits", lambda: edit(VAT, ("22:00:00Z", "22:00:00.1234567Z")), ["E26"]),
    (
        "a margin without its sum",
        lambda: edit(VAT, ("<P_PMarzyN>1</P_PMarzyN>", "<P_PMarzy>1</P_PMarzy><P_PMarzy_2>1</P_PMarzy_2>")),
        ["E27"],
    ),
    (
        "a margin's sum without the mark",
        lambda: edit(VAT, ("<P_15>153.75", "<P_13_11>5</P_13_11><P_15>158.75")),
        ["E27"],
    ),
    (
        "a vehicle in a row that is not there",
        lambda: edit(
            VAT,
            (
                "<P_22N>1</P_22N>",
                "<P_22>1</P_22><P_42_5>2</P_42_5><NowySrodekTransportu><P_22A>2026-01-01</P_22A>"
                "<P_NrWierszaNST>9</P_NrWierszaNST><P_22C>1</P_22C></NowySrodekTransportu>",
            ),
        ),
        ["E27"],
    ),
    ("triangular trade at home", lambda: edit(VAT, ("<P_23>2", "<P_23>1")), ["E27", "E27"]),
    # F: practice
    ("a number with an odd sign", lambda: invoice("FV№1", lines=PLAIN), ["F01"]),
    ("a number with a hidden sign", lambda: invoice("FV\u200b1", lines=PLAIN), ["F01"]),
    ("a number with two spaces", lambda: invoice("FV  1", lines=PLAIN), ["F01"]),
    ("a number with a space before", lambda: invoice(" FV 1", lines=PLAIN), ["F01"]),
    ("due before it was issued", lambda: edit(VAT, ("<Termin>2026-12-04", "<Termin>2026-11-04")), ["F05"]),
    (
        "an account that cannot be",
        lambda: edit(VAT, ("<NrRB>61109010140000071219812874", "<NrRB>61109010140000071219812875")),
        ["F05"],
    ),
    (
        "an account with spaces that cannot be",
        lambda: edit(VAT, ("<NrRB>61109010140000071219812874", "<NrRB>PL61 1090 1014 0000 0712 1981 2875")),
        ["F05"],
    ),
    ("a transfer to nowhere", lambda: _without(VAT, "RachunekBankowy"), ["F05"]),
    (
        "paid tomorrow",
        lambda: edit(VAT, ("<Platnosc>", "<Platnosc><Zaplacono>1</Zaplacono><DataZaplaty>2026-11-21</DataZaplaty>")),
        ["F05"],
    ),
    (
        "paid in parts, and too much",
        lambda: edit(VAT, ("<Platnosc>", "<Platnosc>" + _part("100.00") + _part_only("60.00"))),
        ["F05"],
    ),
    (
        "a term of no days",
        lambda: edit(
            VAT,
            (
                "<Termin>2026-12-04</Termin>",
                "<TerminOpis><Ilosc>0</Ilosc><Jednostka>dni</Jednostka><ZdarzeniePoczatkowe>dostawa</ZdarzeniePoczatkowe></TerminOpis>",
            ),
        ),
        ["F05"],
    ),
    (
        "a wrong balance",
        lambda: edit(VAT, ("<Platnosc>", _balance("10.00", "10.00", "163.77") + "<Platnosc>")),
        ["F06"],
    ),
    (
        "a wrong sum of charges",
        lambda: edit(VAT, ("<Platnosc>", _balance("10.00", "11.00", "163.75") + "<Platnosc>")),
        ["F06"],
    ),
    (
        "another payment id in the link",
        lambda: edit(VAT, ("</Platnosc>", LINK.format("https", "123abcdefghik"))),
        ["F07"],
    ),
    ("an open link", lambda: edit(VAT, ("</Platnosc>", LINK.format("http", "123abcdefghij"))), ["F07"]),
    (
        "a GLN that cannot be",
        lambda: edit(VAT, ("</AdresL2></Adres><JST>", "</AdresL2><GLN>1234567890123</GLN></Adres><JST>")),
        ["F08"],
    ),
    ("a description of no row", lambda: edit(VAT, ("<FaWiersz>", _extra("wartość", 7) + "<FaWiersz>")), ["F10"]),
    ("a description that says nothing", lambda: edit(VAT, ("<FaWiersz>", _extra("-") + "<FaWiersz>")), ["F10"]),
    ("a description that was cut", lambda: edit(VAT, ("<FaWiersz>", _extra("x" * 256) + "<FaWiersz>")), ["F10"]),
    ("no postcode", lambda: edit(VAT, ("02-777 Warszawa", "Warszawa")), ["F11"]),
    ("a name for a street", lambda: edit(VAT, ("ul. Fabryczna 12", "Hurtownia Pod Dębem sp. z o.o.")), ["F11"]),
    ("a wrong GTIN", lambda: edit(VAT, ("<P_8A>", "<GTIN>5901234123458</GTIN><P_8A>")), ["F12"]),
    ("a wrong CN", lambda: edit(VAT, ("<P_8A>", "<CN>kawa</CN><P_8A>")), ["F12"]),
    ("a wrong PKWiU", lambda: edit(VAT, ("<P_8A>", "<PKWiU>usługi</PKWiU><P_8A>")), ["F12"]),
    ("alcohol without GTU", lambda: edit(VAT, ("<P_8A>", "<CN>2204 21</CN><P_8A>")), ["E29"]),
    ("an unfilled template", lambda: invoice(lines=PLAIN, footer="Klient: {{nazwa}}"), ["F13"]),
    ("null for a name", lambda: invoice(lines=[Line("null", "szt", Decimal(1), Decimal(5))]), ["F13"]),
    ("#nip# in a footer", lambda: invoice(lines=PLAIN, footer="NIP #nip_nabywcy#"), ["F13"]),
    ("no currency at all", lambda: invoice(lines=PLAIN, currency="XXX"), ["F14"]),
    ("an invoice of nothing", lambda: invoice(lines=[Line("Gratis", "szt", Decimal(1), Decimal(0))]), ["F15"]),
]


def _without(content: bytes, element: str) -> bytes:
    start, end = f"<{element}>".encode(), f"</{element}>".encode()
    assert start in content
    while start in content:
        content = content[: content.index(start)] + content[content.index(end) + len(end) :]
    return content


def _buyer_name() -> tuple[str, str]:
    return VAT.decode().split(f"<NIP>{BUYER}</NIP>")[1].split("</Nazwa>")[0] + "</Nazwa>", ""


def _human(content: bytes) -> bytes:
    text = content.decode()
    name = text.split(f"<NIP>{BUYER}</NIP><Nazwa>")[1].split("</Nazwa>")[0]
    return edit(content, (name, "Jan Kowalski"))


def _corrected_party(element: str, nip: str) -> str:
    return (
        f"<{element}><DaneIdentyfikacyjne><NIP>{nip}</NIP><Nazwa>Dawna nazwa</Nazwa></DaneIdentyfikacyjne>"
        f"<Adres><KodKraju>PL</KodKraju><AdresL1>Rynek 1</AdresL1></Adres></{element}>"
    )


def _rate(rate: str, field: str) -> bytes:
    return edit(
        invoice(lines=PLAIN),
        ("<P_12>23", f"<P_12>{rate}"),
        ("<P_13_1>125.00</P_13_1><P_14_1>28.75</P_14_1>", f"<{field}>125.00</{field}>"),
        ("<P_15>153.75", "<P_15>125.00"),
    )


def _costly() -> bytes:
    return invoice(lines=[Line("Stal", "t", Decimal(10), Decimal("2000.00"))])


def _part(amount: str) -> str:
    return "<ZnacznikZaplatyCzesciowej>1</ZnacznikZaplatyCzesciowej>" + _part_only(amount)


def _part_only(amount: str) -> str:
    return (
        f"<ZaplataCzesciowa><KwotaZaplatyCzesciowej>{amount}</KwotaZaplatyCzesciowej>"
        "<DataZaplatyCzesciowej>2026-11-20</DataZaplatyCzesciowej></ZaplataCzesciowa>"
    )


def _balance(charge: str, total: str, due: str) -> str:
    return (
        f"<Rozliczenie><Obciazenia><Kwota>{charge}</Kwota><Powod>Kaucja</Powod></Obciazenia>"
        f"<SumaObciazen>{total}</SumaObciazen><DoZaplaty>{due}</DoZaplaty></Rozliczenie>"
    )


def _extra(value: str, row: int | None = None) -> str:
    pointed = f"<NrWiersza>{row}</NrWiersza>" if row else ""
    return f"<DodatkowyOpis>{pointed}<Klucz>Partia</Klucz><Wartosc>{value}</Wartosc></DodatkowyOpis>"


def _company(content: bytes) -> bytes:
    text = content.decode()
    name = text.split("<BrakID>1</BrakID><Nazwa>")[1].split("</Nazwa>")[0]
    return edit(content, (name, "Piekarnia sp. z o.o."))


SILENT: list[tuple[str, Callable[[], bytes]]] = [
    (
        "a foreign buyer whose number passes for a NIP",
        lambda: buyer_ids(f"<KodUE>SK</KodUE><NrVatUE>{BUYER}</NrVatUE>"),
    ),
    ("a person with a PESEL", lambda: buyer_ids("<KodKraju>PL</KodKraju><NrID>44051401359</NrID>")),
    ("a person without any number", lambda: _human_without_id()),
    (
        "a JST with its unit",
        lambda: third(
            edit(invoice(lines=PLAIN, buyer_nip="6824515772"), ("<JST>2", "<JST>1")),
            "<IDWew>6824515772-12343</IDWew>",
            "<Rola>8</Rola>",
        ),
    ),
    (
        "a member of a VAT group",
        lambda: third(edit(VAT, ("<GV>2", "<GV>1")), f"<NIP>{a_nip(3)}</NIP>", "<Rola>10</Rola>"),
    ),
    (
        "an additional buyer with a share",
        lambda: third(VAT, f"<NIP>{a_nip(3)}</NIP>", "<Rola>4</Rola><Udzial>40</Udzial>"),
    ),
    ("an employee", lambda: third(VAT, "<BrakID>1</BrakID>", "<Rola>11</Rola>")),
    ("a correction of an invoice with a number", lambda: correction(ksef_number="5265877635-20250916-0200A0D6723E-C2")),
    ("a correction of an invoice of KSeF 1.0", lambda: correction(ksef_number="5265877635-20230721-80B510-9675F7-B5")),
    ("a number of KSeF 1.0 without its hyphen", lambda: correction(ksef_number="5265877635-20230721-80B5109675F7-00")),
    (
        "an old name corrected",
        lambda: correction(("</DaneFaKorygowanej>", "</DaneFaKorygowanej>" + _corrected_party("Podmiot2K", BUYER))),
    ),
    (
        "a row before and after under one number",
        lambda: correction(("<NrWierszaFa>2", "<NrWierszaFa>1")),
    ),
    ("a correction without rows", lambda: _without(correction(), "FaWiersz")),
    ("a correction by difference", lambda: _difference()),
    ("a correction of the tax alone", lambda: _tax_only()),
    ("a discount off the row", lambda: _discount("25.00", "100.00")),
    ("a discount off the price", lambda: _discount("2.50", "100.00")),
    ("a price derived from the value", lambda: _derived("333", "0.30", "100.00")),
    ("a price with eight places", lambda: _derived("3", "33.33333333", "100.00")),
    ("a measured quantity", lambda: _derived("0.333", "300.15", "100.00")),
    ("amounts counted from gross", lambda: _gross_method()),
    ("a settlement of a paid advance", lambda: invoice(type="ROZ", lines=TWO)),
    ("two old rates in one sum", lambda: _old_rates()),
    ("a margin", lambda: _margin()),
    ("OSS", lambda: _oss()),
    (
        "split payment said",
        lambda: edit(
            _costly(), ("<P_18A>2", "<P_18A>1"), ("<P_12>23</P_12>", "<P_12>23</P_12><P_12_Zal_15>1</P_12_Zal_15>")
        ),
    ),
    ("a costly invoice of other goods", _costly),
    (
        "the last day to issue",
        lambda: edit(invoice(lines=PLAIN, issue_date=date(2026, 11, 15)), ("<P_6>2026-11-15", "<P_6>2026-10-01")),
    ),
    ("a sale in December", lambda: edit(VAT, ("<P_6>2026-11-20", "<P_6>2026-12-31"))),
    ("made a moment ahead of our clock", lambda: edit(VAT, ("2026-11-19T22:00:00Z", "2026-11-20T10:20:00Z"))),
    ("made to the millisecond", lambda: edit(VAT, ("22:00:00Z", "22:00:00.123Z"))),
    ("a number with Polish letters", lambda: invoice("FV/1/Łódź_2026.a-b", lines=PLAIN)),
    ("a number with one space", lambda: invoice("FV 1/2026", lines=PLAIN)),
    ("a foreign account", lambda: edit(VAT, ("<NrRB>61109010140000071219812874", "<NrRB>DE89370400440532013000"))),
    (
        "an account with spaces",
        lambda: edit(
            VAT, ("<NrRB>61109010140000071219812874", "<NrRB>61 1090 1014 0000 0712 1981"), *[("1981<", "1981 2874<")]
        ),
    ),
    ("paid already, by transfer", lambda: _paid()),
    ("a right balance", lambda: edit(VAT, ("<Platnosc>", _balance("10.00", "10.00", "163.75") + "<Platnosc>"))),
    ("a right GLN", lambda: edit(VAT, ("</AdresL2></Adres><JST>", "</AdresL2><GLN>5901234123457</GLN></Adres><JST>"))),
    ("a right payment link", lambda: edit(VAT, ("</Platnosc>", LINK.format("https", "123abcdefghij")))),
    ("a description of a row", lambda: edit(VAT, ("<FaWiersz>", _extra("L-17", 1) + "<FaWiersz>"))),
    (
        "right codes of a product",
        lambda: edit(VAT, ("<P_8A>", "<GTIN>5901234123457</GTIN><PKWiU>10.83.11.0</PKWiU><CN>0901 21 00</CN><P_8A>")),
    ),
    ("a pregnancy test", lambda: invoice(lines=[Line("Test ciążowy #1 {2 szt.}", "szt", Decimal(1), Decimal(5))])),
    ("nothing to pay but a deposit", lambda: _only_charges()),
    ("a foreign address", lambda: _abroad()),
]


def _human_without_id() -> bytes:
    return buyer_ids("<BrakID>1</BrakID>", _human(VAT))


def _correction_of_nothing() -> bytes:
    return _without(_without(_without(correction(), "DaneFaKorygowanej"), "TypKorekty"), "PrzyczynaKorekty")


def _difference() -> bytes:
    content = correction(("<StanPrzed>1</StanPrzed>", ""))
    first, second = content.index(b"<FaWiersz>"), content.rindex(b"<FaWiersz>")
    return edit(
        content[:first] + content[second:],
        ("<P_8B>9<", "<P_8B>-1<"),
        ("<P_11>112.50<", "<P_11>-12.50<"),
    )


def _tax_only() -> bytes:
    return edit(
        _without(correction(), "FaWiersz"),
        ("<P_13_1>-12.50</P_13_1><P_14_1>-2.88</P_14_1>", "<P_13_1>0</P_13_1><P_14_1>-2.88</P_14_1>"),
        ("<P_15>-15.38", "<P_15>-2.88"),
    )


def _discount(discount: str, value: str) -> bytes:
    return edit(
        VAT,
        ("<P_11>125.00", f"<P_10>{discount}</P_10><P_11>{value}"),
        ("<P_13_1>125.00</P_13_1><P_14_1>28.75", "<P_13_1>100.00</P_13_1><P_14_1>23.00"),
        ("<P_15>153.75", "<P_15>123.00"),
    )


def _derived(quantity: str, price: str, value: str) -> bytes:
    return edit(
        VAT,
        ("<P_8B>10<", f"<P_8B>{quantity}<"),
        ("<P_9A>12.50<", f"<P_9A>{price}<"),
        ("<P_11>125.00", f"<P_11>{value}"),
        ("<P_13_1>125.00</P_13_1><P_14_1>28.75", "<P_13_1>100.00</P_13_1><P_14_1>23.00"),
        ("<P_15>153.75", "<P_15>123.00"),
    )


def _gross_method() -> bytes:
    return edit(
        VAT,
        ("<P_9A>12.50</P_9A><P_11>125.00</P_11>", "<P_9B>9.99</P_9B><P_11A>99.90</P_11A>"),
        ("<P_13_1>125.00</P_13_1><P_14_1>28.75", "<P_13_1>81.22</P_13_1><P_14_1>18.68"),
        ("<P_15>153.75", "<P_15>99.90"),
    )


def _old_rates() -> bytes:
    rows = [Line("a", "szt", Decimal(1), Decimal("100.00")), Line("b", "szt", Decimal(1), Decimal("100.00"))]
    content = invoice(lines=rows)
    at = content.rindex(b"<P_12>23")
    content = content[:at] + b"<P_12>22" + content[at + 8 :]
    return edit(content, ("<P_14_1>46.00", "<P_14_1>45.00"), ("<P_15>246.00", "<P_15>245.00"))


def _margin() -> bytes:
    return edit(
        VAT,
        ("<P_PMarzyN>1</P_PMarzyN>", "<P_PMarzy>1</P_PMarzy><P_PMarzy_3_1>1</P_PMarzy_3_1>"),
        ("<P_13_1>125.00</P_13_1><P_14_1>28.75</P_14_1>", "<P_13_11>500.00</P_13_11>"),
        ("<P_15>153.75", "<P_15>500.00"),
        ("<P_9A>12.50</P_9A><P_11>125.00</P_11><P_12>23</P_12>", "<P_9B>50.00</P_9B><P_11A>500.00</P_11A>"),
    )


def _oss() -> bytes:
    return edit(
        VAT,
        ("<P_12>23</P_12>", "<P_12_XII>19</P_12_XII>"),
        ("<P_13_1>125.00</P_13_1><P_14_1>28.75</P_14_1>", "<P_13_5>125.00</P_13_5><P_14_5>23.75</P_14_5>"),
        ("<P_15>153.75", "<P_15>148.75"),
    )


def _paid() -> bytes:
    return edit(
        _without(VAT, "RachunekBankowy"),
        ("<Platnosc>", "<Platnosc><Zaplacono>1</Zaplacono><DataZaplaty>2026-11-20</DataZaplaty>"),
    )


def _only_charges() -> bytes:
    nothing = invoice(lines=[Line("Gratis", "szt", Decimal(1), Decimal(0))])
    return edit(nothing, ("<Platnosc>", _balance("10.00", "10.00", "10.00") + "<Platnosc>"))


def _abroad() -> bytes:
    text = VAT.decode()
    head, tail = text.split("<Podmiot2>")
    old = tail.split("<AdresL2>")[1].split("</AdresL2>")[0]
    tail = tail.replace("<KodKraju>PL", "<KodKraju>SK", 1).replace(old, "Bratislava", 1)
    return f"{head}<Podmiot2>{tail}".encode()


@pytest.mark.parametrize(("change", "expected"), [case[1:] for case in SPEAKS], ids=[case[0] for case in SPEAKS])
def test_it_is_noticed(change: Callable[[], bytes], expected: list[str]) -> None:
    report = report_of(change())
    assert [finding.code for finding in report.findings] == expected, report.findings
    assert report.ok
    for finding in report.findings:
        assert finding.severity in (Severity.WARN, Severity.NOTE)
        assert finding.message.endswith((".", "?"))
        assert finding.hint
        assert finding.line
        assert finding.field


@pytest.mark.parametrize("change", [case[1] for case in SILENT], ids=[case[0] for case in SILENT])
def test_it_is_no_matter(change: Callable[[], bytes]) -> None:
    assert [found for found in report_of(change()).findings if found.code != "D09"] == []


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["VAT", "UPR", "ZAL", "ROZ"]), st.sampled_from(["PLN", "EUR"]))
def test_generated_invoices_bring_no_warning(seed: int, kind: str, currency: str) -> None:
    content = invoice(seed=seed, type=kind, currency=currency)
    assert check(content, CheckContext(NIP, "production", NOW)).findings == ()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_generated_corrections_bring_no_warning(seed: int) -> None:
    assert codes(correction_of(invoice(seed=seed))) == []


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(st.decimals("0.001", "9999", places=3), st.decimals("0.01", "99999", places=2)),
        min_size=1,
        max_size=12,
    )
)
def test_honest_rounding_is_never_doubted(rows: list[tuple[Decimal, Decimal]]) -> None:
    lines = [Line("Towar", "kg", quantity, price) for quantity, price in rows]
    found = [finding.code for finding in report_of(invoice(lines=lines)).findings]
    assert [code for code in found if code != "F15"] == []


def test_a_thousand_doubts_are_told_in_short() -> None:
    content = invoice(lines=300, seed=1).replace(b"<P_11>", b"<P_11>9")
    report = report_of(content)
    assert len([finding for finding in report.findings if finding.code == "E18"]) == 51
    assert "jeszcze 250" in [finding for finding in report.findings if finding.code == "E18"][-1].message


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ("<WKom>2026-01-01</WKom><WKom>1 234,50</WKom>", []),
        ("<WKom></WKom><WKom></WKom>", []),
        ("<WKom>2026-01-01</WKom>", ["E30"]),
        ("<WKom>wczoraj</WKom><WKom>dużo</WKom>", ["E30", "E30"]),
    ],
)
def test_tables_of_an_attachment_are_looked_at(cells: str, expected: list[str]) -> None:
    table = (
        '<Tabela><TNaglowek><Kol Typ="date"><NKom>Dzień</NKom></Kol><Kol Typ="dec"><NKom>Ilość</NKom></Kol></TNaglowek>'
        f"<Wiersz>{cells}</Wiersz></Tabela></BlokDanych>"
    )
    content = edit(invoice(attachment=True), ("</BlokDanych>", table))
    report = check(content, CheckContext(NIP, "test", NOW, correction=True))
    assert [finding.code for finding in report.findings] == expected
