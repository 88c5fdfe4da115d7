"""Rules about characters in any field: wrongly decoded Polish (B08), needless spaces (C04), template leftovers (F13).

Each first asks a cheap question of the whole text and walks the tree only when the answer is "maybe".
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..document import Fields
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
            found.add(shown)
    return frozenset(found)


_MOJIBAKE = re.compile("|".join(map(re.escape, sorted(_misread()))) + "|\ufffd")
_MOJIBAKE_LEADS = tuple(sorted({text[0] for text in _misread()} | {"\ufffd"}))

# Signs that a leftover may be anywhere; single characters, because looking for them costs next to nothing.
_LEFTOVER_MARKS = ("{", "#", "[")
_LEFTOVER_VALUES = frozenset(("null", "undefined", "nan", "none", "test", "testowy", "test test", "lorem ipsum", "%s"))
_LEFTOVER = re.compile(
    r"\{\{.*?\}\}|\$\{[^}]*\}|\#[A-Za-z_][A-Za-z0-9_]{1,30}\#|\[object Object\]|lorem ipsum|^%s$"
    r"|^(?:null|undefined|nan|none|test|testowy|test test)$",
    re.IGNORECASE,
)


def mojibake(case: Case) -> Iterator[Finding]:
    """B08: Polish letters that went through a wrong encoding somewhere before the XML was written."""
    if case.text.isascii() or not any(lead in case.text for lead in _MOJIBAKE_LEADS):
        return
    broken = [element for element in case.root.iter() if _MOJIBAKE.search(element.text or "")]
    if not broken:
        return
    text = broken[0].text or ""
    place = _MOJIBAKE.search(text)
    start = max(0, place.start() - 8) if place else 0
    fragment = printable(text[start : start + 20].strip())
    more = f" (i w innych polach: {len(broken) - 1})" if len(broken) > 1 else ""
    yield case.warn(
        "B08",
        f"Polskie litery wyglądają na błędnie zapisane: „{fragment}”{more}.",
        "Popraw kodowanie przy imporcie danych do ERP albo przy eksporcie faktury (UTF-8).",
        path_of(broken[0]),
    )


def needless_spaces(case: Case) -> Iterator[Finding]:
    """C04: spaces that XSD forgives in a code ("P_12" of " 23"), but that other programs stumble over."""
    for path, value in _codes(case):
        if value != collapse(value):
            yield case.warn(
                "C04",
                f"Zbędne spacje w polu {path.rpartition('/')[2]}.",
                "KSeF je pominie, ale program odbiorcy może tej wartości nie rozpoznać; usuń je w ERP.",
                path,
            )


def _codes(case: Case) -> Iterator[tuple[str, str]]:
    """Fields whose type collapses whitespace and whose value is a code; of rows only those that have spaces."""
    fa = case.fa
    for name in ("RodzajFaktury", "TypKorekty"):
        if name in fa:
            yield f"Fa/{name}", fa[name]
    for name in ("P_12", "GTU", "Procedura"):
        spaced = {value for row in case.rows if (value := row.get(name)) and value != value.strip()}
        for index, row in enumerate(case.rows if spaced else ()):
            if row.get(name) in spaced:
                yield case.row_path(index, name), row[name]
    for parent, name in (("DaneFaKorygowanej", "NrKSeFFaKorygowanej"), ("FakturaZaliczkowa", "NrKSeFFaZaliczkowej")):
        groups: list[Fields] = fa.get(parent, [])
        for index, group in enumerate(groups, 1):
            if name in group:
                yield (f"Fa/{parent}[{index}]/{name}" if len(groups) > 1 else f"Fa/{parent}/{name}"), group[name]
    for index, party in enumerate(case.third_parties, 1):
        path = f"Podmiot3[{index}]" if len(case.third_parties) > 1 else "Podmiot3"
        yield f"{path}/Rola", party.get("Rola", "")
        yield f"{path}/DaneIdentyfikacyjne/IDWew", party.get("DaneIdentyfikacyjne", {}).get("IDWew", "")


def leftovers(case: Case) -> Iterator[Finding]:
    """F13: what a template or a program left behind instead of a value."""
    suspicious = any(mark in case.text for mark in _LEFTOVER_MARKS)
    if not suspicious and _LEFTOVER_VALUES.isdisjoint(value.strip().casefold() for value in _descriptions(case)):
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


def _descriptions(case: Case) -> Iterator[str]:
    """The texts that people see first: names, addresses, rows, extra descriptions."""
    for party in (case.seller, case.buyer, *case.third_parties):
        yield party.get("DaneIdentyfikacyjne", {}).get("Nazwa", "")
        address = party.get("Adres", {})
        yield address.get("AdresL1", "")
        yield address.get("AdresL2", "")
    for row in case.rows:
        yield row.get("P_7", "")
    for extra in case.fa.get("DodatkowyOpis", ()):
        yield extra.get("Wartosc", "")
