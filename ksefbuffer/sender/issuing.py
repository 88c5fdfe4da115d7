"""The duty of issuing offline: decides the mode, stamps documents with their term and KOD II, and moves terms.

A document is *stamped* in one commit with all that its customer needs: the mode, what it came from as evidence, the
term, and KOD II, which is checked before it leaves. From then on it is sent with ``offlineMode``, the nearest term
first; what was issued in a total failure is not sent at all. Source: FACTS §10, §11.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ksefbuffer.errors import BufferFault, CredentialFault
from ksefbuffer.identity.codes import verify_code
from ksefbuffer.identity.material import Credential
from ksefbuffer.ksef.latarnia import Status
from ksefbuffer.offline import qr
from ksefbuffer.offline.calendar import WorkingDays, polish_day
from ksefbuffer.offline.deadlines import Deadline, deadline
from ksefbuffer.offline.modes import Declaration, Event, Mode, ModeNow, Setting, events_of, mode_now
from ksefbuffer.queue import facts, pauses, terms
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.states import State
from ksefbuffer.queue.terms import Declared, Stamp, Stamped, Unstamped
from ksefbuffer.sender import lookout, trouble

log = logging.getLogger(__name__)

SCOPE = "announced"
"""The pause while the Ministry says that KSeF is away."""

_STAMPED_AT_ONCE = 200
_SHIFTED_AT_ONCE = 500
# After a pause the next attempt may take as long as several timeouts; meanwhile nothing is known to be mended.
_TROUBLE_LASTS = timedelta(seconds=90)
_CREDENTIAL_KEPT = timedelta(seconds=60)
_LACK_KEPT = timedelta(seconds=2)
_RENEWED_BEFORE = timedelta(minutes=1)
_NO_END_KNOWN = timedelta(minutes=3)
_HELD = (
    "Faktura wystawiona w awarii całkowitej KSeF: nie wysyła się jej do KSeF (art. 106ng). Jeśli jednak ma być wysłana "
    "po awarii: ksefbuffer queue retry; jeśli nie: ksefbuffer queue cancel."
)


@dataclass(frozen=True)
class Context:
    """What KOD II names beside the invoice: the context that the buffer logs in with."""

    qr_url: str
    kind: str
    value: str


@dataclass
class Issuing:
    """One thread calls ``step``.

    credential: the Offline certificate in use with its key, None when there is none; raises CredentialFault or
    ConfigurationFault, which are told as the reason. sending_takes: seconds until all that waits is sent.
    auto_after: how long KSeF may owe a number for an invoice that it took before others are issued offline; that it
    cannot be reached counts at once.
    """

    database: Database
    clock: Callable[[], datetime]
    setting: Setting
    auto_after: timedelta
    heed: bool
    calendar: WorkingDays
    context: Context
    credential: Callable[[datetime], Credential | None]
    sending_takes: Callable[[datetime], float]
    next_due: datetime | None = None
    _told: dict[str, Any] | None = None
    _events: tuple[Event, ...] | None = None
    _shifting_after: int | None = None
    _unsignable: set[int] = field(default_factory=set)
    _signer: tuple[datetime, Credential | None, str] | None = field(default=None, repr=False)

    def step(self) -> bool:
        """One unit: the mode told anew, terms of some documents moved, or some documents stamped. True when there may
        be more at once."""
        now = self.clock()
        with self.database.reading() as tx:
            notices = terms.kept(tx) if self.heed else []
            words = terms.declared(tx)
            held = pauses.known(tx, trouble.SCOPE)
            announced = pauses.known(tx, SCOPE)
            owed_since = terms.unanswered_since(tx)
            said = facts.get(tx, lookout.FACT)
        by_word = declared_events(words)
        events = (*events_of(notices), *by_word.values())
        available = self.heed and said is not None and said[0].get("status") == Status.AVAILABLE
        word = words[-1] if words else None
        declaration = None
        if word is not None:
            declaration = Declaration(Mode(word.mode) if word.mode else None, word.since, by_word.get(word.id))
        mode = self._mode(now, events, declaration, held, owed_since, available=available)
        if self._tell(mode, now):
            return True
        self._hold_back(mode, announced, now)
        if events != self._events:
            self._events, self._shifting_after = events, 0
        if self._shifting_after is not None:
            return self._shift(events, now)
        return self._stamp(mode, events, now) or self._sign_late(now)

    def _mode(
        self,
        now: datetime,
        events: Sequence[Event],
        declaration: Declaration | None,
        held: pauses.Pause | None,
        owed_since: datetime | None,
        *,
        available: bool,
    ) -> ModeNow:
        troubles = []
        if held is not None and now < held.until + _TROUBLE_LASTS:
            troubles.append(held.since)
        if owed_since is not None and now - owed_since >= self.auto_after:
            troubles.append(owed_since)
        return mode_now(
            [event for event in events if event.event_id is not None],
            declaration,
            min(troubles, default=None),
            timedelta(0),
            self.setting,
            now,
            heed_announcements=self.heed,
            said_available=available,
        )

    def _tell(self, mode: ModeNow, now: datetime) -> bool:
        """Says which mode is in force, when that has changed."""
        _, reason = self._sign_with(now)
        told = {
            "mode": mode.mode,
            "since": mode.since.isoformat() if mode.since else None,
            "why": mode.why_pl,
            "setting": self.setting,
            "event": evidence(mode.event) if mode.event else None,
            "signing": reason,
            "sending_takes_s": self._estimate(now),
        }
        if told == self._told:
            return False
        changed = self._told is None or self._told["mode"] != told["mode"]
        with self.database.transaction() as tx:
            facts.put(tx, terms.MODE, told, at=now)
        self._told = told
        if changed:
            log.info("offline mode=%s setting=%s", mode.mode or "-", self.setting)
        return changed

    def _estimate(self, now: datetime) -> int | None:
        """Seconds, in steps coarse enough that they are not told anew all the time."""
        with self.database.reading() as tx:
            waits = sum(term.count - term.refused for term in terms.summary(tx) if term.mode != Mode.TOTAL)
        if not waits:
            return None
        seconds = self.sending_takes(now)
        return max(10, 10 * round(seconds / 10)) if seconds < 600 else 60 * round(seconds / 60)

    def _hold_back(self, mode: ModeNow, announced: pauses.Pause | None, now: datetime) -> None:
        """While the Ministry says that KSeF is away nothing is sent (FACTS §10)."""
        event = mode.event
        away = mode.mode in (Mode.FAILURE, Mode.UNAVAILABILITY, Mode.TOTAL)
        if not (away and event is not None and event.event_id is not None):
            if announced is not None:
                with self.database.transaction() as tx:
                    pauses.over(tx, SCOPE)
            return
        until = min(event.end or now + _NO_END_KNOWN, now + _NO_END_KNOWN)
        if announced is not None and announced.until >= min(until, now + _RENEWED_BEFORE):
            return
        with self.database.transaction() as tx:
            pauses.pause(
                tx,
                SCOPE,
                at=now,
                until=until,
                code=str(event.event_id),
                message=f"Wysyłka wstrzymana: {mode.why_pl}",
                action="Faktury są wystawiane w tym trybie i zostaną wysłane, gdy minie."
                if mode.mode is not Mode.TOTAL
                else "Faktur z awarii całkowitej nie wysyła się do KSeF.",
            )

    def _shift(self, events: Sequence[Event], now: datetime) -> bool:
        """Terms after an announcement, some documents at a time."""
        assert self._shifting_after is not None
        with self.database.reading() as tx:
            some = terms.stamped(tx, after=self._shifting_after, limit=_SHIFTED_AT_ONCE)
        moved = []
        for one in some:
            term = self._term(one, events)
            if term is not None and (term.at != one.deadline or term.why_pl != one.term):
                moved.append((one.id, term.at, term.why_pl))
        if moved:
            with self.database.transaction() as tx:
                terms.shift(tx, moved, at=now)
        self._shifting_after = some[-1].id if len(some) == _SHIFTED_AT_ONCE else None
        return bool(moved) or self._shifting_after is not None

    def _term(self, one: Stamped, events: Sequence[Event]) -> Deadline | None:
        day = one.issue_date or polish_day(one.since)
        event = event_behind(one.event, events)
        return deadline(day, Mode(one.mode), event, events, self.calendar, issued_at=one.since)

    def _stamp(self, mode: ModeNow, events: Sequence[Event], now: datetime) -> bool:
        if self.setting == "off":
            return False
        with self.database.reading() as tx:
            chosen = terms.to_stamp(tx, all_waiting=mode.mode is not None, limit=_STAMPED_AT_ONCE)
        if not chosen:
            return False
        issued_in = mode.mode or Mode.OFFLINE24
        event = mode.event if mode.mode is not None else None
        known = evidence(event) if event is not None else None
        credential, _ = self._sign_with(now)
        stamps = [self._stamp_of(one, issued_in, event, known, events, credential, now) for one in chosen]
        with self.database.transaction() as tx:
            terms.stamp_all(tx, stamps, at=now)
        return True

    def _sign_late(self, now: datetime) -> bool:
        """KOD II for what was issued while there was no certificate."""
        credential, _ = self._sign_with(now)
        if credential is None:
            return False
        with self.database.reading() as tx:
            some = terms.to_sign(tx, limit=_STAMPED_AT_ONCE)
        if all(one.id in self._unsignable for one in some):
            return False
        links = [(one.id, self._code(one, credential)) for one in some if one.id not in self._unsignable]
        self._unsignable |= {row for row, link in links if link is None}
        with self.database.transaction() as tx:
            terms.sign(tx, [(row, link) for row, link in links if link is not None], at=now)
        return True

    def _stamp_of(
        self,
        one: Unstamped,
        mode: Mode,
        event: Event | None,
        known: dict[str, Any] | None,
        events: Sequence[Event],
        credential: Credential | None,
        now: datetime,
    ) -> Stamp:
        term = deadline(one.issue_date or polish_day(now), mode, event, events, self.calendar, issued_at=now)
        total = mode is Mode.TOTAL
        url = None if total or credential is None else self._code(one, credential)
        held = _HELD if total and one.state is State.QUEUED else None
        return Stamp(one.id, str(mode), known, term.at, term.why_pl, url, held)

    def _code(self, one: Unstamped, credential: Credential) -> str | None:
        """KOD II, checked; None where it cannot be made (which is logged: the invoice goes on without it)."""
        context = self.context
        if one.seller_nip is None or one.issue_date is None:
            return None
        try:
            url = qr.certificate_url(
                context.qr_url,
                context.kind,
                context.value,
                one.seller_nip,
                credential.serial_hex,
                one.sha256,
                credential.sign_code,
            )
        except (ValueError, CredentialFault) as fault:
            log.warning("KOD II cannot be made document=%s: %s", one.id, fault)
            return None
        if not qr.verify(url, lambda text, raw: verify_code(credential.certificate, text, raw)):
            log.error("KOD II made but not verified document=%s serial=%s", one.id, credential.serial_hex)
            return None
        return url

    def _sign_with(self, now: datetime) -> tuple[Credential | None, str]:
        """The credential that signs KOD II and, when there is none, why (Polish)."""
        if self.setting == "off":
            return None, ""
        kept = _LACK_KEPT if self._signer is None or self._signer[1] is None else _CREDENTIAL_KEPT
        if self._signer is None or not timedelta(0) <= now - self._signer[0] < kept:
            credential, reason = None, ""
            try:
                credential = self.credential(now)
                if credential is None:
                    reason = (
                        "Brak certyfikatu typu Offline: faktury offline nie będą miały kodu CERTYFIKAT (KOD II). "
                        "Uzyskaj go: ksefbuffer cert enroll --purpose offline."
                    )
                else:
                    credential.check_offline(now)
            except BufferFault as fault:
                credential, reason = None, f"Certyfikat typu Offline: {fault}"
            self._signer = (now, credential, reason)
        return self._signer[1], self._signer[2]


def declared_events(words: Sequence[Declared]) -> dict[int, Event]:
    """The events that a person's words make, by the word's key: each lasts until the next word."""
    return {
        word.id: Event(None, Mode(word.mode), word.since, end, word.at, word.note)
        for word, end in zip(words, [*(later.since for later in words[1:]), None], strict=False)
        if word.mode is not None
    }


def evidence(event: Event) -> dict[str, Any]:
    """An event as it was known, for the row of a document."""
    return {
        "event_id": event.event_id,
        "mode": str(event.mode),
        "start": event.start.isoformat(),
        "end": event.end.isoformat() if event.end else None,
        "announced": event.announced.isoformat(),
        "title": event.title,
        "messages": list(event.message_ids),
    }


def event_behind(known: dict[str, Any] | None, events: Sequence[Event]) -> Event | None:
    """The event of a stamp as it is known now; as it was known then when nobody tells of it any more."""
    if known is None:
        return None
    start = datetime.fromisoformat(known["start"])
    for event in events:
        if known["event_id"] is not None and event.event_id == known["event_id"]:
            return event
        if (
            known["event_id"] is None
            and event.event_id is None
            and event.start == start
            and event.mode == known["mode"]
        ):
            return event
    return Event(
        known["event_id"],
        Mode(known["mode"]),
        start,
        datetime.fromisoformat(known["end"]) if known["end"] else None,
        datetime.fromisoformat(known["announced"]),
        known["title"],
        tuple(known["messages"]),
    )
