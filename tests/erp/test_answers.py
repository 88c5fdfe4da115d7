from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from ksefbuffer.erp import answers
from ksefbuffer.erp.table import WRITTEN_BACK
from ksefbuffer.invoice.findings import Finding

CONTRACT = Path(__file__).parents[2] / ".." / "shared" / "CONTRACT.md"
KEYS = [
    "document_id",
    "source",
    "reference",
    "sha256",
    "size",
    "invoice_number",
    "issue_date",
    "form",
    "invoice_type",
    "status",
    "status_pl",
    "ksef_number",
    "accepted_at",
    "invoicing_mode",
    "session",
    "upo_file",
    "offline",
    "verification_url",
    "certificate_url",
    "jpk_marker",
    "waits_for",
    "warnings",
    "errors",
    "attempts",
    "next_attempt_at",
    "received_at",
    "updated_at",
]
NOON = datetime(2026, 11, 20, 10, 15, 3, 120_999, tzinfo=UTC)
DUPLICATE = Finding("440", "Duplikat faktury", "Zmień numer.", source="ksef", details=("numer a", "numer b")).as_dict()


@dataclass(frozen=True)
class View:
    document_id: str = "0192"
    reference: str | None = None
    sha256: str = "ab" * 32
    size: int = 4312
    invoice_number: str | None = "FV/1/2026"
    issue_date: date | None = date(2026, 11, 20)
    form: str | None = "FA (3)"
    invoice_type: str | None = "VAT"
    state: str = "sent"
    ksef_number: str | None = "5265877635-20261120-0100001AF629-AF"
    accepted_at: datetime | None = NOON
    invoicing_mode: str | None = "Online"
    session_reference: str | None = "20261120-SO-1"
    offline_mode: str | None = None
    offline_deadline: datetime | None = None
    jpk_marker: str | None = None
    waits_for: str | None = None
    warnings: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    attempts: int = 1
    next_attempt_at: datetime | None = None
    received_at: datetime = NOON
    updated_at: datetime = NOON


REFUSED = View(state="error", ksef_number=None, accepted_at=None, errors=[DUPLICATE], warnings=[DUPLICATE, DUPLICATE])


def answer(view: View = View(), upo_file: str | None = "NAME.upo.xml") -> dict[str, Any]:
    return answers.document_object(view, "NAME.xml", upo_file, "https://qr/invoice/1", None)


def test_the_object_has_the_contracts_keys_in_its_order() -> None:
    assert list(answer()) == KEYS
    assert list(answer()["offline"]) == ["mode", "deadline"]


def test_the_keys_and_their_order_are_those_printed_in_the_contract() -> None:
    if not CONTRACT.exists():
        pytest.skip("the contract's text is not beside this checkout")
    printed = CONTRACT.read_text(encoding="utf-8").split("## 4.")[1].split("```json")[1].split("```")[0]
    contract = json.loads(printed)
    assert list(contract) == list(answer())
    assert list(contract["offline"]) == list(answer()["offline"])
    assert list(contract["errors"][0]) == list(DUPLICATE)
    same = ("form", "status", "status_pl", "ksef_number", "accepted_at", "invoicing_mode", "issue_date", "upo_file")
    assert {key: contract[key] for key in same} == {key: answer()[key] for key in same}


@pytest.mark.parametrize(
    ("state", "polish"),
    [
        ("queued", "oczekuje"),
        ("processing", "w trakcie przetwarzania"),
        ("sent", "wysłano"),
        ("error", "błąd"),
        ("failed", "niepowodzenie"),
        ("cancelled", "anulowano"),
    ],
)
def test_every_state_has_its_polish_name(state: str, polish: str) -> None:
    told = answer(View(state=state))
    assert (told["status"], told["status_pl"]) == (state, polish)


@pytest.mark.parametrize("state", ["queued", "processing", "sent", "cancelled"])
def test_errors_are_told_only_in_error_and_failed(state: str) -> None:
    assert answer(replace(REFUSED, state=state))["errors"] == []
    assert answer(replace(REFUSED, state="failed"))["errors"] == [DUPLICATE]
    assert answer(replace(REFUSED, state=state))["warnings"] == [DUPLICATE, DUPLICATE]


def test_times_are_utc_with_milliseconds() -> None:
    told = answer(View(accepted_at=NOON.astimezone(timezone(timedelta(hours=1)))))
    assert told["accepted_at"] == "2026-11-20T10:15:03.120Z"
    assert answers.moment(datetime(2026, 11, 20, tzinfo=UTC)) == "2026-11-20T00:00:00.000Z"


def test_a_time_without_a_zone_is_a_programming_mistake() -> None:
    with pytest.raises(ValueError, match="zone"):
        answer(View(received_at=datetime(2026, 11, 20)))


def test_json_is_readable_polish_with_a_final_newline() -> None:
    written = answers.as_json(answer())
    assert written.endswith(b"}\n")
    assert '\n  "status_pl": "wysłano",\n' in written.decode()
    assert json.loads(written) == answer()


def test_xml_repeats_an_element_per_error() -> None:
    root = etree.fromstring(answers.as_xml(answer(REFUSED)))
    assert root.tag == "ksefbuffer"
    assert [child.tag for child in root] == KEYS
    assert root.findtext("status_pl") == "błąd"
    assert root.findtext("errors/error/code") == "440"
    assert [detail.text for detail in root.findall("errors/error/details/detail")] == ["numer a", "numer b"]
    assert len(root.findall("warnings/warning")) == 2
    assert root.find("ksef_number").text is None
    assert root.find("offline/deadline") is not None
    assert len(etree.fromstring(answers.as_xml(answer())).find("errors")) == 0


def test_txt_is_flat_upper_case_lines() -> None:
    lines = answers.as_txt(answer(REFUSED)).decode().split("\n")
    assert lines[-1] == "", "the last line is ended as well"
    assert all(re.fullmatch(r"[A-Z0-9_]+=[^\r]*", line) for line in lines[:-1])
    for line in (
        "STATUS=error",
        "STATUS_PL=błąd",
        "KSEF_NUMBER=",
        "OFFLINE_MODE=",
        "ERRORS=1",
        "ERROR_1_CODE=440",
        "ERROR_1_DETAIL_2=numer b",
        "WARNINGS=2",
        "WARNING_2_CODE=440",
    ):
        assert line in lines
    assert len({line.partition("=")[0] for line in lines}) == len(lines), "no key twice"


NASTY = "a\r\nSTATUS=sent\x00\x0b\x85\u2028\ud800\ufffe]]><&\"'=ż\U0001f600"


def test_no_character_breaks_a_file_or_forges_a_line() -> None:
    told = answers.document_object(View(invoice_number=NASTY, reference=NASTY), NASTY, None, None, None)
    assert json.loads(answers.as_json(told))["invoice_number"] == NASTY.replace("\ud800", "\ufffd")
    root = etree.fromstring(answers.as_xml(told))
    assert root.findtext("invoice_number") == re.sub("[\x00\x0b\ud800\ufffe]", "\ufffd", NASTY)
    lines = answers.as_txt(told).decode().splitlines()
    assert [line for line in lines if line.startswith("STATUS=")] == ["STATUS=sent"]
    assert "INVOICE_NUMBER=a STATUS=sent \ufffd\ufffe]]><&\"'=ż\U0001f600" in lines


@given(st.text(alphabet=st.characters(), max_size=40))
def test_whatever_the_text_every_spelling_can_be_read_again(text: str) -> None:
    told = answers.document_object(
        View(state="failed", invoice_number=text, errors=[Finding("1", text, details=(text,)).as_dict()]),
        text, None, None, None,
    )  # fmt: skip
    assert list(json.loads(answers.as_json(told))) == KEYS
    root = etree.fromstring(answers.as_xml(told))
    assert [child.tag for child in root] == KEYS
    plain = answers.as_txt(answers.document_object(View(state="failed", errors=REFUSED.errors), "x", None, None, None))
    keys = [line.partition("=")[0] for line in answers.as_txt(told).decode().splitlines()]
    assert [key for key in keys if key != "ERROR_1_DETAIL_1"] == [
        line.partition("=")[0] for line in plain.decode().splitlines() if "_DETAIL_" not in line
    ]


def test_the_same_answer_is_the_same_bytes() -> None:
    for write in answers.WRITERS.values():
        assert write(answer(REFUSED)) == write(answer(REFUSED))


def test_answers_are_named_after_the_source() -> None:
    assert [answers.answer_file("FV 1", response) for response in answers.WRITERS] == [
        "FV 1.ksef.json",
        "FV 1.ksef.xml",
        "FV 1.ksef.txt",
    ]


def test_a_table_row_gets_every_column_of_the_contract() -> None:
    row = answers.row_values(answer(), b"<UPO/>")
    assert tuple(row) == WRITTEN_BACK
    assert (row["status"], row["status_code"], row["upo_xml"]) == ("wysłano", "sent", b"<UPO/>")
    assert row["error_code"] is row["error_message"] is None


def test_a_table_row_tells_why_not_and_what_to_do() -> None:
    other = Finding("D04", "Zły NIP").as_dict()
    row = answers.row_values(answer(replace(REFUSED, errors=[DUPLICATE, other])), None)
    assert row["error_code"] == "440"
    assert row["error_message"] == "Duplikat faktury Zmień numer.\nZły NIP"
