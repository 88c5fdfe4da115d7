"""Every bad file of the list: a clear Polish answer in the outbox, the file in ``rejected``, the daemon unharmed."""

from __future__ import annotations

import io
import zipfile
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ksefbuffer.erp.submit import Offer, Options, Source, submit
from ksefbuffer.invoice.precheck import CheckContext
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.states import State
from tests.conftest import Shop
from tests.samples import ISSUE_DATE, NAMESPACE, NIP, NOW, a_nip, invoice, sample_files

GOOD = invoice()
POLISH = "ąćęłńóśźżĄĆĘŁŃÓŚŹŻ"


def a_zip() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", b"\0" * 5_000_000)
    return packed.getvalue()


def with_doctype(doctype: str, text: str = "") -> bytes:
    head, _, rest = GOOD.partition(b"?>\n")
    return head + b"?>\n" + doctype.encode() + rest.replace(b"<P_2>FV/1/2026", b"<P_2>" + text.encode())


def laughs() -> bytes:
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    return with_doctype(f'<!DOCTYPE Faktura [<!ENTITY l0 "ha">{entities}]>', "&l9;")


def padded(size: int) -> bytes:
    return GOOD.replace(b"</Faktura>", b"<!-- " + b"x" * (size - len(GOOD) - 9) + b" --></Faktura>")


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "A05"),
    "only spaces": (b" \n\t ", "A05"),
    "only zeros": (b"\0" * 4096, "A05"),
    "cut in the middle": (GOOD[: len(GOOD) // 2], "B04"),
    "cut before the last bracket": (GOOD.rstrip()[:-1], "B04"),
    "not XML": (b"Faktura nr 1, do zaplaty 100 zl", "B04"),
    "two roots": (GOOD + b"<a></a>", "B04"),
    "a byte order mark": (b"\xef\xbb\xbf" + GOOD, "B01"),
    "UTF-16": (GOOD.decode().replace("UTF-8", "UTF-16").encode("utf-16"), "B02"),
    "UTF-16 without a mark": (GOOD.decode().encode("utf-16-le"), "B02"),
    "Windows-1250 that says UTF-8": (GOOD.decode().encode("cp1250", "xmlcharrefreplace"), "B02"),
    "a prolog of another encoding": (GOOD.replace(b"UTF-8", b"ISO-8859-2"), "B03"),
    "version 1.1": (GOOD.replace(b'version="1.0"', b'version="1.1"'), "B03"),
    "a processing instruction": (GOOD.replace(b"<Naglowek>", b"<?drukuj teraz?><Naglowek>"), "B06"),
    "a forbidden character": (GOOD.replace(b"FV/1/2026", "FV/1\u0082".encode()), "B07"),
    "a forbidden character by reference": (GOOD.replace(b"FV/1/2026", b"FV/1&#x7F;"), "B07"),
    "a DTD": (with_doctype("<!DOCTYPE Faktura>"), "B05"),
    "an external entity": (with_doctype('<!DOCTYPE Faktura [<!ENTITY x SYSTEM "file:///etc/passwd">]>', "&x;"), "B05"),
    "an external DTD": (with_doctype('<!DOCTYPE Faktura SYSTEM "http://127.0.0.1:1/x.dtd">'), "B05"),
    "billion laughs": (laughs(), "B05"),
    "no namespace": (GOOD.replace(NAMESPACE.encode(), b""), "C01"),
    "a wrong namespace": (GOOD.replace(NAMESPACE.encode(), b"http://example.pl/faktura/"), "C01"),
    "FA(2)": (
        GOOD.replace(NAMESPACE.encode(), b"http://crd.gov.pl/wzor/2023/06/29/12648/").replace(b"FA (3)", b"FA (2)"),
        "C01",
    ),
    "a wrong form code": (GOOD.replace(b"FA (3)", b"FA(3)"), "C02"),
    "not by the schema": (GOOD.replace(b"<KodWaluty>PLN</KodWaluty>", b""), "C03"),
    "a wrong amount": (GOOD.replace(b"<P_15>", b"<P_15>x"), "C03"),
    "deeper than deep": (GOOD.replace(b"</Fa>", b"<a>" * 150 + b"</a>" * 150 + b"</Fa>"), "B05"),
    "another seller": (invoice(nip=a_nip(5)), "D01"),
    "a wrong checksum of a NIP": (invoice(buyer_nip="1234567890"), "D02"),
    "issued tomorrow": (invoice(issue_date=ISSUE_DATE + timedelta(days=1)), "D04"),
    "with an attachment": (invoice(attachment=True), "D06"),
    "self-invoicing": (invoice(self_invoicing=True), "D07"),
    "over 1 MB": (padded(1_000_001), "A06"),
    "over 3 MB": (padded(3_000_001), "A06"),
    "a web page": (b"<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1></body></html>", "B04"),
    "a PDF": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj", "B04"),
    "a number longer than any": (GOOD.replace(b"FV/1/2026", "Ż".encode() * 20_000), "C03"),
    "a seller's NIP longer than any": (GOOD.replace(NIP.encode(), NIP.encode() * 10), "C03"),
    "a kind longer than any": (GOOD.replace(b">VAT<", b">" + b"VAT" * 1000 + b"<"), "C03"),
    "a ZIP": (a_zip(), "B04"),
    "a certificate": (b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", "B04"),
    "comments without end": (b"<a></a>" + b"<!---->" * 500 + b"x", "B04"),
}


def test_every_bad_file_is_answered_in_polish_and_put_aside(shop: Shop) -> None:
    for name, (content, _) in BAD.items():
        (shop.inbox / f"{name}.xml").write_bytes(content)
    (shop.inbox / "dobra.xml").write_bytes(GOOD)
    shop.work()

    assert list(shop.inbox.iterdir()) == []
    rejected = {path.name: path.read_bytes() for path in shop.config.inbox.rejected.glob("*/*")}
    assert rejected == {f"{name}.xml": content for name, (content, _) in BAD.items()}
    for name, (_, code) in BAD.items():
        answer = shop.answer(name)
        codes = [error["code"] for error in answer["errors"]]
        assert code in codes, f"{name}: {codes}"
        assert (answer["status"], answer["status_pl"], answer["ksef_number"]) == ("error", "błąd", None)
        assert answer["source"] == f"{name}.xml"
        for error in answer["errors"]:
            assert error["source"] == "precheck"
            assert error["message"].strip()
            assert set(error) == {"code", "source", "message", "hint", "line", "field", "details"}
    assert shop.answer("dobra")["status"] == "sent"
    assert len(shop.sandbox.invoices()) == 1
    messages = " ".join(e["message"] + e["hint"] for name in BAD for e in shop.answer(name)["errors"])
    assert sum(messages.count(letter) for letter in POLISH) > 50
    # What an entity points to is nowhere.
    assert "root:" not in messages


def test_all_findings_are_told_not_only_the_first(shop: Shop) -> None:
    bad = invoice(nip=a_nip(5), issue_date=ISSUE_DATE + timedelta(days=1), buyer_nip="1234567890")
    (shop.inbox / "a.xml").write_bytes(bad)
    shop.work()

    errors = shop.answer("a")["errors"]
    assert {"D01", "D02", "D04"} <= {error["code"] for error in errors}
    assert all(error["line"] for error in errors if error["code"] in ("D01", "D02", "D04"))


def test_a_file_of_exactly_one_megabyte_goes(shop: Shop) -> None:
    (shop.inbox / "a.xml").write_bytes(padded(1_000_000))
    shop.work()

    assert shop.answer("a")["status"] == "sent"
    assert shop.answer("a")["size"] == 1_000_000


def test_broken_real_samples_are_refused(shop: Shop) -> None:
    broken = sample_files(valid=False)
    if not broken:
        pytest.skip("the real samples are not beside this checkout")
    for path in broken:
        (shop.inbox / path.name).write_bytes(path.read_bytes())
    shop.work(300)

    for path in broken:
        answer = shop.answer(path.name[:-4])
        assert answer["status"] == "error", path.name
        assert answer["errors"], path.name
    assert shop.sandbox.invoices() == []


CONTEXT = CheckContext(nip=NIP, environment="sandbox", now=NOW)


def mutated(start: int, length: int, put: bytes) -> bytes:
    start %= len(GOOD)
    return GOOD[:start] + put + GOOD[start + length :]


oddities = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [b"&#0;", b"&#xFFFF;", b"\0", b"\xed\xa0\x80", b"<![CDATA[", b"]]>", b"<!--", b"-->", b"&x;", b"<?"]
    ),
    st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass")),
)


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.builds(mutated, st.integers(0, 10_000), st.integers(0, 60), oddities))
def test_whatever_comes_the_door_stores_it_with_an_answer(database: Database, content: bytes) -> None:
    taken = submit(database, Offer(content, Source("folder", "a.xml", "a"), Options()), CONTEXT, actor="test")

    assert taken.document.size == len(content)
    assert (taken.document.state is State.ERROR) == bool(taken.document.errors)


def test_half_a_surrogate_pair_by_reference_is_answered(sqlite_database: Database) -> None:
    content = mutated(55, 0, b"&#xD800;")
    taken = submit(sqlite_database, Offer(content, Source("folder", "a.xml", "a"), Options()), CONTEXT, actor="test")
    assert taken.document.state is State.ERROR


def test_the_ends_of_long_fields_are_cut_where_they_are_shown_only(database: Database) -> None:
    for name in ("a number longer than any", "a seller's NIP longer than any", "a kind longer than any"):
        offer = Offer(BAD[name][0], Source("folder", f"{name}.xml", name), Options())
        document = submit(database, offer, CONTEXT, actor="test").document
        assert document.state is State.ERROR
        assert len(document.invoice_number or "") <= 256


def test_a_fault_of_the_database_never_tells_what_was_to_be_stored(database: Database, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="arrivals") as fault:
        submit(database, Offer(GOOD, Source("smoke signals", "tajne.xml", "tajne"), Options()), CONTEXT, actor="test")
    assert "FV/1/2026" not in str(fault.value)
    assert "tajne" not in str(fault.value)
