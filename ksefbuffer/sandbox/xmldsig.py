"""XML signatures by hand, lxml and cryptography only: what the login and the confirmations have in common."""

from __future__ import annotations

import copy
import hashlib
from base64 import b64decode, b64encode

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from lxml import etree

DS = "http://www.w3.org/2000/09/xmldsig#"
XADES = "http://uri.etsi.org/01903/v1.3.2#"
SIGNED_PROPERTIES_TYPE = "http://uri.etsi.org/01903#SignedProperties"
C14N = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
EXC_C14N = "http://www.w3.org/2001/10/xml-exc-c14n#"
ENVELOPED = DS + "enveloped-signature"

# Canonicalisations: exclusive?, with comments? Version 1.1 differs from 1.0 only in xml:base and xml:id, and xml:
# attributes are refused.
CANONICALISATIONS = {
    C14N: (False, False),
    C14N + "#WithComments": (False, True),
    "http://www.w3.org/2006/12/xml-c14n11": (False, False),
    "http://www.w3.org/2006/12/xml-c14n11#WithComments": (False, True),
    EXC_C14N: (True, False),
    EXC_C14N + "WithComments": (True, True),
}
_MORE = "http://www.w3.org/2001/04/xmldsig-more#"
_MORE7 = "http://www.w3.org/2007/05/xmldsig-more#"
_ENC = "http://www.w3.org/2001/04/xmlenc#"
DIGESTS = {
    DS + "sha1": "sha1",
    _ENC + "sha256": "sha256",
    _MORE + "sha384": "sha384",
    _ENC + "sha512": "sha512",
    _MORE7 + "sha3-256": "sha3_256",
    _MORE7 + "sha3-384": "sha3_384",
    _MORE7 + "sha3-512": "sha3_512",
}
_SHA: dict[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),  # noqa: S303 - KSeF still allows it
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
    "sha3-256": hashes.SHA3_256(),
    "sha3-384": hashes.SHA3_384(),
    "sha3-512": hashes.SHA3_512(),
}
_RSA = {DS + "rsa-sha1": "sha1"} | {f"{_MORE}rsa-{sha}": sha for sha in ("sha256", "sha384", "sha512")}
_PSS = {f"{_MORE7}{sha}-rsa-MGF1": sha for sha in _SHA}
_ECDSA = {f"{_MORE}ecdsa-{sha}": sha for sha in ("sha1", "sha256", "sha384", "sha512")} | {
    f"{_MORE7.replace('2007/05', '2021/04')}ecdsa-{sha}": sha for sha in ("sha3-256", "sha3-384", "sha3-512")
}
RSA_SHA256 = _MORE + "rsa-sha256"
SHA256 = _ENC + "sha256"


class SignatureRefused(Exception):
    """The signature does not hold; the text (Polish) says why."""


def parse_safely(content: bytes) -> etree._Element:
    """The root element; refuses DTDs, follows nothing. Raises etree.XMLSyntaxError or SignatureRefused."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    root = etree.fromstring(content, parser)
    if root.getroottree().docinfo.internalDTD is not None:
        raise SignatureRefused("DOCTYPE jest niedozwolony.")
    return root


def canonical(
    node: etree._Element | etree._ElementTree,
    algorithm: str,
    prefixes: list[str] | None = None,
    *,
    comments: bool | None = None,
) -> bytes:
    """Canonical bytes of an element within its document, or of a whole document. ``comments`` overrules the algorithm.
    Raises SignatureRefused for an algorithm not allowed."""
    if algorithm not in CANONICALISATIONS:
        raise SignatureRefused(f"Niedozwolona kanonikalizacja: {algorithm}.")
    exclusive, with_comments = CANONICALISATIONS[algorithm]
    result: bytes = etree.tostring(
        node,
        method="c14n",
        exclusive=exclusive,
        with_comments=with_comments if comments is None else comments,
        inclusive_ns_prefixes=prefixes if exclusive else None,
    )
    return result


def digest(algorithm: str, content: bytes) -> bytes:
    if algorithm not in DIGESTS:
        raise SignatureRefused(f"Niedozwolona funkcja skrótu: {algorithm}.")
    return hashlib.new(DIGESTS[algorithm], content).digest()


def without(signature: etree._Element) -> etree._ElementTree:
    """A copy of the signature's document as it was before signing: the signature gone, the text after it kept."""
    original = signature.getparent()
    if original is None:
        raise SignatureRefused("Podpis nie jest otoczony dokumentem.")
    tree = copy.deepcopy(signature.getroottree())
    parent = tree.getroot()
    if original is not original.getroottree().getroot():
        raise SignatureRefused("Podpis musi być bezpośrednio w elemencie głównym.")
    twin = parent[original.index(signature)]
    before = twin.getprevious()
    if twin.tail:
        if before is None:
            parent.text = (parent.text or "") + twin.tail
        else:
            before.tail = (before.tail or "") + twin.tail
    parent.remove(twin)
    return tree


def check_value(algorithm: str, public: object, signed: bytes, value: bytes) -> None:
    """Raises SignatureRefused unless ``value`` is the signature of ``signed``. ECDSA is raw R||S only (FACTS §2.4)."""
    try:
        if isinstance(public, rsa.RSAPublicKey):
            _check_rsa(algorithm, public, signed, value)
        elif isinstance(public, ec.EllipticCurvePublicKey):
            _check_ecdsa(algorithm, public, signed, value)
        else:
            raise SignatureRefused("Niedozwolony rodzaj klucza; dozwolone są RSA i ECDSA.")
    except InvalidSignature:
        raise SignatureRefused("Podpis zweryfikowany negatywnie.") from None


def _check_rsa(algorithm: str, public: rsa.RSAPublicKey, signed: bytes, value: bytes) -> None:
    if public.key_size < 2048:
        raise SignatureRefused("Klucz RSA jest krótszy niż 2048 bitów.")
    if algorithm in _RSA:
        public.verify(value, signed, padding.PKCS1v15(), _SHA[_RSA[algorithm]])
    elif algorithm in _PSS:
        sha = _SHA[_PSS[algorithm]]
        public.verify(value, signed, padding.PSS(padding.MGF1(sha), sha.digest_size), sha)
    else:
        raise SignatureRefused(f"Niedozwolony algorytm podpisu dla klucza RSA: {algorithm}.")


def _check_ecdsa(algorithm: str, public: ec.EllipticCurvePublicKey, signed: bytes, value: bytes) -> None:
    if public.curve.key_size < 256:
        raise SignatureRefused("Krzywa eliptyczna jest słabsza niż 256 bitów.")
    if algorithm not in _ECDSA:
        raise SignatureRefused(f"Niedozwolony algorytm podpisu dla klucza ECDSA: {algorithm}.")
    half = (public.curve.key_size + 7) // 8
    if len(value) != 2 * half:
        raise SignatureRefused(f"SignatureValue ECDSA musi mieć postać R||S o długości {2 * half} bajtów.")
    der = encode_dss_signature(int.from_bytes(value[:half], "big"), int.from_bytes(value[half:], "big"))
    public.verify(der, signed, ec.ECDSA(_SHA[_ECDSA[algorithm]]))


def decoded(text: str | None) -> bytes:
    """Base64 from XML, where white space is allowed. Raises SignatureRefused."""
    try:
        return b64decode("".join((text or "").split()), validate=True)
    except ValueError:
        raise SignatureRefused("Niepoprawny Base64 w podpisie.") from None


def encoded(content: bytes) -> str:
    return b64encode(content).decode()
