"""The ERP's table, full circle: a row in, the number and the receipt back into the same row."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text

from ksefbuffer.erp.ddl import ddl
from ksefbuffer.erp.table import TableAway
from ksefbuffer.queue import deliveries, documents
from ksefbuffer.queue.db import Database
from tests.conftest import Shop
from tests.samples import a_nip, invoice


class Erp:
    """The ERP and its own database."""

    def __init__(self, engine: Engine, url: str, dialect: Any) -> None:
        self.engine, self.url = engine, url
        bare = re.sub(r"--[^\n]*", "", ddl(dialect))
        with engine.begin() as connection:
            for statement in filter(str.strip, bare.split(";")):
                connection.execute(text(statement))

    def run(self, statement: str, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(statement), values)

    def put(self, row_id: Any, content: bytes | str, **options: Any) -> None:
        columns = ["id", "invoice_xml", *options]
        self.run(
            f"INSERT INTO ksef_outgoing ({', '.join(columns)}) VALUES ({', '.join(f':{name}' for name in columns)})",
            id=str(row_id),
            invoice_xml=content if isinstance(content, str) else content.decode(),
            **options,
        )

    def row(self, row_id: Any) -> dict[str, Any]:
        with self.engine.connect() as connection:
            found = connection.execute(text("SELECT * FROM ksef_outgoing WHERE id = :id"), {"id": str(row_id)}).one()
            return found._asdict()


@pytest.fixture(params=["sqlite", "postgresql"])
def erp(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Erp]:
    url = f"sqlite:///{tmp_path / 'erp.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    engine = create_engine(url)
    yield Erp(engine, url, request.param)
    engine.dispose()


@pytest.fixture
def shop(make_shop: Callable[..., Shop], erp: Erp) -> Shop:
    return make_shop(f'[table]\nenabled = true\nurl = "{erp.url}"')


def as_bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


def test_a_row_gets_its_number_and_its_receipt(shop: Shop, erp: Erp) -> None:
    erp.put(7, invoice(), reference="WZ/1", priority="urgent")
    shop.work()

    row = erp.row(7)
    (sent,) = shop.sandbox.accepted()
    assert (row["status"], row["status_code"], row["ksef_number"]) == ("wysłano", "sent", sent.ksef_number)
    assert str(sent.ksef_number).encode() in as_bytes(row["upo_xml"])
    assert row["verification_url"].startswith("https://")
    assert (row["error_code"], row["error_message"]) == (None, None)
    with shop.database.reading() as tx:
        (document,) = documents.listing(tx)
    assert document.urgent
    assert row["document_id"] == document.document_id
    # Nothing of a row goes into the folders.
    assert list(shop.outbox.iterdir()) == []


def test_a_bad_row_is_told_why(shop: Shop, erp: Erp) -> None:
    erp.put(1, invoice(nip=a_nip(3)))
    erp.put(2, "to nie jest faktura")
    erp.put(3, invoice(number="3"), priority="asap")
    erp.put(4, invoice(number="4"))
    shop.work()

    assert [erp.row(n)["status_code"] for n in (1, 2, 3, 4)] == ["error", "error", "error", "sent"]
    assert [erp.row(n)["status"] for n in (1, 2, 3)] == ["błąd"] * 3
    assert [erp.row(n)["error_code"] for n in (1, 2, 3)] == ["D01", "B04", "OPCJE"]
    assert all(erp.row(n)["error_message"] for n in (1, 2, 3))


def test_a_row_not_committed_is_not_seen_and_one_rolled_back_never_was(shop: Shop, erp: Erp) -> None:
    with erp.engine.connect() as connection:
        transaction = connection.begin()
        connection.execute(
            text("INSERT INTO ksef_outgoing (id, invoice_xml) VALUES ('1', :xml)"), {"xml": invoice().decode()}
        )
        assert shop.buffer.rows is not None
        if erp.engine.dialect.name == "postgresql":
            # SQLite's readers would wait for this writer.
            assert not shop.buffer.rows.take_in(shop.clock())
        transaction.rollback()
    shop.work()

    with shop.database.reading() as tx:
        assert documents.listing(tx) == []


def test_a_row_given_again_by_a_restored_database_is_answered_and_not_sent_again(shop: Shop, erp: Erp) -> None:
    erp.put(7, invoice())
    shop.work()
    before = erp.row(7)
    erp.run("DELETE FROM ksef_outgoing")
    erp.put(7, invoice())
    shop.work()

    assert {**erp.row(7), "updated_at": None} == {**before, "updated_at": None}
    assert len(shop.sandbox.invoices()) == 1


def test_a_row_removed_by_its_erp_is_no_trouble(shop: Shop, erp: Erp) -> None:
    erp.put(7, invoice())
    assert shop.buffer.rows is not None
    shop.buffer.rows.take_in(shop.clock())
    erp.run("DELETE FROM ksef_outgoing")
    shop.work()

    assert len(shop.sandbox.accepted()) == 1
    with shop.database.reading() as tx:
        assert deliveries.next_due(tx) is None


def test_a_row_whose_invoice_was_mended_speaks_for_the_new_one_only(shop: Shop, erp: Erp) -> None:
    erp.put(7, invoice(number="stara", nip=a_nip(3)))
    erp.put(8, invoice(number="inna"))
    shop.work()
    assert erp.row(7)["status_code"] == "error"
    erp.run("UPDATE ksef_outgoing SET invoice_xml = :xml, status = 'nowa' WHERE id = '7'", xml=invoice().decode())
    shop.work()

    assert erp.row(7)["status_code"] == "sent"
    assert erp.row(7)["error_code"] is None
    with shop.database.transaction() as tx:
        for document in documents.listing(tx):
            documents.tell(tx, document.id, at=shop.clock())
    shop.work()
    assert erp.row(7)["status_code"] == "sent"


def test_a_row_changed_while_its_first_invoice_was_on_its_way_is_answered_too(shop: Shop, erp: Erp) -> None:
    shop.sandbox.outage()
    erp.put(7, invoice(number="pierwsza"))
    shop.buffer.rows.take_in(shop.clock())  # type: ignore[union-attr]
    shop.buffer.dispatch.step()
    erp.run("UPDATE ksef_outgoing SET invoice_xml = :xml, status = NULL WHERE id = '7'", xml=invoice("druga").decode())
    shop.buffer.rows.take_in(shop.clock())  # type: ignore[union-attr]
    shop.sandbox.stop_outage()
    shop.work()

    numbers = {i.invoice_number: i.ksef_number for i in shop.sandbox.accepted()}
    assert set(numbers) == {"pierwsza", "druga"}
    assert erp.row(7)["ksef_number"] == numbers["druga"]


def test_a_crash_between_our_commit_and_the_mark_is_healed(
    shop: Shop, erp: Erp, monkeypatch: pytest.MonkeyPatch
) -> None:
    erp.put(7, invoice())
    assert shop.buffer.rows is not None
    with monkeypatch.context() as patch:

        def power_loss(*_: Any, **__: Any) -> bool:
            raise KeyboardInterrupt

        patch.setattr(type(shop.buffer.rows.table), "mark", power_loss)
        with pytest.raises(KeyboardInterrupt):
            shop.buffer.rows.take_in(shop.clock())
    assert erp.row(7)["status"] is None
    shop.started()
    shop.work()

    assert erp.row(7)["status_code"] == "sent"
    assert len(shop.sandbox.invoices()) == 1


def test_many_rows_all_come_in(shop: Shop, erp: Erp) -> None:
    for number in range(150):
        erp.put(number, invoice(number=str(number), nip=a_nip(3)))
    shop.work(300)

    with erp.engine.connect() as connection:
        told = connection.execute(text("SELECT status_code, count(*) FROM ksef_outgoing GROUP BY 1")).all()
    assert [tuple(row) for row in told] == [("error", 150)]


def test_one_row_that_nobody_can_store_does_not_hold_up_the_others(
    shop: Shop, erp: Erp, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ksefbuffer.erp import rows

    really = rows.submit_all

    def poisoned(database: Database, offers: Any, *rest: Any, **named: Any) -> Any:
        if any(offer.source.place == "1" for offer in offers):
            raise ValueError("poison")
        return really(database, offers, *rest, **named)

    erp.put(1, invoice(number="1"))
    erp.put(2, invoice(number="2"))
    with monkeypatch.context() as patch:
        patch.setattr(rows, "submit_all", poisoned)
        shop.work()
        assert (erp.row(1)["status"], erp.row(2)["status_code"]) == (None, "sent")
    shop.work()
    assert erp.row(1)["status_code"] == "sent"


def test_the_erp_s_database_goes_away_and_comes_back(make_shop: Callable[..., Shop], tmp_path: Path) -> None:
    path, away = tmp_path / "erp.db", tmp_path / "away.db"
    engine = create_engine(f"sqlite:///{path}")
    erp = Erp(engine, f"sqlite:///{path}", "sqlite")
    shop = make_shop(f'[table]\nenabled = true\nurl = "{erp.url}"')
    rows = shop.buffer.rows
    assert rows is not None
    erp.put(7, invoice())
    rows.take_in(shop.clock())
    engine.dispose()
    path.rename(away)
    with pytest.raises(TableAway):
        rows.take_in(shop.clock())
    # The invoice goes all the same; its answer waits.
    shop.buffer.rows = None
    shop.work()
    assert len(shop.sandbox.accepted()) == 1
    with shop.database.reading() as tx:
        assert deliveries.next_due(tx) is not None

    away.rename(path)
    shop.buffer.rows = rows
    shop.clock.forward(301)
    shop.work()
    assert erp.row(7)["status_code"] == "sent"
    assert erp.row(7)["upo_xml"]
    engine.dispose()


@pytest.mark.parametrize("row_id", ["100%", "FV.1", "a b", "%25", "zażółć", "'; DROP TABLE ksef_outgoing; --"])
def test_odd_keys_of_text_are_found_again(make_shop: Callable[..., Shop], tmp_path: Path, row_id: str) -> None:
    url = f"sqlite:///{tmp_path / 'erp.db'}"
    engine = create_engine(url)
    erp = Erp(engine, url, "sqlite")
    shop = make_shop(f'[table]\nenabled = true\nurl = "{url}"')
    erp.put(row_id, invoice(number="1"))
    # A row that the ERP keeps for itself, whose key is the name that the first one's old answer will be given.
    erp.put(f"{row_id}.2", invoice(number="2"), status="szkic")
    shop.work()
    erp.run(
        "UPDATE ksef_outgoing SET invoice_xml = :xml, status = NULL WHERE id = :id",
        xml=invoice("3").decode(),
        id=row_id,
    )
    shop.work()

    numbers = {i.invoice_number: i.ksef_number for i in shop.sandbox.accepted()}
    assert set(numbers) == {"1", "3"}
    assert erp.row(row_id)["ksef_number"] == numbers["3"]
    draft = erp.row(f"{row_id}.2")
    assert (draft["status"], draft["document_id"], draft["ksef_number"]) == ("szkic", None, None)
    engine.dispose()
