"""Is it for us, and who is on it? (Z01-Z12). Source: FA3-FIELDS §1."""

from __future__ import annotations

from collections.abc import Iterator

from ...invoice.addresses import ACCEPTED, AddressKey, address_key, score
from ...invoice.identifiers import is_made_up_nip, is_nip
from ...invoice.names import name_similarity
from ...invoice.received import Address, Party
from .case import Case, CheckFunction, Hit, buyer_shown, shown
from .catalogue import Severity

_SIMILAR_NAME = 60
_ROLES = {
    "1": "faktor",
    "2": "odbiorca",
    "3": "podmiot pierwotny",
    "4": "dodatkowy nabywca",
    "5": "wystawca faktury",
    "6": "dokonujący płatności",
    "7": "wystawca – jednostka JST",
    "8": "odbiorca – jednostka JST",
    "9": "wystawca – członek grupy VAT",
    "10": "odbiorca – członek grupy VAT",
    "11": "pracownik",
}


def not_ours(case: Case) -> Iterator[Hit]:
    """Z01; our NIP may also be that of the authorised party (Z02 says so)."""
    authorised = case.received.authorised
    if not case.knowledge.nips or case.buyer_is_us or case.our_thirds:
        return
    if authorised is not None and authorised.nip in case.knowledge.nips:
        return
    buyer = case.received.buyer
    nip = f"NIP {shown(case.buyer_nip, 20)}" if case.buyer_nip else buyer_shown(buyer)
    yield Hit("Podmiot2/DaneIdentyfikacyjne", {"nazwa": shown(buyer.name) or "brak nazwy", "nip": nip})


def ours_only_otherwise(case: Case) -> Iterator[Hit]:
    """Z02."""
    if not case.knowledge.nips or case.we_buy:
        return
    nip = buyer_shown(case.received.buyer)
    authorised = case.received.authorised
    if case.our_thirds:
        third = case.our_thirds[0]
        roles = (_ROLES.get(party.role) or shown(party.role_other) or "podmiot trzeci" for party in case.our_thirds)
        yield Hit(third.where, {"nip": nip, "rola": ", ".join(dict.fromkeys(roles))})
    elif authorised is not None and authorised.nip in case.knowledge.nips:
        yield Hit(authorised.where, {"nip": nip, "rola": "podmiot upoważniony"})


def mistyped_nip(case: Case) -> Iterator[Hit]:
    """Z03; a NIP with right check digits on an invoice that is ours by a third party is a firm of its own."""
    nip = case.buyer_nip
    if not nip or case.buyer_is_us or (is_nip(nip) and case.our_thirds):
        return
    for ours in sorted(case.knowledge.nips):
        if is_slip_of(nip, ours):
            yield Hit("Podmiot2/DaneIdentyfikacyjne/NIP", {"nip": shown(nip, 20), "nasz": ours})
            return


def is_slip_of(written: str, right: str) -> bool:
    """Whether two numbers of one length differ by one digit or by two digits that changed places."""
    if len(written) != len(right):
        return False
    places = [place for place, (one, other) in enumerate(zip(written, right, strict=True)) if one != other]
    if len(places) == 2:
        first, second = places
        return written[first] == right[second] and written[second] == right[first]
    return len(places) == 1


def nip_in_wrong_field(case: Case) -> Iterator[Hit]:
    """Z04; ten digits of a foreign number may happen to be a NIP, so abroad only ours, or one with PL, counts."""
    for row in case.received.rows("Podmiot2/DaneIdentyfikacyjne"):
        address_country = case.received.first("Podmiot2/Adres/KodKraju") or "PL"
        for name, country in (("NrVatUE", row.first("KodUE")), ("NrID", row.first("KodKraju"))):
            bare = row.first(name).upper().replace("-", "").replace(" ", "")
            number = bare.removeprefix("PL")
            is_home = (country or address_country) == "PL" or bare.startswith("PL")
            if number in case.knowledge.nips or (is_home and is_nip(number)):
                yield Hit(f"Podmiot2/DaneIdentyfikacyjne/{name}", {"pole": name, "nip": shown(number, 20)})


def no_nip(case: Case) -> Iterator[Hit]:
    """Z05, unless we are on it in a role that does not buy."""
    only_otherwise = bool(case.our_thirds) and not case.we_buy
    if case.received.buyer.no_id and not only_otherwise:
        yield Hit("Podmiot2/DaneIdentyfikacyjne/BrakID")


def other_name(case: Case) -> Iterator[Hit]:
    """Z06."""
    name = case.received.buyer.name
    if not name or not case.buyer_is_us or not case.knowledge.names:
        return
    alike = max(name_similarity(name, ours) for ours in case.knowledge.names)
    if alike < _SIMILAR_NAME:
        yield Hit("Podmiot2/DaneIdentyfikacyjne/Nazwa", {"nazwa": shown(name), "podobienstwo": str(alike)})


def no_name_or_address(case: Case) -> Iterator[Hit]:
    """Z07; a correction may be one of a simplified invoice."""
    if case.kind == "UPR" or case.corrects or not case.is_whole:
        return
    buyer = case.received.buyer
    has_address = any(address.kind == "Adres" and address.line1 for address in buyer.addresses)
    missing = [what for what, there in (("nazwy", buyer.name), ("adresu", has_address)) if not there]
    if missing:
        yield Hit("Podmiot2", {"czego": " i ".join(missing)})


def unknown_address(case: Case) -> Iterator[Hit]:
    """Z08."""
    if not case.buyer_is_us:
        return
    address = next((one for one in case.received.buyer.addresses if one.kind in ("Adres", "PostalAddress")), None)
    known = case.knowledge.address_keys
    if address is None or not address.line1 or not known:
        return
    written = address_key(address.line1, address.line2, address.country or "PL")
    if not any(_is_same_house(ours, written) for ours in known):
        yield Hit(address.where, {"adres": shown(_in_one_line(address))})


def _is_same_house(known: AddressKey, written: AddressKey) -> bool:
    house, other = (key.building.partition("/")[0] for key in (known, written))
    return (bool(house) and house == other and bool(known.postcode) and known.postcode == written.postcode) or score(
        known, written
    ) >= ACCEPTED


def _in_one_line(address: Address) -> str:
    return ", ".join(line for line in (address.line1, address.line2) if line)


def we_sell(case: Case) -> Iterator[Hit]:
    """Z09; when we asked KSeF for our own sales, that it is one is no fault."""
    if case.seller_nip not in case.knowledge.nips or case.received.self_invoicing:
        return
    yield Hit("Podmiot1/DaneIdentyfikacyjne/NIP", severity=Severity.I if case.is_own_sale else None)


def seller_is_buyer(case: Case) -> Iterator[Hit]:
    """Z10."""
    if case.buyer_nip and case.buyer_nip == case.seller_nip:
        yield Hit("Podmiot2/DaneIdentyfikacyjne/NIP", {"nip": shown(case.buyer_nip, 20)})


def wrong_check_digit(case: Case) -> Iterator[Hit]:
    """Z11."""
    for party in case.received.parties:
        if party.nip and not is_nip(party.nip):
            where = party.where if case.form == "P" else f"{party.where}/DaneIdentyfikacyjne/NIP"
            yield Hit(where, {"nip": shown(party.nip, 20), "strona": _side(party)})


def _side(party: Party) -> str:
    name = party.where.partition("[")[0]
    sides = {
        "Podmiot1": "sprzedawca",
        "AccountingSupplierParty": "sprzedawca",
        "Podmiot2": "nabywca",
        "AccountingCustomerParty": "nabywca",
        "PodmiotUpowazniony": "podmiot upoważniony",
    }
    return sides.get(name) or _ROLES.get(party.role) or "podmiot trzeci"


def made_up_seller(case: Case) -> Iterator[Hit]:
    """Z12, in production."""
    nip = case.seller_nip
    if case.knowledge.environment == "production" and (is_made_up_nip(nip) or nip.startswith("1234567")):
        yield Hit("Podmiot1/DaneIdentyfikacyjne/NIP", {"nip": shown(nip, 20)})


CHECKS: dict[str, CheckFunction] = {
    "Z01": not_ours,
    "Z02": ours_only_otherwise,
    "Z03": mistyped_nip,
    "Z04": nip_in_wrong_field,
    "Z05": no_nip,
    "Z06": other_name,
    "Z07": no_name_or_address,
    "Z08": unknown_address,
    "Z09": we_sell,
    "Z10": seller_is_buyer,
    "Z11": wrong_check_digit,
    "Z12": made_up_seller,
}
