"""``status``: one screen about the buffer."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Any

import click

from ksefbuffer.commands.base import Settings, as_json_option, pass_settings
from ksefbuffer.config import Config
from ksefbuffer.erp import answers
from ksefbuffer.erp.standing import SUBJECTS, iso_moment, status_facts
from ksefbuffer.errors import ConfigurationFault, CredentialFault
from ksefbuffer.identity.chosen import CONFIGURING, WORKING, standing, stored_choice
from ksefbuffer.identity.material import load_credential
from ksefbuffer.identity.neighbours import Kept
from ksefbuffer.queue import credentials, overview, webhooks
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
        told = webhooks.standing(tx)
    by_kept = kept is not None and not config.auth.has_key and config.auth.method == "certificate"
    certificate = _kept_certificate(kept, now) if kept is not None and by_kept else _certificate(config, now)
    facts = status_facts(config, seen, told, certificate, running=worker_is_running(database), now=now)
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False, indent=2))
    else:
        _print_status(settings, facts)
    sys.exit(0 if facts["healthy"] else 1)


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
                        f"{SUBJECTS[state['subject']]}: {until} {iso_moment(state['estimate'])}",
                    )
                )
        if facts["incoming"]["foreign_sales"]:
            rows.append((say("Wystawione poza buforem", "Issued elsewhere"), str(facts["incoming"]["foreign_sales"])))
    rows.append((say("UPO do pobrania", "UPOs to fetch"), str(facts["upo_waiting"])))
    rows.append((say("Odpowiedzi do doręczenia", "Answers to deliver"), str(facts["answers"]["due"])))
    if facts["webhooks"]["due"] or facts["webhooks"]["given_up"]:
        given_up = facts["webhooks"]["given_up"]
        rows.append(
            (
                say("Webhooki do doręczenia", "Webhooks to deliver"),
                str(facts["webhooks"]["due"]) + (say(f", zaniechane: {given_up}", f", given up: {given_up}")),
            )
        )
    stays = say("W inboxie zostaje", "Stays in the inbox")
    rows += [(stays, f"{name}: {reason}") for name, reason in facts["inbox"]["passed_over"].items()]
    width = max(len(label) for label, _ in rows)
    for label, text in rows:
        click.echo(f"{label:<{width}}  {text}")
    for problem in facts["problems"]:
        click.echo(f"! {problem}")
