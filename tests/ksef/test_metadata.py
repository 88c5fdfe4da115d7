"""Metadata queries: single pages, and everything of a period."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ksefbuffer.errors import OutcomeUnknown, RateLimited, Refused
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.reading import invoice_metadata
from ksefbuffer.ksef.shapes import MetadataParty, Period, Subject
from tests.ksef.fake import Clock, problem
from tests.ksef.fake_export import HWM, FakeExports, moment, number, record

QUERY = "POST /invoices/query/metadata"
PERIOD = Period("PermanentStorage", moment(0))


@pytest.fixture
def fake(clock: Clock) -> FakeExports:
    return FakeExports(clock)


@pytest.fixture
def ksef(fake: FakeExports) -> Iterator[Ksef]:
    ksef = fake.client()
    yield ksef
    ksef.close()


def page(*entries: object, more: object = False, truncated: object = False, **changes: object) -> httpx.Response:
    body = {"hasMore": more, "isTruncated": truncated, "permanentStorageHwmDate": HWM, "invoices": list(entries)}
    return httpx.Response(200, json={**body, **changes})


# --- one page


def test_a_page_is_asked_for_as_told_and_its_cursor_left_untouched(fake: FakeExports, ksef: Ksef) -> None:
    fake.plan(QUERY, page(record(1), more=True))
    period = Period("PermanentStorage", "2026-11-01T00:00:00.1234567+01:00", "2026-11-02T00:00:00Z", True)
    answer = ksef.query_metadata(Subject.AUTHORIZED, period, page=3, newest_first=True)
    assert ([entry.ksef_number for entry in answer.invoices], answer.more, answer.truncated, answer.hwm) == (
        [number(1)],
        True,
        False,
        HWM,
    )
    request = fake.last(QUERY)
    assert dict(request.url.params) == {"pageOffset": "3", "pageSize": "250", "sortOrder": "Desc"}
    assert json.loads(request.content) == {
        "subjectType": "SubjectAuthorized",
        "dateRange": {
            "dateType": "PermanentStorage",
            "from": "2026-11-01T00:00:00.1234567+01:00",
            "to": "2026-11-02T00:00:00Z",
            "restrictToPermanentStorageHwmDate": True,
        },
    }


def test_a_period_beyond_the_high_water_mark_holds_nothing_yet(fake: FakeExports, ksef: Ksef) -> None:
    fake.plan(QUERY, problem(400, 21183), problem(400, 21183), problem(400, 21405, "dateRange.from"))
    answer = ksef.query_metadata(Subject.BUYER, PERIOD)
    assert (answer.invoices, answer.more, answer.truncated, answer.hwm) == ((), False, False, "")
    assert list(ksef.metadata(Subject.BUYER, PERIOD)) == []
    with pytest.raises(Refused) as caught:
        ksef.query_metadata(Subject.BUYER, PERIOD)
    assert caught.value.code == "21405"


@pytest.mark.parametrize(
    "answer",
    [
        page(record(1), {**record(2), "ksefNumber": None}),
        page(record(1), {**record(2), "invoiceHash": "x"}),
        page(record(1), None),
        page(more=None),
        page(truncated="no"),
        page(invoices=None),
        httpx.Response(200, text="<html>"),
    ],
)
def test_a_page_read_short_proves_nothing(fake: FakeExports, ksef: Ksef, answer: httpx.Response) -> None:
    fake.plan(QUERY, *[answer] * 4)
    with pytest.raises(OutcomeUnknown):
        ksef.query_metadata(Subject.BUYER, PERIOD)


# --- one entry


def test_everything_that_an_entry_says_is_read() -> None:
    whole = record(
        1,
        permanentStorageDate="2026-11-01T00:00:01.1230000+00:00",
        netAmount=Decimal("12345678901234567.89"),
        isSelfInvoicing=True,
        hasAttachment=True,
        hashOfCorrectedInvoice=record(7)["invoiceHash"],
        thirdSubjects=[
            {"identifier": {"type": "InternalId", "value": "5265877635-12345"}, "name": "Sklep 12", "role": 2},
            {"identifier": {"type": "None"}, "role": "10"},
        ],
        authorizedSubject={"nip": "1111111111", "name": "Komornik", "role": 2},
    )
    read = invoice_metadata(whole)
    assert (read.seller_nip, read.seller_name) == ("5555555555", "Hurtownia Łąka")
    assert (read.buyer_id_type, read.buyer_id, read.buyer_name) == ("Nip", "5265877635", "Sklep Źródło")
    assert (read.net, read.gross, read.vat) == (
        Decimal("12345678901234567.89"),
        Decimal("123.45"),
        Decimal("23.45"),
    )
    assert read.issue_date == date(2026, 11, 1)
    assert read.invoicing_at == datetime(2026, 11, 1, 0, 0, 1, 123456, UTC)
    assert read.permanent_at_raw == "2026-11-01T00:00:01.1230000+00:00"
    assert read.thirds == (
        MetadataParty("InternalId", "5265877635-12345", "Sklep 12", 2),
        MetadataParty("None", "", "", 10),
    )
    assert read.authorized == MetadataParty("Nip", "1111111111", "Komornik", 2)
    assert (read.self_invoicing, read.has_attachment) == (True, True)
    assert read.corrected_sha256_hex == invoice_metadata(record(7)).sha256_hex
    assert read.raw == whole
    assert "nowe" not in repr(read)


ODD = [
    *(None, "", "x", 5, float("inf"), [], {}, [None, 5], {"identifier": [], "role": "?"}, {"role": float("inf")}),
    [{"identifier": {"type": 5}, "name": [], "role": float("nan")}, {"role": float("inf")}],
]


@pytest.mark.parametrize("field", [*sorted(set(record(1)) - {"ksefNumber", "invoiceHash"}), "authorizedSubject"])
@pytest.mark.parametrize("odd", ODD)
def test_whatever_else_is_missing_or_odd_spoils_nothing(field: str, odd: object) -> None:
    read = invoice_metadata({**record(1), field: odd})
    assert (read.ksef_number, len(read.sha256_hex)) == (number(1), 64)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
OTHER_FIELDS = [
    *sorted(set(record(1)) - {"ksefNumber", "invoiceHash"}),
    "authorizedSubject",
    "hashOfCorrectedInvoice",
]


@settings(deadline=None, max_examples=200)
@given(changes=st.dictionaries(st.sampled_from(OTHER_FIELDS), json_values, max_size=5))
def test_no_oddity_of_an_entry_spoils_it(changes: dict[str, Any]) -> None:
    assert invoice_metadata({**record(1), **changes}).ksef_number == number(1)


def test_an_entry_of_number_and_hash_alone_is_an_entry() -> None:
    read = invoice_metadata({"ksefNumber": number(1), "invoiceHash": record(1)["invoiceHash"]})
    assert (read.permanent_at_raw, read.thirds, read.authorized, read.net) == ("", (), None, None)


def test_metadata_can_be_told_apart_and_kept_in_sets() -> None:
    assert len({invoice_metadata(record(1)), invoice_metadata(record(1)), invoice_metadata(record(2))}) == 2


# --- everything of a period


def numbers(ksef: Ksef, period: Period = PERIOD) -> list[str]:
    return [entry.ksef_number for entry in ksef.metadata(Subject.BUYER, period)]


def starts(fake: FakeExports) -> list[str]:
    return list(dict.fromkeys(query["dateRange"]["from"] for query in fake.queries))


@pytest.mark.parametrize("count", [0, 1, 249, 250, 251, 600])
def test_all_pages_are_read(fake: FakeExports, ksef: Ksef, count: int) -> None:
    fake.hold(*range(count))
    assert numbers(ksef) == [number(n) for n in range(count)]
    assert len(fake.queries) == max(1, -(-count // 250))


@pytest.mark.parametrize("kind", ["PermanentStorage", "Invoicing"])
def test_what_ksef_lists_no_further_is_asked_for_from_the_last_date_as_ksef_wrote_it(
    fake: FakeExports, ksef: Ksef, kind: str
) -> None:
    fake.hold(*range(1400))
    fake.most = 500
    period = Period(kind, moment(0), "2026-11-09T00:00:00Z")  # type: ignore[arg-type]
    assert numbers(ksef, period) == [number(n) for n in range(1400)]
    assert starts(fake) == [moment(0), moment(499), moment(998)]
    assert {query["dateRange"]["to"] for query in fake.queries} == {"2026-11-09T00:00:00Z"}


def test_a_day_of_issue_is_gone_on_from_early_enough_for_any_reading_of_it(fake: FakeExports, ksef: Ksef) -> None:
    fake.most = 500
    for n in range(1200):
        fake.records.append(record(n, issueDate=f"2026-11-{1 + n // 300:02d}"))
    assert numbers(ksef, Period("Issue", "2026-11-01T00:00:00Z")) == [number(n) for n in range(1200)]
    assert starts(fake) == [
        "2026-11-01T00:00:00Z",
        "2026-11-02T00:00:00+02:00",
        "2026-11-03T00:00:00+02:00",
        "2026-11-04T00:00:00+02:00",
    ]


def test_a_last_entry_without_a_date_leaves_the_one_before_it(fake: FakeExports, ksef: Ksef) -> None:
    fake.plan(
        QUERY,
        page(record(1), record(2), record(3, permanentStorageDate=None), more=True, truncated=True),
        page(record(2), record(3), record(4)),
    )
    assert numbers(ksef) == [number(n) for n in (1, 2, 3, 4)]
    assert json.loads(fake.last(QUERY).content)["dateRange"]["from"] == moment(2)


def test_pages_that_overlap_give_each_invoice_once(fake: FakeExports, ksef: Ksef) -> None:
    fake.plan(
        QUERY,
        page(record(1), record(2), more=True),
        page(record(2), record(3), more=True),
        page(record(2), record(3), more=True),
        page(record(3), record(4)),
    )
    assert numbers(ksef) == [number(n) for n in (1, 2, 3, 4)]


def test_truncated_without_more_is_looked_into_and_ends_when_nothing_new_comes(fake: FakeExports, ksef: Ksef) -> None:
    fake.plan(
        QUERY,
        page(record(1), record(2), truncated=True),
        page(record(2), record(3), truncated=True),
        page(record(3), truncated=True),
    )
    assert numbers(ksef) == [number(n) for n in (1, 2, 3)]


def test_more_invoices_of_one_date_than_ksef_lists_are_reported_and_not_asked_for_forever(
    fake: FakeExports, ksef: Ksef
) -> None:
    fake.most = 500
    fake.records = [record(n, permanentStorageDate=moment(0)) for n in range(501)]
    given: list[str] = []
    with pytest.raises(Refused) as caught:
        given.extend(entry.ksef_number for entry in ksef.metadata(Subject.BUYER, PERIOD))
    assert "eksport" in caught.value.action
    assert len(fake.queries) == 2
    # The same when no entry says when it was stored.
    fake.records = [record(n, permanentStorageDate=None) for n in range(501)]
    with pytest.raises(Refused):
        numbers(ksef)


def test_one_instant_written_in_two_ways_is_no_way_forward(fake: FakeExports, ksef: Ksef) -> None:
    short, long = "2026-11-01T00:00:00.123456+00:00", "2026-11-01T00:00:00.1234560+00:00"
    turns = [page(record(1, permanentStorageDate=at), more=True, truncated=True) for at in (long, short) * 5]
    fake.plan(QUERY, *turns)
    with pytest.raises(Refused):
        numbers(ksef, Period("PermanentStorage", "2026-10-31T00:00:00Z"))
    assert fake.count(QUERY) == 3


def test_a_listing_cut_short_never_looks_like_its_end(fake: FakeExports, ksef: Ksef) -> None:
    fake.plan(QUERY, page(record(1), more=True), page(more=True))
    with pytest.raises(OutcomeUnknown):
        numbers(ksef)
    fake.plan(QUERY, page(record(1), more=True), httpx.Response(429, headers={"retry-after": "900"}))
    entries = ksef.metadata(Subject.BUYER, PERIOD)
    assert next(entries).ksef_number == number(1)
    with pytest.raises(RateLimited):
        next(entries)


def test_pages_wait_for_the_hourly_limit_instead_of_breaking_it(fake: FakeExports, ksef: Ksef) -> None:
    fake.hold(*range(250 * 21))
    given = 0
    with pytest.raises(RateLimited) as caught:
        for _ in ksef.metadata(Subject.BUYER, PERIOD):
            given += 1
            if given % 250 == 0:
                fake.clock.sleep(5)
    assert given == 250 * 20
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s > 3000
    assert len(fake.queries) == 20


@settings(deadline=None, max_examples=25)
@given(
    gaps=st.lists(st.integers(0, 2), max_size=300),
    most=st.integers(60, 130),
    late=st.integers(0, 5),
)
def test_whatever_the_dates_each_invoice_comes_once(gaps: list[int], most: int, late: int) -> None:
    fake = FakeExports(Clock())
    fake.most = most
    at = 0
    for n, gap in enumerate(gaps):
        at += gap
        fake.records.append(record(n, b"", permanentStorageDate=moment(at)))
    crowd = max(Counter(r["permanentStorageDate"] for r in fake.records).values(), default=0)
    ksef = fake.client()
    given: list[str] = []
    try:
        for entry in ksef.metadata(Subject.BUYER, PERIOD):
            given.append(entry.ksef_number)
            if len(given) % 19 == 0:
                fake.clock.sleep(3600)
            if late and len(given) == late * 7:
                # A late row below what was read already moves everything on the following pages.
                fake.records.insert(0, record(90_000, b"", permanentStorageDate=moment(0)))
    except Refused:
        assert crowd + 1 >= most
        return
    finally:
        ksef.close()
    assert len(given) == len(set(given))
    assert {r["ksefNumber"] for r in fake.records} - set(given) <= {number(90_000)}
