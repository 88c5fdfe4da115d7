"""The permanent repository: every invoice that has a KSeF number, sent through the sandbox or seeded, found by whom it
concerns and when it was stored. And the high-water mark below which it is complete. Source: FACTS §7.1, §7.3, §8.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from ksefbuffer.invoice.forms import BY_SYSTEM_CODE, Form

from .instants import SECOND, midnight, read_ticks, ticks, written
from .numbers import NIP
from .reading import InvoiceFacts, Party
from .store import restored
from .world import World

SUBJECTS = ("Subject1", "Subject2", "Subject3", "SubjectAuthorized")
CONTENT = "coalesce(r.content, (SELECT i.content FROM invoices i WHERE i.ksef_number = r.ksef_number))"
"""The file of a row ``r``: what was sent is kept once, with what was handed in."""

_COLUMNS = ("seq", "ksef_number", "visible_at", "permanent_at", "invoicing_at", "issued_at", "number", "seller",
            "buyer_kind", "buyer_value", "currency", "mode", "kind", "form", "self_invoicing", "attachment", "net",
            "vat", "gross", "listed", "metadata", "content")  # fmt: skip
_INSERT = f"INSERT INTO repository ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608


@dataclass(frozen=True)
class Entry:
    """An invoice of the repository. ``metadata``: an InvoiceMetadata; ``visible_at`` (units of 100 ns): from when on
    anybody finds it; ``content`` None: that of the invoice handed in with this KSeF number; ``listed``: whether
    packages tell of it in ``_metadata.json``."""

    metadata: dict[str, Any]
    visible_at: int
    content: bytes | None = field(default=None, repr=False)
    listed: bool = True


def metadata_of(
    facts: InvoiceFacts, form: Form, *, ksef_number: str, sha256: str, mode: str, invoicing_at: str, acquired_at: str,
    permanent_at: str, corrects: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """An InvoiceMetadata. ``sha256`` and ``corrects`` are Base64, moments as KSeF writes them. Source: FACTS §8."""
    body: dict[str, Any] = {
        "ksefNumber": ksef_number,
        "invoiceNumber": facts.number,
        "issueDate": facts.issued[:10],
        "invoicingDate": invoicing_at,
        "acquisitionDate": acquired_at,
        "permanentStorageDate": permanent_at,
        "seller": {"nip": facts.seller_nip, "name": facts.seller_name or None},
        "buyer": _party(facts.buyer, {"Nip", "VatUe", "Other", "None"}),
        "netAmount": float(facts.net),
        "grossAmount": float(facts.gross),
        "vatAmount": float(facts.vat),
        "currency": facts.currency,
        "invoicingMode": mode,
        "invoiceType": facts.kind,
        "formCode": {"systemCode": form.system_code, "schemaVersion": form.schema_version, "value": form.value},
        "isSelfInvoicing": facts.self_invoicing,
        "hasAttachment": facts.attachment,
        "invoiceHash": sha256,
    }
    if corrects:
        body["hashOfCorrectedInvoice"] = corrects
    if facts.third:
        kinds = {"Nip", "InternalId", "VatUe", "Other", "None"}
        body["thirdSubjects"] = [{**_party(third, kinds), "role": third.role} for third in facts.third]
    authorised = facts.authorised
    if authorised and NIP.fullmatch(authorised.value):
        body["authorizedSubject"] = {
            "nip": authorised.value,
            "name": authorised.name or None,
            "role": authorised.role,
        }
    return body


def _party(party: Party, kinds: set[str]) -> dict[str, Any]:
    kind = party.kind if party.kind in kinds else "Other"
    identifier = {"type": kind} | ({"value": party.value} if party.value else {})
    return {"identifier": identifier, **({"name": party.name} if party.name else {})}


def add(world: World, entries: Sequence[Entry]) -> None:
    """Enters invoices, in this order. Raises ValueError when a date among the metadata is none, sqlite3.IntegrityError
    for a KSeF number that is there already."""
    row = world.store.one("SELECT coalesce(max(seq), 0) AS last FROM repository")
    seq = int(row["last"]) if row else 0
    rows: list[tuple[Any, ...]] = []
    parties: list[tuple[str, str, int, int]] = []
    for entry in entries:
        seq += 1
        told = entry.metadata
        permanent = read_ticks(told["permanentStorageDate"])
        identifier = told["buyer"]["identifier"]
        rows.append(
            (
                seq,
                told["ksefNumber"],
                entry.visible_at,
                permanent,
                read_ticks(told["invoicingDate"]),
                midnight(date.fromisoformat(told["issueDate"])),
                told["invoiceNumber"],
                told["seller"]["nip"],
                identifier["type"],
                identifier.get("value", ""),
                told["currency"],
                told["invoicingMode"],
                told["invoiceType"],
                told["formCode"]["value"],
                told["isSelfInvoicing"],
                told["hasAttachment"],
                told["netAmount"],
                told["vatAmount"],
                told["grossAmount"],
                entry.listed,
                json.dumps(told, ensure_ascii=False, separators=(",", ":")),
                entry.content,
            )
        )
        parties += [(subject, nip, permanent, seq) for subject, nip in concerned(told)]
    world.store.db.executemany(_INSERT, rows)
    world.store.db.executemany("INSERT OR IGNORE INTO invoice_parties VALUES (?, ?, ?, ?)", parties)


def concerned(metadata: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Whom the invoice concerns: kind of subject and NIP."""
    yield "Subject1", metadata["seller"]["nip"]
    named = [("Subject2", metadata["buyer"])]
    named += [("Subject3", third) for third in metadata.get("thirdSubjects") or ()]
    for subject, party in named:
        identifier = party["identifier"]
        if identifier["type"] in {"Nip", "InternalId"} and identifier.get("value"):
            yield subject, identifier["value"][:10]
    if authorised := metadata.get("authorizedSubject"):
        yield "SubjectAuthorized", authorised["nip"]


def add_sent(world: World, reference: str) -> None:
    """An invoice that was just given its KSeF number."""
    row = world.store.one(
        "SELECT i.facts, i.ksef_number, i.sha256, i.mode, i.invoicing_at, i.acquired_at, i.permanent_at, i.corrects,"
        " s.system_code FROM invoices i JOIN sessions s ON s.reference = i.session WHERE i.reference = ?",
        reference,
    )
    if row is None:
        raise LookupError(reference)
    facts = json.loads(row["facts"])
    facts["buyer"] = Party(**facts["buyer"])
    facts["third"] = tuple(Party(**third) for third in facts["third"])
    facts["authorised"] = Party(**facts["authorised"]) if facts["authorised"] else None
    metadata = metadata_of(
        InvoiceFacts(**facts),
        BY_SYSTEM_CODE[row["system_code"]],
        ksef_number=row["ksef_number"],
        sha256=row["sha256"],
        mode=row["mode"] or "Online",
        invoicing_at=written(_ticks(row["invoicing_at"])),
        acquired_at=written(_ticks(row["acquired_at"])),
        permanent_at=written(_ticks(row["permanent_at"])),
        corrects=row["corrects"],
    )
    add(world, [Entry(metadata, _ticks(row["permanent_at"]))])


def _ticks(text: str) -> int:
    return ticks(restored(text))


def take_over(world: World) -> None:
    """Enters what a state file from before there was a repository holds."""
    for row in world.store.all(
        "SELECT reference FROM invoices i WHERE ksef_number IS NOT NULL"
        " AND NOT EXISTS (SELECT 1 FROM repository r WHERE r.ksef_number = i.ksef_number) ORDER BY permanent_at, seq"
    ):
        add_sent(world, row["reference"])


# --- the high-water mark ---------------------------------------------------------------------------------------------


def hwm(world: World, now: datetime) -> int:
    """Where the high-water mark stands: now, or as far behind as was ordered, and not beyond where it is held."""
    behind = ticks(now) - int(float(world.store.setting("hwm-lag", "0")) * SECOND)
    held = world.store.setting("hwm-held", "")
    return min(behind, int(held)) if held else behind


def tell_hwm(world: World, now: datetime) -> int:
    """The mark, and a promise: what is stored from now on comes after it."""
    mark = hwm(world, now)
    if mark > told_hwm(world):
        world.store.keep("hwm-told", str(mark))
    return mark


def told_hwm(world: World) -> int:
    """The highest mark that any answer ever bore."""
    return int(world.store.setting("hwm-told", "0"))
