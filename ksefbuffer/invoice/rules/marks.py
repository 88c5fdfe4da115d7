"""Dates, markers and annotations of the law (E22-E27). Source: FA3-FIELDS §8, §9."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from ..document import Fields, date_of
from ..findings import Finding
from .case import Case, flag, number

_SPLIT_PAYMENT_FROM = Decimal(15000)
_CREATED = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)?")
# Clocks of ERPs are not ours.
_CLOCK_TOLERANCE = timedelta(minutes=10)


def check(case: Case) -> Iterator[Finding]:
    """The buyer's side of E22, and E23, E24, E26, E27."""
    rates = {row.get("P_12", "").strip() for row in case.rows}
    yield from _rates_and_buyer(case, rates)
    yield from _exemption(case, rates)
    yield from _split_payment(case)
    yield from _dates(case)
    yield from _creation_time(case)
    yield from _annotations(case)


def _rates_and_buyer(case: Case, rates: set[str]) -> Iterator[Finding]:
    buyer = case.buyer_id
    if "oo" in rates and not flag(case.annotations, "P_18"):
        yield case.warn(
            "E22", "Stawka oo: brak oznaczenia „odwrotne obciążenie” (P_18=1).", "Ustaw P_18=1.", "Fa/Adnotacje/P_18"
        )
    if "oo" in rates and "NIP" not in buyer:
        yield case.warn(
            "E22",
            "Stawka oo: nabywca nie ma polskiego NIP.",
            "Krajowe odwrotne obciążenie dotyczy nabywcy z polskim NIP.",
            "Podmiot2/DaneIdentyfikacyjne",
        )
    if "np II" in rates and "NIP" in buyer:
        yield case.warn(
            "E22",
            "Stawka np II: nabywca ma polski NIP.",
            "np II to usługi dla podatników z innych krajów UE (art. 100 ust. 1 pkt 4); sprawdź stawkę albo nabywcę.",
            "Podmiot2/DaneIdentyfikacyjne/NIP",
        )
    if "0 EX" in rates and "NIP" in buyer:
        yield case.warn(
            "E22",
            "Stawka 0 EX: nabywca ma polski NIP.",
            "Eksport to zwykle dostawa dla nabywcy spoza UE; sprawdź stawkę albo nabywcę.",
            "Podmiot2/DaneIdentyfikacyjne/NIP",
        )
    if "0 WDT" in rates:
        if buyer.get("KodUE", "PL").strip() == "PL":
            yield case.warn(
                "E22",
                "Stawka 0 WDT: nabywca nie ma numeru VAT UE z innego kraju.",
                "Podaj KodUE i NrVatUE nabywcy.",
                "Podmiot2/DaneIdentyfikacyjne",
            )
        if "PrefiksPodatnika" not in case.seller:
            yield _no_prefix(case, "Stawka 0 WDT", "E22")


def _no_prefix(case: Case, what: str, code: str) -> Finding:
    return case.warn(
        code,
        f"{what}: brak przedrostka PL przy NIP sprzedawcy (PrefiksPodatnika).",
        "Dodaj PrefiksPodatnika PL w Podmiot1.",
        "Podmiot1",
    )


def _exemption(case: Case, rates: set[str]) -> Iterator[Finding]:
    exempt = "zw" in rates or bool(number(case.fa, "P_13_7"))
    ground = case.annotations.get("Zwolnienie", {})
    if exempt and not flag(ground, "P_19"):
        yield case.warn(
            "E23",
            "Sprzedaż zwolniona bez podstawy prawnej.",
            "Ustaw P_19=1 i podaj przepis w P_19A, P_19B lub P_19C.",
            "Fa/Adnotacje/Zwolnienie",
        )
    elif (
        case.kind == "VAT"
        and flag(ground, "P_19")
        and not exempt
        and case.rows
        and all("P_12" in row for row in case.rows)
    ):
        yield case.warn(
            "E23",
            "Podano podstawę zwolnienia (P_19=1), a żadna pozycja nie jest zwolniona.",
            "Ustaw P_19N=1 albo stawkę zw w pozycjach.",
            "Fa/Adnotacje/Zwolnienie/P_19",
        )


def _split_payment(case: Case) -> Iterator[Finding]:
    gross = case.header.gross
    if case.corrects or gross is None or gross <= _SPLIT_PAYMENT_FROM or case.header.currency != "PLN":
        return
    if flag(case.annotations, "P_18A") or not {"NIP", "NrVatUE"} & case.buyer_id.keys():
        return
    order: list[Fields] = case.fa.get("Zamowienie", {}).get("ZamowienieWiersz", [])
    if any(flag(row, "P_12_Zal_15") for row in case.rows) or any(flag(row, "P_12Z_Zal_15") for row in order):
        yield case.warn(
            "E24",
            "Wymagane oznaczenie „mechanizm podzielonej płatności” (P_18A=1).",
            "Faktura powyżej 15 000 zł zawiera towary lub usługi z załącznika nr 15; ustaw P_18A=1.",
            "Fa/Adnotacje/P_18A",
        )


def _dates(case: Case) -> Iterator[Finding]:
    fa, issued = case.fa, case.header.issue_date
    sold = date_of(fa.get("P_6"))
    if "P_6" in fa and any("P_6A" in row for row in case.rows):
        yield case.warn(
            "E26",
            "Daty: jest i wspólna data sprzedaży (P_6), i daty w pozycjach (P_6A).",
            "Podaj jedną: P_6 dla całej faktury albo P_6A w pozycjach.",
            "Fa/P_6",
        )
    if "OkresFa" in fa:
        begin, end = date_of(fa["OkresFa"].get("P_6_Od")), date_of(fa["OkresFa"].get("P_6_Do"))
        if begin and end and begin > end:
            yield case.warn(
                "E26", "Daty: okres faktury kończy się przed swoim początkiem.", "Popraw P_6_Od i P_6_Do.", "Fa/OkresFa"
            )
    if case.kind != "VAT" or sold is None or issued is None:
        return
    if sold > issued + timedelta(days=60):
        yield case.warn(
            "E26",
            f"Daty: sprzedaż {sold} jest ponad 60 dni po wystawieniu {issued}.",
            "Fakturę wolno wystawić najwcześniej 60 dni przed sprzedażą; sprawdź obie daty.",
            "Fa/P_6",
        )
    elif issued > _last_day_to_issue(sold):
        yield case.warn(
            "E26",
            f"Daty: faktura z {issued} po terminie – sprzedaż była {sold}.",
            "Termin to zwykle 15. dzień następnego miesiąca; sprawdź obie daty.",
            "Fa/P_6",
        )


def _last_day_to_issue(sold: date) -> date:
    return date(sold.year + sold.month // 12, sold.month % 12 + 1, 15)


def _creation_time(case: Case) -> Iterator[Finding]:
    written = case.fields.get("Naglowek", {}).get("DataWytworzeniaFa", "").strip()
    if len(written) == 20 and written[19] == "Z" and written[:10] < case.now.astimezone(UTC).date().isoformat():
        return
    parts = _CREATED.fullmatch(written)
    if parts is None:
        return
    path = "Naglowek/DataWytworzeniaFa"
    if parts[3] != "Z":
        shown = "bez strefy" if parts[3] is None else f"ze strefą {parts[3]}"
        yield case.warn(
            "E26",
            f"Daty: czas wytworzenia faktury {shown} – ma być czas UTC z literą Z na końcu.",
            "Ustaw w ERP zapis DataWytworzeniaFa w UTC, np. 2026-11-20T10:15:00Z.",
            path,
        )
    if parts[2] and len(parts[2]) > 4:
        yield case.warn(
            "E26",
            "Daty: czas wytworzenia faktury ma więcej niż 3 miejsca po sekundach.",
            "Ustaw w ERP zapis do milisekund.",
            path,
        )
    if parts[3] == "Z":
        try:
            created = datetime.fromisoformat(parts[1]).replace(tzinfo=UTC)
        except ValueError:
            return
        if created > case.now + _CLOCK_TOLERANCE:
            yield case.warn(
                "E26",
                "Daty: czas wytworzenia faktury jest w przyszłości.",
                "Zwykle to czas polski podpisany jako UTC (Z); sprawdź zegar i strefę w ERP.",
                path,
            )


def _annotations(case: Case) -> Iterator[Finding]:
    marks = case.annotations
    margin = flag(marks.get("PMarzy", {}), "P_PMarzy")
    if margin and "P_13_11" not in case.fa and case.kind in ("VAT", "ZAL"):
        yield case.warn(
            "E27",
            "Adnotacje: procedura marży bez kwoty sprzedaży w P_13_11.",
            "Podaj P_13_11 albo ustaw P_PMarzyN=1.",
            "Fa/Adnotacje/PMarzy",
        )
    elif not margin and number(case.fa, "P_13_11"):
        yield case.warn(
            "E27",
            "Adnotacje: kwota sprzedaży w marży (P_13_11) bez oznaczenia procedury marży.",
            "Ustaw P_PMarzy=1 i rodzaj procedury.",
            "Fa/Adnotacje/PMarzy",
        )
    vehicles: list[Fields] = marks.get("NoweSrodkiTransportu", {}).get("NowySrodekTransportu", [])
    if vehicles:
        numbers = {row.get("NrWierszaFa", "").strip() for row in case.rows} | {
            row.get("NrWierszaZam", "").strip() for row in case.fa.get("Zamowienie", {}).get("ZamowienieWiersz", [])
        }
        for vehicle in vehicles:
            pointed = vehicle.get("P_NrWierszaNST", "").strip()
            if pointed not in numbers:
                yield case.warn(
                    "E27",
                    f"Adnotacje: nowy środek transportu wskazuje pozycję {pointed}, której nie ma.",
                    "Popraw P_NrWierszaNST.",
                    "Fa/Adnotacje/NoweSrodkiTransportu",
                )
    if flag(marks, "P_23"):
        if case.buyer_id.get("KodUE", "PL").strip() == "PL":
            yield case.warn(
                "E27",
                "Adnotacje: procedura trójstronna (P_23=1), a nabywca nie ma numeru VAT UE z innego kraju.",
                "Podaj KodUE i NrVatUE nabywcy albo ustaw P_23=2.",
                "Podmiot2/DaneIdentyfikacyjne",
            )
        if "PrefiksPodatnika" not in case.seller:
            yield _no_prefix(case, "Procedura trójstronna (P_23=1)", "E27")
