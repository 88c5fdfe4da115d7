"""Where the file of a received invoice lies below the incoming folder, and what it is called. Pure.

Safe on POSIX and Windows shares, whatever a seller wrote into the invoice. Source: CONTRACT §7.
"""

from __future__ import annotations

import re
from datetime import date

from .folders import MAX_DEPTH, safe_component
from .shapes import UNMATCHED

ENDING = ".xml"

# Of the 255 bytes of a name: what a number (".12") and an ending (".xml") may take beside the stem.
_MOST_STEM_BYTES = 235
_MOST_NIP_BYTES = 20
_MOST_COMPONENT = 1000
_DEVICE = re.compile(r"^(con|prn|aux|nul|(?:com|lpt)[0-9¹²³])( *(?:\..*)?)$", re.IGNORECASE | re.DOTALL)


def folder_parts(folder: str) -> tuple[str, ...]:
    """The names of the folders that ``folder`` means, from the top; never empty, never ".." or a hidden one."""
    named = (_safe(part) for part in folder.split("/"))
    return tuple(part for part in named if part)[:MAX_DEPTH] or (UNMATCHED,)


def file_stem(issue_date: date | None, seller_nip: str, invoice_number: str, ksef_number: str) -> str:
    """The file's name without its ending. The KSeF number is whole, so that names are unique; a long invoice number is
    cut."""
    day = issue_date.isoformat() if issue_date is not None else "bez-daty"
    nip = _cut(_safe(seller_nip), _MOST_NIP_BYTES) or "bez-nip"
    last = _safe(ksef_number)
    room = _MOST_STEM_BYTES - sum(len(part.encode()) + 1 for part in (day, nip, last))
    number = _cut(_safe(invoice_number), room) or "bez-numeru"
    return f"{day}_{nip}_{number}_{last}"


def numbered(stem: str, number: int) -> str:
    """The stem for the first of several that may be tried, ``stem.2``, ``stem.3`` … for the others."""
    return stem if number == 1 else f"{stem}.{number}"


def _safe(text: str) -> str:
    # Windows takes "nul.2" for its device as well, whatever the ending.
    return _DEVICE.sub(r"\1_\2", safe_component(_text(text[:_MOST_COMPONENT])))


def _text(text: str) -> str:
    # A lone surrogate is a character to Python, but no file name.
    return text.encode("utf-8", "replace").decode()


def _cut(text: str, most_bytes: int) -> str:
    return text.encode()[:most_bytes].decode("utf-8", "ignore").rstrip(" .")
