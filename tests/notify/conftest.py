from __future__ import annotations

from collections.abc import Iterator

import pytest

from ksefbuffer.queue.db import Database
from tests.conftest import Clock
from tests.notify.post import Post, Staff, opened


@pytest.fixture
def post() -> Iterator[Post]:
    with opened() as address:
        yield address


@pytest.fixture
def staff(sqlite_database: Database, clock: Clock, post: Post) -> Staff:
    """The duty with one address that works, already looking."""
    people = Staff(sqlite_database, clock, post.url)
    people.look()
    assert post.taken == [], "an idle buffer has nothing to tell"
    return people
