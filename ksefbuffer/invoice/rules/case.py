"""What a rule looks at, and how it says what it found."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal, InvalidOperation

from lxml import etree

from ..document import Fields, InvoiceHeader
from ..findings import Finding, Severity
from ..reading import line_of, local_name

ZERO = Decimal()
CENT = Decimal("0.01")


@dataclass
class Case:
    """One document under the rules. ``text`` is the whole document, decoded; ``today`` is the Polish day of ``now``;
    ``fields`` are those of the whole document below the root, ``fa`` those of Fa."""

    root: etree._Element
    fields: Fields
    header: InvoiceHeader
    text: str
    now: datetime
    today: date
    environment: str
    fa: Fields = field(init=False)
    kind: str = field(init=False)
    rows: list[Fields] = field(init=False)

    def __post_init__(self) -> None:
        self.fa = self.fields.get("Fa", {})
        self.kind = self.header.invoice_type or ""
        self.rows = self.fa.get("FaWiersz", [])

    @property
    def corrects(self) -> bool:
        return self.kind.startswith("KOR")

    @property
    def seller(self) -> Fields:
        return self._fields("Podmiot1")

    @property
    def buyer(self) -> Fields:
        return self._fields("Podmiot2")

    @property
    def buyer_id(self) -> Fields:
        found: Fields = self.buyer.get("DaneIdentyfikacyjne", {})
        return found

    @property
    def third_parties(self) -> list[Fields]:
        found: list[Fields] = self.fields.get("Podmiot3", [])
        return found

    @property
    def annotations(self) -> Fields:
        found: Fields = self.fa.get("Adnotacje", {})
        return found

    def _fields(self, name: str) -> Fields:
        found: Fields = self.fields.get(name, {})
        return found

    def block(self, code: str, message: str, hint: str, path: str | None = None) -> Finding:
        return self._finding(code, message, hint, path, Severity.BLOCK)

    def warn(self, code: str, message: str, hint: str, path: str | None = None) -> Finding:
        return self._finding(code, message, hint, path, Severity.WARN)

    def note(self, code: str, message: str, hint: str, path: str | None = None) -> Finding:
        return self._finding(code, message, hint, path, Severity.NOTE)

    def _finding(self, code: str, message: str, hint: str, path: str | None, severity: Severity) -> Finding:
        line = self.line_at(path) if path else None
        return Finding(code, message, hint, severity, line=line, field=path)

    def line_at(self, path: str) -> int | None:
        """The line of the deepest element of ``path`` ("Fa/FaWiersz[2]/P_12") that is there."""
        node = self.root
        for step in path.split("/"):
            name, _, index = step.rstrip("]").partition("[")
            place = int(index) - 1 if index else 0
            for child in node:
                if local_name(child) == name:
                    if place == 0:
                        node = child
                        break
                    place -= 1
            else:
                break
        return line_of(node) if node is not self.root else None

    def row_path(self, index: int, name: str = "", parent: str = "Fa/FaWiersz") -> str:
        """The path of the row with this index (from 0), or of its field; an index is told only where there are more."""
        several = len(self.rows) > 1 if parent == "Fa/FaWiersz" else True
        path = f"{parent}[{index + 1}]" if several else parent
        return f"{path}/{name}" if name else path


def number(fields: Fields, name: str) -> Decimal | None:
    """The decimal of a leaf of a document that the schema accepts; None when absent."""
    text: str | None = fields.get(name)
    if text is None:
        return None
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


def flag(fields: Fields, name: str) -> bool:
    """Whether a choice field says "1"."""
    return bool(fields.get(name, "").strip() == "1")


def row_number(row: Fields, name: str = "NrWierszaFa") -> str:
    """The row's own number as people know it."""
    return str(row.get(name, "")).strip()


def in_polish(amount: Decimal) -> str:
    """An amount as people write it: decimal comma, thousands apart, two places at least."""
    places = max(2, -int(amount.normalize().as_tuple().exponent)) if amount else 2
    return f"{amount:,.{places}f}".replace(",", "\u00a0").replace(".", ",")
