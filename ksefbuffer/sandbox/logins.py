"""Login: challenge, signed document or KSeF token, status, tokens, and the list of logins. Source: FACTS §2."""

from __future__ import annotations

import ipaddress
import json
import sqlite3
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from . import access_tokens, certificates
from .bearer import ACCESS, ALL, AUTHENTICATION, REFRESH, Bearer
from .fields import Fields, read_json
from .keys import TOKEN, KeyPair, unwrap
from .login_certificates import INTERNAL, Identity
from .login_document import LoginDocument, read_login
from .numbers import INTERNAL_ID, NIP
from .paging import page
from .permissions import held, read_list
from .store import restored, stored
from .texts import LOGIN, status
from .wire import BadRequest, Problem, Response, as_json, nothing, timestamp
from .world import Call, World

CHALLENGE_LIFE = timedelta(minutes=10)
_CONTEXT_TYPES = ("Nip", "InternalId", "NipVatUe", "PeppolId")
_METHODS = {
    "Token": {"category": "Token", "code": "token.ksef", "displayName": "Token KSeF"},
    "QualifiedSeal": {"category": "XadesSignature", "code": "xades.seal", "displayName": "Pieczęć (XAdES)"},
    "InternalCertificate": {"category": "XadesSignature", "code": "xades.internal", "displayName": "Certyfikat KSeF"},
    "QualifiedSignature": {"category": "XadesSignature", "code": "xades.signature", "displayName": "Podpis (XAdES)"},
}


def challenge(world: World, call: Call) -> Response:
    milliseconds = int(call.now.timestamp() * 1000)
    number = world.store.new_reference("CR", call.now)
    world.store.run(
        "INSERT INTO challenges (challenge, milliseconds, issued_at) VALUES (?, ?, ?)",
        number,
        milliseconds,
        stored(call.now),
    )
    moment = call.now.replace(microsecond=milliseconds % 1000 * 1000)
    body = {
        "challenge": number,
        "timestamp": timestamp(moment),
        "timestampMs": milliseconds,
        "clientIp": call.request.client_ip,
    }
    return as_json(200, body)


def read_signed(_: World, call: Call) -> LoginDocument:
    """The signature is verified before the lock is taken: it depends on nothing but the document."""
    return read_login(call.request.body, call.now)


def login_by_signature(world: World, call: Call) -> Response:
    document: LoginDocument = call.prepared
    _use_challenge(world, document.challenge, call.now)
    issued, complaint = certificates.objection(world, document.certificate, call.now)
    identity = _identity(document, issued)
    context = (document.context_type, document.context_value)
    verdict, detail = 200, None
    if complaint is not None:
        verdict, detail = 460, complaint
    elif not held(world, identity.kind, identity.value, *context):
        verdict = 415
    if issued is not None:
        certificates.note_use(world, issued["serial"], call.now)
    start = _Start(
        context, identity.method, (identity.kind, identity.value), document.proof, document.allowed_ips,
        document.certificate,
    )  # fmt: skip
    return _start(world, call, start, verdict, detail)


def _identity(document: LoginDocument, issued: sqlite3.Row | None) -> Identity:
    """A KSeF certificate carries the identity it was issued for: for one got with a nameless certificate that is the
    fingerprint of the latter."""
    identity = document.identity
    if issued is None:
        return identity
    if issued["subject_type"] == identity.kind == "Fingerprint":
        return Identity(identity.kind, issued["subject_value"], INTERNAL)
    return replace(identity, method=INTERNAL)


@dataclass(frozen=True)
class TokenLogin:
    """A login by KSeF token as read from its body, with what the encrypted part opened to (None: it did not open)."""

    challenge: str
    context_type: str
    context_value: str
    plaintext: bytes | None = field(repr=False)
    allowed_ips: tuple[str, ...]


def read_token_login(world: World, call: Call) -> TokenLogin:
    fields = read_json(call.request)
    number = fields.text("challenge", length=36)
    context = fields.inside("contextIdentifier")
    context_type = context.text("type", among=_CONTEXT_TYPES) if context else ""
    context_value = context.text("value") if context else ""
    pattern = {"Nip": NIP, "InternalId": INTERNAL_ID}.get(context_type)
    if context and context_value and pattern and not pattern.fullmatch(context_value):
        context.wrong("value", "ma nieprawidłowy format")
    wrapped = fields.data("encryptedToken")
    key_id = fields.text("publicKeyId", required=False, length=44) or None
    allowed = _read_policy(fields)
    call.note_unknown(fields.finish())
    if key_id is None:
        call.note("no-public-key-id", "publicKeyId is absent: during rotation the older key is assumed")
    with world.lock:
        pair: KeyPair = world.keys.unwrapping(TOKEN, key_id)
    return TokenLogin(number, context_type, context_value, unwrap(pair, wrapped or b""), allowed)


def _read_policy(fields: Fields) -> tuple[str, ...]:
    policy = fields.inside("authorizationPolicy", required=False)
    ips = policy.inside("allowedIps", required=False) if policy else None
    if ips is None:
        return ()
    return tuple(ips.texts("ip4Addresses") + ips.texts("ip4Ranges") + ips.texts("ip4Masks"))


def login_by_token(world: World, call: Call) -> Response:
    login: TokenLogin = call.prepared
    milliseconds = _use_challenge(world, login.challenge, call.now)
    token, complaint = _judge_token(world, login, milliseconds, call.now)
    subject, reference = ("", ""), ""
    if token is not None:
        reference, subject = token["reference"], (token["author_type"], token["author_value"] or token["nip"])
        if complaint is None:
            world.store.run("UPDATE tokens SET used_at = ? WHERE reference = ?", stored(call.now), reference)
    context = (login.context_type, login.context_value)
    start = _Start(context, "Token", subject, f"token:{reference}", login.allowed_ips)
    return _start(world, call, start, 200 if complaint is None else 450, complaint)


def _judge_token(
    world: World, login: TokenLogin, milliseconds: int, now: datetime
) -> tuple[sqlite3.Row | None, str | None]:
    """The token, and what is wrong with it (in KSeF's words) or None."""
    if login.plaintext is None:
        return None, "Nieprawidłowe szyfrowanie tokena"
    # The token itself may hold "|": only the last one parts it from the time (FACTS §2.5).
    secret, bar, moment = login.plaintext.rpartition(b"|")
    if not bar or not secret:
        return None, "Nieprawidłowe kodowanie tokena"
    if moment != str(milliseconds).encode():
        return None, "Nieprawidłowy czas tokena"
    row = access_tokens.find(world, secret)
    if row is None:
        return None, "Nieprawidłowy token"
    if complaint := access_tokens.objection(row, now, world):
        return row, complaint
    if (login.context_type, login.context_value) != (row["context_type"], row["context_value"]):
        return row, f"Token nie może być użyty w kontekście {login.context_value}"
    return row, None


def _use_challenge(world: World, number: str, now: datetime) -> int:
    """Marks the challenge used and returns its time in milliseconds. Raises 21111."""
    row = world.store.one("SELECT * FROM challenges WHERE challenge = ?", number)
    if row is None or row["used"] or now - restored(row["issued_at"]) > CHALLENGE_LIFE:
        raise BadRequest(21111, "Nieprawidłowe wyzwanie autoryzacyjne.")
    world.store.run("UPDATE challenges SET used = 1 WHERE challenge = ?", number)
    return int(row["milliseconds"])


@dataclass(frozen=True)
class _Start:
    """A login to be entered. ``proof``: the document's hash or the token's reference, as confirmations tell it."""

    context: tuple[str, str]
    method: str
    subject: tuple[str, str]
    proof: str
    allowed_ips: tuple[str, ...]
    certificate: bytes | None = field(default=None, repr=False)


def _start(world: World, call: Call, login: _Start, verdict: int, detail: str | None) -> Response:
    reference = world.store.new_reference("AU", call.now)
    if ordered := call.ordered("login_status"):
        verdict, detail = ordered.code, "; ".join(ordered.details) or None
    world.store.run(
        "INSERT INTO logins (reference, seq, context_type, context_value, method, subject_type, subject_value, proof,"
        " certificate, started_at, due_at, verdict, detail, allowed_ips)"
        " VALUES (?, (SELECT count(*) FROM logins), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        reference,
        *login.context,
        login.method,
        *login.subject,
        login.proof,
        login.certificate,
        stored(call.now),
        stored(call.now + world.latency),
        verdict,
        detail,
        json.dumps(login.allowed_ips),
    )
    token = world.tokens.issue(AUTHENTICATION, reference, login.context, call.now)
    return as_json(202, {"referenceNumber": reference, "authenticationToken": token})


def _login(world: World, reference: str) -> sqlite3.Row:
    row = world.store.one("SELECT * FROM logins WHERE reference = ?", reference)
    if row is None:
        raise _no_login(reference)
    return row


def _no_login(reference: str) -> BadRequest:
    detail = f"Operacja uwierzytelniania o numerze referencyjnym {reference} nie została znaleziona."
    return BadRequest(21304, "Brak uwierzytelnienia.", [detail])


def _code(row: sqlite3.Row, now: datetime) -> int:
    if stored(now) < row["due_at"]:
        return 100
    if row["verdict"] == 200 and row["revoked"]:
        return 425
    return int(row["verdict"])


def _body(row: sqlite3.Row, now: datetime) -> dict[str, object]:
    code = _code(row, now)
    details = [row["detail"]] if row["detail"] and code == row["verdict"] else None
    body: dict[str, object] = {
        "startDate": timestamp(restored(row["started_at"])),
        "authenticationMethod": row["method"],
        "authenticationMethodInfo": _METHODS[row["method"]],
        "status": status(LOGIN, code, details),
        "isTokenRedeemed": bool(row["redeemed"]),
    }
    if row["refreshed_at"]:
        body["lastTokenRefreshDate"] = timestamp(restored(row["refreshed_at"]))
    if row["refresh_until"]:
        body["refreshTokenValidUntil"] = timestamp(restored(row["refresh_until"]))
    return body


def login_status(world: World, call: Call) -> Response:
    reference = call.arguments["reference"]
    if call.caller.login != reference:
        raise _no_login(reference)
    row = _login(world, reference)
    return as_json(200, _body(row, call.now))


def redeem(world: World, call: Call) -> Response:
    row = _login(world, call.caller.login)
    if row["redeemed"]:
        raise _no_authorisation(f"Tokeny dla operacji uwierzytelniania {row['reference']} zostały już pobrane.")
    code = _code(row, call.now)
    if code != 200:
        raise _no_authorisation(f"Status uwierzytelniania ({code}) nie pozwala na pobranie tokenów.")
    context = (row["context_type"], row["context_value"])
    access = world.tokens.issue(ACCESS, row["reference"], context, call.now, _permissions(world, row))
    refresh = world.tokens.issue(REFRESH, row["reference"], context, call.now)
    world.store.run(
        "UPDATE logins SET redeemed = 1, refresh_until = ? WHERE reference = ?",
        stored(datetime.fromisoformat(refresh["validUntil"])),
        row["reference"],
    )
    return as_json(200, {"accessToken": access, "refreshToken": refresh})


def refresh(world: World, call: Call) -> Response:
    row = _login(world, call.caller.login)
    code = _code(row, call.now)
    if code != 200:
        raise _no_authorisation(f"Status uwierzytelniania ({code}) nie pozwala na odświeżenie tokenu dostępowego.")
    if row["method"] == "Token":
        token = _token(world, row)
        if token is None or access_tokens.objection(token, call.now, world) is not None:
            raise _no_authorisation("Token KSeF został unieważniony.")
    world.store.run("UPDATE logins SET refreshed_at = ? WHERE reference = ?", stored(call.now), row["reference"])
    context = (row["context_type"], row["context_value"])
    access = world.tokens.issue(ACCESS, row["reference"], context, call.now, _permissions(world, row))
    return as_json(200, {"accessToken": access})


def _token(world: World, login: sqlite3.Row) -> sqlite3.Row | None:
    return world.store.one("SELECT * FROM tokens WHERE reference = ?", login["proof"].removeprefix("token:"))


def _permissions(world: World, login: sqlite3.Row) -> tuple[str, ...]:
    """What an access token issued now bears."""
    if login["method"] == "Token":
        token = _token(world, login)
        return read_list(token["permissions"]) if token else ()
    if not login["subject_type"]:
        # A login from before subjects were kept.
        return ALL
    return held(
        world, login["subject_type"], login["subject_value"], login["context_type"], login["context_value"]
    )  # fmt: skip


def _no_authorisation(detail: str) -> BadRequest:
    return BadRequest(21301, "Brak autoryzacji.", [detail])


def list_logins(world: World, call: Call) -> Response:
    caller = call.caller
    rows = world.store.all(
        "SELECT * FROM logins WHERE context_type = ? AND context_value = ? AND redeemed AND NOT revoked"
        " AND refresh_until > ? ORDER BY seq DESC",
        caller.context_type,
        caller.context_value,
        stored(call.now),
    )
    chosen, token = page(world, call, rows, scope="logins", most=100)
    items = [
        {**_body(row, call.now), "referenceNumber": row["reference"], "isCurrent": row["reference"] == caller.login}
        for row in chosen
    ]
    return as_json(200, {"items": items, **token})


def revoke_current(world: World, call: Call) -> Response:
    return _revoke(world, call.caller, call.caller.login)


def revoke(world: World, call: Call) -> Response:
    return _revoke(world, call.caller, call.arguments["reference"])


def _revoke(world: World, caller: Bearer, reference: str) -> Response:
    # Access tokens already given live until they expire; only the refresh token dies (FACTS §2.1).
    changed = world.store.run(
        "UPDATE logins SET revoked = 1 WHERE reference = ? AND context_type = ? AND context_value = ?",
        reference,
        caller.context_type,
        caller.context_value,
    )
    if not changed:
        raise _no_login(reference)
    return nothing()


def check_address(world: World, bearer: Bearer, client_ip: str) -> None:
    """Raises 403 when the login was restricted to other addresses (AuthorizationPolicy)."""
    row = world.store.one("SELECT allowed_ips FROM logins WHERE reference = ?", bearer.login)
    allowed: list[str] = json.loads(row["allowed_ips"]) if row else []
    if allowed and not any(_covers(entry, client_ip) for entry in allowed):
        detail = "Adres IP klienta nie jest dozwolony."
        raise Problem(403, "Forbidden", detail, reasonCode="ip-not-allowed", security={"clientIp": client_ip})


def _covers(entry: str, client_ip: str) -> bool:
    try:
        address = ipaddress.ip_address(client_ip)
        if "-" in entry:
            first, _, last = entry.partition("-")
            return int(ipaddress.IPv4Address(first)) <= int(address) <= int(ipaddress.IPv4Address(last))
        return address in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False


def public_keys(world: World, call: Call) -> Response:
    return as_json(200, world.keys.published())
