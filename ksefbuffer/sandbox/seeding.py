"""Third-party invoices put straight into the repository: any form, any bytes, whoever the seller is.

Source: FACTS §7, §8, §12, §15 (22-27, 48); FA3-FIELDS §11.
"""

from __future__ import annotations

import binascii
import hashlib
import json
import sqlite3
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import islice
from typing import Any

from ksefbuffer.invoice.forms import BY_SYSTEM_CODE, FA3

from .glimpse import glimpse
from .instants import SECOND, as_datetime, read_ticks, ticks, written
from .numbers import KSEF_NUMBER, NIP, WARSAW, ksef_number
from .reading import InvoiceFacts, Party
from .repository import Entry, add, concerned, metadata_of, told_hwm
from .world import World

NOBODY = "9999999999"
"""The seller of a file in which none can be made out."""

_AT_ONCE = 500
_STEP = 7
"""Between two invoices, in units of 100 ns: times differ, and most need the seventh digit."""
_FIELDS = {"content", "metadata", "permanentAt", "visibleAt", "listed"}
_KNOWN = {
    *("ksefNumber", "invoiceNumber", "issueDate", "invoicingDate", "acquisitionDate", "permanentStorageDate"),
    *("seller", "buyer", "netAmount", "grossAmount", "vatAmount", "currency", "invoicingMode", "invoiceType"),
    *("formCode", "isSelfInvoicing", "hasAttachment", "invoiceHash", "hashOfCorrectedInvoice", "thirdSubjects"),
    "authorizedSubject",
}
_AMOUNTS = ("netAmount", "grossAmount", "vatAmount")
_FLAGS = ("isSelfInvoicing", "hasAttachment")
_MOMENTS = ("invoicingDate", "acquisitionDate", "permanentStorageDate")
_TEXTS = (*_MOMENTS, "invoiceNumber", "issueDate", "currency", "invoicingMode", "invoiceType", "invoiceHash")


@dataclass(frozen=True)
class SeededInvoice:
    """A file of the repository. ``metadata`` overrules what can be made out in it, in the shape of InvoiceMetadata
    (FACTS §8; None removes a field that may be absent): whom the invoice concerns follows from seller, buyer,
    thirdSubjects and authorizedSubject, and a ``formCode`` may be its system code alone. ``permanent_at``: aware, or
    text with up to seven fractional digits; it may lie in the future. ``visible_at``: when it begins to be found, by
    default then, later for a late row. ``listed`` False: packages hold the file and do not tell of it in
    ``_metadata.json``."""

    content: bytes = field(repr=False)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    permanent_at: datetime | str | None = None
    visible_at: datetime | None = None
    listed: bool = True


@dataclass(frozen=True)
class _Read:
    """An invoice, as far as it can be made out without knowing when it will be entered."""

    invoice: SeededInvoice
    metadata: dict[str, Any]


def seed(
    world: World, invoices: Iterable[bytes | SeededInvoice], at: datetime | None, clock: Callable[[], datetime]
) -> list[str]:  # fmt: skip
    """Enters invoices, some hundreds in one transaction; returns their KSeF numbers. To be called without the lock.
    ``at``: when the first was permanently stored, the others follow at once. Raises ValueError for metadata that
    KSeF could never tell, and for a KSeF number that is there already."""
    numbers: list[str] = []
    start = None if at is None else ticks(at)
    for heap in _heaps(invoices):
        read = [_read(item if isinstance(item, SeededInvoice) else SeededInvoice(item)) for item in heap]
        with world.lock, world.store.transaction():
            now = clock()
            first = _first(world, now) if start is None else start + len(numbers) * _STEP
            entropies = world.store.entropies(len(read))
            entries = [_entry(item, first + place * _STEP, entropies[place]) for place, item in enumerate(read)]
            try:
                add(world, entries)
            except sqlite3.IntegrityError:
                raise ValueError("a KSeF number among these invoices is in the repository already") from None
            world.store.keep("last-seeded", str(first + (len(read) - 1) * _STEP))
        numbers += [entry.metadata["ksefNumber"] for entry in entries]
    return numbers


def _heaps(invoices: Iterable[bytes | SeededInvoice]) -> Iterator[Sequence[bytes | SeededInvoice]]:
    left = iter(invoices)
    while heap := list(islice(left, _AT_ONCE)):
        yield heap


def _first(world: World, now: datetime) -> int:
    """A moment after every mark told and every invoice seeded before, and rather in the past than in the future."""
    last = int(world.store.setting("last-seeded", "0"))
    return max(ticks(now) - SECOND, told_hwm(world) + 1, last + _STEP if last < ticks(now) else 0)


def _read(invoice: SeededInvoice) -> _Read:
    if unknown := sorted(set(invoice.metadata) - _KNOWN):
        raise ValueError(f"not a field of InvoiceMetadata: {', '.join(unknown)}")
    seen = glimpse(invoice.content)
    facts = seen.facts
    form = seen.form or FA3
    metadata = metadata_of(
        InvoiceFacts(
            seller_nip=facts.seller_nip if NIP.fullmatch(facts.seller_nip) else NOBODY,
            seller_name=facts.seller_name,
            buyer=facts.buyer,
            third=tuple(Party(party.kind, party.value, party.name, min(party.role, 11)) for party in facts.third),
            authorised=facts.authorised if facts.authorised and 1 <= facts.authorised.role <= 3 else None,
            number=facts.number,
            issued=_day(facts.issued),
            kind=facts.kind or "Vat",
            currency=facts.currency if len(facts.currency) == 3 else "PLN",
            net=facts.net,
            vat=facts.vat,
            gross=facts.gross,
            self_invoicing=facts.self_invoicing,
            attachment=facts.attachment,
        ),
        form,
        ksef_number="",
        sha256=b64encode(hashlib.sha256(invoice.content).digest()).decode(),
        mode="Online",
        invoicing_at="",
        acquired_at="",
        permanent_at="",
    )
    metadata |= invoice.metadata
    return _Read(invoice, {name: value for name, value in metadata.items() if value is not None})


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text[:10]).isoformat()
    except ValueError:
        return ""


def _entry(read: _Read, at: int, entropy: str) -> Entry:
    """The invoice as permanently stored ``at`` (units of 100 ns), unless it says otherwise itself."""
    metadata, invoice = read.metadata, read.invoice
    own = invoice.permanent_at or metadata["permanentStorageDate"]
    permanent = _moment(own) if own else at
    metadata["permanentStorageDate"] = written(permanent) if not isinstance(own, str) or not own else own
    # A second for the number, a second for the writing: as with what is sent, if nobody said otherwise.
    acquired = _moment(metadata["acquisitionDate"]) if metadata["acquisitionDate"] else permanent - SECOND
    metadata["acquisitionDate"] = metadata["acquisitionDate"] or written(acquired)
    metadata["invoicingDate"] = metadata["invoicingDate"] or written(acquired - SECOND)
    metadata["issueDate"] = metadata["issueDate"] or as_datetime(acquired).astimezone(WARSAW).date().isoformat()
    seller = metadata["seller"]
    nip = seller.get("nip") if isinstance(seller, dict) else None
    if not isinstance(nip, str) or not NIP.fullmatch(nip):
        raise ValueError("seller must have a NIP")
    metadata["ksefNumber"] = metadata["ksefNumber"] or ksef_number(nip, as_datetime(acquired), entropy)
    if not isinstance(metadata["ksefNumber"], str) or not KSEF_NUMBER.fullmatch(metadata["ksefNumber"]):
        raise ValueError(f"not a KSeF number: {metadata['ksefNumber']}")
    if isinstance(metadata["formCode"], str):
        form = BY_SYSTEM_CODE.get(metadata["formCode"])
        if form is None:
            raise ValueError(f"not a form: {metadata['formCode']}; one of: {', '.join(BY_SYSTEM_CODE)}")
        metadata["formCode"] = {
            "systemCode": form.system_code,
            "schemaVersion": form.schema_version,
            "value": form.value,
        }
    visible = ticks(invoice.visible_at) if invoice.visible_at else permanent
    return Entry(_checked(metadata), visible, invoice.content, invoice.listed)


def _moment(value: datetime | str) -> int:
    return read_ticks(value) if isinstance(value, str) else ticks(value)


def _checked(metadata: dict[str, Any]) -> dict[str, Any]:
    """Raises ValueError for what has not the shape of InvoiceMetadata."""
    try:
        parties = list(concerned(metadata))
        texts = [metadata[name] for name in _TEXTS] + [metadata["formCode"]["value"], *(nip for _, nip in parties)]
        holds = (
            all(isinstance(text, str) for text in texts)
            and all(isinstance(metadata[name], int | float) for name in _AMOUNTS)
            and all(isinstance(metadata[name], bool) for name in _FLAGS)
        )
    except (LookupError, TypeError, AttributeError):
        holds = False
    if not holds:
        raise ValueError("the metadata have not the shape of InvoiceMetadata")
    for name in _MOMENTS:
        read_ticks(metadata[name])
    date.fromisoformat(metadata["issueDate"])
    return metadata


# --- as ordered by control -------------------------------------------------------------------------------------------


def read_order(body: bytes) -> list[SeededInvoice]:
    """The body of ``POST /sandbox/seed``: one XML file, or a JSON list of texts (Base64) and objects ``{content,
    metadata, permanentAt, visibleAt, listed}``. Raises ValueError, TypeError."""
    if not body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
        if not body:
            raise ValueError("the body must be one XML file, or a JSON list")
        return [SeededInvoice(body)]
    return [_ordered(item) for item in json.loads(body.decode("utf-8-sig"))]


def _ordered(item: Any) -> SeededInvoice:
    if isinstance(item, str):
        item = {"content": item}
    if not isinstance(item, dict) or not isinstance(item.get("content"), str):
        raise TypeError("each invoice must be a Base64 text, or an object with content in Base64")
    if unknown := sorted(set(item) - _FIELDS):
        raise ValueError(f"unknown: {', '.join(unknown)}; an invoice has: {', '.join(sorted(_FIELDS))}")
    metadata, listed = item.get("metadata", {}), item.get("listed", True)
    if not isinstance(metadata, dict) or not isinstance(listed, bool):
        raise TypeError("metadata must be an object, listed must be true or false")
    moments = [item.get(name) for name in ("permanentAt", "visibleAt")]
    if not all(moment is None or isinstance(moment, str) for moment in moments):
        raise TypeError("permanentAt and visibleAt must be date-times in ISO 8601")
    try:
        content = b64decode(item["content"], validate=True)
    except binascii.Error:
        raise ValueError("content is not Base64") from None
    visible = as_datetime(read_ticks(moments[1])) if moments[1] else None
    return SeededInvoice(content, metadata, moments[0], visible, listed)
