"""Moments with seven fractional digits, as KSeF keeps them: whole numbers of 100 ns since 1970.

Source: FACTS §7.3 (5); the same moment is told with six digits when the seventh is zero [#535].
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta

from .numbers import WARSAW

SECOND = 10_000_000
NEVER = 10**18
"""Later than every moment that can be written."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FRACTION = re.compile(r"[.,](\d+)")


def ticks(moment: datetime) -> int:
    """An aware moment in units of 100 ns."""
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * SECOND + since.microseconds * 10


def read_ticks(text: str) -> int:
    """An ISO date-time with any number of fractional digits, of which seven count; without an offset it is Polish
    time, as KSeF takes it (FACTS §7.1). Raises ValueError."""
    fraction = _FRACTION.search(text)
    whole = datetime.fromisoformat(_FRACTION.sub("", text, count=1))
    aware = whole if whole.tzinfo else whole.replace(tzinfo=WARSAW)
    try:
        return ticks(aware) + (int(f"{fraction[1]:0<7}"[:7]) if fraction else 0)
    except OverflowError:
        raise ValueError(f"not a moment: {text}") from None


def written(moment: int) -> str:
    """As KSeF writes times: UTC, seven fractional digits, or six when the seventh is zero."""
    microseconds, last = divmod(moment, 10)
    text = (_EPOCH + timedelta(microseconds=microseconds)).isoformat(timespec="microseconds")
    return f"{text[:26]}{last}{text[26:]}" if last else text


def midnight(day: date) -> int:
    """The beginning of a Polish day."""
    return ticks(datetime.combine(day, time(), WARSAW))


def as_datetime(moment: int) -> datetime:
    """Rounded down to microseconds."""
    return _EPOCH + timedelta(microseconds=moment // 10)
