"""KSeF as the rest of the project calls it.

Every method raises the faults of ``errors`` by what is known afterwards: NotTaken (and its kinds), OutcomeUnknown,
Refused. What fails before the call proper (login, public keys) is NotTaken. Safe to share between threads.
Source: FACTS §2 to §6; limits by group are in ``limits``; a ``share`` is the part of a group's limits that the call may
fill. Batches and questions about sessions are in ``batches`` and ``sessions``; what KSeF holds for us is in
``metadata`` and ``exports``.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from ksefbuffer.errors import (
    CallFault,
    OutcomeUnknown,
    RateLimited,
    Refused,
    SessionUnusable,
    Unreachable,
)
from ksefbuffer.invoice.forms import Form
from ksefbuffer.ksef import reading
from ksefbuffer.ksef.auth import Login
from ksefbuffer.ksef.batches import BatchCalls
from ksefbuffer.ksef.calls import given_reference, no_page, public_keys, quoted, session_path
from ksefbuffer.ksef.certificates import CertificateCalls
from ksefbuffer.ksef.crypto import (
    b64,
    encrypt,
    new_session_key,
    sha256_b64,
)
from ksefbuffer.ksef.exports import ExportCalls
from ksefbuffer.ksef.failures import UNKNOWN_SESSION
from ksefbuffer.ksef.limits import Limit
from ksefbuffer.ksef.metadata import METADATA_PAGE_SIZE, MetadataCalls, query_filters
from ksefbuffer.ksef.shapes import DateType, InvoiceMetadata, OpenSession, Period, SessionKey, SessionLimits, Subject
from ksefbuffer.ksef.signed import LoginRequest, login_request
from ksefbuffer.ksef.tokens import TokenCalls
from ksefbuffer.ksef.wire import Answer, Call
from ksefbuffer.ksef.xades import Identifier

SESSION_LIVES = timedelta(hours=12)
CLOSE_PAUSES_S = (1.0, 2.0, 4.0)
QUERY_WINDOW = timedelta(days=90)


class Ksef(BatchCalls, MetadataCalls, ExportCalls, CertificateCalls, TokenCalls):
    """All calls, in one door. How to make one: ``Calls``."""

    # --- access

    def login_now(self) -> None:
        """Log in anew, whatever access we hold. Raises Unauthorised when a person must act; OutcomeUnknown when KSeF
        would not say how the login ended."""
        self._access.login_now()

    def adopt(self, login: Login) -> None:
        """Log in by ``login`` and use it from now on; when that fails, the way in stays what it was. Raises like
        ``login_now``."""
        self._access.adopt(login)

    def auth_request(self, identifier: Identifier = "certificate_subject") -> LoginRequest:
        """A document with a new challenge, to be signed elsewhere within 10 minutes and given to ``auth_submit``."""
        challenge = self._access.challenge()
        return login_request(challenge.challenge, challenge.timestamp_ms, self._access.context, identifier)

    def auth_submit(self, request: LoginRequest, signed: bytes) -> None:
        """Log in by the signed document, its exact bytes; the access so gained serves all other calls, for 7 days.

        Raises CredentialFault before any call when the document is not the one asked for, bears no signature, or came
        late; then like ``login_now``.
        """
        request.check(signed, self._clock())
        self._access.submit(signed)

    def reachable(self) -> bool:
        """Whether KSeF answers at all: one call without login, not repeated."""
        try:
            self._wire.call(Call("public_keys", "GET", "/security/public-key-certificates", "anonymous"), public_keys)
        except RateLimited:
            return True
        except CallFault:
            return False
        return True

    def rate_limits(self) -> dict[str, Limit]:
        """The limits in force for this context, to be given to ``Limiter.adopt``."""
        call = Call("rate_limits", "GET", "/rate-limits", "other:rate-limits", repeatable=True)
        return self._authorised(call, lambda answer: reading.rate_limits(answer.json()))

    def session_limits(self) -> dict[str, SessionLimits]:
        """What a session may hold in this context, by "onlineSession" and "batchSession"."""
        call = Call("session_limits", "GET", "/limits/context", "other:limits-context", repeatable=True)
        return self._authorised(call, lambda answer: reading.session_limits(answer.json()))

    # --- sending

    def open_session(self, form: Form, *, share: float = 1.0) -> OpenSession:
        """Open an interactive session under a fresh key. Limit onlineSession.

        A key that KSeF has withdrawn (21470) is fetched anew and tried once more. A wrong key shows up only later, as
        session status 415. OutcomeUnknown here leaves at worst an empty session behind, which KSeF cancels itself.
        """
        call = Call("open_session", "POST", "/sessions/online", "onlineSession", share=share)
        key = new_session_key()
        return self._open(call, form, key, {}, lambda answer: self._opened(answer, form, key))

    def send(
        self,
        session: OpenSession,
        content: bytes,
        *,
        offline: bool = False,
        corrects_sha256: str | None = None,
        share: float = 1.0,
    ) -> str:
        """Send one invoice: its exact bytes, at most 1 000 000. Limit invoiceSend.

        Returns KSeF's invoice reference, which proves receipt, not acceptance. ``corrects_sha256`` is the hex hash of
        the refused offline invoice that a technical correction mends. Never repeated after an unclear answer.
        Raises SessionUnusable (another session is needed), other NotTaken, OutcomeUnknown, Refused.
        """
        sealed = encrypt(session.key, content)
        body: dict[str, Any] = {
            "invoiceHash": sha256_b64(content),
            "invoiceSize": len(content),
            "encryptedInvoiceHash": sha256_b64(sealed),
            "encryptedInvoiceSize": len(sealed),
            "encryptedInvoiceContent": b64(sealed),
            "offlineMode": offline,
        }
        if corrects_sha256 is not None:
            body["hashOfCorrectedInvoice"] = b64(bytes.fromhex(corrects_sha256))
        call = Call("send", "POST", f"{_online(session.reference)}/invoices", "invoiceSend", share=share)
        try:
            return self._in_known_session(lambda: self._authorised(call, given_reference, json=body))
        except Refused as fault:
            if fault.code != UNKNOWN_SESSION:
                raise
            raise SessionUnusable(
                "KSeF nie zna tej sesji.",
                action="Bufor otworzy nową sesję sam.",
                operation="send",
                code=fault.code,
                http_status=fault.http_status,
                details=fault.details,
            ) from None

    def close_session(self, reference: str, *, share: float = 1.0) -> None:
        """Close a session; one that is closed already counts as done. Limit onlineSessionClose.

        Repeated a few times, since closing twice does no harm. Raises Refused with code 21173 when KSeF keeps saying
        that it knows no such session, OutcomeUnknown when it would not answer.
        """
        call = Call("close_session", "POST", f"{_online(reference)}/close", "onlineSessionClose", share=share)
        for pause_s in (*CLOSE_PAUSES_S, None):
            try:
                self._authorised(call, no_page)
                return
            except SessionUnusable as fault:
                if self._is_closed(reference, fault):
                    return
                raise
            except (OutcomeUnknown, Unreachable, Refused) as fault:
                if pause_s is None or (isinstance(fault, Refused) and fault.code != UNKNOWN_SESSION):
                    raise
                self._sleep(pause_s)

    # --- asking

    def find(
        self,
        *,
        ksef_number: str = "",
        invoice_number: str = "",
        seller_nip: str = "",
        issue_date: date | None = None,
    ) -> list[InvoiceMetadata]:
        """Invoices that we issued and that have all the given properties. Limit invoiceMetadata: 20 an hour, so keep
        it for disputes.

        KSeF searches 100 days at most: around ``issue_date`` if given, else around the day in ``ksef_number``, else
        the last 90 days. Invoices appear here a little after they were accepted, so absence proves nothing.
        """
        filters = query_filters(Subject.SELLER, self._window(ksef_number, issue_date))
        wanted = {"ksefNumber": ksef_number, "invoiceNumber": invoice_number, "sellerNip": seller_nip}
        filters.update({name: value for name, value in wanted.items() if value})
        found: dict[str, InvoiceMetadata] = {}
        for page in range(10_000 // METADATA_PAGE_SIZE):
            answer = self._metadata_page("find", filters, page)
            found.update({entry.ksef_number: entry for entry in answer.invoices})
            if not answer.more:
                break
        return [entry for entry in found.values() if issue_date is None or entry.issue_date == issue_date]

    # --- documents

    def upo_by_link(self, link: str) -> bytes:
        """The UPO behind a pre-signed link, its hash verified. Not limited. Refused: the link has expired."""
        return self._wire.follow("upo_by_link", link)

    def invoice_upo(
        self, reference: str, *, invoice_reference: str = "", ksef_number: str = "", share: float = 1.0
    ) -> bytes:
        """An accepted invoice's UPO by either of its names. Limit sessionMisc. Unavailable (21178): not there yet."""
        if bool(invoice_reference) == bool(ksef_number):
            raise ValueError("exactly one of invoice_reference and ksef_number")
        last = f"ksef/{quoted(ksef_number)}" if ksef_number else quoted(invoice_reference)
        return self._document("invoice_upo", f"{session_path(reference)}/invoices/{last}/upo", "sessionMisc", share)

    def session_upo(self, reference: str, upo_reference: str, *, share: float = 1.0) -> bytes:
        """One page of the UPO of a session that ended with 200. Limit sessionMisc."""
        return self._document(
            "session_upo", f"{session_path(reference)}/upo/{quoted(upo_reference)}", "sessionMisc", share
        )

    def download(self, ksef_number: str, *, share: float = 1.0) -> bytes:
        """An invoice's exact XML bytes, its hash verified. Limit invoiceDownload: 64 an hour.

        Raises Refused (21164) when KSeF has no such invoice for us, Unavailable (21165) when it cannot give it yet.
        """
        return self._document("download", f"/invoices/ksef/{quoted(ksef_number)}", "invoiceDownload", share)

    # --- inside

    def _opened(self, answer: Answer, form: Form, session_key: SessionKey) -> OpenSession:
        whole = reading.mapping(answer.json())
        valid_until = reading.optional_moment(whole.get("validUntil")) or self._clock() + SESSION_LIVES
        return OpenSession(reading.text(whole.get("referenceNumber")), valid_until, form, session_key)

    def _document(self, operation: str, path: str, group: str, share: float = 1.0) -> bytes:
        call = Call(operation, "GET", path, group, repeatable=True, accept="application/xml", share=share)
        return self._authorised(call, Answer.document)

    def _window(self, ksef_number: str, issue_date: date | None) -> Period:
        now = self._clock()
        kind: DateType
        if issue_date is not None:
            day = datetime.combine(issue_date, time(), UTC)
            kind, start, end = "Issue", day - timedelta(days=1), day + timedelta(days=2)
        else:
            middle = _day_in(ksef_number)
            if middle is None:
                kind, start, end = "PermanentStorage", now - QUERY_WINDOW, now
            else:
                # The day in a number is only a hint of when it was given, hence half the window on each side.
                kind, start, end = "Invoicing", middle - QUERY_WINDOW / 2, middle + QUERY_WINDOW / 2
        # An end only slightly in the future is refused (issue #449).
        return Period(kind, _zulu(start), _zulu(end) if end < now - timedelta(minutes=5) else "")


def _day_in(ksef_number: str) -> datetime | None:
    dated = re.match(r"\d{10}-(\d{8})-", ksef_number)
    try:
        return datetime.strptime(dated[1], "%Y%m%d").replace(tzinfo=UTC) if dated else None
    except ValueError:
        return None


def _zulu(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _online(reference: str) -> str:
    return f"/sessions/online/{quoted(reference)}"
