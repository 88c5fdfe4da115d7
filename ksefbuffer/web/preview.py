"""A received invoice to be read in the browser: the printed page's own pieces, set as HTML instead of paper.

So the page on the screen and the one on paper say the same, and none of them leaves a text out unseen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ksefbuffer.invoice.tolerant import parse
from ksefbuffer.offline.printing.page import page_of
from ksefbuffer.offline.printing.source import tree_of

MAX_ROWS = 500
MAX_LINES = 20_000
_BETWEEN_ELEMENTS = re.compile(r">[ \t]*<")
_LONGEST_LINE = 2_000
_CLOSES = re.compile(r"</|/>$|^<[?!]")


@dataclass(frozen=True, repr=False)
class Preview:
    """``kind`` and ``number`` are the heading; ``ksef`` pairs of a name and a value; ``blocks`` as
    ``offline.printing.blocks`` makes them, long tables cut."""

    kind: str
    number: str
    ksef: list[list[str]]
    note: str
    blocks: list[dict[str, Any]]


def preview(content: bytes, *, ksef_number: str, accepted_at: datetime | None) -> Preview | None:
    """What the invoice says; None when there is nothing that could be read. Never raises."""
    tree = parse(content)
    if tree.root is None or len(tree.root) == 0:
        return None
    page = page_of(tree_of(tree.root), tree.damage, ksef_number=ksef_number, accepted_at=accepted_at, mode=None)
    return Preview(page.kind, page.number, page.ksef, page.note, [_cut(block) for block in page.blocks])


def _cut(block: dict[str, Any]) -> dict[str, Any]:
    """A table with its first MAX_ROWS rows, and how many more there are."""
    rows: Sequence[Any] = block["rows"] if block["k"] == "table" else ()
    return {**block, "rows": rows[:MAX_ROWS], "more": max(0, len(rows) - MAX_ROWS)} if rows else block


def source_lines(content: bytes) -> tuple[list[str], bool]:
    """The document's text by lines, at most MAX_LINES, and whether that is all. One that is written in a single line
    is broken between its elements, to be read; what is downloaded stays as it came."""
    text = content.decode("utf-8-sig", "replace")
    lines = text.splitlines()
    if any(len(one) > _LONGEST_LINE for one in lines):
        lines = _broken(lines)
    return lines[:MAX_LINES], len(lines) <= MAX_LINES


def _broken(lines: list[str]) -> list[str]:
    made: list[str] = []
    depth = 0
    for part in _BETWEEN_ELEMENTS.sub(">\n<", "\n".join(lines)).split("\n"):
        one = part.strip()
        closing = one.startswith("</")
        depth = max(0, depth - closing)
        made.append("  " * min(depth, 20) + one)
        if one.startswith("<") and not closing and not _CLOSES.search(one):
            depth += 1
    return made
