"""A buffer driven through much work in one thread, on a clock that a round of all duties moves a little."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import httpx

from ksefbuffer import config as configuration
from ksefbuffer.ksef.limits import Limiter
from ksefbuffer.queue import deliveries
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.overview import overview
from ksefbuffer.sender.memory import RememberedLimiter
from ksefbuffer.worker import SAFETY_WAKE, Buffer
from tests.crash.harness import World
from tests.samples import NIP

# About what a step of each duty takes in reality: without it a clock that stands still while there is work would
# show nobody waiting for anybody.
ROUND = timedelta(milliseconds=5)


class Watched(httpx.BaseTransport):
    """Notes KSeF's 429s, and each call made before the time that a 429 for the same operation gave was over."""

    def __init__(self, inner: httpx.BaseTransport, clock: Callable[[], datetime]) -> None:
        self.inner = inner
        self.clock = clock
        self.limited: list[str] = []
        self.impatient: list[str] = []
        self._shut: dict[str, datetime] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        operation = _operation(request)
        before = self.clock()
        if before < self._shut.get(operation, before):
            self.impatient.append(f"{operation} at {before}, shut until {self._shut[operation]}")
        response = self.inner.handle_request(request)
        if response.status_code == 429:
            self.limited.append(operation)
            self._shut[operation] = before + timedelta(seconds=int(response.headers["Retry-After"]))
        return response

    def forget(self) -> None:
        """The clock was moved: times given before it mean nothing now."""
        self._shut.clear()


def _operation(request: httpx.Request) -> str:
    """The address without its references."""
    steps = [step if step.islower() and len(step) < 30 else "…" for step in request.url.path.split("/")[1:]]
    return f"{request.method} {'/'.join(steps)}"


def shop(folder: Path, template: Path) -> World:
    """A world under the production limits and, unlike the crash tests', with the default settings."""
    world = World(folder, template, good=0, limits="production")
    (folder / "config.toml").write_text(f'nip = "{NIP}"\nenvironment = "sandbox"\n')
    world.config = configuration.load(folder / "config.toml", {})
    return world


def watched(world: World) -> Watched:
    """Stands between this world's buffer and KSeF from now on."""
    seen = Watched(world.wire._inner, world.clock)
    world.wire._inner = seen
    return seen


def remembered(world: World) -> Limiter:
    """The limiter of the daemon, which writes its calls into the world's database."""
    return RememberedLimiter(Database(world.config.database.url))


@dataclass
class Duty:
    """A step that is taken while there is more, then when due or woken, as the daemon's threads do."""

    step: Callable[[], bool]
    next_due: Callable[[], datetime | None]
    wakes: list[Duty] = field(default_factory=list)
    awake: bool = True

    def turn(self, now: datetime) -> bool:
        due = self.next_due()
        if not self.awake and (due is None or due > now):
            return False
        self.awake = self.step()
        if self.awake:
            for other in self.wakes:
                other.awake = True
        return self.awake


def duties(world: World, buffer: Buffer) -> list[Duty]:
    """Those of the daemon that send, with the same wakes."""

    def due_delivery() -> datetime | None:
        with buffer.database.reading() as tx:
            return deliveries.next_due(tx)

    clock = world.clock
    # A scan for new files comes without a hint, every round.
    intake = Duty(lambda: buffer.folder.take_in(clock()), lambda: clock.now)
    dispatch = Duty(buffer.dispatch.step, lambda: buffer.dispatch.next_due)
    batch = Duty(buffer.batches.step, lambda: buffer.batches.next_due)
    reconcile = Duty(buffer.reconcile.step, lambda: buffer.reconcile.next_due)
    settle = Duty(buffer.settle_batches.step, lambda: buffer.settle_batches.next_due)
    answers = Duty(lambda: buffer.deliver.step(clock()), due_delivery)
    intake.wakes = [dispatch, batch, answers]
    dispatch.wakes = [reconcile, answers]
    batch.wakes = [settle, answers]
    reconcile.wakes = [answers, dispatch]
    settle.wakes = [answers, batch, dispatch]
    return [intake, dispatch, batch, reconcile, settle, answers]


def drive(
    world: World, buffer: Buffer, done: Callable[[], bool], *, rounds: int, each: Callable[[int], None] | None = None
) -> None:
    """All duties in turn until ``done()``, asked every tenth round; ``each(round)`` happens before every round.

    Raises AssertionError after so many rounds.
    """
    in_turn = duties(world, buffer)
    for number in range(rounds):
        if each is not None:
            each(number)
        if number % 10 == 0 and done():
            return
        spin(world, buffer, in_turn, rounds=1)
    raise AssertionError(f"not done after {rounds} rounds: {counts(buffer)}")


def spin(world: World, buffer: Buffer, in_turn: list[Duty], *, rounds: int) -> None:
    """All duties in turn, so many times. When all rest, time jumps to the next due moment."""
    clock = world.clock
    for _ in range(rounds):
        turns = [duty.turn(clock.now) for duty in in_turn]
        if any(turns):
            clock.now += ROUND
            continue
        # The intake, first of them, is due always.
        dues = [due for duty in in_turn[1:] if (due := duty.next_due()) is not None]
        ripe = buffer.folder.next_scan(clock.now)
        safety = clock.now + SAFETY_WAKE
        clock.now = max(min([*dues, safety, *([ripe] if ripe else [])]), clock.now + ROUND)
        if clock.now >= safety:
            for duty in in_turn:
                duty.awake = True


def counts(buffer: Buffer) -> dict[str, int]:
    """Documents by state."""
    with buffer.database.reading() as tx:
        return overview(tx, buffer.clock()).counts
