"""Files of invoices put into their folders and taken out again, within one step. Knows no database.

A file is ours when it holds the invoice's very bytes, or lies where the database says and belongs to our user. Anything
else keeps its name, and ours becomes ``NAME.2.xml``.
"""

from __future__ import annotations

import errno
import grp
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple, Protocol

from ksefbuffer.queue.incoming import FileDue
from ksefbuffer.receiver import disk
from ksefbuffer.receiver.disk import AS_IT_COMES, OWNER_ONLY, Access, GroupRefused, Tree
from ksefbuffer.receiver.filenames import ENDING, numbered
from ksefbuffer.receiver.shapes import Catalogue

log = logging.getLogger(__name__)

_MOST_NUMBERS = 1000
_REASONS = {
    errno.ENOSPC: "na dysku nie ma miejsca",
    errno.EDQUOT: "limit miejsca na dysku (quota) jest wyczerpany",
    errno.EACCES: "brak praw do zapisu",
    errno.EPERM: "brak praw do zapisu",
    errno.EROFS: "dysk jest tylko do odczytu",
    errno.ENOTDIR: "w miejscu folderu leży plik albo dowiązanie",
}


class View(Protocol):
    """Another file beside the XML, under the same name. ``ending``: with its dot, such as ".pdf"."""

    @property
    def ending(self) -> str: ...

    def make(self, content: bytes, facts: FileDue) -> bytes | None:
        """The view of an invoice; None when it has none. The same invoice should give the same bytes."""


class Place(NamedTuple):
    """Where a file lies or is to lie: the folders below the incoming one, and its name without the ending."""

    parts: tuple[str, ...]
    stem: str

    @property
    def text(self) -> str:
        return "/".join((*self.parts, self.stem))

    @property
    def path(self) -> str:
        return self.text + ENDING

    @property
    def name(self) -> str:
        return self.stem + ENDING


def place_of(text: str) -> Place | None:
    """The place that ``Place.text`` was; None for what leads out of the folder."""
    *parts, stem = text.split("/")
    if not parts or not stem or any(part in ("", ".", "..") or "\0" in part for part in (*parts, stem)):
        return None
    return Place(tuple(parts), stem)


def recorded(path: str | None) -> Place | None:
    """The place of a path as the database holds it."""
    return place_of(path.removesuffix(ENDING)) if path and path.endswith(ENDING) else None


@dataclass
class Task:
    """One invoice on its way. ``old``: where the database says its file lies; ``done``: where it was written;
    ``is_settled``: durably, and the old one is gone; ``problem``: what is wrong with it, in Polish."""

    due: FileDue
    wanted: Place
    old: Place | None
    done: Place | None = None
    inode: tuple[int, int] | None = None
    is_settled: bool = False
    problem: str = ""

    @property
    def is_elsewhere(self) -> bool:
        """Whether the place wanted is another one than the recorded, whatever its number."""
        return (
            self.old is None or self.old.parts != self.wanted.parts or not _is_numbered(self.old.stem, self.wanted.stem)
        )

    @property
    def has_moved(self) -> bool:
        return self.is_settled and self.old is not None and self.old != self.done

    def stems(self) -> Iterator[str]:
        """The names to try, the recorded one first."""
        kept = self.old.stem if self.old is not None and not self.is_elsewhere else None
        if kept is not None:
            yield kept
        yield from (stem for number in range(1, _MOST_NUMBERS) if (stem := numbered(self.wanted.stem, number)) != kept)


def _is_numbered(stem: str, of: str) -> bool:
    return re.fullmatch(re.escape(of) + r"(?:\.\d+)?", stem) is not None


def reason(error: OSError, folder: str = "") -> str:
    """An error of the file system in Polish, for people."""
    said = _REASONS.get(error.errno or 0) or f"błąd zapisu: {error.strerror or type(error).__name__}"
    return f"{said} (folder „{folder}”)" if folder else said


@dataclass
class PageTask:
    """One invoice whose page is to be written beside its file, or removed. ``is_done``: durably; ``problem``: what is
    wrong with it, in Polish; a page that cannot be made at all is done, without a problem."""

    due: FileDue
    place: Place
    is_done: bool = False
    problem: str = ""


@dataclass
class Placing:
    """What is done within one step, on an open folder. ``endings``: of all files that lie beside an invoice, those of
    ``views`` and of the pages that come later."""

    tree: Tree
    views: Sequence[View]
    catalogue_of: Callable[[str], Catalogue | None]
    endings: Sequence[str]
    _groups: dict[str, int | None] = field(default_factory=dict)

    # Writing

    def write(self, tasks: Sequence[Task]) -> None:
        """Puts every invoice where it is wanted, durably; what went wrong is told in the task. What lies there already,
        as it should, is left alone."""
        for parts, here in _by_folder((task.wanted.parts, task) for task in tasks):
            try:
                self._write_folder(parts, here)
            except OSError as error:
                _unsettle(here, reason(error, "/".join(parts)))
        # The folders above: one of them may be new, if only because of a crash that came before this.
        above = {
            task.wanted.parts[:depth] for task in tasks if task.is_settled for depth in range(len(task.wanted.parts))
        }
        for parts in sorted(above, key=len, reverse=True):
            try:
                with disk.opened_below(self.tree, parts) as folder:
                    disk.sync(folder)
            except OSError as error:
                below = [task for task in tasks if task.is_settled and task.wanted.parts[: len(parts)] == parts]
                _unsettle(below, reason(error, "/".join(parts)))

    def _write_folder(self, parts: tuple[str, ...], tasks: Sequence[Task]) -> None:
        try:
            with disk.made_below(self.tree, parts, self._access_of) as folder:
                access = self._access_of(parts) or OWNER_ONLY
                self._write_files(folder, disk.exact_access(folder, access), self._unknown_group(parts), tasks)
        except GroupRefused as refused:
            name = next((name for name, group in self._groups.items() if group == refused.group), str(refused.group))
            problem = f"bufor nie może nadać plikom grupy „{name}”; plik może czytać tylko właściciel"
            with disk.made_below(self.tree, parts, lambda _: None) as folder:
                self._write_files(folder, disk.exact_access(folder, OWNER_ONLY), problem, tasks)

    def _write_files(self, folder: int, access: Access, problem: str, tasks: Sequence[Task]) -> None:
        for task in tasks:
            task.problem = problem
            try:
                task.done = Place(task.wanted.parts, self._write_xml(folder, access, task))
                there = disk.found(folder, task.done.name)
                task.inode = (there.st_dev, there.st_ino) if there is not None else None
                for view in self.views:
                    self._write_view(folder, access, view, task.due, task.done.stem)
            except GroupRefused:
                raise
            except OSError as error:
                task.problem = reason(error, "/".join(task.wanted.parts))
            except Exception as error:
                # A fault nobody foresaw costs this invoice a pause, not all those behind it.
                log.exception("incoming=%s cannot be filed", task.due.id)
                task.problem = f"błąd programu ({type(error).__name__})"
        disk.sync(folder)
        for task in tasks:
            task.is_settled = task.done is not None

    def _write_xml(self, folder: int, access: Access, task: Task) -> str:
        """Writes the invoice under a name that is free or ours; returns its stem."""
        content = task.due.content
        for stem in task.stems():
            name = stem + ENDING
            there = disk.found(folder, name)
            same = there is not None and disk.holds(folder, name, content)
            recorded_here = task.old == (task.wanted.parts, stem)
            own = same or (there is not None and recorded_here and self.tree.owns(there))
            if (there is not None and not own) or not self._leaves_room_for_views(folder, stem, own or recorded_here):
                continue
            if there is not None and same and disk.has_access(there, access):
                return stem
            temporary = disk.write(folder, content, access)
            try:
                (disk.replace if own else disk.place)(folder, temporary, name)
            except FileExistsError:
                disk.discard(folder, temporary)
                continue
            except OSError:
                disk.discard(folder, temporary)
                raise
            return stem
        raise FileExistsError(errno.EEXIST, "wszystkie nazwy są zajęte")

    def _leaves_room_for_views(self, folder: int, stem: str, own: bool) -> bool:
        there = (disk.found(folder, stem + ending) for ending in self.endings)
        return all(one is None or (own and self.tree.owns(one)) for one in there)

    @staticmethod
    def _write_view(folder: int, access: Access, view: View, due: FileDue, stem: str) -> None:
        content = view.make(due.content, due)
        name = stem + view.ending
        if content is None:
            disk.remove(folder, name)
            return
        there = disk.found(folder, name)
        if there is not None and disk.has_access(there, access) and disk.holds(folder, name, content):
            return
        temporary = disk.write(folder, content, access)
        try:
            disk.replace(folder, temporary, name)
        except OSError:
            disk.discard(folder, temporary)
            raise

    # Pages, once the invoices are where they belong

    def write_pages(self, tasks: Sequence[PageTask], page: View) -> None:
        """Puts each invoice's page beside its file, durably; what went wrong is told in the task."""
        for parts, here in _pages_by_folder(tasks):
            try:
                with disk.opened_below(self.tree, parts) as folder:
                    access = self._access_of(parts) or OWNER_ONLY
                    try:
                        exact = disk.exact_access(folder, access)
                        self._write_pages(folder, exact, here, page)
                    except GroupRefused:
                        # As with the invoices: its owner's alone, until the group may be used.
                        self._write_pages(folder, disk.exact_access(folder, OWNER_ONLY), here, page)
                    disk.sync(folder)
                for task in here:
                    task.is_done = not task.problem
            except OSError as error:
                for task in here:
                    task.problem = reason(error, "/".join(parts))

    def _write_pages(self, folder: int, access: Access, tasks: Sequence[PageTask], page: View) -> None:
        for task in tasks:
            task.problem = ""
            there = disk.found(folder, task.place.stem + page.ending)
            if disk.found(folder, task.place.name) is None:
                task.problem = f"nie ma pliku XML, obok którego ma leżeć wydruk (folder „{'/'.join(task.place.parts)}”)"
            elif there is not None and not self.tree.owns(there):
                task.problem = f"nazwę wydruku zajmuje cudzy plik (folder „{'/'.join(task.place.parts)}”)"
            if task.problem:
                continue
            try:
                self._write_view(folder, access, page, task.due, task.place.stem)
            except GroupRefused:
                raise
            except OSError as error:
                task.problem = reason(error, "/".join(task.place.parts))
            except Exception as error:
                # A fault nobody foresaw costs this page a pause, not all those behind it.
                log.exception("incoming=%s: its page cannot be made", task.due.id)
                task.problem = f"błąd programu ({type(error).__name__})"

    def remove_pages(self, tasks: Sequence[PageTask], ending: str) -> None:
        """Takes away the pages of ours beside these invoices."""
        for parts, here in _pages_by_folder(tasks):
            try:
                with disk.opened_below(self.tree, parts) as folder:
                    for task in here:
                        there = disk.found(folder, task.place.stem + ending)
                        if there is not None and self.tree.owns(there):
                            disk.remove(folder, task.place.stem + ending)
                    disk.sync(folder)
            except (FileNotFoundError, NotADirectoryError):
                # The folder is gone, or something else has its name: nothing of ours is there.
                pass
            except OSError as error:
                for task in here:
                    task.problem = reason(error, "/".join(parts))
            for task in here:
                task.is_done = not task.problem

    # Rights

    def _access_of(self, parts: tuple[str, ...]) -> Access | None:
        """The rights in a folder by its nearest catalogue; None when its group is not known."""
        catalogue = self.catalogue_of("/".join(parts))
        if catalogue is None or not (catalogue.group or catalogue.mode):
            return AS_IT_COMES
        group = self._group(catalogue.group)
        if catalogue.group and group is None:
            return None
        return Access(int(catalogue.mode, 8) if catalogue.mode else None, group)

    def _group(self, name: str) -> int | None:
        if name and name not in self._groups:
            self._groups[name] = None
            with suppress(KeyError):
                self._groups[name] = grp.getgrnam(name).gr_gid
        return self._groups.get(name)

    def _unknown_group(self, parts: tuple[str, ...]) -> str:
        """Says so where a group of this folder, or of one above it, is not known."""
        for depth in range(len(parts), 0, -1):
            catalogue = self.catalogue_of("/".join(parts[:depth]))
            if catalogue is not None and catalogue.group and self._group(catalogue.group) is None:
                return (
                    f"nie ma grupy „{catalogue.group}” katalogu „{catalogue.path}”; plik może czytać tylko właściciel"
                )
        return ""

    # Removing

    def remove_old(self, tasks: Sequence[Task]) -> None:
        """What the database still records elsewhere; the new one is durable by now."""
        for parts, here in _by_folder((task.old.parts, task) for task in tasks if task.old is not None):
            try:
                with disk.opened_below(self.tree, parts) as folder:
                    for task in here:
                        self._remove_one(folder, task)
                    disk.sync(folder)
            except (FileNotFoundError, NotADirectoryError):
                # The folder is gone, or something else has its name: nothing of ours is there.
                pass
            except OSError as error:
                _unsettle(here, f"nie można usunąć pliku z poprzedniego folderu: {reason(error, '/'.join(parts))}")
            disk.remove_empty(self.tree, parts)

    def _remove_one(self, folder: int, task: Task) -> None:
        assert task.old is not None
        there = disk.found(folder, task.old.name)
        # Two names of one file: the share takes capitals and small letters for the same.
        if there is None or (there.st_dev, there.st_ino) != task.inode:
            self._remove_at(folder, task.old.stem, task.due.content)

    def _remove_at(self, folder: int, stem: str, content: bytes) -> None:
        """The file of an invoice and its views, as far as they are ours."""
        there = disk.found(folder, stem + ENDING)
        if there is not None and (self.tree.owns(there) or disk.holds(folder, stem + ENDING, content)):
            disk.remove(folder, stem + ENDING)
        for ending in self.endings:
            there = disk.found(folder, stem + ending)
            if there is not None and self.tree.owns(there):
                disk.remove(folder, stem + ending)

    def remove_leftovers(self, place: Place) -> None:
        """Temporary files that a crash left where this was to be written."""
        with suppress(FileNotFoundError, NotADirectoryError), disk.opened_below(self.tree, place.parts) as folder:
            disk.remove_leftovers(folder)

    def remove_written(self, place: Place, content: bytes, old: Place | None) -> None:
        """Takes an invoice out of a place that it does not go to, and is not recorded at."""
        with suppress(FileNotFoundError, NotADirectoryError), disk.opened_below(self.tree, place.parts) as folder:
            for name in disk.names_in(folder):
                stem = name.removesuffix(ENDING)
                if (
                    name.endswith(ENDING)
                    and _is_numbered(stem, place.stem)
                    and (place.parts, stem) != old
                    and disk.holds(folder, name, content)
                ):
                    self._remove_at(folder, stem, content)
            disk.sync(folder)
        disk.remove_empty(self.tree, place.parts)


def _by_folder(tasks: Iterable[tuple[tuple[str, ...], Task]]) -> Iterator[tuple[tuple[str, ...], list[Task]]]:
    ordered = sorted(tasks, key=_folder)
    for parts, group in groupby(ordered, key=_folder):
        yield parts, [task for _, task in group]


def _pages_by_folder(tasks: Iterable[PageTask]) -> Iterator[tuple[tuple[str, ...], list[PageTask]]]:
    ordered = sorted(tasks, key=lambda task: task.place.parts)
    for parts, group in groupby(ordered, key=lambda task: task.place.parts):
        yield parts, list(group)


def _folder(pair: tuple[tuple[str, ...], Task]) -> tuple[str, ...]:
    return pair[0]


def _unsettle(tasks: Iterable[Task], problem: str) -> None:
    for task in tasks:
        task.is_settled, task.problem = False, problem
