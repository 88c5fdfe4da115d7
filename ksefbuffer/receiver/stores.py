"""The register of our stores: which of them an invoice is for, by whatever the seller wrote.

Asked in the order of FA3-FIELDS §6: GLN, internal identifier, store's number, address. A customer number is asked after
an address that is surely a store's, because sellers number their customers as they please. The first answer counts;
what speaks for another store is told beside it. Scores of addresses: §3.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Literal

from ..invoice.addresses import ACCEPTED, DOUBTFUL, AddressKey, address_key, score
from ..invoice.places import (
    BUILT_IN,
    CORRESPONDENCE,
    FREE_TEXT,
    RECEIVING_UNIT,
    Place,
    Vocabulary,
    address_places,
    gln_places,
    idwew_places,
    store_key,
    store_number_places,
)
from ..invoice.received import Received

Certainty = Literal["certain", "likely", "doubtful", "none"]
By = Literal["gln", "idwew", "number", "address", ""]

_MAX_REMEMBERED = 20_000


@dataclass(frozen=True)
class Store:
    """One store. ``addresses`` are single texts ("ul. Prosta 1, 00-001 Warszawa"); ``open_to`` is its last day;
    ``catalogue`` is the folder that is its own, "" for none."""

    number: str
    name: str = ""
    glns: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    idwews: tuple[str, ...] = ()
    open_from: date | None = None
    open_to: date | None = None
    catalogue: str = ""

    def is_open(self, day: date) -> bool:
        """Whether the store is open on that day, as far as the register knows."""
        return (self.open_from is None or self.open_from <= day) and (self.open_to is None or day <= self.open_to)


@dataclass(frozen=True, repr=False)
class Evidence:
    """What speaks for a store: kind of evidence, the value as written, the field where it stood."""

    store: Store
    by: By
    value: str
    where: str
    certainty: Certainty


@dataclass(frozen=True, repr=False)
class StoreMatch:
    """The store an invoice is for. ``store`` is None, and ``certainty`` "none", when nothing speaks for any;
    "doubtful" is an address that is only similar. ``contradictions`` speak for other stores."""

    store: Store | None = None
    certainty: Certainty = "none"
    by: By = ""
    value: str = ""
    where: str = ""
    contradictions: tuple[Evidence, ...] = ()

    @property
    def sure(self) -> Store | None:
        """The store, unless it is doubtful."""
        return self.store if self.certainty in ("certain", "likely") else None


NO_STORE = StoreMatch()


@dataclass(frozen=True)
class StoreRegister:
    """All stores, with the head office's addresses and GLNs, which never name a store. Indexed at first use."""

    stores: tuple[Store, ...] = ()
    headquarters: tuple[str, ...] = ()
    head_glns: tuple[str, ...] = ()

    def find(self, received: Received, words: Vocabulary = BUILT_IN) -> StoreMatch:
        """The store that ``received`` is for. Of several stores with one GLN, number or address (one after the other in
        the same place) it is the one that was open on the day of delivery."""
        if not self.stores:
            return NO_STORE
        day = received.sale_date or received.issue_date
        found = list(self._evidence(received, words, day))
        if not found:
            return NO_STORE
        best = found[0]
        others = {one.store.number: one for one in reversed(found) if one.store is not best.store}
        against = tuple(
            one for one in reversed(others.values()) if one.certainty != "doubtful" or best.certainty == "doubtful"
        )
        return StoreMatch(best.store, best.certainty, best.by, best.value, best.where, against)

    def by_gln(self, gln: str) -> tuple[Store, ...]:
        """The stores of a GLN of 13 digits."""
        return tuple(self._by_gln.get(gln, ()))

    def by_number(self, number: str) -> Store | None:
        """The store of that number, however written ("117", "Sklep 0117")."""
        found = self._by_number.get(store_key(number))
        return found[0] if found else None

    def by_address(self, line1: str, line2: str = "", country: str = "PL") -> tuple[Store | None, int]:
        """The store whose address is the most alike, with the score; (None, score) when it is the head office's."""
        key = address_key(line1, line2, country)
        remembered = self._remembered
        found = remembered.get(key)
        if found is None:
            found = self._nearest(key)
            if len(remembered) < _MAX_REMEMBERED:
                remembered[key] = found
        return found

    def _evidence(self, received: Received, words: Vocabulary, day: date | None) -> Iterator[Evidence]:
        for gln in gln_places(received, words):
            if gln.value and gln.value not in self._head_glns:
                sure: Certainty = "likely" if gln.padded or gln.trust == FREE_TEXT else "certain"
                yield from _one(self._by_gln.get(gln.value), day, "gln", gln.written, gln.where, sure)
        for place in idwew_places(received):
            yield from _one(self._by_idwew.get(place.value), day, "idwew", place.value, place.where, "certain")
        numbers = store_number_places(received, words)
        for place in numbers:
            if not place.where.endswith("NrKlienta"):
                sure = "certain" if place.trust <= RECEIVING_UNIT else "likely"
                yield from _one(self._by_number.get(place.value), day, "number", place.value, place.where, sure)
        addresses = [(place, *self._at(place, day)) for place in address_places(received, words)]
        for place, store, points in addresses:
            if store is not None and points >= ACCEPTED:
                yield Evidence(store, "address", _shown(place), place.where, "likely")
        for place in numbers:
            if place.where.endswith("NrKlienta"):
                yield from _one(self._by_number.get(place.value), day, "number", place.value, place.where, "likely")
        for place, store, points in sorted(addresses, key=lambda one: -one[2]):
            if store is not None and DOUBTFUL <= points < ACCEPTED and place.trust <= CORRESPONDENCE:
                yield Evidence(store, "address", _shown(place), place.where, "doubtful")

    def _at(self, place: Place, day: date | None) -> tuple[Store | None, int]:
        store, points = self.by_address(place.value, place.line2, place.country)
        if store is not None and day is not None and not store.is_open(day):
            # Another one that was in the same place before or after.
            same = [other for other in self.stores if set(other.addresses) & set(store.addresses)]
            store = next((other for other in same if other.is_open(day)), store)
        return store, points

    def _nearest(self, key: AddressKey) -> tuple[Store | None, int]:
        best: Store | None = None
        best_points = max((score(head, key) for head in self._head_keys), default=0)
        if best_points < ACCEPTED:
            best_points = 0
        near = {*self._by_postcode.get(key.postcode, ())} if key.postcode else set[int]()
        for word in key.street or key.words:
            near |= self._by_street.get((key.building.partition("/")[0], word), _NONE)
        for index in sorted(near):
            store, known = self._address_keys[index]
            points = score(known, key)
            if points > best_points:
                best, best_points = store, points
        return best, best_points

    @cached_property
    def _remembered(self) -> dict[AddressKey, tuple[Store | None, int]]:
        return {}

    @cached_property
    def _head_glns(self) -> frozenset[str]:
        return frozenset(self.head_glns)

    @cached_property
    def _head_keys(self) -> tuple[AddressKey, ...]:
        return tuple(address_key(text) for text in self.headquarters)

    @cached_property
    def _by_gln(self) -> dict[str, list[Store]]:
        return _index((gln, store) for store in self.stores for gln in store.glns)

    @cached_property
    def _by_idwew(self) -> dict[str, list[Store]]:
        return _index((idwew, store) for store in self.stores for idwew in store.idwews)

    @cached_property
    def _by_number(self) -> dict[str, list[Store]]:
        return _index((store_key(store.number), store) for store in self.stores)

    @cached_property
    def _address_keys(self) -> tuple[tuple[Store, AddressKey], ...]:
        return tuple((store, address_key(text)) for store in self.stores for text in store.addresses)

    @cached_property
    def _by_postcode(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for index, (_, key) in enumerate(self._address_keys):
            found.setdefault(key.postcode, []).append(index)
        return found

    @cached_property
    def _by_street(self) -> dict[tuple[str, str], set[int]]:
        found: dict[tuple[str, str], set[int]] = {}
        for index, (_, key) in enumerate(self._address_keys):
            for word in key.street:
                found.setdefault((key.building.partition("/")[0], word), set()).add(index)
        return found


_NONE: frozenset[int] = frozenset()


def _index(pairs: Iterable[tuple[str, Store]]) -> dict[str, list[Store]]:
    found: dict[str, list[Store]] = {}
    for key, store in pairs:
        found.setdefault(key, []).append(store)
    return found


def _one(
    stores: list[Store] | None, day: date | None, by: By, value: str, where: str, certainty: Certainty
) -> Iterator[Evidence]:
    if stores:
        open_one = next((store for store in stores if day is not None and store.is_open(day)), stores[0])
        yield Evidence(open_one, by, value, where, certainty)


def _shown(place: Place) -> str:
    return ", ".join(filter(None, (place.value, place.line2)))
