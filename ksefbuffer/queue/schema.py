"""Creating and migrating the schema, and binding a database to one NIP for life (CONTRACT §8)."""

from __future__ import annotations

from datetime import datetime
from importlib import resources
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, insert, inspect, select

from ksefbuffer.errors import ConfigurationFault
from ksefbuffer.queue import notice_models, web_models, webhook_models
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.models import buffer

# Who migrates, compares or copies the schema needs every table, also those that nothing else here names.
OTHER_TABLES = (notice_models, web_models, webhook_models)


def migrations_folder() -> Path:
    """In a wheel they lie inside the package, in a checkout beside it."""
    package = Path(str(resources.files("ksefbuffer")))
    for folder in (package / "_migrations", package.parent / "migrations"):
        if (folder / "env.py").is_file():
            return folder
    raise ConfigurationFault("Brak folderu migracji bazy danych.", action="Zainstaluj program ponownie.")


def _alembic(database: Database) -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.attributes["engine"] = database.engine
    return config


def revision(database: Database) -> str | None:
    """The revision of the schema in the database; None when there is none."""
    with database.reading() as tx:
        return MigrationContext.configure(tx).get_current_revision()


def head() -> str:
    found = ScriptDirectory(str(migrations_folder())).get_current_head()
    assert found is not None
    return found


def upgrade(database: Database) -> tuple[str | None, str]:
    """Brings the schema up to date; returns (before, after). Raises ConfigurationFault when it is newer than we are."""
    before = revision(database)
    try:
        command.upgrade(_alembic(database), "head")
    except CommandError as error:
        raise ConfigurationFault(
            f"Baza danych pochodzi z nowszej wersji programu (rewizja {before}).",
            action="Zainstaluj nowszą wersję ksefbuffer albo wskaż inną bazę w [database] url.",
        ) from error
    return before, head()


def require_current(database: Database) -> None:
    """Raises ConfigurationFault unless the schema is there and up to date."""
    found = revision(database)
    if found is None:
        raise ConfigurationFault(
            "Baza danych jest pusta.", action="Uruchom: ksefbuffer init (albo ksefbuffer db upgrade)."
        )
    if found != head():
        raise ConfigurationFault(
            f"Schemat bazy danych (rewizja {found}) nie pasuje do programu ({head()}).",
            action="Uruchom: ksefbuffer db upgrade.",
        )


def bind(tx: Connection, nip: str, environment: str, *, at: datetime) -> None:
    """Makes the database this buffer's own. Raises ConfigurationFault when it is another's."""
    owner = tx.execute(select(buffer.c.nip, buffer.c.environment)).first()
    if owner is None:
        tx.execute(insert(buffer).values(id=1, nip=nip, environment=environment, created_at=at))
        return
    if owner.nip != nip:
        raise ConfigurationFault(
            f"Ta baza danych należy do bufora NIP {owner.nip}, a w konfiguracji jest nip = {nip}.",
            action="Jeden bufor to jeden NIP i jedna baza: wskaż inną bazę w [database] url albo popraw nip.",
        )
    if owner.environment != environment:
        raise ConfigurationFault(
            f"Ta baza danych pracowała w środowisku {owner.environment}, a w konfiguracji jest "
            f"environment = {environment}.",
            action="Faktury z różnych środowisk KSeF nie mogą się mieszać: użyj osobnej bazy dla każdego środowiska.",
        )


def exists(database: Database) -> bool:
    with database.reading() as tx:
        return inspect(tx).has_table("buffer")
