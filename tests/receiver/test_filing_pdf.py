"""With ``pdf = true`` a printed page lies beside the file of each received invoice, and goes where it goes."""

from __future__ import annotations

import hashlib
import logging
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import zxingcpp

from ksefbuffer.queue import facts, incoming, pages
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.incoming import FileDue
from ksefbuffer.receiver.filing import Filing
from ksefbuffer.receiver.printing import PrintedInvoice
from ksefbuffer.receiver.shapes import Catalogue
from tests.offline.printed_pages import picture, text_of
from tests.receiver.stored import Words, again, catalogues, content_of, expected, mode, put, refile, tree
from tests.receiver.test_filing_crashes import Life, Scene, every_death, files_back, files_elsewhere, live, scenes
from tests.samples import NOW, invoice

__all__ = ["scenes"]

LATER = NOW + timedelta(hours=1)
QR = "https://qr-test.ksef.mf.gov.pl"


@dataclass
class Leaf:
    """A page that costs nothing, and counts how often it was made."""

    ending: str = ".pdf"
    made: list[str] = field(default_factory=list)
    before: Callable[[FileDue], None] = lambda facts: None

    def make(self, content: bytes, facts: FileDue) -> bytes | None:
        self.made.append(facts.ksef_number)
        self.before(facts)
        return None if b"<pusty/>" in content else b"%PDF " + facts.ksef_number.encode()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "incoming"


def started(database: Database, root: Path, page: Any, *known: Catalogue) -> Filing:
    """As after a start of the daemon."""
    filing = Filing(database, root, catalogues(*known).catalogue_of, page=page)
    filing.prepare(NOW)
    return filing


def run(filing: Filing, now: datetime = NOW) -> None:
    for _ in range(80):
        if not filing.step(now):
            return
    raise AssertionError("never done")


def with_pages(files: dict[str, bytes]) -> dict[str, bytes]:
    """What must lie there when each invoice has its leaf."""
    leaves = {f"{path[:-4]}.pdf": b"%PDF " + path[:-4].rpartition("_")[2].encode() for path in files}
    return {**files, **leaves}


def due_pages(database: Database, now: datetime = LATER) -> list[int]:
    with database.reading() as tx:
        return [one.facts.id for one in pages.incoming_due(tx, now, limit=1000, most_bytes=10**9)]


def test_the_page_says_what_the_invoice_says_and_leads_to_it(database: Database, root: Path) -> None:
    content = invoice("FV/7/2026", seller_name="Łódzka Przędzalnia S.A.", buyer_name="Żabka Młyńska", lines=3)
    at = datetime(2026, 11, 20, 8, 30, tzinfo=UTC)
    one = put(
        database, "sklepy/7", content=content, invoice_number="FV/7/2026", seller_nip="5265877635", acquired_at=at
    )
    run(started(database, root, PrintedInvoice(QR)))

    files = tree(root)
    assert sorted(Path(path).suffix for path in files) == [".pdf", ".xml"]
    assert len({path[:-4] for path in files}) == 1
    pdf = next(content for path, content in files.items() if path.endswith(".pdf"))
    said = text_of(pdf)
    gross = content.split(b"<P_15>")[1].split(b"<")[0].decode().replace(".", ",")
    for text in ("FV/7/2026", "Łódzka Przędzalnia S.A.", "Żabka Młyńska", one.ksef_number, "20.11.2026 09:30"):
        assert text in said
    assert gross in said.replace(" ", "")
    digest = urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    (code,) = zxingcpp.read_barcodes(picture(pdf))
    assert one.issue_date is not None
    assert code.text == f"{QR}/invoice/5265877635/{one.issue_date:%d-%m-%Y}/{digest}"


def test_three_hundred_invoices_are_all_filed_before_the_first_is_printed(
    sqlite_database: Database, root: Path
) -> None:
    ones = [
        put(sqlite_database, f"sklepy/{number % 7}", content=invoice(f"FV/{number}", seed=number, lines=1))
        for number in range(300)
    ]
    filed_before: list[int] = []

    class Watching(PrintedInvoice):
        def make(self, content: bytes, facts: FileDue) -> bytes | None:
            if not filed_before:
                filed_before.append(len(list(root.rglob("*.xml"))))
            return super().make(content, facts)

    run(started(sqlite_database, root, Watching(QR)))

    assert filed_before == [300]
    files = tree(root)
    invoices = expected(sqlite_database, {one.id: one.folder for one in ones})
    assert {path: content for path, content in files.items() if path.endswith(".xml")} == invoices
    printed = {path: content for path, content in files.items() if path.endswith(".pdf")}
    assert set(printed) == {f"{path[:-4]}.pdf" for path in invoices}
    assert all(content.startswith(b"%PDF-") for content in printed.values())
    assert len(set(printed.values())) == 300
    assert due_pages(sqlite_database) == []


def test_what_comes_while_pages_are_printed_is_filed_next(sqlite_database: Database, root: Path) -> None:
    for _ in range(50):
        put(sqlite_database, "a")
    leaf = Leaf()
    filing = started(sqlite_database, root, leaf)
    while not leaf.made:
        assert filing.step(NOW)
    so_far = len(leaf.made)
    assert so_far < 50
    late = put(sqlite_database, "pilne")

    assert filing.step(NOW)

    assert again(sqlite_database, late).path is not None
    assert len(leaf.made) == so_far, "no page was made in between"


def test_a_page_moves_with_its_invoice(database: Database, root: Path) -> None:
    one, other = put(database, "a/b"), put(database, "a/b")
    filing = started(database, root, Leaf())
    run(filing)
    assert tree(root) == with_pages(expected(database, {one.id: "a/b", other.id: "a/b"}))
    refile(database, one, "c")

    run(filing)

    assert tree(root) == with_pages(expected(database, {one.id: "c", other.id: "a/b"}))


def test_switched_on_later_what_lies_there_is_printed(database: Database, root: Path) -> None:
    ones = {put(database, f"a/{number}").id: f"a/{number}" for number in range(25)}
    run(started(database, root, None))
    files = expected(database, ones)
    assert tree(root) == files

    run(started(database, root, Leaf()))

    assert tree(root) == with_pages(files)
    leaf = Leaf()
    run(started(database, root, leaf))
    assert leaf.made == [], "a further start prints nothing again"


def test_switched_off_the_pages_go_and_nothing_else(database: Database, root: Path) -> None:
    ones = {put(database, f"a/{number}").id: f"a/{number}" for number in range(25)}
    run(started(database, root, Leaf()))
    (root / "a" / "notatki.pdf").write_bytes(b"moje")
    moved = put(database, "b")
    run(started(database, root, Leaf()))

    off = started(database, root, None)
    # Re-filed before its page was taken away.
    refile(database, moved, "c")
    run(off)

    assert tree(root) == {**expected(database, {**ones, moved.id: "c"}), "a/notatki.pdf": b"moje"}
    new = put(database, "d")
    run(off)
    assert tree(root) == {**expected(database, {**ones, moved.id: "c", new.id: "d"}), "a/notatki.pdf": b"moje"}

    run(started(database, root, Leaf()))
    files = expected(database, {**ones, moved.id: "c", new.id: "d"})
    assert tree(root) == {**with_pages(files), "a/notatki.pdf": b"moje"}


def test_what_was_never_printed_is_never_touched(sqlite_database: Database, root: Path) -> None:
    one = put(sqlite_database, "a")
    run(started(sqlite_database, root, None))
    (path,) = tree(root)
    mine = root / f"{path[:-4]}.pdf"
    mine.write_bytes(b"skan z podpisem")
    refile(sqlite_database, one, "b")

    run(started(sqlite_database, root, None))

    assert mine.read_bytes() == b"skan z podpisem"
    with sqlite_database.reading() as tx:
        assert facts.get(tx, "incoming_printed") is None


def test_what_cannot_be_printed_has_no_page_and_is_not_tried_in_a_loop(
    sqlite_database: Database, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = put(sqlite_database, "a", content=b"to nie jest faktura, tylko tajny tekst")
    good = put(sqlite_database, "a", content=invoice())
    tried: list[int] = []

    class Counting(PrintedInvoice):
        def make(self, content: bytes, facts: FileDue) -> bytes | None:
            tried.append(facts.id)
            return super().make(content, facts)

    page = Counting(QR)
    with caplog.at_level(logging.WARNING):
        filing = started(sqlite_database, root, page)
        run(filing)
        for hours in (1, 2, 30):
            assert not filing.step(NOW + timedelta(hours=hours))
        run(started(sqlite_database, root, page), LATER)

    assert sorted(tried) == sorted([bad.id, good.id])
    assert filing.next_due() is None
    assert sorted(Path(path).suffix for path in tree(root)) == [".pdf", ".xml", ".xml"]
    assert f"incoming={bad.id} has no printed page" in caplog.text
    assert "tajny" not in caplog.text

    # Only once it is filed anew.
    refile(sqlite_database, bad, "b")
    run(filing)
    assert tried.count(bad.id) == 2


def test_a_page_that_became_impossible_is_taken_away(sqlite_database: Database, root: Path) -> None:
    one = put(sqlite_database, "a", content=b"<f><pusty/></f>")

    class Optimist(Leaf):
        def make(self, content: bytes, facts: FileDue) -> bytes | None:
            return b"%PDF"

    run(started(sqlite_database, root, Optimist()))
    assert len(tree(root)) == 2
    with sqlite_database.transaction() as tx:
        incoming.file_all_again(tx, at=NOW)
    run(started(sqlite_database, root, Leaf()))
    assert tree(root) == expected(sqlite_database, {one.id: "a"})


def test_a_rebuild_brings_pages_back_and_leaves_alone_what_is_right(sqlite_database: Database, root: Path) -> None:
    ones = {put(sqlite_database, "a").id: "a" for _ in range(3)}
    filing = started(sqlite_database, root, Leaf())
    run(filing)
    kept, gone, damaged = sorted(root.rglob("*.pdf"))
    inode = kept.stat().st_ino
    gone.unlink()
    damaged.write_bytes(b"zepsuty")
    with sqlite_database.transaction() as tx:
        incoming.file_all_again(tx, at=NOW)

    run(filing)

    assert tree(root) == with_pages(expected(sqlite_database, ones))
    assert kept.stat().st_ino == inode


def test_equal_invoices_give_equal_pages(sqlite_database: Database, root: Path) -> None:
    put(sqlite_database, "a", content=invoice())
    page = PrintedInvoice(QR)
    run(started(sqlite_database, root, page))
    (pdf,) = root.rglob("*.pdf")
    before = pdf.stat()
    with sqlite_database.transaction() as tx:
        incoming.file_all_again(tx, at=NOW)
    run(started(sqlite_database, root, page))
    assert pdf.stat().st_ino == before.st_ino


def test_somebody_s_page_is_not_overwritten(
    sqlite_database: Database, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = put(sqlite_database, "a")
    (path,) = expected(sqlite_database, {one.id: "a"})
    (root / "a").mkdir(parents=True)
    (root / f"{path[:-4]}.pdf").write_bytes(b"moje")

    run(started(sqlite_database, root, Leaf()))

    # Both names move on, as with every view.
    assert again(sqlite_database, one).path == f"{path[:-4]}.2.xml"
    assert (root / f"{path[:-4]}.pdf").read_bytes() == b"moje"
    assert (root / f"{path[:-4]}.2.pdf").read_bytes().startswith(b"%PDF")


def test_somebody_s_page_beside_an_invoice_filed_before_stays(sqlite_database: Database, root: Path) -> None:
    one = put(sqlite_database, "a")
    run(started(sqlite_database, root, None))
    link = root / f"{str(again(sqlite_database, one).path)[:-4]}.pdf"
    link.symlink_to(root / "gdzie indziej.pdf")

    filing = started(sqlite_database, root, Leaf())
    run(filing)

    assert link.is_symlink()
    assert not link.exists()
    due = filing.next_due()
    assert due is not None
    assert due > NOW, "it is tried again, later"
    link.unlink()
    run(filing, LATER)
    assert tree(root) == with_pages(expected(sqlite_database, {one.id: "a"}))


def test_a_page_waits_for_an_invoice_that_somebody_took_away(
    sqlite_database: Database, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = put(sqlite_database, "a"), put(sqlite_database, "a")
    run(started(sqlite_database, root, None))
    taken = root / str(again(sqlite_database, one).path)
    content = taken.read_bytes()
    taken.unlink()
    leaf = Leaf()
    filing = started(sqlite_database, root, leaf)

    with caplog.at_level(logging.WARNING):
        run(filing)

    assert leaf.made == [other.ksef_number]
    assert "nie ma pliku XML" in caplog.text
    taken.write_bytes(content)
    run(filing, LATER)
    assert tree(root) == with_pages(expected(sqlite_database, {one.id: "a", other.id: "a"}))


def test_a_fault_with_one_page_is_its_own_and_pauses_longer_each_time(sqlite_database: Database, root: Path) -> None:
    bad, good = put(sqlite_database, "a"), put(sqlite_database, "a")

    def failing(facts: FileDue) -> None:
        if facts.id == bad.id:
            raise ValueError("tajna treść")

    filing = started(sqlite_database, root, Leaf(before=failing))
    run(filing)

    assert len(list(root.rglob("*.xml"))) == 2
    assert [path.read_bytes() for path in root.rglob("*.pdf")] == [b"%PDF " + good.ksef_number.encode()]
    assert again(sqlite_database, bad).file_error is None, "its file is all right"
    pauses, now = [], NOW
    for _ in range(4):
        due = filing.next_due()
        assert due is not None
        pauses.append((due - now).total_seconds())
        now = due
        run(filing, now)
    assert pauses == [5, 10, 20, 40]


def test_pages_have_the_rights_of_their_folder(sqlite_database: Database, root: Path) -> None:
    one = put(sqlite_database, "a")
    run(started(sqlite_database, root, Leaf(), Catalogue("a", mode="0640")))
    path = root / str(again(sqlite_database, one).path)
    assert oct(mode(path)) == oct(mode(path.with_suffix(".pdf"))) == "0o640"


def test_an_unknown_group_leaves_the_page_to_its_owner_and_it_is_made_once(
    sqlite_database: Database, root: Path
) -> None:
    one = put(sqlite_database, "a")
    leaf = Leaf()
    filing = started(sqlite_database, root, leaf, Catalogue("a", group="nie-ma-takiej", mode="0640"))
    for hours in range(4):
        run(filing, NOW + timedelta(hours=hours))
    path = root / str(again(sqlite_database, one).path)
    assert oct(mode(path.with_suffix(".pdf"))) == "0o600"
    assert leaf.made == [one.ksef_number]


# Crashes


@dataclass
class PrintedScene(Scene):
    """The scene of the files' crashes, printed as well: printing is switched on in it."""

    def filing(self) -> Filing:
        known = catalogues(Catalogue("nowe", mode="0640"), Catalogue("te-same", mode="0600"))
        filing = Filing(self.database, self.root, known.catalogue_of, (Words(),), Leaf())
        filing.prepare(NOW)
        return filing

    def check(self) -> None:
        files = expected(self.database, self.wanted, views=True)
        xml = {path: content for path, content in files.items() if path.endswith(".xml")}
        assert tree(self.root) == {**files, **with_pages(xml)}
        assert due_pages(self.database) == []
        with self.database.reading() as tx:
            assert facts.get(tx, "filing") is None
            assert incoming.next_due(tx, "file") is None


@pytest.fixture
def printed_scenes(scenes: Callable[[], Scene]) -> Callable[[], Scene]:
    return lambda: PrintedScene(**vars(scenes()))


@pytest.fixture
def moving_scenes(printed_scenes: Callable[[], Scene]) -> Callable[[], Scene]:
    """All of it printed before, and two invoices on their way again."""

    def made() -> Scene:
        scene = printed_scenes()
        scene.finish()
        for one, folder in ((scene.ones[0], "dalej"), (scene.ones[1], "dalej/jeszcze")):
            refile(scene.database, one, folder)
            scene.wanted[one.id] = folder
        return scene

    return made


@pytest.mark.crash
@pytest.mark.parametrize("after", [None, files_elsewhere, files_back])
def test_dying_anywhere_leaves_each_invoice_with_its_page(
    printed_scenes: Callable[[], Scene], monkeypatch: pytest.MonkeyPatch, after: Callable[[Scene], None] | None
) -> None:
    assert every_death(printed_scenes, monkeypatch, after or (lambda _: None)) > 150


@pytest.mark.crash
@pytest.mark.parametrize("after", [None, files_elsewhere])
def test_dying_while_printed_invoices_move_leaves_no_page_behind(
    moving_scenes: Callable[[], Scene], monkeypatch: pytest.MonkeyPatch, after: Callable[[Scene], None] | None
) -> None:
    assert every_death(moving_scenes, monkeypatch, after or (lambda _: None)) > 50


@pytest.mark.crash
def test_a_page_is_whole_or_not_there_at_every_moment(
    printed_scenes: Callable[[], Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    number = 0
    while True:
        number += 1
        scene, life = printed_scenes(), Life(number)
        live(scene, life, monkeypatch)
        if not life.dead:
            return
        for path, content in tree(scene.root).items():
            if path.endswith(".pdf"):
                assert content == b"%PDF " + path[:-4].rpartition("_")[2].encode()


def test_an_xml_s_bytes_stay_as_ksef_gave_them(sqlite_database: Database, root: Path) -> None:
    one = put(sqlite_database, "a", content=invoice())
    run(started(sqlite_database, root, PrintedInvoice(QR)))
    assert (root / str(again(sqlite_database, one).path)).read_bytes() == content_of(sqlite_database, one)
