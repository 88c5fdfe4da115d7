"""Stored invoices to be filed, and what the incoming folder shows of them."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ksefbuffer.queue import facts, incoming
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.incoming import FileDue, Incoming, Judgement
from ksefbuffer.receiver.shapes import Catalogue, Rulebook
from tests.queue.test_incoming import made
from tests.samples import NOW


def put(database: Database, folder: str = "sklepy/7", *, row: bool = False, **changes: Any) -> Incoming:
    """Stores an invoice and files it (in the database)."""
    with database.transaction() as tx:
        (row_id,) = incoming.store(tx, [made(**changes)], at=NOW, actor="test").values()
        incoming.judge(tx, {row_id: judgement(folder)}, at=NOW, actor="test", row=row)
        return incoming.get(tx, row_id)


def judgement(folder: str) -> Judgement:
    return Judgement(folder, ["pilne", "karta"], [], "", 1, "zasadna", [])


def refile(database: Database, one: Incoming, folder: str, *, at: datetime = NOW) -> None:
    with database.transaction() as tx:
        incoming.judge(tx, {one.id: judgement(folder)}, at=at, actor="test", row=False)


def again(database: Database, one: Incoming) -> Incoming:
    with database.reading() as tx:
        return incoming.get(tx, one.id)


def content_of(database: Database, one: Incoming) -> bytes:
    with database.reading() as tx:
        return incoming.content(tx, one.id)


def noted(database: Database) -> Any:
    with database.reading() as tx:
        told = facts.get(tx, "filing")
    return told[0] if told else None


def tree(root: Path) -> dict[str, bytes]:
    """Every file below the folder, temporary ones too."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def folders(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_dir()}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def catalogues(*known: Catalogue) -> Rulebook:
    return Rulebook(catalogues=known)


@dataclass(frozen=True)
class Words:
    """A view: the invoice's number and how long it is."""

    ending: str = ".txt"

    def make(self, content: bytes, facts: FileDue) -> bytes | None:
        return f"{facts.ksef_number} {len(content)}".encode()


def expected(database: Database, folders_of: Mapping[int, str], *, views: bool = False) -> dict[str, bytes]:
    """What the folder must hold: worked out here, from the contract alone, for plain names."""
    found: dict[str, bytes] = {}
    with database.reading() as tx:
        for one in incoming.listing(tx, limit=10_000):
            stem = f"{folders_of[one.id]}/{one.issue_date}_{one.seller_nip}_{one.invoice_number}_{one.ksef_number}"
            stem = "/".join((folders_of[one.id], stem.removeprefix(folders_of[one.id] + "/").replace("/", "_")))
            content = incoming.content(tx, one.id)
            found[f"{stem}.xml"] = content
            if views:
                found[f"{stem}.txt"] = f"{one.ksef_number} {len(content)}".encode()
    return found
