"""Invoices that KSeF lists and that could not be had as they should be: kept, told, and asked for again every day.

They live in the fact "incoming_trouble": {"invoices": [Debt…], "periods": [Seek…]}, written in the same commit that
lets the cursor go beyond them, so that none is ever passed over in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from ksefbuffer.queue import facts
from ksefbuffer.receiver.instants import floor, written

FACT = "incoming_trouble"
_DAILY = timedelta(days=1)
_SOON = timedelta(minutes=5)
_HANDED_IN_BEFORE = timedelta(days=3)


@dataclass(frozen=True)
class Debt:
    """``reason`` is Polish; ``start`` and ``end``, KSeF's texts, bound when it was stored there. Times are ISO."""

    ksef_number: str
    subject: str
    reason: str
    since: str
    start: str
    end: str
    next_try: str
    tries: int = 0

    @property
    def due_at(self) -> datetime:
        return datetime.fromisoformat(self.next_try)


@dataclass(frozen=True)
class Seek:
    """A period to be gone through once more, since a pull could not be sure to have had all of it."""

    subject: str
    date_type: str
    start: str
    end: str
    reason: str
    since: str


@dataclass(frozen=True)
class Trouble:
    invoices: tuple[Debt, ...] = ()
    periods: tuple[Seek, ...] = ()


def seek_instant(subject: str, moment: str, now: datetime) -> Seek:
    """More than a package holds were stored in one ``moment``; by the date of their handing in they come apart."""
    start, end = floor(moment) - _HANDED_IN_BEFORE, min(floor(moment), now)
    reason = f"KSeF zapisał w jednej chwili ({moment}) więcej faktur, niż mieści paczka"
    return Seek(subject, "Invoicing", written(start), written(end), reason, now.isoformat())


def read(tx: Any) -> Trouble:
    told = facts.get(tx, FACT)
    if told is None:
        return Trouble()
    return Trouble(tuple(Debt(**one) for one in told[0]["invoices"]), tuple(Seek(**one) for one in told[0]["periods"]))


def change(tx: Any, how: Callable[[Trouble], Trouble], *, at: datetime) -> None:
    """Rewrites the fact; without anything to tell it goes."""
    before = read(tx)
    after = how(before)
    if after == before:
        return
    if not after.invoices and not after.periods:
        facts.forget(tx, FACT)
        return
    value = {"invoices": list(map(asdict, after.invoices)), "periods": list(map(asdict, after.periods))}
    facts.put(tx, FACT, value, at=at)


def owe(tx: Any, debts: Iterable[Debt], seeks: Iterable[Seek], *, at: datetime) -> None:
    """New ones; an invoice that is owed already stays as it is."""

    def added(trouble: Trouble) -> Trouble:
        owed = {debt.ksef_number: debt for debt in (*debts, *trouble.invoices)}
        return Trouble(tuple(owed.values()), tuple(dict.fromkeys((*trouble.periods, *seeks))))

    change(tx, added, at=at)


def paid(tx: Any, ksef_number: str, *, at: datetime) -> None:
    def without(trouble: Trouble) -> Trouble:
        return replace(trouble, invoices=tuple(d for d in trouble.invoices if d.ksef_number != ksef_number))

    change(tx, without, at=at)


def sought(tx: Any, seek: Seek, *, at: datetime) -> None:
    def without(trouble: Trouble) -> Trouble:
        return replace(trouble, periods=tuple(one for one in trouble.periods if one != seek))

    change(tx, without, at=at)


def put_off(tx: Any, debt: Debt, *, at: datetime, again: datetime, reason: str | None = None) -> None:
    """``reason``: why this try failed; without one it was no try."""

    def later(trouble: Trouble) -> Trouble:
        tried = replace(debt, next_try=again.isoformat())
        if reason is not None:
            tried = replace(tried, reason=reason, tries=debt.tries + 1)
        return replace(
            trouble, invoices=tuple(tried if d.ksef_number == debt.ksef_number else d for d in trouble.invoices)
        )

    change(tx, later, at=at)


def next_try(now: datetime, *, soon: bool, tries: int) -> datetime:
    """``soon``: KSeF said that it will have it in minutes (21165)."""
    return now + (min(_SOON * 2 ** min(tries, 10), _DAILY) if soon else _DAILY)
