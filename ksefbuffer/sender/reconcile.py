"""The one function that decides outcomes: it asks KSeF what it has, and matches by SHA-256.

Presence counts at any time. Absence counts only once the session is closed and final: KSeF takes nothing into a
closed session (21180), so a request still on the wire cannot arrive after we found it missing (the crash tests'
control "no fence" shows what happens otherwise).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from ksefbuffer.errors import CallFault, RateLimited, Refused, SessionUnusable
from ksefbuffer.invoice.findings import Finding
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.limits import Limiter
from ksefbuffer.ksef.shapes import InvoiceStatus
from ksefbuffer.ksef.statuses import Verdict, hint_for, invoice_verdict, session_closed, session_final, session_hint_for
from ksefbuffer.ksef.upo import check_upo
from ksefbuffer.queue import documents, pauses, sessions
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.documents import Document, Numbered
from ksefbuffer.queue.pauses import Lane
from ksefbuffer.queue.sessions import Session
from ksefbuffer.queue.states import Event, State
from ksefbuffer.sender import trouble
from ksefbuffer.sender.adjudicate import NotThere, Ours, Theirs, Unclear, adjudicate
from ksefbuffer.sender.pace import Pace, growing

log = logging.getLogger(__name__)

ACTOR = "reconcile"
_UNKNOWN_SESSION = "21173"
# From this many due statuses in one session on, one listing is cheaper than single questions (FACTS §6: 200 against
# 1,200 an hour).
_LIST_FROM = 6
_LIST_ON_EVERY = 4  # looks at a session that is still being processed
_ASK_SESSION_EVERY = 6  # statuses in vain: the session itself may have broken (415)
_CLOSE_TRIES = 3  # then its status is asked all the same: a close whose answer was lost did happen
_UNKNOWN_FOR = timedelta(minutes=10)
_RESENDS_AT_ONCE = 2
_AT_ONCE = 500  # documents a commit
_LIST_AGAIN = timedelta(minutes=10)
_UNCLEAR_TRIES = 5
_UPO_COMPLAINT_AFTER = 3
_UNCERTAIN_SESSION = 500
_LISTING, _PAGE = "sessionInvoiceList", 1_000
_DUPLICATE = 440


@dataclass
class Reconcile:
    """One thread calls ``step``. ``context`` is our NIP, or the branch's internal id; ``kind`` the sessions it settles.

    Batches have a Reconcile of their own: settling 10,000 invoices must not keep a till's single one waiting.
    """

    database: Database
    ksef: Ksef
    clock: Callable[[], datetime]
    pace: Pace
    context: str
    kind: str = "online"
    limiter: Limiter | None = None
    _links: dict[int, str] = field(default_factory=dict, repr=False)
    _listed: dict[str, datetime] = field(default_factory=dict)
    next_due: datetime | None = None

    def step(self) -> bool:
        """One question to KSeF and what follows from it. True when there may be more at once."""
        now = self.clock()
        if (
            self._settle_session(now)
            or (self.kind == "online" and self._poll(now))
            or self._weigh(now)
            or self._fetch_upo(now)
        ):
            return True
        with self.database.reading() as tx:
            dues = (sessions.next_look(tx, self.kind), documents.next_poll(tx, self.kind))
            due = [moment for moment in dues if moment is not None]
        self.next_due = min(due, default=None)
        return False

    # Sessions that are to end

    def _settle_session(self, now: datetime) -> bool:
        with self.database.reading() as tx:
            session = sessions.to_close(tx, now, self.kind)
            unjudged = session is not None and sessions.has_unjudged(tx, session.id)
        if session is None:
            return False
        try:
            if session.closed_at is None and not self._close(session, now):
                return True
            if unjudged:
                self._judge_session(session, now)
            else:
                with self.database.transaction() as tx:
                    sessions.done(tx, session.id, status_code=session.status_code)
        except CallFault as fault:
            self._look_later(session, now, fault)
        return True

    def _close(self, session: Session, now: datetime) -> bool:
        assert session.reference is not None
        try:
            if self.kind == "batch":
                self.ksef.close_batch(session.reference)
            else:
                self.ksef.close_session(session.reference)
        except RateLimited:
            raise
        except CallFault:
            if session.looks < _CLOSE_TRIES or not session_closed(self.ksef.session(session.reference).code):
                raise
        with self.database.transaction() as tx:
            sessions.closed(tx, session.id, at=now)
        return True

    def _judge_session(self, session: Session, now: datetime) -> None:
        """Asks for the session's state; once it is final, absence from its listing is proof."""
        assert session.reference is not None
        looks = 0 if session.closed_at is None else session.looks
        status = self.ksef.session(session.reference)
        final = session_final(status.code) and not (status.code == _UNCERTAIN_SESSION and looks < _UNCLEAR_TRIES)
        if not final and not self._is_worth_listing(looks):
            self._look_at_again(session, looks, now, status.code)
            return
        full_for = self._room_to_list(session, now)
        if full_for:
            with self.database.transaction() as tx:
                sessions.look_again(tx, session.id, at=now + full_for, looks=looks + 1, status_code=status.code)
            return
        with self.database.reading() as tx:
            unheard = documents.hashes_in_session(tx, session.id)
        rows = self.ksef.invoices(session.reference)
        while some := list(islice(rows, _AT_ONCE)):
            self._hear_many([(unheard.pop(row.sha256_hex), row) for row in some if row.sha256_hex in unheard], now)
        absent = list(unheard.values())
        if final and absent:
            broken = {"batch_failures": documents.one_more_batch_failure()} if self.kind == "batch" else {}
            with self.database.transaction() as tx:
                documents.apply_all(
                    tx,
                    absent,
                    [State.PROCESSING],
                    Event.NOT_AT_KSEF,
                    at=now,
                    actor=ACTOR,
                    note=f"nie ma jej w zamkniętej sesji {session.reference} (stan {status.code})",
                    **broken,
                )
        if final and status.code not in (200, 440, 445):
            # A broken session says nothing of the invoices, but opening the next at once would break it likewise.
            self._hold_back_after(status.code, status.description, now)
        if final and self.kind == "batch" and status.code == 200:
            self.pace.learn_batch((now - session.opened_at).total_seconds())
        with self.database.transaction() as tx:
            if final and not sessions.has_unjudged(tx, session.id):
                sessions.done(tx, session.id, status_code=status.code)
                if self.kind == "batch":
                    sessions.look_at_next(tx, "batch", at=now)
            else:
                again = self._next_look(tx, session, looks, now)
                sessions.look_again(tx, session.id, at=again, looks=looks + 1, status_code=status.code)

    def _room_to_list(self, session: Session, now: datetime) -> timedelta:
        """How long until a batch can be listed whole: one cut short by the limit would begin again at its first page,
        and ten batches would spend the hour's listings on beginnings."""
        if self.limiter is None or session.sends <= _PAGE:
            return timedelta(0)
        # No more than an idle limit lets out at once, or the wait would never end.
        limit = self.limiter.limit(_LISTING)
        figures = [figure for figure in (limit.per_second, limit.per_minute, limit.per_hour) if figure > 0]
        at_once = min([-(-session.sends // _PAGE), *figures])
        return min(self.limiter.wait_for(_LISTING, now, calls=at_once), _LIST_AGAIN)

    def _is_worth_listing(self, looks: int) -> bool:
        """Whether to list what KSeF has of a session that it is still at work on.

        A batch has nothing before its end, and listing one of 10,000 takes ten of 20 calls a minute (FACTS §6).
        """
        return self.kind == "online" and looks % _LIST_ON_EVERY == _LIST_ON_EVERY - 1

    def _next_look(self, tx: Any, session: Session, looks: int, now: datetime) -> datetime:
        if self.kind != "batch":
            return self.pace.next_poll(now, looks + 1)
        # Many batches at once: the oldest is most likely the next one to end, and its end makes the one behind it due.
        behind = sessions.unfinished(tx, "closing", kind="batch")[0].id != session.id
        return self.pace.next_look(now, session.closed_at or now, behind=behind)

    def _look_at_again(self, session: Session, looks: int, now: datetime, status_code: int) -> None:
        with self.database.transaction() as tx:
            again = self._next_look(tx, session, looks, now)
            sessions.look_again(tx, session.id, at=again, looks=looks + 1, status_code=status_code)

    def _hold_back_after(self, code: int, description: str, now: datetime) -> None:
        fault = CallFault(
            f"KSeF zakończył sesję błędem {code} ({description}).",
            action=session_hint_for(code),
            code=str(code),
            operation="session",
        )
        trouble.hold_back(self.database, fault, now, Lane.BATCH if self.kind == "batch" else Lane.URGENT)

    def _look_later(self, session: Session, now: datetime, fault: CallFault) -> None:
        log.warning("session=%s not settled: %s", session.id, fault.message)
        if isinstance(fault, Refused) and fault.code == _UNKNOWN_SESSION and self._is_truly_unknown(session, now):
            self._forsake(session, now)
            return
        with self.database.transaction() as tx:
            sessions.look_again(tx, session.id, at=_later(fault, now, session.looks), looks=session.looks + 1)

    @staticmethod
    def _is_truly_unknown(session: Session, now: datetime) -> bool:
        # KSeF has denied sessions that existed (FACTS §15.7): only a lasting denial counts.
        since = session.closing_since or session.opened_at
        return session.looks >= _CLOSE_TRIES and now - since >= _UNKNOWN_FOR

    def _forsake(self, session: Session, now: datetime) -> None:
        """KSeF keeps saying that it never had this session: each of its documents is looked up by itself."""
        with self.database.transaction() as tx:
            for document in documents.in_session(tx, session.id):
                documents.change(
                    tx,
                    document.id,
                    next_poll_at=now,
                    polls=0,
                    verdict={"code": 0, "description": "KSeF nie zna sesji, do której wysłano fakturę", "details": []},
                )
            sessions.done(tx, session.id, status_code=None)

    # Documents in open sessions

    def _poll(self, now: datetime) -> bool:
        with self.database.reading() as tx:
            due = documents.to_poll(tx, now)
        if not due:
            return False
        session_id, reference = due[0].session_id, due[0].session_reference
        together = [document for document in due if document.session_id == session_id]
        assert session_id is not None
        assert reference is not None
        try:
            if len(together) >= _LIST_FROM:
                rows = {row.sha256_hex: row for row in self.ksef.invoices(reference)}
                for document in together:
                    self._hear_or_wait(document, rows.get(document.sha256), now)
            else:
                document = together[0]
                assert document.invoice_reference is not None
                self._hear_or_wait(document, self.ksef.invoice(reference, document.invoice_reference), now)
                if document.polls % _ASK_SESSION_EVERY == _ASK_SESSION_EVERY - 1:
                    self._leave_broken_session(session_id, reference, now)
        except CallFault as fault:
            log.warning("status not learned session=%s: %s", session_id, fault.message)
            again = _later(fault, now, due[0].polls)
            asked = together if len(together) >= _LIST_FROM or isinstance(fault, RateLimited) else together[:1]
            with self.database.transaction() as tx:
                for document in asked:
                    documents.change(tx, document.id, next_poll_at=again, polls=document.polls + 1)
        return True

    def _leave_broken_session(self, session_id: int, reference: str, now: datetime) -> None:
        status = self.ksef.session(reference)
        if session_closed(status.code):
            with self.database.transaction() as tx:
                sessions.stop_using(tx, session_id, at=now, note=f"KSeF ended it ({status.code})")

    def _hear_or_wait(self, document: Document, row: InvoiceStatus | None, now: datetime) -> None:
        if row is not None and row.sha256_hex in ("", document.sha256):
            self._hear(document, row, now)
            return
        with self.database.transaction() as tx:
            documents.change(
                tx, document.id, polls=document.polls + 1, next_poll_at=self.pace.next_poll(now, document.polls + 1)
            )

    def _hear_many(self, present: list[tuple[int, InvoiceStatus]], now: datetime) -> None:
        """A listing's words on documents, given by key: the accepted in bulk, the others one by one."""
        numbered: list[Numbered] = []
        for row_id, row in present:
            if invoice_verdict(row.code) is Verdict.ACCEPTED and row.ksef_number:
                numbered.append(
                    Numbered(row_id, row.ksef_number, row.accepted_at or now, row.invoicing_mode or None, row.reference)
                )
                if row.upo_link:
                    self._links[row_id] = row.upo_link
        if numbered:
            with self.database.transaction() as tx:
                documents.number_all(tx, numbered, at=now)
                pauses.over(tx, trouble.SCOPE)
        heard = {one.id for one in numbered}
        for row_id, row in present:
            if row_id not in heard:
                with self.database.reading() as tx:
                    document = documents.get(tx, row_id)
                self._hear(document, row, now)

    def _hear(self, document: Document, row: InvoiceStatus, now: datetime) -> None:
        """KSeF's word on one document becomes its state, in one commit."""
        verdict = invoice_verdict(row.code)
        if verdict is Verdict.ACCEPTED and not row.ksef_number:
            verdict = Verdict.PENDING
        with self.database.transaction() as tx:
            match verdict:
                case Verdict.PENDING:
                    documents.change(
                        tx,
                        document.id,
                        polls=document.polls + 1,
                        next_poll_at=self.pace.next_poll(now, document.polls + 1),
                    )
                    return
                case Verdict.ACCEPTED:
                    documents.apply(
                        tx,
                        document,
                        Event.NUMBER,
                        at=now,
                        actor="ksef",
                        note=row.ksef_number,
                        ksef_number=row.ksef_number,
                        accepted_at=row.accepted_at or now,
                        invoicing_mode=row.invoicing_mode or None,
                        upo_due_at=now,
                        invoice_reference=row.reference or document.invoice_reference,
                    )
                    pauses.over(tx, trouble.SCOPE)
                case Verdict.REFUSED:
                    documents.apply(
                        tx,
                        document,
                        Event.REFUSE,
                        at=now,
                        actor="ksef",
                        note=f"{row.code} {row.description}",
                        errors=[_finding(row, document).as_dict()],
                        judged_by_ksef=True,
                    )
                case Verdict.RESEND | Verdict.RESEND_ONCE:
                    at_once = 1 if verdict is Verdict.RESEND_ONCE else _RESENDS_AT_ONCE
                    if document.session_id is not None:
                        # A session whose invoices do not decrypt, or that broke, gets no more of them (FACTS §3.2).
                        sessions.stop_using(tx, document.session_id, at=now, note=f"invoice status {row.code}")
                    self._send_anew(
                        tx, document, now, f"{row.code} {row.description}", _finding(row, document), at_once=at_once
                    )
                case Verdict.DUPLICATE | Verdict.UNCERTAIN:
                    documents.change(tx, document.id, verdict=_as_verdict(row), next_poll_at=now, polls=0)
                    return
        if verdict is Verdict.ACCEPTED:
            self.pace.learn(document.polls)
            if row.upo_link:
                self._links[document.id] = row.upo_link

    @staticmethod
    def _send_anew(tx: Any, document: Document, now: datetime, note: str, finding: Finding, *, at_once: int) -> None:
        """KSeF ended it without a number and keeps no trace of it: it goes again, at first at once, then ever later."""
        if document.resends < at_once:
            documents.apply(
                tx, document, Event.NOT_AT_KSEF, at=now, actor="ksef", note=note, resends=document.resends + 1
            )
            return
        documents.apply(
            tx,
            document,
            Event.FAIL,
            at=now,
            actor="ksef",
            note=note,
            resends=document.resends + 1,
            next_attempt_at=growing(now, document.resends - at_once, first_s=60, longest_s=3600),
            errors=[finding.as_dict()],
        )

    # Doubtful verdicts

    def _weigh(self, now: datetime) -> bool:
        with self.database.reading() as tx:
            document = documents.to_weigh(tx, now, self.kind)
        if document is None:
            return False
        verdict = document.verdict or {}
        try:
            judgement = adjudicate(self.database, self.ksef, document, verdict)
        except CallFault as fault:
            log.warning("document=%s not adjudicated: %s", document.document_id, fault.message)
            with self.database.transaction() as tx:
                documents.change(
                    tx, document.id, next_poll_at=_later(fault, now, document.polls), polls=document.polls + 1
                )
            return True
        with self.database.transaction() as tx:
            match judgement:
                case Ours():
                    self._adopt(tx, document, judgement, verdict, now)
                case Theirs():
                    documents.apply(
                        tx,
                        document,
                        Event.REFUSE,
                        at=now,
                        actor="ksef",
                        note=f"440 numer zajęty: {judgement.ksef_number}",
                        errors=[_number_reused(document, judgement).as_dict()],
                        judged_by_ksef=True,
                    )
                case NotThere() if verdict.get("code") != _DUPLICATE:
                    self._send_anew(
                        tx,
                        document,
                        now,
                        f"{verdict.get('code')}: KSeF jej nie ma",
                        _finding_of(verdict, document),
                        at_once=_RESENDS_AT_ONCE,
                    )
                case NotThere() | Unclear():
                    self._stay_unclear(tx, document, judgement, verdict, now)
        return True

    @staticmethod
    def _adopt(tx: Any, document: Document, ours: Ours, verdict: dict[str, Any], now: datetime) -> None:
        # A duplicate was accepted in another session than the one that refused it.
        session = ours.session or (document.session_reference if verdict.get("code") != _DUPLICATE else None)
        changes: dict[str, Any] = (
            {"upo_due_at": now} if session else {"warnings": [*document.warnings, _no_upo().as_dict()]}
        )
        documents.apply(
            tx,
            document,
            Event.NUMBER,
            at=now,
            actor=ACTOR,
            note=f"{ours.ksef_number}: KSeF miał ją już wcześniej, ten sam plik",
            ksef_number=ours.ksef_number,
            accepted_at=ours.accepted_at or now,
            invoicing_mode=ours.invoicing_mode or None,
            adopted_session=ours.session or None,
            **changes,
        )

    @staticmethod
    def _stay_unclear(
        tx: Any, document: Document, judgement: NotThere | Unclear, verdict: dict[str, Any], now: datetime
    ) -> None:
        if document.polls + 1 < _UNCLEAR_TRIES:
            documents.change(
                tx, document.id, next_poll_at=growing(now, document.polls, first_s=5), polls=document.polls + 1
            )
            return
        number = judgement.ksef_number if isinstance(judgement, Unclear) else ""
        why = judgement.why if isinstance(judgement, Unclear) else "KSeF nie wskazał oryginału"
        finding = Finding(
            code="440",
            source="ksef",
            message=f"KSeF zgłasza duplikat{' faktury ' + number if number else ''}, "
            "ale nie udało się ustalić, czyja to faktura.",
            hint="Sprawdź w Aplikacji Podatnika fakturę o tym numerze. Jeśli to inna faktura, nadaj nowy numer; "
            "jeśli ta sama, ponów wysyłkę, gdy bufor będzie miał dostęp do tamtej sesji.",
            details=(*(str(detail) for detail in verdict.get("details", [])), why),
        )
        documents.apply(
            tx,
            document,
            Event.REFUSE,
            at=now,
            actor=ACTOR,
            note="440 nierozstrzygnięte",
            errors=[finding.as_dict()],
            judged_by_ksef=True,
        )

    # Receipts

    def _fetch_upo(self, now: datetime) -> bool:
        with self.database.reading() as tx:
            document = documents.lacking_upo(tx, now, self.kind)
        if document is None:
            return False
        assert document.ksef_number is not None
        reference = document.session_reference or ""
        link = ""
        try:
            link = self._links.pop(document.id, "") or self._link_from_listing(document, reference, now)
            upo = (
                self.ksef.upo_by_link(link)
                if link
                else self.ksef.invoice_upo(reference, ksef_number=document.ksef_number)
            )
        except RateLimited as fault:
            with self.database.transaction() as tx:
                documents.change(tx, document.id, upo_due_at=_later(fault, now, 0))
            return True
        except CallFault as fault:
            if link and isinstance(fault, Refused):
                # It has expired, and so have the others of its listing: a new one is cheaper than a call for each.
                self._links.clear()
            self._upo_later(document, fault.message, _later(fault, now, document.upo_attempts), now)
            return True
        problems = check_upo(
            upo,
            sha256_hex=document.sha256,
            ksef_number=document.ksef_number,
            session_reference=reference,
            context_nip=self.context,
            invoice_number=document.invoice_number or "",
            seller_nip=document.seller_nip or "",
        )
        if problems:
            self._upo_later(document, "; ".join(problems), growing(now, document.upo_attempts, first_s=5), now)
            return True
        with self.database.transaction() as tx:
            warnings = [warning for warning in document.warnings if warning.get("code") != "UPO"]
            documents.change(tx, document.id, upo=upo, upo_due_at=None, warnings=warnings, updated_at=now)
            documents.tell(tx, document.id, at=now)
        log.info("document=%s upo stored size=%s", document.document_id, len(upo))
        return True

    def _link_from_listing(self, document: Document, reference: str, now: datetime) -> str:
        """For a batch one listing brings a thousand UPOs' links, where asking for each costs a call (FACTS §6)."""
        asked = self._listed.get(reference)
        if self.kind != "batch" or document.upo_attempts or (asked is not None and now - asked < _LIST_AGAIN):
            return ""
        self._listed = {reference: now}
        rows = {row.sha256_hex: row.upo_link for row in self.ksef.invoices(reference) if row.upo_link}
        with self.database.reading() as tx:
            lacking = documents.lacking_upos(tx, document.session_id)
        self._links.update({row_id: rows[sha256] for row_id, sha256 in lacking if sha256 in rows})
        return self._links.pop(document.id, "")

    def _upo_later(self, document: Document, reason: str, again: datetime, now: datetime) -> None:
        log.warning("document=%s upo not taken: %s", document.document_id, reason)
        with self.database.transaction() as tx:
            documents.change(tx, document.id, upo_due_at=again, upo_attempts=document.upo_attempts + 1)
            if document.upo_attempts + 1 == _UPO_COMPLAINT_AFTER:
                complaint = Finding(
                    code="UPO",
                    source="ksef",
                    message=f"Nie udało się jeszcze pobrać poprawnego UPO: {reason}",
                    hint="Faktura ma numer KSeF i jest doręczona. Bufor będzie ponawiał pobranie UPO sam.",
                )
                documents.change(tx, document.id, warnings=[*document.warnings, complaint.as_dict()], updated_at=now)
                documents.tell(tx, document.id, at=now)


def _later(fault: CallFault, now: datetime, tries: int) -> datetime:
    if isinstance(fault, RateLimited) and fault.retry_after_s is not None:
        return now + timedelta(seconds=fault.retry_after_s)
    if isinstance(fault, SessionUnusable):
        return growing(now, tries, first_s=2)
    return max(growing(now, tries), now + timedelta(seconds=fault.retry_after_s or 0))


def _no_upo() -> Finding:
    return Finding(
        code="UPO",
        source="ksef",
        message="KSeF ma tę fakturę z sesji, której bufor nie zna, dlatego nie może pobrać UPO.",
        hint="Pobierz UPO w Aplikacji Podatnika albo z programu, który wysłał fakturę.",
    )


def _as_verdict(row: InvoiceStatus) -> dict[str, Any]:
    return {
        "code": row.code,
        "description": row.description,
        "details": list(row.details),
        "original_ksef_number": row.original_ksef_number,
        "original_session": row.original_session,
    }


def _finding(row: InvoiceStatus, document: Document) -> Finding:
    return Finding(
        code=str(row.code),
        source="ksef",
        message=row.description,
        hint=hint_for(row.code, offline=document.offline),
        details=tuple(row.details),
    )


def _finding_of(verdict: dict[str, Any], document: Document) -> Finding:
    code = int(verdict.get("code") or 0)
    return Finding(
        code=str(code),
        source="ksef",
        message=str(verdict.get("description") or ""),
        hint=hint_for(code, offline=document.offline),
        details=tuple(str(detail) for detail in verdict.get("details", [])),
    )


def _number_reused(document: Document, theirs: Theirs) -> Finding:
    other = f"dokument {theirs.other.document_id} w tym buforze" if theirs.other else "faktura wysłana poza tym buforem"
    return Finding(
        code="440",
        source="ksef",
        message=f"Numer faktury użyty ponownie: {document.invoice_number} ({document.invoice_type}) ma już w KSeF "
        f"inna faktura, {theirs.ksef_number}.",
        hint="Nadaj tej fakturze nowy, niepowtarzalny numer w systemie ERP i wyślij ją jako nowy plik.",
        field="Fa/P_2",
        details=(
            f"ta faktura: dokument {document.document_id}, SHA-256 {document.sha256}",
            f"faktura w KSeF: {theirs.ksef_number}, {other}, SHA-256 {theirs.sha256}",
        ),
    )
