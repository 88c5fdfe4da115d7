"""What every command shares: settings, output, and faults turned into messages and exit codes."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from ksefbuffer.config import Config, load
from ksefbuffer.errors import BufferFault, ConfigurationFault
from ksefbuffer.queue import schema
from ksefbuffer.queue.db import Database

DEFAULT_CONFIG = Path("config.toml")


class Group(click.Group):
    """Turns foreseeable faults into a message and an exit code, never a traceback."""

    def main(self, *args: Any, **extra: Any) -> Any:
        extra["standalone_mode"] = False
        try:
            code = super().main(*args, **extra)
        except click.ClickException as fault:
            fault.show()
            code = 2
        except click.Abort:
            code = 1
        except BufferFault as fault:
            click.echo(fault.message, err=True)
            if fault.action:
                click.echo(fault.action, err=True)
            code = fault.exit_code
        except BrokenPipeError:
            # The reader (head, less) has seen enough.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 0
        sys.exit(code if isinstance(code, int) else 0)


class Settings:
    """What the options before the command say; the configuration is read by the first command that needs it."""

    def __init__(self, path: Path | None, lang: str, clock: Callable[[], datetime]) -> None:
        self.path = path
        self.lang = lang
        self.now = clock
        self._config: Config | None = None

    @property
    def config(self) -> Config:
        if self._config is None:
            self._config = load(self.path, os.environ)
        return self._config

    def config_if_any(self) -> Config | None:
        """The configuration, or None where nobody has made one; a broken one is a fault here too."""
        try:
            return self.config
        except ConfigurationFault:
            if self.path is not None or os.environ.get("KSEFBUFFER_CONFIG") or DEFAULT_CONFIG.exists():
                raise
            return None

    def say(self, polish: str, english: str) -> str:
        return english if self.lang == "en" else polish

    def database(self) -> Database:
        """The buffer's database, there and up to date. Raises ConfigurationFault."""
        file = self.config.database.sqlite_file
        if file is not None and not file.exists():
            raise ConfigurationFault(
                f"Nie ma bazy danych {file}.", action="Uruchom: ksefbuffer init albo ksefbuffer run."
            )
        database = Database(self.config.database.url)
        schema.require_current(database)
        return database


pass_settings = click.make_pass_decorator(Settings)
as_json_option = click.option("--json", "as_json", is_flag=True, help="Wynik jako JSON.")


def actor() -> str:
    """Who gives a command, for the log of events."""
    try:
        return f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"cli:{os.getuid()}"


def make_folders(*folders: Path) -> None:
    """Raises ConfigurationFault."""
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationFault(
                f"Nie można utworzyć folderu {folder}: {error.strerror}.", action="Sprawdź ścieżkę i prawa zapisu."
            ) from error


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal's stderr; silent elsewhere."""
    if not sys.stderr.isatty():
        yield lambda done, whole: None
        return
    with click.progressbar(length=1_000, label=label, file=sys.stderr) as bar:
        yield lambda done, whole: bar.update(1_000 * done // max(whole, 1) - bar.pos)
