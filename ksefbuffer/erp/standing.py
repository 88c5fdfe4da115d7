"""How the buffer stands: everything that ``status`` tells, from the read model alone. Shared by the command line, which
looks into certificate files itself, and by the API, which may not and reads what the worker says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from ksefbuffer.config import Config
from ksefbuffer.erp import answers
from ksefbuffer.offline.deadlines import Deadline
from ksefbuffer.offline.modes import Mode
from ksefbuffer.queue import pauses
from ksefbuffer.queue.overview import Overview
from ksefbuffer.queue.terms import Term
from ksefbuffer.queue.webhooks import Standing as Webhooks

SUBJECTS = {"buyer": "nabywca", "third": "podmiot trzeci", "authorized": "podmiot upoważniony", "seller": "sprzedawca"}
"""Our roles on received invoices, as staff call them."""


def status_facts(
    config: Config,
    seen: Overview,
    webhooks: Webhooks,
    certificate: Mapping[str, Any] | None,
    *,
    running: bool,
    now: datetime,
) -> dict[str, Any]:
    """The machine form of ``status``, JSON-ready; ``healthy`` when nothing needs a person.

    ``certificate``: {"subject", "expires_at", "days_left", "problem"} of the one we log in with, None with a token or
    while nobody has told of it; ``running``: whether a worker holds this database.
    """
    problems: list[str] = []
    if not running:
        problems.append("Bufor nie pracuje (uruchom: ksefbuffer run).")
    held = [
        {
            "scope": p.scope,
            "code": p.code,
            "message": p.message,
            "action": p.action,
            "since": answers.moment(p.since),
            "until": answers.moment(p.until) if p.until < pauses.UNTIL_DONE else None,
        }
        for p in seen.pauses
        if p.until > now or p.scope == "ksef"
    ]
    problems += [
        f"{p['message']} {p['action']}".strip() for p in held if not str(p["scope"]).startswith(("limit:", "batch:"))
    ]
    if seen.answers_failing:
        problems.append(
            f"Odpowiedzi, których nie udało się doręczyć: {seen.answers_failing} ({seen.last_answer_error})."
        )
    if webhooks.failing:
        problems.append(
            f"Powiadomienia HTTP (webhook), których nie udało się doręczyć: {webhooks.failing} ({webhooks.last_error})."
        )
    if seen.stuck:
        problems.append(
            f"KSeF nie wydał jeszcze wyroku o {seen.stuck} dokumentach, najstarszy czeka od "
            f"{answers.moment(seen.stuck_since)}. Bufor pyta dalej i nie wysyła ich ponownie."
        )
    limits = seen.limits[0] if seen.limits else {}
    strangers = sorted(group for group, usage in limits.items() if usage.get("foreign_since"))
    if strangers:
        problems.append(
            f"Limity KSeF zużywa też ktoś inny w naszym kontekście ({', '.join(strangers)}): KSeF odmawia, choć bufor "
            "mieści się w limicie. Sprawdź, jakie inne programy wysyłają dla tego NIP."
        )
    if certificate and certificate["problem"]:
        problems.append(certificate["problem"])
    passed_over = seen.passed_over[0] if seen.passed_over else {}
    table = seen.table[0] if seen.table and config.table.enabled else None
    if table and not table["ok"]:
        problems.append(table["message"])
    pulled = _pulled(config, seen)
    problems += pulled["problems"]
    ends = [deadline_object(term, now) for term in seen.terms]
    problems += _about_terms(ends)
    problems += [
        f"Powiadomienia nie docierają do {place['place']}: {place['message']}"
        for place in (seen.notify[0]["places"] if seen.notify else [])
        if not place["ok"]
    ]
    mode = seen.mode
    if mode and mode.get("signing") and (mode.get("mode") or config.offline.has_key):
        problems.append(mode["signing"])
    return {
        "nip": config.nip,
        "environment": config.environment,
        "healthy": not problems,
        "problems": problems,
        "worker": {"running": running},
        "ksef": {
            "address": config.ksef.base_url,
            **_last_contact(seen, pulled["last_pull"]),
        },
        "certificate": dict(certificate) if certificate else None,
        "queue": seen.counts,
        "oldest_waiting_at": answers.moment(seen.oldest_waiting),
        "next_attempt_at": answers.moment(seen.next_attempt),
        "pauses": held,
        "limits": {"as_of": answers.moment(seen.limits[1]) if seen.limits else None, "groups": limits},
        "stuck": {"count": seen.stuck, "since": answers.moment(seen.stuck_since)},
        "open_sessions": seen.open_sessions,
        "upo_waiting": seen.upos_due,
        "answers": {"due": seen.answers_due, "failing": seen.answers_failing, "last_error": seen.last_answer_error},
        "webhooks": asdict(webhooks),
        "inbox": {"path": str(config.inbox.path), "passed_over": passed_over},
        "table": table,
        "offline": mode,
        "deadlines": ends,
        "last_pull": pulled["last_pull"],
        "incoming": pulled,
    }


def deadline_object(term: Term, now: datetime) -> dict[str, Any]:
    """Documents that share a term, JSON-ready; ``left`` and ``why`` are Polish, ``urgency`` as in offline.deadlines."""
    at = term.deadline
    duty = term.mode != Mode.TOTAL
    shown = Deadline(at, term.term, open_ended=at is None and duty, duty=duty)
    return {
        "mode": term.mode,
        "deadline": answers.moment(at),
        "left": shown.left(now),
        "urgency": shown.urgency(now).name.lower(),
        "count": term.count,
        "refused": term.refused,
        "why": term.term,
    }


def _about_terms(ends: list[dict[str, Any]]) -> list[str]:
    problems = [
        f"Faktury offline po terminie: {one['count']} ({one['left']}). {one['why']}"
        for one in ends
        if one["urgency"] == "overdue"
    ]
    problems += [
        f"Faktury offline odrzucone przez KSeF: {one['refused']}. Popraw je i wyślij jako korekty techniczne "
        "(corrects_sha256), zanim minie termin."
        for one in ends
        if one["refused"]
    ]
    problems += [
        f"Faktury z awarii całkowitej: {one['count']}. Nie wysyła się ich do KSeF; anuluj je (ksefbuffer queue cancel) "
        "albo, jeśli mają być wysłane po awarii, ponów (ksefbuffer queue retry)."
        for one in ends
        if one["mode"] == Mode.TOTAL
    ]
    return problems


def _last_contact(seen: Overview, last_pull: str | None) -> dict[str, Any]:
    if seen.ksef is not None:
        told, at = seen.ksef
        return {"available": bool(told["ok"]), "message": told["message"], "as_of": answers.moment(at)}
    if last_pull is not None:
        return {"available": True, "message": "KSeF odpowiada", "as_of": last_pull}
    return {"available": None, "message": None, "as_of": None}


def iso_moment(iso: str) -> str | None:
    return answers.moment(datetime.fromisoformat(iso))


def _pulled(config: Config, seen: Overview) -> dict[str, Any]:
    """How the pulling of received invoices stands; ``last_pull`` is when the role that is furthest behind was last up
    to date."""
    if not config.incoming.enabled:
        return {
            "enabled": False,
            "last_pull": None,
            "foreign_sales": 0,
            "subjects": [],
            "files_due": 0,
            "recount": {},
            "problems": [],
        }
    subjects = seen.pull[0]["subjects"] if seen.pull else []
    caught_up = [state["caught_up_at"] for state in subjects]
    problems = [
        f"Pobieranie faktur ({SUBJECTS[state['subject']]}): {state['problem']}"
        for state in subjects
        if state["problem"]
    ]
    debts = seen.incoming_trouble[0].get("invoices", []) if seen.incoming_trouble else []
    if debts:
        first = debts[0]
        problems.append(
            f"Faktur, których nie udało się poprawnie pobrać: {len(debts)}, np. {first['ksef_number']} "
            f"({first['reason']}). Bufor próbuje codziennie."
        )
    recount = seen.recount[0] if seen.recount else {}
    if seen.filing and seen.filing[0]["message"]:
        problems.append(seen.filing[0]["message"])
    if seen.file_error:
        problems.append(f"Plików faktur przychodzących do zapisania: {seen.files_due} ({seen.file_error}).")
    handing = seen.hand_over[0]["message"] if seen.hand_over and config.table.enabled else ""
    if handing:
        problems.append(f"Przekazywanie faktur przychodzących do ERP: {handing}")
    return {
        "enabled": True,
        "last_pull": iso_moment(min(caught_up)) if caught_up and all(caught_up) else None,
        "foreign_sales": sum(int(told.get("foreign_count") or 0) for told in recount.values()),
        "subjects": subjects,
        "files_due": seen.files_due,
        "recount": recount,
        "problems": problems,
    }


def told_certificate(fact: Any) -> dict[str, Any] | None:
    """What the worker says of the certificate we log in with, for ``status_facts``; None while it has said nothing.

    ``fact``: the value of the fact "certificates", a list of {"purpose", "status", "days_left", "subject", …}.
    """
    for one in fact if isinstance(fact, list) else ():
        if isinstance(one, dict) and one.get("purpose") == "auth":
            return {key: one.get(key) for key in ("subject", "expires_at", "days_left", "problem")}
    return None
