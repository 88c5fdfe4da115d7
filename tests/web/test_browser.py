"""What the page's own script and style do in a real Chromium, under the strict policy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from starlette.requests import Request
from starlette.responses import Response

from ksefbuffer.queue import people
from ksefbuffer.web import app as application
from ksefbuffer.web import passwords
from ksefbuffer.web.gate import PageCaller, PageForm
from ksefbuffer.web.rendering import redirect, render, templates
from ksefbuffer.web.site import Site
from tests.process.running import until
from tests.web.test_login import PASSWORD

# What was sent before it has arrived when it is answered.
_BARRIER = "() => fetch('/haslo').then((answer) => answer.status)"


def a_person(site: Site) -> None:
    with site.database.transaction() as tx:
        people.add_user(tx, "szef", admin=True, password_hash=passwords.hashed(PASSWORD), at=site.clock())


def test_signing_in_and_out_with_the_keyboard_alone(site: Site, browser_page: Any) -> None:
    a_person(site)
    page = browser_page
    page.goto("/uzytkownicy")
    assert page.evaluate("document.activeElement.id") == "login"
    page.keyboard.type("szef")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Użytkownicy").wait_for()
    page.keyboard.press("Tab")
    skip = page.locator("a.skip")
    assert skip.evaluate("e => e === document.activeElement")
    assert skip.bounding_box()["y"] >= 0, "the way past the menu is seen once it has the focus"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.get_by_role("button", name="Wyloguj").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/logowanie")
    page.goto("/uzytkownicy")
    assert "/logowanie" in page.url


def test_a_person_is_added_given_rights_and_invited_on_a_phone(
    site: Site, browser_page: Any, signed_in: Callable[..., str], screenshot: Callable[[Any, str], None]
) -> None:
    page = browser_page
    signed_in(page, "szef", admin=True)
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto("/uzytkownicy")
    page.get_by_label("Login").fill("anna")
    page.get_by_label("Imię i nazwisko").fill("Anna <b>Nowak</b>")
    page.get_by_role("button", name="Dodaj i utwórz zaproszenie").click()
    link = page.locator("#link").inner_text()
    page.get_by_role("link", name="Ustaw prawa tej osoby").click()
    page.get_by_label("Wysyłka (faktury sprzedaży)").select_option("widzi")
    page.get_by_label("Folder 1", exact=True).fill("Sklep 1")
    page.get_by_label("Prawo do folderu 1").select_option("widzi i obsługuje")
    page.get_by_role("button", name="Zapisz").click()
    page.get_by_text("Nowe prawa działają od razu").wait_for()
    screenshot(page, "person-390")
    for path in ("/uzytkownicy", "/uzytkownicy/2", "/uzytkownicy/klucze", "/dziennik", "/haslo"):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
    page.context.clear_cookies()
    page.goto(link)
    page.get_by_label("Hasło", exact=True).fill("zupełnie nowe hasło")
    page.get_by_label("Powtórz hasło").fill("zupełnie nowe hasło")
    page.get_by_role("button", name="Ustaw hasło i wejdź").click()
    page.wait_for_url(lambda url: "/zaproszenie/" not in url)
    with site.database.reading() as tx:
        anna = people.user_of(tx, "anna")
        assert people.grants_of_user(tx, anna.id) == [("incoming", "Sklep 1", True), ("outgoing", "", False)]
    assert anna.password_hash is not None


def test_a_question_is_asked_before_what_cannot_be_undone(
    site: Site, browser_page: Any, signed_in: Callable[..., str]
) -> None:
    page = browser_page
    signed_in(page, "szef", admin=True)
    with site.database.transaction() as tx:
        people.add_key(tx, "kasa-1", ["send"], at=site.clock())
    answers = [False, True]
    asked: list[str] = []

    def answer(dialog: Any) -> None:
        asked.append(dialog.message)
        dialog.accept() if answers.pop(0) else dialog.dismiss()

    page.on("dialog", answer)
    page.goto("/uzytkownicy/klucze")
    page.get_by_role("button", name="Unieważnij").click()
    assert page.get_by_role("button", name="Unieważnij").count() == 1
    page.get_by_role("button", name="Unieważnij").click()
    page.get_by_text("jest unieważniony.").wait_for()
    assert len(asked) == 2
    assert "kasa-1" in asked[0]


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A page for the script: a part that refreshes itself, a place for files, ticks for all. Set before ``live``."""
    seen: dict[str, Any] = {"asked": 0, "posted": [], "answer": 200}
    router = APIRouter()
    source = """{% extends "base.html" %}{% block content %}
<h1>Próba</h1><div id="part" data-refresh="/proba/czesc" data-every="500">na początku</div>
<form method="post" enctype="multipart/form-data" action="/proba"><input type="hidden" name="csrf" value="{{ csrf }}">
<div class="drop"><label for="plik">Plik</label><input id="plik" type="file" name="plik" multiple></div>
<label><input type="checkbox" data-all="ids">wszystkie</label>
<input type="checkbox" name="ids" value="1" aria-label="1"><input type="checkbox" name="ids" value="2" aria-label="2">
<button>Wyślij</button></form>{% endblock %}"""

    @router.get("/proba")
    def whole(request: Request, _who: PageCaller) -> Response:
        render(request, "errors.html", status=1, title="", message="", action="")
        template = templates().from_string(source)
        context = {"who": None, "csrf": request.state.csrf, "nip": "1", "environment": "demo"}
        more = {"environment_pl": "DEMO", "path": "/", "notice": None}
        return HTMLResponse(template.render(**context, **more))

    @router.get("/proba/czesc")
    def part(_who: PageCaller) -> Response:
        seen["asked"] += 1
        return HTMLResponse(f"<p>odświeżono {seen['asked']}</p><script>alert(1)</script>", seen["answer"])

    @router.post("/proba")
    def post(form: PageForm) -> Response:
        seen["posted"].append(([(file.name, file.content) for file in form.files("plik")], form.all("ids")))
        return redirect("/proba")

    class Section:
        pass

    Section.router = router  # type: ignore[attr-defined]
    monkeypatch.setattr(application, "PAGES", (Section, *application.PAGES))
    return seen


def test_a_part_refreshes_itself_and_rests_while_nobody_looks(
    tried: dict[str, Any], browser_page: Any, signed_in: Callable[..., str]
) -> None:
    page = browser_page
    signed_in(page, "szef", admin=True)
    page.clock.install()
    page.goto("/proba")
    page.get_by_text("odświeżono 2").wait_for()
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    page.clock.run_for(500)
    page.evaluate(_BARRIER)
    before = tried["asked"]
    page.clock.run_for(20_000)
    page.evaluate(_BARRIER)
    assert tried["asked"] == before
    page.evaluate("Object.defineProperty(document, 'hidden', {value: false, configurable: true})")
    page.get_by_text(f"odświeżono {before + 1}").wait_for()
    tried["answer"], before = 500, tried["asked"]
    until(lambda: page.evaluate(_BARRIER) and tried["asked"] > before, "asked in vain")
    tried["answer"], before = 200, tried["asked"]
    page.get_by_text(f"odświeżono {before + 1}").wait_for()
    browser_page.complaints[:] = [one for one in browser_page.complaints if "500" not in one]


def test_files_are_dropped_and_boxes_ticked(
    tried: dict[str, Any], browser_page: Any, signed_in: Callable[..., str]
) -> None:
    page = browser_page
    signed_in(page, "szef", admin=True)
    page.goto("/proba")
    carried = page.evaluate_handle(
        "() => { const files = new DataTransfer(); for (const name of ['ą.xml', 'b.xml'])"
        " files.items.add(new File(['<a/>'], name)); return files; }"
    )
    page.dispatch_event(".drop", "dragover", {"dataTransfer": carried})
    assert "over" in page.locator(".drop").get_attribute("class")
    page.dispatch_event(".drop", "drop", {"dataTransfer": carried})
    assert page.locator(".chosen").inner_text() == "ą.xml, b.xml"
    page.get_by_label("wszystkie").check()
    with page.expect_navigation():
        page.get_by_role("button", name="Wyślij").dblclick()
    assert page.evaluate(_BARRIER) == 200
    assert tried["posted"] == [([("ą.xml", b"<a/>"), ("b.xml", b"<a/>")], ["1", "2"])], "a double click sends once"


def test_a_file_is_chosen_by_a_polish_button(
    tried: dict[str, Any], browser: Any, live: str, signed_in: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "ć.xml").write_bytes(b"<a/>")
    with browser.new_context(base_url=live, locale="en-GB") as context:
        signed_in(context, "szef", admin=True)
        page = context.new_page()
        page.goto("/proba")
        field = page.get_by_label("Plik", exact=True)
        assert page.locator(".chosen").inner_text() == "Nie wybrano plików"
        assert field.bounding_box()["width"] <= 1, "the button in the browser's own language is not seen"
        field.focus()
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Tab")
        assert field.evaluate("one => one === document.activeElement")
        button = page.get_by_text("Wybierz pliki")
        assert button.evaluate("one => getComputedStyle(one).outlineStyle") == "solid"
        with page.expect_file_chooser() as chooser:
            page.keyboard.press("Space")
        chooser.value.set_files([])
        with page.expect_file_chooser() as chooser:
            button.click()
        chooser.value.set_files(tmp_path / "ć.xml")
        assert page.locator(".chosen").inner_text() == "ć.xml"
        with page.expect_navigation():
            page.get_by_role("button", name="Wyślij").click()
    assert tried["posted"] == [([("ć.xml", b"<a/>")], [])]
