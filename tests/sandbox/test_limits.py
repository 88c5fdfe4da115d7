from __future__ import annotations

from datetime import timedelta

import pytest

from ksefbuffer.sandbox import Sandbox
from ksefbuffer.sandbox.limits import RateLimits
from ksefbuffer.sandbox.wire import TooManyRequests
from tests.samples import NOW
from tests.sandbox.client import Client, FakeClock


def hits(limits: RateLimits, group: str, seconds: list[float], **more: str) -> list[int]:
    """The pause in seconds that each call met, 0 for admitted."""
    met = []
    for second in seconds:
        try:
            limits.admit(group, "Nip:1", "127.0.0.1", NOW + timedelta(seconds=second), **more)
            met.append(0)
        except TooManyRequests as refusal:
            met.append(refusal.retry_after_s)
    return met


def test_the_window_slides() -> None:
    limits = RateLimits("production")
    assert hits(limits, "sessionList", [0, 0.1, 0.2, 0.3, 0.4]) == [0] * 5
    # Five in the last second; the sixth waits until the first one leaves the window, rounded up.
    assert hits(limits, "sessionList", [0.5]) == [1]
    assert hits(limits, "sessionList", [1.05]) == [0]


def test_windows_are_not_aligned() -> None:
    limits = RateLimits("production")
    assert hits(limits, "sessionList", [0.9] * 5 + [1.1]) == [0] * 5 + [1]


def test_the_minute_and_the_hour_count_too() -> None:
    limits = RateLimits("production")
    assert hits(limits, "sessionList", [float(second) for second in range(10)]) == [0] * 10
    assert hits(limits, "sessionList", [10.0]) == [50]
    assert hits(limits, "sessionList", [60.0]) == [0]

    limits = RateLimits("production")
    assert hits(limits, "invoiceMetadata", [second * 60.0 for second in range(20)]) == [0] * 20
    assert hits(limits, "invoiceMetadata", [1200.0]) == [2400]


def test_calls_during_a_pause_are_refused_with_the_rest_of_it_and_make_the_next_longer() -> None:
    limits = RateLimits("production")
    hits(limits, "sessionList", [float(second) for second in range(10)])
    assert hits(limits, "sessionList", [10.0, 30.0, 59.5]) == [50, 30, 1]
    # Half a second until there is room again, times four violations in a row.
    assert hits(limits, "sessionList", [60.0, 60.5]) == [0, 2]


def test_repeated_violations_are_paused_longer_and_forgiven_in_time() -> None:
    limits = RateLimits("production")

    def violate(start: float) -> int:
        return hits(limits, "invoiceStatus", [start] * 31)[-1]

    assert violate(0) == 1
    assert violate(5) == 2
    assert violate(20) == 3
    assert violate(200) == 1


def test_contexts_addresses_and_endpoints_are_counted_apart() -> None:
    limits = RateLimits("production")
    assert hits(limits, "sessionList", [0] * 6)[-1] == 1
    limits.admit("sessionList", "Nip:2", "127.0.0.1", NOW)
    limits.admit("sessionList", "Nip:1", "127.0.0.2", NOW)
    assert hits(limits, "other", [0] * 11, counter=":a")[-1] == 1
    assert hits(limits, "other", [0], counter=":b") == [0]


def test_profiles() -> None:
    assert RateLimits("test").figures["invoiceSend"] == (100, 300, 1800)
    assert RateLimits("test").figures["anonymous"] == (600, -1, -1)
    assert hits(RateLimits("none"), "invoiceMetadata", [0] * 100) == [0] * 100
    with pytest.raises(ValueError, match="production"):
        RateLimits("some")


@pytest.fixture
def limited(clock: FakeClock) -> Client:
    return Client(Sandbox(clock=clock, latency_s=1, limits="production"), clock).login()


def test_the_429_in_both_shapes(limited: Client) -> None:
    for _ in range(10):
        assert limited.call("GET", "/limits/context").status_code == 200
    refused = limited.call("GET", "/limits/context")
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["status"] == 429
    assert refused.headers["content-type"].startswith("application/problem+json")
    limited.problem = False
    classic = limited.call("GET", "/limits/context")
    assert classic.json()["status"]["code"] == 429
    assert classic.headers["retry-after"] == "1"
    # Each endpoint of the group "other" has its own counter.
    assert limited.call("GET", "/rate-limits").status_code == 200


def test_calling_during_a_pause_is_a_deviation(limited: Client, clock: FakeClock) -> None:
    for _ in range(11):
        limited.call("GET", "/limits/context")
    assert limited.sandbox.deviations == []
    limited.call("GET", "/limits/context")
    assert [item.name for item in limited.sandbox.deviations] == ["ignored-retry-after"]
    clock.forward(seconds=1)
    assert limited.call("GET", "/limits/context").status_code == 200


def test_refused_calls_reach_nothing(limited: Client, sandbox: Sandbox) -> None:
    for _ in range(10):
        limited.open()
    refused = limited.call("POST", "/sessions/online", json={})
    assert refused.status_code == 429
    assert len(limited.call("GET", "/sessions", params={"sessionType": "Online"}).json()["sessions"]) == 10


def test_everything_of_one_address_counts_together(limited: Client, clock: FakeClock) -> None:
    clock.forward(seconds=5)
    codes = [limited.challenge() for _ in range(60)]
    assert all("challenge" in body for body in codes)
    assert limited.call("POST", "/auth/challenge", token="").status_code == 429
