"""Answers leave here: one due delivery a step, made from the document as it stands now.

Printed pages follow the answers in a duty of their own (``printing``): a page costs more than all the rest.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from ksefbuffer.erp import answers
from ksefbuffer.errors import BufferFault
from ksefbuffer.offline import qr
from ksefbuffer.queue import deliveries, documents, pages, pauses
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.deliveries import Arrival, Due
from ksefbuffer.queue.documents import NEVER_SENT, Document
from ksefbuffer.queue.states import State

log = logging.getLogger(__name__)

_FIRST_PAUSE = timedelta(seconds=2)
_LONGEST_PAUSE = timedelta(minutes=5)
# Some 5 kB each. A code is asked for again with each later answer to its document.
_MOST_PICTURES = 2000
# In these the document is an invoice; what was refused or withdrawn is none, and has nothing to be verified by.
_ALIVE = (State.QUEUED, State.FAILED, State.PROCESSING, State.SENT)

OFF = "OFF"
OUTSIDE_KSEF = "BFK"


@dataclass(frozen=True)
class Page:
    """What is to be said of a printed page beside an answer: ``is_wanted`` once there is something to print; a page
    that lies there already may stay when its SHA-256 is ``mine``."""

    is_wanted: bool
    mine: str | None


@dataclass(frozen=True)
class Answer:
    """Everything there is to tell one arrival: the object of CONTRACT §4, and the files that go with it. ``page`` is
    None where nobody ever asked for printed pages."""

    arrival: Arrival
    object: dict[str, Any]
    upo: bytes | None
    qr1: bytes | None
    qr2: bytes | None = None
    page: Page | None = None


class Connector(Protocol):
    """Where answers go. ``deliver`` must be harmless to repeat; it raises OSError or BufferFault when it cannot.
    ``has_files``: it takes the QR codes; ``has_pages``: it was asked for printed pages as well."""

    @property
    def has_files(self) -> bool: ...

    @property
    def has_pages(self) -> bool: ...

    def deliver(self, answer: Answer) -> None: ...

    def put_page(self, arrival: Arrival, page: bytes | None) -> None:
        """Writes the printed page beside the answer, or removes it. Raises OSError."""

    def upo_name(self, arrival: Arrival) -> str: ...


@dataclass
class Deliver:
    """The duty of telling. ``qr_url`` is the verification page's address of the environment. ``outbox`` is held while
    an answer is made and told: a page must not be put beside another document's answer."""

    database: Database
    connectors: Mapping[str, Connector]
    qr_url: str
    outbox: threading.Lock = field(default_factory=threading.Lock)
    _pictures: dict[tuple[str, str], bytes] = field(default_factory=dict)

    def step(self, now: datetime) -> bool:
        """One due delivery: read, tell, record. True when one was made or tried."""
        with self.outbox:
            return self._step(now)

    def _step(self, now: datetime) -> bool:
        with self.database.reading() as tx:
            due = deliveries.due(tx, now)
            if due is None:
                return False
            document = documents.get(tx, due.arrival.document)
            upo = documents.upo(tx, document.id) if document.has_upo else None
            held_back = pauses.active(tx, now) if document.state is State.QUEUED else None
            printed = pages.printed(tx, due.arrival.id)
            ever_printed = pages.any_printed(tx)
        connector = self.connectors.get(due.arrival.connector)
        prints = connector is not None and connector.has_pages and is_printed(document)
        page = Page(prints, printed) if connector is not None and (connector.has_pages or ever_printed) else None
        try:
            if connector is None:
                raise BufferFault(f"Źródło „{due.arrival.connector}” jest wyłączone w konfiguracji; odpowiedź czeka.")
            connector.deliver(self._answer(document, due.arrival, upo, held_back, connector, page))
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
            if prints:
                pages.want_for_answer(tx, due.arrival.id, at=now)
            elif page is not None:
                pages.none_for_answer(tx, due.arrival.id)
            next_due = deliveries.next_due(tx)
        if document.state in (State.PROCESSING, State.FAILED) and (next_due is None or next_due > now):
            # While KSeF works on a till's invoice, or cannot be reached, there is time for its picture; behind a batch
            # there is none.
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
        page: Page | None,
    ) -> Answer:
        link = shown_verification_url(document, self.qr_url)
        shown = document_object(
            document,
            arrival,
            upo_file=connector.upo_name(arrival) if upo else None,
            verification_url=link,
            held_back=held_back,
        )
        certificate_link = certificate_url(document)
        if not connector.has_files:
            return Answer(arrival, shown, upo, None)
        return Answer(
            arrival,
            shown,
            upo,
            self._picture(link, qr.invoice_label(document.ksef_number)) if link is not None else None,
            self._picture(certificate_link, qr.CERTIFICATE_LABEL) if certificate_link is not None else None,
            page,
        )

    def _picture(self, link: str, label: str) -> bytes:
        # The same picture is asked for again with the UPO, a moment later; KOD II also with the number, a day later.
        made = self._pictures.get((link, label))
        if made is None:
            if len(self._pictures) >= _MOST_PICTURES:
                del self._pictures[next(iter(self._pictures))]
            made = self._pictures[link, label] = qr.png(link, label)
        return made

    def _postpone(self, due: Due, reason: str, now: datetime) -> None:
        pause = min(_FIRST_PAUSE * 2 ** min(due.attempts, 10), _LONGEST_PAUSE)
        log.warning("answer document=%s not delivered (attempt %s): %s", due.arrival.document, due.attempts + 1, reason)
        with self.database.transaction() as tx:
            deliveries.not_told(tx, due, error=reason, again_at=now + pause)


def verification_url(document: Document, qr_url: str) -> str | None:
    """KOD I's link; it does not need the KSeF number. Source: FACTS §11.

    None for a document that KSeF has not got and that was not issued offline: a refused one may hold anything in place
    of a NIP. None in a total failure, in which there are no codes (FACTS §10).
    """
    if document.issue_date is None or document.seller_nip is None or document.state not in _ALIVE:
        return None
    if document.ksef_number is None and document.offline_mode == NEVER_SENT:
        return None
    # What waits was found to be ours, and in order, at the door.
    return qr.verification_url(qr_url, document.seller_nip, document.issue_date, document.sha256)


def shown_verification_url(document: Document, qr_url: str) -> str | None:
    """The same once it is to be told: with the number, or as soon as the document is issued offline."""
    if document.ksef_number is None and document.offline_mode is None:
        return None
    return verification_url(document, qr_url)


def certificate_url(document: Document) -> str | None:
    """KOD II's link, of a document that was issued offline and stands."""
    outside = document.offline_mode == NEVER_SENT and document.ksef_number is None
    return None if outside or document.state not in _ALIVE else document.certificate_url


def jpk_marker(document: Document) -> str | None:
    """What the sales ledger (JPK_V7) writes in place of the number. Source: CONTRACT §4, FACTS §10."""
    if document.offline_mode is None or document.ksef_number is not None or document.state not in _ALIVE:
        return None
    return OUTSIDE_KSEF if document.offline_mode == NEVER_SENT else OFF


def is_printed(document: Document) -> bool:
    """Whether there is a page to print: the number is known, or the mode that the invoice was issued in."""
    return document.state in _ALIVE and (document.ksef_number is not None or document.offline_mode is not None)


@dataclass(frozen=True)
class _View:
    """A document as one arrival's ERP is told of it."""

    document: Document
    reference: str | None
    waits_for: str | None
    jpk_marker: str | None

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
    # A pause ends; what a document is never sent for does not.
    never_sent = document.offline_mode == NEVER_SENT and waits_for is not None
    if document.state is State.QUEUED and held_back is not None and not never_sent:
        waits_for = held_back.message
    view = _View(document, arrival.reference if arrival else None, waits_for, jpk_marker(document))
    source = arrival.place if arrival else ""
    return answers.document_object(view, source, upo_file, verification_url, certificate_url(document))
