"""Files every received invoice anew when the page asked for it: some at a time, going on where a restart left off."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from ksefbuffer.queue import incoming, rulebooks
from ksefbuffer.queue.db import Database
from ksefbuffer.receiver.stock import Stock

log = logging.getLogger(__name__)

_AT_ONCE = 100


@dataclass
class Refiling:
    """The duty; one thread calls ``step``."""

    database: Database
    stock: Stock
    clock: Callable[[], datetime]

    def step(self) -> bool:
        """Files the next hundred; True when there may be more. Raises StorageFault."""
        now = self.clock()
        with self.database.reading() as tx:
            wanted = rulebooks.refiling(tx)
            if wanted is None or wanted.done_at is not None:
                return False
            keys = incoming.keys_of(tx, after=wanted.after, limit=_AT_ONCE)
        # A crash in between files the same hundred again, which changes nothing.
        changes = self.stock.refile(keys, at=now, actor=wanted.actor)
        done = replace(
            wanted,
            after=keys[-1] if keys else wanted.after,
            looked_at=wanted.looked_at + len(keys),
            changed=wanted.changed + len(changes),
            done_at=None if keys else now.isoformat(),
        )
        with self.database.transaction() as tx:
            asked_again = rulebooks.refiling(tx)
            if asked_again is None or asked_again.wanted_at != wanted.wanted_at:
                return True
            rulebooks.keep_refiling(tx, done, at=now)
        if not keys:
            log.info("refiling done looked_at=%s changed=%s", done.looked_at, done.changed)
        return bool(keys)
