"""The limiter against a count made the slow and obvious way, and what must survive a restart."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ksefbuffer.ksef.limits import GUARD_S, LIMITS, NEVER, NO_LIMIT, Foreign, Limit, Limiter
from tests.ksef.fake import START

FREE = Limit(NO_LIMIT, NO_LIMIT, NO_LIMIT)
WINDOWS_S = (1 + GUARD_S, 60 + GUARD_S, 3600 + GUARD_S)
US = timedelta(microseconds=1)

figures = st.one_of(st.just(NO_LIMIT), st.integers(1, 8))
limits = st.builds(Limit, figures, figures, figures)
pauses_s = st.one_of(
    st.just(0.0), st.floats(0, 2), st.floats(0, 90), st.floats(0, 4000), st.sampled_from((1.1, 60.1, 3600.1))
)
shares = st.sampled_from((1.0, 0.9, 0.5, 0.1))


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def room(made: list[datetime], limit: Limit, now: datetime, share: float = 1.0) -> bool:
    """Whether one more call fits, by looking at every window anew."""
    for allowed, window_s in zip((limit.per_second, limit.per_minute, limit.per_hour), WINDOWS_S, strict=True):
        inside = sum(1 for moment in made if moment > now - timedelta(seconds=window_s))
        if allowed != NO_LIMIT and inside >= max(int(allowed * share + 1e-9), 1):
            return False
    return True


# --- counting


@settings(deadline=None, max_examples=300)
@given(
    own=limits,
    whole=limits,
    calls=st.lists(st.tuples(pauses_s, st.sampled_from(("a", "b")), shares), max_size=60),
)
def test_a_call_goes_out_if_and_only_if_every_window_has_room(
    own: Limit, whole: Limit, calls: list[tuple[float, str, float]]
) -> None:
    limiter = Limiter({"a": own, "b": FREE, "global": whole})
    made: dict[str, list[datetime]] = {"a": [], "b": [], "global": []}
    now = START
    for pause_s, group, share in calls:
        now += timedelta(seconds=pause_s)
        fits = room(made[group], own if group == "a" else FREE, now, share) and room(made["global"], whole, now, share)
        foreseen = limiter.wait_for(group, now, share=share)
        wait_s = limiter.reserve(group, now, share=share)
        assert (wait_s == 0) == fits
        assert foreseen == timedelta(seconds=wait_s)
        if fits:
            made[group].append(now)
            made["global"].append(now)
        else:
            then = now + timedelta(seconds=wait_s)
            for moment, expected in ((then - US, False), (then, True)):
                limit = own if group == "a" else FREE
                assert (
                    room(made[group], limit, moment, share) and room(made["global"], whole, moment, share)
                ) is expected


@settings(deadline=None, max_examples=100)
@given(own=limits, whole=limits, before=st.lists(pauses_s, max_size=20), calls=st.integers(0, 25), share=shares)
def test_the_forecast_is_what_comes_true(
    own: Limit, whole: Limit, before: list[float], calls: int, share: float
) -> None:
    limiter = Limiter({"a": own, "global": whole})
    now = START
    for pause_s in before:
        now += timedelta(seconds=pause_s)
        limiter.reserve("a", now)
    limiter.penalise("a", now, 7)
    taken = limiter.dump(now)
    foreseen = limiter.wait_for("a", now, calls, share)
    assert limiter.dump(now) == taken, "a forecast takes nothing"
    clock = now
    for _ in range(calls):
        while wait_s := limiter.reserve("a", clock, share=share):
            clock += timedelta(seconds=wait_s)
    assert abs(foreseen - (clock - now)) < timedelta(milliseconds=1)


def test_a_forecast_by_hand() -> None:
    limiter = Limiter()
    assert limiter.wait_for("invoiceSend", at(0), 10) == timedelta(0)
    assert limiter.wait_for("invoiceSend", at(0), 30) == timedelta(seconds=2 * (1 + GUARD_S))
    assert limiter.wait_for("invoiceSend", at(0), 31) == timedelta(seconds=60 + GUARD_S)
    # 180 an hour: the 181st waits for the first to leave; ten thousand take some 55 hours.
    assert limiter.wait_for("invoiceSend", at(0), 181) == timedelta(seconds=3600 + GUARD_S)
    assert 55 <= limiter.wait_for("invoiceSend", at(0), 10_000) / timedelta(hours=1) <= 56
    assert limiter.wait_for("invoiceSend", at(0), 28, share=0.9) == timedelta(seconds=60 + GUARD_S)
    assert Limiter({"g": Limit(0, 5, 5)}).wait_for("g", at(0)) == NEVER
    assert Limiter({"g": FREE, "global": FREE}).wait_for("g", at(0), 100_000) == timedelta(0)


def test_a_share_leaves_the_rest_to_who_may_take_all() -> None:
    limiter = Limiter()
    for n in range(27):
        assert limiter.reserve("invoiceSend", at(n), share=0.9) == 0
    assert limiter.reserve("invoiceSend", at(27), share=0.9) == pytest.approx(33 + GUARD_S)
    for n in range(3):
        assert limiter.reserve("invoiceSend", at(27 + n)) == 0
    assert limiter.reserve("invoiceSend", at(30)) > 0


def test_a_small_share_of_a_small_limit_is_still_one_call() -> None:
    limiter = Limiter({"g": Limit(1, 2, 3), "global": FREE})
    assert limiter.reserve("g", at(0), share=0.01) == 0
    assert limiter.reserve("g", at(2), share=0.01) > 0


@pytest.mark.parametrize("group", ["onlineSession", "batchSession", "invoiceSend", "sessionMisc", "invoiceMetadata"])
def test_with_work_enough_nearly_all_that_is_allowed_goes_out(group: str) -> None:
    limiter, now, made = Limiter(), START, 0
    while now < at(6 * 3600):
        wait_s = limiter.reserve(group, now)
        made += wait_s == 0
        now += timedelta(seconds=wait_s)
    assert 0.95 * 6 <= made / LIMITS[group].per_hour <= 6


@settings(deadline=None, max_examples=150)
@given(calls=st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5), st.floats(0, 3)), min_size=5, max_size=80))
@example(calls=[(0.0, 0.9, 0.0)] + [(0.0, 0.0, 0.0)] * 12)
def test_what_arrives_late_is_not_over_the_limit_either(calls: list[tuple[float, float, float]]) -> None:
    limit = Limit(3, 8, 20)
    limiter = Limiter({"g": limit, "global": FREE})
    now = START
    arrived: list[datetime] = []
    for pause_s, way_there_s, way_back_s in calls:
        now += timedelta(seconds=pause_s)
        while wait_s := limiter.reserve("g", now):
            now += timedelta(seconds=wait_s)
        sent = now
        arrived.append(sent + timedelta(seconds=way_there_s))
        now = arrived[-1] + timedelta(seconds=way_back_s)
        limiter.settle("g", sent, now)
    for last in arrived:
        for allowed, window_s in ((3, 1), (8, 60), (20, 3600)):
            inside = [moment for moment in arrived if last - timedelta(seconds=window_s) < moment <= last]
            assert len(inside) <= allowed


def test_calls_in_flight_are_settled_each_by_itself() -> None:
    limiter = Limiter({"g": Limit(2, NO_LIMIT, NO_LIMIT), "global": FREE})
    assert limiter.reserve("g", at(0)) == 0
    assert limiter.reserve("g", at(0.5)) == 0
    limiter.settle("g", at(0), at(0.9))
    # Of the two, the one sent at 0.5 is now the older.
    assert limiter.reserve("g", at(1)) == pytest.approx(0.6)
    limiter.settle("g", at(0.5), at(1))
    assert limiter.reserve("g", at(1)) == pytest.approx(1)
    limiter.settle("g", at(0.123), at(1.2))  # never reserved: settles nothing
    limiter.settle("unknown", at(0), at(1))
    assert limiter.snapshot(at(1))["g"].per_second == 2


def test_a_call_settled_among_several_takes_its_place_in_time() -> None:
    limiter = Limiter({"g": Limit(4, NO_LIMIT, NO_LIMIT), "global": FREE})
    for n in range(4):
        assert limiter.reserve("g", at(n / 10)) == 0
    limiter.settle("g", at(0), at(0.5))
    # Now made at 0.1, 0.2, 0.3 and 0.5: they leave one after the other.
    for left_s in (0.1, 0.2, 0.3, 0.5):
        assert limiter.reserve("g", at(left_s + 1.0)) == pytest.approx(GUARD_S)
        assert limiter.reserve("g", at(left_s + 1.1)) == 0


# --- a clock that goes back


@settings(deadline=None, max_examples=150)
@given(
    own=limits,
    steps=st.lists(st.one_of(pauses_s, st.floats(-100_000, 0)), min_size=1, max_size=40),
    penalty_s=st.floats(0, 100),
)
def test_a_clock_set_back_never_locks_the_limiter_up(own: Limit, steps: list[float], penalty_s: float) -> None:
    limiter = Limiter({"a": own, "global": FREE})
    now = START
    for n, step_s in enumerate(steps):
        now += timedelta(seconds=step_s)
        wait_s = limiter.reserve("a", now)
        assert wait_s <= max(WINDOWS_S[-1], penalty_s) + 0.001
        assert limiter.wait_for("a", now) == timedelta(seconds=wait_s) or wait_s == 0
        # Having waited, one may go.
        assert limiter.reserve("a", now + timedelta(seconds=wait_s)) == 0 or wait_s == 0
        now += timedelta(seconds=wait_s)
        if n == len(steps) // 2:
            limiter.penalise("a", now, penalty_s)


def test_calls_made_before_the_clock_went_back_still_count() -> None:
    limiter = Limiter({"g": Limit(NO_LIMIT, 3, NO_LIMIT), "global": FREE})
    for n in range(3):
        assert limiter.reserve("g", at(7200 + n)) == 0
    assert limiter.reserve("g", at(0)) == pytest.approx(60 + GUARD_S)
    assert limiter.reserve("g", at(60)) == pytest.approx(GUARD_S)
    assert limiter.reserve("g", at(60.2)) == 0


def test_a_block_lasts_no_longer_because_the_clock_went_back() -> None:
    limiter = Limiter()
    limiter.penalise("invoiceSend", at(86_400), 30)
    assert limiter.snapshot(at(0))["invoiceSend"].blocked_until == at(30)
    assert limiter.reserve("invoiceSend", at(0)) == pytest.approx(30)
    assert limiter.reserve("invoiceSend", at(30)) == 0


# --- a restart


def restarted(limiter: Limiter, now: datetime, known: dict[str, Limit] | None = None) -> Limiter:
    fresh = Limiter(known if known is not None else LIMITS)
    fresh.restore(json.loads(json.dumps(limiter.dump(now))), now)
    return fresh


@settings(deadline=None, max_examples=200)
@given(
    own=limits,
    whole=limits,
    before=st.lists(st.tuples(pauses_s, st.sampled_from(("a", "b"))), max_size=40),
    away_s=pauses_s,
    after=st.lists(pauses_s, max_size=15),
    block_s=st.one_of(st.none(), st.floats(0, 5000)),
)
def test_a_restart_forgets_nothing(
    own: Limit,
    whole: Limit,
    before: list[tuple[float, str]],
    away_s: float,
    after: list[float],
    block_s: float | None,
) -> None:
    known = {"a": own, "b": own, "global": whole}
    limiter = Limiter(known)
    now = START
    for pause_s, group in before:
        now += timedelta(seconds=pause_s)
        limiter.reserve(group, now)
    if block_s is not None:
        limiter.penalise("a", now, block_s)
    state = json.loads(json.dumps(limiter.dump(now)))
    now += timedelta(seconds=away_s)
    fresh = Limiter(known)
    fresh.restore(state, now)
    for pause_s in after:
        now += timedelta(seconds=pause_s)
        waited = limiter.wait_for("a", now)
        # Times are kept to a millisecond, rounded up: never sooner, and no more than that later.
        assert timedelta(0) <= fresh.wait_for("a", now) - waited <= timedelta(milliseconds=1)
        if fresh.reserve("a", now) == 0:
            assert limiter.reserve("a", now) == 0


def test_a_large_count_is_kept_in_a_small_place_and_never_too_early() -> None:
    known = {"g": Limit(NO_LIMIT, NO_LIMIT, 12_000), "global": FREE}
    limiter = Limiter(known)
    for n in range(12_000):
        assert limiter.reserve("g", at(n * 0.29)) == 0
    now = at(3500)
    state = limiter.dump(now)
    assert len(state["taken"]["g"]) <= 1200
    assert len(json.dumps(state)) < 30_000
    fresh = restarted(limiter, now, known)
    assert fresh.snapshot(now)["g"].per_hour == 12_000
    for calls in (1, 100, 5000):
        later = fresh.wait_for("g", now, calls) - limiter.wait_for("g", now, calls)
        assert timedelta(0) <= later <= timedelta(seconds=5)


def test_the_global_count_is_made_anew_from_the_groups() -> None:
    known = {"a": FREE, "b": FREE, "global": Limit(3, NO_LIMIT, NO_LIMIT)}
    limiter = Limiter(known)
    assert [limiter.reserve(group, at(0)) for group in ("a", "b", "a")] == [0, 0, 0]
    fresh = restarted(limiter, at(0.2), known)
    assert fresh.reserve("b", at(0.2)) == pytest.approx(0.8 + GUARD_S, abs=0.002)


def test_what_is_an_hour_old_is_not_kept() -> None:
    limiter = Limiter()
    limiter.reserve("invoiceSend", at(0))
    limiter.penalise("invoiceSend", at(0), 60)
    assert limiter.dump(at(4000)) == {"taken": {}, "blocked": {}, "foreign": limiter.dump(at(0))["foreign"]}
    assert limiter.dump(at(90_000))["foreign"] == {}


def test_restoring_adds_to_what_was_counted_meanwhile() -> None:
    limiter = Limiter()
    for _ in range(5):
        limiter.reserve("invoiceSend", at(0))
    state = limiter.dump(at(0))
    fresh = Limiter()
    for _ in range(5):
        fresh.reserve("invoiceSend", at(0.5))
    fresh.restore(state, at(0.6))
    assert fresh.snapshot(at(0.6))["invoiceSend"].per_second == 10
    assert fresh.snapshot(at(0.6))["global"].per_second == 10
    assert fresh.reserve("invoiceSend", at(0.6)) > 0


def test_a_state_from_the_future_counts_as_now() -> None:
    limiter = Limiter()
    for _ in range(10):
        limiter.reserve("invoiceSend", at(100_000))
    limiter.penalise("sessionMisc", at(100_000), 20)
    fresh = Limiter()
    fresh.restore(limiter.dump(at(100_000)), at(0))
    assert fresh.reserve("invoiceSend", at(0)) == pytest.approx(1 + GUARD_S)
    assert fresh.reserve("sessionMisc", at(0)) == pytest.approx(20, abs=0.002)


nonsense = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(("taken", "blocked", "foreign", "g", "global", "")), inner, max_size=4),
    ),
    max_leaves=25,
)


@settings(deadline=None, max_examples=300)
@given(state=nonsense)
@example(state={"taken": {"g": [[10**30, 1], [1, 10**30], [1, -1], [True, True], "x", [1]]}})
@example(state={"taken": {"g": [[1_800_000_000_000, 10**9]]}})
@example(state={"blocked": {"g": [0, 10**30]}, "foreign": {"g": [5, 1, 1]}})
@example(state={"blocked": {"g": [0, 10**14]}})
@example(
    state={"blocked": {"g": [253_402_300_799_000, 253_402_300_799_999]}, "taken": {"g": [[253_402_300_799_999, 9]]}}
)
def test_a_spoilt_state_never_stops_the_buffer(state: object) -> None:
    limiter = Limiter({"g": Limit(5, 50, 500), "global": FREE})
    limiter.restore(state, START)
    assert limiter.wait_for("g", START, 3) <= NEVER + timedelta(hours=1)
    assert limiter.reserve("g", START) <= NEVER.total_seconds()
    limiter.snapshot(START)
    json.dumps(limiter.dump(START))


# --- somebody else


def test_a_429_out_of_nothing_is_somebody_elses_and_is_remembered_for_a_day() -> None:
    limiter = Limiter()
    limiter.reserve("invoiceSend", at(0))
    limiter.penalise("invoiceSend", at(0), 30)
    assert limiter.foreign("invoiceSend") == Foreign(at(0), at(0), 1)
    assert limiter.foreign("invoiceStatus") is None
    limiter.penalise("invoiceSend", at(3600), 30)
    assert limiter.foreign("invoiceSend") == Foreign(at(0), at(3600), 2)
    fresh = restarted(limiter, at(3700))
    assert fresh.foreign("invoiceSend") == Foreign(at(0), at(3600), 2)
    assert fresh.snapshot(at(3700))["invoiceSend"].foreign_since == at(0)
    assert fresh.snapshot(at(3600 + 86_401))["invoiceSend"].foreign_since is None
    fresh.penalise("invoiceSend", at(3600 + 86_401), 30)
    assert fresh.foreign("invoiceSend") == Foreign(at(3600 + 86_401), at(3600 + 86_401), 1)


@pytest.mark.parametrize(("calls", "pause_s"), [(10, 0), (30, 1.5), (180, 15)])
def test_a_429_that_our_own_calls_explain_blames_nobody(calls: int, pause_s: float) -> None:
    limiter = Limiter()
    now = START
    for n in range(calls):
        now = at(n * pause_s)
        assert limiter.reserve("invoiceSend", now) == 0
    limiter.penalise("invoiceSend", now, 30)
    assert limiter.foreign("invoiceSend") is None
    # The next one, soon after the block, is the same story.
    limiter.penalise("invoiceSend", now + timedelta(seconds=40), 60)
    assert limiter.foreign("invoiceSend") is None


def test_the_global_limit_explains_too() -> None:
    limiter = Limiter({**LIMITS, "global": Limit(5, NO_LIMIT, NO_LIMIT)})
    for n in range(5):
        limiter.reserve(f"other:{n}", at(0))
    limiter.penalise("other:4", at(0), 2)
    assert limiter.foreign("other:4") is None
