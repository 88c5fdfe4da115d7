"""Who may do what in which context. Source: FACTS §1.4 (403), §2.1, §4.1; open-api.json, "Wymagane uprawnienie"."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime

from .bearer import ALL
from .fields import Fields, read_json
from .numbers import INTERNAL_ID, NIP
from .paging import number_argument
from .store import restored, stored
from .wire import Problem, Response, as_json, timestamp
from .world import Call, World

SUBJECTS = ("Nip", "Pesel", "Fingerprint")


def written_list(permissions: Iterable[str]) -> str:
    """As kept in the database: in the order of ``ALL``."""
    wanted = set(permissions)
    return json.dumps([name for name in ALL if name in wanted])


def read_list(text: str) -> tuple[str, ...]:
    """As kept in the database; "" (from before there were any) means all."""
    return tuple(json.loads(text)) if text else ALL


def owns(subject_type: str, subject_value: str, context_type: str, context_value: str) -> bool:
    """A company owns its own context, its branches' and its VAT-UE one."""
    return (
        subject_type == "Nip"
        and context_type in {"Nip", "InternalId", "NipVatUe"}
        and context_value[:10] == subject_value
    )


def held(
    world: World, subject_type: str, subject_value: str, context_type: str, context_value: str
) -> tuple[str, ...]:  # fmt: skip
    """What this subject may do in this context, by ownership or by grant; empty: nothing at all."""
    if owns(subject_type, subject_value, context_type, context_value):
        return ALL
    row = world.store.one(
        "SELECT permissions FROM grants WHERE nip = ? AND subject_type = ? AND subject_value = ?",
        context_value,
        subject_type,
        subject_value,
    )
    return read_list(row["permissions"]) if row else ()


def grant(
    world: World, context: str, subject_type: str, subject_value: str, permissions: Iterable[str] | None, now: datetime
) -> None:
    """``context``: a NIP or an InternalId; ``permissions`` None: all. Replaces what this subject had there.
    Raises ValueError."""
    _check_subject(context, subject_type)
    chosen = checked(ALL if permissions is None else permissions)
    world.store.run(
        "INSERT OR REPLACE INTO grants (nip, subject_type, subject_value, permissions, granted_at)"
        " VALUES (?, ?, ?, ?, ?)",
        context,
        subject_type,
        subject_value.upper(),
        written_list(chosen),
        stored(now),
    )


def withdraw(world: World, context: str, subject_type: str, subject_value: str) -> None:
    """Takes a grant back. Raises LookupError when there was none."""
    _check_subject(context, subject_type)
    if not world.store.run(
        "DELETE FROM grants WHERE nip = ? AND subject_type = ? AND subject_value = ?",
        context,
        subject_type,
        subject_value.upper(),
    ):
        raise LookupError("grant")


def checked(permissions: Iterable[str]) -> tuple[str, ...]:
    """Raises ValueError for a permission that there is not, and for none at all."""
    chosen = tuple(permissions)
    if unknown := [name for name in chosen if name not in ALL]:
        raise ValueError(f"unknown permission: {', '.join(map(str, unknown))}; there are: {', '.join(ALL)}")
    if not chosen:
        raise ValueError("at least one permission")
    return chosen


def _check_subject(context: str, subject_type: str) -> None:
    if not (NIP.fullmatch(context) or INTERNAL_ID.fullmatch(context)):
        raise ValueError("nip must be ten digits, or an InternalId (NIP-NNNNN)")
    if subject_type not in SUBJECTS:
        raise ValueError(f"subjectType must be one of: {', '.join(SUBJECTS)}")


def demand(call: Call, needed: tuple[str, ...]) -> None:
    """Raises 403 unless the caller's access token bears one of these permissions."""
    if not needed:
        return
    present = call.caller.permissions
    if not set(needed) & set(present):
        raise Problem(
            403,
            "Forbidden",
            "Brak wymaganych uprawnień do wykonania operacji w bieżącym kontekście.",
            reasonCode="missing-permissions",
            security={"requiredAnyOfPermissions": list(needed), "presentPermissions": list(present)},
        )


def not_by_token(world: World, call: Call) -> None:
    """Raises 403 for a caller who logged in with a KSeF token."""
    row = world.store.one("SELECT method FROM logins WHERE reference = ?", call.caller.login)
    if row is not None and row["method"] == "Token":
        raise Problem(
            403,
            "Forbidden",
            "Ta operacja nie jest dostępna dla użytej metody uwierzytelnienia.",
            reasonCode="auth-method-not-allowed",
            security={"authenticationMethodCategory": "Token"},
        )


def attachments_status(_: World, __: Call) -> Response:
    """Every context of the sandbox has consented to attachments."""
    return as_json(200, {"isAttachmentAllowed": True})


def personal_grants(world: World, call: Call) -> Response:
    """What the caller holds in the context of the login."""
    fields = read_json(call.request) if call.request.body else Fields({})
    wanted = fields.texts("permissionTypes")
    state = fields.text("permissionState", required=False, among=("", "Active", "Inactive"))
    for name in ("contextIdentifier", "targetIdentifier"):
        fields.inside(name, required=False)
    fields.finish()
    size = number_argument(call.request, "pageSize", usual=10, least=10, most=100)
    start = number_argument(call.request, "pageOffset", usual=0, least=0, most=2**31 - 1) * size
    caller = call.caller
    login = world.store.one("SELECT subject_type, subject_value FROM logins WHERE reference = ?", caller.login)
    subject = (login["subject_type"], login["subject_value"]) if login else ("", "")
    body: dict[str, object] = {}
    found: list[dict[str, object]] = []
    if owns(subject[0], subject[1], caller.context_type, caller.context_value):
        body["ownerPermissions"] = [name for name in ALL if not wanted or name in wanted]
    else:
        row = world.store.one(
            "SELECT * FROM grants WHERE nip = ? AND subject_type = ? AND subject_value = ?",
            caller.context_value,
            *subject,
        )
        scopes = read_list(row["permissions"]) if row and state != "Inactive" else ()
        found = [
            {
                "id": _grant_id(caller.context_value, *subject, scope),
                "permissionScope": scope,
                "description": "Uprawnienie nadane w piaskownicy",
                "permissionState": "Active",
                "startDate": timestamp(restored(row["granted_at"]) if row and row["granted_at"] else call.now),
                "canDelegate": False,
            }
            for scope in scopes
            if not wanted or scope in wanted
        ]
    body |= {"permissions": found[start : start + size], "hasMore": len(found) > start + size}
    return as_json(200, body)


def _grant_id(*parts: str) -> str:
    return f"{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:33]}-GR"
