"""What can be made out in a file of the repository, whatever its form and however broken: never raises.

Invoices handed in are judged by ``reading``; this is for what others once got into KSeF. Source: FA3-FIELDS §11,
FACTS §7.4, §8.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from lxml import etree

from ksefbuffer.invoice.forms import BY_NAMESPACE, BY_SYSTEM_CODE, FA3, FA_RR, PEF, PEF_KOR, Form

from .numbers import NIP
from .reading import INVOICE_TYPES, NET, VAT, InvoiceFacts, Party, total

_RR_TYPES = {"VAT_RR": "VatRr", "KOR_VAT_RR": "KorVatRr"}
_IDENTIFIERS = (("Nip", "NIP"), ("InternalId", "IDWew"), ("VatUe", "NrVatUE"), ("Other", "NrID"))
_ROOT = re.compile(rb"<[A-Za-z]")


@dataclass(frozen=True)
class Glimpse:
    """What was made out; fields stay empty where nothing was. ``form`` None: not a form that KSeF knows."""

    facts: InvoiceFacts
    form: Form | None


def glimpse(content: bytes) -> Glimpse:
    """Reads any file of the repository."""
    root = _root(content)
    if root is None:
        return Glimpse(InvoiceFacts(), None)
    # Not by QName, which refuses what a tolerant parser lets through.
    form = BY_NAMESPACE.get(str(root.tag)[1:].partition("}")[0])
    top = _Element(root)
    if form in (PEF, PEF_KOR):
        return Glimpse(_peppol(top, "KorPef" if form == PEF_KOR else "VatPef"), form)
    code = top.inside("Naglowek").find("KodFormularza")
    form = form or (BY_SYSTEM_CODE.get(code.get("kodSystemowy") or "") if code is not None else None)
    facts = _parties(top)
    if form == FA_RR or top.find("FakturaRR") is not None:
        return Glimpse(_farmers(top.inside("FakturaRR"), facts), form or FA_RR)
    return Glimpse(_ordinary(top, facts), form or (FA3 if facts.seller_nip else None))


def _root(content: bytes) -> etree._Element | None:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        return etree.fromstring(content, parser)
    except (etree.XMLSyntaxError, ValueError):
        pass
    # A wrong prolog, a wrong encoding: what matters begins at the first element.
    start = _ROOT.search(content)
    text = content[start.start() if start else 0 :].decode("utf-8", "replace").encode()
    tolerant = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, recover=True)
    try:
        return etree.fromstring(text, tolerant)
    except (etree.XMLSyntaxError, ValueError):
        return None


class _Element:
    """Children by local name, whatever the namespaces; an absent element is an empty one."""

    def __init__(self, element: etree._Element | None) -> None:
        self._children: dict[str, list[etree._Element]] = {}
        for child in element if element is not None else ():
            if isinstance(child.tag, str):
                self._children.setdefault(child.tag.rpartition("}")[2], []).append(child)

    def find(self, name: str) -> etree._Element | None:
        found = self._children.get(name)
        return found[0] if found else None

    def inside(self, *names: str) -> _Element:
        here = self
        for name in names:
            here = _Element(here.find(name))
        return here

    def each(self, name: str) -> Iterator[_Element]:
        return (_Element(element) for element in self._children.get(name, ()))

    def text(self, name: str) -> str:
        found = self.find(name)
        return " ".join((found.text or "").split()) if found is not None else ""


def _parties(top: _Element) -> InvoiceFacts:
    seller = top.inside("Podmiot1", "DaneIdentyfikacyjne")
    authorised = top.find("PodmiotUpowazniony")
    return InvoiceFacts(
        seller_nip=seller.text("NIP"),
        seller_name=seller.text("Nazwa")[:512],
        buyer=_party(top.inside("Podmiot2"), ""),
        third=tuple(_party(third, "Rola") for third in top.each("Podmiot3")),
        authorised=None if authorised is None else _party(_Element(authorised), "RolaPU"),
    )


def _party(element: _Element, role: str) -> Party:
    data = element.inside("DaneIdentyfikacyjne")
    number = element.text(role) if role else ""
    rank = int(number) if number.isascii() and number.isdecimal() else 0
    for kind, name in _IDENTIFIERS:
        if value := data.text(name):
            prefix = data.text("KodUE") if kind == "VatUe" else ""
            return Party(kind, (prefix + value)[:50], data.text("Nazwa")[:512], rank)
    return Party("None", "", data.text("Nazwa")[:512], rank)


def _ordinary(top: _Element, facts: InvoiceFacts) -> InvoiceFacts:
    body = top.inside("Fa")
    return replace(
        facts,
        number=body.text("P_2")[:256],
        issued=body.text("P_1"),
        kind=INVOICE_TYPES.get(body.text("RodzajFaktury"), ""),
        currency=body.text("KodWaluty"),
        net=total(body.text(name) for name in NET),
        vat=total(body.text(f"{name}W") or body.text(name) for name in VAT),
        gross=total([body.text("P_15")]),
        self_invoicing=body.inside("Adnotacje").text("P_17") == "1",
        attachment=top.find("Zalacznik") is not None,
    )


def _farmers(body: _Element, facts: InvoiceFacts) -> InvoiceFacts:
    return replace(
        facts,
        number=body.text("P_4C")[:256],
        issued=body.text("P_4B"),
        kind=_RR_TYPES.get(body.text("RodzajFaktury"), "VatRr"),
        currency=body.text("KodWaluty"),
        net=total([body.text("P_11_1")]),
        vat=total([body.text("P_11_2W") or body.text("P_11_2")]),
        gross=total([body.text("P_12_1")]),
    )


def _peppol(top: _Element, kind: str) -> InvoiceFacts:
    sums = top.inside("LegalMonetaryTotal")
    seller = _trader(top.inside("AccountingSupplierParty", "Party"))
    return InvoiceFacts(
        seller_nip=seller.value if seller.kind == "Nip" else "",
        seller_name=seller.name,
        buyer=_trader(top.inside("AccountingCustomerParty", "Party")),
        number=top.text("ID")[:256],
        issued=top.text("IssueDate"),
        kind=kind,
        currency=top.text("DocumentCurrencyCode"),
        net=total([sums.text("TaxExclusiveAmount")]),
        vat=total([top.inside("TaxTotal").text("TaxAmount")]),
        gross=total([sums.text("TaxInclusiveAmount")]),
    )


def _trader(party: _Element) -> Party:
    legal = party.inside("PartyLegalEntity")
    name = (legal.text("RegistrationName") or party.inside("PartyName").text("Name"))[:512]
    numbers = (party.inside("PartyTaxScheme").text("CompanyID"), legal.text("CompanyID"), party.text("EndpointID"))
    for number in numbers:
        if NIP.fullmatch(number.removeprefix("PL")):
            return Party("Nip", number.removeprefix("PL"), name)
    number = next((number for number in numbers if number), "")
    return Party("Other" if number else "None", number[:50], name)
