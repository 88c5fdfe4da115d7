"""Printed pages for whom they are wanted at once: set by processes of their own, as what typst keeps of each would stay
with this one for good. Two at a time; who finds eight waiting is told to come again."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from fastapi import HTTPException

from ksefbuffer.offline import printed
from ksefbuffer.offline.printed import Code, NotPrintable

__all__ = ["Code", "NotPrintable", "pdf"]

AT_ONCE = 2
MOST_WAITING = 8
RETRY_AFTER_S = 10

_turns = threading.BoundedSemaphore(AT_ONCE)
_counting = threading.Lock()
_inside = 0


def pdf(
    content: bytes,
    *,
    ksef_number: str | None,
    accepted_at: datetime | None,
    codes: Sequence[Code],
    mode: str | None,
) -> bytes:
    """As ``printed.render``. Raises NotPrintable; HTTPException 503 with Retry-After when too many wait already."""
    with _place(), _turns:
        return printed.render(
            content, ksef_number=ksef_number, accepted_at=accepted_at, codes=codes, mode=mode, apart=True
        )


@contextmanager
def _place() -> Iterator[None]:
    global _inside
    with _counting:
        if _inside >= AT_ONCE + MOST_WAITING:
            words = "Zbyt wiele wydruków powstaje w tej chwili. Spróbuj ponownie za kilka sekund."
            raise HTTPException(503, words, {"Retry-After": str(RETRY_AFTER_S)})
        _inside += 1
    try:
        yield
    finally:
        with _counting:
            _inside -= 1
