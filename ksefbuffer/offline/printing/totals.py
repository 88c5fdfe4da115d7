"""Sums by rate, what is due, settlements and the annotations the law asks for. Source: FA3-FIELDS §7, §8, §9."""

from __future__ import annotations

from decimal import Decimal

from ksefbuffer.invoice.document import decimal_of

from . import words
from .blocks import Block, Column, bullets, facts, heading, row, table, total
from .figures import amount, amount_of, day
from .source import Node

_DASH = "–"


def sums(fa: Node, kind: str, currency: str) -> list[Block]:
    """The sums by rate and P_15. The gross of a rate and the row of totals are added up here: the form has neither."""
    rates = _rates_in_rows(fa)
    rows: list[Block] = []
    net_total = vat_total = Decimal(0)
    converted = any(fa.look(f"P_14_{suffix}W") for suffix in words.SUMS)
    complete = True
    for suffix, described in words.SUMS.items():
        net, vat, in_pln = (fa.take(name) for name in (f"P_13_{suffix}", f"P_14_{suffix}", f"P_14_{suffix}W"))
        if not (net or vat or in_pln):
            continue
        net_value, vat_value = decimal_of(net), decimal_of(vat) if vat else Decimal(0)
        gross = None if net_value is None or vat_value is None else net_value + vat_value
        complete = complete and gross is not None
        net_total += net_value or Decimal(0)
        vat_total += vat_value or Decimal(0)
        cells = [_described(suffix, described, rates), amount(net) or _DASH, amount(vat) or _DASH]
        if converted:
            cells.append(amount(in_pln) or _DASH)
        rows.append(row([*cells, amount_of(gross) or _DASH]))
    if len(rows) > 1 and complete:
        added = ["Razem", amount_of(net_total), amount_of(vat_total), *([""] if converted else [])]
        rows.append(row([*added, amount_of(net_total + vat_total)], "sum"))
    columns = [Column("Stawka"), Column("Wartość netto", "number"), Column("Kwota VAT", "number")]
    columns += [Column("VAT w PLN", "number")] if converted else []
    made = table([*columns, Column("Wartość brutto", "number")], rows, "Podsumowanie według stawek")
    due = words.WHAT_IS_DUE.get(kind, "Kwota należności ogółem")
    made += total([(due, amount(fa.take("P_15"), currency))])
    return heading("Podsumowanie", made)


def farmers_sums(fa: Node, kind: str, currency: str) -> list[Block]:
    """The totals of a FA_RR, in its currency and in PLN where both are given, and in words."""
    converted = bool(fa.look("P_11_1W") or fa.look("P_11_2W"))
    rows = [
        row([title, amount(fa.take(name)), *([amount(fa.take(f"{name}W"))] if converted else [])])
        for name, title in (
            ("P_11_1", "Wartość produktów lub usług rolniczych"),
            ("P_11_2", "Zryczałtowany zwrot podatku"),
        )
        if fa.look(name) or fa.look(f"{name}W")
    ]
    due = words.WHAT_IS_DUE.get(kind, "Kwota należności ogółem")
    columns = [Column("Składnik"), Column(f"Kwota {currency}".strip(), "number")]
    columns += [Column("Kwota w PLN", "number")] if converted else []
    made = table(columns, rows, "Podsumowanie")
    made += total([(due, amount(fa.take("P_12_1"), currency)), ("W złotych", amount(fa.take("P_12_1W"), "PLN"))])
    made += facts([("Słownie", fa.take("P_12_2"))], 1)
    return heading("Podsumowanie", made)


def settlement(fa: Node, currency: str) -> list[Block]:
    """Rozliczenie: what is added to and taken from the amount due."""
    made: list[Block] = []
    for one in fa.each("Rozliczenie"):
        rows = [
            row([title, part.take("Powod"), amount(part.take("Kwota"), currency)])
            for name, title in (("Obciazenia", "Obciążenie"), ("Odliczenia", "Odliczenie"))
            for part in one.each(name)
        ]
        for name, title in (("SumaObciazen", "Suma obciążeń"), ("SumaOdliczen", "Suma odliczeń")):
            value = amount(one.take(name), currency)
            rows += [row([title, "", value], "sum")] if value else []
        made += table([Column("Rodzaj", "short"), Column("Powód"), Column("Kwota", "number")], rows, "Rozliczenie")
        made += total(
            [
                ("Do zapłaty", amount(one.take("DoZaplaty"), currency)),
                ("Nadpłata do rozliczenia lub zwrotu", amount(one.take("DoRozliczenia"), currency)),
            ]
        )
    return heading("Rozliczenie", made)


def notes_in_words(fa: Node) -> list[Block]:
    """Adnotacje and the marks beside them, in words; what is marked as absent is not said."""
    found: list[str] = []
    vehicles: list[Block] = []
    for notes in fa.each("Adnotacje"):
        for name, said in _NOTES:
            if notes.flag(name):
                found.append(said)
        found += [text for one in notes.each("Zwolnienie") for text in _exemption(one)]
        for one in notes.each("NoweSrodkiTransportu"):
            supplied, listed = _vehicles(one)
            found += supplied
            vehicles += listed
        found += [text for one in notes.each("PMarzy") for text in _margin(one)]
    if fa.flag("FP"):
        found.append("Faktura do paragonu (FP) – art. 109 ust. 3d ustawy")
    if fa.flag("TP"):
        found.append("Istnieją powiązania między nabywcą a sprzedawcą (TP)")
    if fa.flag("ZwrotAkcyzy"):
        found.append(
            "Faktura dla rolnika ubiegającego się o zwrot podatku akcyzowego zawartego w cenie oleju napędowego"
        )
    return heading("Adnotacje", bullets(found) + vehicles)


_NOTES = (
    ("P_16", "Metoda kasowa"),
    ("P_17", "Samofakturowanie"),
    ("P_18", "Odwrotne obciążenie"),
    ("P_18A", "Mechanizm podzielonej płatności"),
    ("P_23", "Procedura trójstronna uproszczona – podatek rozlicza ostatni w kolejności nabywca (art. 135–138 ustawy)"),
)


def _exemption(node: Node) -> list[str]:
    exempt = node.flag("P_19")
    bases = [
        f"{title}: {text}"
        for name, title in (("P_19A", "przepis ustawy"), ("P_19B", "dyrektywa 2006/112/WE"), ("P_19C", "inna podstawa"))
        if (text := node.take(name))
    ]
    if not exempt:
        node.flag("P_19N")
    if not exempt and not bases:
        return []
    return [" – ".join(["Sprzedaż zwolniona od podatku", *(["; ".join(bases)] if bases else [])])]


def _margin(node: Node) -> list[str]:
    named = [said for name, said in words.MARGINS.items() if node.flag(name)]
    marked = node.flag("P_PMarzy")
    if not marked and not named:
        node.flag("P_PMarzyN")
    return [text[0].upper() + text[1:] for text in named] or (["Procedura marży"] if marked else [])


_VEHICLE = (
    ("P_22BMK", "marka"),
    ("P_22BMD", "model"),
    ("P_22BK", "kolor"),
    ("P_22BNR", "nr rejestracyjny"),
    ("P_22BRP", "rok produkcji"),
    ("P_22B", "przebieg"),
    ("P_22B1", "VIN"),
    ("P_22B2", "nr nadwozia"),
    ("P_22B3", "nr podwozia"),
    ("P_22B4", "nr ramy"),
    ("P_22BT", "typ"),
    ("P_22C", "godziny robocze jednostki pływającej"),
    ("P_22C1", "nr kadłuba"),
    ("P_22D", "godziny robocze statku powietrznego"),
    ("P_22D1", "nr fabryczny"),
)


def _vehicles(node: Node) -> tuple[list[str], list[Block]]:
    said: list[str] = []
    if node.flag("P_22"):
        said.append("Wewnątrzwspólnotowa dostawa nowych środków transportu")
    else:
        node.flag("P_22N")
    if node.flag("P_42_5"):
        said.append("Występuje obowiązek z art. 42 ust. 5 ustawy")
    rows = [
        row(
            [
                one.take("P_NrWierszaNST"),
                day(one.take("P_22A")),
                "; ".join(f"{title}: {text}" for name, title in _VEHICLE if (text := one.take(name))),
            ]
        )
        for one in node.each("NowySrodekTransportu")
    ]
    columns = [Column("Pozycja", "number"), Column("Dopuszczony", "short"), Column("Nowy środek transportu")]
    return said, table(columns, rows, "Nowe środki transportu")


def _rates_in_rows(fa: Node) -> set[str]:
    rows = [(one, "P_12") for one in fa.each("FaWiersz")]
    rows += [(one, "P_12Z") for order in fa.each("Zamowienie") for one in order.each("ZamowienieWiersz")]
    return {node.look(name) for node, name in rows}


def _described(suffix: str, described: str, rates: set[str]) -> str:
    """The one rate that is meant, where the rows tell."""
    choice = {"1": ("23", "22"), "2": ("8", "7"), "4": ("4", "3")}.get(suffix, ())
    used = [rate for rate in choice if rate in rates]
    return f"{used[0]}%" + (" (ryczałt dla taksówek)" if suffix == "4" else "") if len(used) == 1 else described
