"""Reading what an export brought: one archive of invoices and their metadata, cut into parts. No HTTP, no database.

Everything is streamed, parts → archive → one invoice at a time. Source: FACTS §7.2 (package), §16.12 (names inside are
not settled).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from ksefbuffer.errors import OutcomeUnknown
from ksefbuffer.invoice.identifiers import is_ksef_number_shape
from ksefbuffer.ksef import reading
from ksefbuffer.ksef.failures import read_json
from ksefbuffer.ksef.shapes import InvoiceMetadata
from ksefbuffer.ksef.unpacking import Damaged, entries

METADATA_NAME = "_metadata.json"

# An invoice has 3 MB at most, an entry of the metadata some kilobytes; these are guards of our memory.
MAX_ENTRY_BYTES = 20_000_000
MAX_METADATA_BYTES = 200_000_000
MAX_STRANGE = 1000


class Wrong(StrEnum):
    """What was wrong with a part, or with the archive that the parts make up."""

    PAGE = "page"
    ENCRYPTED_SIZE = "encrypted_size"
    ENCRYPTED_HASH = "encrypted_hash"
    KEY = "key"
    SIZE = "size"
    HASH = "hash"
    ARCHIVE = "archive"


_SAID = {
    Wrong.PAGE: "Zamiast części paczki przyszła strona HTML, zapewne od zapory przed KSeF.",
    Wrong.ENCRYPTED_SIZE: "Pobrana część paczki ma inny rozmiar, niż podał KSeF.",
    Wrong.ENCRYPTED_HASH: "Pobrana część paczki ma inny skrót SHA-256, niż podał KSeF.",
    Wrong.KEY: "Części paczki nie można odszyfrować kluczem tego eksportu.",
    Wrong.SIZE: "Odszyfrowana część paczki ma inny rozmiar, niż podał KSeF.",
    Wrong.HASH: "Odszyfrowana część paczki ma inny skrót SHA-256, niż podał KSeF.",
    Wrong.ARCHIVE: "Paczka faktur z KSeF jest uszkodzona lub ucięta.",
}


class WrongBytes(OutcomeUnknown):
    """KSeF's package is not what it should be; ``wrong`` says what. Nothing of it is to be believed: fetch the part
    again, then start another export; the cursor stays."""

    def __init__(self, wrong: Wrong, *details: str) -> None:
        super().__init__(
            _SAID[wrong],
            action="Bufor pobierze ją ponownie albo zleci nowy eksport; nie trzeba nic robić.",
            operation="fetch_part",
            details=details,
        )
        self.wrong = wrong


def open_package(parts: Sequence[Path], compression: str) -> Package:
    """The package made up by decrypted ``parts``, in order. The files must stay as long as it is read; nothing needs
    closing.

    ``compression`` is "TarGz" or "Zip", "" to find out. Reads up to the metadata, wherever it is. Raises WrongBytes for
    an archive that is damaged, cut short, or unpacks to more than 20 GB; OSError.
    """
    if not parts:
        raise ValueError("a package has at least one part")
    return Package(parts, compression)


class Package:
    """``metadata`` is by KSeF number, empty when the package has none. ``strange`` names what is neither an invoice nor
    metadata, is too large, or comes twice; it is complete once ``invoices`` ended."""

    def __init__(self, parts: Sequence[Path], compression: str) -> None:
        self._parts = tuple(parts)
        self._compression = compression
        self._strange: dict[str, None] = {}
        self.metadata: Mapping[str, InvoiceMetadata] = self._read_metadata()

    @property
    def strange(self) -> list[str]:
        return list(self._strange)

    def invoices(self) -> Iterator[tuple[str, bytes]]:
        """Every invoice, its KSeF number and its bytes, unverified: compare their hash with the metadata's. Each number
        is given once. Raises WrongBytes when the archive is damaged or cut short, at the latest at its end; OSError."""
        seen: set[str] = set()
        with _damage_named():
            for entry in entries(self._parts, self._compression):
                number = entry.name.removesuffix(".xml")
                fit = number != entry.name and is_ksef_number_shape(number) and number not in seen
                content = entry.content(MAX_ENTRY_BYTES) if fit else None
                if content is not None:
                    seen.add(number)
                    yield number, content
                elif entry.name != METADATA_NAME:
                    self._note(entry.name)

    def _read_metadata(self) -> dict[str, InvoiceMetadata]:
        with _damage_named():
            for entry in entries(self._parts, self._compression):
                if entry.name == METADATA_NAME:
                    content = entry.content(MAX_METADATA_BYTES)
                    if content is None:
                        raise Damaged(METADATA_NAME)
                    return self._listed(content)
        return {}

    def _listed(self, content: bytes) -> dict[str, InvoiceMetadata]:
        try:
            listing = reading.items(reading.mapping(read_json(content)).get("invoices"))
        except ValueError:
            raise Damaged(METADATA_NAME) from None
        listed: dict[str, InvoiceMetadata] = {}
        for index, value in enumerate(listing):
            try:
                entry = reading.invoice_metadata(value)
            except ValueError:
                self._note(f"{METADATA_NAME}[{index}]")
            else:
                listed[entry.ksef_number] = entry
        return listed

    def _note(self, name: str) -> None:
        if len(self._strange) < MAX_STRANGE:
            self._strange["".join(sign if sign.isprintable() else "?" for sign in name[:200])] = None


@contextmanager
def _damage_named() -> Iterator[None]:
    try:
        yield
    except Damaged as fault:
        raise WrongBytes(Wrong.ARCHIVE, str(fault)) from None
