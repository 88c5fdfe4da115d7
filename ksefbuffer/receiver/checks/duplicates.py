"""The same thing invoiced before? (Z29-Z31.) Source: FACTS §4.4 (KSeF's own key), FA3-FIELDS §4."""

from __future__ import annotations

from collections.abc import Iterator

from ...invoice.names import number_key
from .archive import Known
from .case import MAX_ASKED, MAX_HITS, Case, CheckFunction, Hit, days_from, shown
from .keys import delivery_keys, likeness

_SAME_SALE_WITHIN = 14  # days


def same_number(case: Case) -> Iterator[Hit]:
    """Z29: KSeF itself refuses the same number spelled the same way; here spelling does not count."""
    nip, number = case.seller_nip, case.invoice_number
    kinds = _kinds(case)
    for known in _numbered(case):
        if _folded(known.invoice_type) in kinds and case.is_earlier(known):
            values = {"nr": shown(number), "nip": shown(nip, 20), "ksef": shown(known.ksef_number)}
            yield Hit("Fa/P_2", values)
            return


def same_number_other_kind(case: Case) -> Iterator[Hit]:
    """Z30; KSeF allows it."""
    kinds = _kinds(case)
    for known in _numbered(case)[:MAX_HITS]:
        if _folded(known.invoice_type) not in kinds and known.ksef_number != case.ksef_number:
            values = {"nr": shown(case.invoice_number), "rodzaj": shown(known.invoice_type)}
            yield Hit("Fa/P_2", values | {"ksef": shown(known.ksef_number)})


def _numbered(case: Case) -> list[Known]:
    if not case.seller_nip or not case.invoice_number:
        return []
    return list(case.archive.numbered(case.seller_nip, (number_key(case.invoice_number),)))


def _kinds(case: Case) -> frozenset[str]:
    """The document's word for its kind and KSeF's: KOR_ZAL is KorZal in the metadata, 380 of a PEF is VatPef."""
    told = case.metadata.invoice_type if case.metadata else ""
    return frozenset(_folded(kind) for kind in (case.kind, told) if kind)


def _folded(kind: str) -> str:
    return kind.replace("_", "").casefold()


def similar(case: Case) -> Iterator[Hit]:
    """Z31: the same amount for the same delivery, or word for word the same invoice, under another number."""
    if case.gross is None or case.issue_date is None or not case.gross:
        return
    since = days_from(case.issue_date, -_SAME_SALE_WITHIN)
    found: list[Known] = []
    keys = () if case.corrects else delivery_keys(case.received, case.knowledge.vocabulary)
    if keys:
        found.extend(case.archive.delivered(case.seller_nip, keys[:MAX_ASKED], since))
    elif key := likeness(case.received):
        found.extend(case.archive.alike(case.seller_nip, key, since))
    for known in found:
        if (
            known.gross == case.gross
            and known.currency == case.received.currency
            and _folded(known.invoice_type) in _kinds(case)
            and number_key(known.invoice_number) != number_key(case.invoice_number)
            and (known.issue_date is None or abs((known.issue_date - case.issue_date).days) <= _SAME_SALE_WITHIN)
            and case.is_earlier(known)
        ):
            yield Hit("Fa/P_15", {"ksef": shown(known.ksef_number)})
            return


CHECKS: dict[str, CheckFunction] = {
    "Z29": same_number,
    "Z30": same_number_other_kind,
    "Z31": similar,
}
