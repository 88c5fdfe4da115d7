"""What KSeF tells about sessions and invoices, and the confirmations. Source: FACTS §4.1-4.5."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from base64 import b64encode
from datetime import datetime
from typing import Any

from . import links
from .ledger import IN_SIGHT
from .paging import page
from .sessions import own_session
from .store import restored, stored
from .texts import BATCH, INVOICE, SESSION, status
from .upo import invoice_upo, session_upo
from .wire import BadRequest, Response, as_json, as_xml, invalid, timestamp
from .world import Call, World

_STATUSES = {
    "InProgress": "code < 200",
    "Succeeded": "code = 200",
    "Failed": "(code > 200 AND code <> 440)",
    "Cancelled": "code = 440",
}
_SEES_ALL = {"Introspection", "EnforcementOperations"}
_DATES = {
    "dateCreatedFrom": "created_at >= ?",
    "dateCreatedTo": "created_at <= ?",
    "dateClosedFrom": "closed_at >= ?",
    "dateClosedTo": "closed_at <= ?",
    "dateModifiedFrom": "updated_at >= ?",
    "dateModifiedTo": "updated_at <= ?",
}
_COUNTS = (
    "SELECT count(*) AS whole, coalesce(sum(code = 200), 0) AS good, coalesce(sum(code > 200), 0) AS bad"  # noqa: S608
    f" FROM invoices WHERE session = ? AND {IN_SIGHT}"
)


def _session_status(row: sqlite3.Row) -> dict[str, object]:
    details = json.loads(row["details"]) if row["code"] >= 200 else None
    return status(BATCH if _is_batch(row) else SESSION, row["code"], details)


def _is_batch(session: sqlite3.Row) -> bool:
    return "-SB-" in session["reference"]


def _counts(world: World, reference: str) -> tuple[int, int, int]:
    row = world.store.one(_COUNTS, reference)
    return (row["whole"], row["good"], row["bad"]) if row else (0, 0, 0)


def session_status(world: World, call: Call) -> Response:
    session = own_session(world, call, call.arguments["reference"])
    whole, good, bad = _counts(world, session["reference"])
    body: dict[str, Any] = {
        "status": _session_status(session),
        "dateCreated": timestamp(restored(session["created_at"])),
        "dateUpdated": timestamp(restored(session["updated_at"])),
        "validUntil": timestamp(restored(session["valid_until"])),
        "invoiceCount": whole,
        "successfulInvoiceCount": good,
        "failedInvoiceCount": bad,
    }
    if session["upo_reference"] is not None and session["code"] == 200:
        address, expires = links.link(world, call.request, f"upo/session/{session['upo_reference']}", call.now)
        entry = {
            "referenceNumber": session["upo_reference"],
            "downloadUrl": address,
            "downloadUrlExpirationDate": expires,
        }
        body["upo"] = {"pages": [entry]}
    return as_json(200, body)


def list_sessions(world: World, call: Call) -> Response:
    arguments = call.request.arguments
    kind = arguments.get("sessionType", [""])[0]
    if kind not in {"Online", "Batch"}:
        raise invalid("Parametr 'sessionType' musi mieć wartość Online albo Batch.")
    conditions, values = (
        ["context_type = ?", "context_value = ?"],
        [call.caller.context_type, call.caller.context_value],
    )
    if not _SEES_ALL & set(call.caller.permissions):
        # InvoiceWrite alone shows only what the same subject opened (FACTS §4.1).
        conditions.append(
            "login IN (SELECT l.reference FROM logins l JOIN logins m ON m.subject_type = l.subject_type"
            " AND m.subject_value = l.subject_value WHERE m.reference = ?)"
        )
        values.append(call.caller.login)
    conditions.append(f"reference {'NOT ' if kind == 'Online' else ''}LIKE '%-SB-%'")
    for name, condition in _DATES.items():
        if name in arguments:
            conditions.append(condition)
            values.append(_moment(name, arguments[name][0]))
    if "referenceNumber" in arguments:
        conditions.append("reference = ?")
        values.append(arguments["referenceNumber"][0])
    if wanted := arguments.get("statuses"):
        if unknown := [value for value in wanted if value not in _STATUSES]:
            raise invalid(f"Parametr 'statuses' ma nieznaną wartość: {', '.join(unknown)}.")
        conditions.append("(" + " OR ".join(_STATUSES[value] for value in wanted) + ")")
    query = f"SELECT * FROM sessions WHERE {' AND '.join(conditions)} ORDER BY seq DESC"  # noqa: S608 - our own text
    rows = world.store.all(query, *values)
    chosen, token = page(world, call, rows, scope=f"sessions:{kind}:{call.caller.context_value}", most=1000)
    return as_json(200, {"sessions": [_session_item(world, row) for row in chosen], **token})


def _moment(name: str, text: str) -> str:
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        raise invalid(f"Parametr '{name}' nie jest poprawną datą i godziną.") from None
    return stored(moment)


def _session_item(world: World, row: sqlite3.Row) -> dict[str, object]:
    whole, good, bad = _counts(world, row["reference"])
    return {
        "referenceNumber": row["reference"],
        "status": _session_status(row),
        "dateCreated": timestamp(restored(row["created_at"])),
        "dateUpdated": timestamp(restored(row["updated_at"])),
        "validUntil": timestamp(restored(row["valid_until"])),
        "totalInvoiceCount": whole,
        "successfulInvoiceCount": good,
        "failedInvoiceCount": bad,
    }


def session_invoices(world: World, call: Call) -> Response:
    return _listed(world, call, "")


def failed_invoices(world: World, call: Call) -> Response:
    return _listed(world, call, " AND code > 200")


def _listed(world: World, call: Call, condition: str) -> Response:
    session = own_session(world, call, call.arguments["reference"])
    columns = "reference, ordinal, sha256, offline, invoicing_at, due_at, code, details, extensions, number, stuck,"
    query = (
        f"SELECT {columns} ksef_number, acquired_at, permanent_at, mode, file_name FROM invoices"  # noqa: S608 - ours
        f" WHERE session = ? AND {IN_SIGHT}{condition} ORDER BY ordinal"
    )
    rows = world.store.all(query, session["reference"])
    chosen, token = page(world, call, rows, scope=f"{call.operation}:{session['reference']}", most=1000)
    return as_json(200, {"invoices": [_invoice_body(world, call, row) for row in chosen], **token})


def _own_invoice(world: World, call: Call) -> sqlite3.Row:
    session = own_session(world, call, call.arguments["reference"])
    reference = call.arguments["invoice"]
    row = world.store.one(
        f"SELECT * FROM invoices WHERE reference = ? AND session = ? AND {IN_SIGHT}",  # noqa: S608 - our own text
        reference,
        session["reference"],
    )
    if row is None:
        raise invalid(f"Faktura o numerze referencyjnym {reference} nie została znaleziona w sesji.")
    return row


def invoice_status(world: World, call: Call) -> Response:
    return as_json(200, _invoice_body(world, call, _own_invoice(world, call)))


def _invoice_body(world: World, call: Call, row: sqlite3.Row) -> dict[str, object]:
    code = int(row["code"])
    if code == 100 and (row["stuck"] or call.now >= restored(row["due_at"]) - world.latency / 2):
        code = 150
    said = status(INVOICE, code, json.loads(row["details"]) if code > 200 else None)
    if row["extensions"]:
        said["extensions"] = json.loads(row["extensions"])
    body: dict[str, object] = {
        "ordinalNumber": row["ordinal"],
        "referenceNumber": row["reference"],
        "invoiceHash": row["sha256"],
        "invoicingDate": timestamp(restored(row["invoicing_at"])),
        "status": said,
    }
    if row["file_name"]:
        body["invoiceFileName"] = row["file_name"]
    if code >= 200 and row["number"]:
        body["invoiceNumber"] = row["number"]
    if code == 200:
        address, expires = links.link(world, call.request, f"upo/invoice/{row['reference']}", call.now)
        body |= {
            "ksefNumber": row["ksef_number"],
            "acquisitionDate": timestamp(restored(row["acquired_at"])),
            "invoicingMode": row["mode"],
            "upoDownloadUrl": address,
            "upoDownloadUrlExpirationDate": expires,
        }
        if stored(call.now) >= row["permanent_at"]:
            body["permanentStorageDate"] = timestamp(restored(row["permanent_at"]))
    return body


def upo_by_invoice(world: World, call: Call) -> Response:
    invoice = _own_invoice(world, call)
    if invoice["code"] != 200:
        raise _no_upo(f"UPO faktury o numerze referencyjnym {invoice['reference']} nie zostało znalezione.")
    return _confirmation(invoice_upo(world, invoice, call.now))


def upo_by_ksef_number(world: World, call: Call) -> Response:
    session = own_session(world, call, call.arguments["reference"])
    number = call.arguments["number"]
    invoice = world.store.one(
        "SELECT * FROM invoices WHERE session = ? AND ksef_number = ?", session["reference"], number
    )  # fmt: skip
    if invoice is None:
        where = f"numerze referencyjnym sesji {session['reference']}"
        raise _no_upo(f"UPO o numerze KSeF {number} i {where} nie zostało znalezione.")
    return _confirmation(invoice_upo(world, invoice, call.now))


def upo_of_session(world: World, call: Call) -> Response:
    session = own_session(world, call, call.arguments["reference"])
    wanted = call.arguments["upo"]
    if session["upo_reference"] != wanted or session["code"] != 200:
        where = f"sesji {session['reference']}"
        raise _no_upo(f"UPO o numerze referencyjnym {wanted} dla {where} nie zostało znalezione.")
    return _confirmation(session_upo(world, session, call.now))


def _no_upo(detail: str) -> BadRequest:
    return BadRequest(21178, "Nie znaleziono UPO dla podanych kryteriów.", [detail])


def _confirmation(document: bytes) -> Response:
    return as_xml(document, b64encode(hashlib.sha256(document).digest()).decode())


def download(world: World, call: Call) -> Response:
    """The pre-signed link to a confirmation."""
    if refused := links.refuse(world, call):
        return refused
    kind, reference = call.arguments["kind"], call.arguments["reference"]
    if kind == "session":
        session = world.store.one("SELECT * FROM sessions WHERE upo_reference = ?", reference)
        document = session_upo(world, session, call.now) if session else None
    else:
        invoice = world.store.one("SELECT * FROM invoices WHERE reference = ? AND code = 200", reference)
        document = invoice_upo(world, invoice, call.now) if invoice else None
    if document is None:
        return links.problem(404, "BlobNotFound", "The specified blob does not exist.")
    response = _confirmation(document)
    response.headers["x-ms-blob-type"] = "BlockBlob"
    return response
