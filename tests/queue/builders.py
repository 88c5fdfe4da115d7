"""Documents in every state, made by the ways that the program itself takes."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from sqlalchemy import Connection

from ksefbuffer.queue import deliveries, documents, sessions
from ksefbuffer.queue.documents import Document, NewDocument
from ksefbuffer.queue.states import Event, State
from tests.samples import NIP, NOW

_numbers = count(1)
AN_ERROR = {"code": "C03", "source": "precheck", "message": "źle", "hint": "", "line": 1, "field": None, "details": []}


def new(**changes: Any) -> NewDocument:
    number = next(_numbers)
    content = f"<Faktura>{number}</Faktura>".encode()
    values: dict[str, Any] = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "content": content,
        "form": "FA (3)",
        "invoice_number": f"FV/{number}",
        "invoice_type": "VAT",
        "seller_nip": NIP,
        "business_key": f"{NIP}|VAT|FV/{number}",
    }
    return NewDocument(**{**values, **changes})


def ksef_number() -> str:
    return f"{NIP}-20261120-{next(_numbers):012X}-00"


def open_session(tx: Connection, at: datetime = NOW) -> int:
    session = sessions.begin(tx, "FA (3)", at=at)
    sessions.opened(tx, session, f"20261120-SO-{next(_numbers):010X}", at + timedelta(hours=12), at=at)
    return session


def changes_for(tx: Connection, event: Event, at: datetime = NOW) -> dict[str, Any]:
    """The columns that an event brings along, as the sender gives them."""
    if event is Event.BIND:
        return {"session_id": open_session(tx, at)}
    if event is Event.NUMBER:
        return {"ksef_number": ksef_number(), "accepted_at": at}
    if event is Event.FAIL:
        return {"next_attempt_at": at + timedelta(minutes=1), "errors": [AN_ERROR]}
    if event is Event.REFUSE:
        return {"errors": [AN_ERROR]}
    return {}


def move(tx: Connection, document: Document, event: Event, at: datetime = NOW) -> Document:
    return documents.apply(tx, document, event, at=at, actor="test", **changes_for(tx, event, at))


_WAYS: dict[State, tuple[Event, ...]] = {
    State.QUEUED: (),
    State.PROCESSING: (Event.BIND,),
    State.SENT: (Event.BIND, Event.NUMBER),
    State.ERROR: (Event.REFUSE,),
    State.FAILED: (Event.FAIL,),
    State.CANCELLED: (Event.WITHDRAW,),
}


def document_in(tx: Connection, state: State, *, at: datetime = NOW, **changes: Any) -> Document:
    document = documents.insert_document(tx, new(**changes), at=at, actor="test")
    for event in _WAYS[state]:
        document = move(tx, document, event, at)
    assert document.state is state
    return document


def arrival(tx: Connection, document: Document, place: str = "a.xml", **changes: Any) -> deliveries.Arrival:
    values: dict[str, Any] = {
        "connector": "folder",
        "place": place,
        "answer_name": place.removesuffix(".xml"),
        "reference": None,
        "callback_url": None,
        "at": NOW,
    }
    return deliveries.arrive(tx, document.id, **{**values, **changes})


def tell_everything(tx: Connection, now: datetime = NOW) -> None:
    while (due := deliveries.due(tx, now)) is not None:
        deliveries.told(tx, due)
