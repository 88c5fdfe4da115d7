from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksefbuffer.sandbox import Sandbox
from ksefbuffer.sandbox.limits import RateLimits
from ksefbuffer.sandbox.wire import TooManyRequests
from tests.samples import NOW
from tests.sandbox.client import Client, FakeClock
from tests.sandbox.packing import a_batch, batch_body, close_batch, open_batch, put, zipped


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


def test_a_time_scale_shrinks_windows_and_pauses_but_not_the_figures() -> None:
    limits = RateLimits("production", 60)
    assert limits.figures == RateLimits("production").figures
    # Ten in a second that was a minute; the eleventh waits for the rest of that second.
    assert hits(limits, "sessionList", [number / 10 for number in range(10)]) == [0] * 10
    assert hits(limits, "sessionList", [0.95]) == [1]
    assert hits(limits, "sessionList", [0.99]) == [1]
    assert hits(limits, "sessionList", [1.01]) == [0]
    # Twenty an hour, in a minute.
    limits = RateLimits("production", 60)
    assert hits(limits, "invoiceMetadata", [float(second) for second in range(20)]) == [0] * 20
    assert hits(limits, "invoiceMetadata", [20.0]) == [40]
    assert hits(limits, "invoiceMetadata", [60.0]) == [0]
    for wrong in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="time_scale"):
            RateLimits("production", wrong)


def test_violations_are_forgiven_in_scaled_time() -> None:
    limits = RateLimits("production", 60)
    assert hits(limits, "sessionList", [0] * 6)[-1] == 1
    # The second of a second's window is over at once, but the first violation is remembered for a scaled minute.
    assert hits(limits, "sessionList", [0.5] * 6)[-1] == 1
    assert limits._tracks["sessionList", "Nip:1", "127.0.0.1"].strikes == 2
    assert hits(limits, "sessionList", [2.5] * 6)[-1] == 1
    assert limits._tracks["sessionList", "Nip:1", "127.0.0.1"].strikes == 1


@given(
    gaps=st.lists(st.floats(0, 900).map(lambda gap: round(gap, 2)), max_size=120),
    group=st.sampled_from(["invoiceMetadata", "sessionList", "invoiceSend", "anonymous"]),
)
def test_no_window_ever_holds_more_than_its_figure(gaps: list[float], group: str) -> None:
    limits = RateLimits("production")
    figures = limits.figures[group]
    admitted: list[float] = []
    second = 0.0
    for gap in gaps:
        second += gap
        room = all(
            figure < 0 or sum(second - moment < window for moment in admitted) < figure
            for figure, window in zip(figures, (1, 60, 3600), strict=True)
        )
        track = limits._tracks.get((group, "Nip:1", "127.0.0.1"))
        paused = track is not None and track.blocked_until is not None and _at(second) < track.blocked_until
        assert (hits(limits, group, [second]) == [0]) is (room and not paused)
        if room and not paused:
            admitted.append(second)


def _at(second: float) -> datetime:
    return NOW + timedelta(seconds=second)


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
    assert limited.sandbox.throttled == {"contextLimits": 2}
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


def test_batches_have_limits_of_their_own_and_uploads_none(clock: FakeClock) -> None:
    sandbox = Sandbox(clock=clock, latency_s=0, limits="production", seed=1)
    client = Client(sandbox, clock).login()
    archive = zipped({f"{number}.xml": b"<a/>" for number in range(30)})
    for _ in range(10):
        # Preparing a body asks for the public keys, which count for the address only.
        clock.forward(seconds=0.15)
        batch = open_batch(client, archive, parts=40)
    client.problem = False
    clock.forward(seconds=1.01)
    for ordinal in range(1, len(batch.parts) + 1):
        for _ in range(3):
            assert put(client, batch, ordinal).status_code == 201
    statuses = [close_batch(client, batch).status_code for _ in range(21)]
    assert statuses == [204, *[400] * 19, 429]
    assert sandbox.throttled == {"closeBatch": 1}
    # Asking is not charged to opening.
    assert client.call("GET", "/rate-limits").json()["batchSession"] == {
        "perSecond": 10,
        "perMinute": 20,
        "perHour": 60,
    }
    for _ in range(10):
        clock.forward(seconds=0.15)
        open_batch(client, archive)
    body = batch_body(client, archive, a_batch())
    assert client.call("POST", "/sessions/batch", json=body).status_code == 429


def test_the_sandboxs_time_scale(clock: FakeClock) -> None:
    sandbox = Sandbox(clock=clock, limits="production", time_scale=60)
    client = Client(sandbox, clock).login()
    answers = [client.call("GET", "/sessions?sessionType=Batch").status_code]
    for _ in range(11):
        clock.forward(seconds=0.05)
        answers.append(client.call("GET", "/sessions?sessionType=Batch").status_code)
    assert answers == [200] * 10 + [429] * 2
    clock.forward(seconds=1)
    assert client.call("GET", "/sessions?sessionType=Batch").status_code == 200
    assert client.call("GET", "/rate-limits").json()["sessionList"] == {"perSecond": 5, "perMinute": 10, "perHour": 60}
