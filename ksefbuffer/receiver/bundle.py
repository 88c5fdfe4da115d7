"""Received invoices of a selection in one ZIP, with a list of them for a spreadsheet.

Memory stays flat however many there are, and the file is there whole or not at all.
"""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import IO
from zoneinfo import ZoneInfo

from ksefbuffer.queue import incoming
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.incoming import Incoming, Wanted
from ksefbuffer.receiver.filenames import ENDING, file_stem, folder_parts
from ksefbuffer.receiver.ziparchive import ZipArchive

LIST_NAME = "spis.csv"
HEADINGS = (
    "Numer KSeF",
    "Numer faktury",
    "Rodzaj",
    "Data wystawienia",
    "Data przyjęcia w KSeF",
    "NIP sprzedawcy",
    "Sprzedawca",
    "Kwota brutto",
    "Waluta",
    "Katalog",
    "Etykiety",
    "Ocena",
    "Decyzja",
    "Komentarz",
    "Plik",
)

_DECISIONS = {"accepted": "przyjęta", "rejected": "odrzucona", "scam": "oszustwo"}
_WARSAW = ZoneInfo("Europe/Warsaw")
_KEYS_AT_ONCE = 500
_BYTES_AT_ONCE = 16_000_000
_CHUNK = 1 << 20
_RISKY = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


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
    # A spreadsheet takes the list for UTF-8 only by this mark.
    listed.write("\ufeff".encode())
    listed.write(_line(HEADINGS))
    for some in _slices(database, wanted, last):
        with database.reading() as tx:
            contents = incoming.contents(tx, [one.id for one in some])
        for one in some:
            name = _name(one)
            archive.add(name, contents[one.id], one.issue_date)
            listed.write(_line(row_of(one, name)))
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


def row_of(one: Incoming, name: str) -> tuple[str, ...]:
    """The line of an invoice, in the order of HEADINGS, safe to be opened in a spreadsheet."""
    return (
        as_text(one.ksef_number),
        as_text(one.invoice_number),
        as_text(one.invoice_type),
        one.issue_date.isoformat() if one.issue_date else "",
        _moment(one.acquired_at),
        as_text(one.seller_nip),
        as_text(one.seller_name),
        _amount(one.gross),
        as_text(one.currency),
        as_text(one.folder),
        as_text(", ".join(one.tags)),
        one.verdict,
        _DECISIONS.get(one.decision or "", ""),
        as_text(one.comment or ""),
        as_text(name),
    )


def as_text(text: str) -> str:
    """A cell that no spreadsheet takes for a formula, whatever a seller wrote."""
    text = text.replace("\0", "")
    return f"'{text}" if text.startswith(_RISKY) or text.lstrip().startswith(_RISKY) else text


def _amount(amount: Decimal | None) -> str:
    return "" if amount is None else f"{amount:.2f}".replace(".", ",")


def _moment(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone(_WARSAW).strftime("%Y-%m-%d %H:%M:%S")


def _line(cells: Sequence[str]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=";", lineterminator="\r\n").writerow(cells)
    return text.getvalue().encode("utf-8", "replace")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
