"""A whole page from an invoice's tree: which sections, in which order. Pure; the same invoice gives the same page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from . import head, lines, parties, payment, tail, terms, totals, ubl, words
from .blocks import Block, facts, heading, texts
from .figures import moment_of, years_day
from .legible import MISSING
from .source import Node

_NOTE = "Wizualizacja faktury sporządzona na podstawie pliku XML."
# PDF/A wants a date, and equal invoices must give equal bytes: the day of FA(3)'s first invoice stands for none.
_NO_DATE = date(2026, 2, 1)


@dataclass(frozen=True, repr=False)
class Code:
    """A QR code on the page: its link and the label under it (KSeF number, OFFLINE, CERTYFIKAT)."""

    url: str
    label: str


@dataclass(frozen=True, repr=False)
class Page:
    """What page.typ sets: ``title`` and ``author`` for the file's own data, ``dated`` its day, the rest is seen."""

    title: str
    author: str
    dated: date
    kind: str
    number: str
    running: str
    ksef: list[list[str]]
    note: str
    blocks: list[Block]


def page_of(
    root: Node,
    damage: Sequence[str],
    *,
    ksef_number: str | None,
    accepted_at: datetime | None,
    mode: str | None,
) -> Page:
    """The page of the invoice below ``root``. ``damage``: what had to be mended to read it, in Polish."""
    is_ubl = root.name in ("Invoice", "CreditNote")
    dated = _dated(root)
    author = root.look("Podmiot1/DaneIdentyfikacyjne/Nazwa") or root.look(
        "AccountingSupplierParty/Party/PartyLegalEntity/RegistrationName"
    )
    kind, number, blocks = _of_ubl(root) if is_ubl else _of_fa(root)
    remarks = [f"Uwaga: {text}." for text in damage]
    file = tail.of_the_file(root)
    blocks += tail.rest(root)
    if MISSING in repr((number, blocks)):
        remarks.append(f"Znaki spoza użytego kroju pisma zastąpiono znakiem {MISSING}; ich brzmienie jest w pliku XML.")
    return Page(
        title=f"{kind} {number}".strip(),
        author=author,
        dated=dated,
        kind=kind,
        number=number,
        running=" · ".join(filter(None, (f"{kind} {number}".strip(), ksef_number))),
        ksef=_ksef(ksef_number, accepted_at, mode),
        note=_NOTE,
        blocks=[*texts(remarks, "strong"), *blocks, *texts([file], "small")],
    )


def _ksef(number: str | None, accepted_at: datetime | None, mode: str | None) -> list[list[str]]:
    """What KSeF, and whoever stands in for it, says of the invoice: names with values."""
    missing = "nie jest nadawany" if mode == "awaria całkowita" else "nie został jeszcze nadany"
    said = [
        ["Numer KSeF", number or missing],
        ["Przyjęto w KSeF", moment_of(accepted_at) if accepted_at is not None else ""],
        ["Tryb wystawienia", words.MODES.get(mode, mode) if mode else ""],
    ]
    return [[name, value] for name, value in said if value]


def _dated(root: Node) -> date:
    for path in ("Fa/P_1", "FakturaRR/P_4B", "IssueDate", "Naglowek/DataWytworzeniaFa"):
        found = years_day(root.look(path))
        if found is not None:
            return found
    return _NO_DATE


def _of_fa(root: Node) -> tuple[str, str, list[Block]]:
    # A lost end tag moves the body deeper.
    fa = root.nearest("Fa") or root.nearest("FakturaRR") or Node("Fa")
    farmers = fa.name == "FakturaRR"
    code = fa.take("RodzajFaktury")
    currency = fa.look("KodWaluty")
    number = fa.take("P_4C" if farmers else "P_2")
    correction = code.startswith("KOR")
    of_rows, of_all = tail.extras_by_row(fa)
    if farmers:
        rows = lines.lines(fa.each("FakturaRRWiersz"), lines.FARMERS, of_rows, correction=correction)
        sums = totals.farmers_sums(fa, code, currency)
    else:
        rows = lines.lines(fa.each("FaWiersz"), lines.FA, of_rows, correction=correction)
        sums = totals.sums(fa, code, currency)
    blocks = [
        *facts(head.dates(fa, code, farmers=farmers)),
        *parties.parties(root, farmers=farmers),
        *head.correction(fa, code, currency),
        *heading("Pozycje", rows),
        *lines.order(fa, currency, of_rows, correction=correction),
        *head.advances(fa, currency),
        *sums,
        *totals.notes_in_words(fa),
        *totals.settlement(fa, currency),
        *payment.payment(fa, currency, farmers=farmers),
        *payment.documents(fa),
        *terms.terms(fa),
        *tail.extras(of_rows, of_all),
        *tail.attachments(root),
        *tail.footer(root),
    ]
    return words.KINDS.get(code, f"Faktura ({code})" if code else "Faktura"), number, blocks


def _of_ubl(root: Node) -> tuple[str, str, list[Block]]:
    kind = ubl.kind(root)
    number = root.take("ID")
    blocks = [
        *facts(ubl.dates(root)),
        *ubl.parties(root),
        *ubl.corrected(root),
        *ubl.lines(root),
        *ubl.sums(root),
        *ubl.payment(root),
        *ubl.documents(root),
        *ubl.notes(root),
    ]
    return kind, number, blocks
