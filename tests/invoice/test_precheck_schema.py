"""Group C: the form, its code and the XSD, explained so that a person can mend the invoice."""

from __future__ import annotations

import subprocess
import sys
import threading
from decimal import Decimal
from pathlib import Path

import pytest

from ksefbuffer.errors import ConfigurationFault
from ksefbuffer.invoice import schema
from ksefbuffer.invoice.findings import Finding, Severity
from ksefbuffer.invoice.precheck import CheckContext, check
from tests.samples import NIP, NOW, Line, invoice, sample_files

CONTEXT = CheckContext(NIP, "test", NOW)


def errors(content: bytes, context: CheckContext = CONTEXT) -> list[Finding]:
    return list(check(content, context).errors)


def swapped(old: str, new: str, content: bytes | None = None) -> bytes:
    content = content or invoice(lines=2, seed=4)
    assert old.encode() in content
    return content.replace(old.encode(), new.encode(), 1)


@pytest.mark.parametrize(
    ("old", "new", "field", "said"),
    [
        ("<P_2>FV/1/2026</P_2>", "<P_2></P_2>", "Fa/P_2", "pole „P_2” jest puste"),
        ("<KodWaluty>PLN", "<KodWaluty>ZŁO", "Fa/KodWaluty", "spoza listy dozwolonych"),
        ("<P_18>2", "<P_18>3", "Fa/Adnotacje/P_18", "spoza listy dozwolonych"),
        ("<P_2>FV/1/2026</P_2>", f"<P_2>{'x' * 257}</P_2>", "Fa/P_2", "ma 257 znaków, dozwolone najwyżej 256"),
        ("<P_1>2026-11-20", "<P_1>20.11.2026", "Fa/P_1", "niewłaściwą postać"),
        ("<P_1>2026-11-20", "<P_1>2026-02-30", "Fa/P_1", "niewłaściwą postać"),
        ("<P_1>2026-11-20", "<P_1>2005-11-20", "Fa/P_1", "mniejsza od dozwolonej (2006-01-01)"),
        ("<P_8B>", "<P_8B>0", "Fa/FaWiersz[1]/P_8B", "niewłaściwą postać"),
        ("<NIP>5265877635", "<NIP>526-587-76-35", "Podmiot1/DaneIdentyfikacyjne/NIP", "niewłaściwą postać"),
        ("<JST>2</JST>", "", "Podmiot2/GV", "brakuje wymaganego pola: JST"),
        ("<P_6>2026-11-20</P_6>", "<P_66>2026</P_66>", "Fa/P_66", "nieznane pole „P_66”"),
        ("<P_16>2</P_16><P_17>2</P_17>", "<P_17>2</P_17><P_16>2</P_16>", "Fa/Adnotacje/P_17", "oczekiwano: P_16"),
        ("<RodzajFaktury>VAT</RodzajFaktury>", "", "Fa/FaWiersz[1]", "brakuje wymaganego pola: RodzajFaktury"),
        ("<JST>", "<JST a='1'>", "Podmiot2/JST", "niedozwolony atrybut „a”"),
        ("<JST>2</JST>", "<JST><a/>2</JST>", "Podmiot2/JST", "są w nim elementy"),
        ("<Fa>", "<Fa>tekst", "Fa", "jest w nim zwykły tekst"),
        ("<P_23>2</P_23>", "", "Fa/Adnotacje/PMarzy", "brakuje wymaganego pola: P_23"),
    ],
)
def test_one_fault_is_one_finding_with_its_place(old: str, new: str, field: str, said: str) -> None:
    found = [error for error in errors(swapped(old, new)) if error.code == "C03"]
    assert len(found) == 1, found
    assert found[0].field == field
    assert said in found[0].message
    assert found[0].line
    assert found[0].hint
    assert "{http" not in found[0].message


def test_the_hint_says_how_to_write_it() -> None:
    def hint(old: str, new: str) -> str:
        return errors(swapped(old, new))[0].hint

    assert "przecinka użyj kropki" in hint("<P_15>", "<P_15>1,5 ")
    assert "RRRR-MM-DD" in hint("<P_1>2026-11-20", "<P_1>20.11.2026")
    assert "10 cyfr" in hint("<NIP>5265877635", "<NIP>PL5265877635")
    assert "P_6" in hint("<P_6>2026-11-20</P_6>", "<P_6x>FV</P_6x>")
    assert "8 cyfr" in hint("<P_9A>", "<P_9A>+")
    assert "liczbę całkowitą" in hint("<NrWierszaFa>1", "<NrWierszaFa>1a")
    assert "Dozwolone: 1, 2." in hint("<P_18>2", "<P_18>3")


def test_all_faults_are_told_not_only_the_first() -> None:
    content = swapped("<P_2>FV/1/2026</P_2>", "<P_2/>", swapped("<P_18>2", "<P_18>3"))
    content = swapped("<NIP>5265877635", "<NIP>5265877636", content)
    assert [error.code for error in errors(content)] == ["C03", "C03", "D01", "D02"]


def test_a_missing_field_is_named_even_when_libxml2_does_not_list_it() -> None:
    content = invoice()
    start, end = content.index(b"<P_15>"), content.index(b"</P_15>") + len(b"</P_15>")
    (error,) = errors(content[:start] + content[end:])
    assert "brakuje wymaganego pola: P_15" in error.message


def test_of_very_many_faults_some_are_told_and_the_rest_counted() -> None:
    rows = invoice(lines=400, seed=2).replace(b"<P_12>", b"<P_12>x")
    found = errors(rows)
    assert 20 <= len(found) <= 60
    assert "jeszcze" in found[-1].message


def test_a_schema_error_stops_the_questions_of_law_but_not_those_of_ksef() -> None:
    content = swapped("<P_18>2", "<P_18>3", invoice("FV\u200b1", buyer_nip=NIP))
    assert {finding.code for finding in check(content, CONTEXT).findings} == {"C03"}


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('kodSystemowy="FA (3)"', 'kodSystemowy="FA(3)"', "Naglowek/KodFormularza/@kodSystemowy"),
        ('wersjaSchemy="1-0E"', 'wersjaSchemy="1-1E"', "Naglowek/KodFormularza/@wersjaSchemy"),
        (' kodSystemowy="FA (3)"', "", "Naglowek/KodFormularza/@kodSystemowy"),
    ],
)
def test_a_wrong_form_code_is_told_once(old: str, new: str, field: str) -> None:
    (error,) = errors(swapped(old, new))
    assert (error.code, error.field) == ("C02", field)


def test_an_invoice_without_the_namespace_is_told_what_is_missing() -> None:
    content = invoice().replace(b' xmlns="http://crd.gov.pl/wzor/2025/06/25/13775/"', b"")
    (error,) = errors(content)
    assert error.code == "C01"
    assert "bez przestrzeni nazw" in error.message
    assert "http://crd.gov.pl/wzor/2025/06/25/13775/" in error.hint


def test_another_document_is_refused_by_its_root() -> None:
    (error,) = errors(b"<?xml version='1.0'?><JPK xmlns='http://jpk.mf.gov.pl/'/>")
    assert error.code == "C01"
    assert "JPK" in error.message


@pytest.mark.parametrize("form", ["FA(2)", "FA_RR(1)", "PEF(3)"])
def test_other_forms_are_refused_by_name(form: str) -> None:
    files = sample_files(form)
    if not files:
        pytest.skip("../shared/ksef/invoices is not here")
    for file in files:
        found = [error for error in errors(file.read_bytes()) if error.code == "C01"]
        assert len(found) == 1
        assert form in found[0].message


def test_fa2_is_no_longer_taken_outside_the_test_environment() -> None:
    old = invoice().replace(b"2025/06/25/13775", b"2023/06/29/12648")
    assert "D10" not in [error.code for error in errors(old)]
    for environment in ("demo", "production"):
        assert "D10" in [error.code for error in errors(old, CheckContext(NIP, environment, NOW))]


def test_spaces_that_xsd_forgives_in_a_code_are_a_warning() -> None:
    report = check(swapped("<P_12>23", "<P_12> 23", invoice(lines=[Line("a", "szt", Decimal(1), Decimal(2))])), CONTEXT)
    assert [(found.code, found.severity, found.field) for found in report.findings] == [
        ("C04", Severity.WARN, "Fa/FaWiersz/P_12")
    ]


def test_every_thread_gets_its_own_errors() -> None:
    """A schema shared by threads mixes up their error logs: two documents, each wrong in its own way, at once."""
    first, second = swapped("<P_18>2", "<P_18>3"), swapped("<P_16>2", "<P_16>3")
    wrong: list[str] = []

    def repeat(content: bytes, field: str) -> None:
        for _ in range(150):
            found = [error.field for error in errors(content)]
            if found != [field]:
                wrong.append(str(found))

    threads = [
        threading.Thread(target=repeat, args=arguments)
        for arguments in ((first, "Fa/Adnotacje/P_18"), (second, "Fa/Adnotacje/P_16")) * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


INTERRUPTED_LOADING = """
import io, threading
from lxml import etree
from ksefbuffer.invoice import schema

begun, may_end, loaded = threading.Event(), threading.Event(), []

class SlowFile(io.RawIOBase):
    parts = [b"<a>" + b" " * 40_000, b"</a>"]

    def read(self, size=-1):
        if len(self.parts) == 1:
            begun.set()
            assert may_end.wait(30)
        return self.parts.pop(0) if self.parts else b""

other = threading.Thread(target=etree.parse, args=(SlowFile(),))
other.start()
assert begun.wait(30)
resolve = schema._Folder.resolve

def interrupted(self, url, public_id, context=None):
    loaded.append(url.rpartition("/")[2])
    may_end.set()
    other.join()
    return resolve(self, url, public_id, context)

schema._Folder.resolve = interrupted
assert schema._compile(schema._files(None)).names
print(loaded.count("StrukturyDanych_v10-0E.xsd"))
"""


def test_a_schema_loads_although_another_thread_ends_a_parse() -> None:
    """lxml's resolver is lost when a parse that began earlier ends in another thread in the midst of the loading; a
    fresh process, because lxml forgets to lose it once such a thing has happened."""
    run = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_LOADING], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "2", "the loading was not interrupted"


def test_a_folder_of_schemas_can_be_named(tmp_path: Path) -> None:
    for name, content in schema._files(None).items():
        (tmp_path / name).write_bytes(content.replace(b"\r\n", b"\n") + b"\n")
    context = CheckContext(NIP, "test", NOW, xsd_dir=tmp_path)
    assert check(invoice(), context).ok
    assert not check(swapped("<P_18>2", "<P_18>3"), context).ok


def test_a_missing_or_broken_schema_is_a_fault_of_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationFault):
        check(invoice(), CheckContext(NIP, "test", NOW, xsd_dir=tmp_path))
    for name in schema._files(None):
        (tmp_path / name).write_bytes(b"<a>")
    with pytest.raises(ConfigurationFault):
        check(invoice(), CheckContext(NIP, "test", NOW, xsd_dir=tmp_path))


def test_a_changed_schema_of_the_package_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "_schemas", schema._Schemas())
    monkeypatch.setitem(schema._SHA256, "KodyKrajow_v10-0E.xsd", "0" * 64)
    with pytest.raises(ConfigurationFault, match="KodyKrajow"):
        check(invoice(), CONTEXT)


def test_a_schema_that_asks_for_another_file_is_refused(tmp_path: Path) -> None:
    for name, content in schema._files(None).items():
        (tmp_path / name).write_bytes(content.replace(b"StrukturyDanych_v10-0E", b"Inne_v10-0E"))
    with pytest.raises(ConfigurationFault):
        check(invoice(), CheckContext(NIP, "test", NOW, xsd_dir=tmp_path))
