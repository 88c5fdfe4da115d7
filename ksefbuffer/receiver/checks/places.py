"""Where the goods went (Z21-Z25). Source: FA3-FIELDS §2, §3, §6."""

from __future__ import annotations

from collections.abc import Iterator

from ...invoice.places import FREE_TEXT, Gln, gln_places
from ...invoice.wording import printable
from .case import Case, CheckFunction, Hit, shown

_BY = {"gln": "GLN", "idwew": "identyfikator", "number": "numer", "address": "adres"}


def foreign_gln(case: Case) -> Iterator[Hit]:
    """Z21; one with a zero supplied is wrong in the first place."""
    known = case.knowledge.all_glns
    for gln in _told(case) if known else ():
        if gln.value and not gln.padded and gln.value not in known:
            yield Hit(gln.where, {"gln": gln.value})


def wrong_gln(case: Case) -> Iterator[Hit]:
    """Z22; a zero that had to be supplied is a fault as well."""
    for gln in _told(case):
        if not gln.value or gln.padded:
            yield Hit(gln.where, {"gln": shown(gln.written, 30), "pole": printable(gln.where)})


def _told(case: Case) -> list[Gln]:
    """Each GLN once, of fields that are meant for it, or of a DodatkowyOpis of that name: a footer's is the seller's,
    and a customer number may be anything."""
    found = {
        gln.written: gln
        for gln in reversed(gln_places(case.received, case.knowledge.vocabulary))
        if gln.trust < FREE_TEXT
        or (gln.where.startswith("Fa/DodatkowyOpis") and any(sign.isdigit() for sign in gln.written))
    }
    return list(found.values())[::-1]


def contradicting_places(case: Case) -> Iterator[Hit]:
    """Z23. Sellers number their customers as they please, so a customer number contradicts nothing."""
    match = case.store
    others = [one for one in match.contradictions if not one.where.endswith("NrKlienta")]
    if match.store is None or not others or match.where.endswith("NrKlienta"):
        return
    told = [
        f"{_BY[match.by]} „{shown(match.value, 40)}” to sklep {match.store.number}" for _ in (match.by,) if match.by
    ]
    told += [f"{_BY[one.by]} „{shown(one.value, 40)}” to sklep {one.store.number}" for one in others[:3] if one.by]
    yield Hit(match.where, {"lista": ", ".join(told)})


def no_store(case: Case) -> Iterator[Hit]:
    """Z24; a correction belongs where its original does."""
    if not case.knowledge.stores.stores or case.supplier is None or not case.supplier.store_supplier or case.corrects:
        return
    if case.store.sure is None:
        yield Hit("Podmiot2")


def closed_store(case: Case) -> Iterator[Hit]:
    """Z25; of a period, when the store was closed at both ends. A correction without a date comes when it comes."""
    match = case.store
    days = case.received.delivery_dates
    if not days and case.received.issue_date is not None and not case.corrects:
        days = (case.received.issue_date,)
    store = match.sure
    if store is not None and days and not any(store.is_open(day) for day in days):
        yield Hit(match.where, {"nr": shown(store.number, 20), "data": str(days[-1])})


CHECKS: dict[str, CheckFunction] = {
    "Z21": foreign_gln,
    "Z22": wrong_gln,
    "Z23": contradicting_places,
    "Z24": no_store,
    "Z25": closed_store,
}
