"""Groups A and B: files that are no invoice, and XML that KSeF refuses before it looks inside."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ksefbuffer.invoice.findings import Finding, Severity
from ksefbuffer.invoice.precheck import CheckContext, Report, check, refusal_of_size
from tests.samples import NAMESPACE, NIP, NOW, invoice

CONTEXT = CheckContext(NIP, "test", NOW)
PROLOG = b'<?xml version="1.0" encoding="UTF-8"?>\n'
ROOT = f'<Faktura xmlns="{NAMESPACE}">'.encode()


def codes(report: Report) -> list[str]:
    return [finding.code for finding in report.findings]


def only(report: Report, code: str) -> Finding:
    assert codes(report) == [code], report.findings
    return report.findings[0]


def zipped(content: bytes) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as entries:
        entries.writestr("faktura.xml", content)
    return archive.getvalue()


def test_a_sound_invoice_passes_in_silence() -> None:
    report = check(invoice(), CONTEXT)
    assert report.ok
    assert report.findings == ()
    assert report.header.invoice_number == "FV/1/2026"


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (b"", "A05", "pusty"),
        (b" \r\n\t", "A05", "same odstępy"),
        (bytes(10_000), "A05", "zerowe"),
        (gzip.compress(invoice()), "B04", "archiwum GZIP"),
        (zipped(invoice()), "B04", "archiwum ZIP"),
        (zipped(bytes(50_000_000)), "B04", "archiwum ZIP"),
        (b"%PDF-1.7\n...", "B04", "dokument PDF"),
        (b"\x89PNG\r\n\x1a\n....", "B04", "obraz PNG"),
        (b"\n\n<!DOCTYPE html>\n<html><body>502</body></html>", "B04", "strona HTML"),
        (b"<HTML><body>Zaloguj</body></HTML>", "B04", "strona HTML"),
        (b'{"error": 1}', "B04", "plik JSON"),
        (invoice().decode().encode("utf-16"), "B02", "UTF-16"),
        (invoice().decode().encode("utf-16-be"), "B02", "UTF-16"),
        (invoice().decode().encode("utf-32"), "B02", "UTF-32"),
    ],
)
def test_what_is_no_xml_is_called_by_its_name(content: bytes, code: str, said: str) -> None:
    finding = only(check(content, CONTEXT), code)
    assert said in finding.message
    assert finding.hint
    assert finding.severity is Severity.BLOCK


def test_a_byte_order_mark_and_a_future_date_are_both_told() -> None:
    report = check(b"\xef\xbb\xbf" + invoice(issue_date=date(2026, 11, 21)), CONTEXT)
    assert [finding.code for finding in report.errors] == ["B01", "D04"]


def test_an_old_polish_encoding_is_recognised_and_the_rest_still_checked() -> None:
    future = invoice(issue_date=date(2026, 11, 21), seller_name="Sąsiad Łódź").decode()
    cp1250 = future.replace("UTF-8", "windows-1250").encode("cp1250", errors="replace")
    report = check(cp1250, CONTEXT)
    assert [finding.code for finding in report.errors] == ["B03", "B02", "D04"]
    assert report.header.seller_name == "Sąsiad Łódź"
    undeclared = check(future.encode("iso-8859-2", errors="replace"), CONTEXT)
    assert [finding.code for finding in undeclared.errors] == ["B02", "D04"]
    assert "Windows-1250" in check(future.encode("cp1250", errors="replace"), CONTEXT).errors[0].hint


def test_a_wrong_byte_is_told_with_its_line() -> None:
    finding = only(check(invoice().replace(b"ul. Fabryczna", b"ul. \xff"), CONTEXT), "B02")
    assert finding.line == 4


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b'"UTF-8"', b'"ISO-8859-2"', "ISO-8859-2"),
        (b'"UTF-8"', b'"UTF-7"', "UTF-7"),
        (b'version="1.0"', b'version="1.1"', "wersję 1.1"),
    ],
)
def test_a_prolog_that_says_something_else_is_refused(old: bytes, new: bytes, said: str) -> None:
    assert said in only(check(invoice().replace(old, new, 1), CONTEXT), "B03").message


def test_a_prolog_may_be_missing_or_written_small() -> None:
    assert check(invoice().replace(b'"UTF-8"', b"'utf-8'", 1), CONTEXT).findings == ()
    assert check(invoice().split(b"\n", 1)[1], CONTEXT).findings == ()


@pytest.mark.parametrize(
    ("broken", "line", "said"),
    [
        (lambda good: good[:-25], None, "nie jest poprawnym XML"),
        (lambda good: good[: len(good) // 2], None, "ucięty"),
        (lambda good: good.replace(b"ul. Fabryczna", b"A & B"), 4, "&amp;"),
        (lambda good: good.replace(b"ul. Fabryczna", b"ul.&nbsp;"), 4, "encja &nbsp;"),
        (lambda good: good.replace(b"ul. Fabryczna", b"a < b"), 4, "znak <"),
        (lambda good: good.replace(b"ul. Fabryczna", b"a\x01b"), 4, "U+0001"),
        (lambda good: good.replace(b"ul. Fabryczna", b"a&#2;b"), 4, "U+0002"),
        (lambda good: good.replace(b"ul. Fabryczna", b"a\0b"), 4, "U+0000"),
        (lambda good: good.replace(b"</Podmiot1>", b"</Podmiot2>"), None, "Podmiot1"),
        (lambda good: good + good, 20, "za końcem faktury"),
        (lambda good: good + b"x", None, "za końcem faktury"),
        (lambda good: b"\n" + good, 2, "przed prologiem"),
    ],
)
def test_broken_xml_is_explained(broken: Callable[[bytes], bytes], line: int | None, said: str) -> None:
    content = broken(invoice(lines=1, seed=1))
    report = check(content, CONTEXT)
    assert {finding.code for finding in report.errors} == {"B04"}
    assert any(said in finding.message + finding.hint for finding in report.errors), report.findings
    if line is not None and line != 20:
        assert report.errors[0].line == line


def test_two_faults_of_syntax_are_both_told() -> None:
    content = invoice(lines=2, seed=1).replace(b"ul. Fabryczna", b"A & B").replace(b"<P_15>", b"<P_15>&nic;")
    assert codes(check(content, CONTEXT)) == ["B04", "B04"]


BOMB = (
    PROLOG
    + b'<!DOCTYPE lolz [<!ENTITY a0 "lol">'
    + b"".join(b'<!ENTITY a%d "%s">' % (level, b"&a%d;" % (level - 1) * 10) for level in range(1, 10))
    + b"]>"
    + ROOT
    + b"&a9;</Faktura>"
)


@pytest.mark.parametrize(
    "content",
    [
        BOMB,
        PROLOG + b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + ROOT + b"&x;</Faktura>",
        PROLOG + b'<!DOCTYPE Faktura SYSTEM "http://127.0.0.1:9/x.dtd">' + ROOT + b"</Faktura>",
        PROLOG + b"<!-- x --><?a b?>\n<!DOCTYPE Faktura>" + ROOT + b"</Faktura>",
        PROLOG + b'<!DOCTYPE a [<!ENTITY a "' + b"a" * 50_000 + b'">]>' + ROOT + b"&a;" * 50_000 + b"</Faktura>",
        b"<!DOCTYPE Faktura [<!ATTLIST Faktura x CDATA 'y'>]>" + invoice().split(b"\n", 1)[1],
    ],
)
def test_a_dtd_is_refused_before_anything_is_expanded(content: bytes) -> None:
    report = check(content, CONTEXT)
    assert codes(report) == ["B05"]
    assert report.header.form is None


def test_the_word_doctype_inside_a_comment_or_a_text_is_harmless() -> None:
    assert check(invoice().replace(b"<Naglowek>", b"<!-- <!DOCTYPE a> --><Naglowek>"), CONTEXT).findings == ()
    assert check(invoice().replace(b"Fabryczna", b"<![CDATA[<!DOCTYPE a>]]>"), CONTEXT).findings == ()


def test_nothing_outside_the_file_is_read() -> None:
    include = b'<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="file:///etc/passwd" parse="text"/>'
    report = check(invoice().replace(b"ul. Fabryczna 12", include), CONTEXT)
    assert codes(report) == ["C03"]
    location = (
        b'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="%s http://127.0.0.1:9/x" xmlns='
    )
    elsewhere = invoice().replace(b"xmlns=", location % NAMESPACE.encode(), 1)
    assert check(elsewhere, CONTEXT).findings == ()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (PROLOG + ROOT + b"<a>" * 150 + b"</a>" * 150 + b"</Faktura>", "B05"),
        (PROLOG + ROOT + b"<a>" * 200_000 + b"</a>" * 200_000 + b"</Faktura>", "B04"),
        (PROLOG + ROOT + b"<Podmiot3>" * 150 + b"</Podmiot3>" * 150 + b"</Faktura>", "B05"),
        (PROLOG + ROOT[:-1] + b" " + b" ".join(b'a%d="1"' % i for i in range(80_000)) + b"/>", "B05"),
        (PROLOG + b"<" + b"a" * 900_000 + b"/>", "B04"),
        (PROLOG + ROOT + b"x" * 900_000 + b"</Faktura>", "C03"),
        (PROLOG + ROOT + b"<a/>" * 200_000 + b"</Faktura>", "C03"),
        (PROLOG + b"<" * 900_000, "B04"),
        (PROLOG + b"<!--" * 200_000, "B04"),
        (PROLOG + ROOT + b"&" * 900_000, "B04"),
        (PROLOG + b"<?a b?>" * 100_000 + ROOT + b"</Faktura>", "B06"),
    ],
)
def test_monsters_get_a_short_answer(content: bytes, code: str) -> None:
    report = check(content, CONTEXT)
    assert code in {finding.code for finding in report.errors}
    assert len(report.findings) <= 120
    assert all(len(finding.message) < 500 for finding in report.findings)


def test_a_hundred_megabytes_are_refused_unread() -> None:
    assert codes(check(bytes(100_000_000), CONTEXT)) == ["A06"]
    too_big = refusal_of_size(3_000_001, CONTEXT)
    assert too_big is not None
    assert too_big.code == "A06"
    assert refusal_of_size(3_000_000, CONTEXT) is None


def test_the_limit_is_a_million_bytes_and_three_with_an_attachment() -> None:
    def of_size(content: bytes, size: int) -> bytes:
        # Whitespace after the root changes nothing but the size.
        return content + b" " * (size - len(content))

    assert check(of_size(invoice(), 1_000_000), CONTEXT).findings == ()
    assert codes(check(of_size(invoice(), 1_000_001), CONTEXT)) == ["A06"]
    correction = CheckContext(NIP, "test", NOW, correction=True)
    assert check(of_size(invoice(attachment=True), 3_000_000), correction).findings == ()
    assert codes(check(of_size(invoice(attachment=True), 3_000_001), correction)) == ["A06"]


@pytest.mark.parametrize(
    ("content", "target"),
    [
        (invoice().replace(b"<Faktura", b"<?xml-stylesheet href='a.xsl'?>\n<Faktura", 1), "xml-stylesheet"),
        (invoice().replace(b"<Naglowek>", b"<?druk nie?><Naglowek>", 1), "druk"),
        (invoice() + b"<?koniec?>", "koniec"),
    ],
)
def test_a_processing_instruction_is_refused_wherever_it_is(content: bytes, target: str) -> None:
    assert f"<?{target}?>" in only(check(content, CONTEXT), "B06").message


def test_what_only_looks_like_an_instruction_is_fine() -> None:
    assert check(invoice().replace(b"Fabryczna", b"<![CDATA[<?a b?>]]>"), CONTEXT).findings == ()
    assert check(invoice(footer="Czy wszystko jasne??? Pytania?"), CONTEXT).findings == ()


@pytest.mark.parametrize(
    "written", ["\x7f", "\x80", "\x84", "\x86", "\x9f", "\ufdd0", "\ufdef", "\U0001fffe", "\U0010ffff"]
)
@pytest.mark.parametrize("spelled", [str, lambda sign: f"&#{ord(sign)};", lambda sign: f"&#x{ord(sign):X};"])
def test_discouraged_characters_are_refused_however_spelled(written: str, spelled: Callable[[str], Any]) -> None:
    content = invoice().replace(b"Fabryczna", spelled(written).encode())
    finding = only(check(content, CONTEXT), "B07")
    assert f"U+{ord(written):04X}" in finding.message
    assert (finding.field, finding.line) == ("Podmiot1/Adres/AdresL1", 4)


def test_discouraged_characters_in_comments_count_too() -> None:
    finding = only(check(invoice().replace(b"<Fa>", b"<Fa><!-- \x7f -->"), CONTEXT), "B07")
    assert finding.field == "Fa (komentarz)"
    outside = only(check(invoice() + "<!-- \x80 -->".encode(), CONTEXT), "B07")
    assert outside.field is not None


def test_discouraged_characters_in_attributes_count_too() -> None:
    content = invoice(attachment=True).replace(b"<BlokDanych>", '<BlokDanych a="\x86">'.encode())
    fields = [found.field for found in check(content, CONTEXT).findings if found.code == "B07"]
    assert fields == ["Zalacznik/BlokDanych/@a"]


@pytest.mark.parametrize("sign", ["\x85", "\u00a0", "\ufdcf", "\U0001f600", "\u200b"])
def test_odd_but_allowed_characters_pass(sign: str) -> None:
    assert check(invoice(footer=f"a{sign}b"), CONTEXT).findings == ()


@pytest.mark.parametrize("text", ["DÄ™bem", "Ĺ‚Ăłdka", "Å‚Ã³dka", "Zak\ufffdad"])
def test_mojibake_is_a_warning(text: str) -> None:
    report = check(invoice(seller_name=text), CONTEXT)
    assert codes(report) == ["B08"]
    assert report.ok
    assert report.findings[0].field == "Podmiot1/DaneIdentyfikacyjne/Nazwa"


@pytest.mark.parametrize("text", ["Zażółć gęślą jaźń", "Ångström Ä Ö Ü ß é", "Ćma № 5 „x” – …", "ŁÓDŹ"])
def test_good_letters_are_no_mojibake(text: str) -> None:
    assert check(invoice(seller_name=text), CONTEXT).findings == ()


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.binary(max_size=60), st.integers(0, 2400), st.integers(0, 60), st.booleans())
def test_no_bytes_make_the_check_raise(junk: bytes, at: int, removed: int, alone: bool) -> None:
    content = invoice(lines=2)
    report = check(junk if alone else content[:at] + junk + content[at + removed :], CONTEXT)
    assert all(found.message and found.code for found in report.findings)
    assert alone is False or not report.ok


def test_a_report_does_not_show_the_invoice_in_logs() -> None:
    shown = repr(check(invoice("TAJNE/1", nip="1111111111"), CONTEXT))
    assert shown == "Report(block:D01×1)"
