"""Every page in a real browser: what axe-core finds wrong with it, and the way through it by keyboard alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT  # type: ignore[import-untyped]
from starlette.routing import Route

from ksefbuffer.queue import facts, orders, people, pulls, remarks, rulebooks
from ksefbuffer.receiver import stock
from ksefbuffer.web.app import PAGES
from ksefbuffer.web.site import Site
from tests.conftest import Clock, Shop
from tests.samples import NIP, invoice
from tests.web.received import an_invoice_received
from tests.web.test_sending import BROKEN, taken

pytestmark = pytest.mark.process

WIDTHS = {1280: 900, 390: 844}

# What a person may open, by its address; {names} are those of ``filled``.
PAGES_OF_ADMINS = (
    "/",
    "/wysylka",
    "/wysylka?stan=error",
    "/wysylka/nowa",
    "/wysylka/{sent}",
    "/wysylka/{refused}",
    "/wysylka/{waiting}",
    "/wysylka/{refused}/xml",
    "/wysylka/{sent}/podglad",
    "/dokumenty",
    "/dokumenty?folder=sklepy",
    "/dokumenty/{received}",
    "/dokumenty/{received}/tresc",
    "/reguly",
    "/reguly/regula/0",
    "/reguly/regula/nowa",
    "/reguly/katalogi",
    "/reguly/sklepy",
    "/reguly/tekst",
    "/reguly/proba",
    "/reguly/proba?numer={received}",
    "/reguly/wersje",
    "/reguly/wersje/1",
    "/certyfikaty",
    "/certyfikaty?zlecenie={order}",
    "/uzytkownicy",
    "/uzytkownicy/{person}",
    "/uzytkownicy/grupy",
    "/uzytkownicy/grupy/{group}",
    "/uzytkownicy/klucze",
    "/konfiguracja",
    "/dziennik",
    "/haslo",
    "/start",
    "/start?krok=2",
    "/start?krok=3&zlecenie={order}",
    "/start?krok=4",
    "/start?krok=4&dokument={sent}",
    "/nie-ma-takiej-strony",
)
PAGES_OF_STRANGERS = ("/logowanie", "/zaproszenie/{invitation}", "/zaproszenie/nie-ma-takiego")
# Files, and pieces that a page puts into itself.
NO_PAGES = {
    "/certyfikaty/dokument/{number}",
    "/certyfikaty/lista",
    "/certyfikaty/zlecenie/{number}",
    "/dokumenty/nowe",
    "/dokumenty/{number}/pdf",
    "/dokumenty/{number}/xml",
    "/dokumenty/{number}/zalacznik/{attachment_id}",
    "/dziennik/csv",
    "/pulpit/stan",
    "/reguly/ukladanie",
    "/start/faktura/{document_id}",
    "/wysylka/lista",
    "/wysylka/{document_id}/faktura.pdf",
    "/wysylka/{document_id}/faktura.xml",
    "/wysylka/{document_id}/qr{number}.{kind}",
    "/wysylka/{document_id}/stan",
    "/wysylka/{document_id}/upo.xml",
}
# Where people spend their days; the rest is made of the same parts.
WALKED = (
    "/",
    "/wysylka",
    "/wysylka/nowa",
    "/wysylka/{refused}",
    "/dokumenty",
    "/dokumenty/{received}",
    "/reguly",
    "/reguly/regula/0",
    "/certyfikaty",
    "/uzytkownicy/{person}",
    "/konfiguracja",
    "/dziennik",
    "/haslo",
)

RULES = """
[company]
names = ["Market Pod Lipą S.A."]

[[catalogue]]
path = "koszty"
description = "media, najem, usługi"

[[catalogue]]
path = "sklepy"

[[rule]]
name = "hurtownia"
when = [{ field = "seller_name", contains = "Hurtownia" }, { field = "gross", between = [0, 100000] }]
target = "koszty/hurt"
tags = ["koszt"]

[[rule]]
name = "sklepy"
when = [{ field = "store", present = true }]
target = "sklepy/{store.number}/{issue_date:%Y-%m}"

[[store]]
number = "7"
name = "Sklep nr 7"
gln = ["5900000000077"]
address = ["ul. Długa 7, 00-001 Warszawa"]
"""


@pytest.fixture
def shop(make_shop: Callable[..., Shop]) -> Shop:
    return make_shop("[incoming]\nenabled = true")


@pytest.fixture
def site(make_site: Callable[..., Site], shop: Shop) -> Site:
    return make_site("[incoming]\nenabled = true", database=shop.database)


@pytest.fixture
def filled(site: Site, shop: Shop, clock: Clock) -> dict[str, Any]:
    """Something of everything that a page can show; the names by which addresses speak of it."""
    sent = taken(shop.database, clock, invoice(number="FV/1/2026"), name="f1.xml")
    shop.work()
    refused = taken(shop.database, clock, BROKEN, name="f2.xml")
    waiting = taken(shop.database, clock, invoice(number="FV/3/2026"), name="f3.xml", urgent=True)
    now = clock()
    stock.bring_in(shop.database, RULES, nip=NIP, environment="sandbox", at=now, actor="cli:root", note="z pliku")
    fired = [{"code": "Z29", "severity": "W", "message": "Rachunek sprzedawcy jest nowy.", "field": "", "values": {}}]
    for number in range(4):
        an_invoice_received(site, f"sklepy/{number % 2}/2026-11", number=f"FV/{number}/11/2026")
    an_invoice_received(site, "koszty/media", number="E/1", tags=["prąd"], verdict="niezasadna")
    received = an_invoice_received(site, "nieprzypisane", number="R/77", verdict="do wyjaśnienia", fired=fired)
    with shop.database.transaction() as tx:
        anna = people.add_user(tx, "anna", admin=False, password_hash=None, at=now)
        people.set_grants(tx, [("incoming", "sklepy", True), ("outgoing", "", False)], user_id=anna.id)
        invitation = people.invite(tx, anna.id, at=now)
        group = people.add_group(tx, "księgowość", at=now)
        people.set_members(tx, group, [anna.id])
        people.add_key(tx, "kasa-1", ["send", "status"], at=now)
        people.note(tx, at=now, actor="user:anna", action="login", text="Zalogowano.", ip="192.0.2.7")
        remarks.comment(tx, received.id, "Zadzwoniono do sprzedawcy.", at=now, actor="user:anna")
        remarks.tag(tx, received.id, "reklamacja", at=now, actor="user:anna")
        remarks.attach(tx, received.id, "umowa.pdf", "application/pdf", b"%PDF-1.7", at=now, actor="user:anna")
        boss = people.add_user(tx, "szef", admin=True, password_hash="-", at=now)
        other = RULES + '\n[[catalogue]]\npath = "inne"\n'
        pulls.keep_rulebook(tx, other, at=now, actor="user:szef", note="druga")
        rulebooks.keep_draft(tx, boss.id, 2, other + '\n[[catalogue]]\npath = "nowy"\n', at=now)
        order = orders.place(tx, "folders", b"{}", actor="user:szef", at=now)
        orders.take(tx, order)
        orders.fail(tx, order, "Nie ma folderu.", "Utwórz go.", at=now)
        facts.put(tx, "certificates", [_certificate("auth", 400), _certificate("offline", 5)], at=now)
        mode = {"mode": "offline24", "since": now.isoformat(), "why": "KSeF nie odpowiada.", "signing": ""}
        facts.put(tx, "mode", {**mode, "deadlines": {}}, at=now)
        used = {"minute": 1, "per_minute": 30, "hour": 171, "per_hour": 180}
        facts.put(tx, "limits", {"invoiceSend": {**used, "blocked_until": None}}, at=now)
    return {
        "sent": sent.document_id,
        "refused": refused.document_id,
        "waiting": waiting.document_id,
        "received": received.ksef_number,
        "person": anna.id,
        "group": group,
        "invitation": invitation,
        "order": order,
    }


def _certificate(purpose: str, days: int) -> dict[str, Any]:
    return {
        "purpose": purpose,
        "origin": "files",
        "kept": None,
        "status": "połączenie aktywne" if days > 30 else f"wygasa za {days} dni",
        "subject": "CN=Sklep",
        "issuer": "CN=CA",
        "serial": "01AB",
        "valid_from": "2026-01-01T00:00:00+00:00",
        "valid_to": "2027-12-31T00:00:00+00:00",
        "days_left": days,
        "problem": None,
        "action": "",
        "note": "",
    }


def opened(page: Any, path: str, filled: dict[str, Any]) -> None:
    """Goes there; what refreshes itself stands still from then on."""
    answer = page.goto(path.format(**filled))
    assert answer.status == (404 if "nie-ma-takie" in path else 200)
    page.complaints[:] = [one for one in page.complaints if "404" not in one]
    page.evaluate("for (const one of document.querySelectorAll('[data-refresh]')) one.removeAttribute('data-refresh')")


def found_wrong(page: Any) -> list[str]:
    """What axe-core calls serious or critical: the rule, the element, why."""
    # The page's policy allows no script of others; the debugger's way in is not the page's.
    page.evaluate(AXE_SCRIPT)
    answer = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert len(answer["passes"]) > 10, "axe looked at the page"
    return [
        f"{rule['id']} ({rule['impact']}): {node['target'][0]}: {node['failureSummary']}"
        for rule in answer["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


def test_no_page_is_left_out() -> None:
    for module in PAGES:
        for route in module.router.routes:
            assert isinstance(route, Route)
            if "GET" in (route.methods or ()) and route.path not in NO_PAGES:
                paths = [re.sub(r"\?.*", "", path) for path in (*PAGES_OF_ADMINS, *PAGES_OF_STRANGERS)]
                assert any(route.path_regex.match(re.sub(r"{\w+}", "7", path)) for path in paths), route.path


def test_axe_is_heard(filled: dict[str, Any], browser_page: Any) -> None:
    page = browser_page
    opened(page, "/logowanie", filled)
    assert found_wrong(page) == []
    page.evaluate("document.querySelector('label').remove()")
    assert [one.partition(" ")[0] for one in found_wrong(page)] == ["label"]


@pytest.mark.parametrize("path", [*PAGES_OF_STRANGERS, *PAGES_OF_ADMINS])
def test_axe_finds_nothing_serious(
    filled: dict[str, Any],
    browser_page: Any,
    signed_in: Callable[..., str],
    screenshot: Callable[[Any, str], None],
    path: str,
) -> None:
    page = browser_page
    if path in PAGES_OF_ADMINS:
        signed_in(page, "szef", admin=True)
    for width, height in WIDTHS.items():
        # Opened anew at each: the script looks at what scrolls when it starts.
        page.set_viewport_size({"width": width, "height": height})
        opened(page, path, filled)
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        screenshot(page, f"axe-{width}{re.sub('[^a-z0-9]+', '-', path)}")
        assert found_wrong(page) == [], f"{path} at {width} px"
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_axe_finds_nothing_serious_in_what_forms_answer(
    filled: dict[str, Any], browser_page: Any, signed_in: Callable[..., str], tmp_path: Path, width: int
) -> None:
    page = browser_page
    page.set_viewport_size({"width": width, "height": WIDTHS[width]})
    page.goto("/logowanie")
    page.get_by_label("Login").fill("szef")
    page.get_by_label("Hasło").fill("nie to")
    page.get_by_role("button", name="Zaloguj").click()
    page.get_by_role("alert").wait_for()
    assert found_wrong(page) == []
    page.complaints.clear()
    signed_in(page, "szef", admin=True)
    for name, content in {"dobra": invoice(number="FV/9/2026"), "zła": BROKEN + b"\n"}.items():
        (tmp_path / f"{name}.xml").write_bytes(content)
    page.goto("/wysylka/nowa")
    page.set_input_files("#pliki", [tmp_path / "dobra.xml", tmp_path / "zła.xml"])
    page.get_by_role("heading", name="Wynik sprawdzenia").wait_for()
    assert found_wrong(page) == []
    page.goto("/uzytkownicy")
    page.get_by_label("Login").fill("jan")
    page.get_by_role("button", name="Dodaj i utwórz zaproszenie").click()
    page.locator("#link").wait_for()
    assert found_wrong(page) == []
    page.goto("/reguly/regula/0")
    page.locator("#podglad").get_by_text("ostatnich faktur").wait_for()
    assert found_wrong(page) == []


# By keyboard alone

# How the element in focus shows that it is; a file input, hidden from sight, by the label that stands for it.
_FOCUSED = """() => {
    const one = document.activeElement;
    if (!one || one === document.body) return null;
    window.visited ??= new Set();
    const anew = !window.visited.has(one);
    window.visited.add(one);
    const shown = one.matches("input[type=file]") ? one.nextElementSibling : one;
    const style = getComputedStyle(shown), box = shown.getBoundingClientRect();
    const outlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
    return {
        name: one.outerHTML.slice(0, 120), anew, type: one.type || "",
        ring: outlined || style.boxShadow !== "none",
        seen: box.width > 4 && box.height > 4 && box.bottom > 0 && box.top < innerHeight
              && box.right > 0 && box.left < innerWidth,
    };
}"""
# What Tab should come to: by the browser's own rules, without what is hidden.
_REACHABLE = """() => [...document.querySelectorAll("[href], button, input, select, textarea, summary, [tabindex='0']")]
    .filter((one) => !one.disabled && one.tabIndex >= 0 && one.type !== "hidden" && one.checkVisibility()
        && !(one.closest("details:not([open])") && one.tagName !== "SUMMARY"))
    // Of radio buttons of one name, arrows lead on.
    .filter((one) => ![...window.visited].some((was) => was === one || (one.type === "radio" && was.name === one.name)))
    .map((one) => one.outerHTML.slice(0, 120))"""
# Parts of a date: day, month, year, calendar.
_STOPS_IN_ONE = 5


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("path", WALKED)
def test_tab_goes_through_all_of_it_and_shows_where_it_is(
    filled: dict[str, Any], browser_page: Any, signed_in: Callable[..., str], path: str, width: int
) -> None:
    page = browser_page
    signed_in(page, "szef", admin=True)
    page.set_viewport_size({"width": width, "height": WIDTHS[width]})
    opened(page, path, filled)
    page.keyboard.press("Tab")
    assert "skip" in page.evaluate(_FOCUSED)["name"], "the way past the menu stands first"
    wrong, still = [], 0
    while still < _STOPS_IN_ONE:
        page.keyboard.press("Tab")
        now = page.evaluate(_FOCUSED)
        if now is None:
            break
        still = 0 if now["anew"] else still + 1
        if not (now["ring"] and now["seen"]):
            wrong.append(now)
    assert page.evaluate("document.activeElement.matches('body, a.skip')"), f"held by {now}"
    assert page.evaluate(_REACHABLE) == []
    assert wrong == []


@pytest.mark.parametrize("path", WALKED)
def test_the_menu_can_be_passed(
    filled: dict[str, Any], browser_page: Any, signed_in: Callable[..., str], path: str
) -> None:
    page = browser_page
    signed_in(page, "szef", admin=True)
    opened(page, path, filled)
    page.keyboard.press("Tab")
    skip = page.locator("a.skip")
    assert skip.evaluate("one => one === document.activeElement")
    assert skip.bounding_box()["y"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    assert page.evaluate("document.getElementById('main').contains(document.activeElement)")
