from __future__ import annotations

import pytest

from tests.ksef.fake import Clock, FakeKsef


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fake(clock: Clock) -> FakeKsef:
    return FakeKsef(clock)
