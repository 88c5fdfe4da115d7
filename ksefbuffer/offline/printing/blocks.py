"""The pieces a page is made of, as plain values that page.typ sets: it knows no invoice, and these no type.

A block is a dict with its kind under "k". Texts are literal: nothing in them is markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Block = dict[str, Any]
Cell = str | dict[str, Any]

# In units of the letter's size, measured on Libertinus Serif: a digit or small letter, what a capital has more,
# how much wider bold is, both sides' gaps.
_LETTER_EM = 0.48
_CAPITAL_MORE_EM = 0.2
_BOLD = 1.1
_GAPS_EM = 1.0
TABLE_PT = 8.0
_PAGE_EM = 186 / (TABLE_PT * 0.3528)  # 186 mm between the margins
_LEAST_TEXT_EM = 11.0
_KEPT = 600


@dataclass(frozen=True)
class Column:
    """``kind``: "text" shares what room is left, by ``share``; "number" (right-aligned) and "short" are as wide as
    their longest cell."""

    title: str
    kind: str = "text"
    share: float = 1.0


def facts(items: Iterable[tuple[str, str]], columns: int = 2) -> list[Block]:
    """Names with their values, set in so many columns; those without a value are left out."""
    kept = [[name, value] for name, value in items if value]
    return [{"k": "facts", "items": kept, "columns": min(columns, len(kept))}] if kept else []


def texts(paragraphs: Iterable[str], style: str = "normal") -> list[Block]:
    """Paragraphs; ``style``: "normal", "small" or "strong"."""
    kept = [paragraph for paragraph in paragraphs if paragraph]
    return [{"k": "texts", "texts": kept, "style": style}] if kept else []


def bullets(items: Iterable[str]) -> list[Block]:
    """A list of points."""
    kept = [item for item in items if item]
    return [{"k": "bullets", "items": kept}] if kept else []


def cards(found: Iterable[Block]) -> list[Block]:
    """Cards, as ``card`` makes them, two in a row."""
    kept = list(found)
    return [{"k": "cards", "cards": kept}] if kept else []


def card(title: str, name: str, lines: Iterable[tuple[str, str]]) -> Block:
    """One framed party or address: a heading, a name in bold, and lines of (label or "", text)."""
    return {"title": title, "name": name, "lines": [[label, text] for label, text in lines if text]}


def total(items: Iterable[tuple[str, str]]) -> list[Block]:
    """The amounts that matter, set large, right."""
    kept = [[name, value] for name, value in items if value]
    return [{"k": "total", "items": kept}] if kept else []


def heading(title: str, blocks: Sequence[Block], level: int = 2) -> list[Block]:
    """``blocks`` under a heading; nothing when there are none."""
    return [{"k": "heading", "title": title, "level": level}, *blocks] if blocks else []


def details(main: str, small: Sequence[str]) -> Cell:
    """A cell with small lines under its text; kept on one sheet unless it is very long."""
    return {"m": main, "s": list(small), "keep": len(main) + sum(map(len, small)) < _KEPT} if small else main


def row(cells: Sequence[Cell], style: str = "") -> Block:
    """One row; ``style``: "", "before", "difference" or "sum"."""
    return {"cells": list(cells), "style": style}


def table(columns: Sequence[Column], rows: Sequence[Block], title: str = "") -> list[Block]:
    """A table whose header repeats on every page; ``title`` says what it is to those who cannot see it. Nothing
    without rows. One that is wider than the page falls into parts, each beginning with the row's number."""
    if not rows:
        return []
    cells = [[_long(one["cells"][at], one["style"]) for one in rows] for at in range(len(columns))]
    for broken in (False, True):
        widths = [_width(column, below, broken) for column, below in zip(columns, cells, strict=True)]
        if sum(widths) <= _PAGE_EM:
            return [_table(columns, widths, rows, title)]
    parts = _parts(widths)
    if len(parts) == 1:
        return [_table(columns, widths, rows, title)]
    made: list[Block] = []
    for part in parts:
        numbered = [row([str(at), *(one["cells"][n] for n in part)], one["style"]) for at, one in enumerate(rows, 1)]
        made += texts([f"Kolumny {part[0] + 1}–{part[-1] + 1} z {len(columns)}:"], "small")
        heads = [Column("Lp.", "number"), *(columns[at] for at in part)]
        made.append(_table(heads, [3.0, *(widths[at] for at in part)], numbered, title))
    return made


def _table(columns: Sequence[Column], widths: Sequence[float], rows: Sequence[Block], title: str) -> Block:
    spare = _PAGE_EM - sum(width for column, width in zip(columns, widths, strict=True) if column.kind != "text")
    squeezed = spare < _LEAST_TEXT_EM * sum(column.kind == "text" for column in columns)
    return {
        "k": "table",
        "title": title,
        "columns": [
            {
                "title": column.title,
                "align": "right" if column.kind == "number" else "left",
                # Too much for the page: then all share it, and long figures break.
                "fr": column.share if column.kind == "text" and not squeezed else width if squeezed else 0,
                "em": width,
            }
            for column, width in zip(columns, widths, strict=True)
        ],
        "rows": list(rows),
    }


def _width(column: Column, cells: Sequence[float], broken: bool) -> float:
    """``cells``: how long each is; ``broken``: with the title in as many lines as it has words."""
    if column.kind == "text":
        return _LEAST_TEXT_EM
    titles = column.title.split() if broken else [column.title]
    longest = max([*cells, *(_long(title, "sum") for title in titles)])
    return min(longest + _GAPS_EM, _PAGE_EM / 3)


def _long(cell: Cell, style: str) -> float:
    text = cell if isinstance(cell, str) else cell["m"]
    long = len(text) * _LETTER_EM + sum(map(str.isupper, text)) * _CAPITAL_MORE_EM
    return long * _BOLD if style == "sum" else long


def _parts(widths: Sequence[float]) -> list[list[int]]:
    """Columns put together as the page holds them, the number's column aside."""
    parts: list[list[int]] = [[]]
    used = 0.0
    for at, width in enumerate(widths):
        if parts[-1] and used + width > _PAGE_EM - 3.0:
            parts.append([])
            used = 0.0
        parts[-1].append(at)
        used += width
    return parts
