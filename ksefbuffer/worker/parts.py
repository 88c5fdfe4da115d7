"""One buffer's working parts, joined but not started."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ksefbuffer.config import Config
from ksefbuffer.erp.delivery import Deliver
from ksefbuffer.erp.folder import FolderConnector
from ksefbuffer.erp.handover import HandOver
from ksefbuffer.erp.printing import PrintAnswers
from ksefbuffer.erp.rows import RowConnector
from ksefbuffer.erp.webhook import Webhooks
from ksefbuffer.errors import CallFault, CredentialFault, NotAllowedNow
from ksefbuffer.identity.enrolment import Enrolment
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.notify.duty import Notify
from ksefbuffer.queue import credentials, facts
from ksefbuffer.queue.db import Database
from ksefbuffer.receiver.filing import Filing
from ksefbuffer.receiver.pull import Pull
from ksefbuffer.receiver.refiling import Refiling
from ksefbuffer.receiver.rescan import Rescan
from ksefbuffer.receiver.stock import Stock
from ksefbuffer.sender.dispatch import Dispatch
from ksefbuffer.sender.handin import BatchSender
from ksefbuffer.sender.issuing import Issuing
from ksefbuffer.sender.lookout import Lookout
from ksefbuffer.sender.reconcile import Reconcile
from ksefbuffer.sender.restored import Restored
from ksefbuffer.sender.strays import Strays
from ksefbuffer.worker.access import Clock, enrolment_of

log = logging.getLogger(__name__)


@dataclass
class Renewals:
    """Keeps the certificates of the database going: requests under way, renewals, the daily look whether they stand.

    Nothing to do, and no machine key to ask for, while none is kept. One thread calls ``step``.
    """

    config: Config
    database: Database
    ksef: Ksef
    clock: Clock
    environ: Mapping[str, str]
    _enrolment: Enrolment | None = None

    @property
    def next_due(self) -> datetime | None:
        return self._enrolment.next_due if self._enrolment is not None else None

    def step(self) -> bool:
        """One unit of work. True when there may be more at once. Raises BufferFault."""
        if self._enrolment is None:
            if self.config.auth.method != "certificate":
                return False
            with self.database.reading() as tx:
                kept = credentials.all_kept(tx)
                in_touch = facts.get(tx, "ksef")
            # In the sandbox a certificate for offline codes is asked for unbidden, as the one for the login is made.
            wanted = self.config.environment == "sandbox" and not self.config.offline.has_key
            lacking = (
                wanted and all(row.purpose != "offline" for row in kept) and in_touch is not None and in_touch[0]["ok"]
            )
            if not kept and not lacking:
                return False
            self._enrolment = enrolment_of(
                self.config, self.database, self.ksef, environ=self.environ, clock=self.clock
            )
            if lacking:
                self._ask_for_offline(self._enrolment)
        return self._enrolment.step()

    def _ask_for_offline(self, enrolment: Enrolment) -> None:
        try:
            enrolment.start("offline")
        except (CallFault, CredentialFault, NotAllowedNow) as fault:
            log.info("no certificate for offline codes from this sandbox: %s", fault)


@dataclass
class Receiving:
    """The parts that bring invoices in. Pull and rescan share the exports, so one thread calls both."""

    stock: Stock
    pull: Pull
    rescan: Rescan
    filing: Filing
    refiling: Refiling
    hand_over: HandOver | None

    @property
    def next_due(self) -> datetime | None:
        dues = [due for due in (self.pull.next_due, self.rescan.next_due) if due is not None]
        return min(dues, default=None)

    def step(self) -> bool:
        """One unit of pulling; a rescan when there is nothing to pull."""
        return self.pull.step() or self.rescan.step()


@dataclass
class Buffer:
    """One buffer's working parts, joined but not started; tests call their steps one by one."""

    config: Config
    database: Database
    folder: FolderConnector
    rows: RowConnector | None
    ksef: Ksef
    dispatch: Dispatch
    reconcile: Reconcile
    batches: BatchSender
    settle_batches: Reconcile
    strays: Strays
    restored: Restored
    deliver: Deliver
    printing: PrintAnswers
    receiving: Receiving
    renewals: Renewals
    lookout: Lookout
    issuing: Issuing
    notices: Notify
    webhooks: Webhooks
    clock: Clock
    environ: Mapping[str, str] = field(default_factory=dict)

    def close(self) -> None:
        self.ksef.close()
        self.lookout.latarnia.close()
        if self.receiving.hand_over is not None:
            self.receiving.hand_over.table.close()
        if self.rows is not None:
            self.rows.table.close()
        self.database.close()
