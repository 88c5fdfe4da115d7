"""A rulebook written as TOML: in a fixed order, what is usual left out. ``rulebook`` reads it back."""

from __future__ import annotations

import re
from dataclasses import fields
from datetime import date

from ..invoice.places import BUILT_IN, GROUPS
from .shapes import Catalogue, Company, Condition, Rule, Rulebook, Supplier
from .stores import Store


def write_rulebook(rulebook: Rulebook) -> str:
    """The rulebook as TOML, in a fixed order; what is usual is left out.

    Whatever texts it holds, ``read_rulebook`` gives an equal one back or names what is wrong with it: no text is ever
    read as anything else. (Spaces around operands, and letter case of hosts, are for the reader to even out.)
    """
    parts = [] if rulebook.rules else ["rule = []\n"]
    parts += [_list_table("catalogue", catalogue) for catalogue in rulebook.catalogues]
    parts.extend(map(_rule_text, rulebook.rules))
    parts.extend(map(_store_text, rulebook.stores.stores))
    parts.append(_plain_table("company", rulebook.company))
    parts.extend(_list_table("supplier", supplier) for supplier in rulebook.suppliers)
    parts.append(
        _section("[checks]", [f"{_key(code)} = {_text(value)}" for code, value in sorted(rulebook.checks.items())])
    )
    groups = ((group, sorted(getattr(rulebook.vocabulary, group) - getattr(BUILT_IN, group))) for group in GROUPS)
    parts.append(_section("[vocabulary]", [f"{group} = {_value(keys)}" for group, keys in groups if keys]))
    return "\n".join(part for part in parts if part)


def _rule_text(rule: Rule) -> str:
    lines = [f"name = {_text(rule.name)}"]
    if rule.conditions:
        lines.append("when = [")
        lines.extend(
            f"    {{ field = {_text(one.field)}, {_key(one.operator)} = {_operand(one)} }}," for one in rule.conditions
        )
        lines.append("]")
    if rule.target:
        lines.append(f"target = {_text(rule.target)}")
    if rule.tags:
        lines.append(f"tags = {_value(rule.tags)}")
    if rule.then != "stop":
        lines.append(f"then = {_text(rule.then)}")
    if not rule.enabled:
        lines.append("enabled = false")
    return _section("[[rule]]", lines)


_TRUTHS = (("true",), ("false",))


def _operand(condition: Condition) -> str:
    if condition.operator == "present" and condition.values in _TRUTHS:
        return condition.values[0]
    several = condition.operator in ("in", "between") or len(condition.values) != 1
    return _value(condition.values if several else condition.values[0])


def _store_text(store: Store) -> str:
    named = (
        ("number", store.number),
        ("name", store.name),
        ("gln", store.glns),
        ("address", store.addresses),
        ("idwew", store.idwews),
        ("open_from", store.open_from),
        ("open_to", store.open_to),
        ("catalogue", store.catalogue),
    )
    return _section("[[store]]", [f"{key} = {_value(value)}" for key, value in named if value])


def _list_table(section: str, values: Catalogue | Supplier) -> str:
    return _section(f"[[{section}]]", _unusual(values))


def _plain_table(section: str, values: Company) -> str:
    return _section(f"[{section}]", _unusual(values))


def _unusual(values: Catalogue | Supplier | Company) -> list[str]:
    return [
        f"{one.name} = {_value(getattr(values, one.name))}"
        for one in fields(values)
        if getattr(values, one.name) != one.default
    ]


def _section(heading: str, lines: list[str]) -> str:
    # Of a list even an empty one is written: the reader is to miss what it lacks, not the whole of it.
    return "\n".join((heading, *lines, "")) if lines or heading.startswith("[[") else ""


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | date):
        return str(value)
    if isinstance(value, str):
        return _text(value)
    assert isinstance(value, list | tuple)
    return f"[{', '.join(map(_text, value))}]"


def _key(text: str) -> str:
    return text if _BARE.fullmatch(text) else _text(text)


_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES: dict[str, str] = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def _text(text: str) -> str:
    def escape(match: re.Match[str]) -> str:
        return _ESCAPES.get(match[0], f"\\u{ord(match[0]):04X}")

    return '"' + re.sub(r'["\\\x00-\x1f\x7f]', escape, text) + '"'
