"""The table connector's duty: rows in, answers back into the same rows. Source: CONTRACT §5."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from ksefbuffer.erp.answers import row_values
from ksefbuffer.erp.delivery import Answer
from ksefbuffer.erp.options import options_from
from ksefbuffer.erp.submit import Offer, Source, submit_all
from ksefbuffer.erp.table import TableConnector
from ksefbuffer.invoice.precheck import CheckContext
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.deliveries import Arrival

_AT_ONCE = 16
_TAKEN = {"status": "oczekuje", "status_code": "queued"}


@dataclass
class RowConnector:
    """Takes rows in and answers into them. ``context(now)`` gives the check's context."""

    database: Database
    table: TableConnector
    context: Callable[[datetime], CheckContext]

    def take_in(self, now: datetime) -> bool:
        """One step: rows become ours in one commit, then each row says so. True when there may be more.

        Raises TableAway or TableUnfit; rows taken but not yet marked are known by their hash next time.
        """
        rows = self.table.claim(_AT_ONCE)
        if not rows:
            return False
        offers = [
            Offer(row.content, Source("table", row.row_id, row.row_id), options_from(row.options)) for row in rows
        ]
        submissions = submit_all(self.database, offers, self.context(now), actor="table")
        marked = [
            self.table.mark(row.row_id, {**_TAKEN, "document_id": submission.document.document_id})
            for row, submission in zip(rows, submissions, strict=True)
        ]
        # Rows that will not be marked (a trigger of the ERP's) must not keep this duty spinning.
        return any(marked)

    def deliver(self, answer: Answer) -> None:
        """Writes an arrival's answer into its row; a row that is gone is the ERP's own decision."""
        self.table.write_back(answer.arrival.answer_name, row_values(answer.object, answer.upo))

    @staticmethod
    def upo_name(arrival: Arrival) -> str:
        return f"{arrival.answer_name}.upo.xml"
