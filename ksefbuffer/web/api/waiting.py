"""Waiting for documents: one look at the database tells everybody who waits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import cast

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from ksefbuffer.queue.db import Database, StorageFault
from ksefbuffer.queue.listing import Glimpse, glimpses
from ksefbuffer.web.site import site_of

log = logging.getLogger(__name__)

LOOKED_EVERY_S = 0.25
Enough = Callable[[Glimpse], bool]


class Lookout:
    """Looks after all awaited documents at once, in one short read a quarter of a second, while anybody waits.

    Belongs to one event loop.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[asyncio.Future[Glimpse], tuple[int, Enough]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def until(self, row_id: int, enough: Enough, seconds: float) -> Glimpse | None:
        """The document's first look that is ``enough``; None when there was none within the time."""
        mine: asyncio.Future[Glimpse] = asyncio.get_running_loop().create_future()
        self._waiting[mine] = (row_id, enough)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            return await asyncio.wait_for(mine, max(seconds, 0.0))
        except TimeoutError:
            return None
        finally:
            self._waiting.pop(mine, None)

    async def _look(self) -> None:
        while self._waiting:
            try:
                seen = await run_in_threadpool(self._read, sorted({row_id for row_id, _ in self._waiting.values()}))
            except StorageFault as fault:
                log.warning("documents that are waited for cannot be looked at: %s", fault)
                seen = {}
            for mine, (row_id, enough) in list(self._waiting.items()):
                glimpse = seen.get(row_id)
                if glimpse is not None and not mine.done() and enough(glimpse):
                    mine.set_result(glimpse)
                    self._waiting.pop(mine, None)
            await asyncio.sleep(LOOKED_EVERY_S)

    def _read(self, row_ids: list[int]) -> dict[int, Glimpse]:
        with self._database.reading() as tx:
            return glimpses(tx, row_ids)


def lookout_of(request: Request) -> Lookout:
    """The lookout of this application; asked in its event loop only."""
    state = request.app.state
    if not hasattr(state, "api_lookout"):
        state.api_lookout = Lookout(site_of(request).database)
    return cast(Lookout, state.api_lookout)
