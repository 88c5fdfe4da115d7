"""Rules about characters in any field: wrongly decoded Polish (B08), needless spaces (C04), template leftovers (F13).

Each first asks a cheap question of the bytes and walks the tree only when the answer is "maybe".
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..findings import Finding
from ..identifiers import collapse
from ..reading import local_name, path_of
from ..wording import printable
from .case import Case

_POLISH = "ąćęłńóśźżĄĆĘŁŃÓŚŹŻ"


def _misread() -> frozenset[str]:
    """What UTF-8 Polish looks like when it was read as one of the old one-byte encodings."""
    found = set()
    for letter in _POLISH:
        for encoding in ("cp1250", "cp1252", "iso-8859-2", "latin-1"):
            try:
                shown = letter.encode("utf-8").decode(encoding)
            except UnicodeDecodeError:
                continue
            # Two capitals or a lone accent next to a control character are the sure signs; "Ăł" cannot be Polish.
            found.add(shown)
    return frozenset(found)


_MOJIBAKE = re.compile("|".join(map(re.escape, sorted(_misread()))) + "|\ufffd")
_MOJIBAKE_LEADS = tuple(sorted({text[0].encode("utf-8") for text in _misread()} | {b"\xef\xbf\xbd"}))

# Fields whose type collapses whitespace and whose value is a code: KSeF takes " 23", other programs may not.
_CODES = frozenset(
    """P_12 P_12Z RodzajFaktury IDWew NrKSeFFaKorygowanej NrKSeFFaZaliczkowej GTU GTUZ Procedura ProceduraZ GLN GTIN
    Rola FormaPlatnosci TypKorekty IPKSeF KodKraju""".split()
)
_SPACED = re.compile(rb">[ \t\r\n]+[^<\s]|[^>\s][ \t\r\n]+</|[^<>\s](?:[ \t]{2,}|[\t\r\n])[^<>\s]+</")

_LEFTOVER_MARKS = (b"{{", b"${", b"#", b"null", b"undefined", b"nan", b"lorem", b"test", b"%s", b"<%", b"[object")
_LEFTOVER = re.compile(
    r"\{\{.*?\}\}|\$\{[^}]*\}|\#[A-Za-z_][A-Za-z0-9_]{1,30}\#|\[object Object\]|lorem ipsum|^%s$"
    r"|^(?:null|undefined|NaN|None|test|testowy|test test)$",
    re.IGNORECASE,
)


def mojibake(case: Case, content: bytes) -> Iterator[Finding]:
    """B08: Polish letters that went through a wrong encoding somewhere before the XML was written."""
    if content.isascii() or not any(lead in content for lead in _MOJIBAKE_LEADS):
        return
    for element in case.root.iter():
        broken = _MOJIBAKE.search(element.text or "")
        if broken is None:
            continue
        text = element.text or ""
        fragment = printable(text[max(0, broken.start() - 8) : broken.end() + 8].strip())
        yield case.warn(
            "B08",
            f"Polskie litery wyglądają na błędnie zapisane: „{fragment}”.",
            "Popraw kodowanie przy imporcie danych do ERP albo przy eksporcie faktury (UTF-8).",
            path_of(element),
        )


def needless_spaces(case: Case, content: bytes) -> Iterator[Finding]:
    """C04: spaces that XSD forgives in a code ("P_12" of " 23"), but that other programs stumble over."""
    if _SPACED.search(content) is None:
        return
    for element in case.root.iter():
        text = element.text
        if text and local_name(element) in _CODES and len(element) == 0 and text != collapse(text):
            yield case.warn(
                "C04",
                f"Zbędne spacje w polu {local_name(element)}.",
                "KSeF je pominie, ale program odbiorcy może tej wartości nie rozpoznać; usuń je w ERP.",
                path_of(element),
            )


def leftovers(case: Case, content: bytes) -> Iterator[Finding]:
    """F13: what a template or a program left behind instead of a value."""
    lowered = content.lower()
    if not any(mark in lowered for mark in _LEFTOVER_MARKS):
        return
    for element in case.root.iter():
        text = element.text
        if not text or len(element):
            continue
        found = _LEFTOVER.search(text.strip())
        if found is not None:
            name = local_name(element)
            yield case.warn(
                "F13",
                f"Pole {name} zawiera „{printable(found[0])}” – niewypełniony szablon?",
                "Sprawdź szablon faktury i dane w ERP.",
                path_of(element),
            )
