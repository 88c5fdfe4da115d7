"""Rescans: the last 3 days every day, the last 30 every week, gone through once more; what is missing is healed.

KSeF has let invoices appear below its high-water mark (FACTS §7.3 item 4, §15.22), so a cursor alone proves nothing.
A small period is listed (1 to 4 calls of invoiceMetadata) and what is missing downloaded; a large one is exported.
Periods that a pull could not be sure of (``debts.Seek``) are gone through likewise.

A rescan is work of one process: one that dies begins anew, and what it stored is known by then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from ksefbuffer.errors import CallFault, RateLimited
from ksefbuffer.invoice.identifiers import sha256_hex
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.limits import Limiter
from ksefbuffer.ksef.shapes import InvoiceMetadata, Period
from ksefbuffer.queue import facts, incoming, pulls, recounts
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.pulls import Cursor, Export
from ksefbuffer.receiver import debts, holding, recount, schedule
from ksefbuffer.receiver.debts import Debt, Seek
from ksefbuffer.receiver.exporting import SUBJECTS, WRONG_HASH, Came, Exports
from ksefbuffer.receiver.instants import after, floor, order, written
from ksefbuffer.receiver.recount import NAMED, ForeignSale, Recount
from ksefbuffer.receiver.stock import Arrived, Stock

log = logging.getLogger(__name__)

ACTOR = "rescan"
_FEW_KNOWN = 1_000
_MOST_PAGES = 6
_MOST_DOWNLOADS = 40
_AT_ONCE = 200
_TRIES = 3
_MOST_LACKING = 50
_AGAIN = timedelta(hours=3)
_FORGOTTEN_AFTER = timedelta(days=30)
# A number is given a little before KSeF stores the invoice for good; nearer to the ends of a period nothing is sure.
_SURELY_STORED = timedelta(hours=1)


@dataclass
class _Job:
    """``kinds`` of rescans that it is, or the period it was ``sought`` for."""

    subject: str
    whole: Period
    kinds: Sequence[str] = ()
    sought: Seek | None = None
    left: Period | None = None
    page: int = 0
    exported: bool = False
    listed: bool = False
    listing: dict[str, None] = field(default_factory=dict)
    missing: dict[str, InvoiceMetadata] = field(default_factory=dict)
    lacking: list[Debt] = field(default_factory=list)
    foreign: dict[str, ForeignSale] = field(default_factory=dict)
    foreign_count: int = 0
    healed: int = 0
    tries: int = 0
    cuts: int = 0
    resume_at: datetime | None = None

    @property
    def rest(self) -> Period:
        return self.left or self.whole


@dataclass
class Rescan:
    """The thread that pulls calls ``step`` when nothing is to be pulled."""

    database: Database
    ksef: Ksef
    limiter: Limiter
    clock: Callable[[], datetime]
    stock: Stock
    exports: Exports
    subjects: Sequence[str]
    next_due: datetime | None = None
    _job: _Job | None = field(default=None, repr=False)
    _not_before: dict[str, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.exports.claimants["rescan"] = self

    def step(self) -> bool:
        """One call, or one heap of invoices. True when there may be more at once. Raises StorageFault."""
        now = self.clock()
        held = holding.until(self.database, now)
        if held is not None:
            self.next_due = held
            return False
        if self._job is None:
            self._job = self._next_job(now)
        job = self._job
        if job is None:
            return False
        if job.resume_at is not None and job.resume_at > now:
            self.next_due = job.resume_at
            return False
        job.resume_at = None
        if job.exported:
            with self.database.reading() as tx:
                running = pulls.unfinished_for(tx, job.subject, "rescan")
            if running is not None:
                self.next_due = running.next_look_at
                return False
        try:
            self._advance(job, now)
        except RateLimited as fault:
            job.resume_at = now + holding.wait_of(fault)
        except CallFault as fault:
            if holding.is_of_one(fault):
                self._try_later(job, fault.message, now)
            else:
                holding.hold_back(self.database, fault, now)
        return True

    # Which

    def _next_job(self, now: datetime) -> _Job | None:
        with self.database.reading() as tx:
            cursors = {cursor.subject: cursor for cursor in pulls.all_cursors(tx) if cursor.subject in self.subjects}
            seeks = debts.read(tx).periods
        dues: list[datetime] = []
        for seek in seeks:
            again = self._not_before.get(f"{seek.subject} {seek.start}", now)
            if again <= now:
                return _Job(seek.subject, _period(seek.date_type, seek.start, seek.end), sought=seek)
            dues.append(again)
        for cursor in cursors.values():
            if cursor.caught_up_at is None or schedule.is_behind(cursor.position, now):
                continue
            again = max(schedule.next_rescan(cursor.rescans, now), self._not_before.get(cursor.subject, now))
            if again <= now:
                return self._of(cursor, now)
            dues.append(again)
        self.next_due = min(dues, default=None)
        return None

    def _of(self, cursor: Cursor, now: datetime) -> _Job:
        """The longest rescan that is due covers the others."""
        kinds = schedule.due_rescans(cursor.rescans, now)
        _, back = schedule.RESCANS[kinds[-1]]
        # Up to the cursor everything should be here; beyond it nothing was promised.
        start = min(now - back, floor(cursor.position))
        job = _Job(cursor.subject, Period("PermanentStorage", written(start), cursor.position), kinds)
        with self.database.reading() as tx:
            stored = recounts.stored_about(tx, start, floor(cursor.position))
        job.exported = sum(cursor.subject in roles.split(",") for _, roles, _ in stored) > _FEW_KNOWN
        return job

    # Step by step

    def _advance(self, job: _Job, now: datetime) -> None:
        if job.exported:
            if not job.listed:
                self.exports.order(job.subject, "rescan", job.rest, share=schedule.RESCAN_EXPORT_SHARE)
            else:
                self._end(job, now)
        elif not job.listed:
            self._list(job, now)
        elif len(job.missing) > _MOST_DOWNLOADS:
            job.exported, job.listed, job.left = True, False, None
            job.missing.clear()
        elif job.missing:
            self._download(job, now)
        else:
            self._end(job, now)

    def _list(self, job: _Job, now: datetime) -> None:
        subject = SUBJECTS[job.subject]
        page = self.ksef.query_metadata(subject, job.whole, page=job.page, share=schedule.SHARE)
        with self.database.reading() as tx:
            known = incoming.roles_known(tx, [one.ksef_number for one in page.invoices])
            _note(tx, job, page.invoices)
        job.missing.update((one.ksef_number, one) for one in page.invoices if one.ksef_number not in known)
        role = frozenset((job.subject,))
        grown = [(number, role) for number, roles in known.items() if not role <= roles]
        for start in range(0, len(grown), _AT_ONCE):
            self.stock.grow(grown[start : start + _AT_ONCE], at=now, actor=ACTOR)
        job.page += 1
        if page.truncated or (page.more and job.page >= _MOST_PAGES):
            job.exported = True
            job.missing.clear()
        else:
            job.listed = not page.more

    def _download(self, job: _Job, now: datetime) -> None:
        number, metadata = next(iter(job.missing.items()))
        try:
            content = self.ksef.download(number, share=schedule.SHARE)
            problem = "" if sha256_hex(content) == metadata.sha256_hex else WRONG_HASH
        except CallFault as fault:
            job.cuts += 1
            if not holding.is_of_one(fault, job.cuts):
                raise
            problem, content = fault.message, b""
        job.cuts = 0
        del job.missing[number]
        if problem:
            at, told = metadata.permanent_at_raw, now.isoformat()
            start, end = at or job.whole.start, at or job.whole.end
            job.lacking.append(Debt(number, job.subject, problem, told, start, end, told))
            return
        arrived = Arrived(content, metadata, frozenset((job.subject,)))
        job.healed += self.stock.take([arrived], at=now, actor=ACTOR, then=holding.over).stored

    def _try_later(self, job: _Job, problem: str, now: datetime) -> None:
        """A few times soon, then after some hours from the beginning."""
        job.tries += 1
        if job.tries < _TRIES:
            job.resume_at = schedule.retry(now, job.tries)
            return
        log.warning("rescan of %s from %s not done: %s", job.subject, job.whole.start, problem)
        name = f"{job.sought.subject} {job.sought.start}" if job.sought is not None else job.subject
        self._not_before[name] = now + _AGAIN
        self._job = None

    # What packages mean: see exporting.Claimant

    def goes_on_without(self, tx: Any, export: Export, came: Came) -> bool:
        return len(came.lacking) <= _MOST_LACKING and (self._job is None or self._job.tries >= _TRIES - 1)

    def came(self, tx: Any, export: Export, came: Came, now: datetime) -> None:
        job, told = self._job, now.isoformat()
        owed = [
            Debt(number, export.subject, one.reason, told, one.start, one.end, told)
            for number, one in came.lacking.items()
        ]
        if job is None:
            debts.owe(tx, owed, [], at=now)
            return
        job.lacking += owed
        job.healed += came.stored
        _note(tx, job, list(came.metadata.values()))
        job.listing.update(dict.fromkeys(came.lacking))
        package = came.package
        last = came.last
        if export.date_type == "PermanentStorage":
            last = package.last_permanent_raw or last
        elif export.date_type == "Invoicing":
            last = package.last_invoicing
        job.listed = not package.truncated
        if not package.truncated:
            return
        try:
            stuck = order(last) <= order(export.period_start)
        except ValueError:
            log.warning("rescan of %s ends early: KSeF did not say where it cut the package", job.subject)
            job.listed = True
            return
        if stuck:
            log.warning("rescan of %s: more invoices at %s than a package holds", job.subject, last)
            if export.date_type == "PermanentStorage":
                debts.owe(tx, [], [debts.seek_instant(export.subject, export.period_start, now)], at=now)
        job.left = replace(job.whole, start=after(export.period_start) if stuck else last)

    def nothing_new(self, tx: Any, export: Export, now: datetime) -> None:
        if self._job is not None:
            self._job.listed = True

    def failed(self, tx: Any, export: Export, problem: str, now: datetime) -> None:
        if self._job is not None:
            self._try_later(self._job, problem, now)

    # The result

    def _end(self, job: _Job, now: datetime) -> None:
        result = None if job.sought is not None else self._compare(job)
        with self.database.transaction() as tx:
            debts.owe(tx, job.lacking, [], at=now)
            holding.over(tx)
            if job.sought is not None:
                debts.sought(tx, job.sought, at=now)
            if result is not None:
                told = facts.get(tx, recount.FACT)
                facts.put(tx, recount.FACT, {**(told[0] if told else {}), job.subject: result.as_json(now)}, at=now)
                for kind in job.kinds:
                    pulls.rescanned(tx, job.subject, kind, at=now)
                pulls.forget_exports(tx, now - _FORGOTTEN_AFTER)
        self._job = None
        if result is not None and result.differs:
            log.warning(
                "recount of %s from %s to %s: at KSeF %s, here %s, healed %s, missing at KSeF %s, foreign sales %s",
                job.subject,
                result.start,
                result.end,
                result.at_ksef,
                result.here,
                result.healed,
                result.missing_count,
                result.foreign_count,
            )

    def _compare(self, job: _Job) -> Recount:
        start, end = job.whole.start, job.whole.end
        first, last = floor(start), floor(end)
        with self.database.reading() as tx:
            stored = recounts.stored_about(tx, first, last)
            sent: Iterable[recounts.Sent] = ()
            if job.subject == "seller":
                sent = recounts.sent_between(tx, first + _SURELY_STORED, last - _SURELY_STORED)
            here = len(incoming.roles_known(tx, list(job.listing)))
        missing = recount.missing_at_ksef(
            job.listing,
            ((number, at) for number, roles, at in stored if job.subject in roles.split(",")),
            (one.ksef_number for one in sent),
            start=start,
            end=end,
        )
        return Recount(
            start=start,
            end=end,
            at_ksef=len(job.listing),
            here=here,
            healed=job.healed,
            missing_at_ksef=tuple(missing[:NAMED]),
            missing_count=len(missing),
            foreign_sales=tuple(job.foreign.values()),
            foreign_count=job.foreign_count,
        )


def _note(tx: Any, job: _Job, entries: Sequence[InvoiceMetadata]) -> None:
    """Writes down what KSeF lists, and what of it is under our NIP as the seller but not of our sending."""
    new = [one for one in entries if one.ksef_number not in job.listing]
    job.listing.update(dict.fromkeys(one.ksef_number for one in new))
    if job.subject != "seller":
        return
    ours = recounts.ours(tx, [one.sha256_hex for one in new])
    foreign = [one for one in new if one.sha256_hex not in ours]
    job.foreign_count += len(foreign)
    for one in foreign[: NAMED - len(job.foreign)]:
        job.foreign[one.ksef_number] = ForeignSale(one.ksef_number, one.invoice_number, str(one.issue_date or ""))


def _period(date_type: str, start: str, end: str) -> Period:
    return Period("Invoicing" if date_type == "Invoicing" else "PermanentStorage", start, end)
