"""How the buffer stands, for programs: status with a key; health and metrics without one. Source: CONTRACT §6."""

from __future__ import annotations

import shutil
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from ksefbuffer.erp.standing import status_facts, told_certificate
from ksefbuffer.errors import BufferFault
from ksefbuffer.queue import facts, overview, schema, webhooks
from ksefbuffer.queue.db import worker_is_running
from ksefbuffer.web.access import Caller
from ksefbuffer.web.api import shapes
from ksefbuffer.web.api.common import PREFIX, reads, whole
from ksefbuffer.web.api.limits import allowed
from ksefbuffer.web.api.problems import Problem, told
from ksefbuffer.web.metrics import CONTENT_TYPE, scrape
from ksefbuffer.web.site import Site, site_of

router = APIRouter(tags=["Bufor"])

# Less than this and the next commit may be the one that fails.
LEAST_FREE_BYTES = 200_000_000


@reads(
    router,
    f"{PREFIX}/status",
    summary="Stan bufora (zakres: status)",
    description="Maszynowa postać `ksefbuffer status`: zdrowie, problemy do rozwiązania, kolejka, limity, pobieranie.",
    responses={200: {"model": shapes.Status}, **told(401, 403, 429, 503)},
)
def status(request: Request, who: Annotated[Caller, Depends(allowed("status"))]) -> Response:
    site = site_of(request)
    now = site.clock()
    with site.database.reading() as tx:
        seen = overview.overview(tx, now)
        undelivered = webhooks.standing(tx)
        certificates = facts.get(tx, "certificates")
    certificate = told_certificate(certificates[0] if certificates else None)
    running = worker_is_running(site.database)
    return whole(status_facts(site.config, seen, undelivered, certificate, running=running, now=now))


def alive(request: Request) -> Response:
    """Answers as long as this process does."""
    return whole({"status": "alive"})


def ready(request: Request) -> Response:
    """Whether invoices are taken and sent: the database, its schema, the worker, the disk."""
    reasons = _reasons(site_of(request))
    if reasons:
        raise Problem(503, "not-ready", "Bufor nie jest gotowy", " ".join(reasons), extra={"reasons": reasons})
    return whole({"status": "ready"})


def _reasons(site: Site) -> list[str]:
    reasons: list[str] = []
    try:
        schema.require_current(site.database)
        if not worker_is_running(site.database):
            reasons.append("Bufor nie pracuje (uruchom: ksefbuffer run).")
    except BufferFault as fault:
        reasons.append(str(fault))
    try:
        free = shutil.disk_usage(site.config.data_dir).free
    except OSError as error:
        reasons.append(f"Folderu danych nie można odczytać: {error.strerror}.")
    else:
        if free < LEAST_FREE_BYTES:
            reasons.append(f"Na dysku zostało {free // 1_000_000} MB; potrzeba {LEAST_FREE_BYTES // 1_000_000} MB.")
    return reasons


def metrics(request: Request) -> Response:
    """Figures for Prometheus."""
    return Response(scrape(site_of(request), request.app.state), media_type=CONTENT_TYPE)


_ALIVE = {
    "summary": "Czy proces odpowiada (bez klucza)",
    "responses": {200: {"model": shapes.Health}},
}
_READY = {
    "summary": "Czy bufor przyjmuje i wysyła (bez klucza)",
    "responses": {200: {"model": shapes.Health}, **told(503, shapes={503: "NotReadyShape"})},
}
_METRICS = {
    "summary": "Metryki w formacie Prometheus (bez klucza)",
    "response_class": Response,
    "responses": {
        200: {"description": "Metryki", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **told(503),
    },
}
# Both where the contract's table puts them, beside /api/v1, and below it.
for _prefix in ("", PREFIX):
    reads(router, f"{_prefix}/health/live", **_ALIVE)(alive)
    reads(router, f"{_prefix}/health/ready", **_READY)(ready)
    reads(router, f"{_prefix}/metrics", **_METRICS)(metrics)
