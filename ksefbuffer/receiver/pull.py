"""Pulling: every invoice that KSeF holds for us, once, whole. Source: FACTS §7, §15 items 17 to 26.

Each role (buyer, third party, authorised party, seller) has a cursor, a text of KSeF's: everything stored there before
it is stored here. It moves in the commit that stores the last invoice of what was asked for, and never before. What
KSeF gives again is known by its number. An invoice that cannot be had as KSeF describes it stops the cursor; after a
few new packages it becomes a debt (``debts``), in the commit that lets the cursor go on, and is asked for every day.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from ksefbuffer.errors import CallFault, RateLimited, Refused
from ksefbuffer.invoice.identifiers import sha256_hex
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.limits import Limiter
from ksefbuffer.ksef.shapes import InvoiceMetadata, Period
from ksefbuffer.queue import facts, incoming, pulls
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.pulls import Cursor, Export
from ksefbuffer.receiver import debts, holding, schedule
from ksefbuffer.receiver.debts import Debt, Seek
from ksefbuffer.receiver.exporting import SUBJECTS, WRONG_HASH, Came, Exports
from ksefbuffer.receiver.instants import latest, midnight, written
from ksefbuffer.receiver.progress import Progress
from ksefbuffer.receiver.stock import Arrived, Stock

log = logging.getLogger(__name__)

WANTED = "pull_wanted"
ACTOR = "ksef"
# So often a package is ordered anew before what is wrong in it becomes a debt.
_NEW_PACKAGES = 2
# More wrong invoices than this are no matter of single invoices: the package itself is wrong, and the cursor stays.
MOST_DEBTS = 50
# All in all; with more than this something is wrong that a person has to look at first.
_MOST_OWED = 500
_PAGES_OF_A_DEBT = 3
_NOT_THERE = "KSeF nie wymienia tej faktury w zapytaniu"


@dataclass
class _Listing:
    """New invoices that a query listed, being downloaded one by one; of this process alone."""

    period: Period
    hwm: str
    todo: list[InvoiceMetadata]
    total: int
    stored: int = 0
    tries: int = 0
    lacking: dict[str, tuple[str, InvoiceMetadata]] = field(default_factory=dict)
    resume_at: datetime | None = None


@dataclass
class Pull:
    """One thread calls ``step``. ``subjects`` in order of importance; ``since``: what was stored at KSeF earlier is
    not wanted."""

    database: Database
    ksef: Ksef
    limiter: Limiter
    clock: Callable[[], datetime]
    stock: Stock
    exports: Exports
    progress: Progress
    subjects: Sequence[str]
    since: date
    interval: timedelta
    next_due: datetime | None = None
    _begun: bool = False
    _lifted_at: datetime | None = None
    _many: set[str] = field(default_factory=set)
    _listings: dict[str, _Listing] = field(default_factory=dict, repr=False)
    _metadata: dict[str, InvoiceMetadata] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.exports.claimants["pull"] = self

    def recover(self) -> None:
        """At start, once the schema is there."""
        now = self.clock()
        with self.database.transaction() as tx:
            for subject in self.subjects:
                pulls.begin(tx, subject, midnight(self.since), at=now)
        self.exports.recover()
        self._begun = True

    def step(self) -> bool:
        """One unit of work: an order, a question, a part, a heap of invoices, a download. True when there may be more
        at once. Raises StorageFault."""
        if not self._begun:
            self.recover()
        now = self.clock()
        if self._heed_wish(now):
            return True
        held = holding.until(self.database, now)
        if held is not None:
            self.next_due = held
            return False
        if self.exports.step(now) or self._download(now) or self._pay(now) or self._begin(now):
            return True
        self.next_due = self._due(now)
        return False

    def _due(self, now: datetime) -> datetime | None:
        with self.database.reading() as tx:
            busy = {export.subject for export in pulls.unfinished(tx) if export.purpose == "pull"}
            dues = [cursor.due_at for cursor in self._cursors(tx) if cursor.subject not in {*busy, *self._listings}]
            dues += [debt.due_at for debt in debts.read(tx).invoices]
        dues += [listing.resume_at or now for listing in self._listings.values()]
        dues += [self.exports.next_due] if self.exports.next_due is not None else []
        return min(dues, default=None)

    def _cursors(self, tx: Any) -> list[Cursor]:
        known = {cursor.subject: cursor for cursor in pulls.all_cursors(tx)}
        return [known[subject] for subject in self.subjects if subject in known]

    # What somebody wants

    def _heed_wish(self, now: datetime) -> bool:
        with self.database.reading() as tx:
            if facts.get(tx, WANTED) is None:
                return False
        with self.database.transaction() as tx:
            told = facts.get(tx, WANTED)
            if told is None:
                return False
            wanted = set(told[0].get("subjects") or self.subjects)
            subjects = [
                cursor.subject
                for cursor in self._cursors(tx)
                if cursor.subject in wanted and not _is_fresh(cursor, now)
            ]
            pulls.make_due(tx, subjects, at=now)
            # Somebody is there and may have mended what was wrong; but impatience must not become a storm of logins.
            if self._lifted_at is None or now - self._lifted_at >= schedule.NOT_ASKED_TWICE_WITHIN:
                self._lifted_at = now
                holding.over(tx)
            facts.forget(tx, WANTED)
            self.progress.tell(tx, now)
        log.info("pull wanted subjects=%s", ",".join(subjects) or "none (pulled a moment ago)")
        return True

    # Beginning

    def _begin(self, now: datetime) -> bool:
        with self.database.reading() as tx:
            busy = {export.subject for export in pulls.unfinished(tx) if export.purpose == "pull"}
            cursors = self._cursors(tx)
        for cursor in cursors:
            if cursor.due_at <= now and cursor.subject not in busy and cursor.subject not in self._listings:
                self._begin_one(cursor, now)
                return True
        return False

    def _begin_one(self, cursor: Cursor, now: datetime) -> None:
        subject = cursor.subject
        behind = schedule.is_behind(cursor.position, now)
        share = schedule.export_share(cursor.brought, behind=behind, now=now)
        choice = schedule.choose(
            brought=cursor.brought,
            first=cursor.moved_at is None,
            behind=behind,
            seldom=schedule.is_seldom(subject),
            many=subject in self._many,
            waits=schedule.Waits(
                self._wait_s("invoiceMetadata", schedule.LISTING_SHARE, now), self._wait_s("invoiceExport", share, now)
            ),
        )
        period = schedule.window(cursor.position, now)
        try:
            match choice:
                case schedule.Listing():
                    self._list(cursor, period, now)
                case schedule.Export():
                    self.exports.order(subject, "pull", period, share=share)
                case schedule.Wait(seconds):
                    self._hold(subject, now + timedelta(seconds=seconds), now)
        except RateLimited as fault:
            self._hold(subject, now + holding.wait_of(fault), now)
        except CallFault as fault:
            if not holding.is_of_one(fault):
                holding.hold_back(self.database, fault, now)
                return
            with self.database.transaction() as tx:
                self._failed(tx, subject, fault.message, now)

    def _wait_s(self, group: str, share: float, now: datetime, calls: int = 1) -> float:
        return self.limiter.wait_for(group, now, calls, share).total_seconds()

    def _hold(self, subject: str, until: datetime, now: datetime) -> None:
        with self.database.transaction() as tx:
            pulls.hold(tx, subject, due_at=until, problem=holding.held_until(until))
            self.progress.tell(tx, now)

    # By metadata

    def _list(self, cursor: Cursor, period: Period, now: datetime) -> None:
        subject = cursor.subject
        page = self.ksef.query_metadata(SUBJECTS[subject], period, share=schedule.LISTING_SHARE)
        with self.database.reading() as tx:
            known = incoming.roles_known(tx, [one.ksef_number for one in page.invoices])
        new = [one for one in page.invoices if one.ksef_number not in known]
        if page.more or page.truncated or not self._worth_downloading(len(new), now):
            self._many.add(subject)
            return
        role = frozenset((subject,))
        grown = [(number, role) for number, roles in known.items() if not role <= roles]
        if grown:
            self.stock.grow(grown, at=now, actor=ACTOR)
        listing = _Listing(period, page.hwm, new, len(new))
        if new:
            self._listings[subject] = listing
            with self.database.transaction() as tx:
                holding.over(tx)
                self._show(tx, subject, listing, now)
        else:
            with self.database.transaction() as tx:
                self._listed(tx, subject, listing, now)

    def _worth_downloading(self, count: int, now: datetime) -> bool:
        downloads_s = self._wait_s("invoiceDownload", schedule.SHARE, now, count)
        export_s = self._wait_s("invoiceExport", schedule.EXPORT_SHARE, now)
        return schedule.worth_downloading(count, downloads_s, export_s)

    def _download(self, now: datetime) -> bool:
        for subject, listing in self._listings.items():
            if listing.resume_at is None or listing.resume_at <= now:
                self._download_one(subject, listing, now)
                return True
        return False

    def _download_one(self, subject: str, listing: _Listing, now: datetime) -> None:
        metadata = listing.todo[0]
        content = b""
        try:
            content = self.ksef.download(metadata.ksef_number, share=schedule.SHARE)
            problem = "" if sha256_hex(content) == metadata.sha256_hex else WRONG_HASH
        except RateLimited as fault:
            listing.resume_at = now + holding.wait_of(fault)
            self._hold(subject, listing.resume_at, now)
            return
        except CallFault as fault:
            listing.tries += 1
            if not holding.is_of_one(fault, listing.tries):
                listing.resume_at = holding.hold_back(self.database, fault, now)
                return
            problem = fault.message
        listing.todo.pop(0)
        listing.tries, listing.resume_at = 0, None
        if problem:
            listing.lacking[metadata.ksef_number] = (problem, metadata)
        else:
            listing.stored += 1

        def then(tx: Any) -> None:
            holding.over(tx)
            if listing.todo:
                self._show(tx, subject, listing, now)
            else:
                self._listed(tx, subject, listing, now)

        if problem:
            with self.database.transaction() as tx:
                then(tx)
        else:
            arrived = Arrived(content, metadata, frozenset((subject,)))
            self.stock.take([arrived], at=now, actor=ACTOR, then=then)
        if not listing.todo:
            del self._listings[subject]

    def _show(self, tx: Any, subject: str, listing: _Listing, now: datetime) -> None:
        self.progress.now_in(subject, "downloading", listing.total - len(listing.todo), listing.total)
        self.progress.tell(tx, now)

    def _listed(self, tx: Any, subject: str, listing: _Listing, now: datetime) -> None:
        """Everything of a listing that could be had is stored."""
        cursor = pulls.cursor(tx, subject)
        assert cursor is not None
        self.progress.at_rest(subject)
        holding.over(tx)
        if listing.lacking and not _may_go_on(tx, cursor, len(listing.lacking)):
            number, (problem, _) = next(iter(listing.lacking.items()))
            self._failed(tx, subject, f"{number}: {problem}", now)
            return
        owed = [
            _debt(number, subject, problem, one.permanent_at_raw, one.permanent_at_raw, listing.period, now)
            for number, (problem, one) in listing.lacking.items()
        ]
        self._metadata |= {number: one for number, (_, one) in listing.lacking.items()}
        self._owe(tx, owed, [], now)
        self._move(tx, cursor, schedule.reached(listing.period, truncated=False, last="", hwm=listing.hwm),
                   listing.stored, now)  # fmt: skip

    # What packages mean: see exporting.Claimant

    def goes_on_without(self, tx: Any, export: Export, came: Came) -> bool:
        cursor = pulls.cursor(tx, export.subject)
        return cursor is not None and _may_go_on(tx, cursor, len(came.lacking))

    def came(self, tx: Any, export: Export, came: Came, now: datetime) -> None:
        cursor = pulls.cursor(tx, export.subject)
        assert cursor is not None
        period = _period(export)
        package = came.package
        last = package.last_permanent_raw or came.last
        try:
            reached = schedule.reached(period, truncated=package.truncated, last=last, hwm=package.hwm_raw)
        except ValueError:
            self._failed(tx, export.subject, "KSeF uciął paczkę i nie podał, od kiedy pobierać dalej", now)
            return
        owed = [
            _debt(number, export.subject, one.reason, one.start, one.end, period, now)
            for number, one in came.lacking.items()
        ]
        self._metadata |= {number: came.metadata[number] for number in came.lacking if number in came.metadata}
        seeks = []
        if reached.stuck:
            seeks.append(debts.seek_instant(export.subject, export.period_start, now))
        if came.short:
            end = last if package.truncated else reached.position
            reason = f"w paczce brakowało {came.short} zapowiedzianych faktur"
            seeks.append(Seek(export.subject, period.date_type, period.start, end, reason, now.isoformat()))
        self._owe(tx, owed, seeks, now)
        self._move(tx, cursor, reached, came.stored, now)
        if package.truncated:
            self._many.add(export.subject)

    def nothing_new(self, tx: Any, export: Export, now: datetime) -> None:
        cursor = pulls.cursor(tx, export.subject)
        assert cursor is not None
        self._move(tx, cursor, schedule.Reached(cursor.position, complete=True), 0, now)

    def failed(self, tx: Any, export: Export, problem: str, now: datetime) -> None:
        self._failed(tx, export.subject, problem, now)

    def _failed(self, tx: Any, subject: str, problem: str, now: datetime) -> None:
        cursor = pulls.cursor(tx, subject)
        failures = cursor.failures + 1 if cursor is not None else 1
        again = schedule.retry(now, failures)
        pulls.postpone(tx, subject, due_at=again, problem=problem, failed=True)
        self.progress.tell(tx, now)

    def _move(self, tx: Any, cursor: Cursor, reached: schedule.Reached, brought: int, now: datetime) -> None:
        position = latest(cursor.position, reached.position)
        at_once = not reached.complete and position != cursor.position
        due = now if at_once else schedule.next_pull(cursor.subject, now, self.interval, brought)
        pulls.move(tx, cursor.subject, position, at=now, due_at=due, brought=brought, caught_up=reached.complete)
        self._many.discard(cursor.subject)
        self.progress.tell(tx, now)

    # Debts

    def _owe(self, tx: Any, owed: Sequence[Debt], seeks: Sequence[Seek], now: datetime) -> None:
        debts.owe(tx, owed, seeks, at=now)
        for debt in owed:
            log.warning("incoming invoice %s not stored: %s", debt.ksef_number, debt.reason)
        for seek in seeks:
            log.warning("incoming %s from %s to be gone through: %s", seek.subject, seek.start, seek.reason)

    def _pay(self, now: datetime) -> bool:
        with self.database.reading() as tx:
            due = next((debt for debt in debts.read(tx).invoices if debt.due_at <= now), None)
            known = due is not None and due.ksef_number in incoming.roles_known(tx, [due.ksef_number])
        if due is None:
            return False
        if known:
            self.stock.grow([(due.ksef_number, frozenset((due.subject,)))], at=now, actor=ACTOR)
            with self.database.transaction() as tx:
                debts.paid(tx, due.ksef_number, at=now)
            return True
        soon = False
        try:
            metadata = self._metadata_of(due)
            content = self.ksef.download(due.ksef_number, share=schedule.SHARE) if metadata is not None else b""
            problem = _NOT_THERE
            if metadata is not None:
                problem = "" if sha256_hex(content) == metadata.sha256_hex else WRONG_HASH
        except RateLimited as fault:
            with self.database.transaction() as tx:
                debts.put_off(tx, due, at=now, again=now + holding.wait_of(fault))
            return True
        except CallFault as fault:
            if not holding.is_of_one(fault, due.tries + holding.DOUBTS):
                holding.hold_back(self.database, fault, now)
                return True
            problem, metadata, soon = fault.message, None, not isinstance(fault, Refused)
        if metadata is None or problem:
            self._metadata.pop(due.ksef_number, None)
            again = debts.next_try(now, soon=soon, tries=due.tries)
            log.warning("incoming invoice %s still not stored: %s", due.ksef_number, problem)
            with self.database.transaction() as tx:
                debts.put_off(tx, due, at=now, again=again, reason=problem)
            return True
        arrived = Arrived(content, metadata, frozenset((due.subject,)))
        self.stock.take([arrived], at=now, actor=ACTOR, then=lambda tx: debts.paid(tx, due.ksef_number, at=now))
        self._metadata.pop(due.ksef_number, None)
        return True

    def _metadata_of(self, debt: Debt) -> InvoiceMetadata | None:
        if debt.ksef_number in self._metadata:
            return self._metadata[debt.ksef_number]
        for number in range(_PAGES_OF_A_DEBT):
            period = Period("PermanentStorage", debt.start, debt.end)
            page = self.ksef.query_metadata(SUBJECTS[debt.subject], period, page=number, share=schedule.SHARE)
            for one in page.invoices:
                if one.ksef_number == debt.ksef_number:
                    return one
            if not page.more:
                break
        return None


def _is_fresh(cursor: Cursor, now: datetime) -> bool:
    moved_at = cursor.moved_at
    return cursor.failures == 0 and moved_at is not None and now - moved_at < schedule.NOT_ASKED_TWICE_WITHIN


def _may_go_on(tx: Any, cursor: Cursor, lacking: int) -> bool:
    if cursor.failures < _NEW_PACKAGES or lacking > MOST_DEBTS:
        return False
    return len(debts.read(tx).invoices) + lacking <= _MOST_OWED


def _period(export: Export) -> Period:
    return Period("PermanentStorage", export.period_start, export.period_end, restrict_to_hwm=not export.period_end)


def _debt(number: str, subject: str, reason: str, start: str, end: str, period: Period, now: datetime) -> Debt:
    """Due at once: a single download may have what a package had not."""
    told = now.isoformat()
    return Debt(number, subject, reason, told, start or period.start, end or period.end or written(now), told)
