"""``/api/v1/incoming``: received invoices, the pull, a decision. Source: CONTRACT §6."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from ksefbuffer.erp import answers
from ksefbuffer.errors import NoSuchThing
from ksefbuffer.offline import qr
from ksefbuffer.queue import facts, listing
from ksefbuffer.queue import incoming as stored
from ksefbuffer.queue.db import worker_is_running
from ksefbuffer.queue.incoming import Incoming
from ksefbuffer.web import gate, printing
from ksefbuffer.web.access import Caller, within
from ksefbuffer.web.api import shapes
from ksefbuffer.web.api.common import (
    MOMENT,
    PREFIX,
    as_cursor,
    file,
    from_cursor,
    from_moment,
    known_parameters,
    reads,
    whole,
)
from ksefbuffer.web.api.limits import allowed
from ksefbuffer.web.api.problems import Problem, told
from ksefbuffer.web.site import Site, site_of

router = APIRouter(prefix=f"{PREFIX}/incoming", tags=["Faktury przychodzące"])

# What the worker's pulling looks for.
_PULL_WANTED = "pull_wanted"
_CURSOR = "incoming"
_EVERYWHERE = (401, 403, 429, 503)

KsefNumber = Annotated[str, Path(description="Numer KSeF faktury.", examples=["1111111111-20261120-0100001AF629-AF"])]
Reader = Annotated[Caller, Depends(allowed("incoming"))]
Judge = Annotated[Caller, Depends(allowed("decide"))]


@reads(
    router,
    "",
    summary="Faktury przychodzące, od najdawniej pobranych (zakres: incoming)",
    description="Do stałego odbioru: zachowaj `next_cursor` i pytaj z nim dalej; dostaniesz każdą fakturę raz.",
    dependencies=[Depends(known_parameters("cursor", "folder", "since", "limit"))],
    responses={200: {"model": shapes.IncomingInvoices}, **told(400, 422, *_EVERYWHERE)},
)
def list_incoming(
    request: Request,
    who: Reader,
    cursor: Annotated[str | None, Query(description="`next_cursor` poprzedniej strony.")] = None,
    folder: Annotated[
        str, Query(max_length=500, description="Tylko ten katalog i jego podkatalogi.", examples=["sklepy/100"])
    ] = "",
    since: Annotated[
        str | None,
        Query(
            description="Pobrane od: dzień albo chwila ze strefą.", json_schema_extra=MOMENT, examples=["2026-11-20"]
        ),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Response:
    site = site_of(request)
    after, moment = from_cursor(_CURSOR, cursor) or 0, from_moment(since)
    with site.database.reading() as tx:
        found = listing.received(
            tx, folders=_narrowed(who.folders, folder.strip("/")), since=moment, limit=limit + 1, after=after
        )
    page = found[:limit]
    last = as_cursor(_CURSOR, page[-1].id) if page else cursor
    return whole({"items": [_told(one) for one in page], "next_cursor": last, "more": len(found) > limit})


def _narrowed(folders: tuple[str, ...] | None, folder: str) -> tuple[str, ...] | None:
    """What is asked for, of what may be seen; both with their subfolders."""
    if folders is None:
        return (folder,) if folder else None
    if any(within(folder, theirs) for theirs in folders):
        return (folder,)
    return tuple(theirs for theirs in folders if within(theirs, folder))


@router.post(
    "/pull",
    status_code=202,
    summary="Pobierz teraz nowe faktury z KSeF (zakres: incoming)",
    description="Zleca pobranie pracującemu buforowi i nie czeka na nie; koniec widać po `last_pull` w `GET /status`.",
    response_model=None,
    responses={202: {"model": shapes.PullAnswer}, **told(409, *_EVERYWHERE)},
)
def pull(request: Request, who: Reader) -> Response:
    site = site_of(request)
    wants, now = site.config.incoming, site.clock()
    if not wants.enabled:
        raise Problem(409, "incoming-off", "Pobieranie jest wyłączone", "W ustawieniach [incoming] enabled = false.")
    with site.database.transaction() as tx:
        facts.put(tx, _PULL_WANTED, {"at": now.isoformat(), "subjects": list(wants.subjects)}, at=now)
        gate.note(request, tx, "incoming-pull")
        told_of = facts.get(tx, "pull")
    caught_up = [state["caught_up_at"] for state in told_of[0]["subjects"]] if told_of else []
    running = worker_is_running(site.database)
    last = min(caught_up) if caught_up and all(caught_up) else None
    return whole({"subjects": list(wants.subjects), "worker_running": running, "last_pull": last}, 202)


@reads(
    router,
    "/{ksef_number}",
    summary="Jedna faktura przychodząca (zakres: incoming)",
    responses={200: {"model": shapes.Incoming}, **told(404, *_EVERYWHERE)},
)
def show_incoming(request: Request, who: Reader, ksef_number: KsefNumber) -> Response:
    with site_of(request).database.reading() as tx:
        return whole(_told(_find(tx, who, ksef_number)))


_BYTES = {"type": "string", "format": "binary"}


@reads(
    router,
    "/{ksef_number}/xml",
    summary="Plik faktury, jak dał go KSeF (zakres: incoming)",
    responses={
        200: {"description": "XML, bajt w bajt", "content": {"application/xml": {"schema": _BYTES}}},
        **told(404, *_EVERYWHERE),
    },
)
def incoming_xml(request: Request, who: Reader, ksef_number: KsefNumber) -> Response:
    with site_of(request).database.reading() as tx:
        one = _find(tx, who, ksef_number)
        content = stored.content(tx, one.id)
    return file(content, "application/xml", f"{one.ksef_number}.xml")


@reads(
    router,
    "/{ksef_number}/pdf",
    summary="Wydruk faktury przychodzącej (zakres: incoming)",
    responses={
        200: {"description": "PDF/A z kodem QR", "content": {"application/pdf": {"schema": _BYTES}}},
        **told(404, 409, *_EVERYWHERE),
    },
)
def incoming_pdf(request: Request, who: Reader, ksef_number: KsefNumber) -> Response:
    site = site_of(request)
    with site.database.reading() as tx:
        one = _find(tx, who, ksef_number)
        content = stored.content(tx, one.id)
    try:
        page = printing.pdf(
            content, ksef_number=one.ksef_number, accepted_at=one.acquired_at, codes=_codes(site, one), mode=None
        )
    except printing.NotPrintable as fault:
        raise Problem(409, "not-printable", "Nie ma czego wydrukować", fault.message, hint=fault.action) from None
    return file(page, "application/pdf", f"{one.ksef_number}.pdf", inline=True)


def _codes(site: Site, one: Incoming) -> list[printing.Code]:
    """KOD I, where what the invoice says of itself makes one."""
    if one.issue_date is None:
        return []
    try:
        link = qr.verification_url(site.config.ksef.qr_url, one.seller_nip, one.issue_date, one.sha256)
    except ValueError:
        return []
    return [printing.Code(link, one.ksef_number)]


@router.post(
    "/{ksef_number}/decision",
    summary="Zapisz decyzję o fakturze przychodzącej (zakres: decide)",
    response_model=None,
    responses={200: {"model": shapes.Incoming}, **told(400, 404, 422, *_EVERYWHERE)},
)
def decide(request: Request, who: Judge, ksef_number: KsefNumber, said: shapes.Decision) -> Response:
    site = site_of(request)
    with site.database.transaction() as tx:
        one = _find(tx, who, ksef_number)
        if not who.handles_folder(one.folder):
            raise _unknown()
        rows = site.config.table.enabled
        stored.decide(tx, one, said.decision, said.comment, at=site.clock(), actor=who.actor, row=rows)
        gate.note(request, tx, "incoming-decision", on=one.ksef_number, text=said.decision)
    with site.database.reading() as tx:
        return whole(_told(stored.get(tx, one.id)))


def _find(tx: Any, who: Caller, ksef_number: str) -> Incoming:
    """One that is theirs to see. Raises Problem 404, for others' in the same words as for what is not there."""
    try:
        one = stored.find(tx, ksef_number) if "\x00" not in ksef_number else None
    except NoSuchThing:
        one = None
    if one is None or not who.sees_folder(one.folder):
        raise _unknown()
    return one


def _unknown() -> Problem:
    hint = "Sprawdź numer KSeF i katalogi, do których klucz ma prawo."
    return Problem(404, "not-found", "Nie ma takiej faktury przychodzącej", hint=hint)


def _told(one: Incoming) -> dict[str, Any]:
    here = f"{PREFIX}/incoming/{one.ksef_number}"
    return {**answers.incoming_object(one), "links": {"self": here, "xml": f"{here}/xml", "pdf": f"{here}/pdf"}}
