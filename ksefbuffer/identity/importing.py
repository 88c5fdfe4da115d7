"""Taking a certificate with its key into the buffer's keeping."""

from __future__ import annotations

from datetime import datetime

from ksefbuffer.errors import NotAllowedNow
from ksefbuffer.identity.examining import Purpose, new_name, sealed_for
from ksefbuffer.identity.material import Credential
from ksefbuffer.identity.neighbours import Database, Register, Row, Source
from ksefbuffer.identity.recognition import facts_of
from ksefbuffer.identity.vault import Vault


def bring_in(
    database: Database,
    register: Register,
    vault: Vault,
    credential: Credential,
    purpose: Purpose,
    *,
    now: datetime,
    source: Source = "import",
) -> Row:
    """Keeps a credential that ``examine`` has let through; its key is sealed.

    One for "offline" is in use at once, as it must serve while KSeF is away. One for "auth" is in use once it has
    logged in (``Enrolment``), or at once when there is no other. Raises NotAllowedNow when it is kept already, or while
    another one is on its way.
    """
    facts = facts_of(credential.certificate)
    name = new_name(purpose, now)
    sealed = vault.seal(sealed_for(purpose, name), credential.secret())
    with database.transaction() as tx:
        active, pending = register.active(tx, purpose), register.pending(tx, purpose)
        if facts.fingerprint in {row.fingerprint for row in (active, pending) if row is not None}:
            raise NotAllowedNow(
                "Ten certyfikat jest już zapisany w buforze.", action="Sprawdź: ksefbuffer cert status."
            )
        begun = register.begin_import(tx, purpose, name, source, facts, sealed_key=sealed, at=now)
        if begun is None:
            raise NotAllowedNow(
                "Trwa już konfiguracja innego certyfikatu do tego samego celu.",
                action="Poczekaj na jej koniec albo ją porzuć, a potem zaimportuj ten certyfikat.",
            )
        if purpose == "offline":
            register.activate(tx, begun.id, at=now)
        kept = register.kept(tx, begun.id)
    return kept or begun
