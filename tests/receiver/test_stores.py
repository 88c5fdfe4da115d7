"""The register of stores: read from what a spreadsheet writes, and asked which store an invoice is for."""

from __future__ import annotations

from datetime import date

import pytest
from stdnum import ean

from ksefbuffer.invoice.received import Received, read_received
from ksefbuffer.receiver.storelist import RegisterFault, read_stores_csv
from ksefbuffer.receiver.stores import Store, StoreRegister


def gln(twelve: str) -> str:
    return twelve + ean.calc_check_digit(twelve)


G1, G2, G3, HEAD = gln("590123400001"), gln("590123400002"), gln("590123400003"), gln("590000000001")
ONE = Store("1", "Pierwszy", (G1,), ("ul. Kwiatowa 7, 00-950 Warszawa",), ("5265877635-00017",))
TWO = Store("2", "Drugi", (G2,), ("ul. Długa 9, 90-001 Łódź",), ("5265877635-00024",))
REGISTER = StoreRegister((ONE, TWO), ("ul. Centralna 1, 02-222 Warszawa",), (HEAD,))


def document(parties: str = "", fa: str = "", buyer: str = "", day: str = "2026-11-20") -> Received:
    return read_received(
        f'<Faktura xmlns="http://crd.gov.pl/wzor/2025/06/25/13775/"><Podmiot2><DaneIdentyfikacyjne/>{buyer}</Podmiot2>'
        f"{parties}<Fa><P_1>{day}</P_1>{fa}</Fa></Faktura>".encode()
    )


def unit(inside: str = "", idwew: str = "", name: str = "") -> str:
    return (
        f"<Podmiot3><DaneIdentyfikacyjne><IDWew>{idwew}</IDWew><Nazwa>{name}</Nazwa></DaneIdentyfikacyjne>{inside}"
        "<Rola>2</Rola></Podmiot3>"
    )


def address(tag: str = "Adres", line1: str = "Nieznana 1", line2: str = "", number: str = "") -> str:
    return f"<{tag}><AdresL1>{line1}</AdresL1><AdresL2>{line2}</AdresL2><GLN>{number}</GLN></{tag}>"


@pytest.mark.parametrize(
    ("received", "by", "certainty"),
    [
        (document(unit(address(number=G1))), "gln", "certain"),
        (document(unit(idwew="5265877635-00017")), "idwew", "certain"),
        (document(fa="<DodatkowyOpis><Klucz>Sklep</Klucz><Wartosc>001</Wartosc></DodatkowyOpis>"), "number", "certain"),
        (document(unit(address(line1="Kwiatowa 7", line2="00-950 WARSZAWA"))), "address", "likely"),
        (document(buyer="<NrKlienta>001</NrKlienta>"), "number", "likely"),
        (document(unit(address(line1="Kwiatowa 8", line2="00-950 WARSZAWA"))), "address", "doubtful"),
    ],
)
def test_a_store_is_found(received: Received, by: str, certainty: str) -> None:
    match = REGISTER.find(received)
    assert (match.store, match.by, match.certainty) == (ONE, by, certainty)
    assert match.sure is (None if certainty == "doubtful" else ONE)
    assert match.where


def test_the_gln_counts_first_and_the_rest_is_told() -> None:
    match = REGISTER.find(document(unit(address(line1="Długa 9", line2="90-001 Łódź", number=G1))))
    assert match.store is ONE
    assert [(one.store, one.by) for one in match.contradictions] == [(TWO, "address")]


def test_a_sellers_own_customer_number_yields_to_a_sure_address() -> None:
    match = REGISTER.find(
        document(unit(address(line1="Długa 9", line2="90-001 Łódź")), buyer="<NrKlienta>001</NrKlienta>")
    )
    assert match.store is TWO
    assert [one.store for one in match.contradictions] == [ONE]


def test_the_head_office_is_no_store() -> None:
    at_head = Store("9", "W centrali", (HEAD,), ("ul. Centralna 1, 02-222 Warszawa",))
    register = StoreRegister((at_head,), REGISTER.headquarters, REGISTER.head_glns)
    received = document(buyer=address(line1="ul. Centralna 1", line2="02-222 Warszawa", number=HEAD))
    assert register.find(received).store is None


def test_a_very_short_customer_number_names_no_store() -> None:
    assert REGISTER.find(document(buyer="<NrKlienta>1</NrKlienta>")).store is None


def test_nothing_found_is_nothing() -> None:
    match = REGISTER.find(document(unit(address(number=G3))))
    assert (match.store, match.certainty, match.sure) == (None, "none", None)


def test_of_two_stores_in_one_place_the_open_one_counts() -> None:
    old = Store("10", glns=(G1,), addresses=ONE.addresses, open_to=date(2026, 6, 30))
    new = Store("11", glns=(G1,), addresses=ONE.addresses, open_from=date(2026, 7, 1))
    register = StoreRegister((old, new))
    by_gln, by_address = unit(address(number=G1)), unit(address(line1="Kwiatowa 7", line2="00-950 Warszawa"))
    for parties in (by_gln, by_address):
        assert register.find(document(parties, day="2026-06-30")).store is old
        assert register.find(document(parties, day="2026-07-01")).store is new


CSV = "Numer;Nazwa;GLN;Ulica;Kod pocztowy;Miejscowość;Otwarty od;Katalog\n" + (
    "001;Żabi Róg;{};Łąkowa 3;90-001;Łódź;01.05.2026;sklepy/żabi\n"
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1250"])
@pytest.mark.parametrize("separator", [";", ",", "\t"])
def test_a_spreadsheets_csv(encoding: str, separator: str) -> None:
    register = read_stores_csv(CSV.format(G1).replace(";", separator).encode(encoding))
    assert register.stores == (
        Store("001", "Żabi Róg", (G1,), ("Łąkowa 3, 90-001 Łódź",), (), date(2026, 5, 1), None, "sklepy/żabi"),
    )


def test_english_headings_and_several_values_in_a_cell() -> None:
    text = f"sep=,\nNumber,Name,GLN,Address,Internal ID,Closed\n7,Seven,{G1}|{G2},Kwiatowa 7|Długa 9,,2026-12-31\n\n"
    store = read_stores_csv(text).stores[0]
    assert store.glns == (G1, G2)
    assert store.addresses == ("Kwiatowa 7", "Długa 9")
    assert store.open_to == date(2026, 12, 31)


def test_all_faults_are_told_with_their_rows() -> None:
    text = (
        "Numer;GLN;Otwarty od;Otwarty do;IDWew;Katalog\n"
        f"1;{G1};;;;\n"
        f"1;{G2};;;;\n"
        f"3;{G1};;;;\n"
        "4;5,90123E+12;;;;\n"
        "5;1234567890123;;;;\n"
        ";;jutro;;;\n"
        "7;;2026-05-01;2026-04-01;123;../gdzieś\n"
    )
    with pytest.raises(RegisterFault) as raised:
        read_stores_csv(text)
    faults = "\n".join(raised.value.faults)
    for expected in (
        "Wiersz 3: numer sklepu „1” powtarza się",
        "Wiersz 4: GLN " + G1,
        "Wiersz 5: GLN „5,90123E+12” arkusz zapisał jako liczbę",
        "Wiersz 6: GLN „1234567890123” jest błędny",
        "Wiersz 7: „jutro” nie jest datą",
        "Wiersz 7: brak numeru sklepu",
        "Wiersz 8: identyfikator wewnętrzny „123”",
        "Wiersz 8: data zamknięcia",
        "Wiersz 8: „..” nie nadaje się",
    ):
        assert expected in faults
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "pusty"),
        ("Numer;GLN\n", "żadnego sklepu"),
        ("Nazwa;GLN\nx;y\n", "Brak kolumny"),
        ("Numer;Kolor\n1;czerwony\n", "Nieznana kolumna „Kolor”"),
        ("Numer;Nr\n1;2\n", "dwa razy"),
    ],
)
def test_a_list_without_sense_is_refused(text: str, expected: str) -> None:
    with pytest.raises(RegisterFault, match=expected):
        read_stores_csv(text)
