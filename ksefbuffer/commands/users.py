"""``user`` and ``apikey``: who may come in by the page and by the API."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from ksefbuffer.commands.base import Settings, actor, as_json_option, pass_settings
from ksefbuffer.config import Config
from ksefbuffer.erp import answers
from ksefbuffer.errors import ConfigurationFault, NotAllowedNow
from ksefbuffer.queue import people
from ksefbuffer.queue.db import Database
from ksefbuffer.web import passwords
from ksefbuffer.web.access import SCOPES
from ksefbuffer.web.links import base_url, invitation_url

password_file_option = click.option(
    "--password-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Plik z hasłem; bez niego powstaje jednorazowy link.",
)


@click.group()
def user() -> None:
    """Użytkownicy strony."""


@user.command("add")
@click.argument("login")
@click.option("--admin", is_flag=True, help="Administrator: widzi i zmienia wszystko.")
@click.option("--name", default="", help="Imię i nazwisko.")
@password_file_option
@pass_settings
def user_add(settings: Settings, login: str, admin: bool, name: str, password_file: Path | None) -> None:
    """Dodaje użytkownika; bez --password-file wypisuje jednorazowy link, ważny 24 godziny."""
    database = settings.database()
    password = read_password(password_file)
    link = add_user(settings.config, database, login, name=name, admin=admin, password=password, at=settings.now())
    normal = people.normal_login(login)
    click.echo(settings.say(f"Dodano użytkownika {normal}.", f"User {normal} added."))
    if link is not None:
        tell_link(settings, link)


@user.command("list")
@as_json_option
@pass_settings
def user_list(settings: Settings, as_json: bool) -> None:
    """Lista użytkowników."""
    with settings.database().reading() as tx:
        found = [_user_object(tx, one) for one in people.all_users(tx)]
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    for one in found:
        state = "działa" if one["active"] else "wyłączone"
        kind = "administrator" if one["admin"] else ", ".join(one["groups"])
        click.echo(f"{one['login']:<24}  {state:<10}  {one['last_login_at'] or '-':<24}  {kind:<24}  {one['name']}")
    if not found:
        click.echo(settings.say("Nie ma jeszcze użytkowników.", "There are no users yet."))


@user.command("password")
@click.argument("login")
@click.option("--reset-totp", is_flag=True, help="Wyłącz też drugi składnik (zgubiony telefon).")
@password_file_option
@pass_settings
def user_password(settings: Settings, login: str, reset_totp: bool, password_file: Path | None) -> None:
    """Ustawia hasło z pliku albo wypisuje jednorazowy link do jego ustawienia."""
    database, now = settings.database(), settings.now()
    password = read_password(password_file)
    with database.reading() as tx:
        found = people.user_of(tx, login)
    kept = _checked_hash(password, found.login) if password is not None else None
    with database.transaction() as tx:
        if reset_totp:
            people.set_totp(tx, found.id, None)
            people.note(tx, at=now, actor=actor(), action="totp-off", on=found.login)
        if kept is not None:
            people.set_password(tx, found.id, kept)
            people.note(tx, at=now, actor=actor(), action="password", on=found.login)
            token = None
        else:
            token = people.invite(tx, found.id, at=now)
            people.note(tx, at=now, actor=actor(), action="user-invite", on=found.login)
    if token is None:
        click.echo(
            settings.say(
                f"Hasło użytkownika {found.login} zmienione; jego przeglądarki zostały wylogowane.",
                f"Password of {found.login} changed; their browsers are signed out.",
            )
        )
    else:
        tell_link(settings, invitation_url(base_url(settings.config), token))


@user.command("disable")
@click.argument("login")
@pass_settings
def user_disable(settings: Settings, login: str) -> None:
    """Wyłącza konto; zalogowane przeglądarki przestają działać od razu."""
    with settings.database().transaction() as tx:
        found = people.user_of(tx, login)
        people.set_active(tx, found.id, False)
        people.note(tx, at=settings.now(), actor=actor(), action="user-disable", on=found.login)
    click.echo(settings.say(f"Konto {found.login} jest wyłączone.", f"Account {found.login} is off."))


@click.group()
def apikey() -> None:
    """Klucze API dla programów."""


@apikey.command("add")
@click.argument("name")
@click.option(
    "--scope", "scopes", multiple=True, type=click.Choice(SCOPES), help="Uprawnienie; domyślnie send, read i status."
)
@click.option("--folder", "folders", multiple=True, help="Tylko faktury otrzymane z tego folderu.")
@pass_settings
def apikey_add(settings: Settings, name: str, scopes: Sequence[str], folders: Sequence[str]) -> None:
    """Tworzy klucz i wypisuje go ten jeden raz."""
    wanted = list(scopes) or ["send", "read", "status"]
    narrowed = ["/".join(part.strip() for part in folder.split("/") if part.strip()) for folder in folders]
    if not all(narrowed):
        # An empty variable of somebody's script would make a key for every folder.
        raise NotAllowedNow(
            "--folder jest puste.", action="Podaj nazwę katalogu albo pomiń opcję, by klucz widział wszystkie."
        )
    with settings.database().transaction() as tx:
        key, secret = people.add_key(tx, name, wanted, at=settings.now())
        people.set_grants(tx, [("incoming", folder, True) for folder in narrowed], key_id=key.id)
        people.note(
            tx, at=settings.now(), actor=actor(), action="key-add", on=key.name, text=", ".join([*wanted, *narrowed])
        )
    click.echo(secret)
    click.echo(
        settings.say(
            f"To jest klucz „{key.name}” ({', '.join(wanted)}); nie zostanie pokazany ponownie.",
            f'This is the key "{key.name}" ({", ".join(wanted)}); it will not be shown again.',
        ),
        err=True,
    )


@apikey.command("list")
@as_json_option
@pass_settings
def apikey_list(settings: Settings, as_json: bool) -> None:
    """Lista kluczy (bez samych kluczy)."""
    with settings.database().reading() as tx:
        found = [_key_object(tx, one) for one in people.all_keys(tx)]
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    for one in found:
        state = "działa" if one["active"] else "unieważniony"
        click.echo(f"{one['name']:<24}  {one['prefix']}…  {state:<12}  {', '.join(one['scopes'])}")
    if not found:
        click.echo(settings.say("Nie ma jeszcze kluczy.", "There are no keys yet."))


@apikey.command("revoke")
@click.argument("name")
@pass_settings
def apikey_revoke(settings: Settings, name: str) -> None:
    """Unieważnia klucz na zawsze."""
    with settings.database().transaction() as tx:
        key = people.revoke_key(tx, name)
        people.note(tx, at=settings.now(), actor=actor(), action="key-revoke", on=key.name)
    click.echo(settings.say(f"Klucz „{key.name}” jest unieważniony.", f'Key "{key.name}" is revoked.'))


# Shared with ``init``


def add_user(
    config: Config, database: Database, login: str, *, name: str, admin: bool, password: str | None, at: datetime
) -> str | None:
    """A new user; returns their one-time link when no password was given. Raises NotAllowedNow."""
    normal = people.normal_login(login)
    kept = _checked_hash(password, normal) if password is not None else None
    with database.transaction() as tx:
        added = people.add_user(tx, normal, name=name, admin=admin, password_hash=kept, at=at)
        people.note(tx, at=at, actor=actor(), action="user-add", on=added.login, text="administrator" if admin else "")
        token = people.invite(tx, added.id, at=at) if kept is None else None
    return invitation_url(base_url(config), token) if token is not None else None


def read_password(file: Path | None) -> str | None:
    """The file's first line; None without a file. Raises ConfigurationFault."""
    if file is None:
        return None
    try:
        text = file.read_text(encoding="utf-8").split("\n", 1)[0].rstrip("\r")
    except (OSError, UnicodeDecodeError):
        raise ConfigurationFault(
            f"Nie można odczytać hasła z pliku {file}.", action="Sprawdź ścieżkę, prawa i kodowanie UTF-8."
        ) from None
    if not text:
        raise ConfigurationFault(f"Plik {file} jest pusty.", action="Zapisz w nim hasło.")
    return text


def tell_link(settings: Settings, link: str) -> None:
    click.echo(
        settings.say(
            "Jednorazowy link do ustawienia hasła (24 godziny):", "One-time link to set the password (24 hours):"
        )
    )
    click.echo(link)


def _checked_hash(password: str, login: str) -> str:
    passwords.check_rules(password, login)
    return passwords.hashed(password)


def _user_object(tx: Any, one: people.User) -> dict[str, Any]:
    return {
        "login": one.login,
        "name": one.name,
        "admin": one.admin,
        "active": one.active,
        "has_password": one.password_hash is not None,
        "second_factor": one.totp_secret is not None,
        "groups": people.groups_of(tx, one.id),
        "created_at": answers.moment(one.created_at),
        "last_login_at": answers.moment(one.last_login_at),
    }


def _key_object(tx: Any, one: people.ApiKey) -> dict[str, Any]:
    return {
        "name": one.name,
        "prefix": one.prefix,
        "scopes": list(one.scopes),
        "folders": [folder for _, folder, _ in people.own_grants(tx, key_id=one.id)],
        "active": one.active,
        "created_at": answers.moment(one.created_at),
        "last_used_at": answers.moment(one.last_used_at),
    }
