"""``notify``: whether the configured addresses take messages."""

from __future__ import annotations

import sys

import click

from ksefbuffer.commands.base import Settings, pass_settings
from ksefbuffer.errors import ConfigurationFault
from ksefbuffer.notify.places import places_of

_UNREACHABLE = 3


@click.group()
def notify() -> None:
    """Powiadomienia dla ludzi."""


@notify.command()
@pass_settings
def test(settings: Settings) -> None:
    """Wysyła próbną wiadomość na każdy adres i mówi, który jej nie przyjął."""
    from ksefbuffer.notify import sending

    config, say = settings.config, settings.say
    if not config.notify.urls:
        raise ConfigurationFault(
            "Nie podano żadnego adresu powiadomień.", action='Dopisz go w [notify] urls, np. "mailto://…".'
        )
    failed = 0
    for place, url in places_of(config.notify.urls).items():
        reason = sending.send(
            url,
            f"ksefbuffer NIP {config.nip}: wiadomość próbna",
            "Tędy bufor będzie powiadamiał o tym, co wymaga uwagi. Nic nie trzeba robić.",
            "info",
        )
        failed += bool(reason)
        click.echo(f"{place}: {reason or say('przyjęto', 'taken')}")
    sys.exit(_UNREACHABLE if failed else 0)
