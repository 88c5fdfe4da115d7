"""What an invoice says: the header that everybody asks for, and the fields of a FA as plain nested values.

Names are matched by local name, so prefixes and namespaces do not matter here. Nothing raises: what cannot be read is
None (or absent). Source of the fields: FA3-FIELDS §1, §8, §9.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

from lxml import etree

from .forms import BY_NAMESPACE, FA3, Form
from .identifiers import collapse
from .reading import local_name, read

# A leaf is its text, a container another Fields, what may be repeated a list of Fields.
Fields = dict[str, Any]


@dataclass(frozen=True, repr=False)
class CorrectedInvoice:
    """One DaneFaKorygowanej: what a correction corrects. ``ksef_number`` is None when it was issued without one."""

    number: str
    issue_date: date | None
    ksef_number: str | None


@dataclass(frozen=True, repr=False)
class InvoiceHeader:
    """What can be said of an invoice without its rows; None where it could not be read.

    ``invoice_number`` is whitespace-collapsed, as KSeF keeps it; ``gross`` is P_15 in ``currency``; ``seller_nip`` is
    what the document says, right or wrong. Its repr names nothing but the form: it may end in logs.
    """

    form: Form | None = None
    invoice_number: str | None = None
    invoice_type: str | None = None
    issue_date: date | None = None
    seller_nip: str | None = None
    seller_name: str | None = None
    buyer_nip: str | None = None
    buyer_name: str | None = None
    currency: str | None = None
    gross: Decimal | None = None
    has_attachment: bool = False
    self_invoicing: bool = False
    corrected: tuple[CorrectedInvoice, ...] = ()

    def __repr__(self) -> str:
        return f"InvoiceHeader(form={self.form.system_code if self.form else None!r})"


# Kinds of elements, see _KINDS.
_LEAF, _CONTAINER, _REPEATED, _PRESENCE = range(4)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_CONTAINERS = _names("""
    Naglowek Podmiot1 Podmiot2 PodmiotUpowazniony DaneIdentyfikacyjne Adres AdresKoresp Fa FakturaRR OkresFa Adnotacje
    Zwolnienie NoweSrodkiTransportu PMarzy Podmiot1K Rozliczenie Platnosc TerminOpis WarunkiTransakcji Zamowienie
""")
_REPEATEDS = _names("""
    Podmiot3 DaneFaKorygowanej Podmiot2K ZaliczkaCzesciowa DodatkowyOpis FakturaZaliczkowa FaWiersz Obciazenia
    Odliczenia ZaplataCzesciowa TerminPlatnosci RachunekBankowy RachunekBankowyFaktora ZamowienieWiersz
    NowySrodekTransportu
""")
# Whole branches that no rule reads; only that they are there is kept.
_PRESENCES = _names("DaneKontaktowe Stopka Zalacznik Transport Umowy Zamowienia Skonto FakturaRRWiersz")
_LEAVES = _names("""
    KodFormularza DataWytworzeniaFa PrefiksPodatnika NIP Nazwa KodUE NrVatUE KodKraju NrID BrakID IDWew AdresL1 AdresL2
    GLN IDNabywcy JST GV Rola RolaInna Udzial KodWaluty P_1 P_2 P_6 P_6_Od P_6_Do P_13_1 P_14_1 P_14_1W P_13_2 P_14_2
    P_14_2W P_13_3 P_14_3 P_14_3W P_13_4 P_14_4 P_14_4W P_13_5 P_14_5 P_13_6_1 P_13_6_2 P_13_6_3 P_13_7 P_13_8 P_13_9
    P_13_10 P_13_11 P_15 KursWalutyZ P_16 P_17 P_18 P_18A P_19 P_19N P_22 P_22N P_NrWierszaNST P_23 P_PMarzy P_PMarzyN
    RodzajFaktury PrzyczynaKorekty TypKorekty DataWystFaKorygowanej NrFaKorygowanej NrKSeF NrKSeFFaKorygowanej NrKSeFN
    OkresFaKorygowanej NrFaKorygowany P_15ZK P_6Z P_15Z FP TP NrWiersza Klucz Wartosc NrKSeFZN NrFaZaliczkowej
    NrKSeFFaZaliczkowej NrWierszaFa P_6A P_7 GTIN PKWiU CN P_8A P_8B P_9A P_9B P_10 P_11 P_11A P_11Vat P_12 P_12_XII
    P_12_Zal_15 GTU Procedura KursWaluty StanPrzed Kwota SumaObciazen SumaOdliczen DoZaplaty DoRozliczenia Zaplacono
    DataZaplaty KwotaZaplatyCzesciowej DataZaplatyCzesciowej Termin Ilosc FormaPlatnosci NrRB LinkDoPlatnosci IPKSeF
    WalutaUmowna WartoscZamowienia NrWierszaZam GTINZ PKWiUZ CNZ P_11NettoZ P_11VatZ P_12Z P_12Z_XII P_12Z_Zal_15
    StanPrzedZ P_4B P_4C P_12_1
""")
_KIND_OF_NAME: dict[str, int] = {
    **dict.fromkeys(_LEAVES, _LEAF),
    **dict.fromkeys(_CONTAINERS, _CONTAINER),
    **dict.fromkeys(_REPEATEDS, _REPEATED),
    **dict.fromkeys(_PRESENCES, _PRESENCE),
}
# Complete FA(3) tags to (local name, kind): one look-up per element on the path that every invoice takes.
_KINDS: dict[object, tuple[str, int]] = {
    f"{{{FA3.namespace}}}{name}": (name, kind) for name, kind in _KIND_OF_NAME.items()
}
_MAX_DEPTH = 12


def read_header(content: bytes) -> InvoiceHeader:
    """The header of ``content``, whatever it is; FA(3), FA(2), FA_RR and PEF are understood. Never raises."""
    root = read(content).root
    return InvoiceHeader() if root is None else header_of(root, fields_of(root))


def form_of(root: etree._Element) -> Form | None:
    """The form by the root's namespace and name; None when KSeF knows no such form."""
    namespace, _, name = str(root.tag)[1:].rpartition("}")
    form = BY_NAMESPACE.get(namespace)
    return form if form is not None and form.root == name else None


def fields_of(root: etree._Element) -> Fields:
    """The fields that rules read, below the root, by local name. Text is as it stands (not collapsed). Of a field
    that must not be repeated, but is, the first counts."""
    return _fields(root, 0)


def _fields(element: etree._Element, depth: int) -> Fields:
    found: Fields = {}
    kinds = _KINDS
    for child in element:
        tag = child.tag
        if tag in kinds:
            name, kind = kinds[tag]
        else:
            name = local_name(child)
            if name not in _KIND_OF_NAME:
                continue
            kind = _KIND_OF_NAME[name]
        if kind == _REPEATED:
            if depth < _MAX_DEPTH:
                found.setdefault(name, []).append(_fields(child, depth + 1))
        elif name in found:
            continue
        elif kind == _LEAF:
            found[name] = child.text or ""
        elif kind == _CONTAINER and depth < _MAX_DEPTH:
            found[name] = _fields(child, depth + 1)
        else:
            found[name] = {}
    return found


def header_of(root: etree._Element, fields: Fields) -> InvoiceHeader:
    """The header of a document read into ``root`` and ``fields`` (= fields_of(root))."""
    form = form_of(root)
    if form is not None and form.value == "PEF":
        return _ubl_header(root, form)
    fa = fields.get("Fa")
    if fa is None:
        farmer = fields.get("FakturaRR")
        return _header(form, fields, farmer or {}, "P_4C", "P_4B", "P_12_1")
    return _header(form, fields, fa, "P_2", "P_1", "P_15")


def _header(form: Form | None, fields: Fields, fa: Fields, number: str, issued: str, gross: str) -> InvoiceHeader:
    seller = fields.get("Podmiot1", {}).get("DaneIdentyfikacyjne", {})
    buyer = fields.get("Podmiot2", {}).get("DaneIdentyfikacyjne", {})
    corrected = fa.get("DaneFaKorygowanej")
    return InvoiceHeader(
        form,
        _text(fa.get(number)),
        _text(fa.get("RodzajFaktury")),
        date_of(fa.get(issued)),
        _text(seller.get("NIP")),
        _text(seller.get("Nazwa")),
        _text(buyer.get("NIP")),
        _text(buyer.get("Nazwa")),
        _text(fa.get("KodWaluty")),
        decimal_of(fa.get(gross)),
        "Zalacznik" in fields,
        fa.get("Adnotacje", {}).get("P_17", "").strip() == "1",
        tuple(map(_corrected, corrected)) if corrected else (),
    )


def _corrected(fields: Fields) -> CorrectedInvoice:
    return CorrectedInvoice(
        collapse(fields.get("NrFaKorygowanej", "")),
        date_of(fields.get("DataWystFaKorygowanej")),
        _text(fields.get("NrKSeFFaKorygowanej")),
    )


def date_of(text: str | None) -> date | None:
    """A date written as FA(3) writes it (RRRR-MM-DD); None for anything else."""
    if text is None:
        return None
    text = text.strip()
    if len(text) != 10 or text[4] != "-":
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def decimal_of(text: str | None) -> Decimal | None:
    """A finite decimal number of a sane size; None for anything else."""
    if text is None or len(text) > 60:
        return None
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number.adjusted()) < 40 else None


def _text(value: str | None) -> str | None:
    return (collapse(value) or None) if value else None


def _ubl_header(root: etree._Element, form: Form) -> InvoiceHeader:
    """PEF: UBL 2.1, where parties hold their numbers as VAT (PartyTaxScheme) or legal (PartyLegalEntity) ids."""
    seller_nip, seller_name = _ubl_party(root, "AccountingSupplierParty")
    buyer_nip, buyer_name = _ubl_party(root, "AccountingCustomerParty")
    total = _ubl(root, "LegalMonetaryTotal", "TaxInclusiveAmount") or _ubl(root, "LegalMonetaryTotal", "PayableAmount")
    references = [
        reference
        for billing in root
        if local_name(billing) == "BillingReference"
        for reference in billing
        if local_name(reference) == "InvoiceDocumentReference"
    ]
    return InvoiceHeader(
        form,
        _ubl(root, "ID"),
        _ubl(root, "InvoiceTypeCode") or _ubl(root, "CreditNoteTypeCode"),
        date_of(_ubl(root, "IssueDate")),
        seller_nip,
        seller_name,
        buyer_nip,
        buyer_name,
        _ubl(root, "DocumentCurrencyCode"),
        decimal_of(total),
        corrected=tuple(
            CorrectedInvoice(_ubl(reference, "ID") or "", date_of(_ubl(reference, "IssueDate")), None)
            for reference in references
        ),
    )


def _ubl_party(root: etree._Element, role: str) -> tuple[str | None, str | None]:
    number = _ubl(root, role, "Party", "PartyTaxScheme", "CompanyID")
    name = _ubl(root, role, "Party", "PartyLegalEntity", "RegistrationName") or _ubl(
        root, role, "Party", "PartyName", "Name"
    )
    digits = number.removeprefix("PL") if number else ""
    return (digits if len(digits) == 10 and digits.isdecimal() else None), name


def _ubl(element: etree._Element, *path: str) -> str | None:
    node: etree._Element | None = element
    for step in path:
        node = next((child for child in node if local_name(child) == step), None) if node is not None else None
    return _text(node.text) if node is not None else None
