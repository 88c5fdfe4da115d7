"""How a certificate stands that lies in files which the settings name."""

from __future__ import annotations

from datetime import datetime

from ksefbuffer.identity.chosen import KeySettings, Standing, standing_of_files
from ksefbuffer.identity.material import load_credential


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
