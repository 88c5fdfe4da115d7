"""Certyfikaty: uploads with their mistakes, getting certificates, Profil Zaufany, tokens; and where no key may be."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)
from cryptography.x509 import load_pem_x509_certificate
from lxml import etree

from ksefbuffer.identity.material import load_files
from ksefbuffer.identity.selfsigned import make_selfsigned
from ksefbuffer.ksef.xades import sign
from ksefbuffer.queue import credentials, facts, orders, people
from ksefbuffer.web.site import Site
from tests.conftest import Clock
from tests.samples import NIP
from tests.web.working import Beside

PASSWORD = "Zażółć gęślą jaźń 17"


@pytest.fixture
def beside(site: Site, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Beside]:
    made = Beside(site, clock, monkeypatch)
    yield made
    made.close()


@pytest.fixture
def admin(client: httpx.Client, signed_in: Callable[..., str]) -> Callable[..., httpx.Response]:
    """``admin("/certyfikaty/…", data, files) -> the page after the redirect``."""
    csrf = signed_in(client, "szef", admin=True)

    def post(path: str, data: dict[str, Any] | None = None, files: Any = None) -> httpx.Response:
        form = {"csrf": csrf, **(data or {})}
        answer = client.post(path, data=form, files=files)
        assert answer.status_code == 303, answer.text
        return client.get(answer.headers["location"])

    return post


def encrypted(key: bytes) -> bytes:
    return load_pem_private_key(key, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSWORD.encode())
    )


def newest(site: Site) -> orders.Order:
    with site.database.reading() as tx:
        number = max(order for order in range(1, 60) if orders.order(tx, order) is not None)
        found = orders.order(tx, number)
    assert found is not None
    return found


def told(client: httpx.Client, order: orders.Order) -> str:
    return client.get(f"/certyfikaty/zlecenie/{order.id}").text


def pair(certificate: bytes | None, key: bytes | None) -> dict[str, tuple[str, bytes]]:
    given = {"certificate": ("ksef.crt", certificate), "key": ("ksef.key", key)}
    return {name: (file, content) for name, (file, content) in given.items() if content is not None}


def test_a_certificate_with_its_encrypted_key_is_taken_and_becomes_active(
    site: Site, beside: Beside, admin: Any, client: httpx.Client
) -> None:
    certificate, key = beside.issued("Authentication")
    page = admin("/certyfikaty/przeslij", {"password": PASSWORD, "purpose": ""}, pair(certificate, encrypted(key)))
    assert "Czeka na bufor" in page.text
    beside.work()
    assert "Zapisano certyfikat do logowania do KSeF" in told(client, newest(site))
    with site.database.reading() as tx:
        kept = credentials.active(tx, "auth")
    assert kept is not None
    assert "połączenie aktywne" in client.get("/certyfikaty").text
    # And it is what the buffer logs in with from now on.
    assert beside.restarted() is beside.orders
    assert beside.buffer.ksef.reachable()


def test_one_pkcs12_file_is_enough(site: Site, beside: Beside, admin: Any, client: httpx.Client) -> None:
    certificate, key = beside.issued("Offline")
    whole = pkcs12.serialize_key_and_certificates(
        b"x",
        load_pem_private_key(key, None),  # type: ignore[arg-type]
        load_pem_x509_certificate(certificate),
        None,
        BestAvailableEncryption(PASSWORD.encode()),
    )
    admin("/certyfikaty/przeslij", {"password": PASSWORD}, {"certificate": ("firma.p12", whole)})
    beside.work()
    assert "Zapisano certyfikat do kodów QR faktur offline" in told(client, newest(site))


def mistakes(beside: Beside) -> list[tuple[dict[str, str], dict[str, tuple[str, bytes]], str, str]]:
    certificate, key = beside.issued("Authentication")
    offline, offline_key = beside.issued("Offline")
    late, late_key = make_selfsigned(NIP, now=beside.clock() - timedelta(days=4000))
    return [
        (
            {"password": "nie to"},
            pair(certificate, encrypted(key)),
            "ksef.key jest niewłaściwe",
            "Wpisz właściwe hasło",
        ),
        ({}, pair(certificate, encrypted(key)), "nie podano hasła", "Wpisz hasło klucza"),
        ({}, pair(key, certificate), "zamienione miejscami", "w polu „Certyfikat”"),
        ({}, pair(certificate, offline_key), "Klucz prywatny nie pasuje", "Podaj klucz"),
        ({"purpose": "auth"}, pair(offline, offline_key), "typu Offline", "wybierz przeznaczenie"),
        ({"purpose": "offline"}, pair(certificate, key), "typu Uwierzytelnianie", "wybierz przeznaczenie"),
        ({}, pair(certificate, None), "bez klucza prywatnego", "Wskaż też plik z kluczem"),
        ({}, pair(None, key), "sam klucz prywatny", "Wskaż też plik z certyfikatem"),
        ({}, pair(b"%PDF-1.7", key), "nie zawiera certyfikatu", "wskaż certyfikat"),
        ({}, pair(certificate, certificate), "certyfikat zamiast klucza", "wskaż plik z kluczem"),
        ({}, pair(b" ", key), "jest pusty", "Skopiuj plik"),
        ({}, pair(late, late_key), "stracił ważność", "Pobierz z KSeF nowy certyfikat"),
    ]


def test_each_mistake_has_its_message_and_its_way_out(
    site: Site, beside: Beside, admin: Any, client: httpx.Client
) -> None:
    for data, files, said, way_out in mistakes(beside):
        admin("/certyfikaty/przeslij", data, files)
        beside.orders.step()
        shown = told(client, newest(site))
        assert said in shown, said
        assert way_out in shown, shown
        assert "ksefbuffer cert" not in shown
    with site.database.reading() as tx:
        assert credentials.all_kept(tx) == []


def test_a_file_too_large_or_none_is_told_at_once(admin: Any, beside: Beside) -> None:
    assert "Wskaż plik z certyfikatem" in admin("/certyfikaty/przeslij", {}, {"x": ("", b"")}).text
    assert "do 1 MB" in admin("/certyfikaty/przeslij", {}, pair(b"x" * 1_000_001, None)).text


def test_the_same_certificate_twice_is_told(site: Site, beside: Beside, admin: Any, client: httpx.Client) -> None:
    both = pair(*beside.issued("Offline"))
    for _ in range(2):
        admin("/certyfikaty/przeslij", {}, both)
        beside.orders.step()
    assert "już zapisany" in told(client, newest(site))


def test_an_import_that_a_crash_interrupted_is_finished_after_the_restart(
    site: Site, beside: Beside, admin: Any, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin("/certyfikaty/przeslij", {}, pair(*beside.issued("Offline")))

    def dies(*_: object, **__: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        # The certificate is kept, the answer is not.
        patched.setattr(beside.orders, "_finish", dies)
        patched.setattr(beside.orders, "_fail", lambda *_: None)
        with pytest.raises(SystemExit):
            beside.orders.step()
    assert newest(site).state == "working"
    beside.restarted()
    beside.work()
    assert "Zapisano certyfikat" in told(client, newest(site))
    with site.database.reading() as tx:
        assert len(credentials.all_kept(tx)) == 1


def test_keys_and_passwords_are_readable_nowhere(
    site: Site, beside: Beside, admin: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    certificate, key = beside.issued("Authentication")
    pem = encrypted(key)
    secrets = [
        key.split(b"\n")[1],
        pem.split(b"\n")[1],
        PASSWORD.encode(),
        load_pem_private_key(key, None).private_bytes(  # type: ignore[union-attr]
            Encoding.DER,
            PrivateFormat.PKCS8,
            NoEncryption(),
        )[-40:],
    ]

    def nowhere() -> None:
        file = site.config.database.sqlite_file
        assert file is not None
        for path in (file, file.with_name(file.name + "-wal")):
            content = path.read_bytes() if path.exists() else b""
            assert not [one for one in secrets if one in content], path
        assert not [one for one in secrets if one.decode("latin-1") in caplog.text]
        assert PASSWORD not in caplog.text

    admin("/certyfikaty/przeslij", {"password": PASSWORD}, pair(certificate, pem))
    waiting = newest(site)
    assert waiting.payload is not None, "it waits, sealed"
    assert not [one for one in secrets if one in waiting.payload]
    nowhere()
    beside.work()
    assert newest(site).payload is None
    nowhere()
    private = [name for name in (site.config.data_dir.glob("*")) if b"PRIVATE KEY" in name.read_bytes()]
    assert [path.name for path in private] == ["sandbox-auth.key"], "only the sandbox's own, made by the worker"


def test_without_a_worker_the_order_ends_with_a_message_and_its_payload_is_gone(
    site: Site, beside: Beside, admin: Any, client: httpx.Client, clock: Clock
) -> None:
    admin("/certyfikaty/przeslij", {}, pair(*beside.issued("Offline")))
    clock.forward(121)
    assert "nie odebrał tego polecenia" in told(client, newest(site))
    assert newest(site).payload is None
    beside.work()
    with site.database.reading() as tx:
        assert credentials.all_kept(tx) == [], "what people gave up does not happen later"


def test_before_the_worker_has_ever_run_nothing_can_be_asked(admin: Any, site: Site) -> None:
    assert "jeszcze nie pracował" in admin("/certyfikaty/uzyskaj", {}).text


def test_a_machine_key_that_is_lost_is_told_and_harms_nothing_else(
    site: Site, beside: Beside, admin: Any, client: httpx.Client
) -> None:
    admin("/certyfikaty/przeslij", {}, pair(*beside.issued("Offline")))
    beside.work()
    (site.config.data_dir / "machine.key").unlink()
    beside.restarted()
    admin("/certyfikaty/przeslij", {}, pair(*beside.issued("Authentication")))
    beside.orders.step()
    assert "Nie ma klucza maszyny" in told(client, newest(site))


def test_certificates_are_enrolled_renewed_and_a_pending_one_can_be_given_up(
    site: Site, beside: Beside, admin: Any, client: httpx.Client
) -> None:
    admin("/certyfikaty/uzyskaj", {"purpose": ["auth", "offline"]})
    beside.work()
    page = client.get("/certyfikaty").text
    # The third is the sandbox's own, made at the start.
    assert page.count("połączenie aktywne") == 3
    admin("/certyfikaty/uzyskaj", {"purpose": "offline", "renew": "1"})
    beside.orders.step()
    page = client.get("/certyfikaty").text
    assert "w trakcie konfiguracji" in page
    admin("/certyfikaty/porzuc", {"purpose": "offline"})
    beside.orders.step()
    assert "Porzucono" in told(client, newest(site))
    admin("/certyfikaty/uzyskaj", {"purpose": "offline", "renew": "1"})
    beside.work()
    page = client.get("/certyfikaty").text
    assert ("zastąpiony" in page, page.count("połączenie aktywne")) == (True, 3)


def test_profil_zaufany_from_the_document_to_both_certificates(
    site: Site, beside: Beside, admin: Any, client: httpx.Client, clock: Clock, tmp_path: Path
) -> None:
    admin("/certyfikaty/dokument")
    beside.orders.step()
    first = newest(site)
    assert "Pobierz dokument do podpisania" in told(client, first)
    given = client.get(f"/certyfikaty/dokument/{first.id}")
    assert given.headers["content-disposition"].startswith("attachment")
    files = {"document": ("podpisany.xml", given.content)}
    admin("/certyfikaty/podpisany", {}, files)
    beside.orders.step()
    assert "nie jest podpisany" in told(client, newest(site))

    certificate, key = make_selfsigned(NIP, now=clock())
    (tmp_path / "profil.pem").write_bytes(certificate + key)
    signer = load_files(tmp_path / "profil.pem", None, None)
    signed = sign(etree.fromstring(given.content), signer, clock())
    admin("/certyfikaty/podpisany", {}, {"document": ("podpisany.xml", signed)})
    beside.orders.step()
    assert "Zalogowano do KSeF" in told(client, newest(site))
    beside.work()
    assert newest(site).state == "done", newest(site).result
    assert client.get("/certyfikaty").text.count("połączenie aktywne") == 3


def test_a_signed_document_that_came_late_is_told(
    site: Site, beside: Beside, admin: Any, client: httpx.Client, clock: Clock
) -> None:
    admin("/certyfikaty/dokument")
    beside.orders.step()
    first = newest(site)
    given = client.get(f"/certyfikaty/dokument/{first.id}").content
    clock.forward(601)
    signed = given.replace(
        b"</AuthTokenRequest>", b'<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"/></AuthTokenRequest>'
    )
    admin("/certyfikaty/podpisany", {}, {"document": ("p.xml", signed)})
    beside.orders.step()
    shown = told(client, newest(site))
    assert "Minęło 10 minut" in shown
    assert "w ciągu 10 minut" in shown


def test_a_token_is_shown_once_to_who_asked_and_lies_nowhere(
    site: Site, beside: Beside, admin: Any, client: httpx.Client, signed_in: Any
) -> None:
    admin("/certyfikaty/tokeny/nowy", {"description": "Stary program kasowy"})
    beside.orders.step()
    order = newest(site)
    with httpx.Client(base_url=client.base_url, timeout=20) as other:
        signed_in(other, "szefowa", admin=True)
        assert 'class="secret"' not in told(other, order)
    shown = told(client, order)
    token = shown.partition('class="secret">')[2].partition("<")[0]
    assert len(token) > 20
    file = site.config.database.sqlite_file
    assert file is not None
    assert token.encode() not in file.read_bytes() + file.with_name(file.name + "-wal").read_bytes()
    assert token not in told(client, order), "a second look shows nothing"
    admin("/certyfikaty/tokeny")
    beside.orders.step()
    page = client.get("/certyfikaty").text
    assert "Stary program kasowy" in page
    reference = order.result["reference"] if order.result else ""
    admin("/certyfikaty/tokeny/uniewaznij", {"reference": reference})
    beside.orders.step()
    assert "unieważniony" in told(client, newest(site))


def test_what_comes_of_an_order_is_for_who_asked(
    site: Site, beside: Beside, admin: Any, client: httpx.Client, signed_in: Any
) -> None:
    admin("/certyfikaty/tokeny/nowy", {"description": "Stary program kasowy"})
    beside.orders.step()
    admin("/certyfikaty/tokeny")
    beside.orders.step()
    listed = newest(site).id
    admin("/certyfikaty/dokument")
    beside.orders.step()
    asked = newest(site).id
    assert client.get(f"/certyfikaty/dokument/{asked}").status_code == 200
    with httpx.Client(base_url=client.base_url, timeout=20) as other:
        signed_in(other, "szefowa", admin=True)
        for number in (asked, listed):
            assert other.get(f"/certyfikaty/zlecenie/{number}").status_code == 404
        assert other.get(f"/certyfikaty/dokument/{asked}").status_code == 404
        for page in ("/certyfikaty", "/start?krok=2", "/konfiguracja"):
            shown = other.get(f"{page}{'&' if '?' in page else '?'}zlecenie={asked}")
            assert shown.status_code == 200
            assert f"/zlecenie/{asked}" not in shown.text
            assert f"/dokument/{asked}" not in shown.text
            assert "Stary program kasowy" not in shown.text
    page = client.get("/certyfikaty").text
    assert f"/dokument/{asked}" in page
    assert "Stary program kasowy" in page


def test_a_token_begun_before_a_crash_is_not_made_twice(
    site: Site, beside: Beside, admin: Any, client: httpx.Client
) -> None:
    admin("/certyfikaty/tokeny/nowy", {"description": "Stary program"})
    with site.database.transaction() as tx:
        assert orders.take(tx, newest(site).id)
    beside.restarted()
    shown = told(client, newest(site))
    assert "nie wiadomo, czy KSeF go utworzył" in shown
    assert not list(beside.buffer.ksef.tokens())


def test_certificates_from_files_are_shown_by_what_the_worker_tells(
    make_site: Any, clock: Clock, tmp_path: Path, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = make_selfsigned(NIP, now=clock())
    (tmp_path / "a.crt").write_bytes(certificate)
    (tmp_path / "a.key").write_bytes(key)
    site = make_site('[auth]\ncertificate = "a.crt"\nprivate_key = "a.key"\n[offline]\npkcs12 = "nie ma.p12"\n')
    beside = Beside(site, clock, monkeypatch)
    with httpx.Client(base_url=serve(site).base_url, timeout=20) as client:
        now = clock()
        with site.database.transaction() as tx:
            user = people.add_user(tx, "szef", admin=True, password_hash="-", at=now)
            client.cookies.set("ksefbuffer", people.open_session(tx, user.id, at=now, ip="127.0.0.1"))
        page = client.get("/certyfikaty").text
    beside.close()
    assert "pliki z konfiguracji" in page
    assert "połączenie aktywne" in page
    assert "Nie ma pliku PKCS#12" in page


def test_what_the_dashboard_is_told_begins_with_the_certificate_in_use(
    site: Site, beside: Beside, admin: Any, clock: Clock
) -> None:
    def told() -> list[tuple[str, str, str | None]]:
        with site.database.reading() as tx:
            found = facts.get(tx, "certificates")
        assert found is not None
        return [(one["purpose"], one["origin"], one["problem"]) for one in found[0]]

    assert told() == [("auth", "sandbox", None)]
    admin("/certyfikaty/przeslij", {}, pair(*beside.issued("Authentication")))
    beside.work()
    assert told() == [("auth", "import", None), ("auth", "sandbox", None)]
    clock.forward(1000 * 24 * 3600)
    beside.orders.step()
    assert told()[0] == ("auth", "import", "Certyfikat do logowania do KSeF: wygasł.")


def test_only_administrators_come_here(client: httpx.Client, signed_in: Any, beside: Beside) -> None:
    csrf = signed_in(client, "anna", grants=[])
    for path in ("/certyfikaty", "/certyfikaty/lista", "/certyfikaty/zlecenie/1", "/certyfikaty/dokument/1"):
        assert client.get(path).status_code == 404, path
    for path in ("przeslij", "uzyskaj", "porzuc", "dokument", "podpisany", "tokeny", "tokeny/nowy"):
        assert client.post(f"/certyfikaty/{path}", data={"csrf": csrf}).status_code == 404, path


def test_a_form_leads_back_to_our_own_pages_only(admin: Any, beside: Beside) -> None:
    for place in ("https://zly.example/", "//zly.example", "/wyloguj", "/start?krok=2&zlecenie=1"):
        page = admin("/certyfikaty/przeslij", {"back": place}, {"x": ("", b"")})
        assert page.url.path == "/certyfikaty"
    assert admin("/certyfikaty/przeslij", {"back": "/start?krok=2"}, {"x": ("", b"")}).url.path == "/start"
