"""Keys at rest: what opens them, what does not, and what becomes of the machine key."""

from __future__ import annotations

import base64
import pickle
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksefbuffer.errors import ConfigurationFault, CredentialFault
from ksefbuffer.identity.vault import FILE_NAME, SYSTEMD_NAME, Vault, begin_rotation, end_rotation, open_vault

ONE, TWO = b"1" * 32, b"2" * 32
SECRET = b"-----tajny klucz-----"


@given(st.binary(max_size=200), st.text(max_size=20))
def test_what_was_sealed_opens(secret: bytes, purpose: str) -> None:
    vault = Vault(ONE)
    sealed = vault.seal(purpose, secret)
    assert Vault(ONE).open(purpose, sealed) == secret
    assert vault.seal(purpose, secret) != sealed, "a nonce serves once"


def test_a_secret_opens_for_its_own_purpose_only() -> None:
    sealed = Vault(ONE).seal("credentials/auth/a", SECRET)
    assert SECRET not in sealed
    with pytest.raises(CredentialFault, match="uszkodzony"):
        Vault(ONE).open("credentials/offline/a", sealed)


@pytest.mark.parametrize("place", range(0, 12 + 12 + len(SECRET) + 16, 3))
def test_a_changed_byte_anywhere_is_noticed(place: int) -> None:
    sealed = bytearray(Vault(ONE).seal("x", SECRET))
    sealed[place] ^= 1
    with pytest.raises(CredentialFault):
        Vault(ONE).open("x", bytes(sealed))


@pytest.mark.parametrize("sealed", [b"", b"kbv1", b"-----BEGIN PRIVATE KEY-----"])
def test_what_was_never_sealed_does_not_open(sealed: bytes) -> None:
    with pytest.raises(CredentialFault):
        Vault(ONE).open("x", sealed)


def test_another_machines_key_is_told_from_damage() -> None:
    with pytest.raises(CredentialFault, match="innym kluczem maszyny"):
        Vault(TWO).open("x", Vault(ONE).seal("x", SECRET))


def test_a_vault_shows_and_leaves_no_key() -> None:
    vault = Vault(ONE, [TWO])
    assert "1111" not in repr(vault)
    assert ONE not in repr(vars(vault)).encode()
    with pytest.raises(TypeError):
        pickle.dumps(vault)


def test_a_machine_key_has_32_bytes() -> None:
    with pytest.raises(ValueError):
        Vault(b"short")


def test_the_key_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "dane"
    sealed = open_vault(folder, None, may_make=True).seal("x", SECRET)
    file = folder / FILE_NAME
    before = file.read_bytes()
    assert file.stat().st_mode & 0o777 == 0o600
    assert open_vault(folder, None, may_make=True).open("x", sealed) == SECRET
    assert file.read_bytes() == before
    assert [path.name for path in folder.iterdir()] == [FILE_NAME]


def test_processes_that_make_it_at_once_share_one_key(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)
    sealed: list[bytes] = []

    def make() -> None:
        barrier.wait()
        sealed.append(open_vault(tmp_path, None, may_make=True).seal("x", SECRET))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    vault = open_vault(tmp_path, None, may_make=False)
    assert [vault.open("x", one) for one in sealed] == [SECRET] * 8


def test_a_lost_key_is_not_quietly_replaced(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationFault, match="Nie ma klucza maszyny"):
        open_vault(tmp_path, None, may_make=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    open_vault(tmp_path, None, may_make=True)
    (tmp_path / FILE_NAME).chmod(mode)
    with pytest.raises(ConfigurationFault, match="mogą czytać inni") as caught:
        open_vault(tmp_path, None, may_make=True)
    assert "chmod 600" in caught.value.action


@pytest.mark.parametrize("content", [b"", b"haslo", base64.b64encode(b"x" * 31), b"\xff" * 40])
def test_a_file_that_is_no_key_is_refused_and_not_quoted(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    (tmp_path / FILE_NAME).chmod(0o600)
    with pytest.raises(ConfigurationFault, match="nie zawiera klucza") as caught:
        open_vault(tmp_path, None, may_make=True)
    assert not content or content.decode("latin-1") not in str(caught.value)


@pytest.mark.parametrize("content", [ONE, base64.b64encode(ONE), base64.b64encode(ONE) + b"\n"])
def test_systemds_credential_goes_first(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "credentials"
    folder.mkdir()
    # The service manager keeps these from others by its own means; modes there are its business.
    (folder / SYSTEMD_NAME).write_bytes(content)
    vault = open_vault(tmp_path / "data", str(folder), may_make=True)
    assert vault.open("x", Vault(ONE).seal("x", SECRET)) == SECRET
    assert not (tmp_path / "data").exists()


def test_a_folder_without_that_credential_leaves_the_file_in_force(tmp_path: Path) -> None:
    open_vault(tmp_path, str(tmp_path), may_make=True)
    assert (tmp_path / FILE_NAME).exists()


def test_a_rotation_may_die_anywhere(tmp_path: Path) -> None:
    old = open_vault(tmp_path, None, may_make=True)
    sealed = old.seal("x", SECRET)

    written = set()
    for _ in range(2):
        # Died after this, once; called again.
        vault = begin_rotation(tmp_path, None)
        written.add((tmp_path / FILE_NAME).read_bytes())
        assert len(written) == 1, "it goes on with the key that it made"
        assert not vault.is_current(sealed)
        assert open_vault(tmp_path, None, may_make=False).open("x", sealed) == SECRET
    anew = vault.seal("x", vault.open("x", sealed))
    assert vault.is_current(anew)

    end_rotation(tmp_path, None)
    end_rotation(tmp_path, None)
    last = open_vault(tmp_path, None, may_make=False)
    assert last.open("x", anew) == SECRET
    with pytest.raises(CredentialFault):
        last.open("x", sealed)
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_systemds_key_is_rotated_by_whoever_keeps_it(tmp_path: Path) -> None:
    (tmp_path / SYSTEMD_NAME).write_bytes(base64.b64encode(TWO) + b"\n" + base64.b64encode(ONE) + b"\n")
    vault = begin_rotation(tmp_path, str(tmp_path))
    assert vault.open("x", Vault(ONE).seal("x", SECRET)) == SECRET
    assert vault.is_current(Vault(TWO).seal("x", SECRET))
    end_rotation(tmp_path, str(tmp_path))
    assert not (tmp_path / FILE_NAME).exists()


def test_a_data_folder_that_cannot_be_used_is_a_fault_with_a_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigurationFault, match="klucza maszyny"):
        open_vault(tmp_path / "file" / "below", None, may_make=True)
