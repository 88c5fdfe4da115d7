"""The settings of one buffer: one TOML file, single keys overridden from the environment. Source: CONTRACT §2, §3.

``load`` is the only way in: it finds the file, applies ``KSEFBUFFER_SECTION__KEY`` variables over it, makes relative
paths absolute, fills in the official addresses and reports every mistake at once as one ``ConfigurationFault``.
Secrets come from files or the environment, are never accepted in the file and never appear in a repr or a message.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from enum import Enum
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, cast
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic import field_validator as _field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ksefbuffer.errors import ConfigurationFault
from ksefbuffer.invoice.identifiers import internal_id_ok, is_nip

Environment = Literal["sandbox", "test", "demo", "production"]

PREFIX = "KSEFBUFFER_"
# Read by the command line itself.
NOT_SETTINGS = (PREFIX + "CONFIG", PREFIX + "LANG", PREFIX + "FOLLOW_STDIN")
SYSTEM_FILE = Path("/etc/ksefbuffer/config.toml")

# FACTS §1.1. DEMO has no Latarnia of its own: clients read production's.
ADDRESSES: Mapping[str, Mapping[str, str]] = {
    "sandbox": {
        "base_url": "http://127.0.0.1:8090/v2",
        "latarnia_url": "http://127.0.0.1:8090/latarnia",
        "qr_url": "https://qr-test.ksef.mf.gov.pl",
    },
    "test": {
        "base_url": "https://api-test.ksef.mf.gov.pl/v2",
        "latarnia_url": "https://api-latarnia-test.ksef.mf.gov.pl",
        "qr_url": "https://qr-test.ksef.mf.gov.pl",
    },
    "demo": {
        "base_url": "https://api-demo.ksef.mf.gov.pl/v2",
        "latarnia_url": "https://api-latarnia.ksef.mf.gov.pl",
        "qr_url": "https://qr-demo.ksef.mf.gov.pl",
    },
    "production": {
        "base_url": "https://api.ksef.mf.gov.pl/v2",
        "latarnia_url": "https://api-latarnia.ksef.mf.gov.pl",
        "qr_url": "https://qr.ksef.mf.gov.pl",
    },
}
_SANDBOX = frozenset(ADDRESSES["sandbox"].values())
PRODUCTION_PULL_MINUTES = 15  # CONTRACT §3: KSeF's export limits allow no denser rhythm in production


class _Mark(Enum):
    """What ``load`` does with a key before validation."""

    FOLDER = "a path, relative to the configuration file"
    CREDENTIAL = "a file, looked for in systemd's credentials directory first; empty means none"
    ENVIRONMENT_ONLY = "a secret that the file must not hold"


def _items(value: Any) -> Any:
    # The environment has only strings: JSON, or a plain comma-separated list.
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            try:
                return json.loads(value)
            except ValueError:
                raise PydanticCustomError("list", "to nie jest poprawna lista JSON") from None
        return [item.strip() for item in value.split(",") if item.strip()]
    return value


def _without_repeats(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(value)) != len(value):
        raise PydanticCustomError("repeats", "wartości na liście nie mogą się powtarzać")
    return value


def _address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PydanticCustomError("address", "to musi być adres zaczynający się od https:// (w sandboksie też http://)")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise PydanticCustomError("address", "adres nie może zawierać loginu, hasła, znaku ? ani #")
    return value.rstrip("/")


def _calendar_day(value: Any) -> Any:
    # Left to itself pydantic takes 20260201 for seconds since 1970.
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    if type(value) is not date:
        raise PydanticCustomError("day", 'to musi być data w postaci "RRRR-MM-DD"')
    return value


def _own_database(value: str) -> str:
    if re.match(r"(sqlite(\+pysqlite)?|postgresql(\+psycopg)?)://", value) is None:
        raise PydanticCustomError(
            "database", "obsługiwane są adresy sqlite:///ŚCIEŻKA oraz postgresql+psycopg://UŻYTKOWNIK@HOST/BAZA"
        )
    if value.startswith("sqlite") and _sqlite_file(value) is None:
        raise PydanticCustomError("database", "baza w pamięci przepadłaby z procesem: podaj plik, sqlite:///ŚCIEŻKA")
    return value


def _any_database(value: str) -> str:
    if re.match(r"[a-z][a-z0-9_]*(\+[a-z0-9_]+)?://", value) is None:
        raise PydanticCustomError("database", "to musi być adres bazy w postaci SQLAlchemy, np. sqlite:///erp.db")
    return value


def _notification_address(value: str) -> str:
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://.", value) is None:
        raise PydanticCustomError("notify", "to musi być adres Apprise, np. mailto://uzytkownik:haslo@example.pl")
    return value


def _none_if_empty(value: Any) -> Any:
    return None if value == "" else value


def _webhook_address(value: str) -> str:
    # Unlike KSeF's addresses these are the receiver's own, so a query may hold whatever it needs.
    if re.fullmatch("https?://[^\\s/\x00-\x1f\x7f][^\\s\x00-\x1f\x7f]*", value) is None:
        raise PydanticCustomError("webhook", "to musi być adres zaczynający się od https:// albo http://, bez spacji")
    return value


def _address_or_none(value: str) -> str:
    return _address(value) if value else value


Text = Annotated[str, Field(min_length=1)]
Address = Annotated[str, AfterValidator(_address)]
Days = Annotated[tuple[Annotated[date, BeforeValidator(_calendar_day)], ...], BeforeValidator(_items)]
Seconds = Annotated[float, Field(ge=0.1, le=3600, allow_inf_nan=False)]
Folder = Annotated[Path, _Mark.FOLDER]
CredentialFile = Annotated[Path | None, _Mark.CREDENTIAL]
EnvironmentSecret = Annotated[SecretStr | None, _Mark.ENVIRONMENT_ONLY]
TableName = Annotated[str, Field(pattern=r"^[^\x00-\x1f]{1,200}$")]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @_field_validator("*", mode="before")
    @classmethod
    def _numbers_are_not_booleans(cls, value: Any, info: Any) -> Any:
        if isinstance(value, bool) and cls.model_fields[info.field_name].annotation not in (bool, bool | None):
            raise PydanticCustomError("boolean", "true/false nie jest tu dozwolone")
        return value


class Ksef(_Section):
    """Where KSeF is. The addresses have no trailing slash; ``load`` fills in the environment's official ones. An empty
    ``latarnia_url`` means that nobody is asked about KSeF's failures."""

    base_url: Address
    latarnia_url: Annotated[str, AfterValidator(_address_or_none)]
    qr_url: Address
    timeout_seconds: Annotated[float, Field(ge=1, le=300, allow_inf_nan=False)] = 30.0


class _KeyPair(_Section):
    certificate: CredentialFile = None
    private_key: CredentialFile = None
    pkcs12: CredentialFile = None
    private_key_password_file: CredentialFile = None
    private_key_password: EnvironmentSecret = None

    @property
    def has_key(self) -> bool:
        """True when the settings name a certificate with its key; the files may still be absent or unreadable."""
        return self.pkcs12 is not None or (self.certificate is not None and self.private_key is not None)

    def read_private_key_password(self) -> str | None:
        """The key's password, or None when none is set. Raises ConfigurationFault when its file cannot be read."""
        if self.private_key_password is not None:
            return self.private_key_password.get_secret_value()
        if self.private_key_password_file is None:
            return None
        return _secret_text(self.private_key_password_file, "private_key_password_file")


class Auth(_KeyPair):
    """How the buffer logs in to KSeF."""

    method: Literal["certificate", "token"] = "certificate"
    token_file: CredentialFile = None
    token: EnvironmentSecret = None
    identifier: Literal["certificate_subject", "certificate_fingerprint"] = "certificate_subject"
    internal_id: str = ""

    @property
    def configured(self) -> bool:
        """False only in "sandbox" without any certificate: the program then makes its own, self-signed."""
        return self.has_key if self.method == "certificate" else self.token is not None or self.token_file is not None

    def read_token(self) -> str:
        """The KSeF token. Raises ConfigurationFault when it is not set or its file cannot be read."""
        if self.token is not None:
            return self.token.get_secret_value()
        if self.token_file is None:
            raise ConfigurationFault(
                "Nie podano tokenu KSeF.", action=f"Ustaw auth.token_file albo zmienną {PREFIX}AUTH__TOKEN."
            )
        return _secret_text(self.token_file, "auth.token_file")


class Offline(_KeyPair):
    """Issuing while KSeF is away: needs a KSeF certificate of type 2 (Offline)."""

    mode: Literal["auto", "manual", "off"] = "auto"
    auto_after_seconds: Annotated[float, Field(ge=1, le=3600, allow_inf_nan=False)] = 30.0
    heed_latarnia: bool | None = None
    free_days: Days = ()
    working_days: Days = ()


class Database(_Section):
    """The buffer's own database. ``url`` is hidden from repr, as it may hold a password; SQLite's path is absolute."""

    url: Annotated[str, AfterValidator(_own_database), Field(repr=False)]

    @property
    def sqlite_file(self) -> Path | None:
        """The file of an SQLite database; None for PostgreSQL."""
        return _sqlite_file(self.url)


class Inbox(_Section):
    """The folders of CONTRACT §4, absolute."""

    path: Folder = Path("inbox")
    outbox: Folder = Path("outbox")
    processed: Folder = Path("processed")
    rejected: Folder = Path("rejected")
    settle_seconds: Seconds = 1.0
    poll_seconds: Seconds = 2.0
    responses: Annotated[
        tuple[Literal["json", "xml", "txt"], ...],
        BeforeValidator(_items),
        AfterValidator(_without_repeats),
        Field(min_length=1),
    ] = ("json",)
    pdf: bool = False


class Table(_Section):
    """The ERP's own database (CONTRACT §5). ``url`` is hidden from repr, as it may hold a password."""

    enabled: bool = False
    url: Annotated[str, AfterValidator(_any_database), Field(repr=False)] = "sqlite:///erp.db"
    outgoing: TableName = "ksef_outgoing"
    incoming: TableName = "ksef_incoming"
    poll_seconds: Seconds = 2.0


class Sending(_Section):
    """The planner's two choices. ``batch_from`` 0 means never a batch."""

    batch_from: Annotated[int, Field(ge=0, le=10_000)] = 20
    session_idle_seconds: Annotated[int, Field(ge=1, le=11 * 3600)] = 60


class Incoming(_Section):
    """What is pulled from KSeF, how often and where to."""

    enabled: bool = True
    folder: Folder = Path("incoming")
    interval_minutes: Annotated[int, Field(ge=1, le=24 * 60)] = 15
    subjects: Annotated[
        tuple[Literal["buyer", "third", "authorized", "seller"], ...],
        BeforeValidator(_items),
        AfterValidator(_without_repeats),
        Field(min_length=1),
    ] = ("buyer", "third", "authorized", "seller")
    since: Annotated[date, BeforeValidator(_calendar_day)] = date(2026, 2, 1)
    pdf: bool = True


class Web(_Section):
    """Where the page and the API listen."""

    host: Annotated[str, Field(pattern=r"^[^\s/]+$")] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65_535)] = 8080
    tls_certificate: CredentialFile = None
    tls_private_key: CredentialFile = None
    proxy: bool = False
    public_url: Annotated[Address | None, BeforeValidator(_none_if_empty)] = None
    webhook_urls: Annotated[
        tuple[Annotated[str, AfterValidator(_webhook_address)], ...],
        BeforeValidator(_items),
        AfterValidator(_without_repeats),
        Field(repr=False),
    ] = ()
    webhook_secret_file: CredentialFile = None
    webhook_secret: EnvironmentSecret = None
    webhook_allow_private: bool = True

    def read_webhook_secret(self) -> str | None:
        """What webhooks are signed with, or None when none is set. Raises ConfigurationFault when its file cannot be
        read."""
        if self.webhook_secret is not None:
            return self.webhook_secret.get_secret_value()
        if self.webhook_secret_file is None:
            return None
        return _secret_text(self.webhook_secret_file, "web.webhook_secret_file")


class Notify(_Section):
    """Whom to tell of what. ``urls`` are secrets: hidden from repr."""

    urls: Annotated[
        tuple[Annotated[str, AfterValidator(_notification_address)], ...],
        BeforeValidator(_items),
        AfterValidator(_without_repeats),
        Field(repr=False),
    ] = ()
    events: Annotated[
        tuple[Literal["document_error", "deadline", "certificate_expiry", "incoming", "outage", "disk"], ...],
        BeforeValidator(_items),
        AfterValidator(_without_repeats),
    ] = ("document_error", "deadline", "certificate_expiry", "incoming", "outage", "disk")


@dataclass(frozen=True)
class Paths:
    """Every folder of the settings, absolute. None of them need exist yet."""

    data_dir: Path
    inbox: Path
    outbox: Path
    processed: Path
    rejected: Path
    incoming: Path


class Config(BaseSettings):
    """All settings of one buffer, frozen. Made by ``load`` only."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    nip: str
    environment: Environment
    data_dir: Folder = Path("data")
    ksef: Ksef
    auth: Auth = Field(default_factory=Auth)
    offline: Offline = Field(default_factory=Offline)
    database: Database
    inbox: Inbox = Field(default_factory=Inbox)
    table: Table = Field(default_factory=Table)
    sending: Sending = Field(default_factory=Sending)
    incoming: Incoming = Field(default_factory=Incoming)
    web: Web = Field(default_factory=Web)
    notify: Notify = Field(default_factory=Notify)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what ``load`` gives: it reads the environment itself, so that a mistake names the variable at fault."""
        return (init_settings,)

    @_field_validator("nip")
    @classmethod
    def _nip_is_right(cls, value: str) -> str:
        if not is_nip(value):
            raise PydanticCustomError(
                "nip", "to nie jest poprawny NIP: potrzeba 10 cyfr bez kresek, z właściwą cyfrą kontrolną"
            )
        return value

    @property
    def paths(self) -> Paths:
        """The folders in one place."""
        return Paths(
            data_dir=self.data_dir,
            inbox=self.inbox.path,
            outbox=self.inbox.outbox,
            processed=self.inbox.processed,
            rejected=self.inbox.rejected,
            incoming=self.incoming.folder,
        )


SECTIONS: Mapping[str, type[BaseModel]] = {
    name: field.annotation
    for name, field in Config.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
}


def load(path: Path | None, environ: Mapping[str, str], *, keyless: bool = False) -> Config:
    """Find, read and check the settings. With ``keyless`` what logs in to KSeF need not be there: the page's process is
    given none of it.

    path: what ``--config`` named, or None for the lookup of CONTRACT §2. environ: usually ``os.environ``; without any
    file it alone may hold the settings, paths being then relative to the current folder.
    Raises ConfigurationFault in Polish, listing every mistake found, each with its key.
    """
    source = _find(path, environ)
    raw = _parsed(source) if source is not None else {}
    base = source.parent if source is not None else Path.cwd()
    mistakes = list(_secrets_in_file(raw))
    overridden = _override(raw, environ, mistakes)
    _fill_in(raw, base, environ.get("CREDENTIALS_DIRECTORY"), mistakes)
    config: Config | None = None
    try:
        config = Config(**raw)
    except ValidationError as fault:
        mistakes += [_told(error, overridden) for error in fault.errors(include_url=False, include_context=True)]
    if config is not None:
        found = [(loc, text) for loc, text in _contradictions(config) if not (keyless and loc in _KEYS)]
        mistakes += [f"{_key(loc, overridden)}: {text}" for loc, text in found]
    if config is None or mistakes:
        where = f"pliku {source}" if source is not None else "zmiennych środowiska"
        listed = "".join(f"\n  - {mistake}" for mistake in dict.fromkeys(mistakes))
        raise ConfigurationFault(f"Konfiguracja w {where} wymaga poprawy:{listed}")
    return config


# What logs in to KSeF and is no business of the page's.
_KEYS = (("auth", "token_file"),)


def secret_variables() -> frozenset[str]:
    """Names of the environment variables that hold secrets."""
    return frozenset(
        _variable((section, key))
        for section, model in SECTIONS.items()
        for key, field in model.model_fields.items()
        if _Mark.ENVIRONMENT_ONLY in field.metadata
    )


# What the page may change while the buffer runs: "section.key", or a whole section.
RUNTIME = (
    "sending",
    "incoming.interval_minutes",
    "incoming.subjects",
    "incoming.pdf",
    "offline.mode",
    "offline.auto_after_seconds",
    "offline.heed_latarnia",
    "offline.free_days",
    "offline.working_days",
    "notify",
    "inbox.responses",
    "inbox.settle_seconds",
    "inbox.pdf",
)


def changeable(key: str) -> bool:
    """Whether ``section.key`` may change while the buffer runs."""
    section, _, name = key.partition(".")
    known = section in SECTIONS and name in SECTIONS[section].model_fields
    return known and (section in RUNTIME or key in RUNTIME)


def with_overrides(config: Config, values: Mapping[str, Any]) -> Config:
    """The settings with some of them changed while the buffer runs; ``values`` by "section.key", as TOML holds them.

    Raises ConfigurationFault in Polish, listing every mistake with its key, as ``load`` does.
    """
    mistakes = [f"{key}: tego ustawienia nie zmienia się w trakcie pracy" for key in values if not changeable(key)]
    changed: dict[str, BaseModel] = {}
    for section, model in SECTIONS.items():
        mine = {key: value for key, value in values.items() if key.startswith(section + ".") and changeable(key)}
        given = {key.partition(".")[2]: value for key, value in mine.items()}
        if not given:
            continue
        present: BaseModel = getattr(config, section)
        kept = {name: getattr(present, name) for name in present.model_fields_set}
        try:
            changed[section] = model(**{**kept, **given})
        except ValidationError as fault:
            told = fault.errors(include_url=False, include_context=True)
            mistakes += [_told(cast(ErrorDetails, {**one, "loc": (section, *one["loc"])}), set()) for one in told]
    merged = config.model_copy(update=changed)
    if not mistakes:
        mistakes = [f"{_key(loc, set())}: {text}" for loc, text in _contradictions(merged) if loc not in _KEYS]
    if mistakes:
        listed = "".join(f"\n  - {mistake}" for mistake in dict.fromkeys(mistakes))
        raise ConfigurationFault(f"Ustawienia wymagają poprawy:{listed}")
    return merged


def example_text() -> str:
    """The commented example as shipped: inside the wheel, or at the root of a checkout."""
    packed = resources.files("ksefbuffer") / "_config.example.toml"
    if packed.is_file():
        return packed.read_text(encoding="utf-8")
    return (Path(__file__).resolve().parent.parent / "config.example.toml").read_text(encoding="utf-8")


def render_example(nip: str, environment: str) -> str:
    """The example for ``init``: with this NIP and environment; outside "sandbox" the certificate's keys are active."""
    text = re.sub(r'(?m)^nip = "[^"]*"', f'nip = "{nip}"', example_text(), count=1)
    text = re.sub(r'(?m)^environment = "[^"]*"', f'environment = "{environment}"', text, count=1)
    if environment != "sandbox":
        head, auth = text.split("\n[auth]", 1)
        for key in ("certificate", "private_key"):
            auth = re.sub(rf"(?m)^# ?({key} = )", r"\1", auth, count=1)
        text = f"{head}\n[auth]{auth}"
    return text


def _find(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    named = path or (Path(environ[PREFIX + "CONFIG"]) if environ.get(PREFIX + "CONFIG") else None)
    if named is not None:
        return named.absolute()
    places = (Path("config.toml").absolute(), SYSTEM_FILE)
    for place in places:
        if place.is_file():
            return place
    if environ.get(PREFIX + "NIP"):
        return None
    raise ConfigurationFault(
        f"Nie znaleziono konfiguracji; szukano: {', '.join(map(str, places))}.",
        action="Utwórz ją poleceniem `ksefbuffer init` albo wskaż plik opcją --config.",
    )


def _parsed(source: Path) -> dict[str, Any]:
    try:
        # Windows editors put a byte order mark in front; TOML does not allow one.
        return tomllib.loads(source.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigurationFault(
            f"Nie ma pliku konfiguracji {source}.", action="Popraw ścieżkę albo utwórz go poleceniem `ksefbuffer init`."
        ) from None
    except OSError as fault:
        raise ConfigurationFault(
            f"Nie można odczytać pliku konfiguracji {source}: {fault.strerror}.", action="Sprawdź uprawnienia do pliku."
        ) from None
    except UnicodeDecodeError:
        raise ConfigurationFault(
            f"Plik konfiguracji {source} nie jest zapisany w UTF-8.", action="Zapisz go ponownie w kodowaniu UTF-8."
        ) from None
    except tomllib.TOMLDecodeError as fault:
        # The parser's own sentence may quote the text at fault, so only the place is passed on.
        place = re.search(r"at line (\d+), column (\d+)", str(fault))
        where = f"wiersz {place[1]}, kolumna {place[2]}" if place else "koniec pliku"
        raise ConfigurationFault(
            f"Plik konfiguracji {source} nie jest poprawnym TOML: {where}.",
            action="Najczęściej brakuje cudzysłowu, nawiasu lub znaku = (ścieżki Windows pisz w apostrofach).",
        ) from None


def _secrets_in_file(raw: dict[str, Any]) -> Iterator[str]:
    for section, model in SECTIONS.items():
        given = raw.get(section)
        for key, field in model.model_fields.items():
            if isinstance(given, dict) and _Mark.ENVIRONMENT_ONLY in field.metadata and key in given:
                del given[key]
                yield (
                    f"{section}.{key}: sekretów nie zapisuje się w konfiguracji; zapisz go w osobnym pliku i podaj "
                    f"{section}.{key}_file albo ustaw zmienną {_variable((section, key))}"
                )


def _override(raw: dict[str, Any], environ: Mapping[str, str], mistakes: list[str]) -> set[tuple[str, ...]]:
    """Lay the KSEFBUFFER_… variables over ``raw``; returns the keys that came from them."""
    overridden: set[tuple[str, ...]] = set()
    known = {loc: _variable(loc) for loc in _known_keys()}
    by_variable = {variable: loc for loc, variable in known.items()}
    for name, value in sorted(environ.items()):
        if not name.startswith(PREFIX) or name in NOT_SETTINGS:
            continue
        loc = by_variable.get(name)
        if loc is None:
            near = get_close_matches(name, by_variable, n=1, cutoff=0.6)
            mistakes.append(f"nieznana zmienna środowiska {name}" + (f"; czy chodziło o {near[0]}?" if near else ""))
            continue
        place = raw if len(loc) == 1 else raw.setdefault(loc[0], {})
        if isinstance(place, dict):
            place[loc[-1]] = value
            overridden.add(loc)
    return overridden


def _fill_in(raw: dict[str, Any], base: Path, credentials: str | None, mistakes: list[str]) -> None:
    """What depends on where the file lies and on other keys: absolute paths and addresses, the official addresses."""
    for section in SECTIONS:
        raw.setdefault(section, {})
    tables: list[tuple[str, dict[str, Any], Mapping[str, FieldInfo]]] = [("", raw, Config.model_fields)]
    tables += [(name + ".", raw[name], model.model_fields) for name, model in SECTIONS.items() if _is_table(raw[name])]
    for prefix, table, fields in tables:
        for key, field in fields.items():
            value = table.get(key, field.default)
            if _Mark.CREDENTIAL in field.metadata and value == "":
                table[key] = None
            elif isinstance(value, str | Path) and {_Mark.FOLDER, _Mark.CREDENTIAL} & set(field.metadata):
                if not str(value).strip() or "\0" in str(value):
                    mistakes.append(f"{prefix}{key}: ścieżka nie może być pusta ani zawierać znaku NUL")
                    value = "."
                found = Path(credentials or "", value) if credentials and _Mark.CREDENTIAL in field.metadata else None
                # The credential wins: the file of the same name beside the configuration may be root's alone.
                table[key] = found if found is not None and found.is_file() else base / value
    ksef, database, erp = raw["ksef"], raw["database"], raw["table"]
    if _is_table(ksef):
        own = ksef.get("base_url")
        for key, address in ADDRESSES.get(str(raw.get("environment")), ADDRESSES["sandbox"]).items():
            ksef.setdefault(key, address)
        if raw.get("environment") == "sandbox" and isinstance(own, str) and ksef["latarnia_url"] in _SANDBOX:
            # The simulator's Latarnia stands beside its API, wherever that is.
            ksef["latarnia_url"] = f"{own.rstrip('/').removesuffix('/v2')}/latarnia"
    if _is_table(database):
        if "url" not in database and isinstance(raw["data_dir"], Path):
            database["url"] = f"sqlite:///{raw['data_dir'] / 'ksefbuffer.db'}"
        database["url"] = _absolute_sqlite(database.get("url"), base)
    if _is_table(erp):
        erp["url"] = _absolute_sqlite(erp.get("url", Table.model_fields["url"].default), base)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _absolute_sqlite(url: Any, base: Path) -> Any:
    file = _sqlite_file(url) if isinstance(url, str) else None
    if file is None or file.is_absolute():
        return url
    scheme, rest = cast(str, url).split(":///", 1)
    query = rest.partition("?")[2]
    return f"{scheme}:///{base / file}" + (f"?{query}" if query else "")


def _sqlite_file(url: str) -> Path | None:
    match = re.fullmatch(r"sqlite(?:\+\w+)?:///([^?]+)(?:\?.*)?", url, flags=re.DOTALL)
    return None if match is None or match[1] == ":memory:" or match[1].startswith("file:") else Path(match[1])


def _contradictions(config: Config) -> Iterator[tuple[tuple[str, ...], str]]:
    """Keys that are right by themselves and wrong together."""
    yield from _wrong_addresses(config)
    yield from _wrong_keys(config)
    yield from _entangled_folders(config)
    if config.environment == "production" and config.incoming.interval_minutes < PRODUCTION_PULL_MINUTES:
        yield ("incoming", "interval_minutes"), f"na produkcji nie mniej niż {PRODUCTION_PULL_MINUTES} (limity KSeF)"
    if (config.web.tls_certificate is None) != (config.web.tls_private_key is None):
        absent = "tls_certificate" if config.web.tls_certificate is None else "tls_private_key"
        yield ("web", absent), "brakuje tego klucza: certyfikat HTTPS i jego klucz podaje się razem"
    if config.table.outgoing == config.table.incoming:
        yield ("table", "incoming"), "musi być inną tabelą niż table.outgoing"
    own, erp = config.database.sqlite_file, _sqlite_file(config.table.url)
    if config.table.enabled and own is not None and erp is not None and own.resolve() == erp.resolve():
        yield ("table", "url"), "to musi być baza ERP, inna niż własna baza bufora (database.url)"


def _wrong_addresses(config: Config) -> Iterator[tuple[tuple[str, ...], str]]:
    owners = {
        (key, urlsplit(address).hostname): environment
        for environment, addresses in ADDRESSES.items()
        for key, address in addresses.items()
        if environment != "sandbox" and key != "latarnia_url"
    }
    for key in ("base_url", "latarnia_url", "qr_url"):
        if not getattr(config.ksef, key):
            continue
        address = urlsplit(getattr(config.ksef, key))
        if address.scheme == "http" and config.environment != "sandbox":
            yield ("ksef", key), 'musi zaczynać się od https:// (http:// tylko w environment = "sandbox")'
        owner = owners.get((key, address.hostname), config.environment)
        # The sandbox prints TEST's links, as no QR page of its own exists.
        if owner != config.environment and not (key == "qr_url" and config.environment == "sandbox"):
            yield ("ksef", key), f'to adres środowiska "{owner}": usuń ten klucz albo ustaw environment = "{owner}"'


def _wrong_keys(config: Config) -> Iterator[tuple[tuple[str, ...], str]]:
    for name, keys in (("auth", config.auth), ("offline", config.offline)):
        pair = (keys.certificate, keys.private_key)
        if keys.pkcs12 is not None and pair != (None, None):
            yield (name, "pkcs12"), f"podaj albo pkcs12, albo {name}.certificate i {name}.private_key, nie oba naraz"
        elif (keys.certificate is None) != (keys.private_key is None):
            absent = "certificate" if keys.certificate is None else "private_key"
            yield (name, absent), "brakuje tego klucza: certyfikat i klucz prywatny podaje się razem"
    auth = config.auth
    if auth.method == "token" and not auth.configured:
        yield ("auth", "token_file"), f"brakuje tokenu: podaj plik albo zmienną {PREFIX}AUTH__TOKEN"
    if auth.internal_id:
        shape = re.fullmatch(r"(\d{10})-\d{5}", auth.internal_id)
        # KSeF checks the last digit on production only (FACTS §12).
        if shape is None or (config.environment == "production" and not internal_id_ok(auth.internal_id)):
            yield ("auth", "internal_id"), 'to nie jest identyfikator wewnętrzny w postaci "NIP-NNNNN"'
        elif shape[1] != config.nip:
            yield ("auth", "internal_id"), f"musi zaczynać się od NIP-u bufora, {config.nip}"


def _entangled_folders(config: Config) -> Iterator[tuple[tuple[str, ...], str]]:
    folders = {
        ("inbox", "path"): config.inbox.path,
        ("inbox", "outbox"): config.inbox.outbox,
        ("inbox", "processed"): config.inbox.processed,
        ("inbox", "rejected"): config.inbox.rejected,
        ("incoming", "folder"): config.incoming.folder,
        ("data_dir",): config.data_dir,
    }
    resolved = {loc: folder.resolve() for loc, folder in folders.items()}
    inbox, seen = resolved["inbox", "path"], dict[Path, tuple[str, ...]]()
    for loc, folder in resolved.items():
        if folder in seen:
            yield loc, f"to ten sam folder co {'.'.join(seen[folder])}; każdy musi być inny"
        elif inbox in folder.parents:
            yield loc, "nie może leżeć wewnątrz inbox.path"
        seen.setdefault(folder, loc)
    if resolved["incoming", "folder"] in inbox.parents:
        # Received invoices are filed there by program; dropped into an inbox they would be sent as our own.
        yield ("inbox", "path"), "nie może leżeć wewnątrz incoming.folder"


def _known_keys() -> Iterator[tuple[str, ...]]:
    yield from ((name,) for name in Config.model_fields if name not in SECTIONS)
    for section, model in SECTIONS.items():
        yield from ((section, key) for key in model.model_fields)


def _variable(loc: tuple[str, ...]) -> str:
    return PREFIX + "__".join(loc).upper()


def _key(loc: tuple[str, ...], overridden: set[tuple[str, ...]]) -> str:
    return f"{'.'.join(loc)} (zmienna {_variable(loc)})" if loc in overridden else ".".join(loc)


def _told(error: ErrorDetails, overridden: set[tuple[str, ...]]) -> str:
    """One mistake as a Polish line. The value itself is quoted only where it cannot be a secret: a choice of words."""
    loc = tuple(str(part) for part in error["loc"][:2] if isinstance(part, str))
    key, kind, context = _key(loc, overridden), error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown(loc)
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", str(context["expected"]))
        near = get_close_matches(str(error["input"]), allowed, n=1)
        return f"{key}: dozwolone wartości: {', '.join(allowed)}" + (f"; czy chodziło o „{near[0]}”?" if near else "")
    if kind in ("greater_than_equal", "less_than_equal"):
        edge = f"co najmniej {context['ge']}" if "ge" in context else f"co najwyżej {context['le']}"
        return f"{key}: wartość musi wynosić {edge}"
    if kind in _SENTENCES:
        return f"{key}: {_SENTENCES[kind]}"
    known = next((text for start, text in _SENTENCES.items() if kind.startswith(start)), None)
    # What this module's own validators say is Polish already; anything else of pydantic's stays unsaid.
    own = error["msg"] if kind in _OWN_KINDS else "nieprawidłowa wartość"
    return f"{key}: {known or own}"


_OWN_KINDS = ("list", "repeats", "address", "webhook", "day", "database", "notify", "boolean", "nip")
_SENTENCES = {
    "missing": "brakuje tego klucza",
    "int": "to musi być liczba całkowita",
    "float": "to musi być liczba",
    "finite_number": "to musi być zwykła, skończona liczba",
    "bool_": "to musi być true albo false",
    "string_type": "to musi być tekst w cudzysłowie",
    "string_too_short": "nie może być puste",
    "string_pattern_mismatch": "zawiera niedozwolone znaki albo jest puste",
    "too_short": "lista nie może być pusta",
    "tuple_type": 'to musi być lista w nawiasach kwadratowych, np. ["json"]',
    "path_type": "to musi być ścieżka w cudzysłowie",
    "model_": "to musi być sekcja w nawiasach kwadratowych, a nie pojedyncza wartość",
}


def _unknown(loc: tuple[str, ...]) -> str:
    name = loc[-1]
    if len(loc) == 1:
        siblings, what = list(Config.model_fields), "nieznany klucz lub sekcja"
    else:
        siblings, what = list(SECTIONS[loc[0]].model_fields), "nieznany klucz"
    near = get_close_matches(name, siblings, n=1, cutoff=0.6)
    elsewhere = [known for known in _known_keys() if known[-1] == name]
    if elsewhere:
        place = ".".join(elsewhere[0]) if len(elsewhere[0]) > 1 else f"{name} na początku pliku, przed sekcjami"
        return f"{'.'.join(loc)}: {what}; czy chodziło o {place}?"
    if not near:
        every = {".".join(known): known for known in _known_keys()}
        near = get_close_matches(".".join(loc), every, n=1, cutoff=0.6)
        return f"{'.'.join(loc)}: {what}" + (f"; czy chodziło o {near[0]}?" if near else "")
    return f"{'.'.join(loc)}: {what}; czy chodziło o {'.'.join((*loc[:-1], near[0]))}?"


def _secret_text(path: Path, key: str) -> str:
    try:
        text = path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as fault:
        raise ConfigurationFault(
            f"{key}: nie można odczytać pliku {path}: {fault.strerror}.", action="Sprawdź ścieżkę i uprawnienia."
        ) from None
    except UnicodeDecodeError:
        raise ConfigurationFault(
            f"{key}: plik {path} nie jest tekstem w UTF-8.", action="Zapisz go ponownie."
        ) from None
    if not text:
        raise ConfigurationFault(f"{key}: plik {path} jest pusty.", action="Zapisz w nim sekret.")
    return text
