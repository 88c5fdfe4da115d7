"""The invoice as a tree that remembers which of its texts went onto the page, so that none is left out unseen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lxml import etree

from .legible import legible, one_line

MAX_DEPTH = 100
MAX_TEXT = 20_000  # Characters; the longest text of FA(3) has 3,500.


class Node:
    """One element. Asking for a text takes it: what was never asked for is found by ``left``.

    Names are local names, in any namespace; ``raw`` is the text as written, made legible, with its line breaks.
    """

    __slots__ = ("attributes", "children", "name", "raw", "taken")

    def __init__(self, name: str, raw: str = "", attributes: dict[str, str] | None = None) -> None:
        self.name = name
        self.raw = raw
        self.attributes = attributes or {}
        self.children: list[Node] = []
        self.taken = False

    def __repr__(self) -> str:
        return f"Node({self.name!r})"

    def own(self) -> str:
        """This element's own text, collapsed; takes it."""
        self.taken = True
        return one_line(self.raw)

    def take(self, path: str) -> str:
        """The first text at ``path`` ("Adres/KodKraju"), collapsed, "" when there is none; takes it and no other."""
        name, _, rest = path.partition("/")
        for child in self.children:
            if child.name == name:
                found = child.take(rest) if rest else child.own()
                if found:
                    return found
        return ""

    def look(self, path: str) -> str:
        """The first text at ``path``, collapsed, without taking it."""
        name, _, rest = path.partition("/")
        for child in self.children:
            if child.name == name:
                found = child.look(rest) if rest else one_line(child.raw)
                if found:
                    return found
        return ""

    def each(self, name: str) -> list[Node]:
        """The elements of that name, one level below."""
        return [child for child in self.children if child.name == name]

    def one(self, path: str) -> Node:
        """The first element at ``path``; an empty one, that is in no tree, when there is none."""
        node = self
        for name in path.split("/"):
            found = next((child for child in node.children if child.name == name), None)
            if found is None:
                return Node(name)
            node = found
        return node

    def nearest(self, name: str) -> Node | None:
        """The element of that name that is least deep below; None when there is none."""
        level = self.children
        while level:
            found = next((node for node in level if node.name == name), None)
            if found is not None:
                return found
            level = [child for node in level for child in node.children]
        return None

    def texts(self, name: str) -> list[str]:
        """All texts of that name, one level below; takes them."""
        return [text for child in self.each(name) if (text := child.own())]

    def flag(self, name: str, no: str = "2") -> bool:
        """Whether the mark ``name`` is set to "1". Set or plainly unset (``no``) it is taken: its words, or nothing,
        stand on the page; any other value is left for ``left``."""
        for child in self.each(name):
            value = one_line(child.raw)
            if value == "1":
                child.taken = True
                return True
            if value == no:
                child.taken = True
        return False

    def left(self, path: tuple[Node, ...] = ()) -> Iterator[tuple[tuple[Node, ...], str]]:
        """(path from here, text) of everything that carries text and was never taken, in order."""
        here = (*path, self)
        text = "" if self.taken else one_line(self.raw)
        if text:
            yield here, text
        for child in self.children:
            yield from child.left(here)


def tree_of(root: etree._Element) -> Node:
    """The tree below ``root``. What is nested deeper than MAX_DEPTH joins the text of its last ancestor kept."""
    return _node(root, 0)


def _node(element: etree._Element, depth: int) -> Node:
    children: list[Any] = [child for child in element if isinstance(child.tag, str)]
    if depth >= MAX_DEPTH:
        return Node(_local(element), _kept(" ".join(map(str, element.itertext()))))
    raw = element.text or ""
    for child in children:
        if child.tail and child.tail.strip():
            raw += " " + child.tail
    attributes = {str(key).rpartition("}")[2]: legible(str(value)) for key, value in element.items()}
    node = Node(_local(element), _kept(raw), attributes)
    node.children = [_node(child, depth + 1) for child in children]
    return node


def _kept(text: str) -> str:
    if len(text) <= MAX_TEXT:
        return legible(text)
    return f"{legible(text[:MAX_TEXT])} … (jeszcze {len(text) - MAX_TEXT} znaków w pliku XML)"


def _local(element: etree._Element) -> str:
    return legible(str(element.tag).rpartition("}")[2])
