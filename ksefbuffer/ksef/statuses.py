"""What KSeF's status codes mean for us. Pure. Source: FACTS §4.2 (sessions), §4.3 (invoices), §4.4 (duplicates),
§7.2 (exports)."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """What an invoice's status code obliges us to do.

    PENDING: ask again later, never resend. ACCEPTED: it has a number. REFUSED: a person must mend it; KSeF keeps no
    trace of it. DUPLICATE: find whose bytes the original number holds. RESEND: the session broke, send it in another
    one. RESEND_ONCE: the same, but only once by itself. UNCERTAIN: look for it at KSeF by hash before resending.
    """

    PENDING = "pending"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    DUPLICATE = "duplicate"
    RESEND = "resend"
    RESEND_ONCE = "resend_once"
    UNCERTAIN = "uncertain"


_INVOICE = {
    200: Verdict.ACCEPTED,
    405: Verdict.RESEND,
    435: Verdict.RESEND_ONCE,
    440: Verdict.DUPLICATE,
}

OPEN = 100


def invoice_verdict(code: int) -> Verdict:
    """The verdict for an invoice's status code.

    Unknown codes: 1xx is still in work; 4xx is a refusal (none of them ever carried a number); anything else proves
    nothing, so it is UNCERTAIN and gets looked up.
    """
    if code in _INVOICE:
        return _INVOICE[code]
    if 100 <= code < 200:
        return Verdict.PENDING
    if 400 <= code < 500:
        return Verdict.REFUSED
    return Verdict.UNCERTAIN


def session_closed(code: int) -> bool:
    """Whether the session surely takes no more invoices: only then can an absent invoice become proof."""
    return code in (150, 170) or session_final(code)


def session_final(code: int) -> bool:
    """Whether every invoice of the session has its last status. Unknown 1xx to 3xx codes are not trusted to be."""
    return code == 200 or code >= 400


def session_has_upo(code: int) -> bool:
    """Only a session that ended with 200 has a UPO of its own. Source: FACTS §4.5, issue #334."""
    return code == 200


class ExportVerdict(StrEnum):
    """What an export's status code obliges us to do.

    RUNNING: ask again later. READY: fetch it. EXPIRED: start another one. NO_NEW_DATA: nothing to fetch, the cursor
    stays. BAD_KEY: KSeF could not use our key; start another one with a new key. FAILED: start another one.
    """

    RUNNING = "running"
    READY = "ready"
    EXPIRED = "expired"
    NO_NEW_DATA = "no_new_data"
    BAD_KEY = "bad_key"
    FAILED = "failed"


EXPORT_READY = 200
EXPORT_EXPIRED = 210
EXPORT_BAD_KEY = 415

_EXPORT = {
    EXPORT_READY: ExportVerdict.READY,
    EXPORT_EXPIRED: ExportVerdict.EXPIRED,
    EXPORT_BAD_KEY: ExportVerdict.BAD_KEY,
    420: ExportVerdict.NO_NEW_DATA,
}


def export_verdict(code: int) -> ExportVerdict:
    """The verdict for an export's status code. Unknown codes: 1xx is still in work, anything else gave no package."""
    if code in _EXPORT:
        return _EXPORT[code]
    return ExportVerdict.RUNNING if 100 <= code < 200 else ExportVerdict.FAILED


_INVOICE_HINTS = {
    100: "Faktura czeka na przetworzenie w KSeF. Nie trzeba nic robić.",
    150: "KSeF przetwarza fakturę. Nie trzeba nic robić; nie wysyłaj jej ponownie.",
    200: "Faktura ma numer KSeF. Nie trzeba nic robić.",
    405: "Sesja została przerwana. Bufor sam wyśle fakturę w nowej sesji.",
    410: "Sprawdź w KSeF uprawnienia do wystawiania faktur w imieniu sprzedawcy (Podmiot1), po czym ponów wysyłkę.",
    415: "Faktury z załącznikiem wymagają zgody złożonej w e-Urzędzie Skarbowym i wysyłki wsadowej. "
    "Złóż zgodę albo usuń załącznik, po czym ponów wysyłkę.",
    430: "Plik jest uszkodzony lub źle zapisany (UTF-8 bez BOM, poprawny XML, dozwolony rozmiar). "
    "Popraw eksport w programie, który wystawił fakturę, i wyślij ją ponownie.",
    435: "KSeF nie odszyfrował pliku. Bufor raz ponowi wysyłkę sam; jeśli błąd wróci, ponów ją później.",
    440: "KSeF ma już fakturę tego sprzedawcy o tym rodzaju i numerze. Jeśli to inna faktura, nadaj nowy numer "
    "i wyślij ją ponownie.",
    450: "Popraw wskazane dane faktury i wyślij ją ponownie; można użyć tego samego numeru.",
    500: "Błąd po stronie KSeF. Bufor sprawdzi, czy faktura została przyjęta, i w razie potrzeby ponowi wysyłkę.",
    550: "KSeF przerwał przetwarzanie. "
    "Bufor sprawdzi, czy faktura została przyjęta, i w razie potrzeby ponowi wysyłkę.",
}

_SESSION_HINTS = {
    100: "Sesja jest otwarta.",
    150: "KSeF przetwarza sesję. Nie trzeba nic robić.",
    170: "Sesja jest zamknięta, KSeF kończy jej przetwarzanie. Nie trzeba nic robić.",
    200: "Sesja została przetworzona.",
    405: "KSeF odrzucił elementy paczki. Bufor wyśle faktury w nowej sesji.",
    415: "KSeF nie odszyfrował klucza sesji. Bufor otworzy nową sesję z nowym kluczem; jeśli błąd wraca, "
    "sprawdź, czy środowisko w konfiguracji jest właściwe.",
    420: "Przekroczono liczbę faktur w sesji. Bufor podzieli wysyłkę na kolejne sesje.",
    430: "KSeF nie rozpakował paczki. Bufor wyśle faktury w nowej sesji.",
    435: "KSeF nie odszyfrował paczki. Bufor wyśle faktury w nowej sesji.",
    440: "Sesja została anulowana, bo nie dotarły do niej faktury. Bufor wyśle je w nowej sesji.",
    445: "Żadna faktura w sesji nie była poprawna. Przyczyny są przy poszczególnych fakturach.",
    500: "Błąd po stronie KSeF. Bufor sprawdzi stan faktur i w razie potrzeby ponowi wysyłkę.",
}


# Refusals that a technical correction mends (FACTS §10): the file's faults, not those of rights and consents.
_MENDED_BY_FILE = frozenset({430, 440, 450})
_MENDED_OFFLINE = (
    "Fakturę wydano offline, więc popraw sam plik, nie treść, i wyślij go jako korektę techniczną: z opcją "
    "corrects_sha256 równą skrótowi (sha256) tej faktury. Wtedy kody QR, które ma nabywca, zostaną ważne."
)


def hint_for(code: int, *, offline: bool = False) -> str:
    """What a person should do about an invoice's status, in Polish; ``offline``: it was issued offline."""
    if offline and code in _MENDED_BY_FILE:
        return _MENDED_OFFLINE
    if code in _INVOICE_HINTS:
        return _INVOICE_HINTS[code]
    match invoice_verdict(code):
        case Verdict.PENDING:
            return _INVOICE_HINTS[150]
        case Verdict.REFUSED:
            return "Przeczytaj szczegóły podane przez KSeF, popraw fakturę i wyślij ją ponownie."
        case _:
            return "KSeF podał nieznany stan faktury. Bufor sprawdzi, czy została przyjęta."


def session_hint_for(code: int) -> str:
    """What a session's status means and what happens next, in Polish."""
    if code in _SESSION_HINTS:
        return _SESSION_HINTS[code]
    if session_final(code):
        return "Sesja zakończyła się błędem nieznanym buforowi. Przyczyny mogą być przy poszczególnych fakturach."
    return _SESSION_HINTS[150]
