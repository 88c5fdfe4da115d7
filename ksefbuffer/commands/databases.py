"""Commands about the databases: the ERP's table, migrations, backups."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import click

from ksefbuffer.commands.base import Settings, make_folders, pass_settings, progress_bar
from ksefbuffer.erp import answers
from ksefbuffer.erp.ddl import ddl
from ksefbuffer.errors import ConfigurationFault
from ksefbuffer.queue import backup as copies
from ksefbuffer.queue import schema
from ksefbuffer.queue.db import Database, worker_is_running


@click.group()
def table() -> None:
    """Tabela w bazie ERP."""


@table.command("ddl")
@click.option("--dialect", required=True, type=click.Choice(["sqlite", "postgresql", "mssql", "mysql"]))
@pass_settings
def table_ddl(settings: Settings, dialect: str) -> None:
    """Wypisuje polecenia tworzące tabele wymiany."""
    config = settings.config_if_any()
    names = (config.table.outgoing, config.table.incoming) if config else ("ksef_outgoing", "ksef_incoming")
    click.echo(ddl(cast("Any", dialect), *names))


@click.group()
def db() -> None:
    """Baza danych bufora."""


@db.command("upgrade")
@pass_settings
def db_upgrade(settings: Settings) -> None:
    """Doprowadza schemat bazy do wersji programu."""
    before, after = schema.upgrade(Database(settings.config.database.url))
    if before == after:
        click.echo(settings.say(f"Schemat jest aktualny ({after}).", f"The schema is up to date ({after})."))
    else:
        click.echo(settings.say(f"Schemat: {before or 'brak'} → {after}.", f"Schema: {before or 'none'} → {after}."))


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@pass_settings
def backup(settings: Settings, file: Path) -> None:
    """Kopiuje bazę bufora do pliku; bufor może przy tym pracować."""
    database = settings.database()
    with progress_bar(settings.say("Kopia", "Backup")) as grows:
        size = copies.back_up(database, file, at=settings.now(), progress=grows)
    click.echo(
        settings.say(
            f"Kopia gotowa: {file} ({size / 1_000_000:.1f} MB).", f"Backup written: {file} ({size / 1_000_000:.1f} MB)."
        )
    )


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@pass_settings
def restore(settings: Settings, file: Path) -> None:
    """Odtwarza bazę bufora z kopii; bufor musi być zatrzymany."""
    config, now = settings.config, settings.now()
    database = Database(config.database.url)
    if worker_is_running(database):
        raise ConfigurationFault(
            "Bufor pracuje na tej bazie.", action="Zatrzymaj go (systemctl stop …) i powtórz polecenie."
        )
    stamp = f"{now:%Y%m%dT%H%M%SZ}"
    beside = config.database.sqlite_file or config.data_dir / "ksefbuffer.db"
    make_folders(beside.parent)
    aside = beside.with_name(f"{beside.name}.before-restore-{stamp}")
    with database.sole_worker(), progress_bar(settings.say("Odtwarzanie", "Restoring")) as grows:
        done = copies.restore(
            database, file, nip=config.nip, environment=config.environment, aside=aside, at=now, progress=grows
        )
    made_at = answers.moment(done.made_at)
    click.echo(
        settings.say(
            f"Odtworzono stan z {made_at}: {done.documents} dokumentów.",
            f"Restored the state of {made_at}: {done.documents} documents.",
        )
    )
    if done.set_aside is not None:
        click.echo(settings.say(f"Poprzednia baza: {done.set_aside}", f"The database before: {done.set_aside}"))
    click.echo(
        settings.say(
            "Uruchom bufor. Najpierw przyjmie ponownie to, co ERP oddał po tej kopii (pliki z folderu processed, "
            "wiersze tabeli), i uzgodni z KSeF, co już wysłano; do tego czasu niczego nie wyśle. Faktury oddane od "
            "tamtej chwili przez HTTP, których KSeF nie ma, ERP musi oddać jeszcze raz.",
            "Start the buffer. It first takes in again what the ERP handed over since this backup (files in processed, "
            "table rows) and reconciles with KSeF what was sent; until then it sends nothing. Invoices handed over by "
            "HTTP since then, which KSeF does not have, must be handed over again.",
        )
    )
