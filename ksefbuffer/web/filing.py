"""The page's one view of how received invoices are filed: the pure parts of the receiver, and nothing that pulls,
writes files or knows KSeF.

.importlinter lets this module alone, of all the web, reach into ``receiver``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ksefbuffer.invoice.names import number_key
from ksefbuffer.invoice.received import Received, read_received
from ksefbuffer.queue import incoming
from ksefbuffer.queue.incoming import Incoming
from ksefbuffer.receiver.conditions import condition_fault, question_of, words_of
from ksefbuffer.receiver.filenames import ENDING, file_stem, folder_parts
from ksefbuffer.receiver.folders import folder_fault
from ksefbuffer.receiver.rulebook import RulebookFault, read_rulebook, write_rulebook
from ksefbuffer.receiver.rules import Facts, Filing, Trace, explain, file
from ksefbuffer.receiver.seen import FIELDS, Seen, field_of
from ksefbuffer.receiver.shapes import UNMATCHED, Catalogue, Condition, Operator, Rule, Rulebook
from ksefbuffer.receiver.storelist import RegisterFault, read_stores_csv
from ksefbuffer.receiver.targets import DATES, TEXTS
from ksefbuffer.receiver.verdict import knowledge_of

__all__ = [
    "DATES",
    "FIELDS",
    "STANDARD",
    "TEXTS",
    "UNMATCHED",
    "Catalogue",
    "Condition",
    "Filing",
    "Operator",
    "Planned",
    "RegisterFault",
    "Rule",
    "Rulebook",
    "RulebookFault",
    "Sample",
    "Trace",
    "archive_name",
    "checked",
    "condition_fault",
    "explained",
    "field_of",
    "filed",
    "folder_fault",
    "known_catalogues",
    "matched",
    "plan",
    "read_stores_csv",
    "rulebook_of",
    "sample",
    "words_of",
    "write_rulebook",
]

# In force while nobody has brought in any; the same as the receiver's own (a test compares them).
STANDARD = Rulebook(
    catalogues=(Catalogue("sprzedaż", description="faktury, na których sprzedawcą jest nasza firma"),),
    rules=(
        Rule("sprzedaż własna", (Condition("role", "equals", ("seller",)),), target="sprzedaż"),
        Rule("pozostałe", target=UNMATCHED),
    ),
)


_MOST_CORRECTED = 200


def archive_name(one: Incoming) -> str:
    """Where an invoice's XML stands in an archive, as below the incoming folder."""
    stem = file_stem(one.issue_date, one.seller_nip, one.invoice_number, one.ksef_number)
    return "/".join((*folder_parts(one.folder), stem + ENDING))


@lru_cache(maxsize=4)
def rulebook_of(text: str) -> Rulebook:
    """As ``read_rulebook``, remembering the last few: with a large register it takes its time."""
    return read_rulebook(text)


def checked(text: str, *, nip: str, environment: str) -> Rulebook:
    """The rulebook that ``text`` describes, ready for force. Raises RulebookFault or ConfigurationFault."""
    rulebook = rulebook_of(text)
    knowledge_of(rulebook, nip, environment=environment)
    return rulebook


# Trying rules on stored invoices


@dataclass(frozen=True, repr=False)
class Sample:
    """A stored invoice, read, with what is known of it besides its contents."""

    one: Incoming
    received: Received
    facts: Facts


Planned = dict[str | tuple[str, str], str]
"""Folders that invoices would get, where it is not theirs: by KSeF number, and by seller and folded number."""


def plan(planned: Planned, one: Incoming, folder: str) -> None:
    """Notes where an invoice would go, for the corrections that follow it."""
    planned[one.ksef_number] = folder
    planned[one.seller_nip, number_key(one.invoice_number)] = folder


def sample(tx: Any, one: Incoming, content: bytes, *, nip: str, planned: Planned | None = None) -> Sample:
    """``content``: its bytes. The verdict is the one stored: rules are tried, checks are not."""
    received = read_received(content)
    facts = Facts(
        our_nip=nip,
        roles=one.roles,
        ksef_number=one.ksef_number,
        invoicing_date=one.invoiced_at.date() if one.invoiced_at else None,
        corrected_folder=_corrected_folder(tx, received, planned or {}),
        verdict=one.verdict,
    )
    return Sample(one, received, facts)


def _corrected_folder(tx: Any, received: Received, planned: Planned) -> str | None:
    if not received.is_correction:
        return None
    originals = received.corrected[:_MOST_CORRECTED]
    seller = received.seller.nip
    numbers = [one.ksef_number for one in originals if one.ksef_number]
    keys = [number_key(one.number) for one in originals if one.number]
    going = (planned[key] for key in (*numbers, *((seller, key) for key in keys)) if key in planned)
    return next(going, None) or incoming.folder_of(tx, numbers, seller, keys)


def filed(sample: Sample, rulebook: Rulebook) -> Filing:
    """Where the rulebook would put it, and why."""
    return file(sample.received, sample.facts, rulebook)


def explained(sample: Sample, rulebook: Rulebook) -> tuple[Trace, ...]:
    """What each of the rulebook's rules makes of it."""
    return explain(sample.received, sample.facts, rulebook)


def matched(sample: Sample, rule: Rule, rulebook: Rulebook) -> list[str] | None:
    """The values by which all conditions of ``rule`` hold, as they stand in the invoice; None when one does not."""
    seen = Seen(sample.received, sample.facts, rulebook)
    found: list[str] = []
    for condition in rule.conditions:
        value = question_of(condition).holds(seen)
        if value is None:
            return None
        found.append(f"{value.text} ({value.where})" if value.text else "")
    return [text for text in found if text]


def known_catalogues(rulebook: Rulebook) -> Sequence[str]:
    """Paths that rules and stores may name, sorted: catalogues, targets without placeholders, stores' own."""
    return sorted(set(_paths(rulebook)))


def _paths(rulebook: Rulebook) -> Iterator[str]:
    yield UNMATCHED
    yield from (catalogue.path for catalogue in rulebook.catalogues)
    yield from (rule.target for rule in rulebook.rules if rule.target and "{" not in rule.target)
    yield from (store.catalogue for store in rulebook.stores.stores if store.catalogue)
