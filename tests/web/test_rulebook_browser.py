"""Katalogi i reguły in a real browser: a rule is edited, previewed, saved, and its effect is seen."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from ksefbuffer.queue import folders, pulls
from ksefbuffer.receiver import stock
from ksefbuffer.receiver.refiling import Refiling
from ksefbuffer.receiver.rulebook import read_rulebook
from ksefbuffer.receiver.stock import Rules, Stock
from ksefbuffer.web.site import Site
from tests.receiver import generator
from tests.receiver.test_stock import of
from tests.samples import NIP
from tests.web.test_documents_browser import PHONE, WIDE, fits

Sign = Callable[..., str]
Shot = Callable[[Any, str], None]


def a_stock(site: Site) -> Stock:
    return Stock(site.database, Rules(NIP, "sandbox"), date(2026, 1, 1))


@pytest.fixture
def filled(site: Site) -> Site:
    """Sixty invoices, filed by rules of a chain with 200 stores."""
    text = '[[catalogue]]\npath = "koszty"\ndescription = "media, najem, usługi"\n\n'
    text += '[[catalogue]]\npath = "koszty/media"\n\n[[catalogue]]\npath = "sklepy"\n\n'
    text += generator.rulebook_toml()
    stock.bring_in(
        site.database, text, nip=NIP, environment="sandbox", at=site.clock(), actor="cli:root", note="z pliku"
    )
    a_stock(site).take([of(made) for made in generator.many(60)], at=site.clock(), actor="pull")
    return site


def test_a_rule_is_edited_previewed_saved_and_its_effect_seen(
    filled: Site, browser_page: Any, signed_in: Sign, screenshot: Shot
) -> None:
    site, page = filled, browser_page
    page.set_viewport_size(WIDE)
    signed_in(page, "anna", admin=True)
    page.goto("/reguly")
    page.get_by_role("link", name="sklepy", exact=True).click()
    page.get_by_label("Katalog", exact=True).fill("markety/{store.number}")
    # Without a click anywhere: the preview follows the form.
    page.locator("#podglad").get_by_text("z 60").wait_for()
    assert page.locator("#podglad tr.marked").count() > 5
    screenshot(page, "rules-rule")
    page.get_by_label("Wartości, każda w osobnym wierszu").first.fill("może")
    page.locator("#podglad").get_by_text("„present” przyjmuje true albo false").wait_for()
    page.get_by_label("Wartości, każda w osobnym wierszu").first.fill("tak")
    page.locator("#podglad").get_by_text("z 60").wait_for()
    page.get_by_role("button", name="Zachowaj w szkicu").last.click()
    page.get_by_text("Pracujesz na szkicu.").wait_for()
    screenshot(page, "rules-list")
    page.get_by_role("link", name="Wypróbuj na fakturach").click()
    page.get_by_text("Sprawdzono 60 faktur").wait_for()
    screenshot(page, "rules-trial")
    page.get_by_label("Uwaga").fill("sklepy nazywamy marketami")
    page.get_by_role("button", name="Zapisz jako nową wersję").click()
    page.get_by_text("Reguły w wersji 2 obowiązują").wait_for()
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Ułóż wszystkie od nowa").click()
    page.get_by_text("Układanie czeka na pracujący bufor").wait_for()
    duty = Refiling(site.database, a_stock(site), site.clock)
    while duty.step():
        pass
    page.get_by_text("Ostatnie układanie zakończone: przejrzano 60").wait_for()
    page.goto("/dokumenty")
    page.locator("aside").get_by_role("link", name="markety").click()
    assert page.locator("table.invoices tbody tr").count() > 5
    with site.database.reading() as tx:
        kept = pulls.rulebook(tx)
        assert not any(folder.startswith("sklepy/") for folder in folders.counts(tx, None))
    assert kept is not None
    assert (kept.version, kept.actor, kept.note) == (2, "user:anna", "sklepy nazywamy marketami")


def test_the_form_works_without_any_script(filled: Site, browser: Any, live: str, signed_in: Sign) -> None:
    context = browser.new_context(base_url=live, java_script_enabled=False)
    page = context.new_page()
    signed_in(page, "anna", admin=True)
    page.goto("/reguly/regula/nowa")
    page.get_by_label("Nazwa reguły").fill("duże")
    page.get_by_label("Pole", exact=True).first.select_option("gross")
    page.get_by_label("Porównanie").first.select_option("between")
    page.get_by_label("Wartości, każda w osobnym wierszu").first.fill("1000")
    page.get_by_label("Katalog", exact=True).fill("duże")
    page.get_by_role("button", name="Sprawdź na").click()
    page.locator("#podglad").get_by_text("z 60").wait_for()
    page.get_by_role("button", name="Dodaj warunek").click()
    assert page.get_by_label("Pole", exact=True).count() == 3
    page.get_by_role("button", name="Zachowaj w szkicu").last.click()
    page.get_by_text("jest w szkicu").wait_for()
    context.close()


def test_rules_are_put_in_order_and_written_from_the_keyboard(filled: Site, browser_page: Any, signed_in: Sign) -> None:
    page = browser_page
    signed_in(page, "anna", admin=True)

    def tab_to(test: str) -> None:
        for _ in range(150):
            page.keyboard.press("Tab")
            if page.evaluate(f"(() => {{ const e = document.activeElement; return {test}; }})()"):
                return
        raise AssertionError(f"never reached: {test}")

    page.goto("/reguly")
    tab_to("e.textContent === '↓ Niżej'")
    page.keyboard.press("Enter")
    page.get_by_text("Pracujesz na szkicu.").wait_for()
    names = page.locator(".rule-list strong").all_inner_texts()
    assert names.index("koszty transport") < names.index("koszty media")
    tab_to("e.textContent === 'Dodaj regułę'")
    page.keyboard.press("Enter")
    page.wait_for_url("**/nowa")
    tab_to("e.id === 'nazwa'")
    page.keyboard.type("z klawiatury")
    tab_to("e.id === 'pole-1'")
    page.keyboard.type("waluta")
    tab_to("e.id === 'wartosci-1'")
    page.keyboard.type("EUR")
    tab_to("e.id === 'cel'")
    page.keyboard.type("waluty")
    page.keyboard.press("Enter")
    page.get_by_text("Reguła „z klawiatury” jest w szkicu").wait_for()
    page.get_by_label("Uwaga").focus()
    page.keyboard.type("z klawiatury")
    page.keyboard.press("Enter")
    page.get_by_text("obowiązują").first.wait_for()
    with filled.database.reading() as tx:
        kept = pulls.rulebook(tx)
    assert kept is not None
    (rule,) = [rule for rule in read_rulebook(kept.content).rules if rule.name == "z klawiatury"]
    assert (rule.conditions[0].field, rule.conditions[0].values, rule.target) == ("currency", ("EUR",), "waluty")


def test_a_register_is_dropped_in(
    filled: Site, browser_page: Any, signed_in: Sign, tmp_path: Path, screenshot: Shot
) -> None:
    page = browser_page
    signed_in(page, "anna", admin=True)
    file = tmp_path / "sklepy.csv"
    file.write_text("Numer;Nazwa;Katalog\n1;Pierwszy;sklepy/pierwszy\n", encoding="cp1250")
    page.goto("/reguly/sklepy")
    page.get_by_label("Przeciągnij plik CSV").set_input_files(str(file))
    page.get_by_role("button", name="Wczytaj do szkicu").click()
    page.get_by_text("W szkicu jest 1 sklepów: nowych 1, usuniętych 200.").wait_for()
    screenshot(page, "rules-stores")
    page.goto("/reguly/katalogi")
    page.get_by_label("W katalogu").select_option("koszty")
    page.get_by_label("Nazwa (albo ścieżka").fill("najem")
    page.get_by_role("button", name="Dodaj", exact=True).click()
    page.get_by_text("Katalog „koszty/najem” jest w szkicu.").wait_for()
    screenshot(page, "rules-catalogues")


@pytest.mark.parametrize(
    "url", ["", "/regula/0", "/regula/nowa", "/katalogi", "/sklepy", "/tekst", "/proba", "/wersje", "/wersje/1"]
)
def test_a_phone_shows_it_without_scrolling_sideways(
    filled: Site, browser_page: Any, signed_in: Sign, screenshot: Shot, url: str
) -> None:
    page = browser_page
    page.set_viewport_size(PHONE)
    signed_in(page, "anna", admin=True)
    page.goto(f"/reguly{url}")
    assert fits(page)
    screenshot(page, "phone-rules" + url.replace("/", "-"))
