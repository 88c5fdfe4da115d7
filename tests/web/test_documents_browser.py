"""Dokumenty in a real browser: by mouse, by keyboard, on a phone, with what a hostile seller wrote."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ksefbuffer.queue import incoming, remarks
from ksefbuffer.queue.incoming import Incoming
from ksefbuffer.web.site import Site
from tests.samples import a_nip, invoice
from tests.web.received import an_invoice_received

Sign = Callable[..., str]
Shot = Callable[[Any, str], None]
PHONE = {"width": 390, "height": 844}
WIDE = {"width": 1280, "height": 900}
EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


def again(site: Site, one: Incoming) -> Incoming:
    with site.database.reading() as tx:
        return incoming.get(tx, one.id)


@pytest.fixture
def shop(site: Site) -> list[Incoming]:
    """What a small chain has: some invoices in folders, one of them doubtful."""
    fired = [
        {"code": "Z29", "severity": "W", "message": "Rachunek bankowy sprzedawcy jest nowy: dotąd płaciliśmy na inny.",
         "field": "Fa/Platnosc/RachunekBankowy", "values": {}},
    ]  # fmt: skip
    made = [
        an_invoice_received(site, f"sklepy/{7 + n % 3}/2026-11", number=f"FV/{n}/11/2026", seller_name=f"Żółw {n} s.c.")
        for n in range(8)
    ]
    made.append(an_invoice_received(site, "nieprzypisane", number="R/77", verdict="do wyjaśnienia", fired=fired))
    made.append(an_invoice_received(site, "koszty/media", number="E/2026/11", tags=["prąd"], verdict="niezasadna"))
    return made


def fits(page: Any) -> bool:
    """Whether nothing sticks out sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))


def test_an_invoice_is_found_read_and_decided_on(
    site: Site, browser_page: Any, signed_in: Sign, shop: list[Incoming], screenshot: Shot
) -> None:
    page = browser_page
    page.set_viewport_size(WIDE)
    signed_in(page, "anna", admin=True)
    page.goto("/dokumenty")
    screenshot(page, "documents-list")
    page.get_by_role("link", name="nieprzypisane").click()
    page.get_by_role("link", name="R/77").click()
    page.get_by_text("Rachunek bankowy sprzedawcy jest nowy").wait_for()
    screenshot(page, "documents-one")
    page.get_by_role("button", name="Odrzuć").click()
    page.get_by_text("Podaj powód").wait_for()
    page.get_by_label("Uwaga do decyzji").fill("To nie nasze zamówienie, proszę o korektę.")
    page.get_by_role("button", name="Odrzuć").click()
    page.get_by_text("Zapisano decyzję: odrzucona.").wait_for()
    one = again(site, shop[8])
    assert (one.decision, one.comment) == ("rejected", "To nie nasze zamówienie, proszę o korektę.")
    page.get_by_label("Dodaj uwagę").fill("Zadzwoniono do sprzedawcy")
    page.get_by_role("button", name="Zapisz uwagę").click()
    page.get_by_label("Etykieta", exact=True).fill("reklamacja")
    page.get_by_role("button", name="Dodaj", exact=True).click()
    page.get_by_label("Księgowanie za").fill("2026-12")
    page.get_by_role("button", name="Oznacz").click()
    page.get_by_text("Zadzwoniono do sprzedawcy").wait_for()
    with site.database.reading() as tx:
        assert remarks.tags(tx, [one.id]) == {one.id: ["reklamacja"]}
        assert remarks.booked(tx, [one.id])[one.id].period == "2026-12"
    page.get_by_role("button", name="usuń etykietę reklamacja").click()
    page.get_by_text("Usunięto etykietę.").wait_for()
    with site.database.reading() as tx:
        assert remarks.tags(tx, [one.id]) == {}


def test_files_are_attached_fetched_and_removed(
    site: Site, browser_page: Any, signed_in: Sign, shop: list[Incoming], tmp_path: Path
) -> None:
    page = browser_page
    signed_in(page, "anna", admin=True)
    umowa = tmp_path / "umowa zażółć.html"
    umowa.write_text("<script>alert(3)</script>")
    page.goto(f"/dokumenty/{shop[0].ksef_number}")
    page.get_by_label("Przeciągnij plik tutaj").set_input_files(str(umowa))
    page.get_by_role("button", name="Dołącz").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="umowa zażółć.html").click()
    assert download.value.suggested_filename == "umowa zażółć.html"
    assert Path(download.value.path()).read_bytes() == umowa.read_bytes()
    asked: list[str] = []
    page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.accept()))
    page.get_by_role("button", name="Usuń", exact=True).click()
    page.get_by_text("Usunięto załącznik.").wait_for()
    assert asked == ["Usunąć załącznik umowa zażółć.html?"]


def test_a_selection_is_taken_along(browser_page: Any, signed_in: Sign, shop: list[Incoming], tmp_path: Path) -> None:
    page = browser_page
    signed_in(page, "anna", admin=True)
    page.goto("/dokumenty?q=zolw")
    page.get_by_label("Wybierz FV/3/11/2026").check()
    page.get_by_label("Wybierz FV/5/11/2026").check()
    with page.expect_download() as download:
        page.get_by_role("button", name="Pobierz (ZIP)", exact=True).click()
    assert download.value.suggested_filename.endswith(".zip")
    with zipfile.ZipFile(download.value.path()) as archive:
        names = archive.namelist()
    assert sorted(name.partition("_FV_")[2][:1] for name in names if name.endswith(".xml")) == ["3", "5"]


def test_what_a_seller_wrote_never_runs(site: Site, browser_page: Any, signed_in: Sign, screenshot: Shot) -> None:
    page = browser_page
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    number = "FV/<b>1</b>"
    content = invoice(number, nip=a_nip(5), seller_name=EVIL, footer=EVIL)
    why = [{"rule": EVIL, "condition": EVIL, "field": "", "value": EVIL, "where": EVIL}]
    one = an_invoice_received(site, content=content, seller_name=EVIL, reasons=why, tags=[EVIL])
    with site.database.transaction() as tx:
        remarks.comment(tx, one.id, EVIL, at=site.clock(), actor="user:<script>")
        remarks.attach(tx, one.id, EVIL, "text/html", b"x", at=site.clock(), actor="x")
        remarks.tag(tx, one.id, EVIL[:60], at=site.clock(), actor="x")
    signed_in(page, "anna", admin=True)
    for url in ("/dokumenty", f"/dokumenty/{one.ksef_number}", f"/dokumenty/{one.ksef_number}/tresc"):
        page.goto(url)
        page.get_by_text("alert(1)").first.wait_for()
        assert page.evaluate("document.querySelectorAll('img, main script').length") == 0
    screenshot(page, "documents-evil")
    assert dialogs == []


@pytest.mark.parametrize(
    "url", ["/dokumenty", "/dokumenty?katalog=sklepy/7&nowe=1", "/dokumenty/{one}", "/dokumenty/{one}/tresc"]
)
def test_a_phone_shows_it_without_scrolling_sideways(
    site: Site, browser_page: Any, signed_in: Sign, shop: list[Incoming], screenshot: Shot, url: str
) -> None:
    page = browser_page
    page.set_viewport_size(PHONE)
    signed_in(page, "anna", admin=True)
    page.goto(url.format(one=shop[0].ksef_number))
    assert fits(page)
    screenshot(page, "phone-" + "".join(sign if sign.isalnum() else "-" for sign in url))


def test_everything_can_be_done_from_the_keyboard(
    site: Site, browser_page: Any, signed_in: Sign, shop: list[Incoming]
) -> None:
    page = browser_page
    signed_in(page, "anna", admin=True)
    page.goto("/dokumenty")

    def tab_to(test: str) -> None:
        for _ in range(120):
            page.keyboard.press("Tab")
            if page.evaluate(f"(() => {{ const e = document.activeElement; return {test}; }})()"):
                # What has the focus shows it.
                assert page.evaluate("document.activeElement.matches(':focus-visible')")
                return
        raise AssertionError(f"never reached: {test}")

    tab_to("e.id === 'q'")
    page.keyboard.type("R/77")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=R*")
    tab_to("e.textContent === 'R/77'")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="R/77", exact=True).wait_for()
    tab_to("e.id === 'uwaga'")
    page.keyboard.type("z klawiatury")
    tab_to("e.value === 'accepted'")
    page.keyboard.press("Enter")
    page.get_by_text("Zapisano decyzję: przyjęta.").wait_for()
    one = again(site, shop[8])
    assert (one.decision, one.comment) == ("accepted", "z klawiatury")


def test_new_invoices_are_told_without_reloading(
    site: Site, browser_page: Any, signed_in: Sign, shop: list[Incoming]
) -> None:
    page = browser_page
    signed_in(page, "anna", admin=True)
    page.goto("/dokumenty")
    an_invoice_received(site, "sklepy/7", number="FV/NOWA/1")
    page.get_by_text("Nowych faktur: 1.").wait_for(timeout=25_000)
    page.get_by_role("link", name="Pokaż").click()
    page.get_by_role("link", name="FV/NOWA/1").wait_for()


def test_two_shops_browse_side_by_side_and_never_meet(
    site: Site, browser: Any, live: str, signed_in: Sign, shop: list[Incoming]
) -> None:
    seen: dict[str, str] = {}
    for login, folder in (("ola", "sklepy/7"), ("ewa", "sklepy/8")):
        context = browser.new_context(base_url=live)
        page = context.new_page()
        signed_in(page, login, grants=[("incoming", folder, True)])
        page.goto("/dokumenty")
        seen[login] = page.inner_text("main")
        for one in shop:
            answer = page.goto(f"/dokumenty/{one.ksef_number}")
            assert answer.status == (200 if one.folder.startswith(folder) else 404)
            answer = page.request.get(f"/dokumenty/{one.ksef_number}/xml")
            assert answer.status == (200 if one.folder.startswith(folder) else 404)
        context.close()
    for login, mine, foreign in (("ola", "sklepy/7", "sklepy/8"), ("ewa", "sklepy/8", "sklepy/7")):
        assert all(one.invoice_number in seen[login] for one in shop if one.folder.startswith(mine))
        assert not any(one.invoice_number in seen[login] for one in shop if not one.folder.startswith(mine))
        assert foreign not in seen[login]
