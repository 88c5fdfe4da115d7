"""Where an invoice says that goods went: every place that may hold a GLN, an internal identifier, a store's number or
an address of ours, in the order in which they are to be believed. Source: FA3-FIELDS §1 (IDWew), §2 (GLN), §5 (keys).

The seller's, the carrier's and former addresses are never looked at: they cannot name our store.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from .folding import fold
from .received import Party, Received

# Trust of a place, 1 is best; as in the table of FA3-FIELDS §2.
DELIVERY_PLACE, RECEIVING_UNIT, DESTINATION, CORRESPONDENCE, BUYER, FREE_TEXT = range(1, 7)

_ROLES_OF_UNITS = frozenset(("2", "8", "10"))
_DELIVERY_ROLE = re.compile(r"dostaw|odbior|sklep|magazyn|filia|placowk|oddzial")
_NOT_OURS = re.compile(r"\b(?:dostawc|sprzedaw|wystaw|nadaw|platnik|przewoz|producen)")
_APPLICATION_ID = re.compile(r"^\(?(?:414|410)\)")
_SEPARATORS = re.compile(r"[\s.\-‐–]+")
_GLN_IN_TEXT = re.compile(r"\b(?:gln|iln)\b[^0-9]{0,40}([0-9][0-9 .-]{10,20}[0-9])", re.IGNORECASE)
_MAX_TEXT = 5_000
_SHORTEST_CUSTOMER_NUMBER = 3  # "1" is any seller's first customer.
_KEY_PADDING = re.compile(r"^(?:nr|numer|no|number) | (?:nr|numer|no|number)$")
_LABELLED_STORE = re.compile(
    r"\b(?:sklep|sklepu|filia|filii|placowka|placowki|obiekt|obiektu|market|magazyn|oddzial|punkt|mpk)"
    r"(?: (?:nr|numer|no|firmowy|wlasny|spozywczy|sprzedazy))* ([a-z]{0,3} ?\d{1,6})\b"
)
_STORE_LABEL = re.compile(r"^(?:sklep\w*|filia|filii|placowk\w*|obiekt\w*|market\w*|mpk|nr|numer|no|s|f)(?= |\d)\s*")


@dataclass(frozen=True)
class Vocabulary:
    """The keys under which sellers write a thing, folded (lower case, no diacritics or punctuation), without "nr"."""

    store: frozenset[str] = frozenset(
        ("sklep", "sklepu", "filia", "filii", "placowka", "placowki", "obiekt", "obiektu", "mpk")
    )
    gln: frozenset[str] = frozenset(
        ("gln", "iln", "gln odbiorcy", "iln odbiorcy", "gln miejsca dostawy", "iln miejsca dostawy", "gln sklepu")
    )
    delivery: frozenset[str] = frozenset(
        (
            "dostawy",
            "dostawa",
            "dn",
            "delivery note",
            "delivery",
            "awizo",
            "awiza",
            "asn",
            "desadv",
            "wz",
            "dokumentu wz",
        )
    )
    order: frozenset[str] = frozenset(("zamowienia", "zamowienie", "po", "order", "zam"))
    address: frozenset[str] = frozenset(("adres dostawy", "miejsce dostawy", "adres sklepu", "adres odbiorcy"))

    def extended(self, more: dict[str, tuple[str, ...]]) -> Vocabulary:
        """The same with further keys by name of the group; raises KeyError when there is no such group."""
        groups = {name: getattr(self, name) for name in GROUPS}
        for name, keys in more.items():
            groups[name] = groups[name] | {key_name(key) for key in keys}
        return Vocabulary(**groups)


GROUPS = ("store", "gln", "delivery", "order", "address")
BUILT_IN = Vocabulary()


@dataclass(frozen=True, repr=False)
class Gln:
    """A GLN found: ``value`` is its 13 digits, "" when ``written`` is none (length or check digit); ``padded`` says
    that a leading zero was supplied; ``trust`` as above, 1 is best; ``where`` the field's path."""

    value: str
    written: str
    where: str
    trust: int
    padded: bool = False


@dataclass(frozen=True, repr=False)
class Place:
    """A store's number, an IDWew or an address found: what it says, where, and how far to believe it (1 is best)."""

    value: str
    where: str
    trust: int
    line2: str = ""
    country: str = field(default="PL")


def gln_of(text: str) -> tuple[str, bool] | None:
    """(13 digits, whether a zero was supplied) of a GLN as written; None for a wrong length, sign or check digit."""
    digits = _SEPARATORS.sub("", _APPLICATION_ID.sub("", text.strip()))
    padded = len(digits) == 12
    if padded:
        digits = "0" + digits
    if len(digits) != 13 or not (digits.isascii() and digits.isdecimal()) or not digits.strip("0"):
        return None
    return (digits, padded) if _check_digit(digits[:12]) == int(digits[12]) else None


def _check_digit(digits: str) -> int:
    """GS1: weights 3, 1, 3 … from the right."""
    total = sum(int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(digits)))
    return -total % 10


def sscc_ok(digits: str) -> bool:
    """Whether 18 digits are a SSCC with a right check digit."""
    return len(digits) == 18 and digits.isdecimal() and _check_digit(digits[:17]) == int(digits[17])


def is_place_of_delivery(party: Party) -> bool:
    """Whether a Podmiot3 is named by its own words as where goods go."""
    role = fold(party.role_other)
    return bool(role) and _DELIVERY_ROLE.search(role) is not None and _NOT_OURS.search(role) is None


def is_unit(party: Party) -> bool:
    """Whether a Podmiot3 is a receiving unit of the buyer by its role (2, 8, 10)."""
    return party.role in _ROLES_OF_UNITS


def receiving(received: Received) -> Iterator[tuple[int, Party]]:
    """The third parties that may be our store, with their trust, best first."""
    units = []
    for party in received.thirds:
        if is_place_of_delivery(party):
            yield DELIVERY_PLACE, party
        elif is_unit(party):
            units.append(party)
    for party in units:
        yield RECEIVING_UNIT, party


def gln_places(received: Received, words: Vocabulary = BUILT_IN) -> tuple[Gln, ...]:
    """Every GLN that could name our store, also the wrong ones, by trust."""
    found: list[Gln] = []
    for trust, party in receiving(received):
        found.extend(_gln(address.gln, f"{address.where}/GLN", trust) for address in party.addresses if address.gln)
    found.extend(_gln(place.gln, f"{place.where}/GLN", DESTINATION) for place in received.destinations if place.gln)
    for address in sorted(received.buyer.addresses, key=lambda address: address.kind == "Adres"):
        if address.gln:
            trust = BUYER if address.kind != "AdresKoresp" else CORRESPONDENCE
            found.append(_gln(address.gln, f"{address.where}/GLN", trust))
    for key, value, where in _described(received):
        if key in words.gln or (_has_word(key, "gln", "iln") and _NOT_OURS.search(key) is None):
            found.append(_gln(value, where, FREE_TEXT))
    number = received.buyer.customer_number
    if len(number) == 13 and (known := gln_of(number)):
        found.append(Gln(known[0], number, "Podmiot2/NrKlienta", FREE_TEXT))
    for text in received.footers:
        # Bare thirteen digits are as likely a product's code: in running text only what is called a GLN is one.
        labelled = (
            _gln(match[1], "Stopka/Informacje/StopkaFaktury", FREE_TEXT) for match in _GLN_IN_TEXT.finditer(text)
        )
        found.extend(gln for gln in labelled if gln.value)
    return tuple(found)


def _gln(written: str, where: str, trust: int) -> Gln:
    known = gln_of(written)
    return Gln(known[0], written, where, trust, known[1]) if known else Gln("", written, where, trust)


def idwew_places(received: Received) -> tuple[Place, ...]:
    """Internal identifiers (NIP-NNNNN) of third parties, as written, those of places of delivery and units first."""
    found = [
        Place(party.idwew, f"{party.where}/DaneIdentyfikacyjne/IDWew", trust)
        for trust, party in receiving(received)
        if party.idwew
    ]
    known = {place.where for place in found}
    found.extend(
        Place(party.idwew, where, FREE_TEXT)
        for party in received.thirds
        if party.idwew and (where := f"{party.where}/DaneIdentyfikacyjne/IDWew") not in known
    )
    return tuple(found)


def store_number_places(received: Received, words: Vocabulary = BUILT_IN) -> tuple[Place, ...]:
    """What could be a store's number: under a key that says so, behind a word that says so in the name, role or address
    of a third party, and, believed least, customer numbers. Values are as ``store_key`` makes them."""
    found: list[Place] = []
    for key, value, where in _described(received):
        if key in words.store:
            found.append(Place(store_key(value), where, DELIVERY_PLACE))
    for trust, party in receiving(received):
        texts = [
            (party.name, f"{party.where}/DaneIdentyfikacyjne/Nazwa"),
            (party.role_other, f"{party.where}/OpisRoli"),
        ]
        for address in party.addresses:
            texts += [(address.line1, f"{address.where}/AdresL1"), (address.line2, f"{address.where}/AdresL2")]
        found.extend(_labelled(texts, trust))
        if len(party.customer_number) >= _SHORTEST_CUSTOMER_NUMBER:
            found.append(Place(store_key(party.customer_number), f"{party.where}/NrKlienta", CORRESPONDENCE))
    found.extend(_labelled([(place.line1, f"{place.where}/AdresL1") for place in received.destinations], DESTINATION))
    buyer = received.buyer
    texts = [(buyer.name, "Podmiot2/DaneIdentyfikacyjne/Nazwa")]
    for address in buyer.addresses:
        texts += [(address.line1, f"{address.where}/AdresL1"), (address.line2, f"{address.where}/AdresL2")]
    found.extend(_labelled(texts, BUYER))
    if len(buyer.customer_number) >= _SHORTEST_CUSTOMER_NUMBER:
        found.append(Place(store_key(buyer.customer_number), "Podmiot2/NrKlienta", FREE_TEXT))
    return tuple(place for place in found if place.value)


def _labelled(texts: list[tuple[str, str]], trust: int) -> Iterator[Place]:
    for text, where in texts:
        for number in _labelled_numbers(text[:512]):
            yield Place(number, where, trust)


@lru_cache(maxsize=8192)
def _labelled_numbers(text: str) -> tuple[str, ...]:
    return tuple(store_key(match[1]) for match in _LABELLED_STORE.finditer(fold(text)))


@lru_cache(maxsize=8192)
def store_key(text: str) -> str:
    """A store's number for comparing: no label, no leading zeros, letters and digits only ("Sklep nr 0117" is 117)."""
    key = fold(text)
    while (shorter := _STORE_LABEL.sub("", key)) != key:
        key = shorter
    key = key.replace(" ", "")
    head = key.rstrip("0123456789")
    digits = key[len(head) :].lstrip("0")
    return head + digits if digits else key


def address_places(received: Received, words: Vocabulary = BUILT_IN) -> tuple[Place, ...]:
    """The addresses that could be our store's, by trust; the buyer's own may be the head office."""
    found: list[Place] = []
    for trust, party in receiving(received):
        found.extend(
            Place(address.line1, address.where, trust, address.line2, address.country) for address in party.addresses
        )
    found.extend(
        Place(place.line1, place.where, DESTINATION, place.line2, place.country) for place in received.destinations
    )
    for address in received.buyer.addresses:
        trust = BUYER if address.kind != "AdresKoresp" else CORRESPONDENCE
        found.append(Place(address.line1, address.where, trust, address.line2, address.country))
    found.extend(Place(value, where, FREE_TEXT) for key, value, where in _described(received) if key in words.address)
    return tuple(sorted((place for place in found if place.value or place.line2), key=lambda place: place.trust))


def _described(received: Received) -> Iterator[tuple[str, str, str]]:
    """(folded key, value, where) of DodatkowyOpis and of the attachment's metadata."""
    for extra in received.extra:
        yield key_name(extra.key), extra.value, f"Fa/DodatkowyOpis[{extra.key}]"
    for key, value in received.attachment_metadata:
        yield key_name(key), value, f"Zalacznik/MetaDane[{key}]"


@lru_cache(maxsize=8192)
def key_name(key: str) -> str:
    """A key for comparing: folded, without "nr" or "numer" around it."""
    folded = fold(key)
    return _KEY_PADDING.sub("", folded) or folded


def _has_word(text: str, *words: str) -> bool:
    return any(word in words for word in text.split())
