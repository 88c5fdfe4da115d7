"""How every certificate of a buffer stands: those in files that the settings name, and those kept in the database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from ksefbuffer.errors import ConfigurationFault, CredentialFault
from ksefbuffer.identity.chosen import KeySettings, Standing, standing, standing_of_files
from ksefbuffer.identity.material import load_credential
from ksefbuffer.identity.neighbours import Kept

UNREADABLE = "nie do odczytania"
FACT = "certificates"
"""The fact by which the worker tells processes that have no keys."""


def standing_of_settings(purpose: str, settings: KeySettings, now: datetime) -> Standing | None:
    """The certificate that the settings name, None when they name none. Raises CredentialFault, ConfigurationFault."""
    if not settings.has_key:
        return None
    credential = load_credential(
        certificate=settings.certificate,
        private_key=settings.private_key,
        pkcs12=settings.pkcs12,
        password=settings.read_private_key_password(),
    )
    return standing_of_files(purpose, credential, now)


def told(settings: Mapping[str, KeySettings], kept: Iterable[Kept], now: datetime) -> list[dict[str, Any]]:
    """All standings as JSON-ready objects; a file that cannot be used is told as such, with the reason in ``note``."""
    found: list[dict[str, Any]] = []
    for purpose, keys in settings.items():
        try:
            one = standing_of_settings(purpose, keys, now)
        except (CredentialFault, ConfigurationFault) as fault:
            found.append({**_EMPTY, "purpose": purpose, "origin": "files", "status": UNREADABLE, "note": str(fault)})
            continue
        if one is not None:
            found.append(_object(one))
    return [*found, *(_object(standing(row, now)) for row in kept)]


_EMPTY: Mapping[str, Any] = {
    "purpose": "",
    "origin": "",
    "status": "",
    "subject": "",
    "issuer": "",
    "serial": "",
    "valid_from": None,
    "valid_to": None,
    "days_left": None,
    "note": "",
}


def _object(one: Standing) -> dict[str, Any]:
    values = {name: getattr(one, name) for name in _EMPTY}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}
