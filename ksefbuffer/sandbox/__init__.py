"""A strict local KSeF: refuses what KSeF refuses, remembers everything, records every deviation of its clients.

It shares no code with the client: both read the documents on their own, so a misreading shows. In process
(``sandbox.transport()``), over a socket (``with sandbox.serve() as server``), or as a program (``main``).

Operations, by the names that faults, ``calls`` and deviations use:

====================== ==================================================================
challenge              POST /auth/challenge
loginXades             POST /auth/xades-signature
loginToken             POST /auth/ksef-token
loginStatus            GET /auth/{reference}
redeemTokens           POST /auth/token/redeem
refreshToken           POST /auth/token/refresh
listLogins             GET /auth/sessions
revokeCurrentLogin     DELETE /auth/sessions/current
revokeLogin            DELETE /auth/sessions/{reference}
publicKeys             GET /security/public-key-certificates
openSession            POST /sessions/online
sendInvoice            POST /sessions/online/{reference}/invoices
closeSession           POST /sessions/online/{reference}/close
openBatch              POST /sessions/batch
uploadPart             PUT /storage/00/{session}/batch-parts/{part} (pre-signed)
closeBatch             POST /sessions/batch/{reference}/close
listSessions           GET /sessions
sessionStatus          GET /sessions/{reference}
sessionInvoices        GET /sessions/{reference}/invoices
failedInvoices         GET /sessions/{reference}/invoices/failed
invoiceStatus          GET /sessions/{reference}/invoices/{invoice}
invoiceUpo             GET /sessions/{reference}/invoices/{invoice}/upo
invoiceUpoByKsefNumber GET /sessions/{reference}/invoices/ksef/{number}/upo
sessionUpo             GET /sessions/{reference}/upo/{upo}
downloadUpo            GET /storage/upo/{kind}/{reference} (pre-signed)
queryMetadata          POST /invoices/query/metadata
startExport            POST /invoices/exports
exportStatus           GET /invoices/exports/{reference}
downloadPart           GET /storage/00/{export}/invoice-part/{part} (pre-signed)
downloadInvoice        GET /invoices/ksef/{number}
rateLimits             GET /rate-limits
contextLimits          GET /limits/context
====================== ==================================================================

Deviations: bearer-on-storage, double-send, future-to, hasty-polling, ignored-retry-after, iv-prefixed, late-upload,
no-public-key-id, no-user-agent, resend-accepted, unexpected-body, unknown-field, unknown-operation, unsupported-form,
wrong-content-type.
"""

from __future__ import annotations

from .core import Deviation, Sandbox, SandboxInvoice
from .faults import Fault
from .seeding import SeededInvoice
from .server import Server, main
from .wire import Request, Response

__all__ = ["Deviation", "Fault", "Request", "Response", "Sandbox", "SandboxInvoice", "SeededInvoice", "Server", "main"]
