from __future__ import annotations

import re
from pathlib import Path

import pytest

from ksefbuffer.offline.corrections import SHOWN_DIFFERENCES, compare
from tests import samples

ORIGINAL = samples.invoice("FV/1/2026", lines=2)


def changed(pattern: str, replacement: str, content: bytes = ORIGINAL) -> bytes:
    text, count = re.subn(pattern, replacement, content.decode(), count=1, flags=re.DOTALL)
    assert count == 1, f"{pattern} is not in the invoice"
    return text.encode()


def paths(original: bytes, corrected: bytes) -> list[str]:
    return [difference.path for difference in compare(original, corrected).content]


def test_a_file_made_again_with_the_same_content_is_allowed() -> None:
    again = changed(r"<DataWytworzeniaFa>[^<]*", "<DataWytworzeniaFa>2026-11-21T09:00:00Z")
    found = compare(ORIGINAL, again)
    assert found.allowed
    assert (found.content, [one.path for one in found.technical]) == ((), ["Naglowek/DataWytworzeniaFa"])


def test_the_program_that_made_the_file_may_be_added() -> None:
    bare = re.sub(rb"\s*<SystemInfo>.*?</SystemInfo>", b"", ORIGINAL)
    named = changed(r"</DataWytworzeniaFa>", "</DataWytworzeniaFa><SystemInfo>Kasa 7.1</SystemInfo>", bare)
    found = compare(bare, named)
    assert found.allowed
    assert found.told() == ["Naglowek/SystemInfo: dodano „Kasa 7.1”"]


@pytest.mark.parametrize(
    "rewritten",
    [
        pytest.param(re.sub(rb">\s+<", b"><", ORIGINAL) + b"\n", id="no-line-breaks"),
        pytest.param(re.sub(rb"><", b">\n   <", ORIGINAL), id="line-breaks"),
        pytest.param(ORIGINAL.replace(b"<P_2>", b"<P_2> \n ").replace(b"</P_2>", b"\t</P_2>"), id="spaces-around"),
        pytest.param(ORIGINAL.replace(b"</Fa>", b"<!-- poprawione --></Fa>"), id="a-comment"),
        pytest.param(
            re.sub(rb"<(/?)([A-Za-z])", rb"<\1tns:\2", ORIGINAL).replace(b" xmlns=", b" xmlns:tns="), id="prefixes"
        ),
    ],
)
def test_only_the_way_of_writing_is_no_difference(rewritten: bytes) -> None:
    assert rewritten != ORIGINAL
    found = compare(ORIGINAL, rewritten)
    assert (found.allowed, found.content, found.technical) == (True, (), ())


def test_a_refused_file_in_another_encoding_or_with_a_mark_may_be_mended() -> None:
    text = changed(r"<P_7>[^<]*", "<P_7>Łódź, żółta").decode()
    body = text[text.index("?>") + 2 :] if text.startswith("<?xml") else text
    legacy = f'<?xml version="1.0" encoding="windows-1250"?>{body}'.encode("cp1250", errors="xmlcharrefreplace")
    for refused in (legacy, b"\xef\xbb\xbf" + text.encode()):
        assert compare(refused, text.encode()).allowed


@pytest.mark.parametrize("sign", ["\x7f", "\x80", "\x9f", "\ufdd0", "\U0001fffe"])
def test_signs_that_ksef_forbids_may_be_taken_out(sign: str) -> None:
    refused = changed(r"<P_7>", f"<P_7>{sign}")
    assert compare(refused, ORIGINAL).allowed


def test_elements_put_in_the_right_order_are_the_same_content() -> None:
    swapped = changed(r"(<P_1>.*?</P_1>)(.*?)(<P_2>.*?</P_2>)", r"\3\2\1")
    assert compare(swapped, ORIGINAL).allowed


def test_rows_that_change_places_are_a_change() -> None:
    first, second = re.findall(rb"<FaWiersz>.*?</FaWiersz>", ORIGINAL, flags=re.DOTALL)
    swapped = ORIGINAL.replace(first, b"@").replace(second, first).replace(b"@", second)
    assert not compare(ORIGINAL, swapped).allowed


@pytest.mark.parametrize(
    ("pattern", "replacement", "path"),
    [
        (r"<P_15>[^<]*", "<P_15>1.00", "Fa/P_15"),
        (r"<P_2>[^<]*", "<P_2>FV/2/2026", "Fa/P_2"),
        (r"<P_1>[^<]*", "<P_1>2026-11-19", "Fa/P_1"),
        (r"<KodWaluty>PLN", "<KodWaluty>EUR", "Fa/KodWaluty"),
        (r"(<Podmiot2>.*?<NIP>)[^<]*", r"\g<1>5260250274", "Podmiot2/DaneIdentyfikacyjne/NIP"),
        (r"<P_7>[^<]*", "<P_7>Inny towar", "Fa/FaWiersz/P_7"),
        (r'kodSystemowy="FA \(3\)"', 'kodSystemowy="FA (2)"', "Naglowek/KodFormularza/@kodSystemowy"),
        (r"<P_16>2", "<P_16>1", "Fa/Adnotacje/P_16"),
    ],
)
def test_a_change_of_content_is_refused_and_shown(pattern: str, replacement: str, path: str) -> None:
    corrected = changed(pattern, replacement)
    found = compare(ORIGINAL, corrected)
    assert not found.allowed
    assert [one.path for one in found.content] == [path]
    [line] = found.told()
    assert line.startswith(f"{path}: było „")
    assert "”, jest „" in line


def test_even_an_amount_written_otherwise_is_a_change() -> None:
    assert paths(ORIGINAL, changed(r"(<P_15>[^<]*)", r"\g<1>0")) == ["Fa/P_15"]


def test_a_second_row_changed_is_named_by_its_place() -> None:
    corrected = changed(r"(</FaWiersz>.*?<P_8B>)[^<]*", r"\g<1>999")
    assert paths(ORIGINAL, corrected) == ["Fa/FaWiersz[2]/P_8B"]


def test_what_is_added_or_taken_away_is_told_alone() -> None:
    row = re.findall(r"<FaWiersz>.*?</FaWiersz>", ORIGINAL.decode(), flags=re.DOTALL)[-1]
    longer = ORIGINAL.replace(row.encode(), (row + row).encode())
    added = compare(ORIGINAL, longer)
    assert added.content
    assert all(line.startswith("Fa/FaWiersz[3]/") and ": dodano „" in line for line in added.told())
    assert all(": usunięto „" in line for line in compare(longer, ORIGINAL).told())
    flagged = changed(r"</Podmiot2>", "<JednostkaPodrzedna/></Podmiot2>")
    assert compare(ORIGINAL, flagged).told() == ["Podmiot2/JednostkaPodrzedna: dodano pustą wartość"]


def test_a_document_of_another_kind_is_a_change() -> None:
    other = ORIGINAL.replace(b"<Faktura", b"<Rachunek").replace(b"</Faktura", b"</Rachunek")
    assert compare(ORIGINAL, other).told() == ["(element główny): było „Faktura”, jest „Rachunek”"]


def test_the_same_file_needs_no_correction() -> None:
    found = compare(ORIGINAL, ORIGINAL)
    assert not found.allowed
    assert found.told() == ["Poprawiony plik jest taki sam jak odrzucony."]


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"to nie XML",
        ORIGINAL[: len(ORIGINAL) // 2],
        ORIGINAL[:-3],
        ORIGINAL + b"<Faktura/>",
        changed(r"<P_7>", "<P_7>&nbsp;"),
        changed(r"<Faktura", '<!DOCTYPE Faktura [<!ENTITY e "">]><Faktura'),
    ],
)
def test_a_damaged_correction_is_refused_even_when_the_rest_agrees(broken: bytes) -> None:
    found = compare(ORIGINAL, broken)
    assert not found.allowed
    assert found.obstacle


def test_a_broken_original_is_compared_by_what_can_be_read_of_it() -> None:
    with_a_bare_ampersand = changed(r"<P_7>[^<]*", "<P_7>Śruby & nakrętki")
    assert compare(with_a_bare_ampersand, changed(r"<P_7>[^<]*", "<P_7>Śruby &amp; nakrętki")).allowed
    assert not compare(with_a_bare_ampersand, ORIGINAL).allowed
    assert not compare(ORIGINAL[: len(ORIGINAL) // 2], ORIGINAL).allowed


def test_letters_already_garbled_when_the_customer_got_them_must_stay() -> None:
    garbled = changed(r"<P_7>[^<]*", "<P_7>Ĺ‚Ä…ka")
    assert not compare(garbled, changed(r"<P_7>[^<]*", "<P_7>łąka")).allowed
    assert compare(garbled, garbled + b"\n").allowed


def test_an_unreadable_original_cannot_be_compared() -> None:
    found = compare(b"\0", ORIGINAL)
    assert not found.allowed
    assert "nie da się odczytać" in found.told()[0]


def test_long_values_and_long_lists_are_cut_for_people() -> None:
    long = changed(r"<P_7>[^<]*", f"<P_7>{'x' * 500}")
    [line] = compare(ORIGINAL, long).told()
    assert len(line) < 250
    many, other = samples.invoice("FV/1/2026", lines=40), samples.invoice("FV/1/2026", lines=2)
    told = compare(many, other).told()
    assert len(told) == SHOWN_DIFFERENCES + 1
    assert told[-1] == f"… oraz dalsze różnice: {len(compare(many, other).content) - SHOWN_DIFFERENCES}"


def test_repr_holds_no_contents() -> None:
    found = compare(ORIGINAL, changed(r"<P_7>[^<]*", "<P_7>TAJNE"))
    assert "TAJNE" in found.told()[0]
    assert "TAJNE" not in repr(found)


@pytest.mark.parametrize("path", samples.sample_files(), ids=lambda path: path.stem[:40])
def test_every_real_invoice_agrees_with_itself_however_laid_out_and_with_no_changed_amount(path: Path) -> None:
    content = path.read_bytes()
    assert compare(content, re.sub(rb">\s+<", b">\n\n<", content) + b"\n").allowed
    amounts = list(re.finditer(rb">(\d+\.\d\d)<", content))
    for amount in amounts[:20]:
        wrong = content[: amount.start(1)] + b"987654.32" + content[amount.end(1) :]
        assert not compare(content, wrong).allowed
