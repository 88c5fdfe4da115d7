from __future__ import annotations

from collections.abc import Iterator

import pytest

from ksefbuffer.sandbox import Sandbox
from tests.sandbox import contract
from tests.sandbox.client import Client, FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def sandbox(clock: FakeClock) -> Iterator[Sandbox]:
    sandbox = Sandbox(clock=clock, latency_s=2, limits="none", seed=1)
    yield sandbox
    sandbox.close()


@pytest.fixture
def client(sandbox: Sandbox, clock: FakeClock) -> Iterator[Client]:
    """Every answer it got, in whatever test, is judged by the official document (unless faults were ordered)."""
    client = Client(sandbox, clock)
    yield client
    if contract.DOCUMENT.exists() and not client.troubled:
        assert contract.complaints(client.seen) == []
