"""After ``restore`` nothing is sent until KSeF was asked what it has got since the backup was made.

The backup knows nothing of what its buffer did later. So, before the pause ends:

1. what the ERP handed over meanwhile is taken again: files in ``processed``, rows that name an unknown document;
2. every session opened since (and those open then) is listed at KSeF, and what has a number there is adopted by hash.

Each step may be done twice; a start in the middle goes on with the sessions that were not listed yet.
Source: issue "nothing is sent until everything since the backup was reconciled"; FACTS §4.1 to §4.3.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ksefbuffer.errors import CallFault, RateLimited, Refused
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.sessions import SessionKind
from ksefbuffer.ksef.shapes import InvoiceStatus, SessionListed
from ksefbuffer.ksef.statuses import OPEN, Verdict, invoice_verdict, session_final
from ksefbuffer.queue import documents, facts, pauses, sessions
from ksefbuffer.queue.backup import RESTORED
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.documents import Document, Numbered
from ksefbuffer.queue.states import Event, State
from ksefbuffer.sender.pace import growing
from ksefbuffer.sender.plan import ORDINARY_SHARE

log = logging.getLogger(__name__)

ACTOR = "restore"
# An online session open when the backup was made may have taken invoices for so long; one more for clocks that differ.
_SESSION_LIVES = timedelta(hours=13)
_AT_ONCE = 500
_ADOPTABLE = (State.QUEUED, State.FAILED, State.ERROR, State.PROCESSING)
_UNRESOLVED = (State.QUEUED, State.FAILED, State.PROCESSING)
_LOOK_AGAIN_S = 15
_REFUSALS = 5
_KINDS: tuple[tuple[str, SessionKind], ...] = (("batch", "Batch"), ("online", "Online"))
_NOTE = "znaleziona w KSeF po odtworzeniu kopii zapasowej"


@dataclass(frozen=True)
class _Found:
    kind: str
    session: SessionListed


@dataclass
class Restored:
    """One thread calls ``step``; it has something to do only in a buffer that was restored.

    ``retakes`` take in anew what was handed over since (time of the backup, now); each says whether there is more.
    """

    database: Database
    ksef: Ksef
    clock: Callable[[], datetime]
    retakes: Iterable[Callable[[datetime, datetime], bool]]
    next_due: datetime | None = None
    _retaken: bool = False
    _todo: list[_Found] | None = None
    _tries: int = 0
    _refused: dict[str, int] = field(default_factory=dict)
    _over: bool = False

    def step(self) -> bool:
        """Takes in anew, or lists one session. True when there may be more at once."""
        if self._over:
            return False
        now = self.clock()
        with self.database.reading() as tx:
            told = facts.get(tx, RESTORED)
        if told is None or told[0].get("done_at"):
            self._over, self.next_due = True, None
            return False
        if self.next_due is not None and now < self.next_due:
            return False
        value: dict[str, Any] = told[0]
        since = datetime.fromisoformat(value["since"])
        if not self._retaken:
            # Any of them: while one has more, the others wait.
            self._retaken = not any(retake(since, now) for retake in self.retakes)
            return True
        try:
            return self._reconcile(value, since, now)
        except CallFault as fault:
            self._tries += 1
            wait_s = fault.retry_after_s if isinstance(fault, RateLimited) else None
            self.next_due = (
                growing(now, self._tries, first_s=5, longest_s=300)
                if wait_s is None
                else now + timedelta(seconds=wait_s)
            )
            log.warning("restored buffer not reconciled yet (%s); nothing is sent", fault.message)
            with self.database.transaction() as tx:
                facts.put(tx, "ksef", {"ok": False, "message": fault.message, "action": fault.action}, at=now)
            return False

    def _reconcile(self, value: dict[str, Any], since: datetime, now: datetime) -> bool:
        if self._todo is None:
            self._todo = self._sessions_since(since - _SESSION_LIVES, set(value["listed"]), set(value["open_then"]))
        with self.database.reading() as tx:
            resolved = not documents.any_in(tx, _UNRESOLVED)
        if not self._todo or resolved:
            self._finish(value, now)
            return True
        found = self._todo[0]
        if self._is_in_work(found, now):
            # The others first; this one once KSeF is done with it.
            self._todo = [*self._todo[1:], found]
            if all(self._may_be_in_work(other) for other in self._todo):
                self.next_due = now + timedelta(seconds=_LOOK_AGAIN_S)
                return False
            return True
        try:
            rows = list(self.ksef.invoices(found.session.reference, share=ORDINARY_SHARE))
        except Refused as fault:
            self._refused[found.session.reference] = self._refused.get(found.session.reference, 0) + 1
            if self._refused[found.session.reference] < _REFUSALS:
                raise
            # Asking again tells no more, and one session must not keep the shop from sending for ever. What was in it
            # is refused as a duplicate (440), and weighed by its hash then.
            log.warning("session=%s cannot be listed (%s); passed over", found.session.reference, fault.message)
            rows = []
        if any(invoice_verdict(row.code) is Verdict.PENDING for row in rows):
            self._todo = [*self._todo[1:], found]
            self.next_due = now + timedelta(seconds=_LOOK_AGAIN_S)
            return False
        with self.database.transaction() as tx:
            value["adopted"] += self._adopt(tx, found, rows, now)
            value["listed"] = [*value["listed"], found.session.reference]
            facts.put(tx, RESTORED, value, at=now)
        self._todo = self._todo[1:]
        self._tries, self.next_due = 0, None
        return True

    def _sessions_since(self, since: datetime, listed: set[str], open_then: set[str]) -> list[_Found]:
        """Sessions that may hold what the backup does not know of, the newest first."""
        with self.database.reading() as tx:
            settled = sessions.settled_references(tx) - open_then
        found = [
            _Found(kind, session)
            for kind, word in _KINDS
            for session in self.ksef.own_sessions(kind=word, since=since)
            if session.reference not in listed
            and session.reference not in settled
            # A batch counts its invoices only once it is processed.
            and (session.total != 0 or not session_final(session.code))
        ]
        return sorted(found, key=lambda one: one.session.created_at, reverse=True)

    @staticmethod
    def _may_be_in_work(found: _Found) -> bool:
        return not session_final(found.session.code) and found.session.code != OPEN

    def _is_in_work(self, found: _Found, now: datetime) -> bool:
        """Whether KSeF is still at it. An open session is not: who held its key is gone."""
        if not self._may_be_in_work(found):
            return False
        status = self.ksef.session(found.session.reference, share=ORDINARY_SHARE)
        return not session_final(status.code) and status.code != OPEN

    def _adopt(self, tx: Any, found: _Found, rows: list[InvoiceStatus], now: datetime) -> int:
        accepted = {
            row.sha256_hex: row for row in rows if row.ksef_number and invoice_verdict(row.code) is Verdict.ACCEPTED
        }
        ours: list[Document] = []
        hashes = list(accepted)
        for start in range(0, len(hashes), _AT_ONCE):
            known = documents.by_sha256s(tx, hashes[start : start + _AT_ONCE])
            ours += [document for document in known.values() if document.state in _ADOPTABLE]
        if not ours:
            return 0
        session_id = sessions.adopt(
            tx, found.session.reference, found.kind, ours[0].form or "", opened_at=found.session.created_at
        )
        refused = [document.id for document in ours if document.state is State.ERROR]
        if refused:
            documents.apply_all(tx, refused, [State.ERROR], Event.RETRY, at=now, actor=ACTOR, note=_NOTE)
        bound = {"session_id": session_id, "handed_at": found.session.created_at}
        waiting = [document.id for document in ours if document.state is not State.PROCESSING]
        documents.apply_all(
            tx, waiting, [State.QUEUED, State.FAILED], Event.BIND, at=now, actor=ACTOR, note=_NOTE, **bound
        )
        for document in ours:
            if document.state is State.PROCESSING:
                documents.change(tx, document.id, **bound)
        numbered = [
            Numbered(
                id=document.id,
                ksef_number=row.ksef_number,
                accepted_at=row.accepted_at or now,
                invoicing_mode=row.invoicing_mode or None,
                invoice_reference=row.reference,
            )
            for document in ours
            for row in [accepted[document.sha256]]
        ]
        documents.number_all(tx, numbered, at=now)
        return len(numbered)

    def _finish(self, value: dict[str, Any], now: datetime) -> None:
        with self.database.transaction() as tx:
            facts.put(tx, RESTORED, {**value, "listed": [], "done_at": now.isoformat()}, at=now)
            pauses.over(tx, RESTORED)
        self._over, self.next_due = True, None
        log.info("restored buffer reconciled with KSeF adopted=%s; sending goes on", value["adopted"])
