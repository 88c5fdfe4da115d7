"""The signature inside KOD II. Source: FACTS §11.

The text is hashed once, by the signing itself: handing over a digest instead is what broke other clients
(FACTS §15.41).
"""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from ksefbuffer.errors import CredentialFault

SALT_BYTES = 32
_HALF_BYTES = 32


def sign_code(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, text: bytes) -> bytes:
    """RSA: RSASSA-PSS with SHA-256, MGF1-SHA-256, salt of 32 bytes. EC P-256: ECDSA with SHA-256, R and S of 32 bytes
    each. Raises CredentialFault for another curve."""
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(text, _pss(), hashes.SHA256())
    if not isinstance(key.curve, ec.SECP256R1):
        raise CredentialFault(
            "Klucz certyfikatu typu Offline musi być RSA albo EC P-256.",
            action="Użyj certyfikatu typu Offline wydanego przez KSeF.",
        )
    r, s = decode_dss_signature(key.sign(text, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(_HALF_BYTES, "big") + s.to_bytes(_HALF_BYTES, "big")


def verify_code(certificate: x509.Certificate, text: bytes, signature: bytes) -> bool:
    """Whether ``signature`` is one of ``text`` by the certificate's key, in the very form that ``sign_code`` makes."""
    key = certificate.public_key()
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, text, _pss(), hashes.SHA256())
            return True
        if not isinstance(key, ec.EllipticCurvePublicKey) or len(signature) != 2 * _HALF_BYTES:
            return False
        r, s = (int.from_bytes(half, "big") for half in (signature[:_HALF_BYTES], signature[_HALF_BYTES:]))
        key.verify(encode_dss_signature(r, s), text, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _pss() -> padding.PSS:
    return padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=SALT_BYTES)
