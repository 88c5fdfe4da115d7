"""Where uploaded parts of packages lie: a folder beside the state file, else a temporary one."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable
from pathlib import Path

_ARRIVING = "arriving-"


class Shelf:
    """Files by name. Files that only arrive may be written by any thread; the rest is under the sandbox's lock."""

    def __init__(self, state: Path | None) -> None:
        self._state = state
        self._folder: Path | None = None
        if state is not None and self._beside(state).is_dir():
            # An upload that a killed sandbox never answered for does not count.
            for left in self.folder.glob(f"{_ARRIVING}*"):
                left.unlink()

    @staticmethod
    def _beside(state: Path) -> Path:
        return state.with_name(f"{state.name}.parts")

    @property
    def folder(self) -> Path:
        if self._folder is None:
            if self._state is not None:
                self._folder = self._beside(self._state)
                self._folder.mkdir(exist_ok=True)
            else:
                self._folder = Path(tempfile.mkdtemp(prefix="ksef-sandbox-"))
                weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder

    def receive(self, chunks: Iterable[bytes]) -> Path:
        """Writes what arrives to a file of its own, whole or not at all."""
        handle, name = tempfile.mkstemp(prefix=_ARRIVING, dir=self.folder)
        try:
            with os.fdopen(handle, "wb") as file:
                for chunk in chunks:
                    file.write(chunk)
        except BaseException:
            Path(name).unlink()
            raise
        return Path(name)

    def keep(self, arrived: Path, name: str) -> None:
        """The file gets its name at once, in place of an earlier one."""
        arrived.replace(self.folder / name)

    def path(self, name: str) -> Path:
        return self.folder / name

    def clear(self, owner: str) -> None:
        """Deletes every file named ``owner.…``."""
        if self._folder is None and not (self._state and self._beside(self._state).is_dir()):
            return
        for file in self.folder.glob(f"{owner}.*"):
            file.unlink()
