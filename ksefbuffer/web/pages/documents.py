"""Dokumenty: received invoices by folder, each to be read, judged by a person, remarked on and taken along.

What somebody may see is part of every query (``Caller.folders``); an invoice that is not theirs answers exactly as one
that is not there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from fastapi import APIRouter, HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ksefbuffer.errors import NoSuchThing, NotAllowedNow
from ksefbuffer.offline import qr
from ksefbuffer.queue import folders, remarks
from ksefbuffer.queue import incoming as stored
from ksefbuffer.queue.folders import Asked
from ksefbuffer.queue.incoming import Incoming
from ksefbuffer.queue.spreadsheet import DECISIONS
from ksefbuffer.web import gate, printing
from ksefbuffer.web.access import Caller
from ksefbuffer.web.filing import UNMATCHED
from ksefbuffer.web.gate import PageCaller, PageForm
from ksefbuffer.web.packing import MOST, packed
from ksefbuffer.web.preview import preview, source_lines
from ksefbuffer.web.rendering import redirect, render
from ksefbuffer.web.site import site_of

router = APIRouter()

PAGE = 50
COUNTED = 1_000
VERDICTS = ("zasadna", "do wyjaśnienia", "niezasadna")
SEVERITIES = {"N": "niezasadna", "W": "do wyjaśnienia", "I": "informacja"}
_PERIOD = re.compile(r"20\d\d-(?:0[1-9]|1[0-2])")
_POLISH_DAY = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})")
_EVENTS = {
    "stored": "pobrano z KSeF",
    "filed": "odłożono do katalogu",
    "role": "dopisano naszą rolę",
    "accepted": "przyjęto",
    "rejected": "odrzucono",
    "scam": "uznano za oszustwo",
}
_ROLES = {"buyer": "nabywca", "third": "podmiot trzeci", "authorized": "podmiot upoważniony", "seller": "sprzedawca"}


@dataclass(frozen=True)
class Filters:
    """What the address asks for, as it was written there."""

    katalog: str = ""
    q: str = ""
    ocena: str = ""
    decyzja: str = ""
    od: str = ""
    do: str = ""
    dostawca: str = ""
    etykieta: str = ""
    ksiegowanie: str = ""
    nowe: str = ""

    @property
    def narrowed(self) -> bool:
        """Whether anything but the folder is asked for."""
        return replace(self, katalog="") != Filters()

    def url(self, path: str = "/dokumenty", **changes: str) -> str:
        """An address on this site that keeps these filters, but for ``changes``."""
        asked = {name: value for name, value in {**self.__dict__, **changes}.items() if value}
        return f"{path}?{urlencode(asked)}" if asked else path


def filters_of(pairs: list[tuple[str, str]]) -> Filters:
    """From an address' query; what is unknown is left out, what is too long is cut."""
    known = {name: value.strip()[:500] for name, value in pairs if name in Filters.__dataclass_fields__}
    known["katalog"] = known.get("katalog", "").strip("/")
    return Filters(**known)


def _asked(tx: Any, who: Caller, filters: Filters) -> tuple[Asked, list[str]]:
    """The question to the database, and what of the filters could not be understood, in Polish."""
    problems: list[str] = []

    def day(text: str) -> date | None:
        polish = _POLISH_DAY.fullmatch(text)
        try:
            if polish:
                return date(int(polish[3]), int(polish[2]), int(polish[1]))
            return date.fromisoformat(text) if text else None
        except ValueError:
            problems.append(f"„{text}” nie jest datą (RRRR-MM-DD).")
            return None

    verdict = filters.ocena if filters.ocena in VERDICTS else ""
    decision = filters.decyzja if filters.decyzja in (*DECISIONS, folders.UNDECIDED) else ""
    if (filters.ocena and not verdict) or (filters.decyzja and not decision):
        problems.append("Nie ma takiej oceny albo decyzji.")
    asked = Asked(
        within=who.folders,
        folder=filters.katalog,
        words=filters.q,
        since=day(filters.od),
        until=day(filters.do),
        verdict=verdict,
        decision=decision,
        supplier=re.sub(r"[\s-]", "", filters.dostawca).upper().removeprefix("PL"),
        tag=filters.etykieta,
        booked="yes" if filters.ksiegowanie == "tak" else "no" if filters.ksiegowanie == "nie" else "",
    )
    if filters.nowe:
        asked = replace(asked, unread_by=who.id, read_up_to=remarks.read_up_to(tx, who.id))
    return asked, problems


# The list


@router.get("/dokumenty")
def listed(request: Request, who: PageCaller) -> Response:
    """The folder tree and a page of the list."""
    gate.require(request, who.folders != ())
    filters = filters_of(request.query_params.multi_items())
    before = _number(request.query_params.get("przed", ""))
    with site_of(request).database.reading() as tx:
        asked, problems = _asked(tx, who, filters)
        # What is counted is a list already: one look answers both.
        keys = folders.keys(tx, asked, limit=PAGE + 1 if before is not None else COUNTED + 1, before=before)
        how_many = len(keys) if before is None else folders.count(tx, asked, most=COUNTED)
        shown = folders.in_order(tx, keys[:PAGE])
        ids = [one.id for one in shown]
        unread = remarks.unread_among(tx, who.id, ids)
        tags = remarks.tags(tx, ids)
        booked = remarks.booked(tx, ids)
        known_tags = remarks.known_tags(tx, who.folders)
        tree, whole = _tree(request, tx, who, filters.katalog)
    following = filters.url(przed=str(ids[-1])) if len(keys) > PAGE else ""
    return render(
        request,
        "documents/list.html",
        filters=filters,
        problems=problems,
        found=shown,
        unread=unread,
        tags=tags,
        booked=booked,
        known_tags=known_tags,
        how_many=how_many,
        counted=COUNTED,
        tree=tree,
        whole=whole,
        unmatched=UNMATCHED,
        newest=ids[0] if ids and before is None else 0,
        first=filters.url() if before is not None else "",
        following=following,
        query=filters.url("").removeprefix("?"),
        verdicts=VERDICTS,
        decisions=DECISIONS,
        handles=_handles_any(who),
        period=f"{site_of(request).clock():%Y-%m}",
        most=MOST,
    )


def _tree(request: Request, tx: Any, who: Caller, chosen: str) -> tuple[tuple[folders.Branch, ...], folders.Counted]:
    counted = _counted(request)
    found = counted.of(tx, who.folders, user_id=who.id, read_up_to=remarks.read_up_to(tx, who.id))
    whole = sum(found.values(), folders.NOTHING)
    also = who.folders or ()
    # What nobody has assigned is looked for first, and belongs at the top even when it is empty.
    if who.sees_folder(UNMATCHED):
        also = (*also, UNMATCHED)
    tree = folders.grow(found, chosen=chosen, also=also)
    return tuple(sorted(tree, key=lambda branch: branch.path != UNMATCHED)), whole


def _counted(request: Request) -> folders.CountedBefore:
    """The application's memory of counts."""
    state = request.app.state
    if not hasattr(state, "counted"):
        state.counted = folders.CountedBefore()
    known: folders.CountedBefore = state.counted
    return known


def _handles_any(who: Caller) -> bool:
    return who.admin or any(grant.kind == "incoming" and grant.handle for grant in who.grants)


@router.get("/dokumenty/nowe")
def newer(request: Request, who: PageCaller) -> Response:
    """How many came since the list was shown; a piece of the page."""
    gate.require(request, who.folders != ())
    filters = filters_of(request.query_params.multi_items())
    after = _number(request.query_params.get("po", "")) or 0
    with site_of(request).database.reading() as tx:
        asked, _ = _asked(tx, who, filters)
        count = len(folders.keys(tx, asked, limit=100, after=after)) if after else 0
    return render(request, "documents/newer.html", count=count, url=filters.url())


@router.post("/dokumenty/przeczytane")
def all_read(request: Request, who: PageCaller, form: PageForm) -> Response:
    """Everything asked for counts as read by this user."""
    gate.require(request, who.folders != ())
    filters = filters_of(parse_qsl(form.text("filtr")))
    site = site_of(request)
    with site.database.transaction() as tx:
        if filters == Filters() and who.folders is None:
            remarks.read_all(tx, who.id, at=site.clock())
        else:
            asked, _ = _asked(tx, who, replace(filters, nowe="1"))
            remarks.read_these(tx, who.id, asked, at=site.clock())
    return redirect(filters.url(), "Oznaczono jako przeczytane.")


@router.post("/dokumenty/pobierz")
def fetched(request: Request, who: PageCaller, form: PageForm) -> Response:
    """A ZIP of the chosen invoices, or of all that the filters find."""
    gate.require(request, who.folders != ())
    site = site_of(request)
    filters = filters_of(parse_qsl(form.text("filtr")))
    with site.database.reading() as tx:
        if form.text("wszystkie"):
            asked, _ = _asked(tx, who, filters)
            chosen = folders.keys(tx, asked, limit=MOST + 1)
        else:
            chosen = folders.permitted(tx, who.folders, _numbers(form.all("wybrane")))
    if len(chosen) > MOST:
        raise NotAllowedNow(
            f"To więcej niż {MOST} faktur.",
            action="Zawęź wybór (np. datami) albo użyj polecenia: ksefbuffer incoming export.",
        )
    if not chosen:
        return redirect(filters.url(), "Nie wybrano żadnej faktury.", kind="warning")
    with site.database.transaction() as tx:
        gate.note(request, tx, "incoming-fetch", filters.katalog, f"faktur: {len(chosen)}")
    name = f"faktury_{site.clock():%Y-%m-%d_%H%M}.zip"
    return StreamingResponse(
        packed(site.database, lambda: who.folders, chosen),
        media_type="application/zip",
        headers={"Content-Disposition": disposition(name), "X-Content-Type-Options": "nosniff"},
    )


@router.post("/dokumenty/zaksieguj")
def booked(request: Request, who: PageCaller, form: PageForm) -> Response:
    """The chosen invoices are marked as taken into the books of a month."""
    gate.require(request, _handles_any(who))
    site = site_of(request)
    filters = filters_of(parse_qsl(form.text("filtr")))
    period = form.text("okres")
    if not _PERIOD.fullmatch(period):
        return redirect(filters.url(), "Podaj miesiąc księgowania jako RRRR-MM.", kind="error")
    with site.database.transaction() as tx:
        keys = folders.permitted(tx, who.folders, _numbers(form.all("wybrane")))
        theirs = [one.id for one in folders.in_order(tx, keys) if who.handles_folder(one.folder)]
        remarks.book(tx, theirs, period, at=site.clock(), actor=who.actor)
        if theirs:
            gate.note(request, tx, "incoming-book", period, f"faktur: {len(theirs)}")
    if not theirs:
        return redirect(filters.url(), "Nie wybrano faktury, którą możesz oznaczyć.", kind="warning")
    return redirect(filters.url(), f"Do księgowania {period}: {len(theirs)}.")


# One invoice


def _theirs(request: Request, tx: Any, who: Caller, number: str, *, handle: bool = False) -> Incoming:
    """The invoice of that KSeF number, if it is theirs to see (or to handle); 404 else, the same for all reasons."""
    try:
        one = stored.find(tx, number)
    except NoSuchThing:
        raise HTTPException(404) from None
    gate.require(request, who.handles_folder(one.folder) if handle else who.sees_folder(one.folder))
    return one


@router.get("/dokumenty/{number}")
def shown(request: Request, who: PageCaller, number: str) -> Response:
    """One invoice to be read, with all that is known and said of it."""
    gate.require(request, who.folders != ())
    site = site_of(request)
    filters = filters_of(request.query_params.multi_items())
    with site.database.reading() as tx:
        one = _theirs(request, tx, who, number)
        content = stored.content(tx, one.id)
        unread = not remarks.is_read(tx, who.id, one.id)
        asked, _ = _asked(tx, who, replace(filters, nowe=""))
        newer_id, older_id = folders.neighbours(tx, asked, one.id)
        beside = {near.id: near.ksef_number for near in stored.some(tx, [i for i in (newer_id, older_id) if i])}
        context: dict[str, Any] = {
            "tags": remarks.tags(tx, [one.id]).get(one.id, []),
            "known_tags": remarks.known_tags(tx, who.folders),
            "attached": remarks.attached(tx, one.id),
            "booked": remarks.booked(tx, [one.id]).get(one.id),
            "story": list(_story(who, stored.history(tx, one.id), remarks.comments(tx, one.id))),
        }
    if unread:
        with site.database.transaction() as tx:
            remarks.opened(tx, who.id, one.id, at=site.clock())
    return render(
        request,
        "documents/one.html",
        one=one,
        page=preview(content, ksef_number=one.ksef_number, accepted_at=one.acquired_at),
        filters=filters,
        query=filters.url("").removeprefix("?"),
        back=filters.url(),
        newer=_url(beside[newer_id], filters) if newer_id in beside else "",
        older=_url(beside[older_id], filters) if older_id in beside else "",
        here=_url(one.ksef_number),
        verification=_verification(site.config.ksef.qr_url, one),
        roles=[_ROLES.get(role, role) for role in sorted(one.roles)],
        handles=who.handles_folder(one.folder),
        decisions=DECISIONS,
        severities=SEVERITIES,
        seen=one.decided_at.isoformat() if one.decided_at else "",
        period=f"{site.clock():%Y-%m}",
        most_bytes=remarks.MAX_ATTACHMENT_BYTES,
        **context,
    )


def _story(who: Caller, events: list[dict[str, Any]], comments: list[remarks.Remark]) -> Iterator[dict[str, Any]]:
    """What happened to it and what people said, the oldest first; without the names of folders that are not theirs."""
    told = [
        {
            "at": one["at"],
            "what": _EVENTS.get(one["event"], one["event"]),
            "actor": one["actor"],
            "text": _filed_for(who, one["note"]) if one["event"] == "filed" else one["note"],
        }
        for one in events
    ]
    told += [{"at": one.at, "what": "uwaga", "actor": one.actor, "text": one.text} for one in comments]
    for one in sorted(told, key=lambda line: line["at"]):
        yield {**one, "actor": _person(one["actor"])}


def _filed_for(who: Caller, note: str) -> str:
    """What is told of a filing to who may not see every folder: it may have lain with another shop before."""
    folder, _, verdict = note.rpartition(" (")
    return note if not folder or who.sees_folder(folder) else f"inny katalog ({verdict}"


def _person(actor: str) -> str:
    kind, _, name = actor.partition(":")
    if kind == "user" and name:
        return name
    if kind == "key" and name:
        return f"klucz API {name}"
    return {"rules": "reguły", "pull": "pobieranie", "rescan": "pobieranie"}.get(actor, actor)


def _verification(qr_url: str, one: Incoming) -> str:
    """The link by which anybody verifies the invoice at KSeF; "" when it lacks what that needs."""
    if one.issue_date is None:
        return ""
    try:
        return qr.verification_url(qr_url, one.seller_nip, one.issue_date, one.sha256)
    except ValueError:
        return ""


def _url(number: str, filters: Filters | None = None) -> str:
    path = f"/dokumenty/{quote(number, safe='')}"
    return filters.url(path) if filters else path


@router.get("/dokumenty/{number}/pdf")
def as_pdf(request: Request, who: PageCaller, number: str) -> Response:
    """The printed page."""
    site = site_of(request)
    with site.database.reading() as tx:
        one = _theirs(request, tx, who, number)
        content = stored.content(tx, one.id)
    link = _verification(site.config.ksef.qr_url, one)
    try:
        made = printing.pdf(
            content,
            ksef_number=one.ksef_number,
            accepted_at=one.acquired_at,
            codes=[printing.Code(link, one.ksef_number)] if link else [],
            mode=None,
        )
    except printing.NotPrintable as fault:
        raise NotAllowedNow(fault.message, action=fault.action) from None
    return _file(made, "application/pdf", f"{_file_name(one)}.pdf", inline=True)


@router.get("/dokumenty/{number}/xml")
def as_xml(request: Request, who: PageCaller, number: str) -> Response:
    """The bytes as KSeF gave them."""
    with site_of(request).database.reading() as tx:
        one = _theirs(request, tx, who, number)
        content = stored.content(tx, one.id)
    return _file(content, "application/xml", f"{_file_name(one)}.xml")


@router.get("/dokumenty/{number}/tresc")
def as_source(request: Request, who: PageCaller, number: str) -> Response:
    """The XML to look at, with numbered lines."""
    filters = filters_of(request.query_params.multi_items())
    with site_of(request).database.reading() as tx:
        one = _theirs(request, tx, who, number)
        content = stored.content(tx, one.id)
    lines, whole = source_lines(content)
    return render(
        request,
        "documents/source.html",
        one=one,
        lines=lines,
        whole=whole,
        here=_url(one.ksef_number),
        back=_url(one.ksef_number, filters),
    )


def _file_name(one: Incoming) -> str:
    return f"{one.invoice_number[:60] or 'faktura'}_{one.ksef_number}"


def _file(content: bytes, media_type: str, name: str, *, inline: bool = False) -> Response:
    return Response(
        content,
        media_type=media_type,
        headers={
            "Content-Disposition": disposition(name, inline=inline),
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "private, no-store",
        },
    )


def disposition(name: str, *, inline: bool = False) -> str:
    """A Content-Disposition for any file name. Source: RFC 6266, RFC 8187."""
    safe = "".join(sign if sign.isprintable() and sign not in '/\\:*?"<>|' else "_" for sign in name) or "plik"
    plain = safe.encode("ascii", "replace").decode().replace("?", "_").replace(";", "_")
    encoded = quote(safe.encode("utf-8", "replace"), safe="")
    return f"{'inline' if inline else 'attachment'}; filename=\"{plain}\"; filename*=UTF-8''{encoded}"


@router.post("/dokumenty/{number}/decyzja")
def decided(request: Request, who: PageCaller, form: PageForm, number: str) -> Response:
    """A person's word on it. KSeF is told nothing: it knows no refusal of a received invoice."""
    site, back = site_of(request), _back(form, number)
    decision, comment = form.text("decyzja"), form.text("uwaga")[: remarks.MAX_COMMENT]
    if decision not in stored.DECISIONS:
        return redirect(back, "Wybierz decyzję.", kind="error")
    if decision != "accepted" and not comment:
        return redirect(back, "Podaj powód: zobaczą go osoby, które pracują z tą fakturą.", kind="error")
    with site.database.transaction() as tx:
        one = _theirs(request, tx, who, number, handle=True)
        if form.text("widziano") != (one.decided_at.isoformat() if one.decided_at else ""):
            meanwhile = f"{_person(one.decided_by or '')}: {DECISIONS.get(one.decision or '', '')}"
            return redirect(back, f"W międzyczasie ktoś już zdecydował ({meanwhile}). Sprawdź.", kind="warning")
        stored.decide(tx, one, decision, comment, at=site.clock(), actor=who.actor, row=site.config.table.enabled)
        gate.note(request, tx, "incoming-decide", one.ksef_number, decision)
    return redirect(back, f"Zapisano decyzję: {DECISIONS[decision]}.")


@router.post("/dokumenty/{number}/uwaga")
def commented(request: Request, who: PageCaller, form: PageForm, number: str) -> Response:
    site, back = site_of(request), _back(form, number)
    with site.database.transaction() as tx:
        one = _theirs(request, tx, who, number, handle=True)
        try:
            remarks.comment(tx, one.id, form.text("tresc"), at=site.clock(), actor=who.actor)
        except ValueError:
            words = f"Uwaga musi mieć od 1 do {remarks.MAX_COMMENT} znaków."
            return redirect(back, words, kind="error")
        gate.note(request, tx, "incoming-comment", one.ksef_number)
    return redirect(back, "Dodano uwagę.")


@router.post("/dokumenty/{number}/etykieta")
def tagged(request: Request, who: PageCaller, form: PageForm, number: str) -> Response:
    """Gives a tag, or takes one away (``usun``)."""
    site, back = site_of(request), _back(form, number)
    gone = form.text("usun")
    with site.database.transaction() as tx:
        one = _theirs(request, tx, who, number, handle=True)
        if gone:
            if remarks.untag(tx, one.id, gone):
                gate.note(request, tx, "incoming-untag", one.ksef_number, gone)
            return redirect(back, "Usunięto etykietę.")
        try:
            if remarks.tag(tx, one.id, form.text("etykieta"), at=site.clock(), actor=who.actor):
                gate.note(request, tx, "incoming-tag", one.ksef_number, form.text("etykieta"))
        except ValueError:
            return redirect(back, f"Etykieta musi mieć od 1 do {remarks.MAX_TAG} znaków.", kind="error")
    return redirect(back, "Dodano etykietę.")


@router.post("/dokumenty/{number}/ksiegowanie")
def book_one(request: Request, who: PageCaller, form: PageForm, number: str) -> Response:
    """Marks it as taken into the books of a month, or takes the mark away (``usun``)."""
    site, back = site_of(request), _back(form, number)
    period = form.text("okres")
    with site.database.transaction() as tx:
        one = _theirs(request, tx, who, number, handle=True)
        if form.text("usun"):
            if remarks.unbook(tx, one.id):
                gate.note(request, tx, "incoming-unbook", one.ksef_number)
            return redirect(back, "Zdjęto oznaczenie.")
        if not _PERIOD.fullmatch(period):
            return redirect(back, "Podaj miesiąc księgowania jako RRRR-MM.", kind="error")
        remarks.book(tx, [one.id], period, at=site.clock(), actor=who.actor)
        gate.note(request, tx, "incoming-book", one.ksef_number, period)
    return redirect(back, f"Oznaczono do księgowania: {period}.")


@router.post("/dokumenty/{number}/zalacznik")
def attach(request: Request, who: PageCaller, form: PageForm, number: str) -> Response:
    """Keeps files with the invoice."""
    site, back = site_of(request), _back(form, number)
    uploads = form.files("plik")
    if not uploads:
        return redirect(back, "Wybierz plik.", kind="error")
    with site.database.transaction() as tx:
        one = _theirs(request, tx, who, number, handle=True)
        for upload in uploads:
            if not upload.content or len(upload.content) > remarks.MAX_ATTACHMENT_BYTES:
                name = remarks.plain_name(upload.name)
                words = f"Plik „{name}” jest pusty albo ma ponad 10 MB; nic nie zapisano."
                raise HTTPException(413 if upload.content else 422, words)
        for upload in uploads:
            remarks.attach(tx, one.id, upload.name, upload.media_type, upload.content, at=site.clock(), actor=who.actor)
            gate.note(request, tx, "incoming-attach", one.ksef_number, remarks.plain_name(upload.name))
    return redirect(back, "Dodano załącznik." if len(uploads) == 1 else f"Dodano załączniki: {len(uploads)}.")


@router.get("/dokumenty/{number}/zalacznik/{attachment_id}")
def attachment(request: Request, who: PageCaller, number: str, attachment_id: str) -> Response:
    """A file that somebody added: always to be saved, never shown, whatever it says it is."""
    with site_of(request).database.reading() as tx:
        one = _theirs(request, tx, who, number)
        try:
            found, content = remarks.attachment(tx, one.id, _number(attachment_id) or 0)
        except NoSuchThing:
            raise HTTPException(404) from None
    return _file(content, "application/octet-stream", found.name)


@router.post("/dokumenty/{number}/zalacznik/{attachment_id}/usun")
def detach(request: Request, who: PageCaller, form: PageForm, number: str, attachment_id: str) -> Response:
    site = site_of(request)
    with site.database.transaction() as tx:
        one = _theirs(request, tx, who, number, handle=True)
        try:
            name = remarks.detach(tx, one.id, _number(attachment_id) or 0)
        except NoSuchThing:
            raise HTTPException(404) from None
        gate.note(request, tx, "incoming-detach", one.ksef_number, name)
    return redirect(_back(form, number), "Usunięto załącznik.")


def _back(form: PageForm, number: str) -> str:
    return _url(number, filters_of(parse_qsl(form.text("filtr"))))


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def _numbers(texts: list[str]) -> list[int]:
    return [number for text in texts[:PAGE] if (number := _number(text)) is not None]
