"""A small KSeF client written by hand for these tests: no code of ksefbuffer.ksef, one method per call."""

from __future__ import annotations

import hashlib
import os
from base64 import b64decode, b64encode
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric import padding as rsa_padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from lxml import etree

from ksefbuffer.sandbox import Sandbox
from tests.samples import NIP, NOW

DS = "http://www.w3.org/2000/09/xmldsig#"
XADES = "http://uri.etsi.org/01903/v1.3.2#"
AUTH = "http://ksef.mf.gov.pl/auth/token/2.0"
FORM = {"systemCode": "FA (3)", "schemaVersion": "1-0E", "value": "FA"}
EXC = "http://www.w3.org/2001/10/xml-exc-c14n#"
INC = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
OAEP = rsa_padding.OAEP(rsa_padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)


class FakeClock:
    """Stands still until moved."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **step: float) -> None:
        self.now += timedelta(**step)


@dataclass
class Signer:
    key: Any
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


def signer(
    subject: dict[x509.ObjectIdentifier, str] | None = None,
    *,
    key: Any = None,
    now: datetime = NOW,
    days: int = 365,
    usage: tuple[bool, bool] | None = (True, False),
    bare: bool = False,
) -> Signer:
    """A self-signed certificate; ``usage`` is (digitalSignature, nonRepudiation), None for no extension. What every
    subject must have is added to ``subject`` unless it is to be ``bare``."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = subject or {NameOID.ORGANIZATION_IDENTIFIER: f"VATPL-{NIP}"}
    usual = {NameOID.COUNTRY_NAME: "PL", NameOID.COMMON_NAME: "Hurtownia"}
    if NameOID.ORGANIZATION_IDENTIFIER in subject:
        usual[NameOID.ORGANIZATION_NAME] = "Hurtownia"
    parts = subject if bare else usual | subject
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in parts.items()])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=days))
    )
    if usage is not None:
        digital, lasting = usage
        builder = builder.add_extension(
            x509.KeyUsage(digital, lasting, False, False, False, False, False, False, False), critical=True
        )
    return Signer(key, builder.sign(key, hashes.SHA256()))


def auth_request(
    challenge: str, nip: str = NIP, subject: str = "certificateSubject", *, context: str = "", policy: str = ""
) -> str:
    context = context or f"<Nip>{nip}</Nip>"
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<AuthTokenRequest xmlns="{AUTH}">\n'
        f"  <Challenge>{challenge}</Challenge>\n  <ContextIdentifier>{context}</ContextIdentifier>\n"
        f"  <SubjectIdentifierType>{subject}</SubjectIdentifierType>\n{policy}</AuthTokenRequest>"
    )


@dataclass
class Xades:
    """How to sign; the defaults are good, every change breaks or varies one thing."""

    signing_time: datetime | None = None
    c14n: str = EXC
    signature_method: str | None = None
    sha: Any = None
    binding: str = "v1"  # v1, v2, key_info, none
    digest_of: bytes | None = None
    der_ecdsa: bool = False
    properties_type: str = "http://uri.etsi.org/01903#SignedProperties"
    transforms: tuple[str, ...] = (DS + "enveloped-signature", EXC)
    uri: str = ""
    issuer: str | None = None
    serial: str | None = None
    certificate: bytes | None = None


def sign(document: str, by: Signer, how: Xades | None = None, *, now: datetime = NOW) -> bytes:
    how = how or Xades()
    root = etree.fromstring(document.encode())
    whole = etree.tostring(root.getroottree(), method="c14n", exclusive=how.transforms[-1] == EXC)
    signature = etree.SubElement(root, f"{{{DS}}}Signature", {"Id": "S"}, nsmap={"ds": DS})
    info = _ds(signature, "SignedInfo")
    _ds(info, "CanonicalizationMethod", Algorithm=how.c14n)
    rsa_key = isinstance(by.key, rsa.RSAPrivateKey)
    method = how.signature_method or f"http://www.w3.org/2001/04/xmldsig-more#{'rsa' if rsa_key else 'ecdsa'}-sha256"
    _ds(info, "SignatureMethod", Algorithm=method)
    value = _ds(signature, "SignatureValue")
    key_info = _ds(signature, "KeyInfo", Id="K")
    _ds(_ds(key_info, "X509Data"), "X509Certificate").text = b64encode(how.certificate or by.der).decode()
    qualifying = etree.SubElement(
        _ds(signature, "Object"), f"{{{XADES}}}QualifyingProperties", {"Target": "#S"}, nsmap={"xades": XADES}
    )
    properties = _xades(qualifying, "SignedProperties", Id="P")
    described = _xades(properties, "SignedSignatureProperties")
    moment = how.signing_time or now - timedelta(minutes=1)
    _xades(described, "SigningTime").text = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    if how.binding in {"v1", "v2"}:
        _bind(described, by, how)
    _reference(info, whole, how.transforms, URI=how.uri)
    _reference(info, _c14n(properties, how.c14n), (how.c14n,), URI="#P", Type=how.properties_type)
    if how.binding == "key_info":
        _reference(info, _c14n(key_info, how.c14n), (how.c14n,), URI="#K")
    sha = how.sha or hashes.SHA256()
    signed = _c14n(info, how.c14n)
    if rsa_key:
        pss = "MGF1" in method
        pad = rsa_padding.PSS(rsa_padding.MGF1(sha), sha.digest_size) if pss else rsa_padding.PKCS1v15()
        raw = by.key.sign(signed, pad, sha)
    else:
        raw = by.key.sign(signed, ec.ECDSA(sha))
        if not how.der_ecdsa:
            half = (by.key.curve.key_size + 7) // 8
            raw = b"".join(number.to_bytes(half, "big") for number in decode_dss_signature(raw))
    value.text = b64encode(raw).decode()
    return etree.tostring(root, xml_declaration=True, encoding="utf-8")


def _bind(described: Any, by: Signer, how: Xades) -> None:
    suffix = "V2" if how.binding == "v2" else ""
    cert = _xades(_xades(described, f"SigningCertificate{suffix}"), "Cert")
    mark = _xades(cert, "CertDigest")
    _ds(mark, "DigestMethod", Algorithm="http://www.w3.org/2001/04/xmlenc#sha256")
    _ds(mark, "DigestValue").text = b64encode(hashlib.sha256(how.digest_of or by.der).digest()).decode()
    if how.binding == "v1":
        issuer = _xades(cert, "IssuerSerial")
        _ds(issuer, "X509IssuerName").text = how.issuer or by.certificate.issuer.rfc4514_string()
        _ds(issuer, "X509SerialNumber").text = how.serial or str(by.certificate.serial_number)


def _reference(info: Any, content: bytes, transforms: tuple[str, ...], **attributes: str) -> None:
    reference = _ds(info, "Reference", **attributes)
    chain = _ds(reference, "Transforms")
    for transform in transforms:
        _ds(chain, "Transform", Algorithm=transform)
    _ds(reference, "DigestMethod", Algorithm="http://www.w3.org/2001/04/xmlenc#sha256")
    _ds(reference, "DigestValue").text = b64encode(hashlib.sha256(content).digest()).decode()


def _c14n(element: Any, algorithm: str) -> bytes:
    return etree.tostring(element, method="c14n", exclusive=algorithm == EXC)


def _ds(parent: Any, name: str, **attributes: str) -> Any:
    return etree.SubElement(parent, f"{{{DS}}}{name}", attributes)


def _xades(parent: Any, name: str, **attributes: str) -> Any:
    return etree.SubElement(parent, f"{{{XADES}}}{name}", attributes)


def digest(content: bytes) -> str:
    return b64encode(hashlib.sha256(content).digest()).decode()


def encrypt(content: bytes, key: bytes, iv: bytes) -> bytes:
    padder = padding.PKCS7(128).padder()
    padded = padder.update(content) + padder.finalize()
    encryptor = Cipher(algorithms.AES256(key), modes.CBC(iv)).encryptor()
    return encryptor.update(padded) + encryptor.finalize()


@dataclass
class Session:
    reference: str
    key: bytes
    iv: bytes


class Client:
    """Calls the sandbox. ``problem`` asks for problem details; answers come back unjudged unless a method says."""

    def __init__(self, sandbox: Sandbox, clock: FakeClock | None = None, *, http: httpx.Client | None = None) -> None:
        self.sandbox = sandbox
        self.clock = clock
        self.http = http or httpx.Client(transport=sandbox.transport(), base_url=sandbox.base_url)
        self.access = ""
        self.refresh_token = ""
        self.problem = True
        self.seen: list[httpx.Response] = []
        self.troubled = False

    @property
    def now(self) -> datetime:
        return self.sandbox.clock()

    def call(self, method: str, path: str, *, token: str | None = None, **more: Any) -> httpx.Response:
        headers = dict(more.pop("headers", {}))
        token = self.access if token is None else token
        if token:
            headers.setdefault("Authorization", f"Bearer {token}")
        if self.problem:
            headers.setdefault("X-Error-Format", "problem-details")
        response = self.http.request(method, path, headers=headers, **more)
        self.seen.append(response)
        return response

    def settle(self) -> None:
        """Lets processing finish."""
        if self.clock:
            self.clock.forward(seconds=self.sandbox.latency_s)

    # --- login

    def challenge(self) -> dict[str, Any]:
        return self.call("POST", "/auth/challenge", token="").json()

    def hand_in(self, document: bytes, content_type: str = "application/xml") -> httpx.Response:
        return self.call(
            "POST", "/auth/xades-signature", token="", content=document, headers={"Content-Type": content_type}
        )

    def login(self, by: Signer | None = None, nip: str = NIP, **request: Any) -> Client:
        by = by or signer(now=self.now)
        document = sign(auth_request(self.challenge()["challenge"], nip, **request), by, now=self.now)
        answer = self.hand_in(document)
        assert answer.status_code == 202, answer.text
        return self.redeem(answer.json())

    def login_by_token(self, token: str, nip: str = NIP) -> Client:
        answer = self.hand_in_token(token, nip)
        assert answer.status_code == 202, answer.text
        return self.redeem(answer.json())

    def hand_in_token(
        self, token: str, nip: str = NIP, *, plaintext: bytes | None = None, pad: Any = OAEP, **more: Any
    ) -> httpx.Response:
        challenge = self.challenge()
        published = self.public_key("KsefTokenEncryption")
        plaintext = plaintext or f"{token}|{challenge['timestampMs']}".encode()
        body = {
            "challenge": challenge["challenge"],
            "contextIdentifier": {"type": "Nip", "value": nip},
            "encryptedToken": b64encode(self._public(published).encrypt(plaintext, pad)).decode(),
            "publicKeyId": published["publicKeyId"],
            **more,
        }
        return self.call("POST", "/auth/ksef-token", token="", json={k: v for k, v in body.items() if v is not None})

    def redeem(self, started: dict[str, Any]) -> Client:
        self.settle()
        token = started["authenticationToken"]["token"]
        status = self.call("GET", f"/auth/{started['referenceNumber']}", token=token).json()
        assert status["status"]["code"] == 200, status
        tokens = self.call("POST", "/auth/token/redeem", token=token).json()
        self.access, self.refresh_token = tokens["accessToken"]["token"], tokens["refreshToken"]["token"]
        return self

    def public_key(self, usage: str) -> dict[str, Any]:
        keys = self.call("GET", "/security/public-key-certificates", token="").json()
        return max((key for key in keys if usage in key["usage"]), key=lambda key: key["validFrom"])

    def _public(self, published: dict[str, Any]) -> Any:
        return x509.load_der_x509_certificate(b64decode(published["certificate"])).public_key()

    # --- sessions

    def opening(self, key: bytes, iv: bytes, *, pad: Any = OAEP) -> dict[str, Any]:
        published = self.public_key("SymmetricKeyEncryption")
        return {
            "formCode": dict(FORM),
            "encryption": {
                "encryptedSymmetricKey": b64encode(self._public(published).encrypt(key, pad)).decode(),
                "initializationVector": b64encode(iv).decode(),
                "publicKeyId": published["publicKeyId"],
            },
        }

    def open(self, **more: Any) -> Session:
        key, iv = os.urandom(32), os.urandom(16)
        answer = self.call("POST", "/sessions/online", json=self.opening(key, iv, **more))
        assert answer.status_code == 201, answer.text
        return Session(answer.json()["referenceNumber"], key, iv)

    def sending(self, session: Session, content: bytes, **more: Any) -> dict[str, Any]:
        ciphertext = encrypt(content, session.key, session.iv)
        return {
            "invoiceHash": digest(content),
            "invoiceSize": len(content),
            "encryptedInvoiceHash": digest(ciphertext),
            "encryptedInvoiceSize": len(ciphertext),
            "encryptedInvoiceContent": b64encode(ciphertext).decode(),
            "offlineMode": False,
            **more,
        }

    def send(self, session: Session, content: bytes, **more: Any) -> httpx.Response:
        body = self.sending(session, content, **more)
        return self.call("POST", f"/sessions/online/{session.reference}/invoices", json=body)

    def sent(self, session: Session, content: bytes, **more: Any) -> str:
        answer = self.send(session, content, **more)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["referenceNumber"])

    def invoice(self, session: Session, reference: str) -> dict[str, Any]:
        return self.call("GET", f"/sessions/{session.reference}/invoices/{reference}").json()

    def verdict(self, session: Session, content: bytes, **more: Any) -> dict[str, Any]:
        """Sends, waits and returns the invoice's final status body."""
        reference = self.sent(session, content, **more)
        self.settle()
        return self.invoice(session, reference)

    def close(self, session: Session) -> httpx.Response:
        return self.call("POST", f"/sessions/online/{session.reference}/close")

    def session(self, session: Session) -> dict[str, Any]:
        return self.call("GET", f"/sessions/{session.reference}").json()

    def xml(self, path: str) -> httpx.Response:
        return self.call("GET", path, headers={"Accept": "application/xml"})


def codes(response: httpx.Response) -> list[int]:
    """KSeF's codes in a 400, whichever shape."""
    assert response.status_code == 400, response.text
    body = response.json()
    if "errors" in body:
        return [error["code"] for error in body["errors"]]
    return [item["exceptionCode"] for item in body["exception"]["exceptionDetailList"]]
