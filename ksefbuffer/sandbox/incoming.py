"""The part of the sandbox's face that is about incoming invoices: seeding, the high-water mark, sizes of answers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime

from . import repository, seeding
from .face import Face
from .instants import read_ticks, ticks, written
from .seeding import SeededInvoice
from .world import Measures


class Incoming(Face):
    """What ``Sandbox`` can do with invoices that others sent. May be called from any thread."""

    def seed(self, invoices: Iterable[bytes | SeededInvoice], *, at: datetime | None = None) -> list[str]:
        """Puts invoices into the repository, whoever issued them and whatever they are, and returns their KSeF numbers
        in this order. ``at``: when the first was permanently stored (the others follow 0.7 µs apart), even below a
        high-water mark that was told; by default just now, above every mark told. Raises ValueError for metadata
        that KSeF could never tell and for a KSeF number already there; what came before it stays, by the hundred."""
        return seeding.seed(self._world, invoices, at, self.clock)

    @property
    def hwm(self) -> str:
        """The high-water mark as answers would tell it now."""
        with self._locked() as world:
            return written(repository.hwm(world, self.clock()))

    def hold_hwm(self, at: datetime | str | None = None) -> None:
        """The mark goes no further than this (by default: than it stands now), until ``release_hwm``; survives a
        restart. Text may have seven fractional digits."""
        with self._locked() as world:
            mark = repository.hwm(world, self.clock()) if at is None else 0
            if at is not None:
                mark = read_ticks(at) if isinstance(at, str) else ticks(at)
            world.store.keep("hwm-held", str(mark))

    def release_hwm(self) -> None:
        with self._locked() as world:
            world.store.keep("hwm-held", "")

    @property
    def hwm_held(self) -> bool:
        with self._locked() as world:
            return bool(world.store.setting("hwm-held", ""))

    @property
    def hwm_lag_s(self) -> float:
        """How far the mark stands behind the clock, in seconds (0); survives a restart."""
        with self._locked() as world:
            return float(world.store.setting("hwm-lag", "0"))

    @hwm_lag_s.setter
    def hwm_lag_s(self, seconds: float) -> None:
        if not 0 <= seconds <= 86_400:
            raise ValueError("the lag must be 0 to 86400 seconds")
        with self._locked() as world:
            world.store.keep("hwm-lag", str(float(seconds)))

    def export_at_most(
        self, invoices: int = 10_000, *, package_bytes: int = 1_000_000_000, part_bytes: int = 50_000_000
    ) -> None:
        """What packages ordered or built from now on hold: invoices, bytes (one invoice always fits), and bytes of a
        part before encryption. Without arguments: KSeF's figures."""
        measures = self._world.measures
        if not (1 <= invoices <= 10_000 and package_bytes >= 1 and part_bytes >= 1):
            raise ValueError("at least 1 each, and at most 10000 invoices")
        measures.invoices, measures.package_bytes, measures.part_bytes = invoices, package_bytes, part_bytes

    def metadata_at_most(self, records: int = Measures.records) -> None:
        """How many records a query shows on all its pages, before it says isTruncated. Without argument: KSeF's."""
        if not 1 <= records <= Measures.records:
            raise ValueError(f"1 to {Measures.records} records")
        self._world.measures.records = records

    def measures(self) -> dict[str, float | None]:
        """What is in force: invoices, packageBytes and partBytes of an export, its seconds, records of a query."""
        now = self._world.measures
        return {
            "invoices": now.invoices,
            "packageBytes": now.package_bytes,
            "partBytes": now.part_bytes,
            "records": now.records,
            "seconds": now.export_s,
        }

    @property
    def export_s(self) -> float | None:
        """How long exports ordered from now on stay at 100, in seconds; None: as ``latency_s``."""
        return self._world.measures.export_s

    @export_s.setter
    def export_s(self, seconds: float | None) -> None:
        if seconds is not None and not (math.isfinite(seconds) and 0 <= seconds <= 86_400):
            raise ValueError("an export takes 0 to 86400 seconds")
        self._world.measures.export_s = seconds
