"""A kill at every commit, HTTP call and file effect of pulling, alone and in pairs, and lost answers: each invoice is
stored exactly once, whole, with all of its roles. And controls: the same, with one guard taken away, fails.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ksefbuffer.queue import facts
from ksefbuffer.receiver import exporting, pull, recount, rescan
from ksefbuffer.receiver.exporting import Exports
from ksefbuffer.receiver.instants import written
from ksefbuffer.sandbox import SeededInvoice
from tests.crash.harness import START, Fate, template_database
from tests.crash.playing import LOST, PAIR_STRIDE, LostThenKilled, calls
from tests.receiver.world import SUBJECTS, Receiver, World, bought, with_roles

pytestmark = pytest.mark.crash

Scenario = Callable[[Sequence[Fate]], World]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return template_database(tmp_path_factory.mktemp("template"))


@pytest.fixture(autouse=True)
def _small_heaps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "AT_ONCE", 2)


def filled(folder: Path, template: Path) -> World:
    """Packages cut short into parts for the buyer, singles for the others, some invoices of several roles."""
    world = World(folder, template)
    files = iter(bought(13))
    world.seed([next(files) for _ in range(6)])
    world.seed([with_roles(next(files), SUBJECTS)], SUBJECTS)
    for roles in (["buyer", "third"], ["third"], ["authorized"], ["seller"]):
        world.seed([with_roles(next(files), roles)], roles)
    world.seed(list(files))
    world.sandbox.export_at_most(4, part_bytes=2500)
    return world


@pytest.fixture
def scenario(tmp_path: Path, template: Path) -> Scenario:
    numbers = itertools.count()

    def play(fates: Sequence[Fate]) -> World:
        world = filled(tmp_path / str(next(numbers)), template)
        for fate in fates:
            if world.live(fate):
                break
            world.wire.deliver_stuck(only_due=False)
        else:
            assert world.live(Fate())
        return world

    return play


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory, template: Path) -> list[str]:
    patch = pytest.MonkeyPatch()
    patch.setattr(exporting, "AT_ONCE", 2)
    world = filled(tmp_path_factory.mktemp("course") / "0", template)
    fate = Fate()
    assert world.live(fate)
    world.books()
    patch.undo()
    return fate.seen


def failures(scenario: Scenario, plans: Any, *, deviations: Sequence[str] = ()) -> list[str]:
    found: list[str] = []
    for fates in plans:
        world = scenario(fates)
        try:
            world.books(deviations=deviations)
        except AssertionError as error:
            what = " then ".join(
                f"{f.how} at {f.at} ({f.seen[f.at - 1] if f.at <= len(f.seen) else '-'})" for f in fates
            )
            found.append(f"{what}: {next(iter(str(error).splitlines()), repr(error))}")
        finally:
            world.sandbox.close()
    return found


def test_the_course_has_every_kind_of_boundary(course: list[str]) -> None:
    kinds = {" ".join(what.split()[:2]) for what in course}
    assert {"before commit", "after commit", "before POST", "after GET", "after fetch_part", "before rmtree"} <= kinds
    assert sum("POST /v2/invoices/exports" in what for what in course) >= 6
    assert sum("GET /v2/invoices/ksef/" in what for what in course) >= 2
    assert len(course) > 100


def test_a_kill_at_every_boundary_loses_and_doubles_nothing(scenario: Scenario, course: list[str]) -> None:
    assert failures(scenario, ([Fate(at)] for at in range(1, len(course) + 1)), deviations=["hasty-polling"]) == []


@pytest.mark.parametrize("how", LOST)
def test_an_answer_lost_at_every_call_loses_and_doubles_nothing(
    scenario: Scenario, course: list[str], how: str
) -> None:
    kind = "after" if how in ("lost", "503") else "before"
    chosen = [at for at in calls(course) if course[at - 1].startswith(kind)]
    if how.startswith("late"):
        chosen = chosen[:: max(1, PAIR_STRIDE // 4)]
    assert chosen
    assert failures(scenario, ([Fate(at, how)] for at in chosen)) == []


def test_pairs_of_kills_lose_and_double_nothing(scenario: Scenario, course: list[str]) -> None:
    pairs = list(itertools.product(range(1, len(course) + 1), repeat=2))[:: PAIR_STRIDE * 31]
    assert len(pairs) > 40
    assert failures(scenario, ([Fate(a), Fate(b)] for a, b in pairs), deviations=["hasty-polling"]) == []


def test_a_lost_answer_and_then_a_kill_lose_and_double_nothing(scenario: Scenario, course: list[str]) -> None:
    before = [at for at in calls(course) if course[at - 1].startswith("before")]
    plans = [(at, how, after) for at in before for how in ("never", "late:1000") for after in (1, 3, 7, 12)]
    chosen = plans[:: max(1, PAIR_STRIDE // 2)]
    assert len(chosen) > 30
    fates = ([LostThenKilled(at, how, after), Fate()] for at, how, after in chosen)
    assert failures(scenario, fates, deviations=["hasty-polling"]) == []


# Rescans


def _recounted(receiver: Receiver) -> bool:
    with receiver.database.reading() as tx:
        told = facts.get(tx, recount.FACT)
    return told is not None and set(told[0]) == set(SUBJECTS)


@pytest.mark.parametrize("few", [100, 2], ids=["by-metadata", "by-export"])
def test_a_kill_at_every_boundary_of_a_rescan_heals_and_doubles_nothing(
    tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(rescan, "_FEW_KNOWN", few)

    def play(fate: Fate, place: int) -> World:
        world = World(tmp_path / str(place), template)
        world.bought(5)
        assert world.live(Fate())
        world.seed(
            [
                SeededInvoice(one, permanent_at=START - timedelta(hours=2 + n))
                for n, one in enumerate(bought(3, first=50))
            ]
        )
        world.sandbox.export_at_most(4, part_bytes=2500)
        if not world.live(fate, until=_recounted, rescans=True):
            assert world.live(Fate(), until=_recounted, rescans=True)
        return world

    course = Fate()
    play(course, 0).books()
    assert len(course.seen) > 20
    for at in range(1, len(course.seen) + 1, 2):
        world = play(Fate(at), at)
        world.books(deviations=["hasty-polling"])
        world.sandbox.close()


# Controls: each takes one guard away. A guard whose absence no scenario notices would prove nothing.


def test_control_a_cursor_moved_before_storing_loses_invoices(
    scenario: Scenario, course: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Exports._take

    def hasty(self: Exports, parcel: Any, arrived: Any, now: Any, then: Callable[[Any], None]) -> None:
        with self.database.transaction() as tx:
            then(tx)
        original(self, parcel, arrived, now, lambda tx: None)

    monkeypatch.setattr(Exports, "_take", hasty)
    plans = ([Fate(at)] for at in range(1, len(course)))
    assert any(failures(scenario, [fates], deviations=["hasty-polling"]) for fates in plans)


def test_control_a_truncated_package_taken_for_a_whole_one_loses_invoices(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = pull.schedule.reached

    def believing(period: Any, *, truncated: bool, last: str, hwm: str) -> Any:
        return original(period, truncated=False, last=last, hwm=hwm)

    monkeypatch.setattr(pull.schedule, "reached", believing)
    assert failures(scenario, iter([[Fate()]]))


def test_control_without_growing_roles_some_are_missing(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull.Stock, "grow", lambda *_, **__: None)
    assert failures(scenario, iter([[Fate()]]))


def test_control_an_end_of_what_was_never_asked_for_loses_invoices(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock instead of KSeF's high-water mark: what it had not shown yet is never asked for again."""
    original = pull.schedule.reached

    def by_the_clock(period: Any, *, truncated: bool, last: str, hwm: str) -> Any:
        return original(period, truncated=truncated, last=last, hwm=hwm and written(START.replace(hour=23)))

    monkeypatch.setattr(pull.schedule, "reached", by_the_clock)
    world = scenario([Fate()])
    world.bought(2, first=50)
    assert world.live(Fate())
    with pytest.raises(AssertionError, match="missing"):
        world.books()
