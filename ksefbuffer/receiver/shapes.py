"""What a rulebook is made of. Plain values: read from TOML by ``rulebook``, applied by ``rules`` and ``verdict``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..invoice.places import BUILT_IN, Vocabulary
from .stores import StoreRegister

UNMATCHED = "nieprzypisane"

Operator = Literal["equals", "in", "contains", "matches", "between", "present"]
Strength = Literal["off", "note", "warning", "error"]


@dataclass(frozen=True)
class Catalogue:
    """A folder under the incoming one, and who may read it: ``group`` of the file system ("" as it comes), ``mode`` of
    its files as octal digits ("0640", "" as it comes). What is below it inherits both."""

    path: str
    group: str = ""
    mode: str = ""
    description: str = ""


@dataclass(frozen=True)
class Condition:
    """One test: ``values`` are the operator's operands as text (two for between, where "" is open; "true" or "false"
    for present, one or more else)."""

    field: str
    operator: Operator
    values: tuple[str, ...]


@dataclass(frozen=True)
class Rule:
    """All conditions must hold. ``target`` is a catalogue's path, may hold placeholders, "" only tags; ``then`` says
    whether the rules behind it are still asked (for their tags, and for a target if there is none yet)."""

    name: str
    conditions: tuple[Condition, ...] = ()
    target: str = ""
    tags: tuple[str, ...] = ()
    then: Literal["stop", "continue"] = "stop"
    enabled: bool = True


@dataclass(frozen=True)
class Company:
    """Who we are: further NIPs (of a VAT group), our names as they may stand on an invoice, the head office, former or
    other addresses ("ul. Prosta 1, 00-001 Warszawa"), the head office's GLNs and our internal identifiers; hosts to
    which payment links may lead; from how many days an invoice counts as late, from how many months a delivery as
    old."""

    nips: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    headquarters: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    glns: tuple[str, ...] = ()
    idwews: tuple[str, ...] = ()
    payment_hosts: tuple[str, ...] = ()
    late_days: int = 7
    old_delivery_months: int = 6


@dataclass(frozen=True)
class Supplier:
    """A seller we know. ``order_pattern`` is a regular expression that its order numbers must match; ``store_supplier``
    says it delivers to stores; ``factors`` are NIPs to which it may assign its claims; ``payment_days`` the agreed
    term; ``kind`` is "towar", "koszt" or ""."""

    nip: str
    name: str = ""
    accounts: tuple[str, ...] = ()
    order_pattern: str = ""
    order_required: bool = False
    delivery_required: bool = False
    store_supplier: bool = False
    self_invoicing: bool = False
    factors: tuple[str, ...] = ()
    related: bool = False
    blocked: bool = False
    payment_days: int | None = None
    kind: Literal["", "towar", "koszt"] = ""


@dataclass(frozen=True)
class Rulebook:
    """Everything that decides where an invoice goes. Two of them are equal when they would be written the same."""

    catalogues: tuple[Catalogue, ...] = ()
    rules: tuple[Rule, ...] = (Rule("pozostałe", target=UNMATCHED),)
    stores: StoreRegister = field(default_factory=StoreRegister)
    company: Company = Company()
    suppliers: tuple[Supplier, ...] = ()
    checks: Mapping[str, Strength] = field(default_factory=dict)
    vocabulary: Vocabulary = BUILT_IN
    # What is worked out of the above once, by whom it concerns.
    memo: dict[str, Any] = field(default_factory=dict, init=False, compare=False, repr=False)

    def catalogue_of(self, folder: str) -> Catalogue | None:
        """The nearest catalogue that ``folder`` is or lies in; None when there is none."""
        at = folder
        known = {catalogue.path: catalogue for catalogue in self.catalogues}
        while at:
            if at in known:
                return known[at]
            at = at.rpartition("/")[0]
        return None

    def supplier(self, nip: str) -> Supplier | None:
        """The supplier of that NIP."""
        known = self.memo.get("suppliers")
        if known is None:
            known = self.memo["suppliers"] = {supplier.nip: supplier for supplier in self.suppliers}
        found: Supplier | None = known.get(nip)
        return found
