"""Asking KSeF which invoices it holds. Source: FACTS §7.1, §8, §15 items 24 and 25.

A query lists 10,000 invoices at most; the rest is asked for anew from the date of the last one. Limit invoiceMetadata:
20 calls an hour, so exports are for volume.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ksefbuffer.errors import OutcomeUnknown, Refused
from ksefbuffer.ksef import reading
from ksefbuffer.ksef.calls import Calls
from ksefbuffer.ksef.failures import ASK_AGAIN, BEYOND_HWM, name_of
from ksefbuffer.ksef.shapes import InvoiceMetadata, MetadataPage, Period, Subject
from ksefbuffer.ksef.wire import Call

METADATA_PAGE_SIZE = 250

_DATES = {"PermanentStorage": "permanentStorageDate", "Invoicing": "invoicingDate", "Issue": "issueDate"}


class MetadataCalls(Calls):
    """Questions about KSeF's repository; none of them changes anything."""

    def query_metadata(
        self, subject: Subject, period: Period, *, page: int = 0, newest_first: bool = False, share: float = 1.0
    ) -> MetadataPage:
        """One page of 250 of the invoices of a period, the oldest first; ``page`` counts from 0. Limit
        invoiceMetadata.

        A period that begins beyond the high-water mark, restricted to it, holds nothing yet: an empty page (21183).
        """
        filters = query_filters(subject, period)
        try:
            return self._metadata_page("query_metadata", filters, page, newest_first=newest_first, share=share)
        except Refused as fault:
            if fault.code != BEYOND_HWM:
                raise
        return MetadataPage((), more=False, truncated=False, hwm="")

    def metadata(self, subject: Subject, period: Period, *, share: float = 1.0) -> Iterator[InvoiceMetadata]:
        """Every invoice of a period, each once, the oldest first, however many pages and queries it takes. Limit
        invoiceMetadata, one call per page of 250.

        Ends only after the last page was read: a listing cut short raises, for a missing entry would look like proof.
        After a fault one goes on with a period that starts at the date of the last entry given, as KSeF wrote it.
        Raises Refused when more invoices share one date than KSeF lists under it: only an export gets at them.
        """
        seen: set[str] = set()
        starts = {period.start}
        page, last_date = 0, ""
        while True:
            answer = self.query_metadata(subject, period, page=page, share=share)
            for entry in answer.invoices:
                last_date = reading.optional_text(entry.raw.get(_DATES[period.date_type])) or last_date
                if entry.ksef_number not in seen:
                    seen.add(entry.ksef_number)
                    yield entry
            if answer.truncated:
                start = _start_at(last_date)
                if not start or start in starts:
                    if not answer.more:
                        return
                    raise _too_many_at_once()
                starts.add(start)
                period, page, last_date = replace(period, start=start), 0, ""
            elif not answer.more:
                return
            elif not answer.invoices:
                raise OutcomeUnknown(
                    f"KSeF zapowiada dalsze strony, ale podaje pustą ({name_of('query_metadata')}).",
                    action=ASK_AGAIN,
                    operation="query_metadata",
                )
            else:
                page += 1

    def _metadata_page(
        self,
        operation: str,
        filters: Mapping[str, Any],
        page: int,
        *,
        newest_first: bool = False,
        share: float = 1.0,
    ) -> MetadataPage:
        call = Call(
            operation,
            "POST",
            "/invoices/query/metadata",
            "invoiceMetadata",
            repeatable=True,
            query={
                "pageOffset": page,
                "pageSize": METADATA_PAGE_SIZE,
                "sortOrder": "Desc" if newest_first else "Asc",
            },
            share=share,
        )
        return self._authorised(call, lambda answer: reading.metadata_page(answer.json()), json=filters)


def query_filters(subject: Subject, period: Period) -> dict[str, Any]:
    """A period in KSeF's words, as queries and exports take it."""
    dates: dict[str, Any] = {"dateType": period.date_type, "from": period.start}
    if period.end:
        dates["to"] = period.end
    if period.restrict_to_hwm:
        dates["restrictToPermanentStorageHwmDate"] = True
    return {"subjectType": subject.value, "dateRange": dates}


def _start_at(last_date: str) -> str:
    # An issue date is a day without a time. Its midnight by Warsaw's summer time is early enough for every reading of
    # it: as a day, in UTC, or in Warsaw; what comes twice for it is given once.
    return f"{last_date}T00:00:00+02:00" if last_date and "T" not in last_date else last_date


def _too_many_at_once() -> Refused:
    return Refused(
        "KSeF ma z jedną datą więcej faktur, niż wymienia w odpowiedzi na zapytanie.",
        action="Pobierz je eksportem: wydaj polecenie „incoming pull”.",
        operation="query_metadata",
    )
