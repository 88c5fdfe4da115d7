"""Delivery and order numbers, wherever a seller put them: FA(3) has no field for a delivery's number.

Each is kept in two forms: ``exact`` (upper case, no label, no spaces around separators) and ``digits`` (its digits
without leading zeros, "" when fewer than six). Source: FA3-FIELDS §4.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from .folding import MAX_REMEMBERED
from .places import BUILT_IN, Vocabulary, key_name, sscc_ok
from .received import Received

MIN_DIGITS = 6
_MAX_TEXTS = 500
_MAX_TEXT = 5_000

_SEVERAL = re.compile(r"[,;|\n]+")
_AROUND_SEPARATORS = re.compile(r"\s*([/.\-])\s*")
_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—−", "-"))
_LABEL = re.compile(
    r"^(?:(?:NUMER|NR|NO)\b\.?"
    r"|(?:DOSTAW[AY]|DELIVERY NOTE|DN|WZ|AWIZ[OA]|ASN|DESADV|ZAM[OÓ]WIENI[EA]|ZAM|ORDER|PO)(?![A-Z]))"
    r"[\s.:#/-]*(?=[\w(])"
)
_SHAPES = re.compile(
    r"0{0,2}8\d{9}|WZ\b.*\d.*|.*\d/WZ/\d{4}|AW[IZ]\w*[/ -].*\d.*|DN-?\d+",  # SAP deliveries and the usual prefixes
)
_IN_TEXT = re.compile(
    r"\b(?:(?:nr|numer)\s+)?(dostaw[ay]|wz|awiz[oa]|asn|desadv|dn|delivery note|zam[oó]wieni[ea]|po|order)\b"
    r"(?:\s+(?:nr|numer|no))?[\s.:#]{0,4}([A-Z]{0,6}[-/ ]?\d[\w/.-]{2,40})",
    re.IGNORECASE,
)
# "PO" is a purchase order, "po" is a preposition.
_POLISH_WORDS = frozenset(("po", "Po", "dn"))
_ORDER_WORD = re.compile(r"zam|po|order", re.IGNORECASE)


@dataclass(frozen=True, repr=False)
class Reference:
    """A delivery's or an order's number: as written, its two forms, and the field where it stood."""

    written: str
    exact: str
    digits: str
    where: str


@lru_cache(maxsize=8192)
def exact_form(text: str) -> str:
    """``text`` without labels ("Nr dostawy:"), upper case, no spaces around / - . ; "" when nothing is left."""
    text = unicodedata.normalize("NFKC", text).translate(_DASHES).upper().strip()
    text = _AROUND_SEPARATORS.sub(r"\1", text)
    while (shorter := _LABEL.sub("", text)) != text:
        text = shorter
    return " ".join(text.split()).strip(" :#.")


@lru_cache(maxsize=8192)
def digits_form(text: str) -> str:
    """The digits of ``text`` without leading zeros; "" when they are fewer than MIN_DIGITS."""
    digits = "".join(sign for sign in text.removeprefix("(00)") if "0" <= sign <= "9").lstrip("0")
    return digits if len(digits) >= MIN_DIGITS else ""


def references(text: str, where: str) -> Iterator[Reference]:
    """The numbers that one field holds: split at commas, semicolons, bars and line ends, not at slashes."""
    for part in _SEVERAL.split(text) if _SEVERAL.search(text) else (text,):
        exact = exact_form(part)
        if exact and any(sign.isdigit() for sign in exact):
            yield Reference(part.strip(), exact, digits_form(exact), where)


def deliveries(received: Received, words: Vocabulary = BUILT_IN) -> tuple[Reference, ...]:
    """Every delivery's number, the likeliest place first: WZ, DodatkowyOpis, order numbers of a delivery's shape,
    transport orders, labelled ones in lines and footers, the attachment's metadata. Each once."""
    found: list[Reference] = []
    for text in received.wz:
        found.extend(references(text, "Fa/WZ"))
    found.extend(_described(received, words.delivery))
    for text in received.orders:
        found.extend(one for one in references(text, "Fa/WarunkiTransakcji/Zamowienia/NrZamowienia") if _is_shaped(one))
    for text in received.transport_orders:
        found.extend(references(text, "Fa/WarunkiTransakcji/Transport/NrZleceniaTransportu"))
    found.extend(_in_texts(received, orders=False))
    found.extend(_attached(received, words.delivery))
    return _each_once(found)


def orders(received: Received, words: Vocabulary = BUILT_IN) -> tuple[Reference, ...]:
    """Every order's number: NrZamowienia, DodatkowyOpis, labelled ones in lines and footers, the attachment's metadata.
    Each once."""
    found: list[Reference] = []
    for text in received.orders:
        found.extend(references(text, "Fa/WarunkiTransakcji/Zamowienia/NrZamowienia"))
    found.extend(_described(received, words.order))
    found.extend(_in_texts(received, orders=True))
    found.extend(_attached(received, words.order))
    return _each_once(found)


def _described(received: Received, keys: frozenset[str]) -> Iterator[Reference]:
    for extra in received.extra:
        if key_name(extra.key) in keys:
            yield from references(extra.value, f"Fa/DodatkowyOpis[{extra.key}]")


def _attached(received: Received, keys: frozenset[str]) -> Iterator[Reference]:
    for key, value in received.attachment_metadata:
        if key_name(key) in keys:
            yield from references(value, f"Zalacznik/MetaDane[{key}]")


def _in_texts(received: Received, *, orders: bool) -> Iterator[Reference]:
    texts = [(text, "Stopka/Informacje/StopkaFaktury") for text in received.footers]
    texts += [(text, "Fa/FaWiersz/P_7") for text in received.line_texts[:_MAX_TEXTS]]
    texts += [(text, "Fa/FaWiersz/Indeks") for text in received.line_codes[:_MAX_TEXTS]]
    for text, where in texts:
        for label, number in _labelled(text):
            if (_ORDER_WORD.match(label) is not None) == orders:
                yield from references(number, where)


def _labelled(text: str) -> tuple[tuple[str, str], ...]:
    return _found_in(text) if len(text) <= MAX_REMEMBERED else _found_in.__wrapped__(text[:_MAX_TEXT])


@lru_cache(maxsize=8192)
def _found_in(text: str) -> tuple[tuple[str, str], ...]:
    """(label, number) in a running text. Cached: the same goods are on thousands of invoices."""
    return tuple(
        (match[1], match[2].rstrip(".-/")) for match in _IN_TEXT.finditer(text) if match[1] not in _POLISH_WORDS
    )


def _is_shaped(one: Reference) -> bool:
    sscc = one.written.replace("(00)", "").replace(" ", "")
    return _SHAPES.fullmatch(one.written.upper()) is not None or sscc_ok(sscc)


def _each_once(found: list[Reference]) -> tuple[Reference, ...]:
    return tuple({one.exact: one for one in reversed(found)}.values())[::-1]
