"""One condition of a rule: its check when it is taken in, its test on an invoice, its words for people. Pure.

Texts are compared without case, diacritics and punctuation, numbers of deliveries and orders in both forms of
FA3-FIELDS §4, NIPs and GLNs by their digits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import NamedTuple

from ..invoice.deliveries import digits_form, exact_form
from ..invoice.document import date_of, decimal_of
from ..invoice.identifiers import is_nip_shape
from ..invoice.paths import PathFault, compile_path
from ..invoice.places import gln_of, store_key
from .patterns import PatternFault, compiled, found
from .seen import Field, Seen, Value, field_of, key_of
from .shapes import Condition

MAX_OPERANDS = 10_000

_NOTHING = Value("", "", "")
_WORDS = {
    "equals": "równe",
    "in": "jedno z",
    "contains": "zawiera",
    "matches": "pasuje do",
    "between": "między",
    "present": "podane",
}
_CHOICES = {
    "subject": ("buyer", "third", "authorized", "seller"),
    "role": ("buyer", "third", "authorized", "seller"),
    "kind": ("towar", "koszt", "niejasne"),
    "verdict": ("zasadna", "do wyjaśnienia", "niezasadna"),
}


class Question(NamedTuple):
    """A condition ready to be put to invoices: ``holds`` gives the value that met it, None when none did."""

    field: str
    words: str
    holds: Callable[[Seen], Value | None]


def condition_fault(condition: Condition) -> str:
    """Why ``condition`` cannot be used, in Polish; "" when it can."""
    known = field_of(condition.field)
    if known is None:
        return f"nieznane pole „{condition.field}”"
    if condition.field.startswith("xpath["):
        try:
            compile_path(condition.field[len("xpath[") : -1])
        except PathFault as problem:
            return f"pole „{condition.field}”: {problem}"
    if len(condition.values) > MAX_OPERANDS:
        return f"lista ma ponad {MAX_OPERANDS} wartości"
    if condition.operator == "present":
        return "" if condition.values in (("true",), ("false",)) else "„present” przyjmuje true albo false"
    if condition.operator == "between":
        return _range_fault(condition, known)
    if not condition.values or not all(condition.values):
        return "brak wartości do porównania"
    if condition.operator in ("equals", "matches") and len(condition.values) != 1:
        return f"„{condition.operator}” przyjmuje jedną wartość (dla kilku jest „in”)"
    if condition.operator == "matches":
        try:
            compiled(condition.values[0])
        except PatternFault as problem:
            return f"„matches”: {problem}"
        return ""
    return _operands_fault(condition, known)


def _range_fault(condition: Condition, known: Field) -> str:
    if known.sort not in ("number", "date"):
        return f"„between” nie pasuje do pola „{condition.field}” (tylko kwoty i daty)"
    if len(condition.values) != 2 or not any(condition.values):
        return "„between” przyjmuje dwie wartości: od i do"
    read: Callable[[str], object] = decimal_of if known.sort == "number" else date_of
    ends = [read(value) for value in condition.values if value]
    if None in ends:
        return f"„between”: „{condition.values[ends.index(None)]}” nie jest {_SORTS[known.sort]}"
    if len(ends) == 2 and known.sort == "date" and condition.values[0] > condition.values[1]:
        return "„between”: początek jest późniejszy niż koniec"
    if known.sort == "number" and len(ends) == 2 and Decimal(condition.values[0]) > Decimal(condition.values[1]):
        return "„between”: początek jest większy niż koniec"
    return ""


_SORTS = {"number": "liczbą", "date": "datą RRRR-MM-DD", "gln": "numerem GLN", "nip": "numerem NIP"}


def _operands_fault(condition: Condition, known: Field) -> str:
    if condition.operator == "contains" or known.sort in ("text", "reference"):
        empty = [value for value in condition.values if not key_of("text", value)]
        return f"„{empty[0]}” nie zawiera ani liter, ani cyfr" if empty else ""
    choices = _CHOICES.get(condition.field)
    for value in condition.values:
        wrong = (
            (known.sort == "gln" and gln_of(value) is None)
            or (known.sort == "nip" and not is_nip_shape(key_of("nip", value)))
            or (known.sort == "number" and decimal_of(value) is None)
            or (known.sort == "date" and date_of(value) is None)
        )
        if wrong:
            return f"„{value}” nie jest {_SORTS[known.sort]}"
        if choices is not None and value not in choices:
            return f"„{value}” nie jest żadnym z: {', '.join(choices)}"
    return ""


def words_of(condition: Condition) -> str:
    """The condition as a person would say it."""
    known = field_of(condition.field)
    name = known.polish if known else condition.field
    if condition.operator == "present":
        return f"{name}: {'podane' if condition.values == ('true',) else 'nie podane'}"
    if condition.operator == "between":
        low, high = condition.values
        return f"{name} {' '.join(part for part in (low and f'od {low}', high and f'do {high}') if part)}"
    shown = ", ".join(condition.values[:5]) + (f" … ({len(condition.values)})" if len(condition.values) > 5 else "")
    return f"{name} {_WORDS[condition.operator]}: {shown}"


def question_of(condition: Condition) -> Question:
    """The question of a condition that has no fault (see ``condition_fault``)."""
    known = field_of(condition.field)
    assert known is not None
    return Question(condition.field, words_of(condition), _holds(condition, known))


def _holds(condition: Condition, known: Field) -> Callable[[Seen], Value | None]:
    field, operands = condition.field, condition.values
    if condition.operator == "present":
        wanted = operands == ("true",)

        def present(seen: Seen) -> Value | None:
            values = seen.values(field)
            return (values[0] if values else _NOTHING) if bool(values) == wanted else None

        return present
    accepts = _accepts(condition, known)

    def any_of(seen: Seen) -> Value | None:
        for value in seen.values(field):
            if accepts(value):
                return value
        return None

    return any_of


def _accepts(condition: Condition, known: Field) -> Callable[[Value], bool]:
    operands = condition.values
    if condition.operator == "matches":
        regex = compiled(operands[0])
        return lambda value: found(regex, value.text)
    if condition.operator == "contains":
        parts = tuple(key_of("text", operand) for operand in operands)
        return lambda value: any(part in key_of("text", value.text) for part in parts)
    if condition.operator == "between":
        if known.sort == "date":
            first, last = operands[0] or "0000", operands[1] or "9999"
            return lambda value: first <= value.key <= last
        low = decimal_of(operands[0] or None)
        high = decimal_of(operands[1] or None)
        return lambda value: _within(decimal_of(value.key), low, high)
    if known.sort == "number":
        numbers = {decimal_of(operand) for operand in operands}
        return lambda value: decimal_of(value.key) in numbers
    keys = frozenset(_keys(condition.field, known.sort, operands))
    if known.sort == "reference":
        digits = frozenset(filter(None, (digits_form(exact_form(operand)) for operand in operands)))
        return lambda value: value.key in keys or digits_form(exact_form(value.text)) in digits
    if condition.field == "store":
        return lambda value: store_key(value.text) in keys
    return lambda value: value.key in keys


def _keys(field: str, sort: str, operands: Iterable[str]) -> Iterable[str]:
    if field == "store":
        return (store_key(operand) for operand in operands)
    if sort == "gln":
        return (known[0] for operand in operands if (known := gln_of(operand)))
    if sort == "reference":
        return (exact_form(operand).casefold() for operand in operands)
    return (key_of(sort, operand) for operand in operands)


def _within(number: Decimal | None, low: Decimal | None, high: Decimal | None) -> bool:
    return number is not None and (low is None or low <= number) and (high is None or number <= high)
