"""What is seen of the buffer, what was already made of it, and what is to be told. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

Weight = Literal["info", "warning", "failure"]

DOCUMENT_ERROR = "document_error"
DEADLINE = "deadline"
CERTIFICATE_EXPIRY = "certificate_expiry"
INCOMING = "incoming"
OUTAGE = "outage"
DISK = "disk"

# A connection that fails for less is no news: most mend themselves.
TOLD_AFTER = timedelta(minutes=10)


@dataclass(frozen=True)
class Notice:
    """One thing to tell, in Polish. ``key`` names it and ``level`` says how far it has got: the pair is told once in a
    life. A ``silent`` one happened before anybody was to be told; it is only remembered."""

    key: str
    level: int
    event: str
    weight: Weight
    subject: str
    body: str
    silent: bool = False


@dataclass(frozen=True)
class Trouble:
    """A connection that fails, or a mode in force. ``live``: it is known to fail now; False: nobody has tried lately.
    It is told ``after`` it has lasted so long."""

    name: str
    subject: str
    message: str
    action: str = ""
    live: bool = True
    after: timedelta = TOLD_AFTER
    over: str = ""
    weight: Weight = "warning"


@dataclass(frozen=True)
class Ending:
    """A certificate or a token with an end; ``key`` names it for life. ``renews``: the buffer renews it by itself."""

    key: str
    name: str
    ends_at: datetime
    renews: bool = False
    revoked_at: datetime | None = None
    action: str = ""


class Refused(Protocol):
    """A refused document: its number, or the file or row it came from."""

    @property
    def number(self) -> str | None: ...
    @property
    def place(self) -> str | None: ...
    @property
    def codes(self) -> tuple[str, ...]: ...
    @property
    def by_ksef(self) -> bool: ...


class Refusals(Protocol):
    """Documents refused since the last mark; ``upto`` is the mark behind them."""

    @property
    def count(self) -> int: ...
    @property
    def oldest(self) -> datetime | None: ...
    @property
    def upto(self) -> int: ...
    @property
    def by_ksef(self) -> int: ...
    @property
    def named(self) -> tuple[Refused, ...]: ...
    @property
    def codes(self) -> tuple[tuple[str, int], ...]: ...


class Doubtful(Protocol):
    @property
    def invoice_number(self) -> str: ...
    @property
    def seller_name(self) -> str: ...
    @property
    def seller_nip(self) -> str: ...
    @property
    def verdict(self) -> str: ...


class Arrived(Protocol):
    """Invoices received since the last mark; ``upto`` is the mark behind them."""

    @property
    def count(self) -> int: ...
    @property
    def oldest(self) -> datetime | None: ...
    @property
    def upto(self) -> int: ...
    @property
    def folders(self) -> tuple[tuple[str, int], ...]: ...
    @property
    def doubtful(self) -> int: ...
    @property
    def named(self) -> tuple[Doubtful, ...]: ...


class Term(Protocol):
    """Documents issued offline without a number that share the end of a term."""

    @property
    def ends(self) -> datetime: ...
    @property
    def count(self) -> int: ...
    @property
    def refused(self) -> int: ...


@dataclass(frozen=True)
class Seen:
    """The buffer at one moment. ``refusals`` and ``arrived`` are None where nobody asked; ``troubles`` are all there
    are; ``free_bytes`` None: unknown."""

    event_mark: int
    incoming_mark: int
    refusals: Refusals | None = None
    arrived: Arrived | None = None
    terms: tuple[Term, ...] = ()
    endings: tuple[Ending, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    free_bytes: int | None = None


@dataclass(frozen=True)
class Episode:
    """A trouble since it was first seen; ``gone_at``: since when it is seen no more."""

    since: datetime
    told: bool = False
    gone_at: datetime | None = None
    subject: str = ""
    over: str = ""


@dataclass(frozen=True)
class Memory:
    """What must be known at the next look, also after a restart. ``watched``: the events that are told of since some
    moment; what was there before a first look is history."""

    watched: frozenset[str] = frozenset()
    error_mark: int = 0
    error_told_at: datetime | None = None
    incoming_mark: int = 0
    incoming_told_at: datetime | None = None
    episodes: Mapping[str, Episode] = field(default_factory=dict)
    disk_since: datetime | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "watched": sorted(self.watched),
            "error_mark": self.error_mark,
            "error_told_at": _iso(self.error_told_at),
            "incoming_mark": self.incoming_mark,
            "incoming_told_at": _iso(self.incoming_told_at),
            "episodes": {
                name: {
                    "since": one.since.isoformat(),
                    "told": one.told,
                    "gone_at": _iso(one.gone_at),
                    "subject": one.subject,
                    "over": one.over,
                }
                for name, one in self.episodes.items()
            },
            "disk_since": _iso(self.disk_since),
        }


def memory_of(kept: Mapping[str, Any] | None) -> Memory:
    """The memory as it was kept; an empty one for None."""
    if kept is None:
        return Memory()
    return Memory(
        watched=frozenset(kept["watched"]),
        error_mark=kept["error_mark"],
        error_told_at=_moment(kept["error_told_at"]),
        incoming_mark=kept["incoming_mark"],
        incoming_told_at=_moment(kept["incoming_told_at"]),
        episodes={
            name: Episode(
                datetime.fromisoformat(one["since"]), one["told"], _moment(one["gone_at"]), one["subject"], one["over"]
            )
            for name, one in kept["episodes"].items()
        },
        disk_since=_moment(kept["disk_since"]),
    )


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment is not None else None


def _moment(iso: str | None) -> datetime | None:
    return datetime.fromisoformat(iso) if iso else None
