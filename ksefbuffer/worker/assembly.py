"""Joining the parts of a buffer, and what they need before their first step."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from ksefbuffer.config import Config
from ksefbuffer.erp.delivery import Connector, Deliver
from ksefbuffer.erp.folder import FolderConnector, Folders
from ksefbuffer.erp.handover import HandOver
from ksefbuffer.erp.http import HttpConnector
from ksefbuffer.erp.printing import PrintAnswers
from ksefbuffer.erp.retake import Retake
from ksefbuffer.erp.rows import RowConnector
from ksefbuffer.erp.table import IncomingTable, TableConnector
from ksefbuffer.erp.webhook import Webhooks
from ksefbuffer.invoice.precheck import CheckContext
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.latarnia import Latarnia
from ksefbuffer.ksef.limits import Limiter
from ksefbuffer.notify.duty import Notify, free_bytes
from ksefbuffer.notify.endings import named_in
from ksefbuffer.offline.calendar import WorkingDays
from ksefbuffer.queue import facts, incoming, schema
from ksefbuffer.queue.db import Database
from ksefbuffer.receiver.exporting import Exports
from ksefbuffer.receiver.filing import Filing, FolderAway
from ksefbuffer.receiver.printing import PrintedInvoice
from ksefbuffer.receiver.progress import Progress
from ksefbuffer.receiver.pull import Pull
from ksefbuffer.receiver.refiling import Refiling
from ksefbuffer.receiver.rescan import Rescan
from ksefbuffer.receiver.shapes import Catalogue
from ksefbuffer.receiver.stock import Rules, Stock
from ksefbuffer.sender.dispatch import Dispatch
from ksefbuffer.sender.figures import Figures
from ksefbuffer.sender.handin import BatchSender
from ksefbuffer.sender.issuing import Context, Issuing
from ksefbuffer.sender.lookout import Lookout
from ksefbuffer.sender.memory import RememberedLimiter
from ksefbuffer.sender.pace import Pace
from ksefbuffer.sender.reconcile import Reconcile
from ksefbuffer.sender.restored import Restored
from ksefbuffer.sender.strays import Strays
from ksefbuffer.worker.access import Clock, login_of, make_ksef, offline_credential_of, utc_now
from ksefbuffer.worker.parts import Buffer, Receiving, Renewals

log = logging.getLogger(__name__)

_HANDED_OVER = "handed_over"


def assemble(
    config: Config,
    *,
    clock: Clock = utc_now,
    sleep: Callable[[float], None] = time.sleep,
    database: Database | None = None,
    ksef: Ksef | None = None,
    limiter: Limiter | None = None,
    latarnia: Latarnia | None = None,
    environ: Mapping[str, str] | None = None,
) -> Buffer:
    """Joins the parts. Makes no call and starts nothing. Raises ConfigurationFault, CredentialFault."""
    database = database or Database(config.database.url)
    limiter = limiter or RememberedLimiter(database)
    if ksef is None:
        login = login_of(config, now=clock(), database=database, environ=environ)
        ksef = make_ksef(config, login, limiter, clock, sleep)

    figures = Figures(database, ksef, limiter)

    def context(now: datetime) -> CheckContext:
        return CheckContext(
            nip=config.nip,
            environment=config.environment,
            now=now,
            max_bytes=figures.online.invoice_bytes,
            max_bytes_with_attachment=figures.batch.invoice_with_attachment_bytes,
        )

    paths = config.paths
    folder = FolderConnector(
        database,
        Folders(
            paths.inbox,
            paths.outbox,
            paths.processed,
            paths.rejected,
            tuple(config.inbox.responses),
            pdf=config.inbox.pdf,
        ),
        context=context,
        settle=timedelta(seconds=config.inbox.settle_seconds),
    )
    rows = None
    if config.table.enabled:
        table = TableConnector(config.table.url, config.table.outgoing, buffer_name=f"ksefbuffer NIP {config.nip}")
        rows = RowConnector(database, table, context)
    connectors: dict[str, Connector] = {"folder": folder, "http": HttpConnector()}
    if rows is not None:
        connectors["table"] = rows
    pace = Pace()
    idle = timedelta(seconds=config.sending.session_idle_seconds)
    branch = config.auth.internal_id or config.nip
    packages = config.data_dir / "batches"
    batches = BatchSender(database, ksef, clock, limiter, pace, packages, config.sending.batch_from, figures)
    deliver = Deliver(database, connectors, config.ksef.qr_url)
    return Buffer(
        config=config,
        database=database,
        folder=folder,
        rows=rows,
        ksef=ksef,
        dispatch=Dispatch(database, ksef, clock, idle, pace, figures, batches.leaves_singles_alone),
        reconcile=Reconcile(database, ksef, clock, pace, context=branch),
        batches=batches,
        settle_batches=Reconcile(database, ksef, clock, pace, context=branch, kind="batch", limiter=limiter),
        strays=Strays(database, ksef, clock),
        restored=Restored(
            database,
            ksef,
            clock,
            [Retake(database, paths.processed, context).step, *([rows.take_again] if rows is not None else [])],
        ),
        deliver=deliver,
        printing=PrintAnswers(deliver),
        receiving=_receiving(config, database, ksef, limiter, clock),
        renewals=Renewals(config, database, ksef, clock, environ or {}),
        lookout=Lookout(database, latarnia or _latarnia(config, clock, sleep), clock, heeds_latarnia(config)),
        issuing=_issuing(config, database, clock, environ or {}, batches),
        notices=_notices(config, database, clock),
        webhooks=Webhooks.of(config, database),
        clock=clock,
        environ=environ or {},
    )


def heeds_latarnia(config: Config) -> bool:
    """Whether notices of KSeF's failures count: those of TEST and DEMO are a mock (FACTS §10)."""
    if config.offline.heed_latarnia is not None:
        return config.offline.heed_latarnia
    return config.environment in ("production", "sandbox")


def _latarnia(config: Config, clock: Clock, sleep: Callable[[float], None]) -> Latarnia:
    return Latarnia(config.ksef.latarnia_url if heeds_latarnia(config) else "", clock, sleep)


def _issuing(
    config: Config, database: Database, clock: Clock, environ: Mapping[str, str], batches: BatchSender
) -> Issuing:
    offline, branch = config.offline, config.auth.internal_id
    return Issuing(
        database,
        clock,
        offline.mode,
        timedelta(seconds=offline.auto_after_seconds),
        heeds_latarnia(config),
        WorkingDays(frozenset(offline.free_days), frozenset(offline.working_days)),
        Context(config.ksef.qr_url, "InternalId" if branch else "Nip", branch or config.nip),
        lambda now: offline_credential_of(config, database, environ, now),
        batches.sending_takes,
    )


def _notices(config: Config, database: Database, clock: Clock) -> Notify:
    return Notify(
        database,
        config.notify.urls,
        config.notify.events,
        lambda: free_bytes(config.data_dir),
        clock,
        buffer_name=f"ksefbuffer NIP {config.nip}",
        endings=lambda now: named_in(config, now),
        table=config.table.enabled,
        pulling=config.incoming.enabled,
    )


def _receiving(config: Config, database: Database, ksef: Ksef, limiter: Limiter, clock: Clock) -> Receiving:
    wants = config.incoming
    stock = Stock(database, Rules(config.nip, config.environment), wants.since, rows=config.table.enabled)
    progress = Progress(wants.subjects)
    exports = Exports(database, ksef, clock, stock, config.data_dir / "exports", progress)
    interval = timedelta(minutes=wants.interval_minutes)
    hand_over = None
    if config.table.enabled:
        table = IncomingTable(config.table.url, config.table.incoming, buffer_name=f"ksefbuffer NIP {config.nip}")
        hand_over = HandOver(database, table)

    # Its own, as it is asked in another thread than the stock's.
    in_force = Rules(config.nip, config.environment)

    def catalogue_of(folder: str) -> Catalogue | None:
        with database.reading() as tx:
            in_force.refresh(tx)
        return in_force.rulebook.catalogue_of(folder)

    return Receiving(
        stock,
        Pull(database, ksef, limiter, clock, stock, exports, progress, wants.subjects, wants.since, interval),
        Rescan(database, ksef, limiter, clock, stock, exports, wants.subjects),
        Filing(
            database,
            config.paths.incoming,
            catalogue_of,
            page=PrintedInvoice(config.ksef.qr_url) if wants.pdf else None,
        ),
        # A stock of its own, as it works in another thread than the pull.
        Refiling(database, Stock(database, Rules(config.nip, config.environment), wants.since), clock),
        hand_over,
    )


def prepare(buffer: Buffer) -> None:
    """Migrates, binds the database to this NIP, makes the folders, recovers. Raises ConfigurationFault."""
    migrate(buffer.database)
    with buffer.database.transaction() as tx:
        schema.bind(tx, buffer.config.nip, buffer.config.environment, at=buffer.clock())
    buffer.webhooks.prepare(buffer.clock())
    buffer.folder.prepare()
    buffer.dispatch.figures.recall(buffer.clock())
    buffer.dispatch.recover()
    buffer.batches.recover()
    if buffer.config.incoming.enabled:
        prepare_receiving(buffer)


def migrate(database: Database) -> None:
    before, after = schema.upgrade(database)
    if before != after:
        log.info("database schema %s → %s", before, after)


def prepare_receiving(buffer: Buffer) -> None:
    """What pulling and filing need before their first step. Raises StorageFault."""
    now = buffer.clock()
    try:
        buffer.receiving.filing.prepare(now)
    except FolderAway as fault:
        # A share that is not there keeps neither sending nor pulling; filing tries again by itself.
        log.warning("%s", fault)
    buffer.receiving.pull.recover()
    with buffer.database.transaction() as tx:
        handed_over = facts.get(tx, _HANDED_OVER) is not None
        if buffer.receiving.hand_over is None:
            facts.forget(tx, _HANDED_OVER)
        elif not handed_over:
            # Switched on after invoices had come: the ERP gets those too.
            incoming.write_rows_for_all(tx, at=now)
            facts.put(tx, _HANDED_OVER, True, at=now)
