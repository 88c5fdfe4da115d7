"""A sandbox and a buffer as processes of their own, in a temporary folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from zoneinfo import ZoneInfo

NIP = "5265877635"


def today() -> date:
    """The Polish day, as the pre-check counts it."""
    return datetime.now(UTC).astimezone(ZoneInfo("Europe/Warsaw")).date()


@contextmanager
def folder() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="ksefbuffer-benchmark-"))
    try:
        yield place
    finally:
        shutil.rmtree(place)


@contextmanager
def sandbox(latency_s: float, limits: str = "none") -> Iterator[str]:
    """``ksefbuffer sandbox``; gives its base URL."""
    with _program("sandbox", "--port", "0", "--latency", str(latency_s), "--limits", limits) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["base_url"]


def told(base_url: str, what: str) -> Any:
    """What the sandbox at this address says of itself under ``/sandbox/what``."""
    with urlopen(base_url.removesuffix("/v2") + f"/sandbox/{what}", timeout=60) as answer:
        return json.load(answer)


def settings(place: Path, base_url: str, *, idle_s: int = 60) -> Path:
    """Default settings but for the address and an online session's idle time."""
    config = place / "config.toml"
    config.write_text(
        f'nip = "{NIP}"\nenvironment = "sandbox"\n[ksef]\nbase_url = "{base_url}"\n'
        f"[sending]\nsession_idle_seconds = {idle_s}\n"
    )
    return config


@contextmanager
def buffer(place: Path, base_url: str, *, idle_s: int = 60) -> Iterator[subprocess.Popen[bytes]]:
    """``ksefbuffer run`` with default settings, ready to take files."""
    with running(settings(place, base_url, idle_s=idle_s)) as process:
        yield process


@contextmanager
def running(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``ksefbuffer run``, from the moment it says that it is ready, as it says to systemd."""
    address = config.with_name("notify")
    ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ear.bind(str(address))
    ear.settimeout(60)
    with _program("--config", str(config), "run", "--no-web", NOTIFY_SOCKET=str(address)) as process:
        # Closed then: words that nobody reads would pile up until the buffer waits for a reader.
        with ear:
            while not ear.recv(4096).startswith(b"READY=1"):
                pass
        address.unlink()
        yield process


@contextmanager
def _program(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    # What the caller's shell says about real buffers must not reach this one.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("KSEFBUFFER_")} | environment
    command = [str(Path(sys.executable).with_name("ksefbuffer")), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environ)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
