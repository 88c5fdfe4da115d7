"""Names of files and folders: safe on any share, unique by the KSeF number, never out of the folder."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ksefbuffer.queue.db import Database
from ksefbuffer.receiver.filenames import file_stem, folder_parts
from ksefbuffer.receiver.filing import Filing
from tests.receiver.stored import again, content_of, put, tree
from tests.samples import NOW

NUMBER = "5265877635-20261120-0100001AF629-AF"
DAY = date(2026, 11, 20)
RESERVED = re.compile(r"(?is)(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]) *(\..*)?")

nasty = st.one_of(
    st.text(max_size=400),
    st.text(st.sampled_from('./\\ :*?"<>|\0\n\t\u202e\u200bąŻ𐍈CON%$~'), max_size=400),
    st.sampled_from(
        [
            "..",
            "../..",
            "/",
            "//etc/passwd",
            "CON",
            "nul.txt",
            "COM1 .a",
            "lpt²",
            "a.",
            " ",
            "x" * 300,
            "ż" * 300,
            ".ukryty",
        ]
    ),
)
nips = st.one_of(st.sampled_from(["1111111111", "", "DE 1/2"]), nasty)
days = st.one_of(st.none(), st.dates())


def is_safe(name: str) -> bool:
    return (
        0 < len(name.encode()) <= 255
        and not re.search(r'[\x00-\x1f\x7f/\\:*?"<>|]', name)
        and name.strip(" .") == name
        and not RESERVED.fullmatch(name)
        and len(PurePosixPath(name).parts) == len(PureWindowsPath(name).parts) == 1
    )


@given(nasty)
def test_any_folder_becomes_safe_ones_below(folder: str) -> None:
    parts = folder_parts(folder)
    assert parts
    assert all(map(is_safe, parts))


@given(days, nips, nasty)
def test_any_invoice_gets_a_safe_name_with_its_whole_ksef_number(day: date | None, nip: str, number: str) -> None:
    stem = file_stem(day, nip, number, NUMBER)
    for ending in (".xml", ".pdf", ".999.xml"):
        assert is_safe(stem + ending)
    assert stem.endswith(f"_{NUMBER}")


@given(days, nips, nasty, nasty)
def test_invoices_that_differ_in_the_ksef_number_differ_in_the_name(
    day: date | None, nip: str, number: str, other: str
) -> None:
    assert file_stem(day, nip, number, NUMBER) != file_stem(day, nip, other, NUMBER[:-1] + "0")


@given(nasty)
def test_any_ksef_number_is_safe_in_a_name(number: str) -> None:
    assert is_safe(file_stem(DAY, "1111111111", "x" * 300, number) + ".xml")


@pytest.mark.parametrize(
    ("day", "nip", "number", "stem"),
    [
        (DAY, "1111111111", "FV/1/2026", f"2026-11-20_1111111111_FV_1_2026_{NUMBER}"),
        (DAY, "1111111111", "Zażółć 7", f"2026-11-20_1111111111_Zażółć 7_{NUMBER}"),
        (None, "", "", f"bez-daty_bez-nip_bez-numeru_{NUMBER}"),
        (DAY, "1111111111", "../../x", f"2026-11-20_1111111111__.._x_{NUMBER}"),
    ],
)
def test_the_name_is_that_of_the_contract(day: date | None, nip: str, number: str, stem: str) -> None:
    assert file_stem(day, nip, number, NUMBER) == stem


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(folder=nasty, nip=st.text(max_size=16), number=nasty)
def test_nothing_is_written_outside_whatever_an_invoice_says(
    sqlite_database: Database, tmp_path: Path, folder: str, nip: str, number: str
) -> None:
    root = tmp_path / "sprawdzane" / "incoming"
    before = set(tree(root)) if root.exists() else set()
    one = put(sqlite_database, folder, seller_nip=nip, invoice_number=number)

    assert Filing(sqlite_database, root, lambda _: None).step(NOW)

    filed = again(sqlite_database, one)
    assert filed.file_error is None
    assert set(tree(root)) - before == {filed.path}
    assert (root / str(filed.path)).read_bytes() == content_of(sqlite_database, one)
    assert [path.name for path in root.parent.iterdir()] == ["incoming"]
