"""Rate limits: sliding windows of one second, one minute and one hour. Source: FACTS §6."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from .wire import TooManyRequests

WINDOWS = ((1, "sekundę"), (60, "minutę"), (3600, "godzinę"))
UNLIMITED = -1

PRODUCTION: dict[str, tuple[int, int, int]] = {
    "onlineSession": (10, 30, 120),
    "onlineSessionClose": (20, 60, 240),
    "batchSession": (10, 20, 60),
    "batchSessionClose": (20, 40, 120),
    "invoiceSend": (10, 30, 180),
    "invoiceStatus": (30, 120, 1200),
    "sessionList": (5, 10, 60),
    "sessionInvoiceList": (10, 20, 200),
    "sessionMisc": (10, 120, 1200),
    "invoiceMetadata": (8, 16, 20),
    "invoiceExport": (8, 16, 20),
    "invoiceExportStatus": (10, 60, 600),
    "invoiceDownload": (8, 16, 64),
    "collectiveIdentifier": (20, 120, 240),
    "other": (10, 30, 120),
    "anonymous": (60, UNLIMITED, UNLIMITED),
    "global": (75, UNLIMITED, UNLIMITED),
}
PROFILES: dict[str, dict[str, tuple[int, int, int]]] = {
    "production": PRODUCTION,
    "test": {
        name: (second * 10, minute if minute < 0 else minute * 10, hour if hour < 0 else hour * 10)
        for name, (second, minute, hour) in PRODUCTION.items()
    },
    "none": dict.fromkeys(PRODUCTION, (UNLIMITED, UNLIMITED, UNLIMITED)),
}


@dataclass
class _Track:
    """Admitted calls of one key, and the block it is under. ``strikes`` counts violations in a row."""

    admitted: deque[datetime] = field(default_factory=deque)
    blocked_until: datetime | None = None
    strikes: int = 0
    forgiven_at: datetime | None = None


class RateLimits:
    """Counts calls per (group, context, address). Guarded by the sandbox's lock; ``now`` is an argument.

    ``time_scale``: how many times faster than KSeF's the windows pass: with 60 a minute's window lasts a second, and
    pauses shrink with it. The figures themselves stay.
    """

    def __init__(self, profile: str, time_scale: float = 1.0) -> None:
        if not 0 < time_scale < math.inf:
            raise ValueError("time_scale must be a positive number")
        self._scale = time_scale
        if profile not in PROFILES:
            raise ValueError(f"unknown limits profile {profile!r}; one of: {', '.join(PROFILES)}")
        self.figures = PROFILES[profile]
        self._tracks: dict[tuple[str, str, str], _Track] = {}

    def admit(self, group: str, context: str, address: str, now: datetime, *, counter: str = "") -> None:
        """Counts one call or raises TooManyRequests. ``counter`` separates endpoints of one group ("other").

        The pause is the time until the fullest window has room again, multiplied by the number of violations in a
        row; calls made during a pause are refused with what is left of it, and make the next pause longer.
        """
        figures = self.figures[group]
        if all(figure < 0 for figure in figures):
            return
        track = self._tracks.setdefault((group + counter, context, address), _Track())
        if track.blocked_until is not None and now < track.blocked_until:
            track.strikes += 1
            raise _refusal(track.blocked_until - now, *_first(figures), during_pause=True)
        while len(track.admitted) > max(figures):
            track.admitted.popleft()
        for (seconds, unit), figure in zip(WINDOWS, figures, strict=True):
            if figure < 0:
                continue
            window = timedelta(seconds=seconds) / self._scale
            if len(track.admitted) >= figure and (left := track.admitted[-figure] + window - now) > timedelta():
                if track.forgiven_at is None or now >= track.forgiven_at:
                    track.strikes = 0
                track.strikes += 1
                pause = left * track.strikes
                track.blocked_until = now + pause
                track.forgiven_at = track.blocked_until + max(pause, timedelta(minutes=1) / self._scale)
                raise _refusal(pause, figure, unit)
        track.admitted.append(now)


def _first(figures: tuple[int, int, int]) -> tuple[int, str]:
    return next((figure, unit) for figure, (_, unit) in zip(figures, WINDOWS, strict=True) if figure >= 0)


def _refusal(pause: timedelta, figure: int, unit: str, *, during_pause: bool = False) -> TooManyRequests:
    seconds = max(1, math.ceil(pause.total_seconds()))
    text = f"Przekroczono limit {figure} żądań na {unit}. Spróbuj ponownie po {seconds} sekundach."
    return TooManyRequests(seconds, text, during_pause=during_pause)
