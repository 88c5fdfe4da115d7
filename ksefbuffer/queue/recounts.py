"""What KSeF's lists are compared with: invoices stored for a role in a period, and what we sent. Read only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import Connection, select

from ksefbuffer.queue.models import documents, incoming

_AT_ONCE = 300
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Sent:
    """A document of ours that has a number."""

    ksef_number: str
    invoice_number: str
    issue_date: date | None
    accepted_at: datetime


def stored_about(tx: Connection, since: datetime, until: datetime) -> list[tuple[str, str, str]]:
    """KSeF number, roles (joined by commas) and KSeF's own text of when it stored it, of the invoices stored between
    two days, give or take a day: texts with differing offsets do not compare exactly."""
    stored = incoming.c.stored_at_ksef
    query = select(incoming.c.ksef_number, incoming.c.roles, stored).where(
        stored >= (since - _DAY).date().isoformat(), stored <= (until + 2 * _DAY).date().isoformat()
    )
    return [(row.ksef_number, row.roles, row.stored_at_ksef) for row in tx.execute(query)]


def sent_between(tx: Connection, since: datetime, until: datetime) -> list[Sent]:
    """Documents that got their number in that time."""
    query = select(
        documents.c.ksef_number, documents.c.invoice_number, documents.c.issue_date, documents.c.accepted_at
    ).where(documents.c.ksef_number.is_not(None), documents.c.accepted_at.between(since, until))
    return [Sent(*row) for row in tx.execute(query)]


def ours(tx: Connection, sha256s: Sequence[str]) -> set[str]:
    """Those of these hashes that are documents of this buffer."""
    found: set[str] = set()
    for start in range(0, len(sha256s), _AT_ONCE):
        query = select(documents.c.sha256).where(documents.c.sha256.in_(sha256s[start : start + _AT_ONCE]))
        found.update(tx.execute(query).scalars())
    return found
