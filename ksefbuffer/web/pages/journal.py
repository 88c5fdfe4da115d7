"""Dziennik: what people and programs did, newest first. For administrators."""

from __future__ import annotations

import csv
import io
from datetime import date, datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ksefbuffer.queue import people
from ksefbuffer.web.gate import AdminCaller
from ksefbuffer.web.rendering import POLISH_TIME, moment, render
from ksefbuffer.web.site import site_of

router = APIRouter(prefix="/dziennik")

_PAGE = 100
_EXPORTED = 50_000
ACTIONS = {
    "login": "zalogowanie",
    "login-refused": "odmowa logowania",
    "logout": "wylogowanie",
    "logout-everywhere": "wylogowanie innych przeglądarek",
    "password": "zmiana hasła",
    "password-refused": "błędne obecne hasło",
    "totp-on": "włączenie drugiego składnika",
    "totp-off": "wyłączenie drugiego składnika",
    "invitation-used": "ustawienie hasła z zaproszenia",
    "user-add": "dodanie użytkownika",
    "user-change": "zmiana użytkownika",
    "user-enable": "włączenie konta",
    "user-disable": "wyłączenie konta",
    "user-invite": "zaproszenie",
    "group-add": "dodanie grupy",
    "group-change": "zmiana grupy",
    "group-remove": "usunięcie grupy",
    "key-add": "nowy klucz API",
    "key-revoke": "unieważnienie klucza API",
    "document.send": "przekazanie do wysyłki",
    "document.retry": "ponowienie wysyłki",
    "document.cancel": "wycofanie dokumentu",
    "invoice-retry": "ponowienie wysyłki (API)",
    "invoice-cancel": "wycofanie dokumentu (API)",
    "incoming-decide": "decyzja o fakturze",
    "incoming-decision": "decyzja o fakturze (API)",
    "incoming-comment": "komentarz do faktury",
    "incoming-tag": "etykieta faktury",
    "incoming-untag": "zdjęcie etykiety",
    "incoming-book": "oznaczenie dla księgowości",
    "incoming-unbook": "cofnięcie oznaczenia dla księgowości",
    "incoming-attach": "załącznik do faktury",
    "incoming-detach": "usunięcie załącznika",
    "incoming-fetch": "pobranie faktur",
    "incoming-pull": "pobieranie z KSeF (API)",
    "rules-save": "zmiana reguł",
    "rules-refile": "ponowne rozłożenie faktur",
    "setting": "zmiana ustawienia",
    "order": "zlecenie dla bufora",
    "start": "pierwsze uruchomienie",
    "test-invoice": "faktura próbna",
}
"""Polish names of actions. One without a name is shown as it is."""


@router.get("")
def journal(
    request: Request, _who: AdminCaller, kto: str = "", co: str = "", od: str = "", do: str = "", przed: int = 0
) -> Response:
    site = site_of(request)
    asked = {"actor": kto, "action": co, "since": _start(od), "until": _start(do, days=1)}
    with site.database.reading() as tx:
        lines = people.noted(tx, **_given(asked), before=przed or None, limit=_PAGE + 1)
        actors, actions = people.actors(tx), people.actions(tx)
    filters = {name: value for name, value in {"kto": kto, "co": co, "od": od, "do": do}.items() if value}
    more = len(lines) > _PAGE
    return render(
        request,
        "journal/list.html",
        lines=lines[:_PAGE],
        names=ACTIONS,
        actors=actors,
        actions=actions,
        filters=filters,
        first=f"/dziennik?{urlencode(filters)}" if przed else "",
        next=f"/dziennik?{urlencode({**filters, 'przed': lines[_PAGE - 1].id})}" if more else "",
        export=f"/dziennik/csv?{urlencode(filters)}",
    )


@router.get("/csv")
def journal_as_csv(
    request: Request, _who: AdminCaller, kto: str = "", co: str = "", od: str = "", do: str = ""
) -> Response:
    """At most the newest 50,000 lines, for spreadsheets."""
    asked = {"actor": kto, "action": co, "since": _start(od), "until": _start(do, days=1)}
    with site_of(request).database.reading() as tx:
        lines = people.noted(tx, **_given(asked), limit=_EXPORTED)
    out = io.StringIO()
    table = csv.writer(out, delimiter=";", lineterminator="\r\n")
    table.writerow(["Czas", "Kto", "Co", "Czego dotyczy", "Szczegóły", "Adres"])
    for line in lines:
        name = ACTIONS.get(line.action, line.action)
        cells = (moment(line.at, seconds=True), line.actor, name, line.object, line.note, line.ip)
        table.writerow(map(no_formula, cells))
    # Spreadsheets take it for UTF-8 only with a byte order mark.
    return Response(
        out.getvalue().encode("utf-8-sig"),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="dziennik.csv"'},
    )


def no_formula(cell: str) -> str:
    """What a spreadsheet would run becomes text."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def _given(asked: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in asked.items() if value}


def _start(text: str, *, days: int = 0) -> datetime | None:
    """The beginning of that day in Poland, ``days`` later; None for what is no date."""
    try:
        return datetime.combine(date.fromisoformat(text) + timedelta(days=days), time(), POLISH_TIME)
    except (ValueError, OverflowError):
        return None
