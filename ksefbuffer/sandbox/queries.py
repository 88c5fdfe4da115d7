"""Finding and downloading invoices, and the limits in force. Source: FACTS §6, §7.1, §7.4, §8."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode

from .fields import read_json
from .filters import BEYOND_HWM, BEYOND_RANGE, read_filters, rows
from .instants import ticks, written
from .numbers import KSEF_NUMBER
from .paging import number_argument
from .repository import CONTENT, SUBJECTS, tell_hwm
from .wire import BadRequest, Response, as_json, as_xml, invalid
from .world import Call, World


def query_metadata(world: World, call: Call) -> Response:
    fields = read_json(call.request)
    filters = read_filters(fields, call)
    call.note_unknown(fields.finish())
    order = call.request.arguments.get("sortOrder", ["Asc"])[0]
    if order not in {"Asc", "Desc"}:
        raise invalid("Parametr 'sortOrder' musi mieć wartość Asc albo Desc.")
    most = world.measures.records
    size = number_argument(call.request, "pageSize", usual=10, least=10, most=250)
    start = number_argument(call.request, "pageOffset", usual=0, least=0, most=2**31 - 1) * size
    mark = tell_hwm(world, call.now)
    if filters.beyond(mark):
        raise BadRequest(21183, f"{BEYOND_RANGE}.", [BEYOND_HWM])
    if start and (overlap := call.ordered("overlap")):
        start = max(0, start - (overlap.ordinal or size))
    # One more than the page holds tells whether there is more.
    end = min(start + size, most)
    found = rows(
        world, filters, call.caller.nip, columns="r.metadata", now=call.now, mark=mark, offset=min(start, most),
        limit=max(end - start, 0) + 1, descending=order == "Desc",
    )  # fmt: skip
    more = len(found) > max(end - start, 0)
    shown = [row["metadata"] for row in found[: max(end - start, 0)]]
    if late := call.ordered("late_row"):
        shown = [text for place, text in enumerate(shown, start + 1) if late.ordinal not in {None, place}]
    told: dict[str, object] = {"hasMore": more, "isTruncated": more and end == most}
    hwm = filters.told_mark(call.now, mark)
    if hwm is not None:
        told["permanentStorageHwmDate"] = written(hwm)
    # The metadata are kept as they are told; taking them apart would only cost time.
    body = f'{json.dumps(told)[:-1]},"invoices":[{",".join(shown)}]}}'
    return Response(200, {"Content-Type": "application/json; charset=utf-8"}, body.encode())


def download_invoice(world: World, call: Call) -> Response:
    number = call.arguments["number"]
    if not KSEF_NUMBER.fullmatch(number):
        raise invalid("Numer KSeF ma nieprawidłowy format.")
    row = world.store.one(
        f"SELECT r.seq, r.permanent_at, r.visible_at, {CONTENT} AS content FROM repository r"  # noqa: S608 - our own
        " WHERE r.ksef_number = ?",
        number,
    )
    if row is None or not _concerns(world, call.caller.nip, row["permanent_at"], row["seq"]):
        detail = f"Faktura o numerze KSeF {number} nie została znaleziona."
        raise BadRequest(21164, "Faktura o podanym identyfikatorze nie istnieje.", [detail])
    if ticks(call.now) < row["visible_at"]:
        detail = (
            f"Faktura o numerze KSeF {number} została przetworzona, ale nie jest jeszcze dostępna do pobrania."
            " Spróbuj ponownie później."
        )
        raise BadRequest(21165, "Faktura o podanym numerze KSeF nie jest jeszcze dostępna.", [detail])
    content = bytes(row["content"])
    return as_xml(content, b64encode(hashlib.sha256(content).digest()).decode())


def _concerns(world: World, nip: str, permanent_at: int, seq: int) -> bool:
    return any(
        world.store.one(
            "SELECT 1 FROM invoice_parties WHERE subject = ? AND nip = ? AND permanent_at = ? AND seq = ?",
            subject,
            nip,
            permanent_at,
            seq,
        )
        for subject in SUBJECTS
    )


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
