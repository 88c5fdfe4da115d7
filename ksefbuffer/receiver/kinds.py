"""Goods or costs: the supplier's setting first, what the invoice shows second, "niejasne" on a tie.

Nothing in an invoice proves it. Source: FA3-FIELDS §9 (the heuristic), §6 (employees).
"""

from __future__ import annotations

import re
from typing import Literal

from ..invoice.received import Received, Row

Kind = Literal["towar", "koszt", "niejasne"]

MAX_LINES = 200

_SERVICE_CLASSES = re.compile(
    r"(?:35|36|38|45|49|52|53|61|62|63|68|69|7[0-9]|8[0-2]|8[4-9]|9[0-9])(?:\D|\d\d|$)", re.ASCII
)
_SERVICE_GTU = frozenset(("GTU_11", "GTU_12", "GTU_13"))
_SERVICE_UNITS = frozenset(
    (
        "kwh",
        "mwh",
        "m3",
        "gj",
        "usl",
        "usl.",
        "usł",
        "usł.",
        "usługa",
        "godz",
        "godz.",
        "h",
        "rbh",
        "m-c",
        "mies",
        "mies.",
    )
)
_GOODS_UNITS = frozenset(("szt", "szt.", "kg", "op", "op.", "opak", "opak.", "karton", "kart.", "kpl", "kpl.", "l"))
_EMPLOYEE = "11"


def kind_of(received: Received, configured: str = "") -> Kind:
    """Whether this is an invoice for goods or for costs; ``configured`` is the supplier's own setting, "" for none.
    What a farmer sells (FA_RR) is goods."""
    if configured == "towar" or (not configured and received.is_farmers):
        return "towar"
    if configured == "koszt" or any(party.role == _EMPLOYEE for party in received.thirds):
        return "koszt"
    goods = 2 * bool(received.wz) + bool(received.orders) + bool(received.destinations)
    goods += bool(received.values("Fa/WarunkiTransakcji/NrPartiiTowaru"))
    cost = 2 * bool(received.has("Fa/OkresFa"))
    signs = [_line(row) for row in received.rows("Fa/FaWiersz")[:MAX_LINES]]
    goods += bool(signs) and 2 * sum(sign > 0 for sign in signs) > len(signs)
    cost += 2 * (bool(signs) and 2 * sum(sign < 0 for sign in signs) > len(signs))
    if received.has_attachment:
        cost += any("ppe" in key.lower() or "licznik" in key.lower() for key, _ in received.attachment_metadata)
    return "towar" if goods > cost else "koszt" if cost > goods else "niejasne"


def _line(row: Row) -> int:
    """What a line speaks for: above 0 goods, below 0 costs."""
    points = 2 * bool(row.first("GTIN") or row.first("CN"))
    unit = row.first("P_8A").lower()
    points += (unit in _GOODS_UNITS) - 2 * (unit in _SERVICE_UNITS)
    if _SERVICE_CLASSES.match(row.first("PKWiU")) or row.first("GTU") in _SERVICE_GTU:
        points -= 2
    return points
