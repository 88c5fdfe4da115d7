"""A buffer driven through much work in one thread, on a clock that a round of all duties moves a little."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

import httpx

from ksefbuffer.ksef.limits import Limiter
from ksefbuffer.queue import deliveries
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.overview import overview
from ksefbuffer.sender.memory import RememberedLimiter
from ksefbuffer.worker import Buffer
from tests.crash.harness import World

# About what a step of each duty takes in reality: without it a clock that stands still while there is work would
# show nobody waiting for anybody.
ROUND = timedelta(milliseconds=5)


class Watched(httpx.BaseTransport):
    """Counts KSeF's answers by status, and notes each 429 with its address."""

    def __init__(self, inner: httpx.BaseTransport) -> None:
        self.inner = inner
        self.statuses: Counter[int] = Counter()
        self.limited: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self.inner.handle_request(request)
        self.statuses[response.status_code] += 1
        if response.status_code == 429:
            self.limited.append(f"{request.method} {request.url.path}")
        return response


def watched(world: World) -> Watched:
    """Stands between this world's buffer and KSeF from now on."""
    seen = Watched(world.wire._inner)
    world.wire._inner = seen
    return seen


def remembered(world: World) -> Limiter:
    """The limiter of the daemon, which writes its calls into the world's database."""
    return RememberedLimiter(Database(world.config.database.url))


def drive(
    world: World, buffer: Buffer, done: Callable[[], bool], *, rounds: int, each: Callable[[int], None] | None = None
) -> None:
    """All duties in turn until ``done()``; ``each(round)`` happens before every round. When all rest, time jumps to
    the next due moment. Raises AssertionError after so many rounds."""
    clock = world.clock
    steps: list[Callable[[], bool]] = [
        lambda: buffer.folder.take_in(clock()),
        buffer.dispatch.step,
        buffer.batches.step,
        buffer.reconcile.step,
        buffer.settle_batches.step,
        lambda: buffer.deliver.step(clock()),
    ]
    for number in range(rounds):
        if each is not None:
            each(number)
        if done():
            return
        if any([step() for step in steps]):
            clock.now += ROUND
        else:
            clock.now = max(_next_due(world, buffer), clock.now + ROUND)
    raise AssertionError(f"not done after {rounds} rounds: {counts(buffer)}")


def counts(buffer: Buffer) -> dict[str, int]:
    """Documents by state."""
    with buffer.database.reading() as tx:
        return overview(tx, buffer.clock()).counts


def _next_due(world: World, buffer: Buffer) -> datetime:
    with buffer.database.reading() as tx:
        dues = [deliveries.next_due(tx), buffer.dispatch.next_due, buffer.reconcile.next_due]
    dues += [buffer.batches.next_due, buffer.settle_batches.next_due, buffer.folder.next_scan(world.clock())]
    return min((due for due in dues if due is not None), default=world.clock.now + timedelta(seconds=1))
