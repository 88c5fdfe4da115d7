"""The buffer's figures for Prometheus, read from the database at most every few seconds, whoever asks."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from prometheus_client.core import CollectorRegistry, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from ksefbuffer.queue import facts, overview, pauses, watched, webhooks
from ksefbuffer.queue.db import worker_is_running
from ksefbuffer.queue.overview import Overview
from ksefbuffer.queue.watched import Watched
from ksefbuffer.queue.webhooks import Standing
from ksefbuffer.web.site import Site

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_KEPT = timedelta(seconds=5)
_MINUTE = 60


@dataclass
class _Kept:
    text: bytes = b""
    at: datetime | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


_lock = threading.Lock()


def scrape(site: Site, state: Any) -> bytes:
    """The text for Prometheus, at most five seconds old. ``state``: the application's, where it is kept.

    Raises StorageFault.
    """
    with _lock:
        if not hasattr(state, "metrics"):
            state.metrics = _Kept()
    kept: _Kept = state.metrics
    # One reads, the others wait for it: nobody can make the database count a million rows as often as they like.
    with kept.lock:
        now = site.clock()
        if kept.at is None or not timedelta() <= now - kept.at < _KEPT:
            kept.text, kept.at = _figures(site, now), now
        return kept.text


def _figures(site: Site, now: datetime) -> bytes:
    with site.database.reading() as tx:
        seen = overview.overview(tx, now)
        undelivered = webhooks.standing(tx)
        more = watched.watched(tx)
        certificates = facts.get(tx, "certificates")
    families = [
        *_documents(seen, more, now),
        *_ksef(seen, now),
        *_answers(seen, undelivered),
        *_incoming(seen, more, now),
        *_certificates(certificates[0] if certificates else None),
        *_machine(site),
    ]
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Given(families))
    return generate_latest(registry)


class _Given(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families

    def describe(self) -> Iterable[Metric]:
        return ()


def _one(name: str, what: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"ksefbuffer_{name}", what, value=value)


def _by(name: str, what: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    family = GaugeMetricFamily(f"ksefbuffer_{name}", what, labels=labels)
    for key, value in values:
        family.add_metric(key, value)
    return family


def _age(moment: datetime, now: datetime) -> float:
    return max(0.0, (now - moment).total_seconds())


def _documents(seen: Overview, more: Watched, now: datetime) -> Iterator[Metric]:
    states = (((state,), float(count)) for state, count in seen.counts.items())
    yield _by("documents", "Outgoing documents by state.", ("state",), states)
    oldest = _age(seen.oldest_waiting, now) if seen.oldest_waiting else 0.0
    yield _one("oldest_waiting_seconds", "Age of the oldest document without a verdict; 0: none waits.", oldest)
    yield _one("stuck_documents", "Documents that KSeF has had for long without a verdict.", seen.stuck)
    yield _one("upo_waiting", "Sent documents whose UPO is still to be fetched.", seen.upos_due)
    yield _one("offline_unsent", "Documents issued offline that have no KSeF number yet.", more.offline_unsent)
    if more.next_deadline is not None:
        minutes = (more.next_deadline - now).total_seconds() / _MINUTE
        yield _one(
            "next_deadline_minutes", "Until the next term of a document issued offline; negative: past.", minutes
        )


def _ksef(seen: Overview, now: datetime) -> Iterator[Metric]:
    if seen.ksef is not None:
        yield _one("ksef_available", "Whether KSeF answered when last asked.", float(bool(seen.ksef[0]["ok"])))
    groups: dict[str, Any] = seen.limits[0] if seen.limits else {}
    used: list[tuple[tuple[str, ...], float]] = []
    left: list[tuple[tuple[str, ...], float]] = []
    for group, usage in sorted(groups.items()):
        for window in ("minute", "hour"):
            limit = usage[f"per_{window}"]
            used.append(((group, window), float(usage[window])))
            if limit > 0:
                left.append(((group, window), float(max(0, limit - usage[window]))))
    yield _by("ksef_calls", "Calls to KSeF in the last minute and hour.", ("group", "window"), used)
    yield _by("ksef_limit_left", "Calls that KSeF's limits still allow.", ("group", "window"), left)
    blocked = sum(1 for usage in groups.values() if usage.get("blocked_until"))
    yield _one("ksef_refusing_groups", "Groups of calls that KSeF has refused for a while (429).", blocked)
    held = (
        ((p.scope,), float("inf") if p.until >= pauses.UNTIL_DONE else max(0.0, (p.until - now).total_seconds()))
        for p in seen.pauses
        if p.until > now
    )
    yield _by("pause_seconds", "What holds the sender back, and for how long.", ("scope",), held)


def _answers(seen: Overview, undelivered: Standing) -> Iterator[Metric]:
    yield _one("answers_due", "Answers still to be delivered.", seen.answers_due)
    yield _one("answers_failing", "Answers that could not be delivered so far.", seen.answers_failing)
    yield _one("webhooks_due", "Webhooks still to be delivered.", undelivered.due)
    yield _one("webhooks_failing", "Webhooks that could not be delivered so far.", undelivered.failing)
    yield _one("webhooks_given_up", "Webhooks given up after three days.", undelivered.given_up)


def _incoming(seen: Overview, more: Watched, now: datetime) -> Iterator[Metric]:
    yield _one("incoming_files_due", "Received invoices whose files are still to be written.", seen.files_due)
    yield _one("incoming_unassigned", "Received invoices that no rule gave a folder, up to 10,000.", more.unassigned)
    subjects = seen.pull[0]["subjects"] if seen.pull else []
    caught_up = [one["caught_up_at"] for one in subjects]
    if caught_up and all(caught_up):
        last = datetime.fromisoformat(min(caught_up))
        yield _one("last_pull_age_seconds", "Since pulling was last up to date.", _age(last, now))
    troubled = sum(1 for one in subjects if one.get("problem"))
    yield _one("pull_problems", "Roles whose invoices cannot be pulled now.", troubled)


def _certificates(told: Any) -> Iterator[Metric]:
    days = [
        ((str(one.get("purpose")),), float(one["days_left"]))
        for one in (told if isinstance(told, list) else ())
        if isinstance(one, dict) and isinstance(one.get("days_left"), int)
    ]
    yield _by("certificate_days", "Days until a KSeF certificate ends.", ("purpose",), days)


def _machine(site: Site) -> Iterator[Metric]:
    yield _one("worker_up", "Whether the worker runs.", float(worker_is_running(site.database)))
    try:
        free = shutil.disk_usage(site.config.data_dir).free
    except OSError:
        return
    yield _one("disk_free_bytes", "Free space where the buffer keeps its data.", free)
