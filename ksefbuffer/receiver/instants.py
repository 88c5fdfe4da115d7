"""KSeF's own texts of moments, which are kept untouched and compared exactly. Pure.

They have six or seven fractional digits, sometimes none, and the seventh counts (FACTS §7.3 item 5): a ``datetime``
holds six, so it may only ever be the moment rounded down.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

WARSAW = ZoneInfo("Europe/Warsaw")

_TEXT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:[.,](\d{1,20}))?(Z|[+-]\d\d:?\d\d)?", re.ASCII)
_STEPS = 10_000_000  # a second has so many of KSeF's steps of 100 ns


def order(text: str) -> tuple[datetime, str]:
    """A key that compares moments by all of their digits, whatever their offsets. Without one it is Warsaw's time, as
    KSeF takes it. Raises ValueError for a text that is no moment."""
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        raise ValueError("not a moment")
    whole = datetime.fromisoformat(found[1] + (found[3] or ""))
    if whole.tzinfo is None:
        whole = whole.replace(tzinfo=WARSAW)
    try:
        return whole.astimezone(UTC), (found[2] or "").rstrip("0")
    except OverflowError:
        raise ValueError("not a moment") from None


def is_moment(text: str) -> bool:
    try:
        order(text)
    except ValueError:
        return False
    return True


def floor(text: str) -> datetime:
    """The moment in UTC, rounded down to microseconds. Raises ValueError."""
    whole, fraction = order(text)
    return whole + timedelta(microseconds=int(fraction[:6].ljust(6, "0")))


def after(text: str) -> str:
    """The next moment that KSeF can write, 100 ns later. Raises ValueError."""
    whole, fraction = order(text)
    steps = int(fraction[:7].ljust(7, "0")) + 1
    whole += timedelta(seconds=steps // _STEPS)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{steps % _STEPS:07d}+00:00"


def written(moment: datetime) -> str:
    """An aware moment as KSeF takes it."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def midnight(day: date) -> str:
    """The beginning of a Polish day."""
    return datetime.combine(day, time(), WARSAW).isoformat()


def earliest(*texts: str) -> str:
    """The earliest of those that are given and are moments, untouched; "" when none is."""
    return min(filter(is_moment, texts), key=order, default="")


def latest(*texts: str) -> str:
    """The latest of those that are given and are moments, untouched; "" when none is."""
    return max(filter(is_moment, texts), key=order, default="")
