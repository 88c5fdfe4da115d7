"""Certyfikaty: how they stand, bringing one in, getting them from KSeF, Profil Zaufany, tokens.

No key stays here: what is uploaded is sealed for the worker in the same request.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ksefbuffer.errors import BufferFault
from ksefbuffer.identity import words
from ksefbuffer.queue import credentials, facts, orders
from ksefbuffer.queue.db import worker_is_running
from ksefbuffer.queue.orders import Order
from ksefbuffer.web.asking import ask, opened_reply, order_of, order_or_none, reply_key
from ksefbuffer.web.gate import AdminCaller, Form, PageForm, is_secure, require
from ksefbuffer.web.rendering import redirect, render
from ksefbuffer.web.site import Site, site_of

router = APIRouter()

PURPOSES = {"auth": "logowanie do KSeF", "offline": "kody QR faktur offline"}
ORIGINS = {
    "files": "pliki z konfiguracji",
    "import": "przesłany do bufora",
    "enrolment": "uzyskany z KSeF",
    "sandbox": "własny, testowy",
}
LARGEST_FILE = 1_000_000
_REPLY_COOKIE = "ksb_reply"
_REPLY_LIVES_S = 600
_BACK = ("/certyfikaty", "/start")


@dataclass(frozen=True)
class Shown:
    """One certificate, or a request for one, as a row of the list. ``kept`` is its number in the database."""

    purpose: str
    origin: str
    status: str
    tone: str
    subject: str
    issuer: str
    serial: str
    valid_from: datetime | None
    valid_to: datetime | None
    days_left: int | None
    note: str
    pending: bool = False
    renewable: bool = False
    current: bool = False


def standings(site: Site) -> list[Shown]:
    """Every certificate, those from files first, then those kept in the database, the newest first."""
    now = site.clock()
    with site.database.reading() as tx:
        told, kept = facts.get(tx, "certificates"), credentials.all_kept(tx)
    shown = [_of_files(one) for one in (told[0] if told else []) if one["kept"] is None and one["origin"] != "none"]
    for row in kept:
        status = words.status_words(row.state, row.valid_from, row.valid_to, now)
        shown.append(
            Shown(
                purpose=row.purpose,
                origin=row.source,
                status=status,
                tone=_tone(status),
                subject=row.subject or "",
                issuer=row.issuer or "",
                serial=row.serial or "",
                valid_from=row.valid_from,
                valid_to=row.valid_to,
                days_left=words.days_between(now, row.valid_to) if row.valid_to else None,
                note=row.note or "",
                pending=row.state == "pending",
                renewable=row.state == "active",
                current=row.state in ("active", "pending"),
            )
        )
    return shown


def _of_files(one: dict[str, Any]) -> Shown:
    return Shown(
        purpose=one["purpose"],
        origin=one["origin"],
        status=one["status"],
        tone=_tone(one["status"]),
        subject=one["subject"],
        issuer=one["issuer"],
        serial=one["serial"],
        valid_from=_moment(one["valid_from"]),
        valid_to=_moment(one["valid_to"]),
        days_left=one["days_left"],
        note=f"{one['problem'] or ''} {one['action']}".strip() or one["note"],
        current=True,
    )


def _moment(iso: str | None) -> datetime | None:
    return datetime.fromisoformat(iso).astimezone(UTC) if iso else None


def _tone(status: str) -> str:
    if status == words.WORKING:
        return "good"
    if status.startswith("wygasa"):
        return "warning"
    if status == words.CONFIGURING:
        return "busy"
    return "" if status == words.REPLACED else "bad"


def login_trouble(site: Site) -> dict[str, str] | None:
    """Why the worker has no way in to KSeF: ``message`` and ``action``; None when it has one."""
    with site.database.reading() as tx:
        told = facts.get(tx, "login_trouble")
    return told[0] if told else None


# The page


@router.get("/certyfikaty")
def page(request: Request, who: AdminCaller, zlecenie: int | None = None) -> Response:
    site = site_of(request)
    order = order_or_none(site, who, zlecenie)
    with site.database.reading() as tx:
        requested, listed = (orders.latest(tx, kind, actor=who.actor) for kind in ("auth-request", "token-list"))
    return render(
        request,
        "certificates/page.html",
        rows=standings(site),
        order=order,
        names=PURPOSES,
        origins=ORIGINS,
        trouble=login_trouble(site),
        running=worker_is_running(site.database),
        by_token=site.config.auth.method == "token",
        tokens_end=words.tokens_end(site.clock()),
        tokens_days=words.days_between(site.clock(), datetime(2026, 12, 31, 12, tzinfo=UTC)),
        document=document_in(requested, site.clock()),
        tokens=listed if listed is not None and listed.state == "done" else None,
        back="/certyfikaty",
    )


@router.get("/certyfikaty/lista")
def rows(request: Request, _who: AdminCaller) -> Response:
    site = site_of(request)
    return render(request, "certificates/rows.html", rows=standings(site), names=PURPOSES, origins=ORIGINS)


@router.get("/certyfikaty/zlecenie/{number}")
def order_state(request: Request, who: AdminCaller, number: int) -> Response:
    """How their order stands; the token in its answer is shown once, to the browser that asked for it."""
    site = site_of(request)
    order = order_of(site, who, number)
    token = _token_in(request, site, order)
    response = render(request, "certificates/order.html", order=order, token=token, document=document_in(order, None))
    if order.ended:
        response.headers["X-Refresh-Stop"] = "1"
    if token:
        response.delete_cookie(_REPLY_COOKIE, path="/certyfikaty")
    response.headers["Cache-Control"] = "no-store"
    return response


def document_in(order: Order | None, now: datetime | None) -> dict[str, Any] | None:
    """The login document of an order: its number and its end; None when there is none, or it is late by ``now``."""
    if order is None or order.kind != "auth-request" or order.state != "done" or not order.result:
        return None
    until = datetime.fromisoformat(order.result["expires_at"])
    return None if now is not None and now >= until else {"order": order.id, "until": until}


@router.get("/certyfikaty/dokument/{number}")
def document(request: Request, who: AdminCaller, number: int) -> Response:
    """The login document to be signed, by who asked for it."""
    order = order_of(site_of(request), who, number)
    require(request, document_in(order, None) is not None)
    assert order.result is not None
    headers = {
        "Content-Disposition": 'attachment; filename="logowanie-ksef.xml"',
        "Cache-Control": "no-store",
    }
    return Response(order.result["document"].encode("utf-8"), media_type="application/xml", headers=headers)


# Orders


@router.post("/certyfikaty/przeslij")
def upload(request: Request, who: AdminCaller, form: PageForm) -> Response:
    """A certificate with its key: sealed at once, nothing of it stays here."""
    certificates, keys = form.files("certificate"), form.files("key")
    if not certificates and not keys:
        return _back(form, "Wskaż plik z certyfikatem.", kind="error")
    if len(certificates) + len(keys) > 2 or any(len(one.content) > LARGEST_FILE for one in (*certificates, *keys)):
        return _back(form, "Wskaż najwyżej dwa pliki, każdy do 1 MB: certyfikat i klucz.", kind="error")
    # One field given all, in any order, is as good as two fields; one file in the field of the key is not.
    both = [*certificates, *keys]
    files = {
        name: {"name": one.name, "content": b64encode(one.content).decode("ascii")}
        for name, one in zip(("certificate", "key"), both, strict=False)
    }
    purpose = form.text("purpose")
    wanted = {**files, "purpose": purpose, "password": form.get("password", "")}
    return _asked(request, who, form, "cert-import", wanted, text=PURPOSES.get(purpose, "cel rozpoznany z pliku"))


@router.post("/certyfikaty/uzyskaj")
def enroll(request: Request, who: AdminCaller, form: PageForm) -> Response:
    purposes = [one for one in PURPOSES if one in form.all("purpose")] or list(PURPOSES)
    renew = form.text("renew") == "1"
    wanted = {"purposes": purposes, "key": "rsa" if form.text("key") == "rsa" else "ec", "renew": renew}
    return _asked(request, who, form, "cert-enroll", wanted, text=", ".join(purposes))


@router.post("/certyfikaty/porzuc")
def abandon(request: Request, who: AdminCaller, form: PageForm) -> Response:
    purpose = form.text("purpose")
    require(request, purpose in PURPOSES)
    return _asked(request, who, form, "cert-abandon", {"purpose": purpose}, text=purpose)


@router.post("/certyfikaty/dokument")
def ask_document(request: Request, who: AdminCaller, form: PageForm) -> Response:
    return _asked(request, who, form, "auth-request", {})


@router.post("/certyfikaty/podpisany")
def signed(request: Request, who: AdminCaller, form: PageForm) -> Response:
    files = form.files("document")
    if not files or len(files[0].content) > LARGEST_FILE:
        return _back(form, "Wskaż podpisany plik XML (do 1 MB).", kind="error")
    return _asked(request, who, form, "auth-submit", {"content": b64encode(files[0].content).decode("ascii")})


@router.post("/certyfikaty/tokeny")
def list_tokens(request: Request, who: AdminCaller, form: PageForm) -> Response:
    return _asked(request, who, form, "token-list", {})


@router.post("/certyfikaty/tokeny/nowy")
def make_token(request: Request, who: AdminCaller, form: PageForm) -> Response:
    description = form.text("description")
    if not 5 <= len(description) <= 256:
        return _back(form, "Opis tokenu musi mieć od 5 do 256 znaków.", kind="error")
    key = reply_key()
    response = _asked(
        request, who, form, "token-make", {"description": description, "reply_key": key}, text=description
    )
    response.set_cookie(
        _REPLY_COOKIE,
        key,
        max_age=_REPLY_LIVES_S,
        path="/certyfikaty",
        httponly=True,
        samesite="strict",
        secure=is_secure(request),
    )
    return response


@router.post("/certyfikaty/tokeny/uniewaznij")
def revoke_token(request: Request, who: AdminCaller, form: PageForm) -> Response:
    reference = form.text("reference")
    require(request, bool(reference) and len(reference) <= 100)
    return _asked(request, who, form, "token-revoke", {"reference": reference}, text=reference)


def _asked(
    request: Request, who: AdminCaller, form: Form, kind: str, wanted: dict[str, Any], *, text: str = ""
) -> Response:
    try:
        number = ask(request, who, kind, wanted, text=text)
    except BufferFault as fault:
        return _back(form, str(fault), kind="error")
    place = _place(form)
    return redirect(f"{place}{'&' if '?' in place else '?'}zlecenie={number}")


def _back(form: Form, notice: str, *, kind: str) -> Response:
    return redirect(_place(form), notice, kind=kind)


def _place(form: Form) -> str:
    """Where the form came from: one of our own pages, whatever it says."""
    place = form.text("back")
    return place if place.partition("?")[0] in _BACK and "zlecenie=" not in place else "/certyfikaty"


def _token_in(request: Request, site: Site, order: Order) -> str | None:
    if order.kind != "token-make" or not order.result or "sealed" not in order.result:
        return None
    token = opened_reply(request.cookies.get(_REPLY_COOKIE, ""), order.result["sealed"])
    if token is not None:
        with site.database.transaction() as tx:
            orders.wipe(tx, order.id, "sealed")
    return token
