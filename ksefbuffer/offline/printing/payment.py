"""How and when an invoice is paid. Source: FA3-FIELDS §7. The payment link is printed as text: a link in a received
invoice may be a trap, and what is clicked should be chosen."""

from __future__ import annotations

from . import words
from .blocks import Block, Column, facts, heading, row, table
from .figures import account, amount, day
from .source import Node

_ACCOUNTS = (
    ("RachunekBankowy", "Rachunek"),
    ("RachunekBankowyFaktora", "Rachunek faktora"),
    ("RachunekBankowy1", "Rachunek rolnika"),
    ("RachunekBankowy2", "Rachunek nabywcy"),
)


def payment(fa: Node, currency: str, *, farmers: bool) -> list[Block]:
    """Platnosc."""
    made: list[Block] = []
    for one in fa.each("Platnosc"):
        made += _payment(one, currency, farmers=farmers)
    return heading("Płatność", made)


def documents(fa: Node) -> list[Block]:
    """DokumentZaplaty: what proves that a farmer was paid."""
    rows = [row([one.take("NrDokumentu"), day(one.take("DataDokumentu"))]) for one in fa.each("DokumentZaplaty")]
    return heading("Dokumenty zapłaty", table([Column("Dokument"), Column("Data", "short")], rows, "Dokumenty zapłaty"))


def _payment(node: Node, currency: str, *, farmers: bool) -> list[Block]:
    paid = node.flag("Zaplacono")
    part = node.take("ZnacznikZaplatyCzesciowej")
    discount = node.one("Skonto")
    made = facts(
        [
            ("Stan", "zapłacono" if paid else ""),
            ("Data zapłaty", day(node.take("DataZaplaty"))),
            ("Zapłata", _PARTLY.get(part, part)),
            *(("Termin płatności", _term(one)) for one in node.each("TerminPlatnosci")),
            ("Forma płatności", _means(node, farmers=farmers)),
            ("Skonto – warunki", discount.take("WarunkiSkonta")),
            ("Skonto – wysokość", discount.take("WysokoscSkonta")),
        ]
    )
    made += table(
        [Column("Data zapłaty", "short"), Column("Forma płatności"), Column("Zapłacona kwota", "number")],
        [
            row(
                [
                    day(one.take("DataZaplatyCzesciowej")),
                    _means(one, farmers=farmers),
                    amount(one.take("KwotaZaplatyCzesciowej"), currency),
                ]
            )
            for one in node.each("ZaplataCzesciowa")
        ],
        "Zapłaty częściowe",
    )
    for name, title in _ACCOUNTS:
        for one in node.each(name):
            own = one.take("RachunekWlasnyBanku")
            made += facts(
                [
                    (title, account(one.take("NrRB"))),
                    ("Bank", one.take("NazwaBanku")),
                    ("SWIFT", one.take("SWIFT")),
                    ("Opis rachunku", one.take("OpisRachunku")),
                    ("Rodzaj rachunku", words.OWN_ACCOUNTS.get(own, own)),
                ]
            )
    made += facts(
        [("Identyfikator płatności KSeF", node.take("IPKSeF")), ("Adres płatności", node.take("LinkDoPlatnosci"))], 1
    )
    return made


_PARTLY = {"1": "zapłacono w części", "2": "zapłacono w całości, w częściach"}


def _means(node: Node, *, farmers: bool) -> str:
    code = node.take("FormaPlatnosci")
    known = words.FARMERS_PAYMENTS if farmers else words.PAYMENTS
    other = node.flag("PlatnoscInna")
    described = node.take("OpisPlatnosci")
    return ", ".join(filter(None, (known.get(code, code), described or ("inna" if other else ""))))


def _term(node: Node) -> str:
    described = node.one("TerminOpis")
    words_of_it = " ".join(
        filter(
            None,
            (
                described.take("Ilosc"),
                _UNITS.get(described.look("Jednostka").casefold()) or described.look("Jednostka"),
                f"od: {event}" if (event := described.take("ZdarzeniePoczatkowe")) else "",
                node.take("TerminOpis"),
            ),
        )
    )
    described.take("Jednostka")
    due = day(node.take("Termin"))
    return f"{due} ({words_of_it})" if due and words_of_it else due or words_of_it


_UNITS = {"days": "dni", "day": "dzień", "weeks": "tygodni", "months": "miesięcy"}
