"""What every operation works on: the sandbox's state, and one call in progress."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from .bearer import Bearer, Tokens
from .faults import Fault
from .keys import Keys
from .limits import RateLimits
from .shelf import Shelf
from .store import Store, stored
from .wire import Request

log = logging.getLogger("ksefbuffer.sandbox")


@dataclass
class Measures:
    """How much an answer holds at most: invoices and bytes of a package, bytes of a part before encryption, records
    of a query; ``export_s`` is how long an export takes, ``enrollment_s`` the making of a certificate, None: as long
    as everything else. Source: FACTS §7.1, §7.2."""

    invoices: int = 10_000
    package_bytes: int = 1_000_000_000
    part_bytes: int = 50_000_000
    records: int = 10_000
    export_s: float | None = None
    enrollment_s: float | None = None


@dataclass
class World:
    """The state behind the operations. ``lock`` guards all of it; operations' handlers already hold it."""

    store: Store
    keys: Keys
    tokens: Tokens
    limits: RateLimits
    shelf: Shelf
    lock: threading.RLock
    latency_s: float
    time_scale: float = 1.0
    measures: Measures = field(default_factory=Measures)

    @property
    def latency(self) -> timedelta:
        """How long processing takes: the time until a login, an invoice or a closed session has its verdict."""
        return timedelta(seconds=self.latency_s)

    def record(self, at: datetime, operation: str, name: str, text: str) -> None:
        """Keeps a deviation from the protocol, in the caller's transaction."""
        log.warning("deviation %s at %s: %s", name, operation, text)
        self.store.run(
            "INSERT INTO deviations (at, operation, name, text) VALUES (?, ?, ?, ?)", stored(at), operation, name, text
        )


@dataclass
class Call:
    """One call: ``arguments`` are the pieces of the path, ``prepared`` is what was worked out before the lock."""

    request: Request
    operation: str
    now: datetime
    arguments: dict[str, str] = field(default_factory=dict)
    bearer: Bearer | None = None
    faults: list[Fault] = field(default_factory=list)
    prepared: Any = None
    noted: list[tuple[str, str]] = field(default_factory=list)

    @property
    def caller(self) -> Bearer:
        """Who calls; only operations that demand a token may ask."""
        if self.bearer is None:
            raise LookupError(f"{self.operation} has no caller")
        return self.bearer

    def note(self, name: str, text: str) -> None:
        """Notes a deviation from the protocol; it does not change the answer."""
        self.noted.append((name, text))

    def note_unknown(self, names: list[str]) -> None:
        for name in names:
            self.note("unknown-field", f"the request holds a field that KSeF does not know: {name}")

    def ordered(self, kind: str) -> Fault | None:
        """A fault of this kind that this call suffers."""
        return next((fault for fault in self.faults if fault.kind == kind), None)
