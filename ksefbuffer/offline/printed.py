"""The printed page: an invoice's stored bytes to a PDF that people read.

Understood are FA(3), FA(2), FA_RR and PEF; of any other XML every text is listed under its path. No text is left out
and none is markup. The bytes are never changed. Source: FA3-FIELDS, FACTS §11 (QR codes).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ksefbuffer.errors import BufferFault
from ksefbuffer.invoice.tolerant import parse

from .printing import press
from .printing.legible import legible
from .printing.page import Code, page_of
from .printing.source import tree_of
from .printing.wire import spoken

__all__ = ["Code", "NotPrintable", "render"]


class NotPrintable(BufferFault):
    """There is nothing that could be printed, or it could not be set."""


def render(
    content: bytes,
    *,
    ksef_number: str | None,
    accepted_at: datetime | None,
    codes: Sequence[Code],
    mode: str | None,
    apart: bool = False,
) -> bytes:
    """The PDF (PDF/A-2a, PDF/UA-1) of the invoice in ``content``; equal input gives equal bytes.

    accepted_at: when KSeF took it in, aware, shown in Polish time; codes: KOD I, then KOD II when there is one;
    mode: "offline24", "niedostępność", "awaria", "awaria całkowita" or None for online. Damaged documents are printed
    as far as they can be read, and say so. Raises NotPrintable. Safe to call from any thread; one page is set at a
    time. apart: it is set by a process of its own, so that none of what that takes stays here; then short ones are set
    side by side, as many as the caller lets.
    """
    tree = parse(content)
    if tree.root is None or len(tree.root) == 0:
        reason = "; ".join(tree.damage) or "dokument nie ma treści"
        raise NotPrintable(
            f"Nie da się wydrukować faktury: {reason}.", action="Sprawdź zapisany plik XML; nie ma w nim faktury."
        )
    page = page_of(
        tree_of(tree.root),
        tree.damage,
        ksef_number=legible(ksef_number) if ksef_number else None,
        accepted_at=accepted_at,
        mode=legible(mode) if mode else None,
    )
    try:
        whole = spoken(page, codes)
        return press.pdf(whole, drawn=len(whole) - len(spoken(page, ())), apart=apart)
    except press.NotSet as fault:
        raise NotPrintable(
            f"Nie udało się złożyć wydruku faktury ({fault}).",
            action="Zgłoś to wraz z plikiem XML; sama faktura jest bezpieczna.",
        ) from None
