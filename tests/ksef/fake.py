"""A KSeF small enough to be read at once: it logs in anybody, keeps sessions in a dict, and says what it is told to.

It decrypts for itself (RSA-OAEP, AES-CBC) so that our encryption is judged by other code than our own.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from ksefbuffer.ksef.auth import Login, TokenLogin
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.limits import Limiter

BASE = "https://ksef.example/v2"
NIP = "5265877635"
START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
TOKEN = "20261120-EC-1|nip-5265877635|c2VjcmV0"

Handler = Callable[[httpx.Request], httpx.Response]
Planned = httpx.Response | Exception | Handler


class Clock:
    """A clock that moves only when somebody sleeps or says so."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now
        self.slept: list[float] = []

    def __call__(self) -> datetime:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += timedelta(seconds=seconds)


@cache
def _key_material(name: str) -> tuple[rsa.RSAPrivateKey, bytes, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(START - timedelta(days=1))
        .not_valid_after(START + timedelta(days=365))
        .sign(key, hashes.SHA256())
    )
    spki = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    identifier = base64.b64encode(hashlib.sha256(spki).digest()).decode()
    return key, certificate.public_bytes(serialization.Encoding.DER), identifier


def problem(status: int, code: int | str | None = None, *details: str, **extra: object) -> httpx.Response:
    """A problem-details answer."""
    body: dict[str, object] = {"title": "Bad Request", "status": status, "detail": "Opis.", **extra}
    if code is not None:
        body["errors"] = [{"code": code, "description": f"Opis {code}", "details": list(details)}]
    return httpx.Response(status, json=body, headers={"content-type": "application/problem+json"})


def oaep(key: rsa.RSAPrivateKey, sealed: str) -> bytes:
    """Decrypt with SHA-256 for the hash and for MGF1, and nothing else."""
    return key.decrypt(
        base64.b64decode(sealed, validate=True),
        padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None),
    )


def open_aes(key: bytes, iv: bytes, sealed: bytes) -> bytes:
    """Decrypt AES-256-CBC and take the PKCS#7 padding off by hand."""
    decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    padded = decryptor.update(sealed) + decryptor.finalize()
    assert 1 <= padded[-1] <= 16
    assert padded.endswith(bytes([padded[-1]]) * padded[-1])
    return padded[: -padded[-1]]


class FakeKsef:
    """``plan("POST /sessions/online", answer, …)`` queues answers that come before the ordinary ones."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.requests: list[httpx.Request] = []
        self.planned: dict[str, deque[Planned]] = {}
        self.session_keys: dict[str, tuple[bytes, bytes]] = {}
        self.received: list[bytes] = []
        self.tokens_seen: list[str] = []
        self.logins = 0
        self.refreshes = 0
        self.key_names = ("key-1",)
        self.token_lives = timedelta(minutes=15)
        self.live_tokens: set[str] = set()
        self.auth_statuses: deque[tuple[int, str, list[str]]] = deque()

    def plan(self, route: str, *answers: Planned) -> None:
        self.planned.setdefault(route, deque()).extend(answers)

    def count(self, route: str) -> int:
        return sum(1 for request in self.requests if _route(request) == route)

    def last(self, route: str) -> httpx.Request:
        return next(request for request in reversed(self.requests) if _route(request) == route)

    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self.answer)

    def client(self, *, login: Login | None = None, limiter: Limiter | None = None, **options: object) -> Ksef:
        settings: dict[str, object] = {
            "base_url": BASE,
            "context_nip": NIP,
            "login": login or TokenLogin(TOKEN),
            "limiter": limiter or Limiter(),
            "clock": self.clock,
            "sleep": self.clock.sleep,
            "transport": self.transport(),
            **options,
        }
        return Ksef(**settings)  # type: ignore[arg-type]

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        waiting = self.planned.get(_route(request))
        if waiting:
            planned = waiting.popleft()
            if isinstance(planned, Exception):
                raise planned
            return planned if isinstance(planned, httpx.Response) else planned(request)
        return self._ordinary(request)

    def _ordinary(self, request: httpx.Request) -> httpx.Response:
        parts = request.url.path.removeprefix("/v2/").split("/")
        match [request.method, *parts]:
            case ["GET", "security", "public-key-certificates"]:
                return httpx.Response(200, json=[self.public_key(name) for name in self.key_names])
            case ["POST", "auth", "challenge"]:
                stamp = int(self.clock.now.timestamp() * 1000)
                body = {"challenge": f"20261120-CR-{self.logins:010d}-AAAAAAAAAA-BB", "timestampMs": stamp}
                return httpx.Response(200, json=body)
            case ["POST", "auth", "xades-signature"]:
                assert request.headers["content-type"] == "application/xml"
                return self._begun()
            case ["POST", "auth", "ksef-token"]:
                body = json.loads(request.content)
                name = next(name for name in self.key_names if _key_material(name)[2] == body["publicKeyId"])
                self.tokens_seen.append(oaep(_key_material(name)[0], body["encryptedToken"]).decode())
                return self._begun()
            case ["POST", "auth", "token", "redeem"]:
                self.logins += 1
                refresh = self._issue("refresh", timedelta(days=7))
                return httpx.Response(200, json={"accessToken": self._issue("access"), "refreshToken": refresh})
            case ["POST", "auth", "token", "refresh"]:
                assert request.content == b""
                assert "content-type" not in request.headers
                self.refreshes += 1
                return httpx.Response(200, json={"accessToken": self._issue("access")})
            case ["GET", "auth", _]:
                code, description, details = self.auth_statuses.popleft() if self.auth_statuses else (200, "OK", [])
                status = {"code": code, "description": description, "details": details}
                return httpx.Response(200, json={"startDate": "2026-11-20T12:00:00Z", "status": status, "nowe": 1})
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if bearer not in self.live_tokens:
            return httpx.Response(401, json={"title": "Unauthorized", "status": 401, "detail": "Token wygasł."})
        match [request.method, *parts]:
            case ["POST", "sessions", "online"]:
                return self._open(json.loads(request.content))
            case ["POST", "sessions", "online", reference, "invoices"]:
                return self._receive(reference, json.loads(request.content))
            case ["POST", "sessions", "online", _, "close"]:
                return httpx.Response(204)
            case ["GET", "sessions", _]:
                return httpx.Response(200, json={"status": {"code": 170, "description": "Zamknięta"}})
        return httpx.Response(404, json={"title": "Not Found", "status": 404, "detail": "Nie ma."})

    def public_key(self, name: str, **changes: object) -> dict[str, object]:
        _, certificate, identifier = _key_material(name)
        entry: dict[str, object] = {
            "certificate": base64.b64encode(certificate).decode(),
            "certificateId": "x",
            "publicKeyId": identifier,
            "validFrom": "2026-11-01T00:00:00Z",
            "validTo": "2027-11-01T00:00:00Z",
            "usage": ["KsefTokenEncryption", "SymmetricKeyEncryption"],
        }
        return {**entry, **changes}

    def expire_tokens(self) -> None:
        self.live_tokens.clear()

    def _begun(self) -> httpx.Response:
        token = {"token": "authentication", "validUntil": _stamp(self.clock.now + timedelta(minutes=45))}
        return httpx.Response(202, json={"referenceNumber": "20261120-AU-1", "authenticationToken": token})

    def _issue(self, kind: str, lives: timedelta | None = None) -> dict[str, str]:
        token = f"{kind}-{self.logins}-{self.refreshes}"
        self.live_tokens.add(token)
        return {"token": token, "validUntil": _stamp(self.clock.now + (lives or self.token_lives))}

    def _open(self, body: dict[str, dict[str, str]]) -> httpx.Response:
        encryption = body["encryption"]
        name = next(name for name in self.key_names if _key_material(name)[2] == encryption["publicKeyId"])
        key = oaep(_key_material(name)[0], encryption["encryptedSymmetricKey"])
        iv = base64.b64decode(encryption["initializationVector"], validate=True)
        assert (len(key), len(iv)) == (32, 16)
        reference = f"20261120-SO-{len(self.session_keys)}"
        self.session_keys[reference] = (key, iv)
        valid_until = _stamp(self.clock.now + timedelta(hours=12))
        return httpx.Response(201, json={"referenceNumber": reference, "validUntil": valid_until})

    def _receive(self, reference: str, body: dict[str, object]) -> httpx.Response:
        sealed = base64.b64decode(str(body["encryptedInvoiceContent"]), validate=True)
        assert body["encryptedInvoiceSize"] == len(sealed)
        assert body["encryptedInvoiceHash"] == base64.b64encode(hashlib.sha256(sealed).digest()).decode()
        plain = open_aes(*self.session_keys[reference], sealed)
        assert body["invoiceSize"] == len(plain)
        assert body["invoiceHash"] == base64.b64encode(hashlib.sha256(plain).digest()).decode()
        self.received.append(plain)
        return httpx.Response(202, json={"referenceNumber": f"20261120-EE-{len(self.received)}"})


def _route(request: httpx.Request) -> str:
    return f"{request.method} {request.url.path.removeprefix('/v2')}"


def _stamp(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "1234567+00:00" if moment.microsecond else ".1234567+00:00")
