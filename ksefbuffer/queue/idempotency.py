"""What an Idempotency-Key stood for: the same key never means two requests. Functions take an open transaction."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, select, update

from ksefbuffer.queue.db import insert_or
from ksefbuffer.queue.web_models import idempotency

KEPT = timedelta(days=7)


def reserve(tx: Connection, key_id: int, key: str, request_sha256: str, *, at: datetime) -> bool:
    """Whether this key of an integrator's stands for this request: from now on, or already. Keys older than a week are
    forgotten."""
    tx.execute(delete(idempotency).where(idempotency.c.at < at - KEPT))
    tx.execute(
        insert_or(tx, idempotency)
        .values(key_id=key_id, key=key, request_sha256=request_sha256, at=at)
        .on_conflict_do_nothing()
    )
    mine = (idempotency.c.key_id == key_id) & (idempotency.c.key == key)
    return bool(tx.execute(select(idempotency.c.request_sha256).where(mine)).scalar_one() == request_sha256)


def stands_for(tx: Connection, key_id: int, key: str, document_id: str) -> None:
    """The document that came of the request."""
    mine = (idempotency.c.key_id == key_id) & (idempotency.c.key == key)
    tx.execute(update(idempotency).where(mine).values(document_id=document_id))
