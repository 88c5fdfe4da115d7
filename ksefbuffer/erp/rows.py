"""The table connector's duty: rows in, answers back into the same rows. Source: CONTRACT §5."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ksefbuffer.erp.answers import row_values
from ksefbuffer.erp.delivery import Answer
from ksefbuffer.erp.files import name_as_text, text_as_name
from ksefbuffer.erp.options import options_from
from ksefbuffer.erp.submit import Offer, Source, submit_all
from ksefbuffer.erp.table import TableConnector, TableInvoice
from ksefbuffer.errors import BufferFault
from ksefbuffer.invoice.precheck import CheckContext
from ksefbuffer.queue import documents
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.deliveries import Arrival

log = logging.getLogger(__name__)

_AT_ONCE = 16
_LOOKED_AT = 500
_TAKEN = {"status": "oczekuje", "status_code": "queued"}


@dataclass
class RowConnector:
    """Takes rows in and answers into them. ``context(now)`` gives the check's context."""

    database: Database
    table: TableConnector
    context: Callable[[datetime], CheckContext]
    _said: set[str] = field(default_factory=set)

    def take_in(self, now: datetime) -> bool:
        """One step: rows become ours in one commit, then each row says so. True when there may be more.

        Raises TableAway or TableUnfit; rows taken but not yet marked are known by their hash next time.
        """
        rows = self.table.claim(_AT_ONCE)
        if not rows:
            return False
        try:
            return self._take(rows, now)
        except BufferFault:
            raise
        except Exception as fault:
            log.debug("rows cannot be taken together (%s); one by one", type(fault).__name__)
            taken = [self._take_one(row, now) for row in rows]
            return any(taken)

    def take_again(self, since: datetime, now: datetime) -> bool:
        """After a restore: rows that name a document we never heard of become new. False: all were looked at.

        Raises TableAway or TableUnfit.
        """
        after: str | None = None
        while marked := self.table.answered_since(since, after=after, limit=_LOOKED_AT):
            with self.database.reading() as tx:
                unknown = documents.unknown_ids(tx, [document_id for _, document_id in marked])
            for row_id, document_id in marked:
                if document_id in unknown:
                    self.table.forget(row_id, document_id)
            after = marked[-1][1]
        # Only once they are ours again may sending go on.
        return self.take_in(now)

    def _take(self, rows: Sequence[TableInvoice], now: datetime) -> bool:
        offers = [_offer(row) for row in rows]
        submissions = submit_all(self.database, offers, self.context(now), actor="table")
        marked = [
            self.table.mark(row.row_id, {**_TAKEN, "document_id": submission.document.document_id})
            for row, submission in zip(rows, submissions, strict=True)
        ]
        # Rows that will not be marked (a trigger of the ERP's) must not keep this duty spinning.
        return any(marked)

    def _take_one(self, row: TableInvoice, now: datetime) -> bool:
        try:
            return self._take([row], now)
        except BufferFault:
            raise
        except Exception:
            # Nobody foresaw it: the row stays new, and the others must not wait for it. Said once.
            if row.row_id not in self._said:
                self._said.add(row.row_id)
                log.exception("row=%s cannot be taken", name_as_text(row.row_id))
            return False

    # A row has no place for pictures and pages; the link of the picture is in it.
    has_files = False
    has_pages = False

    def deliver(self, answer: Answer) -> None:
        """Writes an arrival's answer into its row; a row that is gone is the ERP's own decision.

        A document whose row has since been given another invoice has nowhere to be told; it is in ``queue list``.
        """
        if answer.arrival.answer_name == answer.arrival.place:
            self.table.write_back(text_as_name(answer.arrival.place), row_values(answer.object, answer.upo))

    def put_page(self, arrival: Arrival, page: bytes | None) -> None:
        """Nothing: no page is asked for here."""

    @staticmethod
    def upo_name(arrival: Arrival) -> str:
        return f"{arrival.answer_name}.upo.xml"


def _offer(row: TableInvoice) -> Offer:
    # As text that either database stores, whatever the ERP's key holds.
    key = name_as_text(row.row_id)
    return Offer(row.content, Source("table", key, key), options_from(row.options))
