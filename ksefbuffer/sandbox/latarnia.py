"""Latarnia, the Ministry's lighthouse: what KSeF announces of itself, and the scenarios it can be made to tell.

Source: FACTS §10. Messages of one event bear its number; each further one a higher version, which wins.
"""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime

from .store import restored, stored
from .wire import Response, as_json, timestamp
from .world import Call, World

MAINTENANCE, FAILURE, TOTAL_FAILURE = "MAINTENANCE", "FAILURE", "TOTAL_FAILURE"
ANNOUNCEMENT, START, END = "MAINTENANCE_ANNOUNCEMENT", "FAILURE_START", "FAILURE_END"
SCENARIOS = ("maintenance", "failure", "total_failure", "amend", "end", "mock", "clear")

_TEXTS = {
    MAINTENANCE: ("Niedostępność KSeF", "Zaplanowane prace serwisowe; KSeF będzie niedostępny."),
    FAILURE: ("Awaria KSeF", "Stwierdzono awarię KSeF."),
    TOTAL_FAILURE: ("Awaria całkowita KSeF", "Stwierdzono awarię całkowitą KSeF."),
}
_ENDED = ("Koniec awarii", "KSeF działa prawidłowo.")
_MOCKED_SINCE = datetime(2026, 1, 15, 8, 0, tzinfo=UTC)


def tell_status(world: World, call: Call) -> Response:
    return as_json(200, status(world, call.now))


def tell_messages(world: World, call: Call) -> Response:
    """Everything published so far, the newest first, every version."""
    rows = world.store.all(
        "SELECT * FROM notices WHERE published_at <= ? ORDER BY published_at DESC, seq DESC", stored(call.now)
    )
    return as_json(200, [_message(row) for row in rows])


def status(world: World, now: datetime) -> dict[str, object]:
    """What GET /status tells: the gravest of what is going on, with the messages that say so."""
    going_on = [row for row in _valid(world, now) if _concerns(row, now)]
    for category in (TOTAL_FAILURE, FAILURE, MAINTENANCE):
        if telling := [row for row in going_on if row["category"] == category]:
            return {"status": category, "messages": [_message(row) for row in telling]}
    return {"status": "AVAILABLE"}


def _valid(world: World, now: datetime) -> list[sqlite3.Row]:
    """The highest version of every event."""
    return world.store.all(
        "SELECT n.* FROM notices n WHERE n.published_at <= ? AND n.version = (SELECT max(version) FROM notices m"
        " WHERE m.event = n.event AND m.published_at <= ?) ORDER BY n.event DESC",
        stored(now),
        stored(now),
    )


def _concerns(row: sqlite3.Row, now: datetime) -> bool:
    moment = stored(now)
    return bool(row["starts_at"] <= moment and (row["ends_at"] is None or moment < row["ends_at"]))


def _message(row: sqlite3.Row) -> dict[str, object]:
    body: dict[str, object] = {
        "id": row["id"],
        "eventId": row["event"],
        "category": row["category"],
        "type": row["kind"],
        "title": row["title"],
        "text": row["text"],
        "start": timestamp(restored(row["starts_at"])),
        "version": row["version"],
        "published": timestamp(restored(row["published_at"])),
    }
    if row["ends_at"]:
        body["end"] = timestamp(restored(row["ends_at"]))
    return body


def play(
    world: World, scenario: str, *, now: datetime, start: datetime | None, end: datetime | None, event: int | None,
    title: str, text: str,
) -> int:  # fmt: skip
    """Publishes what the scenario says and returns the event's number (0 for "clear"). Raises ValueError, and
    LookupError for an event that is not there."""
    if scenario not in SCENARIOS:
        raise ValueError(f"unknown scenario {scenario!r}; one of: {', '.join(SCENARIOS)}")
    if scenario == "clear":
        world.store.run("DELETE FROM notices")
        return 0
    if scenario == "amend":
        return _amend(world, event, now, start, end, title, text)
    if scenario == "end":
        return _end(world, event, now, end, title, text)
    if scenario == "mock":
        return _publish(world, None, TOTAL_FAILURE, START, _MOCKED_SINCE, None, _MOCKED_SINCE, title, text)
    if scenario == "maintenance":
        if start is None or end is None or end <= start:
            raise ValueError("maintenance needs start and a later end")
        return _publish(world, None, MAINTENANCE, ANNOUNCEMENT, start, end, now, title, text)
    if end is not None:
        raise ValueError("a failure's end is told by the scenario 'end'")
    category = FAILURE if scenario == "failure" else TOTAL_FAILURE
    return _publish(world, None, category, START, start or now, None, now, title, text)


def _amend(
    world: World, event: int | None, now: datetime, start: datetime | None, end: datetime | None, title: str, text: str
) -> int:
    """A further version of an event's last message, with what is given changed."""
    last = _last(world, event)
    since = start or restored(last["starts_at"])
    until = end or (restored(last["ends_at"]) if last["ends_at"] else None)
    if until is not None and (last["kind"] == START or until <= since):
        raise ValueError("the end must be later than the start, and a failure that goes on has none")
    return _publish(
        world, last["event"], last["category"], last["kind"], since, until, now, title or last["title"],
        text or last["text"],
    )  # fmt: skip


def _end(world: World, event: int | None, now: datetime, end: datetime | None, title: str, text: str) -> int:
    last = _last(world, event, going_on=True)
    since, until = restored(last["starts_at"]), end or now
    if until < since:
        raise ValueError("the end must not be earlier than the start")
    return _publish(
        world, last["event"], last["category"], END, since, until, now, title or _ENDED[0], text or _ENDED[1]
    )


def _last(world: World, event: int | None, *, going_on: bool = False) -> sqlite3.Row:
    """The last message of the event; without a number: of the last event (of those going on: a failure not ended)."""
    row = world.store.one(
        "SELECT * FROM notices n WHERE (? IS NULL OR event = ?) AND version = (SELECT max(version) FROM notices m"
        " WHERE m.event = n.event) AND (NOT ? OR kind = ?) ORDER BY event DESC",
        event,
        event,
        going_on,
        START,
    )
    if row is None:
        raise LookupError("no failure that goes on" if going_on else "event")
    return row


def _publish(
    world: World, event: int | None, category: str, kind: str, start: datetime, end: datetime | None, now: datetime,
    title: str, text: str,
) -> int:  # fmt: skip
    if event is None:
        row = world.store.one("SELECT coalesce(max(event), 0) + 1 AS next FROM notices")
        event = int(row["next"]) if row else 1
    row = world.store.one("SELECT coalesce(max(version), 0) + 1 AS next FROM notices WHERE event = ?", event)
    usual = _TEXTS[category]
    world.store.run(
        "INSERT INTO notices (id, event, version, category, kind, title, text, starts_at, ends_at, published_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        f"{world.store.entropy(8)}-{event}".lower(),
        event,
        int(row["next"]) if row else 1,
        category,
        kind,
        title or usual[0],
        text or usual[1],
        stored(start),
        stored(end) if end else None,
        stored(now),
    )
    return event
