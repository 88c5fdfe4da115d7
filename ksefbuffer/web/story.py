"""A document's whole story in words for people: what happened to it, where, and by whom. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ksefbuffer.erp.files import shown, text_as_name
from ksefbuffer.queue.documents import Document
from ksefbuffer.queue.finding import AnswerStory, SessionStory
from ksefbuffer.queue.states import Event, State

_TITLES: Mapping[str, str] = {
    Event.ACCEPTED: "Przyjęto do wysłania",
    Event.TURNED_AWAY: "Zatrzymano: kontrola przed wysłaniem znalazła błędy",
    Event.BIND: "Przekazano do sesji KSeF",
    Event.NUMBER: "KSeF nadał numer",
    Event.REFUSE: "Odmowa: dokument wymaga poprawy",
    Event.FAIL: "Nie udało się dostarczyć; bufor spróbuje ponownie",
    Event.NOT_AT_KSEF: "Upewniono się, że KSeF nie ma dokumentu; wraca do kolejki",
    Event.RETRY: "Ponowienie",
    Event.WITHDRAW: "Wycofano przed wysłaniem",
}
_ACTORS: Mapping[str, str] = {
    "folder": "folder wejściowy",
    "table": "tabela ERP",
    "http": "HTTP",
    "sender": "wysyłka",
    "batch": "wysyłka wsadowa",
    "reconcile": "uzgadnianie z KSeF",
    "recovery": "wznowienie po przerwie",
    "restore": "odtworzenie kopii",
    "offline": "tryb offline",
    "ksef": "KSeF",
}
_SIDES: Mapping[str, str] = {"user": "użytkownik", "key": "klucz API", "cli": "wiersz poleceń"}
CONNECTORS: Mapping[str, str] = {"folder": "folder", "table": "tabela ERP", "http": "HTTP / strona"}
SESSION_KINDS: Mapping[str, str] = {"online": "interaktywna", "batch": "wsadowa"}


@dataclass(frozen=True)
class Moment:
    """One thing that happened. ``mark`` is a state's name, "told" or "" and colours the point."""

    at: datetime
    title: str
    note: str = ""
    who: str = ""
    mark: str = ""


def actor_pl(actor: str) -> str:
    """Who did it, for people: "user:anna" → "użytkownik anna"."""
    side, found, name = actor.partition(":")
    if found and side in _SIDES:
        return f"{_SIDES[side]} {name}"
    return _ACTORS.get(actor, actor)


def source_name(place: str) -> str:
    """A source's name as it came, safe to show."""
    try:
        return shown(text_as_name(place))
    except ValueError:
        return shown(place)


def story(
    document: Document,
    history: Sequence[Mapping[str, Any]],
    session: SessionStory | None,
    answers: Sequence[AnswerStory],
) -> list[Moment]:
    """Everything that is known to have happened, oldest first; in one moment, arrivals before the log.

    history: rows of ``documents.history``; session: the one it is in, or was numbered in.
    """
    found: list[Moment] = []
    for arrival in answers:
        came = CONNECTORS.get(arrival.connector, arrival.connector)
        reference = f", oznaczenie {arrival.reference}" if arrival.reference else ""
        found.append(Moment(arrival.arrived_at, f"Przyszedł: {came}", f"{source_name(arrival.place)}{reference}"))
    found += [
        Moment(one["at"], _TITLES.get(one["event"], one["event"]), one["note"], actor_pl(one["actor"]), one["to_state"])
        for one in history
    ]
    if document.handed_at is not None:
        found.append(Moment(document.handed_at, "KSeF odebrał dokument", document.invoice_reference or "", "KSeF"))
    if document.accepted_at is not None:
        found.append(Moment(document.accepted_at, "Data przyjęcia w KSeF", document.ksef_number or "", "KSeF", "sent"))
    if document.offline_mode is not None and document.offline_since is not None:
        found.append(Moment(document.offline_since, f"Wystawiono w trybie {document.offline_mode}", "", "tryb offline"))
    if session is not None and session.closed_at is not None and document.state is not State.QUEUED:
        code = f", stan {session.status_code}" if session.status_code else ""
        found.append(Moment(session.closed_at, "Zamknięto sesję KSeF", f"{session.reference or ''}{code}", "wysyłka"))
    return sorted(found, key=lambda one: one.at)
