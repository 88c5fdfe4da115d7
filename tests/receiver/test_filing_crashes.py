"""Whatever moment the filing dies at, afterwards the folder holds exactly what the database says."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ksefbuffer.queue import incoming
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.incoming import Incoming
from ksefbuffer.receiver import disk
from ksefbuffer.receiver.filing import Filing
from ksefbuffer.receiver.placing import Placing
from ksefbuffer.receiver.shapes import Catalogue
from tests.receiver.stored import Words, again, catalogues, expected, folders, noted, put, refile, tree
from tests.samples import NOW

LATER = NOW + timedelta(hours=1)
EFFECTS = ("mkdir", "write", "fsync", "fchmod", "fchown", "rename", "unlink", "rmdir")


class Killed(BaseException):
    """The process died here."""


@dataclass
class Life:
    """Every effect on the disk and every commit, numbered; the one at ``dies_at`` kills, and nothing follows it."""

    dies_at: int = 0
    seen: list[str] = field(default_factory=list)
    dead: bool = False

    def meet(self, what: str) -> None:
        if self.dead:
            raise Killed(what)
        self.seen.append(what)
        if len(self.seen) == self.dies_at:
            self.dead = True
            raise Killed(what)


class CountedOs:
    """The operating system as ``disk`` sees it."""

    def __init__(self, life: Life) -> None:
        self._life = life

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in EFFECTS and name != "open":
            return real

        def effect(*values: Any, **named: Any) -> Any:
            if name == "open" and not values[1] & os.O_CREAT:
                return real(*values, **named)
            target = next((value for value in values if isinstance(value, str)), "")
            self._life.meet(f"before {name} {target}".strip())
            result = real(*values, **named)
            self._life.meet(f"after {name} {target}".strip())
            return result

        return effect


@dataclass
class Scene:
    """Invoices on their way: new ones, one that moves, one whose rights change, one that stays."""

    database: Database
    root: Path
    ones: list[Incoming]
    wanted: dict[int, str]

    def filing(self) -> Filing:
        known = catalogues(Catalogue("nowe", mode="0640"), Catalogue("te-same", mode="0600"))
        return Filing(self.database, self.root, known.catalogue_of, (Words(),))

    def finish(self) -> None:
        filing = self.filing()
        for _ in range(20):
            if not filing.step(LATER):
                return
        raise AssertionError("never done")

    def check(self) -> None:
        assert tree(self.root) == expected(self.database, self.wanted, views=True)
        used = {str(parent) for path in tree(self.root) for parent in Path(path).parents} - {"."}
        assert folders(self.root) == used, "no folder is left empty"
        recorded = {again(self.database, one).path for one in self.ones}
        assert recorded == {path for path in tree(self.root) if path.endswith(".xml")}
        assert noted(self.database) is None
        with self.database.reading() as tx:
            assert incoming.next_due(tx, "file") is None


@pytest.fixture
def scenes(migrated_sqlite: Path, tmp_path: Path) -> Iterator[Callable[[], Scene]]:
    """Each call gives the same scene anew."""
    template = tmp_path / "template"
    template.mkdir()
    shutil.copy(migrated_sqlite, template / "base.db")
    before = Database(f"sqlite:///{template / 'base.db'}")
    moves, stays, same = (put(before, folder) for folder in ("stare/7", "zostaje", "te-same"))
    filing = Filing(before, template / "incoming", lambda _: None, (Words(),))
    assert filing.step(NOW)
    refile(before, moves, "nowe/a/b")
    refile(before, same, "te-same")
    new = [put(before, folder) for folder in ("nowe/a/b", "inne")]
    ones = [moves, stays, same, *new]
    wanted = {moves.id: "nowe/a/b", stays.id: "zostaje", same.id: "te-same", new[0].id: "nowe/a/b", new[1].id: "inne"}
    before.close()
    opened: list[Database] = []

    def made() -> Scene:
        place = tmp_path / f"scene-{len(opened)}"
        shutil.copytree(template, place)
        database = Database(f"sqlite:///{place / 'base.db'}")
        opened.append(database)
        return Scene(database, place / "incoming", ones, dict(wanted))

    yield made
    for database in opened:
        database.close()


def live(scene: Scene, life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    """The filing's work until it is done or dies."""
    commit, rename_new = scene.database._commit, disk._renameat2

    def counted_commit(unit: Any) -> None:
        life.meet("before commit")
        commit(unit)
        life.meet("after commit")

    def counted_rename(*values: Any) -> int:
        life.meet("before rename_new")
        done: int = rename_new(*values)
        life.meet("after rename_new")
        return done

    with monkeypatch.context() as patch:
        patch.setattr(disk, "os", CountedOs(life))
        patch.setattr(disk, "_renameat2", counted_rename)
        patch.setattr(scene.database, "_commit", counted_commit)
        try:
            filing = scene.filing()
            while filing.step(NOW):
                pass
        except Killed:
            pass


def every_death(
    scenes: Callable[[], Scene], monkeypatch: pytest.MonkeyPatch, after: Callable[[Scene], None] = lambda _: None
) -> int:
    """Dies at each boundary in turn, then ``after`` happens, then all goes well; returns how many there were."""
    number = 0
    while True:
        number += 1
        scene, life = scenes(), Life(number)
        live(scene, life, monkeypatch)
        if not life.dead:
            return number - 1
        after(scene)
        try:
            scene.finish()
            scene.check()
        except AssertionError as error:
            raise AssertionError(f"died at {number}: {life.seen[-1]}\n{error}") from error


def files_elsewhere(scene: Scene) -> None:
    """What is written and not yet recorded goes somewhere else again."""
    moves, _, _, new, _ = scene.ones
    for one in (moves, new):
        refile(scene.database, one, "jeszcze/gdzie indziej", at=LATER)
        scene.wanted[one.id] = "jeszcze/gdzie indziej"


def files_back(scene: Scene) -> None:
    refile(scene.database, scene.ones[0], "stare/7", at=LATER)
    scene.wanted[scene.ones[0].id] = "stare/7"


@pytest.mark.crash
@pytest.mark.parametrize("after", [None, files_elsewhere, files_back])
def test_dying_anywhere_leaves_what_the_next_step_finishes(
    scenes: Callable[[], Scene], monkeypatch: pytest.MonkeyPatch, after: Callable[[Scene], None] | None
) -> None:
    assert every_death(scenes, monkeypatch, after or (lambda _: None)) > 100


@pytest.mark.crash
def test_dying_twice_leaves_what_the_next_step_finishes(
    scenes: Callable[[], Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    life = Life()
    live(scenes(), life, monkeypatch)
    pairs = [(first, second) for first in range(3, len(life.seen), 11) for second in range(1, len(life.seen), 7)]
    for first, second in pairs:
        scene = scenes()
        live(scene, Life(first), monkeypatch)
        files_elsewhere(scene)
        live(scene, Life(second), monkeypatch)
        scene.finish()
        scene.check()


@pytest.mark.crash
def test_a_file_is_whole_or_not_there_at_every_moment(
    scenes: Callable[[], Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    number = 0
    while True:
        number += 1
        scene, life = scenes(), Life(number)
        live(scene, life, monkeypatch)
        if not life.dead:
            return
        with scene.database.reading() as tx:
            contents = set(incoming.contents(tx, [one.id for one in scene.ones]).values())
        seen = {content for path, content in tree(scene.root).items() if path.endswith(".xml")}
        assert seen <= contents
        kept = {one.id for one in scene.ones if again(scene.database, one).path}
        for one in scene.ones:
            if one.id in kept and life.seen[-1] != "after commit":
                name = one.ksef_number
                assert any(name in path for path in tree(scene.root)), "what was there once is there always"


@pytest.mark.crash
def test_control_without_the_note_a_crash_leaves_a_file_nobody_knows(
    scenes: Callable[[], Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Filing, "_note", lambda *_: None)
    with pytest.raises(AssertionError, match="died at"):
        every_death(scenes, monkeypatch, files_elsewhere)


@pytest.mark.crash
def test_control_the_old_file_removed_first_may_be_the_last_one(
    scenes: Callable[[], Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Placing.write

    def hasty(placing: Placing, tasks: Any) -> None:
        placing.remove_old([task for task in tasks if task.is_elsewhere])
        write(placing, tasks)

    monkeypatch.setattr(Placing, "write", hasty)
    with pytest.raises(AssertionError, match="there always"):
        test_a_file_is_whole_or_not_there_at_every_moment(scenes, monkeypatch)


def test_what_must_survive_power_loss_is_durable_before_it_is_relied_on(
    scenes: Callable[[], Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contents before their name, names and folders before the old file goes, that before the database says so."""
    scene, life = scenes(), Life()
    synced: list[tuple[str, str]] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(("fsync", str(Path(f"/proc/self/fd/{descriptor}").readlink())))
        life.seen.append(f"synced {synced[-1][1]}")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    live(scene, life, monkeypatch)
    seen = life.seen

    def at(what: str, start: int = 0) -> int:
        return next(index for index, one in enumerate(seen) if index >= start and one.startswith(what))

    removed = at("before unlink 2026")
    for folder in ("", "/nowe", "/nowe/a", "/nowe/a/b"):
        assert f"synced {scene.root}{folder}" in seen[:removed]
    renamed = [
        index for index, one in enumerate(seen) if one == "before rename_new" or one.startswith("before rename ")
    ]
    for index in renamed:
        assert seen[index - 2].startswith("synced"), "the contents are durable before they get their name"
        assert ".ksefbuffer-" in seen[index - 2]
    unsynced = at(f"synced {scene.root}/stare/7", removed)
    assert unsynced < at("before commit", removed)
