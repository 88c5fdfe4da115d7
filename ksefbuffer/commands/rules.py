"""``rules``: where received invoices go, and why."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ksefbuffer.commands.base import Settings, actor, as_json_option, pass_settings, progress_bar
from ksefbuffer.config import Config
from ksefbuffer.erp.files import shown, write_whole
from ksefbuffer.errors import ConfigurationFault
from ksefbuffer.invoice.received import read_received
from ksefbuffer.queue import incoming, pulls
from ksefbuffer.queue.db import Database
from ksefbuffer.receiver.rulebook import read_rulebook, write_rulebook
from ksefbuffer.receiver.rules import Facts, explain, file
from ksefbuffer.receiver.stock import STANDARD, Change, Folders, Rules, Stock, bring_in, roles_in
from ksefbuffer.receiver.storelist import read_stores_csv
from ksefbuffer.receiver.verdict import NoArchive, judge

_AT_ONCE = 100
_OUTCOMES = {
    "matched": ("pasuje", "matches"),
    "failed": ("nie pasuje", "does not match"),
    "unfilled": ("brak danych do nazwy katalogu", "lacks what its target names"),
    "disabled": ("wyłączona", "switched off"),
    "not reached": ("już nie sprawdzana", "not asked any more"),
}


@click.group()
def rules() -> None:
    """Reguły: do którego katalogu trafia faktura przychodząca i dlaczego."""


def rulebook_in_force(settings: Settings) -> Rules:
    """The rules of the buffer's database; the standard ones where there is no database yet."""
    config = settings.config
    found = Rules(config.nip, config.environment)
    sqlite_file = config.database.sqlite_file
    if sqlite_file is not None and not sqlite_file.exists():
        found.use(STANDARD, 0)
    else:
        with settings.database().reading() as tx:
            found.refresh(tx)
    return found


@rules.command("test")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--rules",
    "toml",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Reguły z tego pliku zamiast obowiązujących.",
)
@as_json_option
@pass_settings
def rules_test(settings: Settings, files: Sequence[Path], toml: Path | None, as_json: bool) -> None:
    """Mówi, do którego katalogu trafiłby dokument i dlaczego; niczego nie zapisuje."""
    in_force = rulebook_in_force(settings)
    if toml is not None:
        in_force.use(read_rulebook(_text(toml)), 0)
    results = [_tested(settings, path, in_force) for path in files]
    if as_json:
        click.echo(json.dumps(results, ensure_ascii=False, indent=2))
    else:
        for result in results:
            _print_tested(settings, result)


def _tested(settings: Settings, path: Path, in_force: Rules) -> dict[str, Any]:
    config, rulebook = settings.config, in_force.rulebook
    received = read_received(_bytes(path))
    store = rulebook.stores.find(received, rulebook.vocabulary)
    verdict = judge(received, None, in_force.knowledge, NoArchive(), now=settings.now(), store=store)
    facts = Facts(our_nip=config.nip, roles=roles_in(received, config.nip), verdict=verdict.verdict, store=store)
    return {
        "file": shown(str(path)),
        **file(received, facts, rulebook).as_json(),
        "roles": sorted(facts.roles),
        **verdict.as_json(),
        "damage": list(received.damage),
        "rules": [
            {
                "rule": trace.rule,
                "outcome": trace.outcome,
                "decides": trace.decides,
                "condition": trace.condition,
                "seen": list(trace.seen),
            }
            for trace in explain(received, facts, rulebook)
        ],
    }


def _print_tested(settings: Settings, result: dict[str, Any]) -> None:
    say = settings.say
    click.echo(f"{result['file']}: {result['folder']}")
    if result["tags"]:
        click.echo(f"  {say('etykiety', 'tags')}: {', '.join(result['tags'])}")
    for reason in result["reasons"]:
        value = f" = {reason['value']} ({reason['where']})" if reason["value"] else ""
        click.echo(f"  {say('bo', 'because')} „{reason['rule']}”: {reason['condition']}{value}")
    for trace in result["rules"]:
        if trace["outcome"] != "matched":
            seen = (
                f"; {say('jest', 'seen')}: {', '.join(trace['seen'][:5]) or '-'}"
                if trace["outcome"] == "failed"
                else ""
            )
            why = f": {trace['condition']}{seen}" if trace["condition"] else ""
            click.echo(f"  {say('reguła', 'rule')} „{trace['rule']}” {say(*_OUTCOMES[trace['outcome']])}{why}")
    click.echo(f"  {say('ocena', 'verdict')}: {result['verdict']}")
    for fired in result["fired"]:
        click.echo(f"    {fired['code']} {fired['message']}")


@rules.command("apply")
@click.option("--dry-run", is_flag=True, help="Tylko wypisz, co by się zmieniło.")
@as_json_option
@pass_settings
def rules_apply(settings: Settings, dry_run: bool, as_json: bool) -> None:
    """Układa wszystkie faktury przychodzące od nowa według obowiązujących reguł."""
    database, now = settings.database(), settings.now()
    stock = stock_of(settings.config, database)
    plan: Folders | None = {} if dry_run else None
    changes: list[dict[str, Any]] = []
    with database.reading() as tx:
        whole = incoming.count(tx)
    done, after = 0, 0
    with progress_bar(settings.say("Układanie", "Filing")) as grows:
        while True:
            with database.reading() as tx:
                keys = incoming.keys_of(tx, after=after, limit=_AT_ONCE)
            if not keys:
                break
            changes += [_change(one) for one in stock.refile(keys, at=now, actor=actor(), plan=plan)]
            after, done = keys[-1], done + len(keys)
            grows(done, whole)
    if as_json:
        click.echo(
            json.dumps({"dry_run": dry_run, "looked_at": done, "changes": changes}, ensure_ascii=False, indent=2)
        )
        return
    for change in changes:
        click.echo(f"{change['ksef_number']}: {_words(change['before'])} → {_words(change['after'])}")
    say = settings.say
    click.echo(
        say(f"Przejrzano {done}, zmian: {len(changes)}.", f"Looked at {done}, changes: {len(changes)}.")
        + (say(" Niczego nie zmieniono (--dry-run).", " Nothing was changed (--dry-run).") if dry_run else "")
    )


def _change(one: Change) -> dict[str, Any]:
    def told(state: tuple[str, tuple[str, ...], str]) -> dict[str, Any]:
        return {"folder": state[0], "tags": list(state[1]), "verdict": state[2]}

    return {"ksef_number": one.ksef_number, "before": told(one.before), "after": told(one.after)}


def _words(state: dict[str, Any]) -> str:
    tags = f" [{', '.join(state['tags'])}]" if state["tags"] else ""
    return f"{state['folder']}{tags} ({state['verdict']})"


@rules.command("import")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--note", default="", help="Uwaga do historii wersji.")
@pass_settings
def rules_import(settings: Settings, path: Path, note: str) -> None:
    """Wczytuje reguły, katalogi i sklepy z pliku TOML jako nową, obowiązującą wersję."""
    _bring(settings, settings.database(), _text(path), note or shown(path.name))


@rules.command("export")
@click.argument("path", metavar="[FILE]", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--version", type=click.IntRange(1), help="Starsza wersja (domyślnie obowiązująca).")
@pass_settings
def rules_export(settings: Settings, path: Path | None, version: int | None) -> None:
    """Wypisuje reguły jako TOML, na ekran albo do pliku."""
    with settings.database().reading() as tx:
        kept = pulls.rulebook(tx, version)
    if kept is None and version is not None:
        raise ConfigurationFault(
            f"Nie ma wersji {version} reguł.", action="Bez --version wypisana będzie obowiązująca."
        )
    text = kept.content if kept is not None else write_rulebook(STANDARD)
    if path is None:
        click.echo(text, nl=False)
        return
    try:
        write_whole(path, text.encode())
    except OSError as error:
        raise ConfigurationFault(f"Nie można zapisać {path}: {error.strerror}.", action="Sprawdź folder.") from error


@rules.command("stores")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@pass_settings
def rules_stores(settings: Settings, path: Path) -> None:
    """Wczytuje rejestr sklepów z pliku CSV (numer, nazwa, GLN, adres, IDWew, otwarty od, do) w miejsce obecnego."""
    database = settings.database()
    register = read_stores_csv(_bytes(path))
    with database.reading() as tx:
        kept = pulls.rulebook(tx)
    rulebook = read_rulebook(kept.content) if kept is not None else STANDARD
    _bring(settings, database, write_rulebook(replace(rulebook, stores=register)), shown(path.name))
    click.echo(settings.say(f"Sklepów: {len(register.stores)}.", f"Stores: {len(register.stores)}."))


def _bring(settings: Settings, database: Database, text: str, note: str) -> None:
    config = settings.config
    version = bring_in(
        database, text, nip=config.nip, environment=config.environment, at=settings.now(), actor=actor(), note=note
    )
    say = settings.say
    click.echo(say(f"Reguły w wersji {version} obowiązują.", f"Rules of version {version} are in force."))
    click.echo(
        say(
            "Faktury już pobrane ułoży od nowa: ksefbuffer rules apply (najpierw z --dry-run).",
            "To file what is there anew: ksefbuffer rules apply (first with --dry-run).",
        )
    )


def stock_of(config: Config, database: Database) -> Stock:
    """What stores and files received invoices of this buffer."""
    return Stock(database, Rules(config.nip, config.environment), config.incoming.since, rows=config.table.enabled)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationFault(f"Pliku {shown(str(path))} nie można odczytać: {error.strerror}.") from error


def _text(path: Path) -> str:
    try:
        return _bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationFault(
            f"{shown(str(path))} nie jest zapisany w UTF-8.", action="Zapisz plik w kodowaniu UTF-8."
        ) from error
