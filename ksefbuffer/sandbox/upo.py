"""Confirmations (UPO v4-3): built by the official schema, signed with XAdES. Source: FACTS §4.5."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from lxml import etree

from .keys import AUTHORITY, KeyPair
from .numbers import WARSAW
from .store import restored
from .world import World
from .xmldsig import (
    DS,
    ENVELOPED,
    EXC_C14N,
    RSA_SHA256,
    SHA256,
    SIGNED_PROPERTIES_TYPE,
    XADES,
    canonical,
    digest,
    encoded,
)

NAMESPACE = "http://upo.schematy.mf.gov.pl/KSeF/v4-3"
_DEFAULT: Any = {None: NAMESPACE}
_CONTEXTS = {
    "Nip": "Nip",
    "InternalId": "IdWewnetrzny",
    "NipVatUe": "IdZlozonyVatUE",
    "PeppolId": "IdDostawcyUslugPeppol",
}


def invoice_upo(world: World, invoice: sqlite3.Row, now: datetime) -> bytes:
    """The confirmation of one accepted invoice; made once, then always the same bytes."""
    if invoice["upo"] is None:
        session = world.store.one("SELECT * FROM sessions WHERE reference = ?", invoice["session"])
        if session is None:
            raise LookupError("an invoice without its session")
        document = _document(world, session, [invoice], now, whole_session=False)
        world.store.run("UPDATE invoices SET upo = ? WHERE reference = ?", document, invoice["reference"])
        return document
    return bytes(invoice["upo"])


def session_upo(world: World, session: sqlite3.Row, now: datetime) -> bytes:
    """The confirmation of a processed session: one page, since a session takes no more than a page holds."""
    if session["upo"] is None:
        invoices = world.store.all(
            "SELECT facts, ksef_number, invoicing_at, acquired_at, sha256, mode FROM invoices"
            " WHERE session = ? AND code = 200 ORDER BY ordinal",
            session["reference"],
        )
        document = _document(world, session, invoices, now, whole_session=True)
        world.store.run("UPDATE sessions SET upo = ? WHERE reference = ?", document, session["reference"])
        return document
    return bytes(session["upo"])


def _document(
    world: World, session: sqlite3.Row, invoices: Sequence[sqlite3.Row], now: datetime, *, whole_session: bool
) -> bytes:
    root = etree.Element(f"{{{NAMESPACE}}}Potwierdzenie", nsmap=_DEFAULT)
    _add(root, "NazwaPodmiotuPrzyjmujacego", AUTHORITY)
    _add(root, "NumerReferencyjnySesji", session["reference"])
    login = _add(root, "Uwierzytelnienie")
    _add(_add(login, "IdKontekstu"), _CONTEXTS[session["context_type"]], session["context_value"])
    proof = _proof(world, session)
    if proof.startswith("token:"):
        _add(login, "NumerReferencyjnyTokenaKSeF", proof.removeprefix("token:"))
    else:
        _add(login, "SkrotDokumentuUwierzytelniajacego", proof)
    if whole_session:
        scope = _add(root, "OpisPotwierdzenia")
        _add(scope, "Strona", "1")
        _add(scope, "LiczbaStron", "1")
        _add(scope, "ZakresDokumentowOd", "1")
        _add(scope, "ZakresDokumentowDo", str(len(invoices)))
        _add(scope, "CalkowitaLiczbaDokumentow", str(len(invoices)))
    code = session["system_code"]
    _add(root, "NazwaStrukturyLogicznej", f"Schemat_{code.replace(' ', '')}_v1-0E.xsd")
    _add(root, "KodFormularza", code)
    for invoice in invoices:
        _describe(root, invoice)
    _sign(root, world.keys.signing(), now)
    signed: bytes = etree.tostring(root, xml_declaration=True, encoding="utf-8")
    return signed


def _proof(world: World, session: sqlite3.Row) -> str:
    row = world.store.one("SELECT proof FROM logins WHERE reference = ?", session["login"])
    return str(row["proof"]) if row else ""


def _describe(root: etree._Element, invoice: sqlite3.Row) -> None:
    facts = json.loads(invoice["facts"])
    entry = _add(root, "Dokument")
    _add(entry, "NipSprzedawcy", facts["seller_nip"])
    _add(entry, "NumerKSeFDokumentu", invoice["ksef_number"])
    _add(entry, "NumerFaktury", facts["number"])
    _add(entry, "DataWystawieniaFaktury", facts["issued"])
    _add(entry, "DataPrzeslaniaDokumentu", _polish(invoice["invoicing_at"]))
    _add(entry, "DataNadaniaNumeruKSeF", _polish(invoice["acquired_at"]))
    _add(entry, "SkrotDokumentu", invoice["sha256"])
    _add(entry, "TrybWysylki", invoice["mode"])


def _add(parent: etree._Element, name: str, text: str | None = None) -> etree._Element:
    child = etree.SubElement(parent, f"{{{NAMESPACE}}}{name}")
    child.text = text
    return child


def _polish(moment: str) -> str:
    return restored(moment).astimezone(WARSAW).isoformat(timespec="milliseconds")


def _sign(root: etree._Element, pair: KeyPair, now: datetime) -> None:
    """Appends an enveloped XAdES signature; nothing may be reformatted afterwards."""
    whole = encoded(digest(SHA256, canonical(root, EXC_C14N)))
    signature = etree.SubElement(root, f"{{{DS}}}Signature", {"Id": "Signature"}, nsmap={"ds": DS})
    info = _ds(signature, "SignedInfo")
    _ds(info, "CanonicalizationMethod", Algorithm=EXC_C14N)
    _ds(info, "SignatureMethod", Algorithm=RSA_SHA256)
    _reference(info, whole, [ENVELOPED, EXC_C14N], URI="")
    value = _ds(signature, "SignatureValue")
    data = _ds(_ds(signature, "KeyInfo"), "X509Data")
    _ds(data, "X509Certificate").text = encoded(pair.certificate)
    properties = _signed_properties(_ds(signature, "Object"), pair, now)
    _reference(
        info,
        encoded(digest(SHA256, canonical(properties, EXC_C14N))),
        [EXC_C14N],
        Type=SIGNED_PROPERTIES_TYPE,
        URI="#SignedProperties",
    )
    signed = canonical(info, EXC_C14N)
    value.text = encoded(pair.private.sign(signed, padding.PKCS1v15(), hashes.SHA256()))


def _signed_properties(parent: etree._Element, pair: KeyPair, now: datetime) -> etree._Element:
    qualifying = etree.SubElement(
        parent, f"{{{XADES}}}QualifyingProperties", {"Target": "#Signature"}, nsmap={"xades": XADES}
    )
    properties = _xades(qualifying, "SignedProperties")
    properties.set("Id", "SignedProperties")
    described = _xades(properties, "SignedSignatureProperties")
    _xades(described, "SigningTime").text = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    cert = _xades(_xades(described, "SigningCertificate"), "Cert")
    mark = _xades(cert, "CertDigest")
    _ds(mark, "DigestMethod", Algorithm=SHA256)
    _ds(mark, "DigestValue").text = encoded(digest(SHA256, pair.certificate))
    certificate = x509.load_der_x509_certificate(pair.certificate)
    issuer = _xades(cert, "IssuerSerial")
    _ds(issuer, "X509IssuerName").text = certificate.issuer.rfc4514_string()
    _ds(issuer, "X509SerialNumber").text = str(certificate.serial_number)
    return properties


def _reference(info: etree._Element, value: str, transforms: list[str], **attributes: str) -> None:
    reference = _ds(info, "Reference", **attributes)
    chain = _ds(reference, "Transforms")
    for transform in transforms:
        _ds(chain, "Transform", Algorithm=transform)
    _ds(reference, "DigestMethod", Algorithm=SHA256)
    _ds(reference, "DigestValue").text = value


def _ds(parent: etree._Element, name: str, **attributes: str) -> etree._Element:
    return etree.SubElement(parent, f"{{{DS}}}{name}", attributes)


def _xades(parent: etree._Element, name: str) -> etree._Element:
    return etree.SubElement(parent, f"{{{XADES}}}{name}")
