"""Answers leave here: one due delivery a step, made from the document as it stands now."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from ksefbuffer.erp import answers
from ksefbuffer.errors import BufferFault
from ksefbuffer.offline import qr
from ksefbuffer.queue import deliveries, documents, pauses
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.deliveries import Arrival, Due
from ksefbuffer.queue.documents import Document
from ksefbuffer.queue.states import State

log = logging.getLogger(__name__)

_FIRST_PAUSE = timedelta(seconds=2)
_LONGEST_PAUSE = timedelta(minutes=5)


@dataclass(frozen=True)
class Answer:
    """Everything there is to tell one arrival: the object of CONTRACT §4, and the files that go with it."""

    arrival: Arrival
    object: dict[str, Any]
    upo: bytes | None
    qr1: bytes | None


class Connector(Protocol):
    """Where answers go. ``deliver`` must be harmless to repeat; it raises OSError or BufferFault when it cannot."""

    def deliver(self, answer: Answer) -> None: ...

    def upo_name(self, arrival: Arrival) -> str: ...


@dataclass
class Deliver:
    """The duty of telling. ``qr_url`` is the verification page's address of the environment."""

    database: Database
    connectors: Mapping[str, Connector]
    qr_url: str
    _pictures: dict[str, bytes] = field(default_factory=dict)

    def step(self, now: datetime) -> bool:
        """One due delivery: read, tell, record. True when one was made or tried."""
        with self.database.reading() as tx:
            due = deliveries.due(tx, now)
            if due is None:
                return False
            document = documents.get(tx, due.arrival.document)
            upo = documents.upo(tx, document.id) if document.has_upo else None
            held_back = pauses.active(tx, now) if document.state is State.QUEUED else None
        connector = self.connectors.get(due.arrival.connector)
        try:
            if connector is None:
                raise BufferFault(f"Źródło „{due.arrival.connector}” jest wyłączone w konfiguracji; odpowiedź czeka.")
            connector.deliver(self._answer(document, due.arrival, upo, held_back, connector))
        except (OSError, BufferFault) as error:
            self._postpone(due, str(error) if isinstance(error, BufferFault) else f"{error.strerror or error}", now)
            return True
        except Exception as error:
            # A fault nobody foresaw costs this answer a pause, not all the answers behind it.
            log.exception("answer document=%s cannot be made", due.arrival.document)
            self._postpone(due, f"błąd programu ({type(error).__name__})", now)
            return True
        with self.database.transaction() as tx:
            deliveries.told(tx, due)
            next_due = deliveries.next_due(tx)
        if document.state is State.PROCESSING and (next_due is None or next_due > now):
            # While KSeF works on a till's invoice there is time for its picture; behind a batch there is none.
            link = verification_url(document, self.qr_url)
            if link is not None:
                qr.prepare(link)
        return True

    def _answer(
        self,
        document: Document,
        arrival: Arrival,
        upo: bytes | None,
        held_back: pauses.Pause | None,
        connector: Connector,
    ) -> Answer:
        link = verification_url(document, self.qr_url)
        shown = document_object(
            document,
            arrival,
            upo_file=connector.upo_name(arrival) if upo else None,
            verification_url=link if document.ksef_number else None,
            held_back=held_back,
        )
        picture = None
        if link is not None and document.ksef_number:
            picture = self._picture(link, document.ksef_number)
        return Answer(arrival, shown, upo, picture)

    def _picture(self, link: str, label: str) -> bytes:
        # The same picture is asked for again with the UPO, a moment later.
        key = f"{link} {label}"
        if key not in self._pictures:
            if len(self._pictures) > 256:
                self._pictures.clear()
            self._pictures[key] = qr.png(link, label)
        return self._pictures[key]

    def _postpone(self, due: Due, reason: str, now: datetime) -> None:
        pause = min(_FIRST_PAUSE * 2 ** min(due.attempts, 10), _LONGEST_PAUSE)
        log.warning("answer document=%s not delivered (attempt %s): %s", due.arrival.document, due.attempts + 1, reason)
        with self.database.transaction() as tx:
            deliveries.not_told(tx, due, error=reason, again_at=now + pause)


def verification_url(document: Document, qr_url: str) -> str | None:
    """KOD I's link; it does not need the KSeF number, but is told only with it. Source: FACTS §11.

    None for a document that is not at KSeF: a refused one may hold anything in place of a NIP.
    """
    if document.issue_date is None or document.seller_nip is None:
        return None
    if document.ksef_number is None and document.state is not State.PROCESSING:
        return None
    return qr.verification_url(qr_url, document.seller_nip, document.issue_date, document.sha256)


@dataclass(frozen=True)
class _View:
    """A document as one arrival's ERP is told of it."""

    document: Document
    reference: str | None
    waits_for: str | None
    offline_mode: None = None
    offline_deadline: None = None
    jpk_marker: None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.document, name)


def document_object(
    document: Document,
    arrival: Arrival | None,
    *,
    upo_file: str | None = None,
    verification_url: str | None = None,
    held_back: pauses.Pause | None = None,
) -> dict[str, Any]:
    """The object of CONTRACT §4 for one arrival of a document (or for the document alone)."""
    waits_for = document.waits_for
    if document.state is State.QUEUED and held_back is not None:
        waits_for = held_back.message
    view = _View(document, arrival.reference if arrival else None, waits_for)
    source = arrival.place if arrival else ""
    return answers.document_object(view, source, upo_file, verification_url, None)
