"""The composition root of ``run``: lock, recovery, duties, signals, systemd.

Each duty is a thread that calls its ``step`` while there is more, then sleeps until its next due time, a hint from
another duty, or the scheduler's safety wake. Duties share nothing but the database.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from apscheduler.schedulers.background import BackgroundScheduler

from ksefbuffer.config import Config, with_overrides
from ksefbuffer.erp import answers
from ksefbuffer.erp.delivery import Connector, Deliver
from ksefbuffer.erp.folder import FolderConnector, Folders
from ksefbuffer.erp.handover import HandOver
from ksefbuffer.erp.http import HttpConnector
from ksefbuffer.erp.printing import PrintAnswers
from ksefbuffer.erp.retake import Retake
from ksefbuffer.erp.rows import RowConnector
from ksefbuffer.erp.table import IncomingTable, TableConnector
from ksefbuffer.erp.webhook import Webhooks
from ksefbuffer.errors import BufferFault, CallFault, ConfigurationFault, CredentialFault, NotAllowedNow
from ksefbuffer.identity.chosen import Chosen, choose, stored_choice
from ksefbuffer.identity.enrolment import Enrolment
from ksefbuffer.identity.letterbox_opening import Letterbox, open_letterbox
from ksefbuffer.identity.material import Credential, load_credential
from ksefbuffer.identity.selfsigned import make_selfsigned
from ksefbuffer.identity.vault import Vault, open_vault
from ksefbuffer.invoice.precheck import CheckContext
from ksefbuffer.ksef.auth import CertificateLogin, Login, NoLogin, TokenLogin
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.latarnia import Latarnia
from ksefbuffer.ksef.limits import Limiter
from ksefbuffer.notify.duty import Notify, free_bytes
from ksefbuffer.notify.endings import named_in
from ksefbuffer.offline.calendar import WorkingDays
from ksefbuffer.queue import credentials, deliveries, facts, incoming, overrides, pauses, people, schema
from ksefbuffer.queue.db import Database, StorageFault
from ksefbuffer.receiver.exporting import Exports
from ksefbuffer.receiver.filing import Filing, FolderAway
from ksefbuffer.receiver.printing import PrintedInvoice
from ksefbuffer.receiver.progress import Progress
from ksefbuffer.receiver.pull import Pull
from ksefbuffer.receiver.refiling import Refiling
from ksefbuffer.receiver.rescan import Rescan
from ksefbuffer.receiver.shapes import Catalogue
from ksefbuffer.receiver.stock import Rules, Stock
from ksefbuffer.sdnotify import notify
from ksefbuffer.sender.dispatch import Dispatch
from ksefbuffer.sender.figures import Figures
from ksefbuffer.sender.handin import BatchSender
from ksefbuffer.sender.issuing import Context, Issuing
from ksefbuffer.sender.lookout import Lookout
from ksefbuffer.sender.memory import RememberedLimiter
from ksefbuffer.sender.orders import (
    IN_FORCE_FACT,
    LOGIN_TROUBLE_FACT,
    OVERRIDES_TROUBLE_FACT,
    Orders,
    opened_values,
)
from ksefbuffer.sender.pace import Pace
from ksefbuffer.sender.reconcile import Reconcile
from ksefbuffer.sender.restored import Restored
from ksefbuffer.sender.strays import Strays
from ksefbuffer.sender.trouble import SCOPE as KSEF_SCOPE

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]

SAFETY_WAKE = timedelta(seconds=2)
_LONGEST_FAULT_PAUSE_S = 30.0
_LONGEST_SLEEP_S = 3600.0
# A duty that has not finished a round for so long hangs: longer than any chain of timeouts in one step.
_HUNG_AFTER_S = 600.0
_WATCHDOG_EVERY_S = 10
_LIMITS_TOLD_EVERY_S = 15
_LEAD_CHECKED_EVERY_S = 5
_STOP_WITHIN_S = 45.0
_HANDED_OVER = "handed_over"


def utc_now() -> datetime:
    return datetime.now(UTC)


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


def vault_of(config: Config, database: Database, environ: Mapping[str, str]) -> Vault:
    """What opens the keys kept in the database. Raises ConfigurationFault, StorageFault."""
    with database.reading() as tx:
        may_make = not credentials.any_sealed(tx)
    return open_vault(config.data_dir, environ.get("CREDENTIALS_DIRECTORY"), may_make=may_make)


def login_of(
    config: Config, *, now: datetime, database: Database | None = None, environ: Mapping[str, str] | None = None
) -> Login:
    """The way in: files that the configuration names, else the certificate kept in the database; in "sandbox" a missing
    one is made, self-signed. Raises CredentialFault, ConfigurationFault.
    """
    auth = config.auth
    if auth.method == "token":
        return TokenLogin(auth.read_token())
    chosen = _chosen_login(config, database, environ or {}, now) if database is not None else None
    if chosen is not None:
        if chosen.note:
            log.warning("%s", chosen.note)
        return CertificateLogin(chosen.credential, auth.identifier)
    certificate, private_key = auth.certificate, auth.private_key
    if config.environment == "sandbox" and auth.pkcs12 is None:
        certificate = certificate or config.data_dir / "sandbox-auth.crt"
        private_key = private_key or config.data_dir / "sandbox-auth.key"
        if not certificate.exists() and not private_key.exists():
            make_sandbox_certificate(config.nip, certificate, private_key, now=now)
    if certificate is None and auth.pkcs12 is None:
        raise ConfigurationFault(
            "auth.certificate: brakuje certyfikatu do logowania w KSeF.",
            action="Podaj w [auth] certificate i private_key albo pkcs12, albo zapisz certyfikat w buforze: "
            "ksefbuffer cert import (pierwszy raz także: ksefbuffer cert auth-request).",
        )
    credential = load_credential(
        certificate=certificate, private_key=private_key, pkcs12=auth.pkcs12, password=auth.read_private_key_password()
    )
    # What it is for is a matter of configuration. Whether it is valid today is KSeF's to judge: invoices are taken in
    # and answered also while a new certificate is on its way.
    within = min(max(now, credential.certificate.not_valid_before_utc), credential.expires_at)
    credential.check_login(within)
    try:
        credential.check_valid(now)
    except CredentialFault as fault:
        log.warning("%s", fault)
    return CertificateLogin(credential, auth.identifier)


def _chosen_login(config: Config, database: Database, environ: Mapping[str, str], now: datetime) -> Chosen | None:
    """The certificate kept in the database, where the files do not go first."""
    if not schema.exists(database):
        return None
    with database.reading() as tx:
        kept = credentials.all_kept(tx) if schema.revision(database) == schema.head() else []
    if stored_choice("auth", kept) is None:
        return None
    found = choose("auth", config.auth, kept, lambda: vault_of(config, database, environ), now)
    return found if found is not None and found.kept is not None else None


def ksef_of(
    config: Config,
    database: Database,
    *,
    environ: Mapping[str, str],
    without_login: bool = False,
    clock: Clock = utc_now,
) -> Ksef:
    """KSeF for a command, its calls counted with the buffer's. Raises ConfigurationFault, CredentialFault."""
    limiter = RememberedLimiter(database)
    limiter.recall(clock())
    login = NoLogin() if without_login else login_of(config, now=clock(), database=database, environ=environ)
    return _ksef(config, login, limiter, clock, time.sleep)


def _ksef(config: Config, login: Login, limiter: Limiter, clock: Clock, sleep: Callable[[float], None]) -> Ksef:
    return Ksef(
        base_url=config.ksef.base_url,
        context_nip=config.nip,
        internal_id=config.auth.internal_id,
        login=login,
        limiter=limiter,
        clock=clock,
        sleep=sleep,
        timeout_s=config.ksef.timeout_seconds,
    )


def enrolment_of(
    config: Config,
    database: Database,
    ksef: Ksef,
    *,
    environ: Mapping[str, str],
    alone: bool = False,
    clock: Clock = utc_now,
) -> Enrolment:
    """Requests and renewals of certificates. With ``alone`` the access of ``ksef`` is that of a signed document, which
    a proof of the new certificate must not end."""

    def log_in_with(credential: Credential) -> None:
        login = CertificateLogin(credential, config.auth.identifier)
        if follows:
            ksef.adopt(login)
            return
        proof = _ksef(config, login, Limiter(), clock, time.sleep)
        try:
            proof.login_now()
        finally:
            proof.close()

    chosen = _chosen_login(config, database, environ, clock())
    follows = chosen is not None and not alone
    return Enrolment(
        database,
        credentials,
        ksef,
        vault_of(config, database, environ),
        clock,
        log_in_with=log_in_with,
        follows=follows,
        used=chosen.kept if chosen is not None else None,
    )


def make_sandbox_certificate(nip: str, certificate: Path, private_key: Path, *, now: datetime) -> None:
    """Writes a self-signed seal certificate; the sandbox (like KSeF's TEST) takes it, no other environment does."""
    certificate_pem, key_pem = make_selfsigned(nip, now=now)
    try:
        for path, content, mode in ((private_key, key_pem, 0o600), (certificate, certificate_pem, 0o644)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=mode)
            path.write_bytes(content)
    except OSError as error:
        raise ConfigurationFault(
            f"Nie można zapisać certyfikatu testowego {certificate}: {error.strerror}.",
            action="Sprawdź prawa do folderu.",
        ) from error
    log.info("self-signed certificate made for the sandbox: %s", certificate)


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
        ksef = _ksef(config, login, limiter, clock, sleep)

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


def offline_credential_of(
    config: Config, database: Database, environ: Mapping[str, str], now: datetime
) -> Credential | None:
    """What signs KOD II: the files that [offline] names, else the certificate kept in the database; None when there is
    neither. Raises CredentialFault, ConfigurationFault."""
    with database.reading() as tx:
        kept = credentials.all_kept(tx)
    chosen = choose("offline", config.offline, kept, lambda: vault_of(config, database, environ), now)
    return None if chosen is None else chosen.credential


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
    _migrate(buffer.database)
    with buffer.database.transaction() as tx:
        schema.bind(tx, buffer.config.nip, buffer.config.environment, at=buffer.clock())
    buffer.webhooks.prepare(buffer.clock())
    buffer.folder.prepare()
    buffer.dispatch.figures.recall(buffer.clock())
    buffer.dispatch.recover()
    buffer.batches.recover()
    if buffer.config.incoming.enabled:
        prepare_receiving(buffer)


def _migrate(database: Database) -> None:
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


class Duty:
    """A step, repeated. ``next_due`` says when it is to be called again by itself; ``wakes`` are told after work."""

    def __init__(
        self, name: str, step: Callable[[], bool], *, next_due: Callable[[], datetime | None], clock: Clock
    ) -> None:
        self.name = name
        self.wakes: Sequence[Duty] = ()
        self.wake = threading.Event()
        self.round_finished = time.monotonic()
        self._step = step
        self._next_due = next_due
        self._clock = clock
        self._thread: threading.Thread | None = None

    def start(self, stop: threading.Event) -> None:
        self._thread = threading.Thread(target=self._loop, args=(stop,), name=self.name, daemon=True)
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        if self._thread is not None:
            self._thread.join(timeout_s)
        return self._thread is None or not self._thread.is_alive()

    def _loop(self, stop: threading.Event) -> None:
        failures = 0
        while not stop.is_set():
            self.wake.clear()
            try:
                more = self._step()
                pause = None if more else self._until_due()
                failures = 0
            except BufferFault as fault:
                failures += 1
                log.warning("duty=%s: %s", self.name, fault)
                more, pause = False, min(2.0**failures, _LONGEST_FAULT_PAUSE_S)
            except Exception:
                # A fault nobody foresaw costs this unit of work and a pause, never the daemon.
                failures += 1
                log.exception("duty=%s failed; it goes on after a pause", self.name)
                more, pause = False, min(2.0**failures, _LONGEST_FAULT_PAUSE_S)
            self.round_finished = time.monotonic()
            if more:
                for other in self.wakes:
                    other.wake.set()
            elif failures:
                stop.wait(pause)
            else:
                self.wake.wait(pause)

    def _until_due(self) -> float | None:
        """Seconds to sleep; None until a hint comes (the scheduler's safety wake is one)."""
        due = self._next_due()
        # A pause without an end is asked about again now and then; the system cannot sleep until the year 9999.
        return None if due is None else min(max(0.0, (due - self._clock()).total_seconds()), _LONGEST_SLEEP_S)


class Worker:
    """Runs a prepared buffer until told to stop."""

    def __init__(self, buffer: Buffer, *, leads: Callable[[], bool] = lambda: True) -> None:
        self._buffer = buffer
        self._leads = leads
        self.lost_lead = False
        self.stop = threading.Event()
        # Of the whole process; another one than ``stop`` for who may begin anew.
        self.ending = self.stop
        clock = buffer.clock
        folder, deliver = buffer.folder, buffer.deliver

        def due_delivery() -> datetime | None:
            with buffer.database.reading() as tx:
                return deliveries.next_due(tx)

        intake = Duty("intake", self._take_files, next_due=lambda: folder.next_scan(clock()), clock=clock)
        dispatch = Duty("dispatch", buffer.dispatch.step, next_due=lambda: buffer.dispatch.next_due, clock=clock)
        reconcile = Duty("reconcile", buffer.reconcile.step, next_due=lambda: buffer.reconcile.next_due, clock=clock)
        answers = Duty("deliver", lambda: deliver.step(clock()), next_due=due_delivery, clock=clock)
        batch = Duty("batch", buffer.batches.step, next_due=lambda: buffer.batches.next_due, clock=clock)
        settle = Duty(
            "settle", buffer.settle_batches.step, next_due=lambda: buffer.settle_batches.next_due, clock=clock
        )
        strays = Duty("strays", buffer.strays.step, next_due=lambda: buffer.strays.next_due, clock=clock)
        restored = Duty("restored", buffer.restored.step, next_due=lambda: buffer.restored.next_due, clock=clock)
        batch.wakes = (settle, answers)
        reconcile.wakes = (answers, dispatch)
        settle.wakes = (answers, batch, dispatch)
        restored.wakes = (answers, dispatch, batch)
        lookout = Duty("lookout", buffer.lookout.step, next_due=lambda: buffer.lookout.next_due, clock=clock)
        issuing = Duty("issuing", buffer.issuing.step, next_due=lambda: buffer.issuing.next_due, clock=clock)
        lookout.wakes = (issuing,)
        issuing.wakes = (answers, dispatch, batch)
        printing = Duty(
            "printing", lambda: buffer.printing.step(clock()), next_due=buffer.printing.next_due, clock=clock
        )
        answers.wakes = (printing,)
        notices = Duty(
            "notices", lambda: buffer.notices.step(clock()), next_due=lambda: buffer.notices.next_due, clock=clock
        )
        intake.wakes = (issuing, dispatch, batch, answers)
        dispatch.wakes = (issuing, reconcile, answers)
        renewals = Duty("renewals", buffer.renewals.step, next_due=lambda: buffer.renewals.next_due, clock=clock)
        self.duties = [intake, issuing, dispatch, batch, reconcile, settle, strays, restored, renewals, lookout]
        webhooks = Duty(
            "webhooks", lambda: buffer.webhooks.step(clock()), next_due=buffer.webhooks.next_due, clock=clock
        )
        for duty in self.duties:
            if answers in duty.wakes:
                duty.wakes = (*duty.wakes, webhooks)
        self.duties += [answers, printing, notices, webhooks]
        self.duties += self._receiving_duties()
        self._intake = intake
        # Not known at the start: an earlier life may have told of files that are gone.
        self._told: dict[str, str] | None = None
        self._table_state: dict[str, object] = {}
        self._limits_told: dict[str, object] = {}
        self._hand_over_trouble: str | None = None
        self._filing_trouble: str | None = None
        if buffer.rows is not None:
            table = Duty("table", self._take_rows, next_due=lambda: None, clock=clock)
            table.wakes = (issuing, dispatch, batch, answers)
            self.duties.append(table)
            self._table: Duty | None = table
        else:
            self._table = None

    def _receiving_duties(self) -> list[Duty]:
        buffer, clock = self._buffer, self._buffer.clock
        if not buffer.config.incoming.enabled:
            return []
        receiving = buffer.receiving
        filing = Duty("filing", self._file, next_due=receiving.filing.next_due, clock=clock)
        pull = Duty("pull", receiving.step, next_due=lambda: receiving.next_due, clock=clock)
        pull.wakes = (filing,)
        refiling = Duty("refiling", receiving.refiling.step, next_due=lambda: None, clock=clock)
        refiling.wakes = (filing,)
        duties = [pull, filing, refiling]
        hand_over = receiving.hand_over
        if hand_over is not None:
            rows = Duty("hand-over", lambda: self._hand_over(hand_over), next_due=hand_over.next_due, clock=clock)
            pull.wakes = (filing, rows)
            duties.append(rows)
        return duties

    def run(self) -> None:
        """Works until ``stop`` is set or the process is told to end. Call ``prepare`` first."""
        config, environ = self._buffer.config, self._buffer.environ
        stop_watching = self._buffer.folder.watch(self._intake.wake.set)
        scheduler = BackgroundScheduler(
            timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )
        scheduler.add_job(self._intake.wake.set, "interval", seconds=config.inbox.poll_seconds)
        if self._table is not None:
            scheduler.add_job(self._table.wake.set, "interval", seconds=config.table.poll_seconds)
        scheduler.add_job(self._safety_wake, "interval", seconds=SAFETY_WAKE.total_seconds())
        scheduler.add_job(self._tell_limits, "interval", seconds=_LIMITS_TOLD_EVERY_S)
        scheduler.add_job(self._pat_watchdog, "interval", seconds=_WATCHDOG_EVERY_S)
        scheduler.add_job(self._check_lead, "interval", seconds=_LEAD_CHECKED_EVERY_S)
        for duty in self.duties:
            duty.start(self.stop)
        scheduler.start()
        notify(environ, f"READY=1\nSTATUS=Bufor NIP {config.nip} ({config.environment}) pracuje")
        log.info("buffer nip=%s environment=%s works", config.nip, config.environment)
        self.stop.wait()
        if self.ending.is_set() or self.lost_lead:
            # To systemd that is the end of the service: who begins anew must not say it.
            notify(environ, "STOPPING=1")
        log.info("stopping: steps end at their next commit")
        scheduler.shutdown(wait=False)
        stop_watching()
        deadline = time.monotonic() + _STOP_WITHIN_S
        for duty in self.duties:
            duty.wake.set()
        ended = [duty.join(max(0.1, deadline - time.monotonic())) for duty in self.duties]
        if all(ended):
            self._buffer.dispatch.close_all()
        log.info("stopped")

    def _take_files(self) -> bool:
        folder = self._buffer.folder
        now = self._buffer.clock()
        more = folder.take_in(now)
        if folder.passed_over != self._told:
            told = folder.passed_over
            with self._buffer.database.transaction() as tx:
                facts.put(tx, "passed_over", dict(list(told.items())[:50]), at=now)
            self._told = told
        return more

    def _take_rows(self) -> bool:
        rows = self._buffer.rows
        assert rows is not None
        now = self._buffer.clock()
        try:
            more = rows.take_in(now)
        except BufferFault as fault:
            self._note_table({"ok": False, "message": str(fault)}, now)
            raise
        self._note_table({"ok": True, "message": ""}, now)
        return more

    def _file(self) -> bool:
        now = self._buffer.clock()
        trouble = ""
        try:
            return self._buffer.receiving.filing.step(now)
        except BufferFault as fault:
            trouble = str(fault)
            raise
        finally:
            if trouble != self._filing_trouble:
                self._filing_trouble = trouble
                with self._buffer.database.transaction() as tx:
                    facts.put(tx, "filing_trouble", {"message": trouble}, at=now)

    def _hand_over(self, hand_over: HandOver) -> bool:
        now = self._buffer.clock()
        more = hand_over.step(now)
        if hand_over.trouble != self._hand_over_trouble:
            self._hand_over_trouble = hand_over.trouble
            with self._buffer.database.transaction() as tx:
                facts.put(tx, "hand_over", {"message": hand_over.trouble}, at=now)
        return more

    def _note_table(self, state: dict[str, object], now: datetime) -> None:
        if state != self._table_state:
            self._table_state = state
            with self._buffer.database.transaction() as tx:
                facts.put(tx, "table", state, at=now)

    def _safety_wake(self) -> None:
        for duty in self.duties:
            if duty is not self._intake and duty is not self._table:
                duty.wake.set()

    def _check_lead(self) -> None:
        """Once our lock is gone another node may lead; what we began is safe, as every move is compare-and-swap."""
        if not self._leads():
            self.lost_lead = True
            self.stop.set()

    def _tell_limits(self) -> None:
        """What is used of KSeF's limits, for ``status``; written only when it changed."""
        now = self._buffer.clock()
        limiter = self._buffer.dispatch.figures.limiter
        used: dict[str, object] = {}
        for group, usage in limiter.snapshot(now).items():
            if usage.per_hour or usage.blocked_until or usage.foreign_since:
                limit = limiter.limit(group)
                used[group] = {
                    "minute": usage.per_minute,
                    "per_minute": limit.per_minute,
                    "hour": usage.per_hour,
                    "per_hour": limit.per_hour,
                    "blocked_until": answers.moment(usage.blocked_until),
                    "foreign_since": answers.moment(usage.foreign_since),
                }
        if used != self._limits_told:
            self._limits_told = used
            with self._buffer.database.transaction() as tx:
                facts.put(tx, "limits", used, at=now)

    def _pat_watchdog(self) -> None:
        hung = [duty.name for duty in self.duties if time.monotonic() - duty.round_finished > _HUNG_AFTER_S]
        if hung:
            log.error("duties hang: %s; the watchdog is not fed", ", ".join(hung))
        else:
            notify(self._buffer.environ, "WATCHDOG=1")


def orders_of(buffer: Buffer) -> Orders:
    """The duty that does what the page asks for. A machine key that cannot be used is told to who asks for something;
    everything else goes on without it. Raises StorageFault."""
    config, database, environ, clock = buffer.config, buffer.database, buffer.environ, buffer.clock
    limiter = buffer.dispatch.figures.limiter
    letterbox, trouble = _letterbox(config, database, environ, clock())
    return Orders(
        config,
        database,
        buffer.ksef,
        clock,
        letterbox,
        lambda: vault_of(config, database, environ),
        lambda ksef, alone: enrolment_of(config, database, ksef, environ=environ, alone=alone, clock=clock),
        lambda: _ksef(config, NoLogin(), limiter, clock, time.sleep),
        trouble,
    )


def _letterbox(
    config: Config, database: Database, environ: Mapping[str, str], now: datetime
) -> tuple[Letterbox | None, BufferFault | None]:
    try:
        return open_letterbox(database, facts, vault_of(config, database, environ), now=now), None
    except (ConfigurationFault, CredentialFault) as fault:
        log.warning("the page cannot be served with certificates: %s", fault)
        return None, fault


@dataclass(frozen=True)
class Wishes:
    """What makes a running buffer begin anew: settings changed on the page, another certificate to log in with."""

    overrides: Mapping[str, object]
    login: int | None

    @classmethod
    def read(cls, config: Config, database: Database) -> Wishes:
        """As they stand now. Raises StorageFault."""
        with database.reading() as tx:
            changed = overrides.values(tx)
            by_kept = config.auth.method == "certificate" and not named_files_exist(config)
            active = credentials.active(tx, "auth") if by_kept else None
        return cls(changed, active.id if active is not None else None)


def named_files_exist(config: Config) -> bool:
    """Whether any of the files is there that [auth] names for logging in."""
    auth = config.auth
    return any(path is not None and path.exists() for path in (auth.certificate, auth.private_key, auth.pkcs12))


def in_force(config: Config, database: Database, environ: Mapping[str, str], wishes: Wishes) -> Config:
    """The settings with what was changed on the page; as the file says, when that does not go together any more.

    Files that [auth] names and that are not there give way to a certificate kept in the database: who brings one on
    the page cannot edit the file. Raises StorageFault.
    """
    letterbox, _ = _letterbox(config, database, environ, utc_now())
    try:
        config = with_overrides(config, opened_values(wishes.overrides, letterbox))
    except (ConfigurationFault, CredentialFault) as fault:
        log.warning("settings changed on the page are left out: %s", fault)
        with database.transaction() as tx:
            facts.put(tx, OVERRIDES_TROUBLE_FACT, {"message": fault.message, "action": fault.action}, at=utc_now())
    else:
        with database.transaction() as tx:
            facts.forget(tx, OVERRIDES_TROUBLE_FACT)
            facts.put(tx, IN_FORCE_FACT, sorted(wishes.overrides), at=utc_now())
    if not config.auth.has_key or named_files_exist(config):
        return config
    with database.reading() as tx:
        if stored_choice("auth", credentials.all_kept(tx)) is None:
            return config
    log.warning("the files that [auth] names are not there; the certificate kept in the database is used")
    unnamed = {"certificate": None, "private_key": None, "pkcs12": None}
    return config.model_copy(update={"auth": config.auth.model_copy(update=unnamed)})


def _assembled(config: Config, database: Database, environ: Mapping[str, str]) -> Buffer:
    """The buffer; without any way in to KSeF while an administrator can still bring one on the page."""
    limiter = RememberedLimiter(database)
    try:
        buffer = assemble(config, database=database, limiter=limiter, environ=environ)
    except (ConfigurationFault, CredentialFault) as fault:
        with database.reading() as tx:
            if not people.any_admin(tx):
                raise
        ksef = _ksef(config, NoLogin(), limiter, utc_now, time.sleep)
        buffer = assemble(config, database=database, limiter=limiter, ksef=ksef, environ=environ)
        log.warning("no way in to KSeF, one may be brought on the page: %s", fault)
        with database.transaction() as tx:
            facts.put(tx, LOGIN_TROUBLE_FACT, {"message": fault.message, "action": fault.action}, at=utc_now())
    else:
        with database.transaction() as tx:
            if facts.get(tx, LOGIN_TROUBLE_FACT) is not None:
                facts.forget(tx, LOGIN_TROUBLE_FACT)
                # What went wrong for want of a way in says nothing of the one that we have now.
                pauses.over(tx, KSEF_SCOPE, pauses.INCOMING)
    return buffer


def run(config: Config, *, environ: Mapping[str, str], ready: Callable[[], None] = lambda: None) -> None:
    """``ksefbuffer run``: blocks until SIGTERM or SIGINT. Settings changed on the page, and a new certificate to log in
    with, begin the work anew in the same process. Raises ConfigurationFault, CredentialFault, StorageFault."""
    ending = threading.Event()
    stops = [ending]

    def end(*_: object) -> None:
        for stop in stops:
            stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    database = Database(config.database.url)
    with database.sole_worker(wait=ending) as lock:
        while not ending.is_set():
            _migrate(database)
            wishes = Wishes.read(config, database)
            buffer = _assembled(in_force(config, database, environ, wishes), database, environ)
            orders: Orders | None = None
            try:
                prepare(buffer)
                orders = orders_of(buffer)
                worker = Worker(buffer, leads=lock.held)
                worker.ending = ending
                worker.duties += [
                    orders_duty(orders, buffer.clock),
                    _wishes_duty(config, buffer, wishes, worker.stop),
                ]
                stops[1:] = [worker.stop]
                if ending.is_set():
                    worker.stop.set()
                ready()
                worker.run()
            finally:
                if orders is not None:
                    orders.close()
                buffer.close()
            if worker.lost_lead:
                raise StorageFault(
                    "Utracono połączenie z bazą, które dawało temu węzłowi prowadzenie bufora.",
                    action="Proces zakończył pracę; po ponownym uruchomieniu stanie w kolejce do prowadzenia.",
                )
            if not ending.is_set() and not all(duty.join(0.0) for duty in worker.duties):
                raise StorageFault(
                    "Nie udało się zmienić ustawień w trakcie pracy: część zadań nie zakończyła się w porę.",
                    action="Proces zakończył pracę; po ponownym uruchomieniu zastosuje nowe ustawienia.",
                )


def orders_duty(orders: Orders, clock: Clock) -> Duty:
    """For the duties of a Worker that has a page beside it."""
    return Duty("orders", orders.step, next_due=lambda: orders.next_due, clock=clock)


def _wishes_duty(config: Config, buffer: Buffer, wishes: Wishes, stop: threading.Event) -> Duty:
    def look() -> bool:
        if Wishes.read(config, buffer.database) != wishes:
            log.info("settings or the certificate to log in with have changed; the work begins anew")
            stop.set()
        return False

    return Duty("wishes", look, next_due=lambda: None, clock=buffer.clock)
