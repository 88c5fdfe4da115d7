"""The part of the sandbox's face that is about identity: KSeF tokens, grants, and certificates."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import load_der_x509_certificate

from . import access_tokens, authority
from . import certificates as ledger
from . import permissions as rights
from .face import Face


@dataclass(frozen=True)
class IssuedCertificate:
    """A certificate of the sandbox's authority with its key: PEM, the key as unencrypted PKCS#8."""

    serial: str
    certificate: bytes
    private_key: bytes = field(repr=False)


@dataclass(frozen=True)
class KnownCertificate:
    """A certificate as KSeF sees it now. ``kind``: Authentication or Offline; ``status``: Active, Blocked, Revoked or
    Expired; ``subject``: kind of identifier and its value."""

    serial: str
    kind: str
    status: str
    name: str
    subject: tuple[str, str]
    valid_from: datetime
    valid_to: datetime


class Credentials(Face):
    """What ``Sandbox`` can do with identities. May be called from any thread."""

    # --- KSeF tokens

    def issue_token(
        self, nip: str, *, permissions: Iterable[str] | None = None, valid_until: datetime | None = None
    ) -> str:  # fmt: skip
        """A KSeF token good for login in the context of that NIP (or InternalId); it may contain "|", as KSeF's do.
        ``permissions``: all by default. Raises ValueError."""
        with self._locked() as world:
            return access_tokens.give_out(world, nip, permissions, valid_until, self.clock())

    def revoke_token(self, token: str) -> None:
        """The KSeF token no longer works: new logins get 450, refreshes 21301. Raises LookupError."""
        with self._locked() as world:
            access_tokens.revoke_text(world, token, self.clock())

    def end_token(self, token: str) -> None:
        """The KSeF token's time is over: logins get 450 "Token nieaktywny". Raises LookupError."""
        with self._locked() as world:
            access_tokens.end_text(world, token, self.clock())

    # --- grants

    def grant(
        self, nip: str, subject_type: str, subject_value: str, permissions: Iterable[str] | None = None
    ) -> None:  # fmt: skip
        """Someone else may act for that NIP (or InternalId), with these permissions (all by default) in place of what
        was granted before. ``subject_type``: Nip, Pesel or Fingerprint (SHA-256 of the certificate, hex).
        Raises ValueError."""
        with self._locked() as world:
            rights.grant(world, nip, subject_type, subject_value, permissions, self.clock())

    def withdraw_grant(self, nip: str, subject_type: str, subject_value: str) -> None:
        """Takes a grant back; access tokens already given keep it until they expire. Raises LookupError."""
        with self._locked() as world:
            rights.withdraw(world, nip, subject_type, subject_value)

    # --- certificates

    def issue_certificate(
        self, kind: str, subject_value: str, *, subject_type: str = "Nip", key: str = "ec", name: str = "piaskownica",
        valid_from: datetime | None = None,
    ) -> IssuedCertificate:  # fmt: skip
        """A certificate without the way of enrolment. ``kind``: Authentication or Offline; ``key``: ec (P-256) or rsa
        (2048). Raises ValueError."""
        if kind not in ledger.SUFFIXES:
            raise ValueError(f"kind must be one of: {', '.join(ledger.SUFFIXES)}")
        if key not in {"ec", "rsa"}:
            raise ValueError("key must be ec or rsa")
        data = _subject_data(subject_type, subject_value)
        private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = (
            ec.generate_private_key(ec.SECP256R1())
            if key == "ec"
            else rsa.generate_private_key(public_exponent=65537, key_size=2048)
        )
        now = self.clock()
        with self._locked() as world:
            serial = ledger.enter(
                world, (subject_type, subject_value.upper()), name=name, kind=kind, key=private.public_key(),
                data=data, requested_at=now, since=valid_from or now, now=now,
            )  # fmt: skip
            row = ledger.find(world, serial)
        if row is None:
            raise LookupError(serial)
        pem = load_der_x509_certificate(row["der"]).public_bytes(Encoding.PEM)
        return IssuedCertificate(serial, pem, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def revoke(self, serial: str) -> None:
        """Revokes a certificate, whoever owns it. Raises LookupError, and ValueError when it is not active."""
        with self._locked() as world:
            ledger.revoke(world, serial, self.clock())

    def expire(self, serial: str) -> None:
        """From now on KSeF holds the certificate for expired, whatever it says itself. Raises LookupError."""
        with self._locked() as world:
            ledger.expire(world, serial, self.clock())

    def certificates(self) -> list[KnownCertificate]:
        """All that were issued, in order."""
        now = self.clock()
        with self._locked() as world:
            rows = world.store.all("SELECT * FROM certificates ORDER BY seq")
        return [
            KnownCertificate(
                row["serial"],
                row["kind"],
                ledger.standing(row, now),
                row["name"],
                (row["subject_type"], row["subject_value"]),
                datetime.fromisoformat(row["valid_from"]),
                datetime.fromisoformat(row["valid_to"]),
            )
            for row in rows
        ]

    @property
    def authority(self) -> bytes:
        """The certificate (PEM) of the authority that issues the others."""
        with self._locked() as world:
            return authority.certificate(world.store, self.clock()).public_bytes(Encoding.PEM)

    def certificate_limits(self, *, enrollments: int | None = None, certificates: int | None = None) -> None:
        """How many enrolments in 30 days and how many active certificates every subject may have; None: KSeF's own
        figures (300 and 100 for a NIP, else 12 and 6). Survives a restart. Raises ValueError."""
        with self._locked() as world:
            ledger.set_limits(world, enrollments, certificates)

    @property
    def enrollment_s(self) -> float | None:
        """How long enrolments made from now on stay at 100, in seconds; None: as ``latency_s``."""
        return self._world.measures.enrollment_s

    @enrollment_s.setter
    def enrollment_s(self, seconds: float | None) -> None:
        if seconds is not None and not (math.isfinite(seconds) and 0 <= seconds <= 86_400):
            raise ValueError("an enrolment takes 0 to 86400 seconds")
        self._world.measures.enrollment_s = seconds


def _subject_data(subject_type: str, subject_value: str) -> dict[str, str]:
    """A subject made up for a certificate that nobody enrolled for. Raises ValueError."""
    lengths = {"Nip": 10, "Pesel": 11, "Fingerprint": 64}
    if subject_type not in lengths:
        raise ValueError(f"subjectType must be one of: {', '.join(lengths)}")
    digits = subject_value.isascii() and (subject_value.isdecimal() or subject_type == "Fingerprint")
    if len(subject_value) != lengths[subject_type] or not digits:
        raise ValueError(f"a {subject_type} has {lengths[subject_type]} digits")
    if subject_type == "Nip":
        firm = f"Firma {subject_value}"
        told = {"organizationName": firm, "organizationIdentifier": f"VATPL-{subject_value}", "commonName": firm}
    elif subject_type == "Pesel":
        told = {"givenName": "Jan", "surname": "Testowy", "serialNumber": f"PNOPL-{subject_value}",
                "commonName": "Jan Testowy"}  # fmt: skip
    else:
        told = {"commonName": "Jan Testowy"}
    return {"countryName": "PL", **told}
