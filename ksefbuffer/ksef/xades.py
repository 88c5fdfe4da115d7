"""The login document and its XAdES signature.

Source: FACTS §2.3 (document), §2.4 (signature). The form made here (inclusive C14N 1.0, SigningCertificateV2, no
KeyValue) was verified by signxml and by xmlsec with RSA and EC keys; exclusive C14N by signxml was refused by both.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from lxml import etree
from signxml.algorithms import CanonicalizationMethod, DigestAlgorithm, SignatureMethod
from signxml.xades.xades import XAdESDataObjectFormat, XAdESSigner

NAMESPACE = "http://ksef.mf.gov.pl/auth/token/2.0"
# A clock a little ahead of KSeF's would otherwise sign in the future, which is refused.
SKEW_GUARD = timedelta(minutes=1)

# lxml writes a default namespace for the key None; its stubs know only texts.
_DEFAULT_NAMESPACE: dict[Any, str] = {None: NAMESPACE}

Identifier = Literal["certificate_subject", "certificate_fingerprint"]
_IDENTIFIERS = {"certificate_subject": "certificateSubject", "certificate_fingerprint": "certificateFingerprint"}


class SigningCredential(Protocol):
    """A certificate with its private key, however it came here."""

    @property
    def certificate(self) -> x509.Certificate: ...

    @property
    def private_key(self) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey: ...


def login_document(challenge: str, context_kind: str, context_value: str, identifier: Identifier) -> etree._Element:
    """An unsigned AuthTokenRequest; ``context_kind`` is Nip, InternalId, NipVatUe or PeppolId."""
    root = etree.Element(f"{{{NAMESPACE}}}AuthTokenRequest", nsmap=_DEFAULT_NAMESPACE)
    etree.SubElement(root, f"{{{NAMESPACE}}}Challenge").text = challenge
    context = etree.SubElement(root, f"{{{NAMESPACE}}}ContextIdentifier")
    etree.SubElement(context, f"{{{NAMESPACE}}}{context_kind}").text = context_value
    etree.SubElement(root, f"{{{NAMESPACE}}}SubjectIdentifierType").text = _IDENTIFIERS[identifier]
    return root


def sign(root: etree._Element, credential: SigningCredential, now: datetime) -> bytes:
    """The document signed and serialised once: nothing may be reformatted afterwards (issue #121)."""
    signer = _Signer(
        signing_time=now - SKEW_GUARD,
        signature_algorithm=_algorithm(credential.private_key),
        digest_algorithm=DigestAlgorithm.SHA256,
        c14n_algorithm=CanonicalizationMethod.CANONICAL_XML_1_0,
        data_object_format=XAdESDataObjectFormat("AuthTokenRequest", "text/xml"),
    )
    signed = signer.sign(root, key=credential.private_key, cert=[credential.certificate], always_add_key_value=False)
    return etree.tostring(signed, xml_declaration=True, encoding="utf-8")


def _algorithm(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> SignatureMethod:
    if isinstance(key, rsa.RSAPrivateKey):
        return SignatureMethod.RSA_SHA256
    # The digest goes with the curve; KSeF takes every curve from 256 bits on.
    return {384: SignatureMethod.ECDSA_SHA384, 521: SignatureMethod.ECDSA_SHA512}.get(
        key.key_size, SignatureMethod.ECDSA_SHA256
    )


class _Signer(XAdESSigner):
    """signxml reads the clock for SigningTime; ours is given."""

    def __init__(self, *, signing_time: datetime, **settings: Any) -> None:
        super().__init__(**settings)
        self._signing_time = signing_time

    def add_signing_time(self, signed_signature_properties: Any, sig_root: Any, signing_settings: Any) -> None:
        element = etree.SubElement(signed_signature_properties, "{http://uri.etsi.org/01903/v1.3.2#}SigningTime")
        element.text = self._signing_time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
