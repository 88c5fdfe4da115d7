"""A technical correction mends a file, never an invoice: what differs between the refused bytes and the mended ones.

Compared is every field with its place and attributes. Neutral are only: whitespace around and between words,
prefixes and namespaces, the encoding, comments, the order of differently named neighbours (the schema fixes it), and
signs that KSeF forbids in any XML (their removal mends the file). ``TECHNICAL`` fields say nothing of the sale and may
differ. All else is business content and must not. Pure. Source: FACTS §10 (technical correction), §13 (signs).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from lxml import etree

from ksefbuffer.invoice.tolerant import parse
from ksefbuffer.invoice.wording import printable

# When and by which program the file was made.
TECHNICAL = frozenset({"Naglowek/DataWytworzeniaFa", "Naglowek/SystemInfo"})

SHOWN_LETTERS = 60
SHOWN_DIFFERENCES = 20

_XSI = "{http://www.w3.org/2001/XMLSchema-instance}"
_LAST_OF_PLANES = "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
_FORBIDDEN = re.compile(f"[\x7f-\x84\x86-\x9f\ufdd0-\ufdef{_LAST_OF_PLANES}]")
_ROOT = "(element główny)"


@dataclass(frozen=True)
class Difference:
    """One field that is not the same. ``path`` is by names below the root ("Fa/FaWiersz[2]/P_9A", "Fa/KursWaluty/@x");
    a value is None where the field is absent. Values are hidden from repr: they are an invoice's contents."""

    path: str
    before: str | None = field(repr=False)
    after: str | None = field(repr=False)

    def told(self) -> str:
        """The difference in Polish, values shortened."""
        if self.before is None:
            return f"{self.path}: dodano {_quoted(self.after)}"
        if self.after is None:
            return f"{self.path}: usunięto {_quoted(self.before)}"
        return f"{self.path}: było {_quoted(self.before)}, jest {_quoted(self.after)}"


@dataclass(frozen=True)
class Differences:
    """What a correction changes. ``content`` is what it must not change, ``technical`` what it may, both in the order
    of the document; ``obstacle`` is Polish: why the files cannot be compared, or need no correction; else ""."""

    content: tuple[Difference, ...]
    technical: tuple[Difference, ...]
    obstacle: str = ""

    @property
    def allowed(self) -> bool:
        """Whether the corrected file may be sent as a technical correction of the original."""
        return not self.content and not self.obstacle

    def told(self) -> list[str]:
        """Polish lines for a person: what stands in the way, or what has changed; long lists are cut."""
        if self.obstacle:
            return [self.obstacle]
        lines = [difference.told() for difference in (*self.content, *self.technical)[:SHOWN_DIFFERENCES]]
        more = len(self.content) + len(self.technical) - len(lines)
        return [*lines, f"… oraz dalsze różnice: {more}"] if more else lines


def compare(original: bytes, corrected: bytes) -> Differences:
    """What the corrected file changes in the refused one. Any bytes are taken; nothing is raised."""
    if original == corrected:
        return Differences((), (), "Poprawiony plik jest taki sam jak odrzucony.")
    after = _as_written(corrected)
    if after is None:
        # A copy mended on the way might lack what the file holds: then equality would prove nothing.
        return Differences((), (), "Poprawiony plik nie jest poprawnym plikiem XML.")
    before = _as_written(original)
    if before is None:
        before = parse(original).root
    if before is None:
        return Differences((), (), "Odrzuconego pliku nie da się odczytać, więc treści nie można porównać.")
    old, new = _fields(before), _fields(after)
    content: list[Difference] = []
    technical: list[Difference] = []
    for path in dict.fromkeys((*old, *new)):
        if old.get(path) != new.get(path):
            kind = technical if path in TECHNICAL else content
            kind.append(Difference(path, old.get(path), new.get(path)))
    return Differences(tuple(content), tuple(technical))


def _as_written(content: bytes) -> etree._Element | None:
    """The tree of a file that needs no mending; None for any other, and for one with a DOCTYPE."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True)
    try:
        root = etree.fromstring(content, parser)
    except (etree.LxmlError, ValueError):
        return None
    return root if root.getroottree().docinfo.internalDTD is None else None


def _fields(root: etree._Element) -> dict[str, str]:
    """Every text and attribute by its path, and the root's name, since a document of another kind differs in it."""
    return {_ROOT: etree.QName(root).localname, **dict(_below(root))}


def _below(root: etree._Element) -> Iterator[tuple[str, str]]:
    # A stack instead of recursion: a hostile file may be nested as deep as the parser allows.
    waiting: list[tuple[etree._Element, str]] = [(root, "")]
    while waiting:
        element, path = waiting.pop()
        for name, value in sorted((str(name), str(value)) for name, value in element.attrib.items()):
            if not name.startswith(_XSI):
                yield f"{path}/@{name}".lstrip("/"), _plain(value)
        met = Counter[str]()
        children: list[tuple[etree._Element, str]] = []
        for child in element:
            name = etree.QName(child).localname
            met[name] += 1
            # The first has no number, so that a second one beside it is told as added, and nothing else.
            place = f"{name}[{met[name]}]" if met[name] > 1 else name
            children.append((child, f"{path}/{place}".lstrip("/")))
        text = _plain("".join((element.text or "", *(child.tail or "" for child in element))))
        if path and (text or not children):
            yield path, text
        waiting.extend(reversed(children))


def _plain(text: str) -> str:
    return " ".join(_FORBIDDEN.sub("", text).split())


def _quoted(value: str | None) -> str:
    return f"„{printable(value, SHOWN_LETTERS)}”" if value else "pustą wartość"
