"""Received invoices of a selection as one ZIP, made while it is being sent: neither memory nor disk holds it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Sequence

from ksefbuffer.queue import folders, incoming
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.incoming import Incoming
from ksefbuffer.queue.spreadsheet import HEADINGS, LIST_NAME, MARK, line, row_of
from ksefbuffer.web.filing import archive_name

MOST = 10_000
"""More than this is no matter for a browser: ``ksefbuffer incoming export`` packs any number."""

_AT_ONCE = 20
_FLUSHED_BYTES = 256_000


class _Pipe(io.RawIOBase):
    """What the archive writes, until it is fetched."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.waiting = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        part = bytes(memoryview(data))  # type: ignore[arg-type]
        self._parts.append(part)
        self.waiting += len(part)
        return len(part)

    def fetched(self) -> bytes:
        found, self._parts, self.waiting = b"".join(self._parts), [], 0
        return found


def packed(database: Database, within: Callable[[], tuple[str, ...] | None], keys: Sequence[int]) -> Iterator[bytes]:
    """The ZIP by pieces: each invoice's XML under its folder and name, and ``spis.csv``.

    ``within`` is asked again for each handful, so that a right taken away ends what may be fetched.
    """
    pipe = _Pipe()
    listed = [MARK, line(HEADINGS)]
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for start in range(0, len(keys), _AT_ONCE):
            for one, content in _some(database, within(), keys[start : start + _AT_ONCE]):
                name = archive_name(one)
                archive.writestr(_entry(name, one), content)
                listed.append(line(row_of(one, name)))
                if pipe.waiting >= _FLUSHED_BYTES:
                    yield pipe.fetched()
        archive.writestr(_entry(LIST_NAME, None), b"".join(listed))
    yield pipe.fetched()


def _some(database: Database, within: tuple[str, ...] | None, keys: Sequence[int]) -> Iterator[tuple[Incoming, bytes]]:
    with database.reading() as tx:
        found = folders.in_order(tx, folders.permitted(tx, within, keys))
        contents = incoming.contents(tx, [one.id for one in found])
    for one in found:
        yield one, contents[one.id]


def _entry(name: str, one: Incoming | None) -> zipfile.ZipInfo:
    day = one.issue_date if one is not None and one.issue_date is not None else None
    known = (day.year, day.month, day.day) if day is not None and 1980 <= day.year <= 2107 else (1980, 1, 1)
    entry = zipfile.ZipInfo(name, (*known, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o100644 << 16
    return entry
