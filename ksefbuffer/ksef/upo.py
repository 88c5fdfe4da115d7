"""Reading and checking a UPO, KSeF's signed receipt. No I/O.

Source: FACTS §4.5 (UPO v4-3). The name of the receiving authority differs between environments, so it is read, not
judged; every namespace version of KSeF's UPO is read alike.
"""

from __future__ import annotations

from base64 import b64decode
from dataclasses import dataclass
from datetime import date, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from lxml import etree
from signxml.exceptions import SignXMLException
from signxml.xades.xades import XAdESSignatureConfiguration, XAdESVerifier

from ksefbuffer.ksef.crypto import hex_of_b64_hash
from ksefbuffer.ksef.shapes import Unreadable

NAMESPACES = "http://upo.schematy.mf.gov.pl/KSeF/"
_DSIG = "http://www.w3.org/2000/09/xmldsig#"

# Seen on DEMO; there is no official list of signers (issues #377, #565).
SIGNER_NAME = "Ministerstwo Finansów"
SIGNER_ID = "5260250274"
_ORGANIZATION_ID = x509.ObjectIdentifier("2.5.4.97")

_CONTEXTS = {
    "Nip": "Nip",
    "IdWewnetrzny": "InternalId",
    "IdZlozonyVatUE": "NipVatUe",
    "IdDostawcyUslugPeppol": "PeppolId",
}


@dataclass(frozen=True)
class UpoDocument:
    """One invoice that a UPO confirms. ``mode`` is "Online" or "Offline"; times carry the offset that KSeF wrote."""

    ksef_number: str
    invoice_number: str
    seller_nip: str
    issue_date: date | None
    sha256_hex: str
    mode: str
    sent_at: datetime | None
    accepted_at: datetime | None


@dataclass(frozen=True)
class Upo:
    """A UPO of one invoice, or one page (``page`` of ``pages``, from 1) of a session's. ``context_kind`` is Nip,
    InternalId, NipVatUe or PeppolId."""

    authority: str
    session_reference: str
    context_kind: str
    context_value: str
    form_code: str
    documents: tuple[UpoDocument, ...]
    page: int = 1
    pages: int = 1


def read_upo(xml: bytes) -> Upo:
    """The UPO's content, its signature not looked at. Raises Unreadable (a ValueError) for anything else."""
    return _read(_parse(xml))


def _read(root: etree._Element) -> Upo:
    name = etree.QName(root)
    if name.localname != "Potwierdzenie" or not (name.namespace or "").startswith(NAMESPACES):
        raise Unreadable("not a UPO")
    identity = _child(_child(root, "Uwierzytelnienie"), "IdKontekstu")
    context = identity[0] if identity is not None and len(identity) else None
    description = _child(root, "OpisPotwierdzenia")
    return Upo(
        authority=_text(root, "NazwaPodmiotuPrzyjmujacego"),
        session_reference=_text(root, "NumerReferencyjnySesji"),
        context_kind="" if context is None else _CONTEXTS.get(etree.QName(context).localname, ""),
        context_value="" if context is None else _content(context),
        form_code=_text(root, "KodFormularza"),
        documents=tuple(_document(element) for element in root if etree.QName(element).localname == "Dokument"),
        page=_number(description, "Strona"),
        pages=_number(description, "LiczbaStron"),
    )


def check_upo(
    xml: bytes,
    *,
    sha256_hex: str,
    ksef_number: str,
    session_reference: str,
    context_nip: str,
    invoice_number: str,
    seller_nip: str,
) -> list[str]:
    """Why this UPO does not prove that our invoice was taken, in Polish; empty when it does.

    Checks that the document is there under its number with our bytes' hash, our session, context, number and seller,
    that the signature is intact, covers the whole document and belongs to the Ministry. The chain of trust is not
    checked: no trust anchor is published. An empty ``session_reference``, ``invoice_number`` or ``seller_nip`` is not
    compared.
    """
    try:
        upo = read_upo(xml)
    except Unreadable:
        return ["Plik UPO jest nieczytelny albo nie jest dokumentem UPO."]
    problems = _about_session(upo, session_reference, context_nip)
    document = next((one for one in upo.documents if one.ksef_number == ksef_number), None)
    if document is None:
        problems.append(f"UPO nie wymienia numeru KSeF {ksef_number}.")
    else:
        problems += _about_document(document, sha256_hex, invoice_number, seller_nip)
    return problems + _about_signature(xml, upo)


def _about_session(upo: Upo, session_reference: str, context_nip: str) -> list[str]:
    problems = []
    if session_reference and upo.session_reference != session_reference:
        problems.append(f"UPO dotyczy innej sesji: {upo.session_reference or 'brak numeru'}.")
    # An internal identifier and a compound VAT-UE one both begin with the taxpayer's NIP.
    owner = upo.context_value if upo.context_kind == "Nip" else upo.context_value.partition("-")[0]
    if owner != context_nip:
        problems.append(f"UPO wystawiono w innym kontekście: {upo.context_value or 'brak identyfikatora'}.")
    return problems


def _about_document(document: UpoDocument, sha256_hex: str, invoice_number: str, seller_nip: str) -> list[str]:
    problems = []
    if document.sha256_hex != sha256_hex.lower():
        problems.append("Skrót dokumentu w UPO jest inny niż skrót wysłanego pliku.")
    if invoice_number and document.invoice_number.split() != invoice_number.split():
        problems.append(f"UPO podaje inny numer faktury: {document.invoice_number}.")
    if seller_nip and document.seller_nip != seller_nip:
        problems.append(f"UPO podaje innego sprzedawcę: NIP {document.seller_nip}.")
    return problems


def _about_signature(xml: bytes, upo: Upo) -> list[str]:
    signatures = _parse(xml).findall(f"{{{_DSIG}}}Signature")
    if len(signatures) != 1:
        return ["UPO nie ma podpisu." if not signatures else "UPO ma więcej niż jeden podpis."]
    embedded = signatures[0].findtext(f"{{{_DSIG}}}KeyInfo/{{{_DSIG}}}X509Data/{{{_DSIG}}}X509Certificate", "")
    try:
        certificate = x509.load_der_x509_certificate(b64decode(embedded))
    except ValueError:
        return ["Podpis UPO nie zawiera czytelnego certyfikatu."]
    if not _covers(xml, certificate, upo):
        return ["Podpis UPO jest naruszony: treść zmieniono po podpisaniu albo podpis jest uszkodzony."]
    if not _is_ministry(certificate):
        return [f"UPO podpisał kto inny niż {SIGNER_NAME}: {certificate.subject.rfc4514_string()}."]
    return []


def _covers(xml: bytes, certificate: x509.Certificate, upo: Upo) -> bool:
    """Whether the signature holds and what it signs reads as the very ``upo`` that we judge."""
    settings = XAdESSignatureConfiguration(
        # A receipt stays good after its signer's certificate has expired, so its validity is not compared with today.
        verification_time=certificate.not_valid_before_utc,
        location="./",
        expect_references=True,
    )
    try:
        results = XAdESVerifier().verify(
            xml, x509_cert=certificate, expect_config=settings, parser=_parser(), validate_schema=False
        )
    except (SignXMLException, InvalidSignature, etree.LxmlError, ValueError, TypeError, KeyError, AttributeError):
        return False
    return any(_reads_as(result.signed_xml, upo) for result in results)


def _reads_as(signed: etree._Element | None, upo: Upo) -> bool:
    try:
        return signed is not None and _read(signed) == upo
    except Unreadable:
        return False


def _is_ministry(certificate: x509.Certificate) -> bool:
    subject = certificate.subject
    names = [str(name.value) for name in subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)]
    identifiers = [str(name.value) for name in subject.get_attributes_for_oid(_ORGANIZATION_ID)]
    return SIGNER_NAME in names and any(identifier.endswith(SIGNER_ID) for identifier in identifiers)


def _parser() -> etree.XMLParser:
    return etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)


def _parse(xml: bytes) -> etree._Element:
    try:
        root = etree.fromstring(xml, _parser())
    except (etree.XMLSyntaxError, ValueError) as fault:
        raise Unreadable("not XML") from fault
    if root.getroottree().docinfo.internalDTD is not None:
        raise Unreadable("a UPO has no DTD")
    # A comment would split a value in two while the signature ignores it.
    for odd in list(root.iter(etree.Comment, etree.ProcessingInstruction)):
        raise Unreadable(f"a UPO has no {odd.tag}")
    return root


def _document(element: etree._Element) -> UpoDocument:
    return UpoDocument(
        ksef_number=_text(element, "NumerKSeFDokumentu"),
        invoice_number=_text(element, "NumerFaktury"),
        seller_nip=_text(element, "NipSprzedawcy"),
        issue_date=_date(_text(element, "DataWystawieniaFaktury")),
        sha256_hex=_hash(_text(element, "SkrotDokumentu")),
        mode=_text(element, "TrybWysylki"),
        sent_at=_moment(_text(element, "DataPrzeslaniaDokumentu")),
        accepted_at=_moment(_text(element, "DataNadaniaNumeruKSeF")),
    )


def _child(parent: etree._Element | None, name: str) -> etree._Element | None:
    if parent is None:
        return None
    return next((element for element in parent if etree.QName(element).localname == name), None)


def _content(element: etree._Element) -> str:
    return (element.text or "").strip()


def _text(parent: etree._Element, name: str) -> str:
    element = _child(parent, name)
    return "" if element is None else _content(element)


def _number(parent: etree._Element | None, name: str) -> int:
    text = "" if parent is None else _text(parent, name)
    return int(text) if text.isascii() and text.isdigit() else 1


def _hash(text: str) -> str:
    try:
        return hex_of_b64_hash(text)
    except ValueError:
        return ""


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
