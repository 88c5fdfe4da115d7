"""Katalogi i reguły: an administrator changes a draft, tries it on real invoices, and saves it as a new version.

Nothing is in force before "Zapisz jako nową wersję"; every step of the draft is validated as the whole it will be.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ksefbuffer.errors import ConfigurationFault, NoSuchThing
from ksefbuffer.queue import folders, incoming, pulls, rulebooks
from ksefbuffer.web import gate, ruledesk, trying
from ksefbuffer.web.access import Caller
from ksefbuffer.web.filing import (
    DATES,
    STANDARD,
    TEXTS,
    Catalogue,
    RegisterFault,
    Rule,
    Rulebook,
    RulebookFault,
    checked,
    explained,
    filed,
    known_catalogues,
    read_stores_csv,
    words_of,
    write_rulebook,
)
from ksefbuffer.web.gate import AdminCaller, Form, PageForm
from ksefbuffer.web.rendering import redirect, render
from ksefbuffer.web.ruledesk import ConditionRow, Desk, RuleForm
from ksefbuffer.web.site import Site, site_of

router = APIRouter()

_OUTCOMES = {
    "matched": "pasuje",
    "failed": "nie pasuje",
    "unfilled": "brak danych do nazwy katalogu",
    "disabled": "wyłączona",
    "not reached": "już nie sprawdzana",
}
_SPARE_ROWS = 1
_STORES_SHOWN = 200
_MOST_VERSIONS = 2**31
_STALE = "Szkic zmienił się tymczasem (w innej karcie?). Sprawdź go i powtórz zmianę."


def _desk(tx: Any, who: Caller) -> Desk:
    kept = pulls.rulebook(tx)
    in_force = kept.content if kept is not None else write_rulebook(STANDARD)
    version = kept.version if kept is not None else 0
    draft = rulebooks.draft(tx, who.id)
    if draft is None or draft.text == in_force:
        return Desk(version, version, in_force, changed=False)
    return Desk(version, draft.base, draft.text, changed=True)


class _Stale(Exception):
    """The form was made from another state of the draft."""


def _change(request: Request, who: Caller, form: Form, change: Any) -> None:
    """Puts ``change`` (from a Rulebook to another) into the draft. Raises _Stale, RulebookFault, ConfigurationFault,
    ValueError with what is wrong; then nothing is kept."""
    site = site_of(request)
    with site.database.transaction() as tx:
        desk = _desk(tx, who)
        if form.text("stan") != desk.stamp:
            raise _Stale
        text = ruledesk.toml_of(change(desk.rulebook), nip=site.config.nip, environment=site.config.environment)
        rulebooks.keep_draft(tx, who.id, desk.base, text, at=site.clock())


def _page(request: Request, who: Caller, name: str, *, status_code: int = 200, **context: Any) -> Response:
    with site_of(request).database.reading() as tx:
        desk = _desk(tx, who)
    return render(request, f"rulebook/{name}.html", status_code=status_code, desk=desk, **context)


def _done(request: Request, who: Caller, form: Form, change: Any, url: str, notice: str = "") -> Response:
    """A change by a single button: what is wrong is told above the page it leads back to."""
    try:
        _change(request, who, form, change)
    except _Stale:
        return redirect(url, _STALE, kind="warning")
    except RulebookFault as fault:
        return redirect(url, " ".join(ruledesk.without_lines(fault.faults[:3])), kind="error")
    except (ConfigurationFault, ValueError) as fault:
        return redirect(url, str(fault), kind="error")
    return redirect(url, notice)


# Rules


@router.get("/reguly")
def overview(request: Request, who: AdminCaller) -> Response:
    """The rules in their order, with the draft's state."""
    with site_of(request).database.reading() as tx:
        desk = _desk(tx, who)
        kept = pulls.rulebook(tx)
        refiling = rulebooks.refiling(tx)
    return render(
        request, "rulebook/rules.html", desk=desk, kept=kept, refiling=refiling, rules=list(_shown(desk.rulebook))
    )


def _shown(rulebook: Rulebook) -> Iterator[dict[str, Any]]:
    for at, rule in enumerate(rulebook.rules):
        yield {"at": at, "rule": rule, "conditions": [words_of(condition) for condition in rule.conditions]}


@router.post("/reguly/regula/{at}/przesun")
def move_rule(request: Request, who: AdminCaller, form: PageForm, at: int) -> Response:
    by = -1 if form.text("gdzie") == "wyzej" else 1

    def change(rulebook: Rulebook) -> Rulebook:
        _known_rule(rulebook, at)
        return ruledesk.moved(rulebook, at, by)

    return _done(request, who, form, change, f"/reguly#regula-{max(0, at + by)}")


@router.post("/reguly/regula/{at}/przelacz")
def switch_rule(request: Request, who: AdminCaller, form: PageForm, at: int) -> Response:
    def change(rulebook: Rulebook) -> Rulebook:
        rule = _known_rule(rulebook, at)
        return ruledesk.with_rule(rulebook, at, replace(rule, enabled=not rule.enabled))

    return _done(request, who, form, change, f"/reguly#regula-{at}")


@router.post("/reguly/regula/{at}/usun")
def remove_rule(request: Request, who: AdminCaller, form: PageForm, at: int) -> Response:
    def change(rulebook: Rulebook) -> Rulebook:
        _known_rule(rulebook, at)
        return ruledesk.without_rule(rulebook, at)

    return _done(request, who, form, change, "/reguly", "Usunięto regułę ze szkicu.")


def _known_rule(rulebook: Rulebook, at: int) -> Rule:
    if not 0 <= at < len(rulebook.rules):
        raise HTTPException(404)
    return rulebook.rules[at]


@router.get("/reguly/regula/{which}")
def edit_rule(request: Request, who: AdminCaller, which: str) -> Response:
    """The form of a rule ("nowa": of one more)."""
    with site_of(request).database.reading() as tx:
        desk = _desk(tx, who)
    at = _place(which, desk.rulebook)
    form = ruledesk.form_of(desk.rulebook.rules[at]) if at is not None else RuleForm()
    return _rule_page(request, desk, which, form, rows=len(form.conditions) + _SPARE_ROWS)


def _place(which: str, rulebook: Rulebook) -> int | None:
    if which == "nowa":
        return None
    at = int(which) if which.isdecimal() and which.isascii() and len(which) < 9 else -1
    _known_rule(rulebook, at)
    return at


def _rule_page(
    request: Request,
    desk: Desk,
    which: str,
    form: RuleForm,
    *,
    rows: int,
    faults: Sequence[str] = (),
    tried: trying.Tried | None = None,
) -> Response:
    conditions = [*form.conditions, *(ConditionRow() for _ in range(rows - len(form.conditions)))]
    return render(
        request,
        "rulebook/rule.html",
        status_code=422 if faults and tried is None else 200,
        desk=desk,
        which=which,
        form=form,
        conditions=conditions,
        faults=faults,
        tried=tried,
        fields=ruledesk.field_choices([row.name for row in form.conditions]),
        operators=ruledesk.OPERATORS,
        catalogues=known_catalogues(desk.rulebook),
        placeholders=[*(f"{{{name}}}" for name in TEXTS), *(f"{{{name}:%Y-%m}}" for name in DATES)],
        live=trying.LIVE,
    )


def _rule_form(form: Form) -> RuleForm:
    names, keys, operators, values = (form.all(name) for name in ("pole", "klucz", "operator", "wartosci"))
    if not len(names) == len(keys) == len(operators) == len(values):
        raise HTTPException(422)
    rows = tuple(
        ConditionRow(name, key.strip(), operator, value)
        for name, key, operator, value in zip(names, keys, operators, values, strict=True)
        if name
    )
    return RuleForm(
        form.text("nazwa"),
        rows,
        form.text("cel"),
        form.get("etykiety", ""),
        form.text("dalej"),
        bool(form.text("czynna")),
    )


@router.post("/reguly/regula/{which}")
def keep_rule(request: Request, who: AdminCaller, form: PageForm, which: str) -> Response:
    """Tries the form's rule, gives it another line, or puts it into the draft (``co``)."""
    site = site_of(request)
    with site.database.reading() as tx:
        desk = _desk(tx, who)
    given = _rule_form(form)
    wanted = form.text("co")
    if wanted == "wiersz":
        return _rule_page(request, desk, which, given, rows=len(given.conditions) + 2)
    rows = len(given.conditions) + _SPARE_ROWS
    if form.text("stan") != desk.stamp:
        return _rule_page(request, desk, which, given, rows=rows, faults=[_STALE])
    if wanted == "podglad":
        faults, tried = _try(site, desk, which, given)
        return _rule_page(request, desk, which, given, rows=rows, faults=faults, tried=tried)

    def change(rulebook: Rulebook) -> Rulebook:
        return ruledesk.with_rule(rulebook, _place(which, rulebook), ruledesk.rule_of(given))

    try:
        _change(request, who, form, change)
    except _Stale:
        return _rule_page(request, desk, which, given, rows=rows, faults=[_STALE])
    except RulebookFault as fault:
        told = ruledesk.without_lines(fault.faults)
        return _rule_page(request, desk, which, given, rows=rows, faults=told)
    return redirect("/reguly", f"Reguła „{given.name}” jest w szkicu. Wypróbuj go i zapisz jako nową wersję.")


@router.post("/reguly/podglad/{which}")
def preview_rule(request: Request, who: AdminCaller, form: PageForm, which: str) -> Response:
    """What the form's rule would catch; a piece of the page, asked for while somebody types."""
    site = site_of(request)
    with site.database.reading() as tx:
        desk = _desk(tx, who)
    faults, tried = _try(site, desk, which, _rule_form(form))
    return render(request, "rulebook/tried.html", faults=faults, tried=tried)


def _try(site: Site, desk: Desk, which: str, given: RuleForm) -> tuple[list[str], trying.Tried | None]:
    rule = ruledesk.rule_of(given)
    try:
        changed = ruledesk.with_rule(desk.rulebook, _place(which, desk.rulebook), rule)
        text = ruledesk.toml_of(changed, nip=site.config.nip, environment=site.config.environment)
    except RulebookFault as fault:
        return ruledesk.without_lines(fault.faults), None
    rulebook = checked(text, nip=site.config.nip, environment=site.config.environment)
    same = next((one for one in rulebook.rules if one.name == rule.name), rule)
    with site.database.reading() as tx:
        return [], trying.try_rule(tx, same, rulebook, nip=site.config.nip)


# Catalogues


@router.get("/reguly/katalogi")
def catalogues(request: Request, who: AdminCaller) -> Response:
    """The tree of catalogues, each with what it holds."""
    with site_of(request).database.reading() as tx:
        desk = _desk(tx, who)
        found = folders.counts(tx, None)
    return _catalogue_page(request, desk, found)


def _catalogue_page(
    request: Request,
    desk: Desk,
    found: dict[str, folders.Counted],
    *,
    fault: str = "",
    given: dict[str, str] | None = None,
) -> Response:
    rulebook = desk.rulebook
    rows = [
        {
            "catalogue": one,
            "depth": min(one.path.count("/"), 6),
            "name": one.path.rpartition("/")[2],
            "count": sum(counted.total for path, counted in found.items() if (path + "/").startswith(one.path + "/")),
        }
        for one in sorted(rulebook.catalogues, key=lambda one: one.path.casefold().split("/"))
    ]
    return render(
        request,
        "rulebook/catalogues.html",
        status_code=422 if fault else 200,
        desk=desk,
        rows=rows,
        fault=fault,
        given=given or {},
        unlisted=[path for path in known_catalogues(rulebook) if rulebook.catalogue_of(path) is None],
    )


@router.post("/reguly/katalogi")
def keep_catalogue(request: Request, who: AdminCaller, form: PageForm) -> Response:
    """Adds a catalogue, changes the one named ``bylo``, or takes it away (``co`` = usun)."""
    was, path = form.text("bylo"), form.text("sciezka").strip("/")
    parent = form.text("w").strip("/")
    if parent and not was:
        path = f"{parent}/{path}"
    catalogue = Catalogue(path, form.text("grupa"), form.text("prawa"), form.text("opis"))

    def change(rulebook: Rulebook) -> Rulebook:
        if form.text("co") == "usun":
            return ruledesk.without_catalogue(rulebook, was)
        return ruledesk.with_catalogue(rulebook, catalogue, was)

    told = "Usunięto katalog ze szkicu." if form.text("co") == "usun" else f"Katalog „{path}” jest w szkicu."
    return _done(request, who, form, change, "/reguly/katalogi", told)


# Stores


@router.get("/reguly/sklepy")
def stores(request: Request, who: AdminCaller) -> Response:
    """The register of stores."""
    return _stores_page(request, who)


def _stores_page(request: Request, who: Caller, faults: Sequence[str] = ()) -> Response:
    with site_of(request).database.reading() as tx:
        desk = _desk(tx, who)
    wanted = request.query_params.get("q", "").strip().casefold()
    known = desk.rulebook.stores.stores
    found = [
        one
        for one in known
        if wanted in " ".join((one.number, one.name, *one.glns, *one.addresses, one.catalogue)).casefold()
    ]
    return render(
        request,
        "rulebook/stores.html",
        status_code=422 if faults else 200,
        desk=desk,
        stores=found[:_STORES_SHOWN],
        found=len(found),
        whole=len(known),
        q=request.query_params.get("q", ""),
        faults=faults,
    )


@router.post("/reguly/sklepy")
def import_stores(request: Request, who: AdminCaller, form: PageForm) -> Response:
    """The register from a spreadsheet's CSV, in place of the one in the draft."""
    uploads = form.files("plik")
    if not uploads:
        return redirect("/reguly/sklepy", "Wybierz plik CSV.", kind="error")
    try:
        register = read_stores_csv(uploads[0].content)
    except RegisterFault as fault:
        return _stores_page(request, who, fault.faults)
    before: list[str] = []

    def change(rulebook: Rulebook) -> Rulebook:
        before.extend(store.number for store in rulebook.stores.stores)
        return replace(rulebook, stores=register)

    try:
        _change(request, who, form, change)
    except _Stale:
        return redirect("/reguly/sklepy", _STALE, kind="warning")
    except RulebookFault as fault:
        return _stores_page(request, who, ruledesk.without_lines(fault.faults))
    now = {store.number for store in register.stores}
    new, gone = len(now - set(before)), len(set(before) - now)
    return redirect("/reguly/sklepy", f"W szkicu jest {len(now)} sklepów: nowych {new}, usuniętych {gone}.")


# The text


@router.get("/reguly/tekst")
def as_text(request: Request, who: AdminCaller) -> Response:
    """The draft as TOML."""
    return _page(request, who, "text", text=None, faults=[])


@router.post("/reguly/tekst")
def keep_text(request: Request, who: AdminCaller, form: PageForm) -> Response:
    """The text as the draft, comments and all."""
    site = site_of(request)
    text = form.get("tekst", "").replace("\r\n", "\n")
    try:
        checked(text, nip=site.config.nip, environment=site.config.environment)
        faults: Sequence[str] = []
    except RulebookFault as fault:
        faults = fault.faults
    except ConfigurationFault as fault:
        faults = [str(fault)]
    if faults:
        return _page(request, who, "text", status_code=422, text=text, faults=faults)
    with site.database.transaction() as tx:
        desk = _desk(tx, who)
        if form.text("stan") == desk.stamp:
            rulebooks.keep_draft(tx, who.id, desk.base, text, at=site.clock())
            return redirect("/reguly/tekst", "Tekst jest w szkicu. Wypróbuj go i zapisz jako nową wersję.")
    return _page(request, who, "text", status_code=409, text=text, faults=[_STALE])


# Trying, saving


@router.get("/reguly/proba")
def dry_run(request: Request, who: AdminCaller) -> Response:
    """What the draft would do to stored invoices; with ``numer``, what every rule makes of that one."""
    site = site_of(request)
    number = request.query_params.get("numer", "").strip()
    older = request.query_params.get("przed", "")
    before = int(older) if older.isdecimal() and older.isascii() and len(older) < 19 else None
    one = traces = filing = None
    fault = ""
    with site.database.reading() as tx:
        desk = _desk(tx, who)
        rulebook = desk.rulebook
        if number:
            try:
                one = incoming.find(tx, number)
            except NoSuchThing as missing:
                fault = missing.message
            else:
                read = trying.one_sample(tx, one, nip=site.config.nip)
                traces, filing = explained(read, rulebook), filed(read, rulebook)
        run = None if number else trying.dry_run(tx, rulebook, nip=site.config.nip, before=before)
    return render(
        request,
        "rulebook/trial.html",
        desk=desk,
        run=run,
        before=before,
        number=number,
        one=one,
        traces=traces,
        filing=filing,
        outcomes=_OUTCOMES,
        fault=fault,
    )


@router.post("/reguly/zapisz")
def save(request: Request, who: AdminCaller, form: PageForm) -> Response:
    """The draft becomes a new version, in force from then on."""
    site = site_of(request)
    with site.database.transaction() as tx:
        desk = _desk(tx, who)
        if not desk.changed:
            return redirect("/reguly", "Nie ma zmian do zapisania.", kind="warning")
        if form.text("stan") != desk.stamp:
            return redirect("/reguly", _STALE, kind="warning")
        if desk.outdated and form.text("mimo") != str(desk.version):
            words = f"Obowiązuje już wersja {desk.version}, zapisana w międzyczasie. Porównaj ją ze szkicem."
            return redirect("/reguly", words, kind="warning")
        checked(desk.text, nip=site.config.nip, environment=site.config.environment)
        note = form.text("uwaga")[:500]
        version = pulls.keep_rulebook(tx, desk.text, at=site.clock(), actor=who.actor, note=note)
        rulebooks.drop_draft(tx, who.id)
        gate.note(request, tx, "rules-save", str(version), note)
    return redirect("/reguly", f"Reguły w wersji {version} obowiązują: nowe faktury są już układane według nich.")


@router.post("/reguly/porzuc")
def discard(request: Request, who: AdminCaller, form: PageForm) -> Response:
    """Back to what is in force."""
    with site_of(request).database.transaction() as tx:
        rulebooks.drop_draft(tx, who.id)
    return redirect("/reguly", "Porzucono zmiany.")


@router.post("/reguly/uloz")
def refile(request: Request, who: AdminCaller, form: PageForm) -> Response:
    """Asks the running buffer to file everything by the rules in force."""
    site = site_of(request)
    with site.database.transaction() as tx:
        rulebooks.want_refiling(tx, whole=incoming.count(tx), at=site.clock(), actor=who.actor)
        gate.note(request, tx, "rules-refile")
    return redirect("/reguly", "Bufor układa faktury od nowa; postęp widać poniżej.")


@router.get("/reguly/ukladanie")
def refiling(request: Request, who: AdminCaller) -> Response:
    """How far that is; a piece of the page."""
    with site_of(request).database.reading() as tx:
        state = rulebooks.refiling(tx)
    return render(request, "rulebook/refiling.html", refiling=state)


# Versions


@router.get("/reguly/wersje")
def versions(request: Request, who: AdminCaller) -> Response:
    """Every version that was in force."""
    with site_of(request).database.reading() as tx:
        desk, found = _desk(tx, who), rulebooks.history(tx)
    return render(request, "rulebook/versions.html", desk=desk, versions=found)


@router.get("/reguly/wersje/{version}")
def one_version(request: Request, who: AdminCaller, version: int) -> Response:
    """A version, compared with the draft or with what is in force."""
    gate.require(request, 0 < version < _MOST_VERSIONS)
    with site_of(request).database.reading() as tx:
        desk, kept = _desk(tx, who), pulls.rulebook(tx, version)
    gate.require(request, kept is not None)
    assert kept is not None
    lines = list(difflib.unified_diff(kept.content.splitlines(), desk.text.splitlines(), lineterm="", n=2))[2:]
    return render(request, "rulebook/version.html", desk=desk, kept=kept, lines=lines[:5_000])


@router.post("/reguly/wersje/{version}/przywroc")
def restore(request: Request, who: AdminCaller, form: PageForm, version: int) -> Response:
    """An older version as the draft: it is in force only once it is saved, as a version of its own."""
    gate.require(request, 0 < version < _MOST_VERSIONS)
    site = site_of(request)
    with site.database.transaction() as tx:
        kept = pulls.rulebook(tx, version)
        gate.require(request, kept is not None)
        assert kept is not None
        try:
            checked(kept.content, nip=site.config.nip, environment=site.config.environment)
        except ConfigurationFault as fault:
            return redirect(f"/reguly/wersje/{version}", str(fault), kind="error")
        rulebooks.keep_draft(tx, who.id, pulls.rulebook_version(tx), kept.content, at=site.clock())
    return redirect("/reguly", f"Wersja {version} jest w szkicu. Wypróbuj go i zapisz.")
