"""What a rescan found: KSeF's list of a role's invoices in a period against ours, both ways. Pure.

Told in the fact "recount", by role: {at, period: [start, end], at_ksef, here, healed, missing_at_ksef, foreign_sales,
foreign_count}; the lists name 50 at most.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from ksefbuffer.receiver.instants import is_moment, order

FACT = "recount"
NAMED = 50


@dataclass(frozen=True)
class ForeignSale:
    """An invoice in KSeF under our NIP as the seller that did not go through this buffer."""

    ksef_number: str
    invoice_number: str
    issue_date: str


@dataclass(frozen=True)
class Recount:
    """``here``: how many of those at KSeF are stored; ``healed``: how many of them were missing until this rescan."""

    start: str
    end: str
    at_ksef: int
    here: int
    healed: int
    missing_at_ksef: tuple[str, ...]
    missing_count: int
    foreign_sales: tuple[ForeignSale, ...]
    foreign_count: int

    @property
    def differs(self) -> bool:
        return bool(self.healed or self.missing_count or self.foreign_count or self.here != self.at_ksef)

    def as_json(self, at: datetime) -> dict[str, Any]:
        return {
            "at": at.isoformat(),
            "period": [self.start, self.end],
            "at_ksef": self.at_ksef,
            "here": self.here,
            "healed": self.healed,
            "missing_at_ksef": list(self.missing_at_ksef),
            "missing_count": self.missing_count,
            "foreign_sales": list(map(asdict, self.foreign_sales)),
            "foreign_count": self.foreign_count,
        }


def missing_at_ksef(
    listed: Iterable[str], stored: Iterable[tuple[str, str]], sent: Iterable[str], *, start: str, end: str
) -> list[str]:
    """Numbers that we have and KSeF does not list. ``stored``: number and KSeF's own text of when it stored it;
    ``sent``: numbers of ours that KSeF surely stored in the period."""
    there = set(listed)
    first, last = order(start), order(end)
    missing = {number for number, at in stored if number not in there and is_moment(at) and first <= order(at) <= last}
    missing.update(number for number in sent if number not in there)
    return sorted(missing)
