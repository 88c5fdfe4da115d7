"""Received invoices reach the ERP's own table, each once, and none is lost while either database is away."""

from __future__ import annotations

import logging
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ksefbuffer.erp import table as table_module
from ksefbuffer.erp.ddl import DIALECTS, Dialect, ddl
from ksefbuffer.erp.handover import HandOver, row_of
from ksefbuffer.erp.table import ALSO_HANDED_OVER, HANDED_OVER, IncomingTable, RowRefused, TableAway, TableUnfit
from ksefbuffer.queue import incoming
from ksefbuffer.queue.db import Database, StorageFault
from tests.erp.test_table import Erp
from tests.receiver.stored import again, content_of, put
from tests.samples import NOW

LATER = NOW + timedelta(days=1)
ROW: dict[str, Any] = {
    "ksef_number": "5265877635-20261120-0100001AF629-AF",
    "seller_nip": "1111111111",
    "seller_name": "Żółw sp. z o.o.",
    "invoice_number": "FV/1",
    "issue_date": date(2026, 11, 20),
    "gross": Decimal("1234.5"),
    "currency": "PLN",
    "folder": "sklepy/7",
    "tags": "a,b",
    "verdict": "do wyjaśnienia",
    "invoice_xml": "<Faktura>zażółć</Faktura>".encode(),
    "received_at": datetime(2026, 11, 20, 9, 0, 0, 123456, tzinfo=UTC),
}
Change = Callable[[str], str]


@pytest.fixture(params=["sqlite", "postgresql"])
def erp(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Erp]:
    if request.param == "sqlite":
        sqlite3.connect(tmp_path / "erp.db").close()
        side = Erp(f"sqlite:///{tmp_path / 'erp.db'}", "sqlite")
    else:
        side = Erp(request.getfixturevalue("postgres_url"), "postgresql")
    yield side
    side.engine.dispose()


@pytest.fixture
def made(erp: Erp) -> Iterator[Callable[..., IncomingTable]]:
    """Creates the ERP's tables, changed if wanted, and the buffer's side of the incoming one."""
    opened: list[IncomingTable] = []

    def create(change: Change = lambda sql: sql) -> IncomingTable:
        erp.create(change=change)
        opened.append(IncomingTable(erp.url, "ksef_incoming", buffer_name="b"))
        return opened[-1]

    yield create
    for table in opened:
        table.close()


def kinds(**by_column: tuple[str, str]) -> Callable[[Erp], Change]:
    """Other types of columns of the incoming table: (SQLite's, PostgreSQL's)."""

    def of(erp: Erp) -> Change:
        def change(sql: str) -> str:
            outgoing, mark, rest = sql.partition("-- Invoices received")
            for column, (sqlite, postgresql) in by_column.items():
                kind = sqlite if erp.dialect == "sqlite" else postgresql
                rest = re.sub(
                    rf"\n    {column} [^\n]*?( NOT NULL(?: PRIMARY KEY)?)?(,?  --|,?\n)",
                    rf"\n    {column} {kind}\1\2",
                    rest,
                )
            return outgoing + mark + rest

        return change

    return of


def test_a_row_says_what_the_contract_says(erp: Erp, made: Callable[..., IncomingTable]) -> None:
    table = made()
    table.check()
    table.put({**ROW, "decision": "accepted", "roles": "buyer"})

    (row,) = erp.rows("SELECT * FROM ksef_incoming")
    if erp.dialect == "sqlite":
        assert row == {
            **ROW,
            "issue_date": "2026-11-20",
            "gross": "1234.50",
            "invoice_xml": "<Faktura>zażółć</Faktura>",
            "received_at": "2026-11-20T09:00:00.123Z",
            "picked_up": None,
        }
    else:
        assert row == {
            **ROW,
            "gross": Decimal("1234.50"),
            "invoice_xml": "<Faktura>zażółć</Faktura>",
            "received_at": datetime(2026, 11, 20, 9, 0, 0, 123000, tzinfo=UTC),
            "picked_up": None,
        }


def test_a_second_time_changes_the_row_but_never_what_is_the_erp_s(
    erp: Erp, made: Callable[..., IncomingTable]
) -> None:
    table = made()
    for number in ("A", "B"):
        table.put({**ROW, "ksef_number": number})
    erp.run("ALTER TABLE ksef_incoming ADD COLUMN booked_by TEXT")
    true = "TRUE" if erp.dialect == "postgresql" else "1"
    erp.run(f"UPDATE ksef_incoming SET picked_up = {true}, booked_by = 'Anna' WHERE ksef_number = 'A'")

    table.put({**ROW, "ksef_number": "A", "folder": "sklepy/8", "gross": None})

    rows = erp.rows("SELECT ksef_number, folder, gross, picked_up, booked_by FROM ksef_incoming ORDER BY 1")
    assert rows[0] == {"ksef_number": "A", "folder": "sklepy/8", "gross": None, "picked_up": 1, "booked_by": "Anna"}
    assert (rows[1]["folder"], rows[1]["picked_up"]) == ("sklepy/7", None)


def test_further_columns_are_written_where_the_table_has_them(erp: Erp, made: Callable[..., IncomingTable]) -> None:
    table = made()
    erp.run(*(f"ALTER TABLE ksef_incoming ADD COLUMN {name} TEXT" for name in ALSO_HANDED_OVER))
    more = {
        "decision": "rejected",
        "decision_comment": "nie nasza",
        "decided_at": NOW,
        "roles": "buyer,third",
        "invoice_type": "VAT",
        "buyer_nip": "2222222222",
    }
    table.put({**ROW, **more})
    (row,) = erp.rows(f"SELECT {', '.join(ALSO_HANDED_OVER)} FROM ksef_incoming")
    assert row == {**more, "decided_at": NOW.isoformat(timespec="milliseconds").replace("+00:00", "Z")}


def test_a_picked_up_that_must_not_be_null_starts_as_no(erp: Erp, made: Callable[..., IncomingTable]) -> None:
    table = made(kinds(picked_up=("INTEGER NOT NULL", "BOOLEAN NOT NULL"))(erp))
    table.put(ROW)
    assert erp.rows("SELECT picked_up FROM ksef_incoming") == [{"picked_up": 0}]


def test_a_default_of_the_erp_s_holds(erp: Erp, made: Callable[..., IncomingTable]) -> None:
    table = made(kinds(picked_up=("INTEGER NOT NULL DEFAULT 7", "INTEGER NOT NULL DEFAULT 7"))(erp))
    table.put(ROW)
    assert erp.rows("SELECT picked_up FROM ksef_incoming") == [{"picked_up": 7}]


def test_values_are_of_the_column_s_own_type(erp: Erp, made: Callable[..., IncomingTable]) -> None:
    change = kinds(
        issue_date=("TIMESTAMP", "TIMESTAMP"),
        received_at=("TIMESTAMP", "TIMESTAMP"),
        gross=("NUMERIC(18, 2)", "DOUBLE PRECISION"),
        invoice_xml=("BLOB", "BYTEA"),
    )
    table = made(change(erp))
    if erp.dialect == "postgresql":
        erp.run(f"ALTER DATABASE {erp.engine.url.database} SET timezone = 'Asia/Tokyo'")
    content = "<Faktura>ą</Faktura>".encode("iso-8859-2")
    table.put({**ROW, "invoice_xml": content})

    (row,) = erp.rows("SELECT issue_date, received_at, gross, invoice_xml FROM ksef_incoming")
    assert str(row["issue_date"]).startswith("2026-11-20 00:00:00")
    assert str(row["received_at"]).startswith("2026-11-20 09:00:00.123")
    assert row["gross"] == 1234.5
    assert bytes(row["invoice_xml"]) == content


def test_dates_and_times_of_other_kinds_fit_too(erp: Erp, made: Callable[..., IncomingTable]) -> None:
    change = kinds(issue_date=("TEXT", "VARCHAR(32)"), received_at=("DATE", "DATE"), gross=("REAL", "VARCHAR(32)"))
    table = made(change(erp))
    table.put(ROW)
    (row,) = erp.rows("SELECT issue_date, received_at, gross FROM ksef_incoming")
    assert (row["issue_date"], str(row["received_at"])) == ("2026-11-20", "2026-11-20")
    assert row["gross"] == (1234.5 if erp.dialect == "sqlite" else "1234.50")


@pytest.mark.parametrize("gross", ["0", "-0.01", "9999999999999999.99"])
def test_amounts_are_exact(erp: Erp, made: Callable[..., IncomingTable], gross: str) -> None:
    table = made()
    table.put({**ROW, "gross": Decimal(gross)})
    assert Decimal(erp.rows("SELECT gross FROM ksef_incoming")[0]["gross"]) == Decimal(gross)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\xef\xbb\xbf<a/>", "\ufeff<a/>"),
        ("<a>ą</a>".encode("utf-16"), "<a>ą</a>"),
        (b"<a>\xb1</a>", "<a>\ufffd</a>"),
        (b"<a>\0</a>", "<a>\ufffd</a>"),
    ],
)
def test_what_is_no_text_is_replaced_in_a_column_of_texts(
    erp: Erp, made: Callable[..., IncomingTable], content: bytes, text: str
) -> None:
    table = made()
    table.put({**ROW, "invoice_xml": content, "seller_name": "a\0b"})
    assert erp.rows("SELECT invoice_xml, seller_name FROM ksef_incoming") == [
        {"invoice_xml": text, "seller_name": "a\ufffdb"}
    ]


def test_what_people_read_is_cut_and_what_identifies_is_not(erp: Erp, made: Callable[..., IncomingTable]) -> None:
    table = made(kinds(seller_name=("VARCHAR(5)", "VARCHAR(5)"), invoice_number=("VARCHAR(5)", "VARCHAR(5)"))(erp))
    table.put(ROW)
    assert erp.rows("SELECT seller_name FROM ksef_incoming") == [{"seller_name": "Żółw…"}]
    with pytest.raises(RowRefused, match="invoice_number ma 11 znaków, a kolumna w tabeli ERP mieści 5") as caught:
        table.put({**ROW, "invoice_number": "tajny-numer"})
    assert "tajny" not in str(caught.value)


def test_a_missing_table_or_column_is_named(erp: Erp) -> None:
    erp.create()
    table = IncomingTable(erp.url, "ksef_incomin", buffer_name="b")
    with pytest.raises(
        TableUnfit, match=r"nie ma tabeli ksef_incomin \(jest ksef_incoming\).*table ddl.*table\.incoming"
    ):
        table.check()
    table.close()
    table = IncomingTable(erp.url, "ksef_incoming", buffer_name="b")
    erp.run("ALTER TABLE ksef_incoming RENAME COLUMN verdict TO ocena")
    for call in (table.check, lambda: table.put(ROW)):
        with pytest.raises(TableUnfit, match=r"brakuje kolumn: verdict\..*ksefbuffer table ddl"):
            call()
    erp.run("ALTER TABLE ksef_incoming RENAME COLUMN ocena TO verdict")
    table.put(ROW)
    table.close()


def test_a_column_gone_meanwhile_is_named(erp: Erp, made: Callable[..., IncomingTable]) -> None:
    table = made()
    table.check()
    erp.run("ALTER TABLE ksef_incoming RENAME COLUMN verdict TO ocena")
    with pytest.raises(TableUnfit):
        table.put(ROW)
    with pytest.raises(TableUnfit, match="verdict"):
        table.put(ROW)


def test_a_row_that_a_rule_of_the_erp_s_forbids_is_refused_alone(erp: Erp, made: Callable[..., IncomingTable]) -> None:
    table = made(lambda sql: sql.replace("    currency ", "    secret TEXT CHECK (currency <> 'XXX'),\n    currency "))
    with pytest.raises(RowRefused, match="ksef_incoming: ") as caught:
        table.put({**ROW, "currency": "XXX", "seller_name": "tajne"})
    assert caught.value.is_sure
    assert "tajne" not in str(caught.value)
    assert "tajne" not in repr(caught.value.__cause__)
    table.put(ROW)


def test_a_trigger_s_word_is_this_row_s_alone(postgres_url: str) -> None:
    erp = Erp(postgres_url, "postgresql")
    erp.create()
    with erp.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN IF NEW.currency = 'XXX' THEN RAISE EXCEPTION 'nie'; END IF; RETURN NEW; END $$"
        )
        connection.exec_driver_sql(
            "CREATE TRIGGER no BEFORE INSERT ON ksef_incoming FOR EACH ROW EXECUTE FUNCTION no()"
        )
    table = IncomingTable(erp.url, "ksef_incoming", buffer_name="b")
    with pytest.raises(RowRefused):
        table.put({**ROW, "currency": "XXX"})
    table.put(ROW)
    table.close()
    erp.engine.dispose()


def test_without_rights_the_table_is_unfit(postgres_url: str) -> None:
    erp = Erp(postgres_url, "postgresql")
    erp.create()
    role = f"reader_{erp.engine.url.database}"
    erp.run(f"CREATE ROLE {role} LOGIN", f"GRANT SELECT ON ksef_incoming TO {role}")
    table = IncomingTable(
        erp.engine.url.set(username=role).render_as_string(hide_password=False), "ksef_incoming", buffer_name="b"
    )
    with pytest.raises(TableUnfit, match="InsufficientPrivilege"):
        table.put(ROW)
    table.close()
    erp.run(f"DROP OWNED BY {role}", f"DROP ROLE {role}")
    erp.engine.dispose()


def test_two_nodes_that_insert_at_once_make_one_row(
    erp: Erp, made: Callable[..., IncomingTable], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = made()
    real = table_module.insert
    other = IncomingTable(erp.url, "ksef_incoming", buffer_name="b")

    def meanwhile(of: Any) -> Any:
        monkeypatch.setattr(table_module, "insert", real)
        worker = threading.Thread(target=other.put, args=({**ROW, "folder": "tamten"},))
        worker.start()
        worker.join()
        return real(of)

    monkeypatch.setattr(table_module, "insert", meanwhile)
    table.put(ROW)
    other.close()
    assert erp.rows("SELECT folder FROM ksef_incoming") == [{"folder": "sklepy/7"}]


def test_a_row_held_by_the_erp_does_not_hold_the_buffer(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(table_module._LIMITS, "postgresql", "SET LOCAL lock_timeout = '50ms'")
    erp = Erp(postgres_url, "postgresql")
    erp.create()
    table = IncomingTable(erp.url, "ksef_incoming", buffer_name="b")
    table.put(ROW)
    with erp.open() as holding:
        holding.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = '10s'")
        holding.exec_driver_sql("SELECT * FROM ksef_incoming FOR UPDATE")
        with pytest.raises(RowRefused) as caught:
            table.put(ROW)
    assert not caught.value.is_sure
    table.put(ROW)
    table.close()
    erp.engine.dispose()


def test_a_database_away_is_told_without_its_password() -> None:
    table = IncomingTable("postgresql+psycopg://erp:Tajne1@127.0.0.1:1/erp", "ksef_incoming", buffer_name="b")
    with pytest.raises(TableAway, match="Baza ERP jest niedostępna") as caught:
        table.put(ROW)
    assert "Tajne1" not in str(caught.value)


def test_a_value_outside_the_contract_is_the_caller_s_mistake(made: Callable[..., IncomingTable]) -> None:
    with pytest.raises(ValueError, match="picked_up"):
        made().put({**ROW, "picked_up": True})


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_ddl_has_every_column_that_is_written(dialect: Dialect) -> None:
    printed = ddl(dialect).split("Invoices received")[1]
    assert [name for name in HANDED_OVER if f"\n    {name} " not in printed] == []


# The duty


def rows(erp: Erp) -> dict[str, str]:
    return {row["ksef_number"]: row["folder"] for row in erp.rows("SELECT ksef_number, folder FROM ksef_incoming")}


def run(duty: HandOver, now: datetime = NOW) -> None:
    for _ in range(200):
        if not duty.step(now):
            return
    raise AssertionError("never done")


def test_every_invoice_is_handed_over_once(database: Database, erp: Erp, made: Callable[..., IncomingTable]) -> None:
    ones = [put(database, f"sklepy/{number}", row=True) for number in range(60)]
    duty = HandOver(database, made())
    assert duty.next_due() == NOW
    run(duty)
    assert rows(erp) == {one.ksef_number: one.folder for one in ones}
    assert duty.next_due() is None
    assert not duty.step(LATER)


def test_the_row_is_the_invoice_s(sqlite_database: Database) -> None:
    one = put(sqlite_database, "sklepy/7", seller_name="Żółw", roles=frozenset({"third", "buyer"}))
    row = row_of(one, b"<a/>")
    assert set(row) == {*HANDED_OVER, *ALSO_HANDED_OVER}
    assert row["tags"] == "pilne,karta"
    assert row["roles"] == "buyer,third"
    assert row["verdict"] == "zasadna"
    assert (row["invoice_xml"], row["gross"], row["received_at"]) == (b"<a/>", Decimal("1234.50"), NOW)


def test_a_decision_reaches_the_row(sqlite_database: Database, erp: Erp, made: Callable[..., IncomingTable]) -> None:
    one = put(sqlite_database, row=True)
    duty = HandOver(sqlite_database, made())
    erp.run("ALTER TABLE ksef_incoming ADD COLUMN decision TEXT")
    run(duty)
    with sqlite_database.transaction() as tx:
        incoming.decide(tx, one, "scam", "x", at=LATER, actor="a", row=True)
    run(duty, LATER)
    assert erp.rows("SELECT decision FROM ksef_incoming") == [{"decision": "scam"}]


def test_what_changes_while_it_is_written_is_written_again(
    sqlite_database: Database, erp: Erp, made: Callable[..., IncomingTable], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = put(sqlite_database, row=True)
    table = made()
    erp.run("ALTER TABLE ksef_incoming ADD COLUMN decision TEXT")
    real = table.put

    def meanwhile(row: Any) -> None:
        real(row)
        monkeypatch.setattr(table, "put", real)
        with sqlite_database.transaction() as tx:
            incoming.decide(tx, one, "accepted", "", at=LATER, actor="a", row=True)

    monkeypatch.setattr(table, "put", meanwhile)
    duty = HandOver(sqlite_database, table)
    run(duty)
    run(duty, LATER)
    assert erp.rows("SELECT decision FROM ksef_incoming") == [{"decision": "accepted"}]
    assert duty.next_due() is None


def test_while_the_erp_is_away_all_wait_and_one_line_says_so(
    database: Database, erp: Erp, made: Callable[..., IncomingTable], caplog: pytest.LogCaptureFixture
) -> None:
    ones = [put(database, row=True) for _ in range(3)]
    table = made()
    erp.run("ALTER TABLE ksef_incoming RENAME TO schowana")
    duty = HandOver(database, table)
    pauses, now = [], NOW
    with caplog.at_level(logging.WARNING):
        for _ in range(10):
            assert not duty.step(now)
            assert not duty.step(now), "not before the pause is over"
            due = duty.next_due()
            assert due is not None
            pauses.append((due - now).total_seconds())
            now = due
    assert (pauses[0], pauses[1], pauses[-1]) == (5, 10, 300)
    assert len(caplog.records) == 1
    assert "nie ma tabeli ksef_incoming" in duty.trouble
    assert [(again(database, one).row_attempts, again(database, one).row_error) for one in ones] == [(0, None)] * 3

    erp.run("ALTER TABLE schowana RENAME TO ksef_incoming")
    run(duty, now)
    assert len(rows(erp)) == 3
    assert duty.trouble == ""
    assert duty.next_due() is None


def test_a_refused_row_is_postponed_alone(
    sqlite_database: Database, erp: Erp, made: Callable[..., IncomingTable]
) -> None:
    table = made(lambda sql: sql.replace("    currency ", "    secret TEXT CHECK (currency <> 'XXX'),\n    currency "))
    bad = [put(sqlite_database, row=True, currency="XXX") for _ in range(5)]
    good = put(sqlite_database, row=True)
    duty = HandOver(sqlite_database, table)
    run(duty)
    assert list(rows(erp)) == [good.ksef_number]
    refused = again(sqlite_database, bad[0])
    assert "nie przyjmuje wiersza" in str(refused.row_error)
    assert (refused.row_attempts, refused.row_due_at) == (1, NOW + timedelta(seconds=5))
    assert duty.trouble == ""
    # The currency that the ERP does not know is let in.
    erp.run("DROP TABLE ksef_incoming")
    erp.run("DROP TABLE ksef_outgoing")
    erp.create()
    run(duty, LATER)
    assert len(rows(erp)) == 5
    assert again(sqlite_database, bad[0]).row_error is None


def test_when_row_after_row_fails_and_nobody_knows_why_the_duty_pauses(
    sqlite_database: Database, made: Callable[..., IncomingTable], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(10):
        put(sqlite_database, row=True)
    table = made()
    asked: list[str] = []

    def failing(row: Any) -> None:
        asked.append(row["ksef_number"])
        raise RowRefused("nie", action="", is_sure=False)

    monkeypatch.setattr(table, "put", failing)
    duty = HandOver(sqlite_database, table)
    assert not duty.step(NOW)
    assert len(asked) == 3
    assert duty.next_due() == NOW + timedelta(seconds=5)


def test_an_unforeseen_fault_is_one_row_s(
    sqlite_database: Database, erp: Erp, made: Callable[..., IncomingTable], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = put(sqlite_database, row=True), put(sqlite_database, row=True)
    table = made()
    real = table.put

    def failing(row: Any) -> None:
        if row["ksef_number"] == bad.ksef_number:
            raise KeyError("tajne")
        real(row)

    monkeypatch.setattr(table, "put", failing)
    run(HandOver(sqlite_database, table))
    assert list(rows(erp)) == [good.ksef_number]
    assert again(sqlite_database, bad).row_error == "błąd programu (KeyError)"


def test_our_own_database_away_loses_nothing(
    sqlite_database: Database, erp: Erp, made: Callable[..., IncomingTable], monkeypatch: pytest.MonkeyPatch
) -> None:
    ones = [put(sqlite_database, row=True) for _ in range(3)]
    duty = HandOver(sqlite_database, made())

    def away(_: Any) -> None:
        raise StorageFault("nie ma bazy", action="")

    with monkeypatch.context() as patch, pytest.raises(StorageFault):
        patch.setattr(sqlite_database, "_commit", away)
        duty.step(NOW)
    assert len(rows(erp)) == 3, "written, but not recorded"
    run(duty)
    assert rows(erp) == {one.ksef_number: one.folder for one in ones}
    assert duty.next_due() is None


def test_the_invoice_arrives_whole(database: Database, erp: Erp, made: Callable[..., IncomingTable]) -> None:
    content = "<Faktura>Zażółć\r\n gęślą</Faktura>\n".encode()
    one = put(database, row=True, content=content)
    run(HandOver(database, made()))
    (row,) = erp.rows("SELECT invoice_xml FROM ksef_incoming")
    assert row["invoice_xml"].encode() == content == content_of(database, one)
