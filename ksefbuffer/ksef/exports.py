"""Exports: KSeF gathers invoices into an encrypted package, to be fetched part by part. Source: FACTS §7.2, §15 items
17 to 19.

What the parts hold is read by ``archives.open_package``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ksefbuffer.errors import Refused
from ksefbuffer.ksef import reading
from ksefbuffer.ksef.archives import Wrong, WrongBytes
from ksefbuffer.ksef.calls import Calls, given_reference, quoted
from ksefbuffer.ksef.crypto import Unsealing, new_session_key
from ksefbuffer.ksef.metadata import query_filters
from ksefbuffer.ksef.packages import Compression
from ksefbuffer.ksef.shapes import ExportKey, ExportPart, ExportStatus, Period, Subject
from ksefbuffer.ksef.statuses import EXPORT_BAD_KEY, EXPORT_EXPIRED
from ksefbuffer.ksef.wire import Call, is_page

_HEAD = 512


class ExportCalls(Calls):
    """Having packages of invoices made, and fetching them."""

    def new_export_key(self) -> ExportKey:
        """A fresh key for one export. Its ``secret`` must be stored before ``start_export``, or the package is lost
        with the process."""
        key = new_session_key()
        return ExportKey(key=key.key, iv=key.iv)

    def start_export(
        self,
        subject: Subject,
        period: Period,
        *,
        key: ExportKey,
        compression: Compression = "TarGz",
        share: float = 1.0,
    ) -> str:
        """Have a package made of the oldest invoices of a period, at most 10,000; returns the export's reference. Limit
        invoiceExport: 20 an hour.

        A public key that KSeF has withdrawn (21470) is fetched anew and the start tried once more. OutcomeUnknown
        leaves at worst an export that nobody fetches. Raises Unavailable (21182) when ten of ours are running already.
        """
        call = Call("start_export", "POST", "/invoices/exports", "invoiceExport", share=share)
        body: dict[str, Any] = {
            "filters": query_filters(subject, period),
            "onlyMetadata": False,
            "compressionType": compression,
        }
        return self._with_key(call, key, body, given_reference)

    def export(self, reference: str, *, share: float = 1.0) -> ExportStatus:
        """An export's status, with links to its parts that are good for about an hour. Limit invoiceExportStatus.

        After seven days KSeF forgets it (HTTP 410), which is told as status 210. Raises Refused (21175) when KSeF knows
        no such export.
        """
        path = f"/invoices/exports/{quoted(reference)}"
        call = Call("export", "GET", path, "invoiceExportStatus", repeatable=True, share=share)
        try:
            status = self._authorised(call, lambda answer: reading.export_status(answer.json()))
        except Refused as fault:
            if fault.http_status != 410:
                raise
            return ExportStatus(EXPORT_EXPIRED, " ".join(fault.details))
        if status.code == EXPORT_BAD_KEY:
            self._public_keys.forget()
        return status

    def fetch_part(self, part: ExportPart, key: ExportKey, folder: Path) -> Path:
        """Fetch one part and decrypt it into ``folder``, made if missing, under a name of its ordinal. Not limited;
        parts may go in parallel. Memory does not depend on the size.

        Size and hash are verified before and after decryption; the file appears whole or not at all, only for our eyes,
        not synced. Fetched again a few times when cut or wrong on the way. Raises WrongBytes when the bytes are not
        those promised, Refused when the link does not work (it expired: ask ``export`` for another), OutcomeUnknown,
        Unreachable, Blocked when it may be tried again later; OSError.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / f"part-{part.ordinal:03d}"
        partial = path.with_suffix(".partial")
        landed: list[_Landed] = []
        try:
            self._wire.fetch("fetch_part", part.url, lambda chunks: landed.append(_land(chunks, part, key, partial)))
            _check_plain(landed[-1], part)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        return path


@dataclass(frozen=True)
class _Landed:
    size: int
    sha256_hex: str
    deciphered: bool


def _land(chunks: Iterator[bytes], part: ExportPart, key: ExportKey, path: Path) -> _Landed:
    """Decrypt what comes into ``path``. Raises WrongBytes when something else came than lies in KSeF's storage."""
    opening = Unsealing(key)
    sealed_hash, plain_hash = hashlib.sha256(), hashlib.sha256()
    sealed_size = plain_size = 0
    head = b""
    deciphered = True
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        for chunk in chunks:
            if sealed_size < _HEAD:
                head += chunk[:_HEAD]
            sealed_size += len(chunk)
            if sealed_size > part.encrypted_size:
                break
            sealed_hash.update(chunk)
            plain = opening.update(chunk)
            plain_hash.update(plain)
            plain_size += file.write(plain)
        if sealed_size != part.encrypted_size:
            raise _wrong(part, Wrong.PAGE if is_page(head) else Wrong.ENCRYPTED_SIZE)
        if sealed_hash.hexdigest() != part.encrypted_sha256_hex:
            raise _wrong(part, Wrong.PAGE if is_page(head) else Wrong.ENCRYPTED_HASH)
        try:
            last = opening.finish()
        except ValueError:
            deciphered = False
        else:
            plain_hash.update(last)
            plain_size += file.write(last)
    return _Landed(plain_size, plain_hash.hexdigest(), deciphered)


def _check_plain(landed: _Landed, part: ExportPart) -> None:
    """Raises WrongBytes, once the encrypted bytes are known to be KSeF's own: fetching them again changes nothing."""
    if not landed.deciphered:
        raise _wrong(part, Wrong.KEY)
    if landed.size != part.size:
        raise _wrong(part, Wrong.SIZE)
    if landed.sha256_hex != part.sha256_hex:
        raise _wrong(part, Wrong.HASH)


def _wrong(part: ExportPart, wrong: Wrong) -> WrongBytes:
    return WrongBytes(wrong, f"część {part.ordinal}")
