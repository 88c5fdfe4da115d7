"""Asking the worker for what only it can do: sealed for its letterbox, answered in the database."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

from fastapi import HTTPException
from starlette.requests import Request

from ksefbuffer.errors import NotAllowedNow
from ksefbuffer.identity.letterbox import new_reply_key, open_reply, order_purpose, seal, setting_purpose
from ksefbuffer.queue import facts, orders
from ksefbuffer.queue.orders import Order
from ksefbuffer.web.access import Caller
from ksefbuffer.web.gate import note
from ksefbuffer.web.site import Site, site_of

_LETTERBOX = "letterbox"
_BEYOND_KEYS = 2**31


def ask(request: Request, who: Caller, kind: str, wanted: Mapping[str, Any], *, text: str = "") -> int:
    """A new order; returns its number. ``text`` is what the log of actions says of it, never a secret.

    Raises NotAllowedNow before the worker has ever run, as nothing can be sealed for it then.
    """
    site = site_of(request)
    payload = seal(_public(site), order_purpose(kind), json.dumps(dict(wanted)).encode("utf-8"))
    with site.database.transaction() as tx:
        number = orders.place(tx, kind, payload, actor=who.actor, at=site.clock())
        note(request, tx, "order", kind, text)
    return number


def sealed_setting(site: Site, key: str, value: Any) -> dict[str, str]:
    """A secret setting as it may lie in the database. Raises NotAllowedNow as ``ask``."""
    sealed = seal(_public(site), setting_purpose(key), json.dumps(value).encode("utf-8"))
    return {"sealed": b64encode(sealed).decode("ascii")}


def order_of(site: Site, who: Caller, number: int) -> Order:
    """Their order as it stands; one that no worker took in time has failed by now. Raises 404, for others' too: what
    comes of an order (a document to sign, a token) is for who asked."""
    if not 0 < number < _BEYOND_KEYS:
        raise HTTPException(404)
    with site.database.reading() as tx:
        found, late = orders.order(tx, number), orders.any_late(tx, site.clock())
    if late:
        with site.database.transaction() as tx:
            orders.expire(tx, site.clock())
            found = orders.order(tx, number)
    if found is None or found.actor != who.actor:
        raise HTTPException(404)
    return found


def order_or_none(site: Site, who: Caller, number: int | None) -> Order | None:
    """As ``order_of``, for a page that has more to show than the order."""
    if number is None:
        return None
    try:
        return order_of(site, who, number)
    except HTTPException:
        return None


def reply_key() -> str:
    """A key for one answer, as cookies and orders hold it."""
    return b64encode(new_reply_key()).decode("ascii")


def opened_reply(key: str, sealed: str) -> str | None:
    """The secret in an answer; None for who has not its key."""
    try:
        opened = open_reply(b64decode(key), b64decode(sealed))
    except ValueError:
        return None
    return opened.decode("utf-8") if opened is not None else None


def _public(site: Site) -> str:
    with site.database.reading() as tx:
        told = facts.get(tx, _LETTERBOX)
    if told is None:
        raise NotAllowedNow(
            "Bufor jeszcze nie pracował na tej bazie, więc nie ma komu przekazać polecenia.",
            action="Uruchom usługę ksefbuffer (ksefbuffer run) i powtórz.",
        )
    return str(told[0]["public"])
