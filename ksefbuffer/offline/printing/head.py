"""The head of an invoice, what it corrects and which advances it settles. Source: FA3-FIELDS §8, §9."""

from __future__ import annotations

from . import words
from .blocks import Block, Column, facts, heading, row, table
from .figures import amount, day, number
from .parties import before_correction
from .source import Node

ADVANCES = ("ZAL", "KOR_ZAL")


def dates(fa: Node, kind: str, *, farmers: bool) -> list[tuple[str, str]]:
    """Issue, delivery, period, currency and rates of exchange, named."""
    if farmers:
        return [
            ("Data wystawienia", day(fa.take("P_4B"))),
            ("Miejsce wystawienia", fa.take("P_1M")),
            ("Data nabycia", day(fa.take("P_4A"))),
            ("Waluta", fa.take("KodWaluty")),
        ]
    period = fa.one("OkresFa")
    delivered = "Data otrzymania zapłaty" if kind in ADVANCES else "Data dostawy lub wykonania usługi"
    return [
        ("Data wystawienia", day(fa.take("P_1"))),
        ("Miejsce wystawienia", fa.take("P_1M")),
        (delivered, day(fa.take("P_6"))),
        ("Okres od", day(period.take("P_6_Od"))),
        ("Okres do", day(period.take("P_6_Do"))),
        ("Waluta", fa.take("KodWaluty")),
        ("Kurs waluty", number(fa.take("KursWalutyZ"))),
    ]


def correction(fa: Node, kind: str, currency: str) -> list[Block]:
    """Why and what is corrected, and what it said before."""
    code = fa.take("TypKorekty")
    types = words.TYPES_OF_FARMERS_CORRECTION if kind.endswith("RR") else words.TYPES_OF_CORRECTION
    made = facts(
        [
            ("Przyczyna korekty", fa.take("PrzyczynaKorekty")),
            ("Skutek korekty", types.get(code, code)),
            ("Okres, którego dotyczy opust", fa.take("OkresFaKorygowanej")),
            ("Poprawny numer faktury korygowanej", fa.take("NrFaKorygowany")),
            (_BEFORE.get(kind, "Kwota przed korektą"), amount(fa.take("P_15ZK"), currency)),
            ("Kurs waluty przed korektą", number(fa.take("KursWalutyZK"))),
        ],
        1,
    )
    made += table(
        [Column("Faktura korygowana"), Column("Data wystawienia", "short"), Column("Numer KSeF")],
        [_corrected(one) for one in fa.each("DaneFaKorygowanej")],
        "Faktury korygowane",
    )
    return heading("Korekta", made + before_correction(fa))


_BEFORE = {
    "KOR_ZAL": "Kwota zapłaty przed korektą",
    "KOR_ROZ": "Kwota pozostała do zapłaty przed korektą",
}


def _corrected(node: Node) -> Block:
    given = node.take("NrKSeFFaKorygowanej")
    node.flag("NrKSeF")
    outside = node.flag("NrKSeFN")
    return row(
        [
            node.take("NrFaKorygowanej"),
            day(node.take("DataWystFaKorygowanej")),
            given or ("wystawiona poza KSeF" if outside else ""),
        ]
    )


def advances(fa: Node, currency: str) -> list[Block]:
    """The advance invoices that this one settles, and the payments that make up an advance."""
    made = table(
        [Column("Faktura zaliczkowa"), Column("Numer KSeF")],
        [_advance(one) for one in fa.each("FakturaZaliczkowa")],
        "Faktury zaliczkowe",
    )
    made += table(
        [Column("Data otrzymania zapłaty"), Column("Kwota", "number"), Column("Kurs waluty", "number")],
        [
            row([day(one.take("P_6Z")), amount(one.take("P_15Z"), currency), number(one.take("KursWalutyZW"))])
            for one in fa.each("ZaliczkaCzesciowa")
        ],
        "Zaliczki częściowe",
    )
    return heading("Zaliczki", made)


def _advance(node: Node) -> Block:
    given = node.take("NrKSeFFaZaliczkowej")
    outside = node.flag("NrKSeFZN")
    return row([node.take("NrFaZaliczkowej") or "–", given or ("wystawiona poza KSeF" if outside else "")])
