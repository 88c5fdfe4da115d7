"""Pulpit: how the buffer stands, on one page; each sees what concerns them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any, TypeVar

from fastapi import APIRouter
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from ksefbuffer.erp.standing import SUBJECTS, status_facts, told_certificate
from ksefbuffer.offline.deadlines import Deadline, Urgency
from ksefbuffer.queue import charts, facts, overview, webhooks
from ksefbuffer.queue.db import worker_is_running
from ksefbuffer.queue.states import State
from ksefbuffer.web.access import Caller
from ksefbuffer.web.charts import Bar, bar_chart
from ksefbuffer.web.gate import PageCaller
from ksefbuffer.web.pages import start
from ksefbuffer.web.rendering import POLISH_TIME, render
from ksefbuffer.web.site import site_of

router = APIRouter()

DAYS = 14
_ORDER = (State.QUEUED, State.PROCESSING, State.FAILED, State.ERROR)
# KSeF's groups of calls, by the names it gives them.
GROUPS: Mapping[str, str] = {
    "onlineSession": "otwieranie sesji",
    "onlineSessionClose": "zamykanie sesji",
    "batchSession": "otwieranie paczek",
    "batchSessionClose": "zamykanie paczek",
    "invoiceSend": "wysyłanie faktur",
    "invoiceStatus": "stan faktur",
    "sessionList": "lista sesji",
    "sessionInvoiceList": "lista faktur w sesji",
    "sessionMisc": "stan sesji i UPO",
    "invoiceMetadata": "wyszukiwanie faktur",
    "invoiceExport": "eksport faktur",
    "invoiceExportStatus": "stan eksportu",
    "invoiceDownload": "pobieranie faktur",
    "other": "pozostałe",
}


@dataclass(frozen=True)
class Concern:
    """One thing that needs a person; ``url`` leads to where it is seen to, "" to nowhere."""

    text: str
    url: str = ""
    grave: bool = True


@router.get("/")
def dashboard(request: Request, who: PageCaller) -> Response:
    with site_of(request).database.reading() as tx:
        offered = who.admin and start.is_offered(tx)
    standing, drawn = _standing(request, who), _charts(request, who)
    return render(request, "dashboard/dashboard.html", **standing, charts=drawn, start_offered=offered)


@router.get("/pulpit/stan")
def standing_alone(request: Request, who: PageCaller) -> Response:
    """What changes from moment to moment, without the charts."""
    return render(request, "dashboard/_standing.html", **_standing(request, who))


def _standing(request: Request, who: Caller) -> dict[str, Any]:
    site = site_of(request)
    now = site.clock()
    today = _midnights(now, 1)
    running = worker_is_running(site.database)
    with site.database.reading() as tx:
        seen = overview.overview(tx, now)
        told = facts.get(tx, "certificates")
        certificates = told[0] if told else []
        mode = facts.get(tx, "mode")
        queue = charts.standing(tx) if who.sees_outgoing else None
        sent_today = charts.sent_between(tx, [*today, now + timedelta(seconds=1)])[0] if who.sees_outgoing else 0
        got_today = (
            charts.received_between(tx, [*today, now + timedelta(seconds=1)], who.folders)[0]
            if who.folders != ()
            else 0
        )
        whole = status_facts(
            site.config, seen, webhooks.standing(tx), told_certificate(certificates), running=running, now=now
        )
    return {
        "running": running,
        "concerns": _concerns(who, whole, queue, certificates, now),
        "ksef": {**whole["ksef"], "as_of": _moment(whole["ksef"]["as_of"])},
        "mode": _mode(mode, now),
        "certificates": [_certificate(one) for one in certificates if isinstance(one, dict)],
        "queue": queue,
        "order": _ORDER,
        "most_counted": charts.MOST_COUNTED,
        "sent_today": sent_today,
        "got_today": got_today,
        "limits": _limits(whole["limits"]["groups"]),
        "pull": {
            "enabled": whole["incoming"]["enabled"],
            "last": _moment(whole["last_pull"]),
            "subjects": [
                {"name": SUBJECTS.get(one["subject"], one["subject"]), "problem": one["problem"]}
                for one in whole["incoming"]["subjects"]
            ],
        },
    }


def _moment(text: Any) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None


# What needs a person


def _concerns(
    who: Caller,
    whole: Mapping[str, Any],
    queue: charts.Standing | None,
    certificates: Sequence[Any],
    now: datetime,
) -> list[Concern]:
    """What each may know of: of sending to those who see it, of pulling to those who see every folder."""
    found: list[Concern] = []
    of_pulling = list(whole["incoming"]["problems"])
    if queue is not None:
        found += _of_queue(queue, now)
        found += [Concern(text) for text in whole["problems"] if text not in of_pulling]
        for name, reason in list(whole["inbox"]["passed_over"].items())[:5]:
            found.append(Concern(f"W folderze wejściowym zostaje {name}: {reason}", grave=False))
    elif not whole["worker"]["running"]:
        found.append(Concern("Bufor nie pracuje: nowych faktur nie będzie, dopóki administrator go nie uruchomi."))
    if who.folders is None:
        found += [Concern(text, "/dokumenty") for text in of_pulling]
    if who.admin:
        known = {concern.text for concern in found}
        for one in certificates:
            if isinstance(one, dict) and one.get("problem") and one["problem"] not in known:
                found.append(Concern(str(one["problem"]), "/certyfikaty"))
            elif isinstance(one, dict) and isinstance(one.get("days_left"), int) and 0 <= one["days_left"] <= 30:
                text = f"Certyfikat {_purpose(one)} wygasa za {one['days_left']} dni."
                found.append(Concern(text, "/certyfikaty", grave=one["days_left"] <= 7))
    return found


def _of_queue(queue: charts.Standing, now: datetime) -> list[Concern]:
    found: list[Concern] = []
    errors, failed = queue.counts[State.ERROR], queue.counts[State.FAILED]
    if errors:
        found.append(Concern(f"Dokumenty z błędem, do poprawienia: {_count(errors)}.", "/wysylka?stan=error"))
    if failed:
        text = f"Dokumenty, których nie udało się dostarczyć: {_count(failed)}. Bufor ponawia sam."
        found.append(Concern(text, "/wysylka?stan=failed", grave=False))
    if queue.first_term is not None:
        term = Deadline(queue.first_term, "")
        urgency = term.urgency(now)
        if urgency is not Urgency.NONE:
            text = f"Wystawione offline, do przesłania: {_count(queue.terms)}; najbliższy termin: {term.left(now)}."
            found.append(Concern(text, "/wysylka?stan=waiting", grave=urgency >= Urgency.WITHIN_4_H))
    return found


def _count(count: int) -> str:
    return f"ponad {charts.MOST_COUNTED}" if count > charts.MOST_COUNTED else str(count)


def _purpose(certificate: Mapping[str, Any]) -> str:
    return "do wystawiania offline" if certificate.get("purpose") == "offline" else "do logowania"


def _certificate(told: Mapping[str, Any]) -> dict[str, Any]:
    days = told.get("days_left")
    return {
        "purpose": _purpose(told),
        "status": told.get("status") or "",
        "subject": told.get("subject") or "",
        "days_left": days if isinstance(days, int) else None,
        "kind": "error"
        if told.get("problem") or (isinstance(days, int) and days <= 7)
        else "warning"
        if isinstance(days, int) and days <= 30
        else "ok",
    }


def _mode(fact: tuple[Any, datetime] | None, now: datetime) -> dict[str, Any]:
    """The mode as the worker tells it: {"mode", "since", "why", "deadlines"}; online while it has told nothing."""
    told = fact[0] if fact is not None and isinstance(fact[0], dict) else {}
    deadlines = told.get("deadlines")
    return {
        "name": told.get("mode") or None,
        "since": _moment(told.get("since")),
        "why": told.get("why") or "",
        "deadlines": deadlines if isinstance(deadlines, dict) else {},
    }


def _limits(groups: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Limits of which anything is used, the fullest first; per cent of the hour's."""
    found: list[dict[str, Any]] = []
    for group, usage in groups.items():
        most = usage.get("per_hour") or 0
        if most > 0 and (usage.get("hour") or usage.get("blocked_until")):
            share = min(100, round(100 * usage["hour"] / most))
            found.append(
                {
                    "name": GROUPS.get(group, group),
                    "used": usage["hour"],
                    "most": most,
                    "share": share,
                    "blocked_until": _moment(usage.get("blocked_until")),
                }
            )
    return sorted(found, key=lambda one: -one["share"])


# Charts


def _midnights(now: datetime, count: int) -> list[datetime]:
    """The beginnings of the last ``count`` Polish days, today's the last."""
    return [datetime.combine(day, time(), POLISH_TIME) for day in _days(now, count)]


def _days(now: datetime, count: int) -> list[date]:
    today = now.astimezone(POLISH_TIME).date()
    return [today - timedelta(days=back) for back in reversed(range(count))]


@dataclass
class _Kept:
    """Charts drawn a moment ago, and what past days brought: going through a million invoices anew would be waste."""

    charts: dict[Any, tuple[datetime, list[Markup]]] = field(default_factory=dict)
    received: dict[Any, tuple[datetime, dict[date, int]]] = field(default_factory=dict)


def _charts(request: Request, who: Caller) -> list[Markup]:
    """Charts of the last days; kept for a minute for whoever sees the same."""
    site = site_of(request)
    now = site.clock()
    kept: _Kept = request.app.state.__dict__.setdefault("dashboard", _Kept())
    key = (who.sees_outgoing, who.folders)
    drawn = _fresh(kept.charts, key, now, timedelta(minutes=1))
    if drawn is not None:
        return drawn
    days = _days(now, DAYS)
    bounds = [*_midnights(now, DAYS), datetime.combine(days[-1] + timedelta(days=1), time(), POLISH_TIME)]
    drawn = []
    with site.database.reading() as tx:
        if who.sees_outgoing:
            sent = charts.sent_between(tx, bounds)
            drawn.append(bar_chart("Wysłano do KSeF", _bars(days, sent, "/wysylka?stan=sent"), "good"))
            refused = charts.still_refused(tx, bounds)
            bars = _bars(days, refused, "/wysylka?stan=error")
            drawn.append(bar_chart("Nadal z błędem, wg dnia przyjścia", bars, "bad"))
        if who.folders != ():
            got = _received(tx, kept, who.folders, days, bounds, now)
            drawn.append(bar_chart("Odebrano z KSeF", _bars(days, got, ""), ""))
    if len(kept.charts) > _MOST_KEPT:
        kept.charts.clear()
    kept.charts[key] = (now, drawn)
    return drawn


def _received(
    tx: Any,
    kept: _Kept,
    folders: tuple[str, ...] | None,
    days: Sequence[date],
    bounds: Sequence[datetime],
    now: datetime,
) -> list[int]:
    """Of each day; past days' figures change only when invoices are filed anew, so they may be an hour old."""
    past = _fresh(kept.received, folders, now, timedelta(hours=1))
    if past is None or any(day not in past for day in days[:-1]):
        counts = charts.received_between(tx, bounds[:-1], folders)
        past = dict(zip(days[:-1], counts, strict=True))
        if len(kept.received) > _MOST_KEPT:
            kept.received.clear()
        kept.received[folders] = (now, past)
    today = charts.received_between(tx, bounds[-2:], folders)
    return [*(past[day] for day in days[:-1]), *today]


_MOST_KEPT = 200
_V = TypeVar("_V")


def _fresh(kept: Mapping[Any, tuple[datetime, _V]], key: Any, now: datetime, life: timedelta) -> _V | None:
    if key not in kept:
        return None
    at, value = kept[key]
    return value if timedelta() <= now - at < life else None


def _bars(days: Sequence[date], counts: Sequence[int], url: str) -> list[Bar]:
    return [Bar(day, count, f"{url}&od={day}&do={day}" if url else "") for day, count in zip(days, counts, strict=True)]
