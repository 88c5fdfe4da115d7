"""Packages made by the standard library, whole and spoilt, read by ours."""

from __future__ import annotations

import contextlib
import gc
import gzip
import io
import json
import random
import struct
import tarfile
import tempfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ksefbuffer.ksef import archives, unpacking
from ksefbuffer.ksef.archives import Package, Wrong, WrongBytes, open_package
from tests.ksef.fake_export import archive_of, content_of, listing, number, record

NUMBERS = range(30)
INVOICES = {number(n): content_of(n) for n in NUMBERS}
METADATA = ("_metadata.json", listing([record(n) for n in NUMBERS]))
FILES = [(f"{name}.xml", content) for name, content in INVOICES.items()]
FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
BOTH = pytest.mark.parametrize("compression", ["TarGz", "Zip"])


def opened(folder: Path, archive: bytes, compression: str, *cuts: int) -> Package:
    paths = []
    for n, (start, end) in enumerate(zip((0, *cuts), (*cuts, len(archive)), strict=True)):
        paths.append(folder / f"part-{n:03d}")
        paths[-1].write_bytes(archive[start:end])
    return open_package(paths, compression)


def read(folder: Path, archive: bytes, compression: str) -> dict[str, bytes]:
    package = opened(folder, archive, compression)
    found = list(package.invoices())
    assert len(found) == len(dict(found))
    return dict(found)


def tarred(*members: tuple[tarfile.TarInfo, bytes], tar_format: int = tarfile.PAX_FORMAT) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz", format=tar_format) as made:
        for info, content in members:
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return whole.getvalue()


def plain_tar(files: list[tuple[str, bytes]] = FILES) -> bytes:
    return gzip.decompress(archive_of(files))


# --- whole ones


@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.parametrize(("compression", "tar_format"), [*(("TarGz", form) for form in FORMATS), ("Zip", 0)])
@pytest.mark.parametrize("told", [True, False])
def test_every_invoice_comes_once_wherever_the_metadata_is(
    tmp_path: Path, compression: str, tar_format: int, place: str, told: bool
) -> None:
    at = {"first": 0, "middle": 15, "last": 30}[place]
    archive = archive_of([*FILES[:at], METADATA, *FILES[at:]], compression, tar_format)
    package = opened(tmp_path, archive, compression if told else "")
    assert list(package.invoices()) == list(INVOICES.items())
    # As often as one likes.
    assert dict(package.invoices()) == INVOICES
    assert set(package.metadata) == set(INVOICES)
    assert package.metadata[number(7)].invoice_number == "FV/7"
    assert package.strange == []


@BOTH
def test_parts_may_end_anywhere(tmp_path: Path, compression: str) -> None:
    archive = archive_of([METADATA, *FILES], compression)
    dice = random.Random(1)
    for _ in range(20):
        cuts = sorted(dice.choices(range(len(archive) + 1), k=dice.randint(0, 12)))
        assert dict(opened(tmp_path, archive, compression, *cuts).invoices()) == INVOICES


@settings(deadline=None, max_examples=60)
@given(
    contents=st.lists(st.binary(max_size=1500), max_size=12),
    compression=st.sampled_from(["TarGz", "Zip"]),
    tar_format=st.sampled_from(FORMATS),
)
def test_any_bytes_come_out_as_they_went_in(contents: list[bytes], compression: str, tar_format: int) -> None:
    files = [(f"{number(n)}.xml", content) for n, content in enumerate(contents)]
    with tempfile.TemporaryDirectory() as folder:
        found = read(Path(folder), archive_of(files, compression, tar_format), compression)
    assert found == {name.removesuffix(".xml"): content for name, content in files}


@BOTH
def test_a_package_without_metadata_says_so(tmp_path: Path, compression: str) -> None:
    package = opened(tmp_path, archive_of(FILES, compression), compression)
    assert package.metadata == {}
    assert dict(package.invoices()) == INVOICES


def test_a_number_of_ksef_1_is_a_number(tmp_path: Path) -> None:
    old = "5265877635-20251101-ABCDEF-123456-A1"
    assert read(tmp_path, archive_of([(f"{old}.xml", b"<a/>")]), "TarGz") == {old: b"<a/>"}


def test_streams_of_gzip_may_follow_one_another_and_be_filled_up(tmp_path: Path) -> None:
    plain = plain_tar()
    for at in (0, 1, 512, 5000, len(plain)):
        archive = gzip.compress(plain[:at]) + bytes(7) + gzip.compress(plain[at:]) + bytes(1024)
        assert read(tmp_path, archive, "TarGz") == INVOICES


def test_sizes_may_be_written_in_binary_or_beside_the_header(tmp_path: Path) -> None:
    plain = bytearray(plain_tar([FILES[0]]))
    at = plain.index(b"ustar") - 257
    while plain[at + 156 : at + 157] != b"0":
        at = plain.index(b"ustar", at + 300) - 257
    length = len(FILES[0][1])
    plain[at + 124 : at + 136] = b"\x80" + length.to_bytes(11, "big")
    assert read(tmp_path, gzip.compress(signed(plain, at)), "TarGz") == dict([next(iter(INVOICES.items()))])

    info = tarfile.TarInfo(f"{number(0)}.xml")
    info.pax_headers = {"size": str(length), "comment": "zażółć = tak\nnowy wiersz"}
    plain = bytearray(gzip.decompress(tarred((info, FILES[0][1]))))
    at = plain.rindex(b"ustar") - 257
    plain[at + 124 : at + 136] = b"00000000000\0"
    assert read(tmp_path, gzip.compress(signed(plain, at)), "TarGz") == {number(0): FILES[0][1]}


def signed(tar: bytearray, at: int) -> bytes:
    """The tar with the checksum of the header at ``at`` made right."""
    tar[at + 148 : at + 156] = b" " * 8
    tar[at + 148 : at + 156] = b"%06o\0 " % sum(tar[at : at + 512])
    return bytes(tar)


# --- what does not belong there


@BOTH
def test_what_is_no_invoice_is_named_and_left(tmp_path: Path, compression: str) -> None:
    names = [
        "readme.txt",
        "../../etc/passwd",
        f"/{number(1)}.xml",
        f"../{number(1)}.xml",
        f"folder/{number(1)}.xml",
        f"{number(1)}.XML",
        f"{number(1)}",
        f"{number(1)}.xml.exe",
        "x" * 150 + "/" + "ł" * 99,
        "new\nline.xml",
        ".xml",
    ]
    archive = archive_of([*((name, b"x") for name in names), METADATA, *FILES], compression)
    package = opened(tmp_path, archive, compression)
    assert dict(package.invoices()) == INVOICES
    expected = [name[:200].replace("\n", "?") for name in names]
    assert package.strange == expected
    assert [path.name for path in tmp_path.iterdir()] == ["part-000"]


@BOTH
def test_a_leading_dot_and_slash_is_nothing_strange(tmp_path: Path, compression: str) -> None:
    files = [("./" + name, content) for name, content in (METADATA, *FILES)]
    package = opened(tmp_path, archive_of(files, compression), compression)
    assert dict(package.invoices()) == INVOICES
    assert (len(package.metadata), package.strange) == (30, [])


def test_links_devices_and_folders_are_named_and_left(tmp_path: Path) -> None:
    members = []
    for n, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE)):
        info = tarfile.TarInfo(f"{number(100 + n)}.xml")
        info.type = kind
        info.linkname = "/etc/passwd"
        members.append((info, b""))
    good = tarfile.TarInfo(f"{number(1)}.xml")
    package = opened(tmp_path, tarred(*members, (good, b"<a/>")), "TarGz")
    assert dict(package.invoices()) == {number(1): b"<a/>"}
    assert len(package.strange) == 5


def test_an_encrypted_or_oddly_packed_entry_of_a_zip_is_named_and_left(tmp_path: Path) -> None:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as zipped:
        zipped.writestr(f"{number(1)}.xml", b"x" * 100, zipfile.ZIP_LZMA)
        zipped.writestr(f"{number(2)}.xml", b"x" * 100, zipfile.ZIP_STORED)
        zipped.writestr(f"{number(3)}.xml", b"<a/>", zipfile.ZIP_DEFLATED)
    archive = bytearray(whole.getvalue())
    second = archive.rindex(b"PK\x01\x02", 0, archive.rindex(b"PK\x01\x02"))
    archive[second + 8] |= 1
    package = opened(tmp_path, bytes(archive), "Zip")
    assert dict(package.invoices()) == {number(3): b"<a/>"}
    assert package.strange == [f"{number(1)}.xml", f"{number(2)}.xml"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@BOTH
def test_an_invoice_that_comes_twice_is_given_once(tmp_path: Path, compression: str) -> None:
    archive = archive_of([FILES[0], FILES[1], (FILES[0][0], b"other")], compression)
    package = opened(tmp_path, archive, compression)
    assert list(package.invoices()) == list(INVOICES.items())[:2]
    assert package.strange == [FILES[0][0]]


def test_a_crowd_of_strange_names_is_not_remembered_whole(tmp_path: Path) -> None:
    archive = archive_of([(f"{n:05d}.txt", b"") for n in range(archives.MAX_STRANGE + 50)])
    package = opened(tmp_path, archive, "TarGz")
    assert list(package.invoices()) == []
    assert len(package.strange) == archives.MAX_STRANGE


# --- metadata


def test_an_entry_of_the_metadata_without_number_or_hash_spoils_only_itself(tmp_path: Path) -> None:
    entries = [record(1), None, {**record(2), "invoiceHash": None}, {**record(3), "ksefNumber": ""}, record(4)]
    package = opened(tmp_path, archive_of([("_metadata.json", listing(entries))]), "TarGz")
    assert list(package.metadata) == [number(1), number(4)]
    assert package.strange == ["_metadata.json[1]", "_metadata.json[2]", "_metadata.json[3]"]


def test_metadata_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    archive = archive_of([("_metadata.json", b"\xef\xbb\xbf" + METADATA[1])])
    assert len(opened(tmp_path, archive, "TarGz").metadata) == 30


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b"{}", b'{"invoices": null}', b"[" * 100_000])
def test_unreadable_metadata_is_a_damaged_package(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(WrongBytes) as caught:
        opened(tmp_path, archive_of([("_metadata.json", content)]), "TarGz")
    assert caught.value.wrong is Wrong.ARCHIVE


# --- damage


@BOTH
def test_an_archive_cut_short_is_never_taken_for_whole(tmp_path: Path, compression: str) -> None:
    archive = archive_of([METADATA, *FILES[:3]], compression)
    for length in range(len(archive)):
        with pytest.raises(WrongBytes) as caught:
            read(tmp_path, archive[:length], compression)
        assert caught.value.wrong is Wrong.ARCHIVE


@pytest.mark.parametrize("blocks", [1, 2, 3, 7])
def test_a_tar_cut_short_before_it_was_squeezed_is_never_taken_for_whole(tmp_path: Path, blocks: int) -> None:
    plain = plain_tar().rstrip(b"\0")
    plain += bytes(-len(plain) % 512)
    for left in (b"", b"x" * 100):
        with pytest.raises(WrongBytes):
            read(tmp_path, gzip.compress(plain + left), "TarGz")
    # One empty block is an end, as other readers have it.
    assert read(tmp_path, gzip.compress(plain + bytes(512 * blocks)), "TarGz") == INVOICES


def test_what_follows_the_end_of_a_tar_is_damage_not_silence(tmp_path: Path) -> None:
    one, other = plain_tar(FILES[:5]), plain_tar(FILES[5:])
    with pytest.raises(WrongBytes):
        read(tmp_path, gzip.compress(one + other), "TarGz")
    with pytest.raises(WrongBytes):
        read(tmp_path, gzip.compress(one) + b"garbage", "TarGz")


@BOTH
@settings(deadline=None, max_examples=250)
@given(data=st.data())
def test_damage_is_named_and_never_changes_an_invoice(compression: str, data: st.DataObject) -> None:
    archive = bytearray(archive_of([METADATA, *FILES[:5]], compression))
    for _ in range(data.draw(st.integers(1, 3))):
        archive[data.draw(st.integers(0, len(archive) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = read(Path(folder), bytes(archive), compression)
        except WrongBytes:
            return
        assert found.items() <= INVOICES.items()


@settings(deadline=None, max_examples=250)
@given(data=st.data())
def test_a_damaged_header_of_a_tar_is_named(data: st.DataObject) -> None:
    """Damage before squeezing, so that no checksum of gzip covers it."""
    plain = bytearray(plain_tar([METADATA, *FILES[:5]]))
    for _ in range(data.draw(st.integers(1, 3))):
        block = data.draw(st.integers(0, len(plain) // 512 - 1)) * 512
        for at in range(block, block + data.draw(st.integers(1, 512))):
            plain[at] = data.draw(st.integers(0, 255)) if at % 37 == 0 else plain[at]
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(WrongBytes):
        read(Path(folder), gzip.compress(bytes(plain)), "TarGz")


@settings(deadline=None, max_examples=100)
@given(content=st.binary(max_size=3000), compression=st.sampled_from(["TarGz", "Zip", ""]), squeezed=st.booleans())
def test_what_is_no_archive_at_all_is_named(content: bytes, compression: str, squeezed: bool) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.raises(WrongBytes):
        # Nothing but zeros is an empty tar.
        read(Path(folder), gzip.compress(content + b"x") if squeezed else content, compression)


@pytest.mark.parametrize("size", [b"77777777777\0", b"-0000000001\0", b"notoctal\0\0\0\0", b"\x80" + b"\xff" * 11])
def test_an_impossible_size_is_damage(tmp_path: Path, size: bytes) -> None:
    info = tarfile.TarInfo(f"{number(1)}.xml")
    tar = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    tar[124:136] = size
    with pytest.raises(WrongBytes):
        read(tmp_path, gzip.compress(signed(tar, 0) + bytes(2048)), "TarGz")


@pytest.mark.parametrize("extension", [b"", b"5 a=b", b"99 path=x\n", b"0 a=b\n", b"x a=b\n", b"6 abc\n", b"-1 a=b\n"])
def test_an_extended_header_that_cannot_be_read_is_damage(tmp_path: Path, extension: bytes) -> None:
    told = tarfile.TarInfo("x")
    told.type, told.size = tarfile.XHDTYPE, len(extension)
    tar = told.tobuf(tarfile.USTAR_FORMAT) + extension.ljust(512 if extension else 0, b"\0")
    tar += tarfile.TarInfo(f"{number(1)}.xml").tobuf(tarfile.USTAR_FORMAT) + bytes(1024)
    if not extension:
        assert read(tmp_path, gzip.compress(tar), "TarGz") == {number(1): b""}
        return
    with pytest.raises(WrongBytes):
        read(tmp_path, gzip.compress(tar), "TarGz")


def test_a_header_that_does_not_sum_up_is_damage(tmp_path: Path) -> None:
    plain = bytearray(gzip.decompress(archive_of(FILES[:2], tar_format=tarfile.USTAR_FORMAT)))
    at = plain.index(number(1).encode()) + 30
    plain[at] = ord("7")
    with pytest.raises(WrongBytes):
        read(tmp_path, gzip.compress(bytes(plain)), "TarGz")


def test_an_entry_of_a_zip_that_says_it_is_empty_is_not_believed(tmp_path: Path) -> None:
    archive = bytearray(archive_of(FILES[:1], "Zip"))
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", archive, archive.index(mark) + offset, 0)
    with pytest.raises(WrongBytes):
        read(tmp_path, bytes(archive), "Zip")


def test_parts_out_of_order_are_damage(tmp_path: Path) -> None:
    archive = archive_of([METADATA, *FILES])
    (tmp_path / "a").write_bytes(archive[:700])
    (tmp_path / "b").write_bytes(archive[700:])
    with pytest.raises(WrongBytes):
        open_package([tmp_path / "b", tmp_path / "a"], "TarGz")
    with pytest.raises(ValueError, match="at least one"):
        open_package([], "TarGz")
    with pytest.raises(FileNotFoundError):
        open_package([tmp_path / "c"], "TarGz")


# --- bombs


def peak_of(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def squeezed_zeros(size: int) -> bytes:
    """A tar.gz of one file of ``size`` zeros and a small one, never held whole."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    info = tarfile.TarInfo(f"{number(1)}.xml")
    info.size = size
    pieces = [squeeze.compress(info.tobuf(tarfile.USTAR_FORMAT))]
    pieces += [squeeze.compress(bytes(1_048_576)) for _ in range(size // 1_048_576)]
    info = tarfile.TarInfo(f"{number(2)}.xml")
    info.size = 4
    pieces.append(squeeze.compress(info.tobuf(tarfile.USTAR_FORMAT) + b"<a/>".ljust(512, b"\0") + bytes(1024)))
    return b"".join((*pieces, squeeze.flush()))


def test_an_entry_too_large_is_named_and_never_held(tmp_path: Path) -> None:
    archive = squeezed_zeros(100 * 1_048_576)
    package = opened(tmp_path, archive, "TarGz")
    found: list[tuple[str, bytes]] = []
    assert peak_of(lambda: found.extend(package.invoices())) < 3_000_000
    assert found == [(number(2), b"<a/>")]
    assert package.strange == [f"{number(1)}.xml"]


def test_an_entry_of_a_zip_that_is_larger_than_it_says_is_never_held(tmp_path: Path) -> None:
    content = bytes(50_000_000)
    archive = bytearray(archive_of([(f"{number(1)}.xml", content), ("_metadata.json", METADATA[1])], "Zip"))
    del content
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = archive.index(mark) + offset
        assert struct.unpack_from("<I", archive, at) == (50_000_000,)
        struct.pack_into("<I", archive, at, 1000)
    package = opened(tmp_path, bytes(archive), "Zip")

    def spoilt() -> None:
        with pytest.raises(WrongBytes):
            list(package.invoices())

    assert peak_of(spoilt) < 3_000_000


@BOTH
def test_entries_too_large_are_named_by_what_they_say(
    tmp_path: Path, compression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_ENTRY_BYTES", 200)
    files = [(f"{number(1)}.xml", b"x" * 200), (f"{number(2)}.xml", b"x" * 201), (f"{number(3)}.xml", b"x")]
    package = opened(tmp_path, archive_of([METADATA, *files], compression), compression)
    assert [name for name, _ in package.invoices()] == [number(1), number(3)]
    assert package.strange == [f"{number(2)}.xml"]
    monkeypatch.setattr(archives, "MAX_METADATA_BYTES", 200)
    with pytest.raises(WrongBytes):
        opened(tmp_path, archive_of([METADATA], compression), compression)


@BOTH
def test_an_archive_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, compression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = archive_of([("x", bytes(3_000_000)), ("y", bytes(3_000_000))], compression)
    opened(tmp_path, archive, compression)
    monkeypatch.setattr(unpacking, "MAX_BYTES", 5_000_000)
    with pytest.raises(WrongBytes) as caught:
        opened(tmp_path, archive, compression)
    assert "za duże" in caught.value.details[0]


@BOTH
def test_an_archive_of_too_many_entries_is_refused(
    tmp_path: Path, compression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "MAX_ENTRIES", 29)
    with pytest.raises(WrongBytes):
        opened(tmp_path, archive_of(FILES, compression), compression)
    monkeypatch.setattr(unpacking, "MAX_ENTRIES", 30)
    assert len(read(tmp_path, archive_of(FILES, compression, tarfile.USTAR_FORMAT), compression)) == 30


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_header_of_any_length_is_not_read_into_memory(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 50_000_000
    archive = gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(50_000_000))

    def spoilt() -> None:
        with pytest.raises(WrongBytes):
            opened(tmp_path, archive, "TarGz")

    assert peak_of(spoilt) < 3_000_000


def test_headers_without_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MAX_ENTRIES", 50)
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XGLTYPE, 0
    with pytest.raises(WrongBytes):
        opened(tmp_path, gzip.compress(info.tobuf(tarfile.USTAR_FORMAT) * 51 + bytes(1024)), "TarGz")


@BOTH
def test_memory_does_not_grow_with_the_package(tmp_path: Path, compression: str) -> None:
    dice = random.Random(2)
    files = [(f"{number(n)}.xml", dice.randbytes(30_000)) for n in range(700)]
    package = opened(tmp_path, archive_of(files, compression), compression)
    del files

    def read_all() -> None:
        assert sum(len(content) for _, content in package.invoices()) == 700 * 30_000

    assert peak_of(read_all) < 4_000_000


@BOTH
def test_files_are_closed_even_when_nobody_reads_to_the_end(tmp_path: Path, compression: str) -> None:
    package = opened(tmp_path, archive_of([METADATA, *FILES], compression), compression, 100, 600)
    before = len(list(Path("/proc/self/fd").iterdir()))
    invoices = package.invoices()
    next(invoices)
    invoices.close()  # type: ignore[attr-defined]
    abandoned = package.invoices()
    next(abandoned)
    del abandoned
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_amounts_in_the_metadata_are_exact(tmp_path: Path) -> None:
    text = json.dumps({"invoices": [record(1)]}).replace("123.45", "12345678901234567.89")
    package = opened(tmp_path, archive_of([("_metadata.json", text.encode())]), "TarGz")
    assert str(package.metadata[number(1)].gross) == "12345678901234567.89"
