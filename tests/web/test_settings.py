"""Konfiguracja: what is shown of each setting, and changing those that may change while the buffer runs."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from ksefbuffer.config import Config, changeable, load, with_overrides
from ksefbuffer.errors import ConfigurationFault
from ksefbuffer.queue import facts, overrides, people, pulls
from ksefbuffer.queue.db import Database, worker_is_running
from ksefbuffer.web.explained import explanations
from ksefbuffer.web.pages import settings
from ksefbuffer.web.site import Site
from tests.conftest import Clock
from tests.process.running import Process, town, until
from tests.samples import NIP
from tests.web.working import Beside


@pytest.fixture
def admin(client: httpx.Client, signed_in: Callable[..., str]) -> Callable[..., httpx.Response]:
    csrf = signed_in(client, "szef", admin=True)

    def post(path: str, data: dict[str, Any]) -> httpx.Response:
        answer = client.post(path, data={"csrf": csrf, **data})
        return client.get(answer.headers["location"]) if answer.status_code == 303 else answer

    return post


def stored(site: Site) -> dict[str, Any]:
    with site.database.reading() as tx:
        return overrides.values(tx)


SENDING = {"sending.batch_from": "20", "sending.session_idle_seconds": "60"}


OFFLINE = {"offline.mode": "auto", "offline.auto_after_seconds": "30"}


def test_every_setting_is_explained_in_the_one_place() -> None:
    keys = {name for name in Config.model_fields if name not in settings.SECTIONS}
    keys |= {f"{section}.{name}" for section, model in settings.SECTIONS.items() for name in model.model_fields}
    hidden = {key for key in keys if key in settings.SECRETS and key not in explanations()}
    assert {key for key in keys if not explanations().get(key)} == hidden
    assert all(key.endswith(("token", "password", "secret")) for key in hidden)
    assert not [text for text in explanations().values() if " the " in text or " The " in text], "Polish only"


def test_the_page_shows_each_value_and_where_it_comes_from(
    make_site: Any, serve: Any, signed_in: Any, clock: Clock
) -> None:
    site = make_site(
        '[table]\nurl = "postgresql+psycopg://jan:hasloERP@db/erp"\n[sending]\nbatch_from = 33\n'
        '[notify]\nurls = ["mailto://jan:tajne1@example.pl"]\n'
    )
    site.environ = {"KSEFBUFFER_WEB__PORT": "8080"}
    with httpx.Client(base_url=serve(site).base_url, timeout=20) as client:
        with site.database.transaction() as tx:
            user = people.add_user(tx, "szef", admin=True, password_hash="-", at=clock())
            client.cookies.set("ksefbuffer", people.open_session(tx, user.id, at=clock(), ip="127.0.0.1"))
        page = client.get("/konfiguracja").text
    assert "hasloERP" not in page
    assert "tajne1" not in page
    assert "postgresql+psycopg://…@db/erp" in page
    assert "ustawiono" in page
    assert "SANDBOX" in page
    assert 'value="33"' in page
    row = page.partition('nowrap">port</code>')[2].partition("</tr>")[0]
    assert ("8080" in row, "zmienna środowiska" in row) == (True, True)
    assert "plik konfiguracji" in page.partition("s-sending-batch_from-opis")[2][:600]


def test_a_change_is_kept_with_who_and_when_and_can_be_taken_back(site: Site, admin: Any, client: httpx.Client) -> None:
    page = admin("/konfiguracja/sending", {**SENDING, "sending.batch_from": "55"})
    assert "Zapisano" in page.text
    assert stored(site) == {"sending.batch_from": 55}, "what is as in the file is not kept"
    assert "zmieniono na stronie, user:szef" in page.text
    with site.database.reading() as tx:
        lines = [one for one in people.noted(tx) if one.action == "setting"]
    assert [(one.object, one.note, one.actor) for one in lines] == [("sending.batch_from", "55", "user:szef")]
    admin("/konfiguracja/sending/przywroc", {})
    assert stored(site) == {}
    admin("/konfiguracja/sending", {**SENDING, "sending.batch_from": "55"})
    admin("/konfiguracja/sending", SENDING)
    assert stored(site) == {}, "typing the file's value is taking it back"


@pytest.mark.parametrize(
    ("section", "typed", "said"),
    [
        ("sending", {"sending.batch_from": "-1", "sending.session_idle_seconds": "60"}, "co najmniej 0"),
        ("sending", {"sending.batch_from": "dużo", "sending.session_idle_seconds": "60"}, "liczba całkowita"),
        ("sending", {"sending.batch_from": "", "sending.session_idle_seconds": "60"}, "liczba całkowita"),
        ("incoming", {"incoming.interval_minutes": "15"}, "lista nie może być pusta"),
        ("incoming", {"incoming.interval_minutes": "0", "incoming.subjects": "buyer"}, "co najmniej 1"),
        ("inbox", {"inbox.settle_seconds": "nan", "inbox.responses": "json"}, "zwykła, skończona"),
        ("inbox", {"inbox.settle_seconds": "1", "inbox.responses": "pdf"}, "dozwolone wartości"),
        ("offline", {"offline.mode": "zawsze"}, "dozwolone wartości"),
        ("offline", {**OFFLINE, "offline.auto_after_seconds": "0"}, "co najmniej 1"),
        ("offline", {**OFFLINE, "offline.auto_after_seconds": "inf"}, "zwykła, skończona"),
        ("offline", {**OFFLINE, "offline.heed_latarnia": "może"}, "offline.heed_latarnia"),
        ("offline", {**OFFLINE, "offline.free_days": "2026-12-24, wigilia"}, "RRRR-MM-DD"),
        ("offline", {**OFFLINE, "offline.working_days": "31.02.2026"}, "RRRR-MM-DD"),
        ("offline", {**OFFLINE, "offline.free_days": "1767225600"}, "RRRR-MM-DD"),
        ("notify", {"notify.urls": "to nie adres", "notify.events": "disk"}, "adres Apprise"),
    ],
)
def test_what_the_file_would_not_be_allowed_is_refused_beside_its_field(
    site: Site, admin: Any, section: str, typed: dict[str, str], said: str
) -> None:
    answer = admin(f"/konfiguracja/{section}", typed)
    assert answer.status_code == 422
    assert said in answer.text
    assert stored(site) == {}


def chosen(page: str, key: str) -> list[str]:
    """What a choice shows as chosen, or a field as typed in."""
    html = page.partition(f'name="{key}"')[2].partition("</div>")[0]
    return re.findall(r'<option value="([^"]*)" selected', html) or re.findall(r'^[^>]* value="([^"]*)"', html)


def test_days_truths_and_seconds_of_issuing_offline_are_changed_as_poles_type_them(
    site: Site, admin: Any, client: httpx.Client
) -> None:
    typed = {
        "offline.mode": "manual",
        "offline.auto_after_seconds": "12,5",
        "offline.heed_latarnia": "nie",
        "offline.free_days": "24.12.2026, 2026-12-31;2.1.2027",
        "offline.working_days": "2026-11-11",
    }
    page = admin("/konfiguracja/offline", typed).text
    assert stored(site) == {
        "offline.mode": "manual",
        "offline.auto_after_seconds": 12.5,
        "offline.heed_latarnia": False,
        "offline.free_days": ["2026-12-24", "2026-12-31", "2027-01-02"],
        "offline.working_days": ["2026-11-11"],
    }
    config = settings.in_force(site).offline
    assert (config.mode, config.auto_after_seconds, config.heed_latarnia) == ("manual", 12.5, False)
    assert config.free_days == (date(2026, 12, 24), date(2026, 12, 31), date(2027, 1, 2))
    assert config.working_days == (date(2026, 11, 11),)
    assert chosen(page, "offline.heed_latarnia") == ["nie"]
    assert chosen(page, "offline.free_days") == ["2026-12-24, 2026-12-31, 2027-01-02"]
    admin("/konfiguracja/offline", {**OFFLINE, "offline.heed_latarnia": "tak"})
    assert stored(site) == {"offline.heed_latarnia": True}
    page = admin("/konfiguracja/offline", {**OFFLINE, "offline.heed_latarnia": ""}).text
    assert stored(site) == {}
    assert chosen(page, "offline.heed_latarnia") == [""]


def test_what_the_file_says_of_latarnia_may_be_left_to_the_environment_again(
    make_site: Any, serve: Any, clock: Clock
) -> None:
    site = make_site("[offline]\nheed_latarnia = true\nfree_days = [2026-12-24]\n")
    assert site.config.offline.heed_latarnia is True
    with httpx.Client(base_url=serve(site).base_url, timeout=20) as client:
        with site.database.transaction() as tx:
            user = people.add_user(tx, "szef", admin=True, password_hash="-", at=clock())
            token = people.open_session(tx, user.id, at=clock(), ip="127.0.0.1")
            session = people.find_session(tx, token, at=clock())
        assert session is not None
        client.cookies.set("ksefbuffer", token)
        page = client.get("/konfiguracja").text
        assert chosen(page, "offline.heed_latarnia") == ["tak"]
        same = {**OFFLINE, "offline.heed_latarnia": "tak", "offline.free_days": "2026-12-24", "csrf": session.csrf}
        assert client.post("/konfiguracja/offline", data=same).status_code == 303
        assert stored(site) == {}, "what is as in the file is not kept"
        neither = {**same, "offline.heed_latarnia": "", "offline.free_days": ""}
        assert client.post("/konfiguracja/offline", data=neither).status_code == 303
        page = client.get("/konfiguracja").text
    assert stored(site) == {"offline.heed_latarnia": None, "offline.free_days": []}
    assert (settings.in_force(site).offline.heed_latarnia, settings.in_force(site).offline.free_days) == (None, ())
    assert chosen(page, "offline.heed_latarnia") == [""]


def test_printed_pages_beside_answers_are_switched_on_and_off(site: Site, admin: Any) -> None:
    inbox = {"inbox.settle_seconds": "1", "inbox.responses": "json"}
    admin("/konfiguracja/inbox", {**inbox, "inbox.pdf": "1"})
    assert stored(site) == {"inbox.pdf": True}
    assert settings.in_force(site).inbox.pdf
    admin("/konfiguracja/inbox", inbox)
    assert stored(site) == {}


def test_what_is_set_for_good_or_unknown_cannot_be_changed(site: Site, admin: Any) -> None:
    for section in ("database", "web", "ksef", "auth", "nip", "nie-ma", "__class__"):
        assert admin(f"/konfiguracja/{section}", {f"{section}.url": "sqlite:///x.db"}).status_code == 404, section
    admin("/konfiguracja/inbox", {"inbox.path": "/etc", "inbox.settle_seconds": "2,5", "inbox.responses": "json"})
    assert stored(site) == {"inbox.settle_seconds": 2.5}


def test_production_keeps_its_least_interval() -> None:
    # Checked by the same rules as the file: see with_overrides.
    assert changeable("incoming.interval_minutes")
    assert not changeable("incoming.folder")
    assert not changeable("nip")


def test_overrides_that_contradict_are_all_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(
        f'nip = "{NIP}"\nenvironment = "production"\n[auth]\ntoken_file = "t"\nmethod = "token"\n'
    )
    config = load(tmp_path / "c.toml", {})
    with pytest.raises(ConfigurationFault) as caught:
        with_overrides(config, {"incoming.interval_minutes": 5})
    assert "na produkcji nie mniej niż 15" in caught.value.message
    with pytest.raises(ConfigurationFault) as caught:
        with_overrides(config, {"sending.batch_from": -1, "offline.mode": "x", "inbox.path": "y", "sending.nie_ma": 1})
    assert "inbox.path" in caught.value.message
    assert "sending.nie_ma" in caught.value.message
    with pytest.raises(ConfigurationFault) as caught:
        with_overrides(config, {"sending.batch_from": -1, "offline.mode": "x"})
    assert "sending.batch_from" in caught.value.message
    assert "offline.mode" in caught.value.message
    changed = with_overrides(config, {"sending.batch_from": 7, "incoming.subjects": ["buyer"]})
    assert (changed.sending.batch_from, changed.incoming.subjects) == (7, ("buyer",))
    assert changed.sending.session_idle_seconds == config.sending.session_idle_seconds
    assert config.sending.batch_from == 20


def test_addresses_of_notices_are_sealed_for_the_worker(
    site: Site, admin: Any, client: httpx.Client, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = Beside(site, clock, monkeypatch)
    address = "mailto://jan:bardzotajne@example.pl"
    page = admin("/konfiguracja/notify", {"notify.urls": address, "notify.events": "disk"})
    assert "Zapisano" in page.text
    assert "bardzotajne" not in page.text + json.dumps(stored(site))
    with site.database.reading() as tx:
        assert "bardzotajne" not in "".join(one.note for one in people.noted(tx))
    from ksefbuffer.sender.orders import opened_values

    opened = opened_values(stored(site), beside.orders.letterbox)
    assert opened == {"notify.urls": [address], "notify.events": ["disk"]}
    admin("/konfiguracja/notify", {"notify.urls": "", "notify.events": "disk"})
    assert opened_values(stored(site), beside.orders.letterbox) == opened, "an empty field changes nothing"
    admin("/konfiguracja/notify", {"notify.urls.forget": "1", "notify.events": "disk"})
    assert opened_values(stored(site), beside.orders.letterbox)["notify.urls"] == []
    beside.close()


def test_a_pull_and_a_comparison_are_asked_of_the_worker(
    site: Site, admin: Any, client: httpx.Client, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = Beside(site, clock, monkeypatch)
    with site.database.transaction() as tx:
        pulls.begin(tx, "buyer", "2026-11-01T00:00:00Z", at=clock())
        pulls.rescanned(tx, "buyer", "daily", at=clock())
    assert "Czeka na bufor" in admin("/konfiguracja/polecenie", {"co": "pull"}).text
    beside.orders.step()
    with site.database.reading() as tx:
        told = facts.get(tx, "pull_wanted")
    assert told is not None
    assert told[0]["subjects"] == ["buyer", "third", "authorized", "seller"]
    admin("/konfiguracja/polecenie", {"co": "rescan"})
    beside.orders.step()
    with site.database.reading() as tx:
        cursor = pulls.cursor(tx, "buyer")
    assert cursor is not None
    assert cursor.rescans == {}
    assert "porówna ostatnie dni" in client.get("/certyfikaty/zlecenie/2").text
    assert admin("/konfiguracja/polecenie", {"co": "cert-import"}).status_code == 404
    beside.close()


def test_only_administrators_come_here(client: httpx.Client, signed_in: Any) -> None:
    csrf = signed_in(client, "anna", grants=[])
    assert client.get("/konfiguracja").status_code == 404
    for path in ("/konfiguracja/sending", "/konfiguracja/sending/przywroc"):
        assert client.post(path, data={"csrf": csrf, **SENDING}).status_code == 404


@pytest.mark.process
def test_a_change_takes_effect_in_the_running_worker(tmp_path: Path) -> None:
    with town(tmp_path) as place:
        place.start_ksef()
        systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)
        buffer = Process(
            *("run", "--no-web"),
            cwd=tmp_path,
            log=tmp_path / "run-1.log",
            env={"NOTIFY_SOCKET": str(tmp_path / "notify")},
        )
        place.buffer = buffer
        until(lambda: " works" in buffer.text(), "it works")
        database = Database.in_file(tmp_path / "data" / "ksefbuffer.db")

        def in_force() -> list[str]:
            with database.reading() as tx:
                told = facts.get(tx, "settings_in_force")
            return list(told[0]) if told else []

        assert in_force() == []
        with database.transaction() as tx:
            overrides.put(tx, {"inbox.responses": ["txt"]}, actor="user:szef", at=datetime.now(UTC))
        until(lambda: in_force() == ["inbox.responses"], "the worker has begun anew")
        assert (buffer.alive, worker_is_running(database)) == (True, True)
        from tests.process.test_processes import today_s_invoices

        place.drop("000", today_s_invoices(1)["000"])
        until(lambda: list((tmp_path / "outbox").glob("000*.txt")), "the answer comes in its new spelling")
        assert not list((tmp_path / "outbox").glob("000*.json"))
        # What does not go together any more is left out, and told.
        with database.transaction() as tx:
            overrides.put(tx, {"sending.batch_from": -5}, actor="user:szef", at=datetime.now(UTC))

        def trouble() -> str:
            with database.reading() as tx:
                told = facts.get(tx, "overrides_trouble")
            return str(told[0]["message"]) if told else ""

        until(lambda: "sending.batch_from" in trouble(), "it is told")
        until(lambda: buffer.text().count("works") == 3, "and the buffer works on")
        assert "STOPPING=1" not in heard(systemd), "to systemd a new beginning is no end"
        assert buffer.terminate() == 0
        assert "STOPPING=1" in heard(systemd)
        systemd.close()
        database.close()


def heard(systemd: socket.socket) -> str:
    """All that the service has told so far."""
    told = []
    with suppress(BlockingIOError):
        while True:
            told.append(systemd.recv(4096).decode())
    return "\n".join(told)
