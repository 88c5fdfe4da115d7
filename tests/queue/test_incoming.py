"""What is kept of received invoices, and how it is found again."""

from __future__ import annotations

import hashlib
from datetime import date, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

import pytest
from sqlalchemy import Connection, text

from ksefbuffer.errors import NoSuchThing
from ksefbuffer.queue import charts, folders, incoming, listing, pulls
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.folders import Asked
from ksefbuffer.queue.incoming import Judgement, NewIncoming, Wanted, search_words
from ksefbuffer.web.access import within
from tests.samples import NIP, NOW

_numbers = count(1)
SELLER = "1111111111"


def made(**changes: Any) -> NewIncoming:
    number = next(_numbers)
    content = f"<Faktura>{number}</Faktura>".encode()
    values: dict[str, Any] = {
        "ksef_number": f"{SELLER}-20261120-{number:012X}-00",
        "sha256": hashlib.sha256(content).hexdigest(),
        "content": content,
        "meta": "{}",
        "roles": frozenset({"buyer"}),
        "form": "FA (3)",
        "invoice_number": f"FS/{number}",
        "number_key": f"fs/{number}",
        "invoice_type": "VAT",
        "issue_date": date(2026, 11, 20),
        "seller_nip": SELLER,
        "seller_name": "Dąb",
        "buyer_nip": NIP,
        "currency": "PLN",
        "gross": Decimal("1234.50"),
        "invoiced_at": NOW,
        "acquired_at": NOW,
        "stored_at_ksef": "2026-11-20T09:00:00.1234567+00:00",
        "mode": "Online",
        "damage": [],
        "likeness": "",
        "search": "",
    }
    return NewIncoming(**{**values, **changes})


def put(tx: Connection, folder: str = "sklepy/7", **changes: Any) -> incoming.Incoming:
    (row_id,) = incoming.store(tx, [made(**changes)], at=NOW, actor="test").values()
    judged = {row_id: Judgement(folder, [], [], "", 1, "zasadna", [])}
    incoming.judge(tx, judged, at=NOW, actor="test", row=False)
    return incoming.get(tx, row_id)


def test_an_invoice_is_stored_once_whatever_its_roles(database: Database) -> None:
    one = made()
    with database.transaction() as tx:
        assert len(incoming.store(tx, [one], at=NOW, actor="a")) == 1
        assert incoming.store(tx, [one], at=NOW, actor="b") == {}
        stored = incoming.find(tx, one.ksef_number)
        assert incoming.add_roles(tx, stored, frozenset({"third"}), at=NOW, actor="b") == {"buyer", "third"}
        assert incoming.find(tx, one.ksef_number).roles == {"buyer", "third"}
        assert incoming.content(tx, stored.id) == one.content
        assert [event["event"] for event in incoming.history(tx, stored.id)] == ["stored", "role"]


@pytest.mark.parametrize(
    "amount", ["0", "0.01", "-12.30", "9999999999999999.99", "-9999999999999999.99", "1234.5", None]
)
def test_amounts_are_exact(database: Database, amount: str | None) -> None:
    gross = None if amount is None else Decimal(amount)
    with database.transaction() as tx:
        assert put(tx, gross=gross).gross == gross


def test_an_amount_that_no_invoice_can_hold_is_none(database: Database) -> None:
    with database.transaction() as tx:
        assert put(tx, gross=Decimal("1e30")).gross is None
        assert put(tx, gross=Decimal("NaN")).gross is None


def words(text_: str) -> str:
    return " ".join(search_words(text_))


@pytest.mark.parametrize(
    "asked", ["żółw", "ZOLW", "fv/7", "7/2026 żół", "1 234,50", "1234.5", "111-111", "2026-11-20", "sp. z o.o."]
)
def test_a_word_s_beginning_finds_it(database: Database, asked: str) -> None:
    with database.transaction() as tx:
        wanted = put(
            tx, search=words("FV/7/2026 Hurtownia „Żółw” sp. z o.o. 111-111-11-11 1 234,50 1234,50 2026-11-20")
        )
        put(tx, search=words("FV/8/2025 Inna SA 222-222-22-22 99,00 2025-01-01"))
        assert [one.id for one in incoming.listing(tx, Wanted(words=asked))] == [wanted.id]


@pytest.mark.parametrize("asked", ["-", '"', "zolw OR inna", "' ; DROP TABLE incoming", "żółw nie ma"])
def test_no_search_text_breaks_the_search(database: Database, asked: str) -> None:
    with database.transaction() as tx:
        put(tx, search=words("Żółw"))
        assert incoming.listing(tx, Wanted(words=asked)) == []


def test_changed_words_are_found_anew(database: Database) -> None:
    with database.transaction() as tx:
        one = put(tx, search="stare")
        tx.execute(text("UPDATE incoming SET search = 'nowe'"))
        assert incoming.listing(tx, Wanted(words="stare")) == []
        assert [found.id for found in incoming.listing(tx, Wanted(words="nowe"))] == [one.id]


def test_a_folder_means_its_subfolders_and_nothing_else(database: Database) -> None:
    with database.transaction() as tx:
        inside = [put(tx, folder=folder).id for folder in ("sklepy", "sklepy/7", "sklepy/7/wz")]
        for folder in ("sklepy2", "sklep", "inne/sklepy", "s_lepy/7"):
            put(tx, folder=folder)
        assert sorted(one.id for one in incoming.listing(tx, Wanted(folder="sklepy"))) == inside
        assert incoming.listing(tx, Wanted(folder="%")) == []


NAMESAKES = (
    *("sklepy/a", "sklepy/A", "sklepy/a/x", "sklepy/A/x", "Sklepy/a/x", "sklepy/a0", "sklepy/a!/x", "sklepy"),
    *("s%/a", "s%/a/x", "sab/a/x", "s_/a", "s_/a/x", "sx/a/x", "s\\/a", "s\\/a/x", "żółć/a", "ŻÓŁĆ/a", "zolc/a"),
)


@pytest.mark.parametrize(
    "asked", [*NAMESAKES, "s%", "s_", "s\\", "żółć", "SKLEPY", "%", "_", "sklepy/a/", "' OR 1=1 --"]
)
def test_a_folder_is_known_by_its_very_letters(database: Database, asked: str) -> None:
    with database.transaction() as tx:
        theirs = [one for one in (put(tx, folder=folder) for folder in NAMESAKES) if within(one.folder, asked)]
        numbers = [one.id for one in theirs]
        assert sorted(one.id for one in incoming.listing(tx, Wanted(folder=asked))) == numbers
        assert incoming.keys_of(tx, Wanted(folder=asked)) == numbers
        assert incoming.count(tx, Wanted(folder=asked)) == len(numbers)
        assert [one.id for one in listing.received(tx, folders=[asked], limit=99)] == numbers
        assert listing.received(tx, folders=[asked], since=NOW, limit=99) == theirs
        assert folders.keys(tx, Asked((asked,)), limit=99) == numbers[::-1]
        assert charts.received_between(tx, [NOW, NOW + timedelta(days=1)], [asked]) == [len(numbers)]


def test_lists_are_paged_without_gaps(database: Database) -> None:
    with database.transaction() as tx:
        made_ids = [put(tx).id for _ in range(7)]
        first = [one.id for one in incoming.listing(tx, limit=4)]
        rest = [one.id for one in incoming.listing(tx, limit=4, before=first[-1])]
        assert first + rest == made_ids[::-1]
        assert incoming.keys_of(tx, after=made_ids[2], limit=2) == made_ids[3:5]
        assert incoming.count(tx) == 7


def test_the_number_of_ksef_1_is_found_either_way(database: Database) -> None:
    with database.transaction() as tx:
        one = put(tx, ksef_number="1111111111-20230101-ABCDEFABCDEF-01")
        assert incoming.find(tx, "1111111111-20230101-abcdef-ABCDEF-01").id == one.id
        with pytest.raises(NoSuchThing):
            incoming.find(tx, "nie ma")


def test_the_archive_answers_by_keys(database: Database) -> None:
    with database.transaction() as tx:
        advance = put(tx, invoice_type="ZAL")
        plain = put(tx, likeness="a" * 64, keys=frozenset({("delivery", "WZ1"), ("account", "12"), ("account", "34")}))
        correction = put(
            tx, invoice_type="KOR", keys=frozenset({("corrected", plain.ksef_number), ("delivery", "WZ1")})
        )
        both = {("corrected", plain.ksef_number), ("corrected", advance.ksef_number)}
        put(tx, invoice_type="KOR", keys=frozenset(both))
        settled = put(tx, invoice_type="ROZ", keys=frozenset({("advance", advance.ksef_number)}))
        stranger = put(tx, seller_nip="2222222222", keys=frozenset({("delivery", "WZ1"), ("account", "56")}))

        def numbers(found: list[incoming.Found]) -> list[str]:
            return [one.ksef_number for one in found]

        long_ago = date(2020, 1, 1)
        (delivered,) = incoming.delivered(tx, SELLER, ["WZ1", "WZ2"], long_ago)
        assert (delivered.ksef_number, delivered.keys) == (plain.ksef_number, {"WZ1"})
        assert incoming.delivered(tx, SELLER, ["WZ1"], date(2026, 11, 21)) == []
        assert numbers(incoming.corrections(tx, plain.ksef_number)) == [correction.ksef_number]
        assert numbers(incoming.settlements(tx, [advance.ksef_number])) == [settled.ksef_number]
        ((pair, alike),) = incoming.alike(tx, [(SELLER, "a" * 64), ("2222222222", "a" * 64)]).items()
        assert (pair, numbers(alike)) == ((SELLER, "a" * 64), [plain.ksef_number])
        key = stranger.invoice_number.lower()
        assert list(incoming.numbered(tx, [("2222222222", key), (SELLER, key)])) == [("2222222222", key)]
        assert incoming.deliveries_named(tx, ["WZ1", "WZ2"]) == {"WZ1"}
        assert incoming.accounts(tx, [SELLER]) == {SELLER: {"12": NOW, "34": NOW}}
        incoming.decide(tx, plain, "scam", "", at=NOW, actor="a", row=False)
        assert incoming.accounts(tx, [SELLER]) == {}
        incoming.decide(tx, plain, "accepted", "", at=NOW, actor="a", row=False)
        assert incoming.accounts(tx, [SELLER]) == {SELLER: {"12": NOW, "34": NOW}}
        assert incoming.folder_of(tx, [], SELLER, [plain.invoice_number.lower()]) == "sklepy/7"
        assert incoming.folder_of(tx, ["nie ma"], SELLER, ["nie ma"]) is None


def test_a_file_filed_anew_while_it_was_written_stays_due(database: Database) -> None:
    with database.transaction() as tx:
        one = put(tx, folder="a")
        (due,) = incoming.files_due(tx, NOW, limit=10)
        judged = {one.id: Judgement("b", [], [], "", 1, "zasadna", [])}
        incoming.judge(tx, judged, at=NOW, actor="a", row=False)
        incoming.filed(tx, {one.id: (due.folder, "a/x.xml")})
        (again,) = incoming.files_due(tx, NOW, limit=10)
        assert (again.folder, again.path) == ("b", "a/x.xml")
        incoming.filed(tx, {one.id: ("b", "b/x.xml")})
        assert incoming.files_due(tx, NOW, limit=10) == []
        assert incoming.file_all_again(tx, at=NOW) == 1


def test_a_row_that_changed_while_it_was_written_stays_due(database: Database) -> None:
    later = NOW + timedelta(seconds=1)
    with database.transaction() as tx:
        (row_id,) = incoming.store(tx, [made()], at=NOW, actor="test").values()
        judged = {row_id: Judgement("a", [], [], "", 1, "zasadna", [])}
        incoming.judge(tx, judged, at=NOW, actor="test", row=True)
        (due,) = incoming.rows_due(tx, NOW, limit=10)
        incoming.decide(tx, due, "accepted", "ok", at=later, actor="a", row=True)
        incoming.row_written(tx, due)
        (again,) = incoming.rows_due(tx, later, limit=10)
        assert again.decision == "accepted"
        incoming.row_written(tx, again)
        assert incoming.next_due(tx, "row") is None


def test_the_story_of_an_invoice_is_append_only(database: Database) -> None:
    with database.transaction() as tx:
        put(tx)
    for statement in ("DELETE FROM incoming_events", "UPDATE incoming_events SET note = 'x'"):
        with pytest.raises(Exception, match="append-only"), database.transaction() as tx:
            tx.execute(text(statement))


def test_one_export_of_a_kind_runs_at_a_time_and_its_key_goes_with_it(database: Database) -> None:
    def begun(tx: Connection) -> int:
        return pulls.begin_export(
            tx, "buyer", "pull", date_type="PermanentStorage", start="2026", end="", secret=b"s" * 48, at=NOW
        )

    with database.transaction() as tx:
        export = begun(tx)
    with pytest.raises(Exception, match=r"uq_exports_running|UNIQUE"), database.transaction() as tx:
        begun(tx)
    with database.transaction() as tx:
        pulls.started(tx, export, "REF", next_look_at=NOW)
        (running,) = pulls.unfinished(tx)
        assert (running.reference, running.secret) == ("REF", b"s" * 48)
        pulls.finish(tx, export, brought=3)
        assert pulls.unfinished(tx) == []
        begun(tx)


def test_a_cursor_keeps_every_digit(database: Database) -> None:
    with database.transaction() as tx:
        pulls.begin(tx, "buyer", "2026-02-01T00:00:00Z", at=NOW)
        pulls.begin(tx, "buyer", "2027", at=NOW)
        position = "2026-11-20T09:00:00.1234567+00:00"
        pulls.move(tx, "buyer", position, at=NOW, due_at=NOW, brought=2, caught_up=True)
        moved = pulls.cursor(tx, "buyer")
        assert moved is not None
        assert (moved.position, moved.brought, moved.caught_up_at) == (position, 2, NOW)
        pulls.postpone(tx, "buyer", due_at=NOW, problem="KSeF milczy", failed=True)
        pulls.rescanned(tx, "buyer", "day", at=NOW)
        (after,) = pulls.all_cursors(tx)
        assert (after.failures, after.problem, set(after.rescans)) == (1, "KSeF milczy", {"day"})


def test_the_newest_rulebook_is_in_force(database: Database) -> None:
    with database.transaction() as tx:
        assert pulls.rulebook(tx) is None
        assert pulls.keep_rulebook(tx, "a", at=NOW, actor="x", note="") == 1
        assert pulls.keep_rulebook(tx, "b", at=NOW, actor="x", note="") == 2
        newest, first = pulls.rulebook(tx), pulls.rulebook(tx, 1)
        assert newest is not None
        assert first is not None
        assert (newest.content, first.content, pulls.rulebook_version(tx)) == ("b", "a", 2)
