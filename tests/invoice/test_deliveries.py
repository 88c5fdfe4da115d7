"""Delivery and order numbers are found wherever sellers put them, and compared whatever they wrote around them."""

from __future__ import annotations

import pytest

from ksefbuffer.invoice.deliveries import deliveries, digits_form, exact_form, orders
from ksefbuffer.invoice.received import Received, read_received


def document(fa: str = "", rest: str = "") -> Received:
    return read_received(
        f'<Faktura xmlns="http://crd.gov.pl/wzor/2025/06/25/13775/"><Fa>{fa}</Fa>{rest}</Faktura>'.encode()
    )


def described(key: str, value: str) -> str:
    return f"<DodatkowyOpis><Klucz>{key}</Klucz><Wartosc>{value}</Wartosc></DodatkowyOpis>"


def ordered(number: str) -> str:
    return f"<WarunkiTransakcji><Zamowienia><NrZamowienia>{number}</NrZamowienia></Zamowienia></WarunkiTransakcji>"


@pytest.mark.parametrize(
    ("written", "exact", "digits"),
    [
        ("WZ 123 / 2026", "123/2026", "1232026"),
        ("wz/123/2026", "123/2026", "1232026"),
        ("Nr dostawy: 0080012345", "0080012345", "80012345"),
        ("DN-12345678", "12345678", "12345678"),
        ("awizo nr SIRL12040454042", "SIRL12040454042", "12040454042"),
        ("(00)590123412345678901", "(00)590123412345678901", "590123412345678901"),
        ("8001234567", "8001234567", "8001234567"),
        ("NOWY12345", "NOWY12345", ""),
        ("Dostawa", "DOSTAWA", ""),
    ],
)
def test_two_forms_of_a_number(written: str, exact: str, digits: str) -> None:
    assert exact_form(written) == exact
    assert digits_form(exact_form(written)) == digits


@pytest.mark.parametrize(
    ("received", "where"),
    [
        (document("<WZ>8001234567</WZ>"), "Fa/WZ"),
        (document("<WZ>WZ/1/2026; 8001234567</WZ>"), "Fa/WZ"),
        (document(described("Numer awiza", "8001234567")), "Fa/DodatkowyOpis[Numer awiza]"),
        (document(described("NR DOSTAWY", "DN-1234567, 8001234567")), "Fa/DodatkowyOpis[NR DOSTAWY]"),
        (document(ordered("8001234567")), "Fa/WarunkiTransakcji/Zamowienia/NrZamowienia"),
        (
            document("<WarunkiTransakcji><Transport><NrZleceniaTransportu>8001234567</NrZleceniaTransportu></Transport>"
                     "</WarunkiTransakcji>"),
            "Fa/WarunkiTransakcji/Transport/NrZleceniaTransportu",
        ),
        (document("<FaWiersz><P_7>Kawa (dostawa 8001234567)</P_7></FaWiersz>"), "Fa/FaWiersz/P_7"),
        (
            document("", "<Stopka><Informacje><StopkaFaktury>Dot. dostawy nr 8001234567 z dnia 1.10.</StopkaFaktury>"
                         "</Informacje></Stopka>"),
            "Stopka/Informacje/StopkaFaktury",
        ),
        (
            document("", "<Zalacznik><BlokDanych><MetaDane><ZKlucz>Nr dostawy</ZKlucz><ZWartosc>8001234567</ZWartosc>"
                         "</MetaDane></BlokDanych></Zalacznik>"),
            "Zalacznik/MetaDane[Nr dostawy]",
        ),
    ],
)  # fmt: skip
def test_a_delivery_is_found_where_it_stands(received: Received, where: str) -> None:
    assert ("8001234567", where) in [(one.exact, one.where) for one in deliveries(received)]


def test_the_likeliest_place_comes_first_and_each_number_once() -> None:
    received = document("<WZ>8001234567</WZ>" + described("Dostawa", "8001234567, 8009999999"))
    assert [(one.exact, one.where) for one in deliveries(received)] == [
        ("8001234567", "Fa/WZ"),
        ("8009999999", "Fa/DodatkowyOpis[Dostawa]"),
    ]


def test_an_order_number_is_no_delivery() -> None:
    received = document(ordered("4500012345"))
    assert deliveries(received) == ()
    assert [one.exact for one in orders(received)] == ["4500012345"]


def test_prepositions_and_prices_are_no_numbers() -> None:
    received = document("<FaWiersz><P_7>Podkładka po 1234567 sztuk, dn 50123</P_7></FaWiersz>")
    assert deliveries(received) == ()
    assert orders(received) == ()


def test_orders_in_free_text() -> None:
    received = document(described("PO", "4500012345") + "<FaWiersz><P_7>wg zamówienia nr ZAM/12/2026</P_7></FaWiersz>")
    assert [one.exact for one in orders(received)] == ["4500012345", "12/2026"]


def test_references_show_nothing() -> None:
    assert "8001234567" not in repr(deliveries(document("<WZ>8001234567</WZ>")))
