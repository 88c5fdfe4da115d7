"""Rules tried on stored invoices: what would go where, before anything is saved. Reads, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ksefbuffer.queue import folders, incoming
from ksefbuffer.queue.folders import Asked
from ksefbuffer.queue.incoming import Incoming
from ksefbuffer.web.filing import Planned, Rule, Rulebook, Sample, filed, matched, plan, sample

LIVE = 100
"""How many of the newest invoices a rule is tried on while somebody types."""
DRY_RUN = 2_000
_AT_ONCE = 50
_EXAMPLES = 3
_SHOWN = 20
_LARGEST = 1_500_000


@dataclass(frozen=True, repr=False)
class Hit:
    """An invoice that meets a rule: by which values, and where it would go by all the rules."""

    one: Incoming
    values: list[str]
    folder: str

    @property
    def moves(self) -> bool:
        return self.folder != self.one.folder


@dataclass(frozen=True)
class Tried:
    """A rule tried alone: ``met`` of ``looked_at`` invoices meet it, ``moving`` of these would change their folder."""

    looked_at: int
    met: int
    moving: int
    hits: list[Hit] = field(repr=False)


@dataclass
class Move:
    """How many would go from one folder to another, with a few of them."""

    before: str
    after: str
    count: int = 0
    examples: list[Incoming] = field(default_factory=list, repr=False)


@dataclass(frozen=True)
class DryRun:
    """``moves`` by how many, most first; ``tagged`` only change tags; ``next`` is where an older part begins, None at
    the end."""

    looked_at: int
    moves: list[Move]
    moving: int
    tagged: int
    next: int | None


def try_rule(tx: Any, rule: Rule, rulebook: Rulebook, *, nip: str, most: int = LIVE) -> Tried:
    """``rule`` as part of ``rulebook``, both without faults, on the newest invoices."""
    looked_at = met = moving = 0
    hits: list[Hit] = []
    for one in _samples(tx, _keys(tx, most, None), nip, {}):
        looked_at += 1
        values = matched(one, rule, rulebook)
        if values is None:
            continue
        met += 1
        hit = Hit(one.one, values, filed(one, rulebook).folder)
        moving += hit.moves
        if len(hits) < _SHOWN:
            hits.append(hit)
    return Tried(looked_at, met, moving, hits)


def dry_run(tx: Any, rulebook: Rulebook, *, nip: str, most: int = DRY_RUN, before: int | None = None) -> DryRun:
    """The whole rulebook on the newest invoices, or on those older than ``before``."""
    found: dict[tuple[str, str], Move] = {}
    looked_at = tagged = 0
    planned: Planned = {}
    # In the order in which they came, as corrections follow their originals.
    keys = _keys(tx, most, before)
    for one in _samples(tx, keys[::-1], nip, planned):
        looked_at += 1
        filing = filed(one, rulebook)
        if filing.folder == one.one.folder:
            tagged += filing.tags != tuple(one.one.tags)
            continue
        plan(planned, one.one, filing.folder)
        move = found.setdefault((one.one.folder, filing.folder), Move(one.one.folder, filing.folder))
        move.count += 1
        if len(move.examples) < _EXAMPLES:
            move.examples.append(one.one)
    moves = sorted(found.values(), key=lambda move: (-move.count, move.before, move.after))
    following = keys[-1] if len(keys) == most else None
    return DryRun(looked_at, moves, sum(move.count for move in moves), tagged, following)


def one_sample(tx: Any, one: Incoming, *, nip: str) -> Sample:
    return sample(tx, one, incoming.content(tx, one.id), nip=nip)


def _keys(tx: Any, most: int, before: int | None) -> list[int]:
    return folders.keys(tx, Asked(within=None), limit=most, before=before)


def _samples(tx: Any, keys: Sequence[int], nip: str, planned: Planned) -> Iterator[Sample]:
    """In the order of ``keys``; invoices so large that reading them takes its time are left out."""
    for start in range(0, len(keys), _AT_ONCE):
        some = [one for one in folders.in_order(tx, keys[start : start + _AT_ONCE]) if one.size <= _LARGEST]
        contents = incoming.contents(tx, [one.id for one in some])
        yield from (sample(tx, one, contents[one.id], nip=nip, planned=planned) for one in some)
