"""Running commands in process, as from a shell."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from ksefbuffer import cli


class Said(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Said]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in ``tmp_path`` as from a shell."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("KSEFBUFFER_"):
            monkeypatch.delenv(name)

    def invoke(*arguments: str | Path) -> Said:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main(args=[str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return Said(int(ended.value.code or 0), out, err)

    return invoke
