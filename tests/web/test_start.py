"""The guided first start, and a worker that waits for its first certificate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from ksefbuffer import config as configuration
from ksefbuffer import worker
from ksefbuffer.identity.examining import examine
from ksefbuffer.identity.importing import bring_in
from ksefbuffer.identity.material import load_files
from ksefbuffer.identity.selfsigned import make_selfsigned
from ksefbuffer.invoice.precheck import CheckContext, check
from ksefbuffer.ksef.auth import NoLogin
from ksefbuffer.queue import credentials, documents, facts, people
from ksefbuffer.queue.db import Database
from ksefbuffer.web.pages import start
from ksefbuffer.web.site import Site
from ksefbuffer.worker import assembly, rounds
from tests.conftest import Clock
from tests.process.running import Process, command, until
from tests.samples import NIP
from tests.web.working import Beside


@pytest.fixture
def beside(site: Site, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Beside]:
    made = Beside(site, clock, monkeypatch)
    yield made
    made.close()


@pytest.fixture
def admin(client: httpx.Client, signed_in: Callable[..., str]) -> Callable[..., httpx.Response]:
    csrf = signed_in(client, "szef", admin=True)

    def post(path: str) -> httpx.Response:
        answer = client.post(path, data={"csrf": csrf})
        assert answer.status_code == 303, answer.text
        return client.get(answer.headers["location"])

    return post


@pytest.mark.parametrize("nip", [NIP, "7291836450"])
@pytest.mark.parametrize("at", ["2026-11-20T10:15:00", "2026-11-20T23:30:00", "2026-03-29T00:59:59"])
def test_the_test_invoice_passes_the_check_without_a_single_warning(nip: str, at: str) -> None:
    now = datetime.fromisoformat(at).replace(tzinfo=UTC)
    number, content = start.test_invoice(nip, now)
    report = check(content, CheckContext(nip=nip, environment="sandbox", now=now))
    assert [(one.code, one.message) for one in report.findings] == []
    assert now.astimezone(ZoneInfo("Europe/Warsaw")).strftime("%Y%m%d") in number


def test_the_test_invoice_gets_its_number(
    site: Site, beside: Beside, admin: Any, client: httpx.Client, clock: Clock
) -> None:
    page = admin("/start/faktura")
    assert "oczekuje" in page.text
    address = page.text.partition('data-refresh="/start/faktura/')[2].partition('"')[0]
    assert "X-Refresh-Stop" not in client.get(f"/start/faktura/{address}").headers
    beside.work()
    shown = client.get(f"/start/faktura/{address}")
    assert "Działa: faktura ma numer KSeF" in shown.text
    assert shown.headers["X-Refresh-Stop"] == "1"
    clock.forward(1)
    admin("/start/faktura")
    with site.database.reading() as tx:
        assert len(list(documents.listing(tx))) == 2, "each one has its own number"


def test_folders_are_tried_by_the_worker(site: Site, beside: Beside, admin: Any, client: httpx.Client) -> None:
    admin("/start/folder")
    beside.orders.step()
    assert "Próba zapisu udana" in client.get("/certyfikaty/zlecenie/1").text
    assert list(site.config.inbox.path.iterdir()) == []
    site.config.inbox.outbox.rmdir()
    admin("/start/folder")
    beside.orders.step()
    shown = client.get("/certyfikaty/zlecenie/2").text
    assert ("Nie ma folderu" in shown, "prawo zapisu" in shown) == (True, True)


def test_it_is_offered_until_somebody_ends_it(site: Site, admin: Any, client: httpx.Client) -> None:
    with site.database.reading() as tx:
        assert start.is_offered(tx)
    assert '<a href="/start">' in client.get("/").text
    for step in range(1, 5):
        assert start.STEPS[step - 1] in client.get(f"/start?krok={step}").text
    admin("/start/koniec")
    with site.database.reading() as tx:
        assert not start.is_offered(tx)
    assert "Pomiń" not in client.get("/start").text
    assert "/start" not in client.get("/").text


def test_steps_that_are_none_harm_nothing(admin: Any, client: httpx.Client) -> None:
    for krok in ("0", "-5", "99"):
        assert client.get(f"/start?krok={krok}").status_code == 200
    assert client.get("/start?krok=2&zlecenie=999").status_code == 200
    assert client.get("/start?krok=x").status_code == 422
    assert client.get("/start?krok=4&dokument=00000000-0000-0000-0000-000000000000").status_code == 404


def test_only_administrators_come_here(client: httpx.Client, signed_in: Any) -> None:
    csrf = signed_in(client, "anna", grants=[("outgoing", "", True)])
    assert client.get("/start").status_code == 404
    assert "/start" not in client.get("/").text
    for path in ("folder", "faktura", "koniec"):
        assert client.post(f"/start/{path}", data={"csrf": csrf}).status_code == 404


# Where there is no simulator


@pytest.fixture
def elsewhere(tmp_path: Path, sqlite_database: Database, clock: Clock) -> Site:
    """A buffer of KSeF's test environment whose settings name files that nobody has put there."""
    (tmp_path / "config.toml").write_text(
        f'nip = "{NIP}"\nenvironment = "test"\n[auth]\ncertificate = "auth.crt"\nprivate_key = "auth.key"\n'
    )
    return Site(configuration.load(tmp_path / "config.toml", {}), sqlite_database, clock, {})


def an_admin(site: Site) -> str:
    with site.database.transaction() as tx:
        user = people.add_user(tx, "szef", admin=True, password_hash="-", at=site.clock())
        return people.open_session(tx, user.id, at=site.clock(), ip="127.0.0.1")


def test_outside_the_sandbox_no_test_invoice_can_be_sent(elsewhere: Site, serve: Any) -> None:
    token = an_admin(elsewhere)
    with elsewhere.database.reading() as tx:
        session = people.find_session(tx, token, at=elsewhere.clock())
    assert session is not None
    with httpx.Client(base_url=serve(elsewhere).base_url, timeout=20, cookies={"ksefbuffer": token}) as client:
        assert client.post("/start/faktura", data={"csrf": session.csrf}).status_code == 404
        page = client.get("/start?krok=4").text
    assert "zmyślonymi danymi" in page
    assert "Wyślij fakturę testową" not in page


def test_a_kept_certificate_goes_for_files_that_are_not_there(elsewhere: Site, tmp_path: Path) -> None:
    config, database = elsewhere.config, elsewhere.database
    wishes = rounds.Wishes.read(config, database)
    assert worker.in_force(config, database, {}, wishes).auth.has_key, "nothing else is there yet"
    now = datetime.now(UTC)
    certificate, key = make_selfsigned(NIP, now=now)
    (tmp_path / "x.pem").write_bytes(certificate + key)
    credential = load_files(tmp_path / "x.pem", None, None)
    examine(credential, "auth", environment="test", nip=NIP, now=now)
    row = bring_in(database, credentials, worker.vault_of(config, database, {}), credential, "auth", now=now)
    with database.transaction() as tx:
        credentials.activate(tx, row.id, at=now)
    again = rounds.Wishes.read(config, database)
    assert again != wishes, "the work begins anew"
    assert not worker.in_force(config, database, {}, again).auth.has_key
    (tmp_path / "auth.crt").write_bytes(certificate)
    (tmp_path / "auth.key").write_bytes(key)
    assert worker.in_force(config, database, {}, again).auth.has_key, "files that are there go first"
    assert rounds.Wishes.read(config, database).login is None


@pytest.mark.process
def test_a_worker_without_a_certificate_waits_for_who_can_bring_one(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(f'nip = "{NIP}"\nenvironment = "test"\n')
    assert command("run", "--no-web", cwd=tmp_path).returncode == 2, "nobody could bring one"
    database = Database.in_file(tmp_path / "data" / "ksefbuffer.db")
    with database.transaction() as tx:
        people.add_user(tx, "szef", admin=True, password_hash="-", at=datetime.now(UTC))
    buffer = Process("run", "--no-web", cwd=tmp_path, log=tmp_path / "run.log")

    def told(name: str) -> Any:
        with database.reading() as tx:
            found = facts.get(tx, name)
        return found[0] if found else None

    try:
        until(lambda: told("login_trouble") and told("letterbox"), "it waits, and takes orders")
        assert "brakuje certyfikatu" in told("login_trouble")["message"]
        until(lambda: " works" in buffer.text(), "it works")
        assert buffer.terminate() == 0
    finally:
        buffer.end()
        database.close()


def test_the_pause_of_having_no_way_in_ends_with_it(elsewhere: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from ksefbuffer.queue import pauses

    config, database = elsewhere.config, elsewhere.database
    an_admin(elsewhere)
    rounds._assembled(config, database, {}).ksef.close()
    with database.transaction() as tx:
        assert facts.get(tx, "login_trouble") is not None
        until_ = datetime(2030, 1, 1, tzinfo=UTC)
        pauses.pause(tx, "ksef", at=elsewhere.clock(), until=until_, code="x", message="x", action="x")
    monkeypatch.setattr(assembly, "login_of", lambda *_, **__: NoLogin())
    rounds._assembled(config, database, {}).ksef.close()
    with database.reading() as tx:
        assert facts.get(tx, "login_trouble") is None
        assert pauses.known(tx, "ksef") is None
