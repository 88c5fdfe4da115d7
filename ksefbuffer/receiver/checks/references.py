"""Orders and deliveries (Z26-Z28). Corrections repeat or leave out what the original says, so they are not asked.

Source: FA3-FIELDS §4.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...invoice.deliveries import deliveries, orders
from ...invoice.names import number_key
from ..patterns import compiled
from .case import MAX_ASKED, MAX_HITS, Case, CheckFunction, Hit, days_from, shown
from .keys import delivery_keys, reference_forms

# Numbers of deliveries start again every year, and some without the year in them.
_SAME_DELIVERY_WITHIN = 180  # days
_OWN_FIELDS = ("Fa/WarunkiTransakcji", "Fa/DodatkowyOpis")
_ORDER_FIELD = "Fa/WarunkiTransakcji/Zamowienia/NrZamowienia"
_MAX_ORDER_LENGTH = 100


def no_order(case: Case) -> Iterator[Hit]:
    """Z26."""
    supplier = case.supplier
    if supplier is None or not supplier.order_required or case.corrects:
        return
    if not orders(case.received, case.knowledge.vocabulary):
        yield Hit(_ORDER_FIELD, {"nazwa": _supplier_name(case)})


def unknown_order(case: Case) -> Iterator[Hit]:
    """Z27. A seller may add its own numbers: of several, one of the agreed shape is enough; those of that shape must
    all be on the exported list, if there is one."""
    supplier = case.supplier
    if supplier is None or case.corrects:
        return
    numbers = [
        one.written[:_MAX_ORDER_LENGTH]
        for one in orders(case.received, case.knowledge.vocabulary)
        if one.where.startswith(_OWN_FIELDS) or case.form == "P"
    ]
    if supplier.order_pattern:
        pattern = compiled(supplier.order_pattern)
        of_shape = [number for number in numbers if pattern.fullmatch(number)]
        if numbers and not of_shape:
            yield Hit(_ORDER_FIELD, {"nr": shown(numbers[0])})
            return
        numbers = of_shape
    if case.knowledge.orders and (supplier.order_pattern or supplier.order_required or supplier.store_supplier):
        unknown = [number for number in numbers if not reference_forms(number) & case.knowledge.orders]
        for number in unknown[:MAX_HITS]:
            yield Hit(_ORDER_FIELD, {"nr": shown(number)})


def delivery(case: Case) -> Iterator[Hit]:
    """Z28."""
    supplier = case.supplier
    if supplier is None or case.corrects or case.kind == "ZAL":
        return
    found = deliveries(case.received, case.knowledge.vocabulary)
    if supplier.delivery_required and not found:
        yield Hit("Fa/WZ", {"nazwa": _supplier_name(case)}, variant="missing")
    known = case.knowledge.deliveries if supplier.delivery_required or supplier.store_supplier else frozenset[str]()
    if found and known and not any({one.exact, one.digits} & known for one in found):
        yield Hit(found[0].where, {"nr": shown(found[0].written), "opis": "nie jest znany"})
    yield from _invoiced_before(case)


def _invoiced_before(case: Case) -> Iterator[Hit]:
    keys = delivery_keys(case.received, case.knowledge.vocabulary)
    if not keys or case.issue_date is None:
        return
    mine = number_key(case.invoice_number)
    since = days_from(case.issue_date, -_SAME_DELIVERY_WITHIN)
    for known in case.archive.delivered(case.seller_nip, keys[:MAX_ASKED], since):
        if case.is_earlier(known) and number_key(known.invoice_number) != mine:
            number = next((key for key in keys if key in known.keys), keys[0])
            opis = f"już zafakturowany w {shown(known.ksef_number)}"
            yield Hit("Fa/WZ", {"nr": shown(number), "opis": opis, "ksef": shown(known.ksef_number)})
            return


def _supplier_name(case: Case) -> str:
    name = case.supplier.name if case.supplier else ""
    return shown(name or case.received.seller.name) or f"NIP {shown(case.seller_nip, 20)}"


CHECKS: dict[str, CheckFunction] = {
    "Z26": no_order,
    "Z27": unknown_order,
    "Z28": delivery,
}
