"""Received invoices of a selection in one ZIP, with a list of them for a spreadsheet.

Memory stays flat however many there are, and the file is there whole or not at all.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from ksefbuffer.queue import incoming
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.incoming import Incoming, Wanted
from ksefbuffer.queue.spreadsheet import HEADINGS, LIST_NAME, MARK, as_text, line, row_of
from ksefbuffer.receiver.filenames import ENDING, file_stem, folder_parts
from ksefbuffer.receiver.ziparchive import ZipArchive

__all__ = ["HEADINGS", "LIST_NAME", "as_text", "row_of", "write_bundle"]

_KEYS_AT_ONCE = 500
_BYTES_AT_ONCE = 16_000_000
_CHUNK = 1 << 20


def write_bundle(
    database: Database, wanted: Wanted, path: Path, *, progress: Callable[[int, int], None] | None = None
) -> int:
    """Writes the ZIP: every invoice as its XML under its folder and name, and ``spis.csv``. Returns how many.

    ``progress`` is told how many are done, and of how many. What arrives meanwhile is not in it. A file at ``path`` is
    replaced, once the new one is whole; the same invoices give the same bytes. Raises OSError, StorageFault.
    """
    with database.reading() as tx:
        newest = incoming.listing(tx, limit=1)
        total = incoming.count(tx, wanted)
    last = newest[0].id if newest else 0
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name[:80]}-", suffix=".part", dir=path.parent)
    try:
        with (
            os.fdopen(descriptor, "w+b") as out,
            tempfile.TemporaryFile(dir=path.parent) as entries,
            tempfile.TemporaryFile(dir=path.parent) as listed,
        ):
            count = _fill(database, wanted, last, ZipArchive(out, entries), listed, progress or _silent, total)
            out.flush()
            os.fsync(out.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync(path.parent)
    return count


def _silent(_done: int, _total: int) -> None:
    return


def _fill(
    database: Database,
    wanted: Wanted,
    last: int,
    archive: ZipArchive,
    listed: IO[bytes],
    progress: Callable[[int, int], None],
    total: int,
) -> int:
    count = 0
    listed.write(MARK)
    listed.write(line(HEADINGS))
    for some in _slices(database, wanted, last):
        with database.reading() as tx:
            contents = incoming.contents(tx, [one.id for one in some])
        for one in some:
            name = _name(one)
            archive.add(name, contents[one.id], one.issue_date)
            listed.write(line(row_of(one, name)))
        count += len(some)
        progress(count, max(count, total))
    listed.seek(0)
    archive.add_stream(LIST_NAME, iter(lambda: listed.read(_CHUNK), b""), None)
    archive.finish()
    return count


def _slices(database: Database, wanted: Wanted, last: int) -> Iterator[list[Incoming]]:
    """The selection up to the key ``last``, so many at a time as memory takes with their bytes."""
    after = 0
    while True:
        with database.reading() as tx:
            keys = [key for key in incoming.keys_of(tx, wanted, after=after, limit=_KEYS_AT_ONCE) if key <= last]
            found = incoming.some(tx, keys)
        if not keys:
            return
        after = keys[-1]
        here: list[Incoming] = []
        size = 0
        for one in found:
            if here and size + one.size > _BYTES_AT_ONCE:
                yield here
                here, size = [], 0
            here.append(one)
            size += one.size
        if here:
            yield here


def _name(one: Incoming) -> str:
    stem = file_stem(one.issue_date, one.seller_nip, one.invoice_number, one.ksef_number)
    return "/".join((*folder_parts(one.folder), stem + ENDING))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
