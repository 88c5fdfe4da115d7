"""KSeF as the rest of the project calls it.

Every method raises the faults of ``errors`` by what is known afterwards: NotTaken (and its kinds), OutcomeUnknown,
Refused. What fails before the call proper (login, public keys) is NotTaken. Safe to share between threads.
Source: FACTS §2 to §6; limits by group are in ``limits``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from importlib.metadata import version
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from ksefbuffer.errors import (
    CallFault,
    OutcomeUnknown,
    RateLimited,
    Refused,
    SessionUnusable,
    Unauthorised,
    Unavailable,
    Unreachable,
)
from ksefbuffer.invoice.forms import Form
from ksefbuffer.ksef import reading
from ksefbuffer.ksef.auth import Access, Context, Login, not_taken
from ksefbuffer.ksef.crypto import (
    FOR_SESSIONS,
    PublicKey,
    PublicKeys,
    b64,
    encrypt,
    new_session_key,
    read_public_keys,
    sha256_b64,
    wrap,
)
from ksefbuffer.ksef.failures import ASK_AGAIN, BAD_CONTINUATION, LOGIN_OVER, UNKNOWN_KEY, UNKNOWN_SESSION, WAIT
from ksefbuffer.ksef.limits import Limit, Limiter
from ksefbuffer.ksef.shapes import InvoiceMetadata, InvoiceStatus, OpenSession, SessionKey, SessionStatus
from ksefbuffer.ksef.statuses import session_closed
from ksefbuffer.ksef.wire import Answer, Call, Wire

T = TypeVar("T")

USER_AGENT = f"ksefbuffer/{version('ksefbuffer')}"
SESSION_LIVES = timedelta(hours=12)
PAGE_SIZE = 1000
METADATA_PAGE_SIZE = 250
# KSeF at times does not know a session that it has just opened (issue #801).
UNKNOWN_SESSION_PAUSES_S = (0.5, 1.0, 2.0)
CLOSE_PAUSES_S = (1.0, 2.0, 4.0)
LISTING_RESTARTS = 2
QUERY_WINDOW = timedelta(days=90)
SESSION_INVALID_KEY = 415


class Ksef:
    """One context (a NIP, or a branch's InternalId) at one KSeF environment.

    ``base_url`` ends in "/v2". ``clock`` gives aware UTC times; ``sleep`` takes seconds; ``transport`` replaces the
    network in tests. Makes no call until asked to; ConfigurationFault for a ``base_url`` that is no address.
    """

    def __init__(
        self,
        *,
        base_url: str,
        context_nip: str,
        login: Login,
        limiter: Limiter,
        clock: Callable[[], datetime],
        sleep: Callable[[float], None],
        transport: httpx.BaseTransport | None = None,
        timeout_s: float = 30,
        internal_id: str = "",
        user_agent: str = USER_AGENT,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._wire = Wire(
            base_url=base_url,
            limiter=limiter,
            clock=clock,
            sleep=sleep,
            transport=transport,
            timeout_s=timeout_s,
            user_agent=user_agent,
        )
        self._public_keys = PublicKeys(self._fetch_public_keys, clock)
        self._access = Access(
            self._wire,
            login=login,
            context=Context("InternalId", internal_id) if internal_id else Context("Nip", context_nip),
            public_keys=self._public_keys,
            clock=clock,
            sleep=sleep,
        )

    def close(self) -> None:
        """Close the connections; sessions at KSeF stay as they are."""
        self._wire.close()

    # --- access

    def login_now(self) -> None:
        """Log in anew, whatever access we hold. Raises Unauthorised when a person must act; OutcomeUnknown when KSeF
        would not say how the login ended."""
        self._access.login_now()

    def reachable(self) -> bool:
        """Whether KSeF answers at all: one call without login, not repeated."""
        try:
            self._wire.call(Call("public_keys", "GET", "/security/public-key-certificates", "anonymous"), _public_keys)
        except RateLimited:
            return True
        except CallFault:
            return False
        return True

    def rate_limits(self) -> dict[str, Limit]:
        """The limits in force for this context, to be given to ``Limiter.adopt``."""
        call = Call("rate_limits", "GET", "/rate-limits", "other:rate-limits", repeatable=True)
        return self._authorised(call, lambda answer: reading.rate_limits(answer.json()))

    # --- sending

    def open_session(self, form: Form) -> OpenSession:
        """Open an interactive session under a fresh key. Limit onlineSession.

        A key that KSeF has withdrawn (21470) is fetched anew and tried once more. A wrong key shows up only later, as
        session status 415. OutcomeUnknown here leaves at worst an empty session behind, which KSeF cancels itself.
        """
        try:
            return self._open(form)
        except Refused as fault:
            if fault.code != UNKNOWN_KEY:
                raise
            self._public_keys.forget()
            return self._open(form)

    def send(
        self, session: OpenSession, content: bytes, *, offline: bool = False, corrects_sha256: str | None = None
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
        call = Call("send", "POST", f"{_online(session.reference)}/invoices", "invoiceSend")
        try:
            return self._in_known_session(lambda: self._authorised(call, _reference, json=body))
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

    def close_session(self, reference: str) -> None:
        """Close a session; one that is closed already counts as done. Limit onlineSessionClose.

        Repeated a few times, since closing twice does no harm. Raises Refused with code 21173 when KSeF keeps saying
        that it knows no such session, OutcomeUnknown when it would not answer.
        """
        call = Call("close_session", "POST", f"{_online(reference)}/close", "onlineSessionClose")
        for pause_s in (*CLOSE_PAUSES_S, None):
            try:
                self._authorised(call, _no_page)
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

    def session(self, reference: str) -> SessionStatus:
        """A session's status. Limit sessionMisc."""
        call = Call("session", "GET", _session(reference), "sessionMisc", repeatable=True)
        status = self._in_known_session(
            lambda: self._authorised(call, lambda answer: reading.session_status(reference, answer.json()))
        )
        if status.code == SESSION_INVALID_KEY:
            self._public_keys.forget()
        return status

    def invoices(self, reference: str) -> Iterator[InvoiceStatus]:
        """Every invoice of a session, each once, page after page. Limit sessionInvoiceList, one per page.

        Ends only after the last page was read: a listing cut short raises, for a missing entry would look like proof.
        """
        seen: set[str] = set()
        restarts = 0
        continuation = ""
        continuations: set[str] = set()
        while True:
            try:
                entries, following = self._invoices_page(reference, continuation)
            except Refused as fault:
                if fault.code != BAD_CONTINUATION or restarts == LISTING_RESTARTS:
                    raise
                restarts += 1
                continuation, continuations = "", set()
                continue
            for entry in entries:
                if entry.reference not in seen:
                    seen.add(entry.reference)
                    yield entry
            if not following:
                return
            if following in continuations:
                raise OutcomeUnknown(
                    "KSeF podaje w kółko tę samą stronę listy faktur.", action=ASK_AGAIN, operation="invoices"
                )
            continuations.add(following)
            continuation = following

    def invoice(self, reference: str, invoice_reference: str) -> InvoiceStatus:
        """One invoice's status, with a fresh UPO link once it is accepted. Limit invoiceStatus."""
        path = f"{_session(reference)}/invoices/{_quoted(invoice_reference)}"
        call = Call("invoice", "GET", path, "invoiceStatus", repeatable=True)
        return self._in_known_session(
            lambda: self._authorised(call, lambda answer: reading.invoice_status(answer.json()))
        )

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
        filters: dict[str, Any] = {"subjectType": "Subject1", "dateRange": self._window(ksef_number, issue_date)}
        wanted = {"ksefNumber": ksef_number, "invoiceNumber": invoice_number, "sellerNip": seller_nip}
        filters.update({name: value for name, value in wanted.items() if value})
        found: dict[str, InvoiceMetadata] = {}
        for page in range(10_000 // METADATA_PAGE_SIZE):
            call = Call(
                "find",
                "POST",
                "/invoices/query/metadata",
                "invoiceMetadata",
                repeatable=True,
                query={"pageOffset": page, "pageSize": METADATA_PAGE_SIZE, "sortOrder": "Asc"},
            )
            entries, more = self._authorised(call, _metadata_page, json=filters)
            found.update({entry.ksef_number: entry for entry in entries})
            if not more:
                break
        return [entry for entry in found.values() if issue_date is None or entry.issue_date == issue_date]

    # --- documents

    def upo_by_link(self, link: str) -> bytes:
        """The UPO behind a pre-signed link, its hash verified. Not limited. Refused: the link has expired."""
        return self._wire.follow("upo_by_link", link)

    def invoice_upo(self, reference: str, *, invoice_reference: str = "", ksef_number: str = "") -> bytes:
        """An accepted invoice's UPO by either of its names. Limit sessionMisc. Unavailable (21178): not there yet."""
        if bool(invoice_reference) == bool(ksef_number):
            raise ValueError("exactly one of invoice_reference and ksef_number")
        last = f"ksef/{_quoted(ksef_number)}" if ksef_number else _quoted(invoice_reference)
        return self._document("invoice_upo", f"{_session(reference)}/invoices/{last}/upo", "sessionMisc")

    def session_upo(self, reference: str, upo_reference: str) -> bytes:
        """One page of the UPO of a session that ended with 200. Limit sessionMisc."""
        return self._document("session_upo", f"{_session(reference)}/upo/{_quoted(upo_reference)}", "sessionMisc")

    def download(self, ksef_number: str) -> bytes:
        """An invoice's exact XML bytes, its hash verified. Limit invoiceDownload: 64 an hour.

        Raises Refused (21164) when KSeF has no such invoice for us, Unavailable (21165) when it cannot give it yet.
        """
        return self._document("download", f"/invoices/ksef/{_quoted(ksef_number)}", "invoiceDownload")

    # --- inside

    def _authorised(self, call: Call, reader: Callable[[Answer], T], *, json: object = None) -> T:
        token = self._before(self._access.token)
        try:
            return self._wire.call(call, reader, bearer=token, json=json)
        except Unauthorised as fault:
            if fault.http_status != 401 and fault.code not in LOGIN_OVER:
                raise
        # A 401 proves that nothing was done, so even a send may follow once more.
        token = self._before(lambda: self._access.renewed(token))
        return self._wire.call(call, reader, bearer=token, json=json)

    def _before(self, step: Callable[[], T]) -> T:
        try:
            return step()
        except OutcomeUnknown as fault:
            raise not_taken(fault) from None

    def _in_known_session(self, ask: Callable[[], T]) -> T:
        for pause_s in UNKNOWN_SESSION_PAUSES_S:
            try:
                return ask()
            except Refused as fault:
                if fault.code != UNKNOWN_SESSION:
                    raise
            self._sleep(pause_s)
        return ask()

    def _fetch_public_keys(self) -> tuple[PublicKey, ...]:
        call = Call("public_keys", "GET", "/security/public-key-certificates", "anonymous", repeatable=True)
        return self._wire.call(call, _public_keys)

    def _open(self, form: Form) -> OpenSession:
        public_key = self._before(lambda: self._public_keys.of(FOR_SESSIONS))
        if public_key is None:
            raise Unavailable(
                "KSeF nie podaje ważnego klucza do szyfrowania sesji.", action=WAIT, operation="open_session"
            )
        session_key = new_session_key()
        body = {
            "formCode": {
                "systemCode": form.system_code,
                "schemaVersion": form.schema_version,
                "value": form.value,
            },
            "encryption": {
                "encryptedSymmetricKey": wrap(public_key, session_key.key),
                "initializationVector": b64(session_key.iv),
                "publicKeyId": public_key.identifier,
            },
        }
        return self._authorised(
            Call("open_session", "POST", "/sessions/online", "onlineSession"),
            lambda answer: self._opened(answer, form, session_key),
            json=body,
        )

    def _opened(self, answer: Answer, form: Form, session_key: SessionKey) -> OpenSession:
        whole = reading.mapping(answer.json())
        valid_until = reading.optional_moment(whole.get("validUntil")) or self._clock() + SESSION_LIVES
        return OpenSession(reading.text(whole.get("referenceNumber")), valid_until, form, session_key)

    def _is_closed(self, reference: str, fault: SessionUnusable) -> bool:
        """Whether 21180 means that the session is past closing; its details carry the status, e.g. "(170)"."""
        codes = [int(code) for code in re.findall(r"\b([1-5]\d\d)\b", " ".join(fault.details))]
        if codes:
            return any(session_closed(code) for code in codes)
        return session_closed(self._before(lambda: self.session(reference)).code)

    def _invoices_page(self, reference: str, continuation: str) -> tuple[list[InvoiceStatus], str]:
        call = Call(
            "invoices",
            "GET",
            f"{_session(reference)}/invoices",
            "sessionInvoiceList",
            repeatable=True,
            query={"pageSize": PAGE_SIZE},
            headers={"x-continuation-token": continuation} if continuation else {},
        )
        return self._in_known_session(lambda: self._authorised(call, _invoices_page))

    def _document(self, operation: str, path: str, group: str) -> bytes:
        call = Call(operation, "GET", path, group, repeatable=True, accept="application/xml")
        return self._authorised(call, Answer.document)

    def _window(self, ksef_number: str, issue_date: date | None) -> Mapping[str, str]:
        now = self._clock()
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
        window = {"dateType": kind, "from": _zulu(start)}
        # An end only slightly in the future is refused (issue #449).
        return {**window, "to": _zulu(end)} if end < now - timedelta(minutes=5) else window


def _day_in(ksef_number: str) -> datetime | None:
    dated = re.match(r"\d{10}-(\d{8})-", ksef_number)
    try:
        return datetime.strptime(dated[1], "%Y%m%d").replace(tzinfo=UTC) if dated else None
    except ValueError:
        return None


def _zulu(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _quoted(part: str) -> str:
    return quote(part, safe="")


def _session(reference: str) -> str:
    return f"/sessions/{_quoted(reference)}"


def _online(reference: str) -> str:
    return f"/sessions/online/{_quoted(reference)}"


def _public_keys(answer: Answer) -> tuple[PublicKey, ...]:
    return read_public_keys(answer.json())


def _reference(answer: Answer) -> str:
    return reading.text(reading.mapping(answer.json()).get("referenceNumber"))


def _no_page(answer: Answer) -> None:
    """A close answers 204 with nothing; a firewall's page with 200 closes nothing (FACTS §15.19)."""
    if answer.status != 204 and answer.body.strip():
        reading.mapping(answer.json())


def _invoices_page(answer: Answer) -> tuple[list[InvoiceStatus], str]:
    whole = reading.mapping(answer.json())
    entries = [reading.invoice_status(entry) for entry in reading.items(whole.get("invoices"))]
    following = whole.get("continuationToken")
    return entries, reading.header_text(following) if following else ""


def _metadata_page(answer: Answer) -> tuple[list[InvoiceMetadata], bool]:
    whole = reading.mapping(answer.json())
    entries = [reading.invoice_metadata(entry) for entry in reading.items(whole.get("invoices"))]
    return entries, whole.get("hasMore") is True
