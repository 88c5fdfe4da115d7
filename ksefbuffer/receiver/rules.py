"""Where an invoice goes, and why. Pure: the same invoice, facts and rulebook always give the same filing.

Rules are asked in order; the first one that matches and has a target decides the folder; one that says "stop" ends the
asking, one that says "continue" lets those behind it add tags (and a target, while there is none). A correction follows
the invoice it corrects. Source: CONTRACT §7.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from ..invoice.received import Received
from .conditions import Question, question_of
from .seen import Facts, Seen, Value
from .shapes import UNMATCHED, Rule, Rulebook
from .stores import NO_STORE, StoreMatch
from .targets import folder_of, missing_in

__all__ = ["Facts", "Filing", "Reason", "Trace", "explain", "file"]

DAMAGED = "uszkodzona"
INCOMPLETE = "niekompletna"
UNKNOWN_FORM = "nieznana struktura"
DOUBTFUL_STORE = "sklep wątpliwy"
DISPUTED_STORE = "sklep sprzeczny"
_FOUNDED = "zasadna"
_CORRECTION = "korekta"

_Prepared = tuple[tuple[Rule, tuple[Question, ...]], ...]


@dataclass(frozen=True, repr=False)
class Reason:
    """Why: the rule, its condition in words, the field asked, and the value that met it, with where it stood."""

    rule: str
    condition: str
    field: str = ""
    value: str = ""
    where: str = ""


@dataclass(frozen=True, repr=False)
class Filing:
    """Where an invoice goes: ``folder`` below the incoming one, ``tags`` sorted by when they were given, the reasons in
    the order of the rules, and the store it was found to be for."""

    folder: str
    tags: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()
    store: StoreMatch = NO_STORE

    def as_json(self) -> dict[str, Any]:
        """The filing as plain values, to be stored and shown."""
        store = self.store.store
        return {
            "folder": self.folder,
            "tags": list(self.tags),
            "reasons": [
                {
                    "rule": one.rule,
                    "condition": one.condition,
                    "field": one.field,
                    "value": one.value,
                    "where": one.where,
                }
                for one in self.reasons
            ],
            "store": None
            if store is None
            else {
                "number": store.number,
                "certainty": self.store.certainty,
                "by": self.store.by,
                "value": self.store.value,
                "where": self.store.where,
                "contradictions": [
                    {"number": one.store.number, "by": one.by, "value": one.value, "where": one.where}
                    for one in self.store.contradictions
                ],
            },
        }


@dataclass(frozen=True, repr=False)
class Trace:
    """What became of one rule: ``failed`` at ``condition``, where the field's values were ``seen``; ``unfilled`` when
    the target asks for what the invoice does not have; ``decides`` is the one that chose the folder."""

    rule: str
    outcome: Literal["matched", "failed", "unfilled", "disabled", "not reached"]
    decides: bool = False
    condition: str = ""
    seen: tuple[str, ...] = ()


def file(received: Received, facts: Facts, rulebook: Rulebook) -> Filing:
    """Where ``received`` goes. Never raises for what an invoice holds; the rulebook must be without faults."""
    seen = Seen(received, facts, rulebook)
    folder, reasons = _followed(received, facts)
    tags: dict[str, None] = {}
    for rule, questions in _prepared(rulebook):
        met = _met(questions, seen)
        if met is None or (rule.target and missing_in(rule.target, seen)):
            continue
        if rule.target and not folder:
            folder = folder_of(rule.target, seen)
        tags.update(dict.fromkeys(rule.tags))
        reasons.extend(_reasons(rule, questions, met))
        if rule.then == "stop":
            break
    tags.update(dict.fromkeys(_own_tags(seen)))
    return Filing(folder or UNMATCHED, tuple(tags), tuple(reasons), seen.store)


def explain(received: Received, facts: Facts, rulebook: Rulebook) -> tuple[Trace, ...]:
    """Of every rule, in order: whether it matched, or which condition failed and what was seen instead."""
    return tuple(_traces(Seen(received, facts, rulebook), _followed(received, facts)[0] != ""))


def _traces(seen: Seen, placed: bool) -> Iterator[Trace]:
    prepared = iter(_prepared(seen.rulebook))
    stopped = False
    for rule in seen.rulebook.rules:
        if not rule.enabled:
            yield Trace(rule.name, "disabled")
            continue
        _, questions = next(prepared)
        if stopped:
            yield Trace(rule.name, "not reached")
            continue
        failed = next((question for question in questions if question.holds(seen) is None), None)
        if failed is not None:
            texts = tuple(value.text for value in seen.values(failed.field))
            yield Trace(rule.name, "failed", condition=failed.words, seen=texts)
            continue
        missing = missing_in(rule.target, seen)
        if missing:
            yield Trace(rule.name, "unfilled", condition=missing)
            continue
        yield Trace(rule.name, "matched", decides=bool(rule.target) and not placed)
        placed = placed or bool(rule.target)
        stopped = rule.then == "stop"


def _prepared(rulebook: Rulebook) -> _Prepared:
    found: _Prepared | None = rulebook.memo.get("rules")
    if found is None:
        found = tuple(
            (rule, tuple(question_of(condition) for condition in rule.conditions))
            for rule in rulebook.rules
            if rule.enabled
        )
        rulebook.memo["rules"] = found
    return found


def _met(questions: tuple[Question, ...], seen: Seen) -> list[Value] | None:
    met: list[Value] = []
    for question in questions:
        value = question.holds(seen)
        if value is None:
            return None
        met.append(value)
    return met


def _reasons(rule: Rule, questions: tuple[Question, ...], met: list[Value]) -> Iterator[Reason]:
    if not questions:
        yield Reason(rule.name, "zawsze")
    for question, value in zip(questions, met, strict=True):
        yield Reason(rule.name, question.words, question.field, value.text, value.where)


def _followed(received: Received, facts: Facts) -> tuple[str, list[Reason]]:
    folder = facts.corrected_folder
    if not folder or folder == UNMATCHED or not received.is_correction:
        return "", []
    number = next((one.ksef_number or one.number for one in received.corrected), "")
    words = "korekta trafia tam, gdzie faktura korygowana"
    return folder, [Reason(_CORRECTION, words, "corrected", number, "DaneFaKorygowanej")]


def _own_tags(seen: Seen) -> Iterator[str]:
    received, match = seen.received, seen.store
    if seen.facts.verdict and seen.facts.verdict != _FOUNDED:
        yield seen.facts.verdict
    if not received.readable or received.damage:
        yield DAMAGED
    seller = received.seller
    known = received.invoice_number and received.issue_date and (seller.nip or seller.eu_vat or seller.other_id)
    if received.readable and (not known or received.gross is None):
        yield INCOMPLETE
    if not received.form:
        yield UNKNOWN_FORM
    if match.certainty == "doubtful":
        yield DOUBTFUL_STORE
    if match.contradictions and match.certainty != "doubtful":
        yield DISPUTED_STORE
