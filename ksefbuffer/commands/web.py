"""``web``: the page, by itself or as the child process of ``run``."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path

import click

from ksefbuffer.commands.base import Settings, pass_settings
from ksefbuffer.config import PREFIX, Config, load, secret_variables
from ksefbuffer.sdnotify import notify

log = logging.getLogger(__name__)

# Set for the child of ``run``: the page ends when its stdin does.
FOLLOW_STDIN = f"{PREFIX}FOLLOW_STDIN"
# What the page has no use for: credentials, and the daemon's own line to systemd.
_NOT_FOR_THE_PAGE = (
    "CREDENTIALS_DIRECTORY",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
# A page that lived so long is not one that cannot start.
_HEALTHY_AFTER_S = 60.0
_END_WITHIN_S = 10.0


@click.command()
@pass_settings
def web(settings: Settings) -> None:
    """Sama strona WWW i API (bez wysyłki i odbioru)."""
    from ksefbuffer.web import server

    log_to_stderr()
    config = load(settings.path, os.environ, keyless=True)
    server.serve(
        config,
        environ=os.environ,
        clock=settings.now,
        follow_stdin=FOLLOW_STDIN in os.environ,
        ready=lambda: notify(os.environ, f"READY=1\nSTATUS=Strona bufora NIP {config.nip}"),
    )


def log_to_stderr() -> None:
    """As ``run`` and ``web`` log."""
    # The journal adds the time itself.
    times = "" if os.environ.get("JOURNAL_STREAM") else "%(asctime)s "
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=f"{times}%(levelname)s %(name)s %(message)s")
    for chatty in ("alembic", "apscheduler", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def environment_of_page(environ: Mapping[str, str], config: Config) -> dict[str, str]:
    """The child's environment: everything but secrets, and where the page's own HTTPS key lies."""
    left_out = secret_variables() | set(_NOT_FOR_THE_PAGE)
    passed = {name: value for name, value in environ.items() if name not in left_out}
    for name in ("tls_certificate", "tls_private_key"):
        path: Path | None = getattr(config.web, name)
        if path is not None:
            # Found in systemd's credentials directory, perhaps, of which the child knows nothing.
            passed[f"{PREFIX}WEB__{name.upper()}"] = str(path)
    return passed


class Page:
    """The page as a child process: started again when it dies, ended on leaving. It never hurts the worker. With
    ``log_file`` it logs there instead of to our stderr."""

    def __init__(
        self,
        config: Config,
        path: Path | None,
        *,
        environ: Mapping[str, str],
        monotonic: Callable[[], float],
        log_file: Path | None = None,
    ) -> None:
        named = ["--config", str(path.absolute())] if path is not None else []
        self._command = [sys.executable, "-m", "ksefbuffer", *named, "web"]
        # Its stdin ends with us, however we end.
        self._environ = {**environment_of_page(environ, config), FOLLOW_STDIN: "1"}
        self._monotonic = monotonic
        self._log_file = log_file
        self._stop = threading.Event()
        self._starting = threading.Lock()
        self._thread = threading.Thread(target=self._keep, name="page", daemon=True)
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Once; a second call does nothing."""
        with self._starting:
            if self._thread.ident is None and not self._stop.is_set():
                self._thread.start()

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        with self._starting:
            self._stop.set()
            begun = self._thread.ident is not None
        child = self._child
        if child is not None:
            child.terminate()
        if begun:
            self._thread.join(_END_WITHIN_S)
        if child is not None and child.poll() is None:
            child.kill()

    def _keep(self) -> None:
        pause = _FIRST_PAUSE_S
        while not self._stop.is_set():
            began = self._monotonic()
            code = self._live()
            if self._stop.is_set():
                return
            if self._monotonic() - began >= _HEALTHY_AFTER_S:
                pause = _FIRST_PAUSE_S
            log.warning("the page ended (%s); it starts again in %.0f s", _ending(code), pause)
            self._stop.wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    def _live(self) -> int | None:
        """One life of the child; its exit code, None when it could not be born."""
        try:
            with self._log_file.open("ab") if self._log_file is not None else nullcontext() as told:
                child = subprocess.Popen(self._command, stdin=subprocess.PIPE, stderr=told, env=self._environ)
        except OSError as error:
            log.warning("the page cannot be started: %s", error.strerror)
            return None
        self._child = child
        if self._stop.is_set():
            child.terminate()
        with child:
            return child.wait()


def _ending(code: int | None) -> str:
    if code is None:
        return "not started"
    return f"signal {-code}" if code < 0 else f"exit code {code}"
