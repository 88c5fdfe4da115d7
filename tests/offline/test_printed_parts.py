"""The parts of the printed page that need no typesetting: figures, legible texts, pairs of a correction, widths."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from ksefbuffer.offline.printing import figures, words
from ksefbuffer.offline.printing.blocks import Column, facts, row, table
from ksefbuffer.offline.printing.labels import label
from ksefbuffer.offline.printing.legible import legible
from ksefbuffer.offline.printing.lines import FA, paired
from ksefbuffer.offline.printing.page import Code, page_of
from ksefbuffer.offline.printing.press import pdf
from ksefbuffer.offline.printing.source import MAX_TEXT, Node, tree_of
from ksefbuffer.offline.printing.wire import spoken
from tests.offline.printed_pages import faktura


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("1234.5", "1 234,50"),
        ("-1234567.891", "−1 234 567,891"),
        ("0", "0,00"),
        ("9999999999999999.99", "9 999 999 999 999 999,99"),
        ("0.10000000", "0,10"),
        ("", ""),
        ("12,50", "12,50"),
        ("dużo", "dużo"),
    ],
)
def test_amounts(text: str, shown: str) -> None:
    assert figures.amount(text).replace(figures.NBSP, " ") == shown


@pytest.mark.parametrize(
    ("text", "shown"), [("2.000", "2"), ("10.5", "10,5"), ("1000000", "1 000 000"), ("0.123456", "0,123456")]
)
def test_quantities_keep_no_idle_zeros(text: str, shown: str) -> None:
    assert figures.number(text).replace(figures.NBSP, " ") == shown


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**15), max_value=10**15, places=8))
def test_no_figure_changes_its_value(value: object) -> None:
    shown = figures.number(str(value)).replace(figures.NBSP, "").replace(",", ".").replace(figures.MINUS, "-")
    assert float(shown) == float(str(value))


@pytest.mark.parametrize(
    ("text", "shown"),
    [("2026-02-01", "01.02.2026"), ("2026-02-30", "2026-02-30"), ("wczoraj", "wczoraj"), ("", "")],
)
def test_dates_that_are_none_stay_as_they_are(text: str, shown: str) -> None:
    assert figures.day(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2026-07-01T06:00:00Z", "01.07.2026 08:00"),
        ("2026-12-01T06:00:00+00:00", "01.12.2026 07:00"),
        ("2026-12-01T06:00:00", "01.12.2026 06:00"),
        ("2026-12-01", "2026-12-01"),
        ("świt", "świt"),
    ],
)
def test_moments_are_told_in_polish_time(text: str, shown: str) -> None:
    assert figures.moment(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("61109010140000071219812874", "61 1090 1014 0000 0712 1981 2874"),
        ("PL61 1090 1014 0000 0712 1981 2874", "61 1090 1014 0000 0712 1981 2874"),
        ("DE89370400440532013000", "DE89 3704 0044 0532 0130 00"),
        ("konto u Basi", "konto u Basi"),
    ],
)
def test_accounts_are_grouped(text: str, shown: str) -> None:
    assert figures.account(text) == shown


@pytest.mark.parametrize(("code", "shown"), [("23", "23%"), ("zw", "zw."), ("0 WDT", "0% WDT"), ("6.5", "6,5%")])
def test_rates(code: str, shown: str) -> None:
    assert words.rate(code) == shown


def test_unknown_elements_are_named_by_their_own_words() -> None:
    assert label("NrPartiiTowaruXYZ") == "Nr partii towaru XYZ"
    assert label("Podmiot1") == "Sprzedawca"
    assert label("P_99") == "P 99"


@given(st.text(max_size=200))
def test_legible_texts_hold_no_control_and_stay_so(text: str) -> None:
    shown = legible(text)
    assert legible(shown) == shown
    assert not [sign for sign in shown if unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Co") and sign != "\n"]


def test_every_legible_character_can_be_set_upright_bold_and_italic() -> None:
    letters = [chr(code) for code in range(0x20, 0x3000) if legible("a" + chr(code)) == "a" + chr(code)]
    assert len(letters) > 3_000
    texts = ["a" + "a".join(letters[at : at + 100]) for at in range(0, len(letters), 100)]
    rows = [row([text, text, text], style) for style in ("sum", "difference", "before") for text in texts]
    page = page_of(tree_of(etree.fromstring(faktura())), (), ksef_number=None, accepted_at=None, mode=None)
    page.blocks.extend(table([Column("a"), Column("b"), Column("c")], rows))
    assert pdf(spoken(page, ())).startswith(b"%PDF")


def _rows(*said: str) -> list[Node]:
    """Rows written "number:name:unique id", with "-" in front for the state before."""
    made = []
    for text in said:
        number, name, unique = text.lstrip("-").split(":")
        node = Node("FaWiersz")
        node.children = [Node("NrWierszaFa", number), Node("P_7", name), Node("UU_ID", unique)]
        node.taken = text.startswith("-")
        made.append(node)
    return made


@pytest.mark.parametrize(
    ("said", "pairs"),
    [
        (("-1:a:", "1:a:"), [(0, 1)]),
        (("-1:a:", "2:a:"), [(0, 1)]),
        (("-1:a:", "-2:b:", "3:a:", "4:b:"), [(0, 2), (1, 3)]),
        (("-1:a:x", "-2:b:y", "3:b:x", "4:a:y"), [(0, 2), (1, 3)]),
        (("-1:a:", "1:inna nazwa:"), [(0, 1)]),
        (("-1:a:", "2:inna nazwa:"), [(0, 1)]),
        (("-1:a:", "-2:b:", "2:b:"), [(0, None), (1, 2)]),
        (("-1:a:", "1:a:", "2:nowa:"), [(0, 1), (None, 2)]),
        (("-1:a:", "-2:a:", "1:a:", "2:a:"), [(0, 2), (1, 3)]),
        (("-1:a:",), [(0, None)]),
    ],
)
def test_states_before_and_after_find_each_other(said: tuple[str, ...], pairs: list[tuple[int, int]]) -> None:
    rows = _rows(*said)
    befores = {id(node) for node in rows if node.taken}
    places = {id(node): at for at, node in enumerate(rows)}
    found = paired(rows, befores, FA)
    assert [(before and places[id(before)], after and places[id(after)]) for before, after in found] == pairs


def test_no_row_is_lost_in_pairing() -> None:
    rows = _rows("-1:a:", "1:b:", "-1:c:", "2:a:", "-3:a:", "4:d:")
    befores = {id(node) for node in rows if node.taken}
    found = [id(node) for pair in paired(rows, befores, FA) for node in pair if node is not None]
    assert sorted(found) == sorted(map(id, rows))


def test_a_wide_table_is_cut_into_parts_that_hold_every_column() -> None:
    columns = [Column(f"k{at}", "short") for at in range(30)]
    blocks = table(columns, [row([f"wartość {at}" for at in range(30)])])
    parts = [block for block in blocks if block["k"] == "table"]
    assert len(parts) > 1
    titles = [column["title"] for part in parts for column in part["columns"]]
    assert [title for title in titles if title != "Lp."] == [f"k{at}" for at in range(30)]
    assert all(len(part["rows"][0]["cells"]) == len(part["columns"]) for part in parts)


def test_nothing_is_made_of_nothing() -> None:
    assert facts([("a", "")]) == []
    assert table([Column("a")], []) == []


def test_very_long_texts_are_cut_and_it_is_said() -> None:
    root = tree_of(etree.fromstring(f"<a><b>{'x' * (MAX_TEXT + 5)}</b></a>"))
    assert root.take("b").endswith("… (jeszcze 5 znaków w pliku XML)")


def test_what_is_nested_too_deep_is_still_there() -> None:
    deep = "<x>" * 200 + "dno" + "</x>" * 200
    root = tree_of(etree.fromstring(f"<a>{deep}</a>"))
    assert [text for _, text in root.left()] == ["dno"]


def test_neither_page_nor_code_shows_the_invoice_in_logs() -> None:
    page = page_of(
        tree_of(etree.fromstring(faktura(number="FV/TAJNE"))), (), ksef_number=None, accepted_at=None, mode=None
    )
    assert "TAJNE" not in repr(page)
    assert "TAJNE" not in repr(Code("https://x/TAJNE", "TAJNE"))
    assert "TAJNE" in json.loads(spoken(page, ()))["number"]
