"""Wysyłka: outgoing documents in a list, one by one, and handed in from the browser."""

from __future__ import annotations

import re
import zlib
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, HTTPException
from lxml import etree
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from ksefbuffer.erp import submit
from ksefbuffer.erp.delivery import certificate_url, shown_verification_url
from ksefbuffer.erp.files import name_as_text
from ksefbuffer.erp.http import CONNECTOR
from ksefbuffer.errors import NoSuchThing, NotAllowedNow
from ksefbuffer.invoice.document import InvoiceHeader
from ksefbuffer.invoice.findings import Finding
from ksefbuffer.invoice.identifiers import sha256_hex
from ksefbuffer.invoice.precheck import CheckContext, check
from ksefbuffer.invoice.reading import read
from ksefbuffer.offline import qr
from ksefbuffer.queue import documents, finding, pauses
from ksefbuffer.queue.documents import Document
from ksefbuffer.queue.states import State
from ksefbuffer.web import printing
from ksefbuffer.web.gate import Form, PageCaller, PageForm, Upload, note, require
from ksefbuffer.web.preview import preview
from ksefbuffer.web.rendering import POLISH_TIME, redirect, render
from ksefbuffer.web.site import Site, site_of
from ksefbuffer.web.story import CONNECTORS, SESSION_KINDS, source_name, story

router = APIRouter()

ON_A_PAGE = 50
MOST_AT_ONCE = 200
LINES_ON_A_PAGE = 1000
LONGEST_LINE = 4000
# More than any form's largest invoice with an attachment, and what a browser may hand in at once.
MOST_BYTES = 3_000_000
KINDS: Mapping[str, str] = {
    "VAT": "podstawowa",
    "KOR": "korygująca",
    "ZAL": "zaliczkowa",
    "ROZ": "rozliczeniowa",
    "UPR": "uproszczona",
    "KOR_ZAL": "korygująca zaliczkową",
    "KOR_ROZ": "korygująca rozliczeniową",
}
# What may be asked for in the filter of states, with its name for people.
STATES: Mapping[str, tuple[str, tuple[State, ...]]] = {
    "queued": ("oczekuje", (State.QUEUED,)),
    "processing": ("w trakcie przetwarzania", (State.PROCESSING,)),
    "sent": ("wysłano", (State.SENT,)),
    "error": ("błąd", (State.ERROR,)),
    "failed": ("niepowodzenie", (State.FAILED,)),
    "cancelled": ("anulowano", (State.CANCELLED,)),
    "problem": ("błąd lub niepowodzenie", (State.ERROR, State.FAILED)),
    "waiting": ("jeszcze bez numeru", (State.QUEUED, State.PROCESSING, State.FAILED)),
}
CAN_RETRY = frozenset({State.ERROR, State.FAILED})
CAN_CANCEL = frozenset({State.QUEUED, State.ERROR, State.FAILED})


def plural(count: int, one: str, few: str, many: str) -> str:
    """1 plik, 2 pliki, 5 plików, 22 pliki."""
    if count == 1:
        return f"{count} {one}"
    return f"{count} {few if count % 10 in (2, 3, 4) and count % 100 not in (12, 13, 14) else many}"


# The list


@dataclass(frozen=True)
class Filters:
    """What the list is narrowed to, as the address says it."""

    state: str = ""
    kind: str = ""
    source: str = ""
    since: str = ""
    until: str = ""
    words: str = ""

    @classmethod
    def of(cls, request: Request) -> Filters:
        asked = request.query_params
        state, kind, source = asked.get("stan", ""), asked.get("rodzaj", ""), asked.get("zrodlo", "")
        return cls(
            state=state if state in STATES else "",
            kind=kind if kind in KINDS else "",
            source=source if source in CONNECTORS else "",
            since=_as_day(asked.get("od", "")),
            until=_as_day(asked.get("do", "")),
            words=asked.get("szukaj", "").strip()[:200],
        )

    @property
    def any(self) -> bool:
        return self != Filters()

    def url(self, path: str = "/wysylka", **more: Any) -> str:
        """The address of a list so narrowed."""
        names = {"stan": self.state, "rodzaj": self.kind, "zrodlo": self.source, "od": self.since, "do": self.until}
        asked = {**names, "szukaj": self.words, **more}
        query = urlencode({name: value for name, value in asked.items() if value})
        return f"{path}?{query}" if query else path

    def wanted(self) -> finding.Wanted:
        return finding.Wanted(
            states=STATES[self.state][1] if self.state else (),
            kind=self.kind,
            connector=self.source,
            since=_beginning(date.fromisoformat(self.since)) if self.since else None,
            until=_beginning(date.fromisoformat(self.until) + timedelta(days=1)) if self.until else None,
        )


def _as_day(text: str) -> str:
    """A day as written, "" for what is none; years that no calendar of ours reaches are none."""
    try:
        found = date.fromisoformat(text)
    except ValueError:
        return ""
    return found.isoformat() if 2000 <= found.year <= 2999 else ""


def _beginning(day: date) -> datetime:
    """When that day began in Poland."""
    return datetime.combine(day, time(), POLISH_TIME)


def _key(request: Request, name: str) -> int | None:
    text = request.query_params.get(name, "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _listed(request: Request) -> dict[str, Any]:
    filters = Filters.of(request)
    before, after = _key(request, "starsze"), _key(request, "nowsze")
    more = False
    with site_of(request).database.reading() as tx:
        if filters.words:
            found, more = finding.search(tx, filters.words)
            page = finding.Page([row for row in found if _fits(row, filters.wanted())], None, None)
        else:
            page = finding.page(tx, filters.wanted(), before=before, after=after, limit=ON_A_PAGE)
        held = pauses.active(tx, site_of(request).clock())
    return {
        "filters": filters,
        "rows": page.rows,
        "older": filters.url(starsze=page.older) if page.older is not None else "",
        "newer": filters.url(nowsze=page.newer) if page.newer is not None else "",
        "first": filters.url() if before is not None or after is not None else "",
        "more": more,
        "held": held,
        "states": STATES,
        "kinds": KINDS,
        "connectors": CONNECTORS,
        "can_retry": CAN_RETRY,
        "can_cancel": CAN_CANCEL,
        "source_name": source_name,
        "back": filters.url(starsze=before, nowsze=after),
        "live": filters.url("/wysylka/lista", starsze=before, nowsze=after),
    }


def _fits(row: finding.Row, wanted: finding.Wanted) -> bool:
    return (
        (not wanted.states or row.state in wanted.states)
        and (not wanted.kind or row.invoice_type == wanted.kind)
        and (not wanted.connector or row.connector == wanted.connector)
        and (wanted.since is None or row.received_at >= wanted.since)
        and (wanted.until is None or row.received_at < wanted.until)
    )


@router.get("/wysylka")
def documents_list(request: Request, who: PageCaller) -> Response:
    require(request, who.sees_outgoing)
    return render(request, "sending/list.html", **_listed(request))


@router.get("/wysylka/lista")
def documents_list_alone(request: Request, who: PageCaller) -> Response:
    """The table alone, asked for again while somebody looks at it."""
    require(request, who.sees_outgoing)
    return render(request, "sending/_rows.html", **_listed(request))


@router.post("/wysylka/zbiorczo")
def many(request: Request, who: PageCaller, form: PageForm) -> Response:
    """Retries or cancels all that were ticked; what cannot be is said, and the rest is done all the same."""
    require(request, who.handles_outgoing)
    chosen = list(dict.fromkeys(form.all("id")))[:MOST_AT_ONCE]
    action = form.text("co")
    back = form.text("powrot")
    back = back if re.fullmatch(r"/wysylka(\?[\w=&%+.-]*)?", back, re.ASCII) else "/wysylka"
    if action not in ("ponow", "anuluj"):
        raise HTTPException(400)
    if not chosen:
        return redirect(back, "Nie zaznaczono żadnego dokumentu.", kind="warning")
    done, faults = 0, []
    for document_id in chosen:
        try:
            _act(request, who, action, document_id)
            done += 1
        except (NoSuchThing, NotAllowedNow) as fault:
            faults.append(fault.message)
    said = (
        f"{'Ponowiono' if action == 'ponow' else 'Anulowano'}: {plural(done, 'dokument', 'dokumenty', 'dokumentów')}."
    )
    if faults:
        said += f" Pominięto {len(faults)}: {' '.join(faults[:3])}"
    return redirect(back, said, kind="warning" if faults else "ok")


def _act(request: Request, who: PageCaller, action: str, document_id: str) -> Document:
    """Raises NoSuchThing, NotAllowedNow."""
    site = site_of(request)
    if action == "ponow":
        done = submit.retry(site.database, document_id, _context(site), actor=who.actor)
    else:
        done = submit.cancel(site.database, document_id, now=site.clock(), actor=who.actor)
    with site.database.transaction() as tx:
        note(request, tx, f"document.{'retry' if action == 'ponow' else 'cancel'}", on=done.document_id)
    return done


def _context(site: Site) -> CheckContext:
    return CheckContext(nip=site.config.nip, environment=site.config.environment, now=site.clock())


# Handing in


@dataclass(frozen=True)
class Checked:
    """One file as it was looked at, nothing stored. ``packed`` carries its bytes to the second step; "" when it cannot
    be sent."""

    name: str
    size: int
    header: InvoiceHeader
    errors: Sequence[Finding]
    warnings: Sequence[Finding]
    known: Document | None
    packed: str = field(default="", repr=False)

    @property
    def ok(self) -> bool:
        return bool(self.packed)


@router.get("/wysylka/nowa")
def new(request: Request, who: PageCaller) -> Response:
    require(request, who.handles_outgoing)
    return render(request, "sending/new.html", checked=[], urgent=False, reference="", kinds=KINDS)


@router.post("/wysylka/nowa")
def new_checked(request: Request, who: PageCaller, form: PageForm) -> Response:
    """The first step: what the pre-check says of each file."""
    require(request, who.handles_outgoing)
    uploads = form.files("pliki")[:MOST_AT_ONCE]
    if not uploads:
        return redirect("/wysylka/nowa", "Wybierz co najmniej jeden plik XML.", kind="warning")
    checked = _look_at(site_of(request), uploads)
    return render(
        request,
        "sending/new.html",
        checked=checked,
        ready=sum(one.ok for one in checked),
        urgent=bool(form.text("pilne")),
        reference=form.text("oznaczenie")[:200],
        kinds=KINDS,
        plural=plural,
    )


def _look_at(site: Site, uploads: Sequence[Upload]) -> list[Checked]:
    context = _context(site)
    reports = [check(upload.content, context) for upload in uploads]
    hashes = [sha256_hex(upload.content) for upload in uploads]
    keys = [submit.business_key_of(report) for report in reports]
    with site.database.reading() as tx:
        known = documents.by_sha256s(tx, hashes)
        holders = {key: documents.holder_of_number(tx, key) for key in keys if key}
    checked: list[Checked] = []
    for at, (upload, report) in enumerate(zip(uploads, reports, strict=True)):
        errors = list(report.errors)
        key, same = keys[at], known.get(hashes[at])
        holder = holders.get(key) if key else None
        if same is None and holder is not None:
            errors.append(submit.number_taken(report.header.invoice_number, report.header.invoice_type, holder))
        if hashes[at] in hashes[:at]:
            errors.append(_twice("Ten sam plik wybrano dwa razy.", "Wystarczy wysłać go raz."))
        elif key and key in keys[:at]:
            errors.append(
                _twice("Inny z wybranych plików ma ten sam numer faktury.", "Nadaj jednej z faktur inny numer w ERP.")
            )
        fine = not errors and same is None
        checked.append(
            Checked(
                upload.name,
                len(upload.content),
                report.header,
                errors,
                report.warnings,
                same,
                packed(upload.content) if fine else "",
            )
        )
    return checked


def _twice(message: str, hint: str) -> Finding:
    return Finding("D05", message, hint)


def packed(content: bytes) -> str:
    """Bytes for a hidden field of a form; XML shrinks to a fifth."""
    return b64encode(zlib.compress(content, 6)).decode()


def unpacked(text: str) -> bytes:
    """What ``packed`` made. Raises ValueError for anything else, and for more than an invoice may have."""
    try:
        unpacking = zlib.decompressobj()
        content = unpacking.decompress(b64decode(text, validate=True), MOST_BYTES + 1)
    except (NotBase64, zlib.error) as fault:
        raise ValueError("not packed by this page") from fault
    if len(content) > MOST_BYTES or not unpacking.eof:
        raise ValueError("too much, or not all of it")
    return content


@router.post("/wysylka/wyslij")
def send(request: Request, who: PageCaller, form: PageForm) -> Response:
    """The second step: the files that were shown go through the door, and are checked there once more."""
    require(request, who.handles_outgoing)
    site = site_of(request)
    offers = _offers(form)
    if not offers:
        return redirect("/wysylka/nowa", "Nie ma czego wysłać. Wybierz pliki jeszcze raz.", kind="warning")
    taken = submit.submit_all(site.database, offers, _context(site), actor=who.actor)
    with site.database.transaction() as tx:
        for one in taken:
            note(request, tx, "document.send", on=one.document.document_id)
    if len(taken) == 1:
        document = taken[0].document
        if taken[0].known:
            return redirect(f"/wysylka/{document.document_id}", "Ten plik był już w buforze; oto jego wynik.")
        return redirect(f"/wysylka/{document.document_id}", "Przyjęto do wysłania.")
    refused = sum(one.document.state is State.ERROR for one in taken)
    said = f"Przyjęto {plural(len(taken), 'plik', 'pliki', 'plików')}."
    return redirect(
        "/wysylka",
        said + (f" Błąd wykryto w {refused}; są na liście." if refused else ""),
        kind="warning" if refused else "ok",
    )


def _offers(form: Form) -> list[submit.Offer]:
    options = submit.Options(urgent=bool(form.text("pilne")), reference=form.text("oznaczenie")[:200] or None)
    offers: list[submit.Offer] = []
    for text, name in zip(form.all("plik"), form.all("nazwa"), strict=False):
        try:
            content = unpacked(text)
        except ValueError as fault:
            raise HTTPException(400, "Formularz jest uszkodzony. Wybierz pliki jeszcze raz.") from fault
        name = name[:200] or "faktura.xml"
        stem = name[:-4] if name.lower().endswith(".xml") else name
        # No two documents share a name, so none takes another one's over.
        source = submit.Source(CONNECTOR, name_as_text(name), name_as_text(f"{stem}-{sha256_hex(content)[:12]}"))
        offers.append(submit.Offer(content, source, options))
    return offers[:MOST_AT_ONCE]


# One document


@dataclass(frozen=True)
class Code:
    """A QR code to show: ``name`` in addresses, where it leads, what stands below it."""

    name: str
    title: str
    url: str
    label: str


def _codes(site: Site, document: Document) -> list[Code]:
    link = shown_verification_url(document, site.config.ksef.qr_url)
    codes = [Code("1", "KOD I", link, qr.invoice_label(document.ksef_number))] if link else []
    certified = certificate_url(document)
    if certified:
        codes.append(Code("2", "KOD II", certified, qr.CERTIFICATE_LABEL))
    return codes


def _document(request: Request, document_id: str) -> dict[str, Any]:
    site = site_of(request)
    now = site.clock()
    with site.database.reading() as tx:
        document = documents.find(tx, document_id)
        history = documents.history(tx, document.id)
        answers = finding.answers_of(tx, document.id)
        session = finding.session_of(tx, document.session_id)
        held = pauses.active(tx, now) if document.state is State.QUEUED else None
        original = documents.by_sha256(tx, document.corrects_sha256) if document.corrects_sha256 else None
    settled = document.state in (State.CANCELLED, State.ERROR) or (document.state is State.SENT and document.has_upo)
    return {
        "document": document,
        "waits_for": document.waits_for or (held.message if held is not None else ""),
        "story": story(document, history, session, answers),
        "session": session,
        "session_kinds": SESSION_KINDS,
        "answers": answers,
        "connectors": CONNECTORS,
        "source_name": source_name,
        "original": original,
        "codes": _codes(site, document),
        "kinds": KINDS,
        "can_retry": document.state in CAN_RETRY,
        "can_cancel": document.state in CAN_CANCEL,
        "live": not settled,
    }


@router.get("/wysylka/{document_id}")
def one(request: Request, who: PageCaller, document_id: str) -> Response:
    require(request, who.sees_outgoing)
    return render(request, "sending/document.html", **_document(request, document_id))


@router.get("/wysylka/{document_id}/stan")
def one_alone(request: Request, who: PageCaller, document_id: str) -> Response:
    """What changes while a document is on its way, asked for again until it has arrived."""
    require(request, who.sees_outgoing)
    context = _document(request, document_id)
    response = render(request, "sending/_document.html", **context)
    if not context["live"]:
        response.headers["X-Refresh-Stop"] = "1"
    return response


@router.post("/wysylka/{document_id}/ponow")
def retry(request: Request, who: PageCaller, document_id: str, form: PageForm) -> Response:
    require(request, who.handles_outgoing)
    done = _acted(request, who, "ponow", document_id)
    if isinstance(done, Response):
        return done
    if done.state is State.ERROR:
        return redirect(f"/wysylka/{done.document_id}", "Sprawdzono ponownie: błędy pozostały.", kind="warning")
    return redirect(f"/wysylka/{done.document_id}", "Dokument wrócił do kolejki.")


@router.post("/wysylka/{document_id}/anuluj")
def cancel(request: Request, who: PageCaller, document_id: str, form: PageForm) -> Response:
    require(request, who.handles_outgoing)
    done = _acted(request, who, "anuluj", document_id)
    if isinstance(done, Response):
        return done
    return redirect(f"/wysylka/{done.document_id}", "Dokument anulowano; nie zostanie wysłany.")


def _acted(request: Request, who: PageCaller, action: str, document_id: str) -> Document | Response:
    """Back to the document with a word where its state meanwhile forbids it."""
    try:
        return _act(request, who, action, document_id)
    except NotAllowedNow as fault:
        return redirect(f"/wysylka/{quote(document_id)}", str(fault), kind="warning")


# Its files


def _found(request: Request, who: PageCaller, document_id: str) -> tuple[Document, bytes]:
    require(request, who.sees_outgoing)
    with site_of(request).database.reading() as tx:
        document = documents.find(tx, document_id)
        content = documents.content(tx, document.id)
    if content is None:
        raise NoSuchThing(
            "Bufor nie ma treści tego dokumentu: plik był za duży.", action="Plik leży w folderze odrzuconych."
        )
    return document, content


def download(content: bytes, media_type: str, name: str, *, inline: bool = False) -> Response:
    """A file for the browser to keep, under a name that every system takes."""
    safe = re.sub(r"[^\w.()+ -]", "_", name).strip(" .") or "dokument"
    plain = safe.encode("ascii", "replace").decode().replace("?", "_")
    disposition = f"{'inline' if inline else 'attachment'}; filename=\"{plain}\"; filename*=UTF-8''{quote(safe)}"
    return Response(
        content,
        media_type=media_type,
        headers={"Content-Disposition": disposition, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"},
    )


def _file_name(document: Document) -> str:
    return document.ksef_number or document.invoice_number or document.document_id


@router.get("/wysylka/{document_id}/faktura.xml")
def xml_file(request: Request, who: PageCaller, document_id: str) -> Response:
    document, content = _found(request, who, document_id)
    return download(content, "application/xml", f"{_file_name(document)}.xml")


@router.get("/wysylka/{document_id}/xml")
def xml_page(request: Request, who: PageCaller, document_id: str) -> Response:
    """The document's text line by line, those that a finding names marked."""
    document, content = _found(request, who, document_id)
    tidy = request.query_params.get("widok") == "czytelny"
    text = _tidy(content) if tidy else content.decode("utf-8-sig", "replace")
    lines = text.removesuffix("\n").split("\n")
    told = {} if tidy else _by_line([*document.errors, *document.warnings])
    wanted = _key(request, "wiersz") or _key(request, "od") or 1
    first = (min(wanted, len(lines)) - 1) // LINES_ON_A_PAGE * LINES_ON_A_PAGE
    shown = [
        {"number": number, "text": highlighted(line), "told": told.get(number, [])}
        for number, line in enumerate(lines[first : first + LINES_ON_A_PAGE], first + 1)
    ]
    here = f"/wysylka/{document.document_id}/xml"
    query = {"widok": "czytelny"} if tidy else {}
    return render(
        request,
        "sending/xml.html",
        document=document,
        lines=shown,
        total=len(lines),
        tidy=tidy,
        long=any(len(line) > LONGEST_LINE for line in lines),
        findings=[one for one in (*document.errors, *document.warnings) if one.get("line")],
        earlier=f"{here}?{urlencode({**query, 'od': first - LINES_ON_A_PAGE + 1})}" if first else "",
        later=f"{here}?{urlencode({**query, 'od': first + LINES_ON_A_PAGE + 1})}"
        if first + LINES_ON_A_PAGE < len(lines)
        else "",
    )


def _tidy(content: bytes) -> str:
    """The same elements, each on a line of its own; the text as it is when it cannot be read."""
    root = read(content).root
    if root is None:
        return content.decode("utf-8-sig", "replace")
    etree.indent(root, "  ")
    return etree.tostring(root, encoding="unicode")


def _by_line(found: Sequence[Mapping[str, Any]]) -> dict[int, list[str]]:
    told: dict[int, list[str]] = {}
    for one in found:
        if one.get("line"):
            told.setdefault(int(one["line"]), []).append(f"{one['code']}: {one['message']}")
    return told


_TAG = re.compile(r"(</?[^\s<>/]+|/?>)")


def highlighted(line: str) -> Markup:
    """One line, escaped, the names of elements in a class of their own; a very long one is cut."""
    rest = len(line) - LONGEST_LINE
    if rest > 0:
        line = f"{line[:LONGEST_LINE]} … (jeszcze {rest} znaków)"
    parts = _TAG.split(line)
    return Markup("").join(
        Markup("<b>{}</b>").format(part) if odd % 2 else Markup("{}").format(part) for odd, part in enumerate(parts)
    )


@router.get("/wysylka/{document_id}/podglad")
def preview_page(request: Request, who: PageCaller, document_id: str) -> Response:
    document, content = _found(request, who, document_id)
    paper = preview(content, ksef_number=document.ksef_number or "", accepted_at=document.accepted_at)
    return render(request, "sending/preview.html", document=document, paper=paper)


@router.get("/wysylka/{document_id}/faktura.pdf")
def pdf_file(request: Request, who: PageCaller, document_id: str) -> Response:
    document, content = _found(request, who, document_id)
    try:
        made = printing.pdf(
            content,
            ksef_number=document.ksef_number,
            accepted_at=document.accepted_at,
            codes=[printing.Code(code.url, code.label) for code in _codes(site_of(request), document)],
            mode=document.offline_mode,
        )
    except printing.NotPrintable as fault:
        raise HTTPException(422, str(fault)) from fault
    return download(made, "application/pdf", f"{_file_name(document)}.pdf", inline=True)


@router.get("/wysylka/{document_id}/upo.xml")
def upo_file(request: Request, who: PageCaller, document_id: str) -> Response:
    require(request, who.sees_outgoing)
    with site_of(request).database.reading() as tx:
        document = documents.find(tx, document_id)
        upo = documents.upo(tx, document.id)
    if upo is None:
        raise NoSuchThing("UPO tego dokumentu jeszcze nie ma.")
    return download(upo, "application/xml", f"UPO {_file_name(document)}.xml")


@router.get("/wysylka/{document_id}/qr{number}.{kind}")
def qr_file(request: Request, who: PageCaller, document_id: str, number: str, kind: str) -> Response:
    require(request, who.sees_outgoing)
    site = site_of(request)
    with site.database.reading() as tx:
        document = documents.find(tx, document_id)
    code = next((code for code in _codes(site, document) if code.name == number), None)
    if code is None or kind not in ("png", "svg"):
        raise HTTPException(404)
    draw, media_type = (qr.png, "image/png") if kind == "png" else (qr.svg, "image/svg+xml")
    return download(draw(code.url, code.label), media_type, f"{_file_name(document)} qr{number}.{kind}", inline=True)
