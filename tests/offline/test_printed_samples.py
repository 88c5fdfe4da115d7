"""Every real sample is printed, and what it says stands on its page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from lxml import etree

from ksefbuffer.invoice.received import read_received
from ksefbuffer.offline.printing import figures
from tests.offline.printed_pages import SAMPLES, dense, printed, sheets

FILES = sorted(SAMPLES.resolve().glob("*.xml"))
# Numbers, dates, moments and codes are written another way on the page, or in words.
_REWRITTEN = re.compile(r"[-+\d.,:TZ]+|true|false|days|PL\d{26}")
# How a form is called, and what is said by leaving it out.
_UNSAID = {"KodFormularza", "RodzajFaktury", "P_12", "P_12Z", "NrRB"}


def _texts(content: bytes) -> Iterator[str]:
    for element in etree.fromstring(content).iter("{*}*"):
        text = " ".join((element.text or "").split())
        name = etree.QName(element).localname
        if text and not len(element) and name not in _UNSAID and not _REWRITTEN.fullmatch(text):
            yield text


@cache
def _sheets(file: Path) -> list[str]:
    return sheets(printed(file.read_bytes()))


def _files() -> list[Path]:
    if not FILES:
        pytest.skip("../shared/ksef/invoices is not here")
    return FILES


def test_every_sample_is_printed_with_its_number_parties_and_total() -> None:
    for file in _files():
        content = file.read_bytes()
        invoice = read_received(content)
        pages = _sheets(file)
        text = dense("".join(pages))
        assert dense(f"nr {invoice.invoice_number}") in text, file.name
        for party in invoice.parties:
            assert dense(party.name) in text, file.name
            assert party.nip in text, file.name
        assert dense(figures.amount_of(invoice.gross)) in text, file.name
        assert [f"strona {at} z {len(pages)}" in page for at, page in enumerate(pages, 1)] == [True] * len(pages)


def test_no_text_of_an_undamaged_sample_is_missing_from_its_page() -> None:
    seen = 0
    for file in _files():
        content = file.read_bytes()
        if read_received(content).damage:
            continue
        texts = list(_texts(content))
        # A text may run over the end of a sheet: without head and foot of the sheets it is whole.
        pages = [re.sub(r"\n[^\n]*strona \d+ z \d+\s*$", "", page) for page in _sheets(file)]
        page = dense("".join(pages))
        missing = [text for text in texts if dense(text) not in page]
        assert missing == [], file.name
        seen += len(texts)
    assert seen > 2_000


def test_only_what_the_form_does_not_know_ends_among_the_rest() -> None:
    for file in _files():
        text = "\n".join(_sheets(file))
        odd = file.name.startswith("pef3") or "__ksefuj__" in file.name
        assert odd or "Pozostałe dane" not in text, file.name
