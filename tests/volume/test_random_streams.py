"""Random streams of intake, KSeF's faults, deaths of the buffer and clock jumps; then all heals, and the books agree.

Hypothesis invents the stream, and prints the shortest that fails with the blob that replays it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ksefbuffer.invoice.identifiers import sha256_hex
from ksefbuffer.ksef.auth import CertificateLogin
from ksefbuffer.queue import documents
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.states import TRANSITIONS, Event, State
from ksefbuffer.sandbox import Fault
from ksefbuffer.sender.memory import RememberedLimiter
from ksefbuffer.worker import Buffer, prepare
from tests.crash.harness import Fate, Killed, World, _file_boundaries
from tests.samples import correction_of, invoice
from tests.volume.driving import Watched, duties, spin, watched

pytestmark = pytest.mark.crash

EXAMPLES = 15
ROUNDS_TO_REST = 30_000

_SESSION_CALLS = ("openSession", "sendInvoice", "closeSession", "openBatch", "uploadPart", "closeBatch")
_ASKING_CALLS = ("sessionStatus", "sessionInvoices", "invoiceStatus", "invoiceUpoByKsefNumber", "queryMetadata")
_ACCESS_CALLS = ("challenge", "loginXades", "loginStatus", "redeemTokens", "refreshToken", "publicKeys")
_CALLS = (*_SESSION_CALLS, *_ASKING_CALLS, *_ACCESS_CALLS, "downloadUpo", "rateLimits", "*")


@st.composite
def _wire_fault(draw: st.DrawFn) -> Fault:
    kind = draw(
        st.sampled_from(
            ("delay", "status", "status_after", "html", "html_403", "cut_before", "cut_after", "cut_body", "empty")
        )
    )
    status = draw(st.sampled_from((429, 500, 502, 503, 504)))
    return Fault(
        operation=draw(st.sampled_from(_CALLS)),
        kind=kind,
        times=draw(st.integers(1, 5)),
        skip=draw(st.integers(0, 3)),
        seconds=draw(st.sampled_from((1.0, 40.0))),
        status=503 if status == 429 and kind == "status_after" else status,
        retry_after=draw(st.sampled_from((None, 1, 30, 900))),
    )


@st.composite
def _fate_fault(draw: st.DrawFn) -> Fault:
    """What befalls an invoice or a session; only ends after which KSeF does not have it for good."""
    kind = draw(
        st.sampled_from(
            ("stuck", "invoice_status", "session_status", "session_unknown", "storage_lag", "wrong_original_session")
        )
    )
    operations = {
        "stuck": ("sendInvoice", "closeBatch"),
        "invoice_status": ("sendInvoice", "closeBatch"),
        "session_status": _SESSION_CALLS,
        "session_unknown": ("sendInvoice", "closeSession", "closeBatch", *_ASKING_CALLS[:-1]),
        "storage_lag": ("closeBatch",),
        "wrong_original_session": ("closeBatch",),
    }
    codes = {"invoice_status": (405, 435, 500, 550), "session_status": (405, 415, 430, 435, 500)}
    return Fault(
        operation=draw(st.sampled_from(operations[kind])),
        kind=kind,
        times=draw(st.integers(1, 4)),
        skip=draw(st.integers(0, 2)),
        code=draw(st.sampled_from(codes.get(kind, (0,)))),
        ordinal=draw(st.sampled_from((1, 2, None))),
    )


_drops = st.tuples(
    st.just("drop"),
    st.sampled_from(("good", "good", "good", "urgent", "offline", "correction", "again", "bad", "reused")),
    st.integers(1, 6),
)
ACTIONS = st.lists(
    st.one_of(
        _drops,
        _drops,
        st.tuples(st.just("work"), st.integers(1, 60)),
        st.tuples(st.just("work"), st.integers(1, 60)),
        st.tuples(st.just("fault"), _wire_fault()),
        st.tuples(st.just("fault"), _fate_fault()),
        st.tuples(st.just("die"), st.integers(1, 80)),
        st.tuples(st.just("die"), st.integers(1, 80)),
        st.tuples(st.just("jump"), st.sampled_from((-30, -5, -1, 60, 600, 3_700, 20_000))),
        st.tuples(
            st.just("outage"), st.sampled_from(("refused", "503", "html", "timeout")), st.sampled_from((5, 300, 7_200))
        ),
        st.tuples(st.just("keys"), st.booleans()),
        st.tuples(st.just("tokens"), st.booleans()),
        st.tuples(st.just("end_session"), st.sampled_from((405, 415, 435, 440, 500))),
        st.tuples(st.just("release")),
    ),
    min_size=4,
    max_size=30,
)


class Play:
    """One stream against one world, under KSeF's production limits."""

    def __init__(self, folder: Path, template: Path, login: CertificateLogin, *, batch: bool) -> None:
        self.login = login
        self.world = World(folder, template, good=0, limits="production", batch=batch)
        # Long enough for deaths and faults to meet invoices in KSeF's hands.
        self.world.sandbox.latency_s = 1.0
        self.seen: Watched = watched(self.world)
        self.number = 0
        self.originals: list[bytes] = []
        self.fate = Fate()
        self.buffer: Buffer | None = None

    def act(self, action: tuple[object, ...]) -> None:
        what, *details = action
        getattr(self, f"_{what}")(*details)

    def _drop(self, kind: str, count: int) -> None:
        for _ in range(count):
            self.number += 1
            name = f"{self.number:03}-{kind}.xml"
            if kind in ("again", "reused", "correction") and not self.originals:
                kind = "good"
            sidecar = {"urgent": {"priority": "urgent"}, "offline": {"offline": True}}.get(kind)
            if sidecar is not None:
                (self.world.folder / "inbox" / name).with_suffix(".json").write_text(json.dumps(sidecar))
            one = self.originals[self.number % len(self.originals)] if self.originals else b""
            if kind == "bad":
                self.world.drop(name, f"<Faktura>{self.number}</Faktura>".encode(), good=False)
            elif kind == "reused":
                number = one.partition(b"<P_2>")[2].partition(b"</P_2>")[0].decode()
                self.world.drop(name, invoice(number=number, seed=5_000 + self.number), good=False)
            elif kind == "again":
                self.world.drop(name, one)
            elif kind == "correction":
                self.world.drop(name, correction_of(one, number=f"KOR/{self.number}/2026"))
            else:
                content = invoice(number=f"FV/{self.number}/2026", seed=self.number)
                self.originals.append(content)
                self.world.drop(name, content)

    def _work(self, rounds: int) -> None:
        self._live(lambda buffer: spin(self.world, buffer, duties(self.world, buffer), rounds=rounds))

    def _fault(self, fault: Fault) -> None:
        self.world.sandbox.faults.add(fault)

    def _die(self, boundaries: int) -> None:
        """At one of the next boundaries, when there is work that reaches it."""
        self.fate.at = self.fate.count + boundaries
        self._work(60)

    def _jump(self, seconds: int) -> None:
        self.world.clock.now += timedelta(seconds=seconds)
        self.seen.forget()

    def _outage(self, style: str, seconds: int) -> None:
        self.world.sandbox.outage(seconds, style=style)

    def _keys(self, keep_old: bool) -> None:
        self.world.sandbox.rotate_keys(keep_old=keep_old)

    def _tokens(self, refresh: bool) -> None:
        self.world.sandbox.expire_tokens(refresh=refresh)

    def _end_session(self, code: int) -> None:
        held = self.world.sandbox.invoices()
        if held:
            self.world.sandbox.kill_session(held[-1].session, code)

    def _release(self) -> None:
        self.world.sandbox.release()

    def heal(self) -> None:
        """Nothing goes wrong any more, and the buffer works until it rests."""
        self.world.sandbox.faults.clear()
        self.world.sandbox.stop_outage()
        self.world.sandbox.release()
        self.fate.at = 0

        def rest(buffer: Buffer) -> None:
            in_turn = duties(self.world, buffer)
            for _ in range(ROUNDS_TO_REST // 20):
                spin(self.world, buffer, in_turn, rounds=20)
                if self.world._at_rest(buffer):
                    return
            raise AssertionError(f"never comes to rest at {self.world.clock.now}: {self.world.states()}")

        self._live(rest)

    def close(self) -> None:
        self._end()
        self.world.sandbox.close()

    def _live(self, work: object) -> None:
        try:
            with _file_boundaries(self.fate):
                if self.buffer is None:
                    self._start()
                assert self.buffer is not None
                work(self.buffer)  # type: ignore[operator]
        except Killed:
            self._end()

    def _start(self) -> None:
        self.memory = Database(self.world.config.database.url)
        self.fate.at = self.fate.at if self.fate.at > self.fate.count else 0
        self.buffer = self.world.buffer(self.login, self.fate, RememberedLimiter(self.memory))
        prepare(self.buffer)

    def _end(self) -> None:
        if self.buffer is not None:
            self.buffer.close()
            self.memory.close()
        self.buffer = None


def check_books(play: Play) -> None:
    world = play.world
    good = {sha256_hex(content) for content in world.good.values()}
    bad = {sha256_hex(content) for content in world.bad.values()}
    held = Counter(one.sha256 for one in world.sandbox.accepted())
    numbers = {one.sha256: one.ksef_number for one in world.sandbox.accepted()}
    database = Database(world.config.database.url)
    try:
        with database.reading() as tx:
            known = {document.sha256: document for document in documents.listing(tx, limit=10_000)}
            upos = {sha256: documents.upo(tx, document.id) for sha256, document in known.items()}
            histories = [documents.history(tx, document.id) for document in known.values()]
    finally:
        database.close()
    assert set(known) == good | bad, "lost, or come from nowhere"
    assert {known[sha256].state for sha256 in good} <= {State.SENT}, world.states()
    assert {known[sha256].state for sha256 in bad} <= {State.ERROR}
    assert held == Counter(good), "KSeF has one twice, or lacks one"
    assert {sha256: known[sha256].ksef_number for sha256 in good} == numbers
    for history in histories:
        state = None
        for move in history:
            assert move["from_state"] == state
            came_from = None if state is None else State(state)
            assert TRANSITIONS[came_from, Event(move["event"])] == move["to_state"]
            state = move["to_state"]
    for name, content in {**world.good, **world.bad}.items():
        document = known[sha256_hex(content)]
        outbox = world.folder / "outbox" / name
        told = json.loads(outbox.with_suffix(".ksef.json").read_bytes())
        assert (told["status"], told["ksef_number"]) == (str(document.state), document.ksef_number), name
        assert [error["code"] for error in told["errors"]] == [error["code"] for error in document.errors]
        upo, receipt = upos[document.sha256], outbox.with_suffix(".upo.xml")
        assert (receipt.read_bytes() if receipt.exists() else None) == upo
        if document.state is State.SENT and upo is None:
            assert "UPO" in {warning["code"] for warning in document.warnings}
    assert not any((world.folder / "inbox").glob("*.xml"))
    assert [(d.operation, d.name, d.text) for d in world.sandbox.deviations] == []
    assert play.seen.impatient == []


@pytest.mark.parametrize("batch", [True, False], ids=["batches", "singles"])
def test_whatever_happens_each_good_invoice_gets_one_number(
    tmp_path_factory: pytest.TempPathFactory, template: Path, login: CertificateLogin, batch: bool
) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        # A build server plays the same streams each time; at a desk every run brings new ones.
        derandomize=bool(os.environ.get("CI")),
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(ACTIONS)
    def play_through(actions: list[tuple[object, ...]]) -> None:
        folder = tmp_path_factory.mktemp("stream")
        play = Play(folder / "shop", template, login, batch=batch)
        try:
            for action in actions:
                play.act(action)
            play.heal()
            check_books(play)
        finally:
            play.close()
            shutil.rmtree(folder)

    play_through()
