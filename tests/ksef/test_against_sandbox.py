"""Our client against the project's strict KSeF, which shares no code with it: two readings of the same documents."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ksefbuffer.errors import (
    Blocked,
    CallFault,
    NotTaken,
    OutcomeUnknown,
    RateLimited,
    SessionUnusable,
    Unauthorised,
)
from ksefbuffer.identity.material import load_credential
from ksefbuffer.identity.selfsigned import make_selfsigned
from ksefbuffer.invoice.forms import FA3
from ksefbuffer.ksef.auth import CertificateLogin, Login, TokenLogin
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.limits import Limiter
from ksefbuffer.ksef.shapes import InvoiceStatus
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


def client(sandbox: Sandbox, clock: Clock, login: Login | None = None, limiter: Limiter | None = None) -> Ksef:
    return Ksef(
        base_url=sandbox.base_url,
        context_nip=NIP,
        login=login or TokenLogin(sandbox.issue_token(NIP)),
        limiter=limiter or Limiter(),
        clock=clock,
        sleep=clock.sleep,
        transport=sandbox.transport(),
    )


@pytest.fixture
def ksef(sandbox: Sandbox, clock: Clock) -> Iterator[Ksef]:
    ksef = client(sandbox, clock)
    yield ksef
    ksef.close()


def certificate_login(tmp_path: Path, clock: Clock, kind: str, key: str, nip: str = NIP) -> CertificateLogin:
    certificate, private = make_selfsigned(nip, now=clock(), kind=kind, key=key)  # type: ignore[arg-type]
    (tmp_path / "c").write_bytes(certificate)
    (tmp_path / "k").write_bytes(private)
    return CertificateLogin(
        load_credential(certificate=tmp_path / "c", private_key=tmp_path / "k", pkcs12=None, password=None)
    )


def settled(ksef: Ksef, clock: Clock, session: str, reference: str) -> InvoiceStatus:
    for _ in range(20):
        status = ksef.invoice(session, reference)
        if invoice_verdict(status.code) is not Verdict.PENDING:
            return status
        clock.sleep(0.5)
    raise AssertionError("never settled")


@pytest.mark.parametrize("kind", ["seal", "person"])
@pytest.mark.parametrize("key", ["ec", "rsa"])
def test_login_by_certificate(sandbox: Sandbox, clock: Clock, tmp_path: Path, kind: str, key: str) -> None:
    ksef = client(sandbox, clock, certificate_login(tmp_path, clock, kind, key))
    ksef.login_now()
    assert ksef.rate_limits()["invoiceSend"].per_hour == 180
    assert sandbox.deviations == []


def test_a_strangers_certificate_has_no_rights_here(sandbox: Sandbox, clock: Clock, tmp_path: Path) -> None:
    ksef = client(sandbox, clock, certificate_login(tmp_path, clock, "seal", "ec", nip="5260250274"))
    with pytest.raises(Unauthorised) as caught:
        ksef.login_now()
    assert caught.value.code == "415"


def test_a_wrong_token_is_refused_for_good(sandbox: Sandbox, clock: Clock) -> None:
    with pytest.raises(Unauthorised) as caught:
        client(sandbox, clock, TokenLogin("20261120-EC-AAAAAAAAAA-BBBBBBBBBB-CC|nip-5265877635|abc")).login_now()
    assert caught.value.code == "450"
    assert sandbox.calls["loginToken"] == 1


def test_the_whole_way_of_an_invoice(sandbox: Sandbox, clock: Clock, ksef: Ksef) -> None:
    content = samples.invoice(number="FV/ŻÓŁĆ/1")
    digest = hashlib.sha256(content).hexdigest()
    session = ksef.open_session(FA3)
    reference = ksef.send(session, content)
    status = settled(ksef, clock, session.reference, reference)
    assert invoice_verdict(status.code) is Verdict.ACCEPTED
    assert status.sha256_hex == digest
    assert status.accepted_at is not None

    ksef.close_session(session.reference)
    ksef.close_session(session.reference)
    while not session_final((end := ksef.session(session.reference)).code):
        clock.sleep(1)
    assert (end.code, end.successful_count, end.failed_count) == (200, 1, 0)

    expected = {
        "sha256_hex": digest,
        "ksef_number": status.ksef_number,
        "session_reference": session.reference,
        "context_nip": NIP,
        "invoice_number": "FV/ŻÓŁĆ/1",
        "seller_nip": NIP,
    }
    upo = ksef.upo_by_link(status.upo_link)
    assert check_upo(upo, **expected) == []
    assert check_upo(upo.replace(b">Online<", b">Offline<"), **expected) != []
    assert check_upo(ksef.invoice_upo(session.reference, invoice_reference=reference), **expected) == []
    assert check_upo(ksef.invoice_upo(session.reference, ksef_number=status.ksef_number), **expected) == []
    [page] = end.upo_pages
    assert check_upo(ksef.session_upo(session.reference, page.reference), **expected) == []
    assert check_upo(ksef.upo_by_link(page.link), **expected) == []

    assert ksef.download(status.ksef_number) == content
    [found] = ksef.find(ksef_number=status.ksef_number)
    assert (found.sha256_hex, found.invoice_number) == (digest, "FV/ŻÓŁĆ/1")
    assert ksef.find(invoice_number="FV/ŻÓŁĆ/1", seller_nip=NIP, issue_date=samples.ISSUE_DATE) == [found]
    with pytest.raises(SessionUnusable):
        ksef.send(session, samples.invoice(number="FV/2"))
    assert sandbox.deviations == []


def test_a_duplicate_leads_to_its_original(sandbox: Sandbox, clock: Clock, ksef: Ksef) -> None:
    session = ksef.open_session(FA3)
    first = settled(ksef, clock, session.reference, ksef.send(session, samples.invoice(number="FV/1")))
    other = samples.invoice(number="FV/1").replace(b"</Faktura>", b"\n</Faktura>")
    second = settled(ksef, clock, session.reference, ksef.send(session, other))
    assert invoice_verdict(second.code) is Verdict.DUPLICATE
    assert second.original_ksef_number == first.ksef_number
    assert second.original_session == session.reference
    assert [one.sha256_hex for one in ksef.invoices(session.reference)] == [first.sha256_hex, second.sha256_hex]


def test_every_invoice_of_a_session_is_listed(sandbox: Sandbox, clock: Clock, ksef: Ksef) -> None:
    session = ksef.open_session(FA3)
    contents = [samples.invoice(number=f"FV/{n}") for n in range(12)]
    references = [ksef.send(session, content) for content in contents]
    listed = list(ksef.invoices(session.reference))
    assert [one.reference for one in listed] == references
    assert [one.sha256_hex for one in listed] == [hashlib.sha256(content).hexdigest() for content in contents]


def test_rotated_keys_are_noticed_and_replaced(sandbox: Sandbox, clock: Clock, ksef: Ksef) -> None:
    ksef.open_session(FA3)
    sandbox.rotate_keys()
    session = ksef.open_session(FA3)
    status = settled(ksef, clock, session.reference, ksef.send(session, samples.invoice()))
    assert status.code == 200
    assert sandbox.calls["publicKeys"] == 2


def test_expired_access_is_renewed_within_a_send(sandbox: Sandbox, clock: Clock, ksef: Ksef) -> None:
    session = ksef.open_session(FA3)
    sandbox.expire_tokens()
    ksef.send(session, samples.invoice(number="FV/1"))
    assert sandbox.calls["refreshToken"] == 1
    sandbox.expire_tokens(refresh=True)
    ksef.send(session, samples.invoice(number="FV/2"))
    clock.now += timedelta(hours=3)
    ksef.send(session, samples.invoice(number="FV/3"))
    assert len(sandbox.invoices()) == 3
    assert sandbox.deviations == []


@pytest.mark.parametrize(
    ("kind", "settings", "known", "taken"),
    [
        ("cut_before", {}, OutcomeUnknown, 0),
        ("cut_after", {}, OutcomeUnknown, 1),
        ("cut_body", {}, OutcomeUnknown, 1),
        ("empty", {}, OutcomeUnknown, 1),
        ("html", {}, OutcomeUnknown, 0),
        ("html_403", {}, Blocked, 0),
        ("status", {"status": 500}, OutcomeUnknown, 0),
        ("status_after", {"status": 502}, OutcomeUnknown, 1),
        ("status_after", {"status": 504}, OutcomeUnknown, 1),
        ("status", {"status": 429, "retry_after": 9}, RateLimited, 0),
    ],
)
def test_what_we_say_of_a_troubled_send_agrees_with_what_ksef_has(
    sandbox: Sandbox, ksef: Ksef, kind: str, settings: dict[str, int], known: type[CallFault], taken: int
) -> None:
    session = ksef.open_session(FA3)
    sandbox.faults.add(Fault(operation="sendInvoice", kind=kind, **settings))  # type: ignore[arg-type]
    with pytest.raises(CallFault) as caught:
        ksef.send(session, samples.invoice())
    assert type(caught.value) is known
    assert len(sandbox.invoices()) == taken
    assert not (taken and isinstance(caught.value, NotTaken))
    assert sandbox.calls["sendInvoice"] == 1


@pytest.mark.parametrize("kind", ["cut_before", "cut_after", "cut_body", "empty", "html"])
@pytest.mark.parametrize("operation", ["challenge", "loginToken", "loginStatus", "redeemTokens", "publicKeys"])
def test_a_login_outlives_any_one_trouble(sandbox: Sandbox, ksef: Ksef, operation: str, kind: str) -> None:
    sandbox.faults.add(Fault(operation=operation, kind=kind))
    ksef.login_now()
    assert ksef.open_session(FA3).reference


@pytest.mark.parametrize("kind", ["cut_before", "cut_after", "html", "status", "status_after"])
@pytest.mark.parametrize(
    "operation", ["sessionStatus", "sessionInvoices", "invoiceStatus", "downloadUpo", "closeSession"]
)
def test_a_read_and_a_close_outlive_any_one_trouble(
    sandbox: Sandbox, clock: Clock, ksef: Ksef, operation: str, kind: str
) -> None:
    session = ksef.open_session(FA3)
    reference = ksef.send(session, samples.invoice())
    sandbox.faults.add(Fault(operation=operation, kind=kind, times=2))
    status = settled(ksef, clock, session.reference, reference)
    assert ksef.upo_by_link(status.upo_link)
    assert len(list(ksef.invoices(session.reference))) == 1
    ksef.close_session(session.reference)
    assert ksef.session(session.reference).code != 100
    assert len(sandbox.invoices()) == 1


@pytest.mark.parametrize("style", ["refused", "503", "html", "timeout"])
def test_an_outage_is_seen_and_its_end_too(sandbox: Sandbox, clock: Clock, ksef: Ksef, style: str) -> None:
    session = ksef.open_session(FA3)
    sandbox.outage(style=style)
    assert ksef.reachable() is False
    with pytest.raises(CallFault):
        ksef.send(session, samples.invoice())
    assert sandbox.invoices() == []
    sandbox.stop_outage()
    assert ksef.reachable() is True
    ksef.send(session, samples.invoice())


def test_our_own_count_keeps_us_within_ksefs_limits(sandbox: Sandbox, clock: Clock, ksef: Ksef) -> None:
    """Two hundred sends as fast as allowed: KSeF never has to refuse one."""
    session = ksef.open_session(FA3)
    content = samples.invoice()
    refusals: list[RateLimited] = []
    sent = 0
    while sent < 200:
        try:
            ksef.send(session, content)
            sent += 1
        except RateLimited as limited:
            refusals.append(limited)
            clock.sleep(limited.retry_after_s or 0)
    assert {limited.http_status for limited in refusals} == {None}, "refused by our own count, never by KSeF"
    assert sandbox.calls["sendInvoice"] == 200
    assert (clock() - samples.NOW) > timedelta(hours=1)
