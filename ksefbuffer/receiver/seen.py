"""What rules can ask of an invoice: each field's values, with where they stood, read once and only when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import NamedTuple

from ..invoice.deliveries import Reference, deliveries, orders
from ..invoice.folding import fold
from ..invoice.identifiers import collapse
from ..invoice.paths import compile_path
from ..invoice.places import address_places, gln_places, key_name
from ..invoice.received import Party, Received
from .kinds import kind_of
from .shapes import Rulebook
from .stores import StoreMatch


@dataclass(frozen=True)
class Facts:
    """What is known of an invoice besides its contents. ``our_nip`` is the buffer's; ``roles`` ours in it (buyer,
    third, authorized, seller); ``corrected_folder`` the folder of the invoice that this one corrects, when that is
    stored; ``verdict`` as judged, "" before. ``store`` may hand over a match already made."""

    our_nip: str = ""
    roles: frozenset[str] = frozenset()
    ksef_number: str = ""
    invoicing_date: date | None = None
    corrected_folder: str | None = None
    verdict: str = ""
    store: StoreMatch | None = None


class Value(NamedTuple):
    """One value of a field: for comparing (``key``), as it stood, and where."""

    key: str
    text: str
    where: str


_Values = tuple[Value, ...]


class Seen:
    """One invoice before the rules. Values are made when the first rule asks for them."""

    def __init__(self, received: Received, facts: Facts, rulebook: Rulebook) -> None:
        self.received = received
        self.facts = facts
        self.rulebook = rulebook
        self._fields: dict[str, _Values] = {}

    def values(self, field: str) -> _Values:
        """The values of a field by its name (see FIELDS), ``extra[key]`` or ``xpath[path]``."""
        found = self._fields.get(field)
        if found is None:
            found = self._fields[field] = self._read(field)
        return found

    @cached_property
    def store(self) -> StoreMatch:
        """The store that the invoice is for."""
        handed = self.facts.store
        return self.rulebook.stores.find(self.received, self.rulebook.vocabulary) if handed is None else handed

    @cached_property
    def deliveries(self) -> tuple[Reference, ...]:
        return deliveries(self.received, self.rulebook.vocabulary)

    @cached_property
    def orders(self) -> tuple[Reference, ...]:
        return orders(self.received, self.rulebook.vocabulary)

    @cached_property
    def kind(self) -> str:
        supplier = self.rulebook.supplier(self.received.seller.nip)
        return kind_of(self.received, supplier.kind if supplier else "")

    def _read(self, field: str) -> _Values:
        name, bracket, inner = field.partition("[")
        if not bracket:
            return FIELDS[name].read(self)
        inner = inner.removesuffix("]")
        if name == "extra":
            key = key_name(inner)
            return tuple(
                Value(fold(extra.value), extra.value, f"DodatkowyOpis[{extra.key}]")
                for extra in self.received.extra
                if key_name(extra.key) == key
            )
        return tuple(Value(fold(text), text, inner) for text in self.received.find(compile_path(inner)))


class Field(NamedTuple):
    """A field of rules: how it is called in Polish, its sort (text, nip, gln, reference, number, date, choice), how its
    values are read."""

    polish: str
    sort: str
    read: Callable[[Seen], _Values]


def field_of(name: str) -> Field | None:
    """The field of that name; None when there is none. ``extra[…]`` and ``xpath[…]`` are texts."""
    head, bracket, inner = name.partition("[")
    if bracket:
        if inner.endswith("]") and inner[:-1].strip():
            if head == "extra":
                return Field(f"dodatkowy opis „{inner[:-1]}”", "text", _nothing)
            if head == "xpath":
                return Field(f"pole {inner[:-1]}", "text", _nothing)
        return None
    return FIELDS.get(name)


def key_of(sort: str, text: str) -> str:
    """``text`` as values of that sort are compared."""
    if sort == "nip":
        return text.upper().removeprefix("PL").replace("-", "").replace(" ", "")
    if sort == "text":
        return fold(text)
    return collapse(text).casefold()


def _nothing(_: Seen) -> _Values:
    return ()


def _made(sort: str, pairs: Iterable[tuple[str, str]]) -> _Values:
    return tuple(Value(key_of(sort, text), text, where) for text, where in pairs if text)


def _glns(seen: Seen) -> _Values:
    found = gln_places(seen.received, seen.rulebook.vocabulary)
    return tuple(Value(gln.value, gln.written, gln.where) for gln in found if gln.value)


def _addresses(seen: Seen) -> _Values:
    texts = (
        (", ".join(filter(None, (place.value, place.line2))), place.where)
        for place in address_places(seen.received, seen.rulebook.vocabulary)
    )
    return _made("text", texts)


def _references(found: tuple[Reference, ...]) -> _Values:
    return tuple(Value(one.exact.casefold(), one.written, one.where) for one in found)


def _buyer_numbers(seen: Seen) -> _Values:
    parties = (seen.received.seller if seen.received.is_farmers else seen.received.buyer, *seen.received.thirds)
    return _made("text", ((party.customer_number, f"{party.where}/NrKlienta") for party in parties))


def _internal_ids(seen: Seen) -> _Values:
    return _made("choice", ((party.idwew, f"{party.where}/IDWew") for party in seen.received.thirds))


def _third_roles(seen: Seen) -> _Values:
    roles = [(party.role, f"{party.where}/Rola") for party in seen.received.thirds]
    roles += [(party.role_other, f"{party.where}/OpisRoli") for party in seen.received.thirds]
    return _made("text", roles)


def _one(sort: str, where: str, read: Callable[[Received], object]) -> Callable[[Seen], _Values]:
    def values(seen: Seen) -> _Values:
        found = read(seen.received)
        return _made(sort, ((str(found), where),)) if found is not None else ()

    return values


def _party(
    sort: str, which: Callable[[Received], Party], what: Callable[[Party], str], end: str
) -> Callable[[Seen], _Values]:
    def values(seen: Seen) -> _Values:
        party = which(seen.received)
        return _made(sort, ((what(party), f"{party.where}/{end}"),))

    return values


def _stores(seen: Seen) -> _Values:
    store = seen.store.sure
    return _made("text", ((store.number, seen.store.where),)) if store is not None else ()


def _dates(seen: Seen) -> _Values:
    return _made("date", ((day.isoformat(), "data dostawy") for day in seen.received.delivery_dates))


FIELDS: dict[str, Field] = {
    "gln": Field("GLN", "gln", _glns),
    "store_address": Field("adres dostawy", "text", _addresses),
    "delivery_id": Field("numer dostawy", "reference", lambda seen: _references(seen.deliveries)),
    "order_number": Field("numer zamówienia", "reference", lambda seen: _references(seen.orders)),
    "seller_nip": Field("NIP sprzedawcy", "nip", _party("nip", lambda r: r.seller, lambda p: p.nip, "NIP")),
    "seller_name": Field("nazwa sprzedawcy", "text", _party("text", lambda r: r.seller, lambda p: p.name, "Nazwa")),
    "buyer_nip": Field("NIP nabywcy", "nip", _party("nip", lambda r: r.buyer, lambda p: p.nip, "NIP")),
    "buyer_name": Field("nazwa nabywcy", "text", _party("text", lambda r: r.buyer, lambda p: p.name, "Nazwa")),
    "buyer_internal_id": Field("identyfikator wewnętrzny", "choice", _internal_ids),
    "buyer_customer_number": Field("numer klienta", "text", _buyer_numbers),
    "third_party_role": Field("rola podmiotu trzeciego", "text", _third_roles),
    "invoice_number": Field("numer faktury", "text", _one("text", "numer faktury", lambda r: r.invoice_number)),
    "invoice_type": Field("rodzaj faktury", "choice", _one("choice", "RodzajFaktury", lambda r: r.invoice_type)),
    "form": Field("struktura", "choice", _one("choice", "KodFormularza", lambda r: r.form or r.form_named)),
    "currency": Field("waluta", "choice", _one("choice", "KodWaluty", lambda r: r.currency)),
    "gross": Field("kwota brutto", "number", _one("number", "P_15", lambda r: r.gross)),
    "issue_date": Field("data wystawienia", "date", _one("date", "P_1", lambda r: r.issue_date)),
    "delivery_date": Field("data dostawy", "date", _dates),
    "line_text": Field(
        "nazwa towaru lub usługi",
        "text",
        lambda seen: _made("text", ((text, "P_7") for text in seen.received.line_texts[:500])),
    ),
    "subject": Field(
        "nasza rola", "choice", lambda seen: _made("choice", ((role, "KSeF") for role in sorted(seen.facts.roles)))
    ),
    "role": Field(
        "nasza rola", "choice", lambda seen: _made("choice", ((role, "KSeF") for role in sorted(seen.facts.roles)))
    ),
    "store": Field("sklep", "text", _stores),
    "verdict": Field("ocena", "choice", lambda seen: _made("choice", ((seen.facts.verdict, "ocena"),))),
    "kind": Field("towar czy koszt", "choice", lambda seen: _made("choice", ((seen.kind, "rozpoznanie"),))),
}
