from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.harness import template_database
from tests.receiver.world import Receiver, World


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return template_database(tmp_path_factory.mktemp("template"))


@pytest.fixture
def world(tmp_path: Path, template: Path) -> World:
    return World(tmp_path / "world", template)


@pytest.fixture
def receiver(world: World) -> Iterator[Receiver]:
    receiver = world.receiver()
    receiver.pull.recover()
    yield receiver
    receiver.close()
