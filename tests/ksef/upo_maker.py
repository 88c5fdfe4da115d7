"""Signed receipts for tests: the shape of UPO v4-3, signed by whoever the test likes."""

from __future__ import annotations

import base64
from datetime import timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from lxml import etree
from signxml.algorithms import CanonicalizationMethod
from signxml.xades.xades import XAdESSigner

from tests.ksef.fake import NIP, START

NUMBER = f"{NIP}-20261120-0100001AF629-AF"
SESSION = "20261120-SO-0123456789-ABCDEF0123-45"

TEMPLATE = """<Potwierdzenie xmlns="http://upo.schematy.mf.gov.pl/KSeF/v4-3">
  <NazwaPodmiotuPrzyjmujacego>{authority}</NazwaPodmiotuPrzyjmujacego>
  <NumerReferencyjnySesji>{session}</NumerReferencyjnySesji>
  <Uwierzytelnienie><IdKontekstu><{kind}>{context}</{kind}></IdKontekstu>
    <SkrotDokumentuUwierzytelniajacego>kyqH+QUgP8ATWd/95IY632mP4uqibwG66Oqclq9+qno=</SkrotDokumentuUwierzytelniajacego>
  </Uwierzytelnienie>
  <NazwaStrukturyLogicznej>Schemat_FA(3)_v1-0E.xsd</NazwaStrukturyLogicznej>
  <KodFormularza>FA (3)</KodFormularza>
  <Dokument>
    <NipSprzedawcy>{seller}</NipSprzedawcy>
    <NumerKSeFDokumentu>{number}</NumerKSeFDokumentu>
    <NumerFaktury>{invoice_number}</NumerFaktury>
    <DataWystawieniaFaktury>2026-11-20</DataWystawieniaFaktury>
    <DataPrzeslaniaDokumentu>2026-11-20T13:00:00.841+01:00</DataPrzeslaniaDokumentu>
    <DataNadaniaNumeruKSeF>2026-11-20T13:00:01.045+01:00</DataNadaniaNumeruKSeF>
    <SkrotDokumentu>{digest}</SkrotDokumentu>
    <TrybWysylki>Online</TrybWysylki>
  </Dokument>
</Potwierdzenie>"""


def unsigned(sha256_hex: str, **changes: str) -> bytes:
    values = {
        "authority": "Ministerstwo Finansów - środowisko testowe (TE)",
        "session": SESSION,
        "kind": "Nip",
        "context": NIP,
        "seller": NIP,
        "number": NUMBER,
        "invoice_number": "FV/ŻÓŁĆ/1",
        "digest": base64.b64encode(bytes.fromhex(sha256_hex)).decode(),
        **changes,
    }
    return TEMPLATE.format(**values).encode()


@cache
def signer(name: str = "Ministerstwo Finansów", number: str = "VATPL-5260250274"):  # type: ignore[no-untyped-def]
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name(
        [
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, name),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, name),
            x509.NameAttribute(x509.NameOID.ORGANIZATION_IDENTIFIER, number),
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(7)
        # Long expired: receipts outlive certificates.
        .not_valid_before(START - timedelta(days=4000))
        .not_valid_after(START - timedelta(days=3000))
        .sign(key, hashes.SHA256())
    )
    return key, certificate


def signed(xml: bytes, *, name: str = "Ministerstwo Finansów", number: str = "VATPL-5260250274") -> bytes:
    """Enveloped XAdES, as KSeF does it."""
    key, certificate = signer(name, number)
    maker = XAdESSigner(c14n_algorithm=CanonicalizationMethod.CANONICAL_XML_1_0)
    root = maker.sign(etree.fromstring(xml), key=key, cert=[certificate], always_add_key_value=False)
    return etree.tostring(root, xml_declaration=True, encoding="utf-8")


def signed_elsewhere(xml: bytes) -> bytes:
    """A whole and valid XAdES signature over something that the receipt merely contains."""
    key, certificate = signer()
    root = etree.fromstring(xml)
    etree.SubElement(root, "{urn:x}Cos", Id="x").text = "podpisane"
    maker = XAdESSigner(c14n_algorithm=CanonicalizationMethod.CANONICAL_XML_1_0)
    signed_root = maker.sign(root, key=key, cert=[certificate], reference_uri="#x", always_add_key_value=False)
    return etree.tostring(signed_root)
