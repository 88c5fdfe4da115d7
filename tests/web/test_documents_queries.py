"""Lists, counts and searches of received invoices keep to what one may see, on both databases, and stay fast."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from ksefbuffer.errors import NoSuchThing, NotAllowedNow
from ksefbuffer.queue import folders, incoming, people, remarks
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.folders import Asked, Counted
from ksefbuffer.queue.incoming import Judgement
from tests.queue.test_incoming import made
from tests.samples import NOW

ALL = Asked(within=None)


def put(tx: Connection, folder: str = "sklepy/7", verdict: str = "zasadna", **changes: Any) -> int:
    (row_id,) = incoming.store(tx, [made(**changes)], at=NOW, actor="test").values()
    judged = {row_id: Judgement(folder, [], [], "", 1, verdict, [])}
    incoming.judge(tx, judged, at=NOW, actor="test", row=False)
    return row_id


def user(tx: Connection, login: str = "ola") -> int:
    return people.add_user(tx, login, admin=False, password_hash="-", at=NOW).id


NEIGHBOURS = ("sklepy/1", "sklepy/1/2026-11", "sklepy/10", "sklepy/2", "Sklepy/1", "sklepy", "s%lepy/1", "sklepy_1/x")


@pytest.mark.parametrize(
    ("within", "seen"),
    [
        (None, set(NEIGHBOURS)),
        (("",), set(NEIGHBOURS)),
        ((), set()),
        (("sklepy/1",), {"sklepy/1", "sklepy/1/2026-11"}),
        (("sklepy/1", "sklepy/2"), {"sklepy/1", "sklepy/1/2026-11", "sklepy/2"}),
        (("sklepy",), {"sklepy", "sklepy/1", "sklepy/1/2026-11", "sklepy/10", "sklepy/2"}),
        (("s%lepy/1",), {"s%lepy/1"}),
        (("sklepy_1",), {"sklepy_1/x"}),
        (("sklepy/1/2026",), set()),
        (("nie ma' OR 1=1 --",), set()),
    ],
)
def test_nothing_is_listed_counted_or_found_outside_ones_folders(
    database: Database, within: tuple[str, ...] | None, seen: set[str]
) -> None:
    with database.transaction() as tx:
        ids = {folder: put(tx, folder, search="hurtownia zolw") for folder in NEIGHBOURS}
        theirs = sorted((ids[folder] for folder in seen), reverse=True)
        for asked in (Asked(within), Asked(within, words="żółw")):
            assert folders.keys(tx, asked, limit=100) == theirs
            assert folders.count(tx, asked, most=100) == len(theirs)
        assert folders.permitted(tx, within, list(ids.values())) == theirs
        assert folders.counts(tx, within) == {folder: Counted(1, 0) for folder in seen}
        assert {one.folder for one in folders.listing(tx, Asked(within), limit=100)} == seen
        for row_id in theirs:
            near = set(folders.neighbours(tx, Asked(within), row_id)) - {None}
            assert near <= set(theirs)


def test_the_folder_asked_for_never_widens_what_is_allowed(database: Database) -> None:
    with database.transaction() as tx:
        ids = [put(tx, folder) for folder in NEIGHBOURS]
        assert folders.keys(tx, Asked(("sklepy/1",), folder="sklepy/2"), limit=9) == []
        assert folders.keys(tx, Asked(("sklepy/1",), folder="sklepy"), limit=9) == [ids[1], ids[0]]
        assert folders.keys(tx, Asked(None, folder="sklepy/1"), limit=9) == [ids[1], ids[0]]


def test_each_filter_finds_what_it_names_and_nothing_else(database: Database) -> None:
    with database.transaction() as tx:
        anna = user(tx, "anna")
        plain = put(tx)
        bad = put(tx, verdict="niezasadna")
        old = put(tx, issue_date=date(2026, 1, 5))
        undated = put(tx, issue_date=None)
        other = put(tx, seller_nip="2222222222")
        accepted = put(tx)
        incoming.decide(tx, incoming.get(tx, accepted), "accepted", "", at=NOW, actor="anna", row=False)
        remarks.tag(tx, plain, "pilne", at=NOW, actor="anna")
        remarks.book(tx, [bad], "2026-11", at=NOW, actor="anna")
        remarks.opened(tx, anna, old, at=NOW)
        every = {plain, bad, old, undated, other, accepted}

        def found(**asked: Any) -> set[int]:
            return set(folders.keys(tx, replace(ALL, **asked), limit=100))

        assert found(verdict="niezasadna") == {bad}
        assert found(until=date(2026, 1, 5)) == {old}
        assert found(since=date(2026, 1, 6)) == every - {old, undated}
        assert found(supplier="2222222222") == {other}
        assert found(decision="accepted") == {accepted}
        assert found(decision=folders.UNDECIDED) == every - {accepted}
        assert found(tag="pilne") == {plain}
        assert found(tag="piln") == set()
        assert found(booked="yes") == {bad}
        assert found(booked="no") == every - {bad}
        assert found(unread_by=anna) == every - {old}
        assert found(unread_by=anna, read_up_to=undated) == {other, accepted}
        assert found(words="?!") == set()


def test_pages_and_neighbours_follow_one_order_without_gaps(database: Database) -> None:
    with database.transaction() as tx:
        ids = [put(tx, "sklepy/1" if n % 3 else "sklepy/2", search="woda") for n in range(12)]
        theirs = [row_id for n, row_id in enumerate(ids) if n % 3][::-1]
        for asked in (Asked(("sklepy/1",)), Asked(("sklepy/1",), words="wod")):
            first = folders.keys(tx, asked, limit=3)
            rest = folders.keys(tx, asked, limit=100, before=first[-1])
            assert first + rest == theirs
            assert folders.neighbours(tx, asked, theirs[3]) == (theirs[2], theirs[4])
            assert folders.neighbours(tx, asked, theirs[0]) == (None, theirs[1])
            assert folders.neighbours(tx, asked, theirs[-1]) == (theirs[-2], None)
            assert folders.keys(tx, asked, limit=2, after=theirs[3]) == [theirs[2], theirs[1]]
        assert folders.count(tx, Asked(None), most=5) == 6


def test_the_tree_counts_everything_below_and_opens_only_where_one_looks(database: Database) -> None:
    with database.transaction() as tx:
        for folder in ("sklepy/9/a", "sklepy/10", "sklepy/10", "sklepy", "koszty"):
            put(tx, folder)
        tree = folders.grow(folders.counts(tx, None), chosen="sklepy/9", also=("puste/x",))
    named = {branch.path: branch for branch in tree}
    assert list(named) == ["koszty", "puste", "sklepy"]
    assert named["sklepy"].counted.total == 4
    assert named["puste"].counted.total == 0
    assert not named["koszty"].foldable
    assert [branch.name for branch in named["sklepy"].branches] == ["9", "10"]
    nine, ten = named["sklepy"].branches
    assert (nine.chosen, nine.open, [below.path for below in nine.branches]) == (True, True, ["sklepy/9/a"])
    assert (ten.chosen, ten.open, ten.branches, ten.counted.total) == (False, False, (), 2)


def test_what_is_unread_is_counted_for_each_user_alone(database: Database) -> None:
    with database.transaction() as tx:
        anna, ola = user(tx, "anna"), user(tx, "ola")
        ids = [put(tx, "a"), put(tx, "a"), put(tx, "b")]

        def unread(user_id: int, within: tuple[str, ...] | None = None) -> dict[str, int]:
            mark = remarks.read_up_to(tx, user_id)
            found = folders.counts(tx, within, user_id=user_id, read_up_to=mark)
            return {folder: counted.unread for folder, counted in found.items()}

        assert unread(anna) == {"a": 2, "b": 1}
        remarks.opened(tx, anna, ids[0], at=NOW)
        remarks.opened(tx, anna, ids[0], at=NOW)
        assert unread(anna) == {"a": 1, "b": 1}
        assert unread(anna, ("b",)) == {"b": 1}
        assert unread(ola) == {"a": 2, "b": 1}
        remarks.read_all(tx, anna, at=NOW)
        assert unread(anna) == {"a": 0, "b": 0}
        newest = put(tx, "b")
        assert unread(anna) == {"a": 0, "b": 1}
        assert remarks.unread_among(tx, anna, [*ids, newest]) == {newest}
        assert not remarks.is_read(tx, anna, newest)
        remarks.opened(tx, anna, newest, at=NOW)
        assert unread(anna) == {"a": 0, "b": 0}
        assert remarks.read_these(tx, ola, Asked(("a",), unread_by=ola), at=NOW) == 2
        assert unread(ola) == {"a": 0, "b": 2}


def test_remembered_counts_are_never_old(database: Database) -> None:
    remembered = folders.CountedBefore(most=2)

    def both(tx: Connection, user_id: int, within: tuple[str, ...] | None = None) -> dict[str, Counted]:
        mark = remarks.read_up_to(tx, user_id)
        found = remembered.of(tx, within, user_id=user_id, read_up_to=mark)
        assert found == folders.counts(tx, within, user_id=user_id, read_up_to=mark)
        return found

    with database.transaction() as tx:
        anna, ola = user(tx, "anna"), user(tx, "ola")
        assert both(tx, anna) == {}
        one = put(tx, "a")
        first = both(tx, anna)
        assert both(tx, anna) is first
        incoming.judge(tx, {one: Judgement("b", [], [], "", 1, "zasadna", [])}, at=NOW, actor="x", row=False)
        assert both(tx, anna) == {"b": Counted(1, 1)}
        remarks.opened(tx, anna, one, at=NOW)
        assert both(tx, anna) == {"b": Counted(1, 0)}
        assert both(tx, ola) == {"b": Counted(1, 1)}
        assert both(tx, ola, ("a",)) == {}
        remarks.read_all(tx, ola, at=NOW)
        assert both(tx, ola) == {"b": Counted(1, 0)}
        put(tx, "b")
        assert both(tx, ola) == both(tx, anna) == {"b": Counted(2, 1)}


def test_tags_are_known_only_from_what_one_may_see(database: Database) -> None:
    with database.transaction() as tx:
        here, there = put(tx, "a"), put(tx, "b")
        assert remarks.tag(tx, here, "  moja   etykieta ", at=NOW, actor="x")
        assert not remarks.tag(tx, here, "moja etykieta", at=NOW, actor="x")
        remarks.tag(tx, there, "cudza", at=NOW, actor="x")
        assert remarks.known_tags(tx, ("a",)) == ["moja etykieta"]
        assert remarks.known_tags(tx, None) == ["cudza", "moja etykieta"]
        assert remarks.known_tags(tx, ()) == []
        assert remarks.tags(tx, [here, there]) == {here: ["moja etykieta"], there: ["cudza"]}
        assert not remarks.untag(tx, here, "cudza")
        assert remarks.untag(tx, here, "moja etykieta")
        assert remarks.tags(tx, [here]) == {}


@pytest.mark.parametrize("wrong", ["", "  ", "x" * 61])
def test_a_tag_that_is_none_is_refused(database: Database, wrong: str) -> None:
    with database.transaction() as tx, pytest.raises(ValueError, match="no tag"):
        remarks.tag(tx, put(tx), wrong, at=NOW, actor="x")


def test_an_attachment_belongs_to_its_invoice_alone(database: Database) -> None:
    with database.transaction() as tx:
        one, other = put(tx), put(tx)
        kept = remarks.attach(tx, one, "../../etc/passwd", "text/html", b"<html>", at=NOW, actor="x")
        found, content = remarks.attachment(tx, one, kept)
        assert (found.name, content, found.size) == ("passwd", b"<html>", 6)
        for call in (remarks.attachment, remarks.detach):
            with pytest.raises(NoSuchThing):
                call(tx, other, kept)
        assert remarks.detach(tx, one, kept) == "passwd"
        assert remarks.attached(tx, one) == []


def test_there_is_an_end_to_what_is_attached(database: Database) -> None:
    with database.transaction() as tx:
        one = put(tx)
        for size in (0, remarks.MAX_ATTACHMENT_BYTES + 1):
            with pytest.raises(ValueError, match="no attachment"):
                remarks.attach(tx, one, "a", "", b"x" * size, at=NOW, actor="x")
        for number in range(remarks.MAX_ATTACHMENTS):
            remarks.attach(tx, one, f"{number}.txt", "", b"x", at=NOW, actor="x")
        with pytest.raises(NotAllowedNow):
            remarks.attach(tx, one, "za dużo", "", b"x", at=NOW, actor="x")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("umowa.pdf", "umowa.pdf"),
        ("C:\\Users\\ola\\umowa.pdf", "umowa.pdf"),
        ("a\r\nSet-Cookie: x.txt", "a__Set-Cookie: x.txt"),
        ("\u202egnp.exe", "_gnp.exe"),
        (" .. ", "plik"),
        ("", "plik"),
        ("ż" * 300 + ".pdf", "ż" * 196 + ".pdf"),
    ],
)
def test_a_files_name_is_kept_as_a_name_only(given: str, kept: str) -> None:
    assert remarks.plain_name(given) == kept


def test_an_invoice_is_in_the_books_of_one_month(database: Database) -> None:
    with database.transaction() as tx:
        one, other = put(tx), put(tx)
        remarks.book(tx, [one, other], "2026-10", at=NOW, actor="user:anna")
        remarks.book(tx, [one], "2026-11", at=NOW + timedelta(days=1), actor="user:ola")
        booked = remarks.booked(tx, [one, other])
        assert (booked[one].period, booked[one].by) == ("2026-11", "user:ola")
        assert booked[other].period == "2026-10"
        assert remarks.unbook(tx, one)
        assert not remarks.unbook(tx, one)
        assert list(remarks.booked(tx, [one, other])) == [other]


@pytest.mark.parametrize(
    "asked",
    [
        ALL,
        Asked(("sklepy/1",)),
        Asked(None, folder="sklepy", verdict="niezasadna", decision="accepted", supplier="1"),
        Asked(("a", "b"), since=date(2026, 1, 1), until=date(2026, 2, 1), words="woda mineralna"),
        Asked(None, booked="no", tag="x", unread_by=1),
    ],
)
def test_lists_never_pass_through_the_invoices_bytes(sqlite_database: Database, asked: Asked) -> None:
    """SQLite keeps what stands behind an invoice's bytes behind them: a million of those would be read for one page."""
    plans: list[str] = []

    def explain(_connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "incoming.folder" in statement or "incoming.id" in statement:
            cursor.execute("EXPLAIN QUERY PLAN " + statement, parameters)
            plans.extend(row[-1] for row in cursor.fetchall())

    with sqlite_database.reading() as tx:
        event.listen(sqlite_database.engine, "before_cursor_execute", explain)
        folders.keys(tx, asked, limit=50)
        folders.count(tx, asked, most=100)
        folders.counts(tx, asked.within, user_id=1)
        event.remove(sqlite_database.engine, "before_cursor_execute", explain)
    touching = [plan for plan in plans if plan.split()[1:2] == ["incoming"]]
    assert touching
    assert [plan for plan in touching if "COVERING INDEX" not in plan] == []


def test_the_narrow_index_is_there_on_both(database: Database) -> None:
    with database.reading() as tx:
        catalogue = (
            "sqlite_master WHERE type = 'index' AND name" if database.is_sqlite else "pg_indexes WHERE indexname"
        )
        found = tx.execute(text(f"SELECT count(*) FROM {catalogue} = 'ix_incoming_narrow'")).scalar_one()
    assert found == 1
