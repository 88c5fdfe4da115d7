"""What a check found: one shape for the pre-check, for KSeF's verdicts and for everything shown to people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """BLOCK refuses the document, WARN is kept and shown with it, NOTE is shown by ``check`` only."""

    BLOCK = "block"
    WARN = "warn"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """One finding. ``code`` as in the check's list ("D04") or KSeF's status ("440"); ``source`` is who found it
    ("precheck", "ksef" or "buffer"); ``message`` and ``hint`` are Polish; ``line`` counts from 1; ``field`` is a path
    such as "Fa/P_1"."""

    code: str
    message: str
    hint: str = ""
    severity: Severity = Severity.BLOCK
    source: str = "precheck"
    line: int | None = None
    field: str | None = None
    details: Sequence[str] = ()

    def as_dict(self) -> dict[str, Any]:
        """The object of CONTRACT §4 (``errors`` and ``warnings``): without the severity."""
        whole = asdict(self)
        del whole["severity"]
        whole["details"] = list(self.details)
        return {key: whole[key] for key in ("code", "source", "message", "hint", "line", "field", "details")}
