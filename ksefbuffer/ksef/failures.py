"""From an answer that is not a success to the fault that says what is known. Pure: no HTTP library, no clock.

KSeF has two shapes of error body (classic and problem-details) and stands behind a firewall (Imperva) that answers for
it in HTML, in a problem of its own, or with nothing. Source: FACTS §1.4 (bodies), §1.5 (codes), §15 (what was met).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ksefbuffer.errors import (
    Blocked,
    CallFault,
    OutcomeUnknown,
    RateLimited,
    Refused,
    SessionUnusable,
    Unauthorised,
    Unavailable,
)

# KSeF rounds its header up, yet a call at that very second was still refused (issue #788).
RETRY_AFTER_MARGIN_S = 1.0
RETRY_AFTER_UNKNOWN_S = 60.0
BLOCKED_PAUSE_S = 300.0

SESSION_OVER = frozenset({"21155", "21180", "21208"})
TOO_MANY_EXPORTS = "21182"
NOT_NOW = frozenset({"21165", "21178", TOO_MANY_EXPORTS, "21184"})
LOGIN_OVER = frozenset({"21301", "21304"})
UNKNOWN_SESSION = "21173"
UNKNOWN_KEY = "21470"
PART_MISSING = "21205"
UPLOAD_TOO_LATE = "21208"
BAD_CONTINUATION = "21418"
BAD_CHALLENGE = "21111"
UNKNOWN_EXPORT = "21175"
BEYOND_HWM = "21183"

_REASONS_OF_RIGHTS = {
    "missing-permissions": "Nadaj w KSeF brakujące uprawnienia i zaloguj bufor ponownie.",
    "ip-not-allowed": "Adres IP bufora nie jest dozwolony przez politykę tokenu; wystaw nowy token albo zmień adres.",
    "insufficient-resource-access": "Sprawdź w KSeF uprawnienia bufora do tego zasobu.",
    "auth-method-not-allowed": "Zaloguj bufor inną metodą (certyfikat zamiast tokenu lub odwrotnie).",
    "context-type-not-allowed": "Sprawdź auth.internal_id: ta czynność jest niedostępna w tym kontekście.",
}
_REASONS_OF_FIREWALL = frozenset({"security-service-blocked"})

_NAMES = {
    "challenge": "pobranie wyzwania do logowania",
    "login_by_certificate": "logowanie certyfikatem",
    "login_by_token": "logowanie tokenem",
    "login_status": "sprawdzenie logowania",
    "redeem": "odebranie tokenów",
    "refresh": "odświeżenie dostępu",
    "public_keys": "pobranie kluczy publicznych",
    "open_session": "otwarcie sesji",
    "send": "wysyłka faktury",
    "close_session": "zamknięcie sesji",
    "open_batch": "otwarcie sesji wsadowej",
    "upload_part": "wysłanie części paczki",
    "close_batch": "zamknięcie sesji wsadowej",
    "own_sessions": "odczyt listy sesji",
    "session": "odczyt sesji",
    "invoices": "odczyt faktur sesji",
    "failed_invoices": "odczyt odrzuconych faktur sesji",
    "invoice": "odczyt stanu faktury",
    "upo_by_link": "pobranie UPO z odnośnika",
    "invoice_upo": "pobranie UPO faktury",
    "session_upo": "pobranie UPO sesji",
    "find": "wyszukiwanie faktury",
    "query_metadata": "pobranie metadanych faktur",
    "start_export": "zlecenie eksportu faktur",
    "export": "odczyt stanu eksportu faktur",
    "fetch_part": "pobranie części wyeksportowanej paczki",
    "download": "pobranie faktury",
    "rate_limits": "odczyt limitów",
    "login_by_document": "logowanie podpisanym dokumentem",
    "certificate_limits": "odczyt limitów certyfikatów",
    "enrolment_data": "pobranie danych do wniosku o certyfikat",
    "enrol": "złożenie wniosku o certyfikat",
    "enrolment": "odczyt stanu wniosku o certyfikat",
    "retrieve_certificates": "pobranie certyfikatu",
    "certificates": "odczyt listy certyfikatów",
    "revoke_certificate": "unieważnienie certyfikatu",
    "make_token": "wystawienie tokenu",
    "tokens": "odczyt listy tokenów",
    "token": "odczyt stanu tokenu",
    "revoke_token": "unieważnienie tokenu",
    "session_limits": "odczyt limitów sesji",
}

# What a person can do about a refusal, by its code (FACTS §1.5).
_ACTIONS = {
    "21166": "Tę fakturę już poprawiono: KSeF przyjął inną jej korektę techniczną (być może z innego programu). Nie "
    "wysyłaj jej ponownie; numer KSeF znajdziesz w Aplikacji Podatnika albo pod pierwszym kodem QR faktury.",
    "21167": "Korekta techniczna dotyczy tylko faktury wystawionej offline, którą KSeF odrzucił z powodu wady pliku. "
    "Sprawdź w KSeF stan poprawianej faktury: jeśli ją przyjął, treść zmienia faktura korygująca; jeśli jeszcze ją "
    "przetwarza, ponów korektę później (ksefbuffer queue retry).",
    "25001": "O certyfikat można wnioskować tylko po zalogowaniu certyfikatem lub podpisem, nie tokenem KSeF: użyj "
    "ksefbuffer cert auth-request.",
    "25002": "O certyfikat można wnioskować tylko po zalogowaniu certyfikatem lub podpisem, nie tokenem KSeF: użyj "
    "ksefbuffer cert auth-request.",
    "25003": "Dane podmiotu w KSeF różnią się od danych we wniosku; złóż wniosek jeszcze raz.",
    "25004": "To błąd programu; zgłoś go, podając treść komunikatu.",
    "25006": "Wyczerpano limit wniosków o certyfikat; odnawia się z czasem. Nie składaj kolejnych bez potrzeby.",
    "25007": "Wyczerpano limit czynnych certyfikatów: unieważnij w KSeF te, których już nie używasz.",
    "25008": "Sprawdź numer seryjny i środowisko KSeF: tego certyfikatu tam nie ma.",
    "25009": "Certyfikat jest już unieważniony, zablokowany albo nieważny; nic więcej nie trzeba robić.",
    "25010": "Użyj klucza EC P-256 albo RSA 2048 bitów.",
    "25011": "To błąd programu; zgłoś go, podając treść komunikatu.",
    "26001": "Zaloguj się jako ktoś, kto sam ma te uprawnienia, albo nadaj tokenowi mniej uprawnień.",
    "26002": "Tokeny wystawia się tylko w kontekście firmy (NIP) albo jednostki wewnętrznej.",
}

ASK_AGAIN = "Bufor sprawdzi w KSeF, co się stało, i ponowi sam; nie trzeba nic robić."
WAIT = "Bufor ponowi sam; nie trzeba nic robić."


def name_of(operation: str) -> str:
    """An operation's name for people, in Polish."""
    return _NAMES.get(operation, operation)


@dataclass(frozen=True)
class Problem:
    """What an error body says. ``from_ksef`` is false for HTML, emptiness and anything else that KSeF does not write;
    ``code`` is the most telling numeric code as text or ""; ``details`` are KSeF's sentences, each once."""

    from_ksef: bool = False
    codes: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    title: str = ""
    reason: str = ""
    firewall: bool = False
    trace: str = ""

    @property
    def code(self) -> str:
        """The code that decides; with several, one that names a state of things goes before one that names a field."""
        telling = (*SESSION_OVER, *NOT_NOW, *LOGIN_OVER, UNKNOWN_SESSION, UNKNOWN_KEY, BAD_CONTINUATION, BAD_CHALLENGE)
        return next((code for code in self.codes if code in telling), self.codes[0] if self.codes else "")


def read_json(body: bytes) -> Any:
    """Parsed JSON, fractions as Decimal. Raises ValueError for everything else, a hopelessly nested body included."""
    try:
        return json.loads(body, parse_float=Decimal)
    except RecursionError as fault:
        raise ValueError("too deeply nested") from fault


def read_problem(body: bytes) -> Problem:
    """An error body in any of its shapes; never raises."""
    try:
        whole = read_json(body)
    except ValueError:
        return Problem()
    if not isinstance(whole, Mapping):
        return Problem()
    entries = [*_list(_map(whole.get("exception")).get("exceptionDetailList")), *_list(whole.get("errors"))]
    codes: list[str] = []
    sentences: list[str] = []
    for entry in map(_map, entries):
        codes.append(_text(entry.get("exceptionCode", entry.get("code"))))
        sentences.append(_text(entry.get("exceptionDescription", entry.get("description"))))
        sentences.extend(map(_text, _list(entry.get("details"))))
    status = _map(whole.get("status"))
    sentences.extend(map(_text, (status.get("description"), *_list(status.get("details")))))
    security = _map(whole.get("security"))
    title, detail = _text(whole.get("title")), _text(whole.get("detail"))
    sentences.append(detail)
    missing = [_text(name) for name in _list(security.get("requiredAnyOfPermissions"))]
    if any(missing):
        sentences.append("Wymagane uprawnienie (jedno z): " + ", ".join(filter(None, missing)))
    reason = _text(whole.get("reasonCode"))
    incident = _text(security.get("incidentId"))
    if incident:
        sentences.append(f"incidentId: {incident}")
    trace = _text(whole.get("traceId")) or _text(_map(whole.get("exception")).get("serviceCode"))
    return Problem(
        from_ksef=bool(entries or status or title or detail or reason),
        codes=tuple(filter(None, codes)),
        details=tuple(dict.fromkeys(filter(None, sentences))),
        title=title,
        reason=reason,
        firewall=reason in _REASONS_OF_FIREWALL or "request blocked" in title.lower() or bool(incident),
        trace=trace,
    )


def retry_after_of(problem: Problem) -> float | None:
    """The pause named in a 429's text, in seconds; only for answers without the header."""
    for sentence in problem.details:
        found = re.search(r"(?:po|after)\s+(\d{1,6})\s*s", sentence, re.IGNORECASE)
        if found:
            return float(found[1])
    return None


def fault_of(operation: str, status: int, body: bytes, retry_after_s: float | None) -> CallFault:
    """The fault for an HTTP status that is not a success. ``retry_after_s`` is the header's value, margin not added.

    A 5xx never proves that nothing was done: in production 502 to 504 came for work that was done (FACTS §15.4).
    """
    problem = read_problem(body)
    what = name_of(operation)
    common: dict[str, Any] = {
        "operation": operation,
        "code": problem.code,
        "http_status": status,
        "details": problem.details,
    }
    said = f": {problem.details[0]}" if problem.details else "."
    if status == 429:
        pause = next((p for p in (retry_after_s, retry_after_of(problem)) if p is not None), RETRY_AFTER_UNKNOWN_S)
        return RateLimited(
            f"KSeF ogranicza liczbę wywołań ({what}).",
            action=WAIT,
            **{**common, "retry_after_s": pause + RETRY_AFTER_MARGIN_S},
        )
    common["retry_after_s"] = retry_after_s
    if status >= 500 or status < 400 or status == 408:
        return OutcomeUnknown(f"KSeF nie odpowiedział jasno ({what}, HTTP {status}).", action=ASK_AGAIN, **common)
    if status == 403 and (problem.firewall or not problem.from_ksef):
        common["retry_after_s"] = retry_after_s or BLOCKED_PAUSE_S
        return Blocked(
            f"Zapora przed KSeF zablokowała wywołanie ({what}).",
            action="Bufor ponowi po przerwie. Jeśli to trwa, podaj pomocy KSeF incidentId i adres IP.",
            **common,
        )
    if status in (401, 403):
        return Unauthorised(
            f"KSeF odmówił dostępu ({what}){said}",
            action=_REASONS_OF_RIGHTS.get(
                problem.reason, "Sprawdź certyfikat lub token bufora oraz jego uprawnienia w KSeF."
            ),
            **common,
        )
    if status not in (406, 413, 415) and not problem.from_ksef:
        return Blocked(
            f"Na wywołanie odpowiedział kto inny niż KSeF ({what}, HTTP {status}).",
            action="Sprawdź adres ksef.base_url oraz pośredników w sieci (proxy, zapora); bufor ponowi sam.",
            **common,
        )
    if problem.code in SESSION_OVER:
        return SessionUnusable(
            f"Sesja KSeF nie przyjmuje już faktur{said}", action="Bufor otworzy nową sesję sam.", **common
        )
    if problem.code in NOT_NOW:
        return Unavailable(f"KSeF nie może tego teraz zrobić ({what}){said}", action=WAIT, **common)
    if problem.code in LOGIN_OVER:
        return Unauthorised(
            f"Logowanie do KSeF wygasło ({what}){said}", action="Bufor zaloguje się ponownie.", **common
        )
    return Refused(
        f"KSeF odrzucił wywołanie ({what}){said}",
        action=_ACTIONS.get(problem.code, "Przeczytaj szczegóły podane przez KSeF; bez zmian ponowienie nic nie da."),
        **common,
    )


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    return str(value).strip() if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
