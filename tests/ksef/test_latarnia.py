"""Latarnia as a notice board that may be wrong, late, strange or silent, and is never taken for KSeF's own failure."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from ksefbuffer.errors import ConfigurationFault
from ksefbuffer.ksef.latarnia import Latarnia, Message, News, Status
from tests.ksef.fake import START, Clock

BASE = "https://latarnia.example/notices"
BEGUN = {
    "id": "K/2026/AWR/01",
    "category": "FAILURE",
    "type": "FAILURE_START",
    "title": "Wystąpiła awaria",
    "text": "Od godziny 12:13 trwa awaria…",
    "start": "2026-11-20T11:13:00+00:00",
    "published": "2026-11-20T12:20:00.1234567+01:00",
    "eventId": 1002,
    "version": 1,
}
ENDED = {**BEGUN, "id": "K/2026/AWR/03", "type": "FAILURE_END", "end": "2026-11-20T11:50:00Z", "nowe": {"x": [1]}}


class Board:
    """Latarnia's two addresses; an answer may be a body, a response or an exception, asked anew each time."""

    def __init__(self, status: object, messages: object = ()) -> None:
        self.answers = {"/notices/status": status, "/notices/messages": messages}
        self.asked: list[str] = []
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        self.requests.append(request)
        answer = self.answers[request.url.path]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return httpx.Response(answer.status_code, content=answer.content, headers=answer.headers)
        return httpx.Response(200, json=list(answer) if isinstance(answer, tuple) else answer)


def latarnia(board: Board, clock: Clock, base_url: str = BASE) -> Latarnia:
    return Latarnia(base_url, clock, clock.sleep, transport=httpx.MockTransport(board))


def news(status: object, messages: object = ()) -> News:
    clock = Clock()
    return latarnia(Board(status, messages), clock).news()


def test_all_is_well() -> None:
    assert news({"status": "AVAILABLE"}) == News(Status.AVAILABLE, (), START)


def test_a_failure_is_told_with_its_message() -> None:
    found = news({"status": "FAILURE", "messages": [BEGUN]}, [BEGUN])
    assert found.status is Status.FAILURE
    assert found.messages == (
        Message(
            id="K/2026/AWR/01",
            event_id=1002,
            category="FAILURE",
            type="FAILURE_START",
            title="Wystąpiła awaria",
            text="Od godziny 12:13 trwa awaria…",
            start=datetime(2026, 11, 20, 11, 13, tzinfo=UTC),
            end=None,
            version=1,
            published=datetime(2026, 11, 20, 11, 20, 0, 123456, tzinfo=UTC),
        ),
    )


def test_the_end_of_a_failure_is_learnt_from_the_board_while_all_is_well_again() -> None:
    found = news({"status": "AVAILABLE"}, [ENDED, BEGUN])
    assert [message.type for message in found.messages] == ["FAILURE_END", "FAILURE_START"]
    assert found.messages[0].end == datetime(2026, 11, 20, 11, 50, tzinfo=UTC)


@pytest.mark.parametrize("status", [word for word in Status if word is not Status.UNKNOWN])
def test_each_status_is_known(status: Status) -> None:
    assert news({"status": status.value}).status is status


HTML = httpx.Response(200, content=b"<!DOCTYPE html><html>Request blocked</html>")


@pytest.mark.parametrize(
    "answer",
    [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("cut"),
        httpx.Response(502),
        httpx.Response(504, content=b"<html>"),
        httpx.Response(403, content=b"<Error><Code>AccessDenied</Code></Error>"),
        httpx.Response(403, json={"title": "Forbidden", "status": 403, "detail": "x"}),
        httpx.Response(404),
        httpx.Response(429, headers={"Retry-After": "60"}),
        httpx.Response(302, headers={"Location": "https://elsewhere.example"}),
        httpx.Response(204),
        HTML,
        [],
        {},
        {"status": None},
        {"status": 7},
        {"status": "NOWY_STAN"},
        {"status": "UNKNOWN"},
    ],
    ids=str,
)
def test_its_own_troubles_mean_unknown_and_never_that_ksef_is_down(answer: object) -> None:
    found = news(answer, [BEGUN])
    assert (found.status, found.messages) == (Status.UNKNOWN, ())
    assert "Latarni" in found.reason


def test_when_only_the_board_is_silent_the_status_still_counts() -> None:
    found = news({"status": "FAILURE", "messages": [BEGUN]}, httpx.Response(503))
    assert found.status is Status.FAILURE
    assert [message.event_id for message in found.messages] == [1002]
    assert found.reason.startswith("Komunikatów nie odczytano.")


@pytest.mark.parametrize(
    "strange",
    [None, 7, "x", [], {}, {**BEGUN, "eventId": None}, {**BEGUN, "eventId": "x"}, {**BEGUN, "category": None}],
)
def test_a_strange_message_does_not_hide_the_others(strange: object) -> None:
    found = news({"status": "FAILURE", "messages": "none"}, [strange, BEGUN])
    assert [message.id for message in found.messages] == ["K/2026/AWR/01"]


def test_what_is_missing_or_unreadable_in_a_message_is_left_out() -> None:
    bare = {"eventId": "12", "category": "maintenance", "type": "Maintenance_Announcement", "start": "wkrótce"}
    [message] = news({"status": "MAINTENANCE", "messages": [bare]}).messages
    assert message == Message("", 12, "MAINTENANCE", "MAINTENANCE_ANNOUNCEMENT", "", "", None, None, 0, None)


def test_endless_texts_are_cut() -> None:
    [message] = news({"status": "FAILURE", "messages": [{**BEGUN, "title": "x" * 9000, "text": "y" * 99000}]}).messages
    assert (len(message.title), len(message.text)) == (300, 4000)


def test_it_is_asked_once_a_minute_at_most() -> None:
    clock, board = Clock(), Board({"status": "AVAILABLE"})
    board_of = latarnia(board, clock)
    first = board_of.news()
    clock.now += timedelta(seconds=59)
    assert board_of.news() is first
    assert board.asked == ["/notices/status", "/notices/messages"]
    clock.now += timedelta(seconds=1)
    board.answers["/notices/status"] = {"status": "FAILURE"}
    assert (board_of.news().status, board_of.news().at) == (Status.FAILURE, clock.now)
    assert len(board.asked) == 4


def test_silence_too_is_remembered_for_a_minute() -> None:
    clock, board = Clock(), Board(httpx.ConnectError("refused"))
    board_of = latarnia(board, clock)
    assert board_of.news().status is Status.UNKNOWN
    asked = len(board.asked)
    board_of.news()
    assert len(board.asked) == asked
    board.answers["/notices/status"] = {"status": "AVAILABLE"}
    clock.now += timedelta(seconds=60)
    assert board_of.news().status is Status.AVAILABLE


def test_a_clock_set_back_does_not_freeze_old_news() -> None:
    clock, board = Clock(), Board({"status": "FAILURE"})
    board_of = latarnia(board, clock)
    board_of.news()
    clock.now -= timedelta(days=1)
    board.answers["/notices/status"] = {"status": "AVAILABLE"}
    assert board_of.news().status is Status.AVAILABLE


def test_a_blip_is_asked_over_at_once() -> None:
    clock, board = Clock(), Board(httpx.Response(502))

    def answer(request: httpx.Request) -> httpx.Response:
        found = board(request)
        board.answers["/notices/status"] = {"status": "AVAILABLE"}
        return found

    mended = Latarnia(BASE, clock, clock.sleep, transport=httpx.MockTransport(answer))
    assert mended.news().status is Status.AVAILABLE


def test_it_is_told_nothing_about_us() -> None:
    clock, board = Clock(), Board({"status": "AVAILABLE"})
    latarnia(board, clock).news()
    for request in board.requests:
        assert (request.method, request.content, request.url.query) == ("GET", b"", b"")
        assert "authorization" not in request.headers
        assert request.headers["user-agent"].startswith("ksefbuffer/")


def test_without_an_address_nobody_is_asked() -> None:
    clock, board = Clock(), Board({"status": "FAILURE"})
    none = latarnia(board, clock, base_url="")
    assert none.news() == News(Status.UNKNOWN, (), START, "Adres Latarni nie jest ustawiony.")
    none.close()
    assert board.asked == []


@pytest.mark.parametrize("address", ["latarnia.example", "ftp://latarnia.example", "https://"])
def test_a_wrong_address_names_its_key(address: str) -> None:
    with pytest.raises(ConfigurationFault, match="latarnia_url"):
        latarnia(Board({}), Clock(), base_url=address)


def test_only_a_change_of_status_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ksefbuffer.ksef.latarnia")
    clock, board = Clock(), Board({"status": "AVAILABLE"})
    board_of = latarnia(board, clock)
    for status in ("AVAILABLE", "AVAILABLE", "FAILURE", "FAILURE"):
        board.answers["/notices/status"] = {"status": status}
        board_of.news()
        clock.now += timedelta(minutes=2)
    assert [record.getMessage().split()[0] for record in caplog.records] == ["latarnia=AVAILABLE", "latarnia=FAILURE"]


def test_the_official_mock_is_read() -> None:
    """The TEST instance's constant answer, as quoted in lat#8 and lat#15."""
    total = {**BEGUN, "id": "K/2026/AWR/02", "category": "TOTAL_FAILURE", "eventId": 1003}
    found = news(json.loads(json.dumps({"status": "TOTAL_FAILURE", "messages": [total, BEGUN]})), [total, BEGUN])
    assert found.status is Status.TOTAL_FAILURE
    assert [(message.event_id, message.category) for message in found.messages] == [
        (1003, "TOTAL_FAILURE"),
        (1002, "FAILURE"),
    ]
