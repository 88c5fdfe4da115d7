from __future__ import annotations

import hashlib
from base64 import b64encode

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from ksefbuffer.sandbox import Sandbox
from tests.samples import NIP
from tests.sandbox.client import Client, FakeClock, auth_request, codes, sign, signer


def start(client: Client) -> tuple[str, str]:
    """A login just handed in: its reference and authentication token."""
    body = client.hand_in(sign(auth_request(client.challenge()["challenge"]), signer(), now=client.now)).json()
    return body["referenceNumber"], body["authenticationToken"]["token"]


def test_a_login_is_in_progress_before_it_succeeds(client: Client) -> None:
    reference, token = start(client)
    status = client.call("GET", f"/auth/{reference}", token=token).json()
    assert status["status"]["code"] == 100
    assert codes(client.call("POST", "/auth/token/redeem", token=token)) == [21301]
    client.settle()
    assert client.call("GET", f"/auth/{reference}", token=token).json()["status"]["code"] == 200


def test_tokens_are_redeemed_once(client: Client) -> None:
    _, token = start(client)
    client.settle()
    assert client.call("POST", "/auth/token/redeem", token=token).status_code == 200
    assert codes(client.call("POST", "/auth/token/redeem", token=token)) == [21301]


def test_a_refresh_token_is_reusable_and_renews_access(client: Client, clock: FakeClock) -> None:
    client.login()
    first = client.call("POST", "/auth/token/refresh", token=client.refresh_token)
    same = client.call("POST", "/auth/token/refresh", token=client.refresh_token)
    assert first.json() == same.json()
    clock.forward(minutes=5)
    later = client.call("POST", "/auth/token/refresh", token=client.refresh_token)
    assert later.json() != first.json()
    assert set(later.json()) == {"accessToken"}


def test_an_access_token_lives_fifteen_minutes(client: Client, clock: FakeClock) -> None:
    client.login()
    clock.forward(minutes=14, seconds=59)
    assert client.call("GET", "/rate-limits").status_code == 200
    clock.forward(seconds=1)
    expired = client.call("GET", "/rate-limits")
    assert expired.status_code == 401
    assert expired.headers["content-type"].startswith("application/problem+json")


def test_tokens_work_only_for_what_they_are(client: Client) -> None:
    reference, authentication = start(client)
    client.settle()
    client.redeem({"referenceNumber": reference, "authenticationToken": {"token": authentication}})
    assert client.call("GET", "/rate-limits", token=authentication).status_code == 401
    assert client.call("GET", "/rate-limits", token=client.refresh_token).status_code == 401
    assert client.call("POST", "/auth/token/refresh").status_code == 401
    assert client.call("GET", f"/auth/{reference}").status_code == 401
    assert client.call("GET", "/rate-limits", token="").status_code == 401
    head, _, signature = client.access.rpartition(".")
    forged = f"{head}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"
    assert client.call("GET", "/rate-limits", token=forged).status_code == 401
    assert client.call("GET", "/rate-limits", token="garbage").status_code == 401


def test_a_login_answers_only_to_its_own_token(client: Client) -> None:
    first, _ = start(client)
    _, other = start(client)
    assert codes(client.call("GET", f"/auth/{first}", token=other)) == [21304]


def test_expired_tokens_by_order(client: Client, sandbox: Sandbox) -> None:
    client.login()
    sandbox.expire_tokens()
    assert client.call("GET", "/rate-limits").status_code == 401
    renewed = client.call("POST", "/auth/token/refresh", token=client.refresh_token)
    client.access = renewed.json()["accessToken"]["token"]
    assert client.call("GET", "/rate-limits").status_code == 200
    sandbox.expire_tokens(refresh=True)
    assert client.call("POST", "/auth/token/refresh", token=client.refresh_token).status_code == 401


def test_revoking_a_login_kills_its_refresh_token_only(client: Client) -> None:
    client.login()
    listed = client.call("GET", "/auth/sessions").json()["items"]
    assert [item["isCurrent"] for item in listed] == [True]
    assert client.call("DELETE", f"/auth/sessions/{listed[0]['referenceNumber']}").status_code == 204
    assert client.call("GET", "/rate-limits").status_code == 200
    assert codes(client.call("POST", "/auth/token/refresh", token=client.refresh_token)) == [21301]
    assert client.call("GET", "/auth/sessions").json()["items"] == []


def test_revoking_the_current_login(client: Client) -> None:
    client.login()
    assert client.call("DELETE", "/auth/sessions/current").status_code == 204
    assert codes(client.call("POST", "/auth/token/refresh", token=client.refresh_token)) == [21301]


def test_logins_are_listed_in_pages(client: Client) -> None:
    for _ in range(12):
        client.login()
    first = client.call("GET", "/auth/sessions").json()
    assert len(first["items"]) == 10
    rest = client.call("GET", "/auth/sessions", headers={"x-continuation-token": first["continuationToken"]}).json()
    assert len(rest["items"]) == 2
    assert "continuationToken" not in rest


def test_login_by_token(client: Client, sandbox: Sandbox) -> None:
    token = sandbox.issue_token(NIP)
    assert "|" in token
    assert len(token) <= 160
    client.login_by_token(token)
    assert client.call("GET", "/rate-limits").status_code == 200


def token_outcome(client: Client, token: str, nip: str = NIP, **more: object) -> tuple[int, list[str]]:
    started = client.hand_in_token(token, nip, **more).json()
    client.settle()
    bearer = started["authenticationToken"]["token"]
    status = client.call("GET", f"/auth/{started['referenceNumber']}", token=bearer).json()["status"]
    return status["code"], status.get("details", [])


def test_what_is_wrong_with_a_token_shows_later(client: Client, sandbox: Sandbox) -> None:
    token = sandbox.issue_token(NIP)
    assert token_outcome(client, "unknown") == (450, ["Nieprawidłowy token"])
    assert token_outcome(client, token, "1111111111")[0] == 450
    assert token_outcome(client, token, plaintext=f"{token}|1".encode()) == (450, ["Nieprawidłowy czas tokena"])
    assert token_outcome(client, token, plaintext=b"no bar") == (450, ["Nieprawidłowe kodowanie tokena"])
    sandbox.revoke_token(token)
    assert token_outcome(client, token) == (450, ["Token unieważniony"])


@pytest.mark.parametrize(
    "wrong",
    [padding.PKCS1v15(), padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None),
     padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA256(), None)],
    ids=["PKCS#1 v1.5", "OAEP with SHA-1", "MGF1 with SHA-1"],
)  # fmt: skip
def test_a_token_encrypted_in_another_way_fails(client: Client, sandbox: Sandbox, wrong: object) -> None:
    outcome = token_outcome(client, sandbox.issue_token(NIP), pad=wrong)
    assert outcome == (450, ["Nieprawidłowe szyfrowanie tokena"])


def test_a_revoked_token_refreshes_no_more(client: Client, sandbox: Sandbox) -> None:
    token = sandbox.issue_token(NIP)
    client.login_by_token(token)
    sandbox.revoke_token(token)
    assert codes(client.call("POST", "/auth/token/refresh", token=client.refresh_token)) == [21301]


def test_a_token_login_is_validated_at_once(client: Client, sandbox: Sandbox) -> None:
    token = sandbox.issue_token(NIP)
    assert codes(client.hand_in_token(token, challenge="20261120-CR-0123456789-0123456789-AB")) == [21111]
    assert codes(client.hand_in_token(token, publicKeyId=b64encode(bytes(32)).decode())) == [21470]
    answer = client.hand_in_token(token, contextIdentifier={"type": "NIP", "value": NIP}, encryptedToken="a_b-")
    assert codes(answer) == [21405, 21405]
    assert "contextIdentifier.type" in answer.text
    assert "encryptedToken" in answer.text


def test_public_keys_say_who_they_are(client: Client) -> None:
    from base64 import b64decode

    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    keys = client.call("GET", "/security/public-key-certificates", token="").json()
    assert sorted(usage for key in keys for usage in key["usage"]) == ["KsefTokenEncryption", "SymmetricKeyEncryption"]
    for key in keys:
        der = b64decode(key["certificate"])
        public = x509.load_der_x509_certificate(der).public_key()
        spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert key["publicKeyId"] == b64encode(hashlib.sha256(spki).digest()).decode()
        assert key["certificateId"] == b64encode(hashlib.sha256(der).digest()).decode()


def test_rotated_keys_replace_the_old_or_stand_beside_them(client: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    token = sandbox.issue_token(NIP)
    old = client.public_key("KsefTokenEncryption")["publicKeyId"]
    clock.forward(hours=1)
    sandbox.rotate_keys(keep_old=True)
    assert client.public_key("KsefTokenEncryption")["publicKeyId"] != old
    assert len(client.call("GET", "/security/public-key-certificates", token="").json()) == 4
    # Without publicKeyId the older key is assumed: what the new one encrypted does not open [#802].
    assert token_outcome(client, token, publicKeyId=None)[1] == ["Nieprawidłowe szyfrowanie tokena"]
    assert token_outcome(client, token)[0] == 200
    sandbox.rotate_keys()
    assert len(client.call("GET", "/security/public-key-certificates", token="").json()) == 2
    assert codes(client.hand_in_token(token, publicKeyId=old)) == [21470]


def test_a_forgotten_key_id_is_a_deviation(client: Client, sandbox: Sandbox) -> None:
    client.hand_in_token(sandbox.issue_token(NIP), publicKeyId=None)
    assert [item.name for item in sandbox.deviations] == ["no-public-key-id"]
