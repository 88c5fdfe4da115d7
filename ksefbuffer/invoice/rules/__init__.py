"""The rules about what an invoice says, in the groups of the list of checks.

Each rule takes a ``Case`` and yields findings; it stays silent when a field that it needs cannot be read. Rules that
KSeF enforces (D) run on anything that looks like a FA; questionable ones (E, F) only on what the schema accepts.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..findings import Finding
from . import amounts, attachment, kinds, ksef, marks, parties, practice, texts
from .case import Case

__all__ = ["Case", "mojibake", "questionable", "refused_by_ksef"]

mojibake = texts.mojibake
refused_by_ksef = ksef.refused_by_ksef


def questionable(case: Case) -> Iterator[Finding]:
    """Groups E and F, and the spaces of C04, for a document that the schema accepts."""
    yield from texts.needless_spaces(case)
    yield from parties.check(case)
    yield from kinds.check(case)
    yield from amounts.check(case)
    yield from marks.check(case)
    yield from attachment.check(case)
    yield from practice.check(case)
    yield from texts.leftovers(case)
