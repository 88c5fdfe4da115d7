"""The one place where a request is let in: sessions and their CSRF check for pages, keys and scopes for the API."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any, cast
from urllib.parse import quote, urlsplit

from fastapi import Depends, HTTPException
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request

from ksefbuffer.queue import people
from ksefbuffer.queue.db import StorageFault
from ksefbuffer.web.access import Caller, Grant
from ksefbuffer.web.api.problems import Problem
from ksefbuffer.web.site import Site, site_of

_SEEN_EVERY = timedelta(minutes=1)
# A rulebook with a register of stores is one field; the body as a whole is limited before.
_LARGEST_FIELD = 16_000_000
CHANGE_PAGE = "/haslo"
_BEFORE_CHANGE = (CHANGE_PAGE, "/wyloguj")


class SignInFirst(Exception):
    """Nobody is signed in; the answer leads to the login page and back to ``wanted``."""

    def __init__(self, wanted: str) -> None:
        super().__init__(wanted)
        self.wanted = wanted


class NewPasswordFirst(Exception):
    """They must change their password before anything else."""


# For pages


def caller(request: Request) -> Caller:
    """Who is signed in. Raises SignInFirst, NewPasswordFirst; both become redirects."""
    known = getattr(request.state, "caller", None)
    if known is not None:
        return cast(Caller, known)
    site = site_of(request)
    now = site.clock()
    token = request.cookies.get(cookie_name(request), "")
    found = None
    if token:
        with site.database.reading() as tx:
            found = people.find_session(tx, token, at=now)
            grants = people.grants_of_user(tx, found.user.id) if found is not None else []
    if found is None:
        raise SignInFirst(_way_back(request))
    if found.user.must_change and request.url.path not in _BEFORE_CHANGE:
        raise NewPasswordFirst
    if now - found.last_seen_at >= _SEEN_EVERY:
        _in_passing(site, lambda tx: people.touch_session(tx, token, at=now))
    request.state.csrf = found.csrf
    request.state.caller = _user_as_caller(found.user, grants)
    return cast(Caller, request.state.caller)


PageCaller = Annotated[Caller, Depends(caller)]
"""A handler's parameter: ``who: PageCaller``."""


def admin(request: Request) -> Caller:
    """The caller, for pages of administrators; 404 for anybody else."""
    who = caller(request)
    require(request, who.admin)
    return who


AdminCaller = Annotated[Caller, Depends(admin)]


def require(request: Request, what: bool) -> None:
    """404 unless ``what``: that something exists is not told to those whom it does not concern."""
    if not what:
        raise HTTPException(404)


def note(request: Request, tx: Any, action: str, on: str = "", text: str = "") -> None:
    """A line in the log of what people and keys did, in the commit of what it tells of."""
    site, who = site_of(request), getattr(request.state, "caller", None)
    people.note(
        tx, at=site.clock(), actor=who.actor if who else "?", action=action, on=on, text=text, ip=address(request)
    )


# Forms


@dataclass(frozen=True)
class Upload:
    """A file from a form, whole in memory. ``name`` is what the browser said: to show, never a path."""

    name: str
    media_type: str
    content: bytes = field(repr=False)


class Form(Mapping[str, str]):
    """What a form held: the first value of each name, ``all`` values of one, its ``files``."""

    def __init__(self, texts: Mapping[str, list[str]], uploads: Mapping[str, list[Upload]]) -> None:
        self._texts, self._uploads = texts, uploads

    def __getitem__(self, name: str) -> str:
        return self._texts[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)

    def text(self, name: str) -> str:
        """The value without spaces around; "" when there is none."""
        return self._texts.get(name, [""])[0].strip()

    def all(self, name: str) -> list[str]:
        return list(self._texts.get(name, []))

    def files(self, name: str) -> list[Upload]:
        """Files chosen; an input left empty gives none."""
        return list(self._uploads.get(name, []))


async def checked_form(request: Request) -> Form:
    """The parsed form of somebody signed in, after the CSRF check. Every POST of a page takes it: ``form: PageForm``.

    Raises SignInFirst; 403 for a request that did not come from our own page.
    """
    refuse_strangers(request)
    await run_in_threadpool(caller, request)
    form = await read_form(request)
    expected = request.state.csrf
    given = request.headers.get("x-csrf-token") or form.get("csrf", "")
    if not expected or not hmac.compare_digest(given.encode(), expected.encode()):
        raise HTTPException(403, "Formularz stracił ważność. Wróć, odśwież stronę i wyślij go ponownie.")
    return form


PageForm = Annotated[Form, Depends(checked_form)]


async def read_form(request: Request) -> Form:
    """The form as sent, without any check. Raises 400 for one that cannot be read."""
    texts: dict[str, list[str]] = {}
    uploads: dict[str, list[Upload]] = {}
    async with request.form(max_files=200, max_fields=5000, max_part_size=_LARGEST_FIELD) as form:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                if value.filename:
                    upload = Upload(value.filename, value.content_type or "", await value.read())
                    uploads.setdefault(name, []).append(upload)
            else:
                texts.setdefault(name, []).append(value)
    told = [*texts, *(text for some in texts.values() for text in some)]
    told += [text for some in uploads.values() for one in some for text in (one.name, one.media_type)]
    if any("\x00" in text for text in told):
        # PostgreSQL takes no such text.
        raise HTTPException(400)
    return Form(texts, uploads)


def refuse_strangers(request: Request) -> None:
    """403 for an unsafe request that another site's page made the browser send."""
    fetch_site = request.headers.get("sec-fetch-site")
    if fetch_site is not None and fetch_site not in ("same-origin", "none"):
        raise HTTPException(403, "To żądanie wysłała obca strona.")
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host", ""):
        raise HTTPException(403, "To żądanie wysłała obca strona.")


# For the API


def api_caller(scope: str) -> Callable[[Request], Caller]:
    """A dependency: the program whose key came as ``Authorization: Bearer``, with this scope.

    Raises Problem 401 without a good key, 403 without the scope.
    """

    def key_holder(request: Request) -> Caller:
        who = _key_as_caller(request)
        if scope not in who.scopes:
            raise Problem(
                403,
                "scope",
                "Klucz nie ma tego uprawnienia",
                f"To wywołanie wymaga zakresu „{scope}”.",
                hint="Administrator nadaje zakresy przy tworzeniu klucza (ksefbuffer apikey add).",
            )
        return who

    return key_holder


def _key_as_caller(request: Request) -> Caller:
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    site = site_of(request)
    now = site.clock()
    found = None
    if kind.lower() == "bearer" and secret.strip():
        with site.database.reading() as tx:
            found = people.find_key(tx, secret.strip())
            grants = people.own_grants(tx, key_id=found.id) if found is not None else []
    if found is None:
        raise Problem(
            401,
            "key",
            "Brak ważnego klucza API",
            "Podaj klucz w nagłówku Authorization: Bearer ksb_….",
            hint="Klucz tworzy administrator: ksefbuffer apikey add NAZWA.",
            headers={"WWW-Authenticate": "Bearer"},
        )
    key = found
    if key.last_used_at is None or now - key.last_used_at >= _SEEN_EVERY:
        _in_passing(site, lambda tx: people.touch_key(tx, key.id, at=now))
    who = Caller("key", key.id, key.name, False, _grants(grants), frozenset(key.scopes))
    request.state.caller = who
    return who


# Shared


def address(request: Request) -> str:
    """The other side's IP address."""
    return request.client.host[:64] if request.client else ""


def is_secure(request: Request) -> bool:
    """Whether the browser talks HTTPS, to us or to the proxy before us."""
    return request.url.scheme == "https"


def cookie_name(request: Request) -> str:
    """Of the session's cookie; the prefix makes browsers refuse one set by a neighbour or without HTTPS."""
    return "__Host-ksefbuffer" if is_secure(request) else "ksefbuffer"


def new_csrf() -> str:
    return secrets.token_urlsafe(32)


def _way_back(request: Request) -> str:
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return f"/logowanie?dalej={quote(wanted)}" if request.method == "GET" and wanted != "/" else "/logowanie"


def _user_as_caller(user: people.User, grants: list[people.GrantRow]) -> Caller:
    return Caller("user", user.id, user.login, user.admin, _grants(grants), frozenset())


def _grants(rows: list[people.GrantRow]) -> tuple[Grant, ...]:
    return tuple(
        Grant("outgoing" if kind == "outgoing" else "incoming", folder, handle) for kind, folder, handle in rows
    )


def _in_passing(site: Site, write: Callable[[Any], None]) -> None:
    # When somebody was last seen is no reason to refuse them while the database cannot be written.
    try:
        with site.database.transaction() as tx:
            write(tx)
    except StorageFault:
        pass
