"""Wysyłka over HTTP: lists and searches, a document's page and files, handing in, and who may do what."""

from __future__ import annotations

import random
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from ksefbuffer.erp import submit
from ksefbuffer.invoice.precheck import CheckContext
from ksefbuffer.queue import documents, finding, people
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.documents import Document
from ksefbuffer.queue.states import State
from ksefbuffer.sandbox import Fault
from ksefbuffer.web.pages.sending import LINES_ON_A_PAGE, packed, plural, unpacked
from ksefbuffer.web.site import Site
from ksefbuffer.web.story import actor_pl, source_name
from tests.conftest import Clock, Shop
from tests.samples import NIP, correction_of, invoice

SCRIPT = "<script>alert(1)</script>"
# Refused by the pre-check: no such currency.
BROKEN = invoice(number="FV/ZŁA/1").replace(b"<KodWaluty>PLN<", b"<KodWaluty>ABC<")


@pytest.fixture
def shop(make_shop: Callable[..., Shop]) -> Shop:
    return make_shop()


@pytest.fixture
def site(make_site: Callable[..., Site], shop: Shop) -> Site:
    return make_site(database=shop.database)


@pytest.fixture
def anna(client: httpx.Client, signed_in: Callable[..., str]) -> httpx.Client:
    """Staff who handle what is sent."""
    client.headers["x-csrf-token"] = signed_in(client, "anna", grants=[("outgoing", "", True)])
    return client


@pytest.fixture
def other(live: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=live, timeout=20) as made:
        yield made


def taken(
    database: Database, clock: Clock, content: bytes, *, name: str = "f.xml", connector: str = "folder", **options: Any
) -> Document:
    context = CheckContext(nip=NIP, environment="sandbox", now=clock())
    source = submit.Source(connector, name, name.removesuffix(".xml"))
    offer = submit.Offer(content, source, submit.Options(**options))
    return submit.submit(database, offer, context, actor=connector).document


def numbers(page: httpx.Response) -> list[str]:
    """Invoice numbers in the list, in order."""
    return re.findall(r'<th scope="row"[^>]*><span><a href="/wysylka/[\w-]+">([^<]*)</a>', page.text)


def ticked(page: httpx.Response) -> list[str]:
    return re.findall(r'name="id" value="([\w-]+)"', page.text)


# The list


def test_the_newest_stand_first_and_every_document_is_on_exactly_one_page(
    anna: httpx.Client, shop: Shop, clock: Clock
) -> None:
    for number in range(120):
        taken(shop.database, clock, invoice(number=f"FV/{number}/2026"), name=f"f{number}.xml")
    url, seen = "/wysylka", []
    while url:
        page = anna.get(url)
        seen += numbers(page)
        found = re.search(r'<a href="([^"]*)" rel="next">', page.text)
        url = found[1] if found else ""
    assert seen == [f"FV/{number}/2026" for number in reversed(range(120))]
    newer = re.search(r'<a href="([^"]*)" rel="prev">', page.text)
    assert newer is not None
    assert numbers(anna.get(newer[1])) == seen[50:100]


def test_filters_narrow_the_list(anna: httpx.Client, signed_in: Callable[..., str], shop: Shop, clock: Clock) -> None:
    plain = invoice(number="FV/1/2026")
    taken(shop.database, clock, plain, name="f1.xml")
    taken(shop.database, clock, BROKEN, name="zła.xml", connector="http")
    clock.forward(24 * 3600)
    taken(shop.database, clock, correction_of(plain, "FK/2/2026"), name="k.xml", connector="table")
    signed_in(anna, "anna")

    def shown(query: str) -> list[str]:
        return numbers(anna.get(f"/wysylka?{query}"))

    assert shown("") == ["FK/2/2026", "FV/ZŁA/1", "FV/1/2026"]
    assert shown("stan=error") == ["FV/ZŁA/1"]
    assert shown("stan=problem") == ["FV/ZŁA/1"]
    assert shown("stan=waiting") == ["FK/2/2026", "FV/1/2026"]
    assert shown("rodzaj=KOR") == ["FK/2/2026"]
    assert shown("rodzaj=VAT&stan=queued") == ["FV/1/2026"]
    assert shown("zrodlo=http") == ["FV/ZŁA/1"]
    assert shown("zrodlo=http&stan=queued") == []
    assert shown("zrodlo=folder&stan=waiting") == ["FV/1/2026"]
    assert shown("od=2026-11-21") == ["FK/2/2026"]
    assert shown("od=2026-11-20&do=2026-11-20") == ["FV/ZŁA/1", "FV/1/2026"]
    assert shown("szukaj=fv&stan=queued") == ["FV/1/2026"]
    assert shown("stan=unheard-of&od=yesterday&zrodlo=x&rodzaj=%27") == ["FK/2/2026", "FV/ZŁA/1", "FV/1/2026"]


def test_polish_days_bound_the_list_not_those_of_greenwich(
    client: httpx.Client, signed_in: Callable[..., str], shop: Shop, clock: Clock
) -> None:
    clock.now = clock.now.replace(hour=23, minute=30)
    signed_in(client, "anna", grants=[("outgoing", "", False)])
    taken(shop.database, clock, invoice())
    assert numbers(client.get("/wysylka?od=2026-11-21&do=2026-11-21")) == ["FV/1/2026"]
    assert numbers(client.get("/wysylka?do=2026-11-20")) == []


@pytest.mark.parametrize("text", ["FV/77", "v/77/20", "77/2026", "plik-77", "plik-77.xml", "ZAM-77", "zz"])
def test_a_document_is_found_by_what_people_have_in_hand(
    anna: httpx.Client, shop: Shop, clock: Clock, text: str
) -> None:
    taken(shop.database, clock, invoice(number="FV/77/2026"), name="plik-77.xml", reference="ZAM-77")
    taken(shop.database, clock, invoice(number="FV/8/2026"), name="plik-8.xml")
    assert numbers(anna.get("/wysylka", params={"szukaj": text})) == ([] if text == "zz" else ["FV/77/2026"])


def test_a_document_is_found_by_its_ksef_number_hash_and_id(anna: httpx.Client, shop: Shop, clock: Clock) -> None:
    document = taken(shop.database, clock, invoice())
    taken(shop.database, clock, invoice(number="FV/2/2026"), name="g.xml")
    shop.work()
    with shop.database.reading() as tx:
        document = documents.get(tx, document.id)
    assert document.ksef_number is not None
    shown_by_ksef = b64encode(bytes.fromhex(document.sha256)).decode()
    for text in (
        document.ksef_number,
        document.ksef_number.lower(),
        document.sha256,
        document.sha256[:12].upper(),
        shown_by_ksef,
        document.document_id,
        f"  {document.document_id} ",
    ):
        assert numbers(anna.get("/wysylka", params={"szukaj": text})) == ["FV/1/2026"], text


def test_signs_with_a_meaning_in_sql_are_looked_for_as_they_are(anna: httpx.Client, shop: Shop, clock: Clock) -> None:
    taken(shop.database, clock, invoice(number="FV/1/2026"))
    taken(shop.database, clock, invoice(number="RABAT 5% /2"), name="g.xml")
    assert numbers(anna.get("/wysylka", params={"szukaj": "5% /"})) == ["RABAT 5% /2"]
    for text in ("%", "_V/1", "%%%", "' OR 1=1 --", "\\"):
        assert numbers(anna.get("/wysylka", params={"szukaj": text})) == []


def test_the_list_alone_is_given_for_refreshing(anna: httpx.Client, shop: Shop, clock: Clock) -> None:
    taken(shop.database, clock, invoice())
    alone = anna.get("/wysylka/lista?stan=queued")
    assert numbers(alone) == ["FV/1/2026"]
    assert "<html" not in alone.text


# What each may do


PATHS = ("", "/stan", "/xml", "/faktura.xml", "/faktura.pdf", "/podglad", "/upo.xml", "/qr1.png", "/qr2.svg")


def test_staff_without_rights_to_sending_see_none_of_it(
    other: httpx.Client, signed_in: Callable[..., str], shop: Shop, clock: Clock
) -> None:
    document = taken(shop.database, clock, BROKEN)
    csrf = signed_in(other, "jan", grants=[("incoming", "", True)])
    for path in (
        "/wysylka",
        "/wysylka/lista",
        "/wysylka/nowa",
        *(f"/wysylka/{document.document_id}{p}" for p in PATHS),
    ):
        answer = other.get(path)
        assert answer.status_code == 404, path
        assert "FV/ZŁA" not in answer.text
    for path in ("ponow", "anuluj"):
        assert other.post(f"/wysylka/{document.document_id}/{path}", data={"csrf": csrf}).status_code == 404
    for path in ("zbiorczo", "nowa", "wyslij"):
        assert other.post(f"/wysylka/{path}", data={"csrf": csrf, "id": document.document_id}).status_code == 404
    with shop.database.reading() as tx:
        assert documents.get(tx, document.id).state is State.ERROR


def test_staff_who_may_only_see_cannot_act(
    other: httpx.Client, signed_in: Callable[..., str], shop: Shop, clock: Clock
) -> None:
    document = taken(shop.database, clock, BROKEN)
    csrf = signed_in(other, "ola", grants=[("outgoing", "", False)])
    page = other.get(f"/wysylka/{document.document_id}")
    assert page.status_code == 200
    assert "/anuluj" not in page.text
    assert ticked(other.get("/wysylka")) == []
    assert other.get("/wysylka/nowa").status_code == 404
    assert other.post(f"/wysylka/{document.document_id}/anuluj", data={"csrf": csrf}).status_code == 404
    bulk = {"csrf": csrf, "co": "anuluj", "id": document.document_id}
    assert other.post("/wysylka/zbiorczo", data=bulk).status_code == 404
    with shop.database.reading() as tx:
        assert documents.get(tx, document.id).state is State.ERROR


def test_nobody_is_led_to_the_login_page(other: httpx.Client, shop: Shop, clock: Clock) -> None:
    document = taken(shop.database, clock, invoice())
    answer = other.get(f"/wysylka/{document.document_id}")
    assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/logowanie")


def test_a_form_of_another_site_cancels_nothing(anna: httpx.Client, shop: Shop, clock: Clock) -> None:
    document = taken(shop.database, clock, invoice())
    path = f"/wysylka/{document.document_id}/anuluj"
    assert anna.post(path, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    del anna.headers["x-csrf-token"]
    assert anna.post(path).status_code == 403
    with shop.database.reading() as tx:
        assert documents.get(tx, document.id).state is State.QUEUED


# Retry and cancel


def test_a_document_is_cancelled_and_the_log_says_by_whom(anna: httpx.Client, shop: Shop, clock: Clock) -> None:
    document = taken(shop.database, clock, invoice())
    answer = anna.post(f"/wysylka/{document.document_id}/anuluj")
    assert answer.headers["location"] == f"/wysylka/{document.document_id}"
    page = anna.get(f"/wysylka/{document.document_id}").text
    assert "anulowano" in page
    assert "użytkownik anna" in page
    with shop.database.reading() as tx:
        assert [one.action for one in people.noted(tx)] == ["document.cancel"]
    shop.work()
    assert shop.sandbox.accepted() == []


def test_what_ksef_has_is_not_cancelled_but_explained(anna: httpx.Client, shop: Shop, clock: Clock) -> None:
    document = taken(shop.database, clock, invoice())
    shop.work()
    answer = anna.post(f"/wysylka/{document.document_id}/anuluj", follow_redirects=True)
    assert "nie można teraz zrobić" in answer.text
    with shop.database.reading() as tx:
        assert documents.get(tx, document.id).state is State.SENT


def test_a_retry_checks_again_and_says_so(anna: httpx.Client, shop: Shop, clock: Clock) -> None:
    document = taken(shop.database, clock, BROKEN)
    answer = anna.post(f"/wysylka/{document.document_id}/ponow", follow_redirects=True)
    assert "błędy pozostały" in answer.text


def test_a_failed_document_goes_again_at_once_when_asked(anna: httpx.Client, shop: Shop, clock: Clock) -> None:
    shop.sandbox.faults.add(Fault(operation="sendInvoice", kind="invoice_status", code=500, times=None))
    document = taken(shop.database, clock, invoice())
    for _ in range(200):
        shop._steps()
        clock.forward(1)
        with shop.database.reading() as tx:
            if documents.get(tx, document.id).state is State.FAILED:
                break
    page = anna.get(f"/wysylka/{document.document_id}").text
    assert "niepowodzenie" in page
    assert "Następna próba" in page
    shop.sandbox.faults.clear()
    assert "wrócił do kolejki" in anna.post(f"/wysylka/{document.document_id}/ponow", follow_redirects=True).text
    shop.work()
    with shop.database.reading() as tx:
        assert documents.get(tx, document.id).state is State.SENT


def test_many_are_cancelled_at_once_and_those_that_cannot_be_are_named(
    anna: httpx.Client, shop: Shop, clock: Clock
) -> None:
    sent = taken(shop.database, clock, invoice(number="FV/0"), name="f0.xml")
    shop.work()
    for number in (1, 2):
        taken(shop.database, clock, invoice(number=f"FV/{number}"), name=f"f{number}.xml")
    waiting = ticked(anna.get("/wysylka"))
    assert len(waiting) == 2
    chosen = {"co": "anuluj", "id": [*waiting, sent.document_id, "0" * 36], "powrot": "/wysylka?stan=cancelled"}
    answer = anna.post("/wysylka/zbiorczo", data=chosen, follow_redirects=True)
    assert numbers(answer) == ["FV/2", "FV/1"]
    assert "Anulowano: 2 dokumenty. Pominięto 2" in answer.text


@pytest.mark.parametrize("back", ["https://example.org/", "//example.org", "/wysylka\r\nX: y", "/konfiguracja"])
def test_the_way_back_leads_nowhere_else(anna: httpx.Client, back: str) -> None:
    answer = anna.post("/wysylka/zbiorczo", data={"co": "ponow", "powrot": back})
    assert answer.headers["location"] == "/wysylka"


# One document


def test_the_page_tells_the_whole_story(anna: httpx.Client, shop: Shop, clock: Clock) -> None:
    (shop.inbox / "faktura.xml").write_bytes(invoice())
    shop.work()
    listed = anna.get("/wysylka")
    number = re.search(r"[0-9]{10}-[0-9]{8}-[0-9A-F]{12}-[0-9A-F]{2}", listed.text)
    assert number is not None
    page = anna.get(re.findall(r'href="(/wysylka/[\w-]{36})"', listed.text)[0]).text
    for text in (
        "wysłano",
        number[0],
        "Przyjęto do wysłania",
        "Przekazano do sesji KSeF",
        "KSeF nadał numer",
        "Przyszedł: folder",
        "doręczono",
        "UPO (XML)",
        "KOD I",
        "faktura.xml",
    ):
        assert text in page, text
    order = [page.index(text) for text in ("Przyjęto do wysłania", "Przekazano do sesji KSeF", "KSeF nadał numer")]
    assert order == sorted(order)
    assert "data-refresh" not in page


def test_a_document_on_its_way_is_asked_for_again_until_it_has_arrived(
    anna: httpx.Client, shop: Shop, clock: Clock
) -> None:
    document = taken(shop.database, clock, invoice())
    here = f"/wysylka/{document.document_id}"
    assert f'data-refresh="{here}/stan"' in anna.get(here).text
    before = anna.get(f"{here}/stan")
    assert "oczekuje" in before.text
    assert "x-refresh-stop" not in before.headers
    shop.work()
    after = anna.get(f"{here}/stan")
    assert "wysłano" in after.text
    assert after.headers["x-refresh-stop"] == "1"


def test_files_come_byte_for_byte_and_never_run_in_the_browser(anna: httpx.Client, shop: Shop, clock: Clock) -> None:
    content = invoice(seller_name=SCRIPT.replace("<", "&lt;"))
    document = taken(shop.database, clock, content)
    shop.work()
    here = f"/wysylka/{document.document_id}"
    xml = anna.get(f"{here}/faktura.xml")
    assert xml.content == content
    assert xml.headers["content-disposition"].startswith("attachment; ")
    assert xml.headers["x-content-type-options"] == "nosniff"
    upo = anna.get(f"{here}/upo.xml")
    assert b"SkrotDokumentu" in upo.content
    pdf = anna.get(f"{here}/faktura.pdf")
    assert (pdf.status_code, pdf.content[:5]) == (200, b"%PDF-")
    assert anna.get(f"{here}/qr1.png").content[:8] == b"\x89PNG\r\n\x1a\n"
    assert anna.get(f"{here}/qr1.svg").headers["content-type"] == "image/svg+xml"
    for missing in ("/qr2.png", "/qr1.gif", "/qr3.png", "/qr.png"):
        assert anna.get(here + missing).status_code == 404


def test_what_is_not_there_yet_is_said(anna: httpx.Client, shop: Shop, clock: Clock) -> None:
    document = taken(shop.database, clock, invoice())
    here = f"/wysylka/{document.document_id}"
    assert anna.get(f"{here}/upo.xml").status_code == 404
    assert anna.get(f"{here}/qr1.png").status_code == 404
    assert "jeszcze nie nadany" in anna.get(here).text
    for unknown in ("0" * 36, "x", "%2e%2e", "01", "' or 1=1"):
        assert anna.get(f"/wysylka/{unknown}").status_code == 404


@pytest.mark.parametrize("path", ["", "/podglad", "/xml", "/stan", "/xml?widok=czytelny"])
def test_what_an_invoice_says_is_text_and_never_markup(anna: httpx.Client, shop: Shop, clock: Clock, path: str) -> None:
    name = f"<img src=x onerror=alert(1)>{SCRIPT}.xml"
    content = invoice(
        number="FV/<b>1</b>", seller_name=SCRIPT.replace("<", "&lt;"), buyer_name="&quot;&gt;&lt;svg onload=x&gt;"
    )
    document = taken(shop.database, clock, content, name=name, reference='"><script>alert(2)</script>')
    page = anna.get(f"/wysylka/{document.document_id}{path}")
    assert page.status_code == 200
    for markup in ("<script>alert", "<b>1</b>", "<svg onload", "<img src=x"):
        assert markup not in page.text
    assert "&lt;" in page.text


def test_findings_lead_to_their_line(anna: httpx.Client, shop: Shop, clock: Clock) -> None:
    content = invoice().replace(b"<KodWaluty>PLN</KodWaluty>", b"<KodWaluty>ABC</KodWaluty>")
    document = taken(shop.database, clock, content)
    (line,) = {error["line"] for error in document.errors if error["line"]}
    page = anna.get(f"/wysylka/{document.document_id}").text
    assert document.errors[0]["hint"][:20] in page
    source = anna.get(f"/wysylka/{document.document_id}/xml?wiersz={line}").text
    marked = re.search(rf'<tr id="w{line}" class="marked">.*?</tr>', source, re.DOTALL)
    assert marked is not None
    assert "ABC" in marked[0]
    assert document.errors[0]["code"] in marked[0]


def test_a_long_file_is_shown_in_parts(anna: httpx.Client, shop: Shop, clock: Clock) -> None:
    content = invoice(footer="\n".join(f"wiersz numer {number}" for number in range(LINES_ON_A_PAGE + 10)))
    document = taken(shop.database, clock, content)
    here = f"/wysylka/{document.document_id}/xml"
    first = anna.get(here).text
    assert first.count("<tr id=") == LINES_ON_A_PAGE
    later = re.search(r'<a href="([^"]*)" rel="next">', first)
    assert later is not None
    rest = anna.get(later[1].replace("&amp;", "&")).text
    assert f'id="w{LINES_ON_A_PAGE + 1}"' in rest
    assert f"wiersz numer {LINES_ON_A_PAGE + 9}" in rest
    for odd in ("?wiersz=99999999", "?od=0", "?od=-5", "?od=x"):
        assert anna.get(here + odd).status_code == 200


def test_an_invoice_in_one_line_can_be_read(anna: httpx.Client, shop: Shop, clock: Clock) -> None:
    content = re.sub(rb">\s+<", b"><", invoice(lines=40))
    document = taken(shop.database, clock, content)
    here = f"/wysylka/{document.document_id}/xml"
    assert "skrócone" in anna.get(here).text
    assert anna.get(f"{here}?widok=czytelny").text.count("<tr id=") > 100


def test_an_invoice_issued_offline_shows_its_term_and_both_codes(anna: httpx.Client, shop: Shop, clock: Clock) -> None:
    document = taken(shop.database, clock, invoice())
    stamp = {"offline_mode": "offline24", "offline_since": clock(), "offline_deadline": clock() + timedelta(days=3)}
    link = f"https://qr.example/certificate/Nip/{NIP}/{NIP}/01F20A5D352AE590/abc/def"
    with shop.database.transaction() as tx:
        documents.change(tx, document.id, certificate_url=link, **stamp)
    here = f"/wysylka/{document.document_id}"
    page = anna.get(here).text
    for text in ("Termin przesłania do KSeF", "23.11.2026", "Wystawiono w trybie offline24", "KOD II", "OFF"):
        assert text in page, text
    assert b">OFFLINE<" in anna.get(f"{here}/qr1.svg").content
    assert b">CERTYFIKAT<" in anna.get(f"{here}/qr2.svg").content
    assert "offline24" in anna.get(f"{here}/podglad").text
    assert anna.get(f"{here}/faktura.pdf").content[:5] == b"%PDF-"
    assert "offline24" in anna.get("/wysylka").text


@pytest.mark.parametrize(
    ("actor", "told"),
    [
        ("user:anna", "użytkownik anna"),
        ("key:kasa-1", "klucz API kasa-1"),
        ("cli:root", "wiersz poleceń root"),
        ("ksef", "KSeF"),
        ("unheard-of", "unheard-of"),
        ("x:y", "x:y"),
    ],
)
def test_who_did_it_is_told_in_polish(actor: str, told: str) -> None:
    assert actor_pl(actor) == told


def test_a_name_that_no_connector_wrote_is_shown_all_the_same() -> None:
    assert source_name("100%") == "100%"
    assert source_name("a%25b") == "a%b"


def test_a_refused_file_that_is_no_invoice_has_a_page_too(anna: httpx.Client, shop: Shop, clock: Clock) -> None:
    document = taken(shop.database, clock, b"\xff\xfe\x00not xml")
    here = f"/wysylka/{document.document_id}"
    for path in ("", "/xml", "/xml?widok=czytelny", "/podglad"):
        assert anna.get(here + path).status_code == 200, path
    pdf = anna.get(f"{here}/faktura.pdf")
    assert (pdf.status_code, "Nie da się wydrukować" in pdf.text) == (422, True)


# Handing in


def hidden(page: httpx.Response, name: str) -> list[str]:
    return re.findall(rf'type="hidden" name="{name}" value="([^"]*)"', page.text)


def test_files_are_checked_first_and_sent_only_when_confirmed(anna: httpx.Client, shop: Shop) -> None:
    files = [
        ("pliki", ("dobra.xml", invoice(), "text/xml")),
        ("pliki", ("zła.xml", BROKEN, "text/xml")),
        ("pliki", ("obraz.png", b"\x89PNG", "image/png")),
    ]
    checked = anna.post("/wysylka/nowa", files=files)
    assert checked.status_code == 200
    assert "gotowa do wysłania" in checked.text
    assert checked.text.count("wymaga poprawy") == 2
    assert numbers(anna.get("/wysylka")) == []
    assert len(hidden(checked, "plik")) == 1
    form = {"plik": hidden(checked, "plik"), "nazwa": hidden(checked, "nazwa"), "pilne": "1", "oznaczenie": "ZAM/9"}
    answer = anna.post("/wysylka/wyslij", data=form, follow_redirects=True)
    assert "Przyjęto do wysłania" in answer.text
    assert "pilna" in answer.text
    assert "ZAM/9" in answer.text
    shop.work()
    assert [one.invoice_number for one in shop.sandbox.accepted()] == ["FV/1/2026"]
    with shop.database.reading() as tx:
        document = documents.listing(tx)[0]
        assert documents.content(tx, document.id) == invoice()
        assert documents.history(tx, document.id)[0]["actor"] == "user:anna"
        assert [one.action for one in people.noted(tx)] == ["document.send"]


def test_a_file_that_is_known_is_not_offered_again(anna: httpx.Client, shop: Shop, clock: Clock) -> None:
    document = taken(shop.database, clock, invoice())
    other_bytes = invoice(footer="inna treść")
    files = [("pliki", ("a.xml", invoice(), "text/xml")), ("pliki", ("b.xml", other_bytes, "text/xml"))]
    checked = anna.post("/wysylka/nowa", files=files)
    assert f'href="/wysylka/{document.document_id}"' in checked.text
    assert "był już wysłany lub czeka" in checked.text
    assert hidden(checked, "plik") == []


def test_twice_the_same_file_or_number_is_said_before_sending(anna: httpx.Client) -> None:
    files = [
        ("pliki", ("a.xml", invoice(), "text/xml")),
        ("pliki", ("b.xml", invoice(), "text/xml")),
        ("pliki", ("c.xml", invoice(footer="inna"), "text/xml")),
    ]
    checked = anna.post("/wysylka/nowa", files=files)
    assert "wybrano dwa razy" in checked.text
    assert "ten sam numer faktury" in checked.text
    assert len(hidden(checked, "plik")) == 1


def test_the_same_form_sent_twice_makes_one_document(anna: httpx.Client, shop: Shop) -> None:
    form = {"plik": packed(invoice()), "nazwa": "a.xml"}
    anna.post("/wysylka/wyslij", data=form)
    assert "już w buforze" in anna.post("/wysylka/wyslij", data=form, follow_redirects=True).text
    with shop.database.reading() as tx:
        assert len(documents.listing(tx)) == 1
        assert len(finding.answers_of(tx, documents.listing(tx)[0].id)) == 1


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "a\x1fb.xml", "ż" * 300, "100%.xml", "=cmd|' /C calc'!A0"])
def test_odd_names_of_files_do_no_harm(anna: httpx.Client, shop: Shop, name: str) -> None:
    answer = anna.post("/wysylka/wyslij", data={"plik": packed(invoice()), "nazwa": name}, follow_redirects=True)
    assert answer.status_code == 200
    shop.work()
    assert len(shop.sandbox.accepted()) == 1
    assert sorted(path.name for path in shop.outbox.iterdir()) == []


@pytest.mark.parametrize("text", ["", "!!!!", "AAAA", packed(b"x" * 3_000_001), packed(b"abc" * 1000)[:-8]])
def test_a_form_that_was_tampered_with_is_refused(anna: httpx.Client, shop: Shop, text: str) -> None:
    assert anna.post("/wysylka/wyslij", data={"plik": text, "nazwa": "a.xml"}).status_code == 400
    with shop.database.reading() as tx:
        assert documents.listing(tx) == []


def test_an_invoice_as_large_as_ksef_takes_goes_through_both_steps(anna: httpx.Client, shop: Shop) -> None:
    noise = random.Random(1)
    lines = [f"{noise.getrandbits(400):x}" for _ in range(8500)]
    content = invoice().replace(b"</Faktura>", f"<!-- {' '.join(lines)} --></Faktura>".encode())
    assert 850_000 < len(content) < 1_000_000
    checked = anna.post("/wysylka/nowa", files=[("pliki", ("duża.xml", content, "text/xml"))])
    form = {"plik": hidden(checked, "plik"), "nazwa": hidden(checked, "nazwa")}
    assert anna.post("/wysylka/wyslij", data=form, follow_redirects=True).status_code == 200
    with shop.database.reading() as tx:
        document = documents.listing(tx)[0]
        assert documents.content(tx, document.id) == content


def test_a_form_without_files_sends_nothing(anna: httpx.Client) -> None:
    assert anna.post("/wysylka/nowa").headers["location"] == "/wysylka/nowa"
    assert anna.post("/wysylka/wyslij").headers["location"] == "/wysylka/nowa"


def test_what_is_packed_comes_out_the_same() -> None:
    assert unpacked(packed(invoice())) == invoice()
    assert unpacked(packed(b"")) == b""


@pytest.mark.parametrize(
    ("count", "told"),
    [(0, "0 plików"), (1, "1 plik"), (2, "2 pliki"), (5, "5 plików"), (12, "12 plików"), (22, "22 pliki")],
)
def test_numbers_agree_with_their_nouns(count: int, told: str) -> None:
    assert plural(count, "plik", "pliki", "plików") == told


# The questions behind the list


def test_every_filter_finds_the_same_on_both_databases(database: Database, clock: Clock) -> None:
    for number in range(30):
        connector = ("folder", "table", "http")[number % 3]
        content = invoice(number=f"FV/{number}")
        if number % 5 == 0:
            content = content.replace(b"<KodWaluty>PLN<", b"<KodWaluty>ABC<").replace(b"<P_2>FV", b"<P_2>X")
        taken(database, clock, content, name=f"plik {number}.xml", connector=connector, reference=f"r{number}")
        clock.forward(3600)
    start = clock() - timedelta(hours=30)
    with database.reading() as tx:

        def count(**narrowed: Any) -> int:
            return len(finding.page(tx, finding.Wanted(**narrowed), limit=100).rows)

        assert count() == 30
        assert count(states=(State.ERROR,)) == 6
        assert count(connector="http") == 10
        assert count(connector="http", states=(State.ERROR,)) == 2
        assert count(connector="http", states=(State.ERROR, State.SENT)) == 2
        assert count(since=start + timedelta(hours=10), until=start + timedelta(hours=20)) == 10
        assert count(kind="VAT", states=(State.QUEUED, State.ERROR)) == 30
        found, more = finding.search(tx, "plik 1", limit=5)
        assert ([row.source for row in found], more) == ([f"plik {n}.xml" for n in (19, 18, 17, 16, 15)], True)
        assert [row.reference for row in finding.search(tx, "r29")[0]] == ["r29"]
        assert {row.invoice_number for row in finding.search(tx, "v/2")[0]} == {
            f"FV/{n}" for n in (2, *range(20, 30)) if n % 5
        }


def test_pages_go_on_from_a_key_in_both_directions(database: Database, clock: Clock) -> None:
    for number in range(7):
        taken(database, clock, invoice(number=f"FV/{number}"), name=f"f{number}.xml")
    with database.reading() as tx:
        newest = finding.page(tx, limit=3)
        middle = finding.page(tx, before=newest.older, limit=3)
        oldest = finding.page(tx, before=middle.older, limit=3)
        assert [len(page.rows) for page in (newest, middle, oldest)] == [3, 3, 1]
        assert (newest.newer, oldest.older) == (None, None)
        assert finding.page(tx, after=oldest.newer, limit=3).rows == middle.rows
        back = finding.page(tx, after=middle.newer, limit=3)
        assert (back.rows, back.newer) == (newest.rows, None)


def test_a_document_that_came_twice_the_same_way_is_listed_once(database: Database, clock: Clock) -> None:
    for number in range(4):
        for name in ("a", "b"):
            taken(database, clock, invoice(number=f"FV/{number}"), name=f"{name}{number}.xml")
    with database.reading() as tx:
        page = finding.page(tx, finding.Wanted(connector="folder"), limit=3)
        assert [row.invoice_number for row in page.rows] == ["FV/3", "FV/2", "FV/1"]
        rest = finding.page(tx, finding.Wanted(connector="folder"), before=page.older, limit=3)
        assert [row.invoice_number for row in rest.rows] == ["FV/0"]


def test_a_moment_leads_to_the_first_key_at_or_after_it(database: Database, clock: Clock) -> None:
    began = clock()
    with database.reading() as tx:
        assert finding.key_at(tx, documents.documents, documents.documents.c.received_at, began) == 0
    for number in range(5):
        taken(database, clock, invoice(number=f"FV/{number}"), name=f"f{number}.xml")
        clock.forward(60)
    with database.reading() as tx:
        column = documents.documents.c.received_at
        keys = [row.id for row in reversed(finding.page(tx).rows)]
        for at, key in enumerate(keys):
            assert finding.key_at(tx, documents.documents, column, began + timedelta(minutes=at)) == key
            assert finding.key_at(tx, documents.documents, column, began + timedelta(minutes=at, seconds=-1)) == key
        assert finding.key_at(tx, documents.documents, column, clock()) == keys[-1] + 1
