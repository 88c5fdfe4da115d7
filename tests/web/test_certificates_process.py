"""A certificate brought on the page to a real worker in its own process; and what the page's process may not hold."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from ksefbuffer import config as configuration
from ksefbuffer.queue import credentials, orders, people
from ksefbuffer.queue.db import Database
from ksefbuffer.web.site import Site
from tests.process.running import town, until
from tests.process.test_certificates import issued
from tests.process.test_processes import today_s_invoices
from tests.web.test_certificates import PASSWORD, encrypted, pair


def test_the_pages_process_loads_nothing_that_opens_keys_or_speaks_to_ksef() -> None:
    told = subprocess.run(
        [sys.executable, "-c", "import json, sys, ksefbuffer.web.app as _; print(json.dumps(sorted(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    ours = {name for name in json.loads(told.stdout) if name.startswith("ksefbuffer.")}
    allowed = {"ksefbuffer.identity", "ksefbuffer.identity.letterbox", "ksefbuffer.identity.words"}
    assert {name for name in ours if name.startswith("ksefbuffer.identity")} == allowed
    kept_out = ("ksefbuffer.ksef", "ksefbuffer.sender", "ksefbuffer.worker", "ksefbuffer.sandbox")
    assert not [name for name in ours if name.startswith(kept_out)]


@pytest.mark.process
def test_a_certificate_brought_on_the_page_is_what_the_worker_logs_in_with(
    tmp_path: Path, serve: Callable[[Site], Any]
) -> None:
    with town(tmp_path) as place:
        place.start_ksef()
        buffer = place.start_buffer()
        config = configuration.load(tmp_path / "config.toml", {})
        database = Database(config.database.url)
        now = datetime.now(UTC)
        with database.transaction() as tx:
            user = people.add_user(tx, "szef", admin=True, password_hash="-", at=now)
            token = people.open_session(tx, user.id, at=now, ip="127.0.0.1")
            session = people.find_session(tx, token, at=now)
        assert session is not None
        site = Site(config, database, lambda: datetime.now(UTC), {})
        certificate, key = (path.read_bytes() for path in issued(place, "Authentication"))
        with httpx.Client(base_url=serve(site).base_url, timeout=30, cookies={"ksefbuffer": token}) as client:
            for password, state in (("zle", "failed"), (PASSWORD, "done")):
                sent = client.post(
                    "/certyfikaty/przeslij",
                    data={"csrf": session.csrf, "password": password},
                    files=pair(certificate, encrypted(key)),
                )
                number = int(sent.headers["location"].rpartition("=")[2])

                def order(number: int = number) -> orders.Order | None:
                    with database.reading() as tx:
                        found = orders.order(tx, number)
                    return found if found is not None and found.ended else None

                assert until(order, "the worker has answered").state == state

            def active() -> credentials.Kept | None:
                with database.reading() as tx:
                    return credentials.active(tx, "auth")

            until(active, "it has logged in")
            until(lambda: buffer.text().count(" works") == 2, "the work begins anew with it")
            until(lambda: "połączenie aktywne" in client.get("/certyfikaty/lista").text, "the page tells")
        (tmp_path / "data" / "sandbox-auth.crt").unlink()
        (tmp_path / "data" / "sandbox-auth.key").unlink()
        place.drop("000", today_s_invoices(1)["000"])
        until(lambda: place.answer("000").get("status") == "sent", "it is sent by the new certificate")
        assert buffer.terminate() == 0
        line = key.split(b"\n")[1]
        for path in tmp_path.rglob("*"):
            if path.is_file() and path.suffix != ".key" and "ksef.db" not in path.name:
                content = path.read_bytes()
                assert line not in content, path
                assert PASSWORD.encode() not in content, path
        database.close()
