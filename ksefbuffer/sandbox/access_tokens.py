"""KSeF tokens: made, listed and revoked by clients, or given out by control.

Source: FACTS §2.5; open-api.json /tokens.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable
from datetime import datetime

from .bearer import ALL
from .fields import read_json
from .numbers import INTERNAL_ID, NIP
from .paging import page
from .permissions import checked, not_by_token, read_list, written_list
from .store import restored, stored
from .wire import BadRequest, Response, as_json, invalid, nothing, timestamp
from .world import Call, World

CONTEXTS = ("Nip", "InternalId")
STANDINGS = ("Pending", "Active", "Revoking", "Revoked", "Failed")
_AUTHORS = ("Nip", "Pesel", "Fingerprint")


def standing(row: sqlite3.Row, now: datetime, world: World) -> tuple[str, list[str]]:
    """One of ``STANDINGS``, and what there is to say about it."""
    moment = stored(now)
    if row["failed"] and row["active_at"] <= moment:
        return "Failed", ["Nie udało się aktywować tokena."]
    if row["revoked"]:
        done = not row["revoked_at"] or restored(row["revoked_at"]) + world.latency <= now
        return ("Revoked" if done else "Revoking"), []
    if row["valid_until"] and row["valid_until"] <= moment:
        # There is no status of its own for a token whose time is over.
        return "Revoked", ["Upłynął termin ważności tokena."]
    return ("Pending" if row["active_at"] > moment else "Active"), []


def objection(row: sqlite3.Row, now: datetime, world: World) -> str | None:
    """Why nobody can log in with this token, in the words of a login's status 450."""
    state, _ = standing(row, now, world)
    if state == "Active":
        return None
    return "Token unieważniony" if row["revoked"] else "Token nieaktywny"


def enter(
    world: World, context: tuple[str, str], author: tuple[str, str], permissions: Iterable[str], *, description: str,
    now: datetime, active_at: datetime, valid_until: datetime | None = None, failed: bool = False,
) -> tuple[str, str]:  # fmt: skip
    """A new token's reference and text. The text is kept as its hash alone."""
    reference = world.store.new_reference("EC", now)
    prefix = {"Nip": "nip", "InternalId": "internalid"}[context[0]]
    token = f"{reference}|{prefix}-{context[1]}|{world.store.entropy(64).lower()}"
    world.store.run(
        "INSERT INTO tokens (reference, sha256, nip, context_type, context_value, permissions, description,"
        " author_type, author_value, created_at, active_at, valid_until, failed)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        reference,
        _mark(token),
        context[1][:10],
        *context,
        written_list(permissions),
        description,
        *author,
        stored(now),
        stored(active_at),
        stored(valid_until) if valid_until else None,
        failed,
    )
    return reference, token


def give_out(
    world: World, context: str, permissions: Iterable[str] | None, valid_until: datetime | None, now: datetime
) -> str:
    """A token by order of control, active at once. Raises ValueError for what is no NIP or InternalId."""
    kind = "Nip" if NIP.fullmatch(context) else "InternalId" if INTERNAL_ID.fullmatch(context) else ""
    if not kind:
        raise ValueError("nip must be ten digits, or an InternalId (NIP-NNNNN)")
    chosen = checked(ALL if permissions is None else permissions)
    _, token = enter(
        world, (kind, context), ("Nip", context[:10]), chosen, description="Token z piaskownicy", now=now,
        active_at=now, valid_until=valid_until,
    )  # fmt: skip
    return token


def find(world: World, token: bytes) -> sqlite3.Row | None:
    return world.store.one("SELECT * FROM tokens WHERE sha256 = ?", hashlib.sha256(token).hexdigest())


def revoke_text(world: World, token: str, now: datetime) -> None:
    """Raises LookupError for a token never issued."""
    if not world.store.run("UPDATE tokens SET revoked = 1, revoked_at = ? WHERE sha256 = ?", stored(now), _mark(token)):
        raise LookupError("token")


def end_text(world: World, token: str, at: datetime) -> None:
    """The token's time is over at ``at``. Raises LookupError for a token never issued."""
    if not world.store.run("UPDATE tokens SET valid_until = ? WHERE sha256 = ?", stored(at), _mark(token)):
        raise LookupError("token")


def _mark(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


# --- operations ------------------------------------------------------------------------------------------------------


def create(world: World, call: Call) -> Response:
    not_by_token(world, call)
    caller = call.caller
    if caller.context_type not in CONTEXTS:
        raise BadRequest(
            26002, "Nie można wygenerować tokena dla obecnego typu kontekstu.",
            [f"Aktualny typ kontekstu: {caller.context_type}. Dozwolone: {', '.join(CONTEXTS)}."],
        )  # fmt: skip
    fields = read_json(call.request)
    wanted = fields.texts("permissions")
    if not wanted or not set(wanted) <= set(ALL):
        fields.wrong("permissions", f"musi zawierać co najmniej jedną z wartości: {', '.join(ALL)}")
    description = fields.text("description", limit=256)
    if 0 < len(description) < 5:
        fields.wrong("description", "musi mieć co najmniej 5 znaków")
    call.note_unknown(fields.finish())
    if missing := [name for name in wanted if name not in caller.permissions]:
        detail = f"Brakujące uprawnienia: {', '.join(missing)}."
        raise BadRequest(26001, "Nie można nadać tokenowi uprawnień których nie posiadasz.", [detail])
    login = world.store.one("SELECT subject_type, subject_value FROM logins WHERE reference = ?", caller.login)
    author = (login["subject_type"], login["subject_value"]) if login else ("Nip", caller.nip)
    reference, token = enter(
        world, (caller.context_type, caller.context_value), author, wanted, description=description, now=call.now,
        active_at=call.now + world.latency, failed=call.ordered("token_fails") is not None,
    )  # fmt: skip
    return as_json(202, {"referenceNumber": reference, "token": token})


def _in_reach(world: World, call: Call, powers: set[str]) -> list[sqlite3.Row]:
    """The tokens of the context that the caller may deal with, the newest first: all with one of ``powers``, else the
    token of the login itself, or those that the caller made."""
    caller = call.caller
    rows = world.store.all(
        "SELECT * FROM tokens WHERE context_type = ? AND context_value = ? ORDER BY created_at DESC, rowid DESC",
        caller.context_type,
        caller.context_value,
    )
    if powers & set(caller.permissions):
        return rows
    login = world.store.one("SELECT * FROM logins WHERE reference = ?", caller.login)
    if login is None:
        return []
    if login["method"] == "Token":
        return [row for row in rows if login["proof"] == f"token:{row['reference']}"]
    author = (login["subject_type"], login["subject_value"])
    return [row for row in rows if (row["author_type"], row["author_value"]) == author]


_READ = {"CredentialsManage", "CredentialsRead"}
_MANAGE = {"CredentialsManage"}


def listing(world: World, call: Call) -> Response:
    arguments = call.request.arguments
    wanted = arguments.get("status", [])
    if unknown := set(wanted) - set(STANDINGS):
        raise invalid(f"Parametr 'status' ma nieznaną wartość: {', '.join(sorted(unknown))}.")
    pieces = {name: arguments.get(name, [""])[0].casefold() for name in ("description", "authorIdentifier")}
    for name, piece in pieces.items():
        if name in arguments and len(piece) < 3:
            raise invalid(f"Parametr '{name}' musi mieć co najmniej 3 znaki.")
    author_type = arguments.get("authorIdentifierType", [""])[0]
    if author_type not in {"", *_AUTHORS}:
        raise invalid(f"Parametr 'authorIdentifierType' musi być jedną z wartości: {', '.join(_AUTHORS)}.")
    rows = [
        row
        for row in _in_reach(world, call, _READ)
        if (not wanted or standing(row, call.now, world)[0] in wanted)
        and pieces["description"] in row["description"].casefold()
        and pieces["authorIdentifier"] in row["author_value"].casefold()
        and author_type in {"", row["author_type"]}
    ]
    chosen, token = page(world, call, rows, scope=f"tokens:{call.caller.context_value}", most=100)
    return as_json(200, {"tokens": [_body(world, row, call.now) for row in chosen], **token})


def _body(world: World, row: sqlite3.Row, now: datetime) -> dict[str, object]:
    body: dict[str, object] = {
        "referenceNumber": row["reference"],
        "authorIdentifier": {"type": row["author_type"], "value": row["author_value"] or row["nip"]},
        "contextIdentifier": {"type": row["context_type"], "value": row["context_value"]},
        "description": row["description"] or "Token z piaskownicy",
        "requestedPermissions": list(read_list(row["permissions"])),
        "dateCreated": timestamp(restored(row["created_at"]) if row["created_at"] else now),
        "status": standing(row, now, world)[0],
    }
    if row["used_at"]:
        body["lastUseDate"] = timestamp(restored(row["used_at"]))
    return body


def _one(world: World, call: Call, powers: set[str]) -> sqlite3.Row:
    reference = call.arguments["reference"]
    row = next((row for row in _in_reach(world, call, powers) if row["reference"] == reference), None)
    if row is None:
        raise invalid(f"Token o numerze referencyjnym {reference} nie został znaleziony.")
    return row


def one_status(world: World, call: Call) -> Response:
    row = _one(world, call, _READ)
    _, details = standing(row, call.now, world)
    return as_json(200, _body(world, row, call.now) | ({"statusDetails": details} if details else {}))


def revoke(world: World, call: Call) -> Response:
    """Revoking once more changes nothing."""
    row = _one(world, call, _MANAGE)
    world.store.run(
        "UPDATE tokens SET revoked = 1, revoked_at = ? WHERE reference = ? AND NOT revoked",
        stored(call.now),
        row["reference"],
    )
    return nothing()
