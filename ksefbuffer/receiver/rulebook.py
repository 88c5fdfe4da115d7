"""A rulebook as TOML: ``read_rulebook`` and ``write_rulebook`` undo each other.

Everything wrong is told at once, with the section and, where the text tells it, the line; unknown keys are faults that
name the nearest known one. Source: CONTRACT §7; the sections are those of ``shapes``.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from datetime import date
from typing import Any, Literal, cast, get_args

from ..errors import ConfigurationFault
from ..invoice.document import date_of
from ..invoice.identifiers import is_nip
from ..invoice.places import BUILT_IN, GROUPS, Vocabulary, gln_of, key_name
from .conditions import condition_fault
from .folders import folder_fault
from .patterns import PatternFault, compiled
from .seen import FIELDS
from .shapes import Catalogue, Company, Condition, Operator, Rule, Rulebook, Strength, Supplier
from .storelist import clashes, store_faults
from .stores import Store, StoreRegister
from .targets import target_fault
from .writing import write_rulebook

__all__ = ["RulebookFault", "default_rulebook", "read_rulebook", "write_rulebook"]

MAX_BYTES = 8_000_000
MAX_SHOWN = 50

OPERATORS: tuple[Operator, ...] = get_args(Operator)
STRENGTHS: tuple[Strength, ...] = get_args(Strength)
_CHECK_CODE = re.compile(r"Z(?:0[1-9]|[1-4]\d|5[0-7])")
_MODE = re.compile(r"0?[0-7]{3}")
_GROUP = re.compile(r"[A-Za-z_][A-Za-z0-9_.@\\ -]{0,63}")
_IDWEW = re.compile(r"\d{10}-\d{5}")
_SECTIONS = ("catalogue", "rule", "store", "company", "supplier", "checks", "vocabulary")
_LISTS = ("catalogue", "rule", "store", "supplier")
_POLISH = {"catalogue": "Katalog", "rule": "Reguła", "store": "Sklep", "supplier": "Dostawca"}


class RulebookFault(ConfigurationFault):
    """The rulebook cannot be taken; ``faults`` names every one, in Polish."""

    def __init__(self, faults: list[str]) -> None:
        more = f"\n… i jeszcze {len(faults) - MAX_SHOWN}." if len(faults) > MAX_SHOWN else ""
        super().__init__(
            "Nie można wczytać reguł:\n" + "\n".join(faults[:MAX_SHOWN]) + more,
            action="Popraw wskazane miejsca i wczytaj plik jeszcze raz; nic nie zostało zmienione.",
        )
        self.faults = tuple(faults)


def read_rulebook(text: str) -> Rulebook:
    """The rulebook that ``text`` (TOML) describes. Raises RulebookFault with all faults."""
    if len(text) > MAX_BYTES:
        raise RulebookFault([f"Plik ma ponad {MAX_BYTES // 1_000_000} MB."])
    try:
        document = tomllib.loads(text.removeprefix("\ufeff"))
    except (tomllib.TOMLDecodeError, RecursionError) as problem:
        raise RulebookFault([f"To nie jest poprawny TOML: {problem}."]) from problem
    return _Reader(document, _lines(text)).rulebook()


def default_rulebook() -> Rulebook:
    """What counts while none was taken in: everything goes where nothing else matched."""
    return Rulebook()


def _lines(text: str) -> dict[tuple[str, int], int]:
    """The line of each ``[[section]]``, by section and number from 1."""
    found: dict[tuple[str, int], int] = {}
    counts: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        heading = re.match(r"\s*\[\[\s*(\w+)\s*\]\]", line)
        if heading:
            counts[heading[1]] = counts.get(heading[1], 0) + 1
            found[heading[1], counts[heading[1]]] = number
    return found


class _Table:
    """One table being read: what was asked for is known, the rest is a fault."""

    def __init__(self, values: Mapping[str, Any], name: str, faults: list[str]) -> None:
        self.values = values
        self.name = name
        self.faults = faults
        self.known: list[str] = []

    def fault(self, text: str) -> None:
        self.faults.append(f"{self.name}: {text}.")

    def text(self, key: str, *, required: bool = False) -> str:
        value = self._get(key)
        if value is None or isinstance(value, str):
            if required and not value:
                self.fault(f"brak „{key}”")
            return value or ""
        self.fault(f"„{key}” musi być tekstem w cudzysłowie")
        return ""

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._get(key)
        if value is None:
            return ()
        if isinstance(value, str):
            return (value,)
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            return tuple(value)
        self.fault(f"„{key}” musi być listą tekstów w cudzysłowie")
        return ()

    def flag(self, key: str, default: bool = False) -> bool:
        value = self._get(key)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        self.fault(f"„{key}” może być tylko true albo false")
        return default

    def number(self, key: str, low: int, high: int) -> int | None:
        value = self._get(key)
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        self.fault(f"„{key}” musi być liczbą od {low} do {high}")
        return None

    def day(self, key: str) -> date | None:
        value = self._get(key)
        if isinstance(value, str):
            value = date_of(value) or value
        if value is None or type(value) is date:
            return value
        self.fault(f"„{key}” musi być datą RRRR-MM-DD")
        return None

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        value = self.text(key)
        # An empty word is as wrong as any other; only an absent key means the first choice.
        if key not in self.values:
            value = choices[0]
        if value not in choices:
            self.fault(f"„{key}” może być tylko jednym z: {', '.join(f'„{one}”' for one in choices)}")
            return choices[0]
        return value

    def tables(self, key: str) -> list[Mapping[str, Any]]:
        value = self._get(key)
        if value is None:
            return []
        if isinstance(value, list) and all(isinstance(one, dict) for one in value):
            return value
        self.fault(f"„{key}” musi być listą tabel")
        return []

    def done(self) -> None:
        for key in self.values:
            if key not in self.known:
                self.fault(f"nieznany klucz „{key}”{_nearest(key, self.known)}")

    def _get(self, key: str) -> Any:
        self.known.append(key)
        return self.values.get(key)


def _nearest(key: str, known: list[str] | tuple[str, ...]) -> str:
    near = difflib.get_close_matches(key, known, 1, 0.5)
    return f"; najbliższy znany: „{near[0]}”" if near else f"; znane: {', '.join(known)}"


class _Reader:
    def __init__(self, document: dict[str, Any], lines: dict[tuple[str, int], int]) -> None:
        self.document = document
        self.lines = lines
        self.faults: list[str] = []

    def rulebook(self) -> Rulebook:
        for key in self.document:
            if key not in _SECTIONS:
                self.faults.append(f"Nieznana sekcja „{key}”{_nearest(key, _SECTIONS)}.")
        catalogues = tuple(map(self._catalogue, self._tables("catalogue")))
        self._repeated(_LISTS[0], [catalogue.path for catalogue in catalogues])
        rules = tuple(map(self._rule, self._tables("rule"))) if "rule" in self.document else Rulebook().rules
        self._repeated("rule", [rule.name for rule in rules])
        stores = tuple(map(self._store, self._tables("store")))
        self.faults.extend(
            f"{self._name('store', index + 1, stores[index].number)}: {fault}."
            for index, fault in clashes(list(stores))
        )
        suppliers = tuple(map(self._supplier, self._tables("supplier")))
        self._repeated("supplier", [supplier.nip for supplier in suppliers])
        company = self._company()
        checks = self._checks()
        vocabulary = self._vocabulary()
        if self.faults:
            raise RulebookFault(self.faults)
        register = StoreRegister(stores, company.headquarters, company.glns)
        return Rulebook(catalogues, rules, register, company, suppliers, checks, vocabulary)

    def _tables(self, section: str) -> list[_Table]:
        value = self.document.get(section, [])
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            self.faults.append(f"Sekcja „{section}” musi być zapisana jako [[{section}]].")
            return []
        label = {"catalogue": "path", "rule": "name", "store": "number", "supplier": "nip"}[section]
        return [
            _Table(one, self._name(section, number, str(one.get(label, ""))), self.faults)
            for number, one in enumerate(value, 1)
        ]

    def _table(self, section: str) -> _Table:
        value = self.document.get(section, {})
        if not isinstance(value, dict):
            self.faults.append(f"Sekcja „{section}” musi być zapisana jako [{section}].")
            value = {}
        return _Table(value, f"Sekcja [{section}]", self.faults)

    def _name(self, section: str, number: int, label: str) -> str:
        line = self.lines.get((section, number))
        shown = f"„{label[:60]}”" if label else f"nr {number}"
        return f"{_POLISH[section]} {shown}" + (f" (wiersz {line})" if line else "")

    def _repeated(self, section: str, labels: list[str]) -> None:
        for number, label in enumerate(labels, 1):
            if label and label in labels[: number - 1]:
                self.faults.append(f"{self._name(section, number, label)}: ta nazwa już wystąpiła.")

    def _catalogue(self, table: _Table) -> Catalogue:
        path = table.text("path", required=True)
        if path and (fault := folder_fault(path)):
            table.fault(fault)
        group = table.text("group")
        if group and _GROUP.fullmatch(group) is None:
            table.fault(f"„{group}” nie jest nazwą grupy")
        mode = table.text("mode")
        if mode and (_MODE.fullmatch(mode) is None or int(mode, 8) & 0o113):
            table.fault(
                f"„mode” „{mode}” nie jest prawem do plików, np. „0640” (bez wykonywania i bez zapisu przez innych)"
            )
        found = Catalogue(path, group, mode, table.text("description"))
        table.done()
        return found

    def _rule(self, table: _Table) -> Rule:
        name = table.text("name", required=True)
        conditions = tuple(
            condition
            for number, values in enumerate(table.tables("when"), 1)
            if (condition := self._condition(_Table(values, f"{table.name}, warunek {number}", self.faults)))
            is not None
        )
        target = table.text("target")
        if target and (fault := target_fault(target)):
            table.fault(f"„target”: {fault}")
        tags = table.texts("tags")
        if not target and not tags:
            table.fault("reguła nie ma ani „target”, ani „tags”, więc nic by nie robiła")
        if any(not tag.strip() or len(tag) > 60 for tag in tags):
            table.fault("znacznik w „tags” jest pusty albo ma ponad 60 znaków")
        then = cast(Literal["stop", "continue"], table.choice("then", ("stop", "continue")))
        found = Rule(name, conditions, target, tags, then, table.flag("enabled", True))
        table.done()
        return found

    def _condition(self, table: _Table) -> Condition | None:
        field = table.text("field", required=True)
        given = [operator for operator in OPERATORS if operator in table.values]
        values: dict[str, tuple[str, ...]] = {operator: _operands(table, operator) for operator in OPERATORS}
        table.done()
        if len(given) != 1:
            table.fault(f"potrzebny jest dokładnie jeden operator z: {', '.join(OPERATORS)}")
            return None
        condition = Condition(field, given[0], values[given[0]])
        fault = condition_fault(condition) if field else ""
        if fault:
            table.fault(fault + (_nearest_field(field) if fault.startswith("nieznane pole") else ""))
            return None
        return condition

    def _store(self, table: _Table) -> Store:
        glns = tuple(known[0] if (known := gln_of(gln)) else gln for gln in table.texts("gln"))
        found = Store(
            table.text("number"),
            table.text("name"),
            glns,
            table.texts("address"),
            table.texts("idwew"),
            table.day("open_from"),
            table.day("open_to"),
            table.text("catalogue"),
        )
        for fault in store_faults(found):
            table.fault(fault)
        table.done()
        return found

    def _company(self) -> Company:
        table = self._table("company")
        usual = Company()
        found = Company(
            table.texts("nips"),
            table.texts("names"),
            table.texts("headquarters"),
            table.texts("addresses"),
            tuple(known[0] if (known := gln_of(gln)) else gln for gln in table.texts("glns")),
            table.texts("idwews"),
            tuple(host.lower() for host in table.texts("payment_hosts")),
            usual.late_days if (days := table.number("late_days", 0, 3650)) is None else days,
            usual.old_delivery_months if (months := table.number("old_delivery_months", 0, 120)) is None else months,
        )
        for nip in found.nips:
            if not is_nip(nip):
                table.fault(f"„{nip}” nie jest numerem NIP")
        for gln in found.glns:
            if gln_of(gln) is None:
                table.fault(f"„{gln}” nie jest numerem GLN")
        for idwew in found.idwews:
            if _IDWEW.fullmatch(idwew) is None:
                table.fault(f"„{idwew}” nie jest identyfikatorem wewnętrznym (NIP-NNNNN)")
        table.done()
        return found

    def _supplier(self, table: _Table) -> Supplier:
        found = Supplier(
            table.text("nip", required=True),
            table.text("name"),
            table.texts("accounts"),
            table.text("order_pattern"),
            table.flag("order_required"),
            table.flag("delivery_required"),
            table.flag("store_supplier"),
            table.flag("self_invoicing"),
            table.texts("factors"),
            table.flag("related"),
            table.flag("blocked"),
            table.number("payment_days", 0, 3650),
            cast(Literal["", "towar", "koszt"], table.choice("kind", ("", "towar", "koszt"))),
        )
        # A seller may be foreign: then its number is whatever it is, but a wrong Polish one is a slip.
        for nip in (found.nip, *found.factors):
            if len(nip) == 10 and nip.isdecimal() and not is_nip(nip):
                table.fault(f"„{nip}” nie jest numerem NIP (cyfra kontrolna)")
        if found.order_pattern:
            try:
                compiled(found.order_pattern)
            except PatternFault as problem:
                table.fault(f"„order_pattern”: {problem}")
        table.done()
        return found

    def _checks(self) -> dict[str, Strength]:
        table = self._table("checks")
        found: dict[str, Strength] = {}
        for code, strength in table.values.items():
            if _CHECK_CODE.fullmatch(code) is None:
                table.fault(f"nieznana kontrola „{code}” (Z01–Z57)")
            elif strength not in STRENGTHS:
                table.fault(f"kontrola {code} może mieć tylko: {', '.join(STRENGTHS)}")
            else:
                found[code] = strength
        return found

    def _vocabulary(self) -> Vocabulary:
        table = self._table("vocabulary")
        more = {group: table.texts(group) for group in GROUPS}
        for group, keys in more.items():
            if not all(map(key_name, keys)):
                table.fault(f"„{group}” zawiera pustą nazwę")
        table.done()
        return BUILT_IN.extended(more)


def _nearest_field(field: str) -> str:
    return _nearest(field, (*FIELDS, "extra[klucz]", "xpath[ścieżka]"))


def _operands(table: _Table, operator: str) -> tuple[str, ...]:
    """The operands as text, whether written as text, number, date or truth."""
    table.known.append(operator)
    value = table.values.get(operator)
    values = value if isinstance(value, list) else [] if value is None else [value]
    if any(isinstance(one, dict | list) for one in values):
        table.fault(f"„{operator}” ma złą wartość")
        return ()
    return tuple(("true" if one else "false") if isinstance(one, bool) else str(one).strip() for one in values)
