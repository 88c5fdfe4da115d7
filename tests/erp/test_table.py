from __future__ import annotations

import re
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, text

from ksefbuffer.erp import table as table_module
from ksefbuffer.erp.ddl import DIALECTS, Dialect, ddl
from ksefbuffer.erp.table import OPTIONS, REQUIRED, TableAway, TableConnector, TableUnfit

XML = '<?xml version="1.0" encoding="UTF-8"?><Faktura>zażółć</Faktura>'
SENT = {
    "status": "wysłano",
    "status_code": "sent",
    "document_id": "0192",
    "ksef_number": "5265877635-20261120-0100001AF629-AF",
    "accepted_at": "2026-11-20T10:15:03.120Z",
    "upo_xml": b"<Potwierdzenie/>",
    "verification_url": "https://qr.example/invoice/x",
    "error_code": None,
    "error_message": None,
    "updated_at": "2026-11-20T10:15:04.000Z",
}


class Erp:
    """The ERP's side: its own connection to its own database."""

    def __init__(self, url: str, dialect: Dialect) -> None:
        self.url = url
        self.dialect = dialect
        self.engine = create_engine(url)

    def run(self, *statements: str, **values: Any) -> None:
        with self.engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement), values)

    def rows(self, query: str) -> list[dict[str, Any]]:
        with self.engine.connect() as connection:
            return [row._asdict() for row in connection.execute(text(query))]

    def create(self, outgoing: str = "ksef_outgoing", change: Callable[[str], str] = lambda sql: sql) -> None:
        # Without its comments, which may hold semicolons, the text falls into statements.
        bare = re.sub(r"--[^\n]*", "", change(ddl(self.dialect, outgoing)))
        self.run(*(statement for statement in bare.split(";") if statement.strip()))

    def open(self) -> Connection:
        return self.engine.connect()

    def connector(self, outgoing: str = "ksef_outgoing") -> TableConnector:
        return TableConnector(self.url, outgoing, buffer_name="ksefbuffer 5265877635")


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
def table(erp: Erp) -> Iterator[TableConnector]:
    erp.create()
    connector = erp.connector()
    yield connector
    connector.close()


def test_new_rows_are_claimed_and_claiming_changes_nothing(erp: Erp, table: TableConnector) -> None:
    erp.run(f"INSERT INTO ksef_outgoing (id, invoice_xml) VALUES ('FV/1', '{XML}')")
    erp.run(f"INSERT INTO ksef_outgoing (id, invoice_xml, status) VALUES ('FV/2', '{XML}', 'nowa')")
    erp.run(f"INSERT INTO ksef_outgoing (id, invoice_xml, status) VALUES ('FV/3', '{XML}', 'oczekuje')")
    before = erp.rows("SELECT * FROM ksef_outgoing ORDER BY id")

    claimed = table.claim(10)

    assert [row.row_id for row in claimed] == ["FV/1", "FV/2"]
    assert claimed[0].content == XML.encode()
    assert claimed[0].options == {}
    assert table.claim(10) == claimed, "what is not ours yet is offered again"
    assert erp.rows("SELECT * FROM ksef_outgoing ORDER BY id") == before


def test_a_marked_row_is_not_claimed_again(erp: Erp, table: TableConnector) -> None:
    erp.run(f"INSERT INTO ksef_outgoing (id, invoice_xml) VALUES ('1', '{XML}')")
    assert table.mark("1", {"status": "oczekuje", "status_code": "queued", "document_id": "0192"})
    assert table.claim(10) == []
    assert erp.rows("SELECT status, document_id FROM ksef_outgoing") == [{"status": "oczekuje", "document_id": "0192"}]


def test_marking_late_does_not_hide_an_answer_already_given(erp: Erp, table: TableConnector) -> None:
    erp.run(f"INSERT INTO ksef_outgoing (id, invoice_xml) VALUES ('1', '{XML}')")
    table.write_back("1", SENT)
    assert not table.mark("1", {"status": "oczekuje", "ksef_number": None})
    assert erp.rows("SELECT status FROM ksef_outgoing") == [{"status": "wysłano"}]


def test_writing_back_twice_leaves_the_same_row(erp: Erp, table: TableConnector) -> None:
    erp.run(f"INSERT INTO ksef_outgoing (id, invoice_xml) VALUES ('1', '{XML}'), ('2', '{XML}')")
    assert table.write_back("1", SENT)
    once = erp.rows("SELECT * FROM ksef_outgoing ORDER BY id")
    assert table.write_back("1", SENT)
    assert erp.rows("SELECT * FROM ksef_outgoing ORDER BY id") == once
    assert once[0]["upo_xml"] == "<Potwierdzenie/>"
    assert once[0]["ksef_number"] == SENT["ksef_number"]
    if erp.dialect == "postgresql":
        assert once[0]["accepted_at"].isoformat() == "2026-11-20T10:15:03.120000+00:00"
    else:
        assert once[0]["accepted_at"] == SENT["accepted_at"]
    assert once[1]["status"] is None, "the other row is untouched"


def test_an_answer_is_cleared_by_the_next_one(erp: Erp, table: TableConnector) -> None:
    erp.run(f"INSERT INTO ksef_outgoing (id, invoice_xml) VALUES ('1', '{XML}')")
    table.write_back("1", {**SENT, "status": "niepowodzenie", "error_code": "503", "error_message": "KSeF nie działa"})
    table.write_back("1", SENT)
    assert erp.rows("SELECT error_code, error_message FROM ksef_outgoing") == [
        {"error_code": None, "error_message": None}
    ]


def test_a_row_deleted_meanwhile_is_no_fault(erp: Erp, table: TableConnector) -> None:
    erp.run(f"INSERT INTO ksef_outgoing (id, invoice_xml) VALUES ('1', '{XML}')")
    assert len(table.claim(10)) == 1
    erp.run("DELETE FROM ksef_outgoing")
    assert not table.mark("1", {"status": "oczekuje"})
    assert not table.write_back("1", SENT)


def test_a_row_not_committed_yet_is_not_seen(erp: Erp, table: TableConnector) -> None:
    with erp.open() as open_connection:
        open_connection.execute(text(f"INSERT INTO ksef_outgoing (id, invoice_xml) VALUES ('1', '{XML}')"))
        assert table.claim(10) == []
        open_connection.rollback()
    assert table.claim(10) == []


def test_urgent_rows_come_first_and_the_limit_holds(erp: Erp, table: TableConnector) -> None:
    for number, priority in enumerate(["NULL", "'normal'", "'urgent'", "NULL"]):
        erp.run(f"INSERT INTO ksef_outgoing (id, invoice_xml, priority) VALUES ('{number}', '{XML}', {priority})")
    assert [row.row_id for row in table.claim(3)] == ["2", "0", "1"]


def test_options_have_the_shape_of_the_sidecar(erp: Erp, table: TableConnector) -> None:
    true = "TRUE" if erp.dialect == "postgresql" else "1"
    erp.run(
        "INSERT INTO ksef_outgoing (id, invoice_xml, priority, offline, corrects_sha256, reference) "
        f"VALUES ('1', '{XML}', 'urgent', {true}, 'ab', 'zam 7')"
    )
    assert table.claim(1)[0].options == {
        "priority": "urgent",
        "offline": True,
        "corrects_sha256": "ab",
        "reference": "zam 7",
    }


def test_invoices_stay_out_of_the_repr(erp: Erp, table: TableConnector) -> None:
    erp.run(f"INSERT INTO ksef_outgoing (id, invoice_xml, reference) VALUES ('1', '{XML}', 'tajne')")
    assert repr(table.claim(1)) == f"[TableInvoice(row_id='1', size={len(XML.encode())})]"


@pytest.mark.parametrize(
    ("sqlite", "postgresql", "value", "key"),
    [
        ("INTEGER", "BIGINT", 7, "7"),
        ("TEXT", "UUID", uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        ("NUMERIC", "NUMERIC(12)", 12, "12"),
        ("BLOB", "BYTEA", b"\x00\xff", "00ff"),
        ("UNIQUEIDENTIFIER", "VARCHAR(40)", "Ż/1", "Ż/1"),
        ("", "CHAR(8)", "abc", "abc"),
    ],
)
def test_ids_of_any_type_find_their_row_again(erp: Erp, sqlite: str, postgresql: str, value: Any, key: str) -> None:
    kind = sqlite if erp.dialect == "sqlite" else postgresql
    erp.create(change=lambda sql: re.sub(r"\n    id [A-Z]+(\(\d+\))?", f"\n    id {kind}", sql))
    if erp.dialect == "sqlite" and isinstance(value, uuid.UUID):
        value = str(value)
    erp.run("INSERT INTO ksef_outgoing (id, invoice_xml) VALUES (:id, :xml)", id=value, xml=XML)
    table = erp.connector()
    try:
        claimed = table.claim(1)
        assert claimed[0].row_id.strip() == key
        assert table.mark(claimed[0].row_id, {"status": "oczekuje"})
        assert table.write_back(claimed[0].row_id, SENT)
    finally:
        table.close()
    assert erp.rows("SELECT status FROM ksef_outgoing") == [{"status": "wysłano"}]


def test_an_integer_in_an_untyped_sqlite_column_is_found_too(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "erp.db").close()
    erp = Erp(f"sqlite:///{tmp_path / 'erp.db'}", "sqlite")
    erp.create(change=lambda sql: sql.replace("id TEXT NOT NULL PRIMARY KEY", "id"))
    erp.run("INSERT INTO ksef_outgoing (id, invoice_xml) VALUES (:id, :xml)", id=5, xml=XML)
    table = erp.connector()
    assert table.write_back(table.claim(1)[0].row_id, SENT)
    erp.engine.dispose()


def test_binary_and_text_columns_give_the_same_bytes(erp: Erp) -> None:
    binary = "BLOB" if erp.dialect == "sqlite" else "BYTEA"
    erp.create(change=lambda sql: re.sub(r"(invoice_xml|upo_xml) TEXT", rf"\1 {binary}", sql))
    content = XML.replace("UTF-8", "ISO-8859-2").encode("iso-8859-2")
    erp.run("INSERT INTO ksef_outgoing (id, invoice_xml) VALUES ('1', :xml)", xml=content)
    table = erp.connector()
    try:
        assert table.claim(1)[0].content == content
        table.write_back("1", SENT)
    finally:
        table.close()
    assert bytes(erp.rows("SELECT upo_xml FROM ksef_outgoing")[0]["upo_xml"]) == b"<Potwierdzenie/>"


def test_text_that_is_not_utf8_keeps_its_bytes_and_hides_no_other_row(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "erp.db") as raw:
        raw.executescript(ddl("sqlite"))
        raw.execute("INSERT INTO ksef_outgoing (id, invoice_xml) VALUES ('1', CAST(x'3cb13e' AS TEXT)), ('2', 'x')")
    raw.close()
    table = TableConnector(f"sqlite:///{tmp_path / 'erp.db'}", "ksef_outgoing", buffer_name="b")
    assert [row.content for row in table.claim(5)] == [b"<\xb1>", b"x"]


def test_an_invoice_not_written_yet_waits(erp: Erp) -> None:
    erp.create(change=lambda sql: sql.replace("invoice_xml TEXT NOT NULL", "invoice_xml TEXT"))
    erp.run("INSERT INTO ksef_outgoing (id) VALUES ('1')")
    table = erp.connector()
    try:
        assert table.claim(5) == []
        erp.run(f"UPDATE ksef_outgoing SET invoice_xml = '{XML}'")
        assert len(table.claim(5)) == 1
    finally:
        table.close()


def test_optional_columns_may_be_absent(erp: Erp) -> None:
    optional = "|".join(OPTIONS)
    erp.create(change=lambda sql: re.sub(rf"\n    ({optional}) [^\n]*", "", sql))
    erp.run(f"INSERT INTO ksef_outgoing (id, invoice_xml) VALUES ('1', '{XML}')")
    table = erp.connector()
    try:
        table.check()
        assert table.claim(5)[0].options == {}
    finally:
        table.close()


def test_missing_columns_are_named(erp: Erp) -> None:
    erp.create(change=lambda sql: re.sub(r"\n    (upo_xml|ksef_number) [^\n]*", "", sql, count=2))
    table = erp.connector()
    try:
        for call in (table.check, lambda: table.claim(1), lambda: table.write_back("1", SENT)):
            with pytest.raises(TableUnfit, match=r"brakuje kolumn: ksef_number, upo_xml\..*ksefbuffer table ddl"):
                call()
        # Mended while the daemon runs:
        erp.run("ALTER TABLE ksef_outgoing ADD COLUMN upo_xml TEXT")
        erp.run("ALTER TABLE ksef_outgoing ADD COLUMN ksef_number VARCHAR(36)")
        table.check()
    finally:
        table.close()


def test_a_column_dropped_meanwhile_is_told_and_then_named(erp: Erp, table: TableConnector) -> None:
    table.check()
    erp.run("ALTER TABLE ksef_outgoing RENAME COLUMN upo_xml TO upo")
    with pytest.raises((TableUnfit, TableAway)):
        table.write_back("1", SENT)
    with pytest.raises(TableUnfit, match="upo_xml"):
        table.write_back("1", SENT)


def test_an_absent_table_is_told_with_the_nearest_one(erp: Erp) -> None:
    erp.create()
    table = erp.connector("ksef_outgoin")
    try:
        with pytest.raises(
            TableUnfit, match=r"nie ma tabeli ksef_outgoin \(jest ksef_outgoing\).*ksefbuffer table ddl"
        ):
            table.check()
    finally:
        table.close()


@pytest.mark.parametrize("name", ['Do KSeF "2026"', "select", "Wychodzące"])
def test_odd_names_are_quoted(erp: Erp, name: str) -> None:
    erp.create(name)
    quoted = '"' + name.replace('"', '""') + '"'
    erp.run(f"INSERT INTO {quoted} (id, invoice_xml) VALUES ('1', '{XML}')")
    table = erp.connector(name)
    try:
        assert len(table.claim(1)) == 1
        assert table.write_back("1", SENT)
    finally:
        table.close()


def test_a_schema_in_front_is_followed(erp: Erp) -> None:
    schema = "main" if erp.dialect == "sqlite" else "Sklep 1"
    if erp.dialect == "postgresql":
        erp.run(f'CREATE SCHEMA "{schema}"')
    erp.create(f"{schema}.ksef_outgoing")
    erp.run(f"INSERT INTO \"{schema}\".ksef_outgoing (id, invoice_xml) VALUES ('1', '{XML}')")
    table = erp.connector(f"{schema}.ksef_outgoing")
    try:
        assert len(table.claim(1)) == 1
        assert table.write_back("1", SENT)
    finally:
        table.close()


def test_column_names_in_capitals_are_known(erp: Erp) -> None:
    names = "|".join((*REQUIRED, *OPTIONS))
    erp.create(
        change=lambda sql: re.sub(rf"\n    ({names}) ", lambda m: f'\n    "{m[1].upper()}" ', sql).replace(
            "(status)", '("STATUS")'
        )
    )
    erp.run(f"INSERT INTO ksef_outgoing (\"ID\", \"INVOICE_XML\") VALUES ('1', '{XML}')")
    table = erp.connector()
    try:
        assert len(table.claim(1)) == 1
        assert table.write_back("1", SENT)
    finally:
        table.close()


def test_native_time_columns_get_utc(erp: Erp) -> None:
    erp.create(
        change=lambda sql: re.sub(r"(accepted_at|updated_at) [A-Z]+(\(3\) WITH TIME ZONE)?", r"\1 TIMESTAMP", sql)
    )
    erp.run(f"INSERT INTO ksef_outgoing (id, invoice_xml) VALUES ('1', '{XML}')")
    if erp.dialect == "postgresql":
        erp.run(f"ALTER DATABASE {erp.engine.url.database} SET timezone = 'Asia/Tokyo'")
    table = erp.connector()
    try:
        table.write_back("1", {**SENT, "accepted_at": "2026-11-20T11:15:03.120+01:00"})
    finally:
        table.close()
    assert str(erp.rows("SELECT accepted_at FROM ksef_outgoing")[0]["accepted_at"]).startswith("2026-11-20 10:15:03.12")


def test_a_long_explanation_is_cut_to_a_short_column(erp: Erp) -> None:
    erp.create(change=lambda sql: sql.replace("error_message TEXT", "error_message VARCHAR(20)"))
    erp.run(f"INSERT INTO ksef_outgoing (id, invoice_xml) VALUES ('1', '{XML}')")
    table = erp.connector()
    try:
        table.write_back("1", {"error_message": "Duplikat faktury: " * 10})
    finally:
        table.close()
    told = erp.rows("SELECT error_message FROM ksef_outgoing")[0]["error_message"]
    assert told == "Duplikat faktury: D…"


def test_values_outside_the_contract_are_the_callers_mistake(erp: Erp, table: TableConnector) -> None:
    with pytest.raises(ValueError, match="invoice_xml"):
        table.write_back("1", {"invoice_xml": "x"})


def test_a_value_the_database_refuses_is_told_without_the_value(postgres_url: str) -> None:
    erp = Erp(postgres_url, "postgresql")
    erp.create(change=lambda sql: sql.replace("document_id VARCHAR(64)", "document_id VARCHAR(3)"))
    erp.run(f"INSERT INTO ksef_outgoing (id, invoice_xml) VALUES ('1', '{XML}')")
    table = erp.connector()
    try:
        with pytest.raises(TableUnfit) as caught:
            table.write_back("1", {**SENT, "document_id": "tajny-numer"})
    finally:
        table.close()
        erp.engine.dispose()
    assert "tajny" not in str(caught.value)
    assert "tajny" not in str(caught.value.__context__), "what a debugger would show"
    assert caught.value.__suppress_context__


def test_a_row_locked_by_the_erp_does_not_hold_the_buffer(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(table_module._LIMITS, "postgresql", "SET LOCAL lock_timeout = '50ms'")
    erp = Erp(postgres_url, "postgresql")
    erp.create()
    erp.run(f"INSERT INTO ksef_outgoing (id, invoice_xml) VALUES ('1', '{XML}')")
    table = erp.connector()
    try:
        with erp.open() as holding:
            # Were the buffer to wait for ever, the ERP would be cut off and this test fail instead of hanging.
            holding.execute(text("SET LOCAL idle_in_transaction_session_timeout = '10s'"))
            holding.execute(text("SELECT * FROM ksef_outgoing FOR UPDATE"))
            assert len(table.claim(5)) == 1, "reading waits for nobody"
            with pytest.raises(TableAway, match="niedostępna"):
                table.write_back("1", SENT)
        assert table.write_back("1", SENT)
    finally:
        table.close()
        erp.engine.dispose()


def test_the_shipped_limits_are_in_force(postgres_url: str) -> None:
    table = TableConnector(postgres_url, "ksef_outgoing", buffer_name="ksefbuffer 5265877635")
    try:
        with table._engine.connect() as connection:
            shown = [
                connection.execute(text(f"SHOW {name}")).scalar_one()
                for name in ("lock_timeout", "statement_timeout", "application_name")
            ]
    finally:
        table.close()
    assert shown == ["5s", "20s", "ksefbuffer 5265877635"]


def test_a_database_away_is_told_without_its_password() -> None:
    table = TableConnector("postgresql+psycopg://erp:Tajne1@127.0.0.1:1/erp", "ksef_outgoing", buffer_name="b")
    with pytest.raises(TableAway, match="Baza ERP jest niedostępna") as caught:
        table.claim(1)
    assert caught.value.exit_code == 3
    assert "Tajne1" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_password_that_the_server_repeats_is_masked(postgres_server: str) -> None:
    # Without passwords asked for, the server complains of the role; here its name is the password.
    place = postgres_server.partition("@")[2]
    table = TableConnector(f"postgresql+psycopg://Tajne1:Tajne1@{place}", "ksef_outgoing", buffer_name="b")
    with pytest.raises(TableAway, match=r'"\*\*\*"') as caught:
        table.claim(1)
    assert "Tajne1" not in str(caught.value)


def test_a_table_with_references_needs_only_itself(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "erp.db").close()
    erp = Erp(f"sqlite:///{tmp_path / 'erp.db'}", "sqlite")
    erp.create(change=lambda sql: sql.replace("reference TEXT", "reference TEXT REFERENCES orders (id)"))
    erp.connector().check()
    erp.engine.dispose()


def test_a_mistyped_sqlite_path_makes_no_empty_database(tmp_path: Path) -> None:
    table = TableConnector(f"sqlite:///{tmp_path / 'nie-ma.db'}", "ksef_outgoing", buffer_name="b")
    with pytest.raises(TableAway, match=r"Nie ma pliku bazy ERP .*nie-ma\.db"):
        table.claim(1)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "erp.db").write_text("to nie jest baza " * 100)
    table = TableConnector(f"sqlite:///{tmp_path / 'erp.db'}", "ksef_outgoing", buffer_name="b")
    with pytest.raises((TableAway, TableUnfit)):
        table.claim(1)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("to nie adres Tajne1", "niepoprawny"),
        ("oracle://u:Tajne1@h/x", "sterownika"),
        ("nic://u:Tajne1@h/x", "sterownika"),
    ],
)
def test_a_wrong_url_or_driver_is_a_matter_of_configuration(url: str, said: str) -> None:
    with pytest.raises(TableUnfit, match=said) as caught:
        TableConnector(url, "ksef_outgoing", buffer_name="b")
    assert caught.value.exit_code == 2
    assert "Tajne1" not in str(caught.value)


def test_taking_and_giving_go_on_at_the_same_time(erp: Erp, table: TableConnector) -> None:
    for number in range(20):
        erp.run(f"INSERT INTO ksef_outgoing (id, invoice_xml) VALUES ('{number:02}', '{XML}')")
    faults: list[BaseException] = []

    def give() -> None:
        try:
            for number in range(20):
                table.write_back(f"{number:02}", SENT)
        except BaseException as fault:
            faults.append(fault)

    giving = threading.Thread(target=give)
    giving.start()
    while giving.is_alive():
        table.claim(100)
    giving.join()
    assert faults == []
    assert table.claim(100) == []


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_ddl_has_every_column_that_the_connector_wants(dialect: Dialect) -> None:
    outgoing = ddl(dialect).split("Invoices received")[0]
    assert [name for name in (*REQUIRED, *OPTIONS) if f"\n    {name} " not in outgoing] == []


@pytest.mark.parametrize(
    ("dialect", "quoted"),
    [("mssql", "[dbo].[do ksef]"), ("mysql", "`dbo`.`do ksef`"), ("postgresql", '"dbo"."do ksef"')],
)
def test_the_ddl_quotes_names_as_its_dialect_does(dialect: Dialect, quoted: str) -> None:
    assert f"CREATE TABLE {quoted} (" in ddl(dialect, "dbo.do ksef")


def test_an_unknown_dialect_is_refused() -> None:
    with pytest.raises(ValueError, match="sqlite, postgresql, mssql, mysql"):
        ddl("oracle")  # type: ignore[arg-type]


def test_the_incoming_table_takes_an_invoice_once(erp: Erp) -> None:
    erp.create()
    insert = (
        "INSERT INTO ksef_incoming (ksef_number, gross, issue_date, invoice_xml) "
        "VALUES ('1', '12.30', '2026-11-20', 'x')"
    )
    erp.run(insert)
    with pytest.raises(Exception, match=r"(?i)unique"):
        erp.run(insert)
    assert str(erp.rows("SELECT gross FROM ksef_incoming")[0]["gross"]) == "12.30"
