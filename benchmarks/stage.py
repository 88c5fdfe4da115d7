"""A sandbox and a buffer as processes of their own, in a temporary folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
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
def sandbox(latency_s: float) -> Iterator[str]:
    """``ksefbuffer sandbox`` without limits; gives its base URL."""
    with _program("sandbox", "--port", "0", "--latency", str(latency_s), "--limits", "none") as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["base_url"]


@contextmanager
def buffer(place: Path, base_url: str, *, idle_s: int = 60) -> Iterator[subprocess.Popen[bytes]]:
    """``ksefbuffer run`` with default settings, ready to take files."""
    config = place / "config.toml"
    config.write_text(
        f'nip = "{NIP}"\nenvironment = "sandbox"\n[ksef]\nbase_url = "{base_url}"\n'
        f"[sending]\nsession_idle_seconds = {idle_s}\n"
    )
    with _program("--config", str(config), "run", "--no-web") as process:
        until = time.monotonic() + 30
        while not (place / "inbox").exists() and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(1)
        yield process


@contextmanager
def _program(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    # What the caller's shell says about real buffers must not reach this one.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("KSEFBUFFER_")}
    command = [str(Path(sys.executable).with_name("ksefbuffer")), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environ)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
