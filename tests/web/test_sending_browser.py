"""Pulpit and Wysyłka in a real browser: by mouse, by keyboard, on a phone."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ksefbuffer.queue import documents
from ksefbuffer.queue.states import State
from ksefbuffer.web.site import Site
from tests.conftest import Clock, Shop
from tests.samples import correction_of, invoice
from tests.web.test_sending import BROKEN, SCRIPT, taken

pytestmark = pytest.mark.process


@pytest.fixture
def shop(make_shop: Callable[..., Shop]) -> Shop:
    return make_shop()


@pytest.fixture
def site(make_site: Callable[..., Site], shop: Shop) -> Site:
    return make_site(database=shop.database)


@pytest.fixture
def page(browser_page: Any, signed_in: Callable[..., str]) -> Any:
    """A tab in which anna, who handles what is sent, is signed in."""
    signed_in(browser_page, "anna", grants=[("outgoing", "", True), ("incoming", "", False)])
    return browser_page


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "faktura dobra.xml"
    path.write_bytes(invoice(number="FV/100/2026"))
    return path


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "faktura zła.xml"
    path.write_bytes(BROKEN)
    return path


def seen(page: Any, text: str | re.Pattern[str]) -> None:
    """Waits until it is to be seen."""
    page.get_by_text(text).first.wait_for(state="visible")


def fits(page: Any) -> bool:
    """Whether nothing sticks out to the right."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))


def test_an_invoice_is_checked_sent_and_followed_to_its_number(
    page: Any, shop: Shop, good: Path, bad: Path, screenshot: Callable[[Any, str], None]
) -> None:
    page.clock.install()
    page.goto("/wysylka")
    page.get_by_role("link", name="Wyślij fakturę").click()
    page.set_input_files("#pliki", [good, bad])
    seen(page, "Wynik sprawdzenia")
    seen(page, "FV/100/2026")
    seen(page, "wymaga poprawy")
    assert page.get_by_role("table", name=re.compile("Błędy")).get_by_text("ABC").first.is_visible()
    screenshot(page, "wysylka-sprawdzenie")
    with shop.database.reading() as tx:
        assert documents.listing(tx) == []
    page.get_by_role("button", name="Wyślij do KSeF (1)").click()
    page.get_by_role("heading", level=1, name="FV/100/2026").wait_for()
    seen(page, "oczekuje")
    page.evaluate("window.notReloaded = true")
    shop.work()
    page.clock.run_for(3000)
    number = shop.sandbox.accepted()[0].ksef_number
    seen(page, number)
    seen(page, "KSeF nadał numer")
    page.get_by_role("link", name="UPO (XML)").wait_for()
    assert page.get_by_role("img", name=f"Kod QR KOD I: {number}").is_visible()
    assert page.evaluate("window.notReloaded") is True
    # Arrived: nobody asks any more.
    asked = page.requested.count(f"{page.url}/stan")
    assert asked > 0
    page.clock.run_for(60_000)
    assert page.requested.count(f"{page.url}/stan") == asked
    screenshot(page, "wysylka-dokument")
    with page.expect_download() as saved:
        page.get_by_role("link", name="pobierz XML").click()
    assert saved.value.suggested_filename == f"{number}.xml"
    assert Path(saved.value.path()).read_bytes() == good.read_bytes()


def test_files_are_dropped_onto_the_page(page: Any, good: Path) -> None:
    page.goto("/wysylka/nowa")
    text = good.read_text()
    transfer = page.evaluate_handle(
        """text => { const files = new DataTransfer();
        files.items.add(new File([text], "z pulpitu.xml", {type: "text/xml"})); return files; }""",
        text,
    )
    page.dispatch_event(".drop", "drop", {"dataTransfer": transfer})
    seen(page, "gotowa do wysłania")
    seen(page, "z pulpitu.xml")


def test_a_document_is_cancelled_only_after_a_yes(page: Any, shop: Shop, clock: Clock) -> None:
    document = taken(shop.database, clock, invoice())
    page.goto(f"/wysylka/{document.document_id}")
    asked: list[str] = []

    def no(dialog: Any) -> None:
        asked.append(dialog.message)
        dialog.dismiss()

    page.once("dialog", no)
    page.get_by_role("button", name="Anuluj").click()
    assert "Nie zostanie wysłany do KSeF" in asked[0]
    with shop.database.reading() as tx:
        assert documents.get(tx, document.id).state is State.QUEUED
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Anuluj").click()
    seen(page, "Dokument anulowano")
    with shop.database.reading() as tx:
        assert documents.get(tx, document.id).state is State.CANCELLED


def test_many_are_ticked_and_cancelled_while_the_list_refreshes(page: Any, shop: Shop, clock: Clock) -> None:
    for number in range(3):
        taken(shop.database, clock, invoice(number=f"FV/{number}"), name=f"f{number}.xml")
    page.clock.install()
    page.goto("/wysylka")
    every = page.get_by_label("Zaznacz wszystkie na stronie")
    every.check()
    page.get_by_label("Zaznacz FV/2").uncheck()
    page.get_by_label("Zaznacz FV/1").focus()
    taken(shop.database, clock, invoice(number="FV/NOWA"), name="nowa.xml")
    page.clock.run_for(5000)
    seen(page, "FV/NOWA")
    ticked = {name: page.get_by_label(f"Zaznacz FV/{name}").is_checked() for name in ("0", "1", "2", "NOWA")}
    assert ticked == {"0": True, "1": True, "2": False, "NOWA": False}
    assert not every.is_checked(), "not all of them are"
    assert page.get_by_label("Zaznacz FV/1").evaluate("one => one === document.activeElement")
    page.get_by_role("button", name="Ponów").focus()
    taken(shop.database, clock, invoice(number="FV/DRUGA"), name="druga.xml")
    page.clock.run_for(5000)
    seen(page, "FV/DRUGA")
    assert page.get_by_role("button", name="Ponów").evaluate("one => one === document.activeElement")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Anuluj").click()
    seen(page, "Anulowano: 2 dokumenty.")
    every.check()
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Anuluj").click()
    seen(page, "Anulowano: 3 dokumenty.")


def test_filters_and_search_are_kept_in_the_address(
    page: Any, shop: Shop, clock: Clock, screenshot: Callable[[Any, str], None]
) -> None:
    plain = invoice(number="FV/1/2026")
    taken(shop.database, clock, plain, name="f1.xml")
    taken(shop.database, clock, BROKEN, name="f2.xml")
    taken(shop.database, clock, correction_of(plain, "FK/3/2026"), name="f3.xml")
    page.goto("/wysylka")
    screenshot(page, "wysylka")
    page.get_by_label("Stan").select_option("error")
    page.get_by_role("button", name="Pokaż").click()
    page.wait_for_url(re.compile("stan=error"))
    assert page.get_by_role("rowheader").all_inner_texts()[0].startswith("FV/ZŁA/1")
    assert page.get_by_role("rowheader").count() == 1
    page.get_by_role("link", name="Wyczyść").click()
    page.get_by_label("Szukaj").fill("k/3")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("szukaj="))
    assert page.get_by_role("rowheader").count() == 1
    seen(page, "FK/3/2026")
    page.reload()
    assert page.get_by_label("Szukaj").input_value() == "k/3"


def test_a_seller_named_like_a_script_is_only_a_name(page: Any, tmp_path: Path, shop: Shop, clock: Clock) -> None:
    content = invoice(number=f"FV/{SCRIPT}", seller_name=SCRIPT.replace("<", "&lt;"))
    page.on("dialog", lambda dialog: page.complaints.append(dialog.message))
    path = tmp_path / "<img src=x onerror=alert(1)>.xml"
    path.write_bytes(content)
    page.goto("/wysylka/nowa")
    page.set_input_files("#pliki", path)
    seen(page, SCRIPT)
    page.get_by_role("button", name=re.compile("Wyślij do KSeF")).click()
    page.get_by_role("heading", level=1).wait_for()
    here = page.url
    for path_ in ("", "/podglad", "/xml", "/xml?widok=czytelny"):
        page.goto(here + path_)
        seen(page, re.compile("alert"))
    page.goto("/wysylka")
    seen(page, f"FV/{SCRIPT}")


def test_findings_lead_to_the_line_in_the_file(
    page: Any, shop: Shop, clock: Clock, screenshot: Callable[[Any, str], None]
) -> None:
    document = taken(shop.database, clock, BROKEN)
    page.goto(f"/wysylka/{document.document_id}")
    seen(page, "Dlaczego i co zrobić")
    screenshot(page, "wysylka-blad")
    page.get_by_role("link", name="XML z numerami wierszy").click()
    page.get_by_role("link", name=re.compile("^wiersz ")).first.click()
    marked = page.locator("tr.marked").first
    assert "ABC" in marked.inner_text()
    assert marked.is_visible()
    screenshot(page, "wysylka-xml")
    page.goto(f"/wysylka/{document.document_id}/podglad")
    screenshot(page, "wysylka-podglad")


def test_everything_is_reached_by_keyboard_alone(page: Any, shop: Shop, clock: Clock, good: Path) -> None:
    taken(shop.database, clock, BROKEN)
    page.goto("/wysylka")

    def tab_to(name: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            focused = page.evaluate(
                "(document.activeElement.innerText || document.activeElement.ariaLabel || "
                "document.activeElement.labels?.[0]?.innerText || '').trim()"
            )
            if focused.startswith(name):
                outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert outline != "none", f"{name} shows no focus"
                return
        raise AssertionError(f"{name} is not reached by Tab")

    tab_to("Przejdź do treści")
    page.keyboard.press("Enter")
    tab_to("Zaznacz FV/ZŁA/1")
    page.keyboard.press("Space")
    tab_to("Ponów")
    page.keyboard.press("Enter")
    seen(page, "Ponowiono: 1 dokument")
    tab_to("FV/ZŁA/1")
    page.keyboard.press("Enter")
    page.get_by_role("heading", level=1, name="FV/ZŁA/1").wait_for()
    page.once("dialog", lambda dialog: dialog.accept())
    tab_to("Anuluj")
    page.keyboard.press("Enter")
    seen(page, "Dokument anulowano")
    page.goto("/wysylka/nowa")
    page.set_input_files("#pliki", good)
    seen(page, "gotowa do wysłania")
    tab_to("Wyślij do KSeF")
    page.keyboard.press("Enter")
    seen(page, "Przyjęto do wysłania")


def test_a_phone_shows_everything_without_scrolling_sideways(
    page: Any, shop: Shop, clock: Clock, good: Path, bad: Path, screenshot: Callable[[Any, str], None]
) -> None:
    done = taken(shop.database, clock, invoice())
    shop.work()
    refused = taken(shop.database, clock, BROKEN)
    page.set_viewport_size({"width": 390, "height": 844})
    for name, path in (
        ("pulpit", "/"),
        ("wysylka", "/wysylka"),
        ("nowa", "/wysylka/nowa"),
        ("dokument", f"/wysylka/{done.document_id}"),
        ("blad", f"/wysylka/{refused.document_id}"),
        ("xml", f"/wysylka/{refused.document_id}/xml"),
        ("podglad", f"/wysylka/{done.document_id}/podglad"),
    ):
        page.goto(path)
        screenshot(page, f"telefon-{name}")
        assert fits(page), path
    page.goto("/wysylka/nowa")
    page.set_input_files("#pliki", [good, bad])
    seen(page, "Wynik sprawdzenia")
    screenshot(page, "telefon-sprawdzenie")
    assert fits(page)


def test_the_first_page_follows_what_happens(
    page: Any, shop: Shop, clock: Clock, screenshot: Callable[[Any, str], None]
) -> None:
    page.clock.install()
    page.goto("/")
    page.evaluate("window.notReloaded = true")
    taken(shop.database, clock, BROKEN)
    page.clock.run_for(6000)
    seen(page, "Dokumenty z błędem, do poprawienia: 1.")
    for number in range(25):
        taken(shop.database, clock, invoice(number=f"FV/{number}"), name=f"f{number}.xml")
        if number % 5 == 0:
            shop.work()
    assert page.evaluate("window.notReloaded") is True
    clock.forward(120)
    page.goto("/")
    screenshot(page, "pulpit")
    page.get_by_role("link", name=re.compile("Dokumenty z błędem")).click()
    page.wait_for_url(re.compile("stan=error"))
    seen(page, "FV/ZŁA/1")
