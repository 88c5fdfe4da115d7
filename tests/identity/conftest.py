"""A buffer's keeping of certificates beside a KSeF that issues them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ksefbuffer.identity.enrolment import Enrolment
from ksefbuffer.identity.material import Credential, load_files
from ksefbuffer.identity.selfsigned import make_selfsigned
from ksefbuffer.identity.vault import Vault
from ksefbuffer.ksef.auth import CertificateLogin, Login
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.queue import credentials
from ksefbuffer.queue.credentials import Kept
from ksefbuffer.queue.db import Database
from tests.identity.authority import CertifyingKsef
from tests.ksef.fake import NIP, Clock


class Office:
    """One buffer; ``restarted`` forgets all that is not in the database."""

    def __init__(self, database: Database, root: Path) -> None:
        self.database = database
        self.root = root
        self.clock = Clock()
        self.fake = CertifyingKsef(self.clock)
        self.vault = Vault(b"m" * 32)
        self.logins: list[str] = []
        self.login: Login = CertificateLogin(self.first())
        self.restarted()

    def first(self) -> Credential:
        """What the company logs in with at first: a seal."""
        certificate, key = make_selfsigned(NIP, now=self.clock())
        (self.root / "seal.pem").write_bytes(certificate + key)
        return load_files(self.root / "seal.pem", None, None)

    def restarted(self, ksef: Ksef | None = None) -> Enrolment:
        if hasattr(self, "ksef"):
            self.ksef.close()
        self.ksef: Ksef = ksef or self.fake.client(login=self.login)

        def log_in_with(credential: Credential) -> None:
            self.logins.append(credential.serial_hex)
            self.ksef.adopt(CertificateLogin(credential))

        self.enrolment = Enrolment(
            self.database, credentials, self.ksef, self.vault, self.clock, log_in_with=log_in_with
        )
        return self.enrolment

    def rows(self) -> list[Kept]:
        with self.database.reading() as tx:
            return credentials.all_kept(tx)

    def active(self, purpose: str) -> Kept | None:
        with self.database.reading() as tx:
            return credentials.active(tx, purpose)

    def pending(self, purpose: str) -> Kept | None:
        with self.database.reading() as tx:
            return credentials.pending(tx, purpose)

    def work(self, hours: float = 1.0) -> None:
        """Lets the duty do what is due, and the time pass to what comes next, for so long."""
        end = self.clock.now.timestamp() + hours * 3600
        for _ in range(10_000):
            while self.enrolment.step():
                pass
            due = self.enrolment.next_due
            if due is None or due.timestamp() >= end:
                self.clock.sleep(max(0.0, end - self.clock.now.timestamp()))
                return
            self.clock.sleep(max(0.1, (due - self.clock.now).total_seconds()))
        raise AssertionError("it does not come to rest")


@pytest.fixture
def office(sqlite_database: Database, tmp_path: Path) -> Iterator[Office]:
    office = Office(sqlite_database, tmp_path)
    yield office
    office.ksef.close()
