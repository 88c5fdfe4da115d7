"""Packages that KSeF makes for us: ordered, awaited, fetched, verified, stored. Source: FACTS §7.2, §15 items 17 to 19.

An export is a row with its key before KSeF is asked (its answer may be lost, the process may die), so a running one
survives any restart. What is on disk does not: a package is fetched anew, and what is stored already costs a look-up.
What a package means (where the cursor goes) is its claimant's affair, in the commit that stores its last invoices.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from ksefbuffer.errors import CallFault, NotTaken, OutcomeUnknown, RateLimited, Refused
from ksefbuffer.invoice.identifiers import sha256_hex
from ksefbuffer.ksef.archives import Package, Wrong, WrongBytes, open_package
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.shapes import ExportKey, ExportPackage, InvoiceMetadata, Period, Subject
from ksefbuffer.ksef.statuses import ExportVerdict, export_verdict
from ksefbuffer.queue import incoming, pulls
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.pulls import Export
from ksefbuffer.receiver import holding, schedule
from ksefbuffer.receiver.instants import latest
from ksefbuffer.receiver.progress import Progress
from ksefbuffer.receiver.stock import Arrived, Stock, Taken

log = logging.getLogger(__name__)

SUBJECTS: Mapping[str, Subject] = {
    "buyer": Subject.BUYER,
    "third": Subject.THIRD,
    "authorized": Subject.AUTHORIZED,
    "seller": Subject.SELLER,
}

# Storing and judging so many takes a tenth of a second, for which nobody else can write.
AT_ONCE = 50
_BYTES_AT_ONCE = 32_000_000
_TRIES_OF_A_PART = 3
_FRESH_LINKS = 3
_CUTS = 8
_PART_AGAIN = timedelta(seconds=5)
_DISK_AGAIN = timedelta(minutes=1)
# Of bytes that came whole and are not what they should be: coming again they would be the same.
_LASTING = frozenset({Wrong.KEY, Wrong.SIZE, Wrong.HASH, Wrong.ARCHIVE})

WRONG_HASH = "skrót SHA-256 pliku nie zgadza się z podanym przez KSeF"
UNLISTED = "w paczce nie ma metadanych tej faktury"
NO_FILE = "w paczce nie ma pliku tej faktury"


@dataclass(frozen=True)
class Lacking:
    """An invoice of a package that could not be stored: why, in Polish, and between which moments KSeF stored it."""

    reason: str
    start: str
    end: str


@dataclass(frozen=True)
class Came:
    """A package of which everything is stored but for ``lacking`` (by KSeF number) and ``short`` further invoices
    that it announced and did not hold. ``last`` is the date of its last invoice, KSeF's own text."""

    package: ExportPackage
    stored: int
    last: str
    metadata: Mapping[str, InvoiceMetadata] = field(default_factory=dict, repr=False)
    lacking: Mapping[str, Lacking] = field(default_factory=dict)
    short: int = 0


class Claimant(Protocol):
    """Who ordered an export, called in the commit that ends it."""

    def goes_on_without(self, tx: Any, export: Export, came: Came) -> bool:
        """Whether a package may count although something is lacking; otherwise it is ordered anew."""

    def came(self, tx: Any, export: Export, came: Came, now: datetime) -> None: ...

    def nothing_new(self, tx: Any, export: Export, now: datetime) -> None: ...

    def failed(self, tx: Any, export: Export, problem: str, now: datetime) -> None: ...


@dataclass
class _Parcel:
    """A package that is being fetched and stored; of this process alone."""

    package: ExportPackage
    key: ExportKey
    folder: Path
    paths: list[Path] = field(default_factory=list)
    opened: Package | None = None
    invoices: Iterator[tuple[str, bytes]] = field(default_factory=lambda: iter(()))
    ahead: tuple[str, bytes] | None = None
    seen: set[str] = field(default_factory=set)
    stored: int = 0
    last: str = ""
    lacking: dict[str, Lacking] = field(default_factory=dict)
    tries: int = 0
    links: int = 0
    cuts: int = 0
    stale: bool = False

    @property
    def metadata(self) -> Mapping[str, InvoiceMetadata]:
        return self.opened.metadata if self.opened is not None else {}

    def open(self) -> None:
        """Raises WrongBytes, OSError."""
        self.opened = open_package(self.paths, self.package.compression)
        self.invoices = self.opened.invoices()
        self.ahead = next(self.invoices, None)

    def chunk(self) -> list[tuple[str, bytes]]:
        """The next invoices; afterwards ``ahead`` is None when they were the last. Raises WrongBytes, OSError."""
        found: list[tuple[str, bytes]] = []
        size = 0
        while self.ahead is not None and len(found) < AT_ONCE and size < _BYTES_AT_ONCE:
            found.append(self.ahead)
            size += len(self.ahead[1])
            self.ahead = next(self.invoices, None)
        return found


@dataclass
class Exports:
    """All exports of one buffer; one thread calls. ``folder`` holds decrypted parts; nothing in it outlives a start."""

    database: Database
    ksef: Ksef
    clock: Callable[[], datetime]
    stock: Stock
    folder: Path
    progress: Progress
    claimants: dict[str, Claimant] = field(default_factory=dict)
    next_due: datetime | None = None
    _parcels: dict[int, _Parcel] = field(default_factory=dict, repr=False)

    def recover(self) -> None:
        """At start: what was fetched is fetched anew; what was never surely ordered, ordered anew."""
        shutil.rmtree(self.folder, ignore_errors=True)
        now = self.clock()
        with self.database.transaction() as tx:
            for export in pulls.unfinished(tx):
                if export.purpose == "rescan":
                    pulls.give_up(tx, export.id, "przegląd zacznie się od nowa po restarcie")
                elif export.state == "starting":
                    pulls.give_up(tx, export.id, "nie wiadomo, czy KSeF przyjął zlecenie")
                else:
                    pulls.look_again(tx, export.id, at=now)

    def order(self, subject: str, purpose: str, period: Period, *, share: float) -> None:
        """Has a package made. Raises CallFault when none is being made, or it is not known; the row is given up."""
        key = self.ksef.new_export_key()
        now = self.clock()
        with self.database.transaction() as tx:
            row = pulls.begin_export(
                tx,
                subject,
                purpose,
                date_type=period.date_type,
                start=period.start,
                end=period.end,
                secret=key.secret,
                at=now,
            )
        try:
            reference = self.ksef.start_export(SUBJECTS[subject], period, key=key, share=share)
        except CallFault as fault:
            # Whether KSeF makes it or not: without its reference nobody can fetch it.
            note = "nie wiadomo, czy KSeF przyjął zlecenie" if isinstance(fault, OutcomeUnknown) else fault.message
            with self.database.transaction() as tx:
                pulls.give_up(tx, row, note)
            raise
        now = self.clock()
        with self.database.transaction() as tx:
            pulls.started(tx, row, reference, next_look_at=schedule.next_look(now, 0))
            holding.over(tx)
            self._show(tx, subject, purpose, "preparing", now)

    def step(self, now: datetime) -> bool:
        """One question, one part, or one heap of invoices. True when something was done."""
        with self.database.reading() as tx:
            running = pulls.unfinished(tx)
        # One package at a time takes up the disk; a pull goes before a rescan.
        running.sort(key=lambda one: (one.id not in self._parcels, one.purpose != "pull", one.id))
        for export in running:
            if export.state == "starting":
                self._give_up(export, "nie wiadomo, czy KSeF przyjął zlecenie", now)
                return True
            if export.next_look_at > now:
                continue
            parcel = self._parcels.get(export.id)
            if parcel is None or parcel.stale:
                self._look(export, parcel, now)
            elif parcel.opened is None:
                self._fetch(export, parcel, now)
            else:
                self._store(export, parcel, now)
            return True
        self.next_due = min((export.next_look_at for export in running), default=None)
        return False

    # Asking

    def _look(self, export: Export, parcel: _Parcel | None, now: datetime) -> None:
        assert export.reference is not None
        try:
            status = self.ksef.export(export.reference)
        except RateLimited as fault:
            self._later(export, now + holding.wait_of(fault))
            return
        except Refused as fault:
            self._give_up(export, f"KSeF nie zna tego eksportu ({fault.code or fault.http_status})", now)
            return
        except CallFault as fault:
            self._later(export, holding.hold_back(self.database, fault, now))
            return
        match export_verdict(status.code):
            case ExportVerdict.RUNNING:
                if now - export.started_at >= schedule.ABANDONED_AFTER:
                    self._give_up(export, "KSeF przygotowuje paczkę ponad godzinę; bufor zleca nową", now)
                    return
                looks = export.looks + 1
                with self.database.transaction() as tx:
                    pulls.look_again(tx, export.id, at=schedule.next_look(now, looks), looks=looks)
                    holding.over(tx)
                    self._show(tx, export.subject, export.purpose, "preparing", now)
            case ExportVerdict.READY if status.package is not None:
                self._begin(export, parcel, status.package, now)
            case ExportVerdict.NO_NEW_DATA:
                with self.database.transaction() as tx:
                    pulls.finish(tx, export.id, brought=0)
                    holding.over(tx)
                    self.claimants[export.purpose].nothing_new(tx, export, now)
                    self._show(tx, export.subject, export.purpose, "", now)
                self._drop(export)
            case _:
                self._give_up(export, f"eksport zakończył się kodem {status.code} ({status.description})", now)

    def _begin(self, export: Export, before: _Parcel | None, package: ExportPackage, now: datetime) -> None:
        assert export.secret is not None
        if before is not None:
            # Only for fresh links; what is on disk already stays, as it was verified.
            before.package, before.stale = package, False
            return
        parcel = _Parcel(package, ExportKey.restored(export.secret), self.folder / str(export.id))
        self._parcels[export.id] = parcel
        if not package.parts:
            self._finish(export, parcel, [], now)
            return
        with self.database.transaction() as tx:
            holding.over(tx)
            self._show(tx, export.subject, export.purpose, "fetching", now, 0, len(package.parts))

    # Fetching

    def _fetch(self, export: Export, parcel: _Parcel, now: datetime) -> None:
        parts = parcel.package.parts
        try:
            if len(parcel.paths) < len(parts):
                part = parts[len(parcel.paths)]
                parcel.paths.append(self.ksef.fetch_part(part, parcel.key, parcel.folder))
                parcel.tries = 0
                with self.database.transaction() as tx:
                    name, done, total = "fetching", len(parcel.paths), len(parts)
                    if done == total:
                        name, done, total = "storing", 0, parcel.package.count
                    self._show(tx, export.subject, export.purpose, name, now, done, total)
            else:
                parcel.open()
        except WrongBytes as fault:
            self._refetch(export, parcel, fault, now)
        except Refused as fault:
            # A link lives for an hour; every question for the status brings a fresh one.
            parcel.stale, parcel.links = True, parcel.links + 1
            if parcel.links > _FRESH_LINKS:
                self._give_up(export, f"odnośniki do części paczki nie działają: {fault.message}", now)
        except RateLimited as fault:
            self._later(export, now + holding.wait_of(fault))
        except CallFault as fault:
            parcel.cuts += not isinstance(fault, NotTaken)
            if parcel.cuts > _CUTS:
                self._give_up(export, f"nie udało się pobrać paczki: {fault.message}", now)
            else:
                self._later(export, holding.hold_back(self.database, fault, now))
        except OSError as fault:
            self._disk_fault(export, fault, now)

    def _refetch(self, export: Export, parcel: _Parcel, fault: WrongBytes, now: datetime) -> None:
        parcel.tries += 1
        if fault.wrong in _LASTING or parcel.tries >= _TRIES_OF_A_PART:
            self._give_up(export, fault.message, now)
            return
        log.warning("export=%s part wrong (%s), try %s", export.id, fault.wrong, parcel.tries)
        self._later(export, now + _PART_AGAIN)

    def _disk_fault(self, export: Export, fault: OSError, now: datetime) -> None:
        """A full disk is nobody's fault at KSeF: the package stays there, and is begun anew."""
        log.warning("export=%s not written: %s", export.id, fault.strerror)
        self._drop(export)
        self._later(export, now + _DISK_AGAIN, f"nie można zapisać paczki na dysku: {fault.strerror}")

    # Storing

    def _store(self, export: Export, parcel: _Parcel, now: datetime) -> None:
        try:
            chunk = parcel.chunk()
        except WrongBytes as fault:
            self._give_up(export, fault.message, now)
            return
        except OSError as fault:
            self._disk_fault(export, fault, now)
            return
        arrived = self._verified(export, parcel, chunk, now)
        if parcel.ahead is None:
            self._finish(export, parcel, arrived, now)
        else:
            done = len(parcel.seen)
            self._take(
                parcel,
                arrived,
                now,
                lambda tx: self._show(
                    tx, export.subject, export.purpose, "storing", now, done, max(parcel.package.count, done)
                ),
            )

    def _verified(
        self, export: Export, parcel: _Parcel, chunk: Sequence[tuple[str, bytes]], now: datetime
    ) -> list[Arrived]:
        """Those to be stored. What is wrong is noted; of what is stored already at most our roles grow."""
        with self.database.reading() as tx:
            known = incoming.roles_known(tx, [number for number, _ in chunk])
        role = frozenset((export.subject,))
        grown = [(number, role) for number, roles in known.items() if not role <= roles]
        if grown:
            self.stock.grow(grown, at=now, actor="ksef")
        arrived: list[Arrived] = []
        for number, content in chunk:
            parcel.seen.add(number)
            metadata = parcel.metadata.get(number)
            if metadata is not None:
                parcel.last = latest(parcel.last, metadata.permanent_at_raw)
            if number in known:
                continue
            if metadata is None:
                # They come in order (FACTS §7.2), so it was stored after the one before it.
                bounds = parcel.last or export.period_start, export.period_end or parcel.package.hwm_raw
                parcel.lacking[number] = Lacking(UNLISTED, *bounds)
            elif sha256_hex(content) != metadata.sha256_hex:
                parcel.lacking[number] = _lacking(WRONG_HASH, metadata, export)
            else:
                arrived.append(Arrived(content, metadata, role))
        return arrived

    def _take(self, parcel: _Parcel, arrived: list[Arrived], now: datetime, then: Callable[[Any], None]) -> None:
        taken = Taken(0, 0)
        if arrived:
            taken = self.stock.take(arrived, at=now, actor="ksef", then=then)
        else:
            with self.database.transaction() as tx:
                then(tx)
        parcel.stored += taken.stored

    def _finish(self, export: Export, parcel: _Parcel, arrived: list[Arrived], now: datetime) -> None:
        """The last invoices of a package, its end, and what follows from it, in one commit."""
        claimant = self.claimants[export.purpose]
        came = self._sum_up(export, parcel, len(arrived))
        with self.database.reading() as tx:
            counts = not (came.lacking or came.short) or claimant.goes_on_without(tx, export, came)
        if not counts:
            if arrived:
                self._take(parcel, arrived, now, lambda tx: None)
            self._give_up(export, _shortfall(came), now)
            return

        def end(tx: Any) -> None:
            pulls.finish(tx, export.id, brought=came.stored)
            holding.over(tx)
            claimant.came(tx, export, came, now)
            self._show(tx, export.subject, export.purpose, "", now)

        self._take(parcel, arrived, now, end)
        self._drop(export)

    def _sum_up(self, export: Export, parcel: _Parcel, arriving: int) -> Came:
        listed = parcel.metadata
        missing = [number for number in listed if number not in parcel.seen]
        with self.database.reading() as tx:
            stored = incoming.roles_known(tx, missing)
        lacking = parcel.lacking | {
            number: _lacking(NO_FILE, listed[number], export) for number in missing if number not in stored
        }
        if parcel.opened is not None and parcel.opened.strange:
            log.warning("export=%s holds %s strange entries", export.id, len(parcel.opened.strange))
        return Came(
            package=parcel.package,
            stored=parcel.stored + arriving,
            last=latest(parcel.last, *(listed[number].permanent_at_raw for number in missing)),
            metadata=listed,
            lacking=lacking,
            short=max(parcel.package.count - len(parcel.seen) - len(missing), 0),
        )

    # Ending

    def _give_up(self, export: Export, problem: str, now: datetime) -> None:
        log.warning("export=%s subject=%s given up: %s", export.id, export.subject, problem)
        with self.database.transaction() as tx:
            pulls.give_up(tx, export.id, problem)
            self.claimants[export.purpose].failed(tx, export, problem, now)
            self._show(tx, export.subject, export.purpose, "", now)
        self._drop(export)

    def _drop(self, export: Export) -> None:
        self._parcels.pop(export.id, None)
        shutil.rmtree(self.folder / str(export.id), ignore_errors=True)

    def _later(self, export: Export, at: datetime, problem: str | None = None) -> None:
        with self.database.transaction() as tx:
            pulls.look_again(tx, export.id, at=at)
            if problem is not None and export.purpose == "pull":
                pulls.hold(tx, export.subject, due_at=at, problem=problem)

    def _show(
        self, tx: Any, subject: str, purpose: str, phase: str, now: datetime, done: int = 0, total: int = 0
    ) -> None:
        if purpose != "pull":
            return
        if phase:
            self.progress.now_in(subject, phase, done, total)
        else:
            self.progress.at_rest(subject)
        self.progress.tell(tx, now)


def _lacking(reason: str, metadata: InvoiceMetadata, export: Export) -> Lacking:
    at = metadata.permanent_at_raw
    return Lacking(reason, at or export.period_start, at or export.period_end)


def _shortfall(came: Came) -> str:
    some = next(iter(came.lacking.items()), None)
    if some is None:
        return f"w paczce brakuje {came.short} z {came.package.count} zapowiedzianych faktur"
    number, lacking = some
    others = len(came.lacking) - 1 + came.short
    return f"{number}: {lacking.reason}" + (f" (i {others} innych)" if others else "")
