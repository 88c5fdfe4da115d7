"""What is told of an invoice issued offline: at once, with its codes, and again with the number."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import zxingcpp
from PIL import Image

from ksefbuffer.erp.delivery import Answer, Deliver, document_object
from ksefbuffer.erp.folder import FolderConnector, Folders
from ksefbuffer.erp.printing import PrintAnswers
from ksefbuffer.invoice.precheck import CheckContext
from ksefbuffer.offline import qr
from ksefbuffer.queue import documents, pauses
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.deliveries import Arrival
from ksefbuffer.queue.documents import Document
from ksefbuffer.queue.states import Event, State
from tests.queue.builders import arrival, document_in, move
from tests.samples import ISSUE_DATE, NIP, NOW, invoice

QR = "https://qr-test.ksef.mf.gov.pl"
# As long as RSA-2048 makes it.
KOD_II = (
    f"{QR}/certificate/Nip/{NIP}/{NIP}/01F20A5D352AE590/UtQp9Gpc51y-u3xApZjIjgkpZ01js-J8KflSPW8WzIE/{'aB3_' * 85}xy"
)
TERM = datetime(2026, 11, 23, 22, 59, 59, 999_000, tzinfo=UTC)
OFFLINE: dict[str, Any] = {
    "offline": True,
    "offline_mode": "offline24",
    "offline_since": NOW,
    "offline_deadline": TERM,
    "offline_term": "następny dzień roboczy",
    "certificate_url": KOD_II,
}
TOTAL: dict[str, Any] = {"offline_mode": "awaria całkowita", "offline_since": NOW, "offline_term": "bez terminu"}
ALIVE = [State.QUEUED, State.FAILED, State.PROCESSING]


def _until_done(duty: Deliver | PrintAnswers, now: datetime) -> None:
    for _ in range(60):
        if not duty.step(now):
            return
    raise AssertionError("never done")


class Till:
    """A database, an outbox, and the duties that write to it."""

    def __init__(self, database: Database, root: Path, *, pdf: bool = False) -> None:
        self.database, self.outbox = database, root / "outbox"
        self.folders = Folders(root / "inbox", self.outbox, root / "processed", root / "rejected", pdf=pdf)
        self.start()

    def start(self) -> None:
        """As after a start of the daemon: it remembers nothing."""
        self.connector = FolderConnector(
            self.database,
            self.folders,
            context=lambda now: CheckContext(nip=NIP, environment="sandbox", now=now),
            settle=timedelta(seconds=1),
        )
        self.connector.prepare()
        self.deliver = Deliver(self.database, {"folder": self.connector}, QR)
        self.printing = PrintAnswers(self.deliver)

    def issue(
        self, state: State = State.QUEUED, *, content: bytes | None = None, place: str = "a.xml", **columns: Any
    ) -> Document:
        """A document in a state, with these columns, that came as ``place``."""
        content = content if content is not None else invoice()
        with self.database.transaction() as tx:
            document = document_in(
                tx,
                state,
                sha256=hashlib.sha256(content).hexdigest(),
                size=len(content),
                content=content,
                issue_date=ISSUE_DATE,
            )
            arrival(tx, document, place)
            if columns:
                documents.change(tx, document.id, **columns)
            return documents.get(tx, document.id)

    def change(self, document: Document, **columns: Any) -> None:
        with self.database.transaction() as tx:
            if columns:
                documents.change(tx, document.id, **columns)
            documents.tell(tx, document.id, at=NOW)

    def move(self, document: Document, *events: Event) -> Document:
        with self.database.transaction() as tx:
            document = documents.get(tx, document.id)
            for event in events:
                document = move(tx, document, event)
            return document

    def tell(self, now: datetime = NOW) -> None:
        _until_done(self.deliver, now)

    def print(self, now: datetime = NOW) -> None:
        _until_done(self.printing, now)

    def told(self, name: str = "a") -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.outbox / f"{name}.ksef.json").read_bytes())
        return found

    def names(self) -> set[str]:
        return {path.name for path in self.outbox.iterdir()}

    def code(self, name: str) -> str:
        """What an independent decoder reads in a picture."""
        (found,) = zxingcpp.read_barcodes(Image.open(self.outbox / name))
        return found.text


@pytest.fixture
def till(tmp_path: Path, sqlite_database: Database) -> Till:
    return Till(sqlite_database, tmp_path)


def kod_i(document: Document) -> str:
    """By FACTS §11, worked out here."""
    digest = urlsafe_b64encode(bytes.fromhex(document.sha256)).decode().rstrip("=")
    return f"{QR}/invoice/{NIP}/{ISSUE_DATE:%d-%m-%Y}/{digest}"


def same_picture(content: bytes, url: str, label: str) -> bool:
    return Image.open(BytesIO(content)).tobytes() == Image.open(BytesIO(qr.png(url, label))).tobytes()


@pytest.mark.parametrize("state", ALIVE)
@pytest.mark.parametrize("mode", ["offline24", "niedostępność", "awaria"])
def test_both_codes_go_with_the_answer_as_soon_as_the_mode_is_known(till: Till, state: State, mode: str) -> None:
    document = till.issue(state, **OFFLINE | {"offline_mode": mode})
    till.tell()

    told = till.told()
    assert told["status"] == state
    assert told["offline"] == {"mode": mode, "deadline": "2026-11-23T22:59:59.999Z"}
    assert told["jpk_marker"] == "OFF"
    assert (told["verification_url"], told["certificate_url"]) == (kod_i(document), KOD_II)
    assert (till.code("a.qr1.png"), till.code("a.qr2.png")) == (kod_i(document), KOD_II)
    assert same_picture((till.outbox / "a.qr1.png").read_bytes(), kod_i(document), "OFFLINE")
    assert same_picture((till.outbox / "a.qr2.png").read_bytes(), KOD_II, "CERTYFIKAT")


def test_the_number_takes_the_place_of_the_word_and_the_mark_goes(till: Till) -> None:
    document = till.issue(State.PROCESSING, **OFFLINE)
    till.tell()
    before = (till.outbox / "a.qr1.png").read_bytes()
    second = (till.outbox / "a.qr2.png").stat()
    sent = till.move(document, Event.NUMBER)
    till.tell()

    told = till.told()
    assert (told["status"], told["ksef_number"], told["jpk_marker"]) == ("sent", sent.ksef_number, None)
    assert told["offline"] == {"mode": "offline24", "deadline": "2026-11-23T22:59:59.999Z"}
    assert (told["verification_url"], told["certificate_url"]) == (kod_i(document), KOD_II)
    after = (till.outbox / "a.qr1.png").read_bytes()
    assert after != before
    assert same_picture(after, kod_i(document), str(sent.ksef_number))
    assert (till.outbox / "a.qr2.png").stat().st_ino == second.st_ino, "equal bytes are not written again"


def test_an_online_invoice_has_no_codes_before_its_number(till: Till) -> None:
    document = till.issue(State.PROCESSING)
    till.tell()
    told = till.told()
    assert told["offline"] == {"mode": None, "deadline": None}
    assert (told["verification_url"], told["certificate_url"], told["jpk_marker"]) == (None, None, None)
    assert till.names() == {"a.ksef.json"}

    till.move(document, Event.NUMBER)
    till.tell()
    assert till.names() == {"a.ksef.json", "a.qr1.png"}
    assert till.told()["verification_url"] == kod_i(document)


def test_a_mode_that_comes_later_is_told_then(till: Till) -> None:
    document = till.issue()
    till.tell()
    assert till.names() == {"a.ksef.json"}
    till.change(document, **OFFLINE)
    till.tell()
    assert till.names() == {"a.ksef.json", "a.qr1.png", "a.qr2.png"}


def test_without_a_certificate_there_is_one_code(till: Till) -> None:
    till.issue(**OFFLINE | {"certificate_url": None})
    till.tell()
    assert till.names() == {"a.ksef.json", "a.qr1.png"}
    assert (till.told()["certificate_url"], till.told()["jpk_marker"]) == (None, "OFF")


@pytest.mark.parametrize("state", ALIVE)
def test_in_a_total_failure_there_are_no_codes_and_another_mark(till: Till, state: State) -> None:
    till.issue(state, **TOTAL, certificate_url=KOD_II)
    till.tell()
    told = till.told()
    assert told["offline"] == {"mode": "awaria całkowita", "deadline": None}
    assert (told["verification_url"], told["certificate_url"], told["jpk_marker"]) == (None, None, "BFK")
    assert till.names() == {"a.ksef.json"}


def test_an_invoice_of_a_total_failure_that_got_a_number_has_its_code(till: Till) -> None:
    document = till.issue(State.SENT, **TOTAL)
    till.tell()
    assert till.told()["jpk_marker"] is None
    assert till.code("a.qr1.png") == kod_i(document)


@pytest.mark.parametrize(
    ("event", "status"), [(Event.REFUSE, "error"), (Event.WITHDRAW, "cancelled")], ids=["refused", "withdrawn"]
)
def test_what_is_no_invoice_any_more_has_no_codes_and_no_mark(till: Till, event: Event, status: str) -> None:
    document = till.issue(**OFFLINE)
    till.tell()
    assert "a.qr2.png" in till.names()
    till.move(document, event)
    till.tell()
    told = till.told()
    assert told["status"] == status
    assert (told["verification_url"], told["certificate_url"], told["jpk_marker"]) == (None, None, None)
    assert told["offline"]["mode"] == "offline24", "how it was issued stays known"
    assert till.names() == {"a.ksef.json"}


def test_a_refused_document_with_anything_for_a_nip_is_told_all_the_same(till: Till) -> None:
    till.issue(State.ERROR, **OFFLINE, seller_nip="../../x")
    till.tell()
    assert till.told()["verification_url"] is None


def test_pictures_of_another_document_of_that_name_are_removed(till: Till) -> None:
    first = till.issue(State.PROCESSING, **OFFLINE)
    till.tell()
    till.move(first, Event.NUMBER)
    till.tell()
    first_code = till.code("a.qr1.png")
    # The first rests, so that the name goes to the newcomer, which is online and has no codes yet.
    till.issue(place="a.xml", content=invoice("FV/2"))
    till.tell()

    assert till.told()["status"] == "queued"
    assert till.names() == {"a.ksef.json", "a.2.ksef.json", "a.2.qr1.png", "a.2.qr2.png"}
    assert till.code("a.2.qr1.png") == first_code


def test_pictures_are_there_before_the_answer_that_names_them(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    till.issue(**OFFLINE)
    written: list[str] = []
    really = Path.replace

    def noted(self: Path, target: Path) -> Path:
        written.append(target.name)
        return really(self, target)

    monkeypatch.setattr(Path, "replace", noted)
    till.tell()
    assert written == ["a.qr1.png", "a.qr2.png", "a.ksef.json"]


def test_a_code_is_drawn_once_however_often_it_is_told(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[str, str]] = []
    really = qr.png

    def counted(url: str, label: str) -> bytes:
        drawn.append((url, label))
        return really(url, label)

    monkeypatch.setattr(qr, "png", counted)
    document = till.issue(**OFFLINE)
    till.tell()
    till.move(document, Event.BIND)
    till.tell()
    sent = till.move(document, Event.NUMBER)
    till.tell()
    till.change(document)
    till.tell()
    assert drawn == [
        (kod_i(document), "OFFLINE"),
        (KOD_II, "CERTYFIKAT"),
        (kod_i(document), sent.ksef_number),
    ]


def test_only_so_many_pictures_are_kept(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ksefbuffer.erp.delivery._MOST_PICTURES", 3)
    for number in range(5):
        till.issue(place=f"{number}.xml", content=invoice(f"FV/{number}"), **OFFLINE | {"certificate_url": None})
    till.tell()
    assert len(till.deliver._pictures) == 3
    assert len([name for name in till.names() if name.endswith(".qr1.png")]) == 5


def hold_back(till: Till) -> str:
    with till.database.transaction() as tx:
        pauses.pause(
            tx,
            "announced",
            at=NOW,
            until=NOW + timedelta(minutes=3),
            code="1",
            message="Wysyłka wstrzymana: awaria.",
            action="",
        )
    return "Wysyłka wstrzymana: awaria."


def test_in_a_total_failure_the_documents_own_word_goes_before_a_pause(till: Till) -> None:
    own = "Faktura wystawiona w awarii całkowitej KSeF: nie wysyła się jej do KSeF."
    till.issue(**TOTAL, waits_for=own)
    till.issue(place="b.xml", content=invoice("FV/2"), **OFFLINE, waits_for="czeka na oryginał")
    pause = hold_back(till)
    till.tell()
    assert till.told("a")["waits_for"] == own
    assert till.told("b")["waits_for"] == pause


def test_a_total_failure_without_a_word_of_its_own_tells_of_the_pause(till: Till) -> None:
    till.issue(**TOTAL)
    pause = hold_back(till)
    till.tell()
    assert till.told()["waits_for"] == pause


def test_the_document_alone_says_the_same(till: Till) -> None:
    document = till.issue(**OFFLINE)
    shown = document_object(document, None)
    assert shown["offline"] == {"mode": "offline24", "deadline": "2026-11-23T22:59:59.999Z"}
    assert (shown["certificate_url"], shown["jpk_marker"]) == (KOD_II, "OFF")


def test_a_table_gets_the_link_and_no_picture_is_drawn_for_it(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Answer] = []

    class Rows:
        has_files = has_pages = False

        def deliver(self, answer: Answer) -> None:
            told.append(answer)

        def put_page(self, arrival: Arrival, page: bytes | None) -> None:
            raise AssertionError

        def upo_name(self, arrival: Arrival) -> str:
            return "x"

    monkeypatch.setattr(qr, "png", lambda *_: pytest.fail("a picture that nobody takes"))
    till.deliver.connectors = {"table": Rows()}
    document = till.issue(place="fv.xml", **OFFLINE)
    with till.database.transaction() as tx:
        arrival(tx, document, "7", connector="table", answer_name="7")
    till.tell()
    (answer,) = told
    assert answer.object["verification_url"] == kod_i(document)
    assert (answer.qr1, answer.qr2, answer.page) == (None, None, None)
