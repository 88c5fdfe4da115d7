"""Bytes of a received invoice to an XML tree, whatever came: what can be mended is mended, and said.

Received invoices are evidence, so the bytes themselves are never changed; only the copy that is parsed is. Nothing is
fetched and nothing is expanded: a DOCTYPE is cut out before parsing. Source: FA3-FIELDS §11, FACTS §7.4.
"""

from __future__ import annotations

import codecs
import html
import re
import threading
from dataclasses import dataclass

from lxml import etree

MAX_BYTES = 16_000_000  # KSeF takes at most 3,000,000 B; anything much larger is no invoice.

_BOM = b"\xef\xbb\xbf"
_WIDE = (
    (b"\xff\xfe\0\0", "utf-32-le"),
    (b"\0\0\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
_WIDE_STARTS = ((b"<\0\0\0", "utf-32-le"), (b"\0\0\0<", "utf-32-be"), (b"<\0", "utf-16-le"), (b"\0<", "utf-16-be"))
_DECLARED = re.compile(rb"""^\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_LEGACY = {
    "windows-1250": "cp1250",
    "cp1250": "cp1250",
    "iso-8859-2": "iso-8859-2",
    "latin2": "iso-8859-2",
    "windows-1252": "cp1252",
}
_PROLOG = re.compile(r"\s*<\?xml[^>]{0,500}\?>")
_DOCTYPE = re.compile(r"<!DOCTYPE[^\[<>]*([>\[])")
_END_OF_SUBSET = re.compile(r"\]\s{0,100}>")
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_REFERENCE = re.compile(r"&#(?:x([0-9a-fA-F]{1,8})|([0-9]{1,8}));")
_AMPERSAND = re.compile(r"&(?!(?:amp|lt|gt|quot|apos);|#)(?:([A-Za-z][A-Za-z0-9]{1,30});)?")
_CONTROLS = re.compile(rb"\xc2[\x80-\x84\x86-\x9f]")
_NOT_ASCII = re.compile(r"[\u0080-\uffff]{2,200}")
_HTML = (b"<!doctype html", b"<html", b"<head", b"<body")


@dataclass(frozen=True, repr=False)
class Tree:
    """What came of parsing: ``root`` is None when nothing could be read; ``damage`` says, in Polish, what had to be
    mended on the way (for people; it holds no contents)."""

    root: etree._Element | None
    damage: tuple[str, ...]


class _Parsers(threading.local):
    """lxml parsers keep their last error log, so each thread has its own."""

    def __init__(self) -> None:
        self.strict = _parser(recover=False)
        self.recovering = _parser(recover=True)


def _parser(*, recover: bool) -> etree.XMLParser:
    return etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        huge_tree=False,
        recover=recover,
        remove_comments=True,
        remove_pis=True,
    )


_parsers = _Parsers()


def parse(content: bytes) -> Tree:
    """The tree of ``content``, mended if it must be. Never raises."""
    if len(content) > MAX_BYTES:
        return Tree(None, (f"plik ma ponad {MAX_BYTES // 1_000_000} MB – to nie jest faktura",))
    # One look at the bytes decides: nearly every invoice takes this way out.
    if content.startswith(b"<") and b"<!DOCTYPE" not in content and not _is_garbled(content):
        try:
            return Tree(etree.fromstring(content, _parsers.strict), ())
        except etree.LxmlError:
            pass
    return _mended(content)


def _is_garbled(content: bytes) -> bool:
    # "Ĺ" is no Polish letter; it is what half of "ł" becomes when UTF-8 was once taken for Windows-1250.
    return (b"\xc2" in content and _CONTROLS.search(content) is not None) or b"\xc4\xb9" in content


def _mended(content: bytes) -> Tree:
    damage: list[str] = []
    if not content.strip(b"\0 \t\r\n"):
        return Tree(None, ("plik jest pusty",))
    if content.lstrip(_BOM).lstrip()[:20].lower().startswith(_HTML):
        return Tree(None, ("zamiast faktury jest strona HTML",))
    text = _ungarbled(_decoded(content, damage), damage)
    text = _cleaned(text, damage)
    start = text.find("<")
    if start < 0:
        return Tree(None, (*damage, "to nie jest plik XML"))
    if text[:start].strip():
        damage.append("przed początkiem dokumentu stoją obce znaki")
    for parser in (_parsers.strict, _parsers.recovering):
        try:
            root: etree._Element | None = etree.fromstring(text[start:].encode("utf-8"), parser)
            _walk(root)
        except (etree.LxmlError, UnicodeError, ValueError):
            root = None
        if root is not None:
            if parser is _parsers.recovering:
                damage.append("składnia XML jest uszkodzona, odczytano to, co się dało")
            return Tree(root, tuple(damage))
        if parser is _parsers.strict:
            text = _escaped(text, damage)
            start = text.find("<")
    return Tree(None, (*damage, "to nie jest plik XML"))


def _walk(root: etree._Element | None) -> None:
    """Raises UnicodeDecodeError when a recovered tree holds what is no text."""
    for element in () if root is None else root.iter():
        _ = (element.tag, element.text, element.tail, element.items())


def _decoded(content: bytes, damage: list[str]) -> str:
    for mark, encoding in (*_WIDE, *_WIDE_STARTS):
        if content.startswith(mark):
            damage.append(f"plik jest zapisany w kodowaniu {encoding[:6].upper()}")
            return content.decode(encoding, errors="replace").removeprefix("\ufeff")
    if content.startswith(_BOM):
        damage.append("plik zaczyna się znacznikiem BOM")
        content = content.removeprefix(_BOM)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        damage.append("plik nie jest poprawnie zapisany w UTF-8")
    declared = _DECLARED.match(content)
    encoding = _LEGACY.get(declared[1].decode("ascii").lower(), "") if declared else ""
    if encoding:
        return content.decode(encoding, errors="replace")
    return content.decode("utf-8", errors=_STRAY_BYTES)


def _stray_bytes(problem: UnicodeError) -> tuple[str, int]:
    """Single bytes that are no UTF-8 come from Windows-1250 where a text was pasted together."""
    assert isinstance(problem, UnicodeDecodeError)
    stray = problem.object[problem.start : problem.end]
    return stray.decode("cp1250", errors="replace"), problem.end


_STRAY_BYTES = "ksefbuffer_stray_bytes"
codecs.register_error(_STRAY_BYTES, _stray_bytes)


# The first bytes of such signs in UTF-8 (C2 to C5, E2), read as Windows-1250, Latin-2 or Windows-1252.
_LEADS = frozenset("ÂĂÄĹâÃÅ")


def _ungarbled(text: str, damage: list[str]) -> str:
    """UTF-8 that was once read as Windows-1250 (or Latin-1, or Latin-2) and written as UTF-8 again, put right."""

    def mend(run: re.Match[str]) -> str:
        # "ÓŁ" would make a Cyrillic letter: only runs that begin as the bytes of such signs do are mended.
        if run[0][0] not in _LEADS and not re.search("[\x80-\x9f]", run[0]):
            return run[0]
        for encoding in ("cp1250", "iso-8859-2", "cp1252"):
            try:
                original = b"".join(
                    bytes((ord(sign),)) if "\x80" <= sign <= "\x9f" else sign.encode(encoding) for sign in run[0]
                )
                return original.decode("utf-8")
            except UnicodeError:
                continue
        return run[0]

    if text.isascii() or not ("Ĺ" in text or re.search("[\x80-\x84\x86-\x9f]", text)):
        return text
    mended = _NOT_ASCII.sub(mend, text)
    if mended != text:
        damage.append("polskie litery były podwójnie zakodowane")
    return mended


def _cleaned(text: str, damage: list[str]) -> str:
    text = _PROLOG.sub("", text, count=1) if _PROLOG.match(text) else text
    if _FORBIDDEN.search(text):
        damage.append("usunięto znaki niedozwolone w XML")
        text = _FORBIDDEN.sub("", text)
    start = text.find("<!DOCTYPE")
    if start >= 0:
        damage.append("pominięto deklarację DOCTYPE")
        declaration = _DOCTYPE.match(text, start)
        if declaration is not None and declaration[1] == "[":
            declaration = _END_OF_SUBSET.search(text, declaration.end())
        text = text[:start] + text[declaration.end() if declaration else start :]
        # Whatever is left of it is no declaration to the parser any more.
        text = text.replace("<!DOCTYPE", "<DOCTYPE")
    return text


def _escaped(text: str, damage: list[str]) -> str:
    """Entities nobody declared, bare ampersands and references to characters that XML does not allow, made harmless."""

    def reference(match: re.Match[str]) -> str:
        code = int(match[1], 16) if match[1] else int(match[2])
        fine = code in (9, 10, 13) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or 0x10000 <= code <= 0x10FFFF
        return match[0] if fine else ""

    def ampersand(match: re.Match[str]) -> str:
        known = html.unescape(match[0]) if match[1] else match[0]
        return known if match[1] and "&" not in known and "<" not in known else "&amp;" + match[0][1:]

    mended = _AMPERSAND.sub(ampersand, _REFERENCE.sub(reference, text))
    if mended != text:
        damage.append("poprawiono znaki „&” i odwołania do znaków")
    return mended
