"""``token``: KSeF tokens, the way in for programs that have no certificate; they end on 31 December 2026."""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ksefbuffer.commands.base import Settings, as_json_option, pass_settings
from ksefbuffer.erp import answers
from ksefbuffer.erp.files import shown, sync_folder
from ksefbuffer.errors import ConfigurationFault, CredentialFault, NoSuchThing, NotAllowedNow, OutcomeUnknown, Refused
from ksefbuffer.identity.chosen import tokens_end
from ksefbuffer.queue import facts

if TYPE_CHECKING:
    from ksefbuffer.ksef.client import Ksef
    from ksefbuffer.ksef.shapes import TokenListed

# Source: open-api 2.9.0, TokenPermissionType.
_PERMISSIONS = (
    *("InvoiceRead", "InvoiceWrite", "CredentialsRead", "CredentialsManage", "SubunitManage", "EnforcementOperations"),
    *("Introspection", "CollectiveIdentifierManage"),
)
_STATUSES = {
    "Pending": ("w trakcie aktywacji", "being activated"),
    "Active": ("aktywny", "active"),
    "Revoking": ("w trakcie unieważniania", "being revoked"),
    "Revoked": ("unieważniony", "revoked"),
    "Failed": ("nie powstał", "failed"),
}
# As ``cert auth-request`` keeps it.
_REQUEST = "auth_request"
_ASKED_EVERY_S = 0.5
_ASKED_TIMES = 60


@click.group()
def token() -> None:
    """Tokeny KSeF: wystawianie, lista, unieważnianie; działają do 31 grudnia 2026 r."""


@token.command("make")
@click.option("--description", help="Opis tokenu w KSeF, 5 do 256 znaków (domyślnie z nazwą bufora i datą).")
@click.option(
    "--permission",
    "permissions",
    multiple=True,
    type=click.Choice(_PERMISSIONS),
    help="Uprawnienie; można podać kilka (domyślnie InvoiceRead i InvoiceWrite).",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Zapisz token w nowym pliku (0600).")
@click.option(
    "--signed",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Zaloguj się podpisanym dokumentem z cert auth-request zamiast certyfikatem.",
)
@pass_settings
def token_make(
    settings: Settings, description: str | None, permissions: Sequence[str], out: Path | None, signed: Path | None
) -> None:
    """Wystawia token; KSeF pokazuje go tylko ten jeden raz."""
    from ksefbuffer.ksef.tokens import LEAST_PERMISSIONS

    if description is not None and not 5 <= len(description) <= 256:
        raise ConfigurationFault(f"--description: opis ma {len(description)} znaków, a powinien mieć od 5 do 256.")
    if settings.config.auth.method == "token" and signed is None:
        raise CredentialFault(
            "Tokenem KSeF nie można wystawić następnego tokenu: KSeF wymaga zalogowania certyfikatem albo podpisem.",
            action="Podpisz dokument z polecenia ksefbuffer cert auth-request i podaj go w --signed.",
        )
    described = description or (f"ksefbuffer {settings.config.nip} {settings.now():%Y-%m-%d} {secrets.token_hex(3)}")
    with _empty_file(out) as written, _client(settings, signed) as ksef:
        try:
            made = ksef.make_token(described, tuple(dict.fromkeys(permissions)) or LEAST_PERMISSIONS)
        except OutcomeUnknown as fault:
            raise OutcomeUnknown(
                fault.message,
                action=f"Token mógł powstać, ale go nie znamy. Znajdź go po opisie „{described}” "
                "(ksefbuffer token list), unieważnij (ksefbuffer token revoke) i wystaw nowy.",
                operation=fault.operation,
                code=fault.code,
                http_status=fault.http_status,
                details=fault.details,
            ) from None
        if written is None:
            click.echo(made.token)
        else:
            _write(written, made.token, made.reference, ksef)
        say = settings.say
        click.echo(
            say(
                f"Wystawiono token {made.reference}: {described}. "
                + (f"Zapisano go w {shown(str(out))}." if out else "KSeF już go nie pokaże; zapisz go teraz."),
                f"Made token {made.reference}: {described}. "
                + (f"Written to {shown(str(out))}." if out else "KSeF will not show it again; keep it now."),
            ),
            err=True,
        )
        status = _activated(ksef, made.reference)
    if status.status == "Failed":
        details = " ".join(status.details)
        raise NotAllowedNow(
            f"KSeF nie aktywował tokenu {made.reference}. {details}".strip(), action="Wystaw token jeszcze raz."
        )
    if status.status == "Pending":
        click.echo(say("KSeF jeszcze go aktywuje; stan: ksefbuffer token list.", "KSeF is activating it."), err=True)
    click.echo(tokens_end(settings.now()), err=True)


@token.command("list")
@as_json_option
@pass_settings
def token_list(settings: Settings, as_json: bool) -> None:
    """Tokeny tej firmy w KSeF, od najnowszych; same tokeny zna tylko ten, kto je zapisał."""
    with _client(settings) as ksef:
        found = list(ksef.tokens())
    if as_json:
        told = [
            {
                "reference": one.reference,
                "description": one.description,
                "permissions": list(one.permissions),
                "status": one.status,
                "details": list(one.details),
                "created_at": answers.moment(one.created_at),
                "last_used_at": answers.moment(one.last_used_at),
            }
            for one in found
        ]
        click.echo(json.dumps(told, ensure_ascii=False, indent=2))
        return
    for one in found:
        words = _STATUSES.get(one.status)
        used = f"{one.last_used_at:%Y-%m-%d}" if one.last_used_at else settings.say("nigdy", "never")
        click.echo(
            f"{one.reference}  {settings.say(*words) if words else one.status:<24}  "
            f"{settings.say('użyty', 'used')}: {used:<10}  {', '.join(one.permissions)}  {shown(one.description)}"
        )
        for detail in one.details:
            click.echo(f"    {detail}")
    if not found:
        click.echo(settings.say("Nie ma żadnego tokenu.", "There is no token."))
    click.echo(tokens_end(settings.now()))


@token.command("revoke")
@click.argument("reference", metavar="REFERENCE")
@pass_settings
def token_revoke(settings: Settings, reference: str) -> None:
    """Unieważnia token o tym numerze referencyjnym; uzyskany nim dostęp gaśnie najpóźniej po kwadransie."""
    with _client(settings) as ksef:
        try:
            ksef.revoke_token(reference)
        except Refused as fault:
            why = fault.details[-1] if fault.details else fault.message
            raise NoSuchThing(
                f"KSeF nie unieważnił tokenu „{shown(reference)}”: {why}",
                action="Numery tokenów podaje: ksefbuffer token list.",
            ) from None
    click.echo(settings.say(f"Unieważniono token {reference}.", f"Revoked token {reference}."))


@contextmanager
def _client(settings: Settings, signed: Path | None = None) -> Iterator[Ksef]:
    """KSeF by the configured way in, or by a signed document. Raises BufferFault."""
    from ksefbuffer import worker
    from ksefbuffer.ksef.signed import LoginRequest

    database = settings.database()
    if signed is None:
        ksef = worker.ksef_of(settings.config, database, environ=os.environ)
        try:
            yield ksef
        finally:
            ksef.close()
        return
    with database.reading() as tx:
        told = facts.get(tx, _REQUEST)
    if told is None:
        raise NotAllowedNow("Nie ma dokumentu logowania.", action="Najpierw: ksefbuffer cert auth-request PLIK.")
    try:
        document = signed.read_bytes()
    except OSError as error:
        raise ConfigurationFault(f"Pliku {shown(str(signed))} nie można odczytać: {error.strerror}.") from error
    ksef = worker.ksef_of(settings.config, database, environ=os.environ, without_login=True)
    try:
        ksef.auth_submit(LoginRequest.restored(told[0]), document)
        with database.transaction() as tx:
            facts.forget(tx, _REQUEST)
        yield ksef
    finally:
        ksef.close()


@contextmanager
def _empty_file(path: Path | None) -> Iterator[tuple[Path, int] | None]:
    """A new file for its owner alone, made before there is anything to lose; gone again when nothing came of it."""
    if path is None:
        yield None
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ConfigurationFault(
            f"--out: plik {shown(str(path))} już jest; zostaje bez zmian.", action="Podaj inną nazwę."
        ) from None
    except OSError as error:
        raise ConfigurationFault(f"--out: nie można zapisać {shown(str(path))}: {error.strerror}.") from error
    try:
        yield path, descriptor
    finally:
        empty = os.fstat(descriptor).st_size == 0
        os.close(descriptor)
        if empty:
            path.unlink(missing_ok=True)


def _write(file: tuple[Path, int], content: str, reference: str, ksef: Ksef) -> None:
    path, descriptor = file
    whole = content.encode()
    try:
        if os.write(descriptor, whole) != len(whole):
            raise OSError(28, "brak miejsca na dysku")
        os.fsync(descriptor)
        sync_folder(path.absolute().parent)
    except OSError as error:
        # Nobody has it now, so nobody shall.
        os.ftruncate(descriptor, 0)
        ksef.revoke_token(reference)
        raise ConfigurationFault(
            f"Tokenu nie udało się zapisać w {shown(str(path))}: {error.strerror}; unieważniono go.",
            action="Zwolnij miejsce albo podaj inny plik i wystaw token jeszcze raz.",
        ) from error


def _activated(ksef: Ksef, reference: str) -> TokenListed:
    """The token's status once KSeF has made up its mind, or after half a minute as it is."""
    status = ksef.token(reference)
    for _ in range(_ASKED_TIMES):
        if status.status != "Pending":
            break
        threading.Event().wait(_ASKED_EVERY_S)
        status = ksef.token(reference)
    return status
