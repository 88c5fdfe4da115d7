"""What each RodzajFaktury must and must not hold (E09-E17). Source: FA3-FIELDS §8, §9."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

from ..document import Fields, date_of
from ..findings import Finding
from ..identifiers import collapse, ksef_number_ok
from ..wording import printable
from .case import CENT, ZERO, Case, flag, in_polish, number, row_number

_SIMPLIFIED_LIMIT = {"PLN": Decimal(450), "EUR": Decimal(100)}
_REQUIRED_IN_ROW = (("P_7",), ("P_8A",), ("P_8B",), ("P_9A", "P_9B"), ("P_11", "P_11A"), ("P_12", "P_12_XII"))

_ROWS_NAMED = 10
# KSeF 1.0 numbers follow no checksum, and are written with 35 characters too, when the inner hyphen is left out.
_KSEF2_SINCE = "20260201"


def check(case: Case) -> Iterator[Finding]:
    """E09-E17."""
    if case.corrects:
        yield from _correction(case)
    else:
        yield from _no_correction(case)
    if case.kind == "ZAL":
        yield from _advance(case)
    if "FakturaZaliczkowa" in case.fa or case.kind == "ROZ":
        yield from _settlement(case)
    if case.kind == "UPR":
        yield from _simplified(case)
    yield from _rows(case)


def _correction(case: Case) -> Iterator[Finding]:
    fa = case.fa
    originals: list[Fields] = fa.get("DaneFaKorygowanej", [])
    if not originals:
        yield case.warn(
            "E09",
            "Korekta: nie wskazano faktury korygowanej.",
            "Dodaj DaneFaKorygowanej: datę, numer i numer KSeF faktury korygowanej.",
            "Fa/RodzajFaktury",
        )
    issued = case.header.issue_date
    for index, original in enumerate(originals, 1):
        path = f"Fa/DaneFaKorygowanej[{index}]" if len(originals) > 1 else "Fa/DaneFaKorygowanej"
        number_at_ksef = original.get("NrKSeFFaKorygowanej")
        if number_at_ksef is not None:
            yield from _reference(case, "E09", "Korekta", collapse(number_at_ksef), f"{path}/NrKSeFFaKorygowanej")
            if case.header.seller_nip and collapse(number_at_ksef)[:10] != case.header.seller_nip:
                yield case.warn(
                    "E09",
                    "Korekta: numer KSeF faktury korygowanej należy do innego sprzedawcy.",
                    "Pierwsze 10 znaków numeru KSeF to NIP sprzedawcy; przepisz numer z faktury korygowanej.",
                    f"{path}/NrKSeFFaKorygowanej",
                )
        original_date = date_of(original.get("DataWystFaKorygowanej"))
        if original_date and issued and original_date > issued:
            yield case.warn(
                "E09",
                f"Korekta: faktura korygowana ma datę {original_date}, późniejszą niż korekta.",
                "Popraw datę faktury korygowanej.",
                f"{path}/DataWystFaKorygowanej",
            )
    missing = [
        what
        for what, name in (("przyczyny korekty", "PrzyczynaKorekty"), ("typu korekty", "TypKorekty"))
        if name not in fa
    ]
    if missing:
        yield case.warn(
            "E11",
            f"Brak {' i '.join(missing)}.",
            "Typ korekty (TypKorekty) mówi, w którym okresie ująć ją w VAT; przyczyna pomaga nabywcy.",
            "Fa/RodzajFaktury",
        )


def _reference(case: Case, code: str, what: str, ksef_number: str, path: str) -> Iterator[Finding]:
    """The checksum; the schema has checked the shape."""
    if len(ksef_number) == 35 and ksef_number[11:19] >= _KSEF2_SINCE and not ksef_number_ok(ksef_number):
        yield case.warn(
            code,
            f"{what}: numer KSeF {printable(ksef_number)} ma błędną sumę kontrolną.",
            "Przepisz numer KSeF bez błędu, najlepiej wprost z UPO.",
            path,
        )


def _no_correction(case: Case) -> Iterator[Finding]:
    found: list[str] = [name for name in ("DaneFaKorygowanej", "P_15ZK") if name in case.fa]
    if any("StanPrzed" in row for row in case.rows):
        found.append("StanPrzed")
    if found and case.kind:
        yield case.warn(
            "E10",
            f"Pola korekty ({', '.join(found)}) na fakturze rodzaju {case.kind}.",
            "Dla korekty ustaw RodzajFaktury KOR, KOR_ZAL lub KOR_ROZ; inaczej usuń te pola.",
            f"Fa/{found[0]}" if found[0] in case.fa else "Fa/RodzajFaktury",
        )


def _advance(case: Case) -> Iterator[Finding]:
    order: Fields | None = case.fa.get("Zamowienie")
    if order is None:
        yield case.warn(
            "E12",
            "Faktura zaliczkowa bez danych zamówienia.",
            "Dodaj Zamowienie z wartością i pozycjami zamówienia lub umowy.",
            "Fa/RodzajFaktury",
        )
    paid = case.header.gross
    if paid is not None and paid <= ZERO:
        yield case.warn(
            "E12",
            f"Faktura zaliczkowa na kwotę {in_polish(paid)}.",
            "P_15 to otrzymana zaliczka; zmniejszenie zaliczki dokumentuje korekta KOR_ZAL.",
            "Fa/P_15",
        )
    if order is None:
        return
    rows: list[Fields] = order.get("ZamowienieWiersz", [])
    value = number(order, "WartoscZamowienia")
    nets = [number(row, "P_11NettoZ") for row in rows]
    if value is None or any(net is None for net in nets):
        return
    total = sum((net for net in nets if net is not None), ZERO)
    total += sum((number(row, "P_11VatZ") or ZERO for row in rows), ZERO)
    if abs(value - total) > CENT * len(rows):
        yield case.warn(
            "E12",
            f"Wartość zamówienia {in_polish(value)} ≠ suma jego pozycji z VAT {in_polish(total)}.",
            "WartoscZamowienia to suma P_11NettoZ i P_11VatZ wszystkich pozycji.",
            "Fa/Zamowienie/WartoscZamowienia",
        )


def _settlement(case: Case) -> Iterator[Finding]:
    advances: list[Fields] = case.fa.get("FakturaZaliczkowa", [])
    if case.kind == "ROZ" and not advances and "ZaliczkaCzesciowa" not in case.fa:
        yield case.warn(
            "E13",
            "Faktura rozliczeniowa bez wskazania faktur zaliczkowych.",
            "Dodaj FakturaZaliczkowa z numerami KSeF zaliczek.",
            "Fa/RodzajFaktury",
        )
    for index, advance in enumerate(advances, 1):
        ksef_number = advance.get("NrKSeFFaZaliczkowej")
        if ksef_number is not None:
            path = f"Fa/FakturaZaliczkowa[{index}]" if len(advances) > 1 else "Fa/FakturaZaliczkowa"
            yield from _reference(
                case, "E13", "Faktura zaliczkowa", collapse(ksef_number), f"{path}/NrKSeFFaZaliczkowej"
            )


def _simplified(case: Case) -> Iterator[Finding]:
    limit = _SIMPLIFIED_LIMIT.get(case.header.currency or "")
    gross = case.header.gross
    if limit is not None and gross is not None and gross > limit:
        yield case.warn(
            "E14",
            f"Faktura uproszczona na {in_polish(gross)}, powyżej 450 zł (100 EUR).",
            "Wystaw zwykłą fakturę (RodzajFaktury VAT) z pełnymi danymi nabywcy.",
            "Fa/P_15",
        )
    if not {"NIP", "NrVatUE"} & case.buyer_id.keys():
        yield case.warn(
            "E14",
            "Faktura uproszczona bez NIP nabywcy.",
            "Faktura uproszczona musi zawierać NIP nabywcy.",
            "Podmiot2/DaneIdentyfikacyjne",
        )


def _rows(case: Case) -> Iterator[Finding]:
    if not case.rows:
        if case.kind in ("VAT", "UPR", "ROZ"):
            yield case.warn("E15", "Faktura nie ma pozycji.", "Dodaj co najmniej jeden FaWiersz.", "Fa/RodzajFaktury")
    else:
        yield from _repeated_numbers(case, case.rows, "NrWierszaFa", "StanPrzed", "Fa/FaWiersz")
        # UPR and margin invoices may leave these out (106e 2, 3, 5); corrections show only what changes.
        margin = flag(case.annotations.get("PMarzy", {}), "P_PMarzy") or "P_13_11" in case.fa
        if case.kind in ("VAT", "ROZ") and not margin:
            yield from _incomplete_rows(case)
    order_rows: list[Fields] = case.fa.get("Zamowienie", {}).get("ZamowienieWiersz", [])
    if order_rows:
        yield from _repeated_numbers(case, order_rows, "NrWierszaZam", "StanPrzedZ", "Fa/Zamowienie/ZamowienieWiersz")


def _incomplete_rows(case: Case) -> Iterator[Finding]:
    for names in _REQUIRED_IN_ROW:
        lacking = [index for index, row in enumerate(case.rows) if names[0] not in row and names[-1] not in row]
        if not lacking:
            continue
        numbers = ", ".join(row_number(case.rows[index]) for index in lacking[:_ROWS_NAMED])
        more = f" i {len(lacking) - _ROWS_NAMED} innych" if len(lacking) > _ROWS_NAMED else ""
        yield case.warn(
            "E16",
            f"{'Pozycja' if len(lacking) == 1 else 'Pozycje'} {numbers}{more}: brak pola {' lub '.join(names)}.",
            "Ustawa wymaga nazwy, miary, ilości, ceny, wartości i stawki; uzupełnij pozycję w ERP.",
            case.row_path(lacking[0]),
        )


def _repeated_numbers(case: Case, rows: list[Fields], name: str, before: str, path: str) -> Iterator[Finding]:
    """A row before a correction and the one after it may share their number."""
    if len({row.get(name) for row in rows}) == len(rows):
        return
    numbers = Counter((row_number(row, name), before in row) for row in rows)
    for (repeated, _), count in numbers.items():
        if count > 1:
            places = [index for index, row in enumerate(rows) if row_number(row, name) == repeated]
            yield case.warn(
                "E17",
                f"Powtórzony numer pozycji {repeated}.",
                "Każda pozycja powinna mieć własny numer.",
                case.row_path(places[-1], name, path),
            )
