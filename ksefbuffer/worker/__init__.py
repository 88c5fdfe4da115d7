"""The composition root of ``run``: lock, recovery, duties, signals, systemd."""

from __future__ import annotations

from ksefbuffer.worker.access import (
    Clock,
    enrolment_of,
    ksef_of,
    login_of,
    make_sandbox_certificate,
    offline_credential_of,
    utc_now,
    vault_of,
)
from ksefbuffer.worker.assembly import assemble, heeds_latarnia, prepare, prepare_receiving
from ksefbuffer.worker.duties import SAFETY_WAKE, Duty, Worker
from ksefbuffer.worker.parts import Buffer, Receiving, Renewals
from ksefbuffer.worker.rounds import in_force, orders_duty, orders_of, run

__all__ = [
    "SAFETY_WAKE",
    "Buffer",
    "Clock",
    "Duty",
    "Receiving",
    "Renewals",
    "Worker",
    "assemble",
    "enrolment_of",
    "heeds_latarnia",
    "in_force",
    "ksef_of",
    "login_of",
    "make_sandbox_certificate",
    "offline_credential_of",
    "orders_duty",
    "orders_of",
    "prepare",
    "prepare_receiving",
    "run",
    "utc_now",
    "vault_of",
]
