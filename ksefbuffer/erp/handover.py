"""Received invoices leave for the ERP's own table: rows due are written, then recorded so. Source: CONTRACT §5."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ksefbuffer.erp.table import IncomingTable, RowRefused, TableAway, TableUnfit
from ksefbuffer.errors import BufferFault
from ksefbuffer.queue import incoming
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.incoming import Incoming

log = logging.getLogger(__name__)

_AT_ONCE = 50
_FIRST_PAUSE = timedelta(seconds=5)
_LONGEST_PAUSE = timedelta(minutes=5)
_LONGEST_ROW_PAUSE = timedelta(hours=1)
# So many that fail one after the other, nobody knows why, are no matter of single rows any more.
_MOST_UNSURE = 3


@dataclass
class HandOver:
    """The duty of handing over. When the ERP's database is away, the whole duty pauses, longer each time; a row that it
    does not take is postponed alone. ``trouble``: what holds the duty back, in Polish, "" when nothing does."""

    database: Database
    table: IncomingTable
    trouble: str = ""
    _held_until: datetime | None = None
    _failures: int = 0

    def step(self, now: datetime) -> bool:
        """Some rows due. True when there may be more."""
        if self._held_until is not None and now < self._held_until:
            return False
        with self.database.reading() as tx:
            due = incoming.rows_due(tx, now, limit=_AT_ONCE)
        if not due:
            return False
        written: list[Incoming] = []
        refused: list[tuple[Incoming, str]] = []
        fault: BufferFault | None = None
        unsure = 0
        for one in due:
            try:
                self._put(one)
            except RowRefused as refusal:
                refused.append((one, str(refusal)))
                unsure = 0 if refusal.is_sure else unsure + 1
                if unsure == _MOST_UNSURE:
                    fault = refusal
                    break
            except (TableAway, TableUnfit) as trouble:
                fault = trouble
                break
            except Exception as error:
                # A fault nobody foresaw costs this row a pause, not all those behind it.
                log.exception("incoming=%s cannot be handed over", one.id)
                refused.append((one, f"błąd programu ({type(error).__name__})"))
            else:
                written.append(one)
                unsure = 0
        self._record(written, refused, now)
        self._hold_or_go_on(fault, now, brought=bool(written))
        return fault is None

    def next_due(self) -> datetime | None:
        """When the next row is due, or the pause ends."""
        with self.database.reading() as tx:
            due = incoming.next_due(tx, "row")
        return max(due, self._held_until) if due is not None and self._held_until is not None else due

    def _put(self, one: Incoming) -> None:
        with self.database.reading() as tx:
            content = incoming.content(tx, one.id)
        self.table.put(row_of(one, content))

    def _record(self, written: list[Incoming], refused: list[tuple[Incoming, str]], now: datetime) -> None:
        if not written and not refused:
            return
        with self.database.transaction() as tx:
            for one in written:
                incoming.row_written(tx, one)
            for one, reason in refused:
                pause = min(_FIRST_PAUSE * 2 ** min(one.row_attempts, 12), _LONGEST_ROW_PAUSE)
                incoming.row_failed(tx, one.id, reason, again=now + pause)
        for one, reason in refused:
            log.warning("incoming=%s row not taken (attempt %s): %s", one.id, one.row_attempts + 1, reason)

    def _hold_or_go_on(self, fault: BufferFault | None, now: datetime, *, brought: bool) -> None:
        if fault is None:
            if self.trouble:
                log.info("incoming rows are handed over again")
            self.trouble, self._held_until, self._failures = "", None, 0
            return
        self._failures = 1 if brought else self._failures + 1
        self._held_until = now + min(_FIRST_PAUSE * 2 ** min(self._failures - 1, 10), _LONGEST_PAUSE)
        if self.trouble != str(fault):
            # Said once, however long it lasts.
            self.trouble = str(fault)
            log.warning("incoming rows wait: %s", fault)


def row_of(one: Incoming, content: bytes) -> dict[str, Any]:
    """The row of ``ksef_incoming`` for an invoice, in the shape that ``IncomingTable.put`` takes."""
    return {
        "ksef_number": one.ksef_number,
        "seller_nip": one.seller_nip,
        "seller_name": one.seller_name,
        "invoice_number": one.invoice_number,
        "issue_date": one.issue_date,
        "gross": one.gross,
        "currency": one.currency,
        "folder": one.folder,
        "tags": ",".join(one.tags),
        "verdict": one.verdict,
        "invoice_xml": content,
        "received_at": one.received_at,
        "decision": one.decision,
        "decision_comment": one.comment,
        "decided_at": one.decided_at,
        "roles": ",".join(sorted(one.roles)),
        "invoice_type": one.invoice_type,
        "buyer_nip": one.buyer_nip,
    }
