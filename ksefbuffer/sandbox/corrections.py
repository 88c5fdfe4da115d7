"""Technical corrections: a rejected offline invoice sent again, with the same content in a file that passes.

Source: FACTS §10; open-api.json 21166, 21167; docs/offline/korekta-techniczna.md.
"""

from __future__ import annotations

import json
import sqlite3
from datetime import date
from decimal import Decimal
from typing import Any

from .numbers import WARSAW, nip_holds
from .reading import InvoiceFacts
from .store import restored
from .wire import BadRequest, invalid
from .world import World

_DUPLICATE = 440
_NO_RIGHT = 410


def accepted_instead(world: World, sha256: str) -> sqlite3.Row | None:
    """The accepted invoice that corrects the file with this hash (Base64), itself or by way of rejected corrections."""
    seen: set[str] = set()
    left = [sha256]
    while left:
        wanted = left.pop()
        if wanted in seen:
            continue
        seen.add(wanted)
        for row in world.store.all("SELECT * FROM invoices WHERE corrects = ?", wanted):
            if row["code"] == 200:
                return row
            left.append(row["sha256"])
    return None


def check_original(world: World, sha256: str, nip: str) -> None:
    """``sha256`` (Base64) is to be of an offline invoice that was rejected in the context of ``nip``. Raises 21166,
    21167, and 21405 for a file never handed in."""
    rows = [
        row
        for row in world.store.all(
            "SELECT i.*, s.context_value FROM invoices i JOIN sessions s ON s.reference = i.session"
            " WHERE i.sha256 = ? ORDER BY i.seq DESC",
            sha256,
        )
        if row["context_value"][:10] == nip
    ]
    if any(row["code"] == 200 for row in rows):
        raise _not_now("Nie można wysłać korekty technicznej do prawidłowo przetworzonej faktury.")
    if rows and accepted_instead(world, sha256) is not None:
        raise BadRequest(
            21166, "Korekta techniczna niedostępna.",
            ["Faktura posiada już przetworzoną prawidłowo korektę techniczną."],
        )  # fmt: skip
    if not rows:
        raise invalid("Pole 'hashOfCorrectedInvoice' nie wskazuje faktury przesłanej wcześniej w tym kontekście.")
    if any(row["code"] < 200 for row in rows):
        raise _not_now("Faktura pierwotna jest jeszcze przetwarzana.")
    if not any(_was_offline(row) for row in rows):
        raise _not_now("Korekta techniczna dotyczy wyłącznie faktur wystawionych w trybie offline.")
    if all(row["code"] == _NO_RIGHT for row in rows):
        raise _not_now("Korekta techniczna nie dotyczy faktur odrzuconych z powodu braku uprawnień.")


def _not_now(detail: str) -> BadRequest:
    return BadRequest(21167, "Status faktury nie pozwala na korektę techniczną.", [detail])


def _was_offline(row: sqlite3.Row) -> bool:
    """Declared so, or issued on an earlier Polish day than it was handed in (the automatic rule)."""
    if row["offline"]:
        return True
    issued = _day(json.loads(row["facts"])["issued"])
    return issued is not None and issued < restored(row["invoicing_at"]).astimezone(WARSAW).date()


def changed_content(world: World, sha256: str, now: InvoiceFacts) -> list[str]:
    """The business fields in which a correction differs from its original, as far as the original's can be read.
    What was itself the fault may differ: a NIP that does not hold, a date of the future, a number already taken."""
    row = world.store.one("SELECT * FROM invoices WHERE sha256 = ? AND code > 200 ORDER BY seq DESC", sha256)
    if row is None:
        return []
    was: dict[str, Any] = json.loads(row["facts"])
    is_now = now.as_dict()
    names = {"seller_nip": "Podmiot1/NIP", "number": "P_2", "issued": "P_1", "kind": "RodzajFaktury", "gross": "P_15",
             "net": "P_13", "vat": "P_14"}  # fmt: skip
    differing = [told for name, told in names.items() if _differs(name, was[name], is_now[name], row)]
    if was["currency"] != is_now["currency"] and was["number"]:
        differing.append("KodWaluty")
    buyer, buyer_now = was["buyer"], is_now["buyer"]
    if buyer["value"] != buyer_now["value"] and (nip_holds(buyer["value"]) or buyer["kind"] not in {"Nip", "None"}):
        differing.append("Podmiot2")
    return differing


def _differs(name: str, was: str, is_now: str, row: sqlite3.Row) -> bool:
    if not was or was == is_now:
        return False
    if name == "number":
        return bool(row["code"] != _DUPLICATE)
    if name == "seller_nip":
        return nip_holds(was)
    if name == "issued":
        issued = _day(was)
        return issued is not None and issued <= restored(row["invoicing_at"]).astimezone(WARSAW).date()
    if name in {"gross", "net", "vat"}:
        return Decimal(was) != 0 and Decimal(was) != Decimal(is_now)
    return True


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        return None
