"""``offline …``: which mode is in force, terms, and a person's word on it. Source: FACTS §10."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import click

from ksefbuffer.commands.base import Settings, actor, as_json_option, pass_settings
from ksefbuffer.erp.standing import deadline_object
from ksefbuffer.errors import NotAllowedNow
from ksefbuffer.offline.calendar import WARSAW, told
from ksefbuffer.offline.modes import Mode, legal_basis
from ksefbuffer.queue import terms

MODES = {
    "offline24": Mode.OFFLINE24,
    "niedostepnosc": Mode.UNAVAILABILITY,
    "awaria": Mode.FAILURE,
    "awaria-calkowita": Mode.TOTAL,
}


@click.group()
def offline() -> None:
    """Tryby offline: który obowiązuje, terminy, ogłoszenie i zakończenie trybu."""


@offline.command("status")
@as_json_option
@pass_settings
def offline_status(settings: Settings, as_json: bool) -> None:
    """Tryb, jego powód i terminy faktur, które nie mają numeru KSeF."""
    database, now = settings.database(), settings.now()
    with database.reading() as tx:
        mode = terms.told(tx) or {"mode": None, "since": None, "why": "Bufor jeszcze nie pracował.", "signing": ""}
        found = [deadline_object(term, now) for term in terms.summary(tx)]
        words = terms.declared(tx)
    if as_json:
        click.echo(json.dumps({**mode, "deadlines": found}, ensure_ascii=False, indent=2))
        return
    say = settings.say
    since = f" od {told(datetime.fromisoformat(mode['since']))}" if mode["since"] else ""
    click.echo(f"{say('Tryb', 'Mode')}: {mode['mode'] or 'online'}{since}")
    click.echo(mode["why"])
    if mode["mode"]:
        click.echo(f"{say('Podstawa', 'Legal basis')}: {legal_basis(Mode(mode['mode']))}")
    if mode["signing"]:
        click.echo(f"! {mode['signing']}")
    for one in found:
        click.echo(f"{one['count']} × {one['mode']}: {one['left']}. {one['why']}")
    if words:
        last = words[-1]
        click.echo(
            f"{say('Ostatnie ogłoszenie', 'Last declaration')}: {last.mode or say('koniec', 'end')}, "
            f"{told(last.since)}, {last.actor} {last.note}".rstrip()
        )


@offline.command("declare")
@click.argument("mode", type=click.Choice(sorted(MODES)))
@click.option("--since", type=click.DateTime(["%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"]), help="Od kiedy (czas polski).")
@click.option("--note", default="", help="Podstawa, np. numer komunikatu.")
@pass_settings
def offline_declare(settings: Settings, mode: str, since: datetime | None, note: str) -> None:
    """Ogłasza tryb; obowiązuje do polecenia offline end."""
    now = settings.now()
    from_when = now if since is None else since.replace(tzinfo=WARSAW).astimezone(UTC)
    if settings.config.offline.mode == "off":
        raise NotAllowedNow(
            "Tryby offline są wyłączone w ustawieniach.", action="Ustaw offline.mode na auto albo manual."
        )
    with settings.database().transaction() as tx:
        terms.declare(tx, MODES[mode], since=min(from_when, now), at=now, actor=actor(), note=note)
    click.echo(
        settings.say(
            f"Ogłoszono tryb „{MODES[mode]}” ({legal_basis(MODES[mode])}). Koniec: ksefbuffer offline end.",
            f"Mode “{MODES[mode]}” declared. To end it: ksefbuffer offline end.",
        )
    )


@offline.command("end")
@click.option("--note", default="", help="Podstawa, np. numer komunikatu.")
@pass_settings
def offline_end(settings: Settings, note: str) -> None:
    """Kończy tryb: obowiązuje praca online, dopóki nie ogłosi się innego albo KSeF znów nie zawiedzie."""
    now = settings.now()
    with settings.database().transaction() as tx:
        terms.declare(tx, None, since=now, at=now, actor=actor(), note=note)
    click.echo(settings.say("Tryb offline zakończony.", "The offline mode is ended."))
