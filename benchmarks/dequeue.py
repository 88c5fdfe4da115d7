"""What the duties' questions cost beside a million finished documents, against a thousand; and what people wait for.

Two databases differ in nothing but the documents that are finished: their rows are written by SQL, with small contents.
Each question is asked with nothing to do and with the same little work waiting; the figures are medians. ``overview``
counts all there is, so its cost may grow; the commands are whole processes.

    python -m benchmarks.dequeue [--finished 1000000] [--asks 200] [--database-url URL]

A PostgreSQL URL names an empty database, which is filled with the large amount only and prints no ratio.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import stage
from ksefbuffer.queue import deliveries, documents, overview, pauses, schema, sessions
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.pauses import Lane
from ksefbuffer.queue.states import State

AIM = 1.2
AIM_COMMAND_S = 1.0
IN_SESSION = 20
WAITING = {"queued": 300, "processing": 100, "failed": 50}
COMMANDS = (
    ("status", "--json"),
    ("queue", "list"),
    ("queue", "list", "--status", "sent", "--status", "error"),
    ("queue", "show"),
)
FORM = "FA (3)"


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--finished", type=int, default=1_000_000)
    options.add_argument("--against", type=int, default=1_000)
    options.add_argument("--asks", type=int, default=200)
    options.add_argument("--database-url", help="an empty PostgreSQL database in place of SQLite")
    asked = options.parse_args()
    with stage.folder() as place:
        amounts = [asked.finished] if asked.database_url else [asked.against, asked.finished]
        shops = [Shop(place / str(amount), amount, asked.database_url) for amount in amounts]
        reached = True
        for heading, prepare in (("nothing to do", None), ("work waiting", add_work)):
            if prepare is not None:
                for shop in shops:
                    prepare(shop)
            print(f"{heading}:")
            reached &= tell(shops, asked.asks)
        reached &= tell_commands(shops[-1])
        for shop in shops:
            shop.database.close()
    return 0 if reached else 1


class Shop:
    """A buffer's folder and its database with so many finished documents."""

    def __init__(self, place: Path, amount: int, url: str | None) -> None:
        place.mkdir()
        self.amount = amount
        self.config = place / "config.toml"
        settings = f'nip = "{stage.NIP}"\nenvironment = "sandbox"\n'
        if url is not None:
            settings += f'[database]\nurl = "{url}"\n'
        self.config.write_text(settings)
        self.now = datetime.now(UTC)
        # The beginning of a finished document's.
        self.one_id = f"{amount // 2 + 1:08d}-0000"
        # The place the settings give it.
        self.database = Database(url or f"sqlite:///{place / 'data' / 'ksefbuffer.db'}")
        schema.upgrade(self.database)
        with self.database.transaction() as tx:
            schema.bind(tx, stage.NIP, "sandbox", at=self.now)
        began = time.perf_counter()
        fill(self)
        print(f"{amount} finished documents written in {time.perf_counter() - began:.0f} s", flush=True)


def fill(shop: Shop) -> None:
    """Documents with number and UPO, told of; one in fifty was refused."""
    before = shop.now - timedelta(days=30)
    step = timedelta(days=29) / shop.amount
    sql = Sql(shop.database, before, step)
    with shop.database.transaction() as tx:
        run = sql.runner(tx)
        run(
            f"""{sql.rows(1, shop.amount // IN_SESSION + 1)}
            INSERT INTO sessions (id, reference, form, state, opened_at, valid_until, last_used_at, closed_at, sends,
                                  status_code)
            SELECT i, {sql.padded(32)}, '{FORM}', 'done', {sql.time()}, {sql.time()}, {sql.time()}, {sql.time()},
                   {IN_SESSION}, 200 FROM n"""
        )
        sql.documents(run, 1, shop.amount, {"sent": "i % 50 <> 0", "error": "i % 50 = 0"})
        run(
            """INSERT INTO arrivals (id, document, connector, place, answer_name, arrived_at)
            SELECT id, id, 'folder', 'f' || id || '.xml', 'f' || id, received_at FROM documents"""
        )
        run(
            """INSERT INTO deliveries (id, arrival, wanted, told, due_at)
            SELECT id, id, 4, 4, arrived_at FROM arrivals"""
        )
        for event, source, target in (
            ("accepted", "NULL", "queued"),
            ("bind", "'queued'", "processing"),
            ("number", "'processing'", "sent"),
        ):
            run(
                f"""INSERT INTO events (document, at, event, from_state, to_state, actor, note)
                SELECT id, received_at, '{event}', {source}, '{target}', 'benchmark', '' FROM documents"""
            )
        sql.catch_up(run)


def add_work(shop: Shop) -> None:
    """The same little work for everybody: some of each state that a duty asks for."""
    sql = Sql(shop.database, shop.now - timedelta(minutes=10), timedelta(milliseconds=1))
    first = shop.amount + 1
    with shop.database.transaction() as tx:
        run = sql.runner(tx)
        opened = sessions.begin(tx, FORM, at=shop.now)
        sessions.opened(tx, opened, "open-session", shop.now + timedelta(hours=12), at=shop.now)
        closing = sessions.begin(tx, FORM, at=shop.now, kind="batch")
        sessions.opened(tx, closing, "closing-session", shop.now + timedelta(hours=12), at=shop.now)
        sessions.stop_using(tx, closing, at=shop.now, note="benchmark")
        for state, count in WAITING.items():
            session = opened if state == "processing" else None
            sql.documents(run, first, first + count - 1, {state: "1 = 1"}, session=session)
            first += count
        run(
            f"""INSERT INTO arrivals (id, document, connector, place, answer_name, arrived_at)
            SELECT id, id, 'folder', 'f' || id || '.xml', 'f' || id, received_at FROM documents
            WHERE id > {shop.amount}"""
        )
        run(
            f"""INSERT INTO deliveries (id, arrival, wanted, told, due_at)
            SELECT id, id, 1, 0, arrived_at FROM arrivals WHERE id > {shop.amount}"""
        )
        # Receipts still to come, for some of the finished.
        run(
            f"""UPDATE documents SET upo_due_at = {sql.moment(shop.now)}
            WHERE id % {shop.amount // 100} = 1 AND upo IS NOT NULL"""
        )
        sql.catch_up(run)


class Sql:
    """The few words in which SQLite and PostgreSQL differ. ``i`` counts the rows; each came ``step`` after the one
    before."""

    def __init__(self, database: Database, first: datetime, step: timedelta) -> None:
        self.lite = database.is_sqlite
        self._first = first
        self._step = step

    def runner(self, tx: Any) -> Callable[[str], Any]:
        """Runs a statement; PostgreSQL's driver takes a lone per cent sign for a parameter."""
        return lambda query: tx.exec_driver_sql(query if self.lite else query.replace("%", "%%"))

    @staticmethod
    def rows(first: int, last: int) -> str:
        return f"WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last})"

    def padded(self, width: int) -> str:
        return f"printf('%0{width}d', i)" if self.lite else f"lpad(i::text, {width}, '0')"

    def moment(self, moment: datetime) -> str:
        text = f"{moment.replace(tzinfo=None):%Y-%m-%d %H:%M:%S.%f}"
        return f"'{text}'" if self.lite else f"timestamptz '{text}+00'"

    def time(self) -> str:
        # Counted anew every million, so that work added later came no later than now.
        seconds = self._step.total_seconds()
        if not self.lite:
            return f"{self.moment(self._first)} + i % 1000000 * interval '{seconds:.6f} seconds'"
        start = self._first.timestamp()
        return f"strftime('%Y-%m-%d %H:%M:%f', {start} + i % 1000000 * {seconds}, 'unixepoch') || '000'"

    def bytes(self, count: int) -> str:
        return f"zeroblob({count})" if self.lite else f"decode(repeat('00', {count}), 'hex')"

    def documents(
        self, run: Callable[[str], Any], first: int, last: int, states: dict[str, str], *, session: int | None = None
    ) -> None:
        """Rows ``first`` to ``last``; ``states``: which rows get which."""
        for state, which in states.items():
            finished = state in ("sent", "error")
            values = {
                "id": "i",
                "document_id": f"{self.padded(8)} || '-0000-7000-8000-000000000000'",
                "sha256": self.padded(64),
                "size": "300",
                "content": self.bytes(300),
                "form": f"'{FORM}'",
                "invoice_number": "'FV/' || i",
                "invoice_type": "'VAT'",
                "issue_date": "'2026-11-20'" if self.lite else "date '2026-11-20'",
                "seller_nip": f"'{stage.NIP}'",
                "business_key": "'key' || i",
                "corrects": "'[]'",
                "state": f"'{state}'",
                "urgent": "i % 40 = 0",
                "offline": "1 = 0",
                "errors": "'[]'",
                "warnings": "'[]'",
                "received_at": self.time(),
                "updated_at": self.time(),
            }
            if finished:
                values["session_id"] = f"i / {IN_SESSION} + 1"
            if state == "sent":
                values |= {"ksef_number": self.padded(35), "accepted_at": self.time(), "upo": self.bytes(300)}
            if state == "processing":
                values |= {"session_id": str(session), "invoice_reference": self.padded(32)}
                values |= {"handed_at": self.time(), "next_poll_at": self.time()}
            if state == "failed":
                values["next_attempt_at"] = self.time()
            json = {} if self.lite else dict.fromkeys(("corrects", "errors", "warnings"), "::json")
            chosen = ", ".join(value + json.get(name, "") for name, value in values.items())
            run(
                f"""{self.rows(first, last)}
                INSERT INTO documents ({", ".join(values)}) SELECT {chosen} FROM n WHERE {which}"""
            )

    def catch_up(self, run: Callable[[str], Any]) -> None:
        """PostgreSQL's sequences do not see keys that were given, and its figures come by themselves only later."""
        if not self.lite:
            run("ANALYZE")
            for table in ("documents", "arrivals", "deliveries", "sessions"):
                run(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))")


def questions(shop: Shop) -> dict[str, Callable[[Any], object]]:
    """What each duty asks in a round, and what the command line asks."""
    now = shop.now + timedelta(seconds=1)
    unknown = [f"{number:x}".rjust(64, "f") for number in range(60)]
    with shop.database.reading() as tx:
        correction = documents.listing(tx, limit=1)
    for one in correction:
        one.corrects.append({"number": "FV/0"})
    last_session = shop.amount // IN_SESSION + 2
    asked: dict[str, Callable[[Any], object]] = {
        "intake: by_sha256s": lambda tx: documents.by_sha256s(tx, unknown),
        "intake: numbers_held": lambda tx: documents.numbers_held(tx, unknown),
        "intake: names_taken": lambda tx: deliveries.names_taken(tx, "folder", unknown),
        "dispatch: waiting": lambda tx: documents.waiting(tx, now, limit=50),
        "dispatch: waiting, beside a batch": lambda tx: documents.waiting(tx, now, limit=50, singly_only=True),
        "dispatch: originals_in_the_way": lambda tx: documents.originals_in_the_way(tx, correction),
        "dispatch: unfinished sessions": lambda tx: sessions.unfinished(tx, "open", kind="online"),
        "dispatch: next_attempt": documents.next_attempt,
        "dispatch: pauses": lambda tx: (pauses.active(tx, now, Lane.SINGLE), pauses.expired(tx, now)),
        "batch: heaps": lambda tx: documents.heaps(tx, now),
        "batch: for_batch": lambda tx: documents.for_batch(tx, now, form=FORM, offline=False, limit=100),
        "batch: in_session": lambda tx: documents.in_session(tx, last_session),
        "reconcile: to_close": lambda tx: sessions.to_close(tx, now, "batch"),
        "reconcile: next_look": lambda tx: sessions.next_look(tx, "online"),
        "reconcile: has_unjudged": lambda tx: sessions.has_unjudged(tx, last_session),
        "reconcile: to_poll": lambda tx: documents.to_poll(tx, now, limit=20),
        "deliver: due": lambda tx: deliveries.due(tx, now),
        "deliver: due, of a connector": lambda tx: deliveries.due(tx, now, "folder"),
        "deliver: next_due": deliveries.next_due,
        "list: newest": lambda tx: documents.listing(tx, limit=50),
        "list: of two states": lambda tx: documents.listing(tx, states=[State.SENT, State.PROCESSING], limit=50),
        "show: by beginning of id": lambda tx: documents.find(tx, shop.one_id),
    }
    for kind in ("online", "batch"):
        asked |= {
            f"reconcile {kind}: to_weigh": partial(documents.to_weigh, now=now, kind=kind),
            f"reconcile {kind}: lacking_upo": partial(documents.lacking_upo, now=now, kind=kind),
            f"reconcile {kind}: next_poll": partial(documents.next_poll, kind=kind),
        }
    return asked


def tell(shops: Sequence[Shop], asks: int) -> bool:
    """Prints each question's cost; True when all together keep to the aim."""
    asked = [questions(shop) for shop in shops]
    sums = [0.0] * len(shops)
    for name in asked[0]:
        taken = [median_s(shop.database, one[name], asks) for shop, one in zip(shops, asked, strict=True)]
        sums = [total + cost for total, cost in zip(sums, taken, strict=True)]
        print(f"  {name:36} {_row(taken)}", flush=True)
    print(f"  {'all of them':36} {_row(sums)} (aim {AIM})")
    screen = [median_s(one.database, partial(overview.overview, now=one.now), 5) for one in shops]
    print(f"  {'status: overview':36} {_row(screen)} (it counts everything)")
    return sums[-1] / sums[0] <= AIM


def median_s(database: Database, ask: Callable[[Any], object], asks: int) -> float:
    """Median seconds of a question in a view of its own; the first ones only warm up."""
    taken = []
    for number in range(asks + 3):
        with database.reading() as tx:
            began = time.perf_counter()
            ask(tx)
            if number >= 3:
                taken.append(time.perf_counter() - began)
            # A question a thousand times slower than it should be need not be asked so often.
            if sum(taken) > 10:
                break
    return statistics.median(taken)


def _row(taken: Sequence[float]) -> str:
    figures = "  ".join(f"{seconds * 1000:9.3f} ms" for seconds in taken)
    return figures if len(taken) == 1 else f"{figures}  ratio {taken[-1] / taken[0]:6.2f}"


def tell_commands(shop: Shop) -> bool:
    """The commands as processes of their own; the ruler is one that does nothing."""
    program = str(Path(sys.executable).with_name("ksefbuffer"))
    environ = {name: value for name, value in os.environ.items() if not name.startswith("KSEFBUFFER_")}

    def process_s(*arguments: str) -> float:
        taken = []
        for _ in range(5):
            began = time.perf_counter()
            done = subprocess.run(
                [program, "--config", str(shop.config), *arguments], env=environ, capture_output=True, check=False
            )
            taken.append(time.perf_counter() - began)
            if done.returncode not in (0, 1) or b"Traceback" in done.stderr:
                raise SystemExit(f"{' '.join(arguments)}: {done.stderr.decode()[-500:]}")
        return statistics.median(taken)

    print(f"commands beside {shop.amount} documents, whole processes (median of 5):")
    print(f"  {'--help':36} {process_s('--help'):6.2f} s (only starts)")
    slowest = 0.0
    for command in COMMANDS:
        arguments = (*command, shop.one_id) if command[-1] == "show" else command
        taken = process_s(*arguments)
        slowest = max(slowest, taken)
        print(f"  {' '.join(command):36} {taken:6.2f} s")
    print(f"  slowest {slowest:.2f} s (aim {AIM_COMMAND_S:.0f} s)")
    return slowest <= AIM_COMMAND_S


if __name__ == "__main__":
    raise SystemExit(main())
