"""A small, safe part of XPath, over local names: what a rule may ask of an invoice besides its known fields.

Understood: ``Fa/Platnosc/FormaPlatnosci``, ``//FaWiersz/GTIN``, ``*``, an attribute as the last step (``@waluta``),
and conditions in brackets: ``[2]``, ``[Klucz]``, ``[Klucz='GLN']``, ``[contains(Klucz,'GLN')]``,
``[starts-with(P_7,'K')]``.
A leading ``/Faktura/`` is allowed. Nothing else: no axes, no functions, so nothing can be read but the invoice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

MAX_LENGTH = 300
MAX_STEPS = 20

_NAME = r"[A-Za-z_][\w.-]{0,99}"
_STEP = re.compile(rf"(?:{_NAME}:)?({_NAME}|\*)")
_POSITION = re.compile(r"\[\s*([1-9][0-9]{0,4})\s*\]")
_PRESENT = re.compile(rf"\[\s*((?:{_NAME}/){{0,5}}{_NAME})\s*\]")
_EQUAL = re.compile(rf"""\[\s*((?:{_NAME}/){{0,5}}{_NAME})\s*=\s*(?:'([^']*)'|"([^"]*)")\s*\]""")
_FUNCTION = re.compile(
    rf"""\[\s*(contains|starts-with)\s*\(\s*((?:{_NAME}/){{0,5}}{_NAME})\s*,\s*(?:'([^']*)'|"([^"]*)")\s*\)\s*\]"""
)
_ATTRIBUTE = re.compile(rf"@(?:{_NAME}:)?({_NAME})$")
_ROOTS = ("Faktura", "Invoice", "CreditNote")


class PathFault(ValueError):
    """An expression that is not understood; its message says so in Polish."""


@dataclass(frozen=True)
class Filter:
    """A condition on an element: its place among its like (from 1), or what the texts at ``name`` below it are."""

    position: int = 0
    name: str = ""
    kind: str = "present"
    value: str = ""

    def holds(self, texts: list[str]) -> bool:
        if self.kind == "present":
            return bool(texts)
        if self.kind == "equal":
            return self.value in texts
        if self.kind == "contains":
            return any(self.value in text for text in texts)
        return any(text.startswith(self.value) for text in texts)


@dataclass(frozen=True)
class Step:
    """One step down: a local name or ``*``, one level or at any depth."""

    name: str
    anywhere: bool
    filters: tuple[Filter, ...]


@dataclass(frozen=True)
class Path:
    """A compiled expression; ``attribute`` is "" when the elements' texts are asked for."""

    expression: str
    steps: tuple[Step, ...]
    attribute: str


@lru_cache(maxsize=1024)
def compile_path(expression: str) -> Path:
    """The path that ``expression`` means. Raises PathFault, naming the place, when it is none of what is understood."""
    text = expression.strip()
    if not text or len(text) > MAX_LENGTH:
        raise PathFault(f"wyrażenie jest puste albo ma ponad {MAX_LENGTH} znaków")
    steps: list[Step] = []
    attribute = ""
    at = 0
    while at < len(text):
        anywhere = text.startswith("//", at)
        at += 2 if anywhere else 1 if text.startswith("/", at) else 0
        found = _ATTRIBUTE.match(text, at)
        if found is not None and steps and not anywhere:
            attribute = found[1]
            break
        if text.startswith("text()", at) and steps and at + 6 == len(text) and not anywhere:
            break
        step = _STEP.match(text, at)
        if step is None:
            raise PathFault(f"nie rozumiem wyrażenia od znaku {at + 1}: „{text[at : at + 20]}”")
        at = step.end()
        filters: list[Filter] = []
        while text.startswith("[", at):
            one, at = _filter(text, at)
            filters.append(one)
        if at < len(text) and text[at] != "/":
            raise PathFault(f"nie rozumiem wyrażenia od znaku {at + 1}: „{text[at : at + 20]}”")
        steps.append(Step(step[1], anywhere, tuple(filters)))
        if len(steps) > MAX_STEPS:
            raise PathFault(f"wyrażenie ma ponad {MAX_STEPS} kroków")
    if text.endswith("/"):
        raise PathFault("wyrażenie kończy się znakiem „/”")
    if len(steps) > 1 and text.startswith("/") and not steps[0].anywhere and steps[0].name in _ROOTS:
        steps = steps[1:]
    if sum(step.anywhere for step in steps) > 2:
        raise PathFault("znak „//” może wystąpić najwyżej dwa razy")
    return Path(expression, tuple(steps), attribute)


def _filter(text: str, at: int) -> tuple[Filter, int]:
    if found := _POSITION.match(text, at):
        return Filter(position=int(found[1])), found.end()
    if found := _PRESENT.match(text, at):
        return Filter(name=found[1]), found.end()
    if found := _EQUAL.match(text, at):
        return Filter(name=found[1], kind="equal", value=found[2] or found[3] or ""), found.end()
    if found := _FUNCTION.match(text, at):
        return Filter(name=found[2], kind=found[1], value=found[3] or found[4] or ""), found.end()
    raise PathFault(f"nie rozumiem warunku od znaku {at + 1}: „{text[at : at + 20]}”")
