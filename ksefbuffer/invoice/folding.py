"""Texts made comparable: letters without case and diacritics, words without punctuation. Source: FA3-FIELDS §3, §5."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_PUNCTUATION = re.compile(r"[^0-9a-z]+")
_OTHER_LETTERS = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "æ": "ae", "œ": "oe"})


MAX_REMEMBERED = 300  # Letters; a longer text is hardly met twice, and would only fill the memory.


def plain_letters(text: str) -> str:
    """``text`` in lower case without diacritics and invisible characters; punctuation and spaces stay."""
    return _plain_letters(text) if len(text) <= MAX_REMEMBERED else _plain_letters.__wrapped__(text)


def fold(text: str) -> str:
    """The words of ``text`` for comparing: lower case, no diacritics, one space between, letters and digits only."""
    return _fold(text) if len(text) <= MAX_REMEMBERED else _fold.__wrapped__(text)


@lru_cache(maxsize=16_384)
def _plain_letters(text: str) -> str:
    if text.isascii():
        return text.lower()
    text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).casefold().translate(_OTHER_LETTERS)
    return "".join(sign for sign in unicodedata.normalize("NFD", text) if not unicodedata.combining(sign))


@lru_cache(maxsize=16_384)
def _fold(text: str) -> str:
    return _PUNCTUATION.sub(" ", plain_letters(text)).strip()
