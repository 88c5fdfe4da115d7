"""What an administrator changes rules on: a draft, validated at every step, saved only as a whole. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from ksefbuffer.web.filing import (
    FIELDS,
    Catalogue,
    Condition,
    Operator,
    Rule,
    Rulebook,
    checked,
    field_of,
    folder_fault,
    rulebook_of,
    write_rulebook,
)

OPERATORS: Mapping[str, str] = {
    "equals": "jest równe",
    "in": "jest jednym z",
    "contains": "zawiera",
    "matches": "pasuje do wzorca",
    "between": "jest od – do",
    "present": "jest podane",
}
EXTRA, PATH = "extra", "xpath"
_YES = {"": "true", "tak": "true", "true": "true", "nie": "false", "false": "false"}
_LINE = re.compile(r" \(wiersz \d+\)")


@dataclass(frozen=True)
class Desk:
    """``text`` is the draft's TOML, ``base`` the version it was made from, ``version`` the one in force now (0: none
    was ever brought in); ``changed`` when the draft differs from what is in force."""

    version: int
    base: int
    text: str = field(repr=False)
    changed: bool

    @property
    def rulebook(self) -> Rulebook:
        """Raises RulebookFault when the text is none."""
        return rulebook_of(self.text)

    @property
    def outdated(self) -> bool:
        """Whether somebody saved another version since the draft was begun."""
        return self.changed and self.base != self.version

    @property
    def stamp(self) -> str:
        """Tells this state of the draft from any other: a form made from another one is out of date."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    @property
    def has_comments(self) -> bool:
        """Whether the text holds comments, which forms do not keep."""
        return any(line.lstrip().startswith("#") for line in self.text.splitlines())


def toml_of(rulebook: Rulebook, *, nip: str, environment: str) -> str:
    """The rulebook as text that is sure to be taken. Raises RulebookFault or ConfigurationFault with what is wrong."""
    text = write_rulebook(rulebook)
    checked(text, nip=nip, environment=environment)
    return text


def without_lines(faults: Sequence[str]) -> list[str]:
    """Faults as they are told beside a form: the lines of a text that nobody sees are left out."""
    return [_LINE.sub("", fault) for fault in faults]


# A rule as a form holds it


@dataclass(frozen=True)
class ConditionRow:
    """One line of the form: ``name`` a field, or "extra"/"xpath" with its ``key``; ``values`` one a line."""

    name: str = ""
    key: str = ""
    operator: str = "equals"
    values: str = ""


@dataclass(frozen=True)
class RuleForm:
    name: str = ""
    conditions: tuple[ConditionRow, ...] = ()
    target: str = ""
    tags: str = ""
    then: str = "stop"
    enabled: bool = True


def form_of(rule: Rule) -> RuleForm:
    return RuleForm(
        rule.name,
        tuple(map(_row_of, rule.conditions)),
        rule.target,
        "\n".join(rule.tags),
        rule.then,
        rule.enabled,
    )


def _row_of(condition: Condition) -> ConditionRow:
    head, bracket, inner = condition.field.partition("[")
    values = "\n".join(condition.values)
    if condition.operator == "present":
        values = "tak" if condition.values == ("true",) else "nie"
    return ConditionRow(head, inner.removesuffix("]") if bracket else "", condition.operator, values)


def rule_of(form: RuleForm) -> Rule:
    """What the form says, right or wrong: ``toml_of`` tells what is wrong. Lines without a field are left out."""
    return Rule(
        " ".join(form.name.split()),
        tuple(_condition_of(row) for row in form.conditions if row.name),
        form.target.strip().strip("/"),
        tuple(dict.fromkeys(tag for line in form.tags.splitlines() if (tag := " ".join(line.split())))),
        "continue" if form.then == "continue" else "stop",
        form.enabled,
    )


def _condition_of(row: ConditionRow) -> Condition:
    name = f"{row.name}[{row.key.strip()}]" if row.name in (EXTRA, PATH) else row.name
    operator = cast(Operator, row.operator if row.operator in OPERATORS else "equals")
    lines = [line.strip() for line in row.values.splitlines()]
    if operator == "present":
        said = lines[0].lower() if lines else ""
        return Condition(name, operator, (_YES.get(said, said),))
    if operator == "between":
        return Condition(name, operator, tuple([*lines, "", ""][: max(2, len(lines))]))
    return Condition(name, operator, tuple(line for line in lines if line))


def field_choices(used: Sequence[str] = ()) -> list[tuple[str, str]]:
    """(name, Polish) of every field that a condition may ask, in the order of FIELDS; two that mean the same are
    offered once, unless the rule uses the other."""
    found = {name: known.polish for name, known in FIELDS.items() if name != "subject" or name in used}
    if "subject" in found:
        found["subject"] += " (subject)"
    return [*found.items(), (EXTRA, "dodatkowy opis – podaj klucz"), (PATH, "dowolne pole XML – podaj ścieżkę")]


def condition_text(row: ConditionRow) -> str:
    name = f"{row.name}[{row.key}]" if row.name in (EXTRA, PATH) else row.name
    known = field_of(name)
    return known.polish if known else row.name


# Changes to a rulebook


def with_rule(rulebook: Rulebook, at: int | None, rule: Rule) -> Rulebook:
    """``at`` is its place; None adds it before the last rule when that one takes whatever is left, else at the end."""
    rules = list(rulebook.rules)
    if at is not None:
        rules[at] = rule
    else:
        last = rules[-1] if rules else None
        catches_all = last is not None and not last.conditions and bool(last.target) and last.enabled
        rules.insert(len(rules) - catches_all, rule)
    return replace(rulebook, rules=tuple(rules))


def without_rule(rulebook: Rulebook, at: int) -> Rulebook:
    return replace(rulebook, rules=rulebook.rules[:at] + rulebook.rules[at + 1 :])


def moved(rulebook: Rulebook, at: int, by: int) -> Rulebook:
    """The rule at that place one up (-1) or down (+1); at an end it stays."""
    rules = list(rulebook.rules)
    to = at + by
    if 0 <= to < len(rules):
        rules[at], rules[to] = rules[to], rules[at]
    return replace(rulebook, rules=tuple(rules))


def with_catalogue(rulebook: Rulebook, catalogue: Catalogue, was: str = "") -> Rulebook:
    """Adds a catalogue, or changes the one at ``was``; with another path what lies below it and what files into it
    (rules' targets, stores' catalogues) follows. Raises ValueError, in Polish."""
    if fault := folder_fault(catalogue.path):
        raise ValueError(fault[0].upper() + fault[1:] + ".")
    if catalogue.path != was and any(one.path == catalogue.path for one in rulebook.catalogues):
        raise ValueError(f"Katalog „{catalogue.path}” już jest.")
    if not was:
        return replace(rulebook, catalogues=(*rulebook.catalogues, catalogue))
    if not any(one.path == was for one in rulebook.catalogues):
        raise ValueError(f"Nie ma już katalogu „{was}”.")
    catalogues = tuple(
        catalogue if one.path == was else replace(one, path=_renamed(one.path, was, catalogue.path))
        for one in rulebook.catalogues
    )
    rules = tuple(replace(rule, target=_renamed(rule.target, was, catalogue.path)) for rule in rulebook.rules)
    stores = tuple(
        replace(store, catalogue=_renamed(store.catalogue, was, catalogue.path)) for store in rulebook.stores.stores
    )
    return replace(rulebook, catalogues=catalogues, rules=rules, stores=replace(rulebook.stores, stores=stores))


def _renamed(path: str, was: str, now: str) -> str:
    return now + path[len(was) :] if path == was or path.startswith(was + "/") else path


def without_catalogue(rulebook: Rulebook, path: str) -> Rulebook:
    """Takes a catalogue that nothing files into off the tree. Raises ValueError, in Polish, when something does."""
    users = [f"reguła „{rule.name}”" for rule in rulebook.rules if _is_in(rule.target, path)]
    users += [f"sklep „{store.number}”" for store in rulebook.stores.stores if _is_in(store.catalogue, path)]
    if users:
        more = f" i jeszcze {len(users) - 3}" if len(users) > 3 else ""
        raise ValueError(f"Do katalogu „{path}” kierują: {', '.join(users[:3])}{more}. Najpierw zmień je.")
    kept = tuple(one for one in rulebook.catalogues if not _is_in(one.path, path))
    return replace(rulebook, catalogues=kept)


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")
