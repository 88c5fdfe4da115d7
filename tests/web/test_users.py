"""People, groups, rights and keys, as an administrator manages them on the page."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from ksefbuffer.errors import NotAllowedNow
from ksefbuffer.queue import people, pulls
from ksefbuffer.queue.people import GrantRow
from ksefbuffer.web.site import Site
from tests.web.test_login import field, inside


@pytest.fixture
def csrf(client: httpx.Client, signed_in: Callable[..., str]) -> str:
    return signed_in(client, "szef", admin=True)


def grants_of(site: Site, login: str) -> list[GrantRow]:
    with site.database.reading() as tx:
        return people.grants_of_user(tx, people.user_of(tx, login).id)


def key_of(site: Site, login: str) -> int:
    with site.database.reading() as tx:
        return people.user_of(tx, login).id


def test_a_person_is_added_invited_and_comes_in(site: Site, client: httpx.Client, csrf: str, live: str) -> None:
    page = client.post("/uzytkownicy", data={"csrf": csrf, "login": " Anna ", "nazwa": "Anna Nowak"})
    assert page.status_code == 200
    link = re.search(r'id="link">([^<]+)<', page.text)
    assert link is not None
    assert link[1].startswith(f"{live}/zaproszenie/")
    with httpx.Client() as anna:
        form = anna.get(link[1])
        data = {"csrf": field(form.text), "nowe": "zupełnie nowe hasło", "powtorz": "zupełnie nowe hasło"}
        assert anna.post(link[1], data=data).status_code == 303
        assert anna.get(f"{live}/haslo").status_code == 200
        assert anna.get(f"{live}/uzytkownicy").status_code == 404
    listed = client.get("/uzytkownicy").text
    assert "Anna Nowak" in listed


def test_a_login_is_taken_once_and_has_a_shape(client: httpx.Client, csrf: str) -> None:
    for login, words in [("szef", "już jest"), ("SZEF", "już jest"), ("a b", "Login może"), ("", "Login może")]:
        answer = client.post("/uzytkownicy", data={"csrf": csrf, "login": login})
        assert answer.status_code == 422
        assert words in answer.text


def test_a_name_with_markup_is_text_everywhere(client: httpx.Client, csrf: str) -> None:
    evil = "<script>alert(1)</script>"
    page = client.post("/uzytkownicy", data={"csrf": csrf, "login": "zly", "nazwa": evil}).text
    page += client.get("/uzytkownicy").text
    client.post("/uzytkownicy/grupy", data={"csrf": csrf, "nazwa": evil})
    page += client.get("/uzytkownicy/grupy").text + client.get("/dziennik").text
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page


def test_rights_are_given_and_taken_and_work_at_once(
    site: Site, client: httpx.Client, csrf: str, signed_in: Callable[..., str], live: str
) -> None:
    with httpx.Client(base_url=live) as anna:
        signed_in(anna, "anna")
        key = key_of(site, "anna")
        data: dict[str, Any] = {
            "csrf": csrf,
            "nazwa": "Anna",
            "wysylka": "see",
            "wszystkie": "",
            "folder": ["Sklep 1", "/Sklep 2/towary/", "", "Sklep 3"],
            "poziom": ["handle", "see", "handle", ""],
        }
        assert client.post(f"/uzytkownicy/{key}", data=data).status_code == 303
        assert grants_of(site, "anna") == [
            ("incoming", "Sklep 1", True),
            ("incoming", "Sklep 2/towary", False),
            ("outgoing", "", False),
        ]
        menu = anna.get("/haslo").text
        assert 'href="/wysylka"' in menu
        assert 'href="/dokumenty"' in menu
        assert 'href="/uzytkownicy"' not in menu
        shown = client.get(f"/uzytkownicy/{key}").text
        assert 'value="Sklep 2/towary"' in shown

        assert client.post(f"/uzytkownicy/{key}", data={"csrf": csrf, "nazwa": "Anna"}).status_code == 303
        assert grants_of(site, "anna") == []
        menu = anna.get("/haslo").text
        assert 'href="/wysylka"' not in menu
        assert 'href="/dokumenty"' not in menu


def test_a_group_gives_its_rights_to_its_people(
    site: Site, client: httpx.Client, csrf: str, signed_in: Callable[..., str], live: str
) -> None:
    with httpx.Client(base_url=live) as anna:
        signed_in(anna, "anna")
    key = key_of(site, "anna")
    made = client.post("/uzytkownicy/grupy", data={"csrf": csrf, "nazwa": "Sklep 1"})
    address = made.headers["location"]
    again = client.post("/uzytkownicy/grupy", data={"csrf": csrf, "nazwa": "SKLEP 1"})
    assert (again.status_code, "już jest" in again.text) == (422, True)
    client.post(address, data={"csrf": csrf, "osoba": [str(key), "999999"], "folder": "Sklep 1", "poziom": "handle"})
    assert grants_of(site, "anna") == [("incoming", "Sklep 1", True)]
    assert "anna" in client.get("/uzytkownicy/grupy").text

    group = re.search(r'name="grupa" value="(\d+)"', client.get(f"/uzytkownicy/{key}").text)
    assert group is not None
    client.post(f"/uzytkownicy/{key}", data={"csrf": csrf, "nazwa": "Anna"})
    assert grants_of(site, "anna") == [], "no longer a member"
    client.post(f"/uzytkownicy/{key}", data={"csrf": csrf, "nazwa": "Anna", "grupa": group[1]})
    assert grants_of(site, "anna") == [("incoming", "Sklep 1", True)]
    client.post(f"{address}/usun", data={"csrf": csrf})
    assert grants_of(site, "anna") == []
    assert client.get(address).status_code == 404


def test_folders_to_choose_are_those_of_the_rulebook(site: Site, client: httpx.Client, csrf: str) -> None:
    with site.database.transaction() as tx:
        book = '[[catalogue]]\npath = "Sklepy/Łódź/towary"\n[[store]]\nnumber = "1"\ncatalogue = "Sklepy/Gdańsk"\n'
        pulls.keep_rulebook(tx, book, at=site.clock(), actor="test", note="")
    page = client.get(f"/uzytkownicy/{key_of(site, 'szef')}").text
    assert re.findall(r'<option value="(Sklepy[^"]*)"', page) == [
        *("Sklepy", "Sklepy/Gdańsk", "Sklepy/Łódź", "Sklepy/Łódź/towary")
    ]


def test_switching_somebody_off_puts_them_out_and_voids_their_invitation(
    site: Site, client: httpx.Client, csrf: str, signed_in: Callable[..., str], live: str
) -> None:
    with httpx.Client(base_url=live) as anna:
        signed_in(anna, "anna")
        key = key_of(site, "anna")
        with site.database.transaction() as tx:
            token = people.invite(tx, key, at=site.clock())
        assert inside(anna)
        client.post(f"/uzytkownicy/{key}/stan", data={"csrf": csrf, "aktywny": "0"})
        assert not inside(anna)
        assert anna.get(f"/zaproszenie/{token}").status_code == 404
        assert client.post(f"/uzytkownicy/{key}/zaproszenie", data={"csrf": csrf}).status_code == 409
        client.post(f"/uzytkownicy/{key}/stan", data={"csrf": csrf, "aktywny": "1"})
        assert not inside(anna), "the old session stays ended"


def test_the_last_administrator_cannot_be_lost(
    site: Site, client: httpx.Client, csrf: str, signed_in: Callable[..., str], live: str
) -> None:
    me = key_of(site, "szef")
    assert client.post(f"/uzytkownicy/{me}/stan", data={"csrf": csrf, "aktywny": "0"}).status_code == 409
    assert client.post(f"/uzytkownicy/{me}", data={"csrf": csrf, "nazwa": "x"}).status_code == 409
    with httpx.Client(base_url=live) as other:
        signed_in(other, "drugi", admin=True)
    assert client.post(f"/uzytkownicy/{me}", data={"csrf": csrf, "nazwa": "x"}).status_code == 303
    assert client.get("/uzytkownicy").status_code == 404


def test_of_two_administrators_who_take_the_right_from_each_other_one_stays(database: Any, clock: Any) -> None:
    with database.transaction() as tx:
        anna, jan = (people.add_user(tx, login, admin=True, at=clock()).id for login in ("anna", "jan"))
    begun, result = threading.Event(), []

    def demote_jan() -> None:
        begun.set()
        try:
            with database.transaction() as tx:
                people.change_user(tx, jan, name="", admin=False)
            result.append("done")
        except NotAllowedNow:
            result.append("refused")

    other = threading.Thread(target=demote_jan)
    with database.transaction() as tx:
        people.change_user(tx, anna, name="", admin=False)
        other.start()
        assert begun.wait(20)
        # Time for the other to come as far as it can: without the lock it would be through its check.
        other.join(0.5)
    other.join(30)
    assert result == ["refused"]
    with database.reading() as tx:
        assert people.any_admin(tx)


@pytest.mark.parametrize("path", ["/uzytkownicy/{}", "/uzytkownicy/grupy/{}", "/certyfikaty/zlecenie/{}"])
@pytest.mark.parametrize("number", [0, 999, 2**31, 2**63, 10**30])
def test_a_number_that_nobody_has_is_not_there(client: httpx.Client, csrf: str, path: str, number: int) -> None:
    assert client.get(path.format(number)).status_code == 404
    if "zlecenie" not in path:
        assert client.post(path.format(number), data={"csrf": csrf, "nazwa": "x"}).status_code == 404


@pytest.mark.parametrize("folder", ["/", " / ", "//"])
def test_a_folder_that_is_none_makes_no_key_for_every_folder(
    site: Site, client: httpx.Client, csrf: str, folder: str
) -> None:
    data = {"csrf": csrf, "nazwa": "kasa", "zakres": "incoming", "folder": [folder, ""]}
    answer = client.post("/uzytkownicy/klucze", data=data)
    assert answer.status_code == 422
    assert "Podaj nazwę katalogu" in answer.text
    with site.database.reading() as tx:
        assert people.all_keys(tx) == []


def test_a_key_is_shown_once_works_and_can_be_revoked(site: Site, client: httpx.Client, csrf: str) -> None:
    data = {"csrf": csrf, "nazwa": "kasa 1", "zakres": ["send", "incoming"], "folder": "Sklep 1"}
    page = client.post("/uzytkownicy/klucze", data=data).text
    found = re.search(r'id="klucz">(ksb_[\w-]{43})<', page)
    assert found is not None
    secret = found[1]
    listed = client.get("/uzytkownicy/klucze").text
    assert secret not in listed
    assert secret[:12] in listed
    with site.database.reading() as tx:
        key = people.find_key(tx, secret)
        assert key is not None
        assert key.scopes == ("incoming", "send")
        assert people.own_grants(tx, key_id=key.id) == [("incoming", "Sklep 1", True)]
    client.post("/uzytkownicy/klucze/uniewaznij", data={"csrf": csrf, "nazwa": "kasa 1"})
    with site.database.reading() as tx:
        assert people.find_key(tx, secret) is None
    assert client.post("/uzytkownicy/klucze", data={"csrf": csrf, "nazwa": "bez zakresu"}).status_code == 422


def test_the_log_tells_who_did_what_and_can_be_filtered(
    client: httpx.Client, csrf: str, signed_in: Callable[..., str]
) -> None:
    client.post("/uzytkownicy", data={"csrf": csrf, "login": "anna"})
    client.post("/uzytkownicy/grupy", data={"csrf": csrf, "nazwa": "Sklep 1"})
    page = client.get("/dziennik").text
    assert page.index("dodanie grupy") < page.index("dodanie użytkownika")
    assert "user:szef" in page
    only = client.get("/dziennik?co=user-add&kto=user:szef&od=2026-01-01&do=2030-01-01").text
    body = only[only.index("<tbody>") :]
    assert "dodanie użytkownika" in body
    assert "dodanie grupy" not in body
    assert "Nie ma takich wpisów" in client.get("/dziennik?do=2020-01-01").text
    assert client.get("/dziennik?od=to-nie-data&przed=1").status_code == 200
    assert client.get("/dziennik?przed=x").status_code == 422


def test_the_log_is_read_a_page_at_a_time(site: Site, client: httpx.Client, csrf: str) -> None:
    with site.database.transaction() as tx:
        for number in range(250):
            people.note(tx, at=site.clock(), actor="test", action="count", on=f"numer-{number}-")
    seen: list[str] = []
    address = "/dziennik?kto=test"
    for _ in range(3):
        page = client.get(address).text
        seen += re.findall(r"numer-(\d+)-", page)
        following = re.search(r'href="([^"]+)" rel="next"', page)
        address = following[1].replace("&amp;", "&") if following else ""
    assert (address, seen) == ("", [str(number) for number in reversed(range(250))])


def test_a_spreadsheet_runs_nothing_from_the_log(site: Site, client: httpx.Client, csrf: str) -> None:
    evil = ["=1+1", "+1", "-1", "@sum", "\tx", "\rx"]
    with site.database.transaction() as tx:
        for text in evil:
            people.note(tx, at=site.clock(), actor="test", action="x", on=text, text=text)
    answer = client.get("/dziennik/csv?kto=test")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "attachment" in answer.headers["content-disposition"]
    text = answer.content.decode("utf-8-sig")
    for formula in evil:
        assert f"'{formula}" in text
        assert f";{formula}" not in text
        assert f';"{formula}' not in text


def test_the_log_takes_new_lines_and_nothing_else(database: Any, clock: Any) -> None:
    with database.transaction() as tx:
        people.note(tx, at=clock(), actor="test", action="x")
    for statement in ("UPDATE audit SET actor = 'y'", "DELETE FROM audit"):
        with pytest.raises(Exception, match="append-only"), database.transaction() as tx:
            tx.exec_driver_sql(statement)
    with database.reading() as tx:
        assert [line.actor for line in people.noted(tx)] == ["test"]


def test_people_groups_and_keys_on_both_databases(database: Any, clock: Any) -> None:
    with database.transaction() as tx:
        anna = people.add_user(tx, "anna", admin=True, at=clock())
        shop = people.add_group(tx, "Sklep", at=clock())
        people.set_members(tx, shop, [anna.id])
        people.set_grants(tx, [("incoming", "a", False), ("incoming", "a", True)], group_id=shop)
        key, secret = people.add_key(tx, "kasa", ["send"], at=clock())
        token = people.open_session(tx, anna.id, at=clock(), ip="::1")
        for _ in range(3):
            until = people.count_failure(tx, ip="::1", login="anna", at=clock())
    assert until is not None
    with database.reading() as tx:
        assert people.groups_of(tx, anna.id) == ["Sklep"]
        assert people.grants_of_user(tx, anna.id) == [("incoming", "a", True)]
        assert people.find_key(tx, secret) == key
        assert people.find_session(tx, token, at=clock()) is not None
        assert people.waits_until(tx, ip="::1", login="ANNA", at=clock()) == until
        assert people.known_folders(tx) == []
        assert people.actors(tx) == []
