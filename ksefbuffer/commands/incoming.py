"""``incoming``: received invoices."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from ksefbuffer.commands.base import Settings, actor, as_json_option, pass_settings, progress_bar
from ksefbuffer.erp import answers
from ksefbuffer.erp.standing import SUBJECTS
from ksefbuffer.errors import ConfigurationFault, NotAllowedNow
from ksefbuffer.queue import facts, pauses
from ksefbuffer.queue import incoming as stored
from ksefbuffer.queue.db import Database, worker_is_running
from ksefbuffer.queue.incoming import Wanted

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


_PHASES = {
    "waiting": ("czeka", "waiting"),
    "listing": ("pyta KSeF", "asking KSeF"),
    "downloading": ("pobiera faktury", "downloading invoices"),
    "preparing": ("KSeF przygotowuje paczkę", "KSeF makes a package"),
    "fetching": ("pobiera części paczki", "fetching parts"),
    "storing": ("zapisuje faktury", "storing invoices"),
}
_WANTED = "pull_wanted"
_ASKED_EVERY_S = 0.5


@incoming.command("pull")
@click.option("--subject", "subjects", multiple=True, type=click.Choice(list(SUBJECTS)), help="Tylko w tej roli.")
@as_json_option
@pass_settings
def incoming_pull(settings: Settings, subjects: Sequence[str], as_json: bool) -> None:
    """Pobiera teraz, od miejsca ostatniego pobrania; pokazuje postęp."""
    config, asked_at = settings.config, settings.now()
    if not config.incoming.enabled:
        raise ConfigurationFault("Pobieranie jest wyłączone.", action="Ustaw [incoming] enabled = true.")
    unknown = sorted(set(subjects) - set(config.incoming.subjects))
    if unknown:
        raise ConfigurationFault(
            f"Tej roli nie ma w ustawieniach: {', '.join(unknown)}.", action="Dodaj ją do [incoming] subjects."
        )
    wanted = list(subjects or config.incoming.subjects)
    database = settings.database()
    with database.reading() as tx:
        before = stored.count(tx)
    with database.transaction() as tx:
        facts.put(tx, _WANTED, {"at": asked_at.isoformat(), "subjects": wanted}, at=asked_at)
    show = _Shown(settings, quiet=as_json)
    if worker_is_running(database):
        states = _watch(settings, database, wanted, asked_at, show)
    else:
        states = _pull_here(settings, database, wanted, show)
    with database.reading() as tx:
        new = stored.count(tx) - before
    problems = [f"{SUBJECTS[state['subject']]}: {state['problem']}" for state in states if state["problem"]]
    held_up = _held_up(database, settings.now())
    problems += [held_up] if held_up else []
    if as_json:
        click.echo(json.dumps({"new": new, "subjects": states, "problems": problems}, ensure_ascii=False, indent=2))
    else:
        click.echo(settings.say(f"Nowych faktur: {new}.", f"New invoices: {new}."))
        for problem in problems:
            click.echo(f"! {problem}")
    sys.exit(3 if problems else 0)


def _states(database: Database, wanted: Sequence[str]) -> list[dict[str, Any]]:
    with database.reading() as tx:
        told = facts.get(tx, "pull")
    return [state for state in (told[0]["subjects"] if told else []) if state["subject"] in wanted]


def _held_up(database: Database, now: datetime) -> str | None:
    """Why nothing is pulled just now, when it is KSeF as a whole that cannot be asked."""
    with database.reading() as tx:
        pause = pauses.known(tx, pauses.INCOMING)
    return f"{pause.message} {pause.action}".strip() if pause is not None and pause.until > now else None


def _is_through(state: dict[str, Any], asked_at: datetime, now: datetime) -> bool:
    """Whether nothing more comes of the asking: caught up since (or a moment before), or held up for a while."""
    caught_up = state["caught_up_at"] and datetime.fromisoformat(state["caught_up_at"]) >= asked_at - timedelta(
        minutes=1
    )
    held_up = state["problem"] and datetime.fromisoformat(state["next_at"]) > now + timedelta(seconds=5)
    return state["phase"] == "waiting" and bool(caught_up or held_up)


def _watch(
    settings: Settings, database: Database, wanted: Sequence[str], asked_at: datetime, show: _Shown
) -> list[dict[str, Any]]:
    """The running buffer pulls; this only looks on."""
    while True:
        states = _states(database, wanted)
        show(states)
        with database.reading() as tx:
            heard = facts.get(tx, _WANTED) is None
        now = settings.now()
        through = len(states) == len(wanted) and all(_is_through(one, asked_at, now) for one in states)
        if heard and (through or _held_up(database, now)):
            return states
        if not worker_is_running(database):
            raise NotAllowedNow("Bufor zakończył pracę w trakcie pobierania.", action="Powtórz polecenie.")
        threading.Event().wait(_ASKED_EVERY_S)


def _pull_here(settings: Settings, database: Database, wanted: Sequence[str], show: _Shown) -> list[dict[str, Any]]:
    """No buffer runs, so this process is one for as long as it takes."""
    from ksefbuffer import worker

    with database.sole_worker():
        buffer = worker.assemble(settings.config, database=database, environ=os.environ)
        try:
            asked_at = settings.now()
            buffer.dispatch.figures.recall(asked_at)
            worker.prepare_receiving(buffer)
            receiving = buffer.receiving
            while True:
                more = receiving.pull.step()
                states = _states(database, wanted)
                show(states)
                if more:
                    continue
                now = settings.now()
                through = len(states) == len(wanted) and all(_is_through(one, asked_at, now) for one in states)
                if through or _held_up(database, now):
                    break
                due = receiving.pull.next_due or now
                threading.Event().wait(min(max((due - now).total_seconds(), 0.05), _ASKED_EVERY_S))
            while receiving.filing.step(settings.now()) or (
                receiving.hand_over is not None and receiving.hand_over.step(settings.now())
            ):
                pass
            return states
        finally:
            buffer.close()


class _Shown:
    """Progress in one line of a terminal's stderr; silent elsewhere."""

    def __init__(self, settings: Settings, *, quiet: bool) -> None:
        self._settings = settings
        self._quiet = quiet or not sys.stderr.isatty()
        self._last = ""

    def __call__(self, states: Sequence[dict[str, Any]]) -> None:
        if self._quiet:
            return
        busy = [state for state in states if state["phase"] != "waiting"]
        line = ", ".join(
            f"{SUBJECTS[state['subject']]}: {self._settings.say(*_PHASES[state['phase']])}"
            + (f" {state['done']}/{state['total']}" if state["total"] else "")
            for state in busy
        )
        if line != self._last:
            self._last = line
            click.echo(f"\r\033[K{line}", err=True, nl=False)


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
            f"{one.ksef_number}  {one.issue_date!s:<10}  {one.seller_nip:<10}  {one.invoice_number:<24}  "
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
    from ksefbuffer.receiver.bundle import write_bundle

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
