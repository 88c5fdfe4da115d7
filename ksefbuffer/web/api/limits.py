"""Who may call the API, and how often: a key with the scope, within its share of calls."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, cast

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from ksefbuffer.web.access import Caller
from ksefbuffer.web.api.problems import Problem
from ksefbuffer.web.gate import api_caller
from ksefbuffer.web.site import site_of

CALLS_A_MINUTE = 600
_FORGOTTEN_AT = 10_000

# Only tells OpenAPI how a key is given; the gate reads the header itself.
_bearer = HTTPBearer(
    scheme_name="klucz",
    bearerFormat="ksb_…",
    description="Klucz API: `Authorization: Bearer ksb_…`. Tworzy go administrator: `ksefbuffer apikey add NAZWA "
    "--scope send --scope read`. Zakres (scope) potrzebny do wywołania podano przy każdym z nich.",
    auto_error=False,
)


@dataclass
class _Bucket:
    left: float
    at: datetime


@dataclass
class Buckets:
    """A bucket of calls for each key, refilled evenly: so many at once, so many a minute. Of this process alone."""

    a_minute: int = CALLS_A_MINUTE
    _buckets: dict[int, _Bucket] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, key_id: int, now: datetime) -> float:
        """Takes one call; 0 when it may be made, else the seconds until it may."""
        with self._lock:
            if len(self._buckets) > _FORGOTTEN_AT:
                self._buckets.clear()
            bucket = self._buckets.setdefault(key_id, _Bucket(self.a_minute, now))
            passed = max(0.0, (now - bucket.at).total_seconds())
            bucket.left = min(self.a_minute, bucket.left + passed * self.a_minute / 60)
            bucket.at = now
            if bucket.left >= 1:
                bucket.left -= 1
                return 0.0
            return (1 - bucket.left) * 60 / self.a_minute


_lock = threading.Lock()


def buckets_of(request: Request) -> Buckets:
    """The buckets of this application."""
    with _lock:
        state = request.app.state
        if not hasattr(state, "api_buckets"):
            state.api_buckets = Buckets()
        return cast(Buckets, state.api_buckets)


def allowed(scope: str) -> Callable[..., Caller]:
    """A dependency: the program whose key has this scope. Raises Problem 401, 403, and 429 with Retry-After."""
    known: Any = Depends(api_caller(scope))

    def allowed_caller(
        request: Request,
        _told: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
        # Not in the annotation, which is resolved where this name is unknown.
        who: Caller = known,
    ) -> Caller:
        wait_s = buckets_of(request).take(who.id, site_of(request).clock())
        if wait_s:
            raise Problem(
                429,
                "rate",
                "Za dużo wywołań",
                f"Klucz „{who.name}” może wykonać {CALLS_A_MINUTE} wywołań na minutę.",
                hint="Odczekaj tyle sekund, ile podaje nagłówek Retry-After. Zamiast często pytać o dokument użyj "
                "?wait= albo callback_url.",
                headers={"Retry-After": str(int(wait_s) + 1)},
            )
        return who

    return allowed_caller
