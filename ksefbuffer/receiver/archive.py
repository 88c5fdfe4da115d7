"""What is stored, as the checks of newcomers ask it: a few indexed queries for all of them, made before they ask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from ksefbuffer.queue import incoming
from ksefbuffer.queue.incoming import Found
from ksefbuffer.receiver.checks.archive import Known

_Pair = tuple[str, str]


@dataclass(frozen=True)
class Expected:
    """What the checks of one invoice will surely ask for."""

    seller_nip: str
    number_key: str
    likeness: str
    delivery_keys: tuple[str, ...]


@dataclass
class StoredArchive:
    """The archive of an open transaction, in which nothing is stored while it is asked. ``complete_since``: see
    ``checks.archive.Archive``; ``expected``: the invoices that are to be judged. Anything else is asked when it comes.
    """

    tx: Any
    complete_since: date | None
    expected: Iterable[Expected] = ()
    _numbered: dict[_Pair, list[Found]] = field(default_factory=dict)
    _alike: dict[_Pair, list[Found]] = field(default_factory=dict)
    _accounts: dict[str, dict[str, datetime]] = field(default_factory=dict)
    _named_once: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        expected = list(self.expected)
        self._look_up_numbers({(one.seller_nip, one.number_key) for one in expected})
        self._look_up_alike({(one.seller_nip, one.likeness) for one in expected if one.likeness})
        self._look_up_accounts({one.seller_nip for one in expected})
        keys = {key for one in expected for key in one.delivery_keys}
        if keys:
            self._named_once = frozenset(keys - incoming.deliveries_named(self.tx, sorted(keys)))

    def numbered(self, seller_nip: str, number_keys: Sequence[str]) -> Sequence[Known]:
        pairs = [(seller_nip, key) for key in number_keys]
        self._look_up_numbers(set(pairs) - self._numbered.keys())
        return _known(one for pair in pairs for one in self._numbered[pair])

    def filed(self, ksef_numbers: Sequence[str]) -> Sequence[Known]:
        return _known(incoming.numbers(self.tx, ksef_numbers))

    def delivered(self, seller_nip: str, delivery_keys: Sequence[str], since: date) -> Sequence[Known]:
        # One that a single invoice names is named by the one that asks.
        keys = [key for key in delivery_keys if key not in self._named_once]
        return _known(incoming.delivered(self.tx, seller_nip, keys, since)) if keys else ()

    def alike(self, seller_nip: str, likeness: str, since: date) -> Sequence[Known]:
        pair = (seller_nip, likeness)
        self._look_up_alike({pair} - self._alike.keys())
        return _known(one for one in self._alike[pair] if one.issue_date is not None and one.issue_date >= since)

    def corrections(self, ksef_number: str) -> Sequence[Known]:
        return _known(incoming.corrections(self.tx, ksef_number))

    def settlements(self, ksef_numbers: Sequence[str]) -> Sequence[Known]:
        return _known(incoming.settlements(self.tx, ksef_numbers)) if ksef_numbers else ()

    def accounts(self, seller_nip: str, before: datetime | None) -> frozenset[str]:
        self._look_up_accounts({seller_nip} - self._accounts.keys())
        found = self._accounts[seller_nip]
        return frozenset(account for account, first_at in found.items() if before is None or first_at < before)

    def _look_up_numbers(self, pairs: set[_Pair]) -> None:
        if pairs:
            self._numbered.update({key: [] for key in pairs} | incoming.numbered(self.tx, sorted(pairs)))

    def _look_up_alike(self, pairs: set[_Pair]) -> None:
        if pairs:
            self._alike.update({key: [] for key in pairs} | incoming.alike(self.tx, sorted(pairs)))

    def _look_up_accounts(self, sellers: set[str]) -> None:
        if sellers:
            self._accounts.update({key: {} for key in sellers} | incoming.accounts(self.tx, sorted(sellers)))


def _known(found: Iterable[Found]) -> list[Known]:
    return [
        Known(
            ksef_number=one.ksef_number,
            seller_nip=one.seller_nip,
            buyer_nip=one.buyer_nip,
            invoice_type=one.invoice_type,
            invoice_number=one.invoice_number,
            issue_date=one.issue_date,
            gross=one.gross,
            currency=one.currency,
            accepted_at=one.invoiced_at,
            keys=one.keys,
        )
        for one in found
    ]
