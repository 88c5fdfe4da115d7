"""What we agreed with the seller, and what it says of itself and of others (Z13-Z20, Z48, Z52, Z53).

Source: FA3-FIELDS §1, §7, §8.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ...invoice.accounts import account_key
from ...invoice.received import Party
from .case import MAX_HITS, Case, CheckFunction, Hit, shown

_STATUSES = {
    "1": "w stanie likwidacji",
    "2": "w postępowaniu restrukturyzacyjnym",
    "3": "w stanie upadłości",
    "4": "przedsiębiorstwo w spadku",
}
_INTERNAL_ID = re.compile(r"[0-9]{10}-[0-9]{5}")


def unknown_seller(case: Case) -> Iterator[Hit]:
    """Z13."""
    if case.knowledge.has_suppliers and case.supplier is None and case.seller_nip not in case.knowledge.nips:
        yield Hit("Podmiot1/DaneIdentyfikacyjne/NIP", _seller(case))


def blocked_seller(case: Case) -> Iterator[Hit]:
    """Z14."""
    if case.supplier is not None and case.supplier.blocked:
        yield Hit("Podmiot1/DaneIdentyfikacyjne/NIP", _seller(case))


def _seller(case: Case) -> dict[str, str]:
    return {"nazwa": shown(case.received.seller.name) or "bez nazwy", "nip": shown(case.seller_nip, 20) or "brak"}


def self_invoicing(case: Case) -> Iterator[Hit]:
    """Z15."""
    if not case.received.self_invoicing or not case.knowledge.has_suppliers:
        return
    if case.supplier is None or not case.supplier.self_invoicing:
        yield Hit("Fa/Adnotacje/P_17", {"nip": shown(case.seller_nip, 20)})


def seller_in_trouble(case: Case) -> Iterator[Hit]:
    """Z16."""
    status = _STATUSES.get(case.received.first("Podmiot1/StatusInfoPodatnika"))
    if status is not None:
        yield Hit("Podmiot1/StatusInfoPodatnika", {"status": status})


def unit_unnamed(case: Case) -> Iterator[Hit]:
    """Z17."""
    yield from _flag_without_party(case, "JST", "8")


def member_unnamed(case: Case) -> Iterator[Hit]:
    """Z18."""
    yield from _flag_without_party(case, "GV", "10")


def _flag_without_party(case: Case, flag: str, role: str) -> Iterator[Hit]:
    if case.received.first(f"Podmiot2/{flag}") != "1" or not case.is_whole:
        return
    if not any(third.role == role and (third.nip or third.idwew) for third in case.received.thirds):
        yield Hit(f"Podmiot2/{flag}")


def unknown_internal_id(case: Case) -> Iterator[Hit]:
    """Z19."""
    known = case.knowledge.all_idwews
    for third in case.received.thirds:
        if known and third.idwew[:10] in case.knowledge.nips and third.idwew not in known:
            yield Hit(f"{third.where}/DaneIdentyfikacyjne/IDWew", {"idwew": shown(third.idwew, 20)})


def wrong_internal_id(case: Case) -> Iterator[Hit]:
    """Z20."""
    for third in case.received.thirds:
        if third.idwew and not internal_id_digit_ok(third.idwew):
            yield Hit(f"{third.where}/DaneIdentyfikacyjne/IDWew", {"idwew": shown(third.idwew, 20)})


def internal_id_digit_ok(text: str) -> bool:
    """Whether NIP-NNNNN ends in the right digit: the remainder of the others, weighed 1, 3, 1, 3 …, by 10. Its NIP is
    not looked at. Source: FA3-FIELDS §1 (MF's answer)."""
    if _INTERNAL_ID.fullmatch(text) is None:
        return False
    digits = [int(digit) for digit in text if digit != "-"]
    return sum(digit * (3 if place % 2 else 1) for place, digit in enumerate(digits[:14])) % 10 == digits[14]


def factor(case: Case) -> Iterator[Hit]:
    """Z48."""
    if not case.knowledge.has_suppliers:
        return
    supplier = case.supplier
    told_of = supplier.factors if supplier else ()
    accounts = {account_key(text) for text in case.body.values("Platnosc/RachunekBankowyFaktora/NrRB")}
    factors = [third for third in case.received.thirds if third.role == "1"]
    if supplier and accounts and accounts <= {account_key(text) for text in supplier.accounts}:
        return
    for third in factors:
        if not third.nip or third.nip not in told_of:
            yield Hit(third.where, {"nazwa": shown(third.name) or _number(third)})
            return
    if accounts and not factors:
        bank = case.body.first("Platnosc/RachunekBankowyFaktora/NazwaBanku")
        yield Hit("Fa/Platnosc/RachunekBankowyFaktora", {"nazwa": shown(bank) or "nienazwanym"})


def _number(party: Party) -> str:
    return f"NIP {shown(party.nip, 20)}" if party.nip else "bez nazwy"


def related(case: Case) -> Iterator[Hit]:
    """Z52."""
    if not case.knowledge.has_related:
        return
    is_listed = case.supplier is not None and case.supplier.related
    if case.flag("TP") and not is_listed:
        yield Hit("Fa/TP", {"opis": "na fakturze jest, na liście nie ma"})
    elif is_listed and not case.flag("TP"):
        yield Hit("Fa/TP", {"opis": "na liście jest, na fakturze nie ma"})


def others_pay(case: Case) -> Iterator[Hit]:
    """Z53."""
    ours = case.knowledge.nips or {case.buyer_nip}
    for third in case.received.thirds[: 10 * MAX_HITS]:
        name = shown(third.name) or _number(third)
        if third.role == "6" and third.nip not in ours and third.idwew[:10] not in ours:
            yield Hit(third.where, {"nazwa": name})
        elif third.role == "11":
            yield Hit(third.where, {"nazwa": name}, variant="employee")


CHECKS: dict[str, CheckFunction] = {
    "Z13": unknown_seller,
    "Z14": blocked_seller,
    "Z15": self_invoicing,
    "Z16": seller_in_trouble,
    "Z17": unit_unnamed,
    "Z18": member_unnamed,
    "Z19": unknown_internal_id,
    "Z20": wrong_internal_id,
    "Z48": factor,
    "Z52": related,
    "Z53": others_pay,
}
