"""Finding and downloading invoices, and the limits in force. Source: FACTS §6, §7.1, §7.4, §8."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from base64 import b64encode
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from ksefbuffer.invoice.forms import BY_SYSTEM_CODE

from .fields import Fields, read_json
from .numbers import KSEF_NUMBER, NIP, WARSAW
from .paging import number_argument
from .store import restored, stored
from .wire import BadRequest, Response, as_json, as_xml, invalid, timestamp
from .world import Call, World

MAX_RANGE = timedelta(days=100)
MOST_RECORDS = 10_000
_SUBJECTS = ("Subject1", "Subject2", "Subject3", "SubjectAuthorized")
_DATE_TYPES = ("Issue", "Invoicing", "PermanentStorage")
_AMOUNTS = {"Brutto": "gross", "Netto": "net", "Vat": "vat"}


def query_metadata(world: World, call: Call) -> Response:
    fields = read_json(call.request)
    subject = fields.text("subjectType", among=_SUBJECTS)
    period = _read_period(fields, call.now)
    wanted = _read_filters(fields)
    call.note_unknown(fields.finish())
    order = call.request.arguments.get("sortOrder", ["Asc"])[0]
    if order not in {"Asc", "Desc"}:
        raise invalid("Parametr 'sortOrder' musi mieć wartość Asc albo Desc.")
    size = number_argument(call.request, "pageSize", usual=10, least=10, most=250)
    start = number_argument(call.request, "pageOffset", usual=0, least=0, most=MOST_RECORDS) * size
    date_type, first, last = period
    rows = world.store.all("SELECT * FROM invoices WHERE code = 200 AND permanent_at <= ?", stored(call.now))
    found = []
    for row in rows:
        facts = json.loads(row["facts"])
        at = _dated(date_type, row, facts)
        if first <= at <= last and _concerns(subject, facts, call.caller.nip) and _matches(wanted, row, facts):
            found.append((at, row["seq"], row, facts))
    found.sort(key=lambda item: item[:2], reverse=order == "Desc")
    truncated = len(found) > MOST_RECORDS
    found = found[:MOST_RECORDS]
    body: dict[str, Any] = {
        "hasMore": start + size < len(found) or (truncated and start + size >= len(found)),
        "isTruncated": truncated and start + size >= len(found),
        "invoices": [metadata(row, facts) for _, _, row, facts in found[start : start + size]],
    }
    if date_type == "PermanentStorage":
        body["permanentStorageHwmDate"] = timestamp(call.now)
    return as_json(200, body)


def _read_period(fields: Fields, now: datetime) -> tuple[str, datetime, datetime]:
    period = fields.inside("dateRange")
    if period is None:
        return "", now, now
    date_type = period.text("dateType", among=_DATE_TYPES)
    first = period.moment("from")
    last = period.moment("to", required=False)
    restricted = period.flag("restrictToPermanentStorageHwmDate")
    if restricted and date_type != "PermanentStorage":
        period.wrong("restrictToPermanentStorageHwmDate", "dotyczy tylko dat PermanentStorage")
    if first and last and first > last:
        period.wrong("from", "nie może być późniejsze niż 'to'")
    if last and last > now:
        period.wrong("to", "nie może być z przyszłości")
    if first and (last or now) - first > MAX_RANGE:
        period.wrong("from", "wyznacza zakres dłuższy niż 100 dni")
    if restricted and first and first > now and not fields.mistakes:
        detail = "Parametr dateRange.from jest późniejszy niż PermanentStorageHwmDate przy włączonym restrictToPermanentStorageHwmDate."  # noqa: E501
        raise BadRequest(21183, "Zakres filtrowania wykracza poza dostępny zakres danych.", [detail])
    return date_type, first or now, last or now


def _read_filters(fields: Fields) -> dict[str, Any]:
    wanted: dict[str, Any] = {
        "ksefNumber": fields.text("ksefNumber", required=False),
        "invoiceNumber": fields.text("invoiceNumber", required=False, limit=256),
        "sellerNip": fields.text("sellerNip", required=False),
        "currencyCodes": fields.texts("currencyCodes"),
        "invoicingMode": fields.text("invoicingMode", required=False, among=("Online", "Offline")),
        "isSelfInvoicing": fields.flag("isSelfInvoicing"),
        "formType": fields.text("formType", required=False, among=("FA", "PEF", "FA_RR")),
        "invoiceTypes": fields.texts("invoiceTypes"),
        "hasAttachment": fields.flag("hasAttachment"),
    }
    if wanted["ksefNumber"] and not KSEF_NUMBER.fullmatch(wanted["ksefNumber"]):
        fields.wrong("ksefNumber", "ma nieprawidłowy format")
    if wanted["sellerNip"] and not NIP.fullmatch(wanted["sellerNip"]):
        fields.wrong("sellerNip", "ma nieprawidłowy format")
    if buyer := fields.inside("buyerIdentifier", required=False):
        kind = buyer.text("type", among=("Nip", "VatUe", "Other", "None"))
        wanted["buyer"] = (kind, buyer.text("value", required=False, limit=50))
    if amount := fields.inside("amount", required=False):
        wanted["amount"] = (amount.text("type", among=tuple(_AMOUNTS)), amount.amount("from"), amount.amount("to"))
    return wanted


def _dated(date_type: str, row: sqlite3.Row, facts: dict[str, Any]) -> datetime:
    if date_type == "Issue":
        return datetime.combine(date.fromisoformat(facts["issued"][:10]), datetime.min.time(), WARSAW)
    return restored(row["invoicing_at"] if date_type == "Invoicing" else row["permanent_at"])


def _concerns(subject: str, facts: dict[str, Any], nip: str) -> bool:
    if subject == "Subject1":
        return bool(facts["seller_nip"] == nip)
    if subject == "Subject2":
        return _is(facts["buyer"], nip)
    if subject == "Subject3":
        return any(_is(party, nip) for party in facts["third"])
    return _is(facts["authorised"], nip)


def _is(party: dict[str, Any] | None, nip: str) -> bool:
    return party is not None and party["kind"] in {"Nip", "InternalId"} and party["value"][:10] == nip


def _matches(wanted: dict[str, Any], row: sqlite3.Row, facts: dict[str, Any]) -> bool:
    buyer, amount = wanted.get("buyer"), wanted.get("amount")
    if amount:
        value = Decimal(facts[_AMOUNTS[amount[0]]])
        if (amount[1] is not None and value < amount[1]) or (amount[2] is not None and value > amount[2]):
            return False
    return (
        wanted["ksefNumber"] in ("", row["ksef_number"])
        and wanted["invoiceNumber"] in ("", facts["number"])
        and wanted["sellerNip"] in ("", facts["seller_nip"])
        and (not wanted["currencyCodes"] or facts["currency"] in wanted["currencyCodes"])
        and wanted["invoicingMode"] in ("", row["mode"])
        and wanted["isSelfInvoicing"] in (None, facts["self_invoicing"])
        and wanted["formType"] in ("", "FA")
        and (not wanted["invoiceTypes"] or facts["kind"] in wanted["invoiceTypes"])
        and wanted["hasAttachment"] in (None, facts["attachment"])
        and (buyer is None or (buyer[0] == facts["buyer"]["kind"] and buyer[1] in ("", facts["buyer"]["value"])))
    )


def metadata(row: sqlite3.Row, facts: dict[str, Any]) -> dict[str, object]:
    """One InvoiceMetadata. Source: FACTS §8."""
    form = BY_SYSTEM_CODE["FA (3)"]
    body: dict[str, object] = {
        "ksefNumber": row["ksef_number"],
        "invoiceNumber": facts["number"],
        "issueDate": facts["issued"][:10],
        "invoicingDate": timestamp(restored(row["invoicing_at"])),
        "acquisitionDate": timestamp(restored(row["acquired_at"])),
        "permanentStorageDate": timestamp(restored(row["permanent_at"])),
        "seller": {"nip": facts["seller_nip"], "name": facts["seller_name"] or None},
        "buyer": _party(facts["buyer"]),
        "netAmount": float(facts["net"]),
        "grossAmount": float(facts["gross"]),
        "vatAmount": float(facts["vat"]),
        "currency": facts["currency"],
        "invoicingMode": row["mode"],
        "invoiceType": facts["kind"],
        "formCode": {"systemCode": form.system_code, "schemaVersion": form.schema_version, "value": form.value},
        "isSelfInvoicing": facts["self_invoicing"],
        "hasAttachment": facts["attachment"],
        "invoiceHash": row["sha256"],
    }
    if row["corrects"]:
        body["hashOfCorrectedInvoice"] = row["corrects"]
    if facts["third"]:
        body["thirdSubjects"] = [{**_party(third), "role": third["role"]} for third in facts["third"]]
    if facts["authorised"]:
        authorised = facts["authorised"]
        body["authorizedSubject"] = {
            "nip": authorised["value"],
            "name": authorised["name"] or None,
            "role": authorised["role"],
        }
    return body


def _party(party: dict[str, Any]) -> dict[str, object]:
    identifier = {"type": party["kind"]} | ({"value": party["value"]} if party["value"] else {})
    return {"identifier": identifier, **({"name": party["name"]} if party["name"] else {})}


def download_invoice(world: World, call: Call) -> Response:
    number = call.arguments["number"]
    if not KSEF_NUMBER.fullmatch(number):
        raise invalid("Numer KSeF ma nieprawidłowy format.")
    row = world.store.one("SELECT * FROM invoices WHERE ksef_number = ?", number)
    facts = json.loads(row["facts"]) if row else {}
    if row is None or not any(_concerns(subject, facts, call.caller.nip) for subject in _SUBJECTS):
        detail = f"Faktura o numerze KSeF {number} nie została znaleziona."
        raise BadRequest(21164, "Faktura o podanym identyfikatorze nie istnieje.", [detail])
    if stored(call.now) < row["permanent_at"]:
        detail = (
            f"Faktura o numerze KSeF {number} została przetworzona, ale nie jest jeszcze dostępna do pobrania."
            " Spróbuj ponownie później."
        )
        raise BadRequest(21165, "Faktura o podanym numerze KSeF nie jest jeszcze dostępna.", [detail])
    content = bytes(row["content"])
    return as_xml(content, b64encode(hashlib.sha256(content).digest()).decode())


def context_limits(_: World, call: Call) -> Response:
    session = {"maxInvoiceSizeInMB": 1, "maxInvoiceWithAttachmentSizeInMB": 3, "maxInvoices": 10_000}
    return as_json(
        200, {"onlineSession": session, "batchSession": session, "collectiveIdentifier": {"maxInvoices": 500}}
    )


def rate_limits(world: World, _: Call) -> Response:
    return as_json(
        200,
        {
            group: {"perSecond": second, "perMinute": minute, "perHour": hour}
            for group, (second, minute, hour) in world.limits.figures.items()
        },
    )
