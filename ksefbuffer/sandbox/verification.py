"""What lies behind the QR codes of an invoice: KOD I and KOD II, verified. Source: FACTS §11.

A browser gets a page in Polish, a program that accepts JSON the same as data. Nothing of the client's own reckoning is
used: hashes, signatures and rights are worked out here.
"""

from __future__ import annotations

import json
import re
import sqlite3
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from . import certificates
from .corrections import accepted_instead
from .numbers import INTERNAL_ID, NIP
from .pages import certificate_page, invoice_page, page
from .permissions import held
from .store import restored, stored
from .wire import Request, Response, as_json, timestamp
from .world import Call, World

_CONTEXTS = {
    "Nip": NIP,
    "InternalId": INTERNAL_ID,
    "NipVatUe": re.compile(NIP.pattern + r"-[A-Z]{2}[A-Z0-9+*]{2,12}", re.ASCII),
    "PeppolId": re.compile(r"P[A-Z]{2}[0-9]{6}", re.ASCII),
}
_SERIAL = re.compile(r"[0-9A-F]{16}", re.ASCII)
_DATE = re.compile(r"(\d\d)-(\d\d)-(\d{4})", re.ASCII)
_SALT_BYTES = 32


class Damaged(Exception):
    """The link is not one that KSeF could follow; the text (Polish) says why."""


@dataclass(frozen=True)
class _Check:
    """One thing that must hold for KOD II; ``holds`` None: it could not be looked at, because an earlier one failed."""

    name: str
    text: str
    holds: bool | None


def show_invoice(world: World, call: Call) -> Response:
    try:
        told = invoice_behind(world, *(call.arguments[name] for name in ("nip", "date", "hash")))
    except Damaged as fault:
        return _damaged(call.request, str(fault))
    return as_json(200, told) if _wants_json(call.request) else page(200, *invoice_page(told))


def show_certificate(world: World, call: Call) -> Response:
    signed = call.request.header("host") + call.request.path.rpartition("/")[0]
    try:
        told = certificate_behind(world, signed, call.arguments, call.now)
    except Damaged as fault:
        return _damaged(call.request, str(fault))
    return as_json(200, told) if _wants_json(call.request) else page(200, *certificate_page(told))


def follow(world: World, link: str, now: datetime) -> dict[str, Any]:
    """What a link tells wherever it leads, as data. Raises ValueError for one that leads nowhere."""
    bare = re.sub(r"^https?://", "", link)
    pieces = Request("GET", bare).segments
    try:
        if len(pieces) >= 5 and pieces[-4] == "invoice":
            return invoice_behind(world, *pieces[-3:])
        if len(pieces) >= 8 and pieces[-7] == "certificate":
            names = ("type", "value", "nip", "serial", "hash", "signature")
            arguments = dict(zip(names, pieces[-6:], strict=True))
            return certificate_behind(world, bare.rpartition("/")[0], arguments, now)
    except Damaged as fault:
        raise ValueError(str(fault)) from None
    raise ValueError("neither a KOD I nor a KOD II")


def _wants_json(request: Request) -> bool:
    return "application/json" in request.header("accept").lower()


def _damaged(request: Request, reason: str) -> Response:
    if _wants_json(request):
        return as_json(400, {"valid": False, "error": reason})
    return page(400, "Nieprawidłowy kod", f"Link z kodu QR jest nieprawidłowy lub uszkodzony. {reason}", [])


# --- KOD I -----------------------------------------------------------------------------------------------------------


def invoice_behind(world: World, nip: str, day: str, hash_text: str) -> dict[str, Any]:
    """What KOD I tells. ``state``: found, corrected (another file was accepted instead), or unknown. Raises Damaged."""
    if not NIP.fullmatch(nip):
        raise Damaged("NIP sprzedawcy ma nieprawidłowy format.")
    issued = _read_date(day)
    sha256 = _read_hash(hash_text)
    told: dict[str, Any] = {"state": "unknown", "sellerNip": nip, "issueDate": issued.isoformat(), "hash": hash_text}
    found = _in_repository(world, nip, sha256)
    if found is not None and found["issueDate"] == issued.isoformat():
        return told | {"state": "found", **_shown(found)}
    correction = accepted_instead(world, sha256)
    if correction is None or correction["seller"] != nip:
        return told
    now = _in_repository(world, nip, correction["sha256"])
    if now is None or now["issueDate"] != issued.isoformat():
        return told
    link = f"{nip}/{day}/{_url_safe(correction['sha256'])}"
    return told | {"state": "corrected", **_shown(now), "currentHash": _url_safe(now["invoiceHash"]), "link": link}


def _read_date(text: str) -> date:
    match = _DATE.fullmatch(text)
    try:
        day, month, year = map(int, match.groups()) if match else (0, 0, 0)
        return date(year, month, day)
    except ValueError:
        raise Damaged("Data wystawienia musi mieć postać DD-MM-RRRR.") from None


def _read_hash(text: str) -> str:
    """A SHA-256 as kept: standard Base64."""
    content = _read_base64url(text, "Skrót faktury")
    if len(content) != 32:
        raise Damaged("Skrót faktury musi być skrótem SHA-256 (43 znaki Base64URL).")
    return b64encode(content).decode()


def _read_base64url(text: str, what: str) -> bytes:
    try:
        content = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        content = b""
    # The decoder skips what does not belong there; only what is written back the same was written rightly.
    if not content or _url_safe(b64encode(content).decode()) != text:
        raise Damaged(f"{what} musi być zapisany w Base64URL, bez znaków '='.")
    return content


def _url_safe(base64: str) -> str:
    return base64.replace("+", "-").replace("/", "_").rstrip("=")


def _in_repository(world: World, nip: str, sha256: str) -> dict[str, Any] | None:
    row = world.store.one(
        "SELECT r.metadata FROM invoices i JOIN repository r ON r.ksef_number = i.ksef_number"
        " WHERE i.sha256 = ? AND r.seller = ?",
        sha256,
        nip,
    ) or world.store.one(
        # What was seeded has no row among the invoices handed in.
        "SELECT r.metadata FROM invoice_parties p CROSS JOIN repository r ON r.seq = p.seq"
        " WHERE p.subject = 'Subject1' AND p.nip = ? AND json_extract(r.metadata, '$.invoiceHash') = ?",
        nip,
        sha256,
    )
    metadata: dict[str, Any] | None = json.loads(row["metadata"]) if row else None
    return metadata


def _shown(metadata: dict[str, Any]) -> dict[str, Any]:
    """The little that a scanned code shows."""
    return {
        "ksefNumber": metadata["ksefNumber"],
        "invoiceNumber": metadata["invoiceNumber"],
        "acquisitionDate": metadata["acquisitionDate"],
        "invoicingMode": metadata["invoicingMode"],
        "sellerName": metadata["seller"].get("name"),
    }


# --- KOD II ----------------------------------------------------------------------------------------------------------


def certificate_behind(world: World, signed: str, arguments: dict[str, str], now: datetime) -> dict[str, Any]:
    """What KOD II tells. ``signed``: the link as it is, from the host to the hash. Raises Damaged."""
    kind, context, nip, serial = (arguments[name] for name in ("type", "value", "nip", "serial"))
    if kind not in _CONTEXTS:
        raise Damaged(f"Typ kontekstu musi być jednym z: {', '.join(_CONTEXTS)}.")
    if not _CONTEXTS[kind].fullmatch(context):
        raise Damaged("Identyfikator kontekstu ma nieprawidłowy format.")
    if not NIP.fullmatch(nip):
        raise Damaged("NIP sprzedawcy ma nieprawidłowy format.")
    if not _SERIAL.fullmatch(serial):
        raise Damaged("Numer seryjny certyfikatu musi mieć 16 wielkich cyfr szesnastkowych.")
    sha256 = _read_hash(arguments["hash"])
    signature = _read_base64url(arguments["signature"], "Podpis")
    row = certificates.find(world, serial)
    checks = list(_checks(world, row, signed.encode(), signature, (kind, context), nip, now))
    told: dict[str, Any] = {
        "valid": all(check.holds for check in checks),
        "checks": [{"name": check.name, "text": check.text, "holds": check.holds} for check in checks],
        "contextType": kind,
        "contextValue": context,
        "sellerNip": nip,
        "hash": arguments["hash"],
        "certificate": None,
        "invoice": _number_of(world, nip, sha256),
    }
    if row is not None:
        told["certificate"] = {
            "serial": serial,
            "type": row["kind"],
            "commonName": row["common_name"],
            "status": certificates.standing(row, now),
            "validFrom": timestamp(restored(row["valid_from"])),
            "validTo": timestamp(restored(row["valid_to"])),
        }
    return told


def _number_of(world: World, nip: str, sha256: str) -> dict[str, Any] | None:
    """The invoice in KSeF, if it is there by now, whatever became of its file."""
    found = _in_repository(world, nip, sha256)
    if found is None and (correction := accepted_instead(world, sha256)) is not None:
        found = _in_repository(world, nip, correction["sha256"])
    return _shown(found) if found else None


def _checks(
    world: World, row: sqlite3.Row | None, signed: bytes, signature: bytes, context: tuple[str, str], nip: str,
    now: datetime,
) -> Iterator[_Check]:  # fmt: skip
    yield _Check("known", "Certyfikat o tym numerze istnieje", row is not None)
    kind = issuer = valid = in_force = intact = None
    if row is not None:
        kind = row["kind"] == certificates.OFFLINE
        valid = row["valid_from"] <= stored(now) < row["valid_to"]
        in_force = row["revoked_at"] is None
        intact = _holds(row["der"], signed, signature)
        issuer = "InvoiceWrite" in held(world, row["subject_type"], row["subject_value"], *context)
    yield _Check("offline", "Jest to certyfikat typu Offline", kind)
    yield _Check("period", "Certyfikat jest w okresie ważności", valid)
    yield _Check("in_force", "Certyfikat nie jest unieważniony ani zablokowany", in_force)
    yield _Check("signature", "Podpis linku jest prawidłowy", intact)
    yield _Check("issuer", "Właściciel certyfikatu może wystawiać faktury w tym kontekście", issuer)
    belongs = context[0] in {"Nip", "InternalId", "NipVatUe"} and context[1][:10] == nip
    yield _Check("seller", "W tym kontekście można wystawiać faktury tego sprzedawcy", belongs)


def _holds(der: bytes, signed: bytes, signature: bytes) -> bool:
    """RSASSA-PSS (SHA-256, MGF1 with it, 32 bytes of salt), or ECDSA P-256 with SHA-256 as R||S or DER."""
    key = x509.load_der_x509_certificate(der).public_key()
    try:
        if isinstance(key, rsa.RSAPublicKey):
            pss = padding.PSS(padding.MGF1(hashes.SHA256()), _SALT_BYTES)
            key.verify(signature, signed, pss, hashes.SHA256())
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(_as_der(signature), signed, ec.ECDSA(hashes.SHA256()))
        else:
            return False
    except InvalidSignature:
        return False
    return True


def _as_der(signature: bytes) -> bytes:
    if len(signature) != 64:
        return signature
    return encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
