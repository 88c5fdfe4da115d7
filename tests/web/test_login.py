"""Signing in and out: throttled, with a fresh session each time, with a second step for who wants one."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx
import pyotp
import pytest
from argon2 import PasswordHasher

from ksefbuffer.queue import people
from ksefbuffer.web import passwords
from ksefbuffer.web.site import Site
from tests.conftest import Clock

PASSWORD = "poprawny koń bateria"


def a_person(site: Site, login: str = "anna", *, admin: bool = False, totp: str | None = None) -> int:
    with site.database.transaction() as tx:
        user = people.add_user(tx, login, admin=admin, password_hash=passwords.hashed(PASSWORD), at=site.clock())
        if totp is not None:
            people.set_totp(tx, user.id, totp)
    return user.id


def field(text: str, name: str = "csrf") -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', text)
    assert found is not None, f"no {name} on the page"
    return found[1]


def log_in(client: httpx.Client, login: str = "anna", password: str = PASSWORD, **more: str) -> httpx.Response:
    token = field(client.get("/logowanie").text)
    return client.post("/logowanie", data={"csrf": token, "login": login, "haslo": password, **more})


def inside(client: httpx.Client) -> bool:
    return client.get("/haslo").status_code == 200


def test_who_is_not_signed_in_is_led_to_the_login_page_and_back(site: Site, client: httpx.Client) -> None:
    a_person(site)
    away = client.get("/haslo?a=b")
    assert (away.status_code, away.headers["location"]) == (303, "/logowanie?dalej=/haslo%3Fa%3Db")
    page = client.get(away.headers["location"])
    wanted = field(page.text, "dalej")
    done = log_in(client, dalej=wanted)
    assert (done.status_code, done.headers["location"]) == (303, "/haslo?a=b")
    assert inside(client)


@pytest.mark.parametrize(
    "wanted", ["//evil.example", "https://evil.example", "/\\evil.example", "\\/x", "javascript:1"]
)
def test_the_login_page_never_leads_to_another_site(site: Site, client: httpx.Client, wanted: str) -> None:
    a_person(site)
    assert field(client.get("/logowanie", params={"dalej": wanted}).text, "dalej") == "/"
    assert log_in(client, dalej=wanted).headers["location"] == "/"


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(site: Site, client: httpx.Client) -> None:
    a_person(site)
    cookies = [value for value in log_in(client).headers.get_list("set-cookie") if value.startswith("ksefbuffer=")]
    assert len(cookies) == 1
    parts = cookies[0].lower()
    assert "httponly" in parts
    assert "samesite=strict" in parts
    assert "path=/" in parts
    assert "domain" not in parts


@pytest.mark.parametrize(("login", "password"), [("anna", "zle haslo jednak"), ("nikt", PASSWORD), ("", "")])
def test_wrong_words_are_refused_without_telling_which(
    site: Site, client: httpx.Client, login: str, password: str
) -> None:
    a_person(site)
    answer = log_in(client, login, password)
    assert answer.status_code == 422
    assert "Nieprawidłowy login, hasło lub kod." in answer.text
    assert not inside(client)


def test_an_unknown_login_takes_as_long_as_a_wrong_password(
    site: Site, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "_hasher", PasswordHasher())
    passwords._nobodys.cache_clear()
    a_person(site)
    spent = {}
    for login in ("anna", "nikt"):
        log_in(client, login, "zle haslo jednak")
        began = time.process_time()
        log_in(client, login, "zle haslo jednak")
        spent[login] = time.process_time() - began
    # The server runs in this process; a hash costs tens of milliseconds of processor time, everything else a few.
    assert spent["nikt"] > spent["anna"] / 3


def test_from_the_third_failure_on_the_wait_doubles(site: Site, client: httpx.Client, clock: Clock) -> None:
    a_person(site)
    waits = []
    for _ in range(16):
        answer = log_in(client, password="zle haslo jednak")
        waits.append(int(answer.headers.get("retry-after", "0")))
        clock.forward(waits[-1])
    assert waits == [0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900]
    assert answer.status_code == 429


def test_while_it_waits_even_the_right_password_is_not_looked_at(
    site: Site, client: httpx.Client, clock: Clock
) -> None:
    a_person(site)
    for _ in range(3):
        log_in(client, password="zle haslo jednak")
    early = log_in(client)
    assert (early.status_code, early.headers["retry-after"]) == (429, "1")
    clock.forward(1.1)
    assert log_in(client).status_code == 303
    assert inside(client)
    with site.database.reading() as tx:
        assert people.waits_until(tx, ip="127.0.0.1", login="anna", at=clock()) is None
    assert log_in(client, password="zle haslo jednak").status_code == 422


def test_somebody_elses_failures_do_not_lock_a_person_out(site: Site, client: httpx.Client) -> None:
    a_person(site, "anna")
    a_person(site, "jan")
    for _ in range(5):
        log_in(client, "anna", "zle haslo jednak")
    assert log_in(client, "jan").status_code == 303


def test_many_guesses_at_once_learn_no_more_than_one_after_another(site: Site, live: str, client: httpx.Client) -> None:
    a_person(site)
    token = field(client.get("/logowanie").text)
    cookies = dict(client.cookies)

    def guess(password: str) -> int:
        with httpx.Client(base_url=live, cookies=cookies, timeout=60) as own:
            return own.post("/logowanie", data={"csrf": token, "login": "anna", "haslo": password}).status_code

    guesses = [f"zle haslo numer {number}" for number in range(11)] + [PASSWORD]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(guess, guesses))
    assert answers.count(422) <= 2
    assert answers[-1] in (303, 429)
    assert answers.count(429) >= 9


def test_many_guesses_at_once_at_ones_own_password_learn_no_more(
    site: Site, live: str, client: httpx.Client, signed_in: Callable[..., str]
) -> None:
    a_person(site)
    csrf = signed_in(client, "anna")
    cookies = dict(client.cookies)

    def guess(password: str) -> int:
        with httpx.Client(base_url=live, cookies=cookies, timeout=60) as own:
            new = {"nowe": "z", "powtorz": "z"}
            return own.post("/haslo", data={"csrf": csrf, "haslo": password, **new}).status_code

    guesses = [f"zle haslo numer {number}" for number in range(11)] + [PASSWORD]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(guess, guesses))
    # Two free ones; the right one, too, says 422 (for the new password), and only before the third.
    assert answers.count(422) <= 3
    assert answers.count(429) >= 9


def test_every_login_makes_a_new_session(site: Site, client: httpx.Client) -> None:
    a_person(site)
    client.cookies.set("ksefbuffer", "planted-by-somebody", domain="127.0.0.1")
    log_in(client)
    first = client.cookies["ksefbuffer"]
    assert first != "planted-by-somebody"
    log_in(client)
    second = client.cookies["ksefbuffer"]
    assert second != first
    client.cookies.set("ksefbuffer", first, domain="127.0.0.1")
    assert not inside(client), "the session before is over"
    client.cookies.set("ksefbuffer", "planted-by-somebody", domain="127.0.0.1")
    assert not inside(client)


def test_the_database_holds_no_token(site: Site, client: httpx.Client) -> None:
    a_person(site)
    log_in(client)
    token = client.cookies["ksefbuffer"]
    file = site.config.database.sqlite_file
    assert file is not None
    kept = b"".join(path.read_bytes() for path in file.parent.glob(file.name + "*"))
    assert people.digest(token).encode() in kept
    assert token.encode() not in kept
    assert PASSWORD.encode() not in kept


def test_logging_out_ends_the_session_on_the_server(
    site: Site, client: httpx.Client, signed_in: Callable[..., str]
) -> None:
    csrf = signed_in(client, "anna")
    token = client.cookies["ksefbuffer"]
    assert inside(client)
    assert client.post("/wyloguj", data={"csrf": csrf}).status_code == 303
    client.cookies.set("ksefbuffer", token, domain="127.0.0.1")
    assert not inside(client)


def test_a_session_ends_by_itself(client: httpx.Client, clock: Clock, signed_in: Callable[..., str]) -> None:
    signed_in(client, "anna")
    clock.now += timedelta(hours=8, minutes=1)
    assert not inside(client), "nobody was there for eight hours"
    signed_in(client, "anna")
    for _ in range(12):
        clock.now += timedelta(minutes=119)
        assert inside(client)
    clock.now += timedelta(minutes=15)
    assert not inside(client), "a day is the longest"


def test_a_disabled_person_is_out_at_once(site: Site, client: httpx.Client, signed_in: Callable[..., str]) -> None:
    signed_in(client, "anna")
    assert inside(client)
    with site.database.transaction() as tx:
        people.set_active(tx, people.user_of(tx, "anna").id, False)
    assert not inside(client)
    with site.database.transaction() as tx:
        people.set_password(tx, people.user_of(tx, "anna").id, passwords.hashed(PASSWORD))
    assert log_in(client).status_code == 422


def test_a_password_is_changed_only_by_who_knows_the_present_one(site: Site, client: httpx.Client) -> None:
    a_person(site)
    log_in(client)
    other = httpx.Client(base_url=client.base_url)
    log_in(other)
    csrf = field(client.get("/haslo").text)

    def change(old: str, new: str, again: str | None = None) -> httpx.Response:
        data = {"csrf": csrf, "haslo": old, "nowe": new, "powtorz": new if again is None else again}
        return client.post("/haslo", data=data)

    assert "co najmniej 12 znaków" in change(PASSWORD, "krótkie").text
    assert "nie może być loginem" in change(PASSWORD, "anna" * 4).text
    assert "nie może być loginem" in change(PASSWORD, "aaaaaaaaaaaaaa").text
    assert "muszą być takie same" in change(PASSWORD, "zupełnie nowe hasło", "zupełnie inne hasło").text
    assert change("zle haslo jednak", "zupełnie nowe hasło").status_code == 422
    assert inside(other)
    assert change(PASSWORD, "zupełnie nowe hasło").status_code == 303
    assert inside(client), "who changed it stays"
    assert not inside(other), "everybody else is out"
    other.close()
    assert log_in(client).status_code == 422
    assert log_in(client, password="zupełnie nowe hasło").status_code == 303


def test_who_must_change_their_password_does_it_first(site: Site, client: httpx.Client) -> None:
    key = a_person(site)
    with site.database.transaction() as tx:
        people.set_password(tx, key, passwords.hashed(PASSWORD), must_change=True)
    log_in(client)
    away = client.get("/dziennik")
    assert (away.status_code, away.headers["location"]) == (303, "/haslo")
    data = {"haslo": PASSWORD, "nowe": "zupełnie nowe hasło", "powtorz": "zupełnie nowe hasło"}
    assert client.post("/haslo", data={"csrf": field(client.get("/haslo").text), **data}).status_code == 303
    assert client.get("/dziennik").status_code == 404, "for administrators"


# The second step


def code(secret: str, clock: Clock, steps: int = 0) -> str:
    return pyotp.TOTP(secret).at(clock.now + timedelta(seconds=30 * steps))


def test_a_second_step_is_switched_on_proven_and_asked_for(site: Site, client: httpx.Client, clock: Clock) -> None:
    a_person(site)
    log_in(client)
    page = client.get("/haslo").text
    csrf, secret = field(page), field(page, "sekret")
    assert "data:image/svg+xml" in page
    data = {"csrf": csrf, "sekret": secret, "haslo": PASSWORD}
    assert client.post("/haslo/drugi-skladnik", data={**data, "kod": "000000"}).status_code == 422
    assert client.post("/haslo/drugi-skladnik", data={**data, "kod": code(secret, clock)}).status_code == 303
    assert secret not in client.get("/haslo").text, "shown once"

    client.cookies.clear()
    assert log_in(client).status_code == 422
    assert log_in(client, kod=code(secret, clock)).status_code == 422, "the code that proved it was used"
    clock.forward(30)
    assert log_in(client, kod=code(secret, clock)).status_code == 303


def test_a_code_is_good_once(site: Site, client: httpx.Client, clock: Clock) -> None:
    secret = pyotp.random_base32()
    a_person(site, totp=secret)
    now = code(secret, clock)
    assert log_in(client, kod=now).status_code == 303
    client.cookies.clear()
    assert log_in(client, kod=now).status_code == 422
    assert not inside(client)
    assert log_in(client, kod=code(secret, clock, -1)).status_code == 422, "nor an older one"


@pytest.mark.parametrize(("steps", "status"), [(-2, 422), (-1, 303), (1, 303), (2, 422)])
def test_the_phones_clock_may_be_half_a_minute_wrong(
    site: Site, client: httpx.Client, clock: Clock, steps: int, status: int
) -> None:
    secret = pyotp.random_base32()
    a_person(site, totp=secret)
    assert log_in(client, kod=code(secret, clock, steps)).status_code == status


def test_guessed_codes_are_throttled_like_passwords(site: Site, client: httpx.Client) -> None:
    a_person(site, totp=pyotp.random_base32())
    assert [log_in(client, kod="000000").status_code for _ in range(4)] == [422, 422, 429, 429]


# Invitations


def test_an_invitation_is_good_once(site: Site, client: httpx.Client) -> None:
    with site.database.transaction() as tx:
        user = people.add_user(tx, "nowa", at=site.clock())
        token = people.invite(tx, user.id, at=site.clock())
    page = client.get(f"/zaproszenie/{token}")
    assert "nowa" in page.text
    data = {"csrf": field(page.text), "nowe": "zupełnie nowe hasło", "powtorz": "zupełnie nowe hasło"}
    assert client.post(f"/zaproszenie/{token}", data={**data, "nowe": "x"}).status_code == 422
    assert client.post(f"/zaproszenie/{token}", data=data).status_code == 303
    assert inside(client)
    client.cookies.pop("ksefbuffer")
    again = client.post(f"/zaproszenie/{token}", data={**data, "nowe": "hasło złodzieja", "powtorz": "hasło złodzieja"})
    assert again.status_code == 404
    assert client.get(f"/zaproszenie/{token}").status_code == 404
    assert not inside(client)
    assert log_in(client, "nowa", "zupełnie nowe hasło").status_code == 303


def test_an_invitation_used_twice_at_once_lets_one_in(site: Site, live: str) -> None:
    with site.database.transaction() as tx:
        token = people.invite(tx, people.add_user(tx, "nowa", at=site.clock()).id, at=site.clock())

    def accept(number: int) -> int:
        with httpx.Client(base_url=live, timeout=60) as own:
            csrf = field(own.get(f"/zaproszenie/{token}").text)
            words = f"hasło numer {number} tutaj"
            data = {"csrf": csrf, "nowe": words, "powtorz": words}
            return own.post(f"/zaproszenie/{token}", data=data).status_code

    with ThreadPoolExecutor(4) as pool:
        answers = sorted(pool.map(lambda number: _or_404(accept, number), range(4)))
    assert answers.count(303) == 1
    assert set(answers) <= {303, 404}


def _or_404(accept: Callable[[int], int], number: int) -> int:
    try:
        return accept(number)
    except AssertionError:
        # By then the page itself said that it is void.
        return 404


def test_an_invitation_runs_out_and_a_newer_one_replaces_it(site: Site, client: httpx.Client, clock: Clock) -> None:
    with site.database.transaction() as tx:
        user = people.add_user(tx, "nowa", at=clock())
        old = people.invite(tx, user.id, at=clock())
        new = people.invite(tx, user.id, at=clock())
    assert client.get(f"/zaproszenie/{old}").status_code == 404
    assert client.get(f"/zaproszenie/{new}").status_code == 200
    clock.now += timedelta(hours=24, seconds=1)
    assert client.get(f"/zaproszenie/{new}").status_code == 404


def test_what_happened_is_in_the_log(site: Site, client: httpx.Client) -> None:
    a_person(site)
    log_in(client, password="zle haslo jednak")
    log_in(client, login="tajemnica wpisana przez pomyłkę")
    log_in(client)
    with site.database.reading() as tx:
        lines = people.noted(tx)
    assert [(line.action, line.actor, line.object) for line in lines] == [
        ("login", "user:anna", ""),
        ("login-refused", "?", "?"),
        ("login-refused", "?", "anna"),
    ]
    assert lines[0].ip == "127.0.0.1"
