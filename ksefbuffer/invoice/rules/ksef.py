"""Group D: what KSeF enforces once the XML is right. Source: FACTS §13, §10 (automatic offline), §5 (attachments)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..document import Fields
from ..findings import Finding
from ..identifiers import collapse, internal_id_ok, is_nip, is_nip_shape
from ..wording import printable
from .case import Case

# Podmiot3 roles that issue in their own context on the strength of a relation to the seller: JST and VAT group.
_ISSUING_MEMBERS = ("7", "9")


def refused_by_ksef(case: Case, our_nip: str, correction: bool, offline: bool) -> Iterator[Finding]:
    """D01-D04, D06, D07 as errors, D09 as a warning."""
    yield from _seller(case, our_nip)
    yield from _checksums(case)
    yield from _issue_date(case, offline or correction)
    if case.header.has_attachment and not correction:
        yield case.block(
            "D06",
            "Faktura ma załącznik – wymagana wysyłka wsadowa i zgłoszenie w e-Urzędzie Skarbowym.",
            "Bufor wysyła w sesji interaktywnej, która nie przyjmuje załączników; wystaw fakturę bez załącznika.",
            "Zalacznik",
        )


def _seller(case: Case, our_nip: str) -> Iterator[Finding]:
    seller = case.header.seller_nip
    if seller is None:
        return
    if case.header.self_invoicing and seller == our_nip:
        yield case.block(
            "D07",
            "Samofakturowanie (P_17=1): fakturę wysyła nabywca, nie sprzedawca.",
            "Jeśli to zwykła sprzedaż, ustaw P_17=2; w samofakturowaniu plik wysyła nabywca ze swojego bufora.",
            "Fa/Adnotacje/P_17",
        )
    if seller == our_nip or _may_issue_for_seller(case, our_nip):
        return
    yield case.block(
        "D01",
        f"Sprzedawcą jest {printable(seller)}, a bufor wysyła dla {our_nip}.",
        "Wyślij tę fakturę z bufora jej sprzedawcy albo popraw NIP sprzedawcy (Podmiot1) w ERP.",
        "Podmiot1/DaneIdentyfikacyjne/NIP",
    )


def _may_issue_for_seller(case: Case, our_nip: str) -> bool:
    """Whether the document itself shows why we send what another sells: self-invoicing by us as the buyer, an
    authorised entity (bailiff, tax representative), or an issuing member of a JST or VAT group."""
    if case.header.self_invoicing and case.header.buyer_nip == our_nip:
        return True
    if _nip(case.fields.get("PodmiotUpowazniony", {})) == our_nip:
        return True
    return any(
        party.get("Rola", "").strip() in _ISSUING_MEMBERS and _nip(party) == our_nip for party in case.third_parties
    )


def _nip(party: Fields) -> str:
    found: Any = party.get("DaneIdentyfikacyjne", {}).get("NIP", "")
    return str(found)


def _checksums(case: Case) -> Iterator[Finding]:
    parties = [
        ("Podmiot1", "sprzedawca", case.seller),
        ("Podmiot2", "nabywca", case.buyer),
        ("PodmiotUpowazniony", "podmiot upoważniony", case.fields.get("PodmiotUpowazniony", {})),
    ]
    several = len(case.third_parties) > 1
    parties.extend(
        (f"Podmiot3[{index}]" if several else "Podmiot3", "podmiot trzeci", party)
        for index, party in enumerate(case.third_parties, 1)
    )
    for path, side, party in parties:
        ids = party.get("DaneIdentyfikacyjne")
        if not ids:
            continue
        nip = ids.get("NIP")
        if nip is not None and is_nip_shape(nip) and not is_nip(nip):
            yield case.block(
                "D02",
                f"Błędna suma kontrolna NIP {nip} ({side}).",
                "Popraw NIP w kartotece ERP; można go sprawdzić na Białej liście podatników VAT.",
                f"{path}/DaneIdentyfikacyjne/NIP",
            )
        internal = ids.get("IDWew")
        if internal is not None:
            internal = collapse(internal)
            if is_nip_shape(internal[:10]) and not is_nip(internal[:10]):
                yield case.block(
                    "D03",
                    f"Błędny NIP w identyfikatorze wewnętrznym {printable(internal)}.",
                    "Zapytaj odbiorcę o właściwy identyfikator wewnętrzny (NIP-NNNNN).",
                    f"{path}/DaneIdentyfikacyjne/IDWew",
                )
            elif is_nip_shape(internal[:10]) and len(internal) == 16 and not internal_id_ok(internal):
                yield case.warn(
                    "E07",
                    f"Identyfikator wewnętrzny {printable(internal)} – błędna cyfra kontrolna; "
                    "jednostka może nie zobaczyć faktury.",
                    "Zapytaj odbiorcę o właściwy identyfikator wewnętrzny (NIP-NNNNN).",
                    f"{path}/DaneIdentyfikacyjne/IDWew",
                )


def _issue_date(case: Case, offline: bool) -> Iterator[Finding]:
    issued = case.header.issue_date
    if issued is None:
        return
    if issued > case.today:
        yield case.block(
            "D04",
            f"Data wystawienia {issued} jest późniejsza niż dzisiejsza.",
            "Popraw datę wystawienia (P_1) albo wyślij fakturę w jej dniu; sprawdź zegar komputera z ERP.",
            "Fa/P_1",
        )
    elif issued < case.today and not offline:
        yield case.warn(
            "D09",
            f"Data wystawienia {issued} jest wcześniejsza niż dziś – KSeF oznaczy fakturę jako offline.",
            "Wysyłaj faktury w dniu wystawienia; egzemplarz wydany nabywcy poza KSeF wymaga kodów QR.",
            "Fa/P_1",
        )
