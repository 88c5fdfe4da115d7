"""The sending duty: carries out one decision of ``plan`` a step.

The order of things, and what a crash between them leaves (ARCHITECTURE §3):

1. open: a row "opening" → POST → the reference stored. Nothing is bound yet, so a lost answer loses nothing.
2. bind: the document goes to ``processing`` in a commit, before the request leaves.
3. send: POST. Only a proven *not taken* is believed at once; after any other failure the session is closed, and
   ``reconcile`` asks KSeF what arrived.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ksefbuffer.errors import CallFault, NotAllowedNow, NotTaken, OutcomeUnknown, Refused, SessionUnusable
from ksefbuffer.invoice.forms import BY_SYSTEM_CODE
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.shapes import OpenSession
from ksefbuffer.queue import documents, facts, pauses, sessions
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.documents import Document
from ksefbuffer.queue.pauses import Lane
from ksefbuffer.queue.states import Event, State
from ksefbuffer.sender import trouble
from ksefbuffer.sender.figures import Figures
from ksefbuffer.sender.handin import waits_for_original
from ksefbuffer.sender.pace import Pace
from ksefbuffer.sender.plan import ORDINARY_SHARE, Candidate, Close, Decision, Open, Opened, Rest, Send, plan

log = logging.getLogger(__name__)

ACTOR = "sender"
_LOOK_AHEAD = 50
_CONTACT_NOTED_EVERY = timedelta(minutes=1)


@dataclass
class Dispatch:
    """One thread calls ``step``. The keys of open sessions live here and nowhere else."""

    database: Database
    ksef: Ksef
    clock: Callable[[], datetime]
    idle: timedelta
    pace: Pace
    figures: Figures
    leaves_to_batch: Callable[[datetime], bool] = field(default=lambda now: False)
    _open: dict[int, OpenSession] = field(default_factory=dict, repr=False)
    _contact_noted: datetime | None = None
    next_due: datetime | None = None

    def recover(self) -> None:
        """At start: sessions of the process before us are closed and reconciled like any other; their keys died."""
        now = self.clock()
        with self.database.transaction() as tx:
            for session in sessions.unfinished(tx, "opening", kind="online"):
                for document in documents.in_session(tx, session.id):
                    documents.apply(
                        tx, document, Event.NOT_AT_KSEF, at=now, actor="recovery", note="sesja nie powstała"
                    )
                sessions.abandon(tx, session.id, "opening when the process ended")
            for session in sessions.unfinished(tx, "open", kind="online"):
                sessions.stop_using(tx, session.id, at=now, note="left open by the process before")

    def step(self) -> bool:
        """One decision, carried out. True when there may be more at once; else ``next_due`` says when."""
        now = self.clock()
        decision, waiting = self._decide(now)
        match decision:
            case Rest(until):
                self.next_due = until
                return False
            case Close(session_id, reason):
                self._stop_using(session_id, reason, now)
            case Open(form, document_id):
                self._open_session(form, waiting[document_id], now)
            case Send(document_id, session_id):
                self._send(waiting[document_id], session_id, now)
        return True

    def close_all(self) -> None:
        """At the end: nothing more goes into our sessions; reconciliation closes them at KSeF, now or at start."""
        now = self.clock()
        with self.database.transaction() as tx:
            for session_id in list(self._open):
                sessions.stop_using(tx, session_id, at=now, note="shutdown")
        self._open.clear()

    def _decide(self, now: datetime) -> tuple[Decision, dict[int, Document]]:
        singly_only = self.leaves_to_batch(now)
        with self.database.reading() as tx:
            waiting = documents.waiting(tx, now, limit=_LOOK_AHEAD, singly_only=singly_only)
            held = documents.originals_in_the_way(tx, waiting)
            opened = [
                Opened(s.id, s.form, s.sends, s.last_used_at, s.valid_until or now, usable=s.id in self._open)
                for s in sessions.unfinished(tx, "open", kind="online")
            ]
            paused = pauses.active(tx, now, Lane.SINGLE)
            urgent_paused = pauses.active(tx, now, Lane.URGENT)
            expired = pauses.expired(tx, now)
            retry_at = documents.next_attempt(tx, now)
        if expired:
            with self.database.transaction() as tx:
                pauses.over(tx, *expired)
        self._say_what_is_waited_for(waiting, held, now)
        candidates = [Candidate(d.id, d.form or "", held=d.id in held, urgent=d.urgent) for d in waiting]
        decision = plan(
            candidates,
            opened,
            now,
            idle=self.idle,
            paused_until=paused.until if paused else None,
            urgent_paused_until=urgent_paused.until if urgent_paused else None,
            session_holds=self.figures.online.invoices,
        )
        if isinstance(decision, Rest) and retry_at is not None:
            wake = max(retry_at, paused.until) if paused else retry_at
            decision = Rest(min(decision.until or wake, wake))
        return decision, {document.id: document for document in waiting}

    def _say_what_is_waited_for(self, waiting: list[Document], held: dict[int, Document], now: datetime) -> None:
        changed: list[tuple[Document, str | None]] = []
        for document in waiting:
            original = held.get(document.id)
            waits_for = None
            if original is not None:
                waits_for = waits_for_original(original)
            if document.waits_for != waits_for:
                changed.append((document, waits_for))
        if changed:
            with self.database.transaction() as tx:
                for document, waits_for in changed:
                    documents.note_wait(tx, document, waits_for, at=now)

    def _open_session(self, form: str, document: Document, now: datetime) -> None:
        with self.database.transaction() as tx:
            session_id = sessions.begin(tx, form, at=now)
        try:
            opened = self.ksef.open_session(BY_SYSTEM_CODE[form])
        except CallFault as fault:
            # Nothing was bound to it: an opened session whose answer was lost stays empty, and KSeF ends it by itself.
            with self.database.transaction() as tx:
                sessions.abandon(tx, session_id, type(fault).__name__)
            self._not_delivered(document, fault)
            return
        with self.database.transaction() as tx:
            sessions.opened(tx, session_id, opened.reference, opened.valid_until, at=self.clock())
            pauses.over(tx, trouble.SCOPE)
        self._open[session_id] = opened
        self._note_contact()
        self.figures.read_daily(now)

    def _send(self, document: Document, session_id: int, now: datetime) -> None:
        try:
            with self.database.transaction() as tx:
                content = documents.content(tx, document.id)
                document = documents.apply(
                    tx,
                    document,
                    Event.BIND,
                    at=now,
                    actor=ACTOR,
                    session_id=session_id,
                    attempts=document.attempts + 1,
                    handed_at=now,
                )
                sessions.used(tx, session_id, at=now)
        except NotAllowedNow:
            # A batch took it, or a person withdrew it, since the plan was made.
            return
        assert content is not None
        try:
            reference = self.ksef.send(
                self._open[session_id],
                content,
                # KSeF takes a technical correction only as an offline invoice (FACTS §10).
                offline=document.offline or document.corrects_sha256 is not None,
                corrects_sha256=document.corrects_sha256,
                share=1.0 if document.urgent else ORDINARY_SHARE,
            )
        except SessionUnusable as fault:
            self._stop_using(session_id, f"KSeF takes no more ({fault.code})", self.clock())
            self._taken_back(document, fault)
        except NotTaken as fault:
            self._not_delivered(document, fault)
        except Refused as fault:
            self._refused(document, fault)
        except BaseException as fault:
            # Unknown: the document stays bound. Closing the session is the fence; the listing will tell.
            self._forget(session_id)
            if not isinstance(fault, OutcomeUnknown):
                raise
            at = self.clock()
            with self.database.transaction() as tx:
                sessions.stop_using(tx, session_id, at=at, note="answer to a send was lost")
            trouble.hold_back(self.database, fault, at)
            self._contact_noted = None
        else:
            at = self.clock()
            with self.database.transaction() as tx:
                documents.change(
                    tx, document.id, invoice_reference=reference, handed_at=at, next_poll_at=self.pace.first_poll(at)
                )
                pauses.over(tx, trouble.SCOPE)
            self._note_contact()

    def _taken_back(self, document: Document, fault: NotTaken) -> None:
        with self.database.transaction() as tx:
            documents.apply(
                tx,
                document,
                Event.NOT_AT_KSEF,
                at=self.clock(),
                actor=ACTOR,
                note=f"nieprzyjęta: {fault.message}",
                attempts=document.attempts - 1,
            )

    def _not_delivered(self, document: Document, fault: CallFault) -> None:
        """Not taken, or not even tried: the sender pauses, and this document says why (niepowodzenie)."""
        now = self.clock()
        self._contact_noted = None
        lane = Lane.URGENT if document.urgent else Lane.SINGLE
        until = trouble.hold_back(self.database, fault, now, lane)
        with self.database.transaction() as tx:
            document = documents.get(tx, document.id)
            attempts = document.attempts - 1 if document.state is State.PROCESSING else document.attempts
            if document.state is State.FAILED:
                documents.change(
                    tx, document.id, next_attempt_at=until, errors=[trouble.finding(fault).as_dict()], updated_at=now
                )
                documents.tell(tx, document.id, at=now)
            else:
                documents.apply(
                    tx,
                    document,
                    Event.FAIL,
                    at=now,
                    actor=ACTOR,
                    note=fault.message,
                    next_attempt_at=until,
                    attempts=attempts,
                    errors=[trouble.finding(fault).as_dict()],
                )

    def _refused(self, document: Document, fault: Refused) -> None:
        with self.database.transaction() as tx:
            documents.apply(
                tx,
                document,
                Event.REFUSE,
                at=self.clock(),
                actor="ksef",
                note=f"{fault.code} {fault.message}".strip(),
                errors=[trouble.finding(fault).as_dict()],
                judged_by_ksef=True,
            )
        self._note_contact()

    def _stop_using(self, session_id: int, reason: str, now: datetime) -> None:
        self._forget(session_id)
        with self.database.transaction() as tx:
            sessions.stop_using(tx, session_id, at=now, note=reason)

    def _forget(self, session_id: int) -> None:
        self._open.pop(session_id, None)

    def _note_contact(self) -> None:
        now = self.clock()
        if self._contact_noted is None or now - self._contact_noted >= _CONTACT_NOTED_EVERY:
            self._contact_noted = now
            with self.database.transaction() as tx:
                facts.put(tx, "ksef", {"ok": True, "message": "KSeF odpowiada", "action": ""}, at=now)
