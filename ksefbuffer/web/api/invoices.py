"""``/api/v1/invoices``: hand in, wait, ask, retry, cancel. Source: CONTRACT §4, §6."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from ksefbuffer.erp import answers, http, submit
from ksefbuffer.erp.delivery import certificate_url, shown_verification_url
from ksefbuffer.erp.files import name_as_text
from ksefbuffer.erp.options import options_from
from ksefbuffer.erp.submit import Offer, Options, Source, Submission
from ksefbuffer.errors import NoSuchThing
from ksefbuffer.invoice.precheck import CheckContext
from ksefbuffer.offline import qr
from ksefbuffer.queue import deliveries, documents, facts, idempotency, listing, pauses
from ksefbuffer.queue.deliveries import Arrival
from ksefbuffer.queue.documents import Document
from ksefbuffer.queue.listing import Glimpse
from ksefbuffer.queue.states import State
from ksefbuffer.web import gate, printing
from ksefbuffer.web.access import Caller
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
    whole_body,
)
from ksefbuffer.web.api.limits import allowed
from ksefbuffer.web.api.problems import Problem, problem_response, told
from ksefbuffer.web.api.waiting import lookout_of
from ksefbuffer.web.site import Site, site_of

router = APIRouter(prefix=f"{PREFIX}/invoices", tags=["Faktury wychodzące"])

LONGEST_WAIT_S = 60
# The worker states mode, term and KOD II within a moment of being asked.
_OFFLINE_ANSWER_S = 1.5
_XML_TYPES = ("application/xml", "text/xml")
_NAME = r"^[^\x00-\x1f\x7f/\\]{1,200}$"
_KEY = r"^[\x21-\x7e]{1,255}$"
_EVERYWHERE = (401, 403, 429, 503)
_CURSOR = "documents"
_EXAMPLE = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<Faktura xmlns="http://crd.gov.pl/wzor/2025/06/25/13775/">…</Faktura>'
)

DocumentId = Annotated[
    str,
    Path(description="Identyfikator dokumentu (`document_id`).", examples=["01936b2f-6c1e-7d55-9f0a-2f3b8f0c9a11"]),
]
Sender = Annotated[Caller, Depends(allowed("send"))]
Reader = Annotated[Caller, Depends(allowed("read"))]


@dataclass(frozen=True)
class _Asked:
    """What a till asks beside its invoice."""

    options: Options
    name: str | None
    wait_s: int
    request_key: str | None


# Handing in


@router.post(
    "",
    status_code=202,
    summary="Przekaż fakturę do wysłania (zakres: send)",
    description="Treść to plik XML faktury, bajt w bajt; od odpowiedzi 202 bufor ma go trwale. Te same bajty ponownie: "
    "200 i ten sam dokument, bez drugiej wysyłki. Z `wait` odpowiedź przychodzi, gdy stan jest na razie ostateczny "
    "(numer KSeF, błąd, następna próba później), a gdy numeru nie ma i tryb offline jest dozwolony – z danymi do "
    "wydruku offline (`offline`, `certificate_url`, kody QR).",
    response_model=None,
    dependencies=[
        Depends(known_parameters("priority", "offline", "corrects_sha256", "callback_url", "reference", "name", "wait"))
    ],
    responses={
        202: {"model": shapes.Document, "description": "Przyjęto: dokument jest trwale w buforze."},
        200: {"model": shapes.Document, "description": "Te bajty bufor już zna: oto stan tamtego dokumentu."},
        **told(400, 408, 409, 413, 415, 422, *_EVERYWHERE, shapes={422: "RefusedShape"}),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "Faktura FA(3) w XML, najwyżej 1 MB (z załącznikiem 3 MB).",
            "content": {kind: {"schema": {"type": "string"}, "example": _EXAMPLE} for kind in _XML_TYPES},
        }
    },
)
async def hand_in(
    request: Request,
    who: Sender,
    priority: Annotated[
        Literal["urgent", "normal"] | None, Query(description="urgent: przed zwykłymi (kasa czeka).")
    ] = None,
    offline: Annotated[
        Literal["true", "false"] | None,
        Query(description="true: wystawiono offline; false: nigdy offline; brak: decyduje bufor."),
    ] = None,
    corrects_sha256: Annotated[
        str | None, Query(description="SHA-256 (hex) pliku faktury offline, którą ta korekta techniczna zastępuje.")
    ] = None,
    callback_url: Annotated[
        str | None,
        Query(description="Adres, na który bufor zgłosi każdą zmianę stanu.", examples=["http://erp.lan/ksef"]),
    ] = None,
    reference: Annotated[
        str | None, Query(description="Własne oznaczenie systemu sprzedaży; wraca w odpowiedziach.")
    ] = None,
    name: Annotated[
        str | None, Query(pattern=_NAME, description="Nazwa pliku źródłowego; domyślnie z SHA-256.")
    ] = None,
    wait: Annotated[int, Query(ge=0, le=LONGEST_WAIT_S, description="Ile sekund czekać na wynik.")] = 0,
    idempotency_key: Annotated[
        str | None,
        Header(
            pattern=_KEY,
            description="Klucz jednego żądania: z tym samym plikiem daje ten sam dokument, z innym – 422. "
            "Pamiętany 7 dni.",
        ),
    ] = None,
) -> Response:
    site = site_of(request)
    options = _options(priority, offline, corrects_sha256, callback_url, reference)
    asked = _Asked(options, name, wait, idempotency_key)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _XML_TYPES:
        raise Problem(
            415,
            "type",
            "Nieobsługiwany typ treści",
            f"Oczekiwano application/xml albo text/xml, a przyszło „{kind[:100]}”.",
            hint="Wyślij plik XML faktury jako treść żądania, z nagłówkiem Content-Type: application/xml.",
        )
    context = await run_in_threadpool(check_context, site)
    content = await whole_body(request, context.max_bytes_with_attachment)
    if not content:
        raise Problem(
            400, "empty", "Brak faktury", "Treść żądania jest pusta.", hint="Wyślij plik XML faktury jako treść."
        )
    taken = await run_in_threadpool(_take, site, who, content, asked, context)
    if not (taken.document.state is State.ERROR and not taken.document.judged_by_ksef):
        await _wait(request, site, taken.document.id, wait)
    return await run_in_threadpool(_answer, site, taken, _place(asked.name, content))


def _options(
    priority: str | None,
    offline: str | None,
    corrects_sha256: str | None,
    callback_url: str | None,
    reference: str | None,
) -> Options:
    given = {
        "priority": priority,
        "offline": None if offline is None else offline == "true",
        "corrects_sha256": corrects_sha256,
        "callback_url": callback_url,
        "reference": reference,
    }
    options = options_from(given)
    if options.complaint:
        raise Problem(400, "options", "Niepoprawne opcje", options.complaint)
    return options


def check_context(site: Site) -> CheckContext:
    """For the check at the door, with KSeF's own figures as the worker was told them. Blocks."""
    with site.database.reading() as tx:
        known = facts.get(tx, "session_limits")
    told_limits: Any = known[0] if known is not None else {}

    def figure(session: str, name: str, published: int) -> int:
        value = (told_limits.get(session) or {}).get(name) or 0
        return value if isinstance(value, int) and value > 0 else published

    context = CheckContext(nip=site.config.nip, environment=site.config.environment, now=site.clock())
    return replace(
        context,
        max_bytes=figure("onlineSession", "invoice_bytes", context.max_bytes),
        max_bytes_with_attachment=figure(
            "batchSession", "invoice_with_attachment_bytes", context.max_bytes_with_attachment
        ),
    )


def _take(site: Site, who: Caller, content: bytes, asked: _Asked, context: CheckContext) -> Submission:
    sha = sha256(content).hexdigest()
    key = asked.request_key
    if key is not None:
        # Reserved before the door: of two requests under one key at the same time one must find the other.
        with site.database.transaction() as tx:
            mine = idempotency.reserve(tx, who.id, key, _request_hash(sha, asked), at=context.now)
        if not mine:
            raise Problem(
                422,
                "idempotency-key",
                "Ten klucz był użyty do innego żądania",
                "Idempotency-Key był już użyty z inną fakturą albo innymi opcjami.",
                hint="Dla nowej faktury użyj nowego klucza; powtórzenie musi mieć tę samą treść i opcje.",
            )
    name = _place(asked.name, content)
    stem = name[:-4] if name.lower().endswith(".xml") and len(name) > 4 else name
    offer = Offer(content, Source(http.CONNECTOR, name, stem), asked.options)
    submission = submit.submit(site.database, offer, context, actor=who.actor)
    if key is not None:
        with site.database.transaction() as tx:
            idempotency.stands_for(tx, who.id, key, submission.document.document_id)
    return submission


def _place(name: str | None, content: bytes) -> str:
    """What the arrival is called: as its ERP called the file, else by the hash."""
    return name_as_text(name or f"{sha256(content).hexdigest()}.xml")


def _request_hash(sha: str, asked: _Asked) -> str:
    said = repr((sha, asked.name, sorted(vars(asked.options).items())))
    return sha256(said.encode("utf-8", "surrogatepass")).hexdigest()


async def _wait(request: Request, site: Site, row_id: int, wait_s: int) -> None:
    """Until the document's state is final for now, or it has its offline answer, or the time is over."""
    if not wait_s:
        return
    lookout, loop = lookout_of(request), asyncio.get_running_loop()
    end, ends = site.clock() + timedelta(seconds=wait_s), loop.time() + wait_s
    may_offline = site.config.offline.mode != "off"
    patience = wait_s - _OFFLINE_ANSWER_S if may_offline and wait_s > 2 * _OFFLINE_ANSWER_S else float(wait_s)
    seen = await lookout.until(row_id, lambda glimpse: _rests(glimpse, end), patience)
    if seen is not None and (seen.state is not State.FAILED or seen.offline_mode is not None):
        return
    if may_offline and await run_in_threadpool(_ask_for_offline, site, row_id):
        # The number may still come in this moment, and is better.
        await lookout.until(row_id, lambda glimpse: _has_answer(glimpse), _OFFLINE_ANSWER_S)
    elif seen is None:
        await lookout.until(row_id, lambda glimpse: _rests(glimpse, end), ends - loop.time())


def _rests(glimpse: Glimpse, end: datetime) -> bool:
    """Nothing will happen to it before ``end``, or all that a till prints is known."""
    if glimpse.state is State.FAILED and glimpse.next_attempt_at is not None and glimpse.next_attempt_at > end:
        return True
    return _has_answer(glimpse)


def _has_answer(glimpse: Glimpse) -> bool:
    return glimpse.state in (State.SENT, State.ERROR, State.CANCELLED) or glimpse.offline_mode is not None


def _ask_for_offline(site: Site, row_id: int) -> bool:
    """Whether the worker was asked for the offline answer: not for a document that has an answer, wants none, or is
    offline already."""
    with site.database.transaction() as tx:
        document = documents.get(tx, row_id)
        if document.state not in (State.QUEUED, State.PROCESSING, State.FAILED):
            return False
        if document.offline or document.online_only:
            return False
        documents.want_offline(tx, row_id, at=site.clock())
    return True


def _answer(site: Site, taken: Submission, place: str) -> Response:
    # With the name and reference of this request: the same bytes may have come in other ways before.
    document, told_of = _read(site, taken.document.document_id, place)
    if document.state is State.ERROR and not document.judged_by_ksef:
        return _refused(told_of)
    location = {"Location": told_of["links"]["self"]}
    return whole(told_of, 200 if taken.known else 202, location)


def _refused(told_of: Mapping[str, Any]) -> Response:
    """The check before sending refused it; it is recorded all the same, in state ``error``."""
    findings = told_of["errors"]
    first = findings[0] if findings else {"message": "", "hint": ""}
    return problem_response(
        Problem(
            422,
            "invoice-refused",
            "Faktura nie przeszła kontroli wstępnej",
            str(first["message"]),
            hint=str(first["hint"]) or "Popraw fakturę w systemie sprzedaży i przekaż ją jeszcze raz.",
            extra={"findings": findings, "document": dict(told_of)},
            headers={"Location": told_of["links"]["self"]},
        )
    )


# Asking


@reads(
    router,
    "",
    summary="Lista dokumentów, od najnowszych (zakres: read)",
    dependencies=[Depends(known_parameters("status", "since", "cursor", "limit"))],
    responses={200: {"model": shapes.Documents}, **told(400, 422, *_EVERYWHERE)},
)
def list_documents(
    request: Request,
    who: Reader,
    status: Annotated[
        list[shapes.StateName] | None, Query(max_length=6, description="Tylko w tych stanach (można powtórzyć).")
    ] = None,
    since: Annotated[
        str | None,
        Query(
            description="Przyjęte od: dzień albo chwila ze strefą.",
            json_schema_extra=MOMENT,
            examples=["2026-11-20T00:00:00Z"],
        ),
    ] = None,
    cursor: Annotated[str | None, Query(description="`next_cursor` poprzedniej strony.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Response:
    site = site_of(request)
    before, moment = from_cursor(_CURSOR, cursor), from_moment(since)
    with site.database.reading() as tx:
        found = listing.outgoing(
            tx, states=[State(one) for one in status or ()], since=moment, limit=limit + 1, before=before
        )
        held_back = pauses.active(tx, site.clock())
    page = found[:limit]
    items = [_told(site, one.document, one.arrival, held_back) for one in page]
    more = as_cursor(_CURSOR, page[-1].document.id) if len(found) > limit else None
    return whole({"items": items, "next_cursor": more})


@reads(
    router,
    "/{document_id}",
    summary="Jeden dokument (zakres: read)",
    responses={200: {"model": shapes.Document}, **told(404, *_EVERYWHERE)},
)
def show_document(request: Request, who: Reader, document_id: DocumentId) -> Response:
    _, told_of = _read(site_of(request), document_id)
    return whole(told_of)


_TEXT = {"type": "string", "format": "binary"}


@reads(
    router,
    "/{document_id}/xml",
    summary="Plik faktury, bajt w bajt (zakres: read)",
    responses={
        200: {"description": "XML, jak przyszedł", "content": {"application/xml": {"schema": _TEXT}}},
        **told(404, *_EVERYWHERE),
    },
)
def document_xml(request: Request, who: Reader, document_id: DocumentId) -> Response:
    site = site_of(request)
    with site.database.reading() as tx:
        document = _find(tx, document_id)
        content = documents.content(tx, document.id)
        arrival = deliveries.first_arrival(tx, document.id)
    if content is None:
        raise _not_there("xml", "Bufor nie ma treści tego dokumentu: plik był za duży, by go przyjąć.")
    return file(content, "application/xml", f"{_stem(document, arrival)}.xml")


@reads(
    router,
    "/{document_id}/upo",
    summary="UPO (zakres: read)",
    responses={
        200: {"description": "UPO, jak dał je KSeF", "content": {"application/xml": {"schema": _TEXT}}},
        **told(404, *_EVERYWHERE),
    },
)
def document_upo(request: Request, who: Reader, document_id: DocumentId) -> Response:
    site = site_of(request)
    with site.database.reading() as tx:
        document = _find(tx, document_id)
        content = documents.upo(tx, document.id) if document.has_upo else None
        arrival = deliveries.first_arrival(tx, document.id)
    if content is None:
        raise _not_there("upo", "UPO jeszcze nie ma; KSeF wydaje je po nadaniu numeru.")
    return file(content, "application/xml", f"{_stem(document, arrival)}.upo.xml")


PictureFormat = Annotated[Literal["png", "svg"], Query(alias="format", description="png albo svg")]
_PICTURE = {"image/png": {"schema": _TEXT}, "image/svg+xml": {"schema": {"type": "string"}}}


@reads(
    router,
    "/{document_id}/qr/1",
    summary="KOD I: kod QR do sprawdzenia faktury (zakres: read)",
    dependencies=[Depends(known_parameters("format"))],
    responses={
        200: {"description": "Obraz z numerem KSeF albo napisem OFFLINE", "content": _PICTURE},
        **told(400, 404, 422, *_EVERYWHERE),
    },
)
def document_qr1(request: Request, who: Reader, document_id: DocumentId, kind: PictureFormat = "png") -> Response:
    site = site_of(request)
    with site.database.reading() as tx:
        document = _find(tx, document_id)
    link = shown_verification_url(document, site.config.ksef.qr_url)
    if link is None:
        raise _not_there("qr", "Kodu QR jeszcze nie ma: dokument nie ma numeru KSeF ani trybu offline.")
    return _picture(link, qr.invoice_label(document.ksef_number), kind, f"{document.document_id}.qr1")


@reads(
    router,
    "/{document_id}/qr/2",
    summary="KOD II: kod QR wystawcy faktury offline (zakres: read)",
    dependencies=[Depends(known_parameters("format"))],
    responses={
        200: {"description": "Obraz z napisem CERTYFIKAT", "content": _PICTURE},
        **told(400, 404, 422, *_EVERYWHERE),
    },
)
def document_qr2(request: Request, who: Reader, document_id: DocumentId, kind: PictureFormat = "png") -> Response:
    site = site_of(request)
    with site.database.reading() as tx:
        document = _find(tx, document_id)
    link = certificate_url(document)
    if link is None:
        raise _not_there("qr", "KOD II mają tylko faktury wystawione offline.")
    return _picture(link, qr.CERTIFICATE_LABEL, kind, f"{document.document_id}.qr2")


def _picture(link: str, label: str, kind: str, name: str) -> Response:
    if kind == "svg":
        return file(qr.svg(link, label), "image/svg+xml", f"{name}.svg", inline=True)
    return file(qr.png(link, label), "image/png", f"{name}.png", inline=True)


@reads(
    router,
    "/{document_id}/pdf",
    summary="Wydruk faktury (zakres: read)",
    responses={
        200: {"description": "PDF/A z kodami QR", "content": {"application/pdf": {"schema": _TEXT}}},
        **told(404, 409, *_EVERYWHERE),
    },
)
def document_pdf(request: Request, who: Reader, document_id: DocumentId) -> Response:
    site = site_of(request)
    with site.database.reading() as tx:
        document = _find(tx, document_id)
        content = documents.content(tx, document.id)
        arrival = deliveries.first_arrival(tx, document.id)
    if content is None:
        raise _not_there("pdf", "Bufor nie ma treści tego dokumentu: plik był za duży, by go przyjąć.")
    link = shown_verification_url(document, site.config.ksef.qr_url)
    codes = [printing.Code(link, qr.invoice_label(document.ksef_number))] if link else []
    certified = certificate_url(document)
    if certified:
        codes.append(printing.Code(certified, qr.CERTIFICATE_LABEL))
    try:
        page = printing.pdf(
            content,
            ksef_number=document.ksef_number,
            accepted_at=document.accepted_at,
            codes=codes,
            mode=document.offline_mode,
        )
    except printing.NotPrintable as fault:
        raise Problem(409, "not-printable", "Nie ma czego wydrukować", fault.message, hint=fault.action) from None
    return file(page, "application/pdf", f"{_stem(document, arrival)}.pdf", inline=True)


@reads(
    router,
    "/{document_id}/events",
    summary="Historia dokumentu, od najstarszego wpisu (zakres: read)",
    responses={200: {"model": shapes.DocumentEvents}, **told(404, *_EVERYWHERE)},
)
def document_events(request: Request, who: Reader, document_id: DocumentId) -> Response:
    site = site_of(request)
    with site.database.reading() as tx:
        document = _find(tx, document_id)
        events = documents.history(tx, document.id)
    return whole({"items": [{**event, "at": answers.moment(event["at"])} for event in events]})


# A person's or a program's word


@router.post(
    "/{document_id}/retry",
    summary="Ponów dokument w stanie błąd albo niepowodzenie (zakres: send)",
    description="Z `error` kontrola wstępna jest robiona od nowa; z `failed` wysyłka rusza od razu.",
    response_model=None,
    responses={
        200: {"model": shapes.Document},
        **told(404, 409, 422, *_EVERYWHERE, shapes={422: "RefusedShape"}),
    },
)
def retry_document(request: Request, who: Sender, document_id: DocumentId) -> Response:
    site = site_of(request)
    _known(site, document_id)
    document = submit.retry(site.database, document_id, check_context(site), actor=who.actor)
    with site.database.transaction() as tx:
        gate.note(request, tx, "invoice-retry", on=document.document_id)
    _, told_of = _read(site, document_id)
    return _refused(told_of) if document.state is State.ERROR else whole(told_of)


@router.post(
    "/{document_id}/cancel",
    summary="Wycofaj dokument, którego KSeF nie ma (zakres: send)",
    response_model=None,
    responses={200: {"model": shapes.Document}, **told(404, 409, *_EVERYWHERE)},
)
def cancel_document(request: Request, who: Sender, document_id: DocumentId) -> Response:
    site = site_of(request)
    _known(site, document_id)
    document = submit.cancel(site.database, document_id, now=site.clock(), actor=who.actor)
    with site.database.transaction() as tx:
        gate.note(request, tx, "invoice-cancel", on=document.document_id)
    _, told_of = _read(site, document_id)
    return whole(told_of)


# Shared


def _find(tx: Any, document_id: str) -> Document:
    """By the whole id. Raises Problem 404."""
    try:
        # A beginning of an id, which people may give, is none of a program's.
        if len(document_id) == 36:
            return documents.find(tx, document_id)
    except NoSuchThing:
        pass
    raise Problem(404, "not-found", "Nie ma takiego dokumentu", hint="Podaj całe document_id.")


def _known(site: Site, document_id: str) -> None:
    with site.database.reading() as tx:
        _find(tx, document_id)


def _read(site: Site, document_id: str, place: str | None = None) -> tuple[Document, dict[str, Any]]:
    """The document and its object, as it came by HTTP from ``place``, else as it first came."""
    with site.database.reading() as tx:
        document = _find(tx, document_id)
        arrival = deliveries.arrived_as(tx, document.id, http.CONNECTOR, place) if place is not None else None
        arrival = arrival or deliveries.first_arrival(tx, document.id)
        held_back = pauses.active(tx, site.clock()) if document.state is State.QUEUED else None
    return document, _told(site, document, arrival, held_back)


def _told(site: Site, document: Document, arrival: Arrival | None, held_back: pauses.Pause | None) -> dict[str, Any]:
    whole_object = http.told_object(document, arrival, qr_url=site.config.ksef.qr_url, held_back=held_back)
    here = f"{PREFIX}/invoices/{document.document_id}"
    whole_object["links"] = {
        "self": here,
        "xml": f"{here}/xml",
        "events": f"{here}/events",
        "pdf": f"{here}/pdf",
        "upo": f"{here}/upo" if document.has_upo else None,
        "qr1": f"{here}/qr/1" if whole_object["verification_url"] else None,
        "qr2": f"{here}/qr/2" if certificate_url(document) else None,
    }
    return whole_object


def _stem(document: Document, arrival: Arrival | None) -> str:
    return http.stem(arrival) if arrival else document.document_id


def _not_there(what: str, why: str) -> Problem:
    return Problem(404, f"no-{what}", "Nie ma tego", why, hint="Pole links dokumentu mówi, co już można pobrać.")
