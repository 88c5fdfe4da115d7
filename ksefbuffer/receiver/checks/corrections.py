"""Corrections and their originals, settlements and their advances (Z41-Z45). Source: FA3-FIELDS §8, FACTS §12."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal

from ...invoice.identifiers import is_ksef_number_shape, ksef_number_ok
from ...invoice.names import number_key
from ...invoice.received import CorrectedInvoice
from .archive import Known
from .case import CENT, MAX_ASKED, MAX_HITS, ZERO, Case, CheckFunction, Hit, days_from, shown

# KSeF 1.0 numbers follow no checksum, and are written with 35 characters too, when the inner hyphen is left out.
_KSEF2_SINCE = "20260201"
_LATE_AT_KSEF = 31  # days


def no_original(case: Case) -> Iterator[Hit]:
    """Z41."""
    if not case.corrects or not case.is_whole:
        return
    originals = case.received.corrected
    if not originals:
        yield Hit("Fa/DaneFaKorygowanej")
        return
    unlinked = {number_key(one.number): one for one in originals[:MAX_ASKED] if one.without_ksef and one.number}
    for known in case.archive.numbered(case.seller_nip, tuple(unlinked)) if unlinked else ():
        named = unlinked.get(number_key(known.invoice_number))
        if named is None or known.ksef_number == case.ksef_number or _corrects(known):
            continue
        if named.issue_date is None or known.issue_date is None or named.issue_date == known.issue_date:
            values = {"nr": shown(named.number), "ksef": shown(known.ksef_number)}
            yield Hit("Fa/DaneFaKorygowanej/NrKSeFN", values, variant="known")
            return


def _corrects(known: Known) -> bool:
    return known.invoice_type.casefold().startswith("kor")


def _linked(case: Case) -> tuple[CorrectedInvoice, ...]:
    """The originals given by KSeF number."""
    return tuple(one for one in case.received.corrected[:MAX_ASKED] if one.ksef_number)


def _originals(case: Case) -> dict[str, Known]:
    """Those of them that are stored, by KSeF number."""
    numbers = tuple(one.ksef_number for one in _linked(case))
    return {known.ksef_number: known for known in case.archive.filed(numbers)} if numbers else {}


def unknown_original(case: Case) -> Iterator[Hit]:
    """Z42: at most MAX_HITS of them."""
    if not case.corrects:
        return
    known = _originals(case)
    hits = 0
    for original in _linked(case):
        number = original.ksef_number
        if number in known:
            continue
        variant = _wrong_number(number, case.seller_nip)
        if variant or _should_be_stored(case, original.issue_date):
            yield Hit("Fa/DaneFaKorygowanej/NrKSeFFaKorygowanej", {"ksef": shown(number)}, variant=variant)
            hits += 1
            if hits == MAX_HITS:
                return


def _wrong_number(number: str, seller_nip: str) -> str:
    if not is_ksef_number_shape(number) or (number[11:19] >= _KSEF2_SINCE and not ksef_number_ok(number)):
        return "crc"
    return "seller" if seller_nip and number[:10] != seller_nip else ""


def _should_be_stored(case: Case, issued: date | None) -> bool:
    since = case.archive.complete_since
    return since is not None and issued is not None and issued >= since


def buyer_changed(case: Case) -> Iterator[Hit]:
    """Z43. Podmiot2K may also be an additional buyer (role 4)."""
    if not case.corrects:
        return
    buyers = {case.buyer_nip} | {third.nip for third in case.received.thirds if third.role == "4"}
    for nip in case.body.values("Podmiot2K/DaneIdentyfikacyjne/NIP"):
        if case.buyer_nip and nip not in buyers:
            yield Hit("Fa/Podmiot2K/DaneIdentyfikacyjne/NIP", {"nip": shown(case.buyer_nip, 20), "byl": shown(nip, 20)})
            return
    for original in _originals(case).values():
        if case.buyer_nip and original.buyer_nip and original.buyer_nip not in buyers:
            values = {"nip": shown(case.buyer_nip, 20), "byl": shown(original.buyer_nip, 20)}
            yield Hit("Podmiot2/DaneIdentyfikacyjne/NIP", values | {"ksef": shown(original.ksef_number)})
            return


def more_than_original(case: Case) -> Iterator[Hit]:
    """Z44, of a correction of one stored original, which is no correction itself."""
    gross = case.gross
    if not case.corrects or gross is None or len(case.received.corrected) != 1:
        return
    for original in _originals(case).values():
        if original.gross is None or original.currency != case.received.currency or _corrects(original):
            continue
        left = original.gross + gross + _corrected_before(case, original)
        if (original.gross > ZERO and left < -2 * CENT) or (original.gross < ZERO and left > 2 * CENT):
            yield Hit("Fa/P_15", {"ksef": shown(original.ksef_number)})


def _corrected_before(case: Case, original: Known) -> Decimal:
    earlier = (
        known.gross
        for known in case.archive.corrections(original.ksef_number)
        if known.gross is not None and known.currency == original.currency and case.is_earlier(known)
    )
    return sum(earlier, ZERO)


def unknown_advance(case: Case) -> Iterator[Hit]:
    """Z45, of advances given by KSeF number. An invoice does not say when its advances were issued."""
    numbers = tuple(one.ksef_number for one in case.received.advances[:MAX_ASKED] if one.ksef_number)
    if not numbers or case.kind not in ("ROZ", "ZAL", "VAT"):
        return
    known = {one.ksef_number for one in case.archive.filed(numbers)}
    settled = {
        number: other.ksef_number
        for other in (case.archive.settlements(numbers) if case.kind != "ZAL" else ())
        if case.is_earlier(other)
        for number in other.keys
    }
    path = "Fa/FakturaZaliczkowa/NrKSeFFaZaliczkowej"
    for number in numbers[:MAX_HITS]:
        if number in settled:
            values = {"ksef": shown(number), "rozliczenie": shown(settled[number])}
            yield Hit(path, values, variant="settled")
        elif number not in known and (
            _wrong_number(number, case.seller_nip) or _should_be_stored(case, _issued_at_the_earliest(number))
        ):
            yield Hit(path, {"ksef": shown(number)})


def _issued_at_the_earliest(ksef_number: str) -> date | None:
    """By the date in the number, which is KSeF's and may be weeks after that of issue; None when it is no date."""
    try:
        taken = date(int(ksef_number[11:15]), int(ksef_number[15:17]), int(ksef_number[17:19]))
    except ValueError:
        return None
    return days_from(taken, -_LATE_AT_KSEF)


CHECKS: dict[str, CheckFunction] = {
    "Z41": no_original,
    "Z42": unknown_original,
    "Z43": buyer_changed,
    "Z44": more_than_original,
    "Z45": unknown_advance,
}
