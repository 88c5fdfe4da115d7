"""The signed AuthTokenRequest: its shape and its XAdES signature, really verified. Source: FACTS §2.3, §2.4."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NoReturn

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

from .login_certificates import Identity, bad_certificate, check_usable, identity_of
from .numbers import CHALLENGE, INTERNAL_ID, NIP
from .wire import BadRequest, unreadable
from .xmldsig import (
    C14N,
    CANONICALISATIONS,
    DS,
    ENVELOPED,
    SIGNED_PROPERTIES_TYPE,
    XADES,
    SignatureRefused,
    canonical,
    check_value,
    decoded,
    digest,
    parse_safely,
    without,
)

_NAMESPACES = {"http://ksef.mf.gov.pl/auth/token/2.0", "http://ksef.mf.gov.pl/auth/token/2.1"}
_CONTEXTS = {
    "Nip": NIP,
    "InternalId": INTERNAL_ID,
    "NipVatUe": re.compile(NIP.pattern + r"-[A-Z]{2}[A-Z0-9+*]{2,12}", re.ASCII),
    "PeppolId": re.compile(r"P[A-Z]{2}[0-9]{6}", re.ASCII),
}
_OCTET = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_ADDRESS = rf"(?:{_OCTET}\.){{3}}{_OCTET}"
_ADDRESSES = {
    "Ip4Address": re.compile(_ADDRESS, re.ASCII),
    "Ip4Range": re.compile(f"{_ADDRESS}-{_ADDRESS}", re.ASCII),
    "Ip4Mask": re.compile(rf"{_ADDRESS}/(?:3[0-2]|[12]?\d)", re.ASCII),
}
_XPATH = "http://www.w3.org/TR/1999/REC-xpath-19991116"
_FILTER2 = "http://www.w3.org/2002/06/xmldsig-filter2"
_NS = {"ds": DS, "xades": XADES}


@dataclass(frozen=True)
class LoginDocument:
    """A login document whose signature holds. ``certificate``: the signer's (DER); ``proof``: the Base64 SHA-256 of the
    whole document as received."""

    challenge: str
    context_type: str
    context_value: str
    identity: Identity
    certificate: bytes = field(repr=False)
    proof: str
    allowed_ips: tuple[str, ...]


def read_login(document: bytes, now: datetime) -> LoginDocument:
    """Raises BadRequest: 21001, 21217, 9101, 9102, 9103, 21401, 9105, 21115, 21117 as KSeF does."""
    root = _parsed(document)
    name = etree.QName(root)
    if name.localname != "AuthTokenRequest" or name.namespace not in _NAMESPACES:
        raise BadRequest(9101, "Nieprawidłowy dokument.", ["Oczekiwano elementu AuthTokenRequest."])
    signatures = list(root.iter(f"{{{DS}}}Signature"))
    if not signatures:
        raise BadRequest(9102, "Brak podpisu.")
    if len(signatures) > 1:
        raise BadRequest(9103, "Przekroczona liczba dozwolonych podpisów.")
    if signatures[0].getparent() is not root:
        _no_signature("Podpis musi być otoczony dokumentem (enveloped).")
    challenge, context_type, context_value, subject, ips = _shape(root, name.namespace or "")
    try:
        certificate = _verify(root, signatures[0], now)
    except SignatureRefused as fault:
        _no_signature(str(fault))
    check_usable(certificate, now)
    identity = identity_of(certificate, subject)
    if context_type == "PeppolId" and identity.kind != "Fingerprint":
        raise BadRequest(21117, "Nieprawidłowy identyfikator podmiotu dla wskazanego typu kontekstu.")
    proof = b64encode(hashlib.sha256(document).digest()).decode()
    der = certificate.public_bytes(Encoding.DER)
    return LoginDocument(challenge, context_type, context_value, identity, der, proof, ips)


def _no_signature(detail: str) -> NoReturn:
    raise BadRequest(9105, "Nieprawidłowy podpis.", [detail]) from None


def _parsed(document: bytes) -> etree._Element:
    try:
        document.decode("utf-8")
    except UnicodeDecodeError:
        raise BadRequest(21217, "Nieprawidłowe kodowanie znaków.") from None
    try:
        root = parse_safely(document)
    except SignatureRefused as fault:
        raise BadRequest(9101, "Nieprawidłowy dokument.", [str(fault)]) from None
    except etree.XMLSyntaxError:
        raise unreadable("Treść żądania nie jest poprawnym dokumentem XML.") from None
    if (root.getroottree().docinfo.encoding or "UTF-8").upper() != "UTF-8":
        raise BadRequest(21217, "Nieprawidłowe kodowanie znaków.")
    return root


def _shape(root: etree._Element, namespace: str) -> tuple[str, str, str, str, tuple[str, ...]]:
    """The XSD by hand: elements, their order and their patterns."""
    children = _children(root, namespace, skip=f"{{{DS}}}Signature")
    names = [_local(child) for child in children]
    expected = ["Challenge", "ContextIdentifier", "SubjectIdentifierType"]
    if names not in (expected, [*expected, "AuthorizationPolicy"]):
        _off_schema(f"Oczekiwano kolejno: {', '.join(expected)} i opcjonalnie AuthorizationPolicy.")
    if root.attrib.keys() or any(child.attrib.keys() for child in children):
        _off_schema("Niedozwolony atrybut.")
    challenge = _token(children[0])
    if not CHALLENGE.fullmatch(challenge):
        _off_schema("Challenge ma nieprawidłowy format.")
    context = _children(children[1], namespace)
    if len(context) != 1 or _local(context[0]) not in _CONTEXTS:
        _off_schema("ContextIdentifier musi zawierać jeden z elementów: Nip, InternalId, NipVatUe, PeppolId.")
    context_type, context_value = _local(context[0]), context[0].text or ""
    if not _CONTEXTS[context_type].fullmatch(context_value):
        _off_schema(f"{context_type} ma nieprawidłowy format.")
    subject = _token(children[2])
    if subject not in {"certificateSubject", "certificateFingerprint"}:
        _off_schema("SubjectIdentifierType musi być certificateSubject lub certificateFingerprint.")
    ips: tuple[str, ...] = ()
    if len(children) == 4:
        ips = _allowed_ips(children[3], namespace)
    return challenge, context_type, context_value, subject, ips


def _allowed_ips(policy: etree._Element, namespace: str) -> tuple[str, ...]:
    inner = _children(policy, namespace)
    if [_local(child) for child in inner] != ["AllowedIps"]:
        _off_schema("AuthorizationPolicy musi zawierać AllowedIps.")
    entries = _children(inner[0], namespace)
    names = [_local(entry) for entry in entries]
    order = list(_ADDRESSES)
    if any(name not in order or names.count(name) > 10 for name in names) or names != sorted(names, key=order.index):
        _off_schema("AllowedIps: najwyżej po 10 elementów Ip4Address, Ip4Range, Ip4Mask, w tej kolejności.")
    for entry in entries:
        if not _ADDRESSES[_local(entry)].fullmatch(_token(entry)):
            _off_schema(f"{_local(entry)} ma nieprawidłowy format.")
    return tuple(_token(entry) for entry in entries)


def _off_schema(detail: str) -> NoReturn:
    raise BadRequest(21401, "Dokument nie jest zgodny ze schemą (xsd).", [detail])


def _children(element: etree._Element, namespace: str, *, skip: str = "") -> list[etree._Element]:
    children = [child for child in element if isinstance(child.tag, str) and child.tag != skip]
    if any(etree.QName(child).namespace != namespace for child in children):
        _off_schema("Element spoza przestrzeni nazw dokumentu.")
    texts = [element.text, *(child.tail for child in element)]
    if children and any(text and text.strip() for text in texts):
        _off_schema(f"Niedozwolony tekst w {_local(element)}.")
    return children


def _local(element: etree._Element) -> str:
    return str(etree.QName(element).localname)


def _token(element: etree._Element) -> str:
    return " ".join((element.text or "").split())


def _verify(root: etree._Element, signature: etree._Element, now: datetime) -> x509.Certificate:
    """The signer's certificate, when every reference and the signature value hold and the certificate is bound."""
    names = [str(name) for element in root.iter("*") for name in element.attrib]
    if any(name.startswith("{http://www.w3.org/XML/1998/namespace}") for name in names):
        raise SignatureRefused("Atrybuty xml: są niedozwolone.")
    info = _only(signature, "ds:SignedInfo")
    properties = _only(signature, "ds:Object/xades:QualifyingProperties/xades:SignedProperties")
    qualifying = properties.getparent()
    if qualifying is None or qualifying.get("Target") != f"#{signature.get('Id')}":
        raise SignatureRefused("QualifyingProperties/@Target nie wskazuje tego podpisu.")
    whole = described = False
    key_info_signed = False
    for reference in info.findall("ds:Reference", _NS):
        target = _target(reference, signature)
        if target is None:
            content = _document_content(reference, signature)
            whole = True
        else:
            content = _part_content(reference, target)
            described |= target is properties and reference.get("Type") == SIGNED_PROPERTIES_TYPE
            key_info_signed |= target.tag == f"{{{DS}}}KeyInfo"
        method = _only(reference, "ds:DigestMethod").get("Algorithm", "")
        if digest(method, content) != decoded(_only(reference, "ds:DigestValue").text):
            raise SignatureRefused("Skrót w ds:Reference nie zgadza się z treścią.")
    if not whole:
        raise SignatureRefused('Brak ds:Reference z URI="" obejmującego cały dokument.')
    if not described:
        raise SignatureRefused("Brak ds:Reference do SignedProperties z wymaganym atrybutem Type.")
    certificate = _bound_certificate(signature, properties, key_info_signed=key_info_signed)
    canonicalisation = _only(info, "ds:CanonicalizationMethod")
    signed = canonical(info, canonicalisation.get("Algorithm", ""), _prefixes(canonicalisation))
    value = decoded(_only(signature, "ds:SignatureValue").text)
    check_value(_only(info, "ds:SignatureMethod").get("Algorithm", ""), certificate.public_key(), signed, value)
    _check_signing_time(properties, now)
    return certificate


def _only(element: etree._Element, path: str) -> etree._Element:
    found = element.findall(path, _NS)
    if len(found) != 1:
        raise SignatureRefused(f"Podpis musi zawierać dokładnie jeden element {path}.")
    return found[0]


def _target(reference: etree._Element, signature: etree._Element) -> etree._Element | None:
    """What a reference is about; None stands for the whole document. Detached references are refused."""
    uri = reference.get("URI")
    if uri == "":
        return None
    if uri is None or not uri.startswith("#"):
        raise SignatureRefused("Podpis zewnętrzny (detached) jest niedozwolony.")
    found = [element for element in signature.iter("*") if element.get("Id") == uri[1:]]
    if len(found) != 1 or found[0] is signature:
        raise SignatureRefused("ds:Reference wskazuje element, którego nie ma albo jest niejednoznaczny.")
    return found[0]


def _document_content(reference: etree._Element, signature: etree._Element) -> bytes:
    removes_signature = False
    algorithm, prefixes = C14N, None
    for transform in reference.findall("ds:Transforms/ds:Transform", _NS):
        name = transform.get("Algorithm", "")
        if name == ENVELOPED or _drops_signatures(transform):
            removes_signature = True
        elif name in CANONICALISATIONS:
            algorithm, prefixes = name, _prefixes(transform)
        else:
            raise SignatureRefused(f"Niedozwolona transformacja: {name}.")
    if not removes_signature:
        raise SignatureRefused("Brak transformacji enveloped-signature.")
    # URI="" means the document without comments, whatever the canonicalisation (XMLDSig §4.4.3.3).
    return canonical(without(signature), algorithm, prefixes, comments=False)


def _drops_signatures(transform: etree._Element) -> bool:
    """The XPath and Filter2 spellings of "everything but the signature" (FACTS §2.4)."""
    name = transform.get("Algorithm")
    if name == _XPATH:
        text = transform.findtext("ds:XPath", "", _NS)
        return re.fullmatch(r"not\(ancestor-or-self::\w+:Signature\)", "".join(text.split())) is not None
    if name == _FILTER2:
        filters = transform.findall(f"{{{_FILTER2}}}XPath")
        return (
            len(filters) == 1
            and filters[0].get("Filter") == "subtract"
            and re.fullmatch(r"/descendant::\w+:Signature", "".join((filters[0].text or "").split())) is not None
        )
    return False


def _part_content(reference: etree._Element, target: etree._Element) -> bytes:
    algorithm, prefixes = C14N, None
    for transform in reference.findall("ds:Transforms/ds:Transform", _NS):
        algorithm, prefixes = transform.get("Algorithm", ""), _prefixes(transform)
    return canonical(target, algorithm, prefixes)


def _prefixes(method: etree._Element) -> list[str] | None:
    inclusive = method.find("{http://www.w3.org/2001/10/xml-exc-c14n#}InclusiveNamespaces")
    return None if inclusive is None else (inclusive.get("PrefixList") or "").split()


def _bound_certificate(
    signature: etree._Element, properties: etree._Element, *, key_info_signed: bool
) -> x509.Certificate:
    """The certificate that the signature binds itself to: by SigningCertificate (v1 or V2), or by a signed KeyInfo."""
    offered = [decoded(node.text) for node in signature.findall("ds:KeyInfo/ds:X509Data/ds:X509Certificate", _NS)]
    if not offered:
        raise SignatureRefused("Brak certyfikatu w KeyInfo.")
    signed = "xades:SignedSignatureProperties/"
    certs = properties.findall(f"{signed}xades:SigningCertificate/xades:Cert", _NS)
    certs += properties.findall(f"{signed}xades:SigningCertificateV2/xades:Cert", _NS)
    if not certs:
        if not key_info_signed:
            raise SignatureRefused("Format podpisu niezgodny z akceptowanymi profilami XAdES.")
        return _certificate(offered[0])
    method = _only(certs[0], "xades:CertDigest/ds:DigestMethod").get("Algorithm", "")
    expected = decoded(_only(certs[0], "xades:CertDigest/ds:DigestValue").text)
    matching = [der for der in offered if digest(method, der) == expected]
    if not matching:
        raise SignatureRefused("SigningCertificate nie zgadza się z certyfikatem podpisu.")
    certificate = _certificate(matching[0])
    _check_issuer(certs[0], certificate)
    return certificate


def _check_issuer(cert: etree._Element, certificate: x509.Certificate) -> None:
    serial = cert.findtext("xades:IssuerSerial/ds:X509SerialNumber", None, _NS)
    if serial is not None and serial.strip() != str(certificate.serial_number):
        raise SignatureRefused("X509SerialNumber nie zgadza się z certyfikatem (liczba dziesiętna).")
    issuer = cert.findtext("xades:IssuerSerial/ds:X509IssuerName", None, _NS)
    if issuer is not None and issuer.strip().startswith("/"):
        raise SignatureRefused("X509IssuerName musi być zapisany według RFC 4514.")


def _certificate(der: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError:
        raise bad_certificate("Certyfikat jest nieczytelny.") from None


def _check_signing_time(properties: etree._Element, now: datetime) -> None:
    text = properties.findtext("xades:SignedSignatureProperties/xades:SigningTime", "", _NS).strip()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SignatureRefused("Brak poprawnego SigningTime.") from None
    if (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) > now:
        raise SignatureRefused("SigningTime jest z przyszłości.")
