"""Tar.gz and Zip archives that lie in several files, read as streams. Pure but for reading those files.

Nothing is ever written, so no name in an archive can lead anywhere. Tar is read here and not by ``tarfile``, which
takes an archive cut short for one that ended, and reads headers of any length into memory.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import IO

# Guards against archives that unpack to more than anybody has room for.
MAX_BYTES = 20_000_000_000
MAX_ENTRIES = 100_000

_CHUNK = 256 * 1024
_TAR_BLOCK = 512
_TAR_END = bytes(_TAR_BLOCK)
_MAX_TAR_HEADER = 1_000_000
_TAR_FILES = frozenset({b"0", b"\0", b"7"})
# Links, devices and folders: their size, if any, is of nothing that follows.
_TAR_WITHOUT_DATA = frozenset({b"1", b"2", b"3", b"4", b"5", b"6"})
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ZIP_ENCRYPTED = 1
# What zipfile raises for damage, depending on where the damage is.
_ZIP_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    IndexError,
    OverflowError,
)


class Damaged(ValueError):
    """The archive is damaged, cut short, or larger than any honest one."""


@dataclass(frozen=True)
class Entry:
    """A file in an archive. ``content`` gives its bytes, or None when they are more than allowed, or not to be read at
    all (a link, encrypted); only valid until the next entry. Raises Damaged."""

    name: str
    content: Callable[[int], bytes | None]


def entries(files: Sequence[Path], compression: str) -> Iterator[Entry]:
    """Every entry of the archive that ``files`` make up one after another, "./" taken off its name.

    ``compression`` is "TarGz" or "Zip", "" to find out. Raises Damaged, for a cut at the latest at the end; OSError.
    """
    with ExitStack() as opened:
        whole = opened.enter_context(io.BufferedReader(_Joined(files, opened), _CHUNK))
        zipped = compression == "Zip" or (not compression and whole.peek(2)[:2] == b"PK")
        found = opened.enter_context(closing(_zip_entries(whole) if zipped else _tar_entries(_Inflated(whole))))
        for count, entry in enumerate(found, 1):
            if count > MAX_ENTRIES:
                raise Damaged("za dużo plików")
            yield entry


class _Joined(io.RawIOBase):
    """Files one after another, as if they were one. The files are closed with ``opened``."""

    def __init__(self, paths: Sequence[Path], opened: ExitStack) -> None:
        self._files = [opened.enter_context(path.open("rb", buffering=0)) for path in paths]
        ends = list(accumulate(file.seek(0, io.SEEK_END) for file in self._files))
        self._starts = [0, *ends[:-1]]
        self._size = ends[-1]
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if at < 0:
            raise io.UnsupportedOperation("before the beginning")
        self._at = at
        return at

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        if self._at >= self._size:
            return 0
        index = bisect_right(self._starts, self._at) - 1
        file = self._files[index]
        file.seek(self._at - self._starts[index])
        count = file.readinto(buffer)
        self._at += count
        return count


class _Inflated:
    """A gzip stream's plain bytes, its checksum verified at the end, never much of it in memory."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._inflate = zlib.decompressobj(wbits=31)
        self._held = b""
        self._at = 0
        self._total = 0

    def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes. Raises Damaged when they are not there."""
        if self._at + size <= len(self._held):
            self._at += size
            return self._held[self._at - size : self._at]
        pieces = [self._held[self._at :]]
        missing = size - len(pieces[0])
        while missing > 0:
            if not self._advance():
                raise Damaged("archiwum jest ucięte")
            pieces.append(self._held[:missing])
            self._at = len(pieces[-1])
            missing -= self._at
        return b"".join(pieces)

    def skip(self, size: int) -> None:
        """Leave ``size`` bytes out. Raises Damaged when they are not there."""
        while size > len(self._held) - self._at:
            size -= len(self._held) - self._at
            if not self._advance():
                raise Damaged("archiwum jest ucięte")
        self._at += size

    def only_zeros_remain(self) -> bool:
        """Whether nothing more is said up to the end, which is read."""
        rest = self._held[self._at :]
        while not rest.strip(b"\0"):
            if not self._advance():
                return True
            rest = self._held
        return False

    def _advance(self) -> bool:
        """Replace what is held by what follows; False at the end."""
        self._held, self._at = self._more(), 0
        self._total += len(self._held)
        if self._total > MAX_BYTES:
            raise Damaged("archiwum jest po rozpakowaniu za duże")
        return bool(self._held)

    def _more(self) -> bytes:
        try:
            while True:
                if self._inflate.eof:
                    # Gzip streams may follow one another, or be filled up with zeros.
                    rest = self._inflate.unused_data.lstrip(b"\0")
                    while not rest:
                        data = self._source.read(_CHUNK)
                        if not data:
                            return b""
                        rest = data.lstrip(b"\0")
                    self._inflate = zlib.decompressobj(wbits=31)
                else:
                    rest = self._inflate.unconsumed_tail or self._source.read(_CHUNK)
                piece = self._inflate.decompress(rest, _CHUNK)
                if piece:
                    return piece
                if not rest and not self._inflate.eof:
                    raise Damaged("archiwum jest ucięte")
        except zlib.error:
            raise Damaged("gzip") from None


def _tar_entries(stream: _Inflated) -> Generator[Entry, None, None]:
    """Files of a tar archive in any of its dialects. Ends only at the archive's own end mark."""
    told: dict[str, str] = {}
    headers = 0
    while (header := stream.read(_TAR_BLOCK)) != _TAR_END:
        size = _tar_number(header[124:136])
        if sum(header) - sum(header[148:156]) + 8 * 0x20 != _tar_number(header[148:156]):
            raise Damaged("nagłówek tar")
        kind = header[156:157]
        if kind in (b"x", b"g", b"L", b"K"):
            headers += 1
            if size > _MAX_TAR_HEADER or headers > MAX_ENTRIES:
                raise Damaged("nagłówek tar")
            extension = stream.read(size)
            stream.skip(-size % _TAR_BLOCK)
            if kind == b"x":
                told.update(_pax(extension))
            elif kind == b"L":
                told["path"] = _tar_text(extension)
            continue
        if "size" in told:
            size = _decimal(told["size"])
        name = (told.get("path") or _tar_name(header)).removeprefix("./")
        told = {}
        if kind not in _TAR_FILES:
            yield Entry(name, _not_to_be_read)
            stream.skip(0 if kind in _TAR_WITHOUT_DATA else size + -size % _TAR_BLOCK)
            continue
        file = _TarFile(stream, size)
        yield Entry(name, file.content)
        file.leave()
    if not stream.only_zeros_remain():
        raise Damaged("dane za końcem archiwum")


def _not_to_be_read(most: int) -> None:
    return None


class _TarFile:
    def __init__(self, stream: _Inflated, size: int) -> None:
        self._stream = stream
        self._size = size
        self._taken = False

    def content(self, most: int) -> bytes | None:
        if self._size > most:
            return None
        self._taken = True
        return self._stream.read(self._size)

    def leave(self) -> None:
        self._stream.skip((0 if self._taken else self._size) + -self._size % _TAR_BLOCK)


def _tar_number(raw: bytes) -> int:
    if raw[0] == 0x80:
        return int.from_bytes(raw[1:], "big")
    try:
        return _natural(int(raw.split(b"\0", 1)[0].strip() or b"0", 8))
    except ValueError:
        raise Damaged("nagłówek tar") from None


def _decimal(text: str) -> int:
    try:
        return _natural(int(text))
    except ValueError:
        raise Damaged("nagłówek tar") from None


def _natural(number: int) -> int:
    if number < 0:
        raise ValueError("negative")
    return number


def _tar_text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace")


def _tar_name(header: bytes) -> str:
    name = _tar_text(header[:100])
    prefix = _tar_text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _pax(extension: bytes) -> Iterator[tuple[str, str]]:
    """The records "length key=value\\n" of an extended header."""
    at = 0
    while at < len(extension) and extension[at]:
        space = extension.find(b" ", at, at + 10)
        try:
            end = at + int(extension[at:space])
        except ValueError:
            end = at
        key, equals, value = extension[space + 1 : end - 1].partition(b"=")
        if not space < end <= len(extension) or not equals or extension[end - 1 : end] != b"\n":
            raise Damaged("nagłówek tar")
        yield key.decode("utf-8", "replace"), value.decode("utf-8", "replace")
        at = end


def _zip_entries(file: IO[bytes]) -> Generator[Entry, None, None]:
    """Files of a Zip archive."""
    unpacked = 0
    try:
        archive = zipfile.ZipFile(file)
    except _ZIP_DAMAGE as fault:
        raise Damaged(type(fault).__name__) from None
    with archive:
        for info in archive.infolist():
            unpacked += info.file_size
            if unpacked > MAX_BYTES:
                raise Damaged("archiwum jest po rozpakowaniu za duże")
            yield Entry(info.filename.removeprefix("./"), _ZipFile(archive, info).content)


@dataclass(frozen=True)
class _ZipFile:
    archive: zipfile.ZipFile
    info: zipfile.ZipInfo

    def content(self, most: int) -> bytes | None:
        if self.info.file_size > most or self.info.is_dir() or self.info.flag_bits & _ZIP_ENCRYPTED:
            return None
        if self.info.compress_type not in _ZIP_METHODS:
            return None
        try:
            with self.archive.open(self.info) as file:
                # Asked for all, zipfile unpacks as much as there is and only then cuts it to the size declared; asked
                # for nothing, it compares no checksum.
                content = file.read(self.info.file_size + 1)
        except _ZIP_DAMAGE as fault:
            raise Damaged(type(fault).__name__) from None
        if len(content) != self.info.file_size:
            raise Damaged("archiwum jest ucięte")
        return content
