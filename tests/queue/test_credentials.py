"""Rows of certificates: what may follow what, and what the database itself refuses."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, update
from sqlalchemy.exc import IntegrityError

from ksefbuffer.queue import credentials
from ksefbuffer.queue.credentials import Kept
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.models import credentials as rows
from tests.samples import NOW

LATER = NOW + timedelta(minutes=1)


@dataclass(frozen=True)
class Paper:
    certificate: str = "PEM"
    serial: str = "01F20A5D352AE590"
    subject: str = "Sklep"
    issuer: str = "CCK KSeF"
    fingerprint: str = "F" * 64
    valid_from: datetime = NOW
    valid_to: datetime = NOW + timedelta(days=730)


def begun(database: Database, purpose: str = "auth", name: str = "a") -> Kept:
    with database.transaction() as tx:
        row = credentials.begin_request(tx, purpose, name, request=b"csr", sealed_key=b"sealed", at=NOW)
    assert row is not None
    return row


def in_use(database: Database, purpose: str = "auth", name: str = "a") -> Kept:
    row = begun(database, purpose, name)
    with database.transaction() as tx:
        assert credentials.ask(tx, row.id, quota=12, at=NOW)
        assert credentials.asked(tx, row.id, "R", next_step_at=NOW)
        assert credentials.issue(tx, row.id, Paper(), at=NOW)
        assert credentials.activate(tx, row.id, at=LATER)
        found = credentials.kept(tx, row.id)
    assert found is not None
    return found


def test_the_whole_way_of_a_request(database: Database) -> None:
    row = in_use(database)
    assert (row.state, row.proven_at, row.next_step_at, row.reference) == ("active", LATER, None, "R")
    assert (row.certificate, row.valid_to, row.sealed_key) == ("PEM", Paper().valid_to, b"sealed")
    with database.reading() as tx:
        assert credentials.active(tx, "auth") == row
        assert credentials.pending(tx, "auth") is None
        assert credentials.any_sealed(tx)


def test_each_step_is_taken_by_one_only(database: Database) -> None:
    row = begun(database)
    with database.transaction() as tx:
        assert credentials.ask(tx, row.id, quota=12, at=NOW)
        assert not credentials.ask(tx, row.id, quota=12, at=NOW)
        assert credentials.asked(tx, row.id, "R", next_step_at=NOW)
        assert not credentials.asked(tx, row.id, "S", next_step_at=NOW)
        assert not credentials.not_asked(tx, row.id, next_step_at=NOW, note="x")
        assert not credentials.activate(tx, row.id, at=NOW), "there is nothing to use yet"
        assert credentials.issue(tx, row.id, Paper(), at=NOW)
        assert not credentials.issue(tx, row.id, Paper(serial="X"), at=NOW)
        assert credentials.activate(tx, row.id, at=NOW)
        assert not credentials.activate(tx, row.id, at=NOW)
        assert not credentials.reject(tx, row.id, "x", at=NOW)
        assert not credentials.postpone(tx, row.id, next_step_at=NOW, note="x")


def test_what_was_not_taken_may_be_asked_again(database: Database) -> None:
    row = begun(database)
    with database.transaction() as tx:
        credentials.ask(tx, row.id, quota=12, at=NOW)
        assert credentials.not_asked(tx, row.id, next_step_at=LATER, note="limit")
        found = credentials.kept(tx, row.id)
        assert found is not None
        assert (found.asked_at, found.quota, found.next_step_at, found.note, found.tries) == (
            None, None, LATER, "limit", 1,
        )  # fmt: skip
        assert credentials.ask(tx, row.id, quota=12, at=LATER)


def test_one_is_pending_at_a_time_for_each_purpose(database: Database) -> None:
    begun(database)
    begun(database, "offline", "b")
    with database.transaction() as tx:
        assert credentials.begin_request(tx, "auth", "c", request=b"", sealed_key=b"s", at=NOW) is None
        assert credentials.begin_import(tx, "auth", "d", "import", Paper(), sealed_key=b"s", at=NOW) is None


def test_the_new_one_replaces_the_old_in_the_same_commit(database: Database) -> None:
    old = in_use(database)
    new = in_use(database, name="b")
    with database.reading() as tx:
        assert {row.id: row.state for row in credentials.all_kept(tx)} == {new.id: "active", old.id: "replaced"}
        replaced = credentials.kept(tx, old.id)
    assert replaced is not None
    assert (replaced.sealed_key, replaced.ended_at) == (b"sealed", LATER)


def test_keys_of_the_rejected_and_the_revoked_are_forgotten(database: Database) -> None:
    row, other = begun(database), in_use(database, "offline", "b")
    with database.transaction() as tx:
        assert credentials.reject(tx, row.id, "limit", at=NOW)
        assert credentials.revoke(tx, other.id, "zgubiony", at=NOW)
        assert not credentials.revoke(tx, other.id, "zgubiony", at=NOW)
    with database.reading() as tx:
        assert [(row.state, row.sealed_key) for row in credentials.all_kept(tx)] == [
            ("revoked", None),
            ("rejected", None),
        ]
        assert not credentials.any_sealed(tx)
        assert credentials.last_rejected_at(tx, "auth") == NOW
        assert credentials.last_rejected_at(tx, "offline") is None


def test_keys_are_sealed_anew_only_where_there_are_keys(database: Database) -> None:
    row, other = begun(database), begun(database, "offline", "b")
    with database.transaction() as tx:
        credentials.reject(tx, other.id, "x", at=NOW)
        credentials.reseal(tx, [(row.id, b"anew"), (other.id, b"anew")])
        assert [found.sealed_key for found in credentials.all_kept(tx)] == [None, b"anew"]


@pytest.mark.parametrize(
    "crime",
    [
        {"state": "lost"},
        {"purpose": "other"},
        {"source": "found"},
        {"sealed_key": None},
        {"state": "revoked"},
        {"state": "active"},
        {"reference": "R"},
        {"asked_at": NOW},
        {"certificate": "PEM"},
        {"certificate": "PEM", "fingerprint": "F"},
        {"name": "b"},
    ],
)
def test_what_must_never_be_is_refused_by_the_database(database: Database, crime: dict[str, Any]) -> None:
    row = begun(database)
    begun(database, "offline", "b")
    with pytest.raises(IntegrityError), database.transaction() as tx:
        tx.execute(update(rows).where(rows.c.id == row.id).values(**crime))


@pytest.mark.parametrize("state", ["active", "pending"])
def test_two_in_one_place_are_refused_by_the_database(database: Database, state: str) -> None:
    values = {
        **vars(Paper()),
        "purpose": "auth",
        "source": "import",
        "state": state,
        "sealed_key": b"s",
        "made_at": NOW,
    }
    with database.transaction() as tx:
        tx.execute(insert(rows).values(name="a", **values))
    with pytest.raises(IntegrityError), database.transaction() as tx:
        tx.execute(insert(rows).values(name="b", **values))


def test_a_row_shows_neither_key_nor_request(database: Database) -> None:
    assert "sealed" not in repr(begun(database))
    assert "csr" not in repr(begun(database, "offline", "b"))
