"""Additional descriptions, attachments, footers, registers, and whatever had no place. Source: FA3-FIELDS §5, §10."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from .blocks import Block, Column, facts, heading, row, table, texts
from .figures import day, moment, number
from .labels import label
from .legible import lines_of
from .source import Node


def extras_by_row(fa: Node) -> tuple[dict[str, list[str]], list[tuple[str, str]]]:
    """DodatkowyOpis: (by row number its "key: value"s, those of the whole invoice)."""
    of_rows: dict[str, list[str]] = {}
    of_all: list[tuple[str, str]] = []
    for one in fa.each("DodatkowyOpis"):
        key, value, place = one.take("Klucz"), one.take("Wartosc"), one.take("NrWiersza")
        if place:
            of_rows.setdefault(place.lstrip("0") or place, []).append(f"{key}: {value}")
        elif key or value:
            of_all.append((key, value))
    return of_rows, of_all


def extras(of_rows: dict[str, list[str]], of_all: Sequence[tuple[str, str]]) -> list[Block]:
    """What is said of the whole invoice, and of rows that are not there."""
    rows = [row([key, value]) for key, value in of_all]
    rows += [row([f"Pozycja {place}", text]) for place, said in of_rows.items() for text in said]
    return heading("Dodatkowe informacje", table([Column("Nazwa"), Column("Treść", share=2)], rows, "Dodatkowy opis"))


def attachments(root: Node) -> list[Block]:
    """Zalacznik: blocks of descriptions, paragraphs and tables."""
    made: list[Block] = []
    for attachment in root.each("Zalacznik"):
        for block in attachment.each("BlokDanych"):
            below = _pairs(block, "MetaDane", "ZKlucz", "ZWartosc")
            below += texts(text for part in block.each("Tekst") for text in part.texts("Akapit"))
            for one in block.each("Tabela"):
                below += _attached_table(one)
            made += heading(block.take("ZNaglowek") or "Blok danych", below, 3)
    return heading("Załącznik", made)


def _pairs(node: Node, name: str, key: str, value: str) -> list[Block]:
    return facts([(one.take(key) or "–", one.take(value) or "–") for one in node.each(name)], 2)


_WRITTEN = {"date": day, "datetime": moment, "dec": number, "int": number}


def _attached_table(node: Node) -> list[Block]:
    made = _pairs(node, "TMetaDane", "TKlucz", "TWartosc")
    made += texts([node.take("Opis")], "strong")
    columns: list[Node] = [column for head in node.each("TNaglowek") for column in head.each("Kol")]
    rows = [_cells(one, "WKom", columns) for one in node.each("Wiersz")]
    rows += [_cells(one, "SKom", columns, "sum") for one in node.each("Suma")]
    wide = max((len(one["cells"]) for one in rows), default=0)
    heads = [Column(one.take("NKom"), _kind(one, at, rows)) for at, one in enumerate(columns)]
    heads += [Column("", "short") for _ in range(wide - len(heads))]
    for one in rows:
        one["cells"] += [""] * (len(heads) - len(one["cells"]))
    if not rows and heads:
        return made + texts([" · ".join(head.title for head in heads)], "small")
    return made + table(heads, rows, "Tabela załącznika")


def _kind(column: Node, at: int, rows: Sequence[Block]) -> str:
    if column.attributes.get("Typ") in ("dec", "int"):
        return "number"
    longest = max((len(one["cells"][at]) for one in rows if at < len(one["cells"])), default=0)
    return "text" if longest > 24 else "short"


def _cells(node: Node, name: str, columns: Sequence[Node], style: str = "") -> Block:
    kinds = [column.attributes.get("Typ", "") for column in columns]
    cells = [one.own() for one in node.each(name)]
    return row(
        [
            _WRITTEN[kinds[at]](text) if at < len(kinds) and kinds[at] in _WRITTEN else text
            for at, text in enumerate(cells)
        ],
        style,
    )


def footer(root: Node) -> list[Block]:
    """Stopka: free texts with their line breaks, and registers."""
    made: list[Block] = []
    for one in root.each("Stopka"):
        for information in one.each("Informacje"):
            for text in information.each("StopkaFaktury"):
                text.own()
                made += texts(lines_of(text.raw), "small")
        for register in one.each("Rejestry"):
            made += facts(
                [
                    ("Pełna nazwa", register.take("PelnaNazwa")),
                    ("KRS", register.take("KRS")),
                    ("REGON", register.take("REGON")),
                    ("BDO", register.take("BDO")),
                ]
            )
    return heading("Informacje końcowe", made)


def of_the_file(root: Node) -> str:
    """One line on the file: its form, when and by what it was made."""
    head = root.one("Naglowek")
    code = head.one("KodFormularza")
    # What the system code says already; anything else is left to be said.
    for one, plain in ((code, ("FA", "FA_RR")), (head.one("WariantFormularza"), ("1", "2", "3"))):
        if one.raw.strip() in plain:
            one.own()
    form = " ".join(filter(None, (code.attributes.get("kodSystemowy"), code.attributes.get("wersjaSchemy"))))
    return " · ".join(
        filter(
            None,
            (
                f"Struktura {form}" if form else "",
                f"plik wytworzono {made}" if (made := moment(head.take("DataWytworzeniaFa"))) else "",
                f"system: {name}" if (name := head.take("SystemInfo")) else "",
            ),
        )
    )


def rest(root: Node) -> list[Block]:
    """Every text that nothing above has taken, with its path in words; of more than MAX_REST the first ones, and how
    many there are besides."""
    left = root.left()
    rows = [_left(path, text) for path, text in islice(left, MAX_REST)]
    besides = sum(1 for _ in left)
    note = f"W pliku XML jest jeszcze {besides} takich pól." if besides else ""
    made = table([Column("Pole"), Column("Treść")], rows, "Pozostałe dane")
    return heading("Pozostałe dane", made + texts([note]))


def _left(path: tuple[Node, ...], text: str) -> Block:
    leaf = path[-1]
    attributes = ", ".join(f"{name}: {value}" for name, value in leaf.attributes.items())
    place = " / ".join(label(one.name) for one in path[1:] if one.name not in _UNSAID)
    return row([place or label(leaf.name), f"{text} ({attributes})" if attributes else text])


MAX_REST = 2_000
# Steps that only lengthen a path.
_UNSAID = frozenset(("Fa", "DaneIdentyfikacyjne", "Party"))
