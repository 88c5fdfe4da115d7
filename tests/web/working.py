"""The worker beside a page: its parts on the page's database, its steps called by the test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from ksefbuffer import worker
from ksefbuffer.ksef.auth import Login
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.limits import LIMITS, NO_LIMIT, Limit, Limiter
from ksefbuffer.sandbox import Sandbox
from ksefbuffer.sender.orders import Orders
from ksefbuffer.web.site import Site
from ksefbuffer.worker import Buffer, access, assemble, assembly, login_of, prepare, rounds
from tests.conftest import Clock
from tests.samples import NIP


class Beside:
    """A buffer and its sandbox. ``work`` lets every duty do what it has, until nobody has anything to do."""

    def __init__(self, site: Site, clock: Clock, patched: pytest.MonkeyPatch) -> None:
        self.site, self.clock = site, clock
        # Every KSeF that the worker makes for itself is the one here.
        for module in (access, assembly, rounds):
            patched.setattr(module, "make_ksef", lambda _config, login, *_: self.ksef(login))
        self.sandbox = Sandbox(clock=clock, latency_s=0.1, limits="none", seed=1)
        self.restarted()

    def restarted(self) -> Orders:
        """As after a start of the daemon: what is not in the database is forgotten."""
        if hasattr(self, "orders"):
            self.orders.close()
            self.buffer.ksef.close()
        site, clock = self.site, self.clock
        ksef = self.ksef(login_of(site.config, now=clock(), database=site.database, environ={}))
        self.buffer: Buffer = assemble(
            site.config, clock=clock, sleep=clock.forward, database=site.database, ksef=ksef, environ={}
        )
        prepare(self.buffer)
        self.orders = worker.orders_of(self.buffer)
        self.orders.step()
        return self.orders

    def ksef(self, login: Login) -> Ksef:
        return Ksef(
            base_url="http://ksef.sandbox/v2",
            context_nip=NIP,
            login=login,
            limiter=Limiter(dict.fromkeys(LIMITS, Limit(NO_LIMIT, NO_LIMIT, NO_LIMIT))),
            clock=self.clock,
            sleep=self.clock.forward,
            transport=self.sandbox.transport(),
        )

    def work(self, rounds: int = 60) -> None:
        idle = 0
        for _ in range(rounds):
            busy = False
            while any([self.orders.step(), *(step() for step in self._steps())]):
                busy = True
            idle = 0 if busy else idle + 1
            if idle == 6:
                return
            self.clock.forward(1.0)
        raise AssertionError("the buffer does not come to rest")

    def _steps(self) -> list[Callable[[], bool]]:
        buffer = self.buffer
        return [
            lambda: buffer.folder.take_in(self.clock()),
            buffer.dispatch.step,
            buffer.reconcile.step,
            buffer.renewals.step,
        ]

    def issued(self, kind: str) -> tuple[bytes, bytes]:
        """Certificate and key, PEM, as somebody got them from KSeF elsewhere. ``kind``: Authentication, Offline."""
        order = {"type": kind, "subjectValue": NIP}
        with httpx.Client(transport=self.sandbox.transport(), base_url="http://ksef.sandbox") as client:
            told = client.post("/sandbox/certificates", json=order).raise_for_status().json()
        return told["certificate"].encode(), told["privateKey"].encode()

    def close(self) -> None:
        self.orders.close()
        self.buffer.ksef.close()
        self.sandbox.close()


def in_files(folder: Path, **contents: bytes) -> dict[str, Path]:
    """Files for a browser to choose, by name; "_" in a name stands for the dot."""
    found = {}
    for name, content in contents.items():
        found[name] = folder / name.replace("_", ".")
        found[name].write_bytes(content)
    return found
