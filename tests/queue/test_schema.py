"""Migrations, and whose database it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text

from ksefbuffer.errors import ConfigurationFault
from ksefbuffer.queue import schema
from ksefbuffer.queue.db import Database, StorageFault
from ksefbuffer.queue.models import metadata
from tests.samples import NIP, NOW, a_nip


def _is_in_the_models(_thing: object, name: str | None, *_: object) -> bool:
    """The index of words is made by statements, as SQLAlchemy knows no such table; the other test compares it."""
    return not str(name).startswith(("incoming_search", "ix_incoming_search"))


def test_the_migrated_schema_is_the_one_in_the_models(database: Database) -> None:
    options = {"compare_type": True, "compare_server_default": True, "include_object": _is_in_the_models}
    with database.reading() as tx:
        context = MigrationContext.configure(tx, opts=options)
        assert compare_metadata(context, metadata) == []


def _definitions(database: Database) -> dict[str, str]:
    """Everything that autogenerate does not compare: checks, partial indexes, triggers, in the database's own words."""
    if database.is_sqlite:
        query = (
            "SELECT name, sql FROM sqlite_master WHERE type IN ('index', 'trigger') AND sql IS NOT NULL "
            "UNION SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name <> 'alembic_version'"
        )
    else:
        query = (
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version' "
            "UNION SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'c' "
            "UNION SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal"
        )
    with database.reading() as tx:
        return {row[0]: row[1] for row in tx.execute(text(query))}


def _clauses(sql: str) -> list[str]:
    """The pieces of a definition. The order of a table's clauses is no difference; commas and the last bracket move."""
    # SQLite writes a column that was added later behind the last clause, on its line.
    added = r",? (?=\"?\w+\"? (?:BOOLEAN|VARCHAR|DATETIME|JSON|TEXT|INTEGER|BIGINT|BLOB)\b)"
    pieces = (" ".join(piece.replace('"', "").split()) for line in sql.split("\n\t") for piece in re.split(added, line))
    return sorted(piece.replace("(false)", "false").rstrip(" ,)") for piece in pieces)


def test_checks_partial_indexes_and_triggers_are_those_in_the_models(
    database: Database, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    migrated = _definitions(database)
    if database.is_sqlite:
        other = Database(f"sqlite:///{tmp_path / 'models.db'}")
    else:
        with database.engine.begin() as tx:
            tx.execute(text("DROP SCHEMA public CASCADE"))
            tx.execute(text("CREATE SCHEMA public"))
        other = database
    with other.transaction() as tx:
        metadata.create_all(tx)
    modelled = _definitions(other)
    other.close()

    assert migrated.keys() == modelled.keys()
    for name in migrated:
        assert _clauses(migrated[name]) == _clauses(modelled[name])


def test_upgrading_twice_changes_nothing(database: Database) -> None:
    assert schema.upgrade(database) == (schema.head(), schema.head())
    schema.require_current(database)


def test_a_migration_that_dies_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(f"sqlite:///{tmp_path / 'new.db'}")
    from alembic import op

    monkeypatch.setattr(op, "execute", lambda *_: (_ for _ in ()).throw(RuntimeError("power loss")))
    with pytest.raises(RuntimeError, match="power loss"):
        schema.upgrade(database)
    monkeypatch.undo()

    with database.reading() as tx:
        assert not set(inspect(tx).get_table_names()) - {"alembic_version"}
    assert schema.upgrade(database) == (None, schema.head())
    database.close()


def test_an_empty_database_says_what_to_run(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(ConfigurationFault, match="ksefbuffer db upgrade"):
        schema.require_current(database)
    database.close()


def test_a_database_of_a_newer_program_is_left_alone(database: Database) -> None:
    with database.transaction() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigurationFault, match="nowszej wersji"):
        schema.upgrade(database)
    with pytest.raises(ConfigurationFault, match="9999"):
        schema.require_current(database)


def test_a_database_is_bound_for_life(database: Database) -> None:
    for _ in range(2):
        with database.transaction() as tx:
            schema.bind(tx, NIP, "sandbox", at=NOW)
    stranger = a_nip(1)
    with pytest.raises(ConfigurationFault, match=f"NIP {NIP}.*{stranger}"), database.transaction() as tx:
        schema.bind(tx, stranger, "sandbox", at=NOW)
    with pytest.raises(ConfigurationFault, match=r"sandbox.*production"), database.transaction() as tx:
        schema.bind(tx, NIP, "production", at=NOW)


def test_a_file_that_is_no_database_is_a_fault_with_a_message(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    path.write_bytes(b"to nie jest baza danych " * 100)
    database = Database(f"sqlite:///{path}")
    with pytest.raises(StorageFault):
        schema.revision(database)
    database.close()


def test_a_server_that_is_away_is_a_fault_with_a_message_and_no_password() -> None:
    database = Database("postgresql+psycopg://ksef:tajne-haslo@127.0.0.1:1/ksef")
    with pytest.raises(StorageFault) as fault:
        schema.revision(database)
    database.close()
    assert "tajne-haslo" not in str(fault.value)
    assert fault.value.exit_code == 3


def test_sqlite_is_opened_so_that_a_commit_survives_power_loss(sqlite_database: Database) -> None:
    with sqlite_database.reading() as tx:
        assert tx.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
        assert tx.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert tx.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1


def test_a_database_url_with_a_driver_that_is_not_there_says_so() -> None:
    with pytest.raises(ConfigurationFault, match="sterownika"):
        Database("oracle+nosuchdriver://x")


def test_an_engine_made_elsewhere_sees_what_was_committed(sqlite_database: Database) -> None:
    with sqlite_database.transaction() as tx:
        schema.bind(tx, NIP, "sandbox", at=NOW)
    other = create_engine(sqlite_database.engine.url)
    with other.connect() as connection:
        assert connection.execute(text("SELECT nip FROM buffer")).scalar_one() == NIP
    other.dispose()
