"""``incoming``: received invoices."""

from __future__ import annotations

import json
import sys
from datetime import date, datetime
from pathlib import Path
from typing import Any

import click

from ksefbuffer.commands.base import Settings, actor, as_json_option, pass_settings, progress_bar
from ksefbuffer.erp import answers
from ksefbuffer.queue import incoming as stored
from ksefbuffer.queue.incoming import Wanted
from ksefbuffer.receiver.bundle import write_bundle

_DAY = click.DateTime(["%Y-%m-%d"])
_VERDICTS = ("zasadna", "do wyjaśnienia", "niezasadna")
_DECISIONS = {
    "accepted": ("przyjęta", "accepted"),
    "rejected": ("odrzucona", "rejected"),
    "scam": ("oszustwo", "scam"),
}


@click.group()
def incoming() -> None:
    """Faktury przychodzące."""


def _selection(command: Any) -> Any:
    """The options that say which invoices are meant."""
    options = (
        click.option("--folder", default="", help="Tylko ten katalog i jego podkatalogi."),
        click.option("--since", type=_DAY, help="Wystawione od dnia (RRRR-MM-DD)."),
        click.option("--until", type=_DAY, help="Wystawione do dnia (RRRR-MM-DD)."),
        click.option("--verdict", type=click.Choice(_VERDICTS), help="Tylko z taką oceną."),
        click.option("--decision", type=click.Choice([*_DECISIONS, "none"]), help="Tylko z taką decyzją (none: bez)."),
        click.option("--search", default="", help="Początki słów: numer, sprzedawca, NIP, kwota, data, dostawa."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _wanted(
    folder: str, since: datetime | None, until: datetime | None, verdict: str | None, decision: str | None, search: str
) -> Wanted:
    def day(moment: datetime | None) -> date | None:
        return moment.date() if moment else None

    return Wanted(
        folder=folder.strip("/"),
        since=day(since),
        until=day(until),
        verdict=verdict or "",
        decision=decision or "",
        words=search,
    )


@incoming.command("list")
@_selection
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
@as_json_option
@pass_settings
def incoming_list(settings: Settings, /, limit: int, as_json: bool, **selection: Any) -> None:
    """Lista od ostatnio pobranych."""
    with settings.database().reading() as tx:
        found = stored.listing(tx, _wanted(**selection), limit=limit)
    if as_json:
        click.echo(json.dumps([answers.incoming_object(one) for one in found], ensure_ascii=False, indent=2))
        return
    for one in found:
        amount = f"{one.gross:.2f} {one.currency}" if one.gross is not None else "-"
        click.echo(
            f"{one.ksef_number}  {one.issue_date or '-':<10}  {one.seller_nip:<10}  {one.invoice_number:<24}  "
            f"{amount:>16}  {one.verdict:<14}  {one.folder}"
        )
    if not found:
        click.echo(settings.say("Nie ma takich faktur.", "No such invoices."))


@incoming.command("show")
@click.argument("ksef_number", metavar="KSEF_NUMBER")
@click.option("--xml", is_flag=True, help="Wypisz sam plik XML, bajt w bajt.")
@as_json_option
@pass_settings
def incoming_show(settings: Settings, ksef_number: str, xml: bool, as_json: bool) -> None:
    """Wszystko o jednej fakturze: gdzie leży, dlaczego, ocena i historia."""
    with settings.database().reading() as tx:
        one = stored.find(tx, ksef_number)
        content = stored.content(tx, one.id) if xml else b""
        history = stored.history(tx, one.id)
    if xml:
        sys.stdout.buffer.write(content)
        return
    whole = answers.incoming_object(one)
    whole["events"] = [{**event, "at": answers.moment(event["at"])} for event in history]
    if as_json:
        click.echo(json.dumps(whole, ensure_ascii=False, indent=2))
        return
    for key, value in whole.items():
        if key not in ("reasons", "findings", "events") and value not in (None, [], ""):
            click.echo(f"{key}: {', '.join(value) if isinstance(value, list) else value}")
    for reason in whole["reasons"]:
        value = f" = {reason['value']} ({reason['where']})" if reason["value"] else ""
        click.echo(f"{settings.say('bo', 'because')} „{reason['rule']}”: {reason['condition']}{value}")
    for fired in whole["findings"]:
        click.echo(f"{fired['code']} {fired['message']}")
    for event in whole["events"]:
        click.echo(f"{event['at']}  {event['event']:<8}  {event['actor']}  {event['note']}")


@incoming.command("decide")
@click.argument("ksef_number", metavar="KSEF_NUMBER")
@click.argument("decision", type=click.Choice(list(_DECISIONS)))
@click.option("--comment", default="", help="Uwaga do decyzji.")
@pass_settings
def incoming_decide(settings: Settings, ksef_number: str, decision: str, comment: str) -> None:
    """Zapisuje decyzję o fakturze. Zostaje w buforze: KSeF nie zna odmowy przyjęcia faktury."""
    with settings.database().transaction() as tx:
        one = stored.find(tx, ksef_number)
        rows = settings.config.table.enabled
        stored.decide(tx, one, decision, comment, at=settings.now(), actor=actor(), row=rows)
    click.echo(f"{one.ksef_number}: {settings.say(*_DECISIONS[decision])}")


@incoming.command("export")
@click.argument("path", metavar="FILE.zip", type=click.Path(path_type=Path, dir_okay=False))
@_selection
@pass_settings
def incoming_export(settings: Settings, /, path: Path, **selection: Any) -> None:
    """Zapisuje wybrane faktury w pliku ZIP ze spisem CSV i numerami KSeF."""
    with progress_bar(settings.say("Pakowanie", "Packing")) as grows:
        count = write_bundle(settings.database(), _wanted(**selection), path, progress=grows)
    click.echo(settings.say(f"Zapisano {path}: {count} faktur.", f"Wrote {path}: {count} invoices."))


@incoming.command("rebuild")
@pass_settings
def incoming_rebuild(settings: Settings) -> None:
    """Zleca zapisanie od nowa wszystkich plików w katalogach; pliki tworzy pracujący bufor."""
    with settings.database().transaction() as tx:
        count = stored.file_all_again(tx, at=settings.now())
    click.echo(
        settings.say(
            f"Do zapisania od nowa: {count} plików; zrobi to pracujący bufor (ksefbuffer run).",
            f"To be written anew: {count} files; the running buffer does it (ksefbuffer run).",
        )
    )
