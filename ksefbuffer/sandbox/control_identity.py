"""Control over identities: KSeF tokens, grants, certificates."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .control_fields import Body, count, flag, known, moment, number, text, texts
from .wire import Response, as_json, nothing

if TYPE_CHECKING:
    from .core import Sandbox


def _issue_token(sandbox: Sandbox, body: Body) -> Response:
    known(body, "nip", "permissions", "validUntil")
    token = sandbox.issue_token(
        text(body, "nip"), permissions=texts(body, "permissions"), valid_until=moment(body, "validUntil")
    )
    return as_json(201, {"token": token})


def _revoke_token(sandbox: Sandbox, body: Body) -> Response:
    sandbox.revoke_token(text(body, "token"))
    return nothing()


def _end_token(sandbox: Sandbox, body: Body) -> Response:
    sandbox.end_token(text(body, "token"))
    return nothing()


def _expire_access(sandbox: Sandbox, body: Body) -> Response:
    sandbox.expire_tokens(refresh=flag(body, "refresh"))
    return nothing()


def _grant(sandbox: Sandbox, body: Body) -> Response:
    known(body, "nip", "subjectType", "subjectValue", "permissions")
    sandbox.grant(text(body, "nip"), text(body, "subjectType"), text(body, "subjectValue"), texts(body, "permissions"))
    return nothing(201)


def _withdraw(sandbox: Sandbox, body: Body) -> Response:
    sandbox.withdraw_grant(text(body, "nip"), text(body, "subjectType"), text(body, "subjectValue"))
    return nothing()


def _issue_certificate(sandbox: Sandbox, body: Body) -> Response:
    known(body, "type", "subjectType", "subjectValue", "key", "validFrom")
    issued = sandbox.issue_certificate(
        text(body, "type"),
        text(body, "subjectValue"),
        subject_type=text({"subjectType": "Nip", **body}, "subjectType"),
        key=text({"key": "ec", **body}, "key"),
        valid_from=moment(body, "validFrom"),
    )
    return as_json(
        201,
        {
            "serial": issued.serial,
            "certificate": issued.certificate.decode(),
            "privateKey": issued.private_key.decode(),
        },
    )


def _list_certificates(sandbox: Sandbox, _: Body) -> Response:
    items = [
        {
            "serial": item.serial,
            "type": item.kind,
            "status": item.status,
            "name": item.name,
            "subjectType": item.subject[0],
            "subjectValue": item.subject[1],
            "validFrom": item.valid_from.isoformat(),
            "validTo": item.valid_to.isoformat(),
        }
        for item in sandbox.certificates()
    ]
    return as_json(200, items)


def _revoke_certificate(sandbox: Sandbox, body: Body) -> Response:
    sandbox.revoke(text(body, "serial"))
    return nothing()


def _expire_certificate(sandbox: Sandbox, body: Body) -> Response:
    sandbox.expire(text(body, "serial"))
    return nothing()


def _limits(sandbox: Sandbox, body: Body) -> Response:
    """What is not given goes back to KSeF's own."""
    known(body, "enrollments", "certificates", "seconds")
    seconds = None if body.get("seconds") is None else number(body, "seconds")
    sandbox.enrollment_s = seconds
    sandbox.certificate_limits(enrollments=count(body, "enrollments"), certificates=count(body, "certificates"))
    return nothing()


def _authority(sandbox: Sandbox, _: Body) -> Response:
    return Response(200, {"Content-Type": "application/x-pem-file"}, sandbox.authority)


ACTIONS: dict[tuple[str, tuple[str, ...]], Callable[[Sandbox, Body], Response]] = {
    ("POST", ("tokens",)): _issue_token,
    ("POST", ("tokens", "expire")): _expire_access,
    ("POST", ("tokens", "revoke")): _revoke_token,
    ("POST", ("tokens", "end")): _end_token,
    ("POST", ("grants",)): _grant,
    ("DELETE", ("grants",)): _withdraw,
    ("POST", ("certificates",)): _issue_certificate,
    ("GET", ("certificates",)): _list_certificates,
    ("POST", ("certificates", "revoke")): _revoke_certificate,
    ("POST", ("certificates", "expire")): _expire_certificate,
    ("POST", ("certificates", "limits")): _limits,
    ("GET", ("certificates", "authority")): _authority,
}
