"""``status``: one screen about the buffer."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Any

import click

from ksefbuffer.commands.base import SUBJECTS, Settings, as_json_option, pass_settings
from ksefbuffer.commands.offline import deadline_object
from ksefbuffer.config import Config
from ksefbuffer.erp import answers
from ksefbuffer.errors import ConfigurationFault, CredentialFault
from ksefbuffer.identity.chosen import CONFIGURING, WORKING, standing, stored_choice
from ksefbuffer.identity.material import load_credential
from ksefbuffer.identity.neighbours import Kept
from ksefbuffer.offline.modes import Mode
from ksefbuffer.queue import credentials, overview, pauses, terms
from ksefbuffer.queue.db import worker_is_running


@click.command()
@as_json_option
@pass_settings
def status(settings: Settings, as_json: bool) -> None:
    """Jeden ekran: KSeF, certyfikat, kolejka, najstarsza czekająca, przerwy."""
    config, now = settings.config, settings.now()
    database = settings.database()
    with database.reading() as tx:
        seen = overview.overview(tx, now)
        kept = stored_choice("auth", credentials.all_kept(tx))
        ends = [deadline_object(term, now) for term in terms.summary(tx)]
        mode = terms.told(tx)
    facts = _status_facts(config, seen, kept, ends, mode, running=worker_is_running(database), now=now)
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False, indent=2))
    else:
        _print_status(settings, facts)
    sys.exit(0 if facts["healthy"] else 1)


def _status_facts(
    config: Config,
    seen: overview.Overview,
    kept: Kept | None,
    ends: list[dict[str, Any]],
    mode: dict[str, Any] | None,
    *,
    running: bool,
    now: datetime,
) -> dict[str, Any]:
    problems: list[str] = []
    if not running:
        problems.append("Bufor nie pracuje (uruchom: ksefbuffer run).")
    pauses_now = [
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
        f"{p['message']} {p['action']}".strip()
        for p in pauses_now
        if not str(p["scope"]).startswith(("limit:", "batch:"))
    ]
    if seen.answers_failing:
        problems.append(
            f"Odpowiedzi, których nie udało się doręczyć: {seen.answers_failing} ({seen.last_answer_error})."
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
    by_kept = kept is not None and not config.auth.has_key and config.auth.method == "certificate"
    certificate = _kept_certificate(kept, now) if kept is not None and by_kept else _certificate(config, now)
    if certificate and certificate["problem"]:
        problems.append(certificate["problem"])
    passed_over = seen.passed_over[0] if seen.passed_over else {}
    table = seen.table[0] if seen.table and config.table.enabled else None
    if table and not table["ok"]:
        problems.append(table["message"])
    pulled = _pulled(config, seen)
    problems += pulled["problems"]
    problems += [
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
    held = [one for one in ends if one["mode"] == Mode.TOTAL]
    problems += [
        f"Faktury z awarii całkowitej: {one['count']}. Nie wysyła się ich do KSeF; anuluj je (ksefbuffer queue cancel) "
        "albo, jeśli mają być wysłane po awarii, ponów (ksefbuffer queue retry)."
        for one in held
    ]
    problems += [
        f"Powiadomienia nie docierają do {place['place']}: {place['message']}"
        for place in (seen.notify[0]["places"] if seen.notify else [])
        if not place["ok"]
    ]
    if mode is not None and mode["signing"] and (mode["mode"] or config.offline.has_key):
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
        "certificate": certificate,
        "queue": seen.counts,
        "oldest_waiting_at": answers.moment(seen.oldest_waiting),
        "next_attempt_at": answers.moment(seen.next_attempt),
        "pauses": pauses_now,
        "limits": {"as_of": answers.moment(seen.limits[1]) if seen.limits else None, "groups": limits},
        "stuck": {"count": seen.stuck, "since": answers.moment(seen.stuck_since)},
        "open_sessions": seen.open_sessions,
        "upo_waiting": seen.upos_due,
        "answers": {"due": seen.answers_due, "failing": seen.answers_failing, "last_error": seen.last_answer_error},
        "inbox": {"path": str(config.inbox.path), "passed_over": passed_over},
        "table": table,
        "offline": mode,
        "deadlines": ends,
        "last_pull": pulled["last_pull"],
        "incoming": pulled,
    }


def _last_contact(seen: overview.Overview, last_pull: str | None) -> dict[str, Any]:
    if seen.ksef is not None:
        told, at = seen.ksef
        return {"available": bool(told["ok"]), "message": told["message"], "as_of": answers.moment(at)}
    if last_pull is not None:
        return {"available": True, "message": "KSeF odpowiada", "as_of": last_pull}
    return {"available": None, "message": None, "as_of": None}


def _moment(iso: str) -> str | None:
    return answers.moment(datetime.fromisoformat(iso))


def _pulled(config: Config, seen: overview.Overview) -> dict[str, Any]:
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
        "last_pull": _moment(min(caught_up)) if caught_up and all(caught_up) else None,
        "foreign_sales": sum(int(told.get("foreign_count") or 0) for told in recount.values()),
        "subjects": subjects,
        "files_due": seen.files_due,
        "recount": recount,
        "problems": problems,
    }


def _certificate(config: Config, now: datetime) -> dict[str, Any] | None:
    """The login certificate as ``status`` shows it; None with a token, or before the sandbox's own is made."""
    auth = config.auth
    if auth.method == "token":
        return None
    certificate = auth.certificate or config.data_dir / "sandbox-auth.crt"
    private_key = auth.private_key or config.data_dir / "sandbox-auth.key"
    if auth.pkcs12 is None and config.environment == "sandbox" and not certificate.exists():
        return None
    try:
        credential = load_credential(
            certificate=None if auth.pkcs12 else certificate,
            private_key=None if auth.pkcs12 else private_key,
            pkcs12=auth.pkcs12,
            password=auth.read_private_key_password(),
        )
    except (CredentialFault, ConfigurationFault) as fault:
        return {"subject": None, "expires_at": None, "days_left": None, "problem": str(fault)}
    try:
        credential.check_login(now)
        problem = None
    except CredentialFault as fault:
        problem = str(fault)
    return {
        "subject": credential.subject,
        "expires_at": answers.moment(credential.expires_at),
        "days_left": (credential.expires_at - now).days,
        "problem": problem,
    }


def _kept_certificate(kept: Kept, now: datetime) -> dict[str, Any]:
    stands = standing(kept, now)
    good = stands.status in (WORKING, CONFIGURING) or stands.status.startswith("wygasa")
    problem = None if good else f"Certyfikat do logowania w KSeF: {stands.status}. Sprawdź: ksefbuffer cert status."
    return {
        "subject": stands.subject,
        "expires_at": answers.moment(stands.valid_to),
        "days_left": stands.days_left,
        "problem": problem,
    }


def _print_status(settings: Settings, facts: dict[str, Any]) -> None:
    say = settings.say
    rows: list[tuple[str, str]] = [
        (say("Bufor", "Buffer"), f"NIP {facts['nip']}, {facts['environment']}"),
        (say("Pracuje", "Running"), say("tak", "yes") if facts["worker"]["running"] else say("NIE", "NO")),
    ]
    ksef = facts["ksef"]
    available = {
        True: say("dostępny", "available"),
        False: say("NIEDOSTĘPNY", "UNAVAILABLE"),
        None: say("jeszcze nie pytano", "not asked yet"),
    }
    rows.append(
        (
            "KSeF",
            f"{available[ksef['available']]}" + (f" ({ksef['message']}, {ksef['as_of']})" if ksef["as_of"] else ""),
        )
    )
    if facts["certificate"]:
        certificate = facts["certificate"]
        rows.append(
            (
                say("Certyfikat", "Certificate"),
                certificate["problem"]
                or say(
                    f"ważny jeszcze {certificate['days_left']} dni", f"valid for {certificate['days_left']} more days"
                ),
            )
        )
    counts = facts["queue"]
    names = {state: (answers.STATUS_PL[state] if settings.lang == "pl" else state) for state in counts}
    rows.append((say("Kolejka", "Queue"), ", ".join(f"{names[state]} {count}" for state, count in counts.items())))
    mode = facts["offline"]
    if mode is not None and mode["mode"]:
        rows.append((say("Tryb", "Mode"), f"{mode['mode']}: {mode['why']}"))
    by = say("Termin wysłania", "To be sent by")
    rows += [(by, f"{one['count']} × {one['mode']}: {one['left']}") for one in facts["deadlines"]]
    if mode is not None and mode["sending_takes_s"] is not None:
        minutes = -(-int(mode["sending_takes_s"]) // 60)
        rows.append((say("Wysłanie potrwa około", "Sending will take about"), f"{minutes} min"))
    rows.append((say("Najstarsza czeka od", "Oldest waiting since"), facts["oldest_waiting_at"] or "-"))
    rows += [
        (say("Wstrzymane do", "Paused until"), f"{p['until'] or say('odwołania', 'further notice')}: {p['message']}")
        for p in facts["pauses"]
    ]
    for group, usage in facts["limits"]["groups"].items():
        if usage["hour"] and usage["per_hour"] > 0:
            used = f"{group}: {usage['hour']}/{usage['per_hour']}"
            rows.append((say("Limit na godzinę", "Hourly limit"), used))
    if facts["incoming"]["enabled"]:
        rows.append((say("Ostatnie pobranie", "Last pull"), facts["last_pull"] or say("jeszcze nie", "not yet")))
        for state in facts["incoming"]["subjects"]:
            if state["estimate"]:
                until = say("koniec nadrabiania około", "caught up about")
                rows.append(
                    (
                        say("Pobieranie", "Pulling"),
                        f"{SUBJECTS[state['subject']]}: {until} {_moment(state['estimate'])}",
                    )
                )
        if facts["incoming"]["foreign_sales"]:
            rows.append((say("Wystawione poza buforem", "Issued elsewhere"), str(facts["incoming"]["foreign_sales"])))
    rows.append((say("UPO do pobrania", "UPOs to fetch"), str(facts["upo_waiting"])))
    rows.append((say("Odpowiedzi do doręczenia", "Answers to deliver"), str(facts["answers"]["due"])))
    stays = say("W inboxie zostaje", "Stays in the inbox")
    rows += [(stays, f"{name}: {reason}") for name, reason in facts["inbox"]["passed_over"].items()]
    width = max(len(label) for label, _ in rows)
    for label, text in rows:
        click.echo(f"{label:<{width}}  {text}")
    for problem in facts["problems"]:
        click.echo(f"! {problem}")
