"""Addresses in two free lines find the store they mean, and no other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksefbuffer.invoice.addresses import ACCEPTED, DOUBTFUL, address_key, score

KWIATOWA = "ul. Kwiatowa 7, 00-950 Warszawa"
PAWLA = "al. Jana Pawła II 14, 90-001 Łódź"
HALLERA = "ul. gen. Józefa Hallera 12a, 80-401 Gdańsk"


def points(known: str, *written: str) -> int:
    return score(address_key(known), address_key(*written))


@pytest.mark.parametrize(
    ("known", "written"),
    [
        (KWIATOWA, ("ul. Kwiatowa 7", "00-950 Warszawa")),
        (KWIATOWA, ("00-950 Warszawa", "ul. Kwiatowa 7")),
        (KWIATOWA, ("KWIATOWA 7", "00950 WARSZAWA")),
        (KWIATOWA, ("Kwiatowa 7 00-950 Warszawa",)),
        (KWIATOWA, ("00-950 Warszawa ul. Kwiatowa 7",)),
        (KWIATOWA, ("00-950 Warszawa Kwiatowa 7",)),
        (KWIATOWA, ("Market Pod Lipą S.A., ul. Kwiatowa 7, 00-950 Warszawa",)),
        (KWIATOWA, ("Sklep 117, Kwiatowa 7", "00-950 Warszawa-Wawer")),
        (KWIATOWA, ("ulica Kwiatowa, 7", "00–950 Warszawa")),
        (KWIATOWA, ("ul.\u00a0Kwiatowa\u200b 7", "00\u00a0950 Warszawa")),
        (PAWLA, ("Aleja Jana Pawla 2 14", "90-001 LODZ")),
        (PAWLA, ("Al. Jana Pawła II 14 lok. 3", "90 001 Łódź")),
        (HALLERA, ("Generała Hallera 12 A", "80-401 Gdansk")),
        (HALLERA, ("ul. Gen. J. Hallera 12A", "80-401 Gdańsk")),
        ("ul. 3 Maja 15, 40-096 Katowice", ("3-go Maja 15", "40-096 Katowice")),
        ("ul. 11 Listopada 7, 40-096 Katowice", ("11-go Listopada 7", "40-096 Katowice")),
        ("ul. Żwirki i Wigury 21/3, 30-552 Kraków", ("ZWIRKI I WIGURY 21 M 3", "30-552 KRAKOW")),
        ("ul. Św. Jana 4, 31-017 Kraków", ("Świętego Jana 4", "31-017 Kraków")),
        ("Kowalewo 12, 87-400 Golub-Dobrzyń", ("Kowalewo 12", "87-400 Golub Dobrzyń")),
    ],
)
def test_one_address_written_in_many_ways(known: str, written: tuple[str, ...]) -> None:
    assert points(known, *written) >= ACCEPTED


def test_roman_and_arabic_numbers_are_the_same_word() -> None:
    assert points(PAWLA, "Aleja Jana Pawla 2 14", "90-001 LODZ") == 100
    assert points(PAWLA, "Aleja Jana Pawła III 14", "90-001 Łódź") < 100


@pytest.mark.parametrize(
    "written",
    [
        ("ul. Kwiatowa 8", "00-950 Warszawa"),
        ("ul. Kwiatowa 7A", "00-950 Warszawa"),
        ("ul. Kwiatowa", "00-950 Warszawa"),
        ("Kwiatowa 7, Warszawa",),
    ],
)
def test_a_near_miss_is_doubtful(written: tuple[str, ...]) -> None:
    assert DOUBTFUL <= points(KWIATOWA, *written) < ACCEPTED


@pytest.mark.parametrize(
    "written",
    [
        ("ul. Długa 7", "90-001 Łódź"),
        ("ul. Kwiatowa 7", "80-401 Gdańsk"),
        ("00-950 Warszawa",),
        ("",),
        ("tel. 22 555 00 950",),
    ],
)
def test_another_address_is_another(written: tuple[str, ...]) -> None:
    assert points(KWIATOWA, *written) < DOUBTFUL


def test_postcodes_count_in_poland_only() -> None:
    assert address_key("Rue 5, 00-950 Paris", "", "FR").postcode == ""


def test_a_key_shows_nothing() -> None:
    assert "kwiatowa" not in repr(address_key(KWIATOWA))


@given(st.text(max_size=300), st.text(max_size=50))
def test_no_text_makes_it_raise(line1: str, line2: str) -> None:
    key = address_key(line1, line2)
    assert 0 <= score(key, key) <= 100
