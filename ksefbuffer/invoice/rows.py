"""Elements of a received invoice, indexed a level at a time when asked, by local name.

Paths are local names from below the element, in any namespace: ``DodatkowyOpis/Wartosc``. Texts are collapsed as XSD
does; an empty text counts as none.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from lxml import etree

from .identifiers import collapse
from .paths import Path, Step

MAX_FOUND = 10_000  # A single look-up gives no more than this; no invoice that people read has so many of a thing.

_NAMES: dict[object, str] = {}
_NO_ELEMENTS: list[etree._Element] = []


class Row:
    """One element and what is below it, indexed a level at a time when asked."""

    __slots__ = ("_element", "_index", "_rows")

    def __init__(self, element: etree._Element | None) -> None:
        self._element = element
        self._index: dict[str, list[etree._Element]] | None = None
        self._rows: dict[str, list[Row]] = {}

    def __repr__(self) -> str:
        return f"Row({self.name!r})"

    @property
    def name(self) -> str:
        """The element's local name; "" for nothing."""
        return "" if self._element is None else _name_of(self._element)

    @property
    def text(self) -> str:
        """The element's own text, collapsed."""
        return "" if self._element is None else collapse(self._element.text or "")

    def values(self, path: str) -> list[str]:
        """The texts at ``path``, in the document's order, without empty ones."""
        *steps, last = _split(path)
        rows = [self]
        for step in steps:
            rows = [below for row in rows for below in row._children(step)]
        texts = [collapse(element.text or "") for row in rows for element in row._elements(last)[:MAX_FOUND]]
        return [text for text in texts if text]

    def first(self, path: str) -> str:
        """The first text at ``path``; "" when there is none."""
        # Nearly all that is asked for is one level down.
        if "/" in path:
            found = self.values(path)
            return found[0] if found else ""
        for element in self._elements(path):
            text = element.text
            if text and (text := collapse(text)):
                return text
        return ""

    def rows(self, path: str) -> list[Row]:
        """The elements at ``path``, in the document's order, empty ones too."""
        rows = [self]
        for step in _split(path):
            rows = [below for row in rows for below in row._children(step)]
        return rows[:MAX_FOUND]

    def has(self, path: str) -> bool:
        """Whether there is an element at ``path``, empty or not."""
        return bool(self.rows(path))

    def attribute(self, name: str) -> str:
        """The attribute of that local name; "" when there is none."""
        if self._element is not None:
            for key, value in self._element.items():
                if str(key).rpartition("}")[2] == name:
                    return collapse(str(value))
        return ""

    def children(self) -> list[Row]:
        """All the elements one level below."""
        self._elements("")
        return [row for name in self._index or () for row in self._children(name)]

    def below(self, name: str) -> Iterator[Row]:
        """All elements of that local name at any depth below; of every name for ``*``."""
        if self._element is None:
            return
        found = self._element.iterdescendants("*" if name == "*" else "{*}" + name)
        for count, element in enumerate(found):
            if count >= MAX_FOUND:
                return
            yield Row(element)

    def said(self, left_out: frozenset[str], max_depth: int) -> list[str]:
        """Depth, name and text of this element and of every one below, in order, but for branches whose name is left
        out."""
        found: list[str] = []
        if self._element is not None:
            _say(self._element, self.name, 0, left_out, max_depth, found)
        return found

    def _elements(self, name: str) -> list[etree._Element]:
        index = self._index
        if index is None:
            index = self._indexed()
        return index.get(name, _NO_ELEMENTS)

    def _indexed(self) -> dict[str, list[etree._Element]]:
        index: dict[str, list[etree._Element]] = {}
        for child in () if self._element is None else self._element:
            name = _NAMES.get(child.tag) or _name_of(child)
            if name in index:
                index[name].append(child)
            else:
                index[name] = [child]
        self._index = index
        return index

    def _children(self, name: str) -> list[Row]:
        rows = self._rows.get(name)
        if rows is None:
            rows = self._rows[name] = [Row(element) for element in self._elements(name)]
        return rows


def _say(
    element: etree._Element, name: str, depth: int, left_out: frozenset[str], max_depth: int, found: list[str]
) -> None:
    text = element.text
    found.append(f"{depth}{name}={collapse(text) if text else ''}")
    if depth == max_depth:
        return
    for child in element:
        below = _NAMES.get(child.tag) or _name_of(child)
        if below and below not in left_out:
            _say(child, below, depth + 1, left_out, max_depth, found)


NOTHING = Row(None)


def find(root: Row, path: Path) -> list[str]:
    """The texts at a compiled path below ``root``, without empty ones."""
    rows = [root]
    for step in path.steps:
        rows = _step(rows, step)[:MAX_FOUND]
        if not rows:
            return []
    texts = [row.attribute(path.attribute) if path.attribute else row.text for row in rows]
    return [text for text in texts if text]


def _step(rows: list[Row], step: Step) -> list[Row]:
    found: list[Row] = []
    for row in rows:
        if step.anywhere:
            below = list(row.below(step.name))
        else:
            below = row.children() if step.name == "*" else row.rows(step.name)
        for condition in step.filters:
            if condition.position:
                below = below[condition.position - 1 : condition.position]
            else:
                below = [one for one in below if condition.holds(one.values(condition.name))]
        found.extend(below)
        if len(found) >= MAX_FOUND:
            break
    return found


@lru_cache(maxsize=2048)
def _split(path: str) -> tuple[str, ...]:
    return tuple(path.strip("/").split("/"))


def _name_of(element: etree._Element) -> str:
    tag: Any = element.tag
    if not isinstance(tag, str):
        return ""
    name = tag.rpartition("}")[2]
    # The names of all forms together are some hundreds; more than this comes from documents that are no invoices.
    if len(_NAMES) < 5000:
        _NAMES[tag] = name
    return name
