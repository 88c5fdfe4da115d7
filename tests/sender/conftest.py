from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ksefbuffer.identity.material import load_credential
from ksefbuffer.identity.selfsigned import make_selfsigned
from ksefbuffer.ksef.auth import CertificateLogin
from ksefbuffer.ksef.limits import Limiter
from ksefbuffer.queue import documents
from ksefbuffer.queue.documents import Document
from ksefbuffer.worker import Buffer, prepare
from tests.crash.harness import START, World, no_limits, template_database
from tests.samples import NIP


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return template_database(tmp_path_factory.mktemp("template"))


@pytest.fixture(scope="session")
def login(tmp_path_factory: pytest.TempPathFactory) -> CertificateLogin:
    folder = tmp_path_factory.mktemp("login")
    certificate, key = make_selfsigned(NIP, now=START - timedelta(days=1))
    (folder / "a.crt").write_bytes(certificate)
    (folder / "a.key").write_bytes(key)
    return CertificateLogin(
        load_credential(certificate=folder / "a.crt", private_key=folder / "a.key", pkcs12=None, password=None)
    )


class Shop:
    """A buffer at work beside its KSeF, for tests that look over its shoulder."""

    def __init__(self, world: World, login: CertificateLogin, limiter: Limiter) -> None:
        self.world = world
        self.sandbox = world.sandbox
        self.clock = world.clock
        self.drop = world.drop
        self.buffer: Buffer = world.buffer(login, limiter=limiter)
        prepare(self.buffer)

    def work(self, until: Callable[[], bool] | None = None) -> None:
        self.world.work(self.buffer, until)

    def work_for(self, **duration: float) -> None:
        end = self.clock.now + timedelta(**duration)
        self.work(until=lambda: self.clock.now >= end)

    def document(self, number: str) -> Document:
        with self.buffer.database.reading() as tx:
            (found,) = [d for d in documents.listing(tx) if d.invoice_number == number]
        return found

    def history(self, number: str) -> list[str]:
        with self.buffer.database.reading() as tx:
            return [str(move["to_state"]) for move in documents.history(tx, self.document(number).id)]

    def answer(self, name: str) -> dict[str, Any]:
        path = self.world.folder / "outbox" / f"{name}.ksef.json"
        told: dict[str, Any] = json.loads(path.read_text())
        return told


@pytest.fixture
def shop(tmp_path: Path, template: Path, login: CertificateLogin) -> Iterator[Shop]:
    shop = Shop(World(tmp_path / "shop", template, good=0), login, no_limits())
    yield shop
    shop.buffer.close()
    shop.sandbox.close()


@pytest.fixture
def limited_shop(tmp_path: Path, template: Path, login: CertificateLogin) -> Iterator[Shop]:
    """The same under KSeF's production limits, on both sides."""
    world = World(tmp_path / "shop", template, good=0, limits="production")
    shop = Shop(world, login, Limiter())
    yield shop
    shop.buffer.close()
    shop.sandbox.close()
