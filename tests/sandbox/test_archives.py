"""The sandbox's own reading of archives, against what Python's libraries and hostile hands make."""

from __future__ import annotations

import gzip
import io
import string
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksefbuffer.sandbox import archives
from ksefbuffer.sandbox.archives import Unusable, files_in
from tests.sandbox.packing import tarred, zipped

FORMATS = [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "archive"


def read(archive: Path, content: bytes, compression: str) -> list[tuple[str, bytes]]:
    archive.write_bytes(content)
    return list(files_in(archive, compression))


def refused(archive: Path, content: bytes, compression: str) -> int:
    with pytest.raises(Unusable) as fault:
        read(archive, content, compression)
    assert fault.value.details
    return fault.value.code


NAMES = st.text(string.ascii_letters + string.digits + "_-. ąężź", min_size=1, max_size=124).map(
    lambda name: name + ".xml"
)


@given(files=st.dictionaries(NAMES, st.binary(max_size=2000), max_size=8), format=st.sampled_from(FORMATS[:2]))
def test_what_was_packed_is_read(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], format: int
) -> None:
    archive = tmp_path_factory.mktemp("a") / "archive"
    assert read(archive, zipped(files), "Zip") == list(files.items())
    assert read(archive, tarred(files, format=format), "TarGz") == list(files.items())


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_of_tar(archive: Path, format: int) -> None:
    files = {"a.xml": b"x" * 511, "b.xml": b"", "c.xml": b"y" * 512}
    assert read(archive, tarred(files, format=format), "TarGz") == list(files.items())


def test_a_tar_of_several_gzip_members(archive: Path) -> None:
    plain = gzip.decompress(tarred({"a.xml": b"x" * 5000}))
    content = gzip.compress(plain[:700]) + gzip.compress(plain[700:])
    assert read(archive, content, "TarGz") == [("a.xml", b"x" * 5000)]


def test_a_large_zip_of_the_new_kind(archive: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made, made.open("a.xml", "w", force_zip64=True) as entry:
        entry.write(b"x")
    assert read(archive, out.getvalue(), "Zip") == [("a.xml", b"x")]


BAD_NAMES = ["folder/a.xml", "./a.xml", "..\\a.xml", "a.txt", "a.xml/", "x" * 125 + ".xml"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_only_xml_files_lying_flat(archive: Path, name: str) -> None:
    assert refused(archive, zipped({"ok.xml": b"", name: b""}), "Zip") == 430
    assert refused(archive, tarred({"ok.xml": b"", name: b""}), "TarGz") == 430


def test_a_name_of_128_characters_and_capital_letters(archive: Path) -> None:
    files = {"x" * 124 + ".XML": b"1", "X" * 124 + ".XML": b"2"}
    assert read(archive, zipped(files), "Zip") == list(files.items())
    assert read(archive, tarred(files), "TarGz") == list(files.items())


def test_a_long_path_of_the_old_format_is_a_folder_too(archive: Path) -> None:
    assert (
        refused(archive, tarred({"d" * 80 + "/" + "f" * 80 + ".xml": b""}, format=tarfile.USTAR_FORMAT), "TarGz") == 430
    )


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name(archive: Path) -> None:
    out, packed = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(packed, "w") as made, tarfile.open(fileobj=out, mode="w:gz") as tar:
        for content in (b"1", b"2"):
            made.writestr("a.xml", content)
            entry = tarfile.TarInfo("a.xml")
            entry.size = 1
            tar.addfile(entry, io.BytesIO(content))
    assert refused(archive, packed.getvalue(), "Zip") == 430
    assert refused(archive, out.getvalue(), "TarGz") == 430


@pytest.mark.parametrize("kind", [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_a_tar_holds_nothing_but_files(archive: Path, kind: bytes) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as made:
        entry = tarfile.TarInfo("a.xml")
        entry.type, entry.linkname = kind, "/etc/passwd"
        made.addfile(entry)
    assert refused(archive, out.getvalue(), "TarGz") == 430


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_of_another_method(archive: Path, method: int) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as made:
        made.writestr("a.xml", b"x")
    assert refused(archive, out.getvalue(), "Zip") == 430


@pytest.mark.parametrize("compression", ["Zip", "TarGz"])
def test_torn_anywhere_it_is_no_archive(archive: Path, compression: str) -> None:
    files = {"a.xml": bytes(range(256)) * 3, "b.xml": b"b" * 600}
    whole = zipped(files) if compression == "Zip" else tarred(files)
    for length in range(len(whole)):
        assert refused(archive, whole[:length], compression) == 430


def test_a_changed_byte_is_noticed(archive: Path) -> None:
    plain = gzip.decompress(tarred({"a.xml": b"x" * 100}, mtime=0))
    for position in (0, 100, 124, 148, 156):
        torn = bytearray(plain)
        torn[position] ^= 1
        assert refused(archive, gzip.compress(bytes(torn)), "TarGz") == 430
    assert refused(archive, gzip.compress(plain + b"x"), "TarGz") == 430
    assert refused(archive, gzip.compress(plain[:1024]), "TarGz") == 430
    packed = bytearray(gzip.compress(plain))
    packed[-5] ^= 1  # the checksum of the whole
    assert refused(archive, bytes(packed), "TarGz") == 430


def test_a_lying_length_in_an_extended_header(archive: Path) -> None:
    for record in (b"99 path=a.xml\n", b"0 path=a.xml\n", b"-1 path=a\n", b"nonsense", b"11 size=-5\n"):
        entry = tarfile.TarInfo("x")
        entry.type, entry.size = tarfile.XHDTYPE, len(record)
        file = tarfile.TarInfo("a.xml")
        content = entry.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0") + file.tobuf(tarfile.USTAR_FORMAT)
        assert refused(archive, gzip.compress(content + bytes(1024)), "TarGz") == 430


def zeros(size: int) -> bytes:
    """So many zeros, in gzip, without ever holding them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(bytes(1_000_000)) for _ in range(size // 1_000_000)) + packer.flush()


def bomb_of_headers(size: int, kind: bytes) -> bytes:
    entry = tarfile.TarInfo("a.xml")
    entry.type, entry.size = kind, size
    return gzip.compress(entry.tobuf(tarfile.GNU_FORMAT)) + zeros(size)


def zip_bomb(count: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for number in range(count):
            made.writestr(f"{number}.xml", bytes(9_000_000))
    return out.getvalue()


def test_bombs_are_refused_in_little_memory(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_ALWAYS_ALLOWED", 20_000_000)
    huge = io.BytesIO()
    with zipfile.ZipFile(huge, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a.xml", bytes(11_000_000))
    bombs = [
        (bomb_of_headers(200_000_000, tarfile.REGTYPE), "TarGz"),
        (bomb_of_headers(200_000_000, tarfile.XHDTYPE), "TarGz"),
        (bomb_of_headers(200_000_000, tarfile.GNUTYPE_LONGNAME), "TarGz"),
        (bomb_of_headers(9_000_000, tarfile.REGTYPE) + zeros(200_000_000), "TarGz"),
        (zip_bomb(3), "Zip"),
        (huge.getvalue(), "Zip"),
    ]
    for content, compression in bombs:
        archive.write_bytes(content)
        tracemalloc.start()
        with pytest.raises(Unusable) as fault:
            for _ in files_in(archive, compression):
                pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert fault.value.code == 430
        assert peak < 40_000_000


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_large_header_is_not_read(archive: Path, kind: bytes) -> None:
    archive.write_bytes(bomb_of_headers(30_000_000, kind))
    tracemalloc.start()
    with pytest.raises(Unusable):
        list(files_in(archive, "TarGz"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_a_directory_too_large_to_be_read(archive: Path) -> None:
    end = struct.pack("<4sHHHHLLH", b"PK\x05\x06", 0, 0, 5, 5, 20_000_000, 0, 0)
    assert refused(archive, bytes(20_000_000) + end, "Zip") == 430
    many = struct.pack("<4sHHHHLLH", b"PK\x05\x06", 0, 0, 10_001, 10_001, 100, 0, 0)
    assert refused(archive, bytes(100) + many, "Zip") == 420


def test_ten_thousand_files_and_not_one_more(archive: Path) -> None:
    files = {f"{number}.xml": b"" for number in range(10_001)}
    for pack, compression in ((zipped, "Zip"), (tarred, "TarGz")):
        assert refused(archive, pack(files), compression) == 420
    files.popitem()
    for pack, compression in ((zipped, "Zip"), (tarred, "TarGz")):
        assert len(read(archive, pack(files), compression)) == 10_000
