from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from ksefbuffer.sandbox import Fault, Sandbox
from tests.sandbox.client import FakeClock


@pytest.fixture
def http(sandbox: Sandbox) -> Iterator[httpx.Client]:
    with httpx.Client(transport=sandbox.transport(), base_url="http://ksef.sandbox/latarnia") as http:
        yield http


def status(http: httpx.Client) -> str:
    return str(http.get("/status").json()["status"])


def messages(http: httpx.Client) -> list[dict[str, Any]]:
    return list(http.get("/messages").json())


def test_nothing_is_told_of_a_ksef_in_order(http: httpx.Client) -> None:
    assert http.get("/status").json() == {"status": "AVAILABLE"}
    assert messages(http) == []
    assert http.get("http://ksef.sandbox/latarnia").status_code == 403
    assert http.get("/other").status_code == 404


def test_an_announced_maintenance(http: httpx.Client, sandbox: Sandbox, clock: FakeClock) -> None:
    start, end = clock.now + timedelta(hours=2), clock.now + timedelta(hours=4)
    event = sandbox.latarnia("maintenance", start=start, end=end, title="Prace")
    assert status(http) == "AVAILABLE"
    (message,) = messages(http)
    assert set(message) == {
        "id",
        "eventId",
        "category",
        "type",
        "title",
        "text",
        "start",
        "end",
        "version",
        "published",
    }
    assert (message["eventId"], message["version"], message["title"]) == (event, 1, "Prace")
    assert (message["category"], message["type"]) == ("MAINTENANCE", "MAINTENANCE_ANNOUNCEMENT")
    assert message["start"] == "2026-11-20T12:15:00.0000000+00:00"

    # Put off by an hour: a higher version of the same event, which wins.
    sandbox.latarnia("amend", event=event, start=start + timedelta(hours=1), end=end + timedelta(hours=1))
    assert [(item["eventId"], item["version"]) for item in messages(http)] == [(event, 2), (event, 1)]
    told = []
    for hours in (2, 1, 1, 1):
        clock.forward(hours=hours)
        told.append(status(http))
    assert told == ["AVAILABLE", "MAINTENANCE", "MAINTENANCE", "AVAILABLE"]


def test_failures_begin_and_end(http: httpx.Client, sandbox: Sandbox, clock: FakeClock) -> None:
    first = sandbox.latarnia("failure", start=clock.now - timedelta(minutes=30))
    body = http.get("/status").json()
    assert body["status"] == "FAILURE"
    assert [item["type"] for item in body["messages"]] == ["FAILURE_START"]
    assert "end" not in body["messages"][0]
    clock.forward(hours=3)
    assert sandbox.latarnia("end") == first
    assert status(http) == "AVAILABLE"
    end, begin = messages(http)
    assert (end["eventId"], end["type"], end["version"]) == (first, "FAILURE_END", 2)
    assert end["start"] == begin["start"]
    assert end["end"] == "2026-11-20T13:15:00.0000000+00:00"

    clock.forward(days=2)
    second = sandbox.latarnia("failure")
    assert second == first + 1
    assert status(http) == "FAILURE"
    sandbox.latarnia("end", event=second)
    with pytest.raises(LookupError):
        sandbox.latarnia("end")


def test_an_end_may_be_amended(http: httpx.Client, sandbox: Sandbox, clock: FakeClock) -> None:
    event = sandbox.latarnia("failure")
    clock.forward(hours=2)
    sandbox.latarnia("end")
    sandbox.latarnia("amend", event=event, end=clock.now + timedelta(hours=1))
    assert status(http) == "FAILURE"
    assert (messages(http)[0]["type"], messages(http)[0]["version"]) == ("FAILURE_END", 3)
    clock.forward(hours=1)
    assert status(http) == "AVAILABLE"


def test_the_gravest_trouble_is_told(http: httpx.Client, sandbox: Sandbox, clock: FakeClock) -> None:
    sandbox.latarnia("maintenance", start=clock.now, end=clock.now + timedelta(days=1))
    sandbox.latarnia("failure")
    total = sandbox.latarnia("total_failure")
    body = http.get("/status").json()
    assert body["status"] == "TOTAL_FAILURE"
    assert [item["category"] for item in body["messages"]] == ["TOTAL_FAILURE"]
    sandbox.latarnia("end", event=total)
    assert status(http) == "FAILURE"
    sandbox.latarnia("end")
    assert status(http) == "MAINTENANCE"
    sandbox.latarnia("clear")
    assert status(http) == "AVAILABLE"


def test_the_mock_of_the_test_environment(http: httpx.Client, sandbox: Sandbox) -> None:
    sandbox.latarnia("mock")
    body = http.get("/status").json()
    assert body["status"] == "TOTAL_FAILURE"
    assert body["messages"][0]["start"].startswith("2026-01")


def test_an_outage_of_ksef_leaves_latarnia_alone_but_a_cut_line_does_not(http: httpx.Client, sandbox: Sandbox) -> None:
    sandbox.outage()
    assert status(http) == "AVAILABLE"
    with pytest.raises(httpx.ConnectError):
        http.get("http://ksef.sandbox/v2/security/public-key-certificates")
    sandbox.outage(everything=True)
    with pytest.raises(httpx.ConnectError):
        http.get("/status")
    sandbox.stop_outage()
    assert status(http) == "AVAILABLE"


def test_latarnia_itself_may_be_in_trouble(http: httpx.Client, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("latarniaStatus", "status", status=503))
    sandbox.faults.add(Fault("latarniaStatus", "html_403"))
    sandbox.faults.add(Fault("latarniaStatus", "timeout"))
    assert http.get("/status").status_code == 503
    assert http.get("/status").status_code == 403
    with pytest.raises(httpx.ReadTimeout):
        http.get("/status")
    assert status(http) == "AVAILABLE"


def test_wrong_scenarios_are_refused(sandbox: Sandbox, clock: FakeClock) -> None:
    later = clock.now + timedelta(hours=1)
    for wrong in (
        {"scenario": "party"},
        {"scenario": "maintenance"},
        {"scenario": "maintenance", "start": later, "end": clock.now},
        {"scenario": "failure", "end": later},
    ):
        with pytest.raises(ValueError):
            sandbox.latarnia(**wrong)
    with pytest.raises(LookupError):
        sandbox.latarnia("amend")
    sandbox.latarnia("failure")
    for wrong in ({"scenario": "end", "end": clock.now - timedelta(hours=1)}, {"scenario": "amend", "end": later}):
        with pytest.raises(ValueError):
            sandbox.latarnia(**wrong)


def test_scenarios_by_control(http: httpx.Client, clock: FakeClock) -> None:
    control = "http://ksef.sandbox/sandbox/latarnia"
    body = {"scenario": "maintenance", "start": "2026-11-20T11:00:00", "end": "2026-11-20T18:00:00+01:00"}
    answer = http.post(control, json=body)
    assert (answer.status_code, answer.json()) == (201, {"event": 1})
    assert http.get(control).json()["status"] == "MAINTENANCE"
    assert http.post(control, json={"scenario": "failure", "text": "Awaria łącza."}).json() == {"event": 2}
    assert messages(http)[0]["text"] == "Awaria łącza."
    assert http.post(control, json={"scenario": "end", "event": 2}).status_code == 201
    assert http.post(control, json={"scenario": "end", "event": 2}).status_code == 404
    for wrong in ({}, {"scenario": "x"}, {"scenario": "failure", "start": "now"}, {"scenario": "mock", "what": 1},
                  {"scenario": "end", "event": "2"}):  # fmt: skip
        assert http.post(control, json=wrong).status_code == 400
    assert http.delete(control).status_code == 204
    assert messages(http) == []


def test_what_was_published_survives_a_restart(tmp_path: Path, clock: FakeClock) -> None:
    before = Sandbox(tmp_path / "state.db", clock=clock)
    before.latarnia("failure")
    before.close()
    after = Sandbox(tmp_path / "state.db", clock=clock)
    assert after.latarnia_status()["status"] == "FAILURE"
    after.close()
