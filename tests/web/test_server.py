"""The page as a server and as a process: exposure, HTTPS, proxies, slow clients, no key in reach."""

from __future__ import annotations

import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from ksefbuffer import config as configuration
from ksefbuffer.commands.web import environment_of_page
from ksefbuffer.errors import ConfigurationFault
from ksefbuffer.identity.selfsigned import make_selfsigned
from ksefbuffer.queue import people
from ksefbuffer.web import passwords, server
from ksefbuffer.web.links import base_url
from ksefbuffer.web.site import Site
from tests.process.running import until
from tests.samples import NIP, NOW
from tests.web.test_login import PASSWORD, field


@contextmanager
def serving(site: Site) -> Iterator[int]:
    """The real server of this site, as ``web`` makes it, on a port of its own."""
    made = server.server_of(site)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=made.run, args=([listening],), daemon=True)
        thread.start()
        until(lambda: made.started, "the server answers", patience_s=20)
        yield listening.getsockname()[1]
        made.should_exit = made.force_exit = True
        thread.join(20)
    assert not thread.is_alive()


def config_of(tmp_path: Path, settings: str, environ: dict[str, str] | None = None) -> configuration.Config:
    path = tmp_path / "config.toml"
    path.write_text(f'nip = "{NIP}"\nenvironment = "sandbox"\n[web]\n{settings}\n')
    return configuration.load(path, environ or {})


@pytest.mark.parametrize(
    ("settings", "fine"),
    [
        ('host = "127.0.0.1"', True),
        ('host = "localhost"', True),
        ('host = "::1"', True),
        ('host = "0.0.0.0"', False),
        ('host = "192.168.1.5"', False),
        ('host = "::"', False),
        ('host = "ksef.firma.example"', False),
        ('host = "0.0.0.0"\nproxy = true', True),
        ('host = "0.0.0.0"\ntls_certificate = "a.crt"\ntls_private_key = "a.key"', True),
    ],
)
def test_passwords_never_cross_a_network_in_the_clear(tmp_path: Path, settings: str, fine: bool) -> None:
    config = config_of(tmp_path, settings)
    if fine:
        server.check_exposure(config)
    else:
        with pytest.raises(ConfigurationFault, match="bez szyfrowania"):
            server.check_exposure(config)


def test_a_certificate_comes_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationFault, match=r"web\.tls_private_key"):
        config_of(tmp_path, 'tls_certificate = "a.crt"')


def test_a_certificate_that_cannot_be_read_is_told(tmp_path: Path, make_site: Callable[..., Site]) -> None:
    site = make_site('[web]\ntls_certificate = "brak.crt"\ntls_private_key = "brak.key"')
    with pytest.raises(ConfigurationFault, match="certyfikatu HTTPS"):
        server.server_of(site)


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationFault, match=f"Port {port} .* zajęty"):
            server.listening_socket(config_of(tmp_path, f"port = {port}"))


def test_a_host_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationFault, match="nie może słuchać"):
        server.listening_socket(config_of(tmp_path, 'host = "192.0.2.1"\nproxy = true'))


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        ("port = 8081", "http://127.0.0.1:8081"),
        ('host = "::1"', "http://[::1]:8080"),
        ('host = "0.0.0.0"\nproxy = true', "http://127.0.0.1:8080"),
        ('tls_certificate = "a"\ntls_private_key = "b"', "https://127.0.0.1:8080"),
        ('public_url = "https://ksef.firma.example/"', "https://ksef.firma.example"),
        ('public_url = ""', "http://127.0.0.1:8080"),
    ],
)
def test_where_the_page_is(tmp_path: Path, settings: str, address: str) -> None:
    assert base_url(config_of(tmp_path, settings)) == address


# HTTPS


def test_over_https_cookies_are_bound_to_it(tmp_path: Path, make_site: Callable[..., Site]) -> None:
    certificate, key = make_selfsigned(NIP, now=NOW)
    (tmp_path / "web.crt").write_bytes(certificate)
    (tmp_path / "web.key").write_bytes(key)
    site = make_site('[web]\ntls_certificate = "web.crt"\ntls_private_key = "web.key"')
    with site.database.transaction() as tx:
        people.add_user(tx, "anna", password_hash=passwords.hashed(PASSWORD), at=site.clock())
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    with serving(site) as port, httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=trusting) as client:
        page = client.get("/logowanie")
        assert page.headers["strict-transport-security"] == "max-age=31536000"
        data = {"csrf": field(page.text), "login": "anna", "haslo": PASSWORD}
        cookies = client.post("/logowanie", data=data).headers.get_list("set-cookie")
        cookie = next(one for one in cookies if one.startswith("__Host-ksefbuffer="))
        assert "Secure" in cookie
        assert "Path=/" in cookie
        assert "Domain" not in cookie
        assert client.get("/haslo").status_code == 200


# Proxies


@pytest.mark.parametrize(("proxy", "secure", "ip"), [("true", True, "203.0.113.7"), ("false", False, "127.0.0.1")])
def test_a_proxy_is_believed_only_when_there_is_one(
    make_site: Callable[..., Site], proxy: str, secure: bool, ip: str
) -> None:
    site = make_site(f"[web]\nproxy = {proxy}")
    told = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.7"}
    with serving(site) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=told) as client:
        page = client.get("/logowanie")
        cookies = " ".join(page.headers.get_list("set-cookie"))
        assert ("__Host-" in cookies, "Secure" in cookies) == (secure, secure)
        form = cookies.split(";", 1)[0]
        data = {"csrf": field(page.text), "login": "anna", "haslo": "cokolwiek"}
        client.post("/logowanie", data=data, headers={"Cookie": form})
    with site.database.reading() as tx:
        assert [(line.action, line.ip) for line in people.noted(tx)] == [("login-refused", ip)]


# Slow and strange clients


def closed_within(line: socket.socket, seconds: float) -> bool:
    line.settimeout(seconds)
    try:
        while line.recv(65_536):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


def test_the_server_does_not_tell_what_it_is(site: Site) -> None:
    with serving(site) as port:
        answer = httpx.get(f"http://127.0.0.1:{port}/logowanie")
    assert "server" not in answer.headers


def test_a_head_that_never_ends_is_cut(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEADERS_WITHIN_S", 0.5)
    with serving(site) as port, socket.create_connection(("127.0.0.1", port)) as line:
        began = time.monotonic()
        line.sendall(b"GET / HTTP/1.1\r\n")
        # A byte now and then must not buy more time.
        with pytest.raises(OSError):
            while time.monotonic() - began < 15:
                line.sendall(b"X")
                threading.Event().wait(0.05)
        assert time.monotonic() - began < 15


def test_a_connection_that_says_nothing_is_cut(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEADERS_WITHIN_S", 0.3)
    with serving(site) as port, socket.create_connection(("127.0.0.1", port)) as line:
        assert closed_within(line, 15)


def test_the_second_request_of_a_connection_must_come_whole_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEADERS_WITHIN_S", 0.5)
    with serving(site) as port, socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(b"GET /logowanie HTTP/1.1\r\nHost: localhost\r\n\r\n")
        line.settimeout(15)
        assert line.recv(65_536).startswith(b"HTTP/1.1 200")
        line.sendall(b"GET /logowanie HTTP/1.1\r\n")
        assert closed_within(line, 15)


def test_a_patient_client_is_not_cut(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEADERS_WITHIN_S", 1.0)
    with serving(site) as port, socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(b"GET /logowanie HTTP/1.1\r\nHost: localhost\r\n\r\n")
        line.settimeout(15)
        assert line.recv(65_536).startswith(b"HTTP/1.1 200")
        assert not closed_within(line, 2.5), "between requests the longer patience of keep-alive counts"


def test_who_does_not_read_the_answer_is_cut(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    cut: list[Any] = []
    monkeypatch.setattr(server, "_READ_WITHIN_S", 0.2)
    monkeypatch.setattr(
        server.Impatient, "connection_lost", _noting(server.Impatient.connection_lost, cut), raising=True
    )
    with serving(site) as port, socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.connect(("127.0.0.1", port))
        # Many answers asked for at once, none read.
        line.setblocking(False)
        request = b"GET /static/app.css HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200
        for _ in range(20):
            try:
                line.send(request)
            except OSError:
                break
        until(lambda: cut, "the connection is cut", patience_s=30)


def _noting(whole: Callable[..., None], cut: list[Any]) -> Callable[..., None]:
    def noting(self: Any, fault: Exception | None) -> None:
        cut.append(fault)
        whole(self, fault)

    return noting


def test_a_head_too_large_is_refused(site: Site) -> None:
    with serving(site) as port, socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(b"GET /logowanie HTTP/1.1\r\nX-Long: ")
        with pytest.raises(OSError):
            for _ in range(10_000):
                line.sendall(b"x" * 65_536)


def test_no_address_asked_for_is_logged(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    with serving(site) as port:
        httpx.get(f"http://127.0.0.1:{port}/zaproszenie/tajny-token?haslo=tajne")
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    assert not any("tajn" in line for line in ours)


# The child process


def test_no_secret_reaches_the_pages_environment(tmp_path: Path) -> None:
    config = config_of(tmp_path, 'tls_certificate = "a.crt"\ntls_private_key = "a.key"')
    secrets = dict.fromkeys(configuration.secret_variables(), "tajne")
    assert {"KSEFBUFFER_AUTH__TOKEN", "KSEFBUFFER_AUTH__PRIVATE_KEY_PASSWORD"} <= secrets.keys()
    environ = {
        **secrets,
        "CREDENTIALS_DIRECTORY": "/run/credentials/x",
        "NOTIFY_SOCKET": "/run/x",
        "WATCHDOG_USEC": "1",
        "PATH": "/bin",
        "KSEFBUFFER_DATABASE__URL": "sqlite:///x.db",
    }
    passed = environment_of_page(environ, config)
    assert passed == {
        "PATH": "/bin",
        "KSEFBUFFER_DATABASE__URL": "sqlite:///x.db",
        "KSEFBUFFER_WEB__TLS_CERTIFICATE": str(tmp_path / "a.crt"),
        "KSEFBUFFER_WEB__TLS_PRIVATE_KEY": str(tmp_path / "a.key"),
    }


def test_the_pages_settings_do_without_the_token(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(f'nip = "{NIP}"\nenvironment = "test"\n[auth]\nmethod = "token"\n')
    with pytest.raises(ConfigurationFault, match="token"):
        configuration.load(tmp_path / "config.toml", {})
    assert configuration.load(tmp_path / "config.toml", {}, keyless=True).auth.method == "token"


def test_serving_opens_no_key_file(tmp_path: Path, site: Site) -> None:
    """Every file that the interpreter opens while pages are served is told by its audit hook."""
    keys = [site.config.data_dir / "machine.key", site.config.data_dir / "sandbox-auth.key"]
    for key in keys:
        key.write_bytes(b"0" * 32)
    opened: list[str] = []
    watching = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event == "open":
            opened.append(str(arguments[0]))

    sys.addaudithook(hook)
    with serving(site) as port:
        for path in ("/logowanie", "/", "/certyfikaty", "/static/app.css"):
            httpx.get(f"http://127.0.0.1:{port}{path}")
    watching = False
    assert opened, "the hook sees files"
    assert [path for path in opened if path.endswith((".key", ".pass", ".token", ".p12"))] == []
