"""Where an invoice says that goods went: what is believed, in which order, and what never is."""

from __future__ import annotations

import pytest
from stdnum import ean

from ksefbuffer.invoice.places import (
    BUILT_IN,
    address_places,
    gln_of,
    gln_places,
    idwew_places,
    store_key,
    store_number_places,
)
from ksefbuffer.invoice.received import Received, read_received

A, B, C, D, E, F, G = (
    text[:12] + ean.calc_check_digit(text[:12]) for text in (f"59012340000{n}x" for n in range(1, 8))
)


def address(tag: str, gln: str = "", line: str = "ul. Prosta 1", line2: str = "") -> str:
    second = f"<AdresL2>{line2}</AdresL2>" if line2 else ""
    return f"<{tag}><KodKraju>PL</KodKraju><AdresL1>{line}</AdresL1>{second}<GLN>{gln}</GLN></{tag}>"


def third(role: str, *addresses: str, name: str = "", idwew: str = "") -> str:
    return (
        f"<Podmiot3><DaneIdentyfikacyjne><IDWew>{idwew}</IDWew><Nazwa>{name}</Nazwa></DaneIdentyfikacyjne>"
        f"{''.join(addresses)}{role}</Podmiot3>"
    )


def described(key: str, value: str) -> str:
    return f"<DodatkowyOpis><Klucz>{key}</Klucz><Wartosc>{value}</Wartosc></DodatkowyOpis>"


def document(*, parties: str = "", buyer: str = "", fa: str = "", footer: str = "") -> Received:
    return read_received(
        f'<Faktura xmlns="http://crd.gov.pl/wzor/2025/06/25/13775/"><Podmiot1>{address("Adres", A)}</Podmiot1>'
        f"<Podmiot2><DaneIdentyfikacyjne/>{buyer}</Podmiot2>{parties}<Fa>{fa}</Fa>"
        f"<Stopka><Informacje><StopkaFaktury>{footer}</StopkaFaktury></Informacje></Stopka></Faktura>".encode()
    )


PLACE = "<RolaInna>1</RolaInna><OpisRoli>Miejsce dostawy</OpisRoli>"


def test_glns_come_in_the_order_of_trust() -> None:
    received = document(
        parties=third("<Rola>2</Rola>", address("AdresKoresp", C)) + third(PLACE, address("Adres", B)),
        buyer=address("Adres", F) + address("AdresKoresp", E),
        fa=described("GLN", G)
        + f"<WarunkiTransakcji><Transport>{address('WysylkaDo', D)}</Transport></WarunkiTransakcji>",
    )
    found = gln_places(received)
    assert [gln.value for gln in found] == [B, C, D, E, F, G]
    assert [gln.trust for gln in found] == [1, 2, 3, 4, 5, 6]
    assert found[0].where == "Podmiot3[2]/Adres/GLN"


@pytest.mark.parametrize(
    ("parties", "fa", "footer"),
    [
        (third("<Rola>1</Rola>", address("Adres", B)), "", ""),
        (third("<Rola>6</Rola>", address("Adres", B)), "", ""),
        (third("<RolaInna>1</RolaInna><OpisRoli>Sklep dostawcy</OpisRoli>", address("Adres", B)), "", ""),
        (f"<PodmiotUpowazniony>{address('Adres', B)}</PodmiotUpowazniony>", "", ""),
        ("", f"<WarunkiTransakcji><Transport>{address('WysylkaZ', B)}</Transport></WarunkiTransakcji>", ""),
        ("", described("GLN sprzedawcy", B), ""),
        ("", described("Kod towaru", B), ""),
        ("", "", f"EAN {B}"),
    ],
)
def test_a_gln_of_others_is_never_believed(parties: str, fa: str, footer: str) -> None:
    assert gln_places(document(parties=parties, fa=fa, footer=footer)) == ()


def test_a_footer_must_call_it_a_gln() -> None:
    assert [gln.value for gln in gln_places(document(footer=f"ILN odbiorcy: {B[:7]} {B[7:]}."))] == [B]


def test_a_wrong_gln_is_kept_as_wrong() -> None:
    wrong = A[:12] + str((int(A[12]) + 1) % 10)
    found = gln_places(document(buyer=address("Adres", wrong) + address("AdresKoresp", "RYM2")))
    assert [(gln.value, gln.written) for gln in found] == [("", "RYM2"), ("", wrong)]


@pytest.mark.parametrize("written", [B, f"{B[:3]} {B[3:]}", f"(414){B}", f"(410) {B}", f"{B[:7]}-{B[7:]}", f" {B}."])
def test_a_gln_is_its_digits(written: str) -> None:
    assert gln_of(written) == (B, False)


def test_a_lost_leading_zero_is_supplied_and_said() -> None:
    whole = "0" + "12345678901"
    whole += ean.calc_check_digit(whole)
    assert gln_of(whole[1:]) == (whole, True)


@pytest.mark.parametrize("written", ["", "0" * 13, "RYM2", "a", "1234567890123", B + "1", "٥" * 13, B[:12] + "x"])
def test_what_is_no_gln(written: str) -> None:
    assert gln_of(written) is None


def test_internal_identifiers_of_units_come_first() -> None:
    received = document(
        parties=third("<Rola>6</Rola>", idwew="5265877635-00019") + third(PLACE, idwew="5265877635-00026")
    )
    assert [place.value for place in idwew_places(received)] == ["5265877635-00026", "5265877635-00019"]


@pytest.mark.parametrize(
    ("received", "number", "where"),
    [
        (document(fa=described("Nr sklepu", "0117")), "117", "Fa/DodatkowyOpis[Nr sklepu]"),
        (document(fa=described("PLACÓWKA", "nr 117")), "117", "Fa/DodatkowyOpis[PLACÓWKA]"),
        (document(parties=third(PLACE, name="Lipa S.A. Sklep nr 117")), "117", "Podmiot3/DaneIdentyfikacyjne/Nazwa"),
        (document(parties=third("<RolaInna>1</RolaInna><OpisRoli>Sklep 117</OpisRoli>")), "117", "Podmiot3/OpisRoli"),
        (document(buyer="<NrKlienta>SKLEP-117</NrKlienta>"), "117", "Podmiot2/NrKlienta"),
        (document(buyer=address("AdresKoresp", line="Filia nr WA 12")), "wa12", "Podmiot2/AdresKoresp/AdresL1"),
    ],
)
def test_store_numbers_are_found(received: Received, number: str, where: str) -> None:
    assert [(place.value, place.where) for place in store_number_places(received)] == [(number, where)]


def test_streets_and_factors_name_no_store() -> None:
    received = document(
        buyer=address("Adres", line="ul. Sklepowa 7"), parties=third("<Rola>1</Rola>", name="Faktor, oddział nr 5"),
        footer="Promocja w sklepie nr 42",
    )  # fmt: skip
    assert store_number_places(received) == ()


@pytest.mark.parametrize(
    "written", ["117", "0117", "Sklep nr 117", "S-117", "SKLEP-117", "nr 117", "Filia 117", "s.117"]
)
def test_a_stores_number_however_written(written: str) -> None:
    assert store_key(written) == "117"


def test_our_own_keys_count_beside_the_built_in_ones() -> None:
    words = BUILT_IN.extended({"store": ("Jednostka handlowa",)})
    received = document(fa=described("Nr jednostki", "5") + described("JEDNOSTKA HANDLOWA NR", "117"))
    assert [place.value for place in store_number_places(received, words)] == ["117"]
    assert store_number_places(received) == ()


def test_addresses_come_in_the_order_of_trust() -> None:
    received = document(
        buyer=address("Adres", line="Centrala 1") + address("AdresKoresp", line="Koresp 2"),
        parties=third(PLACE, address("Adres", line="Dostawa 3")),
        fa=described("Adres dostawy", "Opis 4"),
    )
    assert [place.value for place in address_places(received)] == ["Dostawa 3", "Koresp 2", "Centrala 1", "Opis 4"]
