"""The guided first start: NIP and environment, certificate, folder, test invoice. Offered until somebody ends it."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ksefbuffer.erp import submit
from ksefbuffer.erp.http import CONNECTOR
from ksefbuffer.errors import BufferFault
from ksefbuffer.identity import words
from ksefbuffer.invoice.precheck import CheckContext
from ksefbuffer.queue import documents, facts, orders
from ksefbuffer.queue.db import worker_is_running
from ksefbuffer.web.asking import ask, order_or_none
from ksefbuffer.web.gate import AdminCaller, PageForm, note, require
from ksefbuffer.web.pages.certificates import ORIGINS, PURPOSES, document_in, login_trouble, standings
from ksefbuffer.web.rendering import POLISH_TIME, redirect, render, templates
from ksefbuffer.web.site import Site, site_of

router = APIRouter()

DONE_FACT = "start_done"
STEPS = ("NIP i środowisko", "Certyfikat", "Folder", "Faktura testowa")
_FINAL = ("sent", "error", "cancelled")


def is_offered(tx: Any) -> bool:
    """Whether the guided start has not been ended by anybody yet; for the dashboard, which links to ``/start``."""
    return facts.get(tx, DONE_FACT) is None


@router.get("/start")
def page(
    request: Request, who: AdminCaller, krok: int = 1, zlecenie: int | None = None, dokument: UUID | None = None
) -> Response:
    site = site_of(request)
    step = min(max(krok, 1), len(STEPS))
    rows = standings(site)
    trouble = login_trouble(site)
    with site.database.reading() as tx:
        requested, ended = orders.latest(tx, "auth-request", actor=who.actor), not is_offered(tx)
        tried = orders.latest(tx, "folders")
        found = documents.find(tx, str(dokument)) if dokument is not None else None
    return render(
        request,
        "start/page.html",
        step=step,
        steps=STEPS,
        ended=ended,
        rows=rows,
        names=PURPOSES,
        origins=ORIGINS,
        may_log_in=_may_log_in(site, rows, trouble),
        trouble=trouble,
        running=worker_is_running(site.database),
        order=order_or_none(site, who, zlecenie),
        document=document_in(requested, site.clock()),
        paths=site.config.paths,
        folders_good=tried is not None and tried.state == "done",
        found=found,
        final=found is not None and str(found.state) in _FINAL,
        back=f"/start?krok={step}",
    )


@router.post("/start/folder")
def try_folders(request: Request, who: AdminCaller, _form: PageForm) -> Response:
    """The worker, whose folders they are, writes into each of them."""
    try:
        number = ask(request, who, "folders", {})
    except BufferFault as fault:
        return redirect("/start?krok=3", str(fault), kind="error")
    return redirect(f"/start?krok=3&zlecenie={number}")


@router.post("/start/faktura")
def send_test_invoice(request: Request, who: AdminCaller, _form: PageForm) -> Response:
    """Hands in an invoice made up for this buffer's NIP; only in the sandbox, where it means nothing."""
    site = site_of(request)
    require(request, site.config.environment == "sandbox")
    now = site.clock()
    number, content = test_invoice(site.config.nip, now)
    name = number.replace("/", "-")
    taken = submit.submit(
        site.database,
        submit.Offer(content, submit.Source(CONNECTOR, f"{name}.xml", name), submit.Options(urgent=True)),
        CheckContext(nip=site.config.nip, environment=site.config.environment, now=now),
        actor=who.actor,
    )
    with site.database.transaction() as tx:
        note(request, tx, "test-invoice", number)
    return redirect(f"/start?krok=4&dokument={taken.document.document_id}")


@router.get("/start/faktura/{document_id}")
def follow(request: Request, _who: AdminCaller, document_id: UUID) -> Response:
    site = site_of(request)
    with site.database.reading() as tx:
        found = documents.find(tx, str(document_id))
    response = render(request, "start/followed.html", found=found)
    if str(found.state) in _FINAL:
        response.headers["X-Refresh-Stop"] = "1"
    return response


@router.post("/start/koniec")
def end(request: Request, who: AdminCaller, _form: PageForm) -> Response:
    site = site_of(request)
    with site.database.transaction() as tx:
        facts.put(tx, DONE_FACT, {"actor": who.actor}, at=site.clock())
        note(request, tx, "start", "ended")
    return redirect("/", "Pierwsze uruchomienie zakończone. Wrócisz do niego przez adres /start.")


def test_invoice(nip: str, now: datetime) -> tuple[str, bytes]:
    """Number and FA(3) XML of a made-up sale of 123,00 PLN, issued today in Poland."""
    here = now.astimezone(POLISH_TIME)
    number = f"TEST/{here:%Y%m%d}/{here:%H%M%S%f}"
    text = templates().get_template("start/invoice.xml").render(nip=nip, number=number, issued=here.date(), now=now)
    return number, text.encode("utf-8")


def _may_log_in(site: Site, rows: list[Any], trouble: dict[str, str] | None) -> bool:
    """Whether the buffer has a way in to KSeF, as far as the database tells."""
    if trouble is not None:
        return False
    if site.config.auth.method == "token" or site.config.environment == "sandbox":
        return True
    good = (words.WORKING, "wygasa")
    return any(row.purpose == "auth" and row.status.startswith(good) for row in rows)
