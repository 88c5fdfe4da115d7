"""The batch duty: hands in a heap of waiting documents as one package.

The close is the hand-in (FACTS §5.5): until it is sent nothing was given to KSeF, whatever was uploaded. So

1. bind: the documents go to ``processing`` in a commit, in a session row of kind "batch";
2. the package is built from the database onto disk, opened, its parts uploaded; any failure here gives all documents
   back, for a batch that is never closed is never processed;
3. "closing" is committed before the close is sent. From then on only ``reconcile`` decides, as for any session.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from pathlib import Path
from typing import Any

from ksefbuffer.errors import CallFault
from ksefbuffer.invoice.forms import BY_SYSTEM_CODE
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.limits import Limiter
from ksefbuffer.ksef.packages import PackageTooLarge, build_package
from ksefbuffer.queue import documents, pauses, sessions
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.documents import Document
from ksefbuffer.queue.pauses import Lane
from ksefbuffer.queue.states import WAITING, Event, State
from ksefbuffer.sender import trouble
from ksefbuffer.sender.figures import Figures
from ksefbuffer.sender.pace import Pace
from ksefbuffer.sender.plan import BATCH_AT_MOST, ORDINARY_SHARE, HandIn, Heap, Rest, batch_takes, plan_batch

log = logging.getLogger(__name__)

ACTOR = "batch"
_UPLOADS_AT_ONCE = 4
_READ_AT_ONCE = 50
_SEND_S = 0.1  # what one single costs beyond the limits
_LOOKED_AHEAD = 1_000  # hours of singles; more make no difference to any decision
_DECIDED_FOR = timedelta(milliseconds=500)


def heaps(database: Database, limiter: Limiter, now: datetime) -> list[Heap]:
    """What could go in batches, with how long the limits would hold it up as singles."""
    with database.reading() as tx:
        found = documents.heaps(tx, now)
    return [
        Heap(
            form=heap.form,
            offline=heap.offline,
            count=heap.count,
            attachments=heap.attachments,
            oldest=heap.oldest,
            single_s=limiter.wait_for(
                "invoiceSend", now, calls=min(heap.count, _LOOKED_AHEAD), share=ORDINARY_SHARE
            ).total_seconds()
            + _SEND_S * heap.count,
            newest=heap.newest,
        )
        for heap in found
    ]


@dataclass
class BatchSender:
    """One thread calls ``step``. ``folder`` holds packages while they are uploaded; nothing in it outlives a start."""

    database: Database
    ksef: Ksef
    clock: Callable[[], datetime]
    limiter: Limiter
    pace: Pace
    folder: Path
    batch_from: int
    figures: Figures
    next_due: datetime | None = None
    _at_most: int = 10_000
    _decided: tuple[datetime, bool] | None = None

    def recover(self) -> None:
        """At start: batches that were never closed were never handed in; their documents wait again."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with self.database.transaction() as tx:
            for session in sessions.unfinished(tx, "opening", "open", kind="batch"):
                self._give_back(tx, session.id, "paczki nie zamknięto, więc nie została przekazana", self.clock())

    def leaves_singles_alone(self, now: datetime) -> bool:
        """Whether ordinary documents are this duty's for now."""
        # Asked before every single; counting a long queue each time would cost more than the singles.
        if self._decided is None or not timedelta(0) <= now - self._decided[0] < _DECIDED_FOR:
            waiting = heaps(self.database, self.limiter, now)
            with self.database.reading() as tx:
                spoilt = pauses.known(tx, pauses.BATCH)
            takes = batch_takes(waiting, now, batch_from=self.batch_from, batch_s=self.pace.batch_s)
            # While batches do not work, singles are better than nothing.
            self._decided = (now, takes and (spoilt is None or spoilt.until <= now))
        return self._decided[1]

    def sending_takes(self, now: datetime) -> float:
        """Seconds until all that waits is sent, singly or in batches, whatever is quicker."""
        seconds = 0.0
        for heap in heaps(self.database, self.limiter, now):
            in_batches = ceil(heap.count / BATCH_AT_MOST) * self.pace.batch_s
            may_batch = 0 < self.batch_from <= heap.count
            seconds += min(heap.single_s, in_batches) if may_batch else heap.single_s
        return seconds

    def step(self) -> bool:
        """One batch, up to the point where only KSeF's word counts. True when there may be more at once."""
        now = self.clock()
        waiting = heaps(self.database, self.limiter, now)
        with self.database.reading() as tx:
            paused = pauses.active(tx, now, Lane.BATCH)
            retry_at = documents.next_attempt(tx, now)
        decision = plan_batch(
            waiting,
            now,
            batch_from=self.batch_from,
            batch_s=self.pace.batch_s,
            paused_until=paused.until if paused else None,
        )
        if isinstance(decision, Rest):
            self.next_due = decision.until or retry_at
            return False
        return self._hand_in(decision, now)

    def _hand_in(self, plan: HandIn, now: datetime) -> bool:
        self.figures.read_daily(now)
        with self.database.transaction() as tx:
            chosen = documents.for_batch(
                tx,
                now,
                form=plan.form,
                offline=plan.offline,
                limit=min(plan.count, self._at_most, self.figures.batch.invoices),
            )
            corrections = [documents.get(tx, one.id) for one in chosen if one.corrects]
            held = documents.originals_in_the_way(tx, corrections)
            for document in corrections:
                if document.id in held:
                    documents.note_wait(tx, document, waits_for_original(held[document.id]), at=now)
            bound = [one.id for one in chosen if one.id not in held]
            if not bound:
                return True
            session_id = sessions.begin(tx, plan.form, at=now, kind="batch", offline=plan.offline)
            documents.apply_all(
                tx,
                bound,
                sorted(WAITING),
                Event.BIND,
                at=now,
                actor=ACTOR,
                session_id=session_id,
                handed_at=now,
                attempts=documents.one_more_attempt(),
            )
            # Only what is bound here goes in: a single may have taken one of the chosen a moment ago (PostgreSQL).
            packed = documents.hashes_in_session(tx, session_id)
            if not packed:
                sessions.abandon(tx, session_id, "everything went singly meanwhile")
                return True
        folder = self.folder / str(session_id)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self._upload(session_id, plan, packed, folder)
        except PackageTooLarge as fault:
            self._at_most = max(1, fault.fitted)
            self._take_back(session_id, "paczka byłaby za duża")
        except CallFault as fault:
            at = self.clock()
            self._take_back(session_id, fault.message)
            trouble.hold_back(self.database, fault, at, Lane.BATCH)
        else:
            self._at_most = 10_000
            with self.database.transaction() as tx:
                sessions.sent(tx, session_id, len(packed))
                sessions.stop_using(tx, session_id, at=self.clock(), note="uploaded; the close hands it in")
                pauses.over(tx, pauses.BATCH)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return True

    def _upload(self, session_id: int, plan: HandIn, packed: Mapping[str, int], folder: Path) -> None:
        key = self.ksef.new_batch_key()
        package = build_package(self._contents(packed), folder, key)
        batch = self.ksef.open_batch(
            BY_SYSTEM_CODE[plan.form], package, key, offline=plan.offline, share=ORDINARY_SHARE
        )
        at = self.clock()
        with self.database.transaction() as tx:
            sessions.opened(tx, session_id, batch.reference, batch.valid_until or at, at=at)
            pauses.over(tx, trouble.SCOPE)
        parts = {part.ordinal: part for part in package.parts}
        with ThreadPoolExecutor(_UPLOADS_AT_ONCE, thread_name_prefix="upload") as pool:
            uploads = [pool.submit(self.ksef.upload_part, upload, parts[upload.ordinal]) for upload in batch.uploads]
            for upload in uploads:
                upload.result()

    def _contents(self, packed: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
        """Hash and bytes of each; ``packed`` holds the keys by hash."""
        hashes = list(packed)
        for start in range(0, len(hashes), _READ_AT_ONCE):
            some = hashes[start : start + _READ_AT_ONCE]
            with self.database.reading() as tx:
                contents = documents.contents(tx, [packed[sha256] for sha256 in some])
            for sha256 in some:
                yield sha256, contents[packed[sha256]]

    def _take_back(self, session_id: int, note: str) -> None:
        with self.database.transaction() as tx:
            self._give_back(tx, session_id, note, self.clock())

    @staticmethod
    def _give_back(tx: Any, session_id: int, note: str, at: datetime) -> None:
        bound = documents.keys_in_session(tx, session_id)
        documents.apply_all(
            tx,
            bound,
            [State.PROCESSING],
            Event.NOT_AT_KSEF,
            at=at,
            actor=ACTOR,
            note=note,
            attempts=documents.one_less_attempt(),
        )
        sessions.abandon(tx, session_id, note)


def waits_for_original(original: Document) -> str:
    """What a correction is told while its original has no number."""
    return f"korekta czeka na numer KSeF faktury korygowanej {original.invoice_number} ({original.document_id})"
