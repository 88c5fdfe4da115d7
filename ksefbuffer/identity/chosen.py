"""Which certificate is used, and how it stands in the words of the staff.

Files named in the settings win, also over newer certificates in the database; only when the file's certificate is past
its end and the database has a good one, that one goes on for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from ksefbuffer.identity.examining import sealed_for
from ksefbuffer.identity.material import Credential, credential_of, load_credential
from ksefbuffer.identity.neighbours import Kept
from ksefbuffer.identity.recognition import facts_of, recognise
from ksefbuffer.identity.vault import Vault
from ksefbuffer.identity.words import CONFIGURING as CONFIGURING
from ksefbuffer.identity.words import WORKING as WORKING
from ksefbuffer.identity.words import days_between as days_between
from ksefbuffer.identity.words import status_words as status_words
from ksefbuffer.identity.words import tokens_end as tokens_end


class KeySettings(Protocol):
    """[auth] or [offline] of the configuration."""

    @property
    def certificate(self) -> Path | None: ...
    @property
    def private_key(self) -> Path | None: ...
    @property
    def pkcs12(self) -> Path | None: ...
    @property
    def has_key(self) -> bool: ...
    def read_private_key_password(self) -> str | None: ...


@dataclass(frozen=True)
class Chosen:
    """The credential in use; ``kept`` is its row's key, None for files; ``note`` says in Polish what is odd."""

    credential: Credential = field(repr=False)
    kept: int | None
    note: str = ""


@dataclass(frozen=True)
class Standing:
    """How a certificate stands; ``status`` is in the staff's words, ``days_left`` is negative past the end."""

    purpose: str
    origin: Literal["files", "import", "enrolment", "sandbox"]
    status: str
    subject: str
    issuer: str
    serial: str
    valid_from: datetime | None
    valid_to: datetime | None
    days_left: int | None
    note: str


def choose(
    purpose: str, settings: KeySettings, kept: Iterable[Kept], vault: Callable[[], Vault], now: datetime
) -> Chosen | None:
    """The credential to be used for ``purpose``; None when there is none at all.

    ``kept`` are all rows; of those the active one, else one that is not proven yet. ``vault`` is asked for only when a
    kept key is to be opened. Raises CredentialFault, ConfigurationFault. What it may do, ``examine`` tells.
    """
    stored = stored_choice(purpose, kept)
    if not settings.has_key:
        return None if stored is None else Chosen(unsealed(stored, vault()), stored.id)
    given = load_credential(
        certificate=settings.certificate,
        private_key=settings.private_key,
        pkcs12=settings.pkcs12,
        password=settings.read_private_key_password(),
    )
    if now <= given.expires_at or stored is None or stored.valid_to is None or stored.valid_to < now:
        return Chosen(given, None)
    return Chosen(
        unsealed(stored, vault()),
        stored.id,
        f"Certyfikat z plików wskazanych w [{purpose}] wygasł {given.expires_at:%Y-%m-%d}; bufor używa nowszego, "
        f"zapisanego w bazie. Usuń z [{purpose}] ustawienia certyfikatu.",
    )


def stored_choice(purpose: str, kept: Iterable[Kept]) -> Kept | None:
    """The row to be used: the active one, else the pending one once its certificate is here."""
    mine = [row for row in kept if row.purpose == purpose and row.certificate is not None]
    active = next((row for row in mine if row.state == "active"), None)
    return active or next((row for row in mine if row.state == "pending"), None)


def unsealed(kept: Kept, vault: Vault) -> Credential:
    """The kept credential, its key opened. Raises CredentialFault."""
    if kept.certificate is None or kept.sealed_key is None:
        raise ValueError("a row without a certificate or a key")
    return credential_of(kept.certificate, vault.open(sealed_for(kept.purpose, kept.name), kept.sealed_key))


def standing(kept: Kept, now: datetime) -> Standing:
    """How a kept certificate, or the request for one, stands."""
    return Standing(
        purpose=kept.purpose,
        origin=_origin(kept.source),
        status=status_words(kept.state, kept.valid_from, kept.valid_to, now),
        subject=kept.subject or "",
        issuer=kept.issuer or "",
        serial=kept.serial or "",
        valid_from=kept.valid_from,
        valid_to=kept.valid_to,
        days_left=None if kept.valid_to is None else days_between(now, kept.valid_to),
        note=kept.note or "",
    )


def standing_of_files(purpose: str, credential: Credential, now: datetime) -> Standing:
    """How a certificate from files named in the settings stands."""
    facts = facts_of(credential.certificate)
    return Standing(
        purpose=purpose,
        origin="files",
        status=status_words("active", facts.valid_from, facts.valid_to, now),
        subject=facts.subject,
        issuer=facts.issuer,
        serial=facts.serial,
        valid_from=facts.valid_from,
        valid_to=facts.valid_to,
        days_left=days_between(now, facts.valid_to),
        note=str(recognise(credential.certificate).kind),
    )


def _origin(source: str) -> Literal["import", "enrolment", "sandbox"]:
    match source:
        case "enrolment":
            return "enrolment"
        case "sandbox":
            return "sandbox"
        case _:
            return "import"
