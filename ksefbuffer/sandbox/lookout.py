"""The part of the sandbox's face that is about offline invoicing: Latarnia's scenarios, and links followed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from . import latarnia, verification
from .face import Face


class Lookout(Face):
    """What ``Sandbox`` tells of KSeF's troubles, and of codes scanned. May be called from any thread."""

    base_url: str

    @property
    def latarnia_url(self) -> str:
        """Latarnia's address for clients, beside ``base_url``."""
        return f"{self.base_url.removesuffix('/v2')}/latarnia"

    @property
    def qr_url(self) -> str:
        """What links in QR codes begin with, so that this sandbox answers them."""
        return f"{self.base_url.removesuffix('/v2')}/qr"

    def latarnia(
        self, scenario: str, *, start: datetime | None = None, end: datetime | None = None, event: int | None = None,
        title: str = "", text: str = "",
    ) -> int:  # fmt: skip
        """Lets Latarnia publish something, now, and returns the event's number. ``scenario``:

        - maintenance: an announcement, from ``start`` to ``end``
        - failure, total_failure: one begins (``start``: now, or earlier)
        - end: the failure ``event`` (the last that goes on) ended (``end``: now)
        - amend: a further version of the last message of ``event`` (the last one), with what is given changed
        - mock: what TEST's static mock has told since January 2026, a total failure
        - clear: nothing was ever published

        Raises ValueError, and LookupError for an event that is not there. Errors, firewalls and silence are faults
        at latarniaStatus and latarniaMessages. That the API is out of order is an ``outage``, told or not.
        """
        with self._locked() as world:
            return latarnia.play(
                world, scenario, now=self.clock(), start=start, end=end, event=event, title=title, text=text
            )

    def latarnia_status(self) -> dict[str, object]:
        """What Latarnia's GET /status answers now."""
        with self._locked() as world:
            return latarnia.status(world, self.clock())

    def follow_link(self, link: str) -> dict[str, Any]:
        """What a KOD I or KOD II link tells, wherever it leads, as the pages' JSON. Raises ValueError for one that is
        damaged."""
        with self._locked() as world:
            return verification.follow(world, link, self.clock())
