"""Arithmetic that KSeF does not check (E18-E22, E25). Source: FA3-FIELDS §9.

Silence wherever more than one way of counting is lawful: corrections by difference, settlements, margins, OSS.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from ..document import Fields
from ..findings import Finding
from .case import CENT, ZERO, Case, flag, in_polish, number, row_number

HUNDRED = Decimal(100)


@dataclass(frozen=True)
class Rate:
    """One place of the summary: its rates, its fields; ``percents`` is empty where there is no VAT to count."""

    name: str
    net: str
    vat: str = ""
    percents: tuple[Decimal, ...] = ()


_RATES = (
    Rate("23%", "P_13_1", "P_14_1", (Decimal(23), Decimal(22))),
    Rate("8%", "P_13_2", "P_14_2", (Decimal(8), Decimal(7))),
    Rate("5%", "P_13_3", "P_14_3", (Decimal(5),)),
    Rate("4%", "P_13_4", "P_14_4", (Decimal(4), Decimal(3))),
    Rate("OSS", "P_13_5", "P_14_5"),
    Rate("0 KR", "P_13_6_1"),
    Rate("0 WDT", "P_13_6_2"),
    Rate("0 EX", "P_13_6_3"),
    Rate("zw", "P_13_7"),
    Rate("np I", "P_13_8"),
    Rate("np II", "P_13_9"),
    Rate("oo", "P_13_10"),
)
_WITH_VAT = tuple(rate for rate in _RATES if rate.percents)
_OSS = _RATES[4]
_RATE_OF = {
    "23": _RATES[0],
    "22": _RATES[0],
    "8": _RATES[1],
    "7": _RATES[1],
    "5": _RATES[2],
    "4": _RATES[3],
    "3": _RATES[3],
    **{rate.name: rate for rate in _RATES[5:]},
}
_MARGIN = "P_13_11"


def check(case: Case) -> Iterator[Finding]:
    """E18-E22 and E25."""
    if not case.corrects:
        yield from _row_values(case)
    yield from _sums_of_rates(case)
    if not case.corrects:
        yield from _vat_of_rates(case)
    yield from _total(case)
    yield from _foreign_currency(case)


def _row_values(case: Case) -> Iterator[Finding]:
    for index, row in enumerate(case.rows):
        quantity = number(row, "P_8B")
        if quantity is None:
            continue
        discount = number(row, "P_10") or ZERO
        wrong: tuple[str, Decimal, Decimal] | None = None
        for price_name, value_name in (("P_9A", "P_11"), ("P_9B", "P_11A")):
            price, value = number(row, price_name), number(row, value_name)
            if price is None or value is None:
                continue
            # P_10 is read both ways: off the row, or off the price.
            exact = quantity * price
            if exact == value and not discount:
                wrong = None
                break
            tolerance = CENT + abs(quantity) * _last_place(price) + _rounding_of_quantity(quantity) * abs(price)
            if abs(value - (exact - discount)) <= tolerance or abs(value - (exact - quantity * discount)) <= tolerance:
                # One pair that agrees is enough: the other is derived and rounded.
                wrong = None
                break
            wrong = wrong or (value_name, value, (exact - discount).quantize(CENT))
        if wrong is not None:
            name, value, expected = wrong
            yield case.warn(
                "E18",
                f"Pozycja {row_number(row)}: wartość {in_polish(value)} ≠ ilość × cena {in_polish(expected)}.",
                "Sprawdź ilość, cenę, rabat i wartość tej pozycji.",
                case.row_path(index, name),
            )


def _last_place(price: Decimal) -> Decimal:
    """The unit of the last written place: a price is the value divided by the quantity, and rounded there."""
    return min(CENT, Decimal(1).scaleb(int(price.as_tuple().exponent)))


def _rounding_of_quantity(quantity: Decimal) -> Decimal:
    """Half the last place of a quantity that looks measured (two places or more); whole numbers are counted."""
    exponent = int(quantity.normalize().as_tuple().exponent)
    return Decimal(5).scaleb(exponent - 1) if exponent <= -2 else ZERO


def _rate_of(row: Fields) -> Rate | None:
    text = row.get("P_12")
    if text is not None:
        return _RATE_OF.get(text) or _RATE_OF.get(text.strip())
    return _OSS if "P_12_XII" in row else None


def _rows_by_rate(case: Case) -> dict[Rate, list[Fields]] | None:
    """None when a row has no rate: then nothing can be said of any sum."""
    groups: dict[Rate, list[Fields]] = {}
    for row in case.rows:
        rate = _rate_of(row)
        if rate is None:
            return None
        groups.setdefault(rate, []).append(row)
    return groups


def _sums_of_rates(case: Case) -> Iterator[Finding]:
    """E19, and of E22 that every rate has its sum and every sum its rows. In settlements the sums are what is left
    after the advances, so nothing is compared there."""
    if case.kind not in ("VAT", "UPR", "KOR") or not case.rows:
        return
    if _MARGIN in case.fa or flag(case.annotations.get("PMarzy", {}), "P_PMarzy") or "FakturaZaliczkowa" in case.fa:
        return
    groups = _rows_by_rate(case)
    if groups is None:
        return
    for rate, rows in groups.items():
        if rate.net not in case.fa:
            if not case.corrects and any(number(row, "P_11") or number(row, "P_11A") for row in rows):
                yield case.warn(
                    "E22",
                    f"Stawka {rate.name}: jest w pozycjach, a brak jej podsumowania ({rate.net}).",
                    "Uzupełnij podsumowanie tej stawki albo popraw stawkę w pozycjach.",
                    case.row_path(case.rows.index(rows[0]), "P_12"),
                )
            continue
        yield from _sum_of_rate(case, rate, rows)
    if case.corrects:
        return
    for rate in _RATES:
        net = number(case.fa, rate.net)
        if net and rate not in groups:
            yield case.warn(
                "E22",
                f"Stawka {rate.name}: jest w podsumowaniu ({rate.net}), a nie ma jej żadna pozycja.",
                "Popraw stawki w pozycjach albo podsumowanie.",
                f"Fa/{rate.net}",
            )


def _sum_of_rate(case: Case, rate: Rate, rows: list[Fields]) -> Iterator[Finding]:
    declared = number(case.fa, rate.net)
    if declared is None:
        return
    name = "P_11" if all("P_11" in row for row in rows) else "P_11A" if all("P_11A" in row for row in rows) else ""
    if not name:
        return
    if name == "P_11A" and rate.vat:
        declared += number(case.fa, rate.vat) or ZERO
    total = ZERO
    for row in rows:
        value = number(row, name)
        if value is None:
            return
        total += -value if case.corrects and flag(row, "StanPrzed") else value
    if abs(total - declared) <= CENT * len(rows):
        return
    # Rows counted from gross may show a net value rounded row by row; their gross sum is then the one to trust.
    if name == "P_11" and rate.vat and all("P_11A" in row for row in rows):
        signed = (-1 if case.corrects and flag(row, "StanPrzed") else 1 for row in rows)
        gross = sum((sign * (number(row, "P_11A") or ZERO) for sign, row in zip(signed, rows, strict=True)), ZERO)
        if abs(gross - declared - (number(case.fa, rate.vat) or ZERO)) <= CENT * len(rows):
            return
    yield case.warn(
        "E19",
        f"Suma pozycji stawki {rate.name}: {in_polish(total)}, podsumowanie {in_polish(declared)}.",
        "Sprawdź wartości pozycji i podsumowanie stawki.",
        f"Fa/{rate.net}",
    )


def _vat_of_rates(case: Case) -> Iterator[Finding]:
    advances = len(case.fa.get("FakturaZaliczkowa", ())) + len(case.fa.get("ZaliczkaCzesciowa", ()))
    order: list[Fields] = case.fa.get("Zamowienie", {}).get("ZamowienieWiersz", [])
    tolerance = CENT * max(1, len(case.rows) + len(order) + advances)
    written = {row.get("P_12", "").strip() for row in case.rows} | {row.get("P_12Z", "").strip() for row in order}
    for rate in _WITH_VAT:
        net, vat = number(case.fa, rate.net), number(case.fa, rate.vat)
        if net is None or vat is None:
            continue
        used = [percent for percent in rate.percents if str(percent) in written]
        expected = [net * percent / HUNDRED for percent in used or rate.percents]
        if any(abs(vat - amount) <= tolerance for amount in expected):
            continue
        # Rows with both rates of this place: the tax is somewhere between.
        if len(used) > 1 and min(expected) <= vat <= max(expected):
            continue
        yield case.warn(
            "E20",
            f"Kwota VAT {rate.name}: {in_polish(vat)}, oczekiwano {in_polish(expected[0].quantize(CENT))}.",
            "Sprawdź podstawę i kwotę podatku tej stawki.",
            f"Fa/{rate.vat}",
        )


def _total(case: Case) -> Iterator[Finding]:
    """E21; P_15 of advances and settlements is what is paid or left, and margins and OSS show no VAT to add."""
    fa = case.fa
    if case.kind not in ("VAT", "UPR", "KOR") or _MARGIN in fa or "P_13_5" in fa:
        return
    if "FakturaZaliczkowa" in fa or "ZaliczkaCzesciowa" in fa:
        return
    declared = case.header.gross
    parts = [number(fa, name) for rate in _RATES for name in (rate.net, rate.vat) if name and name in fa]
    if declared is None or not parts or None in parts:
        return
    total = sum((part for part in parts if part is not None), ZERO)
    if abs(total - declared) > CENT:
        yield case.warn(
            "E21",
            f"Kwota należności {in_polish(declared)} ≠ suma {in_polish(total)}.",
            "P_15 to suma wartości netto i podatku wszystkich stawek; opłaty spoza faktury wpisz w Rozliczenie.",
            "Fa/P_15",
        )


def _foreign_currency(case: Case) -> Iterator[Finding]:
    foreign = case.header.currency not in (None, "PLN")
    for rate in _WITH_VAT:
        in_zloty = f"{rate.vat}W"
        if foreign and number(case.fa, rate.vat) and in_zloty not in case.fa:
            yield case.warn(
                "E25",
                f"Brak VAT w złotych ({in_zloty}).",
                "Na fakturze w walucie obcej podaj też kwotę podatku przeliczoną na złote.",
                f"Fa/{rate.vat}",
            )
        elif not foreign and in_zloty in case.fa:
            yield case.warn(
                "E25",
                f"Kwota VAT w złotych ({in_zloty}) na fakturze w złotych.",
                "To pole służy tylko fakturom w walucie obcej; usuń je.",
                f"Fa/{in_zloty}",
            )
    if "KursWalutyZ" in case.fa and case.kind not in ("ZAL", "KOR_ZAL"):
        yield case.warn(
            "E25",
            "Kurs waluty zaliczki (KursWalutyZ) na fakturze, która nie jest zaliczkowa.",
            "Kurs podaj w pozycjach (KursWaluty).",
            "Fa/KursWalutyZ",
        )
    if case.fa.get("WarunkiTransakcji", {}).get("WalutaUmowna", "").strip() == "PLN":
        yield case.warn(
            "E25",
            "Waluta umowna (WalutaUmowna) to PLN.",
            "Pole służy kwotom przeliczonym z obcej waluty; usuń je albo podaj tę walutę.",
            "Fa/WarunkiTransakcji/WalutaUmowna",
        )
