"""What strangers, other sites, broken clients and large bodies meet."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import APIRouter

from ksefbuffer.queue import people
from ksefbuffer.queue.db import Database
from ksefbuffer.web import app as application
from ksefbuffer.web import guard
from ksefbuffer.web.gate import PageForm, address, cookie_name, is_secure
from ksefbuffer.web.site import Site
from tests.conftest import Clock
from tests.web.conftest import Live
from tests.web.test_login import field

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


# Cross-site request forgery


def add_group(client: httpx.Client, csrf: str | None, **headers: str) -> int:
    data = {"nazwa": f"grupa {len(headers)} {csrf}"} | ({"csrf": csrf} if csrf is not None else {})
    return client.post("/uzytkownicy/grupy", data=data, headers=headers).status_code


def groups(site: Site) -> int:
    with site.database.reading() as tx:
        return len(people.all_groups(tx))


def test_a_form_needs_its_sessions_token(
    site: Site, client: httpx.Client, signed_in: Callable[..., str], live: str
) -> None:
    csrf = signed_in(client, "szef", admin=True)
    with httpx.Client(base_url=live) as other:
        strange = signed_in(other, "drugi", admin=True)
    assert add_group(client, None) == 403
    assert add_group(client, "") == 403
    assert add_group(client, "zły") == 403
    assert add_group(client, "żółć") == 403
    assert add_group(client, strange) == 403
    assert groups(site) == 0
    assert add_group(client, csrf) == 303
    assert groups(site) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
    ],
)
def test_another_sites_page_cannot_send_our_forms(
    site: Site, client: httpx.Client, signed_in: Callable[..., str], headers: dict[str, str]
) -> None:
    csrf = signed_in(client, "szef", admin=True)
    assert add_group(client, csrf, **headers) == 403
    assert groups(site) == 0


def test_our_own_page_can(site: Site, client: httpx.Client, signed_in: Callable[..., str], live: str) -> None:
    csrf = signed_in(client, "szef", admin=True)
    assert add_group(client, csrf, **{"Sec-Fetch-Site": "same-origin", "Origin": live}) == 303
    assert groups(site) == 1


def test_the_login_form_is_guarded_too(client: httpx.Client) -> None:
    data = {"login": "anna", "haslo": "cokolwiek jest"}
    assert client.post("/logowanie", data=data).status_code == 403
    client.get("/logowanie")
    assert client.post("/logowanie", data={**data, "csrf": "zły"}).status_code == 403
    token = client.cookies["ksefbuffer-form"]
    assert client.post("/logowanie", data={**data, "csrf": token}, headers={"Origin": "null"}).status_code == 403
    assert client.post("/logowanie", data={**data, "csrf": token}).status_code == 422


def test_a_get_changes_nothing(client: httpx.Client, signed_in: Callable[..., str]) -> None:
    signed_in(client, "anna")
    assert client.get("/wyloguj").status_code == 405
    assert client.get("/haslo").status_code == 200


# Headers


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that fails, one that takes any form, and one that reads a body, beside the others."""
    router = APIRouter()

    @router.get("/zepsute")
    def fails() -> None:
        raise RuntimeError("secret words of an invoice")

    @router.get("/api/v1/zepsute")
    def fails_for_programs() -> None:
        raise RuntimeError("secret words of an invoice")

    @router.post("/wysylka/cialo")
    def takes_more(form: PageForm) -> dict[str, int]:
        return {"size": sum(len(file.content) for file in form.files("plik"))}

    class Section:
        pass

    Section.router = router  # type: ignore[attr-defined]
    monkeypatch.setattr(application, "PAGES", (Section, *application.PAGES))


def test_every_answer_carries_the_headers(broken: None, client: httpx.Client, signed_in: Callable[..., str]) -> None:
    signed_in(client, "szef", admin=True)
    statuses = set()
    for method, path in [
        *(("GET", "/haslo"), ("GET", "/uzytkownicy"), ("GET", "/dziennik/csv"), ("GET", "/nie-ma"), ("PUT", "/haslo")),
        *(("GET", "/static/app.css"), ("GET", "/static/nie-ma"), ("GET", "/api/v1/nie-ma"), ("GET", "/zepsute")),
        *(("GET", "/api/v1/zepsute"), ("POST", "/uzytkownicy"), ("GET", "/logowanie"), ("GET", "/api/openapi.json")),
    ]:
        answer = client.request(method, path)
        statuses.add(answer.status_code)
        assert answer.headers["content-security-policy"] == POLICY, path
        assert answer.headers["x-content-type-options"] == "nosniff", path
        assert answer.headers["x-frame-options"] == "DENY", path
        assert answer.headers["referrer-policy"] == "same-origin", path
        assert answer.headers["cross-origin-opener-policy"] == "same-origin", path
        assert answer.headers["cross-origin-resource-policy"] == "same-origin", path
        stored = "public, max-age" if path == "/static/app.css" else "no-store"
        assert answer.headers["cache-control"].startswith(stored), path
        assert "strict-transport-security" not in answer.headers
    assert statuses >= {200, 403, 404, 405, 500}


def test_pages_hold_no_inline_script_or_style(client: httpx.Client, signed_in: Callable[..., str]) -> None:
    signed_in(client, "szef", admin=True)
    for path in ("/logowanie", "/haslo", "/uzytkownicy", "/uzytkownicy/grupy", "/uzytkownicy/klucze", "/dziennik"):
        text = client.get(path).text
        for inline in ("style=", "<style", "onclick", "onsubmit", "javascript:", "<script>"):
            assert inline not in text, (path, inline)
        assert "http://" not in text.replace(str(client.base_url), "").replace("http://www.w3.org/", "")


# Errors


def test_a_fault_nobody_foresaw_tells_no_secret(
    broken: None, client: httpx.Client, signed_in: Callable[..., str]
) -> None:
    signed_in(client, "anna")
    page = client.get("/zepsute")
    assert page.status_code == 500
    assert "Coś się zepsuło" in page.text
    problem = client.get("/api/v1/zepsute")
    assert problem.status_code == 500
    assert problem.headers["content-type"] == "application/problem+json"
    assert problem.json()["status"] == 500
    assert "secret" not in page.text + problem.text


def test_programs_get_problems_and_people_get_pages(client: httpx.Client) -> None:
    page = client.get("/nie-ma")
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "Nie ma takiej strony" in page.text
    problem = client.get("/api/v1/nie-ma")
    assert (problem.status_code, problem.headers["content-type"]) == (404, "application/problem+json")
    assert problem.json()["type"].endswith(":not-found")
    assert client.put("/logowanie").status_code == 405


@pytest.mark.parametrize("path", ["/zaproszenie/%3Cscript%3E", "/nie-ma/%3Cscript%3Ealert(1)%3C/script%3E"])
def test_what_was_asked_for_is_not_echoed_as_markup(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "<script>" not in answer.text


# Paths


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2Fapp.py",
        "/static/%2e%2e/%2e%2e/config.py",
        "/static//etc/passwd",
        "/static/..%5capp.py",
        "/static/app.css%00.svg",
        "/static/.",
        "/static/",
    ],
)
def test_only_the_files_of_the_page_are_served(live: str, path: str) -> None:
    assert raw(live, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 404")


def test_static_files_come_with_their_version(client: httpx.Client) -> None:
    page = client.get("/logowanie").text
    addresses = [part.split('"')[0] for part in page.split('"/static/')[1:]]
    assert len(addresses) == 3
    for one in addresses:
        assert "?v=" in one
        assert client.get(f"/static/{one}").status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "", "127.0.0.1.evil.example", "[::1"])
def test_a_strangers_name_for_this_machine_is_refused(client: httpx.Client, host: str) -> None:
    answer = client.get("/logowanie", headers={"Host": host})
    assert answer.status_code == 400


@pytest.mark.parametrize("host", ["localhost:9999", "127.0.0.1", "[::1]:1"])
def test_its_own_names_are_known_whatever_the_port(client: httpx.Client, host: str) -> None:
    assert client.get("/logowanie", headers={"Host": host}).status_code == 200


def test_behind_a_proxy_any_name_will_do(make_site: Callable[..., Site], serve: Callable[[Site], Live]) -> None:
    live = serve(make_site("[web]\nproxy = true"))
    assert httpx.get(f"{live.base_url}/logowanie", headers={"Host": "ksef.firma.example"}).status_code == 200


# Bodies


def raw(live: str, text: str, *more: bytes, timeout_s: float = 20) -> bytes:
    """What comes back for these bytes, up to the end of the connection."""
    where = urlsplit(live)
    with socket.create_connection((where.hostname or "", where.port or 0), timeout=timeout_s) as line:
        line.sendall(text.encode())
        for piece in more:
            line.sendall(piece)
        answer = b""
        while piece := line.recv(65_536):
            answer += piece
    return answer


def test_a_body_too_large_is_refused_whole(client: httpx.Client, signed_in: Callable[..., str]) -> None:
    signed_in(client, "szef", admin=True)
    answer = client.post("/uzytkownicy", content=b"x" * (guard.BODY_LIMIT + 1))
    assert answer.status_code == 413
    assert "Za duży plik" in answer.text
    assert client.post("/api/v1/nie-ma", content=b"x" * (guard.BODY_LIMIT + 1)).json()["status"] == 413


def test_a_body_that_hides_its_size_is_counted(client: httpx.Client, signed_in: Callable[..., str]) -> None:
    signed_in(client, "szef", admin=True)

    def pieces() -> Iterator[bytes]:
        yield b"csrf="
        for _ in range(guard.BODY_LIMIT // 100_000 + 1):
            yield b"x" * 100_000

    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert client.post("/uzytkownicy", content=pieces(), headers=headers).status_code == 413


def test_a_size_that_is_a_lie_or_no_number_is_refused(live: str) -> None:
    head = "POST /uzytkownicy HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\nConnection: close\r\n\r\n"
    for told in ("-1", "1e3", "abc", "1, 1000000000"):
        assert raw(live, head.format(told)).startswith(b"HTTP/1.1 400")


def test_invoices_may_be_larger_than_other_bodies(
    broken: None, client: httpx.Client, signed_in: Callable[..., str]
) -> None:
    csrf = signed_in(client, "anna")
    files = {"plik": ("a.xml", b"x" * (guard.BODY_LIMIT + 1000), "text/xml")}
    answer = client.post("/wysylka/cialo", data={"csrf": csrf}, files=files)
    assert answer.json() == {"size": guard.BODY_LIMIT + 1000}


def test_a_body_that_does_not_come_is_not_waited_for(
    live: str, client: httpx.Client, signed_in: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "BODY_WITHIN_S", 0.3)
    signed_in(client, "anna")
    head = (
        "POST /haslo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n"
        f"Cookie: ksefbuffer={client.cookies['ksefbuffer']}\r\n\r\ncsrf=a"
    )
    answer = raw(live, head)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in answer.lower()


# HTTPS and proxies, as the guard sees them


class Asked:
    """As much of a request as the questions about it need."""

    def __init__(self, scheme: str) -> None:
        self.url = urlsplit(f"{scheme}://127.0.0.1/")
        self.client = None


@pytest.mark.parametrize(("scheme", "name"), [("http", "ksefbuffer"), ("https", "__Host-ksefbuffer")])
def test_over_https_the_cookie_is_bound_to_it(scheme: str, name: str) -> None:
    request: Any = Asked(scheme)
    assert (is_secure(request), cookie_name(request), address(request)) == (scheme == "https", name, "")


# The database


def test_without_a_database_the_page_says_what_to_run(
    tmp_path: Path, make_site: Callable[..., Site], serve: Callable[[Site], Live], clock: Clock
) -> None:
    site = make_site()
    file = site.config.database.sqlite_file
    assert file is not None
    site.database.close()
    for path in file.parent.glob(file.name + "*"):
        path.unlink()
    live = serve(site)
    page = httpx.get(f"{live.base_url}/logowanie")
    assert page.status_code == 503
    assert "ksefbuffer init" in page.text
    assert httpx.get(f"{live.base_url}/static/app.css").status_code == 200
    assert not file.exists(), "asking makes no empty database"
    problem = httpx.get(f"{live.base_url}/api/v1/invoices")
    assert (problem.status_code, problem.headers["content-type"]) == (503, "application/problem+json")


def test_an_older_database_is_told_of_until_it_is_upgraded(
    make_site: Callable[..., Site], serve: Callable[[Site], Live], sqlite_database: Database
) -> None:
    site = make_site(database=sqlite_database)
    with sqlite_database.transaction() as tx:
        now = tx.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one()
        tx.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    live = serve(site)
    page = httpx.get(f"{live.base_url}/logowanie")
    assert page.status_code == 503
    assert "ksefbuffer db upgrade" in page.text
    with sqlite_database.transaction() as tx:
        tx.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{now}'")
    assert httpx.get(f"{live.base_url}/logowanie").status_code == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/logowanie?dalej=%00", 400),
        ("/dokumenty?etykieta=a%00b", 400),
        ("/dziennik?kto=%00", 400),
        ("/dokumenty/a%00b", 404),
        ("/zaproszenie/%00", 404),
        ("/api/v1/incoming?folder=%00", 400),
        ("/api/v1/incoming/%00", 404),
    ],
)
def test_a_null_sign_in_an_address_reaches_no_database(
    client: httpx.Client, signed_in: Callable[..., str], path: str, status: int
) -> None:
    signed_in(client, "szef", admin=True)
    answer = client.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("application/problem+json" if "api" in path else "text/html")


def test_a_null_sign_in_a_form_reaches_no_database(client: httpx.Client, signed_in: Callable[..., str]) -> None:
    csrf = signed_in(client, "szef", admin=True)
    token = field(client.get("/logowanie").text)
    assert client.post("/logowanie", data={"csrf": token, "login": "a\0", "haslo": "x"}).status_code == 400
    for path, name in (("/uzytkownicy", "login"), ("/uzytkownicy/grupy", "nazwa"), ("/uzytkownicy/klucze", "\0")):
        assert client.post(path, data={"csrf": csrf, name: "a\0b"}).status_code == 400
    parts = [f'name="csrf"\r\n\r\n{csrf}', 'name="login"\r\n\r\nx', 'name="plik"; filename="a\0b.txt"\r\n\r\nx']
    body = "".join(f"--grenze\r\nContent-Disposition: form-data; {part}\r\n" for part in parts) + "--grenze--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=grenze"}
    assert client.post("/uzytkownicy", content=body, headers=kind).status_code == 400
    assert client.post("/uzytkownicy", data={"csrf": csrf, "login": "ola"}).status_code == 200
