"""Packages of ours, taken by the project's strict KSeF, which shares no code with us."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ksefbuffer.errors import (
    CallFault,
    NotTaken,
    OutcomeUnknown,
    RateLimited,
    Refused,
    SessionUnusable,
    Unavailable,
)
from ksefbuffer.invoice.forms import FA3
from ksefbuffer.ksef.auth import TokenLogin
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.limits import LIMITS, Limiter
from ksefbuffer.ksef.packages import Package, build_package
from ksefbuffer.ksef.shapes import BatchSession, SessionStatus
from ksefbuffer.ksef.statuses import Verdict, invoice_verdict, session_final
from ksefbuffer.ksef.upo import check_upo
from ksefbuffer.sandbox import Fault, Sandbox
from tests import samples
from tests.ksef.fake import Clock

NIP = samples.NIP


@pytest.fixture
def clock() -> Clock:
    return Clock(samples.NOW)


@pytest.fixture
def sandbox(clock: Clock) -> Iterator[Sandbox]:
    sandbox = Sandbox(clock=clock, latency_s=0.2, limits="production", seed=1)
    yield sandbox
    sandbox.close()


@pytest.fixture
def ksef(sandbox: Sandbox, clock: Clock) -> Iterator[Ksef]:
    ksef = Ksef(
        base_url=sandbox.base_url,
        context_nip=NIP,
        login=TokenLogin(sandbox.issue_token(NIP)),
        limiter=Limiter(),
        clock=clock,
        sleep=clock.sleep,
        transport=sandbox.transport(),
    )
    yield ksef
    ksef.close()


def packed(ksef: Ksef, folder: Path, contents: list[bytes], **options: object) -> Package:
    invoices = [(hashlib.sha256(content).hexdigest(), content) for content in contents]
    return build_package(invoices, folder, ksef.new_batch_key(), **options)  # type: ignore[arg-type]


def uploaded(ksef: Ksef, package: Package) -> BatchSession:
    session = ksef.open_batch(FA3, package, package.key)
    for upload, part in zip(session.uploads, package.parts, strict=True):
        ksef.upload_part(upload, part)
    return session


def ended(ksef: Ksef, clock: Clock, reference: str) -> SessionStatus:
    for _ in range(60):
        status = ksef.session(reference)
        if session_final(status.code):
            return status
        clock.sleep(1)
    raise AssertionError("never ended")


@pytest.mark.parametrize("compression", ["TarGz", "Zip"])
def test_the_whole_way_of_a_package(
    sandbox: Sandbox, clock: Clock, ksef: Ksef, tmp_path: Path, compression: str
) -> None:
    contents = [samples.invoice(number=f"FV/{n}") for n in range(1, 25)]
    contents.append(samples.invoice(number="FV/1").replace(b"</Faktura>", b"\n</Faktura>"))
    contents.append(b"<Faktura/>")
    package = packed(ksef, tmp_path, contents, compression=compression, part_bytes=700)
    assert len(package.parts) > 3
    session = uploaded(ksef, package)
    assert list(ksef.invoices(session.reference)) == []
    assert [(listed.reference, listed.code) for listed in ksef.own_sessions(kind="Batch", since=samples.NOW)] == [
        (session.reference, 100)
    ]
    ksef.close_batch(session.reference)
    ksef.close_batch(session.reference)
    end = ended(ksef, clock, session.reference)
    assert (end.code, end.invoice_count, end.successful_count, end.failed_count) == (200, 26, 24, 2)

    results = {status.sha256_hex: status for status in ksef.invoices(session.reference)}
    assert {status.file_name: sha for sha, status in results.items()} == dict(package.names)
    verdicts = [invoice_verdict(results[hashlib.sha256(content).hexdigest()].code) for content in contents]
    assert verdicts == [Verdict.ACCEPTED] * 24 + [Verdict.DUPLICATE, Verdict.REFUSED]
    failed = {status.sha256_hex for status in ksef.failed_invoices(session.reference)}
    assert failed == {hashlib.sha256(content).hexdigest() for content in contents[-2:]}

    first = results[hashlib.sha256(contents[0]).hexdigest()]
    expected = {
        "sha256_hex": first.sha256_hex,
        "ksef_number": first.ksef_number,
        "session_reference": session.reference,
        "context_nip": NIP,
        "invoice_number": "FV/1",
        "seller_nip": NIP,
    }
    assert check_upo(ksef.upo_by_link(first.upo_link), **expected) == []
    assert check_upo(ksef.invoice_upo(session.reference, ksef_number=first.ksef_number), **expected) == []
    [page] = end.upo_pages
    assert ksef.session_upo(session.reference, page.reference) == ksef.upo_by_link(page.link)
    assert [listed.total for listed in ksef.own_sessions(kind="Batch", since=samples.NOW)] == [26]
    assert list(ksef.own_sessions(kind="Batch", since=clock() + timedelta(hours=1))) == []
    assert list(ksef.own_sessions(kind="Online", since=samples.NOW)) == []
    assert sandbox.deviations == []


def test_what_is_not_closed_is_not_handed_in(sandbox: Sandbox, clock: Clock, ksef: Ksef, tmp_path: Path) -> None:
    session = uploaded(ksef, packed(ksef, tmp_path, [samples.invoice()]))
    clock.sleep(13 * 3600)
    assert ksef.session(session.reference).code == 440
    assert sandbox.invoices() == []


def test_links_that_expired_are_said_to_have(sandbox: Sandbox, clock: Clock, ksef: Ksef, tmp_path: Path) -> None:
    package = packed(ksef, tmp_path, [samples.invoice()])
    session = ksef.open_batch(FA3, package, package.key)
    clock.now = session.upload_until + timedelta(minutes=1)
    with pytest.raises(Refused):
        ksef.upload_part(session.uploads[0], package.parts[0])


def test_a_part_never_sent_holds_up_the_close(sandbox: Sandbox, clock: Clock, ksef: Ksef, tmp_path: Path) -> None:
    package = packed(ksef, tmp_path, [samples.invoice(number=f"FV/{n}") for n in range(9)], part_bytes=1000)
    session = ksef.open_batch(FA3, package, package.key)
    for upload, part in list(zip(session.uploads, package.parts, strict=True))[1:]:
        ksef.upload_part(upload, part)
    with pytest.raises(Unavailable) as caught:
        ksef.close_batch(session.reference)
    assert caught.value.code == "21205"
    ksef.upload_part(session.uploads[0], package.parts[0])
    ksef.close_batch(session.reference)
    assert ended(ksef, clock, session.reference).successful_count == 9


@pytest.mark.parametrize(("kind", "times"), [("storage_lag", 3), ("session_unknown", 2)])
def test_passing_troubles_of_a_close_pass(
    sandbox: Sandbox, clock: Clock, ksef: Ksef, tmp_path: Path, kind: str, times: int
) -> None:
    session = uploaded(ksef, packed(ksef, tmp_path, [samples.invoice()]))
    sandbox.faults.add(Fault(operation="closeBatch", kind=kind, times=times))
    ksef.close_batch(session.reference)
    assert ended(ksef, clock, session.reference).code == 200
    assert sandbox.calls["closeBatch"] == times + 1


@pytest.mark.parametrize(
    ("kind", "settings", "known", "taken"),
    [
        ("cut_before", {}, OutcomeUnknown, 0),
        ("cut_after", {}, OutcomeUnknown, 1),
        ("html", {}, OutcomeUnknown, 0),
        ("status", {"status": 500}, OutcomeUnknown, 0),
        ("status_after", {"status": 502}, OutcomeUnknown, 1),
        ("status_after", {"status": 504}, OutcomeUnknown, 1),
        ("status", {"status": 429, "retry_after": 9}, RateLimited, 0),
    ],
)
def test_what_we_say_of_a_troubled_close_agrees_with_what_ksef_has(
    sandbox: Sandbox,
    clock: Clock,
    ksef: Ksef,
    tmp_path: Path,
    kind: str,
    settings: dict[str, int],
    known: type[CallFault],
    taken: int,
) -> None:
    session = uploaded(ksef, packed(ksef, tmp_path, [samples.invoice()]))
    sandbox.faults.add(Fault(operation="closeBatch", kind=kind, **settings))  # type: ignore[arg-type]
    with pytest.raises(CallFault) as caught:
        ksef.close_batch(session.reference)
    assert type(caught.value) is known
    clock.sleep(60)
    assert (ksef.session(session.reference).code != 100) == bool(taken)
    assert not (taken and isinstance(caught.value, NotTaken))
    # Closing again is right in either case.
    ksef.close_batch(session.reference)
    assert ended(ksef, clock, session.reference).successful_count == 1
    assert len(sandbox.accepted()) == 1


@pytest.mark.parametrize("kind", ["html", "cut_before", "cut_after", "status", "status_after"])
def test_a_part_outlives_any_one_trouble(sandbox: Sandbox, clock: Clock, ksef: Ksef, tmp_path: Path, kind: str) -> None:
    sandbox.faults.add(Fault(operation="uploadPart", kind=kind, times=2))
    session = uploaded(ksef, packed(ksef, tmp_path, [samples.invoice()]))
    ksef.close_batch(session.reference)
    assert ended(ksef, clock, session.reference).code == 200
    assert sandbox.deviations == []


@pytest.mark.parametrize("code", [405, 415, 420, 430, 435, 440, 445, 500])
def test_after_the_close_of_a_session_that_failed_its_status_tells(
    sandbox: Sandbox, clock: Clock, ksef: Ksef, tmp_path: Path, code: int
) -> None:
    session = uploaded(ksef, packed(ksef, tmp_path, [samples.invoice()]))
    sandbox.faults.add(Fault(operation="closeBatch", kind="session_status", code=code))
    with contextlib.suppress(SessionUnusable):
        ksef.close_batch(session.reference)
    assert ended(ksef, clock, session.reference).code == code
    assert sandbox.accepted() == []


def test_rotated_keys_are_noticed_when_a_batch_is_opened(
    sandbox: Sandbox, clock: Clock, ksef: Ksef, tmp_path: Path
) -> None:
    ksef.open_session(FA3)
    sandbox.rotate_keys()
    session = uploaded(ksef, packed(ksef, tmp_path, [samples.invoice()]))
    ksef.close_batch(session.reference)
    assert ended(ksef, clock, session.reference).code == 200
    assert sandbox.calls["openBatch"] == 2


def test_limits_as_ksef_tells_them(sandbox: Sandbox, ksef: Ksef) -> None:
    told = ksef.rate_limits()
    assert {group: told[group] for group in LIMITS} == dict(LIMITS)
    assert ksef.session_limits()["batchSession"].invoices == 10_000


@pytest.mark.parametrize("share", [1.0, 0.9])
def test_batches_as_fast_as_allowed_are_never_refused(
    sandbox: Sandbox, clock: Clock, ksef: Ksef, tmp_path: Path, share: float
) -> None:
    package = packed(ksef, tmp_path, [samples.invoice()])
    opened = 0
    refusals: list[RateLimited] = []
    while opened < 65:
        try:
            ksef.open_batch(FA3, package, package.key, share=share)
            opened += 1
        except RateLimited as limited:
            refusals.append(limited)
            clock.sleep(limited.retry_after_s or 0)
    assert {limited.http_status for limited in refusals} == {None}, "refused by our own count, never by KSeF"
    assert sandbox.calls["openBatch"] == 65
    took = clock() - samples.NOW
    assert timedelta(hours=1) < took < timedelta(hours=1, minutes=5)
