"""What is told of pulling while it goes on: the fact "pull", for ``status`` and for who watches a pull.

``{"subjects": [{subject, position, caught_up_at, brought, problem, next_at, phase, done, total, estimate}]}``; times
are ISO. ``phase``: waiting, listing, downloading, preparing (KSeF makes a package), fetching (its parts), storing;
``done`` of ``total`` are downloads, parts or invoices; ``estimate`` is when a backfill will have caught up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ksefbuffer.queue import facts, pulls
from ksefbuffer.receiver import schedule

FACT = "pull"


@dataclass(frozen=True)
class Phase:
    name: str = "waiting"
    done: int = 0
    total: int = 0


@dataclass
class Progress:
    """Lives as long as the process: the pace of a backfill is that of this run."""

    subjects: Sequence[str]
    _phases: dict[str, Phase] = field(default_factory=dict)
    _began: dict[str, tuple[str, datetime]] = field(default_factory=dict)

    def now_in(self, subject: str, name: str, done: int = 0, total: int = 0) -> None:
        self._phases[subject] = Phase(name, done, total)

    def at_rest(self, subject: str) -> None:
        self._phases.pop(subject, None)

    def tell(self, tx: Any, now: datetime) -> None:
        known = {cursor.subject: cursor for cursor in pulls.all_cursors(tx)}
        told = [self._of(known[subject], now) for subject in self.subjects if subject in known]
        facts.put(tx, FACT, {"subjects": told}, at=now)

    def _of(self, cursor: pulls.Cursor, now: datetime) -> dict[str, Any]:
        phase = self._phases.get(cursor.subject, Phase())
        estimate = None
        if schedule.is_behind(cursor.position, now):
            position, at = self._began.setdefault(cursor.subject, (cursor.position, now))
            estimate = schedule.estimate(cursor.position, now, began_position=position, began_at=at)
        else:
            self._began.pop(cursor.subject, None)
        return {
            "subject": cursor.subject,
            "position": cursor.position,
            "caught_up_at": _iso(cursor.caught_up_at),
            "brought": cursor.brought,
            "problem": cursor.problem,
            "next_at": cursor.due_at.isoformat(),
            "phase": phase.name,
            "done": phase.done,
            "total": phase.total,
            "estimate": _iso(estimate),
        }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment is not None else None
