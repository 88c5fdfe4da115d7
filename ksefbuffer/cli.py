"""The command line: commands and exit codes, nothing else. Source: CONTRACT §2.

Exit codes: 0 fine; 1 the answer is "no"; 2 wrong usage or configuration; 3 a service cannot be reached; 4 authorisation
refused. People read Polish (English with ``--lang en``); programs read ``--json``. Most commands are in ``commands``;
here are those that start something. What only one command needs is imported by it: a till asks for a status often.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import click

from ksefbuffer.commands.base import DEFAULT_CONFIG, Group, Settings, make_folders, pass_settings
from ksefbuffer.commands.certificates import cert
from ksefbuffer.commands.check import check_files
from ksefbuffer.commands.databases import backup, db, restore, table
from ksefbuffer.commands.doctor import doctor
from ksefbuffer.commands.incoming import incoming
from ksefbuffer.commands.notices import notify
from ksefbuffer.commands.offline import offline
from ksefbuffer.commands.queue import queue
from ksefbuffer.commands.rules import rules
from ksefbuffer.commands.status import status
from ksefbuffer.commands.tokens import token
from ksefbuffer.commands.users import add_user, apikey, password_file_option, read_password, tell_link, user
from ksefbuffer.commands.web import Page, log_to_stderr, web
from ksefbuffer.config import Config, load, render_example
from ksefbuffer.errors import ConfigurationFault
from ksefbuffer.queue import people, schema
from ksefbuffer.queue.db import Database


def _now() -> datetime:
    return datetime.now(UTC)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", "path", type=click.Path(path_type=Path, dir_okay=False), help="Plik konfiguracji.")
@click.option(
    "--lang", type=click.Choice(["pl", "en"]), default="pl", envvar="KSEFBUFFER_LANG", help="Język / language."
)
@click.version_option(package_name="ksefbuffer")
@click.pass_context
def main(context: click.Context, path: Path | None, lang: str) -> None:
    """ksefbuffer: bufor między systemem sprzedaży a KSeF (API 2.0)."""
    context.obj = Settings(path, lang, _now)


@main.command()
@click.option("--nip", help="NIP firmy, dla której pracuje bufor.")
@click.option("--environment", type=click.Choice(["sandbox", "test", "demo", "production"]), help="Środowisko KSeF.")
@click.option("--admin", "admin_login", help="Login pierwszego administratora strony.")
@password_file_option
@pass_settings
def init(
    settings: Settings, nip: str | None, environment: str | None, admin_login: str | None, password_file: Path | None
) -> None:
    """Pisze konfigurację z komentarzami, tworzy folder danych, bazę i administratora strony."""
    path = settings.path or (
        Path(os.environ["KSEFBUFFER_CONFIG"]) if os.environ.get("KSEFBUFFER_CONFIG") else DEFAULT_CONFIG
    )
    if path.exists():
        click.echo(
            settings.say(
                f"Konfiguracja {path} już jest; zostaje bez zmian.", f"{path} is there already; it stays as it is."
            )
        )
    else:
        text = render_example(nip or "5265877635", environment or "sandbox")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigurationFault(
                f"Nie można zapisać {path}: {error.strerror}.", action="Sprawdź prawa do folderu."
            ) from error
        try:
            load(path, os.environ)
        except ConfigurationFault:
            path.unlink()
            raise
        click.echo(settings.say(f"Zapisano {path}.", f"Wrote {path}."))
    config = load(path, os.environ)
    if nip is not None and config.nip != nip:
        raise ConfigurationFault(
            f"Konfiguracja {path} ma nip = {config.nip}, a nie {nip}.", action="Popraw ją albo podaj inny --config."
        )
    make_folders(config.data_dir)
    database = Database(config.database.url)
    schema.upgrade(database)
    with database.transaction() as tx:
        schema.bind(tx, config.nip, config.environment, at=_now())
    make_folders(config.inbox.path, config.inbox.outbox, config.inbox.processed, config.inbox.rejected)
    if config.environment == "sandbox":
        from ksefbuffer import worker

        worker.login_of(config, now=_now())
    click.echo(
        settings.say(
            f"Baza danych gotowa (NIP {config.nip}, środowisko {config.environment}).",
            f"Database ready (NIP {config.nip}, environment {config.environment}).",
        )
    )
    click.echo(
        settings.say(
            f"Wrzucaj faktury do {config.inbox.path}; odpowiedzi pojawią się w {config.inbox.outbox}.",
            f"Drop invoices into {config.inbox.path}; answers appear in {config.inbox.outbox}.",
        )
    )
    if admin_login is None:
        with database.reading() as tx:
            admin_login = None if people.any_admin(tx) else "admin"
    if admin_login is not None:
        _first_admin(settings, config, database, admin_login, password_file)
    click.echo(settings.say("Start: ksefbuffer run", "Start it with: ksefbuffer run"))


def _first_admin(
    settings: Settings, config: Config, database: Database, login: str, password_file: Path | None
) -> None:
    with database.reading() as tx:
        if people.find_user(tx, login) is not None:
            click.echo(settings.say(f"Użytkownik {login} już jest.", f"User {login} is there already."))
            return
    password = read_password(password_file)
    if password is None and sys.stdin.isatty():
        password = (
            click.prompt(
                settings.say("Hasło (puste: jednorazowy link)", "Password (empty: one-time link)"),
                default="",
                show_default=False,
                hide_input=True,
                confirmation_prompt=True,
            )
            or None
        )
    link = add_user(config, database, login, name="", admin=True, password=password, at=settings.now())
    click.echo(settings.say(f"Administrator strony: {login}.", f"Administrator of the page: {login}."))
    if link is not None:
        tell_link(settings, link)


@main.command()
@click.option("--no-web", is_flag=True, help="Bez strony WWW.")
@pass_settings
def run(settings: Settings, no_web: bool) -> None:
    """Pracuje na pierwszym planie (to uruchamia systemd)."""
    from ksefbuffer import worker

    log_to_stderr()
    config = settings.config
    if no_web:
        worker.run(config, environ=os.environ)
        return
    with Page(config, settings.path, environ=os.environ, monotonic=time.monotonic) as page:
        if config.database.sqlite_file is None:
            # A node that stands by until it leads shares the load of the page meanwhile.
            page.start()
        worker.run(config, environ=os.environ, ready=page.start)


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8090, show_default=True, type=click.IntRange(0, 65_535))
@click.option(
    "--state", type=click.Path(path_type=Path, dir_okay=False), help="Plik stanu: sandbox pamięta po restarcie."
)
@click.option(
    "--latency", default=0.2, show_default=True, type=click.FloatRange(0, 3600), help="Czas przetwarzania faktury [s]."
)
@click.option(
    "--limits",
    default="production",
    show_default=True,
    type=click.Choice(["production", "test", "none"]),
    help="Limity wywołań.",
)
@click.option(
    "--time-scale",
    default=1.0,
    show_default=True,
    type=click.FloatRange(1, 3600),
    help="Ile razy krótsze okna limitów (do testów).",
)
def sandbox(host: str, port: int, state: Path | None, latency: float, limits: str, time_scale: float) -> None:
    """Lokalny, surowy symulator KSeF; gotowość zgłasza jednym wierszem JSON."""
    from ksefbuffer import sandbox as local_ksef

    log_to_stderr()
    try:
        local_ksef.main(host, port, state, latency, limits, time_scale)
    except (OSError, sqlite3.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        where = f"{host}:{port}" + (f" z plikiem stanu {state}" if state else "")
        raise ConfigurationFault(
            f"Nie można uruchomić symulatora na {where}: {reason}.",
            action="Podaj inny --port (0 = dowolny wolny), --host albo --state.",
        ) from error


@main.command()
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path, file_okay=False), help="Folder pokazu (domyślnie tymczasowy)."
)
@click.option("--port", default=0, type=click.IntRange(0, 65_535), help="Port strony (domyślnie wolny).")
@click.option("--no-browser", is_flag=True, help="Nie otwieraj przeglądarki.")
@click.option("--once", is_flag=True, help="Zakończ, gdy przykładowe faktury dostaną odpowiedzi.")
def demo(folder: Path | None, port: int, no_browser: bool, once: bool) -> None:
    """Lokalny KSeF + bufor + przykładowe faktury; Ctrl-C kończy wszystko."""
    from ksefbuffer import demo as demonstration

    def page_of(config: Config, path: Path, environ: Mapping[str, str]) -> Page:
        return Page(config, path, environ=environ, monotonic=time.monotonic, log_file=path.parent / "demo.log")

    browser = not no_browser and not once and sys.stdout.isatty()
    sys.exit(demonstration.run(folder, port=port, once=once, environ=os.environ, page_of=page_of, browser=browser))


for _command in (
    check_files,
    status,
    queue,
    offline,
    incoming,
    rules,
    cert,
    token,
    notify,
    user,
    apikey,
    web,
    table,
    db,
    backup,
    restore,
    doctor,
):
    main.add_command(_command)
