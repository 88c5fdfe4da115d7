"""Who may call what: every route of the API with no key, a wrong one, a revoked one, and each scope alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from ksefbuffer.queue import documents, people
from ksefbuffer.queue.states import State
from ksefbuffer.web.access import SCOPES
from ksefbuffer.web.api import incoming, invoices, state
from ksefbuffer.web.api.limits import CALLS_A_MINUTE
from ksefbuffer.web.site import Site
from tests.conftest import Clock
from tests.queue.builders import document_in
from tests.queue.test_incoming import put
from tests.samples import invoice
from tests.web.calling import INCOMING, INVOICES, XML, Till, bearer, is_problem

D, N = f"{INVOICES}/{{document_id}}", f"{INCOMING}/{{ksef_number}}"
# Each route and the one scope that opens it; None: anybody may.
NEEDS: dict[tuple[str, str], str | None] = {
    ("POST", INVOICES): "send",
    ("GET", INVOICES): "read",
    **{("GET", D + path): "read" for path in ("", "/xml", "/upo", "/qr/1", "/qr/2", "/pdf", "/events")},
    ("POST", f"{D}/retry"): "send",
    ("POST", f"{D}/cancel"): "send",
    ("GET", INCOMING): "incoming",
    **{("GET", N + path): "incoming" for path in ("", "/xml", "/pdf")},
    ("POST", f"{INCOMING}/pull"): "incoming",
    ("POST", f"{N}/decision"): "decide",
    ("GET", "/api/v1/status"): "status",
    **{("GET", p + path): None for p in ("", "/api/v1") for path in ("/health/live", "/health/ready", "/metrics")},
}
NEEDS |= {("HEAD", path): scope for (method, path), scope in NEEDS.items() if method == "GET"}
GUARDED = sorted(one for one, scope in NEEDS.items() if scope is not None)


def routes() -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for module in (invoices, incoming, state):
        for route in module.router.routes:
            found |= {(method, str(route.path)) for method in route.methods}  # type: ignore[attr-defined]
    return found


def test_every_route_is_in_the_matrix() -> None:
    assert routes() == set(NEEDS)


@pytest.fixture
def there(site: Site) -> dict[str, str]:
    """A document and a received invoice, to fill paths with."""
    with site.database.transaction() as tx:
        document = document_in(tx, State.FAILED, content=invoice())
        one = put(tx, folder="sklepy/7", content=invoice("FS/1"))
    return {"document_id": document.document_id, "ksef_number": one.ksef_number}


def call(client: httpx.Client, method: str, path: str, there: dict[str, str], secret: str | None) -> httpx.Response:
    headers = bearer(secret) if secret is not None else {}
    body: dict[str, Any] = {}
    if path == INVOICES and method == "POST":
        headers, body = {**headers, **XML}, {"content": invoice("A/1")}
    if path.endswith("/decision"):
        body = {"json": {"decision": "accepted"}}
    return client.request(method, path.format(**there), headers=headers, **body)


def test_without_a_good_key_nothing_is_told(
    client: httpx.Client, site: Site, there: dict[str, str], api_key: Any
) -> None:
    revoked = api_key(*SCOPES, name="dawny")
    with site.database.transaction() as tx:
        people.revoke_key(tx, "dawny")
    for method, path in GUARDED:
        for secret in (None, "-", "ksb_nieznany", revoked, revoked[:-1]):
            answer = call(client, method, path, there, secret)
            assert answer.status_code == 401, (method, path, secret)
            assert answer.headers["www-authenticate"] == "Bearer"
            if method != "HEAD":
                is_problem(answer, 401, "key")
    with site.database.reading() as tx:
        assert len(documents.listing(tx)) == 1


@pytest.mark.parametrize("scope", SCOPES)
def test_a_scope_opens_its_routes_and_no_other(
    client: httpx.Client, there: dict[str, str], api_key: Callable[..., str], scope: str
) -> None:
    secret = api_key(scope)
    for method, path in GUARDED:
        answer = call(client, method, path, there, secret)
        if NEEDS[method, path] == scope:
            # 404 and 409 tell that there is no UPO yet, or that a document cannot be cancelled twice.
            assert answer.status_code not in (401, 403), (method, path)
            assert answer.status_code < 500, (method, path)
        else:
            assert answer.status_code == 403, (method, path)
            if method != "HEAD":
                is_problem(answer, 403, "scope")


def test_health_and_metrics_ask_for_no_key(client: httpx.Client) -> None:
    for (method, path), scope in NEEDS.items():
        if scope is None:
            assert client.request(method, path).status_code in (200, 503)


def test_a_browser_session_is_no_key(client: httpx.Client, signed_in: Callable[..., str]) -> None:
    signed_in(client, "szef", admin=True)
    is_problem(client.get(INVOICES), 401, "key")


# Folders


@pytest.fixture
def two_shops(site: Site) -> dict[str, str]:
    """KSeF numbers by folder."""
    with site.database.transaction() as tx:
        return {
            folder: put(tx, folder=folder, content=invoice(f"FS/{number}")).ksef_number
            for number, folder in enumerate(("sklepy/1", "sklepy/1/2026-11", "sklepy/10", "sklepy", "nieprzypisane"))
        }


def numbers(till: Till, **asked: Any) -> set[str]:
    return {one["folder"] for one in till.get(INCOMING, **asked).json()["items"]}


def test_a_key_with_folders_sees_them_and_what_is_below(
    client: httpx.Client, api_key: Callable[..., str], two_shops: dict[str, str]
) -> None:
    till = Till(client, api_key("incoming", "decide", grants=[("incoming", "sklepy/1", True)]))
    assert numbers(till) == {"sklepy/1", "sklepy/1/2026-11"}
    for folder, ksef_number in two_shops.items():
        theirs = folder.startswith("sklepy/1/") or folder == "sklepy/1"
        for path in ("", "/xml", "/pdf"):
            answer = till.get(f"{INCOMING}/{ksef_number}{path}")
            assert answer.status_code == (200 if theirs else 404), (folder, path)
        decided = till.post(f"{INCOMING}/{ksef_number}/decision", json={"decision": "accepted"})
        assert decided.status_code == (200 if theirs else 404), folder


@pytest.mark.parametrize(
    ("theirs", "namesake"), [("sklepy/a", "sklepy/A"), ("s%/a", "sab/a"), ("s_/a", "sx/a"), ("żółć", "ŻÓŁĆ")]
)
def test_a_folders_right_does_not_reach_its_namesake(
    site: Site, client: httpx.Client, api_key: Callable[..., str], theirs: str, namesake: str
) -> None:
    till = Till(client, api_key("incoming", "decide", grants=[("incoming", theirs, True)]))
    with site.database.transaction() as tx:
        own = put(tx, folder=f"{theirs}/2026-11", content=invoice("FS/1"))
        others = [put(tx, folder=folder, content=invoice("FS/2")) for folder in (namesake, f"{namesake}/2026-11")]
    assert numbers(till) == numbers(till, since="2020-01-01") == numbers(till, folder=theirs) == {own.folder}
    assert numbers(till, folder=namesake) == set()
    for other in others:
        for path in ("", "/xml", "/pdf"):
            assert till.get(f"{INCOMING}/{other.ksef_number}{path}").status_code == 404
        decided = till.post(f"{INCOMING}/{other.ksef_number}/decision", json={"decision": "accepted"})
        assert decided.status_code == 404


def test_asking_for_a_folder_widens_nothing(
    client: httpx.Client, api_key: Callable[..., str], two_shops: dict[str, str]
) -> None:
    till = Till(client, api_key("incoming", grants=[("incoming", "sklepy/1", False)]))
    assert numbers(till, folder="sklepy") == {"sklepy/1", "sklepy/1/2026-11"}
    assert numbers(till, folder="sklepy/1/2026-11/") == {"sklepy/1/2026-11"}
    for other in ("sklepy/10", "nieprzypisane", "sklepy/1/..", "%"):
        assert numbers(till, folder=other) == set()


def test_what_is_not_theirs_looks_like_what_is_not_there(
    client: httpx.Client, api_key: Callable[..., str], two_shops: dict[str, str]
) -> None:
    till = Till(client, api_key("incoming", grants=[("incoming", "sklepy/10", False)]))
    theirs, nobodys = (
        till.get(f"{INCOMING}/{two_shops['sklepy/1']}"),
        till.get(f"{INCOMING}/1111111111-20261120-000000000000-00"),
    )
    assert theirs.json() == nobodys.json()
    is_problem(theirs, 404, "not-found")


def test_a_key_without_folders_sees_all(
    client: httpx.Client, api_key: Callable[..., str], two_shops: dict[str, str]
) -> None:
    till = Till(client, api_key("incoming"))
    assert numbers(till) == set(two_shops)
    assert numbers(till, folder="sklepy/1") == {"sklepy/1", "sklepy/1/2026-11"}


# How often


def test_a_key_has_its_share_of_calls_and_others_theirs(
    client: httpx.Client, api_key: Callable[..., str], clock: Clock
) -> None:
    busy, other = Till(client, api_key("read")), Till(client, api_key("read"))
    for _ in range(CALLS_A_MINUTE):
        assert busy.client.head(INVOICES, headers=busy.headers).status_code == 200
    refused = busy.get(INVOICES)
    is_problem(refused, 429, "rate")
    assert int(refused.headers["retry-after"]) == 1
    assert other.get(INVOICES).status_code == 200
    clock.now += timedelta(seconds=1)
    assert [busy.get(INVOICES).status_code for _ in range(11)] == [200] * 10 + [429]
