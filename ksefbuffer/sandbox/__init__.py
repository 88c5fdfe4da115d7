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
certificateLimits      GET /certificates/limits
enrollmentData         GET /certificates/enrollments/data
enrollCertificate      POST /certificates/enrollments
enrollmentStatus       GET /certificates/enrollments/{reference}
retrieveCertificates   POST /certificates/retrieve
queryCertificates      POST /certificates/query
revokeCertificate      POST /certificates/{serial}/revoke
createToken            POST /tokens
listTokens             GET /tokens
tokenStatus            GET /tokens/{reference}
revokeToken            DELETE /tokens/{reference}
attachmentsStatus      GET /permissions/attachments/status
personalGrants         POST /permissions/query/personal/grants
rateLimits             GET /rate-limits
contextLimits          GET /limits/context
latarniaStatus         GET /latarnia/status (Latarnia, beside the API)
latarniaMessages       GET /latarnia/messages
verifyInvoice          GET /qr/invoice/{nip}/{date}/{hash} (behind KOD I, beside the API)
verifyCertificate      GET /qr/certificate/{type}/{value}/{nip}/{serial}/{hash}/{signature} (behind KOD II)
====================== ==================================================================

Deviations: bearer-on-storage, correction-changes-content, double-send, future-to, hasty-polling, ignored-retry-after,
iv-prefixed, late-upload, no-public-key-id, no-user-agent, resend-accepted, unexpected-body, unknown-field,
unknown-operation, unsupported-form, wrong-content-type.
"""

from __future__ import annotations

from .core import Deviation, Sandbox, SandboxInvoice
from .credentials import IssuedCertificate, KnownCertificate
from .faults import Fault
from .seeding import SeededInvoice
from .server import Server, main
from .wire import Request, Response

__all__ = [
    "Deviation",
    "Fault",
    "IssuedCertificate",
    "KnownCertificate",
    "Request",
    "Response",
    "Sandbox",
    "SandboxInvoice",
    "SeededInvoice",
    "Server",
    "main",
]
