"""Ways in to KSeF: which certificate or token, the client made with it, requests for certificates."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from ksefbuffer.config import Config
from ksefbuffer.errors import ConfigurationFault, CredentialFault
from ksefbuffer.identity.chosen import Chosen, choose, stored_choice
from ksefbuffer.identity.enrolment import Enrolment
from ksefbuffer.identity.material import Credential, load_credential
from ksefbuffer.identity.selfsigned import make_selfsigned
from ksefbuffer.identity.vault import Vault, open_vault
from ksefbuffer.ksef.auth import CertificateLogin, Login, NoLogin, TokenLogin
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.limits import Limiter
from ksefbuffer.queue import credentials, schema
from ksefbuffer.queue.db import Database
from ksefbuffer.sender.memory import RememberedLimiter

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)


def vault_of(config: Config, database: Database, environ: Mapping[str, str]) -> Vault:
    """What opens the keys kept in the database. Raises ConfigurationFault, StorageFault."""
    with database.reading() as tx:
        may_make = not credentials.any_sealed(tx)
    return open_vault(config.data_dir, environ.get("CREDENTIALS_DIRECTORY"), may_make=may_make)


def login_of(
    config: Config, *, now: datetime, database: Database | None = None, environ: Mapping[str, str] | None = None
) -> Login:
    """The way in: files that the configuration names, else the certificate kept in the database; in "sandbox" a missing
    one is made, self-signed. Raises CredentialFault, ConfigurationFault.
    """
    auth = config.auth
    if auth.method == "token":
        return TokenLogin(auth.read_token())
    chosen = _chosen_login(config, database, environ or {}, now) if database is not None else None
    if chosen is not None:
        if chosen.note:
            log.warning("%s", chosen.note)
        return CertificateLogin(chosen.credential, auth.identifier)
    certificate, private_key = auth.certificate, auth.private_key
    if config.environment == "sandbox" and auth.pkcs12 is None:
        certificate = certificate or config.data_dir / "sandbox-auth.crt"
        private_key = private_key or config.data_dir / "sandbox-auth.key"
        if not certificate.exists() and not private_key.exists():
            make_sandbox_certificate(config.nip, certificate, private_key, now=now)
    if certificate is None and auth.pkcs12 is None:
        raise ConfigurationFault(
            "auth.certificate: brakuje certyfikatu do logowania w KSeF.",
            action="Podaj w [auth] certificate i private_key albo pkcs12, albo zapisz certyfikat w buforze: "
            "ksefbuffer cert import (pierwszy raz także: ksefbuffer cert auth-request).",
        )
    credential = load_credential(
        certificate=certificate, private_key=private_key, pkcs12=auth.pkcs12, password=auth.read_private_key_password()
    )
    # What it is for is a matter of configuration. Whether it is valid today is KSeF's to judge: invoices are taken in
    # and answered also while a new certificate is on its way.
    within = min(max(now, credential.certificate.not_valid_before_utc), credential.expires_at)
    credential.check_login(within)
    try:
        credential.check_valid(now)
    except CredentialFault as fault:
        log.warning("%s", fault)
    return CertificateLogin(credential, auth.identifier)


def _chosen_login(config: Config, database: Database, environ: Mapping[str, str], now: datetime) -> Chosen | None:
    """The certificate kept in the database, where the files do not go first."""
    if not schema.exists(database):
        return None
    with database.reading() as tx:
        kept = credentials.all_kept(tx) if schema.revision(database) == schema.head() else []
    if stored_choice("auth", kept) is None:
        return None
    found = choose("auth", config.auth, kept, lambda: vault_of(config, database, environ), now)
    return found if found is not None and found.kept is not None else None


def ksef_of(
    config: Config,
    database: Database,
    *,
    environ: Mapping[str, str],
    without_login: bool = False,
    clock: Clock = utc_now,
) -> Ksef:
    """KSeF for a command, its calls counted with the buffer's. Raises ConfigurationFault, CredentialFault."""
    limiter = RememberedLimiter(database)
    limiter.recall(clock())
    login = NoLogin() if without_login else login_of(config, now=clock(), database=database, environ=environ)
    return make_ksef(config, login, limiter, clock, time.sleep)


def make_ksef(config: Config, login: Login, limiter: Limiter, clock: Clock, sleep: Callable[[float], None]) -> Ksef:
    return Ksef(
        base_url=config.ksef.base_url,
        context_nip=config.nip,
        internal_id=config.auth.internal_id,
        login=login,
        limiter=limiter,
        clock=clock,
        sleep=sleep,
        timeout_s=config.ksef.timeout_seconds,
    )


def enrolment_of(
    config: Config,
    database: Database,
    ksef: Ksef,
    *,
    environ: Mapping[str, str],
    alone: bool = False,
    clock: Clock = utc_now,
) -> Enrolment:
    """Requests and renewals of certificates. With ``alone`` the access of ``ksef`` is that of a signed document, which
    a proof of the new certificate must not end."""

    def log_in_with(credential: Credential) -> None:
        login = CertificateLogin(credential, config.auth.identifier)
        if follows:
            ksef.adopt(login)
            return
        proof = make_ksef(config, login, Limiter(), clock, time.sleep)
        try:
            proof.login_now()
        finally:
            proof.close()

    chosen = _chosen_login(config, database, environ, clock())
    follows = chosen is not None and not alone
    return Enrolment(
        database,
        credentials,
        ksef,
        vault_of(config, database, environ),
        clock,
        log_in_with=log_in_with,
        follows=follows,
        used=chosen.kept if chosen is not None else None,
    )


def make_sandbox_certificate(nip: str, certificate: Path, private_key: Path, *, now: datetime) -> None:
    """Writes a self-signed seal certificate; the sandbox (like KSeF's TEST) takes it, no other environment does."""
    certificate_pem, key_pem = make_selfsigned(nip, now=now)
    try:
        for path, content, mode in ((private_key, key_pem, 0o600), (certificate, certificate_pem, 0o644)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=mode)
            path.write_bytes(content)
    except OSError as error:
        raise ConfigurationFault(
            f"Nie można zapisać certyfikatu testowego {certificate}: {error.strerror}.",
            action="Sprawdź prawa do folderu.",
        ) from error
    log.info("self-signed certificate made for the sandbox: %s", certificate)


def offline_credential_of(
    config: Config, database: Database, environ: Mapping[str, str], now: datetime
) -> Credential | None:
    """What signs KOD II: the files that [offline] names, else the certificate kept in the database; None when there is
    neither. Raises CredentialFault, ConfigurationFault."""
    with database.reading() as tx:
        kept = credentials.all_kept(tx)
    chosen = choose("offline", config.offline, kept, lambda: vault_of(config, database, environ), now)
    return None if chosen is None else chosen.credential
