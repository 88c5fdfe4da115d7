"""Keys under which stored invoices are found again; what stores an invoice and what judges one must use the same."""

from __future__ import annotations

import hashlib

from ...invoice.deliveries import deliveries, digits_form, exact_form
from ...invoice.places import BUILT_IN, Vocabulary
from ...invoice.received import Received

# A number shorter than this ("12", "3/26") repeats by itself.
_SHORTEST_KEY = 4
# Free text and transport orders name a delivery for people; many invoices may share one.
_OF_ONE_DELIVERY = ("Fa/WZ", "Fa/DodatkowyOpis", "Fa/WarunkiTransakcji/Zamowienia")
# What two issues of one invoice may differ in: its number, its dates, its means of payment, its ids of rows.
_NOT_COMPARED = frozenset(
    ("Naglowek", "P_2", "P_1", "P_1M", "Platnosc", "UU_ID", "NrFaKorygowany", "Zalacznik", "P_4B", "P_4C")
)
_MAX_DEPTH = 12


def delivery_keys(received: Received, words: Vocabulary = BUILT_IN) -> tuple[str, ...]:
    """The numbers of deliveries by which an invoice is found again: exact forms from WZ, DodatkowyOpis and order
    numbers, none that is too short to tell anything."""
    return tuple(
        one.exact
        for one in deliveries(received, words)
        if one.where.startswith(_OF_ONE_DELIVERY) and len(one.exact) >= _SHORTEST_KEY
    )


def reference_forms(text: str) -> frozenset[str]:
    """Both forms of a number of an order or a delivery, as lists of known ones hold them."""
    return frozenset(form for form in (exact_form(text), digits_form(exact_form(text))) if form)


def likeness(received: Received) -> str:
    """A hash (64 hex digits) of everything that an invoice says but its number, dates of issue, payment and attachment:
    equal for one sale invoiced twice. "" where there are no lines to compare."""
    known: str | None = received.memo.get("likeness")
    if known is None:
        known = received.memo["likeness"] = _likeness(received)
    return known


def _likeness(received: Received) -> str:
    if not received.line_texts:
        return ""
    texts: list[str] = []
    for name in ("Podmiot1", "Podmiot2", "Podmiot3", "Fa", "FakturaRR", "Stopka"):
        for row in received.rows(name):
            texts += row.said(_NOT_COMPARED, _MAX_DEPTH)
    return hashlib.sha256("\n".join(texts).encode("utf-8", errors="replace")).hexdigest()
