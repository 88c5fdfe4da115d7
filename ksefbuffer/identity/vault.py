"""Private keys at rest: sealed with AES-256-GCM under a machine key that is not in the database.

The machine key comes from systemd's credentials directory (``ksefbuffer-machine-key``) or from ``machine.key`` in the
data folder (mode 0600). Either holds 32 raw bytes, or lines of Base64 with 32 bytes each: the first line seals, the
others only open what was sealed before a rotation.
"""

from __future__ import annotations

import binascii
import hashlib
import os
import secrets
import stat
from base64 import b64decode, b64encode
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ksefbuffer.errors import ConfigurationFault, CredentialFault

KEY_BYTES = 32
SYSTEMD_NAME = "ksefbuffer-machine-key"
FILE_NAME = "machine.key"

_NONCE_BYTES = 12
_MARK = b"kbv1"
_KEY_ID_BYTES = 8


class Vault:
    """Seals and opens secrets. ``purpose`` says what the secret is for and is bound to it: sealed for one purpose it
    does not open for another. ``former`` keys only open."""

    def __init__(self, machine_key: bytes, former: Sequence[bytes] = ()) -> None:
        keys = (machine_key, *former)
        if any(len(key) != KEY_BYTES for key in keys):
            raise ValueError("a machine key has 32 bytes")
        self._current = _key_id(machine_key)
        self._keys = {_key_id(key): AESGCM(key) for key in reversed(keys)}

    def __repr__(self) -> str:
        return f"Vault(keys={len(self._keys)})"

    def __reduce__(self) -> str:
        raise TypeError("a vault is not to be written anywhere")

    def seal(self, purpose: str, secret: bytes) -> bytes:
        """The secret under the current key: mark, key's name, nonce, ciphertext with its tag."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        head = _MARK + self._current
        return head + nonce + self._keys[self._current].encrypt(nonce, secret, _bound(head, purpose))

    def open(self, purpose: str, sealed: bytes) -> bytes:
        """Raises CredentialFault when it was sealed under another machine key, for another purpose, or is damaged."""
        head, rest = sealed[: len(_MARK) + _KEY_ID_BYTES], sealed[len(_MARK) + _KEY_ID_BYTES :]
        key = self._keys.get(head[len(_MARK) :])
        if not head.startswith(_MARK) or key is None:
            raise CredentialFault(
                "Klucz prywatny w bazie jest zaszyfrowany innym kluczem maszyny.",
                action=f"Przywróć plik {FILE_NAME} (albo poświadczenie systemd {SYSTEMD_NAME}) z kopii, w komplecie "
                "z bazą danych; bez niego trzeba uzyskać nowy certyfikat.",
            )
        try:
            return key.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], _bound(head, purpose))
        except (InvalidTag, ValueError):
            raise CredentialFault(
                "Zaszyfrowany klucz prywatny w bazie jest uszkodzony.",
                action="Odtwórz bazę z kopii zapasowej albo uzyskaj nowy certyfikat.",
            ) from None

    def is_current(self, sealed: bytes) -> bool:
        """Whether it was sealed under the key that seals now; the others are to be sealed anew."""
        return sealed.startswith(_MARK + self._current)


def open_vault(data_dir: Path, credentials_directory: str | None, *, may_make: bool) -> Vault:
    """The vault of this machine. Raises ConfigurationFault.

    ``credentials_directory`` is systemd's ``CREDENTIALS_DIRECTORY``, which goes first. ``may_make`` allows a new key
    file when there is none: only while nothing is sealed yet, as a new key opens nothing.
    """
    return Vault(*_split(_machine_keys(data_dir, credentials_directory, may_make=may_make)))


def begin_rotation(data_dir: Path, credentials_directory: str | None) -> Vault:
    """A vault that seals under a new machine key and still opens what the old one sealed. Seal everything anew with it,
    then call ``end_rotation``; whatever happens in between, every secret opens. Raises ConfigurationFault.

    With the key from systemd this changes nothing: put the new key into that file, as its first line, beforehand.
    """
    if _credential(credentials_directory) is None:
        keys = _machine_keys(data_dir, None, may_make=False)
        # A rotation that died half way goes on with the key that it made.
        if len(keys) == 1:
            _replace(data_dir / FILE_NAME, [secrets.token_bytes(KEY_BYTES), *keys])
    return open_vault(data_dir, credentials_directory, may_make=False)


def end_rotation(data_dir: Path, credentials_directory: str | None) -> None:
    """Forget the former machine key: only once nothing is sealed under it. Raises ConfigurationFault."""
    if _credential(credentials_directory) is None:
        keys = _machine_keys(data_dir, None, may_make=False)
        if len(keys) > 1:
            _replace(data_dir / FILE_NAME, keys[:1])


def _split(keys: list[bytes]) -> tuple[bytes, list[bytes]]:
    return keys[0], keys[1:]


def _machine_keys(data_dir: Path, credentials_directory: str | None, *, may_make: bool) -> list[bytes]:
    credential = _credential(credentials_directory)
    if credential is not None:
        return _read(credential)
    path = data_dir / FILE_NAME
    try:
        if not path.exists():
            if not may_make:
                raise ConfigurationFault(
                    f"Nie ma klucza maszyny {path}, a w bazie są zaszyfrowane nim klucze certyfikatów.",
                    action="Przywróć ten plik z kopii (z prawami 0600) albo podaj go przez poświadczenie systemd "
                    f"{SYSTEMD_NAME}.",
                )
            _make(path)
        _check_rights(path)
    except OSError as error:
        raise ConfigurationFault(
            f"Nie można użyć klucza maszyny {path}: {error.strerror}.",
            action="Sprawdź folder data_dir i prawa do niego.",
        ) from None
    return _read(path)


def _credential(directory: str | None) -> Path | None:
    path = Path(directory) / SYSTEMD_NAME if directory else None
    return path if path is not None and path.is_file() else None


def _check_rights(path: Path) -> None:
    found = path.stat()
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise ConfigurationFault(
            f"Klucz maszyny {path} mogą czytać inni użytkownicy (prawa {stat.S_IMODE(found.st_mode):04o}).",
            action=f"Uruchom: chmod 600 {path}. Jeśli ktoś mógł go odczytać, wymień klucz maszyny i certyfikaty.",
        )
    if found.st_uid not in (os.geteuid(), 0):
        raise ConfigurationFault(
            f"Klucz maszyny {path} należy do innego użytkownika.",
            action="Ustaw jako właściciela użytkownika, pod którym działa bufor.",
        )


def _read(path: Path) -> list[bytes]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationFault(
            f"Nie można odczytać klucza maszyny {path}: {error.strerror}.", action="Sprawdź prawa do pliku."
        ) from None
    if len(content) == KEY_BYTES:
        return [content]
    keys: list[bytes] = []
    with suppress(binascii.Error, ValueError):
        keys = [b64decode(line, validate=True) for line in content.split()]
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise ConfigurationFault(
            f"Plik {path} nie zawiera klucza maszyny.",
            action="Przywróć go z kopii; klucz to 32 bajty, zapisane wprost albo w Base64.",
        )
    return keys


def _make(path: Path) -> None:
    """Makes the file whole or not at all; of two processes making it at once, one wins and both use its key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _written(path, [secrets.token_bytes(KEY_BYTES)])
    try:
        with suppress(FileExistsError):
            os.link(part, path)
    finally:
        part.unlink()
    _sync(path.parent)


def _replace(path: Path, keys: list[bytes]) -> None:
    try:
        _written(path, keys).replace(path)
        _sync(path.parent)
    except OSError as error:
        raise ConfigurationFault(
            f"Nie można zapisać klucza maszyny {path}: {error.strerror}.", action="Sprawdź dysk i prawa do folderu."
        ) from None


def _written(path: Path, keys: list[bytes]) -> Path:
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(b"".join(b64encode(key) + b"\n" for key in keys))
        file.flush()
        os.fsync(file.fileno())
    return part


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"ksefbuffer machine key\0" + key).digest()[:_KEY_ID_BYTES]


def _bound(head: bytes, purpose: str) -> bytes:
    return head + b"\0" + purpose.encode("utf-8")
