"""A new machine key for the keys at rest."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ksefbuffer.identity.examining import sealed_for
from ksefbuffer.identity.neighbours import Database, Kept, Register
from ksefbuffer.identity.vault import Vault, begin_rotation, end_rotation


def rotate_machine_key(
    database: Database, register: Register, data_dir: Path, credentials_directory: str | None
) -> int:
    """Seals every kept key under a new machine key and forgets the old one; returns how many keys that were.

    Whatever it dies at, every key still opens, and calling it again finishes. A running worker must be stopped: it
    would go on sealing under the old key. Raises ConfigurationFault, CredentialFault.
    """
    vault = begin_rotation(data_dir, credentials_directory)
    with database.transaction() as tx:
        sealed = resealed(register.all_kept(tx), vault)
        register.reseal(tx, sealed)
    end_rotation(data_dir, credentials_directory)
    return len(sealed)


def resealed(kept: Iterable[Kept], vault: Vault) -> list[tuple[int, bytes]]:
    """Keys not yet under the vault's current key, sealed anew, by row. Raises CredentialFault."""
    found: list[tuple[int, bytes]] = []
    for row in kept:
        if row.sealed_key is not None and not vault.is_current(row.sealed_key):
            purpose = sealed_for(row.purpose, row.name)
            found.append((row.id, vault.seal(purpose, vault.open(purpose, row.sealed_key))))
    return found
