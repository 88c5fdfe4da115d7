"""Which certificate is used, how it stands in the staff's words, and the end of tokens."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ksefbuffer.config import Auth
from ksefbuffer.errors import CredentialFault
from ksefbuffer.identity.chosen import choose, standing, standing_of_files, status_words, tokens_end
from ksefbuffer.identity.importing import bring_in
from ksefbuffer.identity.material import Credential, load_files
from ksefbuffer.identity.rotation import rotate_machine_key
from ksefbuffer.identity.selfsigned import make_selfsigned
from ksefbuffer.identity.vault import Vault, open_vault
from ksefbuffer.queue import credentials
from ksefbuffer.queue.credentials import Kept
from ksefbuffer.queue.db import Database
from tests.ksef.fake import NIP, START

VAULT = Vault(b"m" * 32)
NO_FILES = Auth()


def a_credential(folder: Path, name: str = "a", now: datetime = START) -> Credential:
    certificate, key = make_selfsigned(NIP, now=now)
    (folder / f"{name}.crt").write_bytes(certificate)
    (folder / f"{name}.key").write_bytes(key)
    return load_files(folder / f"{name}.crt", folder / f"{name}.key", None)


def files(folder: Path, name: str) -> Auth:
    return Auth(certificate=folder / f"{name}.crt", private_key=folder / f"{name}.key")


def rows(database: Database) -> list[Kept]:
    with database.reading() as tx:
        return credentials.all_kept(tx)


def activate(database: Database, row: Kept) -> None:
    with database.transaction() as tx:
        assert credentials.activate(tx, row.id, at=START)


def not_to_be_opened() -> Vault:
    raise AssertionError("the vault was opened for nothing")


def test_nothing_is_nothing(sqlite_database: Database) -> None:
    assert choose("auth", NO_FILES, rows(sqlite_database), not_to_be_opened, START) is None


def test_the_active_one_goes_before_one_that_is_not_proven(sqlite_database: Database, tmp_path: Path) -> None:
    first, second = a_credential(tmp_path, "a"), a_credential(tmp_path, "b")
    row = bring_in(sqlite_database, credentials, VAULT, first, "auth", now=START)
    chosen = choose("auth", NO_FILES, rows(sqlite_database), lambda: VAULT, START)
    assert chosen is not None
    assert chosen.credential.serial_hex == first.serial_hex, "with no other it has to do"
    assert choose("offline", NO_FILES, rows(sqlite_database), not_to_be_opened, START) is None

    activate(sqlite_database, row)
    bring_in(sqlite_database, credentials, VAULT, second, "auth", now=START)
    chosen = choose("auth", NO_FILES, rows(sqlite_database), lambda: VAULT, START)
    assert chosen is not None
    assert (chosen.credential.serial_hex, chosen.kept) == (first.serial_hex, row.id)
    assert "private" not in repr(chosen)


def test_files_win_until_they_are_past_their_end(sqlite_database: Database, tmp_path: Path) -> None:
    old = a_credential(tmp_path, "old", START - timedelta(days=700))
    new = a_credential(tmp_path, "new")
    settings = files(tmp_path, "old")
    activate(sqlite_database, bring_in(sqlite_database, credentials, VAULT, new, "auth", now=START))
    chosen = choose("auth", settings, rows(sqlite_database), not_to_be_opened, START)
    assert chosen is not None
    assert (chosen.credential.serial_hex, chosen.kept, chosen.note) == (old.serial_hex, None, "")

    later = START + timedelta(days=40)
    chosen = choose("auth", settings, rows(sqlite_database), lambda: VAULT, later)
    assert chosen is not None
    assert chosen.credential.serial_hex == new.serial_hex
    assert "wygasł 2026-12-20" in chosen.note

    much_later = START + timedelta(days=800)
    chosen = choose("auth", settings, rows(sqlite_database), not_to_be_opened, much_later)
    assert chosen is not None
    assert chosen.kept is None


def test_a_kept_key_opens_on_its_own_machine_only(sqlite_database: Database, tmp_path: Path) -> None:
    bring_in(sqlite_database, credentials, VAULT, a_credential(tmp_path), "auth", now=START)
    with pytest.raises(CredentialFault, match="innym kluczem maszyny"):
        choose("auth", NO_FILES, rows(sqlite_database), lambda: Vault(b"o" * 32), START)


def test_a_sealed_key_moved_to_another_row_does_not_open(sqlite_database: Database, tmp_path: Path) -> None:
    one = bring_in(sqlite_database, credentials, VAULT, a_credential(tmp_path, "a"), "auth", now=START)
    two = bring_in(sqlite_database, credentials, VAULT, a_credential(tmp_path, "b"), "offline", now=START)
    with sqlite_database.transaction() as tx:
        credentials.reseal(tx, [(one.id, two.sealed_key or b"")])
    with pytest.raises(CredentialFault, match="uszkodzony"):
        choose("auth", NO_FILES, rows(sqlite_database), lambda: VAULT, START)


def test_a_new_machine_key_opens_everything_and_the_old_one_nothing(sqlite_database: Database, tmp_path: Path) -> None:
    old = open_vault(tmp_path, None, may_make=True)
    for purpose in ("auth", "offline"):
        bring_in(sqlite_database, credentials, old, a_credential(tmp_path), purpose, now=START)  # type: ignore[arg-type]
    assert rotate_machine_key(sqlite_database, credentials, tmp_path, None) == 2
    new = open_vault(tmp_path, None, may_make=False)
    for purpose in ("auth", "offline"):
        assert choose(purpose, NO_FILES, rows(sqlite_database), lambda: new, START) is not None
        with pytest.raises(CredentialFault):
            choose(purpose, NO_FILES, rows(sqlite_database), lambda: old, START)
    assert rotate_machine_key(sqlite_database, credentials, tmp_path, None) == 2


def test_a_rotation_that_died_before_its_commit_is_taken_up(
    sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = open_vault(tmp_path, None, may_make=True)
    bring_in(sqlite_database, credentials, old, a_credential(tmp_path), "auth", now=START)
    monkeypatch.setattr(sqlite_database, "_commit", lambda _: (_ for _ in ()).throw(RuntimeError("power loss")))
    with pytest.raises(RuntimeError):
        rotate_machine_key(sqlite_database, credentials, tmp_path, None)
    monkeypatch.undo()
    half = open_vault(tmp_path, None, may_make=False)
    assert choose("auth", NO_FILES, rows(sqlite_database), lambda: half, START) is not None
    assert rotate_machine_key(sqlite_database, credentials, tmp_path, None) == 1
    whole = open_vault(tmp_path, None, may_make=False)
    assert choose("auth", NO_FILES, rows(sqlite_database), lambda: whole, START) is not None


END = datetime(2028, 11, 20, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("state", "before_end", "words"),
    [
        ("pending", timedelta(days=700), "w trakcie konfiguracji"),
        ("active", timedelta(days=700), "połączenie aktywne"),
        ("active", timedelta(days=30, seconds=1), "połączenie aktywne"),
        ("active", timedelta(days=30), "wygasa za 30 dni"),
        ("active", timedelta(days=2), "wygasa za 2 dni"),
        ("active", timedelta(days=1), "wygasa za 1 dzień"),
        ("active", timedelta(hours=3), "wygasa dziś"),
        # 23:30 in Warsaw: the end, half a day later, is tomorrow there.
        ("active", timedelta(hours=13, minutes=30), "wygasa za 1 dzień"),
        ("active", timedelta(seconds=-1), "wygasł"),
        ("revoked", timedelta(days=700), "odwołany"),
        ("replaced", timedelta(days=-5), "zastąpiony"),
        ("rejected", timedelta(days=700), "wniosek odrzucony"),
    ],
)
def test_status_in_the_staffs_words(state: str, before_end: timedelta, words: str) -> None:
    assert status_words(state, END - timedelta(days=730), END, END - before_end) == words


def test_a_certificate_of_the_future_is_still_being_set_up() -> None:
    assert status_words("active", START + timedelta(days=1), END, START) == "w trakcie konfiguracji"


def test_standing_says_all_that_a_screen_shows(sqlite_database: Database, tmp_path: Path) -> None:
    credential = a_credential(tmp_path)
    row = bring_in(sqlite_database, credentials, VAULT, credential, "offline", now=START)
    kept, given = standing(row, START), standing_of_files("auth", credential, START)
    assert (kept.purpose, kept.origin, kept.status, kept.days_left) == ("offline", "import", "połączenie aktywne", 730)
    assert (given.purpose, given.origin, given.status) == ("auth", "files", "połączenie aktywne")
    assert kept.subject == given.subject == f"Firma {NIP} (NIP {NIP})"
    assert kept.serial == given.serial == credential.serial_hex


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (datetime(2026, 11, 20, 12, tzinfo=UTC), "koniec za 41 dni"),
        (datetime(2026, 12, 30, 12, tzinfo=UTC), "koniec za 1 dzień"),
        (datetime(2026, 12, 31, 22, 59, tzinfo=UTC), "koniec dziś"),
        # Already the new year in Poland.
        (datetime(2026, 12, 31, 23, 0, tzinfo=UTC), "działały do 31 grudnia 2026"),
    ],
)
def test_the_end_of_tokens_is_counted_by_polish_days_and_says_the_way_out(now: datetime, said: str) -> None:
    assert said in tokens_end(now)
    assert "cert enroll" in tokens_end(now)
