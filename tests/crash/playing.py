"""Playing scenarios and telling what went wrong in them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

from tests.crash.harness import Fate, World

Scenario = Callable[[Sequence[Fate]], World]
LOST = ("lost", "never", "503", "late:1", "late:4", "late:1000")
# 1 runs every pair; the default keeps the suite to minutes. Odd, so that it drifts over the kinds of boundary.
PAIR_STRIDE = int(os.environ.get("CRASH_STRIDE", "13"))


def _tell(fates: Sequence[Fate]) -> str:
    return " then ".join(
        f"{f.how} at {f.at} ({f.seen[f.at - 1] if 0 < f.at <= len(f.seen) else 'not reached'})" for f in fates
    )


def failures(scenario: Scenario, plans: Iterator[Sequence[Fate]]) -> list[str]:
    found: list[str] = []
    for fates in plans:
        try:
            scenario(fates).books()
        except AssertionError as error:
            found.append(f"{_tell(fates)}: {next(iter(str(error).splitlines()), repr(error))}")
    return found


def calls(course: list[str]) -> list[int]:
    return [at for at, what in enumerate(course, 1) if " POST " in what or " GET " in what]


def some_failures(scenario: Scenario, plans: Iterator[Sequence[Fate]]) -> bool:
    return any(failures(scenario, iter([fates])) for fates in plans)


class LostThenKilled(Fate):
    def __init__(self, at: int, how: str, after: int) -> None:
        super().__init__(at, how)
        self._kill_at = at + after

    def meet(self, what: str) -> str | None:
        how = super().meet(what)
        if self.count == self._kill_at:
            self.at, self.how, self.count = self.count, "kill", self.count - 1
            return super().meet(what)
        return how
