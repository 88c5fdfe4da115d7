"""Whose invoice holds the number? A duplicate (440) or a doubtful end (500, 550) is weighed by evidence, never guessed.

The evidence is always the SHA-256 of the bytes behind a KSeF number: ours means a lost answer, so the number is ours;
other bytes mean that the invoice number was used twice. Source: FACTS §4.4, ARCHITECTURE "440 is adjudicated".
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ksefbuffer.errors import CallFault, Refused
from ksefbuffer.invoice.identifiers import sha256_hex
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.upo import read_upo
from ksefbuffer.queue import documents
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.documents import Document


@dataclass(frozen=True)
class Ours:
    """KSeF has exactly these bytes under this number. ``session`` is "" when it could not be learned."""

    ksef_number: str
    session: str
    accepted_at: datetime | None
    invoicing_mode: str


@dataclass(frozen=True)
class Theirs:
    """KSeF has other bytes under this seller, kind and number; ``other`` is our own document, if it is one."""

    ksef_number: str
    sha256: str
    other: Document | None


@dataclass(frozen=True)
class NotThere:
    """KSeF shows no invoice with this number."""


@dataclass(frozen=True)
class Unclear:
    """KSeF says there is an original, but shows nothing of it to us. ``why``: what was tried, in Polish."""

    ksef_number: str
    why: str


Judgement = Ours | Theirs | NotThere | Unclear


def adjudicate(database: Database, ksef: Ksef, document: Document, verdict: dict[str, Any]) -> Judgement:
    """Weighs a document's verdict. Raises CallFault while KSeF cannot be asked; nothing is decided then."""
    number = str(verdict.get("original_ksef_number") or "")
    if not number:
        return _by_invoice_number(ksef, document)
    with database.reading() as tx:
        mine = documents.by_ksef_number(tx, number)
    if mine is not None and mine.id != document.id:
        return Theirs(number, mine.sha256, mine)
    refusals: list[str] = []
    session = str(verdict.get("original_session") or "")
    if session:
        found = _by_upo(ksef, document, number, session, refusals)
        if found is not None:
            return found
    found = _by_metadata(ksef, document, number, session, refusals)
    if found is not None:
        return found
    try:
        sha256 = sha256_hex(ksef.download(number))
    except Refused as fault:
        refusals.append(f"pobranie faktury: {fault.message}")
        return Unclear(number, "; ".join(refusals))
    return Ours(number, session, None, "") if sha256 == document.sha256 else Theirs(number, sha256, None)


def _by_upo(ksef: Ksef, document: Document, number: str, session: str, refusals: list[str]) -> Judgement | None:
    try:
        upo = read_upo(ksef.invoice_upo(session, ksef_number=number))
    except Refused as fault:
        refusals.append(f"UPO: {fault.message}")
        return None
    except CallFault as fault:
        # The session named in a batch's 440 can be wrong; other evidence may still be had.
        refusals.append(f"UPO: {fault.message}")
        return None
    except ValueError:
        refusals.append("UPO: nieczytelne")
        return None
    for entry in upo.documents:
        if entry.ksef_number == number:
            if entry.sha256_hex == document.sha256:
                return Ours(number, upo.session_reference, entry.accepted_at, entry.mode)
            return Theirs(number, entry.sha256_hex, None)
    return None


def _by_metadata(ksef: Ksef, document: Document, number: str, session: str, refusals: list[str]) -> Judgement | None:
    try:
        rows = ksef.find(ksef_number=number)
    except Refused as fault:
        refusals.append(f"metadane: {fault.message}")
        return None
    for row in rows:
        if row.ksef_number == number and row.sha256_hex:
            if row.sha256_hex == document.sha256:
                return Ours(number, session, row.accepted_at, row.invoicing_mode)
            return Theirs(number, row.sha256_hex, None)
    return None


def _by_invoice_number(ksef: Ksef, document: Document) -> Judgement:
    rows = ksef.find(
        invoice_number=document.invoice_number or "",
        seller_nip=document.seller_nip or "",
        issue_date=document.issue_date,
    )
    for row in rows:
        if row.sha256_hex == document.sha256:
            return Ours(row.ksef_number, "", row.accepted_at, row.invoicing_mode)
    return NotThere()
