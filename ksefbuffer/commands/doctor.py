"""``doctor``: what is wrong with this machine, this configuration and the way to KSeF, and what to do about it."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import click

from ksefbuffer.commands.base import Settings, as_json_option, pass_settings
from ksefbuffer.commands.certificates import standings
from ksefbuffer.config import Config, with_overrides
from ksefbuffer.errors import BufferFault, CallFault, ConfigurationFault, CredentialFault
from ksefbuffer.identity import words
from ksefbuffer.identity.chosen import unsealed
from ksefbuffer.identity.vault import FILE_NAME, SYSTEMD_NAME, open_vault
from ksefbuffer.queue import credentials, health, overrides, schema
from ksefbuffer.queue.db import Database, worker_is_running
from ksefbuffer.sender.probing import trouble_with

GOOD, ODD, BAD = "✓", "!", "✗"
LITTLE_SPACE, TOO_LITTLE_SPACE = 2_000_000_000, 300_000_000
FEW_FILES = 10_000
# KSeF allows itself such a difference for a login document.
CLOCK_OFF, CLOCK_WRONG = timedelta(seconds=20), timedelta(minutes=2)
FEW_WATCHES, FEW_INSTANCES = 8_192, 64
ASKED_WITHIN_S = 10.0
_SYNCHRONISED = Path("/run/systemd/timesync/synchronized")
_INOTIFY = Path("/proc/sys/fs/inotify")
_TIME_ERROR = 5


@dataclass(frozen=True)
class Finding:
    """``mark``: ✓ fine, ! odd, ✗ wrong; ``exit_code`` is that of CONTRACT §2, 0 unless something is wrong."""

    mark: str
    about: str
    told: str
    action: str = ""
    exit_code: int = 0


def _good(about: str, told: str) -> Finding:
    return Finding(GOOD, about, told)


def _odd(about: str, told: str, action: str) -> Finding:
    return Finding(ODD, about, told, action)


def _bad(about: str, told: str, action: str, exit_code: int = 1) -> Finding:
    return Finding(BAD, about, told, action, exit_code)


@click.command()
@as_json_option
@pass_settings
def doctor(settings: Settings, as_json: bool) -> None:
    """Sprawdza ustawienia, zegar, dysk, bazę, certyfikaty, drogę do KSeF i prawa do folderów."""
    found: list[Finding] = []
    for finding in examined(settings):
        found.append(finding)
        if not as_json:
            click.echo(f"{finding.mark} {finding.about}: {finding.told}")
            if finding.action:
                click.echo(f"    → {finding.action}")
    code = max((one.exit_code for one in found), default=0)
    if as_json:
        marks = {GOOD: "ok", ODD: "warning", BAD: "error"}
        told = [{**asdict(one), "mark": marks[one.mark]} for one in found]
        click.echo(json.dumps({"healthy": code == 0, "findings": told}, ensure_ascii=False, indent=2))
    sys.exit(code)


def examined(settings: Settings) -> Iterator[Finding]:
    """One finding after the other, as they are made."""
    try:
        config = settings.config
    except ConfigurationFault as fault:
        yield _bad("Konfiguracja", fault.message, fault.action or "Popraw ją i uruchom doctor ponownie.", 2)
        return
    yield _good("Konfiguracja", f"NIP {config.nip}, środowisko {config.environment}")
    if os.geteuid() == 0:
        yield _odd(
            "Użytkownik",
            "doctor działa jako root, więc nie sprawdzi praw użytkownika usługi",
            "Uruchom go jak usługę, np.: sudo -u ksefbuffer ksefbuffer doctor.",
        )
    yield from _disk(config)
    database = _openable(config)
    if isinstance(database, Finding):
        yield database
    else:
        try:
            yield from _database(config, database)
            yield from _worker(database)
            yield from _machine_key(config, database)
            yield from _certificates(settings, config)
        except BufferFault as fault:
            # A damaged database may fail at any question.
            yield _bad("Baza danych", fault.message, fault.action, max(1, fault.exit_code))
        finally:
            database.close()
    yield from _folders(config)
    yield from _inotify()
    yield from _ksef(config, settings.now)
    yield from _latarnia(config, settings.now)
    yield from _synchronised()
    yield from _port(config)


# This machine


def _disk(config: Config) -> Iterator[Finding]:
    seen: set[int] = set()
    for folder in (config.data_dir, config.inbox.path, config.incoming.folder):
        place = _existing(folder)
        try:
            device, usage, room = place.stat().st_dev, shutil.disk_usage(place), os.statvfs(place)
        except OSError as error:
            yield _bad("Dysk", f"nie można sprawdzić {place}: {error.strerror}", "Sprawdź, czy dysk jest podłączony.")
            continue
        if device in seen:
            continue
        seen.add(device)
        about, told = f"Dysk ({place})", f"wolne {usage.free / 1e9:.1f} GB z {usage.total / 1e9:.1f} GB"
        if usage.free < TOO_LITTLE_SPACE:
            yield _bad(about, told, "Zwolnij miejsce: bez niego bufor nie przyjmie żadnej faktury.")
        elif usage.free < LITTLE_SPACE:
            yield _odd(about, told, "Zwolnij miejsce albo powiększ dysk.")
        elif room.f_files and room.f_favail < FEW_FILES:
            yield _odd(about, f"{told}, ale wolnych i-węzłów tylko {room.f_favail}", "Usuń zbędne pliki.")
        else:
            yield _good(about, told)


def _existing(folder: Path) -> Path:
    return next((one for one in (folder, *folder.parents) if one.exists()), Path("/"))


def _synchronised() -> Iterator[Finding]:
    """Whether somebody keeps the clock right: systemd's mark, else what the kernel says."""
    state = None
    if not _SYNCHRONISED.exists():
        try:
            # A zeroed struct timex only asks. It has 208 bytes on 64 bits.
            state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
        except (OSError, AttributeError):
            return
    if state == _TIME_ERROR:
        yield _odd(
            "Synchronizacja czasu",
            "system mówi, że jego zegar nie jest synchronizowany",
            "Włącz synchronizację: timedatectl set-ntp true (albo chrony); w kontenerze dba o to komputer pod nim.",
        )
    elif state != -1:
        yield _good("Synchronizacja czasu", "zegar jest synchronizowany")


def _inotify() -> Iterator[Finding]:
    watches, instances = _number(_INOTIFY / "max_user_watches"), _number(_INOTIFY / "max_user_instances")
    about = "inotify"
    mend = "Zwiększ: sysctl fs.inotify.max_user_instances=256 fs.inotify.max_user_watches=65536."
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = libc.inotify_init1(os.O_CLOEXEC)
    except (OSError, AttributeError):
        return
    if descriptor < 0:
        limit = ctypes.get_errno() in (errno.EMFILE, errno.ENFILE)
        told = "limit obserwatorów jest wyczerpany" if limit else "system nie daje obserwować folderów"
        yield _odd(about, f"{told}; bufor zauważa pliki tylko przeglądem co kilka sekund", mend)
        return
    os.close(descriptor)
    if (watches is not None and watches < FEW_WATCHES) or (instances is not None and instances < FEW_INSTANCES):
        yield _odd(about, f"niskie limity: watches {watches}, instances {instances}", mend)
    else:
        yield _good(about, "nowe pliki są widziane od razu")


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _folders(config: Config) -> Iterator[Finding]:
    paths = config.paths
    keys = {
        "inbox.path": paths.inbox,
        "inbox.outbox": paths.outbox,
        "inbox.processed": paths.processed,
        "inbox.rejected": paths.rejected,
        "data_dir": paths.data_dir,
        **({"incoming.folder": paths.incoming} if config.incoming.enabled else {}),
    }
    for key, folder in keys.items():
        about = f"Folder {key}"
        if not folder.exists():
            if os.access(_existing(folder), os.W_OK | os.X_OK):
                yield _odd(about, f"nie ma {folder}", "Powstanie przy starcie bufora (ksefbuffer init albo run).")
            else:
                yield _bad(about, f"nie ma {folder} i nie można go utworzyć", "Utwórz go z prawem zapisu dla usługi.")
            continue
        trouble = trouble_with(folder)
        if trouble:
            yield _bad(about, trouble.rstrip("."), "Nadaj użytkownikowi usługi prawo zapisu (chown, chmod, ACL).")
        else:
            yield _good(about, f"zapis i zmiana nazwy działają ({folder})")


def _port(config: Config) -> Iterator[Finding]:
    host, port = config.web.host, config.web.port
    about = f"Strona ({host}:{port})"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except PermissionError:
        yield _bad(about, "ten port wolno zająć tylko rootowi", "Ustaw web.port na 1024 lub więcej.")
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            yield _good(about, "port jest zajęty: strona już działa albo zajął go inny program")
        else:
            yield _bad(about, f"nie można tam słuchać: {error.strerror}", "Popraw web.host i web.port.")
    else:
        yield _good(about, "port jest wolny")


# The database


def _openable(config: Config) -> Database | Finding:
    file = config.database.sqlite_file
    if file is not None and not file.exists():
        return _bad("Baza danych", f"nie ma pliku {file}", "Uruchom: ksefbuffer init.")
    try:
        return Database(config.database.url)
    except BufferFault as fault:
        return _bad("Baza danych", fault.message, fault.action)


def _database(config: Config, database: Database) -> Iterator[Finding]:
    about = "Baza danych"
    try:
        schema.require_current(database)
        sound = health.soundness(database)
        with database.reading() as tx:
            changed = overrides.values(tx)
    except BufferFault as fault:
        yield _bad(about, fault.message, fault.action, max(1, fault.exit_code if fault.exit_code != 2 else 1))
        return
    if sound.complaints:
        yield _bad(about, f"uszkodzona: {sound.complaints[0]}", "Zatrzymaj bufor i odtwórz bazę: ksefbuffer restore.")
    elif sound.nip not in (None, config.nip) or sound.environment not in (None, config.environment):
        yield _bad(
            about,
            f"należy do NIP {sound.nip} w środowisku {sound.environment}",
            "Popraw nip i environment albo wskaż inną bazę w [database] url.",
        )
    elif sound.journal_mode not in (None, "wal"):
        yield _bad(about, f"tryb dziennika {sound.journal_mode} zamiast wal", "Przenieś bazę na dysk lokalny.")
    else:
        yield _good(about, "cała, schemat aktualny")
    known = {key: value for key, value in changed.items() if not isinstance(value, dict)}
    try:
        with_overrides(config, known)
    except ConfigurationFault as fault:
        yield _bad("Ustawienia ze strony", fault.message, "Popraw je na stronie Konfiguracja; na razie są pominięte.")
    else:
        if changed:
            yield _good("Ustawienia ze strony", ", ".join(sorted(changed)))


def _worker(database: Database) -> Iterator[Finding]:
    if worker_is_running(database):
        yield _good("Usługa", "bufor pracuje")
    else:
        yield _odd("Usługa", "bufor nie pracuje", "Uruchom: ksefbuffer run albo systemctl start ksefbuffer@NAZWA.")


# Keys and certificates


def _machine_key(config: Config, database: Database) -> Iterator[Finding]:
    about = "Klucz maszyny"
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    path = config.data_dir / FILE_NAME
    with database.reading() as tx:
        kept = [row for row in credentials.all_kept(tx) if row.sealed_key is not None and row.certificate is not None]
        any_sealed = credentials.any_sealed(tx)
    from_systemd = directory is not None and (Path(directory) / SYSTEMD_NAME).is_file()
    if not any_sealed and not from_systemd and not path.exists():
        yield _good(about, "powstanie, gdy będzie potrzebny")
        return
    try:
        vault = open_vault(config.data_dir, directory, may_make=False)
        for row in kept:
            unsealed(row, vault)
    except (ConfigurationFault, CredentialFault) as fault:
        yield _bad(about, fault.message, fault.action, 4)
    else:
        where = f"poświadczenie systemd {SYSTEMD_NAME}" if from_systemd else f"{path}, prawa w porządku"
        yield _good(about, f"otwiera klucze z bazy ({where}); trzymaj jego kopię osobno od bazy")


def _certificates(settings: Settings, config: Config) -> Iterator[Finding]:
    yield from _readable_by_others(config)
    try:
        found = standings(settings)
    except (CredentialFault, ConfigurationFault) as fault:
        yield _bad("Certyfikat", fault.message, fault.action, 4)
        return
    for one in found:
        if one.status in (words.REPLACED, words.REJECTED):
            continue
        about = "Certyfikat do logowania" if one.purpose == "auth" else "Certyfikat do kodów QR offline"
        until = f", ważny do {one.valid_to:%Y-%m-%d}" if one.valid_to else ""
        told = f"{one.status}{until} {one.subject}".rstrip()
        if one.status == words.WORKING:
            yield _good(about, told)
        elif one.status.startswith("wygasa") or one.status == words.CONFIGURING:
            yield _odd(about, told, "Odnów go: ksefbuffer cert renew." if one.status != words.CONFIGURING else one.note)
        else:
            yield _bad(about, told, "Uzyskaj nowy: ksefbuffer cert enroll albo cert auth-request.", 4)
    if config.auth.method == "token":
        yield _odd("Token KSeF", "bufor loguje się tokenem", words.tokens_end(settings.now()))
    elif not any(one.purpose == "auth" for one in found) and config.environment != "sandbox":
        yield _bad(
            "Certyfikat do logowania",
            "nie ma żadnego",
            "Prześlij go na stronie Certyfikaty albo: ksefbuffer cert import.",
            4,
        )


def _readable_by_others(config: Config) -> Iterator[Finding]:
    for path in (config.auth.private_key, config.auth.pkcs12, config.offline.private_key, config.offline.pkcs12):
        try:
            mode = stat.S_IMODE(path.stat().st_mode) if path is not None else 0
        except OSError:
            continue
        if mode & 0o077:
            yield _odd("Klucz prywatny", f"{path} mogą czytać inni (prawa {mode:04o})", f"Uruchom: chmod 600 {path}.")


# The way to KSeF


def _ksef(config: Config, clock: Callable[[], datetime]) -> Iterator[Finding]:
    from ksefbuffer.ksef.limits import Limiter
    from ksefbuffer.ksef.wire import Answer, Call, Wire

    about = f"KSeF ({config.ksef.base_url})"
    wire = Wire(
        base_url=config.ksef.base_url,
        limiter=Limiter(),
        clock=clock,
        sleep=_sleep,
        transport=None,
        user_agent="ksefbuffer doctor",
        timeout_s=min(config.ksef.timeout_seconds, ASKED_WITHIN_S),
    )
    call = Call("public_keys", "GET", "/security/public-key-certificates", "anonymous")
    try:
        answer: Answer = wire.call(call, lambda told: told)
    except CallFault as fault:
        yield _bad(about, fault.message, fault.action or "Sprawdź sieć, zaporę i adres.", 3)
        return
    finally:
        wire.close()
    now = clock()
    yield _good(about, "odpowiada")
    try:
        off = now - parsedate_to_datetime(answer.headers.get("date", ""))
    except (TypeError, ValueError):
        return
    told = f"różnica wobec KSeF: {abs(off).total_seconds():.0f} s"
    mend = "Ustaw zegar i włącz jego synchronizację: timedatectl set-ntp true."
    if abs(off) > CLOCK_WRONG:
        yield _bad("Zegar", told, mend)
    elif abs(off) > CLOCK_OFF:
        yield _odd("Zegar", told, mend)
    else:
        yield _good("Zegar", told)


def _latarnia(config: Config, clock: Callable[[], datetime]) -> Iterator[Finding]:
    from ksefbuffer.ksef.latarnia import Latarnia, Status

    latarnia = Latarnia(config.ksef.latarnia_url, clock, _sleep, timeout_s=ASKED_WITHIN_S)
    try:
        news = latarnia.news()
    finally:
        latarnia.close()
    about = "Latarnia"
    if news.status is Status.AVAILABLE:
        yield _good(about, "KSeF działa bez ogłoszonych przerw")
    elif news.status is Status.UNKNOWN:
        yield _odd(about, news.reason or "nie odpowiada", "Sprawdź ksef.latarnia_url; bez Latarni bufor działa dalej.")
    else:
        told = {
            Status.MAINTENANCE: "trwa ogłoszona przerwa techniczna KSeF",
            Status.FAILURE: "ogłoszono awarię KSeF",
            Status.TOTAL_FAILURE: "ogłoszono awarię całkowitą KSeF",
        }
        yield _odd(about, told[news.status], "Faktury czekają i zostaną wysłane same; terminy pokazuje strona.")


def _sleep(seconds: float) -> None:
    threading.Event().wait(seconds)
