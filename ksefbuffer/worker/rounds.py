"""``run``: the lock, the rounds of work that changed settings begin anew, signals."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from ksefbuffer.config import Config, with_overrides
from ksefbuffer.errors import BufferFault, ConfigurationFault, CredentialFault
from ksefbuffer.identity.chosen import stored_choice
from ksefbuffer.identity.letterbox_opening import Letterbox, open_letterbox
from ksefbuffer.ksef.auth import NoLogin
from ksefbuffer.queue import credentials, facts, overrides, pauses, people
from ksefbuffer.queue.db import Database, StorageFault
from ksefbuffer.sender.memory import RememberedLimiter
from ksefbuffer.sender.orders import (
    IN_FORCE_FACT,
    LOGIN_TROUBLE_FACT,
    OVERRIDES_TROUBLE_FACT,
    Orders,
    opened_values,
)
from ksefbuffer.sender.trouble import SCOPE as KSEF_SCOPE
from ksefbuffer.worker.access import Clock, enrolment_of, make_ksef, utc_now, vault_of
from ksefbuffer.worker.assembly import assemble, migrate, prepare
from ksefbuffer.worker.duties import Duty, Worker
from ksefbuffer.worker.parts import Buffer

log = logging.getLogger(__name__)


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
        lambda: make_ksef(config, NoLogin(), limiter, clock, time.sleep),
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
        ksef = make_ksef(config, NoLogin(), limiter, utc_now, time.sleep)
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
            migrate(database)
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
