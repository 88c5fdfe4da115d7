"""Received invoices as files below the incoming folder: a projection of the database. Source: CONTRACT §7.

A step writes some files due, each under a temporary name, with its rights, durable before it is renamed; then removes
what lay elsewhere; then says so in the database. Before the first effect the places about to be written are noted in
the database (the fact ``filing``): a crash leaves a file at the old place, at the new one or at both, and the next step
finishes it, also where the invoice is to go to a third place by then.

Printed pages are a second pass, while no file is due: they are slow. A page lies beside its invoice, where the database
records that; it is moved, and removed, by being made anew at the new place and going with the file at the old one.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from ksefbuffer.errors import BufferFault
from ksefbuffer.queue import facts, incoming, pages
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.incoming import FileDue
from ksefbuffer.queue.pages import IncomingPage
from ksefbuffer.receiver import disk
from ksefbuffer.receiver.disk import Tree
from ksefbuffer.receiver.filenames import file_stem, folder_parts
from ksefbuffer.receiver.placing import PageTask, Place, Placing, Task, View, place_of, reason, recorded
from ksefbuffer.receiver.printing import ENDING as PAGE
from ksefbuffer.receiver.shapes import Catalogue

__all__ = ["Filing", "FolderAway", "View"]

log = logging.getLogger(__name__)

_AT_ONCE = 100
_FIRST_PAUSE = timedelta(seconds=5)
_LONGEST_PAUSE = timedelta(minutes=10)
_NOTED = "filing"
# Whether pages are printed; it stays when that is switched off, as some may still lie about.
_PRINTED = "incoming_printed"
_PAGES_AT_ONCE = 20
_PAGE_BYTES_AT_ONCE = 500_000


class FolderAway(BufferFault):
    """The incoming folder cannot be used now; no invoice's trouble."""


@dataclass
class Filing:
    """The duty of filing. ``root``: the incoming folder; ``catalogue_of``: the nearest catalogue of a folder, asked
    anew in each step; ``views`` are made with each file, ``page`` (ending in ".pdf") afterwards."""

    database: Database
    root: Path
    catalogue_of: Callable[[str], Catalogue | None]
    views: Sequence[View] = ()
    page: View | None = None

    def prepare(self, now: datetime) -> None:
        """At a start: the folder is made, and what a crash left is tidied up; where printing was switched on or off
        meanwhile, all pages become due. Raises FolderAway."""
        self._switch(now)
        noted = self._noted()
        with self._opened() as tree:
            self._note(noted, self._finish(self._placing(tree), noted), now)

    def step(self, now: datetime) -> bool:
        """Some files due: written or moved, then recorded. True when there were any. Raises FolderAway, while which
        nothing is lost: what is due stays due."""
        with self.database.reading() as tx:
            due = incoming.files_due(tx, now, limit=_AT_ONCE)
        noted = self._noted()
        if not due and not noted:
            return self._print(now)
        with self._opened() as tree:
            placing = self._placing(tree)
            unfinished = self._finish(placing, noted)
            tasks = [Task(one, _wanted(one), recorded(one.path)) for one in due]
            moving = {task.due.id: task.wanted.text for task in tasks if task.is_elsewhere}
            self._note(noted, unfinished | moving, now)
            placing.write(tasks)
            placing.remove_old([task for task in tasks if task.has_moved])
        if not tasks:
            return self._print(now)
        self._record(tasks, unfinished, now)
        return True

    def next_due(self) -> datetime | None:
        """When the next file, or page, is due."""
        with self.database.reading() as tx:
            dues = (incoming.next_due(tx, "file"), pages.next_incoming(tx))
        return min((due for due in dues if due is not None), default=None)

    def _switch(self, now: datetime) -> None:
        """Printing was switched on, or off: every invoice that has a file gets its page, or loses it."""
        prints = self.page is not None
        if (self._printed() or False) == prints:
            return
        with self.database.transaction() as tx:
            pages.want_for_all_incoming(tx, at=now)
            facts.put(tx, _PRINTED, prints, at=now)

    def _printed(self) -> bool | None:
        """Whether pages are printed, as the last start left it; None when none ever were."""
        with self.database.reading() as tx:
            told = facts.get(tx, _PRINTED)
        return bool(told[0]) if told else None

    def _placing(self, tree: Tree) -> Placing:
        endings = [view.ending for view in self.views]
        if self.page is not None or self._printed() is not None:
            endings.append(PAGE)
        return Placing(tree, self.views, self.catalogue_of, endings)

    def _print(self, now: datetime) -> bool:
        """Some pages due, beside files that lie where they belong. True when there were any. Raises FolderAway."""
        with self.database.reading() as tx:
            due = pages.incoming_due(tx, now, limit=_PAGES_AT_ONCE, most_bytes=_PAGE_BYTES_AT_ONCE)
        if not due:
            return False
        beside = [(one, recorded(one.facts.path)) for one in due]
        tasks = {one.facts.id: PageTask(one.facts, place) for one, place in beside if place is not None}
        with self._opened() as tree:
            placing = self._placing(tree)
            if self.page is None:
                placing.remove_pages(list(tasks.values()), PAGE)
            else:
                noted = self._noted()
                about = noted | {row_id: task.place.text for row_id, task in tasks.items()}
                self._note(noted, about, now)
                placing.write_pages(list(tasks.values()), self.page)
                self._note(about, noted, now)
        self._record_pages(due, tasks, now)
        return True

    def _record_pages(self, due: Sequence[IncomingPage], tasks: Mapping[int, PageTask], now: datetime) -> None:
        problems: Counter[str] = Counter()
        again: dict[int, datetime] = {}
        for one in due:
            task = tasks.get(one.facts.id)
            if task is None or task.is_done:
                continue
            again[one.facts.id] = now + min(_FIRST_PAUSE * 2 ** min(one.attempts, 10), _LONGEST_PAUSE)
            problems[task.problem] += 1
        with self.database.transaction() as tx:
            pages.incoming_done(tx, [one.facts.id for one in due if one.facts.id not in again])
            pages.incoming_failed(tx, again)
        for problem, count in problems.items():
            log.warning("printed pages not as they should be: %s of %s: %s", count, len(due), problem)

    def _finish(self, placing: Placing, noted: Mapping[int, str]) -> dict[int, str]:
        """Removes what a crash left, and what was written for a place that its invoice does not go to any more. Returns
        what stays noted."""
        if not noted:
            return {}
        with self.database.reading() as tx:
            known = incoming.some(tx, list(noted))
        unfinished: dict[int, str] = {}
        for one in known:
            place = place_of(noted[one.id])
            if place is None:
                continue
            try:
                placing.remove_leftovers(place)
                if _wanted(one) != place:
                    with self.database.reading() as tx:
                        content = incoming.content(tx, one.id)
                    placing.remove_written(place, content, recorded(one.path))
                elif one.file_due_at is not None:
                    # It will be written there again, unless it is filed anew before.
                    unfinished[one.id] = place.text
            except OSError as error:
                log.warning("incoming=%s: what a crash left cannot be removed: %s", one.id, reason(error))
                unfinished[one.id] = place.text
        return unfinished

    def _noted(self) -> dict[int, str]:
        """Places that were about to be written, by the invoice's key."""
        with self.database.reading() as tx:
            told = facts.get(tx, _NOTED)
        return {int(row_id): place for row_id, place in told[0].items()} if told else {}

    def _note(self, before: Mapping[int, str], after: Mapping[int, str], now: datetime) -> None:
        if before == after:
            return
        with self.database.transaction() as tx:
            if after:
                facts.put(tx, _NOTED, {str(row_id): place for row_id, place in after.items()}, at=now)
            else:
                facts.forget(tx, _NOTED)

    def _record(self, tasks: Sequence[Task], unfinished: Mapping[int, str], now: datetime) -> None:
        noted = dict(unfinished)
        done: dict[int, tuple[str, str]] = {}
        problems: Counter[str] = Counter()
        with self.database.transaction() as tx:
            for task in tasks:
                due = task.due
                noted.pop(due.id, None)
                if task.done is not None and not task.is_settled:
                    noted[due.id] = task.wanted.text
                path = task.done.path if task.done is not None and task.is_settled else None
                if path is not None and not task.problem:
                    done[due.id] = (due.folder, path)
                    continue
                problems[task.problem] += 1
                pause = min(_FIRST_PAUSE * 2 ** min(due.attempts, 10), _LONGEST_PAUSE)
                incoming.filing_failed(tx, due.id, task.problem, again=now + pause, path=path)
            incoming.filed(tx, done, due={task.due.id: task.due.due_at for task in tasks})
            if self.page is not None:
                # What stays not quite right is tried again and again; its page is made once.
                settled = [one for one in tasks if one.is_settled and (one.old != one.done or not one.problem)]
                pages.want_for_incoming(tx, [one.due.id for one in settled], at=now)
            if noted:
                facts.put(tx, _NOTED, {str(row_id): place for row_id, place in noted.items()}, at=now)
            else:
                facts.forget(tx, _NOTED)
        for problem, count in problems.items():
            log.warning("incoming files not as they should be: %s of %s: %s", count, len(tasks), problem)

    @contextmanager
    def _opened(self) -> Iterator[Tree]:
        with _told(self.root):
            opening = disk.opened(self.root)
            tree = opening.__enter__()
        try:
            yield tree
        finally:
            opening.__exit__(None, None, None)


@contextmanager
def _told(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FolderAway(
            f"Nie można użyć folderu faktur przychodzących {root}: {reason(error)}.",
            action="Sprawdź [incoming] folder, dysk i prawa; faktury są bezpieczne w bazie, pliki powstaną później.",
        ) from error


def _wanted(one: FileDue | incoming.Incoming) -> Place:
    stem = file_stem(one.issue_date, one.seller_nip, one.invoice_number, one.ksef_number)
    return Place(folder_parts(one.folder), stem)
