"""An address that takes messages over a real socket, and a buffer's worth of things to tell."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ksefbuffer.notify.duty import Notify
from ksefbuffer.queue import documents
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.states import Event, State
from tests.conftest import Clock
from tests.queue import builders

EVENTS = ("document_error", "deadline", "certificate_expiry", "incoming", "outage", "disk")
SECRET = "bardzo-tajne-haslo"
PLENTY = 50 * 10**9


@dataclass(frozen=True)
class Message:
    title: str
    body: str
    weight: str


@dataclass
class Post:
    """``url`` holds a secret; ``answer`` is the status that the address gives; ``tries`` counts all requests."""

    url: str
    answer: int = 200
    tries: int = 0
    taken: list[Message] = field(default_factory=list)

    @property
    def titles(self) -> list[str]:
        return [message.title for message in self.taken]


@contextmanager
def opened() -> Iterator[Post]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            post.tries += 1
            if post.answer == 200:
                post.taken.append(Message(told["title"], told["message"], told["type"]))
            self.send_response(post.answer)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    post = Post(f"json://kasa:{SECRET}@localhost:{server.server_port}/{SECRET}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield post
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Staff:
    """The duty over a database, on a clock that is moved, with addresses of its own."""

    def __init__(self, database: Database, clock: Clock, *urls: str, events: tuple[str, ...] = EVENTS) -> None:
        self.database, self.clock, self.urls, self.events = database, clock, urls, events
        self.free: int | None = PLENTY
        self.duty = self.started()

    def started(self) -> Notify:
        """The duty as after a start of the daemon."""
        self.duty = Notify(
            self.database, self.urls, self.events, lambda: self.free, self.clock, buffer_name="ksefbuffer 5265877635"
        )
        return self.duty

    def look(self) -> None:
        """All that is due now."""
        for _ in range(200):
            if not self.duty.step(self.clock()):
                return
        raise AssertionError("the duty does not come to rest")

    def live(self, *, minutes: float = 0, hours: float = 0, every_s: float = 30) -> None:
        """Lets the time pass, looking all the while."""
        self.look()
        for _ in range(int((minutes * 60 + hours * 3600) // every_s)):
            self.clock.forward(every_s)
            self.look()

    def refuse(self, count: int = 1, *, code: str = "440", by_ksef: bool = True, **changes: Any) -> None:
        """Documents that KSeF, or the pre-check, refuses now."""
        with self.database.transaction() as tx:
            for _ in range(count):
                document = builders.document_in(tx, State.QUEUED, at=self.clock(), **changes)
                told = [{**builders.AN_ERROR, "code": code, "message": "tresc-faktury-wprost"}]
                documents.apply(
                    tx,
                    document,
                    Event.REFUSE,
                    at=self.clock(),
                    actor="test",
                    errors=told,
                    judged_by_ksef=by_ksef,
                )

    def offline(self, deadline: datetime, *, state: State = State.QUEUED) -> documents.Document:
        """A document issued offline, to be sent until ``deadline``."""
        with self.database.transaction() as tx:
            document = builders.document_in(tx, state, at=self.clock(), offline=True)
            documents.change(
                tx, document.id, offline_mode="offline24", offline_since=self.clock(), offline_deadline=deadline
            )
            return documents.get(tx, document.id)
