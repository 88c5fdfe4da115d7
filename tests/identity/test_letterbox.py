"""Sealing for the worker: who opens what, and what is refused."""

from __future__ import annotations

import json
import pickle
from base64 import b64decode
from datetime import UTC, datetime

import pytest

from ksefbuffer.errors import CredentialFault
from ksefbuffer.identity.letterbox import new_reply_key, open_reply, seal, seal_reply
from ksefbuffer.identity.letterbox_opening import Letterbox, open_letterbox
from ksefbuffer.identity.vault import Vault
from ksefbuffer.queue import facts
from ksefbuffer.queue.db import Database

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
SECRET = b"-----BEGIN PRIVATE KEY-----\xc5\xbc"


def test_only_the_letterbox_opens_what_was_sealed_for_it() -> None:
    mine, other = Letterbox.new(), Letterbox.new()
    sealed = seal(mine.public, "order/x", SECRET)
    assert SECRET not in sealed
    assert mine.open("order/x", sealed) == SECRET
    assert Letterbox(mine.secret()).open("order/x", sealed) == SECRET
    with pytest.raises(CredentialFault, match="innego klucza") as caught:
        other.open("order/x", sealed)
    assert "jeszcze raz" in caught.value.action


def test_the_same_content_never_looks_the_same() -> None:
    mine = Letterbox.new()
    assert len({seal(mine.public, "order/x", SECRET) for _ in range(20)}) == 20


def test_for_another_purpose_it_does_not_open() -> None:
    mine = Letterbox.new()
    with pytest.raises(CredentialFault, match="uszkodzone"):
        mine.open("order/y", seal(mine.public, "order/x", SECRET))


def test_no_byte_may_change() -> None:
    mine = Letterbox.new()
    sealed = seal(mine.public, "order/x", SECRET)
    for at in range(len(sealed)):
        with pytest.raises(CredentialFault):
            mine.open("order/x", sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :])
    for short in (b"", sealed[:10], sealed[:44], sealed[:-1]):
        with pytest.raises(CredentialFault):
            mine.open("order/x", short)


def test_a_public_key_without_strength_is_refused() -> None:
    # The all-zero point would make every agreed key the same.
    with pytest.raises(ValueError):
        seal("A" * 43 + "=", "order/x", SECRET)
    with pytest.raises(ValueError):
        seal("za krótki", "order/x", SECRET)


def test_a_reply_is_for_who_has_its_key() -> None:
    key = new_reply_key()
    sealed = seal_reply(key, b"token")
    assert b"token" not in sealed
    assert open_reply(key, sealed) == b"token"
    assert open_reply(new_reply_key(), sealed) is None
    assert open_reply(b"za krotki", sealed) is None
    assert open_reply(key, sealed[:-1]) is None


def test_the_private_half_is_in_the_database_only_sealed(sqlite_database: Database) -> None:
    vault = Vault(b"m" * 32)
    made = open_letterbox(sqlite_database, facts, vault, now=NOW)
    with sqlite_database.reading() as tx:
        public, private = facts.get(tx, "letterbox"), facts.get(tx, "letterbox_key")
    assert public is not None
    assert private is not None
    assert public[0] == {"public": made.public}
    assert made.secret() not in b64decode(private[0]["sealed"])
    assert made.secret().hex() not in json.dumps(private[0])
    again = open_letterbox(sqlite_database, facts, vault, now=NOW)
    assert again.secret() == made.secret(), "a restart keeps it"


def test_under_a_new_machine_key_there_is_a_new_letterbox(sqlite_database: Database) -> None:
    made = open_letterbox(sqlite_database, facts, Vault(b"m" * 32), now=NOW)
    for vault in (Vault(b"n" * 32), Vault(b"o" * 32, [b"n" * 32])):
        fresh = open_letterbox(sqlite_database, facts, vault, now=NOW)
        with sqlite_database.reading() as tx:
            told = facts.get(tx, "letterbox")
        assert told is not None
        assert told[0]["public"] == fresh.public != made.public


def test_it_shows_and_writes_no_secret() -> None:
    mine = Letterbox.new()
    assert mine.secret().hex() not in repr(mine)
    with pytest.raises(TypeError):
        pickle.dumps(mine)
