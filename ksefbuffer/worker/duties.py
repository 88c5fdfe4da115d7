"""Duties: threads that call their step while there is more, then sleep until a due time, a hint, or the safety wake.

Duties share nothing but the database.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from apscheduler.schedulers.background import BackgroundScheduler

from ksefbuffer.erp import answers
from ksefbuffer.erp.handover import HandOver
from ksefbuffer.errors import BufferFault
from ksefbuffer.queue import deliveries, facts
from ksefbuffer.sdnotify import notify
from ksefbuffer.worker.access import Clock
from ksefbuffer.worker.parts import Buffer

log = logging.getLogger(__name__)

SAFETY_WAKE = timedelta(seconds=2)
_LONGEST_FAULT_PAUSE_S = 30.0
_LONGEST_SLEEP_S = 3600.0
# A duty that has not finished a round for so long hangs: longer than any chain of timeouts in one step.
_HUNG_AFTER_S = 600.0
_WATCHDOG_EVERY_S = 10
_LIMITS_TOLD_EVERY_S = 15
_LEAD_CHECKED_EVERY_S = 5
_STOP_WITHIN_S = 45.0


class Duty:
    """A step, repeated. ``next_due`` says when it is to be called again by itself; ``wakes`` are told after work."""

    def __init__(
        self, name: str, step: Callable[[], bool], *, next_due: Callable[[], datetime | None], clock: Clock
    ) -> None:
        self.name = name
        self.wakes: Sequence[Duty] = ()
        self.wake = threading.Event()
        self.round_finished = time.monotonic()
        self._step = step
        self._next_due = next_due
        self._clock = clock
        self._thread: threading.Thread | None = None

    def start(self, stop: threading.Event) -> None:
        self._thread = threading.Thread(target=self._loop, args=(stop,), name=self.name, daemon=True)
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        if self._thread is not None:
            self._thread.join(timeout_s)
        return self._thread is None or not self._thread.is_alive()

    def _loop(self, stop: threading.Event) -> None:
        failures = 0
        while not stop.is_set():
            self.wake.clear()
            try:
                more = self._step()
                pause = None if more else self._until_due()
                failures = 0
            except BufferFault as fault:
                failures += 1
                log.warning("duty=%s: %s", self.name, fault)
                more, pause = False, min(2.0**failures, _LONGEST_FAULT_PAUSE_S)
            except Exception:
                # A fault nobody foresaw costs this unit of work and a pause, never the daemon.
                failures += 1
                log.exception("duty=%s failed; it goes on after a pause", self.name)
                more, pause = False, min(2.0**failures, _LONGEST_FAULT_PAUSE_S)
            self.round_finished = time.monotonic()
            if more:
                for other in self.wakes:
                    other.wake.set()
            elif failures:
                stop.wait(pause)
            else:
                self.wake.wait(pause)

    def _until_due(self) -> float | None:
        """Seconds to sleep; None until a hint comes (the scheduler's safety wake is one)."""
        due = self._next_due()
        # A pause without an end is asked about again now and then; the system cannot sleep until the year 9999.
        return None if due is None else min(max(0.0, (due - self._clock()).total_seconds()), _LONGEST_SLEEP_S)


class Worker:
    """Runs a prepared buffer until told to stop."""

    def __init__(self, buffer: Buffer, *, leads: Callable[[], bool] = lambda: True) -> None:
        self._buffer = buffer
        self._leads = leads
        self.lost_lead = False
        self.stop = threading.Event()
        # Of the whole process; another one than ``stop`` for who may begin anew.
        self.ending = self.stop
        clock = buffer.clock
        folder, deliver = buffer.folder, buffer.deliver

        def due_delivery() -> datetime | None:
            with buffer.database.reading() as tx:
                return deliveries.next_due(tx)

        intake = Duty("intake", self._take_files, next_due=lambda: folder.next_scan(clock()), clock=clock)
        dispatch = Duty("dispatch", buffer.dispatch.step, next_due=lambda: buffer.dispatch.next_due, clock=clock)
        reconcile = Duty("reconcile", buffer.reconcile.step, next_due=lambda: buffer.reconcile.next_due, clock=clock)
        answers = Duty("deliver", lambda: deliver.step(clock()), next_due=due_delivery, clock=clock)
        batch = Duty("batch", buffer.batches.step, next_due=lambda: buffer.batches.next_due, clock=clock)
        settle = Duty(
            "settle", buffer.settle_batches.step, next_due=lambda: buffer.settle_batches.next_due, clock=clock
        )
        strays = Duty("strays", buffer.strays.step, next_due=lambda: buffer.strays.next_due, clock=clock)
        restored = Duty("restored", buffer.restored.step, next_due=lambda: buffer.restored.next_due, clock=clock)
        batch.wakes = (settle, answers)
        reconcile.wakes = (answers, dispatch)
        settle.wakes = (answers, batch, dispatch)
        restored.wakes = (answers, dispatch, batch)
        lookout = Duty("lookout", buffer.lookout.step, next_due=lambda: buffer.lookout.next_due, clock=clock)
        issuing = Duty("issuing", buffer.issuing.step, next_due=lambda: buffer.issuing.next_due, clock=clock)
        lookout.wakes = (issuing,)
        issuing.wakes = (answers, dispatch, batch)
        printing = Duty(
            "printing", lambda: buffer.printing.step(clock()), next_due=buffer.printing.next_due, clock=clock
        )
        answers.wakes = (printing,)
        notices = Duty(
            "notices", lambda: buffer.notices.step(clock()), next_due=lambda: buffer.notices.next_due, clock=clock
        )
        intake.wakes = (issuing, dispatch, batch, answers)
        dispatch.wakes = (issuing, reconcile, answers)
        renewals = Duty("renewals", buffer.renewals.step, next_due=lambda: buffer.renewals.next_due, clock=clock)
        self.duties = [intake, issuing, dispatch, batch, reconcile, settle, strays, restored, renewals, lookout]
        webhooks = Duty(
            "webhooks", lambda: buffer.webhooks.step(clock()), next_due=buffer.webhooks.next_due, clock=clock
        )
        for duty in self.duties:
            if answers in duty.wakes:
                duty.wakes = (*duty.wakes, webhooks)
        self.duties += [answers, printing, notices, webhooks]
        self.duties += self._receiving_duties()
        self._intake = intake
        # Not known at the start: an earlier life may have told of files that are gone.
        self._told: dict[str, str] | None = None
        self._table_state: dict[str, object] = {}
        self._limits_told: dict[str, object] = {}
        self._hand_over_trouble: str | None = None
        self._filing_trouble: str | None = None
        if buffer.rows is not None:
            table = Duty("table", self._take_rows, next_due=lambda: None, clock=clock)
            table.wakes = (issuing, dispatch, batch, answers)
            self.duties.append(table)
            self._table: Duty | None = table
        else:
            self._table = None

    def _receiving_duties(self) -> list[Duty]:
        buffer, clock = self._buffer, self._buffer.clock
        if not buffer.config.incoming.enabled:
            return []
        receiving = buffer.receiving
        filing = Duty("filing", self._file, next_due=receiving.filing.next_due, clock=clock)
        pull = Duty("pull", receiving.step, next_due=lambda: receiving.next_due, clock=clock)
        pull.wakes = (filing,)
        refiling = Duty("refiling", receiving.refiling.step, next_due=lambda: None, clock=clock)
        refiling.wakes = (filing,)
        duties = [pull, filing, refiling]
        hand_over = receiving.hand_over
        if hand_over is not None:
            rows = Duty("hand-over", lambda: self._hand_over(hand_over), next_due=hand_over.next_due, clock=clock)
            pull.wakes = (filing, rows)
            duties.append(rows)
        return duties

    def run(self) -> None:
        """Works until ``stop`` is set or the process is told to end. Call ``prepare`` first."""
        config, environ = self._buffer.config, self._buffer.environ
        stop_watching = self._buffer.folder.watch(self._intake.wake.set)
        scheduler = BackgroundScheduler(
            timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )
        scheduler.add_job(self._intake.wake.set, "interval", seconds=config.inbox.poll_seconds)
        if self._table is not None:
            scheduler.add_job(self._table.wake.set, "interval", seconds=config.table.poll_seconds)
        scheduler.add_job(self._safety_wake, "interval", seconds=SAFETY_WAKE.total_seconds())
        scheduler.add_job(self._tell_limits, "interval", seconds=_LIMITS_TOLD_EVERY_S)
        scheduler.add_job(self._pat_watchdog, "interval", seconds=_WATCHDOG_EVERY_S)
        scheduler.add_job(self._check_lead, "interval", seconds=_LEAD_CHECKED_EVERY_S)
        for duty in self.duties:
            duty.start(self.stop)
        scheduler.start()
        notify(environ, f"READY=1\nSTATUS=Bufor NIP {config.nip} ({config.environment}) pracuje")
        log.info("buffer nip=%s environment=%s works", config.nip, config.environment)
        self.stop.wait()
        if self.ending.is_set() or self.lost_lead:
            # To systemd that is the end of the service: who begins anew must not say it.
            notify(environ, "STOPPING=1")
        log.info("stopping: steps end at their next commit")
        scheduler.shutdown(wait=False)
        stop_watching()
        deadline = time.monotonic() + _STOP_WITHIN_S
        for duty in self.duties:
            duty.wake.set()
        ended = [duty.join(max(0.1, deadline - time.monotonic())) for duty in self.duties]
        if all(ended):
            self._buffer.dispatch.close_all()
        log.info("stopped")

    def _take_files(self) -> bool:
        folder = self._buffer.folder
        now = self._buffer.clock()
        more = folder.take_in(now)
        if folder.passed_over != self._told:
            told = folder.passed_over
            with self._buffer.database.transaction() as tx:
                facts.put(tx, "passed_over", dict(list(told.items())[:50]), at=now)
            self._told = told
        return more

    def _take_rows(self) -> bool:
        rows = self._buffer.rows
        assert rows is not None
        now = self._buffer.clock()
        try:
            more = rows.take_in(now)
        except BufferFault as fault:
            self._note_table({"ok": False, "message": str(fault)}, now)
            raise
        self._note_table({"ok": True, "message": ""}, now)
        return more

    def _file(self) -> bool:
        now = self._buffer.clock()
        trouble = ""
        try:
            return self._buffer.receiving.filing.step(now)
        except BufferFault as fault:
            trouble = str(fault)
            raise
        finally:
            if trouble != self._filing_trouble:
                self._filing_trouble = trouble
                with self._buffer.database.transaction() as tx:
                    facts.put(tx, "filing_trouble", {"message": trouble}, at=now)

    def _hand_over(self, hand_over: HandOver) -> bool:
        now = self._buffer.clock()
        more = hand_over.step(now)
        if hand_over.trouble != self._hand_over_trouble:
            self._hand_over_trouble = hand_over.trouble
            with self._buffer.database.transaction() as tx:
                facts.put(tx, "hand_over", {"message": hand_over.trouble}, at=now)
        return more

    def _note_table(self, state: dict[str, object], now: datetime) -> None:
        if state != self._table_state:
            self._table_state = state
            with self._buffer.database.transaction() as tx:
                facts.put(tx, "table", state, at=now)

    def _safety_wake(self) -> None:
        for duty in self.duties:
            if duty is not self._intake and duty is not self._table:
                duty.wake.set()

    def _check_lead(self) -> None:
        """Once our lock is gone another node may lead; what we began is safe, as every move is compare-and-swap."""
        if not self._leads():
            self.lost_lead = True
            self.stop.set()

    def _tell_limits(self) -> None:
        """What is used of KSeF's limits, for ``status``; written only when it changed."""
        now = self._buffer.clock()
        limiter = self._buffer.dispatch.figures.limiter
        used: dict[str, object] = {}
        for group, usage in limiter.snapshot(now).items():
            if usage.per_hour or usage.blocked_until or usage.foreign_since:
                limit = limiter.limit(group)
                used[group] = {
                    "minute": usage.per_minute,
                    "per_minute": limit.per_minute,
                    "hour": usage.per_hour,
                    "per_hour": limit.per_hour,
                    "blocked_until": answers.moment(usage.blocked_until),
                    "foreign_since": answers.moment(usage.foreign_since),
                }
        if used != self._limits_told:
            self._limits_told = used
            with self._buffer.database.transaction() as tx:
                facts.put(tx, "limits", used, at=now)

    def _pat_watchdog(self) -> None:
        hung = [duty.name for duty in self.duties if time.monotonic() - duty.round_finished > _HUNG_AFTER_S]
        if hung:
            log.error("duties hang: %s; the watchdog is not fed", ", ".join(hung))
        else:
            notify(self._buffer.environ, "WATCHDOG=1")
