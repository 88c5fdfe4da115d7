"""What every handler of the page needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

from starlette.requests import HTTPConnection

from ksefbuffer.config import Config
from ksefbuffer.queue.db import Database


@dataclass
class Site:
    """One page over one buffer's database. ``clock`` gives aware UTC times; ``environ`` is the process' environment."""

    config: Config
    database: Database
    clock: Callable[[], datetime]
    environ: Mapping[str, str] = field(default_factory=dict)


def site_of(request: HTTPConnection) -> Site:
    """The site that answers this request."""
    return cast(Site, request.app.state.site)
