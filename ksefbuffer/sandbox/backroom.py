"""Long work that nobody waits for: closed packages examined, exports built, without holding others up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime

from .world import World

Find = Callable[[World, datetime | None], str | None]
"""The next piece of work, by its reference: only one that is due by a moment, or, for None, any."""
Work = Callable[[World, str, Callable[[], bool], Callable[[], datetime] | None], None]
"""Does a piece of work: it asks at times whether to halt, and given a clock dates nothing before it was done."""


class Backroom:
    """Sees to it that work is done: at once by a thread of its own, or, ``on_call``, by whoever calls when it is due,
    so that a test's clock decides alone. All but ``stop`` is called under the sandbox's lock."""

    def __init__(
        self, world: World, clock: Callable[[], datetime], *, name: str, find: Find, work: Work, on_call: bool
    ) -> None:
        self._world = world
        self._clock = clock
        self._name = name
        self._find = find
        self._do = work
        self._on_call = on_call
        self._halt = threading.Event()
        self._thread: threading.Thread | None = None

    def attend(self, now: datetime) -> None:
        """Before a call is served: nothing that is due may be left. Not to be called within a transaction."""
        if self._on_call:
            while reference := self._find(self._world, now):
                self._do(self._world, reference, self._halt.is_set, None)
        else:
            self.wake()

    def wake(self) -> None:
        """Lets the thread, if there is to be one, find what it has to do."""
        idle = not self._on_call and self._thread is None and not self._halt.is_set()
        if idle and self._find(self._world, None):
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            with self._world.lock:
                reference = None if self._halt.is_set() else self._find(self._world, None)
                if reference is None:
                    self._thread = None
                    return
            self._do(self._world, reference, self._halt.is_set, self._clock)

    def stop(self) -> None:
        """Returns when nothing is being done any more. Not to be called under the lock."""
        self._halt.set()
        if thread := self._thread:
            thread.join()
