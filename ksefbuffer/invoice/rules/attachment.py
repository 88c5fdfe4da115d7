"""The attachment's tables (E30). Source: FA3-FIELDS §10."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lxml import etree

from ..findings import Finding
from ..reading import local_name, path_of
from .case import Case

_SHAPES = {
    "date": (re.compile(r"\d{4}-\d\d-\d\d"), "data RRRR-MM-DD"),
    "datetime": (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?"), "data z godziną"),
    "time": (re.compile(r"\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?"), "godzina GG:MM:SS"),
    "int": (re.compile(r"[+-]?\d+"), "liczba całkowita"),
    "dec": (re.compile(r"[+-]?\d[\d \u00a0]*([.,]\d+)?"), "liczba"),
}
_HINT = "Popraw tabelę załącznika w ERP."


def check(case: Case) -> Iterator[Finding]:
    """Rows have as many cells as there are columns, and cells match the type of their column."""
    if not case.header.has_attachment:
        return
    for table in case.root.iter("{*}Tabela"):
        yield from _table(case, table)


def _table(case: Case, table: etree._Element) -> Iterator[Finding]:
    types = [column.get("Typ", "txt") for column in table.iter("{*}Kol")]
    for row in table:
        if local_name(row) != "Wiersz":
            continue
        if len(row) != len(types):
            yield case.warn(
                "E30",
                f"Załącznik: wiersz tabeli ma {len(row)} komórek, a kolumn jest {len(types)}.",
                _HINT,
                path_of(row),
            )
            continue
        for kind, cell in zip(types, row, strict=True):
            text = (cell.text or "").strip()
            if text and kind in _SHAPES and not _SHAPES[kind][0].fullmatch(text):
                yield case.warn(
                    "E30",
                    f"Załącznik: komórka nie zgadza się z typem kolumny „{kind}” ({_SHAPES[kind][1]}).",
                    _HINT,
                    path_of(cell),
                )
