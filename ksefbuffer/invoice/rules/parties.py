"""Who sells, who buys, who else (E01-E08). Source: FA3-FIELDS §1."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal

from ..document import Fields
from ..findings import Finding
from ..identifiers import collapse, is_nip
from ..wording import printable
from .case import ZERO, Case, flag, number

_COMPANY = re.compile(
    r"\bsp(?:\.|ółka|olka)\s*(?:z\s*\.?\s*o\.?\s*o\b|akcyjna|jawna|komandytowa|partnerska|[jkp]\.)|\bS\.\s?A\.|\bP\.?S\.?A\.",
    re.IGNORECASE,
)
_PESEL_WEIGHTS = (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)


def check(case: Case) -> Iterator[Finding]:
    """E01-E08."""
    yield from _buyer(case)
    if case.third_parties or flag(case.buyer, "JST") or flag(case.buyer, "GV"):
        yield from _third_parties(case)
    if "Podmiot1K" in case.fa or "Podmiot2K" in case.fa:
        yield from _corrected_parties(case)


def _buyer(case: Case) -> Iterator[Finding]:
    ids = case.buyer_id
    where = "Podmiot2/DaneIdentyfikacyjne"
    nip = ids.get("NIP")
    if nip is None:
        yield from _buyer_without_nip(case, ids, where)
    elif nip == case.header.seller_nip:
        yield case.warn(
            "E04",
            "Sprzedawca i nabywca mają ten sam NIP.",
            "Sprawdź dane nabywcy w ERP; wewnętrzne przesunięcia nie są fakturami.",
            f"{where}/NIP",
        )
    if case.kind in ("UPR", "KOR"):
        return
    missing = [name for name, there in (("nazwy", "Nazwa" in ids), ("adresu", "Adres" in case.buyer)) if not there]
    if missing:
        yield case.warn(
            "E03",
            f"Brak {' i '.join(missing)} nabywcy.",
            "Uzupełnij dane nabywcy w ERP; bez nich może być tylko faktura uproszczona (UPR).",
            "Podmiot2",
        )


def _buyer_without_nip(case: Case, ids: Fields, where: str) -> Iterator[Finding]:
    address_country = case.buyer.get("Adres", {}).get("KodKraju", "PL")
    for name, country in (("NrVatUE", ids.get("KodUE")), ("NrID", ids.get("KodKraju"))):
        value = ids.get(name)
        if value is None:
            continue
        bare = value.strip().upper().replace("-", "").replace(" ", "")
        abroad = country not in (None, "PL") or (country is None and address_country != "PL")
        if is_nip(bare.removeprefix("PL")) and (bare.startswith("PL") or not abroad):
            yield case.warn(
                "E01",
                f"NIP nabywcy wpisano w pole {name}; nabywca nie otrzyma faktury w KSeF.",
                "Polski NIP wpisz w pole NIP (10 cyfr bez PL).",
                f"{where}/{name}",
            )
        elif name == "NrID" and country == "PL" and not _is_pesel(bare):
            yield case.warn(
                "E02",
                "Nabywca bez NIP – faktura nie zostanie mu udostępniona w KSeF.",
                "Jeśli nabywca jest polską firmą, wpisz jego NIP.",
                f"{where}/NrID",
            )
    if "BrakID" in ids and address_country == "PL" and _COMPANY.search(ids.get("Nazwa", "")):
        yield case.warn(
            "E02",
            "Nabywca bez NIP, choć z nazwy jest firmą – faktura nie zostanie mu udostępniona w KSeF.",
            "Wpisz NIP nabywcy.",
            f"{where}/BrakID",
        )


def _is_pesel(text: str) -> bool:
    return (
        len(text) == 11
        and text.isdecimal()
        and text.isascii()
        and sum(int(digit) * weight for digit, weight in zip(text, _PESEL_WEIGHTS, strict=True)) % 10 == 0
    )


def _third_parties(case: Case) -> Iterator[Finding]:
    parties = case.third_parties
    roles = [party.get("Rola", "").strip() for party in parties]
    for name, role, what in (("JST", "8", "jednostki samorządu"), ("GV", "10", "członka grupy VAT")):
        identified = any(
            found == role and ({"NIP", "IDWew"} & party.get("DaneIdentyfikacyjne", {}).keys())
            for found, party in zip(roles, parties, strict=True)
        )
        if flag(case.buyer, name) and not identified:
            yield case.warn(
                "E05",
                f"{name}=1, a brak Podmiot3 z rolą {role} i z NIP lub identyfikatorem wewnętrznym.",
                f"Dodaj Podmiot3 z danymi {what} albo ustaw {name}=2; inaczej faktura tam nie trafi.",
                f"Podmiot2/{name}",
            )
        elif role in roles and not flag(case.buyer, name):
            yield case.warn(
                "E05",
                f"Jest Podmiot3 z rolą {role}, a {name}=2.",
                f"Ustaw {name}=1, jeśli faktura dotyczy {what}.",
                f"Podmiot2/{name}",
            )
    shares = ZERO
    for index, party in enumerate(parties, 1):
        path = f"Podmiot3[{index}]" if len(parties) > 1 else "Podmiot3"
        yield from _third_party(case, party, path)
        share = number(party, "Udzial")
        shares += share if share is not None and party.get("Rola", "").strip() == "4" else ZERO
    if shares >= Decimal(100):
        yield case.warn(
            "E06",
            "Podmiot3: udziały dodatkowych nabywców wynoszą razem 100% lub więcej.",
            "Reszta do 100% należy do nabywcy z Podmiot2; popraw udziały.",
            "Podmiot3",
        )


def _third_party(case: Case, party: Fields, path: str) -> Iterator[Finding]:
    ids: Fields = party.get("DaneIdentyfikacyjne", {})
    role = party.get("Rola", "").strip()
    problems = []
    if "Udzial" in party and role != "4":
        problems.append(("udział podaje się tylko dla dodatkowego nabywcy (rola 4)", "Usuń udział albo zmień rolę."))
    if role == "11" and "BrakID" not in ids:
        problems.append(("pracownik (rola 11) ma mieć BrakID=1", "Wpisz pracownika z nazwiska, bez numerów."))
    if role == "5" and case.header.self_invoicing:
        problems.append(
            ("wystawca (rola 5) wyklucza się z samofakturowaniem (P_17=1)", "W samofakturowaniu wystawcą jest nabywca.")
        )
    if flag(party, "RolaInna") and ids.get("NIP") and ids.get("NIP") == case.header.buyer_nip:
        problems.append(
            ("jest tą samą firmą co nabywca, z rolą inną", "Aplikacja Podatnika tego nie przyjmuje; podaj IDWew.")
        )
    for problem, hint in problems:
        yield case.warn("E06", f"Podmiot3: {problem}.", hint, path)
    internal = collapse(ids.get("IDWew", ""))
    # A member of a VAT group (role 10) has a NIP of its own; a unit of the buyer or of a JST has the buyer's.
    if internal and role in ("2", "8") and case.header.buyer_nip and internal[:10] != case.header.buyer_nip:
        yield case.warn(
            "E07",
            f"Identyfikator wewnętrzny {printable(internal)} – inny NIP niż nabywcy; "
            "jednostka może nie zobaczyć faktury.",
            "Identyfikator jednostki zaczyna się od NIP nabywcy z Podmiot2.",
            f"{path}/DaneIdentyfikacyjne/IDWew",
        )


def _corrected_parties(case: Case) -> Iterator[Finding]:
    hint = "Nie można korygować NIP – wystaw korektę do zera i nową fakturę."
    seller = case.fa.get("Podmiot1K", {}).get("DaneIdentyfikacyjne", {}).get("NIP")
    if seller and seller != case.header.seller_nip:
        yield case.warn("E08", "NIP sprzedawcy przed korektą (Podmiot1K) różni się od obecnego.", hint, "Fa/Podmiot1K")
    buyers = {case.header.buyer_nip} | {
        party.get("DaneIdentyfikacyjne", {}).get("NIP")
        for party in case.third_parties
        if party.get("Rola", "").strip() == "4"
    }
    corrected = case.fa.get("Podmiot2K", [])
    for index, party in enumerate(corrected, 1):
        nip = party.get("DaneIdentyfikacyjne", {}).get("NIP")
        if nip and nip not in buyers:
            path = f"Fa/Podmiot2K[{index}]" if len(corrected) > 1 else "Fa/Podmiot2K"
            yield case.warn("E08", "NIP nabywcy przed korektą (Podmiot2K) różni się od obecnego.", hint, path)
