"""``check``: the pre-check without sending."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from ksefbuffer.commands.base import Settings, as_json_option, pass_settings
from ksefbuffer.config import Config
from ksefbuffer.erp.files import shown
from ksefbuffer.errors import ConfigurationFault
from ksefbuffer.invoice.document import read_header
from ksefbuffer.invoice.findings import Finding, Severity
from ksefbuffer.invoice.precheck import CheckContext, check, refusal_of_size


@click.command("check")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@as_json_option
@pass_settings
def check_files(settings: Settings, files: Sequence[Path], as_json: bool) -> None:
    """Sprawdza faktury bez wysyłania: każde znalezisko z wierszem, polem, opisem i wskazówką."""
    config = settings.config_if_any()
    results = [_checked(file, config, settings.now()) for file in files]
    if as_json:
        click.echo(json.dumps(results, ensure_ascii=False, indent=2))
    else:
        for result in results:
            _print_check(settings, result)
    sys.exit(0 if all(result["ok"] for result in results) else 1)


def _checked(file: Path, config: Config | None, now: datetime) -> dict[str, Any]:
    context = CheckContext(
        nip=config.nip if config else "", environment=config.environment if config else "production", now=now
    )
    try:
        if not file.is_file():
            raise ConfigurationFault(
                f"Nie ma pliku {shown(str(file))}."
                if not file.exists()
                else f"{shown(str(file))} nie jest zwykłym plikiem.",
                action="Podaj ścieżkę do pliku faktury XML.",
            )
        size = file.stat().st_size
        too_large = refusal_of_size(size, context) if size > context.max_bytes_with_attachment else None
        content = b"" if too_large else file.read_bytes()
    except OSError as error:
        raise ConfigurationFault(f"Pliku {shown(str(file))} nie można odczytać: {error.strerror}.") from error
    findings: Sequence[Finding]
    if too_large is not None:
        findings, header = [too_large], None
    else:
        if config is None:
            # Without a configuration there is no "our" NIP: the seller's own stands for it.
            context = CheckContext(nip=read_header(content).seller_nip or "", environment="production", now=context.now)
        report = check(content, context)
        findings, header = report.findings, report.header

    def of(severity: Severity) -> list[dict[str, Any]]:
        return [finding.as_dict() for finding in findings if finding.severity is severity]

    errors = of(Severity.BLOCK)
    return {
        "file": shown(str(file)),
        "ok": not errors,
        "invoice_number": header.invoice_number if header else None,
        "form": header.form.system_code if header and header.form else None,
        "errors": errors,
        "warnings": of(Severity.WARN),
        "notes": of(Severity.NOTE),
    }


def _print_check(settings: Settings, result: dict[str, Any]) -> None:
    verdict = settings.say("poprawna", "valid") if result["ok"] else settings.say("BŁĘDNA", "INVALID")
    click.echo(f"{result['file']}: {verdict}")
    kinds = (
        ("errors", settings.say("błąd", "error")),
        ("warnings", settings.say("ostrzeżenie", "warning")),
        ("notes", settings.say("uwaga", "note")),
    )
    for key, kind in kinds:
        for finding in result[key]:
            where = ", ".join(
                part
                for part in (
                    settings.say(f"wiersz {finding['line']}", f"line {finding['line']}") if finding["line"] else "",
                    settings.say(f"pole {finding['field']}", f"field {finding['field']}") if finding["field"] else "",
                )
                if part
            )
            click.echo(f"  {kind} {finding['code']}{f' ({where})' if where else ''}: {finding['message']}")
            for detail in finding["details"]:
                click.echo(f"      {detail}")
            if finding["hint"]:
                click.echo(f"      → {finding['hint']}")
