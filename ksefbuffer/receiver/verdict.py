"""Was this invoice properly issued to our company, and can it be filed without a person? The checks Z01-Z57.

Pure: the same invoice, metadata, knowledge and archive give the same verdict. KSeF refuses nothing on our behalf, so a
verdict changes nothing there: an invoice with a KSeF number counts as received even when it is "niezasadna".
Source: the list of checks (CHECKS-INCOMING), CONTRACT §7, FACTS §8.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from ..invoice.identifiers import collapse
from ..invoice.received import Received
from .checks import (
    amounts,
    corrections,
    dates,
    duplicates,
    identity,
    integrity,
    payments,
    places,
    references,
    sellers,
)
from .checks.archive import Archive, Known, NoArchive
from .checks.case import MAX_HITS, Case, CheckFunction, Hit, Metadata
from .checks.catalogue import CATALOGUE, Check, Severity
from .checks.keys import delivery_keys, likeness, reference_forms
from .checks.knowledge import Knowledge, knowledge_of
from .stores import StoreMatch

__all__ = [
    "Archive",
    "Fired",
    "Knowledge",
    "Known",
    "Metadata",
    "NoArchive",
    "Severity",
    "Verdict",
    "delivery_keys",
    "judge",
    "knowledge_of",
    "likeness",
    "reference_forms",
]

Word = Literal["zasadna", "do wyjaśnienia", "niezasadna"]

_THEMES = (
    identity.CHECKS,
    sellers.CHECKS,
    places.CHECKS,
    references.CHECKS,
    duplicates.CHECKS,
    amounts.CHECKS,
    dates.CHECKS,
    corrections.CHECKS,
    payments.CHECKS,
    integrity.CHECKS,
)
_FUNCTIONS: dict[str, CheckFunction] = {code: check for theme in _THEMES for code, check in theme.items()}
# Why our NIP is not found, said more exactly than "the invoice is not for us".
_BETTER_THAN_Z01 = frozenset(("Z03", "Z04", "Z05"))


@dataclass(frozen=True, repr=False)
class Fired:
    """One check that fired, with the severity that counted. ``message`` is Polish; ``field`` a path such as "Fa/P_15",
    "" for the whole; ``values`` what the message was made of. May hold names: nothing for logs, as its repr knows."""

    code: str
    severity: Severity
    message: str
    field: str
    values: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Fired({self.code}, {self.severity})"

    def as_json(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "severity": str(self.severity),
            "message": self.message,
            "field": self.field,
            "values": dict(self.values),
        }


@dataclass(frozen=True)
class Verdict:
    """``verdict`` by the severest check of ``fired``, which are in the order of the list."""

    verdict: Word
    fired: tuple[Fired, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """{"verdict": …, "fired": [{"code", "severity", "message", "field", "values"}, …]}"""
        return {"verdict": self.verdict, "fired": [one.as_json() for one in self.fired]}


def judge(
    received: Received,
    metadata: Metadata | None,
    knowledge: Knowledge,
    archive: Archive,
    *,
    now: datetime,
    store: StoreMatch | None = None,
) -> Verdict:
    """The verdict on one invoice. ``metadata`` is None for a file that did not come from KSeF: nothing is compared with
    it then; ``now`` is aware; ``store`` may hand over a match already made. Raises nothing, whatever the invoice holds.
    """
    case = Case(received, metadata, knowledge, archive, now, store)
    fired = [one for check in CATALOGUE.values() if _applies(check, case) for one in _fired(check, case)]
    if any(one.code in _BETTER_THAN_Z01 and one.severity is Severity.N for one in fired):
        fired = [one for one in fired if one.code != "Z01"]
    return Verdict(_word(fired), tuple(fired))


def _applies(check: Check, case: Case) -> bool:
    if case.form not in check.forms or (case.is_own_sale and not check.own_sale):
        return False
    return case.received.readable or check.unread


def _fired(check: Check, case: Case) -> Iterator[Fired]:
    if case.knowledge.severity(check.code, check.severity) is None:
        return
    for count, hit in enumerate(_FUNCTIONS[check.code](case)):
        if count == MAX_HITS:
            return
        severity = case.knowledge.severity(check.code, hit.severity or check.severity)
        if severity is not None:
            yield Fired(check.code, severity, _message(check, hit), hit.where, dict(hit.values))


def _message(check: Check, hit: Hit) -> str:
    template = check.variants[hit.variant] if hit.variant else check.message
    return collapse(template.format_map(hit.values))


def _word(fired: list[Fired]) -> Word:
    severities = {one.severity for one in fired}
    if Severity.N in severities:
        return "niezasadna"
    return "do wyjaśnienia" if Severity.W in severities else "zasadna"
