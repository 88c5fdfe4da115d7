"""The table of operations: what is served where, who may call it, and which limit it counts in.

A capability adds its rows here and its handlers in a module of its own. ``prepare`` runs without the lock, before
``handle``, for work that is dear and depends on nothing that others change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from . import (
    access_tokens,
    batches,
    enrollments,
    exports,
    latarnia,
    logins,
    permissions,
    queries,
    sessions,
    statuses,
    verification,
)
from .bearer import ACCESS, AUTHENTICATION, REFRESH
from .wire import Response
from .world import Call, World

Body = Literal["none", "json", "json?", "xml", "file"]


@dataclass(frozen=True)
class Operation:
    """One row. ``path`` has its variable pieces in braces; ``tokens`` are the kinds of bearer that will do, none where
    none is demanded; ``needs``: the permissions of which the caller must have one; ``group`` is the limit's name in GET
    /rate-limits, "" for what is not limited. ``body`` "json?": may be left out; "file": anything, large."""

    name: str
    method: str
    path: str
    handle: Callable[[World, Call], Response]
    group: str = "other"
    tokens: tuple[str, ...] = (ACCESS,)
    body: Body = "none"
    answers_xml: bool = False
    prepare: Callable[[World, Call], Any] | None = None
    needs: tuple[str, ...] = ()


_ANY = "anonymous"
_SEND = ("InvoiceWrite", "PefInvoiceWrite", "EnforcementOperations")
_SEND_BATCH = ("InvoiceWrite", "EnforcementOperations")
_LOOK = ("InvoiceWrite", "Introspection", "PefInvoiceWrite", "EnforcementOperations")
_LIST = ("Introspection", "EnforcementOperations", "InvoiceWrite")
_READ = ("InvoiceRead",)
_SEE_RIGHTS = ("CredentialsManage", "CredentialsRead")

OPERATIONS: tuple[Operation, ...] = (
    Operation("challenge", "POST", "/v2/auth/challenge", logins.challenge, _ANY, ()),
    Operation(
        "loginXades", "POST", "/v2/auth/xades-signature", logins.login_by_signature, _ANY, (), "xml",
        prepare=logins.read_signed,
    ),
    Operation(
        "loginToken", "POST", "/v2/auth/ksef-token", logins.login_by_token, _ANY, (), "json",
        prepare=logins.read_token_login,
    ),
    Operation("listLogins", "GET", "/v2/auth/sessions", logins.list_logins),
    Operation(
        "revokeCurrentLogin", "DELETE", "/v2/auth/sessions/current", logins.revoke_current, tokens=(ACCESS, REFRESH)
    ),
    Operation("revokeLogin", "DELETE", "/v2/auth/sessions/{reference}", logins.revoke),
    Operation("redeemTokens", "POST", "/v2/auth/token/redeem", logins.redeem, _ANY, (AUTHENTICATION,)),
    Operation("refreshToken", "POST", "/v2/auth/token/refresh", logins.refresh, _ANY, (REFRESH,)),
    Operation("loginStatus", "GET", "/v2/auth/{reference}", logins.login_status, _ANY, (AUTHENTICATION,)),
    Operation("publicKeys", "GET", "/v2/security/public-key-certificates", logins.public_keys, _ANY, ()),
    Operation(
        "openSession", "POST", "/v2/sessions/online", sessions.open_session, "onlineSession", body="json",
        prepare=sessions.read_opening, needs=_SEND,
    ),
    Operation(
        "sendInvoice", "POST", "/v2/sessions/online/{reference}/invoices", sessions.send_invoice, "invoiceSend",
        body="json", prepare=sessions.read_sending, needs=_SEND,
    ),
    Operation(
        "closeSession", "POST", "/v2/sessions/online/{reference}/close", sessions.close, "onlineSessionClose",
        needs=_SEND,
    ),
    Operation(
        "openBatch", "POST", "/v2/sessions/batch", batches.open_batch, "batchSession", body="json",
        prepare=batches.read_opening, needs=_SEND_BATCH,
    ),
    Operation(
        "uploadPart", "PUT", "/storage/00/{session}/batch-parts/{part}", batches.upload_part, "", (), "file"
    ),
    Operation(
        "closeBatch", "POST", "/v2/sessions/batch/{reference}/close", batches.close_batch, "batchSessionClose",
        needs=_SEND_BATCH,
    ),
    Operation("listSessions", "GET", "/v2/sessions", statuses.list_sessions, "sessionList", needs=_LIST),
    Operation("sessionStatus", "GET", "/v2/sessions/{reference}", statuses.session_status, "sessionMisc", needs=_LOOK),
    Operation(
        "sessionInvoices", "GET", "/v2/sessions/{reference}/invoices", statuses.session_invoices, "sessionInvoiceList",
        needs=_LOOK,
    ),
    Operation(
        "failedInvoices", "GET", "/v2/sessions/{reference}/invoices/failed", statuses.failed_invoices,
        "sessionInvoiceList", needs=_LOOK,
    ),
    Operation(
        "invoiceStatus", "GET", "/v2/sessions/{reference}/invoices/{invoice}", statuses.invoice_status, "invoiceStatus",
        needs=_LOOK,
    ),
    Operation(
        "invoiceUpo", "GET", "/v2/sessions/{reference}/invoices/{invoice}/upo", statuses.upo_by_invoice, "sessionMisc",
        answers_xml=True, needs=_LOOK,
    ),
    Operation(
        "invoiceUpoByKsefNumber", "GET", "/v2/sessions/{reference}/invoices/ksef/{number}/upo",
        statuses.upo_by_ksef_number, "sessionMisc", answers_xml=True, needs=_LOOK,
    ),
    Operation(
        "sessionUpo", "GET", "/v2/sessions/{reference}/upo/{upo}", statuses.upo_of_session, "sessionMisc",
        answers_xml=True, needs=_LOOK,
    ),
    Operation("downloadUpo", "GET", "/storage/upo/{kind}/{reference}", statuses.download, "", ()),
    Operation(
        "queryMetadata", "POST", "/v2/invoices/query/metadata", queries.query_metadata, "invoiceMetadata", body="json",
        needs=_READ,
    ),
    Operation(
        "startExport", "POST", "/v2/invoices/exports", exports.start_export, "invoiceExport", body="json",
        prepare=exports.read_order, needs=_READ,
    ),
    Operation(
        "exportStatus", "GET", "/v2/invoices/exports/{reference}", exports.export_status, "invoiceExportStatus",
        needs=_READ,
    ),
    Operation("downloadPart", "GET", "/storage/00/{export}/invoice-part/{part}", exports.download_part, "", ()),
    Operation(
        "downloadInvoice", "GET", "/v2/invoices/ksef/{number}", queries.download_invoice, "invoiceDownload",
        answers_xml=True, needs=_READ,
    ),
    Operation("certificateLimits", "GET", "/v2/certificates/limits", enrollments.tell_limits),
    Operation("enrollmentData", "GET", "/v2/certificates/enrollments/data", enrollments.tell_data),
    Operation(
        "enrollCertificate", "POST", "/v2/certificates/enrollments", enrollments.enroll, body="json",
        prepare=enrollments.read_enrollment,
    ),
    Operation(
        "enrollmentStatus", "GET", "/v2/certificates/enrollments/{reference}", enrollments.enrollment_status
    ),
    Operation("retrieveCertificates", "POST", "/v2/certificates/retrieve", enrollments.retrieve, body="json"),
    Operation("queryCertificates", "POST", "/v2/certificates/query", enrollments.query, body="json?"),
    Operation("revokeCertificate", "POST", "/v2/certificates/{serial}/revoke", enrollments.revoke, body="json?"),
    Operation("createToken", "POST", "/v2/tokens", access_tokens.create, body="json"),
    Operation("listTokens", "GET", "/v2/tokens", access_tokens.listing),
    Operation("tokenStatus", "GET", "/v2/tokens/{reference}", access_tokens.one_status),
    Operation("revokeToken", "DELETE", "/v2/tokens/{reference}", access_tokens.revoke),
    Operation(
        "attachmentsStatus", "GET", "/v2/permissions/attachments/status", permissions.attachments_status,
        needs=_SEE_RIGHTS,
    ),
    Operation(
        "personalGrants", "POST", "/v2/permissions/query/personal/grants", permissions.personal_grants, body="json?"
    ),
    Operation("latarniaStatus", "GET", "/latarnia/status", latarnia.tell_status, "", ()),
    Operation("latarniaMessages", "GET", "/latarnia/messages", latarnia.tell_messages, "", ()),
    Operation("verifyInvoice", "GET", "/qr/invoice/{nip}/{date}/{hash}", verification.show_invoice, "", ()),
    Operation(
        "verifyCertificate", "GET", "/qr/certificate/{type}/{value}/{nip}/{serial}/{hash}/{signature}",
        verification.show_certificate, "", (),
    ),
    Operation("rateLimits", "GET", "/v2/rate-limits", queries.rate_limits),
    Operation("contextLimits", "GET", "/v2/limits/context", queries.context_limits),
)  # fmt: skip

ELSEWHERE = {"latarniaStatus", "latarniaMessages", "verifyInvoice", "verifyCertificate"}
"""Served by other hosts than the API in reality: an outage of KSeF does not concern them."""
NAMES = {operation.name for operation in OPERATIONS}
_BY_LENGTH: dict[int, list[tuple[tuple[str, ...], Operation]]] = {}
for _operation in OPERATIONS:
    _pieces = tuple(_operation.path.strip("/").split("/"))
    _BY_LENGTH.setdefault(len(_pieces), []).append((_pieces, _operation))


def find(method: str, segments: tuple[str, ...]) -> tuple[Operation | None, dict[str, str]]:
    """The operation served at this path by this method, and the path's variable pieces. A literal piece is preferred
    to a variable one."""
    best: tuple[int, Operation, dict[str, str]] | None = None
    for pieces, operation in _BY_LENGTH.get(len(segments), []):
        arguments: dict[str, str] = {}
        for piece, segment in zip(pieces, segments, strict=True):
            if piece.startswith("{"):
                arguments[piece[1:-1]] = segment
            elif piece != segment:
                break
        else:
            if operation.method == method and (best is None or len(arguments) < best[0]):
                best = (len(arguments), operation, arguments)
    return (best[1], best[2]) if best else (None, {})
