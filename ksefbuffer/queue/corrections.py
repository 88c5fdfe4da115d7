"""Technical corrections: a refused invoice and the files handed over to mend it.

All corrections of one invoice name the hash of that first, refused file (``corrects_sha256``), also when a correction
was itself refused and is corrected once more: it is the file behind the QR codes that the customer holds, and the one
that KSeF wants named. So the chain is the documents with that hash, in the order of their keys. Functions take an open
transaction and never commit. Source: FACTS §10 (technical correction).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from ksefbuffer.queue.documents import Document, by_sha256, change, get, tell
from ksefbuffer.queue.models import documents, events
from ksefbuffer.queue.states import HOLDS_NUMBER, Event, State

# An invoice's status at KSeF has three digits; five are those of a call that KSeF did not take.
_STATUS = re.compile(r"(\d{3})(?!\d)")


@dataclass(frozen=True)
class Line:
    """An invoice and its technical corrections.

    ``original`` is the first file; ``named`` the document whose hash was given: the original, or one of its
    corrections; ``corrections`` are those that the door let in, the oldest first; ``refusals`` are KSeF's statuses with
    which it refused the original ("450"), each once.
    """

    original: Document
    named: Document
    corrections: tuple[Document, ...]
    refusals: frozenset[str]

    @property
    def live(self) -> Document | None:
        """The correction that waits, is at KSeF, or has its number."""
        return next((one for one in self.corrections if one.state in HOLDS_NUMBER), None)

    @property
    def newest_refused(self) -> Document:
        """The last of the chain that KSeF refused: the one whose term was kept up last."""
        refused = [one for one in self.corrections if one.state is State.ERROR]
        return refused[-1] if refused else self.original


def line_of(tx: Connection, sha256: str, *, hold: bool = False) -> Line | None:
    """The line that the document with this hash belongs to; None for an unknown hash.

    With ``hold`` the original's row is locked first, so that two corrections at once see one another.
    """
    named = by_sha256(tx, sha256)
    if named is None:
        return None
    original = named
    if named.corrects_sha256 is not None and _let_in(named):
        original = by_sha256(tx, named.corrects_sha256) or named
    if hold:
        tx.execute(select(documents.c.id).where(documents.c.id == original.id).with_for_update())
        original = get(tx, original.id)
    query = select(documents.c.id).where(documents.c.corrects_sha256 == original.sha256).order_by(documents.c.id)
    handed_over = [get(tx, row_id) for row_id in tx.execute(query).scalars().all()]
    corrections = tuple(one for one in handed_over if _let_in(one) and one.id != original.id)
    return Line(original, named, corrections, _refusals(tx, original))


def _let_in(document: Document) -> bool:
    return document.state is not State.ERROR or document.judged_by_ksef


def _refusals(tx: Connection, document: Document) -> frozenset[str]:
    query = select(events.c.note).where(events.c.document == document.id, events.c.event == str(Event.REFUSE))
    found = (_STATUS.match(str(note)) for note in tx.execute(query).scalars())
    return frozenset(match[1] for match in found if match is not None)


def inherited(line: Line) -> dict[str, Any]:
    """The columns of a correction that come from what it corrects: how it was issued, its term, and KOD II as the
    customer has it."""
    before = line.newest_refused
    return {
        "corrects_sha256": line.original.sha256,
        "offline": True,
        "online_only": False,
        "offline_mode": before.offline_mode,
        "offline_since": before.offline_since,
        "offline_event": before.offline_event,
        "offline_deadline": before.offline_deadline,
        "offline_term": before.offline_term,
        "certificate_url": line.original.certificate_url,
    }


def tell_refused(tx: Connection, line: Line, entry: dict[str, Any], *, by: int, at: datetime) -> None:
    """Puts ``entry`` in the place of the one with its code among the ``errors`` of all that were refused before the
    correction ``by``, the original and earlier corrections, and makes their answers due."""
    for document in (line.original, *line.corrections):
        if document.state is State.ERROR and document.id != by:
            others = [error for error in document.errors if error.get("code") != entry["code"]]
            change(tx, document.id, errors=[*others, entry], updated_at=at)
            tell(tx, document.id, at=at)


def is_replaced() -> ColumnElement[bool]:
    """Of a refused document: a later correction stands for it, one that waits, is at KSeF, or has a number. Its own
    term is over with that; the correction has it."""
    correcting = documents.alias()
    live = select(correcting.c.corrects_sha256).where(
        correcting.c.corrects_sha256.is_not(None),
        correcting.c.state.in_([str(state) for state in sorted(HOLDS_NUMBER)]),
    )
    refused = documents.c.state == str(State.ERROR)
    # A null corrects_sha256 would make the whole of it unknown, and its negation too.
    mine = func.coalesce(documents.c.corrects_sha256, "")
    return and_(refused, or_(documents.c.sha256.in_(live), mine.in_(live)))


def replaced(tx: Connection, row_ids: Sequence[int]) -> set[int]:
    """Which of these documents are (``is_replaced``)."""
    query = select(documents.c.id).where(documents.c.id.in_(row_ids), is_replaced())
    return set(tx.execute(query).scalars())
