"""A ZIP archive written as a stream into a file: its size does not show in memory, however many entries it has.

The list of entries that ends a ZIP is kept in a file as well until then. The same entries give the same bytes. Zip64
where it must be; names in UTF-8. Source: PKWARE's APPNOTE 6.3.10, §4.3, §4.4, §4.5.3.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from datetime import date
from typing import IO

_LEVEL = 6
_OLD, _ZIP64 = 20, 45
_UNIX = 3 << 8
_UTF8 = 0x0800
_DEFLATED = 8
_PLAIN_FILE = 0o100644 << 16
_MAX_32 = 0xFFFF_FFFF
_MAX_16 = 0xFFFF
_CHUNK = 1 << 20


class ZipArchive:
    """``out`` takes the archive and must be seekable; ``entries`` is an empty file for its own use."""

    def __init__(self, out: IO[bytes], entries: IO[bytes]) -> None:
        self._out = out
        self._entries = entries
        self._count = 0

    def add(self, name: str, content: bytes, day: date | None) -> None:
        """An entry of at most 4 GB, dated that day at midnight."""
        self.add_stream(name, (content,), day)

    def add_stream(self, name: str, chunks: Iterable[bytes], day: date | None) -> None:
        """As ``add``, of a content that need not be in memory."""
        raw_name = name.encode()
        start = self._out.tell()
        self._out.write(b"PK\x03\x04" + _common(raw_name, day, 0, 0, 0) + raw_name)
        squeeze = zlib.compressobj(_LEVEL, zlib.DEFLATED, -15)
        checksum = size = squeezed = 0
        for chunk in chunks:
            checksum = zlib.crc32(chunk, checksum)
            size += len(chunk)
            squeezed += self._out.write(squeeze.compress(chunk))
        squeezed += self._out.write(squeeze.flush())
        if max(size, squeezed) >= _MAX_32:
            raise ValueError("an entry of more than 4 GB")
        # The figures stand before the content, not behind it, which not every reader knows.
        end = self._out.tell()
        common = _common(raw_name, day, checksum, squeezed, size)
        self._out.seek(start + 4)
        self._out.write(common)
        self._out.seek(end)
        self._list(raw_name, day, (checksum, squeezed, size), start)

    def _list(self, raw_name: bytes, day: date | None, figures: tuple[int, int, int], start: int) -> None:
        far = start >= _MAX_32
        extra = struct.pack("<HHQ", 1, 8, start) if far else b""
        common = _common(raw_name, day, *figures, extra=len(extra), version=_ZIP64 if far else _OLD)
        place = struct.pack("<3H2I", 0, 0, 0, _PLAIN_FILE, _MAX_32 if far else start)
        made_by = struct.pack("<H", _UNIX | _ZIP64)
        self._entries.write(b"".join((b"PK\x01\x02", made_by, common, place, raw_name, extra)))
        self._count += 1

    def finish(self) -> None:
        """Ends the archive; the file is still to be made durable."""
        start = self._out.tell()
        size = self._entries.tell()
        self._entries.seek(0)
        while chunk := self._entries.read(_CHUNK):
            self._out.write(chunk)
        if self._count >= _MAX_16 or start >= _MAX_32 or size >= _MAX_32:
            end64 = self._out.tell()
            version = (_UNIX | _ZIP64, _ZIP64)
            self._out.write(
                b"PK\x06\x06"
                + struct.pack("<Q2H2I4Q", 44, *version, 0, 0, self._count, self._count, size, start)
                + struct.pack("<4sIQI", b"PK\x06\x07", 0, end64, 1)
            )
        count = min(self._count, _MAX_16)
        self._out.write(
            b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, count, count, min(size, _MAX_32), min(start, _MAX_32), 0)
        )


def _common(
    raw_name: bytes, day: date | None, checksum: int, squeezed: int, size: int, *, extra: int = 0, version: int = _OLD
) -> bytes:
    """What an entry's own header and its line in the list have in common."""
    figures = (checksum, squeezed, size, len(raw_name), extra)
    return struct.pack("<5H3I2H", version, _UTF8, _DEFLATED, 0, _dos_day(day), *figures)


def _dos_day(day: date | None) -> int:
    known = day if day is not None and 1980 <= day.year <= 2107 else date(1980, 1, 1)
    return (known.year - 1980) << 9 | known.month << 5 | known.day
