"""Received invoices as lines of a list for a spreadsheet: UTF-8 CSV, semicolons, in which nothing is a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from ksefbuffer.queue.incoming import Incoming

LIST_NAME = "spis.csv"
# A spreadsheet takes the list for UTF-8 only by this mark.
MARK = "\ufeff".encode()
HEADINGS = (
    "Numer KSeF",
    "Numer faktury",
    "Rodzaj",
    "Data wystawienia",
    "Data przyjęcia w KSeF",
    "NIP sprzedawcy",
    "Sprzedawca",
    "Kwota brutto",
    "Waluta",
    "Katalog",
    "Etykiety",
    "Ocena",
    "Decyzja",
    "Komentarz",
    "Plik",
)
DECISIONS = {"accepted": "przyjęta", "rejected": "odrzucona", "scam": "oszustwo"}

_WARSAW = ZoneInfo("Europe/Warsaw")
_RISKY = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def row_of(one: Incoming, name: str) -> tuple[str, ...]:
    """The line of an invoice, in the order of HEADINGS, safe to be opened in a spreadsheet."""
    return (
        as_text(one.ksef_number),
        as_text(one.invoice_number),
        as_text(one.invoice_type),
        one.issue_date.isoformat() if one.issue_date else "",
        _moment(one.acquired_at),
        as_text(one.seller_nip),
        as_text(one.seller_name),
        _amount(one.gross),
        as_text(one.currency),
        as_text(one.folder),
        as_text(", ".join(one.tags)),
        one.verdict,
        DECISIONS.get(one.decision or "", ""),
        as_text(one.comment or ""),
        as_text(name),
    )


def as_text(text: str) -> str:
    """A cell that no spreadsheet takes for a formula, whatever a seller wrote."""
    text = text.replace("\0", "")
    return f"'{text}" if text.startswith(_RISKY) or text.lstrip().startswith(_RISKY) else text


def line(cells: Sequence[str]) -> bytes:
    """The cells as a line of the list."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=";", lineterminator="\r\n").writerow(cells)
    return text.getvalue().encode("utf-8", "replace")


def _amount(amount: Decimal | None) -> str:
    return "" if amount is None else f"{amount:.2f}".replace(".", ",")


def _moment(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone(_WARSAW).strftime("%Y-%m-%d %H:%M:%S")
