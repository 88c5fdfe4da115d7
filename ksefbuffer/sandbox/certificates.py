"""KSeF certificates: their subjects, their making, and what becomes of them. Source: FACTS §9.

A certificate carries an identity and nothing else: it belongs to a subject (NIP, PESEL or the fingerprint of the
certificate of the login that asked for it), whatever the context.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from . import authority
from .authority import PublicKey
from .login_certificates import values
from .store import restored, stored
from .world import World

AUTHENTICATION, OFFLINE = "Authentication", "Offline"
SUFFIXES = {AUTHENTICATION: " (uwierzytelnienie)", OFFLINE: " (offline)"}
LIFE = timedelta(days=730)
"""At most two years (Dz.U. 2025 poz. 1815 § 6 ust. 2)."""
COUNTED = timedelta(days=30)
"""How long an enrolment counts towards its limit [#580]."""
LIMITS = {"Nip": (300, 100), "Pesel": (12, 6), "Fingerprint": (12, 6)}
"""Enrolments and active certificates allowed, by kind of subject."""

ATTRIBUTES = {
    "countryName": NameOID.COUNTRY_NAME,
    "organizationName": NameOID.ORGANIZATION_NAME,
    "organizationIdentifier": NameOID.ORGANIZATION_IDENTIFIER,
    "givenName": NameOID.GIVEN_NAME,
    "surname": NameOID.SURNAME,
    "serialNumber": NameOID.SERIAL_NUMBER,
    "uniqueIdentifier": x509.ObjectIdentifier("2.5.4.45"),
    "commonName": NameOID.COMMON_NAME,
}
_NAME_LIMIT = 64


def enrollment_data(certificate: x509.Certificate) -> dict[str, str] | None:
    """What a request must hold, to the letter, for the owner of this certificate; None when the certificate does not
    name its owner and country. Identifiers come in KSeF's spelling, which may differ from the certificate's [#187]."""
    data: dict[str, str] = {}
    for name, oid in ATTRIBUTES.items():
        if found := values(certificate, oid):
            data[name] = " ".join(found)
    if "commonName" not in data or "countryName" not in data:
        return None
    for suffix in SUFFIXES.values():
        data["commonName"] = data["commonName"].removesuffix(suffix)
    if "serialNumber" in data:
        data["serialNumber"] = _spelt(data["serialNumber"], (("PNOPL|PESEL", "PNOPL", 11), ("TINPL|NIP", "TINPL", 10)))
    if "organizationIdentifier" in data:
        data["organizationIdentifier"] = _spelt(data["organizationIdentifier"], (("VATPL", "VATPL", 10),))
    return data


def _spelt(text: str, spellings: tuple[tuple[str, str, int], ...]) -> str:
    for known, prefix, length in spellings:
        if match := re.search(rf"(?:{known}).*?(\d{{{length}}})", text, re.ASCII):
            return f"{prefix}-{match[1]}"
    return text


def enter(
    world: World, subject: tuple[str, str], *, name: str, kind: str, key: PublicKey, data: dict[str, str],
    requested_at: datetime, since: datetime, now: datetime,
) -> str:  # fmt: skip
    """Makes a certificate and returns its serial number."""
    serial = f"01{world.store.entropy(14)}"
    suffix = SUFFIXES[kind]
    common_name = data["commonName"][: _NAME_LIMIT - len(suffix)] + suffix
    told = {**data, "commonName": common_name}
    distinguished = x509.Name([x509.NameAttribute(ATTRIBUTES[part], told[part]) for part in ATTRIBUTES if part in told])
    until = since + LIFE
    der = authority.issue(
        world.store, distinguished, key, offline=kind == OFFLINE, serial=serial, since=since, until=until, now=now
    )
    world.store.run(
        "INSERT INTO certificates (serial, subject_type, subject_value, name, kind, der, spki, common_name,"
        " requested_at, valid_from, valid_to) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        serial,
        *subject,
        name,
        kind,
        der,
        mark_of(key),
        common_name,
        stored(requested_at),
        stored(since),
        stored(until),
    )
    return serial


def mark_of(key: PublicKey) -> str:
    """What two certificates of one key have in common."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def find(world: World, serial: str) -> sqlite3.Row | None:
    return world.store.one("SELECT * FROM certificates WHERE serial = ?", serial)


def own(world: World, serial: str, subject: tuple[str, str]) -> sqlite3.Row | None:
    """The certificate, when it belongs to this subject."""
    row = find(world, serial)
    return row if row is not None and (row["subject_type"], row["subject_value"]) == subject else None


def standing(row: sqlite3.Row, now: datetime) -> str:
    """Active, Blocked (being revoked), Revoked or Expired."""
    moment = stored(now)
    if row["revoked_at"] is not None:
        return "Revoked" if row["gone_at"] <= moment else "Blocked"
    return "Expired" if row["valid_to"] <= moment else "Active"


def objection(world: World, der: bytes, now: datetime) -> tuple[sqlite3.Row | None, str | None]:
    """For a login's certificate: its row when this sandbox issued it, and what is wrong with it, in the words of a
    login's status 460. A self-made one has neither."""
    certificate = x509.load_der_x509_certificate(der)
    row = find(world, f"{certificate.serial_number:016X}")
    if row is None or row["der"] != der:
        claimed = authority.names_itself(certificate)
        return None, "Niezaufany łańcuch certyfikatów" if claimed else None
    said = {"Revoked": "Certyfikat odwołany", "Blocked": "Certyfikat zawieszony", "Expired": "Nieważny certyfikat"}
    return row, said.get(standing(row, now))


def note_use(world: World, serial: str, now: datetime) -> None:
    world.store.run("UPDATE certificates SET used_at = ? WHERE serial = ?", stored(now), serial)


def revoke(world: World, serial: str, now: datetime) -> None:
    """Blocked at once, revoked a moment later. Raises LookupError, and ValueError when it is not active."""
    row = find(world, serial)
    if row is None:
        raise LookupError(serial)
    if standing(row, now) != "Active":
        raise ValueError("the certificate is revoked or expired already")
    world.store.run(
        "UPDATE certificates SET revoked_at = ?, gone_at = ? WHERE serial = ?",
        stored(now),
        stored(now + world.latency),
        serial,
    )


def expire(world: World, serial: str, at: datetime) -> None:
    """From ``at`` on KSeF holds it for expired, whatever the certificate itself says. Raises LookupError."""
    if not world.store.run("UPDATE certificates SET valid_to = ? WHERE serial = ?", stored(at), serial):
        raise LookupError(serial)


# --- limits ----------------------------------------------------------------------------------------------------------


def limits(world: World, subject_type: str) -> tuple[int, int]:
    """How many enrolments and how many active certificates such a subject may have."""
    ordered = world.store.setting("certificate-limits", "")
    enrollments, active = LIMITS.get(subject_type, LIMITS["Nip"])
    told = json.loads(ordered) if ordered else {}
    return told.get("enrollments", enrollments), told.get("certificates", active)


def set_limits(world: World, enrollments: int | None, active: int | None) -> None:
    """The same for every subject; None: KSeF's own. Raises ValueError."""
    figures = {"enrollments": enrollments, "certificates": active}
    if any(figure is not None and not 0 <= figure <= 10_000 for figure in figures.values()):
        raise ValueError("limits must be 0 to 10000")
    world.store.keep("certificate-limits", json.dumps({k: v for k, v in figures.items() if v is not None}))


def counted(world: World, subject: tuple[str, str], now: datetime) -> tuple[int, int]:
    """Enrolments of the last 30 days, failed ones too, and certificates now active."""
    asked = world.store.one(
        "SELECT count(*) AS n FROM enrollments WHERE subject_type = ? AND subject_value = ? AND requested_at > ?",
        *subject,
        stored(now - COUNTED),
    )
    active = world.store.one(
        "SELECT count(*) AS n FROM certificates WHERE subject_type = ? AND subject_value = ? AND revoked_at IS NULL"
        " AND valid_to > ?",
        *subject,
        stored(now),
    )
    return (asked["n"] if asked else 0), (active["n"] if active else 0)


# --- what falls due --------------------------------------------------------------------------------------------------


def issue_due(world: World, now: datetime) -> None:
    """Decides on the enrolments whose time has come, dated when they fell due."""
    for row in world.store.all(
        "SELECT * FROM enrollments WHERE code = 100 AND NOT stuck AND due_at <= ? ORDER BY due_at, seq", stored(now)
    ):
        code, details, serial = _decide(world, row, now)
        world.store.run(
            "UPDATE enrollments SET code = ?, details = ?, serial = ? WHERE reference = ?",
            code,
            json.dumps(details, ensure_ascii=False),
            serial,
            row["reference"],
        )


def _decide(world: World, row: sqlite3.Row, now: datetime) -> tuple[int, list[str], str | None]:
    if row["forced"]:
        return row["forced"], json.loads(row["details"]), None
    subject = (row["subject_type"], row["subject_value"])
    due = restored(row["due_at"])
    key = x509.load_der_x509_csr(row["csr"]).public_key()
    if not isinstance(key, PublicKey):
        raise TypeError("an enrolment of a key that was to be refused")
    if world.store.one(
        "SELECT 1 FROM certificates WHERE spki = ? AND NOT (subject_type = ? AND subject_value = ?)",
        mark_of(key),
        *subject,
    ):
        return 400, ["Klucz publiczny został już certyfikowany przez inny podmiot."], None
    if counted(world, subject, due)[1] >= limits(world, subject[0])[1]:
        return 400, ["Osiągnięto dopuszczalny limit posiadanych certyfikatów."], None
    wanted = restored(row["valid_from"]) if row["valid_from"] else due
    serial = enter(
        world, subject, name=row["name"], kind=row["kind"], key=key, data=json.loads(row["data"]),
        requested_at=restored(row["requested_at"]), since=max(wanted, due), now=now,
    )  # fmt: skip
    return 200, [], serial
