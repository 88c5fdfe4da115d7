"""Użytkownicy: people, their groups, what they may see and handle, and programs' keys. For administrators."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ksefbuffer.errors import NotAllowedNow
from ksefbuffer.queue import people, pulls
from ksefbuffer.queue.people import GrantRow, User
from ksefbuffer.web.access import SCOPES
from ksefbuffer.web.gate import AdminCaller, Form, PageForm, note
from ksefbuffer.web.links import invitation_url
from ksefbuffer.web.rendering import redirect, render
from ksefbuffer.web.site import site_of

router = APIRouter(prefix="/uzytkownicy")

LEVELS = {"see": "widzi", "handle": "widzi i obsługuje"}
SCOPES_PL = {
    "send": "wysyłanie, ponawianie i wycofywanie dokumentów",
    "read": "odczyt dokumentów wysyłanych",
    "incoming": "odczyt faktur otrzymanych",
    "decide": "decyzje o fakturach otrzymanych",
    "status": "stan bufora",
}
_EMPTY_ROWS = 3


# People


@router.get("")
def people_page(request: Request, _who: AdminCaller) -> Response:
    return _list(request)


@router.post("")
def add_person(request: Request, _who: AdminCaller, form: PageForm) -> Response:
    site = site_of(request)
    now = site.clock()
    try:
        with site.database.transaction() as tx:
            user = people.add_user(
                tx, form.text("login"), name=form.text("nazwa"), admin=bool(form.text("admin")), at=now
            )
            token = people.invite(tx, user.id, at=now)
            note(request, tx, "user-add", user.login, "administrator" if user.admin else "")
    except NotAllowedNow as fault:
        return _list(request, mistake=str(fault), given=form, status_code=422)
    return _invited(request, user, token)


def _list(request: Request, *, mistake: str = "", given: Form | None = None, status_code: int = 200) -> Response:
    with site_of(request).database.reading() as tx:
        found = [(user, people.groups_of(tx, user.id)) for user in people.all_users(tx)]
    return render(
        request, "users/list.html", status_code=status_code, found=found, mistake=mistake, given=dict(given or {})
    )


def _invited(request: Request, user: User, token: str) -> Response:
    public = site_of(request).config.web.public_url
    base = public or f"{request.url.scheme}://{request.url.netloc}"
    return render(request, "users/invited.html", user=user, link=invitation_url(base, token))


@router.get("/{user_id:int}")
def person_page(request: Request, user_id: int, _who: AdminCaller) -> Response:
    return _person(request, user_id)


def _person(request: Request, user_id: int, *, mistake: str = "", status_code: int = 200) -> Response:
    with site_of(request).database.reading() as tx:
        user = people.user_by_id(tx, user_id)
        groups = [(key, name, user_id in people.members(tx, key)) for key, name in people.all_groups(tx)]
        own, whole = people.own_grants(tx, user_id=user_id), people.grants_of_user(tx, user_id)
        folders = known_folders(tx)
    return render(
        request,
        "users/person.html",
        status_code=status_code,
        user=user,
        groups=groups,
        whole=whole,
        folders=folders,
        mistake=mistake,
        **_as_fields(own),
    )


@router.post("/{user_id:int}")
def change_person(request: Request, user_id: int, _who: AdminCaller, form: PageForm) -> Response:
    site = site_of(request)
    wanted = {int(key) for key in form.all("grupa") if key.isdecimal() and len(key) < 10}
    grants = _as_grants(form)
    try:
        with site.database.transaction() as tx:
            user = people.user_by_id(tx, user_id)
            people.change_user(tx, user_id, name=form.text("nazwa"), admin=bool(form.text("admin")))
            people.set_grants(tx, grants, user_id=user_id)
            for key, _name in people.all_groups(tx):
                before = people.members(tx, key)
                after = before | {user_id} if key in wanted else before - {user_id}
                if after != before:
                    people.set_members(tx, key, after)
            told = [*(["administrator"] if form.text("admin") else []), *_told(grants)]
            names = people.groups_of(tx, user_id)
            note(request, tx, "user-change", user.login, "; ".join([*told, *(f"grupa {name}" for name in names)]))
    except NotAllowedNow as fault:
        return _person(request, user_id, mistake=str(fault), status_code=409)
    return redirect(f"/uzytkownicy/{user_id}", "Zapisano. Nowe prawa działają od razu.")


@router.post("/{user_id:int}/stan")
def switch_person(request: Request, user_id: int, _who: AdminCaller, form: PageForm) -> Response:
    on = form.text("aktywny") == "1"
    try:
        with site_of(request).database.transaction() as tx:
            user = people.user_by_id(tx, user_id)
            people.set_active(tx, user_id, on)
            note(request, tx, "user-enable" if on else "user-disable", user.login)
    except NotAllowedNow as fault:
        return _person(request, user_id, mistake=str(fault), status_code=409)
    return redirect(
        f"/uzytkownicy/{user_id}",
        "Konto działa." if on else "Konto wyłączone; zalogowane przeglądarki już nie działają.",
    )


@router.post("/{user_id:int}/zaproszenie")
def invite_person(request: Request, user_id: int, _who: AdminCaller, _form: PageForm) -> Response:
    site = site_of(request)
    with site.database.transaction() as tx:
        user = people.user_by_id(tx, user_id)
        if not user.active:
            raise NotAllowedNow("To konto jest wyłączone.", action="Najpierw je włącz.")
        token = people.invite(tx, user_id, at=site.clock())
        note(request, tx, "user-invite", user.login)
    return _invited(request, user, token)


@router.post("/{user_id:int}/drugi-skladnik")
def second_step_off(request: Request, user_id: int, _who: AdminCaller, _form: PageForm) -> Response:
    with site_of(request).database.transaction() as tx:
        user = people.user_by_id(tx, user_id)
        people.set_totp(tx, user_id, None)
        note(request, tx, "totp-off", user.login)
    return redirect(f"/uzytkownicy/{user_id}", "Drugi składnik logowania jest wyłączony.")


# Groups


@router.get("/grupy")
def groups_page(request: Request, _who: AdminCaller) -> Response:
    return _groups(request)


def _groups(request: Request, *, mistake: str = "", status_code: int = 200) -> Response:
    with site_of(request).database.reading() as tx:
        logins = {user.id: user.login for user in people.all_users(tx)}
        found = [
            (
                key,
                name,
                sorted(logins[member] for member in people.members(tx, key)),
                _told(people.own_grants(tx, group_id=key)),
            )
            for key, name in people.all_groups(tx)
        ]
    return render(request, "users/groups.html", status_code=status_code, found=found, mistake=mistake)


@router.post("/grupy")
def add_group(request: Request, _who: AdminCaller, form: PageForm) -> Response:
    site = site_of(request)
    try:
        with site.database.transaction() as tx:
            key = people.add_group(tx, form.text("nazwa"), at=site.clock())
            note(request, tx, "group-add", people.group_name(tx, key))
    except NotAllowedNow as fault:
        return _groups(request, mistake=str(fault), status_code=422)
    return redirect(f"/uzytkownicy/grupy/{key}", "Grupa dodana. Wskaż osoby i prawa.")


@router.get("/grupy/{group_id:int}")
def group_page(request: Request, group_id: int, _who: AdminCaller) -> Response:
    with site_of(request).database.reading() as tx:
        name = people.group_name(tx, group_id)
        inside = people.members(tx, group_id)
        persons = [(user, user.id in inside) for user in people.all_users(tx)]
        own = people.own_grants(tx, group_id=group_id)
        folders = known_folders(tx)
    return render(
        request,
        "users/group.html",
        group_id=group_id,
        name=name,
        persons=persons,
        folders=folders,
        **_as_fields(own),
    )


@router.post("/grupy/{group_id:int}")
def change_group(request: Request, group_id: int, _who: AdminCaller, form: PageForm) -> Response:
    grants = _as_grants(form)
    wanted = {int(key) for key in form.all("osoba") if key.isdecimal() and len(key) < 10}
    with site_of(request).database.transaction() as tx:
        name = people.group_name(tx, group_id)
        known = {user.id: user.login for user in people.all_users(tx)}
        people.set_members(tx, group_id, wanted & known.keys())
        people.set_grants(tx, grants, group_id=group_id)
        logins = ", ".join(sorted(known[key] for key in wanted & known.keys()))
        note(request, tx, "group-change", name, "; ".join([*_told(grants), f"osoby: {logins or '-'}"]))
    return redirect(f"/uzytkownicy/grupy/{group_id}", "Zapisano. Nowe prawa działają od razu.")


@router.post("/grupy/{group_id:int}/usun")
def remove_group(request: Request, group_id: int, _who: AdminCaller, _form: PageForm) -> Response:
    with site_of(request).database.transaction() as tx:
        name = people.group_name(tx, group_id)
        people.remove_group(tx, group_id)
        note(request, tx, "group-remove", name)
    return redirect("/uzytkownicy/grupy", f"Grupa „{name}” usunięta; jej osoby pozostały.")


# Keys of programs


@router.get("/klucze")
def keys_page(request: Request, _who: AdminCaller) -> Response:
    return _keys(request)


def _keys(
    request: Request, *, mistake: str = "", made: tuple[str, str] | None = None, status_code: int = 200
) -> Response:
    with site_of(request).database.reading() as tx:
        found = [(key, _told(people.own_grants(tx, key_id=key.id))) for key in people.all_keys(tx)]
        folders = known_folders(tx)
    return render(
        request,
        "users/keys.html",
        status_code=status_code,
        found=found,
        folders=folders,
        mistake=mistake,
        made=made,
        scopes=SCOPES_PL,
    )


@router.post("/klucze")
def add_key(request: Request, _who: AdminCaller, form: PageForm) -> Response:
    site = site_of(request)
    scopes = [scope for scope in SCOPES if scope in form.all("zakres")]
    folders = [text for text in form.all("folder") if text.strip()]
    grants: list[GrantRow] = [("incoming", _folder(text), True) for text in folders]
    try:
        if not all(_folder(text) for text in folders):
            # Left out, it would leave a key for every folder.
            raise NotAllowedNow("Podaj nazwę katalogu (np. sklepy/100) albo zostaw pole puste.")
        if not scopes:
            raise NotAllowedNow("Zaznacz co najmniej jedno uprawnienie.")
        with site.database.transaction() as tx:
            key, secret = people.add_key(tx, form.text("nazwa"), scopes, at=site.clock())
            people.set_grants(tx, grants, key_id=key.id)
            note(request, tx, "key-add", key.name, "; ".join([", ".join(scopes), *_told(grants)]))
    except NotAllowedNow as fault:
        return _keys(request, mistake=str(fault), status_code=422)
    return _keys(request, made=(key.name, secret))


@router.post("/klucze/uniewaznij")
def revoke_key(request: Request, _who: AdminCaller, form: PageForm) -> Response:
    with site_of(request).database.transaction() as tx:
        key = people.revoke_key(tx, form.text("nazwa"))
        note(request, tx, "key-revoke", key.name)
    return redirect("/uzytkownicy/klucze", f"Klucz „{key.name}” jest unieważniony.")


# Rights as fields of a form and back


def known_folders(tx: Any) -> list[str]:
    """Where invoices lie and may come to lie: folders in use, catalogues and stores of the rulebook; each with those
    above it, sorted."""
    found = set(people.known_folders(tx))
    kept = pulls.rulebook(tx)
    if kept is not None:
        book = tomllib.loads(kept.content)
        found.update(str(one.get("path", "")) for one in book.get("catalogue", []))
        found.update(str(one.get("catalogue", "")) for one in book.get("store", []))
    for path in list(found):
        parts = path.split("/")
        found.update("/".join(parts[:length]) for length in range(1, len(parts)))
    return sorted(found - {""})


def _as_fields(grants: Sequence[GrantRow]) -> dict[str, Any]:
    def level(handle: bool) -> str:
        return "handle" if handle else "see"

    rows = [(folder, level(handle)) for kind, folder, handle in grants if kind == "incoming" and folder]
    return {
        "outgoing": next((level(handle) for kind, _, handle in grants if kind == "outgoing"), ""),
        "everything": next(
            (level(handle) for kind, folder, handle in grants if (kind, folder) == ("incoming", "")), ""
        ),
        "rows": [*rows, *[("", "")] * _EMPTY_ROWS],
        "levels": LEVELS,
    }


def _as_grants(form: Form) -> list[GrantRow]:
    found: list[GrantRow] = []
    for kind, field in (("outgoing", "wysylka"), ("incoming", "wszystkie")):
        if form.text(field) in LEVELS:
            found.append((kind, "", form.text(field) == "handle"))
    for folder, level in zip(form.all("folder"), form.all("poziom"), strict=False):
        if _folder(folder) and level in LEVELS:
            found.append(("incoming", _folder(folder), level == "handle"))
    return found


def _folder(text: str) -> str:
    return "/".join(part.strip() for part in text.split("/") if part.strip())


def _told(grants: Sequence[GrantRow]) -> list[str]:
    return [
        f"{'wysyłka' if kind == 'outgoing' else folder or 'wszystkie foldery'}: {LEVELS['handle' if handle else 'see']}"
        for kind, folder, handle in grants
    ]
