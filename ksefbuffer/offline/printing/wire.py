"""A page and its QR codes as page.typ reads them: JSON, in which every text stays a text."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from ksefbuffer.offline import qr

from .blocks import Block
from .legible import legible
from .page import Code, Page

_MODULE_MM = 0.62
_SMALL_MODULE_MM = 0.52
_MANY_MODULES = 90
_LONGEST_LINK_SHOWN = 300
_VIEW = re.compile(rb'viewBox="0 0 (\d+) ')


def spoken(page: Page, codes: Sequence[Code]) -> str:
    """What page.typ reads, as JSON."""
    return json.dumps(_spoken(page, codes), ensure_ascii=False)


def _spoken(page: Page, codes: Sequence[Code]) -> dict[str, Any]:
    return {
        "title": page.title,
        "author": page.author,
        "date": [page.dated.year, page.dated.month, page.dated.day],
        "kind": page.kind,
        "number": page.number,
        "ksef": page.ksef,
        "note": page.note,
        "running": page.running,
        "blocks": [*page.blocks, *_drawn(codes)],
    }


def _drawn(codes: Sequence[Code]) -> list[Block]:
    if not codes:
        return []
    title = "Weryfikacja w KSeF"
    return [{"k": "heading", "title": title, "level": 2}, {"k": "codes", "codes": [_code(one) for one in codes]}]


def _code(code: Code) -> dict[str, Any]:
    # Without its label: the page sets that as text, which can be searched and read aloud.
    drawn = qr.svg(code.url, "")
    view = _VIEW.search(drawn)
    assert view is not None
    modules = int(view[1])
    shown = code.url if len(code.url) <= _LONGEST_LINK_SHOWN else "Otwórz stronę weryfikacji"
    return {
        "svg": drawn.decode(),
        "side": modules * (_MODULE_MM if modules <= _MANY_MODULES else _SMALL_MODULE_MM),
        "alt": f"Kod QR: {legible(code.label)}, {legible(shown)}",
        "label": legible(code.label),
        "url": legible(code.url),
        "shown": legible(shown),
    }
