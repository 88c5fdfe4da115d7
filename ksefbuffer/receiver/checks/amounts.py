"""Sums, rates and tax (Z32-Z38). Silent wherever more than one way of counting is lawful. Source: FA3-FIELDS §9."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from ...invoice.received import Row
from ...invoice.rules.case import in_polish
from .case import CENT, ZERO, Case, CheckFunction, Hit, amount, shown

_HUNDRED = Decimal(100)
_SPLIT_PAYMENT_FROM = Decimal(15000)


@dataclass(frozen=True)
class Rate:
    """One place of the summary; ``percents`` is empty where there is no VAT to count."""

    name: str
    net: str
    vat: str = ""
    percents: tuple[int, ...] = ()


_RATES = (
    Rate("23%", "P_13_1", "P_14_1", (23, 22)),
    Rate("8%", "P_13_2", "P_14_2", (8, 7)),
    Rate("5%", "P_13_3", "P_14_3", (5,)),
    Rate("4%", "P_13_4", "P_14_4", (4, 3)),
    Rate("OSS", "P_13_5", "P_14_5"),
    Rate("0 KR", "P_13_6_1"),
    Rate("0 WDT", "P_13_6_2"),
    Rate("0 EX", "P_13_6_3"),
    Rate("zw", "P_13_7"),
    Rate("np I", "P_13_8"),
    Rate("np II", "P_13_9"),
    Rate("oo", "P_13_10"),
)
_TAXED = tuple(rate for rate in _RATES if rate.percents)
_OSS = _RATES[4]
_RATE_OF = {
    **{str(percent): rate for rate in _TAXED for percent in rate.percents},
    **{rate.name: rate for rate in _RATES[5:]},
}


def _is_margin(case: Case) -> bool:
    return case.body.has("P_13_11") or case.flag("Adnotacje/PMarzy/P_PMarzy")


def _settles(case: Case) -> bool:
    return case.kind in ("ROZ", "KOR_ROZ") or case.body.has("FakturaZaliczkowa") or case.body.has("ZaliczkaCzesciowa")


def total(case: Case) -> Iterator[Hit]:
    """Z32. A settlement may show the whole sale in its sums and what is left of it in P_15, never more. Of corrections
    of advances and settlements nothing is said."""
    due = case.gross
    if case.kind in ("KOR_ZAL", "KOR_ROZ") or not case.is_whole or due is None:
        return
    if _is_margin(case) or case.body.has("P_13_5"):
        return
    names = [name for rate in _RATES for name in (rate.net, rate.vat) if name and case.body.has(name)]
    parts = [case.number(name) for name in names]
    if not parts or None in parts:
        return
    whole = sum((part for part in parts if part is not None), ZERO)
    difference = due - whole
    if _settles(case) and difference < ZERO <= due:
        return
    if abs(difference) > 2 * CENT:
        yield Hit("Fa/P_15", {"p15": in_polish(due), "suma": in_polish(whole)})


def tax(case: Case) -> Iterator[Hit]:
    """Z33. Not of corrections: one may mend the tax alone."""
    if case.corrects or not case.is_whole:
        return
    order = case.body.rows("Zamowienie/ZamowienieWiersz")
    counted = len(case.lines) + len(order)
    counted += len(case.body.rows("FakturaZaliczkowa")) + len(case.body.rows("ZaliczkaCzesciowa"))
    tolerance = CENT * max(1, counted)
    written = {row.first("P_12") for row in case.lines} | {row.first("P_12Z") for row in order}
    for rate in _TAXED:
        net, vat = case.number(rate.net), case.number(rate.vat)
        if net is None or vat is None:
            continue
        used = [percent for percent in rate.percents if str(percent) in written]
        expected = [net * percent / _HUNDRED for percent in used or rate.percents]
        if any(abs(vat - one) <= tolerance for one in expected):
            continue
        # Lines with both rates of this place: the tax is somewhere between.
        if len(used) > 1 and min(expected) <= vat <= max(expected):
            continue
        percent = f"{(used or rate.percents)[0]}%"
        amounts = {"vat": in_polish(vat), "oczek": in_polish(expected[0].quantize(CENT))}
        yield Hit(f"Fa/{rate.vat}", {"st": percent} | amounts)


def sums_of_lines(case: Case) -> Iterator[Hit]:
    """Z34. Nothing of advances and settlements, whose sums are not those of the lines, and of corrections only when
    they show the lines before and after."""
    if case.kind not in ("VAT", "UPR", "KOR") or not case.lines or not case.is_whole:
        return
    if _is_margin(case) or _settles(case):
        return
    if case.corrects and not any(_before(row) for row in case.lines):
        return
    groups: dict[Rate, list[Row]] = {}
    for row in case.lines:
        rate = _rate_of(row)
        if rate is None:
            return
        groups.setdefault(rate, []).append(row)
    for rate, rows in groups.items():
        yield from _sum_of(case, rate, rows)


def _rate_of(row: Row) -> Rate | None:
    text = row.first("P_12")
    if text:
        return _RATE_OF.get(text)
    return _OSS if row.has("P_12_XII") else None


def _before(row: Row) -> bool:
    return row.first("StanPrzed") == "1"


def _sum_of(case: Case, rate: Rate, rows: list[Row]) -> Iterator[Hit]:
    declared = case.number(rate.net)
    if declared is None:
        return
    vat = (case.number(rate.vat) if rate.vat else None) or ZERO
    tolerance = CENT * len(rows)
    net, gross = _added(rows, "P_11"), _added(rows, "P_11A")
    if gross is not None and abs(gross - declared - vat) <= tolerance:
        # Lines counted from gross may show a net value rounded line by line; their gross sum is the one to trust.
        return
    if net is not None:
        if abs(net - declared) > tolerance:
            amounts = {"suma": in_polish(net), "p13": in_polish(declared)}
            yield Hit(f"Fa/{rate.net}", amounts | {"st": rate.name})
    elif gross is not None:
        amounts = {"suma": in_polish(gross), "p13": in_polish(declared + vat)}
        yield Hit(f"Fa/{rate.net}", amounts | {"st": rate.name})


def _added(rows: list[Row], name: str) -> Decimal | None:
    """The sum over lines, those before a correction counted negative; None when a line lacks it."""
    added = ZERO
    for row in rows:
        value = amount(row.first(name))
        if value is None:
            return None
        added += -value if _before(row) else value
    return added


def no_lines(case: Case) -> Iterator[Hit]:
    """Z35. A rebate on a period or on many invoices (art. 106j ust. 3), and a correction of names, numbers or of
    nothing in money, needs no lines."""
    if case.lines or not case.is_whole or case.kind not in ("VAT", "ROZ", "UPR", "KOR"):
        return
    if case.kind == "KOR" and (
        any(case.body.has(name) for name in ("OkresFaKorygowanej", "Podmiot1K", "Podmiot2K", "NrFaKorygowany"))
        or len(case.received.corrected) > 1
        or not case.gross
    ):
        return
    yield Hit("Fa/FaWiersz")


def not_in_zloty(case: Case) -> Iterator[Hit]:
    """Z36."""
    currency = case.received.currency
    if currency in ("", "PLN") or not case.is_whole:
        return
    for rate in _TAXED:
        vat = case.number(rate.vat)
        if vat is not None and vat > ZERO and not case.body.first(f"{rate.vat}W"):
            yield Hit(f"Fa/{rate.vat}W", {"waluta": shown(currency, 10)})
            return


def exemption(case: Case) -> Iterator[Hit]:
    """Z37."""
    if not case.is_whole:
        return
    rates = [row.first("P_12") for row in case.lines]
    exempt = "zw" in rates or bool(case.number("P_13_7"))
    ground = "Adnotacje/Zwolnienie/P_19"
    if exempt:
        if not case.flag(ground) or not any(case.body.first(ground + letter) for letter in "ABC"):
            yield Hit("Fa/Adnotacje/Zwolnienie")
    elif case.flag(ground) and case.kind == "VAT" and rates and all(rates):
        yield Hit(f"Fa/{ground}", variant="reverse")


def split_payment(case: Case) -> Iterator[Hit]:
    """Z38."""
    gross = case.gross
    if case.flag("Adnotacje/P_18A"):
        if case.body.first("Platnosc/FormaPlatnosci") == "1" and not case.corrects:
            yield Hit("Fa/Platnosc/FormaPlatnosci", {"opis": "faktura z jego oznaczeniem ma być zapłacona gotówką"})
        return
    if case.corrects or gross is None or gross <= _SPLIT_PAYMENT_FROM or case.received.currency != "PLN":
        return
    marked = [*case.body.values("FaWiersz/P_12_Zal_15")]
    marked += case.body.values("Zamowienie/ZamowienieWiersz/P_12Z_Zal_15")
    if "1" in marked:
        opis = "powyżej 15 000 zł są towary lub usługi z załącznika nr 15, a oznaczenia brak"
        yield Hit("Fa/Adnotacje/P_18A", {"opis": opis})


CHECKS: dict[str, CheckFunction] = {
    "Z32": total,
    "Z33": tax,
    "Z34": sums_of_lines,
    "Z35": no_lines,
    "Z36": not_in_zloty,
    "Z37": exemption,
    "Z38": split_payment,
}
