"""What the parts of the sandbox's face have in common: its clock, its state, and how that is come by."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime

from .world import World


class Face:
    """A part of what ``Sandbox`` can do. May be called from any thread."""

    clock: Callable[[], datetime]
    _world: World

    def _locked(self) -> AbstractContextManager[World]:
        raise NotImplementedError
