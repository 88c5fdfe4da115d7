"""When to pull, what to ask for and by which way: numbers in, one decision out. Pure.

Two ways lead to new invoices: an *export* (one call of invoiceExport, 20 an hour, and a wait, for up to 10,000) or a
*listing* (one call of invoiceMetadata, 20 an hour, and a call of invoiceDownload, 64 an hour, for each new invoice).
Both budgets are shared by all roles, and with the sender, which needs metadata to judge duplicates. Source: FACTS §6,
§7.1 to §7.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta

from ksefbuffer.ksef.shapes import Period
from ksefbuffer.receiver.instants import WARSAW, after, earliest, floor, is_moment, order, written

WINDOW = timedelta(days=90)
# A window that ended so long ago is complete, and the end is surely not in KSeF's future (FACTS §15.46).
PAST_BY = timedelta(days=1)
BEHIND = timedelta(days=1)

# Of metadata and downloads the rest is for the sender, which judges duplicates by them. A share counts what everybody
# called: rescans and debts, which are rare, must find room beside pulls that never rest.
SHARE = 0.7
LISTING_SHARE = 0.55
EXPORT_SHARE = 0.9
RESCAN_EXPORT_SHARE = 0.95
BACKFILL_SHARE_BY_DAY = 0.5

FEW = 8
MOST_DOWNLOADS = 24
LARGE = 5_000  # invoices in one pull, from which on a backlog is left for the night
_EXPORT_TAKES_S = 10.0
_PATIENT_S = 60.0
# Third and authorised parties rarely get anything; a probe an hour is soon enough for a first invoice.
_QUIET = frozenset({"third", "authorized"})
QUIET_INTERVAL = timedelta(hours=1)

ABANDONED_AFTER = timedelta(minutes=60)
_FIRST_LOOK_S, _LONGEST_LOOK_S = 5.0, 60.0
_FIRST_RETRY, _LONGEST_RETRY = timedelta(seconds=30), timedelta(hours=1)
NOT_ASKED_TWICE_WITHIN = timedelta(seconds=60)

RESCANS: Mapping[str, tuple[timedelta, timedelta]] = {
    "daily": (timedelta(days=1), timedelta(days=3)),
    "weekly": (timedelta(days=7), timedelta(days=30)),
}


def window(position: str, now: datetime) -> Period:
    """What to ask for next: the live window up to now, or one of 90 days that lies wholly in the past."""
    end = floor(position) + WINDOW
    if end + PAST_BY < now:
        return Period("PermanentStorage", position, written(end))
    return Period("PermanentStorage", position, restrict_to_hwm=True)


@dataclass(frozen=True)
class Reached:
    """``position`` is the new cursor; ``complete``: nothing more is to be had now; ``stuck``: more invoices share one
    moment than a package holds, so ``position`` steps over it and the rest must be sought by another date."""

    position: str
    complete: bool
    stuck: bool = False


def reached(period: Period, *, truncated: bool, last: str, hwm: str) -> Reached:
    """How far a package or a listing that is stored whole takes us; never back, never past what is sure to be complete.

    ``last`` is the date of the last invoice of what was truncated. Raises ValueError when KSeF truncated and did not
    say where.
    """
    if truncated:
        if order(last) > order(period.start):
            return Reached(last, complete=False)
        return Reached(after(period.start), complete=False, stuck=True)
    # Both bounds are inclusive, so the same moment may be asked for again: nothing is skipped.
    position = earliest(period.end, hwm) if period.end else hwm
    if not is_moment(position) or order(position) <= order(period.start):
        return Reached(period.start, complete=True)
    return Reached(position, complete=not period.end)


def is_behind(position: str, now: datetime) -> bool:
    """Whether older invoices are still to be fetched."""
    return floor(position) < now - BEHIND


@dataclass(frozen=True)
class Waits:
    """Seconds until a call may go out, by our count of KSeF's limits."""

    metadata_s: float
    export_s: float


@dataclass(frozen=True)
class Listing:
    """Ask for the metadata, then download what is new."""


@dataclass(frozen=True)
class Export:
    """Have a package made."""


@dataclass(frozen=True)
class Wait:
    """Nothing may be asked for so many seconds."""

    seconds: float


def choose(
    *, brought: int, first: bool, behind: bool, seldom: bool, many: bool, waits: Waits
) -> Listing | Export | Wait:
    """Which way to pull one role. ``brought``: by its last pull; ``first``: it was never pulled; ``seldom``: of those
    roles that rarely get anything; ``many``: a listing has just shown more than is worth downloading."""
    few = not many and brought <= FEW and (seldom or not (first or behind))
    if few and waits.metadata_s <= 0:
        return Listing()
    if waits.export_s <= 0:
        return Export()
    return Wait(min(waits.export_s, waits.metadata_s) if few else waits.export_s)


def is_seldom(subject: str) -> bool:
    return subject in _QUIET


def worth_downloading(count: int, downloads_s: float, export_s: float) -> bool:
    """Whether so many new invoices are sooner had one by one, which takes ``downloads_s`` by the limits, than by a
    package that may be ordered in ``export_s``."""
    if count <= FEW and downloads_s <= _PATIENT_S:
        return True
    return count <= MOST_DOWNLOADS and downloads_s <= export_s + _EXPORT_TAKES_S


def export_share(brought: int, *, behind: bool, now: datetime) -> float:
    """The share of exports that a pull may use: a large backlog leaves half of them to the day's own invoices."""
    return BACKFILL_SHARE_BY_DAY if behind and brought >= LARGE and not is_night(now) else EXPORT_SHARE


def is_night(now: datetime) -> bool:
    """20:00 to 06:00 in Warsaw, when KSeF promises more (FACTS §6)."""
    local = now.astimezone(WARSAW).time()
    return local >= time(20) or local < time(6)


def next_pull(subject: str, now: datetime, interval: timedelta, brought: int) -> datetime:
    """When a role that is up to date is pulled again."""
    if subject in _QUIET and brought == 0:
        return now + max(interval, QUIET_INTERVAL)
    return now + interval


def next_look(now: datetime, looks: int) -> datetime:
    """When to ask for a running export again, after ``looks`` questions in vain."""
    return now + timedelta(seconds=min(_FIRST_LOOK_S * 1.5 ** min(looks, 20), _LONGEST_LOOK_S))


def retry(now: datetime, failures: int) -> datetime:
    """When to pull again after so many failures in a row (from 1)."""
    pause: timedelta = min(_FIRST_RETRY * 2 ** min(failures - 1, 20), _LONGEST_RETRY)
    return now + pause


def due_rescans(done: Mapping[str, str], now: datetime) -> list[str]:
    """The rescans that are due, the longest last; ``done`` tells when each was last finished (ISO)."""
    due = []
    for kind, (every, _) in RESCANS.items():
        last = done.get(kind)
        if last is None or datetime.fromisoformat(last) + every <= now:
            due.append(kind)
    return due


def next_rescan(done: Mapping[str, str], now: datetime) -> datetime:
    """When the next of them is due."""
    return min(
        (datetime.fromisoformat(done[kind]) + every if kind in done else now for kind, (every, _) in RESCANS.items()),
        default=now,
    )


def estimate(position: str, now: datetime, *, began_position: str, began_at: datetime) -> datetime | None:
    """When a backfill will have caught up, by its pace so far; None while there is no pace."""
    gained = floor(position) - floor(began_position)
    took = now - began_at
    if gained <= timedelta(0) or took <= timedelta(0):
        return None
    left = max(now - floor(position), timedelta(0))
    return now + timedelta(seconds=min(took / gained * left.total_seconds(), timedelta(days=365).total_seconds()))
