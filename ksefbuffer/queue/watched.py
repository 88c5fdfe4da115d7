"""Figures for monitoring that no page shows by themselves. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from ksefbuffer.queue.models import documents, incoming

UNASSIGNED = "nieprzypisane"
_COUNTED_AT_MOST = 10_000


@dataclass(frozen=True)
class Watched:
    """``next_deadline``: the first term of a document issued offline that KSeF does not have; ``unassigned`` stops at
    10,000."""

    next_deadline: datetime | None
    offline_unsent: int
    unassigned: int


def watched(tx: Connection) -> Watched:
    unsent = (
        documents.c.offline_mode.is_not(None),
        documents.c.ksef_number.is_(None),
        documents.c.state.in_(["queued", "processing", "failed", "error"]),
    )
    some = select(incoming.c.id).where(incoming.c.folder == UNASSIGNED).limit(_COUNTED_AT_MOST).subquery()
    return Watched(
        next_deadline=tx.execute(select(func.min(documents.c.offline_deadline)).where(*unsent)).scalar_one(),
        offline_unsent=tx.execute(select(func.count()).select_from(documents).where(*unsent)).scalar_one(),
        unassigned=tx.execute(select(func.count()).select_from(some)).scalar_one(),
    )
