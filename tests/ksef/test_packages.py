"""Packages, read back by the standard library and by AES used here and not there."""

from __future__ import annotations

import base64
import hashlib
import random
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ksefbuffer.ksef.crypto import new_session_key
from ksefbuffer.ksef.packages import Compression, Package, PackageTooLarge, build_package
from ksefbuffer.ksef.shapes import SessionKey
from tests.ksef.fake import open_aes
from tests.ksef.fake_batch import unpack

KEY = SessionKey(key=bytes(range(32)), iv=bytes(range(16)))
BOTH = pytest.mark.parametrize("compression", ["TarGz", "Zip"])
compressions = st.sampled_from(("TarGz", "Zip"))


def named(*contents: bytes) -> list[tuple[str, bytes]]:
    return [(hashlib.sha256(content).hexdigest(), content) for content in contents]


def b64_hash(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def incompressible(count: int, size: int) -> list[bytes]:
    dice = random.Random(count * size)
    return [dice.randbytes(size) for _ in range(count)]


def archive_of(package: Package, key: SessionKey = KEY) -> bytes:
    """The archive, every declared figure of every part checked on the way."""
    whole = b""
    for ordinal, part in enumerate(package.parts, 1):
        sealed = part.path.read_bytes()
        plain = open_aes(key.key, key.iv, sealed)
        assert (part.ordinal, part.size, part.sha256_b64) == (ordinal, len(sealed), b64_hash(sealed))
        assert part.plain_size == len(plain) > 0
        assert part.size == (part.plain_size // 16 + 1) * 16
        whole += plain
    assert (package.plain_size, package.plain_sha256_b64) == (len(whole), b64_hash(whole))
    return whole


# --- what goes in comes out


@settings(deadline=None, max_examples=150)
@given(
    contents=st.lists(st.binary(max_size=3000), min_size=1, max_size=30),
    part_bytes=st.integers(100, 20_000),
    compression=compressions,
)
@example(contents=[b""], part_bytes=1, compression="TarGz")
@example(contents=[b"x"] * 4, part_bytes=16, compression="Zip")
def test_any_invoices_come_out_as_they_went_in(
    contents: list[bytes], part_bytes: int, compression: Compression
) -> None:
    key = new_session_key()
    with tempfile.TemporaryDirectory() as place:
        package = build_package(
            iter(named(*contents)),
            Path(place),
            key,
            compression=compression,
            part_bytes=part_bytes,
            max_parts=100_000_000,
        )
        entries = unpack(archive_of(package, key), compression)
        assert [content for _, content in entries] == contents
        assert list(package.names) == [name for name, _ in entries]
        assert [package.names[name] for name, _ in entries] == [sha for sha, _ in named(*contents)]
        assert all(part.plain_size == part_bytes for part in package.parts[:-1])
        assert package.parts[-1].plain_size <= part_bytes
        package.discard()
        assert list(Path(place).iterdir()) == []


@BOTH
def test_names_are_flat_ascii_and_unique_even_for_the_same_invoice_twice(
    tmp_path: Path, compression: Compression
) -> None:
    package = build_package(named(b"a", b"b", b"a", b"a"), tmp_path, KEY, compression=compression)
    names = [name for name, _ in unpack(archive_of(package), compression)]
    sha_a, sha_b = (hashlib.sha256(content).hexdigest() for content in (b"a", b"b"))
    assert names == [f"{sha_a}.xml", f"{sha_b}.xml", f"{sha_a}-2.xml", f"{sha_a}-3.xml"]
    assert all(name.isascii() and len(name) <= 128 and "/" not in name for name in names)
    assert package.names[f"{sha_a}-3.xml"] == sha_a


@BOTH
def test_the_same_invoices_give_the_same_archive(tmp_path: Path, compression: Compression) -> None:
    invoices = named(*incompressible(20, 700), b"<Faktura/>" * 500)
    first = build_package(invoices, tmp_path / "1", KEY, compression=compression)
    second = build_package(invoices, tmp_path / "2", KEY, compression=compression)
    assert first.plain_sha256_b64 == second.plain_sha256_b64


def test_parts_are_cut_first_and_then_encrypted_each_by_itself(tmp_path: Path) -> None:
    package = build_package(named(*incompressible(10, 1000)), tmp_path, KEY, part_bytes=1600)
    # A whole number of blocks still gets its block of padding, and every part opens without the others.
    assert [part.size for part in package.parts[:-1]] == [1616] * (len(package.parts) - 1)
    assert len(package.parts) == -(-package.plain_size // 1600) > 5
    last = package.parts[-1]
    assert open_aes(KEY.key, KEY.iv, last.path.read_bytes()) == archive_of(package)[-last.plain_size :]


def test_an_archive_that_ends_with_a_part_makes_no_empty_one(tmp_path: Path) -> None:
    invoices = named(*incompressible(3, 500))
    size = build_package(invoices, tmp_path / "1", KEY, compression="Zip").plain_size
    whole = build_package(invoices, tmp_path / "2", KEY, compression="Zip", part_bytes=size)
    assert [part.plain_size for part in whole.parts] == [size]
    halves = build_package(invoices, tmp_path / "3", KEY, compression="Zip", part_bytes=size - 1)
    assert [part.plain_size for part in halves.parts] == [size - 1, 1]


def test_a_tar_fills_its_last_record(tmp_path: Path) -> None:
    import gzip

    for n in range(1, 25):
        package = build_package(named(*incompressible(n, 400)), tmp_path / str(n), KEY)
        tar = gzip.decompress(archive_of(package))
        assert len(tar) % 10_240 == 0
        assert tar.endswith(bytes(1024))


def test_neither_key_nor_archive_is_shown_or_left_in_the_open(tmp_path: Path) -> None:
    invoices = named(b"<Faktura>poufne</Faktura>")
    package = build_package(invoices, tmp_path, KEY, compression="Zip")
    assert "bytes" not in repr(package)
    assert repr(KEY.key)[2:-1] not in repr(package)
    plain = archive_of(package)
    on_disk = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert plain[:16] not in on_disk
    assert len(list(tmp_path.iterdir())) == len(package.parts)


# --- limits


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.tuples(st.integers(0, 4000), st.booleans()), min_size=2, max_size=25),
    share=st.floats(0.01, 1.2),
    compression=compressions,
)
def test_what_is_said_to_fit_fits_and_one_more_does_not(
    sizes: list[tuple[int, bool]], share: float, compression: Compression
) -> None:
    dice = random.Random(7)
    contents = [dice.randbytes(size) if noise else bytes(size) + dice.randbytes(8) for size, noise in sizes]
    invoices = named(*contents)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        package = build_package(invoices, folder, KEY, compression=compression)
        size = package.plain_size
        limit = max(int(size * share), 1)
        package.discard()
        fitted = how_many_fit(invoices, folder, compression, limit)
        assert (fitted == len(invoices)) == (size <= limit)
        assert list(folder.iterdir()) == []
        if fitted > 0:
            assert how_many_fit(invoices[:fitted], folder, compression, limit) == fitted
        if fitted < len(invoices):
            assert build_package(invoices[: fitted + 1], folder, KEY, compression=compression).plain_size > limit


def how_many_fit(invoices: list[tuple[str, bytes]], folder: Path, compression: Compression, limit: int) -> int:
    try:
        package = build_package(invoices, folder, KEY, compression=compression, max_bytes=limit)
    except PackageTooLarge as fault:
        return fault.fitted
    assert package.plain_size <= limit
    package.discard()
    return len(package.names)


@BOTH
def test_a_large_archive_is_cut_off_at_its_limit_too(tmp_path: Path, compression: Compression) -> None:
    # Well above what zlib holds back, so that most of the way is made without exact measuring.
    invoices = named(*incompressible(60, 20_000))
    limit = 700_000
    with pytest.raises(PackageTooLarge) as caught:
        build_package(invoices, tmp_path, KEY, compression=compression, max_bytes=limit)
    fitted = caught.value.fitted
    package = build_package(invoices[:fitted], tmp_path, KEY, compression=compression, max_bytes=limit)
    assert limit - 21_000 < package.plain_size <= limit
    assert str(fitted) in caught.value.message


@BOTH
def test_parts_and_their_size_are_a_limit_as_well(tmp_path: Path, compression: Compression) -> None:
    invoices = named(*incompressible(10, 1000))
    package = build_package(invoices, tmp_path / "1", KEY, compression=compression, part_bytes=4000, max_parts=4)
    assert len(package.parts) <= 4
    with pytest.raises(PackageTooLarge) as caught:
        build_package(invoices, tmp_path / "2", KEY, compression=compression, part_bytes=4000, max_parts=2)
    assert 5 <= caught.value.fitted <= 7


def test_too_many_invoices_are_too_large_and_the_limit_itself_is_not(tmp_path: Path) -> None:
    invoices = named(*incompressible(6, 10))
    assert len(build_package(invoices[:5], tmp_path / "1", KEY, max_invoices=5).names) == 5
    with pytest.raises(PackageTooLarge) as caught:
        build_package(invoices, tmp_path / "2", KEY, max_invoices=5)
    assert caught.value.fitted == 5
    assert list((tmp_path / "2").iterdir()) == []


# --- failures


def broken(after: int) -> Iterator[tuple[str, bytes]]:
    yield from named(*incompressible(after, 40_000))
    raise OSError("database gone")


@BOTH
def test_a_stream_that_breaks_leaves_no_file(tmp_path: Path, compression: Compression) -> None:
    with pytest.raises(OSError, match="database gone"):
        build_package(broken(10), tmp_path, KEY, compression=compression, part_bytes=100_000)
    assert list(tmp_path.iterdir()) == []


def test_an_invoice_under_a_wrong_hash_is_not_packed(tmp_path: Path) -> None:
    (sha, _), (_, other) = named(b"a", b"b")
    with pytest.raises(ValueError, match="hash"):
        build_package([(sha, other)], tmp_path, KEY)
    assert list(tmp_path.iterdir()) == []


def test_no_invoices_are_no_package(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no invoices"):
        build_package([], tmp_path, KEY)


def test_another_packages_parts_are_never_overwritten_nor_removed(tmp_path: Path) -> None:
    first = build_package(named(b"a"), tmp_path, KEY)
    before = first.parts[0].path.read_bytes()
    with pytest.raises(FileExistsError):
        build_package(named(b"b"), tmp_path, KEY)
    assert first.parts[0].path.read_bytes() == before


@BOTH
def test_memory_does_not_grow_with_the_package(tmp_path: Path, compression: Compression) -> None:
    dice = random.Random(3)

    def invoices() -> Iterator[tuple[str, bytes]]:
        for _ in range(200):
            yield named(dice.randbytes(300_000) + bytes(700_000))[0]

    tracemalloc.start()
    try:
        package = build_package(invoices(), tmp_path, KEY, compression=compression, part_bytes=10_000_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert package.plain_size > 60_000_000
    assert len(package.parts) >= 6
    assert peak < 30_000_000
