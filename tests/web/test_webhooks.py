"""Webhooks: told at every change, signed, at least once, from rows made due in the commit of the fact."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from ksefbuffer import config as configuration
from ksefbuffer.erp.delivery import Deliver
from ksefbuffer.erp.http import HttpConnector
from ksefbuffer.erp.webhook import SIGNATURE, Webhooks
from ksefbuffer.errors import ConfigurationFault
from ksefbuffer.queue import deliveries, documents, webhooks
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.states import Event, State
from ksefbuffer.web.site import Site
from tests.conftest import Clock, Shop
from tests.process.running import free_port, until
from tests.queue.builders import arrival, document_in, move, new
from tests.samples import NIP, NOW, invoice
from tests.web.calling import Till

QR = "https://qr-test.ksef.mf.gov.pl"
SECRET = "tajny-sekret"


class Receiver:
    """An ERP that listens; answers with ``statuses`` in turn, then with 204."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((self.path, dict(self.headers), body))
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 204)
                self.send_header("Location", "/gdzie-indziej")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/ksef?token=abc"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def told(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, _, body in self.got]

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


@pytest.fixture
def receivers() -> Iterator[Callable[[], Receiver]]:
    made: list[Receiver] = []

    def make() -> Receiver:
        made.append(Receiver())
        return made[-1]

    yield make
    for one in made:
        one.end()


@pytest.fixture
def receiver(receivers: Callable[[], Receiver]) -> Receiver:
    return receivers()


def duty(database: Database, **changes: Any) -> Webhooks:
    made = Webhooks(database, QR, **{"secret": SECRET, "timeout_s": 2.0, **changes})
    made.prepare(NOW)
    return made


def tell_all(one: Webhooks, clock: Clock) -> int:
    steps = 0
    while one.step(clock()):
        steps += 1
    return steps


def handed_in(
    database: Database, callback_url: str | None, state: State = State.QUEUED, **more: Any
) -> documents.Document:
    with database.transaction() as tx:
        document = document_in(tx, state)
        arrival(tx, document, f"{document.id}.xml", callback_url=callback_url, **more)
    return document


def standing(database: Database) -> webhooks.Standing:
    with database.reading() as tx:
        return webhooks.standing(tx)


# What is told


def test_every_change_of_state_is_told_signed_and_as_the_document_object(
    database: Database, clock: Clock, receiver: Receiver
) -> None:
    one = duty(database)
    document = handed_in(database, receiver.url, reference="zam/7")
    tell_all(one, clock)
    for event in (Event.BIND, Event.NUMBER):
        with database.transaction() as tx:
            document = move(tx, document, event)
        tell_all(one, clock)

    assert [told["status"] for told in receiver.told()] == ["queued", "processing", "sent"]
    last = receiver.told()[-1]
    assert (last["document_id"], last["reference"]) == (document.document_id, "zam/7")
    assert last["ksef_number"] == document.ksef_number
    assert "links" not in last
    for path, headers, body in receiver.got:
        assert path == "/ksef?token=abc"
        assert headers["Content-Type"] == "application/json"
        assert headers[SIGNATURE] == "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert standing(database) == webhooks.Standing(0, 0, 0, None)


def test_without_a_secret_nothing_pretends_to_be_signed(database: Database, clock: Clock, receiver: Receiver) -> None:
    handed_in(database, receiver.url)
    tell_all(duty(database, secret=None), clock)
    ((_, headers, _),) = receiver.got
    assert SIGNATURE not in headers


def test_a_change_that_is_undone_tells_nobody(database: Database, clock: Clock, receiver: Receiver) -> None:
    one = duty(database)
    document = handed_in(database, receiver.url)
    tell_all(one, clock)
    with pytest.raises(RuntimeError, match="power"), database.transaction() as tx:
        move(tx, document, Event.BIND)
        raise RuntimeError("power loss")
    assert tell_all(one, clock) == 0
    assert len(receiver.got) == 1


def test_many_documents_moved_at_once_are_each_told_of(database: Database, clock: Clock, receiver: Receiver) -> None:
    one = duty(database)
    several = [handed_in(database, receiver.url) for _ in range(3)]
    tell_all(one, clock)
    with database.transaction() as tx:
        documents.apply_all(
            tx, [document.id for document in several], [State.QUEUED], Event.WITHDRAW, at=clock(), actor="test"
        )
    tell_all(one, clock)
    assert sorted(told["document_id"] for told in receiver.told() if told["status"] == "cancelled") == sorted(
        document.document_id for document in several
    )


def test_each_way_in_is_told_under_its_own_reference(
    database: Database, clock: Clock, receivers: Callable[[], Receiver]
) -> None:
    first, second = receivers(), receivers()
    document = handed_in(database, first.url, reference="a")
    with database.transaction() as tx:
        arrival(tx, document, "b.xml", callback_url=second.url, reference="b")
        arrival(tx, document, "c.xml")
    tell_all(duty(database), clock)
    assert [told["reference"] for told in first.told()] == ["a"]
    assert [told["reference"] for told in second.told()] == ["b"]


def test_the_address_given_last_is_the_one_that_counts(
    database: Database, clock: Clock, receivers: Callable[[], Receiver]
) -> None:
    old, fresh = receivers(), receivers()
    one = duty(database)
    document = handed_in(database, old.url)
    tell_all(one, clock)
    with database.transaction() as tx:
        arrival(tx, document, f"{document.id}.xml", callback_url=fresh.url)
    tell_all(one, clock)
    assert (len(old.got), len(fresh.got)) == (1, 1)
    with database.transaction() as tx:
        arrival(tx, document, f"{document.id}.xml", callback_url=None)
        move(tx, document, Event.BIND)
    assert tell_all(one, clock) == 0


def test_documents_taken_in_bulk_are_told_of_too(database: Database, clock: Clock, receiver: Receiver) -> None:
    one = duty(database, urls=(f"http://127.0.0.1:{receiver.port}/wszystko",))
    with database.transaction() as tx:
        found = documents.insert_all(tx, [new(), new()], at=clock(), actor="test")
        deliveries.arrive_all(
            tx,
            [
                deliveries.NewArrival(document.id, "folder", f"{n}.xml", f"{n}", f"ref-{n}", url)
                for n, (document, url) in enumerate(zip(found, (receiver.url, None), strict=True))
            ],
            at=clock(),
        )
    tell_all(one, clock)
    assert sorted((path, json.loads(body)["reference"]) for path, _, body in receiver.got) == [
        ("/ksef?token=abc", "ref-0"),
        ("/wszystko", "ref-0"),
        ("/wszystko", "ref-1"),
    ]


# Addresses of the settings


def test_an_address_of_the_settings_is_told_of_every_document(
    database: Database, clock: Clock, receiver: Receiver
) -> None:
    one = duty(database, urls=(receiver.url,))
    document = handed_in(database, None)
    tell_all(one, clock)
    with database.transaction() as tx:
        move(tx, document, Event.BIND)
    tell_all(one, clock)
    assert [told["status"] for told in receiver.told()] == ["queued", "processing"]


def test_an_address_taken_out_of_the_settings_is_told_no_more(
    database: Database, clock: Clock, receiver: Receiver
) -> None:
    duty(database, urls=(receiver.url,))
    document = handed_in(database, None)
    later = duty(database, urls=())
    with database.transaction() as tx:
        move(tx, document, Event.BIND)
    assert tell_all(later, clock) == 0
    assert receiver.got == []


# Trouble


@pytest.mark.parametrize("status", [301, 307, 400, 404, 410, 500, 503])
def test_any_other_answer_is_tried_again_later_and_goes_nowhere_else(
    database: Database, clock: Clock, receiver: Receiver, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    one = duty(database)
    receiver.statuses = [status]
    handed_in(database, receiver.url)
    assert tell_all(one, clock) == 1
    stands = standing(database)
    assert (stands.due, stands.failing) == (1, 1)
    assert str(status) in (stands.last_error or "")
    assert "token" not in (stands.last_error or "") + caplog.text
    assert tell_all(one, clock) == 0
    assert one.next_due() == clock.now + timedelta(seconds=2)
    clock.forward(2)
    assert tell_all(one, clock) == 1
    assert standing(database) == webhooks.Standing(0, 0, 0, None)
    assert [path for path, _, _ in receiver.got] == ["/ksef?token=abc"] * 2


def test_pauses_grow_to_five_minutes_and_after_three_days_it_is_given_up(
    database: Database, clock: Clock, receiver: Receiver
) -> None:
    one = duty(database)
    receiver.statuses = [404] * 10_000
    document = handed_in(database, receiver.url)
    pauses: list[float] = []
    while tell_all(one, clock):
        due = one.next_due()
        if due is None:
            break
        pauses.append((due - clock.now).total_seconds())
        clock.now = due
    assert pauses[:9] == [2, 4, 8, 16, 32, 64, 128, 256, 300]
    assert max(pauses) == 300
    assert timedelta(days=3) <= clock.now - NOW < timedelta(days=3, minutes=6)
    stands = standing(database)
    assert (stands.due, stands.given_up) == (0, 1)
    with database.reading() as tx:
        (row,) = webhooks.of_document(tx, document.id)
    assert "404" in row["last_error"]

    # Something new to tell is worth a new beginning.
    receiver.statuses = []
    with database.transaction() as tx:
        move(tx, document, Event.BIND)
    assert tell_all(one, clock) == 1
    assert standing(database) == webhooks.Standing(0, 0, 0, None)


def test_a_place_that_is_away_rests_and_holds_up_no_other(database: Database, clock: Clock, receiver: Receiver) -> None:
    one = duty(database)
    away = f"http://127.0.0.1:{free_port()}/"
    for number in range(20):
        handed_in(database, f"{away}{number}")
    good = handed_in(database, receiver.url)
    # One attempt at the place that is away, whatever the number of documents, and the good one.
    assert tell_all(one, clock) == 2
    assert [told["document_id"] for told in receiver.told()] == [good.document_id]
    clock.forward(2)
    assert tell_all(one, clock) == 1
    assert "brak połączenia" in (standing(database).last_error or "")


def test_places_take_turns(database: Database, clock: Clock, receivers: Callable[[], Receiver]) -> None:
    busy, quiet = receivers(), receivers()
    one = duty(database)
    for _ in range(5):
        handed_in(database, busy.url)
    handed_in(database, quiet.url)
    one.step(clock())
    one.step(clock())
    assert (len(busy.got), len(quiet.got)) == (1, 1)


def test_a_place_that_answers_a_byte_at_a_time_costs_no_more_than_the_timeout(database: Database, clock: Clock) -> None:
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                for byte in b"HTTP/1.1 200 OK\r\nX: " + b"a" * 1000:
                    try:
                        connection.send(bytes([byte]))
                    except OSError:
                        return
                    if stop.wait(0.1):
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        handed_in(database, f"http://127.0.0.1:{server.getsockname()[1]}/")
        one = duty(database, timeout_s=0.5)
        assert one.step(clock())
        # The connection was closed from our side, or the place would go on for a hundred seconds.
        thread.join(5)
        alive = thread.is_alive()
        stop.set()
        thread.join(10)
    assert not alive
    assert "0.5 s" in (standing(database).last_error or "")


@pytest.mark.parametrize("url", ["http://[::1", "http://:80/", "http://a:99999/", "http://a:b/"])
def test_an_address_that_leads_nowhere_is_given_up_at_once(database: Database, clock: Clock, url: str) -> None:
    handed_in(database, url)
    tell_all(duty(database), clock)
    stands = standing(database)
    assert (stands.due, stands.given_up) == (0, 1)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "10.0.0.1", "192.168.1.1", "169.254.169.254", "[::1]", "0.0.0.0"]
)
def test_private_networks_can_be_forbidden(database: Database, clock: Clock, receiver: Receiver, host: str) -> None:
    handed_in(database, f"http://{host}:{receiver.port}/")
    one = duty(database, allow_private=False)
    tell_all(one, clock)
    assert "sieci prywatnej" in (standing(database).last_error or "")
    assert receiver.got == []


def test_a_name_is_looked_up_once_and_that_address_is_used(
    database: Database, clock: Clock, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ksefbuffer.erp import webhook

    # As if the name led to a public address now, and to this machine if it were asked for again.
    monkeypatch.setattr(webhook, "_public_address", lambda host: "127.0.0.1")
    handed_in(database, f"http://erp.example:{receiver.port}/x")
    tell_all(duty(database, allow_private=False), clock)
    ((path, headers, _),) = receiver.got
    assert (path, headers["Host"]) == ("/x", f"erp.example:{receiver.port}")


def test_a_fact_that_comes_while_one_is_told_stays_due(
    database: Database, clock: Clock, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = duty(database)
    document = handed_in(database, receiver.url)
    real = Webhooks._post

    def meanwhile(self: Webhooks, url: str, body: bytes) -> int:
        if not receiver.got:
            with database.transaction() as tx:
                move(tx, document, Event.BIND)
        return real(self, url, body)

    monkeypatch.setattr(Webhooks, "_post", meanwhile)
    tell_all(one, clock)
    assert [told["status"] for told in receiver.told()] == ["queued", "processing"]


def test_a_crash_between_telling_and_recording_tells_again(
    database: Database, clock: Clock, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed_in(database, receiver.url)
    monkeypatch.setattr(webhooks, "told", lambda *_: (_ for _ in ()).throw(RuntimeError("power loss")))
    with pytest.raises(RuntimeError, match="power loss"):
        duty(database).step(clock())
    monkeypatch.undo()
    assert tell_all(duty(database), clock) == 1
    assert receiver.got[0][2] == receiver.got[1][2]


# From end to end


def test_a_callback_of_the_api_is_told_up_to_the_number(
    make_shop: Callable[..., Shop], serve: Callable[..., Any], receiver: Receiver, clock: Clock
) -> None:
    from ksefbuffer.queue import people

    shop = make_shop()
    site = Site(shop.config, shop.database, clock, {})
    with shop.database.transaction() as tx:
        _, secret = people.add_key(tx, "kasa", ["send"], at=clock())
    with httpx.Client(base_url=serve(site).base_url, timeout=20) as client:
        document = Till(client, secret).send(callback_url=receiver.url, reference="17").json()
    one = Webhooks.of(shop.config, shop.database)
    tell_all(one, clock)
    shop.work()
    tell_all(one, clock)
    told = receiver.told()
    assert (told[0]["status"], told[-1]["status"]) == ("queued", "sent")
    assert told[-1]["ksef_number"]
    assert {(each["document_id"], each["reference"]) for each in told} == {(document["document_id"], "17")}


def test_a_callback_beside_a_file_is_told_too(make_shop: Callable[..., Shop], receiver: Receiver, clock: Clock) -> None:
    shop = make_shop()
    (shop.inbox / "a.json").write_text(json.dumps({"callback_url": receiver.url}))
    (shop.inbox / "a.xml").write_bytes(invoice())
    shop.work()
    tell_all(Webhooks.of(shop.config, shop.database), clock)
    (told,) = receiver.told()
    assert (told["source"], told["status"], told["upo_file"]) == ("a.xml", "sent", "a.upo.xml")


def test_what_came_by_http_waits_for_no_connector(database: Database, clock: Clock) -> None:
    with database.transaction() as tx:
        arrival(tx, document_in(tx, State.QUEUED), connector="http")
    deliver = Deliver(database, {"http": HttpConnector()}, QR)
    assert deliver.step(clock())
    assert not deliver.step(clock())
    with database.reading() as tx:
        assert deliveries.next_due(tx) is None


# Settings


def config_with(root: Path, lines: str, **environ: str) -> configuration.Config:
    (root / "config.toml").write_text(f'nip = "{NIP}"\nenvironment = "sandbox"\n[web]\n{lines}\n')
    return configuration.load(root / "config.toml", environ)


def test_the_secret_comes_from_a_file_or_the_environment_and_stays_hidden(tmp_path: Path, database: Database) -> None:
    (tmp_path / "hook").write_text(f"{SECRET}\n")
    by_file = config_with(tmp_path, 'webhook_secret_file = "hook"\nwebhook_urls = ["http://erp/?token=abc"]')
    by_variable = config_with(tmp_path, "", KSEFBUFFER_WEB__WEBHOOK_SECRET=SECRET)
    for config in (by_file, by_variable):
        assert Webhooks.of(config, database).secret == SECRET
        assert SECRET not in repr(config) + repr(Webhooks.of(config, database))
    assert "token=abc" not in repr(by_file)
    with pytest.raises(ConfigurationFault, match="webhook_secret"):
        config_with(tmp_path, f'webhook_secret = "{SECRET}"')


@pytest.mark.parametrize("url", ["ftp://erp/", "http://", "erp.example/x", "http://erp/a b"])
def test_an_address_of_another_kind_is_a_mistake_in_the_settings(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigurationFault, match=r"web\.webhook_urls"):
        config_with(tmp_path, f'webhook_urls = ["{url}"]')


def test_the_wait_between_tries_is_for_the_place_and_ends_when_it_answers(
    database: Database, clock: Clock, receiver: Receiver
) -> None:
    one = duty(database)
    receiver.statuses = [503, 503]
    for _ in range(3):
        handed_in(database, receiver.url)
    assert tell_all(one, clock) == 1
    clock.forward(2)
    assert tell_all(one, clock) == 1
    assert tell_all(one, clock) == 0
    clock.forward(4)
    until(lambda: tell_all(one, clock) or not standing(database).due, "all is told", patience_s=10)
    clock.forward(10)
    tell_all(one, clock)
    assert len({told["document_id"] for told in receiver.told()}) == 3
    assert standing(database) == webhooks.Standing(0, 0, 0, None)
