"""The printed page of a received invoice, as a view beside its XML: the number and KOD I on it. Source: FACTS §11."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass

from ksefbuffer.offline import qr
from ksefbuffer.offline.printed import Code, NotPrintable, render
from ksefbuffer.queue.incoming import FileDue

ENDING = ".pdf"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PrintedInvoice:
    """``qr_url``: the verification page's address of the environment."""

    qr_url: str
    ending: str = ENDING

    def make(self, content: bytes, facts: FileDue) -> bytes | None:
        """The PDF of an invoice; None, and a line in the log, when it cannot be printed at all."""
        try:
            return render(
                content,
                ksef_number=facts.ksef_number,
                accepted_at=facts.acquired_at,
                codes=self._codes(content, facts),
                # Which of the offline modes it was, KSeF does not say.
                mode="offline" if facts.mode.lower() == "offline" else None,
            )
        except NotPrintable as fault:
            log.warning("incoming=%s has no printed page: %s", facts.id, fault)
            return None

    def _codes(self, content: bytes, facts: FileDue) -> list[Code]:
        if facts.issue_date is None:
            return []
        digest = hashlib.sha256(content).hexdigest()
        try:
            url = qr.verification_url(self.qr_url, facts.seller_nip, facts.issue_date, digest)
        except ValueError:
            # A seller without a NIP has no such link.
            return []
        return [Code(url, facts.ksef_number)]
