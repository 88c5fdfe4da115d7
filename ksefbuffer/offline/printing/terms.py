"""Orders, contracts, goods issue notes, batches and transport. Source: FA3-FIELDS §4."""

from __future__ import annotations

from . import words
from .blocks import Block, Column, bullets, card, cards, facts, heading, row, table
from .figures import day, moment, number
from .parties import address, identity, one_line_address
from .source import Node


def terms(fa: Node) -> list[Block]:
    """WZ and WarunkiTransakcji."""
    made = facts([("Dokumenty WZ", ", ".join(fa.texts("WZ")))], 1)
    for one in fa.each("WarunkiTransakcji"):
        made += _terms(one)
    return heading("Warunki transakcji", made)


def _terms(node: Node) -> list[Block]:
    made = table(
        [Column("Dokument", "short"), Column("Numer"), Column("Data", "short")],
        [
            row([title, one.take(numbered), day(one.take(dated))])
            for name, title, numbered, dated in (
                ("Zamowienia", "Zamówienie", "NrZamowienia", "DataZamowienia"),
                ("Umowy", "Umowa", "NrUmowy", "DataUmowy"),
            )
            for one in node.each(name)
        ],
        "Zamówienia i umowy",
    )
    made += facts(
        [
            ("Numery partii towaru", ", ".join(node.texts("NrPartiiTowaru"))),
            ("Warunki dostawy", node.take("WarunkiDostawy")),
            ("Kurs umowny", number(node.take("KursUmowny"))),
            ("Waluta umowna", node.take("WalutaUmowna")),
        ]
    )
    if node.flag("PodmiotPosredniczacy"):
        made += bullets(["Dostawa dokonana przez podmiot pośredniczący (art. 22 ust. 2d ustawy)"])
    transports = node.each("Transport")
    for at, one in enumerate(transports, 1):
        made += heading(f"Transport {at}" if len(transports) > 1 else "Transport", _transport(one), 3)
    return made


def _transport(node: Node) -> list[Block]:
    means, load = node.take("RodzajTransportu"), node.take("OpisLadunku")
    node.flag("TransportInny")
    node.flag("LadunekInny")
    made = facts(
        [
            ("Rodzaj transportu", words.TRANSPORTS.get(means, means) or node.take("OpisInnegoTransportu")),
            ("Ładunek", words.LOADS.get(load, load) or node.take("OpisInnegoLadunku")),
            ("Jednostka opakowania", node.take("JednostkaOpakowania")),
            ("Numer zlecenia transportu", node.take("NrZleceniaTransportu")),
            ("Początek transportu", moment(node.take("DataGodzRozpTransportu"))),
            ("Koniec transportu", moment(node.take("DataGodzZakTransportu"))),
        ]
    )
    made += facts(
        [
            (title, one_line_address(one))
            for name, title in (("WysylkaZ", "Skąd"), ("WysylkaPrzez", "Przez"), ("WysylkaDo", "Dokąd"))
            for one in node.each(name)
        ],
        1,
    )
    made += cards(_carrier(one) for one in node.each("Przewoznik"))
    return made


def _carrier(node: Node) -> Block:
    known = node.one("DaneIdentyfikacyjne")
    return card("Przewoźnik", known.take("Nazwa"), [*identity(known), *address(node.one("AdresPrzewoznika"))])
