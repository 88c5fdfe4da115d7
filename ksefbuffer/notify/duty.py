"""The duty of telling people: looks, decides, writes down, sends."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ksefbuffer.notify import looking, sending
from ksefbuffer.notify.deciding import decide
from ksefbuffer.notify.places import places_of
from ksefbuffer.notify.shapes import DISK, DOCUMENT_ERROR, INCOMING, OUTAGE, Ending, Memory, Weight, memory_of
from ksefbuffer.notify.wording import counted
from ksefbuffer.offline.calendar import told as told_at
from ksefbuffer.queue import facts, notices
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.notices import NewNotice, Pending

log = logging.getLogger(__name__)

FACT = "notify"
"""``{"places": [{place, ok, message, waiting}]}``: how the addresses stand, for ``status``. No address is in it."""

_MEMORY = "notify_memory"
_LOOKS_EVERY = timedelta(seconds=20)
_ENDINGS_KEPT = timedelta(hours=1)
_MARKS_KEPT_EVERY = timedelta(hours=1)
_FORGETS_EVERY = timedelta(days=1)
# Their keys hold a moment or a mark that cannot come again.
_FORGOTTEN_AFTER = timedelta(days=90)
_FORGOTTEN = (DOCUMENT_ERROR, INCOMING, OUTAGE, DISK)
_AT_ONCE = 10
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(minutes=1), timedelta(minutes=15)
# A weekend without a mail server must not cost the news of a missed term; yesterday's list of invoices has no use.
_GIVEN_UP_AFTER, _DIGEST_GIVEN_UP_AFTER = timedelta(days=3), timedelta(days=1)
_WEIGHTS: tuple[Weight, ...] = ("failure", "warning", "info")


def no_endings(_now: datetime) -> tuple[Ending, ...]:
    return ()


def free_bytes(folder: Path) -> int | None:
    """Free space where ``folder`` lies, in bytes; None when nobody can tell."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


@dataclass
class Notify:
    """One thread calls ``step``; nothing else writes notices.

    urls: Apprise addresses, secrets. events: the names of [notify] events. free: free bytes of the data folder.
    clock: asked after a message was sent, which may take seconds. buffer_name stands before every subject. endings:
    what ends beside the certificates of the database, asked once an hour. table, pulling: whether the ERP's table and
    received invoices are switched on, so that what they last told counts.
    """

    database: Database
    urls: Sequence[str] = field(repr=False)
    events: Collection[str]
    free: Callable[[], int | None]
    clock: Callable[[], datetime]
    buffer_name: str = "ksefbuffer"
    endings: Callable[[datetime], Sequence[Ending]] = no_endings
    table: bool = False
    pulling: bool = True
    _memory: Memory | None = field(default=None, repr=False)
    _kept: Memory | None = field(default=None, repr=False)
    _kept_at: datetime | None = field(default=None, repr=False)
    _forgot_at: datetime | None = field(default=None, repr=False)
    _endings: tuple[datetime, tuple[Ending, ...]] | None = field(default=None, repr=False)
    _next_look: datetime | None = field(default=None, repr=False)
    _next_send: datetime | None = field(default=None, repr=False)
    _told: dict[str, Any] | None = field(default=None, repr=False)
    _resting: bool = False

    def __post_init__(self) -> None:
        self._addresses = places_of(self.urls)

    @property
    def next_due(self) -> datetime | None:
        """When there will be something to do; None: at once if it never ran, never without addresses."""
        dues = [due for due in (self._next_look, self._next_send) if due is not None]
        return min(dues, default=None)

    def step(self, now: datetime) -> bool:
        """One look, or one message to one address. True when there may be more at once. Raises StorageFault."""
        if not self.urls:
            return self._rest()
        if self._next_look is None or not now < self._next_look <= now + _LOOKS_EVERY:
            self._look(now)
            self._next_look = now + _LOOKS_EVERY
        if self._next_send is None or self._next_send > now:
            return False
        return self._send(now)

    def _rest(self) -> bool:
        """Without addresses nothing is remembered: whoever gives one later is not told of what was before."""
        if not self._resting:
            with self.database.reading() as tx:
                known = facts.get(tx, _MEMORY) is not None or facts.get(tx, FACT) is not None
            if known:
                with self.database.transaction() as tx:
                    facts.forget(tx, _MEMORY)
                    facts.forget(tx, FACT)
                    notices.keep_places(tx, ())
            self._resting = True
        return False

    def _look(self, now: datetime) -> None:
        ends = self._what_ends(now)
        free = self.free() if DISK in self.events else None
        with self.database.reading() as tx:
            if self._memory is None:
                known = facts.get(tx, _MEMORY)
                self._memory = self._kept = memory_of(known[0] if known else None)
            seen = looking.see(
                tx,
                self._memory,
                self.events,
                now,
                endings=ends,
                free_bytes=free,
                table=self.table,
                pulling=self.pulling,
            )
            due, memory = decide(seen, self._memory, self.events, now)
            new = notices.unknown(tx, [NewNotice(**vars(one)) for one in due])
        if new or self._kept_at is None or self._worth_keeping(memory, now):
            with self.database.transaction() as tx:
                notices.tell(tx, new, list(self._addresses), at=now)
                facts.put(tx, _MEMORY, memory.as_json(), at=now)
                notices.keep_places(tx, list(self._addresses))
                self._forget(tx, now)
                self._next_send = notices.next_due(tx)
                told = self._tell(tx, now)
            self._kept, self._kept_at, self._told = memory, now, told
        self._memory = memory

    def _worth_keeping(self, memory: Memory, now: datetime) -> bool:
        """Marks alone move all the time; a restart may well look again at what lies between."""
        assert self._kept is not None
        but_marks = replace(memory, error_mark=self._kept.error_mark, incoming_mark=self._kept.incoming_mark)
        if but_marks != self._kept:
            return True
        assert self._kept_at is not None
        return memory != self._kept and now - self._kept_at >= _MARKS_KEPT_EVERY

    def _forget(self, tx: Any, now: datetime) -> None:
        if self._forgot_at is None or now - self._forgot_at >= _FORGETS_EVERY:
            self._forgot_at = now
            notices.forget(tx, before=now - _FORGOTTEN_AFTER, of_events=_FORGOTTEN)

    def _what_ends(self, now: datetime) -> tuple[Ending, ...]:
        if self._endings is None or not timedelta(0) <= now - self._endings[0] < _ENDINGS_KEPT:
            self._endings = (now, tuple(self.endings(now)))
        return self._endings[1]

    def _send(self, now: datetime) -> bool:
        """All that waits for one address, in one message."""
        with self.database.reading() as tx:
            place = notices.due_place(tx, now)
            waiting = notices.pending(tx, place, limit=_AT_ONCE) if place is not None else []
        if place is None or place not in self._addresses:
            with self.database.reading() as tx:
                self._next_send = notices.next_due(tx)
            return False
        title, body, weight = message(waiting, self.buffer_name)
        reason = sending.send(self._addresses[place], title, body, weight)
        after, given_up = self.clock(), 0
        with self.database.transaction() as tx:
            if not reason:
                notices.sent(tx, [one.id for one in waiting], at=after)
            else:
                tries = max(one.attempts for one in waiting)
                again = after + min(_FIRST_PAUSE * 2 ** min(tries, 10), _LONGEST_PAUSE)
                notices.not_sent(tx, place, error=reason, again_at=again)
                given_up = notices.give_up(tx, before=after - _GIVEN_UP_AFTER)
                given_up += notices.give_up(tx, before=after - _DIGEST_GIVEN_UP_AFTER, of_events=(INCOMING,))
            self._next_send = notices.next_due(tx)
            self._told = self._tell(tx, after)
        if reason:
            log.warning("notices=%s place=%s not delivered: %s; given up=%s", len(waiting), place, reason, given_up)
        else:
            log.info("notices=%s place=%s delivered", len(waiting), place)
        return True

    def _tell(self, tx: Any, now: datetime) -> dict[str, Any]:
        """How the addresses stand, written when it changed."""
        waiting = notices.waiting(tx)
        places = []
        for place in self._addresses:
            error = notices.last_error(tx, place)
            places.append({"place": place, "ok": not error, "message": error or "", "waiting": waiting.get(place, 0)})
        told = {"places": places}
        if told != self._told:
            facts.put(tx, FACT, told, at=now)
        return told


def message(waiting: Sequence[Pending], buffer_name: str) -> tuple[str, str, Weight]:
    """Title, body and weight of one message for notices that wait, at least one; the gravest first."""
    gravest = sorted(waiting, key=lambda one: (_WEIGHTS.index(_weight(one)), one.id))
    weight = _weight(gravest[0])
    if len(gravest) == 1:
        (only,) = gravest
        return f"{buffer_name}: {only.subject}", f"{only.body}\n\n{told_at(only.at)}", weight
    title = f"{buffer_name}: {counted(len(gravest), 'powiadomienie', 'powiadomienia', 'powiadomień')}"
    parts = [f"{number}. {one.subject}\n{one.body}\n{told_at(one.at)}" for number, one in enumerate(gravest, 1)]
    return title, "\n\n".join(parts), weight


def _weight(one: Pending) -> Weight:
    return next(weight for weight in _WEIGHTS if weight == one.weight)
