"""A received invoice as far as it can be read: one parse, fields on demand, nothing raises.

Paths are local names from below the root, in any namespace: ``Fa/DodatkowyOpis/Wartosc``. Texts are collapsed as XSD
does; an empty text counts as none. Understood: FA(3), FA(2), FA_RR, PEF and PEF_KOR (UBL); of any other form whatever
stands at the same paths. Source: FA3-FIELDS §1 to §11, FACTS §7.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cached_property
from typing import Any

from lxml import etree

from .document import date_of, decimal_of
from .forms import BY_NAMESPACE, BY_SYSTEM_CODE
from .parties import Address, Party, address_of, marked_gln, party_of, ubl_address_of, ubl_party_of
from .paths import Path, compile_path
from .rows import MAX_FOUND, NOTHING, Row, find
from .tolerant import parse

__all__ = [
    "MAX_FOUND",
    "Address",
    "Advance",
    "CorrectedInvoice",
    "Extra",
    "Party",
    "Received",
    "Row",
    "read_received",
]

MAX_ATTACHMENT_METADATA = 1_000


@dataclass(frozen=True, repr=False)
class CorrectedInvoice:
    """One DaneFaKorygowanej; ``ksef_number`` is "" when the original is given without one, ``without_ksef`` is its
    NrKSeFN mark."""

    number: str
    issue_date: date | None
    ksef_number: str
    without_ksef: bool


@dataclass(frozen=True, repr=False)
class Advance:
    """One FakturaZaliczkowa: the KSeF number, or the issuer's own number when it was issued outside KSeF."""

    ksef_number: str
    number: str


@dataclass(frozen=True, repr=False)
class Extra:
    """One DodatkowyOpis; ``row`` is NrWiersza, "" when it belongs to the whole invoice."""

    key: str
    value: str
    row: str


class Received:
    """What a received document says. ``damage`` tells, in Polish, what had to be mended to read it; ``readable`` is
    False when there was nothing to read. Its repr names nothing but the form: it may end in logs."""

    def __init__(self, root: etree._Element | None, damage: tuple[str, ...]) -> None:
        self._root = Row(root)
        self._element = root
        self._damage = damage
        # What is worked out of it once and asked for often.
        self.memo: dict[str, Any] = {}
        self.readable: bool = root is not None and len(root) > 0

    def __repr__(self) -> str:
        return f"Received(form={self.form!r})"

    # Access by path

    def values(self, path: str) -> list[str]:
        """The texts at ``path`` (``Fa/FaWiersz/P_7``), collapsed, without empty ones."""
        return self._root.values(path)

    def first(self, path: str) -> str:
        """The first text at ``path``; "" when there is none."""
        return self._root.first(path)

    def rows(self, path: str) -> list[Row]:
        """The elements at ``path``."""
        return self._root.rows(path)

    def has(self, path: str) -> bool:
        """Whether there is an element at ``path``, empty or not."""
        return self._root.has(path)

    def xpath(self, expression: str) -> list[str]:
        """The texts that ``expression`` finds, see ``paths.compile_path``. Raises paths.PathFault when it is no such
        expression: compile it when a rule is taken in, not here."""
        return self.find(compile_path(expression))

    def find(self, path: Path) -> list[str]:
        """The texts at a compiled path."""
        return find(self._root, path)

    # What form it is

    @cached_property
    def _form_and_note(self) -> tuple[str, str]:
        if self._element is None:
            return "", ""
        namespace, _, name = str(self._element.tag)[1:].rpartition("}")
        form = BY_NAMESPACE.get(namespace)
        if form is not None and form.root == name:
            return form.system_code, ""
        if not namespace:
            declared = BY_SYSTEM_CODE.get(next((row.attribute("kodSystemowy") for row in self._codes), ""))
            if declared is not None:
                return declared.system_code, "brak przestrzeni nazw, strukturę odczytano z nagłówka"
        return "", ""

    @property
    def _codes(self) -> list[Row]:
        return self._root.rows("Naglowek/KodFormularza")

    @property
    def form(self) -> str:
        """KSeF's system code ("FA (3)"); "" when the document is of no form that KSeF knows."""
        return self._form_and_note[0]

    @cached_property
    def whole(self) -> bool:
        """Whether nothing may have been lost in reading: what is missing is missing in the invoice."""
        return self.readable and not any("składnia" in damage for damage in self._damage)

    @property
    def damage(self) -> tuple[str, ...]:
        """What had to be mended, in Polish, for people; without contents."""
        note = self._form_and_note[1]
        return (*self._damage, note) if note else self._damage

    @cached_property
    def form_named(self) -> str:
        """The form as the document calls itself, known or not: kodSystemowy, else the root's name. For people."""
        return next((row.attribute("kodSystemowy") for row in self._codes), "") or self._root.name

    @cached_property
    def is_farmers(self) -> bool:
        """Whether this is a FA_RR, where Podmiot1 is the farmer and Podmiot2, the buyer, is the issuer."""
        return self._body.name == "FakturaRR"

    @cached_property
    def is_ubl(self) -> bool:
        """Whether this is an UBL document (PEF)."""
        return self._root.has("AccountingSupplierParty") or self.form.startswith("PEF")

    @cached_property
    def is_correction(self) -> bool:
        """Whether this corrects another invoice."""
        return self.invoice_type.startswith("KOR") or self.form == "PEF_KOR (3)" or self.invoice_type in ("384", "381")

    @cached_property
    def _body(self) -> Row:
        """Fa, or FakturaRR; looked for at any depth where a missing end tag has moved it."""
        for name in ("Fa", "FakturaRR"):
            found = self._root.rows(name)
            if found:
                return found[0]
        for name in () if self._root.has("AccountingSupplierParty") else ("Fa", "FakturaRR"):
            deep = next(self._root.below(name), None)
            if deep is not None:
                return deep
        return NOTHING

    def _of(self, fa: str, farmers: str, *ubl: str) -> str:
        if self.is_ubl:
            return next((found for path in ubl if (found := self._root.first(path))), "")
        return self._body.first(farmers if self.is_farmers else fa)

    # Head

    @cached_property
    def invoice_number(self) -> str:
        """P_2 (P_4C of a FA_RR), whitespace-collapsed; "" when there is none."""
        return self._of("P_2", "P_4C", "ID")

    @cached_property
    def invoice_type(self) -> str:
        """RodzajFaktury (VAT, KOR, ZAL …), of a PEF its type code (380 …)."""
        return self._of("RodzajFaktury", "RodzajFaktury", "InvoiceTypeCode", "CreditNoteTypeCode")

    @cached_property
    def issue_date(self) -> date | None:
        """P_1 (P_4B of a FA_RR)."""
        return date_of(self._of("P_1", "P_4B", "IssueDate"))

    @cached_property
    def place_of_issue(self) -> str:
        """P_1M."""
        return self._of("P_1M", "P_1M")

    @cached_property
    def sale_date(self) -> date | None:
        """The date of delivery of the whole: P_6 (P_4A of a FA_RR), else the end of the period."""
        return date_of(
            self._of("P_6", "P_4A", "Delivery/ActualDeliveryDate")
            or self._of("OkresFa/P_6_Do", "", "InvoicePeriod/EndDate")
        )

    @cached_property
    def delivery_dates(self) -> tuple[date, ...]:
        """Every date of delivery: of the whole, of the period's ends and of lines; sorted, each once."""
        texts = [self._of("P_6", "P_4A", "Delivery/ActualDeliveryDate")]
        for path in ("OkresFa/P_6_Od", "OkresFa/P_6_Do", "FaWiersz/P_6A"):
            texts.extend(self._body.values(path))
        return tuple(sorted({day for text in set(texts) if (day := date_of(text)) is not None}))

    @cached_property
    def currency(self) -> str:
        """KodWaluty."""
        return self._of("KodWaluty", "KodWaluty", "DocumentCurrencyCode")

    @cached_property
    def gross(self) -> Decimal | None:
        """P_15 (P_12_1 of a FA_RR) in ``currency``; a correction's is the difference."""
        return decimal_of(
            self._of("P_15", "P_12_1", "LegalMonetaryTotal/TaxInclusiveAmount", "LegalMonetaryTotal/PayableAmount")
        )

    @cached_property
    def self_invoicing(self) -> bool:
        """Whether the buyer issued it: P_17 = 1."""
        return self._body.first("Adnotacje/P_17") == "1"

    @cached_property
    def has_attachment(self) -> bool:
        """Whether there is a Zalacznik."""
        return self._root.has("Zalacznik")

    # Parties

    @cached_property
    def seller(self) -> Party:
        """Podmiot1; empty when there is none."""
        return self._ubl_party("AccountingSupplierParty") if self.is_ubl else self._party("Podmiot1")

    @cached_property
    def buyer(self) -> Party:
        """Podmiot2; empty when there is none."""
        return self._ubl_party("AccountingCustomerParty") if self.is_ubl else self._party("Podmiot2")

    @cached_property
    def thirds(self) -> tuple[Party, ...]:
        """Podmiot3, each."""
        found = self._root.rows("Podmiot3") or (list(self._root.below("Podmiot3")) if self._damage else [])
        return tuple(
            party_of(row, f"Podmiot3[{number}]" if len(found) > 1 else "Podmiot3")
            for number, row in enumerate(found, 1)
        )

    @cached_property
    def authorised(self) -> Party | None:
        """PodmiotUpowazniony."""
        found = self._root.rows("PodmiotUpowazniony")
        return party_of(found[0], "PodmiotUpowazniony") if found else None

    @cached_property
    def parties(self) -> tuple[Party, ...]:
        """Seller, buyer, third parties and the authorised one."""
        return (self.seller, self.buyer, *self.thirds, *((self.authorised,) if self.authorised else ()))

    def _party(self, name: str) -> Party:
        found = self._root.rows(name)
        if not found and self._damage:
            found = list(self._root.below(name))
        return party_of(found[0], name) if found else Party(name)

    def _ubl_party(self, name: str) -> Party:
        found = self._root.rows(f"{name}/Party")
        return ubl_party_of(found[0], name) if found else Party(name)

    # What it refers to

    @cached_property
    def corrected(self) -> tuple[CorrectedInvoice, ...]:
        """The invoices that this one corrects; at most MAX_FOUND."""
        if self.is_ubl:
            return tuple(
                CorrectedInvoice(row.first("ID"), date_of(row.first("IssueDate")), _ksef_number(row.first("ID")), False)
                for row in self._root.rows("BillingReference/InvoiceDocumentReference")
            )
        return tuple(
            CorrectedInvoice(
                row.first("NrFaKorygowanej"),
                date_of(row.first("DataWystFaKorygowanej")),
                _ksef_number(row.first("NrKSeFFaKorygowanej")),
                row.first("NrKSeFN") == "1",
            )
            for row in self._body.rows("DaneFaKorygowanej")
        )

    @cached_property
    def advances(self) -> tuple[Advance, ...]:
        """The advance invoices that this one settles (FakturaZaliczkowa)."""
        return tuple(
            Advance(_ksef_number(row.first("NrKSeFFaZaliczkowej")), row.first("NrFaZaliczkowej"))
            for row in self._body.rows("FakturaZaliczkowa")
        )

    @cached_property
    def orders(self) -> tuple[str, ...]:
        """Order numbers, as written."""
        if self.is_ubl:
            return _each_once(self._root.values("OrderReference/ID"))
        return _each_once(self._body.values("WarunkiTransakcji/Zamowienia/NrZamowienia"))

    @cached_property
    def wz(self) -> tuple[str, ...]:
        """Goods issue notes (WZ), as written; of a PEF the despatch and receipt documents."""
        if self.is_ubl:
            despatched = self._root.values("DespatchDocumentReference/ID")
            return _each_once([*despatched, *self._root.values("ReceiptDocumentReference/ID")])
        return _each_once(self._body.values("WZ"))

    @cached_property
    def contracts(self) -> tuple[str, ...]:
        """Contract numbers, as written."""
        if self.is_ubl:
            return _each_once(self._root.values("ContractDocumentReference/ID"))
        return _each_once(self._body.values("WarunkiTransakcji/Umowy/NrUmowy"))

    @cached_property
    def transport_orders(self) -> tuple[str, ...]:
        """NrZleceniaTransportu, as written."""
        return _each_once(self._body.values("WarunkiTransakcji/Transport/NrZleceniaTransportu"))

    @cached_property
    def destinations(self) -> tuple[Address, ...]:
        """Where goods were sent: Transport/WysylkaDo; of a PEF Delivery/DeliveryLocation."""
        if self.is_ubl:
            return tuple(
                ubl_address_of(
                    row.rows("Address"), "DeliveryLocation", marked_gln(row, "ID"), "Delivery/DeliveryLocation"
                )
                for row in self._root.rows("Delivery/DeliveryLocation")
            )
        path = "WarunkiTransakcji/Transport/WysylkaDo"
        return tuple(address_of(row, "WysylkaDo", f"Fa/{path}") for row in self._body.rows(path))

    # Free text

    @cached_property
    def extra(self) -> tuple[Extra, ...]:
        """DodatkowyOpis, each; of a PEF the additional properties of its lines."""
        if self.is_ubl:
            return tuple(
                Extra(row.first("Name"), row.first("Value"), "")
                for row in self._root.rows("InvoiceLine/Item/AdditionalItemProperty")
            )
        found = self._body.rows("DodatkowyOpis") or self._root.rows("DodatkowyOpis")
        return tuple(Extra(row.first("Klucz"), row.first("Wartosc"), row.first("NrWiersza")) for row in found)

    @cached_property
    def footers(self) -> tuple[str, ...]:
        """StopkaFaktury, collapsed; of a PEF its notes."""
        return tuple(self._root.values("Note" if self.is_ubl else "Stopka/Informacje/StopkaFaktury"))

    @cached_property
    def line_texts(self) -> tuple[str, ...]:
        """The names of goods and services, line by line."""
        if self.is_ubl:
            return tuple(self._root.values("InvoiceLine/Item/Name") or self._root.values("CreditNoteLine/Item/Name"))
        return tuple(self._body.values("FakturaRRWiersz/P_5" if self.is_farmers else "FaWiersz/P_7"))

    @cached_property
    def line_codes(self) -> tuple[str, ...]:
        """The sellers' codes of goods (Indeks), line by line."""
        return tuple(self._body.values("FaWiersz/Indeks"))

    @cached_property
    def attachment_metadata(self) -> tuple[tuple[str, str], ...]:
        """(ZKlucz, ZWartosc) of the attachment, in order, at most MAX_ATTACHMENT_METADATA; its tables are not read."""
        found: list[tuple[str, str]] = []
        for block in self._root.rows("Zalacznik/BlokDanych"):
            for row in block.rows("MetaDane"):
                if len(found) >= MAX_ATTACHMENT_METADATA:
                    return tuple(found)
                found.append((row.first("ZKlucz"), row.first("ZWartosc")))
        return tuple(found)

    @cached_property
    def accounts(self) -> tuple[str, ...]:
        """The seller's bank accounts (NrRB), as written."""
        if self.is_ubl:
            return _each_once(self._root.values("PaymentMeans/PayeeFinancialAccount/ID"))
        if self.is_farmers:
            return _each_once(self._body.values("Platnosc/RachunekBankowy1/NrRB"))
        return _each_once(self._body.values("Platnosc/RachunekBankowy/NrRB"))


def read_received(content: bytes) -> Received:
    """What ``content`` says, as far as it can be read. Never raises, changes nothing, reads nothing else."""
    tree = parse(content)
    return Received(tree.root, tree.damage)


def _each_once(texts: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts)) if texts else ()


def _ksef_number(text: str) -> str:
    # KSeF 1.0 wrote one more hyphen inside; without it the number is the same, and found in the archive.
    return text[:26] + text[27:] if len(text) == 36 and text[26] == "-" else text
