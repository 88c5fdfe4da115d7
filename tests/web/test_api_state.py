"""Status, health and metrics: what a monitor sees, and when it is to wake somebody."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ksefbuffer.queue import documents, facts, pauses, webhooks
from ksefbuffer.queue.states import State
from ksefbuffer.web.site import Site
from tests.commanding import Run
from tests.conftest import Clock
from tests.queue.builders import arrival, document_in
from tests.queue.test_incoming import put
from tests.web.calling import Till, is_problem


@pytest.fixture
def monitor(client: httpx.Client, api_key: Callable[..., str]) -> Till:
    return Till(client, api_key("status"))


@pytest.fixture
def working(site: Site) -> Iterator[None]:
    with site.database.sole_worker():
        yield


def figures(client: httpx.Client, path: str = "/metrics") -> dict[str, float]:
    """Samples by name and labels, as Prometheus itself reads them."""
    answer = client.get(path)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[
                f"{sample.name.removeprefix('ksefbuffer_')}{{{labels}}}"
                if labels
                else sample.name.removeprefix("ksefbuffer_")
            ] = sample.value
    return found


# Status


def test_status_says_what_the_command_says(monitor: Till, site: Site, clock: Clock) -> None:
    with site.database.transaction() as tx:
        for state in State:
            document_in(tx, state, at=clock.now - timedelta(minutes=5))
        pauses.pause(
            tx,
            "ksef",
            at=clock(),
            until=clock.now + timedelta(minutes=1),
            code="x",
            message="KSeF nie odpowiada.",
            action="",
        )
    told = monitor.get("/api/v1/status").json()
    assert told["queue"] == {str(state): 1 for state in State}
    assert told["oldest_waiting_at"] == "2026-11-20T10:10:00.000Z"
    assert told["healthy"] is False
    assert any("KSeF nie odpowiada" in problem for problem in told["problems"])
    assert told["certificate"] is None


def test_the_certificate_is_what_the_worker_says_of_it(monitor: Till, site: Site, clock: Clock, working: None) -> None:
    with site.database.transaction() as tx:
        facts.put(
            tx,
            "certificates",
            [
                {"purpose": "offline", "status": "połączenie aktywne", "days_left": 100, "subject": "B"},
                {
                    "purpose": "auth",
                    "status": "wygasł",
                    "days_left": -1,
                    "subject": "A",
                    "problem": "Certyfikat wygasł.",
                },
            ],
            at=clock(),
        )
    told = monitor.get("/api/v1/status").json()
    assert told["certificate"] == {"subject": "A", "expires_at": None, "days_left": -1, "problem": "Certyfikat wygasł."}
    assert told["problems"] == ["Certyfikat wygasł."]


def test_webhooks_that_cannot_be_delivered_are_a_problem(
    monitor: Till, site: Site, clock: Clock, working: None
) -> None:
    with site.database.transaction() as tx:
        arrival(tx, document_in(tx, State.QUEUED), callback_url="http://erp/?token=abc")
        due = webhooks.due(tx, "http://erp:80", clock())
        assert due is not None
        webhooks.not_told(tx, due, error="http://erp:80: odmówił (HTTP 500)", since=clock(), again_at=clock())
    told = monitor.get("/api/v1/status").json()
    assert told["webhooks"] == {
        "due": 1,
        "failing": 1,
        "given_up": 0,
        "last_error": "http://erp:80: odmówił (HTTP 500)",
    }
    assert any("webhook" in problem for problem in told["problems"])
    assert "token" not in json.dumps(told)


def test_status_has_the_keys_of_the_command(monitor: Till, site: Site, run: Run) -> None:
    path = site.config.data_dir.parent / "config.toml"
    by_command = json.loads(run("--config", str(path), "status", "--json").out)
    by_api = monitor.get("/api/v1/status").json()
    assert by_api.keys() == by_command.keys()
    moving = {"certificate"}
    assert {key: by_api[key] for key in by_api.keys() - moving} == {
        key: by_command[key] for key in by_command.keys() - moving
    }


# Health


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
def test_a_working_buffer_is_alive_and_ready(client: httpx.Client, working: None, prefix: str) -> None:
    assert client.get(f"{prefix}/health/live").json() == {"status": "alive"}
    ready = client.get(f"{prefix}/health/ready")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})


def test_without_a_worker_it_is_alive_but_not_ready(client: httpx.Client) -> None:
    assert client.get("/health/live").status_code == 200
    told = is_problem(client.get("/health/ready"), 503, "not-ready")
    assert told["reasons"] == ["Bufor nie pracuje (uruchom: ksefbuffer run)."]


def test_a_full_disk_is_not_ready(client: httpx.Client, working: None, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=199_000_000))
    told = is_problem(client.get("/health/ready"), 503, "not-ready")
    assert "199 MB" in told["reasons"][0]


def test_an_older_database_is_not_ready(client: httpx.Client, site: Site, working: None) -> None:
    with site.database.transaction() as tx:
        tx.exec_driver_sql("UPDATE alembic_version SET version_num = '0005'")
    told = is_problem(client.get("/health/ready"), 503, "not-ready")
    assert "ksefbuffer db upgrade" in told["reasons"][0]
    assert client.get("/health/live").status_code == 200


# Metrics


def test_the_figures_are_those_of_the_buffer(client: httpx.Client, site: Site, clock: Clock, working: None) -> None:
    now = clock()
    with site.database.transaction() as tx:
        for state in (State.QUEUED, State.QUEUED, State.FAILED, State.SENT):
            document_in(tx, state, at=now - timedelta(seconds=90))
        late = document_in(tx, State.QUEUED)
        documents.change(tx, late.id, offline_mode="offline24", offline_deadline=now + timedelta(hours=5))
        gone = document_in(tx, State.CANCELLED)
        documents.change(tx, gone.id, offline_mode="offline24", offline_deadline=now + timedelta(hours=1))
        put(tx, folder="nieprzypisane")
        put(tx, folder="nieprzypisane")
        put(tx)
        used = {
            "minute": 3,
            "per_minute": 30,
            "hour": 40,
            "per_hour": 180,
            "blocked_until": None,
            "foreign_since": None,
        }
        facts.put(tx, "limits", {"invoiceSend": used}, at=now)
        facts.put(tx, "ksef", {"ok": True, "message": ""}, at=now)
        subject = {"subject": "buyer", "problem": None, "caught_up_at": (now - timedelta(minutes=10)).isoformat()}
        facts.put(tx, "pull", {"subjects": [subject]}, at=now)
        facts.put(tx, "certificates", [{"purpose": "auth", "days_left": 41, "subject": "A"}], at=now)
        pauses.pause(tx, "ksef", at=now, until=now + timedelta(seconds=30), code="x", message="x", action="")
        pauses.pause(tx, "restored", at=now, until=pauses.UNTIL_DONE, code="x", message="x", action="")
    expected = {
        "documents{state=queued}": 3,
        "documents{state=failed}": 1,
        "documents{state=sent}": 1,
        "documents{state=cancelled}": 1,
        "documents{state=error}": 0,
        "oldest_waiting_seconds": 90,
        "next_deadline_minutes": 300,
        "offline_unsent": 1,
        "ksef_available": 1,
        "ksef_calls{group=invoiceSend,window=hour}": 40,
        "ksef_limit_left{group=invoiceSend,window=minute}": 27,
        "ksef_limit_left{group=invoiceSend,window=hour}": 140,
        "pause_seconds{scope=ksef}": 30,
        "pause_seconds{scope=restored}": float("inf"),
        "last_pull_age_seconds": 600,
        "certificate_days{purpose=auth}": 41,
        "incoming_unassigned": 2,
        "incoming_files_due": 3,
        "webhooks_failing": 0,
        "answers_failing": 0,
        "worker_up": 1,
    }
    found = figures(client)
    assert {name: found.get(name) for name in expected} == expected
    assert found["disk_free_bytes"] > 0
    assert figures(client, "/api/v1/metrics").keys() == found.keys()


def test_figures_say_nothing_of_invoices_or_of_whose_they_are(client: httpx.Client, site: Site) -> None:
    with site.database.transaction() as tx:
        document = document_in(tx, State.SENT)
    text = client.get("/metrics").text
    assert site.config.nip not in text
    assert document.invoice_number not in text


def test_many_scrapes_are_one_look_at_the_database(
    client: httpx.Client, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ksefbuffer.web import metrics

    looks: list[Any] = []
    real = metrics._figures
    monkeypatch.setattr(metrics, "_figures", lambda *given: looks.append(given) or real(*given))
    for _ in range(5):
        assert client.get("/metrics").status_code == 200
    assert len(looks) == 1
    clock.forward(6)
    client.get("/metrics")
    assert len(looks) == 2


# OpenAPI


def test_openapi_tells_of_the_api_and_of_nothing_else(client: httpx.Client) -> None:
    told = client.get("/api/openapi.json").json()
    assert {path for path in told["paths"] if not path.startswith("/api/v1/")} == {
        "/health/live",
        "/health/ready",
        "/metrics",
    }
    assert told["components"]["securitySchemes"]["klucz"]["scheme"] == "bearer"
    refs = set(_refs(told))
    assert {ref for ref in refs if _at(told, ref) is None} == set()
    for path, operations in told["paths"].items():
        for method, operation in operations.items():
            open_to_all = path.endswith(("/live", "/ready", "/metrics"))
            assert bool(operation.get("security")) != open_to_all, (method, path)
            assert operation["summary"]
            assert open_to_all or {"401", "403", "429", "503"} <= operation["responses"].keys(), (method, path)
            for status, response in operation["responses"].items():
                if status >= "400":
                    assert list(response["content"]) == ["application/problem+json"], (method, path, status)


def _refs(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from _refs(value)
    elif isinstance(node, list):
        for value in node:
            yield from _refs(value)


def _at(told: Any, ref: str) -> Any:
    for part in ref.removeprefix("#/").split("/"):
        told = told.get(part) if isinstance(told, dict) else None
    return told
