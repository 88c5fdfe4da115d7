"""Revoking certificates: only ever because a person said so."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from ksefbuffer.errors import NotAllowedNow, Refused
from ksefbuffer.identity.neighbours import Database, Ksef, Register, RevocationReason

_ALREADY = "25009"


def revoke(
    database: Database,
    register: Register,
    ksef: Ksef,
    credential: int,
    reason: RevocationReason,
    *,
    now: datetime,
    still_waits: Callable[[str], bool],
) -> None:
    """Revokes a certificate at KSeF and forgets its key.

    ``still_waits`` tells by serial number whether an invoice signed with it has no KSeF number yet: its KOD II must go
    on leading to a certificate in force (FACTS §9). Raises NotAllowedNow for such a one, and for the active one, unless
    the key is compromised; CallFault.
    """
    with database.reading() as tx:
        row = register.kept(tx, credential)
    if row is None or row.serial is None or row.state not in ("active", "replaced"):
        raise NotAllowedNow("Nie ma takiego certyfikatu do odwołania.", action="Sprawdź: ksefbuffer cert status.")
    if reason != "KeyCompromise":
        if row.purpose == "offline" and still_waits(row.serial):
            raise NotAllowedNow(
                "Tym certyfikatem podpisano faktury offline, które nie mają jeszcze numeru KSeF.",
                action="Odwołaj go, gdy wszystkie te faktury zostaną wysłane.",
            )
        if row.state == "active":
            raise NotAllowedNow(
                "Tego certyfikatu bufor używa.",
                action="Najpierw odnów go (ksefbuffer cert renew), potem odwołaj stary.",
            )
    try:
        ksef.revoke_certificate(row.serial, reason)
    except Refused as fault:
        if fault.code != _ALREADY:
            raise
    with database.transaction() as tx:
        register.revoke(tx, row.id, "Odwołany na żądanie.", at=now)
