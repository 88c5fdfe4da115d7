"""Printed pages beside answers: ``NAME.pdf``, after the answer that it belongs to. Source: FACTS §11 (codes).

A page is due once its answer was told, and is made from the document as it stands then: with KOD I and KOD II, and with
the number as soon as there is one. Setting it waits for nobody's answer, and no answer waits for it.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ksefbuffer.erp.delivery import Deliver, certificate_url, is_printed, shown_verification_url
from ksefbuffer.errors import BufferFault
from ksefbuffer.offline import qr
from ksefbuffer.offline.printed import Code, NotPrintable, render
from ksefbuffer.queue import documents, pages
from ksefbuffer.queue.documents import Document
from ksefbuffer.queue.pages import AnswerPage

log = logging.getLogger(__name__)

_FIRST_PAUSE = timedelta(seconds=5)
_LONGEST_PAUSE = timedelta(minutes=10)
# With its receipt, a moment after the number, a document asks for the same page again.
_MOST_KEPT = 64
_MOST_KEPT_BYTES = 200_000


@dataclass(frozen=True)
class _Said:
    """All that a page depends on."""

    sha256: str
    ksef_number: str | None
    accepted_at: datetime | None
    mode: str | None
    codes: tuple[tuple[str, str], ...]


@dataclass
class PrintAnswers:
    """The duty of printing, beside that of telling (``deliver``), with which it shares the places to write to."""

    deliver: Deliver
    _kept: dict[_Said, bytes] = field(default_factory=dict)

    def step(self, now: datetime) -> bool:
        """One page due: printed and recorded. True when there was one."""
        database = self.deliver.database
        with database.reading() as tx:
            page = pages.answer_due(tx, now)
            if page is None:
                return False
            document = documents.get(tx, page.arrival.document)
            content = documents.content(tx, document.id)
        printed: bytes | None = None
        try:
            if content is not None and is_printed(document):
                printed = self._page(document, content)
        except NotPrintable as fault:
            log.warning("page document=%s: %s", document.document_id, fault)
        except Exception as error:
            # A fault nobody foresaw costs this page a pause, not all the pages behind it.
            log.exception("page document=%s cannot be printed", document.document_id)
            self._postpone(page, type(error).__name__, now)
            return True
        try:
            self._put(page, printed)
        except (OSError, BufferFault) as error:
            self._postpone(page, str(getattr(error, "strerror", None) or error), now)
        return True

    def next_due(self) -> datetime | None:
        """When the next page is due."""
        with self.deliver.database.reading() as tx:
            return pages.next_answer(tx)

    def _page(self, document: Document, content: bytes) -> bytes:
        said = _said(document, self.deliver.qr_url)
        made = self._kept.get(said)
        if made is None:
            made = render(
                content,
                ksef_number=said.ksef_number,
                accepted_at=said.accepted_at,
                codes=[Code(url, label) for url, label in said.codes],
                mode=said.mode,
            )
            if len(made) <= _MOST_KEPT_BYTES:
                if len(self._kept) >= _MOST_KEPT:
                    del self._kept[next(iter(self._kept))]
                self._kept[said] = made
        return made

    def _put(self, page: AnswerPage, printed: bytes | None) -> None:
        database = self.deliver.database
        connector = self.deliver.connectors.get(page.arrival.connector)
        # Nothing is told meanwhile: under the same name another document may be answered next.
        with self.deliver.outbox:
            with database.reading() as tx:
                if not pages.is_still_asked(tx, page):
                    return
            if connector is None or not connector.has_pages:
                printed = None
            else:
                connector.put_page(page.arrival, printed)
            with database.transaction() as tx:
                pages.answer_printed(tx, page, hashlib.sha256(printed).hexdigest() if printed is not None else None)

    def _postpone(self, page: AnswerPage, reason: str, now: datetime) -> None:
        pause = min(_FIRST_PAUSE * 2 ** min(page.attempts, 10), _LONGEST_PAUSE)
        log.warning("page document=%s not written (attempt %s): %s", page.arrival.document, page.attempts + 1, reason)
        with self.deliver.database.transaction() as tx:
            pages.answer_not_printed(tx, page, again=now + pause)


def _said(document: Document, qr_url: str) -> _Said:
    link, certificate_link = shown_verification_url(document, qr_url), certificate_url(document)
    codes = [(link, qr.invoice_label(document.ksef_number))] if link is not None else []
    if certificate_link is not None:
        codes.append((certificate_link, qr.CERTIFICATE_LABEL))
    return _Said(document.sha256, document.ksef_number, document.accepted_at, document.offline_mode, tuple(codes))
