"""Regular expressions that a rule may hold: none whose search could take forever on what a seller wrote."""

from __future__ import annotations

import re
from functools import lru_cache

MAX_PATTERN = 200
MAX_TEXT = 300  # Of a text, so many characters are searched; of what is allowed, the worst search is cubic.

_MAX_OPEN = 3
_QUANTIFIER = re.compile(r"[*+?]|\{(\d*)(,?)(\d*)\}")
_MANY = 20


class PatternFault(ValueError):
    """A pattern that is not taken; its message says why, in Polish."""


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> re.Pattern[str]:
    """``pattern`` compiled, case ignored. Raises PatternFault when it is wrong, or could be slow: a repeated group that
    holds a repetition or alternatives, more than two unbounded repetitions (three when it starts with ``^``), a
    reference to a group, a look-around."""
    if not pattern or len(pattern) > MAX_PATTERN:
        raise PatternFault(f"wyrażenie jest puste albo ma ponad {MAX_PATTERN} znaków")
    try:
        regex = re.compile(pattern, re.IGNORECASE)
    except (re.error, OverflowError, RecursionError) as problem:
        raise PatternFault(f"wyrażenie jest błędne ({problem})") from problem
    unbounded = _unbounded(pattern)
    allowed = _MAX_OPEN if pattern.startswith("^") else _MAX_OPEN - 1
    if unbounded > allowed:
        raise PatternFault(f"wyrażenie ma {unbounded} powtórzeń bez granicy (*, +), dozwolone {allowed}")
    return regex


def found(regex: re.Pattern[str], text: str) -> bool:
    """Whether ``regex`` is found in ``text``."""
    return regex.search(text[:MAX_TEXT]) is not None


def _unbounded(pattern: str) -> int:
    """How many unbounded repetitions there are. Raises PatternFault for a repeated group that holds one."""
    unbounded = 0
    # For each open group: whether it holds a repetition or alternatives.
    groups: list[bool] = []
    closed_risky: bool | None = None
    at = 0
    while at < len(pattern):
        sign = pattern[at]
        step, quantified = 1, False
        if sign == "\\":
            if pattern[at + 1 : at + 2].isdigit() and pattern[at + 1] != "0":
                raise PatternFault("odwołania do grup nie są dozwolone")
            step = 2
        elif sign == "[":
            step = _end_of_class(pattern, at) - at
        elif sign == "(":
            if pattern.startswith("(?", at) and not pattern.startswith("(?:", at):
                raise PatternFault("grupy specjalne „(?…” nie są dozwolone, poza „(?:…)”")
            groups.append(False)
            step = 3 if pattern.startswith("(?:", at) else 1
        elif sign == "|" and groups:
            groups[-1] = True
        elif sign == ")" and groups:
            closed_risky = groups.pop()
            if groups and closed_risky:
                groups[-1] = True
            at += 1
            continue
        elif quantifier := _QUANTIFIER.match(pattern, at):
            quantified = True
            step = quantifier.end() - at
            if sign == "{" and not (quantifier[1] or quantifier[2]):
                quantified = False
            elif sign != "?" and _repeats(quantifier):
                if closed_risky:
                    raise PatternFault("powtarzana grupa nie może zawierać powtórzeń ani alternatyw")
                unbounded += _is_open(quantifier)
                if groups:
                    groups[-1] = True
            # A lazy or possessive mark belongs to it.
            if quantified and pattern[at + step : at + step + 1] in ("?", "+"):
                step += 1
        at += step
        closed_risky = None
    return unbounded


def _repeats(quantifier: re.Match[str]) -> bool:
    return not quantifier[0].startswith("{") or quantifier[0] not in ("{0}", "{1}", "{0,1}", "{,1}")


def _is_open(quantifier: re.Match[str]) -> bool:
    if not quantifier[0].startswith("{"):
        return True
    upper = quantifier[3] if quantifier[2] else quantifier[1]
    return not upper or int(upper) - int(quantifier[1] or 0) > _MANY


def _end_of_class(pattern: str, at: int) -> int:
    end = at + 1
    if pattern.startswith("^", end):
        end += 1
    if pattern.startswith("]", end):
        end += 1
    while end < len(pattern) and pattern[end] != "]":
        end += 2 if pattern[end] == "\\" else 1
    return end + 1
