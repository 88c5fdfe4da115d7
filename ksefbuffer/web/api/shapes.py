"""The API's objects, for OpenAPI and for what programs send. Answers are made elsewhere and written as they are."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

StateName = Literal["queued", "processing", "sent", "error", "failed", "cancelled"]

_DOCUMENT: dict[str, Any] = {
    "document_id": "01936b2f-6c1e-7d55-9f0a-2f3b8f0c9a11",
    "source": "FV-1-2026.xml",
    "reference": "kasa-1/2026/000123",
    "sha256": "9f2c3c0a5d7c1b2f4f0e6a1d8b7c6e5f4a3b2c1d0e9f8a7b6c5d4e3f2a1b0c9d",
    "size": 4312,
    "invoice_number": "FV/1/2026",
    "issue_date": "2026-11-20",
    "form": "FA (3)",
    "invoice_type": "VAT",
    "status": "sent",
    "status_pl": "wysłano",
    "ksef_number": "5265877635-20261120-0100001AF629-AF",
    "accepted_at": "2026-11-20T10:15:03.120Z",
    "invoicing_mode": "online",
    "session": "20261120-SO-0A1B2C3D4E-5F60718293-A4",
    "upo_file": "FV-1-2026.upo.xml",
    "offline": {"mode": None, "deadline": None},
    "verification_url": "https://qr-test.ksef.mf.gov.pl/invoice/5265877635/20-11-2026/UtQp9Gpc51y…",
    "certificate_url": None,
    "jpk_marker": None,
    "waits_for": None,
    "warnings": [],
    "errors": [],
    "attempts": 1,
    "next_attempt_at": None,
    "received_at": "2026-11-20T10:15:00.480Z",
    "updated_at": "2026-11-20T10:15:03.200Z",
    "links": {
        "self": "/api/v1/invoices/01936b2f-6c1e-7d55-9f0a-2f3b8f0c9a11",
        "xml": "/api/v1/invoices/01936b2f-6c1e-7d55-9f0a-2f3b8f0c9a11/xml",
        "events": "/api/v1/invoices/01936b2f-6c1e-7d55-9f0a-2f3b8f0c9a11/events",
        "pdf": "/api/v1/invoices/01936b2f-6c1e-7d55-9f0a-2f3b8f0c9a11/pdf",
        "upo": "/api/v1/invoices/01936b2f-6c1e-7d55-9f0a-2f3b8f0c9a11/upo",
        "qr1": "/api/v1/invoices/01936b2f-6c1e-7d55-9f0a-2f3b8f0c9a11/qr/1",
        "qr2": None,
    },
}
_FINDING: dict[str, Any] = {
    "code": "C03",
    "source": "precheck",
    "message": "Pole P_15: „12,50” nie jest kwotą.",
    "hint": "Użyj kropki: 12.50.",
    "line": 41,
    "field": "Fa/P_15",
    "details": [],
}


class _Told(BaseModel):
    """What we say: later versions may say more."""

    model_config = ConfigDict(extra="allow")


class _Given(BaseModel):
    """What we are told: exactly this, in its own types."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Finding(_Told):
    """Co jest nie tak (`errors`) albo na co zwrócić uwagę (`warnings`)."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"example": _FINDING})

    code: str
    source: str
    message: str
    hint: str
    line: int | None
    field: str | None
    details: list[str]


class Offline(_Told):
    """Tryb offline, w którym fakturę wystawiono, i termin jej dosłania."""

    mode: str | None
    deadline: AwareDatetime | None


class DocumentLinks(_Told):
    """Adresy względne; null, dopóki nie ma czego pobrać."""

    self: str
    xml: str
    events: str
    pdf: str
    upo: str | None
    qr1: str | None
    qr2: str | None


class Document(_Told):
    """Dokument wychodzący: zawsze to samo, folderem, tabelą i przez HTTP."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"example": _DOCUMENT})

    document_id: str
    source: str
    reference: str | None
    sha256: str
    size: int
    invoice_number: str | None
    issue_date: str | None
    form: str | None
    invoice_type: str | None
    status: StateName
    status_pl: str
    ksef_number: str | None
    accepted_at: AwareDatetime | None
    invoicing_mode: str | None
    session: str | None
    upo_file: str | None
    offline: Offline
    verification_url: str | None
    certificate_url: str | None
    jpk_marker: str | None
    waits_for: str | None
    warnings: list[Finding]
    errors: list[Finding]
    attempts: int
    next_attempt_at: AwareDatetime | None
    received_at: AwareDatetime
    updated_at: AwareDatetime
    links: DocumentLinks


class Documents(_Told):
    """Strona listy; `next_cursor` null: nie ma więcej."""

    items: list[Document]
    next_cursor: str | None


class DocumentEvent(_Told):
    """Jedno przejście dokumentu: kto lub co, kiedy, dlaczego."""

    at: AwareDatetime
    event: str
    from_state: StateName | None
    to_state: StateName
    actor: str
    note: str


class DocumentEvents(_Told):
    items: list[DocumentEvent]


class IncomingLinks(_Told):
    self: str
    xml: str
    pdf: str


class Incoming(_Told):
    """Faktura przychodząca: co w niej stoi, gdzie ją położono i dlaczego, ocena i decyzja."""

    ksef_number: str
    invoice_number: str
    invoice_type: str
    form: str | None
    issue_date: str | None
    seller_nip: str
    seller_name: str
    buyer_nip: str
    gross: str | None
    currency: str
    roles: list[str]
    folder: str
    tags: list[str]
    store: str | None
    reasons: list[dict[str, Any]]
    verdict: str
    findings: list[dict[str, Any]]
    damage: list[str]
    decision: Literal["accepted", "rejected", "scam"] | None
    comment: str | None
    decided_by: str | None
    decided_at: AwareDatetime | None
    file: str | None
    file_error: str | None
    sha256: str
    size: int
    accepted_at: AwareDatetime | None
    received_at: AwareDatetime
    updated_at: AwareDatetime
    links: IncomingLinks


class IncomingInvoices(_Told):
    """Strona listy, od najdawniej pobranych. `next_cursor` zachowaj: z nim dostaniesz to, co przyjdzie później;
    `more`: czy już teraz jest więcej."""

    items: list[Incoming]
    next_cursor: str | None
    more: bool


class Decision(_Given):
    """Decyzja o fakturze przychodzącej; zostaje w buforze, bo KSeF nie zna odmowy przyjęcia."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"example": {"decision": "rejected", "comment": "Towar nie dotarł"}},
    )

    decision: Literal["accepted", "rejected", "scam"]
    comment: Annotated[str, Field(max_length=2000, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$")] = ""


class PullAnswer(_Told):
    """Pobranie zlecone; `worker_running` false: ruszy, gdy bufor zacznie pracować."""

    subjects: list[str]
    worker_running: bool
    last_pull: AwareDatetime | None


class Status(_Told):
    """To, co `ksefbuffer status --json`."""

    nip: str
    environment: str
    healthy: bool
    problems: list[str]
    worker: dict[str, Any]
    ksef: dict[str, Any]
    certificate: dict[str, Any] | None
    queue: dict[str, int]
    oldest_waiting_at: AwareDatetime | None
    next_attempt_at: AwareDatetime | None
    pauses: list[dict[str, Any]]
    limits: dict[str, Any]
    answers: dict[str, Any]
    webhooks: dict[str, Any]
    last_pull: AwareDatetime | None
    incoming: dict[str, Any]


class Health(_Told):
    """Żyje, albo gotowy."""

    status: Literal["alive", "ready"]


class ProblemShape(_Told):
    """Błąd (RFC 9457). `type` jest stały i dla programów; `title`, `detail` i `hint` są po polsku, dla ludzi."""

    type: str
    title: str
    status: int
    detail: str = ""
    hint: str = ""


class RefusedShape(ProblemShape):
    """Odmowa z powodem. Gdy to kontrola wstępna odrzuciła fakturę, `findings` mówią dlaczego, a `document` to jej zapis
    (stan `error`)."""

    findings: list[Finding] = []
    document: Document | None = None


class NotReadyShape(ProblemShape):
    """Dlaczego bufor nie jest gotowy; dokumentów nie ubywa, ale praca stoi."""

    reasons: list[str] = []
