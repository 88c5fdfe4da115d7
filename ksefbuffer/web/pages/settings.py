"""Konfiguracja: every setting, what it means, where its value comes from; those that may change are changed here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from fastapi import APIRouter
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from starlette.requests import Request
from starlette.responses import Response

from ksefbuffer.config import PREFIX, SECTIONS, Config, changeable, with_overrides
from ksefbuffer.errors import BufferFault, ConfigurationFault
from ksefbuffer.queue import facts, overrides
from ksefbuffer.queue.db import worker_is_running
from ksefbuffer.queue.orders import Order
from ksefbuffer.queue.overrides import Override
from ksefbuffer.web.asking import ask, order_or_none, sealed_setting
from ksefbuffer.web.explained import SECTION_TITLES, explanations
from ksefbuffer.web.gate import AdminCaller, Form, PageForm, note, require
from ksefbuffer.web.rendering import redirect, render
from ksefbuffer.web.site import Site, site_of

router = APIRouter()

# Shown as "ustawiono", never as they are: the addresses may hold passwords.
SECRETS = (
    "auth.token",
    "auth.private_key_password",
    "offline.private_key_password",
    "notify.urls",
    "web.webhook_urls",
    "web.webhook_secret",
)
_HIDE_PASSWORD = ("database.url", "table.url")
CHOICES: Mapping[str, str] = {
    "buyer": "nabywca",
    "third": "podmiot trzeci",
    "authorized": "podmiot upoważniony",
    "seller": "sprzedawca",
    "auto": "auto: gdy KSeF nie odpowiada",
    "manual": "manual: tylko na życzenie",
    "off": "off: nigdy",
    "document_error": "błąd dokumentu",
    "deadline": "zbliżający się termin",
    "certificate_expiry": "koniec ważności certyfikatu",
    "incoming": "nowe faktury otrzymane",
    "outage": "awaria KSeF",
    "disk": "brak miejsca na dysku",
}
# A truth that may be left to the program.
_PERHAPS: Mapping[str, bool | None] = {"": None, "tak": True, "nie": False}
_PERHAPS_PL = (("", "zależnie od środowiska"), ("tak", "tak"), ("nie", "nie"))
_POLISH_DAY = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})")
_LEAVE: Any = object()
_SET, _NOT_SET = "ustawiono", "nie ustawiono"


@dataclass(frozen=True)
class Control:
    """How a value is typed in: ``kind`` is number, check, choice, perhaps (a choice of yes, no and neither), choices,
    days, secret or text."""

    kind: str
    options: tuple[tuple[str, str], ...] = ()
    low: float | None = None
    high: float | None = None
    step: str = "1"


@dataclass(frozen=True)
class Setting:
    """One setting as the page shows it. ``value`` is as shown; ``given`` is what the form holds."""

    key: str
    name: str
    explanation: str
    value: str
    given: Any
    origin: str
    changed_by: str = ""
    changed_at: datetime | None = None
    control: Control | None = None
    complaint: str = ""


@dataclass(frozen=True)
class Section:
    name: str
    title: str
    settings: Sequence[Setting] = field(default_factory=tuple)

    @property
    def editable(self) -> bool:
        return any(setting.control is not None for setting in self.settings)

    @property
    def changed(self) -> bool:
        return any(setting.origin == _ORIGINS["page"] for setting in self.settings)


_ORIGINS = {
    "page": "zmieniono na stronie",
    "environment": "zmienna środowiska",
    "file": "plik konfiguracji",
    "path": "plik konfiguracji albo wartość domyślna",
    "default": "wartość domyślna",
    "bound": "na stałe w bazie",
}


def in_force(site: Site) -> Config:
    """The settings with what was changed on the page; secrets stay as in the file. Settings that do not go together
    any more leave the file's in force, as in the worker. Raises StorageFault."""
    with site.database.reading() as tx:
        changed = overrides.values(tx)
    try:
        return with_overrides(site.config, {key: value for key, value in changed.items() if not _sealed(value)})
    except ConfigurationFault:
        return site.config


@router.get("/konfiguracja")
def page(request: Request, who: AdminCaller, zlecenie: int | None = None) -> Response:
    return _page(request, {}, {}, order=order_or_none(site_of(request), who, zlecenie))


@router.post("/konfiguracja/polecenie")
def order(request: Request, who: AdminCaller, form: PageForm) -> Response:
    """Something that the worker is to do now: a pull, or a comparison with what KSeF has."""
    kind = form.text("co")
    require(request, kind in ("pull", "rescan"))
    try:
        number = ask(request, who, kind, {})
    except BufferFault as fault:
        return redirect("/konfiguracja#incoming", str(fault), kind="error")
    return redirect(f"/konfiguracja?zlecenie={number}#incoming")


@router.post("/konfiguracja/{section}")
def change(request: Request, who: AdminCaller, form: PageForm, section: str) -> Response:
    """The settings of one section as typed in: checked as the file is, kept where they differ from it."""
    site = site_of(request)
    keys = [f"{section}.{name}" for name in _fields(section) if changeable(f"{section}.{name}")]
    require(request, bool(keys))
    typed = {key: value for key in keys if (value := _typed(form, key)) is not _LEAVE}
    with site.database.reading() as tx:
        before = overrides.listed(tx)
    others = {key: one.value for key, one in before.items() if key not in typed and not _sealed(one.value)}
    try:
        with_overrides(site.config, {**others, **typed})
    except ConfigurationFault as fault:
        return _page(request, typed, _complaints(fault), status_code=422)
    back = [key for key, value in typed.items() if key not in SECRETS and _as_typed(site.config, key) == value]
    new = {key: value for key, value in typed.items() if key not in back and _differs(before.get(key), value)}
    try:
        new = {key: sealed_setting(site, key, value) if key in SECRETS else value for key, value in new.items()}
    except BufferFault as fault:
        return redirect("/konfiguracja", str(fault), kind="error")
    gone = [key for key in back if key in before]
    with site.database.transaction() as tx:
        overrides.put(tx, new, actor=who.actor, at=site.clock())
        overrides.forget(tx, gone)
        for key in (*new, *gone):
            told = "z pliku" if key in gone else "nowa wartość" if key in SECRETS else _shown(key, typed[key])
            note(request, tx, "setting", key, told)
    if not new and not gone:
        return redirect(f"/konfiguracja#{section}", "Nic się nie zmieniło.")
    return redirect(f"/konfiguracja#{section}", "Zapisano. Bufor zastosuje zmianę w ciągu kilku sekund.")


@router.post("/konfiguracja/{section}/przywroc")
def restore(request: Request, _who: AdminCaller, _form: PageForm, section: str) -> Response:
    """What the file and the environment say goes again."""
    site = site_of(request)
    require(request, section in SECTIONS)
    with site.database.transaction() as tx:
        keys = [key for key in overrides.listed(tx) if key.startswith(section + ".")]
        overrides.forget(tx, keys)
        for key in keys:
            note(request, tx, "setting", key, "z pliku")
    return redirect(f"/konfiguracja#{section}", "Przywrócono ustawienia z pliku. Bufor zastosuje je za kilka sekund.")


def _page(
    request: Request,
    typed: Mapping[str, Any],
    complaints: Mapping[str, str],
    *,
    status_code: int = 200,
    order: Order | None = None,
) -> Response:
    site = site_of(request)
    with site.database.reading() as tx:
        changed = overrides.listed(tx)
        applied, trouble = facts.get(tx, "settings_in_force"), facts.get(tx, "overrides_trouble")
    newest = max((one.at for one in changed.values()), default=None)
    return render(
        request,
        "settings/page.html",
        status_code=status_code,
        order=order,
        sections=_sections(site, changed, typed, complaints),
        complaints=complaints,
        running=worker_is_running(site.database),
        applied_at=applied[1] if applied else None,
        waiting=newest is not None and (applied is None or applied[1] < newest),
        trouble=trouble[0] if trouble else None,
    )


def _sections(
    site: Site, changed: Mapping[str, Override], typed: Mapping[str, Any], complaints: Mapping[str, str]
) -> list[Section]:
    config = in_force(site)
    first = [
        _setting(site, config, name, info, changed, typed, complaints)
        for name, info in Config.model_fields.items()
        if name not in SECTIONS
    ]
    sections = [Section("", SECTION_TITLES[""], first)]
    for section in SECTIONS:
        rows = [
            _setting(site, config, f"{section}.{name}", info, changed, typed, complaints)
            for name, info in _fields(section).items()
        ]
        sections.append(Section(section, SECTION_TITLES.get(section, section), rows))
    # What may be changed comes first; otherwise the file's order stays.
    return sorted(sections, key=lambda section: not section.editable)


def _setting(
    site: Site,
    config: Config,
    key: str,
    info: FieldInfo,
    changed: Mapping[str, Override],
    typed: Mapping[str, Any],
    complaints: Mapping[str, str],
) -> Setting:
    override = changed.get(key)
    value = _value(config, key)
    control = _control(key, info) if changeable(key) else None
    if key in SECRETS:
        shown = _NOT_SET if not value and override is None else _SET
        if override is not None and not _sealed(override.value):
            shown = _SET if override.value else _NOT_SET
    else:
        shown = _shown(key, value)
    return Setting(
        key=key,
        name=key.rpartition(".")[2],
        explanation=explanations().get(key, "Sekret podawany zmienną środowiska." if key in SECRETS else ""),
        value=shown,
        given=_given(control, typed.get(key, _as_typed(config, key))) if control and key not in SECRETS else "",
        origin=_ORIGINS["page" if override is not None else _origin(site, key, value)],
        changed_by=override.actor if override is not None else "",
        changed_at=override.at if override is not None else None,
        control=control,
        complaint=complaints.get(key, ""),
    )


def _origin(site: Site, key: str, value: Any) -> str:
    if PREFIX + key.replace(".", "__").upper() in site.environ:
        return "environment"
    if key in ("nip", "environment"):
        return "bound"
    if isinstance(value, Path):
        # Loading makes defaults absolute too, so they cannot be told from what the file says.
        return "path"
    section, _, name = key.rpartition(".")
    holder: BaseModel = getattr(site.config, section) if section else site.config
    return "file" if name in holder.model_fields_set and value is not None else "default"


def _fields(section: str) -> Mapping[str, FieldInfo]:
    return SECTIONS[section].model_fields if section in SECTIONS else {}


def _value(config: Config, key: str) -> Any:
    section, _, name = key.rpartition(".")
    return getattr(getattr(config, section) if section else config, name)


def _sealed(value: Any) -> bool:
    return isinstance(value, dict)


def _differs(before: Override | None, value: Any) -> bool:
    return before is None or before.value != value


def _shown(key: str, value: Any) -> str:
    match value:
        case None if _is_perhaps(key):
            return _PERHAPS_PL[0][1]
        case None | ():
            return "brak"
        case bool():
            return "tak" if value else "nie"
        case SecretStr():
            return _SET
        case tuple() | list():
            return ", ".join(CHOICES.get(str(one), str(one)) for one in value) or "brak"
        case date():
            return value.isoformat()
        case str() if key in _HIDE_PASSWORD:
            return _without_password(value)
        case "":
            return "brak"
        case _:
            return str(value)


def _is_perhaps(key: str) -> bool:
    section, _, name = key.rpartition(".")
    return bool(section) and _fields(section)[name].annotation == bool | None


def _without_password(address: str) -> str:
    """A database's address as it may be shown: whatever stands before @, and every option, may be a secret."""
    scheme, mark, rest = address.partition("://")
    rest = rest.partition("?")[0]
    return f"{scheme}{mark}{'…@' + rest.rpartition('@')[2] if '@' in rest else rest}"


def _as_typed(config: Config, key: str) -> Any:
    """A value as ``_typed`` would give it."""
    value = _value(config, key)
    if isinstance(value, tuple):
        return [one.isoformat() if isinstance(one, date) else one for one in value]
    return value


def _given(control: Control, value: Any) -> Any:
    """A typed value as the form shows it."""
    if control.kind == "days":
        return ", ".join(map(str, value))
    if control.kind == "perhaps":
        return next((word for word, meant in _PERHAPS.items() if meant is value), value)
    return value


# Typing in


def _bare(annotation: Any) -> Any:
    """Without Annotated, and without None beside it."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    kinds = [one for one in get_args(annotation) if one is not NoneType]
    return kinds[0] if NoneType in get_args(annotation) and len(kinds) == 1 else annotation


def _control(key: str, info: FieldInfo) -> Control:
    kind = _bare(info.annotation)
    if key in SECRETS:
        return Control("secret")
    if kind is bool:
        return Control("check") if kind is info.annotation else Control("perhaps", _PERHAPS_PL)
    if get_origin(kind) is Literal:
        return Control("choice", _options(kind))
    if get_origin(kind) is tuple and get_origin(_bare(get_args(kind)[0])) is Literal:
        return Control("choices", _options(_bare(get_args(kind)[0])))
    if get_origin(kind) is tuple and _bare(get_args(kind)[0]) is date:
        return Control("days")
    if kind in (int, float):
        low = next((mark.ge for mark in info.metadata if hasattr(mark, "ge")), None)
        high = next((mark.le for mark in info.metadata if hasattr(mark, "le")), None)
        return Control("number", low=low, high=high, step="1" if kind is int else "any")
    return Control("text")


def _options(kind: Any) -> tuple[tuple[str, str], ...]:
    return tuple((str(one), CHOICES.get(str(one), str(one))) for one in get_args(kind))


def _typed(form: Form, key: str) -> Any:
    """What was typed in for a setting, as TOML would hold it; _LEAVE: leave it as it is."""
    info = _fields(key.partition(".")[0])[key.partition(".")[2]]
    control = _control(key, info)
    match control.kind:
        case "secret":
            if form.text(f"{key}.forget"):
                return []
            lines = [line.strip() for line in form.get(key, "").splitlines() if line.strip()]
            return lines or _LEAVE
        case "check":
            return bool(form.text(key))
        case "choices":
            given = form.all(key)
            return [option for option, _ in control.options if option in given] + [
                one for one in given if one not in {option for option, _ in control.options}
            ]
        case "perhaps":
            return _PERHAPS.get(form.text(key), form.text(key))
        case "days":
            return [_day(one) for one in re.split(r"[\s,;]+", form.text(key)) if one]
        case "number":
            return _number(form.text(key), whole=control.step == "1")
        case _:
            return form.text(key)


def _number(text: str, *, whole: bool) -> Any:
    """A number as Poles type it; what is none goes to the check as it is."""
    try:
        return int(text) if whole else float(text.replace(",", "."))
    except ValueError:
        return text


def _day(text: str) -> str:
    """A day as Poles type it, too; what is none goes to the check as it is."""
    polish = _POLISH_DAY.fullmatch(text)
    return f"{polish[3]}-{int(polish[2]):02}-{int(polish[1]):02}" if polish else text


def _complaints(fault: ConfigurationFault) -> dict[str, str]:
    """By key, what ``with_overrides`` said."""
    found: dict[str, str] = {}
    for line in fault.message.split("\n  - ")[1:]:
        key, _, told = line.partition(": ")
        found[key] = told
    return found or {"": fault.message}
