"""A real page on a real port, people who sign in, browsers that watch for what must not happen."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn
from argon2 import PasswordHasher

from ksefbuffer import config as configuration
from ksefbuffer.queue import people, schema
from ksefbuffer.queue.db import Database
from ksefbuffer.web import passwords
from ksefbuffer.web.app import create_app
from ksefbuffer.web.site import Site
from tests.conftest import Clock
from tests.process.running import until
from tests.samples import NIP

_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Passwords are hashed in a millisecond; who tests the hashing itself puts the real one back."""
    monkeypatch.setattr(passwords, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    passwords._nobodys.cache_clear()
    yield
    passwords._nobodys.cache_clear()


@pytest.fixture
def make_site(tmp_path: Path, clock: Clock, migrated_sqlite: Path) -> Iterator[Callable[..., Site]]:
    """``make_site(settings="", database=None)``: ``settings`` is TOML; its clock is the ``clock`` fixture."""
    made: list[Site] = []

    def make(settings: str = "", database: Database | None = None) -> Site:
        path = tmp_path / "config.toml"
        path.write_text(f'nip = "{NIP}"\nenvironment = "sandbox"\n{settings}\n')
        config = configuration.load(path, {})
        own = database is None
        if database is None:
            file = config.database.sqlite_file
            assert file is not None
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(migrated_sqlite, file)
            database = Database(config.database.url)
            with database.transaction() as tx:
                schema.bind(tx, NIP, "sandbox", at=clock())
        made.append(Site(config, database, clock, {}))
        if not own:
            made.pop()
            return Site(config, database, clock, {})
        return made[-1]

    yield make
    for site in made:
        site.database.close()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """A page over an empty, migrated SQLite database."""
    return make_site()


class Live:
    """A page that answers on a real port, served by uvicorn in a thread."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(create_app(site), log_config=None, access_log=False, lifespan="off", ws="none")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        self._thread.start()
        until(lambda: self._server.started, "the page answers", patience_s=20)

    def end(self) -> None:
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(20)
        self._socket.close()
        assert not self._thread.is_alive()


@pytest.fixture
def serve() -> Iterator[Callable[[Site], Live]]:
    """``serve(site) -> Live``, ended after the test."""
    made: list[Live] = []

    def start(site: Site) -> Live:
        made.append(Live(site))
        return made[-1]

    yield start
    for one in made:
        one.end()


@pytest.fixture
def live(serve: Callable[[Site], Live], site: Site) -> str:
    """The address of the page over ``site``: "http://127.0.0.1:PORT"."""
    return serve(site).base_url


@pytest.fixture
def client(live: str) -> Iterator[httpx.Client]:
    """Nobody yet: ``signed_in(client, "anna")`` makes it somebody. Follows no redirects."""
    with httpx.Client(base_url=live, timeout=20) as made:
        yield made


@pytest.fixture
def signed_in(site: Site) -> Callable[..., str]:
    """``signed_in(client, login, admin=False, grants=[("incoming", "Sklep 1", True)]) -> csrf``.

    Makes the user unless there is one, opens a session for them, and gives its cookie to an httpx.Client or to a
    Playwright page's context. Returns the session's CSRF token, for forms posted by hand.
    """

    def sign(client: Any, login: str, *, admin: bool = False, grants: list[people.GrantRow] | None = None) -> str:
        now = site.clock()
        with site.database.transaction() as tx:
            user = people.find_user(tx, login) or people.add_user(tx, login, admin=admin, password_hash="-", at=now)
            if grants is not None:
                people.set_grants(tx, grants, user_id=user.id)
            token = people.open_session(tx, user.id, at=now, ip="127.0.0.1")
            session = people.find_session(tx, token, at=now)
        assert session is not None
        if isinstance(client, httpx.Client):
            client.cookies.set("ksefbuffer", token, domain="127.0.0.1")
        else:
            context = getattr(client, "context", client)
            # Cookies know hosts, not ports.
            context.add_cookies([{"name": "ksefbuffer", "value": token, "domain": "127.0.0.1", "path": "/"}])
        return session.csrf

    return sign


@pytest.fixture
def api_key(site: Site) -> Callable[..., str]:
    """``api_key("send", "read", grants=[...]) -> "ksb_…"``."""

    def make(*scopes: str, name: str = "", grants: list[people.GrantRow] | None = None) -> str:
        with site.database.transaction() as tx:
            key, secret = people.add_key(tx, name or f"key-{next(_numbers)}", scopes, at=site.clock())
            people.set_grants(tx, grants or [], key_id=key.id)
        return secret

    return make


CHROMIUM = Path("/usr/bin/chromium")
_QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run"),
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, once a module, as its event loop stands in the way of other modules; skipped where there is none, but
    not on a build server."""
    if not CHROMIUM.exists():
        if os.environ.get("CI"):
            pytest.fail("Chromium is to be installed: apt-get install chromium")
        pytest.skip("no Chromium here")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(_QUIET))
        yield started
        started.close()


@pytest.fixture
def browser_page(browser: Any, live: str) -> Iterator[Any]:
    """A tab of its own. Afterwards it fails for any console error, exception, or request off the machine.

    ``browser_page.complaints`` may be cleared by a test that expects one (a 404 is a console error too).
    """
    context = browser.new_context(base_url=live, locale="pl-PL", timezone_id="Europe/Warsaw", accept_downloads=True)
    page = context.new_page()
    complaints: list[str] = []
    requested: list[str] = []
    page.complaints = complaints
    page.requested = requested
    page.set_default_timeout(15_000)
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda fault: complaints.append(str(fault)))
    context.on("request", lambda request: requested.append(request.url))
    yield page
    context.close()
    away = [url for url in requested if urlsplit(url).scheme not in ("data", "blob", "about")]
    away = [url for url in away if urlsplit(url).hostname != "127.0.0.1"]
    assert away == [], "a request left the machine"
    assert complaints == []


@pytest.fixture
def screenshot(tmp_path: Path) -> Callable[[Any, str], None]:
    """``screenshot(page, "login")`` into the folder named by KSEFBUFFER_SCREENSHOTS; nowhere when it is not set."""

    def take(page: Any, name: str) -> None:
        folder = os.environ.get("KSEFBUFFER_SCREENSHOTS")
        if folder:
            page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)

    return take


def real_now() -> datetime:
    return datetime.now(UTC)
