"""KSeF's own sentences for statuses. Source: open-api.json 2.9.0, FACTS §2.2, §4.2, §4.3."""

from __future__ import annotations

_BROKEN_OFF = "Przetwarzanie zostało przerwane z przyczyn wewnętrznych systemu. Spróbuj ponownie"

SESSION = {
    100: ("Sesja interaktywna otwarta", []),
    170: ("Sesja interaktywna zamknięta", []),
    200: ("Sesja interaktywna przetworzona pomyślnie", []),
    415: ("Błąd odszyfrowania dostarczonego klucza", []),
    440: ("Sesja anulowana", ["Nie przesłano faktur"]),
    445: ("Błąd weryfikacji, brak poprawnych faktur", []),
}
BATCH = {
    100: ("Sesja wsadowa rozpoczęta", []),
    150: ("Trwa przetwarzanie", []),
    200: ("Sesja wsadowa przetworzona pomyślnie", []),
    405: ("Błąd weryfikacji poprawności dostarczonych elementów paczki", []),
    415: ("Błąd odszyfrowania dostarczonego klucza", []),
    420: ("Przekroczony limit faktur w sesji", []),
    430: ("Błąd dekompresji pierwotnego archiwum", []),
    435: ("Błąd odszyfrowania zaszyfrowanych części archiwum", []),
    440: ("Sesja anulowana", ["Nie przesłano faktur"]),
    445: ("Błąd weryfikacji, brak poprawnych faktur", []),
}
UPLOAD_TIME_OVER = "Przekroczono czas wysyłki"
INVOICE = {
    100: ("Faktura przyjęta do dalszego przetwarzania", []),
    150: ("Trwa przetwarzanie", []),
    200: ("Sukces", []),
    405: ("Przetwarzanie anulowane z powodu błędu sesji", []),
    410: ("Nieprawidłowy zakres uprawnień", []),
    415: ("Brak możliwości wysyłania faktury z załącznikiem", []),
    430: ("Błąd weryfikacji pliku faktury", []),
    435: ("Błąd odszyfrowania pliku", []),
    440: ("Duplikat faktury", []),
    450: ("Błąd weryfikacji semantyki dokumentu faktury", []),
    550: ("Operacja została anulowana przez system", [_BROKEN_OFF]),
}
EXPORT = {
    100: ("Eksport faktur w toku", []),
    200: ("Eksport faktur zakończony sukcesem", []),
    210: ("Eksport faktur wygasł i nie jest już dostępny do pobrania", []),
    415: ("Błąd odszyfrowania dostarczonego klucza", []),
    420: ("Zakres filtrowania wykracza poza dostępny zakres danych", []),
    550: ("Operacja została anulowana przez system", [_BROKEN_OFF]),
}
LOGIN = {
    100: ("Uwierzytelnianie w toku", []),
    200: ("Uwierzytelnianie zakończone sukcesem", []),
    415: ("Uwierzytelnianie zakończone niepowodzeniem", ["Brak przypisanych uprawnień"]),
    425: (
        "Uwierzytelnienie unieważnione",
        ["Uwierzytelnienie i powiązane refresh tokeny zostały unieważnione przez użytkownika"],
    ),
    450: ("Uwierzytelnianie zakończone niepowodzeniem z powodu błędnego tokenu", []),
    460: ("Uwierzytelnianie zakończone niepowodzeniem z powodu błędu certyfikatu", []),
    470: (
        "Uwierzytelnianie zakończone niepowodzeniem",
        ["Próba wykorzystania metod autoryzacyjnych osoby zmarłej"],
    ),
    480: (
        "Uwierzytelnienie zablokowane",
        ["Podejrzenie incydentu bezpieczeństwa. Skontaktuj się z Ministerstwem Finansów przez formularz zgłoszeniowy."],
    ),
    500: ("Nieznany błąd", []),
    550: ("Operacja została anulowana przez system", [_BROKEN_OFF]),
}
ENROLLMENT = {
    100: ("Wniosek przyjęty do realizacji", []),
    200: ("Wniosek obsłużony (certyfikat wygenerowany)", []),
    400: ("Wniosek odrzucony", []),
    500: ("Nieznany błąd", []),
    550: ("Operacja została anulowana przez system", [_BROKEN_OFF]),
}


def status(table: dict[int, tuple[str, list[str]]], code: int, details: list[str] | None = None) -> dict[str, object]:
    """A status object: code, description and, when there are any, details."""
    description, usual = table.get(code, (f"Nieznany błąd ({code})", []))
    said = details or usual
    return {"code": code, "description": description, **({"details": said} if said else {})}
