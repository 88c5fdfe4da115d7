"""Packages for exports: invoices and their metadata packed, split, and each part encrypted by itself, all on disk.

The rows were chosen when the export was ordered; a sandbox that was killed in the middle starts the package again.
Source: FACTS §3.2, §7.2.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import logging
import tarfile
import zipfile
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from .filters import PERMANENT
from .instants import as_datetime, written
from .numbers import WARSAW
from .repository import CONTENT
from .store import restored, stored
from .world import World

log = logging.getLogger("ksefbuffer.sandbox")

METADATA = "_metadata.json"

_ROWS_AT_ONCE = 100
_CHUNK = 1_000_000
_SUFFIX = {"Zip": "zip", "TarGz": "tar.gz"}


class _Halted(Exception):
    """The sandbox is being closed."""


@dataclass(frozen=True)
class _Order:
    """An export to be built; ``wrong``: which invoices, by their place, are not what their hash says."""

    reference: str
    key: bytes = field(repr=False)
    iv: bytes = field(repr=False)
    compression: str
    only_metadata: bool
    date_type: str
    metadata_first: bool
    wrong: Sequence[int | None]
    chosen: Sequence[int]
    created_at: datetime


@dataclass(frozen=True)
class _Row:
    seq: int
    ksef_number: str
    listed: bool
    metadata: str
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class _Part:
    name: str
    size: int
    sha256: str
    encrypted_size: int
    encrypted_sha256: str


@dataclass(frozen=True)
class _Built:
    count: int
    last: int | None
    truncated: bool
    parts: Sequence[_Part]


def next_export(world: World, due: datetime | None) -> str | None:
    """The next export to be built; only one whose time is over by ``due``."""
    moment = "9999" if due is None else stored(due)
    row = world.store.one(
        "SELECT reference FROM exports WHERE ready_at IS NULL AND NOT stuck AND due_at <= ? ORDER BY due_at, reference",
        moment,
    )
    return row["reference"] if row else None


def build(world: World, reference: str, halted: Callable[[], bool], clock: Callable[[], datetime] | None) -> None:
    """Makes the package of an export that was not refused. ``clock``: when given, it is not ready before the work was
    done. Takes the lock for moments only."""
    with world.lock, world.store.transaction():
        world.shelf.clear(reference)
        world.store.run("DELETE FROM export_parts WHERE export = ?", reference)
        row = world.store.one("SELECT code FROM exports WHERE reference = ?", reference)
        order = _order(world, reference) if row and row["code"] == 200 else None
    built, failed = _Built(0, None, False, ()), False
    if order is not None:
        try:
            built = _build(world, order, halted)
        except _Halted:
            return
        except Exception:
            log.exception("export %s could not be built", reference)
            failed = True
    with world.lock, world.store.transaction():
        _finish(world, reference, built, clock() if clock else None, failed=failed)


def _order(world: World, reference: str) -> _Order:
    row = world.store.one("SELECT * FROM exports WHERE reference = ?", reference)
    if row is None:
        raise LookupError(reference)
    return _Order(
        reference=reference,
        key=row["aes_key"],
        iv=row["iv"],
        compression=row["compression"],
        only_metadata=bool(row["only_metadata"]),
        date_type=row["date_type"],
        metadata_first=bool(row["metadata_first"]),
        wrong=json.loads(row["wrong_invoices"]),
        chosen=json.loads(row["chosen"]),
        created_at=restored(row["created_at"]),
    )


def _build(world: World, order: _Order, halted: Callable[[], bool]) -> _Built:
    if not order.chosen:
        return _Built(0, None, False, ())
    archive = world.shelf.path(f"{order.reference}.plain")
    metadata = world.shelf.path(f"{order.reference}.metadata")
    # What does not fit can only be known while packing, so then the metadata must come last.
    fits = order.only_metadata or _weight(world, order) <= world.measures.package_bytes
    first = order.metadata_first and fits
    if first:
        with _metadata_file(metadata) as tell:
            for row in _rows(world, order, halted, contents=False):
                tell(row)
    count, last = 0, None
    with _archive(archive, order) as packed, _metadata_file(None if first else metadata) as tell:
        if first:
            packed.add_file(METADATA, metadata)
        for place, row in enumerate(_rows(world, order, halted, contents=not order.only_metadata), 1):
            if not fits and count and packed.size() + len(row.content) > world.measures.package_bytes:
                break
            if not order.only_metadata:
                packed.add(f"{row.ksef_number}.xml", _changed(row.content) if _strikes(order, place) else row.content)
            tell(row)
            count, last = count + 1, row.seq
        if not first:
            tell(None)
            packed.add_file(METADATA, metadata)
    parts = list(_split(world, order, archive, halted))
    archive.unlink()
    metadata.unlink()
    return _Built(count, last, count < len(order.chosen), parts)


def _strikes(order: _Order, place: int) -> bool:
    return any(ordinal in {None, place} for ordinal in order.wrong)


def _changed(content: bytes) -> bytes:
    """The file with one byte spoilt, so that its hash is not the one told."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :] if content else b" "


def _weight(world: World, order: _Order) -> int:
    weight = 0
    for start in range(0, len(order.chosen), 500):
        some = order.chosen[start : start + 500]
        with world.lock:
            row = world.store.one(
                f"SELECT sum(length({CONTENT})) AS weight FROM repository r"  # noqa: S608 - our own text
                f" WHERE r.seq IN ({', '.join('?' * len(some))})",
                *some,
            )
        weight += int(row["weight"] or 0) if row else 0
    return weight


def _rows(world: World, order: _Order, halted: Callable[[], bool], *, contents: bool) -> Iterator[_Row]:
    """The chosen invoices in their order, some at a time, the lock being taken for each handful."""
    column = CONTENT if contents else "x''"
    for start in range(0, len(order.chosen), _ROWS_AT_ONCE):
        some = order.chosen[start : start + _ROWS_AT_ONCE]
        with world.lock:
            if halted():
                raise _Halted
            found = world.store.all(
                f"SELECT r.seq, r.ksef_number, r.listed, r.metadata, {column} AS content FROM repository r"  # noqa: S608
                f" WHERE r.seq IN ({', '.join('?' * len(some))})",
                *some,
            )
        by_seq = {row["seq"]: row for row in found}
        for seq in some:
            row = by_seq[seq]
            yield _Row(seq, row["ksef_number"], bool(row["listed"]), row["metadata"], bytes(row["content"]))


@contextmanager
def _metadata_file(path: Path | None) -> Iterator[Callable[[_Row | None], None]]:
    """Gives what notes a row in the file; None ends it. Without a path nothing is noted."""
    if path is None:
        yield lambda _: None
        return
    with path.open("w", encoding="utf-8") as file:
        file.write('{"invoices":[')
        separator, ended = "", False

        def tell(row: _Row | None) -> None:
            nonlocal separator, ended
            if row is None:
                file.write("]}")
                file.flush()
                ended = True
            elif row.listed:
                file.write(separator + row.metadata)
                separator = ","

        yield tell
        if not ended:
            tell(None)


class _Archive(Protocol):
    def add(self, name: str, content: bytes) -> None: ...
    def add_file(self, name: str, path: Path) -> None: ...
    def size(self) -> int: ...


class _Zip:
    def __init__(self, packed: zipfile.ZipFile, when: datetime) -> None:
        self._packed = packed
        moment = when.astimezone(WARSAW)
        self._date = (moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second)

    def _entry(self, name: str) -> zipfile.ZipInfo:
        entry = zipfile.ZipInfo(name, self._date)
        entry.compress_type = zipfile.ZIP_DEFLATED
        return entry

    def add(self, name: str, content: bytes) -> None:
        self._packed.writestr(self._entry(name), content)

    def add_file(self, name: str, path: Path) -> None:
        with path.open("rb") as source, self._packed.open(self._entry(name), "w") as target:
            while chunk := source.read(_CHUNK):
                target.write(chunk)

    def size(self) -> int:
        return self._packed.start_dir


class _TarGz:
    def __init__(self, packed: tarfile.TarFile, stream: gzip.GzipFile, path: Path, when: datetime) -> None:
        self._packed = packed
        self._stream = stream
        self._path = path
        self._when = int(when.timestamp())

    def _entry(self, name: str, size: int) -> tarfile.TarInfo:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mtime, entry.mode = size, self._when, 0o644
        return entry

    def add(self, name: str, content: bytes) -> None:
        self._packed.addfile(self._entry(name, len(content)), io.BytesIO(content))

    def add_file(self, name: str, path: Path) -> None:
        with path.open("rb") as source:
            self._packed.addfile(self._entry(name, path.stat().st_size), source)

    def size(self) -> int:
        self._stream.flush()
        return self._path.stat().st_size


@contextmanager
def _archive(path: Path, order: _Order) -> Iterator[_Archive]:
    if order.compression == "Zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
            yield _Zip(zipped, order.created_at)
    else:
        with gzip.GzipFile(path, "wb", 6) as stream, tarfile.open(fileobj=stream, mode="w") as packed:
            yield _TarGz(packed, stream, path, order.created_at)


def _split(world: World, order: _Order, archive: Path, halted: Callable[[], bool]) -> Iterator[_Part]:
    """Cuts the plain archive, then encrypts every piece as a stream of its own (FACTS §3.2)."""
    with archive.open("rb") as source:
        left = archive.stat().st_size
        ordinal = 0
        while left:
            if halted():
                raise _Halted
            ordinal += 1
            size = min(left, world.measures.part_bytes)
            left -= size
            name = f"{order.reference}-{ordinal:03}.{_SUFFIX[order.compression]}.aes"
            path = world.shelf.path(f"{order.reference}.{ordinal}")
            plain, encrypted = hashlib.sha256(), hashlib.sha256()
            cipher = Cipher(algorithms.AES256(order.key), modes.CBC(order.iv)).encryptor()
            padder = padding.PKCS7(128).padder()
            with path.open("wb") as target:
                for chunk in _chunks(source, size):
                    plain.update(chunk)
                    piece = cipher.update(padder.update(chunk))
                    encrypted.update(piece)
                    target.write(piece)
                piece = cipher.update(padder.finalize()) + cipher.finalize()
                encrypted.update(piece)
                target.write(piece)
            yield _Part(name, size, _encoded(plain), path.stat().st_size, _encoded(encrypted))


def _chunks(source: io.BufferedReader, size: int) -> Iterator[bytes]:
    while size:
        chunk = source.read(min(size, _CHUNK))
        size -= len(chunk)
        yield chunk


def _encoded(digest: hashlib._Hash) -> str:
    return b64encode(digest.digest()).decode()


def _finish(world: World, reference: str, built: _Built, at: datetime | None, *, failed: bool) -> None:
    row = world.store.one("SELECT due_at, code, date_type, truncated FROM exports WHERE reference = ?", reference)
    if row is None:
        return
    due = restored(row["due_at"])
    world.store.run(
        "UPDATE exports SET ready_at = ?, code = ?, count = ?, size = ?, truncated = ?, last_date = ?, chosen = '[]'"
        " WHERE reference = ?",
        stored(due if at is None else max(due, at)),
        500 if failed else row["code"],
        built.count,
        sum(part.size for part in built.parts),
        built.truncated or bool(row["truncated"]),
        _last_date(world, row["date_type"], built.last),
        reference,
    )
    for ordinal, part in enumerate(built.parts, 1):
        world.store.run(
            "INSERT INTO export_parts VALUES (?, ?, ?, ?, ?, ?, ?)",
            reference,
            ordinal,
            part.name,
            part.size,
            part.sha256,
            part.encrypted_size,
            part.encrypted_sha256,
        )


def _last_date(world: World, date_type: str, seq: int | None) -> str | None:
    """The date of the last invoice packed, from which a truncated export is to be continued."""
    row = world.store.one("SELECT permanent_at, invoicing_at, issued_at FROM repository WHERE seq = ?", seq)
    if row is None:
        return None
    if date_type == "Issue":
        return as_datetime(row["issued_at"]).astimezone(WARSAW).date().isoformat()
    return written(row["permanent_at"] if date_type == PERMANENT else row["invoicing_at"])
