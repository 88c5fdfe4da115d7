"""Names as text and back, names that fit, and files that are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksefbuffer.erp import files

# What a POSIX file name may be: any bytes but NUL and the slash.
raw_names = st.binary(min_size=1, max_size=255).map(lambda raw: raw.translate(None, b"\0/")).filter(bool)
names = raw_names.map(os.fsdecode)
stems = st.one_of(names, st.text(st.characters(exclude_characters="\0/", codec="utf-8"), min_size=1, max_size=120))


@given(names)
def test_a_name_survives_the_way_to_the_database_and_back(name: str) -> None:
    text = files.name_as_text(name)

    assert files.text_as_name(text) == name
    # What the database gets is text that any encoder takes.
    assert text.encode("utf-8").decode("utf-8") == text


@given(names, names)
def test_two_names_are_two_texts(one: str, other: str) -> None:
    assert (files.name_as_text(one) == files.name_as_text(other)) == (one == other)


@given(names)
def test_a_name_shown_is_one_printable_line(name: str) -> None:
    shown = files.shown(name)
    assert shown.isprintable()
    shown.encode("utf-8")


@given(stems, st.sampled_from([".ksef.json", ".upo.xml", ".qr1.png", ".2.xml", ""]))
def test_a_fitted_name_is_a_file_name(stem: str, ending: str) -> None:
    fitted = files.fitting(stem, ending)

    assert len(os.fsencode(fitted)) <= 255
    assert fitted.endswith(ending)
    if len(os.fsencode(stem + ending)) <= 255:
        assert fitted == stem + ending


@given(st.binary(min_size=251, max_size=260).map(lambda raw: os.fsdecode(raw.translate(None, b"\0/"))))
def test_a_name_cut_is_told_from_its_neighbours(stem: str) -> None:
    # The same beginning, another end: both are cut, and stay two names.
    one, other = stem + "x" * 20, stem + "y" * 20
    assert files.fitting(one, ".ksef.json") != files.fitting(other, ".ksef.json")


@given(names, st.integers(1, 12))
def test_numbered_names_differ_and_keep_their_ending(name: str, number: int) -> None:
    name += ".xml"
    numbered = files.numbered(name, number)
    assert numbered.endswith(".xml")
    assert len(os.fsencode(numbered)) <= 255
    if number > 1:
        assert numbered != files.numbered(name, number - 1)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    files.write_whole(path, b"old")

    def power_loss(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", power_loss)
    with pytest.raises(OSError, match="No space"):
        files.write_whole(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_content_is_on_disk_before_the_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    effects: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").readlink()
        effects.append("sync folder" if target == tmp_path else "sync content")
        fsync(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        effects.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    files.write_whole(tmp_path / "a.json", b"content")
    assert effects == ["sync content", "rename", "sync folder"]


def test_a_move_never_overwrites_even_what_appears_in_the_last_moment(tmp_path: Path) -> None:
    source, target = tmp_path / "in" / "a.xml", tmp_path / "out"
    source.parent.mkdir()
    for content in (b"1", b"2", b"3"):
        source.write_bytes(content)
        files.move_without_overwriting(source, target, inode=source.stat().st_ino)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {
        "a.xml": b"1",
        "a.2.xml": b"2",
        "a.3.xml": b"3",
    }


def test_a_share_that_cannot_refuse_to_overwrite_is_served_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_renameat2", lambda *_: -1)
    monkeypatch.setattr(files.ctypes, "get_errno", lambda: 22)
    source, target = tmp_path / "in" / "a.xml", tmp_path / "out"
    source.parent.mkdir()
    for content in (b"1", b"2"):
        source.write_bytes(content)
        files.move_without_overwriting(source, target, inode=source.stat().st_ino)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {"a.xml": b"1", "a.2.xml": b"2"}


def test_only_the_file_that_was_read_is_moved(tmp_path: Path) -> None:
    source, target = tmp_path / "in" / "a.xml", tmp_path / "out"
    source.parent.mkdir()
    source.write_bytes(b"other")
    with pytest.raises(files.Replaced):
        files.move_without_overwriting(source, target, inode=source.stat().st_ino + 1)
    assert source.read_bytes() == b"other"
    assert list(target.iterdir()) == []
