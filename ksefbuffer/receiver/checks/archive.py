"""What the checks ask of the invoices already stored: few questions, each answered by one indexed query.

Keys are normalised before they are asked for, by the functions with which they must be stored: ``number_key``
(invoice.names), ``account_key`` (invoice.accounts), ``delivery_keys`` and ``likeness`` (checks.keys). The answers may
name the judged invoice itself and later ones; the checks leave those out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Protocol


@dataclass(frozen=True, repr=False)
class Known:
    """One stored invoice. ``accepted_at`` is KSeF's invoicingDate (aware); ``gross`` is P_15 in ``currency``;
    ``keys`` are those of the asked keys that it has, where keys were asked for."""

    ksef_number: str
    seller_nip: str
    buyer_nip: str
    invoice_type: str
    invoice_number: str
    issue_date: date | None
    gross: Decimal | None
    currency: str
    accepted_at: datetime | None = None
    keys: frozenset[str] = frozenset()


class Archive(Protocol):
    """What is stored. No question names more than a hundred keys or numbers; an answer may be cut at 300 invoices, the
    latest first, but ``filed`` must name every one that is there."""

    @property
    def complete_since(self) -> date | None:
        """All our invoices with an issue date from this day on are stored; None: nothing may be concluded from an
        invoice's absence."""

    def numbered(self, seller_nip: str, number_keys: Sequence[str]) -> Sequence[Known]:
        """Invoices of this seller whose ``number_key`` is one of these (``keys``: that one). Index: seller, key."""

    def filed(self, ksef_numbers: Sequence[str]) -> Sequence[Known]:
        """Invoices with these KSeF numbers, written without the inner hyphen of KSeF 1.0. The primary key."""

    def delivered(self, seller_nip: str, delivery_keys: Sequence[str], since: date) -> Sequence[Known]:
        """Invoices of this seller, issued since, no corrections and no advances, with one of these delivery keys
        (``keys``: those). Index: seller, delivery key."""

    def alike(self, seller_nip: str, likeness: str, since: date) -> Sequence[Known]:
        """Invoices of this seller, issued since, with this ``likeness``. Index: seller, likeness."""

    def corrections(self, ksef_number: str) -> Sequence[Known]:
        """Corrections that name this invoice, and no other, as the one they correct. Index: corrected number."""

    def settlements(self, ksef_numbers: Sequence[str]) -> Sequence[Known]:
        """Settlements (ROZ) of these advance invoices (``keys``: the advances' KSeF numbers). Index: advance number."""

    def accounts(self, seller_nip: str, before: datetime | None) -> frozenset[str]:
        """``account_key`` of every account of this seller on invoices accepted before (None: on any) that nobody has
        rejected or marked as a scam. Index: seller."""


class NoArchive:
    """The archive of one who keeps none: every check that compares with other invoices is silent."""

    complete_since: date | None = None

    def numbered(self, seller_nip: str, number_keys: Sequence[str]) -> Sequence[Known]:
        return ()

    def filed(self, ksef_numbers: Sequence[str]) -> Sequence[Known]:
        return ()

    def delivered(self, seller_nip: str, delivery_keys: Sequence[str], since: date) -> Sequence[Known]:
        return ()

    def alike(self, seller_nip: str, likeness: str, since: date) -> Sequence[Known]:
        return ()

    def corrections(self, ksef_number: str) -> Sequence[Known]:
        return ()

    def settlements(self, ksef_numbers: Sequence[str]) -> Sequence[Known]:
        return ()

    def accounts(self, seller_nip: str, before: datetime | None) -> frozenset[str]:
        return frozenset()
