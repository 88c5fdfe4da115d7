"""The command line: commands and exit codes, nothing else. Source: CONTRACT §2.

Exit codes: 0 fine; 1 the answer is "no"; 2 wrong usage or configuration; 3 a service cannot be reached; 4 authorisation
refused. People read Polish (English with ``--lang en``); programs read ``--json``.
"""

from __future__ import annotations

import json
import logging
import os
import pwd
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import click

from ksefbuffer import demo as demonstration
from ksefbuffer import sandbox as local_ksef
from ksefbuffer import worker
from ksefbuffer.config import Config, load, render_example
from ksefbuffer.erp import answers, submit
from ksefbuffer.erp.ddl import ddl
from ksefbuffer.erp.delivery import document_object, verification_url
from ksefbuffer.erp.files import shown, text_as_name
from ksefbuffer.errors import BufferFault, ConfigurationFault, CredentialFault, NoSuchThing, NotAllowedNow
from ksefbuffer.identity.material import load_credential
from ksefbuffer.invoice.document import read_header
from ksefbuffer.invoice.findings import Finding, Severity
from ksefbuffer.invoice.precheck import CheckContext, check, refusal_of_size
from ksefbuffer.queue import backup as copies
from ksefbuffer.queue import deliveries, documents, overview, pauses, schema
from ksefbuffer.queue.db import Database, worker_is_running
from ksefbuffer.queue.documents import Document
from ksefbuffer.queue.states import State

_DEFAULT_CONFIG = Path("config.toml")


class _Group(click.Group):
    """Turns foreseeable faults into a message and an exit code, never a traceback."""

    def main(self, *args: Any, **extra: Any) -> Any:
        extra["standalone_mode"] = False
        try:
            code = super().main(*args, **extra)
        except click.ClickException as fault:
            fault.show()
            code = 2
        except click.Abort:
            code = 1
        except BufferFault as fault:
            click.echo(fault.message, err=True)
            if fault.action:
                click.echo(fault.action, err=True)
            code = fault.exit_code
        except BrokenPipeError:
            # The reader (head, less) has seen enough.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 0
        sys.exit(code if isinstance(code, int) else 0)


class _Settings:
    """What the options before the command say; the configuration is read by the first command that needs it."""

    def __init__(self, path: Path | None, lang: str) -> None:
        self.path = path
        self.lang = lang
        self._config: Config | None = None

    @property
    def config(self) -> Config:
        if self._config is None:
            self._config = load(self.path, os.environ)
        return self._config

    def config_if_any(self) -> Config | None:
        """The configuration, or None where nobody has made one; a broken one is a fault here too."""
        try:
            return self.config
        except ConfigurationFault:
            if self.path is not None or os.environ.get("KSEFBUFFER_CONFIG") or _DEFAULT_CONFIG.exists():
                raise
            return None

    def say(self, polish: str, english: str) -> str:
        return english if self.lang == "en" else polish

    def database(self) -> Database:
        """The buffer's database, there and up to date. Raises ConfigurationFault."""
        file = self.config.database.sqlite_file
        if file is not None and not file.exists():
            raise ConfigurationFault(
                f"Nie ma bazy danych {file}.", action="Uruchom: ksefbuffer init albo ksefbuffer run."
            )
        database = Database(self.config.database.url)
        schema.require_current(database)
        return database


_settings = click.make_pass_decorator(_Settings)
_json = click.option("--json", "as_json", is_flag=True, help="Wynik jako JSON.")


def _now() -> datetime:
    return datetime.now(UTC)


def _actor() -> str:
    try:
        return f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"cli:{os.getuid()}"


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", "path", type=click.Path(path_type=Path, dir_okay=False), help="Plik konfiguracji.")
@click.option(
    "--lang", type=click.Choice(["pl", "en"]), default="pl", envvar="KSEFBUFFER_LANG", help="Język / language."
)
@click.version_option(package_name="ksefbuffer")
@click.pass_context
def main(context: click.Context, path: Path | None, lang: str) -> None:
    """ksefbuffer: bufor między systemem sprzedaży a KSeF (API 2.0)."""
    context.obj = _Settings(path, lang)


@main.command()
@click.option("--nip", help="NIP firmy, dla której pracuje bufor.")
@click.option("--environment", type=click.Choice(["sandbox", "test", "demo", "production"]), help="Środowisko KSeF.")
@_settings
def init(settings: _Settings, nip: str | None, environment: str | None) -> None:
    """Pisze konfigurację z komentarzami, tworzy folder danych i bazę."""
    path = settings.path or (
        Path(os.environ["KSEFBUFFER_CONFIG"]) if os.environ.get("KSEFBUFFER_CONFIG") else _DEFAULT_CONFIG
    )
    if path.exists():
        click.echo(
            settings.say(
                f"Konfiguracja {path} już jest; zostaje bez zmian.", f"{path} is there already; it stays as it is."
            )
        )
    else:
        text = render_example(nip or "5265877635", environment or "sandbox")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigurationFault(
                f"Nie można zapisać {path}: {error.strerror}.", action="Sprawdź prawa do folderu."
            ) from error
        try:
            load(path, os.environ)
        except ConfigurationFault:
            path.unlink()
            raise
        click.echo(settings.say(f"Zapisano {path}.", f"Wrote {path}."))
    config = load(path, os.environ)
    if nip is not None and config.nip != nip:
        raise ConfigurationFault(
            f"Konfiguracja {path} ma nip = {config.nip}, a nie {nip}.", action="Popraw ją albo podaj inny --config."
        )
    _make_folders(config.data_dir)
    database = Database(config.database.url)
    schema.upgrade(database)
    with database.transaction() as tx:
        schema.bind(tx, config.nip, config.environment, at=_now())
    _make_folders(config.inbox.path, config.inbox.outbox, config.inbox.processed, config.inbox.rejected)
    if config.environment == "sandbox":
        worker.login_of(config, now=_now())
    click.echo(
        settings.say(
            f"Baza danych gotowa (NIP {config.nip}, środowisko {config.environment}).",
            f"Database ready (NIP {config.nip}, environment {config.environment}).",
        )
    )
    click.echo(
        settings.say(
            f"Wrzucaj faktury do {config.inbox.path}; odpowiedzi pojawią się w {config.inbox.outbox}.",
            f"Drop invoices into {config.inbox.path}; answers appear in {config.inbox.outbox}.",
        )
    )
    click.echo(settings.say("Start: ksefbuffer run", "Start it with: ksefbuffer run"))


def _make_folders(*folders: Path) -> None:
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationFault(
                f"Nie można utworzyć folderu {folder}: {error.strerror}.", action="Sprawdź ścieżkę i prawa zapisu."
            ) from error


@main.command()
@click.option("--no-web", is_flag=True, help="Bez strony WWW.")
@_settings
def run(settings: _Settings, no_web: bool) -> None:
    """Pracuje na pierwszym planie (to uruchamia systemd)."""
    _log_to_stderr()
    worker.run(settings.config, environ=os.environ)


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8090, show_default=True, type=click.IntRange(0, 65_535))
@click.option(
    "--state", type=click.Path(path_type=Path, dir_okay=False), help="Plik stanu: sandbox pamięta po restarcie."
)
@click.option(
    "--latency", default=0.2, show_default=True, type=click.FloatRange(0, 3600), help="Czas przetwarzania faktury [s]."
)
@click.option(
    "--limits",
    default="production",
    show_default=True,
    type=click.Choice(["production", "test", "none"]),
    help="Limity wywołań.",
)
@click.option(
    "--time-scale",
    default=1.0,
    show_default=True,
    type=click.FloatRange(1, 3600),
    help="Ile razy krótsze okna limitów (do testów).",
)
def sandbox(host: str, port: int, state: Path | None, latency: float, limits: str, time_scale: float) -> None:
    """Lokalny, surowy symulator KSeF; gotowość zgłasza jednym wierszem JSON."""
    _log_to_stderr()
    try:
        local_ksef.main(host, port, state, latency, limits, time_scale)
    except (OSError, sqlite3.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        where = f"{host}:{port}" + (f" z plikiem stanu {state}" if state else "")
        raise ConfigurationFault(
            f"Nie można uruchomić symulatora na {where}: {reason}.",
            action="Podaj inny --port (0 = dowolny wolny), --host albo --state.",
        ) from error


@main.command()
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path, file_okay=False), help="Folder pokazu (domyślnie tymczasowy)."
)
@click.option("--port", default=0, type=click.IntRange(0, 65_535), help="Port lokalnego KSeF (domyślnie wolny).")
@click.option("--no-browser", is_flag=True, help="Nie otwieraj przeglądarki.")
@click.option("--once", is_flag=True, help="Zakończ, gdy przykładowe faktury dostaną odpowiedzi.")
def demo(folder: Path | None, port: int, no_browser: bool, once: bool) -> None:
    """Lokalny KSeF + bufor + przykładowe faktury; Ctrl-C kończy wszystko."""
    sys.exit(demonstration.run(folder, port=port, once=once, environ=os.environ))


@main.command("check")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@_json
@_settings
def check_files(settings: _Settings, files: Sequence[Path], as_json: bool) -> None:
    """Sprawdza faktury bez wysyłania: każde znalezisko z wierszem, polem, opisem i wskazówką."""
    config = settings.config_if_any()
    results = [_checked(file, config) for file in files]
    if as_json:
        click.echo(json.dumps(results, ensure_ascii=False, indent=2))
    else:
        for result in results:
            _print_check(settings, result)
    sys.exit(0 if all(result["ok"] for result in results) else 1)


def _checked(file: Path, config: Config | None) -> dict[str, Any]:
    context = CheckContext(
        nip=config.nip if config else "", environment=config.environment if config else "production", now=_now()
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


def _print_check(settings: _Settings, result: dict[str, Any]) -> None:
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


@main.command()
@_json
@_settings
def status(settings: _Settings, as_json: bool) -> None:
    """Jeden ekran: KSeF, certyfikat, kolejka, najstarsza czekająca, przerwy."""
    config, now = settings.config, _now()
    database = settings.database()
    with database.reading() as tx:
        seen = overview.overview(tx, now)
    facts = _status_facts(config, seen, running=worker_is_running(database), now=now)
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False, indent=2))
    else:
        _print_status(settings, facts)
    sys.exit(0 if facts["healthy"] else 1)


def _status_facts(config: Config, seen: overview.Overview, *, running: bool, now: datetime) -> dict[str, Any]:
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
    certificate = _certificate(config, now)
    if certificate and certificate["problem"]:
        problems.append(certificate["problem"])
    passed_over = seen.passed_over[0] if seen.passed_over else {}
    table = seen.table[0] if seen.table and config.table.enabled else None
    if table and not table["ok"]:
        problems.append(table["message"])
    return {
        "nip": config.nip,
        "environment": config.environment,
        "healthy": not problems,
        "problems": problems,
        "worker": {"running": running},
        "ksef": {
            "address": config.ksef.base_url,
            "available": bool(seen.ksef[0]["ok"]) if seen.ksef else None,
            "message": seen.ksef[0]["message"] if seen.ksef else None,
            "as_of": answers.moment(seen.ksef[1]) if seen.ksef else None,
        },
        "certificate": certificate,
        "queue": seen.counts,
        "oldest_waiting_at": answers.moment(seen.oldest_waiting),
        "next_attempt_at": answers.moment(seen.next_attempt),
        "pauses": held,
        "limits": {"as_of": answers.moment(seen.limits[1]) if seen.limits else None, "groups": limits},
        "stuck": {"count": seen.stuck, "since": answers.moment(seen.stuck_since)},
        "open_sessions": seen.open_sessions,
        "upo_waiting": seen.upos_due,
        "answers": {"due": seen.answers_due, "failing": seen.answers_failing, "last_error": seen.last_answer_error},
        "inbox": {"path": str(config.inbox.path), "passed_over": passed_over},
        "table": table,
        "deadlines": [],
        "last_pull": None,
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


def _print_status(settings: _Settings, facts: dict[str, Any]) -> None:
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
    rows.append((say("Najstarsza czeka od", "Oldest waiting since"), facts["oldest_waiting_at"] or "-"))
    rows += [
        (say("Wstrzymane do", "Paused until"), f"{p['until'] or say('odwołania', 'further notice')}: {p['message']}")
        for p in facts["pauses"]
    ]
    for group, usage in facts["limits"]["groups"].items():
        if usage["hour"] and usage["per_hour"] > 0:
            used = f"{group}: {usage['hour']}/{usage['per_hour']}"
            rows.append((say("Limit na godzinę", "Hourly limit"), used))
    rows.append((say("UPO do pobrania", "UPOs to fetch"), str(facts["upo_waiting"])))
    rows.append((say("Odpowiedzi do doręczenia", "Answers to deliver"), str(facts["answers"]["due"])))
    stays = say("W inboxie zostaje", "Stays in the inbox")
    rows += [(stays, f"{name}: {reason}") for name, reason in facts["inbox"]["passed_over"].items()]
    width = max(len(label) for label, _ in rows)
    for label, text in rows:
        click.echo(f"{label:<{width}}  {text}")
    for problem in facts["problems"]:
        click.echo(f"! {problem}")


@main.group()
def queue() -> None:
    """Dokumenty wychodzące."""


@queue.command("list")
@click.option(
    "--status", "states", multiple=True, type=click.Choice([str(state) for state in State]), help="Tylko w tym stanie."
)
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
@_json
@_settings
def queue_list(settings: _Settings, states: Sequence[str], limit: int, as_json: bool) -> None:
    """Lista od najnowszych."""
    database = settings.database()
    with database.reading() as tx:
        found = documents.listing(tx, states=[State(state) for state in states], limit=limit)
        objects = [_object(settings.config, tx, document) for document in found]
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
@_json
@_settings
def queue_show(settings: _Settings, document_id: str, as_json: bool) -> None:
    """Wszystko o jednym dokumencie, z historią."""
    database = settings.database()
    with database.reading() as tx:
        document = documents.find(tx, document_id)
        whole = _object(settings.config, tx, document)
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
@_settings
def queue_retry(settings: _Settings, document_ids: Sequence[str]) -> None:
    """Ponawia dokumenty w stanie błąd albo niepowodzenie."""
    database, config = settings.database(), settings.config
    refused = False
    for document_id in document_ids:
        context = CheckContext(nip=config.nip, environment=config.environment, now=_now())
        try:
            document = submit.retry(database, document_id, context, actor=_actor())
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
@_settings
def queue_cancel(settings: _Settings, document_id: str) -> None:
    """Wycofuje dokument, którego KSeF nie ma."""
    document = submit.cancel(settings.database(), document_id, now=_now(), actor=_actor())
    click.echo(settings.say(f"{document.document_id}: anulowano", f"{document.document_id}: cancelled"))


@main.group()
def table() -> None:
    """Tabela w bazie ERP."""


@table.command("ddl")
@click.option("--dialect", required=True, type=click.Choice(["sqlite", "postgresql", "mssql", "mysql"]))
@_settings
def table_ddl(settings: _Settings, dialect: str) -> None:
    """Wypisuje polecenia tworzące tabele wymiany."""
    config = settings.config_if_any()
    names = (config.table.outgoing, config.table.incoming) if config else ("ksef_outgoing", "ksef_incoming")
    click.echo(ddl(cast("Any", dialect), *names))


@main.group()
def db() -> None:
    """Baza danych bufora."""


@db.command("upgrade")
@_settings
def db_upgrade(settings: _Settings) -> None:
    """Doprowadza schemat bazy do wersji programu."""
    before, after = schema.upgrade(Database(settings.config.database.url))
    if before == after:
        click.echo(settings.say(f"Schemat jest aktualny ({after}).", f"The schema is up to date ({after})."))
    else:
        click.echo(settings.say(f"Schemat: {before or 'brak'} → {after}.", f"Schema: {before or 'none'} → {after}."))


@main.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_settings
def backup(settings: _Settings, file: Path) -> None:
    """Kopiuje bazę bufora do pliku; bufor może przy tym pracować."""
    database = settings.database()
    with _progress(settings.say("Kopia", "Backup")) as grows:
        size = copies.back_up(database, file, at=_now(), progress=grows)
    click.echo(
        settings.say(
            f"Kopia gotowa: {file} ({size / 1_000_000:.1f} MB).", f"Backup written: {file} ({size / 1_000_000:.1f} MB)."
        )
    )


@main.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_settings
def restore(settings: _Settings, file: Path) -> None:
    """Odtwarza bazę bufora z kopii; bufor musi być zatrzymany."""
    config, now = settings.config, _now()
    database = Database(config.database.url)
    if worker_is_running(database):
        raise ConfigurationFault(
            "Bufor pracuje na tej bazie.", action="Zatrzymaj go (systemctl stop …) i powtórz polecenie."
        )
    stamp = f"{now:%Y%m%dT%H%M%SZ}"
    beside = config.database.sqlite_file or config.data_dir / "ksefbuffer.db"
    _make_folders(beside.parent)
    aside = beside.with_name(f"{beside.name}.before-restore-{stamp}")
    with database.sole_worker(), _progress(settings.say("Odtwarzanie", "Restoring")) as grows:
        done = copies.restore(
            database, file, nip=config.nip, environment=config.environment, aside=aside, at=now, progress=grows
        )
    made_at = answers.moment(done.made_at)
    click.echo(
        settings.say(
            f"Odtworzono stan z {made_at}: {done.documents} dokumentów.",
            f"Restored the state of {made_at}: {done.documents} documents.",
        )
    )
    if done.set_aside is not None:
        click.echo(settings.say(f"Poprzednia baza: {done.set_aside}", f"The database before: {done.set_aside}"))
    click.echo(
        settings.say(
            "Uruchom bufor. Najpierw przyjmie ponownie to, co ERP oddał po tej kopii (pliki z folderu processed, "
            "wiersze tabeli), i uzgodni z KSeF, co już wysłano; do tego czasu niczego nie wyśle. Faktury oddane od "
            "tamtej chwili przez HTTP, których KSeF nie ma, ERP musi oddać jeszcze raz.",
            "Start the buffer. It first takes in again what the ERP handed over since this backup (files in processed, "
            "table rows) and reconciles with KSeF what was sent; until then it sends nothing. Invoices handed over by "
            "HTTP since then, which KSeF does not have, must be handed over again.",
        )
    )


@contextmanager
def _progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal's stderr; silent elsewhere."""
    if not sys.stderr.isatty():
        yield lambda done, whole: None
        return
    with click.progressbar(length=1_000, label=label, file=sys.stderr) as bar:
        yield lambda done, whole: bar.update(1_000 * done // max(whole, 1) - bar.pos)


def _object(config: Config, tx: Any, document: Document) -> dict[str, Any]:
    arrival = deliveries.first_arrival(tx, document.id)
    name = text_as_name(arrival.answer_name) if arrival else ""
    whole = document_object(
        document,
        arrival,
        held_back=pauses.active(tx, _now()),
        upo_file=f"{shown(name)}.upo.xml" if document.has_upo else None,
        verification_url=verification_url(document, config.ksef.qr_url) if document.ksef_number else None,
    )
    whole["source"] = shown(text_as_name(arrival.place)) if arrival else ""
    return whole


def _log_to_stderr() -> None:
    # The journal adds the time itself.
    times = "" if os.environ.get("JOURNAL_STREAM") else "%(asctime)s "
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=f"{times}%(levelname)s %(name)s %(message)s")
    for chatty in ("alembic", "apscheduler"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
