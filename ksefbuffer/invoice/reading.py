"""Bytes to an XML tree, safely: nothing is fetched, nothing is expanded, and whatever comes, an answer is given.

``read`` never raises. It notes what is wrong with the bytes and the XML (groups A05 and B of the list of checks) and
still hands over a tree where one can be had, so that the checks behind it can speak too. The tree holds no comments
and no processing instructions. The bytes that are parsed are always UTF-8 and never hold a DOCTYPE.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import Any

from lxml import etree

from .findings import Finding
from .wording import UNKNOWN_SYNTAX, printable, syntax_message

MAX_DEPTH = 100
MAX_ATTRIBUTES = 100
MAX_SYNTAX_FINDINGS = 20
MAX_CHARACTER_FINDINGS = 100

_PROLOG = re.compile(rb"<\?xml(\s[^>]*?)\?>", re.DOTALL)
_PROLOG_VERSION = re.compile(rb"""\sversion\s*=\s*["']([^"']*)["']""")
_PROLOG_ENCODING = re.compile(rb"""\sencoding\s*=\s*["']([^"']*)["']""")
_BEFORE_ROOT = re.compile(rb"\s*(?:<\?.*?\?>\s*|<!--.*?-->\s*)*", re.DOTALL)
_DISCOURAGED_BYTES = re.compile(
    rb"\x7f|\xc2[\x80-\x84\x86-\x9f]|\xef\xb7[\x90-\xaf]|\xf0[\x90-\xbf]\xbf[\xbe\xbf]|[\xf1-\xf4][\x80-\xbf]\xbf[\xbe\xbf]"
)
_DISCOURAGED_LEADS = (b"\xc2", b"\xef", b"\xf0", b"\xf1", b"\xf2", b"\xf3", b"\xf4")
_DISCOURAGED = re.compile(
    "[\x7f-\x84\x86-\x9f\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | low) for plane in range(1, 17) for low in (0xFFFE, 0xFFFF))
    + "]"
)
_UTF32_MARKS = (b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_BOM = b"\xef\xbb\xbf"
_READABLE_ENCODINGS = {"windows-1250": "cp1250", "cp1250": "cp1250", "iso-8859-2": "iso-8859-2", "latin2": "iso-8859-2"}

_CHARACTER_HINT = (
    "Usuń ten niewidoczny znak z danych w ERP; zwykle pochodzi z tekstu wklejonego lub źle przekodowanego."
)

# What a file is that only calls itself .xml, by how it starts.
_FOREIGN = (
    (b"PK\x03\x04", "archiwum ZIP"),
    (b"\x1f\x8b", "archiwum GZIP"),
    (b"7z\xbc\xaf\x27\x1c", "archiwum 7-Zip"),
    (b"Rar!\x1a\x07", "archiwum RAR"),
    (b"BZh", "archiwum BZIP2"),
    (b"%PDF", "dokument PDF"),
    (b"\x89PNG", "obraz PNG"),
    (b"\xff\xd8\xff", "obraz JPEG"),
    (b"GIF8", "obraz GIF"),
    (b"\xd0\xcf\x11\xe0", "dokument Worda lub Excela"),
    (b"{\\rtf", "dokument RTF"),
    (b"-----BEGIN ", "certyfikat lub klucz"),
    (b"{", "plik JSON"),
    (b"[", "plik JSON"),
)
_HTML = (b"<!doctype html", b"<html", b"<head", b"<body")


@dataclass(frozen=True)
class Reading:
    """What came of reading. ``root`` is None when there is no tree; ``text`` is the whole, decoded; ``well_formed`` is
    False when the tree was pieced together from broken XML; ``text_is_sound`` is False when letters were lost on the
    way (wrong encoding)."""

    root: etree._Element | None
    findings: tuple[Finding, ...]
    text: str
    well_formed: bool
    text_is_sound: bool


class _Parsers(threading.local):
    """lxml parsers keep their last error log, so each thread has its own."""

    def __init__(self) -> None:
        self.plain = _parser()


def _parser(*, recover: bool = False, everything: bool = False) -> etree.XMLParser:
    return etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        huge_tree=False,
        recover=recover,
        remove_comments=not everything,
        remove_pis=not everything,
    )


_parsers = _Parsers()


def read(content: bytes) -> Reading:
    """Read ``content`` whatever it is; ``content`` should be of a bounded size (see precheck.refusal_of_size)."""
    foreign = _not_xml_at_all(content)
    if foreign is not None:
        return Reading(None, (foreign,), "", well_formed=False, text_is_sound=False)
    findings: list[Finding] = []
    text_is_sound = True
    if content.startswith(_BOM):
        findings.append(
            Finding(
                "B01",
                "Plik zaczyna się znacznikiem BOM – KSeF odrzuca takie pliki.",
                "Zapisz plik jako UTF-8 bez BOM (w ustawieniach eksportu ERP: „UTF-8 bez BOM”).",
                line=1,
            )
        )
        content = content[3:]
    declared = _check_prolog(content, findings)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as problem:
        findings.append(_not_utf8(content, problem.start, declared))
        text_is_sound = declared in _READABLE_ENCODINGS
        text = content.decode(_READABLE_ENCODINGS.get(declared, "utf-8"), errors="replace")
        content = text.encode("utf-8")
    start = _end_of_prologue(content)
    if content.startswith(b"<!DOCTYPE", start):
        findings.append(_dtd(content.count(b"\n", 0, start) + 1))
        return Reading(None, tuple(findings), text, well_formed=False, text_is_sound=text_is_sound)
    try:
        root: etree._Element | None = etree.fromstring(content, _parsers.plain)
        well_formed = True
    except etree.LxmlError:
        root, syntax = _salvage(content)
        findings.extend(syntax)
        well_formed = False
    if root is not None and root.getroottree().docinfo.internalDTD is not None:
        findings.append(_dtd(None))
        return Reading(None, tuple(findings), text, well_formed=False, text_is_sound=text_is_sound)
    if _needs_a_closer_look(content):
        findings.extend(_instructions_and_characters(content) if well_formed else _characters(text))
    return Reading(root, tuple(findings), text, well_formed, text_is_sound)


def depth_finding(root: etree._Element) -> Finding | None:
    """B05 when elements nest deeper than MAX_DEPTH. A document that the schema accepts never does."""
    depth = 0
    for event, element in etree.iterwalk(root, events=("start", "end")):
        depth += 1 if event == "start" else -1
        if depth > MAX_DEPTH:
            return Finding(
                "B05",
                f"Elementy XML są zagnieżdżone głębiej niż {MAX_DEPTH} poziomów – to nie jest faktura.",
                "Sprawdź, co zapisało ten plik; faktura FA(3) ma najwyżej kilkanaście poziomów.",
                line=line_of(element),
            )
    return None


def attribute_flood(root: etree._Element) -> Finding | None:
    """B05 when an element has more than MAX_ATTRIBUTES; no element of any form has ten."""
    for element in root.iter():
        if len(element.attrib) > MAX_ATTRIBUTES:
            return Finding(
                "B05",
                f"Element XML ma ponad {MAX_ATTRIBUTES} atrybutów – to nie jest faktura.",
                "Sprawdź, co zapisało ten plik.",
                line=line_of(element),
            )
    return None


def line_of(element: etree._Element) -> int | None:
    """The line where the element starts, from 1; None when the parser does not know."""
    line: Any = element.sourceline
    return int(line) if line else None


def local_name(element: etree._Element) -> str:
    """The element's name without its namespace; "" for comments and the like."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def path_of(element: etree._Element) -> str:
    """Local names from below the root, with an index where siblings share the name: ``Fa/FaWiersz[2]/P_12``."""
    steps = []
    node: etree._Element | None = element
    while node is not None and (parent := node.getparent()) is not None:
        name = local_name(node)
        tag = node.tag
        if next(node.itersiblings(tag, preceding=True), None) is None and next(node.itersiblings(tag), None) is None:
            steps.append(name)
        else:
            steps.append(f"{name}[{sum(1 for _ in node.itersiblings(tag, preceding=True)) + 1}]")
        node = parent
    return "/".join(reversed(steps)) or local_name(element)


def _not_xml_at_all(content: bytes) -> Finding | None:
    if not content:
        return Finding("A05", "Plik jest pusty.", "Wygeneruj fakturę w ERP jeszcze raz.")
    start = content[:512].lstrip(_BOM).lstrip()
    if not content[:4096].strip(b"\0") and not content.strip(b"\0"):
        return Finding(
            "A05",
            "Plik zawiera same bajty zerowe, nie ma w nim faktury.",
            "Tak wygląda plik po przerwanym zapisie lub awarii dysku; wygeneruj fakturę jeszcze raz.",
        )
    for mark, name in _FOREIGN:
        if start.startswith(mark):
            return _foreign(name, "Zapisz do folderu sam plik XML faktury.")
    if start.lower().startswith(_HTML):
        return _foreign("strona HTML", "Zwykle to strona błędu zapisana zamiast faktury; pobierz plik XML ponownie.")
    if content.startswith(_UTF32_MARKS):
        return _wide("UTF-32")
    if content.startswith(_UTF16_MARKS) or start.startswith((b"<\0", b"\0<")):
        return _wide("UTF-16")
    if start.startswith((b"<\0\0\0", b"\0\0\0<")):
        return _wide("UTF-32")
    if not content.strip():
        return Finding("A05", "Plik zawiera same odstępy, nie ma w nim faktury.", "Wygeneruj fakturę jeszcze raz.")
    return None


def _foreign(name: str, hint: str) -> Finding:
    return Finding("B04", f"To nie jest plik XML: w środku jest {name}.", hint)


def _wide(name: str) -> Finding:
    return Finding(
        "B02",
        f"Plik jest zapisany w kodowaniu {name} – dozwolone tylko UTF-8.",
        "Ustaw w ERP zapis faktury w UTF-8 bez BOM.",
        line=1,
    )


def _check_prolog(content: bytes, findings: list[Finding]) -> str:
    """B03; the answer is the declared encoding in lower case, "" when none is declared."""
    prolog = _PROLOG.match(content)
    if prolog is None:
        return ""
    hint = 'Prolog powinien mieć postać <?xml version="1.0" encoding="UTF-8"?>.'
    version = _PROLOG_VERSION.search(prolog[1])
    if version is not None and version[1] != b"1.0":
        shown = printable(version[1].decode("latin-1"))
        findings.append(Finding("B03", f"Prolog XML podaje wersję {shown} – dozwolona tylko 1.0.", hint, line=1))
    encoding = _PROLOG_ENCODING.search(prolog[1])
    if encoding is None:
        return ""
    declared = encoding[1].decode("latin-1").strip().lower()
    if declared != "utf-8":
        shown = printable(encoding[1].decode("latin-1"))
        findings.append(Finding("B03", f"Prolog XML wskazuje kodowanie {shown} – dozwolone tylko UTF-8.", hint, line=1))
    return declared


def _not_utf8(content: bytes, at: int, declared: str) -> Finding:
    guess = {"windows-1250": "Windows-1250", "cp1250": "Windows-1250", "iso-8859-2": "ISO-8859-2"}.get(declared, "")
    if not guess:
        # The bytes of ą, ś and ź tell the two old Polish encodings apart.
        sample = content[at : at + 4096]
        guess = "Windows-1250" if any(byte in sample for byte in b"\xb9\x9c\x9f\x8c\xa5\x8f") else "ISO-8859-2"
        guess = f"prawdopodobnie {guess}" if any(byte >= 0xA0 for byte in sample) else "nieznanym"
    return Finding(
        "B02",
        f"Plik nie jest poprawnie zapisany w UTF-8 (bajt {at + 1}).",
        f"Plik zapisano w kodowaniu innym niż UTF-8 ({guess}). Ustaw w ERP zapis w UTF-8.",
        line=content.count(b"\n", 0, at) + 1,
    )


def _dtd(line: int | None) -> Finding:
    return Finding(
        "B05",
        "Plik zawiera deklarację DTD (<!DOCTYPE …>) – niedozwolone.",
        "Usuń deklarację DOCTYPE i encje z szablonu faktury w ERP.",
        line=line,
    )


def _end_of_prologue(content: bytes) -> int:
    before = _BEFORE_ROOT.match(content)
    return before.end() if before else 0


def _walk(root: etree._Element | None) -> None:
    """Raises UnicodeDecodeError when the recovered tree holds what is no text: half a surrogate pair by reference."""
    for element in () if root is None else root.iter():
        _ = (element.tag, element.text, element.tail, element.attrib.items())


def _salvage(content: bytes) -> tuple[etree._Element | None, list[Finding]]:
    """What libxml2 says of broken XML, and the tree that it could still make (None when too little is left)."""
    parser = _parser(recover=True)
    try:
        root: etree._Element | None = etree.fromstring(content, parser)
        _walk(root)
    except (etree.LxmlError, UnicodeDecodeError):
        root = None
    findings: dict[tuple[int, str], Finding] = {}
    for entry in parser.error_log:
        kind = entry.type_name
        if kind == "ERR_RESERVED_XML_NAME" and content.startswith(b"<?xml"):
            # A second prolog: two invoices in one file.
            kind = "ERR_DOCUMENT_END"
        message, hint = syntax_message(kind, entry.message)
        findings.setdefault(
            (entry.line, message),
            Finding(
                "B04",
                f"Plik nie jest poprawnym XML: {message} (wiersz {entry.line}).",
                hint,
                line=entry.line,
                details=(printable(entry.message, 200),),
            ),
        )
        if len(findings) >= MAX_SYNTAX_FINDINGS:
            break
    if not findings:
        message = "Plik nie jest poprawnym XML."
        return root, [Finding("B04", message, "Wygeneruj plik faktury w ERP jeszcze raz.")]
    told = {line for line, message in findings if message != UNKNOWN_SYNTAX}
    return root, [found for (line, message), found in findings.items() if message != UNKNOWN_SYNTAX or line not in told]


def _needs_a_closer_look(content: bytes) -> bool:
    """Whether a processing instruction or a discouraged character is possible at all; cheap, for every document."""
    # Looking for single bytes is by far the fastest; the prolog alone has two question marks.
    if b"\x7f" in content or (b"#" in content and b"&#" in content):
        return True
    if content.count(b"?") > 2 and content.find(b"<?", 2 if content.startswith(b"<?xml") else 0) >= 0:
        return True
    if content.isascii() or not any(lead in content for lead in _DISCOURAGED_LEADS):
        return False
    return _DISCOURAGED_BYTES.search(content) is not None


def _instructions_and_characters(content: bytes) -> list[Finding]:
    """B06 and B07, on a tree that keeps comments and instructions, with character references resolved."""
    root = etree.fromstring(content, _parser(everything=True))
    findings: list[Finding] = []
    for node in (*reversed(list(root.itersiblings(preceding=True))), *root.iter(), *root.itersiblings()):
        if node.tag is etree.PI:
            target = printable(str(node.target))
            findings.append(
                Finding(
                    "B06",
                    f"Plik zawiera instrukcję przetwarzania <?{target}?>.",
                    "Usuń ją z szablonu faktury (np. odwołanie do arkusza stylów).",
                    line=line_of(node),
                )
            )
        owner = node if isinstance(node.tag, str) else node.getparent()
        within = path_of(owner) if owner is not None else "poza fakturą"
        for where, text in _texts(node):
            findings.extend(
                _discouraged(character, f"{within}{where}", line_of(node))
                for character in dict.fromkeys(_DISCOURAGED.findall(text))
            )
        if len(findings) >= MAX_CHARACTER_FINDINGS:
            break
    return findings


def _characters(text: str) -> list[Finding]:
    """B07 where there is no sound tree: by line only."""
    findings: list[Finding] = []
    for line, content in enumerate(text.split("\n"), 1):
        findings.extend(
            Finding("B07", f"Niedozwolony znak U+{ord(character):04X} (wiersz {line}).", _CHARACTER_HINT, line=line)
            for character in dict.fromkeys(_DISCOURAGED.findall(content))
        )
        if len(findings) >= MAX_CHARACTER_FINDINGS:
            break
    return findings


def _texts(node: etree._Element) -> list[tuple[str, str]]:
    tag: Any = node.tag
    if tag is etree.Comment:
        texts = [(" (komentarz)", node.text or "")]
    elif tag is etree.PI:
        texts = [(" (instrukcja)", node.text or "")]
    else:
        texts = [("", node.text or "")]
        texts.extend((f"/@{str(name).rpartition('}')[2]}", str(value)) for name, value in node.attrib.items())
    if node.tail and _DISCOURAGED.search(node.tail):
        texts.append((" (za elementem)", node.tail))
    return texts


def _discouraged(character: str, field: str, line: int | None) -> Finding:
    return Finding(
        "B07",
        f"Niedozwolony znak U+{ord(character):04X} w polu {field}.",
        _CHARACTER_HINT,
        line=line,
        field=field,
    )
