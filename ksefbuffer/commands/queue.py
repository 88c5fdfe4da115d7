"""``queue``: outgoing documents."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click

from ksefbuffer.commands.base import Settings, actor, as_json_option, pass_settings
from ksefbuffer.config import Config
from ksefbuffer.erp import answers, submit
from ksefbuffer.erp.delivery import document_object, shown_verification_url
from ksefbuffer.erp.files import shown, text_as_name
from ksefbuffer.errors import NoSuchThing, NotAllowedNow
from ksefbuffer.invoice.precheck import CheckContext
from ksefbuffer.queue import deliveries, documents, pauses
from ksefbuffer.queue.documents import Document
from ksefbuffer.queue.states import State


@click.group()
def queue() -> None:
    """Dokumenty wychodzące."""


@queue.command("list")
@click.option(
    "--status", "states", multiple=True, type=click.Choice([str(state) for state in State]), help="Tylko w tym stanie."
)
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
@as_json_option
@pass_settings
def queue_list(settings: Settings, states: Sequence[str], limit: int, as_json: bool) -> None:
    """Lista od najnowszych."""
    database = settings.database()
    with database.reading() as tx:
        found = documents.listing(tx, states=[State(state) for state in states], limit=limit)
        objects = [whole_object(settings.config, tx, document, settings.now()) for document in found]
    if as_json:
        click.echo(json.dumps(objects, ensure_ascii=False, indent=2))
        return
    for shown_object in objects:
        state = shown_object["status_pl"] if settings.lang == "pl" else shown_object["status"]
        click.echo(
            f"{shown_object['document_id']}  {state:<24}  {shown_object['invoice_number'] or '-':<24}  "
            f"{shown_object['ksef_number'] or '-':<36}  {shown(shown_object['source'])}"
        )
    if not objects:
        click.echo(settings.say("Nie ma takich dokumentów.", "No such documents."))


@queue.command("show")
@click.argument("document_id", metavar="ID")
@as_json_option
@pass_settings
def queue_show(settings: Settings, document_id: str, as_json: bool) -> None:
    """Wszystko o jednym dokumencie, z historią."""
    database = settings.database()
    with database.reading() as tx:
        document = documents.find(tx, document_id)
        whole = whole_object(settings.config, tx, document, settings.now())
        whole["arrivals"] = [
            {**place, "arrived_at": answers.moment(place["arrived_at"])} for place in documents.places(tx, document.id)
        ]
        whole["events"] = [{**event, "at": answers.moment(event["at"])} for event in documents.history(tx, document.id)]
    if as_json:
        click.echo(json.dumps(whole, ensure_ascii=False, indent=2))
        return
    for key, value in whole.items():
        if key not in ("events", "arrivals", "errors", "warnings") and value not in (None, {}):
            click.echo(f"{key}: {value}")
    for kind in ("errors", "warnings"):
        for finding in whole[kind]:
            click.echo(f"{finding['code']}: {finding['message']}")
            for detail in finding["details"]:
                click.echo(f"    {detail}")
            if finding["hint"]:
                click.echo(f"    → {finding['hint']}")
    for event in whole["events"]:
        move = f"{event['from_state'] or '':>10} → {event['to_state']:<10}"
        click.echo(f"{event['at']}  {move}  {event['actor']}  {event['note']}")


@queue.command("retry")
@click.argument("document_ids", metavar="ID...", nargs=-1, required=True)
@pass_settings
def queue_retry(settings: Settings, document_ids: Sequence[str]) -> None:
    """Ponawia dokumenty w stanie błąd albo niepowodzenie."""
    database, config = settings.database(), settings.config
    refused = False
    for document_id in document_ids:
        context = CheckContext(nip=config.nip, environment=config.environment, now=settings.now())
        try:
            document = submit.retry(database, document_id, context, actor=actor())
        except (NoSuchThing, NotAllowedNow) as fault:
            refused = True
            click.echo(str(fault), err=True)
            continue
        if document.state is State.ERROR:
            refused = True
            click.echo(settings.say(f"{document.document_id}: nadal błąd", f"{document.document_id}: still an error"))
            for error in document.errors:
                click.echo(f"  {error['code']}: {error['message']}")
        else:
            click.echo(settings.say(f"{document.document_id}: oczekuje", f"{document.document_id}: queued"))
    sys.exit(1 if refused else 0)


@queue.command("cancel")
@click.argument("document_id", metavar="ID")
@pass_settings
def queue_cancel(settings: Settings, document_id: str) -> None:
    """Wycofuje dokument, którego KSeF nie ma."""
    document = submit.cancel(settings.database(), document_id, now=settings.now(), actor=actor())
    click.echo(settings.say(f"{document.document_id}: anulowano", f"{document.document_id}: cancelled"))


def whole_object(config: Config, tx: Any, document: Document, now: datetime) -> dict[str, Any]:
    arrival = deliveries.first_arrival(tx, document.id)
    name = text_as_name(arrival.answer_name) if arrival else ""
    whole = document_object(
        document,
        arrival,
        held_back=pauses.active(tx, now),
        upo_file=f"{shown(name)}.upo.xml" if document.has_upo else None,
        verification_url=shown_verification_url(document, config.ksef.qr_url),
    )
    whole["source"] = shown(text_as_name(arrival.place)) if arrival else ""
    return whole
