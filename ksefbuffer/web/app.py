"""The application: every router, what stands before and after each request, and pages that tell of errors."""

from __future__ import annotations

import logging

from fastapi import FastAPI, HTTPException
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from ksefbuffer.errors import BufferFault, NoSuchThing, NotAllowedNow
from ksefbuffer.queue.db import StorageFault
from ksefbuffer.web.api import incoming, invoices, state
from ksefbuffer.web.api.openapi import describe
from ksefbuffer.web.api.problems import Problem, problem_response
from ksefbuffer.web.gate import CHANGE_PAGE, NewPasswordFirst, SignInFirst
from ksefbuffer.web.guard import Guard
from ksefbuffer.web.pages import (
    certificates,
    dashboard,
    documents,
    journal,
    login,
    rulebook,
    sending,
    settings,
    start,
    users,
)
from ksefbuffer.web.rendering import render, static_files
from ksefbuffer.web.site import Site

log = logging.getLogger(__name__)

PAGES = (dashboard, sending, documents, rulebook, certificates, users, settings, journal, login, start)
API = (invoices, incoming, state)


def create_app(site: Site) -> FastAPI:
    """The page and the API over this site."""
    app = FastAPI(
        title="ksefbuffer",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.site = site
    for module in API:
        app.include_router(module.router)
    for page in PAGES:
        app.include_router(page.router, include_in_schema=False)
    app.add_api_route("/static/{name}", _static_file, methods=["GET", "HEAD"], include_in_schema=False)
    _tell_errors(app)
    describe(app)
    app.add_middleware(Guard, site=site, tell=error)
    return app


def _static_file(name: str) -> Response:
    found = static_files().get(name)
    if found is None:
        raise HTTPException(404)
    content, media_type, version = found
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "ETag": f'"{version}"'}
    return Response(content, media_type=media_type, headers=headers)


# What went wrong, for people and for programs


_TOLD = {
    400: ("Nie można odczytać żądania", "Wróć do poprzedniej strony i spróbuj ponownie."),
    403: ("Odmowa", "Wróć do poprzedniej strony, odśwież ją i spróbuj ponownie."),
    404: ("Nie ma takiej strony", "Sprawdź adres albo wróć na pulpit."),
    405: ("Tak się nie da", "Ta strona nie przyjmuje takiego żądania."),
    408: ("Żądanie szło zbyt długo", "Sprawdź połączenie i spróbuj ponownie."),
    409: ("Teraz nie można tego zrobić", "Odśwież stronę: stan mógł się zmienić."),
    413: ("Za duży plik", "Wyślij mniejszy plik albo mniej plików naraz."),
    422: ("Niepoprawne dane", "Popraw dane i spróbuj ponownie."),
    429: ("Za dużo prób", "Odczekaj chwilę i spróbuj ponownie."),
    500: ("Coś się zepsuło", "Spróbuj ponownie; gdy się powtórzy, pokaż administratorowi dziennik bufora."),
    503: ("Chwilowo niedostępne", "Spróbuj ponownie za chwilę."),
}
_SLUGS = {400: "bad-request", 404: "not-found", 405: "method", 408: "slow", 409: "state", 413: "size", 415: "type",
          422: "invalid", 429: "rate", 503: "unavailable"}  # fmt: skip


def for_programs(path: str) -> bool:
    """Whether errors at this path are problem+json."""
    return path.startswith(("/api/", "/health", "/metrics"))


def error(
    request: Request, status: int, message: str = "", action: str = "", headers: dict[str, str] | None = None
) -> Response:
    """The answer that tells of an error: a Polish page, or problem+json for programs."""
    title, usual = _TOLD.get(status, _TOLD[500 if status >= 500 else 400])
    if for_programs(request.url.path):
        slug = _SLUGS.get(status, "internal" if status >= 500 else "error")
        return problem_response(Problem(status, slug, title, message, hint=action or usual, headers=headers))
    response = render(
        request, "errors.html", status_code=status, status=status, title=title, message=message, action=action or usual
    )
    response.headers.update(headers or {})
    return response


def _methods_at(request: Request) -> set[str]:
    """What may be done at this path: the routes of GET and of POST are not the same."""
    found: set[str] = set()
    for method in ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"):
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.router.routes):
            found.add(method)
    return found


def _tell_errors(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    def _problem(_request: Request, problem: Problem) -> Response:
        return problem_response(problem)

    @app.exception_handler(SignInFirst)
    def _sign_in(_request: Request, needed: SignInFirst) -> Response:
        return RedirectResponse(needed.wanted, status_code=303)

    @app.exception_handler(NewPasswordFirst)
    def _new_password(_request: Request, _needed: NewPasswordFirst) -> Response:
        return RedirectResponse(CHANGE_PAGE, status_code=303)

    @app.exception_handler(AnyHTTPException)
    def _http(request: Request, fault: AnyHTTPException) -> Response:
        from http import HTTPStatus

        usual = HTTPStatus(fault.status_code).phrase
        message = "" if fault.detail == usual else str(fault.detail)
        headers = dict(fault.headers or {})
        if fault.status_code == 405:
            headers["Allow"] = ", ".join(sorted(_methods_at(request)))
        return error(request, fault.status_code, message, headers=headers)

    @app.exception_handler(RequestValidationError)
    def _validation(request: Request, fault: RequestValidationError) -> Response:
        where = ", ".join(sorted({".".join(str(part) for part in one["loc"][1:]) for one in fault.errors()}))
        return error(request, 422, f"Niepoprawne: {where}." if where else "")

    @app.exception_handler(BufferFault)
    def _fault(request: Request, fault: BufferFault) -> Response:
        status = 404 if isinstance(fault, NoSuchThing) else 409 if isinstance(fault, NotAllowedNow) else 503
        if isinstance(fault, StorageFault):
            log.warning("%s", fault)
        return error(request, status, fault.message, fault.action)
