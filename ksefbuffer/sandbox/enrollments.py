"""What clients ask about KSeF certificates: limits, data, enrolment, retrieval, listing, revocation.

Source: FACTS §9.
"""

from __future__ import annotations

import json
import re
import sqlite3
from base64 import b64encode
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from . import certificates
from .certificates import ATTRIBUTES, SUFFIXES
from .fields import Fields, read_json
from .instants import as_datetime
from .paging import number_argument
from .permissions import not_by_token
from .store import restored, stored
from .texts import ENROLLMENT, status
from .wire import BadRequest, Problem, Response, as_json, invalid, nothing, timestamp
from .world import Call, World

KEPT = timedelta(days=30)
"""How long the outcome of an enrolment may be asked for; later: 410."""
STANDINGS = ("Active", "Blocked", "Revoked", "Expired")
_NAME = re.compile(r"[a-zA-Z0-9_\- ąćęłńóśźżĄĆĘŁŃÓŚŹŻ]+")
_SERIAL = re.compile(r"[0-9A-F]{16}", re.ASCII)
_HASHES = (hashes.SHA1, hashes.SHA256, hashes.SHA384, hashes.SHA512)
_REASONS = ("", "Unspecified", "Superseded", "KeyCompromise")


@dataclass(frozen=True)
class Enrollment:
    """A request whose signature holds; ``subject`` holds the values of every attribute, by its name."""

    name: str
    kind: str
    csr: bytes = field(repr=False)
    subject: dict[str, str] = field(repr=False)
    since: datetime | None


def _login(world: World, call: Call) -> sqlite3.Row:
    row = world.store.one("SELECT * FROM logins WHERE reference = ?", call.caller.login)
    if row is None:
        raise LookupError("an access token without its login")
    return row


def _subject(login: sqlite3.Row) -> tuple[str, str]:
    return login["subject_type"], login["subject_value"]


def _data(login: sqlite3.Row) -> dict[str, str] | None:
    """None for a login that cannot enrol: by KSeF token, or by a certificate that does not name its owner."""
    der = login["certificate"]
    return None if der is None else certificates.enrollment_data(x509.load_der_x509_certificate(der))


def tell_limits(world: World, call: Call) -> Response:
    login = _login(world, call)
    allowed, used = certificates.limits(world, login["subject_type"]), _counted(world, login, call)
    left = [max(0, most - count) for most, count in zip(allowed, used, strict=True)]
    return as_json(
        200,
        {
            "canRequest": all(left) and _data(login) is not None,
            "enrollment": {"remaining": left[0], "limit": allowed[0]},
            "certificate": {"remaining": left[1], "limit": allowed[1]},
        },
    )


def _counted(world: World, login: sqlite3.Row, call: Call) -> tuple[int, int]:
    return certificates.counted(world, _subject(login), call.now)


def tell_data(world: World, call: Call) -> Response:
    data = _data(_login(world, call))
    if data is None:
        raise BadRequest(25001, "Brak możliwości pobrania danych do CSR dla wykorzystanego sposobu uwierzytelnienia.")
    return as_json(200, data)


def read_enrollment(world: World, call: Call) -> Enrollment:
    """Reads the request and verifies its signature before the lock is taken."""
    with world.lock:
        if _data(_login(world, call)) is None:
            raise BadRequest(
                25002, "Brak możliwości złożenia wniosku certyfikacyjnego dla wykorzystanego sposobu uwierzytelnienia."
            )
    fields = read_json(call.request)
    name = fields.text("certificateName", limit=100)
    if name and (len(name) < 5 or not _NAME.fullmatch(name)):
        fields.wrong("certificateName", "musi mieć od 5 do 100 znaków: liter, cyfr, spacji, '_' i '-'")
    kind = fields.text("certificateType", among=tuple(SUFFIXES))
    csr = fields.data("csr")
    since = fields.instant("validFrom", required=False)
    call.note_unknown(fields.finish())
    subject = _examined(csr or b"")
    return Enrollment(name, kind, csr or b"", subject, None if since is None else as_datetime(since))


def _examined(csr: bytes) -> dict[str, str]:
    """The subject of a request in order. Raises 25004, 25010, 25011."""
    try:
        request = x509.load_der_x509_csr(csr)
        attributes = [(attribute.oid, attribute.value) for attribute in request.subject]
    except ValueError:
        raise _unreadable("Treść nie jest wnioskiem PKCS#10 w formacie DER.") from None
    _check_key(request)
    try:
        algorithm = request.signature_hash_algorithm
        holds = request.is_signature_valid
    except UnsupportedAlgorithm:
        raise BadRequest(25011, "Nieprawidłowy algorytm podpisu CSR.") from None
    if not isinstance(algorithm, _HASHES):
        raise BadRequest(25011, "Nieprawidłowy algorytm podpisu CSR.")
    if not holds:
        raise _unreadable("Podpis wniosku zweryfikowany negatywnie.")
    names = {oid: name for name, oid in ATTRIBUTES.items()}
    subject: dict[str, str] = {}
    for oid, value in attributes:
        name = names.get(oid, oid.dotted_string)
        subject[name] = f"{subject[name]} {value!s}" if name in subject else str(value)
    return subject


def _check_key(request: x509.CertificateSigningRequest) -> None:
    try:
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm):
        key = None
    good = (isinstance(key, rsa.RSAPublicKey) and key.key_size == 2048) or (
        isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
    )
    if not good:
        raise BadRequest(25010, "Nieprawidłowy typ lub długość klucza.", ["Dozwolone są RSA 2048 i EC P-256."])


def _unreadable(detail: str) -> BadRequest:
    return BadRequest(25004, "Niepoprawny format CSR lub niepoprawny podpis CSR.", [detail])


def enroll(world: World, call: Call) -> Response:
    asked: Enrollment = call.prepared
    login = _login(world, call)
    data = _data(login) or {}
    if asked.subject != data:
        wrong = sorted(name for name in {*data, *asked.subject} if data.get(name) != asked.subject.get(name))
        raise BadRequest(
            25003, "Dane w CSR nie zgadzają się z danymi w użytym wektorze uwierzytelniającym.",
            [f"Niezgodne atrybuty: {', '.join(wrong)}."],
        )  # fmt: skip
    allowed, used = certificates.limits(world, login["subject_type"]), _counted(world, login, call)
    if used[0] >= allowed[0]:
        raise BadRequest(25006, "Osiągnięto limit możliwych do złożenia wniosków certyfikacyjnych.")
    if used[1] >= allowed[1]:
        raise BadRequest(25007, "Osiągnięto limit dopuszczalnej liczby posiadanych certyfikatów.")
    reference = world.store.new_reference("CE", call.now)
    seconds = world.measures.enrollment_s
    ordered = call.ordered("enrollment_status")
    world.store.run(
        "INSERT INTO enrollments (reference, subject_type, subject_value, name, kind, csr, data, valid_from,"
        " requested_at, due_at, stuck, forced, details) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        reference,
        *_subject(login),
        asked.name,
        asked.kind,
        asked.csr,
        json.dumps(data, ensure_ascii=False),
        stored(asked.since) if asked.since else None,
        stored(call.now),
        stored(call.now + (world.latency if seconds is None else timedelta(seconds=seconds))),
        call.ordered("stuck") is not None,
        ordered.code if ordered else None,
        json.dumps(ordered.details if ordered else [], ensure_ascii=False),
    )
    return as_json(202, {"referenceNumber": reference, "timestamp": timestamp(call.now)})


def enrollment_status(world: World, call: Call) -> Response:
    reference = call.arguments["reference"]
    login = _login(world, call)
    row = world.store.one("SELECT * FROM enrollments WHERE reference = ?", reference)
    if row is None or (row["subject_type"], row["subject_value"]) != _subject(login):
        detail = f"Wniosek certyfikacyjny o numerze referencyjnym {reference} nie istnieje."
        raise BadRequest(25005, "Wniosek certyfikacyjny o podanym numerze referencyjnym nie istnieje.", [detail])
    asked_at = restored(row["requested_at"])
    if call.now - asked_at > KEPT:
        raise Problem(410, "Gone", "Status wniosku certyfikacyjnego nie jest już dostępny.")
    code = int(row["code"])
    body: dict[str, object] = {
        "requestDate": timestamp(asked_at),
        "status": status(ENROLLMENT, code, json.loads(row["details"]) if code > 200 else None),
    }
    if row["serial"]:
        body["certificateSerialNumber"] = row["serial"]
    return as_json(200, body)


def retrieve(world: World, call: Call) -> Response:
    """The caller's own certificates among those asked for; others are left out."""
    fields = read_json(call.request)
    serials = fields.texts("certificateSerialNumbers")
    if not 1 <= len(serials) <= 10 or not all(map(_SERIAL.fullmatch, serials)):
        fields.wrong("certificateSerialNumbers", "musi zawierać od 1 do 10 numerów po 16 cyfr szesnastkowych")
    call.note_unknown(fields.finish())
    subject = _subject(_login(world, call))
    found = [row for serial in serials if (row := certificates.own(world, serial, subject))]
    items = [
        {
            "certificate": b64encode(row["der"]).decode(),
            "certificateName": row["name"],
            "certificateSerialNumber": row["serial"],
            "certificateType": row["kind"],
        }
        for row in found
    ]
    return as_json(200, {"certificates": items})


def query(world: World, call: Call) -> Response:
    fields = read_json(call.request) if call.request.body else Fields({})
    serial = fields.text("certificateSerialNumber", required=False, length=16) or None
    name = fields.text("name", required=False)
    kind = fields.text("type", required=False, among=("", *SUFFIXES))
    wanted = fields.text("status", required=False, among=("", *STANDINGS))
    after = fields.instant("expiresAfter", required=False)
    call.note_unknown(fields.finish())
    size = number_argument(call.request, "pageSize", usual=10, least=10, most=50)
    start = number_argument(call.request, "pageOffset", usual=0, least=0, most=2**31 - 1) * size
    rows = [
        row
        for row in world.store.all(
            "SELECT * FROM certificates WHERE subject_type = ? AND subject_value = ? ORDER BY requested_at DESC,"
            " seq DESC",
            *_subject(_login(world, call)),
        )
        if serial in {None, row["serial"]}
        and name in row["name"]
        and kind in {"", row["kind"]}
        and wanted in {"", certificates.standing(row, call.now)}
        and (after is None or restored(row["valid_to"]) > as_datetime(after))
    ]
    shown = [_item(row, call.now) for row in rows[start : start + size]]
    return as_json(200, {"certificates": shown, "hasMore": len(rows) > start + size})


def _item(row: sqlite3.Row, now: datetime) -> dict[str, object]:
    body: dict[str, object] = {
        "certificateSerialNumber": row["serial"],
        "name": row["name"],
        "type": row["kind"],
        "commonName": row["common_name"],
        "status": certificates.standing(row, now),
        "subjectIdentifier": {"type": row["subject_type"], "value": row["subject_value"]},
        "validFrom": timestamp(restored(row["valid_from"])),
        "validTo": timestamp(restored(row["valid_to"])),
        "requestDate": timestamp(restored(row["requested_at"])),
    }
    if row["used_at"]:
        body["lastUseDate"] = timestamp(restored(row["used_at"]))
    return body


def revoke(world: World, call: Call) -> Response:
    not_by_token(world, call)
    serial = call.arguments["serial"]
    if not _SERIAL.fullmatch(serial):
        raise invalid("Numer seryjny certyfikatu musi mieć 16 cyfr szesnastkowych.")
    if call.request.body:
        fields = read_json(call.request)
        fields.text("revocationReason", required=False, among=_REASONS)
        call.note_unknown(fields.finish())
    if certificates.own(world, serial, _subject(_login(world, call))) is None:
        raise BadRequest(25008, "Certyfikat o podanym numerze seryjnym nie istnieje.")
    try:
        certificates.revoke(world, serial, call.now)
    except ValueError:
        raise BadRequest(
            25009, "Nie można odwołać wskazanego certyfikatu, ponieważ jest już odwołany, zablokowany lub nieważny."
        ) from None
    return nothing()
