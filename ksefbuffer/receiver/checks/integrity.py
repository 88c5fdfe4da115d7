"""Is the file the one that KSeF has, and can it be read? (Z54-Z57). Source: FACTS §7.4, §8."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from ...invoice.identifiers import collapse
from .case import Case, CheckFunction, Hit, shown
from .catalogue import Severity

_FA3_SINCE = date(2026, 2, 1)


def attachment(case: Case) -> Iterator[Hit]:
    """Z54."""
    if case.metadata is None or not case.is_whole or case.metadata.has_attachment == case.received.has_attachment:
        return
    there = case.received.has_attachment
    yield Hit(
        "Zalacznik", {"opis": "jest w pliku, a KSeF go nie podaje" if there else "podaje KSeF, a w pliku go brak"}
    )


def other_bytes(case: Case) -> Iterator[Hit]:
    """Z55."""
    if case.metadata is not None and case.metadata.sha256_hex.casefold() != case.metadata.stored_sha256_hex.casefold():
        yield Hit("")


def other_data(case: Case) -> Iterator[Hit]:
    """Z56. What the file lacks is not compared: it may be a form that is read in part. Totals of a FA_RR and a PEF
    could mean more than one field, so only those of FA are."""
    told, received = case.metadata, case.received
    if told is None:
        return
    differing: list[str] = []

    def compare(name: str, ours: object, theirs: object) -> None:
        if ours and theirs and ours != theirs:
            differing.append(name)

    compare("NIP sprzedawcy", received.seller.nip, told.seller_nip)
    if told.buyer_id_type.casefold() == "nip":
        compare("NIP nabywcy", received.buyer.nip, told.buyer_id_value)
    elif received.buyer.nip and case.form in "32" and told.buyer_id_type:
        differing.append("NIP nabywcy")
    compare("numer", received.invoice_number, collapse(told.invoice_number))
    compare("data wystawienia", received.issue_date, told.issue_date)
    compare("waluta", received.currency.upper(), told.currency.upper())
    if case.form in "32" and received.gross is not None and told.gross is not None and received.gross != told.gross:
        differing.append("kwota należności")
    if differing:
        yield Hit("", {"pola": ", ".join(differing)})


def unreadable(case: Case) -> Iterator[Hit]:
    """Z57; what was mended on reading is a note."""
    received = case.received
    told = case.metadata.form_code if case.metadata else ""
    form = shown(told or received.form_named) or "bez nazwy"
    if not received.readable:
        yield Hit("", {"opis": ", ".join(received.damage) or "to nie jest plik XML"}, variant="unread")
    elif not received.form:
        yield Hit("Naglowek/KodFormularza", {"formcode": form})
    elif case.form == "2" and received.issue_date is not None and received.issue_date >= _FA3_SINCE:
        values = {"formcode": form, "p1": str(received.issue_date)}
        yield Hit("Naglowek/KodFormularza", values, variant="late")
    if received.readable and received.damage:
        yield Hit("", {"opis": ", ".join(received.damage)}, variant="mended", severity=Severity.I)


CHECKS: dict[str, CheckFunction] = {
    "Z54": attachment,
    "Z55": other_bytes,
    "Z56": other_data,
    "Z57": unreadable,
}
