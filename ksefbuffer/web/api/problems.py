"""Errors of the API: application/problem+json (RFC 9457), its words Polish."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi.responses import JSONResponse


class Problem(Exception):
    """Raised by a handler of the API; becomes the response.

    ``slug`` is stable and for programs; ``title``, ``detail`` and ``hint`` are Polish and for people.
    """

    def __init__(
        self,
        status: int,
        slug: str,
        title: str,
        detail: str = "",
        *,
        hint: str = "",
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(title)
        self.status, self.slug, self.title, self.detail, self.hint = status, slug, title, detail, hint
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})


def problem_response(problem: Problem) -> JSONResponse:
    """The response that tells of it."""
    body: dict[str, Any] = {
        "type": f"urn:ksefbuffer:problem:{problem.slug}",
        "title": problem.title,
        "status": problem.status,
    }
    if problem.detail:
        body["detail"] = problem.detail
    if problem.hint:
        body["hint"] = problem.hint
    body.update(problem.extra)
    return JSONResponse(body, problem.status, problem.headers, media_type="application/problem+json")


MEDIA_TYPE = "application/problem+json"
_MEANINGS: Mapping[int, tuple[str, str, str]] = {
    400: ("bad-request", "Niepoprawne żądanie", "Żądania nie można odczytać: zły parametr, kursor albo puste ciało."),
    401: ("key", "Brak ważnego klucza API", "Nie podano klucza albo jest nieważny."),
    403: ("scope", "Klucz nie ma tego uprawnienia", "Klucz nie ma potrzebnego zakresu."),
    404: ("not-found", "Nie ma tego", "Nie ma takiego zasobu, albo nie jest dla tego klucza."),
    405: ("method", "Tak się nie da", "Ten adres nie przyjmuje tej metody; nagłówek Allow mówi, jakie przyjmuje."),
    408: ("slow", "Żądanie szło zbyt długo", "Ciało żądania nie dotarło na czas."),
    409: ("state", "Teraz nie można tego zrobić", "Stan zasobu na to nie pozwala."),
    413: ("size", "Za duży plik", "Faktura jest większa, niż przyjmuje KSeF."),
    415: ("type", "Nieobsługiwany typ treści", "Treść musi mieć typ application/xml albo text/xml."),
    422: ("invalid", "Niepoprawne dane", "Dane nie przeszły kontroli; powody są w treści."),
    429: ("rate", "Za dużo wywołań", "Przekroczono liczbę wywołań na minutę; nagłówek Retry-After mówi, ile odczekać."),
    503: ("unavailable", "Chwilowo niedostępne", "Baza danych albo bufor chwilowo nie odpowiada; spróbuj ponownie."),
}


def told(*statuses: int, shapes: Mapping[int, str] | None = None) -> dict[int | str, dict[str, Any]]:
    """``responses=`` of a route: these errors, as OpenAPI tells of them. ``shapes``: by status, the names of schemas
    that say more than the plain one (see ``openapi``)."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        slug, title, meaning = _MEANINGS[status]
        shape = (shapes or {}).get(status, "ProblemShape")
        example = {"type": f"urn:ksefbuffer:problem:{slug}", "title": title, "status": status, "detail": meaning}
        found[status] = {
            "description": meaning,
            "content": {
                MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{shape}"}, "example": example},
            },
        }
        if status == 429:
            seconds = {"description": "Po ilu sekundach spróbować", "schema": {"type": "integer"}}
            found[status]["headers"] = {"Retry-After": seconds}
    return found
