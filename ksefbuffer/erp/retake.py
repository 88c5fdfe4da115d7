"""After a restore: invoices whose files were put away since the backup are taken in again.

They were acknowledged, so they must not be lost; the restored database has never heard of them. Their bytes still lie
in ``processed``. What KSeF has of them by now is the sender's to find out before it sends anything.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from ksefbuffer.erp import files
from ksefbuffer.erp.folder import is_invoice_name, stem_of
from ksefbuffer.erp.options import read_options
from ksefbuffer.erp.submit import Offer, Options, Source, submit_all
from ksefbuffer.errors import BufferFault
from ksefbuffer.invoice.identifiers import sha256_hex
from ksefbuffer.invoice.precheck import CheckContext
from ksefbuffer.queue import documents
from ksefbuffer.queue.db import Database

log = logging.getLogger(__name__)

_WARSAW = ZoneInfo("Europe/Warsaw")
_AT_ONCE = 64
_NUMBERED = re.compile(r"(.+)\.\d+")


@dataclass
class Retake:
    """Goes through ``processed`` once, some files a step. ``context(now)`` gives the check's context."""

    database: Database
    processed: Path
    context: Callable[[datetime], CheckContext]
    _left: list[Path] | None = field(default=None)

    def step(self, since: datetime, now: datetime) -> bool:
        """Takes in what is unknown among the files put away since. True while there may be more. Raises BufferFault."""
        if self._left is None:
            self._left = list(self._put_away_since(since))
        some, rest = self._left[:_AT_ONCE], self._left[_AT_ONCE:]
        self._take(some, now)
        self._left = rest
        return bool(rest)

    def _put_away_since(self, since: datetime) -> Iterator[Path]:
        # The day before as well: clocks and the turn of the day must not hide a file.
        first = since.astimezone(_WARSAW).date() - timedelta(days=1)
        try:
            days = sorted(self.processed.iterdir()) if self.processed.exists() else []
            for day in days:
                if _day(day.name) is not None and day.name >= first.isoformat():
                    found = [path for path in day.iterdir() if is_invoice_name(path.name) and path.is_file()]
                    yield from sorted(found, key=lambda path: (path.stat().st_ctime_ns, path.name))
        except OSError as error:
            raise BufferFault(
                f"Folderu {self.processed} nie można odczytać: {error.strerror}.",
                action="Nadaj prawa użytkownikowi usługi; do tego czasu nic nie zostanie wysłane.",
            ) from error

    def _take(self, paths: list[Path], now: datetime) -> None:
        offers: list[Offer] = []
        for path in paths:
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise BufferFault(
                    f"Pliku {files.shown(path.name)} nie można odczytać: {error.strerror}.",
                    action="Nadaj prawa użytkownikowi usługi; do tego czasu nic nie zostanie wysłane.",
                ) from error
            name = _first_name(path)
            source = Source("folder", files.name_as_text(name), files.name_as_text(stem_of(name)))
            offers.append(Offer(content, source, _options_beside(path)))
        hashes = [sha256_hex(offer.content) for offer in offers]
        with self.database.reading() as tx:
            known = documents.by_sha256s(tx, hashes)
        unknown = [offer for offer, sha256 in zip(offers, hashes, strict=True) if sha256 not in known]
        if unknown:
            submit_all(self.database, unknown, self.context(now), actor="restore")
            log.info("taken in again after a restore files=%s", len(unknown))


def _day(name: str) -> date | None:
    try:
        return date.fromisoformat(name)
    except ValueError:
        return None


def _first_name(path: Path) -> str:
    """The name under which the file came: NAME.2.xml beside NAME.xml was NAME.xml too."""
    numbered = _NUMBERED.fullmatch(stem_of(path.name))
    first = f"{numbered[1]}{path.suffix}" if numbered else path.name
    return first if (path.parent / first).exists() else path.name


def _options_beside(path: Path) -> Options:
    try:
        return read_options((path.parent / (stem_of(path.name) + ".json")).read_bytes())
    except OSError:
        return Options()
