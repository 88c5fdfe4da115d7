"""How fast the pages are beside a million documents sent and a million received, and what memory their process holds.

Documents are made as in ``benchmarks.dequeue``; received invoices by SQL, in some 300 folders. The page is the real
one, ``ksefbuffer web``, a process of its own; each address is asked for as a browser does, and the figure is the
median of whole requests, the session's check and the template included.

    python -m benchmarks.page [--documents 1000000] [--received 1000000] [--asks 15] [--keep FOLDER]

``--keep`` leaves the database there, and takes one that is there already.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from benchmarks import dequeue, stage
from ksefbuffer.queue import people
from ksefbuffer.queue.db import Database

AIM_S = 0.2
AIM_MB = 150


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--documents", type=int, default=1_000_000)
    options.add_argument("--received", type=int, default=1_000_000)
    options.add_argument("--asks", type=int, default=15)
    options.add_argument("--keep", type=Path)
    asked = options.parse_args()
    with nullcontext(asked.keep) if asked.keep else stage.folder() as place:
        config = prepared(place, asked.documents, asked.received)
        database = Database(f"sqlite:///{config.parent / 'data' / 'ksefbuffer.db'}")
        with page(config) as (base_url, process), httpx.Client(base_url=base_url, timeout=120) as client:
            resting = memory_mb(process)
            reached = True
            for who, grants in (("szef", None), ("sklep", [("incoming", "Sklepy/Sklep 7", True)])):
                client.cookies.set("ksefbuffer", signed_in(database, who, grants))
                reached &= tell(client, who, addresses(database, grants is None), asked.asks)
            used = memory_mb(process)
        database.close()
    print(f"memory of the process: {resting:.0f} MB at rest, {used:.0f} MB after all this (aim {AIM_MB} MB)")
    return 0 if reached and used < AIM_MB else 1


def prepared(place: Path, documents: int, received: int) -> Path:
    """The configuration of a buffer with so much in its database."""
    shop_place = place / "shop"
    config = shop_place / "config.toml"
    if not config.exists():
        place.mkdir(parents=True, exist_ok=True)
        shop = dequeue.Shop(shop_place, documents, None)
        dequeue.add_work(shop)
        began = time.perf_counter()
        vary(shop.database)
        fill_incoming(shop.database, received, shop.now)
        print(f"{received} received invoices written in {time.perf_counter() - began:.0f} s", flush=True)
        shop.database.close()
    settings = [line for line in config.read_text().splitlines() if not line.startswith(("[web]", "port"))]
    config.write_text("\n".join([*settings, "[web]", f"port = {free_port()}", ""]))
    return config


def vary(database: Database) -> None:
    """Other kinds of invoices, other ways in and references, here and there."""
    with database.transaction() as tx:
        run = tx.exec_driver_sql
        run("UPDATE documents SET invoice_type = 'KOR' WHERE id % 97 = 0")
        run("UPDATE documents SET invoice_type = 'ROZ' WHERE id % 100003 = 7")
        run("UPDATE arrivals SET connector = 'http' WHERE id % 200000 = 11")
        run("UPDATE arrivals SET reference = 'ZAM/' || id WHERE id % 50 = 3")


def fill_incoming(database: Database, amount: int, now: datetime) -> None:
    """Received invoices of the last 30 days: in 300 shops' folders, one in 50 in none that a rule named."""
    sql = dequeue.Sql(database, now - timedelta(days=30), timedelta(days=29) / amount)
    values = {
        "id": "i",
        "ksef_number": "printf('5265877635-20261120-%012X-00', i)",
        "sha256": sql.padded(64),
        "size": "300",
        "content": sql.bytes(300),
        "meta": "'{}'",
        "roles": "'buyer'",
        "form": "'FA (3)'",
        "invoice_number": "'F/' || i || '/2026'",
        "number_key": "'f' || i",
        "invoice_type": "'VAT'",
        "issue_date": "date('2026-11-20', '-' || (i % 30) || ' days')",
        "seller_nip": "printf('%010d', 1000000000 + i % 5000)",
        "seller_name": "'Dostawca ' || (i % 5000)",
        "buyer_nip": f"'{stage.NIP}'",
        "currency": "'PLN'",
        "gross": "i % 100000",
        "acquired_at": sql.time(),
        "stored_at_ksef": sql.time(),
        "mode": "'Online'",
        "damage": "'[]'",
        "likeness": "'l' || i",
        "store": "''",
        "folder": "CASE WHEN i % 50 = 0 THEN 'nieprzypisane' ELSE 'Sklepy/Sklep ' || (i % 300) END",
        "tags": "'[]'",
        "reasons": "'[]'",
        "rulebook": "1",
        "verdict": "CASE WHEN i % 40 = 0 THEN 'do wyjaśnienia' ELSE 'zasadna' END",
        "fired": "'[]'",
        "search": "'f ' || i || ' 2026 dostawca ' || (i % 5000)",
        "received_at": sql.time(),
        "updated_at": sql.time(),
    }
    with database.transaction() as tx:
        tx.exec_driver_sql(
            f"""{sql.rows(1, amount)}
            INSERT INTO incoming ({", ".join(values)}) SELECT {", ".join(values.values())} FROM n"""
        )


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def signed_in(database: Database, login: str, grants: list[people.GrantRow] | None) -> str:
    """The cookie of a session; without grants that of an administrator."""
    now = datetime.now(UTC)
    with database.transaction() as tx:
        user = people.find_user(tx, login)
        if user is None:
            user = people.add_user(tx, login, admin=grants is None, password_hash="-", at=now)
            people.set_grants(tx, grants or [], user_id=user.id)
        return people.open_session(tx, user.id, at=now, ip="127.0.0.1")


@contextmanager
def page(config: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """``ksefbuffer web`` until the block is left; its address and its process."""
    command = [sys.executable, "-m", "ksefbuffer", "--config", str(config), "web"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("KSEFBUFFER_")}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environ)
    port = config.read_text().rpartition("port = ")[2].strip()
    base_url = f"http://127.0.0.1:{port}"
    try:
        patience = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{base_url}/logowanie")
                break
            except httpx.TransportError:
                if time.monotonic() > patience or process.poll() is not None:
                    raise SystemExit("the page does not answer") from None
                time.sleep(0.1)
        yield base_url, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def memory_mb(process: subprocess.Popen[bytes]) -> float:
    """Resident memory, in millions of bytes."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise SystemExit("the page has ended")


def addresses(database: Database, everything: bool) -> dict[str, str]:
    """What is asked for, by what it is."""
    with database.reading() as tx:
        run = tx.exec_driver_sql
        middle = run("SELECT document_id FROM documents WHERE id = (SELECT max(id) / 2 FROM documents)").scalar()
        oldest = run("SELECT max(id) / 10 FROM documents").scalar()
        own = run("SELECT ksef_number FROM incoming WHERE folder = 'Sklepy/Sklep 7' ORDER BY id LIMIT 1").scalar()
    found = {
        "Pulpit": "/",
        "Dokumenty: list and tree": "/dokumenty",
        "Dokumenty: a folder": "/dokumenty?katalog=Sklepy%2FSklep%207",
        "Dokumenty: search": "/dokumenty?szukaj=dostawca%20123",
        "Dokumenty: one": f"/dokumenty/{own}",
    }
    if everything:
        day = (datetime.now(UTC) - timedelta(days=10)).date()
        found |= {
            "Pulpit: live part": "/pulpit/stan",
            "Wysyłka: newest": "/wysylka",
            "Wysyłka: far down": f"/wysylka?starsze={oldest}",
            "Wysyłka: wysłano": "/wysylka?stan=sent",
            "Wysyłka: błąd lub niepowodzenie": "/wysylka?stan=problem",
            "Wysyłka: one day": f"/wysylka?od={day}&do={day}",
            "Wysyłka: one day, błąd": f"/wysylka?od={day}&do={day}&stan=error",
            "Wysyłka: KOR": "/wysylka?rodzaj=KOR",
            "Wysyłka: ten of a rare kind": "/wysylka?rodzaj=ROZ",
            "Wysyłka: from folders": "/wysylka?zrodlo=folder",
            "Wysyłka: six over HTTP": "/wysylka?zrodlo=http",
            "Wysyłka: search, a number": "/wysylka?szukaj=FV/123456",
            "Wysyłka: search, a piece": "/wysylka?szukaj=34567",
            "Wysyłka: search, nothing there": "/wysylka?szukaj=qwerty",
            "Wysyłka: search, a file": "/wysylka?szukaj=f777777.xml",
            "Wysyłka: search, a reference": "/wysylka?szukaj=ZAM/77753",
            "Wysyłka: one document": f"/wysylka/{middle}",
        }
    return found


def tell(client: httpx.Client, who: str, asked: dict[str, str], asks: int) -> bool:
    """Prints each page's median; True when all keep to the aim."""
    print(f"as {who}:")
    reached = True
    for name, address in asked.items():
        taken = []
        for number in range(asks + 2):
            began = time.perf_counter()
            answer = client.get(address)
            if number >= 2:
                taken.append(time.perf_counter() - began)
            if answer.status_code != 200:
                break
        if not taken:
            print(f"  {name:36} answered {answer.status_code}", flush=True)
            reached = False
            continue
        median = statistics.median(taken)
        reached &= median < AIM_S
        print(f"  {name:36} {median * 1000:8.1f} ms{'' if median < AIM_S else '   (!)'}", flush=True)
    return reached


if __name__ == "__main__":
    raise SystemExit(main())
