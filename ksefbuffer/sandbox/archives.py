"""Reading what was packed: Zip and TarGz, flat, bounded in memory and in what they may unfold to.

The tar is read by hand: its blocks are simple, and a reader of our own tells a torn archive from a finished one.
Source: FACTS §5 (1), §16 (12).
"""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

MOST_FILES = 10_000
MOST_IN_FILE = 10_000_000
"""Bytes of one unpacked file; from 3,000,000 on it is the invoice that is refused, not the package."""

_NAME_LENGTH = 128
_MOST_EXTRA = 65_536
_MOST_DIRECTORY = 16_000_000
_ALWAYS_ALLOWED = 1_000_000_000
_MOST_RATIO = 100
_BLOCK = 512


class Unusable(Exception):
    """The package cannot be used; ``code`` is the session's status, ``details`` are sentences (Polish)."""

    def __init__(self, code: int, *details: str) -> None:
        super().__init__(code)
        self.code = code
        self.details = list(details)


def files_in(archive: Path, compression: str) -> Iterator[tuple[str, bytes]]:
    """Names and contents in the archive's order. ``compression``: Zip or TarGz. Raises Unusable: 420 for more than
    10,000 files, 430 for what cannot be read or is not a flat collection of XML files with different names."""
    most = max(_ALWAYS_ALLOWED, archive.stat().st_size * _MOST_RATIO)
    seen: set[str] = set()
    try:
        for name, content in _zipped(archive) if compression == "Zip" else _tarred(archive, most):
            _check_name(name, seen)
            seen.add(name)
            if len(seen) > MOST_FILES:
                raise _too_many()
            most -= len(content)
            if most < 0:
                raise Unusable(430, "Archiwum rozpakowuje się do zbyt dużych plików.")
            yield name, content
    except (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError, ValueError):
        raise Unusable(430, "Archiwum jest uszkodzone.") from None


def _too_many() -> Unusable:
    return Unusable(420, f"Paczka zawiera więcej niż {MOST_FILES} faktur.")


def _check_name(name: str, seen: set[str]) -> None:
    if "/" in name or "\\" in name:
        raise Unusable(430, "Archiwum zawiera katalogi; pliki faktur muszą leżeć bezpośrednio w nim.")
    if not name.lower().endswith(".xml") or len(name) > _NAME_LENGTH:
        raise Unusable(430, f"Archiwum zawiera plik inny niż *.xml albo o nazwie dłuższej niż {_NAME_LENGTH} znaków.")
    if name in seen:
        raise Unusable(430, "Archiwum zawiera dwa pliki o tej samej nazwie.")


def _zipped(archive: Path) -> Iterator[tuple[str, bytes]]:
    with archive.open("rb") as file:
        _check_directory(file)
        with zipfile.ZipFile(file) as packed:
            for entry in packed.infolist():
                if entry.flag_bits & 1 or entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                    raise Unusable(430, "Archiwum jest zaszyfrowane albo spakowane nieobsługiwaną metodą.")
                if entry.file_size > MOST_IN_FILE:
                    raise Unusable(430, "Archiwum zawiera zbyt duży plik.")
                # The library gives no more than the size announced, and checks the sum at its end.
                yield entry.filename, packed.read(entry)


def _check_directory(file: BinaryIO) -> None:
    """The library reads the whole central directory into memory; refuses one too large before that."""
    size = file.seek(0, 2)
    start = max(0, size - 65_557 - 20)
    file.seek(start)
    tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) - end < 22:
        raise Unusable(430, "Archiwum nie jest plikiem ZIP.")
    entries = int.from_bytes(tail[end + 10 : end + 12], "little")
    length = int.from_bytes(tail[end + 12 : end + 16], "little")
    if end >= 20 and tail[end - 20 : end - 16] == b"PK\x06\x07":
        file.seek(min(size, int.from_bytes(tail[end - 12 : end - 4], "little")))
        record = file.read(56)
        entries, length = int.from_bytes(record[32:40], "little"), int.from_bytes(record[40:48], "little")
    if entries > MOST_FILES:
        raise _too_many()
    if length > _MOST_DIRECTORY:
        raise Unusable(430, "Spis archiwum jest zbyt duży.")
    file.seek(0)


def _tarred(archive: Path, most: int) -> Iterator[tuple[str, bytes]]:
    # Counts everything that unfolds, not only contents: headers and padding compress best of all.
    with gzip.open(archive) as opened:
        stream = cast("BinaryIO", opened)
        left = most
        announced: dict[str, str] = {}
        while True:
            head = _exactly(stream, _BLOCK)
            if not any(head):
                _check_rest(stream, left)
                return
            kind, size = _read_head(head)
            size = int(announced.get("size", size))
            padded = -(-size // _BLOCK) * _BLOCK
            left -= _BLOCK + padded
            if left < 0 or size < 0:
                raise Unusable(430, "Archiwum rozpakowuje się do zbyt dużych plików.")
            if kind in b"xgL":
                if size > _MOST_EXTRA:
                    raise Unusable(430, "Nagłówek w archiwum jest zbyt duży.")
                extra = _exactly(stream, padded)[:size]
                if kind == b"x":
                    announced |= _pax(extra)
                elif kind == b"L":
                    announced["path"] = extra.rstrip(b"\0").decode()
                continue
            if kind not in b"0\0" or size > MOST_IN_FILE:
                raise Unusable(430, "Archiwum zawiera katalog, dowiązanie albo zbyt duży plik.")
            yield announced.get("path") or _name(head), _exactly(stream, padded)[:size]
            announced = {}


def _exactly(stream: BinaryIO, size: int) -> bytes:
    content = stream.read(size)
    if len(content) != size:
        raise Unusable(430, "Archiwum jest ucięte.")
    return content


def _read_head(head: bytes) -> tuple[bytes, int]:
    """Type and size. Raises Unusable when the sum of the block does not hold."""
    total = sum(head[:148]) + 8 * 32 + sum(head[156:])
    if total != int(head[148:156].rstrip(b"\0 ").strip() or b"0", 8):
        raise Unusable(430, "Suma kontrolna nagłówka w archiwum nie zgadza się.")
    field = head[124:136]
    size = int.from_bytes(field[1:], "big") if field[0] & 0x80 else int(field.strip(b"\0 ") or b"0", 8)
    return head[156:157], size


def _name(head: bytes) -> str:
    name = head[:100].split(b"\0")[0].decode()
    prefix = head[345:500].split(b"\0")[0].decode() if head[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _pax(extra: bytes) -> dict[str, str]:
    """Records ``length key=value\\n``; only what matters to us."""
    found: dict[str, str] = {}
    while extra:
        length = int(extra.split(b" ", 1)[0])
        if not 0 < length <= len(extra):
            raise Unusable(430, "Nagłówek w archiwum jest uszkodzony.")
        key, _, value = extra[:length].split(b" ", 1)[1].rstrip(b"\n").partition(b"=")
        if key in {b"path", b"size"}:
            found[key.decode()] = value.decode()
        extra = extra[length:]
    return found


def _check_rest(stream: BinaryIO, left: int) -> None:
    """After the mark of the end only zeros may follow; reading them also checks the sum of the whole file."""
    while chunk := stream.read(1_000_000):
        left -= len(chunk)
        if left < 0 or any(chunk):
            raise Unusable(430, "Za końcem archiwum są dalsze dane.")
