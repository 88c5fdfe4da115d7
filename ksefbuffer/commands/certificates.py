"""``cert``: the buffer's certificates, for logging in to KSeF and for the QR codes of offline invoices."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from ksefbuffer.commands.base import Settings, as_json_option, pass_settings
from ksefbuffer.erp import answers
from ksefbuffer.erp.files import shown, write_whole
from ksefbuffer.errors import ConfigurationFault, NoSuchThing, NotAllowedNow
from ksefbuffer.identity.chosen import Standing, standing, tokens_end
from ksefbuffer.identity.enrolment import Enrolment
from ksefbuffer.identity.examining import Purpose, examine
from ksefbuffer.identity.importing import bring_in
from ksefbuffer.identity.material import CredentialKind, load_files
from ksefbuffer.identity.neighbours import Row
from ksefbuffer.identity.recognition import facts_of
from ksefbuffer.identity.standings import standing_of_settings
from ksefbuffer.queue import credentials, facts
from ksefbuffer.queue.db import Database, worker_is_running

_PURPOSES: tuple[Purpose, ...] = ("auth", "offline")
_FOR = {"auth": ("logowanie", "login"), "offline": ("kody QR offline", "offline QR codes")}
_REQUEST = "auth_request"
_COMES_SOON = timedelta(minutes=2)
_ASKED_EVERY_S = 0.5


@click.group()
def cert() -> None:
    """Certyfikaty KSeF: do logowania i do kodów QR faktur offline."""


@cert.command("import")
@click.argument("files", metavar="FILE [KEY]", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--purpose", type=click.Choice(_PURPOSES), help="Do czego służy (domyślnie rozpoznawane z certyfikatu).")
@click.option("--password-file", type=click.Path(path_type=Path, dir_okay=False), help="Plik z hasłem klucza.")
@click.option("--ask-password", is_flag=True, help="Zapytaj o hasło klucza.")
@pass_settings
def cert_import(
    settings: Settings, files: Sequence[Path], purpose: Purpose | None, password_file: Path | None, ask_password: bool
) -> None:
    """Zapisuje w buforze certyfikat z kluczem: para plików (.crt, .pem, .der i .key) albo jeden plik PKCS#12."""
    if len(files) > 2:
        raise ConfigurationFault("Podaj certyfikat i klucz albo jeden plik PKCS#12.")
    config, now = settings.config, settings.now()
    credential = load_files(files[0], files[1] if len(files) == 2 else None, _password(password_file, ask_password))
    kind: Purpose = purpose or ("offline" if credential.kind is CredentialKind.OFFLINE else "auth")
    examined = examine(credential, kind, environment=config.environment, nip=config.nip, now=now)
    database = settings.database()
    bring_in(database, credentials, _vault(settings, database), credential, kind, now=now)
    told = facts_of(credential.certificate)
    say = settings.say
    click.echo(
        say(
            f"Zapisano: {examined.recognised.kind} ({_FOR[kind][0]}), {told.subject}, ważny do "
            f"{told.valid_to:%Y-%m-%d}.",
            f"Kept for {_FOR[kind][1]}: {told.subject}, valid until {told.valid_to:%Y-%m-%d}.",
        )
    )
    for hint in examined.hints:
        click.echo(f"→ {hint}")
    if kind == "auth" and config.auth.has_key:
        click.echo(
            say("→ W [auth] są wskazane pliki; dopóki są ważne, bufor używa ich.", "→ Files in [auth] go first.")
        )


def _password(file: Path | None, ask: bool) -> str | None:
    if ask:
        return str(click.prompt("Hasło klucza", hide_input=True, err=True))
    if file is None:
        return None
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationFault(f"Nie można odczytać pliku z hasłem {shown(str(file))}.") from error


def _vault(settings: Settings, database: Database) -> Any:
    from ksefbuffer import worker

    return worker.vault_of(settings.config, database, os.environ)


@cert.command("status")
@as_json_option
@pass_settings
def cert_status(settings: Settings, as_json: bool) -> None:
    """Jak stoją certyfikaty: zapisane w buforze i wskazane w ustawieniach."""
    found = standings(settings)
    if as_json:
        click.echo(json.dumps([_as_json(one) for one in found], ensure_ascii=False, indent=2))
    else:
        for one in found:
            until = f", {settings.say('do', 'until')} {one.valid_to:%Y-%m-%d}" if one.valid_to else ""
            click.echo(f"{settings.say(*_FOR[one.purpose])}: {one.status}{until}  {one.subject} {one.serial}".rstrip())
            if one.note:
                click.echo(f"    {one.note}")
        if not found:
            click.echo(settings.say("Nie ma żadnego certyfikatu.", "There is no certificate."))
        if settings.config.auth.method == "token":
            click.echo(tokens_end(settings.now()))


def standings(settings: Settings) -> list[Standing]:
    """Every certificate, those from files first. Raises CredentialFault when a file cannot be used."""
    config, now = settings.config, settings.now()
    found: list[Standing] = []
    for purpose, keys in (("auth", config.auth), ("offline", config.offline)):
        one = standing_of_settings(purpose, keys, now)
        if one is not None:
            found.append(one)
    with settings.database().reading() as tx:
        kept = credentials.all_kept(tx)
    return [*found, *(standing(row, now) for row in kept)]


def _as_json(one: Standing) -> dict[str, Any]:
    return {
        "purpose": one.purpose,
        "origin": one.origin,
        "status": one.status,
        "subject": one.subject,
        "issuer": one.issuer,
        "serial": one.serial,
        "valid_from": answers.moment(one.valid_from),
        "valid_to": answers.moment(one.valid_to),
        "days_left": one.days_left,
        "note": one.note,
    }


def _purposes(command: Any) -> Any:
    command = click.option("--key", type=click.Choice(["ec", "rsa"]), default="ec", show_default=True, help="Klucz.")(
        command
    )
    return click.option(
        "--purpose", "purposes", multiple=True, type=click.Choice(_PURPOSES), help="Tylko ten (domyślnie oba)."
    )(command)


@cert.command("enroll")
@_purposes
@pass_settings
def cert_enroll(settings: Settings, /, purposes: Sequence[Purpose], key: Any) -> None:
    """Uzyskuje z KSeF certyfikaty: do logowania i do kodów QR offline."""
    _enroll(settings, purposes or _PURPOSES, key)


@cert.command("renew")
@_purposes
@pass_settings
def cert_renew(settings: Settings, /, purposes: Sequence[Purpose], key: Any) -> None:
    """Odnawia teraz certyfikaty uzyskane z KSeF; stary działa, dopóki nowy się nie sprawdzi."""
    with settings.database().reading() as tx:
        here = [purpose for purpose in purposes or _PURPOSES if credentials.active(tx, purpose) is not None]
    if not here:
        raise NoSuchThing(
            "Nie ma w buforze certyfikatu do odnowienia.", action="Pierwszy uzyskasz przez: ksefbuffer cert enroll."
        )
    _enroll(settings, here, key)


def _enroll(settings: Settings, purposes: Sequence[Purpose], key: Any) -> None:
    from ksefbuffer import worker

    database = settings.database()
    ksef = worker.ksef_of(settings.config, database, environ=os.environ)
    try:
        enrolment = worker.enrolment_of(settings.config, database, ksef, environ=os.environ)
        _go_through(settings, database, enrolment, purposes, key, by_worker=worker_is_running(database))
    finally:
        ksef.close()


def _go_through(
    settings: Settings,
    database: Database,
    enrolment: Enrolment,
    purposes: Sequence[Purpose],
    key: Any,
    *,
    by_worker: bool,
) -> None:
    """Each request up to its end, or up to where it has to wait for long. A running buffer takes the steps itself."""
    waits = False
    for purpose in purposes:
        row: Row = enrolment.start(purpose, key)
        while row.state == "pending":
            # Should it end meanwhile, this process goes on by itself.
            if not (by_worker and worker_is_running(database)):
                row = enrolment.go_on(purpose) or row
            else:
                with database.reading() as tx:
                    row = credentials.kept(tx, row.id) or row
            now = settings.now()
            if row.state == "pending" and row.next_step_at is not None and row.next_step_at > now + _COMES_SOON:
                break
            wait = (row.next_step_at - now).total_seconds() if row.next_step_at else 0.0
            threading.Event().wait(min(max(wait, 0.05), _ASKED_EVERY_S))
        stands = standing(row, settings.now())
        waits = waits or row.state != "active"
        note = f" ({row.note})" if row.note else ""
        click.echo(f"{settings.say(*_FOR[purpose])}: {stands.status} {stands.serial}{note}")
    sys.exit(1 if waits else 0)


@cert.command("auth-request")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@pass_settings
def cert_auth_request(settings: Settings, path: Path) -> None:
    """Zapisuje dokument logowania do podpisania Profilem Zaufanym albo podpisem kwalifikowanym."""
    from ksefbuffer import worker

    config, database = settings.config, settings.database()
    ksef = worker.ksef_of(config, database, environ=os.environ, without_login=True)
    try:
        request = ksef.auth_request(config.auth.identifier)
    finally:
        ksef.close()
    try:
        write_whole(path.absolute(), request.document())
    except OSError as error:
        raise ConfigurationFault(f"Nie można zapisać {path}: {error.strerror}.", action="Sprawdź folder.") from error
    with database.transaction() as tx:
        facts.put(tx, _REQUEST, request.kept(), at=settings.now())
    until = answers.moment(request.expires_at)
    click.echo(
        settings.say(
            f"Zapisano {path}. Podpisz go (XAdES, np. na moj.gov.pl) i przed {until} wydaj polecenie: "
            "ksefbuffer cert auth-submit PLIK_PODPISANY",
            f"Wrote {path}. Sign it (XAdES) and before {until} give: ksefbuffer cert auth-submit SIGNED_FILE",
        )
    )


@cert.command("auth-submit")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--no-enroll", is_flag=True, help="Tylko sprawdź logowanie, nie uzyskuj certyfikatów KSeF.")
@pass_settings
def cert_auth_submit(settings: Settings, path: Path, no_enroll: bool) -> None:
    """Loguje do KSeF podpisanym dokumentem i uzyskuje certyfikaty, którymi bufor będzie się logował dalej."""
    from ksefbuffer import worker
    from ksefbuffer.ksef.signed import LoginRequest

    config, database = settings.config, settings.database()
    with database.reading() as tx:
        told = facts.get(tx, _REQUEST)
    if told is None:
        raise NotAllowedNow("Nie ma dokumentu logowania.", action="Najpierw: ksefbuffer cert auth-request PLIK.")
    try:
        signed = path.read_bytes()
    except OSError as error:
        raise ConfigurationFault(f"Pliku {shown(str(path))} nie można odczytać: {error.strerror}.") from error
    ksef = worker.ksef_of(config, database, environ=os.environ, without_login=True)
    try:
        ksef.auth_submit(LoginRequest.restored(told[0]), signed)
        with database.transaction() as tx:
            facts.forget(tx, _REQUEST)
        click.echo(settings.say("Zalogowano do KSeF.", "Logged in to KSeF."))
        if not no_enroll:
            enrolment = worker.enrolment_of(config, database, ksef, environ=os.environ, alone=True)
            _go_through(settings, database, enrolment, _PURPOSES, "ec", by_worker=False)
    finally:
        ksef.close()
