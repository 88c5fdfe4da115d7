"""Signing in and out, one's own password and second step, invitations."""

from __future__ import annotations

import base64
import hmac
from datetime import datetime
from io import BytesIO
from typing import Annotated, Any

import pyotp
import segno
from fastapi import APIRouter, Depends, HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ksefbuffer.errors import NotAllowedNow
from ksefbuffer.queue import people
from ksefbuffer.queue.people import User
from ksefbuffer.web import passwords
from ksefbuffer.web.gate import (
    Form,
    PageCaller,
    PageForm,
    address,
    cookie_name,
    is_secure,
    new_csrf,
    note,
    read_form,
    refuse_strangers,
)
from ksefbuffer.web.rendering import redirect, render
from ksefbuffer.web.site import site_of

router = APIRouter()

_ISSUER = "Bufor KSeF"
_STEP_S = 30
_SAME = "Nieprawidłowy login, hasło lub kod."


# Forms of people who are not signed in: their token lies in a cookie of its own


def _form_cookie(request: Request) -> str:
    return "__Host-ksefbuffer-form" if is_secure(request) else "ksefbuffer-form"


async def stranger_form(request: Request) -> Form:
    """The form of somebody not signed in, sent from our own page. Raises 403 otherwise."""
    refuse_strangers(request)
    form = await read_form(request)
    expected, given = request.cookies.get(_form_cookie(request), ""), form.get("csrf", "")
    if not expected or not hmac.compare_digest(given.encode(), expected.encode()):
        raise HTTPException(
            403, "Formularz stracił ważność albo przeglądarka nie przyjmuje ciasteczek. Odśwież stronę."
        )
    return form


StrangerForm = Annotated[Form, Depends(stranger_form)]


def _for_strangers(request: Request, template: str, *, status_code: int = 200, **context: Any) -> Response:
    token = request.cookies.get(_form_cookie(request)) or new_csrf()
    response = render(request, template, status_code=status_code, form_token=token, **context)
    response.set_cookie(
        _form_cookie(request), token, path="/", httponly=True, samesite="strict", secure=is_secure(request)
    )
    return response


def _let_in(request: Request, response: Response, token: str) -> Response:
    response.set_cookie(
        cookie_name(request), token, path="/", httponly=True, samesite="strict", secure=is_secure(request)
    )
    return response


# Signing in


@router.get("/logowanie")
def login_page(request: Request, dalej: str = "/") -> Response:
    with site_of(request).database.reading() as tx:
        nobody = not people.any_admin(tx)
    return _for_strangers(request, "login/login.html", login="", wanted=_own_page(dalej), mistake="", nobody=nobody)


@router.post("/logowanie")
def log_in(request: Request, form: StrangerForm) -> Response:
    site, ip, login = site_of(request), address(request), form.text("login").lower()
    wanted = _own_page(form.text("dalej"))
    now = site.clock()
    with site.database.reading() as tx:
        until = people.waits_until(tx, ip=ip, login=login, at=now)
        user = people.find_user(tx, login)
    if until is not None:
        return _wait(request, login, wanted, until, now)
    right = passwords.verified(form.get("haslo", ""), user.password_hash if user is not None else None)
    newer = None
    if right and user is not None and user.password_hash is not None and passwords.outdated(user.password_hash):
        newer = passwords.hashed(form["haslo"])
    old = request.cookies.get(cookie_name(request), "")
    token = None
    with site.database.transaction() as tx:
        # Asked again: of many guesses at once all but the first few must learn nothing.
        until = people.waits_until(tx, ip=ip, login=login, at=now)
        if (
            until is None
            and user is not None
            and right
            and user.active
            and _second_step(tx, user, form.text("kod"), now)
        ):
            people.forget_failures(tx, ip=ip, login=login)
            if newer is not None:
                people.improve_hash(tx, user.id, newer)
            if old:
                people.end_session(tx, old)
            token = people.open_session(tx, user.id, at=now, ip=ip)
            people.note(tx, at=now, actor=f"user:{user.login}", action="login", ip=ip)
        else:
            until = people.count_failure(tx, ip=ip, login=login, at=now)
            # What was typed is kept only when it is a login: people type passwords there, too.
            known = user.login if user is not None else "?"
            people.note(tx, at=now, actor="?", action="login-refused", on=known, ip=ip)
    if token is None:
        if until is not None:
            return _wait(request, login, wanted, until, now)
        return _for_strangers(
            request, "login/login.html", status_code=422, login=login, wanted=wanted, mistake=_SAME, nobody=False
        )
    return _let_in(request, redirect(wanted), token)


def _wait(request: Request, login: str, wanted: str, until: datetime, now: datetime) -> Response:
    seconds = max(1, -int(-(until - now).total_seconds() // 1))
    mistake = f"{_SAME} Następna próba za {seconds} s."
    response = _for_strangers(
        request, "login/login.html", status_code=429, login=login, wanted=wanted, mistake=mistake, nobody=False
    )
    response.headers["Retry-After"] = str(seconds)
    return response


def _second_step(tx: Any, user: User, code: str, now: datetime) -> bool:
    if user.totp_secret is None:
        return True
    step = _step_of(user.totp_secret, code, now)
    return step is not None and people.use_totp_step(tx, user.id, step)


def _step_of(secret: str, code: str, now: datetime) -> int | None:
    """The time step whose code this is; clocks may be one step apart."""
    code = code.replace(" ", "")
    totp, current = pyotp.TOTP(secret, interval=_STEP_S), int(now.timestamp()) // _STEP_S
    for step in (current, current - 1, current + 1):
        if hmac.compare_digest(totp.at(step * _STEP_S).encode(), code.encode()):
            return step
    return None


def _own_page(wanted: str) -> str:
    """An address on this page to go on to; anything else leads to the dashboard."""
    safe = wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and wanted.isprintable()
    return wanted if safe and "\\" not in wanted else "/"


@router.post("/wyloguj")
def log_out(request: Request, _who: PageCaller, _form: PageForm) -> Response:
    site = site_of(request)
    with site.database.transaction() as tx:
        people.end_session(tx, request.cookies.get(cookie_name(request), ""))
        note(request, tx, "logout")
    response = redirect("/logowanie")
    response.delete_cookie(cookie_name(request), path="/", httponly=True, samesite="strict", secure=is_secure(request))
    return response


# One's own password and second step


@router.get("/haslo")
def own_page(request: Request, who: PageCaller) -> Response:
    return _own(request, _me(request, who.id))


@router.post("/haslo")
def change_password(request: Request, who: PageCaller, form: PageForm) -> Response:
    site, ip, now = site_of(request), address(request), site_of(request).clock()
    me = _me(request, who.id)
    refused = _check_again(request, me, form)
    if refused is not None:
        return refused
    new = form.get("nowe", "")
    try:
        passwords.check_rules(new, me.login)
        if new != form.get("powtorz", ""):
            raise NotAllowedNow("Oba nowe hasła muszą być takie same.")
    except NotAllowedNow as fault:
        return _own(request, me, mistake=str(fault), status_code=422)
    kept = passwords.hashed(new)
    with site.database.transaction() as tx:
        people.set_password(tx, me.id, kept)
        token = people.open_session(tx, me.id, at=now, ip=ip)
        note(request, tx, "password", me.login)
    return _let_in(request, redirect("/haslo", "Hasło zmienione. Inne przeglądarki zostały wylogowane."), token)


@router.post("/haslo/drugi-skladnik")
def second_step_on(request: Request, who: PageCaller, form: PageForm) -> Response:
    site, now = site_of(request), site_of(request).clock()
    me = _me(request, who.id)
    refused = _check_again(request, me, form)
    if refused is not None:
        return refused
    if form.text("wylacz"):
        with site.database.transaction() as tx:
            people.set_totp(tx, me.id, None)
            note(request, tx, "totp-off", me.login)
        return redirect("/haslo", "Drugi składnik logowania jest wyłączony.")
    secret = form.text("sekret")
    if len(secret) != 32 or set(secret) - set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"):
        raise HTTPException(422)
    step = _step_of(secret, form.text("kod"), now)
    if step is None:
        mistake = "Kod się nie zgadza. Sprawdź, czy zegar telefonu chodzi dobrze, i przepisz nowy kod."
        return _own(request, me, mistake=mistake, status_code=422, secret=secret)
    with site.database.transaction() as tx:
        people.set_totp(tx, me.id, secret, step=step)
        note(request, tx, "totp-on", me.login)
    return redirect("/haslo", "Drugi składnik logowania jest włączony.")


@router.post("/haslo/wyloguj-wszedzie")
def log_out_everywhere(request: Request, who: PageCaller, _form: PageForm) -> Response:
    site, now = site_of(request), site_of(request).clock()
    with site.database.transaction() as tx:
        people.end_sessions(tx, who.id)
        token = people.open_session(tx, who.id, at=now, ip=address(request))
        note(request, tx, "logout-everywhere", who.name)
    return _let_in(request, redirect("/haslo", "Inne przeglądarki zostały wylogowane."), token)


def _check_again(request: Request, me: User, form: Form) -> Response | None:
    """None when the password they gave again is theirs; guesses are throttled as at the login page."""
    site, ip, now = site_of(request), address(request), site_of(request).clock()
    with site.database.reading() as tx:
        until = people.waits_until(tx, ip=ip, login=me.login, at=now)
    if until is None:
        right = passwords.verified(form.get("haslo", ""), me.password_hash)
        with site.database.transaction() as tx:
            # Asked again, as at the login page: of many guesses at once all but the first few must learn nothing.
            until = people.waits_until(tx, ip=ip, login=me.login, at=now)
            if right and until is None:
                return None
            until = people.count_failure(tx, ip=ip, login=me.login, at=now)
            note(request, tx, "password-refused", me.login)
    response = _own(request, me, mistake="Obecne hasło się nie zgadza.", status_code=429 if until else 422)
    if until is not None:
        response.headers["Retry-After"] = str(max(1, int((until - now).total_seconds())))
    return response


def _me(request: Request, user_id: int) -> User:
    with site_of(request).database.reading() as tx:
        return people.user_by_id(tx, user_id)


def _own(request: Request, me: User, *, mistake: str = "", status_code: int = 200, secret: str = "") -> Response:
    secret = secret or pyotp.random_base32()
    picture = BytesIO()
    link = pyotp.TOTP(secret).provisioning_uri(name=f"{me.login} {site_of(request).config.nip}", issuer_name=_ISSUER)
    segno.make_qr(link, error="m").save(picture, kind="svg", scale=4, border=3)
    return render(
        request,
        "login/own.html",
        status_code=status_code,
        me=me,
        mistake=mistake,
        secret=secret,
        qr="data:image/svg+xml;base64," + base64.b64encode(picture.getvalue()).decode(),
        shortest=passwords.SHORTEST,
    )


# Invitations


@router.get("/zaproszenie/{token}")
def invitation_page(request: Request, token: str) -> Response:
    site = site_of(request)
    with site.database.reading() as tx:
        user = people.invited(tx, token, at=site.clock())
    if user is None:
        return _no_invitation(request)
    return _for_strangers(request, "login/invitation.html", login=user.login, mistake="", shortest=passwords.SHORTEST)


@router.post("/zaproszenie/{token}")
def accept_invitation(request: Request, token: str, form: StrangerForm) -> Response:
    site, ip, now = site_of(request), address(request), site_of(request).clock()
    with site.database.reading() as tx:
        user = people.invited(tx, token, at=now)
    if user is None:
        return _no_invitation(request)
    new = form.get("nowe", "")
    try:
        passwords.check_rules(new, user.login)
        if new != form.get("powtorz", ""):
            raise NotAllowedNow("Oba hasła muszą być takie same.")
    except NotAllowedNow as fault:
        return _for_strangers(
            request,
            "login/invitation.html",
            status_code=422,
            login=user.login,
            mistake=str(fault),
            shortest=passwords.SHORTEST,
        )
    kept = passwords.hashed(new)
    session = None
    with site.database.transaction() as tx:
        used = people.use_invitation(tx, token, at=now)
        if used is not None:
            people.set_password(tx, used.id, kept)
            people.note(tx, at=now, actor=f"user:{used.login}", action="invitation-used", on=used.login, ip=ip)
            if used.totp_secret is None:
                session = people.open_session(tx, used.id, at=now, ip=ip)
    if used is None:
        return _no_invitation(request)
    if session is None:
        return redirect("/logowanie", "Hasło ustawione. Zaloguj się.")
    return _let_in(request, redirect("/", "Hasło ustawione. Dzień dobry!"), session)


def _no_invitation(request: Request) -> Response:
    return render(
        request,
        "errors.html",
        status_code=404,
        status=404,
        title="Zaproszenie jest nieważne",
        message="Ten link został już użyty, wygasł albo zastąpił go nowszy.",
        action="Poproś administratora o nowe zaproszenie (także: ksefbuffer user password LOGIN).",
    )
