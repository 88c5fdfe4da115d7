"""Reading of JSON bodies: every mistake is collected and names its field. Source: FACTS §1.4, §1.5 (21001, 21405)."""

from __future__ import annotations

import binascii
import json
from base64 import b64decode
from collections.abc import Collection
from decimal import Decimal
from typing import Any

from .instants import read_ticks
from .wire import Request, invalid, unreadable


class Fields:
    """A JSON object being read. Call ``finish`` at the end: it raises 21405 with all that was found wrong."""

    def __init__(self, content: dict[str, Any], *, prefix: str = "", root: Fields | None = None) -> None:
        self._content = content
        self._prefix = prefix
        self._known: set[str] = set()
        self._root = root or self
        self._children: list[Fields] = []
        self.mistakes: list[str] = []

    def _take(self, name: str, *, required: bool) -> Any:
        self._known.add(name)
        value = self._content.get(name)
        if value is None and required:
            self.wrong(name, "jest wymagane")
        return value

    def wrong(self, name: str, complaint: str) -> None:
        """Notes that a field is wrong; ``complaint`` is Polish and continues the field's name."""
        self._root.mistakes.append(f"Pole '{self._prefix}{name}' {complaint}.")

    def text(
        self, name: str, *, required: bool = True, length: int | None = None, limit: int | None = None,
        among: Collection[str] | None = None,
    ) -> str:  # fmt: skip
        """Text of exactly ``length`` or at most ``limit`` characters, or one of ``among``; "" when absent."""
        value = self._take(name, required=required)
        if value is None:
            return ""
        if not isinstance(value, str):
            self.wrong(name, "musi być tekstem")
            return ""
        if required and not value:
            self.wrong(name, "nie może być puste")
        if length is not None and len(value) != length:
            self.wrong(name, f"musi mieć {length} znaków")
        if limit is not None and len(value) > limit:
            self.wrong(name, f"może mieć najwyżej {limit} znaków")
        if among is not None and value not in among:
            self.wrong(name, f"musi być jedną z wartości: {', '.join(among)}")
        return str(value)

    def data(self, name: str, *, required: bool = True, size: int | None = None) -> bytes | None:
        """Standard padded Base64, of exactly ``size`` bytes when given; None when absent or wrong."""
        text = self.text(name, required=required)
        if not text:
            return None
        try:
            value = b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            self.wrong(name, "nie jest poprawnym Base64")
            return None
        if size is not None and len(value) != size:
            self.wrong(name, f"musi mieć {size} bajtów")
            return None
        return value

    def digest(self, name: str, *, required: bool = True) -> str:
        """A SHA-256 in Base64 (44 characters), as text; "" when absent or wrong."""
        value = self.data(name, required=required, size=32)
        return "" if value is None else str(self._content[name])

    def count(self, name: str, *, least: int = 1) -> int:
        value = self._take(name, required=True)
        if value is None:
            return 0
        if isinstance(value, bool) or not isinstance(value, int):
            self.wrong(name, "musi być liczbą całkowitą")
            return 0
        if value < least:
            self.wrong(name, f"musi wynosić co najmniej {least}")
        return value

    def amount(self, name: str) -> Decimal | None:
        """An optional number."""
        value = self._take(name, required=False)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            self.wrong(name, "musi być liczbą")
            return None
        return None if value is None else Decimal(str(value))

    def flag(self, name: str) -> bool | None:
        """True or false; None when absent."""
        value = self._take(name, required=False)
        if value is not None and not isinstance(value, bool):
            self.wrong(name, "musi być wartością logiczną")
            return None
        return value

    def instant(self, name: str, *, required: bool = True) -> int | None:
        """A date-time in units of 100 ns; one without offset is taken as Polish time, as KSeF does (FACTS §7.1)."""
        text = self.text(name, required=required)
        if not text:
            return None
        try:
            return read_ticks(text)
        except ValueError:
            self.wrong(name, "nie jest poprawną datą i godziną")
            return None

    def texts(self, name: str) -> list[str]:
        """An optional list of texts."""
        value = self._take(name, required=False)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.wrong(name, "musi być listą tekstów")
            return []
        return value

    def inside(self, name: str, *, required: bool = True) -> Fields | None:
        """A nested object."""
        value = self._take(name, required=required)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.wrong(name, "musi być obiektem")
            return None
        child = Fields(value, prefix=f"{self._prefix}{name}.", root=self._root)
        self._root._children.append(child)
        return child

    def objects(self, name: str) -> list[Fields]:
        """A list of one or more nested objects."""
        value = self._take(name, required=True)
        if value is None:
            return []
        if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
            self.wrong(name, "musi być niepustą listą obiektów")
            return []
        children = [
            Fields(item, prefix=f"{self._prefix}{name}[{index}].", root=self._root) for index, item in enumerate(value)
        ]
        self._root._children.extend(children)
        return children

    def finish(self) -> list[str]:
        """Raises 21405 when anything was wrong; returns the names of fields that KSeF does not know."""
        if self.mistakes:
            raise invalid(*self.mistakes)
        parts = (self, *self._children)
        return [f"{part._prefix}{name}" for part in parts for name in part._content if name not in part._known]


def read_json(request: Request) -> Fields:
    """The body as an object. Raises 21001 when it is not JSON at all, or not an object."""
    try:
        content = json.loads(request.body.decode("utf-8"))
    except (ValueError, RecursionError) as fault:
        raise unreadable("Treść żądania nie jest poprawnym dokumentem JSON.") from fault
    if not isinstance(content, dict):
        raise unreadable("Treść żądania musi być obiektem JSON.")
    return Fields(content)
