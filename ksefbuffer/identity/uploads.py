"""A certificate or key that staff sent in from the page: in memory only, called by its name in messages."""

from __future__ import annotations

from dataclasses import dataclass, field
from io import BytesIO
from typing import BinaryIO, Literal

LONGEST_NAME = 80


@dataclass(frozen=True)
class Upload:
    """Reads like a path, for ``material``."""

    name: str
    content: bytes = field(repr=False)

    def open(self, mode: Literal["rb"], /) -> BinaryIO:
        return BytesIO(self.content)

    def __str__(self) -> str:
        # A browser may give the whole path of the person's computer.
        last = self.name.replace("\\", "/").rpartition("/")[2]
        shown = "".join(character for character in last if character.isprintable())
        return shown[:LONGEST_NAME] or "bez nazwy"
