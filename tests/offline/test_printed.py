"""What stands on the printed page, read back by PDFium; codes by zxing-cpp."""

from __future__ import annotations

import random
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
import zxingcpp
from lxml import etree

from ksefbuffer.errors import BufferFault
from ksefbuffer.offline.printed import Code, NotPrintable
from ksefbuffer.offline.printing import press
from tests.offline.printed_pages import dense, facts, faktura, is_tagged, links, picture, printed, sheets, text_of
from tests.samples import NIP, correction_of, invoice

NUMBER = "5265877635-20261120-0100001AF629-AF"
KOD_I = "https://qr-test.ksef.mf.gov.pl/invoice/1111111111/01-02-2026/UtQp9Gpc51y-u3xApZjIjgkpZ01js-J8KflSPW8WzIE"
HASHES = "UtQp9Gpc51y-u3xApZjIjgkpZ01js-J8KflSPW8WzIE"
KOD_II = f"https://qr-test.ksef.mf.gov.pl/certificate/Nip/1111111111/1111111111/01F20A5D352AE590/{HASHES}/"
EC_SIGNED = KOD_II + "s" * 86
RSA_SIGNED = KOD_II + "t" * 683


def test_number_parties_rows_and_totals_are_on_the_page() -> None:
    content = invoice("FV/17/2026", lines=2, seed=3, buyer_name="Zażółć Gęślą Jaźń sp. z o.o.", buyer_nip="1234563218")
    text = text_of(printed(content, ksef_number=NUMBER, accepted_at=datetime(2026, 11, 20, 23, 30, tzinfo=UTC)))
    for said in (
        "Wizualizacja faktury",
        "nr FV/17/2026",
        f"Numer KSeF: {NUMBER}",
        "Przyjęto w KSeF: 21.11.2026 00:30",
        "Data wystawienia: 20.11.2026",
        f"NIP: {NIP}",
        "Hurtownia Pod Dębem sp. z o.o.",
        "NIP: 1234563218",
        "Zażółć Gęślą Jaźń sp. z o.o.",
        "Kwota należności ogółem",
        "Termin płatności: 04.12.2026",
        "Rachunek: 61 1090 1014 0000 0712 1981 2874",
        "strona 1 z 1",
    ):
        assert said in text


def test_amounts_are_written_the_polish_way() -> None:
    row = "<FaWiersz><NrWierszaFa>1</NrWierszaFa><P_7>Koparka</P_7><P_8B>2.50</P_8B><P_9A>1234567.1</P_9A></FaWiersz>"
    sums = "<P_13_1>1000</P_13_1><P_14_1>230.00</P_14_1>"
    text = text_of(printed(faktura(sums + row)))
    for said in ("2,5 1 234 567,10", "1 000,00 230,00 1 230,00", "123,00 PLN"):
        assert said in text


def test_a_number_not_yet_given_is_said_with_the_mode() -> None:
    text = text_of(printed(invoice(), mode="offline24"))
    assert "Numer KSeF: nie został jeszcze nadany" in text
    assert "Tryb wystawienia: offline24 (art. 106nda ustawy)" in text
    assert "Numer KSeF: nie jest nadawany" in text_of(printed(invoice(), mode="awaria całkowita"))


@pytest.mark.parametrize("second", [EC_SIGNED, RSA_SIGNED], ids=["ec", "rsa"])
def test_both_codes_can_be_read_from_the_sheet_and_clicked(second: str) -> None:
    pdf = printed(invoice(lines=1), codes=[Code(KOD_I, "OFFLINE"), Code(second, "CERTYFIKAT")], mode="offline24")
    assert {code.text for code in zxingcpp.read_barcodes(picture(pdf))} == {KOD_I, second}
    assert links(pdf) == [KOD_I, second]
    text = text_of(pdf)
    assert "OFFLINE" in text
    assert "CERTYFIKAT" in text
    assert KOD_I in dense(text)


def test_the_pdf_is_archivable_accessible_and_says_what_it_is() -> None:
    pdf = printed(invoice("FV/9/2026"), codes=[Code(KOD_I, "OFFLINE")])
    assert is_tagged(pdf)
    assert b"<pdfaid:part>2</pdfaid:part>" in pdf
    assert b"<pdfaid:conformance>A</pdfaid:conformance>" in pdf
    assert b"<pdfuaid:part>1</pdfuaid:part>" in pdf
    assert b"/Lang(pl)" in pdf
    said = facts(pdf)
    assert (said["Title"], said["Author"]) == ("Faktura FV/9/2026", "Hurtownia Pod Dębem sp. z o.o.")
    assert said["CreationDate"].startswith("D:20261120")


def test_equal_invoices_give_equal_bytes_from_every_thread() -> None:
    contents = [invoice(f"FV/{at}", lines=3, seed=at) for at in range(6)]
    first = [printed(content, codes=[Code(KOD_I, "OFFLINE")]) for content in contents]
    with ThreadPoolExecutor(4) as threads:
        again = list(threads.map(lambda content: printed(content, codes=[Code(KOD_I, "OFFLINE")]), contents))
    assert again == first
    assert len(set(first)) == len(first)


def test_an_invoice_without_a_date_is_printed_the_same_every_time() -> None:
    pdf = printed(faktura().replace(b"<P_1>2026-11-20</P_1>", b""))
    assert facts(pdf)["CreationDate"].startswith("D:20260201")


HOSTILE = (
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "#import &quot;/etc/passwd&quot;",
    "*gruby* _kursywa_ $x^2$ @odnośnik",
    "#panic(&quot;koniec&quot;) \\ `kod` = nagłówek",
    "&lt;etykieta&gt; // nie komentarz /* ani to */",
    "https://example.test/#sys.inputs ~ -- --- ... 1/2",
)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_nothing_in_an_invoice_is_markup(hostile: str) -> None:
    row = f"<FaWiersz><NrWierszaFa>1</NrWierszaFa><P_7>{hostile}</P_7></FaWiersz>"
    party = f"<Podmiot1><DaneIdentyfikacyjne><Nazwa>{hostile}</Nazwa></DaneIdentyfikacyjne></Podmiot1>"
    pdf = printed(faktura(row, parties=party, number=hostile))
    literal = dense(hostile.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"'))
    assert dense(text_of(pdf)).count(literal) == 4  # Number in head and foot, seller, row.
    assert facts(pdf)["Title"].endswith(hostile.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"'))
    assert links(pdf) == []


def test_control_characters_and_turned_lines_are_taken_out() -> None:
    name = "Faktura \u202egpj.exe\u202c \u200bna\u00adprawdę\u0085 \ufeffdobra"
    row = f"<FaWiersz><NrWierszaFa>1</NrWierszaFa><P_7>{name}</P_7></FaWiersz>"
    assert "Faktura gpj.exe naprawdę dobra" in text_of(printed(faktura(row)))


def test_writing_without_a_typeface_is_shown_as_boxes_and_said() -> None:
    row = "<FaWiersz><NrWierszaFa>1</NrWierszaFa><P_7>Чай 中国 😀 Ω</P_7></FaWiersz>"
    text = text_of(printed(faktura(row)))
    assert "Чай □□ □ Ω" in text
    assert "zastąpiono znakiem □" in text
    assert "zastąpiono znakiem" not in text_of(printed(faktura()))


def test_a_correction_shows_before_after_and_the_difference() -> None:
    original = invoice("FV/1/2026", lines=1, seed=5)
    pdf = printed(correction_of(original, ksef_number=NUMBER, reason="Zwrot jednej sztuki"))
    text = text_of(pdf)
    assert "Faktura korygująca" in text
    assert "Przyczyna korekty: Zwrot jednej sztuki" in text
    assert f"FV/1/2026 20.11.2026 {NUMBER}" in text
    at = [text.index(f" {state} ") for state in ("przed", "po", "różnica")]
    assert at == sorted(at)
    assert "różnica −1 " in text
    assert "Kwota korekty" in text


def test_a_correction_by_differences_says_so() -> None:
    row = "<FaWiersz><NrWierszaFa>1</NrWierszaFa><P_7>Rabat</P_7><P_11>-10.00</P_11></FaWiersz>"
    text = text_of(printed(faktura(row, kind="KOR")))
    assert "−10,00" in text
    assert "wykazują różnice" in text


def test_buyer_and_seller_before_a_correction_are_shown() -> None:
    party = "<DaneIdentyfikacyjne><NIP>1234563218</NIP><Nazwa>Stara Nazwa</Nazwa></DaneIdentyfikacyjne>"
    text = text_of(printed(faktura(f"<Podmiot1K>{party}</Podmiot1K><Podmiot2K>{party}</Podmiot2K>", kind="KOR")))
    assert "Sprzedawca przed korektą Stara Nazwa" in text
    assert "Nabywca przed korektą Stara Nazwa" in text


@pytest.mark.parametrize(
    ("marks", "said"),
    [
        ("<P_16>1</P_16>", "Metoda kasowa"),
        ("<P_17>1</P_17>", "Samofakturowanie"),
        ("<P_18>1</P_18>", "Odwrotne obciążenie"),
        ("<P_18A>1</P_18A>", "Mechanizm podzielonej płatności"),
        ("<P_23>1</P_23>", "Procedura trójstronna uproszczona"),
        (
            "<Zwolnienie><P_19>1</P_19><P_19A>art. 43 ust. 1 pkt 2</P_19A></Zwolnienie>",
            "Sprzedaż zwolniona od podatku – przepis ustawy: art. 43 ust. 1 pkt 2",
        ),
        ("<PMarzy><P_PMarzy>1</P_PMarzy><P_PMarzy_3_1>1</P_PMarzy_3_1></PMarzy>", "Procedura marży – towary używane"),
        (
            "<NoweSrodkiTransportu><P_22>1</P_22><P_42_5>1</P_42_5><NowySrodekTransportu><P_22A>2026-10-01</P_22A>"
            "<P_NrWierszaNST>1</P_NrWierszaNST><P_22B>12</P_22B><P_22B1>VIN99</P_22B1></NowySrodekTransportu>"
            "</NoweSrodkiTransportu>",
            "1 01.10.2026 przebieg: 12; VIN: VIN99",
        ),
    ],
)
def test_annotations_are_put_into_words(marks: str, said: str) -> None:
    text = text_of(printed(faktura(f"<Adnotacje>{marks}</Adnotacje>")))
    assert said in text
    assert "Pozostałe dane" not in text


def test_absent_annotations_are_silent_and_strange_ones_are_not() -> None:
    none = "<P_16>2</P_16><P_18A>2</P_18A><Zwolnienie><P_19N>1</P_19N></Zwolnienie><P_23>2</P_23>"
    assert "Adnotacje" not in text_of(printed(faktura(f"<Adnotacje>{none}</Adnotacje>")))
    text = text_of(printed(faktura("<Adnotacje><P_18A>tak</P_18A></Adnotacje>")))
    assert "Adnotacje / Mechanizm podzielonej płatności tak" in text


def test_marks_beside_the_annotations_are_put_into_words() -> None:
    text = text_of(printed(faktura("<FP>1</FP><TP>1</TP><ZwrotAkcyzy>1</ZwrotAkcyzy>")))
    for said in ("Faktura do paragonu (FP)", "powiązania między nabywcą a sprzedawcą (TP)", "zwrot podatku akcyzowego"):
        assert said in text


@pytest.mark.parametrize(
    ("role", "said"),
    [
        ("<Rola>2</Rola>", "Odbiorca"),
        ("<Rola>8</Rola>", "Jednostka samorządu terytorialnego – odbiorca"),
        ("<Rola>11</Rola>", "Pracownik"),
        ("<RolaInna>1</RolaInna><OpisRoli>Miejsce dostawy</OpisRoli>", "Inny podmiot – Miejsce dostawy"),
        ("<Rola>77</Rola>", "Podmiot trzeci, rola 77"),
    ],
)
def test_roles_are_put_into_words(role: str, said: str) -> None:
    known = "<DaneIdentyfikacyjne><IDWew>5265877635-12345</IDWew><Nazwa>Sklep 7</Nazwa></DaneIdentyfikacyjne>"
    address = "<Adres><KodKraju>PL</KodKraju><AdresL1>Polna 1</AdresL1><GLN>5901234567893</GLN></Adres>"
    text = text_of(printed(faktura(parties=f"<Podmiot3>{known}{address}{role}</Podmiot3>")))
    assert f"{said} Sklep 7 Identyfikator wewnętrzny: 5265877635-12345 Polna 1 (PL) GLN: 5901234567893" in text


@pytest.mark.parametrize(
    ("identity", "said"),
    [
        ("<KodUE>DE</KodUE><NrVatUE>123456789</NrVatUE>", "VAT UE: DE123456789"),
        ("<KodKraju>US</KodKraju><NrID>12-34</NrID>", "Identyfikator: US 12-34"),
        ("<BrakID>1</BrakID>", "bez identyfikatora podatkowego"),
    ],
)
def test_every_kind_of_identity_is_shown(identity: str, said: str) -> None:
    party = f"<Podmiot2><DaneIdentyfikacyjne>{identity}<Nazwa>N</Nazwa></DaneIdentyfikacyjne><GV>1</GV></Podmiot2>"
    text = text_of(printed(faktura(parties=party)))
    assert said in text
    assert "faktura dotyczy członka grupy VAT" in text


def test_payment_is_shown_whole_and_its_link_cannot_be_clicked() -> None:
    link = "https://platnosci.example.test/?IPKSeF=123abcdefghij"
    text_pdf = printed(
        faktura(
            "<Platnosc><ZnacznikZaplatyCzesciowej>1</ZnacznikZaplatyCzesciowej><ZaplataCzesciowa>"
            "<KwotaZaplatyCzesciowej>50</KwotaZaplatyCzesciowej><DataZaplatyCzesciowej>2026-11-01</DataZaplatyCzesciowej>"
            "<FormaPlatnosci>2</FormaPlatnosci></ZaplataCzesciowa><TerminPlatnosci><TerminOpis><Ilosc>14</Ilosc>"
            "<Jednostka>dni</Jednostka><ZdarzeniePoczatkowe>dostawa</ZdarzeniePoczatkowe></TerminOpis></TerminPlatnosci>"
            "<PlatnoscInna>1</PlatnoscInna><OpisPlatnosci>kompensata</OpisPlatnosci><RachunekBankowyFaktora>"
            "<NrRB>DE89370400440532013000</NrRB><SWIFT>COBADEFF</SWIFT></RachunekBankowyFaktora><Skonto>"
            "<WarunkiSkonta>7 dni</WarunkiSkonta><WysokoscSkonta>2%</WysokoscSkonta></Skonto>"
            f"<LinkDoPlatnosci>{link}</LinkDoPlatnosci><IPKSeF>123abcdefghij</IPKSeF></Platnosc>"
        )
    )
    text = text_of(text_pdf)
    for said in (
        "Zapłata: zapłacono w części",
        "01.11.2026 karta 50,00 PLN",
        "Termin płatności: 14 dni od: dostawa",
        "Forma płatności: kompensata",
        "Rachunek faktora: DE89 3704 0044 0532 0130 00",
        "SWIFT: COBADEFF",
        "Skonto – wysokość: 2%",
        "Identyfikator płatności KSeF: 123abcdefghij",
    ):
        assert said in text
    assert link in dense(text)
    assert links(text_pdf) == []


def test_settlements_advances_orders_and_transport_are_shown() -> None:
    text = text_of(
        printed(
            faktura(
                "<WZ>WZ/1</WZ><WZ>WZ/2</WZ><FakturaZaliczkowa><NrKSeFZN>1</NrKSeFZN><NrFaZaliczkowej>ZAL/7</NrFaZaliczkowej>"
                "</FakturaZaliczkowa><ZaliczkaCzesciowa><P_6Z>2026-10-10</P_6Z><P_15Z>99</P_15Z></ZaliczkaCzesciowa>"
                "<Rozliczenie><Obciazenia><Kwota>10.00</Kwota><Powod>kaucja</Powod></Obciazenia>"
                "<DoZaplaty>133.00</DoZaplaty></Rozliczenie><WarunkiTransakcji><Zamowienia>"
                "<DataZamowienia>2026-11-01</DataZamowienia><NrZamowienia>4500000001</NrZamowienia></Zamowienia>"
                "<NrPartiiTowaru>P1</NrPartiiTowaru><Transport><RodzajTransportu>3</RodzajTransportu>"
                "<OpisLadunku>13</OpisLadunku><DataGodzRozpTransportu>2026-07-01T06:00:00Z</DataGodzRozpTransportu>"
                "<WysylkaDo><KodKraju>PL</KodKraju><AdresL1>Sklep 4</AdresL1></WysylkaDo></Transport>"
                "</WarunkiTransakcji>",
                kind="ROZ",
            )
        )
    )
    for said in (
        "Dokumenty WZ: WZ/1, WZ/2",
        "ZAL/7 wystawiona poza KSeF",
        "10.10.2026 99,00 PLN",
        "Obciążenie kaucja 10,00 PLN",
        "Do zapłaty 133,00 PLN",
        "Zamówienie 4500000001 01.11.2026",
        "Numery partii towaru: P1",
        "Rodzaj transportu: drogowy",
        "Ładunek: paleta",
        "Początek transportu: 01.07.2026 08:00",
        "Dokąd: Sklep 4 (PL)",
        "Kwota pozostała do zapłaty 123,00 PLN",
    ):
        assert said in text


def test_what_is_said_of_a_row_stands_at_that_row() -> None:
    extra = "<DodatkowyOpis><NrWiersza>{}</NrWiersza><Klucz>Partia</Klucz><Wartosc>{}</Wartosc></DodatkowyOpis>"
    rows = "".join(
        f"<FaWiersz><NrWierszaFa>{at:03}</NrWierszaFa><P_7>Towar {at}</P_7><P_12>23</P_12></FaWiersz>" for at in (1, 2)
    )
    text = text_of(printed(faktura(extra.format("02", "L-2") + extra.format("9", "L-9") + rows)))
    assert "Towar 2 Partia: L-2" in text
    assert "Pozycja 9 Partia: L-9" in text


def test_foreign_currency_shows_the_tax_in_zlotys() -> None:
    text = text_of(printed(invoice(currency="EUR", lines=1, seed=1)))
    assert "VAT w PLN" in text
    assert " EUR" in text


def test_what_has_no_place_of_its_own_is_listed_with_its_path_in_words() -> None:
    unknown = "<NumerSeryjnyUrzadzenia>SN77</NumerSeryjnyUrzadzenia>"
    row = f"<FaWiersz><NrWierszaFa>1</NrWierszaFa><P_7>Towar</P_7>{unknown}</FaWiersz>"
    text = text_of(printed(faktura(row + '<P_15>1.00</P_15><Obce waga="kg">tekst</Obce>')))
    assert "Pozostałe dane" in text
    assert "Pozycja / Numer seryjny urzadzenia SN77" in text
    assert "Kwota należności ogółem 1.00" in text  # The second P_15.
    assert "Obce tekst (waga: kg)" in text


def test_other_xml_is_listed_too() -> None:
    text = text_of(printed(b"<list><do>sklepu</do></list>"))
    assert "do sklepu" in text


def test_text_between_elements_is_not_lost() -> None:
    text = text_of(printed(faktura("<FaWiersz><NrWierszaFa>1</NrWierszaFa>luzem<P_7>Towar</P_7>dalej</FaWiersz>")))
    assert "Pozycja luzem dalej" in text
    assert "Faktura na marginesie" in text_of(printed(faktura(after="na marginesie")))


ODD_TEXTS = ("", "x", "żółć", "a" * 80, "#x", "<b>", "tak", "NaN", "2026-13-45", "12 złotych", "\n x \n")


@pytest.mark.parametrize("seed", range(40))
def test_however_an_invoice_is_mutilated_no_text_of_it_is_lost(seed: int) -> None:
    chance = random.Random(seed)
    original = invoice(lines=2, seed=seed, type="VAT" if seed % 2 else "ZAL", attachment=seed % 3 == 0, footer="Stopka")
    root = etree.fromstring(correction_of(original) if seed % 4 == 1 else original)
    elements = list(root.iter())
    for _ in range(12):
        element, other = chance.choice(elements), chance.choice(elements)
        if chance.random() < 0.6:
            element.text = chance.choice(ODD_TEXTS)
        else:
            other.append(etree.fromstring(etree.tostring(element, with_tail=False)))
    pages = [re.sub(r"\n[^\n]*strona \d+ z \d+\s*$", "", page) for page in sheets(printed(etree.tostring(root)))]
    page = dense("".join(pages))
    texts = {dense(element.text) for element in root.iter() if element.text and element.text.strip()}
    odd = texts & {dense(text) for text in ODD_TEXTS}
    assert odd
    assert [text for text in odd if text not in page] == []


def test_a_damaged_invoice_is_printed_and_says_so() -> None:
    content = invoice("FV/44").replace(b"</Fa>", b"", 1)
    text = text_of(printed(content))
    assert "Uwaga:" in text
    assert "nr FV/44" in text


@pytest.mark.parametrize("content", [b"", b"   ", b"nic tu nie ma", b"<Faktura/>", b"\x00\x01\x02"])
def test_what_cannot_be_read_at_all_is_refused_in_polish(content: bytes) -> None:
    with pytest.raises(NotPrintable) as refused:
        printed(content)
    assert isinstance(refused.value, BufferFault)
    assert refused.value.message.startswith("Nie da się wydrukować faktury: ")
    assert refused.value.action


def test_a_fault_of_typesetting_tells_nothing_of_the_invoice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ksefbuffer.offline.printing.wire.legible", lambda text: text)
    with pytest.raises(NotPrintable) as refused:
        printed(faktura(), codes=[Code(KOD_I, "中国")])
    assert "中" not in str(refused.value)
    assert "Nie udało się złożyć wydruku" in str(refused.value)


def test_a_thousand_rows_repeat_their_header_on_every_sheet() -> None:
    rows = "".join(
        f"<FaWiersz><NrWierszaFa>{at}</NrWierszaFa><P_7>Towar numer {at}</P_7><P_11>{at}.00</P_11></FaWiersz>"
        for at in range(1, 1001)
    )
    found = sheets(printed(faktura(rows)))
    assert len(found) > 10
    assert all("Wartość netto" in sheet for sheet in found[:-1])
    assert [f"strona {at} z {len(found)}" in sheet for at, sheet in enumerate(found, 1)] == [True] * len(found)
    assert "Towar numer 1000" in found[-1]


def test_a_row_with_small_lines_is_not_torn_over_two_sheets() -> None:
    row = "<FaWiersz><NrWierszaFa>{0}</NrWierszaFa><P_7>Towar [{0}</P_7></FaWiersz>"
    extra = "<DodatkowyOpis><NrWiersza>{0}</NrWiersza><Klucz>{1}</Klucz><Wartosc>{2}</Wartosc></DodatkowyOpis>"
    extras = [extra.format(at, key, "]" if key == 7 else "") for at in range(1, 60) for key in range(1, 8)]
    found = sheets(printed(faktura("".join(extras) + "".join(row.format(at) for at in range(1, 60)))))
    assert len(found) > 5
    assert all(sheet.count("Towar [") == sheet.count("]") for sheet in found)


def _attachment(columns: int, rows: int, cell: str) -> str:
    heads = "".join(f'<Kol Typ="txt"><NKom>Kolumna {at}</NKom></Kol>' for at in range(1, columns + 1))
    cells = "".join(f"<WKom>{cell}{at}</WKom>" for at in range(1, columns + 1))
    table = f"<TNaglowek>{heads}</TNaglowek>" + f"<Wiersz>{cells}</Wiersz>" * rows
    pair = "<MetaDane><ZKlucz>PPE</ZKlucz><ZWartosc>590</ZWartosc></MetaDane>"
    return (
        f"<Zalacznik><BlokDanych><ZNaglowek>Odczyty</ZNaglowek>{pair}<Tekst><Akapit>Akapit pierwszy</Akapit></Tekst>"
        f"<Tabela><Opis>Opis tabeli</Opis>{table}<Suma><SKom>Razem</SKom></Suma></Tabela></BlokDanych></Zalacznik>"
    )


def test_an_attachment_of_thirty_columns_falls_into_parts() -> None:
    text = text_of(printed(faktura(after=_attachment(30, 3, "wartość "))))
    for said in ("Odczyty", "PPE: 590", "Akapit pierwszy", "Opis tabeli", "Kolumny 1–", " z 30:", "Razem"):
        assert said in text
    assert all(text.count(f"wartość {at} ") >= 3 for at in range(1, 31))
    assert "Pozostałe dane" not in text


def test_long_words_stay_on_the_sheet_and_copy_as_they_were() -> None:
    word = "ABCDEFGHIJ" * 8
    rows = f"<FaWiersz><NrWierszaFa>1</NrWierszaFa><P_7>{word}</P_7><P_11>1.00</P_11></FaWiersz>"
    pdf = printed(faktura(rows, after=_attachment(20, 1, word)))
    assert dense("".join(sheets(pdf))).count(word) == 21
    for sheet in range(len(sheets(pdf))):
        page = picture(pdf, sheet, 72)
        assert page.crop((page.width - 25, 0, page.width, page.height)).getextrema() == (255, 255)


def test_a_number_broken_at_its_hyphen_gets_no_second_one() -> None:
    numbers = " ".join(f"{at:03}-abc-def-x{at}" for at in range(40))
    row = f"<FaWiersz><NrWierszaFa>1</NrWierszaFa><P_7>{numbers}</P_7></FaWiersz>"
    pdf = printed(faktura(row))
    assert re.search(r"-\n", sheets(pdf)[0])
    assert dense(numbers) in dense(text_of(pdf))


def test_what_is_long_is_set_apart_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    content = invoice(lines=5)
    here = printed(content)
    monkeypatch.setattr(press, "LONG_CHARACTERS", 0)
    assert printed(content) == here


def test_a_fault_in_the_process_apart_is_told_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(press, "LONG_CHARACTERS", 0)
    monkeypatch.setattr("ksefbuffer.offline.printing.wire.legible", lambda text: text)
    with pytest.raises(NotPrintable) as refused:
        printed(faktura(), codes=[Code(KOD_I, "中国")])
    assert "PDF/A-2a" in str(refused.value)
    assert "中" not in str(refused.value)


def test_secrets_of_the_environment_do_not_reach_the_process_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSEFBUFFER_AUTH__TOKEN", "tajny")
    monkeypatch.setattr(press, "LONG_CHARACTERS", 0)
    given: list[dict[str, str]] = []
    run = press.subprocess.run
    monkeypatch.setattr(press.subprocess, "run", lambda *a, **kw: given.append(kw["env"]) or run(*a, **kw))
    assert printed(faktura())
    assert given
    assert "KSEFBUFFER_AUTH__TOKEN" not in given[0]
    assert "PATH" in given[0]
