"""Received invoices appear as files, whole, with their rights, where the database says, and nowhere else."""

from __future__ import annotations

import errno
import grp
import logging
import os
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from ksefbuffer.queue import facts, incoming
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.incoming import FileDue
from ksefbuffer.receiver import disk
from ksefbuffer.receiver.filing import Filing, FolderAway, View
from ksefbuffer.receiver.shapes import Catalogue
from tests.queue.test_incoming import made
from tests.receiver.stored import (
    Words,
    again,
    catalogues,
    content_of,
    expected,
    folders,
    judgement,
    mode,
    noted,
    put,
    refile,
    tree,
)
from tests.samples import NOW

LATER = NOW + timedelta(hours=1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "incoming"


def filing_of(database: Database, root: Path, *known: Catalogue, views: tuple[View, ...] = ()) -> Filing:
    return Filing(database, root, catalogues(*known).catalogue_of, views)


def run(filing: Filing, now: Any = NOW) -> None:
    for _ in range(60):
        if not filing.step(now):
            return
    raise AssertionError("never done")


def test_an_invoice_is_filed_under_its_name(database: Database, root: Path) -> None:
    one = put(database, "sklepy/7 Gdynia", invoice_number="FV/7/2026", issue_date=date(2026, 11, 3))
    filing = filing_of(database, root)
    assert filing.next_due() == NOW

    run(filing)

    path = f"sklepy/7 Gdynia/2026-11-03_1111111111_FV_7_2026_{one.ksef_number}.xml"
    assert tree(root) == {path: content_of(database, one)}
    filed = again(database, one)
    assert (filed.path, filed.file_due_at, filed.file_error) == (path, None, None)
    assert filing.next_due() is None
    assert noted(database) is None
    assert not filing.step(LATER), "nothing is due"


def test_what_is_not_due_yet_waits(sqlite_database: Database, root: Path) -> None:
    put(sqlite_database)
    assert not filing_of(sqlite_database, root).step(NOW - timedelta(seconds=1))
    assert not root.exists()


def test_refiling_moves_the_file_and_removes_folders_left_empty(database: Database, root: Path) -> None:
    moved, stays = put(database, "a/b/c"), put(database, "a/x")
    filing = filing_of(database, root, views=(Words(),))
    run(filing)
    refile(database, moved, "d/e")

    run(filing)

    assert tree(root) == expected(database, {moved.id: "d/e", stays.id: "a/x"}, views=True)
    assert folders(root) == {"a", "a/x", "d", "d/e"}


def test_a_folder_with_somebody_s_file_stays(sqlite_database: Database, root: Path) -> None:
    one = put(sqlite_database, "a/b")
    filing = filing_of(sqlite_database, root)
    run(filing)
    (root / "a" / "b" / "notatki.docx").write_bytes(b"moje")
    refile(sqlite_database, one, "c")

    run(filing)

    assert tree(root) == {**expected(sqlite_database, {one.id: "c"}), "a/b/notatki.docx": b"moje"}


def test_a_rebuild_brings_everything_back_and_leaves_alone_what_is_right(database: Database, root: Path) -> None:
    ones = [put(database, f"sklepy/{number % 3}") for number in range(9)]
    filing = filing_of(database, root, views=(Words(),))
    run(filing)
    whole = tree(root)
    kept, gone, damaged, cut = sorted(root.rglob("*.xml"))[:4]
    inode = kept.stat().st_ino
    gone.unlink()
    damaged.write_bytes(b"zepsuty")
    cut.write_bytes(cut.read_bytes()[:-1] + b"?")
    next(root.rglob("*.txt")).unlink()
    with database.transaction() as tx:
        assert incoming.file_all_again(tx, at=LATER) == len(ones)

    run(filing, LATER)

    assert tree(root) == whole
    assert kept.stat().st_ino == inode
    assert damaged.stat().st_ino != inode


def test_a_lost_folder_comes_back(sqlite_database: Database, root: Path) -> None:
    one = put(sqlite_database, "a/b")
    filing = filing_of(sqlite_database, root)
    run(filing)
    root.rename(root.with_name("zabrane"))
    with sqlite_database.transaction() as tx:
        incoming.file_all_again(tx, at=NOW)
    run(filing)
    assert tree(root) == expected(sqlite_database, {one.id: "a/b"})


@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling link", "pipe"])
def test_what_somebody_put_at_the_name_is_never_overwritten(sqlite_database: Database, root: Path, kind: str) -> None:
    one = put(sqlite_database, "a")
    (path,) = expected(sqlite_database, {one.id: "a"})
    target = root / path
    target.parent.mkdir(parents=True)
    other = root / "obcy.xml"
    make: dict[str, Callable[[], Any]] = {
        "file": lambda: target.write_bytes(b"moje"),
        "folder": target.mkdir,
        "link": lambda: (other.write_bytes(content_of(sqlite_database, one)), target.symlink_to(other)),
        "dangling link": lambda: target.symlink_to(other),
        "pipe": lambda: os.mkfifo(target),
    }
    make[kind]()
    before = target.lstat()
    filing = filing_of(sqlite_database, root)

    run(filing)

    second = path.removesuffix(".xml") + ".2.xml"
    assert again(sqlite_database, one).path == second
    assert (root / second).read_bytes() == content_of(sqlite_database, one)
    assert not (root / second).is_symlink()
    assert target.lstat() == before
    assert kind != "dangling link" or not other.exists()

    with sqlite_database.transaction() as tx:
        incoming.file_all_again(tx, at=NOW)
    run(filing)
    assert again(sqlite_database, one).path == second, "the name once given is kept"

    refile(sqlite_database, one, "b")
    run(filing)
    assert again(sqlite_database, one).path == path.replace("a/", "b/", 1)
    assert target.lstat() == before
    assert not (root / second).exists()


def test_a_file_of_another_user_at_the_recorded_name_is_not_ours(
    sqlite_database: Database, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = put(sqlite_database, "a")
    filing = filing_of(sqlite_database, root)
    run(filing)
    (path,) = tree(root)
    (root / path).write_bytes(b"podmieniony")
    monkeypatch.setattr(disk, "_owner", lambda _: os.geteuid() + 1)
    with sqlite_database.transaction() as tx:
        incoming.file_all_again(tx, at=NOW)

    run(filing)

    second = path.removesuffix(".xml") + ".2.xml"
    assert tree(root) == {path: b"podmieniony", second: content_of(sqlite_database, one)}


def test_somebody_s_file_at_a_view_s_name_moves_both_names(sqlite_database: Database, root: Path) -> None:
    one = put(sqlite_database, "a")
    xml, text = expected(sqlite_database, {one.id: "a"}, views=True)
    (root / "a").mkdir(parents=True)
    (root / text).write_bytes(b"moje")

    run(filing_of(sqlite_database, root, views=(Words(),)))

    assert again(sqlite_database, one).path == xml.removesuffix(".xml") + ".2.xml"
    assert (root / text).read_bytes() == b"moje"
    assert (root / (text.removesuffix(".txt") + ".2.txt")).is_file()


@pytest.mark.parametrize("part", ["", "/tajne"])
def test_a_link_in_place_of_a_folder_leads_nowhere(
    sqlite_database: Database, root: Path, tmp_path: Path, part: str
) -> None:
    outside = tmp_path / "poza"
    (outside / "tajne").mkdir(parents=True)
    root.mkdir()
    (root / "sklepy").symlink_to(outside)
    one, other = put(sqlite_database, "sklepy" + part), put(sqlite_database, "inne")
    filing = filing_of(sqlite_database, root)

    run(filing)

    assert tree(outside) == {}
    failed = again(sqlite_database, one)
    assert failed.path is None
    assert failed.file_error is not None
    assert "leży plik albo dowiązanie" in failed.file_error
    assert again(sqlite_database, other).path is not None, "the others are filed"

    (root / "sklepy").unlink()
    run(filing, LATER)
    assert again(sqlite_database, one).file_error is None
    assert (root / str(again(sqlite_database, one).path)).is_file()


def test_nothing_is_removed_through_a_link(sqlite_database: Database, root: Path, tmp_path: Path) -> None:
    one = put(sqlite_database, "a")
    filing = filing_of(sqlite_database, root)
    run(filing)
    (root / "a").rename(tmp_path / "poza")
    (root / "a").symlink_to(tmp_path / "poza")
    refile(sqlite_database, one, "b")

    run(filing)

    assert len(tree(tmp_path / "poza")) == 1
    assert (root / str(again(sqlite_database, one).path)).is_file()


@pytest.mark.parametrize("path", ["../poza/x.xml", "/etc/x.xml", "a/../../poza/x.xml", "x", "a//x.xml", ".xml", ""])
def test_a_recorded_path_that_leads_out_removes_nothing(
    sqlite_database: Database, root: Path, tmp_path: Path, path: str
) -> None:
    victim = tmp_path / "poza" / "x.xml"
    victim.parent.mkdir()
    victim.write_bytes(b"moje")
    one = put(sqlite_database, "a")
    with sqlite_database.transaction() as tx:
        incoming.filed(tx, {one.id: ("inny", path)})

    run(filing_of(sqlite_database, root))

    assert victim.read_bytes() == b"moje"
    assert tree(root) == expected(sqlite_database, {one.id: "a"})


# Rights


def test_files_and_folders_get_the_mode_of_the_nearest_catalogue(sqlite_database: Database, root: Path) -> None:
    plain, shop, deeper = (put(sqlite_database, folder) for folder in ("inne", "sklepy/7", "sklepy/7/wz"))
    known = (Catalogue("sklepy", mode="0644"), Catalogue("sklepy/7", mode="0640"))
    before = os.umask(0o027)
    try:
        run(filing_of(sqlite_database, root, *known))
    finally:
        os.umask(before)

    paths = [root / str(again(sqlite_database, one).path) for one in (plain, shop, deeper)]
    assert [oct(mode(path)) for path in paths] == ["0o640", "0o640", "0o640"]
    assert [oct(mode(root / part)) for part in ("sklepy", "sklepy/7", "sklepy/7/wz")] == ["0o755", "0o750", "0o750"]


def test_without_catalogues_rights_are_as_they_come(sqlite_database: Database, root: Path) -> None:
    one = put(sqlite_database, "a")
    before = os.umask(0o077)
    try:
        run(filing_of(sqlite_database, root))
    finally:
        os.umask(before)
    path = root / str(again(sqlite_database, one).path)
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)


def another_group() -> grp.struct_group:
    """A group that this process may give its files to, other than its own."""
    if os.geteuid() == 0:
        return next(group for group in grp.getgrall() if group.gr_gid not in (0, os.getegid()))
    mine = [group for group in os.getgroups() if group != os.getegid()]
    if not mine:
        pytest.skip("this user is in no second group")
    return grp.getgrgid(mine[0])


def test_a_catalogue_s_group_owns_its_files_and_folders(sqlite_database: Database, root: Path) -> None:
    group = another_group()
    one = put(sqlite_database, "sklepy/7/wz")
    run(filing_of(sqlite_database, root, Catalogue("sklepy/7", group=group.gr_name, mode="0640"), views=(Words(),)))

    path = root / str(again(sqlite_database, one).path)
    for file in (path, path.with_suffix(".txt")):
        assert (file.stat().st_gid, oct(mode(file))) == (group.gr_gid, "0o640")
    for folder in (path.parent, path.parent.parent):
        assert (folder.stat().st_gid, oct(mode(folder))) == (group.gr_gid, "0o2750")
    assert (root / "sklepy").stat().st_gid == os.getegid()


def test_rights_changed_in_the_rules_reach_what_lies_there(sqlite_database: Database, root: Path) -> None:
    group = another_group()
    one = put(sqlite_database, "a")
    run(filing_of(sqlite_database, root))
    path = root / str(again(sqlite_database, one).path)
    with sqlite_database.transaction() as tx:
        incoming.file_all_again(tx, at=NOW)

    run(filing_of(sqlite_database, root, Catalogue("a", group=group.gr_name, mode="0640")))

    assert (path.stat().st_gid, oct(mode(path))) == (group.gr_gid, "0o640")
    assert (path.parent.stat().st_gid, oct(mode(path.parent))) == (group.gr_gid, "0o2750")


def test_a_file_is_never_open_to_more_people_than_it_should_be(
    sqlite_database: Database, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a file with contents, or a folder of the catalogue, may be seen with at any effect."""
    group = another_group()
    put(sqlite_database, "a")
    seen: list[str] = []

    def look() -> None:
        for path in root.rglob("*"):
            there = path.lstat()
            allowed = 0o640 if path.is_file() else 0o2750
            mine = there.st_gid == group.gr_gid
            if (path.is_dir() or there.st_size) and mode(path) & ~(allowed if mine else allowed & 0o2700):
                seen.append(f"{path.name} {mode(path):o} {there.st_gid}")

    real = disk.os

    class Watched:
        def __getattr__(self, name: str) -> Any:
            what = getattr(real, name)
            if name not in ("open", "write", "fsync", "fchmod", "fchown", "rename", "mkdir", "unlink"):
                return what

            def effect(*values: Any, **named: Any) -> Any:
                result = what(*values, **named)
                look()
                return result

            return effect

    monkeypatch.setattr(disk, "os", Watched())
    before = os.umask(0)
    try:
        run(filing_of(sqlite_database, root, Catalogue("a", group=group.gr_name, mode="0640")))
    finally:
        os.umask(before)
    assert seen == []
    assert len(tree(root)) == 1


def test_a_folder_changes_hands_only_while_it_is_closed(
    sqlite_database: Database, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = another_group()
    put(sqlite_database, "a")
    (root / "a").mkdir(parents=True)
    (root / "a").chmod(0o777)
    given: list[int] = []
    real = os.fchown

    def giving(descriptor: int, owner: int, to: int) -> None:
        given.append(os.fstat(descriptor).st_mode & 0o077)
        real(descriptor, owner, to)

    monkeypatch.setattr(os, "fchown", giving)
    run(filing_of(sqlite_database, root, Catalogue("a", group=group.gr_name, mode="0640")))
    assert given[0] == 0
    assert oct(mode(root / "a")) == "0o2750"


def test_an_unknown_group_leaves_the_file_to_its_owner_and_says_so(database: Database, root: Path) -> None:
    one, other = put(database, "a/b"), put(database, "c")
    name = "nie-ma-takiej"

    run(filing_of(database, root, Catalogue("a", group=name, mode="0640")))

    waiting = again(database, one)
    assert waiting.file_error == f"nie ma grupy „{name}” katalogu „a”; plik może czytać tylko właściciel"
    assert waiting.file_due_at is not None
    path = root / str(waiting.path)
    assert path.read_bytes() == content_of(database, one)
    assert (oct(mode(path)), oct(mode(path.parent)), oct(mode(root / "a"))) == ("0o600", "0o700", "0o700")
    assert again(database, other).file_error is None

    # Once the group is there (or out of the rules), the file is as it should be.
    group = another_group()
    run(filing_of(database, root, Catalogue("a", group=group.gr_name, mode="0640")), LATER)
    healed = again(database, one)
    assert (healed.file_error, healed.file_due_at, healed.path) == (None, None, waiting.path)
    assert (path.stat().st_gid, oct(mode(path)), oct(mode(path.parent))) == (group.gr_gid, "0o640", "0o2750")


def test_a_group_that_may_not_be_used_leaves_the_file_to_its_owner(
    sqlite_database: Database, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = another_group()
    one = put(sqlite_database, "a")

    def refused(*_: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refused)
    filing = filing_of(sqlite_database, root, Catalogue("a", group=group.gr_name, mode="0644"))
    run(filing)

    waiting = again(sqlite_database, one)
    assert waiting.file_error is not None
    assert waiting.file_error.startswith(f"bufor nie może nadać plikom grupy „{group.gr_name}”")
    path = root / str(waiting.path)
    assert (oct(mode(path)), oct(mode(path.parent))) == ("0o600", "0o700")


# Trouble


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "na dysku nie ma miejsca (folder „sklepy/7”)"),
        (errno.EACCES, "brak praw do zapisu (folder „sklepy/7”)"),
        (errno.EROFS, "dysk jest tylko do odczytu (folder „sklepy/7”)"),
        (errno.EIO, f"błąd zapisu: {os.strerror(errno.EIO)} (folder „sklepy/7”)"),
    ],
)
def test_trouble_with_one_file_is_its_own_and_pauses_longer_each_time(
    database: Database,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
    said: str,
) -> None:
    bad = put(database, content=b"<zly/>")
    good = [put(database) for _ in range(3)]
    real = os.write

    def failing(descriptor: int, content: Any) -> int:
        if bytes(content) == b"<zly/>":
            raise OSError(number, os.strerror(number))
        return real(descriptor, content)

    monkeypatch.setattr(os, "write", failing)
    filing = filing_of(database, root)
    with caplog.at_level(logging.WARNING):
        assert filing.step(NOW)

    assert all(again(database, one).path for one in good)
    failed = again(database, bad)
    assert (failed.path, failed.file_error, failed.file_attempts) == (None, said, 1)
    assert len(tree(root)) == 3, "no leftovers"
    assert said in caplog.text
    assert bad.ksef_number not in caplog.text
    assert not filing.step(NOW)

    pauses = []
    now = NOW
    for _ in range(12):
        due = filing.next_due()
        assert due is not None
        pauses.append((due - now).total_seconds())
        now = due
        assert filing.step(now)
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[1], pauses[-1]) == (5, 10, 600)

    monkeypatch.setattr(os, "write", real)
    run(filing, now + timedelta(hours=1))
    healed = again(database, bad)
    assert (healed.file_error, healed.file_attempts, healed.file_due_at) == (None, 0, None)
    assert len(tree(root)) == 4


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write_holds_only_its_own(sqlite_database: Database, root: Path) -> None:
    one, other = put(sqlite_database, "zamknięty"), put(sqlite_database, "otwarty")
    (root / "zamknięty").mkdir(parents=True, mode=0o555)
    run(filing_of(sqlite_database, root))
    assert "brak praw" in str(again(sqlite_database, one).file_error)
    assert again(sqlite_database, other).path is not None


def test_a_read_only_folder_holds_only_its_own(
    sqlite_database: Database, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = put(sqlite_database, "zamknięty"), put(sqlite_database, "otwarty")
    (root / "zamknięty").mkdir(parents=True)
    closed = (root / "zamknięty").stat().st_ino
    real = os.open

    def opening(path: Any, flags: int, *values: Any, dir_fd: int | None = None) -> int:
        if flags & os.O_CREAT and dir_fd is not None and os.fstat(dir_fd).st_ino == closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, flags, *values, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", opening)
    run(filing_of(sqlite_database, root))
    assert again(sqlite_database, one).file_error == "brak praw do zapisu (folder „zamknięty”)"
    assert again(sqlite_database, other).path is not None


def test_an_old_file_that_cannot_be_removed_is_tried_again(
    sqlite_database: Database, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = put(sqlite_database, "a")
    filing = filing_of(sqlite_database, root)
    run(filing)
    old = again(sqlite_database, one).path
    refile(sqlite_database, one, "b")
    real = os.unlink

    def failing(path: Any, *, dir_fd: int | None = None) -> None:
        if str(path).endswith(".xml"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        real(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", failing)
    run(filing)
    failed = again(sqlite_database, one)
    assert failed.path == old, "the old one is not forgotten"
    assert str(failed.file_error).startswith("nie można usunąć pliku z poprzedniego folderu: brak praw")

    # And should it go elsewhere by then, the one written meanwhile is not forgotten either.
    refile(sqlite_database, one, "c")
    monkeypatch.setattr(os, "unlink", real)
    run(filing, LATER)
    assert tree(root) == expected(sqlite_database, {one.id: "c"})
    assert noted(sqlite_database) is None


def test_a_folder_away_is_nobody_s_attempt(sqlite_database: Database, root: Path) -> None:
    root.write_bytes(b"to nie folder")
    one = put(sqlite_database)
    filing = filing_of(sqlite_database, root)
    for call in (filing.step, filing.prepare):
        with pytest.raises(FolderAway, match="Nie można użyć folderu faktur przychodzących"):
            call(NOW)
    assert (again(sqlite_database, one).file_attempts, again(sqlite_database, one).file_error) == (0, None)
    root.unlink()
    run(filing)
    assert again(sqlite_database, one).path is not None


def test_a_view_that_fails_holds_nothing_else(sqlite_database: Database, root: Path) -> None:
    class Broken:
        ending = ".pdf"
        works = False

        def make(self, content: bytes, facts: FileDue) -> bytes | None:
            if not self.works:
                raise ValueError("tajna treść")
            return b"%PDF"

    view = Broken()
    one, other = put(sqlite_database, "a"), put(sqlite_database, "a")
    filing = filing_of(sqlite_database, root, views=(view,))
    run(filing)
    failed = again(sqlite_database, one)
    assert failed.file_error == "błąd programu (ValueError)"
    assert (root / str(failed.path)).read_bytes() == content_of(sqlite_database, one)
    view.works = True
    run(filing, LATER)
    assert [again(sqlite_database, each).file_error for each in (one, other)] == [None, None]
    assert sum(path.endswith(".pdf") for path in tree(root)) == 2


def test_an_invoice_without_a_view_has_none(sqlite_database: Database, root: Path) -> None:
    class Sometimes(Words):
        def make(self, content: bytes, facts: FileDue) -> bytes | None:
            return None if facts.folder == "b" else super().make(content, facts)

    one = put(sqlite_database, "a")
    filing = filing_of(sqlite_database, root, views=(Sometimes(),))
    run(filing)
    assert len(tree(root)) == 2
    refile(sqlite_database, one, "b")
    run(filing)
    assert tree(root) == expected(sqlite_database, {one.id: "b"})


def test_refiled_while_it_is_written_it_moves_on(database: Database, root: Path) -> None:
    one, other = put(database, "a"), put(database, "a")

    class Meanwhile(Words):
        def make(self, content: bytes, facts: FileDue) -> bytes | None:
            if facts.id == one.id and facts.folder == "a":
                refile(database, one, "b")
            return super().make(content, facts)

    run(filing_of(database, root, views=(Meanwhile(),)))

    assert tree(root) == expected(database, {one.id: "b", other.id: "a"}, views=True)
    assert folders(root) == {"a", "b"}


def test_rights_changed_while_it_is_written_are_not_lost(sqlite_database: Database, root: Path) -> None:
    one = put(sqlite_database, "a")
    known = [Catalogue("a", mode="0644")]
    later = NOW + timedelta(seconds=1)

    class Meanwhile(Words):
        def make(self, content: bytes, facts: FileDue) -> bytes | None:
            if known[0].mode == "0644":
                known[0] = Catalogue("a", mode="0600")
                refile(sqlite_database, one, "a", at=later)
            return super().make(content, facts)

    filing = Filing(sqlite_database, root, lambda folder: catalogues(*known).catalogue_of(folder), (Meanwhile(),))
    run(filing)
    run(filing, later)
    assert oct(mode(root / str(again(sqlite_database, one).path))) == "0o600"


def test_names_that_differ_in_capitals_alone_lose_no_file(
    sqlite_database: Database, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A share that takes "Sklep" and "sklep" for one folder, played by a link that is followed."""
    one = put(sqlite_database, "Sklep")
    filing = filing_of(sqlite_database, root)
    run(filing)
    (root / "sklep").symlink_to("Sklep")
    monkeypatch.setattr(disk, "_FOLDER", disk._FOLDER & ~os.O_NOFOLLOW)
    refile(sqlite_database, one, "sklep")

    run(filing)

    assert (root / str(again(sqlite_database, one).path)).read_bytes() == content_of(sqlite_database, one)


def test_a_share_that_cannot_refuse_to_overwrite_is_asked_before(
    sqlite_database: Database, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = put(sqlite_database, "a"), put(sqlite_database, "a")
    (path, _) = expected(sqlite_database, {one.id: "a", other.id: "a"})
    (root / "a").mkdir(parents=True)
    (root / path).write_bytes(b"moje")

    def unsupported(*_: Any) -> int:
        disk.ctypes.set_errno(errno.EINVAL)
        return -1

    monkeypatch.setattr(disk, "_renameat2", unsupported)
    run(filing_of(sqlite_database, root))
    assert (root / path).read_bytes() == b"moje"
    assert len(tree(root)) == 3


def test_many_are_filed_in_steps_of_bounded_size(sqlite_database: Database, root: Path) -> None:
    ones = [put(sqlite_database, f"sklepy/{number % 7}") for number in range(250)]
    filing = filing_of(sqlite_database, root)
    assert filing.step(NOW)
    assert len(tree(root)) == 100
    run(filing)
    assert tree(root) == expected(sqlite_database, {one.id: one.folder for one in ones})


def test_thousands_are_filed_exactly(sqlite_database: Database, root: Path) -> None:
    with sqlite_database.transaction() as tx:
        keys = incoming.store(tx, [made() for _ in range(5000)], at=NOW, actor="test")
        judged = {row_id: judgement(f"sklepy/{row_id % 200}") for row_id in keys.values()}
        incoming.judge(tx, judged, at=NOW, actor="test", row=False)
    filing = filing_of(sqlite_database, root)
    run(filing)
    assert tree(root) == expected(sqlite_database, {row_id: one.folder for row_id, one in judged.items()})


def test_large_invoices_are_read_fewer_at_a_time(sqlite_database: Database) -> None:
    ones = [put(sqlite_database, content=b"x" * 1000) for _ in range(5)]
    with sqlite_database.reading() as tx:
        assert len(incoming.files_due(tx, NOW, limit=100, most_bytes=2500)) == 3
        assert len(incoming.files_due(tx, NOW, limit=100, most_bytes=1)) == 1, "one at least"
        assert [one.id for one in incoming.files_due(tx, NOW, limit=100)] == [one.id for one in ones]


def test_a_start_tidies_up_after_a_crash(sqlite_database: Database, root: Path) -> None:
    one, gone = put(sqlite_database, "b"), put(sqlite_database, "c")
    filing = filing_of(sqlite_database, root)
    run(filing)
    (root / "a" / "x").mkdir(parents=True)
    name = Path(str(again(sqlite_database, one).path)).name
    (root / "a" / "x" / name).write_bytes(content_of(sqlite_database, one))
    (root / "a" / "x" / ".ksefbuffer-1-file.part").write_bytes(b"<Fak")
    written = {str(one.id): f"a/x/{name.removesuffix('.xml')}", str(gone.id): "../../etc/passwd", "999": "a/y"}
    with sqlite_database.transaction() as tx:
        facts.put(tx, "filing", written, at=NOW)

    filing.prepare(NOW)

    assert tree(root) == expected(sqlite_database, {one.id: "b", gone.id: "c"})
    assert folders(root) == {"b", "c"}
    assert noted(sqlite_database) is None
