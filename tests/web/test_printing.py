"""Printed pages of the web process: set by others, so that it stays small; a few at a time, and no endless queue."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from ksefbuffer.offline import printed
from ksefbuffer.offline.printing import press
from ksefbuffer.queue import people
from ksefbuffer.queue.states import State
from ksefbuffer.web import printing
from ksefbuffer.web.site import Site
from tests.process.running import Process, free_port, until
from tests.queue.builders import document_in
from tests.queue.test_incoming import put
from tests.samples import invoice
from tests.web.calling import INCOMING, INVOICES, bearer, is_problem

MOST_RESIDENT_KB = 150_000
# A page set here would leave some thirty megabytes behind: the typesetter, its typefaces, what it laid out.
MOST_GROWN_KB = 15_000


def resident_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


@pytest.fixture
def there(site: Site) -> dict[str, str]:
    """The addresses of every PDF: of the API, and of the page."""
    with site.database.transaction() as tx:
        document = document_in(tx, State.SENT, content=invoice(lines=5))
        one = put(tx, content=invoice("FS/1", lines=5))
    return {
        "api-sent": f"{INVOICES}/{document.document_id}/pdf",
        "api-received": f"{INCOMING}/{one.ksef_number}/pdf",
        "page-sent": f"/wysylka/{document.document_id}/faktura.pdf",
        "page-received": f"/dokumenty/{one.ksef_number}/pdf",
    }


@pytest.mark.process
def test_the_pages_process_does_not_grow_by_what_it_prints(
    tmp_path: Path, site: Site, api_key: Callable[..., str], there: dict[str, str]
) -> None:
    key, now, port = api_key("read", "incoming"), datetime.now(UTC), free_port()
    with site.database.transaction() as tx:
        user = people.add_user(tx, "szef", admin=True, password_hash="-", at=now)
        cookie = people.open_session(tx, user.id, at=now, ip="127.0.0.1")
    page = Process("web", cwd=tmp_path, log=tmp_path / "web.log", env={"KSEFBUFFER_WEB__PORT": str(port)})
    try:
        until(lambda: not page.alive or "page at" in page.text(), "the page is there")
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers=bearer(key), cookies={"ksefbuffer": cookie}, timeout=60
        ) as client:
            # What any of its pages needs is loaded by then.
            for path in ("/wysylka", "/dokumenty", "/api/v1/health/live"):
                assert client.get(path).status_code == 200
            for path in there.values():
                assert client.get(path.removesuffix("/pdf").removesuffix("/faktura.pdf")).status_code == 200
            before = resident_kb(page.popen.pid)
            for path in there.values():
                for _ in range(2):
                    answer = client.get(path)
                    assert answer.status_code == 200, answer.text
                    assert answer.content.startswith(b"%PDF-"), path
        after = resident_kb(page.popen.pid)
        assert after - before < MOST_GROWN_KB, (before, after)
        assert after < MOST_RESIDENT_KB
        assert "typst" not in Path(f"/proc/{page.popen.pid}/maps").read_text()
    finally:
        page.end()


def test_a_page_set_apart_is_the_same_page(monkeypatch: pytest.MonkeyPatch) -> None:
    content = invoice(lines=3)
    how: dict[str, Any] = {"ksef_number": None, "accepted_at": None, "codes": [], "mode": None}
    here = printed.render(content, **how)
    monkeypatch.setattr(press, "_here", lambda spoken: pytest.fail("set here"))
    assert printed.render(content, **how, apart=True) == here
    assert printing.pdf(content, **how) == here


@pytest.mark.parametrize("which", ["api-sent", "api-received", "page-sent", "page-received"])
def test_of_many_who_want_pages_at_once_some_wait_and_others_come_again(
    client: httpx.Client,
    api_key: Callable[..., str],
    signed_in: Callable[..., str],
    there: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    which: str,
) -> None:
    at_work, most, free, counting = 0, 0, threading.Event(), threading.Lock()

    def slow(content: bytes, *, apart: bool, **_: Any) -> bytes:
        nonlocal at_work, most
        assert apart
        with counting:
            at_work += 1
            most = max(most, at_work)
        assert free.wait(60)
        with counting:
            at_work -= 1
        return b"%PDF-"

    monkeypatch.setattr(printed, "render", slow)
    signed_in(client, "szef", admin=True)
    client.headers.update(bearer(api_key("read", "incoming")))

    def ask() -> httpx.Response:
        return client.get(there[which])

    with ThreadPoolExecutor(12) as many:
        wanted = [many.submit(ask) for _ in range(printing.AT_ONCE + printing.MOST_WAITING)]
        until(lambda: printing._inside == len(wanted), "all of them wait", patience_s=30)
        refused = ask()
        free.set()
        assert [one.result().status_code for one in wanted] == [200] * len(wanted)
    assert most == printing.AT_ONCE
    assert int(refused.headers["Retry-After"]) > 0
    if which.startswith("api"):
        is_problem(refused, 503, "unavailable")
    else:
        assert refused.status_code == 503
        assert "Zbyt wiele wydruków" in refused.text
    assert ask().status_code == 200
    assert printing._inside == 0


def test_a_page_that_cannot_be_set_leaves_its_place() -> None:
    for _ in range(printing.AT_ONCE + printing.MOST_WAITING + 1):
        with pytest.raises(printing.NotPrintable):
            printing.pdf(b"<x", ksef_number=None, accepted_at=None, codes=[], mode=None)
