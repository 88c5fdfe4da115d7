"""Which invoices are asked for, by queries and exports alike: the filters, and the rows they let through.

Source: FACTS §7.1; open-api.json InvoiceQueryFilters.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from .fields import Fields
from .instants import SECOND, ticks
from .numbers import KSEF_NUMBER, NIP
from .repository import SUBJECTS
from .world import Call, World

MAX_RANGE = timedelta(days=100)
BEYOND_HWM = (
    "Parametr dateRange.from jest późniejszy niż PermanentStorageHwmDate"
    " przy włączonym restrictToPermanentStorageHwmDate."
)
BEYOND_RANGE = "Zakres filtrowania wykracza poza dostępny zakres danych"
PERMANENT = "PermanentStorage"

_DATES = {"Issue": "r.issued_at", "Invoicing": "r.invoicing_at", PERMANENT: "p.permanent_at"}
_AMOUNTS = {"Brutto": "r.gross", "Netto": "r.net", "Vat": "r.vat"}


@dataclass(frozen=True)
class Filters:
    """``first`` and ``last`` (inclusive, last None: now) in units of 100 ns; ``terms`` are SQL over a row ``r`` of
    the repository, with their values."""

    subject: str
    date_type: str
    first: int
    last: int | None
    restricted: bool
    terms: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def until(self, now: datetime, mark: int) -> int:
        """The upper bound in force, the high-water mark being ``mark``."""
        last = ticks(now) if self.last is None else self.last
        return min(last, mark) if self.restricted else last

    def told_mark(self, now: datetime, mark: int) -> int | None:
        """What answers say is complete; None for dates other than PermanentStorage."""
        last = ticks(now) if self.last is None else self.last
        return min(last, mark) if self.date_type == PERMANENT else None

    def beyond(self, mark: int) -> bool:
        """Asked for no more than what is complete, and for nothing of that."""
        return self.restricted and self.first > mark


def read_filters(fields: Fields, call: Call) -> Filters:
    """Notes every mistake in ``fields``; what is returned counts only when there was none."""
    subject = fields.text("subjectType", among=SUBJECTS)
    filters = _read_period(subject, fields, call)
    _read_terms(fields, filters)
    return filters


def _read_period(subject: str, fields: Fields, call: Call) -> Filters:
    period = fields.inside("dateRange")
    if period is None:
        return Filters(subject, PERMANENT, 0, None, restricted=False)
    now = ticks(call.now)
    date_type = period.text("dateType", among=tuple(_DATES))
    first = period.instant("from")
    last = period.instant("to", required=False)
    restricted = period.flag("restrictToPermanentStorageHwmDate") or False
    if restricted and date_type != PERMANENT:
        period.wrong("restrictToPermanentStorageHwmDate", "dotyczy tylko dat PermanentStorage")
    if first is not None and last is not None and first > last:
        period.wrong("from", "nie może być późniejsze niż 'to'")
    if last is not None and last > now:
        period.wrong("to", "nie może być z przyszłości")
        call.note("future-to", "dateRange.to lies in the future; leave it out to get everything up to now")
    longest = int(MAX_RANGE.total_seconds()) * SECOND
    if first is not None and (now if last is None else last) - first > longest:
        period.wrong("from", "wyznacza zakres dłuższy niż 100 dni")
    return Filters(subject, date_type, first or 0, last, restricted)


def _read_terms(fields: Fields, filters: Filters) -> None:
    def term(sql: str, *values: Any) -> None:
        filters.terms.append(sql)
        filters.values.extend(values)

    if number := fields.text("ksefNumber", required=False):
        if not KSEF_NUMBER.fullmatch(number):
            fields.wrong("ksefNumber", "ma nieprawidłowy format")
        term("r.ksef_number = ?", number)
    if number := fields.text("invoiceNumber", required=False, limit=256):
        term("r.number = ?", number)
    if nip := fields.text("sellerNip", required=False):
        if not NIP.fullmatch(nip):
            fields.wrong("sellerNip", "ma nieprawidłowy format")
        term("r.seller = ?", nip)
    if codes := fields.texts("currencyCodes"):
        term(f"r.currency IN ({_marks(codes)})", *codes)
    if mode := fields.text("invoicingMode", required=False, among=("", "Online", "Offline")):
        term("r.mode = ?", mode)
    if (flag := fields.flag("isSelfInvoicing")) is not None:
        term("r.self_invoicing = ?", flag)
    if form := fields.text("formType", required=False, among=("", "FA", "PEF", "FA_RR")):
        term("r.form = ?", form)
    if kinds := fields.texts("invoiceTypes"):
        term(f"r.kind IN ({_marks(kinds)})", *kinds)
    if (flag := fields.flag("hasAttachment")) is not None:
        term("r.attachment = ?", flag)
    if buyer := fields.inside("buyerIdentifier", required=False):
        term("r.buyer_kind = ?", buyer.text("type", among=("Nip", "VatUe", "Other", "None")))
        if value := buyer.text("value", required=False, limit=50):
            term("r.buyer_value = ?", value)
    if amount := fields.inside("amount", required=False):
        column = _AMOUNTS.get(amount.text("type", among=tuple(_AMOUNTS)), "r.gross")
        if (least := amount.amount("from")) is not None:
            term(f"{column} >= ?", float(least))
        if (most := amount.amount("to")) is not None:
            term(f"{column} <= ?", float(most))


def _marks(values: list[str]) -> str:
    return ", ".join("?" * len(values))


def rows(
    world: World, filters: Filters, nip: str, *, columns: str, now: datetime, mark: int, limit: int, offset: int = 0,
    descending: bool = False,
) -> list[sqlite3.Row]:  # fmt: skip
    """What the filters let through of what concerns ``nip``, by the chosen date. ``columns``: of ``r``, the
    repository's row, and ``p``, its party."""
    at = _DATES[filters.date_type]
    way = "DESC" if descending else "ASC"
    # The cross join keeps the order of the tables: parties first, whose key is in the order asked for mostly.
    sql = (
        f"SELECT {columns} FROM invoice_parties p CROSS JOIN repository r ON r.seq = p.seq"  # noqa: S608 - our own text
        f" WHERE p.subject = ? AND p.nip = ? AND {at} BETWEEN ? AND ? AND r.visible_at <= ?"
        f"{''.join(f' AND {term}' for term in filters.terms)}"
        f" ORDER BY {at} {way}, p.seq {way} LIMIT ? OFFSET ?"
    )
    bounds = (filters.first, filters.until(now, mark), ticks(now))
    return world.store.all(sql, filters.subject, nip, *bounds, *filters.values, limit, offset)
