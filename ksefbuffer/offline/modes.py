"""Which offline mode is in force, and why: announcements made into events, then one decision. Pure.

Announcements come from Latarnia and are advisory; a person's word goes before them, and our own trouble with KSeF is
never a failure of KSeF, only a reason for offline24. Source: FACTS §10 (modes, Latarnia), §15.21.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal, Protocol

from ksefbuffer.offline.calendar import told


class Mode(StrEnum):
    """How invoices are issued while KSeF does not number them at once; the value is the Polish name."""

    OFFLINE24 = "offline24"
    UNAVAILABILITY = "niedostępność"
    FAILURE = "awaria"
    TOTAL = "awaria całkowita"


Setting = Literal["auto", "manual", "off"]

# The gravest first: it wins when several last at once.
GRAVITY = (Mode.TOTAL, Mode.FAILURE, Mode.UNAVAILABILITY, Mode.OFFLINE24)

_BY_CATEGORY: Mapping[str, Mode] = {
    "TOTAL_FAILURE": Mode.TOTAL,
    "FAILURE": Mode.FAILURE,
    "MAINTENANCE": Mode.UNAVAILABILITY,
}
_END = "FAILURE_END"
_TYPES = frozenset({"FAILURE_START", _END, "MAINTENANCE_ANNOUNCEMENT"})
_LEGAL_BASIS: Mapping[Mode, str] = {
    Mode.OFFLINE24: "art. 106nda ustawy o VAT",
    Mode.UNAVAILABILITY: "art. 106nh ustawy o VAT",
    Mode.FAILURE: "art. 106nf ustawy o VAT",
    Mode.TOTAL: "art. 106ng ustawy o VAT",
}


class Announcement(Protocol):
    """What is needed of one of Latarnia's messages; moments are aware, UTC."""

    @property
    def id(self) -> str: ...
    @property
    def event_id(self) -> int: ...
    @property
    def category(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def start(self) -> datetime | None: ...
    @property
    def end(self) -> datetime | None: ...
    @property
    def version(self) -> int: ...
    @property
    def published(self) -> datetime | None: ...


@dataclass(frozen=True)
class Event:
    """A failure, total failure or planned unavailability of KSeF. ``end`` is None while nobody has said when it ends;
    ``announced`` is when it was first made known; ``message_ids`` are the announcements that it was made of. An event
    that a person declared has the id None and no messages. Moments are UTC."""

    event_id: int | None
    mode: Mode
    start: datetime
    end: datetime | None
    announced: datetime
    title: str = ""
    message_ids: tuple[str, ...] = ()

    def lasts(self, now: datetime) -> bool:
        """Whether it has begun and not ended."""
        return self.start <= now and (self.end is None or now < self.end)


@dataclass(frozen=True)
class Declaration:
    """A person's word: from ``since`` on this mode is in force, or with None that none is. What was known before
    ``since`` yields to it; after "none", later announcements and later trouble count again."""

    mode: Mode | None
    since: datetime
    event: Event | None = None


@dataclass(frozen=True)
class ModeNow:
    """The decision. ``mode`` None: work online. ``event`` is the announcement behind it, or one that is only shown;
    ``since`` is when the mode began; ``why_pl`` is for people."""

    mode: Mode | None
    event: Event | None
    since: datetime | None
    why_pl: str


def legal_basis(mode: Mode) -> str:
    """The article that allows the mode, in Polish."""
    return _LEGAL_BASIS[mode]


def events_of(messages: Iterable[Announcement]) -> tuple[Event, ...]:
    """The events that announcements tell of, oldest first: paired by event, of each kind the highest version.

    Give it every message ever kept, since Latarnia takes old ones off its board; repeats do no harm. Messages of
    unknown kinds, and events without any start, are passed over.
    """
    by_event: dict[int, list[Announcement]] = defaultdict(list)
    for message in messages:
        if message.category in _BY_CATEGORY and message.type in _TYPES:
            by_event[message.event_id].append(message)
    events = [event for event_id, told in by_event.items() if (event := _event(event_id, told)) is not None]
    return tuple(sorted(events, key=lambda event: (event.announced, event.start, event.event_id or 0)))


def _event(event_id: int, told: list[Announcement]) -> Event | None:
    newest: dict[str, Announcement] = {}
    for message in sorted(told, key=_order):
        newest[message.type] = message
    closing = newest.get(_END)
    opening = [message for kind, message in newest.items() if kind != _END]
    chosen = [*opening, *([closing] if closing is not None else [])]
    starts = [message.start for message in chosen if message.start is not None]
    published = [message.published for message in told if message.published is not None]
    begun = min(starts or published, default=None)
    if begun is None:
        return None
    if closing is not None:
        # Without an end of its own, the message that the failure is over is the end.
        end = closing.end or closing.published or closing.start
    else:
        ends = [message.end for message in opening if message.end is not None]
        end = max(ends, default=None)
    # A failure may grow into a total one under the same number [lat#7]: the graver counts.
    mode = min((_BY_CATEGORY[message.category] for message in chosen), key=GRAVITY.index)
    return Event(
        event_id,
        mode,
        begun,
        end,
        min(published, default=begun),
        (opening or chosen)[-1].title,
        tuple(dict.fromkeys(message.id for message in chosen)),
    )


def _order(message: Announcement) -> tuple[int, float, str]:
    published = message.published.timestamp() if message.published is not None else 0.0
    return message.version, published, message.id


def mode_now(
    events: Iterable[Event],
    declared_by_admin: Declaration | None,
    trouble_since: datetime | None,
    auto_after: timedelta,
    setting: Setting,
    now: datetime,
    *,
    heed_announcements: bool = True,
    said_available: bool = False,
) -> ModeNow:
    """The mode for an invoice issued ``now``.

    trouble_since: since when KSeF gives no number or cannot be reached, None when all is well; auto_after: how long
    that may last before offline24. ``heed_announcements`` False is for TEST and DEMO, whose Latarnia is a mock
    [lat#15]. ``said_available``: Latarnia says AVAILABLE now, so an event whose end was never announced is over
    (the mode ends; its deadline stays open until somebody says the end).
    """
    lasting = [event for event in events if event.lasts(now) and not (said_available and event.end is None)]
    shown = _gravest(lasting)
    if setting == "off":
        return ModeNow(None, shown, None, "Tryby offline są wyłączone w ustawieniach (offline.mode).")
    declared = declared_by_admin if declared_by_admin is not None and declared_by_admin.since <= now else None
    if declared is not None and declared.mode is not None:
        why = f"Tryb „{declared.mode}” ogłosił administrator {told(declared.since)}."
        return ModeNow(declared.mode, declared.event or _matching(lasting, declared.mode), declared.since, why)
    if setting == "manual":
        return ModeNow(None, shown, None, "Tryb offline ogłasza administrator (offline.mode = manual); teraz żaden.")
    if heed_announcements:
        counted = _gravest([e for e in lasting if declared is None or max(e.announced, e.start) > declared.since])
        if counted is not None:
            return ModeNow(counted.mode, counted, counted.start, _announced(counted))
    if trouble_since is not None:
        begun = trouble_since if declared is None else max(trouble_since, declared.since)
        if now - begun >= auto_after:
            why = f"KSeF nie nadaje numerów od {told(trouble_since)}, więc faktury są wystawiane w trybie offline24."
            return ModeNow(Mode.OFFLINE24, None, begun + auto_after, why)
    if declared is not None and shown is not None and heed_announcements:
        return ModeNow(None, shown, None, f"Tryb offline zakończył administrator {told(declared.since)}.")
    return ModeNow(None, shown, None, "Faktury są wysyłane do KSeF na bieżąco.")


def _gravest(events: list[Event]) -> Event | None:
    return min(events, key=lambda event: (GRAVITY.index(event.mode), event.start), default=None)


def _matching(events: list[Event], mode: Mode) -> Event | None:
    return _gravest([event for event in events if event.mode is mode])


def _announced(event: Event) -> str:
    number = f" (komunikat {event.message_ids[0]})" if event.message_ids and event.message_ids[0] else ""
    begun = told(event.start)
    match event.mode:
        case Mode.TOTAL:
            return f"Ministerstwo ogłosiło awarię całkowitą KSeF od {begun}{number}: faktur nie wysyła się do KSeF."
        case Mode.FAILURE:
            return f"Ministerstwo ogłosiło awarię KSeF od {begun}{number}."
        case _:
            until = f" do {told(event.end)}" if event.end is not None else ""
            return f"Ministerstwo ogłosiło niedostępność KSeF od {begun}{until}{number}."
