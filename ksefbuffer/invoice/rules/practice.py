"""What receivers stumble over (F01-F15, and the product codes of E29). Source: the list of checks, group F."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from ..document import Fields, date_of
from ..findings import Finding
from ..identifiers import collapse, is_made_up_nip
from ..reading import path_of
from ..wording import printable
from .case import CENT, ZERO, Case, in_polish, number, row_number

_USUAL_NUMBER = re.compile(r"[!-~ąćęłńóśźżĄĆĘŁŃÓŚŹŻ]+(?: [!-~ąćęłńóśźżĄĆĘŁŃÓŚŹŻ]+)*")
_UNUSUAL = re.compile(r"[^ -~ąćęłńóśźżĄĆĘŁŃÓŚŹŻ]")
_POSTCODE = re.compile(r"(?<!\d)\d{2}[-\u2010-\u2015 ]?\d{3}(?!\d)")
_ODD_CURRENCIES = frozenset(("XXX", "XTS", "XAU", "XAG", "XPT", "XPD", "XBA", "XBB", "XBC", "XBD", "XDR", "XSU", "XUA"))
_IPKSEF_IN_LINK = re.compile(r"[?&]IPKSeF=([^&#]*)")
_ALCOHOL = ("2203", "2204", "2205", "2206", "2207", "2208")
_FUEL = ("271012", "2710194", "2710201", "27111")


def check(case: Case) -> Iterator[Finding]:
    """F01, F03, F05-F08, F10-F12, F14, F15, E29."""
    yield from _number(case)
    if case.environment == "production":
        yield from _made_up_nips(case)
    if "Platnosc" in case.fa:
        yield from _payment(case, case.fa["Platnosc"])
    if "Rozliczenie" in case.fa:
        yield from _balance(case, case.fa["Rozliczenie"])
    if _may_hold_location_numbers(case):
        yield from _location_numbers(case)
    if "DodatkowyOpis" in case.fa:
        yield from _extra_descriptions(case)
    yield from _addresses(case)
    yield from _product_codes(case)
    yield from _currency_and_amount(case)


def _number(case: Case) -> Iterator[Finding]:
    text = case.fa.get("P_2", "")
    if text.isascii() and text.isprintable() and text == collapse(text):
        return
    if _USUAL_NUMBER.fullmatch(text):
        return
    odd = list(dict.fromkeys(_UNUSUAL.findall(text.strip("\t\r\n"))))[:5]
    signs = [_sign(character) for character in odd]
    if text != collapse(text):
        signs.append("zbędne spacje")
    yield case.warn(
        "F01",
        f"Numer faktury zawiera {', '.join(signs)}.",
        "Takich numerów nie przepisze poprawnie człowiek ani bank; użyj liter, cyfr i znaków / - . _",
        "Fa/P_2",
    )


def _sign(character: str) -> str:
    code = f"U+{ord(character):04X}"
    visible = character.isprintable() and not unicodedata.combining(character) and not character.isspace()
    return f"znak „{character}” ({code})" if visible else f"niewidoczny znak {code}"


def _made_up_nips(case: Case) -> Iterator[Finding]:
    third = case.third_parties
    parties = [("Podmiot1", case.seller), ("Podmiot2", case.buyer)]
    parties += [(f"Podmiot3[{index}]" if len(third) > 1 else "Podmiot3", party) for index, party in enumerate(third, 1)]
    for path, party in parties:
        nip = party.get("DaneIdentyfikacyjne", {}).get("NIP", "")
        if is_made_up_nip(nip):
            yield case.warn(
                "F03",
                f"NIP {nip} wygląda na testowy.",
                "To środowisko produkcyjne: faktura będzie prawdziwa. Sprawdź NIP.",
                f"{path}/DaneIdentyfikacyjne/NIP",
            )


def _payment(case: Case, payment: Fields) -> Iterator[Finding]:
    issued = case.header.issue_date
    path = "Fa/Platnosc"
    for index, term in enumerate(payment.get("TerminPlatnosci", ()), 1):
        due = date_of(term.get("Termin"))
        if due and issued and due < issued and not case.corrects:
            yield case.warn(
                "F05",
                f"Płatność: termin {due} jest wcześniejszy niż wystawienie {issued}.",
                "Sprawdź termin płatności w ERP.",
                f"{path}/TerminPlatnosci[{index}]/Termin",
            )
        days = number(term.get("TerminOpis", {}), "Ilosc")
        if days is not None and days <= ZERO:
            yield case.warn(
                "F05",
                "Płatność: liczba dni terminu nie jest większa od zera.",
                "Aplikacja Podatnika takiej nie przyjmuje; podaj datę albo liczbę większą od zera.",
                f"{path}/TerminPlatnosci[{index}]/TerminOpis/Ilosc",
            )
    paid = date_of(payment.get("DataZaplaty"))
    if paid and paid > case.today:
        yield case.warn(
            "F05",
            f"Płatność: oznaczono zapłatę z datą {paid}, która jeszcze nie nadeszła.",
            "Zapłatę oznacza się dopiero po jej otrzymaniu.",
            f"{path}/DataZaplaty",
        )
    for name in ("RachunekBankowy", "RachunekBankowyFaktora"):
        for index, account in enumerate(payment.get(name, ()), 1):
            if not _account_ok(account.get("NrRB", "")):
                yield case.warn(
                    "F05",
                    "Płatność: numer rachunku ma błędną sumę kontrolną.",
                    "Sprawdź numer rachunku w kartotece ERP; przelew na niego nie dojdzie.",
                    f"{path}/{name}[{index}]/NrRB",
                )
    yield from _transfer_without_account(case, payment)
    yield from _part_payments(case, payment)
    yield from _payment_link(case, payment)


def _account_ok(text: str) -> bool:
    """A Polish account (26 digits, with or without PL and spaces) by mod 97; of others nothing is known."""
    digits = re.sub(r"[\s\-]", "", text).upper().removeprefix("PL")
    if len(digits) != 26 or not (digits.isascii() and digits.isdecimal()):
        return True
    return int(digits[2:] + "2521" + digits[:2]) % 97 == 1


def _transfer_without_account(case: Case, payment: Fields) -> Iterator[Finding]:
    if payment.get("FormaPlatnosci", "").strip() != "6" or "Zaplacono" in payment or case.corrects:
        return
    if "RachunekBankowy" in payment or "RachunekBankowyFaktora" in payment or (case.header.gross or ZERO) <= ZERO:
        return
    parts = [number(part, "KwotaZaplatyCzesciowej") or ZERO for part in payment.get("ZaplataCzesciowa", ())]
    if parts and sum(parts, ZERO) >= (case.header.gross or ZERO):
        return
    yield case.warn(
        "F05",
        "Płatność: przelew, a nie podano rachunku bankowego.",
        "Dodaj RachunekBankowy; nabywca zapłaci tylko na rachunek z Białej listy.",
        "Fa/Platnosc/FormaPlatnosci",
    )


def _part_payments(case: Case, payment: Fields) -> Iterator[Finding]:
    parts = [number(part, "KwotaZaplatyCzesciowej") for part in payment.get("ZaplataCzesciowa", ())]
    if not parts or None in parts or case.corrects or case.header.gross is None or "Rozliczenie" in case.fa:
        return
    total = sum((part for part in parts if part is not None), ZERO)
    if total > case.header.gross:
        yield case.warn(
            "F05",
            f"Płatność: zapłaty częściowe ({in_polish(total)}) przekraczają należność "
            f"({in_polish(case.header.gross)}).",
            "Sprawdź kwoty zapłat częściowych.",
            "Fa/Platnosc/ZaplataCzesciowa",
        )


def _payment_link(case: Case, payment: Fields) -> Iterator[Finding]:
    link = payment.get("LinkDoPlatnosci")
    if link is None:
        return
    path = "Fa/Platnosc/LinkDoPlatnosci"
    inside, beside = _IPKSEF_IN_LINK.search(link), payment.get("IPKSeF")
    if inside is not None and beside is not None and inside[1].strip() != beside.strip():
        yield case.warn(
            "F07",
            "Identyfikator płatności w odnośniku jest inny niż w polu IPKSeF.",
            "Oba muszą być jednakowe; popraw odnośnik do płatności.",
            path,
        )
    if not link.strip().lower().startswith("https://"):
        yield case.warn(
            "F07", "Odnośnik do płatności nie zaczyna się od https://.", "Podaj bezpieczny odnośnik (https).", path
        )


def _balance(case: Case, balance: Fields) -> Iterator[Finding]:
    sums = []
    for rows_name, sum_name, what in (
        ("Obciazenia", "SumaObciazen", "obciążeń"),
        ("Odliczenia", "SumaOdliczen", "odliczeń"),
    ):
        parts = [number(row, "Kwota") for row in balance.get(rows_name, ())]
        declared = number(balance, sum_name)
        total = sum((part for part in parts if part is not None), ZERO)
        if parts and declared is not None and abs(total - declared) > CENT:
            yield case.warn(
                "F06",
                f"Suma {what} {in_polish(declared)} ≠ {in_polish(total)}.",
                "Sprawdź pozycje rozliczenia i ich sumę.",
                f"Fa/Rozliczenie/{sum_name}",
            )
        sums.append(total if parts else declared or ZERO)
    due, gross = number(balance, "DoZaplaty"), case.header.gross
    if due is not None and gross is not None:
        expected = gross + sums[0] - sums[1]
        if abs(expected - due) > CENT:
            yield case.warn(
                "F06",
                f"Do zapłaty {in_polish(due)} ≠ {in_polish(expected)} (należność + obciążenia − odliczenia).",
                "Sprawdź kwoty rozliczenia.",
                "Fa/Rozliczenie/DoZaplaty",
            )


def gs1_ok(digits: str) -> bool:
    """Whether the last digit of a GS1 number (GLN, GTIN) agrees with the rest: weights 3, 1 from the right."""
    if not digits.isascii() or not digits.isdecimal():
        return False
    body = [int(digit) for digit in reversed(digits[:-1])]
    return (10 - sum(digit * (1 if index % 2 else 3) for index, digit in enumerate(body)) % 10) % 10 == int(digits[-1])


def _may_hold_location_numbers(case: Case) -> bool:
    parties = [case.seller, case.buyer, *case.third_parties]
    if any("GLN" in party.get(name, ()) for party in parties for name in ("Adres", "AdresKoresp")):
        return True
    return "Transport" in case.fa.get("WarunkiTransakcji", ()) or "PodmiotUpowazniony" in case.fields


def _location_numbers(case: Case) -> Iterator[Finding]:
    for element in case.root.iter("{*}GLN"):
        text = collapse(element.text or "")
        if len(text) != 13 or not gs1_ok(text) or not text.strip("0"):
            yield case.warn(
                "F08",
                f"GLN „{printable(text)}” jest nieprawidłowy.",
                "GLN ma 13 cyfr z cyfrą kontrolną; zapytaj odbiorcę o numer jego miejsca dostawy.",
                path_of(element),
            )


def _extra_descriptions(case: Case) -> Iterator[Finding]:
    numbers = {row_number(row) for row in case.rows} | {
        row_number(row, "NrWierszaZam") for row in case.fa.get("Zamowienie", {}).get("ZamowienieWiersz", ())
    }
    known = {int(text) for text in numbers if text.isdecimal()}
    extras: list[Fields] = case.fa["DodatkowyOpis"]
    for index, extra in enumerate(extras, 1):
        path = f"Fa/DodatkowyOpis[{index}]" if len(extras) > 1 else "Fa/DodatkowyOpis"
        pointed = row_number(extra, "NrWiersza")
        if pointed.isdecimal() and int(pointed) not in known:
            yield case.warn(
                "F10",
                f"Dodatkowy opis {index}: brak pozycji {pointed}.",
                "Popraw NrWiersza dodatkowego opisu albo usuń go.",
                f"{path}/NrWiersza",
            )
        value = collapse(extra.get("Wartosc", ""))
        if value and not any(character.isalnum() for character in value):
            yield case.warn(
                "F10", f"Dodatkowy opis {index}: pusta wartość.", "Pomiń opisy bez wartości.", f"{path}/Wartosc"
            )
        elif len(value) == 256:
            yield case.warn(
                "F10",
                f"Dodatkowy opis {index}: wartość ma równo 256 znaków, być może została ucięta.",
                "Podziel dłuższy tekst na kilka opisów.",
                f"{path}/Wartosc",
            )


def _addresses(case: Case) -> Iterator[Finding]:
    for path, side, party in (("Podmiot1", "sprzedawcy", case.seller), ("Podmiot2", "nabywcy", case.buyer)):
        address: Fields | None = party.get("Adres")
        if not address or address.get("KodKraju", "").strip() != "PL":
            continue
        first, second = address.get("AdresL1", ""), address.get("AdresL2", "")
        usual = second[2:3] == "-" and (second[:2] + second[3:6]).isdecimal()
        if not usual and not _POSTCODE.search(f"{first}\n{second}"):
            yield case.warn(
                "F11",
                f"Adres {side} bez kodu pocztowego.",
                "Wpisz kod NN-NNN i miejscowość, najlepiej w AdresL2.",
                f"{path}/Adres",
            )
        name = party.get("DaneIdentyfikacyjne", {}).get("Nazwa")
        if name and first.casefold() == name.casefold():
            yield case.warn(
                "F11",
                f"Adres {side}: w wierszu adresu jest nazwa firmy.",
                "W AdresL1 wpisz ulicę i numer.",
                f"{path}/Adres/AdresL1",
            )


def _product_codes(case: Case) -> Iterator[Finding]:
    for index, row in enumerate(case.rows):
        if not ("GTIN" in row or "CN" in row or "PKWiU" in row):
            continue
        yield from _codes_of_row(case, index, row)


def _codes_of_row(case: Case, index: int, row: Fields) -> Iterator[Finding]:
    shown = row_number(row)
    hint = "Popraw kod w kartotece towaru."
    gtin = row.get("GTIN")
    if gtin is not None:
        digits = collapse(gtin).replace(" ", "").replace("-", "")
        if len(digits) not in (8, 12, 13, 14) or not gs1_ok(digits):
            yield case.note("F12", f"Pozycja {shown}: GTIN nieprawidłowy.", hint, case.row_path(index, "GTIN"))
    classification = re.sub(r"[\s.]", "", row.get("CN", "")).upper().removeprefix("CN")
    if classification and not (classification.isdecimal() and 2 <= len(classification) <= 10):
        yield case.note("F12", f"Pozycja {shown}: kod CN nieprawidłowy.", hint, case.row_path(index, "CN"))
    services = re.sub(r"(?i)^PKWIU|[\s.]", "", row.get("PKWiU", ""))
    if services and not (services.isdecimal() and 2 <= len(services) <= 10):
        yield case.note("F12", f"Pozycja {shown}: kod PKWiU nieprawidłowy.", hint, case.row_path(index, "PKWiU"))
    for prefixes, group in ((_ALCOHOL, "GTU_01"), (_FUEL, "GTU_02")):
        if classification.startswith(prefixes) and "GTU" not in row:
            yield case.note(
                "E29",
                f"Pozycja {shown}: brak {group}.",
                "Oznaczenie GTU przyda się w JPK; uzupełnij je w kartotece towaru.",
                case.row_path(index, "CN"),
            )


def _currency_and_amount(case: Case) -> Iterator[Finding]:
    currency = case.header.currency or ""
    if currency in _ODD_CURRENCIES:
        yield case.warn("F14", f"Nietypowa waluta {currency}.", "Sprawdź kod waluty w ERP.", "Fa/KodWaluty")
    gross = case.header.gross
    if case.kind == "VAT" and gross is not None and gross <= ZERO and not _settles_elsewhere(case):
        yield case.warn(
            "F15",
            f"Kwota {in_polish(gross)} – sprawdź.",
            "Zwykła faktura na zero lub na minus to najczęściej pomyłka; obniżki dokumentuje korekta.",
            "Fa/P_15",
        )


def _settles_elsewhere(case: Case) -> bool:
    """A zero with charges or refunds beside it (Rozliczenie) is meant."""
    return case.header.gross == ZERO and "Rozliczenie" in case.fa
