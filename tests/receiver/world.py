"""A buffer that only pulls, beside its KSeF, in one thread and by a clock that passes only when somebody sleeps.

Every commit, HTTP call and file effect is a numbered place to die (``Fate`` of the crash harness). ``books`` compares
what is stored with what KSeF was given.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ksefbuffer.invoice.identifiers import sha256_hex
from ksefbuffer.ksef.auth import TokenLogin
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.limits import Limiter
from ksefbuffer.queue import facts, incoming, pulls
from ksefbuffer.queue.db import Database, inside_transaction
from ksefbuffer.queue.incoming import Incoming
from ksefbuffer.receiver import exporting
from ksefbuffer.receiver.exporting import Exports
from ksefbuffer.receiver.progress import Progress
from ksefbuffer.receiver.pull import Pull
from ksefbuffer.receiver.rescan import Rescan
from ksefbuffer.receiver.stock import Rules, Stock
from ksefbuffer.sandbox import Sandbox, SeededInvoice
from tests.crash.harness import Clock, CountedDatabase, Fate, Killed, Wire, no_limits
from tests.samples import NIP, a_nip, invoice

SUBJECTS = ("buyer", "third", "authorized", "seller")
ROUNDS = 20_000


@dataclass
class Receiver:
    """The working parts of one life."""

    database: Database
    ksef: Ksef
    pull: Pull
    rescan: Rescan
    exports: Exports

    def close(self) -> None:
        self.ksef.close()
        self.database.close()


@dataclass(frozen=True)
class Given:
    """What KSeF was given: the truth."""

    content: bytes = field(repr=False)
    roles: frozenset[str]


class World:
    """Database, folder and KSeF that outlive the lives of their buffer."""

    def __init__(
        self,
        folder: Path,
        template: Path,
        *,
        limits: str = "none",
        subjects: Sequence[str] = SUBJECTS,
        since: date = date(2026, 11, 1),
        interval: timedelta = timedelta(minutes=15),
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        shutil.copy(template, folder / "ksefbuffer.db")
        self.clock = Clock()
        self.sandbox = Sandbox(clock=self.clock, latency_s=0.2, limits=limits, seed=7)
        self.login = TokenLogin(self.sandbox.issue_token(NIP))
        self.stuck: list[list[Any]] = []
        self.wire = Wire(self.sandbox, self.stuck)
        self.limiter: Callable[[], Limiter] = Limiter if limits == "production" else no_limits
        self.subjects, self.since, self.interval = subjects, since, interval
        self.given: dict[str, Given] = {}
        self.seeded_at = self.clock.now

    # What KSeF is given

    def seed(
        self,
        contents: Iterable[bytes | SeededInvoice],
        roles: Iterable[str] = ("buyer",),
        *,
        at: datetime | None = None,
    ) -> list[str]:
        contents = list(contents)
        numbers = self.sandbox.seed(contents, at=at)
        self.seeded_at = self.clock.now
        for number, content in zip(numbers, contents, strict=True):
            whole = content.content if isinstance(content, SeededInvoice) else content
            self.given[number] = Given(whole, frozenset(roles))
        return numbers

    def bought(self, count: int, *, first: int = 0, at: datetime | None = None) -> list[str]:
        return self.seed(bought(count, first=first), at=at)

    # Lives

    def receiver(self, fate: Fate | None = None) -> Receiver:
        fate = fate or Fate()
        self.wire.fate = fate
        database = CountedDatabase(f"sqlite:///{self.folder / 'ksefbuffer.db'}", fate)
        limiter = self.limiter()
        ksef = Ksef(
            base_url=self.sandbox.base_url,
            context_nip=NIP,
            login=self.login,
            limiter=limiter,
            clock=self.clock,
            sleep=self.clock.sleep,
            transport=self.wire,
        )
        stock = Stock(database, Rules(NIP, "sandbox"), self.since)
        progress = Progress(self.subjects)
        exports = Exports(database, ksef, self.clock, stock, self.folder / "exports", progress)
        pull = Pull(
            database, ksef, limiter, self.clock, stock, exports, progress, self.subjects, self.since, self.interval
        )
        rescan = Rescan(database, ksef, limiter, self.clock, stock, exports, self.subjects)
        return Receiver(database, ksef, pull, rescan, exports)

    def live(self, fate: Fate, *, until: Callable[[Receiver], bool] | None = None, rescans: bool = False) -> bool:
        """One life, until all roles are up to date or ``until`` says so; False when it was killed."""
        receiver = self.receiver(fate)
        done = until or (lambda receiver: caught_up(receiver, self.seeded_at))
        try:
            with file_boundaries(fate):
                receiver.pull.recover()
                self.work(receiver, lambda: done(receiver), rescans=rescans)
        except Killed:
            return False
        finally:
            receiver.close()
        return True

    def work(
        self, receiver: Receiver, until: Callable[[], bool], *, rescans: bool = False, end: datetime | None = None
    ) -> None:
        """Steps until ``until()``; time jumps to the next due moment, not beyond ``end``."""
        for _ in range(ROUNDS):
            if until():
                return
            if receiver.pull.step() or (rescans and receiver.rescan.step()):
                continue
            dues = [receiver.pull.next_due, receiver.rescan.next_due if rescans else None]
            due = min((due for due in dues if due is not None), default=self.clock() + timedelta(minutes=1))
            if end is not None:
                due = min(due, end)
            self.clock.now = max(due, self.clock.now + timedelta(milliseconds=50))
        raise AssertionError(f"never done: {self.told()}")

    def work_for(self, receiver: Receiver, *, rescans: bool = True, **duration: float) -> None:
        end = self.clock.now + timedelta(**duration)
        self.work(receiver, lambda: self.clock.now >= end, rescans=rescans, end=end)

    # Looking

    def fact(self, name: str) -> Any:
        with self._reading() as tx:
            told = facts.get(tx, name)
        return told[0] if told else None

    def told(self) -> Any:
        return self.fact("pull")

    def cursor(self, subject: str) -> pulls.Cursor:
        with self._reading() as tx:
            found = pulls.cursor(tx, subject)
        assert found is not None
        return found

    def stored(self) -> dict[str, Incoming]:
        with self._reading() as tx:
            rows = incoming.listing(tx, limit=1_000_000)
        assert len({row.ksef_number for row in rows}) == len(rows)
        return {row.ksef_number: row for row in rows}

    def contents(self) -> dict[str, bytes]:
        with self._reading() as tx:
            rows = incoming.listing(tx, limit=1_000_000)
            return {row.ksef_number: incoming.content(tx, row.id) for row in rows}

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        database = Database(f"sqlite:///{self.folder / 'ksefbuffer.db'}")
        try:
            with database.reading() as tx:
                yield tx
        finally:
            database.close()

    def books(self, *, deviations: Iterable[str] = ()) -> None:
        """Each once, whole, with all of its roles, and nothing left behind."""
        stored, contents = self.stored(), self.contents()
        missing = sorted(set(self.given) - set(stored))
        assert not missing, f"{len(missing)} missing, such as {missing[0]}; {self.told()}"
        assert set(stored) == set(self.given)
        for number, given in self.given.items():
            assert contents[number] == given.content, f"{number} is not what KSeF has"
            assert stored[number].sha256 == sha256_hex(given.content)
            assert stored[number].roles == given.roles, f"{number} has roles {stored[number].roles}"
        assert {deviation.name for deviation in self.sandbox.deviations} <= set(deviations)
        with self._reading() as tx:
            for row in stored.values():
                events = [event["event"] for event in incoming.history(tx, row.id)]
                assert events.count("stored") == 1
            secrets = [export.id for export in pulls.unfinished(tx)]
        left = [path for path in (self.folder / "exports").rglob("*") if path.is_file()]
        assert bool(left) <= bool(secrets), f"left on disk: {left}"


def caught_up(receiver: Receiver, since: datetime) -> bool:
    with receiver.database.reading() as tx:
        cursors = [cursor for cursor in pulls.all_cursors(tx) if cursor.subject in receiver.pull.subjects]
        running = pulls.unfinished(tx)
    return (
        not running
        and len(cursors) == len(receiver.pull.subjects)
        and all(
            cursor.caught_up_at is not None and cursor.caught_up_at >= since and not cursor.problem
            for cursor in cursors
        )
    )


def bought(count: int, *, first: int = 0) -> list[bytes]:
    return [
        invoice(f"Z/{number}", a_nip(number % 7), buyer_nip=NIP, seed=number, lines=1)
        for number in range(first, first + count)
    ]


def with_roles(content: bytes, roles: Iterable[str]) -> SeededInvoice:
    """The invoice as one in which we stand in these roles, and in no other."""
    roles = frozenset(roles)
    other = a_nip(990)

    def nip(role: str) -> str:
        return NIP if role in roles else other

    metadata: dict[str, Any] = {
        "seller": {"nip": nip("seller"), "name": "Sprzedawca"},
        "buyer": {"identifier": {"type": "Nip", "value": nip("buyer")}, "name": "Nabywca"},
        "thirdSubjects": [{"identifier": {"type": "Nip", "value": nip("third")}, "name": "Trzeci", "role": 2}],
        "authorizedSubject": {"nip": nip("authorized"), "name": "Upoważniony", "role": 1},
    }
    return SeededInvoice(content, metadata)


@contextmanager
def file_boundaries(fate: Fate) -> Iterator[None]:
    """Every part written and every folder removed is a boundary."""
    patch = pytest.MonkeyPatch()
    fetch, remove = Ksef.fetch_part, shutil.rmtree

    def fetch_part(self: Ksef, *arguments: Any) -> Path:
        assert not inside_transaction(), "a file effect inside a transaction"
        fate.meet("before fetch_part")
        path = fetch(self, *arguments)
        fate.meet("after fetch_part")
        return path

    class Counted:
        @staticmethod
        def rmtree(path: Path, *, ignore_errors: bool) -> None:
            assert not inside_transaction(), "a file effect inside a transaction"
            fate.meet("before rmtree")
            remove(path, ignore_errors=ignore_errors)
            fate.meet("after rmtree")

    patch.setattr(Ksef, "fetch_part", fetch_part)
    patch.setattr(exporting, "shutil", Counted)
    try:
        yield
    finally:
        patch.undo()
