"""Exports: ordered, asked about, their parts fetched. What is in the packages is made in ``parcels``.

Source: FACTS §7.2, §15 (17-19); open-api.json /invoices/exports.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from base64 import b64encode
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from . import links, texts
from .fields import read_json
from .filters import BEYOND_HWM, Filters, read_filters, rows
from .instants import written
from .repository import tell_hwm
from .sessions import Wrapping, read_encryption, unwrapped
from .settlement import PACKAGE_LIFE
from .store import restored, stored
from .wire import BadRequest, Problem, Response, as_json, timestamp
from .world import Call, World

MOST_RUNNING = 10
"""In one context, whoever logged in to it."""
LINK_LIFE = timedelta(hours=1)
GONE_AFTER = timedelta(days=14)
"""From when on nothing is known of an export any more (410); between this and its expiry it is 210."""

_SHORTEST_PAUSE = timedelta(seconds=1)
_FIGURES = {
    "partSize": "size",
    "partHash": "sha256",
    "encryptedPartSize": "encrypted_size",
    "encryptedPartHash": "encrypted_sha256",
}


@dataclass(frozen=True)
class Order:
    """An export asked for; ``key`` None means that what was sent did not open to 32 bytes."""

    filters: Filters
    key: bytes | None = field(repr=False)
    iv: bytes = field(repr=False)
    compression: str
    only_metadata: bool


def read_order(world: World, call: Call) -> Order:
    fields = read_json(call.request)
    encryption = fields.inside("encryption")
    wrapping = read_encryption(encryption) if encryption else Wrapping(None, None, None)
    asked = fields.inside("filters")
    filters = read_filters(asked, call) if asked else None
    only_metadata = fields.flag("onlyMetadata") or False
    compression = fields.text("compressionType", required=False, among=("", "Zip", "TarGz")) or "Zip"
    call.note_unknown(fields.finish())
    key, iv = unwrapped(world, call, wrapping)
    if filters is None:
        raise LookupError("a mistake in the body was not noted")
    return Order(filters, key, iv, compression, only_metadata)


def start_export(world: World, call: Call) -> Response:
    order: Order = call.prepared
    caller, filters = call.caller, order.filters
    if not caller.nip:
        detail = (
            f"Nie można wyeksportować paczki faktur dla wybranego podmiotu ({filters.subject})"
            f" i zalogowanego identyfikatora kontekstu ({caller.context_type})."
        )
        raise BadRequest(21181, "Nieprawidłowe żądanie eksportu faktur.", [detail])
    running = world.store.one(
        "SELECT count(*) AS count FROM exports WHERE context_type = ? AND context_value = ?"
        " AND (ready_at IS NULL OR ready_at > ?)",
        caller.context_type,
        caller.context_value,
        stored(call.now),
    )
    if running and running["count"] >= MOST_RUNNING:
        detail = (
            "Dla uwierzytelnionego podmiotu w bieżącym kontekście osiągnięto maksymalny limit"
            f" {MOST_RUNNING} równoczesnych eksportów faktur. Spróbuj ponownie później."
        )
        raise BadRequest(21182, "Osiągnięto limit trwających eksportów.", [detail])
    mark = tell_hwm(world, call.now)
    code, details = 200, []
    chosen: list[int] = []
    if order.key is None:
        code = 415
    elif filters.beyond(mark):
        code, details = 420, [BEYOND_HWM]
    else:
        limit = world.measures.invoices + 1
        found = rows(world, filters, caller.nip, columns="r.seq", now=call.now, mark=mark, limit=limit)
        chosen = [row["seq"] for row in found]
    if forced := call.ordered("export_status"):
        code, details, chosen = forced.code, list(forced.details), []
    truncated = len(chosen) > world.measures.invoices
    chosen = chosen[: world.measures.invoices]
    if late := call.ordered("late_row"):
        chosen = [seq for place, seq in enumerate(chosen, 1) if late.ordinal not in {None, place}]
    reference = world.store.new_reference("EH", call.now)
    row: dict[str, Any] = {
        "reference": reference,
        "context_type": caller.context_type,
        "context_value": caller.context_value,
        "aes_key": order.key,
        "iv": order.iv,
        "compression": order.compression,
        "only_metadata": order.only_metadata,
        "date_type": filters.date_type,
        "hwm": filters.told_mark(call.now, mark),
        "created_at": stored(call.now),
        "due_at": stored(call.now + _running(world)),
        "code": code,
        "details": json.dumps(details, ensure_ascii=False),
        "stuck": call.ordered("stuck") is not None,
        # Somewhere in the archive (FACTS §7.2): a client must not count on either end.
        "metadata_first": int(world.store.entropy(1), 16) % 2,
        "wrong_figures": json.dumps(_wrong_figures(call)),
        "wrong_invoices": json.dumps([fault.ordinal for fault in call.faults if fault.kind == "wrong_invoice"]),
        "truncated": truncated,
        "chosen": json.dumps(chosen),
    }
    world.store.run(
        f"INSERT INTO exports ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",  # noqa: S608 - our own names
        *row.values(),
    )
    return as_json(201, {"referenceNumber": reference})


def _running(world: World) -> timedelta:
    seconds = world.measures.export_s
    return world.latency if seconds is None else timedelta(seconds=seconds)


def _wrong_figures(call: Call) -> list[tuple[int | None, str]]:
    """Which part's which figure is told wrongly."""
    wrong = [fault for fault in call.faults if fault.kind == "wrong_figure"]
    return [(fault.ordinal, fault.details[0] if fault.details else "encryptedPartHash") for fault in wrong]


def export_status(world: World, call: Call) -> Response:
    reference = call.arguments["reference"]
    row = world.store.one(
        "SELECT * FROM exports WHERE reference = ? AND context_type = ? AND context_value = ?",
        reference,
        call.caller.context_type,
        call.caller.context_value,
    )
    if row is None:
        raise BadRequest(21175, "Wynik zapytania o podanym identyfikatorze nie istnieje.")
    if call.now >= restored(row["created_at"]) + GONE_AFTER:
        raise Problem(410, "Gone", "Operacja wygasła i nie jest już dostępna.")
    running = row["ready_at"] is None or stored(call.now) < row["ready_at"]
    _check_pause(world, call, row, running=running)
    if running:
        return as_json(200, {"status": texts.status(texts.EXPORT, 100)})
    ready = restored(row["ready_at"])
    until = ready + PACKAGE_LIFE
    code = 210 if row["code"] == 200 and call.now >= until else row["code"]
    body: dict[str, Any] = {
        "status": texts.status(texts.EXPORT, code, json.loads(row["details"])),
        "completedDate": timestamp(ready),
    }
    if code == 200:
        body["packageExpirationDate"] = timestamp(until)
        body["package"] = _package(world, call, row)
    return as_json(200, body)


def _check_pause(world: World, call: Call, row: sqlite3.Row, *, running: bool) -> None:
    """Asking again at once while it runs is hasty; asking for fresh links when it is ready is not."""
    polled = row["polled_at"]
    if polled and call.now - restored(polled) < _SHORTEST_PAUSE / world.time_scale:
        call.note("hasty-polling", "asked about a running export again within a second")
    moment = stored(call.now) if running else None
    world.store.run("UPDATE exports SET polled_at = ? WHERE reference = ?", moment, row["reference"])


def _package(world: World, call: Call, row: sqlite3.Row) -> dict[str, Any]:
    package: dict[str, Any] = {
        "invoiceCount": row["count"],
        "size": row["size"],
        "parts": _parts(world, call, row),
        "isTruncated": bool(row["truncated"]),
        "compressionType": row["compression"],
    }
    if row["truncated"] and row["last_date"]:
        # lastPermanentStorageDate, lastInvoicingDate or lastIssueDate.
        package[f"last{row['date_type']}Date"] = row["last_date"]
    if row["hwm"] is not None:
        package["permanentStorageHwmDate"] = written(row["hwm"])
    return package


def _parts(world: World, call: Call, row: sqlite3.Row) -> list[dict[str, Any]]:
    told = []
    wrong = [*json.loads(row["wrong_figures"]), *_wrong_figures(call)]
    for part in world.store.all("SELECT * FROM export_parts WHERE export = ? ORDER BY ordinal", row["reference"]):
        url, until = links.link(
            world, call.request, _path(row["reference"], part["name"]), call.now, life=LINK_LIFE
        )  # fmt: skip
        figures = {name: part[column] for name, column in _FIGURES.items()}
        for ordinal, name in wrong:
            if ordinal in {None, part["ordinal"]}:
                figures[name] = _falsified(figures[name])
        told.append(
            {
                "ordinalNumber": part["ordinal"],
                "partName": part["name"],
                "method": "GET",
                "url": url,
                **figures,
                "expirationDate": until,
            }
        )
    return told


def _path(reference: str, name: str) -> str:
    return f"00/{reference.lower()}/invoice-part/{name}"


def _falsified(figure: int | str) -> int | str:
    if isinstance(figure, int):
        return figure + 16
    return b64encode(hashlib.sha256(figure.encode()).digest()).decode()


def download_part(world: World, call: Call) -> Response:
    """The pre-signed link of one part. A bearer is a mistake; calls are not limited (FACTS §6)."""
    if refused := links.refuse(world, call):
        return refused
    if call.ordered("link_expired"):
        return links.problem(403, "AuthenticationFailed", "Signed expiry time has passed.")
    part = world.store.one(
        "SELECT * FROM export_parts WHERE export = ? AND name = ?",
        call.arguments["export"].upper(),
        call.arguments["part"],
    )
    file = world.shelf.path(f"{part['export']}.{part['ordinal']}") if part else None
    if part is None or file is None or not file.exists():
        return links.problem(404, "BlobNotFound", "The specified blob does not exist.")
    headers = {
        "Content-Type": "application/octet-stream",
        "ETag": f'"{part["sha256"][:16]}"',
        "x-ms-meta-hash": part["encrypted_sha256"],
        "x-ms-version": "2025-01-05",
    }
    return Response(200, headers, file=file)
