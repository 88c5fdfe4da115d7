"""Certyfikaty, Konfiguracja and the guided start in a real browser, beside a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ksefbuffer.queue import overrides
from ksefbuffer.web.site import Site
from tests.conftest import Clock
from tests.web.test_certificates import PASSWORD, encrypted
from tests.web.working import Beside, in_files

SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}


@pytest.fixture
def beside(site: Site, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Beside]:
    made = Beside(site, clock, monkeypatch)
    yield made
    made.close()


@pytest.fixture
def tab(browser_page: Any, signed_in: Callable[..., str]) -> Any:
    """A tab of an administrator's."""
    signed_in(browser_page, "szef", admin=True)
    return browser_page


def overflows(page: Any) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def test_a_certificate_is_uploaded_mistakes_first(
    tab: Any, beside: Beside, tmp_path: Path, screenshot: Callable[[Any, str], None]
) -> None:
    certificate, key = beside.issued("Authentication")
    files = in_files(tmp_path, ksef_crt=certificate, ksef_key=encrypted(key))
    tab.goto("/certyfikaty")
    screenshot(tab, "certificates-empty")

    def upload(first: str, second: str, password: str) -> None:
        tab.get_by_label("Certyfikat", exact=True).set_input_files(files[first])
        tab.get_by_label("Klucz prywatny").set_input_files(files[second])
        tab.get_by_label("Hasło klucza").fill(password)
        tab.get_by_role("button", name="Prześlij certyfikat").click()
        tab.get_by_text("Czeka na bufor").wait_for()
        beside.orders.step()

    upload("ksef_crt", "ksef_key", "nie to hasło")
    tab.get_by_text("Hasło do pliku ksef.key jest niewłaściwe").wait_for()
    tab.get_by_text("Wpisz właściwe hasło").wait_for()
    screenshot(tab, "certificates-wrong-password")
    upload("ksef_key", "ksef_crt", PASSWORD)
    tab.get_by_text("zamienione miejscami").wait_for()
    upload("ksef_crt", "ksef_key", PASSWORD)
    tab.get_by_text("Zapisano certyfikat do logowania do KSeF").wait_for()
    beside.work()
    row = tab.get_by_role("row").filter(has_text="przesłany do bufora")
    row.get_by_text("połączenie aktywne").wait_for()
    screenshot(tab, "certificates-active")


def test_files_can_be_dropped_on_the_form(tab: Any, beside: Beside) -> None:
    certificate, key = beside.issued("Offline")
    tab.goto("/certyfikaty")
    for name, file, content in (("certificate", "a.crt", certificate), ("key", "a.key", key)):
        tab.evaluate(
            """([name, file, text]) => {
                const data = new DataTransfer();
                data.items.add(new File([text], file));
                const zone = document.getElementById(name).closest(".drop");
                for (const kind of ["dragenter", "dragover", "drop"])
                    zone.dispatchEvent(new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true}));
            }""",
            [name, file, content.decode()],
        )
    tab.get_by_text("a.key", exact=True).wait_for()
    tab.get_by_role("button", name="Prześlij certyfikat").click()
    tab.get_by_text("Czeka na bufor").wait_for()
    beside.orders.step()
    tab.get_by_text("Zapisano certyfikat do kodów QR").wait_for()


def test_the_guided_start_leads_to_a_ksef_number_by_keyboard_alone(
    tab: Any, beside: Beside, site: Site, screenshot: Callable[[Any, str], None]
) -> None:
    def press(name: str, role: str = "button") -> None:
        """Tabs to it as a person without a mouse would."""
        for _ in range(60):
            tab.keyboard.press("Tab")
            focused = tab.evaluate("document.activeElement.textContent.trim()")
            if focused.startswith(name):
                tab.keyboard.press("Enter")
                return
        raise AssertionError(f"no way to {name}")

    tab.goto("/start")
    tab.get_by_role("heading", name="1. NIP i środowisko").wait_for()
    screenshot(tab, "start-1")
    press("Dalej")
    tab.get_by_role("heading", name="2. Certyfikat").wait_for()
    press("Uzyskaj certyfikaty sandboksa")
    tab.get_by_text("Czeka na bufor").wait_for()
    beside.work()
    rows = tab.get_by_role("row").filter(has_text="uzyskany z KSeF").filter(has_text="połączenie aktywne")
    rows.nth(1).wait_for()
    screenshot(tab, "start-2")
    press("Dalej")
    tab.get_by_role("heading", name="3. Folder").wait_for()
    press("Sprawdź zapis w folderach")
    tab.get_by_text("Czeka na bufor").wait_for()
    beside.orders.step()
    tab.get_by_text("Próba zapisu udana").wait_for()
    screenshot(tab, "start-3")
    press("Dalej")
    tab.get_by_role("heading", name="4. Faktura testowa").wait_for()
    press("Wyślij fakturę testową")
    tab.get_by_text("oczekuje").wait_for()
    beside.work()
    tab.get_by_text("Działa: faktura ma numer KSeF").wait_for()
    screenshot(tab, "start-4")
    press("Zakończ")
    tab.wait_for_url("**/")


def test_settings_are_changed_and_mistakes_stand_beside_their_field(
    tab: Any, site: Site, screenshot: Callable[[Any, str], None]
) -> None:
    tab.goto("/konfiguracja")
    screenshot(tab, "settings")
    tab.get_by_label("Od ilu oczekujących faktur").fill("-4")
    tab.get_by_role("button", name="Zapisz: Wysyłka").click()
    tab.get_by_text("Nie zapisano: popraw zaznaczone pola").wait_for()
    assert tab.get_by_label("Od ilu oczekujących faktur").input_value() == "-4"
    screenshot(tab, "settings-mistake")
    # The refused form is answered with 422, of which the browser tells its console.
    tab.complaints.clear()
    tab.get_by_label("Od ilu oczekujących faktur").fill("7")
    tab.get_by_role("button", name="Zapisz: Wysyłka").click()
    tab.get_by_text("Bufor zastosuje zmianę").wait_for()
    with site.database.reading() as tx:
        assert overrides.values(tx) == {"sending.batch_from": 7}
    tab.on("dialog", lambda dialog: dialog.accept())
    tab.get_by_role("button", name="Przywróć z pliku: Wysyłka").click()
    tab.get_by_text("Przywrócono ustawienia z pliku").wait_for()
    assert tab.get_by_label("Od ilu oczekujących faktur").input_value() == "20"


@pytest.mark.parametrize("path", ["/certyfikaty", "/konfiguracja", *(f"/start?krok={step}" for step in range(1, 5))])
def test_on_a_phone_nothing_sticks_out(
    tab: Any, beside: Beside, path: str, screenshot: Callable[[Any, str], None]
) -> None:
    beside.buffer.config.data_dir.mkdir(exist_ok=True)
    for name, size in SIZES.items():
        tab.set_viewport_size(size)
        tab.goto(path)
        screenshot(tab, f"{name}{path.replace('/', '-').replace('?', '-')}")
        assert overflows(tab) <= 0, name


def test_what_staff_typed_is_shown_as_text(tab: Any, beside: Beside, site: Site) -> None:
    tab.goto("/certyfikaty")
    tab.get_by_text("Utwórz token dla innego programu").click()
    tab.get_by_label("Opis").fill("<img src=x onerror=alert(1)> „kasa”")
    tab.get_by_role("button", name="Utwórz token").click()
    tab.get_by_text("Czeka na bufor").wait_for()
    beside.orders.step()
    tab.get_by_text("Skopiuj token teraz").wait_for()
    tab.goto("/certyfikaty")
    tab.get_by_role("button", name="Pobierz listę z KSeF").click()
    tab.get_by_text("Czeka na bufor").wait_for()
    beside.orders.step()
    tab.get_by_role("link", name="Pokaż listę tokenów").click()
    tab.get_by_role("cell", name="<img src=x onerror=alert(1)>").first.wait_for()
