"""Certificates in files and tokens: what the settings name, and until when it serves."""

from __future__ import annotations

from datetime import datetime

from ksefbuffer.config import Config
from ksefbuffer.errors import ConfigurationFault, CredentialFault
from ksefbuffer.identity.material import load_credential
from ksefbuffer.identity.recognition import facts_of
from ksefbuffer.identity.words import TOKENS_END
from ksefbuffer.notify.shapes import Ending
from ksefbuffer.offline.calendar import end_of_day

_FILES = {"auth": "certyfikat do logowania w KSeF", "offline": "certyfikat offline (kody QR faktur)"}


def named_in(config: Config, _now: datetime) -> tuple[Ending, ...]:
    """Ends of what the settings name; files that cannot be used are passed over here, as ``status`` tells of them."""
    found: list[Ending] = []
    if config.auth.method == "token":
        found.append(
            Ending(
                f"token:{TOKENS_END.isoformat()}",
                "token KSeF",
                end_of_day(TOKENS_END),
                action="przejdź na certyfikat: zaloguj się podpisem (ksefbuffer cert auth-request), uzyskaj "
                'certyfikaty (ksefbuffer cert enroll) i ustaw auth.method = "certificate".',
            )
        )
    for purpose, keys in (("auth", config.auth), ("offline", config.offline)):
        if not keys.has_key or (purpose == "auth" and config.auth.method == "token"):
            continue
        try:
            credential = load_credential(
                certificate=keys.certificate,
                private_key=keys.private_key,
                pkcs12=keys.pkcs12,
                password=keys.read_private_key_password(),
            )
        except (ConfigurationFault, CredentialFault):
            continue
        told = facts_of(credential.certificate)
        found.append(
            Ending(
                f"{purpose}:{told.fingerprint}",
                _FILES[purpose],
                told.valid_to,
                action=f"uzyskaj nowy certyfikat (ksefbuffer cert enroll) i podmień pliki wskazane w [{purpose}].",
            )
        )
    return tuple(found)
