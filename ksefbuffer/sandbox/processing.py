"""What KSeF does with a closed package: takes it apart and examines every file, without holding others up.

The verdicts fall later, with everybody else's (``settlement``). A sandbox that was killed in the middle starts the
package again: nothing of it was in sight.
"""

from __future__ import annotations

import hashlib
import json
import logging
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from ksefbuffer.invoice.forms import BY_SYSTEM_CODE, Form

from .archives import Unusable, files_in
from .examination import Examination, examine_file
from .ledger import OUT_OF_SIGHT, Verdict, enter, repetition, show, strike_out
from .packages import PartHandedIn, begins_with_iv, put_together
from .settlement import nip_of
from .store import restored, stored
from .world import World

log = logging.getLogger("ksefbuffer.sandbox")

_FILES_AT_ONCE = 100
_BYTES_AT_ONCE = 8_000_000


class _Halted(Exception):
    """The sandbox is being closed, or the session ended meanwhile."""


@dataclass(frozen=True)
class _Package:
    session: str
    key: bytes = field(repr=False)
    iv: bytes = field(repr=False)
    form: Form
    nip: str
    invoicing_at: datetime
    size: int
    sha256: str
    compression: str
    offline: bool
    parts: tuple[PartHandedIn, ...]
    ordered: dict[int | None, Verdict]


@dataclass(frozen=True)
class _File:
    name: str
    sha256: str
    examination: Examination


def next_package(world: World, due: datetime | None) -> str | None:
    """The session of the next closed package to be examined; only one whose processing time is over by ``due``."""
    row = world.store.one(
        "SELECT s.reference FROM sessions s JOIN batches b ON b.session = s.reference WHERE s.code = 150"
        " AND NOT b.examined AND NOT b.stuck AND s.forced IS NULL AND s.aes_key IS NOT NULL AND s.settles_at <= ?"
        " ORDER BY s.closed_at, s.seq",
        OUT_OF_SIGHT if due is None else stored(due),
    )
    return row["reference"] if row else None


def examine(world: World, session: str, halted: Callable[[], bool], clock: Callable[[], datetime] | None) -> None:
    """Takes a closed package apart and enters what is in it. ``clock``: when given, the verdicts are not dated before
    the work was done. Takes the lock for moments only."""
    with world.lock, world.store.transaction():
        strike_out(world, session)
        package = _package(world, session)
    noted: Counter[tuple[str, str]] = Counter()
    plain = world.shelf.path(f"{session}.plain")
    failure: Unusable | None = None
    try:
        for part in package.parts:
            if begins_with_iv(part, package.iv):
                noted["iv-prefixed", "the ciphertext begins with the IV; it belongs in initializationVector only"] += 1
        put_together(
            package.parts, key=package.key, iv=package.iv, size=package.size, sha256=package.sha256, into=plain
        )
        ordinal = 1
        for files in _examined(package, files_in(plain, package.compression)):
            with world.lock, world.store.transaction():
                if halted() or not _waits(world, session):
                    raise _Halted
                for file in files:
                    _enter(world, package, file, ordinal, noted)
                    ordinal += 1
    except Unusable as fault:
        failure = fault
    except _Halted:
        return
    except Exception:
        log.exception("package %s could not be processed", session)
        failure = Unusable(500)
    with world.lock, world.store.transaction():
        if _waits(world, session):
            _finish(world, session, failure, clock() if clock else None, noted)


def _waits(world: World, session: str) -> bool:
    return world.store.one("SELECT 1 FROM sessions WHERE reference = ? AND code = 150", session) is not None


def _package(world: World, session: str) -> _Package:
    row = world.store.one(
        "SELECT s.*, b.* FROM sessions s JOIN batches b ON b.session = s.reference WHERE s.reference = ?", session
    )
    if row is None:
        raise LookupError(session)
    return _Package(
        session=session,
        key=row["aes_key"],
        iv=row["iv"],
        form=BY_SYSTEM_CODE[row["system_code"]],
        nip=nip_of(row),
        # Every invoice of a package counts from the opening of its session (FACTS §5).
        invoicing_at=restored(row["created_at"]),
        size=row["file_size"],
        sha256=row["file_hash"],
        compression=row["compression"],
        offline=bool(row["offline"]),
        parts=tuple(
            PartHandedIn(
                part["ordinal"], world.shelf.path(f"{session}.{part['ordinal']}"), part["size"], part["sha256"]
            )
            for part in world.store.all("SELECT * FROM parts WHERE session = ? ORDER BY ordinal", session)
        ),
        ordered={ordinal: Verdict(code, details) for ordinal, code, details in json.loads(row["ordered"])},
    )


def _examined(package: _Package, files: Iterator[tuple[str, bytes]]) -> Iterator[list[_File]]:
    """Files with what was found, a bounded heap at a time."""
    heap: list[_File] = []
    weight = 0
    for name, content in files:
        found = examine_file(
            content,
            form=package.form,
            nip=package.nip,
            received_at=package.invoicing_at,
            offline=package.offline,
            attachments=True,
        )
        heap.append(_File(name, b64encode(hashlib.sha256(content).digest()).decode(), found))
        weight += len(content)
        if len(heap) >= _FILES_AT_ONCE or weight >= _BYTES_AT_ONCE:
            yield heap
            heap, weight = [], 0
    yield heap


def _enter(world: World, package: _Package, file: _File, ordinal: int, noted: Counter[tuple[str, str]]) -> None:
    if known := repetition(world, file.sha256):
        noted[known] += 1
    enter(
        world,
        file.examination,
        at=package.invoicing_at,
        session=package.session,
        ordinal=ordinal,
        sha256=file.sha256,
        offline=package.offline,
        invoicing_at=stored(package.invoicing_at),
        due_at=OUT_OF_SIGHT,
        forced=package.ordered.get(ordinal) or package.ordered.get(None),
        file_name=file.name,
    )


def _finish(
    world: World, session: str, failure: Unusable | None, at: datetime | None, noted: Counter[tuple[str, str]]
) -> None:
    row = world.store.one("SELECT settles_at FROM sessions WHERE reference = ?", session)
    due = restored(row["settles_at"]) if row else None
    due = max(moment for moment in (due, at) if moment is not None)
    if failure is None:
        show(world, session, due)
    else:
        strike_out(world, session)
        world.store.run(
            "UPDATE sessions SET forced = ?, details = ? WHERE reference = ?",
            failure.code,
            json.dumps(failure.details, ensure_ascii=False),
            session,
        )
    world.store.run("UPDATE sessions SET settles_at = ? WHERE reference = ?", stored(due), session)
    world.store.run("UPDATE batches SET examined = 1 WHERE session = ?", session)
    for (name, text), count in noted.items():
        world.record(due, "closeBatch", name, text if count == 1 else f"{text} ({count} times in one package)")
    world.shelf.clear(session)
