"""The list of checks: code, usual severity, where it applies, and what it says.

A message is a template; its placeholders are named in Polish because a check's values are kept under these names.
``forms`` lists where a check makes sense: 3 FA(3), 2 FA(2), R FA_RR, P PEF, ? a form that nobody knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ..shapes import Strength


class Severity(StrEnum):
    """N makes the invoice "niezasadna", W "do wyjaśnienia"; I is a note only."""

    N = "N"
    W = "W"
    I = "I"  # noqa: E741 - the letter of the list of checks


OF_STRENGTH: Mapping[Strength, Severity | None] = {
    "off": None,
    "note": Severity.I,
    "warning": Severity.W,
    "error": Severity.N,
}

_ANY = "32RP?"
_KNOWN = "32RP"
_FA = "32"


@dataclass(frozen=True)
class Check:
    """One check of the list. ``own_sale``:
    also of an invoice that we issued ourselves; ``unread``: also of a document that could not be read."""

    code: str
    severity: Severity
    message: str
    forms: str = _KNOWN
    own_sale: bool = False
    unread: bool = False
    variants: Mapping[str, str] = field(default_factory=dict)


_N, _W, _I = Severity.N, Severity.W, Severity.I

_ALL = (
    # Is it for us?
    Check(
        "Z01",
        _N,
        "Faktura nie dotyczy naszej firmy: nabywcą jest {nazwa} ({nip}), a nasz NIP nie występuje na fakturze.",
    ),
    Check(
        "Z02",
        _W,
        "Nabywcą jest inna firma ({nip}); my występujemy tylko jako {rola}. Sprawdź, czy faktura ma być u nas ujęta.",
    ),
    Check(
        "Z03",
        _N,
        "NIP nabywcy {nip} różni się od naszego ({nasz}) prawdopodobną pomyłką. "
        "Potrzebna korekta do zera i nowa faktura.",
    ),
    Check(
        "Z04",
        _N,
        "NIP nabywcy wpisano w niewłaściwe pole ({pole}). Taka faktura nie jest prawidłowo udostępniana nabywcy "
        "w KSeF.",
        _FA,
    ),
    Check("Z05", _N, "Faktura nie zawiera NIP nabywcy.", "32R"),
    Check("Z06", _W, "Nazwa nabywcy na fakturze („{nazwa}”) nie odpowiada naszej firmie."),
    Check(
        "Z07",
        _W,
        "Faktura nie zawiera {czego} nabywcy (wymagane poza fakturą uproszczoną).",
        _FA,
    ),
    Check("Z08", _I, "Adres nabywcy ({adres}) nie jest znanym adresem naszej firmy."),
    Check("Z09", _N, "Sprzedawcą na fakturze jest nasza firma – to nie jest faktura zakupu.", own_sale=True),
    Check("Z10", _N, "Sprzedawca i nabywca mają ten sam NIP ({nip}).", own_sale=True),
    # The parties
    Check("Z11", _W, "Nieprawidłowa suma kontrolna NIP {nip} ({strona}).", own_sale=True),
    Check("Z12", _W, "NIP sprzedawcy {nip} wygląda na testowy."),
    Check("Z13", _W, "Nieznany sprzedawca {nazwa} (NIP {nip}) – brak na liście dostawców."),
    Check("Z14", _N, "Sprzedawca {nazwa} (NIP {nip}) jest na liście zablokowanych."),
    Check(
        "Z15",
        _W,
        "Faktura oznaczona jako samofakturowanie, a nie mamy takiej umowy ze sprzedawcą {nip}.",
        _FA,
    ),
    Check("Z16", _I, "Sprzedawca: {status}. Sprawdź rachunek i uprawnienie do zapłaty.", _FA),
    Check("Z17", _W, "Zaznaczono jednostkę podrzędną JST, ale nie podano jej danych (Podmiot3, rola 8).", "3"),
    Check("Z18", _W, "Zaznaczono członka grupy VAT, ale nie podano jego danych (Podmiot3, rola 10).", "3"),
    Check("Z19", _W, "Nieznany identyfikator wewnętrzny {idwew}.", "32R"),
    Check("Z20", _I, "Identyfikator wewnętrzny {idwew} ma błędną cyfrę kontrolną.", "32R"),
    # The place
    Check("Z21", _W, "GLN {gln} nie należy do naszych lokalizacji."),
    Check("Z22", _W, "Nieprawidłowy GLN „{gln}” w polu {pole}."),
    Check("Z23", _W, "Dane miejsca dostawy są sprzeczne: {lista}."),
    Check("Z24", _W, "Nie można ustalić sklepu ani miejsca dostawy."),
    Check("Z25", _W, "Sklep {nr} był nieczynny w dniu dostawy {data}."),
    # Orders and deliveries
    Check("Z26", _W, "Brak numeru zamówienia (wymagany dla dostawcy {nazwa}).", "32P"),
    Check("Z27", _W, "Numer zamówienia „{nr}” nie jest znany.", "32P"),
    Check(
        "Z28",
        _W,
        "Numer dostawy „{nr}”: {opis}.",
        "32P",
        variants={"missing": "Brak numeru dostawy (wymagany dla dostawcy {nazwa})."},
    ),
    # Twice?
    Check("Z29", _N, "Powtórzony numer faktury {nr} sprzedawcy {nip}: wcześniejsza faktura {ksef}.", _ANY, unread=True),
    Check("Z30", _I, "Ten sam numer {nr} ma też faktura rodzaju {rodzaj} ({ksef})."),
    Check("Z31", _W, "Możliwe podwójne zafakturowanie: podobna do {ksef}."),
    # Amounts
    Check("Z32", _W, "Kwota należności {p15} nie zgadza się z sumą netto i VAT ({suma}).", _FA),
    Check("Z33", _W, "Kwota VAT dla stawki {st} nie odpowiada podstawie ({vat} wobec {oczek}).", _FA),
    Check("Z34", _W, "Suma pozycji ({suma}) różni się od podsumowania ({p13}), stawka {st}.", _FA),
    Check("Z35", _W, "Faktura nie ma żadnych pozycji.", _FA),
    Check("Z36", _W, "Faktura w {waluta} bez VAT przeliczonego na złote.", _FA),
    Check(
        "Z37",
        _W,
        "Sprzedaż zwolniona bez podstawy zwolnienia.",
        _FA,
        variants={"reverse": "Podano podstawę zwolnienia, a na fakturze nie ma sprzedaży zwolnionej."},
    ),
    Check("Z38", _W, "Sprawdź mechanizm podzielonej płatności: {opis}.", _FA),
    # Dates
    Check(
        "Z39",
        _W,
        "Data wystawienia {p1} jest o {n} {dni} późniejsza niż data przyjęcia w KSeF.",
        variants={"earlier": "Data wystawienia {p1} jest o {n} {dni} wcześniejsza niż data przyjęcia w KSeF."},
    ),
    Check("Z40", _W, "Data dostawy {p6} nie pasuje do daty wystawienia {p1}.", _FA),
    # Corrections and advances
    Check(
        "Z41",
        _W,
        "Korekta bez wskazania faktury korygowanej w KSeF.",
        _FA,
        variants={"known": "Korekta bez wskazania faktury korygowanej w KSeF, choć {nr} ma tam numer {ksef}."},
    ),
    Check(
        "Z42",
        _W,
        "Faktura korygowana {ksef} nie jest nam znana.",
        _FA,
        variants={
            "crc": "Faktura korygowana {ksef} nie jest nam znana: numer KSeF jest błędny (suma kontrolna).",
            "seller": "Faktura korygowana {ksef} nie jest nam znana: ten numer KSeF należy do innego sprzedawcy.",
        },
    ),
    Check(
        "Z43",
        _N,
        "Korekta zmienia NIP nabywcy – to niedozwolone; potrzebna korekta do zera i nowa faktura.",
        _FA,
    ),
    Check("Z44", _W, "Korekty łącznie przekraczają wartość faktury {ksef}.", _FA),
    Check(
        "Z45",
        _W,
        "Faktura zaliczkowa {ksef} nie jest znana.",
        _FA,
        variants={"settled": "Faktura zaliczkowa {ksef} została już rozliczona fakturą {rozliczenie}."},
    ),
    # Payment
    Check("Z46", _W, "Nowy numer rachunku sprzedawcy: …{koniec}. Potwierdź innym kanałem przed zapłatą."),
    Check("Z47", _W, "Numer rachunku (…{koniec}) ma błędną sumę kontrolną."),
    Check("Z48", _W, "Faktura z faktorem {nazwa} – sprawdź zawiadomienie o cesji.", _FA),
    Check(
        "Z49",
        _W,
        "Podejrzany odnośnik do płatności: {host}. Nie otwieraj.",
        variants={
            "text": "Podejrzany odnośnik w treści faktury: {host}. Nie otwieraj.",
            "hidden": "Ukryte znaki w polu {pole}: tekst na ekranie może być inny niż w pliku.",
            "id": "Identyfikator płatności w odnośniku ({host}) jest inny niż w polu IPKSeF. Nie otwieraj.",
        },
    ),
    Check("Z50", _I, "Termin płatności {termin} jest {opis}.", _FA),
    Check(
        "Z51",
        _W,
        "Faktura wygląda na niezamówioną reklamę lub próbę wyłudzenia. "
        "Rozważ zgłoszenie nadużycia (60 dni od wystawienia, do {termin}).",
        _FA,
        variants={
            "late": "Faktura wygląda na niezamówioną reklamę lub próbę wyłudzenia (zgłaszać można było do {termin})."
        },
    ),
    Check("Z52", _I, "Oznaczenie powiązań (TP) niezgodne z listą podmiotów powiązanych: {opis}.", _FA),
    Check("Z53", _I, "Płatnik: {nazwa}.", _FA, variants={"employee": "Wydatek pracownika: {nazwa}."}),
    # The file itself
    Check("Z54", _W, "Niezgodność metadanych: załącznik {opis}.", "3", own_sale=True),
    Check(
        "Z55",
        _N,
        "Plik różni się od faktury w KSeF (skrót niezgodny). Pobierz ponownie.",
        _ANY,
        own_sale=True,
        unread=True,
    ),
    Check("Z56", _N, "Dane w pliku różnią się od metadanych KSeF: {pola}.", _ANY, own_sale=True),
    Check(
        "Z57",
        _W,
        "Nieobsługiwana struktura {formcode}; plik zachowano bez klasyfikacji.",
        _ANY,
        own_sale=True,
        unread=True,
        variants={
            "unread": "Pliku nie udało się odczytać ({opis}); zachowano go bez klasyfikacji.",
            "late": "Struktura {formcode} na fakturze z {p1}, choć od 1 lutego 2026 r. obowiązuje FA(3).",
            "mended": "Plik odczytano dopiero po poprawkach: {opis}.",
        },
    ),
)

CATALOGUE: Mapping[str, Check] = {check.code: check for check in _ALL}
