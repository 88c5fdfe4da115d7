"""Whether a certificate may serve a purpose here, and what people should know about it. Pure.

Source: FACTS §1.1 (environments), §2.4, §9.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ksefbuffer.errors import CredentialFault
from ksefbuffer.identity.material import Credential
from ksefbuffer.identity.recognition import Kind, Recognised, recognise
from ksefbuffer.identity.words import WARNED_BEFORE

Purpose = Literal["auth", "offline"]

TAKES_SELF_SIGNED = ("sandbox", "test")


@dataclass(frozen=True)
class Examined:
    """What the certificate is, and hints in Polish for who brings it: nothing that would forbid its use."""

    recognised: Recognised
    hints: tuple[str, ...]


def examine(credential: Credential, purpose: Purpose, *, environment: str, nip: str, now: datetime) -> Examined:
    """Raises CredentialFault when the certificate cannot serve ``purpose`` in ``environment`` at ``now``.

    ``nip`` is the company in whose name the buffer works. KSeF knows who has which rights; here that is only hinted at.
    """
    recognised = recognise(credential.certificate)
    if purpose == "offline":
        _check_not_qualified(recognised)
        _check_environment(recognised, environment)
        credential.check_offline(now)
    else:
        _check_environment(recognised, environment)
        credential.check_login(now)
    return Examined(recognised, tuple(_hints(credential, recognised, purpose, nip, now)))


def new_name(purpose: Purpose, now: datetime) -> str:
    """A name for a certificate that is nowhere else: KSeF takes letters, digits, spaces, hyphens and underscores."""
    return f"ksefbuffer {purpose} {now:%Y%m%d} {secrets.token_hex(6)}"


def sealed_for(purpose: str, name: str) -> str:
    """What a kept key is sealed for: it does not open in another row."""
    return f"credentials/{purpose}/{name}"


def _check_not_qualified(recognised: Recognised) -> None:
    if recognised.kind in (Kind.QUALIFIED_SIGNATURE, Kind.QUALIFIED_SEAL):
        raise CredentialFault(
            f"To jest {recognised.kind}, a kody QR faktur offline podpisuje się tylko certyfikatem KSeF typu Offline.",
            action="Uzyskaj certyfikat typu Offline (ksefbuffer cert enroll); kwalifikowany służy do logowania.",
        )


def _check_environment(recognised: Recognised, environment: str) -> None:
    if recognised.kind is Kind.SELF_SIGNED and environment not in TAKES_SELF_SIGNED:
        raise CredentialFault(
            f"Certyfikat samopodpisany działa tylko w środowisku testowym, a w konfiguracji jest "
            f"environment = {environment}.",
            action="Użyj certyfikatu KSeF albo kwalifikowanego.",
        )
    if recognised.for_test and environment == "production":
        raise CredentialFault(
            f"Ten certyfikat wydał testowy KSeF ({recognised.issuer}); na produkcji nie zadziała.",
            action="Uzyskaj certyfikat w produkcyjnym KSeF.",
        )
    if recognised.for_test is False and environment in ("test", "demo"):
        raise CredentialFault(
            f"Ten certyfikat wydał produkcyjny KSeF ({recognised.issuer}); w środowisku {environment} nie zadziała.",
            action=f"Uzyskaj certyfikat w KSeF środowiska {environment}.",
        )


def _hints(credential: Credential, recognised: Recognised, purpose: Purpose, nip: str, now: datetime) -> list[str]:
    hints: list[str] = []
    if recognised.mixed:
        hints.append("Certyfikat ma jednocześnie dane osoby i identyfikator firmy; KSeF takich zwykle nie przyjmuje.")
    if recognised.identifier_kind == "Pesel":
        hints.append(
            f"To certyfikat osoby (PESEL), a bufor pracuje dla firmy NIP {nip}: zadziała tylko wtedy, gdy ta osoba ma "
            "w KSeF uprawnienia tej firmy do wystawiania i przeglądania faktur."
        )
    elif recognised.identifier_kind == "Nip" and recognised.identifier != nip:
        hints.append(
            f"Certyfikat jest wystawiony na NIP {recognised.identifier}, a bufor pracuje dla NIP {nip}: zadziała tylko "
            "wtedy, gdy ten podmiot ma w KSeF uprawnienia nadane przez firmę."
        )
    elif recognised.identifier_kind == "Fingerprint" and purpose == "auth" and recognised.kind is not Kind.SELF_SIGNED:
        hints.append(
            "Certyfikat nie zawiera NIP ani PESEL: nadaj w KSeF uprawnienia jego odciskowi "
            f'{credential.sha256_hex} i ustaw auth.identifier = "certificate_fingerprint".'
        )
    if recognised.kind is Kind.OTHER:
        hints.append(
            f"Wystawca ({recognised.issuer}) nie jest znany jako KSeF ani jako kwalifikowany; KSeF może go odrzucić."
        )
    days = (credential.expires_at - now).days
    if credential.expires_at - now <= WARNED_BEFORE:
        hints.append(f"Certyfikat wygasa {credential.expires_at:%Y-%m-%d} (zostało dni: {days}).")
    return hints
