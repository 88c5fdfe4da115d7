"""Polish addresses in two free lines, made comparable. Source: FA3-FIELDS §3 (tokenisation, weights, thresholds)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from .folding import plain_letters

ACCEPTED = 80
DOUBTFUL = 60
MAX_LINE = 512

_POSTCODE_WEIGHT, _BUILDING_WEIGHT, _STREET_WEIGHT, _CITY_WEIGHT = 40, 30, 25, 5
_SAME_BUILDING_OTHER_PREMISES = 25
_PART_OF_THE_NAME = 0.9

_POSTCODE = re.compile(r"(?<![\d/-])(\d{2})[-‐–—  ]?(\d{3})(?![\d/-])")
_PARTS = re.compile(r"[,;\n|]+")
_TOKEN = re.compile(r"[0-9a-z]+(?:[/-][0-9a-z]+)*")
_NUMBER = re.compile(r"(\d{1,4}[a-z]?)((?:[/-]\d{1,4}[a-z]?)*)")
_ORDINAL = re.compile(r"(\d{1,3})-?(?:go|ego|tego|szego|giego)")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_STREET_TYPES = _words("ul ulica al aleja alei aleje pl plac plc os osiedle rondo skwer bulwar szosa trakt droga")
_TITLES = _words("""
    gen generala ks ksiedza sw swietego swietej swietych prof profesora dr doktora plk pulkownika mjr majora kpt
    kapitana marsz marszalka bp biskupa abp arcybiskupa kard kardynala hetm hetmana inz im imienia por porucznika rtm
    rotmistrza prym prymasa bl blogoslawionego br brata o ojca i
""")
_PREMISES = _words("m lok lokal mieszkanie pok pokoj nr numer box boks paw pawilon bud budynek hala")
_ROMAN = {
    "ii": "2", "iii": "3", "iv": "4", "v": "5", "vi": "6", "vii": "7", "viii": "8", "ix": "9", "x": "10", "xi": "11",
    "xii": "12", "xiii": "13", "xiv": "14", "xv": "15", "xvi": "16", "xxiii": "23",
}  # fmt: skip

_NO_WORDS: tuple[str, ...] = ()
_NO_CITY: frozenset[str] = frozenset()


@dataclass(frozen=True, repr=False)
class AddressKey:
    """What of an address is compared. ``postcode`` is NN-NNN or ""; ``building`` 12, 12a or 12/3 or ""; ``street`` the
    words of its name without type and titles, ``city`` those behind the postcode, ``words`` all of them."""

    postcode: str
    building: str
    street: tuple[str, ...]
    city: frozenset[str]
    words: frozenset[str]


def address_key(line1: str, line2: str = "", country: str = "PL") -> AddressKey:
    """The key of an address, wherever in the two lines its parts stand; of each line, MAX_LINE characters count."""
    return _key(line1[:MAX_LINE], line2[:MAX_LINE], country)


@lru_cache(maxsize=16_384)
def _key(line1: str, line2: str, country: str) -> AddressKey:
    text = plain_letters(f"{line1}, {line2}")
    postcode, city = "", _NO_CITY
    found = _postcode(text) if country in ("PL", "") else None
    if found is not None:
        postcode = f"{found[1]}-{found[2]}"
        behind = _PARTS.split(text[found.end() :].lstrip(" ,-"), maxsplit=1)[0]
        words, rest = _city(_TOKEN.findall(behind))
        city = frozenset(words)
        after = text[found.end() :].lstrip(" ,-")[len(behind) :]
        text = f"{text[: found.start()]}, {' '.join(rest)}, {after}"
    building, street = "", _NO_WORDS
    everything: set[str] = set()
    parts = [part for part in (_joined(_TOKEN.findall(part)) for part in _PARTS.split(text)) if part]
    best = 0
    for number, part in enumerate(parts):
        everything.update(part)
        name, house = _street(part)
        if house and not name and number:
            # "Kwiatowa, 7": the number stands alone behind the comma.
            name = _street([*parts[number - 1], "1"])[0]
        # Of several ("Sklep 117, Kwiatowa 7") the one that says it is a street, else the last one with a number.
        rank = 2 * bool(name and house) + (name != () and not _STREET_TYPES.isdisjoint(part))
        if rank and rank >= best:
            best, street, building = rank, name, house
        elif name and not street:
            street = name
    return AddressKey(postcode, building, street, city, frozenset(everything) | city)


def score(known: AddressKey, written: AddressKey) -> int:
    """How much ``written`` (of an invoice) is the ``known`` address: 0 to 100, ACCEPTED is enough."""
    points = 0.0
    if known.postcode and known.postcode == written.postcode:
        points += _POSTCODE_WEIGHT
    if known.building and written.building:
        if known.building == written.building:
            points += _BUILDING_WEIGHT
        elif _house(known.building) == _house(written.building):
            points += _SAME_BUILDING_OTHER_PREMISES
    points += _STREET_WEIGHT * _alike(known, written)
    if known.city and (known.city & (written.city or written.words)):
        points += _CITY_WEIGHT
    return int(points)


def _alike(known: AddressKey, written: AddressKey) -> float:
    ours, theirs = frozenset(known.street), frozenset(written.street)
    if not ours:
        return 0.0
    alike = len(ours & theirs) / len(ours | theirs)
    if alike < _PART_OF_THE_NAME and (
        # A first name or a company's name more or less; the last word of a street's name is the one that counts.
        (theirs and theirs < ours and known.street[-1] == written.street[-1]) or ours <= written.words - known.city
    ):
        return _PART_OF_THE_NAME
    return alike


def _house(building: str) -> str:
    return re.split("[/-]", building, maxsplit=1)[0]


def _postcode(text: str) -> re.Match[str] | None:
    """The most likely of all that look like a postcode: one with a hyphen, and one with a word behind it."""
    best: re.Match[str] | None = None
    best_rank = -1
    for found in _POSTCODE.finditer(text):
        rank = 2 * (not found[0].isdigit() and " " not in found[0]) + text[found.end() :].lstrip(" ,-")[:1].isalpha()
        if rank > best_rank:
            best, best_rank = found, rank
    return best


def _city(tokens: list[str]) -> tuple[list[str], list[str]]:
    """The city's words, and what stands behind them in the same breath."""
    for number, token in enumerate(tokens):
        if token in _STREET_TYPES or token[0].isdigit():
            # "00-950 Warszawa Kwiatowa 7": a number without a street's type makes the last word the street.
            cut = number - 1 if token[0].isdigit() and number > 1 else number
            return tokens[:cut], tokens[cut:]
    return tokens, []


def _joined(tokens: list[str]) -> list[str]:
    """Tokens with "12 a" as 12a, "12 lok 3" and "12 m 3" as 12/3, "11-go" as 11, Roman numbers as digits."""
    joined: list[str] = []
    for number, token in enumerate(tokens):
        before = joined[-1] if joined else ""
        is_after_number = bool(before) and _NUMBER.fullmatch(before) is not None
        behind = tokens[number + 1] if number + 1 < len(tokens) else ""
        if token in _PREMISES:
            if is_after_number and behind[:1].isdigit():
                joined[-1] = before + "/"
            continue
        is_letter_of_number = is_after_number and len(token) == 1 and token.isalpha() and before.isdigit()
        if before.endswith("/") or is_letter_of_number:
            joined[-1] = before + token
        elif ordinal := _ORDINAL.fullmatch(token):
            joined.append(ordinal[1])
        else:
            joined.append(_ROMAN.get(token, token))
    return joined


def _street(tokens: list[str]) -> tuple[tuple[str, ...], str]:
    """The street's name and the building of one part of an address; empty where it has none."""
    building, end = "", len(tokens)
    for number in range(len(tokens) - 1, -1, -1):
        found = _NUMBER.fullmatch(tokens[number])
        if found is not None:
            building, end = tokens[number], number
            break
    if building and not any(token not in _STREET_TYPES for token in tokens[:end]) and len(tokens) > end + 1:
        # "3 Maja" without a building: the number belongs to the name.
        building, end = "", len(tokens)
    start = max((number + 1 for number, token in enumerate(tokens[:end]) if token in _STREET_TYPES), default=0)
    words = [token for token in tokens[start:end] if token not in _TITLES and (len(token) > 1 or token.isdigit())]
    flat: list[str] = []
    for word in words:
        flat.extend(part for part in re.split("[/-]", word) if part)
    return tuple(flat), building
