"""Whether the database is sound, for who looks after the machine. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select, text

from ksefbuffer.queue.db import Database
from ksefbuffer.queue.models import buffer


@dataclass(frozen=True)
class Soundness:
    """``complaints`` are the database's own words, at most ten; ``journal_mode`` is None on a server; ``nip`` and
    ``environment`` are whose database it is, None before its first use."""

    complaints: tuple[str, ...]
    journal_mode: str | None
    nip: str | None
    environment: str | None


def soundness(database: Database) -> Soundness:
    """Reads the whole of an SQLite file, which may take a while. Raises StorageFault."""
    with database.reading() as tx:
        owner = tx.execute(select(buffer.c.nip, buffer.c.environment)).first()
        complaints: tuple[str, ...] = ()
        journal = None
        if database.is_sqlite:
            found = [str(row[0]) for row in tx.execute(text("PRAGMA quick_check(10)"))]
            complaints = tuple(line for line in found if line != "ok")
            journal = str(tx.execute(text("PRAGMA journal_mode")).scalar_one())
    return Soundness(complaints, journal, owner.nip if owner else None, owner.environment if owner else None)
