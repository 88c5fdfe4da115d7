"""A KSeF that issues certificates: it reads requests by other code than makes them, and counts its quota."""

from __future__ import annotations

import base64
import json
from collections import deque
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from tests.ksef.fake import NIP, Clock, FakeKsef, problem

OIDS = {
    "commonName": "2.5.4.3",
    "countryName": "2.5.4.6",
    "givenName": "2.5.4.42",
    "surname": "2.5.4.4",
    "serialNumber": "2.5.4.5",
    "uniqueIdentifier": "2.5.4.45",
    "organizationName": "2.5.4.10",
    "organizationIdentifier": "2.5.4.97",
}
COMPANY = {
    "commonName": "Żółta Łódź Sp. z o.o.",
    "countryName": "PL",
    "organizationName": "Żółta Łódź Sp. z o.o.",
    "organizationIdentifier": f"VATPL-{NIP}",
}
USAGES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


@cache
def issuer_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def certify(
    public_key: Any,
    subject: x509.Name,
    *,
    usage: str | None,
    serial: int,
    since: datetime,
    days: int = 730,
    issuer: str = "TEST CCK KSeF",
    extension: x509.UnrecognizedExtension | None = None,
) -> x509.Certificate:
    """A certificate by an issuer of this name; ``usage`` is the one thing that its key may do."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(since)
        .not_valid_after(since + timedelta(days=days))
    )
    if usage is not None:
        builder = builder.add_extension(x509.KeyUsage(**{name: name == usage for name in USAGES}), critical=True)
    if extension is not None:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(issuer_key(), hashes.SHA256())


class CertifyingKsef(FakeKsef):
    """``slow`` is how often a request is answered 100 first; ``lose_answers`` counts requests taken in silence."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.subject: dict[str, Any] = dict(COMPANY)
        self.requests_left, self.certificates_left = 12, 6
        self.enrolments: dict[str, dict[str, Any]] = {}
        self.issued: dict[str, dict[str, Any]] = {}
        self.slow = 0
        self.lose_answers = 0
        self.verdicts: deque[tuple[int, str]] = deque()
        self.tokens: dict[str, dict[str, Any]] = {}
        self.page = 50

    def _ordinary(self, request: httpx.Request) -> httpx.Response:
        parts = request.url.path.removeprefix("/v2/").split("/")
        if parts[0] not in ("certificates", "tokens"):
            return super()._ordinary(request)
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.live_tokens:
            return httpx.Response(401, json={"title": "Unauthorized", "status": 401, "detail": "Token wygasł."})
        body = json.loads(request.content) if request.content else {}
        match [request.method, *parts]:
            case ["GET", "certificates", "limits"]:
                return httpx.Response(
                    200,
                    json={
                        "canRequest": self.requests_left > 0 and self.certificates_left > 0,
                        "enrollment": {"remaining": self.requests_left, "limit": 12},
                        "certificate": {"remaining": self.certificates_left, "limit": 6},
                    },
                )
            case ["GET", "certificates", "enrollments", "data"]:
                return httpx.Response(200, json={**dict.fromkeys(OIDS), **self.subject})
            case ["POST", "certificates", "enrollments"]:
                return self._enrol(body)
            case ["GET", "certificates", "enrollments", reference]:
                return self._status(reference)
            case ["POST", "certificates", "retrieve"]:
                assert 1 <= len(body["certificateSerialNumbers"]) <= 10
                found = [self.issued[s] for s in body["certificateSerialNumbers"] if s in self.issued]
                return httpx.Response(200, json={"certificates": [one["whole"] for one in found]})
            case ["POST", "certificates", "query"]:
                return self._query(request, body)
            case ["POST", "certificates", serial, "revoke"]:
                if serial not in self.issued:
                    return problem(400, 25008)
                if self.issued[serial]["status"] != "Active":
                    return problem(400, 25009)
                self.issued[serial]["status"] = "Revoked"
                return httpx.Response(204)
            case ["POST", "tokens"]:
                return self._make_token(body)
            case ["GET", "tokens"]:
                return self._list_tokens(request)
            case ["GET", "tokens", reference]:
                return httpx.Response(200, json=self.tokens[reference])
            case ["DELETE", "tokens", reference]:
                self.tokens[reference]["status"] = "Revoking"
                return httpx.Response(204)
        return httpx.Response(404)

    def _enrol(self, body: dict[str, Any]) -> httpx.Response:
        if self.requests_left < 1:
            return problem(400, 25006)
        csr = x509.load_der_x509_csr(base64.b64decode(body["csr"], validate=True))
        assert csr.is_signature_valid
        key = csr.public_key()
        assert (isinstance(key, rsa.RSAPublicKey) and key.key_size == 2048) or key.curve.name == "secp256r1"
        named: dict[str, list[str]] = {}
        for attribute in csr.subject:
            named.setdefault(attribute.oid.dotted_string, []).append(str(attribute.value))
        due = {OIDS[name]: value if isinstance(value, list) else [value] for name, value in self.subject.items()}
        if named != due:
            return problem(400, 25003)
        self.requests_left -= 1
        reference = f"20261120-EH-{len(self.enrolments):010d}-AAAAAAAAAA-BB"
        self.enrolments[reference] = {"body": body, "csr": csr, "asked": 0, "serial": None}
        if self.lose_answers:
            self.lose_answers -= 1
            raise httpx.ReadTimeout("lost")
        return httpx.Response(202, json={"referenceNumber": reference, "timestamp": self.clock.now.isoformat()})

    def _status(self, reference: str) -> httpx.Response:
        if reference not in self.enrolments:
            return problem(400, 25005)
        enrolment = self.enrolments[reference]
        enrolment["asked"] += 1
        code, description = (100, "Wniosek przyjęty do realizacji")
        if enrolment["asked"] > self.slow:
            code, description = self.verdicts.popleft() if self.verdicts else (200, "Wniosek obsłużony")
        if code == 200:
            self.finish(reference)
        return httpx.Response(
            200,
            json={
                "requestDate": self.clock.now.isoformat(),
                "status": {"code": code, "description": description, "details": ["szczegół"]},
                "certificateSerialNumber": enrolment["serial"],
            },
        )

    def finish(self, reference: str) -> None:
        """Issue the certificate, as KSeF does in its own time."""
        enrolment = self.enrolments[reference]
        if enrolment["serial"] is not None:
            return
        body = enrolment["body"]
        usage = "digital_signature" if body["certificateType"] == "Authentication" else "content_commitment"
        self.certificates_left -= 1
        number = 0x01F20A5D352AE590 + len(self.issued)
        certificate = certify(
            enrolment["csr"].public_key(), enrolment["csr"].subject, usage=usage, serial=number, since=self.clock.now
        )
        enrolment["serial"] = serial = f"{number:016X}"
        self.issued[serial] = {
            "status": "Active",
            "certificate": certificate,
            "whole": {
                "certificate": base64.b64encode(certificate.public_bytes(Encoding.DER)).decode(),
                "certificateName": body["certificateName"],
                "certificateSerialNumber": serial,
                "certificateType": body["certificateType"],
            },
        }

    def _query(self, request: httpx.Request, body: dict[str, Any]) -> httpx.Response:
        size, page = int(request.url.params["pageSize"]), int(request.url.params["pageOffset"])
        assert 10 <= size <= 50
        size = min(size, self.page)
        rows = [
            {
                "certificateSerialNumber": serial,
                "name": one["whole"]["certificateName"],
                "type": one["whole"]["certificateType"],
                "commonName": "x",
                "status": one["status"],
                "subjectIdentifier": {"type": "Nip", "value": NIP},
                "validFrom": self.clock.now.isoformat(),
                "validTo": (self.clock.now + timedelta(days=730)).isoformat(),
                "requestDate": self.clock.now.isoformat(),
            }
            for serial, one in reversed(self.issued.items())
            if body.get("name", "") in one["whole"]["certificateName"]
            and body.get("certificateSerialNumber", serial) == serial
            and body.get("type", one["whole"]["certificateType"]) == one["whole"]["certificateType"]
        ]
        shown = rows[page * size : (page + 1) * size]
        return httpx.Response(200, json={"certificates": shown, "hasMore": len(rows) > (page + 1) * size})

    def _make_token(self, body: dict[str, Any]) -> httpx.Response:
        reference = f"20261120-EC-{len(self.tokens):010d}-AAAAAAAAAA-BB"
        self.tokens[reference] = {
            "referenceNumber": reference,
            "authorIdentifier": {"type": "Nip", "value": NIP},
            "contextIdentifier": {"type": "Nip", "value": NIP},
            "description": body["description"],
            "requestedPermissions": body["permissions"],
            "dateCreated": self.clock.now.isoformat(),
            "status": "Pending",
        }
        return httpx.Response(202, json={"referenceNumber": reference, "token": f"{reference}|nip-{NIP}|tajne"})

    def _list_tokens(self, request: httpx.Request) -> httpx.Response:
        assert 10 <= int(request.url.params["pageSize"]) <= 100
        rows = list(self.tokens.values())
        at = int(request.headers.get("x-continuation-token", "0"))
        following = str(at + 2) if at + 2 < len(rows) else None
        return httpx.Response(200, json={"tokens": rows[at : at + 2], "continuationToken": following})
