"""Connections that fail, modes of KSeF, and the disk: told once when it begins and once when it ends. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from ksefbuffer.notify.shapes import DISK, OUTAGE, Episode, Memory, Notice, Seen
from ksefbuffer.notify.wording import size
from ksefbuffer.offline.calendar import told

# One success between failures is no end.
GONE_FOR = timedelta(minutes=2)
LITTLE, VERY_LITTLE = 10**9, 2 * 10**8
# It must have grown by so much before a new shortage is another one.
ENOUGH = LITTLE + 2 * 10**8

_BEGINS, _ENDS = 1, 2
MODE = "mode "
"""How the names of modes begin: when one follows another, only that is told."""


def outages(seen: Seen, memory: Memory, now: datetime) -> tuple[list[Notice], Memory]:
    """Troubles that have lasted, and told ones that are over."""
    notices: list[Notice] = []
    episodes: dict[str, Episode] = {}
    present = {trouble.name: trouble for trouble in seen.troubles}
    for name, trouble in present.items():
        known = memory.episodes.get(name)
        if not trouble.live:
            # Nobody has tried lately: it neither begins nor ends.
            if known is not None and known.told:
                episodes[name] = known
            continue
        since = known.since if known is not None and known.since <= now else now
        one = Episode(since, known is not None and known.told, None, trouble.subject, trouble.over)
        if not one.told and now - since >= trouble.after:
            notices.append(
                Notice(
                    key=_key(name, one),
                    level=_BEGINS,
                    event=OUTAGE,
                    weight=trouble.weight,
                    subject=trouble.subject,
                    body=_begun(trouble.message, trouble.action, since, now),
                )
            )
            one = replace(one, told=True)
        episodes[name] = one
    another_mode = any(name.startswith(MODE) for name in present)
    for name, known in memory.episodes.items():
        if name in present or not known.told:
            continue
        if name.startswith(MODE) and another_mode:
            continue
        gone_at = known.gone_at if known.gone_at is not None and known.gone_at <= now else now
        if now - gone_at >= GONE_FOR:
            notices.append(
                Notice(
                    key=_key(name, known),
                    level=_ENDS,
                    event=OUTAGE,
                    weight="info",
                    subject=f"koniec: {known.subject}",
                    body=f"Trwało od {told(known.since)} do {told(gone_at)}. {known.over}".rstrip(),
                )
            )
        else:
            episodes[name] = replace(known, gone_at=gone_at)
    return notices, replace(memory, episodes=episodes)


def _key(name: str, one: Episode) -> str:
    return f"{OUTAGE}:{name}:{one.since.isoformat(timespec='seconds')}"


def _begun(message: str, action: str, since: datetime, now: datetime) -> str:
    lasts = f" Trwa od {told(since)}." if now > since else ""
    return f"{message}{lasts}" + (f"\nCo zrobić: {action}" if action else "")


def disk(seen: Seen, memory: Memory, now: datetime) -> tuple[list[Notice], Memory]:
    """Little free space, then very little."""
    free = seen.free_bytes
    if free is None:
        return [], memory
    if free >= LITTLE:
        return [], replace(memory, disk_since=None) if free >= ENOUGH else memory
    since = memory.disk_since or now
    level = 2 if free < VERY_LITTLE else 1
    notice = Notice(
        key=f"{DISK}:{since.isoformat(timespec='seconds')}",
        level=level,
        event=DISK,
        weight="failure" if level == 2 else "warning",
        subject=f"mało miejsca na dysku: {size(free)}",
        body=f"Na dysku z danymi bufora zostało {size(free)}. Bez miejsca bufor nie przyjmie żadnej faktury; przyjęte "
        "są bezpieczne.\nCo zrobić: zwolnij miejsce (folder data_dir) albo powiększ dysk.",
    )
    return [notice], replace(memory, disk_since=since)
