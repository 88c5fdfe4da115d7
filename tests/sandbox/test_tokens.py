from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509.oid import NameOID

from ksefbuffer.sandbox import Fault, Sandbox
from tests.samples import NIP, invoice
from tests.sandbox.client import Client, FakeClock, codes, signer
from tests.sandbox.packing import hand_in

BRANCH = f"{NIP}-12343"
PESEL = "90010112345"
PERSON = signer({NameOID.GIVEN_NAME: "Jan", NameOID.SURNAME: "Nowak", NameOID.SERIAL_NUMBER: f"PNOPL-{PESEL}"})
PERIOD = {"subjectType": "Subject1", "dateRange": {"dateType": "PermanentStorage", "from": "2026-11-01T00:00:00Z"}}


@pytest.fixture
def logged(client: Client) -> Client:
    return client.login()


def make(client: Client, *permissions: str, description: str = "Kasa nr 1") -> dict[str, str]:
    body = {"permissions": list(permissions), "description": description}
    answer = client.call("POST", "/tokens", json=body)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def state(client: Client, reference: str) -> str:
    return str(client.call("GET", f"/tokens/{reference}").json()["status"])


def outcome(client: Client, token: str, **more: Any) -> tuple[int, list[str]]:
    started = client.hand_in_token(token, **more).json()
    client.settle()
    bearer = started["authenticationToken"]["token"]
    said = client.call("GET", f"/auth/{started['referenceNumber']}", token=bearer).json()["status"]
    return said["code"], said.get("details", [])


def missing(answer: Any) -> tuple[list[str], list[str]]:
    """What a 403 says was needed, and what was there."""
    assert answer.status_code == 403, answer.text
    body = answer.json()
    assert body["reasonCode"] == "missing-permissions"
    return body["security"]["requiredAnyOfPermissions"], body["security"]["presentPermissions"]


def test_a_token_is_pending_then_active_and_logs_in(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    made = make(logged, "InvoiceWrite", "InvoiceRead")
    assert len(made["token"]) <= 160
    assert state(logged, made["referenceNumber"]) == "Pending"
    assert outcome(logged, made["token"])[0] == 450
    assert outcome(logged, made["token"])[0] == 200
    told = logged.call("GET", f"/tokens/{made['referenceNumber']}").json()
    assert told["status"] == "Active"
    assert told["authorIdentifier"] == {"type": "Nip", "value": NIP}
    assert told["contextIdentifier"] == {"type": "Nip", "value": NIP}
    assert told["requestedPermissions"] == ["InvoiceRead", "InvoiceWrite"]
    assert "lastUseDate" in told


def test_a_pending_token_is_inactive(logged: Client) -> None:
    made = make(logged, "InvoiceWrite")
    started = logged.hand_in_token(made["token"]).json()
    logged.settle()
    bearer = started["authenticationToken"]["token"]
    said = logged.call("GET", f"/auth/{started['referenceNumber']}", token=bearer).json()["status"]
    assert (said["code"], said["details"]) == (450, ["Token nieaktywny"])


def test_a_token_may_fail_to_become_active(logged: Client, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("createToken", "token_fails"))
    made = make(logged, "InvoiceWrite")
    logged.settle()
    told = logged.call("GET", f"/tokens/{made['referenceNumber']}").json()
    assert (told["status"], len(told["statusDetails"])) == ("Failed", 1)
    assert outcome(logged, made["token"]) == (450, ["Token nieaktywny"])


def test_a_token_does_no_more_than_it_may(logged: Client) -> None:
    reader = make(logged, "InvoiceRead")["token"]
    writer = make(logged, "InvoiceWrite")["token"]
    logged.settle()

    logged.login_by_token(reader)
    opening = logged.opening(bytes(32), bytes(16))
    needed = ["InvoiceWrite", "PefInvoiceWrite", "EnforcementOperations"]
    assert missing(logged.call("POST", "/sessions/online", json=opening)) == (needed, ["InvoiceRead"])
    assert missing(logged.call("POST", "/sessions/batch", json=opening))[0] == ["InvoiceWrite", "EnforcementOperations"]
    assert logged.call("GET", "/sessions?sessionType=Online").status_code == 403
    assert logged.call("POST", "/invoices/query/metadata", json=PERIOD).status_code == 200

    logged.login_by_token(writer)
    session = logged.open()
    number = logged.verdict(session, invoice("FV/1"))["ksefNumber"]
    assert logged.call("GET", "/sessions?sessionType=Online").status_code == 200
    assert missing(logged.call("POST", "/invoices/query/metadata", json=PERIOD)) == (["InvoiceRead"], ["InvoiceWrite"])
    assert logged.xml(f"/invoices/ksef/{number}").status_code == 403
    assert logged.call("POST", "/invoices/exports", json={}).status_code == 403
    assert hand_in(logged, {"1.xml": invoice("FV/2")})


def test_nobody_gives_a_token_more_than_there_is(client: Client, sandbox: Sandbox) -> None:
    sandbox.grant(NIP, "Pesel", PESEL, ["InvoiceRead"])
    client.login(PERSON)
    answer = client.call(
        "POST", "/tokens", json={"permissions": ["InvoiceRead", "InvoiceWrite"], "description": "Kasa 1"}
    )
    assert codes(answer) == [26001]
    assert "InvoiceWrite" in answer.text
    assert make(client, "InvoiceRead")


def test_a_token_makes_no_tokens(logged: Client, sandbox: Sandbox) -> None:
    logged.login_by_token(sandbox.issue_token(NIP))
    answer = logged.call("POST", "/tokens", json={"permissions": ["InvoiceRead"], "description": "Kasa 1"})
    assert answer.status_code == 403
    assert answer.json()["reasonCode"] == "auth-method-not-allowed"


@pytest.mark.parametrize(
    "wrong",
    [{"permissions": []}, {"permissions": ["Everything"]}, {"permissions": "InvoiceRead"}, {"description": "Kasa"},
     {"description": "x" * 257}, {"description": None}],
)  # fmt: skip
def test_what_a_request_for_a_token_must_say(logged: Client, wrong: dict[str, Any]) -> None:
    body = {"permissions": ["InvoiceRead"], "description": "Kasa nr 1"} | wrong
    answer = logged.call("POST", "/tokens", json=body)
    assert set(codes(answer)) == {21405}
    assert next(iter(wrong)) in answer.text


def test_a_vat_ue_context_has_no_tokens(client: Client) -> None:
    client.login(context=f"<NipVatUe>{NIP}-ATU12345678</NipVatUe>")
    answer = client.call("POST", "/tokens", json={"permissions": ["InvoiceRead"], "description": "Kasa nr 1"})
    assert codes(answer) == [26002]


def test_a_token_works_in_its_own_context_alone(logged: Client, sandbox: Sandbox) -> None:
    branch = {"type": "InternalId", "value": BRANCH}
    company = sandbox.issue_token(NIP)
    own = sandbox.issue_token(BRANCH)
    assert outcome(logged, company, contextIdentifier=branch)[0] == 450
    assert outcome(logged, own)[0] == 450
    assert outcome(logged, own, contextIdentifier=branch)[0] == 200
    logged.login(context=f"<InternalId>{BRANCH}</InternalId>")
    made = make(logged, "InvoiceRead")
    logged.settle()
    assert outcome(logged, made["token"], contextIdentifier=branch)[0] == 200


def test_revoking_a_token(logged: Client, clock: FakeClock) -> None:
    made = make(logged, "InvoiceWrite")
    logged.settle()
    path = f"/tokens/{made['referenceNumber']}"
    by_token = Client(logged.sandbox, clock).login_by_token(made["token"])
    assert logged.call("DELETE", path).status_code == 204
    assert state(logged, made["referenceNumber"]) == "Revoking"
    assert outcome(logged, made["token"]) == (450, ["Token unieważniony"])
    assert state(logged, made["referenceNumber"]) == "Revoked"
    assert codes(by_token.call("POST", "/auth/token/refresh", token=by_token.refresh_token)) == [21301]
    # The access token lives on until it expires [#424].
    assert by_token.call("GET", "/rate-limits").status_code == 200
    assert logged.call("DELETE", path).status_code == 204
    assert codes(logged.call("DELETE", "/tokens/20261120-EC-0123456789-0123456789-AB")) == [21405]


def test_a_token_whose_time_is_over(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    token = sandbox.issue_token(NIP, valid_until=clock.now + timedelta(hours=1))
    logged.login_by_token(token)
    clock.forward(hours=1)
    assert outcome(logged, token) == (450, ["Token nieaktywny"])
    assert codes(logged.call("POST", "/auth/token/refresh", token=logged.refresh_token)) == [21301]
    other = sandbox.issue_token(NIP)
    sandbox.end_token(other)
    assert outcome(logged, other) == (450, ["Token nieaktywny"])
    with pytest.raises(LookupError):
        sandbox.end_token("unknown")


def test_who_sees_and_revokes_which_tokens(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    ours = make(logged, "InvoiceRead", description="Nasz token")
    sandbox.grant(NIP, "Pesel", PESEL, ["InvoiceRead"])
    person = Client(sandbox, clock).login(PERSON)
    own = make(person, "InvoiceRead", description="Token Jana")
    logged.settle()
    by_token = Client(sandbox, clock).login_by_token(ours["token"])

    def seen(client: Client, query: str = "") -> list[str]:
        return [item["referenceNumber"] for item in client.call("GET", f"/tokens{query}").json()["tokens"]]

    ours_ref, own_ref = ours["referenceNumber"], own["referenceNumber"]
    assert seen(logged) == [own_ref, ours_ref]
    assert seen(person) == [own_ref]
    assert seen(by_token) == [ours_ref]
    assert codes(person.call("GET", f"/tokens/{ours_ref}")) == [21405]
    assert codes(person.call("DELETE", f"/tokens/{ours_ref}")) == [21405]
    assert codes(by_token.call("DELETE", f"/tokens/{own_ref}")) == [21405]
    assert seen(logged, "?description=JANA") == [own_ref]
    assert seen(logged, f"?authorIdentifier={PESEL[:5]}") == [own_ref]
    assert seen(logged, "?authorIdentifierType=Nip") == [ours_ref]
    assert by_token.call("DELETE", f"/tokens/{ours_ref}").status_code == 204
    assert seen(logged, "?status=Revoking&status=Pending") == [ours_ref]
    for wrong in ("?description=ab", "?status=Dead", "?authorIdentifierType=Person", "?pageSize=9"):
        assert codes(logged.call("GET", f"/tokens{wrong}")) == [21405]


def test_tokens_are_listed_in_pages(logged: Client) -> None:
    for number in range(12):
        make(logged, "InvoiceRead", description=f"Kasa nr {number}")
    first = logged.call("GET", "/tokens").json()
    assert len(first["tokens"]) == 10
    rest = logged.call("GET", "/tokens", headers={"x-continuation-token": first["continuationToken"]}).json()
    assert [item["description"] for item in rest["tokens"]] == ["Kasa nr 1", "Kasa nr 0"]
    assert codes(logged.call("GET", "/tokens", headers={"x-continuation-token": "x"})) == [21418]


def test_a_grant_may_be_of_some_permissions_and_be_withdrawn(client: Client, sandbox: Sandbox) -> None:
    sandbox.grant(NIP, "Pesel", PESEL, ["InvoiceWrite"])
    client.login(PERSON)
    session = client.open()
    assert client.call("POST", "/invoices/query/metadata", json=PERIOD).status_code == 403

    # What is granted shows in the next access token only [#500].
    sandbox.grant(NIP, "Pesel", PESEL, ["InvoiceRead"])
    assert client.verdict(session, invoice("FV/1"))["status"]["code"] == 200
    renewed = client.call("POST", "/auth/token/refresh", token=client.refresh_token).json()
    client.access = renewed["accessToken"]["token"]
    assert client.call("POST", "/invoices/query/metadata", json=PERIOD).status_code == 200
    assert client.send(session, invoice("FV/2")).status_code == 403

    sandbox.withdraw_grant(NIP, "Pesel", PESEL)
    with pytest.raises(LookupError):
        sandbox.withdraw_grant(NIP, "Pesel", PESEL)
    with pytest.raises(AssertionError, match="415"):
        client.login(PERSON)


def test_a_grant_in_the_company_is_none_in_its_branch(client: Client, sandbox: Sandbox) -> None:
    sandbox.grant(NIP, "Pesel", PESEL)
    with pytest.raises(AssertionError, match="415"):
        client.login(PERSON, context=f"<InternalId>{BRANCH}</InternalId>")
    sandbox.grant(BRANCH, "Pesel", PESEL)
    assert client.login(PERSON, context=f"<InternalId>{BRANCH}</InternalId>").open()


def test_wrong_grants_are_refused(sandbox: Sandbox) -> None:
    for wrong in (("123", "Nip", NIP), (NIP, "Any", NIP), (NIP, "Nip", NIP, ["All"]), (NIP, "Nip", NIP, [])):
        with pytest.raises(ValueError, match=r"must be|permission"):
            sandbox.grant(*wrong)


def test_who_only_sends_sees_only_own_sessions(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    ours = logged.open()
    sandbox.grant(NIP, "Pesel", PESEL, ["InvoiceWrite"])
    person = Client(sandbox, clock).login(PERSON)
    own = person.open()

    def seen(client: Client) -> list[str]:
        found = client.call("GET", "/sessions?sessionType=Online").json()["sessions"]
        return [item["referenceNumber"] for item in found]

    assert seen(person) == [own.reference]
    assert seen(logged) == [own.reference, ours.reference]


def test_everybody_may_ask_for_their_own_permissions(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    def told(client: Client, **body: Any) -> dict[str, Any]:
        return dict(client.call("POST", "/permissions/query/personal/grants", json=body).json())

    assert "InvoiceWrite" in told(logged)["ownerPermissions"]
    assert told(logged)["permissions"] == []
    sandbox.grant(NIP, "Pesel", PESEL, ["InvoiceWrite", "InvoiceRead"])
    person = Client(sandbox, clock).login(PERSON)
    scopes = [item["permissionScope"] for item in told(person)["permissions"]]
    assert scopes == ["InvoiceRead", "InvoiceWrite"]
    assert len(told(person, permissionTypes=["InvoiceRead"])["permissions"]) == 1
    assert told(person, permissionState="Inactive")["permissions"] == []
    assert person.call("GET", "/permissions/attachments/status").status_code == 403
    assert logged.call("GET", "/permissions/attachments/status").json() == {"isAttachmentAllowed": True}


def test_a_login_may_be_ended_by_its_refresh_token(logged: Client) -> None:
    answer = logged.call("DELETE", "/auth/sessions/current", token=logged.refresh_token)
    assert answer.status_code == 204
    assert codes(logged.call("POST", "/auth/token/refresh", token=logged.refresh_token)) == [21301]


@pytest.mark.parametrize("code", [460, 470, 480, 500, 550])
def test_a_login_may_end_badly_by_order(client: Client, sandbox: Sandbox, code: int) -> None:
    sandbox.faults.add(Fault("loginToken", "login_status", code=code))
    assert outcome(client, sandbox.issue_token(NIP))[0] == code
    assert outcome(client, sandbox.issue_token(NIP))[0] == 200


def test_tokens_and_grants_survive_a_restart(tmp_path: Path, clock: FakeClock) -> None:
    before = Sandbox(tmp_path / "state.db", clock=clock, latency_s=2, limits="none")
    client = Client(before, clock).login()
    token = make(client, "InvoiceRead")["token"]
    before.grant(NIP, "Pesel", PESEL, ["InvoiceWrite"])
    client.settle()
    before.close()
    after = Sandbox(tmp_path / "state.db", clock=clock, latency_s=2, limits="none")
    again = Client(after, clock).login_by_token(token)
    assert again.call("GET", "/sessions?sessionType=Online").status_code == 403
    assert again.login(PERSON).call("POST", "/invoices/query/metadata", json=PERIOD).status_code == 403
    after.close()


def test_a_state_file_from_before_permissions_is_taken_over(tmp_path: Path, clock: FakeClock) -> None:
    path = tmp_path / "state.db"
    before = Sandbox(path, clock=clock, latency_s=2, limits="none")
    before.grant(NIP, "Pesel", PESEL)
    client = Client(before, clock).login()
    token = before.issue_token(NIP)
    store = before._world.store
    for table, columns in {
        "tokens": ("context_type", "context_value", "permissions", "description", "author_type", "author_value",
                   "created_at", "active_at", "used_at", "valid_until", "revoked_at", "failed"),
        "grants": ("permissions", "granted_at"),
        "logins": ("subject_type", "subject_value", "certificate"),
    }.items():  # fmt: skip
        for column in columns:
            store.db.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    before.close()
    after = Sandbox(path, clock=clock, latency_s=2, limits="none")
    again = Client(after, clock)
    again.refresh_token = client.refresh_token
    renewed = again.call("POST", "/auth/token/refresh", token=client.refresh_token).json()
    again.access = renewed["accessToken"]["token"]
    assert again.open()
    assert len(again.call("GET", "/tokens").json()["tokens"]) == 1
    assert again.login_by_token(token).open()
    assert again.login(PERSON).open()
    after.close()
