from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr, ValidationError

from ksefbuffer import config as module
from ksefbuffer.config import ADDRESSES, SECTIONS, Config, example_text, load, render_example
from ksefbuffer.errors import ConfigurationFault

CONTRACT = Path(__file__).parents[1] / ".." / "shared" / "CONTRACT.md"
NIP = "5265877635"
HEAD = f'nip = "{NIP}"\nenvironment = "sandbox"\n'
PRODUCTION = f'nip = "{NIP}"\nenvironment = "production"\n[auth]\ncertificate = "a.crt"\nprivate_key = "a.key"\n'


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def written(text: str, name: str = "config.toml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return written


def refused(path: Path | None, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigurationFault) as caught:
        load(path, environ or {})
    assert caught.value.exit_code == 2
    return str(caught.value)


def known_keys() -> set[str]:
    """Every key that may stand in the file: all but those for secrets from the environment."""
    keys = {name for name in Config.model_fields if name not in SECTIONS}
    for section, model in SECTIONS.items():
        keys |= {
            f"{section}.{key}" for key, field in model.model_fields.items() if field.annotation != SecretStr | None
        }
    return keys


def keys_of(text: str) -> set[str]:
    return {
        name if not isinstance(value, dict) else f"{name}.{key}"
        for name, value in tomllib.loads(text).items()
        for key in (value if isinstance(value, dict) else [name])
    }


# The example


def test_every_key_is_in_the_example_and_the_other_way_round() -> None:
    switched_on = re.sub(r'(?m)^# (?=[a-z0-9_]+ = ["0-9t])', "", example_text())
    assert keys_of(switched_on) == known_keys()


def test_every_key_in_the_example_is_explained() -> None:
    lines = example_text().splitlines()
    key = re.compile(r"(# )?[a-z0-9_]+ = ")
    for number, line in enumerate(lines):
        if key.match(line):
            above = next(other for other in reversed(lines[:number]) if not key.match(other))
            assert above.startswith("#"), f"nothing is said above {line}"


def test_the_example_is_valid_as_it_stands_and_says_the_defaults(write: Any) -> None:
    assert load(write(example_text()), {}) == load(write(HEAD, "short.toml"), {})


def test_every_key_of_the_contract_is_known() -> None:
    if not CONTRACT.exists():
        pytest.skip("the contract's text is not beside this checkout")
    printed = CONTRACT.read_text(encoding="utf-8").split("## 3.")[1].split("```toml")[1].split("```")[0]
    # "same keys as above" and "or pkcs12" are said there in words.
    said = {"auth.pkcs12", "offline.pkcs12"}
    ours = {
        "inbox.pdf",
        "offline.auto_after_seconds",
        "offline.free_days",
        "offline.heed_latarnia",
        "offline.working_days",
        "web.proxy",
        "web.public_url",
        "web.tls_certificate",
        "web.tls_private_key",
        "web.webhook_allow_private",
        "web.webhook_secret_file",
        "web.webhook_urls",
    }
    assert known_keys() - keys_of(printed) == said | ours
    assert keys_of(printed) - known_keys() == set()


@pytest.mark.parametrize("environment", ["sandbox", "test", "demo", "production"])
def test_what_init_writes_is_valid_in_every_environment(write: Any, environment: str) -> None:
    config = load(write(render_example("5260250274", environment)), {})
    assert (config.nip, config.environment) == ("5260250274", environment)
    assert config.auth.configured is (environment != "sandbox")
    assert config.ksef.base_url == ADDRESSES[environment]["base_url"]
    assert not config.offline.has_key


# Where the settings come from


def test_the_lookup_goes_from_the_option_to_the_system(
    write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, variable, system = (write(HEAD + f"[web]\nport = {port}\n", f"{port}.toml") for port in (81, 82, 84))
    local = write(HEAD + "[web]\nport = 83\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "SYSTEM_FILE", system)
    environ = {"KSEFBUFFER_CONFIG": str(variable)}
    assert load(named, environ).web.port == 81
    assert load(None, environ).web.port == 82
    assert load(None, {}).web.port == 83
    local.unlink()
    assert load(None, {}).web.port == 84
    system.unlink()
    assert "ksefbuffer init" in refused(None)


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    assert "nie-ma.toml" in refused(tmp_path / "nie-ma.toml")
    assert "nie-ma.toml" in refused(None, {"KSEFBUFFER_CONFIG": str(tmp_path / "nie-ma.toml")})


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    assert "Nie można odczytać" in refused(tmp_path)


def test_the_environment_overrides_the_file(write: Any) -> None:
    config = load(
        write(HEAD + '[web]\nport = 1\nhost = "a"\n'),
        {
            "KSEFBUFFER_WEB__PORT": "8081",
            "KSEFBUFFER_NIP": "5260250274",
            "KSEFBUFFER_INBOX__RESPONSES": "json, txt",
            "KSEFBUFFER_INCOMING__SUBJECTS": '["buyer"]',
            "KSEFBUFFER_INCOMING__PDF": "false",
            "KSEFBUFFER_INCOMING__SINCE": "2026-03-01",
            "KSEFBUFFER_INBOX__SETTLE_SECONDS": "0.5",
            "HOME": "/root",
        },
    )
    assert (config.web.port, config.web.host, config.nip) == (8081, "a", "5260250274")
    assert config.inbox.responses == ("json", "txt")
    assert config.incoming.subjects == ("buyer",)
    assert config.incoming.pdf is False
    assert config.incoming.since.isoformat() == "2026-03-01"
    assert config.inbox.settle_seconds == 0.5


def test_the_process_environment_is_not_read_behind_the_callers_back(
    write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_DIR", "/elsewhere")
    monkeypatch.setenv("KSEFBUFFER_WEB__PORT", "9")
    config = load(write(HEAD), {})
    assert config.web.port == 8080
    assert config.data_dir.name == "data"


def test_the_environment_alone_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "SYSTEM_FILE", tmp_path / "absent")
    config = load(None, {"KSEFBUFFER_NIP": NIP, "KSEFBUFFER_ENVIRONMENT": "sandbox"})
    assert config.inbox.path == tmp_path / "inbox"


def test_a_mistake_from_the_environment_names_the_variable(write: Any) -> None:
    message = refused(write(HEAD), {"KSEFBUFFER_WEB__PORT": "abc", "KSEFBUFFER_INBOX_PATH": "x"})
    assert "web.port (zmienna KSEFBUFFER_WEB__PORT): to musi być liczba całkowita" in message
    assert "KSEFBUFFER_INBOX_PATH; czy chodziło o KSEFBUFFER_INBOX__PATH?" in message


def test_a_byte_order_mark_is_forgiven(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"\xef\xbb\xbf" + HEAD.encode())
    assert load(tmp_path / "config.toml", {}).nip == NIP


def test_bad_toml_is_told_with_its_line_and_without_its_text(write: Any) -> None:
    message = refused(write(HEAD + "[notify]\nurls = [mailto://u:Tajne1@x]\n"))
    assert "wiersz 4" in message
    assert "Tajne1" not in message


def test_a_file_in_another_encoding_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes((HEAD + "# zażółć").encode("cp1250"))
    assert "UTF-8" in refused(tmp_path / "config.toml")


# Mistakes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "nip: brakuje tego klucza"),
        ("", "environment: brakuje tego klucza"),
        ('nip = "5265877636"', "nip: to nie jest poprawny NIP"),
        ('nip = "526-587-76-35"', "nip: to nie jest poprawny NIP"),
        ("nip = 5265877635", "nip: to musi być tekst w cudzysłowie"),
        ('environment = "prod"', "environment: dozwolone wartości: sandbox, test, demo, production"),
        ('environment = "producton"', "czy chodziło o „production”?"),
        ('enviroment = "test"', "enviroment: nieznany klucz lub sekcja; czy chodziło o environment?"),
        ('path = "x"', "path: nieznany klucz lub sekcja; czy chodziło o inbox.path?"),
        ("[inbux]\na = 1", "inbux: nieznany klucz lub sekcja; czy chodziło o inbox?"),
        ("[inbox]\npol_seconds = 1", "inbox.pol_seconds: nieznany klucz; czy chodziło o inbox.poll_seconds?"),
        ("[web]\nbatch_from = 1", "web.batch_from: nieznany klucz; czy chodziło o sending.batch_from?"),
        ("[web]\nnip = 1", "czy chodziło o nip na początku pliku"),
        ("[web]\nzzz = 1", "web.zzz: nieznany klucz"),
        ("web = 1", "web: to musi być sekcja"),
        ("[inbox]\npoll_seconds = 0", "inbox.poll_seconds: wartość musi wynosić co najmniej 0.1"),
        ("[inbox]\nsettle_seconds = -1", "inbox.settle_seconds: wartość musi wynosić co najmniej"),
        ("[inbox]\nsettle_seconds = nan", "inbox.settle_seconds: to musi być zwykła"),
        ("[inbox]\nsettle_seconds = true", "inbox.settle_seconds: true/false"),
        ("[inbox]\nsettle_seconds = 1e9", "inbox.settle_seconds: wartość musi wynosić co najwyżej 3600"),
        ("[inbox]\nresponses = []", "inbox.responses: lista nie może być pusta"),
        ('[inbox]\nresponses = ["pdf"]', "inbox.responses: dozwolone wartości: json, xml, txt"),
        ('[inbox]\nresponses = ["json", "json"]', "inbox.responses: wartości na liście nie mogą się powtarzać"),
        ("[inbox]\nresponses = 3", "inbox.responses: to musi być lista"),
        ('[inbox]\npath = ""', "inbox.path: ścieżka nie może być pusta"),
        ('[inbox]\npath = "a\\u0000"', "inbox.path: ścieżka nie może"),
        ("[inbox]\npath = 7", "inbox.path: to musi być ścieżka"),
        ("data_dir = 7", "data_dir: to musi być ścieżka"),
        ("[web]\nport = 0", "web.port: wartość musi wynosić co najmniej 1"),
        ("[web]\nport = 65536", "web.port: wartość musi wynosić co najwyżej 65535"),
        ("[web]\nport = 80.5", "web.port: to musi być liczba całkowita"),
        ('[web]\nhost = ""', "web.host: zawiera niedozwolone znaki albo jest puste"),
        ("[sending]\nbatch_from = -1", "sending.batch_from: wartość musi wynosić co najmniej 0"),
        ("[sending]\nsession_idle_seconds = 0", "sending.session_idle_seconds: wartość musi"),
        ("[ksef]\ntimeout_seconds = 0", "ksef.timeout_seconds: wartość musi"),
        ('[ksef]\nbase_url = "api"', "ksef.base_url: to musi być adres"),
        ('[ksef]\nbase_url = "https://u:p@h/v2"', "ksef.base_url: adres nie może zawierać loginu"),
        ('[table]\nenabled = "może"', "table.enabled: to musi być true albo false"),
        ('[table]\nurl = "erp.db"', "table.url: to musi być adres bazy"),
        ('[table]\noutgoing = ""', "table.outgoing: zawiera niedozwolone znaki albo jest puste"),
        ('[table]\noutgoing = "ksef_incoming"', "table.incoming: musi być inną tabelą"),
        ('[table]\nenabled = true\nurl = "sqlite:///data/ksefbuffer.db"', "table.url: to musi być baza ERP"),
        ('[database]\nurl = "mysql://x/y"', "database.url: obsługiwane są adresy"),
        ('[database]\nurl = "sqlite://"', "database.url: baza w pamięci"),
        ('[database]\nurl = "sqlite:///:memory:"', "database.url: baza w pamięci"),
        ("[incoming]\nsince = 20260201", "incoming.since: to musi być data"),
        ('[incoming]\nsince = "2026-02-30"', "incoming.since: to musi być data"),
        ('[incoming]\nsubjects = ["kupiec"]', "incoming.subjects: dozwolone wartości: buyer, third"),
        ("[incoming]\ninterval_minutes = 0", "incoming.interval_minutes: wartość musi"),
        ('[notify]\nurls = ["a@b.pl"]', "notify.urls: to musi być adres Apprise"),
        ('[notify]\nevents = ["deadlin"]', "czy chodziło o „deadline”?"),
        ('[auth]\nmethod = "token"', "auth.token_file: brakuje tokenu"),
        ('[auth]\ncertificate = "a"', "auth.private_key: brakuje tego klucza"),
        ('[auth]\nprivate_key = "a"', "auth.certificate: brakuje tego klucza"),
        ('[auth]\npkcs12 = "a"\ncertificate = "b"\nprivate_key = "c"', "auth.pkcs12: podaj albo pkcs12"),
        ('[offline]\ncertificate = "a"', "offline.private_key: brakuje tego klucza"),
        ('[auth]\ninternal_id = "5260250274-12345"', "auth.internal_id: musi zaczynać się od NIP-u bufora"),
        ('[auth]\ninternal_id = "oddział"', "auth.internal_id: to nie jest identyfikator wewnętrzny"),
        ('[auth]\ntoken = "Tajne1"', "auth.token: sekretów nie zapisuje się w konfiguracji"),
        ('[auth]\nprivate_key_password = "Tajne1"', "KSEFBUFFER_AUTH__PRIVATE_KEY_PASSWORD"),
        ('[offline]\nprivate_key_password = "Tajne1"', "offline.private_key_password_file"),
        ('[inbox]\noutbox = "inbox"', "inbox.outbox: to ten sam folder co inbox.path"),
        ('[inbox]\noutbox = "inbox/x/../out"', "inbox.outbox: nie może leżeć wewnątrz inbox.path"),
        ('[inbox]\nprocessed = "rejected"', "inbox.rejected: to ten sam folder co inbox.processed"),
        ('data_dir = "inbox/data"', "data_dir: nie może leżeć wewnątrz inbox.path"),
        ('[incoming]\nfolder = "inbox"', "incoming.folder: to ten sam folder co inbox.path"),
        ('[incoming]\nfolder = "."', "inbox.path: nie może leżeć wewnątrz incoming.folder"),
    ],
)
def test_a_mistake_names_its_key_and_how_to_mend_it(write: Any, text: str, said: str) -> None:
    given = {line.split(" =")[0] for line in text.splitlines()}
    head = "".join(line + "\n" for line in HEAD.splitlines() if text and line.split(" =")[0] not in given)
    message = refused(write(head + text))
    assert said in message
    assert "Tajne1" not in message
    assert not re.search(r"(?i)\b(input|should|field|must|valid)\b", message), "English slipped through"


def test_all_mistakes_are_told_at_once(write: Any) -> None:
    message = refused(
        write('nip = "1"\nenvironment = "x"\n[web]\nport = 0\n[inbox]\nresponses = ["a"]\nfoo = 1\n'),
        {"KSEFBUFFER_SENDING__BATCH_FROM": "-1"},
    )
    assert [line.split(":")[0] for line in message.splitlines()[1:]] == [
        "  - nip",
        "  - environment",
        "  - inbox.responses",
        "  - inbox.foo",
        "  - sending.batch_from (zmienna KSEFBUFFER_SENDING__BATCH_FROM)",
        "  - web.port",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[incoming]\ninterval_minutes = 14", "incoming.interval_minutes: na produkcji nie mniej niż 15"),
        ('[ksef]\nbase_url = "http://api.ksef.mf.gov.pl/v2"', "ksef.base_url: musi zaczynać się od https://"),
        ('[ksef]\nbase_url = "https://api-test.ksef.mf.gov.pl/v2"', 'to adres środowiska "test"'),
        ('[ksef]\nqr_url = "https://qr-test.ksef.mf.gov.pl"', 'ksef.qr_url: to adres środowiska "test"'),
    ],
)
def test_production_forgives_less(write: Any, text: str, said: str) -> None:
    assert said in refused(write(PRODUCTION + text))
    load(write(HEAD + text.replace("base_url", "latarnia_url"), "sandbox.toml"), {})


def test_the_sandbox_does_not_talk_to_production(write: Any) -> None:
    message = refused(write(HEAD + '[ksef]\nbase_url = "https://api.ksef.mf.gov.pl/v2"'))
    assert 'to adres środowiska "production"' in message


def test_an_internal_id_is_checked_to_its_last_digit_on_production_only(write: Any) -> None:
    branch = 'internal_id = "5265877635-{}"\n'
    load(write(HEAD + "[auth]\n" + branch.format("12345")), {})
    right = [n for n in range(12340, 12350) if _loads(write(PRODUCTION + branch.format(n)))]
    assert len(right) == 1


def _loads(path: Path) -> bool:
    try:
        load(path, {})
    except ConfigurationFault:
        return False
    return True


@pytest.mark.parametrize("environment", ["test", "demo", "production"])
def test_a_certificate_may_be_kept_in_the_database_instead_of_files(write: Any, environment: str) -> None:
    head = f'nip = "{NIP}"\nenvironment = "{environment}"\n'
    assert not load(write(head), {}).auth.configured
    assert load(write(head + '[auth]\npkcs12 = "a.p12"'), {}).auth.configured
    assert load(write(head + '[auth]\nmethod = "token"'), {"KSEFBUFFER_AUTH__TOKEN": "x"}).auth.configured


# What comes out


@pytest.mark.parametrize("environment", ["test", "demo", "production"])
def test_official_addresses_are_built_in(write: Any, environment: str) -> None:
    config = load(write(PRODUCTION.replace("production", environment)), {})
    infix = {"test": "-test", "demo": "-demo", "production": ""}[environment]
    assert config.ksef.base_url == f"https://api{infix}.ksef.mf.gov.pl/v2"
    assert config.ksef.qr_url == f"https://qr{infix}.ksef.mf.gov.pl"
    latarnia = {"test": "-test", "demo": "", "production": ""}[environment]
    assert config.ksef.latarnia_url == f"https://api-latarnia{latarnia}.ksef.mf.gov.pl"


def test_addresses_lose_their_last_slash(write: Any) -> None:
    config = load(write(HEAD + '[ksef]\nbase_url = "http://127.0.0.1:9/v2/"'), {})
    assert config.ksef.base_url == "http://127.0.0.1:9/v2"


def test_paths_are_absolute_and_relative_to_the_file(write: Any, tmp_path: Path) -> None:
    (tmp_path / "sub dir").mkdir()
    path = write(
        HEAD + 'data_dir = "d"\n[inbox]\npath = "/srv/in"\noutbox = "../o"\n[table]\nurl = "sqlite:///../erp.db?x=1"\n'
        '[auth]\ncertificate = "a.crt"\nprivate_key = "/k"\npkcs12 = ""\n',
        "sub dir/config.toml",
    )
    config = load(path, {})
    assert config.paths.inbox == Path("/srv/in")
    assert config.paths.outbox.resolve() == tmp_path / "o"
    assert config.paths.processed == tmp_path / "sub dir" / "processed"
    assert config.paths.incoming == tmp_path / "sub dir" / "incoming"
    assert config.paths.data_dir == tmp_path / "sub dir" / "d"
    assert config.database.url == f"sqlite:///{tmp_path}/sub dir/d/ksefbuffer.db", "the database follows data_dir"
    assert config.database.sqlite_file == tmp_path / "sub dir" / "d" / "ksefbuffer.db"
    assert config.table.url == f"sqlite:///{tmp_path}/sub dir/../erp.db?x=1"
    assert (config.auth.certificate, config.auth.private_key) == (tmp_path / "sub dir" / "a.crt", Path("/k"))
    assert config.auth.pkcs12 is None


def test_a_relative_database_is_beside_the_file_and_postgresql_stays(write: Any, tmp_path: Path) -> None:
    config = load(write(HEAD + '[database]\nurl = "sqlite:///x/y.db"'), {})
    assert config.database.url == f"sqlite:///{tmp_path}/x/y.db"
    config = load(write(HEAD + '[database]\nurl = "postgresql+psycopg://u:p@h/b"'), {})
    assert config.database.url == "postgresql+psycopg://u:p@h/b"
    assert config.database.sqlite_file is None


def test_systemds_credentials_go_before_files_beside_the_configuration(write: Any, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "a.key").write_text("key")
    path = write(PRODUCTION)
    (tmp_path / "a.key").write_text("root's own")
    config = load(path, {"CREDENTIALS_DIRECTORY": str(credentials)})
    assert config.auth.private_key == credentials / "a.key"
    assert config.auth.certificate == tmp_path / "a.crt", "not a credential: beside the configuration"
    assert load(path, {}).auth.private_key == tmp_path / "a.key"


def test_secrets_are_read_from_files_or_the_environment(write: Any, tmp_path: Path) -> None:
    text = HEAD + '[auth]\nmethod = "token"\ntoken_file = "t"\nprivate_key_password_file = "p"\n'
    (tmp_path / "t").write_text("Tajne1\n", encoding="utf-8")
    (tmp_path / "p").write_text("żółć \r\n", encoding="utf-8", newline="")
    config = load(write(text), {})
    assert config.auth.read_token() == "Tajne1"
    assert config.auth.read_private_key_password() == "żółć ", "only the line's end is not the password's"
    assert config.offline.read_private_key_password() is None
    config = load(write(text), {"KSEFBUFFER_AUTH__TOKEN": "T2", "KSEFBUFFER_AUTH__PRIVATE_KEY_PASSWORD": "P2"})
    assert (config.auth.read_token(), config.auth.read_private_key_password()) == ("T2", "P2")


def test_a_secret_that_cannot_be_read_fails_loudly(write: Any, tmp_path: Path) -> None:
    config = load(write(HEAD + '[auth]\nmethod = "token"\ntoken_file = "t"\n'), {})
    with pytest.raises(ConfigurationFault, match=r"auth\.token_file: nie można odczytać"):
        config.auth.read_token()
    (tmp_path / "t").write_text("\n")
    with pytest.raises(ConfigurationFault, match="pusty"):
        config.auth.read_token()
    (tmp_path / "t").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationFault, match="UTF-8"):
        config.auth.read_token()
    with pytest.raises(ConfigurationFault, match="KSEFBUFFER_AUTH__TOKEN"):
        load(write(HEAD), {}).auth.read_token()


def test_no_secret_is_in_the_repr(write: Any) -> None:
    config = load(
        write(
            HEAD + '[notify]\nurls = ["mailto://u:Tajne1@x"]\n[database]\nurl = "postgresql://u:Tajne1@h/b"\n'
            '[table]\nurl = "mssql://u:Tajne1@h/b"\n'
        ),
        {"KSEFBUFFER_AUTH__TOKEN": "Tajne1", "KSEFBUFFER_OFFLINE__PRIVATE_KEY_PASSWORD": "Tajne1"},
    )
    assert "Tajne1" not in repr(config) + str(config)


def test_a_secret_in_a_wrong_value_is_not_repeated(write: Any) -> None:
    message = refused(
        write(HEAD + '[notify]\nurls = ["Tajne1"]\n[database]\nurl = "Tajne1"\n[table]\nurl = "Tajne1"\n'),
        {"KSEFBUFFER_NOTIFY__URLS": "Tajne1"},
    )
    assert "Tajne1" not in message


def test_settings_are_frozen(write: Any) -> None:
    config = load(write(HEAD), {})
    with pytest.raises(ValidationError):
        config.nip = "x"  # type: ignore[misc]
    section: BaseModel = config.web
    with pytest.raises(ValidationError):
        section.port = 1  # type: ignore[attr-defined]
