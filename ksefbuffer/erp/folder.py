"""The folder connector: takes invoices from the inbox, writes answers to the outbox. Source: CONTRACT §4.

The truth is the scan; inotify only wakes it up sooner and tells which files were renamed into place. A file leaves the
inbox after its bytes are in the database: read, commit, move; a crash between the last two is healed by the next scan,
which finds the same hash known and only moves the file.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import signal
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from watchdog.events import FileMovedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from ksefbuffer.erp import answers, files
from ksefbuffer.erp.delivery import Answer, Page
from ksefbuffer.erp.options import read_options
from ksefbuffer.erp.settling import Look, Settling
from ksefbuffer.erp.submit import Offer, Options, Source, submit_all, submit_too_large
from ksefbuffer.errors import BufferFault, ConfigurationFault
from ksefbuffer.invoice.precheck import CheckContext, refusal_of_size
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.deliveries import Arrival
from ksefbuffer.queue.states import State

log = logging.getLogger(__name__)

_WARSAW = ZoneInfo("Europe/Warsaw")
_IGNORED_ENDINGS = (".part", ".tmp", ".filepart", ".crdownload", "~")
_AT_ONCE = 64  # files a commit
_AT_ONCE_BYTES = 16_000_000
_SIDECAR_MAX = 64 * 1024
_MOVE_AGAIN = timedelta(seconds=30)
_SPACE = b" \t\r\n"
_PAGE = ".pdf"


@dataclass(frozen=True)
class Folders:
    """Absolute paths; ``responses`` of "json", "xml", "txt"; ``pdf``: printed pages are wanted beside the answers."""

    inbox: Path
    outbox: Path
    processed: Path
    rejected: Path
    responses: tuple[str, ...] = ("json",)
    pdf: bool = False


class PassedOver(BufferFault):
    """A file that stays where it is, and why; said once, and shown in ``status``."""


@dataclass
class _Ready:
    path: Path
    name: str
    offer: Offer | None
    look: Look
    size: int
    sha256: str = ""
    sidecar: Path | None = None
    options: Options = field(default_factory=Options)


class FolderConnector:
    """Takes in and answers. ``context(now)`` gives the check's context; one thread calls ``take_in``."""

    def __init__(
        self, database: Database, folders: Folders, *, context: Callable[[datetime], CheckContext], settle: timedelta
    ) -> None:
        self._database = database
        self._folders = folders
        self._context = context
        self._settling = Settling(settle=settle, grace=max(5 * settle, timedelta(seconds=5)))
        self._said: dict[str, str] = {}
        self._immovable: dict[str, tuple[Look, datetime, str]] = {}
        self._moved_into: set[Path] = set()

    def prepare(self) -> None:
        """Makes the folders and clears what a crash left. Raises ConfigurationFault when one cannot be used."""
        for folder in (self._folders.inbox, self._folders.outbox, self._folders.processed, self._folders.rejected):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                files.remove_leftovers(folder)
                files.put_back(folder)
                if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
                    raise PermissionError(13, "brak praw odczytu i zapisu")
            except OSError as error:
                raise ConfigurationFault(
                    f"Folderu {folder} nie można użyć: {error.strerror}.",
                    action="Popraw [inbox] w konfiguracji albo nadaj prawa użytkownikowi usługi.",
                ) from error

    @property
    def passed_over(self) -> dict[str, str]:
        """Files that stay in the inbox, by shown name, with the reason in Polish."""
        return dict(self._said)

    def take_in(self, now: datetime) -> bool:
        """One step: scans, takes what is ready (at most one commit's worth). True when there may be more at once."""
        ready: list[_Ready] = []
        names: set[str] = set()
        more, ready_bytes = False, 0
        complaints: dict[str, str] = {}
        for entry in self._entries():
            names.add(entry.name)
            if len(ready) == _AT_ONCE or ready_bytes > _AT_ONCE_BYTES:
                more = True
                break
            try:
                found = self._look_at(entry, now)
            except PassedOver as reason:
                complaints[files.shown(entry.name)] = str(reason)
                continue
            if found is not None:
                ready.append(found)
                ready_bytes += found.size
        if not more:
            self._settling.keep_only(names)
            self._immovable = {name: kept for name, kept in self._immovable.items() if name in names}
            self._say(complaints)
        return self._take(ready, now) if ready else False

    def next_scan(self, now: datetime) -> datetime | None:
        """When a file seen but not yet quiet may be ready."""
        return self._settling.next_ripe(now)

    def _entries(self) -> Iterable[os.DirEntry[str]]:
        try:
            with os.scandir(self._folders.inbox) as entries:
                everything = list(entries)
        except FileNotFoundError as error:
            raise BufferFault(
                f"Nie ma folderu {self._folders.inbox}.", action="Utwórz go albo popraw [inbox] path."
            ) from error
        except OSError as error:
            raise BufferFault(
                f"Folderu {self._folders.inbox} nie można odczytać: {error.strerror}.",
                action="Sprawdź prawa i udział sieciowy.",
            ) from error
        names = {entry.name for entry in everything}
        found = [entry for entry in everything if is_invoice_name(entry.name)]
        # Only what came with options can be urgent: it must not wait behind a full inbox.
        return sorted(found, key=lambda entry: (f"{stem_of(entry.name)}.json" not in names, entry.name))

    def _look_at(self, entry: os.DirEntry[str], now: datetime) -> _Ready | None:
        """The file, if it is ready. None while it waits. Raises PassedOver for what is not ours to take."""
        path, name = Path(entry.path), entry.name
        try:
            status = entry.stat(follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                raise PassedOver(f"Pominięto {files.shown(name)}: to nie jest zwykły plik.")
            look = Look(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            immovable = self._immovable.get(name)
            # Not by ctime: the attempt to move it has changed that.
            if immovable is not None and replace(immovable[0], ctime_ns=look.ctime_ns) == look and now < immovable[1]:
                raise PassedOver(immovable[2], action="Bufor spróbuje znowu sam.")
            if not self._settling.is_quiet(name, look, now):
                return None
            # O_NONBLOCK: something swapped for a FIFO between the two calls must not hang the intake.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise PassedOver(
                f"Brak prawa odczytu pliku {files.shown(name)}.", action="Nadaj prawa użytkownikowi usługi; plik czeka."
            ) from error
        except OSError as error:
            raise PassedOver(f"Pliku {files.shown(name)} nie można otworzyć: {error.strerror}.") from error
        with os.fdopen(descriptor, "rb") as file:
            return self._read(file, path, name, look, now)

    def _read(self, file: Any, path: Path, name: str, look: Look, now: datetime) -> _Ready | None:
        opened = os.fstat(file.fileno())
        if not stat.S_ISREG(opened.st_mode) or opened.st_ino != look.inode:
            return None
        given_up = self._settling.is_given_up_on(name, look, now)
        if not given_up and (look.size == 0 or _open_for_writing(file.fileno())):
            return None
        sidecar, options = self._options(name)
        context = self._context(now)
        if look.size > context.max_bytes_with_attachment:
            digest, size = hashlib.sha256(), 0
            while block := file.read(1 << 20):
                digest.update(block)
                size += len(block)
            if size != look.size:
                return None
            return _Ready(path, name, None, look, size, digest.hexdigest(), sidecar, options)
        try:
            content = file.read(look.size + 1)
        except OSError as error:
            raise PassedOver(f"Pliku {files.shown(name)} nie można odczytać: {error.strerror}.") from error
        if len(content) != look.size:
            return None
        if not given_up and looks_cut(content):
            return None
        source = Source("folder", files.name_as_text(name), files.name_as_text(stem_of(name)))
        return _Ready(path, name, Offer(content, source, options), look, look.size, "", sidecar, options)

    def _options(self, name: str) -> tuple[Path | None, Options]:
        """The sidecar NAME.json beside NAME.xml, if there is one."""
        sidecar = self._folders.inbox / (stem_of(name) + ".json")
        try:
            status = sidecar.lstat()
        except (FileNotFoundError, OSError):
            return None, Options()
        if not stat.S_ISREG(status.st_mode) or status.st_size > _SIDECAR_MAX:
            return None, Options(complaint=f"{files.shown(sidecar.name)} nie jest zwykłym, małym plikiem.")
        try:
            return sidecar, read_options(sidecar.read_bytes())
        except OSError as error:
            return None, Options(complaint=f"{files.shown(sidecar.name)}: {error.strerror}.")

    def _take(self, ready: list[_Ready], now: datetime) -> bool:
        """Stores and puts away; True when the inbox got emptier."""
        try:
            return self._store_and_put_away(ready, now)
        except BufferFault:
            raise
        except Exception as fault:
            if len(ready) > 1:
                # One of them is to blame; the others must not wait for it.
                moved = [self._take([found], now) for found in ready]
                return any(moved)
            (found,) = ready
            log.exception("file cannot be taken name=%s", files.shown(found.name))
            reason = f"Pliku {files.shown(found.name)} nie udało się przyjąć: błąd programu ({type(fault).__name__})."
            self._immovable[found.name] = (found.look, now + _MOVE_AGAIN, reason)
            return False

    def _store_and_put_away(self, ready: list[_Ready], now: datetime) -> bool:
        context = self._context(now)
        offers = [found for found in ready if found.offer is not None]
        submissions = (
            submit_all(self._database, [found.offer for found in offers if found.offer], context, actor="folder")
            if offers
            else []
        )
        outcome = {id(found): submission for found, submission in zip(offers, submissions, strict=True)}
        for found in ready:
            if found.offer is None:
                finding = refusal_of_size(found.size, context)
                assert finding is not None
                source = Source("folder", files.name_as_text(found.name), files.name_as_text(stem_of(found.name)))
                outcome[id(found)] = submit_too_large(
                    self._database, found.sha256, found.size, finding, source, found.options, now=now, actor="folder"
                )
        moved = False
        for found in ready:
            document = outcome[id(found)].document
            refused = document.state is State.ERROR and not document.judged_by_ksef
            moved |= self._put_away(found, refused=refused, now=now)
        for folder in (*self._moved_into, self._folders.inbox):
            files.sync_folder(folder)
        self._moved_into.clear()
        return moved

    def _put_away(self, found: _Ready, *, refused: bool, now: datetime) -> bool:
        """Moves a taken file out of the inbox, unless it is no longer the file that was read."""
        day = now.astimezone(_WARSAW).date().isoformat()
        folder = (self._folders.rejected if refused else self._folders.processed) / day
        self._settling.forget(found.name)
        try:
            status = found.path.lstat()
            if (status.st_ino, status.st_size, status.st_mtime_ns) != (
                found.look.inode,
                found.look.size,
                found.look.mtime_ns,
            ):
                return True
            files.move_without_overwriting(found.path, folder, inode=found.look.inode)
            self._moved_into.add(folder)
        except (FileNotFoundError, files.Replaced):
            # Taken away or replaced by somebody else: the bytes read are ours already, the new ones come next.
            return True
        except OSError as error:
            reason = (
                f"Przyjęto, ale nie można przenieść do {folder}: {error.strerror}. Sprawdź prawa i miejsce na dysku."
            )
            self._immovable[found.name] = (found.look, now + _MOVE_AGAIN, reason)
            return False
        if found.sidecar is not None:
            try:
                files.move_without_overwriting(found.sidecar, folder, inode=found.sidecar.lstat().st_ino)
            except OSError as error:
                log.warning("sidecar stays name=%s reason=%s", files.shown(found.sidecar.name), error.strerror)
        return True

    def _say(self, complaints: dict[str, str]) -> None:
        for name, reason in complaints.items():
            if self._said.get(name) != reason:
                log.warning("inbox file=%r: %s", name, reason)
        self._said = complaints

    has_files = True

    @property
    def has_pages(self) -> bool:
        return self._folders.pdf

    def deliver(self, answer: Answer) -> None:
        """Writes an arrival's files to the outbox. Raises OSError; writing the same again is harmless."""
        stem = files.text_as_name(answer.arrival.answer_name)
        for ending, content in ((".qr1.png", answer.qr1), (".qr2.png", answer.qr2), (".upo.xml", answer.upo)):
            self._put(stem, ending, content)
        page = answer.page
        if page is not None and not (page.is_wanted and _is(self._folders.outbox / files.fitting(stem, _PAGE), page)):
            self._put(stem, _PAGE, None)
        told = {**answer.object, "source": _readable(files.text_as_name(answer.arrival.place))}
        # After what it names, and JSON last of all: whoever sees it may read the rest.
        for kind in ("txt", "xml", "json"):
            if kind in self._folders.responses:
                files.write_whole(
                    self._folders.outbox / files.fitting(stem, f".ksef.{kind}"), answers.WRITERS[kind](told)
                )

    def put_page(self, arrival: Arrival, page: bytes | None) -> None:
        """Writes the printed page beside the answer, or removes it. Raises OSError."""
        self._put(files.text_as_name(arrival.answer_name), _PAGE, page)

    def _put(self, stem: str, ending: str, content: bytes | None) -> None:
        path = self._folders.outbox / files.fitting(stem, ending)
        if content is None:
            # Another document may have had this name: its receipt beside this answer would be taken for ours.
            path.unlink(missing_ok=True)
        elif not _holds(path, content):
            files.write_whole(path, content)

    def upo_name(self, arrival: Arrival) -> str:
        return _readable(files.fitting(files.text_as_name(arrival.answer_name), ".upo.xml"))

    def watch(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Starts listening for events; returns what stops it. Where inotify does not work, scanning alone does."""
        observer = Observer()
        try:
            observer.schedule(_Hints(self._settling, wake), str(self._folders.inbox))
            observer.start()
        except OSError as error:
            log.warning("no file events (%s); the inbox is only scanned", error.strerror)
            return lambda: None

        def stop() -> None:
            observer.stop()
            observer.join(5)

        return stop


class _Hints(FileSystemEventHandler):
    """Turns events into hints: which names were renamed into place, and that a scan is worth while."""

    def __init__(self, settling: Settling, wake: Callable[[], None]) -> None:
        self._settling = settling
        self._wake = wake

    def on_any_event(self, event: FileSystemEvent) -> None:
        if isinstance(event, FileMovedEvent):
            name = os.path.basename(os.fsdecode(event.dest_path))  # noqa: PTH119 — an event's path may be no text
            if is_invoice_name(name):
                self._settling.renamed_into_place(name)
                self._wake()
        elif event.event_type in ("created", "modified", "closed") and is_invoice_name(
            os.path.basename(os.fsdecode(event.src_path))  # noqa: PTH119
        ):
            self._wake()


def is_invoice_name(name: str) -> bool:
    """Whether the intake looks at this name at all (A02)."""
    lowered = name.lower()
    return (
        lowered.endswith(".xml")
        and len(name) > 4
        and not name.startswith(".")
        and not lowered.endswith(_IGNORED_ENDINGS)
    )


def stem_of(name: str) -> str:
    return name[:-4]


def looks_cut(content: bytes) -> bool:
    """Whether it begins like XML but does not end with a closing tag: most likely its writer is not done yet."""
    if not content[:4096].lstrip(b"\xef\xbb\xbf" + _SPACE).startswith(b"<"):
        return False
    # Backwards by position: whatever a file ends with, this takes linear time.
    end = _end_before_space(content, len(content))
    while content.endswith(b"-->", 0, end):
        end = _end_before_space(content, max(content.rfind(b"<!--", 0, end), 0))
    return not (content.endswith(b">", 0, end) and content.startswith(b"</", content.rfind(b"<", 0, end)))


def _end_before_space(content: bytes, end: int) -> int:
    while end and content[end - 1] in _SPACE:
        end -= 1
    return end


def _open_for_writing(descriptor: int) -> bool:
    """Whether some process still has the file open for writing. The kernel grants a read lease only when none does;
    where leases do not exist (shares, files of other users) this cannot tell and says no."""
    try:
        # Who opens the file while we hold the lease has a signal sent to us: not SIGIO, which would end the process.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _readable(name: str) -> str:
    """A file name as text: the same, but for bytes that are no UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except OSError:
        return False


def _is(path: Path, page: Page) -> bool:
    """Whether the page there is the one that was printed for this document."""
    try:
        return page.mine is not None and hashlib.sha256(path.read_bytes()).hexdigest() == page.mine
    except OSError:
        return False
