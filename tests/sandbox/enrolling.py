"""Requests for certificates, made by hand: no code of ksefbuffer.identity."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.sandbox.client import Client, Signer

OIDS = {
    "commonName": NameOID.COMMON_NAME,
    "countryName": NameOID.COUNTRY_NAME,
    "givenName": NameOID.GIVEN_NAME,
    "surname": NameOID.SURNAME,
    "serialNumber": NameOID.SERIAL_NUMBER,
    "uniqueIdentifier": NameOID.X500_UNIQUE_IDENTIFIER,
    "organizationName": NameOID.ORGANIZATION_NAME,
    "organizationIdentifier": NameOID.ORGANIZATION_IDENTIFIER,
}


@dataclass
class Got(Signer):
    """A certificate issued by the sandbox, with its key."""

    serial: str = ""


def data(client: Client) -> dict[str, str]:
    answer = client.call("GET", "/certificates/enrollments/data")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def csr(subject: dict[str, str], key: Any, *, sha: Any = None, **how: Any) -> bytes:
    name = x509.Name([x509.NameAttribute(OIDS[part], value) for part, value in subject.items()])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    return builder.sign(key, sha or hashes.SHA256(), **how).public_bytes(Encoding.DER)


def ask(client: Client, request: bytes, kind: str = "Authentication", **more: Any) -> httpx.Response:
    body = {"certificateName": "Kasa nr 1", "certificateType": kind, "csr": b64encode(request).decode(), **more}
    return client.call("POST", "/certificates/enrollments", json=body)


def outcome(client: Client, answer: httpx.Response) -> dict[str, Any]:
    """The status of an enrolment that was taken, when it is decided."""
    assert answer.status_code == 202, answer.text
    client.settle()
    return dict(client.call("GET", f"/certificates/enrollments/{answer.json()['referenceNumber']}").json())


def fetch(client: Client, *serials: str) -> list[dict[str, str]]:
    answer = client.call("POST", "/certificates/retrieve", json={"certificateSerialNumbers": list(serials)})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["certificates"])


def enrolled(client: Client, kind: str = "Authentication", *, key: Any = None, **more: Any) -> Got:
    """The whole way, for whoever the client is logged in as."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    said = outcome(client, ask(client, csr(data(client), key), kind, **more))
    assert said["status"]["code"] == 200, said
    serial = said["certificateSerialNumber"]
    (item,) = fetch(client, serial)
    return Got(key, x509.load_der_x509_certificate(b64decode(item["certificate"])), serial)
