"""PEF and its corrections (UBL 2.1): head, parties, rows, sums and payment; the rest of it is named by its path.

Source: FA3-FIELDS (the PEF columns), EN 16931.
"""

from __future__ import annotations

from . import words
from .blocks import Block, Column, bullets, card, cards, details, facts, heading, row, table, texts, total
from .figures import account, amount, day, number, percent
from .source import Node

Line = tuple[str, str]


def kind(root: Node) -> str:
    """The document's kind in words."""
    code = root.take("InvoiceTypeCode") or root.take("CreditNoteTypeCode")
    named = "Faktura korygująca PEF" if root.name == "CreditNote" else "Faktura PEF"
    return words.UBL_KINDS.get(code, f"{named} ({code})" if code else named)


def dates(root: Node) -> list[Line]:
    """Dates, currency and references, named."""
    period = root.one("InvoicePeriod")
    return [
        ("Data wystawienia", day(root.take("IssueDate"))),
        ("Termin płatności", day(root.take("DueDate"))),
        ("Data obowiązku podatkowego", day(root.take("TaxPointDate"))),
        ("Data dostawy", day(root.take("Delivery/ActualDeliveryDate"))),
        ("Okres od", day(period.take("StartDate"))),
        ("Okres do", day(period.take("EndDate"))),
        ("Waluta", root.take("DocumentCurrencyCode")),
        ("Waluta podatku", root.take("TaxCurrencyCode")),
        ("Referencja nabywcy", root.take("BuyerReference")),
        ("Zamówienie", root.take("OrderReference/ID")),
        ("Umowa", root.take("ContractDocumentReference/ID")),
        ("Dokument wydania", root.take("DespatchDocumentReference/ID")),
        ("Dokument przyjęcia", root.take("ReceiptDocumentReference/ID")),
    ]


def parties(root: Node) -> list[Block]:
    """Supplier, customer, and where it is delivered."""
    found: list[Block] = []
    for name, title in (("AccountingSupplierParty", "Sprzedawca"), ("AccountingCustomerParty", "Nabywca")):
        found += [_party(one.one("Party"), title) for one in root.each(name)]
    for name, title in (("PayeeParty", "Odbiorca płatności"), ("TaxRepresentativeParty", "Przedstawiciel podatkowy")):
        found += [_party(one, title) for one in root.each(name)]
    for one in root.each("Delivery"):
        place = one.one("DeliveryLocation")
        lines = [*_identifiers(place, "ID"), *_address(place.one("Address"))]
        named = one.take("DeliveryParty/PartyName/Name")
        if named or any(text for _, text in lines):
            found.append(card("Miejsce dostawy", named, lines))
    return cards(found)


def corrected(root: Node) -> list[Block]:
    """The invoices that this one corrects."""
    rows = [
        row([one.take("ID"), day(one.take("IssueDate"))])
        for billing in root.each("BillingReference")
        for one in billing.each("InvoiceDocumentReference")
    ]
    return heading("Korekta", table([Column("Faktura korygowana"), Column("Data wystawienia", "short")], rows))


def lines(root: Node) -> list[Block]:
    """InvoiceLine or CreditNoteLine."""
    found = root.each("InvoiceLine") + root.each("CreditNoteLine")
    columns = [
        Column("Lp.", "number"),
        Column("Nazwa"),
        Column("Ilość", "number"),
        Column("J.m.", "short"),
        Column("Cena netto", "number"),
        Column("Stawka", "number"),
        Column("Wartość netto", "number"),
    ]
    return heading("Pozycje", table(columns, [_line(one) for one in found], "Pozycje"))


def sums(root: Node) -> list[Block]:
    """TaxTotal by rate and LegalMonetaryTotal."""
    rows = [
        row(
            [
                _category(one.one("TaxCategory")),
                _money(one, "TaxableAmount"),
                _money(one, "TaxAmount"),
            ]
        )
        for tax in root.each("TaxTotal")
        for one in tax.each("TaxSubtotal")
    ]
    charged = [text for one in root.each("AllowanceCharge") for text in _charge(one)]
    made = bullets(charged)
    made += table([Column("Stawka"), Column("Podstawa", "number"), Column("Podatek", "number")], rows, "Podsumowanie")
    made += facts([("Podatek razem", _money(tax, "TaxAmount")) for tax in root.each("TaxTotal")])
    for one in root.each("LegalMonetaryTotal"):
        made += facts([(title, _money(one, name)) for name, title in _SUMS])
        made += total([("Do zapłaty", _money(one, "PayableAmount"))])
    return heading("Podsumowanie", made)


_SUMS = (
    ("LineExtensionAmount", "Suma pozycji netto"),
    ("AllowanceTotalAmount", "Suma rabatów"),
    ("ChargeTotalAmount", "Suma opłat"),
    ("TaxExclusiveAmount", "Razem bez podatku"),
    ("TaxInclusiveAmount", "Razem z podatkiem"),
    ("PrepaidAmount", "Zapłacono wcześniej"),
    ("PayableRoundingAmount", "Zaokrąglenie"),
)


def payment(root: Node) -> list[Block]:
    """PaymentMeans and PaymentTerms."""
    made: list[Block] = []
    for one in root.each("PaymentMeans"):
        receiver = one.one("PayeeFinancialAccount")
        made += facts(
            [
                ("Rachunek", account(receiver.take("ID"))),
                ("Nazwa rachunku", receiver.take("Name")),
                ("SWIFT", receiver.take("FinancialInstitutionBranch/ID")),
                ("Tytuł płatności", one.take("PaymentID")),
            ]
        )
    made += facts([("Warunki płatności", one.take("Note")) for one in root.each("PaymentTerms")], 1)
    return heading("Płatność", made)


def documents(root: Node) -> list[Block]:
    """AdditionalDocumentReference; a file inside is named, not printed."""
    rows = [
        row([one.take("ID"), one.take("DocumentDescription"), _enclosed(one.one("Attachment"))])
        for one in root.each("AdditionalDocumentReference")
    ]
    columns = [Column("Dokument"), Column("Opis"), Column("Plik")]
    return heading("Dokumenty dodatkowe", table(columns, rows, "Dokumenty dodatkowe"))


def _enclosed(node: Node) -> str:
    link = node.take("ExternalReference/URI")
    file = node.one("EmbeddedDocumentBinaryObject")
    if not file.own():
        return link
    named = " ".join(filter(None, (file.attributes.get("filename"), file.attributes.get("mimeCode"))))
    return ", ".join(filter(None, (link, f"plik w fakturze XML: {named}".rstrip(": "))))


def notes(root: Node) -> list[Block]:
    """Note, each."""
    return heading("Uwagi", texts(root.texts("Note")))


def _party(node: Node, title: str) -> Block:
    legal = node.take("PartyLegalEntity/RegistrationName")
    trading = node.take("PartyName/Name")
    return card(title, legal or trading, _party_lines(node, trading if legal and trading != legal else ""))


def _party_lines(node: Node, trading: str) -> list[Line]:
    registered, taxed = node.take("PartyLegalEntity/CompanyID"), node.take("PartyTaxScheme/CompanyID")
    _only_vat(node.one("PartyTaxScheme/TaxScheme/ID"))
    contact = node.one("Contact")
    return [
        ("Nazwa handlowa", trading),
        ("NIP lub VAT UE", taxed or registered),
        ("Numer rejestrowy", registered if taxed and registered != taxed else ""),
        *_identifiers(node, "EndpointID"),
        *(line for one in node.each("PartyIdentification") for line in _identifiers(one, "ID")),
        *_address(node.one("PostalAddress")),
        ("Kontakt", contact.take("Name")),
        ("Telefon", contact.take("Telephone")),
        ("E-mail", contact.take("ElectronicMail")),
    ]


def _identifiers(node: Node, name: str) -> list[Line]:
    schemes = {"0088": "GLN", "9945": "NIP (adres elektroniczny)"}
    return [
        (schemes.get(scheme, f"Identyfikator (schemat {scheme})" if scheme else "Identyfikator"), one.own())
        for one in node.each(name)
        for scheme in [one.attributes.get("schemeID", "")]
    ]


def _address(node: Node) -> list[Line]:
    street = [node.take("StreetName"), node.take("AdditionalStreetName"), node.take("AddressLine/Line")]
    town = " ".join(filter(None, (node.take("PostalZone"), node.take("CityName"))))
    country = node.take("Country/IdentificationCode")
    place = ", ".join(filter(None, (town, node.take("CountrySubentity"))))
    return [("", ", ".join(filter(None, street))), ("", f"{place} ({country})".strip() if country else place)]


def _line(node: Node) -> Block:
    item = node.one("Item")
    quantity = node.one("InvoicedQuantity" if node.each("InvoicedQuantity") else "CreditedQuantity")
    price = node.one("Price")
    base = price.one("BaseQuantity")
    per = number(base.own())
    period = node.one("InvoicePeriod")
    small = [
        f"{label}: {text}"
        for label, text in (
            ("Indeks", item.take("SellersItemIdentification/ID")),
            ("Indeks nabywcy", item.take("BuyersItemIdentification/ID")),
            ("GTIN", item.take("StandardItemIdentification/ID")),
            ("Klasyfikacja", item.take("CommodityClassification/ItemClassificationCode")),
            ("Kraj pochodzenia", item.take("OriginCountry/IdentificationCode")),
            ("Cena za", f"{per} {base.attributes.get('unitCode', '')}".strip() if per not in ("", "1") else ""),
            ("Okres od", day(period.take("StartDate"))),
            ("Okres do", day(period.take("EndDate"))),
            ("Pozycja zamówienia", node.take("OrderLineReference/LineID")),
            ("Konto księgowe", node.take("AccountingCost")),
        )
        if text
    ]
    charges = [*node.each("AllowanceCharge"), *price.each("AllowanceCharge")]
    under = [" · ".join(small)] if small else []
    under += [item.take("Description"), *node.texts("Note")]
    under += [f"{one.take('Name')}: {one.take('Value')}" for one in item.each("AdditionalItemProperty")]
    under += [text for one in charges for text in _charge(one)]
    return row(
        [
            node.take("ID"),
            details(item.take("Name"), [text for text in under if text]),
            number(quantity.own()),
            quantity.attributes.get("unitCode", ""),
            _money(node, "Price/PriceAmount"),
            _category(item.one("ClassifiedTaxCategory")),
            _money(node, "LineExtensionAmount"),
        ]
    )


def _only_vat(scheme: Node) -> None:
    """That a tax is VAT goes without saying; any other is left to be said."""
    if scheme.raw.strip() == "VAT":
        scheme.own()


def _category(node: Node) -> str:
    """A tax category: "25% S"."""
    _only_vat(node.one("TaxScheme/ID"))
    return " ".join(filter(None, (percent(node.take("Percent")), node.take("ID"))))


def _charge(node: Node) -> list[str]:
    """An AllowanceCharge: "Rabat 200,00 EUR – powód"."""
    indicator = node.look("ChargeIndicator")
    if indicator not in ("true", "false"):
        return []
    node.take("ChargeIndicator")
    reason = " ".join(
        filter(
            None,
            (
                node.take("AllowanceChargeReason"),
                f"(kod {code})" if (code := node.take("AllowanceChargeReasonCode")) else "",
            ),
        )
    )
    base = _money(node, "BaseAmount")
    share = percent(node.take("MultiplierFactorNumeric"))
    parts = [
        f"{'Opłata' if indicator == 'true' else 'Rabat'} {_money(node, 'Amount')}",
        " ".join(filter(None, (share, f"od {base}" if base else ""))),
        _category(node.one("TaxCategory")),
        reason,
    ]
    return [" – ".join(filter(None, parts))]


def _money(node: Node, path: str) -> str:
    """An amount with its own currency."""
    *steps, last = path.split("/")
    below = node.one("/".join(steps)) if steps else node
    currency = below.one(last).attributes.get("currencyID", "")
    return amount(below.take(last), currency)
