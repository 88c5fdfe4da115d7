"""Real processes of this program: started, watched, killed by their id, always reaped."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.samples import NIP

PATIENCE_S = 90.0
COMMAND = (sys.executable, "-c", "from ksefbuffer.cli import main; main()")


def environ(**more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("KSEFBUFFER_")}
    return {**clean, "PYTHONUNBUFFERED": "1", **more}


def until(condition: Callable[[], Any], what: str, *, patience_s: float = PATIENCE_S) -> Any:
    """Asks until it is so; generous, as the machine may be busy."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {patience_s:.0f} s in vain: {what}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command(
    *arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=environ(**(env or {})),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


class Process:
    """One long-running command; its log goes to a file."""

    def __init__(self, *arguments: str | Path, cwd: Path, log: Path, env: Mapping[str, str] | None = None) -> None:
        self.log = log
        self._file = log.open("ab")
        self.popen = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            cwd=cwd,
            env=environ(**(env or {})),
            stdin=subprocess.DEVNULL,
            stdout=self._file,
            stderr=self._file,
        )

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        self.popen.kill()
        self.wait()

    def terminate(self, *, within_s: float = 30) -> int:
        self.popen.send_signal(signal.SIGTERM)
        return self.wait(within_s)

    def wait(self, within_s: float = PATIENCE_S) -> int:
        code = self.popen.wait(within_s)
        self._file.close()
        return code

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    def end(self) -> None:
        if self.alive:
            self.kill()
        self._file.close()


class Town:
    """A KSeF and a buffer, as processes, over one folder."""

    def __init__(self, root: Path, *, settings: str = "") -> None:
        self.root = root
        self.port = free_port()
        self._control = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=10)
        (root / "config.toml").write_text(
            f'nip = "{NIP}"\nenvironment = "sandbox"\n[ksef]\nbase_url = "http://127.0.0.1:{self.port}/v2"\n'
            f"timeout_seconds = 5\n{settings}\n"
        )
        self.ksef: Process | None = None
        self.buffer: Process | None = None
        for name in ("inbox", "outbox"):
            (root / name).mkdir()

    def start_ksef(self, *, latency: str = "0.05") -> None:
        self.ksef = Process(
            *("sandbox", "--port", str(self.port), "--state", self.root / "ksef.db"),
            *("--limits", "none", "--latency", latency),
            cwd=self.root,
            log=self.root / "ksef.log",
        )
        until(self.ksef_answers, "the sandbox answers")

    def ksef_answers(self) -> bool:
        try:
            return self._control.get("/sandbox/settings").status_code == 200
        except httpx.HTTPError:
            return False

    def start_buffer(self, *, ready: bool = True) -> Process:
        number = len(list(self.root.glob("run-*.log")))
        self.buffer = Process("run", "--no-web", cwd=self.root, log=self.root / f"run-{number}.log")
        if ready:
            process = self.buffer
            until(lambda: not process.alive or " works" in process.text(), "the buffer works")
            assert process.alive, process.text()
        return self.buffer

    def ask_ksef(self, what: str) -> Any:
        return self._control.get(f"/sandbox/{what}").raise_for_status().json()

    def drop(self, name: str, content: bytes) -> None:
        part = self.root / "inbox" / f"{name}.xml.part"
        part.write_bytes(content)
        part.rename(self.root / "inbox" / f"{name}.xml")

    def answer(self, name: str) -> dict[str, Any]:
        path = self.root / "outbox" / f"{name}.ksef.json"
        answer: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {}
        return answer

    def status(self) -> dict[str, Any]:
        done = command("status", "--json", cwd=self.root)
        assert done.stdout, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    def end(self) -> None:
        self._control.close()
        for process in (self.buffer, self.ksef):
            if process is not None:
                process.end()


@contextmanager
def town(root: Path, *, settings: str = "") -> Iterator[Town]:
    made = Town(root, settings=settings)
    try:
        yield made
    finally:
        made.end()
