"""Building batch packages: one archive of invoices, split, each part encrypted by itself. No HTTP, no database.

Everything is streamed, invoice → archive → parts on disk: the memory needed does not depend on the package's size, and
the plain archive is written nowhere. Source: FACTS §5 (archive, limits), §3.2 (split first, then encrypt).
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tarfile import RECORDSIZE, USTAR_FORMAT, TarInfo
from types import MappingProxyType
from typing import IO, Literal, Protocol

from ksefbuffer.errors import BufferFault
from ksefbuffer.ksef.crypto import Sealing, b64
from ksefbuffer.ksef.shapes import SessionKey

Compression = Literal["TarGz", "Zip"]

PART_BYTES = 100_000_000
MAX_PARTS = 50
MAX_BYTES = 5_000_000_000
MAX_INVOICES = 10_000

_LEVEL = 6
# zlib holds back one unfinished block: 16,383 symbols of 6 bytes at worst, and a little input it has not looked at.
_HELD_BACK = 128 * 1024
_TAR_BLOCK = 512
# tarfile's header, of which only name (100 bytes), size (12 bytes at 124) and checksum (8 bytes at 148) vary: filling
# them in by hand is ten times as fast.
_TAR_HEADER = TarInfo("").tobuf(USTAR_FORMAT)
_TAR_SUM = sum(_TAR_HEADER[:124]) + sum(_TAR_HEADER[136:148]) + sum(b" " * 8) + sum(_TAR_HEADER[156:])
# Beyond this an archive would have to be Zip64, which KSeF has had trouble with (FACTS §5, status 430).
_ZIP_BYTES = 0xFFFF_FFFF
_ZIP_ENTRIES = 0xFFFF
_ZIP_VERSION = 20
_ZIP_DEFLATED = 8
_ZIP_DAY = (1 << 5) | 1  # 1980-01-01


@dataclass(frozen=True)
class Part:
    """One encrypted part on disk. ``ordinal`` counts from 1; ``size`` (bytes) and ``sha256_b64`` are those of the
    encrypted file at ``path``; ``plain_size`` is what was in it."""

    ordinal: int
    path: Path
    plain_size: int
    size: int
    sha256_b64: str


@dataclass(frozen=True)
class Package:
    """A package ready for ``Ksef.open_batch``. ``plain_size`` and ``plain_sha256_b64`` are those of the whole archive
    before splitting and encryption; ``names`` gives each entry's SHA-256 in hex, in the order of the archive."""

    compression: Compression
    plain_size: int
    plain_sha256_b64: str
    parts: tuple[Part, ...]
    names: Mapping[str, str] = field(repr=False)
    key: SessionKey = field(repr=False)

    def discard(self) -> None:
        """Remove the parts from the disk."""
        for part in self.parts:
            part.path.unlink(missing_ok=True)


class PackageTooLarge(BufferFault):
    """The invoices do not fit in one package; the first ``fitted`` of them do, in the same order."""

    def __init__(self, fitted: int) -> None:
        super().__init__(
            f"Faktury nie mieszczą się w jednej paczce; mieści się pierwszych {fitted}.",
            action="Bufor podzieli je na kolejne paczki sam.",
        )
        self.fitted = fitted


def build_package(
    invoices: Iterable[tuple[str, bytes]],
    folder: Path,
    key: SessionKey,
    *,
    compression: Compression = "TarGz",
    part_bytes: int = PART_BYTES,
    max_parts: int = MAX_PARTS,
    max_bytes: int = MAX_BYTES,
    max_invoices: int = MAX_INVOICES,
) -> Package:
    """Pack ``invoices`` (SHA-256 in hex, exact XML bytes), taken one at a time, into encrypted parts in ``folder``.

    ``part_bytes`` and ``max_bytes`` count plain archive bytes. The same invoices give the same plain archive. The
    folder is made if missing and must not hold another package. On any failure the files made are removed again.
    Raises PackageTooLarge; ValueError for no invoices, or content that is not what its hash says; OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = _Parts(folder, key, part_bytes)
    capacity = min(max_bytes, max_parts * part_bytes)
    archive: _Archive = _TarGz(parts.write, capacity) if compression == "TarGz" else _Zip(parts.write, capacity)
    names: dict[str, str] = {}
    try:
        for sha256_hex, content in invoices:
            if hashlib.sha256(content).hexdigest() != sha256_hex:
                # Results are matched by hash, so an invoice under a wrong one could never be found again.
                raise ValueError("an invoice is not what its hash says")
            name = _name(sha256_hex, names)
            if len(names) >= max_invoices or not archive.add(name, content):
                raise PackageTooLarge(len(names))
            names[name] = sha256_hex
        if not names:
            raise ValueError("no invoices to pack")
        archive.finish()
        parts.finish()
    except BaseException:
        parts.remove()
        raise
    return Package(
        compression=compression,
        plain_size=parts.plain_size,
        plain_sha256_b64=b64(parts.digest()),
        parts=tuple(parts.done),
        names=MappingProxyType(names),
        key=key,
    )


def _name(sha256_hex: str, taken: Mapping[str, str]) -> str:
    name = f"{sha256_hex}.xml"
    copies = 2
    while name in taken:
        name = f"{sha256_hex}-{copies}.xml"
        copies += 1
    return name


class _Write(Protocol):
    def __call__(self, data: bytes, /) -> None: ...


class _Archive(Protocol):
    """``add`` takes an entry, or says False when the finished archive would be over the capacity."""

    def add(self, name: str, content: bytes) -> bool: ...

    def finish(self) -> None: ...


class _TarGz:
    """A USTAR archive through zlib's own gzip, which writes no time and no name."""

    def __init__(self, write: _Write, capacity: int) -> None:
        self._write = write
        self._capacity = capacity
        self._squeeze = zlib.compressobj(_LEVEL, zlib.DEFLATED, 31)
        self._plain = 0
        self._out = 0

    def add(self, name: str, content: bytes) -> bool:
        block = b"".join((_tar_header(name, len(content)), content, bytes(-len(content) % _TAR_BLOCK)))
        # Far from the capacity no exact figure is needed: the block in work and this entry, were it incompressible.
        if self._out + _HELD_BACK + len(block) + len(block) // 1000 > self._capacity:
            trial = self._squeeze.copy()
            finished = len(trial.compress(block)) + len(trial.compress(self._end(len(block)))) + len(trial.flush())
            if self._out + finished > self._capacity:
                return False
        self._put(self._squeeze.compress(block))
        self._plain += len(block)
        return True

    def finish(self) -> None:
        self._put(self._squeeze.compress(self._end(0)) + self._squeeze.flush())

    def _end(self, more: int) -> bytes:
        """Two empty blocks, and as many as fill the last record, which old readers insist on."""
        size = 2 * _TAR_BLOCK
        return bytes(size + -(self._plain + more + size) % RECORDSIZE)

    def _put(self, data: bytes) -> None:
        if data:
            self._out += len(data)
            self._write(data)


def _tar_header(name: str, size: int) -> bytes:
    raw_name = name.encode("ascii")
    raw_size = b"%011o\0" % size
    checksum = b"%06o\0 " % (_TAR_SUM + sum(raw_name) + sum(raw_size))
    filled = (raw_name.ljust(100, b"\0"), _TAR_HEADER[100:124], raw_size, _TAR_HEADER[136:148], checksum)
    return b"".join((*filled, _TAR_HEADER[156:]))


class _Zip:
    """A plain Zip: sizes in the local headers and no data descriptors, which not every reader of streams knows."""

    def __init__(self, write: _Write, capacity: int) -> None:
        self._write = write
        self._capacity = min(capacity, _ZIP_BYTES)
        self._out = 0
        self._directory = bytearray()
        self._entries = 0

    def add(self, name: str, content: bytes) -> bool:
        squeeze = zlib.compressobj(_LEVEL, zlib.DEFLATED, -15)
        squeezed = squeeze.compress(content) + squeeze.flush()
        raw_name = name.encode("ascii")
        figures = (zlib.crc32(content), len(squeezed), len(content), len(raw_name), 0)
        common = struct.pack("<5H3I2H", _ZIP_VERSION, 0, _ZIP_DEFLATED, 0, _ZIP_DAY, *figures)
        local = b"".join((b"PK\x03\x04", common, raw_name, squeezed))
        central = b"".join(
            (
                b"PK\x01\x02",
                struct.pack("<H", _ZIP_VERSION),
                common,
                struct.pack("<3H2I", 0, 0, 0, 0, self._out),
                raw_name,
            )
        )
        finished = self._out + len(local) + len(self._directory) + len(central) + 22
        if finished > self._capacity or self._entries == _ZIP_ENTRIES - 1:
            return False
        self._write(local)
        self._out += len(local)
        self._directory += central
        self._entries += 1
        return True

    def finish(self) -> None:
        end = struct.pack("<4H2IH", 0, 0, self._entries, self._entries, len(self._directory), self._out, 0)
        self._write(bytes(self._directory) + b"PK\x05\x06" + end)


class _Parts:
    """Cuts a stream of plain bytes into parts and writes each one sealed; ``done`` holds the finished ones."""

    def __init__(self, folder: Path, key: SessionKey, part_bytes: int) -> None:
        self.plain_size = 0
        self.done: list[Part] = []
        self._folder = folder
        self._key = key
        self._part_bytes = part_bytes
        self._whole = hashlib.sha256()
        self._made: list[Path] = []
        self._file: IO[bytes] | None = None
        self._sealing = Sealing(key)
        self._hash = hashlib.sha256()

    def digest(self) -> bytes:
        return self._whole.digest()

    def write(self, data: bytes, /) -> None:
        self._whole.update(data)
        self.plain_size += len(data)
        rest = memoryview(data)
        while rest:
            if self._file is None:
                self._begin()
            taken = rest[: self._part_bytes - self._sealing.plain_size]
            self._put(self._sealing.update(taken))
            rest = rest[len(taken) :]
            if self._sealing.plain_size == self._part_bytes:
                self.finish()

    def finish(self) -> None:
        """End the part in work, if there is one."""
        if self._file is None:
            return
        self._put(self._sealing.finish())
        self._file.close()
        self._file = None
        self.done.append(
            Part(
                ordinal=len(self.done) + 1,
                path=self._made[-1],
                plain_size=self._sealing.plain_size,
                size=self._sealing.size,
                sha256_b64=b64(self._hash.digest()),
            )
        )

    def remove(self) -> None:
        if self._file is not None:
            self._file.close()
        for path in self._made:
            path.unlink(missing_ok=True)

    def _begin(self) -> None:
        path = self._folder / f"part-{len(self.done) + 1:03d}.aes"
        self._file = path.open("xb")
        self._made.append(path)
        self._sealing = Sealing(self._key)
        self._hash = hashlib.sha256()

    def _put(self, sealed: bytes) -> None:
        assert self._file is not None
        self._hash.update(sealed)
        self._file.write(sealed)
