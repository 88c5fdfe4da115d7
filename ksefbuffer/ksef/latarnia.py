"""Latarnia, the Ministry's notice board on KSeF's availability: asked rarely, believed with care.

No login, an address of its own, two pure reads. That it does not answer says nothing about KSeF: every trouble of its
own becomes UNKNOWN, never a failure of KSeF. What a notice means for invoices is judged elsewhere.
Source: FACTS §10 (API), §15.21 (what was met), §1.1 (addresses).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import httpx

from ksefbuffer.errors import CallFault, ConfigurationFault
from ksefbuffer.ksef.calls import USER_AGENT
from ksefbuffer.ksef.limits import Limiter
from ksefbuffer.ksef.reading import integer, items, mapping, optional_moment, optional_text, text
from ksefbuffer.ksef.wire import Answer, Call, Wire

log = logging.getLogger(__name__)

# FACTS §10: to be asked every 1 to 5 minutes.
CACHED_FOR = timedelta(seconds=60)
# Nobody waits for a notice board as long as for KSeF: its answers are two small static files.
TIMEOUT_S = 10.0
# Notices come from outside and are kept: the longest met had some 300 characters.
LONGEST_TITLE = 300
LONGEST_TEXT = 4000


class Status(StrEnum):
    """What Latarnia says of KSeF; UNKNOWN when it says nothing that can be read."""

    AVAILABLE = "AVAILABLE"
    MAINTENANCE = "MAINTENANCE"
    FAILURE = "FAILURE"
    TOTAL_FAILURE = "TOTAL_FAILURE"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True)
class Message:
    """One notice. ``category`` (FAILURE, TOTAL_FAILURE, MAINTENANCE, …) and ``type`` (FAILURE_START, FAILURE_END,
    MAINTENANCE_ANNOUNCEMENT, …) are Latarnia's own words in upper case, known or not; moments are UTC or None."""

    id: str
    event_id: int
    category: str
    type: str
    title: str
    text: str
    start: datetime | None
    end: datetime | None
    version: int
    published: datetime | None


@dataclass(frozen=True)
class News:
    """What Latarnia said when asked ``at``. ``messages`` are from its board and its status, each once; () while
    UNKNOWN, so what was told before still holds. ``reason`` is Polish: why nothing, or not everything, is known."""

    status: Status
    messages: tuple[Message, ...]
    at: datetime
    reason: str = ""


class Latarnia:
    """Latarnia at ``base_url``; an empty one means that there is none, and nobody is asked. Safe to share between
    threads. Raises ConfigurationFault for a ``base_url`` that is no address."""

    def __init__(
        self,
        base_url: str,
        clock: Callable[[], datetime],
        sleep: Callable[[float], None],
        transport: httpx.BaseTransport | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last: News | None = None
        self._wire: Wire | None = None
        if not base_url:
            return
        try:
            self._wire = Wire(
                base_url=base_url,
                limiter=Limiter(),
                clock=clock,
                sleep=sleep,
                transport=transport,
                timeout_s=timeout_s,
                user_agent=USER_AGENT,
            )
        except ConfigurationFault:
            raise ConfigurationFault(
                f"ksef.latarnia_url nie jest adresem: {base_url}.",
                action="Podaj pełny adres, np. https://api-latarnia.ksef.mf.gov.pl, albo usuń ten klucz.",
            ) from None

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()

    def news(self) -> News:
        """The newest news, at most a minute old. Never raises a CallFault. May take several ``timeout_s`` when
        Latarnia is silent, so a till's answer must not wait for it."""
        now = self._clock()
        with self._lock:
            last = self._last
        # A clock that was set back must not freeze old news.
        if last is not None and timedelta(0) <= now - last.at < CACHED_FOR:
            return last
        fresh = self._ask(now)
        with self._lock:
            self._last = fresh
        if last is None or last.status is not fresh.status:
            log.info("latarnia=%s messages=%d reason=%s", fresh.status, len(fresh.messages), fresh.reason or "-")
        return fresh

    def _ask(self, now: datetime) -> News:
        if self._wire is None:
            return News(Status.UNKNOWN, (), now, "Adres Latarni nie jest ustawiony.")
        try:
            status, told = self._wire.call(_call("latarnia_status", "/status"), _status)
        except CallFault as fault:
            return News(Status.UNKNOWN, (), now, _reason(fault))
        if status is Status.UNKNOWN:
            return News(status, (), now, "Latarnia podała stan, którego bufor nie zna.")
        try:
            # The board is read even when all is well: only there is the end of a failure told.
            board, reason = self._wire.call(_call("latarnia_messages", "/messages"), _board), ""
        except CallFault as fault:
            board, reason = (), f"Komunikatów nie odczytano. {_reason(fault)}"
        return News(status, tuple(dict.fromkeys((*told, *board))), now, reason)


def _call(operation: str, path: str) -> Call:
    return Call(operation, "GET", path, group=None, repeatable=True)


def _status(answer: Answer) -> tuple[Status, tuple[Message, ...]]:
    body = mapping(answer.json())
    word = text(body.get("status")).strip().upper()
    listed = body.get("messages")
    known = Status(word) if word in Status.__members__ else Status.UNKNOWN
    return known, _messages(listed if isinstance(listed, list) else [])


def _board(answer: Answer) -> tuple[Message, ...]:
    return _messages(items(answer.json()))


def _messages(listed: list[object]) -> tuple[Message, ...]:
    """Those that can be read; one strange notice must not hide the others."""
    read: list[Message] = []
    for entry in listed:
        try:
            read.append(_message(entry))
        except (ValueError, ArithmeticError):
            log.warning("latarnia: a message without an event was passed over")
    return tuple(read)


def _message(value: object) -> Message:
    entry = mapping(value)
    version = entry.get("version")
    return Message(
        id=optional_text(entry.get("id"))[:100],
        event_id=integer(entry.get("eventId")),
        category=text(entry.get("category")).strip().upper()[:50],
        type=text(entry.get("type")).strip().upper()[:50],
        title=optional_text(entry.get("title")).strip()[:LONGEST_TITLE],
        text=optional_text(entry.get("text")).strip()[:LONGEST_TEXT],
        start=optional_moment(entry.get("start")),
        end=optional_moment(entry.get("end")),
        version=0 if version is None else integer(version),
        published=optional_moment(entry.get("published")),
    )


def _reason(fault: CallFault) -> str:
    """Why Latarnia said nothing, for people; the fault's own words speak of KSeF."""
    if fault.http_status is None:
        return "Latarnia nie odpowiada (to nic nie mówi o samym KSeF)."
    if 200 <= fault.http_status < 300:
        return "Odpowiedź Latarni jest nieczytelna (to nic nie mówi o samym KSeF)."
    return f"Latarnia odpowiada błędem HTTP {fault.http_status} (to nic nie mówi o samym KSeF)."
