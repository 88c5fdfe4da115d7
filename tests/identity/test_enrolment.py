"""Getting certificates from KSeF and renewing them: the whole way, every bad answer, and death at every boundary."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ksefbuffer.errors import CredentialFault, NotAllowedNow, Refused, Unreachable
from ksefbuffer.identity.chosen import unsealed
from ksefbuffer.identity.enrolment import Enrolment
from ksefbuffer.identity.importing import bring_in
from ksefbuffer.identity.material import Credential, load_files
from ksefbuffer.identity.pacing import GIVE_UP_FINDING_AFTER, RENEW_AGAIN_AFTER, RENEW_BEFORE
from ksefbuffer.identity.recognition import facts_of
from ksefbuffer.identity.requests import new_key, request_for
from ksefbuffer.identity.revocation import revoke
from ksefbuffer.identity.vault import Vault
from ksefbuffer.ksef.auth import CertificateLogin, NoLogin
from ksefbuffer.queue import credentials
from ksefbuffer.queue.db import Database
from tests.identity.authority import certify
from tests.identity.conftest import Office
from tests.ksef.fake import START, problem

ENROL = "POST /certificates/enrollments"


@pytest.mark.parametrize("purpose", ["auth", "offline"])
@pytest.mark.parametrize("key", ["ec", "rsa"])
def test_a_certificate_of_either_kind_and_key_comes_and_is_used(office: Office, purpose, key) -> None:  # type: ignore[no-untyped-def]
    office.fake.slow = 3
    office.enrolment.start(purpose, key)
    assert office.active(purpose) is None
    office.work()

    row = office.active(purpose)
    assert row is not None
    assert row.serial == "01F20A5D352AE590"
    assert row.proven_at is not None
    credential = unsealed(row, office.vault)
    assert isinstance(credential.private_key, ec.EllipticCurvePrivateKey if key == "ec" else rsa.RSAPrivateKey)
    assert row.fingerprint == credential.sha256_hex
    if purpose == "auth":
        credential.check_login(office.clock())
        assert office.logins == [row.serial], "only a login proves it"
    else:
        credential.check_offline(office.clock())
    assert office.fake.count(ENROL) == 1
    body = json.loads(office.fake.last(ENROL).content)
    assert body["certificateType"] == {"auth": "Authentication", "offline": "Offline"}[purpose]
    assert body["certificateName"] == row.name


@pytest.mark.filterwarnings("ignore:Attribute's length must be")
def test_the_subject_is_copied_to_the_letter(office: Office) -> None:
    office.fake.subject = {
        "commonName": "Żółć " * 20,
        "countryName": "PL",
        "givenName": ["Łucja", "Zoë"],
        "surname": "Ćwik-Śnieg",
        "serialNumber": "TINPL-5265877635",
        "uniqueIdentifier": "d9d22724-4696-460c-9e5e-b9e3aafb0af3",
    }
    office.enrolment.start("auth")
    office.work()
    assert office.active("auth") is not None


def test_the_subjects_texts_have_the_types_of_the_official_example() -> None:
    subject = {"commonName": ("Ż",), "countryName": ("PL",), "serialNumber": ("X1",), "uniqueIdentifier": ("u",)}
    der = request_for(subject, new_key())
    assert bytes.fromhex("0603550403") + b"\x0c\x02" + "Ż".encode() in der, "UTF8String"
    assert bytes.fromhex("0603550406") + b"\x13\x02PL" in der, "PrintableString"
    assert bytes.fromhex("0603550405") + b"\x13\x02X1" in der, "PrintableString"
    assert bytes.fromhex("060355042d") + b"\x0c\x01u" in der, "UTF8String"


def test_a_field_that_is_unknown_is_not_left_out_in_silence() -> None:
    with pytest.raises(CredentialFault, match="pseudonym"):
        request_for({"commonName": ("A",), "countryName": ("PL",), "pseudonym": ("x",)}, new_key())


@pytest.mark.parametrize(
    ("requests", "certificates", "said"), [(0, 6, "limit wniosków"), (12, 0, "limit czynnych certyfikatów")]
)
def test_a_used_up_limit_is_told_of_before_anything_is_sent(
    office: Office, requests: int, certificates: int, said: str
) -> None:
    office.fake.requests_left, office.fake.certificates_left = requests, certificates
    with pytest.raises(NotAllowedNow, match=said) as caught:
        office.enrolment.start("auth")
    assert caught.value.action
    assert office.fake.count(ENROL) == 0
    assert office.rows() == []


def test_a_login_by_token_cannot_enrol_and_is_told_so(office: Office) -> None:
    office.fake.plan("GET /certificates/enrollments/data", problem(400, 25001))
    with pytest.raises(Refused) as caught:
        office.enrolment.start("auth")
    assert "nie tokenem" in caught.value.action
    assert office.rows() == []


def test_starting_twice_is_one_request(office: Office) -> None:
    first = office.enrolment.start("auth")
    assert office.enrolment.start("auth").id == first.id
    office.work()
    assert office.fake.count(ENROL) == 1


# --- unclear and bad answers


def test_a_lost_answer_is_resolved_by_name_and_costs_no_second_request(office: Office) -> None:
    office.fake.lose_answers = 1
    office.enrolment.start("auth")
    office.work(0.05)
    pending = office.pending("auth")
    assert pending is not None
    assert "nie składa drugiego wniosku" in (pending.note or "")

    office.fake.finish(next(iter(office.fake.enrolments)))
    office.work(24)
    assert office.active("auth") is not None
    assert office.fake.count(ENROL) == 1
    assert office.fake.requests_left == 11


@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_5xx_that_used_quota_is_never_answered_by_asking_again(office: Office, status: int) -> None:
    def taken(_: httpx.Request) -> httpx.Response:
        office.fake.requests_left -= 1
        return httpx.Response(status)

    office.fake.plan(ENROL, taken)
    office.enrolment.start("auth")
    office.work(GIVE_UP_FINDING_AFTER.total_seconds() / 3600 + 24)
    assert office.fake.count(ENROL) == 1
    (row,) = office.rows()
    assert row.state == "rejected"
    assert row.sealed_key is None
    assert "złóż nowy" in (row.note or "")
    assert office.fake.count("POST /certificates/query") < 60, "it asks ever more rarely"


def test_a_request_that_never_reached_ksef_is_sent_again_once_its_quota_proves_that(office: Office) -> None:
    office.fake.plan(ENROL, httpx.ReadTimeout("lost on the way there"))
    office.enrolment.start("auth")
    office.work(0.1)
    assert office.fake.count(ENROL) == 1, "a request may still be on its way for a while"
    office.work(1)
    assert office.active("auth") is not None
    assert office.fake.count(ENROL) == 2
    assert len(office.fake.enrolments) == 1


def test_while_one_request_is_unclear_no_other_blurs_the_count(office: Office) -> None:
    office.fake.lose_answers = 1
    office.enrolment.start("auth")
    office.enrolment.start("offline")
    office.work(48)
    assert len(office.fake.enrolments) == 1
    office.fake.finish(next(iter(office.fake.enrolments)))
    office.work(48)
    assert {row.purpose: row.state for row in office.rows()} == {"auth": "active", "offline": "active"}
    assert len(office.fake.enrolments) == 2


def test_anothers_certificate_of_a_similar_name_is_not_taken(office: Office) -> None:
    office.fake.lose_answers = 1
    mine = office.enrolment.start("auth")
    key = new_key()
    certificate = certify(key.public_key(), x509.Name([]), usage="digital_signature", serial=7, since=START)
    der = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()
    for serial, name in (("0000000000000007", mine.name + "x"), ("0000000000000008", "inny " + mine.name)):
        whole = {
            "certificate": der,
            "certificateName": name,
            "certificateSerialNumber": serial,
            "certificateType": "Authentication",
        }
        office.fake.issued[serial] = {"status": "Active", "whole": whole}
    office.work(1)
    assert office.pending("auth") is not None
    assert office.fake.count("POST /certificates/retrieve") == 0


@pytest.mark.parametrize(
    "answer",
    [
        problem(429),
        httpx.ConnectError("refused"),
        problem(403, reasonCode="missing-permissions"),
        httpx.Response(403, text="<html>Request blocked</html>"),
    ],
)
def test_what_ksef_provably_did_not_take_is_asked_again(office: Office, answer) -> None:  # type: ignore[no-untyped-def]
    office.fake.plan(ENROL, answer)
    office.enrolment.start("offline")
    office.work(3)
    assert office.active("offline") is not None
    assert office.fake.count(ENROL) == 2
    assert len(office.fake.enrolments) == 1


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("25002", "nie tokenem"),
        ("25003", "złóż wniosek jeszcze raz"),
        ("25006", "limit wniosków"),
        ("25007", "limit czynnych"),
        ("25010", "EC P-256"),
    ],
)
def test_a_refused_request_ends_with_its_reason_and_without_its_key(office: Office, code: str, said: str) -> None:
    office.fake.plan(ENROL, problem(400, code))
    office.enrolment.start("auth")
    office.work(48)
    (row,) = office.rows()
    assert (row.state, row.sealed_key) == ("rejected", None)
    assert said in (row.note or "")
    assert office.fake.count(ENROL) == 1


@pytest.mark.parametrize("code", [400, 500, 550])
def test_a_request_that_ksef_ends_without_a_certificate_is_not_repeated(office: Office, code: int) -> None:
    office.fake.verdicts.append((code, "Wniosek odrzucony"))
    office.enrolment.start("auth")
    office.work(48)
    (row,) = office.rows()
    assert row.state == "rejected"
    assert str(code) in (row.note or "")
    assert "Wniosek odrzucony: szczegół" in (row.note or "")
    assert office.fake.count(ENROL) == 1


def test_a_reference_that_ksef_forgot_is_not_the_end(office: Office) -> None:
    office.fake.slow = 1_000
    office.enrolment.start("auth")
    office.work(0.01)
    reference = next(iter(office.fake.enrolments))
    office.fake.plan(f"GET /certificates/enrollments/{reference}", *(problem(410) for _ in range(50)))
    office.fake.finish(reference)
    office.work(24)
    assert office.active("auth") is not None


def test_a_certificate_for_another_key_is_not_taken(office: Office) -> None:
    office.enrolment.start("offline")
    office.work(0)
    reference = next(iter(office.fake.enrolments))
    office.fake.finish(reference)
    serial = office.fake.enrolments[reference]["serial"]
    other = certify(
        new_key().public_key(), x509.Name([]), usage="content_commitment", serial=int(serial, 16), since=START
    )
    der = base64.b64encode(other.public_bytes(serialization.Encoding.DER)).decode()
    office.fake.issued[serial]["whole"]["certificate"] = der
    office.work(1)
    (row,) = office.rows()
    assert row.state == "rejected"
    assert "inny klucz" in (row.note or "")


def test_a_certificate_of_the_other_kind_is_not_taken(office: Office) -> None:
    office.enrolment.start("offline")
    office.work(0)
    for enrolment in office.fake.enrolments.values():
        enrolment["body"]["certificateType"] = "Authentication"
    office.work(1)
    (row,) = office.rows()
    assert row.state == "rejected"
    assert "innego rodzaju" in (row.note or "")


def test_an_unreadable_certificate_is_fetched_again(office: Office) -> None:
    office.enrolment.start("offline")
    junk = {"certificates": [{"certificate": "AAAA", "certificateSerialNumber": "0" * 16, "certificateName": "x"}]}
    office.fake.plan("POST /certificates/retrieve", httpx.Response(200, json=junk), httpx.Response(200, json={}))
    office.work(1)
    assert office.active("offline") is not None


# --- proof and renewal


def enrolled(office: Office, purpose: str = "auth", key: str = "ec"):  # type: ignore[no-untyped-def]
    office.enrolment.start(purpose, key)  # type: ignore[arg-type]
    office.work(0.1)
    row = office.active(purpose)
    assert row is not None
    return row


@pytest.mark.parametrize("key", ["ec", "rsa"])
def test_a_renewal_begins_thirty_days_before_the_end_with_a_new_key_of_the_same_kind(office: Office, key: str) -> None:
    old = enrolled(office, key=key)
    office.clock.now = old.valid_to - timedelta(days=30, hours=2)
    office.work(1)
    assert office.fake.count(ENROL) == 1
    office.work(2)

    new = office.active("auth")
    assert new is not None
    assert new.id != old.id
    assert {row.id: row.state for row in office.rows()} == {old.id: "replaced", new.id: "active"}
    before, after = unsealed(old, office.vault), unsealed(new, office.vault)
    assert type(after.private_key) is type(before.private_key)
    assert after.private_key.private_numbers() != before.private_key.private_numbers()
    office.work(24 * 60)
    assert office.fake.count(ENROL) == 2, "one renewal, not one a step"


def test_the_old_certificate_stays_until_the_new_one_has_logged_in(office: Office) -> None:
    old = enrolled(office)
    office.clock.now = old.valid_to - RENEW_BEFORE
    refused = [(460, "Certyfikat nieprawidłowy", [])] * 3
    office.enrolment.start("auth")
    while (pending := office.pending("auth")) is None or pending.certificate is None:
        office.enrolment.step()
        office.clock.sleep(3)
    # From here on the next logins are the new certificate's.
    office.fake.auth_statuses.extend(refused)
    office.work(2.5)
    active, pending = office.active("auth"), office.pending("auth")
    assert active is not None
    assert active.id == old.id
    assert pending is not None
    assert "Certyfikat nieprawidłowy" in (pending.note or "")
    assert office.ksef.certificate_limits().requests_left == 10, "the old access goes on"

    office.work(24)
    active = office.active("auth")
    assert active is not None
    assert active.id == pending.id


def test_after_a_renewal_the_running_client_logs_in_by_the_new_certificate(office: Office) -> None:
    old = enrolled(office)
    office.clock.now = old.valid_to - RENEW_BEFORE
    office.work(1)
    office.ksef.login_now()
    document = office.fake.last("POST /auth/xades-signature").content
    new = office.active("auth")
    assert new is not None
    body = "".join(line for line in (new.certificate or "").splitlines() if not line.startswith("-"))
    assert body.encode() in b"".join(document.split())


def test_a_renewal_that_came_to_nothing_is_not_tried_again_for_a_week(office: Office) -> None:
    old = enrolled(office)
    office.clock.now = old.valid_to - RENEW_BEFORE
    office.fake.plan(ENROL, problem(400, 25003))
    office.work(RENEW_AGAIN_AFTER.total_seconds() / 3600 - 1)
    assert office.fake.count(ENROL) == 2
    office.restarted()
    office.work(2)
    assert office.fake.count(ENROL) == 3
    assert office.active("auth") != old


def test_a_renewal_that_cannot_begin_says_why_and_tries_later(office: Office) -> None:
    old = enrolled(office)
    office.clock.now = old.valid_to - RENEW_BEFORE
    office.fake.requests_left = 0
    office.work(1)
    assert "limit wniosków" in office.enrolment.problems["auth"]
    assert office.fake.count("GET /certificates/limits") < 4
    office.fake.requests_left = 1
    office.work(12)
    assert office.enrolment.problems == {}
    assert office.active("auth") != old


def test_what_ksef_did_not_issue_is_not_renewed_by_itself(office: Office) -> None:
    bring_in(office.database, credentials, office.vault, office.first(), "auth", now=START)
    office.work(1)
    row = office.active("auth")
    assert row is not None
    assert row.valid_to is not None
    office.clock.now = row.valid_to - timedelta(days=1)
    office.work(12)
    assert office.fake.count(ENROL) == 0


def revoke_row(office: Office, credential: int, reason: str, waits: bool = False) -> None:
    revoke(
        office.database,
        credentials,
        office.ksef,
        credential,
        reason,  # type: ignore[arg-type]
        now=office.clock(),
        still_waits=lambda serial: waits and serial.startswith("01F2"),
    )


def test_a_replaced_offline_certificate_is_kept_with_its_key_and_revoked_only_when_nothing_waits(
    office: Office,
) -> None:
    old = enrolled(office, "offline")
    office.clock.now = old.valid_to - RENEW_BEFORE
    office.work(24)
    replaced = next(row for row in office.rows() if row.id == old.id)
    assert replaced.state == "replaced"
    assert replaced.sealed_key == old.sealed_key
    assert office.fake.issued[old.serial]["status"] == "Active"

    with pytest.raises(NotAllowedNow, match="nie mają jeszcze numeru"):
        revoke_row(office, old.id, "Superseded", waits=True)
    assert office.fake.issued[old.serial]["status"] == "Active"
    revoke_row(office, old.id, "Superseded")
    assert office.fake.issued[old.serial]["status"] == "Revoked"
    revoked = next(row for row in office.rows() if row.id == old.id)
    assert (revoked.state, revoked.sealed_key) == ("revoked", None)


def test_the_certificate_in_use_is_revoked_only_when_its_key_is_compromised(office: Office) -> None:
    row = enrolled(office)
    with pytest.raises(NotAllowedNow, match="bufor używa"):
        revoke_row(office, row.id, "Superseded")
    revoke_row(office, row.id, "KeyCompromise")
    assert office.active("auth") is None
    with pytest.raises(NotAllowedNow, match="Nie ma takiego"):
        revoke_row(office, row.id, "KeyCompromise")


def test_what_is_revoked_at_ksef_already_counts_as_revoked_here(office: Office) -> None:
    row = enrolled(office)
    office.fake.issued[row.serial]["status"] = "Revoked"
    revoke_row(office, row.id, "KeyCompromise")
    assert [one.state for one in office.rows()] == ["revoked"]


def test_a_certificate_revoked_elsewhere_is_noticed_within_a_day(office: Office) -> None:
    row = enrolled(office, "offline")
    office.work(30)
    assert office.active("offline") is not None
    office.fake.issued[row.serial]["status"] = "Blocked"
    office.work(25)
    assert office.active("offline") is None
    assert office.rows()[0].note == "Odwołany w KSeF."


def test_a_daily_look_that_fails_takes_nothing_away(office: Office) -> None:
    enrolled(office, "offline")
    office.fake.plan("POST /certificates/query", *(httpx.Response(502) for _ in range(8)))
    office.work(30)
    assert office.active("offline") is not None


# --- imports


def test_an_imported_certificate_is_used_once_it_logged_in(office: Office) -> None:
    row = bring_in(office.database, credentials, office.vault, office.first(), "auth", now=START)
    assert row.state == "pending"
    office.work(0.1)
    assert [one.state for one in office.rows()] == ["active"]
    same = unsealed(office.rows()[0], office.vault)
    with pytest.raises(NotAllowedNow, match="już zapisany"):
        bring_in(office.database, credentials, office.vault, same, "auth", now=START)


def test_an_imported_offline_certificate_is_used_at_once_also_while_ksef_is_away(office: Office) -> None:
    key = new_key()
    certificate = certify(key.public_key(), x509.Name([]), usage="content_commitment", serial=5, since=START)
    pem = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (office.root / "offline.pem").write_bytes(pem)
    credential = load_files(office.root / "offline.pem", None, None)
    before = len(office.fake.requests)
    bring_in(office.database, credentials, office.vault, credential, "offline", now=START)
    assert office.active("offline") is not None
    assert len(office.fake.requests) == before


def test_an_import_does_not_push_aside_what_is_on_its_way(office: Office) -> None:
    office.enrolment.start("auth")
    with pytest.raises(NotAllowedNow, match="Trwa już konfiguracja"):
        bring_in(office.database, credentials, office.vault, office.first(), "auth", now=START)
    assert office.enrolment.abandon("auth")
    assert not office.enrolment.abandon("auth")
    bring_in(office.database, credentials, office.vault, office.first(), "auth", now=START)


def test_a_command_can_go_step_by_step_and_see_how_it_stands(office: Office) -> None:
    assert office.enrolment.go_on("auth") is None
    office.enrolment.start("auth")
    states = []
    while (row := office.enrolment.go_on("auth")) is not None:
        states.append(row.state)
    assert states == ["pending", "pending", "active"]


def test_a_daemon_follows_what_a_command_has_put_in_use(office: Office) -> None:
    stranger = office.fake.client(login=NoLogin())
    tried: list[str] = []

    def log_in_with(credential: Credential) -> None:
        tried.append(credential.serial_hex)
        stranger.adopt(CertificateLogin(credential))

    daemon = Enrolment(
        office.database, credentials, stranger, office.vault, office.clock, log_in_with=log_in_with, follows=True
    )
    assert not daemon.step()
    row = enrolled(office)
    office.fake.auth_statuses.append((460, "Chwilowy kłopot", []))
    daemon.step()
    assert tried == [row.serial]
    daemon.step()
    assert len(tried) == 1, "not in a storm"
    office.clock.sleep(3600)
    for _ in range(3):
        daemon.step()
    assert len(tried) == 2
    assert stranger.certificate_limits().may_request


def test_a_daemon_that_works_by_files_follows_nobody(office: Office) -> None:
    enrolled(office)
    before = len(office.logins)
    office.restarted()
    office.work(48)
    assert len(office.logins) == before


# --- death at every boundary


class Died(BaseException):
    pass


@contextmanager
def dying_at(office: Office, boundary: int) -> Iterator[list[int]]:
    """Dies at the numbered boundary: before a commit, or just after KSeF took a request and before we read its
    answer."""
    passed = [0]

    def cross() -> None:
        passed[0] += 1
        if passed[0] == boundary:
            raise Died

    database, fake = office.database, office.fake
    commit, answer = database._commit, fake.answer

    def committing(unit: object) -> None:
        cross()
        commit(unit)
        cross()

    def answering(request: httpx.Request) -> httpx.Response:
        cross()
        given = answer(request)
        cross()
        return given

    database._commit, fake.answer = committing, answering  # type: ignore[method-assign]
    try:
        yield passed
    finally:
        database._commit, fake.answer = commit, answer  # type: ignore[method-assign]


def one_life(office: Office) -> None:
    if office.pending("auth") is None and office.active("auth") is None:
        office.enrolment.start("auth")
    office.work(0.2)


def boundaries(database: Database, tmp_path: Path) -> int:
    office = Office(database, tmp_path)
    with dying_at(office, -1) as passed:
        office.restarted()
        one_life(office)
    office.ksef.close()
    return passed[0]


def test_death_at_any_boundary_wastes_no_quota_and_loses_no_key(
    sqlite_database: Database, tmp_path: Path, migrated_sqlite: Path
) -> None:
    count = boundaries(sqlite_database, tmp_path)
    assert count > 30
    for boundary in range(1, count + 1):
        path = tmp_path / f"{boundary}.db"
        path.write_bytes(migrated_sqlite.read_bytes())
        database = Database(f"sqlite:///{path}")
        office = Office(database, tmp_path)
        with dying_at(office, boundary):
            office.restarted()
            with suppress(Died):
                one_life(office)
        office.restarted()
        for reference in office.fake.enrolments:
            # An answer that nobody heard, perhaps: KSeF goes on by itself.
            office.fake.finish(reference)
        one_life(office)
        office.work(24)
        row = office.active("auth")
        assert row is not None, boundary
        unsealed(row, office.vault).check_login(office.clock())
        assert len(office.fake.enrolments) == 1, f"asked twice after dying at {boundary}"
        assert len(office.rows()) == 1
        office.ksef.close()
        database.close()


# --- secrets


def test_no_key_is_readable_anywhere(office: Office, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.DEBUG)
    office.fake.lose_answers = 1
    office.enrolment.start("auth", "ec")
    office.enrolment.start("offline", "rsa")
    for reference in list(office.fake.enrolments):
        office.fake.finish(reference)
    office.work(0.01)
    for reference in list(office.fake.enrolments):
        office.fake.finish(reference)
    office.work(24)
    secrets: list[bytes] = []
    for purpose in ("auth", "offline"):
        row = office.active(purpose)
        assert row is not None
        key = unsealed(row, office.vault).private_key
        numbers = key.private_numbers()
        number = numbers.private_value if isinstance(key, ec.EllipticCurvePrivateKey) else numbers.d
        raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
        secrets += [raw, raw.hex().encode(), base64.b64encode(raw)[4:-4], str(number).encode()]
        assert raw.hex() not in repr(row)
        assert "sealed" not in repr(row)

    said = caplog.text + " ".join(str(vars(record)) for record in caplog.records)
    stored = b"".join(path.read_bytes() for path in (tmp_path / "data").iterdir())
    sent = b"".join(request.content for request in office.fake.requests)
    for place in (said.encode(), stored, sent):
        assert b"PRIVATE KEY" not in place
        assert not [secret for secret in secrets if secret in place]
    # The same search finds a key that does lie there.
    assert facts_of(unsealed(office.active("auth"), office.vault).certificate).certificate.encode() in stored  # type: ignore[arg-type]


def test_a_request_kept_by_another_machine_says_so_and_goes_on_when_the_key_is_back(office: Office) -> None:
    office.enrolment.start("offline")
    ours, office.vault = office.vault, Vault(b"o" * 32)
    office.restarted()
    office.work(1)
    pending = office.pending("offline")
    assert pending is not None
    assert "innym kluczem maszyny" in (pending.note or "")
    office.vault = ours
    office.restarted()
    office.work(24)
    assert office.active("offline") is not None


def test_an_unreachable_ksef_is_told_by_the_command(office: Office) -> None:
    office.ksef.login_now()
    office.fake.plan("GET /certificates/limits", *(httpx.ConnectError("x") for _ in range(9)))
    with pytest.raises(Unreachable):
        office.enrolment.start("auth")
