"""Batch sessions: open, upload of parts, close. Source: FACTS §4.1, §5."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from datetime import timedelta

from ksefbuffer.invoice.forms import FA2, FA3, FA_RR

from . import links
from .fields import Fields, read_json
from .sessions import (
    SESSION_LIFE,
    Opening,
    enter_session,
    finish_opening,
    order_end,
    own_session,
    read_terms,
    status_forbids,
)
from .store import stored
from .texts import UPLOAD_TIME_OVER
from .wire import BadRequest, Response, as_json, nothing
from .world import Call, World

FORMS = (FA2, FA3, FA_RR)
MOST_PARTS = 50
MOST_IN_PART = 100_000_000
"""Bytes before encryption; encryption adds 1 to 16."""
MOST_IN_PACKAGE = 5_000_000_000
UPLOAD_TIME_A_PART = timedelta(minutes=20)
_HEADERS = {"x-ms-blob-type": "BlockBlob"}


@dataclass(frozen=True)
class PartDeclared:
    """Bytes and SHA-256 (Base64) of an encrypted part."""

    ordinal: int
    size: int
    sha256: str


@dataclass(frozen=True)
class BatchOpening:
    """A batch session to be opened; ``size`` and ``sha256`` are of the whole plain archive."""

    opening: Opening
    size: int
    sha256: str
    compression: str
    offline: bool
    parts: tuple[PartDeclared, ...]


def read_opening(world: World, call: Call) -> BatchOpening:
    fields = read_json(call.request)
    terms = read_terms(fields, FORMS)
    offline = fields.flag("offlineMode") or False
    size, sha256, compression = 0, "", ""
    parts: list[PartDeclared] = []
    if package := fields.inside("batchFile"):
        size = package.count("fileSize")
        if size > MOST_IN_PACKAGE:
            package.wrong("fileSize", f"może wynosić najwyżej {MOST_IN_PACKAGE}")
        sha256 = package.digest("fileHash")
        compression = package.text("compressionType", required=False, among=("Zip", "TarGz")) or "Zip"
        parts = [_read_part(part) for part in package.objects("fileParts")]
        if sorted(part.ordinal for part in parts) != list(range(1, len(parts) + 1)):
            package.wrong("fileParts", "musi zawierać części o kolejnych numerach od 1")
    call.note_unknown(fields.finish())
    if len(parts) > MOST_PARTS:
        detail = f"Zadeklarowano {len(parts)} części, dozwolone jest {MOST_PARTS}."
        raise BadRequest(21161, "Przekroczono dozwoloną liczbę części pakietu.", [detail])
    if large := [part.ordinal for part in parts if part.size > MOST_IN_PART + 16]:
        detail = f"Rozmiar części {large[0]} przekracza {MOST_IN_PART} bajtów przed zaszyfrowaniem."
        raise BadRequest(21157, _WRONG_SIZE, [detail])
    return BatchOpening(finish_opening(world, call, terms), size, sha256, compression, offline, tuple(parts))


_WRONG_SIZE = "Nieprawidłowy rozmiar części pakietu."


def _read_part(part: Fields) -> PartDeclared:
    return PartDeclared(part.count("ordinalNumber"), part.count("fileSize"), part.digest("fileHash"))


def open_batch(world: World, call: Call) -> Response:
    asked: BatchOpening = call.prepared
    reference = enter_session(world, call, asked.opening, "SB", call.now + SESSION_LIFE)
    life = UPLOAD_TIME_A_PART * len(asked.parts)
    world.store.run(
        "INSERT INTO batches (session, file_size, file_hash, compression, offline, upload_until)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        reference,
        asked.size,
        asked.sha256,
        asked.compression,
        asked.offline,
        stored(call.now + life),
    )
    uploads = []
    for part in asked.parts:
        world.store.run(
            "INSERT INTO parts (session, ordinal, size, sha256) VALUES (?, ?, ?, ?)",
            reference,
            part.ordinal,
            part.size,
            part.sha256,
        )
        path = f"00/{reference.lower()}/batch-parts/{part.ordinal}"
        url, _ = links.link(world, call.request, path, call.now, life=life, right=links.WRITE)
        uploads.append({"ordinalNumber": part.ordinal, "method": "PUT", "url": url, "headers": _HEADERS})
    return as_json(201, {"referenceNumber": reference, "partUploadRequests": uploads})


def upload_part(world: World, call: Call) -> Response:
    """The pre-signed link of one part: 201, or the storage's own refusals. What is in it is looked at later."""
    if refused := links.refuse(world, call, right=links.WRITE):
        return refused
    request = call.request
    if not request.header("content-length"):
        return links.problem(411, "MissingContentLengthHeader", "Content-Length header is missing.")
    if request.header("x-ms-blob-type") != _HEADERS["x-ms-blob-type"]:
        return links.problem(400, "MissingRequiredHeader", "An HTTP header that's mandatory is not specified.")
    reference, ordinal = call.arguments["session"].upper(), int(call.arguments["part"])
    session = world.store.one("SELECT code FROM sessions WHERE reference = ?", reference)
    if session is None or session["code"] != 100:
        call.note("late-upload", "a part was uploaded after its session was closed or cancelled")
        return links.problem(403, "AuthorizationFailure", "The session takes no more parts.")
    file = request.file or world.shelf.receive([request.body])
    size = file.stat().st_size
    world.shelf.keep(file, f"{reference}.{ordinal}")
    world.store.run("UPDATE parts SET uploaded = ? WHERE session = ? AND ordinal = ?", size, reference, ordinal)
    world.store.run("UPDATE sessions SET updated_at = ? WHERE reference = ?", stored(call.now), reference)
    order_end(world, call, reference)
    return Response(201, {"ETag": f'"{world.store.entropy(16)}"', "x-ms-version": "2025-01-05"})


def close_batch(world: World, call: Call) -> Response:
    session = own_session(world, call, call.arguments["reference"], kind="-SB-")
    reference = session["reference"]
    if session["code"] == 440 and UPLOAD_TIME_OVER in json.loads(session["details"]):
        detail = "Sesja anulowana, przekroczony czas wysyłki."
        raise BadRequest(21208, "Czas oczekiwania na requesty upload lub finish został przekroczony.", [detail])
    if session["code"] != 100:
        raise status_forbids(session, "jej zamknięcie")
    parts = world.store.all("SELECT * FROM parts WHERE session = ? ORDER BY ordinal", reference)
    _check_uploaded(call, parts)
    ordered = [
        [fault.ordinal, fault.code, list(fault.details)] for fault in call.faults if fault.kind == "invoice_status"
    ]
    world.store.run(
        "UPDATE batches SET stuck = ?, wrong_original = ?, ordered = ? WHERE session = ?",
        call.ordered("stuck") is not None,
        call.ordered("wrong_original_session") is not None,
        json.dumps(ordered, ensure_ascii=False),
        reference,
    )
    world.store.run(
        "UPDATE sessions SET code = 150, closed_at = ?, updated_at = ?, settles_at = ? WHERE reference = ?",
        stored(call.now),
        stored(call.now),
        stored(call.now + world.latency),
        reference,
    )
    order_end(world, call, reference)
    return nothing()


def _check_uploaded(call: Call, parts: list[sqlite3.Row]) -> None:
    missing = [part["ordinal"] for part in parts if part["uploaded"] is None]
    if call.ordered("storage_lag"):
        # The storage is behind: what was just uploaded is not seen yet [#264, java#77].
        missing = missing or [parts[-1]["ordinal"]]
    if missing:
        detail = f"Nie przesłano zadeklarowanej '{missing[0]}' części pliku."
        raise BadRequest(21205, "Pakiet nie może być pusty.", [detail])
    for part in parts:
        if part["uploaded"] != part["size"]:
            ordinal = part["ordinal"]
            detail = f"Zadeklarowany rozmiar części '{ordinal}' nie zgadza się z rzeczywistym."
            raise BadRequest(21157, _WRONG_SIZE, [detail])
