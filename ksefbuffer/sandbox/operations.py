"""The table of operations: what is served where, who may call it, and which limit it counts in.

A capability adds its rows here and its handlers in a module of its own. ``prepare`` runs without the lock, before
``handle``, for work that is dear and depends on nothing that others change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from . import batches, exports, logins, queries, sessions, statuses
from .bearer import ACCESS, AUTHENTICATION, REFRESH
from .wire import Response
from .world import Call, World

Body = Literal["none", "json", "xml", "file"]


@dataclass(frozen=True)
class Operation:
    """One row. ``path`` has its variable pieces in braces; ``token`` is the kind of bearer demanded, None for none;
    ``group`` is the limit's name in GET /rate-limits, "" for what is not limited. ``body`` "file": anything, large."""

    name: str
    method: str
    path: str
    handle: Callable[[World, Call], Response]
    group: str = "other"
    token: str | None = ACCESS
    body: Body = "none"
    answers_xml: bool = False
    prepare: Callable[[World, Call], Any] | None = None


_ANY = "anonymous"

OPERATIONS: tuple[Operation, ...] = (
    Operation("challenge", "POST", "/v2/auth/challenge", logins.challenge, _ANY, None),
    Operation(
        "loginXades", "POST", "/v2/auth/xades-signature", logins.login_by_signature, _ANY, None, "xml",
        prepare=logins.read_signed,
    ),
    Operation(
        "loginToken", "POST", "/v2/auth/ksef-token", logins.login_by_token, _ANY, None, "json",
        prepare=logins.read_token_login,
    ),
    Operation("listLogins", "GET", "/v2/auth/sessions", logins.list_logins),
    Operation("revokeCurrentLogin", "DELETE", "/v2/auth/sessions/current", logins.revoke_current),
    Operation("revokeLogin", "DELETE", "/v2/auth/sessions/{reference}", logins.revoke),
    Operation("redeemTokens", "POST", "/v2/auth/token/redeem", logins.redeem, _ANY, AUTHENTICATION),
    Operation("refreshToken", "POST", "/v2/auth/token/refresh", logins.refresh, _ANY, REFRESH),
    Operation("loginStatus", "GET", "/v2/auth/{reference}", logins.login_status, _ANY, AUTHENTICATION),
    Operation("publicKeys", "GET", "/v2/security/public-key-certificates", logins.public_keys, _ANY, None),
    Operation(
        "openSession", "POST", "/v2/sessions/online", sessions.open_session, "onlineSession", body="json",
        prepare=sessions.read_opening,
    ),
    Operation(
        "sendInvoice", "POST", "/v2/sessions/online/{reference}/invoices", sessions.send_invoice, "invoiceSend",
        body="json", prepare=sessions.read_sending,
    ),
    Operation("closeSession", "POST", "/v2/sessions/online/{reference}/close", sessions.close, "onlineSessionClose"),
    Operation(
        "openBatch", "POST", "/v2/sessions/batch", batches.open_batch, "batchSession", body="json",
        prepare=batches.read_opening,
    ),
    Operation(
        "uploadPart", "PUT", "/storage/00/{session}/batch-parts/{part}", batches.upload_part, "", None, "file"
    ),
    Operation("closeBatch", "POST", "/v2/sessions/batch/{reference}/close", batches.close_batch, "batchSessionClose"),
    Operation("listSessions", "GET", "/v2/sessions", statuses.list_sessions, "sessionList"),
    Operation("sessionStatus", "GET", "/v2/sessions/{reference}", statuses.session_status, "sessionMisc"),
    Operation(
        "sessionInvoices", "GET", "/v2/sessions/{reference}/invoices", statuses.session_invoices, "sessionInvoiceList"
    ),
    Operation(
        "failedInvoices", "GET", "/v2/sessions/{reference}/invoices/failed", statuses.failed_invoices,
        "sessionInvoiceList",
    ),
    Operation(
        "invoiceStatus", "GET", "/v2/sessions/{reference}/invoices/{invoice}", statuses.invoice_status, "invoiceStatus"
    ),
    Operation(
        "invoiceUpo", "GET", "/v2/sessions/{reference}/invoices/{invoice}/upo", statuses.upo_by_invoice, "sessionMisc",
        answers_xml=True,
    ),
    Operation(
        "invoiceUpoByKsefNumber", "GET", "/v2/sessions/{reference}/invoices/ksef/{number}/upo",
        statuses.upo_by_ksef_number, "sessionMisc", answers_xml=True,
    ),
    Operation(
        "sessionUpo", "GET", "/v2/sessions/{reference}/upo/{upo}", statuses.upo_of_session, "sessionMisc",
        answers_xml=True,
    ),
    Operation("downloadUpo", "GET", "/storage/upo/{kind}/{reference}", statuses.download, "", None),
    Operation(
        "queryMetadata", "POST", "/v2/invoices/query/metadata", queries.query_metadata, "invoiceMetadata", body="json"
    ),
    Operation(
        "startExport", "POST", "/v2/invoices/exports", exports.start_export, "invoiceExport", body="json",
        prepare=exports.read_order,
    ),
    Operation(
        "exportStatus", "GET", "/v2/invoices/exports/{reference}", exports.export_status, "invoiceExportStatus"
    ),
    Operation("downloadPart", "GET", "/storage/00/{export}/invoice-part/{part}", exports.download_part, "", None),
    Operation(
        "downloadInvoice", "GET", "/v2/invoices/ksef/{number}", queries.download_invoice, "invoiceDownload",
        answers_xml=True,
    ),
    Operation("rateLimits", "GET", "/v2/rate-limits", queries.rate_limits),
    Operation("contextLimits", "GET", "/v2/limits/context", queries.context_limits),
)  # fmt: skip

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
