"""Who may see and handle what: the rules by table, and that every page and call asks them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import httpx
import pytest
from fastapi.routing import APIRoute
from hypothesis import given
from hypothesis import strategies as st

from ksefbuffer.queue import people
from ksefbuffer.web.access import Caller, Grant, within
from ksefbuffer.web.app import PAGES
from ksefbuffer.web.site import Site


def somebody(*grants: Grant, admin: bool = False) -> Caller:
    return Caller("user", 1, "anna", admin, grants, frozenset())


def a_key(*scopes: str, grants: tuple[Grant, ...] = ()) -> Caller:
    return Caller("key", 1, "kasa-1", False, grants, frozenset(scopes))


def incoming(folder: str, handle: bool = False) -> Grant:
    return Grant("incoming", folder, handle)


SELLS = Grant("outgoing", "", False)
SENDS = Grant("outgoing", "", True)


@pytest.mark.parametrize(
    ("who", "sees", "handles"),
    [
        (somebody(), False, False),
        (somebody(admin=True), True, True),
        (somebody(SELLS), True, False),
        (somebody(SENDS), True, True),
        (somebody(incoming("", True)), False, False),
        (a_key("incoming", "decide", "status"), False, False),
        (a_key("read"), True, False),
        (a_key("send"), True, True),
    ],
)
def test_outgoing_documents(who: Caller, sees: bool, handles: bool) -> None:
    assert (who.sees_outgoing, who.handles_outgoing) == (sees, handles)


@pytest.mark.parametrize(
    ("who", "folder", "sees", "handles"),
    [
        (somebody(), "Sklep 1", False, False),
        (somebody(admin=True), "Sklep 1", True, True),
        (somebody(SENDS), "Sklep 1", False, False),
        (somebody(incoming("Sklep 1")), "Sklep 1", True, False),
        (somebody(incoming("Sklep 1")), "Sklep 1/towary", True, False),
        (somebody(incoming("Sklep 1")), "Sklep 10", False, False),
        (somebody(incoming("Sklep 1")), "Sklep", False, False),
        (somebody(incoming("Sklep 1")), "sklep 1", False, False),
        (somebody(incoming("Sklep 1"), incoming("Sklep 1/towary", True)), "Sklep 1/towary/x", True, True),
        (somebody(incoming("Sklep 1"), incoming("Sklep 1/towary", True)), "Sklep 1", True, False),
        (somebody(incoming("", True)), "nieprzypisane", True, True),
        (somebody(incoming("")), "nieprzypisane", True, False),
        (a_key("send", "read", "status"), "Sklep 1", False, False),
        (a_key("incoming"), "Sklep 1", True, False),
        (a_key("decide"), "Sklep 1", True, True),
        (a_key("incoming", "decide", grants=(incoming("Sklep 1"),)), "Sklep 1/a", True, True),
        (a_key("incoming", "decide", grants=(incoming("Sklep 1"),)), "Sklep 2", False, False),
    ],
)
def test_received_invoices(who: Caller, folder: str, sees: bool, handles: bool) -> None:
    assert (who.sees_folder(folder), who.handles_folder(folder)) == (sees, handles)


@pytest.mark.parametrize(
    ("who", "folders"),
    [
        (somebody(), ()),
        (somebody(SENDS), ()),
        (somebody(admin=True), None),
        (somebody(incoming("")), None),
        (somebody(incoming("a/b"), incoming("a"), incoming("ab"), incoming("a/b/c")), ("a", "ab")),
        (a_key("incoming"), None),
        (a_key("send"), ()),
        (a_key("send", grants=(incoming("a"),)), ()),
        (a_key("incoming", grants=(incoming("a"),)), ("a",)),
    ],
)
def test_folders_to_narrow_a_query_by(who: Caller, folders: tuple[str, ...] | None) -> None:
    assert who.folders == folders


PATHS = st.lists(st.sampled_from(["a", "b", "ab", "a b"]), max_size=4).map("/".join)
GRANTS = st.builds(incoming, PATHS, st.booleans())


@given(st.lists(GRANTS, max_size=5), PATHS.filter(bool))
def test_the_folders_tell_the_same_as_the_grants(grants: list[Grant], folder: str) -> None:
    who = somebody(*grants)
    covered = any(grant.covers(folder) for grant in grants)
    assert who.sees_folder(folder) == covered
    assert who.handles_folder(folder) <= who.sees_folder(folder)
    if who.folders is not None:
        assert any(within(folder, prefix) for prefix in who.folders) == covered


def test_a_groups_grants_are_its_members(site: Site) -> None:
    with site.database.transaction() as tx:
        anna = people.add_user(tx, "anna", at=site.clock())
        jan = people.add_user(tx, "jan", at=site.clock())
        shop = people.add_group(tx, "Sklep 1", at=site.clock())
        people.set_members(tx, shop, [anna.id])
        people.set_grants(tx, [("incoming", "Sklep 1", True), ("outgoing", "", False)], group_id=shop)
        people.set_grants(tx, [("incoming", "Sklep 1", False), ("incoming", "Sklep 2", False)], user_id=anna.id)
        assert people.grants_of_user(tx, anna.id) == [
            ("incoming", "Sklep 1", True),
            ("incoming", "Sklep 2", False),
            ("outgoing", "", False),
        ]
        assert people.grants_of_user(tx, jan.id) == []
        people.remove_group(tx, shop)
        assert people.grants_of_user(tx, anna.id) == [("incoming", "Sklep 1", False), ("incoming", "Sklep 2", False)]


# Every route of the page × who asks


OPEN = {"/logowanie", "/zaproszenie/{token}", "/static/{name}"}
ANYBODY_INSIDE = {"/", "/wyloguj", "/haslo", "/haslo/drugi-skladnik", "/haslo/wyloguj-wszedzie"}
FOR_ADMINS = ("/uzytkownicy", "/dziennik", "/reguly", "/certyfikaty", "/konfiguracja", "/start")


def routes() -> Iterator[tuple[str, str, str]]:
    """(path with parameters filled in, method, path as written) of everything that is not the API's."""
    for route in (route for page in PAGES for route in page.router.routes):
        assert isinstance(route, APIRoute)
        path = re.sub(r"\{[^}]+\}", "1", route.path)
        for method in sorted(route.methods - {"HEAD"}):
            yield path, method, route.path


def test_every_page_asks_who_is_there(site: Site, client: httpx.Client) -> None:
    seen = 0
    for path, method, written in routes():
        if written in OPEN:
            continue
        seen += 1
        answer = client.request(method, path)
        # The request is no form of ours, but who asks comes first.
        assert answer.status_code == 303, (method, path, answer.status_code)
        assert answer.headers["location"].startswith("/logowanie"), (method, path)
    assert seen >= 10


def test_pages_of_administrators_are_not_there_for_others(
    site: Site, client: httpx.Client, signed_in: Callable[..., str]
) -> None:
    csrf = signed_in(client, "anna", grants=[("incoming", "", True), ("outgoing", "", True)])
    seen = 0
    for path, method, written in routes():
        if not written.startswith(FOR_ADMINS):
            continue
        seen += 1
        answer = client.request(method, path, data={"csrf": csrf} if method == "POST" else None)
        assert answer.status_code == 404, (method, path, answer.status_code)
    assert seen >= 10


def test_who_has_no_rights_sees_nothing_of_documents(
    site: Site, client: httpx.Client, signed_in: Callable[..., str]
) -> None:
    csrf = signed_in(client, "anna")
    for path, method, written in routes():
        if not written.startswith(("/wysylka", "/dokumenty")):
            continue
        answer = client.request(method, path, data={"csrf": csrf} if method == "POST" else None)
        if answer.status_code == 303:
            # A form that lacks something leads back to its page, which is not theirs either.
            answer = client.get(answer.headers["location"])
        assert answer.status_code == 404, (method, path, answer.status_code)
