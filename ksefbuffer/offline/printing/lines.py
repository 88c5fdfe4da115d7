"""Rows of an invoice, of an advance's order and of a FA_RR, with states before and after a correction paired.

Source: FA3-FIELDS §9; the schema numbers the state before and the one after each on their own, so numbers alone do not
pair them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from ksefbuffer.invoice.document import decimal_of

from . import words
from .blocks import Block, Cell, Column, details, heading, row, table, texts
from .figures import amount, day, number, number_of
from .source import Node


def _rate(text: str) -> str:
    return words.rate(text)


@dataclass(frozen=True)
class Shape:
    """Which fields the rows of one kind have. ``columns``: field, title, kind, how it is written; shown when any row
    has the field. ``small``: field, label, how it is written; under the name."""

    number: str
    name: str
    unique: str
    before: str
    columns: tuple[tuple[str, str, str, Callable[[str], str]], ...]
    small: tuple[tuple[str, str, Callable[[str], str]], ...]
    # Of these a correction has a difference.
    differing: frozenset[str] = field(default_factory=frozenset)


FA = Shape(
    "NrWierszaFa",
    "P_7",
    "UU_ID",
    "StanPrzed",
    (
        ("P_8B", "Ilość", "number", number),
        ("P_8A", "J.m.", "short", str),
        ("P_9A", "Cena netto", "number", amount),
        ("P_9B", "Cena brutto", "number", amount),
        ("P_10", "Rabat", "number", amount),
        ("P_12", "Stawka", "number", _rate),
        ("P_11", "Wartość netto", "number", amount),
        ("P_11Vat", "Kwota VAT", "number", amount),
        ("P_11A", "Wartość brutto", "number", amount),
    ),
    (
        ("Indeks", "Indeks", str),
        ("GTIN", "GTIN", str),
        ("PKWiU", "PKWiU", str),
        ("CN", "CN", str),
        ("PKOB", "PKOB", str),
        ("GTU", "GTU", str),
        ("Procedura", "Procedura", str),
        ("P_6A", "Data dostawy", day),
        ("P_12_XII", "Stawka OSS (%)", number),
        ("KwotaAkcyzy", "Akcyza", amount),
        ("KursWaluty", "Kurs waluty", number),
        ("UU_ID", "Id wiersza", str),
    ),
    frozenset(("P_8B", "P_9A", "P_9B", "P_10", "P_11", "P_11Vat", "P_11A")),
)
ORDER = Shape(
    "NrWierszaZam",
    "P_7Z",
    "UU_IDZ",
    "StanPrzedZ",
    (
        ("P_8BZ", "Ilość", "number", number),
        ("P_8AZ", "J.m.", "short", str),
        ("P_9AZ", "Cena netto", "number", amount),
        ("P_12Z", "Stawka", "number", _rate),
        ("P_11NettoZ", "Wartość netto", "number", amount),
        ("P_11VatZ", "Kwota VAT", "number", amount),
    ),
    (
        ("IndeksZ", "Indeks", str),
        ("GTINZ", "GTIN", str),
        ("PKWiUZ", "PKWiU", str),
        ("CNZ", "CN", str),
        ("PKOBZ", "PKOB", str),
        ("GTUZ", "GTU", str),
        ("ProceduraZ", "Procedura", str),
        ("P_12Z_XII", "Stawka OSS (%)", number),
        ("KwotaAkcyzyZ", "Akcyza", amount),
        ("UU_IDZ", "Id wiersza", str),
    ),
    frozenset(("P_8BZ", "P_9AZ", "P_11NettoZ", "P_11VatZ")),
)
FARMERS = Shape(
    "NrWierszaFa",
    "P_5",
    "UU_ID",
    "StanPrzed",
    (
        ("P_6C", "Klasa, jakość", "short", str),
        ("P_6B", "Ilość", "number", number),
        ("P_6A", "J.m.", "short", str),
        ("P_7", "Cena bez zwrotu", "number", amount),
        ("P_8", "Wartość bez zwrotu", "number", amount),
        ("P_9", "Stawka zwrotu", "number", _rate),
        ("P_10", "Kwota zwrotu", "number", amount),
        ("P_11", "Wartość ze zwrotem", "number", amount),
    ),
    (
        ("GTIN", "GTIN", str),
        ("PKWiU", "PKWiU", str),
        ("CN", "CN", str),
        ("P_4AA", "Data nabycia", day),
        ("KursWaluty", "Kurs waluty", number),
        ("UU_ID", "Id wiersza", str),
    ),
    frozenset(("P_6B", "P_7", "P_8", "P_10", "P_11")),
)
# Marks of "listed in appendix 15", by the shape's number field.
_APPENDIX_15 = {"NrWierszaFa": "P_12_Zal_15", "NrWierszaZam": "P_12Z_Zal_15"}


def lines(found: Sequence[Node], shape: Shape, extras: dict[str, list[str]], *, correction: bool) -> list[Block]:
    """The table of the rows ``found``. ``extras``: by row number what is said of it elsewhere; what is used is taken
    out."""
    columns = [column for column in shape.columns if any(node.look(column[0]) for node in found)]
    befores = {id(node) for node in found if node.flag(shape.before)}
    heads = [Column("Lp.", "number"), *([Column("Stan", "short")] if befores else []), Column("Nazwa")]
    heads += [Column(title, kind) for _, title, kind, _ in columns]
    if not befores:
        rows = [_row(node, shape, columns, extras) for node in found]
        note = "Pozycje faktury korygującej wykazują różnice." if correction and found else ""
        return table(heads, rows, "Pozycje") + texts([note], "small")
    rows = []
    for before, after in paired(found, befores, shape):
        if before is not None:
            rows.append(_row(before, shape, columns, {} if after is not None else extras, "przed"))
        if after is not None:
            rows.append(_row(after, shape, columns, extras, "po"))
        if before is not None and after is not None:
            rows.append(_difference(before, after, shape, columns))
    return table(heads, rows, "Pozycje przed korektą i po korekcie")


def order(fa: Node, currency: str, extras: dict[str, list[str]], *, correction: bool) -> list[Block]:
    """Zamowienie: the order that an advance is for."""
    made: list[Block] = []
    for one in fa.each("Zamowienie"):
        value = amount(one.take("WartoscZamowienia"), currency)
        made += lines(one.each("ZamowienieWiersz"), ORDER, extras, correction=correction)
        made += [{"k": "total", "items": [["Wartość zamówienia lub umowy z podatkiem", value]]}] if value else []
    return heading("Zamówienie lub umowa", made)


def paired(found: Sequence[Node], befores: set[int], shape: Shape) -> list[tuple[Node | None, Node | None]]:
    """(state before, state after) of each row, in the order of the invoice; None where there is no such row. A pair
    shares its unique id, or its number and name, or its name, or its number, or else the one follows the other."""
    after_of: dict[int, Node] = {}
    taken: set[int] = set()
    keys: tuple[Callable[[Node], tuple[str, ...]], ...] = (
        lambda node: (node.look(shape.unique),),
        lambda node: (_number(node.look(shape.number)), node.look(shape.name)),
        lambda node: (node.look(shape.name),),
        lambda node: (_number(node.look(shape.number)),),
    )
    for key in keys:
        waiting: dict[tuple[str, ...], list[Node]] = {}
        for node in reversed(found):
            if id(node) not in befores and id(node) not in taken and all(key(node)):
                waiting.setdefault(key(node), []).append(node)
        for node in found:
            if id(node) in befores and id(node) not in after_of and waiting.get(key(node)):
                after_of[id(node)] = waiting[key(node)].pop()
                taken.add(id(after_of[id(node)]))
    for node, following in pairwise(found):
        lone = id(node) in befores and id(node) not in after_of
        if lone and id(following) not in befores and id(following) not in taken:
            after_of[id(node)] = following
            taken.add(id(following))
    made: list[tuple[Node | None, Node | None]] = []
    for node in found:
        if id(node) in befores:
            made.append((node, after_of.get(id(node))))
        elif id(node) not in taken:
            made.append((None, node))
    return made


def _number(text: str) -> str:
    return text.lstrip("0") or text


def _row(
    node: Node,
    shape: Shape,
    columns: Sequence[tuple[str, str, str, Callable[[str], str]]],
    extras: dict[str, list[str]],
    state: str = "",
) -> Block:
    place = node.take(shape.number)
    small = [f"{label}: {shown(text)}" for name, label, shown in shape.small if (text := node.take(name))]
    listed = _APPENDIX_15[shape.number]
    if node.flag(listed):
        small.append("załącznik nr 15 do ustawy")
    under = [" · ".join(small)] if small else []
    under += extras.pop(_number(place), [])
    cells: list[Cell] = [place, *([state] if state else []), details(node.take(shape.name), under)]
    cells += [shown(node.take(name)) if node.look(name) else "" for name, _, _, shown in columns]
    return row(cells, "before" if state == "przed" else "")


def _difference(
    before: Node, after: Node, shape: Shape, columns: Sequence[tuple[str, str, str, Callable[[str], str]]]
) -> Block:
    cells: list[Cell] = ["", "różnica", ""]
    changed = False
    for name, _, _, shown in columns:
        was, is_now = decimal_of(before.look(name)), decimal_of(after.look(name))
        if name not in shape.differing or was is None or is_now is None:
            cells.append("")
            continue
        changed = changed or was != is_now
        cells.append(number_of(is_now - was, 2 if shown is amount else 0))
    cells[2] = "" if changed else "bez zmiany wartości"
    return row(cells, "difference")
