"""Reading a printed page back with another program than the one that set it (PDFium), and hand-made invoices."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pypdfium2
from PIL import Image
from pypdfium2 import raw

from ksefbuffer.offline.printed import Code, render
from tests.samples import NAMESPACE

SAMPLES = Path(__file__).parents[2] / ".." / "shared" / "ksef" / "invoices"


def printed(
    content: bytes,
    *,
    ksef_number: str | None = None,
    accepted_at: datetime | None = None,
    codes: Sequence[Code] = (),
    mode: str | None = None,
) -> bytes:
    """``render`` with nothing said."""
    return render(content, ksef_number=ksef_number, accepted_at=accepted_at, codes=codes, mode=mode)


def sheets(pdf: bytes) -> list[str]:
    """The text of each sheet, no-break spaces as spaces."""
    document = pypdfium2.PdfDocument(pdf)
    try:
        found = []
        for page in document:
            text = page.get_textpage()
            # PDFium tells a hyphen at a line's end as U+FFFE.
            said = text.get_text_range().replace("\ufffe", "-\n")
            found.append(said.replace("\u00a0", " ").replace("\r\n", "\n"))
            text.close()
            page.close()
        return found
    finally:
        document.close()


def text_of(pdf: bytes) -> str:
    """All text, white space collapsed: where lines break does not matter."""
    return re.sub(r"\s+", " ", " ".join(sheets(pdf)))


def dense(text: str) -> str:
    """``text`` without any white space, for what may be broken over lines."""
    return re.sub(r"\s", "", text)


def picture(pdf: bytes, sheet: int = -1, dots_per_inch: int = 150) -> Image.Image:
    """One sheet as a grey picture."""
    document = pypdfium2.PdfDocument(pdf)
    try:
        page = document[sheet % len(document)]
        made = page.render(scale=dots_per_inch / 72).to_pil().convert("L")
        page.close()
        return made
    finally:
        document.close()


def links(pdf: bytes) -> list[str]:
    """The addresses that may be clicked, each once."""
    document = pypdfium2.PdfDocument(pdf)
    found: dict[str, None] = {}
    try:
        for page in document:
            at, link = ctypes.c_int(0), raw.FPDF_LINK()
            while raw.FPDFLink_Enumerate(page, at, link):
                action = raw.FPDFLink_GetAction(link)
                size = raw.FPDFAction_GetURIPath(document, action, None, 0)
                buffer = ctypes.create_string_buffer(size)
                raw.FPDFAction_GetURIPath(document, action, buffer, size)
                found[buffer.value.decode()] = None
            page.close()
        return list(found)
    finally:
        document.close()


def facts(pdf: bytes) -> dict[str, str]:
    """Title, author, dates."""
    document = pypdfium2.PdfDocument(pdf)
    try:
        return dict(document.get_metadata_dict())
    finally:
        document.close()


def is_tagged(pdf: bytes) -> bool:
    """Whether the PDF carries its structure, for screen readers."""
    document = pypdfium2.PdfDocument(pdf)
    try:
        return bool(raw.FPDFCatalog_IsTagged(document))
    finally:
        document.close()


def faktura(fa: str = "", *, kind: str = "VAT", parties: str = "", after: str = "", number: str = "FV/1") -> bytes:
    """A FA(3) as bare as can be, with ``fa`` in its body: not valid, but readable."""
    return (
        f'<Faktura xmlns="{NAMESPACE}">{parties}<Fa><KodWaluty>PLN</KodWaluty><P_1>2026-11-20</P_1>'
        f"<P_2>{number}</P_2><P_15>123.00</P_15><RodzajFaktury>{kind}</RodzajFaktury>{fa}</Fa>{after}</Faktura>"
    ).encode()
