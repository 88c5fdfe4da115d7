"""Asking KSeF about sessions of either kind. Source: FACTS §4.1 to §4.3, §5.7."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal

from ksefbuffer.errors import SessionUnusable
from ksefbuffer.ksef import reading
from ksefbuffer.ksef.calls import Calls, quoted, session_path
from ksefbuffer.ksef.shapes import InvoiceStatus, SessionListed, SessionStatus
from ksefbuffer.ksef.statuses import session_closed
from ksefbuffer.ksef.wire import Call

SESSION_INVALID_KEY = 415

SessionKind = Literal["Online", "Batch"]


class SessionCalls(Calls):
    """Questions about sessions; none of them changes anything."""

    def session(self, reference: str, *, share: float = 1.0) -> SessionStatus:
        """A session's status. Limit sessionMisc."""
        call = Call("session", "GET", session_path(reference), "sessionMisc", repeatable=True, share=share)
        status = self._in_known_session(
            lambda: self._authorised(call, lambda answer: reading.session_status(reference, answer.json()))
        )
        if status.code == SESSION_INVALID_KEY:
            self._public_keys.forget()
        return status

    def invoices(self, reference: str, *, share: float = 1.0) -> Iterator[InvoiceStatus]:
        """Every invoice of a session, each once, page after page. Limit sessionInvoiceList, one per page of 1,000.

        Ends only after the last page was read: a listing cut short raises, for a missing entry would look like proof.
        A batch has none before it is processed.
        """
        return self._invoices("invoices", f"{session_path(reference)}/invoices", share)

    def failed_invoices(self, reference: str, *, share: float = 1.0) -> Iterator[InvoiceStatus]:
        """Like ``invoices``, but only those that KSeF did not accept."""
        return self._invoices("failed_invoices", f"{session_path(reference)}/invoices/failed", share)

    def invoice(self, reference: str, invoice_reference: str, *, share: float = 1.0) -> InvoiceStatus:
        """One invoice's status, with a fresh UPO link once it is accepted. Limit invoiceStatus."""
        path = f"{session_path(reference)}/invoices/{quoted(invoice_reference)}"
        call = Call("invoice", "GET", path, "invoiceStatus", repeatable=True, share=share)
        return self._in_known_session(
            lambda: self._authorised(call, lambda answer: reading.invoice_status(answer.json()))
        )

    def own_sessions(self, *, kind: SessionKind, since: datetime, share: float = 1.0) -> Iterator[SessionListed]:
        """Sessions of our context created from ``since`` on, the newest first. Limit sessionList, one per page.

        With the right to send alone, only those that these very credentials opened.
        """
        query: dict[str, str | int] = {
            "sessionType": kind,
            "dateCreatedFrom": since.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        }
        call = Call("own_sessions", "GET", "/sessions", "sessionList", repeatable=True, query=query, share=share)
        return self._listing(call, "sessions", reading.session_listed, lambda entry: entry.reference)

    def _invoices(self, operation: str, path: str, share: float) -> Iterator[InvoiceStatus]:
        call = Call(operation, "GET", path, "sessionInvoiceList", repeatable=True, share=share)
        return self._listing(call, "invoices", reading.invoice_status, lambda entry: entry.reference)

    def _is_closed(self, reference: str, fault: SessionUnusable) -> bool:
        """Whether 21180 means that the session is past closing; its details carry the status, e.g. "(170)"."""
        codes = [int(code) for code in re.findall(r"\b([1-5]\d\d)\b", " ".join(fault.details))]
        if codes:
            return any(session_closed(code) for code in codes)
        return session_closed(self._before(lambda: self.session(reference)).code)
