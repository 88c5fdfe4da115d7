"""Pulpit: what it says of the buffer, to whom, and its charts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest
from markupsafe import Markup
from sqlalchemy import update

from ksefbuffer.invoice.identifiers import sha256_hex
from ksefbuffer.queue import charts, documents, facts, incoming, pauses
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.incoming import NewIncoming
from ksefbuffer.queue.models import incoming as table
from ksefbuffer.queue.states import Event, State
from ksefbuffer.web.charts import Bar, bar_chart
from ksefbuffer.web.site import Site
from tests.conftest import Clock, Shop
from tests.queue.builders import AN_ERROR, move, new
from tests.samples import NOW, invoice

REFUSED = invoice(number="FV/ZŁA").replace(b"<KodWaluty>PLN<", b"<KodWaluty>ABC<")


@pytest.fixture
def shop(make_shop: Callable[..., Shop]) -> Shop:
    return make_shop()


@pytest.fixture
def site(make_site: Callable[..., Site], shop: Shop) -> Site:
    return make_site(database=shop.database)


@pytest.fixture
def anna(client: httpx.Client, signed_in: Callable[..., str]) -> httpx.Client:
    """Staff who handle what is sent and see every folder."""
    signed_in(client, "anna", grants=[("outgoing", "", True), ("incoming", "", False)])
    return client


@pytest.fixture
def running(shop: Shop) -> Iterator[None]:
    with shop.database.sole_worker():
        yield


def tell(shop: Shop, name: str, value: Any) -> None:
    with shop.database.transaction() as tx:
        facts.put(tx, name, value, at=shop.clock())


def concerns(page: httpx.Response) -> str:
    found = re.search(r'<section class="card concerns".*?</section>', page.text, re.DOTALL)
    return found[0] if found else ""


def figures(page: httpx.Response) -> list[str]:
    return [text.strip() for text in re.findall(r'<span class="figure">(.*?)</span>', page.text)]


def test_a_buffer_in_order_says_so(anna: httpx.Client, shop: Shop, running: None) -> None:
    (shop.inbox / "f.xml").write_bytes(invoice())
    shop.work()
    page = anna.get("/")
    assert page.status_code == 200
    assert concerns(page) == ""
    assert "Wszystko w porządku" in page.text
    assert "dostępny" in page.text
    assert figures(page)[:5] == ["0", "0", "0", "0", "1"]
    assert "Nic nie czeka" in page.text
    assert '<strong class="environment sandbox"' in page.text


def test_a_buffer_that_does_not_run_is_a_concern_of_everybody(
    anna: httpx.Client, live: str, signed_in: Callable[..., str]
) -> None:
    assert "Bufor nie pracuje" in concerns(anna.get("/"))
    with httpx.Client(base_url=live) as other:
        signed_in(other, "jan", grants=[("incoming", "Sklep 1", False)])
        assert "Bufor nie pracuje" in concerns(other.get("/"))


def test_errors_and_waiting_documents_lead_to_their_lists(anna: httpx.Client, shop: Shop, running: None) -> None:
    (shop.inbox / "zła.xml").write_bytes(REFUSED)
    (shop.inbox / "f.xml").write_bytes(invoice())
    shop.buffer.folder.take_in(shop.clock())
    shop.clock.forward(10)
    while shop.buffer.folder.take_in(shop.clock()):
        pass
    shop.clock.forward(600)
    page = anna.get("/")
    assert "Dokumenty z błędem, do poprawienia: 1." in concerns(page)
    assert 'href="/wysylka?stan=error"' in concerns(page)
    assert figures(page)[:4] == ["1", "0", "0", "1"]
    assert "czeka 10\u00a0min" in page.text


def test_trouble_with_ksef_is_told_with_what_to_do(anna: httpx.Client, shop: Shop, running: None) -> None:
    now = shop.clock()
    tell(shop, "ksef", {"ok": False, "message": "KSeF nie odpowiada", "action": "Sprawdź łącze."})
    with shop.database.transaction() as tx:
        until = now + timedelta(minutes=5)
        pauses.pause(tx, "ksef", at=now, until=until, code="", message="KSeF nie odpowiada.", action="Sprawdź łącze.")
    page = anna.get("/")
    assert "niedostępny" in page.text
    assert "Sprawdź łącze." in concerns(page)
    assert "Wysyłka wstrzymana" in anna.get("/wysylka").text


def test_the_mode_certificates_limits_and_last_pull_are_shown(anna: httpx.Client, shop: Shop, running: None) -> None:
    now = shop.clock()
    tell(shop, "mode", {"mode": "awaria", "since": now.isoformat(), "why": "Komunikat Latarni.", "deadlines": {}})
    tell(
        shop,
        "certificates",
        [
            {
                "purpose": "auth",
                "status": "połączenie aktywne",
                "days_left": 400,
                "subject": "CN=Sklep",
                "problem": None,
            },
            {"purpose": "offline", "status": "wygasa za 5 dni", "days_left": 5, "subject": "CN=Sklep"},
        ],
    )
    tell(
        shop,
        "limits",
        {
            "invoiceSend": {"minute": 1, "per_minute": 30, "hour": 171, "per_hour": 180, "blocked_until": None},
            "other": {"minute": 0, "per_minute": 30, "hour": 0, "per_hour": 120, "blocked_until": None},
        },
    )
    subject = {"subject": "buyer", "problem": None, "caught_up_at": now.isoformat(), "estimate": None}
    tell(shop, "pull", {"subjects": [subject]})
    page = anna.get("/").text
    for text in ("awaria", "Komunikat Latarni.", "połączenie aktywne", "wygasa za 5 dni", "CN=Sklep", "171 z 180"):
        assert text in page, text
    assert 'value="95"' in page
    assert "pozostałe" not in page
    assert "Pobrano wszystko do <time" in page


def test_odd_words_of_the_worker_do_not_break_the_page(anna: httpx.Client, shop: Shop) -> None:
    for name, value in (
        ("mode", "awaria"),
        ("certificates", {"purpose": "auth"}),
        ("certificates", [None, {"purpose": "auth"}]),
        ("mode", {"mode": None, "since": None, "why": None, "deadlines": None}),
        ("limits", {}),
    ):
        tell(shop, name, value)
        assert anna.get("/").status_code == 200


def test_a_certificate_about_to_end_is_an_administrators_concern(
    client: httpx.Client, signed_in: Callable[..., str], shop: Shop, running: None
) -> None:
    tell(shop, "certificates", [{"purpose": "offline", "status": "", "days_left": 6, "subject": "CN=Sklep"}])
    signed_in(client, "szef", admin=True)
    assert "Certyfikat do wystawiania offline wygasa za 6 dni." in concerns(client.get("/"))


def test_terms_of_invoices_issued_offline_press(anna: httpx.Client, shop: Shop, running: None) -> None:
    now = shop.clock()
    with shop.database.transaction() as tx:
        document = documents.insert_document(tx, new(), at=now, actor="test")
        term = {"offline_mode": "offline24", "offline_since": now, "offline_deadline": now + timedelta(hours=3)}
        documents.change(tx, document.id, **term)
    page = anna.get("/")
    assert "Wystawione offline, do przesłania: 1; najbliższy termin: zostały 3 h" in concerns(page)


def test_each_sees_what_concerns_them(client: httpx.Client, signed_in: Callable[..., str], shop: Shop) -> None:
    (shop.inbox / "zła.xml").write_bytes(REFUSED)
    shop.work()
    debt = {"invoices": [{"ksef_number": "5265877635-20261120-0100001AF629-AF", "reason": "zły skrót"}]}
    tell(shop, "incoming_trouble", debt)
    signed_in(client, "jan", grants=[("incoming", "Sklep 1", False)])
    for path in ("/", "/pulpit/stan"):
        page = client.get(path).text
        for hidden in ("/wysylka", "z błędem", "Kolejka", "Limity", "0100001AF629", "zła.xml", "Wysłano do KSeF"):
            assert hidden not in page, hidden
    assert "Odebrano z KSeF" in client.get("/").text


def test_nobody_is_led_to_the_login_page(client: httpx.Client) -> None:
    assert client.get("/").headers["location"].startswith("/logowanie")
    assert client.get("/pulpit/stan").status_code == 303


def test_the_part_that_is_refreshed_is_no_whole_page(anna: httpx.Client) -> None:
    part = anna.get("/pulpit/stan").text
    assert "Kolejka wysyłki" in part
    assert "<html" not in part


# Charts


def received(tx: Any, number: int, folder: str, at: datetime, *, content: bytes = b"<Faktura/>") -> None:
    ksef_number = f"5265877635-20261120-{number:012X}-00"
    one = NewIncoming(
        ksef_number=ksef_number,
        sha256=sha256_hex(content),
        content=content,
        meta="{}",
        roles=frozenset({"buyer"}),
        form="FA (3)",
        invoice_number=f"F/{number}",
        number_key=f"f{number}",
        invoice_type="VAT",
        issue_date=date(2026, 11, 20),
        seller_nip="5265877635",
        seller_name="Sklep",
        buyer_nip="5265877635",
        currency="PLN",
        gross=None,
        invoiced_at=None,
        acquired_at=None,
        stored_at_ksef=f"2026-11-20T10:00:00.{number:06d}+00:00",
        mode="Online",
        damage=(),
        likeness="x",
        search="",
    )
    (row_id,) = incoming.store(tx, [one], at=at, actor="test").values()
    tx.execute(update(table).where(table.c.id == row_id).values(folder=folder))


def test_days_are_counted_by_when_things_happened(database: Database) -> None:
    bounds = [NOW + timedelta(days=day) for day in range(4)]
    with database.transaction() as tx:
        number = 0
        for day, (sent, refused, came) in enumerate([(1, 0, 2), (0, 3, 0), (2, 1, 1)]):
            at = bounds[day] + timedelta(hours=1)
            for _ in range(sent):
                move(
                    tx,
                    move(tx, documents.insert_document(tx, new(), at=at, actor="test"), Event.BIND, at),
                    Event.NUMBER,
                    at,
                )
            for _ in range(refused):
                documents.insert_document(tx, new(errors=[AN_ERROR]), at=at, actor="test")
            for _ in range(came):
                number += 1
                received(tx, number, "Sklepy/1" if number % 2 else "Sklepy 2", at)
    with database.reading() as tx:
        assert charts.sent_between(tx, bounds) == [1, 0, 2]
        assert charts.still_refused(tx, bounds) == [0, 3, 1]
        assert charts.received_between(tx, bounds, None) == [2, 0, 1]
        assert charts.received_between(tx, bounds, ["Sklepy"]) == [1, 0, 1]
        assert charts.received_between(tx, bounds, ["Sklepy 2"]) == [1, 0, 0]
        assert charts.received_between(tx, bounds, ["Sklepy", "Sklepy 2"]) == [2, 0, 1]
        assert charts.received_between(tx, bounds, ["Sklep", "sklepy", "Sklepy 20"]) == [0, 0, 0]
        assert charts.received_between(tx, bounds, []) == [0, 0, 0]


def test_the_queue_is_counted_up_to_a_bound(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "MOST_COUNTED", 3)
    with database.transaction() as tx:
        first = documents.insert_document(tx, new(), at=NOW, actor="test")
        for minute in range(6):
            documents.insert_document(tx, new(), at=NOW + timedelta(minutes=minute), actor="test")
        failed = documents.insert_document(tx, new(), at=NOW + timedelta(hours=1), actor="test")
        move(tx, failed, Event.FAIL, NOW)
        term = {"offline_mode": "offline24", "offline_deadline": NOW + timedelta(days=1)}
        documents.change(tx, first.id, **term)
    with database.reading() as tx:
        found = charts.standing(tx)
    assert found.counts[State.QUEUED] == 4
    assert found.counts[State.FAILED] == 1
    assert State.SENT not in found.counts
    assert (found.oldest, found.oldest_id) == (NOW, first.document_id)
    assert found.next_attempt == NOW + timedelta(minutes=1)
    assert (found.terms, found.first_term) == (1, NOW + timedelta(days=1))


def test_an_empty_buffer_has_empty_figures(database: Database) -> None:
    bounds = [NOW, NOW + timedelta(days=1)]
    with database.reading() as tx:
        found = charts.standing(tx)
        assert set(found.counts.values()) == {0}
        assert (found.oldest, found.next_attempt, found.first_term) == (None, None, None)
        assert charts.still_refused(tx, bounds) == [0]
        assert charts.received_between(tx, bounds, None) == [0]


def test_the_chart_of_a_day_counts_polish_days(
    client: httpx.Client, signed_in: Callable[..., str], shop: Shop, clock: Clock
) -> None:
    clock.now = datetime(2026, 11, 20, 23, 30, tzinfo=UTC)
    with shop.database.transaction() as tx:
        document = documents.insert_document(tx, new(), at=clock(), actor="test")
        move(tx, move(tx, document, Event.BIND, clock()), Event.NUMBER, clock())
    signed_in(client, "anna", grants=[("outgoing", "", False)])
    page = client.get("/").text
    assert "<title>21.11.2026: 1</title>" in page
    assert "<title>20.11.2026: 0</title>" in page
    assert 'href="/wysylka?stan=sent&amp;od=2026-11-21&amp;do=2026-11-21"' in page


def test_a_day_that_goes_on_is_counted_anew(anna: httpx.Client, shop: Shop, clock: Clock) -> None:
    def of_today() -> str:
        (drawn,) = re.findall(r'<figure class="chart ">.*?</figure>', anna.get("/").text, re.DOTALL)
        return str(re.findall(r"<title>20.11.2026: (\d+)</title>", drawn)[0])

    with shop.database.transaction() as tx:
        received(tx, 1, "Sklepy/1", clock() - timedelta(days=1))
    assert of_today() == "0"
    with shop.database.transaction() as tx:
        received(tx, 2, "Sklepy/1", clock())
    clock.forward(61)
    assert of_today() == "1"
    assert "<title>19.11.2026: 1</title>" in anna.get("/").text


def test_a_chart_draws_every_day_and_escapes_its_words() -> None:
    days = [Bar(date(2026, 11, day), count, "/x?a=1&b=2") for day, count in ((1, 0), (2, 1), (3, 20_000))]
    drawn = bar_chart("<b>", days, "good")
    assert isinstance(drawn, Markup)
    assert "<b>" not in drawn
    assert drawn.count("<title>") == 3
    heights = [
        float(one) for one in re.findall(r'<rect x="[\d.]+" y="[\d.]+" width="[\d.]+" height="([\d.]+)" rx', drawn)
    ]
    assert heights == [0.0, 2.0, 64.0]
    assert drawn.count("<a href=") == 2
    assert "20 tys." in drawn
    assert "style=" not in drawn
    assert "20\u00a0001" in bar_chart("x", days, "")


def test_a_chart_of_nothing_is_drawn_too() -> None:
    assert bar_chart("x", [Bar(date(2026, 11, 1), 0)], "").count("<g>") == 1
    assert bar_chart("x", [], "").count("<title>") == 0
