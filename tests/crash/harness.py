"""A whole buffer in one thread, whose every commit, HTTP call and file effect is a numbered place to die.

A *scenario* is one or more lives of the buffer over the same folders, database and KSeF. In each life one boundary may
kill it; HTTP calls may also lose their answer, never arrive, or arrive late. After the last life, which nothing
disturbs, the books are compared: our database, the folders, and what KSeF says it has.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from lxml import etree

from ksefbuffer import config as configuration
from ksefbuffer.erp import files
from ksefbuffer.invoice.identifiers import sha256_hex
from ksefbuffer.ksef.auth import CertificateLogin
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.latarnia import Latarnia
from ksefbuffer.ksef.limits import LIMITS, NO_LIMIT, Limit, Limiter
from ksefbuffer.queue import deliveries, documents, pauses, schema, sessions
from ksefbuffer.queue.backup import RESTORED
from ksefbuffer.queue.db import Database, inside_transaction
from ksefbuffer.queue.states import State
from ksefbuffer.sandbox import Sandbox
from ksefbuffer.worker import Buffer, assemble, prepare
from tests.samples import NIP, invoice

START = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
ROUNDS = 600
AWAY_S = 12.0


def no_limits() -> Limiter:
    return Limiter(dict.fromkeys(LIMITS, Limit(NO_LIMIT, NO_LIMIT, NO_LIMIT)))


class Killed(BaseException):
    """The process died here."""


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += timedelta(microseconds=50)
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class Fate:
    """What happens at which boundary of one life. ``at`` counts from 1; ``how``: "kill"; at HTTP calls also "lost"
    (done, but the answer is lost), "never" (the request never arrives), "late:N" (it arrives N calls later, or between
    two lives), "503" (done, but answered by a gateway's page)."""

    at: int = 0
    how: str = "kill"
    count: int = 0
    seen: list[str] = field(default_factory=list)

    def meet(self, what: str) -> str | None:
        self.count += 1
        self.seen.append(what)
        if self.count != self.at:
            return None
        if self.how == "kill":
            raise Killed(what)
        return self.how


class Wire(httpx.BaseTransport):
    """Between the client and the sandbox: the place where answers get lost and requests get stuck."""

    def __init__(self, sandbox: Sandbox, stuck: list[list[Any]]) -> None:
        self.sandbox = sandbox
        self.fate = Fate()
        self.stuck = stuck
        self._inner = sandbox.transport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        assert not inside_transaction(), "HTTP inside a transaction"
        for waiting in self.stuck:
            waiting[0] -= 1
        self.deliver_stuck(only_due=True)
        name = f"{request.method} {request.url.path}"
        request.read()
        how = self.fate.meet(f"before {name}")
        if how == "never":
            raise httpx.ReadTimeout("never arrived", request=request)
        if how is not None and how.startswith("late:"):
            self.stuck.append([int(how[5:]), request])
            raise httpx.ReadTimeout("stuck on its way", request=request)
        response = self._inner.handle_request(request)
        how = how or self.fate.meet(f"after {name}")
        if how == "lost":
            raise httpx.ReadError("the answer was lost", request=request)
        if how == "503":
            return httpx.Response(503, headers={"Content-Type": "text/html"}, content=b"<html>Bad gateway</html>")
        return response

    def deliver_stuck(self, *, only_due: bool) -> None:
        for waiting in [w for w in self.stuck if w[0] <= 0 or not only_due]:
            self.stuck.remove(waiting)
            self._inner.handle_request(waiting[1])


class CountedDatabase(Database):
    def __init__(self, url: str, fate: Fate) -> None:
        super().__init__(url)
        self._fate = fate

    def _commit(self, unit: Any) -> None:
        self._fate.meet("before commit")
        super()._commit(unit)
        self._fate.meet("after commit")


class World:
    """Folders, database and KSeF that outlive the buffer's lives. ``good`` invoices lie in the inbox, and with them a
    bad one and a sidecar; with 0 it is empty. With ``batch`` what is not urgent goes in batches; with ``offline`` KSeF
    is away at first, and everything is issued offline."""

    def __init__(
        self,
        folder: Path,
        template: Path,
        *,
        good: int = 3,
        limits: str = "none",
        batch: bool = False,
        offline: bool = False,
    ) -> None:
        self.folder = folder
        self.clock = Clock()
        self.sandbox = Sandbox(clock=self.clock, latency_s=0.2, limits=limits, seed=7)
        self.stuck: list[list[Any]] = []
        self.wire = Wire(self.sandbox, self.stuck)
        (folder / "data").mkdir(parents=True)
        shutil.copy(template, folder / "data" / "ksefbuffer.db")
        (folder / "config.toml").write_text(
            f'nip = "{NIP}"\nenvironment = "sandbox"\n[sending]\nbatch_from = {2 if batch else 0}\n'
        )
        self.batch = batch
        self.offline = offline
        if offline:
            issued = self.sandbox.issue_certificate("Offline", NIP)
            (folder / "offline.crt").write_bytes(issued.certificate)
            (folder / "offline.key").write_bytes(issued.private_key)
            with (folder / "config.toml").open("a") as file:
                file.write('[ksef]\nqr_url = "http://ksef.sandbox/qr"\n[offline]\n')
                file.write('certificate = "offline.crt"\nprivate_key = "offline.key"\n')
            self.sandbox.outage(AWAY_S)
        self.config = configuration.load(folder / "config.toml", {})
        self.good: dict[str, bytes] = {}
        self.bad: dict[str, bytes] = {}
        (folder / "inbox").mkdir()
        for number in range(1, good + 1):
            self.drop(f"dobra{number}.xml", invoice(number=f"FV/{number}/2026", seed=number))
        if not good:
            return
        self.drop("zła.xml", b"<Faktura>to nie jest faktura</Faktura>", good=False)
        (folder / "inbox" / "dobra2.json").write_text('{"priority": "urgent", "reference": "kasa 2"}')

    def drop(self, name: str, content: bytes, *, good: bool = True) -> None:
        (self.good if good else self.bad)[name] = content
        (self.folder / "inbox" / name).write_bytes(content)

    def live(self, fate: Fate, login: CertificateLogin) -> bool:
        """One life; True when it came to rest by itself, False when it was killed."""
        buffer = self.buffer(login, fate)
        try:
            with _file_boundaries(fate):
                prepare(buffer)
                self.work(buffer)
        except Killed:
            return False
        finally:
            buffer.close()
        return True

    def buffer(self, login: CertificateLogin, fate: Fate | None = None, limiter: Limiter | None = None) -> Buffer:
        """A buffer ready to be prepared; ``fate`` says where it dies."""
        fate = fate or Fate()
        limiter = limiter or no_limits()
        self.wire.fate = fate
        database = CountedDatabase(self.config.database.url, fate)
        ksef = Ksef(
            base_url=self.sandbox.base_url,
            context_nip=NIP,
            login=login,
            limiter=limiter,
            clock=self.clock,
            sleep=self.clock.sleep,
            transport=self.wire,
        )
        buffer = assemble(
            self.config,
            clock=self.clock,
            sleep=self.clock.sleep,
            database=database,
            ksef=ksef,
            limiter=limiter,
            latarnia=Latarnia("", self.clock, self.clock.sleep),
        )
        if self.batch:
            # A few invoices are worth a batch here, so that a scenario stays short.
            buffer.batches.pace.batch_s = 0.0
        return buffer

    def work(self, buffer: Buffer, until: Callable[[], bool] | None = None) -> None:
        """Steps in turn until everything rests, or until ``until()``; time jumps to the next due moment."""
        steps: list[Callable[[], bool]] = [
            lambda: buffer.folder.take_in(self.clock()),
            buffer.issuing.step if self.offline else lambda: False,
            buffer.dispatch.step,
            buffer.batches.step,
            buffer.reconcile.step,
            buffer.settle_batches.step,
            buffer.restored.step,
            lambda: buffer.deliver.step(self.clock()),
        ]
        for _ in range(ROUNDS):
            if until is not None and until():
                return
            progress = [step() for step in steps]
            if any(progress):
                continue
            if until is None and self._at_rest(buffer):
                return
            self._sleep_until_due(buffer)
        raise AssertionError(f"never comes to rest: {self.states()}")

    def _sleep_until_due(self, buffer: Buffer) -> None:
        with buffer.database.reading() as tx:
            dues = [deliveries.next_due(tx), buffer.dispatch.next_due, buffer.reconcile.next_due]
            dues += [buffer.batches.next_due, buffer.settle_batches.next_due, buffer.restored.next_due]
        dues.append(buffer.folder.next_scan(self.clock()))
        due = min((due for due in dues if due is not None), default=self.clock() + timedelta(minutes=1))
        self.clock.now = max(due, self.clock.now + timedelta(milliseconds=50))

    def _at_rest(self, buffer: Buffer) -> bool:
        if any((self.folder / "inbox").glob("*.xml")):
            return False
        with buffer.database.reading() as tx:
            unfinished = documents.listing(tx, states=[State.QUEUED, State.PROCESSING, State.FAILED])
            return (
                not unfinished
                and pauses.known(tx, RESTORED) is None
                and documents.next_poll(tx) is None
                and deliveries.next_due(tx) is None
                and not sessions.unfinished(tx, "opening", "open", "closing")
            )

    def states(self) -> list[str]:
        database = Database(self.config.database.url)
        try:
            with database.reading() as tx:
                return [f"{d.invoice_number}: {d.state} {d.errors}" for d in documents.listing(tx)]
        finally:
            database.close()

    def books(self) -> None:
        """None lost, none twice, every answer delivered."""
        database = Database(self.config.database.url)
        try:
            with database.reading() as tx:
                known = {d.sha256: d for d in documents.listing(tx)}
                assert set(known) == {sha256_hex(content) for content in (*self.good.values(), *self.bad.values())}
                held = Counter(i.sha256 for i in self.sandbox.invoices() if i.ksef_number)
                repeated = [i for i in self.sandbox.invoices() if i.status == 440]
                assert not repeated, "an invoice that KSeF had was sent again"
                for name, content in self.good.items():
                    document = known[sha256_hex(content)]
                    assert document.state is State.SENT, self.states()
                    assert held[document.sha256] == 1
                    (mine,) = [i for i in self.sandbox.accepted() if i.sha256 == document.sha256]
                    assert mine.ksef_number == document.ksef_number
                    self._answered(name, document.ksef_number, documents.upo(tx, document.id))
                    if self.offline:
                        self._issued_offline(name, document)
                    moves = documents.history(tx, document.id)
                    assert [m["to_state"] for m in moves].count("sent") == 1
                    assert all(a["to_state"] == b["from_state"] for a, b in pairwise(moves))
                for name, content in self.bad.items():
                    assert known[sha256_hex(content)].state is State.ERROR
                    assert '"status": "error"' in self._outbox(name, ".ksef.json").read_text()
                assert sum(held.values()) == len(self.good)
        finally:
            database.close()
        moved = sorted(path.name for kind in ("processed", "rejected") for path in (self.folder / kind).rglob("*.xml"))
        assert moved == sorted([*self.good, *self.bad])
        assert list(self.folder.rglob(".ksefbuffer-*")) == []

    def _issued_offline(self, name: str, document: documents.Document) -> None:
        assert (document.offline_mode, document.offline) == ("offline24", True)
        assert document.offline_deadline is not None
        assert document.accepted_at is not None
        assert document.accepted_at < document.offline_deadline
        told = json.loads(self._outbox(name, ".ksef.json").read_bytes())
        assert told["certificate_url"] == document.certificate_url
        assert self._outbox(name, ".qr2.png").read_bytes().startswith(b"\x89PNG")
        assert document.certificate_url is not None
        assert self.sandbox.follow_link(document.certificate_url)["valid"] is True
        assert self.sandbox.follow_link(told["verification_url"])["invoicingMode"] == "Offline"

    def _outbox(self, name: str, ending: str) -> Path:
        path = self.folder / "outbox" / f"{name.removesuffix('.xml')}{ending}"
        assert path.exists(), f"{path.name} was never delivered"
        return path

    def _answered(self, name: str, number: str | None, upo: bytes | None) -> None:
        assert number is not None
        assert f'"ksef_number": "{number}"' in self._outbox(name, ".ksef.json").read_text()
        assert self._outbox(name, ".upo.xml").read_bytes() == upo
        assert upo is not None
        assert number in etree.fromstring(upo).itertext()
        assert self._outbox(name, ".qr1.png").read_bytes().startswith(b"\x89PNG")


@contextmanager
def _file_boundaries(fate: Fate) -> Iterator[None]:
    """Every write and move of a file is a boundary, and so is the moment between a temporary file and its rename."""
    patch = pytest.MonkeyPatch()
    for name in ("write_whole", "_rename_new", "sync_folder"):
        patch.setattr(files, name, _counted(fate, name, getattr(files, name)))
    try:
        yield
    finally:
        patch.undo()


def _counted(fate: Fate, name: str, effect: Callable[..., Any]) -> Callable[..., Any]:
    def act(*arguments: Any, **options: Any) -> Any:
        assert not inside_transaction(), "a file effect inside a transaction"
        fate.meet(f"before {name}")
        result = effect(*arguments, **options)
        fate.meet(f"after {name}")
        return result

    return act


def template_database(folder: Path) -> Path:
    """A migrated, empty database to copy: migrating anew in every scenario would be most of the work."""
    path = folder / "template.db"
    database = Database(f"sqlite:///{path}")
    schema.upgrade(database)
    database.close()
    return path
